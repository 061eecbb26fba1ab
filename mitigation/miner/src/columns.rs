//! [`Columns`]: attack and ordinary samples side by side, as the search sees them.
//!
//! Rows of the prepared [`Baseline`] come first, then, from a word of their own on, those of the attack.

use std::cell::RefCell;

use traffic::{IpVersion, Prefix, Sample};

use super::ordinary::{Baseline, Weights};
use super::row::{ABSENT, Addressed, ByAddress, Row, Sorted, between, by_address, merged, sorted};
use super::rowset::{RowSet, count, for_each};
use super::test::{Field, Mask, NUMERIC, Test, Tests};
use super::{MAX_OPENINGS, MAX_SIDE, PREFIX_ROWS, thin};

/// Bins that hold the values of a field that few rows have, at least.
const BINS: usize = 80;
/// Attack rows with the same value that make it a bin of its own.
const ALONE: usize = 3;

/// Tests whose rows are kept at most; beyond that all are forgotten.
const MOST_TESTS: usize = 64;

/// A field of bits: few values, each with the rows that have it.
#[derive(Debug, Clone)]
pub(super) struct Kinds(pub(super) Vec<(u16, RowSet)>);

impl Kinds {
    /// Values beyond this many are taken for none.
    const MOST: usize = 64;

    /// Rows from `first` on, with the value that each has.
    pub(super) fn new(words: usize, first: usize, rows: impl Iterator<Item = Option<u16>>) -> Self {
        let mut kinds = Self(Vec::with_capacity(8));
        kinds.add(words, first, rows);
        kinds
    }

    /// The same with further rows.
    fn and(&self, words: usize, first: usize, rows: impl Iterator<Item = Option<u16>>) -> Self {
        let mut kinds = Self(self.0.iter().map(|(value, rows)| (*value, rows.among(words))).collect());
        kinds.add(words, first, rows);
        kinds
    }

    fn add(&mut self, words: usize, first: usize, rows: impl Iterator<Item = Option<u16>>) {
        for (row, value) in rows.enumerate() {
            let Some(value) = value else { continue };
            let at = self.0.iter().position(|k| k.0 == value).unwrap_or(self.0.len());
            if at == self.0.len() && at < Self::MOST {
                self.0.push((value, RowSet::none(words)));
            }
            if let Some((_, rows)) = self.0.get_mut(at) {
                rows.insert(first + row);
            }
        }
    }

    fn matching(&self, none: RowSet, mask: Mask) -> RowSet {
        self.0.iter().filter(|k| mask.matches(k.0)).fold(none, |all, (_, rows)| all.or(rows))
    }
}

/// Neighbouring values of a field: the lowest and the highest, and where they end in the attack's rows by value and the ordinary ones.
#[derive(Debug, Clone, Copy)]
struct Bin {
    low: u32,
    high: u32,
    ends: (usize, usize),
}

/// What an opening counts among marks, of which there are fewer.
const OPENING: u32 = 1 << 16;

/// Ordinary rows and openings at most, as a power of two.
const MARKS: usize = (MAX_SIDE + MAX_OPENINGS).next_power_of_two();

/// A number for every ordinary row and opening: 1 or [`OPENING`] if it is in a set, else 0.
#[derive(Debug)]
pub(super) struct Marks(Box<[u32; MARKS]>);

impl Default for Marks {
    fn default() -> Self {
        Self(Box::new([0; MARKS]))
    }
}

impl Marks {
    fn of(&self, row: u16) -> u32 {
        self.0[usize::from(row) % MARKS]
    }
}

/// The bits of a word, each as a number of its own.
#[allow(clippy::cast_possible_truncation, reason = "four bits")]
fn spread(word: u64, one: u32, into: &mut [u32; 64]) {
    const FOUR: [[u32; 4]; 16] = {
        let mut all = [[0; 4]; 16];
        let mut bits = 0;
        while bits < 64 {
            all[bits / 4][bits % 4] = (bits as u32 / 4) >> (bits % 4) & 1;
            bits += 1;
        }
        all
    };
    for (at, four) in into.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *four = FOUR[(word >> (4 * at)) as usize % 16].map(|bit| bit.wrapping_mul(one));
    }
}

/// What a set of rows has in a bin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) mass: Mass,
    pub(super) attack_rows: u32,
    /// Ordinary rows and openings.
    pub(super) ordinary_rows: u32,
}

/// Shares of both sides that a set of rows makes up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shares {
    /// Of the captured packets.
    pub(super) attack: f64,
    /// Of the ordinary packets.
    pub(super) ordinary: f64,
    /// Of the ordinary new connections: what is lost when their SYN is.
    pub(super) connections: f64,
    /// Rows.
    pub(super) attack_rows: u32,
    pub(super) ordinary_rows: u32,
}

