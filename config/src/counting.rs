//! What is counted of whom, and when that is an attack: our networks and the keys of `[main]` about detection.

use std::time::Duration;

use detector::{BucketLimits, Learning};
use traffic::{Networks, Prefix};

use crate::kind::{Of, lengths, milliseconds, number, percent, prefixes, seconds, switch};
use crate::report::Report;
use crate::schema::{Draft, Holds, Key, Section, key, set, some};
use crate::{detection, hostgroup};

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Counting {
    pub networks_list: Vec<Prefix>,
    pub networks_whitelist: Vec<Prefix>,
    pub networks_whitelist_remote: Vec<Prefix>,
    pub average_calculation_time: u64,
    pub longest_attack_end_delay: u64,
    pub prefix_lengths: (Vec<u8>, Vec<u8>),
    pub baseline_learning: bool,
    pub baseline_forget: u64,
    pub adaptive_thresholds_percent: u64,
    pub adaptive_thresholds_limit: u64,
    pub process_incoming_traffic: bool,
    pub process_outgoing_traffic: bool,
    pub process_internal_traffic_as_external: bool,
    pub burst_tolerance_ms: u64,
    pub attack_end_delay: u64,
    pub ban_details_records_count: Option<u64>,
    pub bucket_traffic_collection_timeout: u64,
    pub threshold_specific_ban_details: bool,
    pub max_ipv6_hosts: u64,
}

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Counting, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.counting, value))
}

/// Whose traffic it is.
pub(crate) fn network_keys() -> Vec<Key> {
    vec![
        main(
            "networks_list",
            "[]",
            "our own address space: prefixes, IPv4 and IPv6; nothing outside is ever announced",
            prefixes(),
            set!(networks_list),
        ),
        main(
            "networks_whitelist",
            "[]",
            "own hosts and networks that never alarm",
            prefixes(),
            set!(networks_whitelist),
        ),
        main(
            "networks_whitelist_remote",
            "[]",
            "remote networks: not counted, and never banned",
            prefixes(),
            set!(networks_whitelist_remote),
        ),
    ]
}

/// When an attack is over.
pub(crate) fn end_key() -> Key {
    main(
        "attack_end_delay",
        "60",
        "seconds below 0.7 of the threshold after which an attack has ended",
        seconds(1, 86_400),
        set!(attack_end_delay),
    )
}

/// What is counted, and how an attack is told from a burst.
pub(crate) fn keys() -> Vec<Key> {
    let mut keys = counter_keys();
    keys.extend(learning_keys());
    keys
}

fn counter_keys() -> Vec<Key> {
    vec![
        main(
            "process_incoming_traffic",
            "true",
            "count traffic to our networks",
            switch(),
            set!(process_incoming_traffic),
        ),
        main(
            "process_outgoing_traffic",
            "true",
            "count traffic from our networks",
            switch(),
            set!(process_outgoing_traffic),
        ),
        main(
            "process_internal_traffic_as_external",
            "false",
            "count traffic between our networks for its hosts",
            switch(),
            set!(process_internal_traffic_as_external),
        )
        .known_as("override_internal_traffic_as_incoming", Holds::On, "counted for both its hosts")
        .known_as("override_internal_traffic_as_outgoing", Holds::On, "counted for both its hosts"),
        main(
            "burst_tolerance_ms",
            "300",
            "milliseconds at the threshold that a burst may exceed it by",
            milliseconds(1, 60_000),
            set!(burst_tolerance_ms),
        ),
        main(
            "ban_details_records_count",
            "",
            "samples in a bucket; absent: 500 from a mirror port, 20 from flow telemetry",
            number(1, 10_000),
            some!(ban_details_records_count),
        ),
        main(
            "bucket_traffic_collection_timeout",
            "120",
            "seconds after which a bucket that did not fill is dropped as orphaned",
            seconds(1, 86_400),
            set!(bucket_traffic_collection_timeout),
        ),
        main(
            "threshold_specific_ban_details",
            "false",
            "fill a bucket only with traffic of the class whose threshold fired",
            switch(),
            set!(threshold_specific_ban_details),
        ),
    ]
}

