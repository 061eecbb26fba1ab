//! sFlow version 5 (sflow.org/sflow_version_5.txt): flow samples read in place, everything else walked by length.
//!
//! A sample that cannot be read costs only itself: samples and records carry their lengths, and each is checked against what is
//! there before it is entered.

use std::sync::PoisonError;

use traffic::{Fields, IpVersion, Origin, Sample, Time};

use crate::config::Vantage;
use crate::domain::DomainKey;
use crate::error::{Reason, Statistics};
use crate::exporter::{Exporter, RateSource};
use crate::packet::{self, LinkType};
use crate::sequence::Unit;
use crate::template::{Templates, Views};

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
        let taken = Taken::read(xdr, expanded)?;
        let settings = &self.exporter.settings;
        let (rate, from) = match settings.rate {
            Some(rate) => (rate.max(1), RateSource::Override),
            None => (taken.announced.max(1), RateSource::Sample),
        };
        self.exporter.sampled(rate, from);
        let contradiction = self.exporter.pools().sample(taken.source, taken.number, taken.pool, taken.input, rate);
        contradiction.into_iter().for_each(|c| self.exporter.suspect(self.now, c));
        let (found, whole) = self.packet(xdr)?;
        self.statistics.record(1, found.map_or(0, |s| s.bytes), rate);
        if let Some(sample) = found {
            let roles = &settings.external_interfaces;
            if !roles.is_empty() && !roles.contains(&taken.input) && !roles.contains(&taken.output) {
                self.statistics.duplicates += 1;
            } else {
                out.push(Sample {
                    origin: Origin::SampledPacket,
                    exporter: self.exporter.index,
                    sampling_rate: rate,
                    packets: rate.into(),
                    bytes: sample.bytes.saturating_mul(rate.into()),
                    input_interface: u16::try_from(taken.input).unwrap_or(u16::MAX),
                    dropped: taken.discarded && settings.vantage == Vantage::Auto,
                    router: settings.router,
                    inside: settings.is_inside,
                    ..sample
                });
            }
        }
        whole.then_some(())
    }

    /// The packet that the records of a flow sample tell of, and whether all of them could be entered.
    fn packet(&mut self, xdr: &mut Xdr<'_>) -> Option<(Option<Sample>, bool)> {
        let mut found = None;
        for _ in 0..xdr.u32()?.min(MAX_SAMPLES) {
            let (Some(format), Some(part)) = (xdr.u32(), xdr.part()) else { return Some((found, false)) };
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
        Some((found, true))
    }
}

/// How a packet of a flow sample was taken: what precedes its records.
struct Taken {
    /// Its number among the samples of its source.
    number: u32,
    source: u32,
    /// N of 1:N, as the sample says.
    announced: u32,
    /// Packets that could have been taken so far.
    pool: u32,
    input: u32,
    output: u32,
    /// The agent says that it did not forward the packet.
    discarded: bool,
}

impl Taken {
    fn read(xdr: &mut Xdr<'_>, expanded: bool) -> Option<Self> {
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
        Some(Self { number, source, announced, pool, input, output, discarded })
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
