//! Properties of the miner, on made-up traffic of all kinds.
#![allow(clippy::cast_possible_truncation, reason = "octets of an NLRI and shares of small counts")]

use flowspec::capabilities::entries;
use flowspec::{Capabilities, Match, Pattern, nlri};
use miner::{Baseline, Outcome, Request, Verdict, mine};
use proptest::prelude::*;
use traffic::{Direction, IpVersion, Sample};

#[path = "support/mixes.rs"]
mod mixes;
use mixes::{ATTACKS, ORDINARY, Random, mix, target};

/// An attack on a host: what the miner gets.
#[derive(Debug, Clone)]
struct Case {
    version: IpVersion,
    sample: Vec<Sample>,
    baseline: Vec<Sample>,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = prop_oneof![Just(20usize), Just(100), Just(500), Just(1500)];
    (any::<u64>(), 0..ATTACKS.len(), 0..ORDINARY.len(), any::<bool>(), size, 40u16..100).prop_map(
        |(seed, attack, ordinary, v6, size, percent)| {
            let mut random = Random::new(seed);
            let version = if v6 { IpVersion::V6 } else { IpVersion::V4 };
            let (attack, ordinary) = (ATTACKS[attack].1, ORDINARY[ordinary].1);
            let sample = mix(version, &mut random, size, percent, attack, ordinary);
            let baseline = mix(version, &mut random, 512, 0, attack, ordinary);
            Case { version, sample, baseline }
        },
    )
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let switches = prop::array::uniform10(prop::bool::weighted(0.7));
    (switches, prop_oneof![Just(0xffu16), Just(0x3f)], prop_oneof![Just(0x0fu16), Just(0x02)], 4u32..600).prop_map(
        |(on, tcp_flag_bits, fragment_bits, max_entries)| Capabilities {
            source: on[0],
            length: on[1],
            tcp_flags: on[2],
            tcp_flag_bits,
            fragment: on[3],
            fragment_bits,
            do_not_fragment: on[4],
            ranges: on[5],
            lists: on[6],
            two_ports: on[7],
            ports_with_fragment: on[8],
            dscp: on[9],
            flow_label: !on[9],
            max_entries,
        },
    )
}

fn mined(case: &Case, with_baseline: bool, capabilities: Capabilities, max_rules: usize) -> Outcome {
    let baseline = Baseline::new(target(case.version), case.baseline.clone());
    mine(&Request {
        target: target(case.version),
        sample: &case.sample,
        by_bytes: false,
        enough: 0.95,
        baseline: with_baseline.then_some(&baseline),
        sample_pps: Some(200_000.0),
        baseline_pps: with_baseline.then_some(10_000.0),
        capacity_pps: Some(40_000.0),
        max_rules,
        capabilities,
        excluded: Vec::new(),
    })
}

fn share_matched(pattern: &Pattern, samples: &[Sample]) -> f64 {
    let hit = samples.iter().filter(|s| pattern.matches(s) == Match::Yes).count();
    hit as f64 / samples.len() as f64
}

