//! [`Session`]: the BGP finite state machine (RFC 4271 section 8) without I/O and without a clock.
//!
//! The driver tells it what happened and when, carries out what it answers, and wakes it at [`Session::poll_timeout`]. A session
//! has at most two connections for a moment, one that we opened and one that the peer opened; section 6.8 settles which stays.
//!
//! Routes the peer sends are decoded and checked here (RFC 7606, own AS in the path, first AS, families, a cap), for receivers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use flowspec::nlri::FlowNlri;
use traffic::{IpVersion, Time};

use super::attribute::{self, Receiver, Update};
use super::message::{self, GracefulRestart, Message, Notification, Open, Refresh};
use crate::announcement::Route;
use crate::peer::{ConnectionMode, Family};

/// First and longest wait before connecting again; doubled by every failure, shortened by up to a quarter at random.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A session that lived this long begins anew with [`FIRST_RETRY`].
const STABLE: Duration = Duration::from_secs(30);
/// How long a connection attempt, and the exchange of OPENs, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What one side of a session is told.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Our AS number.
    pub local_asn: u32,
    /// The peer's AS number; `None` accepts any (the built-in router of demo and tests).
    pub remote_asn: Option<u32>,
    /// Our BGP identifier.
    pub identifier: Ipv4Addr,
    /// Hold time we propose; zero switches keepalives off.
    pub hold_time: Duration,
    /// Families we offer.
    pub families: BTreeSet<Family>,
    /// Who connects.
    pub mode: ConnectionMode,
    /// Restart time we offer (RFC 4724); zero offers none.
    pub graceful_restart: Duration,
    /// We have restarted and still know what we had announced: said in the first OPEN.
    pub restarted: bool,
    /// Routes of the peer that are looked at; more are counted and dropped.
    pub max_received: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            local_asn: 0,
            remote_asn: None,
            identifier: Ipv4Addr::UNSPECIFIED,
            hold_time: Duration::from_secs(90),
            families: Family::ALL.into(),
            mode: ConnectionMode::Active,
            graceful_restart: Duration::ZERO,
            restarted: false,
            max_received: 10_000,
            seed: 1,
        }
    }
}

/// States of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Stopped, or waiting for the next attempt.
    Idle,
    /// Waiting for the peer to connect.
    Active,
    /// A connection is being made.
    Connect,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was good.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl State {
    /// As in `show bgp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Connect => "connect",
            Self::OpenSent => "open-sent",
            Self::OpenConfirm => "open-confirm",
            Self::Established => "established",
        }
    }
}

