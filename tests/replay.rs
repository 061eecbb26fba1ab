//! Recorded traffic through the whole pipeline.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::traffic::{Packet, Recording, host, host6};
use support::{FLOODWALL, Folder};

const CONFIG: &str = r#"
[main]
networks_list = ["203.0.113.0/24", "2001:db8::/32"]
enable_ban = true
attack_end_delay = 2
ban_time = 2
blackhole_after = 3

[hostgroup.global]
threshold_pps = 5000

[bgp.router]
local_asn = 65001
local_address = "127.0.0.1"
remote_asn = 65002
remote_address = "127.0.0.2"
"#;

fn replay(capture: &Path, config: &Path) -> Vec<u8> {
    let output = Command::new(FLOODWALL).arg("replay").arg(capture).arg("--config").arg(config).arg("--json").output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// All events of a kind.
fn events<'a>(outcome: &'a Value, event: &str) -> impl Iterator<Item = &'a Value> {
    outcome["events"].as_array().expect("events").iter().filter(move |e| e["event"] == event)
}

/// Texts of one field of all events of a kind.
fn field(outcome: &Value, event: &str, name: &str) -> Vec<String> {
    events(outcome, event).map(|e| e[name].as_str().unwrap_or_default().to_owned()).collect()
}

fn everyone(recording: &mut Recording, seconds: f64) {
    for last in 5..15 {
        recording.ordinary(host(last), 0.0, seconds, 60.0);
    }
    recording.ordinary(host6(9), 0.0, seconds, 60.0);
}

#[test]
fn three_vectors_are_three_rules_none_wider_than_needed_and_the_rest_stays_counted() {
    let folder = Folder::new();
    let mut recording = Recording::new(3);
    everyone(&mut recording, 10.0);
    // Enough that a rule which takes ordinary traffic shows.
    recording.ordinary(host(9), 0.0, 10.0, 3_000.0);
    recording.dns_amplification(host(9), 2.0, 8.0, 8_000.0);
    recording.syn_flood(host(9), 3.0, 7.0, 8_000.0);
    recording.fragment_flood(host(9), 4.0, 6.0, 8_000.0);
    let packets = recording.len() as u64;
    let traffic = recording.clone();
    let capture = folder.capture("three.pcap", &mut recording);
    let bytes = replay(&capture, &folder.write("config.toml", CONFIG));
    let outcome = parsed(&bytes);
    let rules = field(&outcome, "announce", "route");
    assert_eq!(
        rules,
        [
            "flow destination 203.0.113.9/32 protocol udp source-port 53",
            "flow destination 203.0.113.9/32 protocol tcp tcp-flags syn&!ack",
            "flow destination 203.0.113.9/32 protocol udp fragment any(is-fragment+first-fragment)",
        ]
    );
    assert!(field(&outcome, "announce", "dry_run").iter().all(String::is_empty), "announced for real");
    let total = |name: &str| outcome["totals"][name][0].as_u64().expect("a count");
    assert_eq!(total("incoming") + total("outgoing"), packets, "every packet is counted");
    // What was filtered is what these three conditions take from the moment each rule was announced, and nothing besides: of the
    // victim's ordinary packets (DNS answers and SYNs match too) nine tenths stay counted.
    let announced: Vec<f64> = events(&outcome, "announce").filter_map(|e| e["time"].as_f64()).collect();
    let taken = |at: f64, p: &Packet| {
        let vector = [
            p.protocol == 17 && p.ports.0 == 53,
            p.protocol == 6 && p.tcp_flags & 0x12 == 0x02,
            p.protocol == 17 && (p.more || p.offset > 0),
        ];
        p.destination == host(9) && announced.iter().zip(vector).any(|(since, matches)| matches && at > *since)
    };
    assert_eq!(total("filtered"), traffic.count(taken));
    assert_eq!(bytes, replay(&capture, &folder.join("config.toml")), "the same again, byte for byte");
}

