//! The state store: what was announced and ordered survives kill -9 and reboot (decision 23).
//!
//! SQLite in the state directory, written by a thread of its own. A changed set is one transaction, on disk before it is announced;
//! [`Store::is_durable`] says whether that has happened. The directory is locked: a second daemon gets an error instead of half a
//! state. A journal keeps operators' actions and the history of announcements, at most [`JOURNAL`] entries.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use policy::state::Records;
use rusqlite::{Connection, params};

/// Journal entries kept.
pub const JOURNAL: i64 = 100_000;
/// The journal is cut after so many new entries.
const CUT_EVERY: u32 = 1000;
/// Writes that wait for the disk at most; beyond them the newest state waits in memory.
const QUEUE: usize = 256;
const FILE: &str = "state.sqlite";
const LOCK: &str = "lock";

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// What kind of event it was.
    pub event: String,
    /// The route it was about, in words; empty if none.
    pub route: String,
    /// In words.
    pub text: String,
    /// Who ordered it; empty if nobody did.
    pub owner: String,
    /// Why, in the owner's words.
    pub reason: String,
}

enum Job {
    Save { generation: u64, put: Vec<(String, String)>, delete: Vec<String> },
    Journal(Vec<Line>),
    Stop,
}

/// The state on disk, written by a thread of its own; it says when what was handed over is durable.
#[derive(Debug)]
pub struct Store {
    jobs: mpsc::SyncSender<Job>,
    saved: Arc<AtomicU64>,
    error: Arc<Mutex<Option<String>>>,
    generation: u64,
    known: Records,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
    /// Held for as long as the store is open.
    _lock: std::fs::File,
}

impl Store {
    /// Opens, or makes, the store of a directory; returns what it remembers.
    ///
    /// # Errors
    /// The directory cannot be written, another daemon has it, or the file is of a later version.
    pub fn open(directory: &Path) -> Result<(Self, Records)> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the state directory {}", directory.display()))?;
        let path = directory.join(FILE);
        let lock = std::fs::File::create(directory.join(LOCK))
            .with_context(|| format!("cannot write in the state directory {}", directory.display()))?;
        if lock.try_lock().is_err() {
            bail!("another floodwall uses the state in {}: choose another with --state-dir", directory.display());
        }
        let connection = connect(&path)
            .with_context(|| format!("cannot use the state in {}: choose another with --state-dir", path.display()))?;
        let known = read(&connection).with_context(|| format!("cannot read the state in {}", path.display()))?;
        let (jobs, inbox) = mpsc::sync_channel(QUEUE);
        let (saved, error) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let (saved_in, error_in) = (Arc::clone(&saved), Arc::clone(&error));
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(connection, &inbox, &saved_in, &error_in))
            .context("cannot start the store's thread")?;
        let store =
            Self { jobs, saved, error, generation: 0, known: known.clone(), path, thread: Some(thread), _lock: lock };
        Ok((store, known))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands a changed set to the disk; nothing if it did not change. When the disk is far behind, this is tried again later.
    pub fn save(&mut self, records: &Records) {
        if *records == self.known {
            return;
        }
        let put: Vec<(String, String)> = records
            .iter()
            .filter(|(key, value)| self.known.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let delete: Vec<String> = self.known.keys().filter(|key| !records.contains_key(*key)).cloned().collect();
        let generation = self.generation + 1;
        if self.jobs.try_send(Job::Save { generation, put, delete }).is_ok() {
            self.generation = generation;
            self.known.clone_from(records);
        }
    }

    /// Whether all that was handed over is on disk.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.saved.load(Ordering::Acquire) >= self.generation
    }

    /// Why it is not, if the disk said so.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to the journal; dropped when the disk is far behind.
    pub fn journal(&self, lines: Vec<Line>) {
        if !lines.is_empty() {
            let _ = self.jobs.try_send(Job::Journal(lines));
        }
    }

    /// The newest lines of the journal, oldest first: all, or those about a route.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn history(&self, route: Option<&str>, limit: usize) -> Result<Vec<Line>> {
        history(&self.path, route, limit)
    }
}

impl Drop for Store {
    /// Writes what waits, then ends.
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A reboot must not lose what was announced.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > 1 {
        bail!("it was written by a later version of floodwall");
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, time REAL NOT NULL, event TEXT NOT NULL, route TEXT NOT NULL,
             text TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
         CREATE INDEX IF NOT EXISTS journal_route ON journal (route, id);
         PRAGMA user_version = 1;",
    )?;
    Ok(connection)
}

