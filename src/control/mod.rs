//! The control socket: what operators type reaches the daemon here, one JSON request and one JSON reply a line.
//!
//! ```text
//! floodwall show attacks ──▶ {"verb":"show","category":"attacks"} ──▶ server ──▶ control thread ──▶ show/attacks.rs
//! ```
//! * [`server`] binds the Unix socket, learns who calls from the kernel (`SO_PEERCRED`) and refuses writes to those who are
//!   neither root, nor the daemon's own user, nor in group [`GROUP`]. It is generic over its [`server::Handler`], so that a
//!   second daemon (the enforcer) has a socket of its own.
//! * [`show`] holds one file per category that can be shown, [`act`] one per category that acts at once (decision 3).
//!   Both run on the control thread, between two ticks. Adding one is a file and a line in the table.
//! * [`configuration`] keeps candidates, commits them and takes them back; [`history`] and [`audit`] remember.
//! * [`access`] and [`tokens`] say who may do what through the network: the API asks the same daemon with the same requests.
//! * [`words`] turns what is typed into requests; [`client`] is the command line's end.
//!
//! Limits: [`MAX_CLIENTS`] connections, [`MAX_REQUEST`] bytes a request, [`QUEUE`] requests waiting for the control thread.

pub mod access;
pub mod act;
pub mod audit;
pub mod client;
pub mod complete;
pub mod configuration;
pub mod history;
pub mod server;
pub mod settings;
pub mod show;
pub mod tokens;
pub mod words;

use std::path::PathBuf;

use config::words::Verb;
pub use operator::answer::{Answer, Failure, Outcome, Reply, table};
pub use operator::caller::Caller;
use serde::{Deserialize, Serialize};

/// Where the socket is unless `--socket` or `FLOODWALL_SOCKET` says otherwise (decision 17).
pub const DEFAULT_SOCKET: &str = "/run/floodwall/control.sock";
/// Members of this group may change things.
pub const GROUP: &str = "floodwall";
/// Bytes of a request at most.
pub const MAX_REQUEST: usize = 1 << 20;
/// Connections at once at most.
pub const MAX_CLIENTS: usize = 64;
/// Requests that wait for the control thread at most.
pub const QUEUE: usize = 64;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// `show CATEGORY ...`: what runs; `show candidate` and `show compare`: what is edited.
    Show {
        /// What to show; empty for a list of categories.
        #[serde(default)]
        category: String,
        /// The words behind it.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// `set CATEGORY ...`: an edit of the candidate, or an action at once (decision 3).
    Set {
        /// What to set.
        category: String,
        /// The words behind it.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// `delete CATEGORY ...`: an edit of the candidate, or an action at once.
    Delete {
        /// What to delete.
        category: String,
        /// The words behind it.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// `commit`: puts the candidate into force.
    Commit {
        /// `commit check`: only says whether it would.
        #[serde(default)]
        check: bool,
        /// `commit confirmed MINUTES`: takes it back unless it is confirmed within this many minutes.
        #[serde(default)]
        confirmed_minutes: Option<u64>,
        /// `comment TEXT`, for the history.
        #[serde(default)]
        comment: Option<String>,
    },
    /// `confirm`: a commit that awaits it stays.
    Confirm,
    /// `rollback N`: the candidate becomes what ran N commits ago; 0 drops all edits.
    Rollback {
        /// Commits back.
        #[serde(default)]
        back: usize,
    },
    /// `rebase`: the candidate's edits go on top of what others committed meanwhile.
    Rebase,
    /// `reload`: the file, edited by other means, comes into force; SIGHUP does the same.
    Reload,
    /// Words that a line may go on with.
    Complete {
        /// The words so far; the last may be unfinished or empty.
        words: Vec<String>,
    },
}

impl Request {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Show { .. } | Self::Complete { .. } | Self::Commit { check: true, .. })
    }

    /// What `set` or `delete` says: verb, category and what follows it.
    #[must_use]
    pub fn edit(&self) -> Option<(Verb, &str, &[String])> {
        match self {
            Self::Set { category, arguments } => Some((Verb::Set, category, arguments)),
            Self::Delete { category, arguments } => Some((Verb::Delete, category, arguments)),
            Self::Show { .. }
            | Self::Commit { .. }
            | Self::Confirm
            | Self::Rollback { .. }
            | Self::Rebase
            | Self::Reload
            | Self::Complete { .. } => None,
        }
    }

    /// What of an edit is not for eyes and logs.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        self.edit().map_or(&[], |(_, category, words)| words.get(seen(category, words)..).unwrap_or_default())
    }

    /// As words, without secrets.
    #[must_use]
    pub fn words(&self) -> String {
        let join = |verb: &str, category: &str, arguments: &[String]| {
            let seen = seen(category, arguments);
            let shown = arguments.iter().enumerate();
            let shown = shown.map(|(i, word)| if i < seen { word.as_str() } else { config::secrets::HIDDEN });
            [verb, category].into_iter().chain(shown).collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::Show { category, arguments } => join("show", category, arguments),
            Self::Set { category, arguments } => join("set", category, arguments),
            Self::Delete { category, arguments } => join("delete", category, arguments),
            Self::Commit { check, confirmed_minutes, comment } => {
                let mut text = "commit".to_owned();
                text.push_str(if *check { " check" } else { "" });
                text.push_str(&confirmed_minutes.map(|m| format!(" confirmed {m}")).unwrap_or_default());
                text.push_str(&comment.as_ref().map(|c| format!(" comment {c:?}")).unwrap_or_default());
                text
            }
            Self::Confirm => "confirm".to_owned(),
            Self::Rollback { back } => format!("rollback {back}"),
            Self::Rebase => "rebase".to_owned(),
            Self::Reload => "reload".to_owned(),
            Self::Complete { .. } => "complete".to_owned(),
        }
    }
}

/// How many words behind a category are for eyes and logs.
fn seen(category: &str, arguments: &[String]) -> usize {
    if let Some(section) = config::words::section(category) {
        return config::secrets::seen(section, arguments);
    }
    if act::ACTIONS.iter().any(|action| action.category == category) || category == "token" {
        return arguments.len();
    }
    // No category, so anything.
    arguments.iter().position(|word| config::secrets::is_secret(word)).map_or(arguments.len(), |at| at + 1)
}

/// A request as it stands on a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What is asked for.
    #[serde(flatten)]
    pub request: Request,
    /// Why, in the operator's words, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state of the candidate that the operator has seen, in edits; another state is told before anything is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

/// The socket's path: the one given, else the default.
#[must_use]
pub fn socket_path(given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}
