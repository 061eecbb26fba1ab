//! [`Meter`]: the worker's side of the detector, and the hot path.
//!
//! For each sample: find the own host, add to its line in this worker's shard, keep the sample in the look-back ring, and hand
//! it to the control thread if the host is being captured. No lock, allocation, log or clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use collectors::sys::prefetch;
use collectors::{Sample, Time};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::counters::{Line, Shard, SpillTrip, Tick, WATCH_CAPTURE, WATCH_FILTERS, bump};
use crate::hosts::{HostId, Hosts, Lookup};
use crate::pattern::{Match, Pattern};
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
/// Recent samples kept per worker (6 MiB), so that a bucket can be filled at the moment of the alarm.
const LOOK_BACK: usize = 1 << 16;

/// Traffic of a target that is filtered elsewhere: excluded from the target's counters, counted here.
#[derive(Debug)]
pub struct Filter {
    /// What is filtered.
    pub pattern: Pattern,
    /// Per worker, each with one writer: packets and bytes that matched.
    hits: Box<[(AtomicU64, AtomicU64)]>,
}

impl Filter {
    /// For a number of workers.
    #[must_use]
    pub fn new(pattern: Pattern, workers: usize) -> Self {
        Self { pattern, hits: (0..workers).map(|_| Default::default()).collect() }
    }

    /// The same filter, with the same hits, for another number of workers; none of them may still count for the old one.
    #[must_use]
    pub fn grown(&self, workers: usize) -> Self {
        let grown = Self::new(self.pattern.clone(), workers.max(1));
        let (packets, bytes) = self.hits();
        bump(&grown.hits[0].0, packets);
        bump(&grown.hits[0].1, bytes);
        grown
    }

    /// Packets and bytes that matched since the filter was made.
    #[must_use]
    pub fn hits(&self) -> (u64, u64) {
        self.hits.iter().fold((0, 0), |(p, b), (packets, bytes)| {
            (p.wrapping_add(packets.load(Ordering::Relaxed)), b.wrapping_add(bytes.load(Ordering::Relaxed)))
        })
    }
}

/// What the control thread asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// From now on these filters apply to the host, in place of earlier ones.
    Filters(HostId, Arc<[Arc<Filter>]>),
    /// Send the newest `limit` look-back samples of the target, no older than `since`.
    LookBack { host: HostId, target: Target, since: Time, limit: usize },
    /// Count this way from now on.
    Configure(MeterConfig),
    /// Go on as this meter: hosts have new indices. Commands behind this one are for nobody.
    Become(Box<Meter>),
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
    /// The second of that tick.
    pub(crate) second: AtomicU32,
}

/// How a meter counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeterConfig {
    pub(crate) process: [bool; 2],
    pub(crate) process_internal: bool,
    pub(crate) spill: Option<SpillTrip>,
    /// Records of more than this many packets or bytes are spread over their duration.
    pub(crate) spread_packets: u64,
    pub(crate) spread_bytes: u64,
}

/// One worker's counting. `Send`, not shared.
#[derive(Debug)]
pub struct Meter {
    worker: usize,
    config: MeterConfig,
    hosts: Arc<Hosts>,
    shard: Arc<Shard>,
    pulse: Arc<Pulse>,
    commands: Consumer<Command>,
    served: Arc<AtomicU64>,
    captured: Producer<Sample>,
    filters: BTreeMap<HostId, Arc<[Arc<Filter>]>>,
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
        if let Some(config) = self.undelivered
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
    pub(crate) fn new(worker: usize, config: MeterConfig, hosts: Arc<Hosts>, pulse: Arc<Pulse>) -> (Self, Remote) {
        let shard = Arc::new(Shard::new(hosts.slab_capacity()));
        let (commands_in, commands) = RingBuffer::new(COMMAND_RING);
        let (captured, captured_out) = RingBuffer::new(CAPTURE_RING);
        let served = Arc::new(AtomicU64::new(0));
        let remote = Remote {
            shard: Arc::clone(&shard),
            commands: commands_in,
            sent: 0,
            served: Arc::clone(&served),
            captured: captured_out,
            undelivered: None,
        };
        let look_back = LookBack { samples: Vec::new(), next: 0 };
        let meter = Self {
            worker,
            config,
            hosts,
            shard,
            pulse,
            commands,
            served,
            captured,
            filters: BTreeMap::new(),
            look_back,
            spread: Spread::default(),
        };
        (meter, remote)
    }

