//! [`AdjRibIn`]: the FlowSpec rules that one peer has announced, and which of them may be used.
//!
//! Where it is asked to, it takes blackholes (unicast routes with BLACKHOLE, RFC 7999) as rules that discard all traffic to their
//! prefix; they come before every rule, as a router drops by its routing table what its rules let pass. Other unicast routes are
//! not kept.
//!
//! Rules are kept by their octets (RFC 4271 section 3.2: the NLRI is the route's identity). A peer's table is capped: rules beyond
//! [`Accept::max_rules`] are counted and forgotten, and [`AdjRibIn::wants_refresh`] says when there is room to ask for them again.
//! RFC 8955 section 6 validates a rule against unicast routes; a filter box has none, so an explicit [`Accept`] list takes its
//! place. After a lost session with graceful restart (RFC 4724 section 4.2) rules stay, marked stale, until the peer has sent its
//! table again or the restart time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flowspec::nlri::{self, FlowNlri, NlriError};
use flowspec::{Action, Condition, Pattern};
use traffic::{IpVersion, Prefix, Time};

use super::attribute::{Attributes, Update};
use crate::announcement::{Community, Route};
use crate::peer::Family;

/// Stale rules go after this long at the latest, whatever restart time the peer asked for.
pub const MAX_RESTART: Duration = Duration::from_secs(600);

/// A part of the address space that a peer may announce rules for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The space.
    pub prefix: Prefix,
    /// Shortest prefix length of a rule inside it.
    pub minimum_length: u8,
}

impl Allowed {
    fn allows(&self, prefix: &Prefix) -> bool {
        self.prefix.contains(prefix) && prefix.length() >= self.minimum_length
    }
}

/// What is accepted from a peer. Nothing is, unless it is named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    /// Destinations of rules.
    pub destinations: Vec<Allowed>,
    /// Sources of rules that have no destination; empty: every rule needs a destination.
    pub sources: Vec<Allowed>,
    /// Rules at most.
    pub max_rules: usize,
}

/// Why a rule of a peer is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// No allowed destination contains it.
    #[error("destination {0} is outside what this peer may filter: add it to the peer's allow list")]
    Destination(Prefix),
    /// It is wider than the list allows.
    #[error("destination {0} is wider than the allow list's minimum length of /{1}")]
    TooWide(Prefix, u8),
    /// A destination with an offset says nothing about the leading bits.
    #[error("an IPv6 destination with an offset matches addresses everywhere, also outside the peer's allow list")]
    Offset,
    /// It has only a source, which the list does not hold.
    #[error("the rule has no destination, and its source is not in the peer's allow_sources list")]
    Source,
    /// It has neither.
    #[error("the rule has neither destination nor source: it would match traffic of everyone")]
    Everything,
}

impl Accept {
    /// Checks a rule.
    ///
    /// # Errors
    /// See [`NotAccepted`].
    pub fn check(&self, pattern: &Pattern) -> Result<(), NotAccepted> {
        let offset = |c: &Condition| matches!(c, Condition::Destination(_, 1..) | Condition::Source(_, 1..));
        if let Some(destination) = pattern.destination() {
            if pattern.conditions().first().is_some_and(offset) {
                return Err(NotAccepted::Offset);
            }
            if self.destinations.iter().any(|a| a.allows(&destination)) {
                return Ok(());
            }
            let inside = self.destinations.iter().filter(|a| a.prefix.overlaps(&destination));
            return Err(match inside.map(|a| a.minimum_length).min() {
                Some(length) if length > destination.length() => NotAccepted::TooWide(destination, length),
                _ => NotAccepted::Destination(destination),
            });
        }
        let Some(source) = pattern.source() else { return Err(NotAccepted::Everything) };
        let offset = pattern.conditions().iter().any(offset);
        if !offset && self.sources.iter().any(|a| a.allows(&source)) { Ok(()) } else { Err(NotAccepted::Source) }
    }
}

/// Where a rule stands in RFC 8955 section 5.1's order: smaller comes first. IPv4 before IPv6, which never meet.
///
/// The key is a string of symbols that compares as the RFC's algorithm does: components by type, prefixes bit by bit, everything else
/// octet by octet; the end of a prefix, a value or the rule comes behind every other symbol, so that the longer one wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precedence(Kind, IpVersion, Arc<[u16]>);

/// Blackholes come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Blackhole,
    FlowSpec,
}

