//! [`Profile`]: what a router can take, by the name of its kind, each option settable by itself.
//!
//! A profile turns one wanted rule into what a router is sent: the same rule in octets it accepts, several rules whose union is the
//! rule (a router that takes one port, or five values), or a refusal with the reason. It never widens a rule. The limits are those
//! of vendors' documents and of tests with real peers; where neither says anything the generic value stands.

use std::fmt;
use std::str::FromStr;

use traffic::IpVersion;

use super::nlri::{self, MAX_SENT, NlriError, Spelling};
use crate::{Action, BitTest, Bits, Condition, Pattern, Ranges};

/// Rules that one wanted rule may be cut into at most.
pub const MAX_PARTS: usize = 64;

/// Values that a condition is spelled out to at most, for a router without ranges.
const MAX_SPELLED: usize = 128;

/// Kinds of routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs, reason = "names of products")]
pub enum Kind {
    #[default]
    Generic,
    Juniper,
    CiscoXr,
    Nokia,
    Huawei,
    Arista,
    Extreme,
    SixWind,
    Frr,
    Bird,
    GoBgp,
    ExaBgp,
}

impl Kind {
    /// All kinds with their names in the configuration.
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::Generic, "generic"),
        (Self::Juniper, "juniper"),
        (Self::CiscoXr, "cisco-xr"),
        (Self::Nokia, "nokia"),
        (Self::Huawei, "huawei"),
        (Self::Arista, "arista"),
        (Self::Extreme, "extreme"),
        (Self::SixWind, "6wind"),
        (Self::Frr, "frr"),
        (Self::Bird, "bird"),
        (Self::GoBgp, "gobgp"),
        (Self::ExaBgp, "exabgp"),
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("generic", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(kind, _)| *kind)
            .ok_or_else(|| format!("{text:?} is not a router profile: write one of {}", names.join(", ")))
    }
}

/// Fragment bits that a router can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FragmentSupport {
    /// None at all.
    None,
    /// `is-fragment` alone.
    IsFragment,
    /// All but `last-fragment`.
    NoLast,
    /// All.
    All,
}

/// What a router can take. The fields are also keys of `[bgp.NAME]`, prefixed `flowspec_`.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
pub struct Profile {
    /// Which kind it is.
    pub kind: Kind,
    /// The match bit in tests of single TCP flags (Huawei wants it; equal in meaning).
    pub tcp_flags_match_bit: bool,
    /// The match bit in tests of single fragment bits.
    pub fragment_match_bit: bool,
    /// Fragment bits it can match.
    pub fragment: FragmentSupport,
    /// `dont-fragment` can be matched.
    pub dont_fragment: bool,
    /// TCP flags can be matched.
    pub tcp_flags: bool,
    /// Negated TCP flags can be matched.
    pub tcp_flags_negation: bool,
    /// ECE, CWR and the flags of the high octet can be matched.
    pub tcp_flags_extended: bool,
    /// Packet length can be matched, for IPv4 and for IPv6.
    pub length: (bool, bool),
    /// Longest packet length a rule may name.
    pub longest: u32,
    /// Source prefixes can be matched.
    pub source: bool,
    /// Ports together with fragment bits.
    pub ports_with_fragment: bool,
    /// `port` together with `source-port` or `destination-port`.
    pub port_with_others: bool,
    /// Ports, ICMP and TCP flags need a protocol in the rule.
    pub needs_protocol: bool,
    /// Values (a range counts one) of one condition at most.
    pub max_values: usize,
    /// Operators (a range counts two) of one condition at most.
    pub max_operators: usize,
    /// Ranges; otherwise single values alone.
    pub ranges: bool,
    /// IPv6 rules.
    pub ipv6: bool,
    /// `rate-limit` in packets.
    pub rate_packets: bool,
    /// Redirection to a 4-octet AS route target.
    pub redirect_as4: bool,
    /// Redirection in the older form, to the route's own next hop.
    pub redirect_to_next_hop: bool,
    /// Our AS number in rate limits; otherwise 0, as FastNetMon.
    pub rate_asn: bool,
    /// Rules it holds at most.
    pub max_rules: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self::of(Kind::Generic)
    }
}

