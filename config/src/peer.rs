//! `[bgp.NAME]`: a router that rules and blackholes are announced to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bgp::{Classes, Community, ConnectionMode, ExtendedCommunity, Family, LargeCommunity, Peer};
use flowspec::profile::{self, FragmentSupport, Profile};

use crate::announcing::Announcing;
use crate::communities::{communities, extended_communities, large_communities};
use crate::kind::{
    self, Kind, Of, address, addresses, choice, ipv4, ipv6, number, seconds, short_secret, switch, text,
};
use crate::report::Report;
use crate::schema::{Holds, Key, Section, key, set, some};

/// `[bgp.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
#[allow(clippy::struct_excessive_bools, reason = "switches of the file")]
pub struct Bgp {
    pub active: bool,
    pub description: String,
    pub local_asn: Option<u32>,
    pub local_address: Option<IpAddr>,
    pub remote_asn: Option<u32>,
    pub remote_address: Option<IpAddr>,
    pub remote_port: u16,
    pub router_id: Option<Ipv4Addr>,
    pub hold_time: u64,
    pub ipv4_unicast: bool,
    pub ipv6_unicast: bool,
    pub ipv4_flowspec: bool,
    pub ipv6_flowspec: bool,
    pub next_hop_ipv4: Option<Ipv4Addr>,
    pub next_hop_ipv6: Option<Ipv6Addr>,
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
    pub announce_incoming: bool,
    pub announce_outgoing: bool,
    pub passive: bool,
    pub listen: bool,
    pub local_port: u16,
    pub md5_auth_password: Option<String>,
    pub ttl_security_hops: Option<u8>,
    pub multihop_ttl: Option<u8>,
    pub graceful_restart_time: u64,
    pub max_received_prefixes: u64,
    pub blackhole_communities: Vec<Community>,
    pub extended_communities: Vec<ExtendedCommunity>,
    pub announce_remote_bans: bool,
    pub canary: bool,
    pub exporters: Vec<IpAddr>,
    pub profile: profile::Kind,
    pub options: BTreeMap<&'static str, Setting>,
}

fn bgp<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Bgp, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Bgp, name, default, meaning, of, move |draft, instance, value| {
        set(draft.bgp.entry(instance.to_owned()).or_default(), value);
    })
}

pub(crate) fn keys() -> Vec<Key> {
    let mut keys = session_keys();
    keys.extend(transport_keys());
    keys.extend(content_keys());
    keys.extend(PROFILE_OPTIONS.iter().map(|(name, meaning, option)| {
        let full = format!("flowspec_{name}");
        let meaning = format!("{meaning}; absent: as the profile says");
        let store = move |b: &mut Bgp, value| {
            b.options.insert(name, value);
        };
        match option {
            Opt::Switch(_) => bgp(&full, "", &meaning, switch().then(|on| Ok(Setting::Switch(on))), store),
            Opt::Count(low, high, _) => {
                bgp(&full, "", &meaning, number(*low, *high).then(|n| Ok(Setting::Count(n))), store)
            }
            Opt::Fragment => bgp(&full, "", &meaning, choice(FRAGMENTS).then(|f| Ok(Setting::Fragment(f))), store),
        }
    }));
    keys
}

fn transport_keys() -> Vec<Key> {
    vec![
        bgp("passive", "false", "never connect: wait for the peer to", switch(), set!(passive)),
        bgp("listen", "false", "connect, and accept the peer's connection too", switch(), set!(listen)),
        bgp(
            "local_port",
            "179",
            "TCP port to wait on at local_address, with passive or listen",
            number(1, 65_535),
            set!(local_port),
        ),
        bgp(
            "md5_auth_password",
            "",
            "TCP MD5 password (RFC 2385), 1 to 80 octets; the router needs the same",
            short_secret(80),
            some!(md5_auth_password),
        )
        .admin(),
        bgp(
            "ttl_security_hops",
            "",
            "GTSM (RFC 5082): the peer is at most so many hops away, 1 for a neighbour; it must send TTL 255 too",
            number(1, 254),
            some!(ttl_security_hops),
        ),
        bgp(
            "multihop_ttl",
            "",
            "TTL of what is sent, without GTSM; absent: the system's",
            number(1, 255),
            some!(multihop_ttl),
        ),
        bgp(
            "graceful_restart_time",
            "120",
            "seconds that the peer keeps our routes when the session is lost (RFC 4724); 0 switches graceful restart off",
            seconds(0, 4095),
            set!(graceful_restart_time),
        ),
        bgp(
            "max_received_prefixes",
            "10000",
            "routes of the peer that are looked at; more are counted and dropped",
            number(0, 10_000_000),
            set!(max_received_prefixes),
        ),
    ]
}

