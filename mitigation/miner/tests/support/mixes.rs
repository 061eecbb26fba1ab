//! Made-up traffic for tests and benches of the miner: ordinary traffic of several kinds of hosts, and attacks on them. Packets are
//! independent draws; the same seed gives the same packets.
#![allow(dead_code, unreachable_pub, reason = "a module of several tests and benches, each of which needs a part")]
#![allow(missing_docs, reason = "names say what the traffic is")]

use traffic::sample::{fragment, protocol};
use traffic::{Direction, Fields, IpVersion, Origin, Prefix, Sample, Target, Time};

/// xorshift64*: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u16, high: u16) -> u16 {
        let span = u64::from(high - low) + 1;
        low + u16::try_from(self.next() % span).expect("within the span")
    }

    pub fn chance(&mut self, percent: u16) -> bool {
        self.between(0, 99) < percent
    }

    pub fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.between(0, u16::try_from(of.len() - 1).expect("few")))]
    }
}

/// A packet to the victim from anywhere; the protocol's own fields are to be set.
fn packet(version: IpVersion, random: &mut Random, number: u8, length: u16) -> Sample {
    let mut sample = Sample::empty(Time(0), version, Origin::Packet);
    let source = match version {
        IpVersion::V4 => u128::from(random.between(0x0100, 0xdfff)) << 112 | (random.bits() & 0xffff_0000 << 80),
        IpVersion::V6 => 0x2 << 124 | random.bits() >> 4,
    };
    sample.source = if version == IpVersion::V4 { source & !(u128::MAX >> 32) } else { source };
    sample.destination = victim(version).bits();
    (sample.protocol, sample.packets, sample.known) = (number, 1, Fields::ALL);
    sample.length = length + if version == IpVersion::V6 { 20 } else { 0 };
    sample.bytes = sample.length.into();
    if version == IpVersion::V4 && random.chance(80) {
        sample.fragment = fragment::DONT;
    }
    sample
}

/// Who is attacked.
pub fn victim(version: IpVersion) -> Prefix {
    match version {
        IpVersion::V4 => "203.0.113.9".parse().expect("literal"),
        IpVersion::V6 => "2001:db8::9".parse().expect("literal"),
    }
}

pub fn target(version: IpVersion) -> Target {
    Target { prefix: victim(version), direction: Direction::Incoming }
}

/// One packet of something.
pub type Kind = fn(IpVersion, &mut Random) -> Sample;

fn ports(mut sample: Sample, source: u16, destination: u16) -> Sample {
    (sample.source_port, sample.destination_port) = (source, destination);
    sample
}

fn tcp(version: IpVersion, random: &mut Random, ends: (u16, u16), flags: u16, length: u16) -> Sample {
    let mut sample = ports(packet(version, random, protocol::TCP, length), ends.0, ends.1);
    sample.tcp_flags = flags;
    sample
}

fn udp(version: IpVersion, random: &mut Random, ends: (u16, u16), length: u16) -> Sample {
    ports(packet(version, random, protocol::UDP, length), ends.0, ends.1)
}

fn later_fragment(version: IpVersion, random: &mut Random, last: bool, length: u16) -> Sample {
    let mut sample = packet(version, random, protocol::UDP, length);
    sample.fragment = fragment::IS | if last { fragment::LAST } else { 0 };
    sample
}

fn icmp(version: IpVersion, random: &mut Random, length: u16) -> Sample {
    let (number, kind) = if version == IpVersion::V4 { (protocol::ICMP, 8) } else { (protocol::ICMPV6, 128) };
    let mut sample = packet(version, random, number, length);
    sample.icmp_type = kind;
    sample
}

/// A web server and what it needs itself.
pub fn web(version: IpVersion, random: &mut Random) -> Sample {
    let (port, service) = (random.between(32_768, 60_999), if random.chance(80) { 443 } else { 80 });
    let bare = if random.chance(35) { 40 } else { 52 };
    match random.between(0, 99) {
        0..=3 => {
            let length = random.pick(&[52, 60, 64]);
            tcp(version, random, (port, service), 0x02, length)
        }
        4..=50 => tcp(version, random, (port, service), 0x10, bare),
        51..=83 => {
            let length = if random.chance(25) { 1500 } else { random.between(60, 1300) };
            tcp(version, random, (port, service), 0x18, length)
        }
        84..=89 => tcp(version, random, (port, service), 0x11, bare),
        90..=96 => {
            let length = random.between(58, 1280);
            udp(version, random, (port, 443), length)
        }
        97..=98 => {
            let length = random.between(70, 420);
            udp(version, random, (53, port), length)
        }
        _ => icmp(version, random, 84),
    }
}

