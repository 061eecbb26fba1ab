//! Everything above a host: carpet bombing, networks, sums of groups; and the life of attacks.
#![allow(clippy::cast_possible_truncation, reason = "made-up numbers")]

mod support;

use std::time::Duration;

use detector::{Class, Config, Event, HostGroup, Scope, Thresholds, TrafficRule, Unit, Whitelisted};
use flowspec::{Condition, Pattern, Ranges};
use support::{Bench, Random, config, incoming, p, packet, pps, thresholds, times};
use traffic::{Direction, Origin, Prefix, Sample};

const TICK: Duration = Duration::from_millis(50);

fn carpet(networks: &[&str]) -> Config {
    let mut config = config(networks, pps(20_000));
    config.groups[0].prefix_thresholds = pps(100_000);
    config.clear_after = Duration::from_secs(10);
    config
}

/// Samples of a flood spread evenly over a prefix, `per_tick` packets in all.
fn spread(over: &str, per_tick: u64, random: &mut Random) -> Vec<Sample> {
    let prefix = p(over);
    let host_bits = prefix.version().bits() - prefix.length();
    let shift = 128 - u32::from(prefix.version().bits());
    (0..per_tick)
        .map(|_| {
            let low = u128::from(random.next()) << 64 | u128::from(random.next());
            let host = if host_bits == 0 { 0 } else { low & (u128::MAX >> (128 - u32::from(host_bits))) };
            let source = if prefix.version() == traffic::IpVersion::V4 { "198.51.100.7" } else { "2001:db9::7" };
            let mut sample = packet(source, over.split('/').next().expect("an address"), 17, (123, 80), 468);
            sample.destination = prefix.bits() | host << shift;
            sample
        })
        .collect()
}

/// Ordinary traffic of every host of a prefix's /24s.
fn background(over: &str, per_tick: u64, random: &mut Random) -> Vec<Sample> {
    spread(over, per_tick, random).into_iter().map(|s| Sample { protocol: 6, source_port: 443, ..s }).collect()
}

/// The alarms of a flood of `pps` over a prefix in ten seconds, beside a twentieth of ordinary traffic all over.
fn alarms_of(networks: &str, over: &str, pps: u64) -> Vec<traffic::Target> {
    let mut bench = Bench::new(carpet(&[networks]), 2, TICK);
    let mut random = Random(3);
    // Addresses all over an IPv6 network would be a scan, which uses up the counters of its longest prefixes.
    let ordinary = if p(networks).version() == traffic::IpVersion::V6 { over } else { networks };
    for _ in 0..60 {
        let calm = background(ordinary, pps / 400, &mut random);
        bench.tick(&calm);
    }
    assert_eq!(bench.alarms(), []);
    for _ in 0..80 {
        let mut both = background(ordinary, pps / 400, &mut random);
        both.extend(spread(over, pps / 20, &mut random));
        bench.tick(&both);
    }
    bench.alarms()
}

#[test]
fn carpet_bombing_raises_one_alarm_at_the_prefix_that_is_bombed() {
    assert_eq!(alarms_of("10.0.0.0/16", "10.0.7.0/24", 300_000), [incoming("10.0.7.0/24")]);
    assert_eq!(alarms_of("10.0.0.0/16", "10.0.8.0/22", 300_000), [incoming("10.0.8.0/22")]);
    // So heavy that each /24 is over the threshold as well.
    assert_eq!(alarms_of("10.0.0.0/16", "10.0.8.0/22", 1_000_000), [incoming("10.0.8.0/22")]);
    assert_eq!(alarms_of("2001:db8::/32", "2001:db8:5::/48", 300_000), [incoming("2001:db8:5::/48")]);
    assert_eq!(alarms_of("2001:db8::/32", "2001:db8:5:9::/64", 300_000), [incoming("2001:db8:5:9::/64")]);
}

