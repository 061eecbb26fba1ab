//! [`Hosts`]: from an own address to a small index, shared by all workers without locks.
//!
//! Addresses get counters in slabs of 256. IPv4 networks are known in advance: a /24 is one slab, found through a two-level
//! table (about a nanosecond) and allocated by its first packet. IPv6 hosts get the next free place of a slab through a seeded
//! open-addressing table, up to a configured number; further hosts are refused and counted by the caller. Indices never
//! move and are never reused while the program runs (decision 26).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use collectors::IpVersion;

use crate::networks::Networks;
use crate::target::Prefix;

/// Index of a host's counters: slab times 256 plus the place in the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl HostId {
    /// The slab.
    #[must_use]
    pub const fn slab(self) -> usize {
        (self.0 >> 8) as usize
    }

    /// The place in the slab, 0..=255.
    #[must_use]
    pub const fn place(self) -> usize {
        (self.0 & 0xff) as usize
    }

    const fn new(slab: u32, place: u32) -> Self {
        Self(slab << 8 | place)
    }
}

/// Most slabs there can be: 32 M hosts.
const MAX_SLABS: usize = 1 << 17;

/// Values of a /24's table entry below which it is not a slab number plus [`FIRST_SLAB`].
const NOT_OURS: u32 = 0;
const UNALLOCATED: u32 = 1;
const ALLOCATING: u32 = 2;
const FIRST_SLAB: u32 = 3;
/// Set when only some addresses of the /24 are ours.
const PARTIAL: u32 = 1 << 31;

/// Entries of one segment of the IPv6 table; a segment is allocated by its first host.
const SEGMENT: usize = 1024;

/// States of an IPv6 table entry; [`READY`] plus the host id.
const EMPTY: u64 = 0;
const CLAIMED: u64 = 1;
const READY: u64 = 2;

#[derive(Default)]
struct Entry {
    state: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

/// Which addresses a slab counts.
enum Slab {
    V4(u32),
    V6(Box<[(AtomicU64, AtomicU64)]>),
}

/// From an own address to a [`HostId`] and back.
pub struct Hosts {
    networks: Networks,
    /// By the upper 16 bits of an IPv4 address, one bit: whether any of it is ours. 8 KiB stay in the nearest cache while foreign
    /// addresses, which are half of all, pass by.
    any_own: Box<[u64]>,
    /// By the upper 16 bits of an IPv4 address: block number plus one, or 0.
    top: Box<[u32]>,
    /// 256 entries per block, by the third octet.
    blocks: Vec<[AtomicU32; 256]>,
    segments: Box<[OnceLock<Box<[Entry]>>]>,
    seed: u64,
    slabs: Box<[OnceLock<Slab>]>,
    next_slab: AtomicU32,
    next_v6: AtomicU32,
    max_v6: u32,
    /// Slab numbers of IPv6 hosts by host number / 256.
    v6_slabs: Box<[OnceLock<u32>]>,
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosts").field("slabs", &self.slab_count()).finish_non_exhaustive()
    }
}

impl Hosts {
    /// For the given networks. `max_ipv6_hosts` bounds the IPv6 hosts with counters of their own; `seed` keys the hash, so that
    /// nobody outside can choose addresses that collide.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "bounded by MAX_SLABS * 256")]
    pub fn new(networks: &Networks, max_ipv6_hosts: usize, seed: u64) -> Self {
        let has_v6 = networks.prefixes().iter().any(|p| p.version() == IpVersion::V6);
        let max_v6 = if has_v6 { max_ipv6_hosts.clamp(1, MAX_SLABS * 128) } else { 0 };
        let mut hosts = Self {
            networks: networks.clone(),
            any_own: vec![0; 1 << 10].into(),
            top: vec![0; 1 << 16].into(),
            blocks: Vec::new(),
            // Twice the entries, so that probing stays short when the table is full.
            segments: (0..(max_v6 * 2).div_ceil(SEGMENT).next_power_of_two()).map(|_| OnceLock::new()).collect(),
            seed,
            slabs: Box::default(),
            next_slab: AtomicU32::new(0),
            next_v6: AtomicU32::new(0),
            max_v6: max_v6 as u32,
            v6_slabs: (0..max_v6.div_ceil(256)).map(|_| OnceLock::new()).collect(),
        };
        let mut v4_slabs = 0;
        for prefix in networks.prefixes().iter().filter(|p| p.version() == IpVersion::V4) {
            v4_slabs += hosts.own_v4(prefix);
        }
        hosts.slabs = (0..(v4_slabs + max_v6.div_ceil(256)).min(MAX_SLABS)).map(|_| OnceLock::new()).collect();
        hosts
    }

