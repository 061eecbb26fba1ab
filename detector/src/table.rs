//! `Table`: 128-bit keys to small numbers, shared by all workers without locks: open addressing in segments.
//!
//! The hash is seeded, so that nobody outside can choose keys that collide. A segment is allocated by its first key. Keys can be
//! taken out by one thread (the control thread) while others look up; a place that was taken out is used again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of one segment.
const SEGMENT: usize = 1024;

/// States of an entry; [`READY`] plus the number.
const EMPTY: u64 = 0;
const CLAIMED: u64 = 1;
const REMOVED: u64 = 2;
const READY: u64 = 3;

#[derive(Default)]
struct Entry {
    state: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

impl Entry {
    fn is(&self, high: u64, low: u64) -> bool {
        self.high.load(Ordering::Relaxed) == high && self.low.load(Ordering::Relaxed) == low
    }
}

/// Open addressing in segments that only grow: readers need no lock.
pub(crate) struct Table {
    segments: Box<[OnceLock<Box<[Entry]>>]>,
    seed: u64,
}

impl Table {
    /// For up to `capacity` keys; twice the entries, so that probing stays short when it is full.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        let segments = (capacity * 2).div_ceil(SEGMENT).next_power_of_two();
        Self { segments: (0..segments).map(|_| OnceLock::new()).collect(), seed }
    }

    /// The number of a key; asks `make` for one when it is new. `None` if `make` has none or the segment is full.
    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits, and numbers of 32 bits")]
    pub(crate) fn find_or(&self, key: u128, mut make: impl FnMut() -> Option<u32>) -> Option<u32> {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let hash = self.hash(high, low);
        let segment = self.segments[hash as usize & (self.segments.len() - 1)]
            .get_or_init(|| (0..SEGMENT).map(|_| Entry::default()).collect());
        let start = (hash >> 40) as usize;
        'search: loop {
            let mut free = None;
            for step in 0..SEGMENT {
                let entry = &segment[(start + step) & (SEGMENT - 1)];
                let mut state = entry.state.load(Ordering::Acquire);
                while state == CLAIMED {
                    std::hint::spin_loop();
                    state = entry.state.load(Ordering::Acquire);
                }
                match state {
                    EMPTY => {
                        free = free.or(Some((entry, EMPTY)));
                        break;
                    }
                    REMOVED => free = free.or(Some((entry, REMOVED))),
                    _ if entry.is(high, low) => return Some((state - READY) as u32),
                    _ => {}
                }
            }
            let (entry, state) = free?;
            if entry.state.compare_exchange(state, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // Another worker took the place, perhaps for this key.
                continue 'search;
            }
            let Some(number) = make() else {
                entry.state.store(state, Ordering::Release);
                return None;
            };
            entry.high.store(high, Ordering::Relaxed);
            entry.low.store(low, Ordering::Relaxed);
            entry.state.store(READY + u64::from(number), Ordering::Release);
            return Some(number);
        }
    }

    /// Takes a key out. One thread at a time.
    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits")]
    pub(crate) fn remove(&self, key: u128) {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let hash = self.hash(high, low);
        let Some(segment) = self.segments[hash as usize & (self.segments.len() - 1)].get() else { return };
        let start = (hash >> 40) as usize;
        for step in 0..SEGMENT {
            let entry = &segment[(start + step) & (SEGMENT - 1)];
            match entry.state.load(Ordering::Acquire) {
                EMPTY => return,
                READY.. if entry.is(high, low) => return entry.state.store(REMOVED, Ordering::Release),
                _ => {}
            }
        }
    }

    /// A keyed mix of the address; two rounds of multiply and fold.
    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits are meant")]
    fn hash(&self, high: u64, low: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a).wrapping_mul(u128::from(b));
            (wide >> 64) as u64 ^ wide as u64
        };
        let first =
            fold(high ^ self.seed ^ 0x9e37_79b9_7f4a_7c15, low ^ self.seed.rotate_left(32) ^ 0xd1b5_4a32_d192_ed03);
        fold(first ^ 0x8cb9_2ba7_2f3d_8dd7, self.seed ^ 0xa076_1d64_78bd_642f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_numbers_and_places_taken_out_are_used_again() {
        let table = Table::new(512, 7);
        let mut next = 0;
        let mut give = || {
            next += 1;
            Some(next)
        };
        for round in 0..20u128 {
            for key in 0..400 {
                assert!(table.find_or(round << 64 | key, &mut give).is_some(), "round {round} has room");
            }
            let first = table.find_or(round << 64, || None);
            assert!(first.is_some_and(|n| n as u128 == round * 400 + 1), "{first:?}");
            (0..400).for_each(|key| table.remove(round << 64 | key));
            assert_eq!(table.find_or(round << 64, || None), None);
        }
    }
}
