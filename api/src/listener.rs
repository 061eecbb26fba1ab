//! HTTP connections: plain or TLS 1.2 and 1.3, with bounds on how many, how slow and how large.
//!
//! Limits: [`MAX_CONNECTIONS`] connections, a TLS handshake and a request's head within `PATIENCE`, 64 KiB of head, bodies of
//! [`MAX_BODY`] bytes, an answer begun within `DEADLINE`. Beyond the connections a new one is closed at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Connections at once at most; event streams are connections too.
pub const MAX_CONNECTIONS: usize = 1024;
/// Bytes of a request's body at most.
pub const MAX_BODY: usize = 1 << 20;
/// For a handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until an answer begins, the reading of a request's body included.
const DEADLINE: Duration = Duration::from_secs(60);

/// Who is at the other end: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: SharedTls,
}

/// The certificate in force, for all listeners; a commit replaces it, and new connections get the new one.
#[derive(Debug, Clone, Default)]
pub struct SharedTls(Arc<Mutex<Option<Tls>>>);

impl SharedTls {
    /// Puts a certificate into force, or none.
    pub fn set(&self, tls: Option<Tls>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    fn get(&self) -> Option<Tls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// From PEM files: the certificate with its chain, and its key.
    ///
    /// # Errors
    /// A file that cannot be read, or that does not fit the other.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("cannot read api.tls_certificate {}", certificate.display()))?;
        let private =
            PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read api.tls_key {}", key.display()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS is not available")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .with_context(|| format!("{} and {} do not fit together", certificate.display(), key.display()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

impl Listener {
    /// Binds an address; `key` is its key in the configuration, for the error.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(listen: SocketAddr, key: &str, tls: SharedTls) -> Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen} ({key}): is another floodwall running?"))?;
        Ok(Self { listener, tls })
    }

    /// Serves until the task is aborted; its connections end with it.
    pub async fn serve(self, router: Router) {
        let router = router.layer(axum::middleware::from_fn(deadline)).layer(DefaultBodyLimit::max(MAX_BODY));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((stream, peer)) = self.listener.accept().await else {
                // Out of descriptors: let some be closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let _ = stream.set_nodelay(true);
            let (router, tls) = (router.clone(), self.tls.get());
            connections.spawn(async move {
                match tls {
                    None => converse(stream, peer, router).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.0.accept(stream)).await {
                            converse(stream, peer, router).await;
                        }
                    }
                }
                drop(place);
            });
        }
    }
}

/// One client's requests.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, router: Router) {
    let service = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}