    /// Marks the /24s of an own prefix; returns how many slabs they can need.
    #[allow(clippy::cast_possible_truncation, reason = "the first 32 of 128 bits")]
    fn own_v4(&mut self, prefix: &Prefix) -> usize {
        let first = (prefix.bits() >> 104) as usize;
        let count = if prefix.length() >= 24 { 1 } else { 1usize << (24 - prefix.length()) };
        let state = if prefix.length() > 24 { UNALLOCATED | PARTIAL } else { UNALLOCATED };
        for third in first..first + count {
            self.any_own[third >> 14] |= 1 << (third >> 8 & 63);
            let block = &mut self.top[third >> 8];
            if *block == 0 {
                self.blocks.push(std::array::from_fn(|_| AtomicU32::new(NOT_OURS)));
                *block = self.blocks.len() as u32;
            }
            self.blocks[*block as usize - 1][third & 0xff].store(state, Ordering::Relaxed);
        }
        count
    }

    /// Number of slabs that have been allocated; slab numbers are below it.
    #[must_use]
    pub fn slab_count(&self) -> usize {
        (self.next_slab.load(Ordering::Acquire) as usize).min(self.slabs.len())
    }

    /// Most slabs these networks can ever need.
    #[must_use]
    pub fn slab_capacity(&self) -> usize {
        self.slabs.len()
    }

    /// Whether an address is ours, without giving it counters.
    #[must_use]
    pub fn is_own(&self, version: IpVersion, bits: u128) -> bool {
        self.networks.find(version, bits).is_some()
    }

    /// The host of a left-aligned address; gives it an index when it is seen for the first time.
    #[must_use]
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the first 32 of 128 bits")]
    pub fn find(&self, version: IpVersion, bits: u128) -> Lookup {
        match version {
            IpVersion::V4 => self.find_v4((bits >> 96) as u32),
            IpVersion::V6 => self.find_v6(bits),
        }
    }

    #[inline]
    fn find_v4(&self, address: u32) -> Lookup {
        if self.any_own[(address >> 22) as usize] & 1 << (address >> 16 & 63) == 0 {
            return Lookup::Foreign;
        }
        let block = self.top[(address >> 16) as usize];
        let entry = &self.blocks[block as usize - 1][(address >> 8 & 0xff) as usize];
        let mut state = entry.load(Ordering::Acquire);
        if state == NOT_OURS {
            return Lookup::Foreign;
        }
        if state & PARTIAL != 0 && !self.is_own(IpVersion::V4, u128::from(address) << 96) {
            return Lookup::Foreign;
        }
        while state & !PARTIAL < FIRST_SLAB {
            let partial = state & PARTIAL;
            if entry
                .compare_exchange(UNALLOCATED | partial, ALLOCATING | partial, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                let slab = self.allocate(|| Slab::V4(address & !0xff));
                entry.store(slab.map_or(UNALLOCATED, |slab| slab + FIRST_SLAB) | partial, Ordering::Release);
                if slab.is_none() {
                    return Lookup::Full;
                }
            } else {
                std::hint::spin_loop();
            }
            state = entry.load(Ordering::Acquire);
        }
        Lookup::Host(HostId::new((state & !PARTIAL) - FIRST_SLAB, address & 0xff))
    }

