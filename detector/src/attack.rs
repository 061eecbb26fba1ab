//! [`Attack`]: a target over a threshold, from the alarm to its end.

use std::sync::Arc;

use traffic::{Direction, Origin, Sample, Target, Time};

use crate::config::{BucketLimits, Measure, Unit};
use crate::counters::{Counts, Layout};
use crate::meter::Filter;
use crate::prefixes::Scope;
use crate::rate::Evidence;
use crate::tops::Tops;

/// A sample of an attack's traffic, in both directions; the alarmed one decides when it is full (decision 10).
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// When it was opened.
    pub opened: Time,
    /// What was captured, in order of capture.
    pub samples: Vec<Sample>,
    is_telemetry: bool,
    /// Samples of the alarmed direction (and class, if asked for).
    pub counted: usize,
    /// Samples that make it full.
    pub wanted: usize,
}

impl Bucket {
    pub(crate) const fn new(opened: Time, limits: &BucketLimits) -> Self {
        Self { opened, samples: Vec::new(), is_telemetry: false, counted: 0, wanted: limits.mirror_samples }
    }

    /// Adds a sample of the target; what is beyond the size is left out. Records of flow telemetry stand for very different
    /// amounts of traffic, so all that make up the excess are taken, not just the first few.
    pub(crate) fn add(&mut self, sample: &Sample, counts: bool, limits: &BucketLimits) {
        let is_packet = sample.origin == Origin::Packet;
        let most = if is_packet { limits.mirror_samples } else { limits.flow_samples.max(MAX_RECORDS) };
        if self.counted >= most || self.samples.len() >= most.saturating_mul(2) {
            return;
        }
        if counts {
            self.counted += 1;
            self.wanted = if is_packet { limits.mirror_samples } else { limits.flow_samples };
            self.is_telemetry |= !is_packet;
        }
        self.samples.push(*sample);
    }

    /// Whether enough of the alarmed direction has been captured, and every worker has had time to hand over what it remembers.
    #[must_use]
    pub fn is_full(&self, now: Time) -> bool {
        self.counted >= self.wanted && (!self.is_telemetry || now.since(self.opened) >= GATHER)
    }
}

/// Records of flow telemetry that a bucket takes at most.
pub const MAX_RECORDS: usize = 1000;
/// How long a bucket of flow telemetry gathers what workers remember; they serve every 20 ms, 50 when idle.
const GATHER: std::time::Duration = std::time::Duration::from_millis(30);

/// What was over its threshold when it was crossed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Which measure.
    pub measure: Measure,
    /// Its threshold, in units per second.
    pub threshold: u64,
    /// How far over, and how sure.
    pub evidence: Evidence,
}

/// Where an attack is in its life. Before it, a target is idle, or suspect: half the evidence of an alarm has gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its traffic is at 0.7 of the threshold or more, or was a moment ago.
    Active,
    /// Its traffic is below 0.7 of the threshold; it is over when that has lasted long enough.
    Fading,
    /// No exporter that told of it says anything: neither active nor over.
    Frozen,
}

/// A target over a threshold. One per target; ends when its traffic has stayed below 0.7 of the threshold long enough.
#[derive(Debug, Clone)]
pub struct Attack {
    /// Who is attacked (or attacks).
    pub target: Target,
    /// A host, a prefix of hosts, a network or a group's sum.
    pub scope: Scope,
    /// Host group whose threshold was passed.
    pub group: String,
    /// The key of the threshold in the configuration.
    pub threshold_key: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// How often it has come back soon after its end: each time it lasts twice as long.
    pub returns: u32,
    /// It is over when its traffic has been low for this long.
    pub hold: std::time::Duration,
    /// Packets since it was detected, filtered ones included.
    pub packets: u64,
    /// IP bytes since it was detected, filtered ones included.
    pub bytes: u64,
    /// What it is made of.
    pub tops: Tops,
    /// What the last crossing rests on, tick by tick.
    pub measured: crate::rate::Recorded,
    /// Which measure.
    pub measure: Measure,
    /// The last crossing: what is mined has to bring that measure down.
    pub crossing: Crossing,
    /// Threshold of `measure`, in units per second.
    pub threshold: u64,
    /// What the alarm rests on.
    pub evidence: Evidence,
    /// When the excess began.
    pub started: Time,
    /// When the alarm was raised.
    pub detected: Time,
    /// Packets per second over about the last second, filtered traffic included.
    pub packets_per_second: u64,
    /// IP bytes per second over about the last second, filtered traffic included.
    pub bytes_per_second: u64,
    /// Units of `measure` per second over about the last second, filtered traffic included.
    pub units_per_second: u64,
    /// Highest `packets_per_second` so far.
    pub peak_packets_per_second: u64,
    /// Highest `bytes_per_second` so far.
    pub peak_bytes_per_second: u64,
    /// Since when the traffic that no filter takes has been over the threshold without a break.
    pub over_since: Option<Time>,
    /// The capture in progress.
    pub bucket: Option<Bucket>,
    /// Filters that take part of this target's traffic out of its counters, or would.
    pub filters: Vec<Arc<Filter>>,
    /// What those that are withheld had matched at the last tick.
    pub(crate) aside: Option<Counts>,
    pub(crate) last_crossing: Time,
    pub(crate) last_active: Time,
    pub(crate) longest_pause: std::time::Duration,
    /// Of a target wider than a host: its counters at the last tick.
    pub(crate) reading: Option<crate::counters::Counts>,
    pub(crate) next_bucket: Time,
    pub(crate) fruitless: u32,
    pub(crate) rates: Rates,
}

