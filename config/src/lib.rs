//! The configuration file and its words.
//!
//! The file mirrors FastNetMon's words one to one (`set main ban_time 1900` is `ban_time = 1900` under `[main]`), so that an
//! operator who knows one knows the other. One table ([`schema::keys`]) holds every key with its kind, default, meaning and scope;
//! parsing, "did you mean", completion and `reference.toml` all come from it. [`check::check`] finds every problem at once and
//! turns the draft into the typed configurations of the stages, which are right by construction.

pub mod announcing;
pub mod api;
pub mod candidate;
pub mod check;
pub mod collecting;
mod communities;
pub mod counting;
pub mod detection;
pub mod enforcer;
pub mod export;
pub mod hostgroup;
pub mod import;
pub mod kind;
pub mod notify;
pub mod peer;
pub mod process;
pub mod reference;
pub(crate) mod report;
pub mod router;
pub mod schema;
pub mod secrets;
pub(crate) mod value;
pub mod words;

use std::path::PathBuf;

pub use api::Api;
pub use check::{Problem, check};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Sources of traffic.
    pub collectors: collectors::Config,
    /// Thresholds and host groups.
    pub detector: detector::Config,
    /// Policy and BGP peers.
    pub mitigation: policy::Config,
    /// The HTTP listeners.
    pub api: Api,
    /// What is kept of the past.
    pub history: api::History,
    /// Who is told of what is announced.
    pub notify: Vec<notify::Channel>,
    /// Where rates go.
    pub export: export::Export,
    /// Where state is kept.
    pub state_directory: PathBuf,
    /// Every local user may ask through the control socket.
    pub control_socket_others_may_read: bool,
    /// `error`, `warn`, `info` or `debug`.
    pub logging_level: String,
    /// This host as a FlowSpec router, if `[enforcer]` says so.
    pub enforcement: Option<enforcer::Enforcement>,
}

impl Default for Config {
    /// What an empty file means: nothing listens but the loopback HTTP, nothing is announced (decision 17).
    fn default() -> Self {
        check("").unwrap_or_else(|problems| unreachable!("the empty file is valid: {problems:?}"))
    }
}
