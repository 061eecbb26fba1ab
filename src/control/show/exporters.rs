//! `show exporters`: who sends flow exports, and how they fare.

use operator::status::ExporterStatus;
use operator::{Answer, Outcome, table};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "exporters",
    arguments: "",
    help: "exporters of flow telemetry: rate, losses, sampling in force and its source, what is wrong",
    run: show,
};

const HEADER: [&str; 9] =
    ["EXPORTER", "PROTOCOLS", "LAST SEEN", "RECORDS/S", "RECORDS", "LOST", "SAMPLING", "CLOCK", "REMARKS"];

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let exporters = &view.status.exporters;
    if exporters.is_empty() {
        return Ok(Answer::new("no exporter has been heard", exporters));
    }
    let rows: Vec<Vec<String>> = exporters.iter().map(row).collect();
    Ok(Answer::new(table(&HEADER, &rows), exporters))
}

fn row(e: &ExporterStatus) -> Vec<String> {
    vec![
        e.address.clone(),
        e.protocols.join(" "),
        format!("{:.1} s ago", e.silent_seconds),
        format!("{:.0}", e.records_per_second),
        e.records.to_string(),
        e.lost_records.to_string(),
        if e.sampling_rate == 0 { "-".to_owned() } else { format!("1:{} ({})", e.sampling_rate, e.sampling_source) },
        // NetFlow and IPFIX carry whole seconds.
        if e.clock_skew_ms.abs() < 2000 { "ok".to_owned() } else { format!("{:+} s", e.clock_skew_ms / 1000) },
        remarks(e),
    ]
}

/// What an operator should look at.
fn remarks(e: &ExporterStatus) -> String {
    let mut remarks = Vec::new();
    if let Some(peer) = &e.peer {
        remarks.push(format!("stands for the router of peer {peer}"));
    }
    if let Some(measured) = e.measured_rate {
        remarks.push(format!("announces 1:{}, its counters show 1:{measured}", e.sampling_rate));
    }
    if e.counter_only {
        remarks.push("counters only: no flow sampling is configured".to_owned());
    }
    if e.duplicates > 0 {
        remarks.push(format!("{} duplicates left out", e.duplicates));
    }
    remarks.extend(e.not_counted.iter().map(|(reason, count)| format!("{count} {reason} not counted")));
    if e.vantage != "auto" {
        remarks.push(e.vantage.to_owned());
    }
    remarks.extend(e.errors.iter().map(|(reason, count)| format!("{reason} {count}")));
    if remarks.is_empty() { "-".to_owned() } else { remarks.join("; ") }
}
