//! [`Memory`]: what has been learned, as a file: a restart, above all one during an attack, must not make everything unknown.
//!
//! After a line with the version come frames: four octets of length, big-endian, and so many of an [`Entry`] in postcard's
//! encoding. The last one counts the others, so that a file that was cut is not taken for a short one.

use std::io::{self, Read, Write};
use std::sync::Arc;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use traffic::{IpVersion, Prefix, Time};

use super::reservoir::{Reservoir, Stored};
use super::{ALL_HOURS, Baselines, Key, LARGEST_RATE, MAX_HISTOGRAMS, MAX_RESERVOIRS, MAX_SUMS, Subject};

const HEAD: &[u8] = b"floodwall baselines 1\n";
/// Octets of an entry at most; a host's has some 40,000, a group's twice as many.
const LARGEST: u32 = 1 << 18;
/// Entries at most: histograms, hosts, and as many groups.
const MOST: usize = MAX_HISTOGRAMS + 2 * MAX_RESERVOIRS;

/// Why a file cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else, or of another version.
    #[error(
        "it does not begin with \"floodwall baselines 1\": another version of floodwall wrote it, or another program"
    )]
    Head,
    /// It is damaged.
    #[error("entry {0} is damaged")]
    Entry(usize),
    /// It was cut.
    #[error("it ends after {0} entries, where more should follow")]
    Cut(usize),
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    /// A histogram as values and how often each was seen.
    Histogram(Key, Vec<(u64, u32)>),
    Host(Prefix, Stored),
    /// Samples of both IP versions.
    Group(String, Stored),
    End(u32),
}

/// What [`Baselines`] hold at one moment; cheap to take, since nothing is copied.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    histograms: Vec<(Key, Arc<Histogram<u32>>)>,
    hosts: Vec<(Prefix, Arc<Reservoir>)>,
    groups: Vec<(String, [Arc<Reservoir>; 2])>,
}

impl Memory {
    /// Hosts that have samples of their own.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, mut writer: impl Write) -> io::Result<()> {
        writer.write_all(HEAD)?;
        let mut count = 0u32;
        let histograms = self.histograms.iter().map(|(key, histogram)| {
            let values = histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value()));
            Entry::Histogram(key.clone(), values.collect())
        });
        let hosts = self.hosts.iter().map(|(host, r)| Entry::Host(*host, Stored::of([&**r])));
        let groups = self.groups.iter();
        let groups = groups.map(|(group, of)| Entry::Group(group.clone(), Stored::of(of.iter().map(|r| &**r))));
        for entry in histograms.chain(hosts).chain(groups) {
            put(&mut writer, &entry)?;
            count += 1;
        }
        put(&mut writer, &Entry::End(count))?;
        writer.flush()
    }

    /// Reads what [`Memory::write`] wrote.
    ///
    /// # Errors
    /// What cannot be read to its end is not used at all.
    pub fn read(mut reader: impl Read) -> Result<Self, MemoryError> {
        let mut head = [0; HEAD.len()];
        reader.read_exact(&mut head).map_err(|_| MemoryError::Head)?;
        if head != HEAD {
            return Err(MemoryError::Head);
        }
        let mut memory = Self::default();
        let mut octets = Vec::new();
        for number in 0..=MOST {
            match get(&mut reader, &mut octets, number)? {
                Entry::Histogram(key, values) => {
                    let mut histogram = Histogram::new(2).map_err(|_| MemoryError::Entry(number))?;
                    histogram.auto(true);
                    for (value, count) in values {
                        let value = value.min(LARGEST_RATE);
                        histogram.record_n(value, count).map_err(|_| MemoryError::Entry(number))?;
                    }
                    memory.histograms.push((key, Arc::new(histogram)));
                }
                Entry::Host(host, stored) => memory.hosts.push((host, Arc::new(stored.read(host.version())))),
                Entry::Group(group, stored) => {
                    let of = [IpVersion::V4, IpVersion::V6].map(|version| Arc::new(stored.read(version)));
                    memory.groups.push((group, of));
                }
                Entry::End(count) if usize::try_from(count) == Ok(number) => return Ok(memory),
                Entry::End(_) => return Err(MemoryError::Entry(number)),
            }
        }
        Err(MemoryError::Entry(MOST))
    }
}

fn put(writer: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let octets = postcard::to_stdvec(entry).map_err(io::Error::other)?;
    let length = u32::try_from(octets.len()).map_err(io::Error::other)?;
    writer.write_all(&length.to_be_bytes())?;
    writer.write_all(&octets)
}

