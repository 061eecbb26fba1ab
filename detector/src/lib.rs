//! [`Sample`](collectors::Sample)s to attacks, without I/O: networks, counters, thresholds, evidence, buckets.
//!
//! Every place that compares traffic with an operator's word uses [`Target`] (prefix and direction) and [`Pattern`]
//! (conjunction of conditions on header fields). This crate knows no announcement and no configuration file.

pub mod attack;
pub mod config;
pub mod counters;
pub mod detector;
pub mod hosts;
pub mod meter;
pub mod networks;
pub mod pattern;
pub mod rate;
pub mod spread;
pub mod target;

pub use attack::{Attack, Bucket, Crossing, Event, rate_text};
pub use config::{BucketLimits, Class, Config, HostGroup, Measure, Thresholds, Unit};
pub use detector::{Detector, Reconfigured, Statistics};
pub use hosts::{HostId, Hosts, Lookup};
pub use meter::{Filter, Meter};
pub use networks::{Membership, Networks};
pub use pattern::{BitTest, Bits, Condition, Match, Pattern, PatternError, Ranges};
pub use rate::{Evidence, lower_bound};
pub use target::{Direction, Prefix, Target};
