//! What operators (and the API) order: rules, blackholes, remote bans, approval, `withdraw-all`. Announced regardless of dry run
//! (decision 4), within the rails.

use bgp::budget::Account;
use bgp::{Announcement, Class, Community, Route};
use flowspec::{Condition, FlowSpec, Pattern};
use traffic::{Direction, Prefix, Target, Time};

use super::{Decision, Mitigation, Order, Policy, Refusal};
use crate::rails::{self, Violation};

/// Why an order is refused; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A safety rail.
    #[error("refused: {0}")]
    Rail(#[from] Violation),
    /// The guide's validation (decision 2).
    #[error("refused: {0} (flow_spec_execute_validation = false would allow it)")]
    Validation(String),
    /// No peer gets this class.
    #[error("refused: no BGP peer has {0} on: set bgp NAME {0} enable, then commit")]
    NoPeer(&'static str),
    /// The policy's own bounds.
    #[error("refused: {}", .0.text())]
    Policy(Refusal),
    /// There is no such thing.
    #[error("there is no such {0}: see show {0}")]
    Unknown(&'static str),
    /// It has ended already.
    #[error("it would end before it begins: choose a longer time")]
    Expired,
}

impl Policy {
    /// `set flowspec`: announces a rule at once. One that is there already gets the new actions and order.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn order_flowspec(&mut self, now: Time, rule: &FlowSpec, order: Order) -> Result<Vec<Decision>, OrderError> {
        if order.is_over(now) {
            return Err(OrderError::Expired);
        }
        let pattern = rails::clamp(&rule.pattern)?;
        let route = Route::FlowSpec(pattern.clone());
        let (class, own_end) = self.space.classify(&route)?;
        if self.config.flow_spec.execute_validation {
            self.validate(&pattern, class)?;
        }
        let mut announcement = Announcement { actions: rule.actions.clone(), ..Announcement::default() };
        if class == Class::RemoteBan {
            announcement.communities.push(Community::NO_EXPORT);
        }
        let announcement = announcement.within(own_end).manual();
        self.space.check(&route, &announcement)?;
        self.check_class(class)?;
        let exists = self.manual.contains_key(&route);
        if !exists && !self.has_room(Account::of(announcement.origin, class)) {
            return Err(OrderError::Policy(Refusal::Rules));
        }
        self.check_order(&route, &announcement).map_err(OrderError::Policy)?;
        let target = Target { prefix: own_end, direction: direction(class) };
        Ok(self.put(now, Mitigation::manual(now, target, route, announcement, order)))
    }

    /// `set blackhole`: announces a blackhole at once; the host's rules are withdrawn and mining stops (decision 3).
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn order_blackhole(&mut self, now: Time, prefix: Prefix, order: Order) -> Result<Vec<Decision>, OrderError> {
        if order.is_over(now) {
            return Err(OrderError::Expired);
        }
        if self.config.flow_spec.execute_validation && !prefix.is_host() {
            return Err(OrderError::Validation(format!(
                "{prefix} is not a host: write a /{}",
                prefix.version().bits()
            )));
        }
        let route = Route::Unicast(prefix);
        let (class, own_end) = self.space.classify(&route)?;
        let shape = self.config.group("global").blackhole;
        let mut announcement = Announcement::blackhole();
        announcement.communities.extend(&shape.communities);
        announcement.large_communities.extend(&shape.large_communities);
        announcement.extended_communities.extend(&shape.extended_communities);
        let announcement = announcement.within(own_end).manual();
        self.space.check(&route, &announcement)?;
        self.check_class(class)?;
        let target = Target { prefix: own_end, direction: Direction::Incoming };
        Ok(self.put(now, Mitigation::manual(now, target, route, announcement, order)))
    }

    /// Decision 2: prefixes, if present, are host length and at least one is ours. A remote ban has none that is ours, and is a
    /// host's by its own rail.
    fn validate(&self, pattern: &Pattern, class: Class) -> Result<(), OrderError> {
        for condition in pattern.conditions() {
            if let Condition::Destination(prefix, _) | Condition::Source(prefix, _) = condition
                && !prefix.is_host()
            {
                let which = if condition.component_type() == 1 { "destination_prefix" } else { "source_prefix" };
                let text = format!("{which} {prefix} is not a host: write a /{}", prefix.version().bits());
                return Err(OrderError::Validation(text));
            }
        }
        let any_peer = self.config.peers.iter().any(|p| p.classes.remote_bans);
        if class == Class::RemoteBan && !any_peer {
            return Err(OrderError::Rail(Violation::Foreign));
        }
        Ok(())
    }

    fn check_class(&self, class: Class) -> Result<(), OrderError> {
        let on = |c: &bgp::Classes| match class {
            Class::Incoming => c.incoming,
            Class::Outgoing => c.outgoing,
            Class::RemoteBan => c.remote_bans,
        };
        // Without any peer the order waits for one.
        let silent = self.config.peers.is_empty() && class != Class::RemoteBan;
        if silent || self.config.peers.iter().any(|p| on(&p.classes)) {
            Ok(())
        } else {
            Err(OrderError::NoPeer(class.key()))
        }
    }

    fn put(&mut self, now: Time, mut mitigation: Mitigation) -> Vec<Decision> {
        self.settle(now, &mut mitigation);
        self.manual.insert(mitigation.route.clone(), mitigation.clone());
        let mut decisions = vec![Decision::Added(mitigation)];
        // A blackhole holds the host's rules back at once.
        self.settle_all(now, &mut decisions);
        decisions
    }

    /// `delete flowspec` and `delete blackhole`: ends an order, or an automatic route, which then counts as over.
    ///
    /// # Errors
    /// [`OrderError::Unknown`].
    pub fn remove(&mut self, now: Time, route: &Route) -> Result<Vec<Decision>, OrderError> {
        let mut decisions = Vec::new();
        decisions.extend(self.manual.remove(route).map(Decision::Removed));
        for case in self.cases.values_mut() {
            case.mitigations.retain(|m| {
                let goes = m.route == *route;
                if goes {
                    decisions.push(Decision::Removed(m.clone()));
                }
                !goes
            });
            if let Some(probe) = &mut case.probe {
                probe.mitigations.retain(|m| m.route != *route);
            }
        }
        if decisions.is_empty() {
            let what = if matches!(route, Route::FlowSpec(_)) { "flowspec" } else { "blackhole" };
            return Err(OrderError::Unknown(what));
        }
        self.settle_all(now, &mut decisions);
        Ok(decisions)
    }

    /// An operator's yes to a route that waits for it.
    ///
    /// # Errors
    /// [`OrderError::Unknown`].
    pub fn approve(&mut self, now: Time, route: &Route) -> Result<Vec<Decision>, OrderError> {
        let mut found = false;
        for m in self.cases.values_mut().flat_map(|c| &mut c.mitigations).filter(|m| m.route == *route) {
            m.approved = true;
            found = true;
        }
        if !found {
            return Err(OrderError::Unknown("flowspec"));
        }
        let mut decisions = Vec::new();
        self.settle_all(now, &mut decisions);
        Ok(decisions)
    }

    /// The kill switch: everything is withdrawn and nothing is announced until [`Policy::resume`], also after a restart.
    pub fn withdraw_all(&mut self, now: Time, order: Order) -> Vec<Decision> {
        let routes = self.all().filter(|m| m.dry_run.is_none()).count();
        let mut decisions = vec![Decision::WithdrawnAll { routes, owner: order.owner.clone() }];
        self.halted = Some(order);
        self.settle_all(now, &mut decisions);
        decisions
    }

    /// Allows announcing again and closes the breaker.
    pub fn resume(&mut self, now: Time, order: &Order) -> Vec<Decision> {
        self.halted = None;
        self.breaker.close();
        let mut decisions = vec![Decision::Resumed { owner: order.owner.clone() }];
        self.settle_all(now, &mut decisions);
        decisions
    }

    pub(super) fn expire_orders(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        self.manual.retain(|_, m| {
            let ends = m.order.as_ref().is_some_and(|order| order.is_over(now));
            if ends {
                decisions.push(Decision::Removed(m.clone()));
            }
            !ends
        });
    }
}

const fn direction(class: Class) -> Direction {
    match class {
        Class::Incoming => Direction::Incoming,
        Class::Outgoing | Class::RemoteBan => Direction::Outgoing,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bgp::{Classes, Peer};
    use flowspec::json;

    use super::super::fixture::{at, attack, attacks, config, config_of, order, prefix, proposal, rule, wanted, words};
    use super::super::{DryRun, Held, Order};
    use super::*;
    use crate::config::{Config, GroupPolicy, Mode};

    const HOST: &str = "203.0.113.9";
    const NTP: &str = "flow destination 203.0.113.9/32 protocol udp source-port 123";
    const ALL: &str = "203.0.113.9/32";

    fn ordered(policy: &mut Policy, text: &str) -> Result<Vec<Decision>, OrderError> {
        policy.order_flowspec(at(0), &json::parse(text).expect("a rule"), order(at(0), None))
    }

    #[test]
    fn what_operators_order_is_announced_in_a_dry_run_too() {
        let mut policy = Policy::new(Config { enable_ban: false, ..config() });
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("taken");
        policy.order_blackhole(at(0), prefix("203.0.113.10"), order(at(0), None)).expect("taken");
        assert_eq!(wanted(&policy), ["203.0.113.10/32", NTP]);
    }

    #[test]
    fn an_order_ends_when_it_says_and_one_that_has_ended_is_not_taken() {
        let mut policy = Policy::new(config());
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), Some(60))).expect("taken");
        let mut step = |seconds| words(&policy.step(at(seconds), &Default::default(), &Default::default()));
        assert!(step(59).is_empty());
        assert_eq!(step(60), [format!("removed {NTP}")]);
        let late = policy.order_flowspec(at(100), &rule(HOST, 123), order(at(0), Some(60)));
        assert_eq!(late, Err(OrderError::Expired));
        assert_eq!(policy.order_blackhole(at(100), prefix(HOST), order(at(0), Some(60))), Err(OrderError::Expired));
    }

    #[test]
    fn validation_wants_hosts_and_turning_it_off_relaxes_exactly_that() {
        let wide = r#"{"destination_prefix": "203.0.113.0/24", "protocols": ["udp"], "action_type": "discard"}"#;
        let foreign = r#"{"destination_prefix": "198.51.100.9/32", "action_type": "discard"}"#;
        let mut policy = Policy::new(config());
        let error = ordered(&mut policy, wide).expect_err("too wide").to_string();
        assert!(error.contains("write a /32") && error.contains("flow_spec_execute_validation"), "{error}");
        let error = policy.order_blackhole(at(0), prefix("203.0.113.0/25"), order(at(0), None)).expect_err("too wide");
        assert!(matches!(error, OrderError::Validation(_)));
        let mut loose = config();
        loose.flow_spec.execute_validation = false;
        let mut policy = Policy::new(loose);
        ordered(&mut policy, wide).expect("a /24 of ours");
        assert_eq!(ordered(&mut policy, foreign), Err(OrderError::Rail(Violation::Foreign)), "the rails stay");
    }

    #[test]
    fn an_order_that_no_peer_gets_is_refused_with_the_switch_to_turn() {
        let peer = |incoming, outgoing| Peer {
            name: "r1".to_owned(),
            remote_address: "192.0.2.1".parse().expect("address"),
            classes: Classes { incoming, outgoing, remote_bans: false },
            ..Peer::default()
        };
        let mut policy = Policy::new(Config { peers: vec![peer(false, true)], ..config() });
        let error = policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect_err("no peer");
        assert_eq!(error, OrderError::NoPeer("announce_incoming"));
        assert!(error.to_string().contains("set bgp NAME announce_incoming enable"), "{error}");
        let mut policy = Policy::new(Config { peers: vec![peer(true, false)], ..config() });
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("taken");
    }

    #[test]
    fn a_blackhole_by_hand_replaces_the_hosts_rules_until_it_is_deleted() {
        let mut policy = Policy::new(config());
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        assert_eq!(wanted(&policy), [NTP]);
        let said = words(&policy.order_blackhole(at(1), prefix(HOST), order(at(1), None)).expect("taken"));
        assert_eq!(said, [format!("added {ALL}"), format!("changed {NTP} Some(Blackholed)")]);
        assert_eq!(wanted(&policy), [ALL]);
        assert!(policy.is_blackholed_by_hand(attack.target), "nothing is mined meanwhile");
        let refused = words(&policy.propose(at(2), attack.target, &[proposal(HOST, 53)]));
        assert!(refused[0].ends_with("Blackholed"), "{refused:?}");
        let said = words(&policy.remove(at(3), &Route::Unicast(prefix(HOST))).expect("there"));
        assert_eq!(said, [format!("removed {ALL}"), format!("changed {NTP} None")]);
        assert_eq!(wanted(&policy), [NTP]);
    }

    #[test]
    fn what_is_removed_by_hand_is_gone_wherever_it_came_from() {
        let mut policy = Policy::new(config());
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("the same by hand");
        let route = Route::FlowSpec(rule(HOST, 123).pattern);
        assert_eq!(policy.remove(at(1), &route).expect("both").len(), 2);
        assert!(wanted(&policy).is_empty());
        let error = policy.remove(at(1), &route).expect_err("gone").to_string();
        assert!(error.contains("show flowspec"), "{error}");
    }

    #[test]
    fn where_a_persons_word_is_wanted_nothing_is_announced_before_it() {
        let group = GroupPolicy { enable_ban: true, mode: Mode::Approve, ..GroupPolicy::default() };
        let mut policy = Policy::new(config_of(group));
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        assert!(wanted(&policy).is_empty());
        assert_eq!(policy.of(attack.target)[0].dry_run, Some(DryRun::AwaitingApproval));
        let route = Route::FlowSpec(rule(HOST, 123).pattern);
        assert_eq!(words(&policy.approve(at(9), &route).expect("waits")), [format!("changed {NTP} None")]);
        assert_eq!(wanted(&policy), [NTP]);
        assert!(policy.approve(at(9), &Route::FlowSpec(rule(HOST, 53).pattern)).is_err());
    }

    #[test]
    fn what_rests_on_a_doubted_rate_waits_for_approval_while_the_doubt_lasts() {
        let mut policy = Policy::new(config());
        let (doubted, certain) = (attack(HOST, at(0)), attack("203.0.113.10", at(0)));
        let other = "flow destination 203.0.113.10/32 protocol udp source-port 123";
        [&doubted, &certain].iter().for_each(|attack| assert!(policy.alarm(at(0), attack).is_empty()));
        policy.doubt([doubted.target].into());
        policy.propose(at(0), doubted.target, &[proposal(HOST, 123), proposal(HOST, 53)]);
        policy.propose(at(0), certain.target, &[proposal("203.0.113.10", 123)]);
        assert_eq!(wanted(&policy), [other], "nobody else's attack waits");
        assert!(policy.of(doubted.target).iter().all(|m| m.dry_run == Some(DryRun::Doubted)));
        policy.approve(at(1), &Route::FlowSpec(rule(HOST, 123).pattern)).expect("waits");
        assert_eq!(wanted(&policy).len(), 2);
        // The doubt ends; one that comes later takes nothing back.
        for doubts in [BTreeSet::new(), [doubted.target].into()] {
            policy.doubt(doubts);
            policy.step(at(2), &attacks(&[&doubted, &certain]), &Held::new());
            assert_eq!(policy.of(doubted.target).iter().filter(|m| m.dry_run.is_none()).count(), 2);
        }
    }

    #[test]
    fn the_kill_switch_holds_everything_back_until_it_is_turned_off() {
        let mut policy = Policy::new(config());
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        policy.order_blackhole(at(0), prefix("203.0.113.10"), order(at(0), None)).expect("taken");
        let said = words(&policy.withdraw_all(at(1), order(at(1), None)));
        assert_eq!(said[0], "withdrawn 2");
        assert!(wanted(&policy).is_empty());
        policy.order_blackhole(at(2), prefix("203.0.113.11"), order(at(2), None)).expect("remembered");
        assert!(wanted(&policy).is_empty(), "also what is ordered now");
        assert_eq!(policy.halted().map(|o| o.owner.as_str()), Some("alice"));
        policy.resume(at(3), &order(at(3), None));
        assert_eq!(wanted(&policy), ["203.0.113.10/32", "203.0.113.11/32", NTP]);
    }

    #[test]
    fn the_budget_and_the_order_of_rules_bind_operators_too() {
        let mut policy = Policy::new(Config { max_rules: 1, ..config() });
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("one");
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("the same again");
        let full = policy.order_flowspec(at(0), &rule(HOST, 53), order(at(0), None));
        assert_eq!(full, Err(OrderError::Policy(Refusal::Rules)));

        let mut policy = Policy::new(config());
        let accept = r#"{"destination_prefix": "203.0.113.9/32", "source_ports": [123], "action_type": "accept"}"#;
        policy.order_flowspec(at(0), &rule(HOST, 123), order(at(0), None)).expect("taken");
        assert_eq!(ordered(&mut policy, accept), Err(OrderError::Policy(Refusal::ShadowedAccept)));
        let limit = |ports: &str| {
            format!(
                r#"{{"destination_prefix": "203.0.113.8/32", "ports": [{ports}], "action_type": "rate-limit", "action": {{"rate": 9}}}}"#
            )
        };
        ordered(&mut policy, &limit("53")).expect("taken");
        assert_eq!(ordered(&mut policy, &limit("53, 80")), Err(OrderError::Policy(Refusal::OverlappingRateLimits)));
    }

    #[test]
    fn texts_of_an_order_are_cut_between_characters() {
        let order = Order::new(&"ä".repeat(300), &"x".repeat(300), at(0), None);
        assert_eq!((order.owner.len(), order.reason.len()), (256, 256));
        assert_eq!(Order::new(&format!("x{}", "ä".repeat(300)), "", at(0), None).owner.len(), 255);
    }

    #[test]
    fn two_hundred_bans_and_as_many_orders_leave_room_for_the_rule_against_an_attack() {
        let classes = Classes { incoming: true, outgoing: true, remote_bans: true };
        let peer = Peer { name: "r1".to_owned(), classes, ..Peer::default() };
        let mut policy = Policy::new(Config { peers: vec![peer], ..config() });
        let mut taken = [0, 0];
        for i in 0..400 {
            let ban = format!(r#"{{"source_prefix": "198.51.{}.{}/32", "action_type": "discard"}}"#, i / 200, i % 200);
            taken[0] += usize::from(ordered(&mut policy, &ban).is_ok());
        }
        for i in 0..400 {
            let text = format!(
                r#"{{"destination_prefix": "203.0.113.{}/32", "protocols": ["udp"], "source_ports": [{i}], "action_type": "discard"}}"#,
                i % 200
            );
            taken[1] += usize::from(ordered(&mut policy, &text).is_ok());
        }
        assert_eq!(taken, [130, 20], "of 200: 50 are mitigation's, 20 the operators'");
        let victim = attack("203.0.113.250", at(0));
        policy.alarm(at(0), &victim);
        for port in 0..5 {
            policy.propose(at(0), victim.target, &[proposal("203.0.113.250", 10_000 + port)]);
        }
        assert_eq!(policy.of(victim.target).len(), 5);
    }

    #[test]
    fn addresses_that_are_no_hosts_are_nobody_to_ban() {
        let classes = Classes { incoming: true, outgoing: true, remote_bans: true };
        let router = "192.0.2.1".parse().expect("address");
        let peer = Peer { name: "r1".to_owned(), remote_address: router, classes, ..Peer::default() };
        let mut policy = Policy::new(Config { peers: vec![peer], ..config() });
        let mut ban = |host: &str| {
            let rule = format!(r#"{{"source_prefix": "{}", "action_type": "discard"}}"#, prefix(host));
            (ordered(&mut policy, &rule), policy.order_blackhole(at(0), prefix(host), order(at(0), None)))
        };
        let nobody = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.9",
            "169.254.1.1",
            "224.0.0.5",
            "240.1.2.3",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "::ffff:198.51.100.7",
        ];
        for host in nobody {
            let refused = OrderError::Rail(Violation::Special);
            assert_eq!(ban(host), (Err(refused.clone()), Err(refused)), "{host}");
        }
        for host in ["198.51.100.7", "1.0.0.1", "223.255.255.254", "2a00::1", "fec0::1"] {
            let (rule, hole) = ban(host);
            assert!(rule.is_ok() && hole.is_ok(), "{host}");
        }
    }
}
