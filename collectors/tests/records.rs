//! What single records of templates mean: made here element by element, read through the decoder as they come.

use std::net::IpAddr;

use collectors::{Content, Decoder, Recording, Volume};
use traffic::{Sample, Time};

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
        self.reports(milliseconds, &[&[(4, 1, 17), (7, 2, 53), (11, 2, 4000)], values].concat())
    }

    /// Sends a record of nothing but addresses and these values.
    fn reports(&mut self, milliseconds: u32, values: &[Value]) -> Vec<Sample> {
        let message = self.message(milliseconds, &self.sets(values));
        self.receives(milliseconds, &message)
    }

    /// The sets of a template and a record of it.
    fn sets(&self, values: &[Value]) -> [(u16, Vec<u8>); 2] {
        let addresses = if self.is_v6 { [(27u16, 16u16), (28, 16)] } else { [(8, 4), (12, 4)] };
        let fields: Vec<(u16, u16)> =
            addresses.into_iter().chain(values.iter().map(|(element, length, _)| (*element, *length))).collect();
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
        for (_, length, value) in values {
            record.extend(&value.to_be_bytes()[8 - usize::from(*length)..]);
        }
        let template_set = if self.version == V9 { 0 } else { 2 };
        [(template_set, template), (256, record)]
    }

    /// What a message of it is read as.
    fn receives(&mut self, milliseconds: u32, message: &[u8]) -> Vec<Sample> {
        let mut samples = Vec::new();
        let now = Time::from_seconds(EXPORTED.into(), 0).after(std::time::Duration::from_millis(milliseconds.into()));
        self.decoder.datagram(now, IpAddr::from([192, 0, 2, 1]), message, &mut samples);
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
        let health = exporter.decoder.exporters().health(Time(0));
        assert_eq!(health[0].not_counted.get("security_event"), Some(&3));
    }
}

/// Seconds from 1900 to 1970.
const NTP: u64 = 2_208_988_800;

/// An hour before [`EXPORTED`] and then, in the elements of a clock: the values of a flow's start and end so many milliseconds
/// after [`EXPORTED`], in a message exported `sent` milliseconds after it.
type Clock = fn(start: i64, end: i64, sent: i64) -> Vec<Value>;

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).expect("not negative")
}

fn unix_ms(offset: i64) -> u64 {
    unsigned(i64::from(EXPORTED) * 1000 + offset)
}

fn uptime(offset: i64) -> u64 {
    u64::from(u32::try_from((i64::from(UPTIME) + offset).rem_euclid(1 << 32)).expect("32 bits"))
}

fn ntp(offset: i64) -> u64 {
    let ms = unix_ms(offset);
    (ms / 1000 + NTP) << 32 | ((ms % 1000) << 32).div_ceil(1000)
}

/// Microseconds before an export in whole seconds.
fn before(offset: i64, sent: i64) -> u64 {
    unsigned((sent / 1000 * 1000 - offset) * 1000)
}

/// Every way in which exporters tell when a flow was, but for those that know no end.
const PAIRS: [(&str, Clock); 11] = [
    ("22, 21", |start, end, _| vec![(22, 4, uptime(start)), (21, 4, uptime(end))]),
    ("152, 153", |start, end, _| vec![(152, 8, unix_ms(start)), (153, 8, unix_ms(end))]),
    ("150, 151", |start, end, _| vec![(150, 4, unix_ms(start) / 1000), (151, 4, unix_ms(end) / 1000)]),
    ("154, 155 NTP", |start, end, _| vec![(154, 8, ntp(start)), (155, 8, ntp(end))]),
    ("154, 155 Unix", |start, end, _| vec![(155, 8, unix_ms(end) * 1000), (154, 8, unix_ms(start) * 1000)]),
    ("156, 157 NTP", |start, end, _| vec![(156, 8, ntp(start)), (157, 8, ntp(end))]),
    ("156, 157 Unix", |start, end, _| vec![(156, 8, unix_ms(start) * 1_000_000), (157, 8, unix_ms(end) * 1_000_000)]),
    ("158, 159", |start, end, sent| vec![(158, 4, before(start, sent)), (159, 4, before(end, sent))]),
    ("150, 153", |start, end, _| vec![(150, 4, unix_ms(start) / 1000), (153, 8, unix_ms(end))]),
    ("154, 151", |start, end, _| vec![(154, 8, ntp(start)), (151, 4, unix_ms(end) / 1000)]),
    ("152, 161", |start, end, _| vec![(152, 8, unix_ms(start)), (161, 4, unsigned(end - start))]),
];

