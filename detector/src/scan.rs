//! `Scan`: once a second, every host that had traffic: averages, baselines, and IPv6 hosts that have gone quiet.
//!
//! Workers mark the hosts they write (`marks`); the scan reads those and no others. The averages of all others fall
//! without being touched: an average is kept as it was when its host was last read, and falls when it is asked for.

use std::time::Duration;

use sys::prefetch;
use traffic::{Prefix, Time};

use crate::baseline::{Baselines, HostSecond};
use crate::config::Config;
use crate::counters::{Shard, Totals};
use crate::hosts::{HostId, Hosts};
use crate::marks::{self, Places, host_at};

/// Rates that go into histograms per second, at most; of more hosts, every n-th.
const LEARNED: u64 = 2000;
/// An IPv6 host that has been quiet for this long loses its counters when places run short, and after ten times as long anyway.
const QUIET: Duration = Duration::from_secs(60);
/// Slabs of IPv6 hosts looked at for quiet ones per second.
const AGED_SLABS: usize = 256;
/// Scans are this long apart.
const PERIOD: Duration = Duration::from_secs(1);
/// A rate below this, per second, is none.
const NOTHING: f32 = 0.01;
/// After so many time constants nothing is left of any average: 10^10 has fallen below [`NOTHING`].
const FORGOTTEN: f32 = 30.0;

/// Averages of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Average {
    /// Packets per second by direction.
    pub packets: [f32; 2],
    /// IP bytes per second by direction.
    pub bytes: [f32; 2],
}

impl Average {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Self) {
        for d in 0..2 {
            self.packets[d] += other.packets[d];
            self.bytes[d] += other.bytes[d];
        }
    }

    /// Written out, like [`Pace::read`]: they are called for a million hosts a second, and adapters are not always inlined.
    #[inline]
    fn fall(&mut self, keep: f32) {
        let fall = |rate: f32| if rate * keep < NOTHING { 0.0 } else { rate * keep };
        self.packets = [fall(self.packets[0]), fall(self.packets[1])];
        self.bytes = [fall(self.bytes[0]), fall(self.bytes[1])];
    }
}

/// What the scan knows of a host, in 36 bytes: earlier counters modulo 2^32 (bytes in units of 64), averages, and when it was read.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    packets: [u32; 2],
    bytes64: [u32; 2],
    average: Average,
    seen: Stamp,
}

/// Tenths of a second since the scan began, from 1 (13 years fit); 0 is never.
type Stamp = u32;

/// The rows of a slab, and when the last of them was read.
#[derive(Debug)]
struct Slab {
    rows: Box<[Row]>,
    seen: Stamp,
}

/// What a second of a host added: packets and bytes by direction.
type Added = ([u32; 2], [u64; 2]);

/// Averages of every host, brought up to date a part at a time.
#[derive(Debug)]
pub(crate) struct Scan {
    slabs: Vec<Option<Slab>>,
    average: Duration,
    began: Time,
    /// The last round's end, and when it was read.
    closed: Time,
    last: Time,
    /// A round that has ended and is to be read at the next tick.
    pending: Option<u32>,
    round: u64,
    hand: usize,
    /// Kept for its memory.
    learned: Vec<HostSecond>,
}

impl Scan {
    pub(crate) fn new(slabs: usize, average: Duration) -> Self {
        Self {
            slabs: (0..slabs).map(|_| None).collect(),
            average,
            began: Time(0),
            closed: Time(0),
            last: Time(0),
            pending: None,
            round: 0,
            hand: 0,
            learned: Vec::new(),
        }
    }

    pub(crate) fn average_over(&mut self, average: Duration) {
        self.average = average;
    }

    pub(crate) fn begin(&mut self, now: Time) {
        (self.began, self.closed, self.last) = (now, now, now);
    }

    /// Once a second the present round ends; true when it has just done so.
    pub(crate) fn closes(&mut self, now: Time, round: u32) -> bool {
        let closes = self.pending.is_none() && now.since(self.closed) >= PERIOD;
        if closes {
            (self.pending, self.closed) = (Some(round), now);
        }
        closes
    }

    /// The round to be read now, if one ended a tick ago.
    pub(crate) fn take_due(&mut self) -> Option<u32> {
        self.pending.take()
    }

