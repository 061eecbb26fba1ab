//! [`Policy`]: what is announced for an attack or by order, and for how long.
//!
//! Mined rules and operators' orders come in; the set of wanted announcements comes out. Every route passes the rails
//! ([`crate::rails`]) here, and once more on its encoded octets. A fresh install is in dry run (decision 4): everything happens but
//! the announcement.
//!
//! * `decision.rs`: what is asked and answered.
//! * `ladder.rs`: escalation, expiry, probing.
//! * `manual.rs`: operators' rules, blackholes, approval, `withdraw-all`.
//! * `breaker.rs`: mass alarms and the pace of new rules.
//! * `audience.rs`: which peers get the same mined rules.
//! * `rails.rs`: what may be announced at all; the gate of every peer.
//! * `config.rs`: what an operator settles.
//! * `state.rs`: what survives a restart.

pub mod audience;
mod breaker;
pub mod config;
mod decision;
#[cfg(test)]
mod fixture;
mod ladder;
mod manual;
pub mod rails;
pub mod state;

use std::collections::{BTreeMap, BTreeSet};

use bgp::budget::{Account, Budget, Used};
use bgp::{Announcement, Class, Route, Wanted, order};
use detector::{Attack, Routers};
use flowspec::profile::{Kind, Profile};
use flowspec::{Condition, Pattern};
use miner::Verdict;
use traffic::{Direction, Prefix, Target, Time};

use rails::Space;

pub use config::{Config, FlowSpecOptions, GroupPolicy, Mode, Rung, UnicastForm};
pub use decision::{Decision, DryRun, Mitigation, Order, Proposal, Refusal};
pub use manual::OrderError;

use breaker::{Breaker, Pace};
use ladder::Probe;

/// The routes that at least one peer has been sent over an established session, and the routers at which they are in force.
pub type Held = BTreeMap<Route, Routers>;

/// A rule for a prefix that holds protected addresses is made for so many parts of it at most, which leave them out: all but a
/// sixty-fourth of a prefix around one address.
const MAX_PARTS: usize = 6;
/// During a mass alarm a rule goes only if, at 95 % confidence, it hits no more than this share of the ordinary traffic, as far as
/// that is known (decision 31).
const MASS_COLLATERAL: f64 = 0.1;

/// What is being done about one target.
#[derive(Debug, Clone, Default)]
struct Case {
    group: String,
    mitigations: Vec<Mitigation>,
    /// Whether a bucket has been mined at all: nothing is blackholed before a rule was looked for.
    mined: bool,
    /// What the miner said last, and when: why there is no rule decides what the ladder does (decision 33).
    verdict: Option<(Time, Verdict)>,
    /// Since when so much has arrived that a blackhole needs no person.
    level_since: Option<Time>,
    /// When a bucket last gave a rule, or a rung was taken: gives it time to work.
    last_change: Option<Time>,
    /// The rung of the group's ladder.
    rung: usize,
    /// The attack ended; the routes stay for the rest of their `ban_time`.
    over: bool,
    /// After a restart nobody knows yet whether the attack goes on.
    unknown_until: Option<Time>,
    /// What was taken away to look behind it.
    probe: Option<Probe>,
    /// Probes that found the attack still there.
    failed_probes: u32,
}

/// Decides what is announced, for how long, and why not. The pipeline owns it.
#[derive(Debug)]
pub struct Policy {
    config: Config,
    space: Space,
    cases: BTreeMap<Target, Case>,
    manual: BTreeMap<Route, Mitigation>,
    breaker: Breaker,
    /// See [`Policy::doubt`].
    doubted: BTreeSet<Target>,
    pace: Pace,
    halted: Option<Order>,
    silent: bool,
}

