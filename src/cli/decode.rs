//! `floodwall decode`

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use collectors::{Content, Decoder, Recording, Statistics, Volume};
use serde::Serialize;
use traffic::{IpVersion, Sample};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    captures: super::Captures,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "samples")]
    json: bool,
    /// Print every sample on a line of its own.
    #[arg(long)]
    samples: bool,
    /// Take the capture for this, whatever it looks like.
    #[arg(long, value_enum)]
    content: Option<Kind>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Flow exports in UDP datagrams, to any port.
    Exports,
    /// Packets, as a mirror port shows them.
    Packets,
}

/// What a capture holds.
#[derive(Debug, Serialize)]
struct Summary {
    datagrams: u64,
    records: u64,
    option_records: u64,
    counter_samples: u64,
    raw_packets: u64,
    raw_bytes: u64,
    packets: u64,
    bytes: u64,
    rates: Vec<u32>,
    /// What of the totals is no traffic, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_counted: BTreeMap<&'static str, Volume>,
    errors: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_protocol: BTreeMap<String, BTreeMap<u8, Counts>>,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    packets: u64,
    bytes: u64,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut decoder = Decoder::default();
    let mut by_protocol = BTreeMap::new();
    let mut broken = None;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for path in &args.captures.files {
        let content = match args.content {
            Some(Kind::Exports) => Content::Exports,
            Some(Kind::Packets) => Content::Packets,
            None => Content::of(path)?,
        };
        let mut recording = Recording::open(path, content, decoder)?;
        let mut samples = Vec::new();
        loop {
            samples.clear();
            match recording.next(&mut samples) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // What was read before a capture breaks off is shown all the same.
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
            for sample in &samples {
                if content == Content::Packets {
                    count(&mut by_protocol, sample);
                }
                if args.samples && writeln!(out, "{}", line(sample)).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        decoder = recording.into_decoder();
    }
    out.flush().context("cannot write")?;
    drop(out);
    let summary = summary(decoder.statistics(), by_protocol);
    if args.json {
        super::print_json(&summary)?;
    } else if !args.samples {
        print(&summary);
    }
    if let Some(error) = broken {
        eprintln!("floodwall: {error}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn count(by_protocol: &mut BTreeMap<String, BTreeMap<u8, Counts>>, sample: &Sample) {
    let version = match sample.version {
        IpVersion::V4 => "ipv4",
        IpVersion::V6 => "ipv6",
    };
    let counts = by_protocol.entry(version.to_owned()).or_default().entry(sample.protocol).or_default();
    counts.packets += sample.packets;
    counts.bytes += sample.bytes;
}

fn summary(statistics: &Statistics, by_protocol: BTreeMap<String, BTreeMap<u8, Counts>>) -> Summary {
    Summary {
        datagrams: statistics.datagrams,
        records: statistics.records,
        option_records: statistics.option_records,
        counter_samples: statistics.counter_samples,
        raw_packets: statistics.raw_packets,
        raw_bytes: statistics.raw_bytes,
        packets: statistics.packets,
        bytes: statistics.bytes,
        rates: statistics.rates().keys().copied().collect(),
        not_counted: statistics.not_counted(),
        errors: statistics.errors(),
        by_protocol,
    }
}

fn print(summary: &Summary) {
    say!("datagrams       {}", summary.datagrams);
    say!("records         {}", summary.records);
    say!("option records  {}", summary.option_records);
    say!("as exported     {} packets, {} bytes", summary.raw_packets, summary.raw_bytes);
    say!("scaled          {} packets, {} bytes", summary.packets, summary.bytes);
    let rates: Vec<String> = summary.rates.iter().map(|r| format!("1:{r}")).collect();
    say!("sampling        {}", if rates.is_empty() { "-".to_owned() } else { rates.join(", ") });
    for (version, protocols) in &summary.by_protocol {
        for (protocol, counts) in protocols {
            say!("{version} protocol {protocol:3}  {} packets, {} bytes", counts.packets, counts.bytes);
        }
    }
    for (reason, v) in &summary.not_counted {
        say!("not counted     {reason}: {} records, {} packets, {} bytes", v.records, v.packets, v.bytes);
    }
    for (reason, count) in &summary.errors {
        say!("not understood  {reason}: {count}");
    }
}

/// One sample on a line.
fn line(s: &Sample) -> String {
    let dropped = if s.dropped { " dropped" } else { "" };
    format!(
        "{:.6} {}:{} > {}:{} proto {} packets {} bytes {} length {} flags 0x{:02x} icmp {}/{} fragment 0x{:x} dscp {} rate {}{dropped}",
        s.time.as_seconds(),
        s.source_address(),
        s.source_port,
        s.destination_address(),
        s.destination_port,
        s.protocol,
        s.packets,
        s.bytes,
        s.length,
        s.tcp_flags,
        s.icmp_type,
        s.icmp_code,
        s.fragment,
        s.dscp,
        s.sampling_rate,
    )
}
