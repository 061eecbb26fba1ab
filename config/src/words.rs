//! The words of `set` and `delete` as changes of the file's text; comments and order stay as the operator wrote them.
//!
//! ```text
//! set main ban_time 300             -> [main]            ban_time = 300
//! set hostgroup web networks 10.0.0.0/24  (again: the list grows)
//! delete main ban_time              -> the key goes, so its default holds
//! ```
//! The same code serves the daemon's candidate and the editing of a file while no daemon runs.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml_edit::{Array, DocumentMut, Item, Table};

use crate::check::unknown_key;
use crate::schema::{self, Key, Section};
use crate::secrets::is_secret;
use crate::value::Value;

/// Values of a list at most.
pub const MAX_LIST: usize = 100_000;

/// `set` or `delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// `set`
    Set,
    /// `delete`
    Delete,
}

/// One change of a configuration, as words say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What to do.
    pub verb: Verb,
    /// `main`, `hostgroup`, ...
    pub section: String,
    /// Name of the host group or peer; empty for sections without names.
    pub instance: String,
    /// The key; empty for the whole host group or peer.
    pub key: String,
    /// The values as typed.
    pub values: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verb {
            Verb::Set => "set",
            Verb::Delete => "delete",
        })?;
        let is_secret = is_secret(&self.key);
        for word in [&self.section, &self.instance, &self.key].into_iter().filter(|w| !w.is_empty()) {
            write!(f, " {word}")?;
        }
        for value in &self.values {
            match value {
                _ if is_secret => f.write_str(" ***")?,
                value if value.contains(char::is_whitespace) || value.is_empty() => write!(f, " '{value}'")?,
                value => write!(f, " {value}")?,
            }
        }
        Ok(())
    }
}

/// The section that a category of the command line means, if it is one of the file's.
#[must_use]
pub fn section(category: &str) -> Option<Section> {
    Section::ALL.into_iter().find(|s| s.name() == category)
}

