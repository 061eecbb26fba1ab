//! Golden messages that an independent encoder wrote and real routers hold (`tests/lab/messages`), malformed ones, and mutations.
#![allow(clippy::print_stdout, reason = "what differs is listed, and what was found counted")]
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look at some variants and leave the rest alone")]

use bgp::attribute::{self, Sender};
use bgp::message::{self, HEADER, Message, Open};
use bgp::session::{Event, Output, Session, SessionConfig, Side};
use bgp::{Announcement, Community, ConnectionMode, Family, Route};
use flowspec::{Action, nlri};
use serde_json::Value;
use traffic::{IpVersion, Time};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/lab/messages/golden.json")).expect("JSON")
}

/// What real routers sent and held.
fn peers() -> Value {
    serde_json::from_str(include_str!("../../../tests/lab/messages/peers.json")).expect("JSON")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn sender(ibgp: bool, rate_asn: u16) -> Sender {
    let next_hops = ("192.0.2.1".parse().expect("v4"), "100::1".parse().expect("v6"));
    Sender { asn: 65001, ibgp, four_octet_as: true, next_hops, rate_asn }
}

/// Vector 13 lists 90 neighbouring ports one by one: the same set as one range, spelled for a router without ranges.
fn encode(id: &str, route: &Route) -> Vec<u8> {
    match route {
        Route::FlowSpec(pattern) if id == "13" => {
            nlri::with_length(nlri::encode_spelled(pattern, nlri::Spelling::Values).expect(id))
        }
        _ => attribute::encode_nlri(route).expect(id),
    }
}

/// The form of the lab, from a decoded route and its attributes.
fn actions_as_shown(attributes: &attribute::Attributes) -> Vec<String> {
    let mut actions: Vec<String> = attributes
        .actions
        .iter()
        .map(|action| match action {
            Action::RateLimitBytes(rate) => format!("rate-bytes {rate}"),
            Action::RateLimitPackets(rate) => format!("rate-packets {rate}"),
            Action::TrafficAction { sample: true, go_on: true } => "action sample+terminal".to_owned(),
            Action::RedirectToNextHop { .. } => "redirect-to-nexthop".to_owned(),
            other => other.to_string(),
        })
        .collect();
    if attributes.communities.contains(&Community::BLACKHOLE) {
        actions.push("blackhole".to_owned());
    }
    actions.sort();
    actions
}

#[test]
fn every_golden_message_decodes_to_its_meaning_and_encodes_to_the_same_octets() {
    let file = golden();
    let (mut announced, mut withdrawn) = (0, 0);
    for vector in file["vectors"].as_array().expect("vectors") {
        let id = vector["id"].as_str().expect("id");
        if let Some(bytes) = vector["withdraw_hex"].as_str().map(hex) {
            let update = attribute::decode(&bytes[HEADER..]).expect(id);
            let route = update.withdrawn.first().expect(id);
            let family = attribute::family_of(route).expect("family");
            let nlri = [encode(id, route)];
            assert_eq!(attribute::withdraw(family, &nlri).expect(id), bytes, "withdrawal {id}");
            withdrawn += 1;
        }
        let Some(bytes) = vector["announce_hex"].as_str().map(hex) else { continue };
        let update = attribute::decode(&bytes[HEADER..]).expect(id);
        assert_eq!((update.announced.len(), update.dropped), (1, 0), "{id}");
        let route = &update.announced[0];
        let attributes = update.attributes.clone();
        let shown = &vector["routes"][0];
        let expected: Vec<&str> =
            shown["actions"].as_array().expect("actions").iter().filter_map(Value::as_str).collect();
        assert_eq!(actions_as_shown(&attributes), expected, "{id}");
        if let Route::FlowSpec(pattern) = route {
            assert_eq!(pattern.conditions().len(), shown["components"].as_object().expect("components").len(), "{id}");
        }
        let announcement = Announcement {
            actions: attributes.actions,
            next_hop: attributes.next_hop,
            communities: attributes.communities,
            large_communities: attributes.large_communities,
            ..Announcement::default()
        };
        let family = attribute::family_of(route).expect("family");
        let nlri = [encode(id, route)];
        let rate_asn = vector["rate_asn"].as_u64().and_then(|asn| u16::try_from(asn).ok()).expect("an AS number");
        let ours = attribute::announce(family, &sender(false, rate_asn), &announcement, &nlri).expect(id);
        assert_eq!(ours, bytes, "announcement {id}");
        if let Some(ibgp) = vector["announce_ibgp_hex"].as_str() {
            let ours = attribute::announce(family, &sender(true, rate_asn), &announcement, &nlri).expect(id);
            assert_eq!(ours, hex(ibgp), "iBGP announcement {id}");
        }
        announced += 1;
    }
    assert_eq!((announced, withdrawn), (18, 18));
}

#[test]
fn examples_of_the_rfcs_decode_to_their_meaning() {
    let file = golden();
    for example in file["rfc_examples"].as_array().expect("examples") {
        let version = if example["afi"] == 2 { IpVersion::V6 } else { IpVersion::V4 };
        let bytes = hex(example["nlri_hex"].as_str().expect("hex"));
        let pattern = nlri::decode(version, &bytes[1..]).unwrap_or_else(|e| panic!("{example}: {e}"));
        assert_eq!(pattern.conditions().len(), example["components"].as_object().expect("components").len());
        assert_eq!(nlri::encode_with_length(&pattern), Ok(bytes), "{example}");
    }
}

#[test]
fn opens_of_real_peers_are_understood() {
    for (peer, open) in peers()["opens"].as_object().expect("opens") {
        let bytes = hex(open.as_str().expect("hex"));
        assert_eq!(message::length(&bytes), Ok(Some(bytes.len())), "{peer}");
        let Ok(Message::Open(open)) = message::decode(&bytes) else { panic!("{peer}: not an OPEN") };
        assert!(open.four_octet_as && open.asn >= 65010, "{peer}: {open:?}");
        assert_eq!(open.families.len(), if peer == "openbgpd" { 2 } else { 4 }, "{peer}");
    }
}

#[test]
fn what_real_peers_sent_is_decoded_to_the_rules_of_their_tables() {
    for (peer, announcer) in peers()["announcers"].as_object().expect("announcers") {
        let mut found = Vec::new();
        for message in announcer["updates"].as_array().expect("updates") {
            let bytes = hex(message.as_str().expect("hex"));
            let update = attribute::decode(&bytes[HEADER..]).expect("valid");
            assert_eq!(update.dropped, 0, "{peer}: {message}");
            for route in &update.announced {
                let Route::FlowSpec(pattern) = route else { continue };
                let destination = pattern.destination().expect("a destination").to_string();
                found.push(serde_json::json!([destination, pattern.conditions().len()]));
            }
        }
        found.sort_by_key(Value::to_string);
        assert_eq!(Value::from(found), announcer["rules"], "{peer}");
    }
}

/// A session of AS 65002 with a peer of AS 65001 that has come as far as `established` says.
fn session(established: bool) -> Session {
    let config = SessionConfig {
        local_asn: 65002,
        remote_asn: Some(65001),
        identifier: "192.0.2.253".parse().expect("address"),
        mode: ConnectionMode::Passive,
        ..SessionConfig::default()
    };
    let mut session = Session::new(NOW, config);
    session.handle(NOW, Event::Connected(Side::Incoming));
    if established {
        let open = Open {
            asn: 65001,
            hold_time: 90,
            identifier: "192.0.2.254".parse().expect("address"),
            families: Family::ALL.into(),
            four_octet_as: true,
            route_refresh: true,
            enhanced_refresh: false,
            graceful_restart: None,
        };
        session.handle(NOW, Event::Received(Side::Incoming, &open.encode()));
        let up = session.handle(NOW, Event::Received(Side::Incoming, &message::keepalive()));
        assert!(up.contains(&Output::Up));
    }
    session
}

const NOW: Time = Time(1_700_000_000_000_000_000);

/// What a session made of octets: how it handled them, and the NOTIFICATION it sent.
fn handled(established: bool, precede: &[u8], bytes: &[u8]) -> (&'static str, Option<[u8; 2]>, usize) {
    let mut session = session(established);
    session.handle(NOW, Event::Received(Side::Incoming, precede));
    let outputs = session.handle(NOW, Event::Received(Side::Incoming, bytes));
    let notification = outputs.iter().find_map(|output| match output {
        Output::Send(_, data) if data[18] == 3 => Some([data[19], data[20]]),
        _ => None,
    });
    let closed = outputs.iter().any(|o| matches!(o, Output::Close(_)));
    let updates: Vec<_> =
        outputs.iter().filter_map(|o| if let Output::Update(update) = o { Some(update) } else { None }).collect();
    let installed = updates.iter().map(|u| u.announced.len()).sum();
    let handling = if closed {
        "session-reset"
    } else if updates.iter().any(|u| u.dropped > 0) {
        "drop-rule"
    } else if installed > 0 {
        "accept"
    } else if updates.iter().any(|u| !u.withdrawn.is_empty()) {
        "treat-as-withdraw"
    } else {
        "ignore"
    };
    (handling, notification, installed)
}

#[test]
fn malformed_messages_are_handled_as_they_should_be() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/lab/messages/malformed.json")).expect("JSON");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for case in file["messages"].as_array().expect("messages") {
        let (Some(id), Some(text)) = (case["id"].as_str(), case["hex"].as_str()) else { continue };
        let expected = &case["expected"];
        let precede = case["precede_hex"].as_str().map(hex).unwrap_or_default();
        let (ours, notification, installed) = handled(case["phase"] == "established", &precede, &hex(text));
        let wanted = expected["handling"].as_str().unwrap_or_default();
        let also: Vec<&str> =
            expected["also_acceptable"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let same = |handling: &str| match handling {
            "ignore-rule" => matches!(ours, "drop-rule" | "ignore"),
            "accept-masked" | "accept-first" | "accept-unless-own-as" => matches!(ours, "accept" | "treat-as-withdraw"),
            // A withdrawal by itself is handled by being taken.
            "ignore" => matches!(ours, "ignore" | "treat-as-withdraw"),
            other => other == ours || (other.starts_with("accept") && ours == "accept"),
        };
        if !same(wanted) && !also.iter().any(|a| same(a)) {
            wrong.push(format!("{id} {}: {ours} instead of {wanted} {also:?}", case["name"]));
        }
        if ours == "session-reset" && wanted == "session-reset" {
            let code = notification.map(|[a, b]| format!("NOTIFICATION {a}/{b}")).unwrap_or_default();
            let right = expected["notification"].as_array().is_some_and(|n| {
                notification.is_some_and(|ours| n.iter().filter_map(Value::as_u64).eq(ours.map(u64::from)))
            });
            if !right && !also.contains(&code.as_str()) {
                wrong.push(format!("{id} {}: {code} instead of {}", case["name"], expected["notification"]));
            }
        }
        if let Some(rules) = expected["rules_installed"].as_u64().filter(|_| ours == "accept" || ours == "drop-rule") {
            let allowed = rules == installed as u64 || (installed == 0 && also.contains(&"drop-rule"));
            if !allowed {
                wrong.push(format!("{id} {}: {installed} rules instead of {rules}", case["name"]));
            }
        }
        checked += 1;
    }
    wrong.iter().for_each(|w| println!("{w}"));
    assert!(wrong.is_empty() && checked >= 70, "{} of {checked} differ", wrong.len());
}