    /// Counts a batch. Call [`Meter::serve`] between batches.
    pub fn count(&mut self, batch: &[Sample]) {
        let tick =
            Tick { number: self.pulse.tick.load(Ordering::Acquire), second: self.pulse.second.load(Ordering::Relaxed) };
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
    fn count_one(&mut self, sample: &Sample, [destination, source]: [Lookup; 2], tick: Tick) {
        match (destination, source) {
            (Lookup::Foreign, Lookup::Foreign) => return self.shard.other.count(sample),
            (Lookup::Foreign, _) => self.shard.outgoing.count(sample),
            (_, Lookup::Foreign) => self.shard.incoming.count(sample),
            _ => {
                self.shard.internal.count(sample);
                if !self.config.process_internal {
                    return;
                }
            }
        }
        if matches!(destination, Lookup::Full) || matches!(source, Lookup::Full) {
            self.shard.overflow.count(sample);
        }
        self.look_back.push(*sample);
        if let Lookup::Host(host) = destination
            && self.config.process[Direction::Incoming as usize]
        {
            self.count_host(host, Direction::Incoming, sample, tick);
        }
        if let Lookup::Host(host) = source
            && self.config.process[Direction::Outgoing as usize]
        {
            self.count_host(host, Direction::Outgoing, sample, tick);
        }
    }

    #[inline]
    fn count_host(&mut self, host: HostId, direction: Direction, sample: &Sample, tick: Tick) {
        let shard = &*self.shard;
        let line = shard.line(host);
        let watch = line.watch.load(Ordering::Relaxed);
        if watch & WATCH_FILTERS != 0 && self.is_filtered(host, sample) {
            return;
        }
        if sample.duration_ms > 0
            && (sample.packets > self.config.spread_packets || sample.bytes > self.config.spread_bytes)
            && let Some(now) = self.spread.take(host, direction, sample)
        {
            shard.count(line, host, direction, &now, tick, self.config.spill);
        } else {
            shard.count(line, host, direction, sample, tick, self.config.spill);
        }
        if watch & WATCH_CAPTURE != 0 {
            self.hand_over(*sample);
        }
    }

    /// Whether a filter in force takes the sample out of the host's counts; certain matches only (decision 9).
    fn is_filtered(&self, host: HostId, sample: &Sample) -> bool {
        let Some(filters) = self.filters.get(&host) else { return false };
        let Some(filter) = filters.iter().find(|f| f.pattern.matches(sample) == Match::Yes) else { return false };
        // A worker that came later than the filter has its hits counted once the filter has grown.
        if let Some((packets, bytes)) = filter.hits.get(self.worker) {
            bump(packets, sample.packets);
            bump(bytes, sample.bytes);
        }
        self.shard.filtered.count(sample);
        true
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
                    self.filters.remove(&host);
                }
                Command::Filters(host, filters) => {
                    self.filters.insert(host, filters);
                }
                Command::LookBack { host, target, since, limit } => self.look_back(host, target, since, limit),
            }
            // Release: whoever sees the command carried out sees everything counted before it.
            let served = self.served.load(Ordering::Relaxed);
            self.served.store(served.wrapping_add(1), Ordering::Release);
        }
        let tick =
            Tick { number: self.pulse.tick.load(Ordering::Acquire), second: self.pulse.second.load(Ordering::Relaxed) };
        let mut spread = std::mem::take(&mut self.spread);
        spread.release(now, |host, direction, sample| {
            let line: &Line = self.shard.line(host);
            // A rule may have come into force since the record arrived.
            if line.watch.load(Ordering::Relaxed) & WATCH_FILTERS == 0 || !self.is_filtered(host, sample) {
                self.shard.count(line, host, direction, sample, tick, self.config.spill);
            }
        });
        self.spread = spread;
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
                Lookup::Host(host) => Some(host),
                Lookup::Foreign | Lookup::Full => None,
            }
        });
        *self = next;
    }

    /// Hands over what the ring holds of a target, newest first, without what is filtered already.
    fn look_back(&mut self, host: HostId, target: Target, since: Time, limit: usize) {
        let limit = limit.min(CAPTURE_RING);
        let filters = self.filters.get(&host).cloned();
        let is_filtered =
            |s: &Sample| filters.iter().flat_map(|f| f.iter()).any(|f| f.pattern.matches(s) == Match::Yes);
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
