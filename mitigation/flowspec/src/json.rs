//! Rules in FastNetMon's JSON, as `set flowspec '{...}'` takes them and `show flowspec --json` prints them.
//!
//! ```
//! use flowspec::json;
//! let rule = json::parse(r#"{"destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "source_ports": [53, "1000-2000"],
//!     "action_type": "rate-limit", "action": {"rate": 1024}}"#).unwrap();
//! assert_eq!(
//!     rule.to_string(),
//!     "destination 203.0.113.9/32 protocol udp source-port 53,1000-2000 -> rate-limit 1024 bytes/s"
//! );
//! ```
//! Beyond FastNetMon: numbers may be ranges (`"1000-2000"`, `">=1024"`, `"<=80"`, `"!53"`), flags may be negated (`"!ack"`) and
//! joined (`"syn|!ack"`: SYN set and ACK clear), `ports`, `icmp_types`, `icmp_codes`, `dscps` and `flow_labels` are conditions,
//! `action` knows `rate_packets`, `dscp` and `redirect_target_ip`, and `ipv6_nexthops` redirects IPv6. Items of a list are joined
//! by OR. What BGP cannot carry (`vlans`, `ttls`, ...) is an error, never silently dropped: a rule without it would be wider.
//!
//! Limits: [`MAX_TEXT`] octets, [`MAX_ITEMS`] items a list.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};
use traffic::Prefix;

use crate::pattern::{FRAGMENT_NAMES, TCP_FLAG_NAMES};
use crate::{BitTest, Bits, Condition, Pattern, Ranges};

use super::{Action, FlowSpec};

/// Octets of a rule's text at most.
pub const MAX_TEXT: usize = 64 * 1024;
/// Items of a list at most.
pub const MAX_ITEMS: usize = 128;

/// Fields that only match locally in FastNetMon.
const LOCAL_ONLY: [&str; 7] =
    ["vlans", "ttls", "source_asns", "destination_asns", "input_interfaces", "output_interfaces", "agent_addresses"];

const FIELDS: [&str; 17] = [
    "uuid",
    "source_prefix",
    "destination_prefix",
    "ports",
    "source_ports",
    "destination_ports",
    "packet_lengths",
    "protocols",
    "fragmentation_flags",
    "tcp_flags",
    "icmp_types",
    "icmp_codes",
    "dscps",
    "flow_labels",
    "action_type",
    "action",
    "ipv4_nexthops",
];

/// Protocol names (IANA) that are understood, and written where there is one.
const PROTOCOLS: [(&str, u32); 22] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// Everything that is wrong with a rule's JSON, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct RuleError(pub Vec<String>);

type Fields = Map<String, Value>;
type Parsed<T> = Result<T, String>;

/// Reads a rule.
///
/// # Errors
/// All problems at once.
pub fn parse(text: &str) -> Result<FlowSpec, RuleError> {
    if text.len() > MAX_TEXT {
        return Err(RuleError(vec![format!("the rule is longer than {MAX_TEXT} octets")]));
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|e| RuleError(vec![format!("not JSON: {e}; write for example {{\"destination_prefix\": \"203.0.113.9/32\", \"protocols\": [\"udp\"], \"source_ports\": [53], \"action_type\": \"discard\"}}")]))?;
    from_value(&value)
}

/// Reads a rule that is JSON already.
///
/// # Errors
/// All problems at once.
pub fn from_value(value: &Value) -> Result<FlowSpec, RuleError> {
    let Value::Object(fields) = value else {
        return Err(RuleError(vec!["a rule is one JSON object: {...}".to_owned()]));
    };
    let mut problems: Vec<String> = fields.keys().filter_map(|name| unknown(name)).collect();
    let mut conditions = Vec::new();
    for (name, make) in CONDITIONS {
        if let Some(value) = fields.get(name).filter(|v| !is_empty(v)) {
            match make(value) {
                Ok(condition) => conditions.push(condition),
                Err(problem) => problems.push(format!("{name}: {problem}")),
            }
        }
    }
    let actions = actions(fields).map_err(|problem| problems.push(problem)).unwrap_or_default();
    if !problems.is_empty() {
        return Err(RuleError(problems));
    }
    let pattern = Pattern::new(conditions).map_err(|e| RuleError(vec![e.to_string()]))?;
    if pattern.conditions().is_empty() {
        return Err(RuleError(vec![
            "the rule matches everything: name at least destination_prefix or source_prefix".to_owned(),
        ]));
    }
    Ok(FlowSpec { pattern, actions })
}

