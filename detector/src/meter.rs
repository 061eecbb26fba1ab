//! [`Meter`]: the worker's side of the detector, and the hot path.
//!
//! For each sample: find the own host, add to its line and its cell in this worker's shard, keep the sample in the look-back
//! ring, and hand it to the control thread if the host is being captured. A host that passes its trip count in a tick is put
//! on the hot list, so that the control thread need not look at all hosts. No lock, allocation, log or clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use collectors::sys::prefetch;
use collectors::{Sample, Time};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::config::TrafficRule;
use crate::counters::{CellLine, Hot, Shard, Trip, WATCH_CAPTURE, WATCH_FILTERS, bump};
use crate::hosts::{CellId, HostId, Hosts, Lookup};
use crate::networks::Networks;
use crate::pattern::{Match, Pattern};
use crate::routers::{Routers, SharedRouters};
use crate::spread::Spread;
use crate::target::{Direction, Target};

/// Samples on their way to the control thread, per worker; more are dropped and counted.
const CAPTURE_RING: usize = 1 << 13;
/// Requests on their way to a worker.
const COMMAND_RING: usize = 1 << 10;
/// Samples that are looked up, and whose counters are fetched, before the first of them is counted.
const GROUP: usize = 64;
/// Places of the look-back ring that are fetched ahead.
const LOOK_AHEAD: usize = 6;
/// Hosts over their trip count on their way to the control thread, per worker; when more pass theirs in a tick, the control
/// thread looks at every host.
const HOT_RING: usize = 1 << 16;
/// Samples of ordinary traffic on their way to the control thread, per worker and second at most.
const ORDINARY_PER_SECOND: u32 = 1000;
/// Recent samples kept per worker (6 MiB), so that a bucket can be filled at the moment of the alarm.
const LOOK_BACK: usize = 1 << 16;

/// Packets and bytes per worker, each with one writer.
type Hits = Box<[(AtomicU64, AtomicU64)]>;

/// Traffic of a target that is filtered elsewhere: excluded from the target's counters, counted here.
#[derive(Debug)]
pub struct Filter {
    /// What is filtered.
    pub pattern: Pattern,
    /// Where (decision 8).
    holders: SharedRouters,
    /// What matched there.
    hits: Hits,
    /// What matched elsewhere: the target has it still.
    passed: Hits,
}

impl Filter {
    /// For a number of workers, in force at every router.
    #[must_use]
    pub fn new(pattern: Pattern, workers: usize) -> Self {
        let none = || (0..workers).map(|_| Default::default()).collect();
        Self { pattern, holders: SharedRouters::new(Routers::ALL), hits: none(), passed: none() }
    }

    /// From now on it is in force at these routers alone.
    pub fn set_holders(&self, routers: Routers) {
        self.holders.set(routers);
    }

    /// Whether the sample is certainly taken out where its exporter stands.
    fn takes(&self, sample: &Sample) -> bool {
        self.holders.get().include(sample.router) && self.pattern.matches(sample) == Match::Yes
    }

    /// The same filter, with the same hits, for another number of workers; none of them may still count for the old one.
    #[must_use]
    pub fn grown(&self, workers: usize) -> Self {
        let grown = Self::new(self.pattern.clone(), workers.max(1));
        grown.set_holders(self.holders.get());
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

    /// Packets and bytes that matched at routers where it is not in force.
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

/// What the control thread asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// From now on these filters apply to the host, in place of earlier ones.
    Filters(HostId, Arc<[Arc<Filter>]>),
    /// From now on these filters apply to targets wider than a host, in place of earlier ones.
    PrefixFilters(PrefixFilters),
    /// Send the newest `limit` look-back samples of the target, no older than `since`.
    LookBack { target: Target, since: Time, limit: usize },
    /// What is whitelisted changed.
    Whitelist(Arc<Whitelist>),
    /// Count this way from now on.
    Configure(MeterConfig),
    /// Go on as this meter: hosts have new indices. Commands behind this one are for nobody.
    Become(Box<Meter>),
}

/// Traffic that is not counted for anybody.
#[derive(Debug, Default)]
pub(crate) struct Whitelist {
    /// Per direction: remote networks that are whitelisted without further conditions.
    pub(crate) remote: [Networks; 2],
    pub(crate) others: Vec<crate::config::Whitelisted>,
}

impl Whitelist {
    fn is_empty(&self) -> bool {
        self.others.is_empty() && self.remote.iter().all(|n| n.prefixes().is_empty())
    }

