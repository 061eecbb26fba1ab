//! HTTP: `/metrics` for Prometheus, [`v1`] for programs and the dashboard, ban2bgp's and FastNetMon's paths on listeners of their own.
//!
//! * [`listener`] bounds connections and speaks TLS; [`auth`] knows who asks; [`site`] is the one way to the daemon.
//! * Beyond loopback nothing listens without tokens and TLS (decision 17): `config` and [`Http::open`] refuse.

mod assets;
pub mod auth;
pub mod ban2bgp;
pub mod fastnetmon;
pub mod listener;
pub mod metrics;
pub mod refusal;
mod refused;
pub mod site;
pub mod tokens;
pub mod v1;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use operator::access::Scope;
use operator::report::Entry;
use tokio::task::JoinHandle;

pub use site::Site;

use listener::{Listener, SharedTls, Tls};

/// What a listener is for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    paths: Paths,
    listen: SocketAddr,
}

/// Whose paths a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paths {
    Own,
    FastNetMon,
    Ban2Bgp,
}

impl Paths {
    const fn key(self) -> &'static str {
        match self {
            Self::Own => "api.listen",
            Self::FastNetMon => "api.fastnetmon_listen",
            Self::Ban2Bgp => "main.ban2bgp_listen",
        }
    }
}

/// The listeners of a configuration, and how those of another take their place.
#[derive(Debug)]
pub struct Http {
    site: Site,
    tls: SharedTls,
    running: Vec<(Spec, JoinHandle<()>)>,
}

/// What [`Http::apply`] puts into force.
#[derive(Debug)]
pub struct Opening {
    wanted: Vec<Spec>,
    fresh: Vec<(Spec, Listener, Router)>,
    tls: Option<Tls>,
    config: config::Api,
}

impl Http {
    /// Nothing yet.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self { site, tls: SharedTls::default(), running: Vec::new() }
    }

    /// Binds what a configuration names and is not bound yet.
    ///
    /// # Errors
    /// An address that is taken, a certificate that does not work, or a listener beyond loopback while nobody could log in.
    pub async fn open(&self, config: &config::Api) -> Result<Opening> {
        self.open_some(config, false).await
    }

    /// As [`Http::open`] when the daemon starts: what nobody could log in to stays closed, and the network is protected all the same.
    ///
    /// # Errors
    /// As [`Http::open`], but for that.
    pub async fn open_at_start(&self, config: &config::Api) -> Result<Opening> {
        self.open_some(config, true).await
    }

    async fn open_some(&self, config: &config::Api, at_start: bool) -> Result<Opening> {
        let spec = |paths, listen| Spec { paths, listen };
        let mut wanted = vec![spec(Paths::Own, config.listen)];
        wanted.extend(config.fastnetmon_listen.map(|listen| spec(Paths::FastNetMon, listen)));
        wanted.extend(config.ban2bgp.map(|ban2bgp| spec(Paths::Ban2Bgp, ban2bgp.listen)));
        let tls = match &config.tls {
            Some((certificate, key)) => Some(Tls::load(certificate, key)?),
            None => None,
        };
        let mut fresh = Vec::new();
        for spec in &wanted {
            if self.running.iter().any(|(running, _)| running == spec) {
                continue;
            }
            let (key, listen) = (spec.paths.key(), spec.listen);
            if !listen.ip().is_loopback() && !self.site.tokens().any(self.site.wall()) {
                let text =
                    format!("{key} = {listen} is beyond loopback and there is no token that anybody could log in with");
                if at_start {
                    tracing::error!(
                        "{text}, so it stays closed: floodwall set token NAME scopes admin, then floodwall reload or restart"
                    );
                    continue;
                }
                bail!("{text}: first floodwall set token NAME scopes admin");
            }
            let router = match spec.paths {
                Paths::Own => router(self.site.clone()),
                Paths::FastNetMon => fastnetmon::router(self.site.clone()),
                Paths::Ban2Bgp => ban2bgp::router(self.site.clone()),
            };
            fresh.push((spec.clone(), Listener::bind(listen, key, self.tls.clone()).await?, router));
        }
        Ok(Opening { wanted, fresh, tls, config: config.clone() })
    }

    /// Serves what was opened; what is not wanted any more ends with its connections.
    pub fn apply(&mut self, opening: Opening) {
        self.site.configure(&opening.config);
        self.tls.set(opening.tls);
        self.running.retain(|(spec, task)| {
            let stays = opening.wanted.contains(spec);
            if !stays {
                task.abort();
            }
            stays
        });
        for (spec, listener, router) in opening.fresh {
            self.running.push((spec, tokio::spawn(listener.serve(router))));
        }
    }

    /// Ends all of them.
    pub fn stop(&mut self) {
        self.running.drain(..).for_each(|(_, task)| task.abort());
    }
}

/// Puts a tick into the event streams once a second.
pub async fn tick(site: Site) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    loop {
        interval.tick().await;
        if site.news().receiver_count() > 0 {
            let data = v1::tick(site.wall().as_seconds(), &site.status());
            let _ = site.news().send(site::News { kind: "tick", data: data.into() });
        }
    }
}

/// Puts an event into the event streams.
pub fn tell(site: &Site, entry: &Entry) {
    if site.news().receiver_count() > 0
        && let Ok(data) = serde_json::to_string(entry)
    {
        let _ = site.news().send(site::News { kind: "entry", data: data.into() });
    }
}

fn router(site: Site) -> Router {
    Router::new()
        .route("/metrics", get(serve_metrics))
        .merge(v1::router())
        .merge(assets::router())
        .layer(axum::middleware::map_response(with_safety))
        .with_state(site)
}

/// No page of ours runs foreign script, is framed, or is cached.
async fn with_safety(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
          form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn serve_metrics(State(site): State<Site>, access: auth::Access) -> Result<impl IntoResponse, refusal::Refusal> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    let text = metrics::text(&site.status());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
