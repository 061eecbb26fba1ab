//! The order of the guide, for targets whose ordinary traffic is not known.
//!
//! All combinations of the protocol and one to three further conditions whose values are frequent in the sample are counted. They
//! are ranked by coverage in steps of 8 %, so that a handful of ordinary packets in the bucket decides nothing. Within a step,
//! those that would, at a guess, hit much of ordinary Internet traffic come last; then the shorter goes first; then the one that
//! ordinary traffic meets less.
//!
//! The first that mostly matches what no service explains is taken (`cold.rs`): a crowd on a service that was never seen gets no
//! rule.

use std::collections::BTreeMap;

use flowspec::{Bits, Condition, Match, Pattern, Ranges};
use traffic::sample::{fragment, protocol, tcp_flags};
use traffic::{Direction, Fields, IpVersion, Prefix, Sample};

use super::{Candidate, Outcome, Request, Verdict, Volume, cold, rule};

/// A value is worth a condition when this share of the packets (or bytes) has it.
const FREQUENT: f64 = 0.05;
/// Values per field that are tried.
const VALUES: usize = 4;
/// A rule must cover this share of what is left.
const WORTH: f64 = 0.10;
/// Coverage within this share of the best is as good: a bucket holds some ordinary packets, which must decide nothing.
const STEP: f64 = 0.08;
/// A condition that this share of ordinary traffic meets costs the target its service.
const RISKY: f64 = 0.1;

/// A condition and the share of ordinary traffic of the protocol that has it, at a guess.
#[derive(Debug, Clone)]
struct Option {
    condition: Condition,
    ordinary: f64,
}

/// Mines the sample, vector by vector.
pub(super) fn mine(request: &Request<'_>, sample: &[&Sample]) -> Outcome {
    let mut left: Vec<&Sample> = sample.to_vec();
    let mut rules: Vec<Candidate> = Vec::new();
    let mut ranking = Vec::new();
    let mut covered = 0.0;
    let all = Volume::of(sample.iter().copied());
    while rules.len() < request.max_rules && !left.is_empty() {
        let mut candidates = rank(request, &left);
        if candidates.is_empty() {
            break;
        }
        let Some(at) = plausible(&mut candidates, &left) else {
            if rules.is_empty() {
                candidates.truncate(super::RANKING);
                return Outcome::none(Verdict::LooksOrdinary, candidates);
            }
            break;
        };
        let mut best = candidates.remove(at);
        if rules.is_empty() {
            ranking = candidates.clone();
            ranking.truncate(super::RANKING);
        }
        // Shares are of the whole sample, so that a small remainder is not worth a rule.
        let of_all = Candidate::new(best.pattern.clone(), Volume::matched(&best.pattern, sample), all, "");
        if of_all.coverage(request.by_bytes) < WORTH {
            best.reason = "covers too little of the sample";
            ranking.insert(rules.len().min(ranking.len()), best);
            break;
        }
        left.retain(|s| best.pattern.matches(s) != Match::Yes);
        best.reason = "chosen";
        rules.push(best);
        covered += of_all.coverage(request.by_bytes);
        if covered >= request.enough {
            break;
        }
    }
    let verdict = if rules.is_empty() { Verdict::NoPattern } else { Verdict::Rules };
    let mut all = rules.clone();
    all.extend(ranking);
    Outcome { verdict, rules, ranking: all }
}

/// The first candidate that mostly matches what no service explains; those before it are told so.
fn plausible(candidates: &mut [Candidate], left: &[&Sample]) -> std::option::Option<usize> {
    let unexplained = cold::unexplained(left);
    let passes = |pattern: &Pattern| {
        let matched = left.iter().zip(&unexplained).filter(|(s, _)| pattern.matches(s) == Match::Yes);
        cold::is_plausible(matched.map(|(s, u)| (*s, *u)))
    };
    for (at, candidate) in candidates.iter_mut().enumerate() {
        if passes(&candidate.pattern) {
            return Some(at);
        }
        candidate.reason = "could be a service that is in demand: without a baseline it is left alone";
    }
    None
}

