//! POST over HTTP/1.1, with TLS where the address says so, and the web hook's form. Exports use it too.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::notify::Url;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, pki_types::ServerName};

use super::Failure;
use crate::notify::Message;

/// Octets of an answer that are read for the log at most.
const MAX_ANSWER: usize = 16 * 1024;

/// A web hook: FastNetMon's object, with what tells it from others and proves where it comes from.
pub(super) async fn web_hook(channel: &str, url: &Url, secret: Option<&str>, message: &Message) -> Result<(), Failure> {
    let body = message.json.to_string().into_bytes();
    // What is written for FastNetMon's callback may look at who calls.
    let agent = if channel == "web_callback" { "FastNetMon (Floodwall)" } else { "Floodwall" };
    let mut headers = vec![
        (USER_AGENT, format!("{agent} {}", env!("CARGO_PKG_VERSION"))),
        (HeaderName::from_static("x-floodwall-event"), message.action.clone()),
        (HeaderName::from_static("x-floodwall-delivery"), message.id.clone()),
    ];
    if let Some(secret) = secret {
        let value = format!("sha256={}", signature(secret, &body));
        headers.push((HeaderName::from_static("x-floodwall-signature-256"), value));
    }
    post(url, &headers, body).await
}

/// HMAC-SHA256 in hexadecimal (RFC 2104).
fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, body).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Posts JSON, unless a header says otherwise; the caller sets the time.
pub(crate) async fn post(url: &Url, headers: &[(HeaderName, String)], body: Vec<u8>) -> Result<(), Failure> {
    let place = || format!("{}:{}", url.host, url.port);
    let stream = TcpStream::connect((url.host.as_str(), url.port))
        .await
        .map_err(|e| Failure::again(format!("cannot connect to {}: {e}", place())))?;
    if !url.is_tls {
        return talk(TokioIo::new(stream), url, headers, body).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|e| Failure::last(format!("{}: {e}", url.host)))?;
    let stream = connector()?
        .connect(name, stream)
        .await
        .map_err(|e| Failure::again(format!("no TLS with {}: {e}", place())))?;
    talk(TokioIo::new(stream), url, headers, body).await
}

/// TLS as this system trusts it.
fn connector() -> Result<TlsConnector, Failure> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(TlsConnector::from(Arc::clone(config)));
    }
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err(Failure::again("this system trusts no certificate authority: install ca-certificates"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::last(format!("TLS is not available: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::clone(CONFIG.get_or_init(|| Arc::new(config)))))
}

async fn talk<S>(io: S, url: &Url, headers: &[(HeaderName, String)], body: Vec<u8>) -> Result<(), Failure>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let again = |e: hyper::Error| Failure::again(format!("{}: {e}", url.host));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(again)?;
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let standard = if url.is_tls { 443 } else { 80 };
    let host = if url.port == standard { host } else { format!("{host}:{}", url.port) };
    let mut request = Request::builder().method(Method::POST).uri(url.path.as_str()).header(HOST, host);
    if !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| Failure::last(e.to_string()))?;
    // It ends with the sender.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(again)?;
    let status = response.status();
    let later = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    if status.is_success() {
        return Ok(());
    }
    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let answer = answer.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Err(refused(status, later.map(Duration::from_secs), &String::from_utf8_lossy(&answer)))
}

/// What an answer other than 2xx means: most of 4xx would be the same again.
fn refused(status: StatusCode, retry_after: Option<Duration>, answer: &str) -> Failure {
    let is_final = status.is_client_error()
        && ![StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS].contains(&status)
        || status.is_redirection();
    let said: String = answer.chars().filter(|c| !c.is_control()).take(200).collect();
    Failure { text: format!("answered {status} {said}").trim_end().to_owned(), is_final, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn what_may_fare_better_later_is_tried_again() {
        let is_final = |code: u16| refused(StatusCode::from_u16(code).expect("a code"), None, "").is_final;
        assert!([301, 400, 401, 404, 410].into_iter().all(is_final));
        assert!(![408, 425, 429, 500, 502, 503].into_iter().any(is_final));
    }
}
