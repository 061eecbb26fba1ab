//! Trimming a costly rule: leaving out the stretch of one field where ordinary traffic is dense and the attack is thin, as far as the
//! expected goodput gains by it.

use super::Request;
use super::baseline::{Judge, Rule};
use super::columns::Shares;
use super::rowset::RowSet;
use super::search::Search;
use super::test::{Field, Spans, Test, Tests};

/// A rule that hits less of ordinary packets or connections is left as it is.
const COSTLY: f64 = 0.001;
/// Rows that a rule must hit to be judged by them as much as by what is alike.
const LEAN: f64 = 60.0;
/// Attack samples below which densities say too little.
const ENOUGH: usize = 100;
/// Stretches begin and end at this many quantiles of the ordinary traffic that the rule hits.
const QUANTILES: usize = 24;
/// How far the attack is taken to be spread evenly over a field, rather than as its few samples are.
const EVENLY: f64 = 0.5;
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
    /// Ordinary rows of the same protocol and ports, whether the rule hits them or not.
    alike: f64,
}

/// A stretch of a field that a rule could leave out.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    field: Field,
    low: u32,
    high: u32,
    /// How good it is to leave it out, as asked for.
    rank: f64,
    /// Share of ordinary traffic that it seems to spare and probably does not.
    unseen: f64,
    /// Share of the captured packets that it costs beyond those seen.
    loss: f64,
}

/// What makes a stretch the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The value of the set without it, which must be better than with it.
    Value,
    /// The share of what is hit that it holds, less its share of the attack: for some sources it may be worth leaving out.
    Density,
}

