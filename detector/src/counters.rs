//! [`Shard`]: the counters of one worker: one 64-byte line per host, a cell for everything above it, and detail for the few
//! hosts that need it.
//!
//! A shard has one writer, so counting is a plain relaxed load and store (2.8 ns against 89 ns for a shared `fetch_add` on
//! one hot host, which is what an attack is). Counters only grow; readers keep earlier values, so there is no reset race.
//! Lines are allocated 2 MiB at a time, on huge pages, by the first packet of a host among them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use flowspec::Match;
use sys::{HugeSlice, prefetch};
use traffic::sample::{protocol, tcp_flags};
use traffic::{Direction, Origin, Sample};

use crate::config::{Class, TrafficRule, Unit};
use crate::hosts::{CellId, HostId};
use crate::marks::{self, Beat, Marks, Places};
use crate::spills::Spills;

/// Set in a line or cell while its samples are captured.
pub(crate) const WATCH_CAPTURE: u16 = 1;
/// Set in a line or cell while some of its traffic is filtered elsewhere and not counted here.
pub(crate) const WATCH_FILTERS: u16 = 2;

/// A host gets detail from this part of its trip count in a tick on: two fifths of what its smallest threshold allows.
const LOUD_PART: u32 = 2;

/// Adds to a counter that only this thread writes.
#[inline]
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[inline]
fn bump32(counter: &AtomicU32, by: u32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[inline]
fn saturate(counter: &AtomicU32, by: u64) -> (u32, u32) {
    let before = counter.load(Ordering::Relaxed);
    let after = before.saturating_add(u32::try_from(by).unwrap_or(u32::MAX));
    counter.store(after, Ordering::Relaxed);
    (before, after)
}

/// The counters of one host in one shard. Index 0 is incoming, 1 outgoing.
#[repr(align(64))]
#[derive(Debug, Default)]
pub(crate) struct Line {
    packets: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    /// Packets really observed before scaling, modulo 2^32: what statistics under sampling rest on.
    observed: [AtomicU32; 2],
    /// Bits of `WATCH_*`, written by the control thread only.
    pub(crate) watch: AtomicU16,
    /// Detail slot plus one, or 0.
    spill: AtomicU16,
    /// The tick that the next four are about.
    epoch: AtomicU32,
    tick_packets: [AtomicU32; 2],
    tick_bytes: [AtomicU32; 2],
}

const _: () = assert!(size_of::<Line>() == 64, "a host costs one cache line per worker");

/// How the columns of detailed counters are laid out: packets and bytes by class and direction, then what evidence needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    classes: usize,
}

/// Columns per direction behind those of the classes.
#[derive(Debug, Clone, Copy)]
enum Extra {
    /// Packets really observed.
    Observed,
    /// Flow records.
    Flows,
    /// Bytes times what one observed packet of them stands for, in bytes: its size times the sampling rate; by [`SQUARE_UNIT`].
    Squares,
    /// Packets of flow records times how long ago their middle was, in milliseconds.
    Age,
    /// Bytes that went into the squares.
    SquareBytes,
    /// Packets times their sampling rate.
    Weights,
    /// Packets that went into the weights.
    Weighed,
}

const EXTRAS: usize = 7;
/// Squares of bytes are counted in units of this, so that those of a tick fit 64 bits.
const SQUARE_UNIT: u64 = 16;
/// What one sample adds to a sum of squares at most, whatever its exporter claims.
const MOST_SQUARE: u64 = u64::MAX >> 8;

impl Layout {
    pub(crate) const fn new(rules: usize) -> Self {
        Self { classes: Class::ALL.len() + rules }
    }

    pub(crate) const fn len(self) -> usize {
        self.classes * 4 + EXTRAS * 2
    }

    const fn class(class: usize, d: usize, bytes: bool) -> usize {
        class * 4 + d * 2 + bytes as usize
    }

    /// Those of a direction lie together: they are written together.
    const fn extra(self, extra: Extra, d: usize) -> usize {
        self.classes * 4 + d * EXTRAS + extra as usize
    }
}

/// Readings of a host or cell, summed over shards; columns as in [`Layout`]. Two of them make a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    layout: Layout,
    columns: Box<[u64]>,
    /// Observed packets, modulo 2^32; the difference of two readings is in the columns.
    observed: [u32; 2],
}

