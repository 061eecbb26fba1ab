//! Socket options that a BGP connection needs and the standard library does not offer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

/// DSCP CS6 in the traffic class octet (RFC 4594 section 3.1: network control).
const CS6: u32 = 48 << 2;

/// Connects to a peer from a local address, marked as network control.
pub(crate) async fn connect(local: Option<IpAddr>, remote: SocketAddr, wait: Duration) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    mark(&socket);
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = tokio::time::timeout(wait, socket.connect(remote))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Marks a socket CS6; without the right to do so the session works all the same.
pub(crate) fn mark(socket: &impl std::os::fd::AsFd) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_tos_v4(CS6);
    let _ = socket.set_tclass_v6(CS6);
}
