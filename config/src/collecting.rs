//! Sources of traffic: listeners, exporters, mirror ports. Keys of `[main]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bgp::Peer;
use collectors::{Block, ExporterSettings, Interface, Listener};
use detector::Routers;
use traffic::Prefix;

use crate::kind::{Kind, Of, address, bytes, choice, list, number, ports, prefixes, switch, text, texts};
use crate::report::Report;
use crate::schema::{Holds, Key, Section, key, set, some};
use collectors::{Encapsulation, Vantage};

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Collecting {
    /// Exporters with whether they stand inside the network.
    pub exporter_roles: Vec<(IpAddr, bool)>,
    pub netflow: bool,
    pub netflow_host: Option<IpAddr>,
    pub netflow_ports: Vec<u16>,
    pub netflow_workers: u64,
    pub sflow: bool,
    pub sflow_host: Option<IpAddr>,
    pub sflow_ports: Vec<u16>,
    pub sflow_workers: u64,
    pub receive_buffer_bytes: u64,
    pub sampling_rates: Vec<(IpAddr, u32)>,
    pub exporters_allowed: Vec<Prefix>,
    pub exporter_vantages: Vec<(IpAddr, collectors::Vantage)>,
    pub external_interfaces: Vec<(IpAddr, BTreeSet<u32>)>,
    pub mirror: bool,
    pub interfaces: Vec<String>,
    pub mirror_sampling_rate: u64,
    pub mirror_filter: String,
    pub mirror_workers: u64,
    pub mirror_software_sampling: u64,
    pub mirror_encapsulation: collectors::Encapsulation,
}

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Collecting, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.collecting, value))
}

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

pub(crate) fn keys() -> Vec<Key> {
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

pub(crate) fn compose(draft: &Collecting, report: &mut Report) -> collectors::Config {
    let mut listeners: Vec<Listener> = Vec::new();
    for (on, name, host, ports, workers) in [
        (draft.netflow, "netflow", draft.netflow_host, &draft.netflow_ports, draft.netflow_workers),
        (draft.sflow, "sflow", draft.sflow_host, &draft.sflow_ports, draft.sflow_workers),
    ] {
        if on && ports.is_empty() {
            report.add(format!("main.{name}_ports"), format!("name at least one port, or set {name} = false"));
        }
        for port in ports.iter().filter(|_| on) {
            let address = SocketAddr::new(host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), *port);
            if listeners.iter().any(|l| l.address == address) {
                report.add(format!("main.{name}_ports"), format!("{address} is used twice: choose different ports"));
            }
            listeners.push(Listener { address, workers: usize::try_from(workers).unwrap_or(1) });
        }
    }
    if draft.mirror && draft.interfaces.is_empty() {
        report.add("main.interfaces", "mirror is on: name at least one interface, such as [\"eth1\"]");
    }
    let sampling_rate = u32::try_from(draft.mirror_sampling_rate).unwrap_or(1);
    let filter = (!draft.mirror_filter.is_empty()).then(|| draft.mirror_filter.clone());
    let interface = |name: &String| Interface {
        sampling_rate,
        filter: filter.clone(),
        workers: usize::try_from(draft.mirror_workers).unwrap_or(1),
        software_sampling: u32::try_from(draft.mirror_software_sampling).unwrap_or(1),
        encapsulation: draft.mirror_encapsulation,
        ..Interface::new(name)
    };
    collectors::Config {
        listeners,
        interfaces: draft.interfaces.iter().filter(|_| draft.mirror).map(interface).collect(),
        receive_buffer_bytes: usize::try_from(draft.receive_buffer_bytes).unwrap_or(usize::MAX),
        exporters: exporters(draft),
        templates_file: None,
    }
}

fn exporters(draft: &Collecting) -> collectors::config::Exporters {
    let mut exporters = collectors::config::Exporters {
        allowed: draft.exporters_allowed.iter().map(|p| Block::new(p.address(), p.length())).collect(),
        settings: BTreeMap::new(),
    };
    let mut settings = |address: &IpAddr, set: &mut dyn FnMut(&mut ExporterSettings)| {
        set(exporters.settings.entry(address.to_canonical()).or_default());
    };
    for (address, rate) in &draft.sampling_rates {
        settings(address, &mut |s| s.rate = Some(*rate));
    }
    for (address, is_inside) in &draft.exporter_roles {
        settings(address, &mut |s| s.is_inside = *is_inside);
    }
    for (address, vantage) in &draft.exporter_vantages {
        settings(address, &mut |s| s.vantage = *vantage);
    }
    for (address, interfaces) in &draft.external_interfaces {
        settings(address, &mut |s| s.external_interfaces.clone_from(interfaces));
    }
    exporters
}

/// Numbers the routers that exporters stand for by their place among the peers, from 1 (decision 8).
pub(crate) fn bind_exporters(exporters: &mut collectors::config::Exporters, peers: &[Peer], report: &mut Report) {
    for (number, peer) in (1..).zip(peers) {
        let key = format!("bgp.{}.exporters", peer.name);
        if number > Routers::MOST && !peer.exporters.is_empty() {
            report.add(key, format!("only the first {} peers can have exporters of their own", Routers::MOST));
            continue;
        }
        for address in &peer.exporters {
            let settings = exporters.settings.entry(address.to_canonical()).or_default();
            if settings.router != 0 && settings.router != number {
                report.add(&key, format!("{address} is an exporter of another peer already: name it at one of them"));
            }
            settings.router = number;
        }
    }
}
