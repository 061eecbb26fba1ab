//! What was committed, by whom and when: the last [`KEPT`] configurations, as files of the state folder.

use std::path::{Path, PathBuf};

use reporting::files::{make_private, replace_file};
use serde::{Deserialize, Serialize};

/// Configurations that are kept.
pub const KEPT: usize = 50;

/// One configuration that was in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Its number; grows by one with each.
    pub revision: u64,
    /// When, in seconds since the Unix epoch.
    pub time: f64,
    /// Name of the caller.
    pub user: String,
    /// Why, if he said.
    pub comment: Option<String>,
    /// The whole file.
    pub text: String,
}

/// The last commits, oldest first.
#[derive(Debug, Default)]
pub struct History {
    folder: Option<PathBuf>,
    commits: Vec<Commit>,
}

impl History {
    /// Reads what earlier runs left in a folder; files that are not understood are left alone.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        if let Err(error) = make_private(folder) {
            tracing::warn!(
                "{} cannot be made, so commits are remembered until the next start only: {error}",
                folder.display()
            );
            return Self::default();
        }
        let mut commits: Vec<Commit> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.ok()?.path()).ok()?).ok())
            .collect();
        commits.sort_by_key(|c| c.revision);
        commits.drain(..commits.len().saturating_sub(KEPT));
        Self { folder: Some(folder.to_owned()), commits }
    }

    /// The newest revision; 0 without any.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.commits.last().map_or(0, |c| c.revision)
    }

    /// The commits, oldest first.
    #[must_use]
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// The commit that was in force `back` commits ago; 0 is the newest.
    #[must_use]
    pub fn back(&self, back: usize) -> Option<&Commit> {
        self.commits.iter().rev().nth(back)
    }

    /// Adds one.
    pub fn add(&mut self, commit: Commit) {
        if let Some(folder) = &self.folder {
            let path = |revision: u64| folder.join(format!("{revision:08}.json"));
            let written = serde_json::to_vec_pretty(&commit)
                .map_err(std::io::Error::from)
                .and_then(|bytes| replace_file(&path(commit.revision), &bytes));
            if let Err(error) = written {
                tracing::warn!("revision {} is not in the history: {error}", commit.revision);
            }
            for old in self.commits.iter().take((self.commits.len() + 1).saturating_sub(KEPT)) {
                let _ = std::fs::remove_file(path(old.revision));
            }
        }
        self.commits.push(commit);
        let surplus = self.commits.len().saturating_sub(KEPT);
        self.commits.drain(..surplus);
    }
}
