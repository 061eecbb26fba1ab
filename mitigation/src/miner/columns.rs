//! [`Columns`]: attack and ordinary samples as the search sees them, sorted once by every field; [`RowSet`]: some of them.

use collectors::sample::{protocol, tcp_flags};
use collectors::{Fields, IpVersion, Sample};

use super::test::{Field, NUMERIC, Test, Tests};
use detector::Prefix;

/// Rows of each side at most: of a larger bucket or baseline every k-th is mined. The rules are then measured on all of it.
pub(super) const MAX_SIDE: usize = 1024;
/// Bins that hold the values of a field that few rows have, at least.
const BINS: usize = 80;
/// Attack rows with the same value that make it a bin of its own.
const FEW: usize = 3;
/// IPv4 lengths of the SYN of the common systems (Linux and Android, Windows, Apple), which join those seen: a baseline holds few.
const SYN_LENGTHS: [u32; 6] = [60, 52, 64, 60, 52, 64];
/// Openings at most.
const MAX_OPENINGS: usize = 512;
const WORDS: usize = (2 * MAX_SIDE + MAX_OPENINGS) / 64;

/// A sample: fields that are not known exactly are absent, and match nothing (decision 9).
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) source: Option<u128>,
    pub(super) destination: Option<u128>,
    pub(super) flags: Option<u16>,
    pub(super) fragment: Option<u16>,
    /// TCP with SYN and without ACK.
    is_syn: bool,
    numbers: [u32; NUMERIC.len()],
}

/// No value: beyond the maximum of every field.
pub(super) const ABSENT: u32 = u32::MAX;

impl Row {
    pub(super) fn new(sample: &Sample) -> Self {
        let known = |field| sample.known.has(field);
        let whole = known(Fields::PROTOCOL) && !sample.is_later_fragment();
        let tcp = whole && sample.protocol == protocol::TCP;
        let ports = whole && matches!(sample.protocol, protocol::TCP | protocol::UDP) && known(Fields::PORTS);
        let icmp = match sample.version {
            IpVersion::V4 => protocol::ICMP,
            IpVersion::V6 => protocol::ICMPV6,
        };
        let icmp = whole && sample.protocol == icmp && known(Fields::ICMP);
        let syn = tcp_flags::SYN | tcp_flags::ACK;
        let of = |is: bool, value: u32| if is { value } else { ABSENT };
        Self {
            source: known(Fields::ADDRESSES).then_some(sample.source),
            destination: known(Fields::ADDRESSES).then_some(sample.destination),
            flags: (tcp && known(Fields::TCP_FLAGS)).then_some(sample.tcp_flags),
            fragment: known(Fields::FRAGMENT).then_some(sample.fragment.into()),
            is_syn: tcp && sample.tcp_flags & syn == tcp_flags::SYN,
            // In the order of `NUMERIC`.
            numbers: [
                of(known(Fields::PROTOCOL), sample.protocol.into()),
                of(ports, sample.destination_port.into()),
                of(ports, sample.source_port.into()),
                of(icmp, sample.icmp_type.into()),
                of(icmp, sample.icmp_code.into()),
                of(known(Fields::LENGTH), sample.length.into()),
                of(known(Fields::DSCP), sample.dscp.into()),
                of(sample.version == IpVersion::V6 && known(Fields::FLOW_LABEL), sample.flow_label),
            ],
        }
    }

    /// The value of a numeric field.
    pub(super) const fn number(&self, field: Field) -> Option<u32> {
        match self.numbers[field.column()] {
            ABSENT => None,
            value => Some(value),
        }
    }

    const fn protocol(&self) -> u32 {
        self.numbers[0]
    }
}

/// A set of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSet([u64; WORDS]);

impl RowSet {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    pub(super) const fn insert(&mut self, row: usize) {
        self.0[row / 64] |= 1 << (row % 64);
    }