    /// Whether a sample of a host is whitelisted; certain matches only (decision 9).
    fn contains(&self, direction: Direction, sample: &Sample) -> bool {
        let (own, remote) = match direction {
            Direction::Incoming => (sample.destination, sample.source),
            Direction::Outgoing => (sample.source, sample.destination),
        };
        let among = |list: &[crate::target::Prefix], bits: u128| {
            list.is_empty() || list.iter().any(|p| p.contains_bits(sample.version, bits))
        };
        self.remote[direction as usize].find(sample.version, remote).is_some()
            || self.others.iter().any(|entry| {
                entry.direction.is_none_or(|d| d == direction)
                    && among(&entry.networks, own)
                    && among(&entry.remote, remote)
                    && entry.pattern.as_ref().is_none_or(|p| p.matches(sample) == Match::Yes)
            })
    }
}

/// The ring of recent samples of own hosts.
#[derive(Debug)]
struct LookBack {
    samples: Vec<Sample>,
    next: usize,
}

impl LookBack {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() < LOOK_BACK {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
        }
        self.next = (self.next + 1) % LOOK_BACK;
        // The ring is larger than the nearer caches: the places of the next few samples are fetched ahead.
        if let Some(later) = self.samples.get(self.next + LOOK_AHEAD) {
            prefetch(&later.source);
            prefetch(&later.origin);
        }
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = &Sample> {
        let (new, old) = self.samples.split_at(self.next.min(self.samples.len()));
        new.iter().rev().chain(old.iter().rev())
    }
}

/// What workers and the control thread share besides the shards.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// The control thread's tick number.
    pub(crate) tick: AtomicU32,
}

/// How a meter counts.
#[derive(Debug, Clone)]
pub(crate) struct MeterConfig {
    pub(crate) process: [bool; 2],
    pub(crate) process_internal: bool,
    /// Per kind of host.
    pub(crate) trips: Arc<[Trip]>,
    /// Records of more than this many packets or bytes are spread over their duration.
    pub(crate) spread_packets: u64,
    pub(crate) spread_bytes: u64,
    pub(crate) rules: Arc<[TrafficRule]>,
    pub(crate) learns: bool,
}

impl MeterConfig {
    #[inline]
    fn trip(&self, kind: u32) -> Trip {
        self.trips.get(kind as usize).copied().unwrap_or(Trip { packets: u32::MAX, bytes: u32::MAX, is_on: false })
    }
}

/// Which samples are told to the control thread as ordinary traffic: every n-th, so that about [`ORDINARY_PER_SECOND`] are.
#[derive(Debug, Default)]
struct Selection {
    stride: u32,
    left: u32,
    seen: u32,
    until: Time,
}

impl Selection {
    #[inline]
    fn takes(&mut self, time: Time) -> bool {
        self.seen = self.seen.saturating_add(1);
        if time >= self.until {
            self.stride = (self.seen / ORDINARY_PER_SECOND).max(1);
            (self.seen, self.until) = (0, time.after(std::time::Duration::from_secs(1)));
        }
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        // In the first second the stride is not known yet.
        self.left = self.stride.max(self.seen / ORDINARY_PER_SECOND + 1) - 1;
        true
    }
}

/// The filters in force.
#[derive(Debug)]
struct Filtering {
    worker: usize,
    hosts: BTreeMap<HostId, Arc<[Arc<Filter>]>>,
    prefixes: PrefixFilters,
}

impl Filtering {
    /// Whether a filter in force takes the sample out of the host's counts; certain matches only (decision 9).
    fn takes(&self, shard: &Shard, host: Option<HostId>, sample: &Sample) -> bool {
        fn matching<'a>(filters: &'a [Arc<Filter>], sample: &Sample) -> Option<&'a Arc<Filter>> {
            filters.iter().find(|f| f.pattern.matches(sample) == Match::Yes)
        }
        let of_host = host.and_then(|host| matching(self.hosts.get(&host)?, sample));
        let covering = || self.prefixes.iter().filter(|(target, _)| target.covers(sample));
        let Some(filter) = of_host.or_else(|| covering().find_map(|(_, f)| matching(f, sample))) else { return false };
        let is_in_force = filter.holders.get().include(sample.router);
        let hits = if is_in_force { &filter.hits } else { &filter.passed };
        // A worker that came later than the filter has its hits counted once the filter has grown.
        if let Some((packets, bytes)) = hits.get(self.worker) {
            bump(packets, sample.packets);
            bump(bytes, sample.bytes);
        }
        if is_in_force {
            shard.filtered.count(sample);
        }
        is_in_force
    }
}

