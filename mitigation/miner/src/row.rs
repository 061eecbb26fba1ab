//! [`Row`]: a sample as the search sees it.

use traffic::sample::{protocol, tcp_flags};
use traffic::{Fields, IpVersion, Sample};

use super::test::{Field, NUMERIC};

/// No value: beyond the maximum of every field.
pub(super) const ABSENT: u32 = u32::MAX;

/// A sample: fields that are not known exactly are absent, and match nothing (decision 9).
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) source: Option<u128>,
    pub(super) destination: Option<u128>,
    pub(super) flags: Option<u16>,
    pub(super) fragment: Option<u16>,
    /// TCP with SYN and without ACK.
    pub(super) is_syn: bool,
    /// In the order of [`NUMERIC`].
    pub(super) numbers: [u32; NUMERIC.len()],
}

impl Row {
    /// A row without any field, which nothing matches.
    pub(super) const NONE: Self = Self {
        source: None,
        destination: None,
        flags: None,
        fragment: None,
        is_syn: false,
        numbers: [ABSENT; NUMERIC.len()],
    };

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

    /// The value of a numeric field, or [`ABSENT`].
    pub(super) const fn number(&self, field: Field) -> u32 {
        self.numbers[field.column()]
    }

    pub(super) const fn is_tcp(&self) -> bool {
        self.number(Field::Protocol) == protocol::TCP as u32
    }
}

/// Row numbers by ascending value, and then by number.
pub(super) type Sorted = Vec<(u32, u16)>;

/// A row with its address.
pub(super) type Addressed = (u128, u16);

/// Rows by ascending address, and then by number.
pub(super) type ByAddress = Vec<Addressed>;

/// Rows that have a value of a numeric field, numbered from `first` on.
#[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows, and 32 bits of a value")]
pub(super) fn sorted(rows: &[Row], first: usize, column: usize) -> Sorted {
    let values = rows.iter().zip(first as u16..).map(|(row, i)| (row.numbers[column].into(), i));
    let keys = by_key(values.filter(|(value, _)| *value != u64::from(ABSENT)).collect());
    keys.into_iter().map(|(value, i)| (value as u32, i)).collect()
}

/// Rows that have an address, numbered from `first` on.
#[allow(clippy::cast_possible_truncation, reason = "at most some thousand rows, and half of an address")]
pub(super) fn by_address(
    version: IpVersion,
    rows: &[Row],
    first: usize,
    of: impl Fn(&Row) -> Option<u128>,
) -> ByAddress {
    let found = rows.iter().zip(first as u16..).filter_map(|(r, i)| Some((of(r)?, i)));
    if version == IpVersion::V4 {
        let keys = by_key(found.map(|(bits, i)| ((bits >> 96) as u64, i)).collect());
        return keys.into_iter().map(|(bits, i)| (u128::from(bits) << 96, i)).collect();
    }
    let keys = by_key(found.map(|(bits, i)| ((bits >> 64) as u64, i)).collect());
    let whole = |(_, i): (u64, u16)| Some((of(&rows[usize::from(i) - first])?, i));
    let mut all: ByAddress = keys.into_iter().filter_map(whole).collect();
    all.chunk_by_mut(|a, b| a.0 >> 64 == b.0 >> 64).for_each(<[Addressed]>::sort_unstable);
    all
}

/// Keys in order, and of equal ones those first that come first: octet by octet, the least significant first, those left out that all
/// have in common.
fn by_key(mut keys: Vec<(u64, u16)>) -> Vec<(u64, u16)> {
    /// Fewer are sorted sooner than counted.
    const MANY: usize = 64;
    let Some(&(first, _)) = keys.first() else { return keys };
    if keys.len() < MANY {
        keys.sort_by_key(|k| k.0);
        return keys;
    }
    let differ = keys.iter().fold(0, |bits, k| bits | (k.0 ^ first));
    let mut sorted = keys.clone();
    for shift in (0..u64::BITS).step_by(8).filter(|shift| differ >> shift & 0xff != 0) {
        let octet = |key: &(u64, u16)| (key.0 >> shift & 0xff) as usize;
        let mut places = [0usize; 256];
        keys.iter().for_each(|k| places[octet(k)] += 1);
        let mut sum = 0;
        places.iter_mut().for_each(|place| (*place, sum) = (sum, sum + *place));
        for key in &keys {
            let place = &mut places[octet(key)];
            sorted[*place] = *key;
            *place += 1;
        }
        std::mem::swap(&mut keys, &mut sorted);
    }
    keys
}

/// What is in either of two sorted lists, in order; at the same key what is in `a` comes first.
pub(super) fn merged<'s, K: Ord + Copy>(
    mut a: &'s [(K, u16)],
    mut b: &'s [(K, u16)],
) -> impl Iterator<Item = (K, usize)> + 's {
    std::iter::from_fn(move || {
        let from_a = match (a.first(), b.first()) {
            (Some(x), Some(y)) => x.0 <= y.0,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let list = if from_a { &mut a } else { &mut b };
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some((first.0, first.1.into()))
    })
}

/// The part of a sorted list with keys from `low` to `high`.
pub(super) fn between<K: Ord + Copy>(sorted: &[(K, u16)], low: K, high: K) -> &[(K, u16)] {
    let from = sorted.partition_point(|s| s.0 < low);
    let to = from + sorted[from..].partition_point(|s| s.0 <= high);
    &sorted[from..to]
}
