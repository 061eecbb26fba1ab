//! A [`Pattern`] as nftables match expressions.
//!
//! A pattern becomes a list of alternatives that exclude each other; a packet matches the pattern exactly when it matches all the
//! expressions of one of them. Nothing is approximated: what RFC 8955 and RFC 8956 say decides, down to packets that lack a field.
//!
//! * Ports exist in TCP and UDP packets with a transport header (RFC 8955 section 4.2.2.4), TCP flags in TCP, type and code in
//!   ICMP or ICMPv6. nftables finds the transport header behind IPv6 extension headers. In a later fragment there is none, but
//!   the kernel reads on all the same where the field is aligned (Linux 6.18, measured): so that is asked first.
//! * `meta l4proto` is the protocol of IPv4 and the upper-layer protocol of IPv6 (RFC 8956 section 3.2).
//! * The length is the IP total length; for IPv6 the payload length and 40.
//! * Fragment bits are classes of packets: whole, first, middle, last, each of IPv4 with and without DF.

use flowspec::{BitTest, Bits, Condition, Pattern, Ranges};
use traffic::protocol::{self, FRAGMENT_CLASSES};
use traffic::{IpVersion, Prefix};

/// Expressions joined by AND, in text.
pub(super) type Conjunction = Vec<String>;

const DONT_FRAGMENT: u16 = 0x01;

/// `ip` or `ip6`.
pub(super) const fn network(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "ip",
        IpVersion::V6 => "ip6",
    }
}

/// The alternatives of a pattern of a family; none if no packet can match.
pub(super) fn alternatives(
    pattern: &Pattern,
    version: IpVersion,
    leave_out: impl Fn(&Condition) -> bool,
) -> Vec<Conjunction> {
    let protocol = match protocols(pattern, version) {
        Some(set) if set.is_empty() => return Vec::new(),
        Some(set) => within("meta l4proto", &set, 0xff),
        None => None,
    };
    let mut all = conditions(pattern, version, leave_out);
    all.iter_mut().for_each(|one| one.splice(0..0, protocol.clone()).for_each(drop));
    all
}

/// As [`alternatives`], without the protocols and without the conditions that the caller has matched already.
pub(super) fn conditions(
    pattern: &Pattern,
    version: IpVersion,
    leave_out: impl Fn(&Condition) -> bool,
) -> Vec<Conjunction> {
    let mut all = vec![Conjunction::from_iter(is_no_later_fragment(pattern, version))];
    for condition in pattern.conditions().iter().filter(|c| !leave_out(c)) {
        let options = condition_alternatives(condition, version);
        all = all.iter().flat_map(|one| options.iter().map(|more| [&one[..], more].concat())).collect();
    }
    all
}

/// What keeps later fragments out where a transport header is read. In IPv6 the offset lies behind extension headers that may be
/// absent; a read that is not aligned takes the kernel's way that looks at it.
fn is_no_later_fragment(pattern: &Pattern, version: IpVersion) -> Option<String> {
    let reads = |c: &Condition| match c {
        Condition::Port(_)
        | Condition::DestinationPort(_)
        | Condition::SourcePort(_)
        | Condition::IcmpType(_)
        | Condition::IcmpCode(_)
        | Condition::TcpFlags(_) => true,
        Condition::Destination(..)
        | Condition::Source(..)
        | Condition::Protocol(_)
        | Condition::Length(_)
        | Condition::Dscp(_)
        | Condition::Fragment(_)
        | Condition::FlowLabel(_) => false,
    };
    let text = match version {
        IpVersion::V4 => "ip frag-off & 0x1fff == 0",
        IpVersion::V6 => "@th,8,16 0-65535",
    };
    pattern.conditions().iter().any(reads).then(|| text.to_owned())
}

/// The protocols that a packet must have one of: those asked for, and those in which the other components exist. `None`: any.
pub(super) fn protocols(pattern: &Pattern, version: IpVersion) -> Option<Ranges> {
    let of_each = |numbers: &[u8]| numbers.iter().map(|n| (u32::from(*n), u32::from(*n))).collect::<Vec<_>>();
    let mut set: Option<Vec<(u32, u32)>> = None;
    for condition in pattern.conditions() {
        let of = match condition {
            Condition::Protocol(ranges) => ranges.as_slice().to_vec(),
            Condition::Port(_) | Condition::DestinationPort(_) | Condition::SourcePort(_) => {
                of_each(&protocol::ROUTERS_MATCH_PORTS)
            }
            Condition::IcmpType(_) | Condition::IcmpCode(_) => of_each(&[protocol::icmp(version)]),
            Condition::TcpFlags(_) => of_each(&[protocol::TCP]),
            Condition::Destination(..)
            | Condition::Source(..)
            | Condition::Length(_)
            | Condition::Dscp(_)
            | Condition::Fragment(_)
            | Condition::FlowLabel(_) => continue,
        };
        set = Some(match set {
            None => of,
            Some(before) => intersect(&before, &of),
        });
    }
    set.map(Ranges::union)
}

