//! What an operator settles about mitigation and BGP peers. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use flowspec::profile::Profile;
use flowspec::{Action, Capabilities};
use traffic::Prefix;

use crate::announcement::{Community, ExtendedCommunity, LargeCommunity};

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

/// The classes of decision 1 that a peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// Rules and blackholes whose destination is ours (`announce_incoming`, default on).
    pub incoming: bool,
    /// Rules whose source is ours (`announce_outgoing`, default off).
    pub outgoing: bool,
    /// Bans of foreign hosts (`announce_remote_bans`, default off).
    pub remote_bans: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Self { incoming: true, outgoing: false, remote_bans: false }
    }
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

/// Whether automatic decisions for a host group need a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They are announced.
    #[default]
    Automatic,
    /// They wait until an operator approves them.
    Approve,
    /// They are only reported.
    Alert,
}

/// One step of a mitigation ladder.
#[derive(Debug, Clone, PartialEq)]
pub enum Rung {
    /// Mined rules with these actions.
    FlowSpec(Vec<Action>),
    /// The prefix is routed to a scrubbing centre.
    Divert,
    /// The prefix is blackholed.
    Blackhole,
}

impl Rung {
    /// As in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FlowSpec(actions) => match actions.first() {
                None | Some(Action::Accept) => "accept",
                Some(Action::Discard) => "discard",
                Some(Action::RateLimitBytes(_) | Action::RateLimitPackets(_)) => "rate-limit",
                Some(_) => "redirect",
            },
            Self::Divert => "divert",
            Self::Blackhole => "blackhole",
        }
    }
}

/// How a unicast route of a host group is announced: a blackhole or a diversion.
#[derive(Debug, Clone, PartialEq)]
pub struct UnicastForm {
    /// Prefix lengths for IPv4 and IPv6: 32 and 128 are the host itself, shorter ones its covering prefix (an opt-in).
    pub lengths: (u8, u8),
    /// Next hop for IPv4; `None` is the peer's.
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// Next hop for IPv6; `None` is the peer's.
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// Communities.
    pub communities: Vec<Community>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// Extended communities.
    pub extended_communities: Vec<ExtendedCommunity>,
}

impl Default for UnicastForm {
    fn default() -> Self {
        Self {
            lengths: (32, 128),
            next_hop_ipv4: None,
            next_hop_ipv6: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
        }
    }
}

/// Where a group does not say otherwise, a host is blackholed without a person only when so many times the threshold that was
/// passed arrives (decision 33): measured over minutes, a quicker blackhole serves the attacked host worse than no rule at all.
pub const BLACKHOLE_TIMES: u64 = 10;
/// What looks like the host's ordinary traffic, only more of it, is left to people up to so many times its threshold (decision
/// 33); beyond that the ladder goes on, so that nobody can hide by looking like the victim's own traffic.
pub const ORDINARY_TIMES: u64 = 5;

/// What mitigation may do for the hosts of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPolicy {
    /// Announce automatic decisions (`enable_ban`, default off: dry run, decision 4).
    pub enable_ban: bool,
    /// The same by direction of the attack (`enable_ban_incoming`, `enable_ban_outgoing`, default on).
    pub enable_ban_of: [bool; 2],
    /// Announce FlowSpec rules for this group (`enable_bgp_flow_spec`).
    pub enable_flow_spec: bool,
    /// Fall back to a blackhole (`enable_blackhole`).
    pub enable_blackhole: bool,
    /// Packets per second that have to arrive before a host is blackholed without a person (`blackhole_pps`); `None`: see
    /// [`BLACKHOLE_TIMES`].
    pub blackhole_pps: Option<u64>,
    /// The same in bytes per second (`blackhole_mbps`).
    pub blackhole_bytes: Option<u64>,
    /// Whether a person is needed (`mitigation`).
    pub mode: Mode,
    /// What is tried, in order (`mitigation_ladder`).
    pub ladder: Vec<Rung>,
    /// How blackholes are announced.
    pub blackhole: UnicastForm,
    /// How diversions are announced.
    pub diversion: UnicastForm,
}

