//! A false positive in one step: whitelist what the attack's rules match at its host, withdraw them, and say which attacks of the past
//! the whitelist would have kept quiet.

use axum::Json;
use axum::extract::State;
use flowspec::Pattern;
use operator::access::Scope;
use operator::order::RouteName;
use operator::status::{Effect, MitigationStatus};
use operator::{Caller, Order, Request};
use reporting::case::Case;
use reporting::evidence;
use reporting::history::archive::PastAttack;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use traffic::Time;
use utoipa::ToSchema;

use super::super::auth::Access;
use super::super::refusal::{Input, Named, Refusal};
use super::super::refused::{BadInput, Busy, Conflict, Denied, Missing, TooLarge};
use super::super::site::Site;
use super::Reply;
use super::past::read;

/// Attacks of the past that are looked at, the newest.
const MAX_PAST: usize = 100;
/// Rules that become whitelist entries at most.
const MAX_ENTRIES: usize = 10;

/// How to forgive.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Forgive {
    /// Days that the whitelist lasts; 30 unless told.
    #[schema(minimum = 1, maximum = 3650)]
    days: Option<u16>,
    /// For the audit log, and the whitelist's note.
    reason: Option<String>,
}

/// What an attack of the past would be under the whitelist.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rechecked {
    /// The attack.
    attack: String,
    /// Share of its sample that is whitelisted, 0 to 1; null without a case file.
    whitelisted_share: Option<f64>,
    /// Whether the rest would still be over its threshold; null without a case file.
    alarms: Option<bool>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Forgiven {
    /// For people.
    text: String,
    /// Names of the whitelist entries.
    whitelisted: Vec<String>,
    /// Routes that are gone.
    withdrawn: Vec<String>,
    /// Attacks on the same prefix, newest first.
    rechecked: Vec<Rechecked>,
}

/// A whitelist entry as words behind `set`, and the pattern it means.
struct Entry {
    name: String,
    edits: Vec<Vec<String>>,
    pattern: Pattern,
}

/// Whitelists an attack that is none, withdraws what it brought, and checks the past against the whitelist. Scopes operate and config.
#[utoipa::path(post, path = "/api/v1/history/attacks/{id}/false_positive", tag = "act", params(("id" = String, Path,)),
    request_body = Forgive, security(("token" = [])),
    responses((status = 200, body = Forgiven), BadInput, Denied, Missing, Conflict, TooLarge, Busy))]
pub(super) async fn forgive(
    State(site): State<Site>,
    access: Access,
    Named(id): Named,
    Input(how): Input<Forgive>,
) -> Reply<Forgiven> {
    access.need(Scope::Operate)?;
    access.need(Scope::Config)?;
    access.need_all_prefixes()?;
    let days = match how.days.unwrap_or(30) {
        days @ 1..=3650 => days,
        _ => return Err(Refusal::bad("days is 1 to 3650")),
    };
    let (attack, past) = attack_and_past(&site, id).await?;
    let reason = how.reason.filter(|r| !r.is_empty()).unwrap_or_else(|| "false positive".to_owned());
    // A candidate of its own: what the caller has edited stays where it is.
    let user = format!("{} (false positive)", access.caller.user);
    let access = Access { caller: Caller { user, ..access.caller.clone() }, ..access }.because(Some(reason.clone()));
    let ends = site.wall().after(std::time::Duration::from_secs(u64::from(days) * 86_400));
    let routes = routes(&site, &attack);
    let rules: Vec<Value> = routes.iter().filter_map(|route| route.rule.clone()).take(MAX_ENTRIES).collect();
    let entries = entries(&attack, &rules, &reason, ends);
    whitelist(&site, &access, &entries, &reason).await?;
    let withdrawn = withdraw(&site, &access, routes).await;
    let rechecked: Vec<Rechecked> = past.iter().map(|(cases, past)| recheck(past, cases, &entries)).collect();
    let quiet = rechecked.iter().filter(|r| r.alarms == Some(false)).count();
    let text = format!(
        "whitelisted for {days} days, {} routes withdrawn; of {} attacks on {} in the history {quiet} would not have alarmed",
        withdrawn.len(),
        rechecked.len(),
        attack.prefix
    );
    let whitelisted = entries.into_iter().map(|e| e.name).collect();
    Ok(Json(Forgiven { text, whitelisted, withdrawn, rechecked }))
}

/// An attack, and the attacks on the same prefix in its direction with their case files, newest first.
async fn attack_and_past(site: &Site, id: String) -> Result<(PastAttack, Vec<(Vec<Case>, PastAttack)>), Refusal> {
    let text = format!("there is no attack {id:?}: see /api/v1/history/attacks");
    let found = read(site, move |archive| {
        let Some((attack, _)) = archive.attack(&id)? else { return Ok(None) };
        let past = archive.attacks(f64::MAX, Some(&attack.prefix), MAX_PAST)?;
        let same = past.into_iter().filter(|p| p.direction == attack.direction);
        let past: Vec<_> = same.map(|p| (evidence::cases(&archive.cases(), &p), p)).collect();
        Ok(Some((attack, past)))
    });
    found.await?.ok_or_else(|| Refusal::not_found(text))
}

