//! `[hostgroup.NAME]`: thresholds of hosts and sums, and what is done when one is passed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::{Community, ExtendedCommunity, LargeCommunity};
use detector::config::MAX_TOTAL_GROUPS;
use detector::{Class, HostGroup, Measure, Scope, Thresholds, Unit};
use flowspec::Action;
use policy::{GroupPolicy, Mode, Rung, UnicastForm};
use traffic::{Direction, Networks, Prefix};

use crate::communities::{communities, extended_communities, large_communities};
use crate::kind::{Kind, Of, choice, ipv4, ipv6, list, number, prefixes, rate, switch, text};
use crate::report::Report;
use crate::schema::{Draft, Key, Section, key, set, some};

/// `[hostgroup.NAME]`: absent keys are inherited from `global`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Group {
    pub description: String,
    pub networks: Vec<Prefix>,
    pub enable_ban: Option<bool>,
    /// By direction.
    pub enable_ban_of: [Option<bool>; 2],
    pub enable_bgp_flow_spec: Option<bool>,
    pub enable_blackhole: Option<bool>,
    pub blackhole_pps: Option<u64>,
    pub blackhole_mbps: Option<u64>,
    pub ladder: Ladder,
    /// Values in the unit of the key: packets, flows, megabits per second.
    pub thresholds: BTreeMap<(Direction, Measure), u64>,
    pub switches: BTreeMap<(Direction, Measure), bool>,
    /// The same for sums.
    pub sum_thresholds: BTreeMap<(Scope, Direction, Measure), u64>,
    pub sum_switches: BTreeMap<(Scope, Direction, Measure), bool>,
    pub is_total: bool,
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

fn group<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Group, T) + Send + Sync + 'static,
) -> Key {
    key(Section::HostGroup, name, default, meaning, of, move |draft, instance, value| {
        set(draft.groups.entry(instance.to_owned()).or_default(), value);
    })
}

pub(crate) fn keys() -> Vec<Key> {
    let mut keys = vec![
        group("description", "", "a note for people", text(), set!(description)),
        group(
            "networks",
            "",
            "prefixes of the group, inside networks_list; global needs none",
            prefixes(),
            set!(networks),
        ),
        group(
            "enable_ban",
            "true",
            "announce automatic decisions for this group (main's enable_ban must be on as well)",
            switch(),
            some!(enable_ban),
        ),
        group("enable_ban_incoming", "true", "the same for attacks on this group", switch(), |g, v| {
            g.enable_ban_of[Direction::Incoming as usize] = Some(v)
        }),
        group("enable_ban_outgoing", "true", "the same for attacks from this group", switch(), |g, v| {
            g.enable_ban_of[Direction::Outgoing as usize] = Some(v)
        }),
        group(
            "enable_bgp_flow_spec",
            "",
            "FlowSpec rules for this group; absent: the opposite of main's flow_spec_per_hostgroup_management",
            switch(),
            some!(enable_bgp_flow_spec),
        ),
        group(
            "calculation_method",
            "\"per_host\"",
            "\"per_host\", or \"total\": thresholds are for the sum over the group's networks, which may overlap other groups",
            choice([("per_host", false), ("total", true)]),
            set!(is_total),
        ),
        group(
            "enable_blackhole",
            "true",
            "fall back to a blackhole when no rule helps",
            switch(),
            some!(enable_blackhole),
        ),
        group(
            "blackhole_pps",
            "",
            "packets per second that must arrive before a host is blackholed without your approval; absent: 10 times the \
             threshold that was passed",
            rate(Unit::Packets),
            some!(blackhole_pps),
        ),
        group(
            "blackhole_mbps",
            "",
            "the same in megabits per second; either is enough",
            rate(Unit::Bytes),
            some!(blackhole_mbps),
        ),
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
            switch(),
            move |g, v| {
                g.switches.insert((direction, measure), v);
            },
        ));
        keys.push(group(&measure.key(direction), value, &meaning, rate(measure.unit), move |g, v| {
            g.thresholds.insert((direction, measure), v);
        }));
    }
    keys.extend(sum_keys());
    keys.extend(ladder_keys());
    keys
}

/// What a sum may have when nothing is written: this many times what one of its hosts may have.
pub const SUM_FACTOR: u64 = 5;

/// Thresholds of sums with their switches: prefixes and networks, total traffic.
#[must_use]
pub fn sum_measures() -> Vec<(Scope, Direction, Measure)> {
    let mut all = Vec::new();
    for scope in [Scope::Prefix, Scope::Network] {
        for direction in Direction::ALL {
            for unit in [Unit::Packets, Unit::Bytes] {
                all.push((scope, direction, Measure { class: Class::Total, unit }));
            }
        }
    }
    all
}