impl Counts {
    pub(crate) fn zero(layout: Layout) -> Self {
        Self { layout, columns: vec![0; layout.len()].into(), observed: [0; 2] }
    }

    pub(crate) fn clear(&mut self) {
        self.columns.fill(0);
        self.observed = [0; 2];
    }

    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.columns.copy_from_slice(&other.columns);
        self.observed = other.observed;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.columns.iter_mut().zip(&other.columns).for_each(|(a, b)| *a = a.wrapping_add(*b));
    }

    /// Adds the counters of a cell, or such as are kept like one's, of one worker.
    pub(crate) fn add_columns(&mut self, columns: &[AtomicU64]) {
        add_columns(columns, 0, self);
        for direction in Direction::ALL {
            let column = columns.get(self.layout.extra(Extra::Observed, direction as usize));
            #[allow(clippy::cast_possible_truncation, reason = "modulo 2^32")]
            let observed = column.map_or(0, |c| c.load(Ordering::Relaxed)) as u32;
            let sum = &mut self.observed[direction as usize];
            *sum = sum.wrapping_add(observed);
        }
    }

    /// Takes one direction of `other` away, but never more than there is.
    pub(crate) fn subtract(&mut self, other: &Self, direction: Direction) {
        for column in self.columns_of(direction) {
            self.columns[column] = self.columns[column].saturating_sub(other.columns[column]);
        }
    }

    /// Forgets one direction.
    pub(crate) fn erase(&mut self, direction: Direction) {
        for column in self.columns_of(direction) {
            self.columns[column] = 0;
        }
    }

    fn columns_of(&self, direction: Direction) -> impl Iterator<Item = usize> + use<> {
        let (d, classes, all) = (direction as usize, self.layout.classes * 4, self.layout.len());
        (0..all).filter(move |i| if *i < classes { i / 2 % 2 == d } else { (i - classes) / EXTRAS == d })
    }

    /// What was added since an earlier reading; of what only began to be counted since then, no class has more than the total.
    pub(crate) fn since(&mut self, earlier: &Self) {
        let (totals, rest) = self.columns.split_at_mut(4);
        totals.iter_mut().zip(&earlier.columns).for_each(|(a, b)| *a = a.wrapping_sub(*b));
        let squares = [0, 1].map(|d| {
            // Sums of squares wrap; what they are sums over does not.
            let of = |sum: Extra, over: Extra| {
                let (sum, over) = (self.layout.extra(sum, d) - 4, self.layout.extra(over, d) - 4);
                let (now, before) = ((rest[sum], rest[over]), (earlier.columns[sum + 4], earlier.columns[over + 4]));
                if now.1 < before.1 { 0 } else { now.0.wrapping_sub(before.0) }
            };
            [of(Extra::Squares, Extra::SquareBytes), of(Extra::Weights, Extra::Weighed)]
        });
        // Detail begins anew when another host had it in between.
        rest.iter_mut().zip(&earlier.columns[4..]).for_each(|(a, b)| *a = a.saturating_sub(*b));
        for direction in Direction::ALL {
            let d = direction as usize;
            let (now, before) = (self.observed[d], earlier.observed[d]);
            self.columns[self.layout.extra(Extra::Observed, d)] = now.wrapping_sub(before).into();
            self.columns[self.layout.extra(Extra::Squares, d)] = squares[d][0];
            self.columns[self.layout.extra(Extra::Weights, d)] = squares[d][1];
        }
        for class in 1..self.layout.classes {
            for column in 0..4 {
                self.columns[class * 4 + column] = self.columns[class * 4 + column].min(self.columns[column]);
            }
        }
    }

    /// Units of a measure.
    pub(crate) fn units(&self, direction: Direction, class: Class, unit: Unit) -> u64 {
        let d = direction as usize;
        let column = match unit {
            Unit::Packets => Layout::class(class.index(), d, false),
            Unit::Bytes => Layout::class(class.index(), d, true),
            Unit::Flows => self.layout.extra(Extra::Flows, d),
        };
        self.columns.get(column).copied().unwrap_or(0)
    }

    pub(crate) fn packets(&self, direction: Direction) -> u64 {
        self.units(direction, Class::Total, Unit::Packets)
    }

    pub(crate) fn bytes(&self, direction: Direction) -> u64 {
        self.units(direction, Class::Total, Unit::Bytes)
    }

    /// Packets that one independent observation stands for, at least 1: (sum w^2 n) / (sum w n) of n observed packets that stand
    /// for w each (decision 37). Without detail, their mean.
    #[allow(clippy::cast_precision_loss, reason = "a sampling rate")]
    pub(crate) fn weight(&self, direction: Direction) -> f64 {
        let column = |extra| self.columns[self.layout.extra(extra, direction as usize)];
        let (weights, weighed) = (column(Extra::Weights), column(Extra::Weighed));
        if weighed > 0 {
            return (weights as f64 / weighed as f64).max(1.0);
        }
        (self.packets(direction) as f64 / column(Extra::Observed).max(1) as f64).max(1.0)
    }

    /// Bytes that one independent observation stands for, likewise, of packets of L bytes: (sum (wL)^2 n) / (sum wL n); `None`
    /// without detail.
    #[allow(clippy::cast_precision_loss, reason = "a mean size")]
    pub(crate) fn weight_bytes(&self, direction: Direction) -> Option<f64> {
        let column = |extra| self.columns[self.layout.extra(extra, direction as usize)];
        let (squares, bytes) = (column(Extra::Squares), column(Extra::SquareBytes));
        (bytes > 0).then(|| (squares as f64 * SQUARE_UNIT as f64 / bytes as f64).max(20.0))
    }

    /// How far back the tick's traffic goes, in milliseconds: twice the mean age of its records' middles, weighed by how
    /// much of the traffic records are.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean")]
    pub(crate) fn reach_ms(&self, direction: Direction) -> u64 {
        let d = direction as usize;
        let age = self.columns[self.layout.extra(Extra::Age, d)] as f64;
        (2.0 * age / self.packets(direction).max(1) as f64) as u64
    }
}

