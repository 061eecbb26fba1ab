//! Problems of a file, each with the line of the key that it is about.

use std::collections::BTreeMap;
use std::fmt;

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Line in the file, from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// The key, such as `hostgroup.web.networks`; empty for syntax.
    pub key: String,
    /// What is wrong and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.key.is_empty()) {
            (0, true) => f.write_str(&self.text),
            (0, false) => write!(f, "{}: {}", self.key, self.text),
            (line, true) => write!(f, "line {line}: {}", self.text),
            (line, false) => write!(f, "line {line}: {}: {}", self.key, self.text),
        }
    }
}

/// Collects problems with the lines of the keys they are about.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Problem>,
    /// Of every section and key that is written.
    pub(crate) lines: BTreeMap<String, usize>,
}

impl Report {
    /// Whether the own networks are known: if their key is wrong, what depends on them is not worth a message.
    pub(crate) fn knows_networks(&self) -> bool {
        let is_section = |p: &Problem| !p.key.contains('.') && !p.key.is_empty();
        !self.problems.iter().any(|p| p.key == "main.networks_list" || is_section(p))
    }

    /// Whether something is wrong with a key already.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.problems.iter().any(|p| p.key == key)
    }

    pub(crate) fn add(&mut self, key: impl Into<String>, text: impl Into<String>) {
        let key = key.into();
        // A value that could not be read says nothing more.
        if self.has(&key) {
            return;
        }
        let line = self.lines.get(&key).or_else(|| self.lines.get(key.rsplit_once('.')?.0)).copied().unwrap_or(0);
        self.problems.push(Problem { line, key, text: text.into() });
    }
}