fn unknown(name: &str) -> Option<String> {
    if LOCAL_ONLY.contains(&name) {
        return Some(format!(
            "{name}: BGP FlowSpec cannot carry this; without it the rule would be wider: leave it out"
        ));
    }
    let known = FIELDS.contains(&name) || name == "ipv6_nexthops";
    (!known).then(|| format!("{name}: unknown field; known are {}, ipv6_nexthops", FIELDS[1..].join(", ")))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

type Make = fn(&Value) -> Parsed<Condition>;

const CONDITIONS: [(&str, Make); 13] = [
    ("destination_prefix", |v| Ok(Condition::Destination(prefix(v)?, 0))),
    ("source_prefix", |v| Ok(Condition::Source(prefix(v)?, 0))),
    ("protocols", |v| Ok(Condition::Protocol(numbers(v, 0xff, protocol)?))),
    ("ports", |v| Ok(Condition::Port(numbers(v, 0xffff, |_| None)?))),
    ("destination_ports", |v| Ok(Condition::DestinationPort(numbers(v, 0xffff, |_| None)?))),
    ("source_ports", |v| Ok(Condition::SourcePort(numbers(v, 0xffff, |_| None)?))),
    ("icmp_types", |v| Ok(Condition::IcmpType(numbers(v, 0xff, |_| None)?))),
    ("icmp_codes", |v| Ok(Condition::IcmpCode(numbers(v, 0xff, |_| None)?))),
    ("tcp_flags", |v| Ok(Condition::TcpFlags(flags(v, tcp_flag)?))),
    ("packet_lengths", |v| Ok(Condition::Length(numbers(v, 0xffff, |_| None)?))),
    ("dscps", |v| Ok(Condition::Dscp(numbers(v, 0x3f, |_| None)?))),
    ("fragmentation_flags", |v| Ok(Condition::Fragment(flags(v, fragment_flag)?))),
    ("flow_labels", |v| Ok(Condition::FlowLabel(numbers(v, 0xf_ffff, |_| None)?))),
];

fn prefix(value: &Value) -> Parsed<Prefix> {
    prefix_as_written(value.as_str().ok_or("write a prefix in quotation marks, such as \"203.0.113.9/32\"")?)
}

/// A prefix for which something is announced: one with bits behind its length may mean the network or the host.
///
/// # Errors
/// It is no prefix, or has such bits; says what to write instead.
pub fn prefix_as_written(text: &str) -> Result<Prefix, String> {
    let prefix: Prefix = text.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?;
    let written: Option<IpAddr> = text.split('/').next().and_then(|a| a.trim().parse().ok());
    if written == Some(prefix.address()) {
        Ok(prefix)
    } else {
        Err(format!(
            "{text:?} has bits set behind its length: write {prefix}, or /{} for the host",
            prefix.version().bits()
        ))
    }
}

fn protocol(name: &str) -> Option<u32> {
    PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
}

/// Items of a list; one value alone stands for a list of one.
fn items(value: &Value) -> Parsed<Vec<&Value>> {
    let items: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
    if items.len() > MAX_ITEMS { Err(format!("more than {MAX_ITEMS} values")) } else { Ok(items) }
}

fn numbers(value: &Value, max: u32, named: fn(&str) -> Option<u32>) -> Parsed<Ranges> {
    let mut ranges = Vec::new();
    for item in items(value)? {
        let wrong = || format!("{item} is not valid: write a number from 0 to {max}, or a range such as \"10-20\"");
        match item {
            Value::Number(number) => {
                let number =
                    number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= max).ok_or_else(wrong)?;
                ranges.push((number, number));
            }
            Value::String(text) => ranges.extend(range(text.trim(), max, named).ok_or_else(wrong)?),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(wrong()),
        }
    }
    let set = Ranges::union(ranges);
    if set.is_empty() { Err("the list has no value".to_owned()) } else { Ok(set) }
}

