//! What the unit tests of this folder share: a small network, an attack that a real detector raised, and rules for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp::Route;
use detector::{Attack, Bucket, Class, Detector, Event, HostGroup, Measure, Routers, Unit};
use flowspec::{FlowSpec, json};
use traffic::{Direction, Fields, Origin, Prefix, Sample, Target, Time};

use super::{Decision, Held, Order, Policy, Proposal};
use crate::config::{Config, GroupPolicy};

const HOST: &str = "203.0.113.9";

/// Seconds after the beginning of a test.
pub(super) fn at(seconds: u64) -> Time {
    Time::from_seconds(1_700_000_000 + seconds, 0)
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

pub(super) fn target(host: &str) -> Target {
    Target { prefix: prefix(host), direction: Direction::Incoming }
}

/// Mitigation is on, for 203.0.113.0/24.
pub(super) fn config() -> Config {
    config_of(GroupPolicy { enable_ban: true, ..GroupPolicy::default() })
}

pub(super) fn config_of(group: GroupPolicy) -> Config {
    Config {
        networks: vec![prefix("203.0.113.0/24")],
        enable_ban: true,
        groups: BTreeMap::from([("global".to_owned(), group)]),
        ban_time: Duration::from_secs(60),
        probe_time: Duration::from_secs(10),
        ..Config::default()
    }
}

/// A packet of an NTP reflection.
pub(super) fn packet(host: &str, source_port: u16) -> Sample {
    let destination = prefix(host);
    let mut sample = Sample::empty(at(0), destination.version(), Origin::Packet);
    (sample.source, sample.destination) = (prefix("198.51.100.7").bits(), destination.bits());
    (sample.source_port, sample.destination_port, sample.protocol) = (source_port, 4000, 17);
    (sample.length, sample.packets, sample.bytes, sample.known) = (468, 1, 468, Fields::ALL);
    sample
}

/// An attack as a detector raises it at `now`; it is over its threshold still.
pub(super) fn attack(host: &str, now: Time) -> Attack {
    let mut attack = alarmed(host, now);
    (attack.detected, attack.over_since) = (now, Some(now));
    // As it is a little later: mined, with twenty times its threshold arriving.
    attack.bucket = None;
    (attack.units_per_second, attack.packets_per_second) = (2000, 2000);
    attack
}

/// An attack at its alarm.
fn alarmed(host: &str, now: Time) -> Attack {
    let measure = Measure { class: Class::Total, unit: Unit::Packets };
    let thresholds = [((Direction::Incoming, measure), 100)].into_iter().collect();
    let (mut detector, mut meters) = Detector::new(
        detector::Config {
            networks: vec![prefix("203.0.113.0/24")],
            groups: vec![HostGroup {
                name: "global".to_owned(),
                networks: Vec::new(),
                thresholds,
                ..HostGroup::default()
            }],
            ..detector::Config::default()
        },
        1,
        1,
    );
    detector.step(now);
    let mut later = now;
    loop {
        meters[0].count(&vec![packet(host, 123); 1000]);
        meters[0].serve(later);
        later = later.after(Duration::from_millis(50));
        if detector.step(later).iter().any(|e| matches!(e, Event::Alarm(_))) {
            break;
        }
    }
    detector.attacks().values().next().expect("an attack").clone()
}

/// An empty bucket that was opened then.
pub(super) fn bucket(opened: Time) -> Bucket {
    let mut bucket = alarmed(HOST, opened).bucket.expect("an alarm opens one");
    bucket.opened = opened;
    bucket
}

pub(super) fn attacks(all: &[&Attack]) -> BTreeMap<Target, Attack> {
    all.iter().map(|attack| (attack.target, (*attack).clone())).collect()
}

pub(super) fn rule(host: &str, port: u16) -> FlowSpec {
    let text = format!(
        r#"{{"destination_prefix": "{host}/32", "protocols": ["udp"], "source_ports": [{port}], "action_type": "discard"}}"#
    );
    json::parse(&text).expect("a rule")
}

pub(super) fn proposal(host: &str, port: u16) -> Proposal {
    Proposal { pattern: rule(host, port).pattern, coverage: 0.9, collateral: None, collateral_bound: None }
}

pub(super) fn order(now: Time, lasts: Option<u64>) -> Order {
    Order::new("alice", "a test", now, lasts.map(Duration::from_secs))
}

pub(super) fn wanted(policy: &Policy) -> Vec<String> {
    policy.wanted().keys().map(Route::to_string).collect()
}

/// A peer that takes everything holds all that is wanted.
pub(super) fn held(policy: &Policy) -> Held {
    policy.wanted().into_keys().map(|route| (route, Routers::ALL)).collect()
}

/// Decisions as short words.
pub(super) fn words(decisions: &[Decision]) -> Vec<String> {
    let word = |d: &Decision| match d {
        Decision::Added(m) => format!("added {}", m.route),
        Decision::Changed(m) => format!("changed {} {:?}", m.route, m.dry_run),
        Decision::Refused { route, reason, .. } => format!("refused {route} {reason:?}"),
        Decision::Removed(m) => format!("removed {}", m.route),
        Decision::Escalated { from, to, .. } => format!("escalated from {from} to {to}"),
        Decision::Probing(_) => "probing".to_owned(),
        Decision::ProbeFailed { lasts, .. } => format!("probe failed {lasts:?}"),
        Decision::ProbePassed(_) => "probe passed".to_owned(),
        Decision::BreakerOpened { targets } => format!("breaker opened {targets}"),
        Decision::BreakerClosed => "breaker closed".to_owned(),
        Decision::WithdrawnAll { routes, .. } => format!("withdrawn {routes}"),
        Decision::Resumed { .. } => "resumed".to_owned(),
    };
    decisions.iter().map(word).collect()
}
