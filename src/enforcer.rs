//! `floodwall enforce`: this host as a FlowSpec router. BGP (or ExaBGP's JSON) in, packet filter out.
//!
//! A thread keeps the back end equal to what the sources announce; a small runtime serves BGP, the control socket and HTTP. The daemon
//! of `floodwall run` starts the same thread where `enforce_here` says so, fed by its own rules.

pub(crate) mod hits;
pub(crate) mod local;
mod metrics;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use config::enforcer::Enforcement;
use enforcer::exabgp::{self, Feed};
use enforcer::{Config, Enforcer, EnforcerStatus, Receiver, SourceStatus, Tables, Wake};
use operator::{Answer, Caller, Outcome, Request, clock};
use serde::{Deserialize, Serialize};

use crate::control::{self, server};

/// Where its socket is unless `--socket` or `FLOODWALL_ENFORCER_SOCKET` says otherwise (decision 18: it has its own).
pub const DEFAULT_SOCKET: &str = "/run/floodwall/enforcer.sock";
/// Where `show enforcer` asks without `--socket`: the enforcer's socket where there is one, else the daemon's.
#[must_use]
pub fn socket_path() -> std::path::PathBuf {
    let own = std::env::var_os("FLOODWALL_ENFORCER_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), Into::into);
    let own: std::path::PathBuf = own;
    if own.exists() { own } else { control::socket_path(std::env::var_os("FLOODWALL_SOCKET").map(Into::into).as_ref()) }
}

/// Counters are read, and the back end checked, this often.
const REFRESH: Duration = Duration::from_secs(5);
/// Changes that follow each other within 5 ms are carried out together, this many at most.
const GATHER: usize = 20;
/// A status that is older is refreshed before it is shown.
const FRESH: Duration = Duration::from_millis(500);

/// The whole state of an enforcer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Back end and rules.
    #[serde(flatten)]
    pub enforcer: EnforcerStatus,
    /// Whom rules are taken from.
    pub peers: Vec<SourceStatus>,
}

/// The thread that enforces, and what it says about itself.
#[derive(Debug)]
pub struct Running {
    tables: Tables,
    shared: Shared,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Published>>);

#[derive(Debug, Default)]
struct Published {
    status: Arc<EnforcerStatus>,
    at: traffic::Time,
    is_asked: bool,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what a running enforcer says about itself.
#[derive(Debug, Clone)]
pub struct View {
    tables: Tables,
    shared: Shared,
}

impl View {
    /// The newest status.
    #[must_use]
    pub fn get(&self) -> Status {
        Status { enforcer: (*self.shared.lock().status).clone(), peers: self.tables.status() }
    }

    /// The back end's part of it, shared.
    #[must_use]
    pub fn enforcer(&self) -> Arc<EnforcerStatus> {
        Arc::clone(&self.shared.lock().status)
    }

