//! Capture files (libpcap and pcapng) and the UDP datagrams in them.
//!
//! pcapng is read by `pcap-parser` because libpcap refuses files whose interfaces differ in link type; both kinds come out as
//! [`Frame`]s. Fragmented UDP datagrams are put together with a bounded buffer.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use traffic::Time;
use traffic::sample::{address_of, fragment};

use crate::packet::{self, LinkType};

/// Largest frame that is read; larger ones end the file with an error.
const BUFFER: usize = 1 << 20;
/// Interfaces of one pcapng section at most.
const MAX_INTERFACES: usize = 4096;

/// One captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was captured.
    pub time: Time,
    /// Its link layer; `None` if this program does not know it.
    pub link: Option<LinkType>,
    /// What was captured of it.
    pub data: Vec<u8>,
    /// Length on the wire.
    pub original_length: u32,
}

/// Why a capture file cannot be read (further).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {error}", path = path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a capture file, or broken from here on.
    #[error("{path} is not a readable pcap or pcapng file after {frames} frames: {reason}", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Frames that were read before.
        frames: u64,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: Option<LinkType>,
    resolution: u64,
    offset: i64,
}

/// Reads the frames of a capture file in order.
pub struct Reader {
    path: PathBuf,
    inner: Box<dyn PcapReaderIterator>,
    legacy: Option<(Option<LinkType>, bool)>,
    interfaces: Vec<Interface>,
    frames: u64,
    failed: bool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path).map_err(|error| CaptureError::Open { path: path.to_owned(), error })?;
        Self::read(path, file)
    }

    /// Reads a capture from anything that can be read; `path` names it in errors.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn read(path: &Path, source: impl io::Read + Send + 'static) -> Result<Self, CaptureError> {
        let inner = create_reader(BUFFER, source).map_err(|error| CaptureError::Format {
            path: path.to_owned(),
            frames: 0,
            reason: reason(&error),
        })?;
        Ok(Self { path: path.to_owned(), inner, legacy: None, interfaces: Vec::new(), frames: 0, failed: false })
    }

    /// The file that is read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        loop {
            // The parser takes this for granted.
            if self.legacy.is_none() && is_short_block(self.inner.data()) {
                return Err(self.broken("a block claims to be shorter than its own frame"));
            }
            let (consumed, frame) = match self.inner.next() {
                Ok((consumed, block)) => {
                    let frame = match block {
                        PcapBlockOwned::LegacyHeader(header) => {
                            let link = LinkType::from_number(header.network.0 & 0xffff);
                            self.legacy = Some((link, header.is_nanosecond_precision()));
                            None
                        }
                        PcapBlockOwned::Legacy(block) => {
                            let (link, nanoseconds) = self.legacy.unwrap_or((None, false));
                            let sub = if nanoseconds { block.ts_usec } else { block.ts_usec.saturating_mul(1000) };
                            Some(Frame {
                                time: Time::from_seconds(block.ts_sec.into(), sub),
                                link,
                                data: block.data.to_vec(),
                                original_length: block.origlen,
                            })
                        }
                        PcapBlockOwned::NG(block) => ng_frame(&mut self.interfaces, &block),
                    };
                    (consumed, frame)
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    let refilled = self.inner.refill().map_err(|error| reason(&error));
                    if let Err(reason) = refilled {
                        return Err(self.broken(&reason));
                    }
                    if self.inner.reader_exhausted() && self.inner.data().is_empty() {
                        return Ok(None);
                    }
                    if self.inner.reader_exhausted() {
                        return Err(self.broken("the last block is cut"));
                    }
                    continue;
                }
                Err(error) => {
                    let reason = reason(&error);
                    return Err(CaptureError::Format { path: self.path.clone(), frames: self.frames, reason });
                }
            };
            self.inner.consume(consumed);
            if let Some(frame) = frame {
                self.frames += 1;
                return Ok(Some(frame));
            }
        }
    }

    fn broken(&self, reason: &str) -> CaptureError {
        CaptureError::Format { path: self.path.clone(), frames: self.frames, reason: reason.to_owned() }
    }
}

