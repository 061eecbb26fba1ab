//! Keys of what is collected: listeners, exporters, mirror ports.

use std::net::IpAddr;

use collectors::{Encapsulation, Vantage};

use super::{Key, Value, main, prefixes};

/// Something settled per exporter: a list of texts, each an address and a value.
fn of_exporters<T>(value: &Value, advice: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<(IpAddr, T)>, String> {
    let mut found: Vec<(IpAddr, T)> = Vec::new();
    for text in value.list()? {
        let (address, value) = text.trim().split_once(' ').unwrap_or((text, ""));
        let pair = address.parse().ok().zip(read(value.trim()));
        let (address, value) = pair.ok_or_else(|| format!("{text:?}: write {advice}"))?;
        if found.iter().any(|(other, _)| *other == address) {
            return Err(format!("{address} stands twice in the list: remove one"));
        }
        found.push((address, value));
    }
    Ok(found)
}

pub(super) fn keys() -> Vec<Key> {
    vec![
        main("netflow", "false", "receive NetFlow v5, v7, v9 and IPFIX", set!(netflow, switch)),
        main(
            "netflow_host",
            "\"0.0.0.0\"",
            "address to receive them on; :: for both versions",
            set!(netflow_host, parse, "0.0.0.0"),
        ),
        main("netflow_ports", "[2055]", "UDP ports to receive them on", set!(netflow_ports, ports)),
        main("netflow_workers", "1", "threads per port", set!(netflow_workers, number, 1, 64)),
        main("sflow", "false", "receive sFlow v5", set!(sflow, switch)),
        main(
            "sflow_host",
            "\"0.0.0.0\"",
            "address to receive it on; :: for both versions",
            set!(sflow_host, parse, "0.0.0.0"),
        ),
        main("sflow_ports", "[6343]", "UDP ports to receive it on", set!(sflow_ports, ports)),
        main("sflow_workers", "1", "threads per port", set!(sflow_workers, number, 1, 64)),
        main(
            "receive_buffer_bytes",
            "33554432",
            "receive buffer asked for per socket, in bytes",
            set!(receive_buffer_bytes, number, 0, 4_294_967_296),
        ),
        main(
            "sampling_rates",
            "[]",
            "sampling rates that win over what exporters announce: \"ADDRESS RATE\", such as \"192.0.2.1 1000\"",
            |m, v| {
                m.sampling_rates = of_exporters(v, "\"ADDRESS RATE\", such as \"192.0.2.1 1000\"", |rate| {
                    rate.parse().ok().filter(|r| *r > 0)
                })?;
                Ok(())
            },
        ),
        main(
            "exporters_allowed",
            "[]",
            "prefixes from which flow exports are taken; empty: from everywhere. Datagrams of others are counted and not looked at",
            |m, v| {
                m.exporters_allowed = prefixes(v)?;
                Ok(())
            },
        ),
        main(
            "exporter_vantages",
            "[]",
            "where an exporter's telemetry stands: \"ADDRESS before_filter\", after_filter, or auto (what it says it dropped counts as \
             dropped), which is the default",
            |m, v| {
                let advice = "\"ADDRESS VANTAGE\", such as \"192.0.2.1 after_filter\" (or before_filter, auto)";
                m.exporter_vantages = of_exporters(v, advice, |name| {
                    [Vantage::Auto, Vantage::BeforeFilter, Vantage::AfterFilter].into_iter().find(|v| v.name() == name)
                })?;
                Ok(())
            },
        ),
        main(
            "external_interfaces",
            "[]",
            "SNMP indices of an exporter's interfaces to other networks, \"ADDRESS INDEX,INDEX\": of that exporter only traffic that \
             crosses one of them is counted, once, so that several routers may tell of the same traffic",
            |m, v| {
                m.external_interfaces =
                    of_exporters(v, "\"ADDRESS INDEX,INDEX\", such as \"192.0.2.1 1,2\"", |list| {
                        list.split(',').map(|index| index.trim().parse().ok()).collect()
                    })?;
                Ok(())
            },
        ),
        main(
            "exporter_roles",
            "[]",
            "\"ADDRESS border\" or \"ADDRESS inside\": traffic that crosses the border is counted by border routers only",
            |m, v| {
                m.exporter_roles = v
                    .list()?
                    .iter()
                    .map(|text| {
                        let (address, role) = text.split_once(' ').unwrap_or((text, ""));
                        let inside = match role.trim() {
                            "border" => Some(false),
                            "inside" => Some(true),
                            _ => None,
                        };
                        let address = address.parse().ok();
                        address.zip(inside).ok_or_else(|| {
                            format!(
                                "{text:?}: write \"ADDRESS border\" or \"ADDRESS inside\", such as \"192.0.2.1 inside\""
                            )
                        })
                    })
                    .collect::<Result<_, _>>()?;
                Ok(())
            },
        ),
        main("mirror", "false", "capture packets from mirror ports (needs CAP_NET_RAW)", set!(mirror, switch)),
        main("interfaces", "[]", "interfaces that switches mirror to", |m, v| {
            m.interfaces = v.list()?.into_iter().map(str::to_owned).collect();
            Ok(())
        }),
        main(
            "mirror_sampling_rate",
            "1",
            "N when the switch mirrors one packet of N",
            set!(mirror_sampling_rate, number, 1, 1_000_000),
        ),
        main(
            "mirror_workers",
            "1",
            "threads per interface, which share its packets by flow",
            set!(mirror_workers, number, 1, 64),
        ),
        main(
            "mirror_software_sampling",
            "1",
            "look at one packet of N, by chance, where this host cannot keep up with all",
            set!(mirror_software_sampling, number, 1, 1_000_000),
        ),
        main(
            "mirror_encapsulation",
            "\"none\"",
            "envelope that the mirror puts around every packet, whose inside is then counted: none, erspan, vxlan, geneve or gre",
            |m, v| {
                let text = v.text()?;
                let known = Encapsulation::ALL.into_iter().find(|e| e.name() == text);
                m.mirror_encapsulation = known.ok_or("write \"none\", \"erspan\", \"vxlan\", \"geneve\" or \"gre\"")?;
                Ok(())
            },
        ),
        main("mirror_filter", "\"\"", "BPF filter of captured packets, such as \"not port 22\"", |m, v| {
            v.text()?.clone_into(&mut m.mirror_filter);
            Ok(())
        }),
    ]
}
