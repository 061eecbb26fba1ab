//! Keys about what is announced, to whom and how safely: of `[main]`, `[hostgroup.NAME]` and `[bgp.NAME]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Community, ConnectionMode, ExaBgp, ExtendedCommunity, LargeCommunity, OnShutdown};
use flowspec::Action;
use flowspec::profile::{FragmentSupport, Kind, Profile};
use policy::{Mode, Rung, UnicastForm};

use super::{Key, Value, addresses, bgp, community, group, large_community, main};

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
#[derive(Debug, Clone, PartialEq)]
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
    pub profile: Kind,
    pub options: BTreeMap<String, Value>,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            passive: false,
            listen: false,
            local_port: 179,
            md5_auth_password: None,
            ttl_security_hops: None,
            multihop_ttl: None,
            graceful_restart_time: 120,
            max_received_prefixes: 10_000,
            blackhole_communities: Vec::new(),
            extended_communities: Vec::new(),
            announce_remote_bans: false,
            canary: false,
            exporters: Vec::new(),
            profile: Kind::Generic,
            options: BTreeMap::new(),
        }
    }
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

fn all<T>(value: &Value, one: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.list()?.into_iter().map(one).collect()
}

macro_rules! safety {
    ($field:ident, $method:ident $(, $arg:expr)*) => {
        |target, value| { target.safety.$field = value.$method($($arg),*)?; Ok(()) }
    };
}

macro_rules! transport {
    ($field:ident, $method:ident $(, $arg:expr)*) => {
        |target, value| { target.transport.$field = value.$method($($arg),*)?; Ok(()) }
    };
}

pub(super) fn main_keys() -> Vec<Key> {
    let mut keys = guard_keys();
    keys.extend(exabgp_keys());
    keys
}

fn guard_keys() -> Vec<Key> {
    vec![
        main(
            "shortest_prefix_ipv4",
            "24",
            "shortest IPv4 prefix length that anything is announced for",
            safety!(shortest_prefix_ipv4, number, 1, 32),
        ),
        main(
            "shortest_prefix_ipv6",
            "48",
            "shortest IPv6 prefix length that anything is announced for",
            safety!(shortest_prefix_ipv6, number, 1, 128),
        ),
        main(
            "probe_time",
            "30",
            "seconds after a rule's end in which a returning attack brings it back at once, for twice as long; 0 switches it off",
            safety!(probe_time, number, 0, 86_400),
        ),
        main(
            "rule_reserve_percent",
            "10",
            "percent of max_rules and of each router's budget kept for manual rules; a quarter of either is kept for mitigation",
            safety!(rule_reserve_percent, number, 0, 100),
        ),
        main(
            "max_new_rules_per_second",
            "20",
            "new automatic rules and blackholes per second at most",
            safety!(max_new_rules_per_second, number, 1, 100_000),
        ),
        main(
            "max_blackhole_percent",
            "10",
            "percent of own addresses that may be blackholed automatically",
            safety!(max_blackhole_percent, number, 0, 100),
        ),
        main(
            "breaker_targets",
            "50",
            "more new targets than this in ten seconds stop automatic announcing",
            safety!(breaker_targets, number, 1, 1_000_000),
        ),
        main(
            "breaker_percent",
            "10",
            "so does this percentage of own addresses (at least 10 targets)",
            safety!(breaker_percent, number, 1, 100),
        ),
        main(
            "on_shutdown",
            "\"keep\"",
            "keep leaves announcements where graceful restart is in force; withdraw takes them back everywhere",
            |m, v| {
                m.safety.keeps = match v.text()? {
                    "keep" => true,
                    "withdraw" => false,
                    _ => return Err("write \"keep\" or \"withdraw\"".to_owned()),
                };
                Ok(())
            },
        ),
        main(
            "dead_man_time",
            "30",
            "seconds without decisions after which everything is withdrawn; 0 switches it off",
            safety!(dead_man_time, number, 0, 86_400),
        ),
        main(
            "quarantine_time",
            "3",
            "a session that ends within so many seconds of a new route puts the route into quarantine; 0 switches it off",
            safety!(quarantine_time, number, 0, 3600),
        ),
        main(
            "canary_time",
            "2",
            "seconds that canary peers hold a new route before the others get it",
            safety!(canary_time, number, 0, 3600),
        ),
    ]
}

