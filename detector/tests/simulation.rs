//! Seeded simulation in virtual time: no false alarm at half the threshold, and every attack found, its delay beside the bound.
//!
//! `FLOODWALL_SIMULATION_SECONDS` sets the length of the quiet hour: 30 by default, since each takes most of a second of CPU
//! time per sampling rate; `make test` says 600, and 3600 is the whole of it. Counts are fed per tick and host, through the real
//! meter and detector.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "made-up numbers"
)]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

mod support;

use std::time::Duration;

use detector::{Class, Event, Unit};
use support::{Bench, Random, config, p, packet, pps, thresholds, times};
use traffic::{Direction, Sample, Target, Time};

const THRESHOLD: f64 = 20_000.0;
const HOSTS: u64 = 100_000;
const TICK: Duration = Duration::from_millis(50);

/// The longest tick that the daemon may have: samples are followed for fewer ticks than with [`TICK`].
const SAMPLED_TICK: Duration = Duration::from_millis(100);

fn bench(tick: Duration) -> Bench {
    let mut config = config(&["10.0.0.0/14"], pps(THRESHOLD as u64));
    config.learning.is_on = false;
    Bench::new(config, 1, tick)
}

fn host(sample: Sample, number: u64) -> Sample {
    Sample { destination: u128::from((10 << 24) + number) << 96, ..sample }
}

/// Every host at half its threshold; returns what the detector says.
fn quiet(rate: u32, seconds: u64, seed: u64) -> Bench {
    let tick = if rate == 1 { TICK } else { SAMPLED_TICK };
    let mut bench = bench(tick);
    let mut random = Random(seed);
    let one = packet("198.51.100.7", "10.0.0.0", 17, (53, 4242), 700);
    let per_tick = THRESHOLD / 2.0 / f64::from(rate) * tick.as_secs_f64();
    let end = bench.now.after(Duration::from_secs(seconds));
    while bench.now < end {
        let time = bench.now;
        if per_tick >= 1.0 {
            for number in 0..HOSTS {
                let count = random.poisson(per_tick);
                if count > 0 {
                    let sample = host(times(one, count, rate), number);
                    bench.meters[0].count(&[Sample { time, ..sample }]);
                }
            }
        } else {
            // Independent Poisson counts of all hosts are one Poisson number of samples to random hosts.
            for _ in 0..random.poisson(per_tick * HOSTS as f64) {
                let sample = host(times(one, 1, rate), random.below(HOSTS));
                bench.meters[0].count(&[Sample { time, ..sample }]);
            }
        }
        bench.end_tick();
    }
    bench
}

