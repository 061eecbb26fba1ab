//! The speaker against real routers (GoBGP, BIRD, ExaBGP, FRR, OpenBGPD), inside a network namespace of the test's own.
//!
//! Each test runs its second half by starting itself again inside the namespace.
#![allow(clippy::print_stdout, reason = "measurements are shown")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bgp::message::HEADER;
use bgp::session::State;
use bgp::tcp::{Clock, Feed, PeerStatus, Peers};
use bgp::{Announcement, ConnectionMode, Origin, Peer, Route, Wanted, attribute};
use flowspec::Action;
use flowspec::profile::{Kind, Profile};
use policy::Config;
use policy::rails::Rails;
use serde_json::Value;
use support::{Folder, Namespace, has_lab, lab_program, stopwatch, wait_for};
use tokio::sync::watch;
use traffic::Time;

const INSIDE: &str = "FLOODWALL_TEST_INSIDE";
const PROGRAMS: [&str; 11] =
    ["gobgpd", "gobgp", "bird", "birdc", "exabgp", "bgpd", "vtysh", "bgpctl", "ip", "nft", "ss"];

/// Runs a test of this file again inside a namespace; true inside.
fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !has_lab(&PROGRAMS) {
        return false;
    }
    let namespace = Namespace::new();
    let status = namespace
        .command(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("runs");
    assert!(status.success(), "inside the namespace");
    false
}

/// Routers of `tests/lab`, and what they hold.
struct Lab {
    folder: Folder,
}

impl Lab {
    fn up(peers: &[&str]) -> Self {
        let lab = Self { folder: Folder::new() };
        let _ = Command::new("chmod").arg("755").arg(lab.folder.path()).status();
        let output = lab.program("up").args(peers).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lab
    }

