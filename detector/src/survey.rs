//! [`Survey`]: the largest hosts, and sums of hosts by network and host group, all from one pass over the averages.

use std::collections::BTreeMap;

use traffic::{Direction, IpVersion, Prefix};

use crate::config::Unit;
use crate::hosts::{HostId, Hosts};
use crate::scan::{Average, Scan};

/// Averages below this, per second, are not among the largest.
const LEAST: f32 = 1.0;

/// What hosts are ranked by.
pub type Rank = (Direction, Unit);

/// What a survey is to find.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// The largest hosts by each of these.
    pub ranks: &'a [Rank],
    /// How many of each.
    pub count: usize,
    /// Sums of the hosts in each of these networks; they may overlap.
    pub networks: &'a [Prefix],
    /// Whether sums of the hosts of each host group are wanted.
    pub groups: bool,
}

/// The largest hosts and the sums of networks and groups. Averages over `average_calculation_time`.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// By rank, in the order asked for: the largest hosts, the largest first.
    pub largest: Vec<Vec<(Prefix, Average)>>,
    /// In the order asked for.
    pub networks: Vec<(Prefix, Average)>,
    /// By index of the host group.
    pub groups: Vec<Average>,
}

impl Survey {
    pub(crate) fn new(scan: &Scan, hosts: &Hosts, groups: usize, wanted: &Wanted<'_>) -> Self {
        let mut largest: Vec<Largest> = wanted.ranks.iter().map(|rank| Largest::new(*rank, wanted.count)).collect();
        let mut sums = Sums::new(hosts, wanted, groups);
        for (slab, averages) in scan.averages() {
            let whole = sums.whole(slab);
            let mut sum = Average::default();
            for (host, average) in averages {
                largest.iter_mut().for_each(|l| l.offer(host, &average));
                match whole {
                    Some(_) => sum.add(&average),
                    None => hosts.prefix(host).iter().for_each(|prefix| sums.add(prefix, &average)),
                }
            }
            whole.iter().for_each(|prefix| sums.add(prefix, &sum));
        }
        Self {
            largest: largest.into_iter().map(|l| l.finish(hosts)).collect(),
            networks: wanted.networks.iter().map(|n| (*n, sums.networks[n])).collect(),
            groups: sums.groups,
        }
    }
}

fn of(average: &Average, (direction, unit): Rank) -> f32 {
    match unit {
        Unit::Packets | Unit::Flows => average.packets[direction as usize],
        Unit::Bytes => average.bytes[direction as usize],
    }
}

/// The largest hosts of one rank: candidates are cut back when there are twice as many as asked for.
struct Largest {
    rank: Rank,
    count: usize,
    /// What a host must exceed to be one of them, as far as is known.
    floor: f32,
    found: Vec<(HostId, Average)>,
}

impl Largest {
    const fn new(rank: Rank, count: usize) -> Self {
        Self { rank, count, floor: LEAST, found: Vec::new() }
    }

    fn offer(&mut self, host: HostId, average: &Average) {
        if of(average, self.rank) >= self.floor && self.count > 0 {
            self.found.push((host, *average));
            if self.found.len() >= 2 * self.count.max(64) {
                self.cut();
            }
        }
    }

    fn order(rank: Rank) -> impl Fn(&(HostId, Average), &(HostId, Average)) -> std::cmp::Ordering {
        move |a, b| of(&b.1, rank).total_cmp(&of(&a.1, rank)).then(a.0.cmp(&b.0))
    }

    fn cut(&mut self) {
        if self.found.len() > self.count {
            self.found.select_nth_unstable_by(self.count, Self::order(self.rank));
            self.found.truncate(self.count);
            let smallest = self.found.iter().map(|(_, average)| of(average, self.rank)).fold(f32::INFINITY, f32::min);
            self.floor = self.floor.max(smallest);
        }
    }

    fn finish(mut self, hosts: &Hosts) -> Vec<(Prefix, Average)> {
        self.cut();
        self.found.sort_unstable_by(Self::order(self.rank));
        self.found.into_iter().filter_map(|(host, average)| Some((hosts.prefix(host)?, average))).collect()
    }
}

/// Sums by network and by group.
struct Sums<'a> {
    hosts: &'a Hosts,
    lengths: Vec<u8>,
    networks: BTreeMap<Prefix, Average>,
    groups: Vec<Average>,
    has_groups: bool,
}

