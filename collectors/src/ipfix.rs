//! IPFIX (RFC 7011) and `NetFlow` v9 (RFC 3954): messages, sets, templates, options and data records.
//!
//! The two differ in the message header, in the numbers of template sets and in how an options template splits its fields; all
//! the rest is one.

use std::sync::{Arc, PoisonError};

use traffic::{Sample, Time};

use crate::context::Context;
use crate::domain::DomainKey;
use crate::elements::{Field, Places, REACH, Record};
use crate::error::{Reason, Statistics};
use crate::exporter::{Exporter, RateSource};
use crate::pending::Playback;
use crate::plan::{Declared, MAX_FIELDS, Template};
use crate::record;
use crate::sampling::Sampler;
use crate::sequence::Unit;
use crate::span::Exported;
use crate::template::{Snapshot, Templates, View, Views};

/// `NetFlow` v9.
pub(crate) const V9: u16 = 9;
/// IPFIX.
pub(crate) const IPFIX: u16 = 10;

const V9_HEADER: usize = 20;
const IPFIX_HEADER: usize = 16;
/// ingressInterface.
const INTERFACE: u16 = 10;
/// Octets of a set's header.
const SET_HEADER: usize = 4;

/// What a datagram is decoded with.
pub(crate) struct Message<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: &'a Exporter,
    pub(crate) templates: &'a Templates,
    pub(crate) views: &'a mut Views,
    pub(crate) statistics: &'a mut Statistics,
    pub(crate) playback: &'a mut Playback,
}

/// What is known of the message being decoded.
struct Current {
    key: DomainKey,
    /// Data records so far; `None` once a template was missing.
    records: Option<u32>,
    exported: Exported,
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

impl Message<'_> {
    /// Decodes a datagram, which may hold several messages.
    pub(crate) fn decode(&mut self, mut data: &[u8], out: &mut Vec<Sample>) {
        while !data.is_empty() {
            let Some(used) = self.message(data, out) else { return };
            data = &data[used..];
            if !matches!(u16_at(data, 0), Some(V9 | IPFIX)) {
                return;
            }
        }
    }

    /// Decodes the first message; returns its length, or `None` if nothing more can be read.
    fn message(&mut self, data: &[u8], out: &mut Vec<Sample>) -> Option<usize> {
        let version = u16_at(data, 0)?;
        // Header length, then where export time, sequence number and domain stand.
        let (header, [time, sequence, domain]) =
            if version == V9 { (V9_HEADER, [8, 12, 16]) } else { (IPFIX_HEADER, [4, 8, 12]) };
        let (Some(time), Some(number), Some(domain)) =
            (u32_at(data, time), u32_at(data, sequence), u32_at(data, domain))
        else {
            self.statistics.error(Reason::TruncatedHeader);
            return None;
        };
        let end = if version == V9 { data.len() } else { usize::from(u16_at(data, 2)?) };
        if end < header || end > data.len() {
            self.statistics.error(Reason::BadLength);
        }
        let end = end.clamp(header, data.len());
        let key = DomainKey { exporter: self.exporter.address, version, domain };
        let Some(mut view) = self.views.take(self.now, self.templates, key) else {
            self.statistics.error(Reason::Limit);
            return None;
        };
        self.exporter.clock(self.now, Time::from_seconds(time.into(), 0));
        // RFC 3954 section 5.1 and RFC 7011 section 3.1.
        let uptime_ms = if version == V9 { u32_at(data, 4) } else { None };
        let exported = Exported { uptime_ms, unix_seconds: Some(time) };
        let mut current = Current { key, records: Some(0), exported };
        let used = self.sets(&mut current, &mut view, &data[..end], header, out);
        let unit = if version == V9 { Unit::Messages } else { Unit::Records };
        let order = {
            let mut sequence = view.domain.sequence.lock().unwrap_or_else(PoisonError::into_inner);
            sequence.next(unit, number, current.records)
        };
        self.exporter.ordered(order);
        self.views.put_back(key, view);
        Some(used)
    }

