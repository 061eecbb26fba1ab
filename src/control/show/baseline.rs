//! `show baseline`: what was learned of ordinary traffic, and the thresholds it suggests.

use detector::{Kept, Unit, rate_text};
use operator::{Answer, Outcome, table};
use traffic::Prefix;

use super::{Category, View};

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
    let learned = baselines.learned(view.now);
    if learned.is_empty() {
        return Ok(Answer::new("nothing has been learned yet", &learned));
    }
    let rows: Vec<Vec<String>> = learned
        .iter()
        .map(|l| {
            let rate = |n: u64| rate_text(l.unit, n);
            let suggested = rate(l.suggested_threshold);
            let samples = l.samples.zip(l.usable).map(|(all, usable)| format!("{usable} of {all}"));
            vec![
                l.of.clone(),
                l.direction.to_string(),
                rate(l.p50),
                rate(l.p99),
                rate(l.p999),
                rate(l.max),
                suggested,
                l.from.clone(),
                samples.unwrap_or_default(),
            ]
        })
        .collect();
    let header =
        ["OF", "DIRECTION", "MEDIAN", "99 %", "99.9 %", "MOST", "SUGGESTED THRESHOLD", "WHICH IS", "USABLE SAMPLES"];
    Ok(Answer::new(format!("{}\n{}", table(&header, &rows), usable(view)), &learned))
}

fn of_host(view: &View<'_>, text: &str) -> Outcome {
    let own: Prefix = text.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?;
    let baselines = view.pipeline.detector().baselines();
    let found: Vec<Kept> = baselines.reservoirs(view.now).filter(|k| own.contains(&k.host)).take(100).collect();
    if found.is_empty() {
        return Ok(Answer::new(format!("no samples of {own}: its host group's are used"), &found));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates for people")]
    let rate = |r: f64| rate_text(Unit::Packets, r as u64);
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|k| {
            let samples = format!("{} of {}", k.usable, k.samples);
            vec![k.host.to_string(), samples, rate(k.incoming_pps), rate(k.outgoing_pps)]
        })
        .collect();
    let rows = table(&["HOST", "USABLE SAMPLES", "INCOMING", "OUTGOING"], &rows);
    Ok(Answer::new(format!("{rows}\n{}", usable(view)), &found))
}

/// What makes a sample usable.
fn usable(view: &View<'_>) -> String {
    let forget = view.pipeline.detector().config().learning.forget.as_secs();
    format!("usable samples are older than baseline_forget ({forget} s)")
}
