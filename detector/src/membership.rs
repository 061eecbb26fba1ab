//! [`Membership`]: which host group an address belongs to.

use std::collections::BTreeMap;

use traffic::{IpVersion, Networks, Prefix};

use crate::config::HostGroup;

/// Which groups a host belongs to: its own by longest prefix, and any number of groups whose sum is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Index of the host's group.
    pub group: usize,
    /// Bit `n`: it counts for the `n`th group in [`Membership::totals`].
    pub totals: u64,
}

/// Membership in host groups.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Prefixes of host groups by falling length, so that the first hit is the longest; those of one length sorted.
    by_length: Vec<(u8, Vec<(Prefix, usize)>)>,
    /// Indices of the groups whose sum is watched.
    totals: Vec<usize>,
    total_networks: Vec<Networks>,
    kinds: Vec<Kind>,
    /// Prefixes longer than /24 of any group, sorted.
    long: Vec<Prefix>,
}

impl Membership {
    /// From the groups; group 0 is `global` and holds what no other group does. Total groups beyond
    /// [`MAX_TOTAL_GROUPS`](crate::config::MAX_TOTAL_GROUPS) are left out.
    #[must_use]
    pub fn new(groups: &[HostGroup]) -> Self {
        let mut lengths: BTreeMap<u8, Vec<(Prefix, usize)>> = BTreeMap::new();
        for (i, group) in groups.iter().enumerate().filter(|(_, g)| !g.is_total) {
            group.networks.iter().for_each(|p| lengths.entry(p.length()).or_default().push((*p, i)));
        }
        lengths.values_mut().for_each(|prefixes| prefixes.sort_unstable());
        let totals: Vec<usize> =
            (0..groups.len()).filter(|i| groups[*i].is_total).take(crate::config::MAX_TOTAL_GROUPS).collect();
        let mut long: Vec<Prefix> =
            groups.iter().flat_map(|g| &g.networks).filter(|p| p.length() > 24).copied().collect();
        long.sort_unstable();
        let mut membership = Self {
            by_length: lengths.into_iter().rev().collect(),
            total_networks: totals.iter().map(|i| Networks::new(&groups[*i].networks)).collect(),
            totals,
            kinds: Vec::new(),
            long,
        };
        membership.kinds = membership.possible(groups);
        membership
    }

    /// Every kind of host there can be: those at the first address of each prefix, and right behind its end.
    fn possible(&self, groups: &[HostGroup]) -> Vec<Kind> {
        let mut kinds = vec![Kind { group: 0, totals: 0 }];
        let whole = |version| Prefix::new(version, 0, 0).expect("a length of 0 is allowed");
        let everything = [whole(IpVersion::V4), whole(IpVersion::V6)];
        for prefix in groups.iter().flat_map(|g| &g.networks).chain(&everything) {
            let size = 1u128.checked_shl(u32::from(128 - prefix.length())).unwrap_or(0);
            for bits in [prefix.bits(), prefix.bits().wrapping_add(size)] {
                kinds.push(self.find(prefix.version(), bits));
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn find(&self, version: IpVersion, bits: u128) -> Kind {
        let is_in = |networks: &Networks| networks.find(version, bits).is_some();
        let totals =
            self.total_networks.iter().enumerate().filter(|(_, n)| is_in(n)).fold(0, |mask, (i, _)| mask | 1 << i);
        Kind { group: self.group_of(version, bits), totals }
    }

    /// Index of the group of an address.
    #[must_use]
    pub fn group_of(&self, version: IpVersion, bits: u128) -> usize {
        self.group_of_prefix(&Prefix::host_of(version, bits))
    }

    /// Index of the group that all of a prefix belongs to.
    #[must_use]
    pub fn group_of_prefix(&self, prefix: &Prefix) -> usize {
        let found =
            self.by_length.iter().filter(|(length, _)| *length <= prefix.length()).find_map(|(length, prefixes)| {
                let wide = prefix.widened(*length);
                prefixes.binary_search_by(|(p, _)| p.cmp(&wide)).ok().map(|i| prefixes[i].1)
            });
        found.unwrap_or(0)
    }

    /// Index in [`Membership::kinds`] of the groups of an address.
    #[must_use]
    pub fn kind_of(&self, version: IpVersion, bits: u128) -> u32 {
        let kind = self.find(version, bits);
        u32::try_from(self.kinds.binary_search(&kind).unwrap_or(0)).unwrap_or(0)
    }

    /// The kinds of hosts.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Indices of the groups whose sum is watched.
    #[must_use]
    pub fn totals(&self) -> &[usize] {
        &self.totals
    }

    /// Whether no group's border lies inside a /24.
    #[must_use]
    pub fn is_uniform(&self, prefix: &Prefix) -> bool {
        let after = self.long.partition_point(|p| (p.version(), p.bits()) < (prefix.version(), prefix.bits()));
        !self.long.get(after).is_some_and(|p| prefix.contains(p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    #[test]
    fn the_longest_prefix_decides_the_group() {
        let group = |name: &str, nets: &[&str]| HostGroup {
            name: name.to_owned(),
            networks: nets.iter().map(|t| p(t)).collect(),
            ..HostGroup::default()
        };
        let members =
            Membership::new(&[group("global", &[]), group("a", &["10.0.0.0/8"]), group("b", &["10.1.0.0/16"])]);
        let of = |text: &str| members.group_of(p(text).version(), p(text).bits());
        assert_eq!((of("10.1.2.3"), of("10.2.0.0"), of("192.0.2.1")), (2, 1, 0));
        assert_eq!(members.group_of_prefix(&p("10.0.0.0/14")), 1, "not all of it is in the longer prefix");
    }

    #[test]
    fn kinds_tell_hosts_of_different_groups_apart() {
        let group = |name: &str, nets: &[&str], is_total: bool| HostGroup {
            name: name.to_owned(),
            networks: nets.iter().map(|t| p(t)).collect(),
            is_total,
            ..HostGroup::default()
        };
        let members = Membership::new(&[
            group("global", &[], false),
            group("a", &["10.0.0.0/28"], false),
            group("sum", &["10.0.0.8/29", "2001:db8::/48"], true),
        ]);
        let kind = |text: &str| members.kinds()[members.kind_of(p(text).version(), p(text).bits()) as usize];
        assert_eq!(kind("10.0.0.1"), Kind { group: 1, totals: 0 });
        assert_eq!(kind("10.0.0.9"), Kind { group: 1, totals: 1 });
        assert_eq!(kind("10.0.0.16"), Kind { group: 0, totals: 0 });
        assert_eq!(kind("2001:db8::5"), Kind { group: 0, totals: 1 });
        assert!(!members.is_uniform(&p("10.0.0.0/24")) && members.is_uniform(&p("10.0.1.0/24")));
    }
}