    /// Walks the sets from `at` on; returns where the message ends.
    fn sets(
        &mut self,
        current: &mut Current,
        view: &mut View,
        message: &[u8],
        mut at: usize,
        out: &mut Vec<Sample>,
    ) -> usize {
        let version = current.key.version;
        while let (Some(id), Some(length)) = (u16_at(message, at), u16_at(message, at + 2)) {
            let length = usize::from(length);
            // A v9 message has no length of its own: the next one in the datagram begins where a set would.
            if version == V9 && id == V9 {
                return at;
            }
            if length < SET_HEADER || at + length > message.len() {
                // Zeros up to the end are padding that some exporters add.
                if message[at..].iter().any(|b| *b != 0) {
                    self.statistics.error(Reason::BadLength);
                }
                return message.len();
            }
            let set = &message[at + SET_HEADER..at + length];
            match (version, id) {
                (V9, 0) | (IPFIX, 2) => self.template_set(current, view, set, false),
                (V9, 1) | (IPFIX, 3) => self.template_set(current, view, set, true),
                (_, 256..) => {
                    // The message up to the end of the set, so that plans may look at what precedes a record.
                    self.data_set(current, view, id, &message[..at + length], at + SET_HEADER, out);
                }
                _ => self.statistics.error(Reason::BadLength),
            }
            at += length;
        }
        message.len()
    }

    fn template_set(&mut self, current: &mut Current, view: &mut View, set: &[u8], options: bool) {
        let version = current.key.version;
        let mut rest = set;
        while rest.len() >= 4 {
            let Some((id, fields, used)) = template(version, rest, options) else {
                if rest.iter().any(|b| *b != 0) {
                    self.statistics.error(Reason::BadTemplate);
                }
                return;
            };
            rest = &rest[used..];
            if fields.is_empty() && version == IPFIX {
                // RFC 7011 section 8.1: a withdrawal; ids 2 and 3 withdraw all.
                self.templates.withdraw(&view.domain, (id > 255).then_some(id), options);
                continue;
            }
            match Template::compile(&fields, options) {
                Some(template) if id > 255 => {
                    if self.templates.store(&view.domain, id, template) {
                        self.recover(current, view, id);
                    } else {
                        self.statistics.error(Reason::Limit);
                    }
                }
                _ => self.statistics.error(Reason::BadTemplate),
            }
        }
    }

    /// Decodes the sets that waited for a template, to be counted at the pace at which they arrived.
    fn recover(&mut self, current: &Current, view: &mut View, id: u16) {
        let waiting = self.templates.pending().take(self.now, current.key, id);
        let Some(first) = waiting.first().map(|w| w.arrived) else { return };
        for set in waiting {
            self.statistics.recovered_sets += 1;
            let mut samples = Vec::new();
            let mut past = Current { key: current.key, records: None, exported: current.exported };
            self.data_set(&mut past, view, id, &set.data, SET_HEADER.max(REACH), &mut samples);
            self.playback.push(self.now.after(set.arrived.since(first)), samples);
        }
    }

    /// Reads the records of a set from `at` to the end of `message`.
    fn data_set(
        &mut self,
        current: &mut Current,
        view: &mut View,
        id: u16,
        message: &[u8],
        at: usize,
        out: &mut Vec<Sample>,
    ) {
        let snapshot: Arc<Snapshot> = view.snapshot();
        let Some(template) = snapshot.templates.get(&id) else {
            current.records = None;
            self.statistics.error(Reason::NoTemplate);
            // What precedes the set comes along, as far as a plan may look.
            let data = message.get(at - REACH..).unwrap_or(&[]);
            return self.templates.pending().keep(self.now, current.key, id, data);
        };
        let sampling = (&snapshot.sampling, RateSource::Options);
        let records = if template.is_options {
            self.options((id, template), message, at, view)
        } else {
            let reports = Some(&view.domain.reports);
            let context = Context::new(self.now, self.exporter, sampling, current.exported, reports, template.fields());
            let context = Context { totals: Some(&self.templates.totals), ..context };
            let read = record::emit_all(template, message, at, usize::MAX, &context, self.statistics, out);
            if read.is_cut {
                self.statistics.error(Reason::TruncatedRecord);
            }
            read.records
        };
        current.records = current.records.and_then(|n| n.checked_add(records));
        if records > 0 {
            view.domain.was_useful(self.now);
        }
    }

    /// Learns from the options records of a set from `at` on; returns how many there were.
    fn options(&mut self, (id, template): (u16, &Template), message: &[u8], mut at: usize, view: &View) -> u32 {
        let (mut walked, mut records) = (Places::NONE, 0);
        while message.len() - at >= template.record_length() {
            let Some((length, record)) = template.read(message, at, &mut walked) else {
                self.statistics.error(Reason::TruncatedRecord);
                break;
            };
            self.learn(id, record, view);
            self.statistics.option_records += 1;
            at += length;
            records += 1;
        }
        records
    }

