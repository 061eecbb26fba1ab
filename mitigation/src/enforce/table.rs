//! [`Table`]: the rules of all sources in one order, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use collectors::Time;
use detector::Networks;

use super::config::Config;
use super::plan::Plan;
use super::ruleset::Rule;
use crate::bgp::adj_rib_in::{Accept, AdjRibIn, Learned, Precedence};

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

/// See the module.
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
                if let Some(entry) = self.entries.get_mut(order) {
                    entry.also.push(source.clone());
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
                let accept = accepts.get(source.as_str()).copied();
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
