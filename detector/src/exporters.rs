//! `Exporters`: who tells of traffic: when last, and with which sampling rates, and which of these are in doubt (decision 29).
//!
//! A rate that jumps makes every count jump with it. What is doubted is a rate of one exporter, not the exporter, let alone others:
//! for a minute after the last contradiction an alarm is judged by the lowest rate that the exporter has used in the last hour
//! ([`Exporters::is_doubted`]). Interfaces are told apart; where samples of both rates come in turn, there are two samplers, which
//! is no contradiction.

use std::collections::BTreeMap;
use std::time::Duration;

use traffic::{Sample, Time};

use crate::attack::{Attack, Event};

/// Exporters that are watched at most, as many as a decoder tells apart, times workers.
const MAX_EXPORTERS: usize = 1 << 16;
/// Interfaces of exporters whose rates are watched at most; what further ones announce is believed.
const MAX_INTERFACES: usize = 1 << 16;
/// Rates of an interface that are remembered at most; of more, the one that was used last is given up.
const MAX_RATES: usize = 8;
/// Rates that are in doubt at most, over all exporters.
const MAX_DOUBTS: usize = 1 << 12;
/// A sampling rate that grows by this factor makes every count of the exporter grow with it.
const JUMP: u32 = 4;
/// A rate has to have held for this many samples and this long before a change of it says anything.
const STEADY_SAMPLES: u32 = 50;
const STEADY: Duration = Duration::from_secs(10);
/// A rate that was not used for this long is no measure any more.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// A doubt ends this long after the last contradiction.
const DOUBTED: Duration = Duration::from_secs(60);
/// Two rates that change places this often within [`INTERLEAVED`] are those of two samplers.
const TURNS: u32 = 8;
const INTERLEAVED: Duration = Duration::from_secs(30);

/// A sampling rate of an exporter (by its number in samples), N of 1:N.
pub(crate) type Rate = (u16, u32);

/// A rate that was used on an interface.
#[derive(Debug, Clone, Copy)]
struct Used {
    rate: u32,
    first: Time,
    last: Time,
    samples: u32,
}

impl Used {
    fn is_steady(&self, now: Time) -> bool {
        self.samples >= STEADY_SAMPLES && now.since(self.first) >= STEADY
    }
}

/// The rates of one interface, the present one first.
#[derive(Debug, Default)]
struct Interface {
    rates: Vec<Used>,
    /// How often the rate changed since then, and whether it did so often enough in the time before.
    turns: u32,
    turning_since: Time,
    was_interleaved: bool,
}

impl Interface {
    /// A sample of a rate; the steady rate that it contradicts, and the lowest of the last hour.
    fn saw(&mut self, rate: u32, now: Time) -> Option<(u32, u32)> {
        if let Some(present) = self.rates.first_mut().filter(|used| used.rate == rate) {
            (present.last, present.samples) = (now, present.samples.saturating_add(1));
            return None;
        }
        let turning = now.since(self.turning_since);
        if turning > INTERLEAVED {
            self.was_interleaved = self.turns >= TURNS && turning <= 2 * INTERLEAVED;
            (self.turning_since, self.turns) = (now, 0);
        }
        self.turns = self.turns.saturating_add(1);
        self.rates.retain(|used| now.since(used.last) < REMEMBERED);
        let steady = self.rates.iter().filter(|used| used.is_steady(now)).map(|used| used.rate).min();
        let known = self.rates.iter().position(|used| used.rate == rate);
        let mut used = known.map_or(Used { rate, first: now, last: now, samples: 0 }, |at| self.rates.remove(at));
        (used.last, used.samples) = (now, used.samples.saturating_add(1));
        self.rates.truncate(MAX_RATES - 1);
        self.rates.insert(0, used);
        let lowest = self.rates.iter().map(|used| used.rate).min().unwrap_or(rate);
        steady.filter(|steady| rate >= steady.saturating_mul(JUMP)).map(|steady| (steady, lowest))
    }

    fn is_interleaved(&self) -> bool {
        self.was_interleaved || self.turns >= TURNS
    }
}

