//! `Scan`: once a second, every host that had traffic: averages, baselines, and IPv6 hosts that have gone quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use collectors::Time;

use crate::baseline::Baselines;
use crate::config::{Config, Unit};
use crate::counters::{Shard, Totals};
use crate::hosts::{HostId, Hosts};
use crate::target::{Direction, Prefix};

/// Rates that go into histograms per second, at most; of more hosts, every n-th.
const LEARNED: u64 = 2000;
/// An IPv6 host that has been quiet for this long loses its counters when places run short, and after ten times as long anyway.
const QUIET: Duration = Duration::from_secs(60);
/// Slabs of IPv6 hosts looked at for quiet ones per second.
const AGED_SLABS: usize = 256;

/// Averages of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Average {
    /// Packets per second by direction.
    pub packets: [f32; 2],
    /// IP bytes per second by direction.
    pub bytes: [f32; 2],
}

/// What the scan knows of a host, in 36 bytes: earlier counters modulo 2^32 (bytes in units of 64), averages, and when it was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    packets: [u32; 2],
    bytes64: [u32; 2],
    average: Average,
    seen: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scan {
    rows: Vec<Option<Box<[Row]>>>,
    average: Duration,
    last: Time,
    /// The tick of the last scan.
    tick: u32,
    active: u64,
    round: u64,
    hand: usize,
}

impl Scan {
    pub(crate) fn new(slabs: usize, average: Duration) -> Self {
        let rows = (0..slabs).map(|_| None).collect();
        Self { rows, average, last: Time(0), tick: 0, active: 0, round: 0, hand: 0 }
    }

    pub(crate) fn average_over(&mut self, average: Duration) {
        self.average = average;
    }

    pub(crate) fn begin(&mut self, now: Time) {
        self.last = now;
    }

    pub(crate) fn is_due(&self, now: Time) -> bool {
        now.since(self.last) >= Duration::from_secs(1)
    }

    /// Seconds since the last scan.
    pub(crate) fn seconds(&self, now: Time) -> f64 {
        now.since(self.last).as_secs_f64()
    }

    /// Whether this is the first scan of a minute.
    pub(crate) fn is_minute(&self, _: Time) -> bool {
        self.round % 60 == 1
    }

