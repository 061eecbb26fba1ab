//! `Spills`: detail of the hosts that need it, in one shard: packets and bytes by class, and what evidence rests on.
//!
//! A host gets a slot when it is loud: above half of what would put it on the hot list. It keeps it until it has not been
//! loud for a while; the slot then waits for two ticks, so that a reader in the middle of it still reads what it came for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sys::{HugeSlice, prefetch};

use crate::counters::Layout;
use crate::hosts::HostId;

/// Hosts with detail in one shard at most; further ones have totals only, and are counted in a metric. Hosts that have
/// been quiet for a while make room.
pub(crate) const MAX_SPILLS: usize = (1 << 16) - 1;
/// Ticks without loudness after which a host's detail is given back with its next sample (at 50 ms a second).
const QUIET: u32 = 20;
/// Ticks after which the detail of a host that is not heard of any more may be given to another (at 50 ms about a minute).
const SILENT: u32 = 1200;
/// Details that are looked at for a silent one, each time one is needed and all are given out.
const SEARCH: usize = 8;
/// Slots that are allocated together: some 2 MiB, to lie on huge pages.
const CHUNK: usize = 1 << 12;
/// Words of a slot before its columns: whose it is, and the tick in which it was loud last.
const HEADER: usize = 2;
/// The owner of a slot that nobody has.
const NOBODY: u64 = u64::MAX;

/// Further columns of the hosts that are loud enough to need them. One writer.
pub(crate) struct Spills {
    layout: Layout,
    /// Words per slot: header, columns, columns when the tick in which it was loud last had reached that point.
    stride: usize,
    chunks: Box<[OnceLock<HugeSlice<AtomicU64>>]>,
    used: AtomicU32,
    hand: AtomicU32,
    /// Slots given back, oldest first.
    free: Box<[AtomicU32]>,
    head: AtomicU32,
    tail: AtomicU32,
}

/// A slot.
#[derive(Clone, Copy)]
pub(crate) struct Spill<'a> {
    words: &'a [AtomicU64],
    columns: usize,
}

impl<'a> Spill<'a> {
    pub(crate) fn columns(self) -> &'a [AtomicU64] {
        &self.words[HEADER..HEADER + self.columns]
    }

    /// The columns when the host became loud in tick [`Spill::loud`].
    pub(crate) fn begin(self) -> &'a [AtomicU64] {
        &self.words[HEADER + self.columns..HEADER + 2 * self.columns]
    }

    /// The tick in which the host was loud last.
    #[allow(clippy::cast_possible_truncation, reason = "a tick")]
    pub(crate) fn loud(self) -> u32 {
        self.words[1].load(Ordering::Acquire) as u32
    }

    /// Remembers the columns at the moment the host becomes loud in a tick.
    pub(crate) fn mark(self, tick: u32) {
        if self.loud() == tick {
            return;
        }
        for (begin, column) in self.begin().iter().zip(self.columns()) {
            begin.store(column.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.words[1].store(tick.into(), Ordering::Release);
    }

    /// Whether the host has not been loud for a while.
    pub(crate) fn is_quiet(self, tick: u32) -> bool {
        tick.wrapping_sub(self.loud()) > QUIET
    }

    /// For another host.
    fn give(self, host: HostId, tick: u32) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.words[0].store(host.0.into(), Ordering::Relaxed);
        self.words[1].store(tick.into(), Ordering::Release);
    }
}