fn content_keys() -> Vec<Key> {
    vec![
        bgp(
            "blackhole_communities",
            "[]",
            "communities added to every blackhole, such as \"65001:666\"",
            communities(),
            set!(blackhole_communities),
        ),
        bgp(
            "extended_communities",
            "[]",
            "extended communities added to every route, such as \"rt:65001:100\"",
            extended_communities(),
            set!(extended_communities),
        ),
        bgp(
            "announce_remote_bans",
            "false",
            "manual bans of foreign hosts, always with no-export",
            switch(),
            set!(announce_remote_bans),
        ),
        bgp("canary", "false", "it gets new routes first; the others canary_time later", switch(), set!(canary)),
        bgp(
            "exporters",
            "[]",
            "addresses of exporters whose traffic passes this router; what it filters is taken out of their counts alone; \
             empty: of all",
            addresses(kind::Family::Any, "192.0.2.1"),
            set!(exporters),
        ),
        bgp(
            "profile",
            "\"generic\"",
            "what its router can take: generic, juniper, cisco-xr, nokia, huawei, arista, extreme, 6wind, frr, bird, gobgp, exabgp",
            profile(),
            set!(profile),
        ),
    ]
}

fn profile() -> Of<profile::Kind> {
    let names: Vec<&'static str> = profile::Kind::ALL.iter().map(|(_, name)| *name).collect();
    let advice = format!("write one of {}", names.join(", "));
    Of::new(Kind::Choice { choices: names }, |value| value.text()?.parse()).saying(advice)
}

/// What an option of a profile takes, and the field that it is.
enum Opt {
    Switch(fn(&mut Profile, bool)),
    /// From, to.
    Count(i64, i64, fn(&mut Profile, usize)),
    Fragment,
}

/// An option of a profile as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "what the option takes")]
pub enum Setting {
    Switch(bool),
    Count(usize),
    Fragment(FragmentSupport),
}

const FRAGMENTS: [(&str, FragmentSupport); 4] = [
    ("none", FragmentSupport::None),
    ("is-fragment", FragmentSupport::IsFragment),
    ("no-last", FragmentSupport::NoLast),
    ("all", FragmentSupport::All),
];

macro_rules! option {
    ($($field:ident).+) => {
        Opt::Switch(|p, on| p.$($field).+ = on)
    };
}

/// Options of a profile that can be set by themselves: name without `flowspec_`, meaning, what it sets.
const PROFILE_OPTIONS: [(&str, &str, Opt); 23] = [
    ("tcp_flags_match_bit", "match bit in tests of single TCP flags", option!(tcp_flags_match_bit)),
    ("fragment_match_bit", "match bit in tests of single fragment bits", option!(fragment_match_bit)),
    ("fragment", "fragment bits it can match: none, is-fragment, no-last or all", Opt::Fragment),
    ("dont_fragment", "it can match dont-fragment", option!(dont_fragment)),
    ("tcp_flags", "it can match TCP flags", option!(tcp_flags)),
    ("tcp_flags_negation", "it can match clear TCP flags", option!(tcp_flags_negation)),
    ("tcp_flags_extended", "it can match ECE and CWR", option!(tcp_flags_extended)),
    ("length_ipv4", "it can match the length of IPv4 packets", Opt::Switch(set!(length.0))),
    ("length_ipv6", "it can match the length of IPv6 packets", Opt::Switch(set!(length.1))),
    (
        "longest_length",
        "longest packet length a rule may name",
        Opt::Count(20, 65_535, |p, n| p.longest = u32::try_from(n).unwrap_or(9216)),
    ),
    ("source", "it can match source prefixes", option!(source)),
    ("ports_with_fragment", "it can match ports together with fragment bits", option!(ports_with_fragment)),
    ("port_with_others", "it can match port together with source-port or destination-port", option!(port_with_others)),
    ("needs_protocol", "ports, ICMP and TCP flags need a protocol", option!(needs_protocol)),
    (
        "max_values",
        "values or ranges of one condition at most; longer rules are cut into several",
        Opt::Count(1, 1000, set!(max_values)),
    ),
    (
        "max_operators",
        "operators of one condition at most (a range has two); longer rules are cut",
        Opt::Count(2, 1000, set!(max_operators)),
    ),
    ("ranges", "it can match ranges", option!(ranges)),
    ("ipv6", "it takes IPv6 rules", option!(ipv6)),
    ("rate_packets", "it knows rate limits in packets", option!(rate_packets)),
    ("redirect_as4", "it knows redirection to a 4-octet AS", option!(redirect_as4)),
    ("redirect_to_next_hop", "it knows the older form of redirection to a next hop", option!(redirect_to_next_hop)),
    ("rate_asn", "our AS number in rate limits; false sends 0 as FastNetMon does", option!(rate_asn)),
    ("max_rules", "FlowSpec rules it holds at most", Opt::Count(1, 1_000_000, set!(max_rules))),
];

