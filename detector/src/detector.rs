//! [`Detector`]: the control thread's side: reads the shards, finds who is over a threshold, collects buckets.
//!
//! [`Detector::step`] is called every 50 to 100 ms with the time as an argument. In each tick it looks only at hosts on the hot
//! list, at those that were over a threshold lately, and at cells that were written; every second it scans what has been
//! written since the second before, for averages and baselines. An idle installation costs nothing whatever its size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use traffic::{Direction, Networks, Prefix, Target, Time};

use crate::attack::{Attack, Event};
use crate::baseline::{Baselines, Memory};
use crate::checks::Checks;
use crate::config::{Config, Thresholds, Unit};
use crate::counters::{Counts, Hot, Layout, Shard, Totals, Trip};
use crate::exporters::Exporters;
use crate::hosts::{HostId, Hosts, Lookup};
use crate::life::Ended;
use crate::marks;
use crate::membership::Membership;
use crate::meter::{Meter, MeterConfig, Pulse, Remote};
use crate::prefixes::Prefixes;
use crate::scan::Scan;
use crate::tracks::Tracks;

mod alarms;
mod capture;
mod filters;
mod reconfigure;
mod view;
mod whitelisting;

pub use reconfigure::Reconfigured;
use whitelisting::whitelist;

/// Attacks at once at most; a further alarm is counted and tried again at the next tick.
pub const MAX_ATTACKS: usize = 10_000;
/// Without any telemetry for this long, time stands still for attacks (decision 7).
const SILENCE: Duration = Duration::from_secs(3);
/// After buckets without a rule, the next one is opened 1, 2, 4 ... 2^(n-1) seconds later.
const LONGEST_FRUITLESS: u32 = 7;
/// A host is forgotten when it has not been hot for this long: rhythms of exporters are learned within it.
const LINGER: Duration = Duration::from_secs(30);
/// A host that was suspect this recently teaches nothing: the second that is being learned may be that one.
const LATELY: Duration = Duration::from_secs(2);
/// An attack that has lasted this long is looked at with fewer samples than asked for.
const SCARCE: Duration = Duration::from_secs(3);
/// A worker that does not take a filter over for this long is not waited for.
const LONGEST_SETTLING: Duration = Duration::from_secs(1);
/// The tick that trip counts are made for.
const TICK_MS: u64 = 50;

/// What the detector itself has seen, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Alarms raised since the start.
    pub alarms: u64,
    /// Buckets that did not fill in time.
    pub orphaned: u64,
    /// Alarms not raised because [`MAX_ATTACKS`] were active.
    pub attacks_refused: u64,
    /// Hosts with traffic in the last full second.
    pub active_hosts: u64,
    /// Hosts that were looked at in the last tick.
    pub hot_hosts: u64,
    /// Hosts that could not be looked at: too many at once.
    pub tracks_refused: u64,
    /// IPv6 hosts that lost their counters after a long quiet.
    pub hosts_aged: u64,
}

/// A host on the hot list, with its counters in one worker's shard when the tick began, where that is known.
#[derive(Debug, Clone, Copy)]
struct Begin {
    host: HostId,
    worker: usize,
    totals: Option<Totals>,
}

/// New filters of a target on their way to the workers.
#[derive(Debug)]
struct Settling {
    /// Commands each worker has to have carried out.
    sent: Vec<u64>,
    since: Time,
}

/// Reads what workers counted, tick by tick: alarms, buckets, ends of attacks. The control thread owns it.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    hosts: Arc<Hosts>,
    layout: Layout,
    /// Per group, in force now.
    checks: Vec<Checks>,
    /// Whose alarms are silenced, per direction.
    silenced: [Networks; 2],
    /// When the next whitelist entry expires.
    whitelist_until: Option<Time>,
    pulse: Arc<Pulse>,
    remotes: Vec<Remote>,
    seed: u64,
    /// Shards that workers are leaving, since when; and what those before them counted.
    left: Vec<(Time, Arc<Shard>)>,
    base: Arc<Shard>,
    tracks: Tracks,
    prefixes: Prefixes,
    scan: Scan,
    baselines: Baselines,
    exporters: Exporters,
    attacks: BTreeMap<Target, Attack>,
    ended: Ended,
    settling: BTreeMap<Target, Settling>,
    hot_drops: u64,
    /// Whether hosts did not fit the hot list in the last tick.
    overflowed: bool,
    /// Hosts of this tick that are attacked or suspect, in their order, with what the tick added.
    noted: Vec<(HostId, Counts)>,
    /// The last three are kept for their memory.
    hot: Vec<Begin>,
    scratch: Counts,
    delta: Counts,
    last: Option<Time>,
    last_traffic: Time,
    traffic: u64,
    silent: bool,
    statistics: Statistics,
}

