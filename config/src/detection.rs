//! `[traffic_rule.NAME]` and `[whitelist.NAME]`: what traffic has thresholds of its own, and what never alarms.

use std::collections::BTreeMap;

use detector::config::MAX_RULES;
use detector::{Class, HostGroup, Measure, TrafficRule as Rule, Unit, Whitelisted};
use flowspec::{Bits, Condition, Pattern, Ranges};
use traffic::sample::{fragment, protocol, tcp_flags};
use traffic::{Direction, Prefix, Time};

use crate::kind::{Kind, Of, choice, flags, prefixes, ranges, rate, switch, text, texts};
use crate::report::Report;
use crate::schema::{Draft, Key, Section, key, set, some};

/// What traffic is, in traffic rules and whitelist entries.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Traffic {
    pub protocols: Option<Ranges>,
    pub source_ports: Option<Ranges>,
    pub destination_ports: Option<Ranges>,
    pub lengths: Option<Ranges>,
    pub tcp_flags: Option<u16>,
    pub fragment: Option<u16>,
}

/// `[traffic_rule.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct TrafficRule {
    pub traffic: Traffic,
    pub is_off: bool,
    pub hostgroups: Vec<String>,
    /// Values in the unit of the key: packets or megabits per second.
    pub thresholds: BTreeMap<(Direction, Unit), u64>,
}

/// `[whitelist.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Whitelist {
    pub networks: Vec<Prefix>,
    pub remote: Vec<Prefix>,
    pub traffic: Traffic,
    pub direction: Option<Direction>,
    pub note: String,
    pub expires: Option<Time>,
}

/// Where a section keeps what traffic is.
type TrafficOf = for<'a> fn(&'a mut Draft, &str) -> &'a mut Traffic;

/// What traffic is: the conditions of traffic rules and whitelist entries, any of the values in a field, all of the fields.
fn traffic_keys(section: Section, of: TrafficOf) -> Vec<Key> {
    vec![
        traffic(
            section,
            of,
            "protocols",
            "protocols by name or number, such as \"udp\"",
            ranges(255, protocol_number),
            some!(protocols),
        ),
        traffic(
            section,
            of,
            "source_ports",
            "source ports and ranges, such as \"11211\" or \"1024-2047\"",
            ranges(65_535, |_| None),
            some!(source_ports),
        ),
        traffic(
            section,
            of,
            "destination_ports",
            "destination ports and ranges",
            ranges(65_535, |_| None),
            some!(destination_ports),
        ),
        traffic(
            section,
            of,
            "packet_lengths",
            "IP total lengths and ranges in bytes",
            ranges(65_535, |_| None),
            some!(lengths),
        ),
        traffic(
            section,
            of,
            "tcp_flags",
            "any of these TCP flags: \"syn\", \"ack\", \"fin\", \"rst\", \"psh\", \"urg\"",
            flags(&TCP_FLAGS),
            some!(tcp_flags),
        ),
        traffic(
            section,
            of,
            "fragmentation_flags",
            "any of \"is-fragment\", \"first-fragment\", \"last-fragment\", \"dont-fragment\"",
            flags(&FRAGMENTS),
            some!(fragment),
        ),
    ]
}

fn traffic<T: 'static>(
    section: Section,
    of: TrafficOf,
    name: &str,
    meaning: &str,
    what: Of<T>,
    set: impl Fn(&mut Traffic, T) + Send + Sync + 'static,
) -> Key {
    key(section, name, "", meaning, what, move |draft, instance, value| set(of(draft, instance), value))
}

fn rule<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut TrafficRule, T) + Send + Sync + 'static,
) -> Key {
    key(Section::TrafficRule, name, default, meaning, of, move |draft, instance, value| {
        set(draft.traffic_rules.entry(instance.to_owned()).or_default(), value);
    })
}

fn whitelist<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Whitelist, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Whitelist, name, default, meaning, of, move |draft, instance, value| {
        set(draft.whitelists.entry(instance.to_owned()).or_default(), value);
    })
}

