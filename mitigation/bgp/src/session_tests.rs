//! Two sessions joined by wires that lose nothing, on a clock that the test turns.

use std::collections::VecDeque;

use flowspec::Action;

use super::*;
use crate::announcement::Announcement;
use crate::attribute::Sender;

fn config(asn: u32, remote: u32, last: u8, mode: ConnectionMode) -> SessionConfig {
    SessionConfig {
        local_asn: asn,
        remote_asn: Some(remote),
        identifier: Ipv4Addr::new(192, 0, 2, last),
        mode,
        seed: 7,
        ..SessionConfig::default()
    }
}

use ConnectionMode::{Active, Both, Passive};

/// Connection `i` was opened by side `i`.
struct Pair {
    now: Time,
    sides: [Session; 2],
    seen: [Vec<Output>; 2],
    open: [bool; 2],
    /// Side 1 is dead: nothing arrives there and nothing comes.
    cut: bool,
    wire: VecDeque<(usize, Wire)>,
}

enum Wire {
    Connected(Side),
    Closed(Side),
    Octets(Side, Vec<u8>),
}

impl Pair {
    fn new(a: SessionConfig, b: SessionConfig) -> Self {
        let now = Time::from_seconds(1000, 0);
        Self {
            now,
            sides: [Session::new(now, a), Session::new(now, b)],
            seen: Default::default(),
            open: [false; 2],
            cut: false,
            wire: VecDeque::new(),
        }
    }

    fn standard() -> Self {
        Self::new(config(65001, 65002, 1, Active), config(65002, 65001, 2, Passive))
    }

    fn event(&mut self, side: usize, event: Event<'_>) {
        let outputs = self.sides[side].handle(self.now, event);
        self.put(side, outputs);
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((to, wire)) = self.wire.pop_front() {
            let event = match &wire {
                Wire::Connected(side) => Event::Connected(*side),
                Wire::Closed(side) => Event::Closed(*side, "closed by the other side"),
                Wire::Octets(side, data) => Event::Received(*side, data),
            };
            let outputs = self.sides[to].handle(self.now, event);
            self.put(to, outputs);
        }
    }

