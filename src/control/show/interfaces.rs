//! `show interfaces`: sockets and mirror ports, and what the kernel dropped.

use operator::{Answer, Outcome, table};

use super::{Category, View, no_arguments};

pub(super) const CATEGORY: Category = Category {
    name: "interfaces",
    arguments: "",
    help: "sockets and mirror ports: what came in, was dropped or not understood",
    run: show,
};

fn show(view: &View<'_>, arguments: &[String]) -> Outcome {
    no_arguments(CATEGORY.name, arguments)?;
    let sources = &view.status.sources;
    let row = |s: &operator::status::Source| {
        let errors: u64 = s.errors.values().sum();
        let state = s.failed.clone().unwrap_or_else(|| "runs".to_owned());
        let counts = [s.datagrams, s.flows, s.packets, s.kernel_drops, errors].map(|n| n.to_string());
        [vec![s.name.clone()], counts.to_vec(), vec![state]].concat()
    };
    let text = if sources.is_empty() {
        "nothing is collected: set main netflow enable, sflow enable or mirror enable".to_owned()
    } else {
        let header = ["SOURCE", "DATAGRAMS", "FLOWS", "PACKETS", "KERNEL DROPS", "NOT UNDERSTOOD", "STATE"];
        table(&header, &sources.iter().map(row).collect::<Vec<_>>())
    };
    Ok(Answer::new(text, sources))
}
