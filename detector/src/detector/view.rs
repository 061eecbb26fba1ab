//! What the detector tells: attacks, counters, averages, what is ordinary.

use std::collections::{BTreeMap, BTreeSet};

use traffic::{Prefix, Target, Time};

use super::{Detector, Statistics};
use crate::attack::Attack;
use crate::baseline::Baselines;
use crate::config::Config;
use crate::counters::Totals;
use crate::survey::{self, Survey};

impl Detector {
    /// Attacks in progress.
    #[must_use]
    pub const fn attacks(&self) -> &BTreeMap<Target, Attack> {
        &self.attacks
    }

    /// The attacked targets that are over their thresholds only if sampling rates are right that exporters contradict (decision 29).
    #[must_use]
    pub fn doubted(&self, now: Time) -> BTreeSet<Target> {
        if !self.exporters.have_doubts(now) {
            return BTreeSet::new();
        }
        let doubted = self.attacks.iter().filter(|(_, attack)| self.exporters.is_doubted(attack, now));
        doubted.map(|(target, _)| *target).collect()
    }

    /// Whether a bucket is open: then call [`Detector::collect`] every few milliseconds.
    #[must_use]
    pub fn is_collecting(&self) -> bool {
        self.attacks.values().any(|a| a.bucket.is_some())
    }

    /// How many workers count.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.remotes.len()
    }

    /// The counters of one own host since the start; `None` for a foreign address or one never seen.
    #[must_use]
    pub fn host(&self, prefix: Prefix) -> Option<Totals> {
        let host = self.host_id(prefix)?;
        let mut totals = Totals::default();
        self.remotes.iter().for_each(|r| r.shard.read(host, &mut totals));
        Some(totals)
    }

    /// Averages of one own host over `average_calculation_time`; zero for one never seen.
    #[must_use]
    pub fn average(&self, host: Prefix) -> crate::scan::Average {
        self.host_id(host).map(|host| self.scan.average(host)).unwrap_or_default()
    }

    /// The largest hosts, and sums over hosts.
    #[must_use]
    pub fn survey(&self, wanted: &survey::Wanted<'_>) -> Survey {
        Survey::new(&self.scan, &self.hosts, self.config.groups.len(), wanted)
    }

    /// The host group that a host or prefix belongs to.
    #[must_use]
    pub fn group_name(&self, prefix: &Prefix) -> &str {
        &self.config.groups[self.hosts.membership().group_of_prefix(prefix)].name
    }

    /// What is ordinary.
    #[must_use]
    pub const fn baselines(&self) -> &Baselines {
        &self.baselines
    }

    /// What the detector has seen.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Whether anything of our own, or of others, has been counted since the start.
    #[must_use]
    pub const fn has_traffic(&self) -> bool {
        self.traffic > 0
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }
}
