//! `floodwall notify test`: a message to the channels of a configuration, now, with what became of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bgp::Route;
use config::notify::{Channel, Event};
use detector::Evidence;
use flowspec::{Condition, Pattern, Ranges};
use operator::clock;
use operator::report::{Entry, Rate, Report, Threshold};
use policy::DryRun;
use reporting::notify::{Facts, Message, deliver};
use serde::Serialize;
use traffic::{Direction, Origin, Prefix, Sample, Target, Time};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Args {
    /// Send a test message to every channel, or to those named; fails if one does not take it.
    Test(TestArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Channels: `notify_script`, `web_callback`, `email`, or the NAME of a [notify.NAME] table.
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// The configuration file.
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// What to tell of.
    #[arg(long, default_value = "ban", value_parser = ["ban", "unban", "partial_block", "partial_unblock", "attack_detected",
        "attack_finished", "warning"])]
    event: String,
    /// The address to tell of; it is not touched.
    #[arg(long, default_value = "192.0.2.1")]
    ip: std::net::IpAddr,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Outcome {
    channel: String,
    delivered: bool,
    error: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Args::Test(args) = args;
    let Some(config) = super::load(&args.config)? else { return Ok(ExitCode::FAILURE) };
    let known = || config.notify.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    if config.notify.is_empty() {
        bail!("{} tells nobody: set notify_script_enabled, or add a [notify.NAME] table", args.config.display());
    }
    if let Some(unknown) = args.channels.iter().find(|name| !config.notify.iter().any(|c| c.name == **name)) {
        bail!("there is no channel {unknown}: {}", known());
    }
    let wanted = |c: &&Channel| args.channels.is_empty() || args.channels.contains(&c.name);
    let message = Arc::new(test_message(&args.event, args.ip, clock::now())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let mut outcomes = Vec::new();
    for channel in config.notify.iter().filter(wanted) {
        let messages = [Arc::clone(&message)];
        let error = runtime.block_on(deliver::deliver(channel, &messages, true)).err().map(|f| f.text);
        if !args.json {
            say!("{}: {}", channel.name, error.as_deref().unwrap_or("delivered"));
        }
        outcomes.push(Outcome { channel: channel.name.clone(), delivered: error.is_none(), error });
    }
    runtime.shutdown_background();
    if args.json {
        super::print_json(&outcomes)?;
    }
    Ok(if outcomes.iter().all(|o| o.delivered) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A message that says of itself that it is a test, made the way real ones are.
fn test_message(event: &str, ip: std::net::IpAddr, now: Time) -> Result<Message> {
    let target = Target { prefix: Prefix::host(ip), direction: Direction::Incoming };
    let conditions = vec![
        Condition::Destination(target.prefix, 0),
        Condition::Protocol(Ranges::value(17)),
        Condition::SourcePort(Ranges::value(53)),
    ];
    let (rule, blackhole) = (Route::FlowSpec(Pattern::new(conditions)?), Route::Unicast(target.prefix));
    let announce = |route: Route, action: &str| Report::Announce {
        target,
        route,
        action: action.to_owned(),
        coverage: 1.0,
        dry_run: None::<DryRun>,
        advice: None,
    };
    let withdraw = |route: Route| Report::Withdraw { target, route, dry_run: None };
    let Some(event) = Event::ALL.into_iter().find(|e| e.name() == event) else { bail!("there is no event {event}") };
    let packets = |per_second| Rate { unit: detector::Unit::Packets, per_second };
    let report = match event {
        Event::Ban => announce(blackhole, "blackhole 65535:666"),
        Event::Unban => withdraw(blackhole),
        Event::PartialBlock => announce(rule, "discard"),
        Event::PartialUnblock => withdraw(rule),
        Event::AttackDetected => Report::Alarm {
            target,
            group: "global".to_owned(),
            threshold: Threshold { key: "threshold_pps".to_owned(), rate: packets(20_000) },
            rate: packets(100_000),
            evidence: Evidence::default(),
            started: now.as_seconds(),
            scope: detector::Scope::Host,
            returns: 0,
        },
        Event::AttackFinished => Report::Over {
            target,
            duration_ms: 60_000,
            peak_packets_per_second: 100_000,
            peak_bytes_per_second: 125_000_000,
        },
        Event::Warning => Report::Silence,
    };
    let mut sample = Sample::empty(now, target.prefix.version(), Origin::Packet);
    (sample.destination, sample.protocol) = (target.prefix.bits(), 17);
    (sample.source_port, sample.length, sample.packets, sample.bytes) = (53, 1200, 1, 1200);
    let mut message = Message::of(&Entry::new(now, report), event, &Facts::default(), &[sample]);
    let summary = message.variables.entry("summary".to_owned()).or_default();
    *summary = format!("TEST, nothing happened: {summary}");
    Ok(message)
}
