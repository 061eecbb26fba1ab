//! `Level`: whether a target is over its threshold, and how sure that is.
//!
//! Two tests have to agree.
//!
//! * **Volume**: a leaky bucket. It gains what is measured, leaks at the threshold, and trips when more than
//!   `threshold * burst_tolerance` has gathered (decision 6). A burst above the threshold is tolerated; a lasting excess is not.
//! * **Evidence**: under 1:N sampling a count is a Poisson variable, so one sample times N is not an attack. A CUSUM test on the
//!   packets really observed trips when their number would arise by chance with a probability of about 1e-9. Two
//!   alternatives run side by side (1.2 and 3 times the threshold), so that small excesses are found as well as large ones at once.
//!   Unsampled counts are exact and need no such test.
//!
//! Bytes are weighed as packets of 1500 octets: the number of independent observations behind a byte count is at least
//! `bytes / 1500`, so the bound holds for any mix of packet sizes up to that.

use std::time::Duration;

use collectors::Time;

use crate::config::Unit;

/// Alternatives of the CUSUM test, as multiples of the threshold.
const ALTERNATIVES: [f64; 2] = [1.2, 3.0];
/// ln(1e9): the evidence that trips.
const CERTAIN: f64 = 20.7;
/// Octets that count as one observation.
const OBSERVATION_BYTES: f64 = 1500.0;
/// Below this many packets per observation a count is taken as exact.
const EXACT: f64 = 1.001;

/// What was measured in one tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    /// Units of the measure: packets, bytes or flows.
    pub(crate) units: u64,
    /// Packets that one observed packet stands for; at least 1.
    pub(crate) weight: f64,
    pub(crate) span: Duration,
}

/// How sure an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Evidence {
    /// Measured rate over the window, in units of the measure per second.
    pub rate: u64,
    /// The true rate is above this with a probability of 1 - 1e-6; equal to `rate` when nothing is sampled.
    pub lower_bound: u64,
    /// Observations (sampled packets, or for bytes their equivalent in packets of 1500 octets) in the window.
    pub observed: u64,
    /// Length of the window in milliseconds: since the excess began.
    pub window_ms: u64,
}

/// The state of one measure of one target.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    /// Excess over the threshold, in units times nanoseconds.
    excess: i128,
    cusum: [f64; ALTERNATIVES.len()],
    weight: f64,
    /// When the excess began, and what was seen since.
    pub(crate) since: Time,
    units: u64,
    observed: f64,
}

impl Level {
    pub(crate) const fn new(now: Time) -> Self {
        Self { excess: 0, cusum: [0.0; ALTERNATIVES.len()], weight: 1.0, since: now, units: 0, observed: 0.0 }
    }

    /// Adds one tick that began at `start`. `threshold` is in units per second.
    #[allow(clippy::cast_precision_loss, reason = "statistics, not accounting")]
    pub(crate) fn add(&mut self, start: Time, unit: Unit, tally: Tally, threshold: u64) {
        if self.is_empty() {
            *self = Self { weight: self.weight, ..Self::new(start) };
        }
        let span = i128::try_from(tally.span.as_nanos()).unwrap_or(i128::MAX);
        let gained = i128::from(tally.units).saturating_mul(1_000_000_000);
        let leaked = i128::from(threshold).saturating_mul(span);
        self.excess = self.excess.saturating_add(gained).saturating_sub(leaked).max(0);
        if tally.units > 0 {
            self.weight = tally.weight.max(1.0);
        }
        let scale = match unit {
            Unit::Packets => self.weight,
            Unit::Bytes => self.weight * OBSERVATION_BYTES,
            Unit::Flows => 1.0,
        };
        let observed = tally.units as f64 / scale;
        let expected = threshold as f64 * tally.span.as_secs_f64() / scale;
        for (sum, c) in self.cusum.iter_mut().zip(ALTERNATIVES) {
            *sum = (*sum + observed * c.ln() - expected * (c - 1.0)).max(0.0);
        }
        self.units = self.units.saturating_add(tally.units);
        self.observed += observed;
    }

    /// Nothing has gathered: the target is within its threshold.
    pub(crate) fn is_empty(&self) -> bool {
        self.excess == 0 && self.cusum.iter().all(|s| *s == 0.0)
    }

