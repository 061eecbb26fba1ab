//! [`Hosts`]: from an own address to a small index, shared by all workers without locks.
//!
//! Addresses get counters in slabs of 256. IPv4 networks are known in advance: a /24 is one slab, found through a two-level
//! table (about a nanosecond) and allocated by its first packet. IPv6 hosts get the next free place of a slab through a seeded
//! open-addressing table, up to a configured number; further hosts are refused and counted by the caller. Indices never
//! move while they are in use; those of IPv6 hosts that have long been quiet are given to others (decision 11).
//!
//! # Cells
//! Every host lies in a cell: its /24 (IPv6: the longest configured prefix length), or that part of it whose host group is the
//! same. Everything above a host (prefixes, networks, group totals) is a sum of cells. When cells run out, hosts of new IPv6
//! prefixes are counted in the cell of their next shorter prefix, and in the end in that of their network.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use traffic::{IpVersion, Networks, Prefix};

use crate::membership::Membership;
use crate::table::Table;

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

    pub(crate) const fn new(slab: u32, place: u32) -> Self {
        Self(slab << 8 | place)
    }
}

/// Index of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u32);

/// A part of the own address space that is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What lies in it lies in this prefix.
    pub(crate) prefix: Prefix,
    /// Index of the groups of its hosts in [`Membership::kinds`].
    pub(crate) kind: u32,
}

/// Most slabs there can be: 32 M hosts.
const MAX_SLABS: usize = 1 << 17;
/// Cells of IPv6 prefixes of each configured length at most.
pub const MAX_V6_CELLS: usize = 1 << 14;
/// Cells beyond one per slab: /24s in which several host groups lie, and networks.
const SPARE_CELLS: usize = 1 << 12;

/// Values of a /24's table entry below which it is not a slab number plus [`FIRST_SLAB`].
const NOT_OURS: u32 = 0;
const UNALLOCATED: u32 = 1;
const ALLOCATING: u32 = 2;
const FIRST_SLAB: u32 = 3;
/// Set when only some addresses of the /24 are ours.
const PARTIAL: u32 = 1 << 31;

/// The cells of a slab's hosts.
enum Cells {
    One(CellId),
    Many(Box<[CellId; 256]>),
}

/// An IPv6 host: its address in two halves, and its cell.
type V6Host = (AtomicU64, AtomicU64, AtomicU32);

/// Which addresses a slab counts.
enum Slab {
    V4(u32, Cells),
    V6(Box<[V6Host]>),
}

/// Places of IPv6 hosts that may be given out again: one thread puts in, workers take out.
struct Free {
    ring: Box<[AtomicU32]>,
    head: AtomicU64,
    tail: AtomicU64,
}

impl Free {
    #[allow(clippy::cast_possible_truncation, reason = "an index below the length")]
    fn take(&self) -> Option<u32> {
        loop {
            let head = self.head.load(Ordering::Acquire);
            if head == self.tail.load(Ordering::Acquire) {
                return None;
            }
            let host = self.ring[head as usize % self.ring.len()].load(Ordering::Relaxed);
            if self.head.compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some(host);
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "an index below the length")]
    fn put(&self, host: u32) {
        let tail = self.tail.load(Ordering::Relaxed);
        if (tail - self.head.load(Ordering::Acquire)) as usize >= self.ring.len() {
            return;
        }
        self.ring[tail as usize % self.ring.len()].store(host, Ordering::Relaxed);
        self.tail.store(tail + 1, Ordering::Release);
    }
}

/// From an own address to a [`HostId`] and back.
pub struct Hosts {
    networks: Networks,
    /// By the upper 16 bits of an IPv4 address, one bit: whether any of it is ours. 8 KiB stay in the nearest cache while foreign
    /// addresses, which are half of all, pass by.
    any_own: Box<[u64]>,
    membership: Membership,
    /// By the upper 16 bits of an IPv4 address: block number plus one, or 0.
    top: Box<[u32]>,
    /// 256 entries per block, by the third octet.
    blocks: Vec<[AtomicU32; 256]>,
    slabs: Box<[OnceLock<Slab>]>,
    next_slab: AtomicU32,
    v6: Table,
    next_v6: AtomicU32,
    max_v6: u32,
    /// Slab numbers of IPv6 hosts by host number / 256.
    v6_slabs: Box<[OnceLock<u32>]>,
    free: Free,
    /// Lengths of IPv6 cells, longest first, each with its number of cells so far.
    v6_lengths: Vec<(u8, AtomicU32)>,
    v6_cells: Table,
    cells: Box<[OnceLock<Cell>]>,
    next_cell: AtomicU32,
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosts").field("slabs", &self.slab_count()).finish_non_exhaustive()
    }
}

