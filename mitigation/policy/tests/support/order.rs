//! RFC 8955 section 5.1 (and RFC 8956 section 4) from the text of the RFC, on octets; and whether some packet matches two rules,
//! shown by such a packet. Written for tests, to judge the product by something that is not the product.

use std::cmp::Ordering;

use flowspec::nlri::FlowNlri;
use flowspec::{Bits, Condition, Pattern, Ranges};
use traffic::IpVersion;

/// A component: its type, and its octets behind the type.
fn components(version: IpVersion, mut data: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((&kind, rest)) = data.split_first() {
        let length = if kind <= 2 {
            let bits = usize::from(rest[0]);
            if version == IpVersion::V4 { 1 + bits.div_ceil(8) } else { 2 + (bits - usize::from(rest[1])).div_ceil(8) }
        } else {
            let mut at = 0;
            loop {
                let operator = rest[at];
                at += 1 + (1 << (operator >> 4 & 3));
                if operator & 0x80 != 0 {
                    break at;
                }
            }
        };
        found.push((kind, &rest[..length]));
        data = &rest[length..];
    }
    found
}

fn bits(octets: &[u8], count: usize) -> Vec<bool> {
    (0..count).map(|i| octets[i / 8] & (0x80 >> (i % 8)) != 0).collect()
}

fn prefixes(version: IpVersion, a: &[u8], b: &[u8]) -> Ordering {
    let split = |p: &[u8]| {
        let (offset, skip) = if version == IpVersion::V4 { (0, 1) } else { (p[1], 2) };
        (offset, p[0], bits(&p[skip..], usize::from(p[0] - offset)))
    };
    let ((offset_a, length_a, bits_a), (offset_b, length_b, bits_b)) = (split(a), split(b));
    // "the lower offset has precedence", then the lowest value of the common bits, then the longer.
    let common = bits_a.len().min(bits_b.len());
    offset_a.cmp(&offset_b).then(bits_a[..common].cmp(&bits_b[..common])).then(length_b.cmp(&length_a))
}

fn strings(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then(b.len().cmp(&a.len()))
}

/// [`Ordering::Less`] if `a` has precedence. Both of one IP version.
pub(crate) fn compare(a: &FlowNlri, b: &FlowNlri) -> Ordering {
    let (x, y) = (components(a.version, &a.octets), components(b.version, &b.octets));
    for i in 0..x.len().max(y.len()) {
        let (Some(&(kind_x, octets_x)), Some(&(kind_y, octets_y))) = (x.get(i), y.get(i)) else {
            // The rule with more components comes first.
            return y.len().cmp(&x.len());
        };
        let order = kind_x.cmp(&kind_y).then_with(|| {
            if kind_x <= 2 { prefixes(a.version, octets_x, octets_y) } else { strings(octets_x, octets_y) }
        });
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Whether a packet that matches both can be shown.
pub(crate) fn meet(a: &Pattern, b: &Pattern) -> bool {
    if a.version() != b.version() {
        return false;
    }
    let all: Vec<&Condition> = a.conditions().iter().chain(b.conditions()).collect();
    let prefixes: Vec<(u8, traffic::Prefix)> = all.iter().filter_map(|c| prefix(c)).collect();
    let apart = |(i, p): (usize, &(u8, traffic::Prefix))| {
        prefixes[..i].iter().any(|q| p.0 == q.0 && !p.1.contains(&q.1) && !q.1.contains(&p.1))
    };
    if prefixes.iter().enumerate().any(apart) {
        return false;
    }
    // Fields that are looked at by themselves: some value fits every condition on it.
    for kind in [3, 7, 8, 10, 11, 13] {
        let sets: Vec<&Ranges> = all.iter().filter(|c| c.component_type() == kind).filter_map(|c| ranges(c)).collect();
        if !sets.is_empty() && !edges(&sets).any(|v| sets.iter().all(|s| s.contains(v))) {
            return false;
        }
    }
    for (kind, top) in [(9, 0x0fff), (12, 0x0f)] {
        let tests: Vec<&Bits> = all.iter().filter(|c| c.component_type() == kind).filter_map(|c| flags(c)).collect();
        if !(0..=top).any(|value| tests.iter().all(|t| t.matches(value))) {
            return false;
        }
    }
    ports_meet(&all)
}

/// `port` looks at both ports: a pair of them has to fit.
fn ports_meet(all: &[&Condition]) -> bool {
    let of = |kind: u8| -> Vec<&Ranges> {
        all.iter().filter(|c| c.component_type() == kind).filter_map(|c| ranges(c)).collect()
    };
    let (either, to, from) = (of(4), of(5), of(6));
    let every: Vec<&Ranges> = either.iter().chain(&to).chain(&from).copied().collect();
    if every.is_empty() {
        return true;
    }
    let fits = |port: u32, sets: &[&Ranges]| sets.iter().all(|s| s.contains(port));
    let sources: Vec<u32> = edges(&every).filter(|p| fits(*p, &from)).collect();
    let destinations: Vec<u32> = edges(&every).filter(|p| fits(*p, &to)).collect();
    sources.iter().any(|s| destinations.iter().any(|d| either.iter().all(|set| set.contains(*s) || set.contains(*d))))
}

/// If anything is in all of some sets, one of their lower edges is.
fn edges<'a>(sets: &'a [&Ranges]) -> impl Iterator<Item = u32> + 'a {
    sets.iter().flat_map(|s| s.as_slice().iter().map(|r| r.0)).chain([0])
}

fn prefix(condition: &Condition) -> Option<(u8, traffic::Prefix)> {
    if let Condition::Destination(prefix, _) | Condition::Source(prefix, _) = condition {
        Some((condition.component_type(), *prefix))
    } else {
        None
    }
}

fn ranges(condition: &Condition) -> Option<&Ranges> {
    if let Condition::Protocol(set)
    | Condition::Port(set)
    | Condition::DestinationPort(set)
    | Condition::SourcePort(set)
    | Condition::IcmpType(set)
    | Condition::IcmpCode(set)
    | Condition::Length(set)
    | Condition::Dscp(set)
    | Condition::FlowLabel(set) = condition
    {
        Some(set)
    } else {
        None
    }
}

fn flags(condition: &Condition) -> Option<&Bits> {
    if let Condition::TcpFlags(bits) | Condition::Fragment(bits) = condition { Some(bits) } else { None }
}
