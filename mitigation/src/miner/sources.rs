//! Telling sources apart: a costly rule becomes a few rules that are the same but for a source prefix.
//!
//! Bots sit in a few networks, and so do the customers of a service; forged sources are everywhere. The best set of at most k disjoint
//! prefixes is found exactly, by a knapsack over the binary tree of the addresses. What a network holds is not what a sample shows
//! of it: each network seen lends a part of its weight to all that were not (absolute discounting, with the discount that networks
//! seen once and twice suggest), so that sources which hardly ever repeat say nothing about where the next one is.

use collectors::IpVersion;
use detector::{Direction, Prefix};

use super::Request;
use super::baseline::{Judge, Rule};
use super::columns::{Columns, RowSet};
use super::search::Search;
use super::test::{Field, MAX_TESTS, Test};

/// Prefixes of one rule at most.
const MOST: usize = 10;
/// What a further prefix must bring, in shares of the excess.
const WORTH: f64 = 0.001;
/// Rows of one side that make it worth looking into a prefix.
const ROWS: u32 = 3;

/// A row: where it is, and what it weighs.
#[derive(Debug, Clone, Copy)]
struct Point {
    bits: u128,
    side: Side,
    weight: f64,
    /// Whether the trimmed rule matches it as well.
    stays: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Attack,
    Ordinary,
}

/// What a rule is expected to match in a part of the address space.
#[derive(Debug, Clone, Copy, Default)]
struct Mass {
    plus: f64,
    minus: f64,
}

impl Mass {
    const fn take(self) -> f64 {
        self.plus - self.minus
    }

    fn add(&mut self, side: Side, weight: f64) {
        match side {
            Side::Attack => self.plus += weight,
            Side::Ordinary => self.minus += weight,
        }
    }
}

/// A part of the address space and the best sets of 0 to [`MOST`] prefixes within it.
#[derive(Debug, Clone, Copy)]
struct Part {
    bits: u128,
    length: u8,
    /// Of the whole rule, and of the trimmed one.
    mass: [Mass; 2],
    best: [f64; MOST + 1],
    /// Prefixes that go to the lower half; [`WHOLE`] when it is this part itself.
    lower: [u8; MOST + 1],
    halves: Option<(usize, usize)>,
}

const WHOLE: u8 = u8::MAX;

impl Part {
    /// The rule that is better here: 0 the whole one, 1 the trimmed one.
    fn better(&self) -> usize {
        usize::from(self.mass[1].take() > self.mass[0].take())
    }
}

/// The tree over one rule's sources.
struct Tree<'a> {
    columns: &'a Columns,
    parts: Vec<Part>,
    /// What is spread over the whole address space.
    spread: [Mass; 2],
    longest: u8,
}

impl<'a> Tree<'a> {
    fn new(search: &Search<'a>, own: &RowSet, stays: &RowSet) -> Self {
        let columns = search.columns;
        let mut points: Vec<Point> = Vec::with_capacity(columns.rows.len());
        let own = columns.by_source.iter().map(|(bits, i)| (*bits, usize::from(*i))).filter(|(_, i)| own.contains(*i));
        for (bits, i) in own {
            let side = if i < columns.attack { Side::Attack } else { Side::Ordinary };
            points.push(Point { bits, side, weight: search.weights[i].abs(), stays: stays.contains(i) });
        }
        let (network, longest) = match columns.version {
            IpVersion::V4 => (16, 24),
            IpVersion::V6 => (48, 56),
        };
        let mut spread = [Mass::default(); 2];
        discount(&mut points, network, |s| s == Side::Attack, &mut spread);
        discount(&mut points, network, |s| s != Side::Attack, &mut spread);
        let mut tree = Self { columns, parts: Vec::with_capacity(256), spread, longest };
        let (bits, length) = match columns.version {
            IpVersion::V4 => (0, 0),
            IpVersion::V6 => (0x2 << 124, 3),
        };
        let _ = tree.grow(&points, bits, length);
        tree
    }

    /// Adds a part of the address space that holds these points, after its halves.
    fn grow(&mut self, points: &[Point], bits: u128, length: u8) -> usize {
        let space = self.columns.space_of(bits, length);
        let mut mass = self.spread.map(|m| Mass { plus: m.plus * space, minus: m.minus * space });
        let mut rows = [0u32; 2];
        for point in points {
            mass[0].add(point.side, point.weight);
            if point.stays {
                mass[1].add(point.side, point.weight);
            }
            rows[usize::from(point.side == Side::Attack)] += 1;
        }
        let take = mass[0].take().max(mass[1].take()).max(0.0);
        let mut best = [take; MOST + 1];
        best[0] = 0.0;
        let mut lower = [WHOLE; MOST + 1];
        // No split brings more than all that is hit, or all of the attack.
        let could = (mass[0].plus - take).min(mass[0].minus.max(mass[0].plus - mass[1].plus));
        let halves =
            (length < self.longest && rows.iter().any(|r| *r >= ROWS) && rows[0] > 0 && could > WORTH).then(|| {
                let bit = 1u128 << (127 - length);
                let (low, high) = points.split_at(points.partition_point(|p| p.bits & bit == 0));
                (self.grow(low, bits, length + 1), self.grow(high, bits | bit, length + 1))
            });
        if let Some((low, high)) = halves {
            let (low, high) = (self.parts[low].best, self.parts[high].best);
            for count in 1..=MOST {
                for of_low in 0..=count {
                    let sum = low[of_low] + high[count - of_low];
                    if sum > best[count] + 1e-9 {
                        best[count] = sum;
                        #[allow(clippy::cast_possible_truncation, reason = "at most MOST")]
                        let of_low = of_low as u8;
                        lower[count] = of_low;
                    }
                }
            }
        }
        self.parts.push(Part { bits, length, mass, best, lower, halves });
        self.parts.len() - 1
    }