    /// The status with counters of now.
    pub async fn fresh(&self) -> Status {
        for _ in 0..40 {
            {
                let mut shared = self.shared.lock();
                if clock::now().since(shared.at) < FRESH {
                    break;
                }
                shared.is_asked = true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.get()
    }
}

impl Running {
    /// Starts the thread; what a run left that did not end cleanly is replaced first.
    ///
    /// # Errors
    /// The back end cannot be used: says what to do.
    pub fn start(config: Config, tables: Tables) -> Result<Self> {
        let (enforcer, leftovers) = Enforcer::start(config, Box::new(clock::now)).map_err(|e| anyhow!(e))?;
        if let Some(leftovers) = leftovers {
            tracing::warn!("found {leftovers}");
        }
        let shared = Shared::default();
        let (for_thread, published) = (tables.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("enforcer".to_owned())
            .spawn(move || enforce(enforcer, &for_thread, &published))
            .context("cannot start the enforcer's thread")?;
        Ok(Self { tables, shared, thread })
    }

    /// For those who show it.
    #[must_use]
    pub fn view(&self) -> View {
        View { tables: self.tables.clone(), shared: self.shared.clone() }
    }

    /// Removes all rules and ends. Blocking.
    pub fn stop(self) {
        self.tables.stop();
        let _ = self.thread.join();
    }
}

/// The thread: every change of the tables becomes one change of the back end.
fn enforce(mut enforcer: Enforcer, tables: &Tables, shared: &Shared) {
    let mut refreshed = clock::now();
    let mut logged: Option<String> = None;
    loop {
        let wake = tables.wait(Duration::from_millis(50));
        if wake == Wake::Stop {
            break;
        }
        let now = clock::now();
        let is_asked = std::mem::take(&mut shared.lock().is_asked);
        let is_due = now.since(refreshed) >= REFRESH;
        if wake == Wake::Changed {
            // Tables arrive in many messages: what follows at once is one change.
            for _ in 0..GATHER {
                if tables.wait(Duration::from_millis(5)) != Wake::Changed {
                    break;
                }
            }
            let before = enforcer.status();
            enforcer.reconcile(&tables.tables());
            log_changes(&before, &enforcer.status());
        }
        if is_due {
            refreshed = now;
            if let Some(found) = enforcer.check(&tables.tables()) {
                tracing::warn!("{found}");
            }
        }
        if is_due || is_asked {
            enforcer.count();
        }
        if is_due || is_asked || wake == Wake::Changed {
            let status = enforcer.status();
            if status.error != logged {
                match &status.error {
                    Some(error) => tracing::error!("{error}"),
                    None => tracing::info!("the back end is as it should be again"),
                }
                logged.clone_from(&status.error);
            }
            let mut shared = shared.lock();
            shared.status = Arc::new(status);
            if is_due || is_asked {
                shared.at = clock::now();
            }
        }
    }
    match enforcer.stop() {
        Ok(()) => tracing::info!("all rules removed"),
        Err(error) => tracing::error!("rules could not be removed: {error}"),
    }
}

/// Rules logged one by one per change at most; then a number says how many more.
const LOGGED: usize = 20;

fn log_changes(before: &EnforcerStatus, after: &EnforcerStatus) {
    let known: std::collections::BTreeMap<u32, &str> = before.rules.iter().map(|r| (r.id, r.state.as_str())).collect();
    let changed: Vec<_> = after.rules.iter().filter(|r| known.get(&r.id) != Some(&r.state.as_str())).collect();
    for rule in changed.iter().take(LOGGED) {
        match &rule.reason {
            Some(reason) => tracing::warn!(id = rule.id, peer = rule.peer, "not installed: {}: {reason}", rule.rule),
            None => {
                tracing::info!(id = rule.id, peer = rule.peer, "{}: {} -> {}", rule.state, rule.rule, rule.carried_out)
            }
        }
    }
    let live: std::collections::BTreeSet<u32> = after.rules.iter().map(|r| r.id).collect();
    let gone = before.rules.iter().filter(|r| !live.contains(&r.id)).count();
    tracing::info!(
        installed = after.installed,
        not_installed = after.not_installed,
        changed = changed.len(),
        gone,
        "carried out in {:.1} ms",
        after.last_change_ms
    );
}

/// Runs the enforcer in the foreground until SIGINT or SIGTERM.
///
/// # Errors
/// What keeps it from starting: says what to do.
pub fn run_until_signal(enforcement: Enforcement, socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
        let config = enforcement.config.clone();
        let listener = server::bind(socket, false)?;
        let http = tokio::net::TcpListener::bind(config.api_listen).await.with_context(|| {
            format!("cannot listen on {} (api_listen in [enforcer]): is another enforcer running?", config.api_listen)
        })?;
        let tables = Tables::default();
        let clock: bgp::tcp::Clock = Arc::new(clock::now);
        let running = {
            let (config, tables) = (config.clone(), tables.clone());
            tokio::task::spawn_blocking(move || Running::start(config, tables))
                .await
                .context("the start was interrupted")??
        };
        let receiver = match Receiver::start(&config, &tables, &clock, clock::seed()).await {
            Ok(receiver) => receiver,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || running.stop()).await;
                return Err(error.into());
            }
        };
        let ended = Arc::new(tokio::sync::Notify::new());
        if enforcement.exabgp {
            let (feed, ended) = (Feed::new(&config, tables.clone()), Arc::clone(&ended));
            std::thread::Builder::new()
                .name("exabgp".to_owned())
                .spawn(move || {
                    read_exabgp(feed, &mut std::io::stdin().lock());
                    ended.notify_one();
                })
                .context("cannot start the reader of standard input")?;
        }
        let view = running.view();
        let sockets = tokio::spawn(server::serve(listener, Handler(view.clone())));
        let http = tokio::spawn(serve_http(http, view));
        tracing::info!(bgp = ?receiver.address, socket = %socket.display(), api = %config.api_listen, "enforcing");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = ended.notified() => tracing::info!("standard input ended: ExaBGP is gone"),
        }
        tracing::info!("stopping");
        receiver.stop().await;
        let _ = tokio::task::spawn_blocking(move || running.stop()).await;
        sockets.abort();
        http.abort();
        Ok(())
    })
}

