//! Rates for time series databases: `InfluxDB`'s line protocol (version 1 write API) over HTTP and Graphite's plain text over TCP,
//! under FastNetMon's measurement, field and metric names, so that dashboards made for it go on.
//!
//! ```text
//! control thread ──Snapshot, every 10 s──▶ bounded queue ──▶ export thread ──▶ InfluxDB, Graphite
//! ```
//! What a database does not take within [`PATIENCE`] is lost: rates are worth nothing late, and [`Exporter::alarms`] says so. Hosts are
//! the largest ones that the history keeps too, never all of them.
//!
//! Limits: [`QUEUE`] snapshots waiting, [`PATIENCE`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::export::{Export, Graphite, Influx};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use operator::clock;
use operator::status::Volume;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use traffic::Time;

use crate::history::writer::Rates;
use crate::notify::deliver::http;

/// Snapshots that wait at most.
pub const QUEUE: usize = 4;
/// A database takes at most this long.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is exported of one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When.
    pub time: Time,
    /// Traffic since the start: name of the direction and counters.
    pub totals: [(&'static str, Volume); 4],
    /// Rates of hosts, networks and groups, by the name of their series.
    pub rates: Vec<(String, Rates)>,
}

#[derive(Debug)]
enum Job {
    Snapshot(Box<Snapshot>),
    Configure(Box<Export>),
}

/// The control thread's end; never waits.
#[derive(Debug)]
pub struct Exporter {
    jobs: mpsc::Sender<Job>,
    alarms: Arc<Mutex<BTreeMap<&'static str, String>>>,
    is_used: bool,
}

impl Exporter {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(config: Export) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let alarms = Arc::default();
        let is_used = config.is_used();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let shared = Arc::clone(&alarms);
        std::thread::Builder::new()
            .name("export".to_owned())
            .spawn(move || {
                runtime.block_on(run(config, inbox, &shared));
                // A name server that hangs is not waited for.
                runtime.shutdown_background();
            })
            .context("cannot start the thread of exports")?;
        Ok(Self { jobs, alarms, is_used })
    }

    /// Whether anything is exported: then a snapshot is worth the while.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.is_used
    }

    /// Exports a snapshot, unless [`QUEUE`] wait already.
    pub fn give(&self, snapshot: Snapshot) {
        // The alarm of what is slow is set by the thread.
        let _ = self.jobs.try_send(Job::Snapshot(Box::new(snapshot)));
    }

    /// Another configuration is in force.
    pub fn configure(&mut self, config: Export) {
        self.is_used = config.is_used();
        let _ = self.jobs.try_send(Job::Configure(Box::new(config)));
    }

    /// What goes wrong, for the status.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.iter().map(|(to, text)| format!("rates do not reach {to}: {text}")).collect()
    }
}

async fn run(mut config: Export, mut inbox: mpsc::Receiver<Job>, alarms: &Mutex<BTreeMap<&'static str, String>>) {
    let mut before: Option<Snapshot> = None;
    while let Some(job) = inbox.recv().await {
        let snapshot = match job {
            Job::Configure(new) => {
                config = *new;
                alarms.lock().unwrap_or_else(PoisonError::into_inner).clear();
                continue;
            }
            Job::Snapshot(snapshot) => *snapshot,
        };
        let totals = before.as_ref().map(|before| totals(before, &snapshot)).unwrap_or_default();
        if let Some(influx) = &config.influx {
            told(alarms, "InfluxDB", within(write_influx(influx, lines(&snapshot, &totals))).await);
        }
        if let Some(graphite) = &config.graphite {
            told(
                alarms,
                "Graphite",
                within(write_graphite(graphite, paths(&graphite.prefix, &snapshot, &totals))).await,
            );
        }
        before = Some(snapshot);
    }
}

async fn within(write: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(PATIENCE, write)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

fn told(alarms: &Mutex<BTreeMap<&'static str, String>>, to: &'static str, result: Result<(), String>) {
    let mut alarms = alarms.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(()) => drop(alarms.remove(to)),
        Err(text) => {
            if !alarms.contains_key(to) {
                tracing::error!("rates do not reach {to}: {text}");
            }
            alarms.insert(to, text);
        }
    }
}

/// Packets and bytes per second by direction, between two snapshots.
type Totals = Vec<(&'static str, u64, u64)>;

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates of counters that only grow"
)]
fn totals(before: &Snapshot, now: &Snapshot) -> Totals {
    let seconds = now.time.since(before.time).as_secs_f64().max(0.001);
    let rate = |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds) as u64;
    let pairs = now.totals.iter().zip(&before.totals);
    pairs.map(|((name, new), (_, old))| (*name, rate(new.packets, old.packets), rate(new.bytes, old.bytes))).collect()
}

/// `InfluxDB`'s lines, with FastNetMon's names; time in seconds.
fn lines(snapshot: &Snapshot, totals: &Totals) -> String {
    let time = clock::wall(snapshot.time).0 / 1_000_000_000;
    let mut text = String::new();
    for (direction, packets, bytes) in totals {
        text.push_str(&format!("total_traffic,direction={direction} packets={packets}i,bits={}i {time}\n", bytes * 8));
    }
    for (name, [packets_in, bytes_in, packets_out, bytes_out]) in &snapshot.rates {
        let Some((kind, of)) = name.split_once(' ') else { continue };
        let v6 = if of.contains(':') { "_ipv6" } else { "" };
        let (measurement, tag) = match kind {
            "host" => (format!("hosts{v6}_traffic"), "host"),
            "network" => (format!("networks{v6}_traffic"), "network"),
            _ => ("hostgroups_traffic".to_owned(), "hostgroup"),
        };
        text.push_str(&format!(
            "{measurement},{tag}={} packets_incoming={packets_in}i,bits_incoming={}i,packets_outgoing={packets_out}i,bits_outgoing={}i {time}\n",
            of.replace([',', '=', ' '], "_"),
            bytes_in * 8,
            bytes_out * 8
        ));
    }
    text
}

