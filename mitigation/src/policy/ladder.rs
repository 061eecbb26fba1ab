//! The mitigation ladder: escalation when what is in force does not help, expiry, and probing when it hides the attack's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use collectors::{IpVersion, Sample, Time};
use detector::{Attack, Direction, Match, Pattern, Target};

use super::breaker::{host_count, own_hosts};
use super::{Decision, Mitigation, Policy, Refusal};
use crate::announcement::{Announcement, Community, Route};
use crate::config::{GroupPolicy, Rung, UnicastForm};

/// Longest that a ban grows to by failed probes.
const LONGEST_BAN: Duration = Duration::from_secs(86_400);

/// Routes that are away to see whether the attack goes on behind them.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) mitigations: Vec<Mitigation>,
    pub(super) since: Time,
}

/// How long a ban lasts after so many failed probes: twice as long each time.
fn ban_time(base: Duration, failed_probes: u32) -> Duration {
    base.saturating_mul(1u32 << failed_probes.min(16)).min(LONGEST_BAN.max(base))
}

impl Policy {
    /// Takes the next rung for an attack that goes on in spite of what is in force.
    pub(super) fn escalate(
        &mut self,
        now: Time,
        attack: &Attack,
        held: &BTreeSet<Route>,
        decisions: &mut Vec<Decision>,
    ) {
        let target = attack.target;
        let group = self.config.group(&attack.group);
        let Some(case) = self.cases.get(&target) else { return };
        if !case.mined || case.probe.is_some() || self.is_blackholed_by_hand(target) {
            return;
        }
        // A ladder that begins with a blackhole is the classic RTBH of a threshold: no rule has to fail first.
        let direct =
            case.mitigations.is_empty() && case.rung == 0 && !matches!(group.ladder.first(), Some(Rung::FlowSpec(_)));
        if !direct && !self.failed(now, attack, held) {
            return;
        }
        let has_rules = case.mitigations.iter().any(Mitigation::is_rule);
        let from = case.rung;
        let start = if direct { from } else { from + 1 };
        let next = (start..group.ladder.len()).find(|i| applies(&group, *i, target, has_rules));
        let Some(rung) = next else { return };
        let taken = self.take_rung(now, target, &group, rung, decisions);
        // Asked again only after another `blackhole_after`, whatever comes of it.
        let Some(case) = self.cases.get_mut(&target) else { return };
        case.last_change = Some(now);
        if taken {
            case.rung = rung;
            let name = |i: usize| group.ladder.get(i).map_or("alert", Rung::name);
            let from = if direct { "alert" } else { name(from) };
            let at = decisions.len() - 1;
            decisions.insert(at, Decision::Escalated { target, from, to: name(rung) });
        }
    }

    /// Certain excess for `blackhole_after` since the last thing that was tried.
    fn failed(&self, now: Time, attack: &Attack, held: &BTreeSet<Route>) -> bool {
        let Some(over_since) = attack.over_since else { return false };
        let Some(case) = self.cases.get(&attack.target) else { return false };
        // Routes that no router holds have not been tried.
        let tried = case.mitigations.iter().all(|m| m.dry_run.is_some() || held.contains(&m.route));
        let since = case.last_change.map_or(over_since, |change| change.max(over_since));
        let wait = self.config.blackhole_after;
        tried && now.since(since) >= wait && now.since(attack.detected) >= wait
    }

    /// Puts a rung in force; whether that changed anything.
    fn take_rung(
        &mut self,
        now: Time,
        target: Target,
        group: &GroupPolicy,
        rung: usize,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let Some(step) = group.ladder.get(rung) else { return false };
        match step {
            Rung::FlowSpec(actions) => {
                let Some(case) = self.cases.get_mut(&target) else { return false };
                let mut last = None;
                for m in case.mitigations.iter_mut().filter(|m| m.is_rule()) {
                    m.announcement.actions.clone_from(actions);
                    last = Some(m.clone());
                }
                decisions.extend(last.map(Decision::Changed));
                true
            }
            Rung::Blackhole => {
                let mut announcement = form(&group.blackhole, target, Announcement::blackhole());
                announcement.communities.dedup();
                self.add_unicast(now, target, &group.blackhole, announcement, decisions)
            }
            Rung::Divert => {
                let announcement = form(&group.diversion, target, Announcement::default());
                self.add_unicast(now, target, &group.diversion, announcement, decisions)
            }
        }
    }

