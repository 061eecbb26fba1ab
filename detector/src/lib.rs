//! [`Sample`](traffic::Sample)s to attacks, without I/O: networks, counters, thresholds, evidence, buckets.
//!
//! Every place that compares traffic with an operator's word uses [`Target`](traffic::Target) (prefix and direction) and [`Pattern`](flowspec::Pattern)
//! (conjunction of conditions on header fields). This crate knows no announcement and no configuration file.

pub mod attack;
pub mod baseline;
mod checks;
pub mod config;
pub mod counters;
pub mod detector;
mod exporters;
pub mod hosts;
mod life;
mod marks;
pub mod membership;
pub mod meter;
pub mod prefixes;
pub mod rate;
pub mod routers;
pub mod scan;
mod spills;
pub mod spread;
pub mod survey;
mod table;
pub mod tops;
pub mod tracks;

pub use attack::{Attack, Bucket, Crossing, Event, Phase, rate_text};
pub use baseline::{Baselines, Kept, Learned, Memory};
pub use config::{
    BucketLimits, Class, Config, HostGroup, Learning, Measure, Thresholds, TrafficRule, Unit, Whitelisted,
};
pub use detector::{Detector, Reconfigured, Statistics};
pub use hosts::{HostId, Hosts, Lookup};
pub use membership::Membership;
pub use meter::{Filter, Meter};
pub use prefixes::Scope;
pub use rate::{Evidence, Recorded, lower_bound};
pub use routers::Routers;
pub use tops::{Composition, Share, Tops};
