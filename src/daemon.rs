//! The daemon: worker threads, the control thread, and a small runtime for BGP and HTTP.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use api::site::Ask;
use api::tokens::Tokens;
use api::{Http, Site};
use bgp::tcp::{Feed, Peers};
use bgp::{Classes, OnShutdown, Route, Wanted, exabgp};
use config::Config;
use detector::Meter;
use operator::identity::route_id;
use operator::report::{Entry, Report};
use operator::status::{Latest, MitigationStatus, Status, Volume};
use operator::request::QUEUE;
use operator::{Caller, Failure, Outcome, Why, clock};
use policy::Order;
use policy::rails::{Rails, Space};
use reporting::case::Case;
use reporting::export::{Exporter, Snapshot};
use reporting::history::{Recorder, Retention};
use reporting::notify::{self, Facts, Notifier};
use tokio::sync::{mpsc as queue, oneshot, watch};
use traffic::Time;

use crate::announcers::Announcers;
use crate::control::audit::Audit;
use crate::control::configuration::Configuration;
use crate::control::{self, act, server, show};
use crate::describe::{attack, peer, source};
use crate::enforcer::local::Local;
use crate::exporters::Watch;
use crate::learned::Keeper;
use crate::pipeline::{Pipeline, Request};
use crate::plant::{Job, MeterSink, Plant};
use crate::store::Store;

/// The control thread's tick.
const TICK: Duration = Duration::from_millis(50);
/// Between ticks, while a bucket fills.
const COLLECT: Duration = Duration::from_millis(2);
/// The status is refreshed this often: with what workers and ticks add, metrics are at most 0.3 s old.
const REFRESH: Duration = Duration::from_millis(150);
/// Cases that wait to be written at most.
const CASES: usize = 64;
/// Rates of hosts, networks and groups are remembered this often.
const RATES: Duration = Duration::from_secs(reporting::history::writer::LONG_STEP.unsigned_abs());
/// Events kept for the status.
const EVENTS: usize = 200;

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

/// Answers what comes through the control socket.
#[derive(Clone)]
struct Desk {
    jobs: mpsc::SyncSender<Job>,
    configuration: Arc<tokio::sync::Mutex<Configuration>>,
    audit: Arc<Audit>,
    tokens: Arc<Tokens>,
    status: Latest,
}

impl server::Handler for Desk {
    async fn handle(&self, caller: Caller, request: operator::Request) -> Outcome {
        if let operator::Request::Complete { words } = &request {
            let running = self.configuration.lock().await.running().to_owned();
            let words = control::complete::complete(&running, &self.status.get(), words);
            return Ok(operator::Answer::new("", &words));
        }
        if let operator::Request::Show { category, arguments } = &request
            && category == "audit"
        {
            return self.show_audit(arguments);
        }
        let is_write = !request.is_read();
        if let Some(outcome) = self.tend_tokens(&caller, &request) {
            if is_write {
                // The log must not hold the secret.
                let said = outcome.clone().map(|_| operator::Answer::new("done", &true));
                self.audit.record(clock::wall_now(), &caller, &request, &said);
            }
            return outcome;
        }
        let outcome = self.carry_out(&caller, request.clone()).await;
        if is_write {
            self.audit.record(clock::wall_now(), &caller, &request, &outcome);
        }
        outcome
    }
}

impl Desk {
    async fn carry_out(&self, caller: &Caller, request: operator::Request) -> Outcome {
        let at_once = matches!(request, operator::Request::Order(_));
        let of_configuration = if let operator::Request::Show { category, arguments } = &request {
            Configuration::shows(category, arguments)
        } else {
            !at_once
        };
        if !of_configuration {
            return self.ask_control(caller.clone(), request).await;
        }
        let mut configuration = self.configuration.lock().await;
        let outcome = configuration.handle(clock::now(), caller, &request).await;
        if let Some(deadline) = configuration.deadline() {
            self.watch_deadline(deadline, caller.clone());
        }
        outcome
    }

    /// `show token`, `set token`, `delete token`: they are no part of the configuration and need no tick.
    fn tend_tokens(&self, caller: &Caller, request: &operator::Request) -> Option<Outcome> {
        let now = clock::wall_now();
        #[allow(clippy::wildcard_enum_match_arm, reason = "all others are for somebody else")]
        match request {
            operator::Request::Show { category, arguments } if category == "token" => {
                Some(self.tokens.show(now, arguments))
            }
            operator::Request::Set { category, arguments } if category == "token" => {
                Some(self.tokens.set(now, caller, arguments))
            }
            operator::Request::Delete { category, arguments } if category == "token" => {
                Some(self.tokens.delete(arguments))
            }
            _ => None,
        }
    }

