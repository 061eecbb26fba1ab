//! [`Announcers`]: the way of a wanted set from the pipeline to disk, and from there to whoever announces it.
//!
//! A changed set is announced when the store has it on disk, or 200 ms later all the same, with an alarm (decision 23): a crash then
//! forgets nothing that a router knows. Canary peers come first where there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bgp::canary::Canary;
use bgp::session::State;
use bgp::tcp::{self, PeerStatus, Roster};
use bgp::{Peer, Route, Wanted};
use detector::Routers;
use operator::clock;
use operator::report::{Entry, Report};
use operator::status::Volume;
use policy::{Config, Held};
use tokio::sync::watch;
use traffic::Time;

use crate::enforcer::hits::{self, Hits};
use crate::enforcer::local::{self, Local};
use crate::pipeline::Pipeline;
use crate::store::{Line, Store};

/// How long an announcement waits for the disk at most.
const DISK: Duration = Duration::from_millis(200);

/// Hands what is wanted to those who announce it, once the disk has it, and knows what became of it.
pub struct Announcers {
    store: Option<Store>,
    canaries: watch::Sender<Arc<Wanted>>,
    others: watch::Sender<Arc<Wanted>>,
    /// What the disk has, or should have had by now.
    released: Arc<Wanted>,
    /// A set that waits for the disk, and since when.
    waiting: Option<(Arc<Wanted>, Time)>,
    canary: Canary,
    roster: watch::Receiver<Roster>,
    peers: Roster,
    sent: BTreeMap<String, Arc<BTreeSet<Route>>>,
    shared: Arc<tcp::Shared>,
    told_not_durable: bool,
    /// The kill switch is on.
    halted: bool,
    /// This host's packet filter (`enforce_here`).
    local: Option<Local>,
    /// What an enforcer of this installation took.
    hits: Hits,
    reconfigured: bool,
}

