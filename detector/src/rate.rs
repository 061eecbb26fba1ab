//! `Level`: whether a target is over its threshold, and how sure that is.
//!
//! Two tests have to agree.
//!
//! * **Volume**: a leaky bucket. It gains what is measured, leaks at the threshold, and trips when more than
//!   `threshold * burst_tolerance` has gathered (decision 6). A burst above the threshold is tolerated; a lasting excess is not.
//! * **Evidence**: under 1:N sampling a count is a Poisson variable, so one sample times N is not an attack. A CUSUM test on the
//!   observations trips when their number would arise by chance with a probability of about 1e-9. Four alternatives run side
//!   by side (1.25 to 10 times the threshold), so that small excesses are found as well as large ones at once. What lasts
//!   is certain too when the excess is `CERTAIN_DEVIATIONS` standard deviations of all that was counted since it began.
//!   Unsampled counts are exact: they deviate by nothing.
//!
//! # Observations that are not alike
//! Exporters sample at different rates, and 500 packets of 64 octets are worth more than one of 1500. Of observations that stand
//! for w units each, (sum w)^2 / (sum w^2) are as good as independent, so one stands for (sum w^2) / (sum w) units: over the whole
//! window since the excess began, not a tick, since ticks may hold one exporter's alone (decision 37). The CUSUM sums are kept in
//! units, and divided by that. One observation that stands for more than `HEAVIEST` of the threshold is taken for one of that:
//! a single absurd rate must not outweigh what all others tell for long.
//!
//! # Records that are late
//! A flow record tells of traffic that has passed already. An exporter that sends a second's records at once does not show
//! twenty times the rate for a twentieth of a second: `Tally::reach` says how far back the records of a tick go, and the
//! threshold is credited for that time too, as far as it has not been. A burst from a second exporter may tell of the same time
//! again, so what is left of the credit is kept until as much time has passed as usually lies between bursts. Traffic that
//! arrives without pauses gets no such credit, and an attack is seen with the first burst that holds enough of it: the
//! credit is for time, not for traffic.

use std::time::Duration;

use traffic::Time;

/// Alternatives of the CUSUM test, as multiples of the threshold, and their natural logarithms.
const ALTERNATIVES: [(f64, f64); 4] = [
    (1.25, 0.223_143_551_314_209_76),
    (2.0, std::f64::consts::LN_2),
    (4.0, 2.0 * std::f64::consts::LN_2),
    (10.0, std::f64::consts::LN_10),
];
/// ln(1e9): the evidence that trips.
const CERTAIN: f64 = 20.7;
/// An excess of so many standard deviations is certain: by chance once in 10^11.
const CERTAIN_DEVIATIONS: f64 = 7.0;
/// What one observation counts for in the evidence at most, as seconds of the threshold.
const HEAVIEST: f64 = 60.0;
/// Octets that count as one observation when packet sizes are not known.
pub(crate) const OBSERVATION_BYTES: f64 = 1500.0;
/// Below this many units per observation a count of packets is taken as exact.
pub(crate) const EXACT: f64 = 1.001;
/// Records are credited for at most this much time before their arrival.
pub(crate) const LONGEST_REACH: Duration = Duration::from_secs(60);
/// Longest pause between bursts that is credited.
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// What was measured in one tick.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Units of the measure: packets, bytes or flows.
    pub(crate) units: u64,
    /// Units that one independent observation stands for; 0 when the count is exact.
    pub(crate) scale: f64,
    /// How far back from the end of the tick the traffic goes; zero for packets.
    pub(crate) reach: Duration,
}

/// How sure an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// Measured rate over the window, in units of the measure per second.
    pub rate: u64,
    /// The true rate is above this with a probability of 1 - 1e-6; equal to `rate` when nothing is sampled.
    pub lower_bound: u64,
    /// Independent observations in the window: sampled packets, or what they are worth for bytes.
    pub observed: u64,
    /// Length of the window in milliseconds: the time that the traffic is measured against, since the excess began.
    pub window_ms: u64,
}

