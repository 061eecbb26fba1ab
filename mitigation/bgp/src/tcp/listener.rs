//! Listening sockets for peers that connect to us: one per local address and port, shared by its peers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::{Command, socket};
use crate::peer::{ConnectionMode, Peer};

type Doors = BTreeMap<IpAddr, mpsc::UnboundedSender<Command>>;

/// A running listener; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    task: tokio::task::JoinHandle<()>,
    doors: watch::Sender<Doors>,
    serves: Vec<Key>,
}

/// What of a peer belongs to the listening socket.
type Key = (IpAddr, Option<String>, Option<u8>);

fn key(peer: &Peer) -> Key {
    (peer.remote_address, peer.md5_password.clone(), peer.ttl_security_hops)
}

impl Listener {
    /// Whether its socket is right for these peers.
    pub(super) fn serves(&self, peers: &[&Peer]) -> bool {
        self.serves.iter().eq(&peers.iter().map(|p| key(p)).collect::<Vec<_>>())
    }

    /// To whom connections go from now on.
    pub(super) fn set_doors(&self, doors: Doors) {
        self.doors.send_replace(doors);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where a peer's connections are waited for; `None` if it is only connected to.
pub(super) fn address(peer: &Peer) -> Option<SocketAddr> {
    let any = if peer.remote_address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let listens = matches!(peer.mode, ConnectionMode::Passive | ConnectionMode::Both);
    listens.then(|| SocketAddr::new(peer.local_address.unwrap_or(any), peer.local_port))
}

/// Binds an address for its peers.
pub(super) fn bind(address: SocketAddr, peers: &[&Peer]) -> io::Result<TcpListener> {
    socket::listen(address, peers).map_err(|error| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the system's text is the best advice for the rest")]
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "is another BGP daemon running? Choose another local_port or local_address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => "local_address is not an address of this machine",
            _ => "check local_address and local_port",
        };
        io::Error::new(error.kind(), format!("cannot listen for BGP on {address}: {error}; {advice}"))
    })
}

/// Hands accepted connections to the peer of that address; others are closed.
pub(super) fn serve(listener: TcpListener, peers: &[&Peer], doors: Doors) -> Listener {
    let (doors, view) = watch::channel(doors);
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => match view.borrow().get(&from.ip().to_canonical()) {
                    Some(peer) => drop(peer.send(Command::Accepted(stream))),
                    None => tracing::debug!(%from, "a connection from an address that is no BGP peer was closed"),
                },
                // Out of descriptors: let some be closed.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    });
    Listener { task, doors, serves: peers.iter().map(|p| key(p)).collect() }
}
