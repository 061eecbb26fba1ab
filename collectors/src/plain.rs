//! [`Plain`]: the records of most exporters, read without a decision that their template has settled already.
//!
//! Most templates name one pair of addresses, one pair of counters and one pair of times, and nothing that needs a second look.
//! Which of an element's alternatives they use is then known before the first record, and what is absent reads as zero. The
//! protocol, which differs from record to record, is looked up instead of branched on. All other templates, and exporters whose
//! records have to be weighed against each other, go the general way ([`crate::record::emit`]), which is the definition: both give
//! the same samples.

use traffic::sample::protocol;
use traffic::{Fields, IpVersion, Origin, Sample};

use crate::context::{BYTES, Context, PACKETS, Tally, are_totals, icmp_type_code, is_dropped_status, scaled};
use crate::elements::{Field, Place, Places, Set, number};
use crate::span::Span;

/// Fields that a plain record may have.
const FIELDS: Set = Field::Bytes.bit()
    | Field::Packets.bit()
    | Field::TotalBytes.bit()
    | Field::TotalPackets.bit()
    | Field::PostBytes.bit()
    | Field::PostPackets.bit()
    | Field::Protocol.bit()
    | Field::Tos.bit()
    | Field::TcpFlags.bit()
    | Field::SourcePort.bit()
    | Field::DestinationPort.bit()
    | Field::IcmpTypeCodeV4.bit()
    | Field::IcmpTypeCodeV6.bit()
    | Field::NextHeader.bit()
    | Field::FlowLabel.bit()
    | Field::InputInterface.bit()
    | Field::OutputInterface.bit()
    | Field::FlowDirection.bit()
    | Field::ForwardingStatus.bit()
    | V4
    | V6
    | UPTIME
    | MILLIS;
const V4: Set = Field::SourceV4.bit() | Field::DestinationV4.bit();
const V6: Set = Field::SourceV6.bit() | Field::DestinationV6.bit();
const UPTIME: Set = Field::FirstUptime.bit() | Field::LastUptime.bit();
const MILLIS: Set = Field::StartMillis.bit() | Field::EndMillis.bit();

/// What a protocol says of a record.
#[derive(Clone, Copy)]
struct Kind {
    known: Fields,
    /// All ones if its ports are ports.
    ports: u16,
    /// What one packet says beyond its length.
    single: Fields,
}

const KINDS: [Kind; 256] = {
    let other = Fields(Fields::PORTS.0 | Fields::ICMP.0 | Fields::TCP_FLAGS.0);
    let mut kinds = [Kind { known: other, ports: 0, single: Fields::NONE }; 256];
    let mut i = 0;
    while i < protocol::WITH_PORTS.len() {
        let known = Fields(Fields::ICMP.0 | Fields::TCP_FLAGS.0);
        kinds[protocol::WITH_PORTS[i] as usize] = Kind { known, ports: u16::MAX, single: Fields::NONE };
        i += 1;
    }
    kinds[protocol::TCP as usize].known = Fields::ICMP;
    kinds[protocol::TCP as usize].single = Fields::TCP_FLAGS;
    let known = Fields(Fields::PORTS.0 | Fields::TCP_FLAGS.0);
    kinds[protocol::ICMP as usize].known = known;
    kinds[protocol::ICMPV6 as usize].known = known;
    kinds
};

/// Which clock the times are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    None,
    Uptime,
    Millis,
}

/// Where the fields of a template's records lie; what is absent lies nowhere and reads as zero.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    version: IpVersion,
    source: Place,
    destination: Place,
    packets: Place,
    bytes: Place,
    /// What counts where those are 0.
    post_packets: Place,
    post_bytes: Place,
    protocol: Place,
    tos: Place,
    tcp_flags: Place,
    source_port: Place,
    destination_port: Place,
    /// ICMP type and code.
    icmp: Place,
    flow_label: Place,
    input_interface: Place,
    forwarding_status: Place,
    first: Place,
    last: Place,
    clock: Clock,
    /// What every record tells.
    known: Fields,
    has_tcp_flags: Fields,
    has_icmp: Fields,
}

