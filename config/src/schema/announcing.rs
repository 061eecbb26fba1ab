//! Keys about what is announced, to whom and how safely: of `[main]`, `[hostgroup.NAME]` and `[bgp.NAME]`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ExaBgp, ExtendedCommunity, LargeCommunity, OnShutdown};
use flowspec::Action;
use policy::{Mode, Rung, UnicastForm};

use super::{Key, group, main};
use crate::communities::{communities, extended_communities, large_communities};
use crate::kind::{Kind, Of, choice, ipv4, ipv6, list, number, percent, seconds, switch, text};

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

/// Of `[hostgroup.NAME]`; what is absent is inherited from `global`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Ladder {
    pub mitigation: Option<Mode>,
    pub ladder: Option<Vec<String>>,
    pub blackhole: Form,
    pub diversion: Form,
}

/// A blackhole or a diversion.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Form {
    pub length_ipv4: Option<u8>,
    pub length_ipv6: Option<u8>,
    pub next_hop_ipv4: Option<Ipv4Addr>,
    pub next_hop_ipv6: Option<Ipv6Addr>,
    pub communities: Option<Vec<Community>>,
    pub large: Option<Vec<LargeCommunity>>,
    pub extended: Option<Vec<ExtendedCommunity>>,
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

pub(super) fn group_keys() -> Vec<Key> {
    let mut keys = vec![
        group(
            "mitigation",
            "\"automatic\"",
            "automatic announces; approve waits for an operator's word; alert only reports",
            choice([("automatic", Mode::Automatic), ("approve", Mode::Approve), ("alert", Mode::Alert)]),
            some!(ladder.mitigation),
        ),
        group(
            "mitigation_ladder",
            "",
            "what is tried, in order, when the step before does not help: of rate-limit, discard, redirect, divert, blackhole; \
             absent: main's gobgp_flow_spec_default_action, then blackhole",
            ladder(),
            some!(ladder.ladder),
        ),
    ];
    keys.extend(form_keys("blackhole", |ladder| &mut ladder.blackhole));
    keys.extend(form_keys("diversion", |ladder| &mut ladder.diversion));
    keys
}

/// Steps of a ladder; `accept` is known but not told.
fn ladder() -> Of<Vec<String>> {
    let steps = ["rate-limit", "discard", "redirect", "divert", "blackhole"];
    let advice = format!("write some of {}", steps.join(", "));
    let wrong = advice.clone();
    let step = move |name: &str| {
        let is_known = name == "accept" || steps.contains(&name);
        if is_known { Ok(name.to_owned()) } else { Err(format!("{name:?} is no step: {wrong}")) }
    };
    list(Kind::Choice { choices: steps.to_vec() }, step).saying(advice).then(|list| {
        if list.is_empty() { Err("name one step at least, or set mitigation = \"alert\"".to_owned()) } else { Ok(list) }
    })
}

/// Keys of a blackhole or diversion of a host group.
fn form_keys(name: &'static str, of: fn(&mut Ladder) -> &mut Form) -> Vec<Key> {
    let wider = if name == "blackhole" {
        "; shorter than the host takes the covering prefix down with it"
    } else {
        " (the routing table hardly takes less than 24)"
    };
    vec![
        form(
            name,
            "prefix_length_ipv4",
            of,
            &format!("prefix length of IPv4 {name}s, 8 to 32{wider}"),
            number(8, 32),
            some!(length_ipv4),
        ),
        form(
            name,
            "prefix_length_ipv6",
            of,
            &format!("prefix length of IPv6 {name}s, 16 to 128{wider}"),
            number(16, 128),
            some!(length_ipv6),
        ),
        form(
            name,
            "next_hop_ipv4",
            of,
            &format!("next hop of IPv4 {name}s; absent: the peer's next_hop_ipv4"),
            ipv4("192.0.2.1"),
            some!(next_hop_ipv4),
        ),
        form(
            name,
            "next_hop_ipv6",
            of,
            &format!("next hop of IPv6 {name}s; absent: the peer's next_hop_ipv6"),
            ipv6("100::1"),
            some!(next_hop_ipv6),
        ),
        form(
            name,
            "communities",
            of,
            &format!("communities of {name}s of the group, such as \"65001:666\""),
            communities(),
            some!(communities),
        ),
        form(
            name,
            "large_communities",
            of,
            &format!("large communities of {name}s of the group"),
            large_communities(),
            some!(large),
        ),
        form(
            name,
            "extended_communities",
            of,
            &format!("extended communities of {name}s of the group, such as \"rt:65001:100\""),
            extended_communities(),
            some!(extended),
        ),
    ]
}

