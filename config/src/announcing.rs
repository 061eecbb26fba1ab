//! What is announced, and how safely: keys of `[main]` about bans, FlowSpec rules, the rails, and `ExaBGP`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ExaBgp, Family, OnShutdown, Peer};
use flowspec::{Action, Capabilities};
use policy::FlowSpecOptions;
use traffic::{Networks, Prefix};

use crate::communities::communities;
use crate::hostgroup::{self, RuleActions};
use crate::kind::{
    self, Of, addresses, bytes_per_second, choice, ipv4, ipv6, number, percent, prefixes, seconds, switch, text,
};
use crate::report::Report;
use crate::schema::{Draft, Key, Section, key, set, some};

/// What a mined rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the words of the key")]
pub enum RuleAction {
    Accept,
    #[default]
    Discard,
    RateLimit,
    Redirect,
}

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Announcing {
    pub protected_networks: Vec<Prefix>,
    pub enable_ban: bool,
    pub ban_time: u64,
    pub unban_only_if_attack_finished: bool,
    pub gobgp_flow_spec_announces: bool,
    pub default_action: RuleAction,
    pub rate_limit_value: u64,
    pub redirect_target_as: Option<u16>,
    pub redirect_target_community: Option<u32>,
    pub flow_spec_next_hops_ipv4: Vec<Ipv4Addr>,
    pub flow_spec_per_hostgroup_management: bool,
    pub flow_spec_execute_validation: bool,
    pub flow_spec_tcp_options_use_match_bit: bool,
    pub flow_spec_fragmentation_options_use_match_bit: bool,
    pub flow_spec_do_not_process_source_address_field: bool,
    pub flow_spec_do_not_process_length_field: bool,
    pub flow_spec_do_not_process_tcp_flags_field: bool,
    pub flow_spec_do_not_process_ip_fragmentation_flags_field: bool,
    pub flow_spec_ignore_do_not_fragment_flag: bool,
    pub flow_spec_strip_ports_for_fragmented_traffic: bool,
    pub blackhole_after: u64,
    pub minimum_coverage_percent: u64,
    pub max_rules_per_host: u64,
    pub max_rules: u64,
    pub max_entries_per_rule: u32,
    pub max_blackholes: u64,
    pub shortest_prefix_ipv4: u64,
    pub shortest_prefix_ipv6: u64,
    pub probe_time: u64,
    pub rule_reserve_percent: u64,
    pub max_new_rules_per_second: u64,
    pub max_blackhole_percent: u64,
    pub breaker_targets: u64,
    pub breaker_percent: u64,
    pub keeps: bool,
    pub dead_man_time: u64,
    pub quarantine_time: u64,
    pub canary_time: u64,
    pub exabgp: bool,
    pub exabgp_command_pipe: String,
    pub exabgp_next_hop: Option<Ipv4Addr>,
    pub exabgp_next_hop_ipv6: Option<Ipv6Addr>,
    pub exabgp_communities: Vec<Community>,
}

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Announcing, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.announcing, value))
}

/// Whether, and how long.
pub(crate) fn ban_keys() -> Vec<Key> {
    vec![
        main(
            "protected_networks",
            "[]",
            "addresses that no rule and no blackhole may touch: routers, resolvers; BGP peers always are",
            prefixes(),
            set!(protected_networks),
        ),
        main(
            "enable_ban",
            "false",
            "announce automatic decisions; off is the dry run of a fresh install: everything but the announcement",
            switch(),
            set!(enable_ban),
        ),
        main(
            "ban_time",
            "1900",
            "seconds that a rule or blackhole lasts at least",
            seconds(1, 31_536_000),
            set!(ban_time),
        ),
        main(
            "unban_only_if_attack_finished",
            "true",
            "after ban_time, end a rule only when its attack has ended",
            switch(),
            set!(unban_only_if_attack_finished),
        ),
    ]
}