    /// Seconds since the last scan.
    pub(crate) fn seconds(&self, now: Time) -> f64 {
        now.since(self.last).as_secs_f64()
    }

    /// Whether this is the first scan of a minute.
    pub(crate) fn is_minute(&self) -> bool {
        self.round % 60 == 1
    }

    #[allow(clippy::cast_possible_truncation, reason = "13 years")]
    fn stamp(&self, now: Time) -> Stamp {
        (now.since(self.began).as_millis() / 100) as Stamp + 1
    }

    /// Reads every host written in a round; returns how many had traffic. Of those that teach, the baselines learn.
    #[allow(clippy::too_many_arguments, reason = "one call")]
    pub(crate) fn run(
        &mut self,
        now: Time,
        round: u32,
        hosts: &Hosts,
        shards: &[&Shard],
        teaches: impl Fn(HostId, &Prefix) -> bool,
        config: &Config,
        baselines: &mut Baselines,
    ) -> u64 {
        let pace = Pace::new(self, now);
        let slabs = hosts.slab_count().min(self.slabs.len());
        let marked_in = |slab| shards.iter().map(|s| s.marked(slab, round)).fold([0; 4], marks::or);
        // Of every n-th of them the baselines learn.
        let stride = (0..slabs).map(|slab| marks::count(marked_in(slab))).sum::<u64>() / LEARNED + 1;
        self.last = now;
        self.round += 1;
        self.learned.clear();
        let mut active = 0;
        for slab in 0..slabs {
            let marked = marked_in(slab);
            if marked == [0; 4] {
                continue;
            }
            let rows = self.slabs[slab].get_or_insert_with(|| Slab { rows: vec![Row::default(); 256].into(), seen: 0 });
            rows.seen = pace.stamp;
            for (host, row) in fetched(slab, marked, &mut rows.rows, shards) {
                let Some((packets, bytes)) = pace.read(host, row, shards) else { continue };
                active += 1;
                if (active + self.round).is_multiple_of(stride)
                    && let Some(own) = hosts.prefix(host)
                    && teaches(host, &own)
                {
                    let group = hosts.membership().group_of(own.version(), own.bits());
                    self.learned.push(HostSecond { own, group, packets: packets.map(u64::from), bytes });
                }
            }
        }
        if config.learning.is_on {
            baselines.learn_hosts(now, pace.seconds, &config.groups, &mut self.learned);
        }
        if self.round.is_multiple_of(60) {
            baselines.age(now);
        }
        active
    }

    /// Takes the counters of IPv6 hosts that have long been quiet; returns how many.
    #[allow(clippy::cast_possible_truncation, reason = "600 seconds")]
    pub(crate) fn age(&mut self, now: Time, hosts: &Hosts, attacked: &[Prefix]) -> u64 {
        let quiet = if hosts.is_v6_crowded() { QUIET } else { QUIET * 10 }.as_secs() as u32 * 10;
        let stamp = self.stamp(now);
        let mut aged = 0;
        let count = hosts.slab_count().min(self.slabs.len());
        for _ in 0..AGED_SLABS.min(count) {
            self.hand = (self.hand + 1) % count;
            let slab = self.hand;
            let Some(rows) = self.slabs[slab].as_mut().filter(|_| hosts.is_v6(slab)) else { continue };
            for (place, row) in (0u32..).zip(rows.rows.iter_mut()) {
                if row.seen == 0 || stamp.saturating_sub(row.seen) < quiet {
                    continue;
                }
                let host = host_at(slab, place);
                let Some(own) = hosts.prefix(host) else { continue };
                if !attacked.iter().any(|p| p.contains(&own)) {
                    hosts.release(host);
                    (row.seen, row.average) = (0, Average::default());
                    aged += 1;
                }
            }
        }
        aged
    }

    /// The average of a host at the time of the last scan.
    pub(crate) fn average(&self, host: HostId) -> Average {
        let rows = self.slabs.get(host.slab()).and_then(Option::as_ref);
        rows.map_or_else(Average::default, |slab| self.fallen(&slab.rows[host.place()], self.stamp(self.last)))
    }

    fn fallen(&self, row: &Row, stamp: Stamp) -> Average {
        let mut average = row.average;
        if row.seen < stamp {
            average.fall((-self.time_constants(stamp - row.seen)).exp());
        }
        average
    }

