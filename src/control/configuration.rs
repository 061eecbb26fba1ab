//! [`Configuration`]: one file, one candidate per operator, and the way from there to what runs.
//!
//! A commit checks the candidate as a whole, opens what it needs, writes the file, and only then changes what runs. A commit
//! that awaits confirmation does not touch the file at all, so a daemon that dies before it is confirmed comes back with the old
//! configuration; without confirmation the old one also comes back by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::candidate::{Candidate, Difference, compare, differences};
use config::words::{Change, Verb};
use config::{Config, Problem};
use operator::{Answer, Caller, Failure, Outcome, Request, Why, clock, table};
use reporting::files::replace_file;
use serde_json::{Value, json};
use traffic::Time;

use super::history::{Commit, History};
use super::settings;
use crate::plant::Plant;

/// Operators with candidates at once at most; the one that was edited least lately makes room.
const MAX_CANDIDATES: usize = 32;

/// A commit that goes unless it is confirmed.
#[derive(Debug)]
struct Unconfirmed {
    /// What comes back.
    previous: String,
    /// When.
    deadline: Time,
    /// Who has to confirm.
    user: String,
    comment: Option<String>,
}

/// The configuration in force, the candidates, and the commits between them.
#[derive(Debug)]
pub struct Configuration {
    file: Option<PathBuf>,
    /// What the file holds, as far as we know.
    file_text: String,
    /// What runs.
    running: String,
    revision: u64,
    candidates: BTreeMap<String, (Time, Candidate)>,
    history: History,
    unconfirmed: Option<Unconfirmed>,
    plant: Plant,
    /// Wins over the file's.
    state_directory: PathBuf,
}

impl Configuration {
    /// Around what runs. Without a file, commits last until the daemon ends.
    #[must_use]
    pub fn new(now: Time, file: Option<PathBuf>, text: String, state_directory: PathBuf, plant: Plant) -> Self {
        let mut history = History::default();
        if file.is_some() {
            history = History::open(&state_directory.join("config"));
        }
        let mut revision = history.revision();
        if history.back(0).is_none_or(|last| last.text != text) {
            revision += 1;
            let comment = Some("as found at the start".to_owned());
            history.add(Commit {
                revision,
                time: clock::wall(now).as_seconds(),
                user: "file".to_owned(),
                comment,
                text: text.clone(),
            });
        }
        Self {
            file,
            file_text: text.clone(),
            running: text,
            revision,
            candidates: BTreeMap::new(),
            history,
            unconfirmed: None,
            plant,
            state_directory,
        }
    }

    /// The text of what runs.
    #[must_use]
    pub fn running(&self) -> &str {
        &self.running
    }

    /// What runs besides.
    #[must_use]
    pub const fn plant(&mut self) -> &mut Plant {
        &mut self.plant
    }

    /// Whether a category is shown from here.
    #[must_use]
    pub fn shows(category: &str, arguments: &[String]) -> bool {
        match category {
            "candidate" | "compare" | "history" | "running" => true,
            // Sessions without a name, settings with one.
            "bgp" => !arguments.is_empty(),
            // What this host filters without a word behind it, settings with their names.
            "enforcer" => {
                !matches!(arguments, [] | [_] if arguments.iter().all(|a| a == "installed" || a == "refused"))
            }
            _ => config::words::section(category).is_some(),
        }
    }

    /// A request that is about the configuration.
    pub async fn handle(&mut self, now: Time, caller: &Caller, request: &Request) -> Outcome {
        match request {
            Request::Show { category, arguments } => self.show(now, caller, category, arguments),
            Request::Set { category, arguments } => self.edit(now, caller, Verb::Set, category, arguments),
            Request::Delete { category, arguments } => self.edit(now, caller, Verb::Delete, category, arguments),
            Request::Commit { check: true, .. } => self.check(caller),
            Request::Commit { check: false, confirmed_minutes, comment } => {
                self.commit(now, caller, *confirmed_minutes, comment.clone()).await
            }
            Request::Confirm => self.confirm(now, caller),
            Request::Rollback { back } => self.rollback(now, caller, *back),
            Request::Rebase => self.rebase(now, caller),
            Request::Reload => self.reload(now, caller).await,
            Request::Order(_) | Request::Complete { .. } => Err("this is nothing that a configuration holds".into()),
        }
    }

