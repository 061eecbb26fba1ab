//! What an operator settles about mitigation and BGP peers. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use detector::Prefix;

use crate::announcement::{Community, LargeCommunity};
use crate::flowspec::Action;
use crate::miner::Capabilities;

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

/// A BGP peer: a router that receives our announcements.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Name, unique: the NAME of `set bgp NAME ...`.
    pub name: String,
    /// Our AS number towards this peer (`local_asn`).
    pub local_asn: u32,
    /// Address to connect from (`local_address`); chosen by the kernel if absent.
    pub local_address: Option<IpAddr>,
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
    /// Families to negotiate.
    pub families: Vec<Family>,
    /// Next hop of IPv4 blackhole routes (`blackhole_next_hop`), default 192.0.2.1.
    pub next_hop_ipv4: Ipv4Addr,
    /// Next hop of IPv6 blackhole routes, default 100::1 (RFC 6666).
    pub next_hop_ipv6: Ipv6Addr,
    /// Added to every route announced to this peer.
    pub communities: Vec<Community>,
    /// Added to every route announced to this peer.
    pub large_communities: Vec<LargeCommunity>,
    /// Decision 1: rules and blackholes whose destination is ours (default on).
    pub announce_incoming: bool,
    /// Decision 1: rules whose source is ours (default off).
    pub announce_outgoing: bool,
}

/// What mitigation may do for the hosts of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPolicy {
    /// Announce automatic decisions (`enable_ban`, default off: dry run, decision 4).
    pub enable_ban: bool,
    /// Announce FlowSpec rules for this group (`enable_bgp_flow_spec`).
    pub enable_flow_spec: bool,
    /// Fall back to a blackhole (`enable_blackhole`).
    pub enable_blackhole: bool,
}

impl Default for GroupPolicy {
    fn default() -> Self {
        Self { enable_ban: false, enable_flow_spec: true, enable_blackhole: true }
    }
}

/// How FlowSpec rules are announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSpecOptions {
    /// Where rules send traffic besides their action (`gobgp_flow_spec_next_hop_ipv4`).
    pub next_hops_ipv4: Vec<Ipv4Addr>,
    /// Rules set by hand need host prefixes, at least one of them ours (`flow_spec_execute_validation`, decision 2, default on).
    pub execute_validation: bool,
    /// Set the match bit in TCP flag operators (`flow_spec_tcp_options_use_match_bit`, default off).
    pub tcp_flags_match_bit: bool,
    /// Set the match bit in fragment operators (`flow_spec_fragmentation_options_use_match_bit`, default off).
    pub fragment_match_bit: bool,
}

impl Default for FlowSpecOptions {
    fn default() -> Self {
        Self {
            next_hops_ipv4: Vec::new(),
            execute_validation: true,
            tcp_flags_match_bit: false,
            fragment_match_bit: false,
        }
    }
}

/// Configuration of mitigation.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Our own address space: nothing outside is announced (decision 1).
    pub networks: Vec<Prefix>,
    /// Announce automatic decisions at all (`enable_ban` in main, default off: dry run, decision 4).
    pub enable_ban: bool,
    /// Announce FlowSpec rules (`gobgp_flow_spec_announces`, default on; `enable_ban` decides first).
    pub flow_spec_announces: bool,
    /// Action of mined rules (`gobgp_flow_spec_default_action`), default discard.
    pub default_action: Action,
    /// How rules are announced.
    pub flow_spec: FlowSpecOptions,
    /// What rules may match (`flow_spec_do_not_process_*_field` and the like).
    pub capabilities: Capabilities,
    /// Policy by host group name; groups that are absent have the default policy.
    pub groups: BTreeMap<String, GroupPolicy>,
    /// Addresses that no rule and no blackhole may touch: routers, BGP peers, resolvers (`protected_networks`).
    pub protected: Vec<Prefix>,
    /// A rule lasts at least this long from its announcement (`ban_time`, default 1900 s).
    pub ban_time: Duration,
    /// After `ban_time`, end a rule only when the attack has ended (`unban_only_if_attack_finished`, default on).
    pub unban_only_if_attack_finished: bool,
    /// Certain excess that no rule removes is blackholed after this long (`blackhole_after`, default 5 s).
    pub blackhole_after: Duration,
    /// Least share of the sample a rule must cover to be announced, 0 to 1 (`minimum_coverage`).
    pub minimum_coverage: f64,
    /// Rules per host at most (`max_rules_per_host`, default 10).
    pub max_rules_per_host: usize,
    /// Rules in all at most (`max_rules`, default 200).
    pub max_rules: usize,
    /// Blackholed hosts at most (`max_blackholes`).
    pub max_blackholes: usize,
    /// BGP peers.
    pub peers: Vec<Peer>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            enable_ban: false,
            flow_spec_announces: true,
            default_action: Action::Discard,
            flow_spec: FlowSpecOptions::default(),
            capabilities: Capabilities::default(),
            groups: BTreeMap::new(),
            protected: Vec::new(),
            ban_time: Duration::from_secs(1900),
            unban_only_if_attack_finished: true,
            blackhole_after: Duration::from_secs(5),
            minimum_coverage: 0.1,
            max_rules_per_host: 10,
            max_rules: 200,
            max_blackholes: 100,
            peers: Vec::new(),
        }
    }
}