/// Adds a sample to the columns of one host or cell in one shard. The totals of hosts are in their lines.
#[inline]
fn count_columns<const IS_HOST: bool>(columns: &[AtomicU64], layout: Layout, d: usize, sample: &Sample, rules: u32) {
    let observed = sample.observed_packets();
    let mut bits = u32::from(classes_of(sample)) | rules << Class::ALL.len();
    if IS_HOST {
        bits &= !(1 << Class::Total.index());
    }
    while bits != 0 {
        let class = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        bump(&columns[Layout::class(class, d, false)], sample.packets);
        bump(&columns[Layout::class(class, d, true)], sample.bytes);
    }
    let column = |extra| &columns[layout.extra(extra, d)];
    if !IS_HOST {
        bump(column(Extra::Observed), observed);
    }
    let mean = sample.bytes / sample.packets.max(1);
    let rate = u64::from(sample.sampling_rate.max(1));
    let squares = (sample.bytes.saturating_mul(mean) / SQUARE_UNIT).saturating_mul(rate);
    bump(column(Extra::Squares), squares.min(MOST_SQUARE));
    bump(column(Extra::SquareBytes), sample.bytes);
    bump(column(Extra::Weights), sample.packets.saturating_mul(rate).min(MOST_SQUARE));
    bump(column(Extra::Weighed), sample.packets);
    if sample.origin == Origin::FlowRecord {
        bump(column(Extra::Flows), 1);
        let age = u64::from(sample.age_ms) + u64::from(sample.duration_ms / 2);
        bump(column(Extra::Age), sample.packets.saturating_mul(age));
    }
}

/// A reading of a host's counters since the start, summed over shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets per direction.
    pub packets: [u64; 2],
    /// IP bytes per direction.
    pub bytes: [u64; 2],
    /// Observed packets per direction, modulo 2^32.
    pub observed: [u32; 2],
}

/// When a host is worth looking at in a tick, and when it gets detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trip {
    /// Packets in a tick in this shard.
    pub(crate) packets: u32,
    /// Bytes in a tick in this shard.
    pub(crate) bytes: u32,
    /// Whether anything has a threshold at all.
    pub(crate) is_on: bool,
}

/// A host passed its trip count in this tick: its counters in this shard when the tick began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    pub(crate) host: HostId,
    pub(crate) begin: Totals,
}

