//! `show main`, `show hostgroup NAME`, ...: what a section's keys are, written or by default.

use std::collections::BTreeMap;

use config::schema::{Key, Section, keys};
use operator::{Answer, Outcome, table};
use serde_json::{Map, Value, json};

/// Shows a section of the running configuration: its names, one name's keys, or one key.
pub(super) fn show(text: &str, category: &str, arguments: &[String]) -> Outcome {
    let section = config::words::section(category).ok_or_else(|| format!("there is no {category:?} to show"))?;
    let values = config::candidate::flatten(&config::secrets::hide(text));
    let mut arguments = arguments.iter().map(String::as_str);
    let mut path = category.to_owned();
    if section.is_named() {
        let names = names(&values, section);
        let Some(name) = arguments.next() else {
            let text = if names.is_empty() {
                format!("no {category}: set {category} NAME adds one")
            } else {
                names.join("\n")
            };
            return Ok(Answer::new(text, &names));
        };
        if !names.iter().any(|n| n == name) {
            return Err(format!("there is no {category} {name:?}; there are: {}", names.join(", ")).into());
        }
        path = format!("{category}.{name}");
    }
    let all = keys();
    let of_section: Vec<&Key> = all.iter().filter(|k| k.section == section).collect();
    let value = |key: &Key| effective(&values, section, &path, key);
    if let Some(name) = arguments.next() {
        let key =
            of_section.iter().find(|k| k.name == name).ok_or_else(|| format!("{category} has no key {name:?}"))?;
        let value = value(key);
        return Ok(Answer::new(
            value.clone().unwrap_or_else(|| "(not set)".to_owned()),
            &json!({ name: parsed(value) }),
        ));
    }
    let written = |key: &Key| values.contains_key(&format!("{path}.{}", key.name));
    let rows: Vec<Vec<String>> = of_section
        .iter()
        .map(|k| vec![k.name.clone(), value(k).unwrap_or_default(), if written(k) { "" } else { "default" }.to_owned()])
        .collect();
    let json: Map<String, Value> = of_section.iter().map(|k| (k.name.clone(), parsed(value(k)))).collect();
    Ok(Answer::new(table(&["KEY", "VALUE", ""], &rows), &json))
}

/// Host groups or peers that are written; `global` is always there.
pub(super) fn names(values: &BTreeMap<String, String>, section: Section) -> Vec<String> {
    let prefix = format!("{}.", section.name());
    let mut names: Vec<String> = values
        .keys()
        .filter_map(|k| k.strip_prefix(&prefix)?.split('.').next().map(str::to_owned))
        .chain((section == Section::HostGroup).then(|| "global".to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// A key's value as TOML: as written, else as inherited from `global`, else its default.
fn effective(values: &BTreeMap<String, String>, section: Section, path: &str, key: &Key) -> Option<String> {
    let is_own = matches!(key.name.as_str(), "networks" | "description");
    let inherited =
        || (section == Section::HostGroup && !is_own).then(|| values.get(&format!("hostgroup.global.{}", key.name)))?;
    values.get(&format!("{path}.{}", key.name)).or_else(inherited).cloned().or_else(|| key.default.clone())
}

/// TOML as JSON.
fn parsed(value: Option<String>) -> Value {
    let Some(Ok(value)) = value.map(|v| v.parse::<toml_edit::Value>()) else { return Value::Null };
    to_json(&value)
}

fn to_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::Boolean(b) => json!(b.value()),
        toml_edit::Value::Integer(n) => json!(n.value()),
        toml_edit::Value::String(s) => json!(s.value()),
        toml_edit::Value::Float(f) => json!(f.value()),
        toml_edit::Value::Array(a) => a.iter().map(to_json).collect(),
        toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_) => json!(value.to_string()),
    }
}