#[test]
fn one_host_under_attack_is_no_carpet() {
    let mut bench = Bench::new(carpet(&["10.0.0.0/16"]), 2, TICK);
    let flood = vec![packet("198.51.100.7", "10.0.7.9", 17, (123, 80), 468); 25_000];
    bench.seconds(3.0, &flood);
    assert_eq!(bench.alarms(), [incoming("10.0.7.9")]);
    assert_eq!(bench.detector.attacks()[&incoming("10.0.7.9")].scope, Scope::Host);
}

#[test]
fn what_remains_of_a_prefix_beside_alarmed_hosts_is_alarmed() {
    let mut bench = Bench::new(carpet(&["10.0.0.0/16"]), 2, TICK);
    let mut random = Random(5);
    let one = vec![packet("198.51.100.7", "10.0.7.9", 17, (123, 80), 468); 5_000];
    bench.seconds(2.0, &one);
    assert_eq!(bench.alarms(), [incoming("10.0.7.9")]);
    for _ in 0..60 {
        let mut both = one.clone();
        both.extend(spread("10.0.7.0/24", 10_000, &mut random));
        bench.tick(&both);
    }
    assert_eq!(bench.alarms(), [incoming("10.0.7.9"), incoming("10.0.7.0/24")]);
    let carpet = &bench.detector.attacks()[&incoming("10.0.7.0/24")];
    assert!(carpet.evidence.rate < 230_000, "the host's 100,000 are not part of it: {:?}", carpet.evidence);
    assert!(
        bench
            .events
            .iter()
            .any(|(_, e)| matches!(e, Event::BucketFull(t, b) if *t == incoming("10.0.7.0/24") && b.counted >= 500))
    );
}

#[test]
fn a_filter_on_a_prefix_takes_its_traffic_out_for_all_its_hosts() {
    let mut bench = Bench::new(carpet(&["10.0.0.0/16"]), 2, TICK);
    let mut random = Random(5);
    let target = incoming("10.0.7.0/24");
    let flood = |bench: &mut Bench, random: &mut Random, seconds: u64| {
        for _ in 0..seconds * 20 {
            let samples = spread("10.0.7.0/24", 10_000, random);
            bench.tick(&samples);
        }
    };
    flood(&mut bench, &mut random, 2);
    let ntp = Pattern::new(vec![Condition::Destination(target.prefix, 0), Condition::SourcePort(Ranges::value(123))]);
    let filter = std::sync::Arc::new(detector::Filter::new(ntp.expect("valid"), bench.detector.workers()));
    bench.detector.set_filters(target, vec![std::sync::Arc::clone(&filter)]);
    flood(&mut bench, &mut random, 1);
    bench.events.clear();
    flood(&mut bench, &mut random, 5);
    assert!(!bench.events.iter().any(|(_, e)| matches!(e, Event::Residual(_))));
    assert!(filter.hits().0 >= 100 * 10_000);
    assert!(bench.detector.attacks()[&target].packets_per_second > 150_000, "it goes on, filtered");
    bench.seconds(15.0, &[packet("198.51.100.7", "10.0.9.9", 17, (123, 80), 468)]);
    assert!(bench.detector.attacks().is_empty());
}

