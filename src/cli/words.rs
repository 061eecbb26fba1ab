//! `floodwall show|set|delete|commit ...`: the words that reach the daemon through its control socket, as `fcli` has them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use config::Config;
use config::words::Change;
use operator::{Envelope, Outcome, Request};

use crate::control;
use crate::control::client::Client;

/// How words reach the daemon and how the answer looks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// The daemon's control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON; also with JSON_MODE=on in the environment.
    #[arg(long)]
    pub(super) json: bool,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Edit this file instead of the daemon's candidate: set and delete while no daemon runs.
    #[arg(long, value_name = "FILE.toml")]
    pub(super) file: Option<PathBuf>,
}

/// The words behind the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What, and further words.
    words: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// `commit`.
#[derive(Debug, clap::Args)]
pub(super) struct CommitArgs {
    /// check, confirmed MINUTES, comment TEXT.
    words: Vec<String>,
    /// With check: which attacks and rules this capture would have led to, with what runs and with the candidate.
    #[arg(long, value_name = "FILE.pcap")]
    replay: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(verb: &str, args: Args) -> Result<ExitCode> {
    let words: Vec<String> = std::iter::once(verb.to_owned()).chain(args.words).collect();
    let request = match operator::words::parse(&words) {
        Ok(request) => request,
        Err(failure) => return print(Err(failure), &args.options),
    };
    if let Some(file) = &args.options.file {
        return edit_file(file, &request, &args.options);
    }
    let outcome = ask(request, &args.options)?;
    print(outcome, &args.options)
}

pub(super) fn commit(args: CommitArgs) -> Result<ExitCode> {
    if args.replay.is_empty() {
        return run("commit", Args { words: args.words, options: args.options });
    }
    if args.words != ["check"] {
        return print(Err("--replay goes with commit check".into()), &args.options);
    }
    let check = Request::Commit { check: true, confirmed_minutes: None, comment: None };
    let checked = ask(check, &args.options)?;
    if checked.is_err() {
        return print(checked, &args.options);
    }
    let text = |category: &str| -> Result<Config> {
        let request = Request::Show { category: category.to_owned(), arguments: Vec::new() };
        let answer = ask(request, &args.options)?.map_err(|f| anyhow::anyhow!(f.text))?;
        let text = answer.json["text"].as_str().context("the daemon shows no text")?.to_owned();
        config::check(&text).map_err(|problems| anyhow::anyhow!("{category} is not valid: {problems:?}"))
    };
    let outcome = compare_replays(&args.replay, &text("running")?, &text("candidate")?)?;
    print(Ok(outcome), &args.options)
}

/// What a capture would have led to under two configurations.
fn compare_replays(files: &[PathBuf], running: &Config, candidate: &Config) -> Result<operator::Answer> {
    use operator::report::Report;
    let summary = |config: &Config| -> Result<(Vec<String>, Vec<String>)> {
        let outcome = crate::replay::replay(files, config, |_| {})?;
        let (mut attacks, mut routes) = (Vec::new(), Vec::new());
        for entry in &outcome.events {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "attacks and routes are what a configuration is judged by"
            )]
            match &entry.report {
                Report::Alarm { target, threshold, .. } => attacks.push(format!("{target} over {threshold}")),
                Report::Announce { route, action, .. } => routes.push(format!("{route} -> {action}")),
                _ => {}
            }
        }
        for list in [&mut attacks, &mut routes] {
            list.sort();
            list.dedup();
        }
        Ok((attacks, routes))
    };
    let (old, new) = (summary(running)?, summary(candidate)?);
    let mut rows = Vec::new();
    for (kind, old, new) in [("attack", &old.0, &new.0), ("route", &old.1, &new.1)] {
        let mut all: Vec<&String> = old.iter().chain(new).collect();
        all.sort();
        all.dedup();
        let mark = |list: &[String], item: &String| if list.contains(item) { "yes" } else { "-" }.to_owned();
        rows.extend(all.into_iter().map(|i| vec![mark(old, i), mark(new, i), kind.to_owned(), i.clone()]));
    }
    let text = if rows.is_empty() {
        "no attack and no route, neither with what runs nor with the candidate".to_owned()
    } else {
        operator::table(&["RUNNING", "CANDIDATE", "", "WHAT"], &rows)
    };
    let side =
        |(attacks, routes): &(Vec<String>, Vec<String>)| serde_json::json!({ "attacks": attacks, "routes": routes });
    let json = serde_json::json!({ "running": side(&old), "candidate": side(&new) });
    Ok(operator::Answer { text, json })
}

/// `set` and `delete` on a file that no daemon has open.
fn edit_file(file: &Path, request: &Request, options: &Options) -> Result<ExitCode> {
    let Some((verb, category, arguments)) = request.edit() else {
        return print(Err("--file goes with set and delete".into()), options);
    };
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let edited = config::words::section(category)
        .ok_or_else(|| format!("{category} is nothing that a file holds"))
        .and_then(|section| Change::parse(verb, section, arguments))
        .and_then(|change| {
            let mut document = text.parse::<toml_edit::DocumentMut>().map_err(|e| format!("not TOML: {e}"))?;
            change.apply(&mut document)?;
            Ok((change, document.to_string()))
        });
    let (change, edited) = match edited {
        Ok(edited) => edited,
        Err(text) => return print(Err(text.into()), options),
    };
    reporting::files::replace_file(file, edited.as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let problems = config::check(&edited).err().unwrap_or_default();
    let mut answer = format!("{change}: written to {}", file.display());
    problems.iter().for_each(|p| answer.push_str(&format!("\nstill to mend: {p}")));
    print(Ok(operator::Answer::new(answer, &serde_json::json!({ "problems": problems }))), options)
}

/// Asks the daemon.
pub(super) fn ask(request: Request, options: &Options) -> Result<Outcome> {
    // The enforcer is a daemon of its own (decision 18), unless `floodwall run` is one as well.
    let is_enforcer = matches!(&request, Request::Show { category, .. } if category == "enforcer");
    let path = if is_enforcer && options.socket.is_none() {
        crate::enforcer::socket_path()
    } else {
        control::socket_path(options.socket.as_ref())
    };
    Client::connect(&path)?.ask(&Envelope::new(request, options.reason.clone(), None))
}

/// Prints an outcome.
pub(super) fn print(outcome: Outcome, options: &Options) -> Result<ExitCode> {
    let as_json = options.json || std::env::var("JSON_MODE").is_ok_and(|mode| mode == "on");
    match outcome {
        Ok(answer) if as_json => super::print_json(&answer.json)?,
        Ok(answer) => super::print_text(&answer.text)?,
        Err(failure) => {
            if as_json {
                super::print_json(&serde_json::json!({ "error": failure.text, "details": failure.json }))?;
            } else {
                eprintln!("floodwall: {}", failure.text);
            }
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
