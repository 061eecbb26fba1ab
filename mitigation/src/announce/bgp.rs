//! A BGP peer over TCP: drives a [`Session`] and keeps the peer's table equal to the wanted set.
//!
//! The driver has no policy and no memory of attacks: on every change of the wanted set, on every new session and on every route
//! refresh it reconciles. What the peer holds, as far as can be known, is published for the pipeline and for `show`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use collectors::Time;
use detector::Prefix;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::socket;
use crate::announcement::{Route, Wanted};
use crate::bgp::adj_rib_out::{AdjRibOut, Rails};
use crate::bgp::attribute::Sender;
use crate::bgp::session::{Event, Output, Session, SessionConfig, State};
use crate::config::{Family, Peer};

/// How long a connection attempt may take.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Octets read at once.
const READ: usize = 16 * 1024;
/// How long what was written may take to leave before the connection is given up.
const WRITE_WAIT: Duration = Duration::from_secs(10);

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// State of the session.
    pub state: State,
    /// Since when it is established.
    pub established_since: Option<Time>,
    /// Families that both sides speak.
    pub families: BTreeSet<Family>,
    /// Routes that were sent over this session (decision 16: sent is not installed).
    pub sent: Arc<BTreeSet<Route>>,
    /// Wanted routes that rails or codec refused for this peer.
    pub refused: BTreeMap<Route, String>,
    /// Why there is no session, or why the last one ended.
    pub last_error: Option<String>,
    /// Sessions that ended since the start.
    pub resets: u64,
}

impl Default for PeerStatus {
    fn default() -> Self {
        Self {
            state: State::Idle,
            established_since: None,
            families: BTreeSet::new(),
            sent: Arc::default(),
            refused: BTreeMap::new(),
            last_error: None,
            resets: 0,
        }
    }
}

/// The current time, injected: this crate reads no clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A running peer.
#[derive(Debug)]
pub struct PeerHandle {
    /// Name of the peer.
    pub name: String,
    /// Its status; changes wake the receiver.
    pub status: watch::Receiver<PeerStatus>,
    settings: watch::Sender<Settings>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// What a running session can be told anew.
#[derive(Debug, Clone)]
struct Settings {
    peer: Peer,
    rails: Rails,
}

impl PeerHandle {
    /// Puts a configuration into force without touching the session; false if it needs a new session: then nothing changed.
    #[must_use]
    pub fn reconfigure(&self, peer: &Peer, networks: &[Prefix], protected: &[Prefix]) -> bool {
        if !same_session(&self.settings.borrow().peer, peer) {
            return false;
        }
        let rails = Rails::new(networks, protected, peer);
        self.settings.send_replace(Settings { peer: peer.clone(), rails });
        true
    }

    /// Sends CEASE (which withdraws everything at the peer) and ends, within two seconds.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(Duration::from_secs(2), self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// What a peer's driver works with.
struct Driver {
    peer: Peer,
    clock: Clock,
    rails: Rails,
    wanted: watch::Receiver<Arc<Wanted>>,
    settings: watch::Receiver<Settings>,
    stop: watch::Receiver<bool>,
    status: watch::Sender<PeerStatus>,
    session: Session,
    rib: Option<AdjRibOut>,
    stream: Option<TcpStream>,
}

/// Starts a peer on the current tokio runtime.
#[must_use]
pub fn spawn(
    peer: Peer,
    networks: &[Prefix],
    protected: &[Prefix],
    wanted: watch::Receiver<Arc<Wanted>>,
    clock: Clock,
    seed: u64,
) -> PeerHandle {
    let (status, status_out) = watch::channel(PeerStatus::default());
    let (stop, stop_in) = watch::channel(false);
    let name = peer.name.clone();
    let session = Session::new(
        clock(),
        SessionConfig {
            local_asn: peer.local_asn,
            remote_asn: Some(peer.remote_asn),
            identifier: peer.router_id,
            hold_time: peer.hold_time,
            families: peer.families.iter().copied().collect(),
            passive: false,
            seed,
        },
    );
    let rails = Rails::new(networks, protected, &peer);
    let (settings, settings_in) = watch::channel(Settings { peer: peer.clone(), rails: rails.clone() });
    let driver = Driver {
        peer,
        clock,
        rails,
        wanted,
        settings: settings_in,
        stop: stop_in,
        status,
        session,
        rib: None,
        stream: None,
    };
    PeerHandle { name, status: status_out, settings, stop, task: tokio::spawn(driver.run()) }
}

impl Driver {
    async fn run(mut self) {
        let mut buffer = vec![0; READ];
        loop {
            let deadline = self.session.poll_timeout();
            let wait = deadline.map(|at| at.since((self.clock)()));
            let outputs = tokio::select! {
                () = sleep(wait) => {
                    let now = (self.clock)();
                    self.session.handle(now, Event::Timeout)
                }
                read = read(&mut self.stream, &mut buffer) => {
                    let now = (self.clock)();
                    match read {
                        Ok(0) => self.session.handle(now, Event::Closed("the router closed the connection")),
                        Ok(length) => self.session.handle(now, Event::Received(&buffer[..length])),
                        Err(error) => self.session.handle(now, Event::Closed(&error.to_string())),
                    }
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return self.end().await;
                    }
                    self.reconcile().await;
                    Vec::new()
                }
                changed = self.settings.changed() => {
                    if changed.is_err() {
                        return self.end().await;
                    }
                    self.reconfigure().await;
                    Vec::new()
                }
                _ = self.stop.changed() => return self.end().await,
            };
            self.carry_out(outputs).await;
            self.publish();
        }
    }

