//! A default stands in the table of keys and in the `Config` of its stage. This compares the two, field by field.

use std::collections::BTreeMap;
use std::fmt::Debug;

use config::{Config, check};
use enforcer::{AclConfig, BackEndConfig};

/// The fields of a structure with their values, as `Debug` prints them.
fn fields(of: &impl Debug) -> BTreeMap<String, String> {
    let text = format!("{of:#?}");
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().skip(1) {
        // A field of the structure itself stands four columns in.
        let own = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '}', ']', ')']));
        match own.and_then(|rest| rest.split_once(": ")) {
            Some((name, value)) => {
                name.clone_into(&mut current);
                all.insert(current.clone(), value.to_owned());
            }
            None => {
                if let Some(value) = all.get_mut(&current) {
                    value.push_str(line.trim());
                }
            }
        }
    }
    all
}

/// The fields in which an empty file and a stage's own default differ.
fn differences<T: Debug>(of_file: &T, of_stage: &T) -> BTreeMap<String, (String, String)> {
    let (file, stage) = (fields(of_file), fields(of_stage));
    assert!(file.len() > 3 && file.keys().eq(stage.keys()), "{:?} and {:?}", file.keys(), stage.keys());
    let pairs = file.into_iter().zip(stage.into_values());
    pairs.filter(|((_, file), stage)| file != stage).map(|((name, file), stage)| (name, (file, stage))).collect()
}

/// Panics with what differs unless these fields do, and no other.
fn differ_in<T: Debug>(fields: &[&str], of_file: &T, of_stage: &T) {
    let found = differences(of_file, of_stage);
    assert!(found.keys().eq(fields), "field: (an empty file means, the stage means): {found:#?}");
}

#[test]
fn an_empty_file_means_what_each_stage_means_by_itself() {
    let config = Config::default();
    // A stage that is built by hand, as in tests and replays, leaves buffers to the system.
    differ_in(&["receive_buffer_bytes"], &config.collectors, &collectors::Config::default());
    // The file has the thresholds of `global`; a stage knows no numbers.
    differ_in(&["groups"], &config.detector, &detector::Config::default());
    differ_in(&["groups"], &config.mitigation, &policy::Config::default());
    // A policy without a file bans nothing of itself, and has no lengths for diversions, which a file alone can order.
    let global = &config.mitigation.groups["global"];
    differ_in(&["diversion", "enable_ban"], global, &policy::GroupPolicy::default());
}

#[test]
fn a_peer_and_an_acl_of_which_the_least_is_written_mean_the_same() {
    let file = "[main]\nnetworks_list = [\"203.0.113.0/24\"]\n\
                [bgp.r1]\nlocal_asn = 65001\nremote_asn = 65002\nremote_address = \"192.0.2.1\"\nrouter_id = \"192.0.2.2\"\n\
                [enforcer]\nbackend = \"acl\"\nenforce_here = true\n";
    let config = check(file).expect("valid");
    let written = ["local_asn", "name", "remote_address", "remote_asn", "router_id"];
    differ_in(&written, &config.mitigation.peers[0], &bgp::Peer::default());
    let enforcement = config.enforcement.expect("an enforcer");
    let BackEndConfig::Acl(acl) = enforcement.config.backend else { panic!("{:?}", enforcement.config.backend) };
    differ_in(&[], &acl, &AclConfig::default());
}

#[test]
fn a_difference_is_found_and_named() {
    let changed = policy::Config { max_rules: 7, ..policy::Config::default() };
    let found = differences(&changed, &policy::Config::default());
    assert_eq!(found, BTreeMap::from([("max_rules".to_owned(), ("7,".to_owned(), "200,".to_owned()))]));
}
