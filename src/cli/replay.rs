//! `floodwall replay`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use reporting::case::Case;

use crate::replay::replay_with;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    captures: super::Captures,
    /// The configuration file; a case file needs none.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Write a case file for every bucket that is mined into this directory.
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let files = &args.captures.files;
    let cases = files.iter().filter(|f| Case::is_one(f)).count();
    if cases > 0 {
        if cases < files.len() {
            bail!("captures and case files cannot be mixed: replay them one after the other");
        }
        return decide(files, args.json);
    }
    let config = args.config.as_ref().context("a capture needs --config FILE.toml; only a case file goes without")?;
    let Some(config) = super::load(config)? else { return Ok(ExitCode::FAILURE) };
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
                say!("{:10.3} s  {}", entry.time - start, entry.report);
            }
        },
    )?;
    if let Some(directory) = &args.cases {
        write_cases(&outcome.cases, directory)?;
    }
    if args.json {
        super::print_json(&outcome)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !outcome.events.iter().any(|e| matches!(e.report, operator::report::Report::Alarm { .. })) {
        say!("no alarm");
    }
    for mitigation in &outcome.mitigations {
        say!("in force at the end: {mitigation}");
    }
    let totals = &outcome.totals;
    say!(
        "packets: {} incoming, {} outgoing, {} internal, {} other; {} filtered by rules",
        totals.incoming.0,
        totals.outgoing.0,
        totals.internal.0,
        totals.other.0,
        totals.filtered.0
    );
    for (reason, v) in &outcome.not_counted {
        say!("not counted: {reason} {} records, {} packets, {} bytes", v.records, v.packets, v.bytes);
    }
    for (reason, count) in &outcome.errors {
        say!("not understood: {reason} {count}");
    }
    Ok(ExitCode::SUCCESS)
}

fn write_cases(cases: &[Case], directory: &Path) -> Result<()> {
    for case in cases {
        let path = case.write(directory)?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// Decides cases anew; fails if one comes to something else.
fn decide(files: &[PathBuf], json: bool) -> Result<ExitCode> {
    let mut all_same = true;
    let mut results = Vec::new();
    for path in files {
        let case = Case::read(path)?;
        let replayed = case.decide()?;
        all_same &= replayed.same;
        if json {
            results.push(serde_json::json!({ "case": path, "replayed": replayed, "recorded": case.decision }));
            continue;
        }
        let detection = &case.detection;
        say!("{}: {} {} of host group {}", path.display(), case.prefix, case.direction, detection.group);
        match replayed.evidence {
            Some(e) => say!(
                "  alarm: {} {} per second (at least {} for sure) from {} observations in {} ms; {} is {}",
                e.rate,
                detection.unit,
                e.lower_bound,
                e.observed,
                e.window_ms,
                detection.threshold_key,
                detection.threshold
            ),
            None => say!("  no alarm from what was measured"),
        }
        say!(
            "  {} samples, {} of ordinary traffic: {}",
            case.mining.sample.len(),
            case.mining.baseline.len(),
            replayed.verdict
        );
        for (rule, coverage) in &replayed.rules {
            say!("  {:5.1} %  {rule}", coverage * 100.0);
        }
        case.decision.actions.iter().for_each(|action| say!("  then: {action}"));
        say!("  {}", if replayed.same { "the same decision" } else { "ANOTHER DECISION than the recorded one" });
    }
    if json {
        super::print_json(&results)?;
    }
    Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
