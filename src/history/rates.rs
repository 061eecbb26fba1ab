//! What hosts, networks and host groups carry, for their series: read by the control thread every [`writer::LONG_STEP`] seconds.
//!
//! Limits: the [`TOP`] largest hosts by each of packets and bytes, in and out; [`MAX_NETWORKS`] networks; beyond [`MAX_HOSTS`]
//! active hosts no sums, since adding them up would delay the control thread.
//!
//! [`writer::LONG_STEP`]: super::writer::LONG_STEP

use std::collections::BTreeMap;

use detector::scan::Average;
use detector::{Detector, Direction, Unit};

use super::writer::{Rates, series_of};

/// Largest hosts of each order.
pub const TOP: usize = 20;
/// Networks of `networks_list` with a series at most, the first ones.
pub const MAX_NETWORKS: usize = 256;
/// Active hosts up to which sums are made.
pub const MAX_HOSTS: u64 = 200_000;

/// Rates by the name of their series.
#[must_use]
pub fn rates(detector: &Detector) -> Vec<(String, Rates)> {
    let mut all = BTreeMap::new();
    for direction in [Direction::Incoming, Direction::Outgoing] {
        for unit in [Unit::Packets, Unit::Bytes] {
            let top = detector.top(direction, unit, TOP);
            all.extend(top.into_iter().map(|(host, average)| (series_of(&host.to_string()), whole(&average))));
        }
    }
    if detector.statistics().active_hosts <= MAX_HOSTS {
        let networks = detector.network_averages().into_iter().take(MAX_NETWORKS);
        all.extend(networks.map(|(network, average)| (series_of(&network.to_string()), whole(&average))));
        let groups = detector.group_averages().into_iter();
        all.extend(groups.map(|(group, average)| (format!("group {group}"), whole(&average))));
    }
    all.into_iter().collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates of packets and bytes")]
fn whole(average: &Average) -> Rates {
    [average.packets[0], average.bytes[0], average.packets[1], average.bytes[1]].map(|rate| rate.max(0.0) as u64)
}
