//! Generalising a rule: leave out what is not needed, and let ranges grow to where the attack probably ends.

use super::rowset::RowSet;
use super::search::Search;
use super::test::{Field, Spans, Test, Tests};

/// A range grows by at most this many mean gaps: the attack lies beyond with probability e⁻³ (5 %).
const GAPS: f64 = 3.0;

impl Search<'_> {
    /// Leaves out what is not needed, then widens ranges into the free space around them.
    pub(super) fn generalise(&mut self, live: &RowSet, mut tests: Tests) -> Tests {
        self.sharpen(live, &mut tests);
        self.leave_out(live, &mut tests);
        let before = tests;
        for &test in before.iter() {
            if let Test::Numbers(field, spans) = test
                && field.is_scale()
                && spans.single().is_none()
                && let Some(wider) = self.widen(live, &tests, field, spans)
            {
                tests = tests.with(Test::Numbers(field, wider));
            }
        }
        self.round(live, tests)
    }

    /// Moves ends of ranges to rounder numbers, the cheapest first, until the rule fits the ternary entries it may take; a range
    /// that cannot be made to fit is left out.
    pub(super) fn round(&self, live: &RowSet, mut tests: Tests) -> Tests {
        while tests.entries() > self.can.max_entries {
            let mut best: Option<(f64, Tests)> = None;
            for test in tests.iter() {
                let &Test::Numbers(field, spans) = test else { continue };
                for rounder in spans.rounder(field) {
                    let other = tests.with(Test::Numbers(field, rounder));
                    let score = self.sum(&self.columns.matching(live, &other)) - self.price * other.length();
                    if other.entries() < tests.entries() && best.as_ref().is_none_or(|b| score > b.0) {
                        best = Some((score, other));
                    }
                }
            }
            let widest = || tests.iter().max_by_key(|t| t.entries()).map(|t| tests.without(t.field()));
            match best.map(|b| b.1).or_else(widest) {
                Some(other) => tests = other,
                None => break,
            }
        }
        tests
    }

    /// The search knows the ends of ranges to a bin: here they become those of the samples.
    fn sharpen(&mut self, live: &RowSet, tests: &mut Tests) {
        let before = *tests;
        let mut found = Vec::with_capacity(8);
        for &test in before.iter() {
            if !matches!(test, Test::Numbers(field, spans) if field.is_scale() && spans.single().is_none()) {
                continue;
            }
            let rows = self.columns.matching(live, &tests.without(test.field()));
            let mut score = f64::NEG_INFINITY;
            self.numbers(&rows, test.field(), true, &mut found);
            for (sharp, ..) in found.drain(..) {
                let other = tests.with(sharp);
                let its = self.fresh_score(&self.columns.narrow(&rows, &sharp), &other);
                if its > score && other.entries() <= self.can.max_entries.saturating_mul(super::search::ROUNDING) {
                    (*tests, score) = (other, its);
                }
            }
        }
    }

    fn leave_out(&self, live: &RowSet, tests: &mut Tests) {
        // The rows that each test matches.
        let rows: Vec<(Field, RowSet)> = tests.iter().map(|t| (t.field(), self.columns.narrow(live, t))).collect();
        let matching = |tests: &Tests| {
            let of = rows.iter().filter(|(field, _)| tests.get(*field).is_some());
            of.fold(*live, |all, (_, rows)| all.and(rows))
        };
        let mut score = self.fresh_score(&matching(tests), tests);
        let mut again = true;
        while again && tests.len() > 1 {
            again = false;
            for (field, _) in &rows {
                let Some(_) = tests.get(*field) else { continue };
                let fewer = tests.without(*field);
                let needed = *field == Field::Protocol && fewer.iter().any(|t| t.field().needs_protocol());
                if needed || fewer.len() == 0 {
                    continue;
                }
                let without = self.fresh_score(&matching(&fewer), &fewer);
                if without >= score {
                    (*tests, score, again) = (fewer, without, true);
                }
            }
        }
    }

    /// The score to be expected on traffic not seen yet, of tests that match these rows: each open end of a range loses what lies
    /// beyond the outermost samples.
    fn fresh_score(&self, matched: &RowSet, tests: &Tests) -> f64 {
        self.sum(matched) - self.price * tests.length() - self.loss(matched, tests)
    }

    /// What the ends of ranges are expected to cut off, when the tests match these rows: of m uniform samples the outermost stands
    /// 1/(m+1) from the end, and the less is lost the farther beyond it the range ends.
    pub(super) fn loss(&self, matched: &RowSet, tests: &Tests) -> f64 {
        let is_open =
            |test: &&Test| matches!(test, Test::Numbers(field, s) if field.is_scale() && s.single().is_none());
        if !tests.iter().any(|t| is_open(&t)) {
            return 0.0;
        }
        let (rows, sum) = self.attack_of(matched);
        let of = |test: &Test| {
            let Test::Numbers(field, spans) = test else { return 0.0 };
            let (mut low, mut high) = (u32::MAX, 0);
            self.columns.each_value(matched, *field, |value| (low, high) = (low.min(value), high.max(value)));
            spans.cut_off(*field, self.columns.version, (low, high), rows)
        };
        tests.iter().filter(is_open).map(of).sum::<f64>() * sum / (rows + 1.0)
    }

    /// A sample seldom holds the extremes. Each end moves out to where what is probably still to come stops paying for the
    /// ordinary traffic that is met on the way, then to the number within that takes fewest ternary entries.
    fn widen(&self, live: &RowSet, tests: &Tests, field: Field, spans: Spans) -> Option<Spans> {
        let others = self.columns.matching(live, &tests.without(field));
        let (rows, sum) = self.attack_of(&self.columns.narrow(&others, &Test::Numbers(field, spans)));
        let slice = spans.as_slice();
        let (first, last) = (slice.first()?.0, slice.last()?.1);
        let gap = (f64::from(last - first) / (rows - 1.0).max(1.0)).max(0.5);
        let end = Expected { gap, worth: sum / (rows + 1.0) };
        let mut wider: Vec<(u32, u32)> = slice.to_vec();
        let room = first.saturating_sub(field.least(self.columns.version));
        let down = end.reach(room, |most| {
            let [attack, ordinary] = self.columns.between(field, first - most, first - 1);
            let (attack, ordinary) = (attack.iter().rev(), ordinary.iter().rev());
            self.beyond(&others, attack, ordinary, move |v| first - v)
        });
        let room = field.most().saturating_sub(last);
        let up = end.reach(room, |most| {
            let [attack, ordinary] = self.columns.between(field, last + 1, last + most);
            self.beyond(&others, attack.iter(), ordinary.iter(), move |v| v - last)
        });
        wider[0].0 = rounded_down(first - down, first - down / 2);
        let count = wider.len();
        wider[count - 1].1 = rounded_up(last + up / 2, last + up);
        // A hole is only as wide as the ordinary traffic in it.
        for at in 1..count {
            let (low, high) = (wider[at - 1].1, wider[at].0);
            let [_, ordinary] = self.columns.between(field, low + 1, high.saturating_sub(1));
            let inside = |(_, i): &&(u32, u16)| others.contains(usize::from(*i));
            let (Some((least, _)), Some((most, _))) =
                (ordinary.iter().find(inside), ordinary.iter().rev().find(inside))
            else {
                continue;
            };
            let half = if field == Field::Length { 2 } else { 1 };
            let (down, up) = ((least - low - 1) / half, (high - most - 1) / half);
            wider[at - 1].1 = low + down;
            wider[at].0 = high - up;
        }
        Spans::new(wider)
    }

    /// Distances and weights of those rows of the attack and of ordinary traffic that are in a set, nearest first, and what the
    /// former weigh in all.
    fn beyond<'s>(
        &'s self,
        rows: &'s RowSet,
        attack: impl Iterator<Item = &'s (u32, u16)> + Clone + 's,
        ordinary: impl Iterator<Item = &'s (u32, u16)> + 's,
        distance: impl Fn(u32) -> u32 + 's,
    ) -> (f64, impl Iterator<Item = (u32, f64)> + 's) {
        let is_in = |(_, i): &&(u32, u16)| rows.contains(usize::from(*i));
        let attack = attack.filter(is_in);
        let weight = attack.clone().map(|(_, i)| self.weight(usize::from(*i))).sum();
        let (mut attack, mut ordinary) = (attack.peekable(), ordinary.filter(is_in).peekable());
        let merged = std::iter::from_fn(move || {
            let of = |next: Option<&&(u32, u16)>| next.map_or(u32::MAX, |n| distance(n.0));
            let next = if of(attack.peek()) <= of(ordinary.peek()) { attack.next() } else { ordinary.next() };
            next.map(|(value, i)| (distance(*value), self.weight(usize::from(*i))))
        });
        (weight, merged)
    }
}