impl Judge<'_> {
    /// Makes costly rules of a set spare more: by stretches of a field that they leave out, and by sources.
    pub(super) fn refine(&self, request: &Request<'_>, set: &mut Vec<Rule>) {
        let mut search = self.searching(request);
        search.at(self.price(1.0));
        let can_cut = search.can.ranges && search.can.lists && self.columns.attack >= ENOUGH;
        let mut value = self.value(set);
        for at in (0..set.len()).rev() {
            let shares = self.columns.shares(&set[at].rows);
            if shares.ordinary.max(shares.connections) < COSTLY {
                continue;
            }
            for base in self.with_all_ports(set, at) {
                let mut variants = vec![base];
                let mut densest = variants[0].clone();
                let has_densest = can_cut && self.cut(&search, &mut densest, at, By::Density);
                while can_cut && variants.len() <= CUTS {
                    let mut next = variants[variants.len() - 1].clone();
                    if !self.cut(&search, &mut next, at, By::Value) {
                        break;
                    }
                    variants.push(next);
                }
                if has_densest {
                    variants.push(densest);
                }
                let untrimmed = variants[0].clone();
                for variant in variants {
                    let its = self.value(&variant);
                    let apart = self.apart(request, (&untrimmed, at), &variant[at]);
                    if let Some(apart) = apart.filter(|a| a.value > its.max(value)) {
                        let other = self.told_apart(&apart, (&untrimmed, at), &variant[at]);
                        let its = self.value(&other);
                        if its > value && !other.is_empty() {
                            (*set, value) = (other, its);
                        }
                    }
                    if its > value {
                        (*set, value) = (variant, its);
                    }
                }
            }
        }
    }

    /// A set as it is, and with the ranges of ports of one rule left out: those were chosen with fewer doubts.
    fn with_all_ports(&self, set: &[Rule], at: usize) -> Vec<Vec<Rule>> {
        let is_range = |field| matches!(set[at].tests.get(field), Some(Test::Numbers(_, s)) if s.single().is_none());
        let ranges = [Field::SourcePort, Field::DestinationPort].into_iter().filter(|f| is_range(*f));
        let tests = ranges.fold(set[at].tests, Tests::without);
        let mut bases = vec![set.to_vec()];
        if tests != set[at].tests && tests.len() > 1 {
            let mut other = set.to_vec();
            other[at] =
                Rule { tests, rows: self.columns.matching(&self.columns.all, &tests), loss: 0.0, unseen: self.doubt() };
            bases.push(other);
        }
        bases
    }

    /// Leaves out the best stretch of a rule, if there is one.
    fn cut(&self, search: &Search<'_>, set: &mut [Rule], at: usize, by: By) -> bool {
        let own = set[at].rows.and_not(&self.union_without(set, at));
        let value = self.value(set);
        let mut best: Option<Stretch> = None;
        for field in [Field::SourcePort, Field::DestinationPort, Field::Length] {
            let usable = if field == Field::Length {
                search.can.length
            } else {
                set[at].tests.get(Field::Protocol).is_some_and(Test::has_ports)
                    && self.may_add_port(search, &set[at], field)
            };
            if usable
                && let Some(found) = self.stretch(set, at, &own, (field, by))
                && best.is_none_or(|b| found.rank > b.rank)
            {
                best = Some(found);
            }
        }
        let Some(Stretch { field, low, high, unseen, loss, .. }) =
            best.filter(|b| by == By::Density || b.rank > value + 0.004)
        else {
            return false;
        };
        let whole = Spans::one(field.least(self.columns.version), field.most());
        let spans = match set[at].tests.get(field) {
            Some(Test::Numbers(_, spans)) => *spans,
            _ => whole,
        };
        let Some(spans) = spans.without(low, high) else { return false };
        let tests = search.round(&self.columns.all, set[at].tests.with(Test::Numbers(field, spans)));
        let rows = self.columns.matching(&self.columns.all, &tests);
        let rule = Rule { tests, rows, loss: set[at].loss + loss, unseen: set[at].unseen + unseen };
        let before = std::mem::replace(&mut set[at], rule);
        if by == By::Density || self.value(set) > value {
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

    /// The stretch of a field within the rows that only this rule matches whose loss betters the set most.
    ///
    /// Of many stretches the one that seems densest is so by chance in part. Where a rule that hits few rows hits ordinary traffic is
    /// therefore taken from all that is alike as well.
    fn stretch(&self, set: &[Rule], at: usize, own: &RowSet, (field, by): (Field, By)) -> Option<Stretch> {
        let edges = self.edges(&set[at], own, field)?;
        let all = edges.last()?;
        let union = self.union(set);
        let shares = self.columns.shares(&union);
        let (loss, unseen) = super::baseline::unseen(set);
        let row = all.attack / all.attack_rows.max(1.0);
        // The attack's ports and lengths are spread evenly at a guess.
        let (first, last) = self.reach(own, field)?;
        let mut best: Option<Stretch> = None;
        for (i, from) in edges.iter().enumerate() {
            for to in &edges[i + 1..] {
                let attack_rows = to.attack_rows - from.attack_rows;
                let hit_rows = to.hit_rows - from.hit_rows;
                if !is_dense(hit_rows, all.hit_rows, attack_rows, all.attack_rows) {
                    continue;
                }
                let alike = (to.alike - from.alike) / all.alike.max(1.0);
                let probably = all.hit_rows / (all.hit_rows + LEAN) * (1.0 + LEAN * alike / hit_rows);
                let (ordinary, openings) = (to.ordinary - from.ordinary, to.openings - from.openings);
                let width = f64::from(to.value - from.value) / f64::from(last - first);
                let lost = to.attack - from.attack;
                let more_lost = (EVENLY * (all.attack * width - lost)).max(row);
                let left = Shares {
                    attack: shares.attack - lost,
                    ordinary: shares.ordinary - ordinary,
                    connections: shares.connections - self.columns.connections_of(openings, ordinary),
                    ..shares
                };
                let spared = shares.ordinary.max(shares.connections) - left.ordinary.max(left.connections);
                let more = spared * (1.0 - probably);
                let rank = match by {
                    By::Value => self.worth(&left, (loss + more_lost, unseen + more), set.len()),
                    By::Density => hit_rows * probably / all.hit_rows - (lost + more_lost) / all.attack,
                };
                if best.is_none_or(|b| rank > b.rank) {
                    let high = to.value.saturating_sub(1);
                    best = Some(Stretch { field, low: from.value, high, rank, unseen: more, loss: more_lost });
                }
            }
        }
        best
    }

    /// Lowest and highest value that attack rows have.
    fn reach(&self, own: &RowSet, field: Field) -> Option<(u32, u32)> {
        let (mut first, mut last) = (u32::MAX, 0);
        self.columns.each_value(own, field, |value| (first, last) = (first.min(value), last.max(value)));
        (first <= last).then_some((first, last.max(first + 1)))
    }

    /// Quantiles of what the rows hit of ordinary traffic, with the sums below each.
    fn edges(&self, rule: &Rule, own: &RowSet, field: Field) -> Option<Vec<Below>> {
        let columns = self.columns;
        let but = [Field::Length, Field::TcpFlags, Field::Fragment, field];
        let alike = columns.matching(&columns.ordinary_rows, &but.into_iter().fold(rule.tests, Tests::without));
        let either = own.or(&alike);
        let order: Vec<(u32, usize)> = columns.in_order(field).filter(|(_, i)| either.contains(*i)).collect();
        let hit = order.iter().filter(|(_, i)| !columns.is_attack(*i) && own.contains(*i)).count();
        if hit < 8 {
            return None;
        }
        let step = hit.div_ceil(QUANTILES).max(1);
        let (mut below, mut edges, mut met) = (Below::default(), Vec::with_capacity(QUANTILES + 2), 0);
        edges.push(Below { value: field.least(columns.version), ..below });
        // What is strictly below the value at hand.
        let mut under = below;
        for (value, i) in order {
            if value != under.value {
                under = Below { value, ..below };
            }
            if !columns.is_attack(i) {
                below.alike += 1.0;
                if !own.contains(i) {
                    continue;
                }
                if met % step == 0 && edges.last().is_some_and(|e| e.value < value) {
                    edges.push(under);
                }
                met += 1;
                below.hit_rows += 1.0;
                if columns.is_ordinary(i) {
                    below.ordinary += columns.ordinary_share(i);
                } else {
                    below.openings += 1.0;
                }
            } else {
                below.attack_rows += 1.0;
                below.attack += columns.share(i);
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
    // Logarithms are dear, and most stretches fail without.
    if p <= q || hit < 3.0 {
        return false;
    }
    let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    all_hit * divergence >= 300f64.ln()
}
