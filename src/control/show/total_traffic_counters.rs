//! `show total_traffic_counters`: all traffic since the start, by where it went.

use operator::status::Volume;
use operator::{Answer, Outcome, table};
use serde_json::json;

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "total_traffic_counters",
    arguments: "",
    help: "all traffic since the start, by direction",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let s = view.status;
    let all: [(&str, Volume); 6] = [
        ("incoming", s.incoming),
        ("outgoing", s.outgoing),
        ("internal", s.internal),
        ("other", s.other),
        ("filtered", s.filtered),
        ("dropped", s.dropped),
    ];
    let rows: Vec<Vec<String>> =
        all.iter().map(|(name, v)| vec![(*name).to_owned(), v.packets.to_string(), v.bytes.to_string()]).collect();
    let json: serde_json::Map<String, serde_json::Value> =
        all.iter().map(|(name, v)| ((*name).to_owned(), json!(v))).collect();
    Ok(Answer::new(table(&["TRAFFIC", "PACKETS", "BYTES"], &rows), &json))
}