#[inline]
fn cell_line<'a>(shard: &'a Shard, hosts: &Hosts, cell: CellId) -> &'a CellLine {
    // A cell is known before any host refers to it.
    shard.cell(cell, || hosts.cell(cell).map_or(0, |c| c.kind))
}

fn push_hot(shard: &Shard, ring: &mut Producer<Hot>, hot: Hot) {
    if ring.push(hot).is_err() {
        bump(&shard.hot_drops, 1);
    }
}

/// One worker's counting. `Send`, not shared.
#[derive(Debug)]
pub struct Meter {
    config: MeterConfig,
    hosts: Arc<Hosts>,
    shard: Arc<Shard>,
    pulse: Arc<Pulse>,
    commands: Consumer<Command>,
    served: Arc<AtomicU64>,
    captured: Producer<Sample>,
    hot: Producer<Hot>,
    ordinary: Producer<Sample>,
    selection: Selection,
    filtering: Filtering,
    whitelist: Arc<Whitelist>,
    look_back: LookBack,
    spread: Spread,
}

/// The control thread's end of a worker's rings.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) shard: Arc<Shard>,
    commands: Producer<Command>,
    /// Commands sent so far, and how many of them the worker has carried out.
    sent: u64,
    served: Arc<AtomicU64>,
    pub(crate) captured: Consumer<Sample>,
    pub(crate) hot: Consumer<Hot>,
    pub(crate) ordinary: Consumer<Sample>,
    /// A configuration that its ring had no room for.
    undelivered: Option<MeterConfig>,
}

impl Remote {
    /// Whether the worker is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.commands.is_abandoned()
    }

    /// Has the worker count another way.
    pub(crate) fn configure(&mut self, config: MeterConfig) {
        self.undelivered = Some(config);
        self.deliver();
    }

    /// Tries again what did not fit.
    pub(crate) fn deliver(&mut self) {
        if let Some(config) = self.undelivered.clone()
            && (self.send(Command::Configure(config)) || self.is_abandoned())
        {
            self.undelivered = None;
        }
    }

    /// Asks something of the worker; false if its ring is full.
    pub(crate) fn send(&mut self, command: Command) -> bool {
        let sent = self.commands.push(command).is_ok();
        self.sent += u64::from(sent);
        sent
    }

    /// Commands sent so far.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the worker has carried out the first `commands` of them.
    pub(crate) fn has_served(&self, commands: u64) -> bool {
        self.served.load(Ordering::Acquire) >= commands
    }
}

impl Meter {
    pub(crate) fn new(
        worker: usize,
        config: MeterConfig,
        hosts: Arc<Hosts>,
        pulse: Arc<Pulse>,
        whitelist: Arc<Whitelist>,
    ) -> (Self, Remote) {
        let shard = Arc::new(Shard::new(hosts.slab_capacity(), hosts.cell_capacity(), &config.rules));
        let (commands_in, commands) = RingBuffer::new(COMMAND_RING);
        let (captured, captured_out) = RingBuffer::new(CAPTURE_RING);
        let (hot, hot_out) = RingBuffer::new(HOT_RING);
        let (ordinary, ordinary_out) = RingBuffer::new(ORDINARY_PER_SECOND as usize);
        let served = Arc::new(AtomicU64::new(0));
        let remote = Remote {
            shard: Arc::clone(&shard),
            commands: commands_in,
            sent: 0,
            served: Arc::clone(&served),
            captured: captured_out,
            hot: hot_out,
            ordinary: ordinary_out,
            undelivered: None,
        };
        let meter = Self {
            config,
            hosts,
            shard,
            pulse,
            commands,
            served,
            captured,
            hot,
            ordinary,
            selection: Selection::default(),
            filtering: Filtering { worker, hosts: BTreeMap::new(), prefixes: Arc::from([]) },
            whitelist,
            look_back: LookBack { samples: Vec::new(), next: 0 },
            spread: Spread::default(),
        };
        (meter, remote)
    }