/// A game server.
pub fn game(version: IpVersion, random: &mut Random) -> Sample {
    if random.chance(7) {
        return web(version, random);
    }
    let (source, length) = (random.between(1024, 65_535), random.between(48, 300));
    udp(version, random, (source, 27_015), length)
}

/// A resolver: queries come in, answers come back.
pub fn resolver(version: IpVersion, random: &mut Random) -> Sample {
    let port = random.between(1024, 65_535);
    if random.chance(50) {
        let length = random.between(56, 95);
        return udp(version, random, (port, 53), length);
    }
    let length = if random.chance(90) { random.between(80, 512) } else { random.between(512, 1400) };
    udp(version, random, (53, port), length)
}

/// Amplified DNS with fragments.
pub fn dns(version: IpVersion, random: &mut Random) -> Sample {
    let port = random.between(1024, 65_535);
    match random.between(0, 9) {
        0..=3 => {
            let length = random.between(1100, 1472);
            udp(version, random, (53, port), length)
        }
        4..=6 => later_fragment(version, random, false, 1480),
        _ => {
            let length = random.between(200, 1100);
            later_fragment(version, random, true, length)
        }
    }
}

pub fn ntp(version: IpVersion, random: &mut Random) -> Sample {
    udp(version, random, (123, 80), 468)
}

pub fn syn(version: IpVersion, random: &mut Random) -> Sample {
    let port = random.between(1024, 65_535);
    tcp(version, random, (port, 443), 0x02, 40)
}

/// SYN with the options of a real system.
pub fn syn_options(version: IpVersion, random: &mut Random) -> Sample {
    let port = random.between(1024, 65_535);
    tcp(version, random, (port, 443), 0x02, 60)
}

pub fn ack(version: IpVersion, random: &mut Random) -> Sample {
    let port = random.between(1024, 65_535);
    tcp(version, random, (port, 443), 0x10, 40)
}

pub fn udp_random(version: IpVersion, random: &mut Random) -> Sample {
    let (from, to, length) = (random.between(1, 65_535), random.between(1, 65_535), random.between(60, 1400));
    udp(version, random, (from, to), length)
}

pub fn ping(version: IpVersion, random: &mut Random) -> Sample {
    icmp(version, random, 1028)
}

pub fn gre(version: IpVersion, random: &mut Random) -> Sample {
    packet(version, random, 47, 564)
}

/// TCP data from a few prefixes, and from everywhere else.
pub fn botnet(version: IpVersion, random: &mut Random) -> Sample {
    let (port, length, of) = (random.between(1024, 65_535), random.between(560, 900), random.between(0, 7));
    let mut sample = tcp(version, random, (port, 443), 0x18, length);
    if of < 6 {
        let top = if version == IpVersion::V4 { 0x2d10 } else { 0x2a01 } + 37 * of;
        sample.source = u128::from(top) << 112 | (sample.source & !(u128::MAX << 112));
    }
    sample
}

pub const ORDINARY: [(&str, Kind); 3] = [("web", web), ("game", game), ("resolver", resolver)];
pub const ATTACKS: [(&str, Kind); 10] = [
    ("dns", dns),
    ("ntp", ntp),
    ("syn", syn),
    ("syn-options", syn_options),
    ("ack", ack),
    ("udp-random", udp_random),
    ("ping", ping),
    ("gre", gre),
    ("botnet", botnet),
    ("dns-and-syn", |version, random| if random.chance(50) { dns(version, random) } else { syn(version, random) }),
];

/// `count` packets, of which an attack makes up `percent`.
pub fn mix(
    version: IpVersion,
    random: &mut Random,
    count: usize,
    percent: u16,
    attack: Kind,
    ordinary: Kind,
) -> Vec<Sample> {
    (0..count)
        .map(|_| if random.chance(percent) { attack(version, random) } else { ordinary(version, random) })
        .collect()
}
