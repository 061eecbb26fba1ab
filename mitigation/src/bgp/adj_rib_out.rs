//! [`AdjRibOut`]: what a peer has been sent, and the messages that make it equal to what is wanted.
//!
//! [`AdjRibOut::plan`] compares the wanted set with what was sent; [`AdjRibOut::next_messages`] gives the next messages, withdrawals first, in
//! portions, so that a slow peer is never sent what has been overtaken. Each wanted route passes the peer's [`Profile`] (which may
//! cut it into several NLRI), the router's budget, and the rails; the rails are asked about the routes decoded from the very octets
//! that are about to be sent, and a message that does not hold exactly what it should is not sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use collectors::IpVersion;
use detector::Prefix;

use super::attribute::{self, EncodeError, Sender};
use super::message::{self, HEADER, MAX_MESSAGE, Refresh};
use super::profile::Profile;
use crate::announcement::{Announcement, Community, Origin, Route, Wanted};
use crate::config::{Family, Peer};
use crate::rails::Rails;

/// NLRI octets per UPDATE, with room for the attributes; some routers refuse more than 4095 in all.
const NLRI_PER_UPDATE: usize = MAX_MESSAGE - 1024;
/// Routes that are looked at for one portion.
const PORTION: usize = 500;

/// A route as it was sent.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    announcement: Announcement,
    nlri: Vec<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub struct AdjRibOut {
    name: String,
    sender: Sender,
    families: BTreeSet<Family>,
    rails: Rails,
    profile: Profile,
    common: Common,
    /// FlowSpec NLRI at most, and how many of them the program itself may use.
    budget: (usize, usize),
    wanted: Arc<Wanted>,
    quarantined: BTreeSet<Route>,
    sent: BTreeMap<Route, Sent>,
    /// Which sent routes an NLRI stands for: different rules may be cut into the same parts.
    wire: BTreeMap<(Family, Vec<u8>), BTreeSet<Route>>,
    flowspec_on_wire: usize,
    withdrawals: VecDeque<(Family, Vec<u8>)>,
    announcements: VecDeque<Route>,
    refresh: BTreeSet<Family>,
    /// Sent routes whose attributes or form have changed with the peer's settings.
    again: BTreeSet<Route>,
    end_of_rib: BTreeSet<Family>,
    enhanced_refresh: bool,
    /// Wanted routes that are not sent, and why.
    refused: BTreeMap<Route, String>,
    /// Routes newly sent since [`AdjRibOut::take_news`].
    news: Vec<Route>,
}

/// What every route to the peer carries.
#[derive(Debug, Clone)]
struct Common {
    communities: Vec<Community>,
    blackhole: Vec<Community>,
    large: Vec<crate::LargeCommunity>,
    extended: Vec<crate::ExtendedCommunity>,
}

impl Common {
    fn of(peer: &Peer) -> Self {
        Self {
            communities: peer.communities.clone(),
            blackhole: peer.blackhole_communities.clone(),
            large: peer.large_communities.clone(),
            extended: peer.extended_communities.clone(),
        }
    }
}

/// FlowSpec NLRI that a peer holds at most, and how many of them the program itself may use.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
fn budget(peer: &Peer, reserve: f64) -> (usize, usize) {
    let max = peer.profile.max_rules;
    (max, (max as f64 * (1.0 - reserve.clamp(0.0, 1.0))).ceil() as usize)
}

/// A route about to be encoded.
struct Prepared {
    family: Family,
    form: Announcement,
    scope: Option<Prefix>,
    route: Route,
    nlri: Vec<u8>,
}

