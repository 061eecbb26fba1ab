//! `/api/v1`: paths, their OpenAPI 3.1 document, and nothing that decides. Every handler makes the request that the same words on
//! the command line are ([`Site::ask`]), or reads the newest status or the history.

mod act;
mod configuration;
mod evidence;
mod false_positive;
mod look;
mod past;
mod session;
mod stream;

use axum::routing::{delete, get, post};
use axum::{Json, Router};
use operator::Answer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use super::refusal::{Problem, Refusal};
use super::site::Site;

pub use stream::tick;

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// For people.
    pub text: String,
    /// For programs: what `--json` prints on the command line.
    pub value: Value,
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Self {
        Self { text: answer.text, value: answer.json }
    }
}

/// Why something is done.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Why {
    /// For the audit log.
    reason: Option<String>,
}

/// What a handler answers.
type Reply<T> = Result<Json<T>, Refusal>;

fn reply(answer: Answer) -> Json<Done> {
    Json(answer.into())
}

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_with(Default::default)
            .add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The document; every path of [`router`] is in it, which a test holds.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Floodwall",
        description = "See, understand, act. Reads need no token from the daemon's own host; writes take a token with the scope \
                       that they name: `floodwall set token NAME scopes operate`."
    ),
    modifiers(&Security),
    paths(
        look::status, look::totals, look::hosts, look::host, look::attacks, look::rules, look::rule, look::blackholes,
        look::remote_blackholes, look::approvals, look::exporters, look::peers, look::hostgroups, look::hostgroup, look::baseline, look::audit,
        act::add_rule, act::withdraw_rule, act::extend_rule, act::add_blackhole, act::end_blackhole, act::extend_blackhole,
        act::ban_remote, act::unban_remote, act::approve, act::refuse, act::announcing,
        configuration::running, configuration::candidate, configuration::compare, configuration::edit, configuration::commit,
        configuration::confirm, configuration::rollback, configuration::rebase, configuration::commits,
        configuration::schema,
        false_positive::forgive, evidence::sample, evidence::pcap, evidence::cases,
        past::attack_history, past::attack, past::events, past::series, past::series_names,
        session::login, session::logout, session::session, session::tokens, session::add_token, session::revoke_token,
        stream::events_stream, document
    ),
    components(schemas(Problem))
)]
struct Document;

/// Every path with its handlers.
pub fn router() -> Router<Site> {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/v1/status", get(look::status))
        .route("/api/v1/totals", get(look::totals))
        .route("/api/v1/hosts", get(look::hosts))
        .route("/api/v1/hosts/{address}", get(look::host))
        .route("/api/v1/attacks", get(look::attacks))
        .route("/api/v1/history/attacks", get(past::attack_history))
        .route("/api/v1/history/attacks/{id}", get(past::attack))
        .route("/api/v1/history/attacks/{id}/sample", get(evidence::sample))
        .route("/api/v1/history/attacks/{id}/pcap", get(evidence::pcap))
        .route("/api/v1/history/attacks/{id}/cases", get(evidence::cases))
        .route("/api/v1/history/attacks/{id}/false_positive", post(false_positive::forgive))
        .route("/api/v1/history/events", get(past::events))
        .route("/api/v1/history/series", get(past::series))
        .route("/api/v1/history/names", get(past::series_names))
        .route("/api/v1/rules", get(look::rules).post(act::add_rule))
        .route("/api/v1/rules/{id}", get(look::rule).delete(act::withdraw_rule))
        .route("/api/v1/rules/{id}/extend", post(act::extend_rule))
        .route("/api/v1/blackholes", get(look::blackholes).post(act::add_blackhole))
        .route("/api/v1/blackholes/{id}", delete(act::end_blackhole))
        .route("/api/v1/blackholes/{id}/extend", post(act::extend_blackhole))
        .route("/api/v1/remote_blackholes", get(look::remote_blackholes).post(act::ban_remote))
        .route("/api/v1/remote_blackholes/{host}", delete(act::unban_remote))
        .route("/api/v1/approvals", get(look::approvals))
        .route("/api/v1/approvals/{id}", post(act::approve).delete(act::refuse))
        .route("/api/v1/announcing", post(act::announcing))
        .route("/api/v1/exporters", get(look::exporters))
        .route("/api/v1/peers", get(look::peers))
        .route("/api/v1/hostgroups", get(look::hostgroups))
        .route("/api/v1/hostgroups/{name}", get(look::hostgroup))
        .route("/api/v1/baseline", get(look::baseline))
        .route("/api/v1/audit", get(look::audit))
        .route("/api/v1/config/running", get(configuration::running))
        .route("/api/v1/config/candidate", get(configuration::candidate))
        .route("/api/v1/config/compare", get(configuration::compare))
        .route("/api/v1/config/edit", post(configuration::edit))
        .route("/api/v1/config/commit", post(configuration::commit))
        .route("/api/v1/config/confirm", post(configuration::confirm))
        .route("/api/v1/config/rollback", post(configuration::rollback))
        .route("/api/v1/config/rebase", post(configuration::rebase))
        .route("/api/v1/config/history", get(configuration::commits))
        .route("/api/v1/config/schema", get(configuration::schema))
        .route("/api/v1/login", post(session::login))
        .route("/api/v1/logout", post(session::logout))
        .route("/api/v1/session", get(session::session))
        .route("/api/v1/tokens", get(session::tokens).post(session::add_token))
        .route("/api/v1/tokens/{name}", delete(session::revoke_token))
        .route("/api/v1/events", get(stream::events_stream))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", responses((status = 200, body = Object)))]
async fn document() -> Json<Value> {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    // Whoever may be refused for a wrong token may be told to wait with the next.
    let paths = document["paths"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(serde_json::Map::values_mut) {
        if let Some(responses) = operation["responses"].as_object_mut()
            && let Some(refused) = responses.get("401").cloned()
        {
            responses.entry("429").or_insert(refused);
        }
    }
    Json(document)
}