#[allow(clippy::cast_precision_loss, reason = "a share")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// All candidates for what is left, best first.
fn rank(request: &Request<'_>, left: &[&Sample]) -> Vec<Candidate> {
    let mut ranked: Vec<(f64, usize, Candidate)> = Vec::new();
    let all = Volume::of(left.iter().copied());
    for (number, share) in frequent(left, |s| s.known.has(Fields::PROTOCOL).then_some(u32::from(s.protocol))) {
        if share < FREQUENT {
            continue;
        }
        let of_protocol: Vec<&Sample> = left.iter().filter(|s| u32::from(s.protocol) == number).copied().collect();
        let options = options(request, &of_protocol, left.len());
        for chosen in combinations(options.len()) {
            let picked: Vec<&Option> = chosen.iter().map(|i| &options[*i]).collect();
            if !compatible(&picked) {
                continue;
            }
            let mut conditions = vec![Condition::Protocol(Ranges::value(number))];
            conditions.extend(picked.iter().map(|o| o.condition.clone()));
            let Ok(pattern) = rule(request.target, &conditions) else { continue };
            if !request.capabilities.allow(&pattern, request.target.direction) {
                continue;
            }
            let reason = "covers less, or hits more of ordinary traffic, or is longer";
            let candidate = Candidate::new(pattern.clone(), Volume::matched(&pattern, left), all, reason);
            if candidate.coverage(request.by_bytes) < FREQUENT {
                continue;
            }
            let ordinary: f64 = picked.iter().map(|o| o.ordinary).product();
            ranked.push((ordinary, picked.len(), candidate));
        }
    }
    let covered = |c: &Candidate| c.coverage(request.by_bytes);
    let best = ranked.iter().map(|(_, _, c)| covered(c)).fold(0.0, f64::max);
    let step = |c: &Candidate| quantise((best - covered(c)) / STEP);
    let is_risky = |ordinary: f64| ordinary >= RISKY;
    ranked.sort_by(|a, b| {
        step(&a.2)
            .cmp(&step(&b.2))
            .then(is_risky(a.0).cmp(&is_risky(b.0)))
            .then(a.1.cmp(&b.1))
            .then(a.0.total_cmp(&b.0))
            .then(covered(&b.2).total_cmp(&covered(&a.2)))
            .then(a.2.pattern.cmp(&b.2.pattern))
    });
    ranked.into_iter().map(|(_, _, candidate)| candidate).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "small numbers, rounded on purpose")]
fn quantise(value: f64) -> i64 {
    value.floor() as i64
}

/// The frequent values of a field with their share of packets, most frequent first.
fn frequent(samples: &[&Sample], field: impl Fn(&Sample) -> std::option::Option<u32>) -> Vec<(u32, f64)> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    let mut total = 0u64;
    for sample in samples {
        total = total.saturating_add(sample.packets);
        if let Some(value) = field(sample) {
            let count = counts.entry(value).or_default();
            *count = count.saturating_add(sample.packets);
        }
    }
    let mut values: Vec<(u32, f64)> = counts.into_iter().map(|(v, n)| (v, super::share(n, total))).collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    values.truncate(VALUES);
    values
}

/// Source ports of services that reflect, and are rare in ordinary traffic.
const REFLECTORS: [u32; 19] =
    [17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 1900, 3283, 3702, 5353, 5683, 10001, 11211, 30718, 37810];
/// Ports that carry most of ordinary traffic.
const WEB: [u32; 4] = [80, 443, 8080, 8443];

/// Share of ordinary traffic that a port is assumed to carry.
fn ordinary_of_port(value: u32, incoming: bool) -> f64 {
    if REFLECTORS.contains(&value) {
        0.02
    } else if WEB.contains(&value) {
        0.5
    } else if incoming && value < 32768 {
        // A service of the target: much of its ordinary traffic may go there.
        0.3
    } else {
        0.02
    }
}