fn intersect(a: &[(u32, u32)], b: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x.0.max(y.0), x.1.min(y.1))));
    pairs.filter(|(low, high)| low <= high).collect()
}

fn condition_alternatives(condition: &Condition, version: IpVersion) -> Vec<Conjunction> {
    let one = |text: Option<String>| vec![text.into_iter().collect::<Conjunction>()];
    match condition {
        Condition::Destination(prefix, offset) => one(address("daddr", prefix, *offset)),
        Condition::Source(prefix, offset) => one(address("saddr", prefix, *offset)),
        // With the protocols of the whole pattern.
        Condition::Protocol(_) => one(None),
        Condition::Port(set) => {
            let (source, destination) = (values("th sport", set), values("th dport", set));
            let outside = complement(set, 0xffff);
            match values("th sport", &outside).filter(|_| !outside.is_empty()) {
                Some(not_source) => vec![vec![source], vec![Some(not_source), destination]],
                None => vec![vec![source]],
            }
        }
        .into_iter()
        .map(|texts| texts.into_iter().flatten().collect())
        .collect(),
        Condition::DestinationPort(set) => one(values("th dport", set)),
        Condition::SourcePort(set) => one(values("th sport", set)),
        Condition::IcmpType(set) => one(values("@th,0,8", set)),
        Condition::IcmpCode(set) => one(values("@th,8,8", set)),
        Condition::TcpFlags(bits) => tcp_flags(bits),
        Condition::Length(set) => length(set, version),
        Condition::Dscp(set) => one(match version {
            IpVersion::V4 => within("@nh,8,8 & 0xfc", &shifted(set, 2), 0xfc),
            IpVersion::V6 => within("@nh,0,16 & 0x0fc0", &shifted(set, 6), 0xfc0),
        }),
        Condition::Fragment(bits) => fragment(bits, version),
        Condition::FlowLabel(set) => one(within("@nh,0,32 & 0xfffff", set, 0xf_ffff)),
    }
}

/// `FIELD VALUE`, `FIELD LOW-HIGH` or `FIELD { ... }`.
pub(super) fn values(field: &str, set: &Ranges) -> Option<String> {
    let text = |&(low, high): &(u32, u32)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    match set.as_slice() {
        [] => None,
        [one] => Some(format!("{field} {}", text(one))),
        many => Some(format!("{field} {{ {} }}", many.iter().map(text).collect::<Vec<_>>().join(", "))),
    }
}

/// As [`values`]; nothing where every packet has the field and every value is right.
fn within(field: &str, set: &Ranges, max: u32) -> Option<String> {
    if set.as_slice().first().is_some_and(|&(low, high)| low == 0 && high >= max) { None } else { values(field, set) }
}

/// Left-shifted values. Every second number is missing between them, which no masked field has.
fn shifted(set: &Ranges, by: u32) -> Ranges {
    Ranges::union(set.as_slice().iter().map(|&(low, high)| (low << by, high << by)))
}

fn complement(set: &Ranges, max: u32) -> Ranges {
    let mut gaps = Vec::new();
    let mut next = 0;
    for &(low, high) in set.as_slice() {
        if low > next {
            gaps.push((next, low - 1));
        }
        next = high.saturating_add(1);
    }
    if next <= max {
        gaps.push((next, max));
    }
    Ranges::union(gaps)
}

/// An address inside a prefix; RFC 8956 section 3.1: bits before the offset do not matter.
pub(super) fn address(field: &str, prefix: &Prefix, offset: u8) -> Option<String> {
    let network = network(prefix.version());
    if offset == 0 {
        return match prefix.length() {
            0 => None,
            _ if prefix.is_host() => Some(format!("{network} {field} {}", prefix.address())),
            _ => Some(format!("{network} {field} {prefix}")),
        };
    }
    let ones = |n: u8| if n == 0 { 0 } else { u128::MAX << (128 - u32::from(n)) };
    let mask = ones(prefix.length()) & !ones(offset);
    let text = |bits: u128| std::net::Ipv6Addr::from(bits).to_string();
    Some(format!("{network} {field} & {} == {}", text(mask), text(prefix.bits() & mask)))
}

