//! What is: status, hosts, attacks, rules, approvals, exporters, groups, audit.

use axum::Json;
use axum::extract::State;
use operator::Request;
use operator::access::Scope;
use operator::status::{AttackStatus, Effect, ExporterStatus, MitigationStatus, PeerStatus, Status, Volume};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Access;
use super::super::refusal::{Named, Parameters, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied};
use super::super::site::Site;
use super::{Done, Reply, reply};

/// `show CATEGORY ...`, as on the command line.
pub(super) fn show(category: &str, arguments: &[&str]) -> Request {
    Request::Show { category: category.to_owned(), arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
}

/// The daemon at a glance, at most 0.3 s old; everything that it knows about itself.
#[utoipa::path(get, path = "/api/v1/status", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Status), Denied))]
pub(super) async fn status(State(site): State<Site>, access: Access) -> Reply<Status> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    Ok(Json((*site.status()).clone()))
}

/// Traffic since the start.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Totals {
    /// To our networks.
    incoming: Volume,
    /// From our networks.
    outgoing: Volume,
    /// Between our networks.
    internal: Volume,
    /// Neither end is ours.
    other: Volume,
    /// Excluded from host counters by rules in force.
    filtered: Volume,
    /// Hosts with traffic in the last tick.
    active_hosts: u64,
}

/// Traffic since the start: subtract two answers for a rate, or see `/api/v1/history/series`.
#[utoipa::path(get, path = "/api/v1/totals", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Totals), Denied))]
pub(super) async fn totals(State(site): State<Site>, access: Access) -> Reply<Totals> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    let s = site.status();
    let active_hosts = s.active_hosts;
    let (incoming, outgoing, internal, other, filtered) = (s.incoming, s.outgoing, s.internal, s.other, s.filtered);
    Ok(Json(Totals { incoming, outgoing, internal, other, filtered, active_hosts }))
}

/// What hosts are sorted by.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    #[default]
    Packets,
    Bytes,
}

/// To or from hosts.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    #[default]
    Incoming,
    Outgoing,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Top {
    /// What they are sorted by.
    #[param(inline)]
    order: Option<Order>,
    /// The direction of that.
    #[param(inline)]
    direction: Option<Way>,
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// The own hosts with the most traffic.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "look", params(Top), security((), ("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn hosts(State(site): State<Site>, access: Access, Parameters(top): Parameters<Top>) -> Reply<Done> {
    let order = match top.order.unwrap_or_default() {
        Order::Packets => "packets",
        Order::Bytes => "bytes",
    };
    let direction = match top.direction.unwrap_or_default() {
        Way::Incoming => "incoming",
        Way::Outgoing => "outgoing",
    };
    let limit = bounded(top.limit, 100)?.to_string();
    Ok(reply(site.ask(&access, show("host_counters", &[order, direction, &limit])).await?))
}

/// One own host: its counters, attacks and rules.
#[utoipa::path(get, path = "/api/v1/hosts/{address}", tag = "look", params(("address" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn host(State(site): State<Site>, access: Access, Named(address): Named) -> Reply<Done> {
    Ok(reply(site.ask(&access, show("single_host_counters", &[&address])).await?))
}

/// Attacks in progress.
#[utoipa::path(get, path = "/api/v1/attacks", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<AttackStatus>), Denied))]
pub(super) async fn attacks(State(site): State<Site>, access: Access) -> Reply<Vec<AttackStatus>> {
    access.need(Scope::Read)?;
    Ok(Json(site.status().attacks.iter().filter(|a| access.sees(&a.prefix)).cloned().collect()))
}

fn mitigations(
    site: &Site,
    access: &Access,
    wanted: impl Fn(&MitigationStatus) -> bool,
) -> Reply<Vec<MitigationStatus>> {
    access.need(Scope::Read)?;
    let status = site.status();
    let seen = status.mitigations.iter().filter(|m| wanted(m) && access.sees(&m.prefix));
    Ok(Json(seen.cloned().collect()))
}

/// FlowSpec rules, dry runs included.
#[utoipa::path(get, path = "/api/v1/rules", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<MitigationStatus>), Denied))]
pub(super) async fn rules(State(site): State<Site>, access: Access) -> Reply<Vec<MitigationStatus>> {
    mitigations(&site, &access, |m| m.kind == Effect::FlowSpec)
}