    /// Learns the sampling that an options record announces, in any of its forms, and the timeouts of the cache.
    fn learn(&self, template: u16, record: Record<'_>, view: &View) {
        let domain = &view.domain;
        let small = |field: Field| record.get(field).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let (active, idle) = (small(Field::ActiveTimeout), small(Field::IdleTimeout));
        if active > 0 || idle > 0 {
            domain.set_timeouts(active, idle);
            self.exporter.timeouts(active, idle);
        }
        let id = record.get(Field::SamplerId).or_else(|| record.get(Field::SelectorId));
        if let Some(rate) = announced_rate(record) {
            let sampler = match (id, small(Field::InputInterface)) {
                (Some(id), _) => Sampler::Id(id),
                (None, interface) if interface > 0 => Sampler::Interface(interface),
                (None, _) => Sampler::All,
            };
            domain.announce_rate(self.now, template, sampler, rate);
        } else if let (Some(sequence), Some(selector)) = (record.get(Field::SelectionSequence), id) {
            // Selection Sequence Report Interpretation (RFC 5476 section 6.5.1).
            domain.set_sequence(sequence, selector);
        }
    }
}

/// The rate that an options record announces.
fn announced_rate(record: Record<'_>) -> Option<u32> {
    let number = |field: Field| record.get(field).filter(|n| *n > 0);
    let population = || {
        let (size, population) = (number(Field::SamplingSize)?, number(Field::SamplingPopulation)?);
        Some(population / size)
    };
    let spaced = || {
        let interval = number(Field::PacketInterval)?;
        Some(record::spaced_rate(interval, record.get(Field::PacketSpace).unwrap_or(0)))
    };
    // samplingProbability (311) is a floating-point number of 8 octets, or of 4 in reduced size (RFC 7011 section 6.2).
    let probability = || {
        let bits = number(Field::SamplingProbability)?;
        let narrow = || u32::try_from(bits).ok().map(f32::from_bits).map(f64::from);
        let probability = narrow().unwrap_or_else(|| f64::from_bits(bits));
        (probability > 1e-9 && probability <= 1.0).then(|| whole(1.0 / probability))
    };
    // n out of N (algorithm 3) says so in size and population; its packet interval must not be taken for a rate.
    let rate = if record.get(Field::SelectorAlgorithm) == Some(3) {
        population().or_else(spaced)
    } else {
        number(Field::RandomInterval)
            .or_else(|| number(Field::SamplingInterval))
            .or_else(spaced)
            .or_else(population)
            .or_else(probability)
    };
    rate.and_then(|r| u32::try_from(r).ok()).filter(|r| *r > 0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10^9")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// Reads a template: its id, its fields, and the bytes used.
fn template(version: u16, data: &[u8], options: bool) -> Option<(u16, Vec<Declared>, usize)> {
    let id = u16_at(data, 0)?;
    let second = usize::from(u16_at(data, 2)?);
    let (count, mut at) = match (version, options) {
        (_, false) => (second, 4),
        // RFC 7011 section 3.4.2.2: field count, then scope field count; a withdrawal has no scope count.
        (IPFIX, true) => (second, if second == 0 { 4 } else { 6 }),
        // RFC 3954 section 6.1: lengths in bytes of scope and options.
        (_, true) => ((second + usize::from(u16_at(data, 4)?)) / 4, 6),
    };
    if count > MAX_FIELDS {
        return None;
    }
    let scopes = if version == V9 && options { second / 4 } else { 0 };
    let mut fields = Vec::with_capacity(count);
    for index in 0..count {
        let (element, length) = (u16_at(data, at)?, u16_at(data, at + 2)?);
        at += 4;
        let enterprise = if version == IPFIX && element & 0x8000 != 0 {
            at += 4;
            u32_at(data, at - 4)?
        } else {
            0
        };
        // Scope types of v9 are numbers of their own (RFC 3954 section 6.1): 2 is an interface; of others nothing is read.
        let (enterprise, element) = match (index < scopes, element) {
            (true, 2) => (0, INTERFACE),
            (true, _) => (u32::MAX, element),
            (false, _) => (enterprise, element),
        };
        let element = if version == IPFIX { element & 0x7fff } else { element };
        fields.push((enterprise, element, length));
    }
    Some((id, fields, at))
}
