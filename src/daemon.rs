//! The daemon: worker threads, the control thread, and a small runtime for BGP and HTTP.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use api::site::Ask;
use api::tokens::Tokens;
use api::{Http, Opening, Site};
use bgp::tcp::{Feed, Peers};
use bgp::{Classes, OnShutdown, Wanted, exabgp};
use collectors::Workers;
use config::Config;
use detector::Meter;
use operator::clock;
use operator::report::Entry;
use operator::request::QUEUE;
use operator::status::{Latest, Status};
use policy::rails::{Rails, Space};
use reporting::case::Case;
use reporting::export::Exporter;
use reporting::history::{Recorder, Retention};
use reporting::notify::{self, Notifier};
use tokio::sync::{mpsc as queue, watch};
use traffic::Time;

use crate::announcers::Announcers;
use crate::control::audit::Audit;
use crate::control::configuration::Configuration;
use crate::control::desk::Desk;
use crate::control::server;
use crate::control::thread::{Control, Halt};
use crate::enforcer::local::Local;
use crate::exporters::Watch;
use crate::learned::Keeper;
use crate::pipeline::Pipeline;
use crate::plant::{Job, MeterSink, Plant};
use crate::store::Store;
use crate::telling::{Called, Listener, Log, Telling};

/// Cases that wait to be written at most.
const CASES: usize = 64;

/// What a daemon gets besides its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where its control socket is; none without.
    pub socket: Option<PathBuf>,
    /// Whether it must not start without it; else that it cannot be reached by words is only told.
    pub needs_socket: bool,
    /// Its configuration file and the text that was read from it: commits write there.
    pub file: Option<(PathBuf, String)>,
    /// Where its state is; without it a restart forgets what was announced.
    pub state: Option<PathBuf>,
    /// Whether it must not start without it; else that nothing is durable is only told.
    pub needs_state: bool,
}

/// A running daemon.
pub struct Daemon {
    stop: Arc<AtomicBool>,
    control: std::thread::JoinHandle<()>,
    desk: Desk,
    halt: Arc<Halt>,
    pid_file: Option<PathBuf>,
    exabgp: Option<tokio::task::JoinHandle<()>>,
    socket: Option<tokio::task::JoinHandle<()>>,
    /// The newest status.
    pub status: Latest,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("socket", &self.socket.is_some()).finish_non_exhaustive()
    }
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
    config.collectors.templates_file = Some(config.state_directory.join("templates.json"));
    let socket = open_socket(&options, config.control_socket_others_may_read)?;
    let (worker_count, seed) = (config.collectors.workers(), clock::seed());
    let (mut pipeline, meters) =
        Pipeline::new(config.detector.clone(), config.mitigation.clone(), worker_count.max(1), seed);
    let mut front = Front::open(&options, &config).await?;
    let workers = start_workers(&config, meters)?;
    let now = clock::now();
    let past = Past::restore(&options, &mut pipeline, now)?;
    let restored = past.restored;
    let routers = Routers::start(&config, &pipeline, past.store, restored, seed).await?;
    let notifier = Arc::new(open_notifier(&options, &config, &pipeline)?);
    let halt = Arc::new(Halt { asked: AtomicBool::new(false), peers: routers.shared });
    let (jobs_in, jobs) = mpsc::sync_channel(QUEUE);
    let control = Control {
        config: config.clone(),
        pipeline,
        jobs,
        exporters: Watch::default(),
        statistics: workers.reader(),
        announcers: routers.announcers,
        acted: Vec::new(),
        halt: Arc::clone(&halt),
        cases: write_cases(config.state_directory.join("cases"))?,
        telling: listeners(on_event, &front, &notifier),
        recorder: front.recorder.take(),
        learned: past.learned,
        notifier,
        exporter: Exporter::start(config.export.clone())?,
        started: now,
        status: front.status.clone(),
    };
    front.http.apply(front.opening);
    tokio::spawn(api::tick(front.site));
    let plant =
        Plant { config: config.clone(), workers, peers: routers.peers, jobs: jobs_in.clone(), http: front.http };
    let pid_file = write_pid(&options);
    let stop = Arc::new(AtomicBool::new(false));
    let control = run_control(control, &stop)?;
    let desk = open_desk(options, &config, plant, jobs_in, front.tokens, front.status.clone());
    tokio::spawn(desk.clone().serve(front.asks));
    let socket = socket.map(|listener| tokio::spawn(server::serve(listener, desk.clone())));
    let mode = if config.mitigation.enable_ban { "announcing" } else { "dry run: announcing nothing" };
    let peers = config.mitigation.peers.len();
    tracing::info!(workers = worker_count, peers, restored, api = %config.api.listen, "started, {mode}");
    Ok(Daemon { stop, control, desk, halt, pid_file, exabgp: routers.exabgp, socket, status: front.status })
}

