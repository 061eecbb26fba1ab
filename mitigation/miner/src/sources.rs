//! Telling sources apart: a costly rule becomes a few rules that are the same but for a source prefix.
//!
//! Bots sit in a few networks, and so do the customers of a service; forged sources are everywhere. The best set of at most k disjoint
//! prefixes is found exactly, by a knapsack over the binary tree of the addresses. What a network holds is not what a sample shows
//! of it: each network seen lends a part of its weight to all that were not (absolute discounting, with the discount that networks
//! seen once and twice suggest), so that sources which hardly ever repeat say nothing about where the next one is.

use traffic::{Direction, IpVersion, Prefix};

use super::Request;
use super::baseline::{Judge, Rule};
use super::columns::{Columns, Shares};
use super::rowset::RowSet;
use super::test::{Field, MAX_TESTS, Test};

/// Exchange rates at which prefixes are chosen.
const EXCHANGE: [f64; 5] = [1.0, 1.5, 2.2, 3.3, 5.0];
/// Prefixes of one rule at most.
const MOST: usize = 10;
/// What a further prefix must bring, in shares of the excess.
const WORTH: f64 = 0.001;
/// Rows of one side that make it worth looking into a prefix.
const ROWS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Attack,
    Ordinary,
}

/// A row: where it is, to the longest prefix that is looked into and beyond, and what it weighs.
#[derive(Debug, Clone, Copy)]
struct Point {
    bits: u64,
    side: Side,
    weight: f64,
    /// Whether the trimmed rule matches it as well.
    stays: bool,
}

/// What a rule is expected to match in a part of the address space.
#[derive(Debug, Clone, Copy, Default)]
struct Mass {
    /// Of the attack, as a share of the excess.
    plus: f64,
    /// Of the ordinary traffic, with SYN standing for connections.
    minus: f64,
}

impl Mass {
    /// What it is worth when a unit of ordinary traffic costs this much.
    fn take(self, price: f64) -> f64 {
        self.plus - price * self.minus
    }

    const fn add(&mut self, side: Side, weight: f64) {
        match side {
            Side::Attack => self.plus += weight,
            Side::Ordinary => self.minus += weight,
        }
    }
}

/// A part of the address space.
#[derive(Debug, Clone, Copy)]
struct Part {
    bits: u128,
    length: u8,
    /// What the whole rule matches, and what the trimmed one does.
    mass: [Mass; 2],
    halves: Option<(usize, usize)>,
}

impl Part {
    /// The rule that is better here: 0 the whole one, 1 the trimmed one.
    fn better(&self, price: f64) -> usize {
        usize::from(self.mass[1].take(price) > self.mass[0].take(price))
    }
}

/// The best sets of 0 to [`MOST`] prefixes within a part.
#[derive(Debug, Clone, Copy)]
struct Best {
    sums: [f64; MOST + 1],
    /// Prefixes that go to the lower half; [`WHOLE`] when it is the part itself.
    lower: [u8; MOST + 1],
    /// Beyond so many prefixes there is nothing to win.
    most: usize,
}

const WHOLE: u8 = u8::MAX;

/// Sums over points before one.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    mass: [Mass; 2],
    rows: [u32; 2],
}

/// The tree over one rule's sources: halves come before the part that they make up.
struct Tree<'a> {
    columns: &'a Columns<'a>,
    points: Vec<Point>,
    before: Vec<Before>,
    parts: Vec<Part>,
    /// What is spread over the whole address space.
    spread: [Mass; 2],
    longest: u8,
    /// The dearest price of ordinary traffic.
    dearest: f64,
}