impl Plain {
    /// Of a template whose records are plain.
    pub(crate) fn of(places: &Places) -> Option<Self> {
        let present = places.present();
        let has = |field: Field| present & field.bit() != 0;
        let version = match (present & V4, present & V6) {
            (V4, 0) => IpVersion::V4,
            (0, V6) => IpVersion::V6,
            _ => return None,
        };
        let clock = match (present & UPTIME, present & MILLIS) {
            (0, 0) => Clock::None,
            (UPTIME, 0) => Clock::Uptime,
            (0, MILLIS) => Clock::Millis,
            _ => return None,
        };
        if present & !FIELDS != 0 || !has(Field::Protocol) || are_totals(present) {
            return None;
        }
        let at = |field: Field| places.place(field);
        let first_of = |fields: &[Field]| fields.iter().find(|f| has(**f)).map_or(Place::NOWHERE, |f| at(*f));
        let if_has = |field, fields| if has(field) { fields } else { Fields::NONE };
        let (first, last) = match clock {
            Clock::None => (Place::NOWHERE, Place::NOWHERE),
            Clock::Uptime => (at(Field::FirstUptime), at(Field::LastUptime)),
            Clock::Millis => (at(Field::StartMillis), at(Field::EndMillis)),
        };
        let [source, destination] = match version {
            IpVersion::V4 => [Field::SourceV4, Field::DestinationV4],
            IpVersion::V6 => [Field::SourceV6, Field::DestinationV6],
        };
        let icmp = icmp_type_code(version);
        let has_icmp = icmp.iter().any(|field| has(*field));
        Some(Self {
            version,
            source: at(source),
            destination: at(destination),
            packets: first_of(&PACKETS),
            bytes: first_of(&BYTES),
            post_packets: at(Field::PostPackets),
            post_bytes: at(Field::PostBytes),
            protocol: at(Field::Protocol),
            tos: at(Field::Tos),
            tcp_flags: at(Field::TcpFlags),
            source_port: at(Field::SourcePort),
            destination_port: at(Field::DestinationPort),
            icmp: first_of(&icmp),
            flow_label: at(Field::FlowLabel),
            input_interface: at(Field::InputInterface),
            forwarding_status: at(Field::ForwardingStatus),
            first,
            last,
            clock,
            known: Fields::ADDRESSES
                | Fields::PROTOCOL
                | if_has(Field::Tos, Fields::DSCP)
                | if_has(Field::FlowLabel, Fields::FLOW_LABEL),
            has_tcp_flags: if_has(Field::TcpFlags, Fields::TCP_FLAGS),
            has_icmp: if has_icmp { Fields::ICMP } else { Fields::NONE },
        })
    }