/// Everybody who hears what happened, in this order: a new listener is a line.
fn listeners(on_event: impl FnMut(&Entry) + Send + 'static, front: &Front, notifier: &Arc<Notifier>) -> Telling {
    let mut all: Vec<Box<dyn Listener>> = vec![Box::new(Called(on_event)), Box::new(Log), Box::new(front.site.clone())];
    all.extend(front.recorder.iter().map(|recorder| Box::new(Arc::clone(recorder)) as Box<dyn Listener>));
    all.push(Box::new(Arc::clone(notifier)));
    Telling::new(all)
}

/// What people and programs look at: the status, the past, HTTP.
struct Front {
    status: Latest,
    recorder: Option<Arc<Recorder>>,
    tokens: Arc<Tokens>,
    site: Site,
    asks: queue::Receiver<Ask>,
    http: Http,
    opening: Opening,
}

impl Front {
    /// Opens it; HTTP is bound and not served yet.
    async fn open(options: &Options, config: &Config) -> Result<Self> {
        let status = Latest::default();
        // Until the control thread has looked for the first time.
        let dry_run = !config.mitigation.enable_ban;
        status.publish(Status { version: env!("CARGO_PKG_VERSION"), dry_run, ..Status::default() });
        let (recorder, archive) = open_history(options, config, &status);
        let tokens = Arc::new(Tokens::open(options.state.as_deref())?);
        let (site, asks) = Site::new(status.clone(), Arc::clone(&tokens), archive, clock::now);
        let http = Http::new(site.clone());
        let opening = http.open_at_start(&config.api).await?;
        Ok(Self { status, recorder: recorder.map(Arc::new), tokens, site, asks, http, opening })
    }
}

/// What an earlier run left.
struct Past {
    store: Option<Store>,
    /// Routes in force again.
    restored: usize,
    learned: Keeper,
}

impl Past {
    /// Puts it into force again.
    fn restore(options: &Options, pipeline: &mut Pipeline, now: Time) -> Result<Self> {
        let (store, restored) = open_state(options, pipeline, now)?;
        let (learned, memory) = Keeper::start(options.state.as_deref(), now)?;
        if let Some(memory) = memory {
            pipeline.remember(now, memory);
        }
        Ok(Self { store, restored, learned })
    }
}

/// Whoever is told what is wanted: BGP sessions, ExaBGP, this host's packet filter.
struct Routers {
    peers: Peers,
    shared: Arc<bgp::tcp::Shared>,
    announcers: Announcers,
    exabgp: Option<tokio::task::JoinHandle<()>>,
}

impl Routers {
    /// Starts them. What was announced before is wanted before the first session: routers hear it before End-of-RIB.
    async fn start(
        config: &Config,
        pipeline: &Pipeline,
        store: Option<Store>,
        restored: usize,
        seed: u64,
    ) -> Result<Self> {
        let ((canaries, canaries_out), (others, others_out)) =
            (watch::channel(Arc::new(Wanted::new())), watch::channel(Arc::new(Wanted::new())));
        let feed = Feed { canary: canaries_out, others: others_out.clone() };
        let mut peers = Peers::new(config.mitigation.sessions(), feed, Arc::new(clock::now), seed, restored > 0);
        let shared = peers.shared();
        shared.set_halted(pipeline.policy().halted().is_some());
        let wanted = pipeline.wanted().clone();
        let local = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Local::start(&config)).await.context("the start was interrupted")??
        };
        let roster = peers.roster();
        let announcers = Announcers::new(store, (canaries, others), wanted, roster, Arc::clone(&shared), local);
        let gates = Rails::gates(&config.mitigation);
        peers.apply(config.mitigation.sessions(), &gates).await.context("cannot start BGP")?;
        let exabgp = config.mitigation.exabgp.clone().map(|exabgp| {
            let rails = Rails::new(Space::new(&config.mitigation), Classes::default());
            tokio::spawn(exabgp::run(exabgp, Arc::new(rails), others_out))
        });
        Ok(Self { peers, shared, announcers, exabgp })
    }
}

/// Receives telemetry, each worker into a meter of its own.
fn start_workers(config: &Config, meters: Vec<Meter>) -> Result<Workers> {
    let mut meters: Vec<Option<Meter>> = meters.into_iter().map(Some).collect();
    let workers = collectors::start(&config.collectors, clock::now, |i| {
        MeterSink(meters[i].take().expect("one meter per worker"))
    })?;
    workers.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(workers)
}

fn run_control(control: Control, stop: &Arc<AtomicBool>) -> Result<std::thread::JoinHandle<()>> {
    let stopping = Arc::clone(stop);
    let thread = std::thread::Builder::new().name("control".to_owned());
    thread.spawn(move || control.run(&stopping)).context("cannot start the control thread")
}

fn open_desk(
    options: Options,
    config: &Config,
    plant: Plant,
    jobs: mpsc::SyncSender<Job>,
    tokens: Arc<Tokens>,
    status: Latest,
) -> Desk {
    let (file, text) = options.file.map_or_else(|| (None, String::new()), |(file, text)| (Some(file), text));
    let state = config.state_directory.clone();
    let audit = Arc::new(Audit::new(&state));
    let configuration = Configuration::new(clock::now(), file, text, state, plant);
    Desk { jobs, configuration: Arc::new(tokio::sync::Mutex::new(configuration)), audit, tokens, status }
}