/// Whether a pcapng block that begins here has fewer octets than its type and its two lengths take, in either byte order.
fn is_short_block(data: &[u8]) -> bool {
    data.first_chunk::<8>().is_some_and(|head| match head[4..] {
        [length, 0, 0, 0] | [0, 0, 0, length] => length < 12,
        _ => false,
    })
}

fn reason<I: std::fmt::Debug>(error: &PcapError<I>) -> String {
    match error {
        PcapError::HeaderNotRecognized => "neither pcap nor pcapng".to_owned(),
        PcapError::UnexpectedEof => "the file is cut".to_owned(),
        PcapError::BufferTooSmall => "a block is larger than 1 MiB".to_owned(),
        PcapError::Eof => "the file is empty".to_owned(),
        PcapError::ReadError | PcapError::Incomplete(_) => "reading failed".to_owned(),
        PcapError::OwnedNomError(..) | PcapError::NomError(..) => "a block is malformed".to_owned(),
    }
}

fn ng_frame(interfaces: &mut Vec<Interface>, block: &Block<'_>) -> Option<Frame> {
    let frame = |interface: Option<&Interface>, ticks: u64, data: &[u8], captured: u32, original_length: u32| {
        let interface = interface.copied().unwrap_or(Interface { link: None, resolution: 1_000_000, offset: 0 });
        let resolution = interface.resolution.max(1);
        let seconds = (ticks / resolution).saturating_add_signed(interface.offset);
        let sub = u128::from(ticks % resolution) * 1_000_000_000 / u128::from(resolution);
        Frame {
            time: Time::from_seconds(seconds, u32::try_from(sub).unwrap_or(0)),
            link: interface.link,
            data: data[..data.len().min(captured as usize)].to_vec(),
            original_length,
        }
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "statistics, name and other blocks carry no frame")]
    match block {
        Block::SectionHeader(_) => {
            interfaces.clear();
            None
        }
        Block::InterfaceDescription(description) => {
            if interfaces.len() < MAX_INTERFACES {
                interfaces.push(Interface {
                    link: LinkType::from_number(description.linktype.0),
                    resolution: description.ts_resolution().unwrap_or(1_000_000),
                    offset: description.ts_offset(),
                });
            }
            None
        }
        Block::EnhancedPacket(packet) => {
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            Some(frame(interfaces.get(packet.if_id as usize), ticks, packet.data, packet.caplen, packet.origlen))
        }
        Block::SimplePacket(packet) => Some(frame(interfaces.first(), 0, packet.data, packet.origlen, packet.origlen)),
        _ => None,
    }
}

impl Iterator for Reader {
    type Item = Result<Frame, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_frame().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// A UDP datagram taken from a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Its payload, whole unless the capture is cut.
    pub payload: Vec<u8>,
}

/// Fragmented datagrams being put together at most; the oldest is given up first.
const MAX_REASSEMBLIES: usize = 256;

type Key = (u128, u128, u32);

#[derive(Debug, Default)]
struct Partial {
    parts: BTreeMap<usize, Vec<u8>>,
    end: Option<usize>,
}

/// Takes UDP datagrams out of frames.
#[derive(Debug, Default)]
pub struct Datagrams {
    partial: BTreeMap<Key, Partial>,
    order: VecDeque<Key>,
}

