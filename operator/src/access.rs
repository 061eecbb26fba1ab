//! Who may do what through the network: scopes, and which of them a request takes.
//!
//! The control socket knows only readers and writers. A token has scopes; [`needed`] is the one table that says which request takes
//! which, whether it comes as JSON, in FastNetMon's paths or in ban2bgp's. It looks at the parsed request, never at words
//! (decision 40). A token with prefixes acts on these alone: the program judges that where it knows which route an order means.

use serde::{Deserialize, Serialize};

use crate::order::Order;
use crate::request::Request;

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
        Request::Order(order) => of_order(order),
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

const fn of_order(order: &Order) -> Scope {
    match order {
        Order::Approve { .. } => Scope::Approve,
        Order::AddRule { .. }
        | Order::EndRule { .. }
        | Order::EndAllRules { .. }
        | Order::AddBlackhole { .. }
        | Order::EndBlackhole { .. }
        | Order::Ban { .. }
        | Order::Unban { .. }
        | Order::Extend { .. }
        | Order::Announcing { .. } => Scope::Operate,
    }
}

/// Whether an edit is of a key that runs programs, leaves the host or lets others in. A commit asks the same of
/// what it changes, since a candidate may come from the history.
fn reaches_out(category: &str, arguments: &[String]) -> bool {
    let Some(section) = config::words::section(category) else { return false };
    let key = arguments.get(usize::from(section.is_named())).map_or("", String::as_str);
    config::secrets::reaches_out(section, key)
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
    fn admin_is_everything_and_any_scope_may_look() {
        assert!(Scope::ALL.iter().all(|s| s.is_in(&[Scope::Admin])));
        assert!(Scope::Read.is_in(&[Scope::Approve]));
        assert!(!Scope::Operate.is_in(&[Scope::Approve, Scope::Config]));
        assert!(!Scope::Read.is_in(&[]));
    }
}
