//! Mirror ports: frames to samples, from an AF_PACKET ring where that is possible, else through libpcap.
//!
//! A ring takes the first [`SNAPLEN`] octets of each frame: enough for any header stack, and a buffer of 32 MiB then holds a
//! third of a second at 300,000 packets per second.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sys::{Ring, RingOptions};
use traffic::{Sample, Time};

use crate::config::Interface;
use crate::error::{Reason, Statistics};
use crate::filter;
use crate::packet::{LinkType, PacketError};
use crate::tunnel;
use crate::worker::{Every, PUBLISH, Rest, Shared, Sink, StartError, WAIT};

/// Packets that are handed over at once.
const BATCH: usize = 256;
/// Octets of a packet that are looked at: enough for any header stack.
const SNAPLEN: u32 = 256;
/// Size of a ring in MiB.
const RING_BLOCKS: u32 = 32;

/// An interface that is open.
pub(crate) enum Capture {
    Ring(Ring, LinkType),
    Pcap(Box<pcap::Capture<pcap::Active>>),
}

/// What a worker of an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) interface: Interface,
    /// Which of its workers, from 0.
    pub(crate) worker: usize,
}

impl Port {
    /// Opens the interface for this worker; the warning says when libpcap has to stand in for the ring.
    pub(crate) fn open(&self) -> Result<(Capture, Option<String>), StartError> {
        let name = &self.interface.name;
        let fail = |error: pcap::Error| StartError::Capture { interface: name.clone(), error };
        let program = match &self.interface.filter {
            Some(expression) => filter::compile(expression).map_err(fail)?,
            None => Vec::new(),
        };
        match self.open_ring(&program) {
            Ok((ring, link)) => Ok((Capture::Ring(ring, link), None)),
            Err(error) if self.worker > 0 => {
                // Through libpcap each of them would see, and count, every frame.
                let why =
                    format!("several workers can share it through AF_PACKET rings only, and there is none ({error})");
                Err(fail(pcap::Error::PcapError(why)))
            }
            Err(error) => {
                let capture = self.open_pcap().map_err(fail)?;
                let warning = format!("{name}: no AF_PACKET ring ({error}); libpcap is used, which costs more");
                Ok((capture, Some(warning)))
            }
        }
    }

    fn open_ring(&self, program: &[libc::sock_filter]) -> io::Result<(Ring, LinkType)> {
        let interface =
            sys::interface_index(&self.interface.name).ok_or_else(|| io::Error::other("no interface of that name"))?;
        let program = filter::program(program, SNAPLEN, self.interface.software_sampling);
        // The workers of an interface share its frames by flow; groups are told apart by the interface's index.
        let fanout = (self.interface.workers > 1).then_some(u16::try_from(interface & 0xffff).unwrap_or(0));
        let ring = Ring::open(&RingOptions { interface, blocks: RING_BLOCKS, fanout, program: &program })?;
        let hardware_type = ring.hardware_type()?;
        let link = ring_link(hardware_type).ok_or_else(|| {
            io::Error::other(format!("its frames begin with neither Ethernet nor IP: ARPHRD type {hardware_type}"))
        })?;
        if link != LinkType::Ethernet && self.interface.filter.is_some() {
            // The filter is compiled for Ethernet: elsewhere it would look at the wrong octets.
            return Err(io::Error::other("mirror_filter, and its frames have no Ethernet header"));
        }
        Ok((ring, link))
    }

    fn open_pcap(&self) -> Result<Capture, pcap::Error> {
        let mut capture = pcap::Capture::from_device(self.interface.name.as_str())?
            .promisc(true)
            .snaplen(SNAPLEN.cast_signed())
            .timeout(i32::try_from(WAIT.as_millis()).unwrap_or(20))
            .buffer_size(16 << 20)
            .open()?
            .setnonblock()?;
        if let Some(filter) = &self.interface.filter {
            capture.filter(filter, true)?;
        }
        Ok(Capture::Pcap(Box::new(capture)))
    }
}

/// The link layer of an interface whose frames a ring shows as they are: Ethernet and loopback, and tunnels of bare IP.
const fn ring_link(hardware_type: u16) -> Option<LinkType> {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(LinkType::Ethernet),
        libc::ARPHRD_NONE => Some(LinkType::Ip),
        _ => None,
    }
}

