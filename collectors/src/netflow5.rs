//! `NetFlow` v5 and v7, decoded by `netflow_parser` (decision 21: 11 ns a record is noise there).

use netflow_parser::static_versions::v5::V5;
use netflow_parser::static_versions::v7::V7;

use crate::elements::{Field, Values};
use crate::error::{Reason, Statistics};
use crate::record::{self, Context};
use crate::sample::Sample;
use crate::template::Sampling;

const HEADER: usize = 24;
const V5_RECORD: usize = 48;
const V7_RECORD: usize = 52;

/// One record of either version.
struct Record {
    addresses: [std::net::Ipv4Addr; 2],
    ports: [u16; 2],
    packets: u32,
    bytes: u32,
    first: u32,
    last: u32,
    protocol: u8,
    tos: u8,
    tcp_flags: u8,
    input: u16,
}

/// Decodes a datagram; the count in the header decides, whatever follows.
pub(crate) fn decode(
    version: u16,
    data: &[u8],
    context: &Context<'_>,
    statistics: &mut Statistics,
    out: &mut Vec<Sample>,
) {
    let Some(header) = data.first_chunk::<HEADER>() else { return statistics.error(Reason::TruncatedHeader) };
    let record = if version == 5 { V5_RECORD } else { V7_RECORD };
    let count = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let whole = (data.len() - HEADER) / record;
    if count > whole {
        statistics.error(Reason::BadLength);
    }
    let count = count.min(whole);
    // The crate refuses a datagram whose header counts more records than it holds: give it the ones that are there.
    let mut input = data[2..HEADER + count * record].to_vec();
    input[..2].copy_from_slice(&u16::try_from(count).unwrap_or(0).to_be_bytes());
    // The lower 14 bits are the interval, whatever the mode bits say: some routers leave them 0.
    let interval = if version == 5 { u16::from_be_bytes([header[22], header[23]]) & 0x3fff } else { 0 };
    let sampling = Sampling { general: (interval > 0).then_some(interval.into()), ..Sampling::default() };
    let context = Context { sampling: &sampling, ..*context };
    let records: Option<Vec<Record>> = match version {
        5 => V5::parse_direct(&input).ok().map(|(_, v5)| {
            v5.flowsets
                .iter()
                .map(|f| Record {
                    addresses: [f.src_addr, f.dst_addr],
                    ports: [f.src_port, f.dst_port],
                    packets: f.d_pkts,
                    bytes: f.d_octets,
                    first: f.first,
                    last: f.last,
                    protocol: f.protocol_number,
                    tos: f.tos,
                    tcp_flags: f.tcp_flags,
                    input: f.input,
                })
                .collect()
        }),
        _ => V7::parse_direct(&input).ok().map(|(_, v7)| {
            v7.flowsets
                .iter()
                .map(|f| Record {
                    addresses: [f.src_addr, f.dst_addr],
                    ports: [f.src_port, f.dst_port],
                    packets: f.d_pkts,
                    bytes: f.d_octets,
                    first: f.first,
                    last: f.last,
                    protocol: f.protocol_number,
                    tos: f.tos,
                    tcp_flags: f.tcp_flags,
                    input: f.input,
                })
                .collect()
        }),
    };
    match records {
        Some(records) => records.iter().for_each(|r| emit(r, &context, statistics, out)),
        None if count == 0 => {}
        None => statistics.error(Reason::BadLength),
    }
}

fn emit(record: &Record, context: &Context<'_>, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    let mut values = Values::new();
    let mut set = |field: Field, number: u32| values.number(field, number.into());
    set(Field::SourcePort, record.ports[0].into());
    set(Field::DestinationPort, record.ports[1].into());
    set(Field::Packets, record.packets);
    set(Field::Bytes, record.bytes);
    set(Field::FirstUptime, record.first);
    set(Field::LastUptime, record.last);
    set(Field::Protocol, record.protocol.into());
    set(Field::Tos, record.tos.into());
    set(Field::TcpFlags, record.tcp_flags.into());
    set(Field::InputInterface, record.input.into());
    let [source, destination] = record.addresses.map(|a| a.octets());
    values.set(Field::SourceV4, &source);
    values.set(Field::DestinationV4, &destination);
    record::emit(&values, context, statistics, out);
}
