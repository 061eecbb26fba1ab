//! [`Row`]: a sample as the search sees it, and [`Test`]: one condition on it.

use collectors::sample::{protocol, tcp_flags};
use collectors::{Fields, Sample};
use detector::{Bits, Condition, Prefix, Ranges};

/// A field that the search can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Protocol,
    Source,
    DestinationPort,
    SourcePort,
    IcmpType,
    TcpFlags,
    Length,
    Fragment,
}

impl Field {
    /// Smallest value that makes sense.
    pub(super) const fn least(self) -> u16 {
        if matches!(self, Self::Length) { 20 } else { 0 }
    }

    /// Largest value that makes sense.
    pub(super) const fn most(self) -> u16 {
        if matches!(self, Self::IcmpType | Self::Protocol) { 255 } else { u16::MAX }
    }

    /// Routers want the protocol beside these.
    pub(super) const fn needs_protocol(self) -> bool {
        matches!(self, Self::DestinationPort | Self::SourcePort | Self::IcmpType | Self::TcpFlags)
    }
}

/// A sample: fields that are not known exactly are absent, and match nothing (decision 9).
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) is_attack: bool,
    /// Share of its side: packets for the attack, connections and packets for ordinary traffic.
    pub(super) share: f64,
    pub(super) source: u128,
    pub(super) protocol: u8,
    pub(super) flags: Option<u16>,
    ports: Option<(u16, u16)>,
    length: Option<u16>,
    fragment: Option<u16>,
    icmp: Option<u16>,
    known_protocol: bool,
}

impl Row {
    fn new(sample: &Sample, is_attack: bool, share: f64) -> Self {
        let known = |field| sample.known.has(field);
        let whole = !sample.is_later_fragment();
        let has_ports = matches!(sample.protocol, protocol::TCP | protocol::UDP | 33 | 132 | 136);
        Self {
            is_attack,
            share,
            source: sample.source,
            protocol: sample.protocol,
            flags: (sample.protocol == protocol::TCP && whole && known(Fields::TCP_FLAGS)).then_some(sample.tcp_flags),
            ports: (has_ports && whole && known(Fields::PORTS))
                .then_some((sample.source_port, sample.destination_port)),
            length: known(Fields::LENGTH).then_some(sample.length),
            fragment: known(Fields::FRAGMENT).then_some(sample.fragment.into()),
            icmp: (matches!(sample.protocol, protocol::ICMP | protocol::ICMPV6) && whole && known(Fields::ICMP))
                .then_some(sample.icmp_type.into()),
            known_protocol: known(Fields::PROTOCOL),
        }
    }

    /// The value of a numeric field.
    pub(super) fn number(&self, field: Field) -> Option<u16> {
        match field {
            Field::Protocol => self.known_protocol.then_some(self.protocol.into()),
            Field::DestinationPort => self.ports.map(|p| p.1),
            Field::SourcePort => self.ports.map(|p| p.0),
            Field::IcmpType => self.icmp,
            Field::Length => self.length,
            Field::Source | Field::TcpFlags | Field::Fragment => None,
        }
    }
}

/// Attack and ordinary traffic as rows. A SYN of ordinary traffic stands for a whole connection: dropping it drops the rest.
#[allow(clippy::cast_precision_loss, reason = "shares")]
pub(super) fn rows(sample: &[&Sample], ordinary: &[&Sample]) -> Vec<Row> {
    let packets: f64 = sample.iter().map(|s| s.packets as f64).sum();
    let mut rows: Vec<Row> = sample.iter().map(|s| Row::new(s, true, s.packets as f64 / packets.max(1.0))).collect();
    let is_tcp = |s: &&&Sample| s.protocol == protocol::TCP;
    let is_syn =
        |s: &Sample| s.protocol == protocol::TCP && s.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    let tcp = ordinary.iter().filter(is_tcp).count() as f64;
    let syn = ordinary.iter().filter(|s| is_syn(s)).count() as f64;
    let weight = |s: &Sample| if is_syn(s) { (tcp / syn.max(1.0)).clamp(1.0, 50.0) } else { 1.0 };
    let total: f64 = ordinary.iter().map(|s| weight(s)).sum();
    rows.extend(ordinary.iter().map(|s| Row::new(s, false, weight(s) / total.max(1.0))));
    rows
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    /// A numeric field from low to high, both included.
    Range(Field, u16, u16),
    /// The source prefix.
    Source(Prefix),
    /// TCP flags.
    TcpFlags(Bits),
    /// Fragment bits.
    Fragment(Bits),
}

impl Test {
    pub(super) fn protocol(number: u8) -> Self {
        Self::Range(Field::Protocol, number.into(), number.into())
    }

    pub(super) const fn field(&self) -> Field {
        match self {
            Self::Range(field, ..) => *field,
            Self::Source(_) => Field::Source,
            Self::TcpFlags(_) => Field::TcpFlags,
            Self::Fragment(_) => Field::Fragment,
        }
    }

    pub(super) fn matches(&self, row: &Row) -> bool {
        match self {
            Self::Range(field, low, high) => row.number(*field).is_some_and(|v| *low <= v && v <= *high),
            Self::Source(prefix) => prefix.contains_bits(prefix.version(), row.source),
            Self::TcpFlags(bits) => row.flags.is_some_and(|f| bits.matches(f)),
            Self::Fragment(bits) => row.fragment.is_some_and(|f| bits.matches(f)),
        }
    }

    const fn is_protocol(&self, numbers: &[u8]) -> bool {
        let Self::Range(Field::Protocol, low, _) = self else { return false };
        let mut i = 0;
        while i < numbers.len() {
            if numbers[i] as u16 == *low {
                return true;
            }
            i += 1;
        }
        false
    }

    pub(super) const fn has_ports(&self) -> bool {
        self.is_protocol(&[protocol::TCP, protocol::UDP, 33, 132, 136])
    }

    pub(super) const fn is_tcp(&self) -> bool {
        self.is_protocol(&[protocol::TCP])
    }

    pub(super) const fn is_icmp(&self) -> bool {
        self.is_protocol(&[protocol::ICMP, protocol::ICMPV6])
    }

    /// How much it adds to the length of a rule.
    pub(super) fn length(&self) -> f64 {
        match self {
            Self::Range(Field::Protocol, ..) => 1.0,
            Self::Range(Field::IcmpType, ..) => 1.5,
            Self::Range(_, low, high) if low == high => 2.0,
            Self::Range(Field::Length, ..) => 3.5,
            Self::Range(..) => 5.0,
            Self::TcpFlags(_) => 2.0,
            Self::Fragment(_) => 1.0,
            Self::Source(prefix) => 2.0 + f64::from(prefix.length()) / 16.0,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Range(field, low, high) => {
                let set = Ranges::union([(u32::from(*low), u32::from(*high))]);
                match field {
                    Field::Protocol => Condition::Protocol(set),
                    Field::DestinationPort => Condition::DestinationPort(set),
                    Field::SourcePort => Condition::SourcePort(set),
                    Field::IcmpType => Condition::IcmpType(set),
                    Field::Length | Field::Source | Field::TcpFlags | Field::Fragment => Condition::Length(set),
                }
            }
            Self::Source(prefix) => Condition::Source(*prefix, 0),
            Self::TcpFlags(bits) => Condition::TcpFlags(bits.clone()),
            Self::Fragment(bits) => Condition::Fragment(bits.clone()),
        }
    }
}