/// Reads ExaBGP's messages until standard input ends. ExaBGP makes it non-blocking.
fn read_exabgp(mut feed: Feed, input: &mut impl std::io::BufRead) {
    use std::io::{BufRead, ErrorKind, Read};
    let mut line = Vec::new();
    loop {
        match input.by_ref().take((exabgp::MAX_LINE - line.len()) as u64).read_until(b'\n', &mut line) {
            Ok(0) if line.len() < exabgp::MAX_LINE => break,
            Ok(_) if line.last() == Some(&b'\n') || line.len() >= exabgp::MAX_LINE => {
                if let Err(error) = feed.line(clock::now(), &String::from_utf8_lossy(&line)) {
                    tracing::warn!("a message of ExaBGP was not understood: {error}");
                }
                line.clear();
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!("standard input: {error}");
                break;
            }
        }
    }
    let _ = feed.ended(clock::now());
}

/// The enforcer's end of its control socket.
struct Handler(View);

impl server::Handler for Handler {
    async fn handle(&self, _: Caller, request: Request) -> Outcome {
        match request {
            Request::Show { category, arguments } if category == "enforcer" || category.is_empty() => {
                show(&self.0.fresh().await, &arguments)
            }
            Request::Show { category, .. } => {
                Err(format!("the enforcer has no {category:?} to show; there is: enforcer").into())
            }
            Request::Complete { .. } => Ok(Answer::new("", &serde_json::json!([]))),
            Request::Order(_)
            | Request::Set { .. }
            | Request::Delete { .. }
            | Request::Commit { .. }
            | Request::Confirm
            | Request::Rollback { .. }
            | Request::Rebase
            | Request::Reload => {
                Err("the enforcer does what its BGP peers announce: change the rules there, or its configuration file"
                    .into())
            }
        }
    }
}

/// `show enforcer [installed|refused]`.
///
/// # Errors
/// Further words.
pub fn show(status: &Status, arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let wanted = match words[..] {
        [] => None,
        ["installed"] => Some("installed"),
        ["refused"] => Some("not installed"),
        _ => return Err("write show enforcer, show enforcer installed or show enforcer refused".into()),
    };
    let mut status = status.clone();
    status.enforcer.rules.retain(|r| wanted.is_none_or(|w| r.state == w));
    let e = &status.enforcer;
    let mut text = format!(
        "{} ({}): {} rules installed, {} not installed, last change {:.1} ms",
        e.backend, e.hook, e.installed, e.not_installed, e.last_change_ms
    );
    if let Some(error) = &e.error {
        text.push_str(&format!("\nERROR: {error}"));
    }
    let rows: Vec<Vec<String>> = status
        .peers
        .iter()
        .map(|p| {
            let row = [
                p.name.clone(),
                p.state.clone(),
                p.rules.to_string(),
                p.malformed.to_string(),
                p.over_limit.to_string(),
            ];
            row.into_iter().chain([p.last_error.clone().unwrap_or_default()]).collect()
        })
        .collect();
    text.push_str("\n\n");
    text.push_str(&operator::table(&["PEER", "SESSION", "RULES", "MALFORMED", "OVER LIMIT", "LAST ERROR"], &rows));
    let rows: Vec<Vec<String>> = e
        .rules
        .iter()
        .map(|r| {
            let state = match &r.reason {
                Some(reason) => format!("{}: {reason}", r.state),
                None if r.stale => format!("{} (stale)", r.carried_out),
                None => r.carried_out.clone(),
            };
            vec![r.id.to_string(), r.peer.clone(), r.packets.to_string(), r.bytes.to_string(), r.rule.clone(), state]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&operator::table(&["ID", "PEER", "PACKETS", "BYTES", "RULE", "STATE"], &rows));
    }
    Ok(Answer::new(text, &status))
}

async fn serve_http(listener: tokio::net::TcpListener, view: View) -> Result<()> {
    let router =
        Router::new().route("/metrics", get(serve_metrics)).route("/api/v1/status", get(serve_status)).with_state(view);
    axum::serve(listener, router).await.context("the HTTP listener ended")
}

async fn serve_metrics(State(view): State<View>) -> impl IntoResponse {
    let text = metrics::enforcer_metrics(&view.fresh().await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn serve_status(State(view): State<View>) -> impl IntoResponse {
    Json(view.fresh().await)
}
