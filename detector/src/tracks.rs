//! `Tracks`: the hosts that the control thread looks at: those that passed their trip count lately.

use traffic::Time;

use crate::checks::{Checks, Levels};
use crate::counters::{Counts, Layout};
use crate::hosts::HostId;

/// Hosts that are looked at at once, at most; further ones are counted in a metric.
pub const MAX_TRACKS: usize = 1 << 17;

/// A host that is, or lately was, worth looking at.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) host: HostId,
    /// Index of its host group.
    pub(crate) group: usize,
    /// The tick at whose end `reading` was taken.
    pub(crate) tick: u32,
    pub(crate) reading: Counts,
    pub(crate) levels: Levels,
    /// When it last had traffic over its trip count.
    pub(crate) last_hot: Time,
    /// When it was last suspect or under attack, if ever.
    pub(crate) last_suspect: Option<Time>,
}

/// Tracks by host, in constant time and without order of their own.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    /// By slab and place: index plus one, or 0.
    index: Vec<Option<Box<[u32; 256]>>>,
    tracks: Vec<Option<Track>>,
    free: Vec<u32>,
    /// Hosts that have to be looked at in each tick, sorted.
    pub(crate) active: Vec<HostId>,
    /// Hosts that were refused.
    pub(crate) refused: u64,
}

impl Tracks {
    fn slot(&self, host: HostId) -> Option<usize> {
        let index = self.index.get(host.slab())?.as_ref()?[host.place()];
        (index as usize).checked_sub(1)
    }

    pub(crate) fn get(&self, host: HostId) -> Option<&Track> {
        self.tracks[self.slot(host)?].as_ref()
    }

    pub(crate) fn get_mut(&mut self, host: HostId) -> Option<&mut Track> {
        let slot = self.slot(host)?;
        self.tracks[slot].as_mut()
    }

    /// The track of a host, new if need be; `None` when there are too many.
    pub(crate) fn of(
        &mut self,
        host: HostId,
        layout: Layout,
        now: Time,
        group: impl FnOnce() -> usize,
        checks: &[Checks],
    ) -> Option<&mut Track> {
        let slot = match self.slot(host) {
            Some(slot) => slot,
            None => self.insert(host, layout, now, group(), checks)?,
        };
        self.tracks[slot].as_mut()
    }

    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_TRACKS")]
    fn insert(&mut self, host: HostId, layout: Layout, now: Time, group: usize, checks: &[Checks]) -> Option<usize> {
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None if self.tracks.len() < MAX_TRACKS => {
                self.tracks.push(None);
                self.tracks.len() - 1
            }
            None => {
                self.refused += 1;
                return None;
            }
        };
        if self.index.len() <= host.slab() {
            self.index.resize_with(host.slab() + 1, || None);
        }
        self.index[host.slab()].get_or_insert_with(|| Box::new([0; 256]))[host.place()] = slot as u32 + 1;
        self.tracks[slot] = Some(Track {
            host,
            group,
            tick: 0,
            reading: Counts::zero(layout),
            levels: Levels::new(&checks[group], now),
            last_hot: now,
            last_suspect: None,
        });
        Some(slot)
    }

    /// Forgets hosts for which `keep` is false.
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_TRACKS")]
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Track) -> bool) {
        for slot in 0..self.tracks.len() {
            let Some(host) = self.tracks[slot].as_ref().filter(|t| !keep(t)).map(|t| t.host) else { continue };
            self.tracks[slot] = None;
            self.free.push(slot as u32);
            if let Some(Some(places)) = self.index.get_mut(host.slab()) {
                places[host.place()] = 0;
            }
        }
    }
}