/// Frames of one interface on their way to samples.
struct Frames<'a> {
    interface: &'a Interface,
    /// Packets that one frame stands for.
    rate: u32,
    statistics: Statistics,
    batch: Vec<Sample>,
    packets: u64,
}

impl Frames<'_> {
    #[inline]
    fn take(&mut self, link: LinkType, now: Time, data: &[u8], original_length: u32) {
        self.packets += 1;
        match tunnel::parse(self.interface.encapsulation, link, now, data, original_length) {
            Ok(mut sample) => {
                self.statistics.record(1, sample.bytes, self.rate);
                sample.sampling_rate = self.rate;
                sample.packets = self.rate.into();
                sample.bytes = sample.bytes.saturating_mul(self.rate.into());
                self.batch.push(sample);
            }
            Err(PacketError::NotIp) => self.statistics.error(Reason::NotIp),
            Err(PacketError::Truncated | PacketError::Malformed) => self.statistics.error(Reason::BadFrame),
        }
    }

    fn hand_over(&mut self, now: Time, sink: &mut impl Sink) {
        if !self.batch.is_empty() {
            sink.samples(now, &self.batch);
            self.batch.clear();
        }
    }
}

/// Reads an interface until it is asked to stop, or the interface fails.
pub(crate) fn capture_packets(
    mut capture: Capture,
    port: &Port,
    mut sink: impl Sink,
    clock: &impl Fn() -> Time,
    stop: &AtomicBool,
    shared: &Shared,
) {
    if port.interface.workers > 1 {
        sys::pin_thread(port.worker);
    }
    let rate = port.interface.sampling_rate.max(1).saturating_mul(port.interface.software_sampling.max(1));
    let mut frames = Frames {
        interface: &port.interface,
        rate,
        statistics: Statistics::default(),
        batch: Vec::with_capacity(2 * BATCH),
        packets: 0,
    };
    let mut publish = Every::new(PUBLISH);
    let mut rest = Rest::new();
    while !stop.load(Ordering::Acquire) {
        let now = clock();
        let read = match &mut capture {
            Capture::Ring(ring, link) => Ok(read_block(ring, *link, now, &mut frames, &mut sink)),
            Capture::Pcap(pcap) => read_some(pcap, now, &mut frames),
        };
        frames.hand_over(now, &mut sink);
        sink.idle(now);
        if publish.is_due(now) {
            let drops = capture.drops();
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.decoder.clone_from(&frames.statistics);
            shared.packets = frames.packets;
            shared.kernel_drops = drops;
        }
        let wait = rest.wait(now, matches!(read, Ok(true)));
        let waited = match read {
            Ok(true) => Ok(()),
            Ok(false) => capture.wait(wait),
            Err(error) => Err(error),
        };
        if let Err(error) = waited {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.decoder.clone_from(&frames.statistics);
            shared.packets = frames.packets;
            shared.failed = Some(format!("{}: {error}", port.interface.name));
            return;
        }
    }
}

/// Reads the next block of a ring; false if there is none.
fn read_block(ring: &mut Ring, link: LinkType, now: Time, frames: &mut Frames<'_>, sink: &mut impl Sink) -> bool {
    ring.next_block(|frame| {
        frames.take(link, now, frame.data, frame.original_length);
        if frames.batch.len() >= BATCH {
            frames.hand_over(now, sink);
        }
    })
}

/// Reads up to a batch through libpcap; false if there was nothing.
fn read_some(capture: &mut pcap::Capture<pcap::Active>, now: Time, frames: &mut Frames<'_>) -> io::Result<bool> {
    let link = LinkType::from_number(capture.get_datalink().0);
    for count in 0..BATCH {
        match capture.next_packet() {
            Ok(packet) => match link {
                Some(link) => frames.take(link, now, packet.data, packet.header.len),
                None => frames.statistics.error(Reason::UnknownLinkType),
            },
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => return Ok(count > 0),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(true)
}

impl Capture {
    fn wait(&self, longest: Duration) -> io::Result<()> {
        match self {
            Self::Ring(ring, _) => ring.wait(longest).map(|_| ()),
            Self::Pcap(_) => {
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            }
        }
    }

    /// Frames that the kernel dropped.
    fn drops(&mut self) -> u64 {
        match self {
            Self::Ring(ring, _) => ring.drops(),
            Self::Pcap(capture) => capture.stats().map_or(0, |s| u64::from(s.dropped) + u64::from(s.if_dropped)),
        }
    }
}
