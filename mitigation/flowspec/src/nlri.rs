//! FlowSpec NLRI (RFC 8955 section 4, RFC 8956 section 3) to [`Pattern`] and back; unicast prefixes (RFC 4271 section 4.3).
//!
//! What is encoded is canonical: components in order, host bits cleared, the AND bit of a first operator clear, single values as
//! `=v`, ranges as `>=low & <=high`, in the shortest octets. A withdrawal therefore has the octets of the announcement.
//!
//! The codec writes whatever the standards allow, up to 4095 octets; what a router is not sent is settled by its
//! [`super::profile::Profile`].

use traffic::{IpVersion, Prefix};

use crate::pattern::MAX_RANGES;
use crate::{BitTest, Bits, Condition, Pattern, Ranges};

/// Longest NLRI that is sent to routers: several reset or switch off the family at 240 octets, where the length takes two.
pub const MAX_SENT: usize = 239;
/// Longest NLRI there is (RFC 8955 section 4.1).
pub const MAX_ENCODED: usize = 4095;

/// Why an NLRI cannot be encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NlriError {
    /// It ends inside a component.
    #[error("the NLRI is cut inside a component")]
    Truncated,
    /// RFC 8955 section 4.2: types ascend, each once.
    #[error("components are not in ascending order of type")]
    Order,
    /// A type this program does not know.
    #[error("unknown component type {0}")]
    UnknownType(u8),
    /// A prefix longer than its address, or an offset beyond it.
    #[error("bad prefix length or offset")]
    Prefix,
    /// A value or operator that the component cannot have.
    #[error("bad operator or value in component type {0}")]
    Operator(u8),
    /// No component at all.
    #[error("the NLRI has no component")]
    Empty,
    /// Longer than [`MAX_ENCODED`].
    #[error("the rule takes more than 4095 octets; use fewer values")]
    TooLong,
    /// A condition of the other address family.
    #[error("the rule mixes address families or has no prefix to tell its family")]
    Family,
}

const END_OF_LIST: u8 = 0x80;
const AND: u8 = 0x40;
const LESS: u8 = 0x04;
const GREATER: u8 = 0x02;
const EQUAL: u8 = 0x01;
const NOT: u8 = 0x02;
const MATCH: u8 = 0x01;

/// Encodes a pattern, with the length in front: one octet, or two from 240 octets on.
///
/// # Errors
/// See [`NlriError`].
pub fn encode_with_length(pattern: &Pattern) -> Result<Vec<u8>, NlriError> {
    encode(pattern).map(with_length)
}

/// Puts the length in front of encoded components: one octet, or two from 240 octets on.
#[must_use]
pub fn with_length(components: Vec<u8>) -> Vec<u8> {
    let mut nlri = match u8::try_from(components.len()) {
        Ok(length) if length < 0xf0 => vec![length],
        _ => (0xf000 | u16::try_from(components.len()).unwrap_or(u16::MAX)).to_be_bytes().to_vec(),
    };
    nlri.extend(components);
    nlri
}

/// How numeric sets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// Single values as `=v`, ranges as `>=low & <=high`.
    #[default]
    Ranges,
    /// Every value by itself, for routers that cannot match ranges.
    Values,
}

/// Encodes the components of a pattern, without the length in front.
///
/// # Errors
/// See [`NlriError`].
pub fn encode(pattern: &Pattern) -> Result<Vec<u8>, NlriError> {
    encode_spelled(pattern, Spelling::Ranges)
}

/// As [`encode`], with numeric sets spelled one way or the other.
///
/// # Errors
/// See [`NlriError`].
pub fn encode_spelled(pattern: &Pattern, spelling: Spelling) -> Result<Vec<u8>, NlriError> {
    let mut out = Vec::with_capacity(32);
    if pattern.conditions().is_empty() {
        return Err(NlriError::Empty);
    }
    for condition in pattern.conditions() {
        out.push(condition.component_type());
        match condition {
            Condition::Destination(prefix, offset) | Condition::Source(prefix, offset) => {
                out.push(prefix.length());
                if prefix.version() == IpVersion::V6 {
                    out.push(*offset);
                }
                // RFC 8956 section 3.1: only the bits from the offset on, left-aligned.
                let bits = prefix.bits().checked_shl((*offset).into()).unwrap_or(0);
                let octets = usize::from(prefix.length().saturating_sub(*offset)).div_ceil(8);
                out.extend(bits.to_be_bytes().into_iter().take(octets));
            }
            Condition::Protocol(set)
            | Condition::Port(set)
            | Condition::DestinationPort(set)
            | Condition::SourcePort(set)
            | Condition::IcmpType(set)
            | Condition::IcmpCode(set)
            | Condition::Length(set)
            | Condition::Dscp(set)
            | Condition::FlowLabel(set) => encode_numbers(set, spelling, &mut out)?,
            Condition::TcpFlags(bits) | Condition::Fragment(bits) => encode_bits(bits, &mut out),
        }
    }
    if out.len() > MAX_ENCODED {
        return Err(NlriError::TooLong);
    }
    Ok(out)
}

