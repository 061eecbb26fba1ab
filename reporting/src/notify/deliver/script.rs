//! Scripts: without a shell, in a process group of their own, never longer than their time. Their output goes nowhere: one that
//! floods it hurts nobody.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use config::notify::Format;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Failure;
use crate::notify::Message;

/// Ends a script with all that it started and that stayed in its group.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

pub(super) async fn run(
    path: &Path,
    format: Format,
    of_groups: bool,
    timeout: Duration,
    message: &Message,
    is_test: bool,
) -> Result<(), Failure> {
    let (arguments, input) = form(format, of_groups, message);
    let output = || if is_test { Stdio::inherit() } else { Stdio::null() };
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(output())
        .stderr(output())
        .process_group(0)
        .spawn()
        .map_err(|e| Failure::last(format!("{} cannot be run: {e}", path.display())))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let stdin = child.stdin.take();
    let fed = async move {
        if let Some(mut stdin) = stdin {
            // A script that reads nothing is no failure.
            let _ = stdin.write_all(&input).await;
        }
    };
    let ended = async {
        let (mut fed, mut waited) = (std::pin::pin!(fed), std::pin::pin!(child.wait()));
        tokio::select! {
            status = &mut waited => status,
            () = &mut fed => waited.await,
        }
    };
    let status = tokio::time::timeout(timeout, ended).await.map_err(|_| {
        Failure::last(format!("{} took longer than {} s and was killed", path.display(), timeout.as_secs()))
    })?;
    // What it left running on purpose may go on.
    group.0 = None;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::last(format!("{} ended with {status}", path.display()))),
        Err(error) => Err(Failure::last(format!("{}: {error}", path.display()))),
    }
}

/// Arguments and standard input as FastNetMon has them.
pub(super) fn form(format: Format, of_groups: bool, message: &Message) -> (Vec<String>, Vec<u8>) {
    let json = || message.json.to_string().into_bytes();
    let action = message.action.clone();
    match format {
        _ if of_groups => (Vec::new(), json()),
        Format::Text => {
            let arguments = vec![message.ip.clone(), message.direction.clone(), message.power.to_string(), action];
            (arguments, if message.is_beginning() { message.text().into_bytes() } else { Vec::new() })
        }
        Format::Json => (vec![action, message.ip.clone()], json()),
    }
}
