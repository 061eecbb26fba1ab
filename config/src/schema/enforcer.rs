//! Keys of `[enforcer]` and `[enforcer_peer.NAME]`: this host as a FlowSpec router.

use std::net::SocketAddr;

use bgp::adj_rib_in::Allowed;
use traffic::Prefix;

use super::{Key, Section, Value, key, prefixes};
use crate::draft::Draft;
use crate::enforcer::{BackEndName, Enforcer, EnforcerPeer, HookName};

pub(super) fn keys() -> Vec<Key> {
    let mut all = enforcer_keys();
    all.extend(bgp_keys());
    all.extend(acl_keys());
    all.extend(peer_keys());
    all
}

fn enforcer(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Enforcer, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, _: &str, value: &Value| {
        draft.enforcer.is_set = true;
        set(&mut draft.enforcer, value)
    };
    key(Section::Enforcer, name, default, meaning, Box::new(apply))
}

fn peer(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut EnforcerPeer, &Value) -> Result<(), String> + 'static,
) -> Key {
    let apply = move |draft: &mut Draft, instance: &str, value: &Value| {
        set(draft.enforcer_peers.entry(instance.to_owned()).or_default(), value)
    };
    key(Section::EnforcerPeer, name, default, meaning, Box::new(apply))
}

fn enforcer_keys() -> Vec<Key> {
    vec![
        enforcer(
            "backend",
            "\"nftables\"",
            "what carries rules out: nftables, acl (files of a switch's ACL tool) or print (standard output, a dry run)",
            |e, v| {
                e.backend = match v.text()? {
                    "nftables" => BackEndName::Nftables,
                    "acl" => BackEndName::Acl,
                    "print" => BackEndName::Print,
                    _ => return Err("write \"nftables\", \"acl\" or \"print\"".to_owned()),
                };
                Ok(())
            },
        ),
        enforcer("nft", "\"nft\"", "path or name of the nft program", |e, v| {
            v.text()?.clone_into(&mut e.nft);
            Ok(())
        }),
        enforcer(
            "hook",
            "\"forward\"",
            "where packets are looked at: forward (what this host forwards), input (what is for it), prerouting (all, before \
             routing and before fragments are put together) or ingress (all that arrives on interfaces)",
            |e, v| {
                e.hook = match v.text()? {
                    "forward" => HookName::Forward,
                    "input" => HookName::Input,
                    "prerouting" => HookName::Prerouting,
                    "ingress" => HookName::Ingress,
                    _ => return Err("write \"forward\", \"input\", \"prerouting\" or \"ingress\"".to_owned()),
                };
                Ok(())
            },
        ),
        enforcer("interfaces", "[]", "interfaces of hook = \"ingress\"", |e, v| {
            e.interfaces = v.list()?.into_iter().map(str::to_owned).collect();
            Ok(())
        }),
        enforcer(
            "priority",
            "",
            "priority in the hook, lower is earlier; absent: -10, before the filter tables of others, or -450 in prerouting",
            |e, v| {
                let number = if let Value::Number(n) = v { i32::try_from(*n).ok() } else { None };
                e.priority = number.filter(|n| (-1000..=1000).contains(n));
                if e.priority.is_some() { Ok(()) } else { Err("write a whole number from -1000 to 1000".to_owned()) }
            },
        ),
        enforcer(
            "management_networks",
            "[]",
            "prefixes whose traffic is never filtered, whatever is announced: how you reach this host and its BGP peers",
            |e, v| {
                e.management = prefixes(v)?;
                Ok(())
            },
        ),
        enforcer(
            "redirect",
            "[]",
            "redirect actions that can be carried out: \"TARGET MARK TABLE\", such as \"65001:100 100 100\": packets get the \
             mark, and marked packets are looked up in that routing table",
            |e, v| {
                e.redirects = v
                    .list()?
                    .into_iter()
                    .map(|text| {
                        redirect(text).ok_or_else(|| {
                            format!("{text:?}: write \"TARGET MARK TABLE\", such as \"65001:100 100 100\"")
                        })
                    })
                    .collect::<Result<_, _>>()?;
                Ok(())
            },
        ),
        enforcer(
            "enforce_here",
            "false",
            "floodwall run carries its own rules out on this host, without any router",
            set!(enforce_here, switch),
        ),
    ]
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
            |e, v| {
                e.exabgp = match v.text()? {
                    "bgp" => false,
                    "exabgp" => true,
                    _ => return Err("write \"bgp\" or \"exabgp\"".to_owned()),
                };
                Ok(())
            },
        ),
        enforcer("listen", "\"0.0.0.0:179\"", "address and TCP port to wait for BGP peers on", |e, v| {
            e.listen = v.parse::<SocketAddr>("0.0.0.0:179")?;
            Ok(())
        }),
        enforcer("local_asn", "", "our AS number", |e, v| {
            e.local_asn = u32::try_from(v.number(1, 4_294_967_295)?).ok();
            Ok(())
        }),
        enforcer(
            "router_id",
            "",
            "our BGP identifier, an IPv4 address; absent: the address of listen if that is one",
            |e, v| {
                e.router_id = Some(v.parse("192.0.2.1")?);
                Ok(())
            },
        ),
        enforcer("hold_time", "30", "proposed hold time in seconds; a silent peer's rules go after it", |e, v| {
            e.hold_time = v.number(3, 65_535)?;
            Ok(())
        }),
        enforcer(
            "api_listen",
            "\"127.0.0.1:10008\"",
            "address and port of the enforcer's HTTP listener (metrics and status); loopback only",
            |e, v| {
                e.api_listen = v.parse::<SocketAddr>("127.0.0.1:10008")?;
                Ok(())
            },
        ),
    ]
}

