//! A captured frame to a [`Sample`]: link layer, tags and labels, IPv4 or IPv6, transport header.
//!
//! Each header's length is checked once before its fields are read; nothing here allocates or panics. A frame that is cut
//! (sFlow samples 64 to 256 bytes) still gives what it holds: [`Sample::known`] says which fields were reached.
//!
//! The outer IP header is what routers match, so it is what counts (decision 12); tunnels are not opened.

use traffic::sample::{fragment, protocol};
use traffic::{Fields, IpVersion, Origin, Sample, Time};

/// Link layer types of capture files (tcpdump.org/linktypes) that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// BSD loopback (0): address family in the capturing host's byte order.
    Null,
    /// Ethernet (1).
    Ethernet,
    /// PPP (9).
    Ppp,
    /// Bare IPv4 or IPv6 (12, 14, 101, 228, 229).
    Ip,
    /// Linux cooked capture (113).
    LinuxSll,
    /// Linux cooked capture v2 (276).
    LinuxSll2,
    /// Cisco HDLC (104).
    Hdlc,
    /// A label stack without link layer (219).
    Mpls,
}

impl LinkType {
    /// From the number in a capture file.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            9 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::Ip,
            104 => Self::Hdlc,
            113 => Self::LinuxSll,
            219 => Self::Mpls,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }
}

/// Why a frame is not a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The frame ends before the IP header does.
    #[error("the frame is cut before the end of its IP header")]
    Truncated,
    /// ARP, LLDP and the like: not IP.
    #[error("the frame carries no IP packet")]
    NotIp,
    /// The IP header contradicts itself.
    #[error("the IP header is malformed")]
    Malformed,
}

/// Deepest stack of tags and labels that is followed.
const MAX_TAGS: usize = 12;
/// Most IPv6 extension headers that are followed.
const MAX_EXTENSIONS: usize = 16;

/// Where the IP packet lies in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// From the IP header on, as far as captured; may have link-layer padding behind it.
    pub data: &'a [u8],
    /// Bytes of link layer before it.
    pub offset: usize,
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// Finds the outermost IP packet of a frame.
///
/// # Errors
/// [`PacketError::Truncated`] or [`PacketError::NotIp`].
#[inline]
pub fn ip_packet(link: LinkType, frame: &[u8]) -> Result<IpPacket<'_>, PacketError> {
    let (ethertype, at) = match link {
        LinkType::Ethernet => (u16_at(frame, 12).ok_or(PacketError::Truncated)?, 14),
        LinkType::LinuxSll => (u16_at(frame, 14).ok_or(PacketError::Truncated)?, 16),
        LinkType::LinuxSll2 => (u16_at(frame, 0).ok_or(PacketError::Truncated)?, 20),
        LinkType::Hdlc => (u16_at(frame, 2).ok_or(PacketError::Truncated)?, 4),
        LinkType::Ip => return bare_ip(frame, 0),
        LinkType::Null => return bare_ip(frame, 4),
        LinkType::Mpls => return mpls(frame, 0),
        LinkType::Ppp => {
            // With or without address and control bytes (RFC 1662), one- or two-byte protocol.
            let at = if frame.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
            return ppp(frame, at);
        }
    };
    after_ethertype(frame, ethertype, at)
}

fn ppp(frame: &[u8], at: usize) -> Result<IpPacket<'_>, PacketError> {
    let first = *frame.get(at).ok_or(PacketError::Truncated)?;
    let (number, next) = if first & 1 == 1 {
        (u16::from(first), at + 1)
    } else {
        (u16_at(frame, at).ok_or(PacketError::Truncated)?, at + 2)
    };
    match number {
        0x0021 | 0x0057 => bare_ip(frame, next),
        0x0281 => mpls(frame, next),
        _ => Err(PacketError::NotIp),
    }
}

#[inline]
fn bare_ip(frame: &[u8], at: usize) -> Result<IpPacket<'_>, PacketError> {
    let data = frame.get(at..).filter(|d| !d.is_empty()).ok_or(PacketError::Truncated)?;
    match data[0] >> 4 {
        4 | 6 => Ok(IpPacket { data, offset: at }),
        _ => Err(PacketError::NotIp),
    }
}

