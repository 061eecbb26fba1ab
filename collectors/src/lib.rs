//! Wire bytes to [`Sample`](traffic::Sample)s.
//!
//! Every collector (flow export over UDP, capture file, mirror port) ends in the same type: one packet header or flow
//! record and how much traffic it stands for. This crate knows no counter, no threshold and no configuration file.

pub mod capture;
pub mod config;
mod context;
pub mod counters;
pub mod decoder;
mod domain;
mod elements;
pub mod error;
pub mod exporter;
pub mod exporters;
mod filter;
mod ipfix;
mod mirror;
mod netflow5;
pub mod packet;
mod pending;
mod plain;
mod plan;
mod pools;
mod record;
pub mod recording;
mod reports;
mod roster;
mod sampling;
mod sequence;
mod sflow;
mod span;
pub mod state;
pub mod template;
mod totals;
pub mod tunnel;
pub mod worker;

pub use config::{Block, Config, ExporterSettings, Interface, Listener, RateOverrides, Vantage};
pub use counters::Counters;
pub use decoder::Decoder;
pub use error::{Aside, Reason, Statistics, Volume};
pub use exporter::{Health, RateSource};
pub use exporters::Exporters;
pub use pools::Contradiction;
pub use recording::{Content, Recording};
pub use tunnel::Encapsulation;
pub use worker::{Opening, Sink, StartError, WorkerStatistics, Workers, start};
