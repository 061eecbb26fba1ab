//! BGP peers over TCP. [`Peers`] makes the running sessions equal to the configuration; each peer has a driver that makes its table
//! equal to the wanted set.
//!
//! ```text
//! Pipeline -> Wanted (watch) -> driver per peer -> AdjRibOut -> TCP
//!                   ^ heartbeat: without it everything is withdrawn     listener -> driver (peers that connect)
//! ```

mod driver;
mod listener;
mod quarantine;
pub mod socket;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use traffic::Time;

use crate::announcement::Wanted;
use crate::gate::Gate;
use crate::peer::{OnShutdown, Peer};
use crate::session::{Session, SessionConfig};

pub use status::PeerStatus;

use driver::{Driver, Local};
use listener::Listener;

/// The current time, injected: this crate reads no clock. Differences count, so a clock that never jumps is best.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// What all peers share.
pub struct Shared {
    clock: Clock,
    halt: watch::Sender<bool>,
    heartbeat: AtomicU64,
    settings: Mutex<Settings>,
}

/// What a commit may change under all running sessions.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Without a sign of life from whoever decides everything is withdrawn after this long; zero: never.
    pub dead_man: Duration,
    /// A session that drops this soon after a new route puts the route into quarantine.
    pub quarantine: Duration,
    /// Share of each router's rules kept for operators, 0 to 1.
    pub rule_reserve: f64,
    /// What becomes of routes when the program ends.
    pub on_shutdown: OnShutdown,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

impl Shared {
    fn settings(&self) -> Settings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sign of life of whoever decides; without one for `dead_man_time` everything is withdrawn.
    pub fn beat(&self) {
        self.heartbeat.store((self.clock)().0, Ordering::Release);
    }

    fn is_dead(&self, now: Time) -> bool {
        let last = Time(self.heartbeat.load(Ordering::Acquire));
        let dead_man = self.settings().dead_man;
        !dead_man.is_zero() && now.since(last) > dead_man
    }

    /// The kill switch: while it is on, every peer is sent nothing and what it holds is withdrawn, whatever else is wanted.
    pub fn set_halted(&self, halted: bool) {
        self.halt.send_if_modified(|before| std::mem::replace(before, halted) != halted);
    }
}

/// What a driver is told.
#[derive(Debug)]
enum Command {
    /// The peer connected.
    Accepted(TcpStream),
    /// Other settings that need no new session, and a gate.
    Settings(Box<(Peer, Arc<dyn Gate>)>),
    /// End; `keep` leaves the routes where graceful restart is in force.
    Stop { keep: bool },
}