fn session_keys() -> Vec<Key> {
    vec![
        bgp("active", "true", "connect to this peer", switch(), set!(active)),
        bgp("description", "", "a note for people", text(), set!(description)),
        bgp("local_asn", "", "our AS number towards this peer", number(1, 4_294_967_295), some!(local_asn)),
        bgp(
            "local_address",
            "",
            "address to connect from; absent: the system chooses",
            address("192.0.2.2"),
            some!(local_address),
        ),
        bgp(
            "remote_asn",
            "",
            "the peer's AS number; equal to local_asn for iBGP",
            number(1, 4_294_967_295),
            some!(remote_asn),
        ),
        bgp("remote_address", "", "the peer's address", address("192.0.2.1"), some!(remote_address)),
        bgp("remote_port", "179", "the peer's TCP port", number(1, 65_535), set!(remote_port)),
        bgp(
            "router_id",
            "",
            "our BGP identifier, an IPv4 address; absent: local_address if that is IPv4",
            ipv4("192.0.2.2"),
            some!(router_id),
        )
        .known_as("gobgp_router_id", Holds::ForPeers, ""),
        bgp(
            "hold_time",
            "90",
            "proposed hold time in seconds, 0 or at least 3",
            seconds(0, 65_535).then(hold_time),
            set!(hold_time),
        ),
        bgp("ipv4_unicast", "true", "announce IPv4 blackholes to it", switch(), set!(ipv4_unicast)),
        bgp("ipv6_unicast", "true", "announce IPv6 blackholes to it", switch(), set!(ipv6_unicast)),
        bgp("ipv4_flowspec", "true", "announce IPv4 FlowSpec rules to it", switch(), set!(ipv4_flowspec)),
        bgp("ipv6_flowspec", "true", "announce IPv6 FlowSpec rules to it", switch(), set!(ipv6_flowspec)),
        bgp(
            "next_hop_ipv4",
            "\"192.0.2.1\"",
            "next hop of IPv4 blackholes; routers discard what goes there",
            ipv4("192.0.2.1"),
            some!(next_hop_ipv4),
        )
        .known_as("gobgp_next_hop_host_ipv4", Holds::ForPeers, "")
        .known_as("gobgp_next_hop", Holds::ForPeers, ""),
        bgp(
            "next_hop_ipv6",
            "\"100::1\"",
            "next hop of IPv6 blackholes (RFC 6666)",
            ipv6("100::1"),
            some!(next_hop_ipv6),
        )
        .known_as("gobgp_next_hop_host_ipv6", Holds::ForPeers, "")
        .known_as("gobgp_next_hop_ipv6", Holds::ForPeers, ""),
        bgp(
            "communities",
            "[]",
            "communities added to every route, such as \"65001:7\"",
            communities(),
            set!(communities),
        )
        .known_as("gobgp_communities_host_ipv4", Holds::ForPeers, "")
        .known_as("gobgp_community_host", Holds::ForPeers, ""),
        bgp(
            "large_communities",
            "[]",
            "large communities added to every route, such as \"65001:1:2\"",
            large_communities(),
            set!(large_communities),
        ),
        bgp(
            "announce_incoming",
            "true",
            "rules and blackholes whose destination is ours",
            switch(),
            set!(announce_incoming),
        ),
        bgp(
            "announce_outgoing",
            "false",
            "rules whose source is ours, for attacks we send",
            switch(),
            set!(announce_outgoing),
        ),
    ]
}

fn hold_time(seconds: u64) -> Result<u64, String> {
    if matches!(seconds, 1 | 2) { Err("write 0, or 3 to 65535 (RFC 4271 section 4.2)".to_owned()) } else { Ok(seconds) }
}

