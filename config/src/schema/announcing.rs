//! Keys about what is announced, to whom and how safely: of `[main]`, `[hostgroup.NAME]` and `[bgp.NAME]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ConnectionMode, ExaBgp, ExtendedCommunity, LargeCommunity, OnShutdown};
use flowspec::Action;
use flowspec::profile::{self, FragmentSupport, Profile};
use policy::{Mode, Rung, UnicastForm};

use super::{Key, bgp, communities, group, large_communities, main};
use crate::draft::Bgp;
use crate::kind::{
    Family, Kind, Of, addresses, choice, ipv4, ipv6, list, number, percent, seconds, short_secret, switch, text,
};

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

/// Of `[bgp.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Transport {
    pub passive: bool,
    pub listen: bool,
    pub local_port: u16,
    pub md5_auth_password: Option<String>,
    pub ttl_security_hops: Option<u8>,
    pub multihop_ttl: Option<u8>,
    pub graceful_restart_time: u64,
    pub max_received_prefixes: u64,
    pub blackhole_communities: Vec<Community>,
    pub extended_communities: Vec<ExtendedCommunity>,
    pub announce_remote_bans: bool,
    pub canary: bool,
    pub exporters: Vec<IpAddr>,
    pub profile: profile::Kind,
    pub options: BTreeMap<&'static str, Setting>,
}

fn extended_community(text: &str) -> Result<ExtendedCommunity, String> {
    let wrong = || {
        format!(
            "{text:?} is not an extended community: write \"rt:65001:100\", \"ro:192.0.2.1:5\" or 16 hexadecimal digits"
        )
    };
    if text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u64::from_str_radix(text, 16).map(|n| ExtendedCommunity(n.to_be_bytes())).map_err(|_| wrong());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [kind, administrator, value] = parts[..] else { return Err(wrong()) };
    let subtype = match kind {
        "rt" => 2,
        "ro" | "soo" => 3,
        _ => return Err(wrong()),
    };
    // RFC 4360 section 3.1 and 3.2, RFC 5668.
    if let Ok(asn) = administrator.parse::<u16>() {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), value.parse::<u32>().map_err(|_| wrong())?.to_be_bytes());
        return Ok(ExtendedCommunity([0, subtype, a, b, c, d, e, f]));
    }
    let [e, f] = value.parse::<u16>().map_err(|_| wrong())?.to_be_bytes();
    let (kind, [a, b, c, d]) = match (administrator.parse::<Ipv4Addr>(), administrator.parse::<u32>()) {
        (Ok(address), _) => (1, address.octets()),
        (_, Ok(asn)) => (2, asn.to_be_bytes()),
        _ => return Err(wrong()),
    };
    Ok(ExtendedCommunity([kind, subtype, a, b, c, d, e, f]))
}

