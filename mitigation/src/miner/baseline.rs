//! Rules that cover the excess and spare what the target ordinarily gets.
//!
//! Samples of the attack weigh plus, samples of ordinary traffic weigh minus, so that the best range of a numeric field is exactly
//! the run of greatest sum (Kadane), and the best source prefix the group of greatest sum. A beam search over conjunctions uses
//! these steps; the rules found for several exchange rates of coverage against collateral are judged by the legitimate goodput
//! that is to be expected with them (`Rates::goodput`).
//!
//! Before that, traffic that only looks like more of the ordinary gets no rule at all (`gate.rs`).

use collectors::{IpVersion, Sample};
use detector::{Bits, Condition, Direction, Match, Pattern, Prefix};

use super::rows::{Field, Row, Test, rows};
use super::{Candidate, Outcome, Request, Verdict, coverage, gate, rule};

/// States kept per depth, and conditions per rule.
const BEAM: usize = 5;
const DEPTH: usize = 4;
/// Exchange rates: how much a unit of collateral costs beyond what it takes out of the excess.
const EXCHANGE: [f64; 4] = [2.0, 0.5, 8.0, 24.0];
/// Price of a unit of rule length.
const SHORTNESS: f64 = 0.004;
/// The same for samples of at most twenty.
const SHORTNESS_SMALL: f64 = 0.008;
/// A further rule must cover this share of the excess.
const MARGINAL: f64 = 0.02;
/// Rules must better the expected goodput by this much to be announced.
const GAIN: f64 = 0.06;

/// Rates in packets per second.
#[derive(Debug, Clone, Copy)]
struct Rates {
    captured: f64,
    ordinary: f64,
    excess: f64,
    capacity: f64,
}

impl Rates {
    fn new(request: &Request<'_>) -> Self {
        let captured = request.sample_pps.filter(|r| *r > 0.0).unwrap_or(20.0);
        let ordinary = request.baseline_pps.filter(|r| *r > 0.0).unwrap_or(captured / 20.0);
        let excess = (captured - ordinary).max(captured * 0.05);
        let capacity = request.capacity_pps.filter(|r| *r > 0.0).unwrap_or(ordinary * 4.0);
        Self { captured, ordinary, excess, capacity }
    }

    /// Expected share of ordinary traffic that gets through: what is not hit, and has room beside what is left of the attack.
    fn goodput(&self, covered: f64, hit: f64) -> f64 {
        let kept = 1.0 - hit;
        let load = kept * self.ordinary + (1.0 - covered) * self.excess;
        kept * (self.capacity / load.max(1e-9)).min(1.0)
    }
}

/// A conjunction under construction.
#[derive(Debug, Clone)]
struct State {
    tests: Vec<Test>,
    rows: Vec<u32>,
    score: f64,
}

/// One search: rows with their weights at one exchange rate.
struct Search<'a> {
    rows: &'a [Row],
    weights: Vec<f64>,
    price: f64,
    request: &'a Request<'a>,
}

/// A set of rules with what it does.
#[derive(Debug, Clone, Default)]
struct Set {
    rules: Vec<Vec<Test>>,
    covered: f64,
    hit: f64,
    value: f64,
}

/// Mines with a baseline.
pub(super) fn mine(request: &Request<'_>, sample: &[&Sample], ordinary: &[&Sample]) -> Outcome {
    if gate::looks_ordinary(sample, ordinary) {
        return Outcome::none(Verdict::LooksOrdinary, Vec::new());
    }
    let rates = Rates::new(request);
    let rows = rows(sample, ordinary);
    let price = if sample.len() <= 20 { SHORTNESS_SMALL } else { SHORTNESS };
    let mut best = Set { value: rates.goodput(0.0, 0.0), ..Set::default() };
    let nothing = best.value;
    for exchange in EXCHANGE {
        let set = search(request, &rows, &rates, exchange, price);
        if set.value > best.value {
            best = set;
        }
        if best.value > 1.035 {
            break;
        }
    }
    let candidates = |reason: &'static str| -> Vec<Candidate> {
        let make = |tests: &Vec<Test>| candidate(request, tests, sample, ordinary, reason);
        best.rules.iter().filter_map(make).collect()
    };
    if best.rules.is_empty() {
        return Outcome::none(Verdict::NoPattern, Vec::new());
    }
    if best.value <= nothing + GAIN {
        return Outcome::none(Verdict::TooCostly, candidates("would cost more ordinary traffic than it is worth"));
    }
    let rules = candidates("chosen");
    Outcome { verdict: Verdict::Rules, ranking: rules.clone(), rules }
}

