//! A record of a templated flow protocol to [`Sample`]s.
//!
//! Samples of flow telemetry are not packets (decision 9): a record of several packets has no length of its own, its flags
//! are the OR of all, and ports of 0 may hide fragments. What is not exact is not marked as known.

use crate::config::Vantage;
use crate::elements::{Field, Values};
use crate::error::{Reason, Statistics};
use crate::exporter::{Exporter, RateSource};
use crate::packet::{self, LinkType};
use crate::sample::{Fields, MOST_UNITS, Origin, Sample, Time, protocol};
use crate::template::{Named, Sampling};

/// What a record is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: &'a Exporter,
    pub(crate) sampling: &'a Sampling,
    /// Where `sampling` came from.
    pub(crate) source: RateSource,
    /// When the message was exported.
    pub(crate) exported: Exported,
}

/// When a message was exported, by the exporter's clocks as its header tells them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exported {
    /// Milliseconds since the exporter started (`NetFlow`).
    pub(crate) uptime_ms: Option<u32>,
    /// Seconds since the Unix epoch.
    pub(crate) unix_seconds: Option<u32>,
}

/// A record that is said to have waited longer than this says nothing of use: clocks differ.
const LONGEST_AGE_MS: u64 = 3_600_000;

/// From the last packet to the export of the record, both by the exporter's clock.
#[inline]
fn age_ms(values: &Values<'_>, exported: Exported) -> u32 {
    let last = || u32::try_from(values.get(Field::LastUptime)?).ok();
    let uptime = || Some(u64::from(exported.uptime_ms?.wrapping_sub(last()?)));
    let unix_ms = exported.unix_seconds.map(|s| u64::from(s) * 1000);
    let since = |end: u64| unix_ms.map(|now| now.saturating_sub(end));
    let millis = || values.get(Field::EndMillis).and_then(since);
    let seconds = || values.get(Field::EndSeconds).and_then(|s| since(s.saturating_mul(1000)));
    let age = uptime().or_else(millis).or_else(seconds).unwrap_or(0);
    if age > LONGEST_AGE_MS { 0 } else { u32::try_from(age).unwrap_or(0) }
}

const PACKETS: [Field; 4] = [Field::Packets, Field::TotalPackets, Field::InitiatorPackets, Field::PostPackets];
const BYTES: [Field; 5] =
    [Field::Bytes, Field::TotalBytes, Field::InitiatorBytes, Field::PostBytes, Field::Layer2Bytes];
/// The other direction's counters (RFC 5103, and pairs of initiator and responder).
const REVERSE: u64 = Field::ReversePackets.bit()
    | Field::ReverseBytes.bit()
    | Field::ResponderPackets.bit()
    | Field::ResponderBytes.bit();
/// Fields by which a record says how it was sampled.
const SAMPLING: u64 = Field::SamplingInterval.bit()
    | Field::RandomInterval.bit()
    | Field::PacketInterval.bit()
    | Field::SamplerId.bit()
    | Field::SelectorId.bit()
    | Field::SelectionSequence.bit();
/// Firewall and NAT events describe connections, not traffic.
const EVENTS: u64 = Field::FirewallEvent.bit() | Field::NatEvent.bit();
const SECTIONS: u64 = Field::Frame.bit() | Field::IpHeader.bit();

/// Turns a record into one sample per direction that carried traffic, and counts it.
#[inline]
pub(crate) fn emit(values: &Values<'_>, context: &Context<'_>, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    if values.has_any(SECTIONS) {
        return emit_section(values, context, statistics, out);
    }
    let pick = |fields: &[Field]| fields.iter().find_map(|f| values.get(*f)).unwrap_or(0);
    let (packets, bytes) = (pick(&PACKETS), pick(&BYTES));
    let (rate, _) = find_rate(values, context);
    statistics.record(packets, bytes, rate);
    if values.has_any(EVENTS) {
        return;
    }
    let Some((version, source, destination)) = values.addresses() else { return };
    if !context.exporter.settings.external_interfaces.is_empty() && is_told_elsewhere(values, context.exporter) {
        statistics.duplicates += 1;
        return;
    }
    let mut sample = Sample::empty(context.now, version, Origin::FlowRecord);
    (sample.source, sample.destination) = (source, destination);
    sample.exporter = context.exporter.index;
    sample.sampling_rate = rate;
    sample.known = Fields::ADDRESSES;
    header_fields(values, &mut sample);
    sample.duration_ms = duration_ms(values, context.sampling.active_timeout);
    sample.age_ms = age_ms(values, context.exported);
    sample.inside = context.exporter.settings.is_inside;
    sample.router = context.exporter.settings.router;
    sample.dropped = is_dropped(values, context.exporter);
    if values.has_any(REVERSE) {
        emit_reverse(sample, values, out);
    }
    if packets > 0 || bytes > 0 {
        count(&mut sample, values, packets, bytes);
        out.push(sample);
    }
}

