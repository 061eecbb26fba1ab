//! Real exports and captures that nobody here wrote, against results of other decoders.
//!
//! The corpus is found through `FLOODWALL_CORPUS` (default `../shared/corpus` from the workspace root); without it these tests
//! say so and pass.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use collectors::{Content, Decoder, Recording, Statistics};
use serde_json::Value;
use traffic::{IpVersion, Sample};

#[path = "../../tests/support/outside.rs"]
mod outside;

/// Files whose judgement differs from ours, and why ours stands.
const ARGUED: [(&str, &str); 8] = [
    ("ipfix_basic", "a second IPFIX message follows in the datagram; the oracle stops at the first"),
    (
        "nf9_gl_softflowd",
        "template 2048 and an option 1:100 follow in the first datagram; the oracle stops at a count of 1",
    ),
    ("nf9_scapy", "the sampling option comes after all data; the judgement accepts raw counters"),
    ("sflow_akv_1140", "the oracle counts Ethernet padding of a short frame as IP bytes"),
    ("ipfix_netscaler_data_first", "three records come before their template and wait for it; the oracle drops them"),
    ("nf9_akv_data_plus_templates", "eleven records come before their template and wait for it; the oracle drops them"),
    ("nf9_gl_nprobe4", "seven records come before their template and wait for it; the oracle drops them"),
    ("sflow_tcpdump_counters", "one datagram is NetFlow v5, which the sFlow oracle does not read"),
];

/// Captures in which we find packets that the oracle does not count.
const DEEPER: [(&str, &str); 1] = [("tcpreplay_test", "ten packets inside an Ethernet pseudowire with VLAN tag")];

fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("corpus folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e.to_string_lossy().starts_with("pcap")))
        .collect();
    files.sort();
    files
}

fn decode(path: &Path, content: Content) -> (Statistics, Vec<Sample>) {
    let decoder = Decoder::default();
    let mut recording = Recording::open(path, content, decoder).expect("readable");
    let mut samples = Vec::new();
    while let Ok(Some(_)) = recording.next(&mut samples) {}
    (recording.statistics().clone(), samples)
}

fn expected(corpus: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(corpus.join(format!("expected/{name}.json"))).expect("expected");
    serde_json::from_str(&text).expect("JSON")
}

/// A table that outlives its reasons would hide new faults.
#[test]
fn argued_files_differ_in_what_is_argued_only() {
    let Some(corpus) = outside::corpus() else { return };
    for (name, _) in ARGUED {
        let (ours, _) = decode(&corpus.join(format!("flows/{name}.pcap")), Content::Exports);
        let expected = expected(&corpus, name);
        let found = differences(&expected["expected"], &ours);
        assert!(!found.is_empty(), "{name} equals its judgement: take it out of the table");
    }
}

/// What differs from the judgement, in words.
fn differences(expected: &Value, ours: &Statistics) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |key: &str, value: u64| {
        if let Some(wanted) = expected.get(key).and_then(Value::as_u64)
            && wanted != value
        {
            found.push(format!("{key} {value} instead of {wanted}"));
        }
    };
    compare("records", ours.records);
    compare("flow_samples", ours.records);
    compare("option_records", ours.option_records);
    compare("raw_bytes", ours.raw_bytes);
    compare("raw_packets", ours.raw_packets);
    compare("scaled_bytes", ours.bytes);
    compare("scaled_bytes_ip", ours.bytes);
    compare("scaled_packets", ours.packets);
    let rates = expected.get("rates").or_else(|| expected.get("sampling_rates")).and_then(Value::as_array);
    if let Some(rates) = rates {
        let wanted: BTreeSet<u64> = rates.iter().filter_map(Value::as_u64).collect();
        let got: BTreeSet<u64> = ours.rates().keys().map(|r| u64::from(*r)).collect();
        if wanted != got {
            found.push(format!("rates {got:?} instead of {wanted:?}"));
        }
    }
    found
}

#[test]
fn every_export_of_the_corpus_decodes_as_other_decoders_judge() {
    let Some(corpus) = outside::corpus() else { return };
    let files = captures(&corpus.join("flows"));
    let mut differing = Vec::new();
    for path in &files {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let (ours, _) = decode(path, Content::Exports);
        let expected = expected(&corpus, &name);
        let judgement = &expected["expected"];
        if judgement.get("rule").is_some() || ARGUED.iter().any(|(file, _)| *file == name) {
            continue;
        }
        let found = differences(judgement, &ours);
        if !found.is_empty() {
            println!("differs: {name}: {}; errors {:?}", found.join(", "), ours.errors());
            differing.push(name);
        }
    }
    println!("{} of {} files equal their judgement", files.len() - differing.len(), files.len());
    assert!(differing.is_empty(), "without a place in the table of argued differences: {differing:?}");
}

#[test]
fn a_capture_of_exports_is_told_from_one_of_packets() {
    let Some(corpus) = outside::corpus() else { return };
    for (folder, content) in [("flows", Content::Exports), ("legit", Content::Packets), ("attacks", Content::Packets)] {
        for path in captures(&corpus.join(folder)) {
            if path.to_string_lossy().contains("invalid") || path.to_string_lossy().contains("malformed") {
                continue;
            }
            let found = Content::of(&path).expect("readable");
            assert_eq!(found, content, "{}", path.display());
        }
    }
}