#[test]
fn a_withheld_filter_on_a_prefix_takes_nothing_out_and_what_it_would_leave_alarms_again() {
    let mut bench = Bench::new(carpet(&["10.0.0.0/16"]), 2, TICK);
    let mut random = Random(5);
    let target = incoming("10.0.7.0/24");
    let flood = |bench: &mut Bench, random: &mut Random, seconds: u64, more: u64| {
        for _ in 0..seconds * 20 {
            let mut samples = spread("10.0.7.0/24", 10_000, random);
            let others = spread("10.0.7.0/24", more, random);
            samples.extend(others.into_iter().map(|s| Sample { source_port: 53, ..s }));
            bench.tick(&samples);
        }
    };
    flood(&mut bench, &mut random, 2, 0);
    let ntp = Pattern::new(vec![Condition::Destination(target.prefix, 0), Condition::SourcePort(Ranges::value(123))]);
    let filter = std::sync::Arc::new(detector::Filter::new(ntp.expect("valid"), bench.detector.workers()));
    filter.set_withheld(true);
    bench.detector.set_filters(target, vec![std::sync::Arc::clone(&filter)]);
    flood(&mut bench, &mut random, 1, 0);
    bench.events.clear();
    flood(&mut bench, &mut random, 5, 0);
    assert!(bench.events.is_empty(), "{:?}", bench.events);
    assert!(filter.hits().0 == 0 && filter.passed().0 >= 100 * 10_000);
    assert!(bench.detector.attacks()[&target].packets_per_second > 150_000, "it goes on");
    flood(&mut bench, &mut random, 2, 10_000);
    assert!(bench.events.iter().any(|(_, e)| matches!(e, Event::Residual(t) if *t == target)), "a second vector");
    let bucket = bench.events.iter().find_map(|(_, e)| if let Event::BucketFull(_, b) = e { Some(b) } else { None });
    assert!(bucket.expect("a bucket").samples.iter().all(|s| s.source_port == 53));
}

#[test]
fn ten_million_ipv6_addresses_are_bounded_and_the_attack_is_found() {
    // Sources are not ours: they cost nothing. Destinations all over the network do, up to the limit.
    let mut config = carpet(&["2001:db8::/32"]);
    config.max_ipv6_hosts = 1 << 16;
    config.groups[0].network_thresholds = pps(500_000);
    let mut bench = Bench::new(config, 2, TICK);
    let mut random = Random(11);
    let mut sent = 0u64;
    for _ in 0..100 {
        let mut flood = spread("2001:db8::/32", 100_000, &mut random);
        for sample in &mut flood {
            sample.source = u128::from(random.next()) << 64 | u128::from(random.next()) >> 3 | 1;
        }
        sent += flood.len() as u64;
        bench.tick(&flood);
    }
    assert_eq!(sent, 10_000_000);
    assert_eq!(bench.alarms(), [incoming("2001:db8::/32")], "two million packets/s all over the network");
    let overflow: u64 =
        bench.detector.shards().map(|s| s.overflow.packets.load(std::sync::atomic::Ordering::Relaxed)).sum();
    assert!(overflow > 9_000_000, "hosts beyond the limit have no counters of their own: {overflow}");
    // Any number of sources against one host.
    let mut bench = Bench::new(carpet(&["2001:db8::/32"]), 2, TICK);
    for _ in 0..20 {
        let mut flood = spread("2001:db8::9/128", 50_000, &mut random);
        flood.iter_mut().for_each(|s| s.source = u128::from(random.next()) << 64 | u128::from(random.next()) >> 3 | 1);
        bench.tick(&flood);
    }
    assert_eq!(bench.alarms(), [incoming("2001:db8::9")]);
}

#[test]
fn quiet_ipv6_hosts_make_room() {
    let mut config = carpet(&["2001:db8::/32"]);
    config.max_ipv6_hosts = 1024;
    let mut bench = Bench::new(config, 1, TICK);
    let mut random = Random(11);
    let scan = spread("2001:db8::/32", 5_000, &mut random);
    bench.tick(&scan);
    let other = vec![packet("2001:db9::7", "2001:db8:1::1", 17, (123, 80), 468); 2_000];
    bench.tick(&other);
    assert_eq!(bench.detector.host(p("2001:db8:1::1")), None, "all places are taken");
    bench.seconds(100.0, &[packet("2001:db9::7", "2001:db8:2::1", 17, (123, 80), 468)]);
    assert!(bench.detector.statistics().hosts_aged > 900);
    bench.seconds(2.0, &other);
    assert_eq!(bench.alarms(), [incoming("2001:db8:1::1")]);
}