    /// Answers what comes over HTTP, each in its own task; the queue before it is bounded.
    async fn serve(self, mut asks: queue::Receiver<Ask>) {
        use server::Handler;
        while let Some(Ask { caller, request, reply }) = asks.recv().await {
            let desk = self.clone();
            tokio::spawn(async move {
                // Whoever asked may have gone.
                let _ = reply.send(desk.handle(caller, request).await);
            });
        }
    }

    async fn ask_control(&self, caller: Caller, request: operator::Request) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.jobs
            .try_send(Job::Ask { request, caller, reply })
            .map_err(|_| Failure::of(Why::Busy, format!("{QUEUE} requests are waiting already: try again")))?;
        outcome.await.unwrap_or_else(|_| Err(Failure::of(Why::Busy, "the daemon is stopping")))
    }

    /// Takes an unconfirmed commit back when its time is over.
    fn watch_deadline(&self, deadline: Time, caller: Caller) {
        let desk = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(deadline.since(clock::now())).await;
            let mut configuration = desk.configuration.lock().await;
            if let Some(outcome) = configuration.expire(clock::now()).await {
                let request = operator::Request::Rollback { back: 1 };
                let caller = Caller { reason: Some("the commit was not confirmed".to_owned()), ..caller };
                desk.audit.record(clock::wall_now(), &caller, &request, &outcome);
            }
        });
    }

    fn show_audit(&self, arguments: &[String]) -> Outcome {
        let count = match arguments {
            [] => 50,
            [count] => count.parse().map_err(|_| format!("show audit N: {count:?} is not a number"))?,
            _ => return Err("show audit N".into()),
        };
        let records = self.audit.last(count);
        let now = clock::wall_now().as_seconds();
        let row = |r: &control::audit::Record| {
            let state = if r.done { "done" } else { "refused" };
            let reason = r.reason.clone().unwrap_or_default();
            vec![format!("{:.0} s ago", now - r.time), r.user.clone(), state.to_owned(), r.action.clone(), reason]
        };
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        let text = operator::table(&["WHEN", "WHO", "", "WHAT", "WHY"], &rows);
        Ok(operator::Answer::new(text, &records))
    }

    /// The file was edited and a signal says so.
    async fn reload(&self) {
        let caller = Caller { user: "SIGHUP".to_owned(), uid: 0, may_write: true, is_admin: true, ..Caller::default() };
        let request = operator::Request::Reload;
        let outcome = self.configuration.lock().await.handle(clock::now(), &caller, &request).await;
        match &outcome {
            Ok(answer) => tracing::info!("{}", answer.text),
            Err(failure) => tracing::error!("what runs goes on: {}", failure.text),
        }
        self.audit.record(clock::wall_now(), &caller, &request, &outcome);
    }
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

/// The kill switch, from a signal: it works without the control thread.
struct Halt {
    asked: AtomicBool,
    peers: Arc<bgp::tcp::Shared>,
}

