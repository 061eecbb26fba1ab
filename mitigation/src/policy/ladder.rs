//! The mitigation ladder: escalation when what is in force does not help, expiry, and probing when it hides the attack's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use collectors::{IpVersion, Sample, Time};
use detector::{Attack, Direction, Match, Pattern, Target};

use super::breaker::{host_count, own_hosts};
use super::{Decision, Held, Mitigation, Policy, Refusal};
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
    pub(super) fn escalate(&mut self, now: Time, attack: &Attack, held: &Held, decisions: &mut Vec<Decision>) {
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
        let limit = Rung::FlowSpec(vec![crate::Action::RateLimitBytes(1e6)]);
        let ladder = vec![limit, Rung::FlowSpec(vec![crate::Action::Discard]), Rung::Blackhole];
        let group = GroupPolicy { enable_ban: true, ladder, ..GroupPolicy::default() };
        let (mut policy, attack) = defending(config_of(group));
        assert_eq!(policy.of(attack.target)[0].announcement.text(), "rate-limit 1000000 bytes/s");
        let said = step(&mut policy, 5, &[&attack]);
        assert_eq!(said[0], "escalated from rate-limit to discard");
        assert_eq!(policy.of(attack.target)[0].announcement.text(), "discard");
        assert_eq!(step(&mut policy, 9, &[&attack]), [""; 0], "the discard has its time");
        assert_eq!(step(&mut policy, 10, &[&attack])[0], "escalated from discard to blackhole");
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
        assert!(policy.records().is_empty(), "nothing is remembered of it");
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
        assert!(policy.records().is_empty());
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
