//! sFlow version 5 (sflow.org/sflow_version_5.txt): flow samples read in place, everything else walked by length.
//!
//! A sample that cannot be read costs only itself: samples and records carry their lengths, and each is checked against what is
//! there before it is entered.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use traffic::{Fields, IpVersion, Origin, Sample, Time};

use crate::config::Vantage;
use crate::error::{Reason, Statistics};
use crate::exporter::{Contradiction, Exporter, RateSource};
use crate::packet::{self, LinkType};
use crate::sequence::Unit;
use crate::template::{DomainKey, Templates, Views};

/// Samples of a datagram that are looked at; a 64 KiB datagram holds fewer.
const MAX_SAMPLES: u32 = 4096;

/// Reads big-endian words of an XDR stream.
#[derive(Debug, Clone, Copy)]
struct Xdr<'a>(&'a [u8]);

impl<'a> Xdr<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn skip(&mut self, words: usize) -> Option<()> {
        self.take(words.checked_mul(4)?).map(|_| ())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// A length-prefixed part; the length is proven before it is used.
    fn part(&mut self) -> Option<Xdr<'a>> {
        let length = usize::try_from(self.u32()?).ok()?;
        // XDR pads to words; a last part without its padding is still whole.
        let padded = length.checked_next_multiple_of(4)?.min(self.0.len());
        if length > self.0.len() {
            return None;
        }
        self.take(padded).map(|data| Xdr(&data[..length]))
    }
}

/// What a datagram is decoded with.
pub(crate) struct Datagram<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: &'a Exporter,
    pub(crate) templates: &'a Templates,
    pub(crate) views: &'a mut Views,
    pub(crate) statistics: &'a mut Statistics,
}

/// The header of a datagram.
struct Header {
    /// Agent and sub agent folded: who counts datagrams.
    stream: u32,
    sequence: u32,
    samples: u32,
}

/// Version (already known), agent address, sub agent, sequence, uptime, number of samples.
fn header(xdr: &mut Xdr<'_>) -> Option<Header> {
    xdr.u32()?;
    let words = match xdr.u32()? {
        1 => 1,
        2 => 4,
        _ => return None,
    };
    let mut stream = 0;
    for _ in 0..=words {
        stream = xdr.u32()?.wrapping_add(u32::rotate_left(stream, 7));
    }
    let sequence = xdr.u32()?;
    xdr.u32()?;
    Some(Header { stream, sequence, samples: xdr.u32()? })
}

