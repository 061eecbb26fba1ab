//! Golden messages that an independent codec wrote and real peers accepted (`../shared/peers/vectors.json`, found beside the
//! corpus), malformed ones, and mutations.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::path::{Path, PathBuf};

use collectors::IpVersion;
use mitigation::bgp::attribute::{self, Sender};
use mitigation::bgp::message::{self, HEADER, Message};
use mitigation::bgp::nlri;
use mitigation::{Announcement, Route};
use serde_json::Value;

fn shared(file: &str) -> Option<Value> {
    let peers = std::env::var_os("FLOODWALL_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from)
        .join("../peers");
    let Ok(text) = std::fs::read_to_string(peers.join(file)) else {
        println!("skipped: {file} absent beside the corpus");
        return None;
    };
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn sender(ibgp: bool) -> Sender {
    let next_hops = ("192.0.2.1".parse().expect("v4"), "100::1".parse().expect("v6"));
    Sender { asn: 65001, ibgp, four_octet_as: true, next_hops }
}

/// Not ours to send: a next hop inside a FlowSpec route (08), AS 0 beside a rate (06), a rule of 240 octets (13), an IPv6 offset (21).
const NOT_SENT: [&str; 4] = ["06", "08", "13", "21"];

#[test]
fn golden_messages_decode_and_encode_to_the_same_octets() {
    let Some(file) = shared("vectors.json") else { return };
    let mut checked = 0;
    for vector in file["vectors"].as_array().expect("vectors") {
        let id = vector["id"].as_str().expect("id");
        let Some(announce) = vector["announce_hex"].as_str().map(hex) else { continue };
        let update = attribute::decode(&announce[HEADER..]).expect(id);
        assert_eq!((update.announced.len(), update.dropped), (1, 0), "{id}");
        if NOT_SENT.contains(&id) {
            continue;
        }
        let route = &update.announced[0];
        let attributes = update.attributes.clone();
        let announcement = Announcement {
            actions: attributes.actions,
            next_hop: attributes.next_hop,
            communities: attributes.communities,
            large_communities: attributes.large_communities,
        };
        let family = attribute::family_of(route).expect("family");
        let nlri = [attribute::encode_nlri(route).expect(id)];
        let ours = attribute::announce(family, &sender(false), &announcement, &nlri).expect(id);
        assert_eq!(ours, announce, "announcement {id}");
        if let Some(ibgp) = vector["announce_ibgp_hex"].as_str() {
            let ours = attribute::announce(family, &sender(true), &announcement, &nlri).expect(id);
            assert_eq!(ours, hex(ibgp), "iBGP announcement {id}");
        }
        let withdraw = hex(vector["withdraw_hex"].as_str().expect("withdraw"));
        assert_eq!(attribute::withdraw(family, &nlri).expect(id), withdraw, "withdrawal {id}");
        assert_eq!(attribute::decode(&withdraw[HEADER..]).expect(id).withdrawn, update.announced, "{id}");
        checked += 1;
    }
    assert!(checked >= 13, "only {checked} vectors were compared");
}

#[test]
fn opens_of_real_peers_are_understood() {
    let Some(file) = shared("vectors.json") else { return };
    for (peer, open) in file["peer_opens"].as_object().expect("opens") {
        let bytes = hex(open.as_str().expect("hex"));
        assert_eq!(message::length(&bytes), Ok(Some(bytes.len())), "{peer}");
        let Ok(Message::Open(open)) = message::decode(&bytes) else { panic!("{peer}: not an OPEN") };
        assert!(open.four_octet_as && open.asn >= 65010, "{peer}: {open:?}");
        assert_eq!(open.families.len(), if peer == "openbgpd" { 2 } else { 4 }, "{peer}");
    }
}

#[test]
fn what_real_peers_sent_is_decoded_to_its_rules() {
    let Some(file) = shared("vectors.json") else { return };
    for received in file["received_from_peers"].as_array().expect("list") {
        if received["kind"] != "announce" {
            continue;
        }
        let bytes = hex(received["hex"].as_str().expect("hex"));
        let update = attribute::decode(&bytes[HEADER..]).expect("valid");
        let texts = received["texts"].as_array().expect("texts");
        let valid = texts.iter().filter(|t| !t.as_str().is_some_and(|t| t.starts_with("malformed"))).count();
        assert_eq!((update.announced.len(), update.dropped), (valid, texts.len() - valid), "{received}");
    }
}

#[test]
fn malformed_flowspec_is_dropped_or_resets_as_it_should() {
    let Some(file) = shared("malformed.json") else { return };
    let mut wrong = Vec::new();
    for case in file["messages"].as_array().expect("messages") {
        let (Some(id), Some(text)) = (case["id"].as_str(), case["hex"].as_str()) else { continue };
        if case["phase"] != "established" {
            continue;
        }
        let bytes = hex(text);
        let expected = case["expected"]["handling"].as_str().unwrap_or_default();
        let also: Vec<&str> =
            case["expected"]["also_acceptable"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ours = match message::length(&bytes) {
            Err(_) => "session-reset",
            Ok(None) => continue,
            Ok(Some(length)) if length > bytes.len() => continue,
            Ok(Some(length)) => match message::decode(&bytes[..length]) {
                Err(_) => "session-reset",
                Ok(Message::Update(body)) => match attribute::decode(&body) {
                    Err(_) => "session-reset",
                    Ok(update) if update.dropped > 0 => "drop-rule",
                    // A withdrawal by itself, not an announcement treated as one.
                    Ok(update)
                        if !update.withdrawn.is_empty()
                            && case["name"].as_str().is_some_and(|n| n.starts_with("withdraw")) =>
                    {
                        continue;
                    }
                    Ok(update) if !update.withdrawn.is_empty() => "treat-as-withdraw",
                    Ok(update) if update.announced.is_empty() => "ignore",
                    Ok(_) => "accept",
                },
                Ok(_) => continue,
            },
        };
        let same = |handling: &str| {
            handling == ours
                || (handling.starts_with("accept") && ours == "accept")
                || (handling == "ignore-rule" && ours == "drop-rule")
        };
        if !same(expected) && !also.iter().any(|a| same(a)) {
            wrong.push(format!("{id} {}: {ours} instead of {expected} {also:?}", case["name"]));
        }
    }
    wrong.iter().for_each(|w| println!("{w}"));
    assert!(wrong.is_empty(), "{} differ", wrong.len());
}

#[test]
fn mutated_messages_never_panic_and_accepted_rules_survive_the_round_trip() {
    let Some(file) = shared("vectors.json") else { return };
    let seeds: Vec<Vec<u8>> = file["vectors"]
        .as_array()
        .expect("vectors")
        .iter()
        .flat_map(|v| [&v["announce_hex"], &v["withdraw_hex"]])
        .filter_map(|v| v.as_str().map(hex))
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).expect("small")
    };
    for round in 0..200_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(4) {
            let at = HEADER + random(bytes.len() - HEADER);
            match random(3) {
                0 => bytes[at] = u8::try_from(random(256)).expect("byte"),
                1 => bytes.truncate(at.max(HEADER + 4)),
                _ => bytes.insert(at, u8::try_from(random(256)).expect("byte")),
            }
        }
        let Ok(update) = attribute::decode(&bytes[HEADER..]) else { continue };
        for route in &update.announced {
            if let Route::FlowSpec(pattern) = route
                && let Ok(encoded) = nlri::encode(pattern)
            {
                let version = pattern.version().unwrap_or(IpVersion::V4);
                assert_eq!(nlri::decode(version, &encoded).as_ref(), Ok(pattern));
            }
        }
    }
}
