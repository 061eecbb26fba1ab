//! Wrong files: every problem at once, each with line, key and advice.

use config::reference::reference;
use config::schema::{Section, keys};
use config::{Config, check};

/// A file that is right, to break one thing at a time.
const GOOD: &str = r#"
[main]
networks_list = ["203.0.113.0/24", "2001:db8::/32"]
enable_ban = true
netflow = true
netflow_host = "127.0.0.1"
netflow_ports = [2055]

[hostgroup.global]
threshold_pps = 20000

[hostgroup.web]
networks = ["203.0.113.0/28"]
ban_for_tcp_syn_pps = true
threshold_tcp_syn_pps = 500

[bgp.router1]
local_asn = 65001
local_address = "127.0.0.1"
remote_asn = 65002
remote_address = "127.0.0.2"
"#;

fn problems(text: &str) -> Vec<String> {
    check(text).expect_err("must be refused").iter().map(ToString::to_string).collect()
}

#[test]
fn the_good_file_is_good_and_inherits() {
    let config = check(GOOD).expect("valid");
    assert_eq!(config.detector.groups.len(), 2);
    let web = &config.detector.groups[1];
    assert_eq!(web.name, "web");
    assert!(web.thresholds.values().any(|v| *v == 500) && web.thresholds.values().any(|v| *v == 20_000));
    assert_eq!(config.mitigation.peers[0].families.len(), 4);
    assert_eq!(config.collectors.workers(), 1);
}

#[test]
fn an_empty_file_listens_to_nothing_and_announces_nothing() {
    let config = Config::default();
    assert_eq!(config.collectors.workers(), 0);
    assert!(!config.mitigation.enable_ban && config.mitigation.peers.is_empty());
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:10007");
    assert!(config::check::has_thresholds(&config));
}

