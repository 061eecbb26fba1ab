//! [`Baseline`]: ordinary traffic of a target, prepared once for all buckets that will be mined against it.

use traffic::sample::tcp_flags;
use traffic::{IpVersion, Sample, Target};

use super::columns::Kinds;
use super::gate::Gate;
use super::row::{ByAddress, Row, Sorted, by_address, sorted};
use super::rowset::{count, for_each};
use super::test::{Field, NUMERIC};
use super::{MAX_OPENINGS, thin};

/// IPv4 lengths of the SYN of the common systems (Linux and Android, Windows, Apple), which join those seen: a baseline holds few.
const SYN_LENGTHS: [u32; 6] = [60, 52, 64, 60, 52, 64];

/// Weights of rows, mostly all alike.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) each: Vec<f64>,
    /// What every row weighs, if it is the same.
    alike: Option<f64>,
}

impl Weights {
    /// The shares of samples in the packets of them all.
    #[allow(clippy::cast_precision_loss, reason = "counts of some hundred samples")]
    pub(super) fn shares(samples: &[&Sample]) -> Self {
        let packets = |s: &Sample| s.packets.max(1) as f64;
        let sum: f64 = samples.iter().map(|s| packets(s)).sum::<f64>().max(f64::MIN_POSITIVE);
        let each: Vec<f64> = samples.iter().map(|s| packets(s) / sum).collect();
        #[allow(clippy::float_cmp, reason = "the same packets give the same share")]
        let alike = each.first().copied().filter(|first| each.iter().all(|w| w == first));
        Self { each, alike }
    }

    /// Sum over the rows of some words.
    pub(super) fn sum(&self, words: &[u64]) -> f64 {
        if let Some(weight) = self.alike {
            return weight * f64::from(count(words));
        }
        let mut sum = 0.0;
        for_each(words, |i| sum += self.each[i]);
        sum
    }

    /// Sum over `count` rows, which are only looked at if they do not all weigh the same.
    pub(super) fn of<I: Iterator<Item = usize>>(&self, count: u32, rows: impl FnOnce() -> I) -> f64 {
        match self.alike {
            Some(weight) => weight * f64::from(count),
            None => rows().map(|i| self.each[i]).sum(),
        }
    }

    /// Calls with each row of some words and its weight.
    pub(super) fn for_each(&self, words: &[u64], mut of: impl FnMut(usize, f64)) {
        match self.alike {
            Some(weight) => for_each(words, |i| of(i, weight)),
            None => for_each(words, |i| of(i, self.each[i])),
        }
    }
}

/// Samples of the ordinary traffic of one target: sorted by every field, with the openings of its connections, ready to be compared
/// with any bucket. Some 200 KiB for 512 samples.
///
/// ```
/// use miner::Baseline;
/// let target = traffic::Target { prefix: "203.0.113.9".parse().unwrap(), direction: traffic::Direction::Incoming };
/// let baseline = Baseline::new(target, Vec::new());
/// assert!(baseline.samples().is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct Baseline {
    target: Target,
    samples: Vec<Sample>,
    /// Rows of the samples.
    pub(super) rows: usize,
    /// The first row of the openings, at the beginning of a word, and how many there are: what the SYN of ordinary connections look
    /// like. A connection's SYN has the addresses and ports of its other packets, so these come from them, and the rest from the few
    /// SYN that were seen.
    pub(super) first_opening: usize,
    pub(super) openings: usize,
    /// The first row that is free for an attack, at the beginning of a word.
    pub(super) end: usize,
    /// Share of each row in the ordinary packets.
    pub(super) share: Weights,
    /// What a share of the ordinary packets is charged for itself, and what each opening is: dropping a SYN drops the rest of its
    /// connection, so they stand for all of TCP.
    pub(super) charge: f64,
    pub(super) opening: f64,
    /// SYN rows.
    pub(super) syns: u32,
    /// Values of each numeric field by row; [`ABSENT`](super::row::ABSENT) where a row has none.
    pub(super) values: [Vec<u32>; NUMERIC.len()],
    /// Rows that have a numeric field, by value.
    pub(super) order: [Sorted; NUMERIC.len()],
    /// Their numbers alone.
    pub(super) numbers: [Vec<u16>; NUMERIC.len()],
    /// The values that they have, each with where it ends there.
    pub(super) runs: [Vec<(u32, u16)>; NUMERIC.len()],
    /// Rows by TCP flags and fragment bits.
    pub(super) flags: Kinds,
    pub(super) fragments: Kinds,
    pub(super) by_source: ByAddress,
    /// Only of a target that is wider than a host.
    pub(super) by_destination: ByAddress,
    pub(super) gate: Gate,
}

