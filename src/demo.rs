//! `floodwall demo`: the whole program on this machine's loopback, on a recorded attack.
//!
//! A daemon with embedded defaults, a minimal BGP router over real TCP, and a recorded export of an attack that is sent to the
//! daemon's ports in its own rhythm. Every line of the timeline is an event of the daemon or of the router.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bgp::Route;
use bgp::router::{self, Router};
use collectors::capture::{Datagrams, Reader};
use flowspec::{Action, Condition, Pattern, Ranges};
use operator::clock;
use operator::report::{Entry, Report};
use tokio::sync::mpsc;
use traffic::Time;

use crate::daemon;

/// What the router must hold in the end.
const VICTIM: &str = "203.0.113.9/32";
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// HTTP port, if it is free.
const API_PORT: u16 = 10007;

/// A recorded export: who made it, and the capture.
struct Export {
    name: &'static str,
    capture: &'static [u8],
    is_sflow: bool,
}

const EXPORTS: [Export; 2] = [
    Export { name: "NetFlow v9 (softflowd)", capture: include_bytes!("../pcaps/dns-netflow9.pcap"), is_sflow: false },
    Export { name: "sFlow v5 (pmacctd)", capture: include_bytes!("../pcaps/dns-sflow.pcap"), is_sflow: true },
];

/// One datagram of a recording and when it is due.
struct Datagram {
    at: Duration,
    payload: Vec<u8>,
}

/// Prints a line of the timeline.
type Print<'a> = &'a mut dyn FnMut(&str);

/// Runs the demo: the timeline goes to `print`. With `once` it returns when the router holds the rule, otherwise on Ctrl-C.
///
/// # Errors
/// Anything that keeps the rule from the router, with the reason.
pub async fn run(sflow: bool, once: bool, print: Print<'_>) -> Result<()> {
    let export = EXPORTS.iter().find(|e| e.is_sflow == sflow).context("no such recording")?;
    let datagrams = datagrams(export)?;
    let clock: bgp::tcp::Clock = Arc::new(clock::now);
    let identifier = Ipv4Addr::new(192, 0, 2, 1);
    let router = router::spawn(SocketAddr::from(([127, 0, 0, 1], 0)), 65002, identifier, clock).await?;
    let ports = [free_udp_port()?, free_udp_port()?];
    let api_port = if port_is_free(API_PORT) { API_PORT } else { 0 };
    let api_port = if api_port == 0 { free_tcp_port()? } else { api_port };
    let text = include_str!("demo.toml")
        .replace("@NETFLOW_PORT@", &ports[0].to_string())
        .replace("@SFLOW_PORT@", &ports[1].to_string())
        .replace("@BGP_PORT@", &router.address.port().to_string())
        .replace("@API_PORT@", &api_port.to_string());
    let mut config = config::check(&text).map_err(|p| anyhow!("the embedded configuration is broken: {p:?}"))?;
    let scratch = Scratch(std::env::temp_dir().join(format!("floodwall-demo-{}", std::process::id())));
    config.state_directory.clone_from(&scratch.0);
    let options = daemon::Options { state: Some(scratch.0.clone()), ..daemon::Options::default() };
    let (events_in, mut events) = mpsc::unbounded_channel();
    let daemon = daemon::start(config, options, move |entry: &Entry| {
        let _ = events_in.send(entry.clone());
    })
    .await?;
    print(&format!("daemon: NetFlow and IPFIX on UDP 127.0.0.1:{}, sFlow on UDP 127.0.0.1:{}", ports[0], ports[1]));
    print(&format!("router: BGP on TCP {}, AS 65002", router.address));
    wait_for_session(&daemon).await?;
    print("the BGP session is established");
    print(&format!("sending a recorded export of a DNS amplification, {}", export.name));
    let start = clock::now();
    let target = SocketAddr::from(([127, 0, 0, 1], ports[usize::from(sflow)]));
    let sender = tokio::task::spawn_blocking(move || send(&datagrams, target));
    let result = watch(start, &router, &mut events, print).await;
    if result.is_ok() {
        print(&format!("dashboard: http://127.0.0.1:{api_port}/"));
        print(&format!(
            "status: http://127.0.0.1:{api_port}/api/v1/status   metrics: http://127.0.0.1:{api_port}/metrics"
        ));
    }
    if once || result.is_err() {
        daemon.stop().await;
        // The sender ends by itself; a demo that is over does not wait for it.
        sender.abort();
        return result;
    }
    print("the daemon stays up; Ctrl-C ends it");
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            interrupted = &mut interrupt => {
                interrupted.context("cannot wait for Ctrl-C")?;
                daemon.stop().await;
                return Ok(());
            }
            // The timeline goes on: the attack ends, the rule is withdrawn.
            Some(entry) = events.recv() => tell(start, &entry, print),
        }
    }
}