fn get(reader: &mut impl Read, octets: &mut Vec<u8>, number: usize) -> Result<Entry, MemoryError> {
    let cut = |error: io::Error| {
        if error.kind() == io::ErrorKind::UnexpectedEof { MemoryError::Cut(number) } else { MemoryError::Io(error) }
    };
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(cut)?;
    let length = u32::from_be_bytes(length);
    if length > LARGEST {
        return Err(MemoryError::Entry(number));
    }
    octets.resize(length as usize, 0);
    reader.read_exact(octets).map_err(cut)?;
    postcard::from_bytes(octets).map_err(|_| MemoryError::Entry(number))
}

impl Baselines {
    /// All of it, to be kept.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut hosts: Vec<_> = self.hosts.iter().map(|(host, r)| (*host, Arc::clone(r))).collect();
        hosts.sort_unstable_by_key(|(host, _)| *host);
        Memory {
            histograms: self.histograms.iter().map(|(key, h)| (key.clone(), Arc::clone(h))).collect(),
            hosts,
            groups: self.groups.iter().map(|(group, of)| (group.clone(), of.clone())).collect(),
        }
    }

    /// Takes up what was learned before, within the same limits, as far as hosts and groups are still ours. What is newer than
    /// `now` was learned by a wrong clock.
    pub(crate) fn remember(
        &mut self,
        memory: Memory,
        now: Time,
        is_ours: impl Fn(&Prefix) -> bool,
        is_group: impl Fn(&str) -> bool,
    ) {
        for (key, histogram) in memory.histograms {
            let (subject, hour, ..) = &key;
            let is_known = match subject {
                Subject::Hosts(group) => is_group(group),
                Subject::Sum(_, prefix) => is_ours(prefix),
            };
            let is_sum = matches!(subject, Subject::Sum(..)) && !self.histograms.contains_key(&key);
            let has_room = self.histograms.len() < MAX_HISTOGRAMS && (!is_sum || self.sums < MAX_SUMS);
            if is_known && has_room && *hour <= ALL_HOURS {
                self.sums += usize::from(is_sum);
                self.histograms.insert(key, histogram);
            }
        }
        let ages = self.ages();
        let mut mended = |mut reservoir: Arc<Reservoir>| {
            Arc::make_mut(&mut reservoir).mend(now, ages, &mut self.dice);
            reservoir
        };
        let hosts = memory.hosts.into_iter().filter(|(host, _)| host.is_host() && is_ours(host));
        let room = MAX_RESERVOIRS.saturating_sub(self.hosts.len());
        self.hosts.extend(hosts.take(room).map(|(host, r)| (host, mended(r))));
        let groups = memory.groups.into_iter().filter(|(group, _)| is_group(group));
        self.groups.extend(groups.map(|(group, of)| (group, of.map(&mut mended))));
    }
}

#[cfg(test)]
mod tests {
    use traffic::{Direction, Target};

    use super::super::reservoir::MOST;
    use super::super::tests::{p, sample};
    use super::super::{HostSecond, Ordinary};
    use super::*;
    use crate::config::{HostGroup, Learning, Unit};
    use crate::prefixes::Scope;

    fn learned() -> Baselines {
        let mut baselines = Baselines::new(Learning::default(), 1);
        for second in 0..5_000 {
            let now = Time::from_seconds(second, 0);
            baselines.sample(now, p("203.0.113.9"), "global", Direction::Incoming, &sample(second, 443));
            let groups = [HostGroup { name: "global".to_owned(), ..HostGroup::default() }];
            let of = |packets| HostSecond { own: p("203.0.113.9"), group: 0, packets, bytes: [0; 2] };
            baselines.learn_hosts(now, 1.0, &groups, &mut [of([second, 10])]);
            let network = (Scope::Network, p("203.0.113.0/24"));
            baselines.sum_rate(now, network, Direction::Incoming, Unit::Bytes, 7);
        }
        baselines
    }

    fn written(baselines: &Baselines) -> Vec<u8> {
        let mut octets = Vec::new();
        baselines.memory().write(&mut octets).expect("memory takes everything");
        octets
    }

