//! [`Model`]: the content of our nftables table, and the script that turns one content into another in a single transaction.
//!
//! The kernel applies a script as a whole or not at all, so no packet ever sees a half-made table; what does not change is not
//! touched, so counters and rate limits go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Name of our table, family included.
pub const TABLE: &str = "inet floodwall";

/// A set of key to verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// `typeof KEY : verdict; ...`.
    pub(super) declaration: String,
    /// Key to rule (as a comment) and verdict.
    pub(super) elements: BTreeMap<String, (Option<u32>, String)>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// `type filter hook ...` of a base chain.
    pub(super) hook: Option<String>,
    /// Its rules.
    pub(super) rules: Vec<String>,
}

/// Chains, maps and limits of one nftables table, as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// Limits: name to body.
    pub(super) limits: BTreeMap<String, String>,
    /// Counters by name.
    pub(super) counters: BTreeSet<String>,
    pub(super) maps: BTreeMap<String, Map>,
    pub(super) chains: BTreeMap<String, Chain>,
}

impl Model {
    /// The script that makes the table from nothing, whatever was there before.
    #[must_use]
    pub fn script(&self) -> String {
        format!("add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n{}", self.difference(&Self::default()))
    }

    /// The script that removes everything of ours.
    #[must_use]
    pub fn removal() -> String {
        format!("add table {TABLE}\ndelete table {TABLE}\n")
    }

    /// The script that turns `before` into this. Objects are made before they are used and deleted when nothing uses them.
    #[must_use]
    pub fn difference(&self, before: &Self) -> String {
        let mut out = String::new();
        for name in self.counters.difference(&before.counters) {
            line(&mut out, format_args!("add counter {TABLE} {name}"));
        }
        for (name, body) in &self.limits {
            if !before.limits.contains_key(name) {
                line(&mut out, format_args!("add limit {TABLE} {name} {{ {body} }}"));
            }
        }
        let is_same =
            |name: &String, map: &Map| before.maps.get(name).is_some_and(|b| b.declaration == map.declaration);
        for (name, map) in self.maps.iter().filter(|(n, m)| !is_same(n, m)) {
            line(&mut out, format_args!("add map {TABLE} {name} {{ {} }}", map.declaration));
        }
        for (name, chain) in self.chains.iter().filter(|(n, _)| !before.chains.contains_key(*n)) {
            match &chain.hook {
                Some(hook) => line(&mut out, format_args!("add chain {TABLE} {name} {{ {hook} }}")),
                None => line(&mut out, format_args!("add chain {TABLE} {name}")),
            }
        }
        let changed: Vec<&String> =
            before.chains.iter().filter(|(n, c)| self.chains.get(*n) != Some(c)).map(|(n, _)| n).collect();
        for name in &changed {
            line(&mut out, format_args!("flush chain {TABLE} {name}"));
        }
        self.elements(before, &mut out);
        for (name, chain) in self.chains.iter().filter(|(n, c)| before.chains.get(*n) != Some(c)) {
            for rule in &chain.rules {
                line(&mut out, format_args!("add rule {TABLE} {name} {rule}"));
            }
        }
        for name in before.maps.keys().filter(|n| !self.maps.contains_key(*n)) {
            line(&mut out, format_args!("delete map {TABLE} {name}"));
        }
        for name in before.chains.keys().filter(|n| !self.chains.contains_key(*n)) {
            line(&mut out, format_args!("delete chain {TABLE} {name}"));
        }
        for name in before.limits.keys().filter(|n| !self.limits.contains_key(*n)) {
            line(&mut out, format_args!("delete limit {TABLE} {name}"));
        }
        for name in before.counters.difference(&self.counters) {
            line(&mut out, format_args!("delete counter {TABLE} {name}"));
        }
        out
    }

    fn elements(&self, before: &Self, out: &mut String) {
        let none = BTreeMap::new();
        // A map that goes must let go of its chains first.
        for (name, map) in before.maps.iter().filter(|(n, _)| !self.maps.contains_key(*n)) {
            if !map.elements.is_empty() {
                line(out, format_args!("flush map {TABLE} {name}"));
            }
        }
        for (name, map) in &self.maps {
            let old = before.maps.get(name).map_or(&none, |m| &m.elements);
            let gone =
                old.iter().filter(|(key, value)| map.elements.get(*key) != Some(value)).map(|(key, _)| key.clone());
            list(out, &format!("delete element {TABLE} {name}"), gone);
            let new = map.elements.iter().filter(|(key, value)| old.get(*key) != Some(value));
            let new = new.map(|(key, (rule, verdict))| match rule {
                Some(rule) => format!("{key} comment \"r{rule}\" : {verdict}"),
                None => format!("{key} : {verdict}"),
            });
            list(out, &format!("add element {TABLE} {name}"), new);
        }
    }

    /// Names of maps whose elements count packets of rules.
    pub(super) fn counting_maps(&self) -> impl Iterator<Item = &String> {
        self.maps.iter().filter(|(_, m)| m.elements.values().any(|(rule, _)| rule.is_some())).map(|(name, _)| name)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Elements of one command: so many that a command is short, so few that a refused one is found quickly.
const PER_COMMAND: usize = 256;

fn list(out: &mut String, command: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    for chunk in elements.chunks(PER_COMMAND) {
        line(out, format_args!("{command} {{ {} }}", chunk.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rules: &[&str]) -> Chain {
        Chain { hook: None, rules: rules.iter().map(|r| (*r).to_owned()).collect() }
    }

    #[test]
    fn only_what_differs_is_touched_and_references_stay_valid_on_the_way() {
        let mut before = Model::default();
        before.counters.extend(["r1".to_owned(), "r2".to_owned()]);
        before.chains.insert("a1".to_owned(), chain(&["counter name r1 drop"]));
        before.chains.insert("v4".to_owned(), chain(&["ip daddr vmap @d"]));
        let elements = BTreeMap::from([("192.0.2.1".to_owned(), (None, "jump a1".to_owned()))]);
        before.maps.insert("d".to_owned(), Map { declaration: "type ipv4_addr : verdict;".to_owned(), elements });
        assert_eq!(before.difference(&before), "");
        let mut after = before.clone();
        after.counters.remove("r1");
        after.chains.remove("a1");
        after.maps.clear();
        after.chains.insert("v4".to_owned(), chain(&["counter name r2 drop"]));
        assert_eq!(
            after.difference(&before),
            "flush chain inet floodwall a1\nflush chain inet floodwall v4\nflush map inet floodwall d\n\
             add rule inet floodwall v4 counter name r2 drop\ndelete map inet floodwall d\n\
             delete chain inet floodwall a1\ndelete counter inet floodwall r1\n"
        );
    }
}
