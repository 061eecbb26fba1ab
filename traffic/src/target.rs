//! [`Target`]: what an attack, a counter, a threshold or a blackhole is about: a prefix and a direction.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::sample::{address_bits, address_of};
use crate::{IpVersion, Sample};

/// An IP prefix of either version; host bits are always zero.
///
/// ```
/// use traffic::Prefix;
/// let prefix: Prefix = "203.0.113.7/24".parse().unwrap();
/// assert_eq!(prefix.to_string(), "203.0.113.0/24");
/// assert!(prefix.contains(&"203.0.113.9".parse().unwrap()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    version: IpVersion,
    bits: u128,
    length: u8,
}

/// Why a text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an IP prefix: {reason}")]
pub struct PrefixError {
    text: String,
    reason: &'static str,
}

impl Prefix {
    /// From left-aligned bits; host bits are cleared. `None` if `length` exceeds the version's 32 or 128 bits.
    #[must_use]
    pub fn new(version: IpVersion, bits: u128, length: u8) -> Option<Self> {
        (length <= version.bits()).then(|| Self { version, bits: bits & mask(length), length })
    }

    /// The /32 or /128 of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let (version, bits) = address_bits(address);
        Self { version, bits, length: version.bits() }
    }

    /// The host prefix of left-aligned address bits.
    #[must_use]
    pub fn host_of(version: IpVersion, bits: u128) -> Self {
        Self { version, bits: bits & mask(version.bits()), length: version.bits() }
    }

    /// IP version of the prefix.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// Left-aligned bits of the first address.
    #[must_use]
    pub const fn bits(&self) -> u128 {
        self.bits
    }

    /// Prefix length, 0..=32 or 0..=128.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// First address of the prefix.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        address_of(self.version, self.bits)
    }

    /// Whether this is a single address.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.length == self.version.bits()
    }

    /// Whether the left-aligned address `bits` of `version` lie inside.
    #[must_use]
    pub const fn contains_bits(&self, version: IpVersion, bits: u128) -> bool {
        self.version as u8 == version as u8 && (self.bits ^ bits) & mask(self.length) == 0
    }

    /// Whether `other` lies inside (or is equal).
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains_bits(other.version, other.bits)
    }

    /// Whether the two share any address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Its lower and its upper half; `None` for a host.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        if self.is_host() {
            return None;
        }
        let length = self.length + 1;
        // Bits are left-aligned: the first bit after the prefix is what tells the halves apart.
        let upper = self.bits | (1u128 << (128 - u32::from(length)));
        Some([self.bits, upper].map(|bits| Self { version: self.version, bits, length }))
    }

    /// The prefix of `length` bits that contains this one; itself if it is already as short.
    #[must_use]
    pub fn widened(&self, length: u8) -> Self {
        let length = length.min(self.length);
        Self { version: self.version, bits: self.bits & mask(length), length }
    }
}

/// The left-aligned mask of `length` bits, 0..=128.
const fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        128.. => u128::MAX,
        _ => u128::MAX << (128 - length),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `ADDRESS/LENGTH`, or an address alone for its host prefix. Host bits are cleared silently; a caller that wants to
    /// complain compares [`Prefix::address`] with what was written.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let error = |reason| PrefixError { text: text.to_owned(), reason };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.trim().parse().map_err(|_| error("write ADDRESS/LENGTH, such as 203.0.113.0/24"))?;
        let (version, bits) = address_bits(address);
        let length = match length {
            None => version.bits(),
            Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(error("the length after / must be a number"));
            }
            Some(text) => text.parse().map_err(|_| error("the length after / is too large"))?,
        };
        Self::new(version, bits, length).ok_or_else(|| match version {
            IpVersion::V4 => error("the length of an IPv4 prefix is 0 to 32"),
            IpVersion::V6 => error("the length of an IPv6 prefix is 0 to 128"),
        })
    }
}

impl serde::Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which way traffic goes, seen from our networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To our networks.
    Incoming,
    /// From our networks.
    Outgoing,
}

impl Direction {
    /// Both directions, in order.
    pub const ALL: [Self; 2] = [Self::Incoming, Self::Outgoing];

    /// `incoming` or `outgoing`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The one key of the product: counters, thresholds, attacks, bans and blackholes are all about a `Target`.
///
/// A host is a /32 or /128, a network its own prefix, everything is /0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Target {
    /// The addresses on our side.
    pub prefix: Prefix,
    /// Whether they receive or send.
    pub direction: Direction,
}

impl Target {
    /// Whether `sample` goes to (incoming) or comes from (outgoing) the prefix.
    #[must_use]
    pub const fn covers(&self, sample: &Sample) -> bool {
        let bits = match self.direction {
            Direction::Incoming => sample.destination,
            Direction::Outgoing => sample.source,
        };
        self.prefix.contains_bits(sample.version, bits)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.prefix, self.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("literal prefix")
    }

    #[test]
    fn containment_needs_the_same_version_and_a_shorter_or_equal_length() {
        assert!(prefix("10.0.0.0/8").contains(&prefix("10.1.2.3")));
        assert!(!prefix("10.1.2.3").contains(&prefix("10.0.0.0/8")));
        assert!(!prefix("::/0").contains(&prefix("10.1.2.3")));
        assert!(prefix("0.0.0.0/0").contains(&prefix("255.255.255.255")));
        assert!(prefix("2001:db8::/32").contains(&prefix("2001:db8:1::/48")));
    }

    #[test]
    fn wrong_texts_are_refused_with_advice() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/24", "::/129", "::/+3", "host"] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?} must be refused");
        }
    }
}