impl Baseline {
    /// From ordinary traffic; what is not the target's is left out. Of more than 1024 samples every k-th is used for the search.
    #[must_use]
    pub fn new(target: Target, mut samples: Vec<Sample>) -> Self {
        samples.retain(|s| target.covers(s));
        let version = target.prefix.version();
        let all: Vec<&Sample> = samples.iter().collect();
        let thinned = thin(&all);
        let mut rows: Vec<Row> = thinned.iter().map(|s| Row::new(s)).collect();
        let count = rows.len();
        let first_opening = count.next_multiple_of(64);
        let openings = openings_of(version, &rows);
        let share = Weights::shares(&thinned);
        let (charge, opening) = charges(&rows, &share, openings.len());
        let syns = rows.iter().filter(|r| r.is_syn).count();
        rows.resize(first_opening, Row::NONE);
        rows.extend_from_slice(&openings);
        rows.resize(rows.len().next_multiple_of(64), Row::NONE);
        let is_wide = !target.prefix.is_host();
        let words = rows.len() / 64;
        let order: [Sorted; NUMERIC.len()] = std::array::from_fn(|c| sorted(&rows, 0, c));
        Self {
            rows: count,
            first_opening,
            openings: openings.len(),
            end: rows.len(),
            share,
            charge,
            opening,
            syns: u32::try_from(syns).unwrap_or(u32::MAX),
            values: std::array::from_fn(|c| rows.iter().map(|r| r.numbers[c]).collect()),
            numbers: std::array::from_fn(|c| order[c].iter().map(|(_, i)| *i).collect()),
            runs: std::array::from_fn(|c| runs(&order[c])),
            order,
            flags: Kinds::new(words, 0, rows.iter().map(|r| r.flags)),
            fragments: Kinds::new(words, 0, rows.iter().map(|r| r.fragment)),
            by_source: by_address(version, &rows, 0, |r| r.source),
            by_destination: if is_wide { by_address(version, &rows, 0, |r| r.destination) } else { Vec::new() },
            gate: Gate::new(&all),
            target,
            samples,
        }
    }

    /// Whose traffic it is.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// The values of sorted rows, each with where it ends.
#[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows")]
fn runs(sorted: &[(u32, u16)]) -> Vec<(u32, u16)> {
    let mut end = 0;
    let of = |run: &[(u32, u16)]| {
        end += run.len() as u16;
        (run[0].0, end)
    };
    sorted.chunk_by(|a, b| a.0 == b.0).map(of).collect()
}

/// What a share of the ordinary packets is charged, and each opening: see [`Baseline`].
#[allow(clippy::cast_precision_loss, reason = "at most 512 rows")]
fn charges(rows: &[Row], share: &Weights, openings: usize) -> (f64, f64) {
    if openings == 0 {
        return (1.0, 0.0);
    }
    let of = |is: fn(&Row) -> bool| rows.iter().zip(&share.each).filter(|(r, _)| is(r)).map(|(_, w)| w).sum::<f64>();
    let (tcp, syn) = (of(Row::is_tcp), of(|r| r.is_syn));
    // A SYN stands for fifty packets at most.
    let opening = (tcp - syn).min(49.0 * syn).max(0.0);
    let total = 1.0 + opening;
    (1.0 / total, opening / total / openings as f64)
}

/// The openings of some ordinary rows.
fn openings_of(version: IpVersion, ordinary: &[Row]) -> Vec<Row> {
    let syns: Vec<&Row> = ordinary.iter().filter(|r| r.is_syn).collect();
    if syns.is_empty() {
        return Vec::new();
    }
    let port = |r: &Row| r.number(Field::DestinationPort);
    // Answers to connections that the target opened itself do not begin with a SYN to it.
    let is_of_service = |r: &&Row| r.is_tcp() && syns.iter().any(|s| port(s) == port(r));
    let mut of_service: Vec<&Row> = ordinary.iter().filter(is_of_service).collect();
    // By source, so that a host with many packets opens connections of all kinds.
    of_service.sort_by_key(|r| r.source);
    let step = of_service.len().div_ceil(MAX_OPENINGS).max(1);
    let common = SYN_LENGTHS.map(|length| {
        let mut syn = syns[0].clone();
        let more = if version == IpVersion::V6 { 20 } else { 0 };
        syn.numbers[Field::Length.column()] = length + more;
        syn
    });
    let templates: Vec<&Row> = syns.iter().copied().chain(&common).collect();
    let length = |r: &Row| r.number(Field::Length);
    let header = if version == IpVersion::V6 { 60 } else { 40 };
    // Who acknowledges without options sends no timestamps, and then its SYN is too short to have asked for them.
    let mut bare: Vec<(Option<u128>, bool)> = of_service
        .iter()
        .filter(|r| r.flags == Some(tcp_flags::ACK) && (length(r) == header || length(r) == header + 12))
        .map(|r| (r.source, length(r) == header))
        .collect();
    bare.sort_unstable();
    bare.dedup_by_key(|b| b.0);
    let (short, long): (Vec<&Row>, Vec<&Row>) = templates.iter().copied().partition(|t| length(t) < header + 20);
    let mut next = [0; 3];
    let opening = |row: &&Row| {
        let known = bare.binary_search_by_key(&row.source, |b| b.0).ok().map(|at| bare[at].1);
        let (kind, of) = match known {
            Some(true) => (0, &short),
            Some(false) => (1, &long),
            None => (2, &templates),
        };
        let syn = of[next[kind] % of.len()];
        next[kind] += 1;
        let mut numbers = syn.numbers;
        for field in [Field::DestinationPort, Field::SourcePort] {
            numbers[field.column()] = row.numbers[field.column()];
        }
        Row { source: row.source, destination: row.destination, numbers, ..syn.clone() }
    };
    of_service.iter().step_by(step).map(opening).collect()
}
