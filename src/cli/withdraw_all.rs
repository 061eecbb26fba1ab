//! `floodwall withdraw-all`: the kill switch. By the control socket; if that does not answer, by SIGUSR2 to the process of the pid
//! file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use operator::{Envelope, Order, Request};

use crate::control::client::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The control socket [default: /run/floodwall/control.sock].
    #[arg(long, env = "FLOODWALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon's state directory, where its pid file is.
    #[arg(long, env = "FLOODWALL_STATE_DIR", value_name = "DIR", default_value = "/var/lib/floodwall")]
    state_dir: PathBuf,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let socket = crate::control::socket_path(args.socket.as_ref());
    let request = Request::Order(Order::Announcing { on: false, reason: None });
    let envelope = Envelope::new(request, args.reason.clone(), None);
    let asked = Client::connect(&socket).and_then(|mut client| client.ask(&envelope));
    match asked {
        Ok(Ok(answer)) => {
            say!("{}", answer.text);
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Err(failure)) => eprintln!("the daemon refuses: {}; sending it SIGUSR2", failure.text),
        Err(error) => eprintln!("{error:#}; sending the daemon SIGUSR2"),
    }
    let path = crate::daemon::pid_file(&args.state_dir);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read the pid file {}; find the process and send it SIGUSR2, or stop it", path.display())
    })?;
    let pid: i32 = text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))?;
    // A pid file that a dead daemon left must not hit a stranger.
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if !name.trim().starts_with("floodwall") && name.trim() != "fcli" {
        anyhow::bail!(
            "process {pid} of {} is no floodwall: it has ended, and with it its BGP sessions",
            path.display()
        );
    }
    kill(Pid::from_raw(pid), Signal::SIGUSR2).with_context(|| format!("cannot send SIGUSR2 to process {pid}"))?;
    say!("SIGUSR2 sent to process {pid}: everything is withdrawn; its log says so");
    Ok(ExitCode::SUCCESS)
}
