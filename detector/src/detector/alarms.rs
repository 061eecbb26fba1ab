//! Alarms: which crossings of a threshold are new attacks, which go on in spite of filters, and when attacks are over.

use std::time::Duration;

use traffic::{Direction, Target, Time};

use super::{Detector, MAX_ATTACKS, SILENCE};
use crate::attack::{Attack, Bucket, Crossing, Event, Phase, Rates};
use crate::checks::Passed;
use crate::config::{Config, Unit};
use crate::hosts::{HostId, Lookup};
use crate::life;
use crate::prefixes::{Crossed, Explained, Scope};

/// A host under an attacked prefix gets an alarm of its own only if this share of the attack goes to it.
const OWN_ALARM_SHARE: u64 = 2;

impl Detector {
    /// Raises alarms of hosts that have passed a threshold with certainty.
    pub(super) fn evaluate_hosts(&mut self, now: Time, events: &mut Vec<Event>) {
        let mut passed: Vec<(HostId, Target, usize, Passed)> = Vec::new();
        let tolerance = self.config.burst_tolerance;
        for (host, _) in &self.noted {
            let Some(track) = self.tracks.get(*host) else { continue };
            for direction in Direction::ALL {
                let checks = &self.checks[track.group];
                if let Some(over) = track.levels.passed(checks, direction, tolerance)
                    && let Some(prefix) = self.hosts.prefix(*host)
                {
                    passed.push((*host, Target { prefix, direction }, track.group, over));
                }
            }
        }
        for (host, target, group, over) in passed {
            let is_silenced = self.silenced[target.direction as usize].contain(&target.prefix);
            if !is_silenced && !self.is_part_of_wider(target, &over) {
                self.crossed(Crossed { target, scope: Scope::Host, group, passed: over }, now, events);
            }
            if let Some(track) = self.tracks.get_mut(host) {
                track.levels.restart(&self.checks[group], target.direction, now);
            }
        }
    }

    /// Whether a prefix around the host is under attack already, and the host is only a part of that.
    fn is_part_of_wider(&self, target: Target, over: &Passed) -> bool {
        let around =
            |t: &&Target| !t.prefix.is_host() && t.direction == target.direction && t.prefix.contains(&target.prefix);
        !self.attacks.contains_key(&target)
            && self.attacks.iter().filter(|(t, _)| around(t)).any(|(_, attack)| {
                let whole = match over.check.measure.unit {
                    Unit::Packets => attack.packets_per_second.max(attack.evidence.rate),
                    Unit::Bytes => attack.bytes_per_second,
                    Unit::Flows => u64::MAX,
                };
                over.evidence.rate < whole / OWN_ALARM_SHARE
            })
    }

    /// What hosts under attack, or suspected to be, had in this tick: it does not count for what is above them.
    fn explained(&self) -> Explained {
        let mut explained = Explained::new();
        for (host, delta) in &self.noted {
            let Some(track) = self.tracks.get(*host) else { continue };
            let Some(prefix) = self.hosts.prefix(*host) else { continue };
            for direction in Direction::ALL {
                let is_attacked = self.attacks.contains_key(&Target { prefix, direction });
                let checks = &self.checks[track.group];
                if is_attacked || track.levels.is_suspect(checks, direction, self.config.burst_tolerance) {
                    let cell = self.hosts.cell_of(*host);
                    explained.entry(cell).or_default().push((direction, delta.clone()));
                }
            }
        }
        explained
    }

    pub(super) fn evaluate_prefixes(
        &mut self,
        tick: u32,
        start: Time,
        now: Time,
        unsettled: &[Target],
        events: &mut Vec<Event>,
    ) {
        let alarmed: Vec<Target> = self.attacks.keys().filter(|t| !t.prefix.is_host()).copied().collect();
        let explained = self.explained();
        let shards = self.remotes.iter().map(|r| &*r.shard);
        self.prefixes.read(shards, tick, &explained, &alarmed);
        let layout = self.layout;
        let wide = self.attacks.iter_mut().filter(|(target, _)| !target.prefix.is_host());
        self.prefixes.leave_aside(wide.filter_map(|(target, attack)| Some((*target, attack.take_aside(layout)?))));
        let silenced = &self.silenced;
        let is_silenced =
            |target: Target| unsettled.contains(&target) || silenced[target.direction as usize].contain(&target.prefix);
        let crossed = self.prefixes.evaluate(start, now, &alarmed, is_silenced);
        for crossing in crossed {
            self.crossed(crossing, now, events);
        }
    }

    /// A threshold was crossed with certainty: a new attack, or one that goes on in spite of its filters.
    fn crossed(&mut self, crossed: Crossed, now: Time, events: &mut Vec<Event>) {
        if self.attacks.contains_key(&crossed.target) {
            self.crossed_again(crossed, now, events);
        } else if self.attacks.len() >= MAX_ATTACKS {
            self.statistics.attacks_refused += 1;
        } else {
            self.raise(&crossed, now, events);
        }
    }

