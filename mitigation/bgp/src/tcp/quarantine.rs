//! Which routes a peer must not be sent for a while: its session ended right after them.
//!
//! One rule that a router cannot take must not cost the session again and again (the CenturyLink outage of 2020 was such a loop).
//! A session that ends within `window` of new routes makes them suspects: at once if the peer blamed an UPDATE, otherwise when it
//! happens three times in a row. Suspects are then sent one by one; the one that ends a session alone is the culprit and stays away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use traffic::Time;

use crate::announcement::{Route, Wanted};

/// How long a culprit stays away: one that the peer blamed, and one that is only suspected, since a router may also be restarted
/// by hand at such a moment.
const BLAMED: Duration = Duration::from_secs(600);
const SUSPECTED: Duration = Duration::from_secs(60);
/// Gap between suspects that are tried one by one.
const GAP: Duration = Duration::from_secs(1);
/// Sessions that end silently right after a route before it is a suspect.
const STRIKES: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Quarantine {
    window: Duration,
    recent: VecDeque<(Time, Vec<Route>)>,
    strikes: BTreeMap<Route, u32>,
    suspects: VecDeque<Route>,
    release_at: Option<Time>,
    culprits: BTreeMap<Route, Time>,
}

impl Quarantine {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, ..Self::default() }
    }

    /// Routes that were just sent for the first time in this session.
    pub(super) fn sent(&mut self, now: Time, routes: Vec<Route>) {
        if !routes.is_empty() && !self.window.is_zero() {
            self.recent.push_back((now, routes));
        }
        self.prune(now);
    }

    /// The session outlived its window after these: they are innocent.
    fn prune(&mut self, now: Time) {
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > self.window) {
            for route in self.recent.pop_front().into_iter().flat_map(|(_, routes)| routes) {
                self.strikes.remove(&route);
            }
        }
    }

    /// The session ended by itself; `blamed` if the peer's NOTIFICATION was about an UPDATE. Returns new culprits.
    pub(super) fn session_ended(&mut self, now: Time, blamed: bool) -> Vec<Route> {
        self.prune(now);
        let recent: Vec<Route> = self.recent.drain(..).flat_map(|(_, routes)| routes).collect();
        self.release_at = None;
        let mut suspects = Vec::new();
        for route in recent {
            let strikes = self.strikes.entry(route.clone()).or_insert(0);
            *strikes += 1;
            if blamed || *strikes >= STRIKES {
                suspects.push(route);
            }
        }
        match &suspects[..] {
            [] => Vec::new(),
            [_] => {
                let lasts = if blamed { BLAMED } else { SUSPECTED };
                self.culprits.insert(suspects[0].clone(), now.after(lasts));
                suspects
            }
            _ => {
                self.suspects.extend(suspects);
                Vec::new()
            }
        }
    }

    /// A session began: suspects wait for their turn.
    pub(super) fn session_began(&mut self, now: Time) {
        self.release_at = (!self.suspects.is_empty()).then(|| now.after(GAP));
    }

    /// When [`Quarantine::advance`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.release_at.into_iter().chain(self.culprits.values().copied()).min()
    }

    /// Lets the next suspect try, and culprits go that have served their time; whether anything changed.
    pub(super) fn advance(&mut self, now: Time) -> bool {
        let before = self.culprits.len() + self.suspects.len();
        self.culprits.retain(|_, until| now < *until);
        if self.release_at.is_some_and(|at| now >= at) {
            self.suspects.pop_front();
            self.release_at = (!self.suspects.is_empty()).then(|| now.after(GAP));
        }
        before != self.culprits.len() + self.suspects.len()
    }

    /// What is no longer wanted need not be remembered.
    pub(super) fn forget(&mut self, wanted: &Wanted) {
        self.culprits.retain(|route, _| wanted.contains_key(route));
        self.suspects.retain(|route| wanted.contains_key(route));
        self.strikes.retain(|route, _| wanted.contains_key(route));
    }

    /// What the peer is not sent now.
    pub(super) fn routes(&self) -> BTreeSet<Route> {
        self.culprits.keys().chain(&self.suspects).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(n: u8) -> Route {
        Route::Unicast(format!("192.0.2.{n}/32").parse().expect("prefix"))
    }

    fn at(seconds: u64) -> Time {
        Time::from_seconds(1000 + seconds, 0)
    }

    #[test]
    fn the_rule_that_resets_a_router_is_found_among_many_and_the_others_arrive() {
        let all: Vec<Route> = (0..20).map(route).collect();
        let bad = route(13);
        let mut quarantine = Quarantine::new(Duration::from_secs(5));
        let mut now = 0;
        let mut sessions = 0;
        let mut held: BTreeSet<Route> = BTreeSet::new();
        // A router that resets as soon as it is sent the bad rule.
        'sessions: while sessions < 10 {
            sessions += 1;
            held.clear();
            quarantine.session_began(at(now));
            loop {
                let away = quarantine.routes();
                let new: Vec<Route> = all.iter().filter(|r| !away.contains(r) && !held.contains(r)).cloned().collect();
                held.extend(new.iter().cloned());
                let ends = new.contains(&bad);
                quarantine.sent(at(now), new);
                if ends {
                    quarantine.session_ended(at(now), true);
                    now += 2;
                    continue 'sessions;
                }
                match quarantine.poll_timeout() {
                    Some(next) if next <= at(now + 100) => {
                        now += 6;
                        quarantine.advance(at(now));
                    }
                    _ => break 'sessions,
                }
            }
        }
        assert_eq!(sessions, 3, "all at once, one by one, without the culprit");
        assert_eq!(held.len(), 19);
        assert_eq!(quarantine.routes(), BTreeSet::from([bad.clone()]));
        assert!(quarantine.advance(at(now + 700)) && quarantine.routes().is_empty(), "tried again later");
    }

    #[test]
    fn a_router_that_crashes_now_and_then_costs_no_rule() {
        let mut quarantine = Quarantine::new(Duration::from_secs(5));
        for i in 0..20 {
            quarantine.session_began(at(i * 100));
            quarantine.sent(at(i * 100), vec![route(1), route(2)]);
            quarantine.sent(at(i * 100 + 50), Vec::new());
            assert_eq!(quarantine.session_ended(at(i * 100 + 60), false), []);
        }
        assert!(quarantine.routes().is_empty());
    }

    #[test]
    fn a_route_that_silently_ends_three_sessions_alone_is_a_culprit() {
        let mut quarantine = Quarantine::new(Duration::from_secs(5));
        for (i, expected) in [(0, vec![]), (1, vec![]), (2, vec![route(1)])] {
            quarantine.sent(at(i * 10), vec![route(1)]);
            assert_eq!(quarantine.session_ended(at(i * 10 + 1), false), expected);
        }
        quarantine.forget(&Wanted::new());
        assert!(quarantine.routes().is_empty(), "it is not wanted any more");
    }
}
