//! [`Outcome`]: what comes of a request, for people and for programs, and its form on a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was asked for, for people and for programs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// For people; may be empty.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Answer {
    /// From something that serialises, with its text.
    #[must_use]
    pub fn new(text: impl Into<String>, value: &impl Serialize) -> Self {
        // Only maps with keys that are not texts fail, which no answer has.
        Self { text: text.into(), json: serde_json::to_value(value).unwrap_or_default() }
    }
}

/// What kind of failure it is: what a program can do about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Why {
    /// It cannot be read: write something else.
    Malformed,
    /// It is not for this caller, however it is written.
    Forbidden,
    /// What it names is not there.
    Missing,
    /// It is understood and against the rules: it will be refused again.
    Refused,
    /// It does not fit how things stand: look, and ask again.
    #[default]
    Conflict,
    /// A share is used up: give something back first.
    Exhausted,
    /// Too much waits already, or the daemon is about to end: ask later.
    Busy,
}

/// Why something was not done, and what to do instead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// For programs; null when the text says it all.
    pub json: Value,
    /// Its kind.
    #[serde(skip)]
    pub why: Why,
}

impl Failure {
    /// For people and programs.
    #[must_use]
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, why: Why::default() }
    }

    /// Of a kind.
    #[must_use]
    pub fn of(why: Why, text: impl Into<String>) -> Self {
        Self { why, ..Self::new(text, Value::Null) }
    }

    /// It cannot be read.
    #[must_use]
    pub fn malformed(text: impl Into<String>) -> Self {
        Self::of(Why::Malformed, text)
    }

    /// Not for this caller.
    #[must_use]
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::of(Why::Forbidden, text)
    }
}

impl<T: Into<String>> From<T> for Failure {
    fn from(text: T) -> Self {
        Self::new(text, Value::Null)
    }
}

/// The outcome of a request.
pub type Outcome = Result<Answer, Failure>;

/// An outcome as it stands on a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// For people: the answer, or what went wrong and what to do instead.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(Answer { text, json }) => Self { ok: true, text, json },
            Err(Failure { text, json, .. }) => Self { ok: false, text, json },
        }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        if reply.ok {
            Ok(Answer { text: reply.text, json: reply.json })
        } else {
            Err(Failure::new(reply.text, reply.json))
        }
    }
}

/// Columns as text, each as wide as its widest cell.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}
