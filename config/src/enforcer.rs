//! `[enforcer]` and `[enforcer_peer.NAME]` as written, and as the enforcer takes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp::adj_rib_in::{Accept, Allowed};
use enforcer::ruleset::Hook;
use enforcer::{AclConfig, BackEndConfig, Redirect, Source};
use traffic::Prefix;

use crate::check::Report;
use crate::draft::Draft;

/// `backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the meanings stand once, in the schema")]
pub enum BackEndName {
    #[default]
    Nftables,
    Acl,
    Print,
}

/// `hook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the meanings stand once, in the schema")]
pub enum HookName {
    #[default]
    Forward,
    Input,
    Prerouting,
    Ingress,
}

/// `[enforcer]`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, in the schema")]
pub struct Enforcer {
    /// A key of it stands in the file.
    pub is_set: bool,
    pub backend: BackEndName,
    pub nft: String,
    pub hook: HookName,
    pub interfaces: Vec<String>,
    pub priority: Option<i32>,
    pub management: Vec<Prefix>,
    /// Target, mark, routing table.
    pub redirects: Vec<(String, u32, u32)>,
    pub enforce_here: bool,
    pub exabgp: bool,
    pub listen: SocketAddr,
    pub local_asn: Option<u32>,
    pub router_id: Option<Ipv4Addr>,
    pub hold_time: u64,
    pub api_listen: SocketAddr,
    pub acl_directory: String,
    pub acl_priority: String,
    pub acl_prefix: String,
    pub acl_suffix: String,
    pub acl_interface: String,
    pub acl_reload: String,
}

impl Default for Enforcer {
    /// Before the schema's defaults are applied.
    fn default() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            is_set: false,
            backend: BackEndName::default(),
            nft: String::new(),
            hook: HookName::default(),
            interfaces: Vec::new(),
            priority: None,
            management: Vec::new(),
            redirects: Vec::new(),
            enforce_here: false,
            exabgp: false,
            listen: nowhere,
            local_asn: None,
            router_id: None,
            hold_time: 0,
            api_listen: nowhere,
            acl_directory: String::new(),
            acl_priority: String::new(),
            acl_prefix: String::new(),
            acl_suffix: String::new(),
            acl_interface: String::new(),
            acl_reload: String::new(),
        }
    }
}

/// `[enforcer_peer.NAME]`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, in the schema")]
pub struct EnforcerPeer {
    pub remote_address: Option<IpAddr>,
    pub remote_asn: Option<u32>,
    pub remote_port: u16,
    pub connect: bool,
    pub local_address: Option<IpAddr>,
    pub md5_auth_password: Option<String>,
    pub ttl_security_hops: Option<u8>,
    pub allow: Vec<Allowed>,
    pub allow_sources: Vec<Allowed>,
    pub blackholes: bool,
    pub max_rules: u64,
}

impl Default for EnforcerPeer {
    fn default() -> Self {
        Self {
            remote_address: None,
            remote_asn: None,
            remote_port: 179,
            connect: false,
            local_address: None,
            md5_auth_password: None,
            ttl_security_hops: None,
            allow: Vec::new(),
            allow_sources: Vec::new(),
            blackholes: false,
            max_rules: 10_000,
        }
    }
}

/// The enforcer of this file.
#[derive(Debug, Clone, PartialEq)]
pub struct Enforcement {
    /// `floodwall run` feeds it with its own rules.
    pub enforce_here: bool,
    /// Rules come as ExaBGP's JSON on standard input.
    pub exabgp: bool,
    /// The rest.
    pub config: enforcer::Config,
}