fn exabgp_keys() -> Vec<Key> {
    vec![
        main(
            "exabgp",
            "false",
            "write announcements as text into ExaBGP's command pipe as well",
            safety!(exabgp, switch),
        ),
        main("exabgp_command_pipe", "\"/var/run/exabgp.cmd\"", "the pipe", |m, v| {
            v.text()?.clone_into(&mut m.safety.exabgp_command_pipe);
            Ok(())
        }),
        main("exabgp_next_hop", "\"192.0.2.1\"", "next hop of IPv4 blackholes given to ExaBGP", |m, v| {
            m.safety.exabgp_next_hop = Some(v.parse("192.0.2.1")?);
            Ok(())
        }),
        main("exabgp_next_hop_ipv6", "\"100::1\"", "next hop of IPv6 blackholes given to ExaBGP", |m, v| {
            m.safety.exabgp_next_hop_ipv6 = Some(v.parse("100::1")?);
            Ok(())
        }),
        main("exabgp_community", "[]", "communities added to what ExaBGP is given, such as \"65001:666\"", |m, v| {
            m.safety.exabgp_communities = all(v, community)?;
            Ok(())
        }),
    ]
}

pub(super) fn group_keys() -> Vec<Key> {
    let mut keys = vec![
        group(
            "mitigation",
            "\"automatic\"",
            "automatic announces; approve waits for an operator's word; alert only reports",
            |g, v| {
                g.ladder.mitigation = Some(match v.text()? {
                    "automatic" => Mode::Automatic,
                    "approve" => Mode::Approve,
                    "alert" => Mode::Alert,
                    _ => return Err("write \"automatic\", \"approve\" or \"alert\"".to_owned()),
                });
                Ok(())
            },
        ),
        group(
            "mitigation_ladder",
            "",
            "what is tried, in order, when the step before does not help: of rate-limit, discard, redirect, divert, blackhole; \
             absent: main's gobgp_flow_spec_default_action, then blackhole",
            |g, v| {
                let list: Vec<String> = v.list()?.into_iter().map(str::to_owned).collect();
                let known = ["accept", "rate-limit", "discard", "redirect", "divert", "blackhole"];
                if let Some(wrong) = list.iter().find(|name| !known.contains(&name.as_str())) {
                    return Err(format!("{wrong:?} is no step: write some of {}", known[1..].join(", ")));
                }
                if list.is_empty() {
                    return Err("name one step at least, or set mitigation = \"alert\"".to_owned());
                }
                g.ladder.ladder = Some(list);
                Ok(())
            },
        ),
    ];
    keys.extend(form_keys("blackhole", |ladder| &mut ladder.blackhole));
    keys.extend(form_keys("diversion", |ladder| &mut ladder.diversion));
    keys
}

/// Keys of a blackhole or diversion of a host group.
fn form_keys(name: &'static str, of: fn(&mut Ladder) -> &mut Form) -> Vec<Key> {
    let key = |suffix: &str, default: &str, meaning: &str, set: fn(&mut Form, &Value) -> Result<(), String>| {
        group(&format!("{name}_{suffix}"), default, meaning, move |g, v| set(of(&mut g.ladder), v))
    };
    let wider = if name == "blackhole" {
        "; shorter than the host takes the covering prefix down with it"
    } else {
        " (the routing table hardly takes less than 24)"
    };
    vec![
        key("prefix_length_ipv4", "", &format!("prefix length of IPv4 {name}s, 8 to 32{wider}"), |f, v| {
            f.length_ipv4 = u8::try_from(v.number(8, 32)?).ok();
            Ok(())
        }),
        key("prefix_length_ipv6", "", &format!("prefix length of IPv6 {name}s, 16 to 128{wider}"), |f, v| {
            f.length_ipv6 = u8::try_from(v.number(16, 128)?).ok();
            Ok(())
        }),
        key("next_hop_ipv4", "", &format!("next hop of IPv4 {name}s; absent: the peer's next_hop_ipv4"), |f, v| {
            f.next_hop_ipv4 = Some(v.parse("192.0.2.1")?);
            Ok(())
        }),
        key("next_hop_ipv6", "", &format!("next hop of IPv6 {name}s; absent: the peer's next_hop_ipv6"), |f, v| {
            f.next_hop_ipv6 = Some(v.parse("100::1")?);
            Ok(())
        }),
        key("communities", "", &format!("communities of {name}s of the group, such as \"65001:666\""), |f, v| {
            f.communities = Some(all(v, community)?);
            Ok(())
        }),
        key("large_communities", "", &format!("large communities of {name}s of the group"), |f, v| {
            f.large = Some(all(v, large_community)?);
            Ok(())
        }),
        key(
            "extended_communities",
            "",
            &format!("extended communities of {name}s of the group, such as \"rt:65001:100\""),
            |f, v| {
                f.extended = Some(all(v, extended_community)?);
                Ok(())
            },
        ),
    ]
}