    /// Counts a batch. Call [`Meter::serve`] between batches.
    pub fn count(&mut self, batch: &[Sample]) {
        let tick = self.pulse.tick.load(Ordering::Acquire);
        let mut found = [[Lookup::Foreign; 2]; GROUP];
        for group in batch.chunks(GROUP) {
            // Cache misses are the cost of counting: all of a group's are under way before the first is waited for.
            for (sample, found) in group.iter().zip(&mut found) {
                *found = [sample.destination, sample.source].map(|bits| self.hosts.find(sample.version, bits));
                for lookup in *found {
                    if let Lookup::Host(host) = lookup {
                        self.shard.prefetch(host);
                    }
                }
            }
            for (sample, found) in group.iter().zip(found) {
                self.count_one(sample, found, tick);
            }
        }
    }

    #[inline]
    fn count_one(&mut self, sample: &Sample, [destination, source]: [Lookup; 2], tick: u32) {
        match (destination, source) {
            (Lookup::Foreign, Lookup::Foreign) => return self.shard.other.count(sample),
            (Lookup::Foreign, _) | (_, Lookup::Foreign) if sample.inside => return self.shard.duplicate.count(sample),
            (Lookup::Foreign, _) => self.shard.outgoing.count(sample),
            (_, Lookup::Foreign) => self.shard.incoming.count(sample),
            _ => {
                self.shard.internal.count(sample);
                if !self.config.process_internal {
                    return;
                }
            }
        }
        if matches!(destination, Lookup::Full(_)) || matches!(source, Lookup::Full(_)) {
            self.shard.overflow.count(sample);
        }
        self.look_back.push(*sample);
        let rules = if self.config.rules.is_empty() { 0 } else { self.shard.rules_of(sample) };
        if self.config.process[Direction::Incoming as usize] {
            self.count_end(destination, Direction::Incoming, sample, tick, rules);
        }
        if self.config.process[Direction::Outgoing as usize] {
            self.count_end(source, Direction::Outgoing, sample, tick, rules);
        }
        // What is not taken is dropped: a sample of ordinary traffic need not be complete.
        if self.config.learns && !sample.dropped && self.selection.takes(sample.time) {
            let _ = self.ordinary.push(*sample);
        }
    }

    /// Counts a sample for the own host at one of its ends, if that is one.
    #[inline]
    fn count_end(&mut self, end: Lookup, direction: Direction, sample: &Sample, tick: u32, rules: u32) {
        let (host, cell) = match end {
            Lookup::Foreign => return,
            Lookup::Full(cell) => (None, cell),
            Lookup::Host(host) => (Some(host), self.hosts.cell_of(host)),
        };
        let Self { shard, hosts, config, spread, hot, captured, whitelist, filtering, .. } = self;
        let cell_line = cell_line(shard, hosts, cell);
        let line = host.map(|host| shard.line(host));
        let watch = cell_line.watch.load(Ordering::Relaxed) | line.map_or(0, |l| l.watch.load(Ordering::Relaxed));
        if !whitelist.is_empty() && whitelist.contains(direction, sample) {
            return shard.whitelisted.count(sample);
        }
        if watch & WATCH_FILTERS != 0 && filtering.takes(shard, host, sample) {
            return;
        }
        // Its router says that it dropped it: nothing of it reaches the host (decision 8).
        if sample.dropped {
            return shard.dropped.count(sample);
        }
        let is_large = sample.packets > config.spread_packets || sample.bytes > config.spread_bytes;
        let now = (sample.duration_ms > 0 && is_large).then(|| spread.take(host, cell, direction, sample)).flatten();
        let counted = now.as_ref().unwrap_or(sample);
        shard.count_cell(cell_line, direction, counted, tick, rules);
        if let Some(host) = host
            && let Some(passed) = shard.count(host, direction, counted, tick, rules, config.trip(cell_line.kind))
        {
            push_hot(shard, hot, passed);
        }
        if watch & WATCH_CAPTURE != 0 && captured.push(*sample).is_err() {
            bump(&shard.capture_drops, 1);
        }
    }

