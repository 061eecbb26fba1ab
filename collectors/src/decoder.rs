//! [`Decoder`]: a datagram of any flow protocol to samples.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use traffic::{Sample, Time};

use crate::error::{Reason, Statistics};
use crate::exporter::{Exporter, Mark};
use crate::exporters::Exporters;
use crate::ipfix::{self, Message};
use crate::pending::Playback;
use crate::template::Views;
use crate::{netflow5, sflow};

/// Exporters that a worker remembers without asking at most; then it asks anew.
const REMEMBERED: usize = 512;

/// One worker's decoder. Exporters and their templates are shared with the other workers'.
#[derive(Debug, Default)]
pub struct Decoder {
    exporters: Arc<Exporters>,
    newest: Option<Arc<Exporter>>,
    remembered: BTreeMap<IpAddr, Arc<Exporter>>,
    views: Views,
    playback: Playback,
    statistics: Statistics,
}

impl Decoder {
    /// With exporters and templates that may be shared.
    #[must_use]
    pub fn new(exporters: Arc<Exporters>) -> Self {
        Self { exporters, ..Self::default() }
    }

    /// Decodes one datagram and appends its samples. Never fails: what cannot be read is counted by reason.
    pub fn datagram(&mut self, now: Time, exporter: IpAddr, payload: &[u8], out: &mut Vec<Sample>) {
        let exporter = match version(payload) {
            Some(version) => self.exporter(now, exporter).map(|exporter| (exporter, version)),
            // Who speaks another language is no exporter.
            None if self.exporters.allows(exporter) => Err(Reason::UnknownVersion),
            None => Err(Reason::NotAllowed),
        };
        let (exporter, version) = match exporter {
            Ok(known) => known,
            Err(reason) => return self.statistics.error(reason),
        };
        let mark = Mark::of(&self.statistics);
        let (errors, error_count) = (*self.statistics.error_counts(), self.statistics.error_count());
        self.statistics.datagrams += 1;
        let (templates, views, statistics) = (&self.exporters.templates, &mut self.views, &mut self.statistics);
        match version {
            Version::NetFlow5or7(version) => {
                netflow5::Datagram { version, now, exporter: &exporter, templates, views, statistics }
                    .decode(payload, out);
            }
            Version::Templated => {
                let playback = &mut self.playback;
                Message { now, exporter: &exporter, templates, views, statistics, playback }.decode(payload, out);
            }
            Version::Sflow5 => {
                sflow::Datagram { now, exporter: &exporter, templates, views, statistics }.decode(payload, out);
            }
        }
        exporter.count(now, version.number(payload), &mark, &self.statistics);
        if self.statistics.error_count() != error_count {
            for (reason, (before, after)) in Reason::ALL.iter().zip(errors.iter().zip(self.statistics.error_counts())) {
                (*before..*after).for_each(|_| exporter.error(*reason));
            }
        }
        self.newest = Some(exporter);
    }

    /// The exporter of an address, from what this worker remembers if possible.
    #[inline]
    fn exporter(&mut self, now: Time, address: IpAddr) -> Result<Arc<Exporter>, Reason> {
        match self.newest.take() {
            Some(newest) if newest.address == address && !newest.has_left() => return Ok(newest),
            Some(newest) if self.remembered.len() < REMEMBERED => {
                self.remembered.insert(newest.address, newest);
            }
            Some(_) => self.remembered.clear(),
            None => {}
        }
        match self.remembered.remove(&address) {
            Some(known) if !known.has_left() => Ok(known),
            Some(_) | None => self.exporters.find(now, address),
        }
    }

    /// Appends the samples of sets that waited for their templates, when their time has come. Call it now and then.
    pub fn release(&mut self, now: Time, out: &mut Vec<Sample>) {
        self.playback.release(now, out);
    }

    /// When the next of those sets is due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.playback.due()
    }

    /// What was seen so far.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The exporters that were heard.
    #[must_use]
    pub const fn exporters(&self) -> &Arc<Exporters> {
        &self.exporters
    }

    /// For sources that are not datagrams to count into.
    pub(crate) const fn statistics_mut(&mut self) -> &mut Statistics {
        &mut self.statistics
    }
}

#[derive(Clone, Copy)]
enum Version {
    NetFlow5or7(u16),
    Templated,
    Sflow5,
}

impl Version {
    /// The number by which exporters are told apart; sFlow is 0.
    fn number(self, payload: &[u8]) -> u16 {
        match self {
            Self::NetFlow5or7(version) => version,
            Self::Templated => payload.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
            Self::Sflow5 => 0,
        }
    }
}

/// Which protocol a datagram speaks: all of them begin with a version.
fn version(payload: &[u8]) -> Option<Version> {
    let first = u16::from_be_bytes(*payload.first_chunk()?);
    match first {
        5 | 7 => Some(Version::NetFlow5or7(first)),
        ipfix::V9 | ipfix::IPFIX => Some(Version::Templated),
        0 if payload.get(2..4)? == [0, 5] => Some(Version::Sflow5),
        _ => None,
    }
}

/// Whether a UDP payload looks like a flow export: for captures in which exports go to any port.
#[must_use]
pub fn is_export(payload: &[u8]) -> bool {
    match version(payload) {
        Some(Version::NetFlow5or7(5)) => payload.len() >= 24 && plausible_count(payload, 30),
        Some(Version::NetFlow5or7(_)) => payload.len() >= 24 && plausible_count(payload, 28),
        Some(Version::Templated) => {
            let length = u16::from_be_bytes([payload[2], *payload.get(3).unwrap_or(&0)]);
            payload.len() >= 16 && (payload[1] == 9 || (usize::from(length) <= payload.len() && length >= 16))
        }
        Some(Version::Sflow5) => payload.len() >= 28 && matches!(payload[4..8], [0, 0, 0, 1 | 2]),
        None => false,
    }
}

fn plausible_count(payload: &[u8], most: u16) -> bool {
    (0..=most).contains(&u16::from_be_bytes([payload[2], payload[3]]))
}