const END: u16 = 0x100;

impl Precedence {
    /// Of a decoded NLRI.
    #[must_use]
    pub fn of(flow: &FlowNlri) -> Self {
        let mut key = Vec::with_capacity(flow.octets.len() * 2);
        let mut data = &flow.octets[..];
        let mut prefixes = flow.pattern.conditions().iter();
        while let Some((&kind, rest)) = data.split_first() {
            key.push(kind.into());
            data = rest;
            if kind <= 2 {
                data = prefix_key(flow.version, prefixes.next(), data, &mut key);
            } else {
                data = operators_key(data, &mut key);
            }
            key.push(END);
        }
        key.push(END);
        Self(Kind::FlowSpec, flow.version, key.into())
    }

    fn of_blackhole(flow: &FlowNlri) -> Self {
        Self { 0: Kind::Blackhole, ..Self::of(flow) }
    }

    /// The address family of what stands here.
    const fn family(&self) -> Family {
        match (self.0, self.1) {
            (Kind::FlowSpec, IpVersion::V4) => Family::Ipv4FlowSpec,
            (Kind::FlowSpec, IpVersion::V6) => Family::Ipv6FlowSpec,
            (Kind::Blackhole, IpVersion::V4) => Family::Ipv4Unicast,
            (Kind::Blackhole, IpVersion::V6) => Family::Ipv6Unicast,
        }
    }
}

/// RFC 8956 section 4: the smaller offset first, then the bits from there on. Returns what follows the prefix.
fn prefix_key<'a>(version: IpVersion, condition: Option<&Condition>, data: &'a [u8], key: &mut Vec<u16>) -> &'a [u8] {
    let (Some(Condition::Destination(prefix, offset) | Condition::Source(prefix, offset)), Some(&length)) =
        (condition, data.first())
    else {
        return &[];
    };
    let mut octets = 1;
    if version == IpVersion::V6 {
        key.push(u16::from(*offset));
        octets = 2;
    }
    key.extend((*offset..length).map(|bit| u16::from(prefix.bits() >> (127 - bit) & 1 == 1)));
    octets += usize::from(length.saturating_sub(*offset)).div_ceil(8);
    data.get(octets..).unwrap_or(&[])
}

/// Operators and values up to the end-of-list bit, as they are.
fn operators_key<'a>(mut data: &'a [u8], key: &mut Vec<u16>) -> &'a [u8] {
    while let Ok((operator, _, rest)) = nlri::decode_value(data) {
        key.extend(data[..data.len() - rest.len()].iter().map(|o| u16::from(*o)));
        data = rest;
        if operator & 0x80 != 0 {
            return data;
        }
    }
    &[]
}

/// A rule that a peer announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// NLRI.
    pub flow: Arc<FlowNlri>,
    /// Attributes, shared by the routes of an UPDATE.
    pub attributes: Arc<Attributes>,
    /// When it was announced.
    pub since: Time,
    /// Of a session that was lost; kept for graceful restart.
    pub stale: bool,
}

/// What a peer said about restarting in its OPEN (RFC 4724 section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restart {
    /// How long to keep its rules.
    pub time: Duration,
    /// Families it keeps or sends again.
    pub families: BTreeSet<Family>,
}

/// Rules that a peer announced, in their order.
#[derive(Debug, Clone, Default)]
pub struct AdjRibIn {
    rules: BTreeMap<Precedence, Learned>,
    max_rules: usize,
    takes_blackholes: bool,
    /// Rules that were not understood, since the session came up.
    pub malformed: u64,
    /// Why the first of them was not.
    pub malformed_reason: Option<NlriError>,
    /// Announcements beyond the cap that were forgotten.
    pub over_limit: u64,
    is_short: bool,
    stale_until: Option<Time>,
}

impl AdjRibIn {
    /// Empty, for at most `max_rules` rules.
    #[must_use]
    pub fn new(max_rules: usize) -> Self {
        Self { max_rules, ..Self::default() }
    }

    /// Blackholes are taken, too.
    #[must_use]
    pub fn with_blackholes(self, takes_blackholes: bool) -> Self {
        Self { takes_blackholes, ..self }
    }

    /// Rules in RFC 8955 section 5.1's order.
    #[must_use]
    pub const fn rules(&self) -> &BTreeMap<Precedence, Learned> {
        &self.rules
    }

