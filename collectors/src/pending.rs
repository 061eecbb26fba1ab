//! [`Pending`]: data sets that wait for their template.
//!
//! After a restart, or when an exporter sends data first, sets cannot be read until the template comes, which exporters send
//! again every few seconds to minutes. What waited is then decoded and played back at the pace at which it arrived: all at once
//! it would look like a burst, and alarm.

use std::collections::VecDeque;
use std::time::Duration;

use traffic::{Sample, Time};

use crate::domain::DomainKey;

/// Octets that wait at most, in all.
const MAX_OCTETS: usize = 4 << 20;
/// Octets of one domain that wait at most, so that one exporter does not take all the room.
const MAX_OCTETS_PER_DOMAIN: usize = 256 << 10;
/// Longest wait; what is older is dropped.
const LONGEST: Duration = Duration::from_secs(30);

/// A data set that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    domain: DomainKey,
    set: u16,
    pub(crate) arrived: Time,
    /// The set behind its header, with the header before it.
    pub(crate) data: Box<[u8]>,
}

/// Data sets in order of their arrival; see the constants for limits.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    sets: VecDeque<Waiting>,
    octets: usize,
}

impl Pending {
    /// Keeps a set, if there is room.
    pub(crate) fn keep(&mut self, now: Time, domain: DomainKey, set: u16, data: &[u8]) {
        while self.sets.front().is_some_and(|s| now.since(s.arrived) > LONGEST || self.octets + data.len() > MAX_OCTETS)
        {
            self.octets -= self.sets.pop_front().map_or(0, |s| s.data.len());
        }
        let of_domain: usize = self.sets.iter().filter(|s| s.domain == domain).map(|s| s.data.len()).sum();
        if of_domain + data.len() <= MAX_OCTETS_PER_DOMAIN {
            self.octets += data.len();
            self.sets.push_back(Waiting { domain, set, arrived: now, data: data.into() });
        }
    }

    /// Takes the sets that waited for a template.
    pub(crate) fn take(&mut self, now: Time, domain: DomainKey, set: u16) -> Vec<Waiting> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for waiting in self.sets.drain(..) {
            if now.since(waiting.arrived) > LONGEST {
                continue;
            }
            if waiting.domain == domain && waiting.set == set { taken.push(waiting) } else { left.push_back(waiting) }
        }
        self.octets = left.iter().map(|s| s.data.len()).sum();
        self.sets = left;
        taken
    }
}

/// Samples of sets that waited, to be counted when their time comes. Bounded by what could wait.
#[derive(Debug, Default)]
pub(crate) struct Playback(VecDeque<(Time, Vec<Sample>)>);

impl Playback {
    /// Takes samples that are due later.
    pub(crate) fn push(&mut self, due: Time, samples: Vec<Sample>) {
        let place = self.0.partition_point(|(other, _)| *other <= due);
        self.0.insert(place, (due, samples));
    }

    /// When the next samples are due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.0.front().map(|(due, _)| *due)
    }

    /// Appends what is due.
    #[inline]
    pub(crate) fn release(&mut self, now: Time, out: &mut Vec<Sample>) {
        while self.0.front().is_some_and(|(due, _)| *due <= now) {
            let Some((due, samples)) = self.0.pop_front() else { return };
            out.extend(samples.into_iter().map(|sample| Sample { time: due, ..sample }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn key(domain: u32) -> DomainKey {
        DomainKey { exporter: IpAddr::V4(Ipv4Addr::LOCALHOST), version: 9, domain }
    }

    #[test]
    fn room_is_bounded_in_all_and_per_domain_and_time() {
        let mut pending = Pending::default();
        let now = |s: u64| Time::from_seconds(100 + s, 0);
        for i in 0..10_000 {
            pending.keep(now(0), key(i % 100), 256, &[0; 1400]);
        }
        assert!(pending.octets <= MAX_OCTETS && pending.octets > MAX_OCTETS - 2 * 1400);
        let mut alone = Pending::default();
        (0..1000).for_each(|_| alone.keep(now(0), key(1), 256, &[0; 1400]));
        assert!(alone.octets <= MAX_OCTETS_PER_DOMAIN);
        assert!(alone.take(now(1), key(2), 256).is_empty() && alone.take(now(1), key(1), 257).is_empty());
        assert_eq!(alone.take(now(1), key(1), 256).len(), MAX_OCTETS_PER_DOMAIN / 1400);
        assert_eq!((alone.octets, alone.sets.len()), (0, 0));
        alone.keep(now(2), key(1), 256, &[0; 8]);
        assert!(alone.take(now(40), key(1), 256).is_empty(), "too old");
    }
}
