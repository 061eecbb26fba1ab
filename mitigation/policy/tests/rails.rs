//! A million random attacks and orders under random configurations: whatever is asked, nothing that is sent breaks a rail. What is
//! sent is looked at as octets on the wire, by a checker of its own.

#[path = "support/order.rs"]
mod order;

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp::adj_rib_out::AdjRibOut;
use bgp::attribute::{self, Attributes, Sender};
use bgp::message::HEADER;
use bgp::{Classes, Community, Family, Peer, Route};
use flowspec::nlri::FlowNlri;
use flowspec::profile::{Kind, Profile};
use flowspec::{Action, BitTest, Bits, Condition, FlowSpec, Pattern, Ranges};
use policy::rails::{Rails, Space};
use policy::{Config, FlowSpecOptions, GroupPolicy, Held, Order, Policy, Proposal, Rung};
use traffic::{Direction, IpVersion, Prefix, Target, Time};

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }

    fn yes(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn small(&mut self, n: u64) -> u32 {
        u32::try_from(self.below(n)).expect("small")
    }

    /// A prefix around a few places, so that hits are common; of any length now and then.
    fn prefix(&mut self) -> Prefix {
        let v6 = self.yes(4);
        let (version, base, bits) =
            if v6 { (IpVersion::V6, 0x2001_0db8_u128 << 96, 128) } else { (IpVersion::V4, 0xcb00_7100_u128 << 96, 32) };
        let shift = if v6 { 64 } else { 96 };
        let inside = u128::from(self.below(1024)) << shift;
        let length = match self.below(6) {
            0 => self.small(bits + 1),
            1 => self.small(9) + if v6 { 44 } else { 22 },
            _ => u32::try_from(bits).expect("small"),
        };
        Prefix::new(version, base ^ inside, u8::try_from(length).expect("small")).expect("valid")
    }

    fn ranges(&mut self, max: u64) -> Ranges {
        let count = 1 + self.below(3);
        Ranges::union((0..count).map(|_| {
            let low = self.small(max + 1);
            let high = if self.yes(2) { low } else { self.small(max + 1) };
            (low.min(high), low.max(high))
        }))
    }

    fn bits(&mut self, max: u64) -> Bits {
        let count = 1 + self.below(3);
        let tests = (0..count).map(|_| BitTest {
            and: self.yes(2),
            negate: self.yes(2),
            all: self.yes(2),
            mask: u16::try_from(self.below(max + 1)).expect("small"),
        });
        Bits::new(tests.collect()).expect("some")
    }

    fn pattern(&mut self, own: Option<Condition>) -> Option<Pattern> {
        let mut conditions: Vec<Condition> = own.into_iter().collect();
        for kind in 1..=13u32 {
            if !self.yes(5) || conditions.iter().any(|c| u32::from(c.component_type()) == kind) {
                continue;
            }
            let offset = if self.yes(20) { 8 } else { 0 };
            conditions.push(match kind {
                1 => Condition::Destination(self.prefix(), offset),
                2 => Condition::Source(self.prefix(), offset),
                3 => {
                    let one = [1, 6, 17, 58, 47][usize::try_from(self.below(5)).expect("small")];
                    Condition::Protocol(if self.yes(2) { Ranges::value(one) } else { self.ranges(255) })
                }
                4 => Condition::Port(self.ranges(65_535)),
                5 => Condition::DestinationPort(self.ranges(400)),
                6 => Condition::SourcePort(self.ranges(65_535)),
                7 => Condition::IcmpType(self.ranges(255)),
                8 => Condition::IcmpCode(self.ranges(255)),
                9 => Condition::TcpFlags(self.bits(255)),
                10 => {
                    let max = if self.yes(2) { 65_535 } else { 2000 };
                    Condition::Length(self.ranges(max))
                }
                11 => Condition::Dscp(self.ranges(63)),
                12 => Condition::Fragment(self.bits(15)),
                _ => Condition::FlowLabel(self.ranges(0xf_ffff)),
            });
        }
        Pattern::new(conditions).ok()
    }

    fn action(&mut self) -> Action {
        match self.below(5) {
            0 => Action::Accept,
            1 => Action::RateLimitBytes(1000.0),
            2 => Action::RedirectAs2 { asn: 65001, value: 1 },
            _ => Action::Discard,
        }
    }

    fn config(&mut self) -> Config {
        let mut prefixes = |n: u64| (0..n).map(|_| self.prefix()).collect::<Vec<_>>();
        let (networks, protected, remote_skiplist) = (prefixes(3), prefixes(2), prefixes(1));
        let peers = (0..2).map(|i| Peer {
            name: format!("r{i}"),
            remote_address: self.prefix().address(),
            local_asn: 65001,
            remote_asn: 65002,
            classes: Classes { incoming: !self.yes(5), outgoing: self.yes(2), remote_bans: self.yes(2) },
            profile: Profile::of(Kind::ALL[usize::try_from(self.below(12)).expect("small")].0),
            ..Peer::default()
        });
        let peers: Vec<Peer> = peers.collect();
        let ladder = vec![Rung::FlowSpec(vec![self.action()]), Rung::Blackhole];
        let group = GroupPolicy { enable_ban: true, ladder, ..GroupPolicy::default() };
        Config {
            networks,
            enable_ban: true,
            flow_spec: FlowSpecOptions { execute_validation: self.yes(2), ..FlowSpecOptions::default() },
            groups: [("global".to_owned(), group.clone()), (String::new(), group)].into(),
            protected,
            remote_skiplist,
            shortest_prefix: (u8::try_from(8 + self.small(25)).expect("small"), 40),
            minimum_coverage: 0.1,
            max_new_rules_per_second: 1_000_000,
            max_rules: 1 + usize::try_from(self.below(30)).expect("small"),
            max_rules_per_host: 1 + usize::try_from(self.below(10)).expect("small"),
            peers,
            ..Config::default()
        }
    }
}

