//! Templates and sampling state of exporters, shared by all workers.
//!
//! The key is exporter address, version and domain (source id), not the source port: exporters send templates and data from
//! different ports. A template is compiled once to a read plan. Workers read an immutable snapshot behind an `Arc`, so a
//! datagram finds its templates whichever worker receives it (decision 21).
//!
//! Everything is bounded, whatever arrives: see the constants.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;

use crate::elements::{Field, Values, field};
use crate::sample::Time;

/// Exporters times domains at most. When full, the oldest that never sent a record with a known template makes room.
pub const MAX_DOMAINS: usize = 4096;
/// Domains of one exporter at most.
pub const MAX_DOMAINS_PER_EXPORTER: usize = 256;
/// Templates per domain at most.
pub const MAX_TEMPLATES: usize = 2048;
/// Fields per template at most.
pub const MAX_FIELDS: usize = 512;
/// Fields of all templates together at most (16 bytes each).
pub const MAX_FIELDS_IN_ALL: usize = 1 << 20;
/// Samplers per domain at most.
pub const MAX_SAMPLERS: usize = 256;
/// When all domains have sent usable data, those silent for this long make room.
const IDLE: Duration = Duration::from_secs(1800);

/// Declared length of a variable-length field (RFC 7011 section 7).
const VARIABLE: u16 = 0xffff;

/// Which domain a datagram belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DomainKey {
    pub(crate) exporter: IpAddr,
    pub(crate) version: u16,
    pub(crate) domain: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    length: u16,
    /// Offset in the record where all fields before have a fixed length.
    offset: u16,
    field: Option<Field>,
}

/// A template as a plan to read its records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) is_options: bool,
    /// Shortest record; the only length if `fixed`.
    record_length: usize,
    fixed: bool,
    steps: Box<[Step]>,
    declared_fields: usize,
}

impl Template {
    /// From (enterprise, element, declared length) in order; `None` if a record would have no length or too much.
    pub(crate) fn compile(fields: &[(u32, u16, u16)], is_options: bool) -> Option<Self> {
        let fixed = fields.iter().all(|f| f.2 != VARIABLE);
        let mut steps = Vec::new();
        let mut offset = 0usize;
        for &(enterprise, id, length) in fields {
            let known = field(enterprise, id);
            if length == VARIABLE {
                steps.push(Step { length, offset: 0, field: known });
                offset += 1;
                continue;
            }
            // Zero-length fields say nothing and cost nothing.
            if length > 0 && (known.is_some() || !fixed) {
                steps.push(Step { length, offset: u16::try_from(offset).ok()?, field: known });
            }
            offset += usize::from(length);
        }
        if offset == 0 || offset > usize::from(u16::MAX) {
            return None;
        }
        Some(Self { is_options, record_length: offset, fixed, steps: steps.into(), declared_fields: fields.len() })
    }

    /// Shortest possible record in bytes, at least 1.
    pub(crate) const fn record_length(&self) -> usize {
        self.record_length
    }

    /// Reads one record from the start of `data`; returns its length, or `None` if it is cut.
    #[inline]
    pub(crate) fn read<'a>(&self, data: &'a [u8], values: &mut Values<'a>) -> Option<usize> {
        if self.fixed {
            let record = data.get(..self.record_length)?;
            for step in &self.steps {
                let start = usize::from(step.offset);
                if let Some(field) = step.field {
                    values.set(field, &record[start..start + usize::from(step.length)]);
                }
            }
            return Some(self.record_length);
        }
        let mut at = 0;
        for step in &self.steps {
            let length = if step.length == VARIABLE {
                // RFC 7011 section 7: one byte, or 255 and two bytes. Empty values are legal.
                match *data.get(at)? {
                    255 => {
                        at += 3;
                        usize::from(u16::from_be_bytes([*data.get(at - 2)?, *data.get(at - 1)?]))
                    }
                    short => {
                        at += 1;
                        usize::from(short)
                    }
                }
            } else {
                usize::from(step.length)
            };
            let value = data.get(at..at + length)?;
            if let Some(field) = step.field {
                values.set(field, value);
            }
            at += length;
        }
        Some(at)
    }
}

/// Sampling rates that a domain announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// Announced without a sampler id.
    pub(crate) general: Option<u32>,
    /// By sampler id (48) or selector id (302).
    pub(crate) samplers: BTreeMap<u64, u32>,
}

