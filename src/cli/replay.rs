//! `floodwall replay`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::replay::replay_with;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    captures: super::Captures,
    /// The configuration file.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Some(config) = super::load(&args.config)? else { return Ok(ExitCode::FAILURE) };
    let files = &args.captures.files;
    let mut start = None;
    let outcome = replay_with(
        files,
        &config,
        |path| {
            if !args.json && files.len() > 1 {
                eprintln!("reading {}", path.display());
            }
        },
        |entry| {
            if !args.json {
                let start = *start.get_or_insert(entry.time);
                println!("{:10.3} s  {}", entry.time - start, entry.report);
            }
        },
    )?;
    if args.json {
        super::print_json(&outcome)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !outcome.events.iter().any(|e| matches!(e.report, crate::report::Report::Alarm { .. })) {
        println!("no alarm");
    }
    for mitigation in &outcome.mitigations {
        println!("in force at the end: {mitigation}");
    }
    let totals = &outcome.totals;
    println!(
        "packets: {} incoming, {} outgoing, {} internal, {} other; {} filtered by rules",
        totals.incoming.0, totals.outgoing.0, totals.internal.0, totals.other.0, totals.filtered.0
    );
    for (reason, count) in &outcome.errors {
        println!("not understood: {reason} {count}");
    }
    Ok(ExitCode::SUCCESS)
}
