//! [`Status`] in the text format of Prometheus (version 0.0.4).

use std::fmt::Write;

use operator::status::{Status, Volume};

/// Writes one family: help, type, then its samples.
#[derive(Debug)]
pub struct Family<'a>(&'a mut String, &'static str);

impl<'a> Family<'a> {
    /// Begins it.
    pub fn new(out: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self(out, name)
    }

    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{}{labels} {value}", self.1);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All metrics.
pub(crate) fn text(status: &Status) -> String {
    let mut out = String::with_capacity(8192);
    sources(&mut out, status);
    exporters(&mut out, status);
    traffic(&mut out, status);
    detection(&mut out, status);
    peers(&mut out, status);
    out
}

fn sources(out: &mut String, status: &Status) {
    let mut counter = |name, help, value: fn(&operator::status::Source) -> u64| {
        let mut family = Family::new(out, name, "counter", help);
        for (i, source) in status.sources.iter().enumerate() {
            family.sample(&[("source", &source.name), ("worker", &i.to_string())], value(source));
        }
    };
    counter("floodwall_flows_total", "Flow records and sFlow flow samples decoded.", |s| s.flows);
    counter("floodwall_packets_total", "Packets captured from mirror ports.", |s| s.packets);
    counter("floodwall_datagrams_total", "Export datagrams of a known protocol.", |s| s.datagrams);
    counter("floodwall_option_records_total", "Options data records decoded.", |s| s.option_records);
    counter("floodwall_kernel_drops_total", "Datagrams or packets the kernel dropped.", |s| s.kernel_drops);
    let mut family = Family::new(out, "floodwall_errors_total", "counter", "Input that was not understood, by reason.");
    let mut by_reason = std::collections::BTreeMap::new();
    for (reason, count) in status.sources.iter().flat_map(|s| &s.errors) {
        *by_reason.entry(*reason).or_insert(0) += count;
    }
    for (reason, count) in by_reason {
        family.sample(&[("reason", reason)], count);
    }
}

/// Exporters with families of their own at most; a flood of forged ones must not become one of time series.
const MAX_EXPORTERS: usize = 512;

fn exporters(out: &mut String, status: &Status) {
    let count = status.exporters.len() as u64;
    Family::new(out, "floodwall_exporters", "gauge", "Exporters that are known.").sample(&[], count);
    // Those of use first.
    let mut shown: Vec<_> = status.exporters.iter().collect();
    shown.sort_by_key(|e| std::cmp::Reverse(e.records));
    shown.truncate(MAX_EXPORTERS);
    let mut family = |name, kind, help, value: fn(&operator::status::ExporterStatus) -> u64| {
        let mut family = Family::new(out, name, kind, help);
        shown.iter().for_each(|e| family.sample(&[("exporter", &e.address)], value(e)));
    };
    for counter in operator::status::ExporterStatus::COUNTERS {
        family(counter.metric, "counter", counter.help, counter.value);
    }
    family("floodwall_exporter_sampling_rate", "gauge", "N of 1:N sampling in force.", |e| e.sampling_rate.into());
    family(
        "floodwall_exporter_measured_sampling_rate",
        "gauge",
        "N as counters show, if it contradicts; else 0.",
        |e| e.measured_rate.unwrap_or(0).into(),
    );
    family("floodwall_exporter_silent_seconds", "gauge", "Seconds since it spoke.", |e| whole(e.silent_seconds));
    family("floodwall_exporter_clock_skew_milliseconds", "gauge", "Its clock against ours, without sign.", |e| {
        e.clock_skew_ms.unsigned_abs()
    });
    let mut aside =
        Family::new(out, "floodwall_exporter_not_counted_total", "counter", "Records that are no traffic, by reason.");
    for exporter in &shown {
        for (reason, count) in &exporter.not_counted {
            aside.sample(&[("exporter", &exporter.address), ("reason", reason)], *count);
        }
    }
    let mut errors =
        Family::new(out, "floodwall_exporter_errors_total", "counter", "What was not understood, by reason.");
    for exporter in shown {
        for (reason, count) in &exporter.errors {
            errors.sample(&[("exporter", &exporter.address), ("reason", reason)], *count);
        }
    }
}

fn traffic(out: &mut String, status: &Status) {
    let volumes: [(&str, Volume); 7] = [
        ("incoming", status.incoming),
        ("outgoing", status.outgoing),
        ("internal", status.internal),
        ("other", status.other),
        ("filtered", status.filtered),
        ("dropped", status.dropped),
        ("overflow", status.overflow),
    ];
    let mut family =
        Family::new(out, "floodwall_traffic_packets_total", "counter", "Packets counted, scaled by sampling.");
    volumes.iter().for_each(|(name, volume)| family.sample(&[("direction", name)], volume.packets));
    let mut family =
        Family::new(out, "floodwall_traffic_bytes_total", "counter", "IP bytes counted, scaled by sampling.");
    volumes.iter().for_each(|(name, volume)| family.sample(&[("direction", name)], volume.bytes));
}

fn detection(out: &mut String, status: &Status) {
    let mut one = |name, kind, help, value| Family::new(out, name, kind, help).sample(&[], value);
    one("floodwall_uptime_seconds", "gauge", "Seconds since the daemon started.", whole(status.uptime_seconds));
    one("floodwall_dry_run", "gauge", "1 when automatic decisions are not announced.", status.dry_run.into());
    one("floodwall_hosts_active", "gauge", "Own hosts with traffic in the last tick.", status.active_hosts);
    one("floodwall_attacks_active", "gauge", "Attacks in progress.", status.attacks.len() as u64);
    one("floodwall_alarms_total", "counter", "Alarms raised.", status.alarms);
    one("floodwall_orphaned_buckets_total", "counter", "Buckets that did not fill in time.", status.orphaned_buckets);
    one("floodwall_capture_drops_total", "counter", "Samples of captured hosts dropped.", status.capture_drops);
    let count = |dry: bool| status.mitigations.iter().filter(|m| m.dry_run.is_some() == dry).count() as u64;
    let (wanted, dry) = (count(false), count(true));
    let mut family = Family::new(out, "floodwall_mitigations", "gauge", "Rules and blackholes in force.");
    family.sample(&[("state", "wanted")], wanted);
    family.sample(&[("state", "dry_run")], dry);
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since the start")]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

fn peers(out: &mut String, status: &Status) {
    let mut family = Family::new(out, "floodwall_rules", "gauge", "Routes sent to a peer over the present session.");
    status.peers.iter().for_each(|p| family.sample(&[("peer", &p.name)], p.routes_sent as u64));
    let mut family = Family::new(out, "floodwall_bgp_established", "gauge", "1 while a BGP session is established.");
    status.peers.iter().for_each(|p| family.sample(&[("peer", &p.name)], u64::from(p.state == "established")));
    let mut family = Family::new(out, "floodwall_bgp_resets_total", "counter", "BGP sessions that ended.");
    status.peers.iter().for_each(|p| family.sample(&[("peer", &p.name)], p.resets));
}

#[cfg(test)]
mod tests {
    use operator::status::Source;

    use super::*;

    #[test]
    fn every_family_has_help_and_type_once_and_labels_are_escaped() {
        let source = Source { name: "a\"b\\c".to_owned(), flows: 7, ..Source::default() };
        let text = text(&Status { sources: vec![source], ..Status::default() });
        assert!(text.contains("floodwall_flows_total{source=\"a\\\"b\\\\c\",worker=\"0\"} 7\n"), "{text}");
        let mut types: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let all = types.len();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), all);
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            assert!(value.parse::<f64>().is_ok() && name.starts_with("floodwall_"), "{line}");
        }
    }
}