impl std::fmt::Debug for Announcers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcers").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Announcers {
    /// `released` is what is wanted from the start: it was on disk already.
    pub(crate) fn new(
        store: Option<Store>,
        (canaries, others): (watch::Sender<Arc<Wanted>>, watch::Sender<Arc<Wanted>>),
        released: Wanted,
        roster: watch::Receiver<Roster>,
        shared: Arc<tcp::Shared>,
        local: Option<Local>,
    ) -> Self {
        let released = Arc::new(released);
        let peers = roster.borrow().clone();
        let announcers = Self {
            store,
            canaries,
            others,
            released: Arc::clone(&released),
            waiting: None,
            canary: Canary::default(),
            roster,
            peers,
            sent: BTreeMap::new(),
            shared,
            told_not_durable: false,
            halted: false,
            local,
            hits: Hits::watch(),
            reconfigured: false,
        };
        announcers.canaries.send_replace(Arc::clone(&released));
        announcers.others.send_replace(released);
        announcers
    }

    /// Called often: hands on what changed and what the disk has confirmed; whether something was announced or withdrawn.
    pub(crate) fn offer(&mut self, now: Time, pipeline: &Pipeline, entries: &mut Vec<Entry>) -> bool {
        self.shared.beat();
        self.halted = pipeline.policy().halted().is_some();
        self.shared.set_halted(self.halted);
        let newest = self.waiting.as_ref().map_or(&self.released, |(set, _)| set);
        if **newest != *pipeline.wanted() {
            let since = self.waiting.as_ref().map_or(now, |(_, since)| *since);
            self.waiting = Some((Arc::new(pipeline.wanted().clone()), since));
        }
        if let Some(store) = &mut self.store {
            store.save(&pipeline.records(clock::offset()));
        }
        self.release(now, entries);
        self.publish(now, pipeline.policy().config())
    }

    /// Whether what was asked for at `since` would survive a crash, or the disk has had its time (decision 23).
    pub(crate) fn is_settled(&self, now: Time, since: Time) -> bool {
        self.store.as_ref().is_none_or(Store::is_durable) || now.since(since) >= DISK
    }

    /// Whether a set of routes waits for the disk.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn release(&mut self, now: Time, entries: &mut Vec<Entry>) {
        let durable = self.store.as_ref().is_none_or(Store::is_durable);
        if durable {
            self.told_not_durable = false;
        }
        let Some((_, since)) = &self.waiting else { return };
        let late = now.since(*since) >= DISK;
        if !durable && !late {
            return;
        }
        if !durable && !std::mem::replace(&mut self.told_not_durable, true) {
            let reason = self.store.as_ref().and_then(Store::error).unwrap_or_else(|| "the disk is slow".to_owned());
            entries.push(Entry::new(now, Report::NotDurable { reason }));
        }
        if let Some((set, _)) = self.waiting.take() {
            self.released = set;
        }
    }

    fn publish(&mut self, now: Time, config: &Config) -> bool {
        let mut changed = replace(&self.canaries, &self.released);
        let canaries: Vec<BTreeSet<Route>> = config
            .peers
            .iter()
            .filter(|p| p.canary)
            .filter_map(|p| self.peers.get(&p.name))
            .map(|status| status.borrow())
            .filter(|status| status.state == State::Established)
            // What a canary cannot be sent at all need not wait for it.
            .map(|status| status.sent.iter().chain(status.refused.keys()).cloned().collect())
            .collect();
        let others = self.canary.others(now, &self.released, &canaries, config.canary);
        changed |= replace(&self.others, &others);
        if let Some(local) = &mut self.local {
            local.carry_out(now, &if self.halted { Arc::default() } else { others });
        }
        changed
    }

    /// What became of routes at the peers since this was last asked; what is in force where, if that changed. Peers are numbered
    /// by their place in the configuration, from 1, as their exporters are.
    pub(crate) fn watch_peers(&mut self, now: Time, peers: &[Peer], entries: &mut Vec<Entry>) -> Option<Held> {
        let mut changed = std::mem::take(&mut self.reconfigured);
        if self.roster.has_changed().unwrap_or(false) {
            self.peers = self.roster.borrow_and_update().clone();
            self.sent.retain(|name, _| name == local::NAME || self.peers.contains_key(name));
            changed = true;
        }
        for (name, status) in &mut self.peers {
            if !status.has_changed().unwrap_or(false) && self.sent.contains_key(name) {
                continue;
            }
            let sent = Arc::clone(&status.borrow_and_update().sent);
            let before = self.sent.insert(name.clone(), Arc::clone(&sent)).unwrap_or_default();
            changed |= before != sent;
            let told = |route: &Route| (name.clone(), route.clone());
            entries.extend(
                sent.difference(&before).map(told).map(|(peer, route)| Entry::new(now, Report::Sent { peer, route })),
            );
            let gone = before.difference(&sent).map(told);
            entries.extend(gone.map(|(peer, route)| Entry::new(now, Report::TakenBack { peer, route })));
        }
        if let Some(held) = self.local.as_mut().and_then(Local::held) {
            let held = Arc::new(held);
            let before = self.sent.insert(local::NAME.to_owned(), Arc::clone(&held)).unwrap_or_default();
            changed |= before != held;
            let told = |route: &Route| (local::NAME.to_owned(), route.clone());
            let new = held.difference(&before).map(told);
            entries.extend(new.map(|(peer, route)| Entry::new(now, Report::Sent { peer, route })));
        }
        changed.then(|| self.held(peers))
    }

    /// Peers may have other exporters now.
    pub(crate) const fn reconfigured(&mut self) {
        self.reconfigured = true;
    }

    fn held(&self, peers: &[Peer]) -> Held {
        let mut held = Held::new();
        for (name, routes) in &self.sent {
            // A peer without exporters of its own, and this host's packet filter, stand for all traffic.
            let bound = (1..).zip(peers).find(|(_, peer)| peer.name == *name && !peer.exporters.is_empty());
            let routers = bound.map_or(Routers::ALL, |(number, _)| Routers::one(number));
            for route in routes.iter() {
                let of_all = held.entry(route.clone()).or_default();
                *of_all = of_all.and(routers);
            }
        }
        held
    }

    /// This host's packet filter, where rules are carried out on it.
    pub(crate) fn enforcer(&self) -> Option<crate::enforcer::Status> {
        self.local.as_ref().map(|local| local.view().get())
    }

    /// What this host's packet filter took by a route, or that of an enforcer beside the daemon.
    pub(crate) fn enforced(&self, route: &Route) -> Option<Volume> {
        let rule = local::text(route);
        match self.enforcer() {
            Some(status) => hits::volumes(&status).remove(&rule),
            None => self.hits.of(&rule),
        }
    }

    /// Removes what is carried out on this host. Blocking.
    pub(crate) fn stop(&mut self) {
        if let Some(local) = self.local.take() {
            local.stop();
        }
    }

    /// Remembers what happened.
    pub(crate) fn journal(&self, entries: &[Entry]) {
        if let Some(store) = &self.store {
            store.journal(entries.iter().filter_map(line).collect());
        }
    }

    /// The journal's newest lines, oldest first: all, or those about a route in words.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub fn history(&self, route: Option<&str>, limit: usize) -> anyhow::Result<Vec<Line>> {
        match &self.store {
            Some(store) => store.history(route, limit),
            None => anyhow::bail!("this daemon keeps no state: see its log, and --state-dir"),
        }
    }

    /// Peers that have been sent a route over the present session.
    pub(crate) fn sent_to(&self, route: &Route) -> Vec<String> {
        self.sent.iter().filter(|(_, routes)| routes.contains(route)).map(|(name, _)| name.clone()).collect()
    }

    /// Peers that were not sent a route, and why.
    pub(crate) fn not_sent(&self, route: &Route) -> BTreeMap<String, String> {
        let why = |(name, status): (&String, &watch::Receiver<PeerStatus>)| {
            let status = status.borrow();
            let reason = status.refused.get(route).cloned();
            let down = || (status.state != State::Established).then(|| format!("session {}", status.state.name()));
            Some((name.clone(), reason.or_else(down)?))
        };
        self.peers.iter().filter_map(why).collect()
    }

    /// Status of each peer.
    pub(crate) fn peers(&self) -> Vec<(String, PeerStatus)> {
        self.peers.iter().map(|(name, status)| (name.clone(), status.borrow().clone())).collect()
    }
}

