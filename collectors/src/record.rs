//! A record of a templated flow protocol to [`Sample`]s.
//!
//! Samples of flow telemetry are not packets (decision 9): a record of several packets has no length of its own, its flags
//! are the OR of all, and ports of 0 may hide fragments. What is not exact is not marked as known.

use crate::elements::{Field, Values};
use crate::error::{Reason, Statistics};
use crate::packet::{self, LinkType};
use crate::sample::{Fields, IpVersion, Origin, Sample, Time, protocol};
use crate::template::Sampling;

/// What a record is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: u16,
    pub(crate) sampling: &'a Sampling,
    /// Rate set by the operator for this exporter; wins over all announcements.
    pub(crate) rate_override: Option<u32>,
}

/// Turns a record into one sample per direction that carried traffic, and counts it.
pub(crate) fn emit(values: &Values<'_>, context: &Context<'_>, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    if values.has(Field::Frame) || values.has(Field::IpHeader) {
        return emit_section(values, context, statistics, out);
    }
    let pick = |fields: &[Field]| fields.iter().find_map(|f| values.get(*f)).unwrap_or(0);
    let packets = pick(&[Field::Packets, Field::TotalPackets, Field::InitiatorPackets, Field::PostPackets]);
    let bytes = pick(&[Field::Bytes, Field::TotalBytes, Field::InitiatorBytes, Field::PostBytes, Field::Layer2Bytes]);
    let rate = rate(values, context);
    statistics.record(packets, bytes, rate);
    let back_packets = pick(&[Field::ReversePackets, Field::ResponderPackets]);
    let back_bytes = pick(&[Field::ReverseBytes, Field::ResponderBytes]);
    // Firewall and NAT events describe connections, not traffic.
    if values.has(Field::FirewallEvent) || values.has(Field::NatEvent) {
        return;
    }
    let Some(version) = version(values) else { return };
    let mut sample = Sample::empty(context.now, version, Origin::FlowRecord);
    (sample.source, sample.destination) = (values.source, values.destination);
    sample.exporter = context.exporter;
    sample.sampling_rate = rate;
    sample.known = Fields::ADDRESSES;
    header_fields(values, &mut sample);
    sample.duration_ms = duration_ms(values);
    sample.dropped = values.get(Field::ForwardingStatus).is_some_and(is_dropped);
    if packets > 0 || bytes > 0 {
        out.push(counted(sample, values, packets, bytes));
    }
    if back_packets > 0 || back_bytes > 0 {
        let reversed = Sample {
            source: sample.destination,
            destination: sample.source,
            source_port: sample.destination_port,
            destination_port: sample.source_port,
            ..sample
        };
        out.push(counted(reversed, values, back_packets, back_bytes));
    }
}

/// forwardingStatus (IANA IE 89): the two upper bits are 10 for dropped.
const fn is_dropped(status: u64) -> bool {
    status & 0xc0 == 0x80
}

fn rate(values: &Values<'_>, context: &Context<'_>) -> u32 {
    if let Some(rate) = context.rate_override {
        return rate.max(1);
    }
    let own = values.get(Field::SamplingInterval).or_else(|| values.get(Field::RandomInterval)).unwrap_or(0);
    if own > 0 {
        return u32::try_from(own).unwrap_or(u32::MAX);
    }
    context.sampling.rate(values.get(Field::SamplerId).or_else(|| values.get(Field::SelectorId))).max(1)
}

fn version(values: &Values<'_>) -> Option<IpVersion> {
    if values.has(Field::SourceV6) || values.has(Field::DestinationV6) {
        Some(IpVersion::V6)
    } else if values.has(Field::SourceV4) || values.has(Field::DestinationV4) {
        Some(IpVersion::V4)
    } else {
        None
    }
}

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

/// A sample with its counters, and what they allow to say about single packets.
fn counted(mut sample: Sample, values: &Values<'_>, packets: u64, bytes: u64) -> Sample {
    let packets = packets.max(1);
    let rate = u64::from(sample.sampling_rate);
    sample.packets = packets.saturating_mul(rate);
    sample.bytes = bytes.saturating_mul(rate);
    sample.length = u16::try_from(bytes / packets).unwrap_or(u16::MAX);
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
    sample
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

/// From the first to the last packet, whichever clock the exporter uses.
fn duration_ms(values: &Values<'_>) -> u32 {
    let between = |start: Field, end: Field| Some(values.get(end)?.saturating_sub(values.get(start)?));
    let ms = values
        .get(Field::DurationMillis)
        .or_else(|| values.get(Field::DurationMicros).map(|us| us / 1000))
        .or_else(|| between(Field::FirstUptime, Field::LastUptime))
        .or_else(|| between(Field::StartMillis, Field::EndMillis))
        .or_else(|| between(Field::StartSeconds, Field::EndSeconds).map(|s| s.saturating_mul(1000)))
        // NTP form: seconds in the upper 32 bits (RFC 7011 section 6.1.9).
        .or_else(|| between(Field::StartMicros, Field::EndMicros).map(ntp_to_ms))
        .or_else(|| between(Field::StartNanos, Field::EndNanos).map(ntp_to_ms))
        .unwrap_or(0);
    u32::try_from(ms).unwrap_or(0)
}

const fn ntp_to_ms(span: u64) -> u64 {
    (span >> 32).saturating_mul(1000) + (((span & 0xffff_ffff) * 1000) >> 32)
}

/// A record that carries the beginning of a packet (IPFIX 315, 313; `NetFlow` Lite 104).
fn emit_section(values: &Values<'_>, context: &Context<'_>, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    let rate = rate(values, context);
    let wire = values.get(Field::FrameSize).unwrap_or(0);
    let wire = u32::try_from(wire).unwrap_or(u32::MAX).max(u32::try_from(values.frame.len()).unwrap_or(u32::MAX));
    let link = if values.has(Field::IpHeader) { LinkType::Ip } else { LinkType::Ethernet };
    match packet::parse(link, context.now, values.frame, wire) {
        Ok(mut sample) => {
            statistics.record(1, sample.bytes, rate);
            sample.origin = Origin::SampledPacket;
            sample.exporter = context.exporter;
            sample.sampling_rate = rate;
            sample.packets = u64::from(rate);
            sample.bytes = sample.bytes.saturating_mul(rate.into());
            sample.input_interface = u16::try_from(values.get(Field::InputInterface).unwrap_or(0)).unwrap_or(u16::MAX);
            sample.dropped = values.get(Field::ForwardingStatus).is_some_and(is_dropped);
            out.push(sample);
        }
        Err(_) => {
            statistics.record(1, 0, rate);
            statistics.error(Reason::NotIp);
        }
    }
}