/// The mask of a prefix length, as an address of the family.
pub(super) fn mask(version: IpVersion, length: u8) -> std::net::IpAddr {
    let bits = if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length)) };
    traffic::sample::address_of(version, bits)
}

fn length(set: &Ranges, version: IpVersion) -> Vec<Conjunction> {
    match version {
        IpVersion::V4 => vec![within("ip length", set, 0xffff).into_iter().collect()],
        IpVersion::V6 => {
            // The field of a rule ends at 65535; a packet of more is longer than any limit in it.
            let payload = set
                .as_slice()
                .iter()
                .filter(|r| r.1 >= 40)
                .map(|&(low, high)| (low.saturating_sub(40), if high == 0xffff { 0xffff } else { high - 40 }));
            let payload = Ranges::union(payload);
            if payload.is_empty() {
                Vec::new()
            } else {
                vec![within("ip6 length", &payload, 0xffff).into_iter().collect()]
            }
        }
    }
}

/// Flags are the last 12 bits of the fourth word's first half (RFC 8955 section 4.2.2.9: the data offset counts as 0).
fn tcp_flags(bits: &Bits) -> Vec<Conjunction> {
    let tests = bits.as_slice();
    let is_conjunction = tests.iter().skip(1).all(|t| t.and);
    if !is_conjunction {
        return match of_values(0xfff, |value| bits.matches(value)) {
            set if set.is_empty() => Vec::new(),
            set => vec![values("@th,96,16 & 0xfff", &set).into_iter().collect()],
        };
    }
    let mut all = Conjunction::new();
    for test in tests {
        match tcp_flag_test(*test) {
            Constant::Always => {}
            Constant::Never => return Vec::new(),
            Constant::Sometimes(text) => all.push(text),
        }
    }
    if all.is_empty() {
        // Every value is right, but there must be one: a TCP header.
        all.push("@th,104,8 0-255".to_owned());
    }
    vec![all]
}

enum Constant {
    Always,
    Never,
    Sometimes(String),
}

fn tcp_flag_test(BitTest { negate, all, mask, .. }: BitTest) -> Constant {
    let visible = mask & 0xfff;
    let constant = if all { visible != mask || mask == 0 } else { visible == 0 };
    if constant {
        let hit = all && mask == 0;
        return if hit == negate { Constant::Never } else { Constant::Always };
    }
    let (field, mask) = if visible <= 0xff { ("@th,104,8", visible) } else { ("@th,96,16", visible) };
    let text = match (all, negate) {
        (true, false) => format!("{field} & {mask:#x} == {mask:#x}"),
        (true, true) => format!("{field} & {mask:#x} != {mask:#x}"),
        (false, false) => format!("{field} & {mask:#x} != 0"),
        (false, true) => format!("{field} & {mask:#x} == 0"),
    };
    Constant::Sometimes(text)
}

/// The values up to `max` for which a test holds.
fn of_values(max: u16, holds: impl Fn(u16) -> bool) -> Ranges {
    Ranges::union((0..=max).filter(|v| holds(*v)).map(|v| (v.into(), v.into())))
}

fn fragment(bits: &Bits, version: IpVersion) -> Vec<Conjunction> {
    match version {
        IpVersion::V4 => fragment_v4(bits),
        IpVersion::V6 => fragment_v6(bits),
    }
}

/// Flags and offset of the IPv4 header are one field: RFC 791's reserved bit, DF, MF, then the offset.
fn fragment_v4(bits: &Bits) -> Vec<Conjunction> {
    const OF_CLASS: [(u32, u32); 4] = [(0, 0), (0x2000, 0x2000), (0x2001, 0x3fff), (1, 0x1fff)];
    let mut ranges = Vec::new();
    for (class, (low, high)) in FRAGMENT_CLASSES.into_iter().map(u16::from).zip(OF_CLASS) {
        for (df, bit) in [(0, 0), (DONT_FRAGMENT, 0x4000)] {
            if bits.matches(class | df) {
                ranges.push((low | bit, high | bit));
            }
        }
    }
    if ranges.is_empty() {
        return Vec::new();
    }
    vec![within("ip frag-off & 0x7fff", &Ranges::union(ranges), 0x7fff).into_iter().collect()]
}

