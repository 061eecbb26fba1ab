//! AF_PACKET with a ring of blocks (`TPACKET_V3`): the kernel fills blocks of frames in memory that both sides see, and hands
//! over a block when it is full or old. No system call and no copy per frame. Needs CAP_NET_RAW.

#![allow(clippy::cast_possible_truncation, reason = "small numbers in the types of the kernel's interface")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::memory::prefetch;

/// Octets of a block.
const BLOCK: usize = 1 << 20;
/// A block that is not full is handed over after so many milliseconds: half the detector's tick. A quiet port wakes its worker forty
/// times a second and not at every frame; at an attack's rates blocks are full long before.
const RETIRE_MS: u32 = 24;
/// Octets before the first frame of a block, at least; a frame cannot begin earlier.
const BLOCK_HEADER: usize = size_of::<libc::tpacket_block_desc>();

/// How a ring is opened.
#[derive(Debug, Clone)]
pub struct RingOptions<'a> {
    /// The interface's index (`if_nametoindex`).
    pub interface: u32,
    /// Size in blocks of 1 MiB.
    pub blocks: u32,
    /// Several rings of one group share the frames of an interface, by flow; the number is the group's.
    pub fanout: Option<u16>,
    /// A classic BPF program that decides which frames are taken, and how much of each.
    pub program: &'a [libc::sock_filter],
}

/// A ring of frames of one interface.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    start: NonNull<u8>,
    blocks: usize,
    next: usize,
    drops: u64,
}

// SAFETY: the mapping is owned by the ring and is used through `&mut self` only.
unsafe impl Send for Ring {}

/// One frame in a block.
#[derive(Debug, Clone, Copy)]
pub struct RingFrame<'a> {
    /// From the link layer's header on, as far as captured. A VLAN tag that the network card took off is not in it.
    pub data: &'a [u8],
    /// Length on the wire (without a tag that was taken off).
    pub original_length: u32,
    /// The tag that was taken off: TPID and TCI.
    pub tag: Option<(u16, u16)>,
}

