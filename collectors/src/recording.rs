//! [`Recording`]: a capture file as the samples that the live program would have got from it.
//!
//! A capture holds either plain packets (a mirror port) or flow exports that routers sent, to any UDP port. Which one it is, is
//! decided by the whole file: exports if most of its UDP datagrams look like one.

use std::path::{Path, PathBuf};

use traffic::{Sample, Time};

use crate::capture::{CaptureError, Datagrams, Frame, Reader};
use crate::decoder::{Decoder, is_export};
use crate::error::{Reason, Statistics};
use crate::packet::{self, PacketError};

/// What a capture holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Packets, as a mirror port shows them.
    Packets,
    /// Flow exports in UDP datagrams.
    Exports,
}

impl Content {
    /// Looks at a whole file.
    ///
    /// # Errors
    /// See [`CaptureError`]; a file that is cut is judged by what is there.
    pub fn of(path: &Path) -> Result<Self, CaptureError> {
        let mut datagrams = Datagrams::default();
        let (mut exports, mut others) = (0u64, 0u64);
        for frame in Reader::open(path)? {
            let Ok(frame) = frame else { break };
            let Some(link) = frame.link else { continue };
            if let Some(datagram) = datagrams.extract(link, &frame) {
                if is_export(&datagram.payload) { exports += 1 } else { others += 1 }
            }
        }
        Ok(if exports > others { Self::Exports } else { Self::Packets })
    }
}

/// Reads a capture file as samples.
#[derive(Debug)]
pub struct Recording {
    reader: Reader,
    content: Content,
    datagrams: Datagrams,
    decoder: Decoder,
}

impl Recording {
    /// Opens a file; `decoder` keeps templates from one file to the next.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn open(path: &Path, content: Content, decoder: Decoder) -> Result<Self, CaptureError> {
        Ok(Self { reader: Reader::open(path)?, content, datagrams: Datagrams::default(), decoder })
    }

    /// Appends the samples of the next frame; returns the time of the frame, or `None` at the end. What waited for its template
    /// and is due after the last frame comes behind it, each at its time.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn next(&mut self, out: &mut Vec<Sample>) -> Result<Option<Time>, CaptureError> {
        let Some(frame) = self.reader.next().transpose()? else {
            let due = self.decoder.due();
            due.into_iter().for_each(|due| self.decoder.release(due, out));
            return Ok(due);
        };
        self.decoder.release(frame.time, out);
        match self.content {
            Content::Packets => self.packet(&frame, out),
            Content::Exports => {
                if let Some(link) = frame.link
                    && let Some(datagram) = self.datagrams.extract(link, &frame)
                    && is_export(&datagram.payload)
                {
                    self.decoder.datagram(frame.time, datagram.source, &datagram.payload, out);
                }
            }
        }
        Ok(Some(frame.time))
    }

    fn packet(&mut self, frame: &Frame, out: &mut Vec<Sample>) {
        let statistics = self.decoder.statistics_mut();
        let Some(link) = frame.link else { return statistics.error(Reason::UnknownLinkType) };
        match packet::parse(link, frame.time, &frame.data, frame.original_length) {
            Ok(sample) => {
                statistics.record(1, sample.bytes, 1);
                out.push(sample);
            }
            Err(PacketError::NotIp) => statistics.error(Reason::NotIp),
            Err(PacketError::Truncated | PacketError::Malformed) => statistics.error(Reason::BadFrame),
        }
    }

    /// What was seen so far.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        self.decoder.statistics()
    }

    /// The decoder, with the templates it has learned.
    #[must_use]
    pub fn into_decoder(self) -> Decoder {
        self.decoder
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.reader.path().to_owned()
    }
}
