//! Templates and sampling state of exporters, shared by all workers.
//!
//! The key is exporter address, version and domain (source id), not the source port: exporters send templates and data from
//! different ports. A template is compiled once to a read plan. Workers read an immutable snapshot behind an `Arc`, so a
//! datagram finds its templates whichever worker receives it (decision 21).
//!
//! Everything is bounded, whatever arrives: see the constants.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use traffic::Time;

use crate::domain::DomainKey;
use crate::pending::Pending;
use crate::plan::Template;
use crate::reports::Reports;
use crate::roster::{Member, Roster, Standing};
use crate::sampling::{Sampler, Sampling};
use crate::sequence::Sequence;
use crate::totals::Totals;

/// Exporters times domains at most; see `crate::roster` for who makes room.
pub const MAX_DOMAINS: usize = 4096;
/// Domains of one exporter at most.
pub const MAX_DOMAINS_PER_EXPORTER: usize = 256;
/// Templates per domain at most.
pub const MAX_TEMPLATES: usize = 2048;
/// Fields of all templates together at most (32 bytes each, and `Template::weight` for what each template takes besides).
pub const MAX_FIELDS_IN_ALL: usize = 1 << 19;
/// Samplers, interfaces and selection sequences per domain at most, each.
pub const MAX_SAMPLERS: usize = 1024;

/// Announcements of one sampler closer to each other than this are of one refresh.
const REFRESH: Duration = Duration::from_secs(1);
/// A sampler that another template announced, or that is known from a state on disk, is waited for so long.
const OF_ANOTHER: Duration = Duration::from_secs(3600);

/// When a sampler was announced.
#[derive(Debug, Clone, Copy, Default)]
struct Refresh {
    /// By which options template; none if that is not known.
    template: Option<u16>,
    /// The last three refreshes, newest first.
    times: [Time; 3],
}

/// When the samplers of a domain were announced, to know those that no longer are (RFC 3954 section 6.1: options are sent again
/// and again). Samplers that are known, no others: at most twice [`MAX_SAMPLERS`].
#[derive(Debug, Default)]
struct Refreshes {
    samplers: BTreeMap<Sampler, Refresh>,
    looked: Time,
}