    pub(super) const fn contains(&self, row: usize) -> bool {
        self.0[row / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn and_not(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Calls for every row: faster than the iterator.
    pub(super) fn for_each(&self, mut of: impl FnMut(usize)) {
        for (word, bits) in self.0.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                of(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// The rows that pass.
    fn filter(&self, pass: impl Fn(usize) -> bool) -> Self {
        let mut found = Self::EMPTY;
        for (word, (bits, into)) in self.0.iter().zip(&mut found.0).enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let at = bits.trailing_zeros();
                bits &= bits - 1;
                *into |= u64::from(pass(word * 64 + at as usize)) << at;
            }
        }
        found
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                (bits != 0).then(|| {
                    let at = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    word * 64 + at
                })
            })
        })
    }
}

/// A field of bits: few values, of which every row has one or none.
#[derive(Debug)]
pub(super) struct Kinds {
    pub(super) values: Vec<u16>,
    /// The value of each row, by its place; one beyond the last where a row has none.
    pub(super) kind: Vec<u8>,
}

impl Kinds {
    /// Values beyond this many are taken for none.
    const MOST: usize = 64;

    #[allow(clippy::cast_possible_truncation, reason = "at most MOST")]
    fn new(rows: &[Row], of: impl Fn(&Row) -> Option<u16>) -> Self {
        let mut values: Vec<u16> = Vec::new();
        let place = |row: &Row| {
            let Some(value) = of(row) else { return u8::MAX };
            match values.iter().position(|v| *v == value) {
                Some(at) => at as u8,
                None if values.len() < Self::MOST => {
                    values.push(value);
                    (values.len() - 1) as u8
                }
                None => u8::MAX,
            }
        };
        let mut kind: Vec<u8> = rows.iter().map(place).collect();
        let none = values.len() as u8;
        kind.iter_mut().filter(|k| **k == u8::MAX).for_each(|k| *k = none);
        Self { values, kind }
    }

    fn narrow(&self, set: &RowSet, mask: super::test::Mask) -> RowSet {
        let mut passes = [false; Self::MOST + 1];
        for (value, passes) in self.values.iter().zip(&mut passes) {
            *passes = mask.matches(*value);
        }
        set.filter(|i| passes[usize::from(self.kind[i])])
    }
}

/// Shares of both sides that a set of rows makes up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shares {
    /// Of the captured packets.
    pub(super) attack: f64,
    /// Of the ordinary packets.
    pub(super) ordinary: f64,
    /// Of the ordinary new connections: what is lost when their SYN is.
    pub(super) connections: f64,
    /// Rows.
    pub(super) attack_rows: u32,
    pub(super) ordinary_rows: u32,
}

/// Both sides, attack rows first.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) version: IpVersion,
    pub(super) rows: Vec<Row>,
    /// Rows of the attack.
    pub(super) attack: usize,
    /// Independent observations of the attack: fewer than rows where some stand for many packets.
    pub(super) effective: f64,
    /// Share of the row in its side's packets.
    pub(super) share: Vec<f64>,
    /// Share of an ordinary row with each SYN standing for a whole connection: dropping it drops the rest.
    pub(super) charged: Vec<f64>,
    /// SYN rows of ordinary traffic.
    syns: u32,
    /// Where the openings begin, after the ordinary rows: what the SYN of ordinary connections look like. A connection's SYN has
    /// the addresses and ports of its other packets, so these come from them, and the rest from the few SYN that were seen.
    openings: usize,
    /// All rows.
    pub(super) all: RowSet,
    /// Those of the attack, and those of ordinary traffic that was seen.
    pub(super) attack_rows: RowSet,
    pub(super) ordinary_rows: RowSet,
    /// Values of each numeric field by row; [`ABSENT`] where a row has none.
    pub(super) values: [Vec<u32>; NUMERIC.len()],
    /// Rows that have a numeric field, by ascending value.
    pub(super) order: [Vec<u16>; NUMERIC.len()],
    /// TCP flags and fragment bits by row.
    pub(super) flags: Kinds,
    pub(super) fragments: Kinds,
    /// Rows that have a numeric field.
    pub(super) present: [RowSet; NUMERIC.len()],
    /// The bin of each row, by numeric field (the one after the last where a row has no value), and the lowest and highest value of each bin.
    pub(super) bin: [Vec<u16>; NUMERIC.len()],
    pub(super) bins: [Vec<(u32, u32)>; NUMERIC.len()],
    /// Where the rows of each shortest prefix lie in `by_source`, and which of those each row is in.
    pub(super) networks: Vec<(u32, u32)>,
    pub(super) network: Vec<u16>,
    /// Rows by ascending source and destination.
    pub(super) by_source: Vec<(u128, u16)>,
    pub(super) by_destination: Vec<(u128, u16)>,
}

