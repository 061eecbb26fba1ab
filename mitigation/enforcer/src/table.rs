//! [`Table`]: the rules of all sources in one order, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::adj_rib_in::{Accept, AdjRibIn, Learned, Precedence};
use traffic::{Networks, Time};

use super::config::Config;
use super::plan::Plan;
use super::ruleset::Rule;

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The back end holds it.
    Installed,
    /// It is to be installed; the back end has not done so yet.
    Pending,
    /// It is not installed, and why.
    NotInstalled(String),
}

/// A rule of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Number, never used for another rule.
    pub id: u32,
    /// Source it was taken from.
    pub source: String,
    /// Sources that announced the same octets as well; the first by name counts.
    pub also: Vec<String>,
    /// What was announced.
    pub learned: Learned,
    /// What becomes of matching packets, if that can be done.
    pub plan: Option<Plan>,
    /// What became of it.
    pub state: State,
}

/// Rules of all sources in the order of RFC 8955 section 5.1.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<Precedence, Entry>,
    next: u32,
    /// Rules that the back end refused: not tried again until they are announced anew.
    refused: BTreeMap<u32, String>,
}

impl Table {
    /// Rules in RFC 8955 section 5.1's order.
    #[must_use]
    pub const fn entries(&self) -> &BTreeMap<Precedence, Entry> {
        &self.entries
    }

    /// Takes what the sources announce now, and returns the rules to install, in order.
    pub fn update(&mut self, config: &Config, tables: &BTreeMap<String, Arc<AdjRibIn>>) -> Vec<Rule> {
        let management = Networks::new(&config.management);
        let marks = config.redirects.iter().map(|(target, r)| (target.clone(), r.mark)).collect();
        let accepts: BTreeMap<&str, &Accept> = config.sources.iter().map(|s| (s.name.as_str(), &s.accept)).collect();
        let mut old = std::mem::take(&mut self.entries);
        for (source, rib) in tables {
            for (order, learned) in rib.rules() {
                let accept = accepts.get(source.as_str()).copied();
                if let Some(entry) = self.entries.get_mut(order) {
                    entry.also.push(source.clone());
                    // A source that may not have a rule does not keep it from one that may.
                    if entry.plan.is_none()
                        && let Ok(plan) = judge(learned, accept, &management, &marks, config)
                    {
                        entry.also.pop();
                        entry.also.push(std::mem::replace(&mut entry.source, source.clone()));
                        (entry.learned, entry.plan, entry.state) = (learned.clone(), Some(plan), State::Pending);
                    }
                    continue;
                }
                let before = old.remove(order);
                let same = before.as_ref().is_some_and(|b| b.source == *source && b.learned == *learned);
                let id = before.as_ref().map_or_else(
                    || {
                        self.next = self.next.wrapping_add(1);
                        self.next
                    },
                    |b| b.id,
                );
                if let (true, Some(mut entry)) = (same, before) {
                    entry.also.clear();
                    self.entries.insert(order.clone(), entry);
                    continue;
                }
                self.refused.remove(&id);
                let (plan, state) = match judge(learned, accept, &management, &marks, config) {
                    Ok(plan) => (Some(plan), State::Pending),
                    Err(reason) => (None, State::NotInstalled(reason)),
                };
                let (source, learned) = (source.clone(), learned.clone());
                self.entries.insert(order.clone(), Entry { id, source, also: Vec::new(), learned, plan, state });
            }
        }
        let live: BTreeSet<u32> = self.entries.values().map(|e| e.id).collect();
        self.refused.retain(|id, _| live.contains(id));
        self.wanted()
    }

    /// The rules to install, in order: all that may be and were not refused.
    #[must_use]
    pub fn wanted(&self) -> Vec<Rule> {
        let wanted = self.entries.values().filter(|e| !self.refused.contains_key(&e.id));
        wanted
            .filter_map(|e| {
                let plan = e.plan.clone()?;
                let flow = &e.learned.flow;
                Some(Rule { id: e.id, version: flow.version, pattern: flow.pattern.clone(), plan })
            })
            .collect()
    }

    /// The back end will not have these.
    pub fn refuse(&mut self, reasons: BTreeMap<u32, String>) {
        self.refused.extend(reasons);
    }

    /// The back end holds what was wanted; `never` are rules that no packet can match.
    pub fn installed(&mut self, never: &BTreeSet<u32>) {
        for entry in self.entries.values_mut().filter(|e| e.plan.is_some()) {
            entry.state = match self.refused.get(&entry.id) {
                Some(reason) => State::NotInstalled(reason.clone()),
                None if never.contains(&entry.id) => {
                    State::NotInstalled("no packet can match it: its conditions exclude each other".to_owned())
                }
                None => State::Installed,
            };
        }
    }

