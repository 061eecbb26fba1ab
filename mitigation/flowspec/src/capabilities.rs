//! [`Capabilities`]: what a router profile can match, applied while mining, not after.

use traffic::Direction;
use traffic::sample::fragment;

use crate::{Condition, Pattern};

/// What the routers can match. The strictest of the `flow_spec_*` switches and of a peer's profile holds (decision 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a capability of its own, named as the switch that sets it")]
pub struct Capabilities {
    /// Source prefixes (`flow_spec_do_not_process_source_address_field` turns it off).
    pub source: bool,
    /// Packet length (`flow_spec_do_not_process_length_field` turns it off).
    pub length: bool,
    /// TCP flags (`flow_spec_do_not_process_tcp_flags_field` turns it off).
    pub tcp_flags: bool,
    /// TCP flag bits that can be matched: all eight, or without ECE and CWR (0x3f).
    pub tcp_flag_bits: u16,
    /// Fragment bits (`flow_spec_do_not_process_ip_fragmentation_flags_field` turns it off).
    pub fragment: bool,
    /// Fragment bits that can be matched: all 0x0f, or is-fragment alone 0x02.
    pub fragment_bits: u16,
    /// The don't-fragment bit (`flow_spec_ignore_do_not_fragment_flag` turns it off); only with `fragment`.
    pub do_not_fragment: bool,
    /// Ranges of ports and lengths (otherwise single values).
    pub ranges: bool,
    /// Several values or ranges in one condition.
    pub lists: bool,
    /// Source and destination port in one rule.
    pub two_ports: bool,
    /// Ports together with fragment bits (`flow_spec_strip_ports_for_fragmented_traffic` turns it off).
    pub ports_with_fragment: bool,
    /// Differentiated services code point.
    pub dscp: bool,
    /// IPv6 flow label.
    pub flow_label: bool,
    /// Ternary entries of one rule at most: a range takes as many as it has aligned blocks, conditions multiply.
    pub max_entries: u32,
}

impl Default for Capabilities {
    /// All that RFC 8955 and 8956 have, within 512 ternary entries a rule. DSCP and flow label are off: senders choose them
    /// freely, and few routers match them.
    fn default() -> Self {
        Self {
            source: true,
            length: true,
            tcp_flags: true,
            tcp_flag_bits: 0xff,
            fragment: true,
            fragment_bits: 0x0f,
            do_not_fragment: true,
            ranges: true,
            lists: true,
            two_ports: true,
            ports_with_fragment: true,
            dscp: false,
            flow_label: false,
            max_entries: 512,
        }
    }
}

