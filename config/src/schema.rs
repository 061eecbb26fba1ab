//! The table of keys: name, type, range, default, meaning, and what it sets.

use std::net::IpAddr;

use bgp::{Community, LargeCommunity};
use detector::{Class, Measure, Unit};
use traffic::{Direction, Prefix};

use crate::draft::{Bgp, Draft, Group, Main};

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[main]`
    Main,
    /// `[hostgroup.NAME]`
    HostGroup,
    /// `[traffic_rule.NAME]`
    TrafficRule,
    /// `[whitelist.NAME]`
    Whitelist,
    /// `[bgp.NAME]`
    Bgp,
    /// `[notify.NAME]`
    Notify,
    /// `[api]`
    Api,
    /// `[state]`
    State,
    /// `[enforcer]`
    Enforcer,
    /// `[enforcer_peer.NAME]`
    EnforcerPeer,
}

impl Section {
    /// All sections in the order of the reference.
    pub const ALL: [Self; 10] = [
        Self::Main,
        Self::HostGroup,
        Self::TrafficRule,
        Self::Whitelist,
        Self::Bgp,
        Self::Notify,
        Self::Api,
        Self::State,
        Self::Enforcer,
        Self::EnforcerPeer,
    ];

    /// Name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::HostGroup => "hostgroup",
            Self::TrafficRule => "traffic_rule",
            Self::Whitelist => "whitelist",
            Self::Bgp => "bgp",
            Self::Notify => "notify",
            Self::Api => "api",
            Self::State => "state",
            Self::Enforcer => "enforcer",
            Self::EnforcerPeer => "enforcer_peer",
        }
    }

    /// Whether it has one table per name.
    #[must_use]
    pub const fn is_named(self) -> bool {
        matches!(
            self,
            Self::HostGroup | Self::TrafficRule | Self::Whitelist | Self::Bgp | Self::Notify | Self::EnforcerPeer
        )
    }
}

/// A value of the file, without its type's spelling.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true`, `false`, and FastNetMon's `enable`, `disable`, `on`, `off`.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
    /// A list of texts (numbers as their text).
    List(Vec<String>),
}

impl Value {
    /// The value that a default stands for, as TOML spells it.
    pub(crate) fn of_default(text: &str) -> Self {
        let item: toml_edit::Value = text.parse().unwrap_or_else(|_| unreachable!("default {text:?} is TOML"));
        Self::of(&item).unwrap_or_else(|_| unreachable!("default {text:?} is simple"))
    }

    /// From TOML.
    ///
    /// # Errors
    /// What may be written instead.
    pub(crate) fn of(value: &toml_edit::Value) -> Result<Self, String> {
        Ok(match value {
            toml_edit::Value::Boolean(b) => Self::Bool(*b.value()),
            toml_edit::Value::Integer(n) => Self::Number(*n.value()),
            toml_edit::Value::String(s) => Self::Text(s.value().clone()),
            toml_edit::Value::Array(array) => Self::List(
                array
                    .iter()
                    .map(|item| match Self::of(item)? {
                        Self::Text(text) => Ok(text),
                        Self::Number(number) => Ok(number.to_string()),
                        Self::Bool(_) | Self::List(_) => Err("a list of texts or numbers is expected".to_owned()),
                    })
                    .collect::<Result<_, String>>()?,
            ),
            toml_edit::Value::Float(_) | toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_) => {
                return Err("a switch, whole number, text or list is expected".to_owned());
            }
        })
    }

    fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Text(text) => match text.as_str() {
                "enable" | "on" | "true" => Ok(true),
                "disable" | "off" | "false" => Ok(false),
                _ => Err("write true or false".to_owned()),
            },
            Self::Number(_) | Self::List(_) => Err("write true or false".to_owned()),
        }
    }

    fn number(&self, low: u64, high: u64) -> Result<u64, String> {
        let wrong = || format!("write a whole number from {low} to {high}");
        match self {
            Self::Number(number) => u64::try_from(*number).ok().filter(|n| (low..=high).contains(n)).ok_or_else(wrong),
            Self::Bool(_) | Self::Text(_) | Self::List(_) => Err(wrong()),
        }
    }

    fn text(&self) -> Result<&str, String> {
        if let Self::Text(text) = self { Ok(text) } else { Err("write a text in quotation marks".to_owned()) }
    }

    fn list(&self) -> Result<Vec<&str>, String> {
        match self {
            Self::List(list) => Ok(list.iter().map(String::as_str).collect()),
            Self::Text(text) => Ok(vec![text]),
            Self::Bool(_) | Self::Number(_) => Err("write a list, such as [\"a\", \"b\"]".to_owned()),
        }
    }

    fn parse<T: std::str::FromStr>(&self, example: &str) -> Result<T, String> {
        self.text()?
            .parse()
            .map_err(|_| format!("{:?} is not valid: write for example {example:?}", self.text().unwrap_or("")))
    }

    fn ports(&self) -> Result<Vec<u16>, String> {
        let ports = match self {
            Self::Number(number) => vec![number.to_string()],
            Self::Bool(_) | Self::Text(_) | Self::List(_) => self.list()?.into_iter().map(str::to_owned).collect(),
        };
        ports
            .iter()
            .map(|p| p.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("{p:?} is not a port: write 1 to 65535")))
            .collect()
    }
}

