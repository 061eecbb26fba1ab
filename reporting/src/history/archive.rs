//! [`Archive`]: reads what the writer wrote, through connections of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Trouble;
use super::database::TIERS;

/// Points of an answer at most.
pub const MAX_POINTS: i64 = 2000;

/// One point of a series: averages over its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Point {
    /// Its beginning, in seconds since the Unix epoch.
    pub time: i64,
    /// To our networks.
    pub packets_per_second_in: i64,
    /// To our networks.
    pub bytes_per_second_in: i64,
    /// From our networks.
    pub packets_per_second_out: i64,
    /// From our networks.
    pub bytes_per_second_out: i64,
}

/// A series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Series {
    /// `total`, `filtered`, `host 203.0.113.9`, `exporter 192.0.2.1`, ...
    pub name: String,
    /// Seconds of one point.
    pub step: i64,
    /// Oldest first; where nothing was counted there is no point.
    pub points: Vec<Point>,
}

/// An attack, in progress or over.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PastAttack {
    /// Names it in paths.
    pub id: String,
    /// Own prefix.
    pub prefix: String,
    /// `incoming` or `outgoing`.
    pub direction: String,
    /// Host group.
    pub group: String,
    /// Threshold in words.
    pub threshold: String,
    /// Seconds since the Unix epoch.
    pub detected: f64,
    /// Seconds since the Unix epoch; null while it goes on.
    pub ended: Option<f64>,
    /// Highest rate.
    pub peak_packets_per_second: i64,
    /// Highest rate.
    pub peak_bytes_per_second: i64,
    /// Highest rate as a multiple of the threshold.
    pub severity: f64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PastEvent {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Such as `alarm`, `candidates`, `announce`.
    pub kind: String,
    /// As in the log of a replay.
    #[schema(value_type = Object)]
    pub entry: Value,
}

/// Reads the history, through connections of its own.
#[derive(Debug, Clone)]
pub struct Archive {
    path: PathBuf,
    trouble: Trouble,
}

impl Archive {
    pub(super) const fn new(path: PathBuf, trouble: Trouble) -> Self {
        Self { path, trouble }
    }

    /// What goes wrong with writing.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    /// Where case files are.
    #[must_use]
    pub fn cases(&self) -> PathBuf {
        self.path.with_file_name("cases")
    }

    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        Ok(connection)
    }

    /// A series from a time to another, as fine as fits [`MAX_POINTS`]. `now` tells which tiers still have it.
    ///
    /// # Errors
    /// Those of the file.
    pub fn series(&self, name: &str, from: i64, to: i64, now: i64) -> Result<Series> {
        let span = to.saturating_sub(from).max(1);
        let fits = |i: &usize| TIERS[*i].kept >= now.saturating_sub(from) && span / TIERS[*i].step <= MAX_POINTS;
        let mut tier = (0..TIERS.len()).find(fits).unwrap_or(TIERS.len() - 1);
        let mut points = self.points(name, tier, from, to)?;
        if points.is_empty() && tier == 0 {
            // Hosts, networks and groups are not kept by the second.
            tier = 1;
            points = self.points(name, tier, from, to)?;
        }
        Ok(Series { name: name.to_owned(), step: TIERS[tier].step, points })
    }

    fn points(&self, name: &str, tier: usize, from: i64, to: i64) -> Result<Vec<Point>> {
        let connection = self.connect()?;
        let mut statement = connection.prepare_cached(
            "SELECT time, packets_in, bytes_in, packets_out, bytes_out FROM point
             WHERE tier = ?1 AND key = (SELECT id FROM key WHERE name = ?2) AND time BETWEEN ?3 AND ?4 ORDER BY time LIMIT ?5",
        )?;
        let point = |row: &Row<'_>| {
            Ok(Point {
                time: row.get(0)?,
                packets_per_second_in: row.get(1)?,
                bytes_per_second_in: row.get(2)?,
                packets_per_second_out: row.get(3)?,
                bytes_per_second_out: row.get(4)?,
            })
        };
        let number = i64::try_from(tier).unwrap_or_default();
        let rows = statement.query_map(params![number, name, from, to, MAX_POINTS * 30], point)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Names of series that begin with a text.
    ///
    /// # Errors
    /// Those of the file.
    pub fn names(&self, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let connection = self.connect()?;
        let mut statement = connection
            .prepare_cached("SELECT name FROM key WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(statement.query_map(params![prefix, limit], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Attacks that were detected before a time, newest first; of one own prefix, if it is given.
    ///
    /// # Errors
    /// Those of the file.
    pub fn attacks(&self, before: f64, prefix: Option<&str>, limit: usize) -> Result<Vec<PastAttack>> {
        let connection = self.connect()?;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM attack WHERE detected < ?1 AND (?2 IS NULL OR prefix = ?2) ORDER BY detected DESC LIMIT ?3"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(statement.query_map(params![before, prefix, limit], attack)?.collect::<rusqlite::Result<_>>()?)
    }

    /// One attack with what happened during it, oldest first.
    ///
    /// # Errors
    /// Those of the file.
    pub fn attack(&self, id: &str) -> Result<Option<(PastAttack, Vec<PastEvent>)>> {
        let connection = self.connect()?;
        let sql = format!("SELECT {COLUMNS} FROM attack WHERE id = ?1");
        let Some(found) = connection.query_row(&sql, params![id], attack).optional()? else { return Ok(None) };
        Ok(Some((found, events(&connection, "attack = ?1", &id, super::writer::MAX_EVENTS)?)))
    }

    /// The last events of all attacks and none, oldest first.
    ///
    /// # Errors
    /// Those of the file.
    pub fn events(&self, before: f64, limit: usize) -> Result<Vec<PastEvent>> {
        events(&self.connect()?, "time < ?1", &before, limit)
    }
}

const COLUMNS: &str = "id, prefix, direction, host_group, threshold, detected, ended, peak_packets_per_second, \
    peak_bytes_per_second, severity";

fn attack(row: &Row<'_>) -> rusqlite::Result<PastAttack> {
    Ok(PastAttack {
        id: row.get(0)?,
        prefix: row.get(1)?,
        direction: row.get(2)?,
        group: row.get(3)?,
        threshold: row.get(4)?,
        detected: row.get(5)?,
        ended: row.get(6)?,
        peak_packets_per_second: row.get(7)?,
        peak_bytes_per_second: row.get(8)?,
        severity: row.get(9)?,
    })
}

fn events(connection: &Connection, which: &str, value: &dyn rusqlite::ToSql, limit: usize) -> Result<Vec<PastEvent>> {
    let sql = format!("SELECT time, kind, json FROM event WHERE {which} ORDER BY id DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let event = |row: &Row<'_>| {
        let text: String = row.get(2)?;
        Ok(PastEvent { time: row.get(0)?, kind: row.get(1)?, entry: serde_json::from_str(&text).unwrap_or_default() })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![value, limit], event)?;
    let mut events = rows.collect::<rusqlite::Result<Vec<PastEvent>>>()?;
    events.reverse();
    Ok(events)
}
