//! What an operator settles about mitigation and BGP peers. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ExaBgp, ExtendedCommunity, LargeCommunity, OnShutdown, Peer};
use flowspec::{Action, Capabilities};
use traffic::Prefix;

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
    /// What all BGP sessions share.
    #[must_use]
    pub const fn sessions(&self) -> bgp::tcp::Settings {
        bgp::tcp::Settings {
            dead_man: self.dead_man,
            quarantine: self.quarantine,
            rule_reserve: self.rule_reserve,
            on_shutdown: self.on_shutdown,
        }
    }

    /// The policy of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> GroupPolicy {
        self.groups.get(name).cloned().unwrap_or_default()
    }
}
