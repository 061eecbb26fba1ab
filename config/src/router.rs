//! What a router needs to export telemetry to us and to take our rules: its configuration, written for its make.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use bgp::{Family, Peer};

use crate::Config;

/// Routers whose configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Juniper Junos.
    Junos,
    /// Cisco IOS XR.
    IosXr,
    /// Nokia SR OS.
    SrOs,
    /// Huawei VRP.
    Huawei,
    /// Arista EOS.
    Arista,
    /// FRRouting.
    Frr,
    /// BIRD 2.
    Bird,
}

impl Vendor {
    /// All of them, with their names on the command line.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Junos, "junos"),
        (Self::IosXr, "ios-xr"),
        (Self::SrOs, "sr-os"),
        (Self::Huawei, "huawei"),
        (Self::Arista, "arista"),
        (Self::Frr, "frr"),
        (Self::Bird, "bird"),
    ];
}

/// How telemetry is to be exported.
#[derive(Debug, Clone, Copy)]
pub struct Telemetry {
    /// This machine's address as exporters reach it; `None`: the peer's `local_address`.
    pub collector: Option<IpAddr>,
    /// Sampling: one packet of N.
    pub sampling: u32,
    /// After how many seconds a flow that goes on is exported.
    pub active_timeout_seconds: u32,
}

/// The configuration of a peer's router, and what the telemetry's settings cost until an alarm.
///
/// # Errors
/// No address of ours is known.
pub fn write_for(
    config: &Config,
    peer: &Peer,
    vendor: Vendor,
    telemetry: Telemetry,
) -> Result<(String, String), String> {
    let site = site(config, peer, telemetry)?;
    Ok((write(vendor, &site), cost(config, &site)))
}

/// What the templates fill in.
struct Site {
    /// Ours.
    local: IpAddr,
    collector: IpAddr,
    local_asn: u32,
    remote: IpAddr,
    remote_asn: u32,
    netflow: Option<u16>,
    sflow: Option<u16>,
    sampling: u32,
    active: u32,
    flowspec4: bool,
    flowspec6: bool,
    unicast4: bool,
    unicast6: bool,
    blackhole4: Ipv4Addr,
    has_password: bool,
}

fn site(config: &Config, peer: &Peer, telemetry: Telemetry) -> Result<Site, String> {
    let local = peer.local_address.or(telemetry.collector);
    let local = local.ok_or("local_address of the peer is not set: give --collector ADDRESS")?;
    let has = |family| peer.families.contains(&family);
    // The first port of each kind; which is which is told by the usual numbers.
    let ports: Vec<u16> = config.collectors.listeners.iter().map(|l| l.address.port()).collect();
    let sflow = ports.iter().copied().find(|p| *p == 6343);
    Ok(Site {
        local,
        collector: telemetry.collector.unwrap_or(local),
        local_asn: peer.local_asn,
        remote: peer.remote_address,
        remote_asn: peer.remote_asn,
        netflow: ports.iter().copied().find(|p| Some(*p) != sflow),
        sflow,
        sampling: telemetry.sampling.max(1),
        active: telemetry.active_timeout_seconds.max(1),
        flowspec4: has(Family::Ipv4FlowSpec),
        flowspec6: has(Family::Ipv6FlowSpec),
        unicast4: has(Family::Ipv4Unicast),
        unicast6: has(Family::Ipv6Unicast),
        blackhole4: peer.next_hop_ipv4,
        has_password: false,
    })
}

fn write(vendor: Vendor, site: &Site) -> String {
    match vendor {
        Vendor::Junos => junos(site),
        Vendor::IosXr => ios_xr(site),
        Vendor::SrOs => sr_os(site),
        Vendor::Huawei => huawei(site),
        Vendor::Arista => arista(site),
        Vendor::Frr => frr(site),
        Vendor::Bird => bird(site),
    }
}

/// Lines as they are, those with a condition only where it holds.
struct Lines(String);

impl Lines {
    fn new(comment: &str) -> Self {
        Self(format!("{comment}\n"))
    }

    fn add(&mut self, line: impl AsRef<str>) -> &mut Self {
        let _ = writeln!(self.0, "{}", line.as_ref());
        self
    }

    fn add_if(&mut self, holds: bool, line: impl AsRef<str>) -> &mut Self {
        if holds { self.add(line) } else { self }
    }

