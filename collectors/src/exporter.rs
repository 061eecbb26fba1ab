//! [`Exporter`]: one who sends flow exports, what is counted of it, and its [`Health`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use traffic::Time;

use crate::config::{ExporterSettings, Vantage};
use crate::counters::{Counters, add};
use crate::error::{Aside, Reason, Statistics};
use crate::pools::{Contradiction, Pools};
use crate::roster::{Member, Standing};
use crate::sequence::Order;

/// Where the sampling rate of an exporter's newest record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum RateSource {
    /// Nothing was announced: every packet counts once.
    #[default]
    None,
    /// The operator's setting.
    Override,
    /// The header of the datagram (`NetFlow` v5).
    Header,
    /// A field of the record itself.
    Record,
    /// Options of the domain.
    Options,
    /// The sFlow sample.
    Sample,
}

impl RateSource {
    const ALL: [Self; 6] = [Self::None, Self::Override, Self::Header, Self::Record, Self::Options, Self::Sample];

    /// Name in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Override => "configuration",
            Self::Header => "header",
            Self::Record => "record",
            Self::Options => "options",
            Self::Sample => "sample",
        }
    }
}

/// Protocols as bits of [`Health::protocols`].
const PROTOCOLS: [(u16, &str); 5] = [(5, "netflow5"), (7, "netflow7"), (9, "netflow9"), (10, "ipfix"), (0, "sflow5")];

/// One exporter: an address that sends flow exports. Counters have several writers (workers), once per datagram.
#[derive(Debug)]
pub struct Exporter {
    /// Its address.
    pub address: IpAddr,
    /// Its number in samples, from 1; given to another when it leaves.
    pub index: u16,
    pub(crate) settings: ExporterSettings,
    standing: Standing,
    first_seen: Time,
    protocols: AtomicU8,
    counters: Counters<AtomicU64>,
    skew_ms: AtomicI64,
    rate: AtomicU32,
    rate_source: AtomicU8,
    timeouts: AtomicU64,
    sends_egress: AtomicU8,
    /// Announced and measured rate, and when they contradicted each other last.
    suspect: Mutex<Option<(u32, u32, Time)>>,
    errors: [AtomicU64; Reason::ALL.len()],
    aside: [AtomicU64; Aside::ALL.len()],
    pools: Mutex<Pools>,
}

impl Member for Exporter {
    fn standing(&self) -> &Standing {
        &self.standing
    }
}

/// A contradiction counts for this long (decision 29).
const CONTRADICTED: Duration = Duration::from_secs(60);

