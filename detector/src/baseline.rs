//! [`Baselines`]: what is ordinary: rates by host group and hour of the week, and samples of ordinary traffic for the miner.
//!
//! Rates go into two-digit histograms. Samples are kept per host for up to [`MAX_RESERVOIRS`] hosts, and per group for all
//! others. Nothing is learned of a target that is suspect or under attack, and what arrived shortly before the suspicion is not
//! used (decision 27): an attack must not become its own baseline. [`Memory`] keeps all of it over a restart.

mod memory;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use collectors::{Fields, IpVersion, Origin, Sample, Time};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::config::{HostGroup, Learning, Unit};
use crate::prefixes::Scope;
use crate::target::{Direction, Prefix, Target};

pub use memory::{Memory, MemoryError};

/// Hosts with samples of their own at most.
pub const MAX_RESERVOIRS: usize = 4096;
/// Samples kept per host, and per group.
pub const RESERVOIR: usize = 512;
/// Histograms at most (12 KiB each); when all are in use, hours of further groups are learned as one.
pub const MAX_HISTOGRAMS: usize = 4096;
/// Prefixes, networks and groups whose sums have baselines at most.
const MAX_SUMS: usize = 1024;
/// A host that has been quiet for this long makes room.
const QUIET: Duration = Duration::from_secs(600);
/// Time constant of the ordinary rate of a host.
const RATE_SECONDS: f64 = 600.0;
/// After this many times its size, a reservoir forgets the old at the pace of the new.
const MEMORY: u64 = 8;
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