/// A router without limits but the number of its rules: what the kinds are told apart from.
const UNLIMITED: Profile = Profile {
    kind: Kind::Generic,
    tcp_flags_match_bit: false,
    fragment_match_bit: false,
    fragment: FragmentSupport::All,
    dont_fragment: true,
    tcp_flags: true,
    tcp_flags_negation: true,
    tcp_flags_extended: true,
    length: (true, true),
    longest: 9216,
    source: true,
    ports_with_fragment: true,
    port_with_others: true,
    needs_protocol: false,
    max_values: usize::MAX,
    max_operators: usize::MAX,
    ranges: true,
    ipv6: true,
    rate_packets: true,
    redirect_as4: true,
    redirect_to_next_hop: true,
    rate_asn: true,
    max_rules: 200,
};

impl Profile {
    /// What a kind of router can do.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let generic = Self { kind, ..UNLIMITED };
        match kind {
            Kind::Generic => Self { rate_packets: false, redirect_as4: false, redirect_to_next_hop: false, ..generic },
            Kind::Juniper => {
                Self { port_with_others: false, rate_packets: false, redirect_as4: false, max_rules: 1000, ..generic }
            }
            Kind::CiscoXr => Self { max_values: 5, rate_packets: false, max_rules: 1000, ..generic },
            Kind::Nokia => Self { rate_packets: false, redirect_as4: false, max_rules: 500, ..generic },
            Kind::Huawei => Self {
                tcp_flags_match_bit: true,
                fragment_match_bit: true,
                fragment: FragmentSupport::NoLast,
                port_with_others: false,
                needs_protocol: true,
                longest: 9600.min(generic.longest),
                rate_packets: false,
                redirect_as4: false,
                ..generic
            },
            Kind::Arista => Self {
                fragment: FragmentSupport::IsFragment,
                dont_fragment: false,
                ports_with_fragment: false,
                rate_packets: false,
                redirect_as4: false,
                redirect_to_next_hop: false,
                ..generic
            },
            Kind::Extreme => Self {
                fragment: FragmentSupport::IsFragment,
                dont_fragment: false,
                tcp_flags_extended: false,
                ipv6: false,
                rate_packets: false,
                redirect_as4: false,
                redirect_to_next_hop: false,
                ..generic
            },
            Kind::SixWind => {
                Self { max_values: 1, rate_packets: false, redirect_as4: false, redirect_to_next_hop: false, ..generic }
            }
            Kind::Frr => Self { max_operators: 5, rate_packets: false, max_rules: 10_000, ..generic },
            Kind::Bird => Self { max_rules: 100_000, ..generic },
            Kind::GoBgp => Self { max_rules: 100_000, ..generic },
            Kind::ExaBgp => Self { redirect_as4: false, max_rules: 10_000, ..generic },
        }
    }

    /// The rules to send for a wanted one: their union matches the same packets.
    ///
    /// # Errors
    /// Why this router cannot be sent it.
    pub fn adapt(&self, pattern: &Pattern, actions: &[Action]) -> Result<Vec<Pattern>, String> {
        self.check(pattern)?;
        self.check_actions(actions)?;
        let mut parts = vec![self.spell(pattern)];
        for kind in [3u8, 4, 5, 6, 7, 8, 10, 11, 13] {
            parts = self.split(&parts, kind)?;
        }
        parts = fit(parts, self.spelling())?;
        if parts.len() > 1 && actions.iter().any(Action::is_rate_limit) {
            return Err("the router would need several rules for this one, and each would let the rate through: name fewer values".to_owned());
        }
        Ok(parts)
    }

    /// How numeric sets are written for this router.
    #[must_use]
    pub const fn spelling(&self) -> Spelling {
        if self.ranges { Spelling::Ranges } else { Spelling::Values }
    }

    /// What cannot be matched by any number of rules.
    fn check(&self, pattern: &Pattern) -> Result<(), String> {
        let is_v6 = pattern.version() == Some(IpVersion::V6);
        let refuse = |what: &str| Err(format!("profile {} cannot match {what}", self.kind));
        if is_v6 && !self.ipv6 {
            return refuse("IPv6");
        }
        let has = |wanted: fn(&Condition) -> bool| pattern.conditions().iter().any(wanted);
        let ports = has(|c| matches!(c, Condition::Port(_) | Condition::DestinationPort(_) | Condition::SourcePort(_)));
        let sided = has(|c| matches!(c, Condition::DestinationPort(_) | Condition::SourcePort(_)));
        let upper =
            ports || has(|c| matches!(c, Condition::IcmpType(_) | Condition::IcmpCode(_) | Condition::TcpFlags(_)));
        if ports && !self.ports_with_fragment && has(|c| matches!(c, Condition::Fragment(_))) {
            return refuse("ports together with fragment flags");
        }
        if sided && !self.port_with_others && has(|c| matches!(c, Condition::Port(_))) {
            return refuse("port together with source-port or destination-port");
        }
        if upper && self.needs_protocol && !has(|c| matches!(c, Condition::Protocol(_))) {
            return refuse("ports, ICMP or TCP flags without a protocol");
        }
        for condition in pattern.conditions() {
            match condition {
                Condition::Source(..) if !self.source => return refuse("source prefixes"),
                Condition::Length(set) => {
                    if !(if is_v6 { self.length.1 } else { self.length.0 }) {
                        return refuse("the packet length");
                    }
                    if set.as_slice().iter().any(|r| r.0 > self.longest) {
                        return refuse("such packet lengths");
                    }
                }
                Condition::TcpFlags(bits) => self.check_tcp_flags(bits)?,
                Condition::Fragment(bits) => self.check_fragment(bits)?,
                Condition::Destination(_, offset) | Condition::Source(_, offset) if *offset > 0 => {
                    return Err("IPv6 prefix offsets are read in three incompatible ways: never sent".to_owned());
                }
                Condition::Destination(..)
                | Condition::Source(..)
                | Condition::Protocol(_)
                | Condition::Port(_)
                | Condition::DestinationPort(_)
                | Condition::SourcePort(_)
                | Condition::IcmpType(_)
                | Condition::IcmpCode(_)
                | Condition::Dscp(_)
                | Condition::FlowLabel(_) => {}
            }
        }
        Ok(())
    }

    fn check_tcp_flags(&self, bits: &Bits) -> Result<(), String> {
        if !self.tcp_flags {
            return Err(format!("profile {} cannot match TCP flags", self.kind));
        }
        for test in bits.as_slice() {
            if test.mask & !0x3f != 0 && !self.tcp_flags_extended {
                return Err(format!("profile {} cannot match the TCP flags ECE and CWR", self.kind));
            }
            if test.negate && !self.tcp_flags_negation {
                return Err(format!("profile {} cannot match clear TCP flags", self.kind));
            }
        }
        Ok(())
    }

    fn check_fragment(&self, bits: &Bits) -> Result<(), String> {
        let used = bits.as_slice().iter().fold(0, |used, test| used | test.mask);
        let allowed = match self.fragment {
            FragmentSupport::None => 0,
            FragmentSupport::IsFragment => 0x02,
            FragmentSupport::NoLast => 0x06,
            FragmentSupport::All => 0x0e,
        } | if self.dont_fragment && self.fragment > FragmentSupport::None { 0x01 } else { 0 };
        if used & !allowed == 0 {
            Ok(())
        } else {
            Err(format!("profile {} cannot match these fragment flags", self.kind))
        }
    }

    fn check_actions(&self, actions: &[Action]) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("profile {} does not know {what}", self.kind));
        let has_bytes = actions.iter().any(|a| matches!(a, Action::RateLimitBytes(_) | Action::Discard));
        for action in actions {
            match action {
                // A router that does not know it passes everything; with a limit in bytes beside it that one counts.
                Action::RateLimitPackets(_) if !self.rate_packets && !has_bytes => {
                    return refuse("rate limits in packets");
                }
                Action::RedirectAs4 { .. } if !self.redirect_as4 => {
                    return refuse("redirection to a 4-octet AS (flowspec_redirect_as4)");
                }
                Action::RedirectToNextHop { .. } if !self.redirect_to_next_hop => {
                    return refuse("redirection in the older form (flowspec_redirect_to_next_hop)");
                }
                Action::Accept
                | Action::Discard
                | Action::RateLimitBytes(_)
                | Action::RateLimitPackets(_)
                | Action::RedirectAs2 { .. }
                | Action::RedirectIpv4 { .. }
                | Action::RedirectAs4 { .. }
                | Action::RedirectToIp(_)
                | Action::CopyToIp(_)
                | Action::RedirectToNextHop { .. }
                | Action::Mark(_)
                | Action::TrafficAction { .. } => {}
            }
        }
        Ok(())
    }

    /// The match bit as the router wants it, where the meaning allows it.
    fn spell(&self, pattern: &Pattern) -> Pattern {
        let conditions = pattern.conditions().iter().map(|condition| {
            if let Condition::TcpFlags(bits) = condition {
                Condition::TcpFlags(with_match_bit(bits, self.tcp_flags_match_bit))
            } else if let Condition::Fragment(bits) = condition {
                Condition::Fragment(with_match_bit(bits, self.fragment_match_bit))
            } else {
                condition.clone()
            }
        });
        Pattern::new(conditions.collect()).unwrap_or_else(|_| pattern.clone())
    }

    /// Cuts the values of one numeric condition into as many rules as the limits need.
    fn split(&self, parts: &[Pattern], kind: u8) -> Result<Vec<Pattern>, String> {
        let mut out = Vec::new();
        for part in parts {
            let values = part.conditions().iter().find(|c| c.component_type() == kind).and_then(Condition::values);
            let Some(values) = values else {
                out.push(part.clone());
                continue;
            };
            let values: Vec<(u32, u32)> = if self.ranges {
                values.as_slice().to_vec()
            } else {
                let each = values.as_slice().iter().flat_map(|&(low, high)| (low..=high).map(|v| (v, v)));
                each.take(MAX_SPELLED + 1).collect()
            };
            if values.len() > MAX_SPELLED {
                return Err(format!("profile {} cannot match ranges, and this one has too many values", self.kind));
            }
            let groups = group(&values, self.max_values, self.max_operators);
            if out.len() + groups.len() > MAX_PARTS {
                return Err(format!("the router would need more than {MAX_PARTS} rules for this one"));
            }
            out.extend(groups.into_iter().map(|set| replace(part, kind, set)));
        }
        Ok(out)
    }
}

