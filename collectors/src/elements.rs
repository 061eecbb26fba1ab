//! The table from information elements (IANA ipfix registry, RFC 3954 section 8, RFC 5103) to what a record can say.

use crate::sample::IpVersion;

/// What a field of a record says. The order is that of the places in [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "named after the elements in the table below")]
pub(crate) enum Field {
    Bytes,
    Packets,
    TotalBytes,
    TotalPackets,
    PostBytes,
    PostPackets,
    InitiatorBytes,
    InitiatorPackets,
    ResponderBytes,
    ResponderPackets,
    ReverseBytes,
    ReversePackets,
    Layer2Bytes,
    Protocol,
    Tos,
    TcpFlags,
    SourcePort,
    DestinationPort,
    IcmpTypeCode,
    IcmpType,
    IcmpCode,
    FlowLabel,
    MinLength,
    MaxLength,
    FragmentOffset,
    FragmentFlags,
    InputInterface,
    FirstUptime,
    LastUptime,
    StartSeconds,
    EndSeconds,
    StartMillis,
    EndMillis,
    StartMicros,
    EndMicros,
    StartNanos,
    EndNanos,
    DurationMillis,
    DurationMicros,
    ForwardingStatus,
    SamplingInterval,
    SamplerId,
    SelectorId,
    RandomInterval,
    PacketInterval,
    PacketSpace,
    SamplingSize,
    SamplingPopulation,
    SelectorAlgorithm,
    FirewallEvent,
    NatEvent,
    FrameSize,
    OutputInterface,
    FlowDirection,
    SelectionSequence,
    SamplingProbability,
    ActiveTimeout,
    IdleTimeout,
    SourceV4,
    DestinationV4,
    // Not numbers: kept beside the values.
    SourceV6,
    DestinationV6,
    /// The bytes of a frame (315, 313, 104).
    Frame,
    /// The bytes of an IP packet (313).
    IpHeader,
}

impl Field {
    /// Its bit in a set of fields.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether it is kept as a number of up to eight octets (IPv4 addresses are).
    pub(crate) const fn is_number(self) -> bool {
        (self as usize) < NUMBERS
    }
}

/// Numeric places of [`Values`].
const NUMBERS: usize = Field::SourceV6 as usize;

/// The enterprise number of reverse elements (RFC 5103 section 6.1).
const REVERSE: u32 = 29305;

/// The field of an element; `enterprise` is 0 for IANA's own. Elements without use here are skipped by length.
pub(crate) const fn field(enterprise: u32, id: u16) -> Option<Field> {
    if enterprise == REVERSE {
        return match id {
            1 | 85 => Some(Field::ReverseBytes),
            2 | 86 => Some(Field::ReversePackets),
            _ => None,
        };
    }
    if enterprise != 0 {
        return None;
    }
    Some(match id {
        1 => Field::Bytes,
        2 => Field::Packets,
        4 => Field::Protocol,
        5 => Field::Tos,
        6 => Field::TcpFlags,
        7 | 180 | 182 => Field::SourcePort,
        8 => Field::SourceV4,
        10 => Field::InputInterface,
        11 | 181 | 183 => Field::DestinationPort,
        12 => Field::DestinationV4,
        21 => Field::LastUptime,
        22 => Field::FirstUptime,
        23 => Field::PostBytes,
        24 => Field::PostPackets,
        25 => Field::MinLength,
        26 => Field::MaxLength,
        27 => Field::SourceV6,
        28 => Field::DestinationV6,
        31 => Field::FlowLabel,
        32 | 139 => Field::IcmpTypeCode,
        14 => Field::OutputInterface,
        34 => Field::SamplingInterval,
        36 => Field::ActiveTimeout,
        37 => Field::IdleTimeout,
        48 => Field::SamplerId,
        50 => Field::RandomInterval,
        61 => Field::FlowDirection,
        85 => Field::TotalBytes,
        86 => Field::TotalPackets,
        88 => Field::FragmentOffset,
        89 => Field::ForwardingStatus,
        104 | 315 => Field::Frame,
        150 => Field::StartSeconds,
        151 => Field::EndSeconds,
        152 => Field::StartMillis,
        153 => Field::EndMillis,
        154 => Field::StartMicros,
        155 => Field::EndMicros,
        156 => Field::StartNanos,
        157 => Field::EndNanos,
        161 => Field::DurationMillis,
        162 => Field::DurationMicros,
        176 | 178 => Field::IcmpType,
        177 | 179 => Field::IcmpCode,
        197 => Field::FragmentFlags,
        230 => Field::NatEvent,
        231 => Field::InitiatorBytes,
        232 => Field::ResponderBytes,
        233 => Field::FirewallEvent,
        298 => Field::InitiatorPackets,
        299 => Field::ResponderPackets,
        301 => Field::SelectionSequence,
        302 => Field::SelectorId,
        304 => Field::SelectorAlgorithm,
        305 => Field::PacketInterval,
        306 => Field::PacketSpace,
        309 => Field::SamplingSize,
        310 => Field::SamplingPopulation,
        311 => Field::SamplingProbability,
        312 => Field::FrameSize,
        313 => Field::IpHeader,
        352 => Field::Layer2Bytes,
        _ => return None,
    })
}

