//! What was: attacks with everything that happened, events, series. Read from the history's file, never from the control thread.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use operator::access::Scope;
use reporting::history::Archive;
use reporting::history::archive::{PastAttack, PastEvent, Series};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Access;
use super::super::refusal::{Named, Parameters, Refusal};
use super::super::refused::{BadInput, Busy, Denied, Missing};
use super::super::site::Site;
use super::Reply;
use super::look::bounded;

/// Furthest time that is asked for, in seconds since the Unix epoch: the year 9999.
const LAST: i64 = 253_402_300_799;

pub(super) async fn read<T: Send + 'static>(
    site: &Site,
    get: impl FnOnce(&Archive) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let unavailable = |text: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
    let archive = site.archive().cloned();
    let archive = archive.ok_or_else(|| unavailable("no history is kept: state.directory cannot be written".into()))?;
    let read = tokio::task::spawn_blocking(move || get(&archive)).await;
    read.map_err(|_| unavailable("the history could not be read".into()))?
        .map_err(|error| unavailable(format!("the history cannot be read: {error:#}")))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Detected before this, in seconds since the Unix epoch.
    before: Option<f64>,
    /// Only of this own prefix.
    prefix: Option<String>,
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Attacks in progress and over, newest first.
#[utoipa::path(get, path = "/api/v1/history/attacks", tag = "history", params(Which), security((), ("token" = [])),
    responses((status = 200, body = Vec<PastAttack>), BadInput, Denied, Busy))]
pub(super) async fn attack_history(
    State(site): State<Site>,
    access: Access,
    Parameters(which): Parameters<Which>,
) -> Reply<Vec<PastAttack>> {
    access.need(Scope::Read)?;
    let limit = usize::from(bounded(which.limit, 100)?);
    let before = which.before.unwrap_or(f64::MAX);
    let attacks = read(&site, move |archive| archive.attacks(before, which.prefix.as_deref(), limit)).await?;
    Ok(Json(attacks.into_iter().filter(|a| access.sees_text(&a.prefix)).collect()))
}

/// An attack and what happened during it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttackPage {
    /// The attack.
    attack: PastAttack,
    /// What happened, oldest first: alarm, samples, candidates with coverage and collateral, what was announced, the end.
    events: Vec<PastEvent>,
    /// Its host's traffic around it.
    series: Series,
}

/// One attack with everything that happened during it.
#[utoipa::path(get, path = "/api/v1/history/attacks/{id}", tag = "history", params(("id" = String, Path,)),
    security((), ("token" = [])), responses((status = 200, body = AttackPage), BadInput, Denied, Missing, Busy))]
pub(super) async fn attack(State(site): State<Site>, access: Access, Named(id): Named) -> Reply<AttackPage> {
    access.need(Scope::Read)?;
    let now = seconds(site.wall().as_seconds());
    let text = format!("there is no attack {id:?}: see /api/v1/history/attacks");
    let page = read(&site, move |archive| {
        let Some((attack, events)) = archive.attack(&id)? else { return Ok(None) };
        let (from, to) = (seconds(attack.detected) - 60, attack.ended.map_or(now, seconds) + 60);
        let series = archive.series(&reporting::history::writer::series_of(&attack.prefix), from, to, now)?;
        Ok(Some(AttackPage { attack, events, series }))
    });
    let page = page.await?.filter(|page| access.sees_text(&page.attack.prefix));
    page.map(Json).ok_or_else(|| Refusal::not_found(text))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct When {
    /// Before this, in seconds since the Unix epoch.
    before: Option<f64>,
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// The last events, oldest first.
#[utoipa::path(get, path = "/api/v1/history/events", tag = "history", params(When), security((), ("token" = [])),
    responses((status = 200, body = Vec<PastEvent>), BadInput, Denied, Busy))]
pub(super) async fn events(
    State(site): State<Site>,
    access: Access,
    Parameters(when): Parameters<When>,
) -> Reply<Vec<PastEvent>> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    let limit = usize::from(bounded(when.limit, 100)?);
    Ok(Json(read(&site, move |archive| archive.events(when.before.unwrap_or(f64::MAX), limit)).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Span {
    /// `total`, `filtered`, `internal`, `host 203.0.113.9`, `network 203.0.113.0/24`, `group web`, `exporter 192.0.2.1`.
    name: String,
    /// Seconds back from now.
    #[param(minimum = 1, maximum = 315_360_000)]
    seconds: Option<u32>,
}

/// Traffic over time, as fine as 2,000 points allow: 1 s, 10 s, 1 min or 10 min averages.
#[utoipa::path(get, path = "/api/v1/history/series", tag = "history", params(Span), security((), ("token" = [])),
    responses((status = 200, body = Series), BadInput, Denied, Busy))]
pub(super) async fn series(
    State(site): State<Site>,
    access: Access,
    Parameters(span): Parameters<Span>,
) -> Reply<Series> {
    access.need(Scope::Read)?;
    let own = span.name.split_once(' ').filter(|(kind, _)| matches!(*kind, "host" | "network")).map(|(_, p)| p);
    if !access.caller.prefixes.is_empty() && !own.is_some_and(|prefix| access.sees_text(prefix)) {
        return Err(Refusal::forbidden("this token is for its own prefixes alone"));
    }
    let back = match span.seconds.unwrap_or(3600) {
        back @ 1..=315_360_000 => i64::from(back),
        _ => return Err(Refusal::bad("seconds is 1 to 315360000")),
    };
    let now = seconds(site.wall().as_seconds());
    Ok(Json(read(&site, move |archive| archive.series(&span.name, now - back, now, now)).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Beginning {
    /// What they begin with: `host`, `network`, `group`, `exporter`.
    beginning: Option<String>,
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Names of series.
#[utoipa::path(get, path = "/api/v1/history/names", tag = "history", params(Beginning), security((), ("token" = [])),
    responses((status = 200, body = Vec<String>), BadInput, Denied, Busy))]
pub(super) async fn series_names(
    State(site): State<Site>,
    access: Access,
    Parameters(which): Parameters<Beginning>,
) -> Reply<Vec<String>> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    let limit = usize::from(bounded(which.limit, 100)?);
    Ok(Json(read(&site, move |archive| archive.names(&which.beginning.unwrap_or_default(), limit)).await?))
}

#[allow(clippy::cast_possible_truncation, reason = "clamped")]
fn seconds(time: f64) -> i64 {
    (time as i64).clamp(0, LAST)
}
