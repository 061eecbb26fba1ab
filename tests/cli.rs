//! The commands as a user types them.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::traffic::{Recording, host};
use support::{FLOODWALL, Folder};

fn floodwall(args: &[&str]) -> Output {
    Command::new(FLOODWALL).args(args).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_configuration_prints_every_problem_with_line_key_and_advice() {
    let folder = Folder::new();
    let wrong = r#"[main]
networks_list = ["203.0.113.0/24", "198.51.100.7/24"]
enable_bann = true

[hostgroup.web]
networks = ["192.0.2.0/28"]
threshold_flows = 100

[hostgroup.db]
networks = ["203.0.113.16/28"]
ban_for_udp_pps = true
threshold_udp_pps = 90000

[bgp.router1]
local_asn = 65001
remote_address = "192.0.2.1"
router_id = "192.0.2.2"
"#;
    let file = folder.write("wrong.toml", wrong);
    let file = file.to_str().expect("a path");
    let output = floodwall(&["check", "--config", file]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    for part in [
        "line 2: main.networks_list",
        "write 198.51.100.0/24",
        "line 3: main.enable_bann: unknown key; did you mean enable_ban?",
        "line 7: hostgroup.web.threshold_flows: this threshold can never fire: set ban_for_flows = true",
        "line 12: hostgroup.db.threshold_udp_pps: it can never be the first to fire",
        "line 14: bgp.router1.remote_asn: the peer's AS number is missing: write remote_asn = 65002",
    ] {
        assert!(errors.contains(part), "{part:?} in\n{errors}");
    }
    // The group outside the networks shows once the list itself is right.
    let mended = wrong.replace("198.51.100.7/24", "198.51.100.0/24");
    let output = floodwall(&["check", "--config", folder.write("mended.toml", &mended).to_str().expect("a path")]);
    assert!(text(&output.stderr).contains("line 6: hostgroup.web.networks: 192.0.2.0/28 is not inside networks_list"));
    let json: Value = serde_json::from_slice(&floodwall(&["check", "--config", file, "--json"]).stdout).expect("JSON");
    assert_eq!(json["valid"], false);
    assert_eq!(json["problems"].as_array().expect("problems").len(), 5);
    assert_eq!(floodwall(&["run", "--config", file]).status.code(), Some(1), "and the daemon does not start");
}

#[test]
fn usage_errors_are_2_and_missing_files_are_1_with_their_name() {
    assert_eq!(floodwall(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(floodwall(&["check"]).status.code(), Some(2));
    let output = floodwall(&["check", "--config", "/nonexistent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent.toml"));
    let output = floodwall(&["decode", "/nonexistent.pcap"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot open /nonexistent.pcap"));
}

#[test]
fn decode_counts_packets_by_protocol_and_exports_by_record() {
    let folder = Folder::new();
    let mut recording = Recording::new(1);
    recording.syn_flood(host(9), 0.0, 1.0, 500.0);
    let count = recording.len() as u64;
    let capture = folder.capture("syn.pcap", &mut recording);
    let json = |args: &[&str]| -> Value { serde_json::from_slice(&floodwall(args).stdout).expect("JSON") };
    let packets = json(&["decode", capture.to_str().expect("a path"), "--json"]);
    assert_eq!(packets["by_protocol"]["ipv4"]["6"]["packets"], count);
    assert_eq!(packets["bytes"], count * 40);
    let exports = concat!(env!("CARGO_MANIFEST_DIR"), "/pcaps/dns-sflow.pcap");
    let summary = json(&["decode", exports, "--json"]);
    assert_eq!(summary["rates"], serde_json::json!([50]));
    assert_eq!(summary["packets"].as_u64(), summary["records"].as_u64().map(|n| n * 50));
    let lines = text(&floodwall(&["decode", exports, "--samples"]).stdout);
    assert_eq!(Some(lines.lines().count() as u64), summary["records"].as_u64());
}

#[test]
fn mine_prints_rules_that_a_router_understands() {
    let folder = Folder::new();
    let mut recording = Recording::new(1);
    recording.dns_amplification(host(9), 0.0, 1.0, 500.0);
    recording.ordinary(host(9), 0.0, 1.0, 20.0);
    let capture = folder.capture("dns.pcap", &mut recording);
    let args = ["mine", "--sample", capture.to_str().expect("a path"), "--target", "203.0.113.9/32", "--json"];
    let answer: Value = serde_json::from_slice(&floodwall(&args).stdout).expect("JSON");
    assert_eq!(answer["verdict"], "rules");
    assert_eq!(answer["rules"][0]["nlri"], "0120cb007109038111068135");
    assert_eq!(answer["rules"][0]["afi"], 1);
    let explained = text(&floodwall(&[&args[..5], &["--explain"]].concat()).stdout);
    assert!(explained.contains("ranking:") && explained.contains("source-port 53"), "{explained}");
}

#[test]
fn the_demo_ends_well_only_when_the_router_holds_the_rule() {
    for extra in [&[][..], &["--sflow"][..]] {
        let output = floodwall(&[&["demo", "--once"], extra].concat());
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shown}\n{}", text(&output.stderr));
        assert!(
            shown.contains(
                "the router accepted: flow destination 203.0.113.9/32 protocol udp source-port 53 -> discard"
            )
        );
    }
}

#[test]
fn the_configurations_that_the_project_shows_are_valid() {
    let folder = Folder::new();
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::read_to_string(path).expect("part of the project")
    };
    let readme = read("README.md");
    let example = readme.split("```toml").nth(1).and_then(|t| t.split("```").next()).expect("an example");
    let mut template = read("tests/bench.toml.in");
    let ports = [("NETFLOW_PORT", "2055"), ("SFLOW_PORT", "6343"), ("METRICS_PORT", "9100"), ("GOBGP_PORT", "1790")];
    let switches = ["NETFLOW_ENABLED", "SFLOW_ENABLED", "MIRROR_ENABLED", "BGP_ENABLED"].map(|name| (name, "true"));
    let rest = [
        ("INTERFACE", "lo"),
        ("NETWORKS", "\"198.18.0.0/16\""),
        ("STATE", "/tmp"),
        ("THRESHOLD_PPS", "20000"),
        ("THRESHOLD_MBPS", "1000"),
    ];
    for (name, value) in ports.into_iter().chain(switches).chain(rest) {
        template = template.replace(&format!("@{name}@"), value);
    }
    for (name, text) in [("readme.toml", example), ("bench.toml", &template)] {
        let output = floodwall(&["check", "--config", folder.write(name, text).to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text_of(&output));
    }
}

fn text_of(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}