impl AdjRibOut {
    /// Empty, for a new session. `reserve` is the share of the router's rules kept for operators.
    #[must_use]
    pub fn new(sender: Sender, families: BTreeSet<Family>, rails: Rails, peer: &Peer, reserve: f64) -> Self {
        Self {
            name: peer.name.clone(),
            sender,
            end_of_rib: families.clone(),
            families,
            rails,
            profile: peer.profile.clone(),
            common: Common::of(peer),
            budget: budget(peer, reserve),
            wanted: Arc::default(),
            quarantined: BTreeSet::new(),
            sent: BTreeMap::new(),
            wire: BTreeMap::new(),
            flowspec_on_wire: 0,
            withdrawals: VecDeque::new(),
            announcements: VecDeque::new(),
            refresh: BTreeSet::new(),
            again: BTreeSet::new(),
            enhanced_refresh: false,
            refused: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Other settings under a running session; with `again` everything is announced anew, in place. Call [`AdjRibOut::plan`] next.
    pub fn reconfigure(&mut self, sender: Sender, rails: Rails, peer: &Peer, reserve: f64, again: bool) {
        (self.sender, self.rails, self.profile) = (sender, rails, peer.profile.clone());
        (self.common, self.budget) = (Common::of(peer), budget(peer, reserve));
        if again {
            self.again = self.sent.keys().cloned().collect();
        }
    }

    /// The peer knows RFC 7313: a refresh is framed by its begin and end.
    pub const fn set_enhanced_refresh(&mut self, on: bool) {
        self.enhanced_refresh = on;
    }

    /// A router that said it holds no more than this.
    pub fn limit(&mut self, rules: usize) {
        self.budget = (self.budget.0.min(rules), self.budget.1.min(rules));
    }

    /// Routes this peer must not be sent, since its session ended right after them.
    pub fn quarantine(&mut self, routes: BTreeSet<Route>) {
        self.quarantined = routes;
    }

    /// Compares what is wanted with what was sent; [`AdjRibOut::next_messages`] then makes them equal.
    pub fn plan(&mut self, wanted: Arc<Wanted>) {
        self.withdrawals.clear();
        self.announcements.clear();
        self.refused.clear();
        let name = self.name.clone();
        let for_us = |a: &Announcement| a.peers.as_ref().is_none_or(|peers| peers.contains(&name));
        let allowed = |route: &Route, a: &Announcement| for_us(a) && self.rails.check(route, a).is_ok();
        let stays =
            |route: &Route| wanted.get(route).is_some_and(|a| allowed(route, a)) && !self.quarantined.contains(route);
        let gone: Vec<Route> = self.sent.keys().filter(|route| !stays(route)).cloned().collect();
        for route in gone {
            self.withdraw(&route);
        }
        let new = wanted.iter().filter(|(route, announcement)| {
            let changed = |sent: &Sent| sent.announcement != **announcement || self.again.contains(route);
            for_us(announcement) && self.sent.get(route).is_none_or(changed)
        });
        // What operators ordered goes first: the reserve is theirs.
        let (manual, automatic): (Vec<_>, Vec<_>) = new.partition(|(_, a)| a.origin == Origin::Manual);
        for (route, _) in manual.into_iter().chain(automatic) {
            if self.quarantined.contains(route) {
                let text = "in quarantine: the session ended right after it was sent";
                self.refused.insert(route.clone(), text.to_owned());
            } else {
                self.announcements.push_back(route.clone());
            }
        }
        self.wanted = wanted;
    }

    fn withdraw(&mut self, route: &Route) {
        let (Some(sent), Some(family)) = (self.sent.remove(route), attribute::family_of(route)) else { return };
        for nlri in sent.nlri {
            let key = (family, nlri);
            let Some(owners) = self.wire.get_mut(&key) else { continue };
            owners.remove(route);
            // Another rule stands for the same NLRI: it is announced again with that rule's attributes.
            if let Some(other) = owners.first().cloned() {
                self.announcements.push_back(other);
                continue;
            }
            self.wire.remove(&key);
            self.flowspec_on_wire -= usize::from(is_flowspec(family));
            self.withdrawals.push_back(key);
        }
    }

    /// Whether the peer has been sent all that is wanted.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.withdrawals.is_empty()
            && self.announcements.is_empty()
            && self.refresh.is_empty()
            && self.end_of_rib.is_empty()
    }

    /// The next messages; none when all is done. Withdrawals first, then announcements, refreshes, and at last, once, End-of-RIB
    /// of each negotiated family, and of no other: some routers reset on those.
    pub fn next_messages(&mut self) -> Vec<Vec<u8>> {
        if !self.withdrawals.is_empty() {
            let count = self.withdrawals.len().min(PORTION);
            let portion: Vec<_> = self.withdrawals.drain(..count).collect();
            return withdraw_messages(portion);
        }
        if !self.announcements.is_empty() {
            let count = self.announcements.len().min(PORTION);
            let portion: Vec<Route> = self.announcements.drain(..count).collect();
            return self.announce(portion);
        }
        if let Some(family) = self.refresh.pop_first() {
            return self.refresh_messages(family);
        }
        std::mem::take(&mut self.end_of_rib).into_iter().map(attribute::end_of_rib).collect()
    }

    /// Plans and gives all messages at once.
    pub fn reconcile(&mut self, wanted: &Arc<Wanted>) -> Vec<Vec<u8>> {
        self.plan(Arc::clone(wanted));
        let mut messages = Vec::new();
        while !self.is_done() {
            messages.extend(self.next_messages());
        }
        messages
    }

    /// The peer wants everything of a family again (RFC 2918).
    pub fn refresh(&mut self, family: Family) {
        if self.families.contains(&family) {
            self.refresh.insert(family);
        }
    }

    fn refresh_messages(&mut self, family: Family) -> Vec<Vec<u8>> {
        let routes: Vec<Route> =
            self.sent.keys().filter(|route| attribute::family_of(route) == Some(family)).cloned().collect();
        let mut messages = Vec::new();
        let framed = self.enhanced_refresh;
        if framed {
            messages.push(message::route_refresh(family, Refresh::Begin));
        }
        let mut prepared = Vec::new();
        for route in routes {
            let Some(sent) = self.sent.get(&route) else { continue };
            prepared
                .extend(sent.nlri.iter().filter_map(|nlri| self.prepared(family, &route, &sent.announcement, nlri)));
        }
        messages.extend(self.encode(prepared));
        if framed {
            messages.push(message::route_refresh(family, Refresh::End));
        }
        messages
    }

    /// Announces routes as far as profile, budget and rails allow.
    fn announce(&mut self, routes: Vec<Route>) -> Vec<Vec<u8>> {
        let mut prepared = Vec::new();
        let mut leftovers = Vec::new();
        for route in routes {
            // What was overtaken meanwhile is not announced.
            let Some(announcement) = self.wanted.get(&route).cloned() else { continue };
            self.again.remove(&route);
            let Some(family) = attribute::family_of(&route) else {
                self.refused.insert(route, "the rule has no prefix to tell its address family".to_owned());
                continue;
            };
            if !self.families.contains(&family) {
                self.refused.insert(route, format!("the session does not carry {}", family.name()));
                continue;
            }
            match self.adapt(family, &route, &announcement) {
                Ok(nlri) => {
                    prepared.extend(nlri.iter().filter_map(|one| self.prepared(family, &route, &announcement, one)));
                    leftovers.extend(self.note(family, &route, announcement, nlri));
                }
                Err(reason) => {
                    // An older form of it must not stay behind.
                    self.withdraw(&route);
                    self.refused.insert(route, reason);
                }
            }
        }
        let mut messages = withdraw_messages(leftovers);
        messages.extend(withdraw_messages(std::mem::take(&mut self.withdrawals).into()));
        messages.extend(self.encode(prepared));
        messages
    }

    /// The NLRI for a route, if rails, profile and budget allow all of them.
    fn adapt(&self, family: Family, route: &Route, announcement: &Announcement) -> Result<Vec<Vec<u8>>, String> {
        self.rails.check(route, announcement).map_err(|e| e.to_string())?;
        let Route::FlowSpec(pattern) = route else {
            return Ok(vec![attribute::encode_nlri(route).map_err(|e| EncodeError::from(e).to_string())?]);
        };
        let parts = self.profile.adapt(pattern, &announcement.actions)?;
        let spelling = self.profile.spelling();
        let nlri: Result<Vec<Vec<u8>>, _> =
            parts.iter().map(|p| super::nlri::encode_spelled(p, spelling).map(super::nlri::with_length)).collect();
        let nlri = nlri.map_err(|e| EncodeError::from(e).to_string())?;
        let new = nlri.iter().filter(|n| !self.wire.contains_key(&(family, (*n).clone()))).count();
        let limit = if announcement.origin == Origin::Manual { self.budget.0 } else { self.budget.1 };
        if self.flowspec_on_wire + new > limit {
            return Err(format!("the router's budget of {} rules is used up (flowspec_max_rules)", self.budget.0));
        }
        Ok(nlri)
    }

    /// Remembers a route as sent; returns NLRI of its former form that no longer belong to anything.
    fn note(
        &mut self,
        family: Family,
        route: &Route,
        announcement: Announcement,
        nlri: Vec<Vec<u8>>,
    ) -> Vec<(Family, Vec<u8>)> {
        let former = self.sent.get(route).map(|sent| sent.nlri.clone()).unwrap_or_default();
        if former.is_empty() {
            self.news.push(route.clone());
        }
        let mut leftovers = Vec::new();
        for old in former.into_iter().filter(|old| !nlri.contains(old)) {
            let key = (family, old);
            let Some(owners) = self.wire.get_mut(&key) else { continue };
            owners.remove(route);
            if owners.is_empty() {
                self.wire.remove(&key);
                self.flowspec_on_wire -= usize::from(is_flowspec(family));
                leftovers.push(key);
            }
        }
        for one in &nlri {
            let owners = self.wire.entry((family, one.clone())).or_default();
            self.flowspec_on_wire += usize::from(owners.is_empty() && is_flowspec(family));
            owners.insert(route.clone());
        }
        self.sent.insert(route.clone(), Sent { announcement, nlri });
        leftovers
    }

    fn prepared(&self, family: Family, route: &Route, announcement: &Announcement, nlri: &[u8]) -> Option<Prepared> {
        let mut form = Announcement { scope: None, origin: Origin::Automatic, peers: None, ..announcement.clone() };
        form.communities.extend(&self.common.communities);
        if form.communities.contains(&Community::BLACKHOLE) {
            form.communities.extend(&self.common.blackhole);
        }
        form.communities.sort_unstable();
        form.communities.dedup();
        form.large_communities.extend(&self.common.large);
        form.extended_communities.extend(&self.common.extended);
        let one = match route {
            Route::Unicast(_) => route.clone(),
            Route::FlowSpec(_) => decode_one(family, nlri)?,
        };
        Some(Prepared { family, form, scope: announcement.scope, route: one, nlri: nlri.to_vec() })
    }

    /// Routes with equal attributes share UPDATEs; neighbours in the ordered set mostly have them.
    fn encode(&mut self, prepared: Vec<Prepared>) -> Vec<Vec<u8>> {
        let mut batches: Vec<Vec<Prepared>> = Vec::new();
        for one in prepared {
            let fits = |batch: &Vec<Prepared>| {
                batch.first().is_some_and(|first| first.family == one.family && first.form == one.form)
            };
            match batches.iter_mut().rev().find(|batch| fits(batch)) {
                Some(batch) => batch.push(one),
                None => batches.push(vec![one]),
            }
        }
        let mut messages = Vec::new();
        for batch in batches {
            let mut rest = &batch[..];
            while !rest.is_empty() {
                let mut size = 0;
                let fit = rest.iter().take_while(|one| {
                    size += one.nlri.len();
                    size <= NLRI_PER_UPDATE
                });
                let (chunk, after) = rest.split_at(fit.count().max(1));
                rest = after;
                match self.encode_chunk(chunk) {
                    Ok(message) => messages.push(message),
                    Err(reason) => self.fail_closed(chunk, &reason),
                }
            }
        }
        messages
    }

    /// One UPDATE, decoded again and checked route by route.
    fn encode_chunk(&self, chunk: &[Prepared]) -> Result<Vec<u8>, String> {
        let first = chunk.first().ok_or("nothing to send")?;
        let nlri: Vec<Vec<u8>> = chunk.iter().map(|one| one.nlri.clone()).collect();
        let message = attribute::announce(first.family, &self.sender, &first.form, &nlri).map_err(|e| e.to_string())?;
        let receiver = attribute::Receiver { four_octet_as: self.sender.four_octet_as };
        let update = attribute::decode_from(receiver, message.get(HEADER..).unwrap_or_default())
            .map_err(|e| format!("the encoded message does not decode: {}", e.text()))?;
        if !update.announced.iter().eq(chunk.iter().map(|one| &one.route)) || !update.withdrawn.is_empty() {
            return Err("the encoded message does not hold what it should".to_owned());
        }
        for (route, one) in update.announced.iter().zip(chunk) {
            let decoded = Announcement {
                communities: update.attributes.communities.clone(),
                scope: one.scope,
                ..Announcement::default()
            };
            self.rails.check(route, &decoded).map_err(|e| e.to_string())?;
        }
        Ok(message)
    }

    /// What could not be sent is not held by the peer either.
    fn fail_closed(&mut self, chunk: &[Prepared], reason: &str) {
        for one in chunk {
            let key = (one.family, one.nlri.clone());
            let owners = self.wire.remove(&key).unwrap_or_default();
            self.flowspec_on_wire -= usize::from(is_flowspec(one.family) && !owners.is_empty());
            // It may have been there with other attributes.
            self.withdrawals.push_back(key);
            for route in owners {
                self.sent.remove(&route);
                self.refused.insert(route, reason.to_owned());
            }
        }
    }

    /// The routes the peer has been sent.
    #[must_use]
    pub fn sent(&self) -> Arc<BTreeSet<Route>> {
        Arc::new(self.sent.keys().cloned().collect())
    }

    /// FlowSpec NLRI and unicast routes the peer has been sent, as it counts them.
    #[must_use]
    pub fn wire_counts(&self) -> (usize, usize) {
        (self.flowspec_on_wire, self.wire.len() - self.flowspec_on_wire)
    }

    /// Routes sent for the first time since this was last asked.
    pub fn take_news(&mut self) -> Vec<Route> {
        std::mem::take(&mut self.news)
    }

    /// Wanted routes that are not sent, with the reason.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<Route, String> {
        &self.refused
    }
}

