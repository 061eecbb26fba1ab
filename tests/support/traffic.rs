//! Traffic for tests and demos: deterministic packets, written to capture files and never sent by this code.
//!
//! Timestamps have exponential gaps, since periodic ones alias with 1-in-N samplers. Frames are cut to 128 bytes (their IP headers
//! say the true length) so that captures stay small.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "made-up numbers"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use collectors::capture::Writer;
use traffic::Time;

/// Octets of a frame that are kept.
const SNAP: usize = 128;
/// When recordings begin.
pub const START: u64 = 1_760_000_000;

/// A small seeded generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An exponential gap of mean `1 / rate` seconds, in nanoseconds.
    pub fn gap(&mut self, rate: f64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((-(1.0 - uniform).ln()) / rate * 1e9) as u64
    }
}

/// One IP packet to be.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ports: (u16, u16),
    pub tcp_flags: u8,
    pub icmp: (u8, u8),
    /// IP total length.
    pub length: u16,
    /// More fragments follow.
    pub more: bool,
    /// Fragment offset in bytes.
    pub offset: u16,
}

impl Packet {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, ports: (u16, u16), length: u16) -> Self {
        Self { source, destination, protocol, ports, tcp_flags: 0x10, icmp: (8, 0), length, more: false, offset: 0 }
    }

    /// The Ethernet frame, whole.
    fn frame(&self, random: &mut Random) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        let transport = self.transport(random);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let mut header = vec![0x45, 0];
                header.extend(self.length.to_be_bytes());
                header.extend((random.next() as u16).to_be_bytes());
                header.extend(((self.offset / 8) | if self.more { 0x2000 } else { 0 }).to_be_bytes());
                header.extend([60, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(self.length.saturating_sub(40).to_be_bytes());
                frame.extend([self.protocol, 60]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => unreachable!("both addresses are of one version"),
        }
        frame.extend(transport);
        let whole = 14 + usize::from(self.length);
        frame.resize(whole.max(60), 0);
        frame
    }

    fn transport(&self, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();
        if self.offset > 0 {
            out.extend((0..16).map(|_| random.next() as u8));
            return out;
        }
        match self.protocol {
            6 => {
                out.extend(self.ports.0.to_be_bytes());
                out.extend(self.ports.1.to_be_bytes());
                out.extend((random.next() as u32).to_be_bytes());
                out.extend([0, 0, 0, 0, 0x50, self.tcp_flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
            17 => {
                out.extend(self.ports.0.to_be_bytes());
                out.extend(self.ports.1.to_be_bytes());
                out.extend(self.length.saturating_sub(20).to_be_bytes());
                out.extend([0, 0]);
            }
            1 | 58 => out.extend([self.icmp.0, self.icmp.1, 0, 0, 0, 1, 0, 1]),
            _ => out.extend((0..8).map(|_| random.next() as u8)),
        }
        out
    }
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A recording in the making.
#[derive(Debug, Clone)]
pub struct Recording {
    random: Random,
    packets: Vec<(u64, Packet)>,
}

pub fn host(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
}

pub fn host6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

/// A foreign address that changes from call to call, of the version of `to`.
fn foreign(random: &mut Random, to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => {
            let bits = random.next() as u32;
            // 11.0.0.0 to 126.255.255.255: never one of ours.
            IpAddr::V4(Ipv4Addr::from_bits((11 + (bits >> 24) % 116) << 24 | bits & 0x00ff_ffff))
        }
        IpAddr::V6(_) => {
            let low = random.next();
            IpAddr::V6(Ipv6Addr::from_bits(
                0x2a00_u128 << 112 | u128::from(random.below(1 << 20)) << 80 | u128::from(low),
            ))
        }
    }
}

impl Recording {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), packets: Vec::new() }
    }

    /// Adds packets at `rate` per second from `from` for `seconds`.
    pub fn add(
        &mut self,
        from: f64,
        seconds: f64,
        rate: f64,
        mut make: impl FnMut(&mut Random) -> Packet,
    ) -> &mut Self {
        let mut at = (from * 1e9) as u64;
        let end = ((from + seconds) * 1e9) as u64;
        loop {
            at += self.random.gap(rate);
            if at >= end {
                return self;
            }
            let packet = make(&mut self.random);
            self.packets.push((at, packet));
        }
    }

    /// What a host ordinarily gets and sends: web, QUIC, DNS answers, NTP, ping.
    pub fn ordinary(&mut self, ours: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        self.add(from, seconds, rate, |r| ordinary(r, ours))
    }

    /// Large DNS answers from 300 reflectors.
    pub fn dns_amplification(&mut self, victim: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        // The attacker spoofed one port of the victim per reflector.
        let mut reflector = || (foreign(&mut self.random, victim), self.random.between(1024, 65_535) as u16);
        let reflectors: Vec<(IpAddr, u16)> = (0..300).map(|_| reflector()).collect();
        self.add(from, seconds, rate, |r| {
            let (source, port) = reflectors[r.below(300) as usize];
            let ports = (53, port);
            Packet::new(source, victim, 17, ports, r.between(900, 1472) as u16)
        })
    }

    /// SYNs to port 443 from spoofed sources.
    pub fn syn_flood(&mut self, victim: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        self.add(from, seconds, rate, |r| {
            let ports = (r.between(1024, 65_535) as u16, 443);
            let length = if victim.is_ipv4() { 40 } else { 60 };
            Packet { tcp_flags: 2, ..Packet::new(foreign(r, victim), victim, 6, ports, length) }
        })
    }

    /// Later UDP fragments without a beginning.
    pub fn fragment_flood(&mut self, victim: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        self.add(from, seconds, rate, |r| {
            let more = r.below(2) == 0;
            Packet { more, offset: 1480, ..Packet::new(foreign(r, victim), victim, 17, (0, 0), 1500) }
        })
    }

    /// Random protocols, ports, flags, lengths and sources: nothing in common.
    pub fn inseparable_flood(&mut self, victim: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        self.add(from, seconds, rate, |r| {
            let protocol = match r.below(250) as u8 {
                // Extension headers of IPv6 are no upper layers.
                0 | 43 | 44 | 50 | 51 | 59 | 60 | 135 | 139 | 140 => 200,
                other => other,
            };
            let ports = (r.between(1, 65_535) as u16, r.between(1, 65_535) as u16);
            let flags = r.below(64) as u8;
            Packet {
                tcp_flags: flags,
                ..Packet::new(foreign(r, victim), victim, protocol, ports, r.between(60, 1500) as u16)
            }
        })
    }

    /// UDP to one port with one length.
    pub fn udp_flood(&mut self, victim: IpAddr, from: f64, seconds: f64, rate: f64) -> &mut Self {
        self.add(from, seconds, rate, |r| {
            let ports = (r.between(1024, 65_535) as u16, 9_999);
            Packet::new(foreign(r, victim), victim, 17, ports, 540)
        })
    }

    /// Packets so far for which `is` holds, given their time in seconds since the Unix epoch.
    pub fn count(&self, mut is: impl FnMut(f64, &Packet) -> bool) -> u64 {
        let seconds = |at: u64| START as f64 + at as f64 / 1e9;
        self.packets.iter().filter(|(at, packet)| is(seconds(*at), packet)).count() as u64
    }

    /// Packets so far.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Writes everything in order of time.
    pub fn write(&mut self, out: impl io::Write) -> io::Result<()> {
        self.packets.sort_by_key(|(at, _)| *at);
        let mut writer = Writer::new(io::BufWriter::new(out))?;
        let packets = std::mem::take(&mut self.packets);
        for (at, packet) in packets {
            let frame = packet.frame(&mut self.random);
            let time = Time::from_seconds(START, 0).after(std::time::Duration::from_nanos(at));
            writer.frame(time, &frame[..frame.len().min(SNAP)], frame.len() as u32)?;
        }
        writer.finish().map(|_| ())
    }
}

fn ordinary(r: &mut Random, ours: IpAddr) -> Packet {
    let other = foreign(r, ours);
    let high = r.between(20_000, 65_535) as u16;
    let small = if ours.is_ipv4() { 40 } else { 60 };
    let (protocol, ports, length) = match r.below(100) {
        0..40 => (6, (high, 443), r.between(small, 600)),
        40..60 => (6, (high, 80), r.between(small, 600)),
        60..85 => (17, (high, 443), r.between(60, 1300)),
        85..92 => (17, (53, high), r.between(80, 400)),
        92..96 => (17, (123, 123), 76),
        _ => (if ours.is_ipv4() { 1 } else { 58 }, (0, 0), 84),
    };
    let mut packet = Packet::new(other, ours, protocol, ports, length as u16);
    if protocol == 6 && r.below(20) == 0 {
        packet.tcp_flags = 2;
        packet.length = 60;
    }
    if protocol == 58 {
        packet.icmp = (128, 0);
    }
    // A third of it goes out.
    if r.below(3) == 0 {
        (packet.source, packet.destination) = (packet.destination, packet.source);
        packet.ports = (packet.ports.1, packet.ports.0);
    }
    packet
}
