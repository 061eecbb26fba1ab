//! [`Pipeline`]: the one place that decides. Pure: no I/O, no clock, no randomness but an injected seed.
//!
//! The daemon, `replay` and the simulation tests drive the same [`Pipeline::step`]. It reads the workers' shards, mines full
//! buckets, asks the policy, and publishes the *set* of wanted announcements; announcers make the routers equal to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use collectors::{Sample, Time};
use detector::{Attack, Bucket, Detector, Event, Filter, Match, Meter, Target};
use mitigation::miner;
use mitigation::{Decision, Mitigation, Policy, Proposal, Route, Wanted};

use crate::report::{CandidateReport, Entry, Report};

/// Candidates of a mining run that are reported.
const REPORTED_CANDIDATES: usize = 8;

/// What comes from outside besides samples: operators, the API, announcers.
#[derive(Debug, Clone)]
pub enum Request {
    /// The routes that at least one peer has been sent over an established session.
    Held(BTreeSet<Route>),
    /// In a replay there is no router: every wanted route counts as held.
    AssumeHeld,
}

/// See the module.
#[derive(Debug)]
pub struct Pipeline {
    detector: Detector,
    policy: Policy,
    held: BTreeSet<Route>,
    assume_held: bool,
    filters: BTreeMap<(Target, Route), Arc<Filter>>,
    wanted: Wanted,
    has_seen_traffic: bool,
}

impl Pipeline {
    /// A pipeline and one meter per worker.
    #[must_use]
    pub fn new(
        detector: detector::Config,
        mitigation: mitigation::Config,
        workers: usize,
        seed: u64,
    ) -> (Self, Vec<Meter>) {
        let (detector, meters) = Detector::new(detector, workers, seed);
        let pipeline = Self {
            detector,
            policy: Policy::new(mitigation),
            held: BTreeSet::new(),
            assume_held: false,
            filters: BTreeMap::new(),
            wanted: Wanted::new(),
            has_seen_traffic: false,
        };
        (pipeline, meters)
    }

    /// Takes an action from outside; its effects show from the next step on.
    pub fn request(&mut self, request: Request) {
        match request {
            Request::Held(held) => self.held = held,
            Request::AssumeHeld => self.assume_held = true,
        }
    }

    /// Puts a configuration into force while everything runs: counters, attacks and the routes it still allows stay. Returns one
    /// meter for each of `added` further workers, and what happened; the wanted set shows it from the next step on.
    pub fn reconfigure(
        &mut self,
        now: Time,
        detector: detector::Config,
        mitigation: mitigation::Config,
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
        let mut entries = Vec::new();
        if !self.has_seen_traffic && self.detector.statistics().active_hosts > 0 {
            self.has_seen_traffic = true;
            entries.push(Entry::new(now, Report::FirstTraffic));
        }
        entries.extend(self.react(now, events));
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
                        entries.push(Entry::new(now, Report::alarm(attack)));
                        let decisions = self.policy.alarm(now, attack);
                        self.record(now, &decisions, &mut entries);
                    }
                }
                Event::Residual(target) => entries.push(Entry::new(now, Report::Residual { target })),
                Event::BucketFull(target, bucket) => self.mine(now, target, &bucket, &mut entries),
                Event::Orphaned(target, bucket) => {
                    entries.push(Entry::new(now, Report::orphaned(target, &bucket)));
                }
                Event::Over(attack) => {
                    self.policy.over(attack.target);
                    entries.push(Entry::new(now, Report::over(now, &attack)));
                }
                Event::Silence => entries.push(Entry::new(now, Report::Silence)),
                Event::SilenceOver => entries.push(Entry::new(now, Report::SilenceOver)),
            }
        }
        entries
    }

    fn mine(&mut self, now: Time, target: Target, bucket: &Bucket, entries: &mut Vec<Entry>) {
        entries.push(Entry::new(now, Report::bucket_full(now, target, bucket)));
        let Some(attack) = self.detector.attacks().get(&target) else { return };
        let request = self.mining_request(attack, &bucket.samples);
        if !is_left_over(attack, &request) {
            self.detector.mined(now, target, false);
            let verdict = "no further rule: those wanted cover the excess".to_owned();
            entries.push(Entry::new(now, Report::Candidates { target, verdict, ranking: Vec::new() }));
            return;
        }
        let by_bytes = request.by_bytes;
        let outcome = miner::mine(&request);
        entries.push(Entry::new(
            now,
            Report::Candidates {
                target,
                verdict: outcome.verdict.to_string(),
                ranking: outcome.ranking.iter().take(REPORTED_CANDIDATES).map(candidate_report).collect(),
            },
        ));
        let proposals: Vec<Proposal> = outcome.rules.iter().map(|rule| proposal(rule, by_bytes)).collect();
        let decisions = self.policy.propose(now, target, &proposals);
        let added = decisions.iter().any(|d| matches!(d, Decision::Added(_)));
        self.detector.mined(now, target, added);
        self.record(now, &decisions, entries);
    }

    fn mining_request<'a>(&'a self, attack: &Attack, samples: &'a [Sample]) -> miner::Request<'a> {
        let excluded = self.policy.of(attack.target).iter().map(Mitigation::pattern).collect();
        let rules_left = self.policy.config().max_rules_per_host.saturating_sub(self.policy.of(attack.target).len());
        miner::Request {
            target: attack.target,
            sample: samples,
            by_bytes: attack.crossing.measure.unit == detector::Unit::Bytes,
            enough: enough(attack, samples),
            baseline: None,
            sample_pps: None,
            baseline_pps: None,
            capacity_pps: None,
            max_rules: rules_left,
            capabilities: self.policy.config().capabilities,
            excluded,
        }
    }

    fn record(&self, now: Time, decisions: &[Decision], entries: &mut Vec<Entry>) {
        // That a rule is in force already is the normal answer while routers are still to take it.
        let duplicate = |d: &Decision| matches!(d, Decision::Refused { reason: mitigation::Refusal::Duplicate, .. });
        entries.extend(decisions.iter().filter(|d| !duplicate(d)).map(|d| Entry::new(now, Report::decision(d))));
    }

    /// Excludes from each target's counters what is filtered (decision 8): the routes that a router holds, and in a dry run
    /// those that would be announced, so that every vector is reported.
    fn sync_filters(&mut self) {
        if self.assume_held {
            self.held = self.policy.wanted().into_keys().collect();
        }
        let workers = self.detector.workers();
        let targets: Vec<Target> = self.detector.attacks().keys().copied().collect();
        let mut live = BTreeSet::new();
        for target in targets {
            let mut filters = Vec::new();
            for mitigation in self.policy.of(target) {
                if mitigation.dry_run.is_none() && !self.held.contains(&mitigation.route) {
                    continue;
                }
                let key = (target, mitigation.route.clone());
                live.insert(key.clone());
                let filter =
                    self.filters.entry(key).or_insert_with(|| Arc::new(Filter::new(mitigation.pattern(), workers)));
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
    }
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
