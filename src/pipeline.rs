//! [`Pipeline`]: the one place that decides. Pure: no I/O, no clock, no randomness but an injected seed.
//!
//! The daemon, `replay` and the simulation tests drive the same [`Pipeline::step`]. It reads the workers' shards, mines full
//! buckets, asks the policy, and publishes the *set* of wanted announcements; announcers make the routers equal to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::{Route, Wanted};
use detector::{Attack, Bucket, Class, Detector, Event, Filter, Measure, Memory, Meter, Routers, Unit};
use flowspec::{FlowSpec, Match};
use operator::identity;
use operator::report::{CandidateReport, Entry, Report};
use policy::audience::{Audience, audiences};
use policy::state::Records;
use policy::{Decision, Held, Mitigation, Order, OrderError, Policy, Proposal};
use reporting::case::Case;
use traffic::{Prefix, Sample, Target, Time};

use crate::ordinary::{Prepared, PreparedBaselines};

/// Cases that wait to be taken at most.
const MAX_CASES: usize = 256;
/// Candidates of a mining run that are reported.
const REPORTED_CANDIDATES: usize = 8;

/// What comes from outside besides samples: operators, the API, announcers.
#[derive(Debug, Clone)]
pub enum Request {
    /// What routers hold.
    Held(Held),
    /// In a replay there is no router: every wanted route counts as held.
    AssumeHeld,
    /// `set flowspec`: announced at once.
    AddFlowSpec {
        /// The rule.
        rule: FlowSpec,
        /// Who, why, until when.
        order: Order,
    },
    /// `set blackhole`: announced at once; the host's rules go and mining stops.
    AddBlackhole {
        /// The host.
        prefix: Prefix,
        /// Who, why, until when.
        order: Order,
    },
    /// `delete flowspec` and `delete blackhole`: an order, or an automatic route.
    Remove {
        /// What, as [`Pipeline::named`] found it.
        route: Route,
        /// Who and why.
        order: Order,
    },
    /// An automatic route that waits for approval.
    Approve {
        /// What, as [`Pipeline::named`] found it.
        route: Route,
        /// Who and why.
        order: Order,
    },
    /// The kill switch: everything is withdrawn, and nothing announced until [`Request::Resume`].
    WithdrawAll(Order),
    /// Announcing is allowed again.
    Resume(Order),
    /// The sampling rates that exporters' own counters contradict from now on, see [`Detector::doubt_rates`].
    DoubtRates(BTreeMap<(u16, u32), u32>),
}

/// What a request led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// Taken; there is nothing more to say.
    Taken,
    /// This route is in force, or would be.
    Route(Box<Mitigation>),
    /// So many routes were withdrawn.
    Withdrawn(usize),
}

/// Detector, miner and policy joined: what is wanted follows from what is counted and ordered.
#[derive(Debug)]
pub struct Pipeline {
    detector: Detector,
    policy: Policy,
    held: Held,
    assume_held: bool,
    filters: BTreeMap<(Target, Route), Arc<Filter>>,
    wanted: Wanted,
    has_seen_traffic: bool,
    /// What requests led to, told at the next step.
    untold: Vec<Entry>,
    cases: Vec<Case>,
    ordinary: PreparedBaselines,
}

impl Pipeline {
    /// A pipeline and one meter per worker.
    #[must_use]
    pub fn new(
        detector: detector::Config,
        mitigation: policy::Config,
        workers: usize,
        seed: u64,
    ) -> (Self, Vec<Meter>) {
        let (detector, meters) = Detector::new(detector, workers, seed);
        let pipeline = Self {
            detector,
            policy: Policy::new(mitigation),
            held: Held::new(),
            assume_held: false,
            filters: BTreeMap::new(),
            wanted: Wanted::new(),
            has_seen_traffic: false,
            untold: Vec::new(),
            cases: Vec::new(),
            ordinary: PreparedBaselines::default(),
        };
        (pipeline, meters)
    }