#[allow(clippy::cast_precision_loss, reason = "counts of some hundred samples")]
fn weight(sample: &Sample) -> f64 {
    sample.packets.max(1) as f64
}

fn thin<'a>(samples: &[&'a Sample]) -> Vec<&'a Sample> {
    let step = samples.len().div_ceil(MAX_SIDE).max(1);
    samples.iter().step_by(step).copied().collect()
}

impl Columns {
    /// From the samples of the attack and of ordinary traffic; `with_destination` for targets wider than a host, `used` says which
    /// numeric fields will be asked for.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "at most 2048 rows")]
    pub(super) fn new(
        version: IpVersion,
        attack: &[&Sample],
        ordinary: &[&Sample],
        with_destination: bool,
        used: impl Fn(Field) -> bool,
    ) -> Self {
        let (attack, ordinary) = (thin(attack), thin(ordinary));
        let mut rows: Vec<Row> = attack.iter().chain(&ordinary).map(|s| Row::new(s)).collect();
        let mut share: Vec<f64> = attack.iter().chain(&ordinary).map(|s| weight(s)).collect();
        let (a, o) = share.split_at_mut(attack.len());
        let effective = a.iter().sum::<f64>().powi(2) / a.iter().map(|w| w * w).sum::<f64>().max(f64::MIN_POSITIVE);
        for side in [a, o] {
            let sum: f64 = side.iter().sum();
            side.iter_mut().for_each(|w| *w /= sum.max(f64::MIN_POSITIVE));
        }
        let openings = rows.len();
        let new = openings_of(version, &rows[attack.len()..]);
        rows.extend(new);
        share.resize(rows.len(), 0.0);
        let mut all = RowSet::EMPTY;
        (0..rows.len()).for_each(|i| all.insert(i));
        let mut ordinary_rows = RowSet::EMPTY;
        (attack.len()..openings).for_each(|i| ordinary_rows.insert(i));
        let mut attack_rows = RowSet::EMPTY;
        (0..attack.len()).for_each(|i| attack_rows.insert(i));
        let mut columns = Self {
            version,
            attack: attack.len(),
            effective,
            charged: share.clone(),
            syns: rows[attack.len()..openings].iter().filter(|r| r.is_syn).count() as u32,
            openings,
            share,
            all,
            attack_rows,
            ordinary_rows,
            values: std::array::from_fn(|c| rows.iter().map(|r| r.numbers[c]).collect()),
            order: std::array::from_fn(|c| if used(NUMERIC[c]) { sorted(&rows, c) } else { Vec::new() }),
            networks: Vec::new(),
            network: Vec::new(),
            by_source: by_address(version, &rows, |r| r.source),
            by_destination: if with_destination { by_address(version, &rows, |r| r.destination) } else { Vec::new() },
            flags: Kinds::new(&rows, |r| r.flags),
            fragments: Kinds::new(&rows, |r| r.fragment),
            present: [RowSet::EMPTY; NUMERIC.len()],
            bin: std::array::from_fn(|_| Vec::new()),
            bins: std::array::from_fn(|_| Vec::new()),
            rows,
        };
        columns.charge();
        columns.find_networks();
        for column in 0..NUMERIC.len() {
            columns.fill_bins(column);
        }
        columns
    }