/// Traffic seen by one worker, by where it went. One writer.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: AtomicU64,
    /// IP bytes.
    pub bytes: AtomicU64,
}

impl Traffic {
    #[inline]
    pub(crate) fn count(&self, sample: &Sample) {
        self.add(sample.packets, sample.bytes);
    }

    pub(crate) fn add(&self, packets: u64, bytes: u64) {
        bump(&self.packets, packets);
        bump(&self.bytes, bytes);
    }
}

/// Where traffic went, as far as our networks are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Incoming,
    Outgoing,
    Internal,
    Other,
    Duplicate,
}

impl Side {
    pub(crate) const ALL: [Self; 5] = [Self::Incoming, Self::Outgoing, Self::Internal, Self::Other, Self::Duplicate];
}

/// The counters of a cell in one shard.
#[derive(Debug)]
pub(crate) struct CellLine {
    /// Bits of `WATCH_*`, written by the control thread only.
    pub(crate) watch: AtomicU16,
    /// The tick in which it was last written.
    touched: AtomicU32,
    /// Of its hosts, in [`crate::membership::Membership::kinds`].
    pub(crate) kind: u32,
    columns: Box<[AtomicU64]>,
}

/// Cells are allocated in chunks of this many, by their first packet.
const CHUNK: usize = 64;

type CellChunk = Box<[OnceLock<CellLine>]>;

/// The lines of some slabs, allocated together: 2 MiB, a huge page.
struct Chunk {
    lines: HugeSlice<Line>,
    marks: Box<Marks>,
}

const SLABS_PER_CHUNK: usize = marks::SLABS;