/// Prefixes; host bits that are set are an error, since they say that something else was meant.
fn prefixes(value: &Value) -> Result<Vec<Prefix>, String> {
    let mut found = Vec::new();
    for text in value.list()? {
        let prefix: Prefix = text.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?;
        let written: Option<IpAddr> = text.split('/').next().and_then(|a| a.trim().parse().ok());
        if written != Some(prefix.address()) {
            return Err(format!(
                "{text:?} has bits set behind its length: write {prefix} (or a /{} for the host)",
                prefix.version().bits()
            ));
        }
        if found.contains(&prefix) {
            return Err(format!("{prefix} stands twice in the list: remove one"));
        }
        found.push(prefix);
    }
    Ok(found)
}

type Apply = Box<dyn Fn(&mut Draft, &str, &Value) -> Result<(), String>>;

/// A key of the file.
pub struct Key {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub name: String,
    /// Its default as TOML; `None` when absence has a meaning of its own.
    pub default: Option<String>,
    /// What it means, with its unit.
    pub meaning: String,
    pub(crate) apply: Apply,
}

impl Key {
    /// What may be written, as the key says it of a value that is no value at all.
    pub(crate) fn expects(&self) -> Option<String> {
        let probes = [Value::Text("\0".to_owned()), Value::Bool(true), Value::Number(-1)];
        let answers = probes.iter().filter_map(|probe| (self.apply)(&mut Draft::new(), "global", probe).err());
        let written = |text: String| text.find("write").map(|at| text[at..].to_owned());
        answers.filter_map(written).next()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.section.name(), self.name)
    }
}

fn key(section: Section, name: &str, default: &str, meaning: &str, apply: Apply) -> Key {
    let default = (!default.is_empty()).then(|| default.to_owned());
    Key { section, name: name.to_owned(), default, meaning: meaning.to_owned(), apply }
}

fn main(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Main, &Value) -> Result<(), String> + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, Box::new(move |draft, _, value| set(&mut draft.main, value)))
}

fn group(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Group, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
        set(draft.groups.entry(instance.to_owned()).or_default(), value)
    };
    key(Section::HostGroup, name, default, meaning, Box::new(apply))
}

fn bgp(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Bgp, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
        set(draft.bgp.entry(instance.to_owned()).or_default(), value)
    };
    key(Section::Bgp, name, default, meaning, Box::new(apply))
}

macro_rules! set {
    ($field:ident, $method:ident $(, $arg:expr)*) => {
        |target, value| { target.$field = value.$method($($arg),*)?; Ok(()) }
    };
}

pub mod announcing;
mod api;
mod collecting;
mod detection;
mod enforcer;
mod export;
mod flow_spec;
mod notify;

pub use detection::{SUM_FACTOR, sum_key, sum_measures};

/// Addresses, each once.
fn addresses<T: std::str::FromStr + PartialEq>(value: &Value, example: &str) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    for text in value.list()? {
        let item = text.parse().map_err(|_| format!("{text:?} is not valid: write for example {example:?}"))?;
        if found.contains(&item) {
            return Err(format!("{text} stands twice in the list: remove one"));
        }
        found.push(item);
    }
    Ok(found)
}