impl Datagram<'_> {
    /// Decodes a datagram.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<Sample>) {
        let mut xdr = Xdr(data);
        let Some(header) = header(&mut xdr) else { return self.statistics.error(Reason::TruncatedHeader) };
        let before = self.statistics.records;
        for _ in 0..header.samples.min(MAX_SAMPLES) {
            let (Some(format), Some(mut sample)) = (xdr.u32(), xdr.part()) else {
                self.statistics.error(Reason::BadLength);
                break;
            };
            let whole = match format {
                1 => self.flow_sample(&mut sample, false, out),
                3 => self.flow_sample(&mut sample, true, out),
                2 => self.counter_sample(&mut sample, false),
                4 => self.counter_sample(&mut sample, true),
                // Discarded packets are reported one by one, beside the sampled stream: they are not traffic to count.
                5 => {
                    self.statistics.discard_samples += 1;
                    Some(())
                }
                _ => Some(()),
            };
            if whole.is_none() {
                self.statistics.error(Reason::BadLength);
            }
        }
        let records = u32::try_from(self.statistics.records - before).unwrap_or(0);
        let key = DomainKey { exporter: self.exporter.address, version: 0, domain: header.stream };
        let Some(view) = self.views.take(self.now, self.templates, key) else { return };
        if records > 0 {
            view.domain.was_useful(self.now);
        }
        let order = {
            let mut sequence = view.domain.sequence.lock().unwrap_or_else(PoisonError::into_inner);
            sequence.next(Unit::Messages, header.sequence, Some(records))
        };
        self.exporter.ordered(order);
        self.views.put_back(key, view);
    }

    /// Counters of interfaces; all other counters are skipped.
    fn counter_sample(&mut self, xdr: &mut Xdr<'_>, expanded: bool) -> Option<()> {
        self.statistics.counter_samples += 1;
        // Sequence, source id (class and index apart in the expanded form).
        xdr.skip(if expanded { 3 } else { 2 })?;
        for _ in 0..xdr.u32()?.min(MAX_SAMPLES) {
            let (format, mut part) = (xdr.u32()?, xdr.part()?);
            if format != 1 {
                continue;
            }
            let interface = part.u32()?;
            // Type, speed, direction, status, octets received.
            part.skip(7)?;
            let packets = part.u32()?.wrapping_add(part.u32()?).wrapping_add(part.u32()?);
            let contradiction = self.exporter.pools().counters(interface, packets);
            contradiction.into_iter().for_each(|c| self.exporter.suspect(self.now, c));
        }
        Some(())
    }

    fn flow_sample(&mut self, xdr: &mut Xdr<'_>, expanded: bool, out: &mut Vec<Sample>) -> Option<()> {
        let number = xdr.u32()?;
        // Source id: class and index, apart in the expanded form.
        let source = if expanded { xdr.u32()? << 24 | xdr.u32()? & 0xff_ffff } else { xdr.u32()? };
        let announced = xdr.u32()?;
        let pool = xdr.u32()?;
        // Drops.
        xdr.skip(1)?;
        let (input, output, discarded) = if expanded {
            xdr.skip(1)?;
            let input = xdr.u32()?;
            let (format, output) = (xdr.u32()?, xdr.u32()?);
            (input, output, format == 1)
        } else {
            let (input, output) = (xdr.u32()? & 0x3fff_ffff, xdr.u32()?);
            // The two upper bits of the output interface: 01 says discarded.
            (input, output & 0x3fff_ffff, output >> 30 == 1)
        };
        let (rate, from) = match self.exporter.settings.rate {
            Some(rate) => (rate.max(1), RateSource::Override),
            None => (announced.max(1), RateSource::Sample),
        };
        self.exporter.sampled(rate, from);
        let contradiction = self.exporter.pools().sample(source, number, pool, input, rate);
        contradiction.into_iter().for_each(|c| self.exporter.suspect(self.now, c));
        let records = xdr.u32()?;
        let mut found = None;
        let mut whole = true;
        for _ in 0..records.min(MAX_SAMPLES) {
            let (Some(format), Some(part)) = (xdr.u32(), xdr.part()) else {
                whole = false;
                break;
            };
            // A raw header says more than the sampled IP records beside it.
            let parsed = match format {
                1 => raw_header(part, self.now),
                3 if found.is_none() => sampled_ip(part, self.now, IpVersion::V4),
                4 if found.is_none() => sampled_ip(part, self.now, IpVersion::V6),
                _ => continue,
            };
            match parsed {
                Some(sample) => found = Some(sample),
                None if found.is_none() => self.statistics.error(Reason::NotIp),
                None => {}
            }
        }
        self.statistics.record(1, found.map_or(0, |s| s.bytes), rate);
        if let Some(sample) = found {
            let roles = &self.exporter.settings.external_interfaces;
            if !roles.is_empty() && !roles.contains(&input) && !roles.contains(&output) {
                self.statistics.duplicates += 1;
            } else {
                let dropped = discarded && self.exporter.settings.vantage == Vantage::Auto;
                out.push(Sample {
                    origin: Origin::SampledPacket,
                    exporter: self.exporter.index,
                    sampling_rate: rate,
                    packets: rate.into(),
                    bytes: sample.bytes.saturating_mul(rate.into()),
                    input_interface: u16::try_from(input).unwrap_or(u16::MAX),
                    dropped,
                    router: self.exporter.settings.router,
                    inside: self.exporter.settings.is_inside,
                    ..sample
                });
            }
        }
        whole.then_some(())
    }
}