/// Exponentially weighted rates of an attack's target; time constant one second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) packets: f64,
    pub(crate) bytes: f64,
    /// Of the measure that fired.
    pub(crate) units: f64,
    pub(crate) filter_hits: (u64, u64),
    /// Of the measure that fired, what filters match at routers where they are not in force.
    pub(crate) pending: f64,
    pub(crate) filter_passed: (u64, u64),
    /// Of the measure that fired, what no filter matches.
    pub(crate) unmatched: f64,
}

impl Attack {
    /// The threshold in words: `threshold_pps of 20000 packets/s`.
    #[must_use]
    pub fn threshold_text(&self) -> String {
        format!("{} of {}", self.threshold_key, rate_text(self.measure.unit, self.threshold))
    }

    /// The measured rate in words: `41000 packets/s` or `350.0 mbps`.
    #[must_use]
    pub fn rate_text(&self) -> String {
        rate_text(self.measure.unit, self.evidence.rate)
    }

    /// Whether all that is over the threshold is traffic of rules at routers that do not hold them yet: then there is nothing
    /// further to try, and what is wanted is for them to take the rules.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a comparison")]
    pub fn waits_for_routers(&self) -> bool {
        self.rates.pending >= 1.0 && self.rates.unmatched < self.threshold as f64
    }

    /// What a tick added of traffic that withheld filters match.
    pub(crate) fn take_aside(&mut self, layout: Layout) -> Option<Counts> {
        let sum = self.filters.iter().fold(None, |mut sum: Option<Counts>, filter| {
            filter.add_aside(sum.get_or_insert_with(|| Counts::zero(layout)));
            sum
        })?;
        let mut delta = sum.clone();
        delta.since(&self.aside.replace(sum).unwrap_or_else(|| Counts::zero(layout)));
        Some(delta)
    }

    pub(crate) fn counts_in_bucket(&self, sample: &Sample, limits: &BucketLimits) -> bool {
        let class = self.measure.class.index();
        let of_class = !limits.threshold_specific
            || class >= crate::config::Class::ALL.len()
            || crate::counters::classes_of(sample) & (1 << class) != 0;
        of_class && self.target.covers(sample)
    }
}

/// A rate with its unit as operators write it.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub fn rate_text(unit: Unit, per_second: u64) -> String {
    match unit {
        Unit::Packets => format!("{per_second} packets/s"),
        Unit::Bytes => format!("{:.1} mbps", per_second as f64 * 8.0 / 1e6),
        Unit::Flows => format!("{per_second} flows/s"),
    }
}

/// What the detector has to say after a step, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A target went over a threshold: a new entry in `Detector::attacks`, and a bucket was opened for it.
    Alarm(Target),
    /// A target is over its threshold still, or again, in spite of the filters: a new bucket was opened.
    Residual(Target),
    /// A bucket is full.
    BucketFull(Target, Bucket),
    /// A bucket did not fill in time: an orphan. The attack goes on, and what the bucket holds is offered all the same.
    Orphaned(Target, Bucket),
    /// The attack is over; this was its last state.
    Over(Box<Attack>),
    /// A sampling rate of an exporter has jumped: what rests on it alone is in doubt (decision 29). Rates before and after.
    SuspectExporter {
        /// Number of the exporter in samples.
        exporter: u32,
        /// N before.
        before: u32,
        /// N now.
        now: u32,
    },
    /// No telemetry at all has arrived for a while: attacks are frozen, not ended (decision 7).
    Silence,
    /// Telemetry is back.
    SilenceOver,
}

pub(crate) const fn other_direction(target: Target) -> Target {
    let direction = match target.direction {
        Direction::Incoming => Direction::Outgoing,
        Direction::Outgoing => Direction::Incoming,
    };
    Target { direction, ..target }
}
