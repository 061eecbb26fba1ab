//! Which peers can be given the same mined rules (decision 14): those whose routers can match the same conditions.

use std::collections::{BTreeMap, BTreeSet};

use bgp::Family;
use flowspec::Capabilities;
use flowspec::profile::{FragmentSupport, Profile};
use traffic::IpVersion;

use crate::config::Config;

/// Peers that are mined for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// What all of them can match.
    pub capabilities: Capabilities,
    /// Their names; `None` is every peer.
    pub peers: Option<BTreeSet<String>>,
}

/// The audiences for targets of one IP version: one for each distinct set of capabilities, and one for all where nobody listens.
#[must_use]
pub fn audiences(config: &Config, version: IpVersion) -> Vec<Audience> {
    let family = match version {
        IpVersion::V4 => Family::Ipv4FlowSpec,
        IpVersion::V6 => Family::Ipv6FlowSpec,
    };
    let mut groups: BTreeMap<Capabilities, BTreeSet<String>> = BTreeMap::new();
    for peer in config.peers.iter().filter(|p| p.families.contains(&family)) {
        let capabilities = config.capabilities.and(of_router(&peer.profile, version));
        groups.entry(capabilities).or_default().insert(peer.name.clone());
    }
    let only = groups.len() <= 1;
    if groups.is_empty() {
        return vec![Audience { capabilities: config.capabilities, peers: None }];
    }
    groups.into_iter().map(|(capabilities, peers)| Audience { capabilities, peers: (!only).then_some(peers) }).collect()
}

/// What a router can match, as far as its profile says.
fn of_router(profile: &Profile, version: IpVersion) -> Capabilities {
    let length = match version {
        IpVersion::V4 => profile.length.0,
        IpVersion::V6 => profile.length.1,
    };
    let fragment_bits = match profile.fragment {
        FragmentSupport::None => 0,
        FragmentSupport::IsFragment => 0x02,
        FragmentSupport::NoLast => 0x07,
        FragmentSupport::All => 0x0f,
    };
    Capabilities {
        source: profile.source,
        length,
        tcp_flags: profile.tcp_flags && profile.tcp_flags_negation,
        tcp_flag_bits: if profile.tcp_flags_extended { 0xff } else { 0x3f },
        fragment: profile.fragment > FragmentSupport::None,
        fragment_bits,
        do_not_fragment: profile.dont_fragment,
        ranges: profile.ranges && profile.max_operators >= 2,
        // A list is cut into several rules where a router takes one value; one rule is better mined as such.
        lists: profile.max_values > 1,
        two_ports: true,
        ports_with_fragment: profile.ports_with_fragment,
        dscp: true,
        flow_label: true,
        max_entries: u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use bgp::Peer;
    use flowspec::profile::Kind;

    use super::*;

    #[test]
    fn peers_are_mined_for_together_where_their_routers_can_match_the_same() {
        let peer =
            |name: &str, kind: Kind| Peer { name: name.to_owned(), profile: Profile::of(kind), ..Peer::default() };
        let of = |peers: Vec<Peer>| audiences(&Config { peers, ..Config::default() }, IpVersion::V4);
        assert_eq!(of(Vec::new()).len(), 1);
        let alike = of(vec![peer("a", Kind::Juniper), peer("b", Kind::Nokia)]);
        assert_eq!((alike.len(), &alike[0].peers), (1, &None));
        let mixed = of(vec![peer("a", Kind::Juniper), peer("b", Kind::Arista), peer("c", Kind::Frr)]);
        assert_eq!(mixed.len(), 2);
        let arista = mixed.iter().find(|a| !a.capabilities.ports_with_fragment).expect("Arista's");
        assert_eq!(arista.peers, Some(BTreeSet::from(["b".to_owned()])));
    }
}
