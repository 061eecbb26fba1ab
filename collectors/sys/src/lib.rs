//! Safe wrappers over what the standard library does not offer: the unsafe code of the workspace.
//!
//! | file | what |
//! |---|---|
//! | `memory` | slices on huge pages, prefetching |
//! | `ring` | AF_PACKET rings, pinning of threads |
//! | `socket` | many datagrams per system call, receive buffers, drop counters |
//! | `tcp` | options of a BGP connection |
//!
//! Every `unsafe` block says why it is sound, and nothing unsafe is left to the caller.

pub mod memory;
pub mod ring;
pub mod socket;
pub mod tcp;

pub use memory::{HugeSlice, prefetch};
pub use ring::{Ring, RingFrame, RingOptions, interface_index, pin_thread};
pub use socket::{Batch, ReceiveBuffer, raise_receive_buffer};
