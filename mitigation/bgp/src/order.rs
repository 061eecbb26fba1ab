//! The order in which routers try FlowSpec rules (RFC 8955 section 5.1, RFC 8956 section 4), and whether two rules can match the
//! same packet. The order is one of octets, so it is asked for rules as a router is sent them: its profile may cut or spell them
//! anew.

use std::cmp::Ordering;

use flowspec::nlri::{self, FlowNlri, Spelling};
use flowspec::profile::Profile;
use flowspec::{Action, Bits, Condition, Pattern, Ranges};
use traffic::IpVersion;

use super::adj_rib_in::Precedence;

/// [`Ordering::Less`] if routers try `a`, as it is encoded, before `b`.
#[must_use]
pub fn compare(a: &Pattern, b: &Pattern) -> Ordering {
    precedence(a, Spelling::Ranges).cmp(&precedence(b, Spelling::Ranges))
}

fn precedence(pattern: &Pattern, spelling: Spelling) -> Option<Precedence> {
    let version = pattern.version().unwrap_or(IpVersion::V4);
    let octets = nlri::encode_spelled(pattern, spelling).ok()?;
    Some(Precedence::of(&FlowNlri { version, octets, pattern: pattern.clone() }))
}

/// Whether a router of this profile tries `first` before `second` wherever both may match. A rule that the router cannot be sent is
/// in nobody's way.
#[must_use]
pub fn goes_first(profile: &Profile, first: (&Pattern, &[Action]), second: (&Pattern, &[Action])) -> bool {
    let parts = |(pattern, actions): (&Pattern, &[Action])| {
        let parts = profile.adapt(pattern, actions).unwrap_or_default();
        parts.into_iter().map(|p| (precedence(&p, profile.spelling()), p)).collect::<Vec<_>>()
    };
    let (first, second) = (parts(first), parts(second));
    first.iter().all(|(a, p)| second.iter().all(|(b, q)| a < b || !may_overlap(p, q)))
}

/// Whether some packet may match both; false only if it is certain that none can.
#[must_use]
pub fn may_overlap(a: &Pattern, b: &Pattern) -> bool {
    if let (Some(x), Some(y)) = (a.version(), b.version())
        && x != y
    {
        return false;
    }
    a.conditions().iter().all(|x| {
        b.conditions().iter().filter(|y| y.component_type() == x.component_type()).all(|y| conditions_overlap(x, y))
    })
}

fn conditions_overlap(a: &Condition, b: &Condition) -> bool {
    match (a, b) {
        (Condition::Destination(p, 0), Condition::Destination(q, 0))
        | (Condition::Source(p, 0), Condition::Source(q, 0)) => p.overlaps(q),
        (Condition::Protocol(x), Condition::Protocol(y))
        | (Condition::DestinationPort(x), Condition::DestinationPort(y))
        | (Condition::SourcePort(x), Condition::SourcePort(y))
        | (Condition::IcmpType(x), Condition::IcmpType(y))
        | (Condition::IcmpCode(x), Condition::IcmpCode(y))
        | (Condition::Length(x), Condition::Length(y))
        | (Condition::Dscp(x), Condition::Dscp(y))
        | (Condition::FlowLabel(x), Condition::FlowLabel(y)) => ranges_overlap(x, y),
        (Condition::TcpFlags(x), Condition::TcpFlags(y)) => bits_overlap(x, y, 0x0fff),
        (Condition::Fragment(x), Condition::Fragment(y)) => bits_overlap(x, y, 0x0f),
        // A packet has two ports: sets that do not meet may still both hold.
        _ => true,
    }
}

fn ranges_overlap(a: &Ranges, b: &Ranges) -> bool {
    a.as_slice().iter().any(|x| b.as_slice().iter().any(|y| x.0.max(y.0) <= x.1.min(y.1)))
}

fn bits_overlap(a: &Bits, b: &Bits, mask: u16) -> bool {
    (0..=mask).any(|value| a.matches(value) && b.matches(value))
}

#[cfg(test)]
mod tests {
    use flowspec::profile::Kind;

    use super::*;

    fn pattern(fields: &str) -> Pattern {
        flowspec::json::parse(&format!("{{{fields}, \"action_type\": \"discard\"}}")).expect("valid").pattern
    }