/// What the attack has brought and still stands. What an operator ordered by hand is his.
fn routes(site: &Site, attack: &PastAttack) -> Vec<MitigationStatus> {
    let status = site.status();
    let brought = |m: &&MitigationStatus| m.prefix.to_string() == attack.prefix && m.origin == bgp::Origin::Automatic;
    status.mitigations.iter().filter(brought).cloned().collect()
}

/// Ends routes, and tells which are gone by it.
async fn withdraw(site: &Site, access: &Access, routes: Vec<MitigationStatus>) -> Vec<String> {
    let mut withdrawn = Vec::new();
    for MitigationStatus { kind, id, route, .. } in routes {
        let Some(name) = RouteName::new(&id) else { continue };
        let reason = None;
        let is_rule = kind == Effect::FlowSpec;
        let order = if is_rule { Order::EndRule { name, reason } } else { Order::EndBlackhole { name, reason } };
        // The attack may have ended meanwhile and taken it away.
        if site.ask(access, Request::Order(order)).await.is_ok() {
            withdrawn.push(route.to_string());
        }
    }
    withdrawn
}

/// Edits and commits; what cannot be committed leaves no trace.
async fn whitelist(site: &Site, access: &Access, entries: &[Entry], reason: &str) -> Result<(), Refusal> {
    let commit = Request::Commit { check: false, confirmed_minutes: None, comment: Some(reason.to_owned()) };
    let edits = entries.iter().flat_map(|e| &e.edits).cloned();
    let requests = edits.map(|arguments| Request::Set { category: "whitelist".to_owned(), arguments });
    for request in requests.chain([commit]) {
        if let Err(refusal) = site.ask(access, request).await {
            let _ = site.ask(access, Request::Rollback { back: 0 }).await;
            return Err(refusal);
        }
    }
    Ok(())
}

/// One entry per rule; without a rule, the host in the attack's direction.
fn entries(attack: &PastAttack, rules: &[Value], note: &str, ends: Time) -> Vec<Entry> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of this age")]
    let time = (attack.detected * 1000.0) as u64;
    let whole = [Value::Null];
    let rules = if rules.is_empty() { whole.as_slice() } else { rules };
    let entry = |(i, rule): (usize, &Value)| {
        let name = format!("fp_{time}_{i}");
        let word = |key: &str, values: &[String]| {
            [name.clone(), key.to_owned()].into_iter().chain(values.iter().cloned()).collect::<Vec<_>>()
        };
        let one = |text: &str| [text.to_owned()];
        let mut edits = vec![
            word("networks", &one(&attack.prefix)),
            word("direction", &one(&attack.direction)),
            word("note", &one(note)),
            word("expires", &one(&date(ends))),
        ];
        let far = if attack.direction == "incoming" { "source_prefix" } else { "destination_prefix" };
        if let Some(remote) = rule[far].as_str() {
            edits.push(word("remote", &one(remote)));
        }
        for key in
            ["protocols", "source_ports", "destination_ports", "packet_lengths", "tcp_flags", "fragmentation_flags"]
        {
            let values: Vec<String> = rule[key].as_array().into_iter().flatten().map(plain).collect();
            if !values.is_empty() {
                edits.push(word(key, &[values.join(",")]));
            }
        }
        let parsed = flowspec::json::parse(&rule.to_string()).ok().map(|rule| rule.pattern);
        Entry { name: name.clone(), edits, pattern: parsed.unwrap_or_default() }
    };
    rules.iter().enumerate().map(entry).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `2026-12-31`.
fn date(time: Time) -> String {
    reporting::notify::date(time)
}

/// Whether what is left of a past attack would be over its threshold.
#[allow(clippy::cast_precision_loss, reason = "rates against a threshold")]
fn recheck(past: &PastAttack, cases: &[Case], entries: &[Entry]) -> Rechecked {
    let first = cases.first();
    let samples = evidence::samples(first.map(std::slice::from_ref).unwrap_or_default());
    let share = first.filter(|_| !samples.is_empty()).map(|_| {
        let hit = |s: &&traffic::Sample| entries.iter().any(|e| e.pattern.matches(s) == flowspec::Match::Yes);
        let all: u64 = samples.iter().map(|s| s.packets).sum();
        let covered: u64 = samples.iter().filter(hit).map(|s| s.packets).sum();
        covered as f64 / all.max(1) as f64
    });
    let alarms = first
        .zip(share)
        .map(|(case, share)| case.detection.evidence.rate as f64 * (1.0 - share) > case.detection.threshold as f64);
    Rechecked { attack: past.id.clone(), whitelisted_share: share, alarms }
}
