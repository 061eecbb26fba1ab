//! [`Keeper`]: what the detector has learned of ordinary traffic, kept in the state directory (decision 27).
//!
//! A thread writes it every [`EVERY`] and at the end of a run; the file is replaced at once, or not at all. A file that cannot be
//! used is told of and learning begins anew: the daemon protects in any case.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use detector::{Detector, Memory};
use traffic::Time;

const FILE: &str = "baselines";
/// Written this often, at most 60 MB.
const EVERY: Duration = Duration::from_secs(600);

/// Writes what was learned of ordinary traffic to disk now and then, and reads it at the start.
#[derive(Debug)]
pub(crate) struct Keeper {
    writer: Option<(mpsc::SyncSender<Memory>, JoinHandle<()>)>,
    next: Time,
}

impl Keeper {
    /// Reads what an earlier run has left, and starts the thread that writes.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(state: Option<&Path>, now: Time) -> Result<(Self, Option<Memory>)> {
        let next = now.after(EVERY);
        let Some(path) = state.map(|s| s.join(FILE)) else { return Ok((Self { writer: None, next }, None)) };
        let memory = read(&path);
        // One that waits is enough: while the disk is busy, newer ones are left out.
        let (sender, memories) = mpsc::sync_channel(1);
        let run = move || keep(&path, &memories);
        let thread =
            std::thread::Builder::new().name("learned".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok((Self { writer: Some((sender, thread)), next }, memory))
    }

    /// Called often; hands over what has been learned when it is time.
    pub(crate) fn offer(&mut self, now: Time, detector: &Detector) {
        if let Some((sender, _)) = &self.writer
            && now >= self.next
        {
            self.next = now.after(EVERY);
            let _ = sender.try_send(detector.baselines().memory());
        }
    }

    /// Writes for the last time.
    pub(crate) fn stop(self, detector: &Detector) {
        let Some((sender, thread)) = self.writer else { return };
        // Only a writer that is gone does not take it, and then there is nobody to tell.
        let _ = sender.send(detector.baselines().memory());
        drop(sender);
        let _ = thread.join();
    }
}

fn read(path: &Path) -> Option<Memory> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was learned cannot be read: learning begins anew");
            return None;
        }
    };
    match Memory::read(BufReader::new(file)) {
        Ok(memory) => Some(memory),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was learned cannot be used: learning begins anew");
            None
        }
    }
}

fn keep(path: &Path, memories: &mpsc::Receiver<Memory>) {
    let mut failed = false;
    for memory in memories {
        match write(path, &memory) {
            Ok(()) => failed = false,
            // Once, not every time.
            Err(error) if !failed => {
                failed = true;
                tracing::error!(path = %path.display(), %error, "what is learned does not survive a restart");
            }
            Err(_) => {}
        }
    }
}

fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let file = File::create(&new)?;
    let mut writer = BufWriter::new(file);
    memory.write(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_something_else_begins_anew_and_is_replaced() {
        let folder = std::env::temp_dir().join(format!("floodwall-learned-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("creates");
        std::fs::write(folder.join(FILE), "something else").expect("writes");
        let (keeper, memory) = Keeper::start(Some(&folder), Time(0)).expect("a thread");
        assert!(memory.is_none());
        let (detector, _) = Detector::new(detector::Config::default(), 1, 1);
        keeper.stop(&detector);
        let (keeper, memory) = Keeper::start(Some(&folder), Time(0)).expect("a thread");
        assert!(memory.is_some_and(|m| m.hosts() == 0));
        keeper.stop(&detector);
        std::fs::remove_dir_all(&folder).expect("removes");
    }
}
