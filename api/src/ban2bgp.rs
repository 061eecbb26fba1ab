//! ban2bgp's API at its paths, on a listener of its own: bans of foreign hosts that end by themselves, for fail2ban and scripts.
//!
//! ```text
//! curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:8080/api/add?net=198.51.100.7&dur=600'
//! ```
//! What it does better than ban2bgp: a token for every change, rules that discard, valid JSON, and one set of rails on every path: a
//! ban is for one foreign host, never for own, protected or skiplisted space, nor for a wider prefix that holds some of it
//! (decision 1, class remote ban). Everything goes the way of `set remote_blackhole`.
//!
//! Limits: [`MAX_NETS`] networks a request, durations up to a year, and those of the listener.

use std::time::Duration;

use axum::Router;
use axum::extract::{RawForm, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use config::api::BanForm;
use operator::access::Scope;
use operator::order::{Side, Terms};
use operator::{Order, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use traffic::Prefix;
use traffic::target::PrefixError;

use super::auth::Access;
use super::refusal::{Input, Refusal};
use super::site::Site;

/// Networks of one request at most.
pub const MAX_NETS: usize = 1000;
/// Longest ban in seconds.
const LONGEST: u32 = 31_536_000;

/// Its paths.
pub(super) fn router(site: Site) -> Router {
    Router::new()
        .route("/api/add", get(add).post(add))
        .route("/api/remove", get(remove).post(remove))
        .route("/api/json", post(batch))
        .route("/api/form_json", post(form_batch))
        .route("/api/ping", get(async || "pong"))
        .route("/api/status", get(status))
        .route("/api/dumprib", get(dump))
        .route("/api/dumpribjson", get(dump_json))
        .layer(axum::middleware::map_response(super::with_safety))
        .with_state(site)
}

/// Many at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    #[serde(default)]
    add: Option<Add>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    #[serde(default)]
    duration: Option<u32>,
    nets: Vec<String>,
}

fn text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text + "\n").into_response()
}

/// A network as ban2bgp has it: an address or a prefix, with `src`, `dst` or `both` before it, and nothing else.
fn network(text: &str) -> Result<(Option<Side>, Prefix), Refusal> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (side, net) = match words[..] {
        [net] => (None, net),
        ["src", net] => (Some(Side::Source), net),
        ["dst", net] => (Some(Side::Destination), net),
        ["both", net] => (Some(Side::Both), net),
        _ => return Err(Refusal::bad(format!("{text:?} is no address: write one address or prefix"))),
    };
    net.parse().map(|net| (side, net)).map_err(|e: PrefixError| Refusal::bad(e.to_string()))
}

/// Where a ban names no side, the configuration does.
const fn side(form: BanForm) -> Side {
    match form {
        BanForm::FlowSpec => Side::Source,
        BanForm::Blackhole => Side::Destination,
        BanForm::Both => Side::Both,
    }
}

/// A change takes a token in the headers: with ban2bgp's GETs, a cookie that a browser sends by itself would not be enough.
fn check(access: &Access) -> Result<(), Refusal> {
    access.need(Scope::Operate)?;
    if access.by_cookie {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "send Authorization: Bearer TOKEN"));
    }
    Ok(())
}

async fn ban(site: &Site, access: &Access, net: &str, seconds: Option<u32>) -> Result<String, Refusal> {
    let off = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ban2bgp_listen was switched off");
    let config = site.ban2bgp().ok_or_else(off)?;
    let seconds = seconds.unwrap_or(config.duration_seconds);
    if !(1..=LONGEST).contains(&seconds) {
        return Err(Refusal::bad(format!("a duration is 1 to {LONGEST} seconds")));
    }
    let (direction, net) = network(net)?;
    let side = direction.unwrap_or_else(|| side(config.form));
    let lasts = Some(Duration::from_secs(seconds.into()));
    let terms = Terms { lasts, reason: Some("ban2bgp".to_owned()) };
    let request = Request::Order(Order::Ban { host: net, side, terms });
    Ok(site.ask(access, request).await.map_err(Refusal::as_conflict)?.text)
}

async fn unban(site: &Site, access: &Access, net: &str) -> Result<String, Refusal> {
    let (side, net) = network(net)?;
    let order = Order::Unban { within: Some(net), side: side.unwrap_or_default(), reason: None };
    Ok(site.ask(access, Request::Order(order)).await.map_err(Refusal::as_conflict)?.text)
}

/// Fields of the query (GET) or of the form (POST).
fn fields(form: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let uri = format!("/?{}", String::from_utf8_lossy(form));
    let uri = uri.parse().map_err(|_| Refusal::bad("not a form"))?;
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    query.map(|q| q.0).map_err(|e| Refusal::bad(e.body_text()))
}

fn field<'a>(fields: &'a [(String, String)], names: &[&str]) -> Option<&'a str> {
    fields.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
}