/// What a set of rows weighs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mass {
    /// Share of the captured packets.
    pub(super) attack: f64,
    /// Share of the ordinary packets, with each SYN standing for a whole connection.
    pub(super) ordinary: f64,
}

/// Rows of both sides by an address, and where there are enough attack rows with a shortest prefix in common.
#[derive(Debug)]
pub(super) struct Addresses<'a> {
    attack: ByAddress,
    ordinary: &'a [Addressed],
    /// Ranges of both lists.
    networks: Vec<[std::ops::Range<usize>; 2]>,
}

impl<'a> Addresses<'a> {
    fn new(attack: ByAddress, ordinary: &'a [Addressed], shortest: u8) -> Self {
        let mut networks = Vec::new();
        let mut at = 0;
        for part in attack.chunk_by(|a, b| (a.0 ^ b.0).leading_zeros() >= u32::from(shortest)) {
            let from = at;
            at += part.len();
            if part.len() >= PREFIX_ROWS as usize {
                let last = u128::MAX.checked_shr(shortest.into()).unwrap_or(0);
                let (low, high) = (part[0].0 & !last, part[0].0 | last);
                let first = ordinary.partition_point(|o| o.0 < low);
                let count = ordinary[first..].partition_point(|o| o.0 <= high);
                networks.push([from..at, first..first + count]);
            }
        }
        Self { attack, ordinary, networks }
    }

    /// Attack rows and ordinary rows of each network with enough of the former.
    pub(super) fn networks(&self) -> impl Iterator<Item = (&[Addressed], &[Addressed])> {
        self.networks.iter().map(|[a, o]| (&self.attack[a.clone()], &self.ordinary[o.clone()]))
    }

    /// All rows by ascending address.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (u128, usize)> {
        merged(&self.attack, self.ordinary)
    }

    fn within(&self, prefix: &Prefix, mut of: impl FnMut(usize)) {
        let last = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
        let (low, high) = (prefix.bits(), prefix.bits() | last);
        for list in [&self.attack, self.ordinary] {
            between(list, low, high).iter().for_each(|(_, i)| of(usize::from(*i)));
        }
    }
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    pub(super) version: IpVersion,
    pub(super) baseline: &'a Baseline,
    /// Rows of the attack.
    pub(super) attack: usize,
    /// Independent observations of the attack: fewer than rows where some stand for many packets.
    pub(super) effective: f64,
    /// Share of each attack row in the captured packets.
    share: Weights,
    /// All rows.
    pub(super) all: RowSet,
    /// Those of ordinary traffic that was seen.
    pub(super) ordinary_rows: RowSet,
    /// Values of each numeric field of the attack's rows, and rows by them.
    values: [Vec<u32>; NUMERIC.len()],
    order: [Sorted; NUMERIC.len()],
    /// TCP flags and fragment bits by row.
    pub(super) flags: Kinds,
    pub(super) fragments: Kinds,
    /// The bins of each numeric field, ascending.
    bins: [Vec<Bin>; NUMERIC.len()],
    pub(super) by_source: Addresses<'a>,
    pub(super) by_destination: Addresses<'a>,
    /// Tests that were asked for, with the rows that pass.
    tested: RefCell<Vec<(Test, RowSet)>>,
}

