//! What a policy remembers over a restart, as records for a store: one per route, and one for `withdraw-all`.
//!
//! A route's own octets (its NLRI) name it, so that a record means the same in every version of the program.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp::{Announcement, Community, ExtendedCommunity, Family, LargeCommunity, Origin, Route, attribute};
use flowspec::{Action, nlri};
use serde::{Deserialize, Serialize};
use traffic::{Direction, IpVersion, Prefix, Target, Time};

use super::ladder::Probe;
use super::{DryRun, Mitigation, Order, Policy};

/// After a restart an attack that is not seen again within this time counts as over.
const UNKNOWN: Duration = Duration::from_secs(60);
/// The key of the record of `withdraw-all`.
const HALT: &str = "withdraw-all";
/// The key of the record that says by how many nanoseconds the system's clock was ahead of the one that all times of the others are
/// of; without it by nothing.
const CLOCK: &str = "clock";

/// Records by key.
pub type Records = BTreeMap<String, String>;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    prefix: String,
    outgoing: bool,
    group: String,
    since: u64,
    coverage: f64,
    order: Option<Order>,
    announced: bool,
    approved: bool,
    rung: usize,
    failed_probes: u32,
    /// Away for a probe that began then.
    probe: Option<u64>,
    actions: Vec<Action>,
    next_hop: Option<std::net::IpAddr>,
    communities: Vec<(u16, u16)>,
    large_communities: Vec<(u32, u32, u32)>,
    extended_communities: Vec<[u8; 8]>,
    manual: bool,
    scope: Option<String>,
    peers: Option<Vec<String>>,
}

/// A route as text: family and NLRI in hexadecimal. Ids that people see are made of it.
#[must_use]
pub fn route_key(route: &Route) -> String {
    let family = attribute::family_of(route).map_or("flowspec", Family::name);
    let octets = match route {
        Route::Unicast(_) => attribute::encode_nlri(route).unwrap_or_default(),
        Route::FlowSpec(pattern) => nlri::encode(pattern).unwrap_or_default(),
    };
    let hex: String = octets.iter().map(|o| format!("{o:02x}")).collect();
    format!("{family}:{hex}")
}

/// The route of such a text.
#[must_use]
pub fn route_of(key: &str) -> Option<Route> {
    let (family, hex) = key.split_once(':')?;
    if hex.len() % 2 != 0 || !hex.is_ascii() {
        return None;
    }
    let octets: Option<Vec<u8>> =
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()).collect();
    let octets = octets?;
    let version = if family.starts_with("ipv6") { IpVersion::V6 } else { IpVersion::V4 };
    if family.ends_with("flowspec") {
        return nlri::decode(version, &octets).ok().map(Route::FlowSpec);
    }
    match nlri::decode_unicast(version, &octets)?[..] {
        [prefix] => Some(Route::Unicast(prefix)),
        _ => None,
    }
}

impl Policy {
    /// Everything to remember. The system's clock is `ahead` of the policy's by so many nanoseconds: what lasts until a time lasts
    /// until then over a restart, too, when the policy's clock begins as the system's.
    #[must_use]
    pub fn records(&self, ahead: i64) -> Records {
        let mut records = Records::new();
        if ahead != 0 {
            records.insert(CLOCK.to_owned(), ahead.to_string());
        }
        if let Some(order) = &self.halted {
            records.insert(HALT.to_owned(), serde_json::to_string(order).unwrap_or_default());
        }
        for m in self.manual.values() {
            put(&mut records, m, None, None);
        }
        for case in self.cases.values() {
            case.mitigations.iter().for_each(|m| put(&mut records, m, Some(case), None));
            if let Some(probe) = &case.probe {
                probe.mitigations.iter().for_each(|m| put(&mut records, m, Some(case), Some(probe.since.0)));
            }
        }
        records
    }

    /// Takes remembered records up at a start; those that have ended or are not understood are left out. Returns how many were taken.
    pub fn restore(&mut self, now: Time, records: &Records) -> usize {
        let mut taken = 0;
        let ahead = records.get(CLOCK).and_then(|text| text.parse().ok()).unwrap_or(0);
        for (key, text) in records {
            if key == CLOCK {
                continue;
            }
            if key == HALT {
                self.halted = serde_json::from_str(text).ok();
                continue;
            }
            let parsed = key
                .split_once('|')
                .and_then(|(_, route)| route_of(route))
                .zip(serde_json::from_str::<Record>(text).ok());
            let Some((route, mut record)) = parsed else { continue };
            record.since = record.since.saturating_add_signed(ahead);
            record.probe = record.probe.map(|since| since.saturating_add_signed(ahead));
            record.order.iter_mut().for_each(|order| order.moved(ahead));
            taken += usize::from(self.restore_one(now, route, record).is_some());
        }
        // What the rails no longer allow, or dry run holds back, is not announced; the rest is, before anything else happens.
        let mut unsaid = Vec::new();
        self.settle_all(now, &mut unsaid);
        taken
    }

