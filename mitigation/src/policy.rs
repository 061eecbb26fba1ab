//! [`Policy`]: what is announced for an attack, and for how long. Every safety rail stands here.
//!
//! Mined rules come in; the set of wanted announcements and the filters that take mitigated traffic out of a target's counters
//! come out. Nothing is announced outside the classes of decision 1: a rule's own end (destination of an incoming attack,
//! source of an outgoing one) lies inside our networks, is never wider than the alarmed prefix and never touches a protected
//! address. A fresh install is in dry run (decision 4): everything happens but the announcement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use collectors::Time;
use detector::{Attack, Direction, Networks, Pattern, Prefix, Target};

use crate::announcement::{Announcement, Route, Wanted};
use crate::config::{Config, GroupPolicy};

/// New targets within [`BREAKER_WINDOW`] that trip the mass-alarm breaker (decision 5).
const BREAKER_TARGETS: usize = 50;
const BREAKER_WINDOW: Duration = Duration::from_secs(10);
/// How long the breaker stays open after the last mass alarm.
const BREAKER_HOLD: Duration = Duration::from_secs(60);

/// A rule that the miner offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What it matches.
    pub pattern: Pattern,
    /// Share of the sample's packets it covers, 0 to 1.
    pub coverage: f64,
    /// Share of the target's ordinary traffic it hits, 0 to 1, if that is known.
    pub collateral: Option<f64>,
}

/// Why something is, or would be, announced only in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DryRun {
    /// `enable_ban` in main is off: the state of a fresh install.
    BanDisabled,
    /// `enable_ban` of the host group is off.
    GroupBanDisabled,
    /// `gobgp_flow_spec_announces` is off.
    FlowSpecDisabled,
    /// `enable_bgp_flow_spec` of the host group is off.
    GroupFlowSpecDisabled,
    /// Too many targets at once: the mass-alarm breaker is open.
    Breaker,
}

impl DryRun {
    /// What an operator does to announce it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::BanDisabled => "dry run: set main enable_ban = true to announce",
            Self::GroupBanDisabled => "dry run: set enable_ban = true in the host group to announce",
            Self::FlowSpecDisabled => "dry run: set main gobgp_flow_spec_announces = true to announce FlowSpec rules",
            Self::GroupFlowSpecDisabled => "dry run: set enable_bgp_flow_spec = true in the host group to announce",
            Self::Breaker => "mass alarm: automatic announcing is stopped; check exporters and sampling rates",
        }
    }
}

/// Why a proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Decision 1: neither destination (incoming) nor source (outgoing) is inside the alarmed prefix.
    OutsideTarget,
    /// Decision 1: not inside our networks.
    OutsideNetworks,
    /// Touches a protected address.
    Protected,
    /// Covers less of the sample than `minimum_coverage`.
    LowCoverage,
    /// Is in force already.
    Duplicate,
    /// `max_rules_per_host` is reached.
    RulesPerHost,
    /// `max_rules` is reached.
    Rules,
    /// `max_blackholes` is reached.
    Blackholes,
}

impl Refusal {
    /// The reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OutsideTarget => "it is wider than the alarmed prefix",
            Self::OutsideNetworks => "it lies outside networks_list",
            Self::Protected => "it touches protected_networks or a BGP peer",
            Self::LowCoverage => "it covers less of the sample than minimum_coverage",
            Self::Duplicate => "it is in force already",
            Self::RulesPerHost => "the host has max_rules_per_host rules",
            Self::Rules => "max_rules rules are in force",
            Self::Blackholes => "max_blackholes hosts are blackholed",
        }
    }
}

/// One route of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Mitigation {
    /// What is announced.
    pub route: Route,
    /// How.
    pub announcement: Announcement,
    /// Whose attack it answers.
    pub target: Target,
    /// Not announced, and why; `None` when it is wanted on routers.
    pub dry_run: Option<DryRun>,
    /// When it was decided.
    pub since: Time,
    /// Share of the sample it covered when it was mined.
    pub coverage: f64,
}

