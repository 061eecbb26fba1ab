//! The daemon: worker threads, the control thread, and a small runtime for BGP and HTTP.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use collectors::{Sample, Sink, Time, Workers};
use config::Config;
use detector::Meter;
use mitigation::announce::bgp::{self, PeerHandle, PeerStatus};
use mitigation::{Route, Wanted};
use tokio::sync::{oneshot, watch};

use crate::api::status::{AttackStatus, MitigationStatus, PeerStatus as PeerView, Source, Status, Volume};
use crate::api::{self, Shared};
use crate::clock;
use crate::control::{self, Caller, Outcome, act, server, show};
use crate::pipeline::{Pipeline, Request};
use crate::report::{Entry, Report};

/// The control thread's tick.
const TICK: Duration = Duration::from_millis(50);
/// Between ticks, while a bucket fills.
const COLLECT: Duration = Duration::from_millis(2);
/// The status is refreshed this often.
const REFRESH: Duration = Duration::from_millis(200);
/// Events kept for the status.
const EVENTS: usize = 200;

/// A meter behind a collector's worker.
struct MeterSink(Meter);

impl Sink for MeterSink {
    fn samples(&mut self, _: Time, batch: &[Sample]) {
        self.0.count(batch);
    }

    fn idle(&mut self, now: Time) {
        self.0.serve(now);
    }
}

/// What a daemon gets besides its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where its control socket is; none without.
    pub socket: Option<PathBuf>,
    /// Whether it must not start without it; else that it cannot be reached by words is only told.
    pub needs_socket: bool,
}

/// A request for the control thread, and where the outcome goes.
struct Job {
    request: control::Request,
    caller: Caller,
    reply: oneshot::Sender<Outcome>,
}

/// Hands requests from the control socket to the control thread.
struct Desk {
    jobs: mpsc::SyncSender<Job>,
}

impl server::Handler for Desk {
    async fn handle(&self, caller: Caller, request: control::Request) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let is_read = request.is_read();
        let (user, text) = (caller.user.clone(), format!("{request:?}"));
        self.jobs
            .try_send(Job { request, caller, reply })
            .map_err(|_| format!("{} requests are waiting already: try again", control::QUEUE))?;
        let outcome = outcome.await.unwrap_or_else(|_| Err("the daemon is stopping".into()));
        if !is_read {
            tracing::info!(user, ok = outcome.is_ok(), "{text}");
        }
        outcome
    }
}

/// A running daemon.
pub struct Daemon {
    workers: Workers,
    stop: Arc<AtomicBool>,
    control: std::thread::JoinHandle<()>,
    peers: Vec<PeerHandle>,
    http: tokio::task::JoinHandle<Result<()>>,
    socket: Option<tokio::task::JoinHandle<()>>,
    /// The newest status.
    pub status: Shared,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

/// What the control thread owns.
struct Control {
    config: Config,
    pipeline: Pipeline,
    jobs: mpsc::Receiver<Job>,
    statistics: collectors::worker::Reader,
    publish: watch::Sender<Arc<Wanted>>,
    peers: Vec<(String, watch::Receiver<PeerStatus>)>,
    sent: BTreeMap<String, Arc<BTreeSet<Route>>>,
    events: VecDeque<Entry>,
    on_event: Box<dyn FnMut(&Entry) + Send>,
    started: Time,
    status: Shared,
}

/// Opens everything, then starts; must be called inside a tokio runtime. `on_event` sees every event as it happens.
///
/// # Errors
/// A port, interface or address that cannot be opened.
pub async fn start(
    mut config: Config,
    options: Options,
    on_event: impl FnMut(&Entry) + Send + 'static,
) -> Result<Daemon> {
    let socket = open_socket(&options)?;
    let seed = clock::seed();
    config.collectors.templates_file = Some(config.state_directory.join("templates.json"));
    let worker_count = config.collectors.workers();
    let (pipeline, meters) =
        Pipeline::new(config.detector.clone(), config.mitigation.clone(), worker_count.max(1), seed);
    let listener = api::bind(config.api.listen).await?;
    let mut meters: Vec<Option<Meter>> = meters.into_iter().map(Some).collect();
    let workers = collectors::start(&config.collectors, clock::now, |i| {
        MeterSink(meters[i].take().expect("one meter per worker"))
    })?;
    for warning in &workers.warnings {
        tracing::warn!("{warning}");
    }
    let (publish, wanted) = watch::channel(Arc::new(Wanted::new()));
    let peers: Vec<PeerHandle> = config
        .mitigation
        .peers
        .iter()
        .enumerate()
        .map(|(i, peer)| {
            let (networks, protected) = (&config.mitigation.networks, &config.mitigation.protected);
            let clock: bgp::Clock = Arc::new(clock::now);
            bgp::spawn(peer.clone(), networks, protected, wanted.clone(), clock, seed ^ (i as u64 + 1))
        })
        .collect();
    let status = Shared::default();
    let stop = Arc::new(AtomicBool::new(false));
    let (jobs_in, jobs) = mpsc::sync_channel(control::QUEUE);
    let control = Control {
        config: config.clone(),
        pipeline,
        jobs,
        statistics: workers.reader(),
        publish,
        peers: peers.iter().map(|p| (p.name.clone(), p.status.clone())).collect(),
        sent: BTreeMap::new(),
        events: VecDeque::new(),
        on_event: Box::new(on_event),
        started: clock::now(),
        status: status.clone(),
    };
    let stopping = Arc::clone(&stop);
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control.run(&stopping))
        .context("cannot start the control thread")?;
    let http = tokio::spawn(api::serve(listener, status.clone()));
    let socket = socket.map(|listener| tokio::spawn(server::serve(listener, Desk { jobs: jobs_in })));
    let mode = if config.mitigation.enable_ban { "announcing" } else { "dry run: announcing nothing" };
    tracing::info!(workers = worker_count, peers = peers.len(), api = %config.api.listen, "started, {mode}");
    Ok(Daemon { workers, stop, control, peers, http, socket, status })
}