fn replace(sender: &watch::Sender<Arc<Wanted>>, set: &Arc<Wanted>) -> bool {
    sender.send_if_modified(|before| {
        let changed = !Arc::ptr_eq(before, set) && **before != **set;
        if changed {
            *before = Arc::clone(set);
        }
        changed
    })
}

/// What of an entry belongs into the journal: everything that touches announcements.
fn line(entry: &Entry) -> Option<Line> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "what does not touch announcements is in the log alone")]
    let (event, route) = match &entry.report {
        Report::Announce { route, .. } => ("announce", route.to_string()),
        Report::HeldBack { route, .. } => ("hold back", route.to_string()),
        Report::Refused { route, .. } => ("refuse", route.to_string()),
        Report::Withdraw { route, .. } => ("withdraw", route.to_string()),
        Report::Sent { route, .. } => ("sent", route.to_string()),
        Report::TakenBack { route, .. } => ("taken back", route.to_string()),
        Report::Escalated { .. } => ("escalate", String::new()),
        Report::Probing { .. } | Report::ProbeFailed { .. } | Report::ProbePassed { .. } => ("probe", String::new()),
        Report::WithdrawnAll { .. } => ("withdraw-all", String::new()),
        Report::Resumed { .. } => ("resume", String::new()),
        Report::BreakerOpened { .. } | Report::BreakerClosed => ("breaker", String::new()),
        Report::Restored { .. } => ("restore", String::new()),
        _ => return None,
    };
    let by = entry.by.clone().unwrap_or_default();
    Some(Line {
        time: entry.time,
        event: event.to_owned(),
        route,
        text: entry.report.to_string(),
        owner: by.owner,
        reason: by.reason,
    })
}
