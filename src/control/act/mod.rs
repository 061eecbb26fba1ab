//! What acts at once, without `commit` (decision 3): one file per category.
//!
//! An action runs on the control thread, between two ticks, with the pipeline in its hands. Whether the caller may write was
//! checked; whether he may act on just this, `carry_out` asks. What comes of it goes to the audit log.

mod announcing;
mod blackhole;
mod extend;
mod flowspec;
mod remote_blackhole;

use std::collections::BTreeSet;
use std::time::Duration;

use bgp::Route;
use config::words::Verb;
use policy::{DryRun, Mitigation, Order};
use serde_json::{Value, json};
use traffic::Time;

pub(in crate::control) use remote_blackhole::bans;

use operator::identity::{Shown, route_id};
use operator::{Answer, Caller, Failure, Outcome};

use super::{Request, access};
use crate::pipeline::{self, Done, Pipeline};

/// Routes that a refusal lists at most.
const LISTED: usize = 10;

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

impl Options {
    /// For orders that have no end of their own.
    fn without_end(self) -> Result<Self, String> {
        if self.lasts.is_some() { Err("expires has no meaning here: leave it out".to_owned()) } else { Ok(self) }
    }
}

/// Takes `expires TIME` and `reason TEXT` from behind the words, in any order.
pub(super) fn parse_options(arguments: &[String]) -> Result<(Vec<String>, Options), String> {
    parse_options_beside(arguments, &[])
}