/// `53`, `udp`, `10-20`, `>=10`, `<=20`, `!53`, `!10-20`.
fn range(text: &str, max: u32, named: fn(&str) -> Option<u32>) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_number { text.parse().ok().filter(|n| *n <= max) } else { named(text) }
    };
    if let Some(rest) = text.strip_prefix('!') {
        let inner = range(rest.trim_start_matches('='), max, named)?;
        let &[(low, high)] = &inner[..] else { return None };
        let mut outside = Vec::new();
        if low > 0 {
            outside.push((0, low - 1));
        }
        if high < max {
            outside.push((high + 1, max));
        }
        return Some(outside).filter(|o| !o.is_empty());
    }
    if let Some(rest) = text.strip_prefix(">=") {
        return Some(vec![(number(rest)?, max)]);
    }
    if let Some(rest) = text.strip_prefix("<=") {
        return Some(vec![(0, number(rest)?)]);
    }
    if let Some(one) = number(text) {
        return Some(vec![(one, one)]);
    }
    let (low, high) = text.split_once('-')?;
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then(|| vec![(low, high)])
}

fn tcp_flag(name: &str) -> Option<(u16, bool)> {
    let name = match name {
        "urgent" => "urg",
        "push" => "psh",
        other => other,
    };
    TCP_FLAG_NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| (*bit, false))
}

fn fragment_flag(name: &str) -> Option<(u16, bool)> {
    if name == "not-a-fragment" {
        return Some((0x02, true));
    }
    FRAGMENT_NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| (*bit, false))
}

/// Items joined by OR; within an item `|` joins by AND, `!` negates, `any(a+b)` and `all(a+b)` test several at once.
fn flags(value: &Value, named: fn(&str) -> Option<(u16, bool)>) -> Parsed<Bits> {
    let mut tests: Vec<BitTest> = Vec::new();
    for item in items(value)? {
        let text = item.as_str().ok_or_else(|| format!("{item} is not valid: write flags in quotation marks"))?;
        let (mut set, mut others) = (0, Vec::new());
        for token in text.split('|') {
            let token = token.trim().to_ascii_lowercase();
            let (negate, name) = token.strip_prefix('!').map_or((false, token.as_str()), |rest| (true, rest.trim()));
            if let Some((kind, names)) = name.strip_suffix(')').and_then(|n| n.split_once('(')) {
                let mask = names.split('+').try_fold(0, |mask, n| Some(mask | named(n.trim())?.0));
                let mask = mask.filter(|_| matches!(kind, "any" | "all"));
                let mask = mask.ok_or_else(|| format!("{name:?} is not valid: write any(a+b) or all(a+b)"))?;
                others.push(BitTest { and: true, negate, all: kind == "all", mask });
                continue;
            }
            let (mask, inverted) = named(name).ok_or_else(|| {
                let names = if named("syn").is_some() {
                    "syn, ack, fin, rst, psh, urg, ece, cwr"
                } else {
                    "dont-fragment, is-fragment, first-fragment, last-fragment, not-a-fragment"
                };
                format!("{token:?} is not a flag: write {names}, with ! in front to negate")
            })?;
            if negate == inverted {
                set |= mask;
            } else {
                others.push(BitTest { and: true, negate: true, all: false, mask });
            }
        }
        let first = tests.len();
        if set != 0 {
            tests.push(BitTest { and: false, negate: false, all: true, mask: set });
        }
        tests.append(&mut others);
        tests[first].and = false;
    }
    Bits::new(tests).ok_or_else(|| "too many flags".to_owned())
}