impl Detector {
    /// A detector and one meter per worker. `seed` keys the hash of IPv6 hosts; fixed in replays, random in the daemon.
    #[must_use]
    pub fn new(config: Config, workers: usize, seed: u64) -> (Self, Vec<Meter>) {
        let networks = Networks::new(&config.networks);
        let membership = Membership::new(&config.groups);
        let v6_lengths = &config.prefix_lengths.1;
        let hosts = Arc::new(Hosts::new(&networks, membership, v6_lengths, config.max_ipv6_hosts, seed));
        let pulse = Arc::new(Pulse::new());
        let meter_config = meter_config(&config, &hosts, workers);
        let whitelist = Arc::new(whitelist(&config, Time(0)));
        let make = |worker| {
            let (hosts, pulse) = (Arc::clone(&hosts), Arc::clone(&pulse));
            Meter::new(worker, meter_config.clone(), hosts, pulse, Arc::clone(&whitelist))
        };
        let (meters, remotes): (Vec<Meter>, Vec<Remote>) = (0..workers.max(1)).map(make).unzip();
        let layout = Layout::new(config.rules.len());
        let mut detector = Self {
            layout,
            checks: config.groups.iter().map(|g| Checks::new(&g.thresholds)).collect(),
            silenced: [Networks::default(), Networks::default()],
            whitelist_until: None,
            prefixes: Prefixes::new(&config, layout),
            scan: Scan::new(hosts.slab_capacity(), config.average),
            baselines: Baselines::new(config.learning, seed),
            config,
            hosts,
            pulse,
            remotes,
            seed,
            left: Vec::new(),
            base: Arc::new(Shard::new(0, 0, &[])),
            tracks: Tracks::default(),
            exporters: Exporters::default(),
            attacks: BTreeMap::new(),
            ended: Ended::default(),
            settling: BTreeMap::new(),
            hot_drops: 0,
            overflowed: false,
            noted: Vec::new(),
            hot: Vec::new(),
            scratch: Counts::zero(layout),
            delta: Counts::zero(layout),
            last: None,
            last_traffic: Time::default(),
            traffic: 0,
            silent: false,
            statistics: Statistics::default(),
        };
        detector.silence(Time(0));
        (detector, meters)
    }

    /// One tick: `now` must not go back; a step that does nothing but repeat the time is allowed.
    pub fn step(&mut self, now: Time) -> Vec<Event> {
        let Some(start) = self.last.replace(now) else {
            self.last_traffic = now;
            self.scan.begin(now);
            self.expire_whitelist(now);
            return Vec::new();
        };
        if now.since(start).is_zero() {
            return self.collect(now);
        }
        let mut events = self.collect(now);
        let ended = self.pulse.tick.load(Ordering::Relaxed);
        self.pulse.tick.store(ended.wrapping_add(1), Ordering::Release);
        self.remotes.iter_mut().for_each(Remote::deliver);
        self.fold_shards(now);
        let unsettled = self.settle(now);
        self.expire_whitelist(now);
        self.learn(now, &mut events);
        self.register_cells(now);
        let hot = self.hot_hosts(ended);
        self.read_hosts(ended, start, now, &hot);
        self.hot = hot;
        unsettled.iter().for_each(|target| self.restart(*target, now));
        self.evaluate_hosts(now, &mut events);
        self.evaluate_prefixes(ended, start, now, &unsettled, &mut events);
        self.watch_silence(now, &mut events);
        self.advance_attacks(now, now.since(start), &mut events);
        self.scan_if_due(now);
        events
    }

    /// Takes in new cells; those of attacked prefixes are watched from now on.
    fn register_cells(&mut self, now: Time) {
        let new = self.prefixes.register(&self.config, &self.hosts, now);
        if new.is_empty() {
            return;
        }
        let wide: Vec<Target> = self.attacks.keys().filter(|t| !t.prefix.is_host()).copied().collect();
        for target in wide.into_iter().filter(|t| new.iter().any(|(_, p)| p.overlaps(&t.prefix))) {
            self.watch_prefix(target.prefix);
        }
    }