    /// The best parts, as many as are worth it up to `most`.
    #[allow(clippy::cast_precision_loss, reason = "at most MOST")]
    fn best(&self, most: usize) -> Vec<Part> {
        let Some(root) = self.parts.last() else { return Vec::new() };
        let worth = |count: &usize| root.best[*count] - WORTH * *count as f64;
        let count = (0..=most.min(MOST)).max_by(|a, b| worth(a).total_cmp(&worth(b)).then(b.cmp(a))).unwrap_or(0);
        let mut found = Vec::new();
        let mut left = vec![(self.parts.len() - 1, count)];
        while let Some((at, count)) = left.pop() {
            let part = &self.parts[at];
            match (part.halves, part.lower[count]) {
                _ if count == 0 || part.best[count] <= 0.0 => {}
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

/// Takes the discount off the points of one side and spreads it.
#[allow(clippy::cast_precision_loss, reason = "some hundred rows")]
fn discount(points: &mut [Point], network: u32, is_side: fn(Side) -> bool, spread: &mut [Mass; 2]) {
    let same = |a: &Point, b: &Point| (a.bits ^ b.bits).leading_zeros() >= network;
    let of_side = |part: &[Point]| part.iter().filter(|p| is_side(p.side)).count();
    let (mut once, mut twice) = (0.0, 0.0);
    for part in points.chunk_by(same) {
        match of_side(part) {
            1 => once += 1.0,
            2 => twice += 1.0,
            _ => {}
        }
    }
    let discount = once / (once + 2.0 * twice + 0.5);
    for part in points.chunk_by_mut(same) {
        let rows = of_side(part) as f64;
        for point in part.iter_mut().filter(|p| is_side(p.side)) {
            let off = point.weight * discount / rows;
            point.weight -= off;
            spread[0].add(point.side, off);
            if point.stays {
                spread[1].add(point.side, off);
            }
        }
    }
}

impl Judge<'_> {
    /// The sets in which one rule is told apart by source at an exchange rate, given the same rule trimmed: either every part is the
    /// rule or the trimmed one, whichever is better there; or the trimmed one holds everywhere, and the whole one where that pays.
    pub(super) fn by_source(
        &self,
        request: &Request<'_>,
        exchange: f64,
        (set, at): (&[Rule], usize),
        trimmed: &Rule,
    ) -> Vec<Vec<Rule>> {
        let rule = &set[at];
        let can = request.capabilities.source && request.target.direction == Direction::Incoming;
        let has_room = rule.tests.len().max(trimmed.tests.len()) < MAX_TESTS && set.len() < request.max_rules;
        if !can || rule.tests.get(Field::Source).is_some() || !has_room {
            return Vec::new();
        }
        let others =
            set.iter().enumerate().filter(|(i, _)| *i != at).fold(RowSet::EMPTY, |all, (_, r)| all.or(&r.rows));
        let own = rule.rows.and_not(&others);
        let room = request.max_rules + 1 - set.len();
        let search = self.at(request, exchange);
        let replaced = |parts: Vec<Rule>| {
            let mut other = set.to_vec();
            other.splice(at..=at, parts);
            other
        };
        let apart = self.parts(&search, [rule, trimmed], (&own, &RowSet::EMPTY), room);
        let mut found = vec![replaced(apart)];
        if trimmed.tests != rule.tests {
            let mut more = self.parts(&search, [rule, trimmed], (&own, &trimmed.rows), room - 1);
            more.insert(0, trimmed.clone());
            found.push(replaced(more));
        }
        found.retain(|set| !set.is_empty());
        found
    }

    /// The best parts of a rule, or of the trimmed one, within its own rows, beside what others match already.
    fn parts(
        &self,
        search: &Search<'_>,
        [rule, trimmed]: [&Rule; 2],
        (own, already): (&RowSet, &RowSet),
        most: usize,
    ) -> Vec<Rule> {
        let tree = Tree::new(search, &own.and_not(already), &trimmed.rows);
        let Some(whole) = tree.parts.last().map(|p| p.mass) else { return Vec::new() };
        let part = |part: Part| {
            let better = part.better();
            let prefix = Prefix::new(self.columns.version, part.bits, part.length)?;
            let rule = if better == 1 { trimmed } else { rule };
            Some(self.part(rule, prefix, already, (part.mass[better], whole[better])))
        };
        tree.best(most).into_iter().filter_map(part).collect()
    }

    /// A rule for one prefix of another's sources, with what the sample does not show of it.
    fn part(&self, rule: &Rule, prefix: Prefix, already: &RowSet, (mass, whole): (Mass, Mass)) -> Rule {
        let test = Test::Source(prefix);
        let rows = self.columns.narrow(&rule.rows, &test);
        let (shares, all) =
            (self.columns.shares(&rows.and_not(already)), self.columns.shares(&rule.rows.and_not(already)));
        let kept = all.attack / self.columns.shares(&rule.rows).attack.max(f64::MIN_POSITIVE);
        let of_attack = mass.plus / whole.plus.max(f64::MIN_POSITIVE);
        let of_hit = mass.minus / whole.minus.max(f64::MIN_POSITIVE);
        Rule {
            tests: if prefix.length() == 0 { rule.tests } else { rule.tests.with(test) },
            rows,
            loss: shares.attack - of_attack * (all.attack - kept * rule.loss),
            unseen: of_hit * (all.ordinary.max(all.connections) + kept * rule.unseen)
                - shares.ordinary.max(shares.connections),
        }
    }
}