fn actions(fields: &Fields) -> Parsed<Vec<Action>> {
    let none = Map::new();
    let details = match fields.get("action") {
        None | Some(Value::Null) => &none,
        Some(Value::Object(details)) => details,
        Some(_) => return Err("action: write an object, such as {\"rate\": 1024}".to_owned()),
    };
    let kind = fields
        .get("action_type")
        .and_then(Value::as_str)
        .ok_or("action_type is missing: write \"accept\", \"discard\", \"rate-limit\", \"redirect\" or \"mark\"")?;
    let next_hops = next_hops(fields)?;
    if !next_hops.is_empty() && kind != "accept" {
        return Err(format!("next hops go with \"action_type\": \"accept\", not {kind:?}"));
    }
    let allowed: &[&str] = match kind {
        "rate-limit" => &["rate", "rate_packets"],
        "redirect" => &["redirect_target_as", "redirect_target_value", "redirect_target_ip"],
        "mark" => &["dscp"],
        _ => &[],
    };
    if let Some(name) = details.keys().find(|name| !allowed.contains(&name.as_str())) {
        return Err(format!("action.{name}: {kind} does not know this"));
    }
    let number = |name: &str, max: u64| -> Parsed<Option<u64>> {
        match details.get(name) {
            None => Ok(None),
            Some(value) => {
                let wrong = || format!("action.{name}: write a number from 0 to {max}");
                value.as_u64().filter(|n| *n <= max).map(Some).ok_or_else(wrong)
            }
        }
    };
    Ok(match kind {
        "accept" if next_hops.is_empty() => vec![Action::Accept],
        "accept" => next_hops.into_iter().map(Action::RedirectToIp).collect(),
        "discard" => vec![Action::Discard],
        "rate-limit" => rate_limits(number("rate", 1_000_000_000_000)?, number("rate_packets", 1_000_000_000)?),
        "redirect" => {
            let asn = number("redirect_target_as", u64::from(u32::MAX))?;
            let value = number("redirect_target_value", u64::from(u32::MAX))?;
            vec![redirect(details, asn, value)?]
        }
        "mark" => {
            let dscp = number("dscp", 63)?.ok_or("action.dscp is missing: write a number from 0 to 63")?;
            vec![Action::Mark(u8::try_from(dscp).unwrap_or(0))]
        }
        other => {
            return Err(format!(
                "action_type: {other:?} is unknown: write \"accept\", \"discard\", \"rate-limit\", \"redirect\" or \"mark\""
            ));
        }
    })
}

#[allow(clippy::cast_precision_loss, reason = "the wire has single precision")]
fn rate_limits(bytes: Option<u64>, packets: Option<u64>) -> Vec<Action> {
    let mut actions = Vec::new();
    actions.extend(bytes.filter(|r| *r > 0).map(|r| Action::RateLimitBytes(r as f32)));
    actions.extend(packets.filter(|r| *r > 0).map(|r| Action::RateLimitPackets(r as f32)));
    // As in FastNetMon a missing rate is zero, which drops everything.
    if bytes == Some(0) || packets == Some(0) || actions.is_empty() {
        return vec![Action::Discard];
    }
    actions
}

fn redirect(details: &Fields, asn: Option<u64>, value: Option<u64>) -> Parsed<Action> {
    let value = value.ok_or("action.redirect_target_value is missing")?;
    let small =
        || u16::try_from(value).map_err(|_| "action.redirect_target_value: at most 65535 in this form".to_owned());
    if let Some(address) = details.get("redirect_target_ip") {
        let address: Option<Ipv4Addr> = address.as_str().and_then(|a| a.parse().ok());
        let address = address.ok_or("action.redirect_target_ip: write an IPv4 address in quotation marks")?;
        return Ok(Action::RedirectIpv4 { address, value: small()? });
    }
    let asn = asn.ok_or("action.redirect_target_as is missing")?;
    match u16::try_from(asn) {
        Ok(asn) => Ok(Action::RedirectAs2 { asn, value: u32::try_from(value).unwrap_or(u32::MAX) }),
        Err(_) => Ok(Action::RedirectAs4 { asn: u32::try_from(asn).unwrap_or(u32::MAX), value: small()? }),
    }
}

