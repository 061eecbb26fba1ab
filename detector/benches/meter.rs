//! Counting on one core: hosts at random, and one hot host, which is what an attack is.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use detector::{Class, Config, Detector, HostGroup, Measure, Thresholds, Unit};
use traffic::{Direction, Fields, IpVersion, Origin, Sample, Time};

/// A sample to each of the hosts, in batches.
fn to_all(hosts: u64) -> Vec<Vec<Sample>> {
    let mut sample = Sample::empty(Time(0), IpVersion::V4, Origin::FlowRecord);
    (sample.packets, sample.bytes, sample.known, sample.protocol) = (1, 500, Fields::ALL, 6);
    let of = |host: u64| Sample { destination: u128::from((10 << 24) | host) << 96, source: 1 << 96, ..sample };
    (0..hosts).collect::<Vec<_>>().chunks(1024).map(|hosts| hosts.iter().map(|host| of(*host)).collect()).collect()
}

/// Samples to hosts of 10.0.0.0/16 and up, `hosts` of them in turn at random.
fn samples(hosts: u64) -> Vec<Sample> {
    let mut state = 1u64;
    let mut sample = Sample::empty(Time(0), IpVersion::V4, Origin::FlowRecord);
    (sample.packets, sample.bytes, sample.known, sample.protocol) = (1, 500, Fields::ALL, 6);
    (0..1 << 16)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let destination = u128::from((10 << 24) | ((state >> 33) % hosts)) << 96;
            Sample { destination, source: 1 << 96, ..sample }
        })
        .collect()
}

fn meter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meter");
    for (name, hosts) in [("one-host", 1), ("65536-hosts", 1 << 16), ("1048576-hosts", 1 << 20)] {
        let pps = Measure { class: Class::Total, unit: Unit::Packets };
        let thresholds = Thresholds::from([((Direction::Incoming, pps), 1 << 40)]);
        let config = Config {
            networks: vec!["10.0.0.0/12".parse().expect("literal")],
            groups: vec![HostGroup { name: "global".to_owned(), thresholds, ..HostGroup::default() }],
            ..Config::default()
        };
        let (mut detector, mut meters) = Detector::new(config, 1, 1);
        let (samples, all) = (samples(hosts), to_all(hosts));
        let mut batches = samples.chunks(26).cycle();
        group.throughput(Throughput::Elements(26));
        group.bench_function(name, |b| b.iter(|| meters[0].count(black_box(batches.next().expect("endless")))));
        let mut now = 0u64;
        group.throughput(Throughput::Elements(1));
        // A second of 20 steps, once a million hosts at most have had a packet each; the counting itself is left out.
        group.bench_function(format!("second-{name}"), |b| {
            b.iter_custom(|seconds| {
                let mut spent = Duration::ZERO;
                for _ in 0..seconds {
                    for samples in &all {
                        meters[0].count(samples);
                    }
                    let start = Instant::now();
                    for _ in 0..20 {
                        now += 50_000_000;
                        black_box(detector.step(Time(now)));
                    }
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, meter);
criterion_main!(benches);