impl Refreshes {
    /// Takes note of an announcement; returns which of the `known` samplers are gone. That is one that was not announced while
    /// another one was three times, by the same template (tables come whole, be it in several messages, and one refresh or two may
    /// be lost), or for an hour.
    fn announced(
        &mut self,
        now: Time,
        template: u16,
        sampler: Sampler,
        known: &BTreeMap<Sampler, u32>,
    ) -> Vec<Sampler> {
        let refresh = self.samplers.entry(sampler).or_default();
        refresh.template = Some(template);
        let [newest, before, _] = refresh.times;
        if newest == Time(0) || now.since(newest) >= REFRESH {
            refresh.times = [now, newest, before];
        }
        let third = refresh.times[2];
        if third == Time(0) || now.since(self.looked) < REFRESH {
            return Vec::new();
        }
        self.looked = now;
        let mut gone = Vec::new();
        for other in known.keys().filter(|other| other.is_alike(sampler)) {
            let refresh = self.samplers.entry(*other).or_insert(Refresh { template: None, times: [now; 3] });
            let is_gone = if refresh.template == Some(template) {
                third.since(refresh.times[0]) >= REFRESH
            } else {
                now.since(refresh.times[0]) >= OF_ANOTHER
            };
            if is_gone {
                gone.push(*other);
            }
        }
        gone.iter().for_each(|sampler| _ = self.samplers.remove(sampler));
        gone
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
    /// Changes with the snapshot, so that workers keep theirs until then.
    generation: AtomicU64,
    standing: Standing,
    /// Sequence numbers seen.
    pub(crate) sequence: Mutex<Sequence>,
    refreshes: Mutex<Refreshes>,
    /// How often flows that go on are reported.
    pub(crate) reports: Reports,
}

impl Member for Domain {
    fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl Domain {
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut current = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Remembers that a record could be read: such a domain is not forgotten for others.
    pub(crate) fn was_useful(&self, now: Time) {
        self.standing.was_useful(now);
    }

    /// Learns a rate; what is known already costs a comparison.
    pub(crate) fn set_rate(&self, sampler: Sampler, rate: u32) {
        let snapshot = self.snapshot();
        let rates = &snapshot.sampling.rates;
        if rates.get(&sampler) != Some(&rate) && (rates.len() < MAX_SAMPLERS || rates.contains_key(&sampler)) {
            self.change(|s| s.sampling.set(sampler, rate));
        }
    }

    /// Learns a rate that an options record announces, and forgets the samplers that are not announced any more.
    pub(crate) fn announce_rate(&self, now: Time, template: u16, sampler: Sampler, rate: u32) {
        self.set_rate(sampler, rate);
        let snapshot = self.snapshot();
        let known = &snapshot.sampling.rates;
        if !known.contains_key(&sampler) {
            return;
        }
        let gone = {
            let mut refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
            refreshes.announced(now, template, sampler, known)
        };
        if !gone.is_empty() {
            self.change(|s| s.sampling.forget(&gone));
        }
    }

    /// Learns which selector a selection sequence uses.
    pub(crate) fn set_sequence(&self, sequence: u64, selector: u64) {
        let snapshot = self.snapshot();
        let sequences = &snapshot.sampling.sequences;
        if sequences.get(&sequence) != Some(&selector) && sequences.len() < MAX_SAMPLERS {
            self.change(|s| {
                s.sampling.sequences.insert(sequence, selector);
            });
        }
    }

    /// Learns the timeouts of the exporter's cache, in seconds; 0 leaves what is known.
    pub(crate) fn set_timeouts(&self, active: u32, idle: u32) {
        let snapshot = self.snapshot();
        let known = &snapshot.sampling;
        let (active, idle) =
            (if active > 0 { active } else { known.active_timeout }, if idle > 0 { idle } else { known.idle_timeout });
        if (active, idle) != (known.active_timeout, known.idle_timeout) {
            self.change(|s| (s.sampling.active_timeout, s.sampling.idle_timeout) = (active, idle));
        }
    }
}

/// A worker's copy of a domain, refreshed when the domain changes: reading it costs no lock.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) domain: Arc<Domain>,
    snapshot: Arc<Snapshot>,
    generation: u64,
}

impl View {
    pub(crate) fn new(domain: Arc<Domain>) -> Self {
        let generation = domain.generation.load(Ordering::Acquire);
        Self { snapshot: domain.snapshot(), domain, generation }
    }

    /// What is known of the domain now.
    #[inline]
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        let generation = self.domain.generation.load(Ordering::Acquire);
        if generation != self.generation {
            (self.snapshot, self.generation) = (self.domain.snapshot(), generation);
        }
        Arc::clone(&self.snapshot)
    }
}

/// A worker's views; the newest is found at once. At most [`MAX_VIEWS`], then they are taken anew.
#[derive(Debug, Default)]
pub(crate) struct Views {
    newest: Option<(DomainKey, View)>,
    others: BTreeMap<DomainKey, View>,
}

/// Views that a worker keeps at most.
const MAX_VIEWS: usize = 512;

impl Views {
    /// The view of a domain, to be put back; `None` if there is no room for another domain.
    #[inline]
    pub(crate) fn take(&mut self, now: Time, templates: &Templates, key: DomainKey) -> Option<View> {
        let view = match self.newest.take() {
            Some((newest, view)) if newest == key => Some(view),
            Some((newest, view)) => {
                if self.others.len() >= MAX_VIEWS {
                    self.others.clear();
                }
                self.others.insert(newest, view);
                self.others.remove(&key)
            }
            None => self.others.remove(&key),
        };
        let view = match view.filter(|view| !view.domain.standing.has_left()) {
            Some(view) => view,
            None => View::new(templates.domain(now, key)?),
        };
        view.domain.standing.seen(now);
        Some(view)
    }

    #[inline]
    pub(crate) fn put_back(&mut self, key: DomainKey, view: View) {
        self.newest = Some((key, view));
    }
}

