//! What hosts, networks and host groups carry, for their series: read by the control thread every [`writer::LONG_STEP`] seconds.
//!
//! Limits: the [`TOP`] largest hosts by each of packets and bytes, in and out; [`MAX_NETWORKS`] networks.
//!
//! [`writer::LONG_STEP`]: super::writer::LONG_STEP

use std::collections::BTreeMap;

use detector::scan::Average;
use detector::survey::{Rank, Survey, Wanted};
use detector::{Detector, Unit};
use traffic::Direction;

use super::writer::{Rates, series_of};

/// Largest hosts of each order.
pub const TOP: usize = 20;
/// Networks of `networks_list` with a series at most, the first ones.
pub const MAX_NETWORKS: usize = 256;

/// Rates by the name of their series.
#[must_use]
pub fn rates(detector: &Detector) -> Vec<(String, Rates)> {
    const RANKS: [Rank; 4] = [
        (Direction::Incoming, Unit::Packets),
        (Direction::Incoming, Unit::Bytes),
        (Direction::Outgoing, Unit::Packets),
        (Direction::Outgoing, Unit::Bytes),
    ];
    let config = detector.config();
    let networks = &config.networks[..config.networks.len().min(MAX_NETWORKS)];
    let Survey { largest, networks, groups } =
        detector.survey(&Wanted { ranks: &RANKS, count: TOP, networks, groups: true });
    let mut all = BTreeMap::new();
    let prefixes = largest.into_iter().flatten().chain(networks);
    all.extend(prefixes.map(|(prefix, average)| (series_of(&prefix.to_string()), whole(&average))));
    let groups = config.groups.iter().zip(groups);
    all.extend(groups.map(|(group, average)| (format!("group {}", group.name), whole(&average))));
    all.into_iter().collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates of packets and bytes")]
fn whole(average: &Average) -> Rates {
    [average.packets[0], average.bytes[0], average.packets[1], average.bytes[1]].map(|rate| rate.max(0.0) as u64)
}
