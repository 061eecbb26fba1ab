//! The configuration: the caller's candidate, what it changes, commit, confirm, rollback. A token has a candidate of its own.

use axum::Json;
use axum::extract::State;
use config::reference::SectionEntry;
use config::words;
use operator::access::Scope;
use operator::{Request, order};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Access;
use super::super::refusal::{Input, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied, TooLarge};
use super::super::site::Site;
use super::look::show;
use super::{Done, Reply, reply};

/// The configuration in force, without secrets.
#[utoipa::path(get, path = "/api/v1/config/running", tag = "configuration", security((), ("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn running(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, show("running", &[])).await?))
}

/// Your candidate, without secrets. Scope config.
#[utoipa::path(get, path = "/api/v1/config/candidate", tag = "configuration", security(("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn candidate(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, show("candidate", &[])).await?))
}

/// What your candidate changes. Scope config.
#[utoipa::path(get, path = "/api/v1/config/compare", tag = "configuration", security(("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn compare(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, show("compare", &[])).await?))
}

/// The last commits, who, when and why; and the one that awaits confirmation with its deadline, if there is one.
#[utoipa::path(get, path = "/api/v1/config/history", tag = "configuration", security((), ("token" = [])),
    responses((status = 200, body = Object), Denied, Conflict, Busy))]
pub(super) async fn commits(State(site): State<Site>, access: Access) -> Reply<Value> {
    access.need_all_prefixes()?;
    Ok(Json(site.ask(&access, show("history", &[])).await?.json))
}

/// Every section with its keys: what each takes (`kind` with `low`, `high`, `unit`, `choices`; of a `list`, `of` is what its values
/// are), its default, its meaning, whether it is a secret, and the scope that setting it takes.
#[utoipa::path(get, path = "/api/v1/config/schema", tag = "configuration", security((), ("token" = [])),
    responses((status = 200, body = Vec<Object>), Denied))]
pub(super) async fn schema(access: Access) -> Reply<Vec<SectionEntry>> {
    access.need(Scope::Read)?;
    access.need_all_prefixes()?;
    Ok(Json(config::reference::entries()))
}

/// `set` or `delete`.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verb {
    Set,
    Delete,
}

/// An edit, as words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// What is done.
    #[schema(inline)]
    verb: Verb,
    /// The words behind it: `["hostgroup", "global", "threshold_pps", "20000"]`.
    #[schema(min_items = 1, max_items = 1000)]
    words: Vec<String>,
}

/// Edits your candidate. Scope config.
#[utoipa::path(post, path = "/api/v1/config/edit", tag = "configuration", request_body = Edit, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn edit(State(site): State<Site>, access: Access, Input(edit): Input<Edit>) -> Reply<Done> {
    access.need_all_prefixes()?;
    let Some((category, arguments)) = edit.words.split_first().filter(|_| edit.words.len() <= 1000) else {
        return Err(Refusal::bad("words are 1 to 1000"));
    };
    let verb = match edit.verb {
        Verb::Set => words::Verb::Set,
        Verb::Delete => words::Verb::Delete,
    };
    // What acts at once has paths, and scopes, of its own.
    if order::grammar(verb, category).is_some() || category == "token" {
        return Err(Refusal::bad(format!("{} acts at once and is no edit: it has a path of its own", edit.words[0])));
    }
    let request = Request::change(verb, category, arguments)?;
    Ok(reply(site.ask(&access, request).await?))
}

/// How to commit.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    /// Only say whether it would do.
    #[serde(default)]
    check: bool,
    /// Take it back unless it is confirmed within so many minutes.
    #[schema(minimum = 1, maximum = 1440)]
    confirmed_minutes: Option<u16>,
    /// For the history.
    comment: Option<String>,
}

/// Puts your candidate into force, without a restart. Scope config.
#[utoipa::path(post, path = "/api/v1/config/commit", tag = "configuration", request_body = Commit, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn commit(State(site): State<Site>, access: Access, Input(commit): Input<Commit>) -> Reply<Done> {
    access.need_all_prefixes()?;
    if commit.confirmed_minutes.is_some_and(|m| !(1..=1440).contains(&m)) {
        return Err(Refusal::bad("confirmed_minutes is 1 to 1440"));
    }
    let confirmed_minutes = commit.confirmed_minutes.map(u64::from);
    let request = Request::Commit { check: commit.check, confirmed_minutes, comment: commit.comment };
    Ok(reply(site.ask(&access, request).await?))
}

/// Keeps a commit that awaits confirmation. Scope config.
#[utoipa::path(post, path = "/api/v1/config/confirm", tag = "configuration", security(("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn confirm(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, Request::Confirm).await?))
}

/// How far back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Commits; 0 drops all edits.
    #[schema(minimum = 0, maximum = 50)]
    back: u8,
}

/// Makes your candidate what ran so many commits ago. Scope config.
#[utoipa::path(post, path = "/api/v1/config/rollback", tag = "configuration", request_body = Rollback, security(("token" = [])),
    responses((status = 200, body = Done), BadInput, Denied, Conflict, TooLarge, Busy))]
pub(super) async fn rollback(State(site): State<Site>, access: Access, Input(how): Input<Rollback>) -> Reply<Done> {
    access.need_all_prefixes()?;
    if how.back > 50 {
        return Err(Refusal::bad("back is 0 to 50"));
    }
    Ok(reply(site.ask(&access, Request::Rollback { back: usize::from(how.back) }).await?))
}

/// Puts your edits on top of what others committed meanwhile. Scope config.
#[utoipa::path(post, path = "/api/v1/config/rebase", tag = "configuration", security(("token" = [])),
    responses((status = 200, body = Done), Denied, Conflict, Busy))]
pub(super) async fn rebase(State(site): State<Site>, access: Access) -> Reply<Done> {
    access.need_all_prefixes()?;
    Ok(reply(site.ask(&access, Request::Rebase).await?))
}
