//! A record of a templated flow protocol to [`Sample`]s.
//!
//! Samples of flow telemetry are not packets (decision 9): a record of several packets has no length of its own, its flags
//! are the OR of all, and ports of 0 may hide fragments. What is not exact is not marked as known.

use std::sync::PoisonError;

use traffic::sample::{MOST_UNITS, protocol};
use traffic::{Fields, IpVersion, Origin, Sample};

use crate::context::{
    BYTES, Context, FORWARD_SINCE_LAST, PACKETS, SAMPLING, Tally, are_totals, icmp_type_code, is_dropped_status, scaled,
};
use crate::elements::{Field, Places, REACH, Record, Set};
use crate::error::{Aside, Reason, Statistics};
use crate::exporter::{Exporter, RateSource};
use crate::packet::{self, LinkType};
use crate::plan::Template;
use crate::reports::flow_key;
use crate::sampling::Named;
use crate::span::Span;
use crate::totals::Growth;

/// The other direction's counters (RFC 5103, and pairs of initiator and responder).
const REVERSE: Set = Field::ReversePackets.bit()
    | Field::ReverseBytes.bit()
    | Field::ResponderPackets.bit()
    | Field::ResponderBytes.bit();
/// Why a firewall or a NAT exported a record. Elements keep their meaning beside them (RFC 7011 section 8): counters of the time
/// since the last report ([`SINCE_LAST`]) are traffic, sums of a connection are told by its later events again.
const EVENTS: Set = Field::FirewallEvent.bit() | Field::NatEvent.bit();
const SECTIONS: Set = Field::Frame.bit() | Field::IpHeader.bit();

/// Counters of the time since the last report of a flow, with those of RFC 5103's reverse direction.
const SINCE_LAST: Set = FORWARD_SINCE_LAST | Field::ReversePackets.bit() | Field::ReverseBytes.bit();

/// What became of the records of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) records: u32,
    /// Whether a record ended inside a field; what follows it is lost.
    pub(crate) is_cut: bool,
}

/// Turns records that follow each other from `at` on into samples, `most` of them or to the end of `message`.
pub(crate) fn emit_all(
    template: &Template,
    message: &[u8],
    mut at: usize,
    most: usize,
    context: &Context<'_>,
    statistics: &mut Statistics,
    out: &mut Vec<Sample>,
) -> Outcome {
    let (mut records, mut is_cut) = (0u32, false);
    let has_roles = !context.exporter.settings.external_interfaces.is_empty();
    if let (Some(plain), Some((rate, source)), false) = (template.plain(), context.settled, has_roles) {
        let (length, mut tally) = (template.record_length(), Tally::default());
        while (records as usize) < most
            && let Some(octets) = at.checked_sub(REACH).and_then(|start| message.get(start..at + length))
        {
            plain.emit(octets, rate, context, &mut tally, out);
            at += length;
            records += 1;
        }
        statistics.records(tally.records, tally.packets, tally.bytes, rate);
        if records > 0 {
            context.exporter.sampled(rate, source);
        }
        return Outcome { records, is_cut };
    }
    let (mut walked, mut newest) = (Places::NONE, None);
    while (records as usize) < most && message.len() - at >= template.record_length() {
        let Some((length, record)) = template.read(message, at, &mut walked) else {
            is_cut = true;
            break;
        };
        newest = Some(emit(record, context, statistics, out));
        at += length;
        records += 1;
    }
    if let Some((rate, source)) = newest {
        context.exporter.sampled(rate, source);
    }
    Outcome { records, is_cut }
}

