//! What may be announced at all: decision 1 with every guard, for any route, whoever wants it. Pure, and fails closed.
//!
//! The policy asks before it decides, an operator's action is checked when it is ordered, and each Adj-RIB-Out asks once more
//! about what it decodes from the very octets it is about to send ([`Rails::check`]).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::{Announcement, Class, Classes, Community, Gate, Origin, Peer, Route};
use flowspec::{Bits, Condition, Pattern, Ranges};
use traffic::{IpVersion, Networks, Prefix, protocol};

use crate::config::Config;

/// Why a route may not be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// Neither end is ours, and it is not a foreign host's address alone.
    #[error("neither its destination nor its source lies inside networks_list")]
    Foreign,
    /// Wider than what was alarmed or ordered.
    #[error("it is wider than the prefix it was made for")]
    Wider,
    /// Wider than `shortest_prefix_ipv4` or `shortest_prefix_ipv6`.
    #[error("its prefix is shorter than shortest_prefix_ipv4 or shortest_prefix_ipv6 allows")]
    Short,
    /// A rule of the program's own for more than a host with no condition beyond its prefix: a blackhole of a network (decision 35).
    #[error("it has no condition beyond its prefix and would drop all traffic of more than a host")]
    Bare,
    /// It touches a router, a BGP peer, or protected space.
    #[error("it touches protected_networks or a BGP peer")]
    Protected,
    /// It would match BGP itself on its way to a protected address.
    #[error("it could match BGP (tcp port 179) to protected addresses: name the protocol or ports")]
    Bgp,
    /// A remote ban of more than one host.
    #[error("a remote ban is for one host: write a /32 or /128")]
    NotHost,
    /// A remote ban of an address in `networks_whitelist_remote`.
    #[error("it touches networks_whitelist_remote")]
    Skiplisted,
    /// A remote ban of an address that is no host's (RFC 6890).
    #[error("it is a special-purpose address, nobody to ban (RFC 6890)")]
    Special,
    /// The class is off for this peer.
    #[error("this class is off for this peer: announce_incoming, announce_outgoing, announce_remote_bans")]
    ClassOff,
    /// A remote ban that may leave this AS.
    #[error("a remote ban without NO_EXPORT")]
    Exportable,
    /// A field that no packet can have.
    #[error("no packet can match: packet lengths are 20 to 9216 (IPv6: 40 to 9216) and codes fit their fields")]
    Field,
    /// Conditions that exclude one another.
    #[error(
        "its conditions contradict one another: no packet can match all of them (routers match ports of tcp and udp alone, \
             tcp_flags of tcp, icmp_types and icmp_codes of icmp)"
    )]
    Contradiction,
    /// No prefix at all.
    #[error("it has no prefix")]
    NoPrefix,
    /// An IPv6 offset, which routers read in three incompatible ways.
    #[error("it has an IPv6 prefix offset")]
    Offset,
}

/// Longest packet that rules speak of: jumbo frames.
pub const LONGEST_PACKET: u32 = 9216;

/// The address space of an installation.
#[derive(Debug, Clone)]
pub struct Space {
    networks: Networks,
    protected: Networks,
    skiplist: Networks,
    shortest: (u8, u8),
}

