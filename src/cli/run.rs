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
    /// The control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Some((mut config, text)) = super::load_text(&args.config)? else { return Ok(ExitCode::FAILURE) };
    if let Some(directory) = &args.state_dir {
        config.state_directory.clone_from(directory);
    }
    crate::log::start(&config.logging_level);
    let options = crate::daemon::Options {
        socket: Some(crate::control::socket_path(args.socket.as_ref())),
        needs_socket: args.socket.is_some(),
        file: Some((args.config.clone(), text)),
        state: Some(config.state_directory.clone()),
        needs_state: args.state_dir.is_some(),
    };
    crate::daemon::run_until_signal(config, options)?;
    Ok(ExitCode::SUCCESS)
}
