//! Encapsulations in which switches send mirrored frames to a collector: ERSPAN, VXLAN, GENEVE, GRE.
//!
//! Routers match outer headers, so tunnels of customers are never opened (decision 12). What is opened is the envelope that the
//! mirror itself puts around every frame, when an operator says that it does.

use traffic::{Sample, Time};

use crate::packet::{self, LinkType, PacketError};

/// The envelope of mirrored frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Encapsulation {
    /// Frames arrive as they are.
    #[default]
    None,
    /// ERSPAN type I, II or III over GRE (draft-foschiano-erspan).
    Erspan,
    /// VXLAN (RFC 7348), UDP port 4789 or 8472.
    Vxlan,
    /// GENEVE (RFC 8926), UDP port 6081.
    Geneve,
    /// GRE (RFC 2784, RFC 2890) with Ethernet, IPv4 or IPv6 inside, and IP in IP (protocols 4 and 41).
    Gre,
}

impl Encapsulation {
    /// All, in the order of the reference.
    pub const ALL: [Self; 5] = [Self::None, Self::Erspan, Self::Vxlan, Self::Geneve, Self::Gre];

    /// Name in the configuration file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Erspan => "erspan",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
        }
    }
}

const TRANSPARENT_ETHERNET: u16 = 0x6558;
const ERSPAN_II: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;

/// What an envelope holds.
struct Inner<'a> {
    link: LinkType,
    data: &'a [u8],
}

/// A mirrored frame to a sample of one packet: of the frame inside the envelope, or of the frame itself where it is none.
///
/// # Errors
/// See [`PacketError`].
#[inline]
pub fn parse(
    encapsulation: Encapsulation,
    link: LinkType,
    time: Time,
    frame: &[u8],
    original_length: u32,
) -> Result<Sample, PacketError> {
    if encapsulation != Encapsulation::None
        && let Ok(packet) = packet::ip_packet(link, frame)
        && let Some(inner) = open(encapsulation, packet.data)
    {
        // The envelope is as long on the wire as in the capture.
        let envelope = u32::try_from(frame.len() - inner.data.len()).unwrap_or(u32::MAX);
        return packet::parse(inner.link, time, inner.data, original_length.saturating_sub(envelope));
    }
    packet::parse(link, time, frame, original_length)
}

fn open(encapsulation: Encapsulation, packet: &[u8]) -> Option<Inner<'_>> {
    let (protocol, payload) = packet::payload(packet)?;
    match (encapsulation, protocol) {
        (Encapsulation::Erspan, 47) => gre(payload, true),
        (Encapsulation::Gre, 47) => gre(payload, false),
        (Encapsulation::Gre, 4 | 41) => Some(Inner { link: LinkType::Ip, data: payload }),
        (Encapsulation::Vxlan, 17) if matches!(u16_at(payload, 2)?, 4789 | 8472) => {
            // Flags with the I bit, reserved, VNI, reserved (RFC 7348 section 5).
            let data = payload.get(16..).filter(|_| payload[8] & 0x08 != 0)?;
            Some(Inner { link: LinkType::Ethernet, data })
        }
        (Encapsulation::Geneve, 17) if u16_at(payload, 2)? == 6081 => {
            // Version 0, options in words of four octets, protocol type (RFC 8926 section 3.4).
            let first = *payload.get(8)?;
            let data = payload.get(16 + usize::from(first & 0x3f) * 4..).filter(|_| first >> 6 == 0)?;
            by_type(u16_at(payload, 10)?, data)
        }
        _ => None,
    }
}

fn by_type(ethertype: u16, data: &[u8]) -> Option<Inner<'_>> {
    let link = match ethertype {
        TRANSPARENT_ETHERNET => LinkType::Ethernet,
        0x0800 | 0x86dd => LinkType::Ip,
        0x8847 | 0x8848 => LinkType::Mpls,
        _ => return None,
    };
    Some(Inner { link, data })
}

