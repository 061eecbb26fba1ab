//! The receiving BGP side: sessions that fill an [`AdjRibIn`] each.
//!
//! One listener takes the connections of all sources, told apart by address; where a source asks for it, we connect as well. A
//! lost session clears the source's rules, or keeps them for the peer's restart time where graceful restart is in force.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp::adj_rib_in::{AdjRibIn, Restart};
use bgp::message::{self, GracefulRestart, Refresh};
use bgp::session::{Event, Output, Session, SessionConfig, Side};
use bgp::tcp::{Clock, socket};
use bgp::{ConnectionMode, Family, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::config::{Config, Source};
use super::sources::{SourceStatus, Tables};

/// Octets read at once.
const READ: usize = 64 * 1024;
/// How long what was written may take to leave before the connection is given up.
const WRITE_WAIT: Duration = Duration::from_secs(10);
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Restart time offered in the OPEN, which makes us a helper (RFC 4724 section 3).
const HELPER: Duration = Duration::from_secs(120);
/// What a filter box has to do with: rules, and blackholes where they are asked for. A router may send its whole table with these.
const RULES: [Family; 2] = [Family::Ipv4FlowSpec, Family::Ipv6FlowSpec];
const BLACKHOLES: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

/// Running sessions; they end with it.
#[derive(Debug)]
pub struct Receiver {
    /// Where connections are waited for.
    pub address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Receiver {
    /// Starts on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on; the text says what to do.
    pub async fn start(config: &Config, tables: &Tables, clock: &Clock, seed: u64) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let mut tasks = tokio::task::JoinSet::new();
        let listener = match config.listen {
            Some(address) => Some(listen(address, &config.sources).map_err(|error| {
                let text = format!(
                    "cannot listen for BGP on {address}: {error}; is another BGP daemon running? Choose another listen in \
                     [enforcer]"
                );
                io::Error::new(error.kind(), text)
            })?),
            None => None,
        };
        let address = listener.as_ref().and_then(|l| l.local_addr().ok());
        let mut doors = BTreeMap::new();
        for (i, source) in config.sources.iter().enumerate() {
            let (door, connections) = mpsc::channel(4);
            doors.insert(source.remote_address, door);
            let blackholes = if source.blackholes { &BLACKHOLES[..] } else { &[] };
            let session = Session::new(
                clock(),
                SessionConfig {
                    local_asn: config.local_asn,
                    remote_asn: Some(source.remote_asn),
                    identifier: config.router_id,
                    hold_time: config.hold_time,
                    families: RULES.iter().chain(blackholes).copied().collect(),
                    mode: if source.connect { ConnectionMode::Both } else { ConnectionMode::Passive },
                    // We announce nothing that a peer could keep: this offers to keep what it announced.
                    graceful_restart: HELPER,
                    restarted: false,
                    // The table forgets rules beyond its own limit; a peer that sends far more is cut off.
                    max_received: source.accept.max_rules.saturating_mul(2).saturating_add(1000),
                    seed: seed ^ (i as u64 + 1),
                },
            );
            let peer = PeerTask {
                source: source.clone(),
                clock: Arc::clone(clock),
                session,
                streams: [None, None],
                restart: Restart::default(),
                rib: AdjRibIn::new(source.accept.max_rules).with_blackholes(source.blackholes),
                changed: false,
                resets: 0,
                tables: tables.clone(),
                connections,
                stop: stopping.clone(),
            };
            tasks.spawn(peer.run());
        }
        if let Some(listener) = listener {
            tasks.spawn(accept(listener, doors, stopping));
        }
        Ok(Self { address, stop, tasks })
    }

    /// Ends all sessions with CEASE, within two seconds.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), all).await;
    }
}

/// Hands accepted connections to the source of that address; others are closed.
async fn accept(
    listener: TcpListener,
    doors: BTreeMap<IpAddr, mpsc::Sender<TcpStream>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, from)) => match doors.get(&from.ip().to_canonical()) {
                // A source that connects faster than it is served is closed.
                Some(door) => drop(door.try_send(stream)),
                None => tracing::info!(%from, "a BGP connection from an address that is no configured peer was closed"),
            },
            // Out of descriptors: let some be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What of a source belongs to its sockets.