    fn restore_one(&mut self, now: Time, route: Route, record: Record) -> Option<()> {
        let prefix: Prefix = record.prefix.parse().ok()?;
        let direction = if record.outgoing { Direction::Outgoing } else { Direction::Incoming };
        let target = Target { prefix, direction };
        let announcement = Announcement {
            actions: record.actions,
            next_hop: record.next_hop,
            communities: record.communities.into_iter().map(|(a, b)| Community(a, b)).collect(),
            large_communities: record.large_communities.into_iter().map(|(a, b, c)| LargeCommunity(a, b, c)).collect(),
            extended_communities: record.extended_communities.into_iter().map(ExtendedCommunity).collect(),
            origin: if record.manual { Origin::Manual } else { Origin::Automatic },
            scope: record.scope.and_then(|s| s.parse().ok()),
            peers: record.peers.map(|p| p.into_iter().collect()),
        };
        let mut m = Mitigation::automatic(Time(record.since), target, route, announcement, record.coverage);
        m.order = record.order;
        (m.announced, m.paced, m.approved) = (record.announced, record.announced, record.approved);
        // Nothing is known of its attack yet: a blackhole that had not been announced is no more than an offer.
        m.gate = (!m.is_rule() && !m.is_manual()).then_some(DryRun::BelowBlackholeLevel);
        if m.is_manual() {
            if m.order.as_ref().is_some_and(|order| order.is_over(now)) {
                return None;
            }
            self.manual.insert(m.route.clone(), m);
            return Some(());
        }
        let unban_anyway = !self.config.unban_only_if_attack_finished;
        if unban_anyway && now.since(m.since) >= self.config.ban_time && record.probe.is_none() {
            return None;
        }
        let case = self.cases.entry(target).or_default();
        case.group = record.group;
        case.mined = true;
        case.rung = record.rung;
        case.failed_probes = record.failed_probes;
        case.unknown_until = Some(now.after(UNKNOWN));
        match record.probe {
            Some(since) => {
                let probe = case.probe.get_or_insert_with(|| Probe { mitigations: Vec::new(), since: Time(since) });
                probe.mitigations.push(m);
            }
            None => case.mitigations.push(m),
        }
        Some(())
    }
}

