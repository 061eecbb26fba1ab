//! Running a program with a time limit.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a program said.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Exit code 0.
    pub(super) success: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// A program gets this long.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);
/// Octets of output that are kept.
const MAX_OUTPUT: u64 = 256 << 20;

/// Runs a program with this standard input to its end, or kills it after 30 s.
pub(super) fn run<S: AsRef<OsStr>>(program: &OsStr, arguments: &[S], input: &str) -> io::Result<Outcome> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // A program that ends early says why on standard error.
            let _ = stdin.map(|mut pipe| pipe.write_all(input.as_bytes()));
        });
        let reader = |pipe: Option<Box<dyn Read + Send>>| {
            move || {
                let mut bytes = Vec::new();
                let _ = pipe.map(|p| p.take(MAX_OUTPUT).read_to_end(&mut bytes));
                bytes
            }
        };
        let stdout = scope.spawn(reader(stdout.map(|p| Box::new(p) as Box<dyn Read + Send>)));
        let stderr = scope.spawn(reader(stderr.map(|p| Box::new(p) as Box<dyn Read + Send>)));
        let mut waited = Duration::ZERO;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if waited >= PATIENCE {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(POLL);
            waited += POLL;
        };
        let _ = writer.join();
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match status {
            Some(status) => {
                Ok(Outcome { success: status.success(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
            }
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end within 30 s and was killed")),
        }
    })
}
