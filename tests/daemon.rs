//! The daemon on loopback: hostile input, dry run, what it remembers.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use collectors::capture::{Datagrams, Reader};
use support::traffic::Random;
use support::{FLOODWALL, Folder, Process, free_port, get, metric, wait_for};

/// The datagrams of a recorded export.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps").join(name);
    let mut extract = Datagrams::default();
    let frames = Reader::open(&path).expect("readable").map(|f| f.expect("whole"));
    frames.filter_map(|f| extract.extract(f.link?, &f)).map(|d| d.payload).collect()
}

struct Running {
    process: Process,
    netflow: SocketAddr,
    sflow: SocketAddr,
    api: SocketAddr,
    file: PathBuf,
    folder: Folder,
}

impl Running {
    fn launch(folder: &Folder, file: &Path) -> Process {
        Process::start(folder, "floodwall", Command::new(FLOODWALL).arg("run").arg("--config").arg(file))
    }

    /// Stopped and started anew, with the state it left.
    fn restart(&mut self) {
        assert!(self.process.stop(), "ends when asked to");
        self.process = Self::launch(&self.folder, &self.file);
        self.process.started();
    }

    /// What words on the command line answer, as JSON.
    fn words(&self, words: &[&str]) -> Option<serde_json::Value> {
        let socket = self.folder.join("floodwall.sock");
        let output = Command::new(FLOODWALL).args(words).arg("--json").env("FLOODWALL_SOCKET", socket).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }
}

fn start(extra: &str) -> Running {
    let folder = Folder::new();
    let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (netflow, sflow, api) = (loopback(free_port()), loopback(free_port()), loopback(free_port()));
    let config = format!(
        "[main]\nnetworks_list = [\"203.0.113.0/24\", \"2001:db8::/32\"]\nnetflow = true\nnetflow_host = \"127.0.0.1\"\n\
         netflow_ports = [{}]\nsflow = true\nsflow_host = \"127.0.0.1\"\nsflow_ports = [{}]\n{extra}\n\
         [api]\nlisten = \"{api}\"\n",
        netflow.port(),
        sflow.port()
    );
    let file = folder.write("config.toml", &config);
    let process = Running::launch(&folder, &file);
    wait_for("the API", 20, || get(api, "/metrics"));
    Running { process, netflow, sflow, api, file, folder }
}