fn no_alarm_at_half_the_threshold(rate: u32) {
    let seconds = std::env::var("FLOODWALL_SIMULATION_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let bench = quiet(rate, seconds, 42);
    let packets =
        bench.detector.shards().map(|s| s.incoming.packets.load(std::sync::atomic::Ordering::Relaxed)).sum::<u64>();
    println!(
        "1:{rate}: {HOSTS} hosts at half their threshold for {seconds} s: {packets} packets, {} alarms",
        bench.alarms().len()
    );
    assert_eq!(bench.alarms(), []);
    let expected = THRESHOLD / 2.0 * HOSTS as f64 * seconds as f64;
    assert!((packets as f64 / expected - 1.0).abs() < 0.01, "{packets} of {expected}");
}

#[test]
fn no_alarm_at_half_the_threshold_unsampled() {
    no_alarm_at_half_the_threshold(1);
}

#[test]
fn no_alarm_at_half_the_threshold_sampled_1_to_1000() {
    no_alarm_at_half_the_threshold(1_000);
}

#[test]
fn no_alarm_at_half_the_threshold_sampled_1_to_10000() {
    no_alarm_at_half_the_threshold(10_000);
}

/// The bound of the reference: ln(1/alpha) N / (threshold (c ln c - c + 1)) with alpha = 1e-12, in seconds.
fn bound(times: f64, rate: u32) -> f64 {
    1e12f64.ln() * f64::from(rate) / (THRESHOLD * (times * times.ln() - times + 1.0))
}

/// Delays of attacks of `times` the threshold, all at once on hosts of their own, from random moments on.
fn delays(attacks: u64, multiple: f64, rate: u32, seed: u64) -> Vec<f64> {
    let mut bench = bench(TICK);
    let mut random = Random(seed);
    let one = packet("198.51.100.7", "10.0.0.0", 17, (53, 4242), 700);
    let lasts = (10.0 * bound(multiple, rate)).max(2.0);
    let begin = bench.now;
    let starts: Vec<f64> = (0..attacks).map(|_| random.uniform() * 2.0).collect();
    let mut found: Vec<Option<f64>> = vec![None; attacks as usize];
    let per_second = THRESHOLD * multiple / f64::from(rate);
    let since = |now: Time| now.since(begin).as_secs_f64();
    while since(bench.now) < lasts + 2.1 && found.iter().any(Option::is_none) {
        let time = bench.now;
        let (from, to) = (since(time), since(time) + TICK.as_secs_f64());
        for number in 0..attacks {
            let start = starts[number as usize];
            let active = to.min(start + lasts) - from.max(start);
            if active > 0.0 && found[number as usize].is_none() {
                let count = random.poisson(per_second * active);
                if count > 0 {
                    bench.meters[0].count(&[Sample { time, ..host(times(one, count, rate), number) }]);
                }
            }
        }
        bench.end_tick();
        for (at, event) in std::mem::take(&mut bench.events) {
            if let Event::Alarm(target) = event {
                let number = (target.prefix.bits() >> 96) as u64 - (10 << 24);
                found[number as usize] = Some(since(at) - starts[number as usize]);
            }
        }
    }
    let missed = found.iter().filter(|f| f.is_none()).count();
    assert_eq!(missed, 0, "of {attacks} attacks of {multiple} times the threshold at 1:{rate}, {lasts:.2} s long");
    let mut delays: Vec<f64> = found.into_iter().flatten().collect();
    delays.sort_by(f64::total_cmp);
    delays
}

#[test]
fn every_attack_is_found_and_the_delay_is_near_the_bound() {
    println!("1:N    times  T*      mean    median  p99     max (seconds; 1000 attacks each)");
    for rate in [1, 1_000, 10_000] {
        for multiple in [1.5, 2.0, 5.0, 10.0, 50.0] {
            let delays = delays(1_000, multiple, rate, 7);
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            let bound = bound(multiple, rate);
            let (median, p99, max) = (delays[500], delays[990], delays[999]);
            println!("{rate:<6} {multiple:<6} {bound:<7.3} {mean:<7.3} {median:<7.3} {p99:<7.3} {max:.3}");
            // Tolerated bursts are a volume of 0.3 s at the threshold: an attack takes this long to exceed it.
            let tolerated = 0.3 / (multiple - 1.0);
            assert!(
                mean <= 1.5 * bound.max(tolerated) + 2.0 * TICK.as_secs_f64(),
                "mean {mean} at {multiple}x 1:{rate}"
            );
        }
    }
}

/// Exporters of different rates tell of one host (decision 37), by packets and by bytes, in either direction and version.
#[test]
fn a_sample_of_a_coarse_exporter_beside_unsampled_records_is_no_attack() {
    for (own, foreign) in [("10.0.7.9", "198.51.100.7"), ("2001:db8::9", "2001:db9::7")] {
        for direction in Direction::ALL {
            let limits = thresholds(&[
                (direction, Class::Total, Unit::Packets, 20_000),
                (direction, Class::Total, Unit::Bytes, 12_500_000),
            ]);
            let mut bench = Bench::new(config(&["10.0.0.0/16", "2001:db8::/32"], limits), 2, TICK);
            let of = |length| match direction {
                Direction::Incoming => packet(foreign, own, 17, (53, 80), length),
                Direction::Outgoing => packet(own, foreign, 17, (80, 53), length),
            };
            let exact = Sample { exporter: 1, ..times(of(100), 120, 1) };
            let coarse = Sample { exporter: 2, ..times(of(1_400), 1, 10_000) };
            for _ in 0..40 {
                bench.tick(&[exact, coarse]);
                bench.seconds(3.0, &[exact]);
            }
            assert_eq!(bench.alarms(), [], "about 5,700 packets/s");
            // Ten times the threshold, told by the coarse one.
            bench.seconds(2.0, &[exact, coarse]);
            assert_eq!(bench.alarms(), [Target { prefix: p(own), direction }]);
        }
    }
}
