//! What the detector's tests share: a virtual clock, samples, a seeded generator.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]

use std::time::Duration;

use detector::{Class, Config, Detector, Event, HostGroup, Measure, Meter, Thresholds, Unit};
use traffic::{Direction, Fields, Origin, Prefix, Sample, Target, Time};

pub fn p(text: &str) -> Prefix {
    text.parse().expect("literal prefix")
}

pub fn thresholds(all: &[(Direction, Class, Unit, u64)]) -> Thresholds {
    all.iter().map(|&(d, class, unit, value)| ((d, Measure { class, unit }), value)).collect()
}

/// Packets per second, incoming.
pub fn pps(value: u64) -> Thresholds {
    thresholds(&[(Direction::Incoming, Class::Total, Unit::Packets, value)])
}

pub fn config(networks: &[&str], global: Thresholds) -> Config {
    Config {
        networks: networks.iter().map(|t| p(t)).collect(),
        groups: vec![HostGroup { name: "global".to_owned(), thresholds: global, ..HostGroup::default() }],
        ..Config::default()
    }
}

pub fn incoming(text: &str) -> Target {
    Target { prefix: p(text), direction: Direction::Incoming }
}

pub fn packet(source: &str, destination: &str, protocol: u8, ports: (u16, u16), length: u16) -> Sample {
    let (source, destination) = (p(source), p(destination));
    let mut sample = Sample::empty(Time(0), destination.version(), Origin::Packet);
    (sample.source, sample.destination) = (source.bits(), destination.bits());
    (sample.source_port, sample.destination_port) = ports;
    (sample.protocol, sample.length, sample.packets, sample.bytes) = (protocol, length, 1, length.into());
    sample.known = Fields::ALL;
    sample
}

/// A sample that stands for `seen` packets sampled 1:`rate`.
pub fn times(sample: Sample, seen: u64, rate: u32) -> Sample {
    let packets = seen * u64::from(rate);
    let origin = if rate > 1 { Origin::SampledPacket } else { sample.origin };
    Sample { packets, bytes: packets * u64::from(sample.length), sampling_rate: rate, origin, ..sample }
}

/// A detector on a clock that tests turn.
pub struct Bench {
    pub detector: Detector,
    pub meters: Vec<Meter>,
    pub now: Time,
    pub tick: Duration,
    pub events: Vec<(Time, Event)>,
}

impl Bench {
    pub fn new(config: Config, workers: usize, tick: Duration) -> Self {
        let (detector, meters) = Detector::new(config, workers, 1);
        let mut bench = Self { detector, meters, now: Time::from_seconds(1_000_000, 0), tick, events: Vec::new() };
        bench.detector.step(bench.now);
        bench
    }

    /// One tick in which each worker in turn counts one of the samples.
    pub fn tick(&mut self, samples: &[Sample]) {
        let workers = self.meters.len();
        for (i, sample) in samples.iter().enumerate() {
            self.meters[i % workers].count(&[Sample { time: self.now, ..*sample }]);
        }
        self.end_tick();
    }

    /// Ends a tick whose samples have been counted.
    pub fn end_tick(&mut self) {
        self.now = self.now.after(self.tick);
        self.meters.iter_mut().for_each(|m| m.serve(self.now));
        let now = self.now;
        self.events.extend(self.detector.step(now).into_iter().map(|e| (now, e)));
        self.meters.iter_mut().for_each(|m| m.serve(self.now));
        if self.detector.is_collecting() {
            self.events.extend(self.detector.collect(now).into_iter().map(|e| (now, e)));
        }
    }

    pub fn seconds(&mut self, seconds: f64, samples: &[Sample]) {
        let ticks = (seconds / self.tick.as_secs_f64()).round() as usize;
        (0..ticks).for_each(|_| self.tick(samples));
    }

    pub fn alarms(&self) -> Vec<Target> {
        self.events.iter().filter_map(|(_, e)| if let Event::Alarm(t) = e { Some(*t) } else { None }).collect()
    }

    pub fn ends(&self) -> usize {
        self.events.iter().filter(|(_, e)| matches!(e, Event::Over(_))).count()
    }
}

/// A seeded generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Poisson variable; from a mean of 50 on its normal approximation.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean >= 50.0 {
            let (u, v) = (self.uniform().max(1e-300), self.uniform());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            return (mean + mean.sqrt() * normal).round().max(0.0) as u64;
        }
        let limit = (-mean).exp();
        let (mut product, mut count) = (self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}