/// What the control thread owns.
struct Control {
    config: Config,
    pipeline: Pipeline,
    jobs: mpsc::Receiver<Job>,
    exporters: Watch,
    statistics: collectors::worker::Reader,
    announcers: Announcers,
    /// Orders carried out, whose callers wait for the store.
    acted: Vec<(Time, tokio::sync::oneshot::Sender<Outcome>, Outcome)>,
    halt: Arc<Halt>,
    cases: mpsc::SyncSender<Arc<Case>>,
    events: VecDeque<Entry>,
    on_event: Box<dyn FnMut(&Entry) + Send>,
    recorder: Option<Recorder>,
    learned: Keeper,
    notifier: Notifier,
    exporter: Exporter,
    site: Site,
    started: Time,
    status: Latest,
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
    let socket = open_socket(&options, config.control_socket_others_may_read)?;
    let seed = clock::seed();
    config.collectors.templates_file = Some(config.state_directory.join("templates.json"));
    let worker_count = config.collectors.workers();
    let (mut pipeline, meters) =
        Pipeline::new(config.detector.clone(), config.mitigation.clone(), worker_count.max(1), seed);
    let status = Latest::default();
    // Until the control thread has looked for the first time.
    let dry_run = !config.mitigation.enable_ban;
    status.publish(Status { version: env!("CARGO_PKG_VERSION"), dry_run, ..Status::default() });
    let (recorder, archive) = open_history(&options, &config, &status);
    let tokens = Arc::new(Tokens::open(options.state.as_deref())?);
    let (site, asks) = Site::new(status.clone(), Arc::clone(&tokens), archive, clock::now);
    let mut http = Http::new(site.clone());
    let opening = http.open_at_start(&config.api).await?;
    let mut meters: Vec<Option<Meter>> = meters.into_iter().map(Some).collect();
    let workers = collectors::start(&config.collectors, clock::now, |i| {
        MeterSink(meters[i].take().expect("one meter per worker"))
    })?;
    for warning in &workers.warnings {
        tracing::warn!("{warning}");
    }
    let now = clock::now();
    let (store, restored) = open_state(&options, &mut pipeline, now)?;
    let (learned, memory) = Keeper::start(options.state.as_deref(), now)?;
    if let Some(memory) = memory {
        pipeline.remember(now, memory);
    }
    let ((canaries, canaries_out), (others, others_out)) =
        (watch::channel(Arc::new(Wanted::new())), watch::channel(Arc::new(Wanted::new())));
    let feed = Feed { canary: canaries_out, others: others_out.clone() };
    let mut peers = Peers::new(config.mitigation.sessions(), feed, Arc::new(clock::now), seed, restored > 0);
    let shared = peers.shared();
    shared.set_halted(pipeline.policy().halted().is_some());
    // What was announced before is wanted before the first session: routers hear it before End-of-RIB.
    let wanted = pipeline.wanted().clone();
    let local = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Local::start(&config)).await.context("the start was interrupted")??
    };
    let announcers = Announcers::new(store, (canaries, others), wanted, peers.roster(), Arc::clone(&shared), local);
    peers.apply(config.mitigation.sessions(), &Rails::gates(&config.mitigation)).await.context("cannot start BGP")?;
    let exabgp = config.mitigation.exabgp.clone().map(|exabgp| {
        let rails = Rails::new(Space::new(&config.mitigation), Classes::default());
        tokio::spawn(exabgp::run(exabgp, Arc::new(rails), others_out))
    });
    let notifier = open_notifier(&options, &config, &pipeline)?;
    let halt = Arc::new(Halt { asked: AtomicBool::new(false), peers: shared });
    let (jobs_in, jobs) = mpsc::sync_channel(QUEUE);
    let statistics = workers.reader();
    http.apply(opening);
    tokio::spawn(api::tick(site.clone()));
    let plant = Plant { config: config.clone(), workers, peers, jobs: jobs_in.clone(), http };
    let stop = Arc::new(AtomicBool::new(false));
    let control = Control {
        config: config.clone(),
        pipeline,
        jobs,
        exporters: Watch::default(),
        statistics,
        announcers,
        acted: Vec::new(),
        halt: Arc::clone(&halt),
        cases: write_cases(config.state_directory.join("cases"))?,
        events: VecDeque::new(),
        on_event: Box::new(on_event),
        recorder,
        learned,
        notifier,
        exporter: Exporter::start(config.export.clone())?,
        site,
        started: now,
        status: status.clone(),
    };
    let pid_file = write_pid(&options);
    let stopping = Arc::clone(&stop);
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control.run(&stopping))
        .context("cannot start the control thread")?;
    let (file, text) = options.file.map_or_else(|| (None, String::new()), |(file, text)| (Some(file), text));
    let state = config.state_directory.clone();
    let audit = Arc::new(Audit::new(&state));
    let peers = config.mitigation.peers.len();
    let configuration = Configuration::new(clock::now(), file, text, state, plant);
    let configuration = Arc::new(tokio::sync::Mutex::new(configuration));
    let desk = Desk { jobs: jobs_in, configuration, audit, tokens, status: status.clone() };
    tokio::spawn(desk.clone().serve(asks));
    let socket = socket.map(|listener| tokio::spawn(server::serve(listener, desk.clone())));
    let mode = if config.mitigation.enable_ban { "announcing" } else { "dry run: announcing nothing" };
    tracing::info!(workers = worker_count, peers, restored, api = %config.api.listen, "started, {mode}");
    Ok(Daemon { stop, control, desk, halt, pid_file, exabgp, socket, status })
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

