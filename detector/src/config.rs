//! What an operator settles about detection. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::time::Duration;

use flowspec::Pattern;
use traffic::{Direction, Prefix, Time};

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
    /// What matches the operator's traffic rule of this index in [`Config::rules`].
    Rule(u8),
}

/// Traffic rules at most, as many as FastNetMon has.
pub const MAX_RULES: usize = 16;

impl Class {
    /// Every class but the rules, in the order of their counters.
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
            Self::Rule(_) => "traffic_rule",
        }
    }

    /// Position among the counters: the rules follow the fixed classes.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Total => 0,
            Self::Tcp => 1,
            Self::Udp => 2,
            Self::Icmp => 3,
            Self::TcpSyn => 4,
            Self::IpFragments => 5,
            Self::Rule(rule) => Self::ALL.len() + rule as usize,
        }
    }
}

/// What is measured per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostGroup {
    /// Name, unique.
    pub name: String,
    /// Prefixes of the group, inside the networks; empty for `global`.
    pub networks: Vec<Prefix>,
    /// Thresholds in force, inheritance from `global` already applied: of each host, or of the sum if `is_total`.
    pub thresholds: Thresholds,
    /// Whether the thresholds are for the sum over all networks of the group (`calculation_method = "total"`). Such a group
    /// is no host's group: it may overlap others.
    pub is_total: bool,
    /// Thresholds of each prefix of a configured length whose group this is: carpet bombing.
    pub prefix_thresholds: Thresholds,
    /// Thresholds of each network of `networks_list` whose group this is.
    pub network_thresholds: Thresholds,
}

/// Total groups at most.
pub const MAX_TOTAL_GROUPS: usize = 64;

/// An operator's own class of traffic (`[traffic_rule.NAME]`), with thresholds of its own in the groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRule {
    /// Name, unique.
    pub name: String,
    /// What belongs to it; only certain matches count (decision 9).
    pub pattern: Pattern,
}

/// Traffic or hosts that never raise an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Whitelisted {
    /// Name or note, for people.
    pub note: String,
    /// Own hosts or networks; empty means all. An entry with nothing but these silences their alarms.
    pub networks: Vec<Prefix>,
    /// Remote networks; empty means all.
    pub remote: Vec<Prefix>,
    /// Further conditions.
    pub pattern: Option<Pattern>,
    /// Only this direction.
    pub direction: Option<Direction>,
    /// No longer in force from this time on.
    pub expires: Option<Time>,
}

impl Whitelisted {
    /// Whether it is about some of a host's traffic, and not about whole hosts.
    #[must_use]
    pub fn is_about_traffic(&self) -> bool {
        !self.remote.is_empty() || self.pattern.is_some()
    }

    /// Whether it is in force.
    #[must_use]
    pub fn is_active(&self, now: Time) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

/// How ordinary traffic is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learning {
    /// Learn at all (`baseline_learning`, default on).
    pub is_on: bool,
    /// What arrived this long before a suspicion is forgotten, and not used before it is that old (default 300 s).
    pub forget: Duration,
    /// Raise thresholds to this many percent of the learned 99.9th percentile of the hour; 0 never (`adaptive_thresholds_percent`).
    pub adaptive_percent: u64,
    /// Never beyond the operator's threshold times this (`adaptive_thresholds_limit`, default 10).
    pub adaptive_limit: u64,
}

impl Default for Learning {
    fn default() -> Self {
        Self { is_on: true, forget: Duration::from_secs(300), adaptive_percent: 0, adaptive_limit: 10 }
    }
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
    /// What never alarms (`networks_whitelist`, `networks_whitelist_remote`, `[whitelist.NAME]`).
    pub whitelist: Vec<Whitelisted>,
    /// The operator's own classes of traffic, at most [`MAX_RULES`].
    pub rules: Vec<TrafficRule>,
    /// Lengths of the prefixes that are watched for carpet bombing: IPv4 at most 24 bits, IPv6 at most 64.
    pub prefix_lengths: (Vec<u8>, Vec<u8>),
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
    /// An alarm ends when the rate has stayed below 0.7 of its threshold for this long (default 60 s), or for three times the
    /// longest pause it has come back from.
    pub clear_after: Duration,
    /// An attack that comes back lasts twice as long after each return, up to this (default one hour).
    pub longest_hold: Duration,
    /// Time constant of the averages that are shown (`average_calculation_time`, default 5 s).
    pub average: Duration,
    /// How ordinary traffic is learned.
    pub learning: Learning,
}

impl Config {
    /// The configuration key of a threshold: rules by their name.
    #[must_use]
    pub fn key(&self, direction: Direction, measure: Measure) -> String {
        match measure.class {
            Class::Rule(rule) => {
                let name = self.rules.get(usize::from(rule)).map_or("?", |r| r.name.as_str());
                format!("traffic_rule.{name}.{}", Measure { class: Class::Total, ..measure }.key(direction))
            }
            Class::Total | Class::Tcp | Class::Udp | Class::Icmp | Class::TcpSyn | Class::IpFragments => {
                measure.key(direction)
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            whitelist: Vec::new(),
            rules: Vec::new(),
            prefix_lengths: (vec![24, 22], vec![64, 48]),
            groups: vec![HostGroup { name: "global".to_owned(), ..HostGroup::default() }],
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
            longest_hold: Duration::from_secs(3600),
            average: Duration::from_secs(5),
            learning: Learning::default(),
        }
    }
}