#[test]
fn random_and_truncated_datagrams_are_counted_and_real_exports_still_understood() {
    let mut daemon = start("");
    let seconds: u64 = std::env::var("FLOODWALL_HOSTILE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let real: Vec<Vec<u8>> = [recorded("dns-netflow9.pcap"), recorded("dns-sflow.pcap")].concat();
    let mut random = Random::new(42);
    let below = |random: &mut Random, n: usize| usize::try_from(random.below(n as u64)).expect("small");
    // About 2,000 datagrams a second, in slices of 20 ms.
    for _ in 0..seconds * 50 {
        for i in 0..40 {
            let target = if i % 2 == 0 { daemon.netflow } else { daemon.sflow };
            let mut bytes = real[below(&mut random, real.len())].clone();
            match i % 4 {
                0 => bytes.truncate(below(&mut random, bytes.len())),
                1 => {
                    for _ in 0..8 {
                        let at = below(&mut random, bytes.len());
                        bytes[at] = u8::try_from(random.below(256)).expect("a byte");
                    }
                }
                _ => {
                    bytes = (0..below(&mut random, 1400))
                        .map(|_| u8::try_from(random.below(256)).expect("a byte"))
                        .collect();
                    let versions = [[0, 5], [0, 7], [0, 9], [0, 10], [0, 0]];
                    if bytes.len() > 4 && i % 4 == 3 {
                        bytes[..2].copy_from_slice(&versions[below(&mut random, 5)]);
                        bytes[2..4].copy_from_slice(&[0, 5]);
                    }
                }
            }
            socket.send_to(&bytes, target).expect("loopback");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(daemon.process.is_running(), "{}", daemon.process.log());
    // Counters may be 0.3 s old: wait until they stand still.
    let mut last = None;
    let metrics = wait_for("all counters", 20, || {
        std::thread::sleep(Duration::from_millis(500));
        let text = get(daemon.api, "/metrics")?;
        let count = (metric(&text, "floodwall_flows_total"), metric(&text, "floodwall_errors_total"));
        (last.replace(count) == Some(count)).then_some(text)
    });
    for reason in ["unknown_version", "bad_length", "no_template"] {
        let line = format!("floodwall_errors_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{reason} in\n{metrics}");
    }
    // A healthy exporter at another address is still counted, record by record.
    let before = metric(&metrics, "floodwall_flows_total");
    let healthy = UdpSocket::bind("127.0.0.2:0").expect("binds");
    let export = recorded("dns-netflow9.pcap");
    for datagram in &export {
        healthy.send_to(datagram, daemon.netflow).expect("loopback");
        std::thread::sleep(Duration::from_millis(1));
    }
    wait_for("the records of a healthy exporter", 10, || {
        let now = metric(&get(daemon.api, "/metrics")?, "floodwall_flows_total");
        (now == before + 8612).then_some(())
    });
    assert!(!daemon.process.log().contains("panicked"), "{}", daemon.process.log());
    assert!(daemon.process.stop(), "ends when asked to");
}

#[test]
fn a_fresh_daemon_is_in_dry_run_and_says_what_it_would_announce() {
    let mut daemon = start("\n[hostgroup.global]\nthreshold_pps = 5000\n");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for datagram in recorded("dns-sflow.pcap") {
        socket.send_to(&datagram, daemon.sflow).expect("loopback");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = wait_for("a dry-run rule", 10, || {
        let status: serde_json::Value = serde_json::from_str(&get(daemon.api, "/api/v1/status")?).ok()?;
        (!status["mitigations"].as_array()?.is_empty()).then_some(status)
    });
    assert_eq!(status["dry_run"], true);
    assert_eq!(status["mitigations"][0]["dry_run"], "ban_disabled");
    assert_eq!(status["mitigations"][0]["route"], "flow destination 203.0.113.9/32 protocol udp source-port 53");
    assert!(daemon.process.log().contains("would announce"), "{}", daemon.process.log());
    assert!(daemon.process.stop(), "ends when asked to");
}

#[test]
fn what_was_learned_survives_a_restart() {
    // The recording is to be ordinary here: seconds of suspicion and attack teach nothing (decision 36).
    let mut daemon = start("\n[hostgroup.global]\nthreshold_pps = 10000000\nthreshold_mbps = 100000\n");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    for datagram in recorded("dns-sflow.pcap") {
        socket.send_to(&datagram, daemon.sflow).expect("loopback");
        std::thread::sleep(Duration::from_millis(5));
    }
    let host = ["show", "baseline", "203.0.113.9"];
    let samples = |daemon: &Running| daemon.words(&host)?[0]["samples"].as_u64().filter(|n| *n > 0);
    // What is still on its way is learned within a second.
    let mut last = None;
    let before = wait_for("samples of ordinary traffic that stay the same", 20, || {
        std::thread::sleep(Duration::from_millis(1500));
        let now = samples(&daemon)?;
        (last.replace(now) == Some(now)).then_some(now)
    });
    daemon.restart();
    assert_eq!(samples(&daemon), Some(before));
    // A file that is damaged is told of, and the daemon protects all the same.
    assert!(daemon.process.stop(), "ends when asked to");
    std::fs::write(daemon.folder.join("state").join("baselines"), "floodwall baselines 1\nnothing").expect("writable");
    daemon.process = Running::launch(&daemon.folder, &daemon.file);
    daemon.process.started();
    assert!(daemon.process.log().contains("learning begins anew"), "{}", daemon.process.log());
    assert_eq!(samples(&daemon), None);
}