/// Sources and interfaces of one exporter that are watched at most, each.
const MAX_SOURCES: usize = 256;
/// Samples of a source after which its rate is measured: then the quotient is certain to a few percent.
const MEASURE_AFTER: u32 = 256;
/// Samples after which a rate of less than a quarter of the announced one is certain: by chance once in 10^10.
const NOTICE_AFTER: u32 = 32;
/// Samples of an interface between two readings of its counters from which on they are compared.
const COMPARE_AFTER: u32 = 100;

/// What an agent's own numbers say of its sampling rate. Every sample carries the number of packets that could have been sampled
/// so far (the pool), and counter samples carry what interfaces received.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    sources: BTreeMap<u32, Source>,
    interfaces: BTreeMap<u32, Received>,
}

/// A source since it announced its present rate.
#[derive(Debug, Clone, Copy)]
struct Source {
    rate: u32,
    /// Number and pool of two earlier samples, [`MEASURE_AFTER`] samples apart: there always is one to measure from.
    marks: [(u32, u32); 2],
}

/// An interface between two readings of its counters.
#[derive(Debug, Default)]
struct Received {
    packets: Option<u32>,
    samples: u32,
    rate: u32,
}

/// The measured rate beside the announced one, if they are not within a factor of two of each other.
fn contradiction(measured: u64, announced: u32) -> Option<Contradiction> {
    let measured = u32::try_from(measured.max(1)).unwrap_or(u32::MAX);
    let agrees = measured <= announced.saturating_mul(2) && announced <= measured.saturating_mul(2);
    (!agrees).then_some(Contradiction { announced, measured })
}

impl Pools {
    /// Takes a flow sample. Sources are told apart, and what one announced before it changed its rate does not count.
    fn sample(&mut self, source: u32, number: u32, pool: u32, input: u32, rate: u32) -> Option<Contradiction> {
        // Taken where it came in, at an interface (source class 0): the interface's counters tell of the same packets.
        if source == input && (self.interfaces.len() < MAX_SOURCES || self.interfaces.contains_key(&input)) {
            let received = self.interfaces.entry(input).or_default();
            if received.rate != rate {
                *received = Received { rate, ..Received::default() };
            }
            received.samples += 1;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            return None;
        }
        let fresh = Source { rate, marks: [(number, pool); 2] };
        let known = self.sources.entry(source).or_insert(fresh);
        let [(first, first_pool), (second, _)] = known.marks;
        let (samples, packets) = (number.wrapping_sub(first), pool.wrapping_sub(first_pool));
        // Numbers that began anew, and agents that do not keep a pool, say nothing.
        if known.rate != rate || samples > MEASURE_AFTER * 16 || packets > u32::MAX / 2 {
            *known = fresh;
            return None;
        }
        if number.wrapping_sub(second) >= MEASURE_AFTER {
            known.marks = [known.marks[1], (number, pool)];
        }
        if samples < NOTICE_AFTER || packets == 0 {
            return None;
        }
        let measured = packets / samples;
        contradiction(measured.into(), rate).filter(|_| samples >= MEASURE_AFTER || measured < rate / 4)
    }

    /// Takes a reading of an interface's counters: packets received so far, modulo 2^32.
    fn counters(&mut self, interface: u32, packets: u32) -> Option<Contradiction> {
        let received = self.interfaces.get_mut(&interface)?;
        let before = received.packets.replace(packets);
        let samples = std::mem::take(&mut received.samples);
        let packets = packets.wrapping_sub(before?);
        if samples < COMPARE_AFTER || packets > u32::MAX / 2 {
            return None;
        }
        contradiction(u64::from(packets / samples), received.rate)
    }
}

