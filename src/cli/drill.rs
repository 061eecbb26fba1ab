//! `floodwall drill`: a synthetic attack on a canary address, through exporter port, detector, miner and router, timed step by
//! step, and withdrawn at the end.
//!
//! The attack consists of flow records only (`NetFlow` v5 to the daemon's own port on this machine): no packet reaches the canary.
//! In dry run it ends with the rule that would be announced.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::Config;
use detector::{Class, Measure, Unit};
use operator::order::RouteName;
use operator::{Envelope, Order, Request, clock, table};
use serde::Serialize;
use serde_json::Value;
use traffic::{Direction, Networks, Prefix, Time};

use crate::control;
use crate::control::client::Client;

/// Packets that a record of the attack stands for.
const RECORD_PACKETS: u32 = 20;
/// Bytes of each of its packets, as in a DNS amplification.
const PACKET_BYTES: u32 = 1200;
/// Records of a datagram.
const RECORDS: u16 = 30;
/// Records are sent in slices of this.
const SLICE: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An own IPv4 address that carries no traffic.
    #[arg(long)]
    canary: Ipv4Addr,
    /// Packets per second of the attack; else five times the canary's threshold.
    #[arg(long)]
    pps: Option<u64>,
    /// Seconds after which the drill has failed.
    #[arg(long, default_value_t = 30)]
    patience: u64,
    #[command(flatten)]
    options: super::words::Options,
}

/// A step and when it was done, in milliseconds from the first record.
#[derive(Debug, Clone, Serialize)]
struct Step {
    step: &'static str,
    at_ms: Option<f64>,
    what: String,
}

/// A conversation with the daemon.
struct Daemon(Client);

impl Daemon {
    fn ask(&mut self, request: Request) -> Result<Value> {
        let reason = Some("drill".to_owned());
        let outcome = self.0.ask(&Envelope::new(request, reason, None))?;
        outcome.map(|answer| answer.json).map_err(|failure| anyhow::anyhow!(failure.text))
    }