impl Hosts {
    /// For the given networks. `max_ipv6_hosts` bounds the IPv6 hosts with counters of their own, `v6_lengths` are the lengths
    /// of IPv6 prefixes that are watched; `seed` keys the hashes.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "bounded by MAX_SLABS * 256")]
    pub fn new(
        networks: &Networks,
        membership: Membership,
        v6_lengths: &[u8],
        max_ipv6_hosts: usize,
        seed: u64,
    ) -> Self {
        let has_v6 = networks.prefixes().iter().any(|p| p.version() == IpVersion::V6);
        let max_v6 = if has_v6 { max_ipv6_hosts.clamp(1, MAX_SLABS * 128) } else { 0 };
        let mut lengths: Vec<u8> = v6_lengths.iter().copied().filter(|l| has_v6 && (1..=64).contains(l)).collect();
        lengths.sort_unstable_by_key(|l| std::cmp::Reverse(*l));
        lengths.dedup();
        let mut hosts = Self {
            networks: networks.clone(),
            any_own: vec![0; 1 << 10].into(),
            membership,
            top: vec![0; 1 << 16].into(),
            blocks: Vec::new(),
            slabs: Box::default(),
            next_slab: AtomicU32::new(0),
            v6: Table::new(max_v6, seed),
            next_v6: AtomicU32::new(0),
            max_v6: max_v6 as u32,
            v6_slabs: (0..max_v6.div_ceil(256)).map(|_| OnceLock::new()).collect(),
            free: Free {
                ring: (0..max_v6).map(|_| AtomicU32::new(0)).collect(),
                head: AtomicU64::new(0),
                tail: AtomicU64::new(0),
            },
            v6_cells: Table::new(lengths.len() * MAX_V6_CELLS, !seed),
            v6_lengths: lengths.into_iter().map(|l| (l, AtomicU32::new(0))).collect(),
            cells: Box::default(),
            next_cell: AtomicU32::new(0),
        };
        let mut v4_slabs = 0;
        for prefix in networks.prefixes().iter().filter(|p| p.version() == IpVersion::V4) {
            v4_slabs += hosts.own_v4(prefix);
        }
        hosts.slabs = (0..(v4_slabs + max_v6.div_ceil(256)).min(MAX_SLABS)).map(|_| OnceLock::new()).collect();
        let cells = networks.prefixes().len() + v4_slabs + SPARE_CELLS + hosts.v6_lengths.len() * MAX_V6_CELLS;
        hosts.cells = (0..cells).map(|_| OnceLock::new()).collect();
        // The networks' own cells come first: what has no other cell is counted there.
        for prefix in networks.prefixes() {
            let kind = hosts.membership.kind_of(prefix.version(), prefix.bits());
            hosts.new_cell(*prefix, kind);
        }
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

    /// Number of cells so far; cell numbers are below it.
    #[must_use]
    pub fn cell_count(&self) -> usize {
        (self.next_cell.load(Ordering::Acquire) as usize).min(self.cells.len())
    }

    /// Most cells these networks can ever need.
    #[must_use]
    pub fn cell_capacity(&self) -> usize {
        self.cells.len()
    }

    /// A cell; `None` while it is being made.
    pub(crate) fn cell(&self, cell: CellId) -> Option<Cell> {
        self.cells.get(cell.0 as usize)?.get().copied()
    }

    /// The own networks.
    #[must_use]
    pub const fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The host groups.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
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
        match entry.load(Ordering::Acquire) {
            state @ FIRST_SLAB..PARTIAL => Lookup::Host(HostId::new(state - FIRST_SLAB, address & 0xff)),
            state => self.find_rare_v4(address, entry, state),
        }
    }

