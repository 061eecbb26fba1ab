//! What a peer is sent, and what a table makes of it.

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
