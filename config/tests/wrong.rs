//! Hundreds of wrong files, made from the table of keys: each gets one message, with line, key and advice.

use config::check;
use config::kind::Kind;
use config::schema::{Key, Section, keys};

const GOOD: &str = r#"[main]
networks_list = ["203.0.113.0/24", "2001:db8::/32"]
enable_ban = true

[hostgroup.web]
networks = ["203.0.113.0/28"]

[traffic_rule.memcached]
protocols = ["udp"]
source_ports = [11211]
threshold_pps = 1000
threshold_mbps = 100

[whitelist.resolver]
remote = ["198.51.100.53"]
protocols = ["udp"]

[bgp.router1]
local_asn = 65001
local_address = "127.0.0.1"
remote_asn = 65002
remote_address = "127.0.0.2"

[notify.noc]
type = "syslog"
"#;

/// The good file with a line in a section, in place of the one with the same key; and that line's number.
fn with(section: Section, line: &str) -> (String, usize) {
    let header = match section {
        Section::HostGroup => "[hostgroup.web]".to_owned(),
        Section::Bgp => "[bgp.router1]".to_owned(),
        Section::Notify => "[notify.noc]".to_owned(),
        Section::TrafficRule => "[traffic_rule.memcached]".to_owned(),
        Section::Whitelist => "[whitelist.resolver]".to_owned(),
        Section::EnforcerPeer => "[enforcer_peer.router1]".to_owned(),
        Section::Main | Section::Api | Section::State | Section::Enforcer => format!("[{}]", section.name()),
    };
    let key = line.split(' ').next().expect("a key");
    let mut lines: Vec<String> = GOOD.lines().map(str::to_owned).collect();
    if !lines.contains(&header) {
        lines.push(header.clone());
    }
    let start = lines.iter().position(|l| *l == header).expect("the section");
    let end = (start + 1..lines.len()).find(|i| lines[*i].starts_with('[')).unwrap_or(lines.len());
    let old = (start + 1..end).find(|i| lines[*i].split(' ').next() == Some(key));
    let at = old.unwrap_or(start + 1);
    if old.is_some() {
        lines[at] = line.to_owned();
    } else {
        lines.insert(at, line.to_owned());
    }
    (lines.join("\n"), at + 1)
}

/// A wrong line for a key, and what the message must say.
fn mistakes(key: &Key) -> Vec<(String, Vec<String>)> {
    let name = &key.name;
    let mut all = Vec::new();
    // Two letters change places, as fingers do.
    let middle = name.len() / 2;
    let swapped: String =
        [&name[..middle - 1], &name[middle..=middle], &name[middle - 1..middle], &name[middle + 1..]].concat();
    if swapped != *name {
        all.push((format!("{swapped} = 1"), vec![swapped.clone(), "did you mean".to_owned()]));
    }
    for value in ["1.5", "{ a = 1 }", "1979-05-27"] {
        all.push((format!("{name} = {value}"), vec![name.clone()]));
    }
    if let Kind::Number { low, high, .. } = &key.kind {
        for value in [(low - 1).to_string(), (high + 1).to_string(), "99999999999999999".into(), "\"many\"".into()] {
            all.push((format!("{name} = {value}"), vec![name.clone(), format!("from {low} to {high}")]));
        }
    }
    if key.kind == Kind::Switch {
        all.push((format!("{name} = \"perhaps\""), vec![name.clone(), "true or false".to_owned()]));
    }
    if let Kind::Choice { choices } = &key.kind {
        let wanted = [name].into_iter().cloned().chain(choices.iter().map(|c| (*c).to_owned()));
        all.push((format!("{name} = \"perhaps\""), wanted.collect()));
    }
    all
}