/// How much.
pub(crate) fn limit_keys() -> Vec<Key> {
    vec![
        main(
            "blackhole_after",
            "5",
            "seconds of certain excess that no rule removes before the host is blackholed",
            seconds(1, 86_400),
            set!(blackhole_after),
        ),
        main(
            "minimum_coverage_percent",
            "10",
            "percent of the sample a rule must cover to be announced",
            percent(1, 100),
            set!(minimum_coverage_percent),
        ),
        main("max_rules_per_host", "10", "FlowSpec rules per host at most", number(1, 100), set!(max_rules_per_host)),
        main("max_rules", "200", "FlowSpec rules in all at most; routers hold few", number(1, 10_000), set!(max_rules)),
        main(
            "max_entries_per_rule",
            "512",
            "entries that one rule may take in a router's ternary memory: a range takes as many as it has aligned blocks, conditions \
             multiply; a rule that would need more is widened",
            number(1, 1_000_000),
            set!(max_entries_per_rule),
        ),
        main("max_blackholes", "100", "blackholed hosts at most", number(1, 10_000), set!(max_blackholes)),
    ]
}

pub(crate) fn flow_spec_keys() -> Vec<Key> {
    let mut all = action_keys();
    all.extend(condition_keys());
    all
}

fn action_keys() -> Vec<Key> {
    vec![
        main(
            "gobgp_flow_spec_announces",
            "true",
            "FlowSpec rules are among what is announced",
            switch(),
            set!(gobgp_flow_spec_announces),
        ),
        main(
            "gobgp_flow_spec_default_action",
            "\"discard\"",
            "action of mined rules: accept, discard, rate-limit or redirect",
            choice([
                ("accept", RuleAction::Accept),
                ("discard", RuleAction::Discard),
                ("rate-limit", RuleAction::RateLimit),
                ("redirect", RuleAction::Redirect),
            ]),
            set!(default_action),
        ),
        main(
            "gobgp_flow_spec_rate_limit_value",
            "1024",
            "bytes per second that pass a rate-limit rule",
            bytes_per_second(1, 1_000_000_000_000),
            set!(rate_limit_value),
        ),
        main(
            "gobgp_flow_spec_v4_redirect_target_as",
            "",
            "AS number of the route target that redirect rules send traffic to, 16 bits (RFC 8955 section 7.4)",
            number(1, 65_535),
            some!(redirect_target_as),
        ),
        main(
            "gobgp_flow_spec_v4_redirect_target_community",
            "",
            "local part of the route target that redirect rules send traffic to, 32 bits",
            number(0, 4_294_967_295),
            some!(redirect_target_community),
        ),
        main(
            "gobgp_flow_spec_next_hop_ipv4",
            "[]",
            "addresses that rules send traffic to besides their action (draft-ietf-idr-flowspec-redirect-ip)",
            addresses(kind::Family::Ipv4, "10.3.44.6"),
            set!(flow_spec_next_hops_ipv4),
        ),
        main(
            "flow_spec_per_hostgroup_management",
            "false",
            "FlowSpec rules only for host groups that set enable_bgp_flow_spec = true themselves; off: for all but those that \
             set it to false",
            switch(),
            set!(flow_spec_per_hostgroup_management),
        ),
        main(
            "flow_spec_execute_validation",
            "true",
            "rules set by hand need host prefixes, at least one of them ours; the other rails hold either way",
            switch(),
            set!(flow_spec_execute_validation),
        ),
        main(
            "flow_spec_tcp_options_use_match_bit",
            "false",
            "set the match bit in TCP flag operators, as Huawei routers want it",
            switch(),
            set!(flow_spec_tcp_options_use_match_bit),
        ),
        main(
            "flow_spec_fragmentation_options_use_match_bit",
            "false",
            "set the match bit in fragment operators, as Huawei routers want it",
            switch(),
            set!(flow_spec_fragmentation_options_use_match_bit),
        ),
    ]
}

