//! Keys of the HTTP listeners and of the history.

use std::net::SocketAddr;

use super::{Key, Section, Value, key};
use crate::api::{BanForm, Draft};

fn of(
    section: Section,
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Draft, &Value) -> Result<(), String> + 'static,
) -> Key {
    key(section, name, default, meaning, Box::new(move |draft, _, value| set(&mut draft.api, value)))
}

/// Of `[api]`.
pub(super) fn keys() -> Vec<Key> {
    vec![
        of(
            Section::Api,
            "listen",
            "\"127.0.0.1:10007\"",
            "address and port of the API, the dashboard and /metrics; from this host looking needs no token",
            |api, value| {
                api.listen = value.parse::<SocketAddr>("127.0.0.1:10007")?;
                Ok(())
            },
        ),
        of(
            Section::Api,
            "tls_certificate",
            "\"\"",
            "PEM file of the certificate chain; then every listener speaks TLS",
            |api, v| {
                v.text()?.clone_into(&mut api.tls_certificate);
                Ok(())
            },
        ),
        of(Section::Api, "tls_key", "\"\"", "PEM file of the certificate's private key", |api, v| {
            v.text()?.clone_into(&mut api.tls_key);
            Ok(())
        }),
        of(
            Section::Api,
            "plain_beyond_loopback",
            "false",
            "listen beyond loopback without TLS: only where something else encrypts, or tokens can be read on the way",
            |api, v| {
                api.plain_beyond_loopback = v.switch()?;
                Ok(())
            },
        ),
        of(
            Section::Api,
            "reads_need_login",
            "false",
            "looking needs a token from this host too: set it where a reverse proxy on this host lets others in",
            |api, v| {
                api.reads_need_login = v.switch()?;
                Ok(())
            },
        ),
        of(
            Section::Api,
            "fastnetmon_listen",
            "",
            "address and port of FastNetMon Advanced's REST paths, such as \"127.0.0.1:10008\"; off without it",
            |api, value| {
                api.fastnetmon_listen = Some(value.parse::<SocketAddr>("127.0.0.1:10008")?);
                Ok(())
            },
        ),
    ]
}

/// Of `[main]`.
pub(super) fn ban2bgp_keys() -> Vec<Key> {
    vec![
        of(
            Section::Main,
            "ban2bgp_listen",
            "",
            "address and port of ban2bgp's API for bans of foreign hosts, such as \"127.0.0.1:8080\"; off without it",
            |api, value| {
                api.ban2bgp_listen = Some(value.parse::<SocketAddr>("127.0.0.1:8080")?);
                Ok(())
            },
        ),
        of(
            Section::Main,
            "ban2bgp_duration",
            "3600",
            "seconds that a ban through ban2bgp's API lasts if it does not say",
            |api, v| {
                api.ban2bgp_duration = v.number(1, 31_536_000)?;
                Ok(())
            },
        ),
        of(
            Section::Main,
            "ban2bgp_mode",
            "\"both\"",
            "what a ban through ban2bgp's API becomes: flowspec (discard what comes from it), blackhole (a route to it) or both",
            |api, value| {
                api.ban2bgp_mode = match value.text()? {
                    "flowspec" | "flowsource" => BanForm::FlowSpec,
                    "blackhole" => BanForm::Blackhole,
                    "both" => BanForm::Both,
                    _ => return Err("write \"flowspec\", \"blackhole\" or \"both\"".to_owned()),
                };
                Ok(())
            },
        ),
    ]
}

/// Of `[state]`.
pub(super) fn history_keys() -> Vec<Key> {
    vec![
        of(Section::State, "history_days", "365", "days that attacks and the coarsest series are kept", |api, v| {
            api.history_days = v.number(1, 3650)?;
            Ok(())
        }),
        of(
            Section::State,
            "history_size_mb",
            "2048",
            "megabytes of history on disk at most; the finest and oldest go first",
            |api, v| {
                api.history_size_mb = v.number(16, 1_048_576)?;
                Ok(())
            },
        ),
    ]
}
