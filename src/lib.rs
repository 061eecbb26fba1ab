//! Floodwall detects DDoS attacks in flow telemetry or mirrored traffic and mitigates them with BGP FlowSpec rules and blackholes.
//! This is the program: wiring only. The stages are crates of their own.
//!
//! # Bird's eye
//! ```text
//! NetFlow, IPFIX, sFlow, mirror port          (collectors)  wire bytes      -> Sample
//!   -> count per host, alarm, capture         (detector)    Sample          -> Attack, Bucket
//!   -> mine a rule, check the rails           (mitigation)  Attack, Bucket  -> Wanted announcements
//!   -> each BGP session reconciles            (mitigation)  Wanted          -> routers
//! ```
//! # Folders
//! | folder | what |
//! |---|---|
//! | `collectors/` | [`collectors::Decoder`], packet headers, capture files, worker threads |
//! | `detector/` | [`traffic::Target`], [`flowspec::Pattern`], counters, evidence, buckets; no I/O |
//! | `mitigation/` | [`miner`], [`policy::Policy`], [`bgp`], announcers, [`enforcer`] |
//! | `config/` | the file: one table of keys, every problem at once |
//! | `src/` | [`pipeline::Pipeline`] joins the stages; [`daemon`] and [`replay`] drive it |
//!
//! The crate graph is a line, `floodwall -> config -> mitigation -> detector -> collectors`: a stage knows only what it takes from.
//!
//! # Life of a packet
//! A worker thread receives a datagram (or a mirrored frame), decodes it into a small batch of [`traffic::Sample`]s and gives
//! that to its [`detector::Meter`]: find the own host, add to its line in this worker's shard, keep the sample in the look-back
//! ring. No lock, allocation, log or clock per sample.
//!
//! # Life of an attack
//! Every 50 ms the control thread calls [`pipeline::Pipeline::step`]. It reads what grew, and when a host's excess passes the
//! burst tolerance with enough evidence, raises an alarm and opens a bucket, which the look-back ring fills at once. The miner ranks
//! rules, the policy checks its rails and adds to `Wanted`; each BGP session sends the difference. Once a router holds the rule, its
//! traffic no longer counts for the host, and what is left is mined again. A rule lasts `ban_time` at least and goes when its
//! attack has ended. When nothing separates the attack, the host is blackholed.
//!
//! # Life of a changed setting
//! `floodwall set ...` reaches the daemon through [`control`] and edits a candidate; `commit` checks it as a whole, opens what it
//! needs, writes the file, and has [`plant::Plant`] put it into force: each stage has a `reconfigure` that keeps what it has counted,
//! alarmed, announced or learned. SIGHUP takes the same way.
//!
//! # Life of an API request
//! [`api::listener`] bounds it, [`api::auth`] finds the token and its scopes, and [`api::Site::ask`] puts the request that the same
//! words on the command line are before the daemon's desk: one way, one audit log. Reads that many ask for come from the newest
//! status or, by [`history`], from a file; neither touches the control thread.
//!
//! # Life of a notification
//! The control thread hands each event with what it knows of the target to [`notify`], whose own thread writes it into an outbox and
//! sends it to each channel by itself: what hangs there reaches neither the control thread nor BGP.
//!
//! # Invariants
//! * No stage knows a later one; no stage knows `config`.
//! * Only `clock.rs` reads the clock; a clippy ban says so. Time enters as an argument.
//! * Only [`pipeline::Pipeline::step`] decides (and [`pipeline::Pipeline::collect`], between steps, for a bucket that is full);
//!   announcers only reconcile.
//! * `bgp` knows no attack.
//! * Unsafe code stands only in `collectors/sys`; it is forbidden everywhere else.
//! * The data plane never waits: full rings drop and count.
//! * Everything fed from outside has a documented cap.
//! * Nothing is announced outside our own networks, checked in the policy and once more on what is about to be encoded.

pub mod announcers;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod demo;
mod describe;
pub mod enforcer;
mod exporters;
mod learned;
pub mod log;
mod ordinary;
pub mod pipeline;
pub mod plant;
pub mod replay;
pub mod store;
mod telling;
