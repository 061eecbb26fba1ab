//! [`Detector`]: the control thread's side: reads the shards, finds who is over a threshold, collects buckets.
//!
//! [`Detector::step`] is called every 50 to 100 ms with the time as an argument. It looks only at slabs that were written since
//! the step before, so an idle installation costs nothing whatever its size. The previous reading of every host is kept here; the
//! shards only grow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use collectors::Time;

use crate::attack::{Attack, Bucket, Crossing, Event, MAX_RECORDS, Rates, other_direction};
use crate::config::{Class, Config, Measure, Thresholds, Unit};
use crate::counters::{Classes, Shard, SpillTrip, Totals, WATCH_CAPTURE, WATCH_FILTERS};
use crate::hosts::{HostId, Hosts, Lookup};
use crate::meter::{Command, Filter, Meter, MeterConfig, Pulse, Remote};
use crate::networks::{Membership, Networks};
use crate::rate::{Level, Tally};
use crate::target::{Direction, Prefix, Target};

mod reconfigure;

pub use reconfigure::Reconfigured;

/// Attacks at once at most; a further alarm is counted and tried again at the next tick.
pub const MAX_ATTACKS: usize = 10_000;
/// Without any telemetry for this long, time stands still for attacks (decision 7).
const SILENCE: Duration = Duration::from_secs(3);
/// A residual counts as unbroken while its threshold is crossed again within this time.
const UNBROKEN: Duration = Duration::from_secs(3);
/// After buckets without a rule, the next one is opened 1, 2, 4 ... 2^(n-1) seconds later.
const LONGEST_FRUITLESS: u32 = 7;
/// An attack fades below this share of its threshold.
const CLEAR_SHARE: f64 = 0.7;

/// A worker that does not take a filter over for this long is not waited for.
const LONGEST_SETTLING: Duration = Duration::from_secs(1);

/// New filters of a host on their way to the workers: what is counted meanwhile says nothing about what they leave over.
#[derive(Debug)]
struct Settling {
    /// Commands each worker has to have carried out.
    sent: Vec<u64>,
    since: Time,
}

/// A host that is, or just was, over one of its thresholds.
#[derive(Debug, Default)]
struct Track {
    levels: BTreeMap<(Direction, Measure), Level>,
}

/// What the detector itself has seen, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Alarms raised since the start.
    pub alarms: u64,
    /// Buckets dropped because they did not fill.
    pub orphaned: u64,
    /// Alarms not raised because [`MAX_ATTACKS`] were active.
    pub attacks_refused: u64,
    /// Hosts with traffic in the last step.
    pub active_hosts: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    hosts: Arc<Hosts>,
    membership: Membership,
    whitelist: Networks,
    /// The lowest threshold of any group per direction and total measure: a cheap first look.
    lowest: [[u64; 2]; 2],
    has_classes: bool,
    pulse: Arc<Pulse>,
    remotes: Vec<Remote>,
    seed: u64,
    /// Shards that workers are leaving, since when; and what those before them counted.
    left: Vec<(Time, Arc<Shard>)>,
    base: Arc<Shard>,
    previous: Vec<Option<Box<[Totals]>>>,
    previous_classes: BTreeMap<HostId, Classes>,
    tracks: BTreeMap<HostId, Track>,
    settling: BTreeMap<HostId, Settling>,
    attacks: BTreeMap<Target, Attack>,
    last: Option<Time>,
    last_traffic: Time,
    silent: bool,
    statistics: Statistics,
}

/// What one tick added to a host.
#[derive(Debug, Clone, Copy)]
struct Delta {
    totals: Totals,
    classes: Option<Classes>,
}

