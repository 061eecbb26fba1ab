//! Cold start: what of a sample could be ordinary traffic of *some* service, when the target's own is not known.
//!
//! A flash crowd on a service that was never seen looks like that service: a web server gets acknowledgements and requests with a
//! few SYN among them, a game server datagrams to one port, a resolver small answers from port 53. Traffic is told apart by class;
//! a class that no service has much of, and that makes up several times as much of the sample, is taken for an attack. Everything
//! else gets the benefit of the doubt: a rule must mostly match what no service explains.

use std::collections::{BTreeMap, BTreeSet};

use traffic::sample::{protocol, tcp_flags};
use traffic::{Fields, Sample};

/// A class is an attack's when it makes up this many times the share that services have at most.
const TIMES: f64 = 2.0;
/// A rule must match at least this share of unexplained traffic among all it matches.
const MOSTLY: f64 = 0.6;

/// Samples of one sender from which its ports say something.
const SWEEP: usize = 10;

/// Ports of services over UDP that reflect, and whose answers few hosts ask for.
const REFLECTORS: [u16; 17] =
    [17, 19, 69, 111, 137, 161, 389, 520, 1900, 3283, 3702, 5353, 5683, 10001, 11211, 30718, 37810];
/// Ports of services that are spoken over TCP alone.
const TCP_ONLY: [u16; 14] = [20, 21, 22, 23, 25, 80, 110, 143, 179, 465, 587, 993, 995, 8080];

/// Classes that are told apart, with the share of all packets that the services which have most of them get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// What services are made of.
    Usual,
    /// TCP with SYN alone.
    Syn,
    /// TCP with SYN and ACK.
    SynAck,
    /// TCP with RST.
    Reset,
    /// TCP flags that no connection shows.
    OddFlags,
    /// Fragments.
    Fragment,
    /// ICMP.
    Icmp,
    /// DNS answers that fit no plain datagram.
    LargeAnswer,
    /// Answers of reflectors, or from NTP in other lengths than time takes.
    Reflected,
    /// UDP to a service that is not spoken over UDP, or without payload.
    Misdirected,
    /// UDP to ports all over the place.
    Scattered,
    /// Protocols that carry neither services nor tunnels.
    OtherProtocol,
}

impl Class {
    const fn at_most(self) -> f64 {
        match self {
            Self::Usual => 1.0,
            Self::Syn | Self::SynAck | Self::Reset => 0.2,
            Self::Icmp | Self::LargeAnswer => 0.1,
            Self::Fragment | Self::Scattered => 0.05,
            Self::OddFlags | Self::Reflected | Self::Misdirected | Self::OtherProtocol => 0.02,
        }
    }

    fn of(sample: &Sample) -> Self {
        if sample.is_fragment() {
            return Self::Fragment;
        }
        match sample.protocol {
            _ if !sample.known.has(Fields::PROTOCOL) => Self::Usual,
            protocol::TCP if sample.known.has(Fields::TCP_FLAGS) => Self::of_tcp(sample.tcp_flags),
            // When the flags of several packets add up to SYN, each has it.
            protocol::TCP if sample.tcp_flags & 0x1f == tcp_flags::SYN => Self::Syn,
            // GRE, ESP, AH, EtherIP, L2TP and IP in IP are tunnels.
            protocol::TCP | 4 | 41 | 47 | 50 | 51 | 97 | 115 => Self::Usual,
            protocol::UDP => Self::of_udp(sample),
            protocol::ICMP | protocol::ICMPV6 => Self::Icmp,
            _ => Self::OtherProtocol,
        }
    }

    const fn of_tcp(flags: u16) -> Self {
        let (fin, syn, rst, ack) = (tcp_flags::FIN, tcp_flags::SYN, tcp_flags::RST, tcp_flags::ACK);
        match flags & (fin | syn | rst | ack) {
            f if f == syn => Self::Syn,
            f if f == syn | ack => Self::SynAck,
            f if f & rst != 0 && f & syn == 0 => Self::Reset,
            f if f == ack || f == fin | ack => Self::Usual,
            _ => Self::OddFlags,
        }
    }

