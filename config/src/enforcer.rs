//! `[enforcer]` and `[enforcer_peer.NAME]` as written, and as the enforcer takes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bgp::adj_rib_in::{Accept, Allowed};
use enforcer::ruleset::Hook;
use enforcer::{AclConfig, BackEndConfig, Redirect, Source};
use traffic::Prefix;

use crate::kind::{
    self, Kind, Of, address, choice, endpoint, ipv4, list, number, prefixes, seconds, short_secret, switch, text, texts,
};
use crate::report::Report;
use crate::schema::{Draft, Key, Section, key, set, some};

/// `backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the meanings stand once, below")]
pub enum BackEndName {
    #[default]
    Nftables,
    Acl,
    Print,
}

/// `hook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the meanings stand once, below")]
pub enum HookName {
    #[default]
    Forward,
    Input,
    Prerouting,
    Ingress,
}

/// `[enforcer]`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
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
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
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

pub(crate) fn keys() -> Vec<Key> {
    let mut all = enforcer_keys();
    all.extend(bgp_keys());
    all.extend(acl_keys());
    all.extend(peer_keys());
    all
}

fn enforcer<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Enforcer, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Enforcer, name, default, meaning, of, move |draft, _, value| set(&mut draft.enforcer, value)).admin()
}

fn peer<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut EnforcerPeer, T) + Send + Sync + 'static,
) -> Key {
    key(Section::EnforcerPeer, name, default, meaning, of, move |draft, instance, value| {
        set(draft.enforcer_peers.entry(instance.to_owned()).or_default(), value);
    })
    .admin()
}

fn enforcer_keys() -> Vec<Key> {
    vec![
        enforcer(
            "backend",
            "\"nftables\"",
            "what carries rules out: nftables, acl (files of a switch's ACL tool) or print (standard output, a dry run)",
            choice([("nftables", BackEndName::Nftables), ("acl", BackEndName::Acl), ("print", BackEndName::Print)]),
            set!(backend),
        ),
        enforcer("nft", "\"nft\"", "path or name of the nft program", text(), set!(nft)),
        enforcer(
            "hook",
            "\"forward\"",
            "where packets are looked at: forward (what this host forwards), input (what is for it), prerouting (all, before \
             routing and before fragments are put together) or ingress (all that arrives on interfaces)",
            choice([
                ("forward", HookName::Forward),
                ("input", HookName::Input),
                ("prerouting", HookName::Prerouting),
                ("ingress", HookName::Ingress),
            ]),
            set!(hook),
        ),
        enforcer("interfaces", "[]", "interfaces of hook = \"ingress\"", texts(), set!(interfaces)),
        enforcer(
            "priority",
            "",
            "priority in the hook, lower is earlier; absent: -10, before the filter tables of others, or -450 in prerouting",
            number(-1000, 1000),
            some!(priority),
        ),
        enforcer(
            "management_networks",
            "[]",
            "prefixes whose traffic is never filtered, whatever is announced: how you reach this host and its BGP peers",
            prefixes(),
            set!(management),
        ),
        enforcer(
            "redirect",
            "[]",
            "redirect actions that can be carried out: \"TARGET MARK TABLE\", such as \"65001:100 100 100\": packets get the \
             mark, and marked packets are looked up in that routing table",
            redirect_entries(),
            set!(redirects),
        ),
        enforcer(
            "enforce_here",
            "false",
            "floodwall run carries its own rules out on this host, without any router",
            switch(),
            set!(enforce_here),
        ),
    ]
}

fn redirect_entries() -> Of<Vec<(String, u32, u32)>> {
    let advice = "write \"TARGET MARK TABLE\", such as \"65001:100 100 100\"";
    let one = move |text: &str| redirect(text).ok_or_else(|| format!("{text:?}: {advice}"));
    list(Kind::Form { example: "65001:100 100 100" }, one).saying(advice)
}

fn redirect(text: &str) -> Option<(String, u32, u32)> {
    let mut words = text.split_whitespace();
    let (target, mark, table) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next().is_none() && mark != 0).then(|| (target.to_owned(), mark, table))
}