fn condition_keys() -> Vec<Key> {
    vec![
        main(
            "flow_spec_do_not_process_source_address_field",
            "false",
            "never mine source prefixes",
            switch(),
            set!(flow_spec_do_not_process_source_address_field),
        ),
        main(
            "flow_spec_do_not_process_length_field",
            "false",
            "never mine packet lengths",
            switch(),
            set!(flow_spec_do_not_process_length_field),
        ),
        main(
            "flow_spec_do_not_process_tcp_flags_field",
            "false",
            "never mine TCP flags",
            switch(),
            set!(flow_spec_do_not_process_tcp_flags_field),
        ),
        main(
            "flow_spec_do_not_process_ip_fragmentation_flags_field",
            "false",
            "never mine fragment bits; some Arista and Extreme models refuse them",
            switch(),
            set!(flow_spec_do_not_process_ip_fragmentation_flags_field),
        ),
        main(
            "flow_spec_ignore_do_not_fragment_flag",
            "false",
            "never mine the don't-fragment bit, other fragment bits all the same",
            switch(),
            set!(flow_spec_ignore_do_not_fragment_flag),
        ),
        main(
            "flow_spec_strip_ports_for_fragmented_traffic",
            "false",
            "no ports in rules with fragment bits; Arista cannot combine them",
            switch(),
            set!(flow_spec_strip_ports_for_fragmented_traffic),
        ),
    ]
}

pub(crate) fn safety_keys() -> Vec<Key> {
    let mut keys = guard_keys();
    keys.extend(exabgp_keys().into_iter().map(Key::admin));
    keys
}

fn guard_keys() -> Vec<Key> {
    vec![
        main(
            "shortest_prefix_ipv4",
            "24",
            "shortest IPv4 prefix length that anything is announced for",
            number(1, 32),
            set!(shortest_prefix_ipv4),
        ),
        main(
            "shortest_prefix_ipv6",
            "48",
            "shortest IPv6 prefix length that anything is announced for",
            number(1, 128),
            set!(shortest_prefix_ipv6),
        ),
        main(
            "probe_time",
            "30",
            "seconds after a rule's end in which a returning attack brings it back at once, for twice as long; 0 switches it off",
            seconds(0, 86_400),
            set!(probe_time),
        ),
        main(
            "rule_reserve_percent",
            "10",
            "percent of max_rules and of each router's budget kept for manual rules; a quarter of either is kept for mitigation",
            percent(0, 100),
            set!(rule_reserve_percent),
        ),
        main(
            "max_new_rules_per_second",
            "20",
            "new automatic rules and blackholes per second at most",
            number(1, 100_000),
            set!(max_new_rules_per_second),
        ),
        main(
            "max_blackhole_percent",
            "10",
            "percent of own addresses that may be blackholed automatically",
            percent(0, 100),
            set!(max_blackhole_percent),
        ),
        main(
            "breaker_targets",
            "50",
            "more new targets than this in ten seconds stop automatic announcing",
            number(1, 1_000_000),
            set!(breaker_targets),
        ),
        main(
            "breaker_percent",
            "10",
            "so does this percentage of own addresses (at least 10 targets)",
            percent(1, 100),
            set!(breaker_percent),
        ),
        main(
            "on_shutdown",
            "\"keep\"",
            "keep leaves announcements where graceful restart is in force; withdraw takes them back everywhere",
            choice([("keep", true), ("withdraw", false)]),
            set!(keeps),
        ),
        main(
            "dead_man_time",
            "30",
            "seconds without decisions after which everything is withdrawn; 0 switches it off",
            seconds(0, 86_400),
            set!(dead_man_time),
        ),
        main(
            "quarantine_time",
            "3",
            "a session that ends within so many seconds of a new route puts the route into quarantine; 0 switches it off",
            seconds(0, 3600),
            set!(quarantine_time),
        ),
        main(
            "canary_time",
            "2",
            "seconds that canary peers hold a new route before the others get it",
            seconds(0, 3600),
            set!(canary_time),
        ),
    ]
}