    fn add_unicast(
        &mut self,
        now: Time,
        target: Target,
        shape: &UnicastForm,
        announcement: Announcement,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let length = match target.prefix.version() {
            IpVersion::V4 => shape.lengths.0,
            IpVersion::V6 => shape.lengths.1,
        };
        // A covering prefix is the host group's own choice; it is what the announcement may be as wide as.
        let prefix = target.prefix.widened(length);
        let announcement = announcement.within(prefix);
        let route = Route::Unicast(prefix);
        if self.cases.get(&target).is_some_and(|c| c.mitigations.iter().any(|m| m.route == route)) {
            return false;
        }
        let checked =
            self.space.check(&route, &announcement).map_err(Refusal::of).and_then(|_| self.check_blackholes(&route));
        if let Err(reason) = checked {
            decisions.push(Decision::Refused { target, route, reason });
            return false;
        }
        let mitigation = Mitigation::automatic(now, target, route, announcement, 1.0);
        self.cases.entry(target).or_default().mitigations.push(mitigation);
        decisions.push(self.settle_last(now, target));
        true
    }

    /// `max_blackholes` and `max_blackhole_percent`.
    fn check_blackholes(&self, route: &Route) -> Result<(), Refusal> {
        let Route::Unicast(prefix) = route else { return Ok(()) };
        let others: BTreeSet<&Route> =
            self.cases.values().flat_map(|c| &c.mitigations).filter(|m| !m.is_rule()).map(|m| &m.route).collect();
        if others.contains(route) {
            return Ok(());
        }
        let size = |r: &Route| match r {
            Route::Unicast(p) => host_count(p.version(), p.length()),
            Route::FlowSpec(_) => 0.0,
        };
        let taken: f64 = others.iter().map(|r| size(r)).sum();
        let own = own_hosts(self.space.networks());
        // One host is always allowed, however small the own space is.
        let within = taken == 0.0 && prefix.is_host() || taken + size(route) <= own * self.config.max_blackhole_share;
        if others.len() < self.config.max_blackholes && within { Ok(()) } else { Err(Refusal::Blackholes) }
    }

    /// Ends of automatic routes. What the drop may hide is looked for: the routes go, and come back at once if the attack does.
    pub(super) fn expire(&mut self, now: Time, attacks: &BTreeMap<Target, Attack>, decisions: &mut Vec<Decision>) {
        if self.silent {
            return;
        }
        let targets: Vec<Target> = self.cases.keys().copied().collect();
        for target in targets {
            self.expire_case(now, target, attacks.contains_key(&target), decisions);
        }
        self.cases.retain(|_, case| !(case.over && case.mitigations.is_empty() && case.probe.is_none()));
    }

    fn expire_case(&mut self, now: Time, target: Target, is_attacked: bool, decisions: &mut Vec<Decision>) {
        let (base, only_if_finished) = (self.config.ban_time, self.config.unban_only_if_attack_finished);
        let probe_time = self.config.probe_time;
        let Some(case) = self.cases.get_mut(&target) else { return };
        if case.unknown_until.is_some_and(|until| now >= until) {
            // Nothing was heard of it since the restart.
            case.unknown_until = None;
            case.over |= !is_attacked;
        }
        if case.probe.as_ref().is_some_and(|probe| now.since(probe.since) >= probe_time) {
            case.probe = None;
            case.failed_probes = 0;
            case.over |= !is_attacked;
            decisions.push(Decision::ProbePassed(target));
        }
        let lasts = ban_time(base, case.failed_probes);
        let over = case.over;
        let mut gone = Vec::new();
        case.mitigations.retain(|m| {
            let ends = now.since(m.since) >= lasts && (over || !only_if_finished);
            if ends {
                gone.push(m.clone());
            }
            !ends
        });
        if gone.is_empty() {
            return;
        }
        decisions.extend(gone.iter().cloned().map(Decision::Removed));
        // What was never announced has hidden nothing.
        let announced: Vec<Mitigation> = gone.into_iter().filter(|m| m.dry_run.is_none()).collect();
        if announced.is_empty() || probe_time.is_zero() {
            return;
        }
        decisions.push(Decision::Probing(target));
        match &mut case.probe {
            Some(probe) => probe.mitigations.extend(announced),
            None => case.probe = Some(Probe { mitigations: announced, since: now }),
        }
    }

