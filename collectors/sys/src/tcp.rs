//! Options of a BGP connection's socket that neither the standard library nor socket2 knows: TCP MD5 (RFC 2385) and a least TTL
//! (RFC 5082).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Linux: `TCP_MD5SIG`, and the length of its `struct tcp_md5sig` and of the key in it.
const TCP_MD5SIG: i32 = 14;
const MD5SIG_LENGTH: usize = 216;
const MD5SIG_KEY: usize = 80;
/// Linux: `IP_MINTTL` and `IPV6_MINHOPCOUNT`.
const IP_MINTTL: i32 = 21;
const IPV6_MINHOPCOUNT: i32 = 73;

/// Packets from further away than `hops` are dropped by the kernel: sent with TTL 255, they arrive with less.
///
/// # Errors
/// Those of the system call.
pub fn set_minimum_ttl(socket: &impl AsFd, remote: IpAddr, hops: u8) -> io::Result<()> {
    let least = i32::from(255 - hops.saturating_sub(1));
    let (level, name) = match remote {
        IpAddr::V4(_) => (libc::IPPROTO_IP, IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT),
    };
    set_option(socket, level, name, &least.to_ne_bytes())
}

/// Sets the MD5 password towards a peer, 1 to 80 octets, before connecting or on a listener.
///
/// # Errors
/// Another length, or a kernel without TCP MD5.
pub fn set_md5(socket: &impl AsFd, remote: IpAddr, password: &str) -> io::Result<()> {
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

fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; `value` is valid for `length` octets, which the kernel
    // copies during the call and does not keep.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_ptr().cast::<libc::c_void>(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