fn learning_keys() -> Vec<Key> {
    vec![
        main(
            "average_calculation_time",
            "5",
            "seconds over which the rates that are shown are averaged; detection does not wait for it",
            seconds(1, 3_600),
            set!(average_calculation_time),
        ),
        main(
            "longest_attack_end_delay",
            "3600",
            "seconds; each time an attack comes back, attack_end_delay doubles up to this",
            seconds(1, 604_800),
            set!(longest_attack_end_delay),
        ),
        main(
            "carpet_prefix_lengths_ipv4",
            "[24, 22]",
            "lengths of the IPv4 prefixes whose sums are watched for carpet bombing, 8 to 24",
            lengths(8, 24),
            set!(prefix_lengths.0),
        ),
        main(
            "carpet_prefix_lengths_ipv6",
            "[64, 48]",
            "the same for IPv6, 16 to 64",
            lengths(16, 64),
            set!(prefix_lengths.1),
        ),
        main(
            "baseline_learning",
            "true",
            "learn what is ordinary: rates by host group and hour, samples for the miner",
            switch(),
            set!(baseline_learning),
        ),
        main(
            "baseline_forget",
            "300",
            "seconds before an attack whose traffic is not taken for ordinary",
            seconds(0, 86_400),
            set!(baseline_forget),
        ),
        main(
            "adaptive_thresholds_percent",
            "0",
            "raise thresholds to this many percent of the learned 99.9th percentile of the hour; 0: never",
            percent(0, 10_000),
            set!(adaptive_thresholds_percent),
        ),
        main(
            "adaptive_thresholds_limit",
            "10",
            "but never beyond the configured threshold times this",
            number(1, 1_000),
            set!(adaptive_thresholds_limit),
        ),
        main(
            "max_ipv6_hosts",
            "1048576",
            "IPv6 hosts with counters of their own at most",
            number(1, 16_777_216),
            set!(max_ipv6_hosts),
        ),
    ]
}

pub(crate) fn compose(draft: &Draft, networks: &Networks, report: &mut Report) -> detector::Config {
    let main = &draft.counting;
    for prefix in &main.networks_whitelist {
        if !networks.overlap(prefix) && report.knows_networks() {
            report.add("main.networks_whitelist", format!("{prefix} is outside networks_list: it has no effect there"));
        }
    }
    let mut groups = hostgroup::compose(draft, networks, report);
    let rules = detection::compose_rules(draft, &mut groups, report);
    let count = main.ban_details_records_count.and_then(|n| usize::try_from(n).ok());
    detector::Config {
        networks: main.networks_list.clone(),
        whitelist: detection::compose_whitelist(draft, report),
        rules,
        prefix_lengths: main.prefix_lengths.clone(),
        groups,
        process_incoming: main.process_incoming_traffic,
        process_outgoing: main.process_outgoing_traffic,
        process_internal: main.process_internal_traffic_as_external,
        burst_tolerance: Duration::from_millis(main.burst_tolerance_ms),
        bucket: BucketLimits {
            mirror_samples: count.unwrap_or(500),
            flow_samples: count.unwrap_or(20),
            threshold_specific: main.threshold_specific_ban_details,
            collection_timeout: Duration::from_secs(main.bucket_traffic_collection_timeout),
        },
        max_ipv6_hosts: usize::try_from(main.max_ipv6_hosts).unwrap_or(usize::MAX),
        clear_after: Duration::from_secs(main.attack_end_delay),
        longest_hold: Duration::from_secs(main.longest_attack_end_delay),
        average: Duration::from_secs(main.average_calculation_time),
        learning: Learning {
            is_on: main.baseline_learning,
            forget: Duration::from_secs(main.baseline_forget),
            adaptive_percent: main.adaptive_thresholds_percent,
            adaptive_limit: main.adaptive_thresholds_limit,
        },
    }
}