/// The counters of one worker. See the module.
pub struct Shard {
    layout: Layout,
    rules: Box<[TrafficRule]>,
    chunks: Box<[OnceLock<Chunk>]>,
    cells: Box<[OnceLock<CellChunk>]>,
    spills: Spills,
    /// To our networks.
    pub incoming: Traffic,
    /// From our networks.
    pub outgoing: Traffic,
    /// Between our networks.
    pub internal: Traffic,
    /// Neither end is ours.
    pub other: Traffic,
    /// Own hosts without counters of their own: every place is taken. Counted in their cells.
    pub overflow: Traffic,
    /// Matched a filter in force: excluded from the host's counters.
    pub filtered: Traffic,
    /// Its exporter says that it dropped it, without a filter of ours: not counted for the host.
    pub dropped: Traffic,
    /// Whitelisted: not counted for anybody.
    pub whitelisted: Traffic,
    /// Told by an exporter inside the network of traffic that one at the border tells of as well.
    pub duplicate: Traffic,
    /// Samples of captured hosts that did not fit the ring to the control thread.
    pub capture_drops: AtomicU64,
    /// Hosts over their trip count that did not fit the ring to the control thread: the next second's scan finds them.
    pub hot_drops: AtomicU64,
    /// Hosts that asked for detail when all of it was in use.
    pub spill_refusals: AtomicU64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

impl Shard {
    /// For `slab_capacity` slabs of hosts and `cell_capacity` cells.
    pub(crate) fn new(slab_capacity: usize, cell_capacity: usize, rules: &[TrafficRule]) -> Self {
        Self {
            layout: Layout::new(rules.len()),
            rules: rules.into(),
            chunks: (0..slab_capacity.div_ceil(SLABS_PER_CHUNK)).map(|_| OnceLock::new()).collect(),
            cells: (0..cell_capacity.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            spills: Spills::new(Layout::new(rules.len())),
            incoming: Traffic::default(),
            outgoing: Traffic::default(),
            internal: Traffic::default(),
            other: Traffic::default(),
            overflow: Traffic::default(),
            filtered: Traffic::default(),
            dropped: Traffic::default(),
            whitelisted: Traffic::default(),
            duplicate: Traffic::default(),
            capture_drops: AtomicU64::new(0),
            hot_drops: AtomicU64::new(0),
            spill_refusals: AtomicU64::new(0),
        }
    }

    /// The host's line, allocating its slab.
    #[inline]
    pub(crate) fn line(&self, host: HostId) -> &Line {
        let chunk = &self.chunks[host.slab() / SLABS_PER_CHUNK];
        let new = || Chunk { lines: HugeSlice::new(SLABS_PER_CHUNK * 256), marks: Marks::new() };
        &chunk.get_or_init(new).lines[Self::place(host)]
    }

    fn marks(&self, slab: usize) -> Option<&Marks> {
        Some(&self.chunks.get(slab / SLABS_PER_CHUNK)?.get()?.marks)
    }

    /// The hosts of a slab that were written in a round: see [`Marks`].
    pub(crate) fn marked(&self, slab: usize, round: u32) -> Places {
        self.marks(slab).map_or([0; 4], |marks| marks.of(slab, round))
    }

    /// Fetches a host's line ahead of its reading.
    pub(crate) fn prefetch(&self, host: HostId) {
        self.existing_line(host).into_iter().for_each(prefetch);
    }

    const fn place(host: HostId) -> usize {
        host.slab() % SLABS_PER_CHUNK * 256 + host.place()
    }

    /// Fetches what else counting will write for a host, when its line has arrived: its mark, its detail.
    #[inline]
    pub(crate) fn prefetch_rest(&self, host: HostId, line: &Line, beat: Beat) {
        if !beat.has(line.epoch.load(Ordering::Relaxed)) {
            self.marks(host.slab()).into_iter().for_each(|marks| marks.prefetch(host, beat.round));
        }
        self.spills.prefetch(line.spill.load(Ordering::Relaxed));
    }

    /// The traffic of each [`Side`].
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Traffic> {
        Side::ALL.into_iter().map(|side| match side {
            Side::Incoming => &self.incoming,
            Side::Outgoing => &self.outgoing,
            Side::Internal => &self.internal,
            Side::Other => &self.other,
            Side::Duplicate => &self.duplicate,
        })
    }

    /// Adds what another shard counted in all; its hosts are not taken over.
    pub(crate) fn absorb(&self, other: &Self) {
        let pairs = [
            (&self.incoming, &other.incoming),
            (&self.outgoing, &other.outgoing),
            (&self.internal, &other.internal),
            (&self.other, &other.other),
            (&self.overflow, &other.overflow),
            (&self.filtered, &other.filtered),
            (&self.dropped, &other.dropped),
            (&self.whitelisted, &other.whitelisted),
            (&self.duplicate, &other.duplicate),
        ];
        for (sum, more) in pairs {
            bump(&sum.packets, more.packets.load(Ordering::Relaxed));
            bump(&sum.bytes, more.bytes.load(Ordering::Relaxed));
        }
        for (sum, more) in [
            (&self.capture_drops, &other.capture_drops),
            (&self.hot_drops, &other.hot_drops),
            (&self.spill_refusals, &other.spill_refusals),
        ] {
            bump(sum, more.load(Ordering::Relaxed));
        }
    }

    /// A cell's line, allocating it.
    #[inline]
    pub(crate) fn cell(&self, cell: CellId, kind: impl FnOnce() -> u32) -> &CellLine {
        let chunk = self.cells[cell.0 as usize / CHUNK].get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        chunk[cell.0 as usize % CHUNK].get_or_init(|| CellLine {
            watch: AtomicU16::new(0),
            touched: AtomicU32::new(0),
            kind: kind(),
            columns: self.columns(),
        })
    }

    /// Counters as a cell has them.
    pub(crate) fn columns(&self) -> Box<[AtomicU64]> {
        (0..self.layout.len()).map(|_| AtomicU64::new(0)).collect()
    }

    /// Adds one sample to counters made by [`Shard::columns`].
    pub(crate) fn count_aside(&self, columns: &[AtomicU64], direction: Direction, sample: &Sample, rules: u32) {
        count_columns::<false>(columns, self.layout, direction as usize, sample, rules);
    }

    fn existing_cell(&self, cell: CellId) -> Option<&CellLine> {
        self.cells.get(cell.0 as usize / CHUNK)?.get()?[cell.0 as usize % CHUNK].get()
    }

    /// The traffic rules that a sample certainly matches, as bits.
    #[inline]
    pub(crate) fn rules_of(&self, sample: &Sample) -> u32 {
        let matches = |rule: &TrafficRule| rule.pattern.matches(sample) == Match::Yes;
        self.rules.iter().enumerate().filter(|(_, r)| matches(r)).fold(0, |bits, (i, _)| bits | 1 << i)
    }

    /// Adds one sample to a cell.
    #[inline]
    pub(crate) fn count_cell(&self, line: &CellLine, direction: Direction, sample: &Sample, tick: u32, rules: u32) {
        if line.touched.load(Ordering::Relaxed) != tick {
            line.touched.store(tick, Ordering::Relaxed);
        }
        count_columns::<false>(&line.columns, self.layout, direction as usize, sample, rules);
    }

    /// Adds one sample to a host's line; tells when it passes its trip count in this tick.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::too_many_arguments,
        reason = "observed is modulo 2^32; two calls"
    )]
    pub(crate) fn count(
        &self,
        line: &Line,
        host: HostId,
        direction: Direction,
        sample: &Sample,
        beat: Beat,
        rules: u32,
        trip: Trip,
    ) -> Option<Hot> {
        let (d, tick) = (direction as usize, beat.tick);
        let epoch = line.epoch.load(Ordering::Relaxed);
        if epoch != tick {
            line.epoch.store(tick, Ordering::Relaxed);
            if !beat.has(epoch) {
                self.marks(host.slab()).into_iter().for_each(|marks| marks.mark(host, beat.round));
            }
            line.tick_packets.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
            line.tick_bytes.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
        }
        bump(&line.packets[d], sample.packets);
        bump(&line.bytes[d], sample.bytes);
        bump32(&line.observed[d], sample.observed_packets() as u32);
        let packets = saturate(&line.tick_packets[d], sample.packets);
        let bytes = saturate(&line.tick_bytes[d], sample.bytes);
        if !trip.is_on {
            return None;
        }
        let is_loud = packets.1 > trip.packets / LOUD_PART || bytes.1 > trip.bytes / LOUD_PART;
        if is_loud || line.spill.load(Ordering::Relaxed) != 0 {
            self.count_spill(line, host, is_loud, d, sample, tick, rules);
        }
        let passes = |(before, after): (u32, u32), trip: u32| before < trip && after >= trip;
        (passes(packets, trip.packets) || passes(bytes, trip.bytes))
            .then(|| Hot { host, begin: begin_of(line, sample.sampling_rate) })
    }