fn socket_of(source: &Source) -> Peer {
    Peer {
        name: source.name.clone(),
        remote_address: source.remote_address,
        remote_port: source.remote_port,
        local_address: source.local_address,
        md5_password: source.md5_password.clone(),
        ttl_security_hops: source.ttl_security_hops,
        ..Peer::default()
    }
}

/// Passwords and TTLs of peers of the listener's IP version go with it.
fn listen(address: SocketAddr, sources: &[Source]) -> io::Result<TcpListener> {
    let peers: Vec<Peer> =
        sources.iter().filter(|s| s.remote_address.is_ipv4() == address.is_ipv4()).map(socket_of).collect();
    socket::listen(address, &peers.iter().collect::<Vec<_>>())
}

struct PeerTask {
    source: Source,
    clock: Clock,
    session: Session,
    /// By [`Side`]: the connection we opened, and the one the source opened.
    streams: [Option<TcpStream>; 2],
    /// What the peer said about restarting when the session came up.
    restart: Restart,
    rib: AdjRibIn,
    changed: bool,
    resets: u64,
    tables: Tables,
    connections: mpsc::Receiver<TcpStream>,
    stop: watch::Receiver<bool>,
}

impl PeerTask {
    async fn run(mut self) {
        let mut buffers = [vec![0; READ], vec![0; READ]];
        self.publish();
        loop {
            let deadlines = [self.session.poll_timeout(), self.rib.poll_timeout()];
            let wait = deadlines.into_iter().flatten().min().map(|at| at.since((self.clock)()));
            let [outgoing, incoming] = &mut self.streams;
            let [first, second] = &mut buffers;
            let outputs = tokio::select! {
                () = sleep(wait) => {
                    let now = (self.clock)();
                    let gone = self.rib.expire(now);
                    if gone > 0 {
                        self.changed = true;
                        tracing::warn!(peer = %self.source.name, rules = gone, "the restart time is over: rules removed");
                    }
                    self.session.handle(now, Event::Timeout)
                }
                read = read(outgoing, first) => self.received(Side::Outgoing, read, &buffers[0]),
                read = read(incoming, second) => self.received(Side::Incoming, read, &buffers[1]),
                stream = self.connections.recv() => {
                    let Some(stream) = stream else { return };
                    self.connected(stream)
                }
                _ = self.stop.changed() => {
                    let outputs = self.session.handle((self.clock)(), Event::Stop("floodwall enforce is stopping"));
                    self.carry_out(outputs).await;
                    return;
                }
            };
            self.carry_out(outputs).await;
            self.ask_again().await;
            self.publish();
        }
    }

    fn received(&mut self, side: Side, read: io::Result<usize>, buffer: &[u8]) -> Vec<Output> {
        let now = (self.clock)();
        match read {
            Ok(0) => self.session.handle(now, Event::Closed(side, "the peer closed the connection")),
            Ok(length) => self.session.handle(now, Event::Received(side, &buffer[..length])),
            Err(error) => self.session.handle(now, Event::Closed(side, &error.to_string())),
        }
    }

    /// Rules that were left out for want of room are asked for when there is some.
    async fn ask_again(&mut self) {
        let can = self.session.peer().is_some_and(|p| p.route_refresh);
        if let Some(side) = self.session.established_side().filter(|_| can && self.rib.wants_refresh()) {
            for family in self.session.families() {
                self.write(side, &message::route_refresh(family, Refresh::Request)).await;
            }
        }
    }

    /// The source connected; the session says whether it wants the connection.
    fn connected(&mut self, stream: TcpStream) -> Vec<Output> {
        if let Err(error) = socket::accepted(&stream, &socket_of(&self.source)) {
            tracing::warn!(peer = %self.source.name, "a connection cannot be prepared: {error}");
            return Vec::new();
        }
        let now = (self.clock)();
        // A source that opens another connection has lost the one before, whether it said so or not.
        let mut outputs = if self.streams[Side::Incoming as usize].is_some() {
            self.session.handle(now, Event::Closed(Side::Incoming, "the peer opened a new connection"))
        } else {
            Vec::new()
        };
        self.streams[Side::Incoming as usize] = Some(stream);
        // What is to be done with the old connection is done: only its stream is another.
        outputs.retain(|o| !matches!(o, Output::Close(Side::Incoming) | Output::Send(Side::Incoming, _)));
        outputs.extend(self.session.handle(now, Event::Connected(Side::Incoming)));
        outputs
    }

