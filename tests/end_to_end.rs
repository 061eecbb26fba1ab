//! From real exporters to real routers, inside network namespaces.

mod support;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::traffic::{Recording, host, host6};
use support::{FLOODWALL, Folder, Lab, Namespace, Process, has_lab, lab_peer, wait_for};

/// One at a time: a replay in its own rhythm keeps a core busy, and a late one is another attack.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const PEERS: [&str; 3] = ["gobgp", "bird", "frr"];

fn config(sources: &str) -> String {
    let mut text = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]\nenable_ban = true\nban_time = 2\n\
         attack_end_delay = 2\nblackhole_after = 3\non_shutdown = \"withdraw\"\n{sources}\n\
         [hostgroup.global]\nthreshold_pps = 3000\nblackhole_pps = 3000\n\n"
    );
    PEERS.iter().for_each(|p| text.push_str(&lab_peer(p)));
    text
}

/// Ordinary traffic throughout, an attack from the third second to the eighth. Where it comes back its rule is held twice as long
/// each time, and time stands still for it once the exporters are silent: the ordinary traffic lasts longer than the fourth hold.
fn dns_attack(folder: &Folder) -> std::path::PathBuf {
    let mut recording = Recording::new(11);
    for last in 5..15 {
        recording.ordinary(host(last), 0.0, 45.0, 60.0);
    }
    recording.dns_amplification(host(9), 3.0, 5.0, 8_000.0);
    folder.capture("dns.pcap", &mut recording)
}

/// Replays a capture on the far end of the veth pair, in its own rhythm.
fn replay(ns: &Namespace, folder: &Folder, name: &str, capture: &Path) -> Process {
    Process::start(folder, name, ns.command("tcpreplay").args(["-q", "-K", "-i", "vx1"]).arg(capture))
}

fn established(lab: &Lab<'_>) {
    for peer in PEERS {
        wait_for(&format!("the session with {peer}"), 60, || {
            lab.session(peer).to_lowercase().starts_with("established").then_some(())
        });
    }
}

/// Waits until every peer holds exactly the rule for a DNS amplification, then until none does.
fn rule_comes_and_goes(lab: &Lab<'_>, daemon: &Process) {
    for peer in PEERS {
        let rules = wait_for(&format!("the rule at {peer}"), 40, || {
            lab.routes(peer, "ipv4-flowspec").filter(|r| !r.is_empty())
        });
        assert_eq!(rules.len(), 1, "{peer}: {rules:?}\n{}", daemon.log());
        let components = &rules[0]["components"];
        let expected: Value =
            serde_json::json!({ "destination": "203.0.113.9/32", "protocol": "=17", "source-port": "=53" });
        assert_eq!(*components, expected, "{peer}");
        assert_eq!(rules[0]["actions"], serde_json::json!(["discard"]), "{peer}");
    }
    for peer in PEERS {
        wait_for(&format!("the withdrawal at {peer}"), 60, || lab.routes(peer, "ipv4-flowspec").filter(Vec::is_empty));
    }
}

