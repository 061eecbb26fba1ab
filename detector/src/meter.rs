//! [`Meter`]: the worker's side of the detector, and the hot path.
//!
//! For each sample: find the own host, add to its line and its cell in this worker's shard, keep the sample in the look-back
//! ring, and hand it to the control thread if the host is being captured. A host that passes its trip count in a tick is put
//! on the hot list, so that the control thread need not look at all hosts. No lock, allocation, log or clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use flowspec::Match;
use rtrb::{Consumer, Producer, RingBuffer};
use sys::prefetch;
use traffic::{Direction, IpVersion, Networks, Sample, Target, Time};

use crate::config::TrafficRule;
use crate::counters::{CellLine, Hot, Line, Shard, Side, Trip, WATCH_CAPTURE, WATCH_FILTERS, bump};
use crate::hosts::{CellId, HostId, Hosts, Lookup};
use crate::marks::Beat;
use crate::spread::Spread;

mod filter;
mod look_back;

pub use filter::Filter;
use filter::Filtering;
pub(crate) use filter::PrefixFilters;
use look_back::{LookBack, Pace};

/// Samples on their way to the control thread, per worker; more are dropped and counted.
const CAPTURE_RING: usize = 1 << 13;
/// Requests on their way to a worker.
const COMMAND_RING: usize = 1 << 10;
/// Samples that are looked up, and whose counters are fetched, before the first of them is counted.
const GROUP: usize = 64;
/// Samples whose hosts' marks and details are fetched ahead of their counting.
const AHEAD: usize = 8;
/// Hosts over their trip count on their way to the control thread, per worker; when more pass theirs in a tick, the control
/// thread looks at every host that was written in it.
const HOT_RING: usize = 1 << 16;
/// Samples of ordinary traffic on their way to the control thread, per worker and second at most.
const ORDINARY_PER_SECOND: u32 = 1000;

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
#[derive(Debug)]
pub(crate) struct Whitelist {
    is_empty: bool,
    /// Per direction: remote networks that are whitelisted without further conditions.
    remote: [Networks; 2],
    others: Vec<crate::config::Whitelisted>,
}

impl Whitelist {
    pub(crate) fn new(remote: [Networks; 2], others: Vec<crate::config::Whitelisted>) -> Self {
        let is_empty = others.is_empty() && remote.iter().all(|n| n.prefixes().is_empty());
        Self { is_empty, remote, others }
    }

    /// Whether a sample of a host is whitelisted; certain matches only (decision 9).
    fn contains(&self, direction: Direction, sample: &Sample) -> bool {
        let (own, remote) = match direction {
            Direction::Incoming => (sample.destination, sample.source),
            Direction::Outgoing => (sample.source, sample.destination),
        };
        let among = |list: &[traffic::Prefix], bits: u128| {
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

/// What workers and the control thread share besides the shards.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// The control thread's tick number.
    pub(crate) tick: AtomicU32,
    /// The round of its scan and that round's first tick, in one word.
    round: AtomicU64,
}

impl Pulse {
    pub(crate) const fn new() -> Self {
        Self { tick: AtomicU32::new(2), round: AtomicU64::new(2 << 32 | 2) }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "two halves")]
    pub(crate) fn beat(&self) -> Beat {
        // The tick first: with an older tick a host is marked once too often, with a newer one it could be missed.
        let tick = self.tick.load(Ordering::Acquire);
        let round = self.round.load(Ordering::Acquire);
        Beat { tick, round: (round >> 32) as u32, first: round as u32 }
    }

    /// A new round begins. Called by the control thread only. Its first tick is the next one: in the present one hosts may have
    /// been marked in the old round already, and those that go on are marked in the new one then.
    pub(crate) fn next_round(&self) {
        let Beat { tick, round, .. } = self.beat();
        let first = tick.wrapping_add(1);
        self.round.store(u64::from(round.wrapping_add(1)) << 32 | u64::from(first), Ordering::Release);
    }
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
    /// Whether anything is asked of cells: a sum of them has a threshold, or their hosts have different trip counts.
    pub(crate) cells: bool,
}

impl MeterConfig {
    #[inline]
    fn trip(&self, kind: u32) -> Trip {
        self.trips.get(kind as usize).copied().unwrap_or(Trip { packets: u32::MAX, bytes: u32::MAX, is_on: false })
    }
}

#[inline]
fn cell_line<'a>(shard: &'a Shard, hosts: &Hosts, cell: CellId) -> &'a CellLine {
    // A cell is known before any host refers to it.
    shard.cell(cell, || hosts.cell(cell).map_or(0, |c| c.kind))
}

