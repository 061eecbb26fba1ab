//! Attacks to announcements: the miner, the policy with every safety rail, and the BGP speaker that carries the result.

pub mod announce;
pub mod announcement;
pub mod bgp;
pub mod config;
pub mod flowspec;
pub mod miner;
pub mod policy;

pub use announcement::{Announcement, Community, LargeCommunity, Route, Wanted};
pub use config::{Config, Family, FlowSpecOptions, GroupPolicy, Peer};
pub use flowspec::{Action, FlowSpec};
pub use policy::{Decision, DryRun, Mitigation, Policy, Proposal, Refusal};