#[test]
fn the_reference_file_is_the_schema_and_means_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/reference.toml");
    let written = reference();
    if std::env::var_os("FLOODWALL_WRITE_REFERENCE").is_some() {
        std::fs::write(path, &written).expect("writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == written, "config/reference.toml is old: FLOODWALL_WRITE_REFERENCE=1 cargo test -p config");
    // Keys whose default cannot fire are explained to be so; all others mean what an empty file means.
    let active: String = written.lines().filter(|l| !l.starts_with("threshold_")).map(|l| format!("{l}\n")).collect();
    assert_eq!(check(&active).expect("valid"), Config::default());
    for key in keys() {
        assert!(!key.meaning.is_empty(), "{key:?}");
    }
}

#[test]
fn each_mistake_gets_its_line_its_key_and_advice() {
    // What to replace in the good file, by what, and what the one message must contain.
    let cases: [(&str, &str, &[&str]); 32] = [
        ("enable_ban = true", "enable_bann = true", &["line 4", "main.enable_bann", "did you mean enable_ban?"]),
        ("enable_ban = true", "enable_ban = 3", &["main.enable_ban", "true or false"]),
        ("enable_ban = true", "enable_ban = \"perhaps\"", &["true or false"]),
        ("\"203.0.113.0/24\"", "\"203.0.113.7/24\"", &["line 3", "203.0.113.0/24"]),
        ("\"203.0.113.0/24\"", "\"203.0.113.0/33\"", &["main.networks_list", "0 to 32"]),
        ("\"203.0.113.0/24\"", "\"203.0.113/24\"", &["main.networks_list", "such as"]),
        ("\"2001:db8::/32\"", "\"2001:db8::/32\", \"2001:db8::/32\"", &["stands twice"]),
        ("networks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]", "networks_list = 5", &["write a list"]),
        ("[main]", "[mian]", &["line 2", "did you mean main?"]),
        ("netflow_ports = [2055]", "netflow_ports = [0]", &["line 7", "1 to 65535"]),
        ("netflow_ports = [2055]", "netflow_ports = [70000]", &["1 to 65535"]),
        ("netflow_ports = [2055]", "netflow_ports = []", &["at least one port"]),
        ("netflow_ports = [2055]", "netflow_ports = [2055, 2055]", &["used twice"]),
        ("netflow_ports = [2055]", "sflow = true\nsflow_host = \"127.0.0.1\"\nsflow_ports = [2055]", &["used twice"]),
        ("netflow_host = \"127.0.0.1\"", "netflow_host = \"localhost\"", &["netflow_host", "0.0.0.0"]),
        ("netflow_host = \"127.0.0.1\"", "ban_time = -5", &["main.ban_time", "from 1 to"]),
        ("netflow_host = \"127.0.0.1\"", "ban_time = 1.5", &["main.ban_time", "whole number"]),
        ("netflow_host = \"127.0.0.1\"", "mirror = true", &["main.interfaces", "eth1"]),
        ("netflow_host = \"127.0.0.1\"", "networks_whitelist = [\"198.51.100.1\"]", &["outside networks_list"]),
        ("netflow_host = \"127.0.0.1\"", "logging_level = \"loud\"", &["\"debug\""]),
        ("netflow_host = \"127.0.0.1\"", "threshold_pps = 5", &["main.threshold_pps", "belongs under [hostgroup]"]),
        ("netflow_host = \"127.0.0.1\"", "sampling_rates = [\"192.0.2.1\"]", &["ADDRESS RATE"]),
        ("threshold_pps = 20000", "threshold_pps = 0", &["line 10", "hostgroup.global.threshold_pps", "from 1 to"]),
        ("threshold_pps = 20000", "threshold_flows = 10", &["can never fire", "ban_for_flows"]),
        (
            "threshold_pps = 20000",
            "networks = [\"203.0.113.0/30\"]",
            &["hostgroup.global.networks", "leave this key out"],
        ),
        (
            "threshold_tcp_syn_pps = 500",
            "threshold_tcp_syn_pps = 50000",
            &["line 15", "can never be the first", "threshold_pps"],
        ),
        (
            "networks = [\"203.0.113.0/28\"]",
            "networks = [\"198.51.100.0/28\"]",
            &["line 13", "not inside networks_list"],
        ),
        ("networks = [\"203.0.113.0/28\"]", "enable_ban = true", &["hostgroup.web.networks", "name the prefixes"]),
        ("remote_asn = 65002", "", &["line 17", "bgp.router1.remote_asn", "remote_asn = 65002"]),
        (
            "remote_address = \"127.0.0.2\"",
            "remote_address = \"2001:db8::1\"",
            &["bgp.router1.local_address", "another IP version"],
        ),
        ("local_address = \"127.0.0.1\"", "hold_time = 90", &["bgp.router1.router_id", "missing"]),
        ("local_address = \"127.0.0.1\"", "local_address = \"127.0.0.1\"\nhold_time = 2", &["RFC 4271"]),
    ];
    for (old, new, wanted) in cases {
        assert!(GOOD.contains(old), "{old:?} is in the good file");
        let found = problems(&GOOD.replacen(old, new, 1));
        assert_eq!(found.len(), 1, "{new:?} gives one message: {found:?}");
        for part in wanted {
            assert!(found[0].contains(part), "{new:?}: {found:?} says {part:?}");
        }
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("enable_ban = true", "enable_bann = true")
        .replace("\"203.0.113.0/28\"", "\"198.51.100.0/28\"")
        .replace("remote_asn = 65002", "")
        .replace("threshold_pps = 20000", "threshold_pps = \"many\"");
    let found = problems(&text);
    assert_eq!(found.len(), 4, "{found:?}");
    let lines: Vec<usize> = check(&text).expect_err("wrong").iter().map(|p| p.line).collect();
    assert!(lines.is_sorted() && !lines.contains(&0), "{lines:?}");
}

#[test]
fn syntax_errors_name_their_line() {
    let found = problems("[main]\nenable_ban = \n");
    assert!(found[0].contains("line 2") && found[0].contains("not TOML"), "{found:?}");
}

#[test]
fn announcing_without_a_peer_or_networks_is_refused() {
    let found = problems("[main]\nenable_ban = true\n");
    assert!(found[0].contains("networks_list is empty"), "{found:?}");
    let found = problems("[main]\nenable_ban = true\nnetworks_list = [\"203.0.113.0/24\"]\n");
    assert!(found[0].contains("no active BGP peer"), "{found:?}");
}

#[test]
fn no_mutation_of_a_file_panics() {
    let mut state = 99u64;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).expect("small")
    };
    let words: Vec<String> = keys().iter().map(|k| k.name.clone()).collect();
    for _ in 0..3000 {
        let mut lines: Vec<String> = GOOD.lines().map(str::to_owned).collect();
        for _ in 0..=random(4) {
            let at = random(lines.len());
            match random(5) {
                0 => {
                    lines[at] =
                        format!("{} = {}", words[random(words.len())], ["-1", "[]", "\"\"", "true", "{}"][random(5)])
                }
                1 => {
                    lines.remove(at);
                }
                2 => lines[at].push(['"', ']', '=', '\n', '[', '#'][random(6)]),
                3 => lines.swap(at, 0),
                _ => lines.insert(at, format!("[{}.x]", Section::ALL[random(Section::ALL.len())].name())),
            }
        }
        let _ = check(&lines.join("\n"));
    }
}
