//! The words of traffic, which every stage shares: [`Sample`], [`Time`], [`Prefix`], [`Direction`], [`Target`], [`Networks`].
//!
//! A collector makes samples, the detector counts them, the miner looks for what they have in common, a rule is matched against
//! them. This crate knows no bytes of a protocol, no rule, no counter and no configuration.

pub mod networks;
pub mod protocol;
pub mod sample;
pub mod target;

pub use networks::Networks;
pub use sample::{Fields, IpVersion, Origin, Sample, Time};
pub use target::{Direction, Prefix, Target};