impl<'a> Sums<'a> {
    fn new(hosts: &'a Hosts, wanted: &Wanted<'_>, groups: usize) -> Self {
        let mut lengths: Vec<u8> = wanted.networks.iter().map(Prefix::length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self {
            hosts,
            lengths,
            networks: wanted.networks.iter().map(|n| (*n, Average::default())).collect(),
            groups: vec![Average::default(); groups],
            has_groups: wanted.groups,
        }
    }

    /// The prefix of a slab whose hosts all belong to the same sums.
    fn whole(&self, slab: usize) -> Option<Prefix> {
        let first = self.hosts.prefix(HostId::new(u32::try_from(slab).ok()?, 0))?;
        let prefix = first.widened(24);
        let is_whole = first.version() == IpVersion::V4
            && self.lengths.last().is_none_or(|longest| *longest <= 24)
            && (!self.has_groups || self.hosts.membership().is_uniform(&prefix));
        is_whole.then_some(prefix)
    }

    fn add(&mut self, prefix: &Prefix, average: &Average) {
        for length in self.lengths.iter().filter(|l| **l <= prefix.length()) {
            if let Some(sum) = self.networks.get_mut(&prefix.widened(*length)) {
                sum.add(average);
            }
        }
        if self.has_groups
            && let Some(sum) = self.groups.get_mut(self.hosts.membership().group_of_prefix(prefix))
        {
            sum.add(average);
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use traffic::{Origin, Sample, Time};

    use super::*;
    use crate::{Config, Detector, HostGroup};

    fn p(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    /// Sends packets of 1000 bytes per second to hosts for some seconds, in the order given, a tick of 50 ms at a time.
    fn send(detector: &mut Detector, meter: &mut crate::Meter, start: u64, seconds: u64, rates: &[(&str, u64)]) {
        for tick in start * 20..(start + seconds) * 20 {
            let now = Time(tick * 50_000_000);
            let samples = rates.iter().map(|(host, rate)| {
                let host = p(host);
                let mut sample = Sample::empty(now, host.version(), Origin::FlowRecord);
                (sample.destination, sample.packets, sample.bytes) = (host.bits(), rate / 20, rate * 50);
                sample
            });
            meter.count(&samples.collect::<Vec<_>>());
            detector.step(now);
        }
    }

    fn detector() -> (Detector, crate::Meter) {
        let groups = vec![
            HostGroup { name: "global".to_owned(), ..HostGroup::default() },
            HostGroup { name: "part".to_owned(), networks: vec![p("10.0.1.128/25")], ..HostGroup::default() },
        ];
        let networks = vec![p("10.0.0.0/16"), p("2001:db8::/32")];
        let config = Config { networks, groups, average: std::time::Duration::from_secs(5), ..Config::default() };
        let (detector, mut meters) = Detector::new(config, 1, 7);
        (detector, meters.remove(0))
    }

    const IN_PACKETS: Rank = (Direction::Incoming, Unit::Packets);

    #[test]
    fn hosts_are_ranked_and_summed_by_network_and_by_group_even_inside_a_slab() {
        let (mut detector, mut meter) = detector();
        let rates = [("10.0.0.1", 4_000), ("10.0.1.1", 2_000), ("10.0.1.200", 1_000), ("2001:db8::1", 8_000)];
        send(&mut detector, &mut meter, 100, 60, &rates);
        let networks = [p("10.0.0.0/16"), p("10.0.1.0/24"), p("2001:db8::/32")];
        let survey = detector.survey(&Wanted { ranks: &[IN_PACKETS], count: 2, networks: &networks, groups: true });
        let about = |average: &Average, rate: f32| (average.packets[0] / rate - 1.0).abs() < 0.05;
        let found: Vec<Prefix> = survey.largest[0].iter().map(|(host, _)| *host).collect();
        assert_eq!(found, [p("2001:db8::1"), p("10.0.0.1")]);
        let sums = survey.networks.iter().map(|(_, average)| average).chain(&survey.groups);
        for (sum, rate) in sums.zip([7_000.0, 3_000.0, 8_000.0, 14_000.0, 1_000.0]) {
            assert!(about(sum, rate), "{sum:?} is not {rate}");
            assert!((sum.bytes[0] / sum.packets[0] - 1000.0).abs() < 10.0, "{sum:?}");
        }
        // Without groups or long networks whole slabs are summed; it comes to the same.
        let whole = detector.survey(&Wanted { networks: &networks, ..Wanted::default() });
        for ((_, a), (_, b)) in whole.networks.iter().zip(&survey.networks) {
            assert!(about(a, b.packets[0]));
        }
    }

    #[test]
    fn the_average_of_a_host_that_went_quiet_falls_though_nobody_touches_it() {
        let (mut detector, mut meter) = detector();
        send(&mut detector, &mut meter, 100, 60, &[("10.0.0.1", 10_000), ("10.0.0.2", 10_000)]);
        // One goes on, so that there is something to scan.
        let mut start = 160;
        // As of the last scan, which is up to a second ago.
        for (seconds, left) in [(5u64, 0.36..0.46), (5, 0.13..0.17), (140, 0.0..0.000_1)] {
            send(&mut detector, &mut meter, start, seconds, &[("10.0.0.2", 10_000)]);
            start += seconds;
            let average = detector.average(p("10.0.0.1"));
            assert!(left.contains(&(average.packets[0] / 10_000.0)), "{average:?}, not {left:?}");
        }
        assert_eq!(detector.average(p("10.0.0.1")), Average::default());
        let survey = detector.survey(&Wanted { ranks: &[IN_PACKETS], count: 10, ..Wanted::default() });
        assert_eq!(survey.largest[0].len(), 1);
        // Back again, it begins anew.
        send(&mut detector, &mut meter, start, 40, &[("10.0.0.1", 1_000)]);
        let average = detector.average(p("10.0.0.1"));
        assert!((average.packets[0] / 1_000.0 - 1.0).abs() < 0.05, "{average:?}");
        assert_eq!(detector.host(p("10.0.0.1")).map(|t| t.packets[0]), Some(600_000 + 40_000));
    }

    #[test]
    fn the_largest_of_many_are_found_whatever_their_order() {
        let (mut detector, mut meter) = detector();
        let names: Vec<String> = (0..500u64).map(|i| format!("10.0.{}.{}", i % 4, i / 4)).collect();
        let rates: Vec<(&str, u64)> =
            (0..).zip(&names).map(|(i, n)| (n.as_str(), 100 + (i * 7919 % 500) * 20)).collect();
        send(&mut detector, &mut meter, 100, 10, &rates);
        let mut expected = rates.clone();
        expected.sort_by_key(|(_, rate)| std::cmp::Reverse(*rate));
        for count in [1, 20, 300, 1000] {
            let survey = detector.survey(&Wanted { ranks: &[IN_PACKETS], count, ..Wanted::default() });
            let found: Vec<Prefix> = survey.largest[0].iter().map(|(host, _)| *host).collect();
            let expected: Vec<Prefix> = expected.iter().take(count).map(|(host, _)| p(host)).collect();
            assert!(found == expected, "of {count}");
        }
    }
}
