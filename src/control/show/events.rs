//! `show events`: the last things that happened.

use operator::{Answer, Outcome, table};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category =
    Category { name: "events", arguments: "", help: "the last events, oldest first", run: show };

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let events = &view.status.events;
    let rows: Vec<Vec<String>> =
        events.iter().map(|e| vec![format!("{:.1} s", view.now.as_seconds() - e.time), e.report.to_string()]).collect();
    let text = if rows.is_empty() { "no events".to_owned() } else { table(&["AGO", "EVENT"], &rows) };
    Ok(Answer::new(text, events))
}
