//! A new configuration while everything runs: counters, attacks, buckets and filters stay.
//!
//! Thresholds, switches and limits change in place. When the own networks, the groups' networks, the watched prefix lengths or the
//! traffic rules change, hosts get new indices: every worker is handed a new meter through its own ring, takes its look-back and
//! its spread records along, and goes on; what was counted stays in the totals. Up to one tick and 20 ms of evidence towards
//! an alarm begins anew then, nothing else.

use std::sync::Arc;
use std::time::Duration;

use traffic::{Networks, Target, Time};

use super::whitelisting::whitelist;
use super::{Detector, Scan, meter_config};
use crate::attack::Event;
use crate::checks::Checks;
use crate::config::{Config, HostGroup};
use crate::counters::{Counts, Layout, Shard};
use crate::hosts::Hosts;
use crate::membership::Membership;
use crate::meter::{Command, Meter};
use crate::prefixes::{Prefixes, Scope};
use crate::tracks::Tracks;

/// How long workers may take to leave a shard.
const LEAVING: Duration = Duration::from_secs(1);

/// What came of a new configuration.
#[derive(Debug)]
pub struct Reconfigured {
    /// One meter per further worker.
    pub meters: Vec<Meter>,
    /// Attacks that the new configuration ended, as [`Detector::step`] tells them.
    pub events: Vec<Event>,
    /// Whether hosts have new indices: filters have to be made anew, for as many workers as there are now.
    pub relaid: bool,
}

impl Detector {
    /// Puts a configuration into force. `added` further workers will count; those that ended are noticed by themselves.
    pub fn reconfigure(&mut self, config: Config, added: usize) -> Reconfigured {
        let now = self.last.unwrap_or_default();
        let relaid = !same_layout(&self.config, &config);
        let anew = relaid
            || self.config.groups != config.groups
            || self.config.burst_tolerance != config.burst_tolerance
            || self.config.learning != config.learning;
        self.checks = config.groups.iter().map(|g| Checks::new(&g.thresholds)).collect();
        self.config = config;
        self.silence(now);
        self.scan.average_over(self.config.average);
        self.baselines.set_learning(self.config.learning);
        let mut events = Vec::new();
        self.end_what_is_not_watched(now, &mut events);
        if relaid {
            self.relay(now);
        }
        if anew {
            // What is left of old thresholds is no evidence against new ones.
            self.tracks = Tracks::default();
            self.prefixes = Prefixes::new(&self.config, self.layout);
            self.prefixes.register(&self.config, &self.hosts, now);
            self.prefixes.prime(self.remotes.iter().map(|r| &*r.shard));
        }
        let meters = (0..added).map(|_| self.add_worker(now)).collect();
        let meter = meter_config(&self.config, &self.hosts, self.remotes.len());
        let whitelisted = Arc::new(whitelist(&self.config, now));
        for remote in &mut self.remotes {
            // Whoever's ring is full is asked again with every tick.
            remote.configure(meter.clone());
            remote.send(Command::Whitelist(Arc::clone(&whitelisted)));
        }
        if relaid || added > 0 {
            self.reopen_buckets();
        }
        Reconfigured { meters, events, relaid: relaid || added > 0 }
    }

    fn add_worker(&mut self, now: Time) -> Meter {
        let worker = self.remotes.len();
        let config = meter_config(&self.config, &self.hosts, worker + 1);
        let whitelist = Arc::new(whitelist(&self.config, now));
        let (meter, remote) = Meter::new(worker, config, Arc::clone(&self.hosts), Arc::clone(&self.pulse), whitelist);
        self.remotes.push(remote);
        meter
    }

    /// New indices for the hosts of new networks: each living worker becomes a new meter.
    fn relay(&mut self, now: Time) {
        let networks = Networks::new(&self.config.networks);
        let membership = Membership::new(&self.config.groups);
        let v6_lengths = &self.config.prefix_lengths.1;
        self.hosts = Arc::new(Hosts::new(&networks, membership, v6_lengths, self.config.max_ipv6_hosts, self.seed));
        self.layout = Layout::new(self.config.rules.len());
        self.scratch = Counts::zero(self.layout);
        self.scan = Scan::new(self.hosts.slab_capacity(), self.config.average);
        self.scan.begin(now);
        self.hot.clear();
        self.hot_drops = 0;
        self.settling.clear();
        self.attacks.values_mut().for_each(|a| a.reading = None);
        for mut old in std::mem::take(&mut self.remotes) {
            if !old.is_abandoned() {
                let meter = self.add_worker(now);
                old.send(Command::Become(Box::new(meter)));
            }
            self.left.push((now, old.shard));
        }
    }

    /// Shards that no worker writes any more, into the totals.
    pub(super) fn fold_shards(&mut self, now: Time) {
        let base = &self.base;
        self.left.retain(|(since, shard)| {
            let gone = now.since(*since) >= LEAVING;
            if gone {
                base.absorb(shard);
            }
            !gone
        });
    }

    /// Attacks on what is no longer ours, or never alarms any more, are over; others are measured by the new thresholds.
    fn end_what_is_not_watched(&mut self, now: Time, events: &mut Vec<Event>) {
        let networks = Networks::new(&self.config.networks);
        let membership = Membership::new(&self.config.groups);
        let mut over: Vec<Target> = Vec::new();
        for (target, attack) in &mut self.attacks {
            let of_prefix = || self.config.groups.get(membership.group_of_prefix(&target.prefix));
            let group: Option<&HostGroup> = match attack.scope {
                Scope::Host | Scope::Prefix | Scope::Network => of_prefix(),
                Scope::Group => self.config.groups.iter().find(|g| g.name == attack.group && g.is_total),
            };
            let thresholds = group.map(|g| match attack.scope {
                Scope::Host | Scope::Group => &g.thresholds,
                Scope::Prefix => &g.prefix_thresholds,
                Scope::Network => &g.network_thresholds,
            });
            let threshold = thresholds.and_then(|t| t.get(&(target.direction, attack.measure)));
            let is_silenced = self.silenced[target.direction as usize].contain(&target.prefix);
            match (threshold, group) {
                (Some(threshold), Some(group)) if networks.contain(&target.prefix) && !is_silenced => {
                    attack.group.clone_from(&group.name);
                    attack.threshold = *threshold;
                }
                _ => over.push(*target),
            }
        }
        for target in over {
            self.end(target, now, events);
        }
    }

    /// Asks workers that are new, or have new meters, for what open buckets wait for.
    fn reopen_buckets(&mut self) {
        let open: Vec<(Target, Time)> = self
            .attacks
            .values()
            .filter(|a| a.bucket.is_some())
            .map(|a| (a.target, a.over_since.unwrap_or(a.started)))
            .collect();
        for (target, since) in open {
            self.open_bucket(target, since);
        }
    }

    /// The workers' shards, and what earlier ones counted, for metrics.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        let left = self.left.iter().map(|(_, shard)| shard);
        self.remotes.iter().map(|r| &r.shard).chain(left).chain(std::iter::once(&self.base))
    }
}

/// Whether hosts and cells keep their indices, and counters their columns.
fn same_layout(old: &Config, new: &Config) -> bool {
    let networks = |config: &Config| -> Vec<(bool, Vec<traffic::Prefix>)> {
        config.groups.iter().map(|g| (g.is_total, g.networks.clone())).collect()
    };
    old.networks == new.networks
        && old.max_ipv6_hosts == new.max_ipv6_hosts
        && old.rules == new.rules
        && old.prefix_lengths == new.prefix_lengths
        && networks(old) == networks(new)
}