/// Conditions that samples of one protocol offer.
fn options(request: &Request<'_>, samples: &[&Sample], all: usize) -> Vec<Option> {
    let can = request.capabilities;
    let enough = |share: f64| share * ratio(samples.len(), all) >= FREQUENT;
    let mut options = port_options(samples, enough);
    if can.tcp_flags {
        let flags = flag_options(samples).into_iter();
        options.extend(flags.map(|(bits, ordinary)| Option { condition: Condition::TcpFlags(bits), ordinary }));
    }
    if can.fragment && samples.iter().any(|s| s.known.has(Fields::FRAGMENT) && s.is_fragment()) {
        let any = Bits::any(u16::from(fragment::IS | fragment::FIRST));
        options.push(Option { condition: Condition::Fragment(any), ordinary: 0.01 });
    }
    options.extend(icmp_options(samples, enough));
    if can.length {
        options.extend(length_options(samples, enough));
    }
    if can.source && request.target.direction == Direction::Incoming {
        let prefixes = sources(samples, all).into_iter();
        options.extend(prefixes.map(|prefix| Option { condition: Condition::Source(prefix, 0), ordinary: 0.02 }));
    }
    options
}

/// Source ports, then destination ports.
fn port_options(samples: &[&Sample], enough: impl Fn(f64) -> bool) -> Vec<Option> {
    let with_ports =
        |s: &Sample| s.known.has(Fields::PORTS) && !s.is_later_fragment() && protocol::routers_match_ports(s.protocol);
    let mut options = Vec::new();
    for (value, share) in frequent(samples, |s| with_ports(s).then_some(s.source_port.into())) {
        if enough(share) {
            let condition = Condition::SourcePort(Ranges::value(value));
            options.push(Option { condition, ordinary: ordinary_of_port(value, false) });
        }
    }
    for (value, share) in frequent(samples, |s| with_ports(s).then_some(s.destination_port.into())) {
        if enough(share) {
            let condition = Condition::DestinationPort(Ranges::value(value));
            options.push(Option { condition, ordinary: ordinary_of_port(value, true) });
        }
    }
    options
}

fn icmp_options(samples: &[&Sample], enough: impl Fn(f64) -> bool) -> Vec<Option> {
    let kind = |s: &Sample| {
        let is = matches!(s.protocol, protocol::ICMP | protocol::ICMPV6) && s.known.has(Fields::ICMP);
        (is && !s.is_later_fragment()).then_some(s.icmp_type.into())
    };
    let values = frequent(samples, kind).into_iter().filter(|(_, share)| enough(*share));
    values.map(|(value, _)| Option { condition: Condition::IcmpType(Ranges::value(value)), ordinary: 0.3 }).collect()
}

fn length_options(samples: &[&Sample], enough: impl Fn(f64) -> bool) -> Vec<Option> {
    let lengths = frequent(samples, |s| s.known.has(Fields::LENGTH).then_some(s.length.into()));
    let option = |(value, _): (u32, f64)| {
        // Bare ACKs and full segments are ordinary; other lengths are rare.
        let ordinary = if matches!(value, 40 | 52 | 1440..=1500) { 0.3 } else { 0.03 };
        Option { condition: Condition::Length(Ranges::value(value)), ordinary }
    };
    lengths.into_iter().filter(|(_, share)| enough(*share)).map(option).collect()
}

fn flag_options(samples: &[&Sample]) -> Vec<(Bits, f64)> {
    let is_tcp = |s: &&&Sample| s.protocol == protocol::TCP && s.known.has(Fields::TCP_FLAGS) && !s.is_later_fragment();
    if samples.iter().filter(is_tcp).count() == 0 {
        return Vec::new();
    }
    let (syn, ack, rst) = (tcp_flags::SYN, tcp_flags::ACK, tcp_flags::RST);
    let mut options = vec![
        (Bits::set_and_clear(syn, ack), 0.05),
        (Bits::all(syn | ack), 0.05),
        (Bits::any(rst), 0.03),
        (Bits::set_and_clear(ack, syn), 0.9),
    ];
    // No flag at all never happens in ordinary traffic.
    options.push((Bits::set_and_clear(0, 0xff), 0.001));
    options
}