fn within(inner: &Prefix, outer: &Prefix) -> bool {
    let keep = u32::from(outer.length());
    let mask = if keep == 0 { 0 } else { u128::MAX << (128 - keep) };
    inner.version() == outer.version() && inner.length() >= outer.length() && (inner.bits() ^ outer.bits()) & mask == 0
}

fn touches(a: &Prefix, b: &Prefix) -> bool {
    within(a, b) || within(b, a)
}

/// What is wrong with a route on the wire; the widest prefixes that were asked for are `asked`.
fn wrong(
    config: &Config,
    peer: &Peer,
    route: &Route,
    attributes: &Attributes,
    asked: &BTreeSet<Prefix>,
) -> Option<String> {
    let ours = |p: &Prefix| config.networks.iter().any(|n| within(p, n));
    let mut protected = config.protected.clone();
    protected.extend(config.peers.iter().map(|p| Prefix::host(p.remote_address)));
    let (destination, source) = match route {
        Route::Unicast(prefix) if ours(prefix) => (Some(*prefix), None),
        Route::Unicast(prefix) => (None, Some(*prefix)),
        Route::FlowSpec(pattern) => (pattern.destination(), pattern.source()),
    };
    let own = if destination.as_ref().is_some_and(ours) {
        if !peer.classes.incoming {
            return Some("incoming is off".to_owned());
        }
        destination?
    } else if source.as_ref().is_some_and(ours) {
        if !peer.classes.outgoing {
            return Some("outgoing is off".to_owned());
        }
        if protected.iter().any(|p| destination.is_none_or(|d| touches(&d, p))) && matches_bgp(route) {
            return Some("BGP to a protected address".to_owned());
        }
        source?
    } else {
        let Some(banned) = source.filter(|_| destination.is_none()) else { return Some("foreign".to_owned()) };
        let is_host = banned.length() == banned.version().bits();
        let own = config.networks.iter().any(|n| touches(n, &banned));
        let skipped = config.remote_skiplist.iter().any(|n| touches(n, &banned));
        if !peer.classes.remote_bans
            || !is_host
            || own
            || skipped
            || !attributes.communities.contains(&Community::NO_EXPORT)
        {
            return Some("no remote ban".to_owned());
        }
        banned
    };
    if protected.iter().any(|p| touches(p, &own)) {
        return Some("protected".to_owned());
    }
    let shortest = if own.version() == IpVersion::V4 { config.shortest_prefix.0 } else { config.shortest_prefix.1 };
    if own.length() < shortest || !asked.iter().any(|a| within(&own, a)) {
        return Some("wider than allowed or asked for".to_owned());
    }
    let Route::FlowSpec(pattern) = route else { return None };
    for condition in pattern.conditions() {
        let bad = match condition {
            Condition::Destination(_, offset) | Condition::Source(_, offset) => *offset != 0,
            Condition::Length(set) => set.as_slice().iter().any(|(low, high)| *low < 20 || *high > 9216),
            Condition::Dscp(set) => set.max() > Some(63),
            Condition::IcmpType(_) | Condition::IcmpCode(_) => has(pattern, &[4, 5, 6, 9]),
            Condition::TcpFlags(_) => !protocol_may_be(pattern, 6),
            Condition::Port(_) | Condition::DestinationPort(_) | Condition::SourcePort(_) => {
                ![6, 17].iter().any(|p| protocol_may_be(pattern, *p))
            }
            Condition::Protocol(_) | Condition::Fragment(_) | Condition::FlowLabel(_) => false,
        };
        if bad {
            return Some(format!("condition {condition}"));
        }
    }
    None
}

