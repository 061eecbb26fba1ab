//! Which addresses are ours, and which host group an address belongs to.

use collectors::IpVersion;

use crate::config::HostGroup;
use crate::target::Prefix;

/// Our own address space: disjoint prefixes, sorted, so that membership is one binary search.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    sorted: Vec<Prefix>,
}

impl Networks {
    /// From prefixes in any order; those inside others are dropped.
    #[must_use]
    pub fn new(prefixes: &[Prefix]) -> Self {
        let mut all = prefixes.to_vec();
        all.sort_unstable_by_key(|p| (p.version(), p.bits(), p.length()));
        let mut sorted: Vec<Prefix> = Vec::with_capacity(all.len());
        for prefix in all {
            if !sorted.last().is_some_and(|last| last.contains(&prefix)) {
                sorted.push(prefix);
            }
        }
        Self { sorted }
    }

    /// The prefixes, disjoint and sorted, IPv4 first.
    #[must_use]
    pub fn prefixes(&self) -> &[Prefix] {
        &self.sorted
    }

    /// The own prefix that holds the left-aligned address `bits`, if any.
    #[must_use]
    pub fn find(&self, version: IpVersion, bits: u128) -> Option<&Prefix> {
        let after = self.sorted.partition_point(|p| (p.version(), p.bits()) <= (version, bits));
        self.sorted[..after].last().filter(|p| p.contains_bits(version, bits))
    }

    /// Whether the whole of `prefix` is ours.
    #[must_use]
    pub fn contain(&self, prefix: &Prefix) -> bool {
        self.find(prefix.version(), prefix.bits()).is_some_and(|own| own.contains(prefix))
    }

    /// Whether any address of `prefix` is ours.
    #[must_use]
    pub fn overlap(&self, prefix: &Prefix) -> bool {
        self.sorted.iter().any(|own| own.overlaps(prefix))
    }
}

/// Longest-prefix membership in host groups.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Sorted by falling length, so that the first hit is the longest.
    by_length: Vec<(Prefix, usize)>,
}

impl Membership {
    /// From the groups; group 0 is `global` and holds what no other group does.
    #[must_use]
    pub fn new(groups: &[HostGroup]) -> Self {
        let mut by_length: Vec<_> =
            groups.iter().enumerate().flat_map(|(i, group)| group.networks.iter().map(move |p| (*p, i))).collect();
        by_length.sort_by_key(|&(p, i)| (std::cmp::Reverse(p.length()), p, i));
        Self { by_length }
    }

    /// Index of the group of an address.
    #[must_use]
    pub fn group_of(&self, version: IpVersion, bits: u128) -> usize {
        self.by_length.iter().find(|(p, _)| p.contains_bits(version, bits)).map_or(0, |&(_, group)| group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    #[test]
    fn nested_networks_are_one_and_versions_do_not_mix() {
        let networks = Networks::new(&[p("10.0.1.0/24"), p("10.0.0.0/8"), p("2001:db8::/32"), p("192.0.2.0/25")]);
        assert_eq!(networks.prefixes().len(), 3);
        assert!(networks.contain(&p("10.255.0.0/16")));
        assert!(!networks.contain(&p("192.0.2.0/24")));
        assert!(networks.overlap(&p("192.0.0.0/16")));
        assert!(networks.find(IpVersion::V6, p("10.0.0.1").bits()).is_none());
    }

    #[test]
    fn the_longest_prefix_decides_the_group() {
        let group = |name: &str, nets: &[&str]| HostGroup {
            name: name.to_owned(),
            networks: nets.iter().map(|t| p(t)).collect(),
            thresholds: Default::default(),
        };
        let members =
            Membership::new(&[group("global", &[]), group("a", &["10.0.0.0/8"]), group("b", &["10.1.0.0/16"])]);
        let of = |text: &str| members.group_of(p(text).version(), p(text).bits());
        assert_eq!((of("10.1.2.3"), of("10.2.0.0"), of("192.0.2.1")), (2, 1, 0));
    }
}
