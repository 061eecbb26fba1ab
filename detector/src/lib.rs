//! [`Sample`](collectors::Sample)s to attacks, without I/O: networks, counters, thresholds, evidence, buckets.
//!
//! Every place that compares traffic with an operator's word uses [`Target`] (prefix and direction) and [`Pattern`]
//! (conjunction of conditions on header fields). This crate knows no announcement and no configuration file.

pub mod config;
pub mod pattern;
pub mod target;

pub use config::{BucketLimits, Class, Config, HostGroup, Measure, Thresholds, Unit};
pub use pattern::{BitTest, Bits, Condition, Match, Pattern, Ranges};
pub use target::{Direction, Prefix, Target};
