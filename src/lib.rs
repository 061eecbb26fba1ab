//! Floodwall detects DDoS attacks in flow telemetry or mirrored traffic and mitigates them with BGP FlowSpec rules and blackholes.
//! This is the program: wiring only. The stages are crates of their own.
//!
//! # Bird's eye
//! ```text
//! NetFlow, IPFIX, sFlow, mirror port          (collectors)     wire bytes        -> Sample
//!   -> count per host, alarm, capture         (detector)       Sample            -> Attack, Bucket
//!   -> mine a rule                            (miner)          Bucket            -> Candidate
//!   -> decide, check the rails                (policy)         Attack, Candidate -> Wanted
//!   -> each BGP session reconciles            (bgp, enforcer)  Wanted            -> routers, packet filter
//! ```
//! # Folders
//! | folder | what |
//! |---|---|
//! | `traffic/` | [`traffic`]: the words of all stages: [`traffic::Sample`], [`traffic::Prefix`], [`traffic::Target`] |
//! | `collectors/` | [`collectors`]: [`collectors::Decoder`], packet headers, capture files, worker threads |
//! | `collectors/sys/` | the unsafe code of the workspace behind safe functions |
//! | `detector/` | [`detector`]: counters, evidence, buckets, what is ordinary; no I/O |
//! | `mitigation/flowspec/` | [`flowspec`]: [`flowspec::Pattern`], actions, octets, JSON, router profiles |
//! | `mitigation/miner/` | [`miner`]: the shortest rules that cover a sample; pure |
//! | `mitigation/bgp/` | [`bgp`]: a speaker that makes each peer's table equal to [`bgp::Wanted`] |
//! | `mitigation/policy/` | [`policy::Policy`]: what is wanted; [`policy::rails`]: what may be sent at all |
//! | `mitigation/enforcer/` | [`::enforcer`]: received rules to this host's packet filter |
//! | `config/` | [`config`]: the file: one table of keys, every problem at once |
//! | `operator/` | [`operator`]: requests, orders, answers, events, status, and the clock |
//! | `reporting/` | [`reporting`]: what happened, told to people and kept on disks |
//! | `api/` | [`api`]: HTTP |
//! | `src/` | [`pipeline::Pipeline`] joins the stages; [`daemon`] and [`replay`] drive it; [`control`]; [`cli`] |
//!
//! A crate knows only what stands below it, and of its own line what it takes from:
//! ```text
//! floodwall (src)
//!   api -> reporting -> operator -> config -> collectors, policy, enforcer
//!   policy -> detector, miner, bgp        enforcer -> bgp
//!   detector, miner, bgp -> flowspec      collectors, detector, bgp -> sys
//!   all but sys -> traffic
//! ```
//! `docs/architecture.md` has every edge, threads, queues and locks, and what each of these decisions costs; `docs/adding.md` says which
//! files a new collector, notifier, key or order touches.
//!
//! # Life of a packet
//! A worker thread receives a datagram (or a mirrored frame), decodes it into a small batch of [`traffic::Sample`]s and gives
//! that to its [`detector::Meter`]: find the own host, add to its line in this worker's shard, keep the sample in the look-back
//! ring. Counting takes no lock, allocates nothing, logs nothing and reads no clock.
//!
//! # Life of an attack
//! Every 50 ms the control thread calls [`pipeline::Pipeline::step`]. It reads what grew, and when a host's excess passes the
//! burst tolerance with enough evidence, raises an alarm and opens a bucket, which the look-back ring fills at once. The miner ranks
//! rules, the policy checks its rails and adds to [`bgp::Wanted`]; [`announcers`] have it on disk first, then each BGP session asks its
//! [`bgp::Gate`] and sends the difference. Once a router holds the rule, its
//! traffic no longer counts for the host, and what is left is mined again. A rule lasts `ban_time` at least and goes when its
//! attack has ended. When nothing separates the attack, the host is blackholed.
//!
//! # Life of a changed setting
//! `floodwall set ...` reaches the daemon through [`control`] and edits a candidate; `commit` checks it as a whole, opens what it
//! needs, writes the file, and has [`plant::Plant`] put it into force: each stage has a `reconfigure` that keeps what it has counted,
//! alarmed, announced or learned. SIGHUP takes the same way.
//!
//! # Life of an API request
//! [`api::listener`] bounds it, [`api::auth`] finds the token and its scopes, and [`api::Site::ask`] puts the [`operator::Request`] that
//! the same words on the command line are before the daemon's desk: one way, one audit log. What acts at once is an
//! [`operator::Order`], whoever gives it; [`control::act`] carries it out. Reads that many ask for come from the newest status or, by
//! [`reporting::history`], from a file; neither touches the control thread.
//!
//! # Life of a notification
//! The control thread tells each event to every listener of `src/telling.rs`. One of them is [`reporting::notify`], which gets with it
//! what is known of the target; its own thread writes that into an outbox and sends it to each channel by itself: what hangs there
//! reaches neither the control thread nor BGP.
//!
//! # Invariants
//! * No stage knows a later one; no stage knows [`config`], and [`bgp`] and [`miner`] know no attack. Cargo and `tests/rooms.rs` hold it.
//! * Only [`operator::clock`] reads the clock; a clippy ban says so. Time enters as an argument.
//! * Only [`pipeline::Pipeline`] decides: in `step`, in `collect` for a bucket that is full, and in `request` for an order. Announcers
//!   only reconcile.
//! * Nothing is announced outside our own networks, but for bans of foreign hosts where a peer takes them: [`policy::rails`] are
//!   checked when a route is decided and once more on what is decoded from the octets about to be sent.
//! * The data plane never waits: full rings drop and count.
//! * Everything fed from outside has a documented cap.
//! * Unsafe code stands only in `collectors/sys`; it is forbidden everywhere else.

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