    fn hand_over(&mut self, sample: Sample) {
        if self.captured.push(sample).is_err() {
            bump(&self.shard.capture_drops, 1);
        }
    }

    /// Does what the control thread asked for and releases spread traffic up to `now`. Call after each batch and at least
    /// every 20 ms when nothing arrives.
    pub fn serve(&mut self, now: Time) {
        while let Ok(command) = self.commands.pop() {
            match command {
                Command::Configure(config) => self.config = config,
                Command::Become(next) => {
                    self.become_next(*next);
                    continue;
                }
                Command::Filters(host, filters) if filters.is_empty() => {
                    self.filtering.hosts.remove(&host);
                }
                Command::Filters(host, filters) => {
                    self.filtering.hosts.insert(host, filters);
                }
                Command::PrefixFilters(filters) => self.filtering.prefixes = filters,
                Command::LookBack { target, since, limit } => self.look_back(target, since, limit),
                Command::Whitelist(whitelist) => self.whitelist = whitelist,
            }
            // Release: whoever sees the command carried out sees everything counted before it.
            let served = self.served.load(Ordering::Relaxed);
            self.served.store(served.wrapping_add(1), Ordering::Release);
        }
        let tick = self.pulse.tick.load(Ordering::Acquire);
        let Self { shard, hosts, config, spread, hot, filtering, .. } = self;
        spread.release(now, |host, cell, direction, sample| {
            let cell_line = cell_line(shard, hosts, cell);
            let line_watch = host.map_or(0, |host| shard.line(host).watch.load(Ordering::Relaxed));
            let watch = cell_line.watch.load(Ordering::Relaxed) | line_watch;
            // A rule may have come into force since the record arrived.
            if watch & WATCH_FILTERS != 0 && filtering.takes(shard, host, sample) {
                return;
            }
            let rules = if config.rules.is_empty() { 0 } else { shard.rules_of(sample) };
            shard.count_cell(cell_line, direction, sample, tick, rules);
            if let Some(host) = host
                && let Some(passed) = shard.count(host, direction, sample, tick, rules, config.trip(cell_line.kind))
            {
                push_hot(shard, hot, passed);
            }
        });
    }

    /// Goes on as another meter, with the samples remembered and the records still being spread.
    fn become_next(&mut self, mut next: Self) {
        std::mem::swap(&mut next.look_back, &mut self.look_back);
        let hosts = Arc::clone(&next.hosts);
        next.spread = std::mem::take(&mut self.spread).rehosted(|direction, sample| {
            let own = match direction {
                Direction::Incoming => sample.destination,
                Direction::Outgoing => sample.source,
            };
            match hosts.find(sample.version, own) {
                Lookup::Host(host) => Some((Some(host), hosts.cell_of(host))),
                Lookup::Full(cell) => Some((None, cell)),
                Lookup::Foreign => None,
            }
        });
        *self = next;
    }

    /// Hands over what the ring holds of a target, newest first, without what is filtered already.
    fn look_back(&mut self, target: Target, since: Time, limit: usize) {
        let limit = limit.min(CAPTURE_RING);
        let mut filters: Vec<Arc<Filter>> = Vec::new();
        if let Lookup::Host(host) = self.hosts.find(target.prefix.version(), target.prefix.bits())
            && target.prefix.is_host()
        {
            filters.extend(self.filtering.hosts.get(&host).into_iter().flat_map(|f| f.iter().cloned()));
        }
        let wider = self.filtering.prefixes.iter().filter(|(t, _)| t.prefix.overlaps(&target.prefix));
        filters.extend(wider.flat_map(|(_, f)| f.iter().cloned()));
        let is_filtered = |s: &Sample| filters.iter().any(|f| f.takes(s)) || s.dropped;
        let both = [Direction::Incoming, Direction::Outgoing].map(|direction| Target { direction, ..target });
        let found: Vec<Sample> = self
            .look_back
            .iter()
            .take_while(|s| s.time >= since)
            .filter(|s| both.iter().any(|t| t.covers(s)) && !is_filtered(s))
            .take(limit)
            .copied()
            .collect();
        for sample in found {
            self.hand_over(sample);
        }
    }

    /// This worker's counters.
    #[must_use]
    pub fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }
}