    /// An attack goes on in spite of its filters.
    fn crossed_again(&mut self, crossed: Crossed, now: Time, events: &mut Vec<Event>) {
        let Some(attack) = self.attacks.get_mut(&crossed.target) else { return };
        attack.last_crossing = now;
        attack.last_active = now;
        attack.crossing = crossing(&crossed.passed);
        attack.measured = crossed.passed.measured;
        attack.over_since.get_or_insert(crossed.passed.since);
        if attack.bucket.is_none() && now >= attack.next_bucket {
            attack.bucket = Some(Bucket::new(now, &self.config.bucket));
            events.push(Event::Residual(crossed.target));
            self.open_bucket(crossed.target, crossed.passed.since);
        }
    }

    /// Raises the alarm of a new attack.
    fn raise(&mut self, crossed: &Crossed, now: Time, events: &mut Vec<Event>) {
        let (target, since) = (crossed.target, crossed.passed.since);
        self.statistics.alarms += 1;
        let attack = self.new_attack(crossed, now);
        self.baselines.forget_attack(now, target.prefix, &attack.group, attack.started);
        self.attacks.insert(target, attack);
        events.push(Event::Alarm(target));
        self.open_bucket(target, since);
    }

    /// An attack as it begins, with its first bucket.
    fn new_attack(&self, crossed: &Crossed, now: Time) -> Attack {
        let Crossed { target, scope, group, passed } = crossed;
        let (returns, hold) = self.ended.returns(&self.config, *target, now);
        Attack {
            target: *target,
            scope: *scope,
            group: self.config.groups[*group].name.clone(),
            threshold_key: scoped_key(&self.config, *scope, passed),
            measure: passed.check.measure,
            crossing: crossing(passed),
            threshold: passed.check.threshold,
            evidence: passed.evidence,
            phase: Phase::Active,
            returns,
            hold,
            started: passed.since,
            detected: now,
            packets_per_second: 0,
            bytes_per_second: 0,
            units_per_second: 0,
            peak_packets_per_second: 0,
            peak_bytes_per_second: 0,
            packets: 0,
            bytes: 0,
            tops: Default::default(),
            measured: passed.measured.clone(),
            over_since: Some(passed.since),
            bucket: Some(Bucket::new(now, &self.config.bucket)),
            filters: Vec::new(),
            aside: None,
            last_crossing: now,
            last_active: now,
            longest_pause: Duration::ZERO,
            reading: None,
            next_bucket: now,
            fruitless: 0,
            rates: Rates::default(),
        }
    }

    /// Updates the rates of attacks and ends those that have faded.
    pub(super) fn advance_attacks(&mut self, now: Time, span: Duration, events: &mut Vec<Event>) {
        let mut over = Vec::new();
        for (target, attack) in &mut self.attacks {
            let delta = if target.prefix.is_host() {
                let host = self.hosts.find(target.prefix.version(), target.prefix.bits());
                let noted = |own| self.noted.binary_search_by_key(&own, |(host, _)| *host).ok();
                let index = if let Lookup::Host(host) = host { noted(host) } else { None };
                index.map(|index| self.noted[index].1.clone())
            } else {
                let reading = self.prefixes.reading(target.prefix);
                let earlier = attack.reading.replace(reading.clone());
                earlier.map(|earlier| {
                    let mut delta = reading;
                    delta.since(&earlier);
                    delta
                })
            };
            let is_silent = self.silent || self.exporters.are_silent(attack.tops.main_exporters(), now, SILENCE);
            life::advance(attack, &self.config, now, span, delta.as_ref(), is_silent);
            if life::is_over(attack, now) {
                over.push(*target);
            }
        }
        for target in over {
            self.end(target, now, events);
        }
    }

    /// Ends an attack.
    pub(super) fn end(&mut self, target: Target, now: Time, events: &mut Vec<Event>) {
        self.set_filters(target, Vec::new());
        if let Some(mut attack) = self.attacks.remove(&target) {
            self.close_capture(target);
            self.ended.add(&self.config, target, now, attack.returns);
            if let Some(bucket) = attack.bucket.take() {
                self.statistics.orphaned += 1;
                events.push(Event::Orphaned(target, bucket));
            }
            attack.phase = Phase::Fading;
            events.push(Event::Over(Box::new(attack)));
        }
    }
}

/// The check that was passed, and how certainly.
const fn crossing(passed: &Passed) -> Crossing {
    Crossing { measure: passed.check.measure, threshold: passed.check.threshold, evidence: passed.evidence }
}

/// The key of a threshold: `threshold_pps`, `threshold_prefix_pps`, `threshold_network_mbps_outgoing`.
fn scoped_key(config: &Config, scope: Scope, passed: &Passed) -> String {
    let key = config.key(passed.check.direction, passed.check.measure);
    match scope {
        Scope::Host | Scope::Group => key,
        Scope::Prefix => key.replacen("threshold_", "threshold_prefix_", 1),
        Scope::Network => key.replacen("threshold_", "threshold_network_", 1),
    }
}