    /// Carries out what the session wants; what follows from that as well.
    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut queue = std::collections::VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Connect => {
                    let remote = SocketAddr::new(self.peer.remote_address, self.peer.remote_port);
                    let event = match socket::connect(self.peer.local_address, remote, CONNECT_WAIT).await {
                        Ok(stream) => {
                            self.stream = Some(stream);
                            Event::Connected
                        }
                        Err(error) => {
                            let text = connect_advice(&self.peer, &error);
                            queue.extend(self.session.handle((self.clock)(), Event::Closed(&text)));
                            continue;
                        }
                    };
                    queue.extend(self.session.handle((self.clock)(), event));
                }
                Output::Send(data) => {
                    if let Err(error) = self.write(&data).await {
                        self.stream = None;
                        queue.extend(self.session.handle((self.clock)(), Event::Closed(&error.to_string())));
                    }
                }
                Output::Close => self.stream = None,
                Output::Up => self.up().await,
                Output::Down => {
                    self.rib = None;
                    self.status.send_modify(|s| s.resets += 1);
                    tracing::warn!(peer = %self.peer.name, reason = self.session.last_error(), "BGP session down");
                }
                Output::Refresh(family) => {
                    if let Some(rib) = &mut self.rib {
                        let messages = rib.refresh(family);
                        self.send_all(messages).await;
                    }
                }
                // Routers may send us routes; a speaker of rules has no use for them.
                Output::Update(_) => {}
            }
        }
    }

    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        tokio::time::timeout(WRITE_WAIT, stream.write_all(data))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the router takes nothing more"))?
    }

    async fn send_all(&mut self, messages: Vec<Vec<u8>>) {
        for message in messages {
            if let Err(error) = self.write(&message).await {
                self.stream = None;
                let outputs = self.session.handle((self.clock)(), Event::Closed(&error.to_string()));
                self.rib = None;
                debug_assert!(!outputs.contains(&Output::Connect), "a failed session waits before it connects again");
                return;
            }
        }
    }

    fn sender(&self) -> Sender {
        Sender {
            asn: self.peer.local_asn,
            ibgp: self.peer.local_asn == self.peer.remote_asn,
            four_octet_as: self.session.peer().is_some_and(|p| p.four_octet_as),
            next_hops: (self.peer.next_hop_ipv4, self.peer.next_hop_ipv6),
        }
    }

    /// Takes new settings over; the session stays.
    async fn reconfigure(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        (self.peer, self.rails) = (settings.peer, settings.rails);
        let sender = self.sender();
        if let Some(rib) = &mut self.rib {
            let messages = rib.reconfigure(sender, self.rails.clone(), &self.peer);
            self.send_all(messages).await;
        }
        self.reconcile().await;
    }

    async fn up(&mut self) {
        let sender = self.sender();
        tracing::info!(peer = %self.peer.name, "BGP session established");
        let rib = AdjRibOut::new(sender, self.session.families(), self.rails.clone(), &self.peer);
        let end_of_ribs = rib.end_of_ribs();
        self.rib = Some(rib);
        self.reconcile().await;
        self.send_all(end_of_ribs).await;
    }

    /// Makes the peer's table equal to the wanted set.
    async fn reconcile(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        if let Some(rib) = &mut self.rib {
            let messages = rib.reconcile(&wanted);
            self.send_all(messages).await;
        }
        self.publish();
    }

    fn publish(&self) {
        let state = self.session.state();
        let now = (self.clock)();
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.state = state;
            status.families = self.session.families();
            status.established_since = match state {
                State::Established => status.established_since.or(Some(now)),
                State::Idle | State::Connect | State::OpenSent | State::OpenConfirm => None,
            };
            status.last_error = self.session.last_error().map(str::to_owned);
            status.sent = self.rib.as_ref().map(AdjRibOut::sent).unwrap_or_default();
            status.refused = self.rib.as_ref().map(|rib| rib.refused().clone()).unwrap_or_default();
            *status != before
        });
    }

    async fn end(mut self) {
        let outputs = self.session.handle((self.clock)(), Event::Stop("floodwall is stopping"));
        self.carry_out(outputs).await;
        self.rib = None;
        self.publish();
    }
}

/// Whether two configurations can share a session: they differ only in what is announced and how.
fn same_session(old: &Peer, new: &Peer) -> bool {
    let session = |peer: &Peer| Peer {
        next_hop_ipv4: old.next_hop_ipv4,
        next_hop_ipv6: old.next_hop_ipv6,
        communities: Vec::new(),
        large_communities: Vec::new(),
        announce_incoming: true,
        announce_outgoing: true,
        ..peer.clone()
    };
    session(old) == session(new)
}

/// What a failed connection attempt probably means.
fn connect_advice(peer: &Peer, error: &io::Error) -> String {
    let remote = SocketAddr::new(peer.remote_address, peer.remote_port);
    #[allow(clippy::wildcard_enum_match_arm, reason = "the system's text is the best advice for the rest")]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{remote} refuses connections: is BGP running there, and is this neighbour configured?")
        }
        io::ErrorKind::TimedOut => {
            format!("{remote} does not answer: check the route, filters, and md5_auth_password on both sides")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("local_address {:?} is not an address of this machine", peer.local_address)
        }
        _ => format!("{remote}: {error}"),
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn read(stream: &mut Option<TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}
