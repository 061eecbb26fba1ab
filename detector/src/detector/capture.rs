//! What workers hand over: samples for open buckets, and of ordinary traffic to learn from.

use std::sync::atomic::Ordering;

use traffic::{Direction, Prefix, Sample, Target, Time};

use super::{Detector, SCARCE, other};
use crate::attack::{Bucket, Event, MAX_RECORDS, Phase};
use crate::counters::{WATCH_CAPTURE, WATCH_FILTERS};
use crate::exporters::Exporters;
use crate::meter::Command;

impl Detector {
    /// Asks every worker for what it remembers of the target and for what comes.
    pub(super) fn open_bucket(&mut self, target: Target, since: Time) {
        let limit = self.config.bucket.mirror_samples.max(MAX_RECORDS).saturating_mul(2);
        for remote in &mut self.remotes {
            // A full ring loses the look-back only; the bucket then fills from live traffic.
            remote.send(Command::LookBack { target, since, limit });
        }
        match self.host_of(target) {
            Some(host) => {
                self.remotes.iter().for_each(|r| {
                    r.shard.line(host).watch.fetch_or(WATCH_CAPTURE, Ordering::Release);
                });
            }
            None => self.watch_prefix(target.prefix),
        }
    }

    /// Sets the watch bits of every cell that may hold traffic of a prefix, by all attacks there are on prefixes.
    pub(super) fn watch_prefix(&self, prefix: Prefix) {
        let wide = || self.attacks.iter().filter(|(t, _)| !t.prefix.is_host());
        for cell in self.prefixes.cells_of(prefix) {
            let Some(of) = self.hosts.cell(cell).map(|c| c.prefix) else { continue };
            let over = || wide().filter(|(t, _)| t.prefix.overlaps(&of)).map(|(_, a)| a);
            let captures = over().any(|a| a.bucket.is_some());
            let filters = over().any(|a| !a.filters.is_empty());
            let bits = if captures { WATCH_CAPTURE } else { 0 } | if filters { WATCH_FILTERS } else { 0 };
            self.remotes.iter().for_each(|r| {
                let kind = || self.hosts.cell(cell).map_or(0, |c| c.kind);
                r.shard.cell(cell, kind).watch.store(bits, Ordering::Release);
            });
        }
    }

    pub(super) fn close_capture(&self, target: Target) {
        let Some(host) = self.host_of(target) else { return self.watch_prefix(target.prefix) };
        let other_open = self.attacks.get(&other(target)).is_some_and(|a| a.bucket.is_some());
        if !other_open {
            for remote in &self.remotes {
                remote.shard.line(host).watch.fetch_and(!WATCH_CAPTURE, Ordering::Release);
            }
        }
    }

    /// Takes what workers captured into the open buckets; cheap, so call it often while [`Detector::is_collecting`].
    pub fn collect(&mut self, now: Time) -> Vec<Event> {
        let wide: Vec<Target> = self.attacks.keys().filter(|t| !t.prefix.is_host()).copied().collect();
        for worker in 0..self.remotes.len() {
            while let Ok(sample) = self.remotes[worker].captured.pop() {
                self.take_captured(worker, &sample, &wide);
            }
        }
        let limits = self.config.bucket;
        let mut events = Vec::new();
        let mut closed = Vec::new();
        for (target, attack) in &mut self.attacks {
            let is_frozen = self.silent || attack.phase == Phase::Frozen;
            let Some(bucket) = attack
                .bucket
                .take_if(|b| b.is_full(now) || (!is_frozen && now.since(b.opened) >= limits.collection_timeout))
            else {
                // Certain and lasting, but told by few records: what is there is enough to look at.
                let lasts = !is_frozen && attack.over_since.is_some();
                let crossed = attack.last_crossing;
                let is_scarce = |b: &Bucket| crossed > b.opened && now.since(b.opened) >= SCARCE && b.counted > 0;
                if let Some(bucket) = attack.bucket.take_if(|b| lasts && is_scarce(b)) {
                    closed.push(*target);
                    events.push(Event::BucketFull(*target, bucket));
                }
                continue;
            };
            closed.push(*target);
            if bucket.is_full(now) {
                events.push(Event::BucketFull(*target, bucket));
            } else {
                self.statistics.orphaned += 1;
                events.push(Event::Orphaned(*target, bucket));
            }
        }
        for target in closed {
            self.close_capture(target);
        }
        events
    }

    pub(super) fn take_captured(&mut self, worker: usize, sample: &Sample, wide: &[Target]) {
        let limits = self.config.bucket;
        let exporter = Exporters::number(worker, sample);
        let mut put = |target: &Target| {
            let Some(attack) = self.attacks.get_mut(target) else { return };
            let counts = attack.counts_in_bucket(sample, &limits);
            if let Some(bucket) = &mut attack.bucket {
                bucket.add(sample, counts, &limits);
                if counts {
                    attack.tops.add(sample, target.direction, exporter);
                }
            }
        };
        // Both directions of a host go into its bucket; one host at both ends is one sample.
        let ends = if sample.destination == sample.source { 1 } else { 2 };
        for bits in [sample.destination, sample.source].into_iter().take(ends) {
            let prefix = Prefix::host_of(sample.version, bits);
            Direction::ALL.iter().for_each(|direction| put(&Target { prefix, direction: *direction }));
        }
        let covers = |t: &&Target| Direction::ALL.iter().any(|d| Target { direction: *d, ..**t }.covers(sample));
        wide.iter().filter(covers).for_each(put);
    }

    /// Takes samples of ordinary traffic; those of attacked targets tell what the attack is made of now.
    pub(super) fn learn(&mut self, now: Time, events: &mut Vec<Event>) {
        for worker in 0..self.remotes.len() {
            while let Ok(sample) = self.remotes[worker].ordinary.pop() {
                if let Some(event) = self.exporters.saw(worker, &sample, now) {
                    events.push(event);
                }
                for (direction, bits) in
                    [(Direction::Incoming, sample.destination), (Direction::Outgoing, sample.source)]
                {
                    self.learn_end(now, worker, direction, Prefix::host_of(sample.version, bits), &sample);
                }
            }
        }
    }

    pub(super) fn learn_end(&mut self, now: Time, worker: usize, direction: Direction, own: Prefix, sample: &Sample) {
        if !self.hosts.is_own(own.version(), own.bits()) {
            return;
        }
        let exporter = Exporters::number(worker, sample);
        let mut is_attacked = false;
        for (target, attack) in &mut self.attacks {
            if target.prefix.contains(&own) {
                is_attacked = true;
                if target.direction == direction {
                    attack.tops.add(sample, direction, exporter);
                }
            }
        }
        if is_attacked || !self.config.learning.is_on {
            return;
        }
        // Learning freezes at the first suspicion, in both directions.
        let track = self.host_id(own).and_then(|host| self.tracks.get(host));
        let tolerance = self.config.burst_tolerance;
        if track.is_some_and(|t| t.levels.suspect_since(&self.checks[t.group], tolerance).is_some()) {
            return;
        }
        let group = self.hosts.membership().group_of(own.version(), own.bits());
        self.baselines.sample(now, own, &self.config.groups[group].name, direction, sample);
    }
}
