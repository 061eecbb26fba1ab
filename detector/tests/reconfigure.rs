//! New configurations while everything runs.

mod bench;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bench::{Bench, PPS, config, p, packet, victim};
use detector::{Class, Event, Filter, Measure, Unit};
use flowspec::{Condition, Pattern, Ranges};
use traffic::Direction;

const THRESHOLD: (Direction, Measure) = (Direction::Incoming, Measure { class: Class::Total, unit: Unit::Packets });

fn incoming(bench: &Bench) -> u64 {
    bench.detector.shards().map(|s| s.incoming.packets.load(Ordering::Relaxed)).sum()
}

#[test]
fn a_lower_threshold_alarms_within_two_ticks_and_a_higher_one_ends_the_attack() {
    let mut bench = Bench::new(config(&PPS), 2);
    let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 600];
    (0..20).for_each(|_| bench.tick(&flood));
    assert_eq!(bench.alarms(), [], "6,000 packets/s are below 10,000");
    let mut lower = config(&PPS);
    lower.groups[0].thresholds.insert(THRESHOLD, 1000);
    assert!(!bench.detector.reconfigure(lower, 0).relaid);
    (0..2).for_each(|_| bench.tick(&flood));
    assert_eq!(bench.alarms(), [victim(Direction::Incoming)], "alarmed 200 ms after the new threshold");
    bench.detector.reconfigure(config(&PPS), 0);
    (0..70).for_each(|_| bench.tick(&flood));
    assert!(bench.detector.attacks().is_empty(), "6,000 packets/s are below 0.7 of 10,000 again");
    assert_eq!(incoming(&bench), 92 * 600, "every packet was counted");
}

#[test]
fn new_networks_keep_attacks_filters_and_totals_and_are_watched_at_once() {
    let mut bench = Bench::new(config(&PPS), 2);
    let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 3_000];
    (0..10).for_each(|_| bench.tick(&flood));
    let target = victim(Direction::Incoming);
    let dns = Pattern::new(vec![Condition::Destination(target.prefix, 0), Condition::SourcePort(Ranges::value(53))]);
    let filter = Arc::new(Filter::new(dns.expect("valid"), bench.detector.workers()));
    bench.detector.set_filters(target, vec![Arc::clone(&filter)]);
    (0..5).for_each(|_| bench.tick(&flood));
    let hits = filter.hits().0;
    assert!(hits >= 12_000, "{hits}");
    let mut wider = config(&PPS);
    wider.networks.push(p("192.0.2.0/24"));
    let done = bench.detector.reconfigure(wider, 1);
    assert!(done.relaid && done.events.is_empty() && done.meters.len() == 1);
    bench.meters.extend(done.meters);
    let grown = Arc::new(filter.grown(bench.detector.workers()));
    assert_eq!(grown.hits().0, hits);
    bench.detector.set_filters(target, vec![Arc::clone(&grown)]);
    bench.events.clear();
    let other = vec![packet(bench.now, "198.51.100.7", "192.0.2.1", 17, (123, 4242), 400); 3_000];
    for _ in 0..10 {
        bench.tick(&flood);
        bench.tick(&other);
    }
    assert_eq!(bench.alarms().len(), 1, "only the new host alarms: {:?}", bench.events);
    assert!(bench.detector.attacks().contains_key(&target), "the attack goes on");
    assert!(grown.hits().0 >= hits + 24_000, "its filter still counts: {}", grown.hits().0);
    (0..20).for_each(|_| bench.tick(&[]));
    assert_eq!(incoming(&bench), 35 * 3_000, "every packet was counted");
}

#[test]
fn attacks_on_what_is_no_longer_watched_are_over() {
    for change in [
        (|c| c.networks.remove(0)) as fn(&mut detector::Config) -> _,
        |c| {
            c.whitelist.push(detector::Whitelisted { networks: vec![p("203.0.113.9/32")], ..Default::default() });
            c.networks[0]
        },
        |c| {
            c.groups[0].thresholds.clear();
            c.networks[0]
        },
    ] {
        let mut bench = Bench::new(config(&PPS), 2);
        let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 3_000];
        (0..10).for_each(|_| bench.tick(&flood));
        assert_eq!(bench.alarms().len(), 1);
        let mut less = config(&PPS);
        change(&mut less);
        let done = bench.detector.reconfigure(less, 0);
        assert!(matches!(done.events.last(), Some(Event::Over(_))), "{:?}", done.events);
        (0..10).for_each(|_| bench.tick(&flood));
        assert_eq!(bench.alarms().len(), 1, "and none begins");
    }
}