const fn is_flowspec(family: Family) -> bool {
    matches!(family, Family::Ipv4FlowSpec | Family::Ipv6FlowSpec)
}

/// The route of one encoded FlowSpec NLRI with its length in front.
fn decode_one(family: Family, nlri: &[u8]) -> Option<Route> {
    let version = if family == Family::Ipv6FlowSpec { IpVersion::V6 } else { IpVersion::V4 };
    let parts = super::nlri::split_flowspec(nlri)?;
    match parts[..] {
        [part] => super::nlri::decode(version, part).ok().map(Route::FlowSpec),
        _ => None,
    }
}

fn withdraw_messages(portion: Vec<(Family, Vec<u8>)>) -> Vec<Vec<u8>> {
    let mut by_family: BTreeMap<Family, Vec<Vec<u8>>> = BTreeMap::new();
    for (family, nlri) in portion {
        by_family.entry(family).or_default().push(nlri);
    }
    let mut messages = Vec::new();
    for (family, nlri) in by_family {
        let mut rest = &nlri[..];
        while !rest.is_empty() {
            let mut size = 0;
            let fit = rest.iter().take_while(|one| {
                size += one.len();
                size <= NLRI_PER_UPDATE
            });
            let (chunk, after) = rest.split_at(fit.count().max(1));
            rest = after;
            messages.extend(attribute::withdraw(family, chunk).ok());
        }
    }
    messages
}