    #[allow(clippy::too_many_arguments, reason = "one call")]
    fn count_spill(&self, line: &Line, host: HostId, is_loud: bool, d: usize, sample: &Sample, tick: u32, rules: u32) {
        let slot = match line.spill.load(Ordering::Relaxed) {
            0 => {
                let lost = |host| self.line(host).spill.store(0, Ordering::Release);
                let Some(slot) = self.spills.take(host, tick, lost) else { return bump(&self.spill_refusals, 1) };
                line.spill.store(slot, Ordering::Release);
                slot
            }
            slot => slot,
        };
        let Some(spill) = self.spills.get(slot) else { return };
        if is_loud {
            spill.mark(tick);
        } else if spill.is_quiet(tick) {
            line.spill.store(0, Ordering::Release);
            return self.spills.release(slot, tick);
        }
        count_columns::<true>(spill.columns(), self.layout, d, sample, rules);
    }

    /// Whether the host was written in tick `since` or later (ticks wrap).
    pub(crate) fn written_since(&self, host: HostId, since: u32) -> bool {
        self.existing_line(host)
            .is_some_and(|line| line.epoch.load(Ordering::Relaxed).wrapping_sub(since) < u32::MAX / 2)
    }

    /// Whether the cell was written in tick `since` or later (ticks wrap).
    pub(crate) fn cell_touched_since(&self, cell: CellId, since: u32) -> bool {
        self.existing_cell(cell)
            .is_some_and(|line| line.touched.load(Ordering::Relaxed).wrapping_sub(since) < u32::MAX / 2)
    }

    fn existing_line(&self, host: HostId) -> Option<&Line> {
        Some(&self.chunks[host.slab() / SLABS_PER_CHUNK].get()?.lines[Self::place(host)])
    }

