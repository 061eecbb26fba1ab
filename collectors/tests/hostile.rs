//! Input that nobody sends by accident: floods of templates and exporters, bombs of lengths. Memory stays bounded, honest
//! exporters lose nothing. How long it takes is for the benches.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use collectors::config::Exporters as Settings;
use collectors::exporters::MAX_EXPORTERS;
use collectors::template::MAX_DOMAINS;
use collectors::{Block, Decoder, Exporters};
use traffic::{Sample, Time};

fn honest() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn at(milliseconds: u64) -> Time {
    Time(1_700_000_000_000_000_000 + milliseconds * 1_000_000)
}

fn be16(out: &mut Vec<u8>, values: &[u16]) {
    values.iter().for_each(|v| out.extend(v.to_be_bytes()));
}

/// A v9 message with its sets.
fn message(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0, 9, 0, 1];
    out.resize(12, 0);
    out.extend(sequence.to_be_bytes());
    out.extend([0, 0, 0, 1]);
    sets.iter().for_each(|set| out.extend(set));
    out
}

/// Source, destination, octets, packets.
fn template(id: u16, more: u16) -> Vec<u8> {
    let mut set = Vec::new();
    be16(&mut set, &[0, 8 + 4 * (4 + more), id, 4 + more, 8, 4, 12, 4, 1, 4, 2, 4]);
    (0..more).for_each(|i| be16(&mut set, &[400 + i, 1]));
    set
}

fn data(id: u16, records: u16) -> Vec<u8> {
    let mut set = Vec::new();
    be16(&mut set, &[id, 4 + 16 * records]);
    (0..records).for_each(|_| set.extend([198, 51, 100, 7, 203, 0, 113, 9, 0, 0, 1, 0, 0, 0, 0, 2]));
    set
}

/// One honest exporter sends a template at the start and data ever after, while forged ones send what `forged` makes.
fn flood(settings: Settings, count: u32, forged: impl Fn(u32) -> Vec<u8>) -> (Decoder, u64, u64) {
    let exporters = Arc::new(Exporters::new(settings));
    let mut decoder = Decoder::new(Arc::clone(&exporters));
    let mut samples: Vec<Sample> = Vec::new();
    decoder.datagram(at(0), honest(), &message(0, &[template(256, 0)]), &mut samples);
    let (mut sent, mut got) = (0, 0);
    for i in 0..count {
        let spoofed = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + i % 100_000));
        decoder.datagram(at(u64::from(i) / 10), spoofed, &forged(i), &mut samples);
        samples.clear();
        if i % 100 == 0 {
            sent += 10;
            decoder.datagram(at(u64::from(i) / 10), honest(), &message(1 + i / 100, &[data(256, 10)]), &mut samples);
            got += samples.len() as u64;
            samples.clear();
        }
    }
    assert!(exporters.count() <= MAX_EXPORTERS && exporters.templates().domain_count() <= MAX_DOMAINS);
    (decoder, sent, got)
}

#[test]
fn a_flood_of_templates_from_forged_exporters_costs_the_honest_one_nothing() {
    let big = |i: u32| message(i, &[template(256, 60), template(300, 60)]);
    let (decoder, sent, got) = flood(Settings::default(), 100_000, big);
    assert_eq!(got, sent);
    let health = decoder.exporters().health(Time(0));
    let honest = health.iter().find(|h| h.address == honest()).expect("it is known");
    assert_eq!((honest.counters.lost_records, honest.counters.records, honest.errors.len()), (0, sent, 0));
}

#[test]
fn forged_exporters_that_send_data_as_well_do_not_push_out_one_that_goes_on_sending() {
    let full = |i: u32| message(i, &[template(256, 0), data(256, 1)]);
    let (_, sent, got) = flood(Settings::default(), 100_000, full);
    assert_eq!(got, sent);
}

#[test]
fn with_an_allow_list_forged_exporters_are_counted_and_not_looked_at() {
    let settings = Settings { allowed: vec![Block::new(honest(), 24)], ..Settings::default() };
    let (decoder, sent, got) = flood(settings, 100_000, |i| message(i, &[template(256, 60)]));
    assert_eq!((got, decoder.exporters().count()), (sent, 1));
    assert_eq!(decoder.statistics().errors().get("not_allowed"), Some(&100_000));
}

