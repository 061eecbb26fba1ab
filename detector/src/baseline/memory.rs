//! [`Memory`]: what has been learned, as a file: a restart, above all one during an attack, must not make everything unknown.
//!
//! After a line with the version come frames: four octets of length, big-endian, and so many of an [`Entry`] in postcard's
//! encoding. The last one counts the others, so that a file that was cut is not taken for a short one.

use std::io::{self, Read, Write};
use std::sync::Arc;

use collectors::Time;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    ALL_HOURS, Baselines, Key, LARGEST_RATE, MAX_HISTOGRAMS, MAX_RESERVOIRS, MAX_SUMS, Ordinary, RESERVOIR, Reservoir,
    Subject,
};
use crate::target::Prefix;

const HEAD: &[u8] = b"floodwall baselines 1\n";
/// Octets of an entry at most; a full reservoir has some 30,000.
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
    Host(Prefix, Reservoir),
    Group(String, Reservoir),
    End(u32),
}

/// What [`Baselines`] hold at one moment; cheap to take, since nothing is copied.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    histograms: Vec<(Key, Arc<Histogram<u32>>)>,
    hosts: Vec<(Prefix, Arc<Reservoir>)>,
    groups: Vec<(String, Arc<Reservoir>)>,
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
        let hosts = self.hosts.iter().map(|(host, r)| Entry::Host(*host, Reservoir::clone(r)));
        let groups = self.groups.iter().map(|(group, r)| Entry::Group(group.clone(), Reservoir::clone(r)));
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
                Entry::Host(host, reservoir) => memory.hosts.push((host, Arc::new(reservoir))),
                Entry::Group(group, reservoir) => memory.groups.push((group, Arc::new(reservoir))),
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
            groups: self.groups.iter().map(|(group, r)| (group.clone(), Arc::clone(r))).collect(),
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
        let hosts = memory.hosts.into_iter().filter(|(host, _)| host.is_host() && is_ours(host));
        let room = MAX_RESERVOIRS.saturating_sub(self.hosts.len());
        self.hosts.extend(hosts.take(room).map(|(host, r)| (host, trusted(r, now))));
        let groups = memory.groups.into_iter().filter(|(group, _)| is_group(group));
        self.groups.extend(groups.map(|(group, r)| (group, trusted(r, now))));
    }
}

/// A reservoir whose numbers can be calculated with.
#[allow(clippy::cast_possible_truncation, reason = "seconds until 2106")]
fn trusted(mut reservoir: Arc<Reservoir>, now: Time) -> Arc<Reservoir> {
    let seconds = (now.0 / 1_000_000_000) as u32;
    let is_rate = |rate: &f64| rate.is_finite() && *rate >= 0.0;
    let r = Arc::make_mut(&mut reservoir);
    r.kept.retain(|o: &Ordinary| o.seconds <= seconds);
    r.kept.truncate(RESERVOIR);
    r.seen = r.seen.max(r.kept.len() as u64);
    r.last = r.last.min(now);
    if !r.rate.iter().chain([&r.rate_seconds]).all(is_rate) {
        (r.rate, r.rate_seconds) = ([0.0; 2], 0.0);
    }
    reservoir
}

#[cfg(test)]
mod tests {
    use super::super::HostSecond;
    use super::super::tests::{p, sample};
    use super::*;
    use crate::config::{HostGroup, Learning, Unit};
    use crate::prefixes::Scope;
    use crate::target::{Direction, Target};

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
        after.remember(memory, Time::from_seconds(6_000, 0), |_| true, |_| true);
        assert_eq!(after.learned(), before.learned());
        let target = Target { prefix: p("203.0.113.9"), direction: Direction::Incoming };
        let of = |b: &Baselines| b.ordinary(target, "global", Time::from_seconds(6_000, 0));
        assert!(of(&after).samples == of(&before).samples && of(&after).samples.len() > 400);
        assert_eq!(of(&after).packets_per_second, of(&before).packets_per_second);
    }

    #[test]
    fn what_is_not_ours_any_more_or_of_the_future_is_left_out() {
        let octets = written(&learned());
        let read = || Memory::read(&octets[..]).expect("just written");
        let later = Time::from_seconds(6_000, 0);
        let mut none = Baselines::new(Learning::default(), 2);
        none.remember(read(), later, |_| false, |_| false);
        assert!(none.learned().is_empty() && none.hosts.is_empty() && none.groups.is_empty());
        let mut early = Baselines::new(Learning::default(), 2);
        early.remember(read(), Time::from_seconds(2_000, 0), |_| true, |_| true);
        assert!(early.hosts.values().flat_map(|r| &r.kept).all(|o| o.seconds <= 2_000));
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
                assert!(after.hosts.values().all(|r| r.kept.len() <= RESERVOIR && r.rate[0] >= 0.0));
            }
        }
        assert!(matches!(Memory::read(&b"floodwall baselines 2\n"[..]), Err(MemoryError::Head)));
    }
}
