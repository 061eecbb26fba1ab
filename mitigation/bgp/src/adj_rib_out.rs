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

/// See the module.
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
mod tests {
    use flowspec::profile::{Kind, Profile};
    use flowspec::{Action, Condition, Pattern, Ranges};

    use super::*;
    use crate::gate::Classes;
    use crate::gate::fixture::OwnSpace;

    /// What a peer holds: the NLRI and the attributes it came with last.
    type Table = BTreeMap<Route, attribute::Attributes>;

    const HOSTS: u64 = 6;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            // xorshift64*.
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        }
    }

    fn gate(peer: &Peer) -> Arc<dyn Gate> {
        OwnSpace::gate(&["203.0.113.0/24", "2001:db8::/32"], peer.classes)
    }

    /// A router that takes one port a rule, so that different rules are cut into the same parts.
    fn peer(max_rules: usize) -> Peer {
        Peer {
            name: "r1".to_owned(),
            classes: Classes { incoming: true, outgoing: true, remote_bans: true },
            profile: Profile { max_rules, ipv6: true, ..Profile::of(Kind::SixWind) },
            ..Peer::default()
        }
    }

    fn sender() -> Sender {
        let next_hops = (peer(1).next_hop_ipv4, peer(1).next_hop_ipv6);
        Sender { asn: 65001, ibgp: false, four_octet_as: true, next_hops, rate_asn: 0 }
    }

    fn rib(peer: &Peer) -> AdjRibOut {
        AdjRibOut::new(sender(), Family::ALL.into(), gate(peer), peer, 0.1)
    }

    fn rule(host: u64, ports: &[u32], v6: bool) -> Route {
        let host = if v6 { format!("2001:db8::{host}/128") } else { format!("203.0.113.{host}/32") };
        Route::FlowSpec(
            Pattern::new(vec![
                Condition::Destination(host.parse().expect("prefix"), 0),
                Condition::Protocol(Ranges::value(17)),
                Condition::SourcePort(Ranges::union(ports.iter().map(|p| (*p, *p)))),
            ])
            .expect("a pattern"),
        )
    }

    fn discard() -> Announcement {
        Announcement::flowspec(Action::Discard)
    }

    /// Some routes, many of which share parts.
    fn some(random: &mut Random) -> Arc<Wanted> {
        let ports: [&[u32]; 4] = [&[53], &[53, 123], &[123, 389], &[53, 123, 389]];
        let mut wanted = Wanted::new();
        for _ in 0..random.below(9) {
            let host = random.below(HOSTS);
            let ban = || format!("198.51.100.{host}/32").parse().expect("prefix");
            let (route, mut announcement) = match random.below(6) {
                0 => {
                    let unicast = format!("203.0.113.{host}/32").parse().expect("prefix");
                    (Route::Unicast(unicast), Announcement::blackhole())
                }
                1 => {
                    let pattern = Pattern::new(vec![Condition::Source(ban(), 0)]).expect("a pattern");
                    let communities = vec![Community::NO_EXPORT];
                    (Route::FlowSpec(pattern), Announcement { communities, ..discard() }.manual())
                }
                n => (rule(host, ports[usize::try_from(random.below(4)).expect("small")], n == 2), discard()),
            };
            if random.below(3) == 0 {
                announcement.communities.push(Community(65001, u16::try_from(random.below(3)).expect("small")));
            }
            if random.below(3) == 0 {
                announcement = announcement.manual();
            }
            wanted.insert(route, announcement);
        }
        Arc::new(wanted)
    }

    /// What a peer makes of messages. It wonders at withdrawals of what it does not hold.
    fn receive(table: &mut Table, messages: &[Vec<u8>]) {
        for message in messages.iter().filter(|m| m.get(18) == Some(&2)) {
            let update = attribute::decode(&message[HEADER..]).expect("well-formed");
            for route in &update.withdrawn {
                assert!(table.remove(route).is_some(), "{route} was not there");
            }
            for route in &update.announced {
                table.insert(route.clone(), update.attributes.clone());
            }
        }
    }

    fn drain(rib: &mut AdjRibOut, table: &mut Table) {
        while !rib.is_done() {
            let messages = rib.next_messages();
            receive(table, &messages);
        }
    }

    /// What a peer holds to which nothing else was ever sent.
    fn reference(peer: &Peer, wanted: &Arc<Wanted>) -> Table {
        let mut table = Table::new();
        receive(&mut table, &rib(peer).reconcile(wanted));
        table
    }

    #[test]
    fn withdrawals_that_wait_for_a_slow_reader_survive_every_later_plan() {
        let peer = peer(1000);
        let (mut rib, mut table) = (rib(&peer), Table::new());
        let all: Arc<Wanted> = Arc::new(
            (0..200).flat_map(|i| [rule(i, &[53], false), rule(i, &[53], true)]).map(|r| (r, discard())).collect(),
        );
        rib.plan(Arc::clone(&all));
        drain(&mut rib, &mut table);
        assert_eq!(table.len(), 400);
        rib.plan(Arc::default());
        assert_eq!((rib.sent().len(), rib.wire_counts().0), (400, 400), "the router holds them until it is told");
        rib.plan(Arc::default());
        rib.plan(Arc::new(all.iter().take(1).map(|(r, a)| (r.clone(), a.clone())).collect()));
        rib.plan(Arc::default());
        drain(&mut rib, &mut table);
        assert_eq!((table.len(), rib.sent().len(), rib.wire_counts()), (0, 0, (0, 0)));
    }

    #[test]
    fn a_part_that_two_rules_share_goes_back_to_the_other_however_often_it_is_planned() {
        let peer = peer(1000);
        let (mut rib, mut table) = (rib(&peer), Table::new());
        let (both, one) = (rule(9, &[53, 123], false), rule(9, &[53], false));
        let marked = Announcement { communities: vec![Community(65001, 1)], ..discard() }.manual();
        let left = Arc::new(Wanted::from([(both.clone(), discard())]));
        rib.plan(Arc::new(Wanted::from([(both.clone(), discard()), (one.clone(), marked)])));
        drain(&mut rib, &mut table);
        assert_eq!(table[&one].communities, [Community(65001, 1)], "an operator's word counts");
        rib.plan(Arc::clone(&left));
        rib.plan(Arc::clone(&left));
        drain(&mut rib, &mut table);
        assert_eq!(table, reference(&peer, &left));
        assert!(table[&one].communities.is_empty());
    }

    /// Plans, drains by the message, settings, refreshes, and new sessions in any order; whenever all is written the peer holds what
    /// it would had it been sent the last plan alone.
    #[test]
    fn whatever_is_planned_and_however_slowly_it_is_read_the_peer_ends_up_with_what_is_wanted() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut peer = peer(1000);
        let (mut rib_, mut table, mut wanted) = (rib(&peer), Table::new(), Arc::new(Wanted::new()));
        let mut compared = 0;
        for step in 0..STEPS {
            match random.below(20) {
                0..8 => {
                    wanted = some(&mut random);
                    rib_.plan(Arc::clone(&wanted));
                }
                8 => rib_.plan(Arc::clone(&wanted)),
                9 => {
                    wanted = Arc::default();
                    rib_.plan(Arc::clone(&wanted));
                }
                10 => {
                    peer.communities = vec![Community(65001, 100 + u16::try_from(random.below(3)).expect("small"))];
                    rib_.reconfigure(sender(), gate(&peer), &peer, 0.1, true);
                    rib_.plan(Arc::clone(&wanted));
                }
                11 => rib_.refresh(Family::Ipv4FlowSpec),
                12 => {
                    (rib_, table) = (rib(&peer), Table::new());
                    rib_.plan(Arc::clone(&wanted));
                }
                13 => {
                    drain(&mut rib_, &mut table);
                    assert_eq!(table, reference(&peer, &wanted), "step {step}: {wanted:?}");
                    compared += 1;
                }
                // A reader with room for one NLRI.
                14 if !rib_.stale.is_empty() => {
                    let messages = rib_.write(1);
                    receive(&mut table, &messages);
                }
                _ if !rib_.is_done() => {
                    let messages = rib_.next_messages();
                    receive(&mut table, &messages);
                }
                _ => {}
            }
            let held: BTreeSet<Route> = table.keys().cloned().collect();
            assert_eq!(held.len(), rib_.wire.len(), "step {step}: what the wire holds is what was written");
        }
        assert!(compared > STEPS / 40, "{compared}");
    }

    const STEPS: usize = 100_000;

    #[test]
    fn bans_and_orders_leave_room_for_mitigation_in_each_routers_table() {
        let peer = peer(100);
        let mut wanted = Wanted::new();
        for i in 0..200 {
            let source = format!("198.51.100.{i}/32").parse().expect("prefix");
            let pattern = Pattern::new(vec![Condition::Source(source, 0)]).expect("a pattern");
            let ban = Announcement { communities: vec![Community::NO_EXPORT], ..discard() }.manual();
            wanted.insert(Route::FlowSpec(pattern), ban);
        }
        let (mut rib, mut table) = (rib(&peer), Table::new());
        rib.plan(Arc::new(wanted.clone()));
        drain(&mut rib, &mut table);
        assert_eq!(table.len(), 65, "100 less the shares of operators and of mitigation");
        assert!(rib.refused().values().all(|why| why.contains("remote bans")), "{:?}", rib.refused());
        wanted.extend((0..30).map(|i| (rule(i, &[53], false), discard())));
        wanted.extend((0..20).map(|i| (rule(i, &[123], true), discard().manual())));
        rib.plan(Arc::new(wanted.clone()));
        drain(&mut rib, &mut table);
        let mined = (0..30).filter(|i| table.contains_key(&rule(*i, &[53], false))).count();
        let ordered = (0..20).filter(|i| table.contains_key(&rule(*i, &[123], true))).count();
        assert_eq!((mined, ordered, table.len()), (25, 10, 100));
        // A router that turns out to hold less.
        rib.limit(40);
        rib.plan(Arc::new(wanted));
        drain(&mut rib, &mut table);
        let mined = (0..30).filter(|i| table.contains_key(&rule(*i, &[53], false))).count();
        assert!(table.len() <= 40 && mined >= 10, "{} rules, {mined} of them mined", table.len());
    }

    #[test]
    fn a_prefix_limit_on_one_family_leaves_the_others_alone() {
        let peer = peer(100);
        let mut wanted = Wanted::new();
        wanted.extend((0..6).map(|i| (rule(i, &[53], false), discard())));
        let holes = ["203.0.113.101/32", "203.0.113.102/32", "203.0.113.103/32", "2001:db8::1/128", "2001:db8::2/128"];
        wanted.extend(holes.map(|p| (Route::Unicast(p.parse().expect("prefix")), Announcement::blackhole())));
        let (mut rib, mut table) = (rib(&peer), Table::new());
        rib.limit_family(Family::Ipv4Unicast, 2);
        rib.plan(Arc::new(wanted));
        drain(&mut rib, &mut table);
        let of = |family| table.keys().filter(|route| attribute::family_of(route) == Some(family)).count();
        assert_eq!((of(Family::Ipv4FlowSpec), of(Family::Ipv4Unicast), of(Family::Ipv6Unicast)), (6, 2, 2));
        assert!(rib.refused().values().all(|why| why.contains("no more than 2")), "{:?}", rib.refused());
    }
}