async fn add(State(site): State<Site>, access: Access, RawForm(form): RawForm) -> Result<Response, Refusal> {
    check(&access)?;
    let fields = fields(&form)?;
    let net = field(&fields, &["net"]).ok_or_else(|| Refusal::bad("which? /api/add?net=198.51.100.7&dur=600"))?;
    let seconds = match field(&fields, &["dur", "duration"]) {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| Refusal::bad(format!("dur={text} is not a number of seconds")))?),
    };
    Ok(text(ban(&site, &access, net, seconds).await?))
}

async fn remove(State(site): State<Site>, access: Access, RawForm(form): RawForm) -> Result<Response, Refusal> {
    check(&access)?;
    let fields = fields(&form)?;
    let net = field(&fields, &["net"]).ok_or_else(|| Refusal::bad("which? /api/remove?net=198.51.100.7"))?;
    Ok(text(unban(&site, &access, net).await?))
}

async fn batch(State(site): State<Site>, access: Access, Input(batch): Input<Batch>) -> Result<Response, Refusal> {
    carry_out(&site, &access, batch).await
}

/// The same JSON as the value of a form's field.
async fn form_batch(State(site): State<Site>, access: Access, RawForm(form): RawForm) -> Result<Response, Refusal> {
    let fields = fields(&form)?;
    let json = fields.iter().map(|(_, value)| value.as_str()).find(|v| v.trim_start().starts_with('{'));
    let batch = serde_json::from_str(json.ok_or_else(|| Refusal::bad("no field holds JSON"))?);
    carry_out(&site, &access, batch.map_err(|e| Refusal::bad(e.to_string()))?).await
}

/// Each by itself: one that is refused keeps no other from being done. The status is 409 if any was.
async fn carry_out(site: &Site, access: &Access, batch: Batch) -> Result<Response, Refusal> {
    check(access)?;
    let count = batch.remove.len() + batch.add.as_ref().map_or(0, |a| a.nets.len());
    if count > MAX_NETS {
        return Err(Refusal::bad(format!("{count} networks are too many for one request: at most {MAX_NETS}")));
    }
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    let mut note = |net: &str, result: Result<String, Refusal>| match result {
        Ok(_) => done.push(net.to_owned()),
        Err(refusal) => refused.push(json!({ "net": net, "error": refusal.failure.text })),
    };
    for net in &batch.remove {
        note(net, unban(site, access, net).await);
    }
    if let Some(add) = &batch.add {
        for net in &add.nets {
            note(net, ban(site, access, net, add.duration).await);
        }
    }
    let status = if refused.is_empty() { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok((status, axum::Json(json!({ "done": done, "refused": refused }))).into_response())
}

async fn bans(site: &Site, access: &Access) -> Result<Vec<Value>, Refusal> {
    access.need_all_prefixes()?;
    let show = Request::Show { category: "remote_blackhole".to_owned(), arguments: Vec::new() };
    let answer = site.ask(access, show).await.map_err(Refusal::as_conflict)?;
    Ok(answer.json.as_array().cloned().unwrap_or_default())
}

async fn status(State(site): State<Site>, access: Access) -> Result<axum::Json<Value>, Refusal> {
    let bans = bans(&site, &access).await?.len();
    let status = site.status();
    let peers: Vec<Value> = status
        .peers
        .iter()
        .map(|p| json!({ "name": p.name, "state": p.state, "routes_sent": p.routes_sent, "last_error": p.last_error }))
        .collect();
    Ok(axum::Json(json!({ "version": status.version, "bans": bans, "halted": status.halted, "peers": peers })))
}

async fn dump(State(site): State<Site>, access: Access) -> Result<Response, Refusal> {
    let of = |b: &Value, key: &str| b[key].as_str().unwrap_or_default().to_owned();
    let line = |b: &Value| {
        let ends = b["ends"].as_f64().map_or_else(|| "never".to_owned(), |ends| format!("{ends:.0}"));
        format!("{} {}\t{ends}", of(b, "direction"), of(b, "net"))
    };
    let lines: Vec<String> = bans(&site, &access).await?.iter().map(line).collect();
    Ok(text(lines.join("\n")))
}

async fn dump_json(State(site): State<Site>, access: Access) -> Result<axum::Json<Vec<Value>>, Refusal> {
    Ok(axum::Json(bans(&site, &access).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_prefix_and_no_word_more() {
        for (text, side, net) in [
            ("198.51.100.7", None, "198.51.100.7/32"),
            (" src 198.51.100.7 ", Some("src"), "198.51.100.7/32"),
            ("both 2001:db8::7", Some("both"), "2001:db8::7/128"),
            ("dst 198.51.100.0/24", Some("dst"), "198.51.100.0/24"),
        ] {
            let (found, prefix) = network(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!((found.map(Side::name), prefix.to_string().as_str()), (side, net), "{text}");
        }
        for wrong in [
            "",
            "all",
            "src all",
            "src",
            "both 198.51.100.7 reason x",
            "198.51.100.7 expires 1s",
            "198.51.100.7 198.51.100.8",
            "reason 198.51.100.7",
            "198.51.100.7,198.51.100.8",
        ] {
            assert_eq!(network(wrong).expect_err(wrong).status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
