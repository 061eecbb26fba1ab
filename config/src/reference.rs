//! The table of keys for people, as `reference.toml`, and for programs, as JSON.

use serde::Serialize;

use crate::kind::Kind;
use crate::schema::{Key, Needs, Section, keys};

/// The reference file: every key with default, range, unit, choices and meaning.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of Floodwall's configuration with its default. An empty file is valid: only the loopback HTTP listens,\n\
         # nothing is collected, nothing is announced. Host groups inherit what they leave out from `global`.\n",
    );
    for section in Section::ALL {
        let header = match section {
            Section::HostGroup => "hostgroup.global".to_owned(),
            Section::TrafficRule => "traffic_rule.rule1".to_owned(),
            Section::Whitelist => "whitelist.entry1".to_owned(),
            Section::Bgp => "bgp.router1".to_owned(),
            Section::Notify => "notify.noc".to_owned(),
            Section::EnforcerPeer => "enforcer_peer.detector".to_owned(),
            Section::Main | Section::Api | Section::State | Section::Enforcer => section.name().to_owned(),
        };
        // What only exists when it is named stands as a comment.
        let is_optional = section == Section::Enforcer || section.is_named() && section != Section::HostGroup;
        let comment = if is_optional { "# " } else { "" };
        text.push_str(&format!("\n{comment}[{header}]\n"));
        for key in keys().iter().filter(|k| k.section == section) {
            text.push_str(&format!("# {}\n", key.meaning));
            if !is_plain(key) {
                text.push_str(&format!("# takes {}\n", key.kind.takes()));
            }
            match &key.default {
                Some(default) => text.push_str(&format!("{comment}{} = {default}\n", key.name)),
                None => text.push_str(&format!("# {} =\n", key.name)),
            }
        }
    }
    text
}

/// Whether its default shows already what a key takes.
fn is_plain(key: &Key) -> bool {
    key.default.is_some() && matches!(key.kind, Kind::Switch | Kind::Text)
}

/// A section for programs.
#[derive(Debug, Serialize)]
pub struct SectionEntry {
    /// As in the file.
    section: &'static str,
    /// Whether it has one table per name.
    named: bool,
    /// In the order of the reference.
    keys: Vec<KeyEntry>,
}

/// A key for programs.
#[derive(Debug, Serialize)]
struct KeyEntry {
    name: &'static str,
    /// `kind` with `low`, `high`, `unit`, `choices` and so on; of a list, `of` is what each of its values is.
    #[serde(flatten)]
    kind: &'static Kind,
    /// What it takes, in words.
    takes: String,
    list: bool,
    /// Not shown.
    secret: bool,
    /// `null` when absence has a meaning of its own.
    default: Option<serde_json::Value>,
    meaning: &'static str,
    /// Who may set it.
    scope: Needs,
}

/// Every section with its keys.
#[must_use]
pub fn entries() -> Vec<SectionEntry> {
    let entry = |key: &'static Key| KeyEntry {
        name: &key.name,
        kind: &key.kind,
        takes: key.kind.takes(),
        list: key.kind.is_list(),
        secret: key.kind.is_secret(),
        default: key.default.as_deref().and_then(json),
        meaning: &key.meaning,
        scope: key.needs,
    };
    let keys_of = |section: Section| keys().iter().filter(|key| key.section == section).map(entry).collect();
    Section::ALL
        .map(|section| SectionEntry { section: section.name(), named: section.is_named(), keys: keys_of(section) })
        .into()
}

/// A default as JSON: switches, whole numbers, texts and lists of them.
fn json(default: &str) -> Option<serde_json::Value> {
    let value: toml_edit::Value = default.parse().ok()?;
    plain(&value)
}

fn plain(value: &toml_edit::Value) -> Option<serde_json::Value> {
    if let Some(array) = value.as_array() {
        return Some(array.iter().filter_map(plain).collect());
    }
    let switch = value.as_bool().map(serde_json::Value::from);
    switch.or_else(|| value.as_integer().map(Into::into)).or_else(|| value.as_str().map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_unit_and_choice_stands_above_its_key() {
        let text = reference();
        let mut found = 0;
        for key in keys() {
            let value = key.default.as_ref().map_or_else(String::new, |default| format!(" {default}"));
            let line = format!("{} ={value}", key.name);
            let is_of = |pair: &&[&str]| pair[1].trim_start_matches("# ") == line;
            let lines: Vec<&str> = text.lines().collect();
            let above: Vec<&str> = lines.windows(2).filter(is_of).map(|pair| pair[0]).collect();
            assert!(!above.is_empty(), "{key:?} stands in the reference");
            let wanted: Vec<String> = if let Kind::Number { low, high, unit } = &key.kind {
                let unit = unit.map_or(String::new(), |unit| format!(" {}", unit.name()));
                vec![format!("{low} to {high}{unit}")]
            } else if key.kind == Kind::Switch {
                Vec::new()
            } else {
                key.kind.choices().iter().map(|choice| format!("{choice:?}")).collect()
            };
            found += wanted.len();
            let says = |line: &&str| line.starts_with("# takes ") && wanted.iter().all(|w| line.contains(w.as_str()));
            assert!(wanted.is_empty() || above.iter().any(says), "{key:?}: {wanted:?} in {above:?}");
        }
        assert!(found > 150, "{found} ranges and choices");
    }

    #[test]
    fn programs_are_told_of_every_key_what_it_takes() {
        let all = serde_json::to_value(entries()).expect("JSON");
        let find = |section: &str, name: &str| {
            let section = all.as_array().expect("a list").iter().find(|s| s["section"] == section).expect("a section");
            section["keys"].as_array().expect("a list").iter().find(|k| k["name"] == name).expect("a key").clone()
        };
        let ban_time = find("main", "ban_time");
        assert_eq!((&ban_time["kind"], &ban_time["unit"]), (&"number".into(), &"seconds".into()), "{ban_time}");
        assert_eq!(
            (&ban_time["low"], &ban_time["high"], &ban_time["default"]),
            (&1.into(), &31_536_000.into(), &1900.into())
        );
        let ports = find("main", "netflow_ports");
        assert_eq!((&ports["kind"], &ports["of"]["kind"]), (&"list".into(), &"number".into()), "{ports}");
        assert_eq!(ports["default"], serde_json::json!([2055]));
        let ladder = find("hostgroup", "mitigation_ladder");
        assert_eq!((&ladder["of"]["choices"][0], &ladder["default"]), (&"rate-limit".into(), &serde_json::Value::Null));
        let password = find("bgp", "md5_auth_password");
        assert_eq!((&password["secret"], &password["scope"]), (&true.into(), &"admin".into()), "{password}");
        let count: usize =
            all.as_array().expect("a list").iter().map(|s| s["keys"].as_array().map_or(0, Vec::len)).sum();
        assert_eq!(count, keys().len());
    }
}
