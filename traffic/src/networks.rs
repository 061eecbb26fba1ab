//! [`Networks`]: which addresses are ours.

use crate::sample::IpVersion;
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

    /// Position of that prefix among [`Networks::prefixes`].
    #[must_use]
    pub fn position(&self, version: IpVersion, bits: u128) -> Option<usize> {
        let after = self.sorted.partition_point(|p| (p.version(), p.bits()) <= (version, bits));
        after.checked_sub(1).filter(|i| self.sorted[*i].contains_bits(version, bits))
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
}