/// Turns a record into one sample per direction that carried traffic, and counts it. Returns its sampling rate.
#[inline]
fn emit(
    record: Record<'_>,
    context: &Context<'_>,
    statistics: &mut Statistics,
    out: &mut Vec<Sample>,
) -> (u32, RateSource) {
    let (rate, source) = context.settled.unwrap_or_else(|| find_rate(record, context));
    if record.has_any(SECTIONS) {
        emit_section(record, context, rate, statistics, out);
        return (rate, source);
    }
    let all = units(record, Set::MAX);
    let is_event = record.has_any(EVENTS);
    let among = if is_event { SINCE_LAST } else { Set::MAX };
    let (packets, bytes) = if is_event { units(record, among) } else { all };
    let back = if record.has_any(REVERSE & among) { reverse_units(record, among) } else { (0, 0) };
    if is_event && (packets, bytes, back) == (0, 0, (0, 0)) {
        statistics.record(all.0, all.1, rate);
        statistics.set_aside(Aside::SecurityEvent, all.0, all.1, rate);
        return (rate, source);
    }
    statistics.record(packets, bytes, rate);
    let Some((version, from, to)) = record.addresses() else {
        statistics.set_aside(Aside::NoAddresses, packets, bytes, rate);
        return (rate, source);
    };
    let exporter = context.exporter;
    if !exporter.settings.external_interfaces.is_empty() && is_told_elsewhere(record, exporter) {
        statistics.duplicates += 1;
        return (rate, source);
    }
    let header = Header::of(record, version);
    let counters = Counters::of(record, header.protocol, packets, bytes, rate);
    let span = Span::of(record, context.exported);
    // Written once, where it will lie: a copy of what was just written in small pieces stalls the processor.
    out.push(Sample::empty(context.now, version, Origin::FlowRecord));
    let Some(sample) = out.last_mut() else { return (rate, source) };
    *sample = Sample {
        source: from,
        destination: to,
        time: context.now,
        packets: counters.packets,
        bytes: counters.bytes,
        sampling_rate: rate,
        duration_ms: context.duration_ms(span),
        age_ms: span.age_ms,
        flow_label: header.flow_label,
        exporter: exporter.index,
        input_interface: low16(record.get(Field::InputInterface)),
        source_port: header.source_port,
        destination_port: header.destination_port,
        length: counters.length,
        tcp_flags: header.tcp_flags,
        known: header.known | counters.known,
        version,
        protocol: header.protocol,
        icmp_type: header.icmp_type,
        icmp_code: header.icmp_code,
        dscp: header.dscp,
        fragment: counters.fragment,
        origin: Origin::FlowRecord,
        dropped: is_dropped_status(record.get(Field::ForwardingStatus).unwrap_or(0), exporter),
        router: exporter.settings.router,
        inside: exporter.settings.is_inside,
    };
    if context.follows(span) {
        context.settle(sample, span);
    }
    let mut reverse = if back == (0, 0) { None } else { Some(reverse(sample, record, header.known, back)) };
    let mut is_empty = packets == 0 && bytes == 0;
    if are_totals(record.fields())
        && let Some(totals) = context.totals
    {
        let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_empty {
            let growth = totals.growth(flow_key(sample), span, packets, bytes);
            if growth.since_ms.is_some() {
                statistics.set_aside(Aside::ToldBefore, packets - growth.packets, bytes - growth.bytes, rate);
            }
            is_empty = !leave(sample, growth, rate);
        }
        reverse = reverse.and_then(|mut sample| {
            let growth = totals.growth(flow_key(&sample), span, back.0, back.1);
            leave(&mut sample, growth, rate).then_some(sample)
        });
    }
    if is_empty {
        out.pop();
    }
    out.extend(reverse);
    (rate, source)
}

/// Leaves of a sample of running totals what is new since the report before; false if that is nothing.
fn leave(sample: &mut Sample, growth: Growth, rate: u32) -> bool {
    let Some(since_ms) = growth.since_ms else { return true };
    // Without a counter of packets there was one at least.
    let packets = growth.packets.max(1);
    (sample.packets, sample.bytes) = (scaled(packets, rate), scaled(growth.bytes, rate));
    sample.length = u16::try_from(growth.bytes / packets).unwrap_or(u16::MAX);
    sample.duration_ms = sample.duration_ms.min(since_ms);
    growth.packets > 0 || growth.bytes > 0
}