/// The traffic of a record's other direction.
fn emit_reverse(mut sample: Sample, values: &Values<'_>, out: &mut Vec<Sample>) {
    let first = |fields: [Field; 2]| fields.iter().find_map(|f| values.get(*f)).unwrap_or(0);
    let packets = first([Field::ReversePackets, Field::ResponderPackets]);
    let bytes = first([Field::ReverseBytes, Field::ResponderBytes]);
    if packets == 0 && bytes == 0 {
        return;
    }
    std::mem::swap(&mut sample.source, &mut sample.destination);
    std::mem::swap(&mut sample.source_port, &mut sample.destination_port);
    // Flags and type are those of the first direction.
    if sample.protocol == protocol::TCP {
        sample.known = sample.known.without(Fields::TCP_FLAGS);
        sample.tcp_flags = 0;
    }
    if matches!(sample.protocol, protocol::ICMP | protocol::ICMPV6) {
        sample.known = sample.known.without(Fields::ICMP);
    }
    count(&mut sample, values, packets, bytes);
    out.push(sample);
}

/// Whether another record tells of the same traffic: with roles of interfaces, traffic counts where it crosses an external one,
/// once, at its ingress, or at its egress when the exporter meters egress there.
fn is_told_elsewhere(values: &Values<'_>, exporter: &Exporter) -> bool {
    let is_external = |field: Field| {
        let index = values.get(field).and_then(|n| u32::try_from(n).ok());
        index.is_some_and(|index| exporter.settings.external_interfaces.contains(&index))
    };
    let (from_outside, to_outside) = (is_external(Field::InputInterface), is_external(Field::OutputInterface));
    // flowDirection (IE 61): 0 ingress, 1 egress.
    if values.get(Field::FlowDirection) == Some(1) {
        exporter.note_egress();
        return !to_outside;
    }
    !(from_outside || to_outside && !exporter.sends_egress())
}

/// forwardingStatus (IANA IE 89): the two upper bits are 10 for dropped. Where telemetry stands before the filter, or behind it,
/// the exporter's word on dropping does not matter (decision 8).
fn is_dropped(values: &Values<'_>, exporter: &Exporter) -> bool {
    exporter.settings.vantage == Vantage::Auto
        && values.get(Field::ForwardingStatus).is_some_and(|status| status & 0xc0 == 0x80)
}

/// Remembers the sampling in force, after the last record of a set.
pub(crate) fn note_rate(values: &Values<'_>, context: &Context<'_>) {
    let (rate, source) = find_rate(values, context);
    context.exporter.sampled(rate, source);
}

/// The sampling rate of a record, at least 1: the operator's, its own, that of what it names.
#[inline]
fn find_rate(values: &Values<'_>, context: &Context<'_>) -> (u32, RateSource) {
    if let Some(rate) = context.exporter.settings.rate {
        return (rate.max(1), RateSource::Override);
    }
    let is_named = values.has_any(SAMPLING);
    if is_named && let Some(rate) = own_rate(values) {
        return (rate, RateSource::Record);
    }
    if !is_named && context.sampling.is_uniform() {
        return context.sampling.rate(Named::default()).map_or((1, RateSource::None), |r| (r.max(1), context.source));
    }
    let interface = |field: Field| values.get(field).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let named = Named {
        sampler: if is_named { values.get(Field::SamplerId).or_else(|| values.get(Field::SelectorId)) } else { None },
        sequence: values.get(Field::SelectionSequence),
        interfaces: [interface(Field::InputInterface), interface(Field::OutputInterface)],
    };
    match context.sampling.rate(named) {
        Some(rate) => (rate.max(1), context.source),
        None => (1, RateSource::None),
    }
}