fn form<T: 'static>(
    name: &str,
    suffix: &str,
    of: fn(&mut Ladder) -> &mut Form,
    meaning: &str,
    what: Of<T>,
    set: impl Fn(&mut Form, T) + Send + Sync + 'static,
) -> Key {
    group(&format!("{name}_{suffix}"), "", meaning, what, move |g, v| set(of(&mut g.ladder), v))
}

impl Form {
    fn compose(&self, global: &Self, lengths: (u8, u8)) -> UnicastForm {
        UnicastForm {
            lengths: (
                self.length_ipv4.or(global.length_ipv4).unwrap_or(lengths.0),
                self.length_ipv6.or(global.length_ipv6).unwrap_or(lengths.1),
            ),
            next_hop_ipv4: self.next_hop_ipv4.or(global.next_hop_ipv4),
            next_hop_ipv6: self.next_hop_ipv6.or(global.next_hop_ipv6),
            communities: self.communities.clone().or_else(|| global.communities.clone()).unwrap_or_default(),
            large_communities: self.large.clone().or_else(|| global.large.clone()).unwrap_or_default(),
            extended_communities: self.extended.clone().or_else(|| global.extended.clone()).unwrap_or_default(),
        }
    }
}

/// What the steps of a ladder that are rules do.
pub(crate) struct RuleActions {
    /// `gobgp_flow_spec_default_action` with its values.
    pub(crate) default: Vec<Action>,
    /// `rate-limit` as a step.
    pub(crate) rate: Action,
    /// `redirect` as a step; empty where no target is configured.
    pub(crate) redirect: Vec<Action>,
}

impl Ladder {
    pub(crate) fn mode(&self, global: &Self) -> Mode {
        self.mitigation.or(global.mitigation).unwrap_or_default()
    }

    pub(crate) fn blackhole(&self, global: &Self) -> UnicastForm {
        self.blackhole.compose(&global.blackhole, (32, 128))
    }

    pub(crate) fn diversion(&self, global: &Self) -> UnicastForm {
        self.diversion.compose(&global.diversion, (24, 48))
    }

    /// The rungs, or what is missing for them.
    pub(crate) fn rungs(&self, global: &Self, actions: &RuleActions) -> Result<Vec<Rung>, String> {
        let Some(names) = self.ladder.as_ref().or(global.ladder.as_ref()) else {
            return Ok(vec![Rung::FlowSpec(actions.default.clone()), Rung::Blackhole]);
        };
        let diversion = self.diversion(global);
        let rung = |name: &String| {
            Ok(match name.as_str() {
                "accept" => Rung::FlowSpec(vec![Action::Accept]),
                "rate-limit" => Rung::FlowSpec(vec![actions.rate.clone()]),
                "discard" => Rung::FlowSpec(vec![Action::Discard]),
                "redirect" if actions.redirect.is_empty() => {
                    return Err("redirect needs a target: set gobgp_flow_spec_next_hop_ipv4, or \
                                gobgp_flow_spec_v4_redirect_target_as and gobgp_flow_spec_v4_redirect_target_community"
                        .to_owned());
                }
                "redirect" => Rung::FlowSpec(actions.redirect.clone()),
                "divert" if diversion.next_hop_ipv4.is_none() && diversion.next_hop_ipv6.is_none() => {
                    return Err(
                        "divert needs where to: set diversion_next_hop_ipv4 or diversion_next_hop_ipv6".to_owned()
                    );
                }
                "divert" => Rung::Divert,
                _ => Rung::Blackhole,
            })
        };
        names.iter().map(rung).collect()
    }
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