    async fn carry_out(&mut self, outputs: Vec<Output>) {
        let mut queue = std::collections::VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Connect => queue.extend(self.connect().await),
                Output::Send(side, data) => {
                    if let Some(error) = self.write(side, &data).await {
                        self.streams[side as usize] = None;
                        queue.extend(self.session.handle((self.clock)(), Event::Closed(side, &error)));
                    }
                }
                Output::Close(side) => self.streams[side as usize] = None,
                Output::Up => self.up(),
                Output::Down { graceful } => self.down(graceful),
                Output::Update(update) => self.changed |= self.rib.apply((self.clock)(), &update),
                Output::RefreshBegin(family) => self.rib.refresh_begin(family),
                Output::RefreshEnd(family) => self.changed |= self.rib.end_of_rib(family),
                // We announce nothing.
                Output::Refresh(_) => {}
            }
        }
    }

    async fn connect(&mut self) -> Vec<Output> {
        let peer = socket_of(&self.source);
        let connecting = tokio::time::timeout(CONNECT_WAIT, socket::connect(&peer));
        let error = match connecting.await {
            Ok(Ok(stream)) => {
                self.streams[Side::Outgoing as usize] = Some(stream);
                return self.session.handle((self.clock)(), Event::Connected(Side::Outgoing));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer; check filters, and md5_auth_password on both sides".to_owned(),
        };
        let remote = SocketAddr::new(self.source.remote_address, self.source.remote_port);
        let text = format!("cannot connect to {remote}: {error}");
        self.session.handle((self.clock)(), Event::Closed(Side::Outgoing, &text))
    }

    fn up(&mut self) {
        let none = GracefulRestart { restarted: false, seconds: 0, families: BTreeMap::new() };
        let theirs = self.session.peer().and_then(|p| p.graceful_restart.clone()).unwrap_or(none);
        let kept = theirs.families.iter().filter(|(_, preserved)| **preserved).map(|(family, _)| *family).collect();
        let time = Duration::from_secs(theirs.seconds.into());
        self.restart = Restart { time, families: theirs.families.into_keys().collect() };
        let gone = self.rib.up(&kept);
        self.changed |= gone > 0;
        tracing::info!(peer = %self.source.name, stale_rules_removed = gone, "BGP session established");
    }

    fn down(&mut self, graceful: Option<Duration>) {
        self.resets += 1;
        let restart = graceful.map(|time| Restart { time, families: self.restart.families.clone() });
        let gone = self.rib.lost((self.clock)(), restart.as_ref());
        self.changed = true;
        let (kept, reason) = (self.rib.rules().len(), self.session.last_error());
        let seconds = restart.map_or(0, |r| r.time.as_secs());
        if kept == 0 {
            tracing::warn!(peer = %self.source.name, rules = gone, reason, "BGP session down: rules removed");
        } else {
            tracing::warn!(
                peer = %self.source.name, kept, removed = gone, seconds, reason,
                "BGP session down: rules are kept for the restart time"
            );
        }
    }

    /// Writes; returns why it could not.
    async fn write(&mut self, side: Side, data: &[u8]) -> Option<String> {
        let stream = self.streams[side as usize].as_mut()?;
        match tokio::time::timeout(WRITE_WAIT, stream.write_all(data)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the peer takes nothing more".to_owned()),
        }
    }

    fn publish(&mut self) {
        let status = SourceStatus {
            name: self.source.name.clone(),
            state: self.session.state().name().to_owned(),
            rules: self.rib.rules().len(),
            malformed: self.rib.malformed,
            malformed_reason: self.rib.malformed_reason.map(|e| e.to_string()),
            over_limit: self.rib.over_limit,
            resets: self.resets,
            last_error: self.session.last_error().map(str::to_owned),
        };
        let table = std::mem::take(&mut self.changed).then(|| Arc::new(self.rib.clone()));
        self.tables.publish(status, table);
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