/// N of 1:N of a sampler that takes `interval` packets and leaves out `space` (RFC 5477 section 8.2), whatever they claim.
pub(crate) const fn spaced_rate(interval: u64, space: u64) -> u64 {
    interval.saturating_add(space) / interval
}

/// What a data record says itself.
fn own_rate(values: &Values<'_>) -> Option<u32> {
    let number = |field: Field| values.get(field).filter(|n| *n > 0);
    let spaced = || {
        let interval = number(Field::PacketInterval)?;
        Some(spaced_rate(interval, values.get(Field::PacketSpace)?))
    };
    let rate = number(Field::SamplingInterval).or_else(|| number(Field::RandomInterval)).or_else(spaced)?;
    Some(u32::try_from(rate).unwrap_or(u32::MAX))
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "fields are masked to their width")]
fn header_fields(values: &Values<'_>, sample: &mut Sample) {
    let number = |field: Field| values.get(field).unwrap_or(0);
    sample.input_interface = number(Field::InputInterface) as u16;
    if values.has(Field::Protocol) {
        sample.protocol = number(Field::Protocol) as u8;
        sample.known |= Fields::PROTOCOL;
    }
    if values.has(Field::Tos) {
        sample.dscp = (number(Field::Tos) as u8) >> 2;
        sample.known |= Fields::DSCP;
    }
    if values.has(Field::FlowLabel) {
        sample.flow_label = number(Field::FlowLabel) as u32 & 0xf_ffff;
        sample.known |= Fields::FLOW_LABEL;
    }
    let (source, destination) = (number(Field::SourcePort) as u16, number(Field::DestinationPort) as u16);
    match sample.protocol {
        protocol::TCP | protocol::UDP | 33 | 132 | 136 => {
            sample.known |= Fields::ICMP;
            // 0 and 0 may be a fragment, or a flow key without ports.
            if source != 0 || destination != 0 {
                (sample.source_port, sample.destination_port) = (source, destination);
                sample.known |= Fields::PORTS;
            }
        }
        protocol::ICMP | protocol::ICMPV6 => {
            sample.known |= Fields::PORTS | Fields::TCP_FLAGS;
            icmp(values, sample, destination);
        }
        _ if values.has(Field::Protocol) => sample.known |= Fields::PORTS | Fields::ICMP,
        _ => {}
    }
    sample.tcp_flags = number(Field::TcpFlags) as u16 & 0x0fff;
    if sample.protocol != protocol::TCP && values.has(Field::Protocol) {
        sample.known |= Fields::TCP_FLAGS;
    }
}

/// Type and code: elements of their own, or, as routers have always done it, the destination port.
#[allow(clippy::cast_possible_truncation, reason = "two bytes taken apart")]
fn icmp(values: &Values<'_>, sample: &mut Sample, destination_port: u16) {
    let both = values
        .get(Field::IcmpTypeCode)
        .or_else(|| values.has(Field::DestinationPort).then_some(u64::from(destination_port)));
    if let Some(kind) = values.get(Field::IcmpType) {
        (sample.icmp_type, sample.icmp_code) = (kind as u8, values.get(Field::IcmpCode).unwrap_or(0) as u8);
    } else if let Some(both) = both {
        (sample.icmp_type, sample.icmp_code) = ((both >> 8) as u8, both as u8);
    } else {
        return;
    }
    sample.known |= Fields::ICMP;
}