impl<'a> Tree<'a> {
    fn new(judge: &Judge<'a>, own: &RowSet, stays: &RowSet) -> Self {
        let columns = judge.columns;
        let mut points: Vec<Point> = Vec::with_capacity(own.count() as usize);
        for (bits, i) in columns.by_source.in_order().filter(|(_, i)| own.contains(*i)) {
            let (side, weight) = if columns.is_attack(i) {
                (Side::Attack, judge.excess_of(columns.share(i)))
            } else {
                (Side::Ordinary, columns.charged(i))
            };
            #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
            let bits = (bits >> 64) as u64;
            points.push(Point { bits, side, weight, stays: stays.contains(i) });
        }
        let (network, longest) = match columns.version {
            IpVersion::V4 => (16, 24),
            IpVersion::V6 => (48, 56),
        };
        let mut spread = [Mass::default(); 2];
        discount(&mut points, network, &mut spread);
        let dearest = EXCHANGE.into_iter().map(|e| judge.price(e)).fold(0.0, f64::max);
        let before = sums(&points);
        let all = 0..points.len();
        let mut tree = Self { columns, points, before, parts: Vec::with_capacity(256), spread, longest, dearest };
        let (bits, length) = match columns.version {
            IpVersion::V4 => (0, 0),
            IpVersion::V6 => (0x2 << 124, 3),
        };
        let _ = tree.grow(all, bits, length);
        tree
    }

    /// Adds a part of the address space that holds these points, after its halves.
    fn grow(&mut self, points: std::ops::Range<usize>, bits: u128, length: u8) -> usize {
        let space = self.columns.space_of(bits, length);
        let (from, to) = (&self.before[points.start], &self.before[points.end]);
        let mass: [Mass; 2] = std::array::from_fn(|of| Mass {
            plus: space.mul_add(self.spread[of].plus, to.mass[of].plus - from.mass[of].plus),
            minus: space.mul_add(self.spread[of].minus, to.mass[of].minus - from.mass[of].minus),
        });
        let rows = [to.rows[0] - from.rows[0], to.rows[1] - from.rows[1]];
        // No split brings more than all that is hit, or all of the attack.
        let take = mass[0].take(self.dearest).max(mass[1].take(self.dearest)).max(0.0);
        let could = (mass[0].plus - take).min((self.dearest * mass[0].minus).max(mass[0].plus - mass[1].plus));
        let splits = length < self.longest && rows.iter().any(|r| *r >= ROWS) && rows[0] > 0 && could > WORTH;
        let halves = splits.then(|| {
            let bit = 1u64 << (63 - length);
            let at = points.start + self.points[points.clone()].partition_point(|p| p.bits & bit == 0);
            let upper = bits | u128::from(bit) << 64;
            (self.grow(points.start..at, bits, length + 1), self.grow(at..points.end, upper, length + 1))
        });
        self.parts.push(Part { bits, length, mass, halves });
        self.parts.len() - 1
    }

    /// The best parts at a price of ordinary traffic, as many as are worth it up to `most`.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "at most MOST")]
    fn best(&self, price: f64, most: usize) -> Vec<Part> {
        let mut bests: Vec<Best> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let take = part.mass[part.better(price)].take(price).max(0.0);
            let mut best = Best { sums: [take; MOST + 1], lower: [WHOLE; MOST + 1], most: 1 };
            best.sums[0] = 0.0;
            if let Some((low, high)) = part.halves {
                let (low, high) = (&bests[low], &bests[high]);
                best.most = (low.most + high.most).min(MOST);
                for count in 1..=best.most {
                    for of_low in count.saturating_sub(high.most)..=count.min(low.most) {
                        let sum = low.sums[of_low] + high.sums[count - of_low];
                        if sum > best.sums[count] + 1e-9 {
                            (best.sums[count], best.lower[count]) = (sum, of_low as u8);
                        }
                    }
                }
            }
            bests.push(best);
        }
        let Some(root) = bests.last() else { return Vec::new() };
        let worth = |count: &usize| root.sums[*count] - WORTH * *count as f64;
        let counts = 0..=most.min(root.most);
        let count = counts.max_by(|a, b| worth(a).total_cmp(&worth(b)).then(b.cmp(a))).unwrap_or(0);
        let mut found = Vec::new();
        let mut left = vec![(self.parts.len() - 1, count)];
        while let Some((at, count)) = left.pop() {
            let (part, best) = (&self.parts[at], &bests[at]);
            match (part.halves, best.lower[count]) {
                _ if count == 0 || best.sums[count] <= 0.0 => {}
                (Some((low, high)), lower) if lower != WHOLE => {
                    left.push((high, count - usize::from(lower)));
                    left.push((low, usize::from(lower)));
                }
                _ => found.push(*part),
            }
        }
        found
    }
}