#[test]
fn networks_and_total_groups_have_thresholds_of_their_own() {
    let mut config = config(&["10.0.0.0/16", "10.9.0.0/24", "2001:db8::/32"], Thresholds::new());
    config.groups[0].network_thresholds = pps(50_000);
    config.groups.push(HostGroup {
        name: "customer".to_owned(),
        networks: vec![p("10.9.0.16/28"), p("2001:db8:7::/48")],
        thresholds: thresholds(&[(Direction::Incoming, Class::Udp, Unit::Packets, 20_000)]),
        is_total: true,
        ..HostGroup::default()
    });
    let mut random = Random(2);
    let mut bench = Bench::new(config.clone(), 2, TICK);
    for _ in 0..40 {
        let samples = spread("10.0.0.0/16", 5_000, &mut random);
        bench.tick(&samples);
    }
    assert_eq!(bench.alarms(), [incoming("10.0.0.0/16")]);
    assert_eq!(
        bench.detector.attacks()[&incoming("10.0.0.0/16")].threshold_text(),
        "threshold_network_pps of 50000 packets/s"
    );
    // Half the threshold in each network of the group, and as much TCP, which has none.
    let mut bench = Bench::new(config, 2, TICK);
    for _ in 0..40 {
        let mut samples = spread("10.9.0.16/28", 800, &mut random);
        samples.extend(spread("2001:db8:7::/48", 600, &mut random));
        samples.extend(background("10.9.0.0/27", 500, &mut random));
        bench.tick(&samples);
    }
    assert_eq!(bench.alarms(), [incoming("10.9.0.16/28")], "the network that has most of it");
    let attack = &bench.detector.attacks()[&incoming("10.9.0.16/28")];
    assert_eq!((attack.scope, attack.group.as_str()), (Scope::Group, "customer"));
    assert!((26_000..30_000).contains(&attack.evidence.rate), "{:?}", attack.evidence);
}

#[test]
fn host_groups_inherit_and_the_longest_prefix_decides_in_both_versions_and_directions() {
    let mut config = config(&["10.0.0.0/16", "2001:db8::/32"], pps(50_000));
    let low = thresholds(&[
        (Direction::Incoming, Class::Total, Unit::Packets, 5_000),
        (Direction::Outgoing, Class::Total, Unit::Bytes, 1_000_000),
    ]);
    let group = |name: &str, networks: &[&str], thresholds: &Thresholds| HostGroup {
        name: name.to_owned(),
        networks: networks.iter().map(|t| p(t)).collect(),
        thresholds: thresholds.clone(),
        ..HostGroup::default()
    };
    config.groups.push(group("wide", &["10.0.7.0/24"], &pps(500_000)));
    config.groups.push(group("low", &["10.0.7.8/30", "2001:db8:1::/48"], &low));
    let mut bench = Bench::new(config, 2, TICK);
    let flood = |to: &str| vec![packet("198.51.100.7", to, 17, (53, 80), 100); 500];
    let mut samples = [flood("10.0.7.9"), flood("10.0.7.99"), flood("10.0.8.9")].concat();
    samples.extend(vec![packet("2001:db9::7", "2001:db8:1::5", 17, (53, 80), 100); 500]);
    samples.extend(vec![packet("10.0.7.10", "198.51.100.7", 17, (53, 80), 1_400); 100]);
    bench.seconds(5.0, &samples);
    let mut alarms = bench.alarms();
    alarms.sort();
    let outgoing = traffic::Target { prefix: p("10.0.7.10"), direction: Direction::Outgoing };
    let mut expected = vec![incoming("10.0.7.9"), incoming("2001:db8:1::5"), outgoing];
    expected.sort();
    assert_eq!(alarms, expected);
    assert!(bench.detector.attacks().values().all(|a| a.group == "low"));
}