impl<'a> Columns<'a> {
    /// From the samples of the attack and the prepared baseline; `used` says which numeric fields will be asked for, `lengths` which
    /// source and destination prefixes are the shortest.
    #[allow(clippy::cast_precision_loss, reason = "at most 1024 rows")]
    pub(super) fn new(
        attack: &[&Sample],
        baseline: &'a Baseline,
        used: impl Fn(Field) -> bool,
        (source, destination): (u8, u8),
    ) -> Self {
        let version = baseline.target().prefix.version();
        let attack = thin(attack);
        let rows: Vec<Row> = attack.iter().map(|s| Row::new(s)).collect();
        let share = Weights::shares(&attack);
        let first = baseline.end;
        let words = first / 64 + rows.len().div_ceil(64);
        let mut ordinary_rows = RowSet::none(words);
        ordinary_rows.fill(0, baseline.rows);
        let mut all = ordinary_rows;
        all.fill(baseline.first_opening / 64, baseline.openings);
        all.fill(first / 64, rows.len());
        let by_destination = if baseline.by_destination.is_empty() {
            ByAddress::new()
        } else {
            by_address(version, &rows, first, |r| r.destination)
        };
        let mut columns = Self {
            version,
            baseline,
            attack: rows.len(),
            effective: 1.0 / share.each.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE),
            share,
            all,
            ordinary_rows,
            values: std::array::from_fn(|c| rows.iter().map(|r| r.numbers[c]).collect()),
            order: std::array::from_fn(|c| if used(NUMERIC[c]) { sorted(&rows, first, c) } else { Vec::new() }),
            flags: baseline.flags.and(words, first, rows.iter().map(|r| r.flags)),
            fragments: baseline.fragments.and(words, first, rows.iter().map(|r| r.fragment)),
            bins: std::array::from_fn(|_| Vec::new()),
            by_source: Addresses::new(by_address(version, &rows, first, |r| r.source), &baseline.by_source, source),
            by_destination: Addresses::new(by_destination, &baseline.by_destination, destination),
            tested: RefCell::default(),
        };
        for column in (0..NUMERIC.len()).filter(|c| used(NUMERIC[*c])) {
            columns.bins[column] = columns.bins_of(column);
        }
        columns
    }

    /// Puts neighbouring values that few rows have into bins; a value that many have is a bin of its own. Neighbours without attack
    /// rows are one: no range begins, ends or is cut there.
    fn bins_of(&self, column: usize) -> Vec<Bin> {
        let (attack, runs) = (&self.order[column], &self.baseline.runs[column]);
        let rows = self.baseline.rows + self.baseline.openings + self.attack;
        let (many, full) = (rows.div_ceil(100), rows.div_ceil(BINS));
        let mut bins: Vec<Bin> = Vec::with_capacity(2 * BINS);
        let (mut filled, mut alone) = (0, true);
        let (mut a, mut run, mut o) = (0, 0, 0);
        // Whether the last bin and the one before hold attack rows.
        let (mut has_attack, mut had_attack) = (true, true);
        loop {
            let (of_attack, of_ordinary) = (attack.get(a).map(|a| a.0), runs.get(run));
            let Some(value) = of_attack.into_iter().chain(of_ordinary.map(|r| r.0)).min() else { break };
            let (before_a, before_o) = (a, o);
            a += attack[a..].iter().take_while(|a| a.0 == value).count();
            if let Some((_, end)) = of_ordinary.filter(|r| r.0 == value) {
                o = usize::from(*end);
                run += 1;
            }
            let count = a - before_a + o - before_o;
            let apart = count >= many || a - before_a >= ALONE;
            if apart || alone || filled >= full {
                merge_ordinary(&mut bins, has_attack || had_attack);
                had_attack = has_attack;
                has_attack = false;
                bins.push(Bin { low: value, high: value, ends: (a, o) });
                (filled, alone) = (count, apart);
            } else if let Some(last) = bins.last_mut() {
                filled += count;
                (last.high, last.ends) = (value, (a, o));
            }
            has_attack |= a > before_a;
        }
        merge_ordinary(&mut bins, has_attack || had_attack);
        bins
    }

    /// The value of a row, or [`ABSENT`].
    pub(super) fn value(&self, column: usize, row: usize) -> u32 {
        if row >= self.baseline.end {
            self.values[column][row - self.baseline.end]
        } else {
            self.baseline.values[column][row]
        }
    }

    /// Rows that have a numeric field, of the attack and ordinary ones, by value.
    pub(super) fn both(&self, field: Field) -> [&[(u32, u16)]; 2] {
        [&self.order[field.column()], &self.baseline.order[field.column()]]
    }

    /// Rows that have a numeric field, by value.
    pub(super) fn in_order(&self, field: Field) -> impl Iterator<Item = (u32, usize)> {
        merged(&self.order[field.column()], &self.baseline.order[field.column()])
    }

    /// Rows with values from `low` to `high`.
    pub(super) fn between(&self, field: Field, low: u32, high: u32) -> [&[(u32, u16)]; 2] {
        self.both(field).map(|o| between(o, low, high))
    }

    /// Rows of a set that pass a test.
    pub(super) fn narrow(&self, set: &RowSet, test: &Test) -> RowSet {
        let mut tested = self.tested.borrow_mut();
        if let Some((_, rows)) = tested.iter().rev().find(|t| t.0 == *test) {
            return rows.and(set);
        }
        if tested.len() >= MOST_TESTS {
            tested.clear();
        }
        let rows = self.passing(test);
        tested.push((*test, rows));
        rows.and(set)
    }

    /// Rows that pass a test.
    fn passing(&self, test: &Test) -> RowSet {
        let mut found = RowSet::none(self.all.words().len());
        match test {
            Test::Numbers(field, spans) => {
                for (low, high) in spans.as_slice() {
                    for list in self.between(*field, *low, *high) {
                        list.iter().for_each(|(_, i)| found.insert(usize::from(*i)));
                    }
                }
            }
            Test::TcpFlags(mask) => return self.flags.matching(found, *mask),
            Test::Fragment(mask) => return self.fragments.matching(found, *mask),
            Test::Source(prefix) => self.by_source.within(prefix, |i| found.insert(i)),
            Test::Destination(prefix) => self.by_destination.within(prefix, |i| found.insert(i)),
        }
        found
    }

    /// Rows of a set that pass all tests.
    pub(super) fn matching(&self, set: &RowSet, tests: &Tests) -> RowSet {
        tests.iter().fold(*set, |set, test| self.narrow(&set, test))
    }

    /// Share of the address space in use that a prefix of this length makes up (IPv6: of 2000::/3).
    pub(super) fn space(&self, length: u8) -> f64 {
        let free = match self.version {
            IpVersion::V4 => length,
            IpVersion::V6 => length.saturating_sub(3),
        };
        0.5f64.powi(free.into())
    }

    /// The same for one prefix: of IPv4 what is neither reserved nor multicast counts.
    pub(super) fn space_of(&self, bits: u128, length: u8) -> f64 {
        match self.version {
            IpVersion::V4 => {
                let from = bits >> 96;
                let to = from + (1u128 << (32 - length));
                let used = to.min(224 << 24).saturating_sub(from.max(1 << 24));
                #[allow(clippy::cast_precision_loss, reason = "an IPv4 address has 32 bits")]
                let share = used as f64 / f64::from(223u32 << 24);
                share
            }
            IpVersion::V6 => self.space(length),
        }
    }

    /// Whether a row is of the attack.
    pub(super) const fn is_attack(&self, row: usize) -> bool {
        row >= self.baseline.end
    }

    /// Whether a row is of ordinary traffic that was seen.
    pub(super) const fn is_ordinary(&self, row: usize) -> bool {
        row < self.baseline.first_opening
    }

    /// Share of an attack row in the captured packets.
    pub(super) fn share(&self, row: usize) -> f64 {
        self.share.each[row - self.baseline.end]
    }

    /// Share of an ordinary row in the ordinary packets.
    pub(super) fn ordinary_share(&self, row: usize) -> f64 {
        self.baseline.share.each[row]
    }

    /// Share of an ordinary row or an opening with each SYN standing for a whole connection.
    pub(super) fn charged(&self, row: usize) -> f64 {
        let baseline = self.baseline;
        if self.is_ordinary(row) { baseline.share.each[row] * baseline.charge } else { baseline.opening }
    }

    /// The words of a set that hold ordinary rows, openings, and attack rows.
    pub(super) fn parts<'s>(&self, set: &'s RowSet) -> [&'s [u64]; 3] {
        let (rest, attack) = set.words().split_at(self.baseline.end / 64);
        let (ordinary, openings) = rest.split_at(self.baseline.first_opening / 64);
        [ordinary, openings, attack]
    }

    /// Calls with each attack row of a set, counted from the first, and its share.
    pub(super) fn each_attack(&self, set: &RowSet, of: impl FnMut(usize, f64)) {
        self.share.for_each(self.parts(set)[2], of);
    }

    /// The values of a numeric field that attack rows of a set have.
    pub(super) fn each_value(&self, set: &RowSet, field: Field, mut of: impl FnMut(u32)) {
        let values = &self.values[field.column()];
        for_each(self.parts(set)[2], |i| {
            if values[i] != ABSENT {
                of(values[i]);
            }
        });
    }

    /// Marks the ordinary rows and openings of a set, for [`Columns::each_bin`].
    pub(super) fn mark(&self, set: &RowSet, marks: &mut Marks) {
        let [ordinary, openings, _] = self.parts(set);
        let units = ordinary.iter().map(|word| (word, 1)).chain(openings.iter().map(|word| (word, OPENING)));
        for (marks, (word, unit)) in marks.0.as_chunks_mut().0.iter_mut().zip(units) {
            spread(*word, unit, marks);
        }
    }

    /// Calls with each bin of a numeric field, and what the rows of a set, which are marked, have in it.
    pub(super) fn each_bin(&self, set: &RowSet, marks: &Marks, column: usize, mut of: impl FnMut(Held)) {
        let mut from = (0, 0);
        for bin in &self.bins[column] {
            of(self.held(set, marks, column, from, bin));
            from = bin.ends;
        }
    }

    /// The same with each value that the attack rows of the set have, and with what lies before, between and after them.
    pub(super) fn each_value_of(&self, set: &RowSet, marks: &Marks, column: usize, mut of: impl FnMut(Held)) {
        let (attack, runs) = (&self.order[column], &self.baseline.runs[column]);
        let last = runs.last().map_or(0, |run| usize::from(run.1));
        let (mut from, mut run) = ((0, 0), 0);
        while let Some(next) = attack[from.0..].iter().position(|(_, i)| set.contains((*i).into())) {
            let at = from.0 + next;
            let value = attack[at].0;
            run += runs[run..].iter().take_while(|r| r.0 < value).count();
            let below = run.checked_sub(1).map_or(0, |r| usize::from(runs[r].1));
            if below > from.1 {
                of(self.held(set, marks, column, from, &Bin { low: 0, high: value - 1, ends: (at, below) }));
            }
            let same = at + attack[at..].iter().take_while(|a| a.0 == value).count();
            let upto = runs.get(run).filter(|r| r.0 == value).map_or(below, |r| usize::from(r.1));
            of(self.held(set, marks, column, (at, below), &Bin { low: value, high: value, ends: (same, upto) }));
            from = (same, upto);
        }
        of(self.held(set, marks, column, from, &Bin { low: 0, high: u32::MAX, ends: (attack.len(), last) }));
    }

    /// What the rows of a set, which are marked, have in a bin that begins at these places.
    fn held(&self, set: &RowSet, marks: &Marks, column: usize, from: (usize, usize), bin: &Bin) -> Held {
        let baseline = self.baseline;
        let numbers = &baseline.numbers[column][from.1..bin.ends.1];
        let attack = &self.order[column][from.0..bin.ends.0];
        let marked = numbers.iter().fold(0, |sum: u32, i| sum.wrapping_add(marks.of(*i)));
        let (rows, openings) = (marked % OPENING, marked / OPENING);
        let attack_rows = attack.iter().fold(0, |count: u32, (_, i)| count.wrapping_add(set.bit(*i)));
        let is_in = |i: &usize| set.contains(*i);
        let of_attack = || attack.iter().map(|(_, i)| usize::from(*i)).filter(is_in).map(|i| i - baseline.end);
        let of_ordinary = || {
            let rows = numbers.iter().map(|i| usize::from(*i)).filter(is_in);
            rows.filter(|i| *i < baseline.first_opening)
        };
        let ordinary = baseline.share.of(rows, of_ordinary);
        Held {
            low: bin.low,
            high: bin.high,
            mass: Mass {
                attack: self.share.of(attack_rows, of_attack),
                ordinary: ordinary * baseline.charge + f64::from(openings) * baseline.opening,
            },
            attack_rows,
            ordinary_rows: rows + openings,
        }
    }

    /// What a set of rows weighs.
    pub(super) fn mass(&self, set: &RowSet) -> Mass {
        let [ordinary, openings, attack] = self.parts(set);
        let baseline = self.baseline;
        Mass {
            attack: self.share.sum(attack),
            ordinary: baseline.share.sum(ordinary) * baseline.charge + baseline.opening * f64::from(count(openings)),
        }
    }

    /// Attack rows of a set, and their share.
    pub(super) fn attack_of(&self, set: &RowSet) -> (u32, f64) {
        let attack = self.parts(set)[2];
        (count(attack), self.share.sum(attack))
    }

    pub(super) fn shares(&self, set: &RowSet) -> Shares {
        let [of_ordinary, openings, attack] = self.parts(set);
        let ordinary = self.baseline.share.sum(of_ordinary);
        Shares {
            attack: self.share.sum(attack),
            ordinary,
            connections: self.connections_of(f64::from(count(openings)), ordinary),
            attack_rows: count(attack),
            ordinary_rows: count(of_ordinary),
        }
    }

    /// Share of new connections of some openings. A handful of SYN says little: it leans on the share of packets by one of them.
    #[allow(clippy::cast_precision_loss, reason = "at most 512 rows")]
    pub(super) fn connections_of(&self, openings: f64, ordinary: f64) -> f64 {
        let (count, syns) = (self.baseline.openings, f64::from(self.baseline.syns));
        if count == 0 {
            return ordinary;
        }
        (openings / count as f64 * syns + ordinary) / (syns + 1.0)
    }
}

/// Makes the last two bins one unless there are attack rows in either.
fn merge_ordinary(bins: &mut Vec<Bin>, is_apart: bool) {
    if let [.., before, last] = &mut bins[..]
        && !is_apart
    {
        (before.high, before.ends) = (last.high, last.ends);
        bins.pop();
    }
}
