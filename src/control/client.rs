//! The command line's end of the control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use operator::{Envelope, Outcome, Reply};

/// Bytes of a reply at most.
const MAX_REPLY: u64 = 256 << 20;
/// The daemon answers within this time, or is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// No daemon is there, or the caller may not connect; the text says what to do.
    pub fn connect(path: &Path) -> Result<Self> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the system's text is the best advice for the rest")]
        let stream = UnixStream::connect(path).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "use sudo, or join group floodwall",
                _ => "is the daemon running (floodwall run)? Another path is chosen with --socket or FLOODWALL_SOCKET",
            };
            anyhow::anyhow!("cannot reach the daemon at {}: {error}; {advice}", path.display())
        })?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set a timeout")?;
        stream.set_write_timeout(Some(PATIENCE)).context("cannot set a timeout")?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The connection broke. That the daemon refuses is an outcome, not an error.
    pub fn ask(&mut self, envelope: &Envelope) -> Result<Outcome> {
        let mut line = serde_json::to_vec(envelope).context("cannot write the request")?;
        line.push(b'\n');
        // A daemon that refuses may answer before it has read all.
        let written = self.stream.get_mut().write_all(&line);
        let mut reply = Vec::new();
        let read =
            (&mut self.stream).take(MAX_REPLY).read_until(b'\n', &mut reply).context("no answer from the daemon")?;
        if read == 0 {
            written.context("the daemon does not listen")?;
            bail!("the daemon closed the connection");
        }
        let reply: Reply = serde_json::from_slice(&reply).context("the daemon's answer is not understood")?;
        Ok(reply.into())
    }
}
