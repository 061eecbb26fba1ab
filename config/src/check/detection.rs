//! Traffic rules, whitelist and thresholds of sums: from the draft to the detector's configuration.

use detector::config::MAX_RULES;
use detector::{Class, HostGroup, Measure, Scope, Thresholds, TrafficRule, Unit, Whitelisted};
use flowspec::{Bits, Condition, Pattern};

use crate::draft::{Draft, Group, Traffic};
use crate::report::Report;
use crate::schema::{SUM_FACTOR, sum_key, sum_measures};

/// The traffic rules; their thresholds go to the groups they are for.
pub(super) fn compose_rules(draft: &Draft, groups: &mut [HostGroup], report: &mut Report) -> Vec<TrafficRule> {
    let mut rules = Vec::new();
    for (name, rule) in draft.traffic_rules.iter().filter(|(_, r)| !r.is_off) {
        let path = |key: &str| format!("traffic_rule.{name}.{key}");
        let Some(pattern) = pattern(&rule.traffic) else {
            report.add(
                format!("traffic_rule.{name}"),
                "it matches everything: name at least one of protocols, ports, lengths, flags",
            );
            continue;
        };
        if rule.thresholds.is_empty() {
            report
                .add(path("threshold_pps"), "it has no threshold: write threshold_pps or threshold_mbps, or remove it");
        }
        for group in &rule.hostgroups {
            if !groups.iter().any(|g| g.name == *group) {
                report.add(path("hostgroups"), format!("there is no host group {group}"));
            }
        }
        if rules.len() >= MAX_RULES {
            report.add(format!("traffic_rule.{name}"), format!("at most {MAX_RULES} traffic rules can be active"));
            continue;
        }
        let class = Class::Rule(u8::try_from(rules.len()).unwrap_or(u8::MAX));
        let is_for =
            |g: &&mut HostGroup| !g.is_total && (rule.hostgroups.is_empty() || rule.hostgroups.contains(&g.name));
        for group in groups.iter_mut().filter(is_for) {
            for ((direction, unit), value) in &rule.thresholds {
                let per_second = if *unit == Unit::Bytes { value.saturating_mul(125_000) } else { *value };
                group.thresholds.insert((*direction, Measure { class, unit: *unit }), per_second);
            }
        }
        rules.push(TrafficRule { name: name.clone(), pattern });
    }
    rules
}

/// The conditions as a pattern; `None` if there are none.
fn pattern(traffic: &Traffic) -> Option<Pattern> {
    let t = traffic.clone();
    let numbers = [
        t.protocols.map(Condition::Protocol),
        t.source_ports.map(Condition::SourcePort),
        t.destination_ports.map(Condition::DestinationPort),
        t.lengths.map(Condition::Length),
    ];
    let mut conditions: Vec<Condition> = numbers.into_iter().flatten().collect();
    conditions.extend(traffic.tcp_flags.map(|mask| Condition::TcpFlags(Bits::any(mask))));
    conditions.extend(traffic.fragment.map(|mask| Condition::Fragment(Bits::any(mask))));
    if conditions.is_empty() { None } else { Pattern::new(conditions).ok() }
}

pub(super) fn compose_whitelist(draft: &Draft, report: &mut Report) -> Vec<Whitelisted> {
    let main = &draft.main;
    let mut all = Vec::new();
    if !main.networks_whitelist.is_empty() {
        let note = "networks_whitelist".to_owned();
        all.push(Whitelisted { note, networks: main.networks_whitelist.clone(), ..Whitelisted::default() });
    }
    if !main.networks_whitelist_remote.is_empty() {
        let note = "networks_whitelist_remote".to_owned();
        all.push(Whitelisted { note, remote: main.networks_whitelist_remote.clone(), ..Whitelisted::default() });
    }
    for (name, entry) in &draft.whitelists {
        let pattern = pattern(&entry.traffic);
        if entry.networks.is_empty() && entry.remote.is_empty() && pattern.is_none() {
            report.add(
                format!("whitelist.{name}"),
                "it would silence everything: name networks, remote, or what traffic it is for",
            );
        }
        all.push(Whitelisted {
            note: if entry.note.is_empty() { name.clone() } else { format!("{name}: {}", entry.note) },
            networks: entry.networks.clone(),
            remote: entry.remote.clone(),
            pattern,
            direction: entry.direction,
            expires: entry.expires,
        });
    }
    all
}

/// Thresholds of sums in force for a group, inherited where it is silent.
pub(super) fn sum_thresholds(
    name: &str,
    scope: Scope,
    group: &Group,
    global: &Group,
    report: &mut Report,
) -> Thresholds {
    let mut all = Thresholds::new();
    for (of, direction, measure) in sum_measures().into_iter().filter(|(of, _, _)| *of == scope) {
        let id = (of, direction, measure);
        let on = group.sum_switches.get(&id).or_else(|| global.sum_switches.get(&id)).copied().unwrap_or(false);
        let key = format!("hostgroup.{name}.{}", sum_key(of, direction, measure));
        if report.lines.contains_key(&key) && !on {
            let switch =
                sum_key(of, direction, measure).replacen("threshold_", "ban_for_", 1).replacen("mbps", "bandwidth", 1);
            report.add(&key, format!("this threshold can never fire: set {switch} = true as well, or remove it"));
        }
        let of = |g: &Group| {
            let hosts = || g.thresholds.get(&(direction, measure)).map(|v| v.saturating_mul(SUM_FACTOR));
            g.sum_thresholds.get(&id).copied().or_else(hosts)
        };
        let value = of(group).or_else(|| of(global));
        let Some(value) = value.filter(|_| on) else { continue };
        let per_second = if measure.unit == Unit::Bytes { value.saturating_mul(125_000) } else { value };
        all.insert((direction, measure), per_second);
    }
    all
}
