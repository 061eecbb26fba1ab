//! [`Pattern`]: a conjunction of conditions on header fields, the one predicate of the product.
//!
//! Whitelists, traffic rules, the exclusion of filtered traffic, the miner's candidates, the wire codec and the enforcer
//! all use this type. The conditions are the components of RFC 8955 section 4.2.2 and RFC 8956 section 3.
//!
//! Numeric conditions are kept as sorted, disjoint ranges ([`Ranges`]), whatever operators they were written with, so that
//! equal meaning is equal value. Bitmask conditions ([`Bits`]) keep their operators.
//!
//! Matching has three values (decision 9): a flow record does not say everything a packet says, and a filter that may or
//! may not match must never be counted as if it did.

use std::fmt;

use traffic::sample::protocol;
use traffic::{Fields, IpVersion, Prefix, Sample};

/// Whether a sample matches: flow records do not carry every field exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// No packet of the sample matches.
    No,
    /// The sample does not carry what the condition asks for.
    Unknown,
    /// Every packet of the sample matches.
    Yes,
}

impl Match {
    const fn of(known: bool, matches: bool) -> Self {
        match (known, matches) {
            (false, _) => Self::Unknown,
            (true, true) => Self::Yes,
            (true, false) => Self::No,
        }
    }
}

/// Largest number of ranges in one numeric condition; a wire rule with more is refused.
pub const MAX_RANGES: usize = 128;

/// A set of numbers: sorted, disjoint, non-adjacent inclusive ranges. Never empty in a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// One value.
    #[must_use]
    pub fn value(value: u32) -> Self {
        Self(vec![(value, value)])
    }

    /// All values from `low` to `high`, both included; `None` if `low > high`.
    #[must_use]
    pub fn range(low: u32, high: u32) -> Option<Self> {
        (low <= high).then(|| Self(vec![(low, high)]))
    }

    /// The union of the given inclusive ranges in any order; ranges with `low > high` are empty.
    #[must_use]
    pub fn union(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(low, high)| low <= high).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    /// The ranges, sorted and disjoint.
    #[must_use]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether no value is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `value` is in the set.
    #[must_use]
    pub fn contains(&self, value: u32) -> bool {
        self.0.iter().any(|&(low, high)| low <= value && value <= high)
    }

    /// Whether every value of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|&(low, high)| self.0.iter().any(|&(l, h)| l <= low && high <= h))
    }

    /// The largest value, if any.
    #[must_use]
    pub fn max(&self) -> Option<u32> {
        self.0.last().map(|&(_, high)| high)
    }
}

impl fmt::Display for Ranges {
    /// `53`, `1000-1500`, `53,123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &(low, high)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}-{high}")? }
        }
        Ok(())
    }
}

/// One bitmask test (RFC 8955 section 4.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitTest {
    /// Combined with the test before it by AND instead of OR. False in the first test.
    pub and: bool,
    /// The NOT bit: the result is inverted.
    pub negate: bool,
    /// The match bit: all bits of `mask` must be set (otherwise any of them).
    pub all: bool,
    /// The bits asked for.
    pub mask: u16,
}

impl BitTest {
    const fn matches(self, value: u16) -> bool {
        let hit = if self.all { value & self.mask == self.mask } else { value & self.mask != 0 };
        hit != self.negate
    }
}

/// A bitmask condition: tests joined by AND before OR. Never empty in a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(Vec<BitTest>);

impl Bits {
    /// From tests in order; the AND bit of the first is cleared. `None` without tests or with more than [`MAX_RANGES`].
    #[must_use]
    pub fn new(mut tests: Vec<BitTest>) -> Option<Self> {
        if tests.is_empty() || tests.len() > MAX_RANGES {
            return None;
        }
        tests[0].and = false;
        Some(Self(tests))
    }

    /// At least one bit of `mask` set.
    #[must_use]
    pub fn any(mask: u16) -> Self {
        Self(vec![BitTest { and: false, negate: false, all: false, mask }])
    }

    /// All bits of `mask` set.
    #[must_use]
    pub fn all(mask: u16) -> Self {
        Self(vec![BitTest { and: false, negate: false, all: true, mask }])
    }

