//! UDP sockets: many datagrams per system call, aggregated ones taken apart, buffers, drop counters.

#![allow(clippy::cast_possible_truncation, reason = "small numbers in the types of the kernel's interface")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams (or trains of datagrams) per system call: as many as stay in the nearest cache until they are decoded.
pub const MESSAGES: usize = 16;
/// Largest UDP payload, and largest train that the kernel hands over at once.
const PAYLOAD: usize = 65_536;
/// Room per message. Not a power of two: buffers a power of two apart would share their places in the cache.
const STRIDE: usize = PAYLOAD + 4096 + 192;
/// Room for one control message of a 16-bit or 32-bit number.
const CONTROL: usize = 64;

/// Control messages are aligned like the header that begins them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// A buffer for the datagrams of one system call; only what arrives is ever touched (1.1 MiB of addresses).
pub struct Batch {
    payloads: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    /// Point into the boxes above, which never move while `self` lives.
    headers: Box<[libc::mmsghdr]>,
    /// Length and size of the datagrams in it (0: one datagram), per message received.
    received: Vec<(usize, usize)>,
    is_aggregating: bool,
}

// SAFETY: the pointers in `headers` and `vectors` lead to memory that the same value owns.
unsafe impl Send for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("received", &self.received.len()).finish_non_exhaustive()
    }
}

impl Batch {
    /// Room for one system call's datagrams from `socket`. Where the kernel can (Linux 5.0), datagrams of one sender that
    /// arrive back to back come as one train (`UDP_GRO`), which costs a sixth of as many single ones.
    #[must_use]
    pub fn new(socket: &UdpSocket) -> Self {
        // SAFETY: all-zero names, headers and vectors are valid values: integers, null pointers and lengths of 0.
        let (name, header, vector) = unsafe {
            (
                std::mem::zeroed::<libc::sockaddr_storage>(),
                std::mem::zeroed::<libc::mmsghdr>(),
                std::mem::zeroed::<libc::iovec>(),
            )
        };
        let mut batch = Self {
            payloads: vec![0; MESSAGES * STRIDE].into(),
            names: vec![name; MESSAGES].into(),
            controls: vec![Control([0; CONTROL]); MESSAGES].into(),
            vectors: vec![vector; MESSAGES].into(),
            headers: vec![header; MESSAGES].into(),
            received: Vec::with_capacity(MESSAGES),
            is_aggregating: set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1),
        };
        for (i, room) in batch.payloads.chunks_exact_mut(STRIDE).enumerate() {
            batch.vectors[i] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: PAYLOAD };
            let header = &mut batch.headers[i].msg_hdr;
            header.msg_iov = &raw mut batch.vectors[i];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut batch.names[i]).cast();
            if batch.is_aggregating {
                header.msg_control = (&raw mut batch.controls[i]).cast();
            }
        }
        batch.restore(MESSAGES);
        batch
    }

    /// Sets the lengths that the kernel overwrote in the first `count` messages.
    fn restore(&mut self, count: usize) {
        let control = if self.is_aggregating { CONTROL } else { 0 };
        for header in &mut self.headers[..count] {
            header.msg_hdr.msg_namelen = socklen::<libc::sockaddr_storage>();
            header.msg_hdr.msg_controllen = control as _;
        }
    }

    /// Waits for the first datagram as long as the socket's read timeout says, and takes all that are there then.
    ///
    /// # Errors
    /// Those of `recvmmsg`; `WouldBlock` when nothing arrived in time.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.restore(self.received.len());
        self.received.clear();
        // SAFETY: every header points to rooms of the stated lengths inside boxes that `self` owns, each to its own; nothing else
        // refers to them during the call; the descriptor is open as long as `socket` is borrowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                MESSAGES as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for header in self.headers.iter().take(count) {
            let size = if self.is_aggregating { train_size(&header.msg_hdr) } else { 0 };
            self.received.push(((header.msg_len as usize).min(PAYLOAD), size));
        }
        Ok(())
    }

    /// How many messages the last call received: less than [`MESSAGES`] when the socket is empty now.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.received.len()
    }

    /// The datagrams received, with the address of each sender.
    pub fn datagrams(&self) -> impl Iterator<Item = (IpAddr, &[u8])> {
        self.received.iter().enumerate().flat_map(|(i, (length, size))| {
            let payload = &self.payloads[i * STRIDE..i * STRIDE + length];
            let sender = address(&self.names[i]);
            // A train is of equal datagrams, the last may be shorter. An empty datagram is one as well.
            let size = if *size == 0 { PAYLOAD } else { *size };
            payload.chunks(size).map(move |datagram| (sender, datagram))
        })
    }
}

const fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// Size of the datagrams of a train (`UDP_GRO` control message); 0 if it is a single one.
fn train_size(header: &libc::msghdr) -> usize {
    // SAFETY: the kernel has filled in the header and its control room, which are alive; the macros stay inside that room.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_UDP && (*message).cmsg_type == libc::UDP_GRO {
                let size = libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).unwrap_or(0);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    0
}

/// The IP address of a sender; IPv4 mapped into IPv6 is IPv4.
fn address(name: &libc::sockaddr_storage) -> IpAddr {
    let is_v6 = name.ss_family == libc::AF_INET6 as libc::sa_family_t;
    let name = std::ptr::from_ref(name);
    if is_v6 {
        // SAFETY: the family says that it is a `sockaddr_in6`, for which a `sockaddr_storage` has room and alignment.
        let octets = unsafe { (*name.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr };
        Ipv6Addr::from(octets).to_canonical()
    } else {
        // SAFETY: as above; of another family than IPv4 there is none on a UDP socket, and all octets are initialised.
        let bits = unsafe { (*name.cast::<libc::sockaddr_in>()).sin_addr.s_addr };
        IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(bits)))
    }
}