/// Those that know a start alone: the flow ended when its record was exported at the latest.
const STARTS: [(&str, Clock); 5] = [
    ("152", |start, _, _| vec![(152, 8, unix_ms(start))]),
    ("150", |start, _, _| vec![(150, 4, unix_ms(start) / 1000)]),
    ("154 NTP", |start, _, _| vec![(154, 8, ntp(start))]),
    ("158", |start, _, sent| vec![(158, 4, before(start, sent))]),
    ("152, no 153", |start, _, _| vec![(152, 8, unix_ms(start)), (153, 8, 0)]),
];

fn with_counters(packets: u64, mut times: Vec<Value>) -> Vec<Value> {
    times.extend([(2, 4, packets), (1, 4, packets * 1000)]);
    times
}

#[test]
fn the_span_of_a_flow_is_read_from_every_pair_of_times() {
    for mut exporter in Exporter::all() {
        for (name, clock) in PAIRS {
            let samples = exporter.sends(10_000, &with_counters(7, clock(-51_000, 9_000, 10_000)));
            assert_eq!(samples[0].duration_ms, 60_000, "{} {name}", exporter.name());
            // Uptime without a header that tells it, and a length without an end, say nothing of the age.
            let knows_age = !(name == "22, 21" && exporter.version == IPFIX || name == "152, 161");
            assert_eq!(samples[0].age_ms, if knows_age { 1_000 } else { 0 }, "{} {name}", exporter.name());
        }
        for (name, clock) in STARTS {
            let samples = exporter.sends(10_000, &with_counters(7, clock(-50_000, 0, 10_000)));
            assert_eq!((samples[0].duration_ms, samples[0].age_ms), (60_000, 0), "{} {name}", exporter.name());
        }
        // The uptime of one end alone says when, by a header that tells both clocks.
        if exporter.version == V9 {
            let samples = exporter.sends(10_000, &with_counters(7, vec![(22, 4, uptime(-50_000))]));
            assert_eq!((samples[0].duration_ms, samples[0].age_ms), (60_000, 0));
            let samples = exporter.sends(10_000, &with_counters(7, vec![(21, 4, uptime(9_000))]));
            assert_eq!((samples[0].duration_ms, samples[0].age_ms), (0, 1_000));
        }
    }
}