/// An entry as the system's clock has it at present.
fn by_wall(entry: &Entry) -> Entry {
    Entry { time: clock::wall(entry.at).as_seconds(), ..entry.clone() }
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

impl Control {
    fn run(mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        let mut refresh = next;
        let mut rates = next.after(RATES);
        while !stop.load(Ordering::Acquire) {
            let now = clock::now();
            let mut entries: Vec<Entry> =
                clock::look().map(|seconds| Entry::new(now, Report::ClockSet { seconds })).into_iter().collect();
            if let Some(held) = self.announcers.watch_peers(now, &self.config.mitigation.peers, &mut entries) {
                let _ = self.pipeline.request(now, Request::Held(held));
            }
            if self.halt.asked.swap(false, Ordering::AcqRel) {
                let order = Order::new("SIGUSR2", "kill switch", now, None);
                let _ = self.pipeline.request(now, Request::WithdrawAll(order));
            }
            if now >= next {
                next = now.after(TICK);
                let contradictions = self.statistics.exporters().contradictions(now);
                let _ = self.pipeline.request(now, Request::DoubtRates(contradictions));
                entries.extend(self.pipeline.step(now));
            } else {
                entries.extend(self.pipeline.collect(now));
            }
            let changed = self.announcers.offer(now, &self.pipeline, &mut entries);
            self.answer_acted(now);
            entries.iter_mut().for_each(|entry| entry.moved(clock::offset()));
            self.announcers.journal(&entries);
            for mut case in self.pipeline.take_cases() {
                case.moved(clock::offset());
                let case = Arc::new(case);
                // Before the entries: what is told of a rule holds the sample it was mined from.
                self.notifier.keep(&case);
                let _ = self.cases.try_send(case);
            }
            entries.into_iter().for_each(|entry| self.tell(entry));
            if now >= refresh || changed {
                refresh = now.after(REFRESH);
                let news = self.exporters.refresh(now, self.statistics.exporters());
                news.into_iter().for_each(|entry| self.tell(entry));
                self.status.publish(self.describe(now));
            }
            if now >= rates {
                rates = now.after(RATES);
                self.remember_rates(now);
            }
            self.learned.offer(now, self.pipeline.detector());
            let wait = match (self.pipeline.is_collecting(), self.is_quiet()) {
                (true, _) => COLLECT,
                (false, false) => TICK / 5,
                (false, true) => TICK,
            };
            self.serve(wait.min(next.since(clock::now())));
        }
        self.announcers.stop();
        self.learned.stop(self.pipeline.detector());
    }

    /// Whether nothing is under way that a look before the next tick could hasten.
    fn is_quiet(&self) -> bool {
        self.pipeline.detector().attacks().is_empty() && self.acted.is_empty() && !self.announcers.is_waiting()
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
        while let Some(next) = job {
            // Whoever asked may have gone.
            match next {
                Job::Ask { request, caller, reply } => {
                    let now = clock::now();
                    let outcome = self.answer(now, &request, &caller);
                    if matches!(request, operator::Request::Order(_)) && outcome.is_ok() {
                        self.acted.push((now, reply, outcome));
                    } else {
                        let _ = reply.send(outcome);
                    }
                }
                Job::Reconfigure { config, added, reply } => {
                    let now = clock::now();
                    let (detector, mitigation) = (config.detector.clone(), config.mitigation.clone());
                    let (meters, entries) = self.pipeline.reconfigure(now, detector, mitigation, added);
                    self.notifier.configure(config.notify.clone());
                    self.exporter.configure(config.export.clone());
                    self.config = *config;
                    self.announcers.reconfigured();
                    self.tell(Entry::new(now, Report::Configured));
                    entries.into_iter().for_each(|entry| self.tell(entry));
                    let _ = reply.send(meters);
                }
            }
            job = self.jobs.try_recv().ok();
        }
    }

    /// Tells callers that what they ordered is done: not before it would survive a crash.
    fn answer_acted(&mut self, now: Time) {
        let announcers = &self.announcers;
        for (_, reply, outcome) in self.acted.extract_if(.., |(since, ..)| announcers.is_settled(now, *since)) {
            // Whoever asked may have gone.
            let _ = reply.send(outcome);
        }
    }

    fn answer(&mut self, now: Time, request: &operator::Request, caller: &Caller) -> Outcome {
        match request {
            operator::Request::Order(order) => act::carry_out(&mut self.pipeline, now, caller, order),
            operator::Request::Show { category, arguments } => {
                let status = self.describe(now);
                let enforcer = self.announcers.enforcer();
                let view = show::View {
                    now: clock::wall(now),
                    pipeline: &self.pipeline,
                    status: &status,
                    config: &self.config,
                    announcers: &self.announcers,
                    enforcer: enforcer.as_ref(),
                };
                show::show(&view, category, arguments)
            }
            operator::Request::Set { .. }
            | operator::Request::Delete { .. }
            | operator::Request::Commit { .. }
            | operator::Request::Confirm
            | operator::Request::Rollback { .. }
            | operator::Request::Rebase
            | operator::Request::Reload
            | operator::Request::Complete { .. } => Err("this is not for the control thread".into()),
        }
    }

    /// Logs an event and keeps it for the status.
    fn tell(&mut self, mut entry: Entry) {
        entry.time = clock::wall(entry.at).as_seconds();
        (self.on_event)(&entry);
        let report = &entry.report;
        if matches!(report, Report::Candidates { .. }) {
            tracing::debug!("{report}");
        } else if report.is_warning() {
            tracing::warn!("{report}");
        } else {
            tracing::info!("{report}");
        }
        api::tell(&self.site, &entry);
        if let Some(recorder) = &self.recorder {
            recorder.tell(&entry);
        }
        if self.notifier.wants(&entry.report) {
            self.notifier.tell(&entry, self.facts(&entry.report));
        }
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(entry);
    }

    /// Rates of hosts, networks and groups, for the history and for other databases.
    fn remember_rates(&self, now: Time) {
        let rates = reporting::history::rates::rates(self.pipeline.detector());
        if self.exporter.is_used() {
            let status = self.status.get();
            let totals = [
                ("incoming", status.incoming),
                ("outgoing", status.outgoing),
                ("internal", status.internal),
                ("other", status.other),
            ];
            self.exporter.give(Snapshot { time: now, totals, rates: rates.clone() });
        }
        if let Some(recorder) = &self.recorder {
            recorder.rates(rates);
        }
    }

    /// What is known about an event's target now.
    fn facts(&self, report: &Report) -> Facts {
        let (Some(target), route) = notify::message::subject(report) else { return Facts::default() };
        let detector = self.pipeline.detector();
        let networks = detector.config().networks.iter().filter(|n| n.contains(&target.prefix));
        let mitigation = self.pipeline.policy().all().find(|m| m.target == target && m.route.to_string() == route);
        Facts {
            attack: detector.attacks().get(&target).map(attack),
            mitigation: mitigation.map(|m| self.mitigation(m)),
            network: networks.max_by_key(|n| n.length()).map(ToString::to_string).unwrap_or_default(),
        }
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
            dropped: sum(|s| &s.dropped),
            overflow: sum(|s| &s.overflow),
            active_hosts: seen.active_hosts,
            alarms: seen.alarms,
            orphaned_buckets: seen.orphaned,
            capture_drops: detector.shards().map(|s| s.capture_drops.load(Ordering::Relaxed)).sum(),
            sources: self.statistics.read().into_iter().map(source).collect(),
            exporters: self.exporters.read(now, &self.config.mitigation.peers),
            attacks: detector.attacks().values().map(attack).collect(),
            mitigations: self.pipeline.policy().all().map(|m| self.mitigation(m)).collect(),
            peers: self.announcers.peers().iter().map(|(name, status)| peer(now, name, status)).collect(),
            warnings: self
                .recorder
                .iter()
                .filter_map(Recorder::alarm)
                .chain(self.notifier.alarms())
                .chain(self.exporter.alarms())
                .collect(),
            halted: self.pipeline.policy().halted().is_some(),
            events: self.events.iter().map(by_wall).collect(),
        }
    }

    fn mitigation(&self, m: &policy::Mitigation) -> MitigationStatus {
        let volume = |(packets, bytes)| Volume { packets, bytes };
        let (hits, would_have_hit) = match m.dry_run {
            None => (self.pipeline.hits(m.target, &m.route), None),
            Some(_) => (None, self.pipeline.would_have_hit(m.target, &m.route)),
        };
        MitigationStatus {
            prefix: m.target.prefix.to_string(),
            route: m.route.to_string(),
            kind: match m.route {
                Route::FlowSpec(_) => "flowspec",
                Route::Unicast(_) if m.is_blackhole() => "blackhole",
                Route::Unicast(_) => "diversion",
            },
            dry_run: m.dry_run,
            awaits_approval: m.dry_run.is_some_and(policy::DryRun::awaits_approval),
            since: clock::wall(m.since).as_seconds(),
            id: route_id(&m.route),
            action: m.announcement.text(),
            origin: m.announcement.origin,
            order: m.order.clone().map(|mut order| {
                order.moved(clock::offset());
                order
            }),
            ends: m.ends(self.pipeline.policy().config().ban_time).map(|ends| clock::wall(ends).as_seconds()),
            coverage: m.coverage,
            not_sent: self.announcers.not_sent(&m.route),
            rule: match &m.route {
                Route::FlowSpec(pattern) => {
                    let (pattern, actions) = (pattern.clone(), m.announcement.actions.clone());
                    Some(flowspec::json::to_value(&flowspec::FlowSpec { pattern, actions }))
                }
                Route::Unicast(_) => None,
            },
            sent_to: self.announcers.sent_to(&m.route),
            hits: hits.map(volume),
            would_have_hit: would_have_hit.map(volume),
            enforced: self.announcers.enforced(&m.route),
        }
    }
}