/// Follows tags until an IP packet is found.
fn after_ethertype(frame: &[u8], mut ethertype: u16, mut at: usize) -> Result<IpPacket<'_>, PacketError> {
    for _ in 0..MAX_TAGS {
        match ethertype {
            0x0800 | 0x86dd => return bare_ip(frame, at),
            // 802.1Q, 802.1ad and its predecessors.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                ethertype = u16_at(frame, at + 2).ok_or(PacketError::Truncated)?;
                at += 4;
            }
            // 802.1ah: a service tag, then a whole Ethernet frame.
            0x88e7 => {
                ethertype = u16_at(frame, at + 16).ok_or(PacketError::Truncated)?;
                at += 18;
            }
            // Cisco FabricPath: an outer header of 16 bytes before an Ethernet frame.
            0x8903 => {
                ethertype = u16_at(frame, at + 14).ok_or(PacketError::Truncated)?;
                at += 16;
            }
            0x8847 | 0x8848 => return mpls(frame, at),
            // PPPoE session (RFC 2516): six bytes, then PPP.
            0x8864 => return ppp(frame, at + 6),
            // Cisco metadata: version, length, then an ethertype.
            0x8909 => {
                let length = 8 * usize::from(*frame.get(at + 1).ok_or(PacketError::Truncated)?).max(1);
                ethertype = u16_at(frame, at + length - 2).ok_or(PacketError::Truncated)?;
                at += length;
            }
            // 802.3 length: LLC/SNAP may carry IP.
            0..=1500 => {
                let llc = frame.get(at..at + 8).ok_or(PacketError::NotIp)?;
                if llc[..6] != [0xaa, 0xaa, 0x03, 0, 0, 0] {
                    return Err(PacketError::NotIp);
                }
                ethertype = u16::from_be_bytes([llc[6], llc[7]]);
                at += 8;
            }
            _ => return Err(PacketError::NotIp),
        }
    }
    Err(PacketError::NotIp)
}

/// Pops the label stack; what follows is IP, or a pseudowire with Ethernet inside (with or without control word).
fn mpls(frame: &[u8], mut at: usize) -> Result<IpPacket<'_>, PacketError> {
    for _ in 0..MAX_TAGS {
        let label = u32_at(frame, at).ok_or(PacketError::Truncated)?;
        at += 4;
        if label & 0x100 == 0 {
            continue;
        }
        let payload = frame.get(at..).ok_or(PacketError::Truncated)?;
        if let Some(version) = payload.first().map(|b| b >> 4)
            && looks_like_ip(version, payload)
        {
            return Ok(IpPacket { data: payload, offset: at });
        }
        // RFC 4385: a control word starts with a zero nibble.
        let word = if payload.first().is_some_and(|b| b >> 4 == 0) { [4, 0] } else { [0, 4] };
        for skip in word {
            if let Some(ethertype) = u16_at(frame, at + skip + 12)
                && is_inner_ethertype(ethertype)
            {
                return after_ethertype(frame, ethertype, at + skip + 14);
            }
        }
        return Err(PacketError::NotIp);
    }
    Err(PacketError::NotIp)
}

/// Ethertypes that a frame inside a pseudowire may have.
const fn is_inner_ethertype(ethertype: u16) -> bool {
    matches!(ethertype, 0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x8847)
}

/// A nibble of 4 or 6 may also begin a MAC address: the header checksum of IPv4, and the length of IPv6, have to agree.
fn looks_like_ip(version: u8, payload: &[u8]) -> bool {
    let framed = u16_at(payload, 12).is_some_and(is_inner_ethertype);
    match version {
        4 => {
            let header = usize::from(payload[0] & 0x0f) * 4;
            let words =
                payload.get(..header).map(|h| h.chunks_exact(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])));
            // A header with its checksum sums to all ones; senders with offload leave the checksum zero.
            let sums = words.map(|w| w.sum::<u32>()).is_some_and(|sum| (sum & 0xffff) + (sum >> 16) == 0xffff);
            header >= 20 && (sums || !framed)
        }
        // A frame would have an ethertype where IPv6 has its source address; global addresses begin with 001.
        6 => !framed || payload[8] >> 5 == 1,
        _ => false,
    }
}

/// Protocol and payload of an IP packet, as far as captured, behind IPv6 extension headers; `None` for later fragments.
#[must_use]
pub fn payload(packet: &[u8]) -> Option<(u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let is_later = u16_at(packet, 6)? & 0x1fff != 0;
            let payload = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
            (!is_later).then_some((*packet.get(9)?, payload))
        }
        6 => {
            let (mut next, mut at) = (*packet.get(6)?, 40);
            for _ in 0..MAX_EXTENSIONS {
                let rest = packet.get(at..)?;
                at += match next {
                    0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*rest.get(1)?) + 1) * 8,
                    51 => (usize::from(*rest.get(1)?) + 2) * 4,
                    44 if u16_at(rest, 2)? >> 3 == 0 => 8,
                    44 => return None,
                    _ => return Some((next, rest)),
                };
                next = *rest.first()?;
            }
            None
        }
        _ => None,
    }
}