/// The key of a threshold of a sum: `threshold_prefix_pps`, `threshold_network_mbps_outgoing`.
#[must_use]
pub fn sum_key(scope: Scope, direction: Direction, measure: Measure) -> String {
    let name = match scope {
        Scope::Prefix => "threshold_prefix_",
        Scope::Network => "threshold_network_",
        Scope::Host | Scope::Group => "threshold_",
    };
    measure.key(direction).replacen("threshold_", name, 1)
}

fn sum_keys() -> Vec<Key> {
    let mut keys = Vec::new();
    for (scope, direction, measure) in sum_measures() {
        let unit = match measure.unit {
            Unit::Packets => "packets per second",
            Unit::Bytes | Unit::Flows => "megabits (10^6) per second, IP layer",
        };
        let of = match scope {
            Scope::Prefix => "each prefix of the carpet_prefix_lengths",
            Scope::Network | Scope::Host | Scope::Group => "each network of networks_list",
        };
        let key = sum_key(scope, direction, measure);
        let on = key.replacen("threshold_", "ban_for_", 1).replacen("mbps", "bandwidth", 1);
        let meaning = format!("check {key}");
        keys.push(group(&on, "false", &meaning, switch(), move |g, v| {
            g.sum_switches.insert((scope, direction, measure), v);
        }));
        let host = measure.key(direction);
        let meaning =
            format!("{direction} threshold of the sum over {of}, in {unit}; absent: {SUM_FACTOR} times {host}");
        keys.push(group(&key, "", &meaning, rate(measure.unit), move |g, v| {
            g.sum_thresholds.insert((scope, direction, measure), v);
        }));
    }
    keys
}