    /// Takes an action from outside; [`Pipeline::wanted`] is right at once, what happened is told by the next step.
    ///
    /// # Errors
    /// An order that is refused, with the reason and what to do.
    pub fn request(&mut self, now: Time, request: Request) -> Result<Done, OrderError> {
        let policy = &mut self.policy;
        let (decisions, order) = match request {
            Request::Held(held) => {
                self.held = held;
                // Before the policy looks at what is left: a rule that a router has just taken has not failed yet.
                self.sync_filters();
                return Ok(Done::Taken);
            }
            Request::AssumeHeld => {
                self.assume_held = true;
                return Ok(Done::Taken);
            }
            Request::AddFlowSpec { rule, order } => (policy.order_flowspec(now, &rule, order.clone())?, order),
            Request::AddBlackhole { prefix, order } => (policy.order_blackhole(now, prefix, order.clone())?, order),
            Request::Remove { route, order } => (policy.remove(now, &route)?, order),
            Request::Approve { route, order } => (policy.approve(now, &route)?, order),
            Request::WithdrawAll(order) => (policy.withdraw_all(now, order.clone()), order),
            Request::Resume(order) => (policy.resume(now, &order), order),
            Request::DoubtRates(measured) => {
                self.detector.doubt_rates(measured);
                return Ok(Done::Taken);
            }
        };
        let mut entries = Vec::new();
        self.record(now, &decisions, &mut entries);
        entries.iter_mut().for_each(|entry| entry.ordered_by(&order));
        self.untold.append(&mut entries);
        self.sync_filters();
        self.wanted = self.policy.wanted();
        let route = decisions
            .iter()
            .find_map(|d| if let Decision::Added(m) | Decision::Changed(m) = d { Some(m.clone()) } else { None });
        Ok(match (&decisions[..], route) {
            ([Decision::WithdrawnAll { routes, .. }, ..], _) => Done::Withdrawn(*routes),
            ([Decision::Added(m), ..], _) => Done::Route(Box::new(m.clone())),
            (_, Some(m)) => Done::Route(Box::new(m)),
            _ => Done::Taken,
        })
    }

    /// The routes in force that a text names, each once: by its id or the first digits of it, by its words as `show` prints them,
    /// by its prefix (a blackhole), or by a rule in JSON. More than one only where digits begin several ids.
    #[must_use]
    pub fn named(&self, text: &str) -> Vec<Route> {
        let text = text.trim();
        let all: BTreeSet<&Route> = self.policy.all().map(|m| &m.route).collect();
        let ids = || all.iter().filter(|route| identity::begins(&identity::route_id(route), text));
        let written = all.iter().find(|route| route.to_string() == text);
        let found: Vec<Route> = written.into_iter().chain(ids()).map(|route| (*route).clone()).collect();
        if !found.is_empty() {
            return found;
        }
        let route = match flowspec::json::parse(text) {
            Ok(rule) => policy::rails::clamp(&rule.pattern).ok().map(Route::FlowSpec),
            Err(_) => text.parse().ok().map(Route::Unicast),
        };
        route.filter(|route| all.contains(route)).into_iter().collect()
    }

    /// What to remember over a restart; the system's clock is `ahead` of the pipeline's by so many nanoseconds.
    #[must_use]
    pub fn records(&self, ahead: i64) -> Records {
        self.policy.records(ahead)
    }

    /// Takes up what was remembered, before anything is announced; returns how many routes.
    pub fn restore(&mut self, now: Time, records: &Records) -> usize {
        let taken = self.policy.restore(now, records);
        self.wanted = self.policy.wanted();
        taken
    }

    /// Takes up what an earlier run learned of ordinary traffic.
    pub fn remember(&mut self, now: Time, memory: Memory) {
        self.detector.remember(now, memory);
    }

    /// Puts a configuration into force while everything runs: counters, attacks and the routes it still allows stay. Returns one
    /// meter for each of `added` further workers, and what happened; the wanted set shows it from the next step on.
    pub fn reconfigure(
        &mut self,
        now: Time,
        detector: detector::Config,
        mitigation: policy::Config,
        added: usize,
    ) -> (Vec<Meter>, Vec<Entry>) {
        let done = self.detector.reconfigure(detector, added);
        if done.relaid {
            let workers = self.detector.workers();
            self.filters.values_mut().for_each(|filter| *filter = Arc::new(filter.grown(workers)));
        }
        let mut entries = self.react(now, done.events);
        let decisions = self.policy.reconfigure(mitigation);
        self.record(now, &decisions, &mut entries);
        self.sync_filters();
        (done.meters, entries)
    }

    /// One tick of 50 to 100 ms; returns what happened, in order.
    pub fn step(&mut self, now: Time) -> Vec<Entry> {
        let events = self.detector.step(now);
        let mut entries = std::mem::take(&mut self.untold);
        if !self.has_seen_traffic && self.detector.has_traffic() {
            self.has_seen_traffic = true;
            entries.push(Entry::new(now, Report::FirstTraffic));
        }
        entries.extend(self.react(now, events));
        self.policy.doubt(self.detector.doubted(now));
        let decisions = self.policy.step(now, self.detector.attacks(), &self.held);
        self.record(now, &decisions, &mut entries);
        self.sync_filters();
        self.wanted = self.policy.wanted();
        entries
    }