/// A frame to a sample of one packet.
///
/// `original_length` is the length of the frame on the wire; it stands in for IP lengths of zero (segmentation offload,
/// jumbograms).
///
/// # Errors
/// See [`PacketError`].
#[inline]
pub fn parse(link: LinkType, time: Time, frame: &[u8], original_length: u32) -> Result<Sample, PacketError> {
    let packet = ip_packet(link, frame)?;
    let offset = u32::try_from(packet.offset).unwrap_or(u32::MAX);
    parse_ip(time, packet.data, original_length.saturating_sub(offset))
}

/// An IP packet without link layer to a sample; `wire_length` is its length on the wire, padding included.
///
/// # Errors
/// See [`PacketError`].
#[inline]
pub fn parse_ip(time: Time, data: &[u8], wire_length: u32) -> Result<Sample, PacketError> {
    match data.first().ok_or(PacketError::Truncated)? >> 4 {
        4 => parse_v4(time, data, wire_length),
        6 => parse_v6(time, data, wire_length),
        _ => Err(PacketError::NotIp),
    }
}

/// Length as routers see it in 16 bits.
fn set_length(sample: &mut Sample, total: u32) {
    sample.bytes = u64::from(total);
    sample.length = u16::try_from(total).unwrap_or(u16::MAX);
}

/// RFC 791.
#[inline]
fn parse_v4(time: Time, data: &[u8], wire_length: u32) -> Result<Sample, PacketError> {
    let header: &[u8; 20] = data.first_chunk().ok_or(PacketError::Truncated)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < 20 {
        return Err(PacketError::Malformed);
    }
    let mut sample = Sample::empty(time, IpVersion::V4, Origin::Packet);
    sample.packets = 1;
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    if total != 0 && (total as usize) < header_length {
        return Err(PacketError::Malformed);
    }
    set_length(&mut sample, if total == 0 { wire_length } else { total });
    sample.dscp = header[1] >> 2;
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
    if flags & 0x4000 != 0 {
        sample.fragment |= fragment::DONT;
    }
    sample.fragment |= fragment_bits(offset != 0, more);
    sample.protocol = header[9];
    let address =
        |at: usize| u128::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])) << 96;
    (sample.source, sample.destination) = (address(12), address(16));
    sample.known =
        Fields::ADDRESSES | Fields::PROTOCOL | Fields::LENGTH | Fields::DSCP | Fields::FRAGMENT | Fields::FLOW_LABEL;
    // What lies behind the packet is padding of the link layer.
    let end = data.len().min(usize::try_from(sample.bytes).unwrap_or(usize::MAX));
    transport(&mut sample, data.get(header_length..end).unwrap_or(&[]));
    Ok(sample)
}

const fn fragment_bits(later: bool, more: bool) -> u8 {
    match (later, more) {
        (false, false) => 0,
        (false, true) => fragment::FIRST,
        (true, true) => fragment::IS,
        (true, false) => fragment::IS | fragment::LAST,
    }
}

/// RFC 8200; the upper layer is looked for behind all extension headers.
fn parse_v6(time: Time, data: &[u8], wire_length: u32) -> Result<Sample, PacketError> {
    let header: &[u8; 40] = data.first_chunk().ok_or(PacketError::Truncated)?;
    let mut sample = Sample::empty(time, IpVersion::V6, Origin::Packet);
    sample.packets = 1;
    let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
    set_length(
        &mut sample,
        if payload == 0 && wire_length > 40 { v6_zero_length(header[6], wire_length) } else { payload + 40 },
    );
    sample.dscp = (u16::from_be_bytes([header[0], header[1]]) >> 6 & 0x3f) as u8;
    sample.flow_label = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) & 0xf_ffff;
    let address = |at: usize| header[at..at + 16].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    (sample.source, sample.destination) = (address(8), address(24));
    sample.known = Fields::ADDRESSES | Fields::LENGTH | Fields::DSCP | Fields::FLOW_LABEL;
    let data = &data[..data.len().min(usize::try_from(sample.bytes).unwrap_or(usize::MAX)).max(40)];
    let mut next = header[6];
    let mut at = 40;
    for _ in 0..MAX_EXTENSIONS {
        let rest = data.get(at..).unwrap_or(&[]);
        let length = match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes without the first.
            0 | 43 | 60 | 135 | 139 | 140 => rest.get(1).map(|n| (usize::from(*n) + 1) * 8),
            // Authentication header: in units of 4 bytes, minus 2.
            51 => rest.get(1).map(|n| (usize::from(*n) + 2) * 4),
            44 => {
                let word = u16_at(rest, 2);
                if let Some(word) = word {
                    sample.fragment |= fragment_bits(word >> 3 != 0, word & 1 != 0);
                    sample.known |= Fields::FRAGMENT;
                }
                word.map(|_| 8)
            }
            _ => {
                sample.protocol = next;
                // Without a fragment header the packet is whole.
                sample.known |= Fields::PROTOCOL | Fields::FRAGMENT;
                transport(&mut sample, rest);
                return Ok(sample);
            }
        };
        let (Some(length), Some(following)) = (length, rest.first()) else {
            // Cut inside the extension headers: the upper layer is not known.
            sample.protocol = next;
            return Ok(sample);
        };
        if sample.is_later_fragment() {
            // What follows a later fragment's header is payload.
            sample.protocol = *following;
            sample.known |= Fields::PROTOCOL;
            transport(&mut sample, &[]);
            return Ok(sample);
        }
        next = *following;
        at += length;
    }
    sample.protocol = next;
    Ok(sample)
}