impl Space {
    /// From a configuration; both ends of every BGP session are protected.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut protected = config.protected.clone();
        protected.extend(config.peers.iter().map(|p| Prefix::host(p.remote_address)));
        protected.extend(config.peers.iter().filter_map(|p| p.local_address).map(Prefix::host));
        Self {
            networks: Networks::new(&config.networks),
            protected: Networks::new(&protected),
            skiplist: Networks::new(&config.remote_skiplist),
            shortest: config.shortest_prefix,
        }
    }

    /// Whether the whole of a prefix is ours.
    #[must_use]
    pub fn is_ours(&self, prefix: &Prefix) -> bool {
        self.networks.contain(prefix)
    }

    /// Our prefixes.
    #[must_use]
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The parts of a prefix that touch nothing protected, the largest first, at most `most`; the prefix itself if all of it may be
    /// ruled. What is left out lies close around the protected addresses.
    #[must_use]
    pub fn spared(&self, prefix: Prefix, most: usize) -> Vec<Prefix> {
        let mut found = Vec::new();
        let mut parts = VecDeque::from([prefix]);
        // Breadth first: a part is half as large as the one it was cut from.
        while let Some(part) = parts.pop_front().filter(|_| found.len() < most) {
            if !self.protected.overlap(&part) {
                found.push(part);
            } else if let Some(halves) = part.halves().filter(|_| parts.len() < 2 * most) {
                parts.extend(halves);
            }
        }
        found
    }

    /// The class of a route and the end that is ours (the foreign host of a remote ban).
    ///
    /// # Errors
    /// [`Violation::Foreign`], [`Violation::NoPrefix`] or [`Violation::NotHost`].
    pub fn classify(&self, route: &Route) -> Result<(Class, Prefix), Violation> {
        let (destination, source) = match route {
            Route::Unicast(prefix) if self.networks.contain(prefix) => return Ok((Class::Incoming, *prefix)),
            Route::Unicast(prefix) => (None, Some(*prefix)),
            Route::FlowSpec(pattern) => (pattern.destination(), pattern.source()),
        };
        if let Some(destination) = destination {
            if self.networks.contain(&destination) {
                return Ok((Class::Incoming, destination));
            }
            let source = source.ok_or(Violation::Foreign)?;
            return if self.networks.contain(&source) {
                Ok((Class::Outgoing, source))
            } else {
                Err(Violation::Foreign)
            };
        }
        let source = source.ok_or(Violation::NoPrefix)?;
        if self.networks.contain(&source) {
            return Ok((Class::Outgoing, source));
        }
        // Also wider prefixes that hold own space are no foreign host's.
        if self.networks.overlap(&source) {
            return Err(Violation::Foreign);
        }
        if source.is_host() { Ok((Class::RemoteBan, source)) } else { Err(Violation::NotHost) }
    }

    /// Checks a route for any peer; returns its class.
    ///
    /// # Errors
    /// See [`Violation`].
    pub fn check(&self, route: &Route, announcement: &Announcement) -> Result<Class, Violation> {
        let (class, own_end) = self.classify(route)?;
        if announcement.scope.is_some_and(|scope| !scope.contains(&own_end)) {
            return Err(Violation::Wider);
        }
        let shortest = match own_end.version() {
            IpVersion::V4 => self.shortest.0,
            IpVersion::V6 => self.shortest.1,
        };
        if own_end.length() < shortest {
            return Err(Violation::Short);
        }
        if self.protected.overlap(&own_end) {
            return Err(Violation::Protected);
        }
        match class {
            Class::Incoming => {
                // What comes from a router may be its side of a session.
                let from_protected = match route {
                    Route::FlowSpec(pattern) => pattern.source().is_some_and(|s| self.protected.contain(&s)),
                    Route::Unicast(_) => false,
                };
                if from_protected {
                    return Err(Violation::Protected);
                }
            }
            Class::Outgoing => self.check_outgoing(route)?,
            Class::RemoteBan => {
                if is_special(&own_end) {
                    return Err(Violation::Special);
                }
                if self.skiplist.overlap(&own_end) {
                    return Err(Violation::Skiplisted);
                }
                if !announcement.communities.contains(&Community::NO_EXPORT) {
                    return Err(Violation::Exportable);
                }
            }
        }
        if let Route::FlowSpec(pattern) = route {
            let is_bare = pattern.conditions().len() == 1 && !own_end.is_host();
            if is_bare && announcement.origin == Origin::Automatic {
                return Err(Violation::Bare);
            }
            check_fields(pattern)?;
        }
        Ok(class)
    }

    /// A rule on what we send reaches our routers too: it must leave BGP alone.
    fn check_outgoing(&self, route: &Route) -> Result<(), Violation> {
        let Route::FlowSpec(pattern) = route else { return Err(Violation::Foreign) };
        let reaches = match pattern.destination() {
            Some(destination) => self.protected.overlap(&destination),
            None => !self.protected.prefixes().is_empty(),
        };
        if reaches && may_match_bgp(pattern) { Err(Violation::Bgp) } else { Ok(()) }
    }
}

/// Addresses that are never a foreign host's (RFC 6890, decision 50): this network, loopback, link-local, multicast, reserved,
/// broadcast; unspecified, loopback, IPv4-mapped, link-local, multicast.
fn is_special(host: &Prefix) -> bool {
    match host.address() {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first >= 224 || v4.is_loopback() || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let is_link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || is_link_local
                || v6.to_ipv4_mapped().is_some()
        }
    }
}

/// [`Space`] with the classes that one peer gets.
#[derive(Debug, Clone)]
pub struct Rails {
    space: Space,
    classes: Classes,
}

impl Rails {
    /// For a peer.
    #[must_use]
    pub const fn new(space: Space, classes: Classes) -> Self {
        Self { space, classes }
    }

    /// The gate of each peer of a configuration, in its order.
    #[must_use]
    pub fn gates(config: &Config) -> Vec<(Peer, Arc<dyn Gate>)> {
        let space = Space::new(config);
        let gate = |peer: &Peer| Arc::new(Self::new(space.clone(), peer.classes)) as Arc<dyn Gate>;
        config.peers.iter().map(|peer| (peer.clone(), gate(peer))).collect()
    }

    /// Checks a route for this peer.
    ///
    /// # Errors
    /// See [`Violation`].
    pub fn check(&self, route: &Route, announcement: &Announcement) -> Result<Class, Violation> {
        let class = self.space.check(route, announcement)?;
        let on = match class {
            Class::Incoming => self.classes.incoming,
            Class::Outgoing => self.classes.outgoing,
            Class::RemoteBan => self.classes.remote_bans,
        };
        if on { Ok(class) } else { Err(Violation::ClassOff) }
    }
}

impl Gate for Rails {
    fn check(&self, route: &Route, announcement: &Announcement) -> Result<Class, bgp::gate::Refusal> {
        Ok(Self::check(self, route, announcement)?)
    }
}