    /// All bits of `set` set and none of `clear`, one test per side; with the match bit wherever the meaning allows it, since
    /// some routers want it.
    #[must_use]
    pub fn set_and_clear(set: u16, clear: u16) -> Self {
        let mut tests = Vec::with_capacity(2);
        if set != 0 {
            tests.push(BitTest { and: false, negate: false, all: true, mask: set });
        }
        if clear != 0 || tests.is_empty() {
            let all = clear.count_ones() == 1;
            tests.push(BitTest { and: !tests.is_empty(), negate: true, all, mask: clear });
        }
        Self(tests)
    }

    /// The tests in order.
    #[must_use]
    pub fn as_slice(&self) -> &[BitTest] {
        &self.0
    }

    /// Whether `value` satisfies the tests: AND binds before OR.
    #[must_use]
    pub fn matches(&self, value: u16) -> bool {
        let mut any = false;
        let mut all = true;
        for (i, test) in self.0.iter().enumerate() {
            if !test.and && i > 0 {
                any |= all;
                all = true;
            }
            all &= test.matches(value);
        }
        any | all
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, names: &[(u16, &str)]) -> fmt::Result {
        for (i, test) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(if test.and { "&" } else { "," })?;
            }
            if test.negate {
                f.write_str("!")?;
            }
            let mut known = 0;
            let mut parts = Vec::new();
            for &(bit, name) in names {
                if test.mask & bit != 0 {
                    parts.push(name.to_owned());
                    known |= bit;
                }
            }
            if test.mask & !known != 0 || test.mask == 0 {
                parts.push(format!("0x{:x}", test.mask & !known));
            }
            let joined = parts.join("+");
            match (parts.len(), test.all) {
                (1, _) => f.write_str(&joined)?,
                (_, true) => write!(f, "all({joined})")?,
                (_, false) => write!(f, "any({joined})")?,
            }
        }
        Ok(())
    }
}

/// Names of TCP flags, lowest bit first, for the text form.
pub const TCP_FLAG_NAMES: [(u16, &str); 8] = [
    (0x01, "fin"),
    (0x02, "syn"),
    (0x04, "rst"),
    (0x08, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ece"),
    (0x80, "cwr"),
];

/// Names of fragment bits, lowest bit first, for the text form (RFC 8955 section 4.2.2.12).
pub const FRAGMENT_NAMES: [(u16, &str); 4] =
    [(0x01, "dont-fragment"), (0x02, "is-fragment"), (0x04, "first-fragment"), (0x08, "last-fragment")];

/// A condition on one field. The order of the variants is the order of the component types (RFC 8955 section 4.2.2, RFC
/// 8956 section 3), which is also the order on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Type 1: destination prefix; the second field is the IPv6 offset in bits (RFC 8956 section 3.1), 0 in all we announce.
    Destination(Prefix, u8),
    /// Type 2: source prefix, with the IPv6 offset.
    Source(Prefix, u8),
    /// Type 3: IP protocol (IPv6: upper-layer protocol).
    Protocol(Ranges),
    /// Type 4: source or destination port.
    Port(Ranges),
    /// Type 5: destination port.
    DestinationPort(Ranges),
    /// Type 6: source port.
    SourcePort(Ranges),
    /// Type 7: ICMP or ICMPv6 type.
    IcmpType(Ranges),
    /// Type 8: ICMP or ICMPv6 code.
    IcmpCode(Ranges),
    /// Type 9: TCP flags.
    TcpFlags(Bits),
    /// Type 10: IP total length in bytes.
    Length(Ranges),
    /// Type 11: differentiated services code point.
    Dscp(Ranges),
    /// Type 12: fragment bits.
    Fragment(Bits),
    /// Type 13: IPv6 flow label.
    FlowLabel(Ranges),
}

