//! The conjunction that covers most excess for the ordinary traffic it hits: a beam search whose every step is exact.
//!
//! Rows of the attack weigh plus, rows of ordinary traffic minus. The best set of ranges of a numeric field is then the segmentation
//! of greatest sum (Kadane's run, with a price for every further range), the best prefix the group of greatest sum.

use flowspec::Capabilities;
use traffic::{Direction, IpVersion, Prefix};

use super::PREFIX_ROWS;
use super::columns::{Addresses, Columns, Mass};
use super::profile::{Group, Profiles, Totals};
use super::rowset::RowSet;
use super::test::{Field, MAX_SPANS, Mask, NUMERIC, Spans, Test, Tests};

/// States kept per depth by their score, and by what they may still become: two conditions may be worth nothing alone and everything
/// together, as bare SYN are.
const BEAM: usize = 2;
const BEAM_OF_FEW: usize = 1;
const HOPES: usize = 2;
/// Depths at which hopes are kept, and of few attack rows, which do not bear as many conditions.
const HOPEFUL: usize = 2;
const HOPEFUL_OF_FEW: usize = 1;
const FEW: usize = 64;
/// Share of the ordinary traffic hit that is charged to a hope.
const HOPE: f64 = 0.15;
/// States that take the place of the best one when chance explains it.
const RUNNERS_UP: usize = 3;
/// Conditions beside the first at most.
const DEPTH: usize = 4;
const DEPTH_OF_FEW: usize = 3;
/// Protocols that are looked into.
const PROTOCOLS: usize = 4;
/// A hole in a range must spare as much as this many ordinary samples weigh: fewer meet by chance.
const HOLE: f64 = 3.0;
/// Share of its part of the address space that a prefix without a sample of ordinary traffic is taken to hold of it.
const UNSEEN: f64 = 0.5;
/// How many times the ternary entries that are allowed a rule may take before its ends are rounded.
pub(super) const ROUNDING: u32 = 16;
/// A prefix must bring this much.
const PREFIX_WORTH: f64 = 0.02;

/// A conjunction and the rows it matches.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) tests: Tests,
    pub(super) rows: RowSet,
    pub(super) score: f64,
    /// Sum of the weights above zero: no further condition can leave more.
    plus: f64,
}

/// One search, and at which exchange rate it is.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) columns: &'a Columns<'a>,
    /// What the captured packets weigh, all of them, and what all ordinary traffic does.
    attack: f64,
    ordinary: f64,
    /// Price of a unit of rule length.
    pub(super) price: f64,
    pub(super) can: Capabilities,
    pub(super) direction: Direction,
    /// Length of the target's prefix.
    target_length: u8,
    profiles: Profiles,
    groups: Vec<Group>,
    segments: Vec<(Opened, usize)>,
    proposals: Vec<Proposal>,
}

/// Where the range that holds a group began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// At an earlier group.
    Before,
    /// Here, as the first range.
    First,
    /// Here, after another range.
    Again,
}

#[derive(Debug)]
struct Proposal {
    parent: usize,
    test: Test,
    score: f64,
    /// Score if most of the ordinary traffic that it hits could still be told apart by further conditions.
    hope: f64,
}

/// A test with the sums of the weights it keeps, above zero and in all.
type Found = (Test, f64, f64);

/// Lengths of prefixes that are tried, longer than `least`.
pub(super) fn lengths(version: IpVersion, least: u8) -> &'static [u8] {
    let all: &[u8] = match version {
        IpVersion::V4 => &[8, 12, 16, 20, 22, 24, 28, 32],
        IpVersion::V6 => &[20, 32, 40, 48, 56, 64, 128],
    };
    &all[all.partition_point(|l| *l <= least)..]
}

impl<'a> Search<'a> {
    /// The captured packets weigh `attack` in all; what ordinary traffic weighs is to be set before anything is asked.
    pub(super) fn new(
        columns: &'a Columns<'a>,
        attack: f64,
        price: f64,
        can: Capabilities,
        target: traffic::Target,
    ) -> Self {
        Self {
            columns,
            attack,
            ordinary: 1.0,
            price,
            can,
            direction: target.direction,
            target_length: target.prefix.length(),
            profiles: Profiles::default(),
            groups: Vec::with_capacity(256),
            segments: Vec::with_capacity(256),
            proposals: Vec::with_capacity(64),
        }
    }