    fn candidate(&mut self, now: Time, caller: &Caller) -> &mut Candidate {
        if !self.candidates.contains_key(&caller.user)
            && self.candidates.len() >= MAX_CANDIDATES
            && let Some(oldest) = self.candidates.iter().min_by_key(|(_, (at, _))| *at).map(|(user, _)| user.clone())
        {
            self.candidates.remove(&oldest);
        }
        let (revision, running) = (self.revision, &self.running);
        let entry =
            self.candidates.entry(caller.user.clone()).or_insert_with(|| (now, Candidate::new(revision, running)));
        entry.0 = now;
        // Without edits it follows what runs.
        if !entry.1.is_changed() && entry.1.base != revision {
            let edits = entry.1.edits;
            entry.1 = Candidate::after(edits + 1, revision, running);
        }
        &mut entry.1
    }

    /// Two windows of one operator: whoever has not seen what the other edited is told first.
    fn check_seen(&mut self, now: Time, caller: &Caller) -> Result<(), Failure> {
        let candidate = self.candidate(now, caller);
        let edits = candidate.edits;
        if caller.seen.is_none_or(|seen| seen == edits || !candidate.is_changed()) {
            return Ok(());
        }
        let last: Vec<String> = candidate.changes().iter().rev().take(3).map(|c| format!("  {c}")).collect();
        let text = format!(
            "your candidate was edited elsewhere since you looked; the last edits:\n{}\nNothing was done: look (show | compare), \
             then do it again",
            last.join("\n")
        );
        Err(Failure::new(text, json!({ "candidate_edits": edits })))
    }

    fn edit(&mut self, now: Time, caller: &Caller, verb: Verb, category: &str, arguments: &[String]) -> Outcome {
        let section = config::words::section(category).ok_or_else(|| Failure::malformed(unknown_category(category)))?;
        let change = Change::parse(verb, section, arguments).map_err(Failure::malformed)?;
        self.check_seen(now, caller)?;
        let candidate = self.candidate(now, caller);
        let text = if candidate.edit(change.clone())? {
            format!("{change}; commit puts it into force")
        } else {
            format!("{} is so already", change.path())
        };
        Ok(Answer::new(text, &json!({ "candidate_edits": candidate.edits })))
    }

    fn show(&mut self, now: Time, caller: &Caller, category: &str, arguments: &[String]) -> Outcome {
        let has_edits = self.candidates.get(&caller.user).is_some_and(|(_, c)| c.is_changed());
        let edits = if caller.may_write { self.candidate(now, caller).edits } else { 0 };
        let edited = self.candidates.get(&caller.user).map_or(self.running.as_str(), |(_, c)| c.text());
        match category {
            "running" => {
                let shown = config::secrets::hide(&self.running);
                let json = self.text_json(&shown);
                Ok(Answer::new(shown, &json))
            }
            "candidate" => {
                let shown = config::secrets::hide(edited);
                let mut json = self.text_json(&shown);
                json["candidate_edits"] = json!(edits);
                Ok(Answer::new(shown, &json))
            }
            "compare" => {
                let differences = differences(&self.running, edited);
                let text = match compare(&self.running, edited) {
                    _ if !has_edits => "no edits".to_owned(),
                    // A secret that became another one.
                    text if text.is_empty() => {
                        let keys: Vec<&str> = differences.iter().map(|d| d.key.as_str()).collect();
                        format!("changed, but not shown: {}", keys.join(", "))
                    }
                    text => text,
                };
                Ok(Answer::new(text, &json!({ "differences": differences, "candidate_edits": edits })))
            }
            "history" => self.show_history(now, arguments),
            _ => settings::show(&self.running, category, arguments),
        }
    }

    /// Of a text whose secrets are hidden.
    fn text_json(&self, shown: &str) -> Value {
        json!({ "revision": self.revision, "text": shown, "values": config::candidate::flatten(shown) })
    }