    fn end(&self) -> String {
        self.0.trim_end().to_owned()
    }
}

fn junos(s: &Site) -> String {
    let mut l =
        Lines::new("# Junos: inline IPFIX, BGP with FlowSpec, rules accepted without an own route (no-validate)");
    let kind = if s.local_asn == s.remote_asn { "internal" } else { "external" };
    if let Some(port) = s.netflow {
        l.add("set services flow-monitoring version-ipfix template FLOODWALL ipv4-template")
            .add(format!("set services flow-monitoring version-ipfix template FLOODWALL flow-active-timeout {}", s.active.max(10)))
            .add("set services flow-monitoring version-ipfix template FLOODWALL flow-inactive-timeout 10")
            .add("set services flow-monitoring version-ipfix template FLOODWALL template-refresh-rate seconds 60")
            .add("set services flow-monitoring version-ipfix template FLOODWALL option-refresh-rate seconds 60")
            .add(format!("set forwarding-options sampling instance FLOODWALL input rate {}", s.sampling))
            .add(format!("set forwarding-options sampling instance FLOODWALL family inet output flow-server {} port {port}", s.collector))
            .add(format!("set forwarding-options sampling instance FLOODWALL family inet output flow-server {} version-ipfix template FLOODWALL", s.collector))
            .add(format!("set forwarding-options sampling instance FLOODWALL family inet output inline-jflow source-address {}", s.remote))
            .add("set chassis fpc 0 sampling-instance FLOODWALL")
            .add("set interfaces INTERFACE unit 0 family inet sampling input");
    }
    l.add_if(
        s.sflow.is_some(),
        format!("set protocols sflow collector {} udp-port {}", s.collector, s.sflow.unwrap_or(6343)),
    )
    .add_if(s.sflow.is_some(), format!("set protocols sflow sample-rate ingress {}", s.sampling))
    .add_if(s.sflow.is_some(), "set protocols sflow interfaces INTERFACE")
    .add(format!("set protocols bgp group FLOODWALL type {kind}"))
    .add(format!("set protocols bgp group FLOODWALL local-address {}", s.remote))
    .add(format!("set protocols bgp group FLOODWALL peer-as {}", s.local_asn))
    .add(format!("set protocols bgp group FLOODWALL neighbor {} passive", s.local))
    .add_if(
        s.has_password,
        format!("set protocols bgp group FLOODWALL neighbor {} authentication-key PASSWORD", s.local),
    )
    .add_if(s.unicast4, "set protocols bgp group FLOODWALL family inet unicast")
    .add_if(s.unicast6, "set protocols bgp group FLOODWALL family inet6 unicast")
    .add_if(s.flowspec4, "set protocols bgp group FLOODWALL family inet flow no-validate FLOODWALL-RULES")
    .add_if(s.flowspec6, "set protocols bgp group FLOODWALL family inet6 flow no-validate FLOODWALL-RULES")
    .add("set policy-options policy-statement FLOODWALL-RULES then accept")
    .add("set protocols bgp group FLOODWALL export FLOODWALL-NOTHING")
    .add("set policy-options policy-statement FLOODWALL-NOTHING then reject")
    .add_if(s.unicast4, format!("set routing-options static route {}/32 discard", s.blackhole4));
    l.end()
}