/// A payload length of zero with bytes behind it: segmentation offload or a jumbogram (RFC 2675), which begins with hop-by-hop
/// options. A real empty packet has no next header, and padding of short Ethernet frames is not payload.
const fn v6_zero_length(next_header: u8, wire_length: u32) -> u32 {
    if next_header == 59 || wire_length <= 60 { 40 } else { wire_length }
}

/// Ports, flags, type and code; what is not there is known not to be there.
#[inline]
fn transport(sample: &mut Sample, data: &[u8]) {
    let has_header = !sample.is_later_fragment();
    match sample.protocol {
        protocol::TCP if has_header => {
            sample.known |= Fields::ICMP;
            ports(sample, data);
            if let Some(flags) = u16_at(data, 12) {
                sample.tcp_flags = flags & 0x0fff;
                sample.known |= Fields::TCP_FLAGS;
            }
        }
        // TCP, whose flags are read as well, went the arm above.
        number if has_header && protocol::has_ports(number) => {
            sample.known |= Fields::ICMP | Fields::TCP_FLAGS;
            ports(sample, data);
        }
        protocol::ICMP | protocol::ICMPV6 if has_header => {
            sample.known |= Fields::PORTS | Fields::TCP_FLAGS;
            if let Some([kind, code]) = data.first_chunk() {
                (sample.icmp_type, sample.icmp_code) = (*kind, *code);
                sample.known |= Fields::ICMP;
            }
        }
        _ => sample.known |= Fields::PORTS | Fields::TCP_FLAGS | Fields::ICMP,
    }
}

