//! Safe wrappers over system calls that the standard library does not offer: the unsafe code of this crate.
#![allow(unsafe_code, reason = "one getsockopt; see the SAFETY comment")]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Datagrams that the kernel dropped because the socket's buffer was full, since it was opened (`SO_MEMINFO`); `None` where
/// the kernel does not say.
#[must_use]
pub fn kernel_drops(socket: &UdpSocket) -> Option<u32> {
    /// Place of the drop counter (linux/sock_diag.h, `SK_MEMINFO_DROPS`).
    const DROPS: usize = 8;
    let mut info = [0u32; DROPS + 1];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes at most `length` octets to `info`, which is that long and outlives the call; the file
    // descriptor is open as long as `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0 && length as usize >= size_of_val(&info)).then_some(info[DROPS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = receiver.local_addr().expect("bound");
        assert_eq!(kernel_drops(&receiver), Some(0));
        for _ in 0..2000 {
            sender.send_to(&[0; 1400], address).expect("loopback");
        }
        assert!(kernel_drops(&receiver).expect("Linux says") > 0);
    }
}
