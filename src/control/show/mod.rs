//! What can be shown: one file per category. Each runs on the control thread, between two ticks, and only looks.

mod attacks;
mod baseline;
mod bgp;
mod blackhole;
mod enforcer;
mod events;
mod exporters;
mod flowspec;
mod host_counters;
mod interfaces;
mod remote_blackhole;
mod single_host_counters;
mod status;
mod system_counters;
mod total_traffic_counters;

use std::collections::BTreeSet;

use config::Config;
use operator::identity::{Shown, begins};
use operator::status::{Effect, MitigationStatus, Status};
use operator::{Answer, Outcome, table};
use serde_json::json;
use traffic::Time;

use crate::announcers::Announcers;
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
    /// Who announces, and the journal.
    pub announcers: &'a Announcers,
    /// The enforcer of `enforce_here`.
    pub enforcer: Option<&'a crate::enforcer::Status>,
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
    baseline::CATEGORY,
    bgp::CATEGORY,
    blackhole::CATEGORY,
    enforcer::CATEGORY,
    events::CATEGORY,
    exporters::CATEGORY,
    flowspec::CATEGORY,
    host_counters::HOSTS,
    host_counters::NETWORKS,
    interfaces::CATEGORY,
    remote_blackhole::CATEGORY,
    single_host_counters::CATEGORY,
    status::CATEGORY,
    system_counters::CATEGORY,
    total_traffic_counters::CATEGORY,
];

/// Categories that the configuration answers, besides its sections.
pub const OF_CONFIGURATION: &[(&str, &str)] = &[
    ("audit", "who did what, when and why; N records"),
    ("candidate", "your candidate"),
    ("compare", "what your candidate changes"),
    ("history", "commits; N: what changed since then"),
    ("running", "the configuration in force"),
    ("token", "who may use the API"),
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
pub(in crate::control) fn no_arguments(category: &str, arguments: &[String]) -> Result<(), operator::Failure> {
    match arguments.first() {
        None => Ok(()),
        Some(word) => Err(format!("show {category} takes no further words: remove {word:?}").into()),
    }
}

/// Routes of one kind; `history ROUTE` tells what became of one.
fn mitigations(view: &View<'_>, category: &str, kinds: &[Effect], arguments: &[String]) -> Outcome {
    if arguments.first().is_some_and(|word| word == "history") {
        return history(view, &arguments[1..].join(" "));
    }
    no_arguments(category, arguments)?;
    let routes: Vec<&MitigationStatus> = view.status.mitigations.iter().filter(|m| kinds.contains(&m.kind)).collect();
    let now = view.now.as_seconds();
    let ids = Shown::of(view.status.mitigations.iter().map(|m| m.id.as_str()));
    let row = |m: &&MitigationStatus| {
        let state = match m.dry_run {
            Some(why) => why.advice().to_owned(),
            None if m.sent_to.is_empty() => "not sent to any peer yet".to_owned(),
            None => format!("sent to {}", m.sent_to.join(", ")),
        };
        let not_sent: Vec<String> = m.not_sent.iter().map(|(peer, why)| format!("not to {peer}: {why}")).collect();
        let state = std::iter::once(state).chain(not_sent).collect::<Vec<_>>().join("; ");
        let origin = match &m.order {
            Some(order) if order.reason.is_empty() => format!("by {}", order.owner),
            Some(order) => format!("by {}: {}", order.owner, order.reason),
            None => format!("mined, {:.0} %", m.coverage * 100.0),
        };
        let ends = match m.ends {
            Some(ends) if ends > now => format!("in {}", span(ends - now)),
            Some(_) => "with the attack".to_owned(),
            None => "never".to_owned(),
        };
        let packets = |v: Option<operator::status::Volume>| v.map_or_else(|| "-".to_owned(), |h| h.packets.to_string());
        // What telemetry saw, and what an enforcer of this installation took.
        let hits = match m.enforced {
            _ if m.dry_run.is_some() => format!("would have hit {}", packets(m.would_have_hit)),
            Some(_) => format!("{} ({} taken)", packets(m.hits), packets(m.enforced)),
            None => packets(m.hits),
        };
        vec![
            ids.short(&m.id).to_owned(),
            m.route.to_string(),
            m.action.clone(),
            origin,
            span(now - m.since),
            ends,
            hits,
            state,
        ]
    };
    let text = if routes.is_empty() {
        format!("no {category} routes")
    } else {
        let head = ["ID", "ROUTE", "ACTION", "ORIGIN", "AGE", "ENDS", "PACKETS HIT", "STATE"];
        table(&head, &routes.iter().map(row).collect::<Vec<_>>())
    };
    Ok(Answer::new(text, &json!(routes)))
}

/// What became of a route: from the journal.
fn history(view: &View<'_>, route: &str) -> Outcome {
    let named: BTreeSet<String> =
        view.status.mitigations.iter().filter(|m| begins(&m.id, route)).map(|m| m.route.to_string()).collect();
    if named.len() > 1 {
        let routes: Vec<String> = named.into_iter().collect();
        return Err(format!("{route:?} is not the name of one route; there are:\n  {}", routes.join("\n  ")).into());
    }
    let words = named.first().map_or_else(|| route.to_owned(), Clone::clone);
    let lines = view.announcers.history((!words.is_empty()).then_some(&words), 500).map_err(|e| e.to_string())?;
    let now = view.now.as_seconds();
    let row = |l: &crate::store::Line| {
        vec![format!("{} ago", span(now - l.time)), l.event.clone(), l.text.clone(), l.owner.clone(), l.reason.clone()]
    };
    let text = table(&["WHEN", "EVENT", "WHAT", "WHO", "WHY"], &lines.iter().map(row).collect::<Vec<_>>());
    let json: Vec<_> = lines
        .iter()
        .map(|l| json!({"time": l.time, "event": l.event, "route": l.route, "text": l.text, "owner": l.owner, "reason": l.reason}))
        .collect();
    Ok(Answer::new(text, &json))
}

/// A time span in words.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds for people")]
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
