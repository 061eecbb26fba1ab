//! What an operator settles about collectors. Values are right by construction: `config::check` makes them.

use std::net::SocketAddr;

use crate::decoder::RateOverrides;

/// A UDP socket for flow exports of any protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Worker threads that share the port (`SO_REUSEPORT`), at least 1.
    pub workers: usize,
}

/// A mirror port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// 1 when the switch mirrors every packet; N when it mirrors one of N.
    pub sampling_rate: u32,
    /// A BPF filter, such as `not port 22`.
    pub filter: Option<String>,
}

/// Configuration of the collectors. The default listens to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// UDP sockets.
    pub listeners: Vec<Listener>,
    /// Mirror ports.
    pub interfaces: Vec<Interface>,
    /// Receive buffer asked for per socket, in bytes; 0 leaves the system's.
    pub receive_buffer_bytes: usize,
    /// Sampling rates set by the operator, by exporter address.
    pub rates: RateOverrides,
}

impl Config {
    /// Worker threads these collectors need; each has a shard of counters.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.listeners.iter().map(|l| l.workers.max(1)).sum::<usize>() + self.interfaces.len()
    }
}
