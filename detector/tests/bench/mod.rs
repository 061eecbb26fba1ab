//! A detector and its meters on a clock that tests turn.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of this")]

use std::time::Duration;

use detector::{Class, Config, Detector, Event, HostGroup, Measure, Meter, Unit};
use traffic::{Direction, Fields, Origin, Prefix, Sample, Target, Time};

pub const TICK: Duration = Duration::from_millis(100);

pub fn p(text: &str) -> Prefix {
    text.parse().expect("literal prefix")
}

pub fn config(thresholds: &[(Direction, Class, Unit, u64)]) -> Config {
    let thresholds = thresholds.iter().map(|&(d, class, unit, value)| ((d, Measure { class, unit }), value)).collect();
    Config {
        networks: vec![p("203.0.113.0/24"), p("2001:db8::/32")],
        groups: vec![HostGroup { name: "global".to_owned(), thresholds, ..HostGroup::default() }],
        clear_after: Duration::from_secs(5),
        ..Config::default()
    }
}

pub fn packet(time: Time, source: &str, destination: &str, protocol: u8, ports: (u16, u16), length: u16) -> Sample {
    let (source, destination) = (p(source), p(destination));
    let mut sample = Sample::empty(time, source.version(), Origin::Packet);
    (sample.source, sample.destination) = (source.bits(), destination.bits());
    (sample.source_port, sample.destination_port) = ports;
    (sample.protocol, sample.length, sample.packets, sample.bytes) = (protocol, length, 1, length.into());
    sample.known = Fields::ALL;
    sample
}

/// A detector on a clock that tests turn.
pub struct Bench {
    pub detector: Detector,
    pub meters: Vec<Meter>,
    pub now: Time,
    pub events: Vec<Event>,
}

impl Bench {
    pub fn new(config: Config, workers: usize) -> Self {
        let (detector, meters) = Detector::new(config, workers, 1);
        let mut bench = Self { detector, meters, now: Time::from_seconds(1_000_000, 0), events: Vec::new() };
        bench.detector.step(bench.now);
        bench
    }

    /// One tick in which each worker in turn counts one of the samples.
    pub fn tick(&mut self, samples: &[Sample]) {
        let workers = self.meters.len();
        for (i, sample) in samples.iter().enumerate() {
            self.meters[i % workers].count(&[Sample { time: self.now, ..*sample }]);
        }
        self.now = self.now.after(TICK);
        self.meters.iter_mut().for_each(|m| m.serve(self.now));
        self.events.extend(self.detector.step(self.now));
        self.meters.iter_mut().for_each(|m| m.serve(self.now));
        self.events.extend(self.detector.collect(self.now));
    }

    pub fn alarms(&self) -> Vec<Target> {
        self.events.iter().filter_map(|e| if let Event::Alarm(t) = e { Some(*t) } else { None }).collect()
    }

    pub fn buckets(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::BucketFull(..))).count()
    }
}

pub const PPS: [(Direction, Class, Unit, u64); 1] = [(Direction::Incoming, Class::Total, Unit::Packets, 10_000)];

pub fn victim(direction: Direction) -> Target {
    Target { prefix: p("203.0.113.9/32"), direction }
}