/// Section 5.1 of RFC 8955 for all that one router holds: where two rules meet, the one that lets packets through is tried first, and
/// only one of them polices. Also how many pairs of different kinds there were to look at.
fn wrong_order(rules: &[(FlowNlri, Vec<Action>)]) -> (u64, Option<String>) {
    let takes = |actions: &[Action]| actions.iter().any(Action::diverts);
    let polices = |actions: &[Action]| actions.iter().any(Action::is_rate_limit);
    let mut met = 0;
    for (i, (a, of_a)) in rules.iter().enumerate() {
        for (b, of_b) in &rules[..i] {
            if takes(of_a) == takes(of_b) && !(polices(of_a) && polices(of_b)) || !order::meet(&a.pattern, &b.pattern) {
                continue;
            }
            met += 1;
            if polices(of_a) && polices(of_b) {
                return (met, Some(format!("{} and {} police the same packets", a.pattern, b.pattern)));
            }
            let (passes, takes) = if takes(of_a) { (b, a) } else { (a, b) };
            if order::compare(passes, takes).is_ge() {
                return (met, Some(format!("{} is accepted behind {}", passes.pattern, takes.pattern)));
            }
        }
    }
    (met, None)
}

fn has(pattern: &Pattern, kinds: &[u8]) -> bool {
    pattern.conditions().iter().any(|c| kinds.contains(&c.component_type()))
}

fn protocol_may_be(pattern: &Pattern, number: u32) -> bool {
    pattern.conditions().iter().all(|c| if let Condition::Protocol(set) = c { set.contains(number) } else { true })
}

fn matches_bgp(route: &Route) -> bool {
    let Route::FlowSpec(pattern) = route else { return true };
    let port = pattern
        .conditions()
        .iter()
        .all(|c| if let Condition::DestinationPort(set) = c { set.contains(179) } else { true });
    protocol_may_be(pattern, 6) && port && !has(pattern, &[7, 8])
}

