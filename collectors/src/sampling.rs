//! [`Sampling`]: the sampling rates that a domain announced, and which of them is that of a record.

use std::collections::BTreeMap;

/// Whom a sampling rate is announced for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sampler {
    /// A sampler id (48) or selector id (302).
    Id(u64),
    /// An interface by its SNMP index.
    Interface(u32),
    /// The whole domain.
    All,
}

impl Sampler {
    /// Whether both are announced in the same way.
    pub(crate) const fn is_alike(self, other: Self) -> bool {
        matches!((self, other), (Self::Id(_), Self::Id(_)) | (Self::Interface(_), Self::Interface(_)))
    }
}

/// Sampling rates that a domain announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sampling {
    pub(crate) rates: BTreeMap<Sampler, u32>,
    /// Selection sequences (301) and the selector they use.
    pub(crate) sequences: BTreeMap<u64, u64>,
    /// Flow timeouts (36, 37) in seconds; 0 unknown.
    pub(crate) active_timeout: u32,
    pub(crate) idle_timeout: u32,
    /// The rate of records that name no sampler and no interface that is known.
    default: Option<u32>,
}

/// Names that a record gives to how it was sampled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Named {
    pub(crate) sampler: Option<u64>,
    pub(crate) sequence: Option<u64>,
    pub(crate) interfaces: [u32; 2],
}

impl Sampling {
    /// The same rate for all records.
    pub(crate) fn everywhere(rate: u32) -> Self {
        Self { default: Some(rate), ..Self::default() }
    }

    /// Whether every record that names no sampler has the same rate, so that its interfaces need not be looked at.
    #[inline]
    pub(crate) fn is_uniform(&self) -> bool {
        self.rates.is_empty()
    }

    /// The rate of a record: its own sampler's, its interface's, the domain's, that of the only sampler; `None` if none was
    /// announced.
    #[inline]
    pub(crate) fn rate(&self, named: Named) -> Option<u32> {
        if self.rates.is_empty() {
            return self.default;
        }
        let sampler = named.sampler.or_else(|| self.sequences.get(&named.sequence?).copied());
        if let Some(id) = sampler {
            return self.rates.get(&Sampler::Id(id)).or_else(|| self.rates.get(&Sampler::All)).copied();
        }
        let of = |interface: u32| self.rates.get(&Sampler::Interface(interface)).copied();
        of(named.interfaces[0]).or_else(|| of(named.interfaces[1])).or(self.default)
    }

    pub(crate) fn set(&mut self, sampler: Sampler, rate: u32) {
        self.rates.insert(sampler, rate);
        self.settle();
    }

    pub(crate) fn forget(&mut self, gone: &[Sampler]) {
        gone.iter().for_each(|sampler| _ = self.rates.remove(sampler));
        self.settle();
    }

    fn settle(&mut self) {
        let all = self.rates.get(&Sampler::All).copied();
        // What everybody announces alike holds for records that name nobody.
        let mut rates = self.rates.values();
        let first = rates.next().copied();
        let common = first.filter(|first| rates.all(|rate| rate == first));
        self.default = all.or(common);
    }

    /// All announcements, for the state on disk.
    pub(crate) fn announced(&self) -> impl Iterator<Item = (Sampler, u32)> + '_ {
        self.rates.iter().map(|(sampler, rate)| (*sampler, *rate))
    }

    /// Selection sequences with their selectors, for the state on disk.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.sequences.iter().map(|(sequence, selector)| (*sequence, *selector))
    }
}
