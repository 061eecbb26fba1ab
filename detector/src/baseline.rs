//! [`Baselines`]: what is ordinary: rates by host group and hour of the week, and samples of ordinary traffic for the miner.
//!
//! Rates go into two-digit histograms. Samples are kept per host for up to [`MAX_RESERVOIRS`] hosts, and per group for all
//! others, by age (`reservoir.rs`). Nothing is learned of a target that is suspect or under attack, what was learned since the
//! excess began is forgotten, and what arrived shortly before the suspicion is not used (decisions 27 and 36): an attack must not
//! become its own baseline, nor that of the next one. [`Memory`] keeps all of it over a restart.

mod memory;
mod reservoir;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use traffic::{Direction, Fields, IpVersion, Origin, Prefix, Sample, Target, Time};

use crate::config::{HostGroup, Learning, Unit};
use crate::prefixes::Scope;

use reservoir::{Ages, Dice, Reservoir};

pub use memory::{Memory, MemoryError};

/// Hosts with samples of their own at most.
pub const MAX_RESERVOIRS: usize = 4096;
/// Histograms at most (12 KiB each); when all are in use, hours of further groups are learned as one.
pub const MAX_HISTOGRAMS: usize = 4096;
/// Prefixes, networks and groups whose sums have baselines at most.
const MAX_SUMS: usize = 1024;
/// A host that has been quiet for this long makes room.
const QUIET: Duration = Duration::from_secs(600);
/// Samples of a prefix at most; of more, every n-th is taken.
const MOST_OF_PREFIX: usize = 2048;
/// An alarm takes no more than the last 30 s from what the group has learned.
const GROUP_FORGETS_NANOS: u64 = 30_000_000_000;
/// Hours of a week; the hour behind them stands for all.
const ALL_HOURS: u8 = 168;
/// A rate beyond this, per second, is an error of an exporter.
const LARGEST_RATE: u64 = 10_000_000_000_000;
/// Seconds that have to be learned before a percentile is used.
const MATURE: u64 = 3600;

/// Whose rates a histogram holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Subject {
    /// Of each host of the group with this name.
    Hosts(String),
    /// Of a sum.
    Sum(Scope, Prefix),
}

type Key = (Subject, u8, Direction, Unit);

/// A header that was ordinary, and when it was learned, without the own end: 48 bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ordinary {
    remote: u128,
    seconds: u32,
    packets: u32,
    flow_label: u32,
    ports: (u16, u16),
    length: u16,
    tcp_flags: u16,
    known: Fields,
    protocol: u8,
    icmp: (u8, u8),
    dscp: u8,
    fragment: u8,
    origin: Origin,
    direction: Direction,
    version: IpVersion,
}

impl Ordinary {
    fn of(sample: &Sample, direction: Direction, now: Time) -> Self {
        Self {
            remote: if direction == Direction::Incoming { sample.source } else { sample.destination },
            seconds: seconds_of(now),
            packets: u32::try_from(sample.packets / u64::from(sample.sampling_rate.max(1))).unwrap_or(u32::MAX).max(1),
            flow_label: sample.flow_label,
            ports: (sample.source_port, sample.destination_port),
            length: sample.length,
            tcp_flags: sample.tcp_flags,
            known: sample.known,
            protocol: sample.protocol,
            icmp: (sample.icmp_type, sample.icmp_code),
            dscp: sample.dscp,
            fragment: sample.fragment,
            origin: sample.origin,
            direction,
            version: sample.version,
        }
    }

