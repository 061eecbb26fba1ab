//! The dashboard in a real browser, and schemathesis against the served OpenAPI document, beside a recorded attack.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collectors::capture::{Datagrams, Reader};
use serde_json::Value;
use support::{FLOODWALL, Folder, Process, free_port, get, wait_for};

fn recorded(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps").join(name);
    let mut extract = Datagrams::default();
    let frames = Reader::open(&path).expect("readable").map(|f| f.expect("whole"));
    frames.filter_map(|f| extract.extract(f.link?, &f)).map(|d| d.payload).collect()
}

/// Where `make test` puts the tools that no Debian package has.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// Whether something is installed that only npm and PyPI have; with `FLOODWALL_REQUIRE_BROWSER` it has to be.
fn has(path: &Path) -> bool {
    let there = path.exists();
    let needed = std::env::var_os("FLOODWALL_REQUIRE_BROWSER").is_some();
    assert!(there || !needed, "this test must run here: {}", path.display());
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there
}

struct Attacked {
    process: Process,
    folder: Folder,
    url: String,
    token: String,
    stop: Arc<AtomicBool>,
    sender: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Attacked {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

/// A daemon whose rules wait for approval, under an attack that goes on.
fn start() -> Attacked {
    let folder = Folder::new();
    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (sflow, api) = (loopback(free_port()), loopback(free_port()));
    let config = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]\nenable_ban = true\nsflow = true\n\
         sflow_host = \"127.0.0.1\"\nsflow_ports = [{}]\n\n[hostgroup.global]\nthreshold_pps = 5000\nenable_ban = true\n\
         mitigation = \"approve\"\n\n[bgp.router]\nlocal_asn = 65001\nlocal_address = \"127.0.0.1\"\nremote_asn = 65002\n\
         remote_address = \"127.0.0.1\"\nremote_port = {}\nrouter_id = \"192.0.2.2\"\n\n[api]\nlisten = \"{api}\"\n",
        sflow.port(),
        // Nobody is there: what is approved is wanted, and sent to nobody.
        free_port()
    );
    let file = folder.write("config.toml", &config);
    let process = Process::start(&folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(file));
    wait_for("the API", 20, || get(api, "/metrics"));
    let made = Command::new(FLOODWALL)
        .args(["set", "token", "browser", "scopes", "admin", "--json"])
        .env("FLOODWALL_SOCKET", folder.join("floodwall.sock"))
        .output()
        .expect("runs");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sender = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let datagrams = recorded("dns-sflow.pcap");
        for _ in 0..60 {
            for datagram in &datagrams {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                socket.send_to(datagram, sflow).expect("loopback");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    wait_for("the attack", 20, || {
        let status: Value = serde_json::from_str(&get(api, "/api/v1/status")?).ok()?;
        (!status["mitigations"].as_array()?.is_empty()).then_some(())
    });
    let token = made["token"].as_str().expect("a secret").to_owned();
    Attacked { process, folder, url: format!("http://{api}"), token, stop, sender: Some(sender) }
}

#[test]
fn every_screen_works_in_a_browser_during_an_attack() {
    if !(has(Path::new("/usr/bin/chromium"))
        && has(Path::new("/usr/bin/node"))
        && has(&tools().join("node_modules/playwright-core")))
    {
        return;
    }
    let daemon = start();
    let shots =
        std::env::var_os("FLOODWALL_SCREENSHOTS").map_or_else(|| daemon.folder.path().to_owned(), PathBuf::from);
    let drive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard/drive.mjs");
    let output = Command::new("timeout")
        .args(["150", "node"])
        .arg(drive)
        .args([&daemon.url, &daemon.token])
        .arg(tools())
        .arg(shots)
        .output()
        .expect("node");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}\n{}", String::from_utf8_lossy(&output.stderr), daemon.process.log());
    println!("{text}");
}

#[test]
fn schemathesis_finds_no_server_error_no_mismatch_and_no_open_door() {
    let program = tools().join("python/bin/schemathesis");
    if !has(&program) {
        return;
    }
    let mut daemon = start();
    let output = Command::new("timeout")
        .arg("240")
        .arg(program)
        .args(["run", &format!("{}/api/v1/openapi.json", daemon.url), "--url", &daemon.url])
        .args(["-H", &format!("Authorization: Bearer {}", daemon.token)])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        // An event stream never ends, and logging out or halting would be tested by the way.
        // The token is sent as it is, and not revoked by the way: else the rest would be answered 401 and 429, and try nothing.
        .args(["--generation-with-security-parameters", "false", "--exclude-operation-id", "revoke_token"])
        .args([
            "--exclude-path",
            "/api/v1/events",
            "--max-examples",
            "15",
            "--seed",
            "1",
            "--phases",
            "examples,coverage,fuzzing",
        ])
        .args(["--request-timeout", "10", "--no-color", "--report", "har", "--report-har-path"])
        .arg(daemon.folder.join("answers.har"))
        .output()
        .expect("schemathesis");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let answers = std::fs::read_to_string(daemon.folder.join("answers.har")).expect("a report");
    let answers: Value = serde_json::from_str(&answers).expect("JSON");
    let mut by_status = std::collections::BTreeMap::new();
    for entry in answers["log"]["entries"].as_array().expect("a list") {
        *by_status.entry(entry["response"]["status"].as_u64().unwrap_or(0)).or_insert(0u32) += 1;
    }
    println!("answers by status: {by_status:?}");
    // Whoever is turned away at the door tries nothing.
    let (all, turned_away) = (by_status.values().sum::<u32>(), by_status.get(&429).copied().unwrap_or(0));
    assert!(all > 500 && turned_away * 4 < all, "{by_status:?}");
    nobody_acts_without_a_token(&daemon);
    assert!(daemon.process.is_running() && !daemon.process.log().contains("panicked"), "{}", daemon.process.log());
}

/// Every documented way to change something refuses whoever has no token.
fn nobody_acts_without_a_token(daemon: &Attacked) {
    let document: Value = serde_json::from_slice(&curl(daemon, "/api/v1/openapi.json", None)).expect("JSON");
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys().filter(|m| *m != "get") {
            if path.ends_with("/login") || path.ends_with("/logout") {
                continue;
            }
            let url = format!("{}{}", daemon.url, path.replace(['{', '}'], ""));
            let method = method.to_uppercase();
            let mut command = Command::new("curl");
            command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", &method, "-d", "{}", &url]);
            let answer = command.args(["-H", "Content-Type: application/json"]).output().expect("curl runs").stdout;
            assert_eq!(String::from_utf8_lossy(&answer), "401", "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried} operations");
}

/// What curl gets; with a body it posts.
fn curl(daemon: &Attacked, path: &str, body: Option<&str>) -> Vec<u8> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "-H", &format!("Authorization: Bearer {}", daemon.token)]);
    if let Some(body) = body {
        command.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    let output = command.arg(format!("{}{path}", daemon.url)).output().expect("curl runs");
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_evidence_of_an_attack_is_downloaded_and_a_false_positive_is_forgiven_in_one_step() {
    let daemon = start();
    let json = |path: &str| serde_json::from_slice::<Value>(&curl(&daemon, path, None)).expect("JSON");
    let id = wait_for("the attack in the history", 20, || {
        json("/api/v1/history/attacks")[0]["id"].as_str().map(str::to_owned)
    });
    let of = |what: &str| format!("/api/v1/history/attacks/{id}/{what}");
    let sample = wait_for("its case", 20, || Some(json(&of("sample"))).filter(|s| s["count"].as_u64() > Some(0)));
    assert_eq!(sample["samples"].as_array().map(|s| s.len() as u64), sample["count"].as_u64());
    assert!(sample["facets"]["source_ports"].as_array().is_some_and(|ports| ports[0]["value"] == "53"), "{sample}");
    let path = daemon.folder.join("attack.pcap");
    std::fs::write(&path, curl(&daemon, &of("pcap"), None)).expect("written");
    let frames: Vec<_> = Reader::open(&path).expect("a capture").map(|f| f.expect("whole")).collect();
    assert!(frames.len() >= sample["samples"].as_array().map_or(0, Vec::len), "{} frames", frames.len());
    let parsed =
        frames.iter().filter_map(|f| collectors::packet::parse(f.link?, f.time, &f.data, f.original_length).ok());
    assert!(parsed.filter(|s| s.source_port == 53 && s.protocol == 17).count() > 10);
    assert_eq!(json(&of("cases"))[0]["floodwall_case"], 1);
    assert!(json("/api/v1/history/attacks/none/sample")["error"].is_string());
    let done: Value =
        serde_json::from_slice(&curl(&daemon, &of("false_positive"), Some("{\"reason\": \"a test\"}"))).expect("JSON");
    assert_eq!(done["withdrawn"].as_array().map(Vec::len), Some(1), "{done}");
    assert_eq!(done["rechecked"][0]["alarms"], false, "{done}");
    let name = done["whitelisted"][0].as_str().expect("a name");
    let running = json("/api/v1/config/running")["value"]["text"].as_str().expect("text").to_owned();
    for line in [&format!("[whitelist.{name}]"), "protocols = \"udp\"", "source_ports = 53", "note = \"a test\""] {
        assert!(running.contains(line), "{line} in {running}");
    }
    // The traffic goes on and alarms nobody.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(json("/api/v1/status")["mitigations"], serde_json::json!([]));
    assert_eq!(json("/api/v1/config/candidate")["value"]["candidate_edits"], 0);
}