#[test]
fn traffic_rules_count_what_they_match() {
    let pattern =
        Pattern::new(vec![Condition::Protocol(Ranges::value(17)), Condition::SourcePort(Ranges::value(11_211))]);
    let mut config =
        config(&["10.0.0.0/16"], thresholds(&[(Direction::Incoming, Class::Rule(0), Unit::Bytes, 1_000_000)]));
    config.rules = vec![TrafficRule { name: "memcached".to_owned(), pattern: pattern.expect("valid") }];
    let mut bench = Bench::new(config, 2, TICK);
    let dns = vec![packet("198.51.100.7", "10.0.7.9", 17, (53, 80), 1_400); 2_000];
    bench.seconds(5.0, &dns);
    assert_eq!(bench.alarms(), []);
    let memcached = vec![packet("198.51.100.7", "10.0.7.9", 17, (11_211, 80), 1_400); 100];
    bench.seconds(5.0, &[dns, memcached].concat());
    assert_eq!(bench.alarms(), [incoming("10.0.7.9")]);
    let attack = &bench.detector.attacks()[&incoming("10.0.7.9")];
    assert_eq!(attack.threshold_text(), "traffic_rule.memcached.threshold_mbps of 8.0 mbps");
    assert!((2_500_000..3_100_000).contains(&attack.evidence.rate), "{:?}", attack.evidence);
}

#[test]
fn whitelists_have_directions_conditions_and_an_end() {
    let start = Bench::new(config(&["10.0.0.0/16"], pps(5_000)), 1, TICK).now;
    let mut config = config(&["10.0.0.0/16"], pps(5_000));
    let entry = |networks: &[&str], remote: &[&str]| Whitelisted {
        networks: networks.iter().map(|t| p(t)).collect(),
        remote: remote.iter().map(|t| p(t)).collect(),
        ..Whitelisted::default()
    };
    let ssh = Pattern::new(vec![Condition::DestinationPort(Ranges::value(22))]).expect("valid");
    config.whitelist = vec![
        entry(&["10.0.7.9"], &[]),
        Whitelisted { direction: Some(Direction::Outgoing), ..entry(&["10.0.7.10"], &[]) },
        entry(&[], &["198.51.100.0/24"]),
        Whitelisted { pattern: Some(ssh), ..entry(&["10.0.7.11"], &[]) },
        Whitelisted { expires: Some(start.after(Duration::from_secs(10))), ..entry(&["10.0.7.12"], &[]) },
        Whitelisted { expires: Some(start.after(Duration::from_secs(10))), ..entry(&[], &["192.0.2.0/24"]) },
    ];
    let mut bench = Bench::new(config, 2, TICK);
    let flood = |from: &str, to: &str, port: u16| vec![packet(from, to, 6, (999, port), 100); 600];
    let all = [
        flood("203.0.113.7", "10.0.7.9", 80),
        flood("203.0.113.7", "10.0.7.10", 80),
        flood("198.51.100.7", "10.0.7.13", 80),
        flood("203.0.113.7", "10.0.7.11", 22),
        flood("203.0.113.7", "10.0.7.12", 80),
        flood("192.0.2.7", "10.0.7.14", 80),
    ]
    .concat();
    bench.seconds(9.0, &all);
    assert_eq!(bench.alarms(), [incoming("10.0.7.10")], "only outgoing traffic of it is whitelisted");
    bench.seconds(6.0, &all);
    let mut alarms = bench.alarms();
    alarms.sort();
    assert_eq!(
        alarms,
        [incoming("10.0.7.10"), incoming("10.0.7.12"), incoming("10.0.7.14")],
        "two entries have expired"
    );
}

