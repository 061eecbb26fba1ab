//! [`Pools`]: what the numbers that sFlow agents send say of the sampling rate that they announce.

use std::collections::BTreeMap;

/// A sampling rate that an exporter announces and the one that its counters show, each N of 1:N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// As announced.
    pub announced: u32,
    /// As measured: less than half or more than twice as much.
    pub measured: u32,
}

/// Sources and interfaces of one exporter that are watched at most, each.
const MAX_SOURCES: usize = 256;
/// Samples of a source after which its rate is measured: then the quotient is certain to a few percent.
const MEASURE_AFTER: u32 = 256;
/// Samples after which a rate of less than a quarter of the announced one is certain: by chance once in 10^10.
const NOTICE_AFTER: u32 = 32;
/// Samples of an interface between two readings of its counters from which on they are compared.
const COMPARE_AFTER: u32 = 100;

/// What an agent's own numbers say of its sampling rate. Every sample carries the number of packets that could have been sampled
/// so far (the pool), and counter samples carry what interfaces received.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    sources: BTreeMap<u32, Source>,
    interfaces: BTreeMap<u32, Received>,
}

/// A source since it announced its present rate.
#[derive(Debug, Clone, Copy)]
struct Source {
    rate: u32,
    /// Number and pool of two earlier samples, [`MEASURE_AFTER`] samples apart: there always is one to measure from.
    marks: [(u32, u32); 2],
}

/// An interface between two readings of its counters.
#[derive(Debug, Default)]
struct Received {
    packets: Option<u32>,
    samples: u32,
    rate: u32,
}

/// The measured rate beside the announced one, if they are not within a factor of two of each other.
fn contradiction(measured: u64, announced: u32) -> Option<Contradiction> {
    let measured = u32::try_from(measured.max(1)).unwrap_or(u32::MAX);
    let agrees = measured <= announced.saturating_mul(2) && announced <= measured.saturating_mul(2);
    (!agrees).then_some(Contradiction { announced, measured })
}

impl Pools {
    /// Takes a flow sample. Sources are told apart, and what one announced before it changed its rate does not count.
    pub(crate) fn sample(
        &mut self,
        source: u32,
        number: u32,
        pool: u32,
        input: u32,
        rate: u32,
    ) -> Option<Contradiction> {
        // Taken where it came in, at an interface (source class 0): the interface's counters tell of the same packets.
        if source == input && (self.interfaces.len() < MAX_SOURCES || self.interfaces.contains_key(&input)) {
            let received = self.interfaces.entry(input).or_default();
            if received.rate != rate {
                *received = Received { rate, ..Received::default() };
            }
            received.samples += 1;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return None;
        }
        let fresh = Source { rate, marks: [(number, pool); 2] };
        let known = self.sources.entry(source).or_insert(fresh);
        let [(first, first_pool), (second, _)] = known.marks;
        let (samples, packets) = (number.wrapping_sub(first), pool.wrapping_sub(first_pool));
        // Numbers that began anew, and agents that do not keep a pool, say nothing.
        if known.rate != rate || samples > MEASURE_AFTER * 16 || packets > u32::MAX / 2 {
            *known = fresh;
            return None;
        }
        if number.wrapping_sub(second) >= MEASURE_AFTER {
            known.marks = [known.marks[1], (number, pool)];
        }
        if samples < NOTICE_AFTER || packets == 0 {
            return None;
        }
        let measured = packets / samples;
        contradiction(measured.into(), rate).filter(|_| samples >= MEASURE_AFTER || measured < rate / 4)
    }

    /// Takes a reading of an interface's counters: packets received so far, modulo 2^32.
    pub(crate) fn counters(&mut self, interface: u32, packets: u32) -> Option<Contradiction> {
        let received = self.interfaces.get_mut(&interface)?;
        let before = received.packets.replace(packets);
        let samples = std::mem::take(&mut received.samples);
        let packets = packets.wrapping_sub(before?);
        if samples < COMPARE_AFTER || packets > u32::MAX / 2 {
            return None;
        }
        contradiction(u64::from(packets / samples), received.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_and_counters_that_contradict_the_announced_rate_are_noticed() {
        let mut honest = Pools::default();
        let mut wrong = Pools::default();
        for n in 0..1000 {
            assert_eq!(honest.sample(3, n, n * 1000, 3, 1000), None);
            let found = wrong.sample(3, n, n * 4096, 3, 1000);
            assert_eq!(
                found,
                (n >= 256).then_some(Contradiction { announced: 1000, measured: 4096 }),
                "at every sample"
            );
        }
        // Mended: what was announced before does not count.
        assert!((1000..2000).all(|n| wrong.sample(3, n, n * 4096, 3, 4096).is_none()));
        // Sources that sample at different rates do not contradict each other.
        let mut several = Pools::default();
        for n in 0..1000 {
            assert_eq!(several.sample(3, n, n * 1000, 3, 1000), None);
            assert_eq!(several.sample(4, n, n * 50, 4, 50), None);
            assert_eq!(several.sample(5, n, n * 50, 5, 5000).is_some(), n >= 32);
        }
        // Restarted, and without a pool: nothing is said.
        let mut silent = Pools::default();
        assert!((0..1000).all(|n| silent.sample(7, n, 0, 9, 1000).is_none()));
        let mut counters = Pools::default();
        assert_eq!(counters.counters(3, 0), None, "no sample yet");
        counters.sample(3, 0, 0, 3, 1000);
        assert_eq!(counters.counters(3, 5_000), None, "the first reading");
        (1..=200).for_each(|n| assert_eq!(counters.sample(3, n, n * 1000, 3, 1000), None));
        assert_eq!(counters.counters(3, 205_000), None, "they agree");
        (201..=255).for_each(|n| assert_eq!(counters.sample(3, n, n * 1000, 3, 1000), None));
        assert_eq!(counters.counters(3, 900_000), None, "too few samples to tell");
        (0..100).for_each(|_| {
            counters.sample(3, 10, 10_000, 3, 1000);
        });
        let found = Contradiction { announced: 1000, measured: 4096 };
        assert_eq!(counters.counters(3, 900_000 + 100 * 4096), Some(found));
    }
}
