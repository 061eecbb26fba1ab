//! What an operator settles about the enforcer. Values are right by construction: `config::check` makes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bgp::adj_rib_in::Accept;
use traffic::Prefix;

use super::ruleset::Hook;

/// What carries rules out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackEndConfig {
    /// The kernel's nftables, through this `nft` program.
    Nftables {
        /// Path or name of the program.
        nft: String,
    },
    /// Files of a switch's ACL tool.
    Acl(AclConfig),
    /// Standard output: what would be done.
    Print,
}

/// Files in the form of Cumulus Linux's `/etc/cumulus/acl/policy.d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclConfig {
    /// Folder of the files.
    pub directory: PathBuf,
    /// First part of a file's name; files are read in the order of their names.
    pub priority: String,
    /// Second part; a number follows, then the suffix.
    pub prefix: String,
    /// Last part.
    pub suffix: String,
    /// Interfaces that rules apply to: a name, or a prefix and `+`.
    pub interface: String,
    /// Makes the switch take the files; words separated by spaces.
    pub reload: Vec<String>,
}

impl Default for AclConfig {
    fn default() -> Self {
        Self {
            directory: "/etc/cumulus/acl/policy.d".into(),
            priority: "60".to_owned(),
            prefix: "flowspec".to_owned(),
            suffix: ".rules".to_owned(),
            interface: "swp+".to_owned(),
            reload: vec!["cl-acltool".to_owned(), "-i".to_owned()],
        }
    }
}

/// Where traffic of a redirect action goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// Packet mark.
    pub mark: u32,
    /// Routing table that marked packets are looked up in.
    pub table: u32,
}

/// A BGP speaker that rules are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its address; connections from others are closed.
    pub remote_address: IpAddr,
    /// Its AS number.
    pub remote_asn: u32,
    /// Its TCP port, when we connect.
    pub remote_port: u16,
    /// Whether we connect; it may connect in any case.
    pub connect: bool,
    /// Address to connect from.
    pub local_address: Option<IpAddr>,
    /// TCP MD5 password (RFC 2385).
    pub md5_password: Option<String>,
    /// Hops away at most by GTSM (RFC 5082).
    pub ttl_security_hops: Option<u8>,
    /// Its blackholes (RFC 7999) are carried out, too.
    pub blackholes: bool,
    /// What is accepted from it.
    pub accept: Accept,
}

/// Configuration of the enforcer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What carries rules out.
    pub backend: BackEndConfig,
    /// Where packets are looked at.
    pub hook: Hook,
    /// Priority in the hook.
    pub priority: i32,
    /// Traffic from and to these prefixes is never filtered.
    pub management: Vec<Prefix>,
    /// Redirection targets (`65001:100` or an address) that can be reached here.
    pub redirects: BTreeMap<String, Redirect>,
    /// Where BGP connections are waited for; `None` with another feed.
    pub listen: Option<SocketAddr>,
    /// Our AS number.
    pub local_asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Proposed hold time.
    pub hold_time: Duration,
    /// Whom rules are taken from.
    pub sources: Vec<Source>,
    /// Where status and metrics are served.
    pub api_listen: SocketAddr,
}
