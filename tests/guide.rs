//! Every command of FastNetMon's BGP Flow Spec guide, typed through a symlink named `fcli`, on a running daemon with GoBGP as the
//! router: what each sets is checked on the daemon, what each announces on the router.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::{FLOODWALL, Folder, Lab, Namespace, Process, has_lab, lab_peer, wait_for};

/// `main` options of the guide: the key, the value as typed, as it is shown, and by default.
fn options() -> Vec<(&'static str, &'static str, Value, Value)> {
    let mut all = vec![
        ("threshold_specific_ban_details", "true", json!(true), json!(false)),
        ("ban_details_records_count", "5", json!(5), Value::Null),
        ("logging_level", "debug", json!("debug"), json!("info")),
        ("gobgp_flow_spec_announces", "enable", json!(true), json!(true)),
        ("gobgp_flow_spec_default_action", "discard", json!("discard"), json!("discard")),
        ("gobgp_flow_spec_rate_limit_value", "1000", json!(1000), json!(1024)),
        ("gobgp_flow_spec_v4_redirect_target_as", "65535", json!(65535), Value::Null),
        ("gobgp_flow_spec_v4_redirect_target_community", "4294967295", json!(4_294_967_295_u64), Value::Null),
        ("flow_spec_per_hostgroup_management", "true", json!(true), json!(false)),
        ("flow_spec_execute_validation", "disable", json!(false), json!(true)),
        ("bucket_traffic_collection_timeout", "60", json!(60), json!(120)),
    ];
    for key in [
        "flow_spec_do_not_process_ip_fragmentation_flags_field",
        "flow_spec_do_not_process_length_field",
        "flow_spec_do_not_process_source_address_field",
        "flow_spec_do_not_process_tcp_flags_field",
        "flow_spec_strip_ports_for_fragmented_traffic",
        "flow_spec_fragmentation_options_use_match_bit",
        "flow_spec_tcp_options_use_match_bit",
        "flow_spec_ignore_do_not_fragment_flag",
    ] {
        all.push((key, "false", json!(false), json!(false)));
        all.push((key, "true", json!(true), json!(false)));
    }
    all
}

/// The guide's rule.
const RULE: &str = r#"{ "source_prefix": "4.0.0.0/32", "destination_prefix": "127.0.0.0/32", "destination_ports": [ 80 ], "source_ports": [ 53, 5353 ], "packet_lengths": [ 777, 1122 ], "protocols": [ "tcp" ], "fragmentation_flags": [ "is-fragment", "dont-fragment" ], "tcp_flags": [ "syn" ], "action_type": "rate-limit", "action": { "rate": 1024 } }"#;
const RULE_WITH_NEXT_HOP: &str = r#"{ "source_prefix": "4.0.0.0/32", "destination_prefix": "127.0.0.0/32", "destination_ports": [ 80 ], "source_ports": [ 53, 5353 ], "packet_lengths": [ 777, 1122 ], "protocols": [ "tcp" ], "fragmentation_flags": [ "is-fragment", "dont-fragment" ], "tcp_flags": [ "syn" ], "action_type": "accept", "ipv4_nexthops": ["11.22.33.44"] }"#;

struct Fcli {
    link: PathBuf,
    socket: PathBuf,
}

impl Fcli {
    fn output(&self, words: &[&str], json: bool) -> Output {
        let mut command = Command::new(&self.link);
        command.args(words).env("FLOODWALL_SOCKET", &self.socket);
        if json {
            command.env("JSON_MODE", "on");
        }
        command.output().expect("runs")
    }

