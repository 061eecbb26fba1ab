//! Who may do what through the network: scopes, and which of them a request takes.
//!
//! The control socket knows only readers and writers. A token has scopes; [`needed`] is the one table that says which request takes
//! which, whether it comes as JSON, in FastNetMon's paths or in ban2bgp's. A token with prefixes acts on these alone: [`subject`] is
//! the one table that says what an order acts on, and it looks at the parsed order, never at words.

use bgp::{Class, Route};
use operator::{Caller, Failure};
use policy::Policy;
use policy::rails::Space;
use serde::{Deserialize, Serialize};
use traffic::Prefix;

use super::{Request, act};
use crate::pipeline::Request as Order;

/// What the name of a caller with a token begins with, in orders and in the audit log.
pub const TOKEN: &str = "token ";
/// Why a token with prefixes is refused.
pub const OUTSIDE: &str = "this token is for its own prefixes alone, and this is not certainly inside them";

/// A right of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Announce and withdraw rules and blackholes, use the kill switch.
    Operate,
    /// Approve what waits for it.
    Approve,
    /// Edit and commit the configuration, but for what runs programs, leaves the host or lets others in.
    Config,
    /// Everything, tokens included.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Operate, Self::Approve, Self::Config, Self::Admin];

    /// As typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Config => "config",
            Self::Admin => "admin",
        }
    }

    /// Whether scopes contain this one: `admin` is all of them, and whoever may do anything may look.
    #[must_use]
    pub fn is_in(self, scopes: &[Self]) -> bool {
        scopes.contains(&self) || scopes.contains(&Self::Admin) || self == Self::Read && !scopes.is_empty()
    }
}

/// The scope that a request takes.
#[must_use]
pub fn needed(request: &Request) -> Scope {
    match request {
        Request::Show { category, .. } if category == "token" => Scope::Admin,
        // What a candidate holds is its owner's.
        Request::Show { category, .. } if category == "candidate" || category == "compare" => Scope::Config,
        Request::Show { .. } | Request::Complete { .. } => Scope::Read,
        Request::Set { category, .. } | Request::Delete { category, .. } if category == "token" => Scope::Admin,
        Request::Set { category, .. } if category == "approve" => Scope::Approve,
        Request::Set { .. } | Request::Delete { .. } if act::find(request).is_some() => Scope::Operate,
        Request::Set { category, arguments } | Request::Delete { category, arguments }
            if reaches_out(category, arguments) =>
        {
            Scope::Admin
        }
        Request::Set { .. }
        | Request::Delete { .. }
        | Request::Commit { .. }
        | Request::Confirm
        | Request::Rollback { .. }
        | Request::Rebase => Scope::Config,
        // The file may hold anything.
        Request::Reload => Scope::Admin,
    }
}

/// Whether an edit is of a key that runs programs, leaves the host or lets others in. [`super::configuration`] asks the same of
/// what a commit changes, since a candidate may come from the history.
fn reaches_out(category: &str, arguments: &[String]) -> bool {
    let Some(section) = config::words::section(category) else { return false };
    let key = arguments.get(usize::from(section.is_named())).map_or("", String::as_str);
    config::secrets::reaches_out(section, key)
}

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
pub fn subject(space: &Space, order: &Order) -> Subject {
    match order {
        Order::AddFlowSpec { rule, .. } => match space.classify(&Route::FlowSpec(rule.pattern.clone())) {
            Ok((Class::Incoming | Class::RemoteBan, end)) => Subject::Prefix(end),
            // What is dropped on its way out may be anybody's answer.
            Ok((Class::Outgoing, _)) | Err(_) => Subject::Everything,
        },
        Order::AddBlackhole { prefix, .. } => of_route(space, &Route::Unicast(*prefix)),
        Order::Remove { route, .. } | Order::Approve { route, .. } => of_route(space, route),
        Order::WithdrawAll(_) | Order::Resume(_) | Order::Held(_) | Order::AssumeHeld | Order::DoubtRates(_) => {
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
pub fn permit(caller: &Caller, space: &Space, order: &Order) -> Result<(), Failure> {
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
pub fn has_room(caller: &Caller, policy: &Policy, order: &Order) -> Result<(), Failure> {
    let Order::AddFlowSpec { rule, .. } = order else { return Ok(()) };
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
        Err(Failure::from(format!(
            "refused: {whose} {share} rules, the share of max_rules that leaves room for others: delete some"
        )))
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

    fn of(line: &str) -> Scope {
        let words = super::super::words::split(line).expect("words");
        needed(&super::super::words::parse(&words).expect("a request"))
    }

    #[test]
    fn requests_take_the_narrowest_scope() {
        for (line, scope) in [
            ("show attacks", Scope::Read),
            ("show token", Scope::Admin),
            ("show candidate", Scope::Config),
            ("set blackhole 203.0.113.9", Scope::Operate),
            ("delete flowspec all", Scope::Operate),
            ("set announcing disable", Scope::Operate),
            ("set approve x", Scope::Approve),
            ("set token x", Scope::Admin),
            ("delete token x", Scope::Admin),
            ("set main ban_time 5", Scope::Config),
            ("set main notify_script_path /tmp/x", Scope::Admin),
            ("set main web_callback_url https://example.net/", Scope::Admin),
            ("delete notify noc", Scope::Admin),
            ("set api listen 0.0.0.0:80", Scope::Admin),
            ("set hostgroup global threshold_pps 5", Scope::Config),
            ("commit", Scope::Config),
            ("commit check", Scope::Config),
            ("reload", Scope::Admin),
        ] {
            assert_eq!(of(line), scope, "{line}");
        }
    }

    #[test]
    fn an_order_acts_on_the_end_of_its_route_that_is_ours_and_on_nothing_that_words_say() {
        let prefix = |text: &str| text.parse::<Prefix>().expect("literal prefix");
        let networks = vec![prefix("203.0.113.0/24"), prefix("2001:db8::/32")];
        let space = Space::new(&policy::Config { networks, ..policy::Config::default() });
        let order = || policy::Order { reason: "203.0.113.1".to_owned(), ..policy::Order::default() };
        let rule =
            |text: &str| Order::AddFlowSpec { rule: flowspec::json::parse(text).expect("a rule"), order: order() };
        let end = |net: &str| Order::Remove { route: Route::Unicast(prefix(net)), order: order() };
        let add = |net: &str| Order::AddBlackhole { prefix: prefix(net), order: order() };
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
            (Order::WithdrawAll(order()), None),
            (Order::Resume(order()), None),
        ] {
            let expected = acts_on.map_or(Subject::Everything, |net| Subject::Prefix(prefix(net)));
            assert_eq!(subject(&space, &asked), expected, "{asked:?}");
        }
        let tenant = Caller { prefixes: vec![prefix("203.0.113.0/28")], ..Caller::default() };
        let refused = |order: &Order| permit(&tenant, &space, order).err().map(|f| f.is_forbidden);
        assert_eq!(refused(&add("203.0.113.9")), None);
        for other in [add("203.0.113.99"), add("203.0.113.0/24"), end("203.0.113.99"), Order::Resume(order())] {
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
                let asked = Order::AddFlowSpec { rule: rule.clone(), order: order.clone() };
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

    #[test]
    fn admin_is_everything_and_any_scope_may_look() {
        assert!(Scope::ALL.iter().all(|s| s.is_in(&[Scope::Admin])));
        assert!(Scope::Read.is_in(&[Scope::Approve]));
        assert!(!Scope::Operate.is_in(&[Scope::Approve, Scope::Config]));
        assert!(!Scope::Read.is_in(&[]));
    }
}