/// Every key, in the order of the reference.
#[must_use]
pub fn keys() -> Vec<Key> {
    let mut keys = main_keys();
    keys.extend(flow_spec::keys());
    keys.extend(announcing::main_keys());
    keys.extend(collecting::keys());
    keys.extend(group_keys());
    keys.extend(announcing::group_keys());
    keys.extend(detection::traffic_rule_keys());
    keys.extend(detection::whitelist_keys());
    keys.extend(bgp_keys());
    keys.extend(announcing::bgp_keys());
    keys.extend(api::ban2bgp_keys());
    keys.extend(notify::main_keys());
    keys.extend(export::main_keys());
    keys.extend(notify::named_keys());
    keys.extend(api::keys());
    keys.push(main(
        "control_socket_others_may_read",
        "false",
        "let every local user ask (show) through the control socket; changing anything takes root or group floodwall",
        set!(control_socket_others_may_read, switch),
    ));
    keys.push(key(
        Section::State,
        "directory",
        "\"/var/lib/floodwall\"",
        "where state is kept; FLOODWALL_STATE_DIR and --state-dir win over it",
        Box::new(|draft, _, value| {
            value.text()?.clone_into(&mut draft.main.state_directory);
            Ok(())
        }),
    ));
    keys.extend(api::history_keys());
    keys.extend(enforcer::keys());
    keys
}

fn main_keys() -> Vec<Key> {
    vec![
        main(
            "networks_list",
            "[]",
            "our own address space: prefixes, IPv4 and IPv6; nothing outside is ever announced",
            |m, v| {
                m.networks_list = prefixes(v)?;
                Ok(())
            },
        ),
        main("networks_whitelist", "[]", "own hosts and networks that never alarm", |m, v| {
            m.networks_whitelist = prefixes(v)?;
            Ok(())
        }),
        main("networks_whitelist_remote", "[]", "remote networks: not counted, and never banned", |m, v| {
            m.networks_whitelist_remote = prefixes(v)?;
            Ok(())
        }),
        main(
            "protected_networks",
            "[]",
            "addresses that no rule and no blackhole may touch: routers, resolvers; BGP peers always are",
            |m, v| {
                m.protected_networks = prefixes(v)?;
                Ok(())
            },
        ),
        main(
            "enable_ban",
            "false",
            "announce automatic decisions; off is the dry run of a fresh install: everything but the announcement",
            set!(enable_ban, switch),
        ),
        main(
            "ban_time",
            "1900",
            "seconds that a rule or blackhole lasts at least",
            set!(ban_time, number, 1, 31_536_000),
        ),
        main(
            "unban_only_if_attack_finished",
            "true",
            "after ban_time, end a rule only when its attack has ended",
            set!(unban_only_if_attack_finished, switch),
        ),
        main(
            "attack_end_delay",
            "60",
            "seconds below 0.7 of the threshold after which an attack has ended",
            set!(attack_end_delay, number, 1, 86_400),
        ),
        main(
            "blackhole_after",
            "5",
            "seconds of certain excess that no rule removes before the host is blackholed",
            set!(blackhole_after, number, 1, 86_400),
        ),
        main(
            "minimum_coverage_percent",
            "10",
            "percent of the sample a rule must cover to be announced",
            set!(minimum_coverage_percent, number, 1, 100),
        ),
        main("max_rules_per_host", "10", "FlowSpec rules per host at most", set!(max_rules_per_host, number, 1, 100)),
        main("max_rules", "200", "FlowSpec rules in all at most; routers hold few", set!(max_rules, number, 1, 10_000)),
        main("max_blackholes", "100", "blackholed hosts at most", set!(max_blackholes, number, 1, 10_000)),
        main(
            "process_incoming_traffic",
            "true",
            "count traffic to our networks",
            set!(process_incoming_traffic, switch),
        ),
        main(
            "process_outgoing_traffic",
            "true",
            "count traffic from our networks",
            set!(process_outgoing_traffic, switch),
        ),
        main(
            "process_internal_traffic_as_external",
            "false",
            "count traffic between our networks for its hosts",
            set!(process_internal_traffic_as_external, switch),
        ),
        main(
            "burst_tolerance_ms",
            "300",
            "milliseconds at the threshold that a burst may exceed it by",
            set!(burst_tolerance_ms, number, 1, 60_000),
        ),
        main(
            "ban_details_records_count",
            "",
            "samples in a bucket; absent: 500 from a mirror port, 20 from flow telemetry",
            |m, v| {
                m.ban_details_records_count = Some(v.number(1, 10_000)?);
                Ok(())
            },
        ),
        main(
            "bucket_traffic_collection_timeout",
            "120",
            "seconds after which a bucket that did not fill is dropped as orphaned",
            set!(bucket_traffic_collection_timeout, number, 1, 86_400),
        ),
        main(
            "threshold_specific_ban_details",
            "false",
            "fill a bucket only with traffic of the class whose threshold fired",
            set!(threshold_specific_ban_details, switch),
        ),
        main(
            "average_calculation_time",
            "5",
            "seconds over which the rates that are shown are averaged; detection does not wait for it",
            set!(average_calculation_time, number, 1, 3_600),
        ),
        main(
            "longest_attack_end_delay",
            "3600",
            "seconds; each time an attack comes back, attack_end_delay doubles up to this",
            set!(longest_attack_end_delay, number, 1, 604_800),
        ),
        main(
            "carpet_prefix_lengths_ipv4",
            "[24, 22]",
            "lengths of the IPv4 prefixes whose sums are watched for carpet bombing, 8 to 24",
            |m, v| {
                m.prefix_lengths.0 = detection::lengths(v, 8, 24)?;
                Ok(())
            },
        ),
        main("carpet_prefix_lengths_ipv6", "[64, 48]", "the same for IPv6, 16 to 64", |m, v| {
            m.prefix_lengths.1 = detection::lengths(v, 16, 64)?;
            Ok(())
        }),
        main(
            "baseline_learning",
            "true",
            "learn what is ordinary: rates by host group and hour, samples for the miner",
            set!(baseline_learning, switch),
        ),
        main(
            "baseline_forget",
            "300",
            "seconds before an attack whose traffic is not taken for ordinary",
            set!(baseline_forget, number, 0, 86_400),
        ),
        main(
            "adaptive_thresholds_percent",
            "0",
            "raise thresholds to this many percent of the learned 99.9th percentile of the hour; 0: never",
            set!(adaptive_thresholds_percent, number, 0, 10_000),
        ),
        main(
            "adaptive_thresholds_limit",
            "10",
            "but never beyond the configured threshold times this",
            set!(adaptive_thresholds_limit, number, 1, 1_000),
        ),
        main(
            "max_ipv6_hosts",
            "1048576",
            "IPv6 hosts with counters of their own at most",
            set!(max_ipv6_hosts, number, 1, 16_777_216),
        ),
        main("logging_level", "\"info\"", "error, warn, info or debug; debug shows ranked candidates", |m, v| {
            m.logging_level = match v.text()? {
                level @ ("error" | "warn" | "info" | "debug") => level.to_owned(),
                _ => return Err("write \"error\", \"warn\", \"info\" or \"debug\"".to_owned()),
            };
            Ok(())
        }),
    ]
}

