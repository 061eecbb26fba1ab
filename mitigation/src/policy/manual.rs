//! What operators (and the API) order: rules, blackholes, remote bans, approval, `withdraw-all`. Announced regardless of dry run
//! (decision 4), within the rails.

use collectors::Time;
use detector::{Condition, Direction, Pattern, Prefix, Target};

use super::{Decision, Mitigation, Order, Policy, Refusal};
use crate::announcement::{Announcement, Community, Route};
use crate::flowspec::FlowSpec;
use crate::rails::{self, Class, Violation};

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
        if !exists && self.all().filter(|m| m.is_rule()).count() >= self.config.max_rules {
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
        let on = |c: &crate::config::Classes| match class {
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