const TCP_FLAGS: [(&str, u16); 6] = [
    ("syn", tcp_flags::SYN),
    ("ack", tcp_flags::ACK),
    ("fin", tcp_flags::FIN),
    ("rst", tcp_flags::RST),
    ("psh", tcp_flags::PSH),
    ("urg", tcp_flags::URG),
];

const FRAGMENTS: [(&str, u16); 4] = [
    ("is-fragment", fragment::IS as u16),
    ("first-fragment", fragment::FIRST as u16),
    ("last-fragment", fragment::LAST as u16),
    ("dont-fragment", fragment::DONT as u16),
];

fn protocol_number(name: &str) -> Option<u32> {
    match name {
        "tcp" => Some(protocol::TCP.into()),
        "udp" => Some(protocol::UDP.into()),
        "icmp" => Some(protocol::ICMP.into()),
        "icmpv6" => Some(protocol::ICMPV6.into()),
        "gre" => Some(47),
        "esp" => Some(50),
        "sctp" => Some(132),
        _ => None,
    }
}

pub(crate) fn traffic_rule_keys() -> Vec<Key> {
    let mut keys = traffic_keys(Section::TrafficRule, |draft, name| {
        &mut draft.traffic_rules.entry(name.to_owned()).or_default().traffic
    });
    keys.push(rule("active", "true", "check this rule", switch(), |r, on| r.is_off = !on));
    keys.push(rule("hostgroups", "[]", "host groups it is for; empty: all", texts(), set!(hostgroups)));
    for direction in Direction::ALL {
        for unit in [Unit::Packets, Unit::Bytes] {
            let measure = Measure { class: Class::Total, unit };
            let of = if unit == Unit::Packets { "packets per second" } else { "megabits (10^6) per second, IP layer" };
            let meaning =
                format!("{direction} threshold of a host's traffic that matches, in {of}; absent: not checked");
            keys.push(rule(&measure.key(direction), "", &meaning, rate(unit), move |r, v| {
                r.thresholds.insert((direction, unit), v);
            }));
        }
    }
    keys
}

pub(crate) fn whitelist_keys() -> Vec<Key> {
    let mut keys = vec![
        whitelist(
            "networks",
            "[]",
            "own hosts and networks; empty: all. With nothing else, they never alarm",
            prefixes(),
            set!(networks),
        ),
        whitelist("remote", "[]", "remote networks; empty: all", prefixes(), set!(remote)),
        whitelist(
            "direction",
            "\"both\"",
            "\"incoming\", \"outgoing\" or \"both\"",
            choice([("incoming", Some(Direction::Incoming)), ("outgoing", Some(Direction::Outgoing)), ("both", None)]),
            set!(direction),
        ),
        whitelist("note", "\"\"", "why, for people", text(), set!(note)),
        whitelist(
            "expires",
            "",
            "when it ends, such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\" (UTC); absent: never",
            moment(),
            some!(expires),
        ),
    ];
    keys.extend(traffic_keys(Section::Whitelist, |draft, name| {
        &mut draft.whitelists.entry(name.to_owned()).or_default().traffic
    }));
    keys
}

fn moment() -> Of<Time> {
    Of::new(Kind::Moment, |value| {
        let wrong = "write a date such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\"";
        time(value.text()?).ok_or_else(|| wrong.to_owned())
    })
}

/// A date, or a time in UTC, as RFC 3339 writes them.
fn time(text: &str) -> Option<Time> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, separator: char| -> Option<Vec<u64>> {
        text.split(separator)
            .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None })
            .collect()
    };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let [hour, minute, second] = numbers(time.trim_end_matches('Z'), ':')?.try_into().ok()?;
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_index = usize::try_from(month.checked_sub(1)?).ok()?;
    let valid = (1970..=2500).contains(&year) && day >= 1 && day <= *lengths.get(month_index)?;
    if !valid || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let years: u64 = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let days = years + lengths[..month_index].iter().sum::<u64>() + day - 1;
    Some(Time::from_seconds(days * 86_400 + hour * 3600 + minute * 60 + second, 0))
}

