//! [`AdjRibOut`]: what a peer has been sent, and the messages that make it equal to what is wanted.
//!
//! [`AdjRibOut::plan`] compares the wanted set with what was sent; [`AdjRibOut::next_messages`] gives the next messages, withdrawals first, in
//! portions, so that a slow peer is never sent what has been overtaken. Each wanted route passes the peer's [`Profile`] (which may
//! cut it into several NLRI), the router's budget, and the [`Gate`]; the gate is asked about the routes decoded from the very octets
//! that are about to be sent, and a message that does not hold exactly what it should is not sent.
//!
//! What the peer holds is changed by the messages that are handed out and by nothing else: a plan only says which NLRI must be
//! written anew, and that stays so, whatever is planned next, until it has been written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flowspec::profile::Profile;
use traffic::{IpVersion, Prefix};

use super::attribute::{self, EncodeError, Sender};
use super::message::{self, HEADER, MAX_MESSAGE, Refresh};
use crate::announcement::{Announcement, Community, Origin, Route, Wanted};
use crate::budget::{Account, Budget, Used};
use crate::gate::Gate;
use crate::peer::{Family, Peer};

/// NLRI octets per UPDATE, with room for the attributes; some routers refuse more than 4095 in all.
const NLRI_PER_UPDATE: usize = MAX_MESSAGE - 1024;
/// Routes that are looked at for one portion.
const PORTION: usize = 500;

/// A route as it was sent.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    announcement: Announcement,
    account: Account,
    nlri: Vec<Vec<u8>>,
}

/// A family and an NLRI of it, with its length in front.
type Key = (Family, Vec<u8>);

/// An NLRI that the peer holds.
#[derive(Debug, Default)]
struct Held {
    /// Sent routes it stands for, as different rules may be cut into the same parts; none if it is to be withdrawn. The first by
    /// account, then by route, gives it its attributes.
    owners: BTreeMap<Route, Account>,
    /// Routes it stood for when it was last written.
    former: BTreeSet<Route>,
}

impl Held {
    fn account(&self) -> Option<Account> {
        self.owners.values().min().copied()
    }

    fn speaker(&self) -> Option<&Route> {
        self.owners.iter().min_by_key(|(route, account)| (**account, *route)).map(|(route, _)| route)
    }
}