#[test]
fn real_exporters_lead_to_one_rule_on_real_routers_which_goes_with_the_attack() {
    let programs = ["gobgpd", "birdc", "bgpd", "softflowd", "pmacctd", "tcpreplay", "ip"];
    if !has_lab(&programs) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (ns, folder) = (Namespace::new(), Folder::new());
    let lab = Lab::up(&ns, &PEERS);
    let sources = "netflow = true\nnetflow_host = \"127.0.0.1\"\nsflow = true\nsflow_host = \"127.0.0.1\"\n";
    let file = folder.write("config.toml", &config(sources));
    let mut daemon = Process::start(&folder, "floodwall", ns.command(FLOODWALL).arg("run").arg("--config").arg(file));
    established(&lab);
    let attack = dns_attack(&folder);
    let sfprobe = folder.write(
        "sfprobe.conf",
        "daemonize: false\npcap_interface: vx0\nplugins: sfprobe[x]\nsfprobe_receiver[x]: 127.0.0.1:6343\n\
         sfprobe_agentip[x]: 127.0.0.1\nsampling_rate: 20\n",
    );
    for exporter in ["5", "9", "10", "sflow"] {
        let mut command;
        if exporter == "sflow" {
            command = ns.command("pmacctd");
            command.arg("-f").arg(&sfprobe);
        } else {
            command = ns.command("softflowd");
            command.args(["-d", "-i", "vx0", "-n", "127.0.0.1:2055", "-m", "200000", "-B", "8388608", "-v", exporter]);
            for timeout in ["general=1", "tcp=1", "udp=1", "icmp=1", "maxlife=1", "expint=1"] {
                command.args(["-t", timeout]);
            }
            command.arg("-p").arg(folder.join("softflowd.pid")).arg("-c").arg(folder.join("softflowd.ctl"));
        }
        let mut running = Process::start(&folder, &format!("exporter-{exporter}"), &mut command);
        wait_for(&format!("exporter {exporter} watching vx0"), 20, || {
            assert!(running.is_running(), "{}", running.log());
            (ns.packet_sockets() > 0).then_some(())
        });
        let traffic = replay(&ns, &folder, "tcpreplay", &attack);
        println!("exporter {exporter}");
        rule_comes_and_goes(&lab, &daemon);
        drop(traffic);
        running.stop();
        wait_for("the exporter's end", 20, || (ns.packet_sockets() == 0).then_some(()));
    }
    assert!(daemon.is_running(), "{}", daemon.log());
    assert!(daemon.stop(), "ends when asked to");
}

#[test]
fn a_mirror_port_leads_to_the_same_rule_and_the_inseparable_to_blackholes() {
    if !has_lab(&["gobgpd", "birdc", "bgpd", "tcpreplay", "ip"]) {
        return;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (ns, folder) = (Namespace::new(), Folder::new());
    let lab = Lab::up(&ns, &PEERS);
    let file = folder.write("config.toml", &config("mirror = true\ninterfaces = [\"vx0\"]\n"));
    let mut daemon = Process::start(&folder, "floodwall", ns.command(FLOODWALL).arg("run").arg("--config").arg(file));
    established(&lab);
    let attack = dns_attack(&folder);
    let traffic = replay(&ns, &folder, "tcpreplay", &attack);
    rule_comes_and_goes(&lab, &daemon);
    drop(traffic);

    let mut recording = Recording::new(12);
    for last in 5..15 {
        recording.ordinary(host(last), 0.0, 14.0, 60.0);
    }
    recording.inseparable_flood(host(9), 1.0, 10.0, 6_000.0);
    recording.inseparable_flood(host6(9), 1.0, 10.0, 6_000.0);
    let capture = folder.capture("inseparable.pcap", &mut recording);
    let traffic = replay(&ns, &folder, "tcpreplay", &capture);
    for (family, prefix) in [("ipv4", "203.0.113.9/32"), ("ipv6", "2001:db8::9/128")] {
        for peer in PEERS {
            let routes = wait_for(&format!("the blackhole at {peer}"), 40, || {
                lab.routes(peer, family).filter(|r| !r.is_empty())
            });
            assert_eq!(routes.len(), 1, "{peer}: {routes:?}");
            assert_eq!(routes[0]["components"]["prefix"], prefix, "{peer}");
            let communities = routes[0]["communities"].to_string();
            assert!(communities.contains("65535:666") && communities.contains("65535:65281"), "{peer}: {communities}");
        }
    }
    for peer in PEERS {
        assert_eq!(
            lab.routes(peer, "ipv4-flowspec").map(|r| r.len()),
            Some(0),
            "no rule helped, so none is there: {peer}"
        );
    }
    drop(traffic);
    // While the blackholes are still there: its end takes them back, as `on_shutdown` says.
    assert!(daemon.stop(), "ends when asked to");
    for peer in PEERS {
        wait_for(&format!("everything gone at {peer}"), 30, || lab.routes(peer, "ipv4").filter(Vec::is_empty));
    }
}
