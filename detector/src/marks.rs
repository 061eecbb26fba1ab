//! `Marks`: which hosts were written in a round of the scan, so that it reads those and no others.
//!
//! A round is about a second. Each round marks hosts in one of two sets by turns: while the control thread reads the one of the
//! round before, the worker writes the other, which it clears at the first host of a new round. So the worker needs plain loads and
//! stores only. A batch that was under way when the round ended may mark in its set still: the control thread waits for a tick
//! before it reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sys::prefetch;

use crate::hosts::HostId;

/// Slabs of 256 hosts that are allocated together.
pub(crate) const SLABS: usize = 128;

/// What the control thread's clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// For rates and thresholds.
    pub(crate) tick: u32,
    /// Of the scan.
    pub(crate) round: u32,
    /// The first tick that is all of the round.
    pub(crate) first: u32,
}

impl Beat {
    /// Whether a tick belongs to this round (ticks wrap).
    #[inline]
    pub(crate) const fn has(self, tick: u32) -> bool {
        tick.wrapping_sub(self.first) < u32::MAX / 2
    }
}

/// One bit per host of a slab.
pub(crate) type Places = [u64; 4];

/// The hosts of a slab in one round.
#[derive(Debug)]
#[repr(align(64))]
struct Slab {
    places: [AtomicU64; 4],
    round: AtomicU32,
}

impl Slab {
    const fn new() -> Self {
        Self { places: [const { AtomicU64::new(0) }; 4], round: AtomicU32::new(0) }
    }
}

/// Which hosts had traffic since the last scan, one bit each. Of [`SLABS`] slabs; one writer.
#[derive(Debug)]
pub(crate) struct Marks([[Slab; SLABS]; 2]);

impl Marks {
    /// On the heap: it is too large to be moved about.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self([const { [const { Slab::new() }; SLABS] }; 2]))
    }

    #[inline]
    const fn slab(&self, slab: usize, round: u32) -> &Slab {
        &self.0[(round & 1) as usize][slab % SLABS]
    }

    /// Fetches what [`Marks::mark`] will write: the control thread read it since.
    #[inline]
    pub(crate) fn prefetch(&self, host: HostId, round: u32) {
        prefetch(self.slab(host.slab(), round));
    }

    /// A host is written for the first time in a round.
    #[inline]
    pub(crate) fn mark(&self, host: HostId, round: u32) {
        let slab = self.slab(host.slab(), round);
        if slab.round.load(Ordering::Relaxed) != round {
            slab.places.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            // Release: whoever sees the round sees the places cleared.
            slab.round.store(round, Ordering::Release);
        }
        let word = &slab.places[host.place() / 64];
        word.store(word.load(Ordering::Relaxed) | 1 << (host.place() % 64), Ordering::Relaxed);
    }

    /// The hosts of a slab that were written in a round, which must be the present or the last.
    pub(crate) fn of(&self, slab: usize, round: u32) -> Places {
        let slab = self.slab(slab, round);
        if slab.round.load(Ordering::Acquire) != round {
            return [0; 4];
        }
        std::array::from_fn(|i| slab.places[i].load(Ordering::Relaxed))
    }
}

/// What is in either.
pub(crate) fn or(a: Places, b: Places) -> Places {
    std::array::from_fn(|i| a[i] | b[i])
}

/// The host at a place of a slab.
#[allow(clippy::cast_possible_truncation, reason = "slab numbers are below 2^24")]
pub(crate) const fn host_at(slab: usize, place: u32) -> HostId {
    HostId::new(slab as u32, place)
}

/// How many hosts.
pub(crate) fn count(places: Places) -> u64 {
    places.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn places(marks: Places) -> impl Iterator<Item = u32> {
    (0u32..).zip(marks).flat_map(|(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros();
            word &= word.wrapping_sub(1);
            (bit < 64).then_some(index * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_the_hosts_of_its_own_and_stays_readable_for_one_more() {
        let marks = Marks::new();
        let of = |slab, round| places(marks.of(slab, round)).collect::<Vec<_>>();
        [255, 0, 64, 0].into_iter().for_each(|place| marks.mark(HostId::new(130, place), 5));
        assert_eq!(of(130, 5), [0, 64, 255]);
        assert!(of(131, 5).is_empty() && of(130, 6).is_empty());
        marks.mark(HostId::new(130, 9), 6);
        assert_eq!((of(130, 5), of(130, 6)), (vec![0, 64, 255], vec![9]));
        marks.mark(HostId::new(130, 3), 7);
        assert_eq!((of(130, 5), of(130, 7)), (vec![], vec![3]), "the round after the next takes the place");
    }

    #[test]
    fn a_round_has_the_ticks_from_its_first_on_even_when_they_wrap() {
        let beat = Beat { tick: 3, round: 1, first: u32::MAX - 1 };
        assert!([u32::MAX - 1, u32::MAX, 0, 3].into_iter().all(|tick| beat.has(tick)));
        assert!(!beat.has(u32::MAX - 2));
    }
}
