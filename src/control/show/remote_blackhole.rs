//! `show remote_blackhole`: banned foreign hosts, and until when.

use operator::{Answer, Outcome, table};
use serde_json::json;

use super::{Category, View, no_arguments, span};
use crate::control::act;

pub(super) const CATEGORY: Category =
    Category { name: "remote_blackhole", arguments: "", help: "banned foreign hosts and until when", run: show };

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for (route, host) in act::bans(view.pipeline) {
        let id = operator::identity::route_id(&route);
        let Some(m) = view.status.mitigations.iter().find(|m| m.id == id) else { continue };
        let direction = if matches!(route, bgp::Route::FlowSpec(_)) { "src" } else { "dst" };
        let left = m.ends.map(|ends| (ends - view.now.as_seconds()).max(0.0));
        let (owner, reason) = m.order.as_ref().map_or(("", ""), |o| (o.owner.as_str(), o.reason.as_str()));
        rows.push(vec![
            host.to_string(),
            direction.to_owned(),
            left.map_or_else(|| "never".to_owned(), |l| format!("in {}", span(l))),
            if m.sent_to.is_empty() { "not sent yet".to_owned() } else { m.sent_to.join(", ") },
            owner.to_owned(),
            reason.to_owned(),
        ]);
        json.push(json!({ "id": id, "net": host, "direction": direction, "ends": m.ends, "sent_to": m.sent_to,
            "dry_run": m.dry_run, "owner": owner, "reason": reason }));
    }
    let text = if rows.is_empty() {
        "no foreign host is banned".to_owned()
    } else {
        table(&["HOST", "DIRECTION", "ENDS", "SENT TO", "WHO", "WHY"], &rows)
    };
    Ok(Answer::new(text, &json))
}