/// Single sources and /24s (IPv6: /64) that send much of it.
fn sources(samples: &[&Sample], all: usize) -> Vec<Prefix> {
    let mut found = Vec::new();
    for length in [32, 24] {
        let mut counts: BTreeMap<Prefix, usize> = BTreeMap::new();
        for sample in samples {
            let bits = match (sample.version, length) {
                (IpVersion::V4, length) => length,
                (IpVersion::V6, 32) => 128,
                (IpVersion::V6, _) => 64,
            };
            if let Some(prefix) = Prefix::new(sample.version, sample.source, bits) {
                *counts.entry(prefix).or_default() += 1;
            }
        }
        let best = counts.into_iter().max_by_key(|(prefix, n)| (*n, std::cmp::Reverse(*prefix)));
        // Sources can be spoofed and shared: only one that stands out is worth a condition.
        found.extend(best.filter(|(_, n)| ratio(*n, all) >= 0.25).map(|(prefix, _)| prefix));
    }
    found.dedup();
    found
}

/// Index sets of one to three options.
fn combinations(count: usize) -> Vec<Vec<usize>> {
    let mut sets = Vec::new();
    for a in 0..count {
        sets.push(vec![a]);
        for b in a + 1..count {
            sets.push(vec![a, b]);
            sets.extend((b + 1..count).map(|c| vec![a, b, c]));
        }
    }
    sets
}

