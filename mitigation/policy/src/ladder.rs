//! The mitigation ladder: escalation when what is in force does not help, expiry, and probing when it hides the attack's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bgp::{Announcement, Community, Route};
use detector::Attack;
use flowspec::{Match, Pattern};
use miner::Verdict;
use traffic::{Direction, IpVersion, Sample, Target, Time};

use super::breaker::{host_count, own_hosts};
use super::{Case, Decision, DryRun, Held, Mitigation, Policy, Refusal};
use crate::config::{BLACKHOLE_TIMES, GroupPolicy, ORDINARY_TIMES, Rung, UnicastForm};

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
    pub(super) fn escalate(&mut self, now: Time, attack: &Attack, held: &Held, decisions: &mut Vec<Decision>) {
        let target = attack.target;
        let group = self.config.group(&attack.group);
        let Some(case) = self.cases.get(&target) else { return };
        if !case.mined || case.probe.is_some() || self.is_blackholed_by_hand(target) {
            return;
        }
        // A ladder that begins with a blackhole is the classic RTBH of a threshold: no rule has to fail first.
        let direct = case.mitigations.is_empty() && case.rung == 0 && begins_without_rules(&group);
        if !direct && (case.is_being_mined(now, attack) || !self.failed(now, attack, held)) {
            return;
        }
        let has_rules = case.mitigations.iter().any(Mitigation::is_rule);
        let from = case.rung;
        let start = if direct { from } else { from + 1 };
        let next = (start..group.ladder.len()).find(|i| applies(&group, *i, target, has_rules));
        let Some(rung) = next else { return };
        let taken = self.take_rung(now, attack, &group, rung, decisions);
        // Asked again only after another `blackhole_after`, whatever comes of it.
        let Some(case) = self.cases.get_mut(&target) else { return };
        case.last_change = Some(now);
        if taken {
            case.rung = rung;
            if case.mitigations.last().is_some_and(Mitigation::is_offered) {
                return;
            }
            let name = |i: usize| group.ladder.get(i).map_or("alert", Rung::name);
            let from = if direct { "alert" } else { name(from) };
            let at = decisions.len() - 1;
            decisions.insert(at, Decision::Escalated { target, from, to: name(rung) });
        }
    }

    /// Judges anew whether what was offered for an attack still needs a person: a blackhole not once so much has arrived for
    /// `blackhole_after` that the ladder would have gone on by itself, a diversion not once its traffic no longer looks ordinary.
    pub(super) fn judge_offers(&mut self, now: Time, attack: &Attack) {
        let group = self.config.group(&attack.group);
        let Some(case) = self.cases.get_mut(&attack.target) else { return };
        if !reaches_blackhole_level(attack, &group) {
            case.level_since = None;
        } else if case.level_since.is_none() {
            case.level_since = Some(now);
        }
        let lasts = case.level_since.is_some_and(|since| now.since(since) >= self.config.blackhole_after);
        let offered: Vec<Route> = case.mitigations.iter().filter(|m| m.is_offered()).map(|m| m.route.clone()).collect();
        for route in offered {
            // The rails and caps of now, not of when it was offered.
            let allowed = self.check_blackholes(&route).is_ok();
            let Some(case) = self.cases.get_mut(&attack.target) else { return };
            let rung = group.ladder.get(case.rung).cloned().unwrap_or(Rung::Blackhole);
            let opens = allowed && (lasts || rung == Rung::Divert);
            let gate = case.gate(attack, &group, &rung);
            let offered = case.mitigations.iter_mut().filter(|m| m.route == route);
            offered.for_each(|m| m.gate = gate.or(m.gate.filter(|_| !opens)));
        }
    }

    /// Certain excess for `blackhole_after` since the last thing that was tried.
    fn failed(&self, now: Time, attack: &Attack, held: &Held) -> bool {
        let Some(over_since) = attack.over_since else { return false };
        if attack.waits_for_routers() {
            return false;
        }
        let Some(case) = self.cases.get(&attack.target) else { return false };
        // Routes that no router holds have not been tried.
        let tried = case.mitigations.iter().all(|m| m.dry_run.is_some() || held.contains_key(&m.route));
        let since = case.last_change.map_or(over_since, |change| change.max(over_since));
        let wait = self.config.blackhole_after;
        tried && now.since(since) >= wait && now.since(attack.detected) >= wait
    }

    /// Puts a rung in force; whether that changed anything.
    fn take_rung(
        &mut self,
        now: Time,
        attack: &Attack,
        group: &GroupPolicy,
        rung: usize,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let Some(step) = group.ladder.get(rung) else { return false };
        let target = attack.target;
        let gate = self.cases.get(&target).and_then(|case| case.gate(attack, group, step));
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
                self.add_unicast(now, target, &group.blackhole, announcement, gate, decisions)
            }
            Rung::Divert => {
                let announcement = form(&group.diversion, target, Announcement::default());
                self.add_unicast(now, target, &group.diversion, announcement, gate, decisions)
            }
        }
    }

    fn add_unicast(
        &mut self,
        now: Time,
        target: Target,
        shape: &UnicastForm,
        announcement: Announcement,
        gate: Option<DryRun>,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        let length = match target.prefix.version() {
            IpVersion::V4 => shape.lengths.0,
            IpVersion::V6 => shape.lengths.1,
        };
        // A covering prefix is the host group's own choice; it is what the announcement may be as wide as.
        let prefix = target.prefix.widened(length);
        // Most hosts of a prefix under attack are well: all of it is taken down only where that was asked for.
        if !target.prefix.is_host() && length >= target.prefix.version().bits() {
            return false;
        }
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
        let mitigation = Mitigation { gate, ..Mitigation::automatic(now, target, route, announcement, 1.0) };
        self.cases.entry(target).or_default().mitigations.push(mitigation);
        decisions.push(self.settle_last(now, target));
        true
    }

    /// `max_blackholes` and `max_blackhole_percent`.
    fn check_blackholes(&self, route: &Route) -> Result<(), Refusal> {
        let Route::Unicast(prefix) = route else { return Ok(()) };
        let others: BTreeSet<&Route> =
            self.cases.values().flat_map(|c| &c.mitigations).filter(|m| takes_all(m)).map(|m| &m.route).collect();
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
            // What was only offered has filtered nothing: it goes with its attack.
            let ends = over && m.is_offered() || now.since(m.since) >= lasts && (over || !only_if_finished);
            if ends {
                gone.push(m.clone());
            }
            !ends
        });
        if gone.is_empty() {
            return;
        }
        if gone.iter().any(Mitigation::is_offered) {
            case.rung = 0;
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

impl Case {
    /// Whether a bucket is open, has just been mined, or held nothing to mine: the ladder waits for what comes of it (decision 33).
    fn is_being_mined(&self, now: Time, attack: &Attack) -> bool {
        attack.bucket.is_some() || self.verdict.is_some_and(|(at, verdict)| at == now || verdict == Verdict::NoSample)
    }

    /// Whether a rung of a group's ladder needs a person, and why (decision 33). Rules do not.
    fn gate(&self, attack: &Attack, group: &GroupPolicy, rung: &Rung) -> Option<DryRun> {
        if matches!(rung, Rung::FlowSpec(_)) || begins_without_rules(group) {
            return None;
        }
        let looks_ordinary = self.verdict.is_some_and(|(_, verdict)| verdict == Verdict::LooksOrdinary);
        if looks_ordinary && attack.units_per_second < attack.threshold.saturating_mul(ORDINARY_TIMES) {
            return Some(DryRun::LooksOrdinary);
        }
        (*rung == Rung::Blackhole && !reaches_blackhole_level(attack, group)).then_some(DryRun::BelowBlackholeLevel)
    }
}

/// Whether a ladder begins with a blackhole or a diversion.
fn begins_without_rules(group: &GroupPolicy) -> bool {
    !matches!(group.ladder.first(), Some(Rung::FlowSpec(_)))
}

/// Whether so much arrives that a blackhole needs no person: the group's own levels, or [`BLACKHOLE_TIMES`].
fn reaches_blackhole_level(attack: &Attack, group: &GroupPolicy) -> bool {
    let levels = [(attack.packets_per_second, group.blackhole_pps), (attack.bytes_per_second, group.blackhole_bytes)];
    if levels.iter().all(|(_, level)| level.is_none()) {
        return attack.units_per_second >= attack.threshold.saturating_mul(BLACKHOLE_TIMES);
    }
    levels.iter().any(|(arrives, level)| level.is_some_and(|level| *arrives >= level))
}

/// Whether a route takes the whole of a prefix off the net, or away from its usual path.
fn takes_all(m: &Mitigation) -> bool {
    !m.is_rule() && !m.is_offered()
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

#[cfg(test)]
mod tests {
    use super::super::fixture::{
        at, attack, attacks, config, config_of, held, packet, proposal, target, wanted, words,
    };
    use super::*;
    use crate::config::Config;

    const HOST: &str = "203.0.113.9";
    const NTP: &str = "flow destination 203.0.113.9/32 protocol udp source-port 123";
    const ALL: &str = "203.0.113.9/32";

    /// A policy with the rule of one attack, both at 0 s.
    fn defending(config: Config) -> (Policy, Attack) {
        let mut policy = Policy::new(config);
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        (policy, attack)
    }

    fn step(policy: &mut Policy, seconds: u64, all: &[&Attack]) -> Vec<String> {
        let held = held(policy);
        words(&policy.step(at(seconds), &attacks(all), &held))
    }

    #[test]
    fn a_rule_that_does_not_help_for_long_enough_is_followed_by_a_blackhole_once() {
        let (mut policy, attack) = defending(config());
        assert!(step(&mut policy, 4, &[&attack]).is_empty(), "four seconds");
        let expected = ["escalated from discard to blackhole".to_owned(), format!("added {ALL}")];
        assert_eq!(step(&mut policy, 5, &[&attack]), expected);
        assert!(step(&mut policy, 20, &[&attack]).is_empty(), "there is no further rung");
        assert_eq!(wanted(&policy), [ALL, NTP]);
    }

    #[test]
    fn nothing_is_escalated_that_has_not_been_tried_or_mined_or_is_not_over_its_threshold() {
        let (mut policy, attack) = defending(config());
        let none = Held::new();
        assert!(policy.step(at(60), &attacks(&[&attack]), &none).is_empty(), "no router holds the rule");
        let mut calm = attack.clone();
        calm.over_since = None;
        assert!(step(&mut policy, 60, &[&calm]).is_empty(), "the rule takes it all");
        let mut recent = attack;
        recent.over_since = Some(at(58));
        assert!(step(&mut policy, 60, &[&recent]).is_empty(), "over for two seconds");

        let mut policy = Policy::new(config());
        let attack = super::super::fixture::attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        assert!(step(&mut policy, 60, &[&attack]).is_empty(), "no bucket was mined yet");
        policy.propose(at(60), attack.target, &[]);
        assert_eq!(step(&mut policy, 66, &[&attack]).last(), Some(&format!("added {ALL}")), "mining found nothing");
    }

    #[test]
    fn a_rate_limit_becomes_a_discard_before_anything_is_blackholed() {
        let limit = Rung::FlowSpec(vec![flowspec::Action::RateLimitBytes(1e6)]);
        let ladder = vec![limit, Rung::FlowSpec(vec![flowspec::Action::Discard]), Rung::Blackhole];
        let group = GroupPolicy { enable_ban: true, ladder, ..GroupPolicy::default() };
        let (mut policy, attack) = defending(config_of(group));
        assert_eq!(policy.of(attack.target)[0].announcement.text(), "rate-limit 1000000 bytes/s");
        let said = step(&mut policy, 5, &[&attack]);
        assert_eq!(said[0], "escalated from rate-limit to discard");
        assert_eq!(policy.of(attack.target)[0].announcement.text(), "discard");
        assert_eq!(step(&mut policy, 9, &[&attack]), [""; 0], "the discard has its time");
        assert_eq!(step(&mut policy, 10, &[&attack])[0], "escalated from discard to blackhole");
    }

    /// A case for which the miner said why there is no rule, at 0 s.
    fn without_rules(config: Config, verdict: Verdict, times: u64) -> (Policy, Attack) {
        let mut policy = Policy::new(config);
        let mut attack = attack(HOST, at(0));
        attack.units_per_second = attack.threshold * times;
        policy.alarm(at(0), &attack);
        policy.propose_to(at(0), attack.target, verdict, &[], None);
        (policy, attack)
    }

    #[test]
    fn what_looks_ordinary_is_left_to_people_up_to_its_limit() {
        let (mut policy, mut attack) = without_rules(config(), Verdict::LooksOrdinary, ORDINARY_TIMES - 1);
        assert_eq!(step(&mut policy, 5, &[&attack]), [format!("added {ALL}")]);
        assert_eq!(policy.of(attack.target)[0].dry_run, Some(DryRun::LooksOrdinary));
        assert!(wanted(&policy).is_empty() && policy.excluded(attack.target, None).is_empty(), "it is only offered");
        assert!(step(&mut policy, 600, &[&attack]).is_empty());
        // Nobody can hide by looking ordinary: beyond the blackhole's own level the ladder goes on by itself.
        attack.units_per_second = attack.threshold * BLACKHOLE_TIMES;
        assert!(step(&mut policy, 601, &[&attack]).is_empty(), "not for a moment's peak");
        assert_eq!(step(&mut policy, 606, &[&attack]), [format!("changed {ALL} None")]);
        assert_eq!(wanted(&policy), [ALL]);
        attack.units_per_second = attack.threshold;
        assert!(step(&mut policy, 607, &[&attack]).is_empty(), "it is not taken back while the attack goes on");
    }

    #[test]
    fn even_where_a_group_blackholes_at_its_threshold_a_flash_crowd_is_not() {
        let at_threshold = GroupPolicy { enable_ban: true, blackhole_pps: Some(100), ..GroupPolicy::default() };
        for (verdict, blackholed) in [(Verdict::LooksOrdinary, false), (Verdict::NoPattern, true)] {
            let (mut policy, attack) = without_rules(config_of(at_threshold.clone()), verdict, 2);
            step(&mut policy, 5, &[&attack]);
            assert_eq!(!wanted(&policy).is_empty(), blackholed, "{verdict}");
        }
    }

    #[test]
    fn below_the_level_of_blackholes_one_is_offered_and_a_yes_announces_it() {
        for by_bytes in [false, true] {
            let group = GroupPolicy { enable_ban: true, ..GroupPolicy::default() };
            let level = if by_bytes {
                GroupPolicy { blackhole_bytes: Some(1_000_000), ..group }
            } else {
                GroupPolicy { blackhole_pps: Some(5_000), ..group }
            };
            let (mut policy, mut attack) = without_rules(config_of(level), Verdict::NoPattern, 20);
            assert_eq!(step(&mut policy, 5, &[&attack]), [format!("added {ALL}")]);
            assert_eq!(policy.of(attack.target)[0].dry_run, Some(DryRun::BelowBlackholeLevel));
            let mut asked = Policy::new(config());
            asked.restore(at(6), &policy.records(0));
            assert!(wanted(&asked).is_empty(), "an offer stays one over a restart");
            policy.approve(at(6), &Route::Unicast(attack.target.prefix)).expect("it is there");
            assert_eq!(wanted(&policy), [ALL]);
            (attack.packets_per_second, attack.bytes_per_second) = (5_000, 1_000_000);
            assert!(step(&mut policy, 60, &[&attack]).is_empty());
        }
    }

    #[test]
    fn a_diversion_that_looked_ordinary_is_announced_when_it_no_longer_does() {
        let ladder = vec![Rung::FlowSpec(vec![flowspec::Action::Discard]), Rung::Divert];
        let diversion = UnicastForm { next_hop_ipv4: Some([192, 0, 2, 9].into()), ..UnicastForm::default() };
        let group = GroupPolicy { enable_ban: true, ladder, diversion, ..GroupPolicy::default() };
        let (mut policy, attack) = without_rules(config_of(group), Verdict::LooksOrdinary, 2);
        assert_eq!(step(&mut policy, 5, &[&attack]), [format!("added {ALL}")]);
        assert!(wanted(&policy).is_empty(), "a person decides");
        policy.propose_to(at(6), attack.target, Verdict::NoPattern, &[], None);
        step(&mut policy, 7, &[&attack]);
        assert_eq!(wanted(&policy), [ALL], "the level is that of blackholes");
    }

    #[test]
    fn a_rule_that_ends_leaves_the_ladder_where_it_is() {
        let limit = Rung::FlowSpec(vec![flowspec::Action::RateLimitBytes(1e6)]);
        let ladder = vec![limit, Rung::FlowSpec(vec![flowspec::Action::Discard])];
        let group = GroupPolicy { enable_ban: true, ladder, ..GroupPolicy::default() };
        let (mut policy, attack) = defending(Config { unban_only_if_attack_finished: false, ..config_of(group) });
        assert_eq!(step(&mut policy, 5, &[&attack])[0], "escalated from rate-limit to discard");
        step(&mut policy, 60, &[&attack]);
        assert!(wanted(&policy).is_empty(), "ban_time is over");
        policy.propose(at(61), attack.target, &[proposal(HOST, 53)]);
        assert_eq!(policy.of(attack.target)[0].announcement.text(), "discard", "a limit did not help");
    }

    #[test]
    fn an_offer_goes_with_its_attack_and_the_next_one_finds_the_ladder_at_its_foot() {
        let (mut policy, attack) = without_rules(config(), Verdict::NoPattern, 2);
        step(&mut policy, 5, &[&attack]);
        policy.over(attack.target);
        assert_eq!(step(&mut policy, 6, &[]), [format!("removed {ALL}")], "nothing to probe for");
        assert!(policy.records(0).is_empty());
    }

    #[test]
    fn the_ladder_waits_for_a_bucket_that_is_open_or_just_mined_or_was_empty() {
        let (mut policy, attack) = without_rules(config(), Verdict::NoPattern, 20);
        let mut open = attack.clone();
        open.bucket = Some(super::super::fixture::bucket(at(4)));
        assert!(step(&mut policy, 6, &[&open]).is_empty(), "it is being captured");
        policy.propose_to(at(7), attack.target, Verdict::NoPattern, &[], None);
        assert!(step(&mut policy, 7, &[&attack]).is_empty(), "mined in this very tick");
        policy.propose_to(at(8), attack.target, Verdict::NoSample, &[], None);
        assert!(step(&mut policy, 9, &[&attack]).is_empty(), "nothing was seen");
        policy.propose_to(at(10), attack.target, Verdict::NoPattern, &[], None);
        assert_eq!(step(&mut policy, 11, &[&attack]).last(), Some(&format!("added {ALL}")));
    }

    #[test]
    fn a_ladder_that_begins_with_a_blackhole_waits_for_no_rule() {
        let group = GroupPolicy { enable_ban: true, ladder: vec![Rung::Blackhole], ..GroupPolicy::default() };
        let mut policy = Policy::new(config_of(group));
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[]);
        assert_eq!(
            step(&mut policy, 1, &[&attack]),
            ["escalated from alert to blackhole".to_owned(), format!("added {ALL}")]
        );
    }

    #[test]
    fn an_attacker_of_ours_is_not_blackholed_and_neither_is_a_group_that_does_not_want_it() {
        let (mut policy, attack) = defending(config());
        let outgoing = Target { direction: Direction::Outgoing, ..attack.target };
        let mut theirs = attack.clone();
        theirs.target = outgoing;
        policy.alarm(at(0), &theirs);
        policy.propose(at(0), outgoing, &[]);
        assert!(step(&mut policy, 60, &[&theirs]).is_empty());
        let group = GroupPolicy { enable_ban: true, enable_blackhole: false, ..GroupPolicy::default() };
        let (mut policy, attack) = defending(config_of(group));
        assert!(step(&mut policy, 60, &[&attack]).is_empty());
    }

    #[test]
    fn caps_on_blackholes_hold_and_are_said() {
        let mut policy = Policy::new(Config { max_blackholes: 1, ..config() });
        let both = ["203.0.113.9", "203.0.113.10"].map(|host| attack(host, at(0)));
        for attack in &both {
            policy.alarm(at(0), attack);
            policy.propose(at(0), attack.target, &[]);
        }
        let said = step(&mut policy, 5, &[&both[0], &both[1]]);
        assert!(said.contains(&format!("added {ALL}")), "{said:?}");
        assert!(said.contains(&"refused 203.0.113.10/32 Blackholes".to_owned()), "{said:?}");
        assert!(step(&mut policy, 6, &[&both[0], &both[1]]).is_empty(), "asked again after blackhole_after only");
    }

    #[test]
    fn a_covering_prefix_is_blackholed_only_where_the_group_says_so() {
        let blackhole = UnicastForm { lengths: (24, 48), ..UnicastForm::default() };
        let group = GroupPolicy { enable_ban: true, blackhole, ..GroupPolicy::default() };
        let (mut policy, attack) = defending(Config { max_blackhole_share: 1.0, ..config_of(group) });
        assert_eq!(step(&mut policy, 5, &[&attack]).last().map(String::as_str), Some("added 203.0.113.0/24"));
    }

    #[test]
    fn a_rule_stays_while_its_attack_goes_on_and_for_ban_time_at_least() {
        let (mut policy, mut attack) = defending(config());
        attack.over_since = None;
        assert!(step(&mut policy, 1000, &[&attack]).is_empty(), "the attack goes on");
        let (mut policy, attack) = defending(config());
        policy.over(attack.target);
        assert!(step(&mut policy, 59, &[]).is_empty(), "ban_time");
        assert_eq!(step(&mut policy, 60, &[]), [format!("removed {NTP}"), "probing".to_owned()]);
        assert!(wanted(&policy).is_empty());
        assert!(step(&mut policy, 69, &[]).is_empty());
        assert_eq!(step(&mut policy, 70, &[]), ["probe passed"]);
        assert!(policy.records(0).is_empty(), "nothing is remembered of it");
    }

    #[test]
    fn without_telemetry_nothing_ends() {
        let (mut policy, attack) = defending(config());
        policy.over(attack.target);
        policy.set_silent(true);
        assert!(step(&mut policy, 5000, &[]).is_empty());
        policy.set_silent(false);
        assert_eq!(step(&mut policy, 5001, &[]).len(), 2);
    }

    #[test]
    fn an_attack_behind_a_blackhole_brings_it_back_for_twice_as_long_each_time() {
        let (mut policy, attack) = defending(config());
        step(&mut policy, 5, &[&attack]);
        policy.over(attack.target);
        let mut now = 5;
        for lasts in [60, 120, 240] {
            now += lasts;
            assert!(step(&mut policy, now, &[]).contains(&"probing".to_owned()), "{now}");
            assert!(wanted(&policy).is_empty(), "{now}");
            now += 1;
            let said = words(&policy.alarm(at(now), &attack));
            assert_eq!(said[0], format!("probe failed {}s", lasts * 2));
            assert_eq!(wanted(&policy), [ALL, NTP], "both are back");
            policy.over(attack.target);
        }
        assert_eq!(ban_time(Duration::from_secs(60), 40), LONGEST_BAN);
        assert_eq!(ban_time(LONGEST_BAN * 2, 3), LONGEST_BAN * 2, "never shorter than what is configured");
    }

    #[test]
    fn rules_come_back_to_the_same_attack_and_not_to_another() {
        for (port, comes_back) in [(123, true), (53, false)] {
            let (mut policy, attack) = defending(config());
            policy.over(attack.target);
            assert!(step(&mut policy, 60, &[]).contains(&"probing".to_owned()));
            assert!(policy.alarm(at(61), &attack).is_empty(), "the sample shows which");
            let said = words(&policy.sampled(at(61), target(HOST), &vec![packet(HOST, port); 10]));
            if comes_back {
                assert_eq!(said, ["probe failed 120s".to_owned(), format!("added {NTP}")]);
            } else {
                assert_eq!(said, ["probe passed"]);
                assert!(wanted(&policy).is_empty());
            }
        }
    }

    #[test]
    fn what_was_a_dry_run_hid_nothing_and_is_not_probed_for() {
        let (mut policy, attack) = defending(Config { enable_ban: false, ..config() });
        policy.over(attack.target);
        assert_eq!(step(&mut policy, 60, &[]), [format!("removed {NTP}")]);
        assert!(policy.records(0).is_empty());
    }

    #[test]
    fn a_probe_that_fails_under_new_rails_brings_back_only_what_they_allow() {
        let (mut policy, attack) = defending(config());
        step(&mut policy, 5, &[&attack]);
        policy.over(attack.target);
        assert!(step(&mut policy, 65, &[]).contains(&"probing".to_owned()));
        policy.reconfigure(Config { protected: vec![attack.target.prefix], ..config() });
        let said = words(&policy.alarm(at(66), &attack));
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[1].ends_with("Protected") && said[2].ends_with("Protected"), "{said:?}");
        assert!(wanted(&policy).is_empty());
    }
}
