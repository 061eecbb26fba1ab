//! Keys of detection beyond the thresholds of hosts: sums, traffic rules, the whitelist.

use detector::{Class, Measure, Scope, Unit};
use flowspec::Ranges;
use traffic::sample::{fragment, protocol, tcp_flags};
use traffic::{Direction, Time};

use super::{Key, Section, Value, group, key, prefixes};
use crate::draft::{Draft, Traffic, Whitelist};

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
        let switch = key.replacen("threshold_", "ban_for_", 1).replacen("mbps", "bandwidth", 1);
        let meaning = format!("check {key}");
        keys.push(group(&switch, "false", &meaning, move |g, v| {
            g.sum_switches.insert((scope, direction, measure), v.switch()?);
            Ok(())
        }));
        let host = measure.key(direction);
        let meaning =
            format!("{direction} threshold of the sum over {of}, in {unit}; absent: {SUM_FACTOR} times {host}");
        keys.push(group(&key, "", &meaning, move |g, v| {
            g.sum_thresholds.insert((scope, direction, measure), v.number(1, 10_000_000_000)?);
            Ok(())
        }));
    }
    keys
}

fn rule(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Traffic, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
        set(&mut draft.traffic_rules.entry(instance.to_owned()).or_default().traffic, value)
    };
    key(Section::TrafficRule, name, default, meaning, Box::new(apply))
}

fn whitelist(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Whitelist, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
        set(draft.whitelists.entry(instance.to_owned()).or_default(), value)
    };
    key(Section::Whitelist, name, default, meaning, Box::new(apply))
}

/// What traffic is: the conditions of traffic rules and whitelist entries, any of the values in a field, all of the fields.
type TrafficKey = (&'static str, &'static str, fn(&mut Traffic, &Value) -> Result<(), String>);

const TRAFFIC: [TrafficKey; 6] = [
    ("protocols", "protocols by name or number, such as \"udp\"", |t, v| {
        t.protocols = Some(ranges(v, 255, protocol_number)?);
        Ok(())
    }),
    ("source_ports", "source ports and ranges, such as \"11211\" or \"1024-2047\"", |t, v| {
        t.source_ports = Some(ranges(v, 65_535, |_| None)?);
        Ok(())
    }),
    ("destination_ports", "destination ports and ranges", |t, v| {
        t.destination_ports = Some(ranges(v, 65_535, |_| None)?);
        Ok(())
    }),
    ("packet_lengths", "IP total lengths and ranges in bytes", |t, v| {
        t.lengths = Some(ranges(v, 65_535, |_| None)?);
        Ok(())
    }),
    ("tcp_flags", "any of these TCP flags: \"syn\", \"ack\", \"fin\", \"rst\", \"psh\", \"urg\"", |t, v| {
        t.tcp_flags = Some(mask(v, &TCP_FLAGS)?);
        Ok(())
    }),
    (
        "fragmentation_flags",
        "any of \"is-fragment\", \"first-fragment\", \"last-fragment\", \"dont-fragment\"",
        |t, v| {
            t.fragment = Some(mask(v, &FRAGMENTS)?);
            Ok(())
        },
    ),
];

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

/// Numbers and ranges, or names that `number_of` knows.
fn ranges(value: &Value, most: u32, number_of: impl Fn(&str) -> Option<u32>) -> Result<Ranges, String> {
    let one = |text: &str| {
        let number = |t: &str| number_of(t.trim()).or_else(|| t.trim().parse().ok()).filter(|n| *n <= most);
        let found = match text.split_once('-') {
            Some((low, high)) => number(low).zip(number(high)).filter(|(low, high)| low <= high),
            None => number(text).map(|n| (n, n)),
        };
        found
            .ok_or_else(|| format!("{text:?}: write a number up to {most} or a range, such as \"53\" or \"1024-2047\""))
    };
    let all = match value {
        Value::Number(number) => vec![one(&number.to_string())?],
        Value::Bool(_) | Value::Text(_) | Value::List(_) => {
            value.list()?.into_iter().flat_map(|text| text.split(',')).map(one).collect::<Result<_, _>>()?
        }
    };
    if all.is_empty() {
        Err("name at least one value, or leave the key out".to_owned())
    } else {
        Ok(Ranges::union(all))
    }
}

