//! [`Gate`]: who is asked, last of all, whether a route may be sent to a peer.
//!
//! A speaker does not know why a route is wanted. Whoever wants it hands in a gate for each peer; it is asked when the table is
//! planned, and once more about what is decoded from the very octets that are about to be sent.

use std::error::Error;
use std::fmt;

use crate::announcement::{Announcement, Route};

/// The three classes of decision 1; what is in none of them is never announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The destination is ours.
    Incoming,
    /// The source is ours and the destination is not.
    Outgoing,
    /// A foreign host: its traffic is dropped wherever it goes.
    RemoteBan,
}

impl Class {
    /// The key that switches it on for a peer.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Incoming => "announce_incoming",
            Self::Outgoing => "announce_outgoing",
            Self::RemoteBan => "announce_remote_bans",
        }
    }
}

/// The classes of decision 1 that a peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// Rules and blackholes whose destination is ours (`announce_incoming`, default on).
    pub incoming: bool,
    /// Rules whose source is ours (`announce_outgoing`, default off).
    pub outgoing: bool,
    /// Bans of foreign hosts (`announce_remote_bans`, default off).
    pub remote_bans: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Self { incoming: true, outgoing: false, remote_bans: false }
    }
}

/// Why a gate keeps a route back, in words for people.
pub type Refusal = Box<dyn Error + Send + Sync>;

/// Who may be announced what to one peer. Fails closed: what it does not let through is not sent, and is withdrawn where it was.
pub trait Gate: fmt::Debug + Send + Sync {
    /// The class of a route that may be sent.
    ///
    /// # Errors
    /// Why it may not.
    fn check(&self, route: &Route, announcement: &Announcement) -> Result<Class, Refusal>;
}

#[cfg(test)]
pub(crate) mod fixture {
    use std::sync::Arc;

    use traffic::Networks;

    use super::{Class, Classes, Gate, Refusal};
    use crate::announcement::{Announcement, Route};

    /// Lets through what concerns own addresses, and foreign hosts where those may be banned.
    #[derive(Debug)]
    pub(crate) struct OwnSpace(Networks, Classes);

    impl OwnSpace {
        pub(crate) fn gate(networks: &[&str], classes: Classes) -> Arc<dyn Gate> {
            let networks: Vec<_> = networks.iter().map(|p| p.parse().expect("prefix")).collect();
            Arc::new(Self(Networks::new(&networks), classes))
        }
    }

    impl Gate for OwnSpace {
        fn check(&self, route: &Route, announcement: &Announcement) -> Result<Class, Refusal> {
            let (destination, source) = match route {
                Route::Unicast(prefix) => (Some(*prefix), Some(*prefix)),
                Route::FlowSpec(pattern) => (pattern.destination(), pattern.source()),
            };
            let is_ours = |prefix: &traffic::Prefix| self.0.contain(prefix);
            let class = match (destination.filter(is_ours), source) {
                (Some(own), _) if announcement.scope.is_some_and(|scope| !scope.contains(&own)) => {
                    return Err("wider than its scope".into());
                }
                (Some(_), _) => Class::Incoming,
                (None, Some(source)) if is_ours(&source) => Class::Outgoing,
                (None, Some(source)) if source.is_host() => Class::RemoteBan,
                (None, _) => return Err("foreign".into()),
            };
            let on = match class {
                Class::Incoming => self.1.incoming,
                Class::Outgoing => self.1.outgoing,
                Class::RemoteBan => self.1.remote_bans,
            };
            if on { Ok(class) } else { Err("its class is off".into()) }
        }
    }
}