    fn show_history(&self, now: Time, arguments: &[String]) -> Outcome {
        if let Some(number) = arguments.first() {
            let back = number.parse::<usize>().map_err(|_| format!("show history N: {number:?} is not a number"))?;
            let commit = self.history.back(back).ok_or_else(|| self.no_such_commit(back))?;
            return Ok(Answer::new(compare(&commit.text, &self.running), &differences(&commit.text, &self.running)));
        }
        let rows: Vec<Vec<String>> = self
            .history
            .commits()
            .iter()
            .rev()
            .enumerate()
            .map(|(back, c)| {
                let ago = format!("{} ago", span(clock::wall(now).as_seconds() - c.time));
                vec![
                    back.to_string(),
                    c.revision.to_string(),
                    ago,
                    c.user.clone(),
                    c.comment.clone().unwrap_or_default(),
                ]
            })
            .collect();
        let entry =
            |c: &Commit| json!({ "revision": c.revision, "time": c.time, "user": c.user, "comment": c.comment });
        let mut text = table(&["ROLLBACK", "REVISION", "WHEN", "WHO", "COMMENT"], &rows);
        if let Some(u) = &self.unconfirmed {
            text.push_str(&format!("\n{}", awaits(u, now)));
        }
        let unconfirmed = self
            .unconfirmed
            .as_ref()
            .map(|u| json!({ "user": u.user, "deadline": clock::wall(u.deadline).as_seconds() }));
        let commits: Vec<Value> = self.history.commits().iter().rev().map(entry).collect();
        Ok(Answer::new(text, &json!({ "commits": commits, "unconfirmed": unconfirmed })))
    }

    fn no_such_commit(&self, back: usize) -> String {
        format!(
            "there is no rollback {back}: show history lists 0 to {}",
            self.history.commits().len().saturating_sub(1)
        )
    }

    /// The candidate as a configuration, or its problems.
    fn checked(&self, text: &str) -> Result<Config, Failure> {
        config::check(text)
            .map(|mut config| {
                config.state_directory.clone_from(&self.state_directory);
                config
            })
            .map_err(|problems| refused(&problems))
    }

    fn check(&self, caller: &Caller) -> Outcome {
        let text = self.candidates.get(&caller.user).map_or(self.running.as_str(), |(_, c)| c.text());
        self.checked(text)?;
        Ok(Answer::new(
            "the candidate is valid",
            &json!({ "valid": true, "differences": differences(&self.running, text) }),
        ))
    }

    async fn commit(&mut self, now: Time, caller: &Caller, minutes: Option<u64>, comment: Option<String>) -> Outcome {
        self.check_seen(now, caller)?;
        let candidate = self.candidate(now, caller);
        let (changed, base, edits) = (candidate.is_changed(), candidate.base, candidate.edits);
        let text = candidate.text().to_owned();
        if let Some(unconfirmed) = &self.unconfirmed
            && unconfirmed.user != caller.user
        {
            return Err(format!("{}: wait for that, or confirm it first", awaits(unconfirmed, now)).into());
        }
        if !changed && self.unconfirmed.is_some() {
            return self.confirm(now, caller);
        }
        if !changed {
            let json = json!({ "revision": self.revision, "candidate_edits": edits });
            return Ok(Answer::new("nothing to commit: the candidate is what runs", &json));
        }
        if base != self.revision {
            return Err(self.overtaken(base));
        }
        let config = self.checked(&text)?;
        self.check_file()?;
        let what = self.permitted(caller, &text)?;
        let previous = std::mem::replace(&mut self.running, text.clone());
        let applied = self.plant.apply(config, |_| {
            // Everything that could fail was opened: now the file, then the change.
            if minutes.is_none() { write(self.file.as_deref(), &text) } else { Ok(()) }
        });
        let notes = match applied.await {
            Ok(notes) => notes,
            Err(error) => {
                self.running = previous;
                return Err(format!("nothing was changed: {error:#}").into());
            }
        };
        self.revision += 1;
        let mut answer = format!("revision {} is in force: {} keys changed", self.revision, what.len());
        notes.iter().for_each(|note| answer.push_str(&format!("\n{note}")));
        let mut json =
            json!({ "revision": self.revision, "differences": what, "notes": notes, "candidate_edits": edits + 1 });
        if let Some(minutes) = minutes {
            // A second unconfirmed commit goes back to what was confirmed last.
            let previous = self.unconfirmed.take().map_or(previous, |u| u.previous);
            let deadline = now.after(Duration::from_secs(minutes * 60));
            let unconfirmed = Unconfirmed { previous, deadline, user: caller.user.clone(), comment };
            answer.push_str(&format!("\n{}", awaits(&unconfirmed, now)));
            json["deadline"] = json!(clock::wall(deadline).as_seconds());
            self.unconfirmed = Some(unconfirmed);
        } else {
            self.unconfirmed = None;
            self.file_text.clone_from(&text);
            self.remember(now, &caller.user, comment);
        }
        let candidate = Candidate::after(edits + 1, self.revision, &self.running);
        self.candidates.insert(caller.user.clone(), (now, candidate));
        Ok(Answer::new(answer, &json))
    }