/// All domains of all exporters.
#[derive(Debug)]
pub struct Templates {
    domains: Roster<DomainKey, Domain>,
    per_exporter: DashMap<IpAddr, usize>,
    fields: AtomicUsize,
    /// Grows when a template is learned or withdrawn.
    changes: AtomicU64,
    pending: Mutex<Pending>,
    /// What was told of flows whose records carry running totals.
    pub(crate) totals: Mutex<Totals>,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            domains: Roster::new(MAX_DOMAINS),
            per_exporter: DashMap::new(),
            fields: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            pending: Mutex::default(),
            totals: Mutex::default(),
        }
    }
}

impl Templates {
    /// The domain of a datagram; `None` if there is no room for another one.
    pub(crate) fn domain(&self, now: Time, key: DomainKey) -> Option<Arc<Domain>> {
        if let Some(domain) = self.domains.get(key) {
            return Some(domain);
        }
        if self.per_exporter.get(&key.exporter).is_some_and(|n| *n >= MAX_DOMAINS_PER_EXPORTER) {
            return None;
        }
        let is_new = std::cell::Cell::new(false);
        let make = || {
            is_new.set(true);
            Domain::default()
        };
        let domain = self.domains.join(now, key, make, |key, domain| self.forget(key, domain))?;
        if is_new.get() {
            *self.per_exporter.entry(key.exporter).or_default() += 1;
        }
        Some(domain)
    }

