//! Keys of `[main]` about FlowSpec rules: their action, and what conditions they may have.

use super::{Key, main};
use crate::draft::RuleAction;
use crate::kind::{Family, addresses, bytes_per_second, choice, number, switch};

pub(super) fn keys() -> Vec<Key> {
    let mut all = action_keys();
    all.extend(condition_keys());
    all
}

fn action_keys() -> Vec<Key> {
    vec![
        main(
            "gobgp_flow_spec_announces",
            "true",
            "FlowSpec rules are among what is announced",
            switch(),
            set!(gobgp_flow_spec_announces),
        ),
        main(
            "gobgp_flow_spec_default_action",
            "\"discard\"",
            "action of mined rules: accept, discard, rate-limit or redirect",
            choice([
                ("accept", RuleAction::Accept),
                ("discard", RuleAction::Discard),
                ("rate-limit", RuleAction::RateLimit),
                ("redirect", RuleAction::Redirect),
            ]),
            set!(default_action),
        ),
        main(
            "gobgp_flow_spec_rate_limit_value",
            "1024",
            "bytes per second that pass a rate-limit rule",
            bytes_per_second(1, 1_000_000_000_000),
            set!(rate_limit_value),
        ),
        main(
            "gobgp_flow_spec_v4_redirect_target_as",
            "",
            "AS number of the route target that redirect rules send traffic to, 16 bits (RFC 8955 section 7.4)",
            number(1, 65_535),
            some!(redirect_target_as),
        ),
        main(
            "gobgp_flow_spec_v4_redirect_target_community",
            "",
            "local part of the route target that redirect rules send traffic to, 32 bits",
            number(0, 4_294_967_295),
            some!(redirect_target_community),
        ),
        main(
            "gobgp_flow_spec_next_hop_ipv4",
            "[]",
            "addresses that rules send traffic to besides their action (draft-ietf-idr-flowspec-redirect-ip)",
            addresses(Family::Ipv4, "10.3.44.6"),
            set!(flow_spec_next_hops_ipv4),
        ),
        main(
            "flow_spec_per_hostgroup_management",
            "false",
            "FlowSpec rules only for host groups that set enable_bgp_flow_spec = true themselves; off: for all but those that \
             set it to false",
            switch(),
            set!(flow_spec_per_hostgroup_management),
        ),
        main(
            "flow_spec_execute_validation",
            "true",
            "rules set by hand need host prefixes, at least one of them ours; the other rails hold either way",
            switch(),
            set!(flow_spec_execute_validation),
        ),
        main(
            "flow_spec_tcp_options_use_match_bit",
            "false",
            "set the match bit in TCP flag operators, as Huawei routers want it",
            switch(),
            set!(flow_spec_tcp_options_use_match_bit),
        ),
        main(
            "flow_spec_fragmentation_options_use_match_bit",
            "false",
            "set the match bit in fragment operators, as Huawei routers want it",
            switch(),
            set!(flow_spec_fragmentation_options_use_match_bit),
        ),
    ]
}

fn condition_keys() -> Vec<Key> {
    vec![
        main(
            "flow_spec_do_not_process_source_address_field",
            "false",
            "never mine source prefixes",
            switch(),
            set!(flow_spec_do_not_process_source_address_field),
        ),
        main(
            "flow_spec_do_not_process_length_field",
            "false",
            "never mine packet lengths",
            switch(),
            set!(flow_spec_do_not_process_length_field),
        ),
        main(
            "flow_spec_do_not_process_tcp_flags_field",
            "false",
            "never mine TCP flags",
            switch(),
            set!(flow_spec_do_not_process_tcp_flags_field),
        ),
        main(
            "flow_spec_do_not_process_ip_fragmentation_flags_field",
            "false",
            "never mine fragment bits; some Arista and Extreme models refuse them",
            switch(),
            set!(flow_spec_do_not_process_ip_fragmentation_flags_field),
        ),
        main(
            "flow_spec_ignore_do_not_fragment_flag",
            "false",
            "never mine the don't-fragment bit, other fragment bits all the same",
            switch(),
            set!(flow_spec_ignore_do_not_fragment_flag),
        ),
        main(
            "flow_spec_strip_ports_for_fragmented_traffic",
            "false",
            "no ports in rules with fragment bits; Arista cannot combine them",
            switch(),
            set!(flow_spec_strip_ports_for_fragmented_traffic),
        ),
    ]
}