pub(super) fn bgp_keys() -> Vec<Key> {
    let mut keys = transport_keys();
    keys.extend(content_keys());
    keys.extend(PROFILE_OPTIONS.iter().map(|(name, meaning, set)| {
        let full = format!("flowspec_{name}");
        let key = full.clone();
        bgp(&full, "", &format!("{meaning}; absent: as the profile says"), move |b, v| {
            set(&mut Profile::default(), v)?;
            b.transport.options.insert(key.clone(), v.clone());
            Ok(())
        })
    }));
    keys
}

fn transport_keys() -> Vec<Key> {
    vec![
        bgp("passive", "false", "never connect: wait for the peer to", transport!(passive, switch)),
        bgp("listen", "false", "connect, and accept the peer's connection too", transport!(listen, switch)),
        bgp("local_port", "179", "TCP port to wait on at local_address, with passive or listen", |b, v| {
            b.transport.local_port = u16::try_from(v.number(1, 65_535)?).unwrap_or(179);
            Ok(())
        }),
        bgp(
            "md5_auth_password",
            "",
            "TCP MD5 password (RFC 2385), 1 to 80 octets; the router needs the same",
            |b, v| {
                let password = v.text()?;
                if password.is_empty() || password.len() > 80 {
                    return Err("write 1 to 80 octets, or leave the key out".to_owned());
                }
                b.transport.md5_auth_password = Some(password.to_owned());
                Ok(())
            },
        ),
        bgp(
            "ttl_security_hops",
            "",
            "GTSM (RFC 5082): the peer is at most so many hops away, 1 for a neighbour; it must send TTL 255 too",
            |b, v| {
                b.transport.ttl_security_hops = u8::try_from(v.number(1, 254)?).ok();
                Ok(())
            },
        ),
        bgp("multihop_ttl", "", "TTL of what is sent, without GTSM; absent: the system's", |b, v| {
            b.transport.multihop_ttl = u8::try_from(v.number(1, 255)?).ok();
            Ok(())
        }),
        bgp(
            "graceful_restart_time",
            "120",
            "seconds that the peer keeps our routes when the session is lost (RFC 4724); 0 switches graceful restart off",
            transport!(graceful_restart_time, number, 0, 4095),
        ),
        bgp(
            "max_received_prefixes",
            "10000",
            "routes of the peer that are looked at; more are counted and dropped",
            transport!(max_received_prefixes, number, 0, 10_000_000),
        ),
    ]
}

fn content_keys() -> Vec<Key> {
    vec![
        bgp("blackhole_communities", "[]", "communities added to every blackhole, such as \"65001:666\"", |b, v| {
            b.transport.blackhole_communities = all(v, community)?;
            Ok(())
        }),
        bgp(
            "extended_communities",
            "[]",
            "extended communities added to every route, such as \"rt:65001:100\"",
            |b, v| {
                b.transport.extended_communities = all(v, extended_community)?;
                Ok(())
            },
        ),
        bgp(
            "announce_remote_bans",
            "false",
            "manual bans of foreign hosts, always with no-export",
            transport!(announce_remote_bans, switch),
        ),
        bgp("canary", "false", "it gets new routes first; the others canary_time later", transport!(canary, switch)),
        bgp(
            "exporters",
            "[]",
            "addresses of exporters whose traffic passes this router; what it filters is taken out of their counts alone; \
             empty: of all",
            |b, v| {
                b.transport.exporters = addresses(v, "192.0.2.1")?;
                Ok(())
            },
        ),
        bgp(
            "profile",
            "\"generic\"",
            "what its router can take: generic, juniper, cisco-xr, nokia, huawei, arista, extreme, 6wind, frr, bird, gobgp, exabgp",
            |b, v| {
                b.transport.profile = v.text()?.parse()?;
                Ok(())
            },
        ),
    ]
}