fn candidate(
    request: &Request<'_>,
    tests: &[Test],
    sample: &[&Sample],
    ordinary: &[&Sample],
    reason: &'static str,
) -> Option<Candidate> {
    let conditions: Vec<Condition> = tests.iter().map(Test::condition).collect();
    let pattern: Pattern = rule(request.target, &conditions).ok()?;
    let (coverage_packets, coverage_bytes) = coverage(&pattern, sample);
    let hits = ordinary.iter().filter(|s| pattern.matches(s) == Match::Yes).count();
    #[allow(clippy::cast_precision_loss, reason = "shares of some hundred samples")]
    let (hits, all) = (hits as f64, ordinary.len() as f64);
    let collateral = hits / all;
    // The rule of three where nothing is hit, the normal approximation elsewhere.
    let bound =
        if hits == 0.0 { 3.0 / all } else { collateral + 1.645 * (collateral * (1.0 - collateral) / all).sqrt() };
    Some(Candidate {
        pattern,
        coverage_packets,
        coverage_bytes,
        collateral: Some(collateral),
        collateral_bound: Some(bound.min(1.0)),
        reason,
    })
}

/// Rules at one exchange rate, and their value.
fn search(request: &Request<'_>, rows: &[Row], rates: &Rates, exchange: f64, price: f64) -> Set {
    let minus = rates.ordinary / rates.excess + exchange;
    let plus = rates.captured / rates.excess;
    let weights = rows.iter().map(|r| if r.is_attack { plus * r.share } else { -minus * r.share }).collect();
    let search = Search { rows, weights, price, request };
    let mut live: Vec<u32> = (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).collect();
    let mut set = Set::default();
    while set.rules.len() < request.max_rules {
        let Some(best) = search.best(&live) else { break };
        let tests = search.generalise(&live, best.tests);
        let matched = |i: &u32| tests.iter().all(|t| t.matches(&rows[*i as usize]));
        let share = |is_attack: bool| -> f64 {
            live.iter()
                .filter(|i| matched(i))
                .map(|i| &rows[*i as usize])
                .filter(|r| r.is_attack == is_attack)
                .map(|r| r.share)
                .sum()
        };
        let (of_attack, of_ordinary) = (share(true), share(false));
        let covered = (of_attack * rates.captured - of_ordinary * rates.ordinary) / rates.excess;
        if covered < MARGINAL || !is_significant(rows, &live, &tests) {
            break;
        }
        live.retain(|i| !matched(i));
        set.covered += covered;
        set.hit += of_ordinary;
        set.rules.push(tests);
    }
    #[allow(clippy::cast_precision_loss, reason = "a handful of rules")]
    let (rules, ordinary) = (set.rules.len() as f64, rows.iter().filter(|r| !r.is_attack).count() as f64);
    let covered = set.covered.clamp(0.0, 1.0);
    // What a sample does not show may still be hit.
    let hit = (set.hit + rules * 0.9 / ordinary).clamp(0.0, 1.0);
    set.value = rates.goodput(covered, hit) + 0.05 * covered - 0.002 * rules;
    set
}