fn ios_xr(s: &Site) -> String {
    let mut l = Lines::new("! IOS XR: NetFlow v9, BGP with FlowSpec, validation off");
    if let Some(port) = s.netflow {
        l.add("flow exporter-map FLOODWALL")
            .add(" version v9")
            .add("  template data timeout 60")
            .add("  options sampler-table timeout 60")
            .add(" !")
            .add(format!(" transport udp {port}"))
            .add(format!(" destination {}", s.collector))
            .add("!")
            .add("flow monitor-map FLOODWALL")
            .add(" record ipv4")
            .add(" exporter FLOODWALL")
            .add(format!(" cache timeout active {}", s.active))
            .add(" cache timeout inactive 5")
            .add("!")
            .add("sampler-map FLOODWALL")
            .add(format!(" random 1 out-of {}", s.sampling))
            .add("!")
            .add("interface INTERFACE")
            .add(" flow ipv4 monitor FLOODWALL sampler FLOODWALL ingress")
            .add("!");
    }
    l.add("flowspec").add(" local-install interface-all").add("!");
    l.add("route-policy FLOODWALL-IN").add("  pass").add("end-policy").add("!");
    l.add("route-policy FLOODWALL-OUT").add("  drop").add("end-policy").add("!");
    l.add(format!("router bgp {}", s.remote_asn))
        .add_if(s.unicast4, " address-family ipv4 unicast")
        .add_if(s.unicast6, " address-family ipv6 unicast")
        .add_if(s.flowspec4, " address-family ipv4 flowspec")
        .add_if(s.flowspec6, " address-family ipv6 flowspec")
        .add(format!(" neighbor {}", s.local))
        .add(format!("  remote-as {}", s.local_asn))
        .add("  session-open-mode passive-only")
        .add_if(s.has_password, "  password clear PASSWORD");
    for (on, family, flowspec) in [
        (s.unicast4, "ipv4 unicast", false),
        (s.unicast6, "ipv6 unicast", false),
        (s.flowspec4, "ipv4 flowspec", true),
        (s.flowspec6, "ipv6 flowspec", true),
    ] {
        l.add_if(on, format!("  address-family {family}"))
            .add_if(on, "   route-policy FLOODWALL-IN in")
            .add_if(on, "   route-policy FLOODWALL-OUT out")
            .add_if(on && flowspec, "   validation disable");
    }
    l.add("!").add_if(s.unicast4, format!("router static address-family ipv4 unicast {}/32 Null0", s.blackhole4));
    l.end()
}

fn sr_os(s: &Site) -> String {
    let mut l = Lines::new("# SR OS (MD-CLI): IPFIX through cflowd, BGP with FlowSpec, validation off");
    if let Some(port) = s.netflow {
        l.add("/configure cflowd admin-state enable")
            .add(format!("/configure cflowd active-flow-timeout {}", s.active.max(30)))
            .add("/configure cflowd inactive-flow-timeout 10")
            .add("/configure cflowd template-retransmit 60")
            .add(format!("/configure cflowd sample-profile 1 sample-rate {}", s.sampling))
            .add(format!("/configure cflowd collector {} port {port} version 10", s.collector))
            .add("/configure router interface INTERFACE cflowd-parameters sampling unicast type interface direction ingress-only");
    }
    let families: Vec<&str> =
        [(s.unicast4, "ipv4"), (s.unicast6, "ipv6"), (s.flowspec4, "flow-ipv4"), (s.flowspec6, "flow-ipv6")]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect();
    l.add(format!("/configure router bgp neighbor {} peer-as {}", s.local, s.local_asn))
        .add(format!("/configure router bgp neighbor {} passive true", s.local))
        .add_if(s.has_password, format!("/configure router bgp neighbor {} authentication-key PASSWORD", s.local));
    for family in families {
        l.add(format!("/configure router bgp neighbor {} family {family} true", s.local));
    }
    l.add("/configure router bgp flowspec validate-dest-prefix false")
        .add("/configure filter ip-filter FLOODWALL default-action accept embed flowspec offset 1000 router-instance Base")
        .add("/configure router interface INTERFACE ingress filter ip FLOODWALL")
        .add_if(s.unicast4, format!("/configure router static-routes route {}/32 route-type unicast blackhole admin-state enable", s.blackhole4));
    l.end()
}

fn huawei(s: &Site) -> String {
    let mut l = Lines::new(
        "# Huawei VRP: NetStream v9, BGP with FlowSpec, validation off; set the peer's rules to match bits (see below)",
    );
    if let Some(port) = s.netflow {
        l.add("ip netstream export version 9")
            .add(format!("ip netstream export host {} {port}", s.collector))
            .add(format!("ip netstream export source {}", s.remote))
            .add("ip netstream export template timeout-rate 1")
            .add(format!("ip netstream timeout active {}", s.active.max(60).div_ceil(60)))
            .add("ip netstream timeout inactive 10")
            .add(format!("ip netstream sampler random-packets {} inbound", s.sampling))
            .add("interface INTERFACE")
            .add(" ip netstream inbound");
    }
    l.add(format!("bgp {}", s.remote_asn))
        .add(format!(" peer {} as-number {}", s.local, s.local_asn))
        .add(format!(" peer {} listen-only", s.local))
        .add_if(s.has_password, format!(" peer {} password cipher PASSWORD", s.local))
        .add_if(s.flowspec4, " ipv4-family flow")
        .add_if(s.flowspec4, format!("  peer {} enable", s.local))
        .add_if(s.flowspec4, format!("  peer {} validation-disable", s.local))
        .add_if(s.flowspec6, " ipv6-family flow")
        .add_if(s.flowspec6, format!("  peer {} enable", s.local))
        .add_if(s.flowspec6, format!("  peer {} validation-disable", s.local))
        .add_if(s.unicast4, format!("ip route-static {} 32 NULL0", s.blackhole4))
        .add("# here: floodwall set main flow_spec_tcp_options_use_match_bit true")
        .add("#       floodwall set main flow_spec_fragmentation_options_use_match_bit true; floodwall commit");
    l.end()
}

