//! Decoding on one core: data sets of v9 and IPFIX with 20 fields, v5, sFlow, packet headers.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use collectors::Decoder;
use collectors::packet::{LinkType, parse};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use traffic::Time;

/// Element and length of the fields of a usual router template.
const FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (89, 1),
];
const FLOWS: usize = 20;

fn be16(out: &mut Vec<u8>, value: usize) {
    out.extend(u16::try_from(value).expect("small").to_be_bytes());
}

/// A template and a data datagram of a version.
fn templated(version: usize) -> [Vec<u8>; 2] {
    let header = |length: usize| {
        let mut out = Vec::new();
        be16(&mut out, version);
        be16(&mut out, if version == 9 { 1 } else { length });
        out.resize(if version == 9 { 20 } else { 16 }, 0);
        out
    };
    let head = header(0).len();
    let mut template = header(head + 8 + 80);
    for value in [if version == 9 { 0 } else { 2 }, 88, 256, 20] {
        be16(&mut template, value);
    }
    FIELDS.iter().for_each(|(id, length)| {
        be16(&mut template, (*id).into());
        be16(&mut template, (*length).into());
    });
    let record: usize = FIELDS.iter().map(|(_, length)| usize::from(*length)).sum();
    let mut data = header(head + 4 + record * FLOWS);
    be16(&mut data, 256);
    be16(&mut data, 4 + record * FLOWS);
    for i in 0..FLOWS {
        for (_, length) in FIELDS {
            data.extend((0..length).map(|b| u8::try_from((i * 7 + usize::from(b) + 1) % 256).expect("a byte")));
        }
    }
    [template, data]
}

/// The same datagram with every flow an hour old.
fn old([template, mut data]: [Vec<u8>; 2]) -> [Vec<u8>; 2] {
    let record: usize = FIELDS.iter().map(|(_, length)| usize::from(*length)).sum();
    let first: usize = FIELDS.iter().take_while(|(id, _)| *id != 22).map(|(_, length)| usize::from(*length)).sum();
    let records = data.len() - record * FLOWS;
    for i in 0..FLOWS {
        let at = records + i * record + first;
        let last = u32::from_be_bytes(data[at + 4..at + 8].try_into().expect("four octets"));
        data[at..at + 4].copy_from_slice(&last.wrapping_sub(3_600_000).to_be_bytes());
    }
    [template, data]
}

fn v5() -> Vec<u8> {
    let mut out = vec![0, 5, 0, 30];
    out.resize(24, 0);
    for i in 0..30u8 {
        let mut record = [1u8; 48];
        record[3] = i;
        out.extend(record);
    }
    out
}

/// Seven flow samples with headers of 128 octets.
fn sflow() -> Vec<u8> {
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, value: u32| out.extend(value.to_be_bytes());
    [5, 1, 0x7f00_0001, 0, 1, 1, 7].iter().for_each(|w| word(&mut out, *w));
    for _ in 0..7 {
        [1, 32 + 8 + 16 + 128, 1, 1, 1000, 1, 0, 1, 2, 1, 1, 16 + 128, 1, 1400, 4, 128]
            .iter()
            .for_each(|w| word(&mut out, *w));
        let mut frame = frame();
        frame.resize(128, 0);
        out.extend(frame);
    }
    out
}

fn frame() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0x05, 0x6e, 0, 1, 0x40, 0, 60, 6, 0, 0, 198, 51, 100, 7, 203, 0, 113, 9]);
    frame.extend([0, 80, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// 36 octets that claim more: as many samples as a word can say, a sample longer than any datagram, or a sample whose first
/// record is.
fn bombs() -> [(&'static str, Vec<u8>); 3] {
    let datagram = |words: [u32; 9]| words.iter().flat_map(|w| w.to_be_bytes()).collect();
    [
        ("sflow-bomb-of-samples", datagram([5, 1, 0x7f00_0001, 0, 1, 1, u32::MAX, 1, 0])),
        ("sflow-bomb-of-length", datagram([5, 1, 0x7f00_0001, 0, 1, 1, 1, 1, u32::MAX])),
        ("sflow-bomb-of-nothing", datagram([5, 1, 0x7f00_0001, 0, 1, 1, u32::MAX, 0, 0])),
    ]
}

/// Name, template datagram, data datagram.
type Case = (&'static str, Option<Vec<u8>>, Vec<u8>);

fn decode(criterion: &mut Criterion) {
    let exporter = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut group = criterion.benchmark_group("decode");
    let cases: [Case; 5] = {
        let [t9, d9] = templated(9);
        let [t_old, d_old] = old(templated(9));
        let [t10, d10] = templated(10);
        [
            ("netflow9-20-fields", Some(t9), d9),
            ("netflow9-old-flows", Some(t_old), d_old),
            ("ipfix-20-fields", Some(t10), d10),
            ("netflow5", None, v5()),
            ("sflow-7-samples", None, sflow()),
        ]
    };
    for (name, template, data) in cases {
        let mut decoder = Decoder::default();
        let mut out = Vec::with_capacity(64);
        if let Some(template) = template {
            decoder.datagram(Time(0), exporter, &template, &mut out);
        }
        decoder.datagram(Time(0), exporter, &data, &mut out);
        assert!(!out.is_empty() && decoder.statistics().errors().is_empty(), "{name}: {:?}", decoder.statistics());
        group.throughput(Throughput::Elements(out.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                decoder.datagram(Time(0), exporter, black_box(&data), &mut out);
                black_box(&out);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    for (name, bomb) in bombs() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        decoder.datagram(Time(0), exporter, &bomb, &mut out);
        assert!(out.is_empty() && !decoder.statistics().errors().is_empty(), "{name}: {:?}", decoder.statistics());
        group.bench_function(name, |b| {
            b.iter(|| decoder.datagram(Time(0), exporter, black_box(&bomb), &mut out));
        });
    }
    let frame = frame();
    group.bench_function("packet-header", |b| {
        b.iter(|| parse(LinkType::Ethernet, Time(0), black_box(&frame), 1404));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