/// Whether a rule tells attack from ordinary traffic better than chance would (KL divergence against the bits it took to say).
#[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
fn is_significant(rows: &[Row], live: &[u32], tests: &[Test]) -> bool {
    let (mut attack, mut ordinary) = ((0.0, 0.0), (0.0, 0.0));
    for row in live.iter().map(|i| &rows[*i as usize]) {
        let side = if row.is_attack { &mut attack } else { &mut ordinary };
        side.1 += 1.0;
        side.0 += f64::from(u8::from(tests.iter().all(|t| t.matches(row))));
    }
    if attack.0 < 2.0 {
        return false;
    }
    let p: f64 = (attack.0 / attack.1).min(1.0 - 1e-6);
    let q: f64 = ((ordinary.0 + 0.5) / (ordinary.1 + 1.0)).clamp(1e-6, 1.0 - 1e-6);
    let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
    let bits = 4.0 * tests.len() as f64;
    p / q >= 1.7 && attack.1 * divergence >= bits * std::f64::consts::LN_2 + 100f64.ln()
}

impl Search<'_> {
    /// The best conjunction over the live rows, if any is worth its length.
    fn best(&self, live: &[u32]) -> Option<State> {
        let all = State { tests: Vec::new(), rows: live.to_vec(), score: f64::MIN };
        let mut beam = vec![all.clone()];
        for protocol in self.protocols(live) {
            beam.push(self.narrow(&all, Test::protocol(protocol)));
        }
        let mut best: Option<State> = None;
        for _ in 0..DEPTH {
            let mut next: Vec<State> = Vec::new();
            for state in &beam {
                for test in self.tests(state) {
                    next.push(self.narrow(state, test));
                }
            }
            next.extend(beam.into_iter().filter(|s| s.tests.len() == 1 && s.tests[0].field() == Field::Protocol));
            next.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.tests.cmp(&b.tests)));
            next.dedup_by(|a, b| same(&a.tests, &b.tests));
            next.truncate(BEAM);
            if let Some(top) = next.first()
                && best.as_ref().is_none_or(|b| top.score > b.score)
            {
                best = Some(top.clone());
            }
            beam = next;
        }
        best.filter(|b| b.score > 0.0 && !b.tests.is_empty())
    }

    fn protocols(&self, live: &[u32]) -> Vec<u8> {
        let mut sums = [0.0; 256];
        live.iter()
            .for_each(|i| sums[usize::from(self.rows[*i as usize].protocol)] += self.weights[*i as usize].max(0.0));
        let mut found: Vec<u8> = (0..=255).filter(|p| sums[usize::from(*p)] > 0.01).collect();
        found.sort_by(|a, b| sums[usize::from(*b)].total_cmp(&sums[usize::from(*a)]).then(a.cmp(b)));
        found.truncate(BEAM);
        found
    }

    fn narrow(&self, state: &State, test: Test) -> State {
        let rows: Vec<u32> = state.rows.iter().copied().filter(|i| test.matches(&self.rows[*i as usize])).collect();
        let sum: f64 = rows.iter().map(|i| self.weights[*i as usize]).sum();
        let mut tests = state.tests.clone();
        tests.push(test);
        let score = sum - self.price * length(&tests);
        State { tests, rows, score }
    }

    fn score(&self, live: &[u32], tests: &[Test]) -> f64 {
        let matched = live.iter().filter(|i| tests.iter().all(|t| t.matches(&self.rows[**i as usize])));
        matched.map(|i| self.weights[*i as usize]).sum::<f64>() - self.price * length(tests)
    }

    /// The best tests of each field that the state does not use yet.
    fn tests(&self, state: &State) -> Vec<Test> {
        let can = self.request.capabilities;
        let uses = |field: Field| state.tests.iter().any(|t| t.field() == field);
        let protocol = state.tests.iter().find(|t| t.field() == Field::Protocol);
        let mut found = Vec::new();
        if can.length && !uses(Field::Length) {
            self.numeric(state, Field::Length, &mut found);
        }
        let fragment_with_ports = can.ports_with_fragment || !uses(Field::Fragment);
        if let Some(protocol) = protocol {
            for field in [Field::SourcePort, Field::DestinationPort] {
                if protocol.has_ports() && fragment_with_ports && !uses(field) {
                    self.numeric(state, field, &mut found);
                }
            }
            if can.tcp_flags && protocol.is_tcp() && !uses(Field::TcpFlags) {
                found.extend(self.flags(state));
            }
            if protocol.is_icmp() && !uses(Field::IcmpType) {
                self.numeric(state, Field::IcmpType, &mut found);
            }
        }
        let has_ports = uses(Field::SourcePort) || uses(Field::DestinationPort);
        if can.fragment && !uses(Field::Fragment) && (can.ports_with_fragment || !has_ports) {
            found.extend([Bits::any(0x06), Bits::any(0x02), Bits::any(0x04), Bits::any(0x08)].map(Test::Fragment));
        }
        if can.source && !uses(Field::Source) && self.request.target.direction == Direction::Incoming {
            found.extend(self.source(state));
        }
        found
    }

    /// The run of values with the greatest sum, and the single value with the greatest.
    fn numeric(&self, state: &State, field: Field, found: &mut Vec<Test>) {
        let mut values: Vec<(u16, f64)> = state
            .rows
            .iter()
            .filter_map(|i| Some((self.rows[*i as usize].number(field)?, self.weights[*i as usize])))
            .collect();
        values.sort_unstable_by_key(|v| v.0);
        let mut merged: Vec<(u16, f64)> = Vec::with_capacity(values.len());
        for (value, weight) in values {
            match merged.last_mut() {
                Some(last) if last.0 == value => last.1 += weight,
                _ => merged.push((value, weight)),
            }
        }
        let single = merged.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        found.extend(single.filter(|s| s.1 > 0.0).map(|s| Test::Range(field, s.0, s.0)));
        if !self.request.capabilities.ranges {
            return;
        }
        // Kadane: the best run ends here or goes on.
        let (mut run, mut start) = (0.0, 0);
        let mut best: Option<(f64, u16, u16)> = None;
        for (i, (value, weight)) in merged.iter().enumerate() {
            if run <= 0.0 {
                (run, start) = (0.0, i);
            }
            run += weight;
            if best.is_none_or(|b| run > b.0) {
                best = Some((run, merged[start].0, *value));
            }
        }
        found.extend(best.filter(|(_, low, high)| low < high).map(|(_, low, high)| Test::Range(field, low, high)));
    }

    fn flags(&self, state: &State) -> Vec<Test> {
        let mut counts = std::collections::BTreeMap::new();
        for row in state.rows.iter().map(|i| &self.rows[*i as usize]).filter(|r| r.is_attack) {
            if let Some(flags) = row.flags {
                *counts.entry(flags & 0xff).or_insert(0u32) += 1;
            }
        }
        let mut values: Vec<(u16, u32)> = counts.into_iter().collect();
        values.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), *value));
        let exact = values.iter().take(3).map(|(value, _)| Bits::set_and_clear(*value, !value & 0xff));
        let common = [
            Bits::set_and_clear(0x02, 0x10),
            Bits::all(0x12),
            Bits::set_and_clear(0x10, 0x0f),
            Bits::any(0x04),
            Bits::any(0x01),
            Bits::any(0xc0),
        ];
        exact.chain(common).map(Test::TcpFlags).collect()
    }

    /// The source prefix with the greatest sum, at each of some lengths.
    fn source(&self, state: &State) -> Vec<Test> {
        let version = self.request.target.prefix.version();
        let lengths: &[u8] = match version {
            IpVersion::V4 => &[8, 12, 16, 20, 24, 32],
            IpVersion::V6 => &[32, 40, 48, 56, 64, 128],
        };
        let mut sources: Vec<(u128, f64)> =
            state.rows.iter().map(|i| (self.rows[*i as usize].source, self.weights[*i as usize])).collect();
        sources.sort_unstable_by_key(|s| s.0);
        let mut found = Vec::new();
        for length in lengths {
            let prefix = |bits: u128| Prefix::new(version, bits, *length);
            let mut best: Option<(f64, Prefix)> = None;
            let mut at = 0;
            while at < sources.len() {
                let Some(of) = prefix(sources[at].0) else { break };
                let end = at + sources[at..].partition_point(|s| of.contains_bits(version, s.0));
                let sum: f64 = sources[at..end].iter().map(|s| s.1).sum();
                // A single sample says nothing of its neighbours.
                if end - at >= 3 && best.as_ref().is_none_or(|b| sum > b.0) {
                    best = Some((sum, of));
                }
                at = end.max(at + 1);
            }
            found.extend(best.filter(|b| b.0 > 0.02).map(|(_, p)| Test::Source(p)));
        }
        found
    }

    /// Leaves out what is not needed, then widens ranges into the free space around them.
    fn generalise(&self, live: &[u32], mut tests: Vec<Test>) -> Vec<Test> {
        let mut score = self.score(live, &tests);
        let mut at = 0;
        while at < tests.len() && tests.len() > 1 {
            let mut fewer = tests.clone();
            let left_out = fewer.remove(at);
            let needed = left_out.field() == Field::Protocol && fewer.iter().any(|t| t.field().needs_protocol());
            let without = self.score(live, &fewer);
            if !needed && without >= score {
                (tests, score, at) = (fewer, without, 0);
            } else {
                at += 1;
            }
        }
        for at in 0..tests.len() {
            if let Test::Range(field, low, high) = tests[at]
                && low < high
            {
                let others: Vec<&Test> = tests.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, t)| t).collect();
                tests[at] = self.widen(live, field, (low, high), &others);
            }
        }
        tests.sort();
        tests
    }

    /// A sample seldom holds the extremes: a range grows by twice the mean gap, but not past half-way to the next other value.
    fn widen(&self, live: &[u32], field: Field, (low, high): (u16, u16), others: &[&Test]) -> Test {
        let (mut below, mut above, mut inside) = (None, None, 0u32);
        for row in live.iter().map(|i| &self.rows[*i as usize]) {
            let Some(value) = row.number(field).filter(|_| others.iter().all(|t| t.matches(row))) else { continue };
            if value < low {
                below = below.max(Some(value));
            } else if value > high {
                above = Some(above.map_or(value, |a: u16| a.min(value)));
            } else {
                inside += 1;
            }
        }
        let gap = 2 * u32::from(high - low) / inside.saturating_sub(1).max(1);
        let half = |a: u16, b: u16| u32::from(a.abs_diff(b)) / 2;
        let down = gap.min(below.map_or(gap, |b| half(low, b)));
        let up = gap.min(above.map_or(gap, |a| half(high, a)));
        let floor = u32::from(field.least()).min(u32::from(low));
        let least = u32::from(low).saturating_sub(down).max(floor);
        let most = (u32::from(high) + up).min(u32::from(field.most()).max(u32::from(high)));
        let low = roundest(least, low.into());
        // An upper end takes fewest ternary entries when the number after it is round.
        let high = roundest(u32::from(high) + 1, most + 1) - 1;
        Test::Range(field, u16::try_from(low).unwrap_or(0), u16::try_from(high).unwrap_or(u16::MAX))
    }
}

/// The number from `low` to `high` with the most trailing zero bits.
fn roundest(low: u32, high: u32) -> u32 {
    (0..=16).rev().map(|bits| high >> bits << bits).find(|n| *n >= low).unwrap_or(high)
}

/// Length of a rule in units that make shorter rules win ties: what it says, weighed by how much routers dislike it.
fn length(tests: &[Test]) -> f64 {
    let ranges = tests.iter().filter(|t| matches!(t, Test::Range(_, low, high) if low < high)).count();
    tests.iter().map(Test::length).sum::<f64>() + if ranges >= 2 { 4.0 } else { 0.0 }
}

fn same(a: &[Test], b: &[Test]) -> bool {
    a.len() == b.len() && a.iter().all(|t| b.contains(t))
}
