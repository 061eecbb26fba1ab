//! What the fuzzers call, and what must hold for any input. Shared by `fuzz/` and by the test that replays its corpus.

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use collectors::capture::{Datagrams, Reader};
use collectors::exporters::MAX_EXPORTERS;
use collectors::packet::LinkType;
use collectors::template::MAX_DOMAINS;
use collectors::{Decoder, Encapsulation, tunnel};
use traffic::{Fields, Sample, Time};

const START: Time = Time(1_700_000_000_000_000_000);

/// Datagrams of one exporter after the other: two octets of length, then the datagram. Its first length octet also says who sends.
pub(crate) fn netflow(mut data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    let mut octets = 0;
    for n in 0u64..64 {
        let Some((head, rest)) = data.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*head) & 0x0fff).min(rest.len());
        let exporter = IpAddr::V4(Ipv4Addr::new(192, 0, 2, head[0] >> 4));
        let (datagram, rest) = rest.split_at(length);
        let now = Time(START.0 + n * 1_000_000);
        decoder.datagram(now, exporter, datagram, &mut samples);
        decoder.release(now, &mut samples);
        octets += length;
        data = rest;
    }
    decoder.release(Time(u64::MAX), &mut samples);
    check(&decoder, &samples, octets);
}

/// One sFlow datagram.
pub(crate) fn sflow(data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    decoder.datagram(START, IpAddr::V4(Ipv4Addr::LOCALHOST), data, &mut samples);
    check(&decoder, &samples, data.len());
}

fn check(decoder: &Decoder, samples: &[Sample], octets: usize) {
    assert!(decoder.exporters().count() <= MAX_EXPORTERS);
    assert!(decoder.exporters().templates().domain_count() <= MAX_DOMAINS);
    // A record has at least one octet and becomes two samples at most.
    assert!(samples.len() <= 2 * octets, "{} samples of {octets} octets", samples.len());
    for sample in samples {
        assert!(sample.sampling_rate >= 1 && sample.exporter >= 1);
        assert!(sample.known.has(Fields::ADDRESSES));
    }
    let counted: u64 = decoder.exporters().health(Time(0)).iter().map(|h| h.counters.records).sum();
    assert_eq!(counted, decoder.statistics().records, "exporters and decoder agree");
}

/// Link type, encapsulation, three octets of length beyond what is captured, then a frame.
pub(crate) fn packet(data: &[u8]) {
    let Some(([link, encapsulation, more], frame)) = data.split_first_chunk::<3>() else { return };
    let numbers = [0, 1, 9, 12, 101, 104, 113, 219, 228, 276];
    let Some(link) = LinkType::from_number(numbers[usize::from(*link) % numbers.len()]) else { return };
    let encapsulation = Encapsulation::ALL[usize::from(*encapsulation) % Encapsulation::ALL.len()];
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).saturating_add(u32::from(*more) * 64);
    if let Ok(sample) = tunnel::parse(encapsulation, link, START, frame, length) {
        assert!(sample.known.has(Fields::ADDRESSES | Fields::LENGTH) && sample.packets == 1);
        assert!(u64::from(sample.length) == sample.bytes.min(65_535));
        assert!(sample.fragment & 0xf0 == 0 && sample.tcp_flags & 0xf000 == 0 && sample.dscp < 64);
    }
}

/// A capture file, and the datagrams in it.
pub(crate) fn capture(data: &[u8]) {
    let Ok(reader) = Reader::read(Path::new("fuzz"), Cursor::new(data.to_vec())) else { return };
    let mut datagrams = Datagrams::default();
    for frame in reader.map_while(Result::ok).take(10_000) {
        assert!(frame.data.len() <= data.len());
        if let Some(link) = frame.link {
            let _ = datagrams.extract(link, &frame);
        }
    }
}
