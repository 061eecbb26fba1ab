//! The detector and its meters together, on a virtual clock.

mod bench;

use std::sync::Arc;

use bench::{Bench, PPS, config, p, packet, victim};
use detector::{Class, Event, Filter, Unit};
use flowspec::{Condition, Pattern, Ranges};
use traffic::{Direction, IpVersion, Origin, Sample, Target, Time};

#[test]
fn a_flood_raises_one_alarm_fills_its_bucket_and_ends() {
    let mut bench = Bench::new(config(&PPS), 2);
    let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 3_000];
    let calm = vec![packet(bench.now, "198.51.100.8", "203.0.113.10", 6, (443, 4242), 500); 10];
    (0..20).for_each(|_| bench.tick(&flood));
    assert_eq!(bench.alarms(), [victim(Direction::Incoming)]);
    let attack = &bench.detector.attacks()[&victim(Direction::Incoming)];
    assert!((28_000..=32_000).contains(&attack.evidence.rate), "measured {}", attack.evidence.rate);
    assert!(bench.buckets() >= 1);
    (0..100).for_each(|_| bench.tick(&calm));
    assert!(bench.detector.attacks().is_empty());
    assert!(matches!(bench.events.last(), Some(Event::Over(_))));
}

#[test]
fn traffic_under_the_threshold_and_short_bursts_raise_no_alarm() {
    let mut bench = Bench::new(config(&PPS), 2);
    let steady = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 6, (443, 4242), 900); 950];
    let burst = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 6, (443, 4242), 900); 3_500];
    for i in 0..600 {
        bench.tick(if i % 50 == 0 { &burst } else { &steady[..600] });
    }
    (0..600).for_each(|_| bench.tick(&steady));
    assert_eq!(bench.alarms(), []);
}

#[test]
fn foreign_and_internal_traffic_is_counted_but_never_alarms() {
    let mut bench = Bench::new(config(&PPS), 1);
    let foreign = vec![packet(bench.now, "198.51.100.7", "198.51.100.9", 17, (53, 53), 1400); 5_000];
    let internal = vec![packet(bench.now, "203.0.113.7", "203.0.113.9", 17, (53, 53), 1400); 5_000];
    (0..20).for_each(|_| {
        bench.tick(&foreign);
        bench.tick(&internal);
    });
    assert_eq!(bench.alarms(), []);
    let shard = bench.detector.shards().next().expect("one worker");
    let packets = |t: &detector::counters::Traffic| t.packets.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((packets(&shard.other), packets(&shard.internal), packets(&shard.incoming)), (100_000, 100_000, 0));
}

#[test]
fn what_is_counted_before_the_workers_know_a_filter_is_no_residual() {
    let mut bench = Bench::new(config(&PPS), 2);
    let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 8_000];
    let calm = vec![packet(bench.now, "198.51.100.8", "203.0.113.9", 6, (443, 4242), 500); 10];
    (0..5).for_each(|_| bench.tick(&flood));
    let target = victim(Direction::Incoming);
    let dns = Pattern::new(vec![Condition::Destination(target.prefix, 0), Condition::SourcePort(Ranges::value(53))]);
    let filter = Arc::new(Filter::new(dns.expect("valid"), bench.detector.workers()));
    bench.detector.set_filters(target, vec![filter]);
    bench.events.clear();
    // A burst of 80,000 packets/s that the workers count before they next serve.
    bench.tick(&flood);
    (0..10).for_each(|_| bench.tick(&calm));
    assert!(!bench.events.iter().any(|e| matches!(e, Event::Residual(_))), "{:?}", bench.events);
}

#[test]
fn a_filter_takes_its_traffic_out_and_the_rest_stays_counted_and_alarms_again() {
    let mut bench = Bench::new(config(&PPS), 2);
    let mut both = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 3_000];
    both.extend(vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 6, (999, 80), 40); 2_000]);
    (0..10).for_each(|_| bench.tick(&both));
    let target = victim(Direction::Incoming);
    let dns = Pattern::new(vec![
        Condition::Destination(target.prefix, 0),
        Condition::Protocol(Ranges::value(17)),
        Condition::SourcePort(Ranges::value(53)),
    ])
    .expect("valid");
    let filter = Arc::new(Filter::new(dns, bench.detector.workers()));
    bench.detector.set_filters(target, vec![Arc::clone(&filter)]);
    bench.events.clear();
    let before = bench.detector.host(target.prefix).expect("known");
    (0..20).for_each(|_| bench.tick(&both));
    let after = bench.detector.host(target.prefix).expect("known");
    // Workers learn of the filter when they next serve, so the tick under way is still counted whole.
    assert_eq!(after.packets[0] - before.packets[0], 20 * 2_000 + 3_000);
    assert_eq!(filter.hits().0, 19 * 3_000);
    assert!(bench.events.iter().any(|e| matches!(e, Event::Residual(t) if *t == target)), "20,000 pps of TCP go on");
    let last = bench.events.iter().rev().find_map(|e| if let Event::BucketFull(_, b) = e { Some(b) } else { None });
    assert!(last.expect("a bucket").samples.iter().all(|s| s.protocol == 6), "the filtered vector is not mined again");
    assert!(bench.detector.attacks()[&target].packets_per_second > 45_000, "filtered traffic keeps the attack alive");
}

