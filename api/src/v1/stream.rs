//! Server-sent events: `tick` once a second with what changes always, `entry` for everything that happens.
//!
//! Each is serialised once for all streams. A stream that is too slow is told how many it `missed` and goes on with what is new.
//! Limits: [`MAX_STREAMS`] streams, each for [`LONGEST`]; browsers connect again by themselves.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use operator::access::Scope;
use operator::status::Status;
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

use super::super::auth::Access;
use super::super::refusal::Refusal;
use super::super::refused::{Busy, Denied};
use super::super::site::{News, Site};

/// Streams at once at most.
pub(super) const MAX_STREAMS: usize = 256;
/// A stream ends after this.
const LONGEST: Duration = Duration::from_secs(3600);
/// Attacks and routes of a tick at most; all of them are at `/api/v1/attacks` and `/api/v1/rules`.
const MAX_ROWS: usize = 200;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// Counts a stream for as long as it lasts.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let before = STREAMS.fetch_add(1, Ordering::AcqRel);
        let place = Self;
        (before < MAX_STREAMS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What changes, as server-sent events: `tick` (status in short, each second), `entry` (something happened), `missed`.
#[utoipa::path(get, path = "/api/v1/events", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = String, content_type = "text/event-stream"), Denied, Busy))]
pub(super) async fn events_stream(
    State(site): State<Site>,
    access: Access,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    let place = Place::take().ok_or_else(|| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_STREAMS} event streams are open already"))
    })?;
    let ends = site.now().after(LONGEST);
    let news = BroadcastStream::new(site.news().subscribe());
    let first = News { kind: "tick", data: Arc::from(tick(site.wall().as_seconds(), &site.status())) };
    let stream = tokio_stream::once(Ok(first)).chain(news).map_while(move |news| {
        let _ = &place;
        let is_valid = access.token.as_ref().is_none_or(|token| site.tokens().holds(site.wall(), token));
        (is_valid && site.now() < ends).then(|| Ok(event(news)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

fn event(news: Result<News, BroadcastStreamRecvError>) -> Event {
    match news {
        Ok(news) => Event::default().event(news.kind).data(&*news.data),
        Err(BroadcastStreamRecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
    }
}

/// The data of a `tick`.
#[must_use]
pub fn tick(now: f64, s: &Status) -> String {
    let attacks: Vec<_> = s.attacks.iter().take(MAX_ROWS).collect();
    let mitigations: Vec<_> = s.mitigations.iter().take(MAX_ROWS).collect();
    let peers: Vec<_> = s.peers.iter().map(|p| json!({ "name": p.name, "state": p.state })).collect();
    let exporters: Vec<_> = s
        .exporters
        .iter()
        .take(MAX_ROWS)
        .map(|e| json!({ "address": e.address, "silent_seconds": e.silent_seconds, "records_per_second": e.records_per_second }))
        .collect();
    let tick = json!({
        "time": now, "version": s.version, "uptime_seconds": s.uptime_seconds, "dry_run": s.dry_run, "halted": s.halted,
        "incoming": s.incoming, "outgoing": s.outgoing, "filtered": s.filtered, "active_hosts": s.active_hosts,
        "alarms": s.alarms, "warnings": s.warnings, "attacks": attacks, "mitigations": mitigations, "peers": peers,
        "exporters": exporters,
    });
    tick.to_string()
}