/// One end of a sample.
#[derive(Clone, Copy)]
struct End<'a> {
    lookup: Lookup,
    /// Of an own host.
    line: Option<&'a Line>,
}

impl<'a> End<'a> {
    const FOREIGN: Self = Self { lookup: Lookup::Foreign, line: None };

    /// Looks an address up, and has its host's line fetched.
    #[inline]
    fn find(hosts: &Hosts, shard: &'a Shard, version: IpVersion, bits: u128) -> Self {
        let lookup = hosts.find(version, bits);
        let line = if let Lookup::Host(host) = lookup { Some(shard.line(host)) } else { None };
        line.into_iter().for_each(prefetch);
        Self { lookup, line }
    }

    #[inline]
    fn is_own(&self) -> bool {
        self.lookup != Lookup::Foreign
    }

    #[inline]
    fn is_full(&self) -> bool {
        matches!(self.lookup, Lookup::Full(_))
    }
}

impl Side {
    #[inline]
    fn of([destination, source]: &[End<'_>; 2], sample: &Sample) -> Self {
        match (destination.is_own(), source.is_own()) {
            (false, false) => Self::Other,
            (true, true) => Self::Internal,
            _ if sample.inside => Self::Duplicate,
            (true, false) => Self::Incoming,
            (false, true) => Self::Outgoing,
        }
    }
}

/// Traffic of one batch.
#[derive(Clone, Copy, Default)]
struct Volume {
    packets: u64,
    bytes: u64,
}

impl Volume {
    #[inline]
    fn add(&mut self, sample: &Sample) {
        self.packets = self.packets.wrapping_add(sample.packets);
        self.bytes = self.bytes.wrapping_add(sample.bytes);
    }
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
    ordinary_pace: Pace,
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
            ordinary_pace: Pace::new(ORDINARY_PER_SECOND),
            filtering: Filtering::new(worker),
            whitelist,
            look_back: LookBack::new(),
            spread: Spread::default(),
        };
        (meter, remote)
    }

    /// Counts a batch. Call [`Meter::serve`] between batches.
    pub fn count(&mut self, batch: &[Sample]) {
        let Some(first) = batch.first() else { return };
        self.look_back.pace.update(first.time);
        self.ordinary_pace.update(first.time);
        let beat = self.pulse.beat();
        let shard = Arc::clone(&self.shard);
        let mut volumes = [Volume::default(); Side::ALL.len()];
        let mut ends = [[End::FOREIGN; 2]; GROUP];
        for group in batch.chunks(GROUP) {
            // Cache misses are the cost of counting: all of a group's are under way before the first is waited for.
            for (sample, ends) in group.iter().zip(&mut ends) {
                *ends = [sample.destination, sample.source]
                    .map(|bits| End::find(&self.hosts, &shard, sample.version, bits));
            }
            // What else is written follows from the line: those whose lines come first are asked first.
            let ends = &ends[..group.len()];
            let fetch_rest = |ends: &[End<'_>; 2]| {
                for End { lookup, line } in ends {
                    if let (Lookup::Host(host), Some(line)) = (lookup, line) {
                        shard.prefetch_rest(*host, line, beat);
                    }
                }
            };
            ends.iter().take(AHEAD).for_each(fetch_rest);
            for (index, (sample, ends_of)) in group.iter().zip(ends).enumerate() {
                ends.get(index + AHEAD).into_iter().for_each(fetch_rest);
                let side = Side::of(ends_of, sample);
                volumes[side as usize].add(sample);
                match side {
                    Side::Other | Side::Duplicate => {}
                    Side::Internal if !self.config.process_internal => {}
                    Side::Internal | Side::Incoming | Side::Outgoing => self.count_one(&shard, sample, ends_of, beat),
                }
            }
        }
        volumes.iter().zip(shard.sides()).for_each(|(volume, traffic)| traffic.add(volume.packets, volume.bytes));
    }

    #[inline]
    fn count_one(&mut self, shard: &Shard, sample: &Sample, ends: &[End<'_>; 2], beat: Beat) {
        let [destination, source] = ends;
        if destination.is_full() || source.is_full() {
            shard.overflow.count(sample);
        }
        self.look_back.push(sample);
        let rules = if self.config.rules.is_empty() { 0 } else { shard.rules_of(sample) };
        if self.config.process[Direction::Incoming as usize] {
            self.count_end(shard, destination, Direction::Incoming, sample, beat, rules);
        }
        if self.config.process[Direction::Outgoing as usize] {
            self.count_end(shard, source, Direction::Outgoing, sample, beat, rules);
        }
        // What is not taken is dropped: a sample of ordinary traffic need not be complete.
        if self.config.learns && !sample.dropped && !self.ordinary_pace.skips() {
            let _ = self.ordinary.push(*sample);
        }
    }

    /// Counts a sample for the own host at one of its ends, if that is one.
    #[inline]
    fn count_end(
        &mut self,
        shard: &Shard,
        end: &End<'_>,
        direction: Direction,
        sample: &Sample,
        beat: Beat,
        rules: u32,
    ) {
        let (host, cell) = match end.lookup {
            Lookup::Foreign => return,
            Lookup::Full(cell) => (None, Some(cell)),
            Lookup::Host(host) => (Some(host), None),
        };
        let Self { hosts, config, spread, hot, captured, whitelist, filtering, .. } = self;
        let cell = || cell.or(host.map(|host| hosts.cell_of(host))).unwrap_or(CellId(0));
        let cell_line = config.cells.then(|| cell_line(shard, hosts, cell()));
        let watch_of = |watch: &AtomicU16| watch.load(Ordering::Relaxed);
        let watch = cell_line.map_or(0, |c| watch_of(&c.watch)) | end.line.map_or(0, |l| watch_of(&l.watch));
        if !whitelist.is_empty && whitelist.contains(direction, sample) {
            return shard.whitelisted.count(sample);
        }
        let filter = if watch & WATCH_FILTERS == 0 { None } else { filtering.find(host, sample) };
        if let Some(filter) = filter.filter(|f| f.is_in_force(sample)) {
            return filtering.hit(filter, shard, sample);
        }
        // Its router says that it dropped it: nothing of it reaches the host (decision 8).
        if sample.dropped {
            return shard.dropped.count(sample);
        }
        let is_large = sample.packets > config.spread_packets || sample.bytes > config.spread_bytes;
        let now = (sample.duration_ms > 0 && is_large).then(|| spread.take(host, cell(), direction, sample)).flatten();
        let counted = now.as_ref().unwrap_or(sample);
        if let Some(cell_line) = cell_line {
            shard.count_cell(cell_line, direction, counted, beat.tick, rules);
        }
        let trip = config.trip(cell_line.map_or(0, |c| c.kind));
        if let (Some(host), Some(line)) = (host, end.line)
            && let Some(passed) = shard.count(line, host, direction, counted, beat, rules, trip)
        {
            push_hot(shard, hot, passed);
        }
        if let Some(filter) = filter {
            filter.pass(filtering.worker, shard, direction, counted, rules);
            if filter.is_withheld() {
                return;
            }
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
    /// every 20 ms when nothing arrives, 50 ms when nothing has for two seconds.
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
        let beat = self.pulse.beat();
        let Self { shard, hosts, config, spread, hot, filtering, .. } = self;
        spread.release(now, |host, cell, direction, sample| {
            let cell_line = cell_line(shard, hosts, cell);
            let line_watch = host.map_or(0, |host| shard.line(host).watch.load(Ordering::Relaxed));
            let watch = cell_line.watch.load(Ordering::Relaxed) | line_watch;
            // A rule may have come into force since the record arrived.
            let filter = if watch & WATCH_FILTERS == 0 { None } else { filtering.find(host, sample) };
            if let Some(filter) = filter.filter(|f| f.is_in_force(sample)) {
                return filtering.hit(filter, shard, sample);
            }
            let rules = if config.rules.is_empty() { 0 } else { shard.rules_of(sample) };
            filter.into_iter().for_each(|f| f.pass(filtering.worker, shard, direction, sample, rules));
            if config.cells {
                shard.count_cell(cell_line, direction, sample, beat.tick, rules);
            }
            if let Some(host) = host
                && let trip = config.trip(cell_line.kind)
                && let Some(passed) = shard.count(shard.line(host), host, direction, sample, beat, rules, trip)
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
        let is_filtered = |s: &Sample| filters.iter().any(|f| f.is_beside_bucket(s)) || s.dropped;
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
