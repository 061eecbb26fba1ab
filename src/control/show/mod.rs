//! What can be shown: one file per category. Each runs on the control thread, between two ticks, and only looks.

mod attacks;
mod bgp;
mod blackhole;
mod events;
mod exporters;
mod flowspec;
mod total_traffic_counters;

use collectors::Time;
use config::Config;
use serde_json::json;

use super::{Answer, Outcome, table};
use crate::api::Status;
use crate::api::status::MitigationStatus;
use crate::pipeline::Pipeline;

/// What a category sees.
#[derive(Debug)]
pub struct View<'a> {
    /// Now.
    pub now: Time,
    /// Everything that decides.
    pub pipeline: &'a Pipeline,
    /// The status as of now.
    pub status: &'a Status,
    /// The configuration in force.
    pub config: &'a Config,
}

/// Something that can be shown.
#[derive(Debug, Clone, Copy)]
pub struct Category {
    /// The word behind `show`.
    pub name: &'static str,
    /// The words behind that, for the help: `IP`; empty if there are none.
    pub arguments: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Shows it.
    pub run: fn(&View<'_>, &[String]) -> Outcome,
}

/// Every category: a new one is a file of this folder and a line here.
pub const CATEGORIES: &[Category] = &[
    attacks::CATEGORY,
    bgp::CATEGORY,
    blackhole::CATEGORY,
    events::CATEGORY,
    exporters::CATEGORY,
    flowspec::CATEGORY,
    total_traffic_counters::CATEGORY,
];

/// Categories that the configuration answers, besides its sections.
pub const OF_CONFIGURATION: &[(&str, &str)] = &[
    ("audit", "who did what, when and why; N records"),
    ("candidate", "your candidate"),
    ("compare", "what your candidate changes"),
    ("history", "commits; N: what changed since then"),
    ("running", "the configuration in force"),
];

/// Shows a category; without one, what there is to show.
///
/// # Errors
/// An unknown category, or wrong arguments; says what to write instead.
pub fn show(view: &View<'_>, category: &str, arguments: &[String]) -> Outcome {
    if category.is_empty() {
        let mut rows: Vec<Vec<String>> = CATEGORIES
            .iter()
            .map(|c| vec![format!("{} {}", c.name, c.arguments).trim().to_owned(), c.help.to_owned()])
            .collect();
        rows.extend(OF_CONFIGURATION.iter().map(|(name, help)| vec![(*name).to_owned(), (*help).to_owned()]));
        rows.extend(
            config::schema::Section::ALL.map(|s| vec![s.name().to_owned(), format!("settings of [{}]", s.name())]),
        );
        rows.sort();
        return Ok(Answer::new(table(&["CATEGORY", "SHOWS"], &rows), &names()));
    }
    let Some(found) = CATEGORIES.iter().find(|c| c.name == category) else {
        return Err(format!("there is no {category:?} to show; there are: {}", names().join(", ")).into());
    };
    (found.run)(view, arguments)
}

/// Everything that can be shown, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = CATEGORIES.iter().map(|c| c.name).collect();
    names.extend(OF_CONFIGURATION.iter().map(|(name, _)| *name));
    names.extend(config::schema::Section::ALL.map(config::schema::Section::name));
    names.sort_unstable();
    names.dedup();
    names
}

/// For categories that take no words.
pub(super) fn no_arguments(category: &str, arguments: &[String]) -> Result<(), super::Failure> {
    match arguments.first() {
        None => Ok(()),
        Some(word) => Err(format!("show {category} takes no further words: remove {word:?}").into()),
    }
}

/// Routes of one kind.
fn mitigations(view: &View<'_>, category: &str, kind: &str, arguments: &[String]) -> Outcome {
    no_arguments(category, arguments)?;
    let routes: Vec<&MitigationStatus> = view.status.mitigations.iter().filter(|m| m.kind == kind).collect();
    let row = |m: &&MitigationStatus| {
        let state = match m.dry_run {
            Some(_) => "dry run".to_owned(),
            None if m.sent_to.is_empty() => "not sent to any peer yet".to_owned(),
            None => format!("sent to {}", m.sent_to.join(", ")),
        };
        let hits = m.hits.map_or_else(|| "-".to_owned(), |h| h.packets.to_string());
        vec![m.prefix.clone(), m.route.clone(), state, hits]
    };
    let text = if routes.is_empty() {
        format!("no {kind} routes")
    } else {
        table(&["HOST", "ROUTE", "STATE", "PACKETS HIT"], &routes.iter().map(row).collect::<Vec<_>>())
    };
    Ok(Answer::new(text, &json!(routes)))
}
