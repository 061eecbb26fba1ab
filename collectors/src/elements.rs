//! The table from information elements (IANA ipfix registry, RFC 3954 section 8, RFC 5103) to what a record can say.

use traffic::IpVersion;

/// What a field of a record says. The order is that of [`Places`].
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
    UdpSourcePort,
    UdpDestinationPort,
    TcpSourcePort,
    TcpDestinationPort,
    IcmpTypeCodeV4,
    IcmpTypeCodeV6,
    IcmpTypeV4,
    IcmpTypeV6,
    IcmpCodeV4,
    IcmpCodeV6,
    NextHeader,
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
    /// Finer than milliseconds (154, 156).
    StartFine,
    /// Finer than milliseconds (155, 157).
    EndFine,
    /// Microseconds before the export (158).
    StartOffset,
    /// Microseconds before the export (159).
    EndOffset,
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
    SourceV6,
    DestinationV6,
    /// The bytes of a frame (315, 313, 104).
    Frame,
    /// The bytes of an IP packet (313).
    IpHeader,
}

/// A set of fields.
pub(crate) type Set = u128;

impl Field {
    /// Its bit in a set of fields.
    pub(crate) const fn bit(self) -> Set {
        1 << self as u8
    }
}

/// The enterprise number of reverse elements (RFC 5103 section 6.1).
const REVERSE: u32 = 29305;

/// IANA's elements of use here and their fields.
const ELEMENTS: [(u16, Field); 75] = [
    (1, Field::Bytes),
    (2, Field::Packets),
    (4, Field::Protocol),
    (5, Field::Tos),
    (6, Field::TcpFlags),
    (7, Field::SourcePort),
    (8, Field::SourceV4),
    (10, Field::InputInterface),
    (11, Field::DestinationPort),
    (12, Field::DestinationV4),
    (21, Field::LastUptime),
    (22, Field::FirstUptime),
    (23, Field::PostBytes),
    (24, Field::PostPackets),
    (25, Field::MinLength),
    (26, Field::MaxLength),
    (27, Field::SourceV6),
    (28, Field::DestinationV6),
    (31, Field::FlowLabel),
    (32, Field::IcmpTypeCodeV4),
    (14, Field::OutputInterface),
    (34, Field::SamplingInterval),
    (36, Field::ActiveTimeout),
    (37, Field::IdleTimeout),
    (48, Field::SamplerId),
    (50, Field::RandomInterval),
    (61, Field::FlowDirection),
    (85, Field::TotalBytes),
    (86, Field::TotalPackets),
    (88, Field::FragmentOffset),
    (89, Field::ForwardingStatus),
    (104, Field::Frame),
    (315, Field::Frame),
    (150, Field::StartSeconds),
    (151, Field::EndSeconds),
    (152, Field::StartMillis),
    (153, Field::EndMillis),
    (154, Field::StartFine),
    (156, Field::StartFine),
    (155, Field::EndFine),
    (157, Field::EndFine),
    (158, Field::StartOffset),
    (159, Field::EndOffset),
    (161, Field::DurationMillis),
    (162, Field::DurationMicros),
    (139, Field::IcmpTypeCodeV6),
    (176, Field::IcmpTypeV4),
    (177, Field::IcmpCodeV4),
    (178, Field::IcmpTypeV6),
    (179, Field::IcmpCodeV6),
    (180, Field::UdpSourcePort),
    (181, Field::UdpDestinationPort),
    (182, Field::TcpSourcePort),
    (183, Field::TcpDestinationPort),
    (193, Field::NextHeader),
    (197, Field::FragmentFlags),
    (230, Field::NatEvent),
    (231, Field::InitiatorBytes),
    (232, Field::ResponderBytes),
    (233, Field::FirewallEvent),
    (298, Field::InitiatorPackets),
    (299, Field::ResponderPackets),
    (301, Field::SelectionSequence),
    (302, Field::SelectorId),
    (304, Field::SelectorAlgorithm),
    // Of packets, or of flows (RFC 7014 section 7.2): so many are taken, then so many left out.
    (305, Field::PacketInterval),
    (396, Field::PacketInterval),
    (306, Field::PacketSpace),
    (397, Field::PacketSpace),
    (309, Field::SamplingSize),
    (310, Field::SamplingPopulation),
    (311, Field::SamplingProbability),
    (312, Field::FrameSize),
    (313, Field::IpHeader),
    (352, Field::Layer2Bytes),
];
/// And those of RFC 5103's reverse direction.
const REVERSED: [(u16, Field); 4] =
    [(1, Field::ReverseBytes), (85, Field::ReverseBytes), (2, Field::ReversePackets), (86, Field::ReversePackets)];

/// The field of an element; `enterprise` is 0 for IANA's own. Elements without use here are skipped by length.
pub(crate) fn field(enterprise: u32, id: u16) -> Option<Field> {
    let elements = match enterprise {
        0 => &ELEMENTS[..],
        REVERSE => &REVERSED,
        _ => return None,
    };
    elements.iter().find(|(element, _)| *element == id).map(|(_, field)| *field)
}

/// Fields that have a place.
const FIELDS: usize = Field::IpHeader as usize + 1;
/// Octets before a record that a load may reach into.
pub(crate) const REACH: usize = 8;

/// Where a field of a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The bits of the eight octets before `end` that belong to the number.
    mask: u64,
    /// From the start of the record to the end of the field, in octets.
    end: u16,
}

impl Place {
    /// Of a field that is not there: reads as zero.
    pub(crate) const NOWHERE: Self = Self { mask: 0, end: 0 };

