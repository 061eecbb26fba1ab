//! Rules of several victims that are the same but for the destination become one, where the rails allow the wider prefix.

use std::collections::BTreeMap;

use detector::{Condition, Pattern, Prefix};

/// Merges rules that differ in their destination alone. A covering prefix is used when it holds at least `least` of the rules'
/// destinations and `allowed` says that a rule may be so wide; the narrowest such prefix is taken. The order of the result is that of
/// the patterns; what cannot be merged stays as it is.
///
/// ```
/// use mitigation::miner::merge;
/// let rule = |text: &str| detector::Pattern::new(vec![
///     detector::Condition::Destination(text.parse().unwrap(), 0),
///     detector::Condition::Protocol(detector::Ranges::value(17)),
/// ]).unwrap();
/// let rules = [rule("203.0.113.4"), rule("203.0.113.5"), rule("203.0.113.6"), rule("198.51.100.1")];
/// let merged = merge(&rules, 3, |prefix| prefix.length() >= 24);
/// assert_eq!(merged, [rule("198.51.100.1"), rule("203.0.113.4/30")]);
/// ```
#[must_use]
pub fn merge(rules: &[Pattern], least: usize, allowed: impl Fn(&Prefix) -> bool) -> Vec<Pattern> {
    let mut alike: BTreeMap<Vec<Condition>, Vec<Prefix>> = BTreeMap::new();
    let mut merged: Vec<Pattern> = Vec::new();
    for rule in rules {
        let rest = rule.conditions().iter().filter(|c| !matches!(c, Condition::Destination(..))).cloned().collect();
        match rule.destination() {
            Some(destination) => alike.entry(rest).or_default().push(destination),
            None => merged.push(rule.clone()),
        }
    }
    for (rest, mut destinations) in alike {
        destinations.sort_unstable();
        destinations.dedup();
        for destination in cover(&destinations, least, &allowed) {
            let mut conditions = rest.clone();
            conditions.push(Condition::Destination(destination, 0));
            merged.extend(Pattern::new(conditions));
        }
    }
    merged.sort_unstable();
    merged.dedup();
    merged
}

/// The destinations, with those that a prefix may stand for replaced by it. Sorted in, so that neighbours share prefixes.
fn cover(destinations: &[Prefix], least: usize, allowed: &impl Fn(&Prefix) -> bool) -> Vec<Prefix> {
    let mut covered = Vec::new();
    let mut at = 0;
    while at < destinations.len() {
        // The narrowest prefix from here on that holds enough, then as many more as it holds.
        let first = destinations[at];
        let narrowest = (at + least.max(2) - 1..destinations.len())
            .map(|last| common(&first, &destinations[last]))
            .next()
            .flatten()
            .filter(|prefix| allowed(prefix));
        match narrowest {
            Some(prefix) => {
                covered.push(prefix);
                at += destinations[at..].iter().take_while(|d| prefix.contains(d)).count().max(1);
            }
            None => {
                covered.push(first);
                at += 1;
            }
        }
    }
    covered
}

/// The longest prefix that contains both.
fn common(a: &Prefix, b: &Prefix) -> Option<Prefix> {
    if a.version() != b.version() {
        return None;
    }
    let length = (a.bits() ^ b.bits()).leading_zeros().min(a.length().into()).min(b.length().into());
    Prefix::new(a.version(), a.bits(), u8::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::Ranges;

    fn rule(destination: &str, protocol: u32) -> Pattern {
        Pattern::new(vec![
            Condition::Destination(destination.parse().expect("literal"), 0),
            Condition::Protocol(Ranges::value(protocol)),
        ])
        .expect("valid")
    }

    #[test]
    fn rules_merge_only_where_the_rails_allow() {
        let rules: Vec<Pattern> = (0..8).map(|i| rule(&format!("203.0.113.{i}"), 17)).collect();
        assert_eq!(merge(&rules, 4, |_| false), rules);
        assert_eq!(merge(&rules, 8, |p| p.length() >= 24), [rule("203.0.113.0/29", 17)]);
    }

    #[test]
    fn rules_that_differ_elsewhere_stay_apart() {
        let rules = [rule("203.0.113.1", 6), rule("203.0.113.2", 17), rule("203.0.113.3", 6)];
        assert_eq!(merge(&rules, 3, |_| true), rules);
    }

    #[test]
    fn versions_are_never_mixed() {
        let rules = [rule("203.0.113.1", 6), rule("2001:db8::1", 6)];
        assert_eq!(merge(&rules, 2, |_| true).len(), 2);
    }
}