/// How an exporter fares; see `floodwall show exporters`.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Its address.
    pub address: IpAddr,
    /// Its number in samples.
    pub index: u16,
    /// Protocols it speaks.
    pub protocols: Vec<&'static str>,
    /// When it was first heard of since the start or since it was forgotten.
    pub first_seen: Time,
    /// When it spoke last.
    pub last_seen: Time,
    /// What was counted.
    pub counters: Counters,
    /// Its clock minus ours, in milliseconds.
    pub clock_skew_ms: i64,
    /// The sampling rate of its newest record; 0 before the first.
    pub sampling_rate: u32,
    /// Where that rate came from.
    pub sampling_source: RateSource,
    /// A sampling rate that its own counters contradict, the last time less than a minute ago.
    pub contradiction: Option<Contradiction>,
    /// Active and idle timeout of its flow cache in seconds, where options announce them; 0 unknown.
    pub timeouts_s: (u32, u32),
    /// Sends counter samples but no flow samples: sampling is not configured on it.
    pub is_counter_only: bool,
    /// Where its telemetry stands in relation to filters.
    pub vantage: Vantage,
    /// Records that were read and are no traffic, by reason.
    pub not_counted: BTreeMap<&'static str, u64>,
    /// What was not understood, by reason.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Exporter {
    pub(crate) fn new(address: IpAddr, index: u16, now: Time, settings: ExporterSettings) -> Self {
        Self {
            address,
            index,
            settings,
            standing: Standing::default(),
            first_seen: now,
            protocols: AtomicU8::new(0),
            counters: Counters::default(),
            skew_ms: AtomicI64::new(0),
            rate: AtomicU32::new(0),
            rate_source: AtomicU8::new(0),
            timeouts: AtomicU64::new(0),
            sends_egress: AtomicU8::new(0),
            suspect: Mutex::default(),
            errors: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            aside: [const { AtomicU64::new(0) }; Aside::ALL.len()],
            pools: Mutex::default(),
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.standing.has_left()
    }

    /// Counts a datagram: what `statistics` gained over `before`.
    pub(crate) fn count(&self, now: Time, version: u16, before: &Mark, statistics: &Statistics) {
        self.standing.seen(now);
        let bit = PROTOCOLS.iter().position(|(v, _)| *v == version).map_or(0, |p| 1u8 << p);
        if self.protocols.load(Ordering::Relaxed) & bit == 0 {
            self.protocols.fetch_or(bit, Ordering::Relaxed);
        }
        let after = statistics.counters();
        if after.records > before.counters.records {
            self.standing.was_useful(now);
        }
        self.counters.gain(&before.counters, &after);
        if statistics.aside_counts() != before.aside {
            for (counter, (after, before)) in self.aside.iter().zip(statistics.aside_counts().iter().zip(before.aside))
            {
                add(counter, after - before);
            }
        }
    }

    /// Counts what was not understood.
    pub(crate) fn error(&self, reason: Reason) {
        add(&self.errors[reason as usize], 1);
    }

    /// Counts what sequence numbers say.
    pub(crate) fn ordered(&self, order: Order) {
        match order {
            Order::Next => {}
            Order::Lost(records) => add(&self.counters.lost_records, records),
            Order::Late(records) => {
                let less = |lost: u64| Some(lost.saturating_sub(records));
                let _ = self.counters.lost_records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
            Order::Restart => add(&self.counters.restarts, 1),
        }
    }

    /// Remembers the clock of a header.
    pub(crate) fn clock(&self, now: Time, theirs: Time) {
        let ms = |time: Time| i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX);
        self.skew_ms.store(ms(theirs) - ms(now), Ordering::Relaxed);
    }

    /// Remembers the rate of the newest record.
    #[inline]
    pub(crate) fn sampled(&self, rate: u32, source: RateSource) {
        self.rate.store(rate, Ordering::Relaxed);
        self.rate_source.store(source as u8, Ordering::Relaxed);
    }

    pub(crate) fn timeouts(&self, active: u32, idle: u32) {
        self.timeouts.store(u64::from(active) << 32 | u64::from(idle), Ordering::Relaxed);
    }

    /// Its own numbers show another rate than it announces.
    pub(crate) fn suspect(&self, now: Time, contradiction: Contradiction) {
        let Contradiction { announced, measured } = contradiction;
        *self.suspect.lock().unwrap_or_else(PoisonError::into_inner) = Some((announced, measured, now));
    }

    pub(crate) fn contradiction(&self, now: Time) -> Option<Contradiction> {
        let suspect = *self.suspect.lock().unwrap_or_else(PoisonError::into_inner);
        let (announced, measured, _) = suspect.filter(|(.., at)| now.since(*at) < CONTRADICTED)?;
        Some(Contradiction { announced, measured })
    }

    /// What its sFlow samples say of their pools.
    pub(crate) fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_egress(&self) {
        self.sends_egress.store(1, Ordering::Relaxed);
    }

    pub(crate) fn sends_egress(&self) -> bool {
        self.sends_egress.load(Ordering::Relaxed) != 0
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self, now: Time) -> Health {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let protocols = self.protocols.load(Ordering::Relaxed);
        let timeouts = get(&self.timeouts);
        let counters = self.counters.read();
        let low = |n: u64| u32::try_from(n & 0xffff_ffff).unwrap_or(0);
        Health {
            address: self.address,
            index: self.index,
            protocols: PROTOCOLS
                .iter()
                .enumerate()
                .filter(|(i, _)| protocols & 1 << i != 0)
                .map(|(_, p)| p.1)
                .collect(),
            first_seen: self.first_seen,
            last_seen: self.standing.last_seen(),
            counters,
            clock_skew_ms: self.skew_ms.load(Ordering::Relaxed),
            sampling_rate: self.rate.load(Ordering::Relaxed),
            sampling_source: RateSource::ALL
                [usize::from(self.rate_source.load(Ordering::Relaxed)) % RateSource::ALL.len()],
            contradiction: self.contradiction(now),
            timeouts_s: (low(timeouts >> 32), low(timeouts)),
            is_counter_only: counters.records == 0 && counters.counter_samples > 0,
            vantage: self.settings.vantage,
            not_counted: Aside::ALL
                .iter()
                .map(|a| (a.name(), get(&self.aside[*a as usize])))
                .filter(|a| a.1 > 0)
                .collect(),
            errors: Reason::ALL
                .iter()
                .map(|r| (r.name(), get(&self.errors[*r as usize])))
                .filter(|e| e.1 > 0)
                .collect(),
        }
    }
}

/// A worker's counts before a datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    counters: Counters,
    aside: [u64; Aside::ALL.len()],
}

impl Mark {
    #[inline]
    pub(crate) fn of(statistics: &Statistics) -> Self {
        Self { counters: statistics.counters(), aside: statistics.aside_counts() }
    }
}
