//! The file as text to a [`Config`], or every problem in it at once: line, key, and what to write instead.

use std::net::IpAddr;
use std::time::Duration;

use bgp::{Family, Peer};
use detector::{BucketLimits, Learning};
use flowspec::{Action, Capabilities};
use policy::FlowSpecOptions;
use toml_edit::{Document, Item, Table};
use traffic::{Direction, Networks};

use crate::Config;
use crate::detection;
use crate::draft::{Draft, Main, RuleAction};
use crate::hostgroup::{self, RuleActions};
pub use crate::report::Problem;
use crate::report::Report;
use crate::schema::{self, Section, keys};
use crate::value::Value;

/// Reads and checks a file's text.
///
/// # Errors
/// Every problem, in the order of the file.
pub fn check(text: &str) -> Result<Config, Vec<Problem>> {
    let mut report = Report::default();
    let draft = parse(text, &mut report);
    let config = draft.map(|draft| compose(&draft, &mut report));
    report.problems.sort();
    report.problems.dedup();
    match config {
        Some(config) if report.problems.is_empty() => Ok(config),
        _ => Err(report.problems),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
}

fn parse(text: &str, report: &mut Report) -> Option<Draft> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let message = error.message().trim().replace('\n', "; ");
            report.problems.push(Problem { line, key: String::new(), text: format!("not TOML: {message}") });
            return None;
        }
    };
    let mut draft = Draft::new();
    for (name, item) in document.as_table() {
        let Some(section) = Section::ALL.into_iter().find(|s| s.name() == name) else {
            note_line(text, report, name, document.as_table(), name);
            let known = Section::ALL.map(|s| s.name().to_owned());
            report.add(name, unknown("section", name, &known));
            continue;
        };
        note_line(text, report, name, document.as_table(), name);
        let Item::Table(table) = item else {
            report.add(name, format!("write it as a table: [{name}]"));
            continue;
        };
        if !section.is_named() {
            apply_table(text, section, "", table, &mut draft, report);
            continue;
        }
        for (instance, item) in table {
            let path = format!("{name}.{instance}");
            note_line(text, report, &path, table, instance);
            match item {
                Item::Table(inner) => {
                    draft.add(section, instance);
                    apply_table(text, section, instance, inner, &mut draft, report);
                }
                Item::None | Item::Value(_) | Item::ArrayOfTables(_) => {
                    report.add(path, format!("write it under a name: [{name}.NAME]"));
                }
            }
        }
    }
    Some(draft)
}

/// Remembers the line of a key.
fn note_line(text: &str, report: &mut Report, path: &str, table: &Table, name: &str) {
    let key = table.get_key_value(name);
    let span = key.and_then(|(k, item)| k.span().or_else(|| item.span()));
    if let Some(span) = span {
        report.lines.insert(path.to_owned(), line_of(text, span.start));
    }
}

fn apply_table(text: &str, section: Section, instance: &str, table: &Table, draft: &mut Draft, report: &mut Report) {
    for (name, item) in table {
        let path = if instance.is_empty() {
            format!("{}.{name}", section.name())
        } else {
            format!("{}.{instance}.{name}", section.name())
        };
        note_line(text, report, &path, table, name);
        let Some(key) = schema::find(section, name) else {
            report.add(path, unknown_key(section, name));
            continue;
        };
        draft.enforcer.is_set |= section == Section::Enforcer;
        let value = match item {
            Item::Value(value) => Value::of(value).map_err(|_| key.advice.clone()),
            Item::None | Item::Table(_) | Item::ArrayOfTables(_) => Err("write KEY = VALUE".to_owned()),
        };
        match value.and_then(|value| key.read(&value)) {
            Ok(store) => store(draft, instance),
            Err(text) => report.add(path, text),
        }
    }
}

/// Advice about a key that a section does not have.
pub(crate) fn unknown_key(section: Section, name: &str) -> String {
    let elsewhere = keys().iter().find(|k| k.name == name).map(|k| k.section.name());
    if let Some(other) = elsewhere {
        return format!("unknown key here; it belongs under [{other}]");
    }
    let known: Vec<String> = keys().iter().filter(|k| k.section == section).map(|k| k.name.clone()).collect();
    if !known.iter().any(|k| distance(name, k) <= 2)
        && let Some(advice) = crate::import::advice(name)
    {
        return format!("this option of FastNetMon has no equal: {advice}");
    }
    unknown("key", name, &known)
}

