//! The file: tables, and the tiers that series are kept in.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rusqlite::Connection;

/// How fine and for how long: a bucket of so many seconds is kept for so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Seconds of one point.
    pub step: i64,
    /// Seconds that points are kept; the coarsest tier is kept for `Retention::days`.
    pub kept: i64,
}

/// From fine to coarse; each step is a multiple of the one before.
pub const TIERS: [Tier; 4] = [
    Tier { step: 1, kept: 2 * 3600 },
    Tier { step: 10, kept: 48 * 3600 },
    Tier { step: 60, kept: 30 * 86_400 },
    Tier { step: 600, kept: 365 * 86_400 },
];

/// Opens, or makes, the file.
///
/// # Errors
/// It cannot be written, is no database, or is of a later version.
pub fn open(path: &Path) -> Result<Connection> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    // Before the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A crash may cost the last seconds of history, never the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > 1 {
        bail!("it was written by a later version of floodwall");
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS key (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
         CREATE TABLE IF NOT EXISTS point (tier INTEGER NOT NULL, key INTEGER NOT NULL, time INTEGER NOT NULL,
             packets_in INTEGER NOT NULL, bytes_in INTEGER NOT NULL, packets_out INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
             PRIMARY KEY (tier, key, time)) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS attack (id TEXT PRIMARY KEY, prefix TEXT NOT NULL, direction TEXT NOT NULL, host_group TEXT NOT NULL,
             threshold TEXT NOT NULL, detected REAL NOT NULL, ended REAL, peak_packets_per_second INTEGER NOT NULL,
             peak_bytes_per_second INTEGER NOT NULL, severity REAL NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS attack_detected ON attack (detected);
         CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, attack TEXT NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL,
             json TEXT NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS event_attack ON event (attack, id);
         CREATE INDEX IF NOT EXISTS event_time ON event (time);
         PRAGMA user_version = 1;",
    )?;
    Ok(connection)
}