/// One of the two connections a session may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// We opened it.
    Outgoing,
    /// The peer opened it.
    Incoming,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Outgoing, Self::Incoming];

    const fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection is there.
    Connected(Side),
    /// It could not be made, or it closed.
    Closed(Side, &'a str),
    /// Octets arrived.
    Received(Side, &'a [u8]),
    /// The operator or the end of the program stops the session, with a text for the peer.
    Stop(&'a str),
    /// The program ends and wants its routes kept: the connection is closed without a word, which a helper takes for a restart.
    Leave,
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a TCP connection to the peer.
    Connect,
    /// Send these octets.
    Send(Side, Vec<u8>),
    /// Close the TCP connection.
    Close(Side),
    /// The session is established.
    Up,
    /// The session was established and is no longer. A receiver keeps the peer's routes, as stale, for as long as `graceful` says.
    Down {
        /// The peer's restart time, if it is to be helped (RFC 4724 section 4.2).
        graceful: Option<Duration>,
    },
    /// Routes arrived.
    Update(Box<Update>),
    /// The peer wants a family's routes again.
    Refresh(Family),
    /// The peer sends all its routes of a family again (RFC 7313): what it has not repeated by [`Output::RefreshEnd`] is gone.
    RefreshBegin(Family),
    /// See [`Output::RefreshBegin`].
    RefreshEnd(Family),
}

/// A connection on its way to a session.
#[derive(Debug)]
struct Link {
    state: State,
    buffer: Vec<u8>,
    open: Option<Open>,
    hold_until: Option<Time>,
    keepalive_at: Option<Time>,
}

/// One BGP session's state machine: events in, actions out.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    links: [Option<Link>; 2],
    connecting_until: Option<Time>,
    retry_at: Option<Time>,
    retry: Duration,
    stopped: bool,
    established_at: Option<Time>,
    was_established: bool,
    peer: Option<Open>,
    hold_time: Duration,
    received: BTreeSet<Route>,
    /// Routes beyond the cap since the session came up.
    over_limit: u64,
    random: u64,
    last_error: Option<String>,
    last_notification: Option<Notification>,
}

impl Session {
    /// A session that wants to begin at `now`.
    #[must_use]
    pub fn new(now: Time, config: SessionConfig) -> Self {
        Self {
            links: [None, None],
            connecting_until: None,
            retry_at: (config.mode != ConnectionMode::Passive).then_some(now),
            retry: FIRST_RETRY,
            stopped: false,
            established_at: None,
            was_established: false,
            peer: None,
            hold_time: config.hold_time,
            received: BTreeSet::new(),
            over_limit: 0,
            random: config.seed | 1,
            last_error: None,
            last_notification: None,
            config,
        }
    }

    /// Its state: that of the connection that has come furthest.
    #[must_use]
    pub fn state(&self) -> State {
        let of_links = self.links.iter().flatten().map(|link| link.state).max();
        let without = match (self.stopped, self.connecting_until, self.config.mode) {
            (false, Some(_), _) => State::Connect,
            (false, None, ConnectionMode::Passive) => State::Active,
            _ => State::Idle,
        };
        of_links.unwrap_or(without)
    }

    /// Why it is not established, or last was not.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The NOTIFICATION of the peer that ended the last session, if one did.
    #[must_use]
    pub const fn last_notification(&self) -> Option<&Notification> {
        self.last_notification.as_ref()
    }

    /// The peer's OPEN while there is a session.
    #[must_use]
    pub const fn peer(&self) -> Option<&Open> {
        self.peer.as_ref()
    }

    /// Families that both sides offered.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.peer
            .as_ref()
            .map(|p| p.families.intersection(&self.config.families).copied().collect())
            .unwrap_or_default()
    }

    /// Whether both sides know graceful restart: the peer keeps our routes while we restart.
    #[must_use]
    pub fn graceful_restart(&self) -> bool {
        !self.config.graceful_restart.is_zero() && self.peer.as_ref().is_some_and(|p| p.graceful_restart.is_some())
    }

    /// The hold time in force.
    #[must_use]
    pub const fn hold_time(&self) -> Duration {
        self.hold_time
    }

    /// Routes that the peer sent beyond `max_received` since the session came up: they were dropped.
    #[must_use]
    pub const fn over_limit(&self) -> u64 {
        self.over_limit
    }

    /// The connection that routes go over.
    #[must_use]
    pub fn established_side(&self) -> Option<Side> {
        Side::ALL.into_iter().find(|side| self.link(*side).is_some_and(|link| link.state == State::Established))
    }

    fn link(&self, side: Side) -> Option<&Link> {
        self.links[side as usize].as_ref()
    }

    fn link_state(&self, side: Side) -> State {
        self.link(side).map_or(State::Idle, |link| link.state)
    }

    /// When [`Event::Timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let links = self.links.iter().flatten().flat_map(|link| [link.hold_until, link.keepalive_at]);
        links.chain([self.retry_at, self.connecting_until]).flatten().min()
    }

    /// Takes an event; returns what to do, in order.
    pub fn handle(&mut self, now: Time, event: Event<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        match event {
            Event::Connected(side) => self.connected(now, side, &mut out),
            Event::Closed(side, reason) => self.closed(now, side, reason, &mut out),
            Event::Received(side, data) => self.received(now, side, data, &mut out),
            Event::Stop(text) => {
                let notification = Notification::shutdown(text);
                for side in Side::ALL.into_iter().filter(|side| self.link(*side).is_some()) {
                    out.push(Output::Send(side, notification.encode()));
                }
                self.stop(now, text, &mut out);
            }
            Event::Leave => self.stop(now, "stopped; the routes stay for the restart time", &mut out),
            Event::Timeout => self.timeout(now, &mut out),
        }
        out
    }

    fn stop(&mut self, now: Time, text: &str, out: &mut Vec<Output>) {
        self.stopped = true;
        for side in Side::ALL {
            self.drop_link(now, side, text, None, out);
        }
        self.last_error = Some(text.to_owned());
        (self.retry_at, self.connecting_until) = (None, None);
    }

    fn connected(&mut self, now: Time, side: Side, out: &mut Vec<Output>) {
        if side == Side::Outgoing {
            self.connecting_until = None;
        }
        let refused = self.stopped
            || self.link(side).is_some_and(|link| link.state == State::Established)
            || side == Side::Incoming && self.config.mode == ConnectionMode::Active;
        if refused {
            let text = if self.stopped { "stopped" } else { "one connection is enough" };
            if self.link(side).is_none() {
                out.push(Output::Send(side, Notification { subcode: 5, ..Notification::shutdown(text) }.encode()));
                out.push(Output::Close(side));
            }
            return;
        }
        let restart = &self.config.graceful_restart;
        let open = Open {
            asn: self.config.local_asn,
            hold_time: u16::try_from(self.config.hold_time.as_secs()).unwrap_or(u16::MAX),
            identifier: self.config.identifier,
            families: self.config.families.clone(),
            four_octet_as: true,
            route_refresh: true,
            enhanced_refresh: true,
            graceful_restart: (!restart.is_zero()).then(|| GracefulRestart {
                restarted: self.config.restarted && !self.was_established,
                seconds: u16::try_from(restart.as_secs()).unwrap_or(4095).min(4095),
                // What we announced stands in the routers, not here: it is preserved whatever happens to us.
                families: self.config.families.iter().map(|f| (*f, true)).collect(),
            }),
        };
        self.links[side as usize] = Some(Link {
            state: State::OpenSent,
            buffer: Vec::new(),
            open: None,
            hold_until: Some(now.after(OPEN_TIMEOUT)),
            keepalive_at: None,
        });
        self.retry_at = None;
        out.push(Output::Send(side, open.encode()));
    }

    fn closed(&mut self, now: Time, side: Side, reason: &str, out: &mut Vec<Output>) {
        let attempt = side == Side::Outgoing && self.connecting_until.take().is_some();
        match self.link(side).map(|link| link.state) {
            // The end of a connection that is given up already says nothing new.
            None if !attempt => {}
            None => {
                self.last_error = Some(reason.to_owned());
                self.schedule(now);
            }
            Some(state) => {
                let before_open = state == State::OpenSent;
                let advice = if before_open { "; does the router know this neighbour and address?" } else { "" };
                let graceful = self.restart_time();
                self.drop_link(now, side, &format!("{reason}{advice}"), graceful, out);
                self.schedule(now);
            }
        }
    }

    /// How long the peer asked to be waited for after a connection that ends without a NOTIFICATION.
    fn restart_time(&self) -> Option<Duration> {
        let theirs = self.peer.as_ref()?.graceful_restart.as_ref()?;
        let helps = !self.config.graceful_restart.is_zero() && !theirs.families.is_empty();
        helps.then(|| Duration::from_secs(theirs.seconds.into()))
    }

    fn received(&mut self, now: Time, side: Side, data: &[u8], out: &mut Vec<Output>) {
        let Some(link) = &mut self.links[side as usize] else { return };
        link.buffer.extend(data);
        let mut buffer = std::mem::take(&mut link.buffer);
        let mut used = 0;
        loop {
            let message = match message::length(&buffer[used..]) {
                Ok(Some(length)) if buffer.len() - used >= length => {
                    let message = message::decode(&buffer[used..used + length]);
                    used += length;
                    message
                }
                Ok(_) => break,
                Err(notification) => Err(notification),
            };
            match message {
                Ok(message) => self.message(now, side, message, out),
                Err(notification) => self.reset(now, side, &notification, out),
            }
            if self.link(side).is_none() {
                return;
            }
        }
        buffer.drain(..used);
        if let Some(link) = &mut self.links[side as usize] {
            link.buffer = buffer;
        }
    }

    fn message(&mut self, now: Time, side: Side, message: Message, out: &mut Vec<Output>) {
        match (self.link_state(side), message) {
            (_, Message::Notification(notification)) => {
                let text = format!("the router sent {}", notification.text());
                // A collision is settled, not an error.
                let is_collision =
                    notification.code == 6 && notification.subcode == 7 && self.link(side.other()).is_some();
                self.drop_link(now, side, &text, None, out);
                self.last_notification = Some(notification);
                if !is_collision {
                    self.schedule(now);
                }
            }
            (State::OpenSent, Message::Open(open)) => self.open(now, side, open, out),
            (State::OpenConfirm, Message::Keepalive) => self.establish(now, side, out),
            (State::Established, Message::Keepalive) => self.alive(now, side),
            (State::Established, Message::Update(body)) => {
                self.alive(now, side);
                self.update(now, side, &body, out);
            }
            (State::Established, Message::RouteRefresh(refresh)) => {
                self.alive(now, side);
                let families = self.families();
                out.extend(refresh.filter(|(family, _)| families.contains(family)).map(
                    |(family, subtype)| match subtype {
                        Refresh::Request => Output::Refresh(family),
                        Refresh::Begin => Output::RefreshBegin(family),
                        Refresh::End => Output::RefreshEnd(family),
                    },
                ));
            }
            // RFC 6608: the subcode names the state.
            (State::OpenSent, _) => self.reset(now, side, &Notification::new(5, 1), out),
            (State::OpenConfirm, _) => self.reset(now, side, &Notification::new(5, 2), out),
            (State::Established, _) => self.reset(now, side, &Notification::new(5, 3), out),
            (State::Idle | State::Active | State::Connect, _) => {}
        }
    }

    fn open(&mut self, now: Time, side: Side, open: Open, out: &mut Vec<Output>) {
        if self.config.remote_asn.is_some_and(|asn| asn != open.asn) {
            let text = format!("the router says it is AS {}: set remote_asn to that, or mend the router", open.asn);
            out.push(Output::Send(side, Notification::new(2, 2).encode()));
            self.drop_link(now, side, &text, None, out);
            return self.schedule(now);
        }
        // RFC 6286 section 2.2: identifiers are unique within an AS.
        if open.identifier == self.config.identifier && open.asn == self.config.local_asn {
            return self.reset(now, side, &Notification::new(2, 3), out);
        }
        if !self.wins_collision(now, side, &open, out) {
            return;
        }
        let hold_time = self.config.hold_time.min(Duration::from_secs(open.hold_time.into()));
        if let Some(link) = &mut self.links[side as usize] {
            link.open = Some(open);
            link.state = State::OpenConfirm;
            link.hold_until = (!hold_time.is_zero()).then(|| now.after(hold_time));
            link.keepalive_at = (!hold_time.is_zero()).then(|| now.after(hold_time / 3));
        }
        out.push(Output::Send(side, message::keepalive()));
    }

    /// RFC 4271 section 6.8: of two connections the one opened by the side with the higher identifier stays. An established one
    /// stays in any case, unless the peer restarts gracefully, which is how its old connection ends (RFC 4724 section 4.2).
    fn wins_collision(&mut self, now: Time, side: Side, open: &Open, out: &mut Vec<Output>) -> bool {
        let other = side.other();
        let keep_new = match self.link_state(other) {
            State::Established => {
                if self.restart_time().is_none() {
                    false
                } else {
                    let graceful = self.restart_time();
                    self.drop_link(now, other, "the router opened a new connection", graceful, out);
                    return true;
                }
            }
            State::OpenConfirm => {
                let ours = (self.config.identifier, self.config.local_asn);
                let we_win = ours > (open.identifier, open.asn);
                (side == Side::Outgoing) == we_win
            }
            State::OpenSent | State::Idle | State::Active | State::Connect => return true,
        };
        let loser = if keep_new { other } else { side };
        out.push(Output::Send(loser, Notification::new(6, 7).encode()));
        self.drop_link(now, loser, "connection collision: the other connection stays", None, out);
        keep_new
    }

    fn establish(&mut self, now: Time, side: Side, out: &mut Vec<Output>) {
        if self.link(side.other()).is_some() {
            let other = side.other();
            out.push(Output::Send(other, Notification::new(6, 7).encode()));
            self.drop_link(now, other, "connection collision: the other connection stays", None, out);
        }
        let Some(link) = &mut self.links[side as usize] else { return };
        link.state = State::Established;
        self.peer = link.open.clone();
        let offered = self.peer.as_ref().map_or(0, |open| open.hold_time);
        // RFC 4271 section 4.2: the smaller of both.
        self.hold_time = self.config.hold_time.min(Duration::from_secs(offered.into()));
        self.established_at = Some(now);
        self.was_established = true;
        (self.last_error, self.last_notification) = (None, None);
        (self.retry_at, self.connecting_until) = (None, None);
        self.received.clear();
        self.over_limit = 0;
        self.alive(now, side);
        out.push(Output::Up);
    }

    fn update(&mut self, now: Time, side: Side, body: &[u8], out: &mut Vec<Output>) {
        let four_octet_as = self.peer.as_ref().is_some_and(|p| p.four_octet_as);
        let mut update = match attribute::decode_from(Receiver { four_octet_as }, body) {
            Ok(update) => update,
            Err(notification) => return self.reset(now, side, &notification, out),
        };
        let path = &update.attributes.as_path;
        // RFC 4271 section 9.1.2: our own AS in the path is a loop. RFC 7606 section 7.2: an external path begins with the peer.
        let is_internal = self.peer.as_ref().is_some_and(|p| p.asn == self.config.local_asn);
        let is_foreign = !is_internal && path.first() != self.peer.as_ref().map(|p| &p.asn);
        if !update.announced.is_empty() && (path.contains(&self.config.local_asn) || is_foreign) {
            update.treat_as_withdraw();
        }
        let families = self.families();
        let negotiated = |route: &Route| attribute::family_of(route).is_none_or(|family| families.contains(&family));
        update.announced.retain(negotiated);
        update.withdrawn.retain(negotiated);
        let flowspec = |flow: &FlowNlri| {
            let family = match flow.version {
                IpVersion::V4 => Family::Ipv4FlowSpec,
                IpVersion::V6 => Family::Ipv6FlowSpec,
            };
            families.contains(&family)
        };
        update.flow_announced.retain(flowspec);
        update.flow_withdrawn.retain(flowspec);
        for route in &update.withdrawn {
            self.received.remove(route);
        }
        // RFC 4271 section 6.7 leaves it to us: routes that nobody needs must not cost the session that rules go over.
        let before = update.announced.len();
        update.announced.retain(|route| {
            let fits = self.received.contains(route) || self.received.len() < self.config.max_received;
            if fits {
                self.received.insert(route.clone());
            }
            fits
        });
        let dropped = before - update.announced.len();
        if dropped > 0 {
            self.over_limit += dropped as u64;
            update.flow_announced.retain(|flow| self.received.contains(&Route::FlowSpec(flow.pattern.clone())));
        }
        out.push(Output::Update(Box::new(update)));
    }

    /// The peer gave a sign of life.
    fn alive(&mut self, now: Time, side: Side) {
        let hold_time = self.hold_time;
        let Some(link) = &mut self.links[side as usize] else { return };
        if hold_time.is_zero() {
            (link.hold_until, link.keepalive_at) = (None, None);
            return;
        }
        link.hold_until = Some(now.after(hold_time));
        // A third of the hold time (RFC 4271 section 4.4).
        link.keepalive_at.get_or_insert(now.after(hold_time / 3));
    }

    fn timeout(&mut self, now: Time, out: &mut Vec<Output>) {
        for side in Side::ALL {
            let Some(link) = &mut self.links[side as usize] else { continue };
            if link.hold_until.is_some_and(|t| t <= now) {
                self.reset(now, side, &Notification::new(4, 0), out);
                continue;
            }
            if link.keepalive_at.is_some_and(|t| t <= now) {
                let third = self.hold_time.min(self.config.hold_time) / 3;
                link.keepalive_at = Some(now.after(third.max(Duration::from_secs(1))));
                out.push(Output::Send(side, message::keepalive()));
            }
        }
        if self.connecting_until.is_some_and(|t| t <= now) {
            self.connecting_until = None;
            let text = "no answer: a wrong md5_auth_password, a filter or a wrong remote_address looks like this";
            self.last_error = Some(text.to_owned());
            out.push(Output::Close(Side::Outgoing));
            self.schedule(now);
        }
        if self.retry_at.is_some_and(|t| t <= now) {
            self.retry_at = None;
            if !self.stopped && self.links.iter().all(Option::is_none) && self.connecting_until.is_none() {
                self.connecting_until = Some(now.after(CONNECT_TIMEOUT));
                out.push(Output::Connect);
            }
        }
    }

    /// Ends a connection with a NOTIFICATION of ours.
    fn reset(&mut self, now: Time, side: Side, notification: &Notification, out: &mut Vec<Output>) {
        out.push(Output::Send(side, notification.encode()));
        self.drop_link(now, side, &format!("we sent {}", notification.text()), None, out);
        self.schedule(now);
    }

    /// Forgets a connection; says so if it was the session's.
    fn drop_link(&mut self, now: Time, side: Side, reason: &str, graceful: Option<Duration>, out: &mut Vec<Output>) {
        let Some(link) = self.links[side as usize].take() else { return };
        if link.state == State::Established {
            out.push(Output::Down { graceful });
            self.peer = None;
            self.received.clear();
            if self.established_at.take().is_some_and(|since| now.since(since) >= STABLE) {
                self.retry = FIRST_RETRY;
            }
        }
        out.push(Output::Close(side));
        self.last_error = Some(reason.to_owned());
    }

    /// The next attempt comes later each time.
    fn schedule(&mut self, now: Time) {
        let waits = self.config.mode != ConnectionMode::Passive && !self.stopped;
        if waits && self.links.iter().all(Option::is_none) {
            self.retry_at = Some(now.after(self.jittered()));
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        }
    }

    /// 75 to 100 % of the retry time (RFC 4271 section 10).
    fn jittered(&mut self) -> Duration {
        // xorshift64: enough to keep sessions from retrying in step.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarter = self.random % 250;
        self.retry * u32::try_from(1000 - quarter).unwrap_or(1000) / 1000
    }
}

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm, reason = "tests look at some outputs and leave the rest alone")]
#[path = "session_tests.rs"]
mod tests;
