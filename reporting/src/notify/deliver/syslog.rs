//! Syslog: this host's socket in the form of `syslog(3)`, or RFC 5424 over UDP (RFC 5426).

use std::path::Path;
use std::sync::Arc;

use config::notify::{Event, SyslogServer, Template};
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use traffic::Time;

use super::Failure;
use crate::notify::{Message, dump};

/// Octets of a datagram at most: what every receiver takes (RFC 5424 section 6.1).
const MAX_OCTETS: usize = 2048;

pub(super) async fn log(server: &SyslogServer, text: &Template, messages: &[Arc<Message>]) -> Result<(), Failure> {
    match server {
        SyslogServer::Local(path) => {
            for message in messages {
                local(path, &line(message, &message.fill(text), false)).await?;
            }
        }
        SyslogServer::Remote(place) => {
            let again = |e: std::io::Error| Failure::again(format!("{place}: {e}"));
            let to = lookup_host(place).await.map_err(again)?.next();
            let to = to.ok_or_else(|| Failure::again(format!("{place} has no address")))?;
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await.map_err(again)?;
            for message in messages {
                socket.send_to(&line(message, &message.fill(text), true), to).await.map_err(again)?;
            }
        }
    }
    Ok(())
}

async fn local(path: &Path, line: &[u8]) -> Result<(), Failure> {
    let again = |e: std::io::Error| Failure::again(format!("{}: {e}", path.display()));
    let socket = UnixDatagram::unbound().map_err(again)?;
    socket.send_to(line, path).await.map(drop).map_err(again)
}

/// Facility daemon (3); a beginning is a warning (4), an end a notice (5).
fn line(message: &Message, text: &str, is_remote: bool) -> Vec<u8> {
    let severity = match message.event() {
        Some(Event::Unban | Event::PartialUnblock | Event::AttackFinished) => 5,
        Some(Event::Ban | Event::PartialBlock | Event::AttackDetected | Event::Warning) | None => 4,
    };
    let (priority, process) = (3 * 8 + severity, std::process::id());
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = if is_remote {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds of this age")]
        let time = dump::timestamp(Time((message.time.max(0.0) * 1e9) as u64)).replace(' ', "T");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "-" } else { host.trim() };
        format!("<{priority}>1 {time}Z {host} floodwall {process} {} - {text}", message.action)
    } else {
        // The socket's reader knows the time and the host.
        format!("<{priority}>floodwall[{process}]: {text}")
    };
    while line.len() > MAX_OCTETS {
        line.pop();
    }
    line.into_bytes()
}