fn ladder_keys() -> Vec<Key> {
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

/// The groups with the thresholds in force; `global` is the first.
pub(crate) fn compose(draft: &Draft, networks: &Networks, report: &mut Report) -> Vec<HostGroup> {
    let global = draft.groups.get("global").cloned().unwrap_or_default();
    if !global.networks.is_empty() {
        report.add("hostgroup.global.networks", "global holds every host that no other group does: leave this key out");
    }
    let mut groups = vec![HostGroup {
        name: "global".to_owned(),
        networks: Vec::new(),
        thresholds: thresholds("global", &global, &global, report),
        is_total: false,
        prefix_thresholds: sum_thresholds("global", Scope::Prefix, &global, &global, report),
        network_thresholds: sum_thresholds("global", Scope::Network, &global, &global, report),
    }];
    if global.is_total {
        report.add(
            "hostgroup.global.calculation_method",
            "global is every host's group: for a sum over networks make a group",
        );
    }
    if draft.groups.values().filter(|g| g.is_total).count() > MAX_TOTAL_GROUPS {
        let text = format!("at most {MAX_TOTAL_GROUPS} groups can have calculation_method = \"total\"");
        report.add("hostgroup", text);
    }
    let mut owners: BTreeMap<traffic::Prefix, String> = BTreeMap::new();
    for (name, group) in draft.groups.iter().filter(|(name, _)| *name != "global") {
        let path = format!("hostgroup.{name}.networks");
        if group.networks.is_empty() {
            report.add(&path, "name the prefixes of the group, such as [\"203.0.113.0/28\"]");
        }
        for prefix in &group.networks {
            if !networks.contain(prefix) && report.knows_networks() {
                report.add(&path, format!("{prefix} is not inside networks_list: add it there, or mend it here"));
            }
            if group.is_total {
                continue;
            }
            if let Some(other) = owners.insert(*prefix, name.clone()) {
                report.add(&path, format!("{prefix} is also in host group {other}: a prefix belongs to one group"));
            }
        }
        let thresholds = thresholds(name, group, &global, report);
        // The sum of a group inherits nothing: what is much for a host is little for many.
        let is_own =
            |(direction, measure): &(Direction, Measure)| group.thresholds.contains_key(&(*direction, *measure));
        let thresholds = thresholds.into_iter().filter(|(id, _)| !group.is_total || is_own(id)).collect();
        groups.push(HostGroup {
            name: name.clone(),
            networks: group.networks.clone(),
            thresholds,
            is_total: group.is_total,
            prefix_thresholds: sum_thresholds(name, Scope::Prefix, group, &global, report),
            network_thresholds: sum_thresholds(name, Scope::Network, group, &global, report),
        });
    }
    groups
}

/// The thresholds in force for a group, inherited where it is silent; unreachable ones are reported.
fn thresholds(name: &str, group: &Group, global: &Group, report: &mut Report) -> Thresholds {
    let mut all = Thresholds::new();
    for (direction, measure) in measures() {
        let id = (direction, measure);
        let on = group.switches.get(&id).or_else(|| global.switches.get(&id)).copied().unwrap_or(false);
        let own = group.thresholds.get(&id).copied();
        let key = format!("hostgroup.{name}.{}", measure.key(direction));
        let is_written = report.lines.contains_key(&key);
        if is_written && !on {
            let switch = switch_key(direction, measure);
            report.add(&key, format!("this threshold can never fire: set {switch} = true as well, or remove it"));
        }
        let Some(value) = own.or_else(|| global.thresholds.get(&id).copied()).filter(|_| on) else { continue };
        let per_second = if measure.unit == Unit::Bytes { value.saturating_mul(125_000) } else { value };
        all.insert(id, per_second);
    }
    for (id, value) in &all {
        let (direction, measure) = *id;
        let mut total = *id;
        total.1.class = Class::Total;
        let key = format!("hostgroup.{name}.{}", measure.key(direction));
        let exceeds = id.1.class != Class::Total && all.get(&total).is_some_and(|t| value > t);
        if exceeds && report.lines.contains_key(&key) {
            let above = total.1.key(direction);
            report.add(&key, format!("it can never be the first to fire: {above} is lower; write a value below that"));
        }
    }
    all
}

/// Thresholds of sums in force for a group, inherited where it is silent.
fn sum_thresholds(name: &str, scope: Scope, group: &Group, global: &Group, report: &mut Report) -> Thresholds {
    let mut all = Thresholds::new();
    for (of, direction, measure) in sum_measures().into_iter().filter(|(of, _, _)| *of == scope) {
        let id = (of, direction, measure);
        let on = group.sum_switches.get(&id).or_else(|| global.sum_switches.get(&id)).copied().unwrap_or(false);
        let key = format!("hostgroup.{name}.{}", sum_key(of, direction, measure));
        if report.lines.contains_key(&key) && !on {
            let switch =
                sum_key(of, direction, measure).replacen("threshold_", "ban_for_", 1).replacen("mbps", "bandwidth", 1);
            report.add(&key, format!("this threshold can never fire: set {switch} = true as well, or remove it"));
        }
        let of = |g: &Group| {
            let hosts = || g.thresholds.get(&(direction, measure)).map(|v| v.saturating_mul(SUM_FACTOR));
            g.sum_thresholds.get(&id).copied().or_else(hosts)
        };
        let value = of(group).or_else(|| of(global));
        let Some(value) = value.filter(|_| on) else { continue };
        let per_second = if measure.unit == Unit::Bytes { value.saturating_mul(125_000) } else { value };
        all.insert((direction, measure), per_second);
    }
    all
}

/// What is announced for each group.
pub(crate) fn policies(draft: &Draft, actions: &RuleActions, report: &mut Report) -> BTreeMap<String, GroupPolicy> {
    let global = draft.groups.get("global").cloned().unwrap_or_default();
    let mut policy = |name: &str, group: &Group| GroupPolicy {
        enable_ban: group.enable_ban.or(global.enable_ban).unwrap_or(true),
        enable_ban_of: [0, 1].map(|d| group.enable_ban_of[d].or(global.enable_ban_of[d]).unwrap_or(true)),
        // Where each group decides for itself, `global` speaks only for its own hosts, as in FastNetMon.
        enable_flow_spec: if draft.announcing.flow_spec_per_hostgroup_management {
            group.enable_bgp_flow_spec.unwrap_or(false)
        } else {
            group.enable_bgp_flow_spec.or(global.enable_bgp_flow_spec).unwrap_or(true)
        },
        enable_blackhole: group.enable_blackhole.or(global.enable_blackhole).unwrap_or(true),
        blackhole_pps: group.blackhole_pps.or(global.blackhole_pps),
        blackhole_bytes: group.blackhole_mbps.or(global.blackhole_mbps).map(|mbps| mbps.saturating_mul(125_000)),
        mode: group.ladder.mode(&global.ladder),
        ladder: group.ladder.rungs(&global.ladder, actions).unwrap_or_else(|problem| {
            report.add(format!("hostgroup.{name}.mitigation_ladder"), problem);
            Vec::new()
        }),
        blackhole: group.ladder.blackhole(&global.ladder),
        diversion: group.ladder.diversion(&global.ladder),
    };
    draft.groups.iter().map(|(name, group)| (name.clone(), policy(name, group))).collect()
}
