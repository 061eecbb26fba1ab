//! The conjunction that covers most excess for the ordinary traffic it hits: a beam search whose every step is exact.
//!
//! Rows of the attack weigh plus, rows of ordinary traffic minus. The best set of ranges of a numeric field is then the segmentation
//! of greatest sum (Kadane's run, with a price for every further range), the best prefix the group of greatest sum.

use collectors::IpVersion;
use detector::{Direction, Prefix};

use super::Capabilities;
use super::columns::{Columns, Kinds, RowSet};
use super::test::{Field, MAX_SPANS, Mask, NUMERIC, Spans, Test, Tests};

/// States kept per depth by their score, and by what they may still become: two conditions may be worth nothing alone and everything
/// together, as bare SYN are.
const BEAM: usize = 2;
const HOPES: usize = 2;
/// Depths at which hopes are kept.
const HOPEFUL: usize = 2;
/// Share of the ordinary traffic hit that is charged to a hope.
const HOPE: f64 = 0.15;
/// States that take the place of the best one when chance explains it.
const RUNNERS_UP: usize = 3;
/// Conditions beside the first at most.
const DEPTH: usize = 4;
/// Protocols that are looked into.
const PROTOCOLS: usize = 4;
/// A single sample says nothing of its neighbours: a prefix needs this many.
const PREFIX_ROWS: u32 = 3;
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

/// One search: rows with their weights at one exchange rate.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) columns: &'a Columns,
    pub(super) weights: Vec<f64>,
    /// What all ordinary traffic weighs.
    ordinary: f64,
    /// Price of a unit of rule length.
    pub(super) price: f64,
    pub(super) can: Capabilities,
    pub(super) direction: Direction,
    /// Length of the target's prefix.
    pub(super) target_length: u8,
    groups: Vec<Group>,
    sums: Vec<f64>,
    segments: Vec<(Opened, usize)>,
}

/// Rows with neighbouring values of a field.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    low: u32,
    high: u32,
    /// Sum of the weights above zero, and of all.
    plus: f64,
    sum: f64,
}

impl Group {
    const fn add(&mut self, weight: f64) {
        self.plus += weight.max(0.0);
        self.sum += weight;
    }
}

/// Weights and rows of both sides that have a field.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    attack: f64,
    attack_rows: u32,
    ordinary: f64,
    ordinary_rows: u32,
}

impl Totals {
    const fn add(&mut self, is_attack: bool, weight: f64) {
        if is_attack {
            self.attack += weight;
            self.attack_rows += 1;
        } else {
            self.ordinary -= weight;
            self.ordinary_rows += 1;
        }
    }
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

struct Proposal {
    parent: usize,
    test: Test,
    score: f64,
    /// Score if most of the ordinary traffic that it hits could still be told apart by further conditions.
    hope: f64,
}

/// A test with the sums of the weights it keeps, above zero and in all.
type Found = (Test, f64, f64);

impl<'a> Search<'a> {
    pub(super) fn new(
        columns: &'a Columns,
        weights: Vec<f64>,
        price: f64,
        can: Capabilities,
        target: detector::Target,
    ) -> Self {
        Self {
            columns,
            ordinary: -weights.iter().filter(|w| **w < 0.0).sum::<f64>(),
            weights,
            price,
            can,
            direction: target.direction,
            target_length: target.prefix.length(),
            groups: Vec::with_capacity(columns.rows.len()),
            sums: Vec::new(),
            segments: Vec::with_capacity(columns.rows.len()),
        }
    }

    fn state(&self, tests: Tests, rows: RowSet) -> State {
        let (mut sum, mut plus) = (0.0, 0.0);
        rows.for_each(|i| {
            let weight = self.weights[i];
            sum += weight;
            plus += weight.max(0.0);
        });
        State { tests, rows, score: sum - self.price * tests.length(), plus }
    }