    fn show(&mut self, category: &str) -> Result<Value> {
        self.ask(Request::Show { category: category.to_owned(), arguments: Vec::new() })
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let socket = control::socket_path(args.options.socket.as_ref());
    let mut daemon = Daemon(Client::connect(&socket)?);
    let running = daemon.show("running")?;
    let text = running["text"].as_str().context("the daemon shows no configuration")?;
    let config = config::check(text).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let target = Prefix::host(IpAddr::V4(args.canary));
    let (port, pps) = plan(&config, target, args.pps)?;
    if about(&daemon.show("status")?["attacks"], target).next().is_some() {
        bail!("{} is under attack: choose an address that carries no traffic", args.canary);
    }
    let (steps, passed) = drill(&mut daemon, args, target, port, pps)?;
    if args.options.json {
        super::print_json(
            &serde_json::json!({ "canary": args.canary, "packets_per_second": pps, "passed": passed, "steps": steps }),
        )?;
    } else {
        let row = |s: &Step| {
            let at = s.at_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
            vec![at, s.step.to_owned(), s.what.clone()]
        };
        super::print_text(&table(&["AT", "STEP", ""], &steps.iter().map(row).collect::<Vec<_>>()))?;
        super::print_text(if passed { "the drill passed" } else { "THE DRILL FAILED" })?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where to send, and how much; says what keeps a drill from meaning anything.
fn plan(config: &Config, target: Prefix, pps: Option<u64>) -> Result<(SocketAddr, u64)> {
    if !Networks::new(&config.detector.networks).contain(&target) {
        bail!("{target} is outside networks_list: the canary must be one of your addresses");
    }
    let is_silenced = |w: &detector::Whitelisted| !w.is_about_traffic() && Networks::new(&w.networks).contain(&target);
    if config.detector.whitelist.iter().any(is_silenced) {
        bail!("{target} is in networks_whitelist: it never alarms");
    }
    if Networks::new(&config.mitigation.protected).overlap(&target) {
        bail!("{target} is in protected_networks: no rule may touch it");
    }
    // Any listener understands every protocol.
    let listener =
        config.collectors.listeners.first().context("nothing listens for flow exports: set main netflow enable")?;
    let mut port = listener.address;
    if port.ip().is_unspecified() {
        port.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let membership = detector::Membership::new(&config.detector.groups);
    let group = &config.detector.groups[membership.group_of(target.version(), target.bits())];
    let measure = |unit| (Direction::Incoming, Measure { class: Class::Total, unit });
    let by_packets = group.thresholds.get(&measure(Unit::Packets)).copied();
    let by_bytes = group.thresholds.get(&measure(Unit::Bytes)).map(|bytes| bytes / u64::from(PACKET_BYTES));
    let threshold = by_packets.into_iter().chain(by_bytes).min();
    let threshold = threshold.with_context(|| format!("host group {} has no total threshold in force", group.name))?;
    Ok((port, pps.unwrap_or_else(|| threshold.saturating_mul(5).max(1000))))
}

/// Entries of a status list that are about a host.
fn about(list: &Value, target: Prefix) -> impl Iterator<Item = &Value> {
    let name = target.to_string();
    list.as_array().into_iter().flatten().filter(move |entry| entry["prefix"].as_str() == Some(&name))
}

fn drill(daemon: &mut Daemon, args: &Args, target: Prefix, port: SocketAddr, pps: u64) -> Result<(Vec<Step>, bool)> {
    let socket = UdpSocket::bind((if port.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).context("cannot open a socket")?;
    let start = clock::now();
    let mut steps = vec![Step {
        step: "attack",
        at_ms: Some(0.0),
        what: format!("{pps} packets/s of DNS answers to {}, as flow records to {port}", args.canary),
    }];
    let mut sent = 0u64;
    let mut sequence = 0u32;
    let mut is_dry = false;
    let deadline = start.after(Duration::from_secs(args.patience.clamp(1, 600)));
    let mut passed = false;
    while clock::now() < deadline && !passed {
        let elapsed = clock::now().since(start);
        let due = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_mul(pps) / 1_000_000;
        while sent < due {
            socket.send_to(&datagram(args.canary, sequence), port).with_context(|| format!("cannot send to {port}"))?;
            sequence = sequence.wrapping_add(u32::from(RECORDS));
            sent += u64::from(RECORDS) * u64::from(RECORD_PACKETS);
        }
        let events = daemon.show("events")?;
        passed = follow(&events, target, start, &mut steps, &mut is_dry);
        std::thread::sleep(SLICE);
    }
    if !passed {
        steps.push(Step { step: "missing", at_ms: None, what: advice(&steps).to_owned() });
    }
    withdraw(daemon, target, start, &mut steps)?;
    Ok((steps, passed))
}

/// Adds what has happened to the canary since the start; true when nothing more is to come.
fn follow(events: &Value, target: Prefix, start: Time, steps: &mut Vec<Step>, is_dry: &mut bool) -> bool {
    let (name, host) = (target.to_string(), target.to_string());
    for event in events.as_array().into_iter().flatten() {
        let time = event["time"].as_f64().unwrap_or(0.0);
        if time < start.as_seconds() {
            continue;
        }
        let of_target = event["target"]["prefix"].as_str() == Some(&name);
        let route = event["route"].as_str().unwrap_or("");
        let (step, what) = match event["event"].as_str() {
            Some("alarm") if of_target => ("alarm", event["rate"].as_str().unwrap_or("").to_owned()),
            Some("bucket_full") if of_target => ("sample", format!("{} samples", event["samples"])),
            Some("candidates") if of_target => ("mined", event["verdict"].as_str().unwrap_or("").to_owned()),
            Some("announce") if of_target => {
                *is_dry = !event["dry_run"].is_null();
                (if *is_dry { "would announce" } else { "announce" }, route.to_owned())
            }
            Some("sent") if route.contains(&host) => {
                ("router", format!("sent to {}", event["peer"].as_str().unwrap_or("?")))
            }
            _ => continue,
        };
        if steps.iter().all(|s| s.step != step || s.what != what) {
            steps.push(Step { step, at_ms: Some((time - start.as_seconds()) * 1000.0), what });
        }
    }
    steps.iter().any(|s| s.step == "router") || *is_dry && steps.iter().any(|s| s.step == "would announce")
}

/// What probably keeps the next step from happening.
fn advice(steps: &[Step]) -> &'static str {
    match steps.last().map(|s| s.step) {
        Some("attack") => {
            "no alarm: is this machine's address allowed as an exporter (show exporters), and is the threshold in force?"
        }
        Some("alarm") => "no sample: is bucket_traffic_collection_timeout too short?",
        Some("sample" | "mined") => "no rule was announced: show events says why it was refused",
        _ => "no peer was sent the rule: floodwall show bgp, floodwall doctor",
    }
}

/// Ends what the drill began.
fn withdraw(daemon: &mut Daemon, target: Prefix, start: Time, steps: &mut Vec<Step>) -> Result<()> {
    let routes = |status: &Value| -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        about(&status["mitigations"], target).map(|m| (text(&m["kind"]), text(&m["route"]))).collect()
    };
    for (kind, route) in routes(&daemon.show("status")?) {
        let argument = if kind == "blackhole" { target.address().to_string() } else { route.clone() };
        let Some(name) = RouteName::new(&argument) else { continue };
        let reason = None;
        let is_rule = kind == "flowspec";
        let order = if is_rule { Order::EndRule { name, reason } } else { Order::EndBlackhole { name, reason } };
        let request = Request::Order(order);
        if let Err(error) = daemon.ask(request) {
            steps.push(Step { step: "left", at_ms: None, what: format!("{route}: {error:#}") });
        }
    }
    for _ in 0..500 {
        if routes(&daemon.show("status")?).is_empty() {
            let at = clock::now().since(start).as_secs_f64() * 1000.0;
            steps.push(Step {
                step: "withdrawn",
                at_ms: Some(at),
                what: "nothing of the drill is announced any more".to_owned(),
            });
            return Ok(());
        }
        std::thread::sleep(SLICE);
    }
    bail!("rules of the drill are still there: floodwall show flowspec, floodwall delete flowspec RULE");
}

/// A `NetFlow` v5 datagram: header of 24 octets, records of 48.
fn datagram(canary: Ipv4Addr, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + 48 * usize::from(RECORDS));
    bytes.extend(5u16.to_be_bytes());
    bytes.extend(RECORDS.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; 4]);
    for i in 0..RECORDS {
        let mut record = [0; 48];
        // TEST-NET-2 (RFC 5737): no real resolver is named.
        let last = u8::try_from((sequence + u32::from(i)) % 250).unwrap_or(0);
        record[..4].copy_from_slice(&[198, 51, 100, last]);
        record[4..8].copy_from_slice(&canary.octets());
        record[16..20].copy_from_slice(&RECORD_PACKETS.to_be_bytes());
        record[20..24].copy_from_slice(&(RECORD_PACKETS * PACKET_BYTES).to_be_bytes());
        record[32..34].copy_from_slice(&53u16.to_be_bytes());
        record[34..36].copy_from_slice(&(20_000 + i).to_be_bytes());
        record[38] = traffic::sample::protocol::UDP;
        bytes.extend(record);
    }
    bytes
}