    /// As a sample of a host of the prefix.
    fn to(self, own: Prefix) -> Sample {
        let mut sample = Sample::empty(Time::from_seconds(self.seconds.into(), 0), self.version, self.origin);
        (sample.source, sample.destination) = match self.direction {
            Direction::Incoming => (self.remote, own.bits()),
            Direction::Outgoing => (own.bits(), self.remote),
        };
        sample.packets = self.packets.into();
        sample.bytes = u64::from(self.packets) * u64::from(self.length);
        (sample.source_port, sample.destination_port) = self.ports;
        (sample.length, sample.tcp_flags, sample.known, sample.protocol) =
            (self.length, self.tcp_flags, self.known, self.protocol);
        (sample.icmp_type, sample.icmp_code) = self.icmp;
        (sample.dscp, sample.fragment, sample.flow_label) = (self.dscp, self.fragment, self.flow_label);
        sample
    }
}

#[allow(clippy::cast_possible_truncation, reason = "seconds until 2106")]
fn seconds_of(time: Time) -> u32 {
    (time.0 / 1_000_000_000) as u32
}

/// What an own host had in a second: packets and bytes by direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostSecond {
    pub(crate) own: Prefix,
    /// Index of its host group.
    pub(crate) group: usize,
    pub(crate) packets: [u64; 2],
    pub(crate) bytes: [u64; 2],
}

/// What is known of the ordinary traffic of a target.
#[derive(Debug, Clone, Default)]
pub struct OrdinaryTraffic {
    /// Samples, as if they were the target's even if they are its group's.
    pub samples: Vec<Sample>,
    /// Packets per second in the target's direction; unknown if only the group's samples are.
    pub packets_per_second: Option<f64>,
    /// Whether the samples are the target's own.
    pub is_own: bool,
}

/// A learned rate, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Learned {
    /// Host group, or prefix, network or total group.
    pub of: String,
    /// `incoming` or `outgoing`.
    pub direction: Direction,
    /// Of what.
    pub unit: Unit,
    /// Seconds with traffic that were learned, summed over hosts.
    pub seconds: u64,
    /// Percentiles over all hours, in units per second.
    pub p50: u64,
    /// 95th.
    pub p95: u64,
    /// 99th.
    pub p99: u64,
    /// 99.9th.
    pub p999: u64,
    /// Largest.
    pub max: u64,
    /// A threshold that ordinary traffic stays well below: three times the 99.9th percentile of the busiest hour.
    pub suggested_threshold: u64,
    /// Where that comes from.
    pub from: String,
    /// Of a host group: samples of ordinary traffic that are kept in this direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Those of them that are older than `baseline_forget`: the miner is given these (decision 36).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usable: Option<usize>,
}

/// What is kept of a host's own traffic, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Kept {
    /// Whose.
    pub host: Prefix,
    /// Samples kept, both directions.
    pub samples: usize,
    /// Those of them that are older than `baseline_forget`: the miner is given these (decision 36).
    pub usable: usize,
    /// Ordinary packets per second.
    pub incoming_pps: f64,
    /// The other way.
    pub outgoing_pps: f64,
}

/// Looked up thousands of times per second. Whatever walks through it brings it into an order.
#[allow(clippy::disallowed_types, reason = "sorted wherever it is walked through")]
type HostReservoirs = std::collections::HashMap<Prefix, Arc<Reservoir>>;

/// What is ordinary, by group, hour of the week and measure. What is learned is shared with a [`Memory`] that is being written,
/// and copied only where it changes meanwhile.
#[derive(Debug)]
pub struct Baselines {
    learning: Learning,
    histograms: BTreeMap<Key, Arc<Histogram<u32>>>,
    sums: usize,
    hosts: HostReservoirs,
    /// By name and IP version.
    groups: BTreeMap<String, [Arc<Reservoir>; 2]>,
    dice: Dice,
    quiet: Vec<Prefix>,
    /// What was not learned because a limit was reached.
    pub refused: u64,
}

impl Baselines {
    pub(crate) fn new(learning: Learning, seed: u64) -> Self {
        Self {
            learning,
            histograms: BTreeMap::new(),
            sums: 0,
            hosts: HostReservoirs::new(),
            groups: BTreeMap::new(),
            dice: Dice::new(seed),
            quiet: Vec::new(),
            refused: 0,
        }
    }

