//! What acts at once (decision 3): rules, blackholes, remote bans, approvals, the kill switch.

use std::time::Duration;

use axum::extract::State;
use operator::order::{self, RouteName, Terms};
use operator::{Order, Request};
use serde::Deserialize;
use serde_json::Value;
use traffic::Prefix;
use traffic::target::PrefixError;
use utoipa::ToSchema;

use super::super::auth::Access;
use super::super::refusal::{Input, Named, Parameters, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied, TooLarge};
use super::super::site::Site;
use super::{Done, Reply, Why, reply};

/// How long an order is to last; why comes with the caller.
fn terms(seconds: Option<u32>) -> Result<Terms, Refusal> {
    Ok(Terms { lasts: seconds.map(lasting).transpose()?, reason: None })
}

fn lasting(seconds: u32) -> Result<Duration, Refusal> {
    let lasts = Duration::from_secs(seconds.into());
    if lasts.is_zero() || lasts > order::LONGEST {
        return Err(Refusal::bad(format!("expires_seconds is 1 to {}", order::LONGEST.as_secs())));
    }
    Ok(lasts)
}

/// A path names one route.
fn named(id: &str) -> Result<RouteName, Refusal> {
    RouteName::new(id)
        .filter(|name| name.as_str() != "all")
        .ok_or_else(|| Refusal::bad("name one rule or blackhole by its id: all is for the command line"))
}

async fn give(site: &Site, access: Access, reason: Option<String>, order: Order) -> Reply<Done> {
    Ok(reply(site.ask(&access.because(reason), Request::Order(order)).await?))
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
    let rule = flowspec::json::from_value(&Value::Object(new.rule)).map_err(|e| Refusal::bad(e.to_string()))?;
    give(&site, access, new.reason, Order::AddRule { rule, terms: terms(new.expires_seconds)? }).await
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
    give(&site, access, why.reason, Order::EndRule { name: named(&id)?, reason: None }).await
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
    let order = Order::Extend { name: named(&id)?, lasts: lasting(extension.expires_seconds)?, reason: None };
    give(site, access, extension.reason, order).await
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
    let prefix = flowspec::json::prefix_as_written(&new.address).map_err(Refusal::bad)?;
    give(&site, access, new.reason, Order::AddBlackhole { prefix, terms: terms(new.expires_seconds)? }).await
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
    give(&site, access, why.reason, Order::EndBlackhole { name: named(&id)?, reason: None }).await
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
        Side::Src => order::Side::Source,
        Side::Dst => order::Side::Destination,
        Side::Both => order::Side::Both,
    };
    let host = order::host(&new.address).map_err(Refusal::bad)?;
    give(&site, access, new.reason, Order::Ban { host, side, terms: terms(new.expires_seconds)? }).await
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
    let within: Prefix = host.parse().map_err(|e: PrefixError| Refusal::bad(e.to_string()))?;
    let order = Order::Unban { within: Some(within), side: order::Side::Both, reason: None };
    give(&site, access, why.reason, order).await
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
    give(&site, access, why.reason, Order::Approve { name: named(&id)?, reason: None }).await
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
    give(&site, access, why.reason, Order::EndRule { name: named(&id)?, reason: None }).await
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
    give(&site, access, announcing.reason, Order::Announcing { on: announcing.enabled, reason: None }).await
}