    /// Whether both tests trip.
    pub(crate) fn is_over(&self, threshold: u64, burst_tolerance: Duration) -> bool {
        let tolerated =
            i128::from(threshold).saturating_mul(i128::try_from(burst_tolerance.as_nanos()).unwrap_or(i128::MAX));
        self.excess > tolerated && (self.weight <= EXACT || self.cusum.iter().any(|s| *s >= CERTAIN))
    }

    /// What the alarm rests on.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates for people; float to integer casts saturate"
    )]
    pub(crate) fn evidence(&self, now: Time) -> Evidence {
        let window = now.since(self.since);
        let rate = self.units as f64 / window.as_secs_f64().max(1e-3);
        let bound = if self.weight <= EXACT { 1.0 } else { lower_bound(self.observed) };
        Evidence {
            rate: rate as u64,
            lower_bound: (rate * bound) as u64,
            observed: self.observed.ceil() as u64,
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Lower 1e-6 bound of a Poisson mean as a share of the count (Wilson and Hilferty's cube-root approximation of chi-square):
/// 0 for counts up to about 6, towards 1 for large ones.
#[must_use]
pub fn lower_bound(count: f64) -> f64 {
    const QUANTILE: f64 = 4.753;
    if count < 1.0 {
        return 0.0;
    }
    (1.0 - 1.0 / (9.0 * count) - QUANTILE / (3.0 * count.sqrt())).max(0.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const TOLERANCE: Duration = Duration::from_millis(300);

    /// Ticks until `per_tick` units trip a threshold of 20,000 per second, within a minute.
    fn ticks_to_alarm(per_tick: u64, weight: f64) -> Option<u64> {
        let mut level = Level::new(Time(0));
        (1..=600).find(|i| {
            level.add(Time(i * 100_000_000), Unit::Packets, Tally { units: per_tick, weight, span: TICK }, 20_000);
            level.is_over(20_000, TOLERANCE)
        })
    }

    #[test]
    fn an_exact_excess_trips_when_the_burst_tolerance_is_used_up() {
        assert_eq!(ticks_to_alarm(2_000, 1.0), None, "at the threshold");
        assert_eq!(ticks_to_alarm(4_000, 1.0), Some(4), "2x: 2000 of 6000 tolerated packets a tick");
        assert_eq!(ticks_to_alarm(100_000, 1.0), Some(1), "50x: at once");
        assert_eq!(ticks_to_alarm(2_100, 1.0), Some(61), "1.05x: in the end");
    }

    #[test]
    fn one_sample_times_ten_thousand_is_not_an_attack() {
        let mut level = Level::new(Time(0));
        level.add(Time(0), Unit::Packets, Tally { units: 10_000, weight: 10_000.0, span: TICK }, 20_000);
        assert!(level.excess > 0 && !level.is_over(20_000, TOLERANCE));
        level.add(Time(1), Unit::Packets, Tally { units: 10_000, weight: 10_000.0, span: TICK }, 20_000);
        assert!(!level.is_over(20_000, TOLERANCE), "two samples in 0.2 s happen by chance");
    }

    #[test]
    fn under_sampling_a_large_attack_trips_within_a_second() {
        // 10x the threshold at 1:1000: 20 samples per tick of 100 ms.
        let ticks = ticks_to_alarm(20_000, 1000.0).expect("a tenfold excess is found");
        assert!(ticks <= 3, "took {ticks} ticks");
        // 2x at 1:1000: 4 samples per tick.
        let ticks = ticks_to_alarm(4_000, 1000.0).expect("a twofold excess is found");
        assert!((20..=60).contains(&ticks), "took {ticks} ticks");
    }

    #[test]
    fn the_bound_is_that_of_the_reference() {
        // detection-and-mining.md section 3.1: 5.4 at 20, 23 at 50, 401 at 500.
        for (count, bound) in [(20.0, 5.4), (50.0, 23.0), (500.0, 401.0)] {
            let ours = count * lower_bound(count);
            assert!((ours - bound).abs() / bound < 0.05, "{count}: {ours}");
        }
    }
}
