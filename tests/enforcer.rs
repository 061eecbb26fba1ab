//! `floodwall enforce` in network namespaces: attacker, router, victim. The checks are in `enforcer/lab.py`; what packets should do is
//! said by `enforcer/flowspec.py`, which is written from the RFCs and knows nothing of the product.
#![allow(clippy::print_stdout, reason = "what was measured belongs into the test's output")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use support::{FLOODWALL, has_lab};

/// Times and rates are measured, and the kernel changes one table of all namespaces at a time: each check has the machine for itself.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a check of the lab; its output is shown when it fails.
fn check(words: &[&str]) {
    if !has_lab(&["ip", "nft", "python3", "tcpreplay"]) {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/enforcer/lab.py");
    let output = Command::new("python3")
        .arg(script)
        .args(words)
        .args(["--floodwall", FLOODWALL])
        .output()
        .expect("python3 runs");
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "{words:?}: {said}");
    println!("{said}");
}

#[test]
fn packets_are_dropped_exactly_as_an_independent_matcher_says() {
    check(&["exactness", "--seed", "1", "--pairs", "5200"]);
}

#[test]
fn hooks_before_routing_and_at_the_interface_filter_alike() {
    check(&["exactness", "--seed", "2", "--pairs", "800", "--hook", "prerouting"]);
    check(&["exactness", "--seed", "3", "--pairs", "800", "--hook", "ingress"]);
}

#[test]
fn a_blocked_flow_stays_blocked_through_a_thousand_updates() {
    check(&["atomic"]);
}

#[test]
fn rates_are_within_ten_percent_of_what_was_asked_for() {
    check(&["limit"]);
}

#[test]
fn actions_are_carried_out_or_refused_with_the_reason() {
    check(&["actions"]);
}

#[test]
fn every_fault_ends_as_specified_without_leftovers() {
    check(&["faults"]);
}

#[test]
fn gobgp_bird_and_exabgp_announce_what_is_carried_out() {
    if has_lab(&["gobgpd", "bird", "exabgp"]) {
        check(&["announcers", "--packets", "300"]);
    }
}

#[test]
fn our_own_speaker_announces_what_is_carried_out() {
    check(&["own-speaker", "--packets", "400"]);
}

#[test]
fn an_attack_stops_at_the_router_within_a_second_and_ordinary_traffic_flows_on() {
    check(&["end-to-end", "--telemetry", "mirror"]);
    if has_lab(&["pmacctd"]) {
        check(&["end-to-end", "--telemetry", "sflow"]);
    }
}

#[test]
fn one_box_sees_and_stops_an_attack_by_itself() {
    check(&["single-box", "--telemetry", "mirror"]);
    if has_lab(&["pmacctd"]) {
        check(&["single-box", "--telemetry", "sflow"]);
    }
}

#[test]
fn acl_files_are_those_of_the_article_and_roll_back() {
    if has_lab(&["iptables"]) {
        check(&["acl"]);
    }
}

#[test]
fn what_discard_does_not_help_is_blackholed_probed_and_withdrawn() {
    check(&["ladder", "--rtbh", "enforcer"]);
}

#[test]
fn a_blackhole_in_the_routers_routing_table_ends_by_a_probe_as_well() {
    if has_lab(&["bird"]) {
        check(&["ladder", "--rtbh", "bird"]);
    }
}

#[test]
fn mass_alarms_and_lying_exporters_stop_announcing_with_one_alarm() {
    check(&["mass-alarm"]);
    check(&["lying-exporter"]);
}

#[test]
fn of_two_daemons_at_one_router_one_may_die_in_an_attack_without_a_gap() {
    check(&["twins"]);
}
