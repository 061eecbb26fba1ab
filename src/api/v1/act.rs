//! What acts at once (decision 3): rules, blackholes, remote bans, approvals, the kill switch.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Access;
use super::super::refusal::{Input, Named, Parameters, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied, TooLarge};
use super::super::site::Site;
use super::{Done, Reply, Why, reply};
use crate::control::Request;

/// Longest time of an order: ten years, as on the command line.
const LONGEST_SECONDS: u32 = 315_360_000;

fn set(category: &str, arguments: Vec<String>) -> Request {
    Request::Set { category: category.to_owned(), arguments }
}

fn remove(category: &str, argument: String) -> Request {
    Request::Delete { category: category.to_owned(), arguments: vec![argument] }
}

/// Words with `expires` behind them.
fn expiring(mut words: Vec<String>, seconds: Option<u32>) -> Result<Vec<String>, Refusal> {
    if let Some(seconds) = seconds {
        if !(1..=LONGEST_SECONDS).contains(&seconds) {
            return Err(Refusal::bad(format!("expires_seconds is 1 to {LONGEST_SECONDS}")));
        }
        words.extend(["expires".to_owned(), format!("{seconds}s")]);
    }
    Ok(words)
}

/// A rule to announce.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRule {
    /// In FastNetMon's form: `{"destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "source_ports": [53], "action_type": "discard"}`.
    #[schema(value_type = Object)]
    rule: serde_json::Map<String, Value>,
    /// Seconds until it ends by itself; without it, until it is withdrawn.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_seconds: Option<u32>,
    /// For the audit log.
    reason: Option<String>,
}

/// Announces a FlowSpec rule at once. Scope operate.
#[utoipa::path(post, path = "/api/v1/rules", tag = "act", request_body = NewRule, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn add_rule(State(site): State<Site>, access: Access, Input(new): Input<NewRule>) -> Reply<Done> {
    let words = expiring(vec![Value::Object(new.rule).to_string()], new.expires_seconds)?;
    Ok(reply(site.ask(&access.because(new.reason), set("flowspec", words)).await?))
}

/// Withdraws a rule at once: by its id. Scope operate.
#[utoipa::path(delete, path = "/api/v1/rules/{id}", tag = "act", params(("id" = String, Path,), Why), security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn withdraw_rule(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Parameters(why): Parameters<Why>,
) -> Reply<Done> {
    one_rule(&id)?;
    Ok(reply(site.ask(&access.because(why.reason), remove("flowspec", id)).await?))
}

/// A path names one rule; `all` is for the command line.
fn one_rule(id: &str) -> Result<(), Refusal> {
    if id == "all" { Err(Refusal::bad("name one rule by its id")) } else { Ok(()) }
}

/// For how long more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extension {
    /// Seconds from now.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_seconds: u32,
    /// For the audit log.
    reason: Option<String>,
}

async fn extend(site: &Site, access: Access, id: String, extension: Extension) -> Reply<Done> {
    let words = expiring(vec![id], Some(extension.expires_seconds))?;
    Ok(reply(site.ask(&access.because(extension.reason), set("extend", words)).await?))
}

/// Keeps a rule in force for so long, whatever becomes of the attack. Scope operate.
#[utoipa::path(post, path = "/api/v1/rules/{id}/extend", tag = "act", params(("id" = String, Path,)), request_body = Extension,
    security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn extend_rule(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Input(extension): Input<Extension>,
) -> Reply<Done> {
    extend(&site, access, id, extension).await
}

/// A host to blackhole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBlackhole {
    /// An own host.
    address: String,
    /// Seconds until it ends by itself; without it, until it is ended.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_seconds: Option<u32>,
    /// For the audit log.
    reason: Option<String>,
}

/// Blackholes an own host at once; its FlowSpec rules are withdrawn. Scope operate.
#[utoipa::path(post, path = "/api/v1/blackholes", tag = "act", request_body = NewBlackhole, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn add_blackhole(
    State(site): State<Site>,
    access: Access,
    Input(new): Input<NewBlackhole>,
) -> Reply<Done> {
    let words = expiring(vec![new.address], new.expires_seconds)?;
    Ok(reply(site.ask(&access.because(new.reason), set("blackhole", words)).await?))
}