    pub(crate) fn set_learning(&mut self, learning: Learning) {
        self.learning = learning;
    }

    fn ages(&self) -> Ages {
        Ages { forget: u32::try_from(self.learning.forget.as_secs()).unwrap_or(u32::MAX) }
    }

    /// Learns a second (or what was taken for one: `seconds`) of some hosts; brings them into another order.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
    pub(crate) fn learn_hosts(&mut self, now: Time, seconds: f64, groups: &[HostGroup], learned: &mut [HostSecond]) {
        for host in &*learned {
            if let Some(reservoir) = self.hosts.get_mut(&host.own) {
                Arc::make_mut(reservoir).rate(host.packets, seconds);
            }
        }
        learned.sort_unstable_by_key(|host| host.group);
        for of_group in learned.chunk_by(|a, b| a.group == b.group) {
            let name = &groups[of_group[0].group].name;
            for direction in Direction::ALL {
                let d = direction as usize;
                let rate = |units: u64| (units as f64 / seconds) as u64;
                let subject = || Subject::Hosts(name.clone());
                self.record(now, subject(), direction, Unit::Packets, of_group.iter().map(|h| rate(h.packets[d])));
                self.record(now, subject(), direction, Unit::Bytes, of_group.iter().map(|h| rate(h.bytes[d])));
            }
        }
    }

    /// Learns a second's rate of a sum.
    pub(crate) fn sum_rate(
        &mut self,
        now: Time,
        (scope, prefix): (Scope, Prefix),
        direction: Direction,
        unit: Unit,
        rate: u64,
    ) {
        let subject = Subject::Sum(scope, prefix);
        if !self.histograms.contains_key(&(subject.clone(), ALL_HOURS, direction, unit)) {
            if self.sums >= MAX_SUMS {
                self.refused += 1;
                return;
            }
            self.sums += 1;
        }
        self.record(now, subject, direction, unit, std::iter::once(rate));
    }

    /// Rates of one subject go into its histogram of all hours, and into that of the hour.
    fn record(
        &mut self,
        now: Time,
        subject: Subject,
        direction: Direction,
        unit: Unit,
        rates: impl Iterator<Item = u64> + Clone,
    ) {
        let rates = rates.filter(|rate| *rate > 0);
        if !self.learning.is_on || rates.clone().next().is_none() {
            return;
        }
        // Sums are learned over all hours only: there can be many.
        let of_hour = matches!(subject, Subject::Hosts(_)).then(|| hour_of_week(now));
        for hour in [Some(ALL_HOURS), of_hour].into_iter().flatten() {
            let Some(histogram) = self.histogram((subject.clone(), hour, direction, unit)) else { continue };
            for rate in rates.clone() {
                let _ = histogram.record(rate.min(LARGEST_RATE));
            }
        }
    }