/// Whether a packet matches an NLRI, read octet by octet after RFC 8955 section 4.2.2 and RFC 8956 section 3: shares nothing with the
/// code under test.
fn wire_matches(version: IpVersion, nlri: &[u8], packet: &Sample) -> bool {
    let mut at = 0;
    let take = |at: &mut usize, count: usize| {
        let part = &nlri[*at..*at + count];
        *at += count;
        part.iter().fold(0u128, |n, o| n << 8 | u128::from(*o))
    };
    let has_ports = matches!(packet.protocol, 6 | 17) && packet.fragment & 2 == 0;
    let icmp = packet.protocol == if version == IpVersion::V4 { 1 } else { 58 } && packet.fragment & 2 == 0;
    while at < nlri.len() {
        let kind = nlri[at];
        at += 1;
        if kind <= 2 {
            let length = take(&mut at, 1) as u32;
            if version == IpVersion::V6 {
                assert_eq!(take(&mut at, 1), 0, "no offsets");
            }
            let octets = (length as usize).div_ceil(8);
            let prefix = take(&mut at, octets) << (128 - 8 * octets as u32).min(127);
            let address = if kind == 1 { packet.destination } else { packet.source };
            if length > 0 && (prefix ^ address) >> (128 - length) != 0 {
                return false;
            }
            continue;
        }
        let (mut any, mut all, mut first) = (false, true, true);
        loop {
            let operator = nlri[at];
            at += 1;
            let value = take(&mut at, 1 << (operator >> 4 & 3)) as u64;
            let hit = |field: u64| match kind {
                9 | 12 => {
                    (if operator & 1 != 0 { field & value == value } else { field & value != 0 }) != (operator & 2 != 0)
                }
                _ => {
                    (operator & 4 != 0 && field < value)
                        || (operator & 2 != 0 && field > value)
                        || (operator & 1 != 0 && field == value)
                }
            };
            let result = match kind {
                3 => hit(packet.protocol.into()),
                4 => has_ports && (hit(packet.source_port.into()) || hit(packet.destination_port.into())),
                5 => has_ports && hit(packet.destination_port.into()),
                6 => has_ports && hit(packet.source_port.into()),
                7 => icmp && hit(packet.icmp_type.into()),
                8 => icmp && hit(packet.icmp_code.into()),
                9 => packet.protocol == 6 && packet.fragment & 2 == 0 && hit(packet.tcp_flags.into()),
                10 => hit(packet.length.into()),
                11 => hit(packet.dscp.into()),
                12 => hit(packet.fragment.into()),
                13 => hit(packet.flow_label.into()),
                other => panic!("component type {other}"),
            };
            if operator & 0x40 != 0 && !first {
                all &= result;
            } else {
                any |= all && !first;
                all = result;
            }
            first = false;
            if operator & 0x80 != 0 {
                break;
            }
        }
        if !(any || all) {
            return false;
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn reported_figures_equal_a_count_of_what_matches(case in cases(), known in any::<bool>()) {
        let outcome = mined(&case, known, Capabilities::default(), 10);
        let shown = if known { &outcome.ranking } else { &outcome.rules };
        for candidate in shown.iter().take(if known { usize::MAX } else { 1 }) {
            prop_assert!((candidate.coverage_packets - share_matched(&candidate.pattern, &case.sample)).abs() < 1e-9);
            prop_assert_eq!(candidate.entries, entries(&candidate.pattern));
            if let (Some(hit), Some(bound)) = (candidate.collateral, candidate.collateral_bound) {
                prop_assert!((hit - share_matched(&candidate.pattern, &case.baseline)).abs() < 1e-9);
                prop_assert!(hit <= bound && bound <= 1.0);
            }
        }
    }

    #[test]
    fn a_condition_more_never_covers_more(case in cases(), known in any::<bool>()) {
        for rule in mined(&case, known, Capabilities::default(), 10).rules {
            let conditions = rule.pattern.conditions();
            for left_out in 0..conditions.len() {
                let fewer = conditions.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, c)| c.clone()).collect();
                let fewer = Pattern::new(fewer).expect("part of a pattern");
                prop_assert!(share_matched(&fewer, &case.sample) >= share_matched(&rule.pattern, &case.sample));
            }
        }
    }

    #[test]
    fn what_is_sent_matches_the_same_packets(case in cases(), known in any::<bool>()) {
        for rule in mined(&case, known, Capabilities::default(), 10).rules {
            let octets = nlri::encode(&rule.pattern).expect("mined rules can be sent");
            for sample in case.sample.iter().chain(&case.baseline) {
                let expected = rule.pattern.matches(sample) == Match::Yes;
                prop_assert_eq!(wire_matches(case.version, &octets, sample), expected, "{} {:?}", rule.pattern, sample);
            }
        }
    }

    #[test]
    fn masks_budgets_and_the_target_are_never_violated(
        case in cases(), known in any::<bool>(), can in capabilities(), max_rules in 0usize..6,
    ) {
        let outcome = mined(&case, known, can, max_rules);
        prop_assert!(outcome.rules.len() <= max_rules);
        for rule in outcome.rules.iter().chain(&outcome.ranking) {
            prop_assert!(can.allow(&rule.pattern, Direction::Incoming), "{} under {:?}", rule.pattern, can);
            prop_assert!(rule.entries <= u64::from(can.max_entries));
            prop_assert_eq!(rule.pattern.destination(), Some(target(case.version).prefix));
        }
    }

    #[test]
    fn the_same_sample_gives_the_same_answer(case in cases(), known in any::<bool>()) {
        let once = mined(&case, known, Capabilities::default(), 10);
        prop_assert_eq!(once, mined(&case, known, Capabilities::default(), 10));
    }

    #[test]
    fn more_of_the_ordinary_gets_no_rule(seed in any::<u64>(), kind in 0..ORDINARY.len(), v6 in any::<bool>(), known in any::<bool>()) {
        let version = if v6 { IpVersion::V6 } else { IpVersion::V4 };
        let ordinary = ORDINARY[kind].1;
        let mut random = Random::new(seed);
        let mut draw = |count| mix(version, &mut random, count, 0, ordinary, ordinary);
        let case = Case { version, sample: draw(500), baseline: draw(512) };
        let outcome = mined(&case, known, Capabilities::default(), 10);
        prop_assert_eq!(outcome.verdict, Verdict::LooksOrdinary);
        prop_assert_eq!(outcome.rules, Vec::new());
    }
}