/// What may lie beyond the end of a range.
struct Expected {
    /// Mean distance of neighbouring samples.
    gap: f64,
    /// Weight that the end is expected to cut off.
    worth: f64,
}

impl Expected {
    /// How far the end moves: `others` gives the distances and weights of rows beyond it up to some distance, nearest first, and what
    /// all that weigh plus do; `room` is left in the field.
    fn reach<I: Iterator<Item = (u32, f64)>>(&self, room: u32, others: impl FnOnce(u32) -> (f64, I)) -> u32 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a distance within the field")]
        let most = ((GAPS * self.gap).ceil().max(1.0) as u32).min(room);
        if most == 0 {
            return 0;
        }
        let gain = |distance: u32| self.worth * (1.0 - (-f64::from(distance) / self.gap).exp());
        let (plus, others) = others(most);
        let (mut best, mut best_at) = (0.0, 0);
        let (mut met, mut minus) = (0.0, 0.0);
        let mut before = 0;
        for (distance, weight) in others.chain(std::iter::once((u32::MAX, 0.0))) {
            if distance > before {
                // Half-way to what is not to be met, or all the way.
                let to = if distance > most { most } else { before + (distance - before) / 2 };
                let value = gain(to.min(most)) + met;
                if to > before && value > best {
                    (best, best_at) = (value, to.min(most));
                }
            }
            met += weight;
            minus += weight.min(0.0);
            // Farther out there is nothing that makes up for what was met.
            if distance >= most || self.worth + plus + minus <= best {
                break;
            }
            before = distance;
        }
        best_at
    }
}

/// The number from `low` to `high` with the most trailing zero bits.
fn roundest(low: u32, high: u32) -> u32 {
    (0..=20).rev().map(|bits| high >> bits << bits).find(|n| *n >= low).unwrap_or(high)
}

fn rounded_down(low: u32, high: u32) -> u32 {
    roundest(low, high)
}

/// An upper end takes fewest ternary entries when the number after it is round.
fn rounded_up(low: u32, high: u32) -> u32 {
    roundest(low + 1, high + 1) - 1
}