impl Condition {
    /// Component type on the wire, 1 to 13.
    #[must_use]
    pub const fn component_type(&self) -> u8 {
        match self {
            Self::Destination(..) => 1,
            Self::Source(..) => 2,
            Self::Protocol(_) => 3,
            Self::Port(_) => 4,
            Self::DestinationPort(_) => 5,
            Self::SourcePort(_) => 6,
            Self::IcmpType(_) => 7,
            Self::IcmpCode(_) => 8,
            Self::TcpFlags(_) => 9,
            Self::Length(_) => 10,
            Self::Dscp(_) => 11,
            Self::Fragment(_) => 12,
            Self::FlowLabel(_) => 13,
        }
    }

    /// The values of a numeric condition; `None` of prefixes and bits.
    #[must_use]
    pub const fn values(&self) -> Option<&Ranges> {
        match self {
            Self::Protocol(set)
            | Self::Port(set)
            | Self::DestinationPort(set)
            | Self::SourcePort(set)
            | Self::IcmpType(set)
            | Self::IcmpCode(set)
            | Self::Length(set)
            | Self::Dscp(set)
            | Self::FlowLabel(set) => Some(set),
            Self::Destination(..) | Self::Source(..) | Self::TcpFlags(_) | Self::Fragment(_) => None,
        }
    }

    /// The same condition with other values; prefixes and bits stay what they are.
    #[must_use]
    pub fn with_values(&self, values: Ranges) -> Self {
        match self {
            Self::Protocol(_) => Self::Protocol(values),
            Self::Port(_) => Self::Port(values),
            Self::DestinationPort(_) => Self::DestinationPort(values),
            Self::SourcePort(_) => Self::SourcePort(values),
            Self::IcmpType(_) => Self::IcmpType(values),
            Self::IcmpCode(_) => Self::IcmpCode(values),
            Self::Length(_) => Self::Length(values),
            Self::Dscp(_) => Self::Dscp(values),
            Self::FlowLabel(_) => Self::FlowLabel(values),
            Self::Destination(..) | Self::Source(..) | Self::TcpFlags(_) | Self::Fragment(_) => self.clone(),
        }
    }

    /// The IP version the condition implies; `None` if it holds for both.
    const fn version(&self) -> Option<IpVersion> {
        if let Self::Destination(prefix, _) | Self::Source(prefix, _) = self {
            return Some(prefix.version());
        }
        if matches!(self, Self::FlowLabel(_)) { Some(IpVersion::V6) } else { None }
    }

    /// Largest value the field can hold, for numeric conditions.
    #[must_use]
    pub const fn field_max(&self) -> Option<u32> {
        match self {
            Self::Protocol(_) | Self::IcmpType(_) | Self::IcmpCode(_) => Some(0xff),
            Self::Port(_) | Self::DestinationPort(_) | Self::SourcePort(_) | Self::Length(_) => Some(0xffff),
            Self::Dscp(_) => Some(0x3f),
            Self::FlowLabel(_) => Some(0xf_ffff),
            Self::Destination(..) | Self::Source(..) | Self::TcpFlags(_) | Self::Fragment(_) => None,
        }
    }

    /// Whether `sample` satisfies this condition.
    ///
    /// Ports are matched in TCP and UDP packets that carry a transport header, so never in a later fragment; SCTP, DCCP and
    /// UDP-Lite have ports that no router looks at (RFC 8955 section 4.2.2.4);
    /// flags only in TCP, type and code only in ICMP: a packet without the field does not match.
    #[must_use]
    pub fn matches(&self, sample: &Sample) -> Match {
        let known = |field| sample.known.has(field);
        match self {
            Self::Destination(prefix, offset) => prefix_matches(sample, prefix, *offset, sample.destination),
            Self::Source(prefix, offset) => prefix_matches(sample, prefix, *offset, sample.source),
            Self::Protocol(set) => Match::of(known(Fields::PROTOCOL), set.contains(sample.protocol.into())),
            Self::Port(set) => {
                port(sample, || set.contains(sample.source_port.into()) || set.contains(sample.destination_port.into()))
            }
            Self::DestinationPort(set) => port(sample, || set.contains(sample.destination_port.into())),
            Self::SourcePort(set) => port(sample, || set.contains(sample.source_port.into())),
            Self::IcmpType(set) => icmp(sample, || set.contains(sample.icmp_type.into())),
            Self::IcmpCode(set) => icmp(sample, || set.contains(sample.icmp_code.into())),
            Self::TcpFlags(bits) => match transport(sample, &[protocol::TCP]) {
                Match::Yes => Match::of(known(Fields::TCP_FLAGS), bits.matches(sample.tcp_flags)),
                other @ (Match::No | Match::Unknown) => other,
            },
            Self::Length(set) => Match::of(known(Fields::LENGTH), set.contains(sample.length.into())),
            Self::Dscp(set) => Match::of(known(Fields::DSCP), set.contains(sample.dscp.into())),
            Self::Fragment(bits) => Match::of(known(Fields::FRAGMENT), bits.matches(sample.fragment.into())),
            Self::FlowLabel(set) => match sample.version {
                IpVersion::V4 => Match::No,
                IpVersion::V6 => Match::of(known(Fields::FLOW_LABEL), set.contains(sample.flow_label)),
            },
        }
    }
}

