//! `floodwall enforce`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use enforcer::BackEndConfig;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file; its [enforcer] section counts.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// The enforcer's control socket [default: /run/floodwall/enforcer.sock].
    #[arg(long, env = "FLOODWALL_ENFORCER_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print what would be done to the packet filter, and do nothing.
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Some(config) = super::load(&args.config)? else { return Ok(ExitCode::FAILURE) };
    let Some(mut enforcement) = config.enforcement else {
        bail!("{} has no [enforcer] section: add one", args.config.display());
    };
    if enforcement.enforce_here {
        bail!("enforce_here is set: floodwall run carries rules out on this host, there is nothing to receive");
    }
    if args.print {
        enforcement.config.backend = BackEndConfig::Print;
    }
    crate::log::start(&config.logging_level);
    let socket = args.socket.clone().unwrap_or_else(|| crate::enforcer::DEFAULT_SOCKET.into());
    crate::enforcer::run_until_signal(enforcement, &socket)?;
    Ok(ExitCode::SUCCESS)
}
