//! Who asks over HTTP: a bearer token, a session of the dashboard, or somebody on this host who may look.
//!
//! * `Authorization: Bearer fw_...` (or HTTP basic with the token as password, as FastNetMon's clients send it).
//! * `POST /api/v1/login` with a token gives a session: a cookie, HttpOnly and SameSite=Strict, for [`SESSION`]. A request by cookie
//!   that changes anything needs the header [`CSRF`], which no foreign page can send.
//! * From loopback without either: reads, and only by a name that is this host's, so that a page of the web cannot read through
//!   a name that it points at 127.0.0.1.
//!
//! Limits: [`MAX_SESSIONS`] sessions, [`FAILURES`] failed attempts per address within [`WINDOW`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use operator::Caller;
use operator::access::{Scope, TOKEN};
use ring::rand::SecureRandom;
use traffic::{Prefix, Time};

use super::listener::Peer;
use super::refusal::Refusal;
use super::site::Site;
use crate::tokens::{Token, hex};

/// The header that a browser's request needs to change anything.
pub const CSRF: &str = "x-floodwall";
/// The cookie of a session.
pub const COOKIE: &str = "floodwall_session";
/// How long a session lasts.
pub const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once at most; the oldest makes room.
pub const MAX_SESSIONS: usize = 256;
/// Failed attempts of one address before it has to wait.
pub const FAILURES: u32 = 10;
/// Failures are forgotten after this.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered; when they are full, every other one that fails has to wait. Whoever has a right token is
/// let in from an address that has not failed too often, full or not.
const MAX_ADDRESSES: usize = 4096;

/// A caller and what he may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// As the audit log has him.
    pub caller: Caller,
    /// His scopes.
    pub scopes: Vec<Scope>,
    /// His token, unless he only looks from this host.
    pub token: Option<Token>,
    /// Whether a browser sent it by itself.
    pub by_cookie: bool,
}

impl Access {
    /// # Errors
    /// 401 for somebody without a token, 403 for a token without the scope.
    pub fn need(&self, scope: Scope) -> Result<(), Refusal> {
        if scope.is_in(&self.scopes) {
            return Ok(());
        }
        if self.token.is_none() {
            let text = format!("this takes a token with scope {}: floodwall set token NAME scopes {0}", scope.name());
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, text));
        }
        Err(Refusal::forbidden(format!("this takes a token with scope {}", scope.name())))
    }

    /// # Errors
    /// 403 for a token that is for some prefixes only.
    pub fn need_all_prefixes(&self) -> Result<(), Refusal> {
        if self.caller.prefixes.is_empty() {
            Ok(())
        } else {
            Err(Refusal::forbidden("this token is for its own prefixes alone"))
        }
    }

    /// Whether a prefix is one that the caller may see and act on.
    #[must_use]
    pub fn sees(&self, prefix: &Prefix) -> bool {
        self.caller.sees(prefix)
    }

    /// As [`Access::sees`], for a prefix in words.
    #[must_use]
    pub fn sees_text(&self, prefix: &str) -> bool {
        self.caller.prefixes.is_empty() || prefix.parse().is_ok_and(|p| self.sees(&p))
    }

    /// Why, for the audit log.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.caller.reason = reason.filter(|r| !r.is_empty());
        self
    }

    fn of(token: Token) -> Self {
        Self {
            caller: Caller {
                prefixes: token.prefixes.clone(),
                is_token: true,
                is_admin: Scope::Admin.is_in(&token.scopes),
                ..caller(&format!("{TOKEN}{}", token.name))
            },
            scopes: token.scopes.clone(),
            token: Some(token),
            by_cookie: false,
        }
    }

    fn visitor() -> Self {
        Self { caller: caller("loopback"), scopes: vec![Scope::Read], token: None, by_cookie: false }
    }
}

fn caller(user: &str) -> Caller {
    Caller { user: user.to_owned(), uid: u32::MAX, may_write: true, ..Caller::default() }
}

/// Sessions, and who failed how often.
#[derive(Debug, Default)]
pub struct Guard {
    sessions: Mutex<BTreeMap<String, (Time, Token)>>,
    failures: Mutex<BTreeMap<IpAddr, (Time, u32)>>,
}

impl Guard {
    /// Begins a session; returns its secret.
    pub(super) fn begin(&self, now: Time, token: Token) -> Result<String, Refusal> {
        let mut secret = [0u8; 32];
        ring::rand::SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the system gives no random numbers"))?;
        let secret = hex(&secret);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (ends, _)| *ends > now);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, (ends, _))| *ends).map(|(key, _)| key.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(secret.clone(), (now.after(SESSION), token));
        Ok(secret)
    }

    /// Ends a session.
    pub(super) fn end(&self, secret: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(secret);
    }

    fn session(&self, now: Time, secret: &str) -> Option<Token> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(secret).filter(|(ends, _)| *ends > now).map(|(_, token)| token.clone())
    }

    /// Whether an address has failed too often of late.
    pub(super) fn is_blocked(&self, now: Time, address: IpAddr) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |(since, count): &(Time, u32)| now.since(*since) < WINDOW && *count >= FAILURES;
        failures.get(&address.to_canonical()).is_some_and(recent)
    }

    /// Notes a failure; whether this address has to wait: it failed too often, or there is no room to count.
    pub(super) fn failed(&self, now: Time, address: IpAddr) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now.since(*since) < WINDOW);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address.to_canonical()) {
            return true;
        }
        let (_, count) = failures.entry(address.to_canonical()).or_insert((now, 0));
        *count += 1;
        *count > FAILURES
    }
}