fn ports(sample: &mut Sample, data: &[u8]) {
    if let (Some(source), Some(destination)) = (u16_at(data, 0), u16_at(data, 2)) {
        (sample.source_port, sample.destination_port) = (source, destination);
        sample.known |= Fields::PORTS;
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "short literals")]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn v4(protocol: u8, fragment_word: u16, payload: &[u8]) -> Vec<u8> {
        let total = 20 + payload.len() as u16;
        let mut packet = vec![0x45, 0xb8];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(fragment_word.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 198, 51, 100, 7, 203, 0, 113, 9]);
        packet.extend(payload);
        packet
    }

    pub(crate) fn ethernet(tags: &[u8], packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(tags);
        frame.extend(packet);
        frame
    }

    fn parse_all(link: LinkType, frame: &[u8]) -> Result<Sample, PacketError> {
        parse(link, Time(0), frame, frame.len() as u32)
    }

    #[test]
    fn a_tcp_packet_behind_two_tags_and_a_label_is_read_to_its_flags() {
        let tcp = [0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0];
        let packet = v4(6, 0x4000, &tcp);
        let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x88, 0x47, 0, 1, 0x01, 64];
        let sample = parse_all(LinkType::Ethernet, &ethernet(&tags, &packet)).expect("valid");
        assert_eq!((sample.source_port, sample.destination_port, sample.tcp_flags), (8080, 80, 2));
        assert_eq!((sample.length, sample.bytes, sample.dscp, sample.fragment), (40, 40, 46, fragment::DONT));
        assert_eq!(sample.known, Fields::ALL);
        assert_eq!(sample.destination_address().to_string(), "203.0.113.9");
    }

    #[test]
    fn fragments_carry_their_bits_and_only_the_first_has_ports() {
        let udp = [0, 53, 0x10, 0x92, 0, 8, 0, 0];
        let first = parse_all(LinkType::Ip, &v4(17, 0x2000, &udp)).expect("valid");
        assert_eq!((first.fragment, first.source_port), (fragment::FIRST, 53));
        let middle = parse_all(LinkType::Ip, &v4(17, 0x2001, &udp)).expect("valid");
        assert_eq!((middle.fragment, middle.source_port), (fragment::IS, 0));
        let last = parse_all(LinkType::Ip, &v4(17, 0x0001, &udp)).expect("valid");
        assert_eq!(last.fragment, fragment::IS | fragment::LAST);
        assert!(last.known.has(Fields::PORTS), "it certainly has none");
    }

    #[test]
    fn ipv6_extension_headers_do_not_hide_the_upper_layer() {
        let mut packet = vec![0x6b, 0x81, 0x23, 0x45, 0, 44, 0, 64];
        packet.extend([0x20; 32]);
        packet.extend([51, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop, then
        packet.extend([44, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // AH of 24 bytes, then
        packet.extend([58, 0, 0, 1, 0, 0, 0, 9]); // fragment, first
        packet.extend([128, 0, 0, 0]);
        let sample = parse_all(LinkType::Ip, &packet).expect("valid");
        assert_eq!((sample.protocol, sample.icmp_type, sample.fragment), (58, 128, fragment::FIRST));
        assert_eq!((sample.dscp, sample.flow_label, sample.length), (46, 0x1_2345, 84));
        assert!(sample.known.has(Fields::ALL));
    }

    #[test]
    fn a_cut_header_says_what_is_missing() {
        let tcp = [0x1f, 0x90, 0, 80, 0, 0];
        let sample = parse_all(LinkType::Ip, &v4(6, 0, &tcp)).expect("the IP header is whole");
        assert!(sample.known.has(Fields::PORTS) && !sample.known.has(Fields::TCP_FLAGS));
        assert_eq!(parse_all(LinkType::Ip, &v4(6, 0, &tcp)[..19]), Err(PacketError::Truncated));
    }

    #[test]
    fn a_pseudowire_without_control_word_is_not_taken_for_ip_whatever_its_mac_address() {
        let inner = v4(17, 0, &[0, 53, 0, 80, 0, 8, 0, 0]);
        for first in [0x00, 0x02, 0x45, 0x48, 0x4c, 0x64, 0x6c] {
            let mut pseudowire = vec![first, 1, 2, 3, 4, 5, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
            pseudowire.extend(&inner);
            let mut frame = vec![0; 12];
            frame.extend([0x88, 0x47, 0, 1, 0x01, 64]);
            frame.extend(pseudowire);
            let sample = parse_all(LinkType::Ethernet, &frame).expect("valid");
            assert_eq!((sample.protocol, sample.source_port, sample.length), (17, 53, 28), "MAC {first:02x}");
        }
    }

    #[test]
    fn padding_is_no_transport_header_and_a_total_length_below_the_header_is_malformed() {
        let mut padded = v4(17, 0, &[]);
        padded.extend([0xaa; 26]);
        let sample = parse_all(LinkType::Ip, &padded).expect("valid");
        assert!(!sample.known.has(Fields::PORTS) && sample.source_port == 0);
        let mut short = v4(17, 0, &[0; 8]);
        short[3] = 7;
        assert_eq!(parse_all(LinkType::Ip, &short), Err(PacketError::Malformed));
    }

    #[test]
    fn a_length_of_zero_is_taken_from_the_wire() {
        let mut packet = v4(6, 0, &[0; 40]);
        packet[2..4].copy_from_slice(&[0, 0]);
        let sample = parse(LinkType::Ip, Time(0), &packet, 70_000).expect("valid");
        assert_eq!((sample.bytes, sample.length), (70_000, 65_535));
    }

    #[test]
    fn no_bytes_and_no_cut_panic() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let links = [0, 1, 9, 12, 101, 104, 113, 276].map(|n| LinkType::from_number(n).expect("known"));
        for round in 0..20_000 {
            let mut frame: Vec<u8> = (0..96).map(|_| random()).collect();
            if round % 2 == 0 {
                let tags = [[0x81, 0x00], [0x88, 0x47], [0x88, 0x64], [0x86, 0xdd], [0x08, 0x00], [0x89, 0x09]];
                frame[12..14].copy_from_slice(&tags[round / 2 % 6]);
            }
            for link in links {
                let _ = parse(link, Time(0), &frame[..usize::from(random()) % 97], 96);
            }
        }
    }
}