    fn program(&self, word: &str) -> Command {
        let mut command = Command::new(lab_program());
        command.env("LAB_DIR", self.folder.path()).arg(word);
        command
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn routes(&self, peer: &str) -> Option<Vec<Value>> {
        let output = self.program("show").args([peer, "--json"]).output().expect("runs");
        serde_json::from_slice(&output.stdout).ok()
    }

    fn birdc(&self, peer: &str, words: &[&str]) -> String {
        let socket = self.file(&format!("{peer}/bird.ctl"));
        let output = Command::new("birdc").arg("-s").arg(socket).args(words).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn signal(&self, peer: &str, signal: &str) {
        let text = std::fs::read_to_string(self.file(&format!("{peer}/pid"))).expect("a pid");
        let pid = text.split(' ').next().expect("a pid");
        assert!(Command::new("kill").args([signal, pid]).status().expect("runs").success());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.program("down").output();
    }
}

fn lab_peer(name: &str) -> Peer {
    let (last, port, asn, kind) = match name {
        "gobgp" => (10, 1790, 65010, Kind::GoBgp),
        "bird" => (11, 1791, 65011, Kind::Bird),
        "exabgp" => (12, 1792, 65012, Kind::ExaBgp),
        "frr" => (13, 1793, 65013, Kind::Frr),
        "openbgpd" => (14, 1794, 65014, Kind::Generic),
        "gobgp-md5" => (20, 1790, 65020, Kind::GoBgp),
        "bird-md5" => (21, 1791, 65021, Kind::Bird),
        "bird-ttl" => (22, 1791, 65022, Kind::Bird),
        "bird-active" => (23, 1791, 65023, Kind::Bird),
        _ => panic!("no such peer: {name}"),
    };
    let mut profile = Profile::of(kind);
    profile.max_rules = 20_000;
    let passive = name == "bird-active";
    Peer {
        name: name.to_owned(),
        local_asn: 65001,
        local_address: format!("127.0.0.{}", if passive { 2 } else { 1 }).parse().ok(),
        local_port: 1799,
        mode: if passive { ConnectionMode::Passive } else { ConnectionMode::Active },
        remote_asn: asn,
        remote_address: format!("127.0.0.{last}").parse().expect("address"),
        remote_port: port,
        router_id: "192.0.2.254".parse().expect("address"),
        next_hop_ipv4: "192.0.2.254".parse().expect("address"),
        next_hop_ipv6: "2001:db8::fe".parse().expect("address"),
        md5_password: name.ends_with("md5").then(|| "s3cret".to_owned()),
        ttl_security_hops: (name == "bird-ttl").then_some(1),
        hold_time: Duration::from_secs(9),
        profile,
        ..Peer::default()
    }
}

fn config(names: &[&str]) -> Config {
    Config {
        networks: ["192.0.2.0/24", "198.18.0.0/16", "2001:db8::/32"].map(|p| p.parse().expect("prefix")).into(),
        shortest_prefix: (16, 32),
        rule_reserve: 0.0,
        dead_man: Duration::ZERO,
        peers: names.iter().map(|name| lab_peer(name)).collect(),
        ..Config::default()
    }
}

struct Speaker {
    runtime: tokio::runtime::Runtime,
    publish: watch::Sender<Arc<Wanted>>,
    peers: Peers,
}

impl Speaker {
    fn start(config: &Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runs");
        let (publish, wanted) = watch::channel(Arc::new(Wanted::new()));
        let began = stopwatch();
        let clock: Clock = Arc::new(move || Time::from_seconds(1_700_000_000, 0).after(began.elapsed()));
        let mut peers = Peers::new(config.sessions(), Feed::same(wanted), clock, 7, false);
        runtime.block_on(peers.apply(config.sessions(), &Rails::gates(config))).expect("starts");
        Self { runtime, publish, peers }
    }

    fn want(&self, wanted: &Wanted) {
        self.publish.send_replace(Arc::new(wanted.clone()));
    }

    fn status(&self, name: &str) -> PeerStatus {
        self.peers.iter().find(|p| p.peer.name == name).expect("a peer").status.borrow().clone()
    }

    fn established(&self, name: &str) {
        wait_for(&format!("a session with {name} ({:?})", self.status(name).last_error), 40, || {
            (self.status(name).state == State::Established).then_some(())
        });
    }

    fn stop(mut self) {
        self.runtime.block_on(self.peers.stop(false));
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

/// Messages that an encoder of their own wrote, and what real routers held of them: see `lab/README.md`.
const GOLDEN: &str = include_str!("lab/messages/golden.json");
const PEERS: &str = include_str!("lab/messages/peers.json");

/// The golden messages as wanted routes, with what each peer should show.
fn vectors() -> Vec<(Value, Route, Announcement)> {
    let (golden, recorded): (Value, Value) =
        (serde_json::from_str(GOLDEN).expect("JSON"), serde_json::from_str(PEERS).expect("JSON"));
    let mut all = Vec::new();
    for vector in golden["vectors"].as_array().expect("vectors") {
        let bytes = hex(vector["announce_hex"].as_str().expect("hex"));
        let update = attribute::decode(&bytes[HEADER..]).expect("valid");
        let announcement = Announcement {
            actions: update.attributes.actions.clone(),
            next_hop: update.attributes.next_hop,
            communities: update.attributes.communities.clone(),
            large_communities: update.attributes.large_communities.clone(),
            origin: Origin::Manual,
            ..Announcement::default()
        };
        let id = vector["id"].as_str().expect("id");
        let mut vector = vector.clone();
        for (peer, held) in recorded["holds"].as_object().expect("peers") {
            vector["peers"][peer] = held[id].clone();
        }
        all.push((vector, update.announced[0].clone(), announcement));
    }
    all
}

/// Whether a peer's route is the one of a vector, as far as the peer shows its fields.
fn is_shown(vector: &Value, peer: &str, route: &Value) -> bool {
    let expected = &vector["routes"][0];
    let differs = &vector["peers"][peer]["shown_differently"];
    let same = |field: &str| !differs[field].is_null() || route[field].is_null() || route[field] == expected[field];
    // A list of neighbouring ports is sent as the range it is.
    let long = vector["id"] == "13" && route["components"]["destination"] == expected["components"]["destination"];
    let text = expected["components"].is_object() && route["components"] == expected["components"]
        || !expected["components"].is_object() && route["text"] == expected["text"];
    (long || text) && (peer == "frr" && differs["actions"].is_array() || same("actions"))
}

#[test]
fn every_vector_appears_at_every_peer_with_its_meaning_and_goes_again() {
    if !inside("every_vector_appears_at_every_peer_with_its_meaning_and_goes_again") {
        return;
    }
    let names = ["gobgp", "bird", "exabgp", "frr", "openbgpd"];
    let extra = ["gobgp-md5", "bird-md5", "bird-ttl", "bird-active"];
    let all: Vec<&str> = names.iter().copied().chain(extra).collect();
    let lab = Lab::up(&all);
    let speaker = Speaker::start(&config(&all));
    all.iter().for_each(|name| speaker.established(name));
    let vectors = vectors();
    speaker.want(&vectors.iter().map(|(_, route, a)| (route.clone(), a.clone())).collect());
    for name in &names {
        let mut missing = Vec::new();
        let refused = speaker.status(name).refused;
        let found = wait_until(20, || {
            let routes = lab.routes(name).unwrap_or_default();
            missing = vectors
                .iter()
                .filter(|(v, route, _)| v["peers"][*name]["accepted"] == true && !refused.contains_key(route))
                .filter(|(v, ..)| !routes.iter().any(|r| is_shown(v, name, r)))
                .map(|(v, ..)| v["id"].to_string())
                .collect();
            missing.is_empty()
        });
        assert!(found, "{name} does not show {missing:?} but {:#?}", lab.routes(name));
        assert_eq!(speaker.status(name).resets, 0, "{name}");
    }
    // MD5, GTSM and a passive side carry routes as well.
    for name in extra {
        assert!(wait_until(10, || lab.routes(name).is_some_and(|r| r.len() >= 15)), "{name}: {:?}", lab.routes(name));
    }
    // What a router would take for accept, or end its session for, is not sent to it.
    for (name, most) in [("gobgp", 1), ("bird", 1), ("exabgp", 2), ("frr", 2)] {
        let flowspec = |why: &&String| !why.contains("does not carry");
        let refused = speaker.status(name).refused;
        assert!(refused.values().filter(flowspec).count() <= most, "{name}: {refused:?}");
    }
    let refused = speaker.status("exabgp").refused;
    assert!(refused.values().any(|why| why.contains("4-octet")), "ends an ExaBGP session: {refused:?}");
    assert!(refused.values().any(|why| why.contains("offset")), "{refused:?}");

    // Route refresh: BIRD asks for everything again.
    let updates = |lab: &Lab| {
        let text = lab.birdc("bird", &["show", "protocols", "all"]);
        let counts = text.lines().filter(|l| l.contains("Import updates:"));
        counts.filter_map(|l| l.split_whitespace().nth(2)?.parse::<u64>().ok()).sum::<u64>()
    };
    let before = updates(&lab);
    lab.birdc("bird", &["reload", "in", "all"]);
    assert!(wait_until(10, || updates(&lab) >= before + 15), "{before} and {}", updates(&lab));
    assert!(lab.routes("bird").is_some_and(|r| r.len() >= 17), "nothing was lost");

    // A peer that stands still is given up after the hold time, and is back when it goes on.
    lab.signal("gobgp", "-STOP");
    let stopped = stopwatch();
    assert!(wait_until(15, || speaker.status("gobgp").state != State::Established));
    let after = stopped.elapsed();
    let error = speaker.status("gobgp").last_error.unwrap_or_default();
    lab.signal("gobgp", "-CONT");
    assert!((5..12).contains(&after.as_secs()) && error.contains("hold timer"), "{after:?}: {error}");
    speaker.established("gobgp");
    assert!(wait_until(20, || lab.routes("gobgp").is_some_and(|r| r.len() >= 15)), "{:?}", lab.routes("gobgp"));

    speaker.want(&Wanted::new());
    for name in all {
        assert!(wait_until(20, || lab.routes(name).is_some_and(|r| r.is_empty())), "{name}: {:?}", lab.routes(name));
    }
    speaker.stop();
}

/// Runs a program inside the namespace, which has to succeed.
fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("runs");
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn of_two_connections_at_once_one_becomes_the_session() {
    if !inside("of_two_connections_at_once_one_becomes_the_session") {
        return;
    }
    // What is held back is dropped where it arrives: a segment that its sender could not send would leave with the next one. For
    // the same reason nothing is sent again together: a KEEPALIVE in one segment with another message would get through, and a
    // session that is established stays.
    std::fs::write("/proc/sys/net/ipv4/tcp_retrans_collapse", "0").expect("a setting of this namespace");
    // BIRD's identifier is 10.255.0.23: once ours is the higher one, once the lower.
    for (identifier, ours_stays) in [("192.0.2.254", true), ("1.2.3.4", false)] {
        // Connections are made, but no OPEN (more than 80 octets with all headers) gets through yet.
        run("nft", &["add table ip hold; add chain ip hold in { type filter hook input priority 0; }"]);
        let held_back = |lengths: &str| {
            let rule = |port| format!("add rule ip hold in tcp {port} {{ 1791, 1799 }} meta length {lengths} drop");
            run("nft", &[&format!("flush chain ip hold in; {}; {}", rule("dport"), rule("sport"))]);
        };
        held_back("> 80");
        let lab = Lab::up(&["bird-active"]);
        let mut config = config(&["bird-active"]);
        config.peers[0].mode = ConnectionMode::Both;
        config.peers[0].router_id = identifier.parse().expect("address");
        config.peers[0].hold_time = Duration::from_secs(90);
        let speaker = Speaker::start(&config);
        let connections = |port: &str| {
            let filter = format!("src 127.0.0.2 and dst 127.0.0.23 and {port}");
            run("ss", &["-tnH", "state", "established", &filter]).lines().count()
        };
        let (opened_by_us, opened_by_bird) = ("dport = :1791", "sport = :1799");
        let both = wait_until(30, || connections(opened_by_us) == 1 && connections(opened_by_bird) == 1);
        assert!(both, "{} and {}", connections(opened_by_us), connections(opened_by_bird));
        assert_ne!(speaker.status("bird-active").state, State::Established);
        // OPENs pass, but neither connection is confirmed (71 octets) before both were seen: that is the collision.
        held_back("71");
        assert!(wait_until(30, || connections(opened_by_us) + connections(opened_by_bird) == 1), "one is closed");
        run("nft", &["delete table ip hold"]);

        speaker.established("bird-active");
        let one: Wanted = many(1);
        speaker.want(&one);
        assert!(wait_until(10, || lab.routes("bird-active").is_some_and(|r| r.len() == 1)));
        // RFC 4271 section 6.8: the connection of the side with the higher identifier stays, and nothing follows.
        std::thread::sleep(Duration::from_secs(4));
        let stayed = (connections(opened_by_us) == 1, connections(opened_by_bird) == 1);
        assert_eq!(stayed, (ours_stays, !ours_stays), "our identifier is {identifier}");
        let status = speaker.status("bird-active");
        assert_eq!((status.state, status.resets), (State::Established, 0), "{:?}", status.last_error);
        speaker.stop();
    }
}

fn wait_until(seconds: u64, mut look: impl FnMut() -> bool) -> bool {
    let began = stopwatch();
    while began.elapsed() < Duration::from_secs(seconds) {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    look()
}

fn many(count: u32) -> Wanted {
    let rule = |i: u32| {
        let text = format!(
            "{{\"destination_prefix\": \"198.18.{}.{}/32\", \"protocols\": [\"udp\"], \"source_ports\": [{}], \"action_type\": \"discard\"}}",
            i >> 8 & 255,
            i & 255,
            1 + i % 7
        );
        flowspec::json::parse(&text).expect("valid").pattern
    };
    let announcement = Announcement { origin: Origin::Manual, ..Announcement::flowspec(Action::Discard) };
    (0..count).map(|i| (Route::FlowSpec(rule(i)), announcement.clone())).collect()
}

fn bird_count(lab: &Lab) -> usize {
    let text = lab.birdc("bird", &["show", "route", "table", "f4", "count"]);
    text.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).next().unwrap_or(0)
}

fn gobgp_count() -> usize {
    let output = Command::new("gobgp")
        .args(["-u", "127.0.0.1", "-p", "50151", "global", "rib", "summary", "-a", "ipv4-flowspec"])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |l: &str| l.split("Destination:").nth(1)?.split(',').next()?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

#[test]
fn ten_thousand_rules_one_rule_and_two_hundred_flaps() {
    if !inside("ten_thousand_rules_one_rule_and_two_hundred_flaps") {
        return;
    }
    let lab = Lab::up(&["bird", "gobgp"]);
    let mut config = config(&["bird", "gobgp"]);
    // Reading a million bytes of text off a router stands it still for a while.
    config.peers.iter_mut().for_each(|p| p.hold_time = Duration::from_secs(90));
    let speaker = Speaker::start(&config);
    speaker.established("bird");
    speaker.established("gobgp");
    std::thread::sleep(Duration::from_secs(4));

    let set = many(10_000);
    let began = stopwatch();
    speaker.want(&set);
    assert!(wait_until(30, || bird_count(&lab) == 10_000), "BIRD holds {}", bird_count(&lab));
    println!("BIRD holds 10,000 rules after {:?}", began.elapsed());
    assert!(wait_until(60, || gobgp_count() == 10_000), "GoBGP holds {}", gobgp_count());
    println!("GoBGP holds 10,000 rules after {:?}", began.elapsed());
    speaker.want(&Wanted::new());
    assert!(wait_until(60, || bird_count(&lab) == 0 && gobgp_count() == 0));

    let mut times = Vec::new();
    for i in 0..21 {
        let one: Wanted = many(10_000).into_iter().skip(i).take(1).collect();
        let began = stopwatch();
        speaker.want(&one);
        while bird_count(&lab) == 0 && began.elapsed() < Duration::from_secs(5) {}
        times.push(began.elapsed());
        speaker.want(&Wanted::new());
        assert!(wait_until(5, || bird_count(&lab) == 0));
    }
    times.sort();
    println!(
        "one rule is visible at BIRD after {:?} (median of 21, asked by a program that is started anew each time)",
        times[10]
    );

    let mut state = 7u64;
    let all: Vec<_> = many(50).into_iter().collect();
    let mut last = Wanted::new();
    for _ in 0..200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        last = all.iter().enumerate().filter(|(i, _)| state >> (i % 60) & 1 == 1).map(|(_, r)| r.clone()).collect();
        speaker.want(&last);
        std::thread::sleep(Duration::from_millis(state % 7));
    }
    for name in ["bird", "gobgp"] {
        let expected: BTreeSet<String> = last
            .keys()
            .filter_map(|r| if let Route::FlowSpec(p) = r { p.destination().map(|d| d.to_string()) } else { None })
            .collect();
        let held = || -> BTreeSet<String> {
            let routes = lab.routes(name).unwrap_or_default();
            routes.iter().filter_map(|r| r["components"]["destination"].as_str().map(str::to_owned)).collect()
        };
        assert!(wait_until(10, || held() == expected), "{name}: {} instead of {}", held().len(), expected.len());
        assert_eq!(speaker.status(name).resets, 0);
    }
    speaker.stop();
}
