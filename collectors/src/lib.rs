//! Wire bytes to [`Sample`]s.
//!
//! Every collector (flow export over UDP, capture file, mirror port) ends in the same type: one packet header or flow
//! record and how much traffic it stands for. This crate knows no counter, no threshold and no configuration file.

pub mod sample;

pub use sample::{Fields, IpVersion, Origin, Sample, Time};
