//! What an attack's case files hold, for people and other programs: samples, what they are made of, and a capture file.
//!
//! The capture file (libpcap, Ethernet) has one packet per sample with the headers as they were sampled, built anew: what telemetry
//! does not carry is zero, payload and checksums among it, and the length on the wire stands in the record's header. A flow record of
//! several packets is one packet, of mean length.
//!
//! Limits: [`MAX_CASES`] cases of an attack, the newest ones.

use std::net::IpAddr;
use std::path::Path;

use collectors::capture::Writer;
use traffic::{IpVersion, Sample};

use crate::case::Case;
use crate::history::archive::PastAttack;

/// Cases of one attack that are read at most.
pub const MAX_CASES: usize = 50;

/// The cases of an attack, oldest first; those that cannot be read are left out.
#[must_use]
pub fn cases(folder: &Path, attack: &PastAttack) -> Vec<Case> {
    let prefix: String =
        attack.prefix.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let end = format!("-{prefix}-{}.json", attack.direction);
    let in_time = |name: &str| {
        let time = name.strip_suffix(&end).and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms / 1000.0);
        time.is_some_and(|time| time >= attack.detected - 1.0 && attack.ended.is_none_or(|ended| time <= ended + 1.0))
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        files.filter_map(|f| f.file_name().into_string().ok()).filter(|name| in_time(name)).collect();
    names.sort();
    let surplus = names.len().saturating_sub(MAX_CASES);
    names.iter().skip(surplus).filter_map(|name| Case::read(&folder.join(name)).ok()).collect()
}

/// The samples of cases, in the order of time, each once.
#[must_use]
pub fn samples(cases: &[Case]) -> Vec<Sample> {
    let all = cases.iter().flat_map(|case| &case.mining.sample);
    let mut samples: Vec<Sample> = all.filter_map(crate::case::Row::sample).collect();
    let key = |s: &Sample| (s.time.0, s.source, s.destination, s.source_port, s.destination_port, s.protocol, s.length);
    samples.sort_by_key(key);
    samples.dedup_by_key(|s| key(s));
    samples
}

/// A capture file.
#[must_use]
pub fn pcap(samples: &[Sample]) -> Vec<u8> {
    let write = || -> std::io::Result<Vec<u8>> {
        let mut file = Writer::new(Vec::new())?;
        for sample in samples {
            let mut frame = vec![0; 12];
            frame.extend(match sample.version {
                IpVersion::V4 => [0x08, 0x00],
                IpVersion::V6 => [0x86, 0xdd],
            });
            let packet = packet(sample);
            let there = packet.len().min(usize::from(sample.length).max(20));
            frame.extend(&packet[..there]);
            let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            file.frame(sample.time, &frame, (u32::from(sample.length) + 14).max(captured))?;
        }
        file.finish()
    };
    write().unwrap_or_else(|error| unreachable!("memory takes it: {error}"))
}

fn packet(sample: &Sample) -> Vec<u8> {
    let mut octets = match sample.version {
        IpVersion::V4 => ipv4(sample),
        IpVersion::V6 => ipv6(sample),
    };
    // A later fragment has no transport header.
    if sample.fragment & traffic::sample::fragment::IS == 0 {
        octets.extend(transport(sample));
    }
    octets
}

fn ipv4(sample: &Sample) -> Vec<u8> {
    use traffic::sample::fragment;
    let mut octets = vec![0x45, sample.dscp << 2];
    octets.extend(sample.length.to_be_bytes());
    let (first, later) = (sample.fragment & fragment::FIRST != 0, sample.fragment & fragment::IS != 0);
    let more = first || later && sample.fragment & fragment::LAST == 0;
    let dont = sample.fragment & fragment::DONT != 0;
    // RFC 791 section 3.1: an offset says that it is not the first.
    let flags = u16::from(dont) << 14 | u16::from(more) << 13 | u16::from(later);
    octets.extend([0, 0]);
    octets.extend(flags.to_be_bytes());
    octets.extend([0, sample.protocol, 0, 0]);
    for address in [sample.source_address(), sample.destination_address()] {
        if let IpAddr::V4(address) = address {
            octets.extend(address.octets());
        }
    }
    octets
}

fn ipv6(sample: &Sample) -> Vec<u8> {
    let first = 6 << 28 | u32::from(sample.dscp) << 22 | sample.flow_label & 0xf_ffff;
    let mut octets = first.to_be_bytes().to_vec();
    octets.extend(sample.length.saturating_sub(40).to_be_bytes());
    octets.extend([sample.protocol, 0]);
    octets.extend(sample.source.to_be_bytes());
    octets.extend(sample.destination.to_be_bytes());
    octets
}

#[allow(clippy::cast_possible_truncation, reason = "the eight flags of RFC 9293")]
fn transport(sample: &Sample) -> Vec<u8> {
    let ports = [sample.source_port.to_be_bytes(), sample.destination_port.to_be_bytes()].concat();
    match sample.protocol {
        6 => [ports, vec![0; 8], vec![0x50, sample.tcp_flags as u8], vec![0; 6]].concat(),
        17 => {
            let header = if sample.version == IpVersion::V4 { 20 } else { 40 };
            [ports, sample.length.saturating_sub(header).to_be_bytes().to_vec(), vec![0; 2]].concat()
        }
        1 | 58 => vec![sample.icmp_type, sample.icmp_code, 0, 0, 0, 0, 0, 0],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::{Origin, Time};

    fn sample(version: IpVersion, protocol: u8, length: u16) -> Sample {
        let mut sample = Sample::empty(Time(1_764_000_000_123_456_789), version, Origin::Packet);
        let address = |text: &str| traffic::sample::address_bits(text.parse().expect("an address")).1;
        (sample.source, sample.destination) = match version {
            IpVersion::V4 => (address("198.51.100.7"), address("203.0.113.9")),
            IpVersion::V6 => (address("2001:db8::7"), address("2001:db8::9")),
        };
        (sample.protocol, sample.length, sample.packets) = (protocol, length, 1);
        (sample.source_port, sample.destination_port) = (53, 4242);
        sample.tcp_flags = 2;
        sample
    }

    #[test]
    fn a_capture_says_what_the_samples_said() {
        let samples = [
            sample(IpVersion::V4, 17, 1200),
            sample(IpVersion::V4, 6, 40),
            sample(IpVersion::V6, 17, 900),
            sample(IpVersion::V4, 47, 300),
        ];
        let folder = std::env::temp_dir().join(format!("floodwall-evidence-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let path = folder.join("x.pcap");
        std::fs::write(&path, pcap(&samples)).expect("written");
        let read: Vec<_> =
            collectors::capture::Reader::open(&path).expect("a capture").map(|f| f.expect("whole")).collect();
        let _ = std::fs::remove_dir_all(&folder);
        assert_eq!(read.len(), 4);
        for (frame, sample) in read.iter().zip(&samples) {
            let link = frame.link.expect("Ethernet");
            let seen =
                collectors::packet::parse(link, frame.time, &frame.data, frame.original_length).expect("a packet");
            let of = |s: &Sample| (s.source, s.destination, s.protocol, s.length);
            assert_eq!(of(&seen), of(sample));
            if matches!(sample.protocol, 6 | 17) {
                assert_eq!((seen.source_port, seen.destination_port), (53, 4242));
            }
        }
        assert_eq!(read[0].time, samples[0].time);
    }
}