#[test]
fn attacks_that_headers_tell_apart_are_covered_and_ordinary_traffic_is_spared() {
    for (name, attack) in ATTACKS {
        // Nothing in a header tells these from ordinary packets of the same kind.
        if matches!(name, "syn-options" | "ack" | "udp-random" | "botnet") {
            continue;
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let mut random = Random::new(7);
            let sample = mix(version, &mut random, 500, 95, attack, mixes::web);
            let baseline = mix(version, &mut random, 512, 0, attack, mixes::web);
            let outcome = mined(&Case { version, sample, baseline }, true, Capabilities::default(), 10);
            let fresh_attack = mix(version, &mut random, 4000, 100, attack, mixes::web);
            let fresh_ordinary = mix(version, &mut random, 4000, 0, attack, mixes::web);
            let hit = |samples: &[Sample]| {
                let any = |s: &&Sample| outcome.rules.iter().any(|r| r.pattern.matches(s) == Match::Yes);
                samples.iter().filter(any).count() as f64 / samples.len() as f64
            };
            assert!(hit(&fresh_attack) >= 0.95, "{name} {version:?}: covers {}", hit(&fresh_attack));
            assert!(hit(&fresh_ordinary) <= 0.015, "{name} {version:?}: hits {}", hit(&fresh_ordinary));
        }
    }
}

/// An acknowledgement flood looks like a web server's clients but for its forged sources.
#[test]
fn a_flood_that_looks_ordinary_is_told_apart_by_where_ordinary_traffic_comes_from() {
    const NETWORKS: [u128; 4] = [0x0c22, 0x4e51, 0x97a0, 0xc3b4];
    let version = IpVersion::V4;
    let of = |name: &str, kinds: &[(&str, mixes::Kind)]| {
        kinds.iter().find(|k| k.0 == name).map(|k| k.1).expect("known traffic")
    };
    let (ack, web) = (of("ack", &ATTACKS), of("web", &ORDINARY));
    let mut random = Random::new(5);
    let mut clients = |count: usize| -> Vec<Sample> {
        let mut all = mix(version, &mut random, count, 0, ack, web);
        for (at, sample) in all.iter_mut().enumerate() {
            sample.source = NETWORKS[at % NETWORKS.len()] << 112 | (sample.source & (0xffff << 96));
        }
        all
    };
    let (in_sample, baseline, fresh) = (clients(25), clients(512), clients(2000));
    let flood = mix(version, &mut Random::new(6), 2475, 100, ack, web);
    let (seen, unseen) = flood.split_at(475);
    let case = Case { version, sample: [seen, &in_sample].concat(), baseline };
    let measured = |capabilities: Capabilities| {
        let outcome = mined(&case, true, capabilities, 10);
        let matched = |samples: &[Sample]| {
            let hit =
                samples.iter().filter(|s| outcome.rules.iter().any(|r| r.pattern.matches(s) == Match::Yes)).count();
            hit as f64 / samples.len() as f64
        };
        assert!(matched(unseen) > 0.85, "{:?} covers {}", outcome.verdict, matched(unseen));
        matched(&fresh)
    };
    let (with, without) =
        (measured(Capabilities::default()), measured(Capabilities { source: false, ..Capabilities::default() }));
    assert!(with < 0.02 && with < without / 4.0, "{with} of ordinary traffic hit, {without} without sources");
}