impl Mitigation {
    /// Traffic that a router with this route drops.
    #[must_use]
    pub fn pattern(&self) -> Pattern {
        match &self.route {
            Route::FlowSpec(pattern) => pattern.clone(),
            Route::Unicast(prefix) => {
                Pattern::new(vec![detector::Condition::Destination(*prefix, 0)]).unwrap_or_default()
            }
        }
    }
}

/// What [`Policy`] decided, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// A route is wanted from now on (or would be: see `dry_run`).
    Added(Mitigation),
    /// A proposal was not taken.
    Refused {
        /// Whose attack.
        target: Target,
        /// What was proposed.
        route: Route,
        /// Why not.
        reason: Refusal,
    },
    /// A route is no longer wanted.
    Removed(Mitigation),
    /// The mass-alarm breaker opened: automatic decisions are dry runs until it closes.
    BreakerOpened {
        /// New targets in the last ten seconds.
        targets: usize,
    },
    /// The breaker closed.
    BreakerClosed,
}

/// What is being done about one target.
#[derive(Debug, Clone, Default)]
struct Case {
    group: String,
    mitigations: Vec<Mitigation>,
    /// Whether a bucket has been mined at all: nothing is blackholed before a rule was looked for.
    mined: bool,
    /// When a bucket last gave a rule: gives the rule time to work before the blackhole.
    last_rule: Option<Time>,
    /// When the attack ended; the routes stay for the rest of their `ban_time`.
    over: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Policy {
    config: Config,
    networks: Networks,
    protected: Networks,
    cases: BTreeMap<Target, Case>,
    recent_targets: VecDeque<Time>,
    breaker_until: Option<Time>,
}

impl Policy {
    /// Under a configuration; BGP peers are protected addresses.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            networks: Networks::new(&config.networks),
            protected: protected(&config),
            config,
            cases: BTreeMap::new(),
            recent_targets: VecDeque::new(),
            breaker_until: None,
        }
    }

    /// Puts a configuration into force. Routes that its rails forbid go at once; those that it switches on or off become
    /// announced or dry runs; all others stay as they are.
    pub fn reconfigure(&mut self, config: Config) -> Vec<Decision> {
        self.networks = Networks::new(&config.networks);
        self.protected = protected(&config);
        self.config = config;
        let mut decisions = Vec::new();
        let targets: Vec<Target> = self.cases.keys().copied().collect();
        for target in targets {
            let mitigations =
                self.cases.get_mut(&target).map(|c| std::mem::take(&mut c.mitigations)).unwrap_or_default();
            let mut kept = Vec::with_capacity(mitigations.len());
            for mut mitigation in mitigations {
                let own_end = match &mitigation.route {
                    Route::Unicast(prefix) => Some(*prefix),
                    Route::FlowSpec(pattern) if target.direction == Direction::Incoming => pattern.destination(),
                    Route::FlowSpec(pattern) => pattern.source(),
                };
                if own_end.is_none_or(|own_end| self.check_prefix(target, own_end).is_err()) {
                    decisions.push(Decision::Removed(mitigation));
                    continue;
                }
                let dry_run = self.dry_run(target, matches!(mitigation.route, Route::FlowSpec(_)));
                // What the breaker held back stays back: only a new decision announces it.
                if dry_run != mitigation.dry_run && mitigation.dry_run != Some(DryRun::Breaker) {
                    let before = mitigation.clone();
                    mitigation.dry_run = dry_run;
                    if before.dry_run.is_none() || dry_run.is_none() {
                        decisions.push(Decision::Removed(before));
                        decisions.push(Decision::Added(mitigation.clone()));
                    }
                }
                kept.push(mitigation);
            }
            if let Some(case) = self.cases.get_mut(&target) {
                case.mitigations = kept;
            }
        }
        decisions
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// An attack began: opens its case, watches for mass alarms.
    pub fn alarm(&mut self, now: Time, attack: &Attack) -> Vec<Decision> {
        let case = self.cases.entry(attack.target).or_default();
        case.group.clone_from(&attack.group);
        case.over = false;
        self.recent_targets.push_back(now);
        while self.recent_targets.front().is_some_and(|t| now.since(*t) > BREAKER_WINDOW) {
            self.recent_targets.pop_front();
        }
        if self.recent_targets.len() <= BREAKER_TARGETS {
            return Vec::new();
        }
        let opened = self.breaker_until.is_none();
        self.breaker_until = Some(now.after(BREAKER_HOLD));
        if opened { vec![Decision::BreakerOpened { targets: self.recent_targets.len() }] } else { Vec::new() }
    }

    /// Takes the miner's rules for a target, best first, as far as the rails allow; none at all is an answer too.
    pub fn propose(&mut self, now: Time, target: Target, proposals: &[Proposal]) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.cases.entry(target).or_default().mined = true;
        for proposal in proposals {
            let route = Route::FlowSpec(proposal.pattern.clone());
            if let Err(reason) = self.check_rule(target, proposal) {
                decisions.push(Decision::Refused { target, route, reason });
                continue;
            }
            let dry_run = self.dry_run(target, true);
            let announcement = Announcement::flowspec(self.config.default_action.clone());
            let mitigation =
                Mitigation { route, announcement, target, dry_run, since: now, coverage: proposal.coverage };
            let case = self.cases.entry(target).or_default();
            case.last_rule = Some(now);
            case.mitigations.push(mitigation.clone());
            decisions.push(Decision::Added(mitigation));
        }
        decisions
    }

    fn check_rule(&self, target: Target, proposal: &Proposal) -> Result<(), Refusal> {
        let own_end = match target.direction {
            Direction::Incoming => proposal.pattern.destination(),
            Direction::Outgoing => proposal.pattern.source(),
        };
        let own_end = own_end.ok_or(Refusal::OutsideTarget)?;
        self.check_prefix(target, own_end)?;
        if proposal.coverage < self.config.minimum_coverage {
            return Err(Refusal::LowCoverage);
        }
        let rules = |case: &Case| case.mitigations.iter().filter(|m| matches!(m.route, Route::FlowSpec(_))).count();
        if let Some(case) = self.cases.get(&target) {
            if case.mitigations.iter().any(|m| m.route == Route::FlowSpec(proposal.pattern.clone())) {
                return Err(Refusal::Duplicate);
            }
            if rules(case) >= self.config.max_rules_per_host {
                return Err(Refusal::RulesPerHost);
            }
        }
        if self.cases.values().map(rules).sum::<usize>() >= self.config.max_rules {
            return Err(Refusal::Rules);
        }
        Ok(())
    }

    /// Decision 1, the rails common to rules and blackholes.
    fn check_prefix(&self, target: Target, own_end: Prefix) -> Result<(), Refusal> {
        if !target.prefix.contains(&own_end) {
            return Err(Refusal::OutsideTarget);
        }
        if !self.networks.contain(&own_end) {
            return Err(Refusal::OutsideNetworks);
        }
        if self.protected.overlap(&own_end) {
            return Err(Refusal::Protected);
        }
        Ok(())
    }

    fn dry_run(&self, target: Target, is_flowspec: bool) -> Option<DryRun> {
        let default = GroupPolicy::default();
        let group = self.cases.get(&target).map_or("global", |c| c.group.as_str());
        let group = self.config.groups.get(group).unwrap_or(&default);
        if !self.config.enable_ban {
            Some(DryRun::BanDisabled)
        } else if !group.enable_ban {
            Some(DryRun::GroupBanDisabled)
        } else if is_flowspec && !self.config.flow_spec_announces {
            Some(DryRun::FlowSpecDisabled)
        } else if is_flowspec && !group.enable_flow_spec {
            Some(DryRun::GroupFlowSpecDisabled)
        } else if self.breaker_until.is_some() {
            Some(DryRun::Breaker)
        } else {
            None
        }
    }

    /// The blackhole fallback (decision 5) and the ends of routes. `held` is what at least one peer has been sent.
    pub fn step(&mut self, now: Time, attacks: &BTreeMap<Target, Attack>, held: &BTreeSet<Route>) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if self.breaker_until.is_some_and(|until| now >= until) {
            self.breaker_until = None;
            decisions.push(Decision::BreakerClosed);
        }
        for (target, attack) in attacks {
            if self.wants_blackhole(now, attack, held) {
                decisions.push(self.blackhole(now, *target));
            }
        }
        self.expire(now, &mut decisions);
        decisions
    }

    fn wants_blackhole(&self, now: Time, attack: &Attack, held: &BTreeSet<Route>) -> bool {
        let Some(over_since) = attack.over_since else { return false };
        let Some(case) = self.cases.get(&attack.target) else { return false };
        let default = GroupPolicy::default();
        let group = self.config.groups.get(&attack.group).unwrap_or(&default);
        // An outgoing attacker is not cut off by discarding what is sent to it.
        let applies = group.enable_blackhole && attack.target.direction == Direction::Incoming;
        let done = case.mitigations.iter().any(|m| matches!(m.route, Route::Unicast(_)));
        // Rules that no router holds have not been tried.
        let tried = case.mitigations.iter().all(|m| m.dry_run.is_some() || held.contains(&m.route));
        let since = case.last_rule.map_or(over_since, |rule| rule.max(over_since));
        applies
            && case.mined
            && !done
            && tried
            && now.since(since) >= self.config.blackhole_after
            && now.since(attack.detected) >= self.config.blackhole_after
    }

    fn blackhole(&mut self, now: Time, target: Target) -> Decision {
        let route = Route::Unicast(target.prefix);
        let blackholes =
            self.cases.values().flat_map(|c| &c.mitigations).filter(|m| matches!(m.route, Route::Unicast(_))).count();
        let checked = self.check_prefix(target, target.prefix).and(if blackholes < self.config.max_blackholes {
            Ok(())
        } else {
            Err(Refusal::Blackholes)
        });
        let dry_run = self.dry_run(target, false);
        let case = self.cases.entry(target).or_default();
        // Asked again only after another `blackhole_after`, whatever comes of it.
        case.last_rule = Some(now);
        if let Err(reason) = checked {
            return Decision::Refused { target, route, reason };
        }
        let announcement = Announcement::blackhole();
        let mitigation = Mitigation { route, announcement, target, dry_run, since: now, coverage: 1.0 };
        case.mitigations.push(mitigation.clone());
        Decision::Added(mitigation)
    }

    /// An attack ended: its routes go when they have lasted `ban_time`.
    pub fn over(&mut self, target: Target) {
        if let Some(case) = self.cases.get_mut(&target) {
            case.over = true;
        }
    }

    fn expire(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let config = &self.config;
        for case in self.cases.values_mut() {
            let over = case.over;
            case.mitigations.retain(|m| {
                let ends = now.since(m.since) >= config.ban_time && (over || !config.unban_only_if_attack_finished);
                if ends {
                    decisions.push(Decision::Removed(m.clone()));
                }
                !ends
            });
        }
        self.cases.retain(|_, case| !(case.over && case.mitigations.is_empty()));
    }

    /// Routes of one target, dry runs included.
    #[must_use]
    pub fn of(&self, target: Target) -> &[Mitigation] {
        self.cases.get(&target).map_or(&[], |c| &c.mitigations)
    }

    /// Routes of all targets, dry runs included.
    pub fn all(&self) -> impl Iterator<Item = &Mitigation> {
        self.cases.values().flat_map(|c| &c.mitigations)
    }

    /// What should be announced.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.all().filter(|m| m.dry_run.is_none()).map(|m| (m.route.clone(), m.announcement.clone())).collect()
    }
}

/// Addresses that nothing may touch: those configured, and both ends of every BGP session.
fn protected(config: &Config) -> Networks {
    let mut protected = config.protected.clone();
    protected.extend(config.peers.iter().map(|p| Prefix::host(p.remote_address)));
    protected.extend(config.peers.iter().filter_map(|p| p.local_address).map(Prefix::host));
    Networks::new(&protected)
}