/// Thresholds with their switches in every class, unit and direction.
#[must_use]
pub fn measures() -> Vec<(Direction, Measure)> {
    let mut all = Vec::new();
    for direction in Direction::ALL {
        for class in Class::ALL {
            for unit in [Unit::Packets, Unit::Bytes, Unit::Flows] {
                if class == Class::Total || unit != Unit::Flows {
                    all.push((direction, Measure { class, unit }));
                }
            }
        }
    }
    all
}

/// The key that switches a threshold on: `ban_for_pps`, `ban_for_tcp_bandwidth_outgoing`.
#[must_use]
pub fn switch_key(direction: Direction, measure: Measure) -> String {
    measure.key(direction).replacen("threshold_", "ban_for_", 1).replacen("mbps", "bandwidth", 1)
}

fn group_keys() -> Vec<Key> {
    let mut keys = vec![
        group("description", "", "a note for people", |g, v| {
            v.text()?.clone_into(&mut g.description);
            Ok(())
        }),
        group("networks", "", "prefixes of the group, inside networks_list; global needs none", |g, v| {
            g.networks = prefixes(v)?;
            Ok(())
        }),
        group(
            "enable_ban",
            "true",
            "announce automatic decisions for this group (main's enable_ban must be on as well)",
            |g, v| {
                g.enable_ban = Some(v.switch()?);
                Ok(())
            },
        ),
        group("enable_ban_incoming", "true", "the same for attacks on this group", |g, v| {
            g.enable_ban_of[Direction::Incoming as usize] = Some(v.switch()?);
            Ok(())
        }),
        group("enable_ban_outgoing", "true", "the same for attacks from this group", |g, v| {
            g.enable_ban_of[Direction::Outgoing as usize] = Some(v.switch()?);
            Ok(())
        }),
        group(
            "enable_bgp_flow_spec",
            "",
            "FlowSpec rules for this group; absent: the opposite of main's flow_spec_per_hostgroup_management",
            |g, v| {
                g.enable_bgp_flow_spec = Some(v.switch()?);
                Ok(())
            },
        ),
        group(
            "calculation_method",
            "\"per_host\"",
            "\"per_host\", or \"total\": thresholds are for the sum over the group's networks, which may overlap other groups",
            |g, v| {
                g.is_total = match v.text()? {
                    "per_host" => false,
                    "total" => true,
                    _ => return Err("write \"per_host\" or \"total\"".to_owned()),
                };
                Ok(())
            },
        ),
        group("enable_blackhole", "true", "fall back to a blackhole when no rule helps", |g, v| {
            g.enable_blackhole = Some(v.switch()?);
            Ok(())
        }),
        group(
            "blackhole_pps",
            "",
            "packets per second that must arrive before a host is blackholed without your approval; absent: 10 times the \
             threshold that was passed",
            |g, v| {
                g.blackhole_pps = Some(v.number(1, 10_000_000_000)?);
                Ok(())
            },
        ),
        group("blackhole_mbps", "", "the same in megabits per second; either is enough", |g, v| {
            g.blackhole_mbps = Some(v.number(1, 10_000_000_000)?);
            Ok(())
        }),
    ];
    for (direction, measure) in measures() {
        let (on, value) = match (direction, measure.class, measure.unit) {
            (Direction::Incoming, Class::Total, Unit::Packets) => ("true", "20000"),
            (Direction::Incoming, Class::Total, Unit::Bytes) => ("true", "1000"),
            (Direction::Incoming, Class::Total, Unit::Flows) => ("false", "3500"),
            _ => ("false", "100000"),
        };
        let unit = match measure.unit {
            Unit::Packets => "packets per second",
            Unit::Bytes => "megabits (10^6) per second, IP layer",
            Unit::Flows => "flows per second; only seen by unsampled flow telemetry",
        };
        let class = if measure.class.name().is_empty() { "all" } else { measure.class.name() };
        let meaning = format!("{direction} threshold of a host, {class} traffic, in {unit}");
        keys.push(group(
            &switch_key(direction, measure),
            on,
            &format!("check {}", measure.key(direction)),
            move |g, v| {
                g.switches.insert((direction, measure), v.switch()?);
                Ok(())
            },
        ));
        keys.push(group(&measure.key(direction), value, &meaning, move |g, v| {
            g.thresholds.insert((direction, measure), v.number(1, 10_000_000_000)?);
            Ok(())
        }));
    }
    keys.extend(detection::sum_keys());
    keys
}