#[test]
fn a_million_random_attacks_and_orders_never_break_a_rail() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut asked_in_all, mut sent_in_all, mut remote, mut outgoing) = (0u64, 0u64, 0u64, 0u64);
    let mut met_in_all = 0u64;
    let now = Time::from_seconds(1_700_000_000, 0);
    while asked_in_all < 1_000_000 {
        let config = random.config();
        let mut policy = Policy::new(config.clone());
        let mut asked = BTreeSet::new();
        for _ in 0..40 {
            asked_in_all += 1;
            ask(&mut random, &mut policy, now, &mut asked);
        }
        policy.step(now, &std::collections::BTreeMap::new(), &Held::new());
        let rules = policy.all().filter(|m| matches!(m.route, Route::FlowSpec(_))).count();
        assert!(rules <= config.max_rules, "{rules} rules, {} allowed", config.max_rules);
        let wanted = Arc::new(policy.wanted());
        for peer in &config.peers {
            let sender = Sender {
                asn: 65001,
                ibgp: false,
                four_octet_as: true,
                next_hops: (peer.next_hop_ipv4, peer.next_hop_ipv6),
                rate_asn: 0,
            };
            let rails = Rails::new(Space::new(&config), peer.classes);
            let mut rules: Vec<(FlowNlri, Vec<Action>)> = Vec::new();
            let mut rib = AdjRibOut::new(sender, Family::ALL.into(), Arc::new(rails), peer, config.rule_reserve);
            for message in rib.reconcile(&wanted) {
                assert!(message.len() <= 4096);
                let update = attribute::decode(&message[HEADER..]).expect("what is sent is well-formed");
                assert_eq!(update.dropped, 0);
                let actions = &update.attributes.actions;
                rules.extend(update.flow_announced.iter().map(|flow| (flow.clone(), actions.clone())));
                for route in &update.announced {
                    sent_in_all += 1;
                    let problem = wrong(&config, peer, route, &update.attributes, &asked);
                    assert_eq!(problem, None, "{route} to {:?} under {config:#?}", peer.classes);
                    match (route, Space::new(&config).classify(route)) {
                        (_, Ok((bgp::Class::RemoteBan, _))) => remote += 1,
                        (_, Ok((bgp::Class::Outgoing, _))) => outgoing += 1,
                        _ => {}
                    }
                }
            }
            let (met, problem) = wrong_order(&rules);
            met_in_all += met;
            assert_eq!(problem, None, "profile {}", peer.profile.kind);
        }
    }
    // A test that sends nothing proves nothing.
    assert!(met_in_all > 1000, "{met_in_all} pairs of rules with different actions meet");
    assert!(
        sent_in_all > 100_000 && remote > 1000 && outgoing > 1000,
        "{sent_in_all} sent, {remote} bans, {outgoing} outgoing"
    );
}

fn ask(random: &mut Random, policy: &mut Policy, now: Time, asked: &mut BTreeSet<Prefix>) {
    let order = Order::new("test", "", now, None);
    match random.below(4) {
        0 => {
            // Many for one destination, so that rules meet.
            let own = policy.config().networks[0];
            let own = if random.yes(2) { Some(Condition::Destination(own, 0)) } else { None };
            let Some(pattern) = random.pattern(own) else { return };
            asked.extend(pattern.destination());
            asked.extend(pattern.source());
            let actions = vec![random.action()];
            let _ = policy.order_flowspec(now, &FlowSpec { pattern, actions }, order);
        }
        1 => {
            let prefix = random.prefix();
            asked.insert(prefix);
            let _ = policy.order_blackhole(now, prefix, order);
        }
        _ => {
            let prefix = random.prefix();
            let incoming = !random.yes(3);
            let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
            asked.insert(prefix);
            let own = if random.yes(10) { random.prefix() } else { prefix };
            let own = if incoming { Condition::Destination(own, 0) } else { Condition::Source(own, 0) };
            let Some(pattern) = random.pattern(Some(own)) else { return };
            let proposal = Proposal { pattern, coverage: 0.9, collateral: None, collateral_bound: None };
            policy.propose(now, Target { prefix, direction }, &[proposal]);
        }
    }
}