/// The control socket; without it the daemon goes on protecting, unless it was asked for by name.
fn open_socket(options: &Options) -> Result<Option<server::Listener>> {
    let Some(path) = &options.socket else { return Ok(None) };
    match server::bind(path, false) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if options.needs_socket => Err(error),
        Err(error) => {
            tracing::error!("no control socket, so the command line cannot reach this daemon: {error:#}");
            Ok(None)
        }
    }
}

impl Daemon {
    /// Sources stop, then the control thread, then BGP with CEASE.
    pub async fn stop(self) {
        if let Some(socket) = self.socket {
            socket.abort();
        }
        self.workers.stop();
        self.stop.store(true, Ordering::Release);
        let _ = tokio::task::spawn_blocking(move || self.control.join()).await;
        for peer in self.peers {
            peer.stop().await;
        }
        self.http.abort();
    }
}

/// Runs a daemon in the foreground until SIGINT or SIGTERM.
///
/// # Errors
/// See [`start`].
pub fn run_until_signal(config: Config, options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
        let daemon = start(config, options, |_| {}).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping");
        daemon.stop().await;
        Ok(())
    })
}

impl Control {
    fn run(mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        let mut refresh = next;
        while !stop.load(Ordering::Acquire) {
            let now = clock::now();
            self.watch_peers(now);
            let entries = if now >= next {
                next = now.after(TICK);
                self.pipeline.step(now)
            } else {
                self.pipeline.collect(now)
            };
            let changed = **self.publish.borrow() != *self.pipeline.wanted();
            if changed {
                self.publish.send_replace(Arc::new(self.pipeline.wanted().clone()));
            }
            entries.into_iter().for_each(|entry| self.tell(entry));
            if now >= refresh || changed {
                refresh = now.after(REFRESH);
                self.status.publish(self.describe(now));
            }
            let wait = if self.pipeline.is_collecting() { COLLECT } else { next.since(clock::now()) };
            self.serve(wait.min(TICK / 5));
        }
    }