/// The fields of one record, reused from one record to the next: only what is present is ever read. Numbers are big-endian of up to eight bytes; longer ones keep their last eight.
#[derive(Debug, Clone)]
pub(crate) struct Values<'a> {
    present: u64,
    numbers: [u64; NUMBERS],
    source: u128,
    destination: u128,
    pub(crate) frame: &'a [u8],
}

impl<'a> Values<'a> {
    pub(crate) const fn new() -> Self {
        Self { present: 0, numbers: [0; NUMBERS], source: 0, destination: 0, frame: &[] }
    }

    pub(crate) const fn has(&self, field: Field) -> bool {
        self.present & 1 << field as u8 != 0
    }

    /// Whether any of a set of fields ([`Field::bit`]) is there.
    #[inline]
    pub(crate) const fn has_any(&self, fields: u64) -> bool {
        self.present & fields != 0
    }

    /// The number of a field; `None` if the record does not carry it.
    pub(crate) const fn get(&self, field: Field) -> Option<u64> {
        if self.has(field) { Some(self.numbers[field as usize]) } else { None }
    }

    /// Begins a record in which the fields of `present` (bits by place) are about to be stored.
    #[inline]
    pub(crate) const fn begin(&mut self, present: u64) {
        self.present = present;
    }

    /// Stores a number whose presence [`Values::begin`] announced. `place` is below [`NUMBERS`].
    #[inline]
    pub(crate) const fn store(&mut self, place: u8, number: u64) {
        self.numbers[place as usize] = number;
    }

    /// IP version and both addresses, left-aligned; `None` in a record without any.
    #[inline]
    pub(crate) const fn addresses(&self) -> Option<(IpVersion, u128, u128)> {
        if self.has_any(Field::SourceV6.bit() | Field::DestinationV6.bit()) {
            Some((
                IpVersion::V6,
                self.six(Field::SourceV6, self.source),
                self.six(Field::DestinationV6, self.destination),
            ))
        } else if self.has_any(Field::SourceV4.bit() | Field::DestinationV4.bit()) {
            Some((IpVersion::V4, self.four(Field::SourceV4), self.four(Field::DestinationV4)))
        } else {
            None
        }
    }

    const fn four(&self, field: Field) -> u128 {
        if self.has(field) { (self.numbers[field as usize] as u128) << 96 } else { 0 }
    }

    const fn six(&self, field: Field, bits: u128) -> u128 {
        if self.has(field) { bits } else { 0 }
    }

    /// Takes a field's bytes.
    #[inline]
    #[allow(clippy::wildcard_enum_match_arm, reason = "all others are numbers")]
    pub(crate) fn set(&mut self, field: Field, data: &'a [u8]) {
        match field {
            Field::SourceV6 | Field::DestinationV6 => {
                let Some(bits) = data.try_into().ok().map(u128::from_be_bytes) else { return };
                // A record with both versions' addresses has the other one zero.
                if bits == 0 && self.has(Field::SourceV4) {
                    return;
                }
                if matches!(field, Field::SourceV6) { self.source = bits } else { self.destination = bits }
            }
            // A vendor declares an address of two octets: it is none.
            Field::SourceV4 | Field::DestinationV4 if data.len() != 4 => return,
            Field::Frame | Field::IpHeader => self.frame = data,
            _ => {
                if data.is_empty() {
                    return;
                }
                let number = data.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                // A template may name an element twice (both directions' interfaces): the first counts.
                if self.has(field) {
                    return;
                }
                self.numbers[field as usize] = number;
            }
        }
        self.present |= 1 << field as u8;
    }
}

const _: () = assert!((Field::IpHeader as u8) < 64, "presence is one word");