    /// The sixteen octets that end here.
    #[inline]
    pub(crate) fn address(self, octets: &[u8]) -> u128 {
        let end = usize::from(self.end) + REACH;
        let address = || octets.get(end.checked_sub(16)?..end)?.first_chunk().copied();
        address().map_or(0, u128::from_be_bytes)
    }
}

/// The number at a place of a record; `octets` begins [`REACH`] octets before the record.
#[inline]
pub(crate) fn number(octets: &[u8], place: Place) -> u64 {
    let end = usize::from(place.end);
    let octets = octets.get(end..end + REACH).and_then(|octets| octets.first_chunk());
    octets.map_or(0, |octets| u64::from_be_bytes(*octets) & place.mask)
}

/// Where the fields of a record lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    present: Set,
    places: [Place; FIELDS],
    /// Octets of the frame or IP packet.
    section: u16,
}

impl Places {
    pub(crate) const NONE: Self = Self { present: 0, places: [Place::NOWHERE; FIELDS], section: 0 };

    /// The fields that a record has, as a set of [`Field::bit`].
    pub(crate) const fn present(&self) -> Set {
        self.present
    }

    /// Where a field lies; of one that is not there only a template's own places say so.
    #[inline]
    pub(crate) const fn place(&self, field: Field) -> Place {
        self.places[field as usize]
    }

    pub(crate) const fn clear(&mut self) {
        self.present = 0;
    }

    /// Takes in a field of `length` octets that ends `end` octets behind the start of its record.
    #[inline]
    #[allow(clippy::wildcard_enum_match_arm, reason = "all others are numbers")]
    pub(crate) fn add(&mut self, field: Field, end: u16, length: u16) {
        let is_possible = match field {
            Field::SourceV6 | Field::DestinationV6 => length == 16,
            // A vendor declares an address of two octets: it is none.
            Field::SourceV4 | Field::DestinationV4 => length == 4,
            Field::Frame | Field::IpHeader => true,
            // Empty fields say nothing.
            _ => length > 0,
        };
        // A template may name an element twice (both directions' interfaces): the first counts.
        if !is_possible || self.present & field.bit() != 0 {
            return;
        }
        if matches!(field, Field::IpHeader)
            || (matches!(field, Field::Frame) && self.present & Field::IpHeader.bit() == 0)
        {
            self.section = length;
        }
        let mask = u64::MAX.checked_shr(64 - 8 * u32::from(length.min(8))).unwrap_or(0);
        self.places[field as usize] = Place { mask, end };
        self.present |= field.bit();
    }
}

/// One record of a message. Nothing is read before it is asked for: a field costs one load of eight octets that end with it,
/// whatever its length, and fields that nobody asks for cost nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    places: &'a Places,
    /// From [`REACH`] octets before the record to its end.
    octets: &'a [u8],
}

impl<'a> Record<'a> {
    /// `octets` begins [`REACH`] octets before the record.
    #[inline]
    pub(crate) const fn new(places: &'a Places, octets: &'a [u8]) -> Self {
        Self { places, octets }
    }

    /// The fields that it carries.
    #[inline]
    pub(crate) const fn fields(self) -> Set {
        self.places.present
    }

    #[inline]
    pub(crate) const fn has(self, field: Field) -> bool {
        self.has_any(field.bit())
    }

    /// Whether any of a set of fields ([`Field::bit`]) is there.
    #[inline]
    pub(crate) const fn has_any(self, fields: Set) -> bool {
        self.places.present & fields != 0
    }

    /// The number of a field, big-endian; longer ones keep their last eight octets. `None` if the record does not carry it.
    #[inline]
    pub(crate) fn get(self, field: Field) -> Option<u64> {
        if self.has(field) { Some(self.number(field)) } else { None }
    }

    #[inline]
    fn number(self, field: Field) -> u64 {
        number(self.octets, self.places.place(field))
    }

    /// IP version and both addresses, left-aligned; `None` in a record without any.
    #[inline]
    pub(crate) fn addresses(self) -> Option<(IpVersion, u128, u128)> {
        let four = || (self.four(Field::SourceV4), self.four(Field::DestinationV4));
        if self.has_any(Field::SourceV6.bit() | Field::DestinationV6.bit()) {
            let (source, destination) = (self.six(Field::SourceV6), self.six(Field::DestinationV6));
            // A record with both versions' addresses has the other one zero.
            if source == 0 && destination == 0 && self.has(Field::SourceV4) {
                let (source, destination) = four();
                return Some((IpVersion::V4, source, destination));
            }
            Some((IpVersion::V6, source, destination))
        } else if self.has_any(Field::SourceV4.bit() | Field::DestinationV4.bit()) {
            let (source, destination) = four();
            Some((IpVersion::V4, source, destination))
        } else {
            None
        }
    }

    #[inline]
    fn four(self, field: Field) -> u128 {
        u128::from(self.get(field).unwrap_or(0)) << 96
    }

    fn six(self, field: Field) -> u128 {
        if self.has(field) { self.places.place(field).address(self.octets) } else { 0 }
    }

    /// The frame or IP packet whose beginning the record carries.
    pub(crate) fn section(self) -> &'a [u8] {
        let field = if self.has(Field::IpHeader) { Field::IpHeader } else { Field::Frame };
        let end = usize::from(self.places.places[field as usize].end) + REACH;
        let start = end.checked_sub(usize::from(self.places.section));
        start.and_then(|start| self.octets.get(start..end)).unwrap_or(&[])
    }
}

const _: () = assert!(FIELDS <= 128, "presence is one set");
