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
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"])
        // An event stream never ends, and logging out or halting would be tested by the way.
        .args(["--exclude-path", "/api/v1/events", "--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing"])
        .args(["--request-timeout", "10", "--no-color"])
        .output()
        .expect("schemathesis");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(daemon.process.is_running() && !daemon.process.log().contains("panicked"), "{}", daemon.process.log());
}