fn bgp_keys() -> Vec<Key> {
    vec![
        bgp("active", "true", "connect to this peer", set!(active, switch)),
        bgp("description", "", "a note for people", |b, v| {
            v.text()?.clone_into(&mut b.description);
            Ok(())
        }),
        bgp("local_asn", "", "our AS number towards this peer", |b, v| {
            b.local_asn = u32::try_from(v.number(1, 4_294_967_295)?).ok();
            Ok(())
        }),
        bgp("local_address", "", "address to connect from; absent: the system chooses", |b, v| {
            b.local_address = Some(v.parse("192.0.2.2")?);
            Ok(())
        }),
        bgp("remote_asn", "", "the peer's AS number; equal to local_asn for iBGP", |b, v| {
            b.remote_asn = u32::try_from(v.number(1, 4_294_967_295)?).ok();
            Ok(())
        }),
        bgp("remote_address", "", "the peer's address", |b, v| {
            b.remote_address = Some(v.parse("192.0.2.1")?);
            Ok(())
        }),
        bgp("remote_port", "179", "the peer's TCP port", |b, v| {
            b.remote_port = u16::try_from(v.number(1, 65_535)?).unwrap_or(179);
            Ok(())
        }),
        bgp("router_id", "", "our BGP identifier, an IPv4 address; absent: local_address if that is IPv4", |b, v| {
            b.router_id = Some(v.parse("192.0.2.2")?);
            Ok(())
        }),
        bgp("hold_time", "90", "proposed hold time in seconds, 0 or at least 3", |b, v| {
            b.hold_time = v.number(0, 65_535)?;
            if matches!(b.hold_time, 1 | 2) {
                Err("write 0, or 3 to 65535 (RFC 4271 section 4.2)".to_owned())
            } else {
                Ok(())
            }
        }),
        bgp("ipv4_unicast", "true", "announce IPv4 blackholes to it", set!(ipv4_unicast, switch)),
        bgp("ipv6_unicast", "true", "announce IPv6 blackholes to it", set!(ipv6_unicast, switch)),
        bgp("ipv4_flowspec", "true", "announce IPv4 FlowSpec rules to it", set!(ipv4_flowspec, switch)),
        bgp("ipv6_flowspec", "true", "announce IPv6 FlowSpec rules to it", set!(ipv6_flowspec, switch)),
        bgp(
            "next_hop_ipv4",
            "\"192.0.2.1\"",
            "next hop of IPv4 blackholes; routers discard what goes there",
            set!(next_hop_ipv4, parse, "192.0.2.1"),
        ),
        bgp(
            "next_hop_ipv6",
            "\"100::1\"",
            "next hop of IPv6 blackholes (RFC 6666)",
            set!(next_hop_ipv6, parse, "100::1"),
        ),
        bgp("communities", "[]", "communities added to every route, such as \"65001:7\"", |b, v| {
            b.communities = v.list()?.into_iter().map(community).collect::<Result<_, _>>()?;
            Ok(())
        }),
        bgp("large_communities", "[]", "large communities added to every route, such as \"65001:1:2\"", |b, v| {
            b.large_communities = v.list()?.into_iter().map(large_community).collect::<Result<_, _>>()?;
            Ok(())
        }),
        bgp(
            "announce_incoming",
            "true",
            "rules and blackholes whose destination is ours",
            set!(announce_incoming, switch),
        ),
        bgp(
            "announce_outgoing",
            "false",
            "rules whose source is ours, for attacks we send",
            set!(announce_outgoing, switch),
        ),
    ]
}