/// Victims all over an alarmed prefix: what differs in the victim alone is one rule, and no rule reaches beyond the alarm.
#[test]
fn several_victims_of_an_alarmed_prefix_take_one_rule() {
    let alarmed: traffic::Prefix = "203.0.113.0/24".parse().expect("literal");
    let hosts = |mut samples: Vec<Sample>, hosts: &[u128]| {
        for (at, sample) in samples.iter_mut().enumerate() {
            sample.destination = alarmed.bits() | hosts[at % hosts.len()] << 96;
        }
        samples
    };
    let of = |name: &str, kinds: &[(&str, mixes::Kind)]| kinds.iter().find(|k| k.0 == name).map(|k| k.1);
    let (ntp, web) = (of("ntp", &ATTACKS).expect("known"), of("web", &ORDINARY).expect("known"));
    let mut random = Random::new(11);
    let everywhere: Vec<u128> = (1..255).collect();
    let baseline = hosts(mix(IpVersion::V4, &mut random, 2000, 0, ntp, web), &everywhere);
    let victims = [3, 4, 9, 77, 130, 131, 200, 251];
    let attack = hosts(mix(IpVersion::V4, &mut random, 480, 100, ntp, web), &victims);
    let rest = hosts(mix(IpVersion::V4, &mut random, 20, 0, ntp, web), &everywhere);
    let target = traffic::Target { prefix: alarmed, direction: Direction::Incoming };
    let prepared = Baseline::new(target, baseline);
    let outcome = mine(&Request {
        target,
        sample: &[attack.clone(), rest].concat(),
        by_bytes: false,
        enough: 0.95,
        baseline: Some(&prepared),
        sample_pps: Some(210_000.0),
        baseline_pps: Some(10_000.0),
        capacity_pps: Some(40_000.0),
        max_rules: 10,
        capabilities: Capabilities::default(),
        excluded: Vec::new(),
    });
    assert_eq!(outcome.rules.len(), 1, "{:?}", outcome.rules.iter().map(|r| r.pattern.to_string()).collect::<Vec<_>>());
    let rule = &outcome.rules[0].pattern;
    assert!(rule.destination().is_some_and(|d| alarmed.contains(&d)), "{rule}");
    let hit = attack.iter().filter(|s| rule.matches(s) == Match::Yes).count();
    assert!(hit * 100 >= attack.len() * 99, "{rule} covers {hit}");
}

/// More of the ordinary for one host of an alarmed prefix: only its address stands out, and dropping all it gets is a blackhole,
/// which the ladder decides about.
#[test]
fn a_destination_alone_is_no_rule() {
    let alarmed: traffic::Prefix = "203.0.113.0/24".parse().expect("literal");
    let web = ORDINARY.iter().find(|k| k.0 == "web").expect("known").1;
    let mut random = Random::new(12);
    let mut to = |count: usize, host: Option<u128>| {
        let mut samples = mix(IpVersion::V4, &mut random, count, 0, web, web);
        for (at, sample) in samples.iter_mut().enumerate() {
            sample.destination = alarmed.bits() | host.unwrap_or(1 + at as u128 % 254) << 96;
        }
        samples
    };
    let (baseline, sample) = (to(2000, None), [to(480, Some(77)), to(20, None)].concat());
    let target = traffic::Target { prefix: alarmed, direction: Direction::Incoming };
    let outcome = mine(&Request {
        target,
        sample: &sample,
        by_bytes: false,
        enough: 0.95,
        baseline: Some(&Baseline::new(target, baseline)),
        sample_pps: Some(210_000.0),
        baseline_pps: Some(10_000.0),
        capacity_pps: Some(40_000.0),
        max_rules: 10,
        capabilities: Capabilities::default(),
        excluded: Vec::new(),
    });
    let bare: Vec<String> =
        outcome.rules.iter().filter(|r| r.pattern.conditions().len() == 1).map(|r| r.pattern.to_string()).collect();
    assert!(bare.is_empty(), "{bare:?}");
}