#[test]
fn traffic_that_no_rule_separates_is_blackholed_from_the_groups_level_on_and_offered_below_it_in_both_versions() {
    let folder = Folder::new();
    let mut recording = Recording::new(4);
    everyone(&mut recording, 10.0);
    recording.inseparable_flood(host(9), 1.0, 8.0, 9_000.0);
    recording.inseparable_flood(host6(9), 1.0, 8.0, 9_000.0);
    let capture = folder.capture("inseparable.pcap", &mut recording);
    // Twice the threshold is less than ten times of it: a person is asked (decision 33).
    let at_level = CONFIG.replace("threshold_pps = 5000", "threshold_pps = 5000\nblackhole_pps = 5000");
    for (config, held_back) in [(at_level.as_str(), ""), (CONFIG, "below_blackhole_level")] {
        let outcome = parsed(&replay(&capture, &folder.write("config.toml", config)));
        let mut routes = field(&outcome, "announce", "route");
        routes.sort();
        assert_eq!(routes, ["2001:db8::9/128", "203.0.113.9/32"]);
        assert!(field(&outcome, "announce", "action").iter().all(|a| a == "blackhole 65535:666 65535:65281"));
        assert!(field(&outcome, "announce", "dry_run").iter().all(|d| d == held_back), "{held_back}");
    }
}

#[test]
fn a_fresh_install_announces_nothing_and_says_what_it_would_have() {
    let folder = Folder::new();
    let mut recording = Recording::new(5);
    everyone(&mut recording, 8.0);
    recording.dns_amplification(host(9), 2.0, 4.0, 30_000.0);
    let capture = folder.capture("dns.pcap", &mut recording);
    let fresh = folder.write("fresh.toml", "[main]\nnetworks_list = [\"203.0.113.0/24\"]\n");
    let outcome = parsed(&replay(&capture, &fresh));
    assert_eq!(field(&outcome, "announce", "route"), ["flow destination 203.0.113.9/32 protocol udp source-port 53"]);
    assert_eq!(field(&outcome, "announce", "dry_run"), ["ban_disabled"]);
    assert!(field(&outcome, "announce", "advice")[0].contains("enable_ban = true"));
    // Switched on for one host group only.
    let text = CONFIG.to_owned() + "\n[hostgroup.quiet]\nnetworks = [\"203.0.113.8/29\"]\nenable_ban = false\n";
    let outcome = parsed(&replay(&capture, &folder.write("quiet.toml", &text)));
    assert_eq!(field(&outcome, "announce", "dry_run"), ["group_ban_disabled"]);
}

#[test]
fn ordinary_traffic_raises_no_alarm() {
    let folder = Folder::new();
    let mut recording = Recording::new(6);
    for last in 5..15 {
        recording.ordinary(host(last), 0.0, 10.0, 1_500.0);
    }
    let capture = folder.capture("ordinary.pcap", &mut recording);
    let outcome = parsed(&replay(&capture, &folder.write("config.toml", CONFIG)));
    let events: Vec<&Value> = outcome["events"].as_array().expect("events").iter().map(|e| &e["event"]).collect();
    assert_eq!(events, ["first_traffic"]);
}

#[test]
fn an_attack_that_ends_takes_its_rule_with_it() {
    let folder = Folder::new();
    let mut recording = Recording::new(7);
    everyone(&mut recording, 14.0);
    recording.udp_flood(host(9), 2.0, 4.0, 20_000.0);
    let capture = folder.capture("udp.pcap", &mut recording);
    let outcome = parsed(&replay(&capture, &folder.write("config.toml", CONFIG)));
    assert_eq!(field(&outcome, "withdraw", "route"), field(&outcome, "announce", "route"));
    assert_eq!(outcome["mitigations"], Value::Array(Vec::new()));
    assert_eq!(outcome["events"].as_array().expect("events").iter().filter(|e| e["event"] == "over").count(), 1);
}