    /// Takes an UPDATE; true if rules changed.
    pub fn apply(&mut self, now: Time, update: &Update) -> bool {
        let mut changed = false;
        for flow in &update.flow_withdrawn {
            changed |= self.rules.remove(&Precedence::of(flow)).is_some();
        }
        if update.dropped > 0 {
            self.malformed += update.dropped as u64;
            self.malformed_reason = self.malformed_reason.or(update.dropped_reason);
        }
        let attributes = Arc::new(update.attributes.clone());
        for flow in &update.flow_announced {
            changed |= self.announce(now, Precedence::of(flow), flow, &attributes);
        }
        if self.takes_blackholes {
            changed |= self.apply_unicast(now, update);
        }
        if let Some(family) = update.end_of_rib {
            changed |= self.end_of_rib(family);
        }
        changed
    }

    /// A route replaces the one before it for its prefix, be it a blackhole or not.
    fn apply_unicast(&mut self, now: Time, update: &Update) -> bool {
        let is_blackhole = update.attributes.communities.contains(&Community::BLACKHOLE);
        let attributes = Arc::new(Attributes::of_actions(vec![Action::Discard]));
        let mut changed = false;
        for flow in update.withdrawn.iter().filter_map(to_prefix) {
            changed |= self.rules.remove(&Precedence::of_blackhole(&flow)).is_some();
        }
        for flow in update.announced.iter().filter_map(to_prefix) {
            let key = Precedence::of_blackhole(&flow);
            changed |= if is_blackhole {
                self.announce(now, key, &flow, &attributes)
            } else {
                self.rules.remove(&key).is_some()
            };
        }
        changed
    }

    fn announce(&mut self, now: Time, key: Precedence, flow: &FlowNlri, attributes: &Arc<Attributes>) -> bool {
        if let Some(known) = self.rules.get_mut(&key) {
            known.stale = false;
            if *known.attributes == **attributes {
                return false;
            }
            known.attributes = Arc::clone(attributes);
            known.since = now;
            return true;
        }
        if self.rules.len() >= self.max_rules {
            self.over_limit += 1;
            self.is_short = true;
            return false;
        }
        let learned =
            Learned { flow: Arc::new(flow.clone()), attributes: Arc::clone(attributes), since: now, stale: false };
        self.rules.insert(key, learned);
        true
    }

    /// Whether rules were forgotten for want of room and a tenth of the room is there now: ask for a route refresh.
    pub fn wants_refresh(&mut self) -> bool {
        let room = self.is_short && self.rules.len() <= self.max_rules - self.max_rules.div_ceil(10);
        self.is_short &= !room;
        room
    }

    /// The session ended. With `restart` (and no NOTIFICATION: RFC 4724 section 4) rules of its families stay for its time.
    /// Returns how many rules went.
    pub fn lost(&mut self, now: Time, restart: Option<&Restart>) -> usize {
        self.is_short = false;
        let before = self.rules.len();
        let kept = restart.filter(|r| !r.time.is_zero());
        self.rules.retain(|key, rule| {
            // RFC 4724 section 4.2: a second loss removes what the first has left stale.
            let keep = !rule.stale && kept.is_some_and(|r| r.families.contains(&key.family()));
            rule.stale = keep;
            keep
        });
        let until = kept.map(|r| now.after(r.time.min(MAX_RESTART)));
        self.stale_until = until.filter(|_| !self.rules.is_empty());
        before - self.rules.len()
    }

    /// A session came up. Stale rules of families that the peer did not keep over its restart go (RFC 4724 section 4.2).
    /// Returns how many rules went.
    pub fn up(&mut self, kept: &BTreeSet<Family>) -> usize {
        (self.malformed, self.malformed_reason, self.over_limit) = (0, None, 0);
        let before = self.rules.len();
        self.rules.retain(|key, rule| !rule.stale || kept.contains(&key.family()));
        before - self.rules.len()
    }

    /// The peer sends all of a family again (RFC 7313): what it does not repeat goes with [`AdjRibIn::end_of_rib`].
    pub fn refresh_begin(&mut self, of: Family) {
        self.rules.iter_mut().filter(|(key, _)| key.family() == of).for_each(|(_, rule)| rule.stale = true);
    }

    /// The peer has sent all of a family: what is still stale goes. True if rules changed.
    pub fn end_of_rib(&mut self, of: Family) -> bool {
        let before = self.rules.len();
        self.rules.retain(|key, rule| !rule.stale || key.family() != of);
        before != self.rules.len()
    }