/// The counters of a sample, and what they allow to say about single packets.
#[inline]
fn count(sample: &mut Sample, values: &Values<'_>, packets: u64, bytes: u64) {
    let packets = packets.max(1);
    let rate = u64::from(sample.sampling_rate);
    sample.packets = packets.saturating_mul(rate).min(MOST_UNITS);
    sample.bytes = bytes.saturating_mul(rate).min(MOST_UNITS);
    // A division of 32 bits takes half as long.
    let mean = match (u32::try_from(bytes), u32::try_from(packets)) {
        (Ok(bytes), Ok(packets)) => u64::from(bytes / packets),
        _ => bytes / packets,
    };
    sample.length = u16::try_from(mean).unwrap_or(u16::MAX);
    let (min, max) = (values.get(Field::MinLength), values.get(Field::MaxLength));
    if packets == 1 || (min.is_some() && min == max) {
        sample.known |= Fields::LENGTH;
    }
    if packets == 1 && sample.protocol == protocol::TCP && values.has(Field::TcpFlags) {
        sample.known |= Fields::TCP_FLAGS;
    }
    if packets == 1 && values.has(Field::FragmentOffset) {
        let offset = values.get(Field::FragmentOffset).unwrap_or(0);
        // fragmentFlags (IE 197): bit 1 don't fragment, bit 2 more fragments, from the left of a byte.
        let flags = values.get(Field::FragmentFlags);
        if offset > 0 || flags.is_some() {
            let flags = flags.unwrap_or(0);
            let more = flags & 0x20 != 0;
            sample.fragment = fragment_bits(offset > 0, more) | if flags & 0x40 != 0 { 1 } else { 0 };
            sample.known |= Fields::FRAGMENT;
        }
    }
}

const fn fragment_bits(later: bool, more: bool) -> u8 {
    use crate::sample::fragment::{FIRST, IS, LAST};
    match (later, more) {
        (false, false) => 0,
        (false, true) => FIRST,
        (true, true) => IS,
        (true, false) => IS | LAST,
    }
}

/// From the first to the last packet, whichever clock the exporter uses; at most its active timeout in seconds, where that is
/// known (0: not), since counters are of the time since the last record.
fn duration_ms(values: &Values<'_>, active_timeout: u32) -> u32 {
    let between = |start: Field, end: Field| Some(values.get(end)?.saturating_sub(values.get(start)?));
    let ms = between(Field::FirstUptime, Field::LastUptime)
        .or_else(|| between(Field::StartMillis, Field::EndMillis))
        .or_else(|| values.get(Field::DurationMillis))
        .or_else(|| values.get(Field::DurationMicros).map(|us| us / 1000))
        .or_else(|| between(Field::StartSeconds, Field::EndSeconds).map(|s| s.saturating_mul(1000)))
        // NTP form: seconds in the upper 32 bits (RFC 7011 section 6.1.9).
        .or_else(|| between(Field::StartMicros, Field::EndMicros).map(ntp_to_ms))
        .or_else(|| between(Field::StartNanos, Field::EndNanos).map(ntp_to_ms))
        .unwrap_or(0);
    let ms = u32::try_from(ms).unwrap_or(0);
    if active_timeout > 0 { ms.min(active_timeout.saturating_mul(1000)) } else { ms }
}

const fn ntp_to_ms(span: u64) -> u64 {
    (span >> 32).saturating_mul(1000) + (((span & 0xffff_ffff) * 1000) >> 32)
}

/// A record that carries the beginning of a packet (IPFIX 315, 313; `NetFlow` Lite 104).
fn emit_section(values: &Values<'_>, context: &Context<'_>, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    let (rate, _) = find_rate(values, context);
    let wire = values.get(Field::FrameSize).unwrap_or(0);
    let wire = u32::try_from(wire).unwrap_or(u32::MAX).max(u32::try_from(values.frame.len()).unwrap_or(u32::MAX));
    let link = if values.has(Field::IpHeader) { LinkType::Ip } else { LinkType::Ethernet };
    match packet::parse(link, context.now, values.frame, wire) {
        Ok(mut sample) => {
            statistics.record(1, sample.bytes, rate);
            sample.origin = Origin::SampledPacket;
            sample.exporter = context.exporter.index;
            sample.inside = context.exporter.settings.is_inside;
            sample.router = context.exporter.settings.router;
            sample.sampling_rate = rate;
            sample.packets = u64::from(rate);
            sample.bytes = sample.bytes.saturating_mul(rate.into()).min(MOST_UNITS);
            sample.input_interface = u16::try_from(values.get(Field::InputInterface).unwrap_or(0)).unwrap_or(u16::MAX);
            sample.dropped = is_dropped(values, context.exporter);
            out.push(sample);
        }
        Err(_) => {
            statistics.record(1, 0, rate);
            statistics.error(Reason::NotIp);
        }
    }
}