    /// Score of a conjunction over live rows.
    pub(super) fn score(&self, live: &RowSet, tests: &Tests) -> f64 {
        let matched = self.columns.matching(live, tests);
        let mut sum = 0.0;
        matched.for_each(|i| sum += self.weights[i]);
        sum - self.price * tests.length()
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
        for depth in 0..DEPTH {
            let mut proposals: Vec<Proposal> = Vec::new();
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
            self.keep(&beam, &mut proposals, by_score, BEAM, &mut next);
            if depth < HOPEFUL {
                self.keep(&beam, &mut proposals, by_hope, HOPES, &mut next);
            }
            for state in &next {
                keep(&mut best, state);
            }
            // Two conditions may help where one does not, but not later.
            let better = best.first().is_some_and(|b| b.score > bar);
            if next.is_empty() || (depth >= HOPEFUL && !better) {
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
        by: fn(&Proposal) -> f64,
        count: usize,
        next: &mut Vec<State>,
    ) {
        let before = |a: &Proposal, b: &Proposal| {
            by(b).total_cmp(&by(a)).then_with(|| a.test.cmp(&b.test)).then(a.parent.cmp(&b.parent))
        };
        let most = next.len() + count;
        // Few are needed: the next best is looked for until they are.
        for done in 0..proposals.len() {
            if next.len() == most {
                break;
            }
            let Some(best) = (done..proposals.len()).min_by(|a, b| before(&proposals[*a], &proposals[*b])) else {
                break;
            };
            proposals.swap(done, best);
            let proposal = &proposals[done];
            let tests = beam[proposal.parent].tests.with(proposal.test);
            // Raw ends take many entries; widening finds rounder ones.
            let most_entries = self.can.max_entries.saturating_mul(ROUNDING);
            if next.iter().any(|s| s.tests == tests) || tests.entries() > most_entries {
                continue;
            }
            let rows = self.columns.narrow(&beam[proposal.parent].rows, &proposal.test);
            next.push(self.state(tests, rows));
        }
    }

    fn protocols(&self, live: &RowSet) -> Vec<u32> {
        let mut sums = [0.0; 256];
        for i in live.iter().filter(|i| *i < self.columns.attack) {
            if let Some(sum) = self.columns.rows[i].number(Field::Protocol).and_then(|p| sums.get_mut(p as usize)) {
                *sum += self.weights[i];
            }
        }
        let mut found: Vec<u32> = (0..=255).filter(|p| sums[*p as usize] > 0.01).collect();
        found.sort_by(|a, b| sums[*b as usize].total_cmp(&sums[*a as usize]).then(a.cmp(b)));
        found.truncate(PROTOCOLS);
        found
    }

    /// The best tests of each field that the state does not use yet.
    fn propose(&mut self, parent: usize, state: &State, proposals: &mut Vec<Proposal>) {
        let can = self.can;
        let uses = |field: Field| state.tests.get(field).is_some();
        let protocol = state.tests.get(Field::Protocol).copied();
        let ports = uses(Field::SourcePort) || uses(Field::DestinationPort);
        let base = state.tests.length();
        let price = self.price;
        let mut add = |(test, plus, sum): Found| {
            let length = state.tests.with(test).length();
            debug_assert!(length >= base, "a condition never shortens a rule");
            let hope = plus + HOPE * (sum - plus) - price * length;
            proposals.push(Proposal { parent, test, score: sum - price * length, hope });
        };
        let mut numeric = Vec::new();
        if can.length && !uses(Field::Length) {
            numeric.push(Field::Length);
        }
        if state.tests.len() == 0 {
            numeric.push(Field::Protocol);
        }
        if can.flow_label && self.columns.version == IpVersion::V6 && !uses(Field::FlowLabel) {
            numeric.push(Field::FlowLabel);
        }
        if can.dscp && !uses(Field::Dscp) {
            numeric.push(Field::Dscp);
        }
        if let Some(protocol) = protocol {
            let free = (can.ports_with_fragment || !uses(Field::Fragment)) && (can.two_ports || !ports);
            if protocol.has_ports() && free {
                numeric.extend([Field::SourcePort, Field::DestinationPort].into_iter().filter(|f| !uses(*f)));
            }
            if protocol.is_icmp() {
                numeric.extend([Field::IcmpType, Field::IcmpCode].into_iter().filter(|f| !uses(*f)));
            }
        }
        for field in numeric {
            self.numbers(&state.rows, field, false).into_iter().for_each(&mut add);
        }
        if can.tcp_flags && protocol.is_some_and(|p| p.is_tcp()) && !uses(Field::TcpFlags) {
            let sums = self.by_bits(&state.rows, &self.columns.flags);
            for mask in self.flags(&sums) {
                add(masked(&sums, mask, Test::TcpFlags));
            }
        }
        if can.fragment && !uses(Field::Fragment) && (can.ports_with_fragment || !ports) {
            let sums = self.by_bits(&state.rows, &self.columns.fragments);
            for mask in fragment_masks(can) {
                add(masked(&sums, mask, Test::Fragment));
            }
        }
        if can.source && !uses(Field::Source) && self.direction == Direction::Incoming {
            for (prefix, sum) in self.prefixes(&state.rows, &self.columns.by_source, 0) {
                add((Test::Source(prefix), sum, sum));
            }
        }
        if !self.columns.by_destination.is_empty() && !uses(Field::Destination) && self.direction == Direction::Incoming
        {
            for (prefix, sum) in self.prefixes(&state.rows, &self.columns.by_destination, self.target_length) {
                add((Test::Destination(prefix), sum, sum));
            }
        }
    }

    /// Sums of the weights, above zero and in all, by value of a field of bits.
    fn by_bits(&self, rows: &RowSet, kinds: &Kinds) -> Vec<(u16, f64, f64)> {
        let mut sums: Vec<(u16, f64, f64)> = kinds.values.iter().map(|v| (*v, 0.0, 0.0)).collect();
        sums.push((0, 0.0, 0.0));
        rows.for_each(|i| {
            let weight = self.weights[i];
            let sum = &mut sums[usize::from(kinds.kind[i])];
            sum.1 += weight.max(0.0);
            sum.2 += weight;
        });
        sums.pop();
        sums.retain(|s| s.2 != 0.0 || s.1 != 0.0);
        sums
    }

    /// The ranges of greatest sum, the best single range, and the best single value, with their sums (ranges net of their price);
    /// ends of ranges are those of bins, unless they are asked for exactly.
    pub(super) fn numbers(&mut self, rows: &RowSet, field: Field, exactly: bool) -> Vec<Found> {
        debug_assert!(NUMERIC.contains(&field));
        let totals = if exactly { self.group(rows, field) } else { self.group_bins(rows, field) };
        let Totals { attack, attack_rows, ordinary, ordinary_rows } = totals;
        let mut found: Vec<Found> = Vec::with_capacity(4);
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
        found
    }

    /// Groups rows by value.
    fn group(&mut self, rows: &RowSet, field: Field) -> Totals {
        self.groups.clear();
        let mut totals = Totals::default();
        let column = field.column();
        for i in self.columns.order[column].iter().map(|i| usize::from(*i)).filter(|i| rows.contains(*i)) {
            let (value, weight) = (self.columns.values[column][i], self.weights[i]);
            totals.add(i < self.columns.attack, weight);
            match self.groups.last_mut() {
                Some(last) if last.low == value => last.add(weight),
                _ => self.groups.push(Group { low: value, high: value, plus: weight.max(0.0), sum: weight }),
            }
        }
        totals
    }

    /// Groups rows by bin.
    fn group_bins(&mut self, rows: &RowSet, field: Field) -> Totals {
        let column = field.column();
        let (bin, bins) = (&self.columns.bin[column], &self.columns.bins[column]);
        self.groups.clear();
        let mut totals = Totals::default();
        if bin.is_empty() {
            return totals;
        }
        // Sums of the attack's rows, then of the others; each with a place for rows without a value.
        let side = bins.len() + 1;
        self.sums.clear();
        self.sums.resize(2 * side, 0.0);
        let (attack, sums, weights) = (self.columns.attack, &mut self.sums[..], &self.weights[..]);
        rows.for_each(|i| sums[usize::from(bin[i]) + if i < attack { 0 } else { side }] += weights[i]);
        let (plus, minus) = sums.split_at(side);
        for (&(low, high), (plus, minus)) in bins.iter().zip(plus.iter().zip(minus)) {
            totals.attack += plus;
            totals.ordinary -= minus;
            if *plus != 0.0 || *minus != 0.0 {
                self.groups.push(Group { low, high, plus: *plus, sum: plus + minus });
            }
        }
        let present = rows.and(&self.columns.present[column]);
        totals.attack_rows = present.and(&self.columns.attack_rows).count();
        totals.ordinary_rows = present.count() - totals.attack_rows;
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

    /// The parts of the sorted rows with a prefix of the shortest length in common that hold enough of the attack: where one holds
    /// too little, no longer one holds enough.
    fn promising<'s>(&self, rows: &RowSet, sorted: &'s [(u128, u16)], shortest: u8) -> Vec<&'s [(u128, u16)]> {
        let columns = self.columns;
        if shortest != columns.shortest() || sorted.as_ptr() != columns.by_source.as_ptr() {
            return sorted.chunk_by(|a, b| (a.0 ^ b.0).leading_zeros() >= u32::from(shortest)).collect();
        }
        let mut held = vec![(0.0f64, 0u32); columns.networks.len()];
        rows.and(&columns.attack_rows).for_each(|i| {
            let held = &mut held[usize::from(columns.network[i])];
            held.0 += self.weights[i];
            held.1 += 1;
        });
        let enough = |held: &(f64, u32)| held.0 > PREFIX_WORTH && held.1 >= PREFIX_ROWS;
        let parts = columns.networks.iter().zip(&held).filter(|(_, held)| enough(held));
        parts.map(|((from, to), _)| &sorted[*from as usize..*to as usize]).collect()
    }

    /// The prefix with the greatest sum at each of some lengths longer than `least`.
    pub(super) fn prefixes(&self, rows: &RowSet, sorted: &[(u128, u16)], least: u8) -> Vec<(Prefix, f64)> {
        let lengths: &[u8] = match self.columns.version {
            IpVersion::V4 => &[8, 12, 16, 20, 22, 24, 28, 32],
            IpVersion::V6 => &[20, 32, 40, 48, 56, 64, 128],
        };
        let lengths = &lengths[lengths.partition_point(|l| *l <= least)..];
        let Some(&shortest) = lengths.first() else { return Vec::new() };
        // Per length: sum and rows of the group so far, and the best of the closed groups.
        let mut groups = [(0.0f64, 0u32, 0.0f64, 0u128); 8];
        let close = |group: &mut (f64, u32, f64, u128), bits: u128| {
            if group.1 >= PREFIX_ROWS && group.0 > group.2 {
                (group.2, group.3) = (group.0, bits);
            }
            (group.0, group.1) = (0.0, 0);
        };
        for part in self.promising(rows, sorted, shortest) {
            let mut last = part[0].0;
            for &(bits, i) in part.iter().filter(|(_, i)| rows.contains(usize::from(*i))) {
                let common = (last ^ bits).leading_zeros();
                for (group, length) in groups.iter_mut().zip(lengths) {
                    if common < u32::from(*length) {
                        close(group, last);
                    }
                    group.0 += self.weights[usize::from(i)];
                    group.1 += u32::from(usize::from(i) < self.columns.attack);
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
    use collectors::sample::fragment::{DONT, FIRST, IS, LAST};
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
