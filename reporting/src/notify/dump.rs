//! A sample of an attack in FastNetMon's forms: text lines, objects, and rates of its traffic classes.

use serde_json::{Value, json};
use traffic::sample::fragment;
use traffic::{Direction, Fields, Sample, Time};

use crate::case::Case;

/// Samples in one message at most.
pub(super) const MAX_SAMPLES: usize = 100;

/// Shares of a sample's packets and bytes, by class.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Shares {
    pub(super) tcp: (f64, f64),
    pub(super) syn_tcp: (f64, f64),
    pub(super) udp: (f64, f64),
    pub(super) icmp: (f64, f64),
    pub(super) ip_fragmented: (f64, f64),
}

/// The samples of the attacked direction.
pub(super) fn samples(case: &Case) -> Vec<Sample> {
    let Ok(prefix) = case.prefix.parse::<traffic::Prefix>() else { return Vec::new() };
    let direction = if case.direction == "incoming" { Direction::Incoming } else { Direction::Outgoing };
    let target = traffic::Target { prefix, direction };
    case.mining.sample.iter().filter_map(crate::case::Row::sample).filter(|s| target.covers(s)).collect()
}

/// SYN without ACK.
const fn is_syn(sample: &Sample) -> bool {
    sample.tcp_flags & 0x12 == 0x02
}

const fn is_fragment(sample: &Sample) -> bool {
    sample.fragment & (fragment::IS | fragment::FIRST | fragment::LAST) != 0
}

#[allow(clippy::cast_precision_loss, reason = "shares")]
pub(super) fn shares(samples: &[Sample]) -> Shares {
    let total = |f: fn(&Sample) -> u64, which: &dyn Fn(&Sample) -> bool| -> f64 {
        samples.iter().filter(|s| which(s)).map(|s| f(s) as f64).sum()
    };
    let all = (total(|s| s.packets, &|_| true).max(1.0), total(|s| s.bytes, &|_| true).max(1.0));
    let of = |which: &dyn Fn(&Sample) -> bool| (total(|s| s.packets, which) / all.0, total(|s| s.bytes, which) / all.1);
    Shares {
        tcp: of(&|s| s.protocol == 6),
        syn_tcp: of(&|s| s.protocol == 6 && is_syn(s)),
        udp: of(&|s| s.protocol == 17),
        icmp: of(&|s| matches!(s.protocol, 1 | 58)),
        ip_fragmented: of(&is_fragment),
    }
}

/// `2026-11-25 01:02:03.456789`, in UTC.
pub(super) fn timestamp(time: Time) -> String {
    let seconds = time.0 / 1_000_000_000;
    let ([year, month, day], rest) = (date(seconds / 86_400), seconds % 86_400);
    let micros = time.0 % 1_000_000_000 / 1000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{micros:06}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted in years that begin in March.
const fn date(day: u64) -> [u64; 3] {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    [year + era * 400 + (month <= 2) as u64, month, of_year - (153 * shifted + 2) / 5 + 1]
}

pub(super) fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        47 => "gre".to_owned(),
        58 => "icmp6".to_owned(),
        other => other.to_string(),
    }
}

fn flags(sample: &Sample) -> String {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set = NAMES.iter().enumerate().filter(|(bit, _)| sample.tcp_flags >> bit & 1 == 1).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}

/// A line as FastNetMon prints it; time to live is not kept.
pub(super) fn line(sample: &Sample) -> String {
    let end = |address: std::net::IpAddr, port: u16| match address {
        std::net::IpAddr::V4(address) => format!("{address}:{port}"),
        std::net::IpAddr::V6(address) => format!("[{address}]:{port}"),
    };
    let flags = if sample.protocol == 6 { format!(" flags: {}", flags(sample)) } else { String::new() };
    format!(
        "{} {} > {} protocol: {}{flags} frag: {} packets: {} size: {} bytes ttl: 0 sample ratio: {}",
        timestamp(sample.time),
        end(sample.source_address(), sample.source_port),
        end(sample.destination_address(), sample.destination_port),
        protocol(sample.protocol),
        u8::from(is_fragment(sample)),
        sample.packets / u64::from(sample.sampling_rate.max(1)),
        sample.length,
        sample.sampling_rate.max(1),
    )
}

/// An object of `packet_dump_detailed`.
pub(super) fn detailed(sample: &Sample) -> Value {
    let is_v4 = sample.source_address().is_ipv4();
    json!({
        "timestamp": timestamp(sample.time),
        "ip_version": if is_v4 { "ipv4" } else { "ipv6" },
        "source_ip": sample.source_address(),
        "destination_ip": sample.destination_address(),
        "source_asn": 0, "destination_asn": 0, "source_country": "", "destination_country": "",
        "input_interface": sample.input_interface, "output_interface": 0,
        "source_port": sample.source_port,
        "destination_port": sample.destination_port,
        "agent_address": "",
        "tcp_flags": if sample.known.has(Fields::TCP_FLAGS) { flags(sample) } else { String::new() },
        "forwarding_status": "unknown",
        "fragmentation": is_fragment(sample),
        "packets": sample.packets / u64::from(sample.sampling_rate.max(1)),
        "length": sample.length, "ip_length": sample.length,
        "ttl": 0,
        "sample_ratio": sample.sampling_rate.max(1),
        "protocol": protocol(sample.protocol),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| timestamp(Time::from_seconds(seconds, 5_000));
        assert_eq!(at(0), "1970-01-01 00:00:00.000005");
        // date -u -d @951782399, @951868800, @4107542399
        assert_eq!(at(951_782_399), "2000-02-28 23:59:59.000005");
        assert_eq!(at(951_868_800), "2000-03-01 00:00:00.000005");
        assert_eq!(at(4_107_542_399), "2100-02-28 23:59:59.000005");
    }
}