/// Groups of ranges, in order, that keep both limits; a group has one range at least.
fn group(ranges: &[(u32, u32)], max_values: usize, max_operators: usize) -> Vec<Ranges> {
    let mut groups: Vec<Vec<(u32, u32)>> = Vec::new();
    let mut operators = 0;
    for &range in ranges {
        let cost = if range.0 == range.1 { 1 } else { 2 };
        match groups.last_mut() {
            Some(last) if last.len() < max_values && operators + cost <= max_operators => {
                last.push(range);
                operators += cost;
            }
            _ => {
                groups.push(vec![range]);
                operators = cost;
            }
        }
    }
    groups.into_iter().map(Ranges::union).collect()
}

/// The pattern with other values for one numeric condition.
fn replace(pattern: &Pattern, kind: u8, set: Ranges) -> Pattern {
    let conditions = pattern.conditions().iter().map(|condition| {
        if condition.component_type() == kind { condition.with_values(set.clone()) } else { condition.clone() }
    });
    Pattern::new(conditions.collect()).unwrap_or_else(|_| pattern.clone())
}

/// Halves the longest list of a rule until it fits the octets that routers take.
fn fit(parts: Vec<Pattern>, spelling: Spelling) -> Result<Vec<Pattern>, String> {
    let mut out = Vec::new();
    let mut queue: std::collections::VecDeque<Pattern> = parts.into();
    while let Some(part) = queue.pop_front() {
        let length = nlri::encode_spelled(&part, spelling).map_or_else(
            |e| if e == NlriError::TooLong { Ok(usize::MAX) } else { Err(e.to_string()) },
            |n| Ok(n.len()),
        )?;
        if length <= MAX_SENT {
            out.push(part);
            continue;
        }
        let longest = part.conditions().iter().filter_map(|c| Some((c.values()?.as_slice(), c.component_type())));
        let size = |values: &[(u32, u32)]| match spelling {
            Spelling::Ranges => values.len(),
            Spelling::Values => values.iter().map(|(low, high)| (high - low) as usize + 1).sum(),
        };
        let longest = longest.max_by_key(|(values, kind)| (size(values), *kind)).filter(|(values, _)| size(values) > 1);
        let Some((values, kind)) = longest else {
            return Err("the rule takes more than 239 octets, which several routers answer with a reset".to_owned());
        };
        if queue.len() + out.len() + 2 > MAX_PARTS {
            return Err(format!("the router would need more than {MAX_PARTS} rules for this one"));
        }
        let (low, high) = halves(values);
        queue.push_front(replace(&part, kind, high));
        queue.push_front(replace(&part, kind, low));
    }
    Ok(out)
}

