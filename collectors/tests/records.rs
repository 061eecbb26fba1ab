//! What single records of templates mean: made here element by element, read through the decoder as they come.

use std::net::IpAddr;

use collectors::{Decoder, Sample, Time, Volume};

/// Element, length, value.
type Value = (u16, u16, u64);
/// What a row of a table of counters is to give: the values, and packets and bytes.
type Row = (&'static [Value], Option<(u64, u64)>);

const V9: u16 = 9;
const IPFIX: u16 = 10;
/// 1 Dec 2026, 00:00 UTC, in seconds.
const EXPORTED: u32 = 1_796_083_200;
/// When the exporters started, in milliseconds by the counter of their headers.
const UPTIME: u32 = 100_000_000;

/// An exporter that sends one record a message, with the template before it.
struct Exporter {
    version: u16,
    is_v6: bool,
    decoder: Decoder,
    sequence: u32,
}

impl Exporter {
    /// Both protocols with both versions of addresses.
    fn all() -> impl Iterator<Item = Self> {
        [V9, IPFIX].into_iter().flat_map(|version| {
            [false, true].map(|is_v6| Self { version, is_v6, decoder: Decoder::default(), sequence: 0 })
        })
    }

    fn message(&mut self, milliseconds: u32, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (id, set) in sets {
            body.extend(id.to_be_bytes());
            body.extend(u16::try_from(set.len() + 4).expect("small").to_be_bytes());
            body.extend(set);
        }
        let mut out = self.version.to_be_bytes().to_vec();
        let seconds = EXPORTED + milliseconds / 1000;
        if self.version == V9 {
            out.extend(2u16.to_be_bytes());
            out.extend(UPTIME.wrapping_add(milliseconds).to_be_bytes());
        } else {
            out.extend(u16::try_from(body.len() + 16).expect("small").to_be_bytes());
        }
        out.extend(seconds.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        self.sequence += 1;
        out.extend(1u32.to_be_bytes());
        out.extend(body);
        out
    }

    /// Sends a record of UDP from port 53 to 4000 with more values, so many milliseconds after [`EXPORTED`].
    fn sends(&mut self, milliseconds: u32, values: &[Value]) -> Vec<Sample> {
        let addresses = if self.is_v6 { [(27u16, 16u16), (28, 16)] } else { [(8, 4), (12, 4)] };
        let ports: [Value; 3] = [(4, 1, 17), (7, 2, 53), (11, 2, 4000)];
        let numbers = || ports.iter().chain(values);
        let fields: Vec<(u16, u16)> =
            addresses.into_iter().chain(numbers().map(|(element, length, _)| (*element, *length))).collect();
        let mut template = 256u16.to_be_bytes().to_vec();
        template.extend(u16::try_from(fields.len()).expect("small").to_be_bytes());
        for (element, length) in &fields {
            template.extend(element.to_be_bytes());
            template.extend(length.to_be_bytes());
        }
        let mut record = Vec::new();
        for last in [7u8, 9] {
            record.resize(record.len() + if self.is_v6 { 15 } else { 3 }, 0x20);
            record.push(last);
        }
        for (_, length, value) in numbers() {
            record.extend(&value.to_be_bytes()[8 - usize::from(*length)..]);
        }
        let template_set = if self.version == V9 { 0 } else { 2 };
        let message = self.message(milliseconds, &[(template_set, template), (256, record)]);
        let mut samples = Vec::new();
        let now = Time::from_seconds(EXPORTED.into(), 0).after(std::time::Duration::from_millis(milliseconds.into()));
        self.decoder.datagram(now, IpAddr::from([192, 0, 2, 1]), &message, &mut samples);
        samples
    }

    fn name(&self) -> String {
        format!("version {} {}", self.version, if self.is_v6 { "IPv6" } else { "IPv4" })
    }
}

/// Packets and bytes of what ought to be one sample or none.
fn counted(samples: &[Sample]) -> Option<(u64, u64)> {
    assert!(samples.len() < 2, "{samples:?}");
    samples.first().map(|s| (s.packets, s.bytes))
}

#[test]
fn a_firewall_or_nat_event_with_counters_since_its_last_report_is_traffic() {
    let rows: [Row; 8] = [
        (&[(2, 4, 100), (1, 4, 15_000), (233, 1, 1)], Some((100, 15_000))),
        (&[(233, 1, 2), (1, 8, 15_000), (2, 8, 100)], Some((100, 15_000))),
        (&[(2, 4, 100), (1, 4, 15_000), (233, 1, 3)], Some((100, 15_000))),
        (&[(2, 4, 100), (1, 4, 15_000), (230, 1, 4)], Some((100, 15_000))),
        (&[(24, 4, 100), (23, 4, 15_000), (233, 1, 5)], Some((100, 15_000))),
        // Beside sums of the connection, what is new counts.
        (&[(2, 4, 3), (1, 4, 180), (233, 1, 5), (231, 4, 90_000), (232, 4, 70_000), (86, 8, 60)], Some((3, 180))),
        (&[(233, 1, 5), (231, 4, 2000), (232, 4, 9000)], None),
        (&[(2, 4, 0), (1, 4, 0), (85, 8, 65), (86, 8, 1), (233, 1, 2)], None),
    ];
    for mut exporter in Exporter::all() {
        for (values, want) in &rows {
            assert_eq!(counted(&exporter.sends(0, values)), *want, "{} {values:?}", exporter.name());
        }
    }
}

#[test]
fn an_event_without_traffic_is_in_the_totals_and_told_under_its_reason() {
    for mut exporter in Exporter::all() {
        for values in [
            &[(233, 1, 5), (231, 4, 2000), (298, 4, 10)][..],
            &[(233, 1, 1), (2, 4, 0), (1, 4, 0)],
            &[(230, 1, 1)],
            &[(2, 4, 7), (1, 4, 700)],
        ] {
            exporter.sends(0, values);
        }
        let statistics = exporter.decoder.statistics();
        assert_eq!((statistics.records, statistics.packets, statistics.bytes), (4, 17, 2700));
        let want = Volume { records: 3, packets: 10, bytes: 2000 };
        assert_eq!(statistics.not_counted().into_iter().collect::<Vec<_>>(), [("security_event", want)]);
        assert!(statistics.errors().is_empty());
        let health = exporter.decoder.exporters().health();
        assert_eq!(health[0].not_counted.get("security_event"), Some(&3));
    }
}