impl Ring {
    /// Opens a ring.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, and those of the socket options.
    pub fn open(options: &RingOptions<'_>) -> io::Result<Self> {
        // Protocol 0: nothing arrives before the ring and its filter are ready.
        // SAFETY: no pointers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was opened just now and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        set(&socket, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as libc::c_int))?;
        // Frames that this host sends on the interface are not what is mirrored to it. Old kernels lack the option.
        let _ = set(&socket, libc::PACKET_IGNORE_OUTGOING, &1i32);
        let frame = 2048;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: options.blocks.max(2),
            tp_frame_size: frame,
            tp_frame_nr: BLOCK as u32 / frame * options.blocks.max(2),
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::PACKET_RX_RING, &request)?;
        attach(&socket, options.program)?;
        let blocks = options.blocks.max(2) as usize;
        // SAFETY: a new shared mapping of the ring that the kernel made for this socket, as long as asked for.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                blocks * BLOCK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at address 0"))?;
        let ring = Self { socket, start, blocks, next: 0, drops: 0 };
        ring.bind(options.interface)?;
        if let Some(group) = options.fanout {
            let by_flow = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_DEFRAG;
            set(&ring.socket, libc::PACKET_FANOUT, &(u32::from(group) | by_flow << 16))?;
        }
        Ok(ring)
    }

    fn bind(&self, interface: u32) -> io::Result<()> {
        // SAFETY: an all-zero address is a valid value: integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = interface.cast_signed();
        // SAFETY: the kernel reads an address of that size, which outlives the call.
        let result = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let membership = libc::packet_mreq {
            mr_ifindex: interface.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&self.socket, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// The hardware type of the interface (`ARPHRD_*`): what its frames begin with.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn hardware_type(&self) -> io::Result<u16> {
        // SAFETY: an all-zero address is a valid value: integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` octets to the address, which is that long and outlives the call.
        let result = unsafe { libc::getsockname(self.socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(address.sll_hatype) }
    }

    /// Waits until a block may be ready; false after the time is over.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface went down.
    pub fn wait(&self, time: Duration) -> io::Result<bool> {
        let mut ready = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN | libc::POLLERR, revents: 0 };
        let ms = libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one descriptor set that outlives the call.
        let count = unsafe { libc::poll(&raw mut ready, 1, ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        if ready.revents & libc::POLLERR != 0 {
            return Err(self.pending_error());
        }
        Ok(count > 0)
    }

    fn pending_error(&self) -> io::Error {
        let mut code: libc::c_int = 0;
        match get(&self.socket, libc::SOL_SOCKET, libc::SO_ERROR, &mut code) {
            Ok(()) if code != 0 => io::Error::from_raw_os_error(code),
            _ => io::Error::other("the interface went away"),
        }
    }

    /// The present block and its status word.
    fn block(&self) -> (NonNull<u8>, &AtomicU32) {
        // SAFETY: `next` is below `blocks`: the address lies inside the mapping.
        let start = unsafe { self.start.add(self.next * BLOCK) };
        let descriptor = start.cast::<libc::tpacket_block_desc>();
        // SAFETY: a descriptor stands at the start of every block, aligned to a page; the status word is shared with the kernel and
        // accessed atomically only.
        let status = unsafe { AtomicU32::from_ptr(&raw mut (*descriptor.as_ptr()).hdr.bh1.block_status) };
        (start, status)
    }

    /// The next block that the kernel handed over, as its frames in order; `None` if there is none yet. The block goes back to the
    /// kernel when `each` has seen all.
    pub fn next_block(&mut self, mut each: impl FnMut(RingFrame<'_>)) -> bool {
        let (start, status) = self.block();
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        let descriptor = start.cast::<libc::tpacket_block_desc>().as_ptr();
        // SAFETY: the kernel has handed the block over (acquired above) and does not write to it until the status is changed; the
        // header is plain integers.
        let header = unsafe { (&raw const (*descriptor).hdr.bh1).read() };
        // SAFETY: the whole block lies in the mapping and belongs to us now. The status word is in the header before `BLOCK_HEADER`,
        // which the slice leaves out.
        let block =
            unsafe { std::slice::from_raw_parts(start.as_ptr().add(BLOCK_HEADER).cast_const(), BLOCK - BLOCK_HEADER) };
        frames(block, header.offset_to_first_pkt as usize, header.num_pkts, &mut each);
        let (_, status) = self.block();
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.blocks;
        true
    }

    /// Frames that the kernel dropped because the ring was full, since it was opened.
    pub fn drops(&mut self) -> u64 {
        let mut statistics = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        // Reading sets the kernel's counters to zero.
        if get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut statistics).is_ok() {
            self.drops += u64::from(statistics.tp_drops);
        }
        self.drops
    }
}

/// Calls `each` with the frames of a block. `block` is the block without its first [`BLOCK_HEADER`] octets; offsets are from its
/// true start. What contradicts itself ends the block.
fn frames(block: &[u8], first: usize, count: u32, each: &mut impl FnMut(RingFrame<'_>)) {
    let Some(mut at) = first.checked_sub(BLOCK_HEADER) else { return };
    for _ in 0..count {
        let Some(header) = header_at(block, at) else { return };
        let next = at + header.tp_next_offset as usize;
        // The next header is on its way while this frame is looked at.
        if let Some(octet) = block.get(next) {
            prefetch(octet);
            if let Some(octet) = block.get(next + 128) {
                prefetch(octet);
            }
        }
        let start = at + usize::from(header.tp_mac);
        let Some(data) = block.get(start..start + header.tp_snaplen as usize) else { return };
        let tpid =
            if header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { header.hv1.tp_vlan_tpid } else { 0x8100 };
        let is_tagged = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        let tag = is_tagged.then_some((tpid, header.hv1.tp_vlan_tci as u16));
        each(RingFrame { data, original_length: header.tp_len, tag });
        if header.tp_next_offset == 0 {
            return;
        }
        at = next;
    }
}

fn header_at(block: &[u8], at: usize) -> Option<libc::tpacket3_hdr> {
    let octets = block.get(at..at + size_of::<libc::tpacket3_hdr>())?;
    // SAFETY: as many octets as a header has are there; every pattern of bits is a valid header: integers.
    Some(unsafe { octets.as_ptr().cast::<libc::tpacket3_hdr>().read_unaligned() })
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.blocks * BLOCK) };
    }
}

