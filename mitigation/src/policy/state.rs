//! What a policy remembers over a restart, as records for a store: one per route, and one for `withdraw-all`.
//!
//! A route's own octets (its NLRI) name it, so that a record means the same in every version of the program.

use std::collections::BTreeMap;
use std::time::Duration;

use collectors::{IpVersion, Time};
use detector::{Direction, Prefix, Target};
use serde::{Deserialize, Serialize};

use super::ladder::Probe;
use super::{Mitigation, Order, Policy};
use crate::announcement::{Announcement, Community, ExtendedCommunity, LargeCommunity, Origin, Route};
use crate::bgp::attribute;
use crate::bgp::nlri;
use crate::config::Family;
use crate::flowspec::Action;

/// After a restart an attack that is not seen again within this time counts as over.
const UNKNOWN: Duration = Duration::from_secs(60);
/// The key of the record of `withdraw-all`.
const HALT: &str = "withdraw-all";

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

/// A route as text: family and NLRI in hexadecimal. Also the identity that `show` prints and `delete` takes.
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

/// A short name for a route, in the form of a UUID: the same for the same route everywhere.
#[must_use]
pub fn route_id(route: &Route) -> String {
    // FNV-1a of 128 bits.
    let hash = route_key(route).bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, octet| {
        (hash ^ u128::from(octet)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    // RFC 9562 section 5.8: version 8, custom.
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{hash:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Policy {
    /// Everything to remember.
    #[must_use]
    pub fn records(&self) -> Records {
        let mut records = Records::new();
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
        for (key, text) in records {
            if key == HALT {
                self.halted = serde_json::from_str(text).ok();
                continue;
            }
            let parsed = key
                .split_once('|')
                .and_then(|(_, route)| route_of(route))
                .zip(serde_json::from_str::<Record>(text).ok());
            let Some((route, record)) = parsed else { continue };
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