fn random(state: &mut u64, n: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state % n as u64).expect("small")
}

/// Messages of every kind, mutated: what is found in a million of them is found in `cargo test`. Overflow checks are on in every
/// profile of this workspace; a hang fails the test's own deadline.
#[test]
fn a_million_mutated_messages_never_panic_and_accepted_rules_survive_the_round_trip() {
    let (file, recorded) = (golden(), peers());
    let vectors =
        file["vectors"].as_array().expect("vectors").iter().flat_map(|v| [&v["announce_hex"], &v["withdraw_hex"]]);
    let others = file["messages"].as_array().expect("messages").iter().map(|m| &m["hex"]);
    let sent = recorded["announcers"].as_object().expect("announcers").values();
    let sent = sent.flat_map(|a| a["updates"].as_array().expect("updates"));
    let opens = recorded["opens"].as_object().expect("opens").values();
    let seeds: Vec<Vec<u8>> =
        vectors.chain(others).chain(sent).chain(opens).filter_map(|v| v.as_str().map(hex)).collect();
    assert!(seeds.len() > 80, "{} seeds", seeds.len());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut established = session(true);
    let (mut accepted, mut resets) = (0u32, 0u32);
    for round in 0..1_000_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(&mut state, 4) {
            let at = 16 + random(&mut state, bytes.len() - 16);
            match random(&mut state, 3) {
                0 => bytes[at] = u8::try_from(random(&mut state, 256)).expect("byte"),
                1 => bytes.truncate(at.max(HEADER)),
                _ => bytes.insert(at, u8::try_from(random(&mut state, 256)).expect("byte")),
            }
        }
        if random(&mut state, 4) > 0 {
            // A right length lets the mutation reach further than the header.
            let length = u16::try_from(bytes.len()).expect("short");
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
        }
        let update = match message::length(&bytes) {
            Ok(Some(length)) if length == bytes.len() => match message::decode(&bytes) {
                Ok(Message::Update(body)) => attribute::decode(&body).ok(),
                _ => None,
            },
            _ => None,
        };
        for route in update.iter().flat_map(|u| &u.announced) {
            if let Route::FlowSpec(pattern) = route
                && let Ok(encoded) = nlri::encode(pattern)
            {
                let version = pattern.version().unwrap_or(IpVersion::V4);
                assert_eq!(nlri::decode(version, &encoded).as_ref(), Ok(pattern));
                accepted += 1;
            }
        }
        // The whole machine, now and then, since a session is made anew after each reset.
        if round % 8 == 0 {
            established.handle(NOW, Event::Received(Side::Incoming, &bytes));
            if established.established_side().is_none() || round % 4096 == 0 {
                established = session(true);
                resets += 1;
            }
        }
    }
    println!("{accepted} rules accepted, {resets} sessions");
    assert!(accepted > 10_000 && resets > 1000, "{accepted} rules accepted, {resets} sessions");
}