#[test]
fn a_pulse_wave_of_changing_vectors_is_one_attack() {
    let mut config = config(&["10.0.0.0/16"], pps(20_000));
    config.clear_after = Duration::from_secs(15);
    let mut bench = Bench::new(config, 2, TICK);
    let calm = vec![packet("198.51.100.7", "10.0.7.9", 6, (443, 999), 100); 20];
    for pulse in 0..12u16 {
        let mut flood = vec![packet("198.51.100.7", "10.0.7.9", 17, (53 + pulse, 80), 900); 5_000];
        flood.extend(calm.iter().copied());
        bench.seconds(10.0, &flood);
        // The second gap outlasts the delay after which an attack is over; from then on it is held.
        bench.seconds(20.0, &calm);
    }
    assert!(bench.alarms().len() <= 3 && bench.ends() <= 2, "{} alarms, {} ends", bench.alarms().len(), bench.ends());
    bench.seconds(300.0, &calm);
    assert!(bench.detector.attacks().is_empty(), "in the end it is over");
    // With the default delay of a minute there is no gap at all.
    let mut bench = Bench::new(support::config(&["10.0.0.0/16"], pps(20_000)), 2, TICK);
    for pulse in 0..6u16 {
        bench.seconds(10.0, &vec![packet("198.51.100.7", "10.0.7.9", 17, (53 + pulse, 80), 900); 5_000]);
        bench.seconds(20.0, &calm);
    }
    assert_eq!((bench.alarms().len(), bench.ends()), (1, 0));
}

#[test]
fn silence_of_the_exporter_that_told_of_an_attack_is_not_its_end() {
    let mut config = config(&["10.0.0.0/16"], pps(20_000));
    config.clear_after = Duration::from_secs(5);
    let mut bench = Bench::new(config, 1, TICK);
    let of = |exporter: u16, to: &str| Sample {
        exporter,
        origin: Origin::FlowRecord,
        ..packet("198.51.100.7", to, 17, (53, 80), 900)
    };
    let attack = vec![of(1, "10.0.7.9"); 3_000];
    let other = vec![of(2, "10.0.8.8"); 10];
    bench.seconds(3.0, &[attack.clone(), other.clone()].concat());
    bench.seconds(60.0, &other);
    assert_eq!(bench.ends(), 0, "exporter 1 says nothing: nobody knows");
    assert_eq!(bench.detector.attacks()[&incoming("10.0.7.9")].phase, detector::Phase::Frozen);
    bench.seconds(20.0, &[other, vec![of(1, "10.0.9.9"); 10]].concat());
    assert_eq!(bench.ends(), 1, "it speaks again, and tells of no attack");
}

#[test]
fn a_jump_of_a_sampling_rate_makes_an_exporter_suspect() {
    let mut bench = Bench::new(config(&["10.0.0.0/16"], pps(20_000)), 1, TICK);
    let at = |rate| vec![times(packet("198.51.100.7", "10.0.7.9", 17, (53, 80), 900), 1, rate)];
    bench.seconds(30.0, &at(100));
    assert!(bench.events.is_empty());
    bench.seconds(2.0, &at(10_000));
    assert!(bench.events.iter().any(|(_, e)| matches!(e, Event::SuspectExporter { before: 100, now: 10_000, .. })));
    // By the lower rate it is within its threshold; what another exporter tells of is not doubted.
    let doubted = |bench: &Bench| bench.detector.doubted(bench.now).into_iter().collect::<Vec<_>>();
    assert_eq!(doubted(&bench), [incoming("10.0.7.9")]);
    let other = Sample { exporter: 2, ..times(packet("198.51.100.7", "10.0.8.8", 17, (53, 80), 900), 1, 10_000) };
    bench.seconds(5.0, &[at(10_000), vec![other]].concat());
    assert!(bench.detector.attacks().contains_key(&incoming("10.0.8.8")));
    assert_eq!(doubted(&bench), [incoming("10.0.7.9")]);
    // A doubt ends a minute after the last contradiction.
    bench.seconds(60.0, &at(10_000));
    assert_eq!(doubted(&bench), []);
    assert!(bench.detector.attacks().contains_key(&incoming("10.0.7.9")));
    // Its counters show another rate than it announces.
    bench.detector.doubt_rates([((0, 10_000), 200)].into());
    assert_eq!(doubted(&bench), [incoming("10.0.7.9")]);
    bench.detector.doubt_rates([((0, 10_000), 5_000)].into());
    assert_eq!(doubted(&bench), [], "it is over its threshold all the same");
}