/// The sums before each point, and over all of them.
fn sums(points: &[Point]) -> Vec<Before> {
    let mut sum = Before::default();
    let mut before = Vec::with_capacity(points.len() + 1);
    before.push(sum);
    for point in points {
        sum.mass[0].add(point.side, point.weight);
        if point.stays {
            sum.mass[1].add(point.side, point.weight);
        }
        sum.rows[usize::from(point.side == Side::Attack)] += 1;
        before.push(sum);
    }
    before
}

/// Takes the discount off the points of each side and spreads it.
fn discount(points: &mut [Point], network: u32, spread: &mut [Mass; 2]) {
    let same = |a: &Point, b: &Point| (a.bits ^ b.bits).leading_zeros() >= network;
    let rows = |part: &[Point]| {
        let of_attack = part.iter().filter(|p| p.side == Side::Attack).count();
        [of_attack, part.len() - of_attack]
    };
    let (mut once, mut twice) = ([0.0; 2], [0.0; 2]);
    for part in points.chunk_by(same) {
        for (side, rows) in rows(part).into_iter().enumerate() {
            match rows {
                1 => once[side] += 1.0,
                2 => twice[side] += 1.0,
                _ => {}
            }
        }
    }
    let discounts: [f64; 2] = std::array::from_fn(|side| once[side] / (once[side] + 2.0 * twice[side] + 0.5));
    for part in points.chunk_by_mut(same) {
        let rows = rows(part);
        #[allow(clippy::cast_precision_loss, reason = "some hundred rows")]
        let shares: [f64; 2] = std::array::from_fn(|side| discounts[side] / rows[side].max(1) as f64);
        for point in part {
            let off = point.weight * shares[point.side as usize];
            point.weight -= off;
            spread[0].add(point.side, off);
            if point.stays {
                spread[1].add(point.side, off);
            }
        }
    }
}

/// A way to tell the sources of a rule apart: the parts, each with the rule that holds there, and what is expected of it.
#[derive(Debug)]
pub(super) struct Apart {
    parts: Vec<(Part, usize)>,
    /// Whether the trimmed rule holds everywhere, and the parts are the whole rule's.
    beside_trimmed: bool,
    /// What the trees hold in all: see [`Part`].
    whole: [Mass; 2],
    /// Value that the set is expected to have.
    pub(super) value: f64,
}

/// What holds however the sources of a rule are told apart: what other rules match and are expected to, and the whole and the
/// trimmed rule beside them.
struct Base {
    shares: Shares,
    loss: f64,
    unseen: f64,
    rules: usize,
    all: [(Shares, f64); 2],
}