fn unknown(what: &str, name: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|k| (distance(name, k), k)).min();
    match nearest {
        Some((d, key)) if d <= 2 + name.len() / 4 => format!("unknown {what}; did you mean {key}?"),
        _ => format!("unknown {what}; config/reference.toml lists all"),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            let change = diagonal + usize::from(x != *y);
            diagonal = above;
            row[j + 1] = change.min(above + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The stages' configurations; contradictions between keys are reported.
fn compose(draft: &Draft, report: &mut Report) -> Config {
    let networks = Networks::new(&draft.main.networks_list);
    let mitigation = compose_mitigation(draft, &networks, report);
    let mut collectors = crate::collecting::compose(&draft.collecting, report);
    crate::collecting::bind_exporters(&mut collectors.exporters, &mitigation.peers, report);
    Config {
        collectors,
        detector: compose_detector(draft, &networks, report),
        mitigation,
        api: crate::api::compose(&draft.api, report),
        history: crate::api::compose_history(&draft.api),
        export: crate::export::compose(&draft.export, report),
        notify: crate::notify::compose(&draft.notify, report),
        state_directory: draft.main.state_directory.clone().into(),
        control_socket_others_may_read: draft.main.control_socket_others_may_read,
        logging_level: draft.main.logging_level.clone(),
        enforcement: crate::enforcer::compose(draft, report),
    }
}

fn compose_detector(draft: &Draft, networks: &Networks, report: &mut Report) -> detector::Config {
    let main = &draft.main;
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

fn compose_mitigation(draft: &Draft, networks: &Networks, report: &mut Report) -> policy::Config {
    let main = &draft.main;
    let peers: Vec<Peer> =
        draft.bgp.iter().filter_map(|(name, bgp)| crate::peer::compose(name, bgp, main, report)).collect();
    let flowspec = |p: &Peer| p.families.iter().any(|f| matches!(f, Family::Ipv4FlowSpec | Family::Ipv6FlowSpec));
    if main.enable_ban {
        if networks.prefixes().is_empty() && report.knows_networks() {
            report.add(
                "main.enable_ban",
                "networks_list is empty, so nothing could be announced: list your prefixes first",
            );
        }
        if peers.is_empty() && draft.bgp.values().all(|b| !b.active) && !draft.enforcer.enforce_here {
            report.add(
                "main.enable_ban",
                "there is no active BGP peer to announce to: add a [bgp.NAME] table, or enforce_here in [enforcer]",
            );
        } else if !peers.is_empty() && main.gobgp_flow_spec_announces && !peers.iter().any(flowspec) {
            report.add("main.gobgp_flow_spec_announces", "no BGP peer has ipv4_flowspec or ipv6_flowspec on");
        }
    }
    let actions = compose_actions(main, report);
    let groups = hostgroup::policies(draft, &actions, report);
    #[allow(clippy::cast_precision_loss, reason = "a share in percent")]
    let minimum_coverage = main.minimum_coverage_percent as f64 / 100.0;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut config = policy::Config {
        networks: main.networks_list.clone(),
        enable_ban: main.enable_ban,
        flow_spec_announces: main.gobgp_flow_spec_announces,
        flow_spec: FlowSpecOptions {
            next_hops_ipv4: main.flow_spec_next_hops_ipv4.clone(),
            execute_validation: main.flow_spec_execute_validation,
            tcp_flags_match_bit: main.flow_spec_tcp_options_use_match_bit,
            fragment_match_bit: main.flow_spec_fragmentation_options_use_match_bit,
        },
        capabilities: Capabilities {
            source: !main.flow_spec_do_not_process_source_address_field,
            length: !main.flow_spec_do_not_process_length_field,
            tcp_flags: !main.flow_spec_do_not_process_tcp_flags_field,
            fragment: !main.flow_spec_do_not_process_ip_fragmentation_flags_field,
            do_not_fragment: !main.flow_spec_ignore_do_not_fragment_flag,
            ports_with_fragment: !main.flow_spec_strip_ports_for_fragmented_traffic,
            ..Capabilities::default()
        },
        groups,
        protected: main.protected_networks.clone(),
        ban_time: Duration::from_secs(main.ban_time),
        unban_only_if_attack_finished: main.unban_only_if_attack_finished,
        blackhole_after: Duration::from_secs(main.blackhole_after),
        minimum_coverage,
        max_rules_per_host: count(main.max_rules_per_host),
        max_rules: count(main.max_rules),
        max_blackholes: count(main.max_blackholes),
        peers,
        ..policy::Config::default()
    };
    config.remote_skiplist.clone_from(&main.networks_whitelist_remote);
    main.safety.apply(&mut config);
    config
}

/// What rules do, in each step of a ladder; redirecting needs both halves of its route target.
fn compose_actions(main: &Main, report: &mut Report) -> RuleActions {
    #[allow(clippy::cast_precision_loss, reason = "a rate for routers that round it anyway")]
    let rate = Action::RateLimitBytes(main.rate_limit_value as f32);
    let next_hops = main.flow_spec_next_hops_ipv4.iter().map(|a| Action::RedirectToIp(IpAddr::V4(*a)));
    let target = main.redirect_target_as.zip(main.redirect_target_community);
    let route_target = target.map(|(asn, value)| Action::RedirectAs2 { asn, value });
    let redirect: Vec<Action> = route_target.clone().into_iter().chain(next_hops.clone()).collect();
    let mut default = match main.default_action {
        RuleAction::Discard => vec![Action::Discard],
        RuleAction::RateLimit => vec![rate.clone()],
        RuleAction::Redirect if route_target.is_none() && main.flow_spec_next_hops_ipv4.is_empty() => {
            report.add(
                "main.gobgp_flow_spec_default_action",
                "redirect needs its target: set gobgp_flow_spec_v4_redirect_target_as = 65535 and \
                 gobgp_flow_spec_v4_redirect_target_community = 1 as well",
            );
            Vec::new()
        }
        RuleAction::Redirect => route_target.into_iter().collect(),
        // With next hops "accept" means: send it there.
        RuleAction::Accept if !main.flow_spec_next_hops_ipv4.is_empty() => Vec::new(),
        RuleAction::Accept => vec![Action::Accept],
    };
    default.extend(next_hops);
    RuleActions { default, rate, redirect }
}

/// Whether any direction of a group has a threshold: without one nothing alarms.
#[must_use]
pub fn has_thresholds(config: &Config) -> bool {
    Direction::ALL.iter().any(|d| config.detector.groups.iter().any(|g| g.thresholds.keys().any(|(of, _)| of == d)))
}