/// A list of ranges cut in two; one range alone is cut in its middle.
fn halves(values: &[(u32, u32)]) -> (Ranges, Ranges) {
    if let [(low, high)] = values[..] {
        let middle = low + (high - low) / 2;
        return (Ranges::union([(low, middle)]), Ranges::union([(middle + 1, high)]));
    }
    let (low, high) = values.split_at(values.len() / 2);
    (Ranges::union(low.iter().copied()), Ranges::union(high.iter().copied()))
}

/// For a single bit "any of" and "all of" are the same test: with the match bit where it is asked for, else as it is.
fn with_match_bit(bits: &Bits, on: bool) -> Bits {
    let tests: Vec<BitTest> = bits
        .as_slice()
        .iter()
        .map(|test| BitTest { all: test.all || (on && test.mask.count_ones() == 1), ..*test })
        .collect();
    Bits::new(tests).unwrap_or_else(|| bits.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(json: &str) -> Pattern {
        let text = format!("{{\"destination_prefix\": \"203.0.113.9/32\", {json}, \"action_type\": \"discard\"}}");
        crate::json::parse(&text).expect("valid").pattern
    }

    fn adapted(kind: Kind, json: &str) -> Result<Vec<String>, String> {
        let parts = Profile::of(kind).adapt(&pattern(json), &[Action::Discard])?;
        Ok(parts.iter().map(|p| p.to_string().replace("destination 203.0.113.9/32 ", "")).collect())
    }

    #[test]
    fn a_router_that_takes_one_port_gets_several_rules() {
        let rules =
            adapted(Kind::SixWind, r#""protocols": ["udp"], "source_ports": [53, 123], "destination_ports": [7, 9]"#);
        assert_eq!(
            rules.expect("cut"),
            [
                "protocol udp destination-port 7 source-port 53",
                "protocol udp destination-port 7 source-port 123",
                "protocol udp destination-port 9 source-port 53",
                "protocol udp destination-port 9 source-port 123"
            ]
        );
        let rate = Profile::of(Kind::SixWind)
            .adapt(&pattern(r#""protocols": ["udp"], "source_ports": [53, 123]"#), &[Action::RateLimitBytes(1000.0)]);
        assert!(rate.expect_err("the rate would count twice").contains("rate"));
    }

    #[test]
    fn operators_and_octets_are_kept_within_the_limits_and_nothing_is_lost() {
        let ports: Vec<String> = (0..100).map(|i| (1000 + 2 * i).to_string()).collect();
        let rule = pattern(&format!("\"protocols\": [\"udp\"], \"source_ports\": [{}]", ports.join(",")));
        for kind in Kind::ALL.map(|(kind, _)| kind).into_iter().filter(|k| *k != Kind::SixWind) {
            let parts = Profile::of(kind).adapt(&rule, &[Action::Discard]).expect("cut");
            let mut all: Vec<(u32, u32)> = Vec::new();
            for part in &parts {
                assert!(nlri::encode(part).expect("encodes").len() <= MAX_SENT, "{kind}");
                all.extend(
                    part.conditions()
                        .iter()
                        .filter(|c| c.component_type() == 6)
                        .filter_map(Condition::values)
                        .flat_map(|v| v.as_slice().to_vec()),
                );
            }
            assert_eq!(all.len(), 100, "{kind}");
        }
        assert!(
            adapted(Kind::SixWind, &format!("\"source_ports\": [{}]", ports.join(","))).is_err(),
            "100 rules are too many"
        );
        let frr = adapted(Kind::Frr, r#""source_ports": ["1-2", "4-5", 7, 9]"#).expect("cut");
        assert_eq!(frr, ["source-port 1-2,4-5,7", "source-port 9"]);
    }

    #[test]
    fn what_a_router_cannot_match_is_refused_and_never_widened() {
        for (kind, json, why) in [
            (
                Kind::Arista,
                r#""source_ports": [53], "fragmentation_flags": ["is-fragment"]"#,
                "ports together with fragment",
            ),
            (Kind::Arista, r#""fragmentation_flags": ["dont-fragment"]"#, "fragment flags"),
            (Kind::Huawei, r#""source_ports": [53]"#, "without a protocol"),
            (Kind::Huawei, r#""fragmentation_flags": ["last-fragment"]"#, "fragment flags"),
            (Kind::Juniper, r#""protocols": ["udp"], "ports": [53], "source_ports": [53]"#, "port together"),
            (Kind::Extreme, r#""protocols": ["tcp"], "tcp_flags": ["cwr"]"#, "ECE and CWR"),
        ] {
            let error = adapted(kind, json).expect_err(json);
            assert!(error.contains(why), "{kind}: {error}");
        }
        let as4 = [Action::RedirectAs4 { asn: 4_200_000_001, value: 1 }];
        let rule = pattern(r#""protocols": ["udp"]"#);
        assert!(Profile::of(Kind::ExaBgp).adapt(&rule, &as4).is_err(), "ends the session of ExaBGP 4.2");
        assert!(Profile::of(Kind::Bird).adapt(&rule, &as4).is_ok());
        assert!(Profile::default().adapt(&rule, &[Action::RateLimitPackets(5.0)]).is_err());
        assert!(Profile::default().adapt(&rule, &[Action::RateLimitPackets(5.0), Action::RateLimitBytes(9.0)]).is_ok());
    }

    #[test]
    fn the_match_bit_is_written_as_the_router_wants_it() {
        let rule =
            pattern(r#""protocols": ["tcp"], "tcp_flags": ["syn|!ack"], "fragmentation_flags": ["is-fragment"]"#);
        let hex = |kind: Kind| {
            let parts = Profile::of(kind).adapt(&rule, &[Action::Discard]).expect("fits");
            nlri::encode(&parts[0]).expect("encodes").iter().map(|o| format!("{o:02x}")).collect::<String>()
        };
        assert_eq!(hex(Kind::Generic), "0120cb007109038106090102c2100c8102");
        assert_eq!(hex(Kind::Huawei), "0120cb007109038106090102c3100c8102");
    }

    #[test]
    fn every_kind_has_a_name_that_reads_back() {
        for (kind, name) in Kind::ALL {
            assert_eq!((name.parse::<Kind>(), kind.to_string().as_str()), (Ok(kind), name));
        }
        assert!("jnuiper".parse::<Kind>().expect_err("misspelt").contains("juniper"));
    }
}
