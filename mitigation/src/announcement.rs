//! [`Wanted`]: the set of routes that every announcer makes true.

use std::collections::BTreeMap;
use std::fmt;

use detector::{Pattern, Prefix};

use crate::flowspec::Action;

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
}

impl Announcement {
    /// A FlowSpec route with one action and no community.
    #[must_use]
    pub fn flowspec(action: Action) -> Self {
        Self { actions: vec![action], next_hop: None, communities: Vec::new(), large_communities: Vec::new() }
    }

    /// A blackhole: BLACKHOLE and `NO_EXPORT` (RFC 7999 section 3.2).
    #[must_use]
    pub fn blackhole() -> Self {
        Self {
            actions: Vec::new(),
            next_hop: None,
            communities: vec![Community::BLACKHOLE, Community::NO_EXPORT],
            large_communities: Vec::new(),
        }
    }
}

/// The ordered set of routes that should be announced. Announcers send `wanted - advertised` and withdraw
/// `advertised - wanted`; nothing else ever changes a router.
pub type Wanted = BTreeMap<Route, Announcement>;
