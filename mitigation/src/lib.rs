//! Attacks to announcements: the miner, the policy with every safety rail, and the BGP speaker that carries the result.

pub mod announce;
pub mod announcement;
pub mod bgp;
pub mod budget;
pub mod config;
pub mod enforce;
pub mod policy;
pub mod rails;

pub use announcement::{Announcement, Community, ExtendedCommunity, LargeCommunity, Origin, Route, Wanted};
pub use config::{
    Classes, Config, ConnectionMode, ExaBgp, Family, FlowSpecOptions, GroupPolicy, Mode, OnShutdown, Peer, Rung,
    UnicastForm,
};
pub use policy::{Decision, DryRun, Held, Mitigation, Order, OrderError, Policy, Proposal, Refusal};