/// GRE version 0 with its optional checksum, key and sequence number.
fn gre(data: &[u8], is_erspan: bool) -> Option<Inner<'_>> {
    let flags = u16_at(data, 0)?;
    if flags & 7 != 0 {
        return None;
    }
    let has_sequence = flags & 0x1000 != 0;
    let options = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let payload = data.get(4 + 4 * options..)?;
    match (u16_at(data, 2)?, is_erspan) {
        // Type I has no header of its own, and no sequence number; type II has eight octets.
        (ERSPAN_II, true) => {
            Some(Inner { link: LinkType::Ethernet, data: payload.get(if has_sequence { 8 } else { 0 }..)? })
        }
        // Type III: twelve octets, and eight more when the last bit says so.
        (ERSPAN_III, true) => {
            let more = if payload.get(11)? & 1 != 0 { 8 } else { 0 };
            Some(Inner { link: LinkType::Ethernet, data: payload.get(12 + more..)? })
        }
        (_, true) => None,
        (ethertype, false) => by_type(ethertype, payload),
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ethernet, v4};

    fn inner() -> Vec<u8> {
        ethernet(&[0x08, 0x00], &v4(17, 0, &[0, 53, 0x10, 0x92, 0, 8, 0, 0]))
    }

    fn sample(encapsulation: Encapsulation, protocol: u8, envelope: &[u8]) -> Sample {
        let frame = ethernet(&[0x08, 0x00], &v4(protocol, 0, &[envelope, &inner()].concat()));
        let length = u32::try_from(frame.len()).expect("short");
        parse(encapsulation, LinkType::Ethernet, Time(0), &frame, length).expect("valid")
    }

    #[test]
    fn the_envelope_of_the_mirror_is_opened_and_no_other() {
        let vxlan = [&[0x30, 0, 0x12, 0xb5, 0, 0, 0, 0][..], &[0x08, 0, 0, 0, 0, 0, 7, 0]].concat();
        let geneve = [&[0x30, 0, 0x17, 0xc1, 0, 0, 0, 0][..], &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 9, 9, 9, 9]].concat();
        let type_2 = [&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10, 0, 0, 0, 0, 0, 0, 0]].concat();
        let type_3 = [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..], &[0x20; 11], &[1], &[0; 8]].concat();
        let cases = [
            (Encapsulation::Vxlan, 17, vxlan.clone()),
            (Encapsulation::Geneve, 17, geneve),
            (Encapsulation::Erspan, 47, vec![0, 0, 0x88, 0xbe]),
            (Encapsulation::Erspan, 47, type_2.clone()),
            (Encapsulation::Erspan, 47, type_3),
            (Encapsulation::Gre, 47, vec![0x20, 0, 0x65, 0x58, 0, 0, 0, 5]),
        ];
        for (encapsulation, protocol, envelope) in cases {
            let opened = sample(encapsulation, protocol, &envelope);
            assert_eq!((opened.source_port, opened.bytes), (53, 28), "{}", encapsulation.name());
            let closed = sample(Encapsulation::None, protocol, &envelope);
            assert_eq!((closed.protocol, closed.bytes), (protocol, (20 + envelope.len() + 42) as u64));
        }
        assert_eq!(sample(Encapsulation::Erspan, 17, &vxlan).protocol, 17);
        assert_eq!(sample(Encapsulation::Vxlan, 47, &type_2).protocol, 47);
    }

    #[test]
    fn ip_in_ip_and_6in4_are_opened_where_configured() {
        let packet = v4(4, 0, &v4(6, 0, &[0, 80, 1, 1]));
        let frame = ethernet(&[0x08, 0x00], &packet);
        let outer = parse(Encapsulation::None, LinkType::Ethernet, Time(0), &frame, 100).expect("valid");
        let inner = parse(Encapsulation::Gre, LinkType::Ethernet, Time(0), &frame, 100).expect("valid");
        assert_eq!((outer.protocol, inner.protocol, inner.source_port), (4, 6, 80));
    }
}
