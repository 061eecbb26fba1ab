//! The mass-alarm breaker (decision 31) and the pace of new rules.

use std::collections::VecDeque;
use std::time::Duration;

use traffic::{IpVersion, Networks, Time};

use crate::config::Config;

/// New targets are counted over this time.
const WINDOW: Duration = Duration::from_secs(10);
/// How long the breaker stays open after the last mass alarm.
const HOLD: Duration = Duration::from_secs(60);
/// Fewer new targets than this never open it, however small the own space is.
const LEAST: usize = 10;

/// Opens when more targets alarm at once than attacks explain: then an exporter or its sampling rate may be wrong, and what could
/// do mass harm waits. Rules that separate the attack from ordinary traffic do not.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    recent: VecDeque<Time>,
    until: Option<Time>,
}

impl Breaker {
    pub(super) const fn is_open(&self) -> bool {
        self.until.is_some()
    }

    /// A new target at `now`; the count if that opens the breaker.
    pub(super) fn alarm(&mut self, now: Time, limit: usize) -> Option<usize> {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|t| now.since(*t) > WINDOW) {
            self.recent.pop_front();
        }
        // One more than the limit is all that has to be remembered.
        while self.recent.len() > limit + 1 {
            self.recent.pop_front();
        }
        if self.recent.len() <= limit {
            return None;
        }
        self.open(now).then_some(self.recent.len())
    }

    /// Opens it, or holds it open for longer; whether it was closed.
    pub(super) fn open(&mut self, now: Time) -> bool {
        self.until.replace(now.after(HOLD)).is_none()
    }

    /// Whether it closes now: a minute after the last new target beyond the limit.
    pub(super) fn closes(&mut self, now: Time) -> bool {
        let closes = self.until.is_some_and(|until| now >= until);
        if closes {
            self.close();
        }
        closes
    }

    pub(super) fn close(&mut self) {
        self.until = None;
        self.recent.clear();
    }
}

/// New targets in ten seconds that are still believed: `breaker_targets`, or `breaker_percent` of the own hosts if that is less.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
pub(super) fn limit(config: &Config, networks: &Networks) -> usize {
    let share = own_hosts(networks) * config.breaker_share;
    config.breaker_targets.min((share as usize).max(LEAST))
}

/// Addresses of the own IPv4 space, or as many as count where IPv6 is there.
pub(super) fn own_hosts(networks: &Networks) -> f64 {
    networks.prefixes().iter().map(|p| host_count(p.version(), p.length())).sum()
}

pub(super) fn host_count(version: IpVersion, length: u8) -> f64 {
    f64::from(version.bits() - length).exp2()
}

/// A token bucket for new automatic rules.
#[derive(Debug)]
pub(super) struct Pace {
    last: Option<Time>,
    tokens: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { last: None, tokens: f64::INFINITY }
    }
}

impl Pace {
    /// Whether one more rule may go now.
    pub(super) fn take(&mut self, now: Time, per_second: u32) -> bool {
        let rate = f64::from(per_second.max(1));
        let gained = self.last.replace(now).map_or(rate, |last| now.since(last).as_secs_f64() * rate);
        self.tokens = (self.tokens + gained).min(rate);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_once_and_closes_a_minute_after_the_last_new_target() {
        let at = |ms: u64| Time::from_seconds(1000, 0).after(Duration::from_millis(ms));
        let mut breaker = Breaker::default();
        let opened: Vec<u64> = (0..200u64).filter(|i| breaker.alarm(at(i * 100), 50).is_some()).collect();
        assert_eq!(opened, [50], "one clear alarm");
        assert!(!breaker.closes(at(79_800)), "less than a minute after the last");
        assert!(breaker.closes(at(80_000)));
        assert!(!breaker.is_open());
    }

    #[test]
    fn rare_alarms_never_open_it() {
        let mut breaker = Breaker::default();
        let start = Time::from_seconds(1000, 0);
        assert!((0..10_000).all(|i| breaker.alarm(start.after(Duration::from_millis(250 * i)), 50).is_none()));
    }

    #[test]
    fn the_limit_is_a_share_of_small_spaces_but_never_a_handful() {
        let limit_of = |nets: &[&str]| {
            let nets: Vec<traffic::Prefix> = nets.iter().map(|n| n.parse().expect("prefix")).collect();
            limit(&Config::default(), &Networks::new(&nets))
        };
        assert_eq!(limit_of(&["10.0.0.0/8"]), 50);
        assert_eq!(limit_of(&["192.0.2.0/24"]), 25);
        assert_eq!(limit_of(&["192.0.2.0/30"]), 10);
        assert_eq!(limit_of(&["192.0.2.0/30", "2001:db8::/32"]), 50);
    }

    #[test]
    fn the_pace_is_kept() {
        let mut pace = Pace::default();
        let start = Time::from_seconds(1000, 0);
        let went = (0..1000u64).filter(|i| pace.take(start.after(Duration::from_millis(10 * i)), 20)).count();
        assert!((219..=221).contains(&went), "{went} in ten seconds at 20 per second and a burst of 20");
    }
}
