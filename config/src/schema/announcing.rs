//! Keys about what is announced, to whom and how safely: of `[main]`, `[hostgroup.NAME]` and `[bgp.NAME]`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ExaBgp, OnShutdown};

use super::{Key, main};
use crate::communities::communities;
use crate::kind::{choice, ipv4, ipv6, number, percent, seconds, switch, text};

/// Of `[main]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Safety {
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

pub(super) fn main_keys() -> Vec<Key> {
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
            set!(safety.shortest_prefix_ipv4),
        ),
        main(
            "shortest_prefix_ipv6",
            "48",
            "shortest IPv6 prefix length that anything is announced for",
            number(1, 128),
            set!(safety.shortest_prefix_ipv6),
        ),
        main(
            "probe_time",
            "30",
            "seconds after a rule's end in which a returning attack brings it back at once, for twice as long; 0 switches it off",
            seconds(0, 86_400),
            set!(safety.probe_time),
        ),
        main(
            "rule_reserve_percent",
            "10",
            "percent of max_rules and of each router's budget kept for manual rules; a quarter of either is kept for mitigation",
            percent(0, 100),
            set!(safety.rule_reserve_percent),
        ),
        main(
            "max_new_rules_per_second",
            "20",
            "new automatic rules and blackholes per second at most",
            number(1, 100_000),
            set!(safety.max_new_rules_per_second),
        ),
        main(
            "max_blackhole_percent",
            "10",
            "percent of own addresses that may be blackholed automatically",
            percent(0, 100),
            set!(safety.max_blackhole_percent),
        ),
        main(
            "breaker_targets",
            "50",
            "more new targets than this in ten seconds stop automatic announcing",
            number(1, 1_000_000),
            set!(safety.breaker_targets),
        ),
        main(
            "breaker_percent",
            "10",
            "so does this percentage of own addresses (at least 10 targets)",
            percent(1, 100),
            set!(safety.breaker_percent),
        ),
        main(
            "on_shutdown",
            "\"keep\"",
            "keep leaves announcements where graceful restart is in force; withdraw takes them back everywhere",
            choice([("keep", true), ("withdraw", false)]),
            set!(safety.keeps),
        ),
        main(
            "dead_man_time",
            "30",
            "seconds without decisions after which everything is withdrawn; 0 switches it off",
            seconds(0, 86_400),
            set!(safety.dead_man_time),
        ),
        main(
            "quarantine_time",
            "3",
            "a session that ends within so many seconds of a new route puts the route into quarantine; 0 switches it off",
            seconds(0, 3600),
            set!(safety.quarantine_time),
        ),
        main(
            "canary_time",
            "2",
            "seconds that canary peers hold a new route before the others get it",
            seconds(0, 3600),
            set!(safety.canary_time),
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
            set!(safety.exabgp),
        ),
        main("exabgp_command_pipe", "\"/var/run/exabgp.cmd\"", "the pipe", text(), set!(safety.exabgp_command_pipe)),
        main(
            "exabgp_next_hop",
            "\"192.0.2.1\"",
            "next hop of IPv4 blackholes given to ExaBGP",
            ipv4("192.0.2.1"),
            some!(safety.exabgp_next_hop),
        ),
        main(
            "exabgp_next_hop_ipv6",
            "\"100::1\"",
            "next hop of IPv6 blackholes given to ExaBGP",
            ipv6("100::1"),
            some!(safety.exabgp_next_hop_ipv6),
        ),
        main(
            "exabgp_community",
            "[]",
            "communities added to what ExaBGP is given, such as \"65001:666\"",
            communities(),
            set!(safety.exabgp_communities),
        ),
    ]
}

impl Safety {
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
    pub(crate) fn apply(&self, config: &mut policy::Config) {
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
