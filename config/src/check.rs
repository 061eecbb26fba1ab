//! The file as text to a [`Config`], or every problem in it at once: line, key, and what to write instead.

use toml_edit::{Document, Item, Table};
use traffic::{Direction, Networks};

use crate::Config;
pub use crate::report::Problem;
use crate::report::Report;
use crate::schema::{self, Draft, Section, keys};
use crate::value::Value;

/// Reads and checks a file's text.
///
/// # Errors
/// Every problem, in the order of the file.
pub fn check(text: &str) -> Result<Config, Vec<Problem>> {
    let mut report = Report::default();
    let draft = parse(text, &mut report);
    let config = draft.map(|draft| compose(&draft, &mut report));
    report.problems.sort();
    report.problems.dedup();
    match config {
        Some(config) if report.problems.is_empty() => Ok(config),
        _ => Err(report.problems),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
}

fn parse(text: &str, report: &mut Report) -> Option<Draft> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let message = error.message().trim().replace('\n', "; ");
            report.problems.push(Problem { line, key: String::new(), text: format!("not TOML: {message}") });
            return None;
        }
    };
    let mut draft = Draft::new();
    for (name, item) in document.as_table() {
        let Some(section) = Section::ALL.into_iter().find(|s| s.name() == name) else {
            note_line(text, report, name, document.as_table(), name);
            let known = Section::ALL.map(|s| s.name().to_owned());
            report.add(name, unknown("section", name, &known));
            continue;
        };
        note_line(text, report, name, document.as_table(), name);
        let Item::Table(table) = item else {
            report.add(name, format!("write it as a table: [{name}]"));
            continue;
        };
        if !section.is_named() {
            apply_table(text, section, "", table, &mut draft, report);
            continue;
        }
        for (instance, item) in table {
            let path = format!("{name}.{instance}");
            note_line(text, report, &path, table, instance);
            match item {
                Item::Table(inner) => {
                    draft.add(section, instance);
                    apply_table(text, section, instance, inner, &mut draft, report);
                }
                Item::None | Item::Value(_) | Item::ArrayOfTables(_) => {
                    report.add(path, format!("write it under a name: [{name}.NAME]"));
                }
            }
        }
    }
    Some(draft)
}

/// Remembers the line of a key.
fn note_line(text: &str, report: &mut Report, path: &str, table: &Table, name: &str) {
    let key = table.get_key_value(name);
    let span = key.and_then(|(k, item)| k.span().or_else(|| item.span()));
    if let Some(span) = span {
        report.lines.insert(path.to_owned(), line_of(text, span.start));
    }
}

fn apply_table(text: &str, section: Section, instance: &str, table: &Table, draft: &mut Draft, report: &mut Report) {
    for (name, item) in table {
        let path = if instance.is_empty() {
            format!("{}.{name}", section.name())
        } else {
            format!("{}.{instance}.{name}", section.name())
        };
        note_line(text, report, &path, table, name);
        let Some(key) = schema::find(section, name) else {
            report.add(path, unknown_key(section, name));
            continue;
        };
        draft.enforcer.is_set |= section == Section::Enforcer;
        let value = match item {
            Item::Value(value) => Value::of(value).map_err(|_| key.advice.clone()),
            Item::None | Item::Table(_) | Item::ArrayOfTables(_) => Err("write KEY = VALUE".to_owned()),
        };
        match value.and_then(|value| key.read(&value)) {
            Ok(store) => store(draft, instance),
            Err(text) => report.add(path, text),
        }
    }
}

/// Advice about a key that a section does not have.
pub(crate) fn unknown_key(section: Section, name: &str) -> String {
    let elsewhere = keys().iter().find(|k| k.name == name).map(|k| k.section.name());
    if let Some(other) = elsewhere {
        return format!("unknown key here; it belongs under [{other}]");
    }
    let known: Vec<String> = keys().iter().filter(|k| k.section == section).map(|k| k.name.clone()).collect();
    if !known.iter().any(|k| distance(name, k) <= 2)
        && let Some(advice) = crate::import::advice(name)
    {
        return format!("this option of FastNetMon has no equal: {advice}");
    }
    unknown("key", name, &known)
}

fn unknown(what: &str, name: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|k| (distance(name, k), k)).min();
    match nearest {
        Some((d, key)) if d <= 2 + name.len() / 4 => format!("unknown {what}; did you mean {key}?"),
        _ => format!("unknown {what}; config/reference.toml lists all"),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            let change = diagonal + usize::from(x != *y);
            diagonal = above;
            row[j + 1] = change.min(above + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The stages' configurations; contradictions between keys are reported.
fn compose(draft: &Draft, report: &mut Report) -> Config {
    let networks = Networks::new(&draft.counting.networks_list);
    let mitigation = crate::announcing::compose(draft, &networks, report);
    let mut collectors = crate::collecting::compose(&draft.collecting, report);
    crate::collecting::bind_exporters(&mut collectors.exporters, &mitigation.peers, report);
    Config {
        collectors,
        detector: crate::counting::compose(draft, &networks, report),
        mitigation,
        api: crate::api::compose(&draft.api, report),
        history: crate::api::compose_history(&draft.api),
        export: crate::export::compose(&draft.export, report),
        notify: crate::notify::compose(&draft.notify, report),
        state_directory: draft.process.state_directory.clone().into(),
        control_socket_others_may_read: draft.process.control_socket_others_may_read,
        logging_level: draft.process.logging_level.clone(),
        enforcement: crate::enforcer::compose(draft, report),
    }
}

/// Whether any direction of a group has a threshold: without one nothing alarms.
#[must_use]
pub fn has_thresholds(config: &Config) -> bool {
    Direction::ALL.iter().any(|d| config.detector.groups.iter().any(|g| g.thresholds.keys().any(|(of, _)| of == d)))
}
