//! `floodwall run`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Where state is kept; wins over the file.
    #[arg(long, env = "FLOODWALL_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Some(mut config) = super::load(&args.config)? else { return Ok(ExitCode::FAILURE) };
    if let Some(directory) = &args.state_dir {
        config.state_directory.clone_from(directory);
    }
    super::start_logging(&config.logging_level);
    crate::daemon::run_until_signal(config)?;
    Ok(ExitCode::SUCCESS)
}
