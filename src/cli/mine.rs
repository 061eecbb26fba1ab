//! `floodwall mine`: the rules for a recorded attack, and why they are those.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use collectors::{Content, Decoder, Recording};
use flowspec::{Action, Capabilities, Condition, FlowSpec, nlri};
use miner::{Candidate, Outcome};
use serde::Serialize;
use traffic::{Direction, IpVersion, Prefix, Sample, Target};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Captured traffic of the attack: packets or flow exports, pcap or pcapng.
    #[arg(long, value_name = "S.pcap")]
    sample: PathBuf,
    /// Captured ordinary traffic of the target.
    #[arg(long, value_name = "B.pcap")]
    baseline: Option<PathBuf>,
    /// Who is attacked: rules stay inside this prefix.
    #[arg(long)]
    target: Prefix,
    /// The target sends the attack instead of receiving it.
    #[arg(long)]
    outgoing: bool,
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
    /// Ternary entries (TCAM) of one rule at most.
    #[arg(long, default_value_t = Capabilities::default().max_entries)]
    max_entries: u32,
    /// What the routers cannot match, comma-separated.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FEATURE,...")]
    without: Vec<Feature>,
    /// Show the ranking of candidates as well.
    #[arg(long)]
    explain: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print the rules alone in FastNetMon's JSON, one a line, as `set flowspec` takes them.
    #[arg(long, conflicts_with_all = ["json", "explain"])]
    flowspec_json: bool,
}

/// A capability that can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Feature {
    /// Source prefixes.
    Source,
    /// Packet length.
    Length,
    /// TCP flags.
    TcpFlags,
    /// The TCP flags ECE and CWR.
    EceCwr,
    /// All fragment bits.
    Fragment,
    /// Fragment bits other than is-fragment.
    OtherFragmentBits,
    /// The don't-fragment bit.
    DoNotFragment,
    /// Ranges of ports and lengths.
    Ranges,
    /// Several values in one condition.
    Lists,
    /// Source and destination port in one rule.
    TwoPorts,
    /// Ports together with fragment bits.
    PortsWithFragment,
}

fn capabilities(args: &Args) -> Capabilities {
    let has = |feature| !args.without.contains(&feature);
    Capabilities {
        source: has(Feature::Source),
        length: has(Feature::Length),
        tcp_flags: has(Feature::TcpFlags),
        tcp_flag_bits: if has(Feature::EceCwr) { 0xff } else { 0x3f },
        fragment: has(Feature::Fragment),
        fragment_bits: if has(Feature::OtherFragmentBits) { 0x0f } else { 0x02 },
        do_not_fragment: has(Feature::DoNotFragment),
        ranges: has(Feature::Ranges),
        lists: has(Feature::Lists),
        two_ports: has(Feature::TwoPorts),
        ports_with_fragment: has(Feature::PortsWithFragment),
        max_entries: args.max_entries,
        ..Capabilities::default()
    }
}