#[test]
fn every_key_misspelt_mistyped_or_out_of_range_gets_one_message_with_line_key_and_advice() {
    assert!(check(GOOD).is_ok(), "{:?}", check(GOOD));
    let mut count = 0;
    // A single key of the enforcer's tables lacks the keys that those need together.
    let alone = |k: &&Key| !matches!(k.section, Section::Enforcer | Section::EnforcerPeer);
    for key in keys().iter().filter(alone) {
        for (line, wanted) in mistakes(key) {
            let (text, number) = with(key.section, &line);
            let problems = check(&text).expect_err(&line);
            let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems.len(), 1, "{line}: {found:?}\n{text}");
            assert_eq!(problems[0].line, number, "{line}: {found:?}\n{text}");
            assert!(wanted.iter().all(|w| found[0].contains(w)), "{line}: {found:?} says {wanted:?}");
            let has_advice = ["write", "did you mean", "belongs under"].iter().any(|w| problems[0].text.contains(w));
            assert!(has_advice, "{line}: {found:?} says what to write");
            count += 1;
        }
    }
    assert!(count >= 1000, "{count} wrong files");
}

#[test]
fn contradictions_between_stages_get_one_message_with_line_key_and_advice() {
    let cases: [(Section, &str, &str); 14] = [
        (Section::Main, "networks_whitelist = [\"198.51.100.1\"]", "outside networks_list"),
        (Section::Main, "mirror = true", "name at least one interface"),
        (Section::Main, "netflow_ports = []\nnetflow = true", "at least one port"),
        (Section::Main, "netflow_ports = [2055, 2055]\nnetflow = true", "used twice"),
        (Section::Main, "sflow_ports = [2055]\nnetflow = true\nsflow = true", "used twice"),
        (Section::Main, "gobgp_flow_spec_default_action = \"redirect\"", "redirect needs its target"),
        (Section::HostGroup, "networks = [\"198.51.100.0/28\"]", "not inside networks_list"),
        (Section::HostGroup, "networks = []", "name the prefixes"),
        (Section::HostGroup, "threshold_udp_pps = 5", "can never fire"),
        (Section::HostGroup, "threshold_udp_pps = 50000\nban_for_udp_pps = true", "can never be the first to fire"),
        (Section::Bgp, "remote_address = \"2001:db8::1\"", "another IP version"),
        (Section::Bgp, "hold_time = 2", "RFC 4271"),
        (Section::Bgp, "router_id = \"0.0.0.0\"", "router_id"),
        (Section::Api, "listen = \"192.0.2.1:10007\"", "loopback"),
    ];
    for (section, lines, wanted) in cases {
        let first = lines.lines().next().expect("a line");
        let (text, number) = with(section, first);
        let text = text.replacen(first, lines, 1);
        let problems = check(&text).expect_err(lines);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{lines}: {found:?}\n{text}");
        assert!(found[0].contains(wanted), "{lines}: {found:?}");
        // Of two keys that contradict each other, either may be named.
        assert!(problems[0].line.abs_diff(number) <= 2 && !problems[0].key.is_empty(), "{lines}: {found:?}");
    }
}

#[test]
fn an_exporter_stands_for_one_router() {
    let second = "[bgp.router2]\nlocal_asn = 65001\nlocal_address = \"127.0.0.1\"\nremote_asn = 65003\n\
                  remote_address = \"127.0.0.3\"\nexporters = [\"192.0.2.7\", \"192.0.2.8\"]\n";
    let (first, _) = with(Section::Bgp, "exporters = [\"192.0.2.6\"]");
    let config = check(&format!("{first}\n{second}")).expect("right");
    let router = |address: &str| config.collectors.exporters.settings[&address.parse().expect("literal")].router;
    assert_eq!([router("192.0.2.6"), router("192.0.2.7"), router("192.0.2.8")], [1, 2, 2]);
    let (first, _) = with(Section::Bgp, "exporters = [\"192.0.2.7\"]");
    let problems = check(&format!("{first}\n{second}")).expect_err("192.0.2.7 twice");
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(text.contains("bgp.router2.exporters") && text.contains("of another peer already"), "{text}");
}
