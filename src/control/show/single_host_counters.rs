//! `show single_host_counters IP`: what one own host has sent and received, and what is being done about it.

use operator::{Answer, Outcome, table};
use serde_json::json;
use traffic::Prefix;

use super::{Category, View};

pub(super) const CATEGORY: Category = Category {
    name: "single_host_counters",
    arguments: "IP",
    help: "traffic of one own host since the start, its attacks and rules",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    let [address] = arguments else { return Err("which host? show single_host_counters IP".into()) };
    let prefix: Prefix = address.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?;
    if !prefix.is_host() {
        return Err(format!("{address} is not a host: leave its length out").into());
    }
    let networks = traffic::Networks::new(&view.pipeline.detector().config().networks);
    if !networks.contain(&prefix) {
        return Err(format!("{address} is outside networks_list: only own hosts are counted").into());
    }
    let totals = view.pipeline.detector().host(prefix).unwrap_or_default();
    let attacks: Vec<_> = view.status.attacks.iter().filter(|a| a.prefix == prefix).collect();
    let mitigations: Vec<_> = view.status.mitigations.iter().filter(|m| m.prefix == prefix).collect();
    let average = view.pipeline.detector().average(prefix);
    let row = |direction: &str, d: usize| {
        let rates = [format!("{:.0}", average.packets[d]), format!("{:.1}", f64::from(average.bytes[d]) * 8.0 / 1e6)];
        [vec![direction.to_owned(), totals.packets[d].to_string(), totals.bytes[d].to_string()], rates.to_vec()]
            .concat()
    };
    let header = ["DIRECTION", "PACKETS", "BYTES", "PPS", "MBPS"];
    let mut text = table(&header, &[row("incoming", 0), row("outgoing", 1)]);
    for a in &attacks {
        text.push_str(&format!(
            "\nattacked ({}): over {}, {} packets/s",
            a.direction, a.threshold, a.packets_per_second
        ));
    }
    for m in &mitigations {
        let dry = if m.dry_run.is_some() { " (dry run)" } else { "" };
        text.push_str(&format!("\n{}: {}{dry}", m.kind.name(), m.route));
    }
    let side = |d: usize| json!({ "packets": totals.packets[d], "bytes": totals.bytes[d] });
    let json = json!({
        "host": address,
        "group": view.pipeline.detector().group_name(&prefix),
        "incoming": side(0),
        "outgoing": side(1),
        "rates": super::host_counters::rates(&average),
        "attacks": attacks,
        "mitigations": mitigations,
    });
    Ok(Answer { text, json })
}