/// Raw packet header: protocol, frame length, stripped octets, header.
fn raw_header(mut xdr: Xdr<'_>, now: Time) -> Option<Sample> {
    let link = match xdr.u32()? {
        1 => LinkType::Ethernet,
        7 => LinkType::Ppp,
        11 | 12 => LinkType::Ip,
        13 => LinkType::Mpls,
        _ => return None,
    };
    let frame_length = xdr.u32()?;
    let stripped = xdr.u32()?;
    let header = xdr.part()?;
    packet::parse(link, now, header.0, frame_length.saturating_sub(stripped)).ok()
}

/// Sampled IPv4 or IPv6: length, protocol, addresses, ports, flags, type of service.
#[allow(clippy::cast_possible_truncation, reason = "XDR carries bytes and ports as words")]
fn sampled_ip(mut xdr: Xdr<'_>, now: Time, version: IpVersion) -> Option<Sample> {
    let mut sample = Sample::empty(now, version, Origin::SampledPacket);
    let length = xdr.u32()?;
    sample.bytes = length.into();
    sample.length = u16::try_from(length).unwrap_or(u16::MAX);
    sample.packets = 1;
    sample.protocol = xdr.u32()? as u8;
    let mut address = || -> Option<u128> {
        match version {
            IpVersion::V4 => Some(u128::from(xdr.u32()?) << 96),
            IpVersion::V6 => xdr.take(16)?.try_into().ok().map(u128::from_be_bytes),
        }
    };
    (sample.source, sample.destination) = (address()?, address()?);
    (sample.source_port, sample.destination_port) = (xdr.u32()? as u16, xdr.u32()? as u16);
    sample.tcp_flags = xdr.u32()? as u16 & 0x0fff;
    sample.dscp = (xdr.u32()? as u8) >> 2;
    sample.known = Fields::ADDRESSES | Fields::PROTOCOL | Fields::LENGTH | Fields::DSCP | Fields::TCP_FLAGS;
    if sample.source_port != 0 || sample.destination_port != 0 {
        sample.known |= Fields::PORTS | Fields::ICMP;
    }
    Some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_and_counters_that_contradict_the_announced_rate_are_noticed() {
        let mut honest = Pools::default();
        let mut wrong = Pools::default();
        for n in 0..1000 {
            assert_eq!(honest.sample(3, n, n * 1000, 3, 1000), None);
            let found = wrong.sample(3, n, n * 4096, 3, 1000);
            assert_eq!(
                found,
                (n >= 256).then_some(Contradiction { announced: 1000, measured: 4096 }),
                "at every sample"
            );
        }
        // Mended: what was announced before does not count.
        assert!((1000..2000).all(|n| wrong.sample(3, n, n * 4096, 3, 4096).is_none()));
        // Sources that sample at different rates do not contradict each other.
        let mut several = Pools::default();
        for n in 0..1000 {
            assert_eq!(several.sample(3, n, n * 1000, 3, 1000), None);
            assert_eq!(several.sample(4, n, n * 50, 4, 50), None);
            assert_eq!(several.sample(5, n, n * 50, 5, 5000).is_some(), n >= 32);
        }
        // Restarted, and without a pool: nothing is said.
        let mut silent = Pools::default();
        assert!((0..1000).all(|n| silent.sample(7, n, 0, 9, 1000).is_none()));
        let mut counters = Pools::default();
        assert_eq!(counters.counters(3, 0), None, "no sample yet");
        counters.sample(3, 0, 0, 3, 1000);
        assert_eq!(counters.counters(3, 5_000), None, "the first reading");
        (1..=200).for_each(|n| assert_eq!(counters.sample(3, n, n * 1000, 3, 1000), None));
        assert_eq!(counters.counters(3, 205_000), None, "they agree");
        (201..=255).for_each(|n| assert_eq!(counters.sample(3, n, n * 1000, 3, 1000), None));
        assert_eq!(counters.counters(3, 900_000), None, "too few samples to tell");
        (0..100).for_each(|_| {
            counters.sample(3, 10, 10_000, 3, 1000);
        });
        let found = Contradiction { announced: 1000, measured: 4096 };
        assert_eq!(counters.counters(3, 900_000 + 100 * 4096), Some(found));
    }
}
