//! [`Request`]: what a caller asks for, parsed; and [`Line`], its form on the control socket: JSON of a verb and words, which is also
//! what scripts may write.

use config::words::Verb;
use serde::{Deserialize, Serialize};

use crate::answer::Failure;
use crate::order::{self, Order};

/// Requests that wait for the control thread at most, by each way that leads there.
pub const QUEUE: usize = 64;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `show CATEGORY ...`: what runs; `show candidate` and `show compare`: what is edited.
    Show {
        /// What to show; empty for a list of categories.
        category: String,
        /// The words behind it.
        arguments: Vec<String>,
    },
    /// What acts at once (decision 3).
    Order(Order),
    /// `set CATEGORY ...`: an edit of the candidate, or of the tokens.
    Set {
        /// What to set.
        category: String,
        /// The words behind it.
        arguments: Vec<String>,
    },
    /// `delete CATEGORY ...`: an edit of the candidate, or of the tokens.
    Delete {
        /// What to delete.
        category: String,
        /// The words behind it.
        arguments: Vec<String>,
    },
    /// `commit`: puts the candidate into force.
    Commit {
        /// `commit check`: only says whether it would.
        check: bool,
        /// `commit confirmed MINUTES`: takes it back unless it is confirmed within this many minutes.
        confirmed_minutes: Option<u64>,
        /// `comment TEXT`, for the history.
        comment: Option<String>,
    },
    /// `confirm`: a commit that awaits it stays.
    Confirm,
    /// `rollback N`: the candidate becomes what ran N commits ago; 0 drops all edits.
    Rollback {
        /// Commits back.
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
    /// `set` or `delete` of something: an order, or else an edit.
    ///
    /// # Errors
    /// The words behind an order's category do not fit it; says what to write instead.
    pub fn change(verb: Verb, category: &str, arguments: &[String]) -> Result<Self, Failure> {
        if let Some(order) = order::parse(verb, category, arguments) {
            return order.map(Self::Order).map_err(Failure::malformed);
        }
        let (category, arguments) = (category.to_owned(), arguments.to_vec());
        Ok(match verb {
            Verb::Set => Self::Set { category, arguments },
            Verb::Delete => Self::Delete { category, arguments },
        })
    }

    /// A look at a category.
    #[must_use]
    pub fn show(category: &str, arguments: &[&str]) -> Self {
        Self::Show { category: category.to_owned(), arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Show { .. } | Self::Complete { .. } | Self::Commit { check: true, .. })
    }

    /// What an edit says: verb, category and what follows it.
    #[must_use]
    pub fn edit(&self) -> Option<(Verb, &str, &[String])> {
        match self {
            Self::Set { category, arguments } => Some((Verb::Set, category, arguments)),
            Self::Delete { category, arguments } => Some((Verb::Delete, category, arguments)),
            Self::Order(_)
            | Self::Show { .. }
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
            Self::Order(order) => {
                let (verb, category, words) = order.words();
                [&[order::verb_name(verb).to_owned(), category.to_owned()], &words[..]].concat().join(" ")
            }
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
    if category == "token" {
        return arguments.len();
    }
    // No category, so anything.
    arguments.iter().position(|word| config::secrets::is_secret(word)).map_or(arguments.len(), |at| at + 1)
}

/// A request as it stands on a line: its verb and its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Line {
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

impl Line {
    /// What it asks for.
    ///
    /// # Errors
    /// An order whose words do not fit.
    pub fn request(self) -> Result<Request, Failure> {
        Ok(match self {
            Self::Show { category, arguments } => Request::Show { category, arguments },
            Self::Set { category, arguments } => return Request::change(Verb::Set, &category, &arguments),
            Self::Delete { category, arguments } => return Request::change(Verb::Delete, &category, &arguments),
            Self::Commit { check, confirmed_minutes, comment } => Request::Commit { check, confirmed_minutes, comment },
            Self::Confirm => Request::Confirm,
            Self::Rollback { back } => Request::Rollback { back },
            Self::Rebase => Request::Rebase,
            Self::Reload => Request::Reload,
            Self::Complete { words } => Request::Complete { words },
        })
    }
}

impl From<Request> for Line {
    fn from(request: Request) -> Self {
        match request {
            Request::Order(order) => {
                let (verb, category, arguments) = order.words();
                let category = category.to_owned();
                match verb {
                    Verb::Set => Self::Set { category, arguments },
                    Verb::Delete => Self::Delete { category, arguments },
                }
            }
            Request::Show { category, arguments } => Self::Show { category, arguments },
            Request::Set { category, arguments } => Self::Set { category, arguments },
            Request::Delete { category, arguments } => Self::Delete { category, arguments },
            Request::Commit { check, confirmed_minutes, comment } => Self::Commit { check, confirmed_minutes, comment },
            Request::Confirm => Self::Confirm,
            Request::Rollback { back } => Self::Rollback { back },
            Request::Rebase => Self::Rebase,
            Request::Reload => Self::Reload,
            Request::Complete { words } => Self::Complete { words },
        }
    }
}

/// A line with what goes beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What is asked for.
    #[serde(flatten)]
    pub line: Line,
    /// Why, in the operator's words, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state of the candidate that the operator has seen, in edits; another state is told before anything is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

impl Envelope {
    /// Around a request.
    #[must_use]
    pub fn new(request: Request, reason: Option<String>, seen: Option<u64>) -> Self {
        Self { line: request.into(), reason, seen }
    }
}
