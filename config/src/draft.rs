//! [`Draft`]: the file as written, typed but not yet checked as a whole.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use traffic::Prefix;

use crate::schema::announcing::Safety;
use crate::schema::{Section, keys};
use crate::value::Value;

/// What a mined rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the words of the key")]
pub enum RuleAction {
    Accept,
    #[default]
    Discard,
    RateLimit,
    Redirect,
}

/// `[main]` and the other single sections.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, in the schema")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Main {
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
    pub protected_networks: Vec<Prefix>,
    pub enable_ban: bool,
    pub ban_time: u64,
    pub unban_only_if_attack_finished: bool,
    pub process_incoming_traffic: bool,
    pub process_outgoing_traffic: bool,
    pub process_internal_traffic_as_external: bool,
    pub burst_tolerance_ms: u64,
    pub attack_end_delay: u64,
    pub ban_details_records_count: Option<u64>,
    pub bucket_traffic_collection_timeout: u64,
    pub threshold_specific_ban_details: bool,
    pub max_ipv6_hosts: u64,
    pub gobgp_flow_spec_announces: bool,
    pub default_action: RuleAction,
    pub rate_limit_value: u64,
    pub redirect_target_as: Option<u16>,
    pub redirect_target_community: Option<u32>,
    pub flow_spec_next_hops_ipv4: Vec<Ipv4Addr>,
    pub flow_spec_per_hostgroup_management: bool,
    pub flow_spec_execute_validation: bool,
    pub flow_spec_tcp_options_use_match_bit: bool,
    pub flow_spec_fragmentation_options_use_match_bit: bool,
    pub flow_spec_do_not_process_source_address_field: bool,
    pub flow_spec_do_not_process_length_field: bool,
    pub flow_spec_do_not_process_tcp_flags_field: bool,
    pub flow_spec_do_not_process_ip_fragmentation_flags_field: bool,
    pub flow_spec_ignore_do_not_fragment_flag: bool,
    pub flow_spec_strip_ports_for_fragmented_traffic: bool,
    pub blackhole_after: u64,
    pub minimum_coverage_percent: u64,
    pub max_rules_per_host: u64,
    pub max_rules: u64,
    pub max_blackholes: u64,
    pub logging_level: String,
    pub state_directory: String,
    pub safety: Safety,
    pub control_socket_others_may_read: bool,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// `[main]` and the folder of `[state]`.
    pub main: Main,
    /// Sources of traffic.
    pub collecting: crate::collecting::Collecting,
    /// The HTTP listeners and the history.
    pub api: crate::api::Draft,
    /// Where rates go.
    pub export: crate::export::Draft,
    /// Who is told.
    pub notify: crate::notify::Draft,
    /// Host groups by name; `global` is always there.
    pub groups: BTreeMap<String, crate::hostgroup::Group>,
    /// Traffic rules by name.
    pub traffic_rules: BTreeMap<String, crate::detection::TrafficRule>,
    /// Whitelist entries by name.
    pub whitelists: BTreeMap<String, crate::detection::Whitelist>,
    /// BGP peers by name.
    pub bgp: BTreeMap<String, crate::peer::Bgp>,
    /// `[enforcer]`.
    pub enforcer: crate::enforcer::Enforcer,
    /// Whom the enforcer takes rules from, by name.
    pub enforcer_peers: BTreeMap<String, crate::enforcer::EnforcerPeer>,
}

impl Draft {
    /// What an empty file says: everything at its default.
    #[must_use]
    pub fn new() -> Self {
        static EMPTY: LazyLock<Draft> = LazyLock::new(|| {
            let mut draft = Draft::unset();
            for section in Section::ALL.into_iter().filter(|s| !s.is_named() || *s == Section::HostGroup) {
                draft.fill(section, "global");
            }
            draft
        });
        EMPTY.clone()
    }

    fn unset() -> Self {
        Self {
            main: Main::default(),
            collecting: crate::collecting::Collecting::default(),
            api: crate::api::Draft::default(),
            export: crate::export::Draft::default(),
            notify: crate::notify::Draft::default(),
            groups: BTreeMap::from([("global".to_owned(), crate::hostgroup::Group::default())]),
            traffic_rules: BTreeMap::new(),
            whitelists: BTreeMap::new(),
            bgp: BTreeMap::new(),
            enforcer: crate::enforcer::Enforcer::default(),
            enforcer_peers: BTreeMap::new(),
        }
    }

    /// Makes a table of a section with names, all at its default; but a host group inherits what it leaves out.
    pub(crate) fn add(&mut self, section: Section, name: &str) {
        if section == Section::HostGroup {
            self.groups.entry(name.to_owned()).or_default();
        } else {
            self.fill(section, name);
        }
    }

    /// Stores the defaults of a section's keys.
    fn fill(&mut self, section: Section, name: &str) {
        for key in keys().iter().filter(|key| key.section == section) {
            let Some(default) = &key.default else { continue };
            match key.read(&Value::of_default(default)) {
                Ok(store) => store(self, name),
                Err(problem) => unreachable!("default of {key:?}: {problem}"),
            }
        }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}