/// Ends a blackhole at once: by its id or host. Scope operate.
#[utoipa::path(delete, path = "/api/v1/blackholes/{id}", tag = "act", params(("id" = String, Path,), Why),
    security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn end_blackhole(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Parameters(why): Parameters<Why>,
) -> Reply<Done> {
    Ok(reply(site.ask(&access.because(why.reason), remove("blackhole", id)).await?))
}

/// Keeps a blackhole in force for so long, whatever becomes of the attack. Scope operate.
#[utoipa::path(post, path = "/api/v1/blackholes/{id}/extend", tag = "act", params(("id" = String, Path,)),
    request_body = Extension, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn extend_blackhole(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Input(extension): Input<Extension>,
) -> Reply<Done> {
    extend(&site, access, id, extension).await
}

/// What of a foreign host is stopped.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    /// What comes from it, by FlowSpec.
    Src,
    /// What goes to it, by a blackhole route.
    Dst,
    /// Both.
    #[default]
    Both,
}

/// A foreign host to ban.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    /// A foreign host.
    address: String,
    /// What of it is stopped; both by default.
    #[schema(inline)]
    direction: Option<Side>,
    /// Seconds until it ends by itself; without it, until it is ended.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_seconds: Option<u32>,
    /// For the audit log.
    reason: Option<String>,
}

/// Bans a foreign host at once, at peers with `announce_remote_bans`. Scope operate.
#[utoipa::path(post, path = "/api/v1/remote_blackholes", tag = "act", request_body = NewBan, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn ban_remote(State(site): State<Site>, access: Access, Input(new): Input<NewBan>) -> Reply<Done> {
    let side = match new.direction.unwrap_or_default() {
        Side::Src => "src",
        Side::Dst => "dst",
        Side::Both => "both",
    };
    let words = expiring(vec![side.to_owned(), new.address], new.expires_seconds)?;
    Ok(reply(site.ask(&access.because(new.reason), set("remote_blackhole", words)).await?))
}

/// Ends the ban of a foreign host at once. Scope operate.
#[utoipa::path(delete, path = "/api/v1/remote_blackholes/{host}", tag = "act", params(("host" = String, Path,), Why),
    security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn unban_remote(
    State(site): State<Site>,
    access: Access,
    Named(host): Named,
    Parameters(why): Parameters<Why>,
) -> Reply<Done> {
    one_rule(&host)?;
    Ok(reply(site.ask(&access.because(why.reason), remove("remote_blackhole", host)).await?))
}

/// Announces what waits for approval. Scope approve.
#[utoipa::path(post, path = "/api/v1/approvals/{id}", tag = "act", params(("id" = String, Path,), Why), security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn approve(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Parameters(why): Parameters<Why>,
) -> Reply<Done> {
    Ok(reply(site.ask(&access.because(why.reason), set("approve", vec![id])).await?))
}

/// Drops what waits for approval. Scope operate.
#[utoipa::path(delete, path = "/api/v1/approvals/{id}", tag = "act", params(("id" = String, Path,), Why),
    security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn refuse(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Parameters(why): Parameters<Why>,
) -> Reply<Done> {
    one_rule(&id)?;
    Ok(reply(site.ask(&access.because(why.reason), remove("flowspec", id)).await?))
}

/// Whether anything is announced at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Announcing {
    /// False withdraws everything everywhere.
    enabled: bool,
    /// For the audit log.
    reason: Option<String>,
}

/// The kill switch: false withdraws everything everywhere, and nothing is announced until true. Scope operate.
#[utoipa::path(post, path = "/api/v1/announcing", tag = "act", request_body = Announcing, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn announcing(
    State(site): State<Site>,
    access: Access,
    Input(announcing): Input<Announcing>,
) -> Reply<Done> {
    let word = if announcing.enabled { "enable" } else { "disable" };
    Ok(reply(site.ask(&access.because(announcing.reason), set("announcing", vec![word.to_owned()])).await?))
}