/// Packets and bytes of a record as exported, of the counters `among` these fields.
#[inline]
fn units(record: Record<'_>, among: Set) -> (u64, u64) {
    let or_post = |units: u64, post: Field| if units == 0 { first_of(record, &[post], among) } else { units };
    let (packets, bytes) = (first_of(record, &PACKETS, among), first_of(record, &BYTES, among));
    (or_post(packets, Field::PostPackets), or_post(bytes, Field::PostBytes))
}

/// The first counter that a record carries, of those `among` these fields.
#[inline]
fn first_of(record: Record<'_>, fields: &[Field], among: Set) -> u64 {
    fields.iter().filter(|field| among & field.bit() != 0).find_map(|field| record.get(*field)).unwrap_or(0)
}

/// Packets and bytes of a record's other direction, of the counters `among` these fields.
fn reverse_units(record: Record<'_>, among: Set) -> (u64, u64) {
    let first = |fields: [Field; 2]| first_of(record, &fields, among);
    (first([Field::ReversePackets, Field::ResponderPackets]), first([Field::ReverseBytes, Field::ResponderBytes]))
}

/// The traffic of a record's other direction.
fn reverse(sample: &Sample, record: Record<'_>, known: Fields, (packets, bytes): (u64, u64)) -> Sample {
    let counters = Counters::of(record, sample.protocol, packets, bytes, sample.sampling_rate);
    let mut reverse = Sample {
        source: sample.destination,
        destination: sample.source,
        source_port: sample.destination_port,
        destination_port: sample.source_port,
        packets: counters.packets,
        bytes: counters.bytes,
        length: counters.length,
        fragment: counters.fragment,
        known,
        ..*sample
    };
    // Flags and type are those of the first direction.
    if sample.protocol == protocol::TCP {
        reverse.known = reverse.known.without(Fields::TCP_FLAGS);
        reverse.tcp_flags = 0;
    }
    if matches!(sample.protocol, protocol::ICMP | protocol::ICMPV6) {
        reverse.known = reverse.known.without(Fields::ICMP);
    }
    reverse.known |= counters.known;
    reverse
}

/// Whether another record tells of the same traffic: with roles of interfaces, traffic counts where it crosses an external one,
/// once, at its ingress, or at its egress when the exporter meters egress there.
fn is_told_elsewhere(record: Record<'_>, exporter: &Exporter) -> bool {
    let is_external = |field: Field| {
        let index = record.get(field).and_then(|n| u32::try_from(n).ok());
        index.is_some_and(|index| exporter.settings.external_interfaces.contains(&index))
    };
    let (from_outside, to_outside) = (is_external(Field::InputInterface), is_external(Field::OutputInterface));
    // flowDirection (IE 61): 0 ingress, 1 egress.
    if record.get(Field::FlowDirection) == Some(1) {
        exporter.note_egress();
        return !to_outside;
    }
    !(from_outside || to_outside && !exporter.sends_egress())
}