/// One tick of a measure, as an alarm rested on it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tick {
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// The end, likewise.
    pub end: u64,
    /// Units measured.
    pub units: u64,
    /// Units that one observation stands for; 0: exact.
    pub scale: f64,
    /// How far back the traffic goes, in milliseconds.
    pub reach_ms: u64,
}

/// Ticks that are remembered at most; of longer excesses the first ones are taken together.
const REMEMBERED: usize = 512;

/// Everything an alarm rested on, from the last tick in which nothing had gathered.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Recorded {
    /// Excess at the beginning, in units times nanoseconds: negative while time is credited.
    pub excess: f64,
    /// The evidence at the beginning, by alternative, in units.
    pub cusum: [f64; ALTERNATIVES.len()],
    /// What is known of the rhythm of arrivals: last one in nanoseconds since the epoch, longest pause and credit in nanoseconds.
    pub arrivals: Option<[u64; 3]>,
    /// Up to when the threshold had been credited.
    pub until: u64,
    /// What was measured.
    pub ticks: Vec<Tick>,
}

impl Recorded {
    /// Whether this raises an alarm, and on what evidence.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "a volume that was an integer when it was written")]
    pub fn decide(&self, threshold: u64, burst_tolerance: Duration) -> Option<Evidence> {
        let first = self.ticks.first()?;
        let mut level = Level::new(Time(first.start));
        (level.excess, level.cusum, level.until) = (self.excess as i128, self.cusum, Time(self.until));
        if let Some([last, gap, credit]) = self.arrivals {
            level.arrived = Some(Time(last));
            (level.gap, level.credit) = (Duration::from_nanos(gap), Duration::from_nanos(credit));
        }
        for tick in &self.ticks {
            let tally = Tally { units: tick.units, scale: tick.scale, reach: Duration::from_millis(tick.reach_ms) };
            level.add(Time(tick.start), Time(tick.end), tally, threshold);
        }
        level.is_over(threshold, burst_tolerance).then(|| level.evidence(threshold))
    }
}

/// The state of one measure of one target.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    /// Excess over the threshold, in units times nanoseconds; negative while time is credited.
    excess: i128,
    /// In units: divided by the scale they are the test's sums.
    cusum: [f64; ALTERNATIVES.len()],
    /// Up to when the threshold has been credited.
    until: Time,
    /// When traffic last arrived, and the longest pause of late.
    arrived: Option<Time>,
    gap: Duration,
    /// Time before the last arrival that later bursts may still tell of.
    credit: Duration,
    /// When the excess began, and what was seen since.
    pub(crate) since: Time,
    units: u64,
    /// Of these, what counts in the evidence, and the sum of their squares: units times the scale of their tick.
    weighed: f64,
    squares: f64,
    /// Apart, since most levels never gather anything.
    recorded: Option<Box<Recorded>>,
}

impl Level {
    pub(crate) const fn new(now: Time) -> Self {
        Self {
            excess: 0,
            cusum: [0.0; ALTERNATIVES.len()],
            until: Time(0),
            arrived: None,
            gap: Duration::ZERO,
            credit: Duration::ZERO,
            since: now,
            units: 0,
            weighed: 0.0,
            squares: 0.0,
            recorded: None,
        }
    }

    /// What an alarm rests on.
    pub(crate) fn recorded(&self) -> Recorded {
        self.recorded.as_deref().cloned().unwrap_or_default()
    }

    /// Where a recording begins.
    #[allow(clippy::cast_precision_loss, reason = "a volume, to within a packet")]
    fn beginning(&self) -> Recorded {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let arrivals = self.arrived.map(|last| [last.0, nanos(self.gap), nanos(self.credit)]);
        Recorded { excess: self.excess as f64, cusum: self.cusum, arrivals, until: self.until.0, ticks: Vec::new() }
    }

