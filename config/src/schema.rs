//! The table of keys: name, type, range, default, meaning, and what it sets.

use std::sync::{Arc, LazyLock};

use serde::Serialize;

use crate::draft::{Draft, Main};
use crate::kind::{Kind, Of, Read, choice, lengths, milliseconds, number, percent, prefixes, seconds, switch, text};
use crate::value::Value;

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[main]`
    Main,
    /// `[hostgroup.NAME]`
    HostGroup,
    /// `[traffic_rule.NAME]`
    TrafficRule,
    /// `[whitelist.NAME]`
    Whitelist,
    /// `[bgp.NAME]`
    Bgp,
    /// `[notify.NAME]`
    Notify,
    /// `[api]`
    Api,
    /// `[state]`
    State,
    /// `[enforcer]`
    Enforcer,
    /// `[enforcer_peer.NAME]`
    EnforcerPeer,
}

impl Section {
    /// All sections in the order of the reference.
    pub const ALL: [Self; 10] = [
        Self::Main,
        Self::HostGroup,
        Self::TrafficRule,
        Self::Whitelist,
        Self::Bgp,
        Self::Notify,
        Self::Api,
        Self::State,
        Self::Enforcer,
        Self::EnforcerPeer,
    ];

    /// Name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::HostGroup => "hostgroup",
            Self::TrafficRule => "traffic_rule",
            Self::Whitelist => "whitelist",
            Self::Bgp => "bgp",
            Self::Notify => "notify",
            Self::Api => "api",
            Self::State => "state",
            Self::Enforcer => "enforcer",
            Self::EnforcerPeer => "enforcer_peer",
        }
    }

    /// Whether it has one table per name.
    #[must_use]
    pub const fn is_named(self) -> bool {
        matches!(
            self,
            Self::HostGroup | Self::TrafficRule | Self::Whitelist | Self::Bgp | Self::Notify | Self::EnforcerPeer
        )
    }
}

/// The scope that setting a key takes (decision 40).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// An editor of thresholds will do.
    Config,
    /// It decides what programs are run, what is told to whom, or who gets in.
    Admin,
}

/// A name that FastNetMon has for a key; `floodwall import` goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// As FastNetMon spells it.
    pub name: &'static str,
    /// What of it holds for the key.
    pub holds: Holds,
    /// What the report of an import says of it, where there is something to say.
    pub note: &'static str,
}

/// What of an alias holds for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Its value.
    Value,
    /// Its value, unless it is this one, which is the default.
    Unless(&'static str),
    /// That it is on: then the key is too.
    On,
    /// Its value, for each peer that has none of its own: there it stands in the main part.
    ForPeers,
}

/// What a value becomes when it is stored: read already, and in range.
type Store = Box<dyn FnOnce(&mut Draft, &str)>;

/// A key of the file.
pub struct Key {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub name: String,
    /// What it takes.
    pub kind: Kind,
    /// Its default as TOML; `None` when absence has a meaning of its own.
    pub default: Option<String>,
    /// What it means, with its unit.
    pub meaning: String,
    /// Who may set it.
    pub needs: Needs,
    /// FastNetMon's names for it, where they are others.
    pub aliases: Vec<Alias>,
    /// What to write instead of a value of a type that no key takes.
    pub(crate) advice: String,
    read: Box<Read<Store>>,
}

impl Key {
    /// The same for scope admin alone.
    pub(crate) fn admin(self) -> Self {
        Self { needs: Needs::Admin, ..self }
    }

    /// The same with one more name in FastNetMon.
    pub(crate) fn alias(self, name: &'static str) -> Self {
        self.known_as(name, Holds::Value, "")
    }

    pub(crate) fn known_as(mut self, name: &'static str, holds: Holds, note: &'static str) -> Self {
        self.aliases.push(Alias { name, holds, note });
        self
    }

    /// Checks a value's type and range.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn read(&self, value: &Value) -> Result<Store, String> {
        (self.read)(value)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.section.name(), self.name)
    }
}

/// A key from what it takes and where that is stored; `default` is empty when absence has a meaning of its own.
pub(crate) fn key<T: 'static>(
    section: Section,
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Draft, &str, T) + Send + Sync + 'static,
) -> Key {
    let Of { kind, advice, read } = of;
    let set = Arc::new(set);
    Key {
        section,
        name: name.to_owned(),
        kind,
        default: (!default.is_empty()).then(|| default.to_owned()),
        meaning: meaning.to_owned(),
        needs: Needs::Config,
        aliases: Vec::new(),
        advice,
        read: Box::new(move |value| {
            let value = read(value)?;
            let set = Arc::clone(&set);
            Ok(Box::new(move |draft, instance| set(draft, instance, value)))
        }),
    }
}

pub(crate) fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Main, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.main, value))
}

/// Stores a value in a field.
macro_rules! set {
    ($($field:tt).+) => {
        |target, value| target.$($field).+ = value
    };
}

/// Stores a value where absence has a meaning of its own.
macro_rules! some {
    ($($field:ident).+) => {
        |target, value| target.$($field).+ = Some(value)
    };
}

pub(crate) use {set, some};

pub mod announcing;
mod flow_spec;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(all_keys);

/// Every key, in the order of the reference.
#[must_use]
pub fn keys() -> &'static [Key] {
    &KEYS
}

/// A key by its place.
#[must_use]
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.section == section && key.name == name)
}

fn all_keys() -> Vec<Key> {
    let mut keys = main_keys();
    keys.extend(flow_spec::keys());
    keys.extend(announcing::main_keys());
    keys.extend(crate::collecting::keys());
    keys.extend(crate::hostgroup::keys());
    keys.extend(crate::detection::traffic_rule_keys());
    keys.extend(crate::detection::whitelist_keys());
    keys.extend(crate::peer::keys());
    keys.extend(crate::api::ban2bgp_keys().into_iter().map(Key::admin));
    keys.extend(crate::notify::main_keys());
    keys.extend(crate::export::main_keys());
    keys.extend(crate::notify::named_keys());
    keys.extend(crate::api::keys().into_iter().map(Key::admin));
    keys.push(main(
        "control_socket_others_may_read",
        "false",
        "let every local user ask (show) through the control socket; changing anything takes root or group floodwall",
        switch(),
        set!(control_socket_others_may_read),
    ).admin());
    keys.push(
        key(
            Section::State,
            "directory",
            "\"/var/lib/floodwall\"",
            "where state is kept; FLOODWALL_STATE_DIR and --state-dir win over it",
            text(),
            |draft, _, value| draft.main.state_directory = value,
        )
        .admin(),
    );
    keys.extend(crate::api::history_keys());
    keys.extend(crate::enforcer::keys());
    keys
}

fn main_keys() -> Vec<Key> {
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
        main(
            "protected_networks",
            "[]",
            "addresses that no rule and no blackhole may touch: routers, resolvers; BGP peers always are",
            prefixes(),
            set!(protected_networks),
        ),
        main(
            "enable_ban",
            "false",
            "announce automatic decisions; off is the dry run of a fresh install: everything but the announcement",
            switch(),
            set!(enable_ban),
        ),
        main(
            "ban_time",
            "1900",
            "seconds that a rule or blackhole lasts at least",
            seconds(1, 31_536_000),
            set!(ban_time),
        ),
        main(
            "unban_only_if_attack_finished",
            "true",
            "after ban_time, end a rule only when its attack has ended",
            switch(),
            set!(unban_only_if_attack_finished),
        ),
        main(
            "attack_end_delay",
            "60",
            "seconds below 0.7 of the threshold after which an attack has ended",
            seconds(1, 86_400),
            set!(attack_end_delay),
        ),
        main(
            "blackhole_after",
            "5",
            "seconds of certain excess that no rule removes before the host is blackholed",
            seconds(1, 86_400),
            set!(blackhole_after),
        ),
        main(
            "minimum_coverage_percent",
            "10",
            "percent of the sample a rule must cover to be announced",
            percent(1, 100),
            set!(minimum_coverage_percent),
        ),
        main("max_rules_per_host", "10", "FlowSpec rules per host at most", number(1, 100), set!(max_rules_per_host)),
        main("max_rules", "200", "FlowSpec rules in all at most; routers hold few", number(1, 10_000), set!(max_rules)),
        main("max_blackholes", "100", "blackholed hosts at most", number(1, 10_000), set!(max_blackholes)),
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
        main(
            "logging_level",
            "\"info\"",
            "error, warn, info or debug; debug shows ranked candidates",
            choice(["error", "warn", "info", "debug"].map(|level| (level, level.to_owned()))),
            set!(logging_level),
        ),
    ]
}