impl Default for GroupPolicy {
    fn default() -> Self {
        Self {
            enable_ban: false,
            enable_ban_of: [true; 2],
            enable_flow_spec: true,
            enable_blackhole: true,
            blackhole_pps: None,
            blackhole_bytes: None,
            mode: Mode::Automatic,
            ladder: vec![Rung::FlowSpec(vec![Action::Discard]), Rung::Blackhole],
            blackhole: UnicastForm::default(),
            diversion: UnicastForm::default(),
        }
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
    /// How rules are announced, and how manual ones are checked.
    pub flow_spec: FlowSpecOptions,
    /// What rules may match (`flow_spec_do_not_process_*_field` and the like).
    pub capabilities: Capabilities,
    /// Policy by host group name; groups that are absent have the default policy.
    pub groups: BTreeMap<String, GroupPolicy>,
    /// Addresses that no rule and no blackhole may touch: routers, BGP peers, resolvers (`protected_networks`).
    pub protected: Vec<Prefix>,
    /// Foreign addresses that are never banned (`networks_whitelist_remote`).
    pub remote_skiplist: Vec<Prefix>,
    /// Shortest prefixes of IPv4 and IPv6 that anything may be announced for, default 24 and 48.
    pub shortest_prefix: (u8, u8),
    /// A rule lasts at least this long from its announcement (`ban_time`, default 1900 s).
    pub ban_time: Duration,
    /// After `ban_time`, end a rule only when the attack has ended (`unban_only_if_attack_finished`, default on).
    pub unban_only_if_attack_finished: bool,
    /// After a rule went, an attack that comes back within this time brings it back at once (`probe_time`).
    pub probe_time: Duration,
    /// Certain excess that no rule removes goes one rung up after this long (`blackhole_after`, default 5 s).
    pub blackhole_after: Duration,
    /// Least share of the sample that the rules found together must cover for any to be announced, 0 to 1
    /// (`minimum_coverage_percent`).
    pub minimum_coverage: f64,
    /// Rules per host at most (`max_rules_per_host`, default 10).
    pub max_rules_per_host: usize,
    /// Rules in all at most (`max_rules`, default 200).
    pub max_rules: usize,
    /// Share of `max_rules` and of each router's budget kept for operators, 0 to 1 (`rule_reserve_percent`).
    pub rule_reserve: f64,
    /// New automatic rules per second at most (`max_new_rules_per_second`).
    pub max_new_rules_per_second: u32,
    /// Blackholed hosts at most (`max_blackholes`).
    pub max_blackholes: usize,
    /// Share of own addresses that may be blackholed, 0 to 1 (`max_blackhole_percent`).
    pub max_blackhole_share: f64,
    /// New targets within ten seconds that open the breaker (`breaker_targets`, decision 5).
    pub breaker_targets: usize,
    /// Share of own hosts among the new targets that opens it, 0 to 1 (`breaker_percent`).
    pub breaker_share: f64,
    /// A clean stop (`on_shutdown`).
    pub on_shutdown: OnShutdown,
    /// Without a sign of life from the deciding thread everything is withdrawn after this long (`dead_man_time`).
    pub dead_man: Duration,
    /// A session that drops this soon after a new route puts the route into quarantine (`quarantine_time`).
    pub quarantine: Duration,
    /// How long canary peers hold a route before the others get it (`canary_time`).
    pub canary: Duration,
    /// Where ExaBGP reads commands, if it is used (`exabgp_command_pipe`).
    pub exabgp: Option<ExaBgp>,
    /// BGP peers.
    pub peers: Vec<Peer>,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            enable_ban: false,
            flow_spec_announces: true,
            flow_spec: FlowSpecOptions::default(),
            capabilities: Capabilities::default(),
            groups: BTreeMap::new(),
            protected: Vec::new(),
            remote_skiplist: Vec::new(),
            shortest_prefix: (24, 48),
            ban_time: Duration::from_secs(1900),
            unban_only_if_attack_finished: true,
            probe_time: Duration::from_secs(30),
            blackhole_after: Duration::from_secs(5),
            minimum_coverage: 0.1,
            max_rules_per_host: 10,
            max_rules: 200,
            rule_reserve: 0.1,
            max_new_rules_per_second: 20,
            max_blackholes: 100,
            max_blackhole_share: 0.1,
            breaker_targets: 50,
            breaker_share: 0.1,
            on_shutdown: OnShutdown::Keep,
            dead_man: Duration::from_secs(30),
            quarantine: Duration::from_secs(3),
            canary: Duration::from_secs(2),
            exabgp: None,
            peers: Vec::new(),
        }
    }
}

impl Config {
    /// The policy of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> GroupPolicy {
        self.groups.get(name).cloned().unwrap_or_default()
    }
}
