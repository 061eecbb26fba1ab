//! The decoder beside `netflow_parser` and `sflow-parser`, file by file of the corpus: records, option records, bytes, packets.
//! Every difference is known and listed; a file that is listed and agrees fails as well.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use collectors::capture::{Datagrams, Reader};
use collectors::decoder::is_export;
use collectors::{Decoder, Statistics};
use netflow_parser::variable_versions::ipfix::lookup::{IANAIPFixField, IPFixField};
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{FieldValue, NetflowPacket, RouterScopedParser, V9Field};
use traffic::Time;

#[path = "../../tests/support/outside.rs"]
mod outside;

/// A UDP payload of a capture: when, from whom, what.
type Payload = (Time, IpAddr, Vec<u8>);

/// Files in which `netflow_parser` 1.0.6 counts otherwise, and why.
const NETFLOW: &[(&str, &str)] = &[
    ("ipfix_akv_datalink", "the packet is inside the record (315), where the oracle does not look"),
    ("ipfix_netscaler_data_first", "three records wait for their template; the oracle drops them"),
    ("ipfix_pm106_huawei", "an empty variable-length value ends the set for the oracle"),
    ("ipfix_telegraf", "total counters (85, 86), which this test does not ask the oracle for"),
    ("ipfix_telegraf_pen35632", "an empty variable-length value ends the set for the oracle"),
    ("nf5_softflowd", "the header counts two records; the oracle reads the datagrams glued behind them as well"),
    ("nf9_akv_data_plus_templates", "eleven records wait for their template; the oracle drops them"),
    ("nf9_cisco_asa1", "initiator's octets (231), which this test does not ask the oracle for"),
    ("nf9_gl_nprobe4", "seven records wait for their template; the oracle drops them"),
];

/// Files in which `sflow-parser` 0.7 counts otherwise, and why.
const SFLOW: &[(&str, &str)] = &[];

#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    records: u64,
    option_records: u64,
    bytes: u64,
    packets: u64,
}

/// The exports of each capture, by name of the file.
fn exports(corpus: &Path) -> BTreeMap<String, Vec<Payload>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(corpus.join("flows")).expect("corpus folder") {
        let path = entry.expect("entry").path();
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let mut datagrams = Datagrams::default();
        let Ok(reader) = Reader::open(&path) else { continue };
        let payloads = reader.map_while(Result::ok).filter_map(|frame| {
            let datagram = datagrams.extract(frame.link?, &frame)?;
            is_export(&datagram.payload).then_some((frame.time, datagram.source, datagram.payload))
        });
        files.insert(name, payloads.collect());
    }
    files
}

/// What the decoder makes of payloads one by one, without those that waited for a template (the oracles drop them).
fn ours(payloads: &[Payload]) -> (Totals, Statistics) {
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    for (time, exporter, payload) in payloads {
        decoder.datagram(*time, *exporter, payload, &mut samples);
    }
    let statistics = decoder.statistics().clone();
    let totals = Totals {
        records: statistics.records,
        option_records: statistics.option_records,
        bytes: statistics.raw_bytes,
        packets: statistics.raw_packets,
    };
    (totals, statistics)
}

fn number(value: &FieldValue) -> u64 {
    u64::try_from(value)
        .or_else(|_| u32::try_from(value).map(u64::from))
        .or_else(|_| u16::try_from(value).map(u64::from))
        .or_else(|_| u8::try_from(value).map(u64::from))
        .unwrap_or(0)
}

/// What `netflow_parser` makes of them, told apart by exporter and domain as RFC 7011 says.
fn netflow_parser(payloads: &[Payload]) -> Totals {
    let mut parsers: RouterScopedParser<(IpAddr, u16, u32)> = RouterScopedParser::new();
    let mut totals = Totals::default();
    for (_, exporter, payload) in payloads {
        let version = u16::from_be_bytes([payload[0], payload[1]]);
        let at = match version {
            9 => 16,
            10 => 12,
            _ => 0,
        };
        let domain = if at == 0 {
            0
        } else {
            payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().expect("four octets")))
        };
        for packet in parsers.parse_from_source((*exporter, version, domain), payload).packets {
            add(&mut totals, packet);
        }
    }
    totals
}

