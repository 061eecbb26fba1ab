//! [`Status`]: what the daemon says about itself, at most 0.3 s old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use bgp::Route;
use traffic::{Direction, Prefix};

use crate::report::{Entry, as_text};

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct Volume {
    /// Packets, scaled by sampling.
    pub packets: u64,
    /// IP bytes, scaled by sampling.
    pub bytes: u64,
}

/// One collector thread.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Source {
    /// Its socket or interface.
    pub name: String,
    /// Datagrams of a known protocol.
    pub datagrams: u64,
    /// Flow records and sFlow flow samples; 0 for a mirror port.
    pub flows: u64,
    /// Options data records.
    pub option_records: u64,
    /// Packets of a mirror port.
    pub packets: u64,
    /// What the kernel dropped before we saw it.
    pub kernel_drops: u64,
    /// What was not understood, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub errors: BTreeMap<&'static str, u64>,
    /// Why the thread ended, if it did.
    pub failed: Option<String>,
}

/// A counter of every exporter.
#[derive(Debug, Clone, Copy)]
pub struct ExporterCounter {
    /// Its family of metrics.
    pub metric: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its value.
    pub value: fn(&ExporterStatus) -> u64,
}

macro_rules! exporter_status {
    (decoded { $($name:ident: $help:tt,)* } own { $($own:ident: $own_help:tt,)* }) => {
        /// How an exporter fares.
        #[derive(Debug, Clone, Default, Serialize, ToSchema)]
        pub struct ExporterStatus {
            /// Its address.
            pub address: String,
            /// The BGP peer whose router it stands for; null if none in particular.
            pub peer: Option<String>,
            /// Protocols it speaks.
            #[schema(value_type = Vec<String>)]
            pub protocols: Vec<&'static str>,
            /// Seconds since it spoke.
            pub silent_seconds: f64,
            /// Flow records and sFlow samples per second, since the reading before.
            pub records_per_second: f64,
            $(#[doc = $help] pub $name: u64,)*
            $(#[doc = $own_help] pub $own: u64,)*
            /// Its clock minus ours.
            pub clock_skew_ms: i64,
            /// N of 1:N sampling of its newest record; 0 before the first.
            pub sampling_rate: u32,
            /// Where that rate came from: none, configuration, header, record, options, sample.
            #[schema(value_type = String)]
            pub sampling_source: &'static str,
            /// The rate that its counters show, if that contradicts the announced one.
            pub measured_rate: Option<u32>,
            /// Active timeout of its flow cache, 0 unknown.
            pub active_timeout_seconds: u32,
            /// Idle timeout of its flow cache, 0 unknown.
            pub idle_timeout_seconds: u32,
            /// Sends counters but no flow samples: sampling is not configured there.
            pub counter_only: bool,
            /// Where its telemetry stands.
            #[schema(value_type = String)]
            pub vantage: &'static str,
            /// Records that are no traffic, by reason: logs of a firewall or NAT, records without addresses.
            #[schema(value_type = BTreeMap<String, u64>)]
            pub not_counted: BTreeMap<&'static str, u64>,
            /// What was not understood, by reason.
            #[schema(value_type = BTreeMap<String, u64>)]
            pub errors: BTreeMap<&'static str, u64>,
        }

        impl ExporterStatus {
            /// Its counters, as the table of the collectors has them.
            pub const COUNTERS: &[ExporterCounter] = &[
                $(ExporterCounter {
                    metric: concat!("floodwall_exporter_", stringify!($name), "_total"),
                    help: $help,
                    value: |exporter| exporter.$name,
                },)*
                $(ExporterCounter {
                    metric: concat!("floodwall_exporter_", stringify!($own), "_total"),
                    help: $own_help,
                    value: |exporter| exporter.$own,
                },)*
            ];

            /// With these counters, and nothing else yet.
            #[must_use]
            pub fn counted(counters: &collectors::Counters) -> Self {
                Self {
                    $($name: counters.$name,)*
                    $($own: counters.$own,)*
                    ..Self::default()
                }
            }
        }
    };
}

collectors::exporter_counters!(exporter_status);

/// An attack in progress.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AttackStatus {
    /// Own prefix.
    #[schema(value_type = String)]
    pub prefix: Prefix,
    /// `incoming` or `outgoing`.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// Host group.
    pub group: String,
    /// Threshold in words.
    pub threshold: String,
    /// Seconds since the Unix epoch.
    pub detected: f64,
    /// Rate, filtered traffic included.
    pub packets_per_second: u64,
    /// Rate, filtered traffic included.
    pub bytes_per_second: u64,
    /// Highest rate.
    pub peak_packets_per_second: u64,
    /// A host, a prefix, a network or a group's sum.
    #[schema(value_type = String)]
    pub scope: detector::Scope,
    /// Active, fading or frozen.
    #[schema(value_type = String)]
    pub phase: detector::Phase,
    /// Packets since it was detected, filtered ones included.
    pub packets: u64,
    /// IP bytes since it was detected, filtered ones included.
    pub bytes: u64,
    /// Highest rate.
    pub peak_bytes_per_second: u64,
    /// What the alarm rests on.
    #[schema(value_type = Object)]
    pub evidence: detector::Evidence,
    /// What it is made of, most first.
    #[schema(value_type = Object)]
    pub composition: detector::Composition,
    /// Highest rate as a multiple of the threshold that was passed.
    pub severity: f64,
    /// Names it in the API's paths.
    pub id: String,
}

/// What a route does with traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A rule.
    FlowSpec,
    /// All traffic of a prefix is dropped.
    Blackhole,
    /// All traffic of a prefix is led elsewhere.
    Diversion,
}

impl Effect {
    /// As written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlowSpec => "flowspec",
            Self::Blackhole => "blackhole",
            Self::Diversion => "diversion",
        }
    }
}

