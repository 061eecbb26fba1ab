//! [`Writer`]: the one that writes. Series are averaged into tiers as they come, so that old and coarse points cost nothing to make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use operator::report::{Entry, Report};
use operator::status::{Latest, Status, Volume};
use rusqlite::{Connection, params};
use traffic::{Target, Time};

use super::database::{TIERS, Tier};
use super::{Retention, Trouble};

/// Series at most; further names are not kept.
pub const MAX_KEYS: usize = 50_000;
/// Events kept of one attack, and of one answer.
pub const MAX_EVENTS: usize = 2000;
/// Attacks in progress that are followed at most.
const MAX_OPEN: usize = 10_000;
/// Rows that wait for a disk that does not take them.
const MAX_PENDING: usize = 50_000;
/// Seconds of one point of hosts, networks and host groups: they have no finer tier.
pub const LONG_STEP: i64 = 10;
/// Seconds between transactions.
const FLUSH_SECONDS: i64 = 2;
/// Seconds until a disk that refused is tried again.
const RETRY_SECONDS: i64 = 10;
/// Seconds between retentions.
const RETAIN_SECONDS: i64 = 60;

/// What the writer is given.
#[derive(Debug)]
pub enum Job {
    /// Something happened.
    Entry(Box<Entry>),
    /// Rates of [`LONG_STEP`] seconds, by series.
    Rates(Vec<(String, Rates)>),
    /// The end.
    Stop,
}

/// Packets and bytes per second, in and out.
pub type Rates = [u64; 4];

#[derive(Debug)]
struct Accumulator {
    start: i64,
    sums: [u64; 4],
}

#[derive(Debug, Clone)]
struct Open {
    id: String,
    group: String,
    threshold: String,
    detected: f64,
    peaks: (u64, u64),
    severity: f64,
    events: usize,
}

/// Counters by series, in and out, at a second.
type Reading = (i64, Vec<(String, Volume, Volume)>);

#[derive(Debug)]
enum Row {
    Point { tier: usize, key: String, time: i64, rates: Rates },
    Attack { target: Target, open: Open, ended: Option<f64> },
    Event { attack: String, time: f64, kind: String, json: String },
}

/// Writes the history: the one connection that changes the file.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    retention: Retention,
    trouble: Trouble,
    dropped: Arc<AtomicU64>,
    keys: BTreeMap<String, i64>,
    sums: BTreeMap<(usize, String), Accumulator>,
    open: BTreeMap<Target, Open>,
    pending: Vec<Row>,
    before: Option<Reading>,
    next_flush: i64,
    next_retain: i64,
}

impl Writer {
    /// Around an open file.
    #[must_use]
    pub fn new(connection: Connection, retention: Retention, trouble: Trouble, dropped: Arc<AtomicU64>) -> Self {
        Self {
            connection,
            retention,
            trouble,
            dropped,
            keys: BTreeMap::new(),
            sums: BTreeMap::new(),
            open: BTreeMap::new(),
            pending: Vec::new(),
            before: None,
            next_flush: 0,
            next_retain: 0,
        }
    }

