#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command line")]
#![allow(clippy::disallowed_methods, reason = "it measures")]
//! The API under load beside flow telemetry, all on loopback:
//!
//! `cargo build --release --bin floodwall --example api_load && target/release/examples/api_load [SECONDS]`
//!
//! A daemon of its own gets 100,000 `NetFlow` v5 records a second of 10,000 own hosts, while 100 clients read the event stream and
//! 10 connections ask 20 times a second each, every view of the dashboard in turn. At the end: records lost, latencies of the API,
//! and how its memory grew. It fails if a record is lost or p99 is above 50 ms.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const FLOWS_PER_SECOND: u64 = 100_000;
const HOSTS: u32 = 10_000;
const STREAMS: usize = 100;
const CONNECTIONS: usize = 10;
const REQUESTS_PER_SECOND: u64 = 200;
/// Records of a datagram.
const RECORDS: u16 = 30;

const PATHS: [&str; 12] = [
    "/api/v1/status",
    "/api/v1/totals",
    "/api/v1/hosts?limit=100",
    "/api/v1/hosts/10.0.3.7",
    "/api/v1/attacks",
    "/api/v1/rules",
    "/api/v1/exporters",
    "/api/v1/hostgroups",
    "/api/v1/history/attacks",
    "/api/v1/history/series?name=total&seconds=3600",
    "/api/v1/history/series?name=host%2010.0.3.7&seconds=3600",
    "/metrics",
];

