//! What is known of a peer: for the pipeline, for `show bgp`, for metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use traffic::Time;

use crate::announcement::Route;
use crate::peer::Family;
use crate::session::State;

/// How a session stands; its driver publishes it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// State of the session.
    pub state: State,
    /// Since when it is established.
    pub established_since: Option<Time>,
    /// Families that both sides speak.
    pub families: BTreeSet<Family>,
    /// Routes that were sent over this session (decision 16: sent is not installed).
    pub sent: Arc<BTreeSet<Route>>,
    /// FlowSpec NLRI and unicast routes on the wire: a profile may cut one rule into several.
    pub on_wire: (usize, usize),
    /// Wanted routes that gate, profile, budget or quarantine kept from this peer, and why.
    pub refused: Arc<BTreeMap<Route, String>>,
    /// Why there is no session, or why the last one ended, with what to do about it.
    pub last_error: Option<String>,
    /// Sessions that ended since the start.
    pub resets: u64,
    /// The peer's BGP identifier.
    pub identifier: Option<Ipv4Addr>,
    /// The hold time in force.
    pub hold_time: Duration,
    /// Both sides know graceful restart.
    pub graceful_restart: bool,
    /// All that is wanted has been sent, End-of-RIB included.
    pub in_sync: bool,
    /// UPDATE messages the peer sent; its routes are not used.
    pub updates_received: u64,
}

impl Default for PeerStatus {
    fn default() -> Self {
        Self {
            state: State::Idle,
            established_since: None,
            families: BTreeSet::new(),
            sent: Arc::default(),
            on_wire: (0, 0),
            refused: Arc::default(),
            last_error: None,
            resets: 0,
            identifier: None,
            hold_time: Duration::ZERO,
            graceful_restart: false,
            in_sync: false,
            updates_received: 0,
        }
    }
}