    fn put(&mut self, side: usize, outputs: Vec<Output>) {
        for output in outputs {
            self.seen[side].push(output.clone());
            let other = 1 - side;
            let (link, theirs) = match &output {
                Output::Send(Side::Outgoing, _) | Output::Close(Side::Outgoing) => (side, Side::Incoming),
                _ => (other, Side::Outgoing),
            };
            match output {
                Output::Connect if !self.cut => {
                    self.open[side] = true;
                    self.wire.push_back((side, Wire::Connected(Side::Outgoing)));
                    self.wire.push_back((other, Wire::Connected(Side::Incoming)));
                }
                Output::Send(_, data) if self.open[link] && !self.cut => {
                    self.wire.push_back((other, Wire::Octets(theirs, data)))
                }
                Output::Close(_) if self.open[link] => {
                    self.open[link] = false;
                    if !self.cut {
                        self.wire.push_back((other, Wire::Closed(theirs)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Runs the clock to `until`, deadline by deadline; deadlines at one instant are taken by both before anything is delivered.
    fn run(&mut self, until: Time) {
        let sides = if self.cut { 1 } else { 2 };
        while let Some(at) = (0..sides).filter_map(|s| self.sides[s].poll_timeout()).min().filter(|t| *t <= until) {
            self.now = self.now.max(at);
            for side in 0..sides {
                if self.sides[side].poll_timeout().is_some_and(|t| t <= self.now) {
                    let outputs = self.sides[side].handle(self.now, Event::Timeout);
                    self.put(side, outputs);
                }
            }
            self.deliver();
        }
        self.now = until;
    }

    fn at(&mut self, seconds: u64) {
        self.run(Time::from_seconds(seconds, 0));
    }

    fn states(&self) -> [State; 2] {
        self.sides.each_ref().map(Session::state)
    }

    fn count(&self, side: usize, wanted: impl Fn(&Output) -> bool) -> usize {
        self.seen[side].iter().filter(|o| wanted(o)).count()
    }

    fn error(&self, side: usize) -> &str {
        self.sides[side].last_error().unwrap_or_default()
    }
}

fn rule(n: u32) -> Route {
    let text = format!("{{\"destination_prefix\": \"203.0.113.{n}/32\", \"action_type\": \"discard\"}}");
    Route::FlowSpec(flowspec::json::parse(&text).expect("valid").pattern)
}

fn announce(asn: u32, routes: &[Route]) -> Vec<u8> {
    let next_hops = (Ipv4Addr::new(192, 0, 2, 1), "100::1".parse().expect("address"));
    let sender = Sender { asn, ibgp: false, four_octet_as: true, next_hops, rate_asn: 0 };
    let nlri: Vec<Vec<u8>> = routes.iter().map(|r| attribute::encode_nlri(r).expect("encodes")).collect();
    attribute::announce(Family::Ipv4FlowSpec, &sender, &Announcement::flowspec(Action::Discard), &nlri).expect("fits")
}

#[test]
fn two_sessions_establish_and_stay_up_on_keepalives() {
    let mut pair = Pair::standard();
    assert_eq!(pair.states(), [State::Idle, State::Active]);
    pair.at(2000);
    assert_eq!(pair.states(), [State::Established; 2]);
    assert_eq!(pair.sides[0].families().len(), 4);
    assert_eq!(pair.count(0, |o| *o == Output::Up), 1, "never reset");
}

#[test]
fn a_silent_peer_is_dropped_after_the_hold_time() {
    let mut pair = Pair::standard();
    pair.at(1001);
    pair.cut = true;
    pair.at(1089);
    assert_eq!(pair.states()[0], State::Established, "90 s after the last sign of life");
    pair.at(1091);
    assert_ne!(pair.states()[0], State::Established);
    let notification = Notification::new(4, 0).encode();
    assert_eq!(pair.count(0, |o| *o == Output::Send(Side::Outgoing, notification.clone())), 1);
    assert_eq!(pair.count(0, |o| *o == Output::Down { graceful: None }), 1);
}

#[test]
fn a_wrong_as_number_is_refused_with_advice_and_retried_ever_later() {
    let mut pair = Pair::new(config(65001, 65009, 1, Active), config(65002, 65001, 2, Passive));
    pair.at(1300);
    let attempts = pair.count(0, |o| *o == Output::Connect);
    assert!((7..=12).contains(&attempts), "{attempts} attempts in five minutes");
    assert!(pair.error(0).contains("AS 65002"), "{}", pair.error(0));
}

#[test]
fn a_stop_sends_cease_with_its_text_and_stays_down() {
    let mut pair = Pair::standard();
    pair.at(1001);
    pair.event(0, Event::Stop("maintenance"));
    pair.at(2000);
    assert_eq!(pair.states()[0], State::Idle);
    assert!(pair.error(1).contains("maintenance"));
    assert_eq!(pair.count(1, |o| *o == Output::Down { graceful: None }), 1, "routes go at once");
}

#[test]
fn octets_may_arrive_one_by_one_and_garbage_resets() {
    let mut pair = Pair::standard();
    pair.at(1001);
    for octet in message::keepalive() {
        let out = pair.sides[0].handle(pair.now, Event::Received(Side::Outgoing, &[octet]));
        assert_eq!(out, []);
    }
    let out = pair.sides[0].handle(pair.now, Event::Received(Side::Outgoing, &[0; 19]));
    assert_eq!(out[0], Output::Send(Side::Outgoing, Notification::new(1, 1).encode()));
    assert_eq!(out[1..], [Output::Down { graceful: None }, Output::Close(Side::Outgoing)]);
}

#[test]
fn of_two_connections_the_one_of_the_higher_identifier_stays() {
    for (ours, theirs, stays) in [(1, 2, 1), (9, 2, 0)] {
        let mut pair = Pair::new(config(65001, 65002, ours, Both), config(65002, 65001, theirs, Both));
        // Both connect at the same instant.
        pair.at(1002);
        assert_eq!(pair.states(), [State::Established; 2], "{} / {}", pair.error(0), pair.error(1));
        assert_eq!(pair.open, [stays == 0, stays == 1], "identifiers {ours} and {theirs}");
        assert_eq!(pair.count(0, |o| *o == Output::Up), 1);
        assert_eq!(pair.count(0, |o| matches!(o, Output::Down { .. })), 0);
        pair.at(3000);
        assert_eq!(pair.states(), [State::Established; 2]);
        assert_eq!(pair.count(0, |o| *o == Output::Connect), 1, "no more attempts");
    }
}

#[test]
fn a_second_connection_does_not_disturb_an_established_one() {
    let mut pair = Pair::new(config(65001, 65002, 1, Both), config(65002, 65001, 2, Passive));
    pair.at(1001);
    // Somebody with the peer's address connects.
    let mut out = pair.sides[0].handle(pair.now, Event::Connected(Side::Incoming));
    let open = Open {
        asn: 65002,
        hold_time: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 2),
        families: Family::ALL.into(),
        four_octet_as: true,
        route_refresh: true,
        enhanced_refresh: false,
        graceful_restart: None,
    };
    out.extend(pair.sides[0].handle(pair.now, Event::Received(Side::Incoming, &open.encode())));
    assert!(out.contains(&Output::Send(Side::Incoming, Notification::new(6, 7).encode())), "{out:?}");
    assert!(out.contains(&Output::Close(Side::Incoming)));
    assert_eq!(pair.states()[0], State::Established);
}

#[test]
fn a_restart_is_waited_for_if_both_sides_know_it_and_no_notification_was_sent() {
    let restart = |mut c: SessionConfig, seconds: u64| {
        c.graceful_restart = Duration::from_secs(seconds);
        c
    };
    for (theirs, expected) in [(120, Some(Duration::from_secs(120))), (0, None)] {
        let (a, b) = (config(65001, 65002, 1, Passive), config(65002, 65001, 2, Active));
        let mut pair = Pair::new(restart(a, 60), restart(b, theirs));
        pair.at(1001);
        assert_eq!(pair.sides[0].graceful_restart(), theirs > 0);
        pair.event(1, Event::Leave);
        assert_eq!(pair.count(0, |o| *o == Output::Down { graceful: expected }), 1, "restart time {theirs}");
    }
    let mut pair =
        Pair::new(restart(config(65001, 65002, 1, Passive), 60), restart(config(65002, 65001, 2, Active), 120));
    pair.at(1001);
    pair.event(1, Event::Stop("for good"));
    assert_eq!(pair.count(0, |o| *o == Output::Down { graceful: None }), 1);
}

#[test]
fn the_first_open_after_a_restart_says_so_and_later_ones_do_not() {
    let mut a = config(65001, 65002, 1, Active);
    (a.graceful_restart, a.restarted) = (Duration::from_secs(120), true);
    let mut b = config(65002, 65001, 2, Passive);
    b.graceful_restart = Duration::from_secs(120);
    let mut pair = Pair::new(a, b);
    let restarted = |pair: &Pair| pair.sides[1].peer().and_then(|p| p.graceful_restart.clone()).expect("offered");
    pair.at(1001);
    assert!(restarted(&pair).restarted && restarted(&pair).families.values().all(|preserved| *preserved));
    pair.event(1, Event::Received(Side::Incoming, &Notification::new(6, 4).encode()));
    pair.at(1010);
    assert_eq!(pair.states(), [State::Established; 2]);
    assert!(!restarted(&pair).restarted);
}

#[test]
fn routes_beyond_the_cap_are_counted_and_dropped_and_the_session_stays() {
    let mut a = config(65001, 65002, 1, Active);
    a.max_received = 3;
    let mut pair = Pair::new(a, config(65002, 65001, 2, Passive));
    pair.at(1001);
    let three = [rule(1), rule(2), rule(3)];
    pair.event(0, Event::Received(Side::Outgoing, &announce(65002, &three)));
    pair.event(0, Event::Received(Side::Outgoing, &announce(65002, &three)));
    assert_eq!(pair.sides[0].over_limit(), 0, "the same routes again are no more");
    pair.event(0, Event::Received(Side::Outgoing, &announce(65002, &[rule(4), rule(3)])));
    assert_eq!(pair.states(), [State::Established; 2]);
    assert_eq!(pair.sides[0].over_limit(), 1);
}

#[test]
fn routes_with_a_loop_or_a_foreign_first_as_are_withdrawn() {
    let mut pair = Pair::standard();
    pair.at(1001);
    for asn in [65001, 65009] {
        pair.seen[0].clear();
        pair.event(0, Event::Received(Side::Outgoing, &announce(asn, &[rule(1)])));
        let [Output::Update(update)] = &pair.seen[0][..] else { panic!("{:?}", pair.seen[0]) };
        assert_eq!((update.announced.len(), update.withdrawn.len()), (0, 1), "path begins with {asn}");
    }
    assert_eq!(pair.states(), [State::Established; 2]);
}

/// What a peer says at random: mostly what is in order, now and then what is not.
fn random_message(open: &Open, random: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
    match random(6) {
        0 => open.encode(),
        1 | 2 => message::keepalive(),
        3 => announce(65002, &[rule(u32::try_from(random(200)).expect("small"))]),
        4 => Notification::new(6, 7).encode(),
        _ => vec![0xff; usize::try_from(random(40)).expect("small")],
    }
}

/// Any event, mostly of a message; a timeout may come late.
fn random_event<'a>(side: Side, data: &'a [u8], now: &mut Time, random: &mut impl FnMut(u64) -> u64) -> Event<'a> {
    match random(12) {
        0..=1 => Event::Connected(side),
        2 => Event::Closed(side, "closed"),
        3..=8 => Event::Received(side, data),
        9 => {
            *now = now.after(Duration::from_secs(random(100)));
            Event::Timeout
        }
        10 if random(10) == 0 => Event::Stop("stop"),
        _ => Event::Timeout,
    }
}

/// Whether the session is up after what it put out; up and down take turns, and routes come between.
fn up_after(up: bool, outputs: Vec<Output>) -> bool {
    outputs.into_iter().fold(up, |up, output| match output {
        Output::Up => {
            assert!(!up, "up twice");
            true
        }
        Output::Down { .. } => {
            assert!(up, "down without up");
            false
        }
        Output::Update(_) | Output::Refresh(_) => {
            assert!(up, "routes only over an established session");
            up
        }
        _ => up,
    })
}

#[test]
fn random_events_never_break_the_machine() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    for round in 0..2000 {
        let mut c = config(65001, 65002, 1, [Active, Passive, Both][round % 3]);
        c.graceful_restart = Duration::from_secs(random(2) * 60);
        let mut now = Time::from_seconds(1000, 0);
        let mut session = Session::new(now, c);
        let mut up = false;
        let mut open = Open {
            asn: 65002,
            hold_time: 9,
            identifier: Ipv4Addr::new(192, 0, 2, 2),
            families: Family::ALL.into(),
            four_octet_as: true,
            route_refresh: true,
            enhanced_refresh: true,
            graceful_restart: None,
        };
        for _ in 0..60 {
            let side = Side::ALL[usize::from(random(2) == 0)];
            open.hold_time = [0, 3, 9, 90][usize::try_from(random(4)).expect("small")];
            let data = random_message(&open, &mut random);
            let event = random_event(side, &data, &mut now, &mut random);
            let before = session.state();
            up = up_after(up, session.handle(now, event));
            assert_eq!(session.state() == State::Established, up, "from {before:?}");
            assert_eq!(session.established_side().is_some(), up);
        }
    }
}