#[allow(clippy::wildcard_enum_match_arm, reason = "templates and what could not be read hold no records")]
fn add(totals: &mut Totals, packet: NetflowPacket) {
    match packet {
        NetflowPacket::V5(v5) => {
            totals.records += v5.flowsets.len() as u64;
            totals.bytes += v5.flowsets.iter().map(|f| u64::from(f.d_octets)).sum::<u64>();
            totals.packets += v5.flowsets.iter().map(|f| u64::from(f.d_pkts)).sum::<u64>();
        }
        NetflowPacket::V7(v7) => totals.records += v7.flowsets.len() as u64,
        NetflowPacket::V9(message) => {
            for set in message.flowsets {
                match set.body {
                    v9::FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                        totals.records += 1;
                        let first =
                            |field: V9Field| record.iter().find(|(f, _)| *f == field).map_or(0, |(_, v)| number(v));
                        totals.bytes += first(V9Field::InBytes);
                        totals.packets += first(V9Field::InPkts);
                    }),
                    v9::FlowSetBody::OptionsData(data) => totals.option_records += data.fields.len() as u64,
                    _ => {}
                }
            }
        }
        NetflowPacket::IPFix(message) => {
            for set in message.flowsets {
                match set.body {
                    ipfix::FlowSetBody::Data(data) => data.fields.iter().for_each(|record| {
                        totals.records += 1;
                        let first = |field: IANAIPFixField| {
                            record.iter().find(|(f, _)| *f == IPFixField::IANA(field)).map_or(0, |(_, v)| number(v))
                        };
                        totals.bytes += first(IANAIPFixField::OctetDeltaCount);
                        totals.packets += first(IANAIPFixField::PacketDeltaCount);
                    }),
                    ipfix::FlowSetBody::OptionsData(data) => totals.option_records += data.fields.len() as u64,
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// What `sflow-parser` makes of them: flow samples, counter samples, packets scaled by their rates.
fn sflow_parser(payloads: &[Payload]) -> [u64; 3] {
    use sflow_parser::SampleData;
    let mut totals = [0; 3];
    for (_, _, payload) in payloads {
        let Ok(datagram) = sflow_parser::parse_datagram(payload) else { continue };
        for sample in datagram.samples {
            let rate = match sample.sample_data {
                SampleData::FlowSample(sample) => sample.sampling_rate,
                SampleData::FlowSampleExpanded(sample) => sample.sampling_rate,
                SampleData::CountersSample(_) | SampleData::CountersSampleExpanded(_) => {
                    totals[1] += 1;
                    continue;
                }
                SampleData::DiscardedPacket(_)
                | SampleData::RtMetric { .. }
                | SampleData::RtFlow { .. }
                | SampleData::Unknown { .. } => continue,
            };
            totals[0] += 1;
            totals[2] += u64::from(rate);
        }
    }
    totals
}

/// Fails when a difference is not listed, or a listed file does not differ.
fn judge(differing: &BTreeMap<String, String>, known: &[(&str, &str)]) {
    let is_known = |name: &str| known.iter().any(|(file, _)| *file == name);
    let news: Vec<_> = differing.iter().filter(|(name, _)| !is_known(name)).collect();
    let gone: Vec<_> = known.iter().filter(|(name, _)| !differing.contains_key(*name)).collect();
    news.iter().for_each(|(name, how)| println!("differs: {name}: {how}"));
    assert!(news.is_empty(), "{} files differ and are not listed", news.len());
    assert!(gone.is_empty(), "listed files that do not differ: {gone:?}");
}

#[test]
fn netflow_and_ipfix_agree_with_netflow_parser_but_for_the_listed_files() {
    let Some(corpus) = outside::corpus() else { return };
    let mut differing = BTreeMap::new();
    for (name, payloads) in exports(&corpus).iter().filter(|(name, _)| !name.starts_with("sflow")) {
        let ((ours, _), theirs) = (ours(payloads), netflow_parser(payloads));
        if ours != theirs {
            differing.insert(name.clone(), format!("{ours:?}, netflow_parser {theirs:?}"));
        }
    }
    judge(&differing, NETFLOW);
}

#[test]
fn sflow_agrees_with_sflow_parser_but_for_the_listed_files() {
    let Some(corpus) = outside::corpus() else { return };
    let mut differing = BTreeMap::new();
    for (name, payloads) in exports(&corpus).iter().filter(|(name, _)| name.starts_with("sflow")) {
        let payloads: Vec<Payload> =
            payloads.iter().filter(|(_, _, p)| p.starts_with(&[0, 0, 0, 5])).cloned().collect();
        let (_, statistics) = ours(&payloads);
        let ours = [statistics.records, statistics.counter_samples, statistics.packets];
        let theirs = sflow_parser(&payloads);
        if ours != theirs {
            differing.insert(name.clone(), format!("{ours:?}, sflow-parser {theirs:?}"));
        }
    }
    judge(&differing, SFLOW);
}