impl Sampling {
    /// The rate of a record: its own sampler's, the domain's, that of the only sampler, or 1.
    pub(crate) fn rate(&self, sampler: Option<u64>) -> u32 {
        let only = || if self.samplers.len() == 1 { self.samplers.values().next().copied() } else { None };
        sampler
            .and_then(|id| self.samplers.get(&id).copied())
            .or(self.general)
            .or_else(|| if sampler.is_none() { only() } else { None })
            .unwrap_or(1)
    }
}

/// What is known of a domain at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) templates: BTreeMap<u16, Arc<Template>>,
    pub(crate) sampling: Sampling,
}

/// A domain: a snapshot that workers read and templates replace.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    snapshot: RwLock<Arc<Snapshot>>,
    proven: AtomicBool,
    last_seen: AtomicU64,
}

impl Domain {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
    }

    /// Remembers that a record could be read: such a domain is not forgotten for others.
    pub(crate) fn prove(&self) {
        if !self.proven.load(Ordering::Relaxed) {
            self.proven.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_sampling(&self, sampler: Option<u64>, rate: u32) {
        let current = self.snapshot();
        let known = match sampler {
            None => current.sampling.general == Some(rate),
            Some(id) => {
                current.sampling.samplers.get(&id) == Some(&rate) || current.sampling.samplers.len() >= MAX_SAMPLERS
            }
        };
        if !known {
            self.change(|s| match sampler {
                None => s.sampling.general = Some(rate),
                Some(id) => {
                    s.sampling.samplers.insert(id, rate);
                }
            });
        }
    }
}

/// All domains of all exporters.
#[derive(Debug, Default)]
pub struct Templates {
    domains: DashMap<DomainKey, Arc<Domain>>,
    per_exporter: DashMap<IpAddr, usize>,
    /// Domains in order of their making, until they are found to be proven; at most twice [`MAX_DOMAINS`].
    newcomers: Mutex<VecDeque<DomainKey>>,
    fields: AtomicUsize,
    last_sweep: AtomicU64,
}

impl Templates {
    /// The domain of a datagram; `None` if there is no room for another one.
    pub(crate) fn domain(&self, now: Time, key: DomainKey) -> Option<Arc<Domain>> {
        if let Some(domain) = self.domains.get(&key) {
            domain.last_seen.store(now.0, Ordering::Relaxed);
            return Some(Arc::clone(&domain));
        }
        if self.per_exporter.get(&key.exporter).is_some_and(|n| *n >= MAX_DOMAINS_PER_EXPORTER)
            || (self.domains.len() >= MAX_DOMAINS && !self.make_room(now))
        {
            return None;
        }
        let mut is_new = false;
        let domain = Arc::clone(&self.domains.entry(key).or_insert_with(|| {
            is_new = true;
            Arc::default()
        }));
        if is_new {
            *self.per_exporter.entry(key.exporter).or_default() += 1;
            self.newcomers().push_back(key);
        }
        domain.last_seen.store(now.0, Ordering::Relaxed);
        Some(domain)
    }

    fn newcomers(&self) -> std::sync::MutexGuard<'_, VecDeque<DomainKey>> {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the oldest domain that never sent usable data; if there is none, those that have long been silent.
    fn make_room(&self, now: Time) -> bool {
        loop {
            let Some(key) = self.newcomers().pop_front() else { break };
            let is_proven = |d: &Arc<Domain>| d.proven.load(Ordering::Relaxed);
            if self.domains.get(&key).is_some_and(|domain| !is_proven(&domain)) {
                self.forget(key);
                return true;
            }
        }
        // At most once a second, so that a flood cannot make it work.
        if now.since(Time(self.last_sweep.load(Ordering::Relaxed))) < Duration::from_secs(1) {
            return false;
        }
        self.last_sweep.store(now.0, Ordering::Relaxed);
        let is_idle = |d: &Domain| now.since(Time(d.last_seen.load(Ordering::Relaxed))) >= IDLE;
        let idle: Vec<DomainKey> = self.domains.iter().filter(|d| is_idle(d.value())).map(|d| *d.key()).collect();
        idle.into_iter().for_each(|key| self.forget(key));
        self.domains.len() < MAX_DOMAINS
    }

    fn forget(&self, key: DomainKey) {
        let Some((_, domain)) = self.domains.remove(&key) else { return };
        let fields = domain.snapshot().templates.values().map(|t| t.declared_fields).sum();
        self.fields.fetch_sub(fields, Ordering::Relaxed);
        self.per_exporter.remove_if_mut(&key.exporter, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }

    /// Stores a template; false if a limit is reached. An unchanged template costs a comparison.
    pub(crate) fn store(&self, domain: &Domain, id: u16, template: Template) -> bool {
        let snapshot = domain.snapshot();
        let before = snapshot.templates.get(&id);
        if before.is_some_and(|t| **t == template) {
            return true;
        }
        let freed = before.map_or(0, |t| t.declared_fields);
        let full = before.is_none() && snapshot.templates.len() >= MAX_TEMPLATES;
        if full || self.fields.load(Ordering::Relaxed) + template.declared_fields > MAX_FIELDS_IN_ALL + freed {
            return false;
        }
        self.fields.fetch_add(template.declared_fields, Ordering::Relaxed);
        self.fields.fetch_sub(freed, Ordering::Relaxed);
        domain.change(|s| {
            s.templates.insert(id, Arc::new(template));
        });
        true
    }

    /// Withdraws one template, or all of a kind (RFC 7011 section 8.1).
    pub(crate) fn withdraw(&self, domain: &Domain, id: Option<u16>, options: bool) {
        domain.change(|s| {
            s.templates.retain(|known, template| {
                let keep = id.is_some_and(|id| id != *known) || (id.is_none() && template.is_options != options);
                if !keep {
                    self.fields.fetch_sub(template.declared_fields, Ordering::Relaxed);
                }
                keep
            });
        });
    }

    /// How many domains are known.
    #[must_use]
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_fixed_and_variable_records_and_skips_what_it_does_not_know() {
        let fixed = Template::compile(&[(0, 7, 2), (9, 1, 4), (0, 1, 3), (0, 2, 0)], false).expect("valid");
        let mut values = Values::new();
        assert_eq!(fixed.read(&[0, 53, 1, 2, 3, 4, 1, 0, 0, 99], &mut values), Some(9));
        assert_eq!((values.get(Field::SourcePort), values.get(Field::Bytes)), (Some(53), Some(65_536)));
        assert_eq!(values.get(Field::Packets), None);
        let variable = Template::compile(&[(0, 82, VARIABLE), (0, 11, 2), (0, 83, VARIABLE)], false).expect("valid");
        let mut values = Values::new();
        assert_eq!(variable.read(&[0, 0, 80, 255, 0, 1, 7], &mut values), Some(7));
        assert_eq!(values.get(Field::DestinationPort), Some(80));
        assert_eq!(variable.read(&[5, 0, 80], &mut Values::new()), None, "cut");
    }

    #[test]
    fn templates_without_length_are_refused() {
        assert_eq!(Template::compile(&[(0, 1, 0); 60], false), None);
        assert_eq!(Template::compile(&[], false), None);
        assert_eq!(Template::compile(&[(0, 1, 65_000), (0, 2, 65_000)], false), None);
    }

    #[test]
    fn a_flood_of_exporters_does_not_push_out_one_that_sends_data() {
        let templates = Templates::default();
        let key = |i: u32| DomainKey { exporter: IpAddr::V4(i.into()), version: 9, domain: 0 };
        let now = Time::from_seconds(1000, 0);
        let honest = templates.domain(now, key(0)).expect("room");
        assert!(templates.store(&honest, 256, Template::compile(&[(0, 1, 4)], false).expect("valid")));
        honest.prove();
        let known = (1..100_000).filter(|i| templates.domain(now, key(*i)).is_some()).count();
        assert_eq!((known, templates.domain_count()), (99_999, MAX_DOMAINS), "newcomers push out newcomers");
        let late = templates.domain(now, key(500_000)).expect("an honest latecomer finds room");
        late.prove();
        (1..10_000).for_each(|i| {
            templates.domain(now, key(1_000_000 + i));
        });
        assert!(templates.domains.contains_key(&key(500_000)));
        let one = |i: u32| DomainKey { domain: i, ..key(7) };
        let own = (0..1000).filter(|i| templates.domain(now, one(*i)).is_some()).count();
        assert!(own <= MAX_DOMAINS_PER_EXPORTER, "one exporter does not fill the table: {own}");
        let later = Time::from_seconds(1100, 0);
        assert!(templates.domain(later, key(0)).expect("kept").snapshot().templates.contains_key(&256));
    }
}
