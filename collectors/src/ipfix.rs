//! IPFIX (RFC 7011) and `NetFlow` v9 (RFC 3954): messages, sets, templates, options and data records.
//!
//! The two differ in the message header, in the numbers of template sets and in how an options template splits its fields; all
//! the rest is one.

use std::net::IpAddr;

use crate::elements::{Field, Values};
use crate::error::{Reason, Statistics};
use crate::record::{self, Context};
use crate::sample::{Sample, Time};
use crate::template::{Domain, DomainKey, MAX_FIELDS, Snapshot, Template, Templates};

/// `NetFlow` v9.
pub(crate) const V9: u16 = 9;
/// IPFIX.
pub(crate) const IPFIX: u16 = 10;

const V9_HEADER: usize = 20;
const IPFIX_HEADER: usize = 16;

/// What a message is decoded with.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) now: Time,
    pub(crate) exporter: IpAddr,
    pub(crate) exporter_index: u16,
    pub(crate) rate_override: Option<u32>,
    pub(crate) templates: &'a Templates,
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

impl Message<'_> {
    /// Decodes a datagram, which may hold several messages.
    pub(crate) fn decode(&self, mut data: &[u8], statistics: &mut Statistics, out: &mut Vec<Sample>) {
        while !data.is_empty() {
            let Some(used) = self.message(data, statistics, out) else { return };
            data = &data[used..];
            if !matches!(u16_at(data, 0), Some(V9 | IPFIX)) {
                return;
            }
        }
    }

    /// Decodes the first message; returns its length, or `None` if nothing more can be read.
    fn message(&self, data: &[u8], statistics: &mut Statistics, out: &mut Vec<Sample>) -> Option<usize> {
        let version = u16_at(data, 0)?;
        let (header, domain) = if version == V9 { (V9_HEADER, 16) } else { (IPFIX_HEADER, 12) };
        let Some(domain) = u32_at(data, domain) else {
            statistics.error(Reason::TruncatedHeader);
            return None;
        };
        let end = if version == V9 { data.len() } else { usize::from(u16_at(data, 2)?) };
        if end < header || end > data.len() {
            statistics.error(Reason::BadLength);
        }
        let end = end.clamp(header, data.len());
        let key = DomainKey { exporter: self.exporter, version, domain };
        let Some(domain) = self.templates.domain(self.now, key) else {
            statistics.error(Reason::Limit);
            return None;
        };
        let used = self.sets(version, &domain, &data[header..end], statistics, out);
        Some(header + used)
    }

    /// Walks the sets; returns the bytes used.
    fn sets(
        &self,
        version: u16,
        domain: &Domain,
        data: &[u8],
        statistics: &mut Statistics,
        out: &mut Vec<Sample>,
    ) -> usize {
        let mut at = 0;
        while let (Some(id), Some(length)) = (u16_at(data, at), u16_at(data, at + 2)) {
            let length = usize::from(length);
            // A v9 message has no length of its own: the next one in the datagram begins where a set would.
            if version == V9 && id == V9 {
                return at;
            }
            if length < 4 || at + length > data.len() {
                // Zeros up to the end are padding that some exporters add.
                if data[at..].iter().any(|b| *b != 0) {
                    statistics.error(Reason::BadLength);
                }
                return data.len();
            }
            let set = &data[at + 4..at + length];
            match (version, id) {
                (V9, 0) | (IPFIX, 2) => self.template_set(version, domain, set, false, statistics),
                (V9, 1) | (IPFIX, 3) => self.template_set(version, domain, set, true, statistics),
                (_, 256..) => self.data_set(id, domain, set, statistics, out),
                _ => statistics.error(Reason::BadLength),
            }
            at += length;
        }
        data.len()
    }

    fn template_set(&self, version: u16, domain: &Domain, set: &[u8], options: bool, statistics: &mut Statistics) {
        let mut rest = set;
        while rest.len() >= 4 {
            let Some((id, fields, used)) = template(version, rest, options) else {
                if rest.iter().any(|b| *b != 0) {
                    statistics.error(Reason::BadTemplate);
                }
                return;
            };
            rest = &rest[used..];
            if fields.is_empty() && version == IPFIX {
                // RFC 7011 section 8.1: a withdrawal; ids 2 and 3 withdraw all.
                self.templates.withdraw(domain, (id > 255).then_some(id), options);
                continue;
            }
            match Template::compile(&fields, options) {
                Some(template) if id > 255 => {
                    if !self.templates.store(domain, id, template) {
                        statistics.error(Reason::Limit);
                    }
                }
                _ => statistics.error(Reason::BadTemplate),
            }
        }
    }

    fn data_set(&self, id: u16, domain: &Domain, set: &[u8], statistics: &mut Statistics, out: &mut Vec<Sample>) {
        let snapshot: &Snapshot = &domain.snapshot();
        let Some(template) = snapshot.templates.get(&id) else { return statistics.error(Reason::NoTemplate) };
        let context = Context {
            now: self.now,
            exporter: self.exporter_index,
            sampling: &snapshot.sampling,
            rate_override: self.rate_override,
        };
        let mut rest = set;
        while rest.len() >= template.record_length() {
            let mut values = Values::new();
            let Some(used) = template.read(rest, &mut values) else {
                statistics.error(Reason::TruncatedRecord);
                return;
            };
            rest = &rest[used..];
            if template.is_options {
                statistics.option_records += 1;
                learn(&values, domain);
            } else {
                record::emit(&values, &context, statistics, out);
                domain.prove();
            }
        }
    }
}

/// Enterprise (0: IANA), element and declared length.
type Element = (u32, u16, u16);

/// Reads a template: its id, its fields, and the bytes used.
fn template(version: u16, data: &[u8], options: bool) -> Option<(u16, Vec<Element>, usize)> {
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
        // Scope types of v9 are numbers of their own: nothing is read from them.
        let enterprise = if index < scopes { u32::MAX } else { enterprise };
        let element = if version == IPFIX { element & 0x7fff } else { element };
        fields.push((enterprise, element, length));
    }
    Some((id, fields, at))
}

/// Learns the sampling that an options record announces, in any of its forms.
fn learn(values: &Values<'_>, domain: &Domain) {
    let number = |field: Field| values.get(field).filter(|n| *n > 0);
    let population = || {
        let (size, population) = (number(Field::SamplingSize)?, number(Field::SamplingPopulation)?);
        Some(population / size)
    };
    let spaced = || {
        let interval = number(Field::PacketInterval)?;
        Some((interval + values.get(Field::PacketSpace).unwrap_or(0)) / interval)
    };
    // n out of N (algorithm 3) says so in size and population; its packet interval must not be taken for a rate.
    let rate = if values.get(Field::SelectorAlgorithm) == Some(3) {
        population().or_else(spaced)
    } else {
        number(Field::RandomInterval).or_else(|| number(Field::SamplingInterval)).or_else(spaced).or_else(population)
    };
    if let Some(rate) = rate.and_then(|r| u32::try_from(r).ok()).filter(|r| *r > 0) {
        domain.set_sampling(values.get(Field::SamplerId).or_else(|| values.get(Field::SelectorId)), rate);
    }
}