    /// Between ticks, while [`Pipeline::is_collecting`]: a full bucket is mined at once.
    pub fn collect(&mut self, now: Time) -> Vec<Entry> {
        let events = self.detector.collect(now);
        if events.is_empty() {
            return Vec::new();
        }
        let entries = self.react(now, events);
        self.sync_filters();
        self.wanted = self.policy.wanted();
        entries
    }

    fn react(&mut self, now: Time, events: Vec<Event>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for event in events {
            match event {
                Event::Alarm(target) => {
                    if let Some(attack) = self.detector.attacks().get(&target) {
                        self.ordinary.prepare(&self.detector, attack);
                        entries.push(Entry::new(now, Report::alarm(attack)));
                        let decisions = self.policy.alarm(now, attack);
                        self.record(now, &decisions, &mut entries);
                    }
                }
                Event::Residual(target) => entries.push(Entry::new(now, Report::Residual { target })),
                Event::BucketFull(target, bucket) => self.mine(now, target, &bucket, &mut entries),
                Event::Orphaned(target, bucket) => {
                    entries.push(Entry::new(now, Report::orphaned(target, &bucket)));
                    // A certain attack is not dropped for want of samples: what is there is mined, if it goes on.
                    if self.detector.attacks().contains_key(&target) {
                        self.mine(now, target, &bucket, &mut entries);
                    } else {
                        let decisions = self.policy.sampled(now, target, &bucket.samples);
                        self.record(now, &decisions, &mut entries);
                    }
                }
                Event::SuspectExporter { exporter, before, now: rate } => {
                    entries.push(Entry::new(now, Report::SuspectExporter { exporter, before, now: rate }));
                }
                Event::Over(attack) => {
                    self.ordinary.forget(attack.target);
                    self.policy.over(attack.target);
                    entries.push(Entry::new(now, Report::over(now, &attack)));
                }
                Event::Silence => {
                    self.policy.set_silent(true);
                    entries.push(Entry::new(now, Report::Silence));
                }
                Event::SilenceOver => {
                    self.policy.set_silent(false);
                    entries.push(Entry::new(now, Report::SilenceOver));
                }
            }
        }
        entries
    }

    fn mine(&mut self, now: Time, target: Target, bucket: &Bucket, entries: &mut Vec<Entry>) {
        let Some(attack) = self.detector.attacks().get(&target) else { return };
        entries.push(Entry::new(now, Report::bucket_full(now, target, bucket, attack.tops.composition(3))));
        let decisions = self.policy.sampled(now, target, &bucket.samples);
        self.record(now, &decisions, entries);
        if self.policy.is_blackholed_by_hand(target) {
            self.detector.mined(now, target, false);
            return;
        }
        // The sample says which exporters tell of the attack.
        self.policy.doubt(self.detector.doubted(now));
        let mut added = false;
        for audience in audiences(self.policy.config(), target.prefix.version()) {
            added |= self.mine_for(now, target, bucket, &audience, entries);
        }
        self.detector.mined(now, target, added);
    }

    /// Mines for the peers whose routers can match the same; whether that gave a rule.
    fn mine_for(
        &mut self,
        now: Time,
        target: Target,
        bucket: &Bucket,
        audience: &Audience,
        entries: &mut Vec<Entry>,
    ) -> bool {
        let Some(attack) = self.detector.attacks().get(&target) else { return false };
        let ordinary = self.ordinary.of(&self.detector, attack);
        let request = self.mining_request(attack, &bucket.samples, &ordinary, audience);
        if !is_left_over(attack, &request) {
            let verdict = miner::Verdict::Covered;
            let report = Report::Candidates { target, verdict: verdict.to_string(), ranking: Vec::new() };
            entries.push(Entry::new(now, report));
            let decisions = self.policy.propose_to(now, target, verdict, &[], audience.peers.as_ref());
            self.record(now, &decisions, entries);
            return false;
        }
        let by_bytes = request.by_bytes;
        let outcome = miner::mine(&request);
        let tolerance = self.detector.config().burst_tolerance.as_millis();
        let tolerance = u64::try_from(tolerance).unwrap_or(u64::MAX);
        let mut case = Case::new(now, attack, tolerance, &request, &outcome);
        entries.push(Entry::new(
            now,
            Report::Candidates {
                target,
                verdict: outcome.verdict.to_string(),
                ranking: outcome.ranking.iter().take(REPORTED_CANDIDATES).map(candidate_report).collect(),
            },
        ));
        let proposals: Vec<Proposal> = outcome.rules.iter().map(|rule| proposal(rule, by_bytes)).collect();
        let decisions = self.policy.propose_to(now, target, outcome.verdict, &proposals, audience.peers.as_ref());
        case.decision.actions = decisions.iter().map(|d| Report::decision(d).to_string()).collect();
        if self.cases.len() < MAX_CASES {
            self.cases.push(case);
        }
        self.record(now, &decisions, entries);
        decisions.iter().any(|d| matches!(d, Decision::Added(_)))
    }