    /// A histogram, new if need be and if there is room.
    fn histogram(&mut self, key: Key) -> Option<&mut Histogram<u32>> {
        let room = self.histograms.len() < MAX_HISTOGRAMS;
        let histogram = match self.histograms.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room => {
                let mut histogram = Histogram::new(2).ok()?;
                histogram.auto(true);
                entry.insert(Arc::new(histogram))
            }
            Entry::Vacant(_) => {
                self.refused += 1;
                return None;
            }
        };
        Some(Arc::make_mut(histogram))
    }

    /// Keeps a sample of ordinary traffic of an own host.
    pub(crate) fn sample(&mut self, now: Time, own: Prefix, group: &str, direction: Direction, sample: &Sample) {
        let ordinary = Ordinary::of(sample, direction, now);
        let ages = self.ages();
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), Default::default());
        }
        if let Some(of_group) = self.groups.get_mut(group) {
            Arc::make_mut(&mut of_group[index(own.version())]).add(ordinary, now, ages, &mut self.dice);
        }
        if !self.hosts.contains_key(&own) && self.hosts.len() >= MAX_RESERVOIRS {
            let Some(quiet) = self.quiet.pop() else { return };
            self.hosts.remove(&quiet);
        }
        Arc::make_mut(self.hosts.entry(own).or_default()).add(ordinary, now, ages, &mut self.dice);
    }

    /// A host has been suspect since then: what it sent and got meanwhile was not ordinary.
    pub(crate) fn forget_host(&mut self, own: Prefix, since: Time) {
        if let Some(reservoir) = self.hosts.get_mut(&own).filter(|r| r.reaches(since)) {
            Arc::make_mut(reservoir).cut(since);
        }
    }

    /// A target has been under attack since then. A group does not know which of its samples are the target's: it loses all of
    /// the last seconds.
    pub(crate) fn forget_attack(&mut self, now: Time, prefix: Prefix, group: &str, since: Time) {
        if prefix.is_host() {
            self.forget_host(prefix, since);
        } else {
            let inside: Vec<Prefix> = self.hosts.keys().filter(|own| prefix.contains(own)).copied().collect();
            inside.into_iter().for_each(|own| self.forget_host(own, since));
        }
        let since = since.max(Time(now.0.saturating_sub(GROUP_FORGETS_NANOS)));
        for reservoir in self.groups.get_mut(group).into_iter().flatten().filter(|r| r.reaches(since)) {
            Arc::make_mut(reservoir).cut(since);
        }
    }

    /// Once a minute: finds hosts that make room.
    pub(crate) fn age(&mut self, now: Time) {
        self.quiet = self.hosts.iter().filter(|(_, r)| now.since(r.last) > QUIET).map(|(p, _)| *p).collect();
        self.quiet.sort_unstable();
    }

    /// Ordinary traffic of a target before `started`, less what is too fresh to be trusted. Its own if there is enough, else
    /// its group's, as if it were its own.
    #[must_use]
    pub fn ordinary(&self, target: Target, group: &str, started: Time) -> OrdinaryTraffic {
        let newest = seconds_of(started).saturating_sub(self.ages().forget);
        let (version, d) = (target.prefix.version(), target.direction as usize);
        let old = |reservoir: &'_ Arc<Reservoir>| reservoir.of(target.direction).before(newest).len();
        let mut hosts: Vec<(&Prefix, &Arc<Reservoir>)> = match self.hosts.get_key_value(&target.prefix) {
            Some(host) => vec![host],
            None if target.prefix.is_host() => Vec::new(),
            None => self.hosts.iter().filter(|(p, _)| target.prefix.contains(p)).collect(),
        };
        hosts.sort_unstable_by_key(|(host, _)| **host);
        let count: usize = hosts.iter().map(|(_, r)| old(r)).sum();
        if count >= ENOUGH {
            let rate: f64 = hosts.iter().map(|(_, r)| r.rate[d]).sum();
            let seconds = hosts.iter().map(|(_, r)| r.rate_seconds).fold(0.0, f64::max);
            let of = |(host, r): &(&Prefix, &'_ Arc<Reservoir>)| {
                let old = r.of(target.direction).before(newest);
                old.iter().map(|o| o.to(**host)).collect::<Vec<_>>()
            };
            return OrdinaryTraffic {
                samples: hosts.iter().flat_map(of).step_by(count.div_ceil(MOST_OF_PREFIX)).collect(),
                packets_per_second: (seconds >= 60.0 && rate > 0.0).then_some(rate),
                is_own: true,
            };
        }
        let of_group = self.groups.get(group).map(|of| of[index(version)].of(target.direction).before(newest));
        let samples = of_group.unwrap_or_default().iter().map(|o| o.to(target.prefix)).collect();
        OrdinaryTraffic { samples, packets_per_second: None, is_own: false }
    }

    /// The 99.9th percentile of the hour, or of all hours, of hosts of a group, once there is enough of it.
    pub(crate) fn usual_host(&self, now: Time, group: &str, direction: Direction, unit: Unit) -> Option<u64> {
        let of = |hour: u8| self.mature(&(Subject::Hosts(group.to_owned()), hour, direction, unit));
        of(hour_of_week(now)).or_else(|| of(ALL_HOURS))
    }

    /// The same of a sum.
    pub(crate) fn usual_sum(&self, scope: Scope, prefix: Prefix, direction: Direction, unit: Unit) -> Option<u64> {
        self.mature(&(Subject::Sum(scope, prefix), ALL_HOURS, direction, unit))
    }

    fn mature(&self, key: &Key) -> Option<u64> {
        self.histograms.get(key).filter(|h| h.len() >= MATURE).map(|h| h.value_at_quantile(0.999))
    }

    /// What has been learned, for people, as it would be used at `now`.
    #[must_use]
    pub fn learned(&self, now: Time) -> Vec<Learned> {
        let newest = seconds_of(now).saturating_sub(self.ages().forget);
        let kept = |subject: &Subject, direction: Direction| {
            let Subject::Hosts(group) = subject else { return None };
            let of = self.groups.get(group)?.iter().map(|r| r.of(direction));
            Some(
                of.map(|past| [past.all().len(), past.before(newest).len()])
                    .fold([0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]),
            )
        };
        let all = self.histograms.iter().filter(|((_, hour, _, _), _)| *hour == ALL_HOURS);
        all.map(|((subject, _, direction, unit), histogram)| {
            let hours = (0..ALL_HOURS).filter_map(|hour| {
                let of_hour = self.histograms.get(&(subject.clone(), hour, *direction, *unit))?;
                Some((of_hour.value_at_quantile(0.999), hour))
            });
            let busiest = hours.max();
            let (usual, hour) = busiest.unwrap_or((histogram.value_at_quantile(0.999), ALL_HOURS));
            let kept = kept(subject, *direction);
            Learned {
                samples: kept.map(|[all, _]| all),
                usable: kept.map(|[_, usable]| usable),
                of: match subject {
                    Subject::Hosts(group) => format!("host of {group}"),
                    Subject::Sum(scope, prefix) => format!("{} {prefix}", scope_name(*scope)),
                },
                direction: *direction,
                unit: *unit,
                seconds: histogram.len(),
                p50: histogram.value_at_quantile(0.5),
                p95: histogram.value_at_quantile(0.95),
                p99: histogram.value_at_quantile(0.99),
                p999: histogram.value_at_quantile(0.999),
                max: histogram.max(),
                suggested_threshold: usual.saturating_mul(3),
                from: format!("3 x the 99.9th percentile ({usual}) of {}", hour_text(hour)),
            }
        })
        .collect()
    }

    /// Hosts that have samples of their own, in their order.
    pub fn reservoirs(&self, now: Time) -> impl Iterator<Item = Kept> {
        let newest = seconds_of(now).saturating_sub(self.ages().forget);
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        hosts.sort_unstable_by_key(|(host, _)| **host);
        hosts.into_iter().map(move |(host, reservoir)| {
            let (samples, usable) = reservoir.count(newest);
            let [incoming_pps, outgoing_pps] = reservoir.rate;
            Kept { host: *host, samples, usable, incoming_pps, outgoing_pps }
        })
    }
}