/// A rule or blackhole.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MitigationStatus {
    /// Own prefix.
    #[schema(value_type = String)]
    pub prefix: Prefix,
    /// The route in words.
    #[schema(value_type = String)]
    #[serde(serialize_with = "as_text")]
    pub route: Route,
    /// `flowspec` or `blackhole`.
    #[schema(value_type = String)]
    pub kind: Effect,
    /// Why it is not announced, if so.
    #[schema(value_type = Option<String>)]
    pub dry_run: Option<policy::DryRun>,
    /// Whether somebody's yes is what it waits for.
    pub awaits_approval: bool,
    /// Seconds since the Unix epoch.
    pub since: f64,
    /// A name for it, the same for the same route everywhere.
    pub id: String,
    /// What is done to its traffic, in words.
    pub action: String,
    /// `manual` or `automatic`.
    #[schema(value_type = String)]
    pub origin: bgp::Origin,
    /// Who ordered it, why, and until when (nanoseconds since the Unix epoch).
    #[schema(value_type = Option<Object>)]
    pub order: Option<policy::Order>,
    /// When it ends at the earliest, in seconds since the Unix epoch; a manual one for certain.
    pub ends: Option<f64>,
    /// Share of the sample it matched when it was mined, 0 to 1.
    pub coverage: f64,
    /// Peers that were not sent it, and why.
    pub not_sent: BTreeMap<String, String>,
    /// A rule in FastNetMon's JSON.
    #[schema(value_type = Option<Object>)]
    pub rule: Option<serde_json::Value>,
    /// Peers it was sent to.
    pub sent_to: Vec<String>,
    /// Traffic that matched since it came into force, where telemetry shows it; of one that is not announced: none.
    pub hits: Option<Volume>,
    /// Of one that is not announced: traffic that matched, which nobody has filtered.
    pub would_have_hit: Option<Volume>,
    /// Traffic that an enforcer of this installation took by it.
    pub enforced: Option<Volume>,
}

/// A BGP peer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// State of the session.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Families that both sides speak.
    #[schema(value_type = Vec<String>)]
    pub families: Vec<&'static str>,
    /// Routes that were sent over this session.
    pub routes_sent: usize,
    /// Seconds that the session has been established.
    pub uptime_seconds: Option<f64>,
    /// The peer's BGP identifier.
    #[schema(value_type = Option<String>)]
    pub identifier: Option<std::net::Ipv4Addr>,
    /// Hold time in force, in seconds.
    pub hold_time_seconds: u64,
    /// Both sides know graceful restart.
    pub graceful_restart: bool,
    /// All that is wanted has been sent.
    pub in_sync: bool,
    /// FlowSpec rules on the wire: a router's profile may cut one rule into several.
    pub flowspec_on_wire: usize,
    /// Wanted routes that are not sent to this peer, with the reason.
    pub refused: BTreeMap<String, String>,
    /// Why there is no session, or why the last one ended, with advice.
    pub last_error: Option<String>,
    /// Sessions that ended.
    pub resets: u64,
}

/// The whole.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Status {
    /// Version of the program.
    #[schema(value_type = String)]
    pub version: &'static str,
    /// Seconds since the daemon started.
    pub uptime_seconds: f64,
    /// Automatic decisions are not announced.
    pub dry_run: bool,
    /// To our networks.
    pub incoming: Volume,
    /// From our networks.
    pub outgoing: Volume,
    /// Between our networks.
    pub internal: Volume,
    /// Neither end is ours.
    pub other: Volume,
    /// Excluded from host counters by rules in force.
    pub filtered: Volume,
    /// Its exporter says that it dropped it, without a rule of ours.
    pub dropped: Volume,
    /// Own IPv6 hosts beyond the limit.
    pub overflow: Volume,
    /// Hosts with traffic in the last tick.
    pub active_hosts: u64,
    /// Alarms since the start.
    pub alarms: u64,
    /// Buckets that did not fill.
    pub orphaned_buckets: u64,
    /// Samples of captured hosts that did not fit the ring.
    pub capture_drops: u64,
    /// Collector threads.
    pub sources: Vec<Source>,
    /// Exporters of flow telemetry, by address.
    pub exporters: Vec<ExporterStatus>,
    /// Attacks in progress.
    pub attacks: Vec<AttackStatus>,
    /// Rules and blackholes, dry runs included.
    pub mitigations: Vec<MitigationStatus>,
    /// BGP peers.
    pub peers: Vec<PeerStatus>,
    /// What an operator should mend, in words.
    pub warnings: Vec<String>,
    /// Announcing is stopped by `withdraw-all`.
    pub halted: bool,
    /// The last events, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Entry>,
}

/// The newest status; the control thread replaces it, requests read it.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<Mutex<Arc<Status>>>);

impl Latest {
    /// Publishes a status.
    pub fn publish(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    /// The newest status.
    #[must_use]
    pub fn get(&self) -> Arc<Status> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_an_exporter_is_a_key_and_a_metric_with_the_same_value() {
        let counters = collectors::Counters { datagrams: 3, discard_samples: 7, restarts: 11, ..Default::default() };
        let status = ExporterStatus::counted(&counters);
        let json = serde_json::to_value(&status).expect("JSON");
        let mut counted = 0;
        for counter in ExporterStatus::COUNTERS {
            let key = counter.metric.strip_prefix("floodwall_exporter_").and_then(|m| m.strip_suffix("_total"));
            let value = key.and_then(|key| json[key].as_u64());
            assert_eq!(value, Some((counter.value)(&status)), "{}", counter.metric);
            assert!(counter.help.ends_with('.'), "{}", counter.help);
            counted += (counter.value)(&status);
        }
        assert_eq!(counted, 21);
    }
}