    /// The hosts to look at, sorted, each with what its shards' counters were when the tick began, where that is known.
    fn hot_hosts(&mut self, tick: u32) -> Vec<Begin> {
        let mut hot = std::mem::take(&mut self.hot);
        hot.clear();
        let mut drops = 0;
        for (worker, remote) in self.remotes.iter_mut().enumerate() {
            while let Ok(Hot { host, begin }) = remote.hot.pop() {
                hot.push(Begin { host, worker, totals: Some(begin) });
            }
            drops += remote.shard.hot_drops.load(Ordering::Relaxed);
        }
        self.overflowed = drops != self.hot_drops;
        if self.overflowed {
            // Too many at once for the ring: whoever was written in this tick may be over its threshold.
            self.hot_drops = drops;
            hot.extend(self.written_since(tick).map(|host| Begin { host, worker: usize::MAX, totals: None }));
        }
        // A host may have passed several trip counts: the first of each worker stays, they are all about one moment.
        hot.sort_unstable_by_key(|b| (b.host, b.worker));
        hot.dedup_by_key(|b| (b.host, b.worker));
        hot
    }

    /// The hosts that were written in a tick, of the present round or the one before, or later.
    fn written_since(&self, tick: u32) -> impl Iterator<Item = HostId> {
        let round = self.pulse.beat().round;
        (0..self.hosts.slab_count()).flat_map(move |slab| {
            let shards = || self.remotes.iter().map(|r| &r.shard);
            let marked = shards().flat_map(|s| [s.marked(slab, round), s.marked(slab, round.wrapping_sub(1))]);
            let all = marked.fold([0; 4], marks::or);
            let hosts = marks::places(all).map(move |place| marks::host_at(slab, place));
            hosts.filter(move |host| shards().any(|s| s.written_since(*host, tick)))
        })
    }

    /// Reads the hot hosts and those still active, and adds the tick to their levels. A host is looked at once: what comes after
    /// is about the noted ones alone.
    fn read_hosts(&mut self, tick: u32, start: Time, now: Time, hot: &[Begin]) {
        let mut hosts = std::mem::take(&mut self.tracks.active);
        hosts.extend(hot.iter().map(|b| b.host));
        hosts.sort_unstable();
        hosts.dedup();
        let attacked = self.attacked_hosts();
        self.noted.clear();
        let mut looked = 0;
        let mut rest = hot;
        hosts.retain(|host| {
            // Both are sorted: what is about this host stands in front.
            rest = &rest[rest.iter().take_while(|b| b.host < *host).count()..];
            let begins = &rest[..rest.iter().take_while(|b| b.host == *host).count()];
            if !self.read_host(*host, tick, now, begins) {
                return false;
            }
            looked += 1;
            let is_attacked = attacked.binary_search(host).is_ok();
            let left = if is_attacked { self.left_of(*host) } else { None };
            let Some(track) = self.tracks.get_mut(*host) else { return false };
            let checks = &self.checks[track.group];
            track.levels.add(checks, start, now, Some(left.as_ref().unwrap_or(&self.delta)));
            let tolerance = self.config.burst_tolerance;
            let suspect_since = track.levels.suspect_since(checks, tolerance);
            let is_noted = is_attacked || suspect_since.is_some();
            if is_noted {
                track.last_suspect = Some(now);
                self.noted.push((*host, self.delta.clone()));
            }
            // What was learned before the excess was noticed; under attack it has been forgotten at the alarm.
            if let Some(since) = suspect_since
                && !is_attacked
                && let Some(own) = self.hosts.prefix(*host)
            {
                self.baselines.forget_host(own, since);
            }
            // After an overflow the next tick is the first that is known from its beginning.
            is_noted || !track.levels.is_empty() || (self.overflowed && track.last_hot == now)
        });
        self.statistics.hot_hosts = looked;
        self.statistics.tracks_refused = self.tracks.refused;
        self.tracks.active = hosts;
    }

    /// Of what a tick added to a host, what withheld filters would leave over; `None` where that is all.
    fn left_of(&mut self, host: HostId) -> Option<Counts> {
        let prefix = self.hosts.prefix(host)?;
        let mut left = None;
        for direction in Direction::ALL {
            let attack = self.attacks.get_mut(&Target { prefix, direction });
            if let Some(aside) = attack.and_then(|a| a.take_aside(self.layout)) {
                left.get_or_insert_with(|| self.delta.clone()).subtract(&aside, direction);
            }
        }
        left
    }