fn read(connection: &Connection) -> rusqlite::Result<Records> {
    let mut statement = connection.prepare("SELECT key, value FROM state")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn history(path: &Path, route: Option<&str>, limit: usize) -> Result<Vec<Line>> {
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    let mut statement = connection.prepare(
        "SELECT time, event, route, text, owner, reason FROM journal WHERE ?1 IS NULL OR route = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let line = |row: &rusqlite::Row<'_>| {
        Ok(Line {
            time: row.get(0)?,
            event: row.get(1)?,
            route: row.get(2)?,
            text: row.get(3)?,
            owner: row.get(4)?,
            reason: row.get(5)?,
        })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut lines: Vec<Line> = statement.query_map(params![route, limit], line)?.collect::<rusqlite::Result<_>>()?;
    lines.reverse();
    Ok(lines)
}

/// The writing thread: everything that waits is one transaction.
fn write(mut connection: Connection, inbox: &mpsc::Receiver<Job>, saved: &AtomicU64, error: &Mutex<Option<String>>) {
    let mut since_cut = CUT_EVERY;
    let mut stop = false;
    // What the disk refused is written with what comes next.
    let mut jobs: Vec<Job> = Vec::new();
    while !stop {
        match inbox.recv_timeout(Duration::from_secs(1)) {
            Ok(job) => jobs.push(job),
            Err(mpsc::RecvTimeoutError::Timeout) if jobs.is_empty() => continue,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => stop = true,
        }
        jobs.extend(inbox.try_iter());
        stop |= jobs.iter().any(|job| matches!(job, Job::Stop));
        match commit(&mut connection, &jobs, &mut since_cut) {
            Ok(generation) => {
                jobs.clear();
                *error.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if let Some(generation) = generation {
                    saved.store(generation, Ordering::Release);
                }
            }
            Err(problem) => {
                // The journal is given up before the state is.
                jobs.retain(|job| matches!(job, Job::Save { .. }));
                *error.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_string());
            }
        }
    }
}

fn commit(connection: &mut Connection, jobs: &[Job], since_cut: &mut u32) -> rusqlite::Result<Option<u64>> {
    let transaction = connection.transaction()?;
    let mut newest = None;
    {
        let mut put =
            transaction.prepare_cached("INSERT INTO state VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?;
        let mut delete = transaction.prepare_cached("DELETE FROM state WHERE key = ?1")?;
        let mut journal = transaction.prepare_cached(
            "INSERT INTO journal (time, event, route, text, owner, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for job in jobs {
            match job {
                Job::Save { generation, put: changed, delete: gone } => {
                    for (key, value) in changed {
                        put.execute(params![key, value])?;
                    }
                    for key in gone {
                        delete.execute(params![key])?;
                    }
                    newest = Some(*generation);
                }
                Job::Journal(lines) => {
                    for line in lines {
                        journal.execute(params![
                            line.time,
                            line.event,
                            line.route,
                            line.text,
                            line.owner,
                            line.reason
                        ])?;
                        *since_cut += 1;
                    }
                }
                Job::Stop => {}
            }
        }
        if *since_cut >= CUT_EVERY {
            *since_cut = 0;
            transaction
                .execute("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?1", params![JOURNAL])?;
        }
    }
    transaction.commit()?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("floodwall-store-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn records(of: &[(&str, &str)]) -> Records {
        of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn line(route: &str, text: &str) -> Line {
        Line {
            time: 1.5,
            event: "announce".to_owned(),
            route: route.to_owned(),
            text: text.to_owned(),
            owner: String::new(),
            reason: String::new(),
        }
    }

    fn wait(store: &Store) {
        for _ in 0..500 {
            if store.is_durable() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not durable: {:?}", store.error());
    }

    #[test]
    fn what_was_saved_is_there_after_a_crash_and_what_was_deleted_is_not() {
        let folder = Folder::new("crash");
        let (mut store, before) = Store::open(&folder.0).expect("opens");
        assert!(before.is_empty() && store.is_durable());
        store.save(&records(&[("a", "1"), ("b", "2")]));
        store.save(&records(&[("a", "3")]));
        wait(&store);
        // A copy of the files at this moment is what a crash leaves.
        let copy = Folder::new("crash-copy");
        std::fs::create_dir_all(&copy.0).expect("made");
        for file in std::fs::read_dir(&folder.0).expect("listed") {
            let file = file.expect("entry");
            std::fs::copy(file.path(), copy.0.join(file.file_name())).expect("copied");
        }
        let (_, after) = Store::open(&copy.0).expect("opens");
        assert_eq!(after, records(&[("a", "3")]));
    }

    #[test]
    fn two_daemons_cannot_share_a_state() {
        let folder = Folder::new("lock");
        let first = Store::open(&folder.0).expect("opens");
        let error = Store::open(&folder.0).expect_err("locked").to_string();
        assert!(error.contains("another floodwall"), "{error}");
        drop(first);
        assert!(Store::open(&folder.0).is_ok());
    }

    #[test]
    fn the_journal_tells_the_history_of_a_route() {
        let folder = Folder::new("journal");
        let (store, _) = Store::open(&folder.0).expect("opens");
        store.journal(vec![line("r1", "one"), line("r2", "two")]);
        store.journal(vec![line("r1", "three")]);
        let path = store.path().to_owned();
        drop(store);
        let texts = |route| history(&path, route, 10).expect("read").into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(texts(Some("r1")), ["one", "three"]);
        assert_eq!(texts(None), ["one", "two", "three"]);
        assert_eq!(history(&path, None, 1).expect("read")[0].text, "three", "the newest");
    }

    #[test]
    fn a_file_of_a_later_version_or_no_database_is_refused() {
        let folder = Folder::new("version");
        drop(Store::open(&folder.0).expect("opens"));
        let connection = Connection::open(folder.0.join(FILE)).expect("opens");
        connection.pragma_update(None, "user_version", 9).expect("set");
        drop(connection);
        let error = Store::open(&folder.0).expect_err("later");
        assert!(format!("{error:#}").contains("later version"), "{error:#}");
        std::fs::write(folder.0.join(FILE), "nonsense".repeat(100)).expect("written");
        assert!(Store::open(&folder.0).is_err());
    }
}
