//! [`Site`]: what every path of the API stands on: the newest status, the daemon's desk, tokens, sessions, news.
//!
//! The API decides nothing. What a path asks for becomes the [`Request`] that the same words on the command line are, and
//! [`Site::ask`] is the one way to the daemon: it checks the caller's scope and prefixes, and the audit log has his name.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use config::api::Ban2Bgp;
use operator::status::{Latest, Status};
use operator::{Answer, Caller, Outcome, Request, access, clock};
use reporting::history::Archive;
use tokio::sync::{broadcast, mpsc, oneshot};
use traffic::{Prefix, Time};

use super::auth::{Access, Guard};
use super::refusal::Refusal;
use crate::tokens::Tokens;

/// News that a slow reader may be behind; beyond them it is told how many it missed.
const NEWS: usize = 1024;

/// A request on its way to the desk.
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub caller: Caller,
    /// For what.
    pub request: Request,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Outcome>,
}

/// One piece of news for event streams: made once, sent to all.
#[derive(Debug, Clone)]
pub struct News {
    /// `entry` or `tick`.
    pub kind: &'static str,
    /// JSON.
    pub data: Arc<str>,
}

/// What every handler of the API has at hand; cheap to clone.
#[derive(Debug, Clone)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    status: Latest,
    desk: mpsc::Sender<Ask>,
    tokens: Arc<Tokens>,
    guard: Guard,
    news: broadcast::Sender<News>,
    archive: Option<Archive>,
    reads_need_login: AtomicBool,
    ban2bgp: Mutex<Option<Ban2Bgp>>,
    clock: fn() -> Time,
}

impl Site {
    /// A site and the other end of its desk.
    #[must_use]
    pub fn new(
        status: Latest,
        tokens: Arc<Tokens>,
        archive: Option<Archive>,
        clock: fn() -> Time,
    ) -> (Self, mpsc::Receiver<Ask>) {
        let (desk, asks) = mpsc::channel(operator::request::QUEUE);
        let (news, _) = broadcast::channel(NEWS);
        let inner = Inner {
            status,
            desk,
            tokens,
            guard: Guard::default(),
            news,
            archive,
            reads_need_login: AtomicBool::new(false),
            ban2bgp: Mutex::new(None),
            clock,
        };
        (Self(Arc::new(inner)), asks)
    }

    /// Now, on the clock that never jumps: for spans.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0.clock)()
    }

    /// Now, by the system's clock: for people, and for what outlasts the process.
    #[must_use]
    pub fn wall(&self) -> Time {
        clock::wall(self.now())
    }

    /// The newest status.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.0.status.get()
    }

    /// Who may log in.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// What was remembered, if there is a place for it.
    pub(super) fn archive(&self) -> Option<&Archive> {
        self.0.archive.as_ref()
    }

    /// Where news are put.
    #[must_use]
    pub fn news(&self) -> &broadcast::Sender<News> {
        &self.0.news
    }

    /// Another configuration is in force.
    pub(super) fn configure(&self, config: &config::Api) {
        self.0.reads_need_login.store(config.reads_need_login, Ordering::Release);
        *self.0.ban2bgp.lock().unwrap_or_else(PoisonError::into_inner) = config.ban2bgp;
    }

    /// How bans through ban2bgp's API are.
    pub(super) fn ban2bgp(&self) -> Option<Ban2Bgp> {
        *self.0.ban2bgp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody without a token may look: only from this very host (decision 17).
    pub(super) fn is_open_to(&self, peer: SocketAddr) -> bool {
        peer.ip().to_canonical().is_loopback() && !self.0.reads_need_login.load(Ordering::Acquire)
    }

    /// Asks the daemon: the one way.
    ///
    /// # Errors
    /// 403 without the scope, 503 when too many wait, and what the daemon refuses by its kind.
    pub async fn ask(&self, access: &Access, request: Request) -> Result<Answer, Refusal> {
        access.need(access::needed(&request))?;
        if !access.caller.prefixes.is_empty() {
            confine(access, &request)?;
        }
        let (reply, outcome) = oneshot::channel();
        let busy = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already: try again");
        self.0.desk.try_send(Ask { caller: access.caller.clone(), request, reply }).map_err(busy)?;
        let stopping = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
        Ok(outcome.await.map_err(|_| stopping)??)
    }
}

/// A token with prefixes looks at its own hosts alone. What it orders is judged where the order is parsed, by what it acts on.
fn confine(access: &Access, request: &Request) -> Result<(), Refusal> {
    if let Request::Show { category, arguments } = request
        && let ("single_host_counters", [host]) = (category.as_str(), arguments.as_slice())
        && host.parse().is_ok_and(|host: Prefix| access.sees(&host))
    {
        return Ok(());
    }
    if matches!(request, Request::Order(_)) { Ok(()) } else { Err(outside()) }
}

fn outside() -> Refusal {
    Refusal::forbidden(access::OUTSIDE)
}
