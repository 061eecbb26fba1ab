//! ExaBGP's JSON (versions 4.0 and 4.2, one message a line) as a source of rules: `floodwall enforce` in place of a script that ExaBGP
//! runs.
//!
//! Rules are made into the octets of RFC 8955 and decoded like those of a BGP session, so that both feeds mean the same. Messages
//! that are not understood are counted and lose nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::adj_rib_in::AdjRibIn;
use bgp::attribute::{Attributes, Update};
use flowspec::nlri::{FlowNlri, NlriError};
use serde_json::Value;
use traffic::{IpVersion, Prefix, Time};

use super::config::{Config, Source};
use super::sources::{SourceStatus, Tables};

/// Octets of a line at most; longer ones are counted as malformed.
pub const MAX_LINE: usize = 1 << 20;

/// What one neighbour of ExaBGP announces.
struct Neighbour {
    source: Source,
    rib: AdjRibIn,
    is_up: bool,
    resets: u64,
    last_error: Option<String>,
}

/// Reads ExaBGP's JSON and keeps a table per neighbour.
pub struct Feed {
    neighbours: BTreeMap<IpAddr, Neighbour>,
    tables: Tables,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("neighbours", &self.neighbours.len()).finish_non_exhaustive()
    }
}

impl Feed {
    /// For the peers of the configuration, told apart by the address of ExaBGP's neighbour.
    #[must_use]
    pub fn new(config: &Config, tables: Tables) -> Self {
        let neighbour = |source: &Source| Neighbour {
            source: source.clone(),
            rib: AdjRibIn::new(source.accept.max_rules),
            is_up: false,
            resets: 0,
            last_error: None,
        };
        let neighbours = config.sources.iter().map(|s| (s.remote_address, neighbour(s))).collect();
        let feed = Self { neighbours, tables };
        feed.neighbours.values().for_each(|n| feed.publish(n, false));
        feed
    }

    /// Takes one line.
    ///
    /// # Errors
    /// Why the line was not understood.
    pub fn line(&mut self, now: Time, line: &str) -> Result<(), String> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let message: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
        let neighbour = &message["neighbor"];
        let Some(address) = address(neighbour) else {
            // Messages about ExaBGP itself, such as its shutdown, have no neighbour.
            return if message["type"] == "notification" { self.ended(now) } else { Ok(()) };
        };
        let Some(of) = self.neighbours.get_mut(&address) else {
            return Err(format!("neighbour {address} is no [enforcer_peer.NAME]: its rules are ignored"));
        };
        let changed = match message["type"].as_str() {
            Some("state") => of.state(now, neighbour),
            Some("update") => of.update(now, &neighbour["message"]),
            _ => Ok(false),
        };
        let outcome = changed.as_ref().map(|_| ()).map_err(Clone::clone);
        if let Err(error) = &changed {
            of.rib.malformed += 1;
            of.last_error = Some(error.clone());
        }
        if let Some(of) = self.neighbours.get(&address) {
            self.publish(of, changed.unwrap_or(true));
        }
        outcome
    }

    /// ExaBGP ended: whatever it announced is gone.
    ///
    /// # Errors
    /// None; the type is that of [`Feed::line`].
    pub fn ended(&mut self, now: Time) -> Result<(), String> {
        for of in self.neighbours.values_mut() {
            of.is_up = false;
            of.rib.lost(now, None);
        }
        self.neighbours.values().for_each(|n| self.publish(n, true));
        Ok(())
    }

    fn publish(&self, of: &Neighbour, changed: bool) {
        let status = SourceStatus {
            name: of.source.name.clone(),
            state: if of.is_up { "established" } else { "idle" }.to_owned(),
            rules: of.rib.rules().len(),
            malformed: of.rib.malformed,
            malformed_reason: of.rib.malformed_reason.map(|e| e.to_string()),
            over_limit: of.rib.over_limit,
            resets: of.resets,
            last_error: of.last_error.clone(),
        };
        self.tables.publish(status, changed.then(|| Arc::new(of.rib.clone())));
    }
}

fn address(neighbour: &Value) -> Option<IpAddr> {
    // 3.4 wrote the address itself, 4.x an object.
    neighbour["address"]["peer"].as_str().or_else(|| neighbour["ip"].as_str())?.parse().ok()
}

impl Neighbour {
    /// A session that went down took its rules with it.
    fn state(&mut self, now: Time, neighbour: &Value) -> Result<bool, String> {
        match neighbour["state"].as_str() {
            Some("up") => {
                self.is_up = true;
                Ok(self.rib.up(&std::collections::BTreeSet::new()) > 0)
            }
            Some("down") => {
                self.is_up = false;
                self.resets += 1;
                self.last_error = neighbour["reason"].as_str().map(str::to_owned);
                Ok(self.rib.lost(now, None) > 0)
            }
            Some(_) => Ok(false),
            None => Err("a state message without a state".to_owned()),
        }
    }

