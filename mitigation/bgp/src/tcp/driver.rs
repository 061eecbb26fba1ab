//! One peer over TCP: drives a [`Session`] and keeps the peer's table equal to the wanted set.
//!
//! The driver has no policy and no memory of attacks: on every change of the wanted set, on every new session and on every route
//! refresh it reconciles. It never blocks on a slow peer: what is to be sent is made in portions as the socket takes it, so the
//! newest wanted set wins and a flap that is over is never sent.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use traffic::Time;

use super::quarantine::Quarantine;
use super::status::PeerStatus;
use super::{Command, Shared, socket};
use crate::adj_rib_out::AdjRibOut;
use crate::announcement::Wanted;
use crate::attribute::Sender;
use crate::gate::Gate;
use crate::message::Notification;
use crate::peer::{Family, OnShutdown, Peer};
use crate::session::{Event, Output, Session, Side, State};

/// Octets read at once.
const READ: usize = 16 * 1024;
/// Octets that may wait for the socket before more is made.
const PENDING: usize = 64 * 1024;
/// The status says what was sent at most this often while much is being sent.
const PUBLISH: Duration = Duration::from_millis(100);

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A TCP connection and what is still to be written to it.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    pending: VecDeque<u8>,
    /// When something was last taken, while something waits.
    stalled_since: Option<Time>,
}

pub(super) struct Driver {
    pub(super) peer: Peer,
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) wanted: watch::Receiver<Arc<Wanted>>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) status: watch::Sender<PeerStatus>,
    pub(super) session: Session,
    pub(super) state: Local,
}

/// What the driver keeps for itself.
#[derive(Default)]
pub(super) struct Local {
    rib: Option<AdjRibOut>,
    wires: [Option<Wire>; 2],
    connecting: Option<Connecting>,
    quarantine: Quarantine,
    /// Rules that the router said it holds at most.
    learned_limit: Option<usize>,
    /// Routes of a family that the router said it takes at most.
    family_limits: BTreeMap<Family, usize>,
    /// Nothing is wanted since nobody decides any more.
    is_dead: bool,
    /// Whoever decides has gone. What was wanted last stays wanted until the command to end says what becomes of it, or until
    /// `dead_man_time` is over.
    is_orphaned: bool,
    published: Option<Time>,
    resets: u64,
    updates_received: u64,
    told_over_limit: bool,
    sent_changed: bool,
}

impl Local {
    pub(super) fn new(quarantine: Duration) -> Self {
        Self { quarantine: Quarantine::new(quarantine), sent_changed: true, ..Self::default() }
    }
}

/// What became possible on a connection.
enum Ready {
    Read(usize),
    Written,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let mut buffers = [vec![0; READ], vec![0; READ]];
        let mut halt = self.shared.halt.subscribe();
        loop {
            self.pump();
            self.publish();
            let wait = self.next_deadline().map(|at| at.since((self.shared.clock)()));
            let [out_buffer, in_buffer] = &mut buffers;
            let [outgoing, incoming] = &mut self.state.wires;
            let mut read = None;
            let outputs = tokio::select! {
                () = sleep(wait) => self.session.handle((self.shared.clock)(), Event::Timeout),
                result = connect(&mut self.state.connecting) => {
                    self.state.connecting = None;
                    self.connected(result)
                }
                ready = transfer(outgoing, out_buffer) => { read = Some((Side::Outgoing, ready)); Vec::new() }
                ready = transfer(incoming, in_buffer) => { read = Some((Side::Incoming, ready)); Vec::new() }
                changed = self.wanted.changed(), if !self.state.is_orphaned => {
                    match changed {
                        Ok(()) => self.plan(),
                        Err(_) => self.state.is_orphaned = true,
                    }
                    Vec::new()
                }
                _ = halt.changed() => { self.plan(); Vec::new() }
                command = self.commands.recv() => match command {
                    Some(Command::Accepted(stream)) => self.accepted(stream),
                    Some(Command::Settings(settings)) => {
                        self.reconfigure(*settings);
                        Vec::new()
                    }
                    Some(Command::Stop { keep }) => return self.end(keep).await,
                    // The program ends without a word.
                    None => {
                        let keep = self.shared.settings().on_shutdown == OnShutdown::Keep;
                        return self.end(keep).await;
                    }
                },
            };
            self.carry_out(outputs);
            if let Some((side, ready)) = read {
                self.transferred(side, ready, &buffers[side as usize]);
            }
            self.housekeeping();
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let now = (self.shared.clock)();
        let dead_man = self.shared.settings().dead_man;
        let dead_man = (!dead_man.is_zero()).then(|| now.after(dead_man / 4));
        let soon = self.state.sent_changed.then(|| now.after(PUBLISH));
        [self.session.poll_timeout(), self.state.quarantine.poll_timeout(), dead_man, soon].into_iter().flatten().min()
    }

