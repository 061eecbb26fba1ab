//! What people and programs read, as it is: every category of `show` as text and JSON, `/api/v1/status`, the OpenAPI document, the
//! configuration's reference, and what a replay prints. Whatever changes one of them on purpose writes it anew with
//! `FLOODWALL_BLESS=1 cargo test --test goldens` and says why in the commit. Numbers that time makes are `#`.

mod support;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use support::{FLOODWALL, Folder, Process, free_port, get, wait_for};

const CONFIG: &str = r#"
[main]
networks_list = ["203.0.113.0/24", "2001:db8::/32"]
enable_ban = true
ban_time = 60

[hostgroup.global]
threshold_pps = 3000

[hostgroup.servers]
networks = ["203.0.113.128/25"]
threshold_mbps = 500

[bgp.router]
local_asn = 65001
local_address = "127.0.0.1"
remote_asn = 65002
remote_address = "127.0.0.99"
announce_remote_bans = true
passive = true
"#;

const BY_HAND: [&[&str]; 3] = [
    &[
        "set",
        "flowspec",
        r#"{"destination_prefix":"203.0.113.7/32","protocols":["udp"],"source_ports":[123],"action_type":"discard"}"#,
    ],
    &["set", "blackhole", "203.0.113.8/32", "reason", "by", "hand"],
    &["set", "remote_blackhole", "192.88.99.7/32", "expires", "1h"],
];

/// Categories whose lines come and go by the second: their heading is compared.
const MOVING: [&str; 7] =
    ["baseline", "events", "exporters", "host_counters", "interfaces", "network_counters", "single_host_counters"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Compares with what is kept, or keeps it.
fn check(name: &str, text: &str) -> Result<(), String> {
    let path = file(name);
    if std::env::var_os("FLOODWALL_BLESS").is_some() {
        std::fs::write(&path, text).expect("writable");
        return Ok(());
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if kept == text {
        return Ok(());
    }
    let mut lines: Vec<String> = Vec::new();
    let (mut old, mut new) = (kept.lines(), text.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => lines.push(format!("  was {}\n  is  {}", a.unwrap_or("nothing"), b.unwrap_or("nothing"))),
        }
    }
    lines.truncate(20);
    Err(format!("{name} is not what it was:\n{}", lines.join("\n")))
}

/// A word without what differs from run to run: numbers and times; addresses, prefixes and names stay.
fn word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let is_address = bare.contains('/') || bare.matches('.').count() == 3 || bare.contains("::");
    let is_time = bare.contains(':') && bare.starts_with("20") && bare.contains('T');
    if is_time {
        return "TIME".to_owned();
    }
    let is_number = bare.starts_with(|c: char| c.is_ascii_digit());
    if is_address || !is_number { word.to_owned() } else { "#".to_owned() }
}

/// A table or a sentence without numbers that time makes, and without the blanks that align them.
fn steady(text: &str) -> String {
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(|l| line(l) + "\n").collect()
}

/// JSON with every key and the kind of its value: of a list of objects one that has the keys of all.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), shape(v))).collect::<Map<_, _>>().into(),
        Value::Array(list) => {
            let mut shapes = list.iter().map(shape);
            shapes.next().map_or_else(|| json!([]), |first| json!([shapes.fold(first, both)]))
        }
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
        Value::Bool(_) => json!("switch"),
        Value::Null => Value::Null,
    }
}

/// The shape of what has one shape or another.
fn both(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut map), Value::Object(more)) => {
            for (key, value) in more {
                let known = map.remove(&key).unwrap_or(Value::Null);
                map.insert(key, both(known, value));
            }
            map.into()
        }
        (Value::Null, other) => other,
        (Value::Array(mut list), Value::Array(more)) if list.is_empty() || more.is_empty() => {
            list.extend(more);
            list.into()
        }
        (one, _) => one,
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON") + "\n"
}

/// UDP payloads of a recorded export.
fn datagrams(capture: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(capture).expect("the capture");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets")) as usize;
    let link = if word(20) == 1 { 14 } else { 0 };
    let (mut at, mut found) = (24, Vec::new());
    while at + 16 <= bytes.len() {
        let frame = &bytes[at + 16..at + 16 + word(at + 8)];
        let header = usize::from(frame[link] & 15) * 4;
        found.push(frame[link + header + 8..].to_vec());
        at += 16 + frame.len();
    }
    found
}