/// The same where other words are options too: a reason ends at an option, whichever it is. A text in quotation marks is one word
/// and no option.
pub(super) fn parse_options_beside(arguments: &[String], others: &[&str]) -> Result<(Vec<String>, Options), String> {
    let mut words = Vec::new();
    let mut options = Options::default();
    let mut in_reason = false;
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "expires" if !words.is_empty() => {
                let quote = if in_reason {
                    "; in a reason, put the text into quotation marks: reason 'it expires'"
                } else {
                    ""
                };
                let text = rest.next().ok_or_else(|| format!("expires when? Write expires 30m{quote}"))?;
                if options.lasts.is_some() {
                    return Err("expires stands twice: write it once".to_owned());
                }
                options.lasts = Some(duration(text).map_err(|wrong| format!("{wrong}{quote}"))?);
                in_reason = false;
            }
            "reason" if !words.is_empty() && options.reason.is_none() => {
                options.reason = Some(String::new());
                in_reason = true;
            }
            other if others.contains(&other) => {
                in_reason = false;
                words.push(word.clone());
            }
            _ => match options.reason.as_mut().filter(|_| in_reason) {
                Some(reason) if reason.is_empty() => reason.clone_from(word),
                Some(reason) => {
                    reason.push(' ');
                    reason.push_str(word);
                }
                None => words.push(word.clone()),
            },
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

/// The one route in force that a text names, among those that the caller may see.
fn named(pipeline: &Pipeline, caller: &Caller, text: &str) -> Result<Route, Failure> {
    let space = pipeline.policy().space();
    let seen = |route: &Route| access::sees(caller, space, route);
    let mut named: Vec<Route> = pipeline.named(text).into_iter().filter(seen).collect();
    if let [_] = named[..] {
        return Ok(named.remove(0));
    }
    let (why, listed) = if named.is_empty() {
        let all: BTreeSet<&Route> = pipeline.policy().all().map(|m| &m.route).filter(|route| seen(route)).collect();
        (format!("nothing in force is called {text:?}"), all.into_iter().cloned().collect())
    } else {
        (format!("{text:?} is not the name of one route"), named)
    };
    let mut failure = Failure::new(format!("{why}; nothing was done. {}", list(pipeline, &listed)), json!(null));
    failure.json = json!({ "routes": listed.iter().map(about).collect::<Vec<_>>() });
    // Whether others have such a route is theirs to know.
    failure.is_forbidden = !caller.prefixes.is_empty();
    Err(failure)
}

/// Routes by their shortest names, the first [`LISTED`].
fn list(pipeline: &Pipeline, routes: &[Route]) -> String {
    if routes.is_empty() {
        return "There is none".to_owned();
    }
    let ids: Vec<String> = pipeline.policy().all().map(|m| route_id(&m.route)).collect();
    let shown = Shown::of(ids.iter().map(String::as_str));
    let line = |route: &Route| format!("\n  {}  {route}", shown.short(&route_id(route)));
    let lines: String = routes.iter().take(LISTED).map(line).collect();
    let more = routes.len().saturating_sub(LISTED);
    format!("There are:{lines}{}", if more > 0 { format!("\n  and {more} more: see show") } else { String::new() })
}

/// A route for programs.
fn about(route: &Route) -> Value {
    json!({ "id": route_id(route), "route": route.to_string() })
}

/// Carries out what a caller orders, if he may: the one way from words to the pipeline.
fn carry_out(pipeline: &mut Pipeline, now: Time, caller: &Caller, order: pipeline::Request) -> Outcome {
    access::permit(caller, pipeline.policy().space(), &order)?;
    access::has_room(caller, pipeline.policy(), &order)?;
    let (removed, approved) = match &order {
        pipeline::Request::Remove { route, .. } => (Some(route.clone()), None),
        pipeline::Request::Approve { route, .. } => (None, Some(route.clone())),
        pipeline::Request::AddFlowSpec { .. }
        | pipeline::Request::AddBlackhole { .. }
        | pipeline::Request::WithdrawAll(_)
        | pipeline::Request::Resume(_)
        | pipeline::Request::Held(_)
        | pipeline::Request::AssumeHeld
        | pipeline::Request::DoubtRates(_) => (None, None),
    };
    let done = pipeline.request(now, order).map_err(|e| e.to_string())?;
    if let Some(route) = removed {
        return Ok(Answer::new(format!("{route}: withdrawn; id {}", route_id(&route)), &about(&route)));
    }
    if let Some(m) = approved.and_then(|route| pipeline.policy().all().find(|m| m.route == route)) {
        return Ok(in_force(now, m));
    }
    Ok(match done {
        Done::Taken => Answer::new("done", &true),
        Done::Withdrawn(routes) => Answer::new(
            format!("{routes} routes withdrawn; nothing is announced until: set announcing enable"),
            &json!({ "withdrawn": routes }),
        ),
        Done::Route(m) => in_force(now, &m),
    })
}

/// A route that is in force, or would be, and until when.
fn in_force(now: Time, m: &Mitigation) -> Answer {
    let id = route_id(&m.route);
    let state = m.dry_run.map_or("announced", DryRun::advice);
    let end = match m.order.as_ref().map(|order| order.expires) {
        Some(Some(at)) => format!("; ends in {}", super::show::span(Time(at).since(now).as_secs_f64())),
        Some(None) => "; it never ends by itself".to_owned(),
        None => String::new(),
    };
    let text = format!("{}: {}\n{state}{end}; id {id}", m.route, m.announcement.text());
    Answer::new(text, &json!({ "id": id, "route": m.route.to_string(), "dry_run": m.dry_run }))
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

    /// A pipeline in which hosts of 203.0.113.0/24 are blackholed.
    fn with_blackholes(hosts: std::ops::RangeInclusive<u8>) -> Pipeline {
        let networks: Vec<traffic::Prefix> = vec!["203.0.113.0/24".parse().expect("literal prefix")];
        let detector = detector::Config { networks: networks.clone(), ..detector::Config::default() };
        let (mut pipeline, _) = Pipeline::new(detector, policy::Config { networks, ..policy::Config::default() }, 1, 1);
        for n in hosts {
            let answer = run("set", &mut pipeline, &Caller::default(), &format!("203.0.113.{n}"));
            assert!(answer.expect("taken").text.contains("never ends"));
        }
        pipeline
    }

    fn run(verb: &str, pipeline: &mut Pipeline, caller: &Caller, words: &str) -> Outcome {
        let action = if verb == "set" { blackhole::SET } else { blackhole::DELETE };
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        (action.run)(pipeline, Time::from_seconds(1_000, 0), caller, &words)
    }

    #[test]
    fn a_shown_id_ends_the_one_blackhole_that_it_is_shown_for() {
        let mut pipeline = with_blackholes(1..=40);
        let routes: Vec<Route> = pipeline.policy().all().map(|m| m.route.clone()).collect();
        let ids: Vec<String> = routes.iter().map(route_id).collect();
        let shown = Shown::of(ids.iter().map(String::as_str));
        for (i, id) in ids.iter().enumerate().step_by(3) {
            let answer = run("delete", &mut pipeline, &Caller::default(), shown.short(id)).expect("one route");
            assert_eq!(answer.json["route"], routes[i].to_string(), "the answer names the route");
            assert!(
                answer.text.contains(&routes[i].to_string()) && !pipeline.policy().all().any(|m| m.route == routes[i])
            );
        }
        assert_eq!(pipeline.policy().all().count(), 26);
        let stale = run("delete", &mut pipeline, &Caller::default(), shown.short(&ids[0])).expect_err("it has gone");
        assert!(stale.text.contains("nothing in force") && stale.text.contains("203.0.113."), "{}", stale.text);
        let exact = run("delete", &mut pipeline, &Caller::default(), &ids[1].to_uppercase()).expect("the whole id");
        assert_eq!(exact.json["id"], ids[1].as_str());
    }

    #[test]
    fn digits_of_several_ids_are_refused_with_the_list() {
        let mut pipeline = with_blackholes(1..=40);
        let ids: Vec<String> = pipeline.policy().all().map(|m| route_id(&m.route)).collect();
        // Of 40 ids at least three begin with the same of 16 digits.
        let digit = ids.iter().map(|id| &id[..1]).max_by_key(|d| ids.iter().filter(|id| id.starts_with(d)).count());
        let digit = digit.expect("there are ids").to_owned();
        let refused = run("delete", &mut pipeline, &Caller::default(), &digit).expect_err("of several");
        let listed = refused.json["routes"].as_array().map_or(0, Vec::len);
        assert_eq!(listed, ids.iter().filter(|id| id.starts_with(&digit)).count());
        assert_eq!(pipeline.policy().all().count(), 40, "nothing was done");
        // A token for some prefixes is told of its own alone.
        let tenant = Caller { prefixes: vec!["203.0.113.0/30".parse().expect("literal prefix")], ..Caller::default() };
        for (words, others) in [("203.0.113.9", true), ("ffffffffffffffff", true), (ids[8].as_str(), true)] {
            let refused = run("delete", &mut pipeline, &tenant, words).expect_err("not his");
            assert_eq!(refused.is_forbidden, others, "{words}");
            assert_eq!(refused.json["routes"].as_array().map_or(0, Vec::len), 3, "{words}: {}", refused.text);
        }
        assert!(run("delete", &mut pipeline, &tenant, "203.0.113.2 reason 203.0.113.9").is_ok());
        assert!(!pipeline.policy().all().any(|m| m.route.to_string() == "203.0.113.2/32"));
        assert_eq!(pipeline.policy().all().count(), 39);
    }

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

    #[test]
    fn an_option_is_an_option_in_any_order_and_a_quoted_text_is_none() {
        let parsed = |text: &str| parse_options(&super::super::words::split(text).expect("words"));
        let (rest, options) = parsed("203.0.113.9 reason maintenance of DC2 expires 10m").expect("valid");
        assert_eq!(rest, ["203.0.113.9"]);
        assert_eq!(
            (options.lasts, options.reason.as_deref()),
            (Some(Duration::from_secs(600)), Some("maintenance of DC2"))
        );
        let (_, options) = parsed("203.0.113.9 reason 'the contract expires soon'").expect("valid");
        assert_eq!((options.lasts, options.reason.as_deref()), (None, Some("the contract expires soon")));
        for (text, part) in [
            ("203.0.113.9 reason the contract expires soon", "quotation marks"),
            ("203.0.113.9 reason it expires", "quotation marks"),
            ("203.0.113.9 expires 10m reason x expires 5m", "twice"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let words: Vec<String> =
            "x reason the tenant of prefixes 203.0.113.0/28 expires 5m".split(' ').map(str::to_owned).collect();
        let (rest, options) = parse_options_beside(&words, &["prefixes"]).expect("valid");
        assert_eq!((rest.len(), options.reason.as_deref()), (3, Some("the tenant of")), "{rest:?}");
    }
}
