//! `floodwall show|set|delete ...`: the words that reach the daemon through its control socket, as `fcli` has them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::control::client::Client;
use crate::control::{self, Envelope, Request};

/// How words reach the daemon and how the answer looks.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The daemon's control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON; also with JSON_MODE=on in the environment.
    #[arg(long)]
    json: bool,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// `show [CATEGORY] [WORDS...]`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// What to show; nothing for a list.
    category: Option<String>,
    /// Further words.
    words: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// `set|delete CATEGORY [WORDS...]`.
#[derive(Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// What to change.
    category: String,
    /// Further words.
    words: Vec<String>,
    #[command(flatten)]
    options: Options,
}

pub(super) fn show(args: ShowArgs) -> Result<ExitCode> {
    let request = Request::Show { category: args.category.unwrap_or_default(), arguments: args.words };
    ask(request, args.options)
}

pub(super) fn set(args: ChangeArgs) -> Result<ExitCode> {
    ask(Request::Set { category: args.category, arguments: args.words }, args.options)
}

pub(super) fn delete(args: ChangeArgs) -> Result<ExitCode> {
    ask(Request::Delete { category: args.category, arguments: args.words }, args.options)
}

/// Asks the daemon and prints what it says.
fn ask(request: Request, options: Options) -> Result<ExitCode> {
    let path = control::socket_path(options.socket.as_ref());
    let outcome = Client::connect(&path)?.ask(&Envelope { request, reason: options.reason })?;
    let as_json = options.json || std::env::var("JSON_MODE").is_ok_and(|mode| mode == "on");
    match outcome {
        Ok(answer) if as_json => super::print_json(&answer.json)?,
        Ok(answer) if answer.text.is_empty() => {}
        Ok(answer) => println!("{}", answer.text),
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