impl Delta {
    fn units(&self, direction: Direction, measure: Measure) -> u64 {
        let d = direction as usize;
        match (measure.class, measure.unit, &self.classes) {
            (Class::Total, Unit::Packets, _) => self.totals.packets[d],
            (Class::Total, Unit::Bytes, _) => self.totals.bytes[d],
            (_, _, None) => 0,
            (_, Unit::Flows, Some(classes)) => classes.flows[d],
            (class, Unit::Packets, Some(classes)) => classes.packets[class as usize - 1][d],
            (class, Unit::Bytes, Some(classes)) => classes.bytes[class as usize - 1][d],
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a sampling rate")]
    fn weight(&self, direction: Direction) -> f64 {
        let d = direction as usize;
        self.totals.packets[d] as f64 / f64::from(self.totals.observed[d].max(1))
    }
}

impl Detector {
    /// A detector and one meter per worker. `seed` keys the hash of IPv6 hosts; fixed in replays, random in the daemon.
    #[must_use]
    pub fn new(config: Config, workers: usize, seed: u64) -> (Self, Vec<Meter>) {
        let networks = Networks::new(&config.networks);
        let hosts = Arc::new(Hosts::new(&networks, config.max_ipv6_hosts, seed));
        let pulse = Arc::new(Pulse { tick: AtomicU32::new(2), second: AtomicU32::new(0) });
        let meter_config = meter_config(&config, workers.max(1));
        let (meters, remotes) = (0..workers.max(1))
            .map(|worker| Meter::new(worker, meter_config, Arc::clone(&hosts), Arc::clone(&pulse)))
            .unzip();
        let lowest = Direction::ALL.map(|direction| {
            [Unit::Packets, Unit::Bytes].map(|unit| lowest(&config, direction, Measure { class: Class::Total, unit }))
        });
        let detector = Self {
            membership: Membership::new(&config.groups),
            whitelist: Networks::new(&config.whitelist),
            lowest,
            has_classes: meter_config.spill.is_some(),
            previous: (0..hosts.slab_capacity()).map(|_| None).collect(),
            config,
            hosts,
            pulse,
            remotes,
            seed,
            left: Vec::new(),
            base: Arc::new(Shard::new(0)),
            previous_classes: BTreeMap::new(),
            tracks: BTreeMap::new(),
            settling: BTreeMap::new(),
            attacks: BTreeMap::new(),
            last: None,
            last_traffic: Time::default(),
            silent: false,
            statistics: Statistics::default(),
        };
        (detector, meters)
    }

    /// One tick: `now` must not go back; a step that does nothing but repeat the time is allowed.
    #[allow(clippy::cast_possible_truncation, reason = "seconds modulo 2^32")]
    pub fn step(&mut self, now: Time) -> Vec<Event> {
        let Some(start) = self.last.replace(now) else {
            self.last_traffic = now;
            return Vec::new();
        };
        let span = now.since(start);
        if span.is_zero() {
            return self.collect(now);
        }
        let mut events = self.collect(now);
        let ended = self.pulse.tick.load(Ordering::Relaxed);
        self.pulse.second.store((now.0 / 1_000_000_000) as u32, Ordering::Relaxed);
        self.pulse.tick.store(ended.wrapping_add(1), Ordering::Release);
        self.remotes.iter_mut().for_each(Remote::deliver);
        self.fold_shards(now);
        let settled = self.settled(now);
        let deltas = self.read(ended.wrapping_sub(1), span);
        if self.statistics.active_hosts > 0 {
            self.last_traffic = now;
        }
        self.watch_silence(now, &mut events);
        self.evaluate(start, now, &deltas, &mut events);
        settled.iter().for_each(|host| drop(self.settling.remove(host)));
        self.fade(now, span, &deltas, &mut events);
        events
    }

    /// Reads every host of the slabs written since tick `since`; returns those that matter in this tick.
    fn read(&mut self, since: u32, span: Duration) -> BTreeMap<HostId, Delta> {
        let mut deltas = BTreeMap::new();
        let mut active = 0;
        let attacked: Vec<HostId> = self.attacks.keys().filter_map(|t| self.host_id(t.prefix)).collect();
        for slab in 0..self.hosts.slab_count() {
            if !self.remotes.iter().any(|r| r.shard.touched_since(slab, since)) {
                continue;
            }
            let previous = self.previous[slab].get_or_insert_with(|| vec![Totals::default(); 256].into());
            for place in 0..256 {
                #[allow(clippy::cast_possible_truncation, reason = "slabs are at most 2^17")]
                let host = HostId((slab as u32) << 8 | place as u32);
                let mut totals = Totals::default();
                self.remotes.iter().for_each(|r| r.shard.read(host, &mut totals));
                let before = std::mem::replace(&mut previous[place], totals);
                if before == totals {
                    continue;
                }
                active += 1;
                let classes =
                    if self.has_classes { read_classes(&self.remotes, &mut self.previous_classes, host) } else { None };
                let delta = Delta { totals: difference(&totals, &before), classes };
                if may_be_over(&self.lowest, &delta, span)
                    || self.tracks.contains_key(&host)
                    || attacked.contains(&host)
                {
                    deltas.insert(host, delta);
                }
            }
        }
        self.statistics.active_hosts = active;
        deltas
    }

    fn host_id(&self, prefix: Prefix) -> Option<HostId> {
        match self.hosts.find(prefix.version(), prefix.bits()) {
            Lookup::Host(host) => Some(host),
            Lookup::Foreign | Lookup::Full => None,
        }
    }

    fn watch_silence(&mut self, now: Time, events: &mut Vec<Event>) {
        let silent = now.since(self.last_traffic) > SILENCE;
        if silent != self.silent && !(silent && self.attacks.is_empty()) {
            self.silent = silent;
            events.push(if silent { Event::Silence } else { Event::SilenceOver });
        }
    }

    /// Adds the tick to the levels of every host that is, or may be, over a threshold.
    fn evaluate(&mut self, start: Time, now: Time, deltas: &BTreeMap<HostId, Delta>, events: &mut Vec<Event>) {
        let mut candidates: Vec<HostId> = deltas.keys().copied().collect();
        candidates.extend(self.tracks.keys());
        candidates.sort_unstable();
        candidates.dedup();
        for host in candidates {
            let Some(prefix) = self.hosts.prefix(host) else { continue };
            if self.whitelist.contain(&prefix) || self.settling.contains_key(&host) {
                continue;
            }
            let quiet = Delta { totals: Totals::default(), classes: None };
            let delta = deltas.get(&host).copied().unwrap_or(quiet);
            self.evaluate_host(host, prefix, start, now, &delta, events);
        }
    }

    fn evaluate_host(
        &mut self,
        host: HostId,
        prefix: Prefix,
        start: Time,
        now: Time,
        delta: &Delta,
        events: &mut Vec<Event>,
    ) {
        let group = self.membership.group_of(prefix.version(), prefix.bits());
        let mut track = self.tracks.remove(&host).unwrap_or_default();
        let mut fired: BTreeMap<Direction, (Measure, u64, Level)> = BTreeMap::new();
        for (&(direction, measure), &threshold) in &self.config.groups[group].thresholds {
            let units = delta.units(direction, measure);
            let level = track.levels.entry((direction, measure)).or_insert_with(|| Level::new(start));
            let tally = Tally { units, weight: delta.weight(direction), span: now.since(start) };
            level.add(start, measure.unit, tally, threshold);
            if level.is_over(threshold, self.config.burst_tolerance) {
                // Of several measures that pass at once, the one furthest over its threshold names the attack.
                let excess = |l: &Level, t: u64| u128::from(l.evidence(now).rate) * 1000 / u128::from(t.max(1));
                let better = fired.get(&direction).is_none_or(|(_, t, l)| excess(level, threshold) > excess(l, *t));
                if better {
                    fired.insert(direction, (measure, threshold, level.clone()));
                }
            }
        }
        for (direction, (measure, threshold, level)) in fired {
            track.levels.iter_mut().filter(|((d, _), _)| *d == direction).for_each(|(_, l)| *l = Level::new(now));
            let target = Target { prefix, direction };
            self.crossed(host, target, group, measure, threshold, &level, now, events);
        }
        track.levels.retain(|_, level| !level.is_empty());
        if !track.levels.is_empty() {
            self.tracks.insert(host, track);
        }
    }

    /// A threshold was crossed with certainty: a new attack, or one that goes on in spite of its filters.
    #[allow(clippy::too_many_arguments, reason = "one call, all of one event")]
    fn crossed(
        &mut self,
        host: HostId,
        target: Target,
        group: usize,
        measure: Measure,
        threshold: u64,
        level: &Level,
        now: Time,
        events: &mut Vec<Event>,
    ) {
        let limits = self.config.bucket;
        if let Some(attack) = self.attacks.get_mut(&target) {
            attack.last_crossing = now;
            attack.last_active = now;
            attack.crossing = Crossing { measure, threshold, evidence: level.evidence(now) };
            attack.over_since.get_or_insert(level.since);
            if attack.bucket.is_none() && now >= attack.next_bucket {
                attack.bucket = Some(Bucket::new(now, &limits));
                events.push(Event::Residual(target));
                self.open_bucket(host, target, level.since);
            }
            return;
        }
        if self.attacks.len() >= MAX_ATTACKS {
            self.statistics.attacks_refused += 1;
            return;
        }
        self.statistics.alarms += 1;
        let evidence = level.evidence(now);
        let attack = Attack {
            target,
            group: self.config.groups[group].name.clone(),
            measure,
            crossing: Crossing { measure, threshold, evidence },
            threshold,
            evidence,
            started: level.since,
            detected: now,
            packets_per_second: 0,
            bytes_per_second: 0,
            peak_packets_per_second: 0,
            peak_bytes_per_second: 0,
            over_since: Some(level.since),
            bucket: Some(Bucket::new(now, &limits)),
            filters: Vec::new(),
            last_crossing: now,
            last_active: now,
            next_bucket: now,
            fruitless: 0,
            rates: Rates::default(),
        };
        self.attacks.insert(target, attack);
        events.push(Event::Alarm(target));
        self.open_bucket(host, target, level.since);
    }

    /// Asks every worker for what it remembers of the target and for what comes.
    fn open_bucket(&mut self, host: HostId, target: Target, since: Time) {
        let limit = self.config.bucket.mirror_samples.max(MAX_RECORDS).saturating_mul(2);
        for remote in &mut self.remotes {
            // A full ring loses the look-back only; the bucket then fills from live traffic.
            remote.send(Command::LookBack { host, target, since, limit });
            remote.shard.line(host).watch.fetch_or(WATCH_CAPTURE, Ordering::Release);
        }
    }

    fn close_capture(&self, target: Target) {
        let Some(host) = self.host_id(target.prefix) else { return };
        let other_open = self.attacks.get(&other_direction(target)).is_some_and(|a| a.bucket.is_some());
        if !other_open {
            for remote in &self.remotes {
                remote.shard.line(host).watch.fetch_and(!WATCH_CAPTURE, Ordering::Release);
            }
        }
    }

    /// Takes what workers captured into the open buckets; cheap, so call it often while [`Detector::is_collecting`].
    pub fn collect(&mut self, now: Time) -> Vec<Event> {
        let limits = self.config.bucket;
        for remote in &mut self.remotes {
            while let Ok(sample) = remote.captured.pop() {
                // Both directions of a host go into its bucket; one host at both ends is one sample.
                let ends = if sample.destination == sample.source { 1 } else { 2 };
                for bits in [sample.destination, sample.source].into_iter().take(ends) {
                    let prefix = Prefix::host_of(sample.version, bits);
                    for target in Direction::ALL.map(|direction| Target { prefix, direction }) {
                        let Some(attack) = self.attacks.get_mut(&target) else { continue };
                        let counts = attack.counts_in_bucket(&sample, &limits);
                        if let Some(bucket) = &mut attack.bucket {
                            bucket.add(&sample, counts, &limits);
                        }
                    }
                }
            }
        }
        let mut events = Vec::new();
        let mut closed = Vec::new();
        for (target, attack) in &mut self.attacks {
            let Some(bucket) = attack
                .bucket
                .take_if(|b| b.is_full(now) || (!self.silent && now.since(b.opened) >= limits.collection_timeout))
            else {
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

    /// Updates the rates of attacks and ends those that have faded.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates for people and a hysteresis; float to integer casts saturate"
    )]
    fn fade(&mut self, now: Time, span: Duration, deltas: &BTreeMap<HostId, Delta>, events: &mut Vec<Event>) {
        let seconds = span.as_secs_f64();
        let keep = (-seconds).exp();
        let mut over = Vec::new();
        for (target, attack) in &mut self.attacks {
            let host = self.hosts.find(target.prefix.version(), target.prefix.bits());
            let delta = if let Lookup::Host(host) = host { deltas.get(&host) } else { None };
            let d = target.direction as usize;
            let hits = attack.filters.iter().fold((0u64, 0u64), |sum, f| {
                let hits = f.hits();
                (sum.0.wrapping_add(hits.0), sum.1.wrapping_add(hits.1))
            });
            let filtered =
                (hits.0.saturating_sub(attack.rates.filter_hits.0), hits.1.saturating_sub(attack.rates.filter_hits.1));
            attack.rates.filter_hits = hits;
            let ewma = |rate: &mut f64, units: u64| *rate = *rate * keep + units as f64 / seconds * (1.0 - keep);
            let seen = |f: fn(&Delta, usize) -> u64| delta.map_or(0, |delta| f(delta, d));
            ewma(&mut attack.rates.packets, seen(|x, d| x.totals.packets[d]) + filtered.0);
            ewma(&mut attack.rates.bytes, seen(|x, d| x.totals.bytes[d]) + filtered.1);
            let measured = delta.map_or(0, |delta| delta.units(target.direction, attack.measure));
            let of_filters = match attack.measure.unit {
                Unit::Packets => filtered.0,
                Unit::Bytes => filtered.1,
                Unit::Flows => 0,
            };
            ewma(&mut attack.rates.units, measured + of_filters);
            attack.packets_per_second = attack.rates.packets as u64;
            attack.bytes_per_second = attack.rates.bytes as u64;
            attack.peak_packets_per_second = attack.peak_packets_per_second.max(attack.packets_per_second);
            attack.peak_bytes_per_second = attack.peak_bytes_per_second.max(attack.bytes_per_second);
            if self.silent {
                attack.last_active = attack.last_active.after(span);
            }
            if attack.rates.units >= attack.threshold as f64 * CLEAR_SHARE {
                attack.last_active = now;
            }
            if now.since(attack.last_crossing) > UNBROKEN {
                attack.over_since = None;
            }
            if now.since(attack.last_active) >= self.config.clear_after {
                over.push(*target);
            }
        }
        for target in over {
            self.end(target, events);
        }
    }

    /// Ends an attack.
    fn end(&mut self, target: Target, events: &mut Vec<Event>) {
        self.set_filters(target, Vec::new());
        if let Some(mut attack) = self.attacks.remove(&target) {
            self.close_capture(target);
            if let Some(bucket) = attack.bucket.take() {
                self.statistics.orphaned += 1;
                events.push(Event::Orphaned(target, bucket));
            }
            events.push(Event::Over(Box::new(attack)));
        }
    }

    /// Says whether a bucket led to a rule. If not, the next one is opened later each time: the traffic will hardly have changed.
    pub fn mined(&mut self, now: Time, target: Target, found: bool) {
        let Some(attack) = self.attacks.get_mut(&target) else { return };
        attack.fruitless = if found { 0 } else { (attack.fruitless + 1).min(LONGEST_FRUITLESS) };
        let wait = if found { Duration::ZERO } else { Duration::from_secs(1 << attack.fruitless.saturating_sub(1)) };
        attack.next_bucket = now.after(wait);
    }

    /// Puts filters into force for a target in place of its earlier ones: what they match is no longer counted for it.
    pub fn set_filters(&mut self, target: Target, filters: Vec<Arc<Filter>>) {
        let Some(attack) = self.attacks.get_mut(&target) else { return };
        attack.rates.filter_hits = filters.iter().fold((0, 0), |sum, f| {
            let hits = f.hits();
            (sum.0 + hits.0, sum.1 + hits.1)
        });
        attack.filters = filters;
        // What is left has to cross the threshold anew.
        attack.over_since = None;
        let Some(host) = self.host_id(target.prefix) else { return };
        // Both directions of a host share its line.
        let all: Arc<[Arc<Filter>]> = Direction::ALL
            .iter()
            .filter_map(|&direction| self.attacks.get(&Target { direction, ..target }))
            .flat_map(|a| a.filters.iter().cloned())
            .collect();
        for remote in &mut self.remotes {
            let empty = all.is_empty();
            // A full ring cannot happen with one command per filter change and a worker that serves every 20 ms; if it does,
            // the worker goes on counting what it should not, which errs towards detecting.
            let sent = remote.send(Command::Filters(host, Arc::clone(&all)));
            let watch = &remote.shard.line(host).watch;
            if sent && !empty {
                watch.fetch_or(WATCH_FILTERS, Ordering::Release);
            } else if empty {
                watch.fetch_and(!WATCH_FILTERS, Ordering::Release);
            }
        }
        let sent = self.remotes.iter().map(Remote::sent).collect();
        self.settling.insert(host, Settling { sent, since: self.last.unwrap_or_default() });
        if let Some(track) = self.tracks.get_mut(&host) {
            track.levels.retain(|(direction, _), _| *direction != target.direction);
        }
    }

    /// Hosts whose filters every worker has taken over by now. What the current tick counted may be older than that.
    fn settled(&self, now: Time) -> Vec<HostId> {
        let has_settled = |s: &Settling| {
            now.since(s.since) >= LONGEST_SETTLING || self.remotes.iter().zip(&s.sent).all(|(r, n)| r.has_served(*n))
        };
        self.settling.iter().filter(|(_, s)| has_settled(s)).map(|(host, _)| *host).collect()
    }

    /// Attacks in progress.
    #[must_use]
    pub const fn attacks(&self) -> &BTreeMap<Target, Attack> {
        &self.attacks
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

    /// What the detector has seen.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }
}

/// A cheap first look: whether any measure can be over the lowest threshold there is.
fn may_be_over(lowest: &[[u64; 2]; 2], delta: &Delta, span: Duration) -> bool {
    let over = |units: u64, threshold: u64| u128::from(units) * 1_000_000_000 > u128::from(threshold) * span.as_nanos();
    delta.classes.is_some()
        || (0..2).any(|d| over(delta.totals.packets[d], lowest[d][0]) || over(delta.totals.bytes[d], lowest[d][1]))
}

fn difference(now: &Totals, before: &Totals) -> Totals {
    let sub = |f: fn(&Totals) -> [u64; 2]| [0, 1].map(|d| f(now)[d].wrapping_sub(f(before)[d]));
    Totals {
        packets: sub(|t| t.packets),
        bytes: sub(|t| t.bytes),
        observed: [0, 1].map(|d| now.observed[d].wrapping_sub(before.observed[d])),
    }
}

/// What the classes of a host grew by; `None` if no shard has class counters for it.
fn read_classes(remotes: &[Remote], previous: &mut BTreeMap<HostId, Classes>, host: HostId) -> Option<Classes> {
    let mut classes = Classes::default();
    let found = remotes.iter().filter(|r| r.shard.read_classes(host, &mut classes)).count() > 0;
    if !found {
        return None;
    }
    let before = previous.insert(host, classes).unwrap_or_default();
    for d in 0..2 {
        for class in 0..classes.packets.len() {
            classes.packets[class][d] = classes.packets[class][d].wrapping_sub(before.packets[class][d]);
            classes.bytes[class][d] = classes.bytes[class][d].wrapping_sub(before.bytes[class][d]);
        }
        classes.flows[d] = classes.flows[d].wrapping_sub(before.flows[d]);
    }
    Some(classes)
}

/// The lowest threshold of a measure over all groups; `u64::MAX` if none has it.
fn lowest(config: &Config, direction: Direction, measure: Measure) -> u64 {
    config.groups.iter().filter_map(|g| g.thresholds.get(&(direction, measure))).min().copied().unwrap_or(u64::MAX)
}

/// How meters count under these thresholds: class counters start well below the smallest class threshold (decision 24).
fn meter_config(config: &Config, workers: usize) -> MeterConfig {
    let smallest = |wanted: &dyn Fn(&Measure) -> bool| -> Option<u64> {
        let of = |t: &Thresholds| t.iter().filter(|((_, m), _)| wanted(m)).map(|(_, v)| *v).min();
        config.groups.iter().filter_map(|g| of(&g.thresholds)).min()
    };
    let needs_spill = |m: &Measure| m.class != Class::Total || m.unit == Unit::Flows;
    let share = |v: Option<u64>, unit: u64| {
        u32::try_from(v.map_or(u64::MAX, |v| v / 8 / workers as u64 / unit)).unwrap_or(u32::MAX)
    };
    let packets = smallest(&|m| needs_spill(m) && m.unit != Unit::Bytes);
    let bytes = smallest(&|m| needs_spill(m) && m.unit == Unit::Bytes);
    let spill = (packets.is_some() || bytes.is_some())
        .then(|| SpillTrip { packets: share(packets, 1), bytes64: share(bytes, 64) });
    // A record is large from a tenth of a second's threshold on.
    let large = |unit: Unit| smallest(&|m| m.unit == unit).map_or(u64::MAX, |v| v / 10);
    MeterConfig {
        process: [config.process_incoming, config.process_outgoing],
        process_internal: config.process_internal,
        spill,
        spread_packets: large(Unit::Packets),
        spread_bytes: large(Unit::Bytes),
    }
}