    /// At another exchange rate, where all ordinary traffic weighs this much.
    pub(super) const fn at(&mut self, ordinary: f64) {
        self.ordinary = ordinary;
    }

    /// Weights of rows above zero, and of all.
    fn weigh(&self, mass: &Mass) -> (f64, f64) {
        let plus = self.attack * mass.attack;
        (plus, plus - self.ordinary * mass.ordinary)
    }

    /// What a row weighs.
    pub(super) fn weight(&self, row: usize) -> f64 {
        let columns = self.columns;
        if columns.is_attack(row) { self.attack * columns.share(row) } else { -self.ordinary * columns.charged(row) }
    }

    /// Attack rows of a set, and what they weigh.
    pub(super) fn attack_of(&self, rows: &RowSet) -> (f64, f64) {
        let (count, share) = self.columns.attack_of(rows);
        (count.into(), self.attack * share)
    }

    /// What the rows of a set weigh.
    pub(super) fn sum(&self, rows: &RowSet) -> f64 {
        self.weigh(&self.columns.mass(rows)).1
    }

    fn state(&self, tests: Tests, rows: RowSet) -> State {
        let (plus, sum) = self.weigh(&self.columns.mass(&rows));
        State { tests, rows, score: sum - self.price * tests.length(), plus }
    }

    /// The best conjunctions over the live rows that are worth their length, best first.
    pub(super) fn best(&mut self, live: &RowSet) -> Vec<State> {
        let all = self.state(Tests::default(), *live);
        let mut beam: Vec<State> = self
            .protocols(live)
            .into_iter()
            .map(|p| {
                let test = Test::value(Field::Protocol, p);
                self.state(Tests::default().with(test), self.columns.narrow(live, &test))
            })
            .collect();
        let mut best: Vec<State> = Vec::with_capacity(RUNNERS_UP + 2);
        // A protocol alone is a rule as well.
        for state in &beam {
            keep(&mut best, state);
        }
        beam.insert(0, all);
        let (depths, width, hopeful) = if self.columns.attack <= FEW {
            (DEPTH_OF_FEW, BEAM_OF_FEW, HOPEFUL_OF_FEW)
        } else {
            (DEPTH, BEAM, HOPEFUL)
        };
        for depth in 0..depths {
            let mut proposals = std::mem::take(&mut self.proposals);
            proposals.clear();
            let bar = best.first().map_or(0.0, |b| b.score);
            let mut reached = bar;
            beam.sort_by(|a, b| b.plus.total_cmp(&a.plus).then_with(|| a.tests.cmp(&b.tests)));
            for (parent, state) in beam.iter().enumerate() {
                // Even if a condition kept all that weighs plus and nothing else, it would not be better.
                if state.plus - self.price * (state.tests.length() + 1.0) > reached {
                    let from = proposals.len();
                    self.propose(parent, state, &mut proposals);
                    reached = proposals[from..].iter().map(|p| p.score).fold(reached, f64::max);
                }
            }
            let mut next: Vec<State> = Vec::with_capacity(BEAM + HOPES);
            let by_score = |p: &Proposal| p.score;
            let by_hope = |p: &Proposal| p.hope;
            self.keep(&beam, &mut proposals, by_score, width, &mut next);
            if depth < hopeful {
                self.keep(&beam, &mut proposals, by_hope, HOPES, &mut next);
            }
            self.proposals = proposals;
            for state in &next {
                keep(&mut best, state);
            }
            // Two conditions may help where one does not, but not later.
            let better = best.first().is_some_and(|b| b.score > bar);
            if next.is_empty() || (depth >= hopeful && !better) {
                break;
            }
            beam = next;
        }
        best
    }

