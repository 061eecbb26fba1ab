//! [`Sample`]: one packet header or flow record, and how much traffic it stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::protocol;

/// Nanoseconds since the Unix epoch. Enters the program in `src/clock.rs` or from a capture file, nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// From whole seconds and nanoseconds within the second; saturates in the year 2554.
    #[must_use]
    pub const fn from_seconds(seconds: u64, nanoseconds: u32) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds as u64))
    }

    /// The span since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `span`, saturating.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Seconds since the epoch as a float, for people and JSON.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "microseconds survive, which is what captures carry")]
    pub fn as_seconds(self) -> f64 {
        (self.0 / 1_000) as f64 / 1e6
    }
}

/// Version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum IpVersion {
    /// IPv4: addresses of 32 bits.
    V4 = 4,
    /// IPv6: addresses of 128 bits.
    V6 = 6,
}

impl IpVersion {
    /// Length of an address in bits: 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// Splits an address into its version and its bits, left-aligned: the first bit of the address is the highest bit of the
/// `u128` in either version, so that prefix arithmetic is written once.
#[must_use]
pub fn address_bits(address: IpAddr) -> (IpVersion, u128) {
    match address {
        IpAddr::V4(v4) => (IpVersion::V4, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (IpVersion::V6, v6.to_bits()),
    }
}

/// The address that [`address_bits`] took apart.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the upper 32 of 128 bits")]
pub fn address_of(version: IpVersion, bits: u128) -> IpAddr {
    match version {
        IpVersion::V4 => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
        IpVersion::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// Which fields of a [`Sample`] are known exactly (decision 9: samples of flow telemetry are not packets).
///
/// A field that is not known is zero and must not be matched: a [`Sample`] without [`Fields::LENGTH`] carries a mean packet
/// length, one without [`Fields::TCP_FLAGS`] the OR of the flags of several packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Fields(pub u16);

impl Fields {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// Source and destination port, or the certainty that there are none (not TCP/UDP, or a later fragment).
    pub const PORTS: Self = Self(1);
    /// IP total length of each packet the sample stands for.
    pub const LENGTH: Self = Self(1 << 1);
    /// TCP flags of each packet, or the certainty that there are none.
    pub const TCP_FLAGS: Self = Self(1 << 2);
    /// Fragment bits of each packet.
    pub const FRAGMENT: Self = Self(1 << 3);
    /// ICMP type and code, or the certainty that there are none.
    pub const ICMP: Self = Self(1 << 4);
    /// Differentiated services code point.
    pub const DSCP: Self = Self(1 << 5);
    /// IPv6 flow label (in IPv4: the certainty that there is none).
    pub const FLOW_LABEL: Self = Self(1 << 6);
    /// IP protocol (IPv6: of the upper layer, after extension headers).
    pub const PROTOCOL: Self = Self(1 << 7);
    /// Both addresses.
    pub const ADDRESSES: Self = Self(1 << 8);
    /// All of the above: a whole packet header.
    pub const ALL: Self = Self((1 << 9) - 1);

    /// Whether every field of `other` is known.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These fields without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Fields {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Fields {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Fields {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Where a sample comes from, which says how far its fields can be trusted and how many make a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// A packet seen on a mirror port or in a capture file.
    Packet,
    /// One sampled packet header exported by a router (sFlow flow sample, IPFIX data link frame section).
    SampledPacket,
    /// A flow record: one or more packets summed by the exporter (NetFlow, IPFIX).
    FlowRecord,
}

/// Fragment bits as FlowSpec numbers them (RFC 8955 section 4.2.2.12).
pub mod fragment {
    /// Don't fragment (IPv4 only).
    pub const DONT: u8 = 0x01;
    /// Is a fragment other than the first.
    pub const IS: u8 = 0x02;
    /// First fragment.
    pub const FIRST: u8 = 0x04;
    /// Last fragment.
    pub const LAST: u8 = 0x08;
}

/// TCP flag bits, lowest byte of RFC 9293 section 3.1 plus the reserved bits above.
pub mod tcp_flags {
    /// No more data.
    pub const FIN: u16 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u16 = 0x02;
    /// Reset.
    pub const RST: u16 = 0x04;
    /// Push.
    pub const PSH: u16 = 0x08;
    /// Acknowledgement is significant.
    pub const ACK: u16 = 0x10;
    /// Urgent pointer is significant.
    pub const URG: u16 = 0x20;
}

/// Packets, or bytes, that one sample stands for at most: more than any record can truthfully tell of (281 terabytes), and few
/// enough that sums over tens of thousands of samples stay far from overflow.
pub const MOST_UNITS: u64 = 1 << 48;

/// One packet header or flow record, and how much traffic it stands for.
///
/// `packets` and `bytes` are already multiplied by the sampling rate. Addresses are left-aligned (see [`address_bits`]).
/// 96 bytes, `Copy`: a datagram decodes into a small array of these without allocating.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Source address bits, left-aligned; meaning by `version`.
    pub source: u128,
    /// Destination address bits, left-aligned.
    pub destination: u128,
    /// When the packet was seen or the record arrived.
    pub time: Time,
    /// Packets this sample stands for, scaled by sampling.
    pub packets: u64,
    /// IP bytes (headers included, link layer excluded) this sample stands for, scaled by sampling.
    pub bytes: u64,
    /// N of 1:N sampling; 1 when every packet is counted. `packets / sampling_rate` packets were really seen.
    pub sampling_rate: u32,
    /// The span of time that the counters of a flow record cover, in milliseconds: from its flow's first packet to its last, at
    /// most the time since the flow was reported before, where that is known; 0 for a packet.
    pub duration_ms: u32,
    /// From the last packet of a flow record to the moment it was exported, by the exporter's own clock, in milliseconds; 0 unknown.
    pub age_ms: u32,
    /// IPv6 flow label (20 bits).
    pub flow_label: u32,
    /// Index of the exporter in the collector's own table (0: a mirror port or capture file).
    pub exporter: u16,
    /// SNMP index of the input interface, cut to 16 bits; 0 unknown.
    pub input_interface: u16,
    /// Source port; 0 without TCP, UDP or SCTP header.
    pub source_port: u16,
    /// Destination port; 0 without TCP, UDP or SCTP header.
    pub destination_port: u16,
    /// IP total length of one packet in bytes (IPv6: payload length + 40); a mean without [`Fields::LENGTH`]; at most 65535.
    pub length: u16,
    /// TCP flags, low 12 bits of the two bytes after the data offset.
    pub tcp_flags: u16,
    /// Which of the fields are exact.
    pub known: Fields,
    /// IP version of both addresses.
    pub version: IpVersion,
    /// IP protocol (IPv6: upper layer).
    pub protocol: u8,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// Differentiated services code point (6 bits).
    pub dscp: u8,
    /// Bits of [`fragment`].
    pub fragment: u8,
    /// Where the sample comes from.
    pub origin: Origin,
    /// The exporter says it dropped this traffic (forwardingStatus, sFlow discard).
    pub dropped: bool,
    /// Number of the router that the exporter stands for, from 1; 0: no router in particular.
    pub router: u8,
    /// The exporter stands inside the network: what crosses the border is told of by another one as well.
    pub inside: bool,
}

const _: () = assert!(size_of::<Sample>() <= 96, "a sample is copied per packet: keep it within 96 bytes");

impl Sample {
    /// An empty sample: no traffic, nothing known. Decoders fill it field by field.
    #[must_use]
    pub const fn empty(time: Time, version: IpVersion, origin: Origin) -> Self {
        Self {
            source: 0,
            destination: 0,
            time,
            packets: 0,
            bytes: 0,
            sampling_rate: 1,
            duration_ms: 0,
            age_ms: 0,
            flow_label: 0,
            exporter: 0,
            input_interface: 0,
            source_port: 0,
            destination_port: 0,
            length: 0,
            tcp_flags: 0,
            known: Fields::NONE,
            version,
            protocol: 0,
            icmp_type: 0,
            icmp_code: 0,
            dscp: 0,
            fragment: 0,
            origin,
            dropped: false,
            router: 0,
            inside: false,
        }
    }

    /// Source address.
    #[must_use]
    pub fn source_address(&self) -> IpAddr {
        address_of(self.version, self.source)
    }

    /// Destination address.
    #[must_use]
    pub fn destination_address(&self) -> IpAddr {
        address_of(self.version, self.destination)
    }

    /// Packets really seen before scaling, at least 1: the number of independent observations.
    #[must_use]
    #[inline]
    pub fn observed_packets(&self) -> u64 {
        // Mostly there is nothing to divide by.
        if self.sampling_rate <= 1 {
            self.packets.max(1)
        } else {
            (self.packets / u64::from(self.sampling_rate)).max(1)
        }
    }

    /// Whether this is a fragment other than the first (it carries no transport header).
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment & fragment::IS != 0
    }

    /// Whether this is any fragment, first or later.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.fragment & (fragment::IS | fragment::FIRST) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip_through_left_aligned_bits() {
        for text in ["203.0.113.9", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::"] {
            let address: IpAddr = text.parse().expect("literal address");
            let (version, bits) = address_bits(address);
            assert_eq!(address_of(version, bits), address);
        }
    }

    #[test]
    fn the_first_bit_of_an_ipv4_address_is_the_highest_bit() {
        let (_, bits) = address_bits(IpAddr::V4(Ipv4Addr::new(128, 0, 0, 0)));
        assert_eq!(bits, 1 << 127);
    }
}
