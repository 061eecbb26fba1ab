//! Recorded attacks: what is mined covers what an operator's rule covers, or more, at no more conditions.

use collectors::{Content, Decoder, Recording};
use flowspec::{Capabilities, Match};
use miner::{Outcome, Request, mine};
use serde_json::Value;
use traffic::{Direction, Prefix, Sample, Target};

#[path = "../../../tests/support/outside.rs"]
mod outside;

fn read(name: &std::path::Path) -> Vec<Sample> {
    let content = Content::of(name).expect("a capture");
    let mut recording = Recording::open(name, content, Decoder::default()).expect("a capture");
    let mut samples = Vec::new();
    while recording.next(&mut samples).expect("a whole capture").is_some() {}
    samples
}

fn mined(samples: &[Sample], target: Prefix, by_bytes: bool) -> Outcome {
    mine(&Request {
        target: Target { prefix: target, direction: Direction::Incoming },
        sample: samples,
        by_bytes,
        enough: 0.95,
        baseline: None,
        sample_pps: None,
        baseline_pps: None,
        capacity_pps: None,
        max_rules: 10,
        capabilities: Capabilities::default(),
        excluded: Vec::new(),
    })
}

/// Conditions of an operator's rule.
fn conditions(rule: &Value) -> usize {
    rule.as_object().map_or(0, serde_json::Map::len)
}

#[test]
fn mined_rules_cover_what_an_operators_rules_cover() {
    let Some(corpus) = outside::corpus() else { return };
    let folder = corpus.join("expected");
    let entries = std::fs::read_dir(&folder).expect("a folder of the corpus");
    let mut seen = 0;
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("attacks.")) {
            continue;
        }
        let expected: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let judgement = &expected["judgement"];
        let rules = judgement["rules"].as_array().cloned().unwrap_or_default();
        let Some(first) = rules.first() else { continue };
        let target: Prefix = first["dst"].as_str().expect("a destination").parse().expect("a prefix");
        let packets = judgement["coverage"]["matched_share"].as_f64().expect("a share");
        let bytes = judgement["coverage"]["matched_bytes_share"].as_f64().expect("a share");
        let samples: Vec<Sample> = read(&corpus.join(expected["file"].as_str().expect("a file")));
        let to_target: Vec<Sample> =
            samples.into_iter().filter(|s| target.contains_bits(s.version, s.destination)).collect();
        // An attack that dominates by bytes alone crossed a bandwidth threshold.
        let by_bytes = packets < 0.5;
        let outcome = mined(&to_target, target, by_bytes);
        let hit = |s: &&Sample| outcome.rules.iter().any(|r| r.pattern.matches(s) == Match::Yes);
        let of = |weigh: fn(&Sample) -> u64| {
            let all: u64 = to_target.iter().map(weigh).sum();
            let part: u64 = to_target.iter().filter(hit).map(weigh).sum();
            part as f64 / all.max(1) as f64
        };
        let (covered, wanted) = if by_bytes { (of(|s| s.bytes), bytes) } else { (of(|s| s.packets), packets) };
        let name = path.display();
        let texts: Vec<String> = outcome.rules.iter().map(|r| r.pattern.to_string()).collect();
        assert!(covered >= wanted - 0.005, "{name}: covers {covered:.4} of {wanted:.4} with {texts:?}");
        // An automatic rule has at least its target, the protocol and one condition more (decision 13).
        let most = rules.iter().map(conditions).max().unwrap_or(0).max(3);
        for rule in outcome.rules.iter().take(rules.len()) {
            assert!(
                rule.pattern.conditions().len() <= most,
                "{name}: {} has more than {most} conditions",
                rule.pattern
            );
        }
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} judged attacks in {}", folder.display());
}