impl Judge<'_> {
    /// The best way to tell the sources of one rule of a set apart, given the same rule trimmed: either every part is the rule or the
    /// trimmed one, whichever is better there; or the trimmed one holds everywhere, and the whole one where that pays.
    pub(super) fn apart(&self, request: &Request<'_>, (set, at): (&[Rule], usize), trimmed: &Rule) -> Option<Apart> {
        let rule = &set[at];
        let can = request.capabilities.source && request.target.direction == Direction::Incoming;
        let has_room = rule.tests.len().max(trimmed.tests.len()) < MAX_TESTS && set.len() < request.max_rules;
        if !can || rule.tests.get(Field::Source).is_some() || !has_room {
            return None;
        }
        let others = self.union_without(set, at);
        let own = rule.rows.and_not(&others);
        let room = request.max_rules + 1 - set.len();
        let is_trimmed = trimmed.tests != rule.tests;
        let mut found: Option<Apart> = None;
        for beside_trimmed in [false, true] {
            if beside_trimmed && !is_trimmed {
                continue;
            }
            let already = if beside_trimmed { trimmed.rows } else { self.none() };
            let tree = Tree::new(self, &own.and_not(&already), &trimmed.rows);
            let whole = tree.parts.last()?.mass;
            let base = self.base((set, at), trimmed, &others.or(&already), beside_trimmed);
            for exchange in EXCHANGE {
                let price = self.price(exchange);
                let parts = tree.best(price, room - usize::from(beside_trimmed));
                let parts = parts.into_iter().map(|part| (part, part.better(price))).collect();
                let mut apart = Apart { parts, beside_trimmed, whole, value: 0.0 };
                apart.value = self.expected(&apart, [rule, trimmed], &base);
                if found.as_ref().is_none_or(|f| apart.value > f.value) {
                    found = Some(apart);
                }
            }
        }
        found
    }

    /// What holds however the sources of a rule are told apart.
    fn base(&self, (set, at): (&[Rule], usize), trimmed: &Rule, matched: &RowSet, beside_trimmed: bool) -> Base {
        let rest = set.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, r)| r);
        let rest = rest.chain(beside_trimmed.then_some(trimmed));
        let (loss, unseen) = rest.fold((0.0, 0.0), |(loss, unseen), r| (loss + r.loss, unseen + r.unseen));
        let all = [&set[at], trimmed].map(|rule| self.whole(rule, matched));
        Base {
            shares: self.columns.shares(matched),
            loss,
            unseen,
            rules: set.len() - usize::from(!beside_trimmed),
            all,
        }
    }

    /// What a rule matches beside what others do, and which share of its part of the attack that is.
    fn whole(&self, rule: &Rule, matched: &RowSet) -> (Shares, f64) {
        let beside = self.columns.shares(&rule.rows.and_not(matched));
        (beside, beside.attack / self.columns.shares(&rule.rows).attack.max(f64::MIN_POSITIVE))
    }

    /// Value that a set is expected to have with one rule told apart.
    fn expected(&self, apart: &Apart, rules: [&Rule; 2], base: &Base) -> f64 {
        let (mut shares, mut unseen) = (base.shares, base.unseen);
        for (part, better) in &apart.parts {
            let masses = (part.mass[*better], apart.whole[*better]);
            let (attack, hit) = expected_part(rules[*better], masses, &base.all[*better]);
            shares.attack += attack;
            unseen += hit;
        }
        self.worth(&shares, (base.loss, unseen), base.rules + apart.parts.len())
    }

    /// The set with one rule told apart.
    pub(super) fn told_apart(&self, apart: &Apart, (set, at): (&[Rule], usize), trimmed: &Rule) -> Vec<Rule> {
        let already = if apart.beside_trimmed { trimmed.rows } else { self.none() };
        let make = |(part, better): &(Part, usize)| {
            let prefix = Prefix::new(self.columns.version, part.bits, part.length)?;
            let rule = [&set[at], trimmed][*better];
            Some(self.part(rule, prefix, &already, (part.mass[*better], apart.whole[*better])))
        };
        let mut parts: Vec<Rule> = apart.parts.iter().filter_map(make).collect();
        if apart.beside_trimmed {
            parts.insert(0, trimmed.clone());
        }
        let mut other = set.to_vec();
        other.splice(at..=at, parts);
        other
    }

    /// A rule for one prefix of another's sources, with what the sample does not show of it.
    fn part(&self, rule: &Rule, prefix: Prefix, already: &RowSet, masses: (Mass, Mass)) -> Rule {
        let test = Test::Source(prefix);
        let rows = self.columns.narrow(&rule.rows, &test);
        let shares = self.columns.shares(&rows.and_not(already));
        let (attack, hit) = expected_part(rule, masses, &self.whole(rule, already));
        Rule {
            tests: if prefix.length() == 0 { rule.tests } else { rule.tests.with(test) },
            rows,
            loss: shares.attack - attack,
            unseen: hit - shares.ordinary.max(shares.connections),
        }
    }
}

/// Shares of the attack and of ordinary traffic that a part of a rule is expected to match: see [`Judge::whole`].
fn expected_part(rule: &Rule, (mass, whole): (Mass, Mass), (all, kept): &(Shares, f64)) -> (f64, f64) {
    let of_attack = mass.plus / whole.plus.max(f64::MIN_POSITIVE);
    let of_hit = mass.minus / whole.minus.max(f64::MIN_POSITIVE);
    let hit = all.ordinary.max(all.connections);
    (of_attack * (all.attack - kept * rule.loss), of_hit * (hit + kept * rule.unseen))
}
