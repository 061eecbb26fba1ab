//! `show bgp`: sessions with peers.

use super::{Category, View, no_arguments};
use crate::control::{Answer, Outcome, table};

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
            let trouble = p.last_error.clone().unwrap_or_default();
            vec![p.name.clone(), p.state.to_owned(), families, p.routes_sent.to_string(), p.resets.to_string(), trouble]
        })
        .collect();
    Ok(Answer::new(table(&["PEER", "STATE", "FAMILIES", "SENT", "RESETS", "LAST ERROR"], &rows), peers))
}
