//! [`Wanted`]: the set of routes that every announcer makes true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use flowspec::{Action, Pattern, actions_text};
use traffic::Prefix;

/// A standard community (RFC 1997), such as 65535:666.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u16, pub u16);

impl Community {
    /// BLACKHOLE (RFC 7999).
    pub const BLACKHOLE: Self = Self(65535, 666);
    /// `NO_EXPORT` (RFC 1997).
    pub const NO_EXPORT: Self = Self(65535, 65281);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// A large community (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

/// An extended community (RFC 4360) as its eight octets: route targets and the like, besides the filtering actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// Who wants a route: what operators want goes before what the program decided, and may use a router's reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An operator, the API, or another system.
    Manual,
    /// The policy.
    Automatic,
}

/// What is announced: the key of [`Wanted`] and of an Adj-RIB-Out. The NLRI, without attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// A unicast prefix: a blackhole or a diversion.
    Unicast(Prefix),
    /// A flow specification. The pattern has a destination or source prefix, which settles the address family.
    FlowSpec(Pattern),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unicast(prefix) => write!(f, "{prefix}"),
            Self::FlowSpec(pattern) => write!(f, "flow {pattern}"),
        }
    }
}

/// How a [`Route`] is announced: its attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// Filtering actions of a FlowSpec route, in order; empty for unicast (and for FlowSpec: accept).
    pub actions: Vec<Action>,
    /// Next hop of a unicast route; `None` lets the session use the peer's configured blackhole next hop.
    pub next_hop: Option<std::net::IpAddr>,
    /// Standard communities besides those configured for the peer.
    pub communities: Vec<Community>,
    /// Large communities besides those configured for the peer.
    pub large_communities: Vec<LargeCommunity>,
    /// Extended communities besides the actions.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Who wants it.
    pub origin: Origin,
    /// The alarmed (or ordered) prefix: what is sent is never wider, checked on the encoded message. `None` checks nothing more
    /// than that it is ours.
    pub scope: Option<Prefix>,
    /// Peers that get it; `None` is all.
    pub peers: Option<BTreeSet<String>>,
}

impl Default for Announcement {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            next_hop: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            origin: Origin::Automatic,
            scope: None,
            peers: None,
        }
    }
}

impl Announcement {
    /// A FlowSpec route with one action and no community.
    #[must_use]
    pub fn flowspec(action: Action) -> Self {
        Self { actions: vec![action], ..Self::default() }
    }

    /// A blackhole: BLACKHOLE and `NO_EXPORT` (RFC 7999 section 3.2).
    #[must_use]
    pub fn blackhole() -> Self {
        Self { communities: vec![Community::BLACKHOLE, Community::NO_EXPORT], ..Self::default() }
    }

    /// An operator's.
    #[must_use]
    pub fn manual(mut self) -> Self {
        self.origin = Origin::Manual;
        self
    }

    /// Never wider than this.
    #[must_use]
    pub fn within(mut self, scope: Prefix) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Actions or communities in words.
    #[must_use]
    pub fn text(&self) -> String {
        if self.communities.contains(&Community::BLACKHOLE) {
            return "blackhole".to_owned();
        }
        if let Some(next_hop) = self.next_hop {
            return format!("divert to {next_hop}");
        }
        actions_text(&self.actions)
    }
}

/// The ordered set of routes that should be announced. Announcers send `wanted - advertised` and withdraw
/// `advertised - wanted`; nothing else ever changes a router.
pub type Wanted = BTreeMap<Route, Announcement>;
