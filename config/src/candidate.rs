//! [`Candidate`]: edits on the way to a commit, and what sets two configurations apart.

use std::collections::BTreeMap;

use serde::Serialize;
use toml_edit::{DocumentMut, Item, Table};

use crate::secrets;
use crate::words::Change;

/// Edits of one operator, not yet in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Revision it began from.
    pub base: u64,
    /// Text of that revision.
    base_text: String,
    /// Its text now.
    text: String,
    /// What was edited, in order; empty after [`Candidate::load`].
    changes: Vec<Change>,
    /// Counts edits, so that whoever looked at an older state is told.
    pub edits: u64,
}

/// Edits of one candidate at most.
pub const MAX_CHANGES: usize = 100_000;

/// A key whose value two configurations do not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `main.ban_time`.
    pub key: String,
    /// What it was; `None` if it was not written.
    pub old: Option<String>,
    /// What it is; `None` if it is not written.
    pub new: Option<String>,
}

impl Candidate {
    /// From what runs.
    #[must_use]
    pub fn new(base: u64, text: &str) -> Self {
        Self { base, base_text: text.to_owned(), text: text.to_owned(), changes: Vec::new(), edits: 0 }
    }

    /// From what runs, in place of one that had been edited as often.
    #[must_use]
    pub fn after(edits: u64, base: u64, text: &str) -> Self {
        Self { edits, ..Self::new(base, text) }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was edited, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether it says anything else than what it began from.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.text != self.base_text
    }

    /// Makes an edit; `false` if nothing changed by it.
    ///
    /// # Errors
    /// What to write instead.
    pub fn edit(&mut self, change: Change) -> Result<bool, String> {
        if self.changes.len() >= MAX_CHANGES {
            return Err(format!("a candidate has at most {MAX_CHANGES} edits: commit, or rollback 0"));
        }
        let mut document: DocumentMut = self
            .text
            .parse()
            .map_err(|e: toml_edit::TomlError| format!("the configuration is not TOML: {}", e.message()))?;
        let changed = change.apply(&mut document)?;
        if changed {
            self.text = document.to_string();
            self.changes.push(change);
            self.edits += 1;
        }
        Ok(changed)
    }

    /// Puts another text in place of all edits.
    pub fn load(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.changes.clear();
        self.edits += 1;
    }

    /// Puts the edits on top of what runs now. Returns keys that were changed there as well since: now they are as edited here.
    ///
    /// # Errors
    /// An edit that no longer fits, or a text that was loaded as a whole.
    pub fn rebase(&mut self, base: u64, text: &str) -> Result<Vec<Difference>, String> {
        if self.changes.is_empty() && self.is_changed() {
            return Err("this candidate was loaded as a whole: rollback 0 drops it".to_owned());
        }
        let mut rebased = Self::new(base, text);
        for change in self.changes.clone() {
            rebased.edit(change.clone()).map_err(|error| format!("{change}: {error}"))?;
        }
        let theirs = differences(&self.base_text, text);
        let both = theirs.into_iter().filter(|d| self.changes.iter().any(|c| touches(&c.path(), &d.key))).collect();
        rebased.edits = self.edits + 1;
        *self = rebased;
        Ok(both)
    }
}

/// Whether one path is the other, or holds it.
fn touches(a: &str, b: &str) -> bool {
    let inside = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    a == b || inside(a, b) || inside(b, a)
}

/// Every key that two texts do not share, by name, secrets hidden. Texts that are not TOML have no keys.
#[must_use]
pub fn differences(old: &str, new: &str) -> Vec<Difference> {
    let (shown_old, shown_new) = (flatten(&secrets::hide(old)), flatten(&secrets::hide(new)));
    let (old, new) = (flatten(old), flatten(new));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    keys.into_iter()
        .filter(differs)
        .map(|key| Difference { key: key.clone(), old: shown_old.get(key).cloned(), new: shown_new.get(key).cloned() })
        .collect()
}

/// The values that a text writes, by full name, as TOML spells them on one line.
#[must_use]
pub fn flatten(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Ok(document) = text.parse::<DocumentMut>() {
        walk("", document.as_table(), &mut all);
    }
    all
}

fn walk(path: &str, table: &Table, all: &mut BTreeMap<String, String>) {
    for (name, item) in table {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match item {
            Item::Table(inner) => {
                if inner.is_empty() {
                    all.insert(path.clone(), "{}".to_owned());
                }
                walk(&path, inner, all);
            }
            Item::Value(value) => {
                all.insert(path, plain(value));
            }
            Item::ArrayOfTables(_) | Item::None => {}
        }
    }
}

/// A value on one line, without comments.
fn plain(value: &toml_edit::Value) -> String {
    match value.as_array() {
        Some(array) => format!("[{}]", array.iter().map(plain).collect::<Vec<_>>().join(", ")),
        None => {
            let mut value = value.clone();
            value.decor_mut().clear();
            value.to_string().trim().to_owned()
        }
    }
}

/// A diff of two texts with three lines around each change; empty if they are equal. Secrets are hidden.
#[must_use]
pub fn compare(old: &str, new: &str) -> String {
    let (old, new) = (secrets::hide(old), secrets::hide(new));
    similar::TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(3)
        .header("running", "candidate")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Verb, section};

    fn change(text: &str) -> Change {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Change::parse(Verb::Set, section(&words[0]).expect("a section"), &words[1..]).expect("right")
    }

    const FILE: &str = "[main]\n# one hour\nban_time = 3600\n\n[bgp.r]\nlocal_asn = 65001\n";

    #[test]
    fn differences_name_keys_and_the_diff_keeps_secrets() {
        let mut candidate = Candidate::new(1, FILE);
        assert!(!candidate.is_changed());
        assert_eq!(candidate.edit(change("main ban_time 60")), Ok(true));
        assert_eq!(candidate.edit(change("main ban_time 60")), Ok(false));
        let expected = [Difference { key: "main.ban_time".into(), old: Some("3600".into()), new: Some("60".into()) }];
        assert_eq!(differences(FILE, candidate.text()), expected);
        let diff = compare(FILE, candidate.text());
        assert!(diff.contains("-ban_time = 3600\n+ban_time = 60\n"), "{diff}");
        assert_eq!(compare(FILE, FILE), "");
        let secret = format!("{FILE}md5_auth_password = \"hunter2\"\n");
        assert!(!compare(FILE, &secret).contains("hunter2"));
        assert!(!format!("{:?}", differences(FILE, &secret)).contains("hunter2"));
    }

    #[test]
    fn edits_move_onto_what_others_committed_and_say_where_both_wrote() {
        let mut mine = Candidate::new(1, FILE);
        mine.edit(change("main ban_time 60")).expect("fits");
        mine.edit(change("main max_rules 9")).expect("fits");
        let theirs = FILE.replace("3600", "7200").replace("65001", "65009");
        let both = mine.rebase(2, &theirs).expect("fits");
        assert_eq!(both.len(), 1);
        assert_eq!((both[0].key.as_str(), both[0].new.as_deref()), ("main.ban_time", Some("7200")));
        assert!(mine.text().contains("ban_time = 60\n") && mine.text().contains("65009"), "{}", mine.text());
        assert_eq!(mine.base, 2);
        mine.load(FILE);
        assert!(mine.rebase(3, &theirs).is_err());
    }
}
