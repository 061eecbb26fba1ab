//! A rule in the form of `iptables`, as ACL files have it. What that form cannot say exactly is refused with the reason.

use flowspec::{BitTest, Bits, Condition, Ranges};
use traffic::{IpVersion, Prefix, protocol};

use super::expression;
use super::plan::{Limit, Plan, Verdict};
use super::ruleset::Rule;

/// Lines of one rule at most: hardware tables are small.
const MAX_LINES: usize = 64;
/// FIN, SYN, RST, PSH, ACK, URG: the flags that iptables knows.
const FLAGS: [(u16, &str); 6] = [(1, "FIN"), (2, "SYN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG")];

/// The content of a rule's file; `None` if no packet can match.
pub(super) fn content(rule: &Rule, interface: &str) -> Result<Option<String>, String> {
    let target = target(&rule.plan)?;
    let mut lines = vec![Vec::<String>::new()];
    let protocols = expression::protocols(&rule.pattern, rule.version);
    let conditions = rule.pattern.conditions();
    if let Some(set) = &protocols {
        lines = product(lines, protocol_options(set, rule.version)?)?;
    }
    for condition in conditions {
        lines = product(lines, options(condition, conditions, rule.version)?)?;
    }
    if lines.is_empty() {
        return Ok(None);
    }
    if lines.len() > 1 && (rule.plan.bytes.is_some() || rule.plan.packets.is_some()) {
        return Err("a policer limits one line, and the rule takes several".to_owned());
    }
    let header = match rule.version {
        IpVersion::V4 => "[iptables]",
        IpVersion::V6 => "[ip6tables]",
    };
    let lines = lines.into_iter().map(|mut parts| {
        // Protocol first, as people write it; the parts are in the order of the components otherwise.
        parts.sort_by_key(|p| !p.starts_with("-p ") && !p.starts_with("! -p"));
        let parts: String = parts.iter().filter(|p| !p.is_empty()).map(|p| format!(" {p}")).collect();
        format!("-A FORWARD --in-interface {interface}{parts} {target}\n")
    });
    Ok(Some(format!("{header}\n{}", lines.collect::<String>())))
}

/// Lines that pass management traffic before all rules.
pub(super) fn guards(management: &[Prefix], interface: &str) -> String {
    let mut text = String::new();
    for (version, header) in [(IpVersion::V4, "[iptables]\n"), (IpVersion::V6, "[ip6tables]\n")] {
        let mut of = management.iter().filter(|p| p.version() == version).peekable();
        if of.peek().is_some() {
            text.push_str(header);
        }
        for prefix in of {
            for side in ["-s", "-d"] {
                text.push_str(&format!("-A FORWARD --in-interface {interface} {side} {prefix} -j ACCEPT\n"));
            }
        }
    }
    text
}

fn target(plan: &Plan) -> Result<String, String> {
    if plan.sample {
        return Err("sampling is not possible".to_owned());
    }
    if plan.dscp.is_some() {
        return Err("marking is not possible".to_owned());
    }
    if plan.mark.is_some() {
        return Err("redirection is not possible".to_owned());
    }
    match (plan.bytes, plan.packets, plan.verdict) {
        (_, _, Verdict::GoOn) => Err("evaluation ends at the first match".to_owned()),
        (None, None, Verdict::Drop) => Ok("-j DROP".to_owned()),
        (None, None, Verdict::Accept) => Ok("-j ACCEPT".to_owned()),
        (None, Some(Limit { amount, period: "second" }), Verdict::Accept) => {
            let burst = (amount / 10).max(1);
            Ok(format!("-j POLICE --set-mode pkt --set-rate {amount} --set-burst {burst}"))
        }
        (Some(Limit { amount, period: "second" }), None, Verdict::Accept) if amount % 1000 == 0 => {
            let (rate, burst) = (amount / 1000, (amount / 10_000).max(1));
            Ok(format!("-j POLICE --set-mode KB --set-rate {rate} --set-burst {burst}"))
        }
        (Some(_), Some(_), _) => Err("one policer cannot limit bytes and packets".to_owned()),
        _ => Err("policers count whole packets or 1000 bytes per second".to_owned()),
    }
}

/// Every line with every option.
fn product(lines: Vec<Vec<String>>, options: Vec<String>) -> Result<Vec<Vec<String>>, String> {
    if lines.len() * options.len() > MAX_LINES {
        return Err(format!("it would take more than {MAX_LINES} lines"));
    }
    Ok(lines
        .iter()
        .flat_map(|line| options.iter().map(|option| [&line[..], std::slice::from_ref(option)].concat()))
        .collect())
}