/// What became of a rule, from the journal.
#[utoipa::path(get, path = "/api/v1/rules/{id}", tag = "look", params(("id" = String, Path,)), security((), ("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, Busy))]
pub(super) async fn rule(State(site): State<Site>, access: Access, Named(id): Named) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, show("flowspec", &["history", &id])).await?))
}

/// Blackholed own hosts and diversions, dry runs included.
#[utoipa::path(get, path = "/api/v1/blackholes", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<MitigationStatus>), Denied))]
pub(super) async fn blackholes(State(site): State<Site>, access: Access) -> Reply<Vec<MitigationStatus>> {
    mitigations(&site, &access, |m| m.kind != Effect::FlowSpec)
}

/// Banned foreign hosts.
#[utoipa::path(get, path = "/api/v1/remote_blackholes", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn remote_blackholes(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, show("remote_blackhole", &[])).await?))
}

/// What waits for somebody's yes.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<MitigationStatus>), Denied))]
pub(super) async fn approvals(State(site): State<Site>, access: Access) -> Reply<Vec<MitigationStatus>> {
    mitigations(&site, &access, |m| m.awaits_approval)
}

/// Exporters of flow telemetry and how they fare.
#[utoipa::path(get, path = "/api/v1/exporters", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<ExporterStatus>), Denied))]
pub(super) async fn exporters(State(site): State<Site>, access: Access) -> Reply<Vec<ExporterStatus>> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    Ok(Json(site.status().exporters.clone()))
}

/// BGP peers: sessions, what was sent, what was refused.
#[utoipa::path(get, path = "/api/v1/peers", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<PeerStatus>), Denied))]
pub(super) async fn peers(State(site): State<Site>, access: Access) -> Reply<Vec<PeerStatus>> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    Ok(Json(site.status().peers.clone()))
}

/// Names of host groups.
#[utoipa::path(get, path = "/api/v1/hostgroups", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<String>), Denied, Conflict, Busy))]
pub(super) async fn hostgroups(State(site): State<Site>, access: Access) -> Reply<Value> {
    access.need_all_prefixes()?;
    Ok(Json(site.ask(&access, show("hostgroup", &[])).await?.json))
}

/// A host group's keys, written, inherited or by default.
#[utoipa::path(get, path = "/api/v1/hostgroups/{name}", tag = "look", params(("name" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = Object), BadInput, Denied, Conflict, Busy))]
pub(super) async fn hostgroup(State(site): State<Site>, access: Access, Named(name): Named) -> Reply<Value> {
    access.need_all_prefixes()?;
    Ok(Json(site.ask(&access, show("hostgroup", &[&name])).await?.json))
}

/// What was learned of ordinary traffic, by host group and direction, with the thresholds that it suggests.
#[utoipa::path(get, path = "/api/v1/baseline", tag = "look", security((), ("token" = [])),
    responses((status = 200, body = Vec<Object>), Denied, Conflict, Busy))]
pub(super) async fn baseline(State(site): State<Site>, access: Access) -> Reply<Value> {
    access.need_all_prefixes()?;
    Ok(Json(site.ask(&access, show("baseline", &[])).await?.json))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Last {
    /// How many of the last.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// A record of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "the shape of what the log holds")]
pub(super) struct AuditRecord {
    /// Seconds since the Unix epoch.
    time: f64,
    /// Name of the caller.
    user: String,
    /// Who, by number.
    uid: u32,
    /// What, as words.
    action: String,
    /// Why, if he said.
    reason: Option<String>,
    /// Whether it was done.
    done: bool,
    /// What came of it.
    result: String,
}

/// Who did what, when and why; oldest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "look", params(Last), security((), ("token" = [])),
    responses((status = 200, body = Vec<AuditRecord>), BadInput, Denied, Conflict, Busy))]
pub(super) async fn audit(
    State(site): State<Site>,
    access: Access,
    Parameters(last): Parameters<Last>,
) -> Reply<Value> {
    access.need_all_prefixes()?;
    let limit = bounded(last.limit, 100)?.to_string();
    Ok(Json(site.ask(&access, show("audit", &[&limit])).await?.json))
}

/// A limit within 1 to 1000.
pub(super) fn bounded(limit: Option<u16>, default: u16) -> Result<u16, Refusal> {
    match limit.unwrap_or(default) {
        limit @ 1..=1000 => Ok(limit),
        _ => Err(Refusal::bad("limit is 1 to 1000")),
    }
}
