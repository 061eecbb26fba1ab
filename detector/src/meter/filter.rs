//! [`Filter`]: traffic that is filtered elsewhere, and the filters that a worker has in force.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use flowspec::{Match, Pattern};
use traffic::{Direction, Sample, Target};

use crate::counters::{Counts, Shard, bump};
use crate::hosts::HostId;
use crate::routers::{Routers, SharedRouters};

/// Packets and bytes per worker, each with one writer.
type Hits = Box<[(AtomicU64, AtomicU64)]>;

/// Traffic of a target that is filtered elsewhere: excluded from the target's counters, counted here.
///
/// A filter may be withheld: nobody has been told to filter, so its traffic is in the target's counters like all other
/// (decision 39). Only what looks for the next vector leaves it aside, as if it were filtered: thresholds and buckets.
#[derive(Debug)]
pub struct Filter {
    /// What is filtered.
    pub pattern: Pattern,
    /// Where (decision 8).
    holders: SharedRouters,
    withheld: AtomicBool,
    /// What matched there.
    hits: Hits,
    /// What matched elsewhere, or while it was withheld: the target has it still.
    passed: Hits,
    /// What matched while it was withheld, in the columns that thresholds are judged by, per worker that saw any.
    aside: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Filter {
    /// For a number of workers, in force at every router.
    #[must_use]
    pub fn new(pattern: Pattern, workers: usize) -> Self {
        let none = || (0..workers).map(|_| Default::default()).collect();
        Self {
            pattern,
            holders: SharedRouters::new(Routers::ALL),
            withheld: AtomicBool::new(false),
            hits: none(),
            passed: none(),
            aside: (0..workers).map(|_| OnceLock::new()).collect(),
        }
    }

    /// From now on it is in force at these routers alone.
    pub fn set_holders(&self, routers: Routers) {
        self.holders.set(routers);
    }

    /// From now on it is in force nowhere, whoever holds it; or no longer so.
    pub fn set_withheld(&self, withheld: bool) {
        self.withheld.store(withheld, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_withheld(&self) -> bool {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Whether it is in force where the sample's exporter stands.
    #[inline]
    pub(super) fn is_in_force(&self, sample: &Sample) -> bool {
        !self.is_withheld() && self.holders.get().include(sample.router)
    }

    /// Whether a bucket does not take the sample: it is filtered where its exporter stands, or would be.
    pub(super) fn is_beside_bucket(&self, sample: &Sample) -> bool {
        (self.is_withheld() || self.is_in_force(sample)) && self.pattern.matches(sample) == Match::Yes
    }

    /// Counts a sample that matched where it is not in force.
    #[inline]
    pub(super) fn pass(&self, worker: usize, shard: &Shard, direction: Direction, sample: &Sample, rules: u32) {
        // A worker that came later than the filter has its hits counted once the filter has grown.
        let (Some((packets, bytes)), Some(aside)) = (self.passed.get(worker), self.aside.get(worker)) else { return };
        bump(packets, sample.packets);
        bump(bytes, sample.bytes);
        if self.is_withheld() {
            shard.count_aside(aside.get_or_init(|| shard.columns()), direction, sample, rules);
        }
    }

    /// Adds what matched while it was withheld.
    pub(crate) fn add_aside(&self, counts: &mut Counts) {
        self.aside.iter().filter_map(OnceLock::get).for_each(|columns| counts.add_columns(columns));
    }

    /// The same filter, with the same hits, for another number of workers; none of them may still count for the old one.
    #[must_use]
    pub fn grown(&self, workers: usize) -> Self {
        let grown = Self::new(self.pattern.clone(), workers.max(1));
        grown.set_holders(self.holders.get());
        grown.set_withheld(self.is_withheld());
        for (hits, (packets, bytes)) in [(&grown.hits, self.hits()), (&grown.passed, self.passed())] {
            bump(&hits[0].0, packets);
            bump(&hits[0].1, bytes);
        }
        grown
    }

    /// Packets and bytes that matched since the filter was made, at routers where it is in force.
    #[must_use]
    pub fn hits(&self) -> (u64, u64) {
        sum(&self.hits)
    }

    /// Packets and bytes that matched at routers where it is not in force, or while it was withheld.
    #[must_use]
    pub fn passed(&self) -> (u64, u64) {
        sum(&self.passed)
    }
}

fn sum(hits: &Hits) -> (u64, u64) {
    hits.iter().fold((0, 0), |(p, b), (packets, bytes)| {
        (p.wrapping_add(packets.load(Ordering::Relaxed)), b.wrapping_add(bytes.load(Ordering::Relaxed)))
    })
}

/// Filters of targets that are wider than a host.
pub(crate) type PrefixFilters = Arc<[(Target, Arc<[Arc<Filter>]>)]>;

/// The filters in force.
#[derive(Debug)]
pub(super) struct Filtering {
    pub(super) worker: usize,
    pub(super) hosts: BTreeMap<HostId, Arc<[Arc<Filter>]>>,
    pub(super) prefixes: PrefixFilters,
}

impl Filtering {
    /// None, for a worker.
    pub(super) fn new(worker: usize) -> Self {
        Self { worker, hosts: BTreeMap::new(), prefixes: Arc::from([]) }
    }

    /// The filter that a sample of a host matches, one in force where its exporter stands before others; certain matches only
    /// (decision 9).
    #[inline]
    pub(super) fn find(&self, host: Option<HostId>, sample: &Sample) -> Option<&Filter> {
        let of_host = host.and_then(|host| self.hosts.get(&host)).into_iter().flat_map(|f| f.iter());
        let covering = self.prefixes.iter().filter(|(target, _)| target.covers(sample)).flat_map(|(_, f)| f.iter());
        let mut first = None;
        for filter in of_host.chain(covering).filter(|f| f.pattern.matches(sample) == Match::Yes) {
            if filter.is_in_force(sample) {
                return Some(filter);
            }
            first.get_or_insert(&**filter);
        }
        first
    }

    /// Counts a sample that a filter in force takes out of the host's counts.
    #[inline]
    pub(super) fn hit(&self, filter: &Filter, shard: &Shard, sample: &Sample) {
        // A worker that came later than the filter has its hits counted once the filter has grown.
        if let Some((packets, bytes)) = filter.hits.get(self.worker) {
            bump(packets, sample.packets);
            bump(bytes, sample.bytes);
        }
        shard.filtered.count(sample);
    }
}