    #[test]
    fn what_was_learned_is_known_again() {
        let before = learned();
        let memory = Memory::read(&written(&before)[..]).expect("just written");
        assert_eq!(memory.hosts(), 1);
        let mut after = Baselines::new(Learning::default(), 2);
        let at = Time::from_seconds(6_000, 0);
        after.remember(memory, at, |_| true, |_| true);
        assert_eq!(after.learned(at), before.learned(at));
        let target = Target { prefix: p("203.0.113.9"), direction: Direction::Incoming };
        let of = |b: &Baselines| b.ordinary(target, "global", at);
        assert!(of(&after).samples == of(&before).samples && of(&after).samples.len() >= 256);
        assert_eq!(of(&after).packets_per_second, of(&before).packets_per_second);
    }

    #[test]
    fn what_is_not_ours_any_more_or_of_the_future_is_left_out() {
        let octets = written(&learned());
        let read = || Memory::read(&octets[..]).expect("just written");
        let later = Time::from_seconds(6_000, 0);
        let mut none = Baselines::new(Learning::default(), 2);
        none.remember(read(), later, |_| false, |_| false);
        assert!(none.learned(later).is_empty() && none.hosts.is_empty() && none.groups.is_empty());
        let mut early = Baselines::new(Learning::default(), 2);
        early.remember(read(), Time::from_seconds(2_000, 0), |_| true, |_| true);
        let times = |r: &Reservoir| r.of(Direction::Incoming).all().iter().all(|o| o.seconds <= 2_000);
        assert!(early.hosts.values().all(|r| times(r) && r.count(0).0 > 50));
    }

    /// What 76c8509 and earlier wrote: samples by number, in the order of their places, of both directions.
    #[test]
    fn samples_that_were_kept_by_number_are_taken_up() {
        #[derive(Serialize)]
        struct ByNumber {
            kept: Vec<Ordinary>,
            seen: u64,
            last: Time,
            rate: [f64; 2],
            rate_seconds: f64,
        }
        #[derive(Serialize)]
        enum Earlier {
            #[allow(dead_code, reason = "holds its number")]
            Histogram,
            Host(Prefix, ByNumber),
            Group(String, ByNumber),
            End(u32),
        }
        let kept = |i: u64| {
            let second = i * 7 % 512 * 10;
            let direction = if i.is_multiple_of(4) { Direction::Outgoing } else { Direction::Incoming };
            Ordinary::of(&sample(second, 443), direction, Time::from_seconds(second, 0))
        };
        let by_number = || {
            let kept = (0..512).map(kept).collect();
            ByNumber {
                kept,
                seen: 100_000,
                last: Time::from_seconds(5_110, 0),
                rate: [70.0, 7.0],
                rate_seconds: 5_000.0,
            }
        };
        let mut octets = HEAD.to_vec();
        let (host, group) =
            (Earlier::Host(p("203.0.113.9"), by_number()), Earlier::Group("global".to_owned(), by_number()));
        for entry in [host, group, Earlier::End(2)] {
            let entry = postcard::to_stdvec(&entry).expect("encodes");
            octets.extend(u32::try_from(entry.len()).expect("short").to_be_bytes());
            octets.extend(entry);
        }
        let mut after = Baselines::new(Learning::default(), 2);
        let at = Time::from_seconds(5_400, 0);
        after.remember(Memory::read(&octets[..]).expect("reads"), at, |_| true, |_| true);
        for own in ["203.0.113.9", "203.0.113.10"] {
            let target = Target { prefix: p(own), direction: Direction::Incoming };
            let ordinary = after.ordinary(target, "global", at);
            assert!(ordinary.samples.len() > 340, "{} for {own}", ordinary.samples.len());
            assert!(ordinary.samples.is_sorted_by_key(|s| s.time));
        }
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_the_damage_is() {
        let octets = written(&learned());
        for length in (0..octets.len()).step_by(97) {
            assert!(Memory::read(&octets[..length]).is_err(), "cut after {length} octets");
        }
        let mut random = 1u64;
        for _ in 0..2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut damaged = octets.clone();
            let place = usize::try_from(random >> 33).expect("31 bits") % damaged.len();
            damaged[place] ^= 1 << (random & 7);
            // It may read as something else; nothing panics, and no limit is exceeded.
            if let Ok(memory) = Memory::read(&damaged[..]) {
                let mut after = Baselines::new(Learning::default(), 2);
                after.remember(memory, Time::from_seconds(6_000, 0), |_| true, |_| true);
                assert!(after.hosts.values().all(|r| r.count(0).0 <= 2 * MOST && r.rate[0] >= 0.0));
            }
        }
        assert!(matches!(Memory::read(&b"floodwall baselines 2\n"[..]), Err(MemoryError::Head)));
    }
}