#[test]
fn a_flow_over_the_wrap_of_the_uptime_has_its_length_and_an_end_before_its_start_none() {
    let wrap = 1u64 << 32;
    for mut exporter in Exporter::all() {
        for (first, last, want) in [
            (wrap - 30_000, 30_000, 60_000),
            (wrap - 1, 0, 1),
            (5_000_058, 5_000_000, 0),
            (30_000, wrap - 30_000, 0),
            (0, 4_000_000_000, 4_000_000_000),
        ] {
            let samples = exporter.sends(0, &with_counters(7, vec![(22, 4, first), (21, 4, last)]));
            assert_eq!(u64::from(samples[0].duration_ms), want, "{} {first} to {last}", exporter.name());
        }
        for (start, end, want) in [
            (unix_ms(58), unix_ms(0), 0),
            // A clock that was never set.
            (7_000, unix_ms(0), 0),
        ] {
            let samples = exporter.sends(0, &with_counters(7, vec![(152, 8, start), (153, 8, end)]));
            assert_eq!(samples[0].duration_ms, want, "{} {start} to {end}", exporter.name());
        }
    }
    let mut v5 = [0, 5, 0, 1].to_vec();
    v5.extend(31_000u32.to_be_bytes());
    v5.resize(24, 0);
    let mut record = [[198, 51, 100, 7], [203, 0, 113, 9], [0; 4], [0; 4]].concat();
    for number in [600_000, 750_000_000, u32::MAX - 29_999, 30_000] {
        record.extend(number.to_be_bytes());
    }
    record.resize(48, 0);
    v5.extend(record);
    let mut samples = Vec::new();
    Decoder::default().datagram(Time::from_seconds(1_000, 0), IpAddr::from([192, 0, 2, 1]), &v5, &mut samples);
    assert_eq!((samples[0].duration_ms, samples[0].age_ms), (60_000, 1_000));
}

#[test]
fn counters_of_an_old_flow_cover_the_time_since_its_last_report_whichever_clock_tells_it() {
    for (name, clock) in PAIRS.into_iter().chain(STARTS) {
        // By the end of the offsets in microseconds (71 minutes), the flow is 70 minutes old.
        for mut exporter in Exporter::all() {
            let what = format!("{} {name}", exporter.name());
            let mut spans = Vec::new();
            for report in 0..6 {
                let sent = 10_000 * report;
                let samples = exporter.sends(
                    u32::try_from(sent).expect("small"),
                    &with_counters(1_000_000, clock(-3_600_000, sent - 100, sent)),
                );
                spans.push(samples[0].duration_ms);
            }
            assert!(spans[..2].iter().all(|ms| *ms >= 3_599_000), "nobody knows yet: {what} {spans:?}");
            assert!(spans[2..].iter().all(|ms| (10_000..=11_000).contains(ms)), "{what} {spans:?}");
            // What is known of the exporter holds for flows that it reports for the first time.
            let other = [with_counters(1_000_000, clock(-1_800_000, 59_900, 60_000)), vec![(10, 2, 5)]].concat();
            let first = exporter.sends(60_000, &other)[0].duration_ms;
            assert!((10_000..=11_000).contains(&first), "{what} {first}");
        }
    }
}

#[test]
fn flows_that_begin_anew_with_every_report_keep_their_length() {
    for (name, clock) in PAIRS.into_iter().chain(STARTS) {
        for mut exporter in Exporter::all() {
            for report in 1..10 {
                let sent = 600_000 * report;
                let values = with_counters(6_000_000, clock(sent - 600_000, sent, sent));
                let samples = exporter.sends(u32::try_from(sent).expect("small"), &values);
                assert_eq!(samples[0].duration_ms, 600_000, "{} {name}", exporter.name());
            }
        }
    }
}

#[test]
fn a_counter_of_zero_does_not_hide_the_outgoing_one() {
    let rows: [Row; 6] = [
        (&[(2, 4, 0), (1, 4, 0), (24, 4, 1000), (23, 4, 1_400_000), (61, 1, 1)], Some((1000, 1_400_000))),
        (&[(24, 8, 1000), (23, 8, 1_400_000), (2, 8, 0), (1, 8, 0)], Some((1000, 1_400_000))),
        (&[(24, 4, 1000), (23, 4, 1_400_000)], Some((1000, 1_400_000))),
        // Told twice.
        (&[(2, 4, 1000), (1, 4, 1_400_000), (24, 4, 1000), (23, 4, 1_400_000)], Some((1000, 1_400_000))),
        (&[(2, 4, 1000), (1, 4, 1_400_000), (24, 4, 0), (23, 4, 0)], Some((1000, 1_400_000))),
        (&[(2, 4, 0), (1, 4, 0), (24, 4, 0), (23, 4, 0)], None),
    ];
    for mut exporter in Exporter::all() {
        for (values, want) in &rows {
            assert_eq!(counted(&exporter.sends(0, values)), *want, "{} {values:?}", exporter.name());
        }
    }
}

