//! Replays the committed corpus of the fuzzers: made by this project, and what they found.

#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// Runs every input of a target; returns how many there were.
fn replay(target: &str, run: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is committed") {
        let path = entry.expect("entry").path();
        let input = fs::read(&path).expect("readable");
        // Cut inputs cost little and reach every end of a header.
        for end in (0..input.len().min(512)).step_by(3).chain([input.len()]) {
            run(&input[..end]);
        }
        count += 1;
    }
    count
}

#[test]
fn netflow_and_ipfix_hold() {
    assert!(replay("netflow", targets::netflow) >= 10);
}

#[test]
fn sflow_holds() {
    assert!(replay("sflow", targets::sflow) >= 5);
}

#[test]
fn packets_hold() {
    assert!(replay("packet", targets::packet) >= 20);
}

#[test]
fn capture_files_hold() {
    assert!(replay("capture", targets::capture) >= 3);
}

/// Protocol, source port, IP bytes of a seed of the packet fuzzer.
fn packet(name: &str) -> (u8, u16, u64) {
    use collectors::packet::LinkType;
    use collectors::{Encapsulation, tunnel};
    use traffic::Time;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/packet").join(name);
    let input = fs::read(path).expect("the corpus is committed");
    let link =
        LinkType::from_number([0, 1, 9, 12, 101, 104, 113, 219, 228, 276][usize::from(input[0])]).expect("known");
    let encapsulation = Encapsulation::ALL[usize::from(input[1])];
    let length = u32::try_from(input.len() - 3).expect("short") + u32::from(input[2]) * 64;
    let sample = tunnel::parse(encapsulation, link, Time(0), &input[3..], length).expect(name);
    (sample.protocol, sample.source_port, sample.bytes)
}

#[test]
fn every_stack_of_headers_that_is_understood_is_read_to_its_ports() {
    for name in [
        "tags-plain",
        "tags-q",
        "tags-ad",
        "tags-9100",
        "tags-9200",
        "tags-deep",
        "tags-pbb",
        "mpls-pseudowire",
        "mpls-control-word",
        "mpls-bare",
        "pppoe",
        "null",
        "ppp",
        "raw-4",
        "hdlc",
        "fragment-first",
        "llc-snap",
        "erspan-1",
        "erspan-2",
        "erspan-3",
        "vxlan",
        "geneve",
        "gre-key",
    ] {
        assert_eq!(packet(name), (17, 53, 32), "{name}");
    }
    for (name, want) in [
        ("ppp-short", (17, 53, 52)),
        ("6in4", (17, 53, 52)),
        ("six-routing-destination", (17, 53, 76)),
        ("options", (17, 53, 72)),
        ("mpls-2", (6, 443, 40)),
        ("sll", (6, 443, 40)),
        ("sll2", (6, 443, 60)),
        ("six-hop-ah-fragment", (58, 0, 84)),
        ("six-later-fragment", (17, 0, 60)),
        ("fragment-later", (17, 0, 32)),
        ("six-no-next", (59, 0, 40)),
        ("big-tcp", (6, 443, 16_360)),
        ("icmp", (1, 0, 24)),
    ] {
        assert_eq!(packet(name), want, "{name}");
    }
}