    #[allow(clippy::cast_precision_loss, reason = "tenths of seconds")]
    fn time_constants(&self, tenths: u32) -> f32 {
        tenths as f32 / (10.0 * time_constant(self.average))
    }

    /// The averages of all hosts that have one at the time of the last scan, slab by slab.
    pub(crate) fn averages(&self) -> impl Iterator<Item = (usize, impl Iterator<Item = (HostId, Average)>)> {
        let stamp = self.stamp(self.last);
        let slabs = self.slabs.iter().enumerate().filter_map(|(slab, rows)| Some((slab, rows.as_ref()?)));
        let kept = slabs.filter(move |(_, s)| self.time_constants(stamp.saturating_sub(s.seen)) < FORGOTTEN);
        kept.map(move |(slab, rows)| {
            let rows = (0u32..).zip(rows.rows.iter()).filter(|(_, row)| row.seen > 0);
            let averages = rows.map(move |(place, row)| (host_at(slab, place), self.fallen(row, stamp)));
            (slab, averages.filter(|(_, average)| *average != Average::default()))
        })
    }
}

/// What one scan does to rows.
struct Pace {
    seconds: f64,
    stamp: Stamp,
    before: Stamp,
    average: f32,
    /// What is left of an average after the last period.
    keep: f32,
}

impl Pace {
    #[allow(clippy::cast_possible_truncation, reason = "a share")]
    fn new(scan: &Scan, now: Time) -> Self {
        let average = time_constant(scan.average);
        let seconds = now.since(scan.last).as_secs_f64();
        let keep = (-seconds / f64::from(average)).exp() as f32;
        Self { seconds, stamp: scan.stamp(now), before: scan.stamp(scan.last), average, keep }
    }

    /// Brings a row up to date; what was added, if anything.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rates, and counters modulo 2^32 and 2^38"
    )]
    fn read(&self, host: HostId, row: &mut Row, shards: &[&Shard]) -> Option<Added> {
        let mut totals = Totals::default();
        shards.iter().for_each(|s| s.read(host, &mut totals));
        let (mut packets, mut bytes64, mut added, mut bytes) = ([0u32; 2], [0u32; 2], [0u32; 2], [0u64; 2]);
        for d in 0..2 {
            (packets[d], bytes64[d]) = (totals.packets[d] as u32, (totals.bytes[d] >> 6) as u32);
            added[d] = packets[d].wrapping_sub(row.packets[d]);
            bytes[d] = u64::from(bytes64[d].wrapping_sub(row.bytes64[d])) << 6;
        }
        if added == [0; 2] && bytes == [0; 2] {
            return None;
        }
        let share = (1.0 - self.keep) / self.seconds as f32;
        row.average.fall(if row.seen < self.before { self.keep_since(row.seen) } else { self.keep });
        for d in 0..2 {
            row.average.packets[d] += added[d] as f32 * share;
            row.average.bytes[d] += bytes[d] as f32 * share;
        }
        (row.packets, row.bytes64, row.seen) = (packets, bytes64, self.stamp);
        Some((added, bytes))
    }

    #[allow(clippy::cast_precision_loss, reason = "tenths of seconds")]
    fn keep_since(&self, seen: Stamp) -> f32 {
        (-((self.stamp - seen) as f32) / (10.0 * self.average)).exp()
    }
}

/// Of the averages, in seconds.
fn time_constant(average: Duration) -> f32 {
    average.as_secs_f32().max(0.1)
}

/// The marked hosts of a slab with their rows; rows and lines are fetched ahead, all at once: each would be a cache miss.
fn fetched<'a>(
    slab: usize,
    marked: Places,
    rows: &'a mut [Row],
    shards: &'a [&Shard],
) -> impl Iterator<Item = (HostId, &'a mut Row)> {
    for place in marks::places(marked) {
        shards.iter().for_each(|s| s.prefetch(host_at(slab, place)));
        if let Some(row) = rows.get(place as usize) {
            prefetch(&row.packets);
            prefetch(&row.seen);
        }
    }
    let is_marked = move |place: &u32| marked[(*place / 64) as usize] >> (*place % 64) & 1 == 1;
    (0u32..).zip(rows).filter(move |(place, _)| is_marked(place)).map(move |(place, row)| (host_at(slab, place), row))
}