    /// Data sets that wait for their templates.
    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: DomainKey, domain: &Domain) {
        let fields = domain.snapshot().templates.values().map(|t| t.weight()).sum();
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
        let freed = before.map_or(0, |t| t.weight());
        let full = before.is_none() && snapshot.templates.len() >= MAX_TEMPLATES;
        if full || self.fields.load(Ordering::Relaxed) + template.weight() > MAX_FIELDS_IN_ALL + freed {
            return false;
        }
        self.fields.fetch_add(template.weight(), Ordering::Relaxed);
        self.fields.fetch_sub(freed, Ordering::Relaxed);
        domain.change(|s| {
            s.templates.insert(id, Arc::new(template));
        });
        self.changes.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Withdraws one template, or all of a kind (RFC 7011 section 8.1).
    pub(crate) fn withdraw(&self, domain: &Domain, id: Option<u16>, options: bool) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        domain.change(|s| {
            s.templates.retain(|known, template| {
                let keep = id.is_some_and(|id| id != *known) || (id.is_none() && template.is_options != options);
                if !keep {
                    self.fields.fetch_sub(template.weight(), Ordering::Relaxed);
                }
                keep
            });
        });
    }

    /// A number that grows when a template is learned or withdrawn.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Everything that is known, in no order.
    pub(crate) fn known(&self) -> Vec<(DomainKey, Arc<Domain>)> {
        self.domains.members()
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
    use crate::sampling::Named;

    fn named(sampler: Option<u64>, input: u32) -> Named {
        Named { sampler, sequence: None, interfaces: [input, 0] }
    }

    #[test]
    fn a_record_has_the_rate_of_its_sampler_its_interface_or_the_domain() {
        let domain = Domain::default();
        let rate = |named: Named| domain.snapshot().sampling.rate(named);
        assert_eq!(rate(named(None, 1)), None);
        domain.set_rate(Sampler::Id(1), 2000);
        assert_eq!(
            (rate(named(Some(1), 0)), rate(named(None, 0)), rate(named(Some(2), 0))),
            (Some(2000), Some(2000), None)
        );
        domain.set_rate(Sampler::Id(2), 4000);
        assert_eq!((rate(named(Some(2), 0)), rate(named(None, 0))), (Some(4000), None), "nobody knows which");
        domain.set_rate(Sampler::Interface(7), 10);
        domain.set_rate(Sampler::All, 500);
        assert_eq!(
            (rate(named(None, 7)), rate(named(None, 8)), rate(named(Some(9), 7))),
            (Some(10), Some(500), Some(500))
        );
        domain.set_sequence(77, 2);
        assert_eq!(rate(Named { sequence: Some(77), ..named(None, 0) }), Some(4000));
        (10..5000).for_each(|id| domain.set_rate(Sampler::Id(id), 1));
        assert_eq!(domain.snapshot().sampling.rates.len(), MAX_SAMPLERS);
    }

    #[test]
    fn a_sampler_that_is_not_announced_while_others_are_is_gone() {
        let now = |s: u64| Time::from_seconds(1_700_000_000 + s, 0);
        let sampler = |interfaces: bool, n: u32| if interfaces { Sampler::Interface(n) } else { Sampler::Id(n.into()) };
        for interfaces in [false, true] {
            let domain = Domain::default();
            let announce = |s: u64, n: u32, rate: u32| domain.announce_rate(now(s), 256, sampler(interfaces, n), rate);
            let known = || domain.snapshot().sampling.announced().map(|(_, rate)| rate).collect::<Vec<_>>();
            announce(0, 1, 1000);
            // A large table takes several messages.
            (0..5).for_each(|_| announce(60, 2, 100));
            announce(120, 2, 100);
            assert_eq!(known(), [1000, 100]);
            announce(180, 2, 100);
            assert_eq!(known(), [100], "three refreshes without it");
            assert_eq!(domain.snapshot().sampling.rate(named(None, 7)), Some(100), "records that name nobody");
            // Samplers that take turns, and one refresh that is lost, are no sign.
            for s in (240..3_000).step_by(60) {
                announce(s, 2, 100);
                if s % 180 != 0 {
                    announce(s + 30, 3, 50);
                }
                assert!(s < 360 || known() == [100, 50], "{:?} at {s}", known());
            }
        }
    }

    #[test]
    fn samplers_of_another_template_or_of_the_state_on_disk_are_waited_for() {
        let now = |s: u64| Time::from_seconds(1_700_000_000 + s, 0);
        let domain = Domain::default();
        let known = || domain.snapshot().sampling.announced().count();
        domain.announce_rate(now(0), 300, Sampler::Id(7), 1000);
        domain.set_rate(Sampler::Id(8), 1000);
        for s in (0..3_600).step_by(60) {
            domain.announce_rate(now(s), 256, Sampler::Id(1), 100);
            assert_eq!(known(), 3, "after {s} s");
        }
        for s in (3_600..4_200).step_by(60) {
            domain.announce_rate(now(s), 256, Sampler::Id(1), 100);
        }
        assert_eq!(known(), 1, "for an hour");
    }

    #[test]
    fn a_flood_of_domains_is_bounded_per_exporter_and_in_all_and_frees_what_it_took() {
        let templates = Templates::default();
        let key = |i: u32| DomainKey { exporter: IpAddr::V4(i.into()), version: 9, domain: 0 };
        let now = Time::from_seconds(1000, 0);
        let fields: Vec<(u32, u16, u16)> = vec![(0, 1, 4); 100];
        let plan = || Template::compile(&fields, false).expect("valid");
        let honest = templates.domain(now, key(0)).expect("room");
        assert!(templates.store(&honest, 256, plan()));
        honest.standing().was_useful(now);
        let mut refused = 0;
        for i in 1..20_000 {
            let domain = templates.domain(now, key(i)).expect("newcomers push out newcomers");
            refused += (256..266).filter(|id| !templates.store(&domain, *id, plan())).count();
        }
        assert!(refused > 0, "the limit of fields in all is reached");
        assert!(templates.fields.load(Ordering::Relaxed) <= MAX_FIELDS_IN_ALL);
        assert_eq!((templates.domain_count(), templates.per_exporter.len()), (MAX_DOMAINS, MAX_DOMAINS));
        assert!(!honest.standing().has_left() && honest.snapshot().templates.contains_key(&256));
        let one = |i: u32| DomainKey { domain: i, ..key(7_000_000) };
        let own = (0..1000).filter(|i| templates.domain(now, one(*i)).is_some()).count();
        assert_eq!(own, MAX_DOMAINS_PER_EXPORTER, "one exporter does not fill the table");
    }
}
