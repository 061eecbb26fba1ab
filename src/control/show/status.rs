//! `show status`: everything that the daemon says about itself.

use operator::{Answer, Outcome};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category =
    Category { name: "status", arguments: "", help: "the daemon at a glance; everything it knows as JSON", run: show };

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let s = view.status;
    let mode = if s.dry_run { "dry run: announcing nothing by itself" } else { "announcing" };
    let established = s.peers.iter().filter(|p| p.state == "established").count();
    let text = format!(
        "floodwall {}, up {:.0} s, {mode}\n{} sources, {} of {} BGP sessions established\n{} attacks, {} rules and blackholes, \
         {} active hosts, {} alarms since the start",
        s.version,
        s.uptime_seconds,
        s.sources.len(),
        established,
        s.peers.len(),
        s.attacks.len(),
        s.mitigations.len(),
        s.active_hosts,
        s.alarms
    );
    Ok(Answer::new(text, s))
}