    /// Puts what a tick added to a host into `delta`; false when the host is one too many.
    fn read_host(&mut self, host: HostId, tick: u32, now: Time, begins: &[Begin]) -> bool {
        let Self { hosts, remotes, tracks, checks, layout, scratch, delta, .. } = self;
        let group = || hosts.prefix(host).map_or(0, |p| hosts.membership().group_of(p.version(), p.bits()));
        let Some(track) = tracks.of(host, *layout, now, group, checks) else { return false };
        if !begins.is_empty() {
            track.last_hot = now;
        }
        if track.tick != tick.wrapping_sub(1) {
            // It was not looked at when the tick began.
            track.reading.clear();
            for (worker, remote) in remotes.iter().enumerate() {
                let begin = begins.iter().find(|b| b.worker == worker).and_then(|b| b.totals.as_ref());
                remote.shard.read_begin(host, tick, begin, &mut track.reading);
            }
        }
        track.tick = tick;
        scratch.clear();
        remotes.iter().for_each(|r| r.shard.read_host(host, scratch));
        delta.copy_from(scratch);
        delta.since(&track.reading);
        std::mem::swap(&mut track.reading, scratch);
        true
    }

    /// Own hosts under attack, sorted.
    fn attacked_hosts(&self) -> Vec<HostId> {
        let mut attacked: Vec<HostId> = self.attacks.keys().filter_map(|t| self.host_of(*t)).collect();
        attacked.sort_unstable();
        attacked
    }

    fn host_of(&self, target: Target) -> Option<HostId> {
        if target.prefix.is_host() { self.host_id(target.prefix) } else { None }
    }

    fn host_id(&self, prefix: Prefix) -> Option<HostId> {
        match self.hosts.find(prefix.version(), prefix.bits()) {
            Lookup::Host(host) => Some(host),
            Lookup::Foreign | Lookup::Full(_) => None,
        }
    }

    /// Notices when nothing arrives at all.
    fn watch_silence(&mut self, now: Time, events: &mut Vec<Event>) {
        let all =
            |s: &Shard| [&s.incoming, &s.outgoing, &s.internal, &s.other].map(|t| t.packets.load(Ordering::Relaxed));
        let traffic = self.remotes.iter().flat_map(|r| all(&r.shard)).fold(0u64, u64::wrapping_add);
        if traffic != self.traffic {
            (self.traffic, self.last_traffic) = (traffic, now);
        }
        let silent = now.since(self.last_traffic) > SILENCE;
        if silent != self.silent && !(silent && self.attacks.is_empty()) {
            self.silent = silent;
            events.push(if silent { Event::Silence } else { Event::SilenceOver });
        }
    }

    /// Once a second: averages of all hosts, baselines, and what has to be forgotten. The round that ends is read a tick later, when
    /// no worker is in the middle of a batch of it.
    fn scan_if_due(&mut self, now: Time) {
        if self.scan.closes(now, self.pulse.beat().round) {
            return self.pulse.next_round();
        }
        let Some(round) = self.scan.take_due() else { return };
        let attacked: Vec<Prefix> = self.attacks.keys().map(|t| t.prefix).collect();
        let shards: Vec<&Shard> = self.remotes.iter().map(|r| &*r.shard).collect();
        let seconds = self.scan.seconds(now);
        // The round is over since a tick, and was hardly longer than a second.
        let is_suspect =
            |host| self.tracks.get(host).and_then(|t| t.last_suspect).is_some_and(|at| now.since(at) < LATELY);
        let taught = |host, own: &Prefix| !attacked.iter().any(|p| p.contains(own)) && !is_suspect(host);
        let active = self.scan.run(now, round, &self.hosts, &shards, taught, &self.config, &mut self.baselines);
        self.statistics.active_hosts = active;
        if self.config.learning.is_on {
            self.prefixes.learn(now, seconds, &attacked, &mut self.baselines);
        }
        self.statistics.hosts_aged += self.scan.age(now, &self.hosts, &attacked);
        let tracks = std::mem::take(&mut self.tracks.active);
        let is_active = |host: HostId| tracks.binary_search(&host).is_ok();
        self.tracks.retain(|t| is_active(t.host) || now.since(t.last_hot) < LINGER);
        self.tracks.active = tracks;
        self.adapt(now);
    }

