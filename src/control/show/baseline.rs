//! `show baseline`: what was learned of ordinary traffic, and the thresholds it suggests.

use detector::{Prefix, Unit, rate_text};
use serde_json::json;

use super::{Category, View};
use crate::control::{Answer, Outcome, table};

pub(super) const CATEGORY: Category = Category {
    name: "baseline",
    arguments: "[IP]",
    help: "learned rates by host group with suggested thresholds; of a host, its ordinary traffic",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    let baselines = view.pipeline.detector().baselines();
    match arguments {
        [] => {}
        [host] => return of_host(view, host),
        [_, more, ..] => return Err(format!("show baseline takes one address: remove {more:?}").into()),
    }
    let learned = baselines.learned();
    if learned.is_empty() {
        return Ok(Answer::new("nothing has been learned yet", &learned));
    }
    let rows: Vec<Vec<String>> = learned
        .iter()
        .map(|l| {
            let rate = |n: u64| rate_text(l.unit, n);
            let suggested = rate(l.suggested_threshold);
            vec![
                l.of.clone(),
                l.direction.to_string(),
                rate(l.p50),
                rate(l.p99),
                rate(l.p999),
                rate(l.max),
                suggested,
                l.from.clone(),
            ]
        })
        .collect();
    let header = ["OF", "DIRECTION", "MEDIAN", "99 %", "99.9 %", "MOST", "SUGGESTED THRESHOLD", "WHICH IS"];
    Ok(Answer::new(table(&header, &rows), &learned))
}

fn of_host(view: &View<'_>, text: &str) -> Outcome {
    let own: Prefix = text.parse().map_err(|e: detector::target::PrefixError| e.to_string())?;
    let found: Vec<_> =
        view.pipeline.detector().baselines().reservoirs().filter(|(p, ..)| own.contains(p)).take(100).collect();
    let json: Vec<_> = found
        .iter()
        .map(|(host, samples, [incoming, outgoing])| {
            json!({ "host": host, "samples": samples, "incoming_pps": incoming, "outgoing_pps": outgoing })
        })
        .collect();
    if found.is_empty() {
        return Ok(Answer::new(format!("no samples of {own}: its host group's are used"), &json));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates for people")]
    let rate = |r: f64| rate_text(Unit::Packets, r as u64);
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(host, samples, [incoming, outgoing])| {
            vec![host.to_string(), samples.to_string(), rate(*incoming), rate(*outgoing)]
        })
        .collect();
    Ok(Answer::new(table(&["HOST", "SAMPLES", "INCOMING", "OUTGOING"], &rows), &json))
}
