//! What a policy is asked, and what it answers.

use std::time::Duration;

use bgp::{Announcement, Origin, Route};
use flowspec::{Condition, Pattern};
use traffic::{Target, Time};

use crate::rails::Violation;

/// A rule that the miner offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What it matches.
    pub pattern: Pattern,
    /// Share of the sample's packets it covers, 0 to 1.
    pub coverage: f64,
    /// Share of the target's ordinary traffic it hits, 0 to 1, if that is known.
    pub collateral: Option<f64>,
    /// Upper 95 % bound of that share.
    pub collateral_bound: Option<f64>,
}

/// Why something is, or would be, announced only in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DryRun {
    /// `withdraw-all` was ordered.
    Halted,
    /// `enable_ban` in main is off: the state of a fresh install.
    BanDisabled,
    /// `enable_ban` of the host group is off.
    GroupBanDisabled,
    /// `enable_ban_incoming` or `enable_ban_outgoing` of the host group is off.
    DirectionBanDisabled,
    /// `gobgp_flow_spec_announces` is off.
    FlowSpecDisabled,
    /// `enable_bgp_flow_spec` of the host group is off.
    GroupFlowSpecDisabled,
    /// The host group is for alerts alone.
    AlertOnly,
    /// The host group wants a person's word.
    AwaitingApproval,
    /// It looks like the target's ordinary traffic, only more of it: a person decides (decision 33).
    LooksOrdinary,
    /// No rule helps, and less arrives than a blackhole is for: a person decides (decision 33).
    BelowBlackholeLevel,
    /// A manual blackhole replaces the host's rules.
    Blackholed,
    /// Too many targets at once: the mass-alarm breaker is open, and this could do mass harm (decision 31).
    Breaker,
    /// It rests on a sampling rate that its exporter contradicts, and wants a person's word while it does (decision 29).
    Doubted,
    /// `max_new_rules_per_second` is reached: it follows at once.
    Paced,
    /// A safety rail of the present configuration forbids it.
    Rail,
}

impl DryRun {
    /// Whether a person's yes ([`super::Policy::approve`]) is what it waits for.
    #[must_use]
    pub const fn awaits_approval(self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::LooksOrdinary | Self::BelowBlackholeLevel | Self::Doubted)
    }

    /// What an operator does to announce it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Halted => "withdraw-all is in force: announce again with set announcing enable",
            Self::BanDisabled => "dry run: set main enable_ban = true to announce",
            Self::GroupBanDisabled => "dry run: set enable_ban = true in the host group to announce",
            Self::DirectionBanDisabled => {
                "dry run: set enable_ban_incoming (or enable_ban_outgoing) = true in the host group to announce"
            }
            Self::FlowSpecDisabled => "dry run: set main gobgp_flow_spec_announces = true to announce FlowSpec rules",
            Self::GroupFlowSpecDisabled => "dry run: set enable_bgp_flow_spec = true in the host group to announce",
            Self::AlertOnly => "alert only: set mitigation = \"automatic\" in the host group to announce",
            Self::AwaitingApproval => "waiting for approval: set approve ID, or delete it",
            Self::LooksOrdinary => {
                "it looks like the host's ordinary traffic, only more of it (a flash crowd?): set approve ID to act all the same"
            }
            Self::BelowBlackholeLevel => {
                "no rule helps, and less arrives than blackhole_pps or blackhole_mbps of the host group (default: 10 times \
                 the threshold): set approve ID to blackhole the host all the same"
            }
            Self::Blackholed => "the host is blackholed by hand: delete the blackhole to resume its rules",
            Self::Breaker => {
                "mass alarm: blackholes, diversions and wide rules wait; check exporters and sampling rates"
            }
            Self::Doubted => {
                "waiting for approval: it rests on a sampling rate that the exporter contradicts, see show exporters; set approve ID, or delete it"
            }
            Self::Paced => "max_new_rules_per_second is reached: it follows",
            Self::Rail => "the present configuration forbids it: see networks_list and protected_networks",
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
    /// Another safety rail.
    Rail(Violation),
    /// The rules found cover, all together, less of the sample than `minimum_coverage_percent`.
    LowCoverage,
    /// It drops all traffic of more than a host: a blackhole of a network, not a rule (decision 35).
    Bare,
    /// Is in force already.
    Duplicate,
    /// `max_rules_per_host` is reached.
    RulesPerHost,
    /// `max_rules`, less the shares of others, is reached.
    Rules,
    /// `max_blackholes` or `max_blackhole_percent` is reached.
    Blackholes,
    /// RFC 8955 section 5.1: an earlier rule takes some of what this one would accept.
    ShadowedAccept,
    /// Two rate limits police the same packets.
    OverlappingRateLimits,
    /// A manual blackhole replaces the host's rules.
    Blackholed,
    /// The host group's ladder has no rules.
    NoRules,
}