fn protocol_options(set: &Ranges, version: IpVersion) -> Result<Vec<String>, String> {
    let name = |number: u32| match (number, version) {
        (1, IpVersion::V4) => "icmp".to_owned(),
        (58, IpVersion::V6) => "icmpv6".to_owned(),
        (6, _) => "tcp".to_owned(),
        (17, _) => "udp".to_owned(),
        _ => number.to_string(),
    };
    match set.as_slice() {
        [(0, 255..)] => Ok(vec![String::new()]),
        // All but one. Number 0 means all to iptables, so it cannot be told apart.
        [(0, low), (high, 255..)] if *high == low + 2 => Ok(vec![format!("! -p {}", name(low + 1))]),
        [(0, _), ..] => Err("protocol 0 cannot be told from all protocols".to_owned()),
        _ => values(set).map(|all| all.into_iter().map(|p| format!("-p {}", name(p))).collect()),
    }
}

/// Single values, if they are few.
fn values(set: &Ranges) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    for &(low, high) in set.as_slice() {
        if all.len() + (high - low) as usize >= MAX_LINES {
            return Err(format!("it would take more than {MAX_LINES} lines"));
        }
        all.extend(low..=high);
    }
    Ok(all)
}

fn options(condition: &Condition, conditions: &[Condition], version: IpVersion) -> Result<Vec<String>, String> {
    let ranges = |set: &Ranges, prefix: &str| -> Vec<String> {
        let text = |&(low, high): &(u32, u32)| {
            if low == high { format!("{prefix} {low}") } else { format!("{prefix} {low}:{high}") }
        };
        set.as_slice().iter().map(text).collect()
    };
    match condition {
        Condition::Destination(prefix, offset) => address("-d", prefix, *offset),
        Condition::Source(prefix, offset) => address("-s", prefix, *offset),
        Condition::Protocol(_) => Ok(vec![String::new()]),
        // First match wins and both lines end alike: they may overlap.
        Condition::Port(set) => Ok([ranges(set, "--sport"), ranges(set, "--dport")].concat()),
        Condition::DestinationPort(set) => Ok(ranges(set, "--dport")),
        Condition::SourcePort(set) => Ok(ranges(set, "--sport")),
        Condition::IcmpType(set) => {
            let codes =
                conditions.iter().find_map(|c| if let Condition::IcmpCode(codes) = c { Some(codes) } else { None });
            icmp(set, codes, version)
        }
        Condition::IcmpCode(_) if conditions.iter().any(|c| matches!(c, Condition::IcmpType(_))) => {
            Ok(vec![String::new()])
        }
        Condition::IcmpCode(_) => Err("an ICMP code cannot be matched without a type".to_owned()),
        Condition::TcpFlags(bits) => tcp_flags(bits),
        Condition::Length(set) if set.as_slice() == [(0, 0xffff)] => Ok(vec![String::new()]),
        Condition::Length(set) => Ok(ranges(set, "-m length --length")),
        Condition::Dscp(set) if set.as_slice() == [(0, 63)] => Ok(vec![String::new()]),
        Condition::Dscp(set) => Ok(values(set)?.into_iter().map(|v| format!("-m dscp --dscp {v}")).collect()),
        Condition::Fragment(bits) => fragment(bits, version),
        Condition::FlowLabel(_) => Err("flow labels cannot be matched".to_owned()),
    }
}

fn address(option: &str, prefix: &Prefix, offset: u8) -> Result<Vec<String>, String> {
    match offset {
        0 if prefix.length() == 0 => Ok(vec![String::new()]),
        0 => Ok(vec![format!("{option} {prefix}")]),
        _ => Err("IPv6 prefixes with an offset cannot be matched".to_owned()),
    }
}

/// Type and code are one option; a code needs its type.
fn icmp(types: &Ranges, codes: Option<&Ranges>, version: IpVersion) -> Result<Vec<String>, String> {
    let option = match version {
        IpVersion::V4 => "--icmp-type",
        IpVersion::V6 => "--icmpv6-type",
    };
    let mut all = Vec::new();
    for kind in values(types)? {
        match codes {
            None => all.push(format!("{option} {kind}")),
            Some(codes) => all.extend(values(codes)?.into_iter().map(|code| format!("{option} {kind}/{code}"))),
        }
    }
    Ok(all)
}