/// Sets an integer option of a socket; false if the kernel refuses.
fn set_option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the kernel reads one integer that outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), socklen::<libc::c_int>())
    };
    result == 0
}

/// Raises the receive buffer beyond `net.core.rmem_max`, which needs `CAP_NET_ADMIN`; false if that is missing.
pub fn raise_receive_buffer(socket: &impl AsRawFd, bytes: usize) -> bool {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))
}

/// What the kernel says of a socket's receive buffer (`SO_MEMINFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveBuffer {
    /// Octets in use, with the kernel's own overhead.
    pub used: u32,
    /// Octets there are.
    pub size: u32,
    /// Datagrams dropped since the socket was opened because the buffer was full.
    pub drops: u32,
}

impl ReceiveBuffer {
    /// How the buffer is now; `None` where the kernel does not say.
    #[must_use]
    pub fn of(socket: &UdpSocket) -> Option<Self> {
        // Places in the answer (linux/sock_diag.h, `SK_MEMINFO_*`).
        const USED: usize = 0;
        const SIZE: usize = 1;
        const DROPS: usize = 8;
        let mut info = [0u32; DROPS + 1];
        let mut length = socklen::<[u32; DROPS + 1]>();
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
        let is_whole = result == 0 && length as usize >= size_of_val(&info);
        is_whole.then_some(Self { used: info[USED], size: info[SIZE], drops: info[DROPS] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn receiver() -> UdpSocket {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("binds");
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("sets");
        receiver
    }

    fn collect(batch: &mut Batch, receiver: &UdpSocket, count: usize) -> Vec<(IpAddr, Vec<u8>)> {
        let mut got = Vec::new();
        while got.len() < count {
            batch.receive(receiver).expect("datagrams are there");
            got.extend(batch.datagrams().map(|(from, data)| (from, data.to_vec())));
        }
        got
    }

    #[test]
    fn a_full_buffer_is_counted() {
        let receiver = receiver();
        let sender = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = receiver.local_addr().expect("bound");
        assert_eq!(ReceiveBuffer::of(&receiver).map(|b| (b.used, b.drops)), Some((0, 0)));
        for _ in 0..2000 {
            sender.send_to(&[0; 1400], address).expect("loopback");
        }
        let full = ReceiveBuffer::of(&receiver).expect("Linux says");
        assert!(full.drops > 0 && full.used > full.size / 2, "{full:?}");
    }

    #[test]
    fn datagrams_keep_their_order_senders_and_bounds() {
        let receiver = receiver();
        let address = receiver.local_addr().expect("bound");
        let senders = ["127.0.0.1:0", "127.0.0.2:0"].map(|a| UdpSocket::bind(a).expect("binds"));
        let mut batch = Batch::new(&receiver);
        let sizes = [1usize, 1400, 9000, 65_507, 3];
        for (i, size) in sizes.into_iter().enumerate() {
            senders[i % 2].send_to(&vec![i as u8; size], address).expect("loopback");
        }
        let got = collect(&mut batch, &receiver, sizes.len());
        for (i, (size, (from, data))) in sizes.into_iter().zip(&got).enumerate() {
            assert_eq!(*from, senders[i % 2].local_addr().expect("bound").ip());
            assert_eq!(*data, vec![i as u8; size]);
        }
        receiver.set_read_timeout(Some(Duration::from_millis(1))).expect("sets");
        let nothing = batch.receive(&receiver).expect_err("nothing is left");
        assert_eq!((nothing.kind(), batch.datagrams().count()), (io::ErrorKind::WouldBlock, 0));
    }

    #[test]
    fn a_train_of_datagrams_is_taken_apart_where_the_kernel_makes_one() {
        let receiver = receiver();
        let sender = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let mut batch = Batch::new(&receiver);
        // The sender's segmentation is what makes a train on loopback.
        if !batch.is_aggregating || !set_option(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, 1000) {
            return;
        }
        let mut train = Vec::new();
        (0..10u8).for_each(|i| train.extend([i; 1000]));
        train.extend([10; 500]);
        sender.send_to(&train, receiver.local_addr().expect("bound")).expect("loopback");
        let got = collect(&mut batch, &receiver, 11);
        assert_eq!(got.iter().map(|(_, d)| d.len()).collect::<Vec<_>>(), [vec![1000; 10], vec![500]].concat());
        assert!(got.iter().enumerate().all(|(i, (_, data))| data.iter().all(|b| usize::from(*b) == i)));
        assert_eq!(batch.received.len(), 1, "one train");
    }

    #[test]
    fn ipv6_senders_and_mapped_ones_are_told_apart() {
        let Ok(receiver) = UdpSocket::bind("[::]:0") else { return };
        receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("sets");
        let port = receiver.local_addr().expect("bound").port();
        let mut batch = Batch::new(&receiver);
        for from in ["127.0.0.1", "::1"] {
            let from: IpAddr = from.parse().expect("literal");
            let Ok(sender) = UdpSocket::bind((from, 0)) else { continue };
            sender.send_to(b"x", (from, port)).expect("loopback");
            assert_eq!(collect(&mut batch, &receiver, 1), [(from, b"x".to_vec())]);
        }
    }
}
