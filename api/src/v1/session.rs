//! Logging in and out with a browser, and tokens.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use operator::Request;
use operator::access::Scope;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{self, Access};
use super::super::listener::Peer;
use super::super::refusal::{Input, Named, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied, NoToken, TooLarge, TooMany};
use super::super::site::Site;
use super::look::show;
use super::{Done, Reply, reply};

/// Who logs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// A token, as `floodwall set token` printed it.
    token: String,
}

/// Who you are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// As the audit log has you.
    user: String,
    /// What you may do.
    scopes: Vec<Scope>,
    /// What you may see and act on; empty for all.
    prefixes: Vec<String>,
    /// Whether you logged in.
    logged_in: bool,
}

impl Session {
    fn of(access: &Access) -> Self {
        Self {
            user: access.caller.user.clone(),
            scopes: access.scopes.clone(),
            prefixes: access.caller.prefixes.iter().map(ToString::to_string).collect(),
            logged_in: access.token.is_some(),
        }
    }
}

/// Begins a session: a cookie for 12 hours. A request by cookie that changes anything needs the header `x-floodwall`.
#[utoipa::path(post, path = "/api/v1/login", tag = "session", request_body = Login,
    responses((status = 200, body = Done), BadInput, NoToken, TooLarge, TooMany, Busy))]
pub(super) async fn login(
    State(site): State<Site>,
    Extension(Peer(peer)): Extension<Peer>,
    Input(login): Input<Login>,
) -> Result<Response, Refusal> {
    let now = site.now();
    if site.guard().is_blocked(now, peer.ip()) {
        return Err(auth::too_often());
    }
    let Some(token) = site.tokens().find(site.wall(), &login.token) else {
        let waits = site.guard().failed(now, peer.ip());
        tracing::warn!(%peer, "a login with a wrong token");
        return Err(if waits { auth::too_often() } else { auth::unknown() });
    };
    tracing::info!(%peer, token = token.name, "logged in");
    let done = Done { text: format!("logged in as token {}", token.name), value: Value::Bool(true) };
    let secret = site.guard().begin(now, token)?;
    Ok((with_cookie(&secret, auth::SESSION.as_secs()), Json(done)).into_response())
}

/// Ends the session.
#[utoipa::path(post, path = "/api/v1/logout", tag = "session", responses((status = 200, body = Done)))]
pub(super) async fn logout(State(site): State<Site>, headers: HeaderMap) -> Response {
    // Whoever has the cookie may end it; a foreign page's request does not carry it.
    if let Some(secret) = auth::cookie(&headers) {
        site.guard().end(secret);
    }
    (with_cookie("", 0), Json(Done { text: "logged out".to_owned(), value: Value::Bool(true) })).into_response()
}

fn with_cookie(secret: &str, seconds: u64) -> HeaderMap {
    let cookie = format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}", auth::COOKIE);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        headers.insert(header::SET_COOKIE, value);
    }
    headers
}

/// Who you are and what you may do.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", security((), ("token" = [])),
    responses((status = 200, body = Session), Denied))]
pub(super) async fn session(access: Access) -> Json<Session> {
    Json(Session::of(&access))
}

/// Tokens, without their secrets. Scope admin.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "session", security(("token" = [])),
    responses((status = 200, body = Vec<Object>), Denied, Conflict, Busy))]
pub(super) async fn tokens(State(site): State<Site>, access: Access) -> Reply<Value> {
    access.need_all_prefixes()?;
    Ok(Json(site.ask(&access, show("token", &[])).await?.json))
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// For the audit log.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    name: String,
    /// What it may do.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// Seconds until it ends by itself.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_seconds: Option<u32>,
    /// Prefixes that it may see and act on; empty for all.
    #[serde(default)]
    prefixes: Vec<String>,
}

/// Makes a token; its secret is answered this once. Scope admin.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "session", request_body = NewToken, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn add_token(State(site): State<Site>, access: Access, Input(new): Input<NewToken>) -> Reply<Done> {
    access.need_all_prefixes()?;
    if new.scopes.is_empty() || new.name.is_empty() {
        return Err(Refusal::bad("a token has a name and at least one scope"));
    }
    let scopes: Vec<&str> = new.scopes.iter().map(|s| s.name()).collect();
    let mut arguments = vec![new.name, "scopes".to_owned(), scopes.join(",")];
    if !new.prefixes.is_empty() {
        arguments.extend(["prefixes".to_owned(), new.prefixes.join(",")]);
    }
    if let Some(seconds) = new.expires_seconds {
        arguments.extend(["expires".to_owned(), format!("{seconds}s")]);
    }
    Ok(reply(site.ask(&access, Request::Set { category: "token".to_owned(), arguments }).await?))
}

/// Revokes a token at once. Scope admin.
#[utoipa::path(delete, path = "/api/v1/tokens/{name}", tag = "session", params(("name" = String, Path,)),
    security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn revoke_token(State(site): State<Site>, access: Access, Named(name): Named) -> Reply<Done> {
    access.need_all_prefixes()?;
    let request = Request::Delete { category: "token".to_owned(), arguments: vec![name] };
    Ok(reply(site.ask(&access, request).await?))
}