#[test]
fn of_elements_for_one_field_those_of_its_protocol_and_version_count() {
    let with = |more: &[Value]| [&[(2, 4, 1), (1, 4, 60)], more].concat();
    for mut exporter in Exporter::all() {
        let name = exporter.name();
        let mut read = |protocol: Value, more: &[Value]| {
            let samples = exporter.reports(0, &[&[protocol][..], more].concat());
            let s = samples[0];
            (s.protocol, s.source_port, s.destination_port, s.icmp_type, s.icmp_code)
        };
        let ports = [(180, 2, 53), (181, 2, 4000), (182, 2, 443), (183, 2, 50_000)];
        let backwards: Vec<Value> = ports.into_iter().rev().collect();
        for ports in [&ports[..], &backwards] {
            assert_eq!(read((4, 1, 6), &with(ports)), (6, 443, 50_000, 0, 0), "{name}");
            assert_eq!(read((4, 1, 17), &with(ports)), (17, 53, 4000, 0, 0), "{name}");
        }
        let unused = [(180, 2, 0), (181, 2, 0), (182, 2, 443), (183, 2, 50_000), (7, 2, 0), (11, 2, 0)];
        assert_eq!(read((4, 1, 6), &with(&unused)), (6, 443, 50_000, 0, 0), "{name}");
        assert_eq!(read((4, 1, 6), &with(&[(7, 2, 80), (11, 2, 81), (180, 2, 1)])), (6, 80, 81, 0, 0), "{name}");
        assert_eq!(read((193, 1, 17), &with(&ports)), (17, 53, 4000, 0, 0), "{name}");
        let icmp = if name.ends_with("IPv6") { (58, 0, 0, 135, 2) } else { (1, 0, 0, 3, 1) };
        let separate = [(176, 1, 3), (177, 1, 1), (178, 1, 135), (179, 1, 2)];
        let together = [(139, 2, 135 << 8 | 2), (32, 2, 3 << 8 | 1)];
        for elements in [&separate[..], &together] {
            assert_eq!(read((4, 1, u64::from(icmp.0)), &with(elements)), icmp, "{name} {elements:?}");
        }
    }
}

#[test]
fn flow_sampling_by_interval_and_spacing_is_a_rate() {
    for mut exporter in Exporter::all() {
        let (options, at) = if exporter.version == V9 { (1, [0, 4, 0, 12]) } else { (3, [0, 4, 0, 1]) };
        // Scope 149 (v9: the system), then 302, 396 and 397.
        let scope = if exporter.version == V9 { [0, 1, 0, 4] } else { [0, 149, 0, 4] };
        let fields = [[0x01, 0x2e, 0, 4], [0x01, 0x8c, 0, 4], [0x01, 0x8d, 0, 4]].concat();
        let template = [&[1, 44][..], &at, &scope, &fields].concat();
        let record: Vec<u8> = [0u32, 1, 2, 98].iter().flat_map(|n| n.to_be_bytes()).collect();
        let message = exporter.message(0, &[(options, template), (300, record)]);
        exporter.receives(0, &message);
        let samples = exporter.sends(0, &[(2, 4, 10), (1, 4, 10_000), (302, 4, 1)]);
        assert_eq!(counted(&samples), Some((500, 500_000)), "{}", exporter.name());
    }
}

/// A capture file of UDP datagrams from one exporter: milliseconds and payload.
fn capture(datagrams: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (milliseconds, payload) in datagrams {
        let length = |more: usize| u16::try_from(payload.len() + more).expect("small");
        let frame: u32 = u32::from(length(42));
        for word in [EXPORTED + milliseconds / 1000, milliseconds % 1000 * 1000, frame, frame] {
            out.extend(word.to_le_bytes());
        }
        out.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0]);
        out.extend(length(28).to_be_bytes());
        out.extend([0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 10, 192, 0, 2, 254, 0xc3, 0x50, 8, 7]);
        out.extend(length(8).to_be_bytes());
        out.extend([0, 0]);
        out.extend(payload);
    }
    out
}