/// The sampling rate of a record where not all have the same, at least 1: its own, or that of what it names.
fn find_rate(record: Record<'_>, context: &Context<'_>) -> (u32, RateSource) {
    let is_named = record.has_any(SAMPLING);
    if is_named && let Some(rate) = own_rate(record) {
        return (rate, RateSource::Record);
    }
    let interface = |field: Field| record.get(field).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let named = Named {
        sampler: if is_named { record.get(Field::SamplerId).or_else(|| record.get(Field::SelectorId)) } else { None },
        sequence: record.get(Field::SelectionSequence),
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
fn own_rate(record: Record<'_>) -> Option<u32> {
    let number = |field: Field| record.get(field).filter(|n| *n > 0);
    let spaced = || {
        let interval = number(Field::PacketInterval)?;
        Some(spaced_rate(interval, record.get(Field::PacketSpace)?))
    };
    let rate = number(Field::SamplingInterval).or_else(|| number(Field::RandomInterval)).or_else(spaced)?;
    Some(u32::try_from(rate).unwrap_or(u32::MAX))
}

#[allow(clippy::cast_possible_truncation, reason = "masked")]
const fn low8(number: Option<u64>) -> u8 {
    if let Some(number) = number { (number & 0xff) as u8 } else { 0 }
}

#[allow(clippy::cast_possible_truncation, reason = "masked")]
const fn low16(number: Option<u64>) -> u16 {
    if let Some(number) = number { (number & 0xffff) as u16 } else { 0 }
}

/// What a record says of the headers of its packets.
struct Header {
    known: Fields,
    protocol: u8,
    dscp: u8,
    flow_label: u32,
    source_port: u16,
    destination_port: u16,
    tcp_flags: u16,
    icmp_type: u8,
    icmp_code: u8,
}

impl Header {
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "20 bits")]
    fn of(record: Record<'_>, version: IpVersion) -> Self {
        // nextHeaderIPv6 names the protocol where there are no extension headers, which is nearly always.
        let told = record.get(Field::Protocol).or_else(|| record.get(Field::NextHeader));
        let protocol = low8(told);
        let (mut source_port, mut destination_port) = ports(record, protocol);
        let (mut icmp_type, mut icmp_code) = (0, 0);
        let if_has = |field, fields| if record.has(field) { fields } else { Fields::NONE };
        let if_told = |fields| if told.is_some() { fields } else { Fields::NONE };
        let mut known = Fields::ADDRESSES
            | if_told(Fields::PROTOCOL)
            | if_has(Field::Tos, Fields::DSCP)
            | if_has(Field::FlowLabel, Fields::FLOW_LABEL);
        match protocol {
            number if protocol::has_ports(number) => {
                known |= Fields::ICMP;
                // 0 and 0 may be a fragment, or a flow key without ports.
                if source_port != 0 || destination_port != 0 {
                    known |= Fields::PORTS;
                }
            }
            protocol::ICMP | protocol::ICMPV6 => {
                known |= Fields::PORTS | Fields::TCP_FLAGS;
                if let Some((kind, code)) = icmp(record, version) {
                    (icmp_type, icmp_code) = (kind, code);
                    known |= Fields::ICMP;
                }
                (source_port, destination_port) = (0, 0);
            }
            _ => {
                known |= if_told(Fields::PORTS | Fields::ICMP);
                (source_port, destination_port) = (0, 0);
            }
        }
        if protocol != protocol::TCP {
            known |= if_told(Fields::TCP_FLAGS);
        }
        Self {
            known,
            protocol,
            dscp: low8(record.get(Field::Tos)) >> 2,
            flow_label: record.get(Field::FlowLabel).unwrap_or(0) as u32 & 0xf_ffff,
            source_port,
            destination_port,
            tcp_flags: low16(record.get(Field::TcpFlags)) & 0x0fff,
            icmp_type,
            icmp_code,
        }
    }
}

/// The ports of a record of some protocol: those of any, or those of the one (180 to 183), whichever are not 0 and 0.
#[inline]
fn ports(record: Record<'_>, protocol: u8) -> (u16, u16) {
    const OF_ONE: Set = Field::UdpSourcePort.bit()
        | Field::UdpDestinationPort.bit()
        | Field::TcpSourcePort.bit()
        | Field::TcpDestinationPort.bit();
    let of = |[source, destination]: [Field; 2]| (low16(record.get(source)), low16(record.get(destination)));
    let ports = of([Field::SourcePort, Field::DestinationPort]);
    if ports != (0, 0) || !record.has_any(OF_ONE) {
        return ports;
    }
    let udp = of([Field::UdpSourcePort, Field::UdpDestinationPort]);
    let tcp = of([Field::TcpSourcePort, Field::TcpDestinationPort]);
    let (own, other) = if protocol == protocol::TCP { (tcp, udp) } else { (udp, tcp) };
    // Where a template has those of one protocol alone, exporters use them for others as well.
    if own == (0, 0) { other } else { own }
}