    /// Turns a record into a sample, if it carried traffic, and counts it. `octets` begins [`crate::elements::REACH`] octets before
    /// the record.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "numbers are cut to their fields, as the general way does")]
    pub(crate) fn emit(
        &self,
        octets: &[u8],
        rate: u32,
        context: &Context<'_>,
        tally: &mut Tally,
        out: &mut Vec<Sample>,
    ) {
        let read = |place: Place| number(octets, place);
        let (mut packets, mut bytes) = (read(self.packets), read(self.bytes));
        if packets == 0 || bytes == 0 {
            (packets, bytes) = self.or_post(octets, packets, bytes);
        }
        tally.add(packets, bytes);
        if packets | bytes == 0 {
            return;
        }
        let packets = packets.max(1);
        let protocol = read(self.protocol) as u8;
        let kind = &KINDS[usize::from(protocol)];
        let (source_port, destination_port) =
            (read(self.source_port) as u16 & kind.ports, read(self.destination_port) as u16 & kind.ports);
        let mut known = self.known | kind.known;
        known |= if source_port | destination_port == 0 { Fields::NONE } else { Fields::PORTS };
        known |= if packets == 1 { Fields::LENGTH | kind.single & self.has_tcp_flags } else { Fields::NONE };
        let mut icmp = [0, 0];
        if matches!(protocol, protocol::ICMP | protocol::ICMPV6) {
            icmp = (read(self.icmp) as u16).to_be_bytes();
            known |= self.has_icmp;
        }
        let mean = match (u32::try_from(bytes), u32::try_from(packets)) {
            // A division of 32 bits takes half as long.
            (Ok(bytes), Ok(packets)) => u64::from(bytes / packets),
            _ => bytes / packets,
        };
        let (source, destination) = match self.version {
            IpVersion::V4 => (u128::from(read(self.source)) << 96, u128::from(read(self.destination)) << 96),
            IpVersion::V6 => (self.source.address(octets), self.destination.address(octets)),
        };
        let span = self.span(octets, context);
        let (duration_ms, age_ms) = (context.duration_ms(span), span.age_ms);
        let is_followed = context.follows(span);
        out.push(Sample::empty(context.now, self.version, Origin::FlowRecord));
        let Some(sample) = out.last_mut() else { return };
        *sample = Sample {
            source,
            destination,
            time: context.now,
            packets: scaled(packets, rate),
            bytes: scaled(bytes, rate),
            sampling_rate: rate,
            duration_ms,
            age_ms,
            flow_label: read(self.flow_label) as u32 & 0xf_ffff,
            exporter: context.exporter.index,
            input_interface: read(self.input_interface) as u16,
            source_port,
            destination_port,
            length: u16::try_from(mean).unwrap_or(u16::MAX),
            tcp_flags: read(self.tcp_flags) as u16 & 0x0fff,
            known,
            version: self.version,
            protocol,
            icmp_type: icmp[0],
            icmp_code: icmp[1],
            dscp: (read(self.tos) as u8) >> 2,
            fragment: 0,
            origin: Origin::FlowRecord,
            dropped: is_dropped_status(read(self.forwarding_status), context.exporter),
            router: context.exporter.settings.router,
            inside: context.exporter.settings.is_inside,
        };
        if is_followed {
            self.follow(octets, context, sample);
        }
    }

    /// Outgoing counters in place of those that are 0.
    #[cold]
    fn or_post(&self, octets: &[u8], packets: u64, bytes: u64) -> (u64, u64) {
        let or_post = |units: u64, post: Place| if units == 0 { number(octets, post) } else { units };
        (or_post(packets, self.post_packets), or_post(bytes, self.post_bytes))
    }

    #[inline]
    fn span(&self, octets: &[u8], context: &Context<'_>) -> Span {
        let (first, last) = (number(octets, self.first), number(octets, self.last));
        match self.clock {
            Clock::None => Span::default(),
            Clock::Uptime => Span::of_uptime(first, last, context.exported),
            Clock::Millis => Span::of_unix(first, last, context.exported),
        }
    }

