//! Whether a caller may do what he orders: which prefix it acts on, and whether his share has room for it. It looks at the route
//! that an order means, never at words (decision 40).

use bgp::{Class, Route};
use operator::access::{OUTSIDE, TOKEN};
use operator::{Caller, Failure, Why};
use policy::Policy;
use policy::rails::Space;
use traffic::Prefix;

use crate::pipeline::Request as Action;

/// What an order acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// This prefix and nothing else.
    Prefix(Prefix),
    /// All, or nobody can tell.
    Everything,
}

/// What an order acts on: the end of its route that is ours, or the foreign host that it bans.
#[must_use]
pub fn subject(space: &Space, order: &Action) -> Subject {
    match order {
        Action::AddFlowSpec { rule, .. } => match space.classify(&Route::FlowSpec(rule.pattern.clone())) {
            Ok((Class::Incoming | Class::RemoteBan, end)) => Subject::Prefix(end),
            // What is dropped on its way out may be anybody's answer.
            Ok((Class::Outgoing, _)) | Err(_) => Subject::Everything,
        },
        Action::AddBlackhole { prefix, .. } => of_route(space, &Route::Unicast(*prefix)),
        Action::Remove { route, .. } | Action::Approve { route, .. } => of_route(space, route),
        Action::WithdrawAll(_) | Action::Resume(_) | Action::Held(_) | Action::AssumeHeld | Action::DoubtRates(_) => {
            Subject::Everything
        }
    }
}

fn of_route(space: &Space, route: &Route) -> Subject {
    space.classify(route).map_or(Subject::Everything, |(_, end)| Subject::Prefix(end))
}

/// Whether a caller may see and end a route.
#[must_use]
pub fn sees(caller: &Caller, space: &Space, route: &Route) -> bool {
    may(caller, of_route(space, route))
}

fn may(caller: &Caller, subject: Subject) -> bool {
    match subject {
        Subject::Prefix(prefix) => caller.sees(&prefix),
        Subject::Everything => caller.prefixes.is_empty(),
    }
}

/// Whether a caller may give an order.
///
/// # Errors
/// It is for some prefixes only, and this is not certainly inside them.
pub fn permit(caller: &Caller, space: &Space, order: &Action) -> Result<(), Failure> {
    if may(caller, subject(space, order)) { Ok(()) } else { Err(Failure::forbidden(OUTSIDE)) }
}

/// Of `max_rules`, what one token with prefixes may use: one part of so many.
const SHARE_OF_ONE: usize = 4;
/// What all tokens together may use: the rest is for the program, whatever is asked for over the network.
const SHARE_OF_ALL: usize = 2;

