//! Facts of IP protocols, which stand here alone: who has ports, whose ports a router matches, how fragments are told apart.
//!
//! Two questions sound alike and are not. [`has_ports`] asks what stands in the header, and is for counting and explaining.
//! [`routers_match_ports`] asks what a FlowSpec rule with a port filters, and is for rules.

use crate::sample::{IpVersion, fragment};

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Transmission Control Protocol.
pub const TCP: u8 = 6;
/// User Datagram Protocol.
pub const UDP: u8 = 17;
/// Datagram Congestion Control Protocol (RFC 4340).
pub const DCCP: u8 = 33;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Stream Control Transmission Protocol (RFC 9260).
pub const SCTP: u8 = 132;
/// UDP-Lite (RFC 3828).
pub const UDP_LITE: u8 = 136;

/// The protocols whose header begins with source and destination port, 16 bits each.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDP_LITE];

/// The protocols in which a FlowSpec port component can match (RFC 8955 sections 4.2.2.4 to 4.2.2.6; RFC 8956 changes nothing
/// here).
pub const ROUTERS_MATCH_PORTS: [u8; 2] = [TCP, UDP];

/// Whether the header of a protocol begins with two ports: one of [`WITH_PORTS`].
#[must_use]
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
}

/// Whether routers match the ports of a protocol: one of [`ROUTERS_MATCH_PORTS`].
#[must_use]
#[inline]
pub const fn routers_match_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP)
}

/// The ICMP of an IP version: what type and code of a rule are looked for in (RFC 8955 section 4.2.2.7, RFC 8956 section 3.3).
#[must_use]
#[inline]
pub const fn icmp(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => ICMP,
        IpVersion::V6 => ICMPV6,
    }
}

/// The fragment bits of a packet that is whole, a first, a middle, a last fragment, each without don't-fragment (RFC 8955 section
/// 4.2.2.12).
pub const FRAGMENT_CLASSES: [u8; 4] = [0, fragment::FIRST, fragment::IS, fragment::IS | fragment::LAST];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_and_the_questions_agree_on_every_protocol() {
        for protocol in 0..=u8::MAX {
            assert_eq!(has_ports(protocol), WITH_PORTS.contains(&protocol), "{protocol}");
            assert_eq!(routers_match_ports(protocol), ROUTERS_MATCH_PORTS.contains(&protocol), "{protocol}");
        }
    }

    #[test]
    fn routers_match_ports_only_where_there_are_some() {
        assert!(ROUTERS_MATCH_PORTS.iter().all(|protocol| has_ports(*protocol)));
    }
}