    /// Raises thresholds to what is usual, inside the operator's bounds (`adaptive_thresholds_percent`).
    fn adapt(&mut self, now: Time) {
        let learning = self.config.learning;
        if learning.adaptive_percent == 0 || !self.scan.is_minute() {
            return;
        }
        for (checks, group) in self.checks.iter_mut().zip(&self.config.groups) {
            for check in &mut checks.0 {
                let Some(configured) = group.thresholds.get(&(check.direction, check.measure)) else { continue };
                let usual = self.baselines.usual_host(now, &group.name, check.direction, check.measure.unit);
                let is_total = check.measure.class == crate::Class::Total;
                let wanted =
                    usual.filter(|_| is_total).map_or(0, |u| u.saturating_mul(learning.adaptive_percent) / 100);
                let most = configured.saturating_mul(learning.adaptive_limit);
                check.threshold = wanted.clamp(*configured, most.max(*configured));
            }
        }
        self.prefixes.adapt(&self.config, &self.baselines);
    }

    /// Says whether a bucket led to a rule. If not, the next one is opened later each time: the traffic will hardly have changed.
    pub fn mined(&mut self, now: Time, target: Target, found: bool) {
        let Some(attack) = self.attacks.get_mut(&target) else { return };
        attack.fruitless = if found { 0 } else { (attack.fruitless + 1).min(LONGEST_FRUITLESS) };
        let wait = if found { Duration::ZERO } else { Duration::from_secs(1 << attack.fruitless.saturating_sub(1)) };
        attack.next_bucket = now.after(wait);
    }

    /// The rates that exporters' own counters contradict at present, as (exporter's number in samples, N of the announced 1:N), and
    /// N as they show it. It holds until it is set anew.
    pub fn doubt_rates(&mut self, measured: BTreeMap<(u16, u32), u32>) {
        self.exporters.set_measured(measured);
    }

    /// Takes up what an earlier run learned, as far as its hosts and groups are still configured.
    pub fn remember(&mut self, now: Time, memory: Memory) {
        let networks = &self.config.networks;
        let groups = &self.config.groups;
        let is_ours = |prefix: &Prefix| networks.iter().any(|n| n.contains(prefix) || prefix.contains(n));
        self.baselines.remember(memory, now, is_ours, |group| groups.iter().any(|g| g.name == group));
    }
}

const fn other(target: Target) -> Target {
    crate::attack::other_direction(target)
}

/// How meters count under these thresholds: the trip count of a host is below its smallest threshold, shared by the workers.
fn meter_config(config: &Config, hosts: &Hosts, workers: usize) -> MeterConfig {
    let workers = workers.max(1);
    let smallest = |thresholds: &Thresholds, is_bytes: bool| -> Option<u64> {
        let of = thresholds.iter().filter(|((_, m), _)| (m.unit == Unit::Bytes) == is_bytes);
        of.map(|(_, v)| *v).min()
    };
    // Four fifths of what the threshold allows in a tick: steady traffic at half the threshold never trips.
    let share = |per_second: Option<u64>| {
        let per_tick = per_second.map(|v| v.saturating_mul(TICK_MS) / 1250 / workers as u64);
        per_tick.map_or(u32::MAX, |v| u32::try_from(v.max(1)).unwrap_or(u32::MAX))
    };
    let trip = |kind: &crate::membership::Kind| {
        let thresholds = &config.groups[kind.group].thresholds;
        Trip {
            packets: share(smallest(thresholds, false)),
            bytes: share(smallest(thresholds, true)),
            is_on: !thresholds.is_empty(),
        }
    };
    // A record is large from a tenth of a second's threshold on.
    let large = |is_bytes: bool| {
        config.groups.iter().filter_map(|g| smallest(&g.thresholds, is_bytes)).min().map_or(u64::MAX, |v| v / 10)
    };
    let trips: Arc<[Trip]> = hosts.membership().kinds().iter().map(trip).collect();
    let has_sums =
        |g: &crate::HostGroup| g.is_total || !(g.prefix_thresholds.is_empty() && g.network_thresholds.is_empty());
    MeterConfig {
        cells: config.groups.iter().any(has_sums) || trips.iter().any(|t| *t != trips[0]),
        process: [config.process_incoming, config.process_outgoing],
        process_internal: config.process_internal,
        trips,
        spread_packets: large(false),
        spread_bytes: large(true),
        rules: config.rules.as_slice().into(),
        learns: true,
    }
}
