//! [`Plant`]: the running parts, and how another configuration comes into force without stopping them.
//!
//! What can fail comes first (sockets, interfaces, the HTTP port), then the file, then the change. Workers, sessions and
//! counters that the new configuration leaves as they are notice nothing.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use api::Http;
use bgp::tcp::Peers;
use collectors::{Sink, Workers};
use config::Config;
use detector::Meter;
use operator::{Caller, Outcome, Request, clock};
use policy::rails::Rails;
use tokio::sync::oneshot;
use traffic::{Sample, Time};

/// Times that a full queue of the control thread is tried again, 10 ms apart.
const PATIENCE: u32 = 500;

/// A meter behind a collector's worker.
pub(crate) struct MeterSink(pub(crate) Meter);

impl Sink for MeterSink {
    fn samples(&mut self, _: Time, batch: &[Sample]) {
        self.0.count(batch);
    }

    fn idle(&mut self, now: Time) {
        self.0.serve(now);
    }
}

/// What the control thread is asked to do.
pub(crate) enum Job {
    /// Something a caller asks for.
    Ask { request: Request, caller: Caller, reply: oneshot::Sender<Outcome> },
    /// Another configuration; answers with meters for further workers.
    Reconfigure { config: Box<Config>, added: usize, reply: oneshot::Sender<Vec<Meter>> },
}

/// The running parts that a commit changes.
pub struct Plant {
    pub(crate) config: Config,
    pub(crate) workers: Workers,
    pub(crate) peers: Peers,
    pub(crate) jobs: mpsc::SyncSender<Job>,
    pub(crate) http: Http,
}

impl std::fmt::Debug for Plant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plant").field("workers", &self.workers).field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Plant {
    /// Puts a configuration into force; returns what an operator should know. `last` runs when nothing else can fail.
    ///
    /// # Errors
    /// Something cannot be opened, or `last` failed: then what ran before runs on.
    pub async fn apply(&mut self, mut config: Config, last: impl FnOnce(&Config) -> Result<()>) -> Result<Vec<String>> {
        config.collectors.templates_file.clone_from(&self.config.collectors.templates_file);
        let opening = self.workers.open(&config.collectors)?;
        let http = self.http.open(&config.api).await?;
        last(&config)?;
        let mut notes = opening.warnings.clone();
        let meters = self.reconfigure_control(&config, opening.workers()).await?;
        let mut meters = meters.into_iter();
        tokio::task::block_in_place(|| {
            self.workers.apply(opening, clock::now, || MeterSink(meters.next().expect("a meter for every new worker")))
        })?;
        self.http.apply(http);
        if let Err(error) = self.peers.apply(config.mitigation.sessions(), &Rails::gates(&config.mitigation)).await {
            notes.push(format!("BGP goes on as before: {error}"));
        }
        if config.mitigation.exabgp != self.config.mitigation.exabgp {
            notes.push("exabgp is used from the next start on".to_owned());
        }
        if config.state_directory != self.config.state_directory {
            notes.push("state.directory is used from the next start on".to_owned());
        }
        if config.history != self.config.history {
            notes.push("state.history_days and history_size_mb are used from the next start on".to_owned());
        }
        if config.control_socket_others_may_read != self.config.control_socket_others_may_read {
            notes.push("control_socket_others_may_read is used from the next start on".to_owned());
        }
        if config.logging_level != self.config.logging_level && !crate::log::set_level(&config.logging_level) {
            notes.push("FLOODWALL_LOG in the environment wins over logging_level".to_owned());
        }
        self.config = config;
        Ok(notes)
    }

    async fn reconfigure_control(&self, config: &Config, added: usize) -> Result<Vec<Meter>> {
        let (reply, meters) = oneshot::channel();
        let mut job = Job::Reconfigure { config: Box::new(config.clone()), added, reply };
        for _ in 0..PATIENCE {
            match self.jobs.try_send(job) {
                Ok(()) => return meters.await.context("the daemon is stopping"),
                Err(mpsc::TrySendError::Disconnected(_)) => break,
                Err(mpsc::TrySendError::Full(back)) => job = back,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(anyhow!("the control thread does not answer"))
    }
}
