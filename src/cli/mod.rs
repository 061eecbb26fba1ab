//! The command line: one file per command.
//!
//! Exit codes: 0 done and well; 1 a problem was found, or the command failed; 2 wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]

/// A line on standard output. Once nobody reads any more the program ends, as it would by SIGPIPE.
macro_rules! say {
    ($($text:tt)*) => { crate::cli::write_line(format_args!($($text)*)) };
}

mod check;
mod decode;
mod demo;
mod doctor;
mod drill;
mod enforce;
mod import;
mod mine;
mod notify;
mod replay;
mod router_config;
mod run;
mod shell;
mod top;
mod withdraw_all;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use config::Config;

/// DDoS detector and automatic mitigator: flow telemetry or a mirror port in, BGP FlowSpec rules and blackholes out.
#[derive(Debug, Parser)]
#[command(name = "floodwall", version)]
struct Cli {
    /// Nothing opens the shell.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    Run(run::Args),
    /// Be a FlowSpec router: take rules over BGP and carry them out in this host's packet filter.
    Enforce(enforce::Args),
    /// Send recorded traffic through the same pipeline: what would have happened?
    Replay(replay::Args),
    /// Show what a capture of flow exports or packets holds.
    Decode(decode::Args),
    /// Show what the daemon sees and does; without a category, what there is to show.
    Show(words::Args),
    /// Set an option of the candidate; flowspec and blackhole act at once.
    Set(words::Args),
    /// Undo a set.
    Delete(words::Args),
    /// Put the candidate into force: commit [check | confirmed MINUTES] [comment TEXT].
    Commit(words::CommitArgs),
    /// Keep a commit that awaits confirmation.
    Confirm(words::Args),
    /// Make the candidate what ran N commits ago; 0 drops all edits.
    Rollback(words::Args),
    /// Put the candidate's edits on top of what others committed meanwhile.
    Rebase(words::Args),
    /// Take over the configuration file as edited by other means.
    Reload(words::Args),
    /// Words with completion, history and help at every point; also when floodwall is started alone.
    Shell(shell::Args),
    /// Live screen: totals, hosts, attacks, rules, exporters, sessions.
    Top(top::Args),
    /// Look for what keeps this installation from working well, with the command that mends it.
    Doctor(doctor::Args),
    /// A synthetic attack on a canary address, timed step by step, withdrawn at the end.
    Drill(drill::Args),
    /// Print what a router needs to export telemetry to us and to take our rules.
    RouterConfig(router_config::Args),
    /// Find the FlowSpec rules for a captured attack.
    Mine(mine::Args),
    /// Try the channels that notifications go to.
    #[command(subcommand)]
    Notify(notify::Args),
    /// Check a configuration file; prints every problem at once.
    Check(check::Args),
    /// Turn another program's configuration into ours, with a report of every key.
    #[command(subcommand)]
    Import(import::Args),
    /// See it work: a recorded attack, a daemon, and a router on this machine's loopback.
    Demo(demo::Args),
    /// Withdraw everything everywhere now, and announce nothing until it is enabled again. Works with the API down.
    WithdrawAll(withdraw_all::Args),
    /// Print shell completions.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line and runs it.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    let Some(command) = cli.command.or_else(alone) else { return ExitCode::from(2) };
    let result = match command {
        Command::Run(args) => run::run(&args),
        Command::Enforce(args) => enforce::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Show(args) => words::run("show", args),
        Command::Set(args) => words::run("set", args),
        Command::Delete(args) => words::run("delete", args),
        Command::Commit(args) => words::commit(args),
        Command::Confirm(args) => words::run("confirm", args),
        Command::Rollback(args) => words::run("rollback", args),
        Command::Rebase(args) => words::run("rebase", args),
        Command::Reload(args) => words::run("reload", args),
        Command::Shell(args) => shell::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::RouterConfig(args) => router_config::run(&args),
        Command::Mine(args) => mine::run(&args),
        Command::Notify(args) => notify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::WithdrawAll(args) => withdraw_all::run(&args),
        Command::Completions { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(shell, &mut Cli::command(), "floodwall", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("floodwall: {error:#}");
        ExitCode::FAILURE
    })
}

/// Started without a word: the shell, where somebody can type; else help, as wrong usage.
fn alone() -> Option<Command> {
    use clap::CommandFactory;
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return Cli::parse_from(["floodwall", "shell"]).command;
    }
    eprintln!("{}", Cli::command().render_help());
    None
}

/// Whether output may be coloured: <https://no-color.org>, and terminals that cannot.
fn has_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Parses the command line. Called as `fcli` (a symlink), the name in usage and errors is that.
fn parse() -> Cli {
    use clap::{CommandFactory, FromArgMatches};
    let is_fcli = std::env::args_os().next().is_some_and(|name| Path::new(&name).file_name() == Some("fcli".as_ref()));
    if !is_fcli {
        return Cli::parse();
    }
    let matches = Cli::command().name("fcli").bin_name("fcli").get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Reads and checks a configuration file; problems go to standard error.
fn load(path: &Path) -> Result<Option<Config>> {
    Ok(load_text(path)?.map(|(config, _)| config))
}

/// As [`load`], with the text.
fn load_text(path: &Path) -> Result<Option<(Config, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match config::check(&text) {
        Ok(config) => Ok(Some((config, text))),
        Err(problems) => {
            print_problems(path, &problems);
            Ok(None)
        }
    }
}

fn print_problems(path: &Path, problems: &[config::Problem]) {
    for problem in problems {
        eprintln!("{}: {problem}", path.display());
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    eprintln!("{} problem{plural}; nothing was started", problems.len());
}

/// See `say!`.
fn write_line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes JSON to standard output; a reader that went away is not an error.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let written =
        serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from).and_then(|()| writeln!(out));
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes text to standard output; a reader that went away is not an error.
fn print_text(text: &str) -> Result<()> {
    use std::io::Write;
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Capture files as arguments.
#[derive(Debug, clap::Args)]
struct Captures {
    /// Capture files (pcap or pcapng) of flow exports or of packets; replay takes case files as well.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}