    /// Makes states of the best proposals by some order.
    fn keep(
        &self,
        beam: &[State],
        proposals: &mut [Proposal],
        by: impl Fn(&Proposal) -> f64,
        count: usize,
        next: &mut Vec<State>,
    ) {
        let most = next.len() + count;
        let mut left = proposals;
        // Few are needed: the next best is looked for until they are.
        while next.len() < most
            && let Some(best) = first_by(left, &by)
        {
            left.swap(0, best);
            let Some((proposal, rest)) = left.split_first_mut() else { break };
            left = rest;
            let parent = &beam[proposal.parent];
            let tests = parent.tests.with(proposal.test);
            // Raw ends take many entries; widening finds rounder ones.
            let most_entries = self.can.max_entries.saturating_mul(ROUNDING);
            if next.iter().any(|s| s.tests == tests) || tests.entries() > most_entries {
                continue;
            }
            let rows = self.columns.narrow(&parent.rows, &proposal.test);
            next.push(self.state(tests, rows));
        }
    }

    fn protocols(&self, live: &RowSet) -> Vec<u32> {
        let mut sums = [0.0; 256];
        let end = self.columns.baseline.end;
        self.columns.each_attack(live, |i, share| {
            let protocol = self.columns.value(Field::Protocol.column(), end + i) as usize;
            if let Some(sum) = sums.get_mut(protocol) {
                *sum += self.attack * share;
            }
        });
        let mut found: Vec<u32> = (0..=255).filter(|p| sums[*p as usize] > 0.01).collect();
        found.sort_by(|a, b| sums[*b as usize].total_cmp(&sums[*a as usize]).then(a.cmp(b)));
        found.truncate(PROTOCOLS);
        found
    }

    /// Numeric fields that may be added to a state.
    fn free_fields(&self, tests: &Tests) -> impl Iterator<Item = Field> + use<> {
        let can = self.can;
        let uses = |field: Field| tests.get(field).is_some();
        let protocol = tests.get(Field::Protocol);
        let is = |of: fn(&Test) -> bool| protocol.is_some_and(of);
        let has_port = uses(Field::SourcePort) || uses(Field::DestinationPort);
        let ports =
            is(Test::has_ports) && (can.ports_with_fragment || !uses(Field::Fragment)) && (can.two_ports || !has_port);
        let icmp = is(Test::is_icmp);
        let fields = [
            (Field::Length, can.length),
            (Field::Protocol, tests.len() == 0),
            (Field::FlowLabel, can.flow_label && self.columns.version == IpVersion::V6),
            (Field::Dscp, can.dscp),
            (Field::SourcePort, ports),
            (Field::DestinationPort, ports),
            (Field::IcmpType, icmp),
            (Field::IcmpCode, icmp),
        ];
        fields.map(|(field, may)| (may && !uses(field)).then_some(field)).into_iter().flatten()
    }

    /// The best tests of each field that the state does not use yet.
    fn propose(&mut self, parent: usize, state: &State, proposals: &mut Vec<Proposal>) {
        let can = self.can;
        let uses = |field: Field| state.tests.get(field).is_some();
        let ports = uses(Field::SourcePort) || uses(Field::DestinationPort);
        let base = state.tests.length();
        let price = self.price;
        let mut add = |(test, plus, sum): Found| {
            let length = state.tests.length_with(base, &test);
            let hope = plus + HOPE * (sum - plus) - price * length;
            proposals.push(Proposal { parent, test, score: sum - price * length, hope });
        };
        let mut found = Vec::with_capacity(8);
        let mut sums = Vec::with_capacity(16);
        for field in self.free_fields(&state.tests) {
            self.numbers(&state.rows, field, false, &mut found);
            found.drain(..).for_each(&mut add);
        }
        if can.tcp_flags && state.tests.get(Field::Protocol).is_some_and(Test::is_tcp) && !uses(Field::TcpFlags) {
            self.by_bits(&state.rows, Field::TcpFlags, &mut sums);
            for mask in self.flags(&sums) {
                add(masked(&sums, mask, Test::TcpFlags));
            }
        }
        if can.fragment && !uses(Field::Fragment) && (can.ports_with_fragment || !ports) {
            self.by_bits(&state.rows, Field::Fragment, &mut sums);
            for mask in fragment_masks(can) {
                add(masked(&sums, mask, Test::Fragment));
            }
        }
        if can.source && !uses(Field::Source) && self.direction == Direction::Incoming {
            for (prefix, sum) in self.prefixes(&state.rows, &self.columns.by_source, 0) {
                add((Test::Source(prefix), sum, sum));
            }
        }
        if !uses(Field::Destination) && self.direction == Direction::Incoming {
            for (prefix, sum) in self.prefixes(&state.rows, &self.columns.by_destination, self.target_length) {
                add((Test::Destination(prefix), sum, sum));
            }
        }
    }

