//! [`Peer`]: what an operator settles about a router that receives our announcements. Values are right by construction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use flowspec::profile::Profile;

use crate::announcement::{Community, ExtendedCommunity, LargeCommunity};
use crate::gate::Classes;

/// Address families of a BGP session (RFC 4760), those the product speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
    /// AFI 1, SAFI 133 (RFC 8955).
    Ipv4FlowSpec,
    /// AFI 2, SAFI 133 (RFC 8956).
    Ipv6FlowSpec,
}

/// Who opens the connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConnectionMode {
    /// We connect.
    #[default]
    Active,
    /// We wait for the peer.
    Passive,
    /// Both; two connections at once are resolved as in RFC 4271 section 6.8.
    Both,
}

/// What happens to announcements at a clean stop (decision 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnShutdown {
    /// Keep where graceful restart is in force, else withdraw.
    #[default]
    Keep,
    /// Withdraw everywhere.
    Withdraw,
}

/// A BGP peer: a router that receives our announcements.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Peer {
    /// Name, unique: the NAME of `set bgp NAME ...`.
    pub name: String,
    /// Our AS number towards this peer (`local_asn`).
    pub local_asn: u32,
    /// Address to connect from, and to listen on (`local_address`); chosen by the kernel if absent.
    pub local_address: Option<IpAddr>,
    /// Port to listen on where the peer connects (`local_port`, default 179).
    pub local_port: u16,
    /// Who connects (`passive`, `connection`).
    pub mode: ConnectionMode,
    /// The peer's AS number (`remote_asn`); equal to `local_asn` for iBGP.
    pub remote_asn: u32,
    /// The peer's address (`remote_address`).
    pub remote_address: IpAddr,
    /// The peer's TCP port (`remote_port`, default 179).
    pub remote_port: u16,
    /// BGP identifier (`router_id`).
    pub router_id: Ipv4Addr,
    /// Proposed hold time (`hold_time`, default 90 s; 0 or at least 3 s, RFC 4271 section 4.2).
    pub hold_time: Duration,
    /// TCP MD5 password (`md5_auth_password`, RFC 2385).
    pub md5_password: Option<String>,
    /// Hops away at most by GTSM (RFC 5082): 1 accepts TTL 255 alone (`ttl_security_hops`); `None` switches it off.
    pub ttl_security_hops: Option<u8>,
    /// TTL of what is sent without GTSM (`multihop_ttl`); `None` is the system's.
    pub ttl: Option<u8>,
    /// Restart time offered for graceful restart (RFC 4724); zero switches it off.
    pub graceful_restart: Duration,
    /// Routes of the peer that are looked at; more are counted and dropped (`max_received_prefixes`).
    pub max_received: usize,
    /// Families to negotiate.
    pub families: Vec<Family>,
    /// Next hop of IPv4 blackhole routes (`next_hop_ipv4`), default 192.0.2.1.
    pub next_hop_ipv4: Ipv4Addr,
    /// Next hop of IPv6 blackhole routes, default 100::1 (RFC 6666).
    pub next_hop_ipv6: Ipv6Addr,
    /// Added to every route announced to this peer.
    pub communities: Vec<Community>,
    /// Added to every blackhole announced to this peer.
    pub blackhole_communities: Vec<Community>,
    /// Added to every route announced to this peer.
    pub large_communities: Vec<LargeCommunity>,
    /// Added to every route announced to this peer.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// What it may be sent (decision 1).
    pub classes: Classes,
    /// What its router can do.
    pub profile: Profile,
    /// It gets new routes first; the others when it has held them for a while.
    pub canary: bool,
    /// Exporters whose traffic passes this router (decision 8); empty: all.
    pub exporters: Vec<IpAddr>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            name: String::new(),
            local_asn: 0,
            local_address: None,
            local_port: 179,
            mode: ConnectionMode::Active,
            remote_asn: 0,
            remote_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            remote_port: 179,
            router_id: Ipv4Addr::UNSPECIFIED,
            hold_time: Duration::from_secs(90),
            md5_password: None,
            ttl_security_hops: None,
            ttl: None,
            graceful_restart: Duration::from_secs(120),
            max_received: 10_000,
            families: Family::ALL.to_vec(),
            next_hop_ipv4: Ipv4Addr::new(192, 0, 2, 1),
            next_hop_ipv6: Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1),
            communities: Vec::new(),
            blackhole_communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            classes: Classes::default(),
            profile: Profile::default(),
            canary: false,
            exporters: Vec::new(),
        }
    }
}

impl Peer {
    /// Whether a session under one of two settings can go on under the other.
    #[must_use]
    pub fn same_session(&self, other: &Self) -> bool {
        let session = |p: &Self| Self {
            next_hop_ipv4: Ipv4Addr::UNSPECIFIED,
            next_hop_ipv6: Ipv6Addr::UNSPECIFIED,
            communities: Vec::new(),
            blackhole_communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            classes: Classes::default(),
            profile: Profile::default(),
            exporters: Vec::new(),
            ..p.clone()
        };
        session(self) == session(other)
    }
}

/// ExaBGP as an announcer: text lines into its pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaBgp {
    /// The pipe (or a file).
    pub pipe: std::path::PathBuf,
    /// Next hop of IPv4 blackholes.
    pub next_hop_ipv4: Ipv4Addr,
    /// Next hop of IPv6 blackholes.
    pub next_hop_ipv6: Ipv6Addr,
    /// Added to every route.
    pub communities: Vec<Community>,
}