impl Change {
    /// From the words behind `set` or `delete`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(verb: Verb, section: Section, words: &[String]) -> Result<Self, String> {
        let (instance, rest) = if section.is_named() {
            let (name, rest) = words
                .split_first()
                .ok_or_else(|| format!("name it: {} {} NAME KEY VALUE", verb_name(verb), section.name()))?;
            check_name(name)?;
            (name.clone(), rest)
        } else {
            (String::new(), words)
        };
        let (key, values) = match rest.split_first() {
            Some((key, values)) => (key.clone(), values.to_vec()),
            None if section.is_named() => (String::new(), Vec::new()),
            None => return Err(format!("which key? {} {} KEY VALUE", verb_name(verb), section.name())),
        };
        let change = Self { verb, section: section.name().to_owned(), instance, key, values };
        if !change.key.is_empty() {
            let key = change.find()?;
            if verb == Verb::Set {
                if change.values.is_empty() {
                    return Err(format!("{}: write a value behind it. {}", change.path(), key.meaning));
                }
                change.check_values(key)?;
            }
        }
        Ok(change)
    }

    /// The key's full name: `hostgroup.web.networks`.
    #[must_use]
    pub fn path(&self) -> String {
        [&self.section, &self.instance, &self.key]
            .into_iter()
            .filter(|w| !w.is_empty())
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(".")
    }

    fn find(&self) -> Result<&'static Key, String> {
        let section = section(&self.section).ok_or_else(|| format!("there is no section {:?}", self.section))?;
        let key = schema::find(section, &self.key);
        key.ok_or_else(|| format!("{}: {}", self.path(), unknown_key(section, &self.key)))
    }

    fn check_values(&self, key: &Key) -> Result<(), String> {
        if key.kind.is_list() {
            for value in &self.values {
                self.typed(key, value)?;
            }
        } else if let [value] = self.values.as_slice() {
            self.typed(key, value)?;
        } else {
            return Err(format!("{}: one value is expected, not {}", self.path(), self.values.len()));
        }
        Ok(())
    }

    /// A word as the TOML value that the key takes.
    fn typed(&self, key: &Key, word: &str) -> Result<toml_edit::Value, String> {
        let value = key.kind.spelt(word);
        let wrapped = if key.kind.is_list() {
            toml_edit::Value::Array([value.clone()].into_iter().collect())
        } else {
            value.clone()
        };
        match Value::of(&wrapped).and_then(|value| key.read(&value)) {
            Ok(_) => Ok(value),
            Err(text) => Err(format!("{}: {text}", self.path())),
        }
    }

    /// Changes a document; `false` if it says so already.
    ///
    /// # Errors
    /// There is nothing to delete, or the value does not fit; says what to write instead.
    pub fn apply(&self, document: &mut DocumentMut) -> Result<bool, String> {
        match (self.verb, self.key.is_empty()) {
            (Verb::Set, true) => Ok(table(document, self, true).1),
            (Verb::Set, false) => self.set(document),
            (Verb::Delete, true) => self.delete_instance(document),
            (Verb::Delete, false) => self.delete(document),
        }
    }

    fn set(&self, document: &mut DocumentMut) -> Result<bool, String> {
        let key = self.find()?;
        self.check_values(key)?;
        let mut changed = false;
        let (Some(table), _) = table(document, self, true) else {
            return Err(format!("{} is not a table in the file: write [{}]", self.section, self.section));
        };
        if key.kind.is_list() {
            let item = table.entry(&self.key).or_insert_with(|| Item::Value(Array::new().into()));
            if let Some(single) = item.as_value().filter(|v| !v.is_array()).cloned() {
                *item = Item::Value([single].into_iter().collect::<Array>().into());
            }
            let Some(array) = item.as_array_mut() else {
                return Err(format!("{} is not a list in the file", self.path()));
            };
            for word in &self.values {
                let value = self.typed(key, word)?;
                if array.iter().any(|old| is_same(old, &value)) {
                    continue;
                }
                if array.len() >= MAX_LIST {
                    return Err(format!("{}: a list has at most {MAX_LIST} values", self.path()));
                }
                push(array, value);
                changed = true;
            }
            return Ok(changed);
        }
        let mut value = self.typed(key, &self.values[0])?;
        match table.get_mut(&self.key).and_then(Item::as_value_mut) {
            Some(old) if is_same(old, &value) => {}
            Some(old) => {
                // Whatever stands behind the value on its line stays there.
                *value.decor_mut() = old.decor().clone();
                *old = value;
                changed = true;
            }
            None => {
                table.insert(&self.key, Item::Value(value));
                changed = true;
            }
        }
        Ok(changed)
    }

    fn delete(&self, document: &mut DocumentMut) -> Result<bool, String> {
        let key = self.find()?;
        let absent = || format!("{} is not set: its default holds already", self.path());
        let table = table(document, self, false).0.ok_or_else(absent)?;
        let item = table.get_mut(&self.key).ok_or_else(absent)?;
        if let (false, Some(array)) = (self.values.is_empty(), item.as_array_mut()) {
            for word in &self.values {
                let value = self.typed(key, word)?;
                let at = array
                    .iter()
                    .position(|old| is_same(old, &value))
                    .ok_or_else(|| format!("{}: {word} is not in the list", self.path()))?;
                array.remove(at);
            }
            if array.is_empty() {
                table.remove(&self.key);
            }
            return Ok(true);
        }
        if let [word] = self.values.as_slice() {
            let value = self.typed(key, word)?;
            if !item.as_value().is_some_and(|old| is_same(old, &value)) {
                return Err(format!("{} is not {word}; without the value, delete removes whatever it is", self.path()));
            }
        } else if !self.values.is_empty() {
            return Err(format!("{}: one value is expected, not {}", self.path(), self.values.len()));
        }
        table.remove(&self.key);
        Ok(true)
    }

    fn delete_instance(&self, document: &mut DocumentMut) -> Result<bool, String> {
        let absent = || format!("there is no {} {:?}", self.section, self.instance);
        let section = document.get_mut(&self.section).and_then(Item::as_table_mut).ok_or_else(absent)?;
        section.remove(&self.instance).ok_or_else(absent)?;
        Ok(true)
    }
}

const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Set => "set",
        Verb::Delete => "delete",
    }
}

/// Names of host groups and peers, as FastNetMon has them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_good) {
        return Err(format!("{name:?} is not a name: write up to 64 letters, digits, - and _"));
    }
    Ok(())
}

/// Whether two values mean the same, however they are spelt.
fn is_same(old: &toml_edit::Value, new: &toml_edit::Value) -> bool {
    let plain = |v: &toml_edit::Value| match Value::of(v) {
        Ok(Value::Text(text)) => Some(text),
        Ok(Value::Number(number)) => Some(number.to_string()),
        Ok(Value::Bool(switch)) => Some(switch.to_string()),
        Ok(Value::List(_)) | Err(_) => None,
    };
    let (Some(old), Some(new)) = (plain(old), plain(new)) else { return false };
    let prefix = |text: &str| text.parse::<traffic::Prefix>().ok();
    old == new || prefix(&old).is_some_and(|p| prefix(&new) == Some(p))
}

/// Adds to a list in the way it is written: on a line of its own if the others are.
fn push(array: &mut Array, mut value: toml_edit::Value) {
    let model = array.iter().last().and_then(|last| last.decor().prefix()?.as_str().map(str::to_owned));
    match model {
        Some(prefix) if prefix.contains('\n') => {
            let indent = prefix.rsplit('\n').next().unwrap_or("");
            value.decor_mut().set_prefix(format!("\n{indent}"));
            array.push_formatted(value);
        }
        _ => array.push(value),
    }
}