    fn words(&self, words: &[&str]) -> String {
        let output = self.output(words, false);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn line(&self, line: &str) -> String {
        self.words(&line.split(' ').collect::<Vec<_>>())
    }

    fn json(&self, line: &str) -> Value {
        let output = self.output(&line.split(' ').collect::<Vec<_>>(), true);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {output:?}"))
    }
}

fn start(folder: &Folder, namespace: &Namespace) -> (Process, Fcli) {
    let config = format!(
        "[main]\nnetworks_list = [\"127.0.0.0/32\", \"1.2.3.0/24\"]\n\n{}[hostgroup.global]\nthreshold_pps = 20000\n",
        lab_peer("gobgp").replace("[bgp.gobgp]", "[bgp.connection_to_my_router]\nipv4_flowspec = false")
    );
    let file = folder.write("edge.toml", &config);
    let process = Process::start(folder, "edge", namespace.command(FLOODWALL).arg("run").arg("--config").arg(file));
    let socket = folder.join("edge.sock");
    process.started();
    let link = folder.join("fcli");
    std::os::unix::fs::symlink(FLOODWALL, &link).expect("a symlink");
    (process, Fcli { link, socket })
}

#[test]
fn every_command_of_the_guide_works_on_the_daemon_and_the_router() {
    if !has_lab(&["gobgpd", "gobgp", "ip"]) {
        return;
    }
    let namespace = Namespace::new();
    let lab = Lab::up(&namespace, &["gobgp"]);
    let folder = Folder::new();
    let (mut process, fcli) = start(&folder, &namespace);
    wait_for("a session without FlowSpec", 30, || (lab.session("gobgp") == "established").then_some(()));

    for (key, typed, shown, default) in options() {
        fcli.line(&format!("set main {key} {typed}"));
        fcli.line("commit");
        assert_eq!(fcli.json(&format!("show main {key}"))[key], shown, "set main {key} {typed}");
        // What is deleted is at its default again; what is so already needs no delete.
        let deleted = fcli.output(&["delete", "main", key], false);
        assert!(deleted.status.success() || shown == default, "delete main {key}: {deleted:?}");
        fcli.line("commit");
        assert_eq!(fcli.json(&format!("show main {key}"))[key], default, "delete main {key}");
    }
    // A list grows by repetition and shrinks by its value.
    fcli.line("set main gobgp_flow_spec_next_hop_ipv4 10.3.44.6");
    fcli.line("set main gobgp_flow_spec_next_hop_ipv4 10.3.44.7");
    fcli.line("commit");
    let shown = || fcli.json("show main gobgp_flow_spec_next_hop_ipv4")["gobgp_flow_spec_next_hop_ipv4"].clone();
    assert_eq!(shown(), json!(["10.3.44.6", "10.3.44.7"]));
    fcli.line("delete main gobgp_flow_spec_next_hop_ipv4 10.3.44.6");
    fcli.line("commit");
    assert_eq!(shown(), json!(["10.3.44.7"]));
    fcli.line("delete main gobgp_flow_spec_next_hop_ipv4");
    fcli.line("commit");
    fcli.line("set hostgroup global enable_bgp_flow_spec true");
    fcli.line("commit");
    assert_eq!(fcli.json("show hostgroup global enable_bgp_flow_spec")["enable_bgp_flow_spec"], true);
    fcli.line("delete hostgroup global enable_bgp_flow_spec");
    fcli.line("commit");

    // The family is switched on, on the router as well.
    fcli.line("set bgp connection_to_my_router ipv4_flowspec enable");
    fcli.line("commit");
    wait_for("a session with FlowSpec", 60, || {
        let peer = &fcli.json("show bgp")[0];
        (peer["state"] == "established" && peer["families"].to_string().contains("flowspec")).then_some(())
    });

    let rules = |wanted: usize| {
        wait_for("the rules of the router", 20, || lab.routes("gobgp", "ipv4-flowspec").filter(|r| r.len() == wanted))
    };
    fcli.words(&["set", "flowspec", RULE]);
    let rule = rules(1)[0].to_string();
    for part in ["127.0.0.0/32", "4.0.0.0/32", "=80", "=53", "=5353", "=777", "=1122", "syn", "1024"] {
        assert!(rule.contains(part), "{part} in {rule}");
    }
    assert!(fcli.line("show flowspec").contains("127.0.0.0/32"));
    assert!(fcli.json("show flowspec").to_string().contains("4.0.0.0/32"));
    fcli.words(&["delete", "flowspec", RULE]);
    rules(0);
    fcli.words(&["set", "flowspec", RULE_WITH_NEXT_HOP]);
    assert!(rules(1)[0].to_string().contains("11.22.33.44"));
    fcli.words(&["delete", "flowspec", RULE_WITH_NEXT_HOP]);
    rules(0);
    // The validation guards wide rules, and can be switched off; the other rails stay.
    let wide = RULE.replace("4.0.0.0/32", "4.0.0.0/24");
    assert!(!fcli.output(&["set", "flowspec", &wide], false).status.success());
    fcli.line("set main flow_spec_execute_validation disable");
    fcli.line("commit");
    fcli.words(&["set", "flowspec", &wide]);
    rules(1);
    fcli.words(&["delete", "flowspec", &wide]);
    rules(0);
    let foreign = RULE.replace("127.0.0.0/32", "192.0.2.1/32");
    assert!(!fcli.output(&["set", "flowspec", &foreign], false).status.success(), "nothing outside networks_list");

    fcli.line("set blackhole 1.2.3.4");
    let holes = |wanted: usize| {
        wait_for("the blackholes of the router", 20, || lab.routes("gobgp", "ipv4").filter(|r| r.len() == wanted))
    };
    let hole = holes(1)[0].to_string();
    assert!(hole.contains("1.2.3.4/32") && hole.contains("65535:666"), "{hole}");
    assert!(fcli.line("show blackhole").contains("1.2.3.4"));
    fcli.line("delete blackhole 1.2.3.4");
    holes(0);
    // Names that mean nothing here say what to use instead.
    let metrics = fcli.output(&["set", "main", "clickhouse_metrics", "enable"], false);
    assert!(String::from_utf8_lossy(&metrics.stderr).contains("Prometheus reads /metrics"), "{metrics:?}");
    let audit = fcli.json("show audit 500");
    assert!(audit.to_string().contains("set blackhole 1.2.3.4"), "manual actions are in the audit log");
    assert!(process.stop());
}