    fn update(&mut self, now: Time, message: &Value) -> Result<bool, String> {
        let body = &message["update"];
        if body.is_null() {
            // End-of-RIB: nothing is stale here.
            return Ok(false);
        }
        let mut update = Update { attributes: attributes(&body["attribute"])?, ..Update::default() };
        let mut fault = None;
        for (family, version) in [("ipv4 flow", IpVersion::V4), ("ipv6 flow", IpVersion::V6)] {
            for (side, list) in [("withdraw", &mut update.flow_withdrawn), ("announce", &mut update.flow_announced)] {
                for flow in flows(&body[side][family]) {
                    match components(version, flow) {
                        Ok(flow) => list.push(flow),
                        Err(error) => fault = Some(error),
                    }
                }
            }
        }
        let changed = self.rib.apply(now, &update);
        match fault {
            None => Ok(changed),
            Some(error) => Err(error),
        }
    }
}

/// Rules of a family: a list, or lists by next hop.
fn flows(family: &Value) -> Vec<&Value> {
    match family {
        Value::Array(list) => list.iter().collect(),
        Value::Object(by_next_hop) => by_next_hop.values().filter_map(Value::as_array).flatten().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Extended communities as numbers of 64 bits; ExaBGP 4.2 puts them into objects.
fn attributes(attribute: &Value) -> Result<Attributes, String> {
    let mut octets = Vec::new();
    for community in attribute["extended-community"].as_array().into_iter().flatten() {
        let number = community.as_u64().or_else(|| community["value"].as_u64());
        octets.extend(number.ok_or("an extended community that is no number of 64 bits")?.to_be_bytes());
    }
    Attributes::of_extended_communities(&octets).ok_or_else(|| "a traffic rate that is no number".to_owned())
}

/// A rule's JSON to its octets, and these decoded.
fn components(version: IpVersion, flow: &Value) -> Result<FlowNlri, String> {
    let object = flow.as_object().ok_or("a rule that is no object")?;
    let mut parts: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for (name, values) in object {
        let kind = match name.as_str() {
            "destination-ipv4" | "destination-ipv6" | "destination" => 1,
            "source-ipv4" | "source-ipv6" | "source" => 2,
            "protocol" | "next-header" => 3,
            "port" => 4,
            "destination-port" => 5,
            "source-port" => 6,
            "icmp-type" => 7,
            "icmp-code" => 8,
            "tcp-flags" => 9,
            "packet-length" => 10,
            "dscp" | "traffic-class" => 11,
            "fragment" => 12,
            "flow-label" => 13,
            "string" | "next-hop" | "rd" => continue,
            other => return Err(format!("unknown component {other:?}")),
        };
        let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let octets = if kind <= 2 { prefix(version, &values) } else { operators(kind, &values) };
        let octets = octets.ok_or_else(|| format!("{name} {values:?} is not understood"))?;
        if parts.insert(kind, octets).is_some() {
            return Err(format!("component type {kind} occurs twice"));
        }
    }
    let octets: Vec<u8> = parts.into_iter().flat_map(|(kind, octets)| [vec![kind], octets].concat()).collect();
    FlowNlri::decode(version, &octets).map_err(|e: NlriError| e.to_string())
}

/// `192.0.2.1/32`; IPv6 with the offset behind it: `2001:db8::1/128/0`.
fn prefix(version: IpVersion, values: &[&str]) -> Option<Vec<u8>> {
    let [text] = values else { return None };
    let mut parts = text.split('/');
    let plain: Prefix = format!("{}/{}", parts.next()?, parts.next()?).parse().ok()?;
    let offset: u8 = parts.next().map_or(Some(0), |o| o.parse().ok())?;
    if plain.version() != version || (offset > 0 && (version == IpVersion::V4 || offset >= plain.length())) {
        return None;
    }
    let count = usize::from(plain.length() - offset).div_ceil(8);
    let mut octets = vec![plain.length()];
    if version == IpVersion::V6 {
        octets.push(offset);
    }
    octets.extend((plain.bits() << offset).to_be_bytes().into_iter().take(count));
    Some(octets)
}

/// `=53`, `>=1024&<=65535`, `!=ack`: a list is joined by OR, `&` by AND.
fn operators(kind: u8, values: &[&str]) -> Option<Vec<u8>> {
    let is_bits = kind == 9 || kind == 12;
    let mut octets = Vec::new();
    let mut last = 0;
    for value in values {
        for (i, text) in value.split('&').enumerate() {
            let and = if i > 0 { 0x40 } else { 0 };
            let (operator, value) = if is_bits { bit_test(kind, text)? } else { comparison(kind, text)? };
            let (size, skip) = match value {
                0..=0xff => (0x00, 3),
                0x100..=0xffff => (0x10, 2),
                _ => (0x20, 0),
            };
            last = octets.len();
            octets.push(operator | and | size);
            octets.extend(&value.to_be_bytes()[skip..]);
        }
    }
    *octets.get_mut(last)? |= 0x80;
    Some(octets)
}

fn comparison(kind: u8, text: &str) -> Option<(u8, u32)> {
    let (operator, value) = match text {
        "true" => return Some((7, 0)),
        "false" => return Some((0, 0)),
        _ => [("<=", 5), (">=", 3), ("!=", 6), ("<", 4), (">", 2), ("=", 1)]
            .into_iter()
            .find_map(|(sign, operator)| text.strip_prefix(sign).map(|value| (operator, value)))
            .unwrap_or((1, text)),
    };
    // Numbers without a name are "unknown icmp type type 135" to ExaBGP.
    let value = if value.starts_with("unknown ") { value.rsplit(' ').next().unwrap_or(value) } else { value };
    let number = match kind {
        3 => named(&PROTOCOLS, value),
        7 => named(&ICMP_TYPES, value),
        8 => named(&ICMP_CODES, value),
        _ => None,
    };
    Some((operator, number.or_else(|| value.parse().ok())?))
}

fn bit_test(kind: u8, text: &str) -> Option<(u8, u32)> {
    // ExaBGP's JSON calls a test for no fragment by a name of its own.
    if kind == 12 && text == "not-a-fragment" {
        return Some((2, 2));
    }
    let (operator, names) = [("!=", 3), ("=", 1), ("!", 2)]
        .into_iter()
        .find_map(|(sign, operator)| text.strip_prefix(sign).map(|names| (operator, names)))
        .unwrap_or((0, text));
    let mut mask = 0;
    for name in names.split('+') {
        let table: &[(&str, u32)] = if kind == 9 { &TCP_FLAGS } else { &FRAGMENTS };
        let hex = || name.strip_prefix("0x").and_then(|h| u32::from_str_radix(h, 16).ok());
        mask |= named(table, name).or_else(hex).or_else(|| name.parse().ok())?;
    }
    Some((operator, mask))
}

fn named(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

// The names of ExaBGP 4.2's protocol tables.
const PROTOCOLS: [(&str, u32); 14] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("ipip", 94),
    ("pim", 103),
    ("sctp", 132),
];
const ICMP_TYPES: [(&str, u32); 20] = [
    ("echo-reply", 0),
    ("unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicit", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("mask-request", 17),
    ("mask-reply", 18),
    ("traceroute", 30),
    ("experimental-mobility", 41),
    ("extended-echo-request", 42),
    ("extended-echo-reply", 43),
    ("experimental-one", 253),
];
const ICMP_CODES: [(&str, u32); 24] = [
    ("network-unreachable", 0),
    ("host-unreachable", 1),
    ("protocol-unreachable", 2),
    ("port-unreachable", 3),
    ("fragmentation-needed", 4),
    ("source-route-failed", 5),
    ("destination-network-unknown", 6),
    ("destination-host-unknown", 7),
    ("source-host-isolated", 8),
    ("destination-network-prohibited", 9),
    ("destination-host-prohibited", 10),
    ("network-unreachable-for-tos", 11),
    ("host-unreachable-for-tos", 12),
    ("communication-prohibited-by-filtering", 13),
    ("host-precedence-violation", 14),
    ("precedence-cutoff-in-effect", 15),
    ("redirect-for-network", 0),
    ("redirect-for-host", 1),
    ("redirect-for-tos-and-net", 2),
    ("redirect-for-tos-and-host", 3),
    ("ttl-eq-zero-during-transit", 0),
    ("ttl-eq-zero-during-reassembly", 1),
    ("required-option-missing", 1),
    ("ip-header-bad", 2),
];
const TCP_FLAGS: [(&str, u32); 10] = [
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("push", 8),
    ("ack", 16),
    ("urg", 32),
    ("urgent", 32),
    ("ece", 64),
    ("cwr", 128),
    ("ns", 256),
];
const FRAGMENTS: [(&str, u32); 4] =
    [("dont-fragment", 1), ("is-fragment", 2), ("first-fragment", 4), ("last-fragment", 8)];

#[cfg(test)]
mod tests {
    use bgp::adj_rib_in::{Accept, Allowed};

    use super::*;
    use crate::BackEndConfig;
    use crate::plan::{Plan, Verdict};
    use crate::ruleset::Hook;

    fn config() -> Config {
        let allow = |p: &str| Allowed { prefix: p.parse().expect("prefix"), minimum_length: 32 };
        let accept = Accept { destinations: vec![allow("192.168.0.0/16")], sources: Vec::new(), max_rules: 10 };
        Config {
            backend: BackEndConfig::Print,
            hook: Hook::Forward,
            priority: 0,
            management: Vec::new(),
            redirects: BTreeMap::new(),
            listen: None,
            local_asn: 0,
            router_id: std::net::Ipv4Addr::UNSPECIFIED,
            hold_time: std::time::Duration::ZERO,
            sources: vec![Source {
                name: "detector".to_owned(),
                remote_address: "10.0.0.70".parse().expect("address"),
                remote_asn: 0,
                remote_port: 179,
                connect: false,
                local_address: None,
                md5_password: None,
                ttl_security_hops: None,
                blackholes: false,
                accept,
            }],
            api_listen: "127.0.0.1:0".parse().expect("address"),
        }
    }

    /// The shape of ExaBGP 4.0's message about the NTP reflection, with a rate of 0 as its extended community.
    fn ntp(community: &str) -> String {
        format!(
            r#"{{"exabgp":"4.0.0","type":"update","neighbor":{{"address":{{"local":"0.0.0.0","peer":"10.0.0.70"}},
            "message":{{"update":{{"attribute":{{"origin":"igp","extended-community":[{community}]}},"announce":{{"ipv4 flow":
            {{"no-nexthop":[{{"destination-ipv4":["192.168.0.1/32"],"protocol":["=udp"],"source-port":["=123"],
            "string":"flow ..."}}]}}}}}}}}}}}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn the_ntp_message_becomes_one_rule_that_goes_with_the_session() {
        let tables = Tables::default();
        let mut feed = Feed::new(&config(), tables.clone());
        let now = Time::from_seconds(1000, 0);
        // 4.0 wrote the number, cut to 53 bits by JSON on the way; 4.2 writes an object.
        for community in ["9225060886715040000", r#"{"value": 9225060886715039744, "string": "rate-limit:0"}"#] {
            feed.line(now, &ntp(community)).expect("understood");
            let table = tables.tables()["detector"].clone();
            let rule = table.rules().values().next().expect("one rule");
            assert_eq!(rule.flow.pattern.to_string(), "destination 192.168.0.1/32 protocol udp source-port 123");
            assert_eq!(rule.flow.octets, [1, 32, 192, 168, 0, 1, 3, 0x81, 17, 6, 0x81, 123]);
            let plan = Plan::of(&rule.attributes, &BTreeMap::new()).expect("possible");
            assert_eq!(plan.verdict, Verdict::Drop);
        }
        let down = r#"{"type":"state","neighbor":{"address":{"peer":"10.0.0.70"},"state":"down","reason":"reset"}}"#;
        feed.line(now, down).expect("understood");
        assert!(tables.tables()["detector"].rules().is_empty());
    }

    #[test]
    fn operators_keep_their_meaning_and_nonsense_is_counted() {
        let rule = |json: &str| {
            components(IpVersion::V4, &serde_json::from_str(json).expect("JSON")).map(|f| f.pattern.to_string())
        };
        assert_eq!(
            rule(
                r#"{"destination-ipv4":["192.0.2.2/32"],"protocol":["=tcp"],"port":["=80","=443",">=1024&<=2000"],
                "tcp-flags":["=syn&!=ack"],"fragment":["not-a-fragment"]}"#
            )
            .as_deref(),
            Ok("destination 192.0.2.2/32 protocol tcp port 80,443,1024-2000 tcp-flags syn&!ack fragment !is-fragment")
        );
        assert!(rule(r#"{"destination-ipv4":["192.0.2.2/32"],"color":["=5"]}"#).is_err());
        assert!(rule(r#"{"source-port":["=70000"]}"#).is_err());
        let mut feed = Feed::new(&config(), Tables::default());
        let now = Time::from_seconds(1000, 0);
        for line in ["{", "[]", r#"{"neighbor":{"address":{"peer":"192.0.2.9"}},"type":"update"}"#] {
            let _ = feed.line(now, line);
        }
        assert!(feed.line(now, r#"{"neighbor":{"address":{"peer":"10.0.0.70"}},"type":"state"}"#).is_err());
    }
}