/// The table that a change is about, made if `make` says so; and whether it was made.
fn table<'a>(document: &'a mut DocumentMut, change: &Change, make: bool) -> (Option<&'a mut Table>, bool) {
    let mut made = false;
    let mut current = document.as_table_mut();
    let path: Vec<&str> =
        [change.section.as_str(), change.instance.as_str()].into_iter().filter(|n| !n.is_empty()).collect();
    for (depth, name) in path.iter().enumerate() {
        if !current.contains_key(name) {
            if !make {
                return (None, false);
            }
            let mut new = Table::new();
            new.set_implicit(depth + 1 < path.len());
            // A blank line in front, unless the file is empty.
            if !current.is_empty() || depth > 0 {
                new.decor_mut().set_prefix("\n");
            }
            current.insert(name, Item::Table(new));
            made = true;
        }
        match current.get_mut(name).and_then(Item::as_table_mut) {
            Some(next) => current = next,
            None => return (None, false),
        }
    }
    (Some(current), made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn change(text: &str) -> Result<Change, String> {
        let words = words(text);
        let verb = if words[0] == "set" { Verb::Set } else { Verb::Delete };
        Change::parse(verb, section(&words[1]).expect("a section"), &words[2..])
    }

    fn edit(text: &str, changes: &[&str]) -> String {
        let mut document: DocumentMut = text.parse().expect("TOML");
        for words in changes {
            change(words).and_then(|c| c.apply(&mut document)).unwrap_or_else(|e| panic!("{words}: {e}"));
        }
        document.to_string()
    }

    const FILE: &str = "# our edge\n[main]\n# agreed with the NOC\nban_time = 1900 # seconds\nnetworks_list = [\n    # customers\n    \
                        \"203.0.113.0/24\",\n]\n\n# web shop\n[hostgroup.web]\nnetworks = [\"203.0.113.0/28\"]\n";

    #[test]
    fn comments_and_order_survive_edits() {
        let changes = [
            "set main ban_time 300",
            "set main networks_list 198.51.100.0/24",
            "set hostgroup web threshold_pps 5000",
            "set hostgroup db networks 198.51.100.0/28",
        ];
        let after = edit(FILE, &changes);
        let expected = "# our edge\n[main]\n# agreed with the NOC\nban_time = 300 # seconds\nnetworks_list = [\n    # customers\n    \
                        \"203.0.113.0/24\",\n    \"198.51.100.0/24\",\n]\n\n# web shop\n[hostgroup.web]\nnetworks = [\"203.0.113.0/28\"]\n\
                        threshold_pps = 5000\n\n[hostgroup.db]\nnetworks = [\"198.51.100.0/28\"]\n";
        assert_eq!(after, expected);
        let undone = [
            "set main ban_time 1900",
            "delete main networks_list 198.51.100.0/24",
            "delete hostgroup web threshold_pps",
            "delete hostgroup db",
        ];
        assert_eq!(edit(&after, &undone), FILE);
    }

    #[test]
    fn the_words_of_fastnetmon_become_values_of_the_right_type() {
        let changes = [
            "set bgp connection_to_my_router ipv4_flowspec enable",
            "set bgp connection_to_my_router local_asn 65001",
            "set main gobgp_flow_spec_announces disable",
            "set main logging_level debug",
            "set main netflow_ports 2055 2056",
            "set main netflow_ports 9995",
        ];
        let text = edit("", &changes);
        for line in [
            "[bgp.connection_to_my_router]",
            "ipv4_flowspec = true",
            "local_asn = 65001",
            "gobgp_flow_spec_announces = false",
            "logging_level = \"debug\"",
            "netflow_ports = [2055, 2056, 9995]",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn wrong_words_are_refused_with_advice() {
        for (words, part) in [
            ("set main ban_tim 3", "did you mean ban_time?"),
            ("set main ban_time", "write a value"),
            ("set main ban_time soon", "whole number from 1"),
            ("set main ban_time 3 4", "one value is expected"),
            ("set main networks_list 203.0.113.7/24", "write 203.0.113.0/24"),
            ("set main enable_ban perhaps", "true or false"),
            ("set main", "which key?"),
            ("set bgp", "name it"),
            ("set bgp my/router active enable", "is not a name"),
        ] {
            let error = change(words).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
        let mut document: DocumentMut = FILE.parse().expect("TOML");
        for (words, part) in [
            ("delete main enable_ban", "is not set"),
            ("delete main ban_time 7", "is not 7"),
            ("delete hostgroup db", "there is no hostgroup"),
            ("delete main networks_list 192.0.2.0/24", "not in the list"),
        ] {
            let error = change(words).expect("parses").apply(&mut document).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
        assert_eq!(change("set main ban_time 1900").expect("parses").apply(&mut document), Ok(false), "no change");
    }
}
