//! Sockets of BGP connections: TCP MD5 (RFC 2385), GTSM (RFC 5082), DSCP CS6.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use sys::tcp::{set_md5, set_minimum_ttl};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::peer::Peer;

/// DSCP CS6 in the traffic class octet (RFC 4594 section 3.1: network control).
const CS6: u32 = 48 << 2;
const BACKLOG: u32 = 64;

/// Connects to a peer from its local address, with its password and TTL.
pub async fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let remote = SocketAddr::new(peer.remote_address, peer.remote_port);
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    prepare(&socket, peer)?;
    if let Some(password) = &peer.md5_password {
        set_md5(&socket, peer.remote_address, password)?;
    }
    if let Some(local) = peer.local_address {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Listens for peers that connect; all of them share the address.
pub fn listen(address: SocketAddr, peers: &[&Peer]) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    mark(&socket);
    for peer in peers {
        if let Some(password) = &peer.md5_password {
            set_md5(&socket, peer.remote_address, password)?;
        }
    }
    // One limit for all who connect: the widest, and none if any of them has none; each accepted socket then gets its own.
    let hops: Option<Vec<u8>> = peers.iter().map(|p| p.ttl_security_hops).collect();
    if let Some(hops) = hops.and_then(|h| h.into_iter().max()) {
        set_minimum_ttl(&socket, address.ip(), hops)?;
        set_ttl(&socket, address.ip(), 255)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What a connection that a peer opened still needs.
pub fn accepted(stream: &TcpStream, peer: &Peer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    prepare(stream, peer)
}

fn prepare(socket: &impl AsFd, peer: &Peer) -> io::Result<()> {
    mark(socket);
    if let Some(hops) = peer.ttl_security_hops {
        set_ttl(socket, peer.remote_address, 255)?;
        set_minimum_ttl(socket, peer.remote_address, hops)?;
    } else if let Some(ttl) = peer.ttl {
        set_ttl(socket, peer.remote_address, ttl)?;
    }
    Ok(())
}

/// Marks a socket CS6; without the right to do so the session works all the same.
fn mark(socket: &impl AsFd) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_tos_v4(CS6);
    let _ = socket.set_tclass_v6(CS6);
}

fn set_ttl(socket: &impl AsFd, remote: IpAddr, ttl: u8) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    if remote.is_ipv4() { socket.set_ttl_v4(ttl.into()) } else { socket.set_unicast_hops_v6(ttl.into()) }
}