/// The octets of a prefix: as many as its length needs (RFC 4271 section 4.3).
fn prefix_octets(prefix: &Prefix) -> impl Iterator<Item = u8> {
    prefix.bits().to_be_bytes().into_iter().take(usize::from(prefix.length()).div_ceil(8))
}

fn encode_numbers(set: &Ranges, spelling: Spelling, out: &mut Vec<u8>) -> Result<(), NlriError> {
    let mut last = out.len();
    for &(low, high) in set.as_slice() {
        if low == high {
            last = encode_value(EQUAL, low, out);
        } else if spelling == Spelling::Values {
            for value in low..=high {
                last = encode_value(EQUAL, value, out);
                if out.len() > MAX_ENCODED {
                    return Err(NlriError::TooLong);
                }
            }
        } else {
            encode_value(GREATER | EQUAL, low, out);
            last = encode_value(AND | LESS | EQUAL, high, out);
        }
    }
    out[last] |= END_OF_LIST;
    Ok(())
}

/// Appends an operator and its value in the fewest octets (1, 2 or 4); returns the operator's place.
fn encode_value(operator: u8, value: u32, out: &mut Vec<u8>) -> usize {
    let at = out.len();
    let octets = value.to_be_bytes();
    let (size, skip) = match value {
        0..=0xff => (0x00, 3),
        0x100..=0xffff => (0x10, 2),
        _ => (0x20, 0),
    };
    out.push(operator | size);
    out.extend(&octets[skip..]);
    at
}

fn encode_bits(bits: &Bits, out: &mut Vec<u8>) {
    let mut last = out.len();
    for test in bits.as_slice() {
        let operator =
            if test.and { AND } else { 0 } | if test.negate { NOT } else { 0 } | if test.all { MATCH } else { 0 };
        last = encode_value(operator, test.mask.into(), out);
    }
    out[last] |= END_OF_LIST;
}

/// A FlowSpec NLRI as received. On the wire its octets are its identity: two that mean the same are two routes, and RFC 8955
/// section 5.1 orders rules by their octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowNlri {
    /// Address family.
    pub version: IpVersion,
    /// The components, without the length in front.
    pub octets: Vec<u8>,
    /// What they mean.
    pub pattern: Pattern,
}

impl FlowNlri {
    /// Decodes the components of an NLRI, without the length in front.
    ///
    /// # Errors
    /// See [`decode`].
    pub fn decode(version: IpVersion, octets: &[u8]) -> Result<Self, NlriError> {
        Ok(Self { version, octets: octets.to_vec(), pattern: decode(version, octets)? })
    }
}

/// Decodes the components of an NLRI (without the length in front) of an address family.
///
/// # Errors
/// See [`NlriError`]; a caller drops the rule and keeps the session, since the length in front finds the next one.
pub fn decode(version: IpVersion, mut data: &[u8]) -> Result<Pattern, NlriError> {
    let mut conditions = Vec::new();
    let mut before = 0;
    if data.is_empty() {
        return Err(NlriError::Empty);
    }
    while let Some((&kind, rest)) = data.split_first() {
        if kind <= before {
            return Err(NlriError::Order);
        }
        before = kind;
        let (condition, rest) = decode_component(version, kind, rest)?;
        conditions.push(condition);
        data = rest;
    }
    Pattern::new(conditions).map_err(|_| NlriError::Family)
}

fn decode_component(version: IpVersion, kind: u8, data: &[u8]) -> Result<(Condition, &[u8]), NlriError> {
    if kind == 1 || kind == 2 {
        let (prefix, offset, rest) = decode_prefix(version, data)?;
        let condition =
            if kind == 1 { Condition::Destination(prefix, offset) } else { Condition::Source(prefix, offset) };
        return Ok((condition, rest));
    }
    if kind == 9 || kind == 12 {
        let (bits, rest) = decode_bits(kind, data)?;
        return Ok((if kind == 9 { Condition::TcpFlags(bits) } else { Condition::Fragment(bits) }, rest));
    }
    let max = match kind {
        3 | 7 | 8 => 0xff,
        4..=6 | 10 => 0xffff,
        11 => 0x3f,
        13 if version == IpVersion::V6 => 0xf_ffff,
        _ => return Err(NlriError::UnknownType(kind)),
    };
    let (set, rest) = decode_numbers(kind, max, data)?;
    let condition = match kind {
        3 => Condition::Protocol(set),
        4 => Condition::Port(set),
        5 => Condition::DestinationPort(set),
        6 => Condition::SourcePort(set),
        7 => Condition::IcmpType(set),
        8 => Condition::IcmpCode(set),
        10 => Condition::Length(set),
        11 => Condition::Dscp(set),
        _ => Condition::FlowLabel(set),
    };
    Ok((condition, rest))
}