    /// The cases of buckets mined since the last call; whoever keeps them asks after each step.
    pub fn take_cases(&mut self) -> Vec<Case> {
        std::mem::take(&mut self.cases)
    }

    fn mining_request<'a>(
        &'a self,
        attack: &Attack,
        samples: &'a [Sample],
        ordinary: &'a Prepared,
        audience: &Audience,
    ) -> miner::Request<'a> {
        let excluded = self.policy.excluded(attack.target, audience.peers.as_ref());
        let rules_left = self.policy.config().max_rules_per_host.saturating_sub(excluded.len());
        miner::Request {
            target: attack.target,
            sample: samples,
            by_bytes: attack.crossing.measure.unit == Unit::Bytes,
            enough: enough(attack, samples),
            baseline: (!ordinary.baseline.samples().is_empty()).then_some(&*ordinary.baseline),
            sample_pps: Some(packet_rate(attack, samples)),
            baseline_pps: ordinary.packets_per_second,
            capacity_pps: capacity(&self.detector, attack),
            max_rules: rules_left,
            capabilities: audience.capabilities,
            excluded,
        }
    }

    fn record(&self, now: Time, decisions: &[Decision], entries: &mut Vec<Entry>) {
        // That a rule is in force already is the normal answer while routers are still to take it.
        let duplicate = |d: &Decision| matches!(d, Decision::Refused { reason: policy::Refusal::Duplicate, .. });
        entries.extend(decisions.iter().filter(|d| !duplicate(d)).map(|d| Entry::new(now, Report::decision(d))));
    }

    /// Excludes from each target's counters what is filtered (decision 8): the routes that a router holds, where it stands. What is
    /// held back is filtered by nobody and excluded from nothing; only the search for the next vector leaves it aside (decision
    /// 39), so that a dry run reports every vector, and each once.
    fn sync_filters(&mut self) {
        if self.assume_held {
            self.held = self.policy.wanted().into_keys().map(|route| (route, Routers::ALL)).collect();
        }
        let workers = self.detector.workers();
        let targets: Vec<Target> = self.detector.attacks().keys().copied().collect();
        let mut live = BTreeSet::new();
        for target in targets {
            let mut filters = Vec::new();
            for mitigation in self.policy.filters_of(target) {
                let withheld = mitigation.dry_run.is_some();
                let holders = match self.held.get(&mitigation.route) {
                    Some(routers) => *routers,
                    None if withheld => Routers::NONE,
                    None => continue,
                };
                let key = (target, mitigation.route.clone());
                live.insert(key.clone());
                let filter =
                    self.filters.entry(key).or_insert_with(|| Arc::new(Filter::new(mitigation.pattern(), workers)));
                filter.set_holders(holders);
                filter.set_withheld(withheld);
                filters.push(Arc::clone(filter));
            }
            let in_force = self.detector.attacks().get(&target).map_or(&[][..], |a| &a.filters);
            let same = in_force.len() == filters.len() && in_force.iter().zip(&filters).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                self.detector.set_filters(target, filters);
            }
        }
        self.filters.retain(|key, _| live.contains(key));
    }

    /// What should be announced.
    #[must_use]
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether a bucket is open: then call [`Pipeline::collect`] every few milliseconds.
    #[must_use]
    pub fn is_collecting(&self) -> bool {
        self.detector.is_collecting()
    }

    /// The detector, for status.
    #[must_use]
    pub const fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The policy, for status.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Packets and bytes that matched a route of a target since it came into force.
    #[must_use]
    pub fn hits(&self, target: Target, route: &Route) -> Option<(u64, u64)> {
        self.filters.get(&(target, route.clone())).map(|f| f.hits())
    }

    /// Packets and bytes that matched a route of a target where nobody filtered them: of one that is held back, what it would have
    /// hit.
    #[must_use]
    pub fn would_have_hit(&self, target: Target, route: &Route) -> Option<(u64, u64)> {
        self.filters.get(&(target, route.clone())).map(|f| f.passed())
    }
}