    /// Sums of the weights, above zero and in all, by value of a field of bits.
    fn by_bits(&mut self, rows: &RowSet, field: Field, sums: &mut Vec<(u16, f64, f64)>) {
        let (attack, ordinary) = (self.attack, self.ordinary);
        let kinds = self.profiles.kinds(self.columns, rows, field);
        let weigh = |(value, mass): &(u16, Mass)| {
            let plus = attack * mass.attack;
            (*value, plus, plus - ordinary * mass.ordinary)
        };
        sums.clear();
        sums.extend(kinds.iter().map(weigh));
    }

    /// The ranges of greatest sum, the best single range, and the best single value, with their sums (ranges net of their price);
    /// ends of ranges are those of bins, unless they are asked for exactly.
    pub(super) fn numbers(&mut self, rows: &RowSet, field: Field, exactly: bool, found: &mut Vec<Found>) {
        debug_assert!(NUMERIC.contains(&field));
        let totals = if exactly { self.group(rows, field) } else { self.group_bins(rows, field) };
        let Totals { attack, attack_rows, ordinary, ordinary_rows } = totals;
        let best = |by: fn(&Group) -> f64| {
            let single = self.groups.iter().filter(|g| g.low == g.high);
            let best = single.max_by(|a, b| by(a).total_cmp(&by(b)).then(b.low.cmp(&a.low)));
            best.filter(|g| by(g) > 0.0).map(|g| (Test::value(field, g.low), g.plus, g.sum))
        };
        found.extend(best(|g| g.sum));
        found.extend(
            best(|g| g.plus + HOPE * (g.sum - g.plus)).filter(|f| found.first().is_none_or(|first| first.0 != f.0)),
        );
        let can_range = self.can.ranges && (field.is_scale() || field == Field::Protocol);
        // Beyond the outermost of m samples lies 1/(m+1) of what they stand for; widening will win back half of it.
        let unseen = attack / (f64::from(attack_rows) + 1.0);
        let version = self.columns.version;
        let net = |spans: Spans, sum: f64| {
            (Test::Numbers(field, spans), sum, sum - unseen * spans.unseen(field, version, f64::from(attack_rows)))
        };
        // The most that holes could win beside the best range.
        let mut spare = f64::INFINITY;
        if can_range && let Some((low, high, sum)) = self.run() {
            found.push(net(Spans::one(low, high), sum));
            spare = self.groups.iter().map(|g| g.sum.max(0.0)).sum::<f64>() - sum;
        }
        // A few samples meet by chance: a hole must spare as much as that many ordinary samples weigh, and the ranges beside it be
        // worth as much as that many of the attack.
        let few = HOLE * (ordinary / f64::from(ordinary_rows.max(1))).max(attack / f64::from(attack_rows.max(1)));
        let mut hole = few.max(4.0 * self.price);
        if self.can.lists && spare > hole {
            // Dearer holes until they are few enough.
            for _ in 0..4 {
                let Some((spans, sum)) = self.segment(hole) else {
                    hole *= 2.0;
                    continue;
                };
                let fits = can_range || spans.as_slice().iter().all(|(low, high)| low == high);
                if spans.as_slice().len() > 1 && fits {
                    // What the holes of a scale cost is charged by their width instead.
                    #[allow(clippy::cast_precision_loss, reason = "at most MAX_SPANS")]
                    let holes = if field.is_scale() { hole * (spans.as_slice().len() - 1) as f64 } else { 0.0 };
                    found.push(net(spans, sum + holes));
                }
                break;
            }
        }
    }