    /// What depends on time alone, beside the session.
    fn housekeeping(&mut self) {
        let now = (self.shared.clock)();
        if self.state.quarantine.advance(now) {
            self.plan();
        }
        let is_dead = self.shared.is_dead(now);
        if is_dead != self.state.is_dead {
            self.state.is_dead = is_dead;
            if is_dead {
                tracing::error!(peer = %self.peer.name, "nobody decides any more: everything is withdrawn (dead_man_time)");
            } else {
                tracing::warn!(peer = %self.peer.name, "decisions are made again: announcing resumes");
            }
            self.plan();
        }
        let hold = self.session.hold_time().max(Duration::from_secs(30));
        for side in Side::ALL {
            let stalled = self.state.wires[side as usize].as_ref().and_then(|wire| wire.stalled_since);
            if stalled.is_some_and(|since| now.since(since) > hold) {
                // RFC 9687: a peer that takes nothing is as good as dead.
                self.lost(side, "the router takes nothing more");
            }
        }
    }

    fn lost(&mut self, side: Side, reason: &str) {
        self.state.wires[side as usize] = None;
        let outputs = self.session.handle((self.shared.clock)(), Event::Closed(side, reason));
        self.carry_out(outputs);
    }

    fn connected(&mut self, result: io::Result<TcpStream>) -> Vec<Output> {
        let now = (self.shared.clock)();
        match result {
            Ok(stream) => {
                self.state.wires[Side::Outgoing as usize] = Some(Wire::new(stream));
                self.session.handle(now, Event::Connected(Side::Outgoing))
            }
            Err(error) => {
                let text = connect_advice(&self.peer, &error);
                self.session.handle(now, Event::Closed(Side::Outgoing, &text))
            }
        }
    }

    /// The peer connected. While its older connection still looks alive the new one takes the other place, where the session settles
    /// which of them stays.
    fn accepted(&mut self, stream: TcpStream) -> Vec<Output> {
        if let Err(error) = socket::accepted(&stream, &self.peer) {
            tracing::warn!(peer = %self.peer.name, %error, "cannot set up an accepted connection");
            return Vec::new();
        }
        let is_taken = self.session.established_side() == Some(Side::Incoming);
        let side = if is_taken { Side::Outgoing } else { Side::Incoming };
        if side == Side::Outgoing && (self.state.wires[0].is_some() || self.state.connecting.is_some()) {
            return Vec::new();
        }
        self.state.wires[side as usize] = Some(Wire::new(stream));
        self.session.handle((self.shared.clock)(), Event::Connected(side))
    }

    fn transferred(&mut self, side: Side, ready: io::Result<Ready>, buffer: &[u8]) {
        let now = (self.shared.clock)();
        let outputs = match ready {
            Ok(Ready::Written) => {
                if let Some(wire) = &mut self.state.wires[side as usize] {
                    wire.stalled_since = (!wire.pending.is_empty()).then_some(now);
                }
                return;
            }
            Ok(Ready::Read(0)) => {
                self.state.wires[side as usize] = None;
                self.session.handle(now, Event::Closed(side, "the router closed the connection"))
            }
            Ok(Ready::Read(length)) => {
                self.session.handle(now, Event::Received(side, buffer.get(..length).unwrap_or_default()))
            }
            Err(error) => {
                self.state.wires[side as usize] = None;
                self.session.handle(now, Event::Closed(side, &error.to_string()))
            }
        };
        self.carry_out(outputs);
    }