/// A folder for the history that the dashboard shows; it goes with the demo.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Follows events until the router holds the rule.
async fn watch(
    start: Time,
    router: &Router,
    events: &mut mpsc::UnboundedReceiver<Entry>,
    print: Print<'_>,
) -> Result<()> {
    let mut routes = router.routes.clone();
    let mut announced = false;
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            entry = events.recv() => {
                let Some(entry) = entry else { bail!("the daemon ended") };
                tell(start, &entry, print);
                announced |= matches!(entry.report, Report::Announce { dry_run: None, .. });
            }
            changed = routes.changed() => {
                changed.context("the router ended")?;
                let table = routes.borrow_and_update().clone();
                let ms = clock::now().since(start).as_secs_f64() * 1000.0;
                if table.is_empty() {
                    continue;
                }
                // The rule travels faster than the log: let the daemon say first what led to it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                while let Ok(entry) = events.try_recv() {
                    tell(start, &entry, print);
                }
                for (route, attributes) in table.iter() {
                    let actions: Vec<String> = attributes.actions.iter().map(ToString::to_string).collect();
                    print(&format!("{ms:8.1} ms  the router accepted: {route} -> {}", actions.join(", ")));
                }
                let wanted = wanted_rule()?;
                let right = table.len() == 1 && table.get(&wanted).is_some_and(|a| a.actions == [Action::Discard]);
                if right {
                    return Ok(());
                }
                bail!("the router holds another rule than {wanted}");
            }
            () = &mut deadline => {
                let what = if announced { "the rule did not reach the router" } else { "no rule was announced" };
                bail!("{what} within {} s", PATIENCE.as_secs());
            }
        }
    }
}

/// Prints an event with the milliseconds since the first datagram.
fn tell(start: Time, entry: &Entry, print: Print<'_>) {
    let ms = (entry.time - start.as_seconds()) * 1000.0;
    print(&format!("{ms:8.1} ms  {}", entry.report));
}

/// Destination, UDP, source port 53.
fn wanted_rule() -> Result<Route> {
    let pattern = Pattern::new(vec![
        Condition::Destination(VICTIM.parse()?, 0),
        Condition::Protocol(Ranges::value(17)),
        Condition::SourcePort(Ranges::value(53)),
    ])?;
    Ok(Route::FlowSpec(pattern))
}

async fn wait_for_session(daemon: &daemon::Daemon) -> Result<()> {
    for _ in 0..200 {
        if daemon.status.get().peers.iter().any(|p| p.state == "established") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the BGP session did not come up within 10 s")
}

/// The datagrams of a recording, from the first one on.
fn datagrams(export: &Export) -> Result<Vec<Datagram>> {
    let mut extract = Datagrams::default();
    let mut found: Vec<(Time, Vec<u8>)> = Vec::new();
    for frame in Reader::read(Path::new(export.name), std::io::Cursor::new(export.capture))? {
        let frame = frame?;
        if let Some(link) = frame.link
            && let Some(datagram) = extract.extract(link, &frame)
        {
            found.push((frame.time, datagram.payload));
        }
    }
    let first = found.first().map(|(time, _)| *time).context("the recording is empty")?;
    Ok(found.into_iter().map(|(time, payload)| Datagram { at: time.since(first), payload }).collect())
}

/// Sends a recording in its own rhythm, once.
fn send(datagrams: &[Datagram], target: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let start = clock::now();
    for datagram in datagrams {
        std::thread::sleep(datagram.at.saturating_sub(clock::now().since(start)));
        socket.send_to(&datagram.payload, target)?;
    }
    Ok(())
}

fn free_udp_port() -> Result<u16> {
    Ok(UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?.port())
}

fn free_tcp_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?.port())
}

fn port_is_free(port: u16) -> bool {
    std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}