impl Policy {
    /// Under a configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            space: Space::new(&config),
            config,
            cases: BTreeMap::new(),
            manual: BTreeMap::new(),
            breaker: Breaker::default(),
            doubted: BTreeSet::new(),
            pace: Pace::default(),
            halted: None,
            silent: false,
        }
    }

    /// The address space in force: whose a route is.
    #[must_use]
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Puts a configuration into force. Automatic routes that its rails forbid go at once; what it no longer allows otherwise is
    /// held back from the next step on, and what it now allows is announced then.
    pub fn reconfigure(&mut self, config: Config) -> Vec<Decision> {
        self.space = Space::new(&config);
        self.config = config;
        let mut decisions = Vec::new();
        for case in self.cases.values_mut() {
            case.mitigations.retain(|m| {
                let stays = self.space.check(&m.route, &m.announcement).is_ok();
                if !stays {
                    decisions.push(Decision::Removed(m.clone()));
                }
                stays
            });
        }
        decisions
    }

    /// Whether `withdraw-all` is in force, and by whose order.
    #[must_use]
    pub const fn halted(&self) -> Option<&Order> {
        self.halted.as_ref()
    }

    /// Whether the mass-alarm breaker is open.
    #[must_use]
    pub const fn breaker_is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// What is done about these targets rests on sampling rates that their exporters contradict: what has not been announced yet
    /// waits for approval until they are no longer among them (decision 29).
    pub fn doubt(&mut self, targets: BTreeSet<Target>) {
        self.doubted = targets;
    }

    /// Without telemetry nothing ends (decision 7).
    pub const fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// An attack began: opens its case, watches for mass alarms. One that comes back while a blackhole is away for a probe gets it
    /// back at once; rules wait for the sample that shows whether it is the same attack.
    pub fn alarm(&mut self, now: Time, attack: &Attack) -> Vec<Decision> {
        let case = self.cases.entry(attack.target).or_default();
        case.group.clone_from(&attack.group);
        let is_new = case.probe.is_none() && (!case.over || case.mitigations.is_empty());
        case.over = false;
        case.unknown_until = None;
        let covers_all = case.probe.as_ref().is_some_and(|p| p.mitigations.iter().any(|m| !m.is_rule()));
        let mut decisions = if covers_all { self.end_probe(now, attack.target) } else { Vec::new() };
        if is_new && decisions.is_empty() {
            let limit = breaker::limit(&self.config, self.space.networks());
            let opened = self.breaker.alarm(now, limit);
            decisions.extend(opened.map(|targets| Decision::BreakerOpened { targets }));
        }
        decisions
    }

    /// Takes the miner's rules for a target, best first, as far as the rails allow; none at all is an answer too.
    pub fn propose(&mut self, now: Time, target: Target, proposals: &[Proposal]) -> Vec<Decision> {
        let verdict = if proposals.is_empty() { Verdict::NoPattern } else { Verdict::Rules };
        self.propose_to(now, target, verdict, proposals, None)
    }

    /// As [`Policy::propose`], with what the miner said, for the peers of one router profile alone (decision 14).
    pub fn propose_to(
        &mut self,
        now: Time,
        target: Target,
        verdict: Verdict,
        proposals: &[Proposal],
        peers: Option<&BTreeSet<String>>,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let case = self.cases.entry(target).or_default();
        case.mined = true;
        // Of several router profiles the one that gives rules has the word.
        if case.verdict.is_none_or(|(at, said)| at != now || said != Verdict::Rules) {
            case.verdict = Some((now, verdict));
        }
        // The miner has weighed each rule within its set: what has to be worth a rule is the set (decision 34).
        let covered: f64 = proposals.iter().map(|p| p.coverage).sum();
        let parts: Vec<Proposal> = proposals.iter().flat_map(|p| self.parts(target, p)).collect();
        for proposal in &parts {
            let route = Route::FlowSpec(proposal.pattern.clone());
            match self.check_rule(target, proposal, covered, peers) {
                Ok(mitigation) => {
                    let mitigation = Mitigation { since: now, ..mitigation };
                    let case = self.cases.entry(target).or_default();
                    case.last_change = Some(now);
                    case.mitigations.push(mitigation);
                    decisions.push(self.settle_last(now, target));
                }
                Err(reason) => decisions.push(Decision::Refused { target, route, reason }),
            }
        }
        decisions
    }

    /// A rule that would touch protected addresses as rules for the parts of its prefix that do not (decision 35); any other as it
    /// is.
    fn parts(&self, target: Target, proposal: &Proposal) -> Vec<Proposal> {
        let Some(whole) = own_end(target, &proposal.pattern) else { return vec![proposal.clone()] };
        let parts = self.space.spared(whole, MAX_PARTS);
        if parts.is_empty() || parts == [whole] {
            return vec![proposal.clone()];
        }
        let part = |part: Prefix| {
            let conditions =
                proposal.pattern.conditions().iter().map(|condition| match (condition, target.direction) {
                    (Condition::Destination(_, 0), Direction::Incoming) => Condition::Destination(part, 0),
                    (Condition::Source(_, 0), Direction::Outgoing) => Condition::Source(part, 0),
                    (other, _) => other.clone(),
                });
            let share = f64::from(part.length() - whole.length()).exp2().recip();
            let pattern = Pattern::new(conditions.collect()).ok()?;
            Some(Proposal { pattern, coverage: proposal.coverage * share, ..proposal.clone() })
        };
        parts.into_iter().filter_map(part).collect()
    }

    fn check_rule(
        &self,
        target: Target,
        proposal: &Proposal,
        covered_by_set: f64,
        peers: Option<&BTreeSet<String>>,
    ) -> Result<Mitigation, Refusal> {
        if !own_end(target, &proposal.pattern).is_some_and(|own| target.prefix.contains(&own)) {
            return Err(Refusal::OutsideTarget);
        }
        if covered_by_set < self.config.minimum_coverage {
            return Err(Refusal::LowCoverage);
        }
        let pattern = rails::clamp(&proposal.pattern).map_err(Refusal::of)?;
        let route = Route::FlowSpec(pattern);
        let actions = self.rule_actions(target).ok_or(Refusal::NoRules)?;
        let mut announcement = Announcement { actions, ..Announcement::default() }.within(target.prefix);
        announcement.peers = peers.cloned();
        self.space.check(&route, &announcement).map_err(Refusal::of)?;
        if self.is_blackholed_by_hand(target) {
            return Err(Refusal::Blackholed);
        }
        if let Some(case) = self.cases.get(&target) {
            if case.mitigations.iter().any(|m| m.route == route) {
                return Err(Refusal::Duplicate);
            }
            let mine = |m: &&Mitigation| m.is_rule() && shares_peer(&m.announcement, &announcement);
            if case.mitigations.iter().filter(mine).count() >= self.config.max_rules_per_host {
                return Err(Refusal::RulesPerHost);
            }
        }
        if !self.has_room(Account::Mitigation) {
            return Err(Refusal::Rules);
        }
        self.check_order(&route, &announcement)?;
        let mitigation = Mitigation::automatic(Time::default(), target, route, announcement, proposal.coverage);
        let is_precise = proposal.collateral_bound.is_none_or(|bound| bound <= MASS_COLLATERAL);
        Ok(Mitigation { is_precise, ..mitigation })
    }

    /// Whether `max_rules` has room for one more rule on an account (decision 40).
    fn has_room(&self, account: Account) -> bool {
        let mut used = Used::default();
        for m in self.all().filter(|m| m.is_rule()) {
            // An order against a host that is not ours is a ban.
            let class = if self.space.is_ours(&m.target.prefix) { Class::Incoming } else { Class::RemoteBan };
            used[Account::of(m.announcement.origin, class) as usize] += 1;
        }
        Budget::new(self.config.max_rules, self.config.rule_reserve).fits(&used, account, 1)
    }

    /// RFC 8955 section 5.1: routers try rules in a fixed order and the first that matches decides. An accept behind a rule that
    /// drops, and a rate limit that shares packets with another, do not do what they say.
    fn check_order(&self, route: &Route, announcement: &Announcement) -> Result<(), Refusal> {
        let Route::FlowSpec(pattern) = route else { return Ok(()) };
        let is_rate = announcement.actions.iter().any(flowspec::Action::is_rate_limit);
        let diverts = announcement.actions.iter().any(flowspec::Action::diverts);
        for other in self.all().filter(|m| m.route != *route && shares_peer(&m.announcement, announcement)) {
            let Route::FlowSpec(theirs) = &other.route else { continue };
            if !order::may_overlap(pattern, theirs) {
                continue;
            }
            if is_rate && other.announcement.actions.iter().any(flowspec::Action::is_rate_limit) {
                return Err(Refusal::OverlappingRateLimits);
            }
            let they_divert = other.announcement.actions.iter().any(flowspec::Action::diverts);
            let ours = (pattern, &announcement.actions[..]);
            let theirs = (theirs, &other.announcement.actions[..]);
            let (passes, takes) = if diverts { (theirs, ours) } else { (ours, theirs) };
            if diverts != they_divert
                && !self.profiles(announcement, &other.announcement).iter().all(|p| order::goes_first(p, passes, takes))
            {
                return Err(Refusal::ShadowedAccept);
            }
        }
        Ok(())
    }

    /// Profiles of the routers that get both; the generic one where there is no router yet.
    fn profiles(&self, a: &Announcement, b: &Announcement) -> Vec<Profile> {
        let gets = |of: &Announcement, peer: &str| of.peers.as_ref().is_none_or(|peers| peers.contains(peer));
        let mut profiles: Vec<Profile> = Vec::new();
        for peer in self.config.peers.iter().filter(|p| gets(a, &p.name) && gets(b, &p.name)) {
            if !profiles.contains(&peer.profile) {
                profiles.push(peer.profile.clone());
            }
        }
        if self.config.exabgp.is_some() {
            profiles.push(Profile::of(Kind::ExaBgp));
        }
        if profiles.is_empty() {
            profiles.push(Profile::default());
        }
        profiles
    }

    /// Actions of a target's rules: those of its rung, or of the nearest below that has rules.
    fn rule_actions(&self, target: Target) -> Option<Vec<flowspec::Action>> {
        let group = self.group_of(target);
        let rung = self.cases.get(&target).map_or(0, |c| c.rung);
        let upto = group.ladder.iter().take(rung + 1).rev();
        let later = group.ladder.iter().skip(rung + 1);
        upto.chain(later).find_map(|r| match r {
            Rung::FlowSpec(actions) => Some(actions.clone()),
            Rung::Divert | Rung::Blackhole => None,
        })
    }

    fn group_of(&self, target: Target) -> GroupPolicy {
        self.config.group(self.cases.get(&target).map_or("global", |c| c.group.as_str()))
    }

    /// Whether an operator's blackhole covers a target: nothing is mined for it (decision 3). A remote ban is a blackhole for what
    /// goes to the foreign host and a rule for what comes from it, so there neither replaces the other.
    #[must_use]
    pub fn is_blackholed_by_hand(&self, target: Target) -> bool {
        let is_own = self.space.is_ours(&target.prefix);
        is_own && self.manual.values().any(|m| matches!(&m.route, Route::Unicast(p) if p.contains(&target.prefix)))
    }

    /// Decides anew whether the last mitigation of a case is announced.
    fn settle_last(&mut self, now: Time, target: Target) -> Decision {
        let mut mitigation = self
            .cases
            .get(&target)
            .and_then(|c| c.mitigations.last())
            .cloned()
            .unwrap_or_else(|| unreachable!("pushed"));
        self.settle(now, &mut mitigation);
        if let Some(last) = self.cases.get_mut(&target).and_then(|c| c.mitigations.last_mut()) {
            *last = mitigation.clone();
        }
        Decision::Added(mitigation)
    }

    /// Whether and why a mitigation is held back, under the present configuration.
    fn settle(&mut self, now: Time, m: &mut Mitigation) {
        m.dry_run = self.held_back(m);
        if m.dry_run.is_none() && !m.announced && !m.is_manual() && !m.paced {
            m.paced = self.pace.take(now, self.config.max_new_rules_per_second);
            if !m.paced {
                m.dry_run = Some(DryRun::Paced);
            }
        }
        m.announced |= m.dry_run.is_none();
    }

    fn held_back(&self, m: &Mitigation) -> Option<DryRun> {
        if self.halted.is_some() {
            return Some(DryRun::Halted);
        }
        if self.space.check(&m.route, &m.announcement).is_err() {
            return Some(DryRun::Rail);
        }
        if m.is_rule() && self.is_blackholed_by_hand(m.target) {
            return Some(DryRun::Blackholed);
        }
        if m.is_manual() {
            return None;
        }
        let group = self.group_of(m.target);
        let waits = |mode: Mode| match mode {
            Mode::Automatic => None,
            Mode::Approve if m.approved => None,
            Mode::Approve => Some(DryRun::AwaitingApproval),
            Mode::Alert => Some(DryRun::AlertOnly),
        };
        if !self.config.enable_ban {
            Some(DryRun::BanDisabled)
        } else if !group.enable_ban {
            Some(DryRun::GroupBanDisabled)
        } else if !group.enable_ban_of[m.target.direction as usize] {
            Some(DryRun::DirectionBanDisabled)
        } else if m.is_rule() && !self.config.flow_spec_announces {
            Some(DryRun::FlowSpecDisabled)
        } else if m.is_rule() && !group.enable_flow_spec {
            Some(DryRun::GroupFlowSpecDisabled)
        } else if let Some(waiting) = waits(group.mode) {
            Some(waiting)
        } else if m.announced || m.approved {
            None
        } else if self.doubted.contains(&m.target) {
            Some(DryRun::Doubted)
        } else if m.gate.is_some() {
            m.gate
        } else {
            // Rules that separate the attack go on: only what could do mass harm waits (decision 31).
            (self.breaker.is_open() && !m.is_precise).then_some(DryRun::Breaker)
        }
    }

    /// The ladder (decision 5), the ends of routes, and what has become allowed or forbidden.
    pub fn step(&mut self, now: Time, attacks: &BTreeMap<Target, Attack>, held: &Held) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if self.breaker.closes(now) {
            decisions.push(Decision::BreakerClosed);
        }
        for attack in attacks.values() {
            self.judge_offers(now, attack);
            self.escalate(now, attack, held, &mut decisions);
        }
        self.expire(now, attacks, &mut decisions);
        self.expire_orders(now, &mut decisions);
        self.settle_all(now, &mut decisions);
        decisions
    }

    /// Announces what is allowed now, holds back what is not; both are said.
    fn settle_all(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let mut changed = Vec::new();
        for m in self.manual.values().chain(self.cases.values().flat_map(|c| &c.mitigations)) {
            let mut settled = m.clone();
            settled.dry_run = self.held_back(m);
            if settled.dry_run != m.dry_run
                && !(settled.dry_run.is_none() && m.dry_run == Some(DryRun::Paced) && m.paced)
            {
                changed.push(settled);
            }
        }
        for mut m in changed {
            let before = m.dry_run;
            self.settle(now, &mut m);
            let is_still_paced = before.is_none() && m.dry_run == Some(DryRun::Paced);
            let place = self
                .manual
                .get_mut(&m.route)
                .filter(|_| m.is_manual())
                .or_else(|| self.cases.get_mut(&m.target)?.mitigations.iter_mut().find(|x| x.route == m.route));
            if let Some(place) = place {
                let said = place.dry_run == m.dry_run;
                *place = m.clone();
                if !said && !is_still_paced {
                    decisions.push(Decision::Changed(m));
                }
            }
        }
    }

    /// An attack ended: its routes go when they have lasted `ban_time`.
    pub fn over(&mut self, target: Target) {
        if let Some(case) = self.cases.get_mut(&target) {
            case.over = true;
        }
    }

    /// Routes of one target, dry runs included.
    #[must_use]
    pub fn of(&self, target: Target) -> &[Mitigation] {
        self.cases.get(&target).map_or(&[], |c| &c.mitigations)
    }

    /// Filters for a target's counters: its own routes, but for those that are only offered, and what operators ordered for it.
    pub fn filters_of(&self, target: Target) -> impl Iterator<Item = &Mitigation> {
        let manual = self
            .manual
            .values()
            .filter(move |m| m.target.direction == target.direction && m.target.prefix.overlaps(&target.prefix));
        self.of(target).iter().filter(|m| !m.is_offered()).chain(manual)
    }

    /// What of a target's traffic is taken care of already at some of `peers` (`None`: at any) and not mined again.
    #[must_use]
    pub fn excluded(&self, target: Target, peers: Option<&BTreeSet<String>>) -> Vec<Pattern> {
        let theirs = |m: &&Mitigation| match (&m.announcement.peers, peers) {
            (Some(a), Some(b)) => a.intersection(b).next().is_some(),
            _ => true,
        };
        self.filters_of(target).filter(theirs).map(Mitigation::pattern).collect()
    }

    /// Routes of all targets and orders, dry runs included.
    pub fn all(&self) -> impl Iterator<Item = &Mitigation> {
        self.manual.values().chain(self.cases.values().flat_map(|c| &c.mitigations))
    }

    /// What should be announced. What operators ordered goes before what was decided for the same route.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::new();
        for m in self.all().filter(|m| m.dry_run.is_none()) {
            wanted.entry(m.route.clone()).or_insert_with(|| m.announcement.clone());
        }
        wanted
    }
}