fn exabgp_keys() -> Vec<Key> {
    vec![
        main(
            "exabgp",
            "false",
            "write announcements as text into ExaBGP's command pipe as well",
            switch(),
            set!(exabgp),
        ),
        main("exabgp_command_pipe", "\"/var/run/exabgp.cmd\"", "the pipe", text(), set!(exabgp_command_pipe)),
        main(
            "exabgp_next_hop",
            "\"192.0.2.1\"",
            "next hop of IPv4 blackholes given to ExaBGP",
            ipv4("192.0.2.1"),
            some!(exabgp_next_hop),
        ),
        main(
            "exabgp_next_hop_ipv6",
            "\"100::1\"",
            "next hop of IPv6 blackholes given to ExaBGP",
            ipv6("100::1"),
            some!(exabgp_next_hop_ipv6),
        ),
        main(
            "exabgp_community",
            "[]",
            "communities added to what ExaBGP is given, such as \"65001:666\"",
            communities(),
            set!(exabgp_communities),
        ),
    ]
}

impl Announcing {
    pub(crate) fn exabgp(&self) -> Option<ExaBgp> {
        self.exabgp.then(|| ExaBgp {
            pipe: self.exabgp_command_pipe.clone().into(),
            next_hop_ipv4: self.exabgp_next_hop.unwrap_or(Ipv4Addr::new(192, 0, 2, 1)),
            next_hop_ipv6: self.exabgp_next_hop_ipv6.unwrap_or(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
            communities: self.exabgp_communities.clone(),
        })
    }

    /// Puts the keys where they belong.
    #[allow(clippy::cast_precision_loss, reason = "shares in percent")]
    fn guard(&self, config: &mut policy::Config) {
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let length = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
        let share = |n: u64| n as f64 / 100.0;
        config.shortest_prefix = (length(self.shortest_prefix_ipv4), length(self.shortest_prefix_ipv6));
        config.probe_time = Duration::from_secs(self.probe_time);
        config.rule_reserve = share(self.rule_reserve_percent);
        config.max_new_rules_per_second = u32::try_from(self.max_new_rules_per_second).unwrap_or(u32::MAX);
        config.max_blackhole_share = share(self.max_blackhole_percent);
        config.breaker_targets = count(self.breaker_targets);
        config.breaker_share = share(self.breaker_percent);
        config.on_shutdown = if self.keeps { OnShutdown::Keep } else { OnShutdown::Withdraw };
        config.dead_man = Duration::from_secs(self.dead_man_time);
        config.quarantine = Duration::from_secs(self.quarantine_time);
        config.canary = Duration::from_secs(self.canary_time);
        config.exabgp = self.exabgp();
    }
}

pub(crate) fn compose(draft: &Draft, networks: &Networks, report: &mut Report) -> policy::Config {
    let main = &draft.announcing;
    let peers: Vec<Peer> =
        draft.bgp.iter().filter_map(|(name, bgp)| crate::peer::compose(name, bgp, main, report)).collect();
    let flowspec = |p: &Peer| p.families.iter().any(|f| matches!(f, Family::Ipv4FlowSpec | Family::Ipv6FlowSpec));
    if main.enable_ban {
        if networks.prefixes().is_empty() && report.knows_networks() {
            report.add(
                "main.enable_ban",
                "networks_list is empty, so nothing could be announced: list your prefixes first",
            );
        }
        if peers.is_empty() && draft.bgp.values().all(|b| !b.active) && !draft.enforcer.enforce_here {
            report.add(
                "main.enable_ban",
                "there is no active BGP peer to announce to: add a [bgp.NAME] table, or enforce_here in [enforcer]",
            );
        } else if !peers.is_empty() && main.gobgp_flow_spec_announces && !peers.iter().any(flowspec) {
            report.add("main.gobgp_flow_spec_announces", "no BGP peer has ipv4_flowspec or ipv6_flowspec on");
        }
    }
    let actions = compose_actions(main, report);
    let groups = hostgroup::policies(draft, &actions, report);
    #[allow(clippy::cast_precision_loss, reason = "a share in percent")]
    let minimum_coverage = main.minimum_coverage_percent as f64 / 100.0;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut config = policy::Config {
        networks: draft.counting.networks_list.clone(),
        enable_ban: main.enable_ban,
        flow_spec_announces: main.gobgp_flow_spec_announces,
        flow_spec: FlowSpecOptions {
            next_hops_ipv4: main.flow_spec_next_hops_ipv4.clone(),
            execute_validation: main.flow_spec_execute_validation,
            tcp_flags_match_bit: main.flow_spec_tcp_options_use_match_bit,
            fragment_match_bit: main.flow_spec_fragmentation_options_use_match_bit,
        },
        capabilities: Capabilities {
            source: !main.flow_spec_do_not_process_source_address_field,
            length: !main.flow_spec_do_not_process_length_field,
            tcp_flags: !main.flow_spec_do_not_process_tcp_flags_field,
            fragment: !main.flow_spec_do_not_process_ip_fragmentation_flags_field,
            do_not_fragment: !main.flow_spec_ignore_do_not_fragment_flag,
            ports_with_fragment: !main.flow_spec_strip_ports_for_fragmented_traffic,
            max_entries: main.max_entries_per_rule,
            ..Capabilities::default()
        },
        groups,
        protected: main.protected_networks.clone(),
        ban_time: Duration::from_secs(main.ban_time),
        unban_only_if_attack_finished: main.unban_only_if_attack_finished,
        blackhole_after: Duration::from_secs(main.blackhole_after),
        minimum_coverage,
        max_rules_per_host: count(main.max_rules_per_host),
        max_rules: count(main.max_rules),
        max_blackholes: count(main.max_blackholes),
        peers,
        ..policy::Config::default()
    };
    config.remote_skiplist.clone_from(&draft.counting.networks_whitelist_remote);
    main.guard(&mut config);
    config
}

/// What rules do, in each step of a ladder; redirecting needs both halves of its route target.
fn compose_actions(main: &Announcing, report: &mut Report) -> RuleActions {
    #[allow(clippy::cast_precision_loss, reason = "a rate for routers that round it anyway")]
    let rate = Action::RateLimitBytes(main.rate_limit_value as f32);
    let next_hops = main.flow_spec_next_hops_ipv4.iter().map(|a| Action::RedirectToIp(IpAddr::V4(*a)));
    let target = main.redirect_target_as.zip(main.redirect_target_community);
    let route_target = target.map(|(asn, value)| Action::RedirectAs2 { asn, value });
    let redirect: Vec<Action> = route_target.clone().into_iter().chain(next_hops.clone()).collect();
    let mut default = match main.default_action {
        RuleAction::Discard => vec![Action::Discard],
        RuleAction::RateLimit => vec![rate.clone()],
        RuleAction::Redirect if route_target.is_none() && main.flow_spec_next_hops_ipv4.is_empty() => {
            report.add(
                "main.gobgp_flow_spec_default_action",
                "redirect needs its target: set gobgp_flow_spec_v4_redirect_target_as = 65535 and \
                 gobgp_flow_spec_v4_redirect_target_community = 1 as well",
            );
            Vec::new()
        }
        RuleAction::Redirect => route_target.into_iter().collect(),
        // With next hops "accept" means: send it there.
        RuleAction::Accept if !main.flow_spec_next_hops_ipv4.is_empty() => Vec::new(),
        RuleAction::Accept => vec![Action::Accept],
    };
    default.extend(next_hops);
    RuleActions { default, rate, redirect }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_ternary_memory_that_a_rule_may_take_is_a_setting() {
        let entries = |text: &str| crate::check(text).expect("valid").mitigation.capabilities.max_entries;
        assert_eq!((entries(""), entries("[main]\nmax_entries_per_rule = 64\n")), (512, 64));
    }
}
