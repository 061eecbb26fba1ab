//! Rules that cover the excess and spare what the target ordinarily gets.
//!
//! A [`Search`] at each of some exchange rates of coverage against collateral gives a set of rules; sets are judged by the
//! legitimate goodput that is to be expected with them ([`Rates::goodput`]), then polished rule by rule. Before that, traffic that
//! only looks like more of the ordinary gets no rule at all (`gate.rs`).

use flowspec::{Match, Pattern};
use traffic::sample::protocol;
use traffic::{IpVersion, Sample};

use super::columns::{Columns, Shares};
use super::rowset::RowSet;
use super::search::{Search, State, lengths};
use super::test::{Field, Test, Tests};
use super::{Baseline, Candidate, Outcome, Request, Verdict, Volume, upper_bound};

/// Exchange rates: how much a unit of collateral costs beyond what it takes out of the excess.
const EXCHANGE: [f64; 3] = [2.0, 8.0, 40.0];
/// Price of a unit of rule length; for small samples it grows by `20 / samples`.
const SHORTNESS: f64 = 0.004;
/// The share of the sample that must have a condition for it to stand out, and how many times its ordinary share that must be.
const STANDS_OUT: [(f64, f64); 2] = [(0.5, 8.0), (0.8, 5.0)];
/// What is left is taken for ordinary traffic when it is no more than this many times as much; of few samples, too few are left to
/// count them.
const REST: f64 = 1.4;
const REST_OF_FEW: f64 = 0.7;
const FEW: usize = 100;
/// A further rule must cover this share of the excess.
const MARGINAL: f64 = 0.01;
/// What a share of the attack left over is worth, in shares of goodput, where link and host could bear it: capacities are guesses.
const COVERAGE: f64 = 0.35;
/// What a further rule must be worth.
const RULE: f64 = 0.0006;
/// A rule may be as good by chance once in this many times.
const CHANCES: f64 = 10.0;
/// When rules are worse by this much than those of a cheaper exchange, dearer ones are not tried.
const WORSE: f64 = 0.1;
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

    /// Share of the excess that a rule with these shares of both sides covers.
    fn covered(&self, attack: f64, ordinary: f64) -> f64 {
        (attack * self.captured - ordinary * self.ordinary) / self.excess
    }
}

/// A rule with the rows it matches.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) tests: Tests,
    pub(super) rows: RowSet,
    /// Share of the captured packets that it is expected to miss although the sample does not show it.
    pub(super) loss: f64,
    /// Share of ordinary traffic that it is expected to hit although the sample does not show it.
    pub(super) unseen: f64,
}

/// Mines with a baseline.
pub(super) fn mine(request: &Request<'_>, sample: &[&Sample], ordinary: &Baseline) -> Outcome {
    let prefix = request.target.prefix;
    let can = request.capabilities;
    let used = |field| (field != Field::Dscp || can.dscp) && (field != Field::FlowLabel || can.flow_label);
    let shortest = |least| lengths(prefix.version(), least).first().copied().unwrap_or(128);
    let columns = Columns::new(sample, ordinary, used, (shortest(0), shortest(prefix.length())));
    let judge = Judge { columns: &columns, rates: Rates::new(request) };
    let mut search = judge.searching(request);
    if ordinary.gate.looks_ordinary(sample) && !judge.stands_out(request, &mut search) {
        return Outcome::none(Verdict::LooksOrdinary, Vec::new());
    }
    let nothing = judge.value(&[]);
    let (mut best, mut best_value): (Vec<Rule>, f64) = (Vec::new(), nothing);
    let mut pool: Vec<Rule> = Vec::new();
    for exchange in EXCHANGE {
        search.at(judge.price(exchange));
        let set = judge.search(request, &mut search);
        let value = judge.value(&set);
        pool.extend(set.iter().cloned());
        if value > best_value {
            (best, best_value) = (set, value);
        }
        // A dearer exchange covers less, and cannot spare more than all.
        let spares_all = !best.is_empty() && value >= best_value && judge.spares_all(&best);
        if best_value > 1.0 + COVERAGE - 0.01 || value < best_value - WORSE || spares_all {
            break;
        }
    }
    if best.is_empty() {
        return Outcome::none(Verdict::NoPattern, Vec::new());
    }
    judge.polish(&mut best, &pool, request.max_rules);
    judge.merge_victims(request, &mut best);
    judge.refine(request, &mut best);
    let all = Volume::of(sample.iter().copied());
    let make = |rule: &Rule, reason| judge.candidate(request, rule, (sample, all, ordinary), reason);
    if judge.value(&best) <= nothing + GAIN {
        let costly = best.iter().filter_map(|r| make(r, "would cost more ordinary traffic than it is worth"));
        return Outcome::none(Verdict::TooCostly, costly.collect());
    }
    let rules: Vec<Candidate> = best.iter().filter_map(|r| make(r, "chosen")).collect();
    let mut ranking = rules.clone();
    let mut others: Vec<&Rule> = Vec::new();
    for rule in &pool {
        if best.iter().chain(others.iter().copied()).all(|r| r.tests != rule.tests) {
            others.push(rule);
        }
    }
    others.truncate(super::RANKING.saturating_sub(ranking.len()));
    ranking.extend(others.into_iter().filter_map(|r| make(r, "less goodput expected than with the rules chosen")));
    Outcome { verdict: Verdict::Rules, ranking, rules }
}