#[test]
fn a_withheld_filter_takes_nothing_out_of_any_count_and_only_what_it_would_leave_alarms_again() {
    for (flood, syn, target) in [
        (
            packet(Time::default(), "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400),
            packet(Time::default(), "198.51.100.7", "203.0.113.9", 6, (999, 80), 40),
            victim(Direction::Incoming),
        ),
        (
            packet(Time::default(), "2001:db8::9", "2001:db9::7", 17, (53, 4242), 1400),
            packet(Time::default(), "2001:db8::9", "2001:db9::7", 6, (999, 80), 40),
            Target { prefix: p("2001:db8::9"), direction: Direction::Outgoing },
        ),
    ] {
        let thresholds = [target.direction].map(|d| (d, Class::Total, Unit::Packets, 10_000));
        let mut bench = Bench::new(config(&thresholds), 2);
        (0..10).for_each(|_| bench.tick(&vec![flood; 3_000]));
        let dns = Pattern::new(vec![
            match target.direction {
                Direction::Incoming => Condition::Destination(target.prefix, 0),
                Direction::Outgoing => Condition::Source(target.prefix, 0),
            },
            Condition::SourcePort(Ranges::value(53)),
        ]);
        let filter = Arc::new(Filter::new(dns.expect("valid"), bench.detector.workers()));
        filter.set_withheld(true);
        bench.detector.set_filters(target, vec![Arc::clone(&filter)]);
        bench.events.clear();
        let d = target.direction as usize;
        let packets = |bench: &Bench| bench.detector.host(target.prefix).expect("known").packets[d];
        let before = packets(&bench);
        (0..100).for_each(|_| bench.tick(&vec![flood; 3_000]));
        assert_eq!(packets(&bench) - before, 100 * 3_000, "everything arrives");
        assert_eq!((filter.hits().0, filter.passed().0), (0, 99 * 3_000), "and would have been hit");
        let filtered = |s: &detector::counters::Shard| s.filtered.packets.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(bench.detector.shards().map(|s| filtered(s)).sum::<u64>(), 0);
        assert!(bench.events.is_empty(), "the same vector is not looked at again: {:?}", bench.events);
        let attack = &bench.detector.attacks()[&target];
        assert!(attack.packets_per_second > 28_000 && attack.over_since.is_none(), "it goes on, as it was found");
        // A second vector, smaller than the first, but over the threshold itself.
        let both = [vec![flood; 3_000], vec![syn; 2_000]].concat();
        (0..20).for_each(|_| bench.tick(&both));
        assert!(bench.events.iter().any(|e| matches!(e, Event::Residual(t) if *t == target)), "20,000 pps of TCP");
        let bucket = bench.events.iter().find_map(|e| if let Event::BucketFull(_, b) = e { Some(b) } else { None });
        assert!(bucket.expect("a bucket").samples.iter().all(|s| s.protocol == 6), "the new vector alone is mined");
    }
}

#[test]
fn one_sampled_packet_is_no_attack_and_a_flood_under_sampling_is() {
    let mut bench = Bench::new(config(&PPS), 1);
    let mut sample = packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400);
    (sample.origin, sample.sampling_rate, sample.packets, sample.bytes) =
        (Origin::SampledPacket, 10_000, 10_000, 14_000_000);
    for _ in 0..600 {
        bench.tick(&[sample]);
        (0..19).for_each(|_| bench.tick(&[]));
    }
    assert_eq!(bench.alarms(), [], "5,000 pps in samples of 10,000");
    (0..20).for_each(|_| bench.tick(&[sample; 10]));
    assert_eq!(bench.alarms(), [victim(Direction::Incoming)], "1 Mpps");
    let evidence = bench.detector.attacks()[&victim(Direction::Incoming)].evidence;
    assert!(evidence.lower_bound > 10_000 && evidence.lower_bound < evidence.rate, "{evidence:?}");
}

