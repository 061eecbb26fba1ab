//! Generalising a rule: leave out what is not needed, and let ranges grow to where the attack probably ends.

use super::columns::RowSet;
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
                    let score = self.score(live, &other);
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
        for &test in before.iter() {
            if !matches!(test, Test::Numbers(field, spans) if field.is_scale() && spans.single().is_none()) {
                continue;
            }
            let rows = self.columns.matching(live, &tests.without(test.field()));
            let mut score = f64::NEG_INFINITY;
            for (sharp, ..) in self.numbers(&rows, test.field(), true) {
                let other = tests.with(sharp);
                let its = self.fresh_score(live, &other);
                if its > score && other.entries() <= self.can.max_entries.saturating_mul(super::search::ROUNDING) {
                    (*tests, score) = (other, its);
                }
            }
        }
    }

    fn leave_out(&self, live: &RowSet, tests: &mut Tests) {
        let mut score = self.fresh_score(live, tests);
        let fields: Vec<Field> = tests.iter().map(Test::field).collect();
        let mut again = true;
        while again && tests.len() > 1 {
            again = false;
            for field in &fields {
                let Some(_) = tests.get(*field) else { continue };
                let fewer = tests.without(*field);
                let needed = *field == Field::Protocol && fewer.iter().any(|t| t.field().needs_protocol());
                if needed || fewer.len() == 0 {
                    continue;
                }
                let without = self.fresh_score(live, &fewer);
                if without >= score {
                    (*tests, score, again) = (fewer, without, true);
                }
            }
        }
    }

    /// The score to be expected on traffic not seen yet: each open end of a range loses what lies beyond the outermost samples.
    fn fresh_score(&self, live: &RowSet, tests: &Tests) -> f64 {
        let matched = self.columns.matching(live, tests);
        let mut sum = 0.0;
        matched.for_each(|i| sum += self.weights[i]);
        sum - self.price * tests.length() - self.loss_of(&matched, tests)
    }

    /// What the ends of ranges are expected to cut off: of m uniform samples the outermost stands 1/(m+1) from the end, and the
    /// less is lost the farther beyond it the range ends.
    pub(super) fn loss(&self, live: &RowSet, tests: &Tests) -> f64 {
        self.loss_of(&self.columns.matching(live, tests), tests)
    }

    /// The same for the rows that the tests match.
    fn loss_of(&self, matched: &RowSet, tests: &Tests) -> f64 {
        let is_open =
            |test: &&Test| matches!(test, Test::Numbers(field, s) if field.is_scale() && s.single().is_none());
        if !tests.iter().any(|t| is_open(&t)) {
            return 0.0;
        }
        let attack = matched.and(&self.columns.attack_rows);
        let (mut sum, mut rows) = (0.0, 0.0f64);
        attack.for_each(|i| (sum, rows) = (sum + self.weights[i], rows + 1.0));
        let of = |test: &Test| {
            let Test::Numbers(field, spans) = test else { return 0.0 };
            let values = &self.columns.values[field.column()];
            let (mut low, mut high) = (u32::MAX, 0);
            attack.for_each(|i| (low, high) = (low.min(values[i]), high.max(values[i])));
            spans.cut_off(*field, self.columns.version, (low, high), rows)
        };
        tests.iter().filter(is_open).map(of).sum::<f64>() * sum / (rows + 1.0)
    }

    /// A sample seldom holds the extremes. Each end moves out to where what is probably still to come stops paying for the
    /// ordinary traffic that is met on the way, then to the number within that takes fewest ternary entries.
    fn widen(&self, live: &RowSet, tests: &Tests, field: Field, spans: Spans) -> Option<Spans> {
        let others = tests.without(field);
        let values: Vec<(u32, f64, bool)> = self.columns.order[field.column()]
            .iter()
            .map(|i| usize::from(*i))
            .filter(|i| live.contains(*i) && others.matches(&self.columns.rows[*i]))
            .filter_map(|i| Some((self.columns.rows[i].number(field)?, self.weights[i], i < self.columns.attack)))
            .collect();
        let (mut rows, mut sum) = (0.0f64, 0.0);
        for (_, weight, _) in values.iter().filter(|v| v.2 && spans.contains(v.0)) {
            rows += 1.0;
            sum += weight;
        }
        let slice = spans.as_slice();
        let (first, last) = (slice.first()?.0, slice.last()?.1);
        let gap = (f64::from(last - first) / (rows - 1.0).max(1.0)).max(0.5);
        let end = Expected { gap, worth: sum / (rows + 1.0) };
        let mut wider: Vec<(u32, u32)> = slice.to_vec();
        let below: Vec<(u32, f64)> = values.iter().rev().filter(|v| v.0 < first).map(|v| (first - v.0, v.1)).collect();
        let above: Vec<(u32, f64)> = values.iter().filter(|v| v.0 > last).map(|v| (v.0 - last, v.1)).collect();
        let down = end.reach(&below, first.saturating_sub(field.least(self.columns.version)));
        let up = end.reach(&above, field.most().saturating_sub(last));
        wider[0].0 = rounded_down(first - down, first - down / 2);
        let count = wider.len();
        wider[count - 1].1 = rounded_up(last + up / 2, last + up);
        // A hole is only as wide as the ordinary traffic in it.
        for at in 1..count {
            let (low, high) = (wider[at - 1].1, wider[at].0);
            let inside = || values.iter().filter(|v| v.0 > low && v.0 < high && !v.2);
            let (Some(least), Some(most)) = (inside().map(|v| v.0).min(), inside().map(|v| v.0).max()) else {
                continue;
            };
            let half = if field == Field::Length { 2 } else { 1 };
            let (down, up) = ((least - low - 1) / half, (high - most - 1) / half);
            wider[at - 1].1 = low + down;
            wider[at].0 = high - up;
        }
        Spans::new(wider)
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
    /// How far the end moves: `others` are the distances and weights of rows beyond it, nearest first; `room` is left in the field.
    fn reach(&self, others: &[(u32, f64)], room: u32) -> u32 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a distance within the field")]
        let most = ((GAPS * self.gap).ceil().max(1.0) as u32).min(room);
        let gain = |distance: u32| self.worth * (1.0 - (-f64::from(distance) / self.gap).exp());
        let (mut best, mut best_at) = (0.0, 0);
        let mut met = 0.0;
        let mut before = 0;
        for &(distance, weight) in others.iter().chain(std::iter::once(&(u32::MAX, 0.0))) {
            if distance > before {
                // Half-way to what is not to be met, or all the way.
                let to = if distance > most { most } else { before + (distance - before) / 2 };
                let value = gain(to.min(most)) + met;
                if to > before && value > best {
                    (best, best_at) = (value, to.min(most));
                }
            }
            if distance >= most {
                break;
            }
            met += weight;
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
