//! Trimming a costly rule: leaving out the stretch of one field where ordinary traffic is dense and the attack is thin, as far as the
//! expected goodput gains by it.

use super::baseline::{Judge, Rule};
use super::columns::{RowSet, Shares};
use super::search::Search;
use super::test::{Field, Spans, Test};

/// A rule that hits less of ordinary packets or connections is left as it is.
const COSTLY: f64 = 0.03;
/// Attack samples below which densities say too little.
const ENOUGH: usize = 100;
/// Stretches begin and end at this many quantiles of the ordinary traffic that the rule hits.
const QUANTILES: usize = 24;
/// Stretches that are left out of one rule at most.
const CUTS: usize = 2;

/// Cumulated sums below an edge.
#[derive(Debug, Clone, Copy, Default)]
struct Below {
    value: u32,
    attack: f64,
    ordinary: f64,
    openings: f64,
    attack_rows: f64,
    hit_rows: f64,
}

impl Judge<'_> {
    /// Trims the costly rules of a set.
    pub(super) fn trim(&self, search: &Search<'_>, set: &mut [Rule]) {
        if !search.can.ranges || !search.can.lists || self.columns.attack < ENOUGH {
            return;
        }
        for at in 0..set.len() {
            for _ in 0..CUTS {
                let shares = self.columns.shares(&set[at].rows);
                if shares.ordinary.max(shares.connections) < COSTLY || !self.cut(search, set, at) {
                    break;
                }
            }
        }
    }

    /// Leaves out the best stretch of a rule, if there is one.
    fn cut(&self, search: &Search<'_>, set: &mut [Rule], at: usize) -> bool {
        let others =
            set.iter().enumerate().filter(|(i, _)| *i != at).fold(RowSet::EMPTY, |all, (_, r)| all.or(&r.rows));
        let own = set[at].rows.and_not(&others);
        let value = self.value(set);
        let mut best: Option<(f64, Field, u32, u32)> = None;
        for field in [Field::SourcePort, Field::DestinationPort, Field::Length] {
            let usable = if field == Field::Length {
                search.can.length
            } else {
                set[at].tests.get(Field::Protocol).is_some_and(Test::has_ports)
                    && self.may_add_port(search, &set[at], field)
            };
            if usable
                && let Some((value, low, high)) = self.stretch(set, &own, field)
                && best.is_none_or(|b| value > b.0)
            {
                best = Some((value, field, low, high));
            }
        }
        let Some((_, field, low, high)) = best.filter(|b| b.0 > value + 0.004) else { return false };
        let whole = Spans::one(field.least(self.columns.version), field.most());
        let spans = match set[at].tests.get(field) {
            Some(Test::Numbers(_, spans)) => *spans,
            _ => whole,
        };
        let Some(spans) = spans.without(low, high) else { return false };
        let tests = search.round(&self.columns.all, set[at].tests.with(Test::Numbers(field, spans)));
        let rows = self.columns.matching(&self.columns.all, &tests);
        let loss = search.loss(&self.columns.all, &tests) / search.plus;
        let before = std::mem::replace(&mut set[at], Rule { tests, rows, loss });
        if self.value(set) > value {
            return true;
        }
        set[at] = before;
        false
    }

    fn may_add_port(&self, search: &Search<'_>, rule: &Rule, field: Field) -> bool {
        let other = if field == Field::SourcePort { Field::DestinationPort } else { Field::SourcePort };
        (search.can.two_ports || rule.tests.get(other).is_none())
            && (search.can.ports_with_fragment || rule.tests.get(Field::Fragment).is_none())
    }

    /// The stretch of a field within the rows that only this rule matches whose loss betters the set most: the value then expected,
    /// and its ends.
    fn stretch(&self, set: &[Rule], own: &RowSet, field: Field) -> Option<(f64, u32, u32)> {
        let edges = self.edges(own, field)?;
        let all = edges.last()?;
        let union = set.iter().fold(RowSet::EMPTY, |all, rule| all.or(&rule.rows));
        let shares = self.columns.shares(&union);
        let loss: f64 = set.iter().map(|r| r.loss).sum();
        let mut best: Option<(f64, u32, u32)> = None;
        for (i, from) in edges.iter().enumerate() {
            for to in &edges[i + 1..] {
                let attack_rows = to.attack_rows - from.attack_rows;
                let hit_rows = to.hit_rows - from.hit_rows;
                if !is_dense(hit_rows, all.hit_rows, attack_rows, all.attack_rows) {
                    continue;
                }
                let left = Shares {
                    attack: shares.attack - (to.attack - from.attack),
                    ordinary: shares.ordinary - (to.ordinary - from.ordinary),
                    connections: shares.connections
                        - self.columns.connections_of(to.openings - from.openings, to.ordinary - from.ordinary),
                    ..shares
                };
                let value = self.worth(&left, loss, set.len());
                if best.is_none_or(|b| value > b.0) {
                    best = Some((value, from.value, to.value.saturating_sub(1)));
                }
            }
        }
        best
    }

    /// Quantiles of what the rows hit of ordinary traffic, with the sums below each.
    fn edges(&self, own: &RowSet, field: Field) -> Option<Vec<Below>> {
        let columns = self.columns;
        let order: Vec<usize> =
            columns.order[field.column()].iter().map(|i| usize::from(*i)).filter(|i| own.contains(*i)).collect();
        let hit = order.iter().filter(|i| **i >= columns.attack).count();
        if hit < 8 {
            return None;
        }
        let step = hit.div_ceil(QUANTILES).max(1);
        let (mut below, mut edges, mut met) = (Below::default(), Vec::with_capacity(QUANTILES + 2), 0);
        edges.push(Below { value: field.least(columns.version), ..below });
        // What is strictly below the value at hand.
        let mut under = below;
        for i in order {
            let value = columns.values[field.column()][i];
            if value != under.value {
                under = Below { value, ..below };
            }
            if i >= columns.attack {
                if met % step == 0 && edges.last().is_some_and(|e| e.value < value) {
                    edges.push(under);
                }
                met += 1;
                below.hit_rows += 1.0;
                if columns.is_ordinary(i) {
                    below.ordinary += columns.share[i];
                } else {
                    below.openings += 1.0;
                }
            } else {
                below.attack_rows += 1.0;
                below.attack += columns.share[i];
            }
        }
        edges.push(Below { value: field.most() + 1, ..below });
        Some(edges)
    }
}

/// Whether a stretch with `hit` of `all_hit` ordinary rows and `attack` of `all_attack` attack rows is denser in ordinary traffic than
/// chance makes the densest of some hundred.
fn is_dense(hit: f64, all_hit: f64, attack: f64, all_attack: f64) -> bool {
    let p = (hit / all_hit.max(1.0)).clamp(1e-6, 1.0 - 1e-6);
    let q = ((attack + 1.0) / (all_attack + 2.0)).clamp(1e-6, 1.0 - 1e-6);
    let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    p > q && hit >= 3.0 && all_hit * divergence >= 300f64.ln()
}
