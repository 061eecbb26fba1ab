//! Keys of what is collected: listeners, exporters, mirror ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use collectors::{Encapsulation, Vantage};

use super::{Holds, Key, main};
use crate::kind::{Kind, Of, address, bytes, choice, list, number, ports, prefixes, switch, text, texts};

/// Something settled per exporter: a list of texts, each an address and a value.
fn per_exporter<T: 'static>(
    example: &'static str,
    advice: &'static str,
    read: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
) -> Of<Vec<(IpAddr, T)>> {
    let one = move |text: &str| {
        let (address, value) = text.trim().split_once(' ').unwrap_or((text, ""));
        let pair = address.parse().ok().zip(read(value.trim()));
        pair.ok_or_else(|| format!("{text:?}: write {advice}"))
    };
    list(Kind::Form { example }, one).saying(format!("write {advice}"))
}

/// The same, each address once.
fn once<T: 'static>(of: Of<Vec<(IpAddr, T)>>) -> Of<Vec<(IpAddr, T)>> {
    of.then(|all| {
        let twice =
            all.iter().enumerate().find(|(i, (address, _))| all[..*i].iter().any(|(other, _)| other == address));
        match twice {
            Some((_, (address, _))) => Err(format!("{address} stands twice in the list: remove one")),
            None => Ok(all),
        }
    })
}

fn sampling_rates() -> Of<Vec<(IpAddr, u32)>> {
    let advice = "\"ADDRESS RATE\", such as \"192.0.2.1 1000\"";
    once(per_exporter("192.0.2.1 1000", advice, |rate| rate.parse().ok().filter(|r| *r > 0)))
}

fn vantages() -> Of<Vec<(IpAddr, Vantage)>> {
    let advice = "\"ADDRESS VANTAGE\", such as \"192.0.2.1 after_filter\" (or before_filter, auto)";
    let all = [Vantage::Auto, Vantage::BeforeFilter, Vantage::AfterFilter];
    once(per_exporter("192.0.2.1 after_filter", advice, move |name| all.into_iter().find(|v| v.name() == name)))
}

fn external_interfaces() -> Of<Vec<(IpAddr, BTreeSet<u32>)>> {
    let advice = "\"ADDRESS INDEX,INDEX\", such as \"192.0.2.1 1,2\"";
    let indices = |list: &str| list.split(',').map(|index| index.trim().parse().ok()).collect();
    once(per_exporter("192.0.2.1 1,2", advice, indices))
}

/// Whether each stands inside the network.
fn roles() -> Of<Vec<(IpAddr, bool)>> {
    let advice = "\"ADDRESS border\" or \"ADDRESS inside\", such as \"192.0.2.1 inside\"";
    per_exporter("192.0.2.1 inside", advice, |role| match role {
        "border" => Some(false),
        "inside" => Some(true),
        _ => None,
    })
}

pub(super) fn keys() -> Vec<Key> {
    vec![
        main("netflow", "false", "receive NetFlow v5, v7, v9 and IPFIX", switch(), set!(netflow)),
        main(
            "netflow_host",
            "\"0.0.0.0\"",
            "address to receive them on; :: for both versions",
            address("0.0.0.0"),
            some!(netflow_host),
        ),
        main("netflow_ports", "[2055]", "UDP ports to receive them on", ports(), set!(netflow_ports))
            .alias("netflow_port"),
        main("netflow_workers", "1", "threads per port", number(1, 64), set!(netflow_workers))
            .alias("netflow_threads_per_port"),
        main("sflow", "false", "receive sFlow v5", switch(), set!(sflow)),
        main(
            "sflow_host",
            "\"0.0.0.0\"",
            "address to receive it on; :: for both versions",
            address("0.0.0.0"),
            some!(sflow_host),
        ),
        main("sflow_ports", "[6343]", "UDP ports to receive it on", ports(), set!(sflow_ports)).alias("sflow_port"),
        main("sflow_workers", "1", "threads per port", number(1, 64), set!(sflow_workers)),
        main(
            "receive_buffer_bytes",
            "33554432",
            "receive buffer asked for per socket, in bytes",
            bytes(0, 4_294_967_296),
            set!(receive_buffer_bytes),
        ),
        main(
            "sampling_rates",
            "[]",
            "sampling rates that win over what exporters announce: \"ADDRESS RATE\", such as \"192.0.2.1 1000\"",
            sampling_rates(),
            set!(sampling_rates),
        ),
        main(
            "exporters_allowed",
            "[]",
            "prefixes from which flow exports are taken; empty: from everywhere. Datagrams of others are counted and not looked at",
            prefixes(),
            set!(exporters_allowed),
        ),
        main(
            "exporter_vantages",
            "[]",
            "where an exporter's telemetry stands: \"ADDRESS before_filter\", after_filter, or auto (what it says it dropped counts as \
             dropped), which is the default",
            vantages(),
            set!(exporter_vantages),
        ),
        main(
            "external_interfaces",
            "[]",
            "SNMP indices of an exporter's interfaces to other networks, \"ADDRESS INDEX,INDEX\": of that exporter only traffic that \
             crosses one of them is counted, once, so that several routers may tell of the same traffic",
            external_interfaces(),
            set!(external_interfaces),
        ),
        main(
            "exporter_roles",
            "[]",
            "\"ADDRESS border\" or \"ADDRESS inside\": traffic that crosses the border is counted by border routers only",
            roles(),
            set!(exporter_roles),
        ),
        mirror(),
        main("interfaces", "[]", "interfaces that switches mirror to", texts(), set!(interfaces)),
        main(
            "mirror_sampling_rate",
            "1",
            "N when the switch mirrors one packet of N",
            number(1, 1_000_000),
            set!(mirror_sampling_rate),
        )
        .known_as("mirror_af_packet_custom_sampling_rate", Holds::Unless("1"), "")
        .known_as("mirror_external_af_packet_sampling_rate", Holds::Unless("1"), ""),
        main(
            "mirror_workers",
            "1",
            "threads per interface, which share its packets by flow",
            number(1, 64),
            set!(mirror_workers),
        ),
        main(
            "mirror_software_sampling",
            "1",
            "look at one packet of N, by chance, where this host cannot keep up with all",
            number(1, 1_000_000),
            set!(mirror_software_sampling),
        ),
        main(
            "mirror_encapsulation",
            "\"none\"",
            "envelope that the mirror puts around every packet, whose inside is then counted: none, erspan, vxlan, geneve or gre",
            choice(Encapsulation::ALL.map(|e| (e.name(), e))),
            set!(mirror_encapsulation),
        ),
        main(
            "mirror_filter",
            "\"\"",
            "BPF filter of captured packets, such as \"not port 22\"",
            text(),
            set!(mirror_filter),
        ),
    ]
}

/// FastNetMon has one switch per way to capture.
fn mirror() -> Key {
    let key = main("mirror", "false", "capture packets from mirror ports (needs CAP_NET_RAW)", switch(), set!(mirror));
    ["mirror", "mirror_afpacket", "mirror_xdp", "mirror_afxdp", "mirror_netmap", "pcap"]
        .into_iter()
        .fold(key, |key, name| key.known_as(name, Holds::On, "capture through libpcap"))
}
