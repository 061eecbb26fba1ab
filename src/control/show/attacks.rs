//! `show attacks`: attacks in progress.

use operator::{Answer, Outcome, table};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "attacks",
    arguments: "",
    help: "attacks in progress: who, how much, over which threshold",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let attacks = &view.status.attacks;
    if attacks.is_empty() {
        return Ok(Answer::new("no attacks", attacks));
    }
    let rows: Vec<Vec<String>> = attacks
        .iter()
        .map(|a| {
            let seconds = view.now.as_seconds() - a.detected;
            vec![
                a.prefix.to_string(),
                a.direction.to_string(),
                a.group.clone(),
                a.threshold.clone(),
                format!("{seconds:.0} s"),
                a.packets_per_second.to_string(),
                format!("{:.1}", mbps(a.bytes_per_second)),
                a.peak_packets_per_second.to_string(),
            ]
        })
        .collect();
    let header = ["HOST", "DIRECTION", "GROUP", "OVER", "SINCE", "PPS", "MBPS", "PEAK PPS"];
    Ok(Answer::new(table(&header, &rows), attacks))
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn mbps(bytes_per_second: u64) -> f64 {
    bytes_per_second as f64 / 125_000.0
}