/// What a doubted rate is to be taken for, and until when.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    lowest: u32,
    until: Time,
}

/// When each exporter was heard last and at which sampling rates.
#[derive(Debug, Default)]
pub(crate) struct Exporters {
    /// When each was heard last; workers count theirs apart.
    last: BTreeMap<u32, Time>,
    interfaces: BTreeMap<(u16, u16), Interface>,
    doubts: BTreeMap<Rate, Doubt>,
    /// Doubts that others have, and keep up to date: counters of exporters contradict what they announce.
    measured: BTreeMap<Rate, u32>,
}

impl Exporters {
    /// Workers count their exporters apart.
    #[allow(clippy::cast_possible_truncation, reason = "workers are few")]
    pub(crate) fn number(worker: usize, sample: &Sample) -> u32 {
        (worker as u32) << 16 | u32::from(sample.exporter)
    }

    /// An exporter said something. Tells when its sampling rate has jumped.
    pub(crate) fn saw(&mut self, worker: usize, sample: &Sample, now: Time) -> Option<Event> {
        let number = Self::number(worker, sample);
        if self.last.len() < MAX_EXPORTERS || self.last.contains_key(&number) {
            self.last.insert(number, now);
        }
        let key = (sample.exporter, sample.input_interface);
        if self.interfaces.len() >= MAX_INTERFACES && !self.interfaces.contains_key(&key) {
            return None;
        }
        let rate = sample.sampling_rate.max(1);
        let interface = self.interfaces.entry(key).or_default();
        let (before, lowest) = interface.saw(rate, now)?;
        if interface.is_interleaved() {
            self.doubts.remove(&(sample.exporter, rate));
            return None;
        }
        let is_new = self.doubts.get(&(sample.exporter, rate)).is_none_or(|doubt| doubt.until <= now);
        if is_new && self.doubts.len() >= MAX_DOUBTS {
            self.doubts.retain(|_, doubt| doubt.until > now);
            if self.doubts.len() >= MAX_DOUBTS {
                return None;
            }
        }
        self.doubts.insert((sample.exporter, rate), Doubt { lowest, until: now.after(DOUBTED) });
        is_new.then_some(Event::SuspectExporter { exporter: sample.exporter.into(), before, now: rate })
    }

    /// The rates that exporters' own counters contradict at present, and what they show instead.
    pub(crate) fn set_measured(&mut self, measured: BTreeMap<Rate, u32>) {
        self.measured = measured;
    }

    /// Whether any rate is in doubt.
    pub(crate) fn have_doubts(&self, now: Time) -> bool {
        !self.measured.is_empty() || self.doubts.values().any(|doubt| doubt.until > now)
    }

    /// The lowest rate that is consistent with what the exporter said.
    fn lowest(&self, rate: Rate, now: Time) -> u32 {
        let jumped = self.doubts.get(&rate).filter(|doubt| doubt.until > now).map(|doubt| doubt.lowest);
        let measured = self.measured.get(&rate).copied();
        jumped.into_iter().chain(measured).fold(rate.1, u32::min)
    }

    /// Whether an attack is over its threshold only if rates in doubt are right. Without a sample of it nothing is known.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn is_doubted(&self, attack: &Attack, now: Time) -> bool {
        let (mut all, mut certain) = (0.0, 0.0);
        for ((exporter, rate), packets) in attack.tops.rates() {
            let lowest = self.lowest((exporter, rate), now);
            all += packets as f64;
            certain += packets as f64 * f64::from(lowest) / f64::from(rate.max(1));
        }
        let crossing = &attack.crossing;
        certain < all && crossing.evidence.rate as f64 * certain / all <= crossing.threshold as f64
    }

    /// Whether all of these have said nothing for a while.
    pub(crate) fn are_silent(&self, mut numbers: impl Iterator<Item = u32>, now: Time, span: Duration) -> bool {
        let mut any = false;
        let silent = numbers.all(|n| {
            any = true;
            self.last.get(&n).is_some_and(|last| now.since(*last) > span)
        });
        any && silent
    }
}

#[cfg(test)]
mod tests {
    use traffic::{IpVersion, Origin};

    use super::*;