impl Bgp {
    /// The profile with the options that are set by themselves; the global match bits come on top.
    pub(crate) fn profile(&self, tcp_match_bit: bool, fragment_match_bit: bool) -> Profile {
        let mut profile = Profile::of(self.profile);
        profile.tcp_flags_match_bit |= tcp_match_bit;
        profile.fragment_match_bit |= fragment_match_bit;
        for (name, _, option) in &PROFILE_OPTIONS {
            match (option, self.options.get(name)) {
                (Opt::Switch(set), Some(Setting::Switch(on))) => set(&mut profile, *on),
                (Opt::Count(_, _, set), Some(Setting::Count(n))) => set(&mut profile, *n),
                (Opt::Fragment, Some(Setting::Fragment(fragment))) => profile.fragment = *fragment,
                (Opt::Switch(_) | Opt::Count(..) | Opt::Fragment, _) => {}
            }
        }
        profile
    }

    pub(crate) const fn mode(&self) -> ConnectionMode {
        match (self.passive, self.listen) {
            (true, _) => ConnectionMode::Passive,
            (false, true) => ConnectionMode::Both,
            (false, false) => ConnectionMode::Active,
        }
    }
}

pub(crate) fn compose(name: &str, bgp: &Bgp, main: &Announcing, report: &mut Report) -> Option<Peer> {
    let path = |key: &str| format!("bgp.{name}.{key}");
    if bgp.local_asn.is_none() {
        report.add(path("local_asn"), "our AS number is missing: write local_asn = 65001");
    }
    if bgp.remote_asn.is_none() {
        report.add(path("remote_asn"), "the peer's AS number is missing: write remote_asn = 65002");
    }
    if bgp.remote_address.is_none() {
        report.add(path("remote_address"), "the peer's address is missing: write remote_address = \"192.0.2.1\"");
    }
    if let (Some(local), Some(remote)) = (bgp.local_address, bgp.remote_address)
        && local.is_ipv4() != remote.is_ipv4()
    {
        report.add(path("local_address"), "it is of another IP version than remote_address");
    }
    let router_id = bgp.router_id.or(match bgp.local_address {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    });
    // An address that could not be read would have given the identifier.
    if router_id.is_none_or(|id| id.is_unspecified()) && !report.has(&path("local_address")) {
        report.add(
            path("router_id"),
            "our BGP identifier is missing: write router_id = \"192.0.2.2\" (any IPv4 address of ours)",
        );
    }
    let families: Vec<Family> = [
        (bgp.ipv4_unicast, Family::Ipv4Unicast),
        (bgp.ipv6_unicast, Family::Ipv6Unicast),
        (bgp.ipv4_flowspec, Family::Ipv4FlowSpec),
        (bgp.ipv6_flowspec, Family::Ipv6FlowSpec),
    ]
    .into_iter()
    .filter_map(|(on, family)| on.then_some(family))
    .collect();
    if families.is_empty() {
        report.add(format!("bgp.{name}"), "every address family is off: switch on at least one");
    }
    if !bgp.active {
        return None;
    }
    Some(Peer {
        name: name.to_owned(),
        local_asn: bgp.local_asn?,
        local_address: bgp.local_address,
        remote_asn: bgp.remote_asn?,
        remote_address: bgp.remote_address?,
        remote_port: bgp.remote_port,
        router_id: router_id.unwrap_or(Ipv4Addr::UNSPECIFIED),
        hold_time: Duration::from_secs(bgp.hold_time),
        families,
        next_hop_ipv4: bgp.next_hop_ipv4?,
        next_hop_ipv6: bgp.next_hop_ipv6?,
        communities: bgp.communities.clone(),
        large_communities: bgp.large_communities.clone(),
        classes: Classes {
            incoming: bgp.announce_incoming,
            outgoing: bgp.announce_outgoing,
            remote_bans: bgp.announce_remote_bans,
        },
        local_port: bgp.local_port,
        mode: bgp.mode(),
        md5_password: bgp.md5_auth_password.clone(),
        ttl_security_hops: bgp.ttl_security_hops,
        ttl: bgp.multihop_ttl,
        graceful_restart: Duration::from_secs(bgp.graceful_restart_time),
        max_received: usize::try_from(bgp.max_received_prefixes).unwrap_or(usize::MAX),
        blackhole_communities: bgp.blackhole_communities.clone(),
        extended_communities: bgp.extended_communities.clone(),
        canary: bgp.canary,
        exporters: bgp.exporters.clone(),
        profile: bgp
            .profile(main.flow_spec_tcp_options_use_match_bit, main.flow_spec_fragmentation_options_use_match_bit),
    })
}