/// `None` without an `[enforcer]` section.
pub(crate) fn compose(draft: &Draft, report: &mut Report) -> Option<Enforcement> {
    let enforcer = &draft.enforcer;
    if !enforcer.is_set {
        if let Some(name) = draft.enforcer_peers.keys().next() {
            report.add(format!("enforcer_peer.{name}"), "there is no [enforcer] section to take its rules: add one");
        }
        return None;
    }
    let feeds_itself = enforcer.enforce_here;
    if !enforcer.api_listen.ip().is_loopback() {
        report.add(
            "enforcer.api_listen",
            "write a loopback address, such as 127.0.0.1:10008: there is no authentication",
        );
    }
    if !feeds_itself && draft.enforcer_peers.is_empty() {
        report.add(
            "enforcer",
            "nobody may announce rules: add an [enforcer_peer.NAME] table, or set enforce_here = true",
        );
    }
    let needs_bgp = !feeds_itself && !enforcer.exabgp;
    if needs_bgp && enforcer.local_asn.is_none() {
        report.add("enforcer.local_asn", "our AS number is missing: write local_asn = 65010");
    }
    let router_id = enforcer.router_id.or(match enforcer.listen.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    if needs_bgp && router_id.is_none_or(|id| id.is_unspecified()) {
        report.add(
            "enforcer.router_id",
            "our BGP identifier is missing: write router_id = \"192.0.2.1\" (any IPv4 address of ours)",
        );
    }
    let hook = hook(draft, report);
    if !enforcer.redirects.is_empty() && !matches!(hook, Hook::Prerouting | Hook::Ingress(_)) {
        report.add(
            "enforcer.redirect",
            "redirect needs hook = \"prerouting\" or \"ingress\": later the route is chosen already",
        );
    }
    Some(Enforcement {
        enforce_here: feeds_itself,
        exabgp: enforcer.exabgp,
        config: enforcer::Config {
            backend: backend(draft),
            priority: enforcer.priority.unwrap_or(if hook == Hook::Prerouting { -450 } else { -10 }),
            hook,
            management: enforcer.management.clone(),
            redirects: redirects(draft, report),
            listen: needs_bgp.then_some(enforcer.listen),
            local_asn: enforcer.local_asn.unwrap_or(0),
            router_id: router_id.unwrap_or(Ipv4Addr::UNSPECIFIED),
            hold_time: Duration::from_secs(enforcer.hold_time),
            sources: sources(draft, needs_bgp, report),
            api_listen: enforcer.api_listen,
        },
    })
}

fn backend(draft: &Draft) -> BackEndConfig {
    let enforcer = &draft.enforcer;
    match enforcer.backend {
        BackEndName::Nftables => BackEndConfig::Nftables { nft: enforcer.nft.clone() },
        BackEndName::Print => BackEndConfig::Print,
        BackEndName::Acl => BackEndConfig::Acl(AclConfig {
            directory: enforcer.acl_directory.clone().into(),
            priority: enforcer.acl_priority.clone(),
            prefix: enforcer.acl_prefix.clone(),
            suffix: enforcer.acl_suffix.clone(),
            interface: enforcer.acl_interface.clone(),
            reload: enforcer.acl_reload.split_whitespace().map(str::to_owned).collect(),
        }),
    }
}

fn hook(draft: &Draft, report: &mut Report) -> Hook {
    let enforcer = &draft.enforcer;
    if enforcer.backend == BackEndName::Acl && enforcer.hook != HookName::Forward {
        report.add("enforcer.hook", "ACL files filter what is forwarded: leave hook out");
    }
    match enforcer.hook {
        HookName::Forward => Hook::Forward,
        HookName::Input => Hook::Input,
        HookName::Prerouting => Hook::Prerouting,
        HookName::Ingress => {
            let is_name = |n: &String| {
                !n.is_empty() && n.len() < 16 && n.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '/')
            };
            if let Some(name) = enforcer.interfaces.iter().find(|n| !is_name(n)) {
                report.add("enforcer.interfaces", format!("{name:?} is not an interface name"));
            }
            if enforcer.interfaces.is_empty() {
                report.add("enforcer.interfaces", "hook is ingress: name at least one interface, such as [\"eth1\"]");
            }
            Hook::Ingress(enforcer.interfaces.clone())
        }
    }
}

fn redirects(draft: &Draft, report: &mut Report) -> BTreeMap<String, Redirect> {
    let mut all = BTreeMap::new();
    for (target, mark, table) in &draft.enforcer.redirects {
        if all.insert(target.clone(), Redirect { mark: *mark, table: *table }).is_some() {
            report.add("enforcer.redirect", format!("{target} stands twice in the list: remove one"));
        }
    }
    all
}

fn sources(draft: &Draft, needs_bgp: bool, report: &mut Report) -> Vec<Source> {
    let mut all: Vec<Source> = Vec::new();
    for (name, peer) in &draft.enforcer_peers {
        let path = |key: &str| format!("enforcer_peer.{name}.{key}");
        if peer.remote_address.is_none() {
            report.add(path("remote_address"), "the peer's address is missing: write remote_address = \"192.0.2.2\"");
        }
        if needs_bgp && peer.remote_asn.is_none() {
            report.add(path("remote_asn"), "the peer's AS number is missing: write remote_asn = 65001");
        }
        if peer.allow.is_empty() && peer.allow_sources.is_empty() {
            report.add(path("allow"), "no rule of this peer would be accepted: write allow = [\"203.0.113.0/24\"]");
        }
        let Some(remote_address) = peer.remote_address else { continue };
        if let Some(other) = all.iter().find(|s| s.remote_address == remote_address) {
            report.add(
                path("remote_address"),
                format!("it is the address of {} as well: peers are told apart by it", other.name),
            );
        }
        all.push(Source {
            name: name.clone(),
            remote_address,
            remote_asn: peer.remote_asn.unwrap_or(0),
            remote_port: peer.remote_port,
            connect: peer.connect,
            local_address: peer.local_address,
            md5_password: peer.md5_auth_password.clone(),
            ttl_security_hops: peer.ttl_security_hops,
            blackholes: peer.blackholes,
            accept: Accept {
                destinations: peer.allow.clone(),
                sources: peer.allow_sources.clone(),
                max_rules: usize::try_from(peer.max_rules).unwrap_or(usize::MAX),
            },
        });
    }
    all
}
