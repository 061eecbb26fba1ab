//! The dashboard in a real browser, and schemathesis against the served OpenAPI document, beside a recorded attack.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
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
        support::outside::skipped(&format!("{} is not there", path.display()));
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

/// Scripts of the dashboard as they were written, by path in `web/`.
fn written() -> BTreeMap<String, String> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let (mut all, mut folders) = (BTreeMap::new(), vec![web.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "js") {
                let name = path.strip_prefix(&web).expect("below web/").display().to_string();
                all.insert(name, std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    all
}

/// What a module imports, by path in `web/`.
fn imported(module: &str, text: &str) -> Vec<String> {
    assert!(!text.contains("import("), "{module} imports when it runs: this test does not follow that");
    let imports = text.lines().filter(|line| line.starts_with("import"));
    imports
        .map(|line| {
            let path = line.split('\'').nth(1).unwrap_or_else(|| panic!("{module}: write {line:?} on one line"));
            let mut folders: Vec<&str> = module.split('/').collect();
            folders.pop();
            for part in path.split('/') {
                match part {
                    "." => {}
                    ".." => assert!(folders.pop().is_some(), "{module}: {path} leaves the dashboard"),
                    part => folders.push(part),
                }
            }
            folders.join("/")
        })
        .collect()
}

/// Head and body of an answer, for whoever has no token.
fn answer(daemon: &Attacked, path: &str) -> (String, String) {
    let url = format!("{}{path}", daemon.url);
    let output = Command::new("curl").args(["-sSi", "--path-as-is", "--max-time", "20", &url]).output();
    let text = String::from_utf8(output.expect("curl runs").stdout).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {text}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn every_imported_module_is_served_as_it_was_written_and_no_script_is_there_that_nothing_imports() {
    let daemon = start();
    let written = written();
    let (_, page) = answer(&daemon, "/");
    let between = |begin: &str| -> BTreeSet<String> {
        page.split(begin).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
    };
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = between("<script type=\"module\" src=\"").into_iter().collect();
    assert_eq!(open, ["app.js"]);
    while let Some(module) = open.pop() {
        let (head, text) = answer(&daemon, &format!("/{module}"));
        assert!(head.starts_with("http/1.1 200"), "{module} is imported and not served: {head}");
        for line in ["content-type: text/javascript; charset=utf-8", "cache-control: no-store", "script-src 'self';"] {
            assert!(head.contains(line), "{module}: {head}");
        }
        assert_eq!(Some(&text), written.get(&module), "{module} is not what was written");
        let more = imported(&module, &text);
        found.insert(module);
        open.extend(more.into_iter().filter(|m| !found.contains(m)));
    }
    assert_eq!(found, written.keys().cloned().collect(), "left: imported, right: written");
    // The page names them all, so that a browser does not learn of them one after the other.
    found.remove("app.js");
    assert_eq!(between("<link rel=\"modulepreload\" href=\""), found);
    for name in ["/screens", "/screens/", "/screens/none.js", "/screens/../app.js", "/..%2fCargo.toml", "/app.js/"] {
        assert!(answer(&daemon, name).0.starts_with("http/1.1 404"), "{name}");
    }
}

#[test]
fn every_script_of_the_dashboard_is_type_checked_by_editors_and_fits_a_screen() {
    for (name, text) in written() {
        assert!(text.starts_with("// @ts-check\n"), "web/{name} does not begin with // @ts-check");
        for (i, line) in text.lines().enumerate() {
            let length = line.chars().count();
            assert!(length <= 120, "web/{name}:{} has {length} characters: 120 at most", i + 1);
        }
    }
}

/// A schema of the OpenAPI document as a JSDoc type; none where it says no more than that it is an object.
fn javascript(schema: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().map(str::to_owned);
    }
    if let Some(variants) = schema["oneOf"].as_array() {
        let (null, others): (Vec<_>, Vec<_>) = variants.iter().partition(|v| v["type"] == "null");
        assert!(null.len() == 1 && others.len() == 1, "{schema}");
        return javascript(others[0]).map(|name| format!("?{name}"));
    }
    let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let null = if kinds.iter().any(|k| k == "null") { "?" } else { "" };
    let kind = kinds.iter().filter_map(Value::as_str).find(|k| *k != "null")?;
    match kind {
        "integer" | "number" => Some(format!("{null}number")),
        "string" | "boolean" => Some(format!("{null}{kind}")),
        "array" => javascript(&schema["items"]).map(|items| format!("{null}{items}[]")),
        _ => None,
    }
}

#[test]
fn what_the_dashboard_expects_of_the_api_is_what_the_openapi_document_promises() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/openapi.json");
    let document: Value = serde_json::from_slice(&std::fs::read(golden).expect("readable")).expect("JSON");
    let schemas = &document["components"]["schemas"];
    let types = &written()["api.js"];
    let mut compared = 0;
    for definition in types.split("@typedef {object} ").skip(1) {
        let definition = definition.split("*/").next().unwrap_or_default();
        let name = definition.split_whitespace().next().expect("a name");
        if schemas[name].is_null() {
            continue;
        }
        for property in definition.split("@property {").skip(1) {
            let (kind, rest) = property.split_once("} ").expect("a type and a name");
            let field = rest.split_whitespace().next().expect("a name");
            let schema = &schemas[name]["properties"][field];
            assert!(!schema.is_null(), "{name}.{field} is not in the OpenAPI document");
            if let Some(promised) = javascript(schema) {
                assert_eq!(kind, promised, "{name}.{field}");
                compared += 1;
            }
        }
    }
    assert!(compared > 60, "{compared} fields");
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
    let mut by_status = BTreeMap::new();
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
    for line in [&format!("[whitelist.{name}]"), "protocols = [\"udp\"]", "source_ports = [53]", "note = \"a test\""] {
        assert!(running.contains(line), "{line} in {running}");
    }
    // The traffic goes on and alarms nobody.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(json("/api/v1/status")["mitigations"], serde_json::json!([]));
    assert_eq!(json("/api/v1/config/candidate")["value"]["candidate_edits"], 0);
}