type SetOption = fn(&mut Profile, &Value) -> Result<(), String>;

fn count(value: &Value, low: u64, high: u64) -> Result<usize, String> {
    Ok(usize::try_from(value.number(low, high)?).unwrap_or(usize::MAX))
}

macro_rules! option {
    ($field:ident) => {
        |p, v| {
            p.$field = v.switch()?;
            Ok(())
        }
    };
}

/// Options of a profile that can be set by themselves: name without `flowspec_`, meaning, what it sets.
const PROFILE_OPTIONS: [(&str, &str, SetOption); 23] = [
    ("tcp_flags_match_bit", "match bit in tests of single TCP flags", option!(tcp_flags_match_bit)),
    ("fragment_match_bit", "match bit in tests of single fragment bits", option!(fragment_match_bit)),
    ("fragment", "fragment bits it can match: none, is-fragment, no-last or all", |p, v| {
        p.fragment = match v.text()? {
            "none" => FragmentSupport::None,
            "is-fragment" => FragmentSupport::IsFragment,
            "no-last" => FragmentSupport::NoLast,
            "all" => FragmentSupport::All,
            _ => return Err("write \"none\", \"is-fragment\", \"no-last\" or \"all\"".to_owned()),
        };
        Ok(())
    }),
    ("dont_fragment", "it can match dont-fragment", option!(dont_fragment)),
    ("tcp_flags", "it can match TCP flags", option!(tcp_flags)),
    ("tcp_flags_negation", "it can match clear TCP flags", option!(tcp_flags_negation)),
    ("tcp_flags_extended", "it can match ECE and CWR", option!(tcp_flags_extended)),
    ("length_ipv4", "it can match the length of IPv4 packets", |p, v| {
        p.length.0 = v.switch()?;
        Ok(())
    }),
    ("length_ipv6", "it can match the length of IPv6 packets", |p, v| {
        p.length.1 = v.switch()?;
        Ok(())
    }),
    ("longest_length", "longest packet length a rule may name", |p, v| {
        p.longest = u32::try_from(v.number(20, 65_535)?).unwrap_or(9216);
        Ok(())
    }),
    ("source", "it can match source prefixes", option!(source)),
    ("ports_with_fragment", "it can match ports together with fragment bits", option!(ports_with_fragment)),
    ("port_with_others", "it can match port together with source-port or destination-port", option!(port_with_others)),
    ("needs_protocol", "ports, ICMP and TCP flags need a protocol", option!(needs_protocol)),
    ("max_values", "values or ranges of one condition at most; longer rules are cut into several", |p, v| {
        p.max_values = count(v, 1, 1000)?;
        Ok(())
    }),
    ("max_operators", "operators of one condition at most (a range has two); longer rules are cut", |p, v| {
        p.max_operators = count(v, 2, 1000)?;
        Ok(())
    }),
    ("ranges", "it can match ranges", option!(ranges)),
    ("ipv6", "it takes IPv6 rules", option!(ipv6)),
    ("rate_packets", "it knows rate limits in packets", option!(rate_packets)),
    ("redirect_as4", "it knows redirection to a 4-octet AS", option!(redirect_as4)),
    ("redirect_to_next_hop", "it knows the older form of redirection to a next hop", option!(redirect_to_next_hop)),
    ("rate_asn", "our AS number in rate limits; false sends 0 as FastNetMon does", option!(rate_asn)),
    ("max_rules", "FlowSpec rules it holds at most", |p, v| {
        p.max_rules = count(v, 1, 1_000_000)?;
        Ok(())
    }),
];

impl Transport {
    /// The profile with the options that are set by themselves; the global match bits come on top.
    pub(crate) fn profile(&self, tcp_match_bit: bool, fragment_match_bit: bool) -> Profile {
        let mut profile = Profile::of(self.profile);
        profile.tcp_flags_match_bit |= tcp_match_bit;
        profile.fragment_match_bit |= fragment_match_bit;
        for (name, _, set) in &PROFILE_OPTIONS {
            if let Some(value) = self.options.get(&format!("flowspec_{name}")) {
                let applied = set(&mut profile, value);
                debug_assert_eq!(applied, Ok(()), "checked when it was read");
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
