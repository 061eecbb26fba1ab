//! An enforcer's status in the text format of Prometheus.

use api::metrics::Family;

use crate::enforcer::Status;

/// Rules with series of their own at most; the sums count all.
const MAX_RULES: usize = 1000;

/// All metrics of an enforcer.
#[must_use]
pub(crate) fn enforcer_metrics(status: &Status) -> String {
    let mut out = String::with_capacity(4096);
    let e = &status.enforcer;
    let mut rules = Family::new(&mut out, "floodwall_enforcer_rules", "gauge", "Rules by state.");
    rules.sample(&[("state", "installed")], e.installed as u64);
    rules.sample(&[("state", "not_installed")], e.not_installed as u64);
    let mut one = |name, kind, help, value| Family::new(&mut out, name, kind, help).sample(&[], value);
    one("floodwall_enforcer_changes_total", "counter", "Changes of the packet filter.", e.changes);
    one("floodwall_enforcer_failures_total", "counter", "Changes that were refused or failed.", e.failures);
    one(
        "floodwall_enforcer_error",
        "gauge",
        "1 while the packet filter is not as it should be.",
        e.error.is_some().into(),
    );
    let mut peers =
        Family::new(&mut out, "floodwall_enforcer_bgp_established", "gauge", "1 while a session is established.");
    status.peers.iter().for_each(|p| peers.sample(&[("peer", &p.name)], u64::from(p.state == "established")));
    let mut peers =
        Family::new(&mut out, "floodwall_enforcer_malformed_total", "counter", "Rules that were not understood.");
    status.peers.iter().for_each(|p| peers.sample(&[("peer", &p.name)], p.malformed));
    type Value = fn(&enforcer::RuleStatus) -> u64;
    let hits: [(&'static str, &str, Value); 2] = [
        ("floodwall_enforcer_packets_total", "Packets that matched a rule.", |r| r.packets),
        ("floodwall_enforcer_bytes_total", "Bytes that matched a rule.", |r| r.bytes),
    ];
    for (name, help, value) in hits {
        let mut family = Family::new(&mut out, name, "counter", help);
        for rule in e.rules.iter().filter(|r| r.state == "installed").take(MAX_RULES) {
            family.sample(&[("id", &rule.id.to_string()), ("peer", &rule.peer), ("rule", &rule.rule)], value(rule));
        }
    }
    out
}
