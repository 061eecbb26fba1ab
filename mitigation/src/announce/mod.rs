//! Announcers: each keeps a part of the world equal to [`crate::Wanted`].

pub mod bgp;
pub mod canary;
pub mod exabgp;
pub mod router;