#[test]
fn records_that_waited_for_a_template_are_read_behind_the_last_frame_at_their_pace() {
    for mut exporter in Exporter::all() {
        let values: &[Value] = &[(2, 4, 100), (1, 4, 10_000)];
        let [template, record] = exporter.sets(values);
        let datagrams: Vec<(u32, Vec<u8>)> = [(0, &record), (2_000, &record), (5_000, &template)]
            .map(|(at, set)| (at, exporter.message(at, std::slice::from_ref(set))))
            .to_vec();
        let path = std::env::temp_dir().join(format!("floodwall-tail-{}-{}", std::process::id(), exporter.name()));
        std::fs::write(&path, capture(&datagrams)).expect("writes");
        let mut recording = Recording::open(&path, Content::Exports, Decoder::default()).expect("opens");
        let (mut samples, mut seen) = (Vec::new(), Vec::new());
        while let Some(time) = recording.next(&mut samples).expect("whole") {
            seen.extend(
                samples.drain(..).map(|s: Sample| (time.0 - Time::from_seconds(EXPORTED.into(), 0).0, s.packets)),
            );
        }
        std::fs::remove_file(&path).expect("removes");
        assert_eq!(seen, [(5_000_000_000, 100), (7_000_000_000, 100)], "{}", exporter.name());
    }
}

#[test]
fn running_totals_of_a_flow_are_counted_once_and_those_of_flows_told_once_whole() {
    let totals = |packets: u64| [(86, 8, packets), (85, 8, packets * 1000)];
    for (name, clock) in PAIRS.into_iter().chain(STARTS) {
        for mut exporter in Exporter::all() {
            let what = format!("{} {name}", exporter.name());
            let mut report = |packets: u64, start: i64, at: i64| {
                let values = [clock(start, at, at), totals(packets).to_vec()].concat();
                counted(&exporter.sends(u32::try_from(at).expect("small"), &values))
            };
            assert_eq!(report(1000, -60_000, 0), Some((1000, 1_000_000)), "{what}");
            assert_eq!(report(2000, -60_000, 60_000), Some((1000, 1_000_000)), "{what}");
            assert_eq!(report(3000, -60_000, 120_000), Some((1000, 1_000_000)), "{what}");
            assert_eq!(report(3000, -60_000, 120_000), None, "told twice: {what}");
            assert_eq!(report(4000, 130_000, 180_000), Some((4000, 4_000_000)), "another flow: {what}");
            assert_eq!(report(5000, 190_000, 240_000), Some((5000, 5_000_000)), "told once: {what}");
            let statistics = exporter.decoder.statistics();
            assert_eq!(statistics.packets, 18_000, "{what}");
            let before = Volume { records: 3, packets: 6000, bytes: 6_000_000 };
            assert_eq!(statistics.not_counted().get("told_before"), Some(&before), "{what}");
        }
    }
}

#[test]
fn differences_beside_totals_and_totals_without_times_stay_as_they_are() {
    for mut exporter in Exporter::all() {
        for report in 1..4u64 {
            let values = [(22, 4, 1000), (21, 4, 60_000 * report), (86, 8, 100 * report), (2, 4, 100), (1, 4, 10_000)];
            assert_eq!(counted(&exporter.sends(0, &values)), Some((100, 10_000)));
            let at = u32::try_from(60_000 * report).expect("small");
            assert_eq!(counted(&exporter.sends(at, &[(86, 8, 100 * report), (85, 8, 9)])), Some((100 * report, 9)));
        }
    }
}
