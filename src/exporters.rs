//! [`Watch`]: exporters as operators see them: rates from one reading to the next, and what is wrong with whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::Peer;
use collectors::{Exporters, Health};
use operator::clock;
use operator::report::{Entry, Report};
use operator::status::ExporterStatus;
use traffic::Time;

/// Exporters are read at most this often, in seconds: rates over less say little.
const INTERVAL_SECONDS: f64 = 1.0;

/// Readings of the exporters' counters. Bounded by `collectors::exporters::MAX_EXPORTERS`.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    taken: Time,
    health: Vec<Health>,
    rates: BTreeMap<IpAddr, f64>,
    suspects: BTreeSet<IpAddr>,
}

impl Watch {
    /// Takes a new reading when it is time; returns what an operator should hear.
    pub(crate) fn refresh(&mut self, now: Time, exporters: &Exporters) -> Vec<Entry> {
        let seconds = now.since(self.taken).as_secs_f64();
        if seconds < INTERVAL_SECONDS {
            return Vec::new();
        }
        let before: BTreeMap<IpAddr, u64> = self.health.iter().map(|h| (h.address, h.counters.records)).collect();
        self.health = exporters.health(now);
        self.taken = now;
        self.rates = self.health.iter().map(|h| (h.address, rate(h, &before, now, seconds))).collect();
        let suspects = self.health.iter().filter(|h| h.contradiction.is_some()).map(|h| h.address).collect();
        let mut news = Vec::new();
        for health in &self.health {
            let exporter = health.address;
            if health.contradiction.is_some() != self.suspects.contains(&exporter) {
                let announced = health.contradiction.map_or(health.sampling_rate, |c| c.announced);
                let measured = health.contradiction.map(|c| c.measured);
                news.push(Entry::new(now, Report::SuspectRate { exporter, announced, measured }));
            }
        }
        self.suspects = suspects;
        news
    }

    /// The newest reading, with the peers whose routers the exporters stand for.
    pub(crate) fn read(&self, now: Time, peers: &[Peer]) -> Vec<ExporterStatus> {
        let stands_for =
            |address: IpAddr| peers.iter().find(|p| p.exporters.iter().any(|e| e.to_canonical() == address));
        let of = |h: &Health| {
            let rate = self.rates.get(&h.address).copied().unwrap_or(0.0);
            status(h, stands_for(h.address.to_canonical()), now, rate)
        };
        self.health.iter().map(of).collect()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(health: &Health, before: &BTreeMap<IpAddr, u64>, now: Time, seconds: f64) -> f64 {
    match before.get(&health.address) {
        Some(before) => health.counters.records.saturating_sub(*before) as f64 / seconds,
        // New since the reading before.
        None => health.counters.records as f64 / now.since(health.first_seen).as_secs_f64().max(INTERVAL_SECONDS),
    }
}

fn status(health: &Health, peer: Option<&Peer>, now: Time, records_per_second: f64) -> ExporterStatus {
    ExporterStatus {
        address: health.address.to_string(),
        peer: peer.map(|p| p.name.clone()),
        protocols: health.protocols.clone(),
        silent_seconds: now.since(health.last_seen).as_secs_f64(),
        records_per_second,
        // Measured against our clock, told against the system's.
        clock_skew_ms: health.clock_skew_ms.saturating_sub(clock::offset() / 1_000_000),
        sampling_rate: health.sampling_rate,
        sampling_source: health.sampling_source.name(),
        measured_rate: health.contradiction.map(|c| c.measured),
        active_timeout_seconds: health.timeouts_s.0,
        idle_timeout_seconds: health.timeouts_s.1,
        counter_only: health.is_counter_only,
        vantage: health.vantage.name(),
        not_counted: health.not_counted.clone(),
        errors: health.errors.clone(),
        ..ExporterStatus::counted(&health.counters)
    }
}