/// A token in the headers: bearer, or the password of HTTP basic.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // Any user: the token says who it is.
    let pair = String::from_utf8(base64(rest.trim())?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

/// RFC 4648 section 4, as HTTP basic has it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut octets) = (0u32, 0u32, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(octets)
}

/// The session's secret among the cookies.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Whether the name that a client called us by is one that only this host answers to.
fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return true };
    let name = if host.parse::<IpAddr>().is_ok() { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The caller of a request.
///
/// # Errors
/// 401 without a token where one is needed or with a wrong one, 403 for a foreign page's request, 429 after too many failures.
pub(super) fn identify(site: &Site, parts: &Parts) -> Result<Access, Refusal> {
    let now = site.now();
    let peer = parts.extensions.get::<Peer>().map_or_else(|| SocketAddr::from(([255; 4], 0)), |p| p.0);
    if let Some(secret) = bearer(&parts.headers) {
        if let Some(token) = site.tokens().find(site.wall(), &secret) {
            return Ok(Access::of(token));
        }
        return Err(if site.guard().failed(now, peer.ip()) { too_often() } else { unknown() });
    }
    let session = cookie(&parts.headers).and_then(|secret| site.guard().session(now, secret));
    if let Some(token) = session.filter(|token| site.tokens().holds(site.wall(), token)) {
        let is_safe = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_safe && !parts.headers.contains_key(CSRF) {
            return Err(Refusal::forbidden(format!("a session changes nothing without the header {CSRF}")));
        }
        return Ok(Access { by_cookie: true, ..Access::of(token) });
    }
    // Before anything else of the request is looked at.
    if !site.is_open_to(peer) || !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "log in, or send Authorization: Bearer TOKEN"));
    }
    if !is_local_name(&parts.headers) {
        return Err(Refusal::forbidden("without a token this host is asked by its address or as localhost"));
    }
    Ok(Access::visitor())
}

/// Too many failures.
pub(super) fn too_often() -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens: wait a minute")
}

/// No such token.
pub(super) fn unknown() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "the token is unknown, revoked or has ended")
}

impl FromRequestParts<Site> for Access {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        identify(site, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_bearer_or_as_password() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            headers
        };
        assert_eq!(bearer(&headers("Bearer fw_1")).as_deref(), Some("fw_1"));
        assert_eq!(bearer(&headers("basic YWRtaW46ZndfMQ==")).as_deref(), Some("fw_1"));
        assert_eq!(bearer(&headers("Basic ????")), None);
        assert_eq!(bearer(&headers("Digest x")), None);
        assert_eq!(base64("YWRt/+8="), Some(vec![b'a', b'd', b'm', 0xff, 0xef]));
    }

    #[test]
    fn only_names_of_this_host_are_local() {
        let is_local = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            is_local_name(&headers)
        };
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:10007", "[::1]:10007", "::1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:10007", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn failures_block_an_address_for_a_while_and_memory_is_bounded() {
        let guard = Guard::default();
        let at = |s: u64| Time::from_seconds(1000 + s, 0);
        let mine: IpAddr = "192.0.2.1".parse().expect("an address");
        for _ in 0..FAILURES {
            assert!(!guard.is_blocked(at(0), mine));
            guard.failed(at(0), mine);
        }
        assert!(guard.is_blocked(at(59), mine) && !guard.is_blocked(at(60), mine));
        for n in 0..10_000u32 {
            guard.failed(at(1), IpAddr::from(n.to_be_bytes()));
        }
        assert!(guard.failures.lock().expect("a lock").len() <= MAX_ADDRESSES);
        let other = "203.0.113.77".parse().expect("an address");
        assert!(guard.failed(at(2), other), "full: nobody guesses");
        assert!(!guard.is_blocked(at(2), other), "and nobody is shut out who has not failed");
    }

    #[test]
    fn sessions_end_and_are_bounded() {
        let guard = Guard::default();
        let tokens = crate::tokens::Tokens::open(None).expect("opens");
        let answer = tokens.set(Time::from_seconds(1, 0), &caller("x"), &["t".to_owned()]).expect("made");
        let secret = answer.json["token"].as_str().expect("a secret").to_owned();
        let token = tokens.find(Time::from_seconds(1, 0), &secret).expect("found");
        let first = guard.begin(Time::from_seconds(1, 0), token.clone()).expect("begun");
        assert!(guard.session(Time::from_seconds(2, 0), &first).is_some());
        assert!(guard.session(Time::from_seconds(2 + 12 * 3600, 0), &first).is_none());
        for n in 0..MAX_SESSIONS as u64 {
            let _ = guard.begin(Time::from_seconds(2 + n, 0), token.clone()).expect("begun");
        }
        assert!(guard.session(Time::from_seconds(3, 0), &first).is_none(), "the oldest made room");
    }
}