fn set<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, name, value)
}

fn set_at<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads at most as many octets as the value has, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `T` must be plain integers: the kernel writes it.
fn get<T: Copy>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to the value, which is that long, holds integers only (both callers), and
    // outlives the call.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(value).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn attach(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Index of an interface; `None` if there is none of that name.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a string that ends with a zero and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index > 0).then_some(index)
}

/// Keeps the calling thread on one processor; false if the system does not let it.
pub fn pin_thread(processor: usize) -> bool {
    // SAFETY: an all-zero set is a valid value, and `CPU_SET` stays inside it for numbers below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor % (8 * size_of::<libc::cpu_set_t>()), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as the kernel lays it out, without its header.
    fn block(frames: &[&[u8]]) -> Vec<u8> {
        let mut block = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            let length = (48 + 32 + frame.len()).next_multiple_of(16) as u32;
            let mut header = [0u8; 48];
            let mut put = |at: usize, octets: &[u8]| header[at..at + octets.len()].copy_from_slice(octets);
            put(0, &(if i + 1 == frames.len() { 0 } else { length }).to_ne_bytes());
            put(12, &(frame.len() as u32).to_ne_bytes());
            put(16, &(frame.len() as u32 + 100).to_ne_bytes());
            put(20, &(libc::TP_STATUS_USER | libc::TP_STATUS_VLAN_VALID).to_ne_bytes());
            put(24, &80u16.to_ne_bytes());
            put(32, &7u32.to_ne_bytes());
            let start = block.len();
            block.extend(header);
            block.resize(start + 80, 0);
            block.extend(*frame);
            block.resize(start + length as usize, 0);
        }
        block
    }

    #[test]
    fn frames_of_a_block_are_found_with_their_tags_and_lengths() {
        let block = block(&[b"first", b"", b"third frame"]);
        let mut seen = Vec::new();
        frames(&block, BLOCK_HEADER, 3, &mut |f| seen.push((f.data.to_vec(), f.original_length, f.tag)));
        let tag = Some((0x8100, 7));
        assert_eq!(seen, [(b"first".to_vec(), 105, tag), (Vec::new(), 100, tag), (b"third frame".to_vec(), 111, tag)]);
    }

    #[test]
    fn a_block_that_contradicts_itself_ends_early() {
        let mut block = block(&[b"first", b"second"]);
        block[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        let mut count = 0;
        frames(&block, BLOCK_HEADER, 2, &mut |_| count += 1);
        frames(&block, BLOCK_HEADER, u32::MAX, &mut |_| count += 1);
        frames(&block, 0, 2, &mut |_| count += 1);
        frames(&block[..20], BLOCK_HEADER, 2, &mut |_| count += 1);
        assert_eq!(count, 0);
    }

    #[test]
    fn what_passes_loopback_is_seen_by_a_ring() {
        let program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 128 }];
        let interface = interface_index("lo").expect("loopback");
        let options = RingOptions { interface, blocks: 4, fanout: None, program: &program };
        // Without CAP_NET_RAW there is nothing to test.
        let Ok(mut ring) = Ring::open(&options) else { return };
        assert_eq!(ring.hardware_type().expect("bound"), libc::ARPHRD_LOOPBACK);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let mark: [u8; 32] = std::array::from_fn(|i| i as u8 ^ 0x5a);
        socket.send_to(&mark, socket.local_addr().expect("bound")).expect("loopback");
        let mut found = false;
        for _ in 0..500 {
            while ring.next_block(|frame| found |= frame.data.windows(32).any(|w| w == mark)) {}
            if found {
                break;
            }
            ring.wait(Duration::from_millis(20)).expect("loopback is up");
        }
        assert!(found);
        assert_eq!(ring.drops(), 0);
    }
}
