//! `NetFlow` v5 and v7: records of one layout, read by the same kind of plan as records of templates.
//!
//! `netflow_parser` reads both as well and is the oracle in tests. It is not used here because it allocates twice a datagram and
//! costs four times as much a record, which together with the copy of the datagram that it needs is a quarter of what v5 may cost
//! beyond receiving.

use std::sync::{LazyLock, PoisonError};

use traffic::{Sample, Time};

use crate::context::Context;
use crate::domain::DomainKey;
use crate::error::{Reason, Statistics};
use crate::exporter::{Exporter, RateSource};
use crate::plan::Template;
use crate::record;
use crate::sampling::Sampling;
use crate::sequence::Unit;
use crate::span::Exported;
use crate::template::{Templates, Views};

const HEADER: usize = 24;
/// paddingOctets.
const PADDING: u16 = 210;

/// The fields of a v5 record as information elements; those of v7 follow with four octets of the router's address.
const V5_FIELDS: [(u32, u16, u16); 20] = [
    (0, 8, 4),
    (0, 12, 4),
    (0, 15, 4),
    (0, 10, 2),
    (0, 14, 2),
    (0, 2, 4),
    (0, 1, 4),
    (0, 22, 4),
    (0, 21, 4),
    (0, 7, 2),
    (0, 11, 2),
    (0, PADDING, 1),
    (0, 6, 1),
    (0, 4, 1),
    (0, 5, 1),
    (0, 16, 2),
    (0, 17, 2),
    (0, 9, 1),
    (0, 13, 1),
    (0, PADDING, 2),
];

static V5: LazyLock<Template> = LazyLock::new(|| plan(&V5_FIELDS));
static V7: LazyLock<Template> = LazyLock::new(|| plan(&[&V5_FIELDS[..], &[(0, PADDING, 4)]].concat()));

fn plan(fields: &[(u32, u16, u16)]) -> Template {
    Template::compile(fields, false).expect("a record of 48 or 52 octets")
}

/// What a datagram is decoded with.
pub(crate) struct Datagram<'a> {
    pub(crate) version: u16,
    pub(crate) now: Time,
    pub(crate) exporter: &'a Exporter,
    pub(crate) templates: &'a Templates,
    pub(crate) views: &'a mut Views,
    pub(crate) statistics: &'a mut Statistics,
}

impl Datagram<'_> {
    /// Decodes a datagram; the count in the header decides, whatever follows.
    pub(crate) fn decode(&mut self, data: &[u8], out: &mut Vec<Sample>) {
        let Some(header) = data.first_chunk::<HEADER>() else {
            return self.statistics.error(Reason::TruncatedHeader);
        };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let template = if self.version == 5 { &*V5 } else { &*V7 };
        let count = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let whole = (data.len() - HEADER) / template.record_length();
        if count > whole {
            self.statistics.error(Reason::BadLength);
        }
        // The lower 14 bits are the interval, whatever the mode bits say: some routers leave them 0. v7 has none.
        let interval = if self.version == 5 { word(20) & 0x3fff } else { 0 };
        let sampling = if interval > 0 { Sampling::everywhere(interval) } else { Sampling::default() };
        let exported = Exported { uptime_ms: Some(word(4)), unix_seconds: None };
        let sampling = (&sampling, RateSource::Header);
        // The engine (v5: type and id) is what counts records. Without room for its state a stream is decoded all the same, only
        // its losses and its interval of reports are not seen.
        let engine = if self.version == 5 { word(20) >> 16 } else { 0 };
        let key = DomainKey { exporter: self.exporter.address, version: self.version, domain: engine };
        let view = self.views.take(self.now, self.templates, key);
        let reports = view.as_ref().map(|view| &view.domain.reports);
        let context = Context::new(self.now, self.exporter, sampling, exported, reports, template.fields());
        record::emit_all(template, data, HEADER, count.min(whole), &context, self.statistics, out);
        self.exporter.clock(self.now, Time::from_seconds(word(8).into(), word(12)));
        if let Some(view) = view {
            view.domain.was_useful(self.now);
            let order = {
                let mut sequence = view.domain.sequence.lock().unwrap_or_else(PoisonError::into_inner);
                sequence.next(Unit::Records, word(16), u32::try_from(count).ok())
            };
            self.exporter.ordered(order);
            self.views.put_back(key, view);
        }
    }
}
