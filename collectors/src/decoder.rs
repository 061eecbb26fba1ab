//! [`Decoder`]: a datagram of any flow protocol to samples.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::{Reason, Statistics};
use crate::ipfix::{self, Message};
use crate::record::Context;
use crate::sample::{Sample, Time};
use crate::template::{Sampling, Templates};
use crate::{netflow5, sflow};

/// Exporters that are told apart by index in samples; further ones share one index.
pub const MAX_EXPORTERS: usize = 4096;

/// Sampling rates that the operator sets, by exporter; they win over what the exporter announces.
pub type RateOverrides = BTreeMap<IpAddr, u32>;

/// One worker's decoder. Templates are shared with the other workers'.
#[derive(Debug)]
pub struct Decoder {
    templates: Arc<Templates>,
    overrides: Arc<RateOverrides>,
    exporters: BTreeMap<IpAddr, u16>,
    statistics: Statistics,
}

impl Decoder {
    /// With templates that may be shared.
    #[must_use]
    pub fn new(templates: Arc<Templates>, overrides: Arc<RateOverrides>) -> Self {
        Self { templates, overrides, exporters: BTreeMap::new(), statistics: Statistics::default() }
    }

    /// Decodes one datagram and appends its samples. Never fails: what cannot be read is counted by reason.
    pub fn datagram(&mut self, now: Time, exporter: IpAddr, payload: &[u8], out: &mut Vec<Sample>) {
        let Some(version) = version(payload) else { return self.statistics.error(Reason::UnknownVersion) };
        let index = self.exporter_index(exporter);
        let rate_override = self.overrides.get(&exporter).copied();
        self.statistics.datagrams += 1;
        match version {
            Version::NetFlow5or7(version) => {
                let sampling = Sampling::default();
                let context = Context { now, exporter: index, sampling: &sampling, rate_override };
                netflow5::decode(version, payload, &context, &mut self.statistics, out);
            }
            Version::Templated => {
                let message =
                    Message { now, exporter, exporter_index: index, rate_override, templates: &self.templates };
                message.decode(payload, &mut self.statistics, out);
            }
            Version::Sflow5 => {
                let context = sflow::Context { now, exporter: index, rate_override };
                sflow::decode(payload, context, &mut self.statistics, out);
            }
        }
    }

    /// Index of an exporter in samples, from 1; the last one is shared when there are too many.
    fn exporter_index(&mut self, exporter: IpAddr) -> u16 {
        if let Some(index) = self.exporters.get(&exporter) {
            return *index;
        }
        // Bounded: a flood of spoofed exporters shares the last index.
        if self.exporters.len() >= MAX_EXPORTERS {
            return u16::MAX;
        }
        let index = u16::try_from(self.exporters.len() + 1).unwrap_or(u16::MAX);
        self.exporters.insert(exporter, index);
        index
    }

    /// What was seen so far.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// For sources that are not datagrams to count into.
    pub(crate) const fn statistics_mut(&mut self) -> &mut Statistics {
        &mut self.statistics
    }
}

enum Version {
    NetFlow5or7(u16),
    Templated,
    Sflow5,
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
