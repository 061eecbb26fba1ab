//! Keys of detection beyond the thresholds of hosts: sums, traffic rules, the whitelist.

use detector::{Class, Measure, Scope, Unit};
use traffic::sample::{fragment, protocol, tcp_flags};
use traffic::{Direction, Time};

use super::{Key, Section, group, key};
use crate::draft::{Draft, Traffic, TrafficRule, Whitelist};
use crate::kind::{Kind, Of, choice, flags, prefixes, ranges, rate, switch, text, texts};

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

pub(super) fn sum_keys() -> Vec<Key> {
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

pub(super) fn traffic_rule_keys() -> Vec<Key> {
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

pub(super) fn whitelist_keys() -> Vec<Key> {
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