    /// The back end could not be reached: what is not in it yet says why.
    pub fn failed(&mut self, reason: &str) {
        for entry in self.entries.values_mut().filter(|e| e.plan.is_some() && e.state != State::Installed) {
            entry.state = State::NotInstalled(reason.to_owned());
        }
    }

    /// Since when the oldest rule is there, for status.
    #[must_use]
    pub fn oldest(&self) -> Option<Time> {
        self.entries.values().map(|e| e.learned.since).min()
    }
}

fn judge(
    learned: &Learned,
    accept: Option<&Accept>,
    management: &Networks,
    marks: &BTreeMap<String, u32>,
    config: &Config,
) -> Result<Plan, String> {
    use super::plan::NotPossible;
    use super::ruleset::Hook;
    let pattern = &learned.flow.pattern;
    let accept = accept.ok_or("its source is not configured")?;
    accept.check(pattern).map_err(|e| e.to_string())?;
    for (name, prefix) in [("destination", pattern.destination()), ("source", pattern.source())] {
        if let Some(prefix) = prefix.filter(|p| management.contain(p)) {
            return Err(format!("{name} {prefix} is protected: it lies in the management prefixes"));
        }
    }
    if let Some(destination) = pattern.destination()
        && let Some(source) =
            config.sources.iter().find(|s| destination.is_host() && destination.address() == s.remote_address)
    {
        return Err(format!("destination {destination} is protected: it is the BGP peer {}", source.name));
    }
    let plan = Plan::of(&learned.attributes, marks).map_err(|e| e.to_string())?;
    if plan.mark.is_some() && !matches!(config.hook, Hook::Prerouting | Hook::Ingress(_)) {
        return Err(NotPossible::RedirectHook.to_string());
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bgp::adj_rib_in::Allowed;
    use bgp::attribute::{Attributes, Update};
    use bgp::{Community, Route};
    use flowspec::Action;

    use super::*;
    use crate::{BackEndConfig, Source};

    fn source(name: &str, last: u8, allow: &str) -> Source {
        let allowed = Allowed { prefix: allow.parse().expect("prefix"), minimum_length: 24 };
        Source {
            name: name.to_owned(),
            remote_address: std::net::Ipv4Addr::new(192, 0, 2, last).into(),
            remote_asn: 65001,
            remote_port: 179,
            connect: false,
            local_address: None,
            md5_password: None,
            ttl_security_hops: None,
            blackholes: true,
            accept: Accept { destinations: vec![allowed], sources: Vec::new(), max_rules: 10 },
        }
    }

    fn config(sources: Vec<Source>) -> Config {
        Config {
            backend: BackEndConfig::Print,
            hook: super::super::ruleset::Hook::Forward,
            priority: 0,
            management: vec!["203.0.113.250/32".parse().expect("prefix")],
            redirects: BTreeMap::new(),
            listen: None,
            local_asn: 65100,
            router_id: std::net::Ipv4Addr::new(192, 0, 2, 100),
            hold_time: Duration::from_secs(90),
            sources,
            api_listen: "127.0.0.1:0".parse().expect("address"),
        }
    }

    /// A peer that blackholes these hosts.
    fn rib(hosts: &[&str]) -> Arc<AdjRibIn> {
        let mut attributes = Attributes::of_actions(vec![Action::Discard]);
        attributes.communities = vec![Community::BLACKHOLE];
        let announced = hosts.iter().map(|h| Route::Unicast(h.parse().expect("prefix"))).collect();
        let mut rib = AdjRibIn::new(10).with_blackholes(true);
        rib.apply(Time::from_seconds(1000, 0), &Update { announced, attributes, ..Update::default() });
        Arc::new(rib)
    }

    #[test]
    fn a_source_that_may_not_have_a_rule_does_not_keep_it_from_one_that_may() {
        let config = config(vec![source("a", 1, "198.51.100.0/24"), source("b", 2, "203.0.113.0/24")]);
        let tables = BTreeMap::from([
            ("a".to_owned(), rib(&["203.0.113.9/32"])),
            ("b".to_owned(), rib(&["203.0.113.9/32", "203.0.113.250/32"])),
        ]);
        let mut table = Table::default();
        for _ in 0..2 {
            let rules = table.update(&config, &tables);
            assert_eq!(rules.iter().map(|r| r.id).collect::<Vec<_>>(), [1], "the same number each time");
            let entries: Vec<&Entry> = table.entries().values().collect();
            assert_eq!((entries[0].source.as_str(), &entries[0].also[..]), ("b", &["a".to_owned()][..]));
            assert!(matches!(&entries[1].state, State::NotInstalled(why) if why.contains("protected")));
            table.installed(&BTreeSet::new());
        }
        // Without the one that may, the reason is that of the other.
        let rules = table.update(&config, &BTreeMap::from([("a".to_owned(), rib(&["203.0.113.9/32"]))]));
        assert!(rules.is_empty() && table.entries().len() == 1, "{:?}", table.entries());
    }
}