    /// In a /24 that is partly or not ours, or has no slab yet.
    #[cold]
    fn find_rare_v4(&self, address: u32, entry: &AtomicU32, mut state: u32) -> Lookup {
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
                let base = address & !0xff;
                let slab = self.allocate(|| Slab::V4(base, self.cells_of(base)));
                entry.store(slab.map_or(UNALLOCATED, |slab| slab + FIRST_SLAB) | partial, Ordering::Release);
                if slab.is_none() {
                    return Lookup::Full(self.network_cell(IpVersion::V4, u128::from(address) << 96));
                }
            } else {
                std::hint::spin_loop();
            }
            state = entry.load(Ordering::Acquire);
        }
        Lookup::Host(HostId::new((state & !PARTIAL) - FIRST_SLAB, address & 0xff))
    }

    /// The cells of a /24: one for each set of groups in it.
    fn cells_of(&self, base: u32) -> Cells {
        let bits = |place: u32| u128::from(base | place) << 96;
        let prefix = Prefix::host_of(IpVersion::V4, bits(0)).widened(24);
        let mut of_kind: Vec<(u32, CellId)> = Vec::new();
        let mut cell = |place: u32| {
            let kind = self.membership.kind_of(IpVersion::V4, bits(place));
            if let Some((_, cell)) = of_kind.iter().find(|(k, _)| *k == kind) {
                return *cell;
            }
            let cell = self.new_cell(prefix, kind).unwrap_or_else(|| self.network_cell(IpVersion::V4, bits(place)));
            of_kind.push((kind, cell));
            cell
        };
        if self.membership.is_uniform(&prefix) {
            return Cells::One(cell(0));
        }
        let mut many = Box::new([CellId(0); 256]);
        (0..256).for_each(|place| many[place as usize] = cell(place));
        Cells::Many(many)
    }

    fn new_cell(&self, prefix: Prefix, kind: u32) -> Option<CellId> {
        let number = self.next_cell.fetch_add(1, Ordering::AcqRel);
        let Some(place) = self.cells.get(number as usize) else {
            self.next_cell.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        let _ = place.set(Cell { prefix, kind });
        Some(CellId(number))
    }

    /// The cell of an own network as a whole.
    fn network_cell(&self, version: IpVersion, bits: u128) -> CellId {
        let index = self.networks.position(version, bits).unwrap_or(0);
        CellId(u32::try_from(index).unwrap_or(0))
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

    fn find_v6(&self, bits: u128) -> Lookup {
        if !self.is_own(IpVersion::V6, bits) {
            return Lookup::Foreign;
        }
        match self.v6.find_or(bits, || self.next_v6_host(bits).map(|host| host.0)) {
            Some(host) => Lookup::Host(HostId(host)),
            None => Lookup::Full(self.v6_cell(bits)),
        }
    }

    /// The next free place for an IPv6 host.
    #[allow(clippy::cast_possible_truncation, reason = "both halves of 128 bits are meant")]
    fn next_v6_host(&self, bits: u128) -> Option<HostId> {
        let host = self.free.take().map(HostId).or_else(|| self.fresh_v6_host())?;
        if let Some(Slab::V6(addresses)) = self.slabs[host.slab()].get() {
            let (high, low, cell) = &addresses[host.place()];
            high.store((bits >> 64) as u64, Ordering::Relaxed);
            low.store(bits as u64, Ordering::Relaxed);
            cell.store(self.v6_cell(bits).0, Ordering::Relaxed);
        }
        Some(host)
    }

    fn fresh_v6_host(&self) -> Option<HostId> {
        let number = self.next_v6.fetch_add(1, Ordering::AcqRel);
        let cell = self.v6_slabs.get((number >> 8) as usize).filter(|_| number < self.max_v6);
        let Some(cell) = cell else {
            self.next_v6.fetch_sub(1, Ordering::AcqRel);
            return None;
        };
        let slab = *cell.get_or_init(|| {
            self.allocate(|| Slab::V6((0..256).map(|_| V6Host::default()).collect())).unwrap_or(u32::MAX)
        });
        (slab != u32::MAX).then(|| HostId::new(slab, number & 0xff))
    }

    /// The cell of an IPv6 address: of the longest watched prefix that has, or can get, one.
    fn v6_cell(&self, bits: u128) -> CellId {
        let kind = self.membership.kind_of(IpVersion::V6, bits);
        let network = self.networks.find(IpVersion::V6, bits);
        for (length, used) in &self.v6_lengths {
            if network.is_none_or(|network| network.length() > *length) {
                continue;
            }
            let prefix = Prefix::host_of(IpVersion::V6, bits).widened(*length);
            // The lower 64 bits of the prefix are free for what else the cell is about.
            let key = prefix.bits() | u128::from(kind) << 8 | u128::from(*length);
            let make = || {
                if used.fetch_add(1, Ordering::Relaxed) as usize >= MAX_V6_CELLS {
                    used.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                self.new_cell(prefix, kind).map(|cell| cell.0)
            };
            if let Some(cell) = self.v6_cells.find_or(key, make) {
                return CellId(cell);
            }
        }
        self.network_cell(IpVersion::V6, bits)
    }

    /// The cell of a host.
    #[must_use]
    #[inline]
    pub fn cell_of(&self, host: HostId) -> CellId {
        match self.slabs[host.slab()].get() {
            Some(Slab::V4(_, Cells::One(cell))) => *cell,
            Some(Slab::V4(_, Cells::Many(cells))) => cells[host.place()],
            Some(Slab::V6(hosts)) => CellId(hosts[host.place()].2.load(Ordering::Relaxed)),
            None => CellId(0),
        }
    }

    /// The address of a host as a host prefix; `None` if the index is not given out.
    #[must_use]
    pub fn prefix(&self, host: HostId) -> Option<Prefix> {
        match self.slabs.get(host.slab())?.get()? {
            Slab::V4(base, _) => Some(Prefix::host_of(IpVersion::V4, u128::from(base | host.0 & 0xff) << 96)),
            Slab::V6(addresses) => {
                let (high, low, _) = &addresses[host.place()];
                let bits = u128::from(high.load(Ordering::Relaxed)) << 64 | u128::from(low.load(Ordering::Relaxed));
                (bits != 0).then(|| Prefix::host_of(IpVersion::V6, bits))
            }
        }
    }

    /// Whether most places for IPv6 hosts are taken.
    pub(crate) fn is_v6_crowded(&self) -> bool {
        let given = self.next_v6.load(Ordering::Relaxed);
        let free = self.free.tail.load(Ordering::Relaxed) - self.free.head.load(Ordering::Relaxed);
        u64::from(given).saturating_sub(free) > u64::from(self.max_v6) / 4 * 3
    }

    /// Whether a slab holds IPv6 hosts, which age.
    pub(crate) fn is_v6(&self, slab: usize) -> bool {
        matches!(self.slabs.get(slab).and_then(|s| s.get()), Some(Slab::V6(_)))
    }

    /// Takes its index from an IPv6 host that has long been quiet. Called by the control thread only.
    pub(crate) fn release(&self, host: HostId) {
        let Some(prefix) = self.prefix(host) else { return };
        if let Some(Slab::V6(addresses)) = self.slabs[host.slab()].get() {
            self.v6.remove(prefix.bits());
            let (high, low, _) = &addresses[host.place()];
            high.store(0, Ordering::Relaxed);
            low.store(0, Ordering::Relaxed);
            self.free.put(host.0);
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
    /// Ours, but every place for hosts is taken: counted in its cell only.
    Full(CellId),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(networks: &[&str], max_v6: usize) -> Hosts {
        let prefixes: Vec<Prefix> = networks.iter().map(|t| t.parse().expect("literal")).collect();
        Hosts::new(&Networks::new(&prefixes), Membership::default(), &[48, 64], max_v6, 7)
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
        assert!(matches!(hosts.find(IpVersion::V6, base.bits() | 4999), Lookup::Full(_)));
        // A quiet one makes room.
        let Lookup::Host(second) = find(&hosts, "2001:db8::1") else { panic!("it has a place") };
        hosts.release(second);
        assert_eq!(hosts.find(IpVersion::V6, base.bits() | 4999), Lookup::Host(second));
        assert!(matches!(find(&hosts, "2001:db8::1"), Lookup::Full(_)));
    }

    #[test]
    fn cells_are_bounded_and_fall_back_to_shorter_prefixes() {
        let hosts = hosts(&["2001:db8::/32"], 1 << 20);
        let base: Prefix = "2001:db8::".parse().expect("literal");
        let cell = |bits: u128| {
            let Lookup::Host(host) = hosts.find(IpVersion::V6, base.bits() | bits) else { panic!("there is room") };
            hosts.cell(hosts.cell_of(host)).expect("a cell").prefix
        };
        let lengths: Vec<u8> = (0..40_000u128).map(|i| cell(i << 64 | 1).length()).collect();
        assert_eq!(lengths.iter().filter(|l| **l == 64).count(), MAX_V6_CELLS);
        assert!(lengths.iter().skip(MAX_V6_CELLS).all(|l| *l == 48), "the rest is counted in the /48");
        let lengths: Vec<u8> = (1..40_000u128).map(|i| cell(i << 80 & !(u128::MAX << 96) | 1).length()).collect();
        assert_eq!(lengths.last(), Some(&32), "and in the end in the network");
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