/// Graphite's lines, with FastNetMon's paths; time in seconds.
fn paths(prefix: &str, snapshot: &Snapshot, totals: &Totals) -> String {
    let time = clock::wall(snapshot.time).0 / 1_000_000_000;
    let mut text = String::new();
    let mut put = |path: &str, packets: u64, bytes: u64| {
        text.push_str(&format!("{prefix}.{path}.pps {packets} {time}\n{prefix}.{path}.bps {} {time}\n", bytes * 8));
    };
    for (direction, packets, bytes) in totals {
        put(&format!("total.{direction}"), *packets, *bytes);
    }
    for (name, [packets_in, bytes_in, packets_out, bytes_out]) in &snapshot.rates {
        let Some((kind, of)) = name.split_once(' ') else { continue };
        let of = of.replace(['.', ':', '/', ' '], "_");
        put(&format!("{kind}s.{of}.incoming"), *packets_in, *bytes_in);
        put(&format!("{kind}s.{of}.outgoing"), *packets_out, *bytes_out);
    }
    text
}

async fn write_influx(influx: &Influx, body: String) -> Result<(), String> {
    let mut headers = vec![(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned())];
    if let Some((user, password)) = &influx.login {
        headers.push((AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))));
    }
    http::post(&influx.url, &headers, body.into_bytes()).await.map_err(|failure| failure.text)
}

async fn write_graphite(graphite: &Graphite, body: String) -> Result<(), String> {
    let said = |e: std::io::Error| format!("{}:{}: {e}", graphite.host, graphite.port);
    let mut stream = TcpStream::connect((graphite.host.as_str(), graphite.port)).await.map_err(said)?;
    stream.write_all(body.as_bytes()).await.map_err(said)?;
    stream.shutdown().await.map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(second: u64, packets: u64) -> Snapshot {
        let volume = Volume { packets, bytes: packets * 100 };
        Snapshot {
            time: Time::from_seconds(second, 0),
            totals: ["incoming", "outgoing", "internal", "other"].map(|name| (name, volume)),
            rates: vec![
                ("host 203.0.113.9".to_owned(), [1, 2, 3, 4]),
                ("host 2001:db8::9".to_owned(), [5, 6, 7, 8]),
                ("network 203.0.113.0/24".to_owned(), [9, 10, 11, 12]),
                ("group web".to_owned(), [13, 14, 15, 16]),
            ],
        }
    }

    #[test]
    fn names_are_fastnetmons() {
        let now = snapshot(1010, 5000);
        let totals = totals(&snapshot(1000, 1000), &now);
        let text = lines(&now, &totals);
        for line in [
            "total_traffic,direction=incoming packets=400i,bits=320000i 1010",
            "hosts_traffic,host=203.0.113.9 packets_incoming=1i,bits_incoming=16i,packets_outgoing=3i,bits_outgoing=32i 1010",
            "hosts_ipv6_traffic,host=2001:db8::9 packets_incoming=5i,bits_incoming=48i,packets_outgoing=7i,bits_outgoing=64i 1010",
            "networks_traffic,network=203.0.113.0/24 packets_incoming=9i,bits_incoming=80i,packets_outgoing=11i,bits_outgoing=96i 1010",
            "hostgroups_traffic,hostgroup=web packets_incoming=13i,bits_incoming=112i,packets_outgoing=15i,bits_outgoing=128i 1010",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        let text = paths("fastnetmon", &now, &totals);
        for line in [
            "fastnetmon.total.other.pps 400 1010",
            "fastnetmon.hosts.203_0_113_9.incoming.bps 16 1010",
            "fastnetmon.networks.203_0_113_0_24.outgoing.pps 11 1010",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn what_arrives_is_whole_and_what_does_not_is_told() {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let graphite = Graphite { host: "127.0.0.1".to_owned(), port, prefix: "x".to_owned() };
        // Nobody is behind port 9 of loopback.
        let url = "http://127.0.0.1:9/write?db=x".parse().expect("an address");
        let influx = Influx { url, login: Some(("a".to_owned(), "b".to_owned())) };
        let mut exporter =
            Exporter::start(Export { influx: Some(influx), graphite: Some(graphite.clone()) }).expect("starts");
        assert!(exporter.is_used());
        exporter.give(snapshot(1000, 1));
        let read = || {
            let (mut text, mut stream) = (String::new(), listener.accept().expect("a connection").0);
            stream.read_to_string(&mut text).expect("read");
            text
        };
        assert!(read().ends_with(" 1000\n"));
        assert!(exporter.alarms()[0].contains("InfluxDB: cannot connect"), "{:?}", exporter.alarms());
        exporter.configure(Export { influx: None, graphite: Some(graphite) });
        exporter.give(snapshot(1010, 4001));
        assert!(read().contains("x.total.incoming.pps 400 1010\n"));
        assert_eq!(exporter.alarms(), Vec::<String>::new());
    }
}