    /// A bucket of an attack was captured; call this before it is mined. If its rules are away for a probe and would match most
    /// of it, the same attack goes on and they are put back. Otherwise it is another attack, and they stay away. A bucket without
    /// samples of the target proves nothing: then the rules come back.
    pub fn sampled(&mut self, now: Time, target: Target, samples: &[Sample]) -> Vec<Decision> {
        let Some(case) = self.cases.get_mut(&target) else { return Vec::new() };
        let Some(probe) = &case.probe else { return Vec::new() };
        let patterns: Vec<Pattern> = probe.mitigations.iter().map(Mitigation::pattern).collect();
        let matches = |s: &Sample| patterns.iter().any(|p| p.matches(s) == Match::Yes);
        let (mut all, mut matched) = (0u128, 0u128);
        for sample in samples.iter().filter(|s| target.covers(s)) {
            all += u128::from(sample.packets);
            matched += if matches(sample) { u128::from(sample.packets) } else { 0 };
        }
        if matched * 2 >= all {
            return self.end_probe(now, target);
        }
        case.probe = None;
        case.failed_probes = 0;
        case.rung = 0;
        vec![Decision::ProbePassed(target)]
    }

    /// The attack came back while its routes were away.
    pub(super) fn end_probe(&mut self, now: Time, target: Target) -> Vec<Decision> {
        let Some(case) = self.cases.get_mut(&target) else { return Vec::new() };
        let Some(probe) = case.probe.take() else { return Vec::new() };
        case.failed_probes += 1;
        case.mined = true;
        case.last_change = Some(now);
        let lasts = ban_time(self.config.ban_time, case.failed_probes);
        let mut decisions = vec![Decision::ProbeFailed { target, lasts }];
        for m in probe.mitigations {
            // The world may have changed meanwhile: every rail is asked again.
            let checked = self
                .space
                .check(&m.route, &m.announcement)
                .map_err(Refusal::of)
                .and_then(|_| self.check_blackholes(&m.route));
            if let Err(reason) = checked {
                decisions.push(Decision::Refused { target, route: m.route, reason });
                continue;
            }
            let case = self.cases.entry(target).or_default();
            case.mitigations.push(Mitigation { since: now, ..m });
            decisions.push(self.settle_last(now, target));
        }
        decisions
    }
}

/// Whether a rung can do anything for a target.
fn applies(group: &GroupPolicy, rung: usize, target: Target, has_rules: bool) -> bool {
    match group.ladder.get(rung) {
        Some(Rung::FlowSpec(_)) => has_rules,
        // An outgoing attacker is not cut off by discarding what is sent to it.
        Some(Rung::Blackhole) => group.enable_blackhole && target.direction == Direction::Incoming,
        Some(Rung::Divert) => target.direction == Direction::Incoming,
        None => false,
    }
}

/// The group's next hop and communities, on top of `announcement`.
fn form(shape: &UnicastForm, target: Target, mut announcement: Announcement) -> Announcement {
    announcement.next_hop = match target.prefix.version() {
        IpVersion::V4 => shape.next_hop_ipv4.map(Into::into),
        IpVersion::V6 => shape.next_hop_ipv6.map(Into::into),
    };
    announcement.communities.extend(&shape.communities);
    announcement.large_communities.extend(&shape.large_communities);
    announcement.extended_communities.extend(&shape.extended_communities);
    // A diversion must not leave this AS by accident either.
    if !announcement.communities.contains(&Community::NO_EXPORT) {
        announcement.communities.push(Community::NO_EXPORT);
    }
    announcement
}