#[test]
fn class_thresholds_count_only_their_class_in_both_versions_and_directions() {
    let thresholds = [
        (Direction::Incoming, Class::TcpSyn, Unit::Packets, 1_000),
        (Direction::Outgoing, Class::Udp, Unit::Bytes, 10_000_000),
    ];
    let mut bench = Bench::new(config(&thresholds), 2);
    let mut syn = packet(bench.now, "2001:db9::7", "2001:db8::9", 6, (999, 80), 60);
    syn.tcp_flags = 0x02;
    let ack = Sample { tcp_flags: 0x10, ..syn };
    let out = packet(bench.now, "203.0.113.9", "198.51.100.1", 17, (4242, 80), 1400);
    (0..30).for_each(|_| bench.tick(&vec![ack; 5_000]));
    assert_eq!(bench.alarms(), []);
    (0..30).for_each(|_| bench.tick(&[vec![syn; 300], vec![out; 2_000]].concat()));
    let v6 = Target { prefix: p("2001:db8::9"), direction: Direction::Incoming };
    let mut alarms = bench.alarms();
    alarms.sort();
    let mut expected = [v6, victim(Direction::Outgoing)];
    expected.sort();
    assert_eq!(alarms, expected);
    assert_eq!(bench.detector.attacks()[&v6].measure.class, Class::TcpSyn);
}

#[test]
fn a_bucket_that_does_not_fill_is_orphaned_with_its_counts() {
    let mut bench = Bench::new(config(&PPS), 1);
    // Ten records of 20,000 packets each: certain evidence, but not twenty samples.
    let mut record = packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400);
    (record.origin, record.packets, record.bytes) = (Origin::FlowRecord, 20_000, 28_000_000);
    bench.tick(&[record; 10]);
    (0..1250).for_each(|_| bench.tick(&[packet(bench.now, "198.51.100.7", "203.0.113.10", 6, (1, 1), 40)]));
    let orphan =
        bench.events.iter().find_map(|e| if let Event::Orphaned(t, b) = e { Some((*t, b.clone())) } else { None });
    let (target, bucket) = orphan.expect("the bucket was dropped");
    assert_eq!((target, bucket.counted), (victim(Direction::Incoming), 10));
}

#[test]
fn silence_of_all_telemetry_freezes_an_attack() {
    let mut bench = Bench::new(config(&PPS), 1);
    let flood = vec![packet(bench.now, "198.51.100.7", "203.0.113.9", 17, (53, 4242), 1400); 3_000];
    (0..10).for_each(|_| bench.tick(&flood));
    // clear_after is 5 s here: time with no traffic at all counts only until silence is noticed.
    bench.detector.set_filters(victim(Direction::Incoming), Vec::new());
    (0..600).for_each(|_| bench.tick(&[]));
    assert!(bench.events.iter().any(|e| matches!(e, Event::Silence)));
}

#[test]
fn the_sum_over_shards_is_what_was_fed_and_events_do_not_depend_on_the_worker_count() {
    let run = |workers: usize| {
        let mut bench = Bench::new(config(&PPS), workers);
        let mut fed = 0;
        for tick in 0..100u64 {
            let count = (tick * 7919) % 9000;
            let samples: Vec<Sample> = (0..count)
                .map(|i| {
                    let host = format!("203.0.113.{}", 1 + (i * 31 + tick) % 3);
                    packet(bench.now, "198.51.100.7", &host, 17, (53, 4242), 100 + (i % 1000) as u16)
                })
                .collect();
            fed += samples.iter().map(|s| s.bytes).sum::<u64>();
            bench.tick(&samples);
        }
        let hosts: Vec<u64> =
            (1..4).map(|i| bench.detector.host(p(&format!("203.0.113.{i}"))).map_or(0, |t| t.bytes[0])).collect();
        assert_eq!(hosts.iter().sum::<u64>(), fed);
        (hosts, bench.alarms())
    };
    let one = run(1);
    assert!(!one.1.is_empty(), "the load passes the threshold at times");
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn ipv6_samples_of_own_hosts_are_counted_as_such() {
    let mut bench = Bench::new(config(&PPS), 1);
    let sample = packet(bench.now, "2001:db9::1", "2001:db8::77", 58, (0, 0), 100);
    assert_eq!(sample.version, IpVersion::V6);
    bench.tick(&[sample; 5]);
    assert_eq!(bench.detector.host(p("2001:db8::77")).expect("known").packets, [5, 0]);
}
