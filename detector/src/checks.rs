//! `Checks`: the thresholds of a group as a list, and `Levels`, the state of one target under them.

use std::time::Duration;

use traffic::{Direction, Time};

use crate::config::{Measure, Thresholds, Unit};
use crate::counters::Counts;
use crate::rate::{EXACT, Evidence, Level, OBSERVATION_BYTES, Recorded, Tally};

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) direction: Direction,
    pub(crate) measure: Measure,
    /// In force, in units per second.
    pub(crate) threshold: u64,
}

/// The thresholds of a group in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checks(pub(crate) Vec<Check>);

impl Checks {
    pub(crate) fn new(thresholds: &Thresholds) -> Self {
        Self(
            thresholds
                .iter()
                .map(|(&(direction, measure), &threshold)| Check { direction, measure, threshold })
                .collect(),
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What one tick of a target says about a measure.
pub(crate) fn tally(delta: &Counts, direction: Direction, measure: Measure) -> Tally {
    let units = delta.units(direction, measure.class, measure.unit);
    let weight = delta.weight(direction);
    let scale = match measure.unit {
        _ if weight <= EXACT => 0.0,
        Unit::Packets => weight,
        Unit::Bytes => delta.weight_bytes(direction).unwrap_or(weight * OBSERVATION_BYTES),
        Unit::Flows => 0.0,
    };
    Tally { units, scale, reach: Duration::from_millis(delta.reach_ms(direction)) }
}

/// A threshold that was passed with certainty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Passed {
    pub(crate) check: Check,
    pub(crate) evidence: Evidence,
    pub(crate) since: Time,
    pub(crate) measured: Recorded,
}

/// The state of a target under each of its checks, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Levels(Vec<Level>);

impl Levels {
    pub(crate) fn new(checks: &Checks, now: Time) -> Self {
        Self(checks.0.iter().map(|_| Level::new(now)).collect())
    }

    /// Adds a tick.
    pub(crate) fn add(&mut self, checks: &Checks, start: Time, end: Time, delta: Option<&Counts>) {
        for (level, check) in self.0.iter_mut().zip(&checks.0) {
            let tally = delta.map_or_else(Tally::default, |d| tally(d, check.direction, check.measure));
            level.add(start, end, tally, check.threshold);
        }
    }

    /// Whether everything is within its threshold.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Level::is_empty)
    }

    pub(crate) fn is_suspect(&self, checks: &Checks, direction: Direction, tolerance: Duration) -> bool {
        let of = self.0.iter().zip(&checks.0).filter(|(_, c)| c.direction == direction);
        of.into_iter().any(|(level, check)| level.is_suspect(check.threshold, tolerance))
    }

    /// Since when there has been an excess, if any measure of either direction is suspect.
    pub(crate) fn suspect_since(&self, checks: &Checks, tolerance: Duration) -> Option<Time> {
        let suspect = self.0.iter().zip(&checks.0).filter(|(l, check)| l.is_suspect(check.threshold, tolerance));
        suspect.map(|(level, _)| level.since).min()
    }

    /// Of the measures of a direction that have passed, the one furthest over its threshold names the attack.
    pub(crate) fn passed(&self, checks: &Checks, direction: Direction, tolerance: Duration) -> Option<Passed> {
        let times = |p: &Passed| u128::from(p.evidence.rate) * 1000 / u128::from(p.check.threshold.max(1));
        let of = self.0.iter().zip(&checks.0).filter(|(_, c)| c.direction == direction);
        let over = of.filter(|(level, check)| level.is_over(check.threshold, tolerance));
        over.map(|(level, check)| Passed {
            check: *check,
            evidence: level.evidence(check.threshold),
            since: level.since,
            measured: level.recorded(),
        })
        // Of equal ones the first stays.
        .reduce(|best, p| if times(&p) > times(&best) { p } else { best })
    }

    /// Begins anew for one direction.
    pub(crate) fn restart(&mut self, checks: &Checks, direction: Direction, now: Time) {
        let of = self.0.iter_mut().zip(&checks.0).filter(|(_, c)| c.direction == direction);
        of.for_each(|(level, check)| level.restart(now, check.threshold));
    }
}