fn extended_communities() -> Of<Vec<ExtendedCommunity>> {
    list(Kind::Form { example: "rt:65001:100" }, extended_community)
        .saying("write \"rt:65001:100\", \"ro:192.0.2.1:5\" or 16 hexadecimal digits")
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

pub(super) fn bgp_keys() -> Vec<Key> {
    let mut keys = transport_keys();
    keys.extend(content_keys());
    keys.extend(PROFILE_OPTIONS.iter().map(|(name, meaning, option)| {
        let full = format!("flowspec_{name}");
        let meaning = format!("{meaning}; absent: as the profile says");
        let store = move |b: &mut Bgp, value| {
            b.transport.options.insert(name, value);
        };
        match option {
            Opt::Switch(_) => bgp(&full, "", &meaning, switch().then(|on| Ok(Setting::Switch(on))), store),
            Opt::Count(low, high, _) => {
                bgp(&full, "", &meaning, number(*low, *high).then(|n| Ok(Setting::Count(n))), store)
            }
            Opt::Fragment => bgp(&full, "", &meaning, choice(FRAGMENTS).then(|f| Ok(Setting::Fragment(f))), store),
        }
    }));
    keys
}

fn transport_keys() -> Vec<Key> {
    vec![
        bgp("passive", "false", "never connect: wait for the peer to", switch(), set!(transport.passive)),
        bgp("listen", "false", "connect, and accept the peer's connection too", switch(), set!(transport.listen)),
        bgp(
            "local_port",
            "179",
            "TCP port to wait on at local_address, with passive or listen",
            number(1, 65_535),
            set!(transport.local_port),
        ),
        bgp(
            "md5_auth_password",
            "",
            "TCP MD5 password (RFC 2385), 1 to 80 octets; the router needs the same",
            short_secret(80),
            some!(transport.md5_auth_password),
        )
        .admin(),
        bgp(
            "ttl_security_hops",
            "",
            "GTSM (RFC 5082): the peer is at most so many hops away, 1 for a neighbour; it must send TTL 255 too",
            number(1, 254),
            some!(transport.ttl_security_hops),
        ),
        bgp(
            "multihop_ttl",
            "",
            "TTL of what is sent, without GTSM; absent: the system's",
            number(1, 255),
            some!(transport.multihop_ttl),
        ),
        bgp(
            "graceful_restart_time",
            "120",
            "seconds that the peer keeps our routes when the session is lost (RFC 4724); 0 switches graceful restart off",
            seconds(0, 4095),
            set!(transport.graceful_restart_time),
        ),
        bgp(
            "max_received_prefixes",
            "10000",
            "routes of the peer that are looked at; more are counted and dropped",
            number(0, 10_000_000),
            set!(transport.max_received_prefixes),
        ),
    ]
}

fn content_keys() -> Vec<Key> {
    vec![
        bgp(
            "blackhole_communities",
            "[]",
            "communities added to every blackhole, such as \"65001:666\"",
            communities(),
            set!(transport.blackhole_communities),
        ),
        bgp(
            "extended_communities",
            "[]",
            "extended communities added to every route, such as \"rt:65001:100\"",
            extended_communities(),
            set!(transport.extended_communities),
        ),
        bgp(
            "announce_remote_bans",
            "false",
            "manual bans of foreign hosts, always with no-export",
            switch(),
            set!(transport.announce_remote_bans),
        ),
        bgp(
            "canary",
            "false",
            "it gets new routes first; the others canary_time later",
            switch(),
            set!(transport.canary),
        ),
        bgp(
            "exporters",
            "[]",
            "addresses of exporters whose traffic passes this router; what it filters is taken out of their counts alone; \
             empty: of all",
            addresses(Family::Any, "192.0.2.1"),
            set!(transport.exporters),
        ),
        bgp(
            "profile",
            "\"generic\"",
            "what its router can take: generic, juniper, cisco-xr, nokia, huawei, arista, extreme, 6wind, frr, bird, gobgp, exabgp",
            profile(),
            set!(transport.profile),
        ),
    ]
}

fn profile() -> Of<profile::Kind> {
    let names: Vec<&'static str> = profile::Kind::ALL.iter().map(|(_, name)| *name).collect();
    let advice = format!("write one of {}", names.join(", "));
    Of::new(Kind::Choice { choices: names }, |value| value.text()?.parse()).saying(advice)
}

/// What an option of a profile takes, and the field that it is.
enum Opt {
    Switch(fn(&mut Profile, bool)),
    /// From, to.
    Count(i64, i64, fn(&mut Profile, usize)),
    Fragment,
}

/// An option of a profile as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "what the option takes")]
pub enum Setting {
    Switch(bool),
    Count(usize),
    Fragment(FragmentSupport),
}

const FRAGMENTS: [(&str, FragmentSupport); 4] = [
    ("none", FragmentSupport::None),
    ("is-fragment", FragmentSupport::IsFragment),
    ("no-last", FragmentSupport::NoLast),
    ("all", FragmentSupport::All),
];

macro_rules! option {
    ($($field:ident).+) => {
        Opt::Switch(|p, on| p.$($field).+ = on)
    };
}

/// Options of a profile that can be set by themselves: name without `flowspec_`, meaning, what it sets.
const PROFILE_OPTIONS: [(&str, &str, Opt); 23] = [
    ("tcp_flags_match_bit", "match bit in tests of single TCP flags", option!(tcp_flags_match_bit)),
    ("fragment_match_bit", "match bit in tests of single fragment bits", option!(fragment_match_bit)),
    ("fragment", "fragment bits it can match: none, is-fragment, no-last or all", Opt::Fragment),
    ("dont_fragment", "it can match dont-fragment", option!(dont_fragment)),
    ("tcp_flags", "it can match TCP flags", option!(tcp_flags)),
    ("tcp_flags_negation", "it can match clear TCP flags", option!(tcp_flags_negation)),
    ("tcp_flags_extended", "it can match ECE and CWR", option!(tcp_flags_extended)),
    ("length_ipv4", "it can match the length of IPv4 packets", Opt::Switch(set!(length.0))),
    ("length_ipv6", "it can match the length of IPv6 packets", Opt::Switch(set!(length.1))),
    (
        "longest_length",
        "longest packet length a rule may name",
        Opt::Count(20, 65_535, |p, n| p.longest = u32::try_from(n).unwrap_or(9216)),
    ),
    ("source", "it can match source prefixes", option!(source)),
    ("ports_with_fragment", "it can match ports together with fragment bits", option!(ports_with_fragment)),
    ("port_with_others", "it can match port together with source-port or destination-port", option!(port_with_others)),
    ("needs_protocol", "ports, ICMP and TCP flags need a protocol", option!(needs_protocol)),
    (
        "max_values",
        "values or ranges of one condition at most; longer rules are cut into several",
        Opt::Count(1, 1000, set!(max_values)),
    ),
    (
        "max_operators",
        "operators of one condition at most (a range has two); longer rules are cut",
        Opt::Count(2, 1000, set!(max_operators)),
    ),
    ("ranges", "it can match ranges", option!(ranges)),
    ("ipv6", "it takes IPv6 rules", option!(ipv6)),
    ("rate_packets", "it knows rate limits in packets", option!(rate_packets)),
    ("redirect_as4", "it knows redirection to a 4-octet AS", option!(redirect_as4)),
    ("redirect_to_next_hop", "it knows the older form of redirection to a next hop", option!(redirect_to_next_hop)),
    ("rate_asn", "our AS number in rate limits; false sends 0 as FastNetMon does", option!(rate_asn)),
    ("max_rules", "FlowSpec rules it holds at most", Opt::Count(1, 1_000_000, set!(max_rules))),
];

impl Transport {
    /// The profile with the options that are set by themselves; the global match bits come on top.
    pub(crate) fn profile(&self, tcp_match_bit: bool, fragment_match_bit: bool) -> Profile {
        let mut profile = Profile::of(self.profile);
        profile.tcp_flags_match_bit |= tcp_match_bit;
        profile.fragment_match_bit |= fragment_match_bit;
        for (name, _, option) in &PROFILE_OPTIONS {
            match (option, self.options.get(name)) {
                (Opt::Switch(set), Some(Setting::Switch(on))) => set(&mut profile, *on),
                (Opt::Count(_, _, set), Some(Setting::Count(n))) => set(&mut profile, *n),
                (Opt::Fragment, Some(Setting::Fragment(fragment))) => profile.fragment = *fragment,
                (Opt::Switch(_) | Opt::Count(..) | Opt::Fragment, _) => {}
            }
        }
        profile
    }

    pub(crate) const fn mode(&self) -> ConnectionMode {
        match (self.passive, self.listen) {
            (true, _) => ConnectionMode::Passive,
            (false, true) => ConnectionMode::Both,
            (false, false) => ConnectionMode::Active,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_communities_are_read_in_all_three_forms() {
        let hex =
            |text: &str| extended_community(text).map(|c| c.0.iter().map(|o| format!("{o:02x}")).collect::<String>());
        assert_eq!(hex("rt:65001:100").as_deref(), Ok("0002fde900000064"));
        assert_eq!(hex("ro:192.0.2.1:5").as_deref(), Ok("0103c00002010005"));
        assert_eq!(hex("rt:4200000001:7").as_deref(), Ok("0202fa56ea010007"));
        assert_eq!(hex("0002fde900000064").as_deref(), Ok("0002fde900000064"));
        for wrong in ["", "rt:1", "xx:1:2", "rt:65001:9999999999", "rt:4200000001:70000", "rt:host:1"] {
            assert!(extended_community(wrong).is_err(), "{wrong}");
        }
    }
}