impl Datagrams {
    /// The UDP datagram that `frame` carries or completes.
    pub fn extract(&mut self, link: LinkType, frame: &Frame) -> Option<Datagram> {
        let packet = packet::ip_packet(link, &frame.data).ok()?;
        let sample = packet::parse_ip(frame.time, packet.data, frame.original_length).ok()?;
        if sample.protocol != traffic::sample::protocol::UDP {
            return None;
        }
        let (header, identification, offset) = udp_position(packet.data)?;
        let end = packet.data.len().min(usize::try_from(sample.bytes).unwrap_or(usize::MAX));
        let payload = packet.data.get(header..end)?;
        let whole = if sample.is_fragment() {
            let last = sample.fragment & fragment::LAST != 0;
            self.reassemble((sample.source, sample.destination, identification), offset, last, payload)?
        } else {
            payload.to_vec()
        };
        let udp: [u8; 8] = *whole.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        let end = if length < 8 { whole.len() } else { length.min(whole.len()) };
        Some(Datagram {
            source: address_of(sample.version, sample.source),
            source_port: u16::from_be_bytes([udp[0], udp[1]]),
            destination_port: u16::from_be_bytes([udp[2], udp[3]]),
            payload: whole[8..end].to_vec(),
        })
    }

    fn reassemble(&mut self, key: Key, offset: usize, last: bool, payload: &[u8]) -> Option<Vec<u8>> {
        if !self.partial.contains_key(&key) {
            if self.order.len() >= MAX_REASSEMBLIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.partial.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let partial = self.partial.entry(key).or_default();
        if offset + payload.len() > usize::from(u16::MAX) {
            return None;
        }
        partial.parts.insert(offset, payload.to_vec());
        if last {
            partial.end = Some(offset + payload.len());
        }
        let end = partial.end?;
        let mut whole = Vec::with_capacity(end);
        for (at, part) in &partial.parts {
            if *at > whole.len() {
                return None;
            }
            whole.truncate(*at);
            whole.extend(part);
        }
        if whole.len() < end {
            return None;
        }
        self.partial.remove(&key);
        self.order.retain(|k| *k != key);
        Some(whole)
    }
}

/// Offset of the UDP header (or fragment payload) in an IP packet, its identification, and the fragment offset in bytes.
fn udp_position(packet: &[u8]) -> Option<(usize, u32, usize)> {
    if packet.first()? >> 4 == 4 {
        let id = u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]);
        let offset = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
        return Some((usize::from(packet[0] & 0x0f) * 4, id.into(), usize::from(offset) * 8));
    }
    let (mut next, mut at) = (*packet.get(6)?, 40);
    for _ in 0..8 {
        match next {
            17 => return Some((at, 0, 0)),
            44 => {
                let word = u16::from_be_bytes([*packet.get(at + 2)?, *packet.get(at + 3)?]);
                let id = u32::from_be_bytes(packet.get(at + 4..at + 8)?.try_into().ok()?);
                return Some((at + 8, id, usize::from(word & !7)));
            }
            0 | 43 | 60 => {
                next = *packet.get(at)?;
                at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
            }
            _ => return None,
        }
    }
    None
}

/// Writes an Ethernet capture file with nanosecond timestamps.
#[derive(Debug)]
pub struct Writer<W: io::Write>(W);

impl<W: io::Write> Writer<W> {
    /// Writes the file header (libpcap, nanoseconds, Ethernet).
    ///
    /// # Errors
    /// Those of the destination.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        out.write_all(&65_535_u32.to_le_bytes())?;
        out.write_all(&1_u32.to_le_bytes())?;
        Ok(Self(out))
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// Those of the destination.
    #[allow(clippy::cast_possible_truncation, reason = "seconds fit 32 bits until 2106, frames are short")]
    pub fn frame(&mut self, time: Time, data: &[u8], original_length: u32) -> io::Result<()> {
        self.0.write_all(&((time.0 / 1_000_000_000) as u32).to_le_bytes())?;
        self.0.write_all(&((time.0 % 1_000_000_000) as u32).to_le_bytes())?;
        self.0.write_all(&(data.len() as u32).to_le_bytes())?;
        self.0.write_all(&original_length.to_le_bytes())?;
        self.0.write_all(data)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the destination.
    pub fn finish(mut self) -> io::Result<W> {
        self.0.flush()?;
        Ok(self.0)
    }
}
