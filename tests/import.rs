//! Configurations of other programs: the file that Debian's fastnetmon package installs, and a dump of the Advanced edition.
#![allow(clippy::print_stdout, reason = "a test that is skipped, or has measured, says so")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{FLOODWALL, Folder};

fn floodwall(args: &[&str]) -> Output {
    Command::new(FLOODWALL).args(args).output().expect("runs")
}

fn path(folder: &Folder, name: &str) -> String {
    folder.join(name).to_str().expect("a path").to_owned()
}

/// Imports, checks the result, and returns the report.
fn import(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let (toml, report) = (path(folder, "out.toml"), path(folder, "report.txt"));
    let output = floodwall(&[&["import"], args, &["--output", &toml, "--report", &report, "--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let imported: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checked = floodwall(&["check", "--config", &toml]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(std::fs::read_to_string(report).expect("written").contains("mapped"));
    imported["report"].as_array().expect("a list").clone()
}

/// Keys that a fastnetmon.conf writes.
fn written_keys(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.filter_map(|l| Some(l.split_once('=')?.0.trim().to_owned())).collect()
}

#[test]
fn the_file_of_debians_package_imports_and_every_key_is_reported() {
    let stock = Path::new("/etc/fastnetmon.conf");
    if !stock.exists() {
        assert!(std::env::var_os("FLOODWALL_REQUIRE_LAB").is_none(), "install the package fastnetmon");
        support::outside::skipped("the package fastnetmon is not installed");
        return;
    }
    let text = std::fs::read_to_string(stock).expect("readable");
    let folder = Folder::new();
    let networks = folder.write("networks_list", "203.0.113.0/24\n2001:db8::/32\n");
    // The stock file with everything off, and with the switches that operators turn first.
    let busy = text
        .replace("netflow = off", "netflow = on")
        .replace("sflow = off", "sflow = on")
        .replace("ban_for_udp_pps = off", "ban_for_udp_pps = on")
        .replace("gobgp = off", "gobgp = on");
    for (name, text) in [("stock.conf", &text), ("busy.conf", &busy)] {
        let folder = Folder::new();
        let conf = folder.write(name, text);
        let conf = conf.to_str().expect("a path");
        let report = import(&folder, &["fastnetmon", "--conf", conf, "--networks", networks.to_str().expect("a path")]);
        for key in written_keys(text) {
            let reported = report.iter().any(|l| {
                let of_line = l["key"].as_str().expect("a key");
                of_line == key || key.ends_with(of_line)
            });
            assert!(reported, "{key} is reported");
        }
        let unknown: Vec<&Value> = report
            .iter()
            .filter(|l| l["note"].as_str().is_some_and(|n| n.contains("not an option of FastNetMon")))
            .collect();
        assert!(unknown.is_empty(), "every stock key is known: {unknown:?}");
        let toml = std::fs::read_to_string(folder.join("out.toml")).expect("written");
        assert!(toml.contains("enable_ban = false") && toml.contains("burst_tolerance_ms = 200"), "{toml}");
    }
}

/// As `fcli show main`, `fcli show hostgroup` and `JSON_MODE=on fcli show bgp` print it.
const MAIN: &str = "networks_list [203.0.113.0/24 2001:db8::/32]\nnetworks_whitelist [203.0.113.250/32]\nban_time 1200\n\
enable_ban true\nenable_ban_ipv6 false\nunban_only_if_attack_finished true\naverage_calculation_time 3\n\
ban_details_records_count 25\ngobgp true\ngobgp_flow_spec_announces true\ngobgp_flow_spec_default_action rate-limit\n\
gobgp_flow_spec_rate_limit_value 4096\nflow_spec_tcp_options_use_match_bit true\nflow_spec_execute_validation true\n\
flow_spec_per_hostgroup_management true\nnetflow true\nnetflow_ports [2055 9995]\nnetflow_host 0.0.0.0\nsflow false\n\
sflow_ports []\ngobgp_next_hop 192.0.2.66\ngobgp_community_host 65001:668\ntraffic_buffer true\nclickhouse_metrics true\n\
email_notifications_password super-secret-password\nnotify_script_enabled true\nsome_future_option 7\n";
const HOSTGROUP: &str = "name global\nban_for_pps true\nthreshold_pps 30000\nban_for_bandwidth true\nthreshold_mbps 900\nenable_ban true\n\
enable_bgp_flow_spec true\n\nname web\nnetworks [203.0.113.0/28]\nparent_name \nban_for_tcp_syn_pps true\nthreshold_tcp_syn_pps 400\n\
ban_for_udp_pps false\nthreshold_udp_pps 100000\nenable_ban true\n";
const BGP: &str = r#"[{"name": "connection_to_my_router", "description": "edge", "local_asn": 65001, "local_address": "192.0.2.2",
"remote_asn": 65002, "remote_address": "192.0.2.1", "multihop": true, "md5_auth": false, "md5_auth_password": "", "ipv4_unicast": true,
"ipv6_unicast": false, "ipv4_flowspec": true, "ipv6_flowspec": false, "active": true}]"#;

#[test]
fn dumps_of_the_advanced_edition_import_and_every_key_is_reported() {
    let folder = Folder::new();
    let files = [("main.txt", MAIN), ("groups.txt", HOSTGROUP), ("bgp.json", BGP)]
        .map(|(name, text)| folder.write(name, text).to_str().expect("a path").to_owned());
    let args = ["fastnetmon", "--main", &files[0], "--hostgroup", &files[1], "--bgp", &files[2]];
    let report = import(&folder, &args);
    let keys = MAIN
        .lines()
        .chain(HOSTGROUP.lines())
        .filter_map(|l| l.split(' ').next())
        .filter(|k| !k.is_empty() && *k != "name");
    for key in keys.chain(["local_asn", "multihop", "md5_auth", "ipv6_flowspec", "description"]) {
        assert!(report.iter().any(|l| l["key"] == key), "{key} is reported");
    }
    let fate = |key: &str| {
        report.iter().find(|l| l["key"] == key).expect("reported")["fate"].as_str().expect("a fate").to_owned()
    };
    assert_eq!(fate("gobgp_flow_spec_rate_limit_value"), "mapped");
    assert_eq!(fate("average_calculation_time"), "changed");
    assert_eq!(fate("clickhouse_metrics"), "no_equal");
    assert_eq!(fate("some_future_option"), "no_equal");
    assert!(!format!("{report:?}").contains("super-secret-password"));
    let toml = std::fs::read_to_string(folder.join("out.toml")).expect("written");
    for line in ["next_hop_ipv4 = \"192.0.2.66\"", "communities = [\"65001:668\"]", "netflow_ports = [2055, 9995]"] {
        assert!(toml.lines().any(|l| l == line), "{line} in\n{toml}");
    }
}

#[test]
fn what_cannot_be_imported_says_so() {
    let folder = Folder::new();
    let output = floodwall(&["import", "fastnetmon"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to import"));
    let ini = folder.write(
        "ban2bgp.ini",
        "[main]\nrouterid = 192.0.2.9\npeers = r1\n[r1]\npeer = 192.0.2.1\nas = 65001\nmode = flowsource\n",
    );
    let report = import(&folder, &["ban2bgp", ini.to_str().expect("a path")]);
    assert_eq!(report.iter().filter(|l| l["key"] == "mode").count(), 1);
    // An existing file is not overwritten.
    let output = floodwall(&["import", "ban2bgp", ini.to_str().expect("a path"), "-o", &path(&folder, "out.toml")]);
    assert_eq!(output.status.code(), Some(1));
}