/// A fragment header may be absent, or be there and say that the packet is whole.
fn fragment_v6(bits: &Bits) -> Vec<Conjunction> {
    let [whole, first, middle, last] = FRAGMENT_CLASSES.map(|class| bits.matches(class.into()));
    let offset = |zero: bool| format!("frag frag-off {}", if zero { "0" } else { "!= 0" });
    let more = |more: bool| format!("frag more-fragments {}", u8::from(more));
    let mut all: Vec<Conjunction> = Vec::new();
    if whole && first && middle && last {
        return vec![Conjunction::new()];
    }
    if whole {
        all.push(vec!["exthdr frag missing".to_owned()]);
    }
    for (start, end, is_start) in [(whole, first, true), (last, middle, false)] {
        match (start, end) {
            (true, true) => all.push(vec![offset(is_start)]),
            (true, false) => all.push(vec![offset(is_start), more(false)]),
            (false, true) => all.push(vec![offset(is_start), more(true)]),
            (false, false) => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: IpVersion, conditions: Vec<Condition>) -> Vec<String> {
        let pattern = Pattern::new(conditions).expect("valid");
        alternatives(&pattern, version, |_| false).iter().map(|a| a.join(" ")).collect()
    }

    fn set(ranges: &[(u32, u32)]) -> Ranges {
        Ranges::union(ranges.iter().copied())
    }

    #[test]
    fn the_ntp_rule_reads_as_an_operator_would_write_it() {
        let conditions = vec![
            Condition::Destination("192.168.0.1/32".parse().expect("prefix"), 0),
            Condition::Protocol(Ranges::value(17)),
            Condition::SourcePort(Ranges::value(123)),
        ];
        assert_eq!(
            text(IpVersion::V4, conditions),
            ["meta l4proto 17 ip frag-off & 0x1fff == 0 ip daddr 192.168.0.1 th sport 123"]
        );
    }

    #[test]
    fn ports_need_a_protocol_that_has_them() {
        let sport = || Condition::SourcePort(Ranges::value(53));
        assert_eq!(
            text(IpVersion::V4, vec![sport()]),
            ["meta l4proto { 6, 17 } ip frag-off & 0x1fff == 0 th sport 53"]
        );
        let icmp = Condition::Protocol(Ranges::value(1));
        assert!(text(IpVersion::V4, vec![icmp, sport()]).is_empty(), "no packet has both");
        let port = Condition::Port(set(&[(53, 53), (100, 200)]));
        assert_eq!(
            text(IpVersion::V6, vec![port]),
            [
                "meta l4proto { 6, 17 } @th,8,16 0-65535 th sport { 53, 100-200 }",
                "meta l4proto { 6, 17 } @th,8,16 0-65535 th sport { 0-52, 54-99, 201-65535 } th dport { 53, 100-200 }"
            ]
        );
    }

    #[test]
    fn ipv6_length_counts_the_header_and_fragments_may_lack_theirs() {
        let length = |ranges: &[(u32, u32)]| text(IpVersion::V6, vec![Condition::Length(set(ranges))]);
        assert_eq!(length(&[(0, 100)]), ["ip6 length 0-60"]);
        assert_eq!(length(&[(1000, 65535)]), ["ip6 length 960-65535"]);
        assert!(length(&[(0, 39)]).is_empty());
        let is_fragment = Condition::Fragment(Bits::any(2));
        assert_eq!(text(IpVersion::V6, vec![is_fragment]), ["frag frag-off != 0"]);
        let whole = Condition::Fragment(Bits::set_and_clear(0, 0x0e));
        assert_eq!(
            text(IpVersion::V6, vec![whole.clone()]),
            ["exthdr frag missing", "frag frag-off 0 frag more-fragments 0"]
        );
        assert_eq!(text(IpVersion::V4, vec![whole]), ["ip frag-off & 0x7fff { 0, 16384 }"]);
    }

    #[test]
    fn tcp_flag_tests_keep_their_meaning_and_lists_become_values() {
        let test = |and, negate, all, mask| BitTest { and, negate, all, mask };
        let flags = |tests| text(IpVersion::V4, vec![Condition::TcpFlags(Bits::new(tests).expect("tests"))]);
        assert_eq!(
            flags(vec![test(false, false, true, 2), test(true, true, false, 0x11)]),
            ["meta l4proto 6 ip frag-off & 0x1fff == 0 @th,104,8 & 0x2 == 0x2 @th,104,8 & 0x11 == 0"]
        );
        assert_eq!(
            flags(vec![test(false, false, true, 0x103)]),
            ["meta l4proto 6 ip frag-off & 0x1fff == 0 @th,96,16 & 0x103 == 0x103"]
        );
        assert!(flags(vec![test(false, false, true, 0x1000)]).is_empty(), "the data offset counts as 0");
        let either = flags(vec![test(false, false, false, 0x800), test(false, false, true, 0x400)]);
        assert_eq!(either, ["meta l4proto 6 ip frag-off & 0x1fff == 0 @th,96,16 & 0xfff 1024-4095"]);
    }
}
