//! Keys of the HTTP listeners and of the history.

use super::{Key, Section, key};
use crate::api::{BanForm, Draft};
use crate::kind::{Of, choice, days, endpoint, megabytes, seconds, switch, text};

fn of<T: 'static>(
    section: Section,
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Draft, T) + Send + Sync + 'static,
) -> Key {
    key(section, name, default, meaning, of, move |draft, _, value| set(&mut draft.api, value))
}

/// Of `[api]`.
pub(super) fn keys() -> Vec<Key> {
    vec![
        of(
            Section::Api,
            "listen",
            "\"127.0.0.1:10007\"",
            "address and port of the API, the dashboard and /metrics; from this host looking needs no token",
            endpoint("127.0.0.1:10007"),
            set!(listen),
        ),
        of(
            Section::Api,
            "tls_certificate",
            "\"\"",
            "PEM file of the certificate chain; then every listener speaks TLS",
            text(),
            set!(tls_certificate),
        ),
        of(Section::Api, "tls_key", "\"\"", "PEM file of the certificate's private key", text(), set!(tls_key)),
        of(
            Section::Api,
            "plain_beyond_loopback",
            "false",
            "listen beyond loopback without TLS: only where something else encrypts, or tokens can be read on the way",
            switch(),
            set!(plain_beyond_loopback),
        ),
        of(
            Section::Api,
            "reads_need_login",
            "false",
            "looking needs a token from this host too: set it where a reverse proxy on this host lets others in",
            switch(),
            set!(reads_need_login),
        ),
        of(
            Section::Api,
            "fastnetmon_listen",
            "",
            "address and port of FastNetMon Advanced's REST paths, such as \"127.0.0.1:10008\"; off without it",
            endpoint("127.0.0.1:10008"),
            some!(fastnetmon_listen),
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
            endpoint("127.0.0.1:8080"),
            some!(ban2bgp_listen),
        ),
        of(
            Section::Main,
            "ban2bgp_duration",
            "3600",
            "seconds that a ban through ban2bgp's API lasts if it does not say",
            seconds(1, 31_536_000),
            set!(ban2bgp_duration),
        ),
        of(
            Section::Main,
            "ban2bgp_mode",
            "\"both\"",
            "what a ban through ban2bgp's API becomes: flowspec (discard what comes from it), blackhole (a route to it) or both",
            ban_form(),
            set!(ban2bgp_mode),
        ),
    ]
}

/// What a ban becomes; ban2bgp's own word for the first is known too.
fn ban_form() -> Of<BanForm> {
    let of = choice([("flowspec", BanForm::FlowSpec), ("blackhole", BanForm::Blackhole), ("both", BanForm::Both)]);
    Of::new(
        of.kind,
        move |value| {
            if value.text() == Ok("flowsource") { Ok(BanForm::FlowSpec) } else { (of.read)(value) }
        },
    )
}

/// Of `[state]`.
pub(super) fn history_keys() -> Vec<Key> {
    vec![
        of(
            Section::State,
            "history_days",
            "365",
            "days that attacks and the coarsest series are kept",
            days(1, 3650),
            set!(history_days),
        ),
        of(
            Section::State,
            "history_size_mb",
            "2048",
            "megabytes of history on disk at most; the finest and oldest go first",
            megabytes(16, 1_048_576),
            set!(history_size_mb),
        ),
    ]
}