impl Refusal {
    /// The reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OutsideTarget => "it is wider than the alarmed prefix",
            Self::OutsideNetworks => "it lies outside networks_list",
            Self::Protected => "it touches protected_networks or a BGP peer",
            Self::Rail(Violation::Bgp) => "it could match BGP (tcp port 179) to protected addresses",
            Self::Rail(Violation::Field) => "it has a value that no packet can have",
            Self::Rail(Violation::Contradiction) => "its conditions contradict one another",
            Self::Rail(_) => "a safety rail forbids it",
            Self::LowCoverage => "the rules found cover less of the sample than minimum_coverage_percent",
            Self::Bare => "it has no condition beyond its destination: that would drop all traffic of more than a host",
            Self::Duplicate => "it is in force already",
            Self::RulesPerHost => "the host has max_rules_per_host rules",
            Self::Rules => {
                "max_rules is reached (operators and mitigation have shares of it that bans and each other leave alone)"
            }
            Self::Blackholes => "max_blackholes or max_blackhole_percent is reached",
            Self::ShadowedAccept => "a rule that routers try first takes some of what it would accept",
            Self::OverlappingRateLimits => "its rate limit overlaps another: packets are policed by the first alone",
            Self::Blackholed => "the host is blackholed by hand",
            Self::NoRules => "mitigation_ladder of the host group has no rules",
        }
    }

    pub(super) const fn of(violation: Violation) -> Self {
        match violation {
            Violation::Foreign | Violation::NoPrefix => Self::OutsideNetworks,
            Violation::Wider => Self::OutsideTarget,
            Violation::Protected => Self::Protected,
            Violation::Bare => Self::Bare,
            other @ (Violation::Short
            | Violation::Bgp
            | Violation::NotHost
            | Violation::Skiplisted
            | Violation::Special
            | Violation::ClassOff
            | Violation::Exportable
            | Violation::Field
            | Violation::Contradiction
            | Violation::Offset) => Self::Rail(other),
        }
    }
}

/// Who ordered something by hand, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Order {
    /// User, script or system.
    pub owner: String,
    /// Why, in the owner's words.
    pub reason: String,
    /// Nanoseconds since the Unix epoch at which it ends by itself; `None` lasts until it is deleted.
    pub expires: Option<u64>,
}

/// Octets of an [`Order`]'s texts at most.
const MAX_ORDER_TEXT: usize = 256;