    fn allocate(&self, make: impl FnOnce() -> Slab) -> Option<u32> {
        let slab = self.next_slab.fetch_add(1, Ordering::AcqRel);
        let Some(place) = self.slabs.get(slab as usize) else {
            self.next_slab.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        let _ = place.set(make());
        Some(slab)
    }

    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits are meant")]
    fn find_v6(&self, bits: u128) -> Lookup {
        if !self.is_own(IpVersion::V6, bits) {
            return Lookup::Foreign;
        }
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let hash = self.hash(high, low);
        let segment = self.segments[hash as usize & (self.segments.len() - 1)]
            .get_or_init(|| (0..SEGMENT).map(|_| Entry::default()).collect());
        let start = (hash >> 40) as usize;
        for step in 0..SEGMENT {
            let entry = &segment[(start + step) & (SEGMENT - 1)];
            loop {
                let state = entry.state.load(Ordering::Acquire);
                if state >= READY {
                    if entry.high.load(Ordering::Relaxed) == high && entry.low.load(Ordering::Relaxed) == low {
                        return Lookup::Host(HostId((state - READY) as u32));
                    }
                    break;
                }
                if state == CLAIMED {
                    std::hint::spin_loop();
                    continue;
                }
                if self.next_v6.load(Ordering::Relaxed) >= self.max_v6 {
                    return Lookup::Full;
                }
                if entry.state.compare_exchange(EMPTY, CLAIMED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    entry.high.store(high, Ordering::Relaxed);
                    entry.low.store(low, Ordering::Relaxed);
                    let Some(id) = self.next_v6_host(high, low) else {
                        entry.state.store(EMPTY, Ordering::Release);
                        return Lookup::Full;
                    };
                    entry.state.store(READY + u64::from(id.0), Ordering::Release);
                    return Lookup::Host(id);
                }
            }
        }
        Lookup::Full
    }

    /// The next free place for an IPv6 host.
    fn next_v6_host(&self, high: u64, low: u64) -> Option<HostId> {
        let number = self.next_v6.fetch_add(1, Ordering::AcqRel);
        let Some(cell) = self.v6_slabs.get((number >> 8) as usize) else {
            self.next_v6.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        let slab = *cell.get_or_init(|| {
            let empty = || Slab::V6((0..256).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect());
            self.allocate(empty).unwrap_or(u32::MAX)
        });
        if slab == u32::MAX {
            return None;
        }
        let place = number & 0xff;
        if let Some(Slab::V6(addresses)) = self.slabs[slab as usize].get() {
            addresses[place as usize].0.store(high, Ordering::Relaxed);
            addresses[place as usize].1.store(low, Ordering::Relaxed);
        }
        Some(HostId::new(slab, place))
    }

    /// A keyed mix of the address; two rounds of multiply and fold.
    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits are meant")]
    fn hash(&self, high: u64, low: u64) -> u64 {
        let fold = |a: u64, b: u64| {
            let wide = u128::from(a).wrapping_mul(u128::from(b));
            (wide >> 64) as u64 ^ wide as u64
        };
        let first =
            fold(high ^ self.seed ^ 0x9e37_79b9_7f4a_7c15, low ^ self.seed.rotate_left(32) ^ 0xd1b5_4a32_d192_ed03);
        fold(first ^ 0x8cb9_2ba7_2f3d_8dd7, self.seed ^ 0xa076_1d64_78bd_642f)
    }

    /// The address of a host as a host prefix; `None` if the index was never given out.
    #[must_use]
    pub fn prefix(&self, host: HostId) -> Option<Prefix> {
        match self.slabs.get(host.slab())?.get()? {
            Slab::V4(base) => Some(Prefix::host_of(IpVersion::V4, u128::from(base | host.0 & 0xff) << 96)),
            Slab::V6(addresses) => {
                let (high, low) = &addresses[host.place()];
                let bits = u128::from(high.load(Ordering::Relaxed)) << 64 | u128::from(low.load(Ordering::Relaxed));
                (bits != 0).then(|| Prefix::host_of(IpVersion::V6, bits))
            }
        }
    }
}

/// What [`Hosts::find`] says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Not ours.
    Foreign,
    /// Ours, with counters.
    Host(HostId),
    /// Ours, but every place for IPv6 hosts is taken.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(networks: &[&str], max_v6: usize) -> Hosts {
        let prefixes: Vec<Prefix> = networks.iter().map(|t| t.parse().expect("literal")).collect();
        Hosts::new(&Networks::new(&prefixes), max_v6, 7)
    }

    fn find(hosts: &Hosts, address: &str) -> Lookup {
        let p: Prefix = address.parse().expect("literal");
        hosts.find(p.version(), p.bits())
    }

    #[test]
    fn an_index_leads_back_to_its_address() {
        let hosts = hosts(&["192.0.2.0/24", "10.0.0.0/15", "198.51.100.8/29", "2001:db8::/32"], 1000);
        for address in ["192.0.2.1", "10.1.255.255", "198.51.100.9", "2001:db8::1", "2001:db8:ffff::9"] {
            let Lookup::Host(id) = find(&hosts, address) else { panic!("{address} is ours") };
            assert_eq!(find(&hosts, address), Lookup::Host(id), "the index of {address} is stable");
            assert_eq!(hosts.prefix(id), Some(address.parse().expect("literal")));
        }
        for address in ["192.0.3.1", "10.2.0.0", "198.51.100.7", "198.51.100.16", "2001:db9::1", "0.0.0.0"] {
            assert_eq!(find(&hosts, address), Lookup::Foreign, "{address} is not ours");
        }
    }

    #[test]
    fn ipv6_hosts_beyond_the_limit_are_refused_and_earlier_ones_stay() {
        let hosts = hosts(&["2001:db8::/32"], 600);
        let base: Prefix = "2001:db8::".parse().expect("literal");
        let first = find(&hosts, "2001:db8::");
        let given =
            (0..5000u128).filter(|i| matches!(hosts.find(IpVersion::V6, base.bits() | i), Lookup::Host(_))).count();
        assert_eq!(given, 600);
        assert_eq!(find(&hosts, "2001:db8::"), first);
        assert_eq!(hosts.find(IpVersion::V6, base.bits() | 4999), Lookup::Full);
    }

    #[test]
    fn workers_agree_on_the_index_of_a_host_they_see_at_once() {
        let hosts = hosts(&["10.0.0.0/8", "2001:db8::/32"], 4096);
        let base: Prefix = "2001:db8::".parse().expect("literal");
        let lookups = |offset: u128| -> Vec<Lookup> {
            (0..2000u128)
                .flat_map(|i| {
                    let i = (i + offset) % 2000;
                    [
                        (i, hosts.find(IpVersion::V6, base.bits() | i)),
                        (i, hosts.find(IpVersion::V4, (10 << 24 | i << 8) << 96)),
                    ]
                })
                .collect::<std::collections::BTreeMap<_, _>>()
                .into_values()
                .collect()
        };
        let (a, b) = std::thread::scope(|s| {
            let a = s.spawn(|| lookups(0));
            let b = s.spawn(|| lookups(1000));
            (a.join().expect("worker"), b.join().expect("worker"))
        });
        assert_eq!(a, b);
    }
}
