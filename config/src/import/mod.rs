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
        let (parts, errors) = self.set_each(section, path, values);
        let left_out = format!("left out: {}", errors.join("; "));
        if errors.len() == parts {
            return self.report(option, Fate::NoEqual, left_out);
        }
        let fate = if errors.is_empty() { fate } else { Fate::Changed };
        let notes = [note, if errors.is_empty() { "" } else { &left_out }].map(str::to_owned);
        let notes: Vec<String> = notes.into_iter().filter(|n| !n.is_empty()).collect();
        let note = if notes.is_empty() { target } else { format!("{target}: {}", notes.join("; ")) };
        self.report(option, fate, note);
    }

    /// Writes a key that comes from somewhere else in the source, where it has been reported; what does not fit is reported here.
    pub(crate) fn take_over(&mut self, section: Section, path: &[&str], values: &[String]) {
        let key = [&[section.name()], path].concat().join(".");
        for error in self.set_each(section, path, values).1 {
            let option = Option { source: "(the result)".to_owned(), key: key.clone(), values: Vec::new() };
            self.report(&option, Fate::NoEqual, format!("left out: {error}"));
        }
    }

    /// Writes a key, a list entry by entry: a bad one does not take the others with it. In how many parts, and what did not fit.
    fn set_each(&mut self, section: Section, path: &[&str], values: &[String]) -> (usize, Vec<String>) {
        let parts: Vec<&[String]> =
            if values.len() > 1 && is_list_key(section, path) { values.chunks(1).collect() } else { vec![values] };
        (parts.len(), parts.into_iter().filter_map(|part| self.set(section, path, part).err()).collect())
    }

    /// Whether a key is written.
    pub(crate) fn has(&self, section: Section, path: &[&str]) -> bool {
        let mut item = self.document.get(section.name());
        for name in path {
            item = item.and_then(|i| i.get(name));
        }
        item.is_some()
    }

    /// The finished configuration: whatever does not pass the check is left out and said so; of a list, the entries at fault.
    pub(crate) fn finish(mut self, header: &str) -> Imported {
        for _ in 0..1000 {
            let Err(problems) = crate::check(&self.document.to_string()) else { break };
            let before = self.document.to_string();
            for problem in &problems {
                if !self.thin_out(&problem.key) {
                    self.leave_out(&problem.key, &problem.text);
                }
            }
            if self.document.to_string() == before {
                break;
            }
        }
        let text = format!("{header}\n{}", self.document);
        Imported { text, report: self.report }
    }

    /// Takes out of a list the entries that do not pass the check and reports them; false if it is no list, or none would be left.
    fn thin_out(&mut self, path: &str) -> bool {
        let words: Vec<&str> = path.split('.').collect();
        let Some(list) = self.item(&words).and_then(|item| item.as_array()).cloned().filter(|list| list.len() > 1)
        else {
            return false;
        };
        let problem_with = |entries: &[toml_edit::Value]| {
            let mut tried = Self { document: self.document.clone(), report: Vec::new() };
            if let Some(item) = tried.item(&words) {
                *item = toml_edit::Item::Value(entries.iter().cloned().collect::<toml_edit::Array>().into());
            }
            let problems = crate::check(&tried.document.to_string()).err().unwrap_or_default();
            problems.into_iter().find(|p| p.key == path).map(|p| p.text)
        };
        let (mut kept, mut left_out): (Vec<toml_edit::Value>, Vec<(toml_edit::Value, String)>) =
            (Vec::new(), Vec::new());
        // Halves that pass are taken whole: few bad entries among many cost few checks.
        let mut parts: Vec<Vec<toml_edit::Value>> = vec![list.iter().cloned().collect()];
        while let Some(mut part) = parts.pop() {
            let with = [kept.clone(), part.clone()].concat();
            match (problem_with(&with), part.len()) {
                (None, _) => kept = with,
                (Some(why), 1) => left_out.extend(part.pop().map(|entry| (entry, why))),
                (Some(_), len) => {
                    parts.push(part.split_off(len / 2));
                    parts.push(part);
                }
            }
        }
        if kept.is_empty() || left_out.is_empty() {
            return false;
        }
        if let Some(item) = self.item(&words) {
            *item = toml_edit::Item::Value(kept.into_iter().collect::<toml_edit::Array>().into());
        }
        for (entry, why) in left_out {
            let text = entry.as_str().map_or_else(|| entry.to_string().trim().to_owned(), str::to_owned);
            let note = format!("left out of {path}: {why}");
            let same = |line: &&mut Line| {
                line.value == text && (line.note == path || line.note.starts_with(&format!("{path}:")))
            };
            match self.report.iter_mut().find(same) {
                Some(line) => (line.fate, line.note) = (Fate::NoEqual, note),
                None => {
                    let (source, key) = ("(the result)".to_owned(), path.to_owned());
                    self.report.push(Line { source, key, value: text, fate: Fate::NoEqual, note });
                }
            }
        }
        true
    }

    fn item(&mut self, words: &[&str]) -> std::option::Option<&mut toml_edit::Item> {
        let (last, tables) = words.split_last()?;
        let mut table = self.document.as_table_mut();
        for name in tables {
            table = table.get_mut(name)?.as_table_mut()?;
        }
        table.get_mut(last)
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

/// Whether the last word of a path is a key that holds a list.
fn is_list_key(section: Section, path: &[&str]) -> bool {
    let key = path.last().and_then(|name| crate::schema::find(section, name));
    key.is_some_and(|key| key.kind.is_list())
}