    /// Until [`Job::Stop`].
    pub fn run(mut self, inbox: &mpsc::Receiver<Job>, status: &Latest, clock: fn() -> Time) {
        self.close_left_over(clock().as_seconds());
        let mut second = 0;
        loop {
            let stop = match inbox.recv_timeout(Duration::from_millis(250)) {
                Ok(Job::Entry(entry)) => {
                    self.entry(&entry);
                    false
                }
                Ok(Job::Rates(rates)) => {
                    self.long_step(seconds(clock()), &rates);
                    false
                }
                Ok(Job::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => true,
                Err(mpsc::RecvTimeoutError::Timeout) => false,
            };
            let now = seconds(clock());
            // Also after a clock that was set back.
            if now != second {
                second = now;
                self.sample(now, &status.get());
            }
            if stop {
                self.next_flush = 0;
            }
            self.tend(now);
            if stop {
                return;
            }
        }
    }

    /// Attacks that an earlier run left open ended, for all that is known, when it did.
    fn close_left_over(&mut self, now: f64) {
        let sql = "UPDATE attack SET ended = coalesce((SELECT max(time) FROM event WHERE attack = attack.id), ?1) WHERE ended IS NULL";
        if let Err(error) = self.connection.execute(sql, params![now]) {
            tracing::warn!(%error, "attacks of an earlier run stay open in the history");
        }
    }

    /// What a second brought.
    fn sample(&mut self, now: i64, status: &Status) {
        let mut all = vec![
            ("total".to_owned(), status.incoming, status.outgoing),
            ("filtered".to_owned(), status.filtered, Volume::default()),
            ("internal".to_owned(), status.internal, Volume::default()),
        ];
        all.extend(status.exporters.iter().map(|e| {
            let seen = Volume { packets: e.packets, bytes: e.bytes };
            (format!("exporter {}", e.address), seen, Volume::default())
        }));
        if let Some((at, before)) = self.before.take() {
            let span = u64::try_from(now - at).unwrap_or(1).max(1);
            for (name, incoming, outgoing) in &all {
                let Some((_, old_in, old_out)) = before.iter().find(|(n, ..)| n == name) else { continue };
                let rate = |new: u64, old: u64| new.saturating_sub(old) / span;
                let rates = [
                    rate(incoming.packets, old_in.packets),
                    rate(incoming.bytes, old_in.bytes),
                    rate(outgoing.packets, old_out.packets),
                    rate(outgoing.bytes, old_out.bytes),
                ];
                self.second(now, name, rates);
            }
        }
        self.before = Some((now, all));
        let mut hosts: BTreeMap<String, Rates> = BTreeMap::new();
        for attack in &status.attacks {
            let (p, b) = (attack.packets_per_second, attack.bytes_per_second);
            let rates = hosts.entry(series_of(&attack.prefix.to_string())).or_default();
            let at = 2 * attack.direction as usize;
            (rates[at], rates[at + 1]) = (p, b);
            let target = Target { prefix: attack.prefix, direction: attack.direction };
            let Some(open) = self.open.get_mut(&target) else { continue };
            let grew = p > open.peaks.0 || b > open.peaks.1;
            open.peaks = (open.peaks.0.max(p).max(attack.peak_packets_per_second), open.peaks.1.max(b));
            open.severity = open.severity.max(attack.severity);
            if grew {
                let row = Row::Attack { target, open: open.clone(), ended: None };
                self.push(row);
            }
        }
        for (name, rates) in hosts {
            self.second(now, &name, rates);
        }
    }

    /// One second of a series.
    pub fn second(&mut self, now: i64, name: &str, rates: Rates) {
        self.point(now, name, rates, 0, 1);
    }

    /// [`LONG_STEP`] seconds of series. A host that is attacked has points of its own by the second.
    pub fn long_step(&mut self, now: i64, all: &[(String, Rates)]) {
        let start = now - now.rem_euclid(LONG_STEP);
        let attacked: BTreeSet<String> = self.open.keys().map(|target| series_of(&target.prefix.to_string())).collect();
        for (name, rates) in all {
            if !attacked.contains(name) {
                self.point(start, name, *rates, 1, u64::try_from(LONG_STEP).unwrap_or(1));
            }
        }
    }

    /// A point of the finest tier of a series; it stands for so many seconds.
    fn point(&mut self, now: i64, name: &str, rates: Rates, finest: usize, seconds: u64) {
        if !self.keys.contains_key(name) && self.keys.len() >= MAX_KEYS {
            return;
        }
        self.push(Row::Point { tier: finest, key: name.to_owned(), time: now, rates });
        for (tier, Tier { step, .. }) in TIERS.into_iter().enumerate().skip(finest + 1) {
            let start = now - now.rem_euclid(step);
            let key = (tier, name.to_owned());
            let sums = self.sums.entry(key).or_insert(Accumulator { start, sums: [0; 4] });
            let mut done = None;
            if sums.start != start {
                done = Some((sums.start, averages(&sums.sums, step)));
                *sums = Accumulator { start, sums: [0; 4] };
            }
            for (sum, rate) in sums.sums.iter_mut().zip(rates) {
                *sum = sum.saturating_add(rate.saturating_mul(seconds));
            }
            if let Some((time, rates)) = done {
                self.push(Row::Point { tier, key: name.to_owned(), time, rates });
            }
        }
    }

    /// Something that happened.
    pub fn entry(&mut self, entry: &Entry) {
        let Ok(json) = serde_json::to_value(entry) else { return };
        let kind = json["event"].as_str().unwrap_or_default().to_owned();
        let target = entry.report.target();
        #[allow(clippy::wildcard_enum_match_arm, reason = "all others are events of an attack or of none")]
        match &entry.report {
            Report::Alarm { group, threshold, .. } if self.open.len() < MAX_OPEN => {
                let Some(target) = target else { return };
                let id = attack_id(entry.at.as_seconds(), target);
                let (group, threshold) = (group.clone(), threshold.to_string());
                let open = Open { id, group, threshold, detected: entry.time, peaks: (0, 0), severity: 1.0, events: 0 };
                self.open.insert(target, open.clone());
                self.push(Row::Attack { target, open, ended: None });
            }
            Report::Over { peak_packets_per_second, peak_bytes_per_second, .. } => {
                if let Some(mut open) = target.and_then(|t| self.open.remove(&t)) {
                    open.peaks = (open.peaks.0.max(*peak_packets_per_second), open.peaks.1.max(*peak_bytes_per_second));
                    let id = open.id.clone();
                    if let Some(target) = target {
                        self.push(Row::Attack { target, open, ended: Some(entry.time) });
                    }
                    self.push(Row::Event { attack: id, time: entry.time, kind, json: json.to_string() });
                    return;
                }
            }
            _ => {}
        }
        let mut attack = String::new();
        if let Some(open) = target.and_then(|t| self.open.get_mut(&t)) {
            open.events += 1;
            if open.events > MAX_EVENTS {
                return;
            }
            attack.clone_from(&open.id);
        }
        self.push(Row::Event { attack, time: entry.time, kind, json: json.to_string() });
    }

    /// A disk without room, for a test.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, most: Option<i64>) {
        let most = most.unwrap_or(1 << 30);
        self.connection.pragma_update(None, "max_page_count", most).expect("a pragma");
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    fn push(&mut self, row: Row) {
        if self.pending.len() >= MAX_PENDING {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.pending.push(row);
    }

    /// Writes and forgets when it is time.
    pub fn tend(&mut self, now: i64) {
        // The clock may have been set back.
        self.next_flush = self.next_flush.min(now + RETRY_SECONDS);
        self.next_retain = self.next_retain.min(now + RETAIN_SECONDS);
        if now < self.next_flush {
            return;
        }
        let result = self.flush();
        self.next_flush = now + if result.is_ok() { FLUSH_SECONDS } else { RETRY_SECONDS };
        let result = if result.is_ok() && now >= self.next_retain {
            self.next_retain = now + RETAIN_SECONDS;
            self.retain(now)
        } else {
            result
        };
        let text = result.err().map(|error| {
            format!("history cannot be written, detection goes on: {error}; free space where state.directory is, or lower history_size_mb")
        });
        match (&text, self.trouble.get()) {
            (Some(text), None) => tracing::error!("{text}"),
            (None, Some(_)) => tracing::info!("history is written again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.trouble.set(text);
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        let mut fresh = Vec::new();
        {
            let mut add_key =
                transaction.prepare_cached("INSERT INTO key (name) VALUES (?1) ON CONFLICT DO NOTHING")?;
            let mut find_key = transaction.prepare_cached("SELECT id FROM key WHERE name = ?1")?;
            let mut point =
                transaction.prepare_cached("INSERT OR REPLACE INTO point VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            let mut attack = transaction.prepare_cached(
                "INSERT INTO attack VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET
                 ended = excluded.ended, peak_packets_per_second = excluded.peak_packets_per_second,
                 peak_bytes_per_second = excluded.peak_bytes_per_second, severity = excluded.severity",
            )?;
            let mut event =
                transaction.prepare_cached("INSERT INTO event (attack, time, kind, json) VALUES (?1, ?2, ?3, ?4)")?;
            for row in &self.pending {
                match row {
                    Row::Point { tier, key, time, rates } => {
                        let id = match self.keys.get(key) {
                            Some(id) => *id,
                            None => {
                                add_key.execute(params![key])?;
                                let id: i64 = find_key.query_row(params![key], |row| row.get(0))?;
                                fresh.push((key.clone(), id));
                                id
                            }
                        };
                        let [a, b, c, d] = rates.map(|r| i64::try_from(r).unwrap_or(i64::MAX));
                        point.execute(params![i64::try_from(*tier).unwrap_or_default(), id, time, a, b, c, d])?;
                    }
                    Row::Attack { target, open, ended } => {
                        let peak = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                        attack.execute(params![
                            open.id,
                            target.prefix.to_string(),
                            target.direction.name(),
                            open.group,
                            open.threshold,
                            open.detected,
                            ended,
                            peak(open.peaks.0),
                            peak(open.peaks.1),
                            open.severity
                        ])?;
                    }
                    Row::Event { attack, time, kind, json } => {
                        event.execute(params![attack, time, kind, json])?;
                    }
                }
            }
        }
        transaction.commit()?;
        self.keys.extend(fresh);
        self.pending.clear();
        Ok(())
    }

    /// Deletes what is too old, and while the file is too large, what is oldest.
    fn retain(&mut self, now: i64) -> rusqlite::Result<()> {
        let days = i64::from(self.retention.days) * 86_400;
        for (tier, number) in TIERS.iter().zip(0i64..) {
            let before = now - tier.kept.min(days);
            self.connection.execute(
                "DELETE FROM point WHERE tier = ?1 AND time < ?2 AND key IN (SELECT id FROM key)",
                params![number, before],
            )?;
        }
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let before = (now - days) as f64;
        self.connection.execute("DELETE FROM event WHERE time < ?1", params![before])?;
        self.connection.execute("DELETE FROM attack WHERE detected < ?1 AND ended IS NOT NULL", params![before])?;
        self.sums.retain(|_, sums| sums.start > now - 2 * 3600);
        // Names that nothing is left of; the map is filled again as names are used.
        self.connection.execute(
            "DELETE FROM key WHERE NOT EXISTS (SELECT 1 FROM point WHERE tier = 0 AND key = key.id)
             AND NOT EXISTS (SELECT 1 FROM point WHERE tier = 1 AND key = key.id)
             AND NOT EXISTS (SELECT 1 FROM point WHERE tier = 2 AND key = key.id)
             AND NOT EXISTS (SELECT 1 FROM point WHERE tier = 3 AND key = key.id)",
            [],
        )?;
        self.keys.clear();
        for _ in 0..16 {
            if self.bytes()? <= self.retention.bytes {
                break;
            }
            self.shrink()?;
        }
        self.connection.execute_batch("PRAGMA incremental_vacuum(2000); PRAGMA wal_checkpoint(PASSIVE);")
    }

    /// Bytes in use.
    fn bytes(&self) -> rusqlite::Result<u64> {
        let get = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = (get("page_count")? - get("freelist_count")?) * get("page_size")?;
        Ok(u64::try_from(used).unwrap_or_default())
    }

    /// The older half of the finest tier that has any worth the while, then events.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        for number in 0..i64::try_from(TIERS.len()).unwrap_or_default() {
            let span: Option<(i64, i64)> = self.connection.query_row(
                "SELECT min(time), max(time) FROM point WHERE tier = ?1",
                params![number],
                |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?)),
            )?;
            if let Some((first, last)) = span
                && last - first > 600
            {
                let middle = first + (last - first) / 2;
                self.connection.execute("DELETE FROM point WHERE tier = ?1 AND time <= ?2", params![number, middle])?;
                return Ok(());
            }
        }
        self.connection.execute("DELETE FROM event WHERE id <= (SELECT (min(id) + max(id)) / 2 FROM event)", [])?;
        Ok(())
    }
}

fn averages(sums: &[u64; 4], step: i64) -> Rates {
    let step = u64::try_from(step).unwrap_or(1).max(1);
    sums.map(|sum| sum / step)
}

/// The series of an own prefix: `host 203.0.113.9` or `network 203.0.113.0/24`.
#[must_use]
pub fn series_of(prefix: &str) -> String {
    let host = if prefix.contains(':') { prefix.strip_suffix("/128") } else { prefix.strip_suffix("/32") };
    host.map_or_else(|| format!("network {prefix}"), |host| format!("host {host}"))
}

/// A name for an attack that fits into a path: `1764020000123-incoming-203.0.113.9_32`.
#[must_use]
pub fn attack_id(detected: f64, target: Target) -> String {
    let prefix = target.prefix.to_string().replace('/', "_");
    format!("{:.0}-{}-{prefix}", detected * 1000.0, target.direction.name())
}

fn seconds(now: Time) -> i64 {
    i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX)
}
