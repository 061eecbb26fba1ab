//! `show bgp`: sessions with peers.

use operator::{Answer, Outcome, table};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "bgp",
    arguments: "",
    help: "BGP sessions: state, families, routes sent, why one is down",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let peers = &view.status.peers;
    if peers.is_empty() {
        return Ok(Answer::new("no BGP peers: set bgp NAME remote_address ADDRESS adds one", peers));
    }
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|p| {
            let families = if p.families.is_empty() { "-".to_owned() } else { p.families.join(" ") };
            let uptime = p.uptime_seconds.map_or_else(|| "-".to_owned(), super::span);
            let refused = if p.refused.is_empty() { String::new() } else { format!(" ({} refused)", p.refused.len()) };
            let sent = format!(
                "{}{refused}{}",
                p.routes_sent,
                if p.in_sync || p.uptime_seconds.is_none() { "" } else { ", sending" }
            );
            let restart = if p.graceful_restart { "yes" } else { "no" };
            let trouble = p.last_error.clone().unwrap_or_default();
            vec![
                p.name.clone(),
                p.state.to_owned(),
                uptime,
                families,
                sent,
                restart.to_owned(),
                p.resets.to_string(),
                trouble,
            ]
        })
        .collect();
    let head = ["PEER", "STATE", "UPTIME", "FAMILIES", "SENT", "GRACEFUL", "RESETS", "LAST ERROR"];
    Ok(Answer::new(table(&head, &rows), peers))
}