fn next_hops(fields: &Fields) -> Parsed<Vec<IpAddr>> {
    let mut found = Vec::new();
    for (name, is_v4) in [("ipv4_nexthops", true), ("ipv6_nexthops", false)] {
        let Some(value) = fields.get(name).filter(|v| !is_empty(v)) else { continue };
        for item in items(value)? {
            let address: Option<IpAddr> = item.as_str().and_then(|a| a.parse().ok());
            let address = address.filter(|a| a.is_ipv4() == is_v4 && !a.is_unspecified() && !a.is_multicast());
            found.push(address.ok_or_else(|| format!("{name}: {item} is not such an address"))?);
        }
    }
    Ok(found)
}

/// Writes a rule in the same form; [`parse`] reads it back to the same meaning.
#[must_use]
pub fn to_value(rule: &FlowSpec) -> Value {
    let mut fields: BTreeMap<&str, Value> = BTreeMap::new();
    for condition in rule.pattern.conditions() {
        let (name, value) = match condition {
            Condition::Destination(prefix, _) => ("destination_prefix", json!(prefix)),
            Condition::Source(prefix, _) => ("source_prefix", json!(prefix)),
            Condition::Protocol(set) => ("protocols", list(set, protocol_name)),
            Condition::Port(set) => ("ports", list(set, |n| json!(n))),
            Condition::DestinationPort(set) => ("destination_ports", list(set, |n| json!(n))),
            Condition::SourcePort(set) => ("source_ports", list(set, |n| json!(n))),
            Condition::IcmpType(set) => ("icmp_types", list(set, |n| json!(n))),
            Condition::IcmpCode(set) => ("icmp_codes", list(set, |n| json!(n))),
            Condition::TcpFlags(bits) => ("tcp_flags", flag_list(bits, &TCP_FLAG_NAMES)),
            Condition::Length(set) => ("packet_lengths", list(set, |n| json!(n))),
            Condition::Dscp(set) => ("dscps", list(set, |n| json!(n))),
            Condition::Fragment(bits) => ("fragmentation_flags", flag_list(bits, &FRAGMENT_NAMES)),
            Condition::FlowLabel(set) => ("flow_labels", list(set, |n| json!(n))),
        };
        fields.insert(name, value);
    }
    let (kind, details) = action_form(&rule.actions);
    fields.insert("action_type", json!(kind));
    for (name, value) in details {
        fields.insert(name, value);
    }
    json!(fields)
}

fn protocol_name(number: u32) -> Value {
    PROTOCOLS.iter().find(|(_, n)| *n == number).map_or_else(|| json!(number), |(name, _)| json!(name))
}

fn list(set: &Ranges, one: impl Fn(u32) -> Value) -> Value {
    let item = |&(low, high): &(u32, u32)| if low == high { one(low) } else { json!(format!("{low}-{high}")) };
    Value::Array(set.as_slice().iter().map(item).collect())
}

