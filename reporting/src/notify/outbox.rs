//! [`Outbox`]: what is still to be sent and what was told, in `outbox.sqlite` of the state folder, so that a restart neither loses
//! nor repeats. Without a folder, or on a disk that does not take it, the same in memory.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::Message;

/// The file's name.
pub const FILE: &str = "outbox.sqlite";
/// Messages that wait for one channel at most, each of some 50 kB with its sample; further ones are dropped.
pub const MAX_WAITING: usize = 2000;
/// Bans that are remembered at most until their unban, without their samples.
pub const MAX_TOLD: usize = 20_000;

/// Messages that have not arrived yet, on disk, so that a restart loses none.
#[derive(Debug)]
pub struct Outbox {
    connection: Option<Connection>,
    next: u64,
    failed: bool,
}

/// A message on its way: its number, its channel's name, and what it says.
pub type Waiting = (u64, String, Message);

impl Outbox {
    /// Opens, or makes, the file.
    #[must_use]
    pub fn open(folder: Option<&Path>) -> Self {
        let connection = folder.and_then(|folder| {
            let path = folder.join(FILE);
            connect(&path)
                .inspect_err(|error| {
                    tracing::error!("notifications do not survive a restart: {}: {error}", path.display());
                })
                .ok()
        });
        Self { connection, next: 1, failed: false }
    }

    /// What an earlier run left, in order, and what it told: key and message.
    pub fn load(&mut self) -> (Vec<Waiting>, Vec<(String, Message)>) {
        let Some(connection) = &self.connection else { return (Vec::new(), Vec::new()) };
        let read = || -> rusqlite::Result<_> {
            let mut statement = connection.prepare("SELECT id, channel, message FROM waiting ORDER BY id")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
            let waiting = rows.collect::<rusqlite::Result<Vec<(i64, String, String)>>>()?;
            let mut statement = connection.prepare("SELECT key, message FROM told")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((waiting, rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?))
        };
        let (waiting, told) = read().unwrap_or_else(|error| {
            tracing::error!("notifications of the run before are lost: {error}");
            Default::default()
        });
        let parsed = |text: &str| serde_json::from_str::<Message>(text).ok();
        let waiting: Vec<Waiting> = waiting
            .into_iter()
            .filter_map(|(id, channel, text)| Some((u64::try_from(id).ok()?, channel, parsed(&text)?)))
            .collect();
        self.next = waiting.last().map_or(1, |(id, ..)| id + 1);
        (waiting, told.into_iter().filter_map(|(key, text)| Some((key, parsed(&text)?))).collect())
    }

    /// Adds a message for a channel; its number.
    pub fn add(&mut self, channel: &str, message: &Message) -> u64 {
        let id = self.next;
        self.next += 1;
        let text = serde_json::to_string(message).unwrap_or_default();
        self.write("INSERT INTO waiting VALUES (?1, ?2, ?3)", params![number(id), channel, text]);
        id
    }

    /// A message is sent, or given up.
    pub fn remove(&mut self, id: u64) {
        self.write("DELETE FROM waiting WHERE id = ?1", params![number(id)]);
    }

    /// A ban was told.
    pub fn told(&mut self, key: &str, message: &Message) {
        let text = serde_json::to_string(message).unwrap_or_default();
        self.write("INSERT OR REPLACE INTO told VALUES (?1, ?2)", params![key, text]);
    }

    /// Its unban was told.
    pub fn untold(&mut self, key: &str) {
        self.write("DELETE FROM told WHERE key = ?1", params![key]);
    }

    /// What the disk does not take is still sent by this run.
    fn write(&mut self, sql: &str, parameters: impl rusqlite::Params) {
        let Some(connection) = &self.connection else { return };
        match connection.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters)) {
            Ok(_) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!("notifications do not survive a restart: {error}");
            }
            Err(_) => {}
        }
    }
}

fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    if let Some(folder) = path.parent() {
        // What is wrong with it the next line says.
        let _ = std::fs::create_dir_all(folder);
    }
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY, channel TEXT NOT NULL, message TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY, message TEXT NOT NULL) STRICT;",
    )?;
    Ok(connection)
}