fn prefix_matches(sample: &Sample, prefix: &Prefix, offset: u8, bits: u128) -> Match {
    if sample.version != prefix.version() {
        return Match::No;
    }
    let before =
        if offset == 0 { 0 } else { u128::MAX.checked_shl(128 - u32::from(offset.min(128))).unwrap_or(u128::MAX) };
    Match::of(
        sample.known.has(Fields::ADDRESSES),
        prefix.contains_bits(sample.version, (bits & !before) | (prefix.bits() & before)),
    )
}

/// Whether the sample has a transport header of one of `protocols`.
fn transport(sample: &Sample, protocols: &[u8]) -> Match {
    if !sample.known.has(Fields::PROTOCOL) {
        return Match::Unknown;
    }
    if !protocols.contains(&sample.protocol) {
        return Match::No;
    }
    if sample.is_later_fragment() { Match::No } else { Match::Yes }
}

fn port(sample: &Sample, hit: impl FnOnce() -> bool) -> Match {
    match transport(sample, &protocol::ROUTERS_MATCH_PORTS) {
        Match::Yes => Match::of(sample.known.has(Fields::PORTS), hit()),
        other @ (Match::No | Match::Unknown) => other,
    }
}

fn icmp(sample: &Sample, hit: impl FnOnce() -> bool) -> Match {
    match transport(sample, &[protocol::icmp(sample.version)]) {
        Match::Yes => Match::of(sample.known.has(Fields::ICMP), hit()),
        other @ (Match::No | Match::Unknown) => other,
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = |f: &mut fmt::Formatter<'_>, name: &str, prefix: &Prefix, offset: u8| {
            write!(f, "{name} {prefix}")?;
            if offset > 0 { write!(f, " offset {offset}") } else { Ok(()) }
        };
        match self {
            Self::Destination(p, offset) => prefix(f, "destination", p, *offset),
            Self::Source(p, offset) => prefix(f, "source", p, *offset),
            Self::Protocol(set) => match set.as_slice() {
                [(1, 1)] => f.write_str("protocol icmp"),
                [(6, 6)] => f.write_str("protocol tcp"),
                [(17, 17)] => f.write_str("protocol udp"),
                [(58, 58)] => f.write_str("protocol icmpv6"),
                _ => write!(f, "protocol {set}"),
            },
            Self::Port(set) => write!(f, "port {set}"),
            Self::DestinationPort(set) => write!(f, "destination-port {set}"),
            Self::SourcePort(set) => write!(f, "source-port {set}"),
            Self::IcmpType(set) => write!(f, "icmp-type {set}"),
            Self::IcmpCode(set) => write!(f, "icmp-code {set}"),
            Self::TcpFlags(bits) => {
                f.write_str("tcp-flags ")?;
                bits.write(f, &TCP_FLAG_NAMES)
            }
            Self::Length(set) => write!(f, "length {set}"),
            Self::Dscp(set) => write!(f, "dscp {set}"),
            Self::Fragment(bits) => {
                f.write_str("fragment ")?;
                bits.write(f, &FRAGMENT_NAMES)
            }
            Self::FlowLabel(set) => write!(f, "flow-label {set}"),
        }
    }
}

