//! Mining over all kinds of attacks and hosts: what a bucket of a mirror, of flow telemetry and a large one cost.
//!
//! Besides criterion's means, p50, p99 and worst of single runs over all pairs of attack and host are printed. The ordinary traffic is
//! prepared before, as the daemon does when it raises the alarm; what that costs is printed beside.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stdout, reason = "a bench prints")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use flowspec::Capabilities;
use miner::{Baseline, Request, mine};
use traffic::{IpVersion, Sample};

#[path = "../tests/support/mixes.rs"]
mod mixes;
use mixes::{ATTACKS, ORDINARY, Random, mix, target};

/// Bucket and baseline sizes.
const SIZES: [(usize, usize); 4] = [(20, 640), (500, 640), (10_000, 640), (500, 0)];

fn request<'a>(version: IpVersion, sample: &'a [Sample], baseline: &'a Baseline) -> Request<'a> {
    let known = !baseline.samples().is_empty();
    Request {
        target: target(version),
        sample,
        by_bytes: false,
        enough: 0.95,
        baseline: known.then_some(baseline),
        sample_pps: Some(210_000.0),
        baseline_pps: known.then_some(10_000.0),
        capacity_pps: Some(40_000.0),
        max_rules: 10,
        capabilities: Capabilities::default(),
        excluded: Vec::new(),
    }
}

/// p50, p99 and worst of some microseconds.
fn spread(mut times: Vec<u128>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {} us, p99 {} us, worst {} us", at(50), at(99), at(100))
}

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed<T>(times: &mut Vec<u128>, run: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let done = black_box(run());
    times.push(start.elapsed().as_micros());
    done
}

fn samples(size: usize, baseline: usize) -> Vec<(IpVersion, Vec<Sample>, Vec<Sample>)> {
    let mut all = Vec::new();
    for (_, attack) in ATTACKS {
        for (_, ordinary) in ORDINARY {
            for version in [IpVersion::V4, IpVersion::V6] {
                let mut random = Random::new(all.len() as u64 + 1);
                let bucket = mix(version, &mut random, size, 95, attack, ordinary);
                all.push((version, bucket, mix(version, &mut random, baseline, 0, attack, ordinary)));
            }
        }
    }
    all
}

fn miner(criterion: &mut Criterion) {
    for (size, baseline) in SIZES {
        let (mut times, mut preparing): (Vec<u128>, Vec<u128>) = (Vec::new(), Vec::new());
        let prepare = |(version, bucket, ordinary): (IpVersion, Vec<Sample>, Vec<Sample>)| {
            let prepared = timed(&mut preparing, || Baseline::new(target(version), ordinary));
            (version, bucket, prepared)
        };
        let all: Vec<_> = samples(size, baseline).into_iter().map(prepare).collect();
        for _ in 0..5 {
            for (version, bucket, ordinary) in &all {
                let request = request(*version, bucket, ordinary);
                timed(&mut times, || mine(black_box(&request)));
            }
        }
        println!("{size} + {baseline} samples: {}", spread(times));
        println!("  {baseline} samples of ordinary traffic prepared in {}", spread(preparing));
        let mut group = criterion.benchmark_group(format!("mine-{size}-{baseline}"));
        group.sample_size(10);
        group.bench_function("all-scenarios-in-turn", |b| {
            b.iter(|| {
                for (version, bucket, ordinary) in &all {
                    black_box(mine(black_box(&request(*version, bucket, ordinary))));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, miner);
criterion_main!(benches);
