//! A commit of fifty options while 100,000 flows arrive every second and a real router holds a session.
#![allow(clippy::print_stdout, reason = "a test that is skipped, or has measured, says so")]

mod support;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::{FLOODWALL, Folder, Lab, Namespace, Process, has_lab, lab_peer, wait_for};

/// Flow records a second, and those of one datagram.
const FLOWS: u64 = 100_000;
const RECORDS: u8 = 30;
/// Packets that a record stands for.
const PACKETS: u32 = 2;

/// A NetFlow v5 datagram of records to 240 hosts in turn.
fn datagram(sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0, 5, 0, RECORDS];
    bytes.extend([0u8; 12]);
    bytes.extend(u32::try_from(sequence * u64::from(RECORDS) % (1 << 32)).expect("fits").to_be_bytes());
    bytes.extend([0u8; 4]);
    for i in 0..RECORDS {
        let host = u8::try_from((sequence * u64::from(RECORDS) + u64::from(i)) % 240).expect("small") + 1;
        let mut record = [0u8; 48];
        record[..4].copy_from_slice(&[198, 51, 100, i]);
        record[4..8].copy_from_slice(&[203, 0, 113, host]);
        record[16..20].copy_from_slice(&PACKETS.to_be_bytes());
        record[20..24].copy_from_slice(&(PACKETS * 500).to_be_bytes());
        record[32..34].copy_from_slice(&53u16.to_be_bytes());
        record[34..36].copy_from_slice(&4242u16.to_be_bytes());
        record[38] = 17;
        bytes.extend(record);
    }
    bytes
}

/// Sends from inside a namespace until told to stop; returns the records sent.
fn exporter(
    namespace: &Namespace,
    port: u16,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    let file = std::fs::File::open(namespace.path()).expect("the namespace");
    std::thread::spawn(move || {
        // Only this thread enters.
        nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        socket.connect(("127.0.0.1", port)).expect("loopback");
        let start = operator::clock::now();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let elapsed = u64::try_from(operator::clock::now().since(start).as_micros()).expect("a test is short");
            let due = elapsed * FLOWS / u64::from(RECORDS) / 1_000_000;
            while number < due {
                if socket.send(&datagram(number)).is_err() {
                    // The test has failed: there is no daemon any more.
                    return;
                }
                number += 1;
                sent.store(number * u64::from(RECORDS), Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Fifty options: thresholds with their switches in a new group, limits, communities, a port.
fn changes() -> Vec<String> {
    let mut all = vec!["set hostgroup edge networks 203.0.113.0/29".to_owned()];
    for direction in ["", "_outgoing"] {
        for (name, switch, value) in [
            ("pps", "pps", 400),
            ("mbps", "bandwidth", 400),
            ("flows", "flows", 100_000),
            ("tcp_pps", "tcp_pps", 390),
            ("tcp_mbps", "tcp_bandwidth", 390),
            ("udp_mbps", "udp_bandwidth", 390),
            ("icmp_pps", "icmp_pps", 390),
            ("icmp_mbps", "icmp_bandwidth", 390),
            ("tcp_syn_pps", "tcp_syn_pps", 390),
            ("ip_fragments_pps", "ip_fragments_pps", 390),
        ] {
            all.push(format!("set hostgroup edge threshold_{name}{direction} {value}"));
            all.push(format!("set hostgroup edge ban_for_{switch}{direction} true"));
        }
    }
    all.extend(
        [
            "ban_time 1000",
            "attack_end_delay 30",
            "max_rules 150",
            "max_rules_per_host 6",
            "minimum_coverage_percent 20",
            "blackhole_after 9",
            "ban_details_records_count 40",
            "bucket_traffic_collection_timeout 60",
        ]
        .map(|words| format!("set main {words}")),
    );
    all.push("set bgp gobgp communities 65001:7".to_owned());
    all
}

#[test]
fn fifty_options_change_under_load_and_nothing_is_lost() {
    if !has_lab(&["gobgpd", "gobgp", "ip"]) {
        return;
    }
    let namespace = Namespace::new();
    let lab = Lab::up(&namespace, &["gobgp"]);
    let folder = Folder::new();
    let config = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\"]\nenable_ban = true\nnetflow = true\nnetflow_host = \"127.0.0.1\"\n\
         netflow_ports = [2055]\nburst_tolerance_ms = 50\n\n[hostgroup.global]\nthreshold_pps = 100000\n\n{}",
        lab_peer("gobgp")
    );
    let file = folder.write("edge.toml", &config);
    let mut daemon =
        Process::start(&folder, "edge", namespace.command(FLOODWALL).arg("run").arg("--config").arg(&file));
    let socket = folder.join("edge.sock");
    let ask = |line: &str| {
        let output =
            Command::new(FLOODWALL).args(line.split(' ')).arg("--json").env("FLOODWALL_SOCKET", &socket).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    wait_for("the session", 30, || (lab.session("gobgp") == "established").then_some(()));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = exporter(&namespace, 2055, Arc::clone(&stop), Arc::clone(&sent));
    let packets = || ask("show total_traffic_counters")["incoming"]["packets"].as_u64().expect("a number");
    wait_for("two seconds of load", 20, || (packets() > 2 * FLOWS * u64::from(PACKETS)).then_some(()));
    assert_eq!(ask("show attacks").as_array().map(Vec::len), Some(0), "about 830 packets/s a host are ordinary");
    let changes = changes();
    assert!(changes.len() >= 50, "{}", changes.len());
    changes.iter().for_each(|words| drop(ask(words)));
    let before = packets();
    let committed = ask("commit");
    assert!(committed["differences"].as_array().expect("a list").len() >= 50, "{committed}");
    // Counters only grow, at every look.
    let mut last = before;
    for _ in 0..10 {
        let now = packets();
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    // The seven hosts of the group are over their new threshold of 400 now. By the daemon's own clock: from the commit to the first alarm.
    let events = wait_for("an alarm", 10, || {
        let events = ask("show events");
        let found = events.as_array()?.iter().any(|e| e["event"] == "alarm");
        found.then_some(events)
    });
    let time = |name: &str| {
        let first = events.as_array().expect("a list").iter().find(|e| e["event"] == name);
        first.unwrap_or_else(|| panic!("no {name} among the events"))["time"].as_f64().expect("a time")
    };
    let delay = time("alarm") - time("configured");
    assert!(events.to_string().len() < 100_000, "few events");
    println!("from the commit in force to the first alarm: {:.0} ms", delay * 1000.0);
    assert!((0.0..0.2).contains(&delay), "new thresholds within 200 ms: {delay}");
    wait_for("two more seconds", 20, || (packets() > before + 2 * FLOWS * u64::from(PACKETS)).then_some(()));
    stop.store(true, Ordering::Relaxed);
    sender.join().expect("sends to the end");
    let total = sent.load(Ordering::Relaxed);
    let counted = wait_for("the last record", 10, || {
        let now = packets();
        (now >= total * u64::from(PACKETS)).then_some(now)
    });
    assert_eq!(counted, total * u64::from(PACKETS), "every record was counted once");
    let peer = &ask("show bgp")[0];
    assert_eq!((peer["state"].as_str(), peer["resets"].as_u64()), (Some("established"), Some(0)), "{peer}");
    assert_eq!(lab.session("gobgp"), "established");
    assert!(daemon.stop());
}