/// No field twice.
fn compatible(picked: &[&Option]) -> bool {
    let kinds: Vec<u8> = picked.iter().map(|o| o.condition.component_type()).collect();
    kinds.iter().enumerate().all(|(i, kind)| !kinds[..i].contains(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::{Origin, Target, Time};

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            u32::try_from(self.0 % u64::from(n)).expect("below n")
        }
    }

    fn base(version: IpVersion, random: &mut Random) -> Sample {
        let mut sample = Sample::empty(Time(0), version, Origin::Packet);
        let victim: Prefix =
            if version == IpVersion::V4 { "203.0.113.9" } else { "2001:db8::9" }.parse().expect("literal");
        sample.destination = victim.bits();
        sample.source = u128::from(random.below(u32::MAX)) << 96;
        sample.packets = 1;
        sample.known = Fields::ALL;
        (sample.source_port, sample.destination_port) = (port(random), port(random));
        sample
    }

    fn port(random: &mut Random) -> u16 {
        u16::try_from(1024 + random.below(64_000)).expect("a port")
    }

    fn finish(mut sample: Sample, length: u32) -> Sample {
        sample.length = u16::try_from(length).expect("a length");
        sample.bytes = length.into();
        sample
    }

    fn web(random: &mut Random) -> Sample {
        let mut sample = base(IpVersion::V4, random);
        sample.protocol = 6;
        sample.destination_port = 443;
        sample.tcp_flags = if random.below(20) == 0 { 2 } else { 16 };
        let length = 40 + random.below(1400);
        finish(sample, length)
    }

    fn dns(random: &mut Random) -> Sample {
        let mut sample = base(IpVersion::V4, random);
        (sample.protocol, sample.source_port) = (17, 53);
        let length = 900 + random.below(600);
        finish(sample, length)
    }

    fn syn(random: &mut Random) -> Sample {
        let mut sample = base(IpVersion::V4, random);
        (sample.protocol, sample.destination_port, sample.tcp_flags) = (6, 443, 2);
        finish(sample, 40)
    }

    fn later_fragment(random: &mut Random) -> Sample {
        let mut sample = base(IpVersion::V4, random);
        sample.protocol = 17;
        (sample.source_port, sample.destination_port, sample.fragment) = (0, 0, fragment::IS);
        finish(sample, 1500)
    }

    fn mined(samples: &[Sample]) -> Vec<String> {
        let version = samples[0].version;
        let target =
            Target { prefix: Prefix::host_of(version, samples[0].destination), direction: Direction::Incoming };
        let request = Request {
            target,
            sample: samples,
            by_bytes: false,
            enough: 0.95,
            baseline: None,
            sample_pps: None,
            baseline_pps: None,
            capacity_pps: None,
            max_rules: 10,
            capabilities: flowspec::Capabilities::default(),
            excluded: Vec::new(),
        };
        super::super::mine(&request).rules.iter().map(|r| r.pattern.to_string()).collect()
    }

    fn mix(count: usize, kinds: &[fn(&mut Random) -> Sample]) -> Vec<Sample> {
        let mut random = Random(0x1234_5678_9abc_def1);
        (0..count).map(|i| kinds[i % kinds.len()](&mut random)).collect()
    }

    #[test]
    fn a_dns_amplification_is_its_source_port() {
        let mut samples = mix(480, &[dns]);
        samples.extend(mix(20, &[web]));
        assert_eq!(mined(&samples), ["destination 203.0.113.9/32 protocol udp source-port 53"]);
    }

    #[test]
    fn a_syn_flood_is_its_flags_and_not_the_port_of_the_service() {
        let mut samples = mix(480, &[syn]);
        samples.extend(mix(20, &[web]));
        assert_eq!(mined(&samples), ["destination 203.0.113.9/32 protocol tcp tcp-flags syn&!ack"]);
    }

    #[test]
    fn three_vectors_are_three_rules() {
        let mut rules = mined(&mix(500, &[dns, syn, later_fragment]));
        rules.sort();
        assert_eq!(
            rules,
            [
                "destination 203.0.113.9/32 protocol tcp tcp-flags syn&!ack",
                "destination 203.0.113.9/32 protocol udp fragment any(is-fragment+first-fragment)",
                "destination 203.0.113.9/32 protocol udp source-port 53",
            ]
        );
    }

    #[test]
    fn random_traffic_gives_no_rule_in_either_version() {
        for version in [IpVersion::V4, IpVersion::V6] {
            let mut random = Random(77);
            let samples: Vec<Sample> = (0..500)
                .map(|_| {
                    let mut sample = base(version, &mut random);
                    sample.protocol = u8::try_from(random.below(250)).expect("a byte");
                    sample.tcp_flags = u16::try_from(random.below(256)).expect("flags");
                    let length = 40 + random.below(1400);
                    finish(sample, length)
                })
                .collect();
            assert_eq!(mined(&samples), [] as [&str; 0]);
        }
    }

    #[test]
    fn flow_records_of_several_packets_are_never_matched_by_length_or_flags() {
        let mut samples = mix(20, &[syn]);
        for sample in &mut samples {
            sample.packets = 50;
            sample.known = sample.known.without(Fields::LENGTH).without(Fields::TCP_FLAGS).without(Fields::FRAGMENT);
        }
        assert_eq!(mined(&samples), ["destination 203.0.113.9/32 protocol tcp destination-port 443"]);
    }

    #[test]
    fn a_single_heavy_source_is_a_condition_but_never_alone() {
        let mut samples = mix(100, &[web]);
        let bits = samples[0].source;
        for sample in &mut samples {
            sample.source = bits;
            (sample.protocol, sample.destination_port) = (17, 4000 + sample.destination_port % 1000);
        }
        for (i, sample) in samples.iter_mut().enumerate() {
            sample.destination_port = u16::try_from(1000 + i * 37).expect("a port");
        }
        let rules = mined(&samples);
        assert_eq!(rules.len(), 1);
        assert!(rules[0].contains("protocol udp") && rules[0].contains("source "), "{rules:?}");
    }
}