impl Order {
    /// Of an owner with a reason, for a span or without end. Texts are cut to 256 octets.
    #[must_use]
    pub fn new(owner: &str, reason: &str, now: Time, lasts: Option<Duration>) -> Self {
        let cut = |text: &str| {
            let mut end = text.len().min(MAX_ORDER_TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text[..end].to_owned()
        };
        Self { owner: cut(owner), reason: cut(reason), expires: lasts.map(|span| now.after(span).0) }
    }

    /// Its end, moved by so many nanoseconds: to another clock.
    pub const fn moved(&mut self, by: i64) {
        if let Some(expires) = &mut self.expires {
            *expires = expires.saturating_add_signed(by);
        }
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.expires.is_some_and(|at| now.0 >= at)
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
    /// Who ordered it; `None` if the policy decided.
    pub order: Option<Order>,
    /// Why a person has to decide about this blackhole or diversion; judged anew at each step until it is announced.
    pub(super) gate: Option<DryRun>,
    /// It hits little of the ordinary traffic, as far as that is known: it goes during a mass alarm, too.
    pub(super) is_precise: bool,
    /// It has been announced once: a breaker that opens later does not take it back.
    pub(super) announced: bool,
    /// An operator said yes.
    pub(super) approved: bool,
    /// It has passed `max_new_rules_per_second`.
    pub(super) paced: bool,
}

impl Mitigation {
    pub(super) fn automatic(
        now: Time,
        target: Target,
        route: Route,
        announcement: Announcement,
        coverage: f64,
    ) -> Self {
        Self {
            route,
            announcement,
            target,
            dry_run: None,
            since: now,
            coverage,
            order: None,
            gate: None,
            is_precise: false,
            announced: false,
            approved: false,
            paced: false,
        }
    }

    pub(super) fn manual(now: Time, target: Target, route: Route, announcement: Announcement, order: Order) -> Self {
        Self { order: Some(order), ..Self::automatic(now, target, route, announcement.manual(), 0.0) }
    }

    /// Whether an operator ordered it.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.announcement.origin == Origin::Manual
    }

    pub(super) const fn is_rule(&self) -> bool {
        matches!(self.route, Route::FlowSpec(_))
    }

    /// Whether it is there only to be approved: it has filtered nothing and is nothing to wait for.
    #[must_use]
    pub const fn is_offered(&self) -> bool {
        !self.announced && self.gate.is_some()
    }

    /// A unicast route that is no diversion.
    #[must_use]
    pub fn is_blackhole(&self) -> bool {
        matches!(self.route, Route::Unicast(_)) && self.announcement.communities.contains(&bgp::Community::BLACKHOLE)
    }

    /// When it ends at the earliest (automatic) or for certain (manual), as far as is known.
    #[must_use]
    pub fn ends(&self, ban_time: Duration) -> Option<Time> {
        match &self.order {
            Some(order) => order.expires.map(Time),
            // An offer goes with its attack.
            None if self.is_offered() => Some(self.since),
            None => Some(self.since.after(ban_time)),
        }
    }

    /// Traffic that a router with this route drops.
    #[must_use]
    pub fn pattern(&self) -> Pattern {
        match &self.route {
            Route::FlowSpec(pattern) => pattern.clone(),
            Route::Unicast(prefix) => Pattern::new(vec![Condition::Destination(*prefix, 0)]).unwrap_or_default(),
        }
    }
}

/// What [`super::Policy`] decided, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// A route is wanted from now on (or would be: see `dry_run`).
    Added(Mitigation),
    /// A route that was held back is wanted now, or the other way round: see `dry_run`.
    Changed(Mitigation),
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
    /// What was in force did not help: the next rung of the ladder.
    Escalated {
        /// Whose attack.
        target: Target,
        /// The rung left.
        from: &'static str,
        /// The rung taken.
        to: &'static str,
    },
    /// The target's routes were taken away to see whether the attack goes on behind them.
    Probing(Target),
    /// It does: they are back, for longer.
    ProbeFailed {
        /// Whose attack.
        target: Target,
        /// Until when they last now, at least.
        lasts: Duration,
    },
    /// It does not.
    ProbePassed(Target),
    /// The mass-alarm breaker opened: blackholes, diversions and wide rules are dry runs until it closes.
    BreakerOpened {
        /// New targets in the last ten seconds.
        targets: usize,
    },
    /// The breaker closed.
    BreakerClosed,
    /// Everything was withdrawn by order.
    WithdrawnAll {
        /// Routes that were in force.
        routes: usize,
        /// Who ordered it.
        owner: String,
    },
    /// Announcing is allowed again.
    Resumed {
        /// Who ordered it.
        owner: String,
    },
}
