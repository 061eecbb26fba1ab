//! The audit log: every change and every manual action, with user, time and reason; one JSON object a line.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use operator::{Caller, Outcome, Request};
use serde::{Deserialize, Serialize};
use traffic::Time;

/// The log is begun anew at this size; the old one is kept as `audit.log.1`.
const MAX_BYTES: u64 = 16 << 20;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Name of the caller.
    pub user: String,
    /// Who, by number.
    pub uid: u32,
    /// What, as words.
    pub action: String,
    /// Why, if he said.
    pub reason: Option<String>,
    /// Whether it was done.
    pub done: bool,
    /// What came of it.
    pub result: String,
}

/// Writes the log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    /// One line at a time; says whether the last write failed, so that it is told once.
    failed: Mutex<bool>,
}

impl Audit {
    /// In the state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("audit.log"), failed: Mutex::new(false) }
    }

    /// Writes down what a caller did.
    pub fn record(&self, now: Time, caller: &Caller, request: &Request, outcome: &Outcome) {
        let record = Record {
            time: now.as_seconds(),
            user: caller.user.clone(),
            uid: caller.uid,
            action: request.words(),
            reason: caller.reason.clone(),
            done: outcome.is_ok(),
            result: request.secrets().iter().filter(|word| word.len() > 3).fold(
                match outcome {
                    Ok(answer) => answer.text.clone(),
                    Err(failure) => failure.text.clone(),
                },
                // An error may quote what was typed.
                |text, word| text.replace(word.as_str(), config::secrets::HIDDEN),
            ),
        };
        tracing::info!(user = record.user, done = record.done, "{}", record.action);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.write(&record);
        if let (Err(error), false) = (&written, *failed) {
            tracing::error!("{} cannot be written, changes are only in the log: {error}", self.path.display());
        }
        *failed = written.is_err();
    }

    fn write(&self, record: &Record) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            reporting::files::make_private(folder)?;
        }
        if std::fs::metadata(&self.path).is_ok_and(|m| m.len() >= MAX_BYTES) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(&line)
    }

    /// The last records, oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Record> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(count);
        lines[from..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