impl Capabilities {
    /// What both can match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            source: self.source && other.source,
            length: self.length && other.length,
            tcp_flags: self.tcp_flags && other.tcp_flags,
            tcp_flag_bits: self.tcp_flag_bits & other.tcp_flag_bits,
            fragment: self.fragment && other.fragment,
            fragment_bits: self.fragment_bits & other.fragment_bits,
            do_not_fragment: self.do_not_fragment && other.do_not_fragment,
            ranges: self.ranges && other.ranges,
            lists: self.lists && other.lists,
            two_ports: self.two_ports && other.two_ports,
            ports_with_fragment: self.ports_with_fragment && other.ports_with_fragment,
            dscp: self.dscp && other.dscp,
            flow_label: self.flow_label && other.flow_label,
            max_entries: self.max_entries.min(other.max_entries),
        }
    }

    /// Fragment bits that a condition may look at.
    #[must_use]
    pub fn usable_fragment_bits(&self) -> u16 {
        let without = if self.do_not_fragment { 0 } else { u16::from(fragment::DONT) };
        if self.fragment { self.fragment_bits & !without } else { 0 }
    }

    /// Whether routers with these capabilities can match a rule for a target in this direction: what the miner promises of every
    /// candidate, and the check for rules from elsewhere.
    #[must_use]
    pub fn allow(&self, pattern: &Pattern, direction: Direction) -> bool {
        let has = |kind: u8| pattern.conditions().iter().any(|c| c.component_type() == kind);
        let ports = has(4) || has(5) || has(6);
        let combined = (self.two_ports || !(has(5) && has(6))) && (self.ports_with_fragment || !(ports && has(12)));
        combined
            && entries(pattern) <= u64::from(self.max_entries)
            && pattern.conditions().iter().all(|c| self.allows_condition(c, direction))
    }

    fn allows_condition(&self, condition: &Condition, direction: Direction) -> bool {
        let bits = |bits: &crate::Bits, of: u16| bits.as_slice().iter().all(|t| t.mask & !of == 0);
        match condition {
            Condition::Source(..) => self.source || direction == Direction::Outgoing,
            Condition::Destination(..) | Condition::Protocol(_) => true,
            Condition::Length(set) => self.length && self.allows_numbers(set),
            Condition::Dscp(set) => self.dscp && self.allows_numbers(set),
            Condition::FlowLabel(set) => self.flow_label && self.allows_numbers(set),
            Condition::TcpFlags(set) => self.tcp_flags && bits(set, self.tcp_flag_bits),
            Condition::Fragment(set) => self.fragment && bits(set, self.usable_fragment_bits()),
            Condition::Port(set)
            | Condition::DestinationPort(set)
            | Condition::SourcePort(set)
            | Condition::IcmpType(set)
            | Condition::IcmpCode(set) => self.allows_numbers(set),
        }
    }

    fn allows_numbers(&self, set: &crate::Ranges) -> bool {
        (self.lists || set.as_slice().len() == 1)
            && (self.ranges || set.as_slice().iter().all(|(low, high)| low == high))
    }
}

/// Ternary entries of a rule: the product over its conditions of the aligned blocks that make up each.
#[must_use]
pub fn entries(pattern: &Pattern) -> u64 {
    let of = |condition: &Condition| match condition {
        Condition::Destination(..) | Condition::Source(..) => 1,
        Condition::Protocol(set) | Condition::IcmpType(set) | Condition::IcmpCode(set) => blocks(set, 8),
        // Either port: once for each.
        Condition::Port(set) => 2 * blocks(set, 16),
        Condition::DestinationPort(set) | Condition::SourcePort(set) | Condition::Length(set) => blocks(set, 16),
        Condition::Dscp(set) => blocks(set, 6),
        Condition::FlowLabel(set) => blocks(set, 20),
        Condition::TcpFlags(bits) | Condition::Fragment(bits) => {
            let of = |t: &crate::BitTest| if t.all || t.negate { 1 } else { t.mask.count_ones().max(1) };
            bits.as_slice().iter().map(of).max().unwrap_or(1).into()
        }
    };
    pattern.conditions().iter().map(of).fold(1, u64::saturating_mul)
}

fn blocks(set: &crate::Ranges, bits: u32) -> u64 {
    set.as_slice().iter().map(|&(low, high)| u64::from(range_entries(low, high, bits))).sum()
}

/// Ternary entries (TCAM) of `low..=high` in a field of `bits` bits: the aligned blocks that make it up.
#[must_use]
pub fn range_entries(mut low: u32, high: u32, bits: u32) -> u32 {
    let mut count = 0;
    while low <= high {
        // The largest block that starts here, is aligned and stays inside.
        let mut size = if low == 0 { bits } else { low.trailing_zeros().min(bits) };
        while size > 0 && u64::from(low) + (1u64 << size) - 1 > u64::from(high) {
            size -= 1;
        }
        count += 1;
        match low.checked_add(1 << size) {
            Some(next) if u64::from(low) + (1u64 << size) <= u64::from(high) => low = next,
            _ => break,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_as_many_ternary_entries_as_it_has_aligned_blocks() {
        for (low, high, count) in [(0, 65535, 1), (1024, 65535, 6), (53, 53, 1), (1, 6, 4), (1, 65534, 30), (0, 0, 1)] {
            assert_eq!(range_entries(low, high, 16), count, "{low}-{high}");
        }
        assert_eq!(range_entries(0, 0xff, 8), 1);
    }
}