#[test]
fn a_download_told_in_one_record_and_a_record_from_inside_raise_no_alarm() {
    let limits = thresholds(&[
        (Direction::Incoming, Class::Total, Unit::Packets, 20_000),
        (Direction::Incoming, Class::Total, Unit::Bytes, 125_000_000),
    ]);
    let mut bench = Bench::new(config(&["10.0.0.0/16"], limits), 1, TICK);
    let mut download = packet("198.51.100.7", "10.0.7.9", 6, (443, 999), 1_400);
    (download.origin, download.packets, download.bytes, download.duration_ms) =
        (Origin::FlowRecord, 1_430_000, 2_000_000_000, 600_000);
    bench.tick(&[download]);
    bench.seconds(700.0, &[]);
    assert_eq!(bench.alarms(), [], "2 GB in ten minutes are 27 mbps");
    // Two routers tell of the same 15,000 packets/s; one of them stands inside.
    let border = Sample { exporter: 1, ..packet("198.51.100.7", "10.0.7.9", 17, (53, 80), 900) };
    let inside = Sample { exporter: 2, inside: true, ..border };
    bench.seconds(10.0, &[vec![border; 750], vec![inside; 750]].concat());
    assert_eq!(bench.alarms(), []);
    bench.seconds(10.0, &[vec![border; 750], vec![border; 750]].concat());
    assert_eq!(bench.alarms(), [incoming("10.0.7.9")], "without roles they add up");
}

/// Property tests with random loads.
mod properties {
    use super::*;
    use proptest::prelude::*;

    type Load = Vec<(u8, u16, u16)>;

    fn run(load: &[Load], workers: usize) -> (Vec<u64>, Vec<String>) {
        let mut config = carpet(&["10.0.0.0/23", "2001:db8::/32"]);
        config.groups[0].prefix_thresholds = pps(30_000);
        let mut bench = Bench::new(config, workers, TICK);
        for tick in load {
            let samples: Vec<Sample> = tick
                .iter()
                .flat_map(|(host, count, length)| {
                    let to =
                        if host % 3 == 0 { format!("2001:db8::{host:x}") } else { format!("10.0.{}.{host}", host % 2) };
                    let from = if host % 3 == 0 { "2001:db9::7" } else { "198.51.100.7" };
                    vec![packet(from, &to, 17, (53, 80), 40 + length % 1_400); usize::from(*count)]
                })
                .collect();
            bench.tick(&samples);
        }
        bench.seconds(0.5, &[]);
        let sums = bench.detector.shards().fold(vec![0, 0], |mut sums, s| {
            sums[0] += s.incoming.packets.load(std::sync::atomic::Ordering::Relaxed);
            sums[1] += s.incoming.bytes.load(std::sync::atomic::Ordering::Relaxed);
            sums
        });
        let hosts = (0..=255u16).map(|h| {
            let host: Prefix =
                if h % 3 == 0 { p(&format!("2001:db8::{h:x}")) } else { p(&format!("10.0.{}.{h}", h % 2)) };
            bench.detector.host(host).map_or(0, |t| t.packets[0])
        });
        let counted: u64 = hosts.sum();
        let alarms = bench
            .events
            .iter()
            .filter_map(|(t, e)| if let Event::Alarm(target) = e { Some(format!("{} {target}", t.0)) } else { None });
        (vec![sums[0], sums[1], counted], alarms.collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn shards_sum_up_to_what_was_fed_whatever_the_number_of_workers(
            load in prop::collection::vec(prop::collection::vec((any::<u8>(), 0u16..1_500, any::<u16>()), 0..6), 1..40)
        ) {
            let fed: u64 = load.iter().flatten().map(|(_, count, _)| u64::from(*count)).sum();
            let bytes: u64 = load.iter().flatten().map(|(_, n, l)| u64::from(*n) * u64::from(40 + l % 1_400)).sum();
            let one = run(&load, 1);
            prop_assert_eq!(&one.0, &vec![fed, bytes, fed]);
            prop_assert_eq!(&one, &run(&load, 1), "the same again");
            prop_assert_eq!(&one, &run(&load, 3), "three workers");
        }
    }
}