    /// Reads the span anew: kept for every record, it would cost those that do not need it.
    #[inline(never)]
    fn follow(&self, octets: &[u8], context: &Context<'_>, sample: &mut Sample) {
        context.settle(sample, self.span(octets, context));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use traffic::Time;

    use super::*;
    use crate::error::Statistics;
    use crate::exporter::RateSource;
    use crate::exporters::Exporters;
    use crate::plan::{Declared, Template};
    use crate::record;
    use crate::sampling::Sampling;
    use crate::span::Exported;

    /// Element and possible lengths.
    const ELEMENTS: [(u16, [u16; 3]); 25] = [
        (1, [4, 8, 8]),
        (2, [4, 8, 2]),
        (85, [8, 8, 8]),
        (86, [8, 4, 4]),
        (23, [4, 8, 8]),
        (24, [4, 8, 8]),
        (5, [1, 1, 2]),
        (6, [1, 2, 2]),
        (7, [2, 2, 4]),
        (11, [2, 2, 2]),
        (31, [3, 4, 4]),
        (32, [2, 2, 2]),
        (139, [2, 2, 1]),
        (193, [1, 1, 1]),
        (10, [2, 4, 4]),
        (14, [2, 4, 4]),
        (61, [1, 1, 1]),
        (89, [1, 4, 1]),
        // Not ours: skipped.
        (15, [4, 4, 4]),
        (16, [2, 4, 4]),
        (9, [1, 1, 1]),
        (210, [1, 3, 7]),
        (2, [4, 4, 4]),
        (4, [1, 1, 1]),
        (4, [1, 1, 1]),
    ];

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).expect("31 bits") % n
        }
    }

    /// A template of plain fields in any order.
    fn fields(random: &mut Random) -> Vec<Declared> {
        let addresses = [[(8, 4), (12, 4)], [(27, 16), (28, 16)]][random.below(2)];
        let times = [vec![], vec![(22, 4), (21, 4)], vec![(152, 8), (153, 8)]][random.below(3)].clone();
        let mut fields: Vec<Declared> =
            addresses.into_iter().chain(times).map(|(id, length)| (0, id, length)).collect();
        fields.push((0, 4, 1));
        for (id, lengths) in ELEMENTS {
            if random.below(3) > 0 {
                fields.insert(random.below(fields.len()), (0, id, lengths[random.below(3)]));
            }
        }
        fields
    }

    /// A record with small and large numbers, and protocols that matter.
    fn record(random: &mut Random, fields: &[Declared]) -> Vec<u8> {
        let mut octets = Vec::new();
        for (_, id, length) in fields {
            let zeros = random.below(usize::from(*length) + 1);
            for place in 0..usize::from(*length) {
                let octet = match id {
                    4 => [6, 17, 1, 58, 132, 47, 0][random.below(7)],
                    _ if place < zeros => 0,
                    _ => random.below(256),
                };
                octets.push(u8::try_from(octet).expect("an octet"));
            }
        }
        octets
    }

    #[test]
    fn plain_records_give_the_samples_that_the_general_way_gives() {
        let mut random = Random(1);
        let exporters = Exporters::default();
        let exporter = exporters.find(Time(1), IpAddr::from([192, 0, 2, 1])).expect("room");
        let mut samples = 0;
        for round in 0..3000 {
            let fields = fields(&mut random);
            let template = Template::compile(&fields, false).expect("valid");
            if template.plain().is_none() {
                assert!(are_totals(template.fields()), "{fields:?}");
                continue;
            }
            let sampling = if round % 2 == 0 { Sampling::default() } else { Sampling::everywhere(1000) };
            let exported = Exported {
                uptime_ms: [None, Some(0x0100_0000)][random.below(2)],
                unix_seconds: [None, Some(1_700_000_000)][random.below(2)],
            };
            let sampling = (&sampling, RateSource::Options);
            let context = Context::new(Time(7), &exporter, sampling, exported, None, template.fields());
            let mut message = vec![0xee; 20];
            (0..5).for_each(|_| message.extend(record(&mut random, &fields)));
            let read = |context: &Context<'_>| {
                let (mut statistics, mut out) = (Statistics::default(), Vec::new());
                let outcome = record::emit_all(&template, &message, 20, usize::MAX, context, &mut statistics, &mut out);
                (outcome, statistics, out)
            };
            let plain = read(&context);
            // A rate that is not settled goes the general way.
            let general = read(&Context { settled: None, ..context });
            assert_eq!(plain, general, "{fields:?}");
            samples += plain.2.len();
        }
        assert!(samples > 10_000, "{samples}");
    }

    #[test]
    fn what_needs_a_second_look_is_not_plain() {
        let with = |more: &[(u16, u16)]| -> Vec<Declared> {
            [(8, 4), (12, 4), (4, 1), (1, 4), (2, 4)].iter().chain(more).map(|(id, length)| (0, *id, *length)).collect()
        };
        let is_plain = |fields: &[Declared]| Template::compile(fields, false).is_some_and(|t| t.plain().is_some());
        assert!(is_plain(&with(&[])));
        for more in
            [&[(27, 16), (28, 16)][..], &[(22, 4)], &[(48, 1)], &[(233, 1)], &[(25, 2), (26, 2)], &[(7, 0xffff)]]
        {
            assert!(!is_plain(&with(more)), "{more:?}");
        }
    }
}