    /// Does what callers ask for while waiting for the next tick.
    fn serve(&mut self, wait: Duration) {
        let mut job = match self.jobs.recv_timeout(wait) {
            Ok(job) => Some(job),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                // A daemon without a control socket.
                std::thread::sleep(wait);
                None
            }
        };
        while let Some(Job { request, caller, reply }) = job {
            // Whoever asked may have gone.
            let _ = reply.send(self.answer(clock::now(), &request, &caller));
            job = self.jobs.try_recv().ok();
        }
    }

    fn answer(&mut self, now: Time, request: &control::Request, caller: &Caller) -> Outcome {
        if let Some((action, arguments)) = act::find(request) {
            return (action.run)(&mut self.pipeline, now, caller, arguments);
        }
        match request {
            control::Request::Show { category, arguments } => {
                let status = self.describe(now);
                let view = show::View { now, pipeline: &self.pipeline, status: &status, config: &self.config };
                show::show(&view, category, arguments)
            }
            control::Request::Set { category, .. } | control::Request::Delete { category, .. } => {
                Err(format!("there is no category {category:?} to change").into())
            }
        }
    }

    /// Logs an event and keeps it for the status.
    fn tell(&mut self, entry: Entry) {
        (self.on_event)(&entry);
        let report = &entry.report;
        if matches!(report, Report::Candidates { .. }) {
            tracing::debug!("{report}");
        } else if report.is_warning() {
            tracing::warn!("{report}");
        } else {
            tracing::info!("{report}");
        }
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(entry);
    }

    /// Learns what peers have been sent: from then on a rule's traffic counts as filtered (decision 8).
    fn watch_peers(&mut self, now: Time) {
        let mut changed = false;
        let mut news = Vec::new();
        for (name, status) in &mut self.peers {
            if !status.has_changed().unwrap_or(false) {
                continue;
            }
            let sent = Arc::clone(&status.borrow_and_update().sent);
            let before = self.sent.insert(name.clone(), Arc::clone(&sent)).unwrap_or_default();
            changed |= before != sent;
            for route in sent.difference(&before) {
                news.push(Entry::new(now, Report::Sent { peer: name.clone(), route: route.to_string() }));
            }
        }
        if changed {
            let held = self.sent.values().flat_map(|s| s.iter().cloned()).collect();
            self.pipeline.request(Request::Held(held));
        }
        news.into_iter().for_each(|entry| self.tell(entry));
    }

    fn describe(&self, now: Time) -> Status {
        let detector = self.pipeline.detector();
        let sum = |f: fn(&detector::counters::Shard) -> &detector::counters::Traffic| {
            detector.shards().map(|s| f(s)).fold(Volume::default(), |volume, traffic| Volume {
                packets: volume.packets.wrapping_add(traffic.packets.load(Ordering::Relaxed)),
                bytes: volume.bytes.wrapping_add(traffic.bytes.load(Ordering::Relaxed)),
            })
        };
        let seen = detector.statistics();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.since(self.started).as_secs_f64(),
            dry_run: !self.pipeline.policy().config().enable_ban,
            incoming: sum(|s| &s.incoming),
            outgoing: sum(|s| &s.outgoing),
            internal: sum(|s| &s.internal),
            other: sum(|s| &s.other),
            filtered: sum(|s| &s.filtered),
            overflow: sum(|s| &s.overflow),
            active_hosts: seen.active_hosts,
            alarms: seen.alarms,
            orphaned_buckets: seen.orphaned,
            capture_drops: detector.shards().map(|s| s.capture_drops.load(Ordering::Relaxed)).sum(),
            sources: self.statistics.read().into_iter().map(source).collect(),
            attacks: detector.attacks().values().map(attack).collect(),
            mitigations: self.pipeline.policy().all().map(|m| self.mitigation(m)).collect(),
            peers: self.peers.iter().map(|(name, status)| peer(name, &status.borrow())).collect(),
            events: self.events.iter().cloned().collect(),
        }
    }

    fn mitigation(&self, m: &mitigation::Mitigation) -> MitigationStatus {
        let sent = |(_, routes): &(&String, &Arc<BTreeSet<Route>>)| routes.contains(&m.route);
        MitigationStatus {
            prefix: m.target.prefix.to_string(),
            route: m.route.to_string(),
            kind: match m.route {
                Route::FlowSpec(_) => "flowspec",
                Route::Unicast(_) => "blackhole",
            },
            dry_run: m.dry_run,
            since: m.since.as_seconds(),
            sent_to: self.sent.iter().filter(sent).map(|(name, _)| name.clone()).collect(),
            hits: self.pipeline.hits(m.target, &m.route).map(|(packets, bytes)| Volume { packets, bytes }),
        }
    }
}

fn source(worker: collectors::WorkerStatistics) -> Source {
    let is_mirror = worker.packets > 0 || worker.source.starts_with("interface");
    Source {
        name: worker.source,
        datagrams: worker.decoder.datagrams,
        flows: if is_mirror { 0 } else { worker.decoder.records },
        option_records: worker.decoder.option_records,
        packets: worker.packets,
        kernel_drops: worker.kernel_drops,
        errors: worker.decoder.errors(),
        failed: worker.failed,
    }
}

fn attack(attack: &detector::Attack) -> AttackStatus {
    AttackStatus {
        prefix: attack.target.prefix.to_string(),
        direction: attack.target.direction.name(),
        group: attack.group.clone(),
        threshold: attack.threshold_text(),
        detected: attack.detected.as_seconds(),
        packets_per_second: attack.packets_per_second,
        bytes_per_second: attack.bytes_per_second,
        peak_packets_per_second: attack.peak_packets_per_second,
    }
}

fn peer(name: &str, status: &PeerStatus) -> PeerView {
    PeerView {
        name: name.to_owned(),
        state: status.state.name(),
        families: status.families.iter().map(|f| f.name()).collect(),
        routes_sent: status.sent.len(),
        refused: status.refused.iter().map(|(route, why)| (route.to_string(), why.clone())).collect(),
        last_error: status.last_error.clone(),
        resets: status.resets,
    }
}