fn flag_list(bits: &Bits, names: &[(u16, &str)]) -> Value {
    let mut items: Vec<String> = Vec::new();
    for test in bits.as_slice() {
        let known: Vec<&str> = names.iter().filter(|(bit, _)| test.mask & bit != 0).map(|(_, name)| *name).collect();
        let not = if test.negate { "!" } else { "" };
        let text = match known[..] {
            [one] => format!("{not}{one}"),
            _ => format!("{not}{}({})", if test.all { "all" } else { "any" }, known.join("+")),
        };
        match items.last_mut() {
            Some(last) if test.and => *last = format!("{last}|{text}"),
            _ => items.push(text),
        }
    }
    json!(items)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and far below 2^63")]
fn action_form(actions: &[Action]) -> (&'static str, Vec<(&'static str, Value)>) {
    let addresses: Vec<&IpAddr> =
        actions.iter().filter_map(|a| if let Action::RedirectToIp(ip) = a { Some(ip) } else { None }).collect();
    if !addresses.is_empty() {
        let name = if addresses[0].is_ipv4() { "ipv4_nexthops" } else { "ipv6_nexthops" };
        return ("accept", vec![(name, json!(addresses))]);
    }
    let mut details = Map::new();
    let mut kind = "accept";
    for action in actions {
        match action {
            Action::Discard => kind = "discard",
            Action::RateLimitBytes(rate) => {
                kind = "rate-limit";
                details.insert("rate".to_owned(), json!(*rate as u64));
            }
            Action::RateLimitPackets(rate) => {
                kind = "rate-limit";
                details.insert("rate_packets".to_owned(), json!(*rate as u64));
            }
            Action::RedirectAs2 { asn, value } => {
                kind = "redirect";
                details.insert("redirect_target_as".to_owned(), json!(asn));
                details.insert("redirect_target_value".to_owned(), json!(value));
            }
            Action::RedirectAs4 { asn, value } => {
                kind = "redirect";
                details.insert("redirect_target_as".to_owned(), json!(asn));
                details.insert("redirect_target_value".to_owned(), json!(value));
            }
            Action::RedirectIpv4 { address, value } => {
                kind = "redirect";
                details.insert("redirect_target_ip".to_owned(), json!(address));
                details.insert("redirect_target_value".to_owned(), json!(value));
            }
            Action::Mark(dscp) => {
                kind = "mark";
                details.insert("dscp".to_owned(), json!(dscp));
            }
            // Not made by rules in this form.
            Action::Accept
            | Action::RedirectToIp(_)
            | Action::CopyToIp(_)
            | Action::RedirectToNextHop { .. }
            | Action::TrafficAction { .. } => {}
        }
    }
    let details = if details.is_empty() { Vec::new() } else { vec![("action", Value::Object(details))] };
    (kind, details)
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "two kinds of conditions are looked at")]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_bits_behind_its_length_is_refused_with_both_readings() {
        for (text, network, host) in
            [("192.0.2.77/25", "192.0.2.0/25", "/32"), ("2001:db8::1/64", "2001:db8::/64", "/128")]
        {
            let why = prefix_as_written(text).expect_err(text);
            assert!(why.contains(network) && why.contains(host), "{why}");
        }
        for text in ["192.0.2.77", "192.0.2.77/32", "192.0.2.0/25", "2001:db8::1/128", "2001:db8::/64"] {
            assert!(prefix_as_written(text).is_ok(), "{text}");
        }
    }

    const GUIDE: &str = r#"{ "source_prefix": "4.0.0.0/32", "destination_prefix": "127.0.0.0/32", "destination_ports": [ 80 ],
        "source_ports": [ 53, 5353 ], "packet_lengths": [ 777, 1122 ], "protocols": [ "tcp" ],
        "fragmentation_flags": [ "is-fragment", "dont-fragment" ], "tcp_flags": [ "syn" ], "#;

    #[test]
    fn both_examples_of_the_guide_are_read() {
        let first = parse(&format!("{GUIDE} \"action_type\": \"rate-limit\", \"action\": {{ \"rate\": 1024 }} }}"));
        assert_eq!(
            first.expect("valid").to_string(),
            "destination 127.0.0.0/32 source 4.0.0.0/32 protocol tcp destination-port 80 source-port 53,5353 \
             tcp-flags syn length 777,1122 fragment is-fragment,dont-fragment -> rate-limit 1024 bytes/s"
        );
        let second = parse(&format!(
            "{GUIDE} \"action_type\": \"accept\", \"ipv4_nexthops\": [\"11.22.33.44\", \"11.22.33.45\"] }}"
        ));
        let second = second.expect("valid");
        assert_eq!(second.actions.len(), 2);
        assert_eq!(second.actions[0], Action::RedirectToIp("11.22.33.44".parse().expect("address")));
    }

    #[test]
    fn ranges_negation_and_joined_flags_are_read() {
        let rule = parse(
            r#"{"destination_prefix": "2001:db8::9/128", "protocols": ["ICMPv6", 17], "source_ports": ["1000-2000", "<=10"],
                "destination_ports": "!53", "tcp_flags": ["syn|!ack", "rst", "!fin"], "fragmentation_flags": "not-a-fragment",
                "icmp_types": [128], "dscps": ["!0"], "packet_lengths": [">=1200"], "action_type": "mark", "action": {"dscp": 8}}"#,
        );
        assert_eq!(
            rule.expect("valid").to_string(),
            "destination 2001:db8::9/128 protocol 17,58 destination-port 0-52,54-65535 source-port 0-10,1000-2000 icmp-type 128 \
             tcp-flags syn&!ack,rst,!fin length 1200-65535 dscp 1-63 fragment !is-fragment -> mark 8"
        );
    }

    #[test]
    fn every_problem_is_named_at_once_with_what_to_write() {
        let text = r#"{"destination_prefix": "203.0.113.9/24", "source_ports": [70000], "protocols": ["nonsense"], "vlans": [5],
            "tcp_flags": ["sny"], "colour": 1}"#;
        let RuleError(problems) = parse(text).expect_err("wrong");
        assert_eq!(problems.len(), 7, "{problems:?}");
        for (part, advice) in [
            ("destination_prefix", "203.0.113.0/24"),
            ("source_ports", "65535"),
            ("protocols", "nonsense"),
            ("vlans", "wider"),
            ("tcp_flags", "syn, ack"),
            ("colour", "unknown field"),
            ("action_type", "discard"),
        ] {
            assert!(problems.iter().any(|p| p.contains(part) && p.contains(advice)), "{part}: {problems:?}");
        }
        for text in ["", "[]", "{}", "{\"action_type\": \"discard\"}", "nonsense"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let with_rate = r#"{"destination_prefix": "203.0.113.9/32", "action_type": "discard", "action": {"rate": 5}}"#;
        assert!(parse(with_rate).expect_err("contradiction").to_string().contains("action.rate"));
    }

    /// One to four tests of so many named bits.
    fn random_bits(random: &mut impl FnMut(u64) -> u32, names: u64) -> Bits {
        let tests = (0..=random(3)).map(|_| BitTest {
            and: random(2) == 0,
            negate: random(2) == 0,
            all: random(2) == 0,
            mask: u16::try_from(1 + random((1 << names) - 1)).expect("mask"),
        });
        Bits::new(tests.collect()).expect("bits")
    }

    /// One to five ranges up to a value.
    fn random_ranges(random: &mut impl FnMut(u64) -> u32, max: u64) -> Ranges {
        Ranges::union((0..=random(4)).map(|_| {
            let (a, b) = (random(max + 1), random(max + 1));
            (a.min(b), a.max(b))
        }))
    }

    /// All conditions but those on bits, which may be written another way.
    fn without_bits(pattern: &Pattern) -> Vec<Condition> {
        let is_about_bits = |c: &&Condition| matches!(c, Condition::TcpFlags(_) | Condition::Fragment(_));
        pattern.conditions().iter().filter(|c| !is_about_bits(c)).cloned().collect()
    }

    #[test]
    fn what_is_written_reads_back_to_the_same_meaning() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state % n).expect("small")
        };
        for _ in 0..5000 {
            let (tcp, fragment) = (random_bits(&mut random, 8), random_bits(&mut random, 4));
            let mut set = |max: u64| random_ranges(&mut random, max);
            let conditions = vec![
                Condition::Destination("203.0.113.9/32".parse().expect("prefix"), 0),
                Condition::Protocol(set(255)),
                Condition::SourcePort(set(65535)),
                Condition::TcpFlags(tcp.clone()),
                Condition::Length(set(65535)),
                Condition::Fragment(fragment.clone()),
            ];
            let rule = FlowSpec {
                pattern: Pattern::new(conditions).expect("valid"),
                actions: vec![Action::RateLimitBytes(f32::from(u16::try_from(1 + random(9999)).expect("rate")))],
            };
            let written = to_value(&rule);
            let read = from_value(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
            assert_eq!(read.actions, rule.actions);
            assert_eq!(without_bits(&read.pattern), without_bits(&rule.pattern));
            for condition in read.pattern.conditions() {
                match condition {
                    Condition::TcpFlags(bits) => {
                        (0..256).for_each(|v| assert_eq!(bits.matches(v), tcp.matches(v), "{written}"))
                    }
                    Condition::Fragment(bits) => {
                        (0..16).for_each(|v| assert_eq!(bits.matches(v), fragment.matches(v), "{written}"))
                    }
                    _ => {}
                }
            }
        }
    }
}