/// A rule as routers get it.
#[derive(Debug, Serialize)]
struct Rule {
    /// 1 IPv4, 2 IPv6.
    afi: u8,
    /// Components in hexadecimal, without the length in front.
    nlri: String,
    text: String,
    /// Packets and bytes of the sample that it matches, scaled by sampling.
    packets: u64,
    bytes: u64,
    coverage: f64,
    coverage_bytes: f64,
    collateral: Option<f64>,
    /// Upper 95 % bound.
    collateral_bound: Option<f64>,
    /// Ternary entries.
    entries: u64,
    reason: &'static str,
    /// Conditions beside the target, as the ranking shows them.
    #[serde(skip)]
    conditions: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    verdict: &'static str,
    reason: String,
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranking: Vec<Rule>,
    /// What it took to prepare the ordinary traffic, which the daemon does when it raises the alarm.
    prepare_us: u64,
    /// What it took to mine.
    elapsed_us: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let direction = if args.outgoing { Direction::Outgoing } else { Direction::Incoming };
    let target = Target { prefix: args.target, direction };
    let sample = read(&args.sample)?;
    anyhow::ensure!(
        sample.iter().any(|s| target.covers(s)),
        "{}: none of {} packets or flow records is {} traffic of {}; `floodwall decode` shows what the capture holds",
        args.sample.display(),
        sample.len(),
        direction,
        args.target
    );
    let ordinary = args.baseline.as_deref().map(read).transpose()?;
    let start = operator::clock::now();
    let baseline = ordinary.map(|samples| miner::Baseline::new(target, samples));
    let prepared = operator::clock::now().since(start);
    let request = miner::Request {
        target,
        sample: &sample,
        by_bytes: args.by_bytes,
        enough: 0.95,
        baseline: baseline.as_ref(),
        sample_pps: args.sample_pps,
        baseline_pps: args.baseline_pps,
        capacity_pps: args.capacity_pps,
        max_rules: args.max_rules,
        capabilities: capabilities(args),
        excluded: Vec::new(),
    };
    let start = operator::clock::now();
    let outcome = miner::mine(&request);
    let elapsed = operator::clock::now().since(start);
    let microseconds = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let answer = answer(&outcome, args.explain, (microseconds(prepared), microseconds(elapsed)))?;
    if args.flowspec_json {
        print_flowspec(&outcome);
    } else if args.json {
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

fn answer(outcome: &Outcome, explain: bool, (prepare_us, elapsed_us): (u64, u64)) -> Result<Answer> {
    let rules = |candidates: &[Candidate]| candidates.iter().map(rule).collect::<Result<Vec<_>>>();
    Ok(Answer {
        verdict: if outcome.rules.is_empty() { "no-rule" } else { "rules" },
        reason: outcome.verdict.to_string(),
        rules: rules(&outcome.rules)?,
        ranking: if explain { rules(&outcome.ranking)? } else { Vec::new() },
        prepare_us,
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
        packets: candidate.packets,
        bytes: candidate.bytes,
        coverage: candidate.coverage_packets,
        coverage_bytes: candidate.coverage_bytes,
        collateral: candidate.collateral,
        collateral_bound: candidate.collateral_bound,
        entries: candidate.entries,
        reason: candidate.reason,
        conditions: conditions(candidate),
    })
}

/// `source-port=53 protocol=udp`: the conditions beside the target, the most telling first.
fn conditions(candidate: &Candidate) -> String {
    let shown = candidate.pattern.conditions().iter().rev();
    let beside = shown.filter(|c| !matches!(c, Condition::Destination(prefix, _) if prefix.is_host()));
    beside.map(|c| c.to_string().replacen(' ', "=", 1)).collect::<Vec<_>>().join(" ")
}

fn print(answer: &Answer) {
    say!("{}", answer.reason);
    answer.rules.iter().for_each(|rule| {
        say!("  {}", rule.text);
        say!("    {}", figures(rule));
    });
    if !answer.ranking.is_empty() {
        say!("ranking:");
        for rule in &answer.ranking {
            say!(
                "- {} {} packets {} bytes: {} ({})",
                rule.conditions,
                rule.packets,
                rule.bytes,
                figures(rule),
                rule.reason
            );
        }
    }
}

fn figures(rule: &Rule) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let ordinary = match (rule.collateral, rule.collateral_bound) {
        (Some(share), Some(bound)) => format!("{} of ordinary traffic (at most {})", percent(share), percent(bound)),
        _ => "ordinary traffic not known".to_owned(),
    };
    let entries = if rule.entries == 1 { "ternary entry" } else { "ternary entries" };
    format!(
        "{} of packets, {} of bytes, {ordinary}, {} {entries}",
        percent(rule.coverage),
        percent(rule.coverage_bytes),
        rule.entries
    )
}

fn print_flowspec(outcome: &Outcome) {
    for candidate in &outcome.rules {
        let rule = FlowSpec { pattern: candidate.pattern.clone(), actions: vec![Action::Discard] };
        say!("{}", flowspec::json::to_value(&rule));
    }
}