#[test]
fn what_was_received_is_counted_or_dropped_by_reason() {
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    decoder.datagram(at(0), honest(), &message(0, &[template(256, 0)]), &mut samples);
    let sets = [data(256, 3), data(999, 3), data(256, 2)];
    decoder.datagram(at(1), honest(), &message(1, &sets), &mut samples);
    assert_eq!((samples.len(), decoder.statistics().records), (5, 5));
    assert_eq!(decoder.statistics().errors().into_iter().collect::<Vec<_>>(), [("no_template", 1)]);
    decoder.datagram(at(5), honest(), &message(2, &[template(999, 0)]), &mut samples);
    decoder.release(at(5), &mut samples);
    assert_eq!((samples.len(), decoder.statistics().recovered_sets), (8, 1), "the template came in time");
    assert_eq!(decoder.exporters().health(Time(0))[0].counters.recovered_sets, 1, "and it is known whose");
}

#[test]
fn zero_length_fields_and_huge_lengths_are_refused_at_once() {
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    // One octet and 60 fields of no length: a datagram of 1,400 octets would be 1,400 records of 61 fields.
    let mut bomb = Vec::new();
    be16(&mut bomb, &[0, 8 + 4 * 61, 256, 61, 4, 1]);
    (0..60).for_each(|i| be16(&mut bomb, &[500 + i, 0]));
    let mut records = Vec::new();
    be16(&mut records, &[256, 1400]);
    records.resize(1400, 1);
    decoder.datagram(at(0), honest(), &message(0, &[bomb, records]), &mut samples);
    assert!(samples.is_empty(), "no addresses, no samples");
    // An sFlow datagram of 36 octets that claims a sample of 100 MiB.
    let mut sflow = Vec::new();
    [5u32, 1, 0x7f00_0001, 0, 1, 1, 1, 1, 100 << 20].iter().for_each(|w| sflow.extend(w.to_be_bytes()));
    decoder.datagram(at(0), honest(), &sflow, &mut samples);
    assert_eq!(decoder.statistics().errors().get("bad_length"), Some(&1));
}

#[test]
fn sampling_beyond_any_number_is_no_sum() {
    // Packet interval and space of eight octets, of a record and of an option, all ones.
    let fields = [(8, 4), (12, 4), (2, 4), (1, 4), (305, 8), (306, 8)];
    let mut data_template = Vec::new();
    be16(&mut data_template, &[0, 8 + 24, 300, 6]);
    fields.iter().for_each(|(element, length)| be16(&mut data_template, &[*element, *length]));
    let mut options_template = Vec::new();
    be16(&mut options_template, &[1, 10 + 12, 301, 4, 8, 1, 4, 305, 8, 306, 8]);
    let set = |id: u16, length: u16| {
        let mut out = Vec::new();
        be16(&mut out, &[id, 4 + length]);
        out.resize(usize::from(4 + length), 0xff);
        out
    };
    let mut decoder = Decoder::default();
    let mut samples = Vec::new();
    let sets = [data_template, options_template, set(301, 20), set(300, 32)];
    decoder.datagram(at(0), honest(), &message(0, &sets), &mut samples);
    assert_eq!((decoder.statistics().option_records, samples.len()), (1, 1));
    assert_eq!(samples[0].sampling_rate, 1, "as many taken as left out, cut to what a number holds");
}

#[test]
fn templates_are_found_whichever_worker_gets_the_datagram() {
    let exporters = Arc::new(Exporters::default());
    let mut workers: Vec<Decoder> = (0..4).map(|_| Decoder::new(Arc::clone(&exporters))).collect();
    let mut samples = Vec::new();
    workers[0].datagram(at(0), honest(), &message(0, &[template(256, 0)]), &mut samples);
    for (i, worker) in workers.iter_mut().enumerate() {
        worker.datagram(at(1), honest(), &message(u32::try_from(i).expect("small"), &[data(256, 2)]), &mut samples);
    }
    assert_eq!(samples.len(), 8);
    // A new layout under the same number is seen by all at once.
    workers[3].datagram(at(2), honest(), &message(9, &[template(256, 4)]), &mut samples);
    samples.clear();
    workers[0].datagram(at(3), honest(), &message(10, &[data(256, 5)]), &mut samples);
    assert_eq!(samples.len(), 4, "80 octets are four records of 20");
    assert!(samples.iter().all(|s| s.exporter == 1));
}