/// A running peer.
#[derive(Debug)]
pub struct PeerHandle {
    /// Its configuration.
    pub peer: Peer,
    /// Its status; changes wake the receiver.
    pub status: watch::Receiver<PeerStatus>,
    commands: mpsc::UnboundedSender<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl PeerHandle {
    async fn end(self, keep: bool) {
        let _ = self.commands.send(Command::Stop { keep });
        let abort = self.task.abort_handle();
        if tokio::time::timeout(Duration::from_secs(2), self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// What canary peers are to be sent, and what the others are.
#[derive(Debug, Clone)]
pub struct Feed {
    /// For peers with `canary` set; they get new routes first.
    pub canary: watch::Receiver<Arc<Wanted>>,
    /// For all others.
    pub others: watch::Receiver<Arc<Wanted>>,
}

impl Feed {
    /// The same for all.
    #[must_use]
    pub fn same(wanted: watch::Receiver<Arc<Wanted>>) -> Self {
        Self { canary: wanted.clone(), others: wanted }
    }
}

/// Running sessions.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    feed: Feed,
    handles: BTreeMap<String, PeerHandle>,
    listeners: BTreeMap<SocketAddr, Listener>,
    roster: watch::Sender<Roster>,
    seed: u64,
    restarted: bool,
}

/// Running peers and where their status is.
pub type Roster = BTreeMap<String, watch::Receiver<PeerStatus>>;

impl Peers {
    /// None yet. `restarted` says in the first OPENs that routes of an earlier run are known (graceful restart).
    #[must_use]
    pub fn new(settings: Settings, feed: Feed, clock: Clock, seed: u64, restarted: bool) -> Self {
        let shared = Shared {
            halt: watch::channel(false).0,
            heartbeat: AtomicU64::new(clock().0),
            settings: Mutex::new(settings),
            clock,
        };
        Self {
            shared: Arc::new(shared),
            feed,
            handles: BTreeMap::new(),
            listeners: BTreeMap::new(),
            roster: watch::channel(Roster::new()).0,
            seed,
            restarted,
        }
    }

    /// What all peers share: heartbeat and kill switch.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Who runs; changes wake the receiver.
    #[must_use]
    pub fn roster(&self) -> watch::Receiver<Roster> {
        self.roster.subscribe()
    }

    /// Running peers by name.
    pub fn iter(&self) -> impl Iterator<Item = &PeerHandle> {
        self.handles.values()
    }

    /// Makes the running sessions those of `peers`, each with the gate that says what it may be sent: a peer keeps its session
    /// unless what the session itself rests on has changed. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be listened on; then no session was changed.
    pub async fn apply(&mut self, settings: Settings, peers: &[(Peer, Arc<dyn Gate>)]) -> io::Result<()> {
        let mut wanted: BTreeMap<SocketAddr, Vec<&Peer>> = BTreeMap::new();
        for (peer, _) in peers {
            if let Some(address) = listener::address(peer) {
                wanted.entry(address).or_default().push(peer);
            }
        }
        // Passwords and TTLs belong to the sockets: they are made anew when a peer of theirs changes.
        let mut bound = Vec::new();
        for (address, peers) in &wanted {
            let same = self.listeners.get(address).is_some_and(|l| l.serves(peers));
            if !same {
                self.listeners.remove(address);
                // The aborted task must have dropped its socket.
                tokio::task::yield_now().await;
                bound.push((*address, listener::bind(*address, peers)?));
            }
        }
        *self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
        self.end_changed(peers).await;
        for (i, (peer, gate)) in peers.iter().enumerate() {
            let gate = Arc::clone(gate);
            if let Some(handle) = self.handles.get_mut(&peer.name) {
                handle.peer = peer.clone();
                let _ = handle.commands.send(Command::Settings(Box::new((peer.clone(), gate))));
            } else {
                let handle = self.start(peer, gate, self.seed ^ (i as u64 + 1));
                self.handles.insert(peer.name.clone(), handle);
            }
        }
        self.listeners.retain(|address, _| wanted.contains_key(address));
        for (address, socket) in bound {
            let peers = wanted.get(&address).map(Vec::as_slice).unwrap_or_default();
            let doors =
                peers.iter().filter_map(|p| Some((p.remote_address, self.handles.get(&p.name)?.commands.clone())));
            self.listeners.insert(address, listener::serve(socket, peers, doors.collect()));
        }
        self.roster.send_replace(self.handles.iter().map(|(name, h)| (name.clone(), h.status.clone())).collect());
        // Peers that were started anew behind a socket that stayed.
        for (address, listener) in &self.listeners {
            let peers = wanted.get(address).map(Vec::as_slice).unwrap_or_default();
            listener.set_doors(
                peers
                    .iter()
                    .filter_map(|p| Some((p.remote_address, self.handles.get(&p.name)?.commands.clone())))
                    .collect(),
            );
        }
        Ok(())
    }

    /// Ends sessions that are no longer configured, or cannot go on as they are.
    async fn end_changed(&mut self, peers: &[(Peer, Arc<dyn Gate>)]) {
        let stays = |h: &PeerHandle| peers.iter().any(|(p, _)| p.same_session(&h.peer));
        let gone: Vec<String> = self.handles.values().filter(|h| !stays(h)).map(|h| h.peer.name.clone()).collect();
        for name in gone {
            if let Some(handle) = self.handles.remove(&name) {
                // One that comes back with other settings restarts gracefully where it can.
                let address = handle.peer.remote_address;
                handle.end(peers.iter().any(|(p, _)| p.name == name && p.remote_address == address)).await;
            }
        }
    }

    fn start(&self, peer: &Peer, gate: Arc<dyn Gate>, seed: u64) -> PeerHandle {
        let clock = &self.shared.clock;
        let (status, status_out) = watch::channel(PeerStatus::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let session = Session::new(
            clock(),
            SessionConfig {
                local_asn: peer.local_asn,
                remote_asn: Some(peer.remote_asn),
                identifier: peer.router_id,
                hold_time: peer.hold_time,
                families: peer.families.iter().copied().collect(),
                mode: peer.mode,
                graceful_restart: peer.graceful_restart,
                restarted: self.restarted,
                max_received: peer.max_received,
                seed,
            },
        );
        let wanted = if peer.canary { &self.feed.canary } else { &self.feed.others };
        let driver = Driver {
            peer: peer.clone(),
            shared: Arc::clone(&self.shared),
            gate,
            wanted: wanted.clone(),
            commands: inbox,
            status,
            session,
            state: Local::new(self.shared.settings().quarantine),
        };
        PeerHandle { peer: peer.clone(), status: status_out, commands, task: tokio::spawn(driver.run()) }
    }

    /// Ends all sessions: with routes kept where graceful restart is in force and `keep` says so, else withdrawn. Listening stops
    /// first. Takes two seconds at most.
    pub async fn stop(&mut self, keep: bool) {
        self.listeners.clear();
        let mut tasks = tokio::task::JoinSet::new();
        for handle in std::mem::take(&mut self.handles).into_values() {
            tasks.spawn(handle.end(keep));
        }
        while tasks.join_next().await.is_some() {}
    }
}
