//! The control socket: what operators type reaches the daemon here, one JSON request and one JSON reply a line.
//!
//! ```text
//! floodwall show attacks ──▶ {"verb":"show","category":"attacks"} ──▶ server ──▶ control thread ──▶ show/attacks.rs
//! ```
//! * [`server`] binds the Unix socket, learns who calls from the kernel (`SO_PEERCRED`) and refuses writes to those who are
//!   neither root, nor the daemon's own user, nor in group [`GROUP`]. It is generic over its [`server::Handler`], so that a
//!   second daemon (the enforcer) has a socket of its own.
//! * [`show`] holds one file per category that can be shown; adding one is a file and a line in the table. [`act`] carries out orders,
//!   which act at once (decision 3). Both run on the control thread, between two ticks.
//! * [`configuration`] keeps candidates, commits them and takes them back; [`history`] and [`audit`] remember.
//! * `desk` is where requests arrive, by socket or HTTP; `thread` is the control thread.
//! * [`operator::access`] and [`api::tokens`] say who may do what through the network: the API asks the same daemon with the same requests.
//!   [`permit`] judges what an order acts on.
//! * [`operator::words`] turns what is typed into requests; [`client`] is the command line's end.
//!
//! Limits: [`MAX_CLIENTS`] connections, [`MAX_REQUEST`] bytes a request, [`operator::request::QUEUE`] requests waiting for the control thread.

pub mod act;
pub mod audit;
pub mod client;
pub mod complete;
pub mod configuration;
pub(crate) mod desk;
pub mod history;
pub mod permit;
pub mod server;
pub mod settings;
pub mod show;
pub(crate) mod thread;

use std::path::PathBuf;

/// Where the socket is unless `--socket` or `FLOODWALL_SOCKET` says otherwise (decision 17).
pub const DEFAULT_SOCKET: &str = "/run/floodwall/control.sock";
/// Members of this group may change things.
pub const GROUP: &str = "floodwall";
/// Bytes of a request at most.
pub const MAX_REQUEST: usize = 1 << 20;
/// Connections at once at most.
pub const MAX_CLIENTS: usize = 64;

/// The socket's path: the one given, else the default.
#[must_use]
pub fn socket_path(given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}
