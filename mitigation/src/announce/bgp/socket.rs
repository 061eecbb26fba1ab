//! Socket options that a BGP connection needs: TCP MD5 (RFC 2385), GTSM (RFC 5082), DSCP CS6. The one place of this crate with
//! unsafe code: a `setsockopt` of what neither the standard library nor socket2 knows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::Peer;

/// DSCP CS6 in the traffic class octet (RFC 4594 section 3.1: network control).
const CS6: u32 = 48 << 2;
/// Linux: `TCP_MD5SIG`, and the length of its `struct tcp_md5sig` and of the key in it.
const TCP_MD5SIG: i32 = 14;
const MD5SIG_LENGTH: usize = 216;
const MD5SIG_KEY: usize = 80;
/// Linux: `IP_MINTTL` and `IPV6_MINHOPCOUNT`.
const IP_MINTTL: i32 = 21;
const IPV6_MINHOPCOUNT: i32 = 73;
const BACKLOG: u32 = 64;

/// Connects to a peer from its local address, with its password and TTL.
pub(crate) async fn connect(peer: &Peer) -> io::Result<TcpStream> {
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
pub(crate) fn listen(address: SocketAddr, peers: &[&Peer]) -> io::Result<TcpListener> {
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
pub(crate) fn accepted(stream: &TcpStream, peer: &Peer) -> io::Result<()> {
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

/// Packets from further away than `hops` are dropped by the kernel: sent with TTL 255, they arrive with less.
fn set_minimum_ttl(socket: &impl AsFd, remote: IpAddr, hops: u8) -> io::Result<()> {
    let least = i32::from(255 - hops.saturating_sub(1));
    let (level, name) = match remote {
        IpAddr::V4(_) => (libc::IPPROTO_IP, IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT),
    };
    set_option(socket, level, name, &least.to_ne_bytes())
}

/// Sets the MD5 password towards a peer, before connecting or on a listener.
fn set_md5(socket: &impl AsFd, remote: IpAddr, password: &str) -> io::Result<()> {
    let key = password.as_bytes();
    if key.is_empty() || key.len() > MD5SIG_KEY {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "md5_auth_password has 1 to 80 octets"));
    }
    // struct tcp_md5sig: sockaddr_storage (128), flags, prefixlen, keylen (2), ifindex (4), key (80).
    let mut option = [0u8; MD5SIG_LENGTH];
    let family = if remote.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    option[..2].copy_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
    match remote {
        IpAddr::V4(address) => option[4..8].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => option[8..24].copy_from_slice(&address.octets()),
    }
    option[130..132].copy_from_slice(&u16::try_from(key.len()).unwrap_or(0).to_ne_bytes());
    option[136..136 + key.len()].copy_from_slice(key);
    set_option(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &option)
        .map_err(|e| io::Error::new(e.kind(), format!("this kernel does not take md5_auth_password: {e}")))
}

#[allow(unsafe_code, reason = "the one socket-option helper of the workspace")]
fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; `value` is valid for `length` octets, which the kernel
    // copies during the call and does not keep.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_ptr().cast::<libc::c_void>(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
