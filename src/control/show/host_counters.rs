//! `show host_counters` and `show network_counters`: average rates, the largest first.

use detector::Unit;
use detector::scan::Average;
use detector::survey::Wanted;
use operator::{Answer, Failure, Outcome, table};
use serde_json::json;
use traffic::Direction;

use super::{Category, View};

pub(super) const HOSTS: Category = Category {
    name: "host_counters",
    arguments: "[packets|bytes] [incoming|outgoing] [COUNT]",
    help: "rates of own hosts, the largest first; 10 unless told",
    run: hosts,
};

pub(super) const NETWORKS: Category = Category {
    name: "network_counters",
    arguments: "[packets|bytes] [incoming|outgoing] [COUNT]",
    help: "rates of the networks of networks_list, the largest first",
    run: networks,
};

/// Hosts that one answer lists at most.
const MOST: usize = 10_000;

/// By what to sort, and how many to list.
struct Order {
    unit: Unit,
    direction: Direction,
    count: Option<usize>,
}

/// The words, in any order.
fn order(category: &str, arguments: &[String]) -> Result<Order, Failure> {
    let mut order = Order { unit: Unit::Packets, direction: Direction::Incoming, count: None };
    for word in arguments {
        match word.as_str() {
            "packets" => order.unit = Unit::Packets,
            "bytes" => order.unit = Unit::Bytes,
            "incoming" => order.direction = Direction::Incoming,
            "outgoing" => order.direction = Direction::Outgoing,
            "flows" => return Err("flows are not averaged per host: sort by packets or bytes".into()),
            number => match number.parse() {
                Ok(count @ 1..=MOST) => order.count = Some(count),
                _ => {
                    let known = "packets or bytes, incoming or outgoing, and a number up to";
                    return Err(format!("show {category} takes {known} {MOST}: remove {number:?}").into());
                }
            },
        }
    }
    Ok(order)
}

fn hosts(view: &View<'_>, arguments: &[String]) -> Outcome {
    let order = order(HOSTS.name, arguments)?;
    let detector = view.pipeline.detector();
    let ranks = &[(order.direction, order.unit)];
    let found = detector.survey(&Wanted { ranks, count: order.count.unwrap_or(10), ..Wanted::default() });
    let rows: Vec<Row> = found
        .largest
        .into_iter()
        .flatten()
        .map(|(host, average)| Row { name: host.address().to_string(), group: detector.group_name(&host), average })
        .collect();
    Ok(answer("host", &rows, "no own host has traffic"))
}

fn networks(view: &View<'_>, arguments: &[String]) -> Outcome {
    let order = order(NETWORKS.name, arguments)?;
    let detector = view.pipeline.detector();
    let networks = &detector.config().networks;
    let mut all = detector.survey(&Wanted { networks, ..Wanted::default() }).networks;
    all.sort_by(|a, b| of(&b.1, &order).total_cmp(&of(&a.1, &order)).then(a.0.cmp(&b.0)));
    all.truncate(order.count.unwrap_or(MOST));
    let rows: Vec<Row> = all
        .into_iter()
        .map(|(network, average)| Row { name: network.to_string(), group: detector.group_name(&network), average })
        .collect();
    Ok(answer("network", &rows, "networks_list is empty"))
}

fn of(average: &Average, order: &Order) -> f32 {
    match order.unit {
        Unit::Bytes => average.bytes[order.direction as usize],
        Unit::Packets | Unit::Flows => average.packets[order.direction as usize],
    }
}

struct Row<'a> {
    name: String,
    group: &'a str,
    average: Average,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates for people; the cast saturates")]
const fn whole(rate: f32) -> u64 {
    rate as u64
}

/// Rates of one host or network, as JSON.
pub(super) fn rates(average: &Average) -> serde_json::Map<String, serde_json::Value> {
    let Average { packets, bytes } = average;
    let all = [
        ("packets_per_second", packets[0]),
        ("bytes_per_second", bytes[0]),
        ("outgoing_packets_per_second", packets[1]),
        ("outgoing_bytes_per_second", bytes[1]),
    ];
    all.into_iter().map(|(name, rate)| (name.to_owned(), json!(whole(rate)))).collect()
}

fn answer(kind: &str, rows: &[Row<'_>], none: &str) -> Answer {
    let json: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut object = rates(&row.average);
            object.insert(kind.to_owned(), json!(row.name));
            object.insert("group".to_owned(), json!(row.group));
            object
        })
        .collect();
    if rows.is_empty() {
        return Answer::new(none, &json);
    }
    let mbps = |bytes: f32| format!("{:.1}", f64::from(bytes) * 8.0 / 1e6);
    let line = |row: &Row<'_>| {
        let Average { packets, bytes } = row.average;
        vec![
            row.name.clone(),
            whole(packets[0]).to_string(),
            mbps(bytes[0]),
            whole(packets[1]).to_string(),
            mbps(bytes[1]),
            row.group.to_owned(),
        ]
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    let name = kind.to_uppercase();
    let header = [name.as_str(), "PPS IN", "MBPS IN", "PPS OUT", "MBPS OUT", "GROUP"];
    Answer::new(table(&header, &lines), &json)
}