fn mask(value: &Value, names: &[(&str, u16)]) -> Result<u16, String> {
    let mut mask = 0;
    for text in value.list()?.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
        let known = || names.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
        mask |= names.iter().find(|(n, _)| *n == text).ok_or_else(|| format!("{text:?}: write one of {}", known()))?.1;
    }
    if mask == 0 { Err("name at least one value, or leave the key out".to_owned()) } else { Ok(mask) }
}

pub(super) fn lengths(value: &Value, low: u8, high: u8) -> Result<Vec<u8>, String> {
    let one = |t: &str| t.trim_start_matches('/').parse().ok().filter(|l| (low..=high).contains(l));
    let wrong = || format!("write prefix lengths from {low} to {high}, such as [{high}]");
    let mut all: Vec<u8> = value.list()?.into_iter().map(one).collect::<Option<_>>().ok_or_else(wrong)?;
    all.sort_unstable_by_key(|l| std::cmp::Reverse(*l));
    all.dedup();
    if all.len() > 4 { Err("at most four lengths: each costs memory".to_owned()) } else { Ok(all) }
}

pub(super) fn traffic_rule_keys() -> Vec<Key> {
    let mut keys: Vec<Key> = TRAFFIC.iter().map(|(name, meaning, set)| rule(name, "", meaning, set)).collect();
    let named = |name: &str,
                 default: &str,
                 meaning: &str,
                 set: fn(&mut crate::draft::TrafficRule, &Value) -> Result<(), String>| {
        let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
            set(draft.traffic_rules.entry(instance.to_owned()).or_default(), value)
        };
        key(Section::TrafficRule, name, default, meaning, Box::new(apply))
    };
    keys.push(named("active", "true", "check this rule", |r, v| {
        r.is_off = !v.switch()?;
        Ok(())
    }));
    keys.push(named("hostgroups", "[]", "host groups it is for; empty: all", |r, v| {
        r.hostgroups = v.list()?.into_iter().map(str::to_owned).collect();
        Ok(())
    }));
    for direction in Direction::ALL {
        for unit in [Unit::Packets, Unit::Bytes] {
            let measure = Measure { class: Class::Total, unit };
            let of = if unit == Unit::Packets { "packets per second" } else { "megabits (10^6) per second, IP layer" };
            let meaning =
                format!("{direction} threshold of a host's traffic that matches, in {of}; absent: not checked");
            let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
                let number = value.number(1, 10_000_000_000)?;
                let rule = draft.traffic_rules.entry(instance.to_owned()).or_default();
                rule.thresholds.insert((direction, unit), number);
                Ok(())
            };
            keys.push(key(Section::TrafficRule, &measure.key(direction), "", &meaning, Box::new(apply)));
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
            |w, v| {
                w.networks = prefixes(v)?;
                Ok(())
            },
        ),
        whitelist("remote", "[]", "remote networks; empty: all", |w, v| {
            w.remote = prefixes(v)?;
            Ok(())
        }),
        whitelist("direction", "\"both\"", "\"incoming\", \"outgoing\" or \"both\"", |w, v| {
            w.direction = match v.text()? {
                "incoming" => Some(Direction::Incoming),
                "outgoing" => Some(Direction::Outgoing),
                "both" => None,
                _ => return Err("write \"incoming\", \"outgoing\" or \"both\"".to_owned()),
            };
            Ok(())
        }),
        whitelist("note", "\"\"", "why, for people", |w, v| {
            v.text()?.clone_into(&mut w.note);
            Ok(())
        }),
        whitelist(
            "expires",
            "",
            "when it ends, such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\" (UTC); absent: never",
            |w, v| {
                w.expires =
                    Some(moment(v.text()?).ok_or("write a date such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\"")?);
                Ok(())
            },
        ),
    ];
    for (name, meaning, set) in TRAFFIC {
        keys.push(whitelist(name, "", meaning, move |w, v| set(&mut w.traffic, v)));
    }
    keys
}

/// A date, or a time in UTC, as RFC 3339 writes them.
fn moment(text: &str) -> Option<Time> {
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