#[test]
fn packets_and_bytes_of_every_capture_equal_what_tshark_counts_per_protocol() {
    let Some(corpus) = outside::corpus() else { return };
    let mut wrong = Vec::new();
    for kind in ["legit", "attacks"] {
        for path in captures(&corpus.join(kind)) {
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            if DEEPER.iter().any(|(file, _)| *file == name) {
                continue;
            }
            let (_, samples) = decode(&path, Content::Packets);
            let mut versions: BTreeMap<String, u64> = BTreeMap::new();
            let mut protocols: BTreeMap<u64, u64> = BTreeMap::new();
            for sample in &samples {
                let version = if sample.version == IpVersion::V4 { "4" } else { "6" };
                *versions.entry(version.to_owned()).or_default() += 1;
                *protocols.entry(sample.protocol.into()).or_default() += 1;
            }
            let expected = expected(&corpus, &format!("{kind}.{name}"));
            let stats = &expected["stats"];
            let wanted: BTreeMap<String, u64> = stats["ip_versions"]
                .as_object()
                .map(|o| o.iter().filter_map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect())
                .unwrap_or_default();
            if versions != wanted {
                wrong.push(format!("{kind}/{name}: versions {versions:?} instead of {wanted:?}"));
            }
            for row in stats["protocols"].as_array().into_iter().flatten() {
                let (Some(number), Some(count)) = (row[0].as_u64(), row[1].as_u64()) else { continue };
                let ours = protocols.get(&number).copied().unwrap_or(0);
                if ours != count {
                    wrong.push(format!("{kind}/{name}: protocol {number}: {ours} instead of {count}"));
                }
            }
            let victim = &stats["victim"];
            let address = victim["addr"].as_str().unwrap_or_default();
            for row in victim["ip_len"].as_array().into_iter().flatten() {
                let (Some(length), Some(count)) = (row[0].as_u64(), row[1].as_u64()) else { continue };
                let to_victim = |s: &&Sample| s.destination_address().to_string() == address && s.bytes == length;
                let ours = samples.iter().filter(to_victim).count() as u64;
                if ours != count {
                    wrong.push(format!("{kind}/{name}: {ours} packets of {length} bytes instead of {count}"));
                }
            }
        }
    }
    wrong.iter().for_each(|w| println!("{w}"));
    assert!(wrong.is_empty(), "{} differences", wrong.len());
}

/// Captures in which tshark itself finds less than there is.
const DEEPER_THAN_TSHARK: [(&str, &str); 1] =
    [("mpls_reserved_labels", "behind the labels 13 and 14 tshark expects no packet; IP packets are there")];

/// Per IP version and protocol: packets and IP bytes.
type Volumes = BTreeMap<(u8, u8), (u64, u64)>;

/// What tshark counts, by the outermost IP header and, in IPv6, what its extension headers lead to.
fn tshark(path: &Path) -> Option<Volumes> {
    const FIELDS: [&str; 10] = [
        "frame.protocols",
        "ip.proto",
        "ip.len",
        "ipv6.nxt",
        "ipv6.plen",
        "ipv6.hopopts.nxt",
        "ipv6.routing.nxt",
        "ipv6.fraghdr.nxt",
        "ipv6.dstopts.nxt",
        "ah.next_header",
    ];
    let mut command = std::process::Command::new("tshark");
    command.args(["-n", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]);
    // It does not know the third of the older types of stacked tags.
    command.args(["-d", "ethertype==0x9200,vlan", "-T", "fields", "-E", "separator=;", "-E", "occurrence=f"]);
    let output = command.args(FIELDS.iter().flat_map(|f| ["-e", f])).arg("-r").arg(path).output().ok()?;
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let mut volumes = Volumes::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
        let first = fields[0].split(':').find(|layer| ["ip", "ipv6"].contains(layer));
        let counted = match first {
            Some("ip") => number(1).zip(number(2)).map(|(protocol, length)| (4, protocol, length)),
            Some(_) => number(3).zip(number(4)).map(|(mut next, length)| {
                let headers = BTreeMap::from([(0, 5), (43, 6), (44, 7), (60, 8), (51, 9)]);
                for _ in 0..headers.len() {
                    next = headers.get(&next).and_then(|field| number(*field)).unwrap_or(next);
                }
                (6, next, length + 40)
            }),
            None => None,
        };
        if let Some((version, protocol, length)) = counted {
            let volume = volumes.entry((version, u8::try_from(protocol).expect("a protocol"))).or_default();
            *volume = (volume.0 + 1, volume.1 + length);
        }
    }
    Some(volumes)
}

#[test]
fn packets_and_ip_bytes_of_every_capture_equal_what_tshark_counts_here() {
    let Some(corpus) = outside::corpus() else { return };
    let mut wrong = Vec::new();
    for path in ["legit", "attacks"].iter().flat_map(|kind| captures(&corpus.join(kind))) {
        let Some(theirs) = tshark(&path) else {
            assert!(std::env::var_os("FLOODWALL_REQUIRE_LAB").is_none(), "tshark must be here");
            return outside::skipped("tshark is not installed");
        };
        let mut ours = Volumes::new();
        for sample in decode(&path, Content::Packets).1 {
            let version = if sample.version == IpVersion::V4 { 4 } else { 6 };
            let volume = ours.entry((version, sample.protocol)).or_default();
            *volume = (volume.0 + 1, volume.1 + sample.bytes);
        }
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let is_argued = DEEPER_THAN_TSHARK.iter().any(|(file, _)| *file == name);
        if (ours == theirs) == is_argued {
            wrong.push(format!("{name}: {ours:?}, and tshark {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "argued wrongly, or different:\n{}", wrong.join("\n"));
}