/// Why conditions do not make a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// RFC 8955 section 4.2: a component type occurs at most once.
    #[error("component type {0} occurs twice")]
    Repeated(u8),
    /// An empty numeric set matches nothing.
    #[error("component type {0} has no value")]
    Empty(u8),
    /// A value does not fit its field.
    #[error("component type {0} has a value beyond the field's maximum")]
    OutOfRange(u8),
    /// Prefixes of IPv4 and IPv6 in one pattern, or a flow label in IPv4.
    #[error("IPv4 and IPv6 conditions in one pattern")]
    MixedVersions,
}

/// A conjunction of conditions, at most one per component type, in component order. The empty pattern matches everything.
///
/// ```
/// use flowspec::{Condition, Pattern, Ranges};
/// let dns = Pattern::new(vec![
///     Condition::SourcePort(Ranges::value(53)),
///     Condition::Protocol(Ranges::value(17)),
///     Condition::Destination("203.0.113.9/32".parse().unwrap(), 0),
/// ]).unwrap();
/// assert_eq!(dns.to_string(), "destination 203.0.113.9/32 protocol udp source-port 53");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pattern(Vec<Condition>);

impl Pattern {
    /// From conditions in any order; values are checked against their fields.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(mut conditions: Vec<Condition>) -> Result<Self, PatternError> {
        conditions.sort_by_key(Condition::component_type);
        for pair in conditions.windows(2) {
            if pair[0].component_type() == pair[1].component_type() {
                return Err(PatternError::Repeated(pair[0].component_type()));
            }
        }
        let mut version = None;
        for condition in &conditions {
            if let Some(of) = condition.version()
                && *version.get_or_insert(of) != of
            {
                return Err(PatternError::MixedVersions);
            }
            check_values(condition)?;
        }
        Ok(Self(conditions))
    }

    /// The conditions in component order.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.0
    }

    /// The destination prefix, if there is one.
    #[must_use]
    pub fn destination(&self) -> Option<Prefix> {
        self.0.iter().find_map(|c| if let Condition::Destination(prefix, _) = c { Some(*prefix) } else { None })
    }

    /// The source prefix, if there is one.
    #[must_use]
    pub fn source(&self) -> Option<Prefix> {
        self.0.iter().find_map(|c| if let Condition::Source(prefix, _) = c { Some(*prefix) } else { None })
    }

    /// The IP version the conditions imply; `None` if they hold for both.
    #[must_use]
    pub fn version(&self) -> Option<IpVersion> {
        self.0.iter().find_map(Condition::version)
    }

    /// Whether `sample` matches: [`Match::No`] if any condition fails, else [`Match::Unknown`] if any is unknown.
    #[must_use]
    pub fn matches(&self, sample: &Sample) -> Match {
        let mut result = Match::Yes;
        for condition in &self.0 {
            match condition.matches(sample) {
                Match::No => return Match::No,
                Match::Unknown => result = Match::Unknown,
                Match::Yes => {}
            }
        }
        result
    }
}

fn check_values(condition: &Condition) -> Result<(), PatternError> {
    let kind = condition.component_type();
    let Some(set) = condition.values() else { return Ok(()) };
    match (set.max(), condition.field_max()) {
        (None, _) => Err(PatternError::Empty(kind)),
        (Some(max), Some(limit)) if max > limit => Err(PatternError::OutOfRange(kind)),
        _ => Ok(()),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        for (i, condition) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{condition}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::{Origin, Time};

    #[test]
    fn a_port_condition_matches_tcp_and_udp_alone() {
        let ports = [Condition::Port, Condition::DestinationPort, Condition::SourcePort];
        for version in [IpVersion::V4, IpVersion::V6] {
            for number in 0..=u8::MAX {
                let mut sample = Sample::empty(Time(0), version, Origin::Packet);
                (sample.protocol, sample.source_port, sample.destination_port) = (number, 80, 80);
                sample.known = Fields::ALL;
                let right = if matches!(number, 6 | 17) { Match::Yes } else { Match::No };
                for condition in ports.map(|of| of(Ranges::value(80))) {
                    assert_eq!(condition.matches(&sample), right, "{condition} of protocol {number}");
                }
            }
        }
    }
}