fn candidate_report(candidate: &miner::Candidate) -> CandidateReport {
    CandidateReport {
        rule: candidate.pattern.to_string(),
        coverage: candidate.coverage_packets,
        coverage_bytes: candidate.coverage_bytes,
        collateral: candidate.collateral,
        reason: candidate.reason.to_string(),
    }
}

fn proposal(candidate: &miner::Candidate, by_bytes: bool) -> Proposal {
    Proposal {
        pattern: candidate.pattern.clone(),
        coverage: candidate.coverage(by_bytes),
        collateral: candidate.collateral,
        collateral_bound: candidate.collateral_bound,
    }
}

/// The rate of all captured traffic in packets per second.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn packet_rate(attack: &Attack, samples: &[Sample]) -> f64 {
    let measure = attack.crossing.measure;
    let rate = rate(attack, samples);
    if measure.class != Class::Total || measure.unit == Unit::Flows {
        return rate.max(attack.packets_per_second as f64);
    }
    if measure.unit == Unit::Packets {
        return rate;
    }
    let of_target = samples.iter().filter(|s| attack.target.covers(s));
    let (packets, bytes) =
        of_target.fold((0u128, 0u128), |(p, b), s| (p + u128::from(s.packets), b + u128::from(s.bytes)));
    rate * packets as f64 / bytes.max(1) as f64
}

/// What the target can carry in packets per second: the operator's threshold is set below it, at about three quarters.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn capacity(detector: &Detector, attack: &Attack) -> Option<f64> {
    let group = detector.config().groups.iter().find(|g| g.name == attack.group)?;
    let measure = Measure { class: Class::Total, unit: Unit::Packets };
    let thresholds = match attack.scope {
        detector::Scope::Host | detector::Scope::Group => &group.thresholds,
        detector::Scope::Prefix => &group.prefix_thresholds,
        detector::Scope::Network => &group.network_thresholds,
    };
    thresholds.get(&(attack.target.direction, measure)).map(|t| *t as f64 / 0.75)
}

/// Whether what the wanted rules leave of a bucket is over the threshold for certain. Rules that no router holds yet filter
/// nothing, so the bucket still shows their traffic: the rest of it may well be ordinary.
#[allow(clippy::cast_precision_loss, reason = "statistics")]
fn is_left_over(attack: &Attack, request: &miner::Request<'_>) -> bool {
    let weight = |s: &Sample| if request.by_bytes { s.bytes } else { s.packets };
    let (mut all, mut left, mut seen) = (0u128, 0u128, 0u32);
    for sample in request.sample.iter().filter(|s| attack.target.covers(s)) {
        all += u128::from(weight(sample));
        if !request.excluded.iter().any(|p| p.matches(sample) == Match::Yes) {
            left += u128::from(weight(sample));
            seen += 1;
        }
    }
    if left == all {
        return true;
    }
    let share = left as f64 / all.max(1) as f64 * detector::lower_bound(f64::from(seen));
    rate(attack, request.sample) * share > attack.crossing.threshold as f64
}

/// The share of a sample that rules have to cover for the rest to stay below 0.8 of the threshold: mining what is left then
/// would take ordinary traffic for an attack.
#[allow(clippy::cast_precision_loss, reason = "a share")]
fn enough(attack: &Attack, samples: &[Sample]) -> f64 {
    (1.0 - 0.8 * attack.crossing.threshold as f64 / rate(attack, samples).max(1.0)).clamp(0.05, 0.95)
}

/// The rate of the measure that was crossed, in its units per second. Records that arrive together stand for as long as their
/// flows took, not for the instant of their arrival.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn rate(attack: &Attack, samples: &[Sample]) -> f64 {
    let evidence = attack.crossing.evidence;
    let of_target = || samples.iter().filter(|s| attack.target.covers(s));
    let packets: u128 = of_target().map(|s| u128::from(s.packets)).sum();
    let weighted: u128 = of_target().map(|s| u128::from(s.packets) * u128::from(s.duration_ms)).sum();
    let duration_ms = weighted.checked_div(packets).unwrap_or(0) as f64;
    let window_ms = (evidence.window_ms as f64).max(1.0);
    evidence.rate as f64 * window_ms / window_ms.max(duration_ms)
}
