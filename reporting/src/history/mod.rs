//! What was: totals, hosts, networks, groups and attacks over weeks, in `series.sqlite` of the state folder.
//!
//! ```text
//! control thread ──Entry──▶ bounded queue ──▶ writer thread ──▶ series.sqlite ◀── readers (API, dashboard)
//! newest status  ──once a second──────────────▶
//! rates of hosts, networks, groups ──every 10 s──▶
//! ```
//! * [`Recorder`] is the control thread's end: it never waits. What does not fit the queue is dropped and counted.
//! * [`writer`] owns the file: one transaction every few seconds, retention by age and by size. A full disk costs history, never
//!   detection, and [`Recorder::alarm`] says so until writing works again.
//! * [`Archive`] reads, through connections of its own.
//!
//! Limits: [`QUEUE`] entries waiting, [`writer::MAX_KEYS`] series, [`writer::MAX_EVENTS`] events per attack, `history_size_mb` on disk.

pub mod archive;
pub mod database;
pub mod rates;
#[cfg(test)]
mod tests;
pub mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use operator::report::Entry;
use operator::status::Latest;
use traffic::Time;

pub use archive::Archive;

/// Entries that wait for the writer at most.
pub const QUEUE: usize = 4096;
/// The file's name.
pub const FILE: &str = "series.sqlite";

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of the file at most; the finest and oldest go first.
    pub bytes: u64,
    /// Days that attacks and the coarsest series are kept.
    pub days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { bytes: 2 << 30, days: 365 }
    }
}

/// What goes wrong, as operators are told; empty when all is well.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What goes wrong now.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what goes wrong; `None`: all is well.
    pub fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// The control thread's end.
#[derive(Debug)]
pub struct Recorder {
    entries: mpsc::SyncSender<writer::Job>,
    dropped: Arc<AtomicU64>,
    trouble: Trouble,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Opens, or makes, the history of a state folder and starts its writer.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn start(folder: &Path, status: Latest, retention: Retention, clock: fn() -> Time) -> Result<(Self, Archive)> {
        let path = folder.join(FILE);
        let connection = database::open(&path).with_context(|| format!("cannot keep history in {}", path.display()))?;
        let (entries, inbox) = mpsc::sync_channel(QUEUE);
        let trouble = Trouble::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = writer::Writer::new(connection, retention, trouble.clone(), Arc::clone(&dropped));
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&inbox, &status, clock))
            .context("cannot start the history's thread")?;
        let archive = Archive::new(path, trouble.clone());
        Ok((Self { entries, dropped, trouble, thread: Some(thread) }, archive))
    }

    /// Remembers an entry; never waits.
    pub fn tell(&self, entry: &Entry) {
        if self.entries.try_send(writer::Job::Entry(Box::new(entry.clone()))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Remembers what hosts, networks and groups carry; never waits.
    pub fn rates(&self, rates: Vec<(String, writer::Rates)>) {
        if self.entries.try_send(writer::Job::Rates(rates)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What goes wrong, for the status.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.trouble.get()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.entries.send(writer::Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