fn arista(s: &Site) -> String {
    let mut l = Lines::new("! Arista EOS: sFlow, BGP with FlowSpec");
    let port = s.sflow.or(s.netflow).unwrap_or(6343);
    l.add(format!("sflow sample {}", s.sampling))
        .add(format!("sflow destination {} {port}", s.collector))
        .add(format!("sflow source {}", s.remote))
        .add("sflow polling-interval 10")
        .add("sflow run")
        .add("flow-spec ipv4")
        .add("interface INTERFACE")
        .add("   flow-spec ipv4 ipv6")
        .add(format!("router bgp {}", s.remote_asn))
        .add(format!("   neighbor {} remote-as {}", s.local, s.local_asn))
        .add(format!("   neighbor {} passive", s.local))
        .add_if(s.has_password, format!("   neighbor {} password PASSWORD", s.local));
    for (on, family) in
        [(s.flowspec4, "flow-spec ipv4"), (s.flowspec6, "flow-spec ipv6"), (s.unicast4, "ipv4"), (s.unicast6, "ipv6")]
    {
        l.add_if(on, format!("   address-family {family}")).add_if(on, format!("      neighbor {} activate", s.local));
    }
    l.add_if(s.unicast4, format!("ip route {}/32 Null0", s.blackhole4))
        .add("! here: floodwall set main flow_spec_strip_ports_for_fragmented_traffic true")
        .add("!       floodwall set main flow_spec_do_not_process_ip_fragmentation_flags_field true; floodwall commit");
    l.end()
}

fn frr(s: &Site) -> String {
    let mut l = Lines::new("! FRR: BGP with FlowSpec; telemetry comes from softflowd or pmacctd beside it");
    if let Some(port) = s.netflow {
        l.add(format!(
            "! softflowd -i INTERFACE -v 9 -s {} -t maxlife={} -n {}:{port}",
            s.sampling, s.active, s.collector
        ));
    }
    l.add(format!("router bgp {}", s.remote_asn))
        .add(" no bgp ebgp-requires-policy")
        .add(format!(" neighbor {} remote-as {}", s.local, s.local_asn))
        .add(format!(" neighbor {} passive", s.local))
        .add_if(s.has_password, format!(" neighbor {} password PASSWORD", s.local));
    for (on, family) in [
        (s.unicast4, "ipv4 unicast"),
        (s.unicast6, "ipv6 unicast"),
        (s.flowspec4, "ipv4 flowspec"),
        (s.flowspec6, "ipv6 flowspec"),
    ] {
        l.add_if(on, format!(" address-family {family}"))
            .add_if(on, format!("  neighbor {} activate", s.local))
            .add_if(on && family.contains("flowspec"), "  local-install INTERFACE")
            .add_if(on, " exit-address-family");
    }
    l.add_if(s.unicast4, format!("ip route {}/32 blackhole", s.blackhole4));
    l.end()
}