    fn of_udp(sample: &Sample) -> Self {
        if !sample.known.has(Fields::PORTS) {
            return Self::Usual;
        }
        let (source, destination) = (sample.source_port, sample.destination_port);
        let header = match sample.version {
            traffic::IpVersion::V4 => 28,
            traffic::IpVersion::V6 => 48,
        };
        // Means of flow records serve here: one answer of a reflector is as long as the next.
        let payload = sample.length.saturating_sub(header);
        if payload <= 1 || source == 0 || destination == 0 || TCP_ONLY.contains(&destination) {
            Self::Misdirected
        } else if REFLECTORS.contains(&source) || (source == 123 && !(44..=68).contains(&payload)) {
            Self::Reflected
        } else if source == 53 && (payload > 512 || sample.origin == traffic::Origin::FlowRecord) {
            // A record's length may be cut or a mean: too little to take a flood of answers for ordinary ones.
            Self::LargeAnswer
        } else {
            Self::Usual
        }
    }
}

/// For each sample whether no service explains it.
#[allow(clippy::cast_precision_loss, reason = "shares")]
pub(super) fn unexplained(samples: &[&Sample]) -> Vec<bool> {
    let mut classes: Vec<Class> = samples.iter().map(|s| Class::of(s)).collect();
    scatter(samples, &mut classes);
    let mut sums: BTreeMap<Class, f64> = BTreeMap::new();
    let weight = |s: &Sample| s.packets.max(1) as f64;
    let total: f64 = samples.iter().map(|s| weight(s)).sum();
    for (class, sample) in classes.iter().zip(samples) {
        *sums.entry(*class).or_default() += weight(sample);
    }
    classes.iter().map(|class| sums[class] > TIMES * class.at_most() * total).collect()
}

/// UDP that is aimed at ports at random: from one sender to a new port nearly every time; or, as ports below 1024 with a few samples
/// each give away, from many.
fn scatter(samples: &[&Sample], classes: &mut [Class]) {
    let is_candidate =
        |s: &Sample, class: Class| s.protocol == protocol::UDP && class == Class::Usual && s.known.has(Fields::PORTS);
    let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
    let mut senders: BTreeMap<u128, (usize, BTreeSet<u16>)> = BTreeMap::new();
    for (sample, _) in samples.iter().zip(&*classes).filter(|(s, c)| is_candidate(s, **c)) {
        *ports.entry(sample.destination_port).or_default() += 1;
        let sender = senders.entry(sample.source).or_default();
        sender.0 += 1;
        sender.1.insert(sample.destination_port);
    }
    let all: usize = ports.values().sum();
    // A port with several samples is a service.
    let few = (all / 50).max(2);
    let low = ports.iter().filter(|(port, n)| **port < 1024 && **n <= few).count();
    let misdirected =
        |s: &Sample, c: Class| c == Class::Misdirected && s.protocol == protocol::UDP && s.destination_port > 0;
    let low_in_all = low + samples.iter().zip(&*classes).filter(|(s, c)| misdirected(s, **c)).count();
    let at_random = low >= 2 && 200 * low_in_all >= all;
    for (sample, class) in samples.iter().zip(classes) {
        if !is_candidate(sample, *class) {
            continue;
        }
        let rare = ports.get(&sample.destination_port).is_some_and(|n| *n <= few);
        // A gateway of calls uses many ports as well, but none of those.
        let sweeps = senders
            .get(&sample.source)
            .is_some_and(|(n, to)| *n >= SWEEP && 2 * to.len() > *n && to.first().is_some_and(|p| *p < 1024));
        if (at_random && rare) || sweeps {
            *class = Class::Scattered;
        }
    }
}

/// Whether a rule that matches these samples, of which some are unexplained, may be proposed.
#[allow(clippy::cast_precision_loss, reason = "shares")]
pub(super) fn is_plausible<'a>(matched: impl Iterator<Item = (&'a Sample, bool)>) -> bool {
    let (mut all, mut unexplained) = (0.0, 0.0);
    for (sample, is_unexplained) in matched {
        let weight = sample.packets.max(1) as f64;
        all += weight;
        unexplained += if is_unexplained { weight } else { 0.0 };
    }
    unexplained > MOSTLY * all
}