/// The traffic rules; their thresholds go to the groups they are for.
pub(crate) fn compose_rules(draft: &Draft, groups: &mut [HostGroup], report: &mut Report) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (name, rule) in draft.traffic_rules.iter().filter(|(_, r)| !r.is_off) {
        let path = |key: &str| format!("traffic_rule.{name}.{key}");
        let Some(pattern) = pattern(&rule.traffic) else {
            report.add(
                format!("traffic_rule.{name}"),
                "it matches everything: name at least one of protocols, ports, lengths, flags",
            );
            continue;
        };
        if rule.thresholds.is_empty() {
            report
                .add(path("threshold_pps"), "it has no threshold: write threshold_pps or threshold_mbps, or remove it");
        }
        for group in &rule.hostgroups {
            if !groups.iter().any(|g| g.name == *group) {
                report.add(path("hostgroups"), format!("there is no host group {group}"));
            }
        }
        if rules.len() >= MAX_RULES {
            report.add(format!("traffic_rule.{name}"), format!("at most {MAX_RULES} traffic rules can be active"));
            continue;
        }
        let class = Class::Rule(u8::try_from(rules.len()).unwrap_or(u8::MAX));
        let is_for =
            |g: &&mut HostGroup| !g.is_total && (rule.hostgroups.is_empty() || rule.hostgroups.contains(&g.name));
        for group in groups.iter_mut().filter(is_for) {
            for ((direction, unit), value) in &rule.thresholds {
                let per_second = if *unit == Unit::Bytes { value.saturating_mul(125_000) } else { *value };
                group.thresholds.insert((*direction, Measure { class, unit: *unit }), per_second);
            }
        }
        rules.push(Rule { name: name.clone(), pattern });
    }
    rules
}

/// The conditions as a pattern; `None` if there are none.
fn pattern(traffic: &Traffic) -> Option<Pattern> {
    let t = traffic.clone();
    let numbers = [
        t.protocols.map(Condition::Protocol),
        t.source_ports.map(Condition::SourcePort),
        t.destination_ports.map(Condition::DestinationPort),
        t.lengths.map(Condition::Length),
    ];
    let mut conditions: Vec<Condition> = numbers.into_iter().flatten().collect();
    conditions.extend(traffic.tcp_flags.map(|mask| Condition::TcpFlags(Bits::any(mask))));
    conditions.extend(traffic.fragment.map(|mask| Condition::Fragment(Bits::any(mask))));
    if conditions.is_empty() { None } else { Pattern::new(conditions).ok() }
}

pub(crate) fn compose_whitelist(draft: &Draft, report: &mut Report) -> Vec<Whitelisted> {
    let main = &draft.counting;
    let mut all = Vec::new();
    if !main.networks_whitelist.is_empty() {
        let note = "networks_whitelist".to_owned();
        all.push(Whitelisted { note, networks: main.networks_whitelist.clone(), ..Whitelisted::default() });
    }
    if !main.networks_whitelist_remote.is_empty() {
        let note = "networks_whitelist_remote".to_owned();
        all.push(Whitelisted { note, remote: main.networks_whitelist_remote.clone(), ..Whitelisted::default() });
    }
    for (name, entry) in &draft.whitelists {
        let pattern = pattern(&entry.traffic);
        if entry.networks.is_empty() && entry.remote.is_empty() && pattern.is_none() {
            report.add(
                format!("whitelist.{name}"),
                "it would silence everything: name networks, remote, or what traffic it is for",
            );
        }
        all.push(Whitelisted {
            note: if entry.note.is_empty() { name.clone() } else { format!("{name}: {}", entry.note) },
            networks: entry.networks.clone(),
            remote: entry.remote.clone(),
            pattern,
            direction: entry.direction,
            expires: entry.expires,
        });
    }
    all
}