    /// Length of the shortest source prefix that is looked for.
    pub(super) const fn shortest(&self) -> u8 {
        match self.version {
            IpVersion::V4 => 8,
            IpVersion::V6 => 20,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows")]
    fn find_networks(&mut self) {
        let shortest = u32::from(self.shortest());
        self.network = vec![0; self.rows.len()];
        let mut from = 0;
        for part in self.by_source.chunk_by(|a, b| (a.0 ^ b.0).leading_zeros() >= shortest) {
            part.iter().for_each(|(_, i)| self.network[usize::from(*i)] = self.networks.len() as u16);
            self.networks.push((from, from + part.len() as u32));
            from += part.len() as u32;
        }
    }

    /// Puts neighbouring values that few rows have into bins; a value that many have is a bin of its own.
    #[allow(clippy::cast_possible_truncation, reason = "at most 2304 rows")]
    fn fill_bins(&mut self, column: usize) {
        let (order, values) = (&self.order[column], &self.values[column]);
        let (many, full) = (self.rows.len().div_ceil(100), self.rows.len().div_ceil(BINS));
        let mut bin = vec![0u16; if order.is_empty() { 0 } else { self.rows.len() }];
        let mut bins: Vec<(u32, u32)> = Vec::with_capacity(2 * BINS);
        let (mut at, mut filled, mut alone) = (0, 0, true);
        while at < order.len() {
            let value = values[usize::from(order[at])];
            let end = at + order[at..].iter().take_while(|i| values[usize::from(**i)] == value).count();
            let of_attack = order[at..end].iter().filter(|i| usize::from(**i) < self.attack).count();
            let apart = end - at >= many || of_attack >= FEW;
            match bins.last_mut() {
                Some(last) if !apart && !alone && filled < full => {
                    last.1 = value;
                    filled += end - at;
                }
                _ => {
                    bins.push((value, value));
                    (filled, alone) = (end - at, apart);
                }
            }
            for i in &order[at..end] {
                bin[usize::from(*i)] = (bins.len() - 1) as u16;
            }
            at = end;
        }
        order.iter().for_each(|i| self.present[column].insert(usize::from(*i)));
        for (at, bin) in bin.iter_mut().enumerate().filter(|(at, _)| values[*at] == ABSENT) {
            debug_assert!(!self.present[column].contains(at), "a row has a value or none");
            *bin = bins.len() as u16;
        }
        (self.bin[column], self.bins[column]) = (bin, bins);
    }

    /// Charges openings, together, with all of TCP: dropping a SYN drops the rest of its connection.
    #[allow(clippy::cast_precision_loss, reason = "at most 512 rows")]
    fn charge(&mut self) {
        let count = self.rows.len() - self.openings;
        if count == 0 {
            return;
        }
        let ordinary = || self.rows.iter().zip(&self.share).take(self.openings).skip(self.attack);
        let tcp: f64 = ordinary().filter(|(r, _)| r.protocol() == u32::from(protocol::TCP)).map(|(_, w)| w).sum();
        let syn: f64 = ordinary().filter(|(r, _)| r.is_syn).map(|(_, w)| w).sum();
        // A SYN stands for fifty packets at most.
        let opening = (tcp - syn).min(49.0 * syn).max(0.0);
        let total = 1.0 + opening;
        self.charged[self.attack..self.openings].iter_mut().for_each(|w| *w /= total);
        self.charged[self.openings..].fill(opening / total / count as f64);
    }

    /// Rows of a set that pass a test.
    pub(super) fn narrow(&self, set: &RowSet, test: &Test) -> RowSet {
        match test {
            Test::Numbers(field, spans) => {
                let mut found = RowSet::EMPTY;
                for (low, high) in spans.as_slice() {
                    self.between(*field, *low, *high).iter().for_each(|i| found.insert(usize::from(*i)));
                }
                found.and(set)
            }
            Test::TcpFlags(mask) => self.flags.narrow(set, *mask),
            Test::Fragment(mask) => self.fragments.narrow(set, *mask),
            Test::Source(prefix) => within(&self.by_source, prefix).and(set),
            Test::Destination(_) => set.filter(|i| test.matches(&self.rows[i])),
        }
    }

    /// Rows with a value from `low` to `high`.
    fn between(&self, field: Field, low: u32, high: u32) -> &[u16] {
        let (order, values) = (&self.order[field.column()], &self.values[field.column()]);
        let from = order.partition_point(|i| values[usize::from(*i)] < low);
        let to = from + order[from..].partition_point(|i| values[usize::from(*i)] <= high);
        &order[from..to]
    }

    /// Rows of a set that pass all tests.
    pub(super) fn matching(&self, set: &RowSet, tests: &Tests) -> RowSet {
        tests.iter().fold(*set, |set, test| self.narrow(&set, test))
    }

    /// Share of the address space in use that a prefix of this length makes up (IPv6: of 2000::/3).
    pub(super) fn space(&self, length: u8) -> f64 {
        let free = match self.version {
            IpVersion::V4 => length,
            IpVersion::V6 => length.saturating_sub(3),
        };
        0.5f64.powi(free.into())
    }

    /// The same for one prefix: of IPv4 what is neither reserved nor multicast counts.
    pub(super) fn space_of(&self, bits: u128, length: u8) -> f64 {
        match self.version {
            IpVersion::V4 => {
                let from = bits >> 96;
                let to = from + (1u128 << (32 - length));
                let used = to.min(224 << 24).saturating_sub(from.max(1 << 24));
                #[allow(clippy::cast_precision_loss, reason = "an IPv4 address has 32 bits")]
                let share = used as f64 / f64::from(223u32 << 24);
                share
            }
            IpVersion::V6 => self.space(length),
        }
    }

    /// Ordinary rows.
    pub(super) const fn ordinary(&self) -> usize {
        self.openings - self.attack
    }

    /// Whether a row is of ordinary traffic that was seen.
    pub(super) const fn is_ordinary(&self, row: usize) -> bool {
        self.attack <= row && row < self.openings
    }

    #[allow(clippy::cast_precision_loss, reason = "at most 512 rows")]
    pub(super) fn shares(&self, set: &RowSet) -> Shares {
        let mut shares = Shares::default();
        let mut openings = 0u32;
        set.for_each(|i| {
            if i < self.attack {
                shares.attack += self.share[i];
                shares.attack_rows += 1;
            } else if i < self.openings {
                shares.ordinary += self.share[i];
                shares.ordinary_rows += 1;
            } else {
                openings += 1;
            }
        });
        shares.connections = self.connections_of(f64::from(openings), shares.ordinary);
        shares
    }

    /// Share of new connections of some openings. A handful of SYN says little: it leans on the share of packets by one of them.
    #[allow(clippy::cast_precision_loss, reason = "at most 512 rows")]
    pub(super) fn connections_of(&self, openings: f64, ordinary: f64) -> f64 {
        let count = self.rows.len() - self.openings;
        if count == 0 {
            return ordinary;
        }
        (openings / count as f64 * f64::from(self.syns) + ordinary) / (f64::from(self.syns) + 1.0)
    }
}

/// Rows whose address, by which they are sorted, lies in a prefix.
fn within(sorted: &[(u128, u16)], prefix: &Prefix) -> RowSet {
    let apart = |bits: u128| (bits ^ prefix.bits()).leading_zeros() < u32::from(prefix.length());
    let from = sorted.partition_point(|(bits, _)| *bits < prefix.bits() && apart(*bits));
    let mut found = RowSet::EMPTY;
    sorted[from..].iter().take_while(|(bits, _)| !apart(*bits)).for_each(|(_, i)| found.insert(usize::from(*i)));
    found
}

/// The openings of some ordinary rows.
fn openings_of(version: IpVersion, ordinary: &[Row]) -> Vec<Row> {
    let syns: Vec<&Row> = ordinary.iter().filter(|r| r.is_syn).collect();
    if syns.is_empty() {
        return Vec::new();
    }
    let port = |r: &Row| r.number(Field::DestinationPort);
    // Answers to connections that the target opened itself do not begin with a SYN to it.
    let is_of_service = |r: &&Row| r.protocol() == u32::from(protocol::TCP) && syns.iter().any(|s| port(s) == port(r));
    let mut of_service: Vec<&Row> = ordinary.iter().filter(is_of_service).collect();
    // By source, so that a host with many packets opens connections of all kinds.
    of_service.sort_by_key(|r| r.source);
    let step = of_service.len().div_ceil(MAX_OPENINGS).max(1);
    let common = SYN_LENGTHS.map(|length| {
        let mut syn = syns[0].clone();
        let more = if version == IpVersion::V6 { 20 } else { 0 };
        syn.numbers[Field::Length.column()] = length + more;
        syn
    });
    let templates: Vec<&Row> = syns.iter().copied().chain(&common).collect();
    let length = |r: &Row| r.numbers[Field::Length.column()];
    let header = if version == IpVersion::V6 { 60 } else { 40 };
    // Who acknowledges without options sends no timestamps, and then its SYN is too short to have asked for them.
    let mut bare: Vec<(Option<u128>, bool)> = of_service
        .iter()
        .filter(|r| r.flags == Some(tcp_flags::ACK) && (length(r) == header || length(r) == header + 12))
        .map(|r| (r.source, length(r) == header))
        .collect();
    bare.sort_unstable();
    bare.dedup_by_key(|b| b.0);
    let (short, long): (Vec<&Row>, Vec<&Row>) = templates.iter().copied().partition(|t| length(t) < header + 20);
    let mut next = [0; 3];
    let opening = |row: &&Row| {
        let known = bare.binary_search_by_key(&row.source, |b| b.0).ok().map(|at| bare[at].1);
        let (kind, of) = match known {
            Some(true) => (0, &short),
            Some(false) => (1, &long),
            None => (2, &templates),
        };
        let syn = of[next[kind] % of.len()];
        next[kind] += 1;
        let mut numbers = syn.numbers;
        for field in [Field::DestinationPort, Field::SourcePort] {
            numbers[field.column()] = row.numbers[field.column()];
        }
        Row { source: row.source, destination: row.destination, numbers, ..syn.clone() }
    };
    of_service.iter().step_by(step).map(opening).collect()
}

/// Rows that have a value, by ascending value and then by row: a radix sort of the bytes that the values have.
#[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows")]
fn sorted(rows: &[Row], column: usize) -> Vec<u16> {
    let value = |i: u16| rows[usize::from(i)].numbers[column];
    let mut order: Vec<u16> = (0..rows.len() as u16).filter(|i| value(*i) != ABSENT).collect();
    let highest = order.iter().map(|i| value(*i)).max().unwrap_or(0);
    let mut next = vec![0; order.len()];
    for shift in (0..u32::BITS).step_by(8).take_while(|shift| highest >> shift > 0) {
        let byte = |i: u16| (value(i) >> shift & 0xff) as usize;
        let mut starts = [0u16; 257];
        order.iter().for_each(|i| starts[byte(*i) + 1] += 1);
        (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
        for i in &order {
            let start = &mut starts[byte(*i)];
            next[usize::from(*start)] = *i;
            *start += 1;
        }
        std::mem::swap(&mut order, &mut next);
    }
    order
}

#[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows, and 32 bits of an IPv4 address")]
fn by_address(version: IpVersion, rows: &[Row], of: impl Fn(&Row) -> Option<u128>) -> Vec<(u128, u16)> {
    let found = rows.iter().enumerate().filter_map(|(i, r)| Some((of(r)?, i as u16)));
    if version == IpVersion::V4 {
        let mut keys: Vec<u64> = found.map(|(bits, i)| ((bits >> 96) as u64) << 16 | u64::from(i)).collect();
        keys.sort_unstable();
        return keys.into_iter().map(|key| (u128::from(key >> 16) << 96, key as u16)).collect();
    }
    let mut found: Vec<(u128, u16)> = found.collect();
    found.sort_unstable();
    found
}