/// The state of an earlier run, in force again. Without a place for it the daemon goes on protecting, unless one was named.
fn open_state(options: &Options, pipeline: &mut Pipeline, now: Time) -> Result<(Option<Store>, usize)> {
    let Some(directory) = &options.state else { return Ok((None, 0)) };
    match Store::open(directory) {
        Ok((store, records)) => {
            let restored = pipeline.restore(now, &records);
            Ok((Some(store), restored))
        }
        Err(error) if options.needs_state => Err(error),
        Err(error) => {
            tracing::error!("what is announced will be forgotten by a restart: {error:#}");
            Ok((None, 0))
        }
    }
}

/// Without a place for its past the daemon goes on protecting.
fn open_history(
    options: &Options,
    config: &Config,
    status: &Latest,
) -> (Option<Recorder>, Option<reporting::history::Archive>) {
    let Some(directory) = &options.state else { return (None, None) };
    let retention = Retention { bytes: config.history.bytes, days: config.history.days };
    match Recorder::start(directory, status.clone(), retention, clock::wall_now) {
        Ok((recorder, archive)) => (Some(recorder), Some(archive)),
        Err(error) => {
            tracing::error!("nothing is remembered for the dashboard: {error:#}");
            (None, None)
        }
    }
}

/// Who is told; routes of an earlier run that are not in force any more are told as ended.
fn open_notifier(options: &Options, config: &Config, pipeline: &Pipeline) -> Result<Notifier> {
    let notifier = Notifier::start(config.notify.clone(), options.state.as_deref(), clock::now)?;
    let announced = pipeline.policy().all().filter(|m| m.dry_run.is_none());
    notifier.in_force(announced.map(|m| notify::message::key(&m.target, &m.route.to_string())).collect());
    Ok(notifier)
}

/// The file that `floodwall withdraw-all` finds the process by when the control socket does not answer.
fn write_pid(options: &Options) -> Option<PathBuf> {
    let path = pid_file(options.state.as_deref()?);
    match std::fs::write(&path, format!("{}\n", std::process::id())) {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no pid file: withdraw-all works by the control socket alone");
            None
        }
    }
}

/// Where the pid file of a state directory is.
#[must_use]
pub fn pid_file(state: &Path) -> PathBuf {
    state.join("floodwall.pid")
}

/// A thread that keeps cases in a directory; ends with the control thread. A full queue drops: evidence for later never delays
/// what happens now.
fn write_cases(directory: PathBuf) -> Result<mpsc::SyncSender<Arc<Case>>> {
    let (sender, cases) = mpsc::sync_channel::<Arc<Case>>(CASES);
    let run = move || {
        let mut failed = false;
        for case in cases {
            match case.write(&directory) {
                Ok(_) => failed = false,
                // Once, not for every case.
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!("cases are not kept: {error:#}");
                }
                Err(_) => {}
            }
        }
    };
    std::thread::Builder::new().name("cases".to_owned()).spawn(run).context("cannot start a thread")?;
    Ok(sender)
}

/// The control socket; without it the daemon goes on protecting, unless it was asked for by name.
fn open_socket(options: &Options, others: bool) -> Result<Option<server::Listener>> {
    let Some(path) = &options.socket else { return Ok(None) };
    match server::bind(path, others) {
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
            let _ = socket.await;
        }
        // Whoever is in the middle of a request finishes it.
        let mut configuration = self.desk.configuration.lock().await;
        let plant = configuration.plant();
        let workers = plant.workers.take();
        let _ = tokio::task::spawn_blocking(move || workers.stop()).await;
        self.stop.store(true, Ordering::Release);
        let _ = tokio::task::spawn_blocking(move || self.control.join()).await;
        let keep = plant.config.mitigation.on_shutdown == OnShutdown::Keep;
        plant.peers.stop(keep).await;
        // The control thread owned the wanted set: ExaBGP withdraws and ends.
        if let Some(exabgp) = self.exabgp {
            let _ = tokio::time::timeout(Duration::from_secs(2), exabgp).await;
        }
        plant.http.stop();
        if let Some(path) = self.pid_file {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The kill switch: routers are told at once, even if nothing else works any more.
    pub fn withdraw_all(&self) {
        self.halt.peers.set_halted(true);
        self.halt.asked.store(true, Ordering::Release);
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
        let mut hangup = signal(SignalKind::hangup()).context("cannot watch SIGHUP")?;
        let mut withdraw = signal(SignalKind::user_defined2()).context("cannot watch SIGUSR2")?;
        let daemon = start(config, options, |_| {}).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = tokio::signal::ctrl_c() => break,
                _ = withdraw.recv() => daemon.withdraw_all(),
                _ = hangup.recv() => daemon.desk.reload().await,
            }
        }
        tracing::info!("stopping");
        daemon.stop().await;
        Ok(())
    })
}