impl Spills {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            stride: (HEADER + 2 * layout.len()).next_multiple_of(8),
            chunks: (0..MAX_SPILLS.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            used: AtomicU32::new(0),
            hand: AtomicU32::new(0),
            free: (0..=MAX_SPILLS).map(|_| AtomicU32::new(0)).collect(),
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
        }
    }

    fn slot(&self, index: usize) -> Spill<'_> {
        let chunk = self.chunks[index / CHUNK].get_or_init(|| HugeSlice::new(CHUNK * self.stride));
        let start = index % CHUNK * self.stride;
        Spill { words: &chunk[start..start + self.stride], columns: self.layout.len() }
    }

    /// The slot of that number, from 1; `None` for 0.
    #[inline]
    pub(crate) fn get(&self, slot: u16) -> Option<Spill<'_>> {
        usize::from(slot).checked_sub(1).map(|index| self.slot(index))
    }

    /// Fetches a slot ahead of its counting.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u16) {
        if let Some(spill) = self.get(slot) {
            // Header and classes, then what evidence rests on.
            spill.words.iter().step_by(8).take(5).for_each(prefetch);
        }
    }

    /// A slot for a host: one that was given back, a fresh one, or that of a host that has long been silent; `None` if there is
    /// none. `lost` hears whose it was.
    #[allow(clippy::cast_possible_truncation, reason = "slots are at most 2^16 - 1")]
    pub(crate) fn take(&self, host: HostId, tick: u32, lost: impl FnOnce(HostId)) -> Option<u16> {
        let index = self.recycled(tick).or_else(|| self.fresh()).or_else(|| self.silent(tick, lost))?;
        self.slot(index).give(host, tick);
        Some(index as u16 + 1)
    }

    fn recycled(&self, tick: u32) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        if head == self.tail.load(Ordering::Relaxed) {
            return None;
        }
        let index = self.free[head as usize % self.free.len()].load(Ordering::Relaxed) as usize;
        if tick.wrapping_sub(self.slot(index).loud()) < 2 {
            return None;
        }
        self.head.store(head.wrapping_add(1), Ordering::Relaxed);
        Some(index)
    }

    fn fresh(&self) -> Option<usize> {
        let used = self.used.load(Ordering::Relaxed);
        if used as usize >= MAX_SPILLS {
            return None;
        }
        self.used.store(used + 1, Ordering::Relaxed);
        Some(used as usize)
    }

    #[allow(clippy::cast_possible_truncation, reason = "slots are at most 2^16 - 1, hosts 2^32 - 1")]
    fn silent(&self, tick: u32, lost: impl FnOnce(HostId)) -> Option<usize> {
        let hand = self.hand.load(Ordering::Relaxed) as usize;
        self.hand.store(((hand + SEARCH) % MAX_SPILLS) as u32, Ordering::Relaxed);
        let owner = |index: &usize| self.slot(*index).words[0].load(Ordering::Relaxed);
        let mut places = (hand..hand + SEARCH).map(|i| i % MAX_SPILLS);
        let index = places.find(|i| owner(i) != NOBODY && tick.wrapping_sub(self.slot(*i).loud()) > SILENT)?;
        lost(HostId(owner(&index) as u32));
        Some(index)
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: u16, tick: u32) {
        let Some(spill) = self.get(slot) else { return };
        spill.words[0].store(NOBODY, Ordering::Relaxed);
        spill.words[1].store(tick.into(), Ordering::Release);
        let tail = self.tail.load(Ordering::Relaxed);
        self.free[tail as usize % self.free.len()].store(u32::from(slot) - 1, Ordering::Relaxed);
        self.tail.store(tail.wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: HostId) {
        panic!("nobody loses a slot");
    }

    #[test]
    fn a_slot_that_was_given_back_rests_for_two_ticks_and_begins_anew() {
        let spills = Spills::new(Layout::new(0));
        let first = spills.take(HostId(1), 100, nobody).expect("room");
        let spill = spills.get(first).expect("taken");
        spill.columns()[7].store(5, Ordering::Relaxed);
        assert!(!spill.is_quiet(100 + QUIET) && spill.is_quiet(101 + QUIET));
        spills.release(first, 130);
        let second = spills.take(HostId(2), 131, nobody).expect("room");
        assert_ne!(first, second);
        assert_eq!(spill.columns()[7].load(Ordering::Relaxed), 5, "a reader still finds what it came for");
        assert_eq!(spills.take(HostId(3), 132, nobody), Some(first));
        assert_eq!(spill.columns()[7].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_a_loud_host_had_when_it_became_loud_is_remembered_once_a_tick() {
        let spills = Spills::new(Layout::new(2));
        let spill = spills.take(HostId(1), 9, nobody).and_then(|slot| spills.get(slot)).expect("room");
        for (tick, count, begin) in [(9, 3, 0), (10, 4, 4), (10, 6, 4), (11, 8, 8)] {
            spill.columns()[5].store(count, Ordering::Relaxed);
            spill.mark(tick);
            assert_eq!((spill.loud(), spill.begin()[5].load(Ordering::Relaxed)), (tick, begin));
        }
    }

    #[test]
    fn when_all_slots_are_given_out_only_the_silent_lose_theirs() {
        let spills = Spills::new(Layout::new(0));
        let all = u32::try_from(MAX_SPILLS).expect("small");
        (0..all).for_each(|host| assert!(spills.take(HostId(host), 5, nobody).is_some()));
        assert_eq!(spills.take(HostId(all), 5 + SILENT, nobody), None);
        let mut lost = Vec::new();
        assert!(spills.take(HostId(all), 6 + SILENT, |host| lost.push(host)).is_some());
        assert_eq!(lost.len(), 1);
    }
}