/// Cuts what only looks wide to what a packet can have: lengths to 20 (IPv6: 40) to 9216 octets.
///
/// # Errors
/// [`Violation::Field`] if nothing is left, [`Violation::Contradiction`], [`Violation::Offset`].
pub fn clamp(pattern: &Pattern) -> Result<Pattern, Violation> {
    let limits = length_limits(pattern);
    let conditions = pattern.conditions().iter().map(|condition| {
        let Condition::Length(set) = condition else { return condition.clone() };
        let cut = set.as_slice().iter().map(|&(low, high)| (low.max(limits.0), high.min(limits.1)));
        Condition::Length(Ranges::union(cut))
    });
    let clamped = Pattern::new(conditions.collect()).map_err(|_| Violation::Field)?;
    check_fields(&clamped)?;
    Ok(clamped)
}

fn length_limits(pattern: &Pattern) -> (u32, u32) {
    match pattern.version() {
        Some(IpVersion::V6) => (40, LONGEST_PACKET),
        Some(IpVersion::V4) | None => (20, LONGEST_PACKET),
    }
}

/// Every field within its range and no two conditions that exclude one another (the Cloudflare outage of 2013 was a packet
/// length that cannot be).
fn check_fields(pattern: &Pattern) -> Result<(), Violation> {
    let mut protocols: Option<&Ranges> = None;
    let icmp = protocol::icmp(pattern.version().unwrap_or(IpVersion::V4));
    let needs = |protocols: Option<&Ranges>, numbers: &[u8]| {
        let possible = protocols.is_none_or(|set| numbers.iter().any(|n| set.contains((*n).into())));
        if possible { Ok(()) } else { Err(Violation::Contradiction) }
    };
    let mut with_ports = false;
    for condition in pattern.conditions() {
        match condition {
            Condition::Destination(_, offset) | Condition::Source(_, offset) if *offset != 0 => {
                return Err(Violation::Offset);
            }
            Condition::Destination(..) | Condition::Source(..) | Condition::Dscp(_) | Condition::FlowLabel(_) => {}
            Condition::Protocol(set) => protocols = Some(set),
            Condition::Port(_) | Condition::DestinationPort(_) | Condition::SourcePort(_) => {
                with_ports = true;
                needs(protocols, &protocol::ROUTERS_MATCH_PORTS)?;
            }
            Condition::IcmpType(_) | Condition::IcmpCode(_) => {
                if with_ports {
                    return Err(Violation::Contradiction);
                }
                needs(protocols, &[icmp])?;
            }
            Condition::TcpFlags(bits) => {
                needs(protocols, &[protocol::TCP])?;
                satisfiable(bits, 0x0fff)?;
                let has_icmp =
                    pattern.conditions().iter().any(|c| matches!(c, Condition::IcmpType(_) | Condition::IcmpCode(_)));
                if has_icmp {
                    return Err(Violation::Contradiction);
                }
            }
            Condition::Length(set) => {
                let (low, high) = length_limits(pattern);
                let outside = set.as_slice().iter().any(|r| r.0 < low || r.1 > high);
                if outside || set.is_empty() {
                    return Err(Violation::Field);
                }
            }
            Condition::Fragment(bits) => {
                // RFC 8956 section 3.6: IPv6 has no don't-fragment bit.
                let mask = if pattern.version() == Some(IpVersion::V6) { 0x0e } else { 0x0f };
                satisfiable(bits, mask)?;
            }
        }
    }
    Ok(())
}

fn satisfiable(bits: &Bits, mask: u16) -> Result<(), Violation> {
    let matches = (0..=mask).filter(|value| value & !mask == 0).any(|value| bits.matches(value));
    if matches { Ok(()) } else { Err(Violation::Contradiction) }
}

/// Whether a TCP packet to port 179 can match.
fn may_match_bgp(pattern: &Pattern) -> bool {
    pattern.conditions().iter().all(|condition| match condition {
        Condition::Protocol(set) => set.contains(protocol::TCP.into()),
        Condition::DestinationPort(set) => set.contains(179),
        Condition::IcmpType(_) | Condition::IcmpCode(_) => false,
        Condition::Destination(..)
        | Condition::Source(..)
        | Condition::Port(_)
        | Condition::SourcePort(_)
        | Condition::TcpFlags(_)
        | Condition::Length(_)
        | Condition::Dscp(_)
        | Condition::Fragment(_)
        | Condition::FlowLabel(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_protocol_whose_ports_no_router_matches_are_refused_with_the_reason() {
        let destination: Prefix = "203.0.113.9/32".parse().expect("a prefix");
        let clamped = |protocol: u32| {
            let conditions = vec![
                Condition::Destination(destination, 0),
                Condition::Protocol(Ranges::value(protocol)),
                Condition::DestinationPort(Ranges::value(80)),
            ];
            clamp(&Pattern::new(conditions).expect("valid"))
        };
        for protocol in [33, 132, 136] {
            let why = clamped(protocol).expect_err("no router matches these ports").to_string();
            assert!(why.contains("ports of tcp and udp alone"), "{why}");
        }
        assert!(clamped(6).is_ok() && clamped(17).is_ok());
    }
}