    /// What a text would change, if all of it is for this caller: his candidate may come from the history.
    fn permitted(&self, caller: &Caller, text: &str) -> Result<Vec<Difference>, Failure> {
        let what = differences(&self.running, text);
        let beyond = what.iter().find(|d| config::secrets::path_reaches_out(&d.key));
        match beyond.filter(|_| !caller.is_admin) {
            Some(difference) => Err(Failure::forbidden(format!("{}: this takes scope admin", difference.key))),
            None => Ok(what),
        }
    }

    fn remember(&mut self, now: Time, user: &str, comment: Option<String>) {
        let (revision, text) = (self.revision, self.running.clone());
        self.history.add(Commit {
            revision,
            time: clock::wall(now).as_seconds(),
            user: user.to_owned(),
            comment,
            text,
        });
    }

    /// The file must be what we know: whoever edited it by other means is not overwritten.
    fn check_file(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else { return Ok(()) };
        let on_disk = std::fs::read_to_string(file).unwrap_or_default();
        if on_disk == self.file_text {
            return Ok(());
        }
        let shown = file.display();
        Err(format!("{shown} was edited since it was read: floodwall reload (or SIGHUP) takes that over first").into())
    }

    fn overtaken(&self, base: u64) -> Failure {
        let newer: Vec<String> = self
            .history
            .commits()
            .iter()
            .filter(|c| c.revision > base)
            .map(|c| {
                let comment = c.comment.as_ref().map(|t| format!(": {t}")).unwrap_or_default();
                format!("  revision {} by {}{comment}", c.revision, c.user)
            })
            .collect();
        let text = format!(
            "your candidate began from revision {base}, but {} is in force:\n{}\nNothing was done: rebase puts your edits on top of \
             it, rollback 0 drops them",
            self.revision,
            newer.join("\n")
        );
        Failure::new(text, json!({ "base": base, "revision": self.revision }))
    }

    fn confirm(&mut self, now: Time, caller: &Caller) -> Outcome {
        if self.unconfirmed.is_none() {
            return Err("no commit awaits confirmation".into());
        }
        self.check_file()?;
        write(self.file.as_deref(), &self.running).map_err(|e| format!("it is not confirmed yet: {e:#}"))?;
        self.file_text.clone_from(&self.running);
        let comment = self.unconfirmed.take().and_then(|u| u.comment);
        self.remember(now, &caller.user, comment);
        let json = json!({ "revision": self.revision });
        Ok(Answer::new(format!("revision {} is confirmed", self.revision), &json))
    }