    /// Carries out what the session wants.
    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect => {
                    let peer = self.peer.clone();
                    self.state.connecting = Some(Box::pin(async move { socket::connect(&peer).await }));
                }
                Output::Send(side, data) => self.write(side, &data),
                Output::Close(side) => {
                    if side == Side::Outgoing {
                        self.state.connecting = None;
                    }
                    if let Some(mut wire) = self.state.wires[side as usize].take() {
                        // The NOTIFICATION before it, as far as the socket takes it.
                        let _ = wire.flush();
                    }
                }
                Output::Up => self.up(),
                Output::Down { .. } => self.down(),
                Output::Refresh(family) => {
                    if let Some(rib) = &mut self.state.rib {
                        rib.refresh(family);
                    }
                }
                // Routers may send us routes; a speaker of rules has no use for them.
                Output::Update(_) => {
                    self.state.updates_received += 1;
                    let is_over = self.session.over_limit() > 0;
                    if is_over && !std::mem::replace(&mut self.state.told_over_limit, is_over) {
                        tracing::warn!(peer = %self.peer.name, "the router sends more than max_received_prefixes routes, which are dropped: it should send none to a speaker of rules");
                    }
                }
                Output::RefreshBegin(_) | Output::RefreshEnd(_) => {}
            }
        }
    }

    fn write(&mut self, side: Side, data: &[u8]) {
        let now = (self.shared.clock)();
        if let Some(wire) = &mut self.state.wires[side as usize] {
            wire.pending.extend(data);
            // An error shows when the connection is read.
            let _ = wire.flush();
            wire.stalled_since = (!wire.pending.is_empty()).then(|| wire.stalled_since.unwrap_or(now));
        }
    }

    fn sender(&self) -> Sender {
        Sender {
            asn: self.peer.local_asn,
            ibgp: self.peer.local_asn == self.peer.remote_asn,
            four_octet_as: self.session.peer().is_some_and(|p| p.four_octet_as),
            next_hops: (self.peer.next_hop_ipv4, self.peer.next_hop_ipv6),
            rate_asn: if self.peer.profile.rate_asn { u16::try_from(self.peer.local_asn).unwrap_or(0) } else { 0 },
        }
    }

    /// Settings that the session does not rest on: what was sent is adapted in place.
    fn reconfigure(&mut self, (peer, gate): (Peer, Arc<dyn Gate>)) {
        let same = peer == self.peer;
        (self.peer, self.gate) = (peer, gate);
        let sender = self.sender();
        let reserve = self.shared.settings().rule_reserve;
        if let Some(rib) = &mut self.state.rib {
            rib.reconfigure(sender, Arc::clone(&self.gate), &self.peer, reserve, !same);
        }
        self.plan();
    }

    fn up(&mut self) {
        let open = self.session.peer().cloned();
        let sender = self.sender();
        tracing::info!(peer = %self.peer.name, "BGP session established");
        let mut rib = AdjRibOut::new(
            sender,
            self.session.families(),
            Arc::clone(&self.gate),
            &self.peer,
            self.shared.settings().rule_reserve,
        );
        rib.set_enhanced_refresh(open.is_some_and(|p| p.enhanced_refresh));
        if let Some(limit) = self.state.learned_limit {
            rib.limit(limit);
        }
        self.state.family_limits.iter().for_each(|(family, routes)| rib.limit_family(*family, *routes));
        self.state.rib = Some(rib);
        self.state.quarantine.session_began((self.shared.clock)());
        self.plan();
    }

    fn down(&mut self) {
        let now = (self.shared.clock)();
        let on_wire = self.state.rib.as_ref().map_or(0, |rib| rib.wire_counts().0);
        self.state.rib = None;
        self.state.resets += 1;
        self.state.sent_changed = true;
        tracing::warn!(peer = %self.peer.name, reason = self.session.last_error().unwrap_or("unknown"), "BGP session down");
        let code = self.session.last_notification().map(|n| (n.code, n.subcode));
        if let Some((family, bound)) = self.session.last_notification().and_then(Notification::prefix_limit) {
            let name = family.name();
            tracing::warn!(peer = %self.peer.name, family = name, bound, "the router's prefix limit is reached: it gets no more of this family until the next start");
            self.state.family_limits.insert(family, usize::try_from(bound).unwrap_or(usize::MAX));
        } else if code == Some((6, 1)) {
            let limit = on_wire - on_wire.div_ceil(10);
            tracing::warn!(peer = %self.peer.name, limit, "the router's prefix limit is reached: it gets fewer rules until the next start");
            self.state.learned_limit = Some(self.state.learned_limit.map_or(limit, |l| l.min(limit)));
        }
        for route in self.state.quarantine.session_ended(now, code.is_some_and(|(code, _)| code == 3)) {
            tracing::error!(peer = %self.peer.name, %route, "the session ended right after this route: it is in quarantine");
        }
    }

    /// Compares what is wanted with what was sent.
    fn plan(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        self.state.quarantine.forget(&wanted);
        let nothing = self.state.is_dead || *self.shared.halt.borrow();
        if let Some(rib) = &mut self.state.rib {
            rib.quarantine(self.state.quarantine.routes());
            rib.plan(if nothing { Arc::default() } else { wanted });
            self.state.sent_changed = true;
        }
    }

    /// Makes and writes as much as the socket takes.
    fn pump(&mut self) {
        let Some(side) = self.session.established_side() else { return };
        loop {
            let Some(rib) = &mut self.state.rib else { return };
            let is_full = self.state.wires[side as usize].as_ref().is_none_or(|wire| wire.pending.len() > PENDING);
            if is_full || rib.is_done() {
                return;
            }
            let messages = rib.next_messages();
            let news = rib.take_news();
            self.state.quarantine.sent((self.shared.clock)(), news);
            self.state.sent_changed = true;
            messages.iter().for_each(|message| self.write(side, message));
        }
    }

    /// Whether something still waits for the socket.
    fn is_behind(&self) -> bool {
        self.state.wires.iter().flatten().any(|wire| !wire.pending.is_empty())
    }

    fn publish(&mut self) {
        let now = (self.shared.clock)();
        let state = self.session.state();
        let in_sync = self.state.rib.as_ref().is_some_and(AdjRibOut::is_done) && !self.is_behind();
        let due = self.state.published.is_none_or(|at| now.since(at) >= PUBLISH);
        let routes = (self.state.sent_changed && (in_sync || due || self.state.rib.is_none())).then(|| {
            self.state.sent_changed = false;
            self.state.published = Some(now);
            let rib = self.state.rib.as_ref();
            let refused = rib.map(|rib| Arc::new(rib.refused().clone())).unwrap_or_default();
            (rib.map(AdjRibOut::sent).unwrap_or_default(), refused, rib.map(AdjRibOut::wire_counts).unwrap_or_default())
        });
        self.status.send_if_modified(|status| {
            let before = (status.state, status.resets, status.updates_received, status.in_sync);
            status.state = state;
            status.established_since = (state == State::Established).then(|| status.established_since.unwrap_or(now));
            status.resets = self.state.resets;
            status.updates_received = self.state.updates_received;
            status.in_sync = in_sync;
            let error_changed = status.last_error.as_deref() != self.session.last_error();
            let changed = before != (status.state, status.resets, status.updates_received, status.in_sync);
            if changed || error_changed {
                status.last_error = self.session.last_error().map(str::to_owned);
                status.families = self.session.families();
                status.identifier = self.session.peer().map(|p| p.identifier);
                status.hold_time = self.session.hold_time();
                status.graceful_restart = self.session.graceful_restart();
            }
            let routes_changed = routes.is_some();
            if let Some((sent, refused, on_wire)) = routes {
                (status.sent, status.refused, status.on_wire) = (sent, refused, on_wire);
            }
            changed || error_changed || routes_changed
        });
    }

    /// Ends: with routes kept where the peer helps, else with CEASE, which withdraws everything there.
    async fn end(mut self, keep: bool) {
        let keep = keep && self.session.graceful_restart();
        let now = (self.shared.clock)();
        let event = if keep { Event::Leave } else { Event::Stop("floodwall is stopping") };
        let outputs = self.session.handle(now, event);
        // Let the NOTIFICATION leave before the connection closes.
        for output in outputs {
            match output {
                Output::Send(side, data) => self.write(side, &data),
                Output::Close(side) => {
                    if let Some(mut wire) = self.state.wires[side as usize].take() {
                        let _ = tokio::time::timeout(Duration::from_secs(1), wire.drain()).await;
                    }
                }
                Output::Down { .. } => self.state.rib = None,
                Output::Connect
                | Output::Up
                | Output::Update(_)
                | Output::Refresh(_)
                | Output::RefreshBegin(_)
                | Output::RefreshEnd(_) => {}
            }
        }
        self.state.sent_changed = true;
        self.publish();
    }
}

impl Wire {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, pending: VecDeque::new(), stalled_since: None }
    }

    /// Writes what the socket takes now.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match self.stream.try_write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all.
    async fn drain(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            self.stream.writable().await?;
            self.flush()?;
        }
        Ok(())
    }
}

/// Waits until the connection can be read, or written while something waits. Safe to cancel.
async fn transfer(wire: &mut Option<Wire>, buffer: &mut [u8]) -> io::Result<Ready> {
    let Some(wire) = wire else { return std::future::pending().await };
    loop {
        let interest =
            if wire.pending.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let ready = wire.stream.ready(interest).await?;
        if ready.is_readable() {
            match wire.stream.try_read(buffer) {
                Ok(length) => return Ok(Ready::Read(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if ready.is_writable() && !wire.pending.is_empty() {
            wire.flush()?;
            return Ok(Ready::Written);
        }
    }
}

async fn connect(connecting: &mut Option<Connecting>) -> io::Result<TcpStream> {
    match connecting {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
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