/// What a sample does not show of a set: see [`Rule`].
pub(super) fn unseen<'r>(set: impl IntoIterator<Item = &'r Rule>) -> (f64, f64) {
    set.into_iter().fold((0.0, 0.0), |(loss, unseen), rule| (loss + rule.loss, unseen + rule.unseen))
}

/// Weighs sets of rules.
pub(super) struct Judge<'a> {
    pub(super) columns: &'a Columns<'a>,
    rates: Rates,
}

impl Judge<'_> {
    /// What a unit of ordinary traffic costs in shares of the excess.
    pub(super) fn price(&self, exchange: f64) -> f64 {
        self.rates.ordinary / self.rates.excess + exchange
    }

    /// Share of the excess that a share of the captured packets makes up.
    pub(super) fn excess_of(&self, share: f64) -> f64 {
        share * self.rates.captured / self.rates.excess
    }

    /// A search that has still to be told the exchange rate.
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    pub(super) fn searching(&self, request: &Request<'_>) -> Search<'_> {
        let price = SHORTNESS * (1.0 + 20.0 / self.columns.attack as f64);
        Search::new(self.columns, self.excess_of(1.0), price, request.capabilities, request.target)
    }

    /// What looks ordinary in coarse cells may still hold one thing that ordinary traffic hardly has, in at least half of the
    /// sample. Sources do not count, since a crowd has new ones, unless it is one sender, who is no crowd.
    fn stands_out(&self, request: &Request<'_>, search: &mut Search<'_>) -> bool {
        let all = self.columns.all;
        search.at(self.price(EXCHANGE[0]));
        let mut found = false;
        for source in [false, true] {
            search.can.source = source && request.capabilities.source;
            let Some(best) = search.best(&all).into_iter().next() else { continue };
            if source && !self.is_one_sender(&best) {
                continue;
            }
            let shares = self.columns.shares(&best.rows);
            #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
            let ordinary = (f64::from(shares.ordinary_rows) + 0.5) / (self.columns.baseline.rows as f64 + 1.0);
            found |=
                STANDS_OUT.iter().any(|(share, times)| shares.attack >= *share && shares.attack >= times * ordinary)
                    && self.is_significant(&all, &best.rows, &best.tests);
            if found {
                break;
            }
        }
        search.can.source = request.capabilities.source;
        found
    }

    /// What a rule does, counted on all samples of both sides.
    fn candidate(
        &self,
        request: &Request<'_>,
        rule: &Rule,
        (sample, of_sample, ordinary): (&[&Sample], Volume, &Baseline),
        reason: &'static str,
    ) -> Option<Candidate> {
        let pattern: Pattern = rule.tests.pattern(request.target).ok()?;
        let columns = self.columns;
        // The rows are the samples, unless they were thinned.
        let hit = if sample.len() == columns.attack {
            let mut hit = Volume::default();
            columns.each_attack(&rule.rows, |i, _| hit.add(sample[i]));
            hit
        } else {
            Volume::matched(&pattern, sample)
        };
        let all = ordinary.samples();
        let hits = if all.len() == ordinary.rows {
            columns.shares(&rule.rows).ordinary_rows as usize
        } else {
            all.iter().filter(|s| pattern.matches(s) == Match::Yes).count()
        };
        #[allow(clippy::cast_precision_loss, reason = "shares of some hundred samples")]
        let collateral = hits as f64 / all.len().max(1) as f64;
        Some(Candidate {
            collateral: Some(collateral),
            collateral_bound: Some(upper_bound(hits, all.len())),
            ..Candidate::new(pattern, hit, of_sample, reason)
        })
    }

    /// Whether a rule is about one network that sends something other than TCP: a transfer over TCP is asked for.
    fn is_one_sender(&self, best: &State) -> bool {
        let Some(Test::Source(prefix)) = best.tests.get(Field::Source) else { return false };
        let narrow = match prefix.version() {
            IpVersion::V4 => 24,
            IpVersion::V6 => 48,
        };
        let (mut tcp, mut all) = (0, 0);
        self.columns.each_value(&best.rows, Field::Protocol, |value| {
            tcp += u32::from(value == u32::from(protocol::TCP));
            all += 1;
        });
        prefix.length() >= narrow && 10 * tcp < all
    }

    /// Rules at one exchange rate.
    fn search(&self, request: &Request<'_>, search: &mut Search<'_>) -> Vec<Rule> {
        let (columns, rates) = (self.columns, self.rates);
        let plus = rates.captured / rates.excess;
        let mut live = columns.all;
        let mut set: Vec<Rule> = Vec::new();
        while set.len() < request.max_rules && self.is_too_much(&live) {
            let fits = |search: &mut Search<'_>, best: State| {
                let tests = search.generalise(&live, best.tests);
                let everywhere = columns.matching(&columns.all, &tests);
                let rows = everywhere.and(&live);
                let shares = columns.shares(&rows);
                let is_worth = rates.covered(shares.attack, shares.ordinary) >= MARGINAL;
                let is_rule = !tests.is_bare();
                (is_rule && is_worth && self.is_significant(&live, &rows, &tests)).then_some((tests, everywhere, rows))
            };
            let states = search.best(&live);
            let Some((tests, everywhere, rows)) = states.into_iter().find_map(|s| fits(search, s)) else { break };
            let loss = search.loss(&rows, &tests) / plus;
            live = live.and_not(&rows);
            set.push(Rule { tests, rows: everywhere, loss, unseen: self.doubt() });
        }
        set
    }

    /// Whether what is left exceeds the ordinary traffic clearly.
    fn is_too_much(&self, live: &RowSet) -> bool {
        let left = self.columns.attack_of(live).1;
        let rest = if self.columns.attack < FEW { REST_OF_FEW } else { REST };
        left * self.rates.captured > rest * self.rates.ordinary
    }

    /// No row.
    pub(super) fn none(&self) -> RowSet {
        RowSet::none(self.columns.all.words().len())
    }

    /// The rows of all rules of a set.
    pub(super) fn union<'r>(&self, set: impl IntoIterator<Item = &'r Rule>) -> RowSet {
        set.into_iter().fold(self.none(), |all, rule| all.or(&rule.rows))
    }

    /// The rows of all rules of a set but one.
    pub(super) fn union_without(&self, set: &[Rule], at: usize) -> RowSet {
        self.union(set[..at].iter().chain(&set[at + 1..]))
    }

    /// Share of ordinary traffic that a rule may hit although no sample shows it: half a row.
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    pub(super) fn doubt(&self) -> f64 {
        0.5 / self.columns.baseline.rows as f64
    }

    /// Expected goodput with a set of rules, less their price.
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    pub(super) fn value(&self, set: &[Rule]) -> f64 {
        self.value_of(set.iter())
    }

    /// The same of rules that are elsewhere.
    fn value_of<'r>(&self, set: impl Iterator<Item = &'r Rule> + Clone) -> f64 {
        let shares = self.columns.shares(&self.union(set.clone()));
        self.worth(&shares, self::unseen(set.clone()), set.count())
    }

    /// Whether a set hits no ordinary row and no opening.
    fn spares_all(&self, set: &[Rule]) -> bool {
        self.columns.mass(&self.union(set)).ordinary <= 0.0
    }

    /// Value of a set that matches these shares, and of which the sample does not show `loss` and `unseen`.
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    pub(super) fn worth(&self, shares: &Shares, (loss, unseen): (f64, f64), rules: usize) -> f64 {
        let rules = rules as f64;
        let covered = (self.rates.covered(shares.attack, shares.ordinary) - loss).clamp(0.0, 1.0);
        let hit = (shares.ordinary.max(shares.connections) + unseen).clamp(0.0, 1.0);
        // A standard error less: what link and host cannot carry costs much.
        let samples = self.columns.effective.max(1.0);
        let likely = (covered * samples + 1.0) / (samples + 2.0);
        let error = (likely * (1.0 - likely) / samples).sqrt();
        self.rates.goodput((covered - error).max(0.0), hit) + COVERAGE * covered - RULE * rules
    }

    /// Leaves out and adds rules of the pool while that betters the set.
    fn polish(&self, set: &mut Vec<Rule>, pool: &[Rule], max_rules: usize) {
        let mut value = self.value(set);
        for _ in 0..4 * max_rules {
            // Which rule goes, and which of the pool comes.
            let mut better: Option<(f64, Option<usize>, Option<&Rule>)> = None;
            let consider = |without: Option<usize>, with: Option<&Rule>| {
                let stays = set.iter().enumerate().filter(|(at, _)| Some(*at) != without).map(|(_, rule)| rule);
                self.value_of(stays.chain(with))
            };
            let mut keep = |new: f64, without: Option<usize>, with| {
                if new > better.map_or(value + 1e-9, |b| b.0) {
                    better = Some((new, without, with));
                }
            };
            if set.len() > 1 {
                (0..set.len()).for_each(|at| keep(consider(Some(at), None), Some(at), None));
            }
            for rule in pool.iter().filter(|rule| set.iter().all(|r| r.tests != rule.tests)) {
                if set.len() < max_rules {
                    keep(consider(None, Some(rule)), None, Some(rule));
                }
                (0..set.len()).for_each(|at| keep(consider(Some(at), Some(rule)), Some(at), Some(rule)));
            }
            let Some((new, without, with)) = better else { break };
            value = new;
            match (without, with) {
                (Some(at), Some(rule)) => set[at] = rule.clone(),
                (Some(at), None) => drop(set.remove(at)),
                (None, with) => set.extend(with.cloned()),
            }
        }
    }

    /// Whether a rule tells attack from ordinary traffic better than chance would: KL divergence against the bits it took to say.
    #[allow(clippy::cast_precision_loss, reason = "some hundred samples")]
    fn is_significant(&self, live: &RowSet, rows: &RowSet, tests: &Tests) -> bool {
        let (of, matched) = (self.columns.shares(live), self.columns.shares(rows));
        if matched.attack_rows < 2 {
            return false;
        }
        let p = (matched.attack / of.attack.max(f64::MIN_POSITIVE)).clamp(1e-6, 1.0 - 1e-6);
        let q = (f64::from(matched.ordinary_rows) + 0.5) / (f64::from(of.ordinary_rows) + 1.0);
        let q = q.clamp(1e-6, 1.0 - 1e-6);
        let divergence = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        let among = (self.columns.attack as f64 + 1.0).log2();
        let bits: f64 = tests.iter().map(|t| t.bits(among)).sum();
        let observations = self.columns.effective * of.attack;
        p / q >= 1.7 && observations * divergence >= bits * std::f64::consts::LN_2 + CHANCES.ln()
    }
}
