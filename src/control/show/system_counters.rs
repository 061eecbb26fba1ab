//! `show system_counters`: how the daemon itself fares.

use operator::{Answer, Outcome, table};
use serde_json::json;

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "system_counters",
    arguments: "",
    help: "the daemon itself: records, drops, alarms, buckets",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let s = view.status;
    let sum = |f: fn(&operator::status::Source) -> u64| s.sources.iter().map(f).sum::<u64>();
    let all: [(&str, u64); 11] = [
        ("datagrams", sum(|s| s.datagrams)),
        ("flow_records", sum(|s| s.flows)),
        ("mirrored_packets", sum(|s| s.packets)),
        ("kernel_drops", sum(|s| s.kernel_drops)),
        ("not_understood", sum(|s| s.errors.values().sum())),
        ("active_hosts", s.active_hosts),
        ("alarms", s.alarms),
        ("orphaned_buckets", s.orphaned_buckets),
        ("capture_drops", s.capture_drops),
        ("hosts_beyond_the_limit_packets", s.overflow.packets),
        ("uptime_seconds", std::time::Duration::from_secs_f64(s.uptime_seconds.max(0.0)).as_secs()),
    ];
    let rows: Vec<Vec<String>> = all.iter().map(|(name, n)| vec![(*name).to_owned(), n.to_string()]).collect();
    let json: serde_json::Map<String, serde_json::Value> =
        all.iter().map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
    Ok(Answer::new(table(&["COUNTER", "VALUE"], &rows), &json))
}
