//! FastNetMon Advanced's REST paths, on a listener of its own: every command with `/` for spaces. GET shows, PUT sets, DELETE
//! deletes; a prefix's slash is `%2f`. HTTP basic with a token as the password (any user), or a bearer token.
//!
//! ```text
//! curl -u admin:$TOKEN -X PUT  http://127.0.0.1:10008/main/networks_list/203.0.113.0%2f24
//! curl -u admin:$TOKEN -X PUT  http://127.0.0.1:10008/commit
//! curl                         http://127.0.0.1:10008/hostgroup/global/threshold_mbps
//! ```
//! Replies are `{success, error_text}` with `value`, `values` or `object`, as FastNetMon's clients expect.
//! Limits: [`MAX_WORDS`] words, and those of the listener.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use config::words::Verb;
use operator::{Answer, Request, order};
use serde_json::{Value, json};

use super::auth::Access;
use super::refusal::Refusal;
use super::site::Site;

/// Words of a path at most.
pub const MAX_WORDS: usize = 16;

/// Every path.
pub(super) fn router(site: Site) -> Router {
    Router::new().fallback(any).layer(axum::middleware::map_response(super::with_safety)).with_state(site)
}

async fn any(
    State(site): State<Site>,
    method: Method,
    uri: Uri,
    access: Result<Access, Refusal>,
    body: Bytes,
) -> Response {
    let outcome = match access {
        Ok(access) => answer(&site, &access, &method, uri.path(), &body).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => {
            let status = refusal.status;
            let mut response = (status, Json(failure(&refusal.failure.text))).into_response();
            if status == StatusCode::UNAUTHORIZED {
                let basic = axum::http::HeaderValue::from_static("Basic realm=\"floodwall\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            }
            response
        }
    }
}

fn failure(text: &str) -> Value {
    json!({ "success": false, "error_text": text })
}

async fn answer(site: &Site, access: &Access, method: &Method, path: &str, body: &[u8]) -> Result<Value, Refusal> {
    let mut words = words(path)?;
    if words == ["license"] {
        return Ok(json!({ "success": true, "object": { "licensed": true, "product": "floodwall" } }));
    }
    if !body.is_empty() {
        words.push(String::from_utf8(body.to_vec()).map_err(|_| Refusal::bad("the body is not text"))?);
    }
    let request = request(method, &words)?;
    if access.by_cookie && !request.is_read() {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "send a token by HTTP basic, as the password"));
    }
    Ok(reply(&words, site.ask(access, request).await.map_err(Refusal::as_conflict)?))
}

fn words(path: &str) -> Result<Vec<String>, Refusal> {
    let words: Option<Vec<String>> = path.split('/').filter(|w| !w.is_empty()).map(unescape).collect();
    let words = words.ok_or_else(|| Refusal::bad("the path is not UTF-8"))?;
    if words.is_empty() || words.len() > MAX_WORDS {
        return Err(Refusal::not_found("write a command as a path, such as /main or /hostgroup/global/threshold_mbps"));
    }
    Ok(words)
}

/// RFC 3986 section 2.1.
fn unescape(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let hex = |c: Option<u8>| c.and_then(|c| char::from(c).to_digit(16));
        octets.push(match octet {
            b'%' => u8::try_from(hex(rest.next())? << 4 | hex(rest.next())?).ok()?,
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// The same request as the words on the command line.
fn request(method: &Method, words: &[String]) -> Result<Request, Refusal> {
    let verb = match *method {
        Method::GET | Method::HEAD => "show",
        Method::PUT | Method::POST => match words[0].as_str() {
            "commit" => return parse(words),
            _ => "set",
        },
        Method::DELETE => "delete",
        _ => return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "GET shows, PUT sets, DELETE deletes")),
    };
    let mut line = vec![verb.to_owned()];
    line.extend(words.iter().cloned());
    parse(&line)
}

fn parse(line: &[String]) -> Result<Request, Refusal> {
    operator::words::parse(line).map_err(|failure| {
        let is_order = |verb, category| order::grammar(verb, category).is_some();
        let known = match line {
            [verb, category, ..] if verb == "set" => is_order(Verb::Set, category),
            [verb, category, ..] if verb == "delete" => is_order(Verb::Delete, category),
            _ => false,
        };
        let refusal = Refusal::from(failure);
        // An order that cannot be read was always the daemon's to refuse.
        if known { refusal.as_conflict() } else { refusal }
    })
}

/// FastNetMon's envelope around our answer.
#[allow(clippy::wildcard_enum_match_arm, reason = "every other shape of JSON is handed on as it is")]
fn reply(words: &[String], answer: Answer) -> Value {
    let value = match answer.json {
        // One option: `{"threshold_mbps": 1000}` is its value.
        Value::Object(map) if map.len() == 1 && words.last().is_some_and(|w| map.contains_key(w)) => {
            map.into_iter().next().map(|(_, value)| value).unwrap_or_default()
        }
        Value::Array(list) => list.into_iter().map(named).collect(),
        other => other,
    };
    match value {
        Value::Array(values) => json!({ "success": true, "error_text": "", "values": values }),
        Value::Object(object) => json!({ "success": true, "error_text": "", "object": object }),
        Value::Null | Value::Bool(true) => json!({ "success": true, "error_text": "", "value": answer.text }),
        value => json!({ "success": true, "error_text": "", "value": value }),
    }
}

/// What is announced has FastNetMon's names besides ours.
fn named(mut item: Value) -> Value {
    if let Value::Object(map) = &mut item
        && let (Some(id), Some(prefix)) = (map.get("id").cloned(), map.get("prefix").cloned())
    {
        map.insert("uuid".to_owned(), id);
        map.insert("ip".to_owned(), prefix);
        if let Some(rule) = map.get("rule").filter(|r| !r.is_null()).cloned() {
            map.insert("announce".to_owned(), rule);
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_commands() {
        let line = |path: &str| words(path).expect(path).join(" ");
        assert_eq!(line("/main/networks_list/11.22.33.44%2f22"), "main networks_list 11.22.33.44/22");
        assert_eq!(line("//hostgroup/my%20web/"), "hostgroup my web");
        for wrong in ["/", "/%zz", "/%f", "/%ff", &"/a".repeat(MAX_WORDS + 1)] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
        let put = request(&Method::PUT, &["commit".to_owned()]).expect("a commit");
        assert_eq!(put, Request::Commit { check: false, confirmed_minutes: None, comment: None });
        assert!(request(&Method::PATCH, &["main".to_owned()]).is_err());
    }

    #[test]
    fn answers_have_the_envelope() {
        let of = |words: &[&str], json: Value| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            reply(&words, Answer { text: "done".to_owned(), json })
        };
        assert_eq!(of(&["hostgroup", "global", "threshold_mbps"], json!({ "threshold_mbps": 7 }))["value"], 7);
        assert_eq!(of(&["main", "networks_list"], json!({ "networks_list": ["a"] }))["values"], json!(["a"]));
        assert_eq!(of(&["blackhole"], json!([{ "id": "x", "prefix": "192.0.2.1/32" }]))["values"][0]["uuid"], "x");
        assert_eq!(of(&["commit"], Value::Null)["value"], "done");
    }
}
