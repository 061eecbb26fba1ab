//! What acts at once (decision 3) is carried out here: an [`Order`], whoever built it, becomes what the pipeline takes. Runs on the
//! control thread, between two ticks.

use std::collections::BTreeSet;

use bgp::{Class, Route};
use flowspec::{Action as Traffic, Condition, FlowSpec, Pattern};
use operator::identity::{Shown, route_id};
use operator::order::{RouteName, Side};
use operator::{Answer, Caller, Failure, Order, Outcome, Why};
use policy::{DryRun, Mitigation, OrderError, Refusal};
use serde_json::{Value, json};
use traffic::{Prefix, Time};

use super::permit;
use crate::pipeline::{Done, Pipeline, Request as Action};

/// Routes that a refusal lists at most.
const LISTED: usize = 10;
/// Remote bans at most, each of one or two routes.
const MAX_BANS: usize = 10_000;

/// Carries out an order.
///
/// # Errors
/// It is refused, not for this caller, or names nothing in force.
pub fn carry_out(pipeline: &mut Pipeline, now: Time, caller: &Caller, order: &Order) -> Outcome {
    let terms = terms(now, caller, order);
    match order {
        Order::AddRule { rule, .. } => {
            act(pipeline, now, caller, Action::AddFlowSpec { rule: rule.clone(), order: terms })
        }
        Order::AddBlackhole { prefix, .. } => {
            act(pipeline, now, caller, Action::AddBlackhole { prefix: *prefix, order: terms })
        }
        Order::EndRule { name, .. } | Order::EndBlackhole { name, .. } => {
            let route = named(pipeline, caller, name)?;
            act(pipeline, now, caller, Action::Remove { route, order: terms })
        }
        Order::Approve { name, .. } => {
            let route = named(pipeline, caller, name)?;
            act(pipeline, now, caller, Action::Approve { route, order: terms })
        }
        Order::Extend { name, .. } => {
            let route = named(pipeline, caller, name)?;
            let in_force = pipeline.policy().all().find(|m| m.route == route);
            let actions = in_force.map(|m| m.announcement.actions.clone()).unwrap_or_default();
            act(pipeline, now, caller, adding(route, actions, terms))
        }
        Order::EndAllRules { .. } => end_all_rules(pipeline, now, caller, &terms),
        Order::Ban { host, side, .. } => ban(pipeline, now, caller, *host, *side, &terms),
        Order::Unban { within, side, .. } => unban(pipeline, now, caller, *within, *side, &terms),
        Order::Announcing { on: true, .. } => act(pipeline, now, caller, Action::Resume(terms)),
        Order::Announcing { on: false, .. } => act(pipeline, now, caller, Action::WithdrawAll(terms)),
    }
}

/// Who orders something, why, and until when.
fn terms(now: Time, caller: &Caller, order: &Order) -> policy::Order {
    let reason = order.reason().or(caller.reason.as_deref()).unwrap_or_default();
    policy::Order::new(&caller.user, reason, now, order.lasts())
}

/// What adds a route.
fn adding(route: Route, actions: Vec<Traffic>, order: policy::Order) -> Action {
    match route {
        Route::FlowSpec(pattern) => Action::AddFlowSpec { rule: FlowSpec { pattern, actions }, order },
        Route::Unicast(prefix) => Action::AddBlackhole { prefix, order },
    }
}