    /// Remembers a tick; with `beginning`, as the first one.
    #[allow(clippy::cast_precision_loss, reason = "a mean")]
    fn record(&mut self, beginning: Option<Recorded>, start: Time, end: Time, tally: Tally) {
        let recorded = self.recorded.get_or_insert_default();
        if let Some(beginning) = beginning {
            let mut ticks = std::mem::take(&mut recorded.ticks);
            ticks.clear();
            **recorded = Recorded { ticks, ..beginning };
        }
        if recorded.ticks.len() >= REMEMBERED {
            let first = recorded.ticks.remove(0);
            let second = &mut recorded.ticks[0];
            second.start = first.start;
            let units = second.units.saturating_add(first.units);
            if units > 0 {
                let squares = first.units as f64 * first.scale + second.units as f64 * second.scale;
                second.scale = squares / units as f64;
            }
            second.units = units;
        }
        let reach_ms = u64::try_from(tally.reach.as_millis()).unwrap_or(u64::MAX);
        recorded.ticks.push(Tick { start: start.0, end: end.0, units: tally.units, scale: tally.scale, reach_ms });
    }

    /// Begins anew at `now`, with what is known of the rhythm of arrivals: the next burst tells of time before now, which is
    /// credited again, since nothing that was counted then counts any more.
    pub(crate) fn restart(&mut self, now: Time, threshold: u64) {
        let Self { arrived, gap, credit, .. } = *self;
        *self = Self { arrived, gap, credit, until: now, ..Self::new(now) };
        self.leak(LONGEST_REACH, threshold);
    }

    /// Adds a tick from `start` to `end`. `threshold` is in units per second.
    #[allow(clippy::cast_precision_loss, reason = "statistics, not accounting")]
    pub(crate) fn add(&mut self, start: Time, end: Time, tally: Tally, threshold: u64) {
        // While nothing has gathered, what came before does not matter.
        let beginning = self.is_empty().then(|| self.beginning());
        let reach = tally.reach.min(LONGEST_REACH);
        let is_first = self.arrived.is_none() && tally.units > 0;
        // Ticks in which nothing arrived may have been left out.
        let idle = if self.until == Time(0) { Duration::ZERO } else { start.since(self.until) };
        self.leak(idle, threshold);
        if self.is_empty() && tally.units > 0 {
            let reached = Time(end.0.saturating_sub(u64::try_from(reach.as_nanos()).unwrap_or(u64::MAX)));
            self.slide(reached.min(start), end, !reach.is_zero());
        }
        let before = if is_first { reach } else { Duration::ZERO };
        self.arrive(end, tally, reach);
        self.until = end;
        self.excess = self.excess.saturating_add(i128::from(tally.units).saturating_mul(1_000_000_000));
        self.units = self.units.saturating_add(tally.units);
        let scale = tally.scale.min(threshold.max(1) as f64 * HEAVIEST);
        let share = if tally.scale > scale { scale / tally.scale } else { 1.0 };
        let weighed = tally.units as f64 * share;
        self.cusum.iter_mut().zip(ALTERNATIVES).for_each(|(sum, (_, ln))| *sum += weighed * ln);
        self.weighed += weighed;
        self.squares += weighed * scale;
        self.leak(end.since(start) + before, threshold);
        if beginning.is_none() || !self.is_empty() {
            self.record(beginning, start, end, tally);
        }
    }

