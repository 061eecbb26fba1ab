//! Configurations of other programs as ours: a TOML, and a report of what became of every key.
//!
//! What is imported starts alert-only: every host group gets `enable_ban = false`, whatever the source says. The result always
//! passes [`crate::check()`]: what would contradict itself is left out and reported.

pub mod ban2bgp;
pub mod fastnetmon;
mod meaning;

use serde::Serialize;
use toml_edit::DocumentMut;

use crate::schema::Section;
use crate::words::{Change, Verb};

pub use meaning::advice;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It means the same here.
    Mapped,
    /// It is here under another name or means something else; the note says what.
    Changed,
    /// It was off or at rest, so that leaving it out means the same.
    NotNeeded,
    /// There is no equal; the note says what to use.
    NoEqual,
}

impl Fate {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Changed => "changed",
            Self::NotNeeded => "not needed",
            Self::NoEqual => "no equal",
        }
    }
}

/// One key of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it stood: `fastnetmon.conf:12`.
    pub source: String,
    /// The key.
    pub key: String,
    /// Its value as written; secrets are hidden.
    pub value: String,
    /// What became of it.
    pub fate: Fate,
    /// Where it went, or what to do instead.
    pub note: String,
}

/// What an import gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The configuration; it is valid.
    pub text: String,
    /// Every key of the source, in its order.
    pub report: Vec<Line>,
}

/// A key of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Option {
    pub(crate) source: String,
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

impl Option {
    pub(crate) fn value(&self) -> String {
        self.values.join(",")
    }

    pub(crate) fn is_on(&self) -> bool {
        matches!(self.values.first().map(String::as_str), Some("on" | "enable" | "true"))
    }
}

/// Builds the configuration and the report together.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    document: DocumentMut,
    report: Vec<Line>,
}

impl Builder {
    /// Reports what became of an option.
    pub(crate) fn report(&mut self, option: &Option, fate: Fate, note: impl Into<String>) {
        let hidden = crate::secrets::is_secret(&option.key);
        let value = if hidden && !option.value().is_empty() { "***".to_owned() } else { option.value() };
        let (source, key, note) = (option.source.clone(), option.key.clone(), note.into());
        self.report.push(Line { source, key, value, fate, note });
    }

    /// Writes a key; says why it does not fit.
    pub(crate) fn set(&mut self, section: Section, path: &[&str], values: &[String]) -> Result<(), String> {
        let words: Vec<String> = path.iter().map(|w| (*w).to_owned()).chain(values.iter().cloned()).collect();
        Change::parse(Verb::Set, section, &words)?.apply(&mut self.document).map(drop)
    }

    /// Writes a key for an option and reports it.
    pub(crate) fn map(
        &mut self,
        option: &Option,
        section: Section,
        path: &[&str],
        values: &[String],
        fate: Fate,
        note: &str,
    ) {
        let target = [&[section.name()], path].concat().join(".");
        match self.set(section, path, values) {
            Ok(()) if note.is_empty() => self.report(option, fate, target),
            Ok(()) => self.report(option, fate, format!("{target}: {note}")),
            Err(error) => self.report(option, Fate::NoEqual, format!("left out: {error}")),
        }
    }

    /// Whether a key is written.
    pub(crate) fn has(&self, section: Section, path: &[&str]) -> bool {
        let mut item = self.document.get(section.name());
        for name in path {
            item = item.and_then(|i| i.get(name));
        }
        item.is_some()
    }

    /// The finished configuration: whatever does not pass the check is left out and said so.
    pub(crate) fn finish(mut self, header: &str) -> Imported {
        for _ in 0..1000 {
            let Err(problems) = crate::check(&self.document.to_string()) else { break };
            let before = self.document.to_string();
            for problem in &problems {
                self.leave_out(&problem.key, &problem.text);
            }
            if self.document.to_string() == before {
                break;
            }
        }
        let text = format!("{header}\n{}", self.document);
        Imported { text, report: self.report }
    }

    /// Removes a key; its line in the report says why.
    fn leave_out(&mut self, path: &str, why: &str) {
        let words: Vec<&str> = path.split('.').collect();
        let removed = match words[..] {
            [section, name, key] => {
                let table = self.document.get_mut(section).and_then(|s| s.get_mut(name)).and_then(|t| t.as_table_mut());
                // A key that is missing makes the whole table useless.
                match table.map(|table| table.remove(key).is_some()) {
                    Some(true) => true,
                    Some(false) => {
                        self.document.get_mut(section).and_then(|s| s.as_table_mut()?.remove(name)).is_some()
                    }
                    None => false,
                }
            }
            [section, key] => self.document.get_mut(section).and_then(|s| s.as_table_mut()?.remove(key)).is_some(),
            _ => self.document.remove(path).is_some(),
        };
        if !removed {
            return;
        }
        let belongs = |line: &&mut Line| line.note == path || line.note.starts_with(&format!("{path}:"));
        let mut found = false;
        for line in self.report.iter_mut().filter(belongs) {
            (line.fate, line.note) = (Fate::NoEqual, format!("left out of {path}: {why}"));
            found = true;
        }
        if !found {
            let (source, key, note) = ("(the result)".to_owned(), path.to_owned(), format!("left out: {why}"));
            self.report.push(Line { source, key, value: String::new(), fate: Fate::NoEqual, note });
        }
    }
}