/// What one peer has been sent, and what it is to be sent next.
#[derive(Debug)]
pub struct AdjRibOut {
    name: String,
    sender: Sender,
    families: BTreeSet<Family>,
    gate: Arc<dyn Gate>,
    profile: Profile,
    common: Common,
    /// FlowSpec NLRI at most, and who may use how many of them.
    budget: Budget,
    /// Routes of a family that the router said it takes at most.
    limits: BTreeMap<Family, usize>,
    wanted: Arc<Wanted>,
    quarantined: BTreeSet<Route>,
    sent: BTreeMap<Route, Sent>,
    /// All that the peer holds.
    wire: BTreeMap<Key, Held>,
    /// FlowSpec NLRI with an owner.
    used: Used,
    /// NLRI of the wire to be written: withdrawn where nobody owns them, else announced as their first owner wants.
    stale: BTreeSet<Key>,
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
    large: Vec<crate::announcement::LargeCommunity>,
    extended: Vec<crate::announcement::ExtendedCommunity>,
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
    pub fn new(sender: Sender, families: BTreeSet<Family>, gate: Arc<dyn Gate>, peer: &Peer, reserve: f64) -> Self {
        Self {
            name: peer.name.clone(),
            sender,
            end_of_rib: families.clone(),
            families,
            gate,
            profile: peer.profile.clone(),
            common: Common::of(peer),
            budget: Budget::new(peer.profile.max_rules, reserve),
            limits: BTreeMap::new(),
            wanted: Arc::default(),
            quarantined: BTreeSet::new(),
            sent: BTreeMap::new(),
            wire: BTreeMap::new(),
            used: Used::default(),
            stale: BTreeSet::new(),
            announcements: VecDeque::new(),
            refresh: BTreeSet::new(),
            again: BTreeSet::new(),
            enhanced_refresh: false,
            refused: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Other settings under a running session; with `again` everything is announced anew, in place. Call [`AdjRibOut::plan`] next.
    pub fn reconfigure(&mut self, sender: Sender, gate: Arc<dyn Gate>, peer: &Peer, reserve: f64, again: bool) {
        (self.sender, self.gate, self.profile) = (sender, gate, peer.profile.clone());
        (self.common, self.budget) = (Common::of(peer), Budget::new(peer.profile.max_rules, reserve));
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
        self.budget.limit(rules);
    }

    /// A router that said how many routes of a family it takes (RFC 4486 section 4); the others are sent as before.
    pub fn limit_family(&mut self, family: Family, routes: usize) {
        self.limits.insert(family, routes);
    }

    /// Routes this peer must not be sent, since its session ended right after them.
    pub fn quarantine(&mut self, routes: BTreeSet<Route>) {
        self.quarantined = routes;
    }

    /// Compares what is wanted with what was sent; [`AdjRibOut::next_messages`] then makes them equal.
    pub fn plan(&mut self, wanted: Arc<Wanted>) {
        self.announcements.clear();
        self.refused.clear();
        let name = self.name.clone();
        let for_us = |a: &Announcement| a.peers.as_ref().is_none_or(|peers| peers.contains(&name));
        let allowed = |route: &Route, a: &Announcement| for_us(a) && self.gate.check(route, a).is_ok();
        let stays =
            |route: &Route| wanted.get(route).is_some_and(|a| allowed(route, a)) && !self.quarantined.contains(route);
        let gone: Vec<Route> = self.sent.keys().filter(|route| !stays(route)).cloned().collect();
        gone.iter().for_each(|route| self.withdraw(route));
        self.keep_within_budget();
        let new = wanted.iter().filter(|(route, announcement)| {
            let changed = |sent: &Sent| sent.announcement != **announcement || self.again.contains(route);
            for_us(announcement) && self.sent.get(route).is_none_or(changed)
        });
        // What operators ordered goes first, then what an attack needs: bans of hosts that do no harm now can wait.
        let mut announcements: Vec<(u8, &Route)> = new
            .map(|(route, a)| (self.turn(route, a), route))
            .filter(|(_, r)| !self.quarantined.contains(*r))
            .collect();
        announcements.sort_by_key(|(turn, _)| *turn);
        self.announcements = announcements.into_iter().map(|(_, route)| route.clone()).collect();
        for route in self.quarantined.iter().filter(|route| wanted.get(*route).is_some_and(for_us)) {
            let text = "in quarantine: the session ended right after it was sent";
            self.refused.insert(route.clone(), text.to_owned());
        }
        self.wanted = wanted;
    }

    /// When a route is announced: in this order, and by route.
    fn turn(&self, route: &Route, announcement: &Announcement) -> u8 {
        match self.gate.check(route, announcement).map(|class| Account::of(announcement.origin, class)) {
            Ok(Account::Operators) => 0,
            Ok(Account::Mitigation) => 1,
            Ok(Account::RemoteBans) | Err(_) => 2,
        }
    }

    /// Takes rules back where the table has become smaller.
    fn keep_within_budget(&mut self) {
        while let Some(debtor) = self.budget.debtor(&self.used) {
            let is_rule = |route: &&Route| matches!(route, Route::FlowSpec(_));
            let owes = |route: &&Route| self.sent.get(*route).is_some_and(|sent| sent.account == debtor);
            let Some(last) = self.sent.keys().rev().filter(is_rule).find(owes).cloned() else { return };
            self.withdraw(&last);
        }
    }

    fn withdraw(&mut self, route: &Route) {
        let (Some(sent), Some(family)) = (self.sent.remove(route), attribute::family_of(route)) else { return };
        self.again.remove(route);
        for nlri in sent.nlri {
            self.disown((family, nlri), route);
        }
    }

    /// An NLRI stands for a route no longer: it is withdrawn, or written as another owner wants it.
    fn disown(&mut self, key: Key, route: &Route) {
        self.change_owners(&key, |held| {
            held.owners.remove(route);
            held.former.insert(route.clone());
        });
        self.stale.insert(key);
    }

    fn change_owners(&mut self, key: &Key, change: impl FnOnce(&mut Held)) {
        let held = self.wire.entry(key.clone()).or_default();
        let before = held.account();
        change(held);
        let after = held.account();
        if is_flowspec(key.0) {
            before.into_iter().for_each(|account| self.used[account as usize] -= 1);
            after.into_iter().for_each(|account| self.used[account as usize] += 1);
        }
    }

    /// Whether the peer has been sent all that is wanted.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stale.is_empty() && self.announcements.is_empty() && self.refresh.is_empty() && self.end_of_rib.is_empty()
    }

    /// The next messages; none when all is done. Withdrawals first, then announcements, refreshes, and at last, once, End-of-RIB
    /// of each negotiated family, and of no other: some routers reset on those.
    pub fn next_messages(&mut self) -> Vec<Vec<u8>> {
        if !self.stale.is_empty() {
            return self.write(PORTION);
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

    /// Writes so many NLRI as they should stand: withdrawals first.
    fn write(&mut self, limit: usize) -> Vec<Vec<u8>> {
        let (mut withdrawn, mut owned) = (Vec::new(), Vec::new());
        for _ in 0..limit {
            let Some(key) = self.stale.pop_first() else { break };
            let Some(held) = self.wire.get_mut(&key) else { continue };
            held.former.clear();
            if held.owners.is_empty() {
                self.wire.remove(&key);
                withdrawn.push(key);
            } else {
                owned.push(key);
            }
        }
        let mut messages = withdraw_messages(withdrawn);
        messages.extend(self.encode(&owned));
        messages
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
        let owned = self.wire.iter().filter(|((of, _), held)| *of == family && !held.owners.is_empty());
        let keys: Vec<Key> = owned.map(|(key, _)| key.clone()).collect();
        let mut messages = Vec::new();
        let framed = self.enhanced_refresh;
        if framed {
            messages.push(message::route_refresh(family, Refresh::Begin));
        }
        messages.extend(self.encode(&keys));
        if framed {
            messages.push(message::route_refresh(family, Refresh::End));
        }
        messages
    }

    /// Announces routes as far as profile, budget and gate allow.
    fn announce(&mut self, routes: Vec<Route>) -> Vec<Vec<u8>> {
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
                Ok((account, nlri)) => self.note(family, &route, account, announcement, nlri),
                Err(reason) => {
                    // An older form of it must not stay behind.
                    self.withdraw(&route);
                    self.refused.insert(route, reason);
                }
            }
        }
        self.write(usize::MAX)
    }

    /// The NLRI for a route, if gate, profile and budget allow all of them.
    fn adapt(
        &self,
        family: Family,
        route: &Route,
        announcement: &Announcement,
    ) -> Result<(Account, Vec<Vec<u8>>), String> {
        let class = self.gate.check(route, announcement).map_err(|e| e.to_string())?;
        let account = Account::of(announcement.origin, class);
        let Route::FlowSpec(pattern) = route else {
            let nlri = vec![attribute::encode_nlri(route).map_err(|e| EncodeError::from(e).to_string())?];
            self.check_limit(family, &nlri)?;
            return Ok((account, nlri));
        };
        let parts = self.profile.adapt(pattern, &announcement.actions)?;
        let spelling = self.profile.spelling();
        let nlri: Result<Vec<Vec<u8>>, _> = parts
            .iter()
            .map(|p| flowspec::nlri::encode_spelled(p, spelling).map(flowspec::nlri::with_length))
            .collect();
        let nlri = nlri.map_err(|e| EncodeError::from(e).to_string())?;
        self.check_limit(family, &nlri)?;
        let new = self.new_of(family, &nlri);
        if new > 0 && !self.budget.fits(&self.used, account, new) {
            let total = self.budget.total();
            return Err(match account {
                Account::Operators | Account::Mitigation => {
                    format!("the router's budget of {total} rules is used up (flowspec_max_rules)")
                }
                Account::RemoteBans => {
                    format!("what remote bans may have of the router's {total} rules is used up (flowspec_max_rules)")
                }
            });
        }
        Ok((account, nlri))
    }

    /// How many of these the peer does not hold yet.
    fn new_of(&self, family: Family, nlri: &[Vec<u8>]) -> usize {
        let is_new = |n: &&Vec<u8>| self.wire.get(&(family, (*n).clone())).is_none_or(|held| held.owners.is_empty());
        nlri.iter().filter(is_new).count()
    }

    /// Whether the router takes so many more of a family.
    fn check_limit(&self, family: Family, nlri: &[Vec<u8>]) -> Result<(), String> {
        let Some(limit) = self.limits.get(&family) else { return Ok(()) };
        let held = self.wire.iter().filter(|((of, _), held)| *of == family && !held.owners.is_empty()).count();
        match self.new_of(family, nlri) {
            new if new > 0 && held + new > *limit => {
                Err(format!("the router takes no more than {limit} routes of {} (its prefix limit)", family.name()))
            }
            _ => Ok(()),
        }
    }

    /// Remembers a route as sent; its NLRI, and those of its former form that it no longer needs, are to be written.
    fn note(
        &mut self,
        family: Family,
        route: &Route,
        account: Account,
        announcement: Announcement,
        nlri: Vec<Vec<u8>>,
    ) {
        let former = self.sent.get(route).map(|sent| sent.nlri.clone()).unwrap_or_default();
        if former.is_empty() {
            self.news.push(route.clone());
        }
        for old in former.into_iter().filter(|old| !nlri.contains(old)) {
            self.disown((family, old), route);
        }
        for one in &nlri {
            let key = (family, one.clone());
            self.change_owners(&key, |held| {
                held.owners.insert(route.clone(), account);
            });
            self.stale.insert(key);
        }
        self.sent.insert(route.clone(), Sent { announcement, account, nlri });
    }

    /// An NLRI as its first owner wants it.
    fn prepared(&self, (family, nlri): &Key) -> Option<Prepared> {
        let route = self.wire.get(&(*family, nlri.clone()))?.speaker()?;
        let announcement = &self.sent.get(route)?.announcement;
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
            Route::FlowSpec(_) => decode_one(*family, nlri)?,
        };
        Some(Prepared { family: *family, form, scope: announcement.scope, route: one, nlri: nlri.clone() })
    }