fn bgp_keys() -> Vec<Key> {
    vec![
        enforcer(
            "feed",
            "\"bgp\"",
            "where rules come from: bgp, or exabgp (ExaBGP's JSON on standard input)",
            choice([("bgp", false), ("exabgp", true)]),
            set!(exabgp),
        ),
        enforcer(
            "listen",
            "\"0.0.0.0:179\"",
            "address and TCP port to wait for BGP peers on",
            endpoint("0.0.0.0:179"),
            set!(listen),
        ),
        enforcer("local_asn", "", "our AS number", number(1, 4_294_967_295), some!(local_asn)),
        enforcer(
            "router_id",
            "",
            "our BGP identifier, an IPv4 address; absent: the address of listen if that is one",
            ipv4("192.0.2.1"),
            some!(router_id),
        ),
        enforcer(
            "hold_time",
            "30",
            "proposed hold time in seconds; a silent peer's rules go after it",
            seconds(3, 65_535),
            set!(hold_time),
        ),
        enforcer(
            "api_listen",
            "\"127.0.0.1:10008\"",
            "address and port of the enforcer's HTTP listener (metrics and status); loopback only",
            endpoint("127.0.0.1:10008"),
            set!(api_listen),
        ),
    ]
}

fn acl_keys() -> Vec<Key> {
    let part = |name: &str, default: &str, meaning: &str, field: fn(&mut Enforcer) -> &mut String| {
        enforcer(name, &format!("{default:?}"), meaning, text(), move |e, v| *field(e) = v)
    };
    vec![
        part("acl_directory", "/etc/cumulus/acl/policy.d", "folder of the ACL files", |e| &mut e.acl_directory),
        part("acl_priority", "60", "first part of their names: files are read in this order", |e| &mut e.acl_priority),
        part("acl_prefix", "flowspec", "second part; a number follows", |e| &mut e.acl_prefix),
        part("acl_suffix", ".rules", "last part", |e| &mut e.acl_suffix),
        part("acl_interface", "swp+", "interfaces that rules apply to: a name, or a prefix and +", |e| {
            &mut e.acl_interface
        }),
        part("acl_reload", "cl-acltool -i", "command that loads the files; empty: none", |e| &mut e.acl_reload),
    ]
}

fn peer_keys() -> Vec<Key> {
    vec![
        peer(
            "remote_address",
            "",
            "address of a BGP speaker that may announce rules",
            address("192.0.2.2"),
            some!(remote_address),
        ),
        peer("remote_asn", "", "its AS number", number(1, 4_294_967_295), some!(remote_asn)),
        peer("remote_port", "179", "its TCP port, where we connect", number(1, 65_535), set!(remote_port)),
        peer("connect", "false", "connect to it; off: wait for it", switch(), set!(connect)),
        peer(
            "local_address",
            "",
            "address to connect from; absent: the system chooses",
            address("192.0.2.1"),
            some!(local_address),
        ),
        peer(
            "md5_auth_password",
            "",
            "TCP MD5 password (RFC 2385), 1 to 80 octets",
            short_secret(80),
            some!(md5_auth_password),
        ),
        peer(
            "ttl_security_hops",
            "",
            "hops the peer is away at most (GTSM, RFC 5082); absent: not checked",
            number(1, 254),
            some!(ttl_security_hops),
        ),
        peer(
            "allow",
            "[]",
            "destinations it may filter: \"PREFIX\" or \"PREFIX MINIMUM-LENGTH\"; without a length, rules need /24 (IPv6: /48) \
             at least",
            allowed(),
            set!(allow),
        ),
        peer(
            "allow_sources",
            "[]",
            "sources it may filter in rules without destination, written as in allow; empty: none",
            allowed(),
            set!(allow_sources),
        ),
        peer(
            "blackholes",
            "false",
            "carry out its blackholes too (unicast routes with the community BLACKHOLE, RFC 7999) inside allow; other routes are not kept",
            switch(),
            set!(blackholes),
        ),
        peer(
            "max_rules",
            "10000",
            "rules it may announce at most; more are left out",
            number(1, 100_000),
            set!(max_rules),
        ),
    ]
}

/// Prefixes with their minimum lengths.
fn allowed() -> Of<Vec<Allowed>> {
    let one = |text: &str| {
        let (prefix, length) = text.split_once(' ').map_or((text, None), |(p, l)| (p, Some(l.trim())));
        let prefix = kind::prefix(prefix)?;
        let least = if prefix.version().bits() == 32 { 24 } else { 48 };
        let minimum_length = match length {
            None => prefix.length().max(least),
            Some(text) => text
                .trim_start_matches('/')
                .parse()
                .ok()
                .filter(|l| (prefix.length()..=prefix.version().bits()).contains(l))
                .ok_or_else(|| {
                    format!("{text:?}: write a length from {} to {}", prefix.length(), prefix.version().bits())
                })?,
        };
        Ok(Allowed { prefix, minimum_length })
    };
    list(Kind::Form { example: "203.0.113.0/24 28" }, one).saying("write ADDRESS/LENGTH, such as 203.0.113.0/24")
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