    /// Groups rows by value; between those that attack rows have, ordinary rows are one group.
    fn group(&mut self, rows: &RowSet, field: Field) -> Totals {
        let (attack, ordinary) = (self.attack, self.ordinary);
        self.groups.clear();
        let mut totals = self.profiles.each_value(self.columns, rows, field, |held| {
            let plus = attack * held.mass.attack;
            self.groups.push(Group { low: held.low, high: held.high, plus, sum: plus - ordinary * held.mass.ordinary });
        });
        totals.attack *= attack;
        totals.ordinary *= ordinary;
        totals
    }

    /// Groups rows by bin.
    fn group_bins(&mut self, rows: &RowSet, field: Field) -> Totals {
        let (attack, ordinary) = (self.attack, self.ordinary);
        let (bins, mut totals) = self.profiles.bins(self.columns, rows, field);
        self.groups.clear();
        self.groups.extend(bins.iter().map(|bin| {
            let plus = attack * bin.mass.attack;
            Group { low: bin.low, high: bin.high, plus, sum: plus - ordinary * bin.mass.ordinary }
        }));
        totals.attack *= attack;
        totals.ordinary *= ordinary;
        totals
    }

    /// The run of values with the greatest sum (Kadane): its ends and its sum.
    fn run(&self) -> Option<(u32, u32, f64)> {
        let (mut sum, mut start) = (0.0, 0);
        let mut best: Option<(u32, u32, f64)> = None;
        for group in &self.groups {
            if sum <= 0.0 {
                (sum, start) = (0.0, group.low);
            }
            sum += group.sum;
            if sum > best.map_or(0.0, |b| b.2) {
                best = Some((start, group.high, sum));
            }
        }
        best
    }

    /// The segmentation of greatest sum when every range but the first costs `hole`; `None` when it takes too many ranges.
    fn segment(&mut self, hole: f64) -> Option<(Spans, f64)> {
        self.segments.clear();
        // Sum of the best segmentation whose last range holds this group, and of the best that ended before.
        let (mut inside, mut closed, mut closed_at) = (f64::NEG_INFINITY, f64::NEG_INFINITY, 0);
        for (i, group) in self.groups.iter().enumerate() {
            let again = closed - hole;
            let opened = if inside > again.max(0.0) {
                Opened::Before
            } else if again > 0.0 {
                Opened::Again
            } else {
                Opened::First
            };
            inside = inside.max(again).max(0.0) + group.sum;
            if inside > closed {
                (closed, closed_at) = (inside, i);
            }
            self.segments.push((opened, closed_at));
        }
        if closed <= 0.0 {
            return None;
        }
        let mut ranges = [(0, 0); MAX_SPANS];
        let (mut count, mut end) = (0, closed_at);
        loop {
            let mut start = end;
            while self.segments[start].0 == Opened::Before {
                start -= 1;
            }
            *ranges.get_mut(count)? = (self.groups[start].low, self.groups[end].high);
            count += 1;
            if self.segments[start].0 == Opened::First {
                break;
            }
            end = self.segments[start - 1].1;
        }
        ranges[..count].reverse();
        Some((Spans::new(ranges[..count].iter().copied())?, closed))
    }

    /// Flags worth trying: those seen, exactly, and the usual classes.
    fn flags(&self, sums: &[(u16, f64, f64)]) -> Vec<Mask> {
        let of = 0xff & self.can.tcp_flag_bits;
        let mut counts: Vec<(u16, f64)> = Vec::with_capacity(sums.len());
        for &(flags, plus, _) in sums.iter().filter(|s| s.1 > 0.0) {
            match counts.iter().position(|c| c.0 == flags & of) {
                Some(at) => counts[at].1 += plus,
                None => counts.push((flags & of, plus)),
            }
        }
        counts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let exact = counts.iter().take(3).map(|(value, _)| Mask::exactly(*value, of));
        let common = [
            Mask { set: 0x02, clear: 0x10, any: 0 },
            Mask { set: 0x12, clear: 0, any: 0 },
            Mask { set: 0x10, clear: 0x0f, any: 0 },
            Mask { set: 0x10, clear: 0x07, any: 0 },
            Mask::any(0x04),
            Mask::any(0x01),
            Mask::any(0xc0),
        ];
        let fits = |m: &Mask| m.looks_at() & !of == 0;
        exact.chain(common.into_iter().filter(fits)).collect()
    }

