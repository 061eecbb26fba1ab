//! `floodwall check`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Print problems as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let text =
        std::fs::read_to_string(&args.config).with_context(|| format!("cannot read {}", args.config.display()))?;
    let result = config::check(&text);
    if args.json {
        let problems = result.as_ref().err().cloned().unwrap_or_default();
        super::print_json(&serde_json::json!({ "valid": result.is_ok(), "problems": problems }))?;
    } else {
        match &result {
            Ok(config) => say!("{}: valid. {}", args.config.display(), summary(config)),
            Err(problems) => super::print_problems(&args.config, problems),
        }
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a daemon with this configuration would do.
fn summary(config: &Config) -> String {
    let sources: Vec<String> = config
        .collectors
        .listeners
        .iter()
        .map(|l| format!("UDP {}", l.address))
        .chain(config.collectors.interfaces.iter().map(|i| format!("mirror {}", i.name)))
        .collect();
    let sources = if sources.is_empty() { "nothing".to_owned() } else { sources.join(", ") };
    let mode = if config.mitigation.enable_ban {
        let peers: Vec<&str> = config.mitigation.peers.iter().map(|p| p.name.as_str()).collect();
        format!("announces to {}", peers.join(", "))
    } else {
        "dry run: announces nothing".to_owned()
    };
    format!(
        "Collects from {sources}; {} own networks, {} host groups; {mode}.",
        config.detector.networks.len(),
        config.detector.groups.len()
    )
}
