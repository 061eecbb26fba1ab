//! Keys of `[enforcer]` and `[enforcer_peer.NAME]`: this host as a FlowSpec router.

use bgp::adj_rib_in::Allowed;

use super::{Key, Section, key};
use crate::enforcer::{BackEndName, Enforcer, EnforcerPeer, HookName};
use crate::kind::{
    self, Kind, Of, address, choice, endpoint, ipv4, list, number, prefixes, seconds, short_secret, switch, text, texts,
};

pub(super) fn keys() -> Vec<Key> {
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
            redirects(),
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

fn redirects() -> Of<Vec<(String, u32, u32)>> {
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