    /// When an unconfirmed commit is due to go.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.unconfirmed.as_ref().map(|u| u.deadline)
    }

    /// Takes an unconfirmed commit back whose time is over.
    pub async fn expire(&mut self, now: Time) -> Option<Outcome> {
        let due = self.unconfirmed.take_if(|u| now >= u.deadline)?;
        let outcome = match self.checked(&due.previous) {
            Ok(config) => self.plant.apply(config, |_| Ok(())).await.map_err(|e| Failure::from(format!("{e:#}"))),
            Err(failure) => Err(failure),
        };
        Some(outcome.map(|_| {
            self.running = due.previous;
            self.revision += 1;
            self.remember(now, &due.user, Some("not confirmed: taken back".to_owned()));
            Answer::new(
                "the commit was not confirmed: the configuration before it is back",
                &json!({ "revision": self.revision }),
            )
        }))
    }

    fn rollback(&mut self, now: Time, caller: &Caller, back: usize) -> Outcome {
        let text = match back {
            0 => self.running.clone(),
            _ => self.history.back(back).ok_or_else(|| self.no_such_commit(back))?.text.clone(),
        };
        let (revision, running) = (self.revision, self.running.clone());
        let candidate = self.candidate(now, caller);
        let edits = candidate.edits + 1;
        *candidate = Candidate::after(edits, revision, &running);
        if back > 0 {
            candidate.load(&text);
        }
        let answer = if back == 0 {
            "all edits are dropped: the candidate is what runs".to_owned()
        } else {
            format!("the candidate is what ran {back} commits ago: show | compare, then commit")
        };
        Ok(Answer::new(answer, &json!({ "candidate_edits": candidate.edits })))
    }

    fn rebase(&mut self, now: Time, caller: &Caller) -> Outcome {
        let (revision, running) = (self.revision, self.running.clone());
        let candidate = self.candidate(now, caller);
        let both = candidate.rebase(revision, &running)?;
        let mut text = format!("your edits are on top of revision {revision}: show | compare, then commit");
        for d in &both {
            let theirs = d.new.as_deref().unwrap_or("removed");
            text.push_str(&format!("\nalso changed by others: {} (there: {theirs})", d.key));
        }
        Ok(Answer::new(text, &json!({ "conflicts": both, "candidate_edits": candidate.edits })))
    }

    async fn reload(&mut self, now: Time, caller: &Caller) -> Outcome {
        let Some(file) = self.file.clone() else { return Err("this daemon has no configuration file".into()) };
        let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        if text == self.running {
            self.file_text = text;
            return Ok(Answer::new("the file is what runs", &json!({ "revision": self.revision })));
        }
        let config = self.checked(&text)?;
        let what = differences(&self.running, &text);
        let notes = self.plant.apply(config, |_| Ok(())).await.map_err(|e| format!("nothing was changed: {e:#}"))?;
        self.running.clone_from(&text);
        self.file_text = text;
        self.revision += 1;
        self.unconfirmed = None;
        self.remember(now, &caller.user, Some("read from the file".to_owned()));
        let mut answer = format!("revision {} is in force: {} keys changed", self.revision, what.len());
        notes.iter().for_each(|note| answer.push_str(&format!("\n{note}")));
        Ok(Answer::new(answer, &json!({ "revision": self.revision, "differences": what, "notes": notes })))
    }
}

fn unknown_category(category: &str) -> String {
    let acting = operator::order::ORDERS.iter().map(|order| order.category);
    let mut names: Vec<&str> = config::schema::Section::ALL.iter().map(|s| s.name()).chain(acting).collect();
    names.sort_unstable();
    names.dedup();
    format!("there is no category {category:?} to change; there are: {}", names.join(", "))
}

fn refused(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let plural = if problems.len() == 1 { "" } else { "s" };
    let text = format!("{} problem{plural}; nothing was changed\n{}", problems.len(), lines.join("\n"));
    Failure { json: json!({ "problems": problems }), ..Failure::of(Why::Refused, text) }
}

fn write(file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    use anyhow::Context;
    file.map_or(Ok(()), |file| {
        replace_file(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
    })
}

fn awaits(unconfirmed: &Unconfirmed, now: Time) -> String {
    let left = unconfirmed.deadline.since(now).as_secs_f64();
    format!("a commit by {} is taken back in {} unless it is confirmed", unconfirmed.user, span(left))
}

/// A span for people.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}