    /// When [`AdjRibIn::expire`] is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Time> {
        self.stale_until
    }

    /// Removes what is stale for too long; returns how many rules went.
    pub fn expire(&mut self, now: Time) -> usize {
        if self.stale_until.is_none_or(|at| now < at) {
            return 0;
        }
        self.stale_until = None;
        let before = self.rules.len();
        self.rules.retain(|_, rule| !rule.stale);
        before - self.rules.len()
    }
}

/// All traffic to the prefix of a unicast route.
fn to_prefix(route: &Route) -> Option<FlowNlri> {
    let Route::Unicast(prefix) = route else { return None };
    let pattern = Pattern::new(vec![Condition::Destination(*prefix, 0)]).ok()?;
    let octets = nlri::encode(&pattern).ok()?;
    Some(FlowNlri { version: prefix.version(), octets, pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(version: IpVersion, hex: &str) -> FlowNlri {
        let octets: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect();
        FlowNlri::decode(version, &octets).expect("valid")
    }

    fn v4(hex: &str) -> FlowNlri {
        flow(IpVersion::V4, hex)
    }

    fn announce(flows: &[FlowNlri], action: Action) -> Update {
        let mut attributes = Attributes::default();
        attributes.actions = vec![action];
        Update { flow_announced: flows.to_vec(), attributes, ..Update::default() }
    }

    fn p(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    #[test]
    fn rules_are_ordered_as_rfc_8955_section_5_1_says() {
        let in_order = [
            v4("0120c0000201038111"), // destination 192.0.2.1/32 protocol udp
            v4("0120c0000201"),       // a rule without the component comes later
            v4("0118c00002"),         // the more specific prefix first
            v4("0118c00003"),         // then the lower address
            v4("01100a00"),           // 10.0.0.0/16 is lower, but not by octets alone: 10 < 192
            v4("0218c63364038106"),   // no destination: later
        ];
        // 10.0.0.0/16 does not overlap 192.0.2.0/24, so the lower address wins.
        let by_value = [&in_order[4], &in_order[0], &in_order[1], &in_order[2], &in_order[3]];
        assert!(by_value.windows(2).all(|w| Precedence::of(w[0]) < Precedence::of(w[1])));
        // Values by octets: a prefix of the other comes later, else the lower one first.
        let (tcp, tcp_or_udp, udp) = (v4("038106"), v4("0301068111"), v4("038111"));
        assert!(Precedence::of(&tcp_or_udp) < Precedence::of(&tcp), "0x01 before 0x81");
        assert!(Precedence::of(&tcp) < Precedence::of(&udp));
        // IPv6: the smaller offset first.
        let (plain, offset) = (flow(IpVersion::V6, "01200020010db8"), flow(IpVersion::V6, "0168401234567890"));
        assert!(Precedence::of(&plain) < Precedence::of(&offset));
    }

    #[test]
    fn a_table_is_capped_and_asks_again_when_there_is_room() {
        let now = Time::from_seconds(1000, 0);
        let mut rib = AdjRibIn::new(2);
        let rules = [v4("0120c0000201"), v4("0120c0000202"), v4("0120c0000203")];
        assert!(rib.apply(now, &announce(&rules, Action::Discard)));
        assert_eq!((rib.rules().len(), rib.over_limit, rib.wants_refresh()), (2, 1, false));
        rib.apply(now, &Update { flow_withdrawn: vec![rules[0].clone()], ..Update::default() });
        assert!(rib.wants_refresh() && !rib.wants_refresh(), "once");
        assert!(!rib.apply(now, &announce(&rules[1..2], Action::Discard)), "nothing new");
        assert!(rib.apply(now, &announce(&rules[1..2], Action::Accept)), "another action");
    }

    #[test]
    fn stale_rules_stay_for_the_restart_time_and_go_with_end_of_rib() {
        let now = Time::from_seconds(1000, 0);
        let restart = Restart { time: Duration::from_secs(30), families: BTreeSet::from([Family::Ipv4FlowSpec]) };
        let table = || {
            let mut rib = AdjRibIn::new(10);
            rib.apply(now, &announce(&[v4("0120c0000201"), v4("0120c0000202")], Action::Discard));
            rib.apply(now, &announce(&[flow(IpVersion::V6, "01200020010db8")], Action::Discard));
            rib
        };
        let mut rib = table();
        assert_eq!(rib.lost(now, None), 3, "without graceful restart all go");
        let mut rib = table();
        assert_eq!(rib.lost(now, Some(&restart)), 1, "the family without restart goes");
        assert_eq!((rib.rules().len(), rib.poll_timeout()), (2, Some(now.after(restart.time))));
        assert_eq!(rib.expire(now.after(Duration::from_secs(29))), 0);
        let mut expired = rib.clone();
        assert_eq!(expired.expire(now.after(restart.time)), 2);
        assert_eq!(rib.up(&restart.families), 0);
        rib.apply(now, &announce(&[v4("0120c0000202")], Action::Discard));
        let end = Update { end_of_rib: Some(Family::Ipv4FlowSpec), ..Update::default() };
        assert!(rib.apply(now, &end));
        assert_eq!(rib.rules().len(), 1, "what was not sent again went");
        // Twice lost: stale rules do not live on.
        let mut twice = table();
        twice.lost(now, Some(&restart));
        assert_eq!(twice.lost(now, Some(&restart)), 2);
    }

    #[test]
    fn blackholes_come_first_where_they_are_asked_for_and_go_when_their_route_changes() {
        let now = Time::from_seconds(1000, 0);
        let route = |text: &str| Route::Unicast(p(text));
        let unicast = |announced: &[&str], communities: Vec<Community>| {
            let mut attributes = Attributes::default();
            attributes.communities = communities;
            Update { announced: announced.iter().map(|t| route(t)).collect(), attributes, ..Update::default() }
        };
        let blackholes = unicast(&["192.0.2.1/32", "2001:db8::1/128"], vec![Community::BLACKHOLE]);
        let mut rib = AdjRibIn::new(10);
        assert!(!rib.apply(now, &blackholes), "nobody asked for them");
        let mut rib = AdjRibIn::new(10).with_blackholes(true);
        assert!(!rib.apply(now, &unicast(&["192.0.2.0/24"], Vec::new())), "a route is no blackhole");
        rib.apply(now, &announce(&[v4("0120c0000201038111"), v4("0120c0000201")], Action::Accept));
        assert!(rib.apply(now, &blackholes));
        let rules: Vec<String> = rib.rules().values().map(|r| r.flow.pattern.to_string()).collect();
        assert_eq!(rules[..2], ["destination 192.0.2.1/32", "destination 2001:db8::1/128"]);
        assert_eq!(rules.len(), 4, "a rule of the same destination is another one");
        let restart = Restart { time: Duration::from_secs(30), families: BTreeSet::from([Family::Ipv6Unicast]) };
        assert_eq!(rib.clone().lost(now, Some(&restart)), 3, "the family that restarts stays");
        assert!(rib.apply(now, &Update { withdrawn: vec![route("2001:db8::1/128")], ..Update::default() }));
        assert!(rib.apply(now, &unicast(&["192.0.2.1/32"], Vec::new())), "its route leads somewhere again");
        assert!(rib.rules().values().all(|r| r.attributes.actions == [Action::Accept]));
    }

    #[test]
    fn only_allowed_destinations_are_accepted() {
        let allow = |prefix, minimum_length| Allowed { prefix: p(prefix), minimum_length };
        let accept = Accept {
            destinations: vec![allow("192.0.2.0/24", 32), allow("2001:db8::/32", 64)],
            sources: vec![allow("198.51.100.0/24", 32)],
            max_rules: 10,
        };
        let check = |version, hex| accept.check(&flow(version, hex).pattern).map_err(|e| e.to_string());
        assert_eq!(check(IpVersion::V4, "0120c0000201038111"), Ok(()));
        assert!(check(IpVersion::V4, "0118c00002").is_err_and(|e| e.contains("wider")));
        assert!(check(IpVersion::V4, "01180a0000").is_err_and(|e| e.contains("outside")));
        assert!(check(IpVersion::V4, "0100").is_err());
        assert!(check(IpVersion::V4, "038111").is_err_and(|e| e.contains("everyone")));
        assert_eq!(check(IpVersion::V4, "0220c6336401"), Ok(()), "source-only where permitted");
        assert!(check(IpVersion::V4, "0218c63364").is_err(), "the source is too wide");
        assert!(check(IpVersion::V6, "0168401234567890").is_err_and(|e| e.contains("offset")));
        assert_eq!(check(IpVersion::V6, "01400020010db800000000"), Ok(()));
    }
}
