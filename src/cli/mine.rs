//! `floodwall mine`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use collectors::{Content, Decoder, IpVersion, Recording, Sample};
use detector::{Direction, Prefix, Target};
use mitigation::bgp::nlri;
use mitigation::miner::{self, Candidate, Outcome};
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Captured traffic of the attack.
    #[arg(long, value_name = "S.pcap")]
    sample: PathBuf,
    /// Captured ordinary traffic of the target.
    #[arg(long, value_name = "B.pcap")]
    baseline: Option<PathBuf>,
    /// Who is attacked: rules stay inside this prefix.
    #[arg(long)]
    target: Prefix,
    /// Rank by bytes instead of packets.
    #[arg(long)]
    by_bytes: bool,
    /// Rate of all captured traffic, packets per second.
    #[arg(long)]
    sample_pps: Option<f64>,
    /// Rate of the ordinary traffic, packets per second.
    #[arg(long)]
    baseline_pps: Option<f64>,
    /// What link or host can carry, packets per second.
    #[arg(long)]
    capacity_pps: Option<f64>,
    /// Rules at most.
    #[arg(long, default_value_t = 10)]
    max_rules: usize,
    /// Show the ranking of candidates as well.
    #[arg(long)]
    explain: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A rule as routers get it.
#[derive(Debug, Serialize)]
struct Rule {
    /// 1 IPv4, 2 IPv6.
    afi: u8,
    /// Components in hexadecimal, without the length in front.
    nlri: String,
    text: String,
    coverage: f64,
    coverage_bytes: f64,
    collateral: Option<f64>,
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Answer {
    verdict: &'static str,
    reason: String,
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranking: Vec<Rule>,
    elapsed_us: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let sample = read(&args.sample)?;
    let baseline = args.baseline.as_deref().map(read).transpose()?;
    let request = miner::Request {
        target: Target { prefix: args.target, direction: Direction::Incoming },
        sample: &sample,
        by_bytes: args.by_bytes,
        enough: 0.95,
        baseline: baseline.as_deref(),
        sample_pps: args.sample_pps,
        baseline_pps: args.baseline_pps,
        capacity_pps: args.capacity_pps,
        max_rules: args.max_rules,
        capabilities: miner::Capabilities::default(),
        excluded: Vec::new(),
    };
    let start = crate::clock::now();
    let outcome = miner::mine(&request);
    let elapsed = crate::clock::now().since(start);
    let answer = answer(&outcome, args.explain, u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))?;
    if args.json {
        super::print_json(&answer)?;
    } else {
        print(&answer);
    }
    Ok(ExitCode::SUCCESS)
}

/// All samples of a capture.
fn read(path: &Path) -> Result<Vec<Sample>> {
    let decoder = Decoder::default();
    let mut recording = Recording::open(path, Content::of(path)?, decoder)?;
    let mut samples = Vec::new();
    while recording.next(&mut samples)?.is_some() {}
    Ok(samples)
}

fn answer(outcome: &Outcome, explain: bool, elapsed_us: u64) -> Result<Answer> {
    let rules = |candidates: &[Candidate]| candidates.iter().map(rule).collect::<Result<Vec<_>>>();
    Ok(Answer {
        verdict: if outcome.rules.is_empty() { "no-rule" } else { "rules" },
        reason: outcome.verdict.to_string(),
        rules: rules(&outcome.rules)?,
        ranking: if explain { rules(&outcome.ranking)? } else { Vec::new() },
        elapsed_us,
    })
}

fn rule(candidate: &Candidate) -> Result<Rule> {
    let octets = nlri::encode(&candidate.pattern).with_context(|| candidate.pattern.to_string())?;
    let version = candidate.pattern.version().ok_or_else(|| anyhow!("a rule without its target"))?;
    Ok(Rule {
        afi: match version {
            IpVersion::V4 => 1,
            IpVersion::V6 => 2,
        },
        nlri: octets.iter().map(|o| format!("{o:02x}")).collect(),
        text: candidate.pattern.to_string(),
        coverage: candidate.coverage_packets,
        coverage_bytes: candidate.coverage_bytes,
        collateral: candidate.collateral,
        reason: candidate.reason,
    })
}

fn print(answer: &Answer) {
    println!("{}", answer.reason);
    for rule in answer.rules.iter() {
        print_rule(rule);
    }
    if !answer.ranking.is_empty() {
        println!("ranking:");
        answer.ranking.iter().for_each(print_rule);
    }
}

fn print_rule(rule: &Rule) {
    let collateral = rule.collateral.map_or_else(|| "-".to_owned(), |c| format!("{:.1} %", c * 100.0));
    println!(
        "  {:5.1} % of packets {:5.1} % of bytes, ordinary traffic {collateral:>6}: {} ({})",
        rule.coverage * 100.0,
        rule.coverage_bytes * 100.0,
        rule.text,
        rule.reason
    );
}
