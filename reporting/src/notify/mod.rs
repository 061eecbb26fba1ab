//! Tells people and programs what is announced and withdrawn: scripts written for FastNetMon keep working as they are, web hooks,
//! mail, chats and syslog need none.
//!
//! ```text
//! control thread ──Entry, Facts──▶ bounded queue ──▶ notify thread ──▶ outbox.sqlite ──▶ one queue per channel ──▶ the world
//! ```
//! * [`Notifier`] is the control thread's end: it never waits. The notify thread has a runtime of its own, so that a name server or
//!   a script that hangs delays neither BGP nor the API.
//! * [`message`] says it in FastNetMon's field names; [`outbox`] remembers across a restart what is still to be sent and what was
//!   told, so that every ban is told once and every unban only after its ban.
//! * [`post`] sends: in order, with back-off, each channel by itself. A script is started at most once; a web hook that was
//!   interrupted may come twice, with the same `X-Floodwall-Delivery`.
//! * [`deliver`] knows how: script, web hook, chat, mail, syslog.
//!
//! Limits: [`QUEUE`] entries waiting, [`outbox::MAX_WAITING`] messages to be sent, [`post::MAX_SCRIPTS`] scripts at once, each for
//! `notify_script_timeout`, [`deliver::PATIENCE`] for everything else, [`post::GIVE_UP`] until a message is given up.

pub mod deliver;
mod dump;
pub mod message;
pub mod outbox;
pub mod post;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use config::notify::Channel;
use operator::report::{Entry, Report};
use operator::status::{AttackStatus, MitigationStatus};
use tokio::sync::mpsc;
use traffic::Time;

use crate::case::Case;

pub use message::Message;

/// `2026-12-31`, in UTC.
#[must_use]
pub fn date(time: Time) -> String {
    dump::timestamp(time).chars().take(10).collect()
}

/// Entries that wait for the notify thread at most.
pub const QUEUE: usize = 4096;

/// What the control thread knows about an entry's target at that moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The attack.
    pub attack: Option<AttackStatus>,
    /// The rule or blackhole.
    pub mitigation: Option<MitigationStatus>,
    /// The own network around it.
    pub network: String,
}

/// What the notify thread is given.
#[derive(Debug)]
pub enum Job {
    /// Something happened.
    Entry(Box<Entry>, Box<Facts>),
    /// What was mined: the sample.
    Case(Arc<Case>),
    /// Routes that an earlier run left in force, by [`message::key`].
    InForce(Vec<String>),
    /// Other channels.
    Configure(Vec<Channel>),
    /// The end.
    Stop,
}

/// What goes wrong, by channel.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<std::collections::BTreeMap<String, String>>>);

impl Troubles {
    /// In words.
    #[must_use]
    pub fn get(&self) -> Vec<String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().map(|(channel, text)| format!("notifications of {channel} do not arrive: {text}")).collect()
    }

    /// Says what goes wrong with a channel; `None`: all is well.
    pub fn set(&self, channel: &str, text: Option<String>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => drop(troubles.insert(channel.to_owned(), text)),
            None => drop(troubles.remove(channel)),
        }
    }
}

/// The control thread's end.
#[derive(Debug)]
pub struct Notifier {
    jobs: mpsc::Sender<Job>,
    dropped: AtomicU64,
    troubles: Troubles,
    is_used: AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts the thread; without a folder a restart forgets what was not sent yet.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(channels: Vec<Channel>, folder: Option<&Path>, clock: fn() -> Time) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let troubles = Troubles::default();
        let is_used = AtomicBool::new(!channels.is_empty());
        let outbox = outbox::Outbox::open(folder);
        let post = post::Post::new(channels, outbox, troubles.clone(), clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("notify")
            .build()
            .context("cannot start the runtime of notifications")?;
        let thread = std::thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || {
                runtime.block_on(post.run(inbox));
                // Whoever asks a name server for minutes is not waited for.
                runtime.shutdown_background();
            })
            .context("cannot start the thread of notifications")?;
        Ok(Self { jobs, dropped: AtomicU64::new(0), troubles, is_used, thread: Some(thread) })
    }

    /// Whether anybody may be told of an entry: then facts are worth the while.
    #[must_use]
    pub fn wants(&self, report: &Report) -> bool {
        self.is_used.load(Ordering::Relaxed) && message::is_told(report)
    }

    /// Tells of an entry; never waits.
    pub fn tell(&self, entry: &Entry, facts: Facts) {
        self.give(Job::Entry(Box::new(entry.clone()), Box::new(facts)));
    }

    /// Keeps the sample of an attack for what is told of it.
    pub fn keep(&self, case: &Arc<Case>) {
        if self.is_used.load(Ordering::Relaxed) {
            self.give(Job::Case(Arc::clone(case)));
        }
    }

    /// Says which routes an earlier run left in force.
    pub fn in_force(&self, keys: Vec<String>) {
        self.give(Job::InForce(keys));
    }

    /// Another configuration is in force.
    pub fn configure(&self, channels: Vec<Channel>) {
        self.is_used.store(!channels.is_empty(), Ordering::Relaxed);
        self.give(Job::Configure(channels));
    }

    /// What goes wrong, for the status.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let mut alarms = self.troubles.get();
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            alarms.push(format!("{dropped} notifications were dropped: more than {QUEUE} waited"));
        }
        alarms
    }

    fn give(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "notifications are dropped: more than {QUEUE} wait");
            }
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        if self.jobs.try_send(Job::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It ends within `post::LAST_WORDS`.
            let _ = thread.join();
        }
    }
}
