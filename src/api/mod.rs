//! The HTTP listener: `/metrics` for Prometheus and `/api/v1/status`. Reads only; loopback only (decision 17).

mod enforcer_metrics;
mod metrics;
pub mod status;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

pub use enforcer_metrics::enforcer_metrics;
pub use status::Status;

/// The newest status; the control thread replaces it, requests read it.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Arc<Status>>>);

impl Shared {
    /// Publishes a status.
    pub fn publish(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    /// The newest status.
    #[must_use]
    pub fn get(&self) -> Arc<Status> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Binds the listener.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (api.listen): is another floodwall running?"))
}

/// Serves until the runtime ends.
///
/// # Errors
/// Those of the listener.
pub async fn serve(listener: TcpListener, shared: Shared) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(serve_metrics))
        .route("/api/v1/status", get(serve_status))
        .with_state(shared);
    axum::serve(listener, router).await.context("the HTTP listener ended")
}

async fn serve_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&shared.get()))
}

async fn serve_status(State(shared): State<Shared>) -> impl IntoResponse {
    Json((*shared.get()).clone())
}
