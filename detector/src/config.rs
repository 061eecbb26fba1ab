//! What an operator settles about detection. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::target::{Direction, Prefix};

/// A class of traffic with thresholds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// All traffic.
    Total,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and `ICMPv6`.
    Icmp,
    /// TCP with SYN and without ACK (decision 10).
    TcpSyn,
    /// Fragments, first and later.
    IpFragments,
}

impl Class {
    /// Every class, in the order of their counters.
    pub const ALL: [Self; 6] = [Self::Total, Self::Tcp, Self::Udp, Self::Icmp, Self::TcpSyn, Self::IpFragments];

    /// Name in configuration keys and output: `tcp_syn`; empty for the total, whose keys have no class.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::TcpSyn => "tcp_syn",
            Self::IpFragments => "ip_fragments",
        }
    }
}

/// What is measured per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Packets.
    Packets,
    /// Bytes at the IP layer; configured in megabits (10^6 bits) per second.
    Bytes,
    /// Flow records; only telemetry without sampling shows them (decision 10).
    Flows,
}

/// One measure of a target: a class and a unit. `Flows` goes with [`Class::Total`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Measure {
    /// Which traffic.
    pub class: Class,
    /// Counted how.
    pub unit: Unit,
}

impl Measure {
    /// The configuration key of its threshold, in FastNetMon's words: `threshold_pps`, `threshold_tcp_syn_mbps`,
    /// `threshold_flows`; outgoing thresholds end in `_outgoing`.
    #[must_use]
    pub fn key(self, direction: Direction) -> String {
        let class = self.class.name();
        let separator = if class.is_empty() { "" } else { "_" };
        let unit = match self.unit {
            Unit::Packets => "pps",
            Unit::Bytes => "mbps",
            Unit::Flows => "flows",
        };
        let suffix = match direction {
            Direction::Incoming => "",
            Direction::Outgoing => "_outgoing",
        };
        format!("threshold_{class}{separator}{unit}{suffix}")
    }
}

/// Thresholds per direction and measure, in units per second (packets, bytes, flows). Absent means not checked.
pub type Thresholds = BTreeMap<(Direction, Measure), u64>;

/// A named set of own prefixes with thresholds. Membership is by longest prefix; `global` holds what no other group does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGroup {
    /// Name, unique.
    pub name: String,
    /// Prefixes of the group, inside the networks; empty for `global`.
    pub networks: Vec<Prefix>,
    /// Thresholds in force for a host of the group, inheritance from `global` already applied.
    pub thresholds: Thresholds,
}

/// How many samples make a bucket and how long they are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLimits {
    /// Samples of mirrored traffic (default 500).
    pub mirror_samples: usize,
    /// Samples of flow telemetry (default 20).
    pub flow_samples: usize,
    /// Only samples of the class whose threshold fired count (`threshold_specific_ban_details`, default off).
    pub threshold_specific: bool,
    /// After this long without enough samples a bucket is orphaned (default 120 s).
    pub collection_timeout: Duration,
}

/// Configuration of the detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our own address space (`networks_list`). Traffic of anything else is counted in totals only.
    pub networks: Vec<Prefix>,
    /// Own hosts and networks that never alarm (`networks_whitelist`).
    pub whitelist: Vec<Prefix>,
    /// Host groups; the first is `global`.
    pub groups: Vec<HostGroup>,
    /// Whether traffic to our networks is counted (`process_incoming_traffic`).
    pub process_incoming: bool,
    /// Whether traffic from our networks is counted (`process_outgoing_traffic`).
    pub process_outgoing: bool,
    /// Whether traffic between our networks counts for its hosts (`process_internal_traffic_as_external`, default off).
    pub process_internal: bool,
    /// Tolerated burst as a span at the threshold (decision 6): excess volume up to threshold times this raises no alarm.
    pub burst_tolerance: Duration,
    /// Bucket sizes and timeout.
    pub bucket: BucketLimits,
    /// Largest number of IPv6 hosts with counters of their own; further ones are counted in an overflow metric only.
    pub max_ipv6_hosts: usize,
    /// An alarm ends when the rate has stayed below 0.7 of its threshold for this long (default 60 s).
    pub clear_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            whitelist: Vec::new(),
            groups: vec![HostGroup { name: "global".to_owned(), networks: Vec::new(), thresholds: Thresholds::new() }],
            process_incoming: true,
            process_outgoing: true,
            process_internal: false,
            burst_tolerance: Duration::from_millis(300),
            bucket: BucketLimits {
                mirror_samples: 500,
                flow_samples: 20,
                threshold_specific: false,
                collection_timeout: Duration::from_secs(120),
            },
            max_ipv6_hosts: 1 << 20,
            clear_after: Duration::from_secs(60),
        }
    }
}