    /// Reads every slab written since the last scan; returns how many hosts had traffic.
    #[allow(
        clippy::too_many_arguments,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "one call; rates, and counters modulo 2^32"
    )]
    pub(crate) fn run(
        &mut self,
        now: Time,
        tick: u32,
        hosts: &Hosts,
        shards: &[&Shard],
        attacked: &[Prefix],
        config: &Config,
        baselines: &mut Baselines,
    ) -> u64 {
        let seconds = now.since(self.last).as_secs_f64();
        let keep = (-seconds / self.average.as_secs_f64().max(0.1)).exp() as f32;
        let stride = self.active / LEARNED + 1;
        let (since, second) = (self.tick, (now.0 / 1_000_000_000) as u32);
        (self.last, self.tick) = (now, tick);
        self.round += 1;
        let mut active = 0;
        for slab in 0..hosts.slab_count().min(self.rows.len()) {
            let touched = shards.iter().any(|s| s.touched_since(slab, since));
            if !touched && self.rows[slab].is_none() {
                continue;
            }
            if !touched {
                // Only averages have to fall, until they are nothing.
                if let Some(rows) = &mut self.rows[slab] {
                    rows.iter_mut().for_each(|row| fall(&mut row.average, keep));
                }
                continue;
            }
            let rows = self.rows[slab].get_or_insert_with(|| vec![Row::default(); 256].into());
            for (place, row) in (0u32..).zip(rows.iter_mut()) {
                let host = HostId::new(slab as u32, place);
                let mut totals = Totals::default();
                shards.iter().for_each(|s| s.read(host, &mut totals));
                let packets = [0, 1].map(|d| (totals.packets[d] as u32).wrapping_sub(row.packets[d]));
                let bytes =
                    [0, 1].map(|d| u64::from(((totals.bytes[d] >> 6) as u32).wrapping_sub(row.bytes64[d])) << 6);
                fall(&mut row.average, keep);
                if packets == [0; 2] && bytes == [0; 2] {
                    continue;
                }
                active += 1;
                row.packets = totals.packets.map(|p| p as u32);
                row.bytes64 = totals.bytes.map(|b| (b >> 6) as u32);
                row.seen = second;
                for d in 0..2 {
                    row.average.packets[d] += (f64::from(packets[d]) / seconds) as f32 * (1.0 - keep);
                    row.average.bytes[d] += (bytes[d] as f64 / seconds) as f32 * (1.0 - keep);
                }
                if !config.learning.is_on || !(active + self.round).is_multiple_of(stride) {
                    continue;
                }
                let Some(own) = hosts.prefix(host) else { continue };
                if attacked.iter().any(|p| p.contains(&own)) {
                    continue;
                }
                baselines.packets(own, packets.map(u64::from), seconds);
                let group = &config.groups[hosts.membership().group_of(own.version(), own.bits())].name;
                for direction in Direction::ALL {
                    let d = direction as usize;
                    let rate = |n: u64| (n as f64 / seconds) as u64;
                    baselines.host_rate(now, group, direction, Unit::Packets, rate(packets[d].into()));
                    baselines.host_rate(now, group, direction, Unit::Bytes, rate(bytes[d]));
                }
            }
        }
        if self.round.is_multiple_of(60) {
            baselines.age(now);
        }
        self.active = active;
        active
    }

    /// Takes the counters of IPv6 hosts that have long been quiet; returns how many.
    #[allow(clippy::cast_possible_truncation, reason = "seconds modulo 2^32")]
    pub(crate) fn age(&mut self, now: Time, hosts: &Hosts, attacked: &[Prefix]) -> u64 {
        let quiet = if hosts.is_v6_crowded() { QUIET } else { QUIET * 10 }.as_secs() as u32;
        let second = (now.0 / 1_000_000_000) as u32;
        let mut aged = 0;
        let count = hosts.slab_count().min(self.rows.len());
        for _ in 0..AGED_SLABS.min(count) {
            self.hand = (self.hand + 1) % count;
            let slab = self.hand;
            let Some(rows) = self.rows[slab].as_mut().filter(|_| hosts.is_v6(slab)) else { continue };
            for (place, row) in (0u32..).zip(rows.iter_mut()) {
                if row.seen == 0 || second.wrapping_sub(row.seen) < quiet {
                    continue;
                }
                let host = HostId::new(slab as u32, place);
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

    /// The largest averages.
    pub(crate) fn top(&self, hosts: &Hosts, direction: Direction, unit: Unit, count: usize) -> Vec<(Prefix, Average)> {
        let d = direction as usize;
        let of = |average: &Average| match unit {
            Unit::Packets | Unit::Flows => average.packets[d],
            Unit::Bytes => average.bytes[d],
        };
        let mut found: Vec<(HostId, Average)> = self.averages().filter(|(_, average)| of(average) >= 1.0).collect();
        let order = |a: &(HostId, Average), b: &(HostId, Average)| of(&b.1).total_cmp(&of(&a.1)).then(a.0.cmp(&b.0));
        // Of a million hosts a few are asked for.
        if found.len() > count {
            found.select_nth_unstable_by(count, order);
            found.truncate(count);
        }
        found.sort_unstable_by(order);
        found.into_iter().filter_map(|(host, average)| Some((hosts.prefix(host)?, average))).collect()
    }

    /// Averages of a host.
    pub(crate) fn average(&self, host: HostId) -> Average {
        let rows = self.rows.get(host.slab()).and_then(Option::as_ref);
        rows.map_or_else(Average::default, |rows| rows[host.place()].average)
    }

    /// Sums of the averages of the hosts in each network, in the order given; networks may overlap.
    pub(crate) fn sums(&self, hosts: &Hosts, networks: &[Prefix]) -> Vec<(Prefix, Average)> {
        let lengths: BTreeSet<u8> = networks.iter().map(Prefix::length).collect();
        let mut sums: BTreeMap<Prefix, Average> = networks.iter().map(|n| (*n, Average::default())).collect();
        for (host, average) in self.averages().filter(|(_, average)| *average != Average::default()) {
            let Some(prefix) = hosts.prefix(host) else { continue };
            for length in lengths.iter().filter(|l| **l <= prefix.length()) {
                if let Some(sum) = sums.get_mut(&prefix.widened(*length)) {
                    for d in 0..2 {
                        sum.packets[d] += average.packets[d];
                        sum.bytes[d] += average.bytes[d];
                    }
                }
            }
        }
        networks.iter().map(|n| (*n, sums[n])).collect()
    }

    /// Sums of the averages of hosts by what `group` says of them, below `count`.
    pub(crate) fn sums_by(&self, hosts: &Hosts, count: usize, group: impl Fn(&Prefix) -> usize) -> Vec<Average> {
        let mut sums = vec![Average::default(); count];
        for (host, average) in self.averages().filter(|(_, average)| *average != Average::default()) {
            let Some(sum) = hosts.prefix(host).and_then(|prefix| sums.get_mut(group(&prefix))) else { continue };
            for d in 0..2 {
                sum.packets[d] += average.packets[d];
                sum.bytes[d] += average.bytes[d];
            }
        }
        sums
    }

    fn averages(&self) -> impl Iterator<Item = (HostId, Average)> {
        let rows = (0u32..).zip(&self.rows).filter_map(|(slab, rows)| Some((slab, rows.as_ref()?)));
        rows.flat_map(|(slab, rows)| {
            (0u32..).zip(rows.iter()).map(move |(place, row)| (HostId::new(slab, place), row.average))
        })
    }
}

fn fall(average: &mut Average, keep: f32) {
    let fall = |rate: &mut f32| *rate = if *rate < 0.01 { 0.0 } else { *rate * keep };
    average.packets.iter_mut().chain(&mut average.bytes).for_each(fall);
}