fn put(records: &mut Records, m: &Mitigation, case: Option<&super::Case>, probe: Option<u64>) {
    let announcement = &m.announcement;
    let record = Record {
        prefix: m.target.prefix.to_string(),
        outgoing: m.target.direction == Direction::Outgoing,
        group: case.map(|c| c.group.clone()).unwrap_or_default(),
        since: m.since.0,
        coverage: m.coverage,
        order: m.order.clone(),
        announced: m.announced,
        approved: m.approved,
        rung: case.map_or(0, |c| c.rung),
        failed_probes: case.map_or(0, |c| c.failed_probes),
        probe,
        actions: announcement.actions.clone(),
        next_hop: announcement.next_hop,
        communities: announcement.communities.iter().map(|c| (c.0, c.1)).collect(),
        large_communities: announcement.large_communities.iter().map(|c| (c.0, c.1, c.2)).collect(),
        extended_communities: announcement.extended_communities.iter().map(|c| c.0).collect(),
        manual: m.is_manual(),
        scope: announcement.scope.map(|s| s.to_string()),
        peers: announcement.peers.as_ref().map(|p| p.iter().cloned().collect()),
    };
    // The same route may be ordered by hand and decided for a target.
    let owner = if m.is_manual() { "manual".to_owned() } else { m.target.to_string() };
    records.insert(format!("{owner}|{}", route_key(&m.route)), serde_json::to_string(&record).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{at, attack, attacks, config, held, order, prefix, proposal, rule, wanted, words};
    use super::*;
    use crate::config::Config;

    const HOST: &str = "203.0.113.9";
    const NTP: &str = "flow destination 203.0.113.9/32 protocol udp source-port 123";

    /// One rule of an attack, one rule and one blackhole by hand.
    fn busy() -> Policy {
        let mut policy = Policy::new(config());
        let attack = attack(HOST, at(0));
        policy.alarm(at(0), &attack);
        policy.propose(at(0), attack.target, &[proposal(HOST, 123)]);
        policy.order_flowspec(at(0), &rule("203.0.113.10", 53), order(at(0), Some(100))).expect("taken");
        policy.order_blackhole(at(0), prefix("203.0.113.11"), order(at(0), None)).expect("taken");
        policy
    }

    fn restored(records: &Records, now: Time, config: Config) -> Policy {
        let mut policy = Policy::new(config);
        policy.restore(now, records);
        policy
    }

    #[test]
    fn a_clock_that_was_set_during_a_run_moves_no_end_over_a_restart() {
        let mut policy = Policy::new(config());
        policy.order_blackhole(at(0), prefix(HOST), order(at(0), Some(600))).expect("taken");
        // The system's clock was set back by a hundred seconds; the next run begins with what it shows.
        let ahead = -100_000_000_000;
        let records = policy.records(ahead);
        let mut after = Policy::new(config());
        let shown = |seconds: u64| Time(at(seconds).0.saturating_add_signed(ahead));
        assert_eq!(after.restore(shown(599), &records), 1);
        assert!(after.step(shown(599), &Default::default(), &Default::default()).is_empty());
        assert_eq!(words(&after.step(shown(600), &Default::default(), &Default::default())).len(), 1);
        let mut late = Policy::new(config());
        assert_eq!(late.restore(shown(600), &records), 0);
    }

    #[test]
    fn routes_are_named_by_their_octets_and_read_back() {
        let mut routes = vec![Route::Unicast(prefix(HOST)), Route::Unicast(prefix("2001:db8::/48"))];
        routes.push(Route::FlowSpec(rule(HOST, 123).pattern));
        for route in &routes {
            let key = route_key(route);
            assert_eq!(route_of(&key).as_ref(), Some(route), "{key}");
        }
        assert_eq!(route_key(&routes[0]), "ipv4-unicast:20cb007109");
        for wrong in
            ["", "ipv4-unicast", "ipv4-unicast:2", "ipv4-unicast:zz", "ipv4-unicast:\u{e4}", "ipv4-flowspec:01"]
        {
            assert_eq!(route_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn after_a_restart_the_same_is_announced_and_remembered() {
        let before = busy();
        let records = before.records(0);
        assert_eq!(records.len(), 3);
        let mut after = Policy::new(config());
        assert_eq!(after.restore(at(10), &records), 3);
        assert_eq!(after.wanted(), before.wanted());
        assert_eq!(after.records(0), records);
    }

    #[test]
    fn what_ended_meanwhile_is_not_announced_again() {
        let records = busy().records(0);
        let after = restored(&records, at(100), config());
        assert_eq!(wanted(&after), ["203.0.113.11/32", NTP], "the order for 100 s is over");
        let unban_anyway = Config { unban_only_if_attack_finished: false, ..config() };
        assert_eq!(wanted(&restored(&records, at(60), unban_anyway)).len(), 2, "ban_time is over");
        let protected = Config { protected: vec![prefix(HOST)], ..config() };
        assert_eq!(wanted(&restored(&records, at(1), protected)).len(), 2, "the rails of today");
        let disabled = Config { enable_ban: false, ..config() };
        assert_eq!(wanted(&restored(&records, at(1), disabled)).len(), 2, "dry run now");
    }

    #[test]
    fn an_attack_that_is_not_seen_again_within_a_minute_counts_as_over() {
        let records = busy().records(0);
        let mut policy = restored(&records, at(10), config());
        let mut step = |seconds| words(&policy.step(at(seconds), &BTreeMap::new(), &Default::default()));
        assert!(step(69).is_empty(), "nobody knows yet");
        assert_eq!(step(70), [format!("removed {NTP}"), "probing".to_owned()]);

        let mut policy = restored(&records, at(10), config());
        let mut attack = attack(HOST, at(20));
        policy.alarm(at(20), &attack);
        attack.over_since = None;
        let held = held(&policy);
        assert!(policy.step(at(90), &attacks(&[&attack]), &held).is_empty(), "it goes on");
    }

    #[test]
    fn a_probe_and_the_kill_switch_go_on_where_they_were() {
        let mut policy = busy();
        policy.over(super::super::fixture::target(HOST));
        policy.step(at(60), &BTreeMap::new(), &Default::default());
        let mut after = restored(&policy.records(0), at(65), config());
        assert!(!wanted(&after).contains(&NTP.to_owned()), "away for a probe");
        let said = words(&after.step(at(70), &BTreeMap::new(), &Default::default()));
        assert_eq!(said, ["probe passed"]);

        policy.withdraw_all(at(61), order(at(61), None));
        let halted = restored(&policy.records(0), at(65), config());
        assert!(halted.halted().is_some() && wanted(&halted).is_empty());
    }

    #[test]
    fn records_that_are_not_understood_are_left_out() {
        let mut records = busy().records(0);
        records.insert("nonsense".to_owned(), "{}".to_owned());
        records.insert("manual|ipv4-unicast:20cb00710c".to_owned(), "not JSON".to_owned());
        records.insert("manual|no-family:20".to_owned(), records.values().next().expect("one").clone());
        let mut policy = Policy::new(config());
        assert_eq!(policy.restore(at(1), &records), 3);
    }
}