    #[test]
    fn the_more_specific_goes_first_then_the_lower_address_then_the_rule_with_more_components() {
        let sorted = [
            r#""destination_prefix": "10.0.0.0/8", "source_prefix": "1.1.1.1/32""#,
            r#""destination_prefix": "10.0.0.0/8", "protocols": [6], "destination_ports": [80]"#,
            r#""destination_prefix": "10.0.0.0/8", "protocols": [6]"#,
            r#""destination_prefix": "10.0.0.0/8", "protocols": [17]"#,
            r#""destination_prefix": "10.0.0.0/8""#,
            r#""destination_prefix": "192.0.2.0/24""#,
            r#""source_prefix": "1.1.1.0/24""#,
            r#""source_prefix": "1.1.0.0/16""#,
            r#""protocols": [6]"#,
        ]
        .map(pattern);
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        let host = pattern(r#""destination_prefix": "10.1.2.3/32""#);
        assert_eq!(compare(&host, &sorted[0]), Ordering::Less, "the more specific destination, whatever else there is");
    }

    #[test]
    fn octets_decide_and_the_longer_goes_first_where_they_begin_alike() {
        // 03 01 06 01 11 is longer than 03 81 06 but differs in its first operator already: 01 is less than 81.
        let (one, two) = (pattern(r#""protocols": [6]"#), pattern(r#""protocols": [6, 17]"#));
        assert_eq!(compare(&two, &one), Ordering::Less);
    }

    #[test]
    fn a_profile_that_cuts_a_rule_changes_its_place() {
        let host = r#""destination_prefix": "203.0.113.9/32""#;
        let (web, low) = (r#""ports": ["0-52", "49378-65535"]"#, r#""ports": ["0-51191"], "protocols": ["udp"]"#);
        let accept = pattern(&format!("{host}, {web}"));
        let drop = pattern(&format!("{host}, {low}"));
        let goes_first = |kind, a: &Pattern, b: &Pattern| {
            super::goes_first(&Profile::of(kind), (a, &[Action::Accept]), (b, &[Action::Discard]))
        };
        let no_protocol = pattern(&format!(r#"{host}, "ports": ["0-51191"]"#));
        assert_eq!(compare(&accept, &no_protocol), Ordering::Less, "whole, it goes first");
        assert!(goes_first(Kind::Generic, &accept, &no_protocol));
        assert!(!goes_first(Kind::SixWind, &accept, &no_protocol), "its second part goes behind");
        assert!(!goes_first(Kind::Generic, &accept, &drop), "protocol comes before port");
        let other = pattern(r#""destination_prefix": "203.0.113.8/32", "protocols": ["udp"]"#);
        assert!(goes_first(Kind::Generic, &accept, &other), "they never meet");
        let six = pattern(r#""destination_prefix": "2001:db8::9/128", "ports": [53]"#);
        let nearer = pattern(r#""destination_prefix": "2001:db8::9/128", "protocols": ["udp"]"#);
        assert!(goes_first(Kind::Extreme, &six, &nearer), "neither is sent: no IPv6 there");
    }

    #[test]
    fn rules_overlap_unless_a_common_condition_excludes_it() {
        let dns = pattern(r#""destination_prefix": "10.0.0.1/32", "protocols": ["udp"], "source_ports": [53]"#);
        let long = pattern(r#""destination_prefix": "10.0.0.1/32", "packet_lengths": [">=1000"]"#);
        let ntp = pattern(r#""destination_prefix": "10.0.0.0/8", "protocols": ["udp"], "source_ports": [123]"#);
        let syn = pattern(r#""destination_prefix": "10.0.0.1/32", "protocols": ["tcp"], "tcp_flags": ["syn|!ack"]"#);
        let ack = pattern(r#""destination_prefix": "10.0.0.1/32", "protocols": ["tcp"], "tcp_flags": ["ack"]"#);
        assert!(may_overlap(&dns, &long) && may_overlap(&syn, &long));
        assert!(!may_overlap(&dns, &ntp) && !may_overlap(&syn, &ack) && !may_overlap(&dns, &syn));
    }
}