fn decode_prefix(version: IpVersion, data: &[u8]) -> Result<(Prefix, u8, &[u8]), NlriError> {
    let (&length, mut rest) = data.split_first().ok_or(NlriError::Truncated)?;
    let mut offset = 0;
    if version == IpVersion::V6 {
        (offset, rest) = rest.split_first().map(|(o, r)| (*o, r)).ok_or(NlriError::Truncated)?;
    }
    if length > version.bits() || (offset > 0 && offset >= length) {
        return Err(NlriError::Prefix);
    }
    // RFC 8956 section 3.1: only the bits from the offset on are there, left-aligned.
    let octets = usize::from(length - offset).div_ceil(8);
    let (pattern, rest) = rest.split_at_checked(octets).ok_or(NlriError::Truncated)?;
    let bits = pattern.iter().enumerate().fold(0u128, |bits, (i, octet)| bits | u128::from(*octet) << (120 - 8 * i));
    let bits = bits.checked_shr(offset.into()).unwrap_or(0);
    let prefix = Prefix::new(version, bits, length).ok_or(NlriError::Prefix)?;
    Ok((prefix, offset, rest))
}

/// Takes an operator and its value from the front.
pub fn decode_value(data: &[u8]) -> Result<(u8, u64, &[u8]), NlriError> {
    let (&operator, rest) = data.split_first().ok_or(NlriError::Truncated)?;
    let size = 1usize << (operator >> 4 & 3);
    let (value, rest) = rest.split_at_checked(size).ok_or(NlriError::Truncated)?;
    Ok((operator, value.iter().fold(0u64, |n, octet| n << 8 | u64::from(*octet)), rest))
}

/// Numeric operators to ranges: AND binds before OR; `<`, `>`, `!=`, false and true are all ranges of the field.
fn decode_numbers(kind: u8, max: u32, mut data: &[u8]) -> Result<(Ranges, &[u8]), NlriError> {
    let mut any: Vec<(u32, u32)> = Vec::new();
    let mut all: Vec<(u32, u32)> = Vec::new();
    for index in 0..MAX_RANGES * 2 {
        let (operator, value, rest) = decode_value(data)?;
        data = rest;
        let value = u32::try_from(value).ok().filter(|v| *v <= max).ok_or(NlriError::Operator(kind))?;
        let ranges = numeric_ranges(operator, value, max);
        // RFC 8955 section 4.2.1.1: the AND bit of the first operator must be unset; it has nothing to join.
        if index > 0 && operator & AND != 0 {
            all = intersect(&all, &ranges);
        } else {
            any.append(&mut all);
            all = ranges;
        }
        if operator & END_OF_LIST != 0 {
            any.append(&mut all);
            let set = Ranges::union(any);
            if set.is_empty() || set.as_slice().len() > MAX_RANGES {
                return Err(NlriError::Operator(kind));
            }
            return Ok((set, data));
        }
    }
    Err(NlriError::Operator(kind))
}

fn numeric_ranges(operator: u8, value: u32, max: u32) -> Vec<(u32, u32)> {
    let mut ranges = Vec::with_capacity(2);
    if operator & LESS != 0 && value > 0 {
        ranges.push((0, value - 1));
    }
    if operator & EQUAL != 0 {
        ranges.push((value, value));
    }
    if operator & GREATER != 0 && value < max {
        ranges.push((value + 1, max));
    }
    Ranges::union(ranges).as_slice().to_vec()
}

fn intersect(a: &[(u32, u32)], b: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x.0.max(y.0), x.1.min(y.1))));
    pairs.filter(|(low, high)| low <= high).collect()
}

fn decode_bits(kind: u8, mut data: &[u8]) -> Result<(Bits, &[u8]), NlriError> {
    let mut tests = Vec::new();
    while tests.len() < MAX_RANGES {
        let (operator, mask, rest) = decode_value(data)?;
        data = rest;
        // RFC 8955 section 4.2.2.9: one or two octets is a must.
        if operator >> 4 & 3 > 1 {
            return Err(NlriError::Operator(kind));
        }
        let mask = u16::try_from(mask).map_err(|_| NlriError::Operator(kind))?;
        tests.push(BitTest { and: operator & AND != 0, negate: operator & NOT != 0, all: operator & MATCH != 0, mask });
        if operator & END_OF_LIST != 0 {
            return Bits::new(tests).map(|bits| (bits, data)).ok_or(NlriError::Operator(kind));
        }
    }
    Err(NlriError::Operator(kind))
}