fn bird(s: &Site) -> String {
    let mut l =
        Lines::new("# BIRD 2: takes rules into its flow tables; floodwall enforce puts them into the packet filter");
    if let Some(port) = s.netflow {
        l.add(format!(
            "# softflowd -i INTERFACE -v 9 -s {} -t maxlife={} -n {}:{port}",
            s.sampling, s.active, s.collector
        ));
    }
    l.add_if(s.flowspec4, "flow4 table flowtab4;")
        .add_if(s.flowspec6, "flow6 table flowtab6;")
        .add("protocol bgp floodwall {")
        .add(format!("  local {} as {};", s.remote, s.remote_asn))
        .add(format!("  neighbor {} as {};", s.local, s.local_asn))
        .add("  passive yes;")
        .add_if(s.has_password, "  password \"PASSWORD\";")
        .add_if(s.unicast4, "  ipv4 { import all; export none; };")
        .add_if(s.unicast6, "  ipv6 { import all; export none; };")
        .add_if(s.flowspec4, "  flow4 { table flowtab4; import all; export none; };")
        .add_if(s.flowspec6, "  flow6 { table flowtab6; import all; export none; };")
        .add("}")
        .add_if(
            s.unicast4,
            format!("protocol static floodwall_blackhole {{ ipv4; route {}/32 blackhole; }}", s.blackhole4),
        );
    l.end()
}

/// What the telemetry's settings cost until an alarm, for the lowest packet threshold in force.
fn cost(config: &Config, site: &Site) -> String {
    use detector::{Class, Measure, Unit};
    use traffic::Direction;
    /// Observations that an alarm needs at least, so that chance alone does not raise it.
    const EVIDENCE: f64 = 25.0;
    let id = (Direction::Incoming, Measure { class: Class::Total, unit: Unit::Packets });
    let threshold =
        config.detector.groups.iter().filter_map(|g| g.thresholds.get(&id)).min().copied().unwrap_or(20_000);
    #[allow(clippy::cast_precision_loss, reason = "rates for people")]
    let flood = threshold as f64 * 5.0;
    let sampled = flood / f64::from(site.sampling);
    let tolerance = config.detector.burst_tolerance.as_secs_f64();
    // An excess of four thresholds fills the tolerance of one threshold times its span.
    let burst = tolerance / 4.0;
    let evidence = EVIDENCE / sampled.max(0.001);
    let packets = burst.max(evidence) + 0.1;
    let mut text = format!(
        "What these settings cost, for a flood of five times the lowest packet threshold ({threshold} packets/s):\n\
         * burst_tolerance_ms lets {burst:.2} s pass; sampling 1 in {} shows {sampled:.0} packets/s, so {EVIDENCE:.0} observations take \
         {evidence:.2} s\n\
         * sFlow or a mirror port: an alarm after about {packets:.1} s\n\
         * NetFlow and IPFIX: flows that go on are exported every {} s, so an alarm after up to {:.1} s; a lower active timeout or \
         sFlow is sooner",
        site.sampling,
        site.active,
        packets + f64::from(site.active)
    );
    if evidence > 1.0 {
        let better = (sampled * f64::from(site.sampling) / EVIDENCE).max(1.0);
        text.push_str(&format!("\n* sampling of 1 in {better:.0} or denser would bring the evidence within a second"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[main]\nnetworks_list = [\"203.0.113.0/24\"]\nnetflow = true\nsflow = true\n[bgp.edge]\nlocal_asn = 65001\n\
                          local_address = \"192.0.2.2\"\nremote_asn = 65002\nremote_address = \"192.0.2.1\"\n";

    #[test]
    fn every_vendor_gets_this_installations_addresses_ports_and_no_validation() {
        let config = crate::check(CONFIG).unwrap_or_else(|p| panic!("{p:?}"));
        let telemetry = Telemetry { collector: None, sampling: 512, active_timeout_seconds: 10 };
        let site = site(&config, &config.mitigation.peers[0], telemetry).expect("addresses");
        for (vendor, _) in Vendor::ALL {
            let text = write(vendor, &site);
            for part in ["192.0.2.2", "65001", "512", "192.0.2.1"] {
                assert!(text.contains(part), "{part} in {vendor:?}:\n{text}");
            }
            let ports = ["2055", "6343"];
            assert!(ports.iter().any(|p| text.contains(p)), "{vendor:?} exports to a port of ours:\n{text}");
        }
        for (vendor, part) in [
            (Vendor::Junos, "no-validate"),
            (Vendor::IosXr, "validation disable"),
            (Vendor::SrOs, "validate-dest-prefix false"),
            (Vendor::Huawei, "validation-disable"),
        ] {
            assert!(write(vendor, &site).contains(part), "{vendor:?}");
        }
        let cost = cost(&config, &site);
        assert!(cost.contains("every 10 s") && cost.contains("20000 packets/s"), "{cost}");
    }
}
