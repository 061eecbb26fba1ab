//! Received FlowSpec to this host's packet filter: a white box, a Linux router or a server becomes a FlowSpec router.
//!
//! ```text
//! BGP session ─┐                  ┌─ nftables: one table, one transaction per change
//! ExaBGP JSON ─┼─▶ Adj-RIB-In ─▶ Table ─▶ back end ─┼─ ACL files and a reload command
//! Wanted      ─┘   per source     one order          └─ print
//! ```
//! [`table::Table`] puts the rules of all sources into the order of RFC 8955 section 5.1 and says of each what became of it:
//! installed, or not installed and why. What a back end cannot express exactly is not installed; nothing is approximated.
//! [`ruleset`] compiles rules to nftables chains and maps whose lookup does not grow with the number of rules.

mod acl;
pub mod config;
pub mod engine;
pub mod exabgp;
mod expression;
mod iptables;
pub mod model;
pub mod nftables;
pub mod plan;
mod process;
pub mod receiver;
mod redirect;
pub mod ruleset;
pub mod sources;
pub mod table;

pub use config::{AclConfig, BackEndConfig, Config, Redirect, Source};
pub use engine::{Enforcer, EnforcerStatus, RuleStatus};
pub use receiver::Receiver;
pub use sources::{SourceStatus, Tables, Wake};