    /// Adds this shard's reading of a host to `totals`.
    pub(crate) fn read(&self, host: HostId, totals: &mut Totals) {
        if let Some(line) = self.existing_line(host) {
            for d in 0..2 {
                totals.packets[d] = totals.packets[d].wrapping_add(line.packets[d].load(Ordering::Relaxed));
                totals.bytes[d] = totals.bytes[d].wrapping_add(line.bytes[d].load(Ordering::Relaxed));
                totals.observed[d] = totals.observed[d].wrapping_add(line.observed[d].load(Ordering::Relaxed));
            }
        }
    }

    /// Adds this shard's reading of a host, detail included, to `counts`.
    pub(crate) fn read_host(&self, host: HostId, counts: &mut Counts) {
        let Some(line) = self.existing_line(host) else { return };
        if let Some(spill) = self.spills.get(line.spill.load(Ordering::Acquire)) {
            add_columns(spill.columns(), 4, counts);
        }
        let mut totals = Totals::default();
        self.read(host, &mut totals);
        add_totals(&totals, counts);
    }

    /// Adds what this shard's counters of a host were when tick `tick` began, as far as that is known: `begin` if the host passed
    /// its trip count, else as they are now.
    pub(crate) fn read_begin(&self, host: HostId, tick: u32, begin: Option<&Totals>, counts: &mut Counts) {
        let Some(line) = self.existing_line(host) else { return };
        if let Some(spill) = self.spills.get(line.spill.load(Ordering::Acquire)) {
            let is_known = begin.is_some() && spill.loud() == tick;
            add_columns(if is_known { spill.begin() } else { spill.columns() }, 4, counts);
        }
        let mut totals = Totals::default();
        match begin {
            Some(begin) => totals = *begin,
            None => self.read(host, &mut totals),
        }
        add_totals(&totals, counts);
    }

    /// Adds this shard's reading of a cell to `counts`.
    pub(crate) fn read_cell(&self, cell: CellId, counts: &mut Counts) {
        if let Some(line) = self.existing_cell(cell) {
            counts.add_columns(&line.columns);
        }
    }
}

/// What a line was when the tick began; how many packets were observed since then follows from the sampling rate.
#[allow(clippy::cast_possible_truncation, reason = "observed is modulo 2^32")]
fn begin_of(line: &Line, sampling_rate: u32) -> Totals {
    let minus = |counter: &AtomicU64, tick: &AtomicU32| {
        counter.load(Ordering::Relaxed).wrapping_sub(tick.load(Ordering::Relaxed).into())
    };
    let packets = [0, 1].map(|d| minus(&line.packets[d], &line.tick_packets[d]));
    let bytes = [0, 1].map(|d| minus(&line.bytes[d], &line.tick_bytes[d]));
    let observed = [0, 1].map(|d| {
        let seen = line.tick_packets[d].load(Ordering::Relaxed).div_ceil(sampling_rate.max(1));
        line.observed[d].load(Ordering::Relaxed).wrapping_sub(seen)
    });
    Totals { packets, bytes, observed }
}

/// Adds columns from `from` on.
fn add_columns(columns: &[AtomicU64], from: usize, counts: &mut Counts) {
    for (sum, column) in counts.columns.iter_mut().zip(columns).skip(from) {
        *sum = sum.wrapping_add(column.load(Ordering::Relaxed));
    }
}

/// The totals come from the line: detail begins later.
fn add_totals(totals: &Totals, counts: &mut Counts) {
    for d in 0..2 {
        for (column, value) in [(0, totals.packets[d]), (1, totals.bytes[d])] {
            let sum = &mut counts.columns[d * 2 + column];
            *sum = sum.wrapping_add(value);
        }
        counts.observed[d] = counts.observed[d].wrapping_add(totals.observed[d]);
    }
}

/// The fixed classes a sample belongs to, as bits by class index (total is bit 0).
#[must_use]
pub fn classes_of(sample: &Sample) -> u8 {
    let bit = |class: Class| 1u8 << class.index();
    let mut bits = bit(Class::Total);
    match sample.protocol {
        protocol::TCP => {
            bits |= bit(Class::Tcp);
            if sample.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN {
                bits |= bit(Class::TcpSyn);
            }
        }
        protocol::UDP => bits |= bit(Class::Udp),
        protocol::ICMP | protocol::ICMPV6 => bits |= bit(Class::Icmp),
        _ => {}
    }
    if sample.is_fragment() {
        bits |= bit(Class::IpFragments);
    }
    bits
}