/// A folder and a daemon that end with this.
struct Daemon {
    child: Child,
    folder: PathBuf,
    api: SocketAddr,
    netflow: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn start() -> Result<Daemon> {
    let program = std::env::current_exe()?;
    let program =
        program.parent().and_then(Path::parent).context("it stands in target/release/examples")?.join("floodwall");
    let folder = std::env::temp_dir().join(format!("floodwall-api-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let free = || -> Result<SocketAddr> { Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?) };
    let (netflow, api) = (free()?, free()?);
    let config = format!(
        "[main]\nnetworks_list = [\"10.0.0.0/16\"]\nnetflow = true\nnetflow_host = \"127.0.0.1\"\nnetflow_ports = [{}]\n\
         logging_level = \"warn\"\n[hostgroup.global]\nthreshold_pps = 10000000\nthreshold_mbps = 1000000\n\
         [api]\nlisten = \"{api}\"\n[state]\ndirectory = {folder:?}\n",
        netflow.port()
    );
    let file = folder.join("config.toml");
    std::fs::write(&file, config)?;
    let mut command = Command::new(&program);
    command.arg("run").arg("--config").arg(&file).arg("--state-dir").arg(&folder);
    command.arg("--socket").arg(folder.join("control.sock"));
    let child = command.spawn().with_context(|| format!("cannot start {}: build it first", program.display()))?;
    let daemon = Daemon { child, folder, api, netflow };
    for _ in 0..500 {
        if TcpStream::connect(daemon.api).is_ok() {
            return Ok(daemon);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the daemon does not answer")
}

/// A datagram of `NetFlow` v5 whose records are one packet each to hosts in turn.
fn datagram(sequence: u32, started: Instant) -> Vec<u8> {
    let uptime = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX) + 60_000;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut octets = Vec::with_capacity(24 + 48 * usize::from(RECORDS));
    octets.extend(5u16.to_be_bytes());
    octets.extend(RECORDS.to_be_bytes());
    for word in [uptime, u32::try_from(now.as_secs()).unwrap_or_default(), now.subsec_nanos(), sequence, 0] {
        octets.extend(word.to_be_bytes());
    }
    for i in 0..u32::from(RECORDS) {
        let number = sequence.wrapping_add(i);
        let host = 0x0a00_0000 + number % HOSTS;
        // Source, destination, next hop, interfaces, packets, bytes, first, last, ports.
        for word in [0xc633_6400 + number % 251, host, 0, 0x0001_0002, 1, 500, uptime - 10, uptime] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend((u32::from(443u16) << 16 | (1024 + number % 60_000)).to_be_bytes());
        octets.extend([0, 0x10, 6, 0]);
        octets.extend([0; 8]);
    }
    octets
}

/// Sends until told to stop; how many records.
fn send(to: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (started, mut sent) = (Instant::now(), 0u64);
    while !stop.load(Ordering::Acquire) {
        let due = u64::try_from(started.elapsed().as_micros())? * FLOWS_PER_SECOND / 1_000_000;
        while sent < due {
            socket.send_to(&datagram(u32::try_from(sent & 0xffff_ffff)?, started), to)?;
            sent += u64::from(RECORDS);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(sent)
}

/// Reads the event stream; counts its events.
fn stream(api: SocketAddr, events: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut socket = TcpStream::connect(api)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(socket, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut line = String::new();
    let mut reader = BufReader::new(socket);
    while !stop.load(Ordering::Acquire) {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("an event stream ended");
        }
        if line.starts_with("event:") {
            events.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// One request on a connection that stays; the answer's status.
fn ask(reader: &mut BufReader<TcpStream>, path: &str) -> Result<u16> {
    // In one segment: pieces would wait for each other's acknowledgements.
    reader.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (mut line, mut length, mut status) = (String::new(), 0usize, 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("the connection ended");
        }
        if status == 0 {
            status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("a status")?;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::copy(&mut reader.by_ref().take(u64::try_from(length)?), &mut std::io::sink())?;
    Ok(status)
}

/// Asks in its rhythm; latencies in milliseconds, and answers that were none.
fn client(api: SocketAddr, first: usize, stop: &AtomicBool) -> Result<(Vec<f64>, u64)> {
    let mut reader = BufReader::new(TcpStream::connect(api)?);
    let gap = Duration::from_micros(1_000_000 * CONNECTIONS as u64 / REQUESTS_PER_SECOND);
    let (mut latencies, mut failed) = (Vec::new(), 0);
    let mut due = Instant::now() + gap * u32::try_from(first)? / u32::try_from(CONNECTIONS)?;
    for path in PATHS.iter().cycle().skip(first) {
        if stop.load(Ordering::Acquire) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // From when it was due: a slow answer must not hide those behind it.
        let status = ask(&mut reader, path)?;
        latencies.push(due.elapsed().as_secs_f64() * 1000.0);
        failed += u64::from(status != 200);
        due += gap;
    }
    Ok((latencies, failed))
}

/// Resident memory in kB.
fn resident(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn metric(api: SocketAddr, name: &str) -> Result<u64> {
    let mut socket = TcpStream::connect(api)?;
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let of = |l: &&str| l.split(['{', ' ']).next() == Some(name);
    let values = text.lines().filter(of).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
    Ok(values.sum::<f64>() as u64)
}

fn run(seconds: u64) -> Result<bool> {
    let daemon = start()?;
    let (api, pid) = (daemon.api, daemon.child.id());
    let stop = Arc::new(AtomicBool::new(false));
    let events = Arc::new(AtomicU64::new(0));
    let netflow = daemon.netflow;
    let sender = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || send(netflow, &stop))
    };
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let (events, stop) = (Arc::clone(&events), Arc::clone(&stop));
            std::thread::spawn(move || stream(api, &events, &stop))
        })
        .collect();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|i| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || client(api, i, &stop))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds / 3));
    let settled = resident(pid)?;
    std::thread::sleep(Duration::from_secs(seconds - seconds / 3));
    let (last, active) = (resident(pid)?, metric(api, "floodwall_hosts_active")?);
    stop.store(true, Ordering::Release);
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))??;
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for client in clients {
        let (some, none) = client.join().map_err(|_| anyhow::anyhow!("a client failed"))??;
        latencies.extend(some);
        failed += none;
    }
    for stream in streams {
        stream.join().map_err(|_| anyhow::anyhow!("a stream failed"))??;
    }
    std::thread::sleep(Duration::from_secs(1));
    let counted = metric(api, "floodwall_flows_total")?;
    latencies.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{sent} records sent in {seconds} s, {counted} counted, {} lost; {active} hosts active in the last tick",
        sent.saturating_sub(counted),
    );
    println!(
        "{} requests, {failed} not answered with 200; latency p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms; {} events to {STREAMS} streams",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        events.load(Ordering::Relaxed)
    );
    println!(
        "resident memory {:.1} MB after a third of the time, {:.1} MB at the end",
        settled as f64 / 1024.0,
        last as f64 / 1024.0
    );
    Ok(counted >= sent && failed == 0 && at(0.99) < 50.0)
}

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |s| s.parse());
    let Ok(seconds @ 3..=3600) = seconds else {
        eprintln!("usage: api_load [SECONDS]");
        return ExitCode::from(2);
    };
    match run(seconds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("api_load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
