//! Traffic and attacks that nobody here recorded: ordinary traffic never alarms, floods do, scans do not.
//!
//! The corpus is found through `FLOODWALL_CORPUS` (default `../shared/corpus`); without it the tests say that they are skipped.

#![allow(clippy::print_stdout, reason = "what was skipped, and figures")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::{FLOODWALL, Folder};

/// A capture with what is known of it.
struct Recorded {
    capture: PathBuf,
    name: String,
    expected: Value,
}

fn corpus(kind: &str) -> Vec<Recorded> {
    let Some(root) = support::outside::corpus() else { return Vec::new() };
    let folder = std::fs::read_dir(root.join(kind)).expect("a folder of the corpus");
    let mut captures: Vec<PathBuf> = folder.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    captures.sort();
    let recorded = |capture: PathBuf| {
        let name = capture.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
        let text = std::fs::read(root.join(format!("expected/{kind}.{name}.json"))).expect("what is expected");
        Recorded { capture, name, expected: serde_json::from_slice(&text).expect("JSON") }
    };
    captures.into_iter().map(recorded).collect()
}

impl Recorded {
    /// The `count` hosts that receive most, as own ones.
    fn networks(&self, count: usize) -> Vec<String> {
        let top = self.expected["stats"]["top_dst"].as_array().expect("top destinations").iter().take(count);
        let prefix = |host: &str| if host.contains(':') { format!("\"{host}/128\"") } else { format!("\"{host}/32\"") };
        top.filter_map(|t| t[0].as_str()).map(prefix).collect()
    }

    /// Packets per second to the one who receives most.
    fn rate(&self) -> f64 {
        let stats = &self.expected["stats"];
        let packets = stats["top_dst"][0][1].as_f64().unwrap_or(0.0);
        packets / stats["duration_s"].as_f64().expect("a duration").max(0.001)
    }

    /// Alarms of a replay with so many own hosts and these keys of the global host group.
    fn alarms(&self, folder: &Folder, own_hosts: usize, thresholds: &str) -> Vec<String> {
        let networks = self.networks(own_hosts).join(", ");
        // Forged sources may be our own addresses.
        let main = format!("[main]\nnetworks_list = [{networks}]\nprocess_internal_traffic_as_external = true\n");
        let config = format!("{main}\n[hostgroup.global]\n{thresholds}");
        let config = folder.write(&format!("{}.toml", self.name), &config);
        let output = Command::new(FLOODWALL)
            .arg("replay")
            .arg(&self.capture)
            .arg("--config")
            .arg(config)
            .arg("--json")
            .output()
            .expect("runs");
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        let outcome: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let events = outcome["events"].as_array().expect("events");
        events.iter().filter(|e| e["event"] == "alarm").map(ToString::to_string).collect()
    }
}

/// 20,000 packets and 1000 megabits per second, for each host, each way.
const ORDINARY: &str = "threshold_pps = 20000\nthreshold_mbps = 1000\nban_for_pps_outgoing = true\nthreshold_pps_outgoing = 20000\n\
                        ban_for_bandwidth_outgoing = true\nthreshold_mbps_outgoing = 1000\n";

#[test]
fn ordinary_traffic_never_alarms() {
    let folder = Folder::new();
    for recorded in corpus("legit") {
        assert_eq!(recorded.alarms(&folder, usize::MAX, ORDINARY), [""; 0], "{}", recorded.name);
    }
}

#[test]
fn floods_alarm_and_scans_do_not() {
    let folder = Folder::new();
    for recorded in corpus("attacks") {
        let kind = recorded.expected["judgement"]["type"].as_str().expect("a judgement");
        if kind.contains("scan") {
            assert_eq!(recorded.alarms(&folder, usize::MAX, ORDINARY), [""; 0], "{}: {kind}", recorded.name);
            continue;
        }
        // A quarter of the flood; but some captures are milliseconds cut out of floods of 190,000 packets per second and more, and
        // hold less than a threshold of that size tolerates as a burst: for those, what such a capture would be in a second.
        let packets = recorded.expected["stats"]["top_dst"][0][1].as_f64().expect("a number");
        let threshold = (recorded.rate() / 4.0).min(packets * 1.5).clamp(1.0, 20_000.0);
        let thresholds = format!("threshold_pps = {threshold:.0}\n");
        let alarms = recorded.alarms(&folder, 1, &thresholds);
        println!(
            "{}: {kind}, {:.0} packets/s, threshold {threshold:.0}: {} alarms",
            recorded.name,
            recorded.rate(),
            alarms.len()
        );
        assert!(!alarms.is_empty(), "{}: {kind}: no alarm at {threshold:.0}", recorded.name);
    }
}