    /// Moves the beginning of the window that the evidence is about. What earlier bursts told of the same time stays in it.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    fn slide(&mut self, since: Time, end: Time, keeps: bool) {
        let whole = end.since(self.since).as_secs_f64();
        let share = if keeps && whole > 0.0 { (end.since(since).as_secs_f64() / whole).min(1.0) } else { 0.0 };
        self.units = (self.units as f64 * share) as u64;
        self.weighed *= share;
        self.squares *= share;
        self.since = if share < 1.0 || self.units == 0 { since } else { self.since.max(since) };
    }

    /// Time passes at the threshold.
    #[allow(clippy::cast_precision_loss, reason = "statistics, not accounting")]
    fn leak(&mut self, span: Duration, threshold: u64) {
        let nanos = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
        let volume = |span| i128::from(threshold).saturating_mul(nanos(span));
        self.excess = self.excess.saturating_sub(volume(span)).max(-volume(self.credit));
        let (leaks, slack) = (threshold as f64 * span.as_secs_f64(), threshold as f64 * self.credit.as_secs_f64());
        for (sum, (c, _)) in self.cusum.iter_mut().zip(ALTERNATIVES) {
            *sum = (*sum - leaks * (c - 1.0)).max(-slack * (c - 1.0));
        }
    }

    /// Learns the rhythm of arrivals: for how much time before now later bursts may still tell something.
    fn arrive(&mut self, end: Time, tally: Tally, reach: Duration) {
        if tally.units == 0 {
            return;
        }
        self.gap = match self.arrived {
            None => reach.min(LONGEST_GAP),
            // A longer pause counts at once, a shorter one little by little: exporters interleave.
            Some(last) => end.since(last).max(self.gap.saturating_sub(end.since(last) / 2)).min(LONGEST_GAP),
        };
        self.arrived = Some(end);
        // Twice the pause: several exporters may say their say one after the other.
        self.credit = reach.min(self.gap * 2);
    }

    /// Nothing has gathered: the target is within its threshold.
    pub(crate) fn is_empty(&self) -> bool {
        self.excess <= 0 && self.cusum.iter().all(|s| *s <= 0.0)
    }

    /// Whether this share of the evidence of an alarm has gathered.
    #[allow(clippy::cast_precision_loss, reason = "statistics, not accounting")]
    fn has_evidence(&self, share: f64) -> bool {
        let excess = (self.excess as f64 / 1e9 - (self.units as f64 - self.weighed)).max(0.0);
        let scale = self.squares / self.weighed.max(1.0);
        excess * excess >= share * CERTAIN_DEVIATIONS * CERTAIN_DEVIATIONS * self.squares
            || self.cusum.iter().any(|sum| *sum >= share * CERTAIN * scale)
    }

    /// Whether both tests trip.
    pub(crate) fn is_over(&self, threshold: u64, burst_tolerance: Duration) -> bool {
        let tolerated =
            i128::from(threshold).saturating_mul(i128::try_from(burst_tolerance.as_nanos()).unwrap_or(i128::MAX));
        self.excess > tolerated && self.has_evidence(1.0)
    }

    /// Whether half the evidence of an alarm has gathered: from here on nothing is learned.
    pub(crate) fn is_suspect(&self, threshold: u64, burst_tolerance: Duration) -> bool {
        let tolerated = burst_tolerance / 2;
        let tolerated = i128::from(threshold).saturating_mul(i128::try_from(tolerated.as_nanos()).unwrap_or(i128::MAX));
        self.excess > tolerated && self.has_evidence(0.5)
    }

    /// What the alarm rests on. The window is the time that was credited at `threshold`: the rate is above the threshold exactly
    /// where there is an excess.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates for people; float to integer casts saturate"
    )]
    pub(crate) fn evidence(&self, threshold: u64) -> Evidence {
        let credited = i128::from(self.units).saturating_mul(1_000_000_000).saturating_sub(self.excess);
        let window = (credited.max(0) / i128::from(threshold.max(1))).clamp(1_000_000, i128::from(u64::MAX)) as u64;
        let window = Duration::from_nanos(window);
        let rate = self.units as f64 / window.as_secs_f64();
        let observed = self.weighed * self.weighed / self.squares;
        let (bound, observed) =
            if self.squares > 0.0 { (lower_bound(observed), observed.ceil() as u64) } else { (1.0, self.units) };
        Evidence {
            rate: rate as u64,
            lower_bound: (rate * bound) as u64,
            observed,
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
#[allow(clippy::cast_possible_truncation, reason = "made-up numbers")]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_millis(300);
    const THRESHOLD: u64 = 20_000;

    fn at(tick: u64) -> Time {
        Time(1_000_000_000_000 + tick * 100_000_000)
    }

    fn packets(units: u64, weight: f64) -> Tally {
        Tally { units, scale: if weight > 1.0 { weight } else { 0.0 }, reach: Duration::ZERO }
    }

    /// Ticks until `per_tick` units trip a threshold of 20,000 per second, within a minute.
    fn ticks_to_alarm(per_tick: u64, weight: f64) -> Option<u64> {
        let mut level = Level::new(at(0));
        (1..=600).find(|i| {
            level.add(at(i - 1), at(*i), packets(per_tick, weight), THRESHOLD);
            level.is_over(THRESHOLD, TOLERANCE)
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
        let mut level = Level::new(at(0));
        level.add(at(0), at(1), packets(10_000, 10_000.0), THRESHOLD);
        assert!(level.excess > 0 && !level.is_over(THRESHOLD, TOLERANCE));
        level.add(at(1), at(2), packets(10_000, 10_000.0), THRESHOLD);
        assert!(!level.is_over(THRESHOLD, TOLERANCE), "two samples in 0.2 s happen by chance");
    }

    #[test]
    fn under_sampling_a_large_attack_trips_within_a_second() {
        // 10x the threshold at 1:1000: 20 samples per tick of 100 ms.
        let ticks = ticks_to_alarm(20_000, 1000.0).expect("a tenfold excess is found");
        assert!(ticks <= 2, "took {ticks} ticks");
        // 2x at 1:1000: 4 samples per tick.
        let ticks = ticks_to_alarm(4_000, 1000.0).expect("a twofold excess is found");
        assert!((20..=40).contains(&ticks), "took {ticks} ticks");
    }

    /// Exact traffic of `exact` per second, and now and then one sample that stands for much more; ticks until an alarm.
    fn mixed(exact: u64, weight: f64, every: u64, ticks: u64) -> Option<u64> {
        let mut level = Level::new(at(0));
        (1..=ticks).find(|i| {
            let per_tick = exact / 10;
            let sampled = if i % every == 0 { weight as u64 } else { 0 };
            let units = per_tick + sampled;
            let tally = Tally { units, scale: sampled as f64 * weight / units as f64, reach: Duration::ZERO };
            level.add(at(i - 1), at(*i), tally, THRESHOLD);
            level.is_over(THRESHOLD, TOLERANCE)
        })
    }

    #[test]
    fn one_sample_beside_exact_records_is_no_attack_and_an_excess_of_both_together_is() {
        // Means within the threshold: each sample is an excess for a while.
        for (exact, weight, every) in
            [(400, 10_000.0, 50), (2_400, 10_000.0, 50), (14_000, 10_000.0, 60), (900, 100_000.0, 60)]
        {
            assert_eq!(mixed(exact, weight, every, 20_000), None, "{exact} and 1:{weight} every {every} ticks");
        }
        // What is exact alone is over the threshold.
        assert!(mixed(40_000, 10_000.0, 200, 600).is_some_and(|i| i <= 4));
        assert!(mixed(21_000, 1_000.0, 200, 3_000).is_some());
        // Both together, twice and ten times the threshold.
        assert!(mixed(10_000, 3_000.0, 1, 600).is_some_and(|i| i <= 70), "{:?}", mixed(10_000, 3_000.0, 1, 600));
        assert!(mixed(1_000, 20_000.0, 1, 600).is_some_and(|i| i <= 17), "{:?}", mixed(1_000, 20_000.0, 1, 600));
    }

    #[test]
    fn one_absurd_observation_does_not_hide_an_attack_for_long() {
        for weight in [100_000u64, 1_000_000_000, u64::MAX] {
            let mut level = Level::new(at(0));
            level.add(at(0), at(1), packets(weight, weight as f64), THRESHOLD);
            assert!(!level.is_over(THRESHOLD, TOLERANCE));
            // Forty times the threshold at 1:1000.
            let alarm = (2..=600).find(|i| {
                level.add(at(i - 1), at(*i), packets(80_000, 1000.0), THRESHOLD);
                level.is_over(THRESHOLD, TOLERANCE)
            });
            assert!(alarm.is_some_and(|i| i <= 50), "1:{weight}: {alarm:?}");
        }
    }

    #[test]
    fn the_bound_is_that_of_the_reference() {
        // detection-and-mining.md section 3.1: 5.4 at 20, 23 at 50, 401 at 500.
        for (count, bound) in [(20.0, 5.4), (50.0, 23.0), (500.0, 401.0)] {
            let ours = count * lower_bound(count);
            assert!((ours - bound).abs() / bound < 0.05, "{count}: {ours}");
        }
    }

    /// Exporters that send what they gathered at once, `seconds` of it, each at its own phase (in ticks).
    fn bursts(rate: f64, seconds: u64, phases: &[u64], ticks: u64) -> Option<(u64, Evidence)> {
        let mut level = Level::new(at(0));
        (1..=ticks).find_map(|i| {
            let due = phases.iter().filter(|p| i % (seconds * 10) == **p % (seconds * 10)).count() as f64;
            let share = rate * seconds as f64 / phases.len() as f64;
            let reach = if due > 0.0 { Duration::from_secs(seconds) } else { Duration::ZERO };
            level.add(at(i - 1), at(i), Tally { units: (due * share) as u64, scale: 0.0, reach }, THRESHOLD);
            level.is_over(THRESHOLD, TOLERANCE).then(|| (i, level.evidence(THRESHOLD)))
        })
    }

    #[test]
    fn records_sent_at_once_count_for_the_time_they_tell_of() {
        for (seconds, phases) in
            [(1, &[3][..]), (5, &[7]), (1, &[3, 6]), (5, &[7, 8]), (5, &[3, 20, 41]), (10, &[50, 51, 99])]
        {
            assert_eq!(
                bursts(18_000.0, seconds, phases, 1200),
                None,
                "0.9 of the threshold every {seconds} s: {phases:?}"
            );
            let last = phases.iter().max().expect("some") + 10 * seconds;
            let (tick, evidence) = bursts(60_000.0, seconds, phases, 1200).expect("3x is found");
            assert!(tick <= last, "3x every {seconds} s from {phases:?}: tick {tick}");
            assert!((25_000..=90_000).contains(&evidence.rate), "{evidence:?}");
        }
    }

    #[test]
    fn old_records_without_pauses_do_not_hide_an_attack() {
        // Half the threshold in records of long flows, every tick; then ten times the threshold in records of fresh ones.
        let mut level = Level::new(at(0));
        let old = Tally { units: 1_000, scale: 0.0, reach: Duration::from_secs(60) };
        (1..=300).for_each(|i| level.add(at(i - 1), at(i), old, THRESHOLD));
        let both = Tally { units: 21_000, scale: 0.0, reach: Duration::from_secs(3) };
        let alarm = (301..=400).find(|i| {
            level.add(at(i - 1), at(*i), both, THRESHOLD);
            level.is_over(THRESHOLD, TOLERANCE)
        });
        assert!(alarm.is_some_and(|i| i <= 302), "{alarm:?}");
    }

    #[test]
    fn late_records_after_a_restart_are_credited_for_the_time_they_tell_of() {
        // Every second a second's records, at three times the threshold; then filters change, and a last burst arrives at once.
        for (rate, is_over) in [(18_000, false), (26_000, false), (60_000, true)] {
            for pause in 1..10 {
                let mut level = Level::new(at(0));
                let add = |level: &mut Level, tick: u64, units: u64| {
                    let reach = if units > 0 { Duration::from_secs(1) } else { Duration::ZERO };
                    level.add(at(tick - 1), at(tick), Tally { units, scale: 0.0, reach }, THRESHOLD);
                };
                (1..=60).for_each(|i| add(&mut level, i, if i % 10 == 0 { 60_000 } else { 0 }));
                assert!(level.is_over(THRESHOLD, TOLERANCE));
                level.restart(at(60), THRESHOLD);
                (61..61 + pause).for_each(|i| add(&mut level, i, 0));
                add(&mut level, 61 + pause, rate);
                assert_eq!(level.is_over(THRESHOLD, TOLERANCE), is_over, "{rate} packets after {pause} ticks");
                let evidence = level.evidence(THRESHOLD);
                assert!(!is_over || evidence.rate > THRESHOLD, "{evidence:?}");
            }
        }
    }

    #[test]
    fn a_long_download_in_one_record_is_no_excess() {
        // 2 GB over ten minutes, told at once, against 1000 mbps; the reach is cut at a minute.
        let mut level = Level::new(at(0));
        let tally = Tally { units: 2_000_000_000, scale: 0.0, reach: Duration::from_secs(600) };
        level.add(at(0), at(1), tally, 125_000_000);
        assert!(!level.is_over(125_000_000, TOLERANCE));
    }
}
