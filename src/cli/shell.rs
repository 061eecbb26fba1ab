//! `floodwall shell`: the words, with completion, history and help at every point.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use operator::{Envelope, Failure, Outcome, Request, table};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, Helper, KeyEvent, RepeatCount,
};

use crate::control;
use crate::control::client::Client;

/// Words that the shell itself knows.
const OWN: &[(&str, &str)] = &[
    ("doctor", "look for what keeps this installation from working well"),
    ("exit", "leave the shell; the candidate stays"),
    ("help", "this list"),
    ("top", "live screen"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: super::words::Options,
}

/// Asks the daemon; connects anew for each line, so that a restart of the daemon is not noticed.
#[derive(Debug, Clone)]
struct Link {
    socket: PathBuf,
    reason: Option<String>,
}

impl Link {
    fn ask(&self, request: Request, seen: Option<u64>) -> Result<Outcome> {
        Client::connect(&self.socket)?.ask(&Envelope::new(request, self.reason.clone(), seen))
    }

    /// What a line may go on with, and help for it.
    fn complete(&self, line: &str) -> Vec<(String, String)> {
        let Ok(mut words) = operator::words::split(line) else { return Vec::new() };
        if line.is_empty() || line.ends_with(char::is_whitespace) {
            words.push(String::new());
        }
        let is_first = words.len() == 1;
        let typed = words.last().cloned().unwrap_or_default();
        let answer = self.ask(Request::Complete { words }, None);
        let mut found: Vec<(String, String)> = match answer {
            Ok(Ok(answer)) => serde_json::from_value(answer.json).unwrap_or_default(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if is_first {
            let own = OWN.iter().filter(|(word, _)| word.starts_with(&typed));
            found.extend(own.map(|(word, help)| ((*word).to_owned(), (*help).to_owned())));
        }
        found
    }
}

struct Words(Link);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..pos];
        let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let pair = |(word, _): (String, String)| Pair { display: word.clone(), replacement: format!("{word} ") };
        Ok((start, self.0.complete(before).into_iter().map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

/// `?` shows what may follow, as routers do it; inside quotation marks it is a question mark.
struct Question(Arc<Mutex<Option<String>>>);

impl ConditionalEventHandler for Question {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let before = &context.line()[..context.pos()];
        operator::words::split(before).ok()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(before.to_owned());
        Some(Cmd::AcceptLine)
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let socket = control::socket_path(args.options.socket.as_ref());
    let link = Link { socket, reason: args.options.reason.clone() };
    if !std::io::stdin().is_terminal() {
        return run_lines(&link, &args.options);
    }
    let mut shell = Shell { link: link.clone(), seen: None };
    shell.greet();
    let config = rustyline::Config::builder()
        .completion_type(rustyline::CompletionType::List)
        .auto_add_history(false)
        .max_history_size(1000)
        .context("cannot keep a history")?
        .build();
    let mut editor: Editor<Words, DefaultHistory> = Editor::with_config(config).context("cannot use this terminal")?;
    editor.set_helper(Some(Words(link)));
    let question = Arc::new(Mutex::new(None));
    editor.bind_sequence(KeyEvent::from('?'), EventHandler::Conditional(Box::new(Question(Arc::clone(&question)))));
    let history = history_file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    let mut initial = String::new();
    loop {
        let line = match editor.readline_with_initial(&prompt(), (&initial, "")) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                initial.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("cannot read from this terminal"),
        };
        initial.clear();
        if let Some(before) = question.lock().unwrap_or_else(PoisonError::into_inner).take() {
            shell.help(&before);
            initial = before;
            continue;
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // Passwords are not for a file.
        if !config::secrets::is_in(line) {
            let _ = editor.add_history_entry(line);
        }
        if matches!(line, "exit" | "quit") {
            break;
        }
        shell.line(line, &args.options);
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(ExitCode::SUCCESS)
}

/// A typed line as a request.
fn read(line: &str) -> Result<Request, Failure> {
    let words = operator::words::split(line).map_err(Failure::malformed)?;
    operator::words::parse(&words)
}

/// Lines from a file or pipe: stops at the first that fails.
fn run_lines(link: &Link, options: &super::words::Options) -> Result<ExitCode> {
    for line in std::io::stdin().lines() {
        let line = line.context("cannot read standard input")?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let outcome = match read(line) {
            Ok(request) => link.ask(request, None)?,
            Err(failure) => Err(failure),
        };
        let failed = outcome.is_err();
        super::words::print(outcome, options)?;
        if failed {
            eprintln!("floodwall: stopped at: {line}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Shell {
    link: Link,
    /// The state of the candidate that was last seen.
    seen: Option<u64>,
}

impl Shell {
    fn greet(&mut self) {
        say!("floodwall {}; ? shows what may follow, TAB completes, exit leaves", env!("CARGO_PKG_VERSION"));
        let compare = Request::Show { category: "compare".to_owned(), arguments: Vec::new() };
        match self.link.ask(compare, None) {
            Ok(Ok(answer)) => {
                self.note(&answer.json);
                if answer.json["differences"].as_array().is_some_and(|d| !d.is_empty()) {
                    say!("your candidate has edits that are not committed: show | compare");
                }
            }
            Ok(Err(failure)) => eprintln!("{}", failure.text),
            Err(error) => eprintln!("{error:#}"),
        }
    }

    fn note(&mut self, json: &serde_json::Value) {
        if let Some(edits) = json["candidate_edits"].as_u64() {
            self.seen = Some(edits);
        }
    }

    fn help(&self, before: &str) {
        let rows: Vec<Vec<String>> =
            self.link.complete(before).into_iter().map(|(w, h)| vec![format!("  {w}"), h]).collect();
        if rows.is_empty() {
            say!("  a value, or nothing: press Enter");
        } else {
            say!("{}", table(&["  WORD", ""], &rows));
        }
    }

    fn line(&mut self, line: &str, options: &super::words::Options) {
        match line {
            "help" => {
                let verbs = operator::words::VERBS.iter().map(|(v, a, h)| vec![format!("{v} {a}"), (*h).to_owned()]);
                let own = OWN.iter().map(|(w, h)| vec![(*w).to_owned(), (*h).to_owned()]);
                return say!("{}", table(&["COMMAND", ""], &verbs.chain(own).collect::<Vec<_>>()));
            }
            "top" => return tell(super::top::run_on(&self.link.socket)),
            "doctor" => return tell(super::doctor::run_on(&self.link.socket)),
            _ => {}
        }
        let request = match read(line) {
            Ok(request) => request,
            Err(failure) => return eprintln!("{}", failure.text),
        };
        match self.link.ask(request, self.seen) {
            Ok(outcome) => {
                self.note(outcome.as_ref().map_or_else(|f| &f.json, |a| &a.json));
                match outcome {
                    Ok(answer) if options.json => tell(super::print_json(&answer.json).map(|()| ExitCode::SUCCESS)),
                    Ok(answer) => say!("{}", answer.text),
                    Err(failure) => eprintln!("{}", failure.text),
                }
            }
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

fn tell(result: Result<ExitCode>) {
    if let Err(error) = result {
        eprintln!("{error:#}");
    }
}

fn prompt() -> String {
    if super::has_color() { "\x1b[1mfloodwall>\x1b[0m ".to_owned() } else { "floodwall> ".to_owned() }
}

fn history_file() -> Option<PathBuf> {
    let given = std::env::var_os("FLOODWALL_HISTORY").map(PathBuf::from);
    given.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".floodwall_history")))
}