/// The end of a rule that is the target's.
fn own_end(target: Target, pattern: &Pattern) -> Option<Prefix> {
    match target.direction {
        Direction::Incoming => pattern.destination(),
        Direction::Outgoing => pattern.source(),
    }
}

/// Whether two announcements go to a peer in common.
fn shares_peer(a: &Announcement, b: &Announcement) -> bool {
    match (&a.peers, &b.peers) {
        (Some(a), Some(b)) => a.intersection(b).next().is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{at, attack, attacks, config, held, prefix, proposal, target, wanted, words};
    use super::*;

    fn flow(conditions: Vec<Condition>) -> Pattern {
        Pattern::new(conditions).expect("valid")
    }

    /// A rule for UDP of 1028 octets to (or from) a prefix.
    fn by_length(own_end: Condition) -> Proposal {
        let protocol = Condition::Protocol(flowspec::Ranges::value(17));
        let length = Condition::Length(flowspec::Ranges::value(1028));
        Proposal { pattern: flow(vec![own_end, protocol, length]), ..proposal("203.0.113.9", 123) }
    }

    #[test]
    fn a_mass_alarm_holds_blackholes_back_and_lets_rules_that_separate_the_attack_go() {
        let mut policy = Policy::new(Config { max_new_rules_per_second: 100, max_blackholes: 100, ..config() });
        let hosts: Vec<String> = (1..=60).map(|i| format!("203.0.113.{i}")).collect();
        let all: Vec<Attack> = hosts.iter().map(|host| attack(host, at(0))).collect();
        let opened = all.iter().flat_map(|a| policy.alarm(at(0), a)).collect::<Vec<_>>();
        assert_eq!(words(&opened), ["breaker opened 26"]);
        for (host, attack) in hosts.iter().zip(&all) {
            let bounds = [None, Some(0.01), Some(0.5)];
            let bound = bounds[usize::from(host.ends_with('1')) + usize::from(host.ends_with("11"))];
            policy.propose(at(0), attack.target, &[Proposal { collateral_bound: bound, ..proposal(host, 123) }]);
        }
        // All but 203.0.113.11, whose rule hits much of what is ordinary.
        assert_eq!(wanted(&policy).len(), 59);
        assert_eq!(policy.of(target("203.0.113.11"))[0].dry_run, Some(DryRun::Breaker));
        let held = held(&policy);
        let said = words(&policy.step(at(5), &attacks(&[&all[0]]), &held));
        assert!(said.contains(&"added 203.0.113.1/32".to_owned()), "{said:?}");
        assert!(!wanted(&policy).contains(&"203.0.113.1/32".to_owned()), "blackholes wait");
        // A minute after the last new target it is over, whoever is still attacked.
        assert!(
            words(&policy.step(at(60), &attacks(&all.iter().collect::<Vec<_>>()), &held))
                .contains(&"breaker closed".to_owned())
        );
    }

    #[test]
    fn no_automatic_rule_drops_everything_to_more_than_a_host() {
        let config = Config { shortest_prefix: (20, 48), ..config() };
        let v6 = vec![prefix("203.0.113.0/24"), prefix("2001:db8::/32")];
        let mut policy = Policy::new(Config { networks: v6, ..config });
        for (own, refused) in [("203.0.113.0/24", true), ("203.0.113.9/32", false), ("2001:db8::/64", true)] {
            for direction in Direction::ALL {
                let condition = match direction {
                    Direction::Incoming => Condition::Destination(prefix(own), 0),
                    Direction::Outgoing => Condition::Source(prefix(own), 0),
                };
                let bare = Proposal { pattern: flow(vec![condition.clone()]), ..proposal("203.0.113.9", 123) };
                let target = Target { prefix: prefix(own), direction };
                let said = words(&policy.propose(at(0), target, &[bare]));
                assert_eq!(said[0].ends_with(" Bare"), refused, "{said:?}");
                let said = words(&policy.propose(at(0), target, &[by_length(condition)]));
                assert!(said[0].starts_with("added"), "{said:?}");
            }
        }
    }

    #[test]
    fn a_rule_for_a_prefix_around_a_router_is_made_for_the_parts_that_leave_it_out() {
        let mut policy = Policy::new(Config { protected: vec![prefix("203.0.113.1/32")], ..config() });
        for direction in Direction::ALL {
            let condition = match direction {
                Direction::Incoming => Condition::Destination(prefix("203.0.113.0/24"), 0),
                Direction::Outgoing => Condition::Source(prefix("203.0.113.0/24"), 0),
            };
            let target = Target { prefix: prefix("203.0.113.0/24"), direction };
            policy.propose(at(0), target, &[by_length(condition)]);
            let parts: Vec<Prefix> = policy.of(target).iter().filter_map(|m| own_end(target, &m.pattern())).collect();
            let expected = ["128/25", "64/26", "32/27", "16/28", "8/29", "4/30"];
            assert_eq!(parts, expected.map(|part| prefix(&format!("203.0.113.{part}"))));
        }
        // The router itself gets none.
        let said = words(&policy.propose(at(0), target("203.0.113.1"), &[proposal("203.0.113.1", 123)]));
        assert!(said[0].ends_with(" Protected"), "{said:?}");
    }

    #[test]
    fn the_floor_of_coverage_is_that_of_all_rules_together() {
        let mut policy = Policy::new(config());
        policy.alarm(at(0), &attack("203.0.113.9", at(0)));
        let small = |port| Proposal { coverage: 0.06, ..proposal("203.0.113.9", port) };
        let said = words(&policy.propose(at(0), target("203.0.113.9"), &[small(53)]));
        assert!(said[0].ends_with(" LowCoverage"), "{said:?}");
        policy.propose(at(1), target("203.0.113.9"), &[small(53), small(123)]);
        assert_eq!(wanted(&policy).len(), 2);
    }
}
