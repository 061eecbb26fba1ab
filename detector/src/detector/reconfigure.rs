//! A new configuration while everything runs: counters, attacks, buckets and filters stay.
//!
//! Thresholds, groups, switches and limits change in place. When the own networks change, hosts get new indices: every worker
//! is handed a new meter through its own ring, takes its look-back and its spread records along, and goes on; what was counted
//! stays in the totals. Up to one tick and 20 ms of evidence towards an alarm begins anew then, nothing else.

use std::sync::Arc;
use std::time::Duration;

use collectors::Time;

use super::{Detector, meter_config};
use crate::attack::Event;
use crate::config::{Class, Config, Measure, Unit};
use crate::counters::Shard;
use crate::hosts::Hosts;
use crate::meter::{Command, Meter};
use crate::networks::{Membership, Networks};
use crate::target::{Direction, Target};

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
        let relaid = !same_layout(&self.config, &config);
        if self.config.groups != config.groups || self.config.burst_tolerance != config.burst_tolerance {
            // What is left of old thresholds is no evidence against new ones.
            self.tracks.clear();
        }
        self.membership = Membership::new(&config.groups);
        self.whitelist = Networks::new(&config.whitelist);
        self.lowest = Direction::ALL.map(|direction| {
            [Unit::Packets, Unit::Bytes]
                .map(|unit| super::lowest(&config, direction, Measure { class: Class::Total, unit }))
        });
        self.config = config;
        let mut events = Vec::new();
        self.end_what_is_not_watched(&mut events);
        if relaid {
            self.relay();
        }
        let meters = (0..added).map(|_| self.add_worker()).collect();
        let meter = meter_config(&self.config, self.remotes.len());
        self.has_classes = meter.spill.is_some();
        for remote in &mut self.remotes {
            // Whoever's ring is full is asked again with every tick.
            remote.configure(meter);
        }
        if relaid || added > 0 {
            self.reopen_buckets();
        }
        Reconfigured { meters, events, relaid: relaid || added > 0 }
    }

    fn add_worker(&mut self) -> Meter {
        let worker = self.remotes.len();
        let config = meter_config(&self.config, worker + 1);
        let (meter, remote) = Meter::new(worker, config, Arc::clone(&self.hosts), Arc::clone(&self.pulse));
        self.remotes.push(remote);
        meter
    }

    /// New indices for the hosts of new networks: each living worker becomes a new meter.
    fn relay(&mut self) {
        let networks = Networks::new(&self.config.networks);
        self.hosts = Arc::new(Hosts::new(&networks, self.config.max_ipv6_hosts, self.seed));
        self.previous = (0..self.hosts.slab_capacity()).map(|_| None).collect();
        self.previous_classes.clear();
        self.tracks.clear();
        self.settling.clear();
        let now = self.last.unwrap_or_default();
        for mut old in std::mem::take(&mut self.remotes) {
            if !old.is_abandoned() {
                let meter = self.add_worker();
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
    fn end_what_is_not_watched(&mut self, events: &mut Vec<Event>) {
        let networks = Networks::new(&self.config.networks);
        let mut over: Vec<Target> = Vec::new();
        for (target, attack) in &mut self.attacks {
            let group = &self.config.groups[self.membership.group_of(target.prefix.version(), target.prefix.bits())];
            let threshold = group.thresholds.get(&(target.direction, attack.measure));
            match threshold {
                Some(threshold) if networks.contain(&target.prefix) && !self.whitelist.contain(&target.prefix) => {
                    attack.group.clone_from(&group.name);
                    attack.threshold = *threshold;
                }
                Some(_) | None => over.push(*target),
            }
        }
        for target in over {
            self.end(target, events);
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
            if let Some(host) = self.host_id(target.prefix) {
                self.open_bucket(host, target, since);
            }
        }
    }

    /// The workers' shards, and what earlier ones counted, for metrics.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        let left = self.left.iter().map(|(_, shard)| shard);
        self.remotes.iter().map(|r| &r.shard).chain(left).chain(std::iter::once(&self.base))
    }
}

/// Whether hosts keep their indices.
fn same_layout(old: &Config, new: &Config) -> bool {
    old.networks == new.networks && old.max_ipv6_hosts == new.max_ipv6_hosts
}