fn acl_keys() -> Vec<Key> {
    let text = |name: &str, default: &str, meaning: &str, field: fn(&mut Enforcer) -> &mut String| {
        enforcer(name, &format!("{default:?}"), meaning, move |e, v| {
            v.text()?.clone_into(field(e));
            Ok(())
        })
    };
    vec![
        text("acl_directory", "/etc/cumulus/acl/policy.d", "folder of the ACL files", |e| &mut e.acl_directory),
        text("acl_priority", "60", "first part of their names: files are read in this order", |e| &mut e.acl_priority),
        text("acl_prefix", "flowspec", "second part; a number follows", |e| &mut e.acl_prefix),
        text("acl_suffix", ".rules", "last part", |e| &mut e.acl_suffix),
        text("acl_interface", "swp+", "interfaces that rules apply to: a name, or a prefix and +", |e| {
            &mut e.acl_interface
        }),
        text("acl_reload", "cl-acltool -i", "command that loads the files; empty: none", |e| &mut e.acl_reload),
    ]
}

fn peer_keys() -> Vec<Key> {
    vec![
        peer("remote_address", "", "address of a BGP speaker that may announce rules", |p, v| {
            p.remote_address = Some(v.parse("192.0.2.2")?);
            Ok(())
        }),
        peer("remote_asn", "", "its AS number", |p, v| {
            p.remote_asn = u32::try_from(v.number(1, 4_294_967_295)?).ok();
            Ok(())
        }),
        peer("remote_port", "179", "its TCP port, where we connect", |p, v| {
            p.remote_port = u16::try_from(v.number(1, 65_535)?).unwrap_or(179);
            Ok(())
        }),
        peer("connect", "false", "connect to it; off: wait for it", set!(connect, switch)),
        peer("local_address", "", "address to connect from; absent: the system chooses", |p, v| {
            p.local_address = Some(v.parse("192.0.2.1")?);
            Ok(())
        }),
        peer("md5_auth_password", "", "TCP MD5 password (RFC 2385), 1 to 80 octets", |p, v| {
            let text = v.text()?;
            if text.is_empty() || text.len() > 80 {
                return Err("write 1 to 80 octets".to_owned());
            }
            p.md5_auth_password = Some(text.to_owned());
            Ok(())
        }),
        peer("ttl_security_hops", "", "hops the peer is away at most (GTSM, RFC 5082); absent: not checked", |p, v| {
            p.ttl_security_hops = u8::try_from(v.number(1, 254)?).ok();
            Ok(())
        }),
        peer(
            "allow",
            "[]",
            "destinations it may filter: \"PREFIX\" or \"PREFIX MINIMUM-LENGTH\"; without a length, rules need /24 (IPv6: /48) \
             at least",
            |p, v| {
                p.allow = allowed(v)?;
                Ok(())
            },
        ),
        peer(
            "allow_sources",
            "[]",
            "sources it may filter in rules without destination, written as in allow; empty: none",
            |p, v| {
                p.allow_sources = allowed(v)?;
                Ok(())
            },
        ),
        peer(
            "blackholes",
            "false",
            "carry out its blackholes too (unicast routes with the community BLACKHOLE, RFC 7999) inside allow; other routes are not kept",
            set!(blackholes, switch),
        ),
        peer(
            "max_rules",
            "10000",
            "rules it may announce at most; more are left out",
            set!(max_rules, number, 1, 100_000),
        ),
    ]
}

/// Prefixes with their minimum lengths.
fn allowed(value: &Value) -> Result<Vec<Allowed>, String> {
    let one = |text: &str| {
        let (prefix, length) = text.split_once(' ').map_or((text, None), |(p, l)| (p, Some(l.trim())));
        let list = Value::List(vec![prefix.to_owned()]);
        let prefix: Prefix = prefixes(&list)?.pop().ok_or("write a prefix")?;
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
    value.list()?.into_iter().map(one).collect()
}