    /// Routes with equal attributes share UPDATEs; neighbours in the ordered set mostly have them.
    fn encode(&mut self, keys: &[Key]) -> Vec<Vec<u8>> {
        let mut batches: Vec<Vec<Prepared>> = Vec::new();
        for key in keys {
            let Some(one) = self.prepared(key) else {
                self.fail_closed(key, "its encoded form does not decode");
                continue;
            };
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
                    Err(reason) => {
                        chunk.iter().for_each(|one| self.fail_closed(&(one.family, one.nlri.clone()), &reason));
                    }
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
            self.gate.check(route, &decoded).map_err(|e| e.to_string())?;
        }
        Ok(message)
    }

    /// What could not be written must not stand there in an older form either, nor may the other parts of those routes.
    fn fail_closed(&mut self, key: &Key, reason: &str) {
        let owners = self.wire.get(key).map(|held| held.owners.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        for route in owners {
            self.withdraw(&route);
            self.refused.insert(route, reason.to_owned());
        }
    }

    /// The routes the peer has been sent, those included whose withdrawal still waits to be written.
    #[must_use]
    pub fn sent(&self) -> Arc<BTreeSet<Route>> {
        let leaving = self.stale.iter().filter_map(|key| self.wire.get(key)).flat_map(|held| &held.former);
        Arc::new(self.sent.keys().chain(leaving).cloned().collect())
    }

    /// FlowSpec NLRI and unicast routes the peer holds, as it counts them: those whose withdrawal is not written yet included.
    #[must_use]
    pub fn wire_counts(&self) -> (usize, usize) {
        let flowspec = self.wire.keys().filter(|(family, _)| is_flowspec(*family)).count();
        (flowspec, self.wire.len() - flowspec)
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
    let parts = flowspec::nlri::split_flowspec(nlri)?;
    match parts[..] {
        [part] => flowspec::nlri::decode(version, part).ok().map(Route::FlowSpec),
        _ => None,
    }
}

fn withdraw_messages(portion: Vec<Key>) -> Vec<Vec<u8>> {
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

#[cfg(test)]
#[path = "adj_rib_out_tests.rs"]
mod tests;