struct Running {
    process: Process,
    folder: Folder,
    api: u16,
}

impl Running {
    /// A daemon with three orders by hand and one attack that it has answered.
    fn start() -> Self {
        let (folder, api, netflow) = (Folder::new(), free_port(), free_port());
        let sources = format!("netflow = true\nnetflow_host = \"127.0.0.1\"\nnetflow_ports = [{netflow}]\n");
        let text = CONFIG.replace("ban_time", &format!("{sources}ban_time"));
        let config = folder.write("config.toml", &format!("{text}\n[api]\nlisten = \"127.0.0.1:{api}\"\n"));
        let mut command = Command::new(FLOODWALL);
        let process = Process::start(&folder, "floodwall", command.args(["run", "--config"]).arg(config));
        process.started();
        let running = Self { process, folder, api };
        for words in BY_HAND {
            let (text, good) = running.ask(words);
            assert!(good, "{words:?}: {text}");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let export = datagrams(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/dns-netflow9.pcap"));
        wait_for("the mined rule", 30, || {
            for datagram in &export {
                let _ = socket.send_to(datagram, ("127.0.0.1", netflow));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            running.ask(&["show", "flowspec"]).0.contains("53").then_some(())
        });
        running
    }

    fn ask(&self, words: &[&str]) -> (String, bool) {
        let socket = self.folder.join("floodwall.sock");
        let output = Command::new(FLOODWALL).args(words).env("FLOODWALL_SOCKET", socket).output().expect("runs");
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.success())
    }

    fn get(&self, path: &str) -> Value {
        let body = get(std::net::SocketAddr::from(([127, 0, 0, 1], self.api)), path).expect("an answer");
        serde_json::from_str(&body).expect("JSON")
    }
}

#[test]
fn what_is_shown_stays_as_it_is() {
    let mut running = Running::start();
    let mut wrong = Vec::new();
    let mut keep = |name: &str, text: &str| wrong.extend(check(name, text).err());
    let (categories, _) = running.ask(&["show", "--json"]);
    let categories: Vec<String> = serde_json::from_str(&categories).expect("JSON");
    let (mut texts, mut values) = (String::new(), Map::new());
    for category in &categories {
        let mut words = vec!["show", category];
        words.extend((category == "single_host_counters").then_some("203.0.113.9"));
        let text = running.ask(&words).0.replace(&running.api.to_string(), "PORT");
        let lines = if MOVING.contains(&category.as_str()) { 1 } else { usize::MAX };
        let text: String = steady(&text).split_inclusive('\n').take(lines).collect();
        texts += &format!("=== show {}\n{text}", words[1..].join(" "));
        words.push("--json");
        // A refusal is words.
        let (answer, _) = running.ask(&words);
        let value = serde_json::from_str(&answer).unwrap_or_else(|_| json!(answer.trim()));
        values.insert(category.clone(), shape(&value));
    }
    keep("show.txt", &texts);
    keep("show.json", &pretty(&values.into()));
    keep("status.json", &pretty(&shape(&running.get("/api/v1/status"))));
    keep("openapi.json", &pretty(&running.get("/api/v1/openapi.json")));
    assert!(running.process.stop());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_replay_prints_what_it_printed() {
    let folder = Folder::new();
    let config = folder.write("config.toml", CONFIG);
    let mut wrong = Vec::new();
    for capture in ["dns-netflow9", "dns-sflow"] {
        for json in [false, true] {
            let mut command = Command::new(FLOODWALL);
            command.arg("replay").arg(format!("pcaps/{capture}.pcap")).arg("--config").arg(&config);
            command.args(json.then_some("--json")).current_dir(env!("CARGO_MANIFEST_DIR"));
            let output = command.output().expect("runs");
            assert!(output.status.success(), "{output:?}");
            let name = format!("replay-{capture}.{}", if json { "json" } else { "txt" });
            wrong.extend(check(&name, &String::from_utf8_lossy(&output.stdout)).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