/// Does what a caller orders, if he may: the one way into the pipeline.
fn act(pipeline: &mut Pipeline, now: Time, caller: &Caller, action: Action) -> Outcome {
    permit::permit(caller, pipeline.policy().space(), &action)?;
    permit::has_room(caller, pipeline.policy(), &action)?;
    let (removed, approved) = match &action {
        Action::Remove { route, .. } => (Some(route.clone()), None),
        Action::Approve { route, .. } => (None, Some(route.clone())),
        Action::AddFlowSpec { .. }
        | Action::AddBlackhole { .. }
        | Action::WithdrawAll(_)
        | Action::Resume(_)
        | Action::Held(_)
        | Action::AssumeHeld
        | Action::DoubtRates(_) => (None, None),
    };
    let done = pipeline.request(now, action).map_err(|error| Failure::of(why(&error), error.to_string()))?;
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

/// What kind of refusal the policy's is.
const fn why(error: &OrderError) -> Why {
    match error {
        OrderError::Rail(_) | OrderError::Validation(_) | OrderError::NoPeer(_) | OrderError::Expired => Why::Refused,
        OrderError::Policy(Refusal::Rules) => Why::Exhausted,
        OrderError::Policy(_) => Why::Conflict,
        OrderError::Unknown(_) => Why::Missing,
    }
}

fn end_all_rules(pipeline: &mut Pipeline, now: Time, caller: &Caller, order: &policy::Order) -> Outcome {
    let rules = pipeline.policy().all().map(|m| m.route.clone()).filter(|r| matches!(r, Route::FlowSpec(_)));
    let actions: Vec<Action> = rules.map(|route| Action::Remove { route, order: order.clone() }).collect();
    // All or none.
    actions.iter().try_for_each(|action| permit::permit(caller, pipeline.policy().space(), action))?;
    let count = actions.len();
    for action in actions {
        // The same rule may have stood for several targets; the first removal took all of them.
        let _ = pipeline.request(now, action);
    }
    Ok(Answer::new(format!("{count} rules withdrawn"), &count))
}

/// A ban of a foreign host: as a FlowSpec rule that discards what comes from it, as a blackhole route, or as both.
fn ban(
    pipeline: &mut Pipeline,
    now: Time,
    caller: &Caller,
    host: Prefix,
    side: Side,
    order: &policy::Order,
) -> Outcome {
    let is_new = |pipeline: &Pipeline, route: &Route| !pipeline.policy().all().any(|m| m.route == *route);
    let routes = ban_routes(host, side)?;
    let space = pipeline.policy().space();
    for route in &routes {
        let (class, _) = space.classify(route).map_err(|e| Failure::of(Why::Refused, format!("refused: {e}")))?;
        if class != Class::RemoteBan {
            let text = "refused: it lies inside networks_list: a remote ban is for a foreign host (set blackhole is for own ones)";
            return Err(Failure::of(Why::Refused, text));
        }
    }
    let new = routes.iter().filter(|route| is_new(pipeline, route)).count();
    if new > 0 && bans(pipeline).count() + new > 2 * MAX_BANS {
        return Err(Failure::of(Why::Exhausted, format!("refused: there are {MAX_BANS} remote bans already")));
    }
    let mut put = Vec::new();
    for route in routes {
        let is_new = is_new(pipeline, &route);
        match act(pipeline, now, caller, adding(route.clone(), vec![Traffic::Discard], order.clone())) {
            Ok(answer) => put.push((route, is_new, answer)),
            Err(failure) => {
                // Both or none.
                for (route, ..) in put.into_iter().filter(|(_, is_new, _)| *is_new) {
                    let _ = pipeline.request(now, Action::Remove { route, order: order.clone() });
                }
                return Err(failure);
            }
        }
    }
    let texts: Vec<&str> = put.iter().map(|(.., answer)| answer.text.as_str()).collect();
    let values: Vec<_> = put.iter().map(|(.., answer)| &answer.json).collect();
    Ok(Answer::new(texts.join("\n"), &json!({ "routes": values })))
}

fn ban_routes(host: Prefix, side: Side) -> Result<Vec<Route>, Failure> {
    let mut routes = Vec::new();
    if side.has_source() {
        let pattern = Pattern::new(vec![Condition::Source(host, 0)]).map_err(|e| Failure::malformed(e.to_string()))?;
        routes.push(Route::FlowSpec(pattern));
    }
    if side.has_destination() {
        routes.push(Route::Unicast(host));
    }
    Ok(routes)
}

fn unban(
    pipeline: &mut Pipeline,
    now: Time,
    caller: &Caller,
    within: Option<Prefix>,
    side: Side,
    order: &policy::Order,
) -> Outcome {
    let wanted = |route: &Route| match route {
        Route::FlowSpec(_) => side.has_source(),
        Route::Unicast(_) => side.has_destination(),
    };
    let routes = bans(pipeline).filter(|(route, host)| wanted(route) && within.is_none_or(|p| p.contains(host)));
    let actions: Vec<Action> = routes.map(|(route, _)| Action::Remove { route, order: order.clone() }).collect();
    if actions.is_empty() {
        let what = within.map_or_else(|| "all".to_owned(), |prefix| prefix.to_string());
        return Err(Failure::of(Why::Missing, format!("{what} is not banned: see show remote_blackhole")));
    }
    // All or none.
    actions.iter().try_for_each(|action| permit::permit(caller, pipeline.policy().space(), action))?;
    let count = actions.len();
    for action in actions {
        act(pipeline, now, caller, action)?;
    }
    Ok(Answer::new(format!("{count} routes withdrawn"), &json!({ "withdrawn": count })))
}

/// Every remote ban in force: its route and the banned host.
pub(super) fn bans(pipeline: &Pipeline) -> impl Iterator<Item = (Route, Prefix)> + '_ {
    let space = pipeline.policy().space();
    pipeline.policy().all().filter_map(move |m| match space.classify(&m.route) {
        Ok((Class::RemoteBan, host)) => Some((m.route.clone(), host)),
        _ => None,
    })
}

/// The one route in force that a text names, among those that the caller may see.
fn named(pipeline: &Pipeline, caller: &Caller, name: &RouteName) -> Result<Route, Failure> {
    let text = name.as_str();
    let space = pipeline.policy().space();
    let seen = |route: &Route| permit::sees(caller, space, route);
    let mut named: Vec<Route> = pipeline.named(text).into_iter().filter(seen).collect();
    if let [_] = named[..] {
        return Ok(named.remove(0));
    }
    let is_unknown = named.is_empty();
    let (why, listed) = if is_unknown {
        let all: BTreeSet<&Route> = pipeline.policy().all().map(|m| &m.route).filter(|route| seen(route)).collect();
        (format!("nothing in force is called {text:?}"), all.into_iter().cloned().collect())
    } else {
        (format!("{text:?} is not the name of one route"), named)
    };
    let kind = match (caller.prefixes.is_empty(), is_unknown) {
        // Whether others have such a route is theirs to know.
        (false, _) => Why::Forbidden,
        (true, true) => Why::Missing,
        (true, false) => Why::Conflict,
    };
    let text = format!("{why}; nothing was done. {}", list(pipeline, &listed));
    let json = json!({ "routes": listed.iter().map(about).collect::<Vec<_>>() });
    Err(Failure { text, json, why: kind })
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

#[cfg(test)]
mod tests {
    use operator::Request;

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
        let words = operator::words::split(&format!("{verb} blackhole {words}")).expect("words");
        let Request::Order(order) = operator::words::parse(&words)? else { panic!("no order: {words:?}") };
        carry_out(pipeline, Time::from_seconds(1_000, 0), caller, &order)
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
            assert_eq!(refused.why == Why::Forbidden, others, "{words}");
            assert_eq!(refused.json["routes"].as_array().map_or(0, Vec::len), 3, "{words}: {}", refused.text);
        }
        assert!(run("delete", &mut pipeline, &tenant, "203.0.113.2 reason 203.0.113.9").is_ok());
        assert!(!pipeline.policy().all().any(|m| m.route.to_string() == "203.0.113.2/32"));
        assert_eq!(pipeline.policy().all().count(), 39);
    }
}
