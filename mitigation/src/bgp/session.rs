//! [`Session`]: the BGP finite state machine (RFC 4271 section 8) without I/O and without a clock.
//!
//! The driver tells it what happened and when, carries out what it answers, and wakes it at [`Session::poll_timeout`]. One
//! session has at most one connection; the driver opens it (active) or hands over an accepted one (passive).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use collectors::Time;

use super::attribute::{self, Update};
use super::message::{self, Message, Notification, Open};
use crate::config::Family;

/// First and longest wait before connecting again; doubled by every failure, shortened by up to a quarter at random.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
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
    /// Never connects by itself.
    pub passive: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// States of RFC 4271 section 8.2.2; Active is folded into Idle, which waits for its retry timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Waiting for the next attempt, or for the peer to connect.
    Idle,
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
            Self::Connect => "connect",
            Self::OpenSent => "open-sent",
            Self::OpenConfirm => "open-confirm",
            Self::Established => "established",
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection is there.
    Connected,
    /// It could not be made, or it closed.
    Closed(&'a str),
    /// Octets arrived.
    Received(&'a [u8]),
    /// The operator or the end of the program stops the session.
    Stop(&'a str),
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a TCP connection to the peer.
    Connect,
    /// Send these octets.
    Send(Vec<u8>),
    /// Close the connection (after what was sent).
    Close,
    /// The session is established.
    Up,
    /// The session was established and is no longer.
    Down,
    /// Routes arrived.
    Update(Box<Update>),
    /// The peer wants a family's routes again.
    Refresh(Family),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    buffer: Vec<u8>,
    peer: Option<Open>,
    hold_time: Duration,
    hold_until: Option<Time>,
    keepalive_at: Option<Time>,
    retry_at: Option<Time>,
    retry: Duration,
    random: u64,
    last_error: Option<String>,
}

impl Session {
    /// A session that wants to begin at `now`.
    #[must_use]
    pub fn new(now: Time, config: SessionConfig) -> Self {
        Self {
            state: State::Idle,
            buffer: Vec::new(),
            peer: None,
            hold_time: config.hold_time,
            hold_until: None,
            keepalive_at: None,
            retry_at: (!config.passive).then_some(now),
            retry: FIRST_RETRY,
            random: config.seed | 1,
            last_error: None,
            config,
        }
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it is not established, or last was not.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
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

    /// When [`Event::Timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.hold_until, self.keepalive_at, self.retry_at].into_iter().flatten().min()
    }

    /// Takes an event; returns what to do, in order.
    pub fn handle(&mut self, now: Time, event: Event<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        match event {
            Event::Connected => self.connected(now, &mut out),
            // The end of a connection that is given up already says nothing new.
            Event::Closed(_) if self.state == State::Idle => {}
            Event::Closed(reason) => {
                let before_open = matches!(self.state, State::OpenSent);
                let advice = if before_open { "; does the router know this neighbour and address?" } else { "" };
                self.fail(now, format!("{reason}{advice}"), &mut out);
            }
            Event::Received(data) => self.received(now, data, &mut out),
            Event::Stop(text) => {
                if self.state >= State::OpenSent {
                    out.push(Output::Send(Notification::shutdown(text).encode()));
                }
                self.fail(now, text.to_owned(), &mut out);
                self.retry_at = None;
            }
            Event::Timeout => self.timeout(now, &mut out),
        }
        out
    }

    fn connected(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.state > State::Connect {
            // One connection is enough; the driver drops the other.
            return;
        }
        let open = Open {
            asn: self.config.local_asn,
            hold_time: u16::try_from(self.config.hold_time.as_secs()).unwrap_or(u16::MAX),
            identifier: self.config.identifier,
            families: self.config.families.clone(),
            four_octet_as: true,
            route_refresh: true,
        };
        self.buffer.clear();
        self.state = State::OpenSent;
        self.retry_at = None;
        self.hold_until = Some(now.after(OPEN_TIMEOUT));
        out.push(Output::Send(open.encode()));
    }

    fn received(&mut self, now: Time, data: &[u8], out: &mut Vec<Output>) {
        self.buffer.extend(data);
        let mut used = 0;
        loop {
            let message = match message::length(&self.buffer[used..]) {
                Ok(Some(length)) if self.buffer.len() - used >= length => {
                    let message = message::decode(&self.buffer[used..used + length]);
                    used += length;
                    message
                }
                Ok(_) => break,
                Err(notification) => Err(notification),
            };
            let state = self.state;
            match message {
                Ok(message) => self.message(now, message, out),
                Err(notification) => self.reset(now, &notification, out),
            }
            if self.state < state || self.state == State::Idle {
                self.buffer.clear();
                return;
            }
        }
        self.buffer.drain(..used);
    }

    fn message(&mut self, now: Time, message: Message, out: &mut Vec<Output>) {
        match (self.state, message) {
            (_, Message::Notification(notification)) => {
                let text = format!("the router sent {}", notification.text());
                self.fail(now, text, out);
            }
            (State::OpenSent, Message::Open(open)) => self.open(now, open, out),
            (State::OpenConfirm, Message::Keepalive) => {
                self.state = State::Established;
                self.retry = FIRST_RETRY;
                self.last_error = None;
                self.alive(now);
                out.push(Output::Up);
            }
            (State::Established, Message::Keepalive) => self.alive(now),
            (State::Established, Message::Update(body)) => {
                self.alive(now);
                match attribute::decode(&body) {
                    Ok(update) => out.push(Output::Update(Box::new(update))),
                    Err(notification) => self.reset(now, &notification, out),
                }
            }
            (State::Established, Message::RouteRefresh(family)) => {
                self.alive(now);
                out.extend(family.filter(|f| self.families().contains(f)).map(Output::Refresh));
            }
            // RFC 6608: the subcode names the state.
            (State::OpenSent, _) => self.reset(now, &Notification::new(5, 1), out),
            (State::OpenConfirm, _) => self.reset(now, &Notification::new(5, 2), out),
            (State::Established, _) => self.reset(now, &Notification::new(5, 3), out),
            (State::Idle | State::Connect, _) => {}
        }
    }

    fn open(&mut self, now: Time, open: Open, out: &mut Vec<Output>) {
        if self.config.remote_asn.is_some_and(|asn| asn != open.asn) {
            let text = format!("the router says it is AS {}: set remote_asn to that, or mend the router", open.asn);
            out.push(Output::Send(Notification::new(2, 2).encode()));
            return self.fail(now, text, out);
        }
        if open.identifier == self.config.identifier {
            return self.reset(now, &Notification::new(2, 3), out);
        }
        // RFC 4271 section 4.2: the smaller of both.
        self.hold_time = self.config.hold_time.min(Duration::from_secs(open.hold_time.into()));
        self.peer = Some(open);
        self.state = State::OpenConfirm;
        self.alive(now);
        out.push(Output::Send(message::keepalive()));
        self.keepalive_at = self.next_keepalive(now);
    }

    /// The peer gave a sign of life.
    fn alive(&mut self, now: Time) {
        self.hold_until = (!self.hold_time.is_zero()).then(|| now.after(self.hold_time));
        if self.keepalive_at.is_none() {
            self.keepalive_at = self.next_keepalive(now);
        }
    }

    /// A third of the hold time (RFC 4271 section 4.4).
    fn next_keepalive(&self, now: Time) -> Option<Time> {
        (!self.hold_time.is_zero()).then(|| now.after(self.hold_time / 3))
    }

    fn timeout(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.hold_until.is_some_and(|t| t <= now) {
            match self.state {
                State::Connect => {
                    let text =
                        "no answer: a wrong md5_auth_password, a filter or a wrong remote_address looks like this";
                    self.fail(now, text.to_owned(), out);
                }
                State::OpenSent | State::OpenConfirm | State::Established => {
                    self.reset(now, &Notification::new(4, 0), out);
                }
                State::Idle => self.hold_until = None,
            }
            return;
        }
        if self.keepalive_at.is_some_and(|t| t <= now) {
            out.push(Output::Send(message::keepalive()));
            self.keepalive_at = self.next_keepalive(now);
        }
        if self.state == State::Idle && self.retry_at.is_some_and(|t| t <= now) {
            self.state = State::Connect;
            self.retry_at = None;
            self.hold_until = Some(now.after(CONNECT_TIMEOUT));
            out.push(Output::Connect);
        }
    }

    /// Ends the session with a NOTIFICATION of ours.
    fn reset(&mut self, now: Time, notification: &Notification, out: &mut Vec<Output>) {
        out.push(Output::Send(notification.encode()));
        self.fail(now, format!("we sent {}", notification.text()), out);
    }

    /// Back to Idle; the next attempt comes later each time.
    fn fail(&mut self, now: Time, reason: String, out: &mut Vec<Output>) {
        if self.state == State::Established {
            out.push(Output::Down);
        }
        if self.state >= State::Connect {
            out.push(Output::Close);
        }
        self.state = State::Idle;
        self.last_error = Some(reason);
        self.peer = None;
        self.buffer.clear();
        (self.hold_until, self.keepalive_at) = (None, None);
        if !self.config.passive {
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
mod tests {
    use super::*;

    fn config(asn: u32, remote: u32, last: u8, passive: bool) -> SessionConfig {
        SessionConfig {
            local_asn: asn,
            remote_asn: Some(remote),
            identifier: Ipv4Addr::new(192, 0, 2, last),
            hold_time: Duration::from_secs(90),
            families: Family::ALL.into(),
            passive,
            seed: 7,
        }
    }

    /// Two sessions joined by a wire that loses nothing, on a clock that the test turns.
    struct Pair {
        now: Time,
        sides: [Session; 2],
        seen: [Vec<Output>; 2],
        connected: bool,
    }

    impl Pair {
        fn new(a: SessionConfig, b: SessionConfig) -> Self {
            let now = Time::from_seconds(1000, 0);
            Self {
                now,
                sides: [Session::new(now, a), Session::new(now, b)],
                seen: Default::default(),
                connected: false,
            }
        }

        fn event(&mut self, side: usize, event: Event<'_>) {
            let mut wire: std::collections::VecDeque<(usize, Output)> =
                self.sides[side].handle(self.now, event).into_iter().map(|o| (side, o)).collect();
            while let Some((side, output)) = wire.pop_front() {
                self.seen[side].push(output.clone());
                let mut tell = |to: usize, event: Event<'_>| {
                    wire.extend(self.sides[to].handle(self.now, event).into_iter().map(|o| (to, o)));
                };
                match output {
                    Output::Connect => {
                        self.connected = true;
                        tell(side, Event::Connected);
                        tell(1 - side, Event::Connected);
                    }
                    Output::Send(data) if self.connected => tell(1 - side, Event::Received(&data)),
                    Output::Close if self.connected => {
                        self.connected = false;
                        tell(1 - side, Event::Closed("closed by the other side"));
                    }
                    Output::Send(_)
                    | Output::Close
                    | Output::Up
                    | Output::Down
                    | Output::Update(_)
                    | Output::Refresh(_) => {}
                }
            }
        }

        /// Runs the clock to `until`, deadline by deadline.
        fn run(&mut self, until: Time) {
            while let Some((side, at)) = (0..2)
                .filter_map(|s| self.sides[s].poll_timeout().map(|t| (s, t)))
                .min_by_key(|(_, t)| *t)
                .filter(|(_, t)| *t <= until)
            {
                self.now = self.now.max(at);
                self.event(side, Event::Timeout);
            }
            self.now = until;
        }
    }

    #[test]
    fn two_sessions_establish_and_stay_up_on_keepalives() {
        let mut pair = Pair::new(config(65001, 65002, 1, false), config(65002, 65001, 2, true));
        pair.run(Time::from_seconds(2000, 0));
        assert_eq!(pair.sides.each_ref().map(Session::state), [State::Established; 2]);
        assert_eq!(pair.sides[0].families().len(), 4);
        assert_eq!(pair.seen[0].iter().filter(|o| **o == Output::Up).count(), 1, "never reset");
    }

    #[test]
    fn a_silent_peer_is_dropped_after_the_hold_time() {
        let mut pair = Pair::new(config(65001, 65002, 1, false), config(65002, 65001, 2, true));
        pair.run(Time::from_seconds(1001, 0));
        // Only side 0 lives on.
        let start = pair.now;
        pair.connected = false;
        while pair.sides[0].state() == State::Established {
            pair.now = pair.sides[0].poll_timeout().expect("timers run");
            pair.event(0, Event::Timeout);
        }
        assert_eq!(pair.now.since(start), Duration::from_secs(89), "90 s after the last sign of life");
        assert!(pair.sides[0].last_error().expect("said why").contains("hold timer"));
    }

    #[test]
    fn a_wrong_as_number_is_refused_with_advice_and_retried_ever_later() {
        let mut pair = Pair::new(config(65001, 65009, 1, false), config(65002, 65001, 2, true));
        pair.run(Time::from_seconds(1300, 0));
        let attempts = pair.seen[0].iter().filter(|o| **o == Output::Connect).count();
        assert!((7..=12).contains(&attempts), "{attempts} attempts in five minutes");
        assert!(pair.sides[0].last_error().expect("said why").contains("AS 65002"));
    }

    #[test]
    fn a_stop_sends_cease_and_stays_down() {
        let mut pair = Pair::new(config(65001, 65002, 1, false), config(65002, 65001, 2, true));
        pair.run(Time::from_seconds(1001, 0));
        pair.event(0, Event::Stop("maintenance"));
        pair.run(Time::from_seconds(2000, 0));
        assert_eq!(pair.sides[0].state(), State::Idle);
        assert!(pair.sides[1].last_error().expect("said why").contains("maintenance"));
    }

    #[test]
    fn octets_may_arrive_one_by_one_and_garbage_resets() {
        let mut pair = Pair::new(config(65001, 65002, 1, false), config(65002, 65001, 2, true));
        pair.run(Time::from_seconds(1001, 0));
        for octet in message::keepalive() {
            let out = pair.sides[0].handle(pair.now, Event::Received(&[octet]));
            assert_eq!(out, []);
        }
        let out = pair.sides[0].handle(pair.now, Event::Received(&[0; 19]));
        assert_eq!(out[0], Output::Send(Notification::new(1, 1).encode()));
        assert_eq!(out[1..], [Output::Down, Output::Close]);
    }
}