/// Tests as a disjunction of "these bits set, those clear", the one form of `--tcp-flags`.
fn tcp_flags(bits: &Bits) -> Result<Vec<String>, String> {
    let known: u16 = FLAGS.iter().map(|(bit, _)| bit).sum();
    let mut groups: Vec<Vec<BitTest>> = Vec::new();
    for test in bits.as_slice() {
        match groups.last_mut().filter(|_| test.and) {
            Some(group) => group.push(*test),
            None => groups.push(vec![*test]),
        }
    }
    let mut lines = Vec::new();
    for group in groups {
        let mut options: Vec<(u16, u16)> = vec![(0, 0)];
        for BitTest { negate, all, mask, .. } in group {
            if mask & !known != 0 || mask == 0 {
                return Err("only the flags FIN, SYN, RST, PSH, ACK and URG can be matched".to_owned());
            }
            let single = || (0..16).map(|b| 1u16 << b).filter(move |b| mask & b != 0);
            let tests: Vec<(u16, u16)> = match (all, negate) {
                (true, false) => vec![(mask, 0)],
                (false, true) => vec![(0, mask)],
                (false, false) => single().map(|b| (b, 0)).collect(),
                (true, true) => single().map(|b| (0, b)).collect(),
            };
            options = options.iter().flat_map(|o| tests.iter().map(|t| (o.0 | t.0, o.1 | t.1))).collect();
            options.retain(|(set, clear)| set & clear == 0);
            if options.len() > MAX_LINES {
                return Err(format!("it would take more than {MAX_LINES} lines"));
            }
        }
        lines.extend(options);
    }
    lines.sort_unstable();
    lines.dedup();
    let names = |mask: u16| {
        let found: Vec<&str> = FLAGS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect();
        if found.is_empty() { "NONE".to_owned() } else { found.join(",") }
    };
    Ok(lines.into_iter().map(|(set, clear)| format!("--tcp-flags {} {}", names(set | clear), names(set))).collect())
}

/// `-f` is every fragment but the first; nothing else can be said.
fn fragment(bits: &Bits, version: IpVersion) -> Result<Vec<String>, String> {
    if version == IpVersion::V6 {
        return Err("IPv6 fragments cannot be matched".to_owned());
    }
    // Whole, first, middle, last, each without and with DF.
    let hits =
        protocol::FRAGMENT_CLASSES.map(u16::from).map(|class| [class, class | 1].map(|value| bits.matches(value)));
    match hits {
        [[true, true], [true, true], [true, true], [true, true]] => Ok(vec![String::new()]),
        [[false, false], [false, false], [true, true], [true, true]] => Ok(vec!["-f".to_owned()]),
        [[true, true], [true, true], [false, false], [false, false]] => Ok(vec!["! -f".to_owned()]),
        [[false, false], [false, false], [false, false], [false, false]] => Ok(Vec::new()),
        _ => Err("of fragments only all but the first can be told apart".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowspec::Pattern;

    fn rule(version: IpVersion, conditions: Vec<Condition>) -> Rule {
        let plan = Plan { sample: false, bytes: None, packets: None, dscp: None, mark: None, verdict: Verdict::Drop };
        Rule { id: 1, version, pattern: Pattern::new(conditions).expect("valid"), plan }
    }

    fn text(version: IpVersion, conditions: Vec<Condition>) -> String {
        content(&rule(version, conditions), "swp+").expect("expressible").expect("can match")
    }

    #[test]
    fn the_ntp_rule_is_the_file_of_the_article() {
        let conditions = vec![
            Condition::Destination("192.168.0.1/32".parse().expect("prefix"), 0),
            Condition::Protocol(Ranges::value(17)),
            Condition::SourcePort(Ranges::value(123)),
        ];
        assert_eq!(
            text(IpVersion::V4, conditions),
            "[iptables]\n-A FORWARD --in-interface swp+ -p udp -d 192.168.0.1/32 --sport 123 -j DROP\n"
        );
    }

    #[test]
    fn what_cannot_be_said_exactly_is_refused() {
        let refused =
            |version, condition| content(&rule(version, vec![condition]), "swp+").expect_err("cannot be expressed");
        assert!(refused(IpVersion::V6, Condition::FlowLabel(Ranges::value(5))).contains("flow label"));
        assert!(refused(IpVersion::V4, Condition::Fragment(Bits::any(4))).contains("fragments"));
        assert!(refused(IpVersion::V4, Condition::TcpFlags(Bits::any(0x40))).contains("flags"));
        let ports = Ranges::union((0..100).map(|i| (i * 10, i * 10)));
        assert!(refused(IpVersion::V4, Condition::SourcePort(ports)).contains("64 lines"));
    }

    #[test]
    fn flags_ports_and_lengths_become_lines() {
        let test = |negate, all, mask| BitTest { and: true, negate, all, mask };
        let flags = Bits::new(vec![test(false, true, 2), test(true, true, 0x10)]).expect("tests");
        assert_eq!(
            text(IpVersion::V4, vec![Condition::TcpFlags(flags)]),
            "[iptables]\n-A FORWARD --in-interface swp+ -p tcp --tcp-flags SYN,ACK SYN -j DROP\n"
        );
        let port = Condition::Port(Ranges::value(53));
        let length = Condition::Length(Ranges::range(100, 200).expect("range"));
        let lines = text(IpVersion::V6, vec![port, length]);
        assert_eq!(lines.lines().count(), 5, "{lines}");
        assert!(lines.contains("-p tcp --dport 53 -m length --length 100:200 -j DROP"), "{lines}");
    }
}