/// A header that was ordinary, without the own end: 48 bytes.
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
    #[allow(clippy::cast_possible_truncation, reason = "seconds until 2106; packets saturate before")]
    fn of(sample: &Sample, direction: Direction) -> Self {
        Self {
            remote: if direction == Direction::Incoming { sample.source } else { sample.destination },
            seconds: (sample.time.0 / 1_000_000_000) as u32,
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

/// A bounded sample of everything seen so far, newer traffic somewhat more.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reservoir {
    kept: Vec<Ordinary>,
    seen: u64,
    last: Time,
    /// Ordinary packets per second, both directions, and for how long that has been learned.
    rate: [f64; 2],
    rate_seconds: f64,
}

impl Reservoir {
    fn add(&mut self, ordinary: Ordinary, now: Time, random: u64) {
        self.last = now;
        self.seen += 1;
        if self.kept.len() < RESERVOIR {
            return self.kept.push(ordinary);
        }
        let size = RESERVOIR as u64;
        let place = random % self.seen.min(size * MEMORY);
        if let Ok(place) = usize::try_from(place)
            && place < RESERVOIR
        {
            self.kept[place] = ordinary;
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a mean")]
    fn rate(&mut self, packets: [u64; 2], seconds: f64) {
        self.rate_seconds += seconds;
        // A plain mean until the time constant has passed.
        let weight = (seconds / self.rate_seconds.min(RATE_SECONDS)).min(1.0);
        for (rate, packets) in self.rate.iter_mut().zip(packets) {
            *rate += (packets as f64 / seconds - *rate) * weight;
        }
    }
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
}

/// Looked up thousands of times per second. Whatever walks through it brings it into an order.
#[allow(clippy::disallowed_types, reason = "sorted wherever it is walked through")]
type HostReservoirs = std::collections::HashMap<Prefix, Arc<Reservoir>>;

/// See the module. What is learned is shared with a [`Memory`] that is being written, and copied only where it changes meanwhile.
#[derive(Debug)]
pub struct Baselines {
    learning: Learning,
    histograms: BTreeMap<Key, Arc<Histogram<u32>>>,
    sums: usize,
    hosts: HostReservoirs,
    groups: BTreeMap<String, Arc<Reservoir>>,
    random: u64,
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
            random: seed | 1,
            quiet: Vec::new(),
            refused: 0,
        }
    }

    pub(crate) fn set_learning(&mut self, learning: Learning) {
        self.learning = learning;
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
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
        let ordinary = Ordinary::of(sample, direction);
        let random = self.draw();
        match self.groups.get_mut(group) {
            Some(reservoir) => Arc::make_mut(reservoir).add(ordinary, now, random),
            None => Arc::make_mut(self.groups.entry(group.to_owned()).or_default()).add(ordinary, now, random),
        }
        let random = self.draw();
        if let Some(reservoir) = self.hosts.get_mut(&own) {
            return Arc::make_mut(reservoir).add(ordinary, now, random);
        }
        if self.hosts.len() >= MAX_RESERVOIRS {
            let Some(quiet) = self.quiet.pop() else { return };
            self.hosts.remove(&quiet);
        }
        Arc::make_mut(self.hosts.entry(own).or_default()).add(ordinary, now, random);
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
        let forget = u32::try_from(self.learning.forget.as_secs()).unwrap_or(u32::MAX);
        let newest = u32::try_from(started.0 / 1_000_000_000).unwrap_or(u32::MAX).saturating_sub(forget);
        let version = target.prefix.version();
        let of = |reservoir: &Reservoir, own: Option<Prefix>| -> Vec<Sample> {
            let old = reservoir.kept.iter().filter(|o| o.seconds < newest && o.version == version);
            old.filter(|o| o.direction == target.direction).map(|o| o.to(own.unwrap_or(target.prefix))).collect()
        };
        let d = target.direction as usize;
        let mut hosts: Vec<(&Prefix, &Arc<Reservoir>)> = match self.hosts.get_key_value(&target.prefix) {
            Some(host) => vec![host],
            None if target.prefix.is_host() => Vec::new(),
            None => self.hosts.iter().filter(|(p, _)| target.prefix.contains(p)).collect(),
        };
        hosts.sort_unstable_by_key(|(host, _)| **host);
        let (mut samples, mut rate, mut seconds) = (Vec::new(), 0.0, 0.0f64);
        for (host, reservoir) in hosts {
            samples.extend(of(reservoir, Some(*host)));
            rate += reservoir.rate[d];
            seconds = seconds.max(reservoir.rate_seconds);
            if samples.len() >= 4 * RESERVOIR {
                break;
            }
        }
        if samples.len() >= ENOUGH {
            let packets_per_second = (seconds >= 60.0 && rate > 0.0).then_some(rate);
            return OrdinaryTraffic { samples, packets_per_second, is_own: true };
        }
        let samples = self.groups.get(group).map(|r| of(r, None)).unwrap_or_default();
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

    /// What has been learned, for people.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        let all = self.histograms.iter().filter(|((_, hour, _, _), _)| *hour == ALL_HOURS);
        all.map(|((subject, _, direction, unit), histogram)| {
            let hours = (0..ALL_HOURS).filter_map(|hour| {
                let of_hour = self.histograms.get(&(subject.clone(), hour, *direction, *unit))?;
                Some((of_hour.value_at_quantile(0.999), hour))
            });
            let busiest = hours.max();
            let (usual, hour) = busiest.unwrap_or((histogram.value_at_quantile(0.999), ALL_HOURS));
            Learned {
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

    /// Hosts that have samples of their own, how many, and their ordinary packets per second (incoming, outgoing).
    pub fn reservoirs(&self) -> impl Iterator<Item = (Prefix, usize, [f64; 2])> {
        let mut hosts: Vec<_> = self.hosts.iter().map(|(p, r)| (*p, r.kept.len(), r.rate)).collect();
        hosts.sort_unstable_by_key(|(host, ..)| *host);
        hosts.into_iter()
    }
}

/// Samples from which on a host's own are preferred to its group's.
const ENOUGH: usize = 50;

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
        assert!(ordinary.is_own && (400..=RESERVOIR).contains(&ordinary.samples.len()), "{}", ordinary.samples.len());
        assert!(
            ordinary.samples.iter().all(|s| s.source_port == 443 && target.covers(s)),
            "the last five minutes are left out"
        );
        assert!(ordinary.packets_per_second.is_some_and(|r| (990.0..1010.0).contains(&r)));
        // Another host of the group gets the group's, as if it were its own.
        let other = Target { prefix: p("203.0.113.77"), direction: Direction::Incoming };
        let ordinary = baselines.ordinary(other, "global", Time::from_seconds(5_000, 0));
        assert!(!ordinary.is_own && ordinary.samples.len() > 300 && ordinary.samples.iter().all(|s| other.covers(s)));
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
        let learned = baselines.learned();
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
