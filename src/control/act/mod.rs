//! What acts at once, without `commit` (decision 3): one file per category.
//!
//! An action runs on the control thread, between two ticks, with the pipeline in its hands. Whether the caller may write was
//! checked, and what comes of it goes to the audit log.

mod announcing;
mod blackhole;
mod extend;
mod flowspec;
mod remote_blackhole;

use std::time::Duration;

use collectors::Time;
use config::words::Verb;
use mitigation::policy::state::route_id;
use mitigation::{DryRun, Order, OrderError};
use serde_json::json;

pub(in crate::control) use remote_blackhole::bans;

use super::{Answer, Caller, Outcome, Request};
use crate::pipeline::{Done, Pipeline};

/// Something that acts at once.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// `set` or `delete`.
    pub verb: Verb,
    /// The word behind it.
    pub category: &'static str,
    /// The words behind that, for the help: `IP`.
    pub arguments: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Does it.
    pub run: fn(&mut Pipeline, Time, &Caller, &[String]) -> Outcome,
}

/// Every action: a new one is a file of this folder and a line here.
pub const ACTIONS: &[Action] = &[
    announcing::APPROVE,
    announcing::SET,
    blackhole::DELETE,
    blackhole::SET,
    extend::SET,
    flowspec::DELETE,
    flowspec::SET,
    remote_blackhole::DELETE,
    remote_blackhole::SET,
];

/// What may follow the words of an action.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) lasts: Option<Duration>,
    reason: Option<String>,
}

/// Takes `expires TIME` and `reason TEXT` from the end of the words.
pub(super) fn parse_options(arguments: &[String]) -> Result<(Vec<String>, Options), String> {
    let mut words = Vec::new();
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "expires" if !words.is_empty() => {
                let text = rest.next().ok_or("expires when? Write expires 30m")?;
                options.lasts = Some(duration(text)?);
            }
            "reason" if !words.is_empty() => {
                let text: Vec<&str> = rest.by_ref().map(String::as_str).collect();
                options.reason = Some(text.join(" "));
            }
            _ => words.push(word.clone()),
        }
    }
    Ok((words, options))
}

/// `90`, `90s`, `30m`, `2h`, `7d`: seconds, minutes, hours, days.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write for example 30m, 2h or 7d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|s| (1..=315_360_000).contains(s)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Who orders something, why, and until when.
#[allow(clippy::unnecessary_wraps, reason = "the callers' question mark")]
fn order(now: Time, caller: &Caller, options: &Options) -> Result<Order, String> {
    let reason = options.reason.as_deref().or(caller.reason.as_deref()).unwrap_or_default();
    Ok(Order::new(&caller.user, reason, now, options.lasts))
}

/// What an order led to.
fn done(result: Result<Done, OrderError>) -> Outcome {
    match result.map_err(|e| e.to_string())? {
        Done::Taken => Ok(Answer::new("done", &true)),
        Done::Withdrawn(routes) => Ok(Answer::new(
            format!("{routes} routes withdrawn; nothing is announced until: set announcing enable"),
            &json!({ "withdrawn": routes }),
        )),
        Done::Route(m) => {
            let id = route_id(&m.route);
            let state = m.dry_run.map_or("announced", DryRun::advice);
            let text = format!("{}: {}\n{state}; id {id}", m.route, m.announcement.text());
            Ok(Answer::new(text, &json!({ "id": id, "route": m.route.to_string(), "dry_run": m.dry_run })))
        }
    }
}

/// The action that a request means, if it means one.
#[must_use]
pub fn find(request: &Request) -> Option<(&'static Action, &[String])> {
    let (verb, category, arguments) = request.edit()?;
    ACTIONS.iter().find(|a| a.verb == verb && a.category == category).map(|action| (action, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_from_the_end_and_times_have_units() {
        let words: Vec<String> =
            "203.0.113.9 expires 2h reason customer asked for it".split(' ').map(str::to_owned).collect();
        let (rest, options) = parse_options(&words).expect("valid");
        assert_eq!(rest, ["203.0.113.9"]);
        assert_eq!(options.lasts, Some(Duration::from_secs(7200)));
        assert_eq!(options.reason.as_deref(), Some("customer asked for it"));
        for wrong in ["", "h", "-1m", "1w", "0", "99999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