/// Type and code of ICMP.
#[inline]
fn icmp(record: Record<'_>, version: IpVersion) -> Option<(u8, u8)> {
    let (four, six) = ([Field::IcmpTypeV4, Field::IcmpCodeV4], [Field::IcmpTypeV6, Field::IcmpCodeV6]);
    let separate = if version == IpVersion::V6 { [six, four] } else { [four, six] };
    if let Some([kind, code]) = separate.into_iter().find(|[kind, _]| record.has(*kind)) {
        return Some((low8(record.get(kind)), low8(record.get(code))));
    }
    let told = icmp_type_code(version).into_iter().find_map(|field| record.get(field))?;
    let [kind, code] = low16(Some(told)).to_be_bytes();
    Some((kind, code))
}

/// The counters of a record in one direction, and what they allow to say about single packets.
struct Counters {
    packets: u64,
    bytes: u64,
    length: u16,
    fragment: u8,
    known: Fields,
}

impl Counters {
    #[inline]
    fn of(record: Record<'_>, protocol: u8, packets: u64, bytes: u64, rate: u32) -> Self {
        let packets = packets.max(1);
        // A division of 32 bits takes half as long.
        let mean = match (u32::try_from(bytes), u32::try_from(packets)) {
            (Ok(bytes), Ok(packets)) => u64::from(bytes / packets),
            _ => bytes / packets,
        };
        let (mut fragment, mut known) = (0, Fields::NONE);
        let (min, max) = (record.get(Field::MinLength), record.get(Field::MaxLength));
        if packets == 1 || (min.is_some() && min == max) {
            known |= Fields::LENGTH;
        }
        if packets == 1 && protocol == protocol::TCP && record.has(Field::TcpFlags) {
            known |= Fields::TCP_FLAGS;
        }
        if packets == 1 && record.has(Field::FragmentOffset) {
            let offset = record.get(Field::FragmentOffset).unwrap_or(0);
            // fragmentFlags (IE 197): bit 1 don't fragment, bit 2 more fragments, from the left of a byte.
            let flags = record.get(Field::FragmentFlags);
            if offset > 0 || flags.is_some() {
                let flags = flags.unwrap_or(0);
                fragment = fragment_bits(offset > 0, flags & 0x20 != 0) | u8::from(flags & 0x40 != 0);
                known |= Fields::FRAGMENT;
            }
        }
        Self {
            packets: scaled(packets, rate),
            bytes: scaled(bytes, rate),
            length: u16::try_from(mean).unwrap_or(u16::MAX),
            fragment,
            known,
        }
    }
}

const fn fragment_bits(later: bool, more: bool) -> u8 {
    use traffic::sample::fragment::{FIRST, IS, LAST};
    match (later, more) {
        (false, false) => 0,
        (false, true) => FIRST,
        (true, true) => IS,
        (true, false) => IS | LAST,
    }
}

/// A record that carries the beginning of a packet (IPFIX 315, 313; `NetFlow` Lite 104).
fn emit_section(
    record: Record<'_>,
    context: &Context<'_>,
    rate: u32,
    statistics: &mut Statistics,
    out: &mut Vec<Sample>,
) {
    let section = record.section();
    let wire = record.get(Field::FrameSize).unwrap_or(0);
    let wire = u32::try_from(wire).unwrap_or(u32::MAX).max(u32::try_from(section.len()).unwrap_or(u32::MAX));
    let link = if record.has(Field::IpHeader) { LinkType::Ip } else { LinkType::Ethernet };
    match packet::parse(link, context.now, section, wire) {
        Ok(mut sample) => {
            statistics.record(1, sample.bytes, rate);
            sample.origin = Origin::SampledPacket;
            sample.exporter = context.exporter.index;
            sample.inside = context.exporter.settings.is_inside;
            sample.router = context.exporter.settings.router;
            sample.sampling_rate = rate;
            sample.packets = u64::from(rate);
            sample.bytes = sample.bytes.saturating_mul(rate.into()).min(MOST_UNITS);
            sample.input_interface = u16::try_from(record.get(Field::InputInterface).unwrap_or(0)).unwrap_or(u16::MAX);
            sample.dropped = is_dropped_status(record.get(Field::ForwardingStatus).unwrap_or(0), context.exporter);
            out.push(sample);
        }
        Err(_) => {
            statistics.record(1, 0, rate);
            statistics.error(Reason::NotIp);
        }
    }
}