fn community(text: &str) -> Result<Community, String> {
    let parts = text.split_once(':').and_then(|(a, b)| Some(Community(a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not a community: write for example \"65001:7\""))
}

fn large_community(text: &str) -> Result<LargeCommunity, String> {
    let parts: Vec<u32> = text.split(':').filter_map(|p| p.parse().ok()).collect();
    match parts[..] {
        [a, b, c] if text.matches(':').count() == 2 => Ok(LargeCommunity(a, b, c)),
        _ => Err(format!("{text:?} is not a large community: write for example \"65001:1:2\"")),
    }
}

/// The reference file: every key with default, unit and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of Floodwall's configuration with its default. An empty file is valid: only the loopback HTTP listens,\n\
         # nothing is collected, nothing is announced. Host groups inherit what they leave out from `global`.\n",
    );
    for section in Section::ALL {
        let header = match section {
            Section::HostGroup => "hostgroup.global".to_owned(),
            Section::TrafficRule => "traffic_rule.rule1".to_owned(),
            Section::Whitelist => "whitelist.entry1".to_owned(),
            Section::Bgp => "bgp.router1".to_owned(),
            Section::Notify => "notify.noc".to_owned(),
            Section::EnforcerPeer => "enforcer_peer.detector".to_owned(),
            Section::Main | Section::Api | Section::State | Section::Enforcer => section.name().to_owned(),
        };
        // What only exists when it is named stands as a comment.
        let is_optional = section == Section::Enforcer || section.is_named() && section != Section::HostGroup;
        let comment = if is_optional { "# " } else { "" };
        text.push_str(&format!("\n{comment}[{header}]\n"));
        for key in keys().iter().filter(|k| k.section == section) {
            text.push_str(&format!("# {}\n", key.meaning));
            match &key.default {
                Some(default) => text.push_str(&format!("{comment}{} = {default}\n", key.name)),
                None => text.push_str(&format!("# {} =\n", key.name)),
            }
        }
    }
    text
}
