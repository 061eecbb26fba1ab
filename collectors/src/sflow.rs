//! sFlow version 5 (sflow.org/sflow_version_5.txt): flow samples read in place, everything else walked by length.
//!
//! A sample that cannot be read costs only itself: samples and records carry their lengths, and each is checked against what is
//! there before it is entered.

use crate::error::{Reason, Statistics};
use crate::packet::{self, LinkType};
use crate::sample::{Fields, IpVersion, Origin, Sample, Time};

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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) now: Time,
    pub(crate) exporter: u16,
    pub(crate) rate_override: Option<u32>,
}

/// Decodes a datagram.
pub(crate) fn decode(data: &[u8], context: Context, statistics: &mut Statistics, out: &mut Vec<Sample>) {
    let mut xdr = Xdr(data);
    let Some(samples) = header(&mut xdr) else { return statistics.error(Reason::TruncatedHeader) };
    for _ in 0..samples.min(MAX_SAMPLES) {
        let Some(format) = xdr.u32() else { return statistics.error(Reason::BadLength) };
        let Some(mut sample) = xdr.part() else { return statistics.error(Reason::BadLength) };
        let whole = match format {
            1 => flow_sample(&mut sample, false, context, statistics, out),
            3 => flow_sample(&mut sample, true, context, statistics, out),
            2 | 4 => {
                statistics.counter_samples += 1;
                Some(())
            }
            // Discarded packets are reported one by one, beside the sampled stream: they are not traffic to count.
            5 => {
                statistics.discard_samples += 1;
                Some(())
            }
            _ => Some(()),
        };
        if whole.is_none() {
            statistics.error(Reason::BadLength);
        }
    }
}

/// Version (already known), agent address, sub agent, sequence, uptime; returns the number of samples.
fn header(xdr: &mut Xdr<'_>) -> Option<u32> {
    xdr.u32()?;
    match xdr.u32()? {
        1 => xdr.skip(1)?,
        2 => xdr.skip(4)?,
        _ => return None,
    }
    xdr.skip(3)?;
    xdr.u32()
}

fn flow_sample(
    xdr: &mut Xdr<'_>,
    expanded: bool,
    context: Context,
    statistics: &mut Statistics,
    out: &mut Vec<Sample>,
) -> Option<()> {
    // Sequence, source id (class and index apart in the expanded form).
    xdr.skip(if expanded { 3 } else { 2 })?;
    let rate = context.rate_override.unwrap_or(xdr.u32()?).max(1);
    // Pool and drops.
    xdr.skip(2)?;
    let (input, discarded) = if expanded {
        xdr.skip(1)?;
        let input = xdr.u32()?;
        let format = xdr.u32()?;
        xdr.skip(1)?;
        (input, format == 1)
    } else {
        let input = xdr.u32()? & 0x3fff_ffff;
        // The two upper bits of the output interface: 01 says discarded.
        (input, xdr.u32()? >> 30 == 1)
    };
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
            1 => raw_header(part, context.now),
            3 if found.is_none() => sampled_ip(part, context.now, IpVersion::V4),
            4 if found.is_none() => sampled_ip(part, context.now, IpVersion::V6),
            _ => continue,
        };
        match parsed {
            Some(sample) => found = Some(sample),
            None if found.is_none() => statistics.error(Reason::NotIp),
            None => {}
        }
    }
    let bytes = found.map_or(0, |s| s.bytes);
    statistics.record(1, bytes, rate);
    if let Some(mut sample) = found {
        sample.origin = Origin::SampledPacket;
        sample.exporter = context.exporter;
        sample.sampling_rate = rate;
        sample.packets = rate.into();
        sample.bytes = sample.bytes.saturating_mul(rate.into());
        sample.input_interface = u16::try_from(input).unwrap_or(u16::MAX);
        sample.dropped = discarded;
        out.push(sample);
    }
    whole.then_some(())
}

/// Raw packet header: protocol, frame length, stripped octets, header.
fn raw_header(mut xdr: Xdr<'_>, now: Time) -> Option<Sample> {
    let link = match xdr.u32()? {
        1 => LinkType::Ethernet,
        7 => LinkType::Ppp,
        11 | 12 => LinkType::Ip,
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
