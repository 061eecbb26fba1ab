//! Mining buckets of different sizes, without a baseline.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use collectors::{Fields, IpVersion, Origin, Sample, Time};
use criterion::{Criterion, criterion_group, criterion_main};
use detector::{Direction, Target};
use mitigation::miner::{Capabilities, Request, mine};

/// Three vectors and ordinary traffic, in turn.
fn bucket(count: u32) -> Vec<Sample> {
    let target: detector::Prefix = "203.0.113.9".parse().expect("literal");
    let port = |n: u32| u16::try_from(1024 + n % 64_000).expect("a port");
    (0..count)
        .map(|i| {
            let random = i.wrapping_mul(2_654_435_761);
            let mut sample = Sample::empty(Time(0), IpVersion::V4, Origin::Packet);
            (sample.packets, sample.known) = (1, Fields::ALL);
            (sample.source, sample.destination) = (u128::from(random) << 96, target.bits());
            (sample.source_port, sample.destination_port) = (port(random >> 7), port(random >> 3));
            match i % 4 {
                0 => (sample.protocol, sample.source_port, sample.length) = (17, 53, port(random) % 1400 + 60),
                1 => (sample.protocol, sample.tcp_flags, sample.length) = (6, 2, 40),
                2 => (sample.protocol, sample.fragment, sample.length) = (17, 2, 1500),
                _ => {
                    (sample.protocol, sample.destination_port, sample.tcp_flags, sample.length) =
                        (6, 443, 16, port(random) % 1400 + 40)
                }
            }
            sample.bytes = sample.length.into();
            sample
        })
        .collect()
}

fn miner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mine-plain");
    for count in [20, 500, 10_000] {
        let sample = bucket(count);
        let request = Request {
            target: Target { prefix: "203.0.113.9".parse().expect("literal"), direction: Direction::Incoming },
            sample: &sample,
            by_bytes: false,
            enough: 0.95,
            baseline: None,
            sample_pps: None,
            baseline_pps: None,
            capacity_pps: None,
            max_rules: 10,
            capabilities: Capabilities::default(),
            excluded: Vec::new(),
        };
        group.bench_function(format!("{count}-samples"), |b| b.iter(|| mine(black_box(&request))));
    }
    group.finish();
}

criterion_group!(benches, miner);
criterion_main!(benches);