    /// The prefix with the greatest sum at each of some lengths longer than `least`: only in networks that hold enough of the attack,
    /// since where the shortest prefix holds too little, no longer one holds enough.
    fn prefixes(&self, rows: &RowSet, by: &Addresses<'_>, least: u8) -> Vec<(Prefix, f64)> {
        let lengths = lengths(self.columns.version, least);
        // Per length: sum and rows of the group so far, and the best of the closed groups.
        let mut groups = [(0.0f64, 0u32, 0.0f64, 0u128); 8];
        let close = |group: &mut (f64, u32, f64, u128), bits: u128| {
            if group.1 >= PREFIX_ROWS && group.0 > group.2 {
                (group.2, group.3) = (group.0, bits);
            }
            (group.0, group.1) = (0.0, 0);
        };
        for (attack, ordinary) in by.networks() {
            let held = attack.iter().map(|(_, i)| usize::from(*i)).filter(|i| rows.contains(*i));
            let (count, weight) = held.fold((0, 0.0), |(count, sum), i| (count + 1, sum + self.weight(i)));
            if count < PREFIX_ROWS || weight <= PREFIX_WORTH {
                continue;
            }
            let mut last = attack[0].0;
            for (bits, i) in super::row::merged(attack, ordinary).filter(|(_, i)| rows.contains(*i)) {
                let common = (last ^ bits).leading_zeros();
                for (group, length) in groups.iter_mut().zip(lengths) {
                    if common < u32::from(*length) {
                        close(group, last);
                    }
                    group.0 += self.weight(i);
                    group.1 += u32::from(self.columns.is_attack(i));
                }
                last = bits;
            }
            groups.iter_mut().for_each(|group| close(group, last));
        }
        let worth = groups.iter().zip(lengths).filter(|(group, _)| group.2 > PREFIX_WORTH);
        worth
            .filter_map(|(g, length)| {
                // A short prefix holds ordinary senders that the baseline does not show.
                let unseen = if least == 0 { UNSEEN * self.ordinary * self.columns.space(*length) } else { 0.0 };
                Some((Prefix::new(self.columns.version, g.3, *length)?, g.2 - unseen))
            })
            .collect()
    }
}

/// The place of the proposal with the greatest value; of equal ones the one with the least test and parent.
fn first_by(proposals: &[Proposal], by: impl Fn(&Proposal) -> f64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, proposal) in proposals.iter().enumerate() {
        let value = by(proposal);
        let is_first = best.is_none_or(|(first, most)| {
            let first = &proposals[first];
            let tie = || (proposal.test, proposal.parent) < (first.test, first.parent);
            value.total_cmp(&most).then_with(|| tie().cmp(&false)).is_gt()
        });
        if is_first {
            best = Some((at, value));
        }
    }
    best.map(|b| b.0)
}

/// What a mask keeps of sums by value.
fn masked(sums: &[(u16, f64, f64)], mask: Mask, test: fn(Mask) -> Test) -> Found {
    let kept = sums.iter().filter(|s| mask.matches(s.0));
    let (plus, sum) = kept.fold((0.0, 0.0), |(plus, sum), s| (plus + s.1, sum + s.2));
    (test(mask), plus, sum)
}

/// Adds a state to those kept, if it is worth its length and among the best.
fn keep(best: &mut Vec<State>, state: &State) {
    let at = best.partition_point(|b| b.score >= state.score);
    if state.score > 0.0 && at <= RUNNERS_UP {
        best.insert(at, state.clone());
        best.truncate(RUNNERS_UP + 1);
    }
}

/// Fragment conditions that the routers can match (RFC 8955 section 4.2.2.12).
fn fragment_masks(can: Capabilities) -> impl Iterator<Item = Mask> {
    use traffic::sample::fragment::{DONT, FIRST, IS, LAST};
    let (dont, is, first, last) = (DONT.into(), IS.into(), FIRST.into(), LAST.into());
    let masks = [
        Mask::any(is | first),
        Mask::any(is),
        Mask::any(first),
        Mask::any(last),
        Mask::any(dont),
        Mask::exactly(0, dont | is | first),
    ];
    masks.into_iter().filter(move |m| m.looks_at() & !can.usable_fragment_bits() == 0)
}