/// Splits a list of FlowSpec NLRI at their lengths (RFC 8955 section 4.1); `None` when a length does not fit.
pub fn split_flowspec(mut data: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while let Some((&first, rest)) = data.split_first() {
        let (length, rest) = if first < 0xf0 {
            (usize::from(first), rest)
        } else {
            let (&second, rest) = rest.split_first()?;
            (usize::from(first & 0x0f) << 8 | usize::from(second), rest)
        };
        let (part, rest) = rest.split_at_checked(length)?;
        parts.push(part);
        data = rest;
    }
    Some(parts)
}

/// Encodes a unicast prefix.
pub fn encode_unicast(prefix: &Prefix, out: &mut Vec<u8>) {
    out.push(prefix.length());
    out.extend(prefix_octets(prefix));
}

/// Decodes a list of unicast prefixes; `None` when one is malformed (then no later one can be found).
pub fn decode_unicast(version: IpVersion, mut data: &[u8]) -> Option<Vec<Prefix>> {
    let mut prefixes = Vec::new();
    while let Some((&length, rest)) = data.split_first() {
        if length > version.bits() {
            return None;
        }
        let (octets, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        let bits = octets.iter().enumerate().fold(0u128, |bits, (i, octet)| bits | u128::from(*octet) << (120 - 8 * i));
        prefixes.push(Prefix::new(version, bits, length)?);
        data = rest;
    }
    Some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn examples_of_rfc_8955_and_8956_decode_and_encode_to_the_same_octets() {
        for (version, text, meaning) in [
            (IpVersion::V4, "0118c00002038106048119", "destination 192.0.2.0/24 protocol tcp port 25"),
            (
                IpVersion::V4,
                "0118c000020218cb0071040389458b911f90",
                "destination 192.0.2.0/24 source 203.0.113.0/24 port 137-139,8080",
            ),
            (
                IpVersion::V4,
                "0120c00002010c8005",
                "destination 192.0.2.1/32 fragment any(dont-fragment+first-fragment)",
            ),
        ] {
            let pattern = decode(version, &hex(text)).expect("valid");
            assert_eq!(pattern.to_string(), meaning);
            assert_eq!(encode(&pattern), Ok(hex(text)));
        }
        let offset = decode(IpVersion::V6, &hex("01200020010db8026840123456789a038106")).expect("RFC 8956 3.8.1");
        assert_eq!(
            offset.to_string(),
            "destination 2001:db8::/32 source ::1234:5678:9a00:0/104 offset 64 protocol tcp"
        );
        assert_eq!(encode(&offset), Ok(hex("01200020010db8026840123456789a038106")));
    }

    #[test]
    fn all_numeric_operators_become_ranges_of_the_field() {
        let ports = |text: &str| decode(IpVersion::V4, &hex(&format!("05{text}"))).map(|p| p.to_string());
        assert_eq!(ports("9600" /* !=, then cut */), Err(NlriError::Truncated));
        assert_eq!(ports("860050"), Err(NlriError::UnknownType(0x50)));
        assert_eq!(ports("8650").as_deref(), Ok("destination-port 0-79,81-65535"), "not equal 80");
        assert_eq!(ports("8450").as_deref(), Ok("destination-port 0-79"), "less than 80");
        assert_eq!(ports("8750").as_deref(), Ok("destination-port 0-65535"), "true");
        assert_eq!(ports("8050"), Err(NlriError::Operator(5)), "false matches nothing");
        assert_eq!(ports("0350c55a").as_deref(), Ok("destination-port 80-90"), "at least 80 and at most 90");
        assert_eq!(ports("a100010000"), Err(NlriError::Operator(5)), "beyond the field");
    }

    #[test]
    fn a_rule_of_240_octets_has_a_length_of_two() {
        let ports = |n: u32| {
            let ports = Ranges::union((0..n).map(|i| (1000 + 2 * i, 1000 + 2 * i)));
            Pattern::new(vec![Condition::SourcePort(ports)]).expect("valid")
        };
        let long = encode_with_length(&ports(90)).expect("fits");
        assert_eq!((&long[..2], long.len()), (&[0xf1, 0x0f][..], 2 + 271));
        assert_eq!(encode_with_length(&ports(79)).expect("fits")[0], 238);
        assert_eq!(split_flowspec(&long).expect("lengths fit")[0], &long[2..]);
    }

    #[test]
    fn malformed_rules_are_refused() {
        for (text, error) in [
            ("0381060120c0000201", NlriError::Order),
            ("0120c00002", NlriError::Truncated),
            ("0121c000020100", NlriError::Prefix),
            ("0e8101", NlriError::UnknownType(14)),
            ("03810603810f", NlriError::Order),
            ("", NlriError::Empty),
        ] {
            assert_eq!(decode(IpVersion::V4, &hex(text)), Err(error), "{text}");
        }
    }
}