/// Whether a token that orders a rule has room: rules of tokens never use up what automatic mitigation needs. Remote bans and what
/// is typed on this host are not counted.
///
/// # Errors
/// Its share of `max_rules` is used up.
pub fn has_room(caller: &Caller, policy: &Policy, order: &Action) -> Result<(), Failure> {
    let Action::AddFlowSpec { rule, .. } = order else { return Ok(()) };
    let is_ours = |route: &Route| !matches!(policy.space().classify(route), Ok((Class::RemoteBan, _)));
    let route = Route::FlowSpec(rule.pattern.clone());
    if !caller.is_token || !is_ours(&route) {
        return Ok(());
    }
    let owners = policy.all().filter(|m| m.is_manual() && matches!(m.route, Route::FlowSpec(_)) && is_ours(&m.route));
    let rules: Vec<(&Route, &str)> =
        owners.filter_map(|m| Some((&m.route, m.order.as_ref()?.owner.as_str()))).collect();
    if rules.iter().any(|(there, _)| **there == route) {
        return Ok(());
    }
    let share = |part: usize| (policy.config().max_rules / part).max(1);
    let own = rules.iter().filter(|(_, owner)| *owner == caller.user).count();
    let all = rules.iter().filter(|(_, owner)| owner.starts_with(TOKEN)).count();
    let refused = |whose: &str, share: usize| {
        let text =
            format!("refused: {whose} {share} rules, the share of max_rules that leaves room for others: delete some");
        Err(Failure::of(Why::Exhausted, text))
    };
    if !caller.prefixes.is_empty() && own >= share(SHARE_OF_ONE) {
        return refused("this token has", share(SHARE_OF_ONE));
    }
    if all >= share(SHARE_OF_ALL) {
        return refused("tokens have", share(SHARE_OF_ALL));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_acts_on_the_end_of_its_route_that_is_ours_and_on_nothing_that_words_say() {
        let prefix = |text: &str| text.parse::<Prefix>().expect("literal prefix");
        let networks = vec![prefix("203.0.113.0/24"), prefix("2001:db8::/32")];
        let space = Space::new(&policy::Config { networks, ..policy::Config::default() });
        let order = || policy::Order { reason: "203.0.113.1".to_owned(), ..policy::Order::default() };
        let rule =
            |text: &str| Action::AddFlowSpec { rule: flowspec::json::parse(text).expect("a rule"), order: order() };
        let end = |net: &str| Action::Remove { route: Route::Unicast(prefix(net)), order: order() };
        let add = |net: &str| Action::AddBlackhole { prefix: prefix(net), order: order() };
        for (asked, acts_on) in [
            (add("203.0.113.9"), Some("203.0.113.9/32")),
            (add("203.0.113.0/24"), Some("203.0.113.0/24")),
            (add("198.51.100.7"), Some("198.51.100.7/32")),
            (add("198.51.0.0/16"), None),
            (end("2001:db8::9"), Some("2001:db8::9/128")),
            (end("0.0.0.0/0"), None),
            (
                rule(
                    r#"{"destination_prefix": "203.0.113.9/32", "source_prefix": "203.0.113.1/32", "action_type": "discard"}"#,
                ),
                Some("203.0.113.9/32"),
            ),
            (
                rule(
                    r#"{"destination_prefix": "198.51.100.7/32", "source_prefix": "203.0.113.1/32", "action_type": "discard"}"#,
                ),
                None,
            ),
            (rule(r#"{"source_prefix": "203.0.113.1/32", "action_type": "discard"}"#), None),
            (Action::WithdrawAll(order()), None),
            (Action::Resume(order()), None),
        ] {
            let expected = acts_on.map_or(Subject::Everything, |net| Subject::Prefix(prefix(net)));
            assert_eq!(subject(&space, &asked), expected, "{asked:?}");
        }
        let tenant = Caller { prefixes: vec![prefix("203.0.113.0/28")], ..Caller::default() };
        let refused = |order: &Action| permit(&tenant, &space, order).err().map(|f| f.why == Why::Forbidden);
        assert_eq!(refused(&add("203.0.113.9")), None);
        for other in [add("203.0.113.99"), add("203.0.113.0/24"), end("203.0.113.99"), Action::Resume(order())] {
            assert_eq!(refused(&other), Some(true), "{other:?}");
            assert!(permit(&Caller::default(), &space, &other).is_ok(), "whoever is not confined: {other:?}");
        }
    }

    #[test]
    fn tokens_have_a_share_of_the_rules_and_the_program_keeps_the_rest() {
        let prefix = |text: &str| text.parse::<Prefix>().expect("literal prefix");
        let config =
            policy::Config { networks: vec![prefix("203.0.113.0/24")], max_rules: 16, ..policy::Config::default() };
        let mut policy = Policy::new(config);
        let now = traffic::Time::from_seconds(1_000, 0);
        let token = |name: &str, net: Option<&str>| Caller {
            user: format!("{TOKEN}{name}"),
            is_token: true,
            prefixes: net.map(prefix).into_iter().collect(),
            ..Caller::default()
        };
        let mut take = |caller: &Caller, hosts: std::ops::Range<u8>| {
            let taken = hosts.filter(|n| {
                let text = format!(
                    r#"{{"destination_prefix": "203.0.113.{n}/32", "protocols": ["udp"], "action_type": "discard"}}"#
                );
                let rule = flowspec::json::parse(&text).expect("a rule");
                let order = policy::Order::new(&caller.user, "", now, None);
                let asked = Action::AddFlowSpec { rule: rule.clone(), order: order.clone() };
                has_room(caller, &policy, &asked).is_ok() && policy.order_flowspec(now, &rule, order).is_ok()
            });
            taken.count()
        };
        assert_eq!(take(&token("a", Some("203.0.113.0/27")), 0..20), 4, "a quarter for a customer");
        assert_eq!(take(&token("a", Some("203.0.113.0/27")), 0..4), 4, "what is there may be ordered anew");
        assert_eq!(take(&token("b", Some("203.0.113.32/27")), 32..50), 4);
        assert_eq!(take(&token("c", Some("203.0.113.64/27")), 64..70), 0, "half for all of them");
        assert_eq!(take(&token("noc", None), 100..110), 0);
        assert_eq!(
            take(&Caller { user: "alice".to_owned(), ..Caller::default() }, 120..140),
            4,
            "who is on this host has the rest, less mitigation's quarter"
        );
    }
}