/// Samples from which on a host's own are preferred to its group's.
const ENOUGH: usize = 50;

const fn index(version: IpVersion) -> usize {
    match version {
        IpVersion::V4 => 0,
        IpVersion::V6 => 1,
    }
}

const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Host => "host",
        Scope::Prefix => "prefix",
        Scope::Network => "network",
        Scope::Group => "total of",
    }
}

/// 0 is Monday from 0:00 UTC. The epoch began on a Thursday.
#[allow(clippy::cast_possible_truncation, reason = "below 168")]
fn hour_of_week(time: Time) -> u8 {
    ((time.0 / 3_600_000_000_000 + 72) % 168) as u8
}

fn hour_text(hour: u8) -> String {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    match DAYS.get(usize::from(hour / 24)) {
        Some(day) => format!("{day} {}:00 UTC", hour % 24),
        None => "all hours".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn p(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    pub(super) fn sample(seconds: u64, port: u16) -> Sample {
        let mut sample = Sample::empty(Time::from_seconds(seconds, 0), IpVersion::V4, Origin::Packet);
        (sample.source, sample.destination) = (p("198.51.100.7").bits(), p("203.0.113.9").bits());
        (sample.packets, sample.bytes, sample.length, sample.protocol) = (1, 100, 100, 17);
        sample.source_port = port;
        sample
    }

    #[test]
    fn a_reservoir_is_bounded_and_what_is_fresh_is_not_used() {
        let mut baselines = Baselines::new(Learning::default(), 1);
        let own = p("203.0.113.9");
        for second in 0..5_000u64 {
            let port = if second < 4_700 { 443 } else { 53 };
            baselines.sample(Time::from_seconds(second, 0), own, "global", Direction::Incoming, &sample(second, port));
            let mut learned = [HostSecond { own, group: 0, packets: [1_000, 0], bytes: [0; 2] }];
            baselines.learn_hosts(Time::from_seconds(second, 0), 1.0, &[HostGroup::default()], &mut learned);
        }
        let target = Target { prefix: own, direction: Direction::Incoming };
        let ordinary = baselines.ordinary(target, "global", Time::from_seconds(5_000, 0));
        let count = ordinary.samples.len();
        assert!(ordinary.is_own && (256..=reservoir::MOST).contains(&count), "{count}");
        assert!(
            ordinary.samples.iter().all(|s| s.source_port == 443 && target.covers(s)),
            "the last five minutes are left out"
        );
        assert!(ordinary.packets_per_second.is_some_and(|r| (990.0..1010.0).contains(&r)));
        // Another host of the group gets the group's, as if it were its own.
        let other = Target { prefix: p("203.0.113.77"), direction: Direction::Incoming };
        let ordinary = baselines.ordinary(other, "global", Time::from_seconds(5_000, 0));
        assert!(!ordinary.is_own && ordinary.samples.len() >= 256 && ordinary.samples.iter().all(|s| other.covers(s)));
    }

    /// Seconds of the samples that would be used for a host and for one that has only its group's.
    fn usable(baselines: &Baselines, now: u64) -> [Vec<u64>; 2] {
        ["203.0.113.9", "203.0.113.77"].map(|own| {
            let target = Target { prefix: p(own), direction: Direction::Incoming };
            let ordinary = baselines.ordinary(target, "global", Time::from_seconds(now, 0));
            ordinary.samples.iter().map(|s| s.time.0 / 1_000_000_000).collect()
        })
    }

    #[test]
    fn a_host_and_a_group_have_samples_that_are_old_enough_at_any_rate() {
        for forget in [0, 60, 300, 3_600] {
            for per_second in [0.1, 1.0, 30.0, 400.0] {
                let learning = Learning { forget: Duration::from_secs(forget), ..Learning::default() };
                let mut baselines = Baselines::new(learning, 7);
                // The group has as much of the other IP version, and the host ten times as much of the other direction.
                let (v4, v6) = (p("203.0.113.9"), p("2001:db8::9"));
                let (begin, mut sent) = (1_000, 0.0);
                for second in begin..=begin + forget + 1_200 {
                    let now = Time::from_seconds(second, 0);
                    // All that there were, to within a slot.
                    let first = begin + forget + (forget / 10).max(10);
                    if second > first && second % 50 == 0 {
                        let [host, group] = usable(&baselines, second);
                        let promised = ((second - first) as f64 * per_second - 1.0).min(256.0);
                        let at = format!("forget {forget}, {per_second} per second, after {} s", second - begin);
                        assert!(group.len() as f64 >= promised, "{at}: {} of the group", group.len());
                        assert!(host.len() as f64 >= promised, "{at}: {} of the host", host.len());
                        assert!(host.iter().chain(&group).all(|s| s + forget < second), "{at}");
                    }
                    sent += per_second;
                    while sent >= 1.0 {
                        sent -= 1.0;
                        for own in [v4, v6] {
                            baselines.sample(now, own, "global", Direction::Incoming, &of(own, second));
                            (0..10).for_each(|_| {
                                baselines.sample(now, own, "global", Direction::Outgoing, &of(own, second));
                            });
                        }
                    }
                }
                let all = baselines.hosts.values().chain(baselines.groups.values().flatten());
                all.for_each(|r| assert!(r.count(0).0 <= 2 * reservoir::MOST, "{}", r.count(0).0));
            }
        }
    }

    fn of(own: Prefix, seconds: u64) -> Sample {
        let mut sample = Sample::empty(Time::from_seconds(seconds, 0), own.version(), Origin::Packet);
        (sample.source, sample.destination, sample.packets, sample.length) = (own.bits(), own.bits(), 1, 100);
        sample
    }

    #[test]
    fn samples_are_spread_over_minutes_hours_and_days() {
        let mut baselines = Baselines::new(Learning::default(), 3);
        let (end, own) = (5 * 86_400, p("203.0.113.9"));
        for second in 0..end {
            baselines.sample(Time::from_seconds(second, 0), own, "global", Direction::Incoming, &of(own, second));
        }
        for seconds in usable(&baselines, end) {
            let between = |from: u64, to: u64| seconds.iter().filter(|s| (from..to).contains(&(end - *s))).count();
            let ages = [between(300, 3_600), between(3_600, 86_400), between(86_400, 5 * 86_400)];
            assert!(seconds.len() >= 256 && ages.iter().all(|count| *count >= 30), "{ages:?}");
            let halves = [between(300, 1_200), between(1_200, 3_600), between(2 * 86_400, 5 * 86_400)];
            assert!(halves.iter().all(|count| *count >= 10), "{halves:?}");
        }
    }

    #[test]
    fn what_came_since_an_excess_began_is_forgotten() {
        let mut baselines = Baselines::new(Learning::default(), 3);
        let owns = [p("203.0.113.9"), p("203.0.113.10")];
        for second in 0..1_000 {
            for own in owns {
                baselines.sample(Time::from_seconds(second, 0), own, "global", Direction::Incoming, &of(own, second));
            }
        }
        // Not every second has a sample left.
        let is_cut = |baselines: &Baselines, at: [u64; 2]| {
            let newest = usable(baselines, 10_000).map(|s| s.into_iter().max().unwrap_or(0));
            newest.iter().zip(at).all(|(newest, at)| (at - 10..at).contains(newest))
        };
        assert!(is_cut(&baselines, [1_000; 2]));
        baselines.forget_host(owns[0], Time::from_seconds(995, 500_000_000));
        assert!(is_cut(&baselines, [995, 1_000]), "a suspicion is about the host alone");
        baselines.forget_attack(
            Time::from_seconds(1_000, 0),
            p("203.0.113.8/30"),
            "global",
            Time::from_seconds(990, 0),
        );
        assert!(is_cut(&baselines, [990; 2]));
        assert!(baselines.reservoirs(Time::from_seconds(1_000, 0)).all(|kept| kept.usable >= 256));
        // It goes on as before.
        baselines.sample(Time::from_seconds(1_001, 0), owns[0], "global", Direction::Incoming, &of(owns[0], 1_001));
        assert!(is_cut(&baselines, [1_002; 2]));
    }

    #[test]
    fn a_prefix_has_samples_of_all_its_hosts_and_the_sum_of_their_rates() {
        let mut baselines = Baselines::new(Learning::default(), 3);
        let owns: Vec<Prefix> = (1..=20).map(|i| p(&format!("203.0.113.{i}"))).collect();
        for second in 0..1_000 {
            let now = Time::from_seconds(second, 0);
            owns.iter().for_each(|own| baselines.sample(now, *own, "global", Direction::Incoming, &of(*own, second)));
            let of = |own: &Prefix| HostSecond { own: *own, group: 0, packets: [100, 0], bytes: [0; 2] };
            let mut learned: Vec<HostSecond> = owns.iter().map(of).collect();
            baselines.learn_hosts(now, 1.0, &[HostGroup::default()], &mut learned);
        }
        let target = Target { prefix: p("203.0.113.0/24"), direction: Direction::Incoming };
        let ordinary = baselines.ordinary(target, "global", Time::from_seconds(1_000, 0));
        assert!(ordinary.packets_per_second.is_some_and(|r| (1_990.0..2_010.0).contains(&r)));
        assert!(ordinary.samples.len() <= MOST_OF_PREFIX);
        let of = |own: &Prefix| ordinary.samples.iter().filter(|s| s.destination == own.bits()).count();
        assert!(owns.iter().all(|own| of(own) >= 50));
    }

    fn host_rate(baselines: &mut Baselines, now: Time, group: &str, packets: u64) {
        let groups = [HostGroup { name: group.to_owned(), ..HostGroup::default() }];
        let mut learned = [HostSecond { own: p("203.0.113.9"), group: 0, packets: [packets, 0], bytes: [0; 2] }];
        baselines.learn_hosts(now, 1.0, &groups, &mut learned);
    }

    #[test]
    fn percentiles_are_learned_by_hour_and_suggest_a_threshold() {
        let mut baselines = Baselines::new(Learning::default(), 1);
        // Monday 1970-01-05, from 10:00 on quiet, from 20:00 on busy.
        let monday = 4 * 86_400;
        for second in 0..7_200u64 {
            let (hour, rate) = if second % 2 == 0 { (10, 100) } else { (20, 5_000) };
            let now = Time::from_seconds(monday + hour * 3600 + second / 2, 0);
            host_rate(&mut baselines, now, "global", rate);
        }
        let learned = baselines.learned(Time::from_seconds(monday + 86_400, 0));
        assert_eq!(learned.len(), 1);
        assert!((14_800..=15_300).contains(&learned[0].suggested_threshold), "{learned:?}");
        assert!(learned[0].from.contains("Monday 20:00"), "{learned:?}");
        let at = |hour: u64| Time::from_seconds(monday + hour * 3600 + 5, 0);
        let usual = |hour| baselines.usual_host(at(hour), "global", Direction::Incoming, Unit::Packets);
        assert_eq!(usual(10), Some(100));
        assert!(usual(20).is_some_and(|r| r >= 4_960));
        assert_eq!(usual(21), usual(20), "an hour that is not known is taken for any");
    }

    #[test]
    fn reservoirs_and_histograms_are_bounded() {
        let mut baselines = Baselines::new(Learning::default(), 1);
        for i in 0..3 * MAX_RESERVOIRS as u128 {
            let own = Prefix::host_of(IpVersion::V6, 0x2001_0db8 << 96 | i);
            baselines.sample(Time::from_seconds(1, 0), own, "global", Direction::Incoming, &sample(1, 1));
            baselines.sum_rate(Time(0), (Scope::Prefix, own), Direction::Incoming, Unit::Packets, 5);
            let group = format!("group{i}");
            host_rate(&mut baselines, Time(0), &group, 5);
        }
        assert_eq!(baselines.hosts.len(), MAX_RESERVOIRS);
        assert!(baselines.histograms.len() <= MAX_HISTOGRAMS && baselines.sums == MAX_SUMS);
        baselines.age(Time::from_seconds(1_000, 0));
        let own = p("203.0.113.9");
        baselines.sample(Time::from_seconds(1_000, 0), own, "global", Direction::Incoming, &sample(1, 1));
        assert!(baselines.hosts.contains_key(&own), "a quiet host makes room");
    }
}