    fn sample(exporter: u16, interface: u16, rate: u32) -> Sample {
        let mut sample = Sample::empty(Time(0), IpVersion::V4, Origin::FlowRecord);
        (sample.exporter, sample.input_interface, sample.sampling_rate) = (exporter, interface, rate);
        sample
    }

    /// Tells `exporters` of ten samples a second, of these in turn; how many jumps were seen.
    fn tell(exporters: &mut Exporters, seconds: std::ops::Range<u64>, of: &[Sample]) -> usize {
        let samples = (seconds.start * 10..seconds.end * 10).zip(of.iter().cycle());
        samples.filter(|(tenth, s)| exporters.saw(0, s, Time(tenth * 100_000_000)).is_some()).count()
    }

    #[test]
    fn a_jump_puts_that_rate_of_that_exporter_in_doubt_for_a_minute() {
        let mut exporters = Exporters::default();
        let at = |second| Time::from_seconds(second, 0);
        assert_eq!(tell(&mut exporters, 0..30, &[sample(1, 5, 100), sample(2, 5, 10_000)]), 0);
        assert_eq!(tell(&mut exporters, 30..40, &[sample(1, 5, 10_000)]), 1);
        assert!(exporters.have_doubts(at(40)));
        assert_eq!(exporters.lowest((1, 10_000), at(40)), 100);
        assert_eq!(exporters.lowest((2, 10_000), at(40)), 10_000, "another exporter");
        assert_eq!(exporters.lowest((1, 1_000), at(40)), 1_000, "another rate");
        assert_eq!(exporters.lowest((1, 10_000), at(91)), 10_000, "it has been used for a minute");
        assert!(!exporters.have_doubts(at(91)));
        // It goes back and jumps again: the lowest of the last hour counts, and a new minute.
        tell(&mut exporters, 100..120, &[sample(1, 5, 200)]);
        assert_eq!(tell(&mut exporters, 120..121, &[sample(1, 5, 10_000)]), 1);
        assert_eq!(exporters.lowest((1, 10_000), at(150)), 100);
    }

    #[test]
    fn rates_that_differ_by_interface_or_sampler_are_no_contradiction() {
        let mut exporters = Exporters::default();
        tell(&mut exporters, 0..30, &[sample(1, 1, 100), sample(1, 2, 1_000)]);
        assert_eq!(tell(&mut exporters, 30..60, &[sample(1, 3, 50_000), sample(1, 1, 100)]), 0);
        // Two samplers on one interface: believed once they have taken turns.
        tell(&mut exporters, 60..62, &[sample(1, 1, 100), sample(1, 1, 10_000)]);
        assert!(!exporters.have_doubts(Time::from_seconds(62, 0)));
        assert_eq!(tell(&mut exporters, 62..200, &[sample(1, 1, 100), sample(1, 1, 10_000)]), 0);
        // One announcement that goes to and fro is not.
        let mut exporters = Exporters::default();
        for round in 0..10 {
            tell(&mut exporters, round * 40..round * 40 + 30, &[sample(1, 1, 100)]);
            tell(&mut exporters, round * 40 + 30..round * 40 + 40, &[sample(1, 1, 10_000)]);
            assert_eq!(exporters.lowest((1, 10_000), Time::from_seconds(round * 40 + 40, 0)), 100);
        }
    }

    #[test]
    fn what_is_watched_is_bounded_whatever_exporters_say() {
        let mut exporters = Exporters::default();
        for i in 0..200_000u64 {
            let number = |shift: u64| u16::try_from(i >> shift & 0xffff).unwrap_or(0);
            let rate = u32::try_from(i).unwrap_or(1).wrapping_mul(2_654_435_761);
            exporters.saw(0, &sample(number(0), number(3), rate), Time(i * 1_000_000_000));
        }
        assert!(exporters.last.len() <= MAX_EXPORTERS && exporters.interfaces.len() <= MAX_INTERFACES);
        assert!(exporters.doubts.len() <= MAX_DOUBTS);
        assert!(exporters.interfaces.values().all(|interface| interface.rates.len() <= MAX_RATES));
    }
}
