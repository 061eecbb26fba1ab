//! The HTTP listeners and what is kept of the past: `[api]`, `ban2bgp_*` in `[main]`, `[state]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::kind::{Of, choice, days, endpoint, megabytes, seconds, switch, text};
use crate::report::Report;
use crate::schema::{Key, Section, key, set, some};

/// Which routes a ban through ban2bgp's API becomes, where the request names no side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BanForm {
    /// A FlowSpec rule that discards what comes from the host.
    FlowSpec,
    /// A blackhole route to it.
    Blackhole,
    /// Both.
    #[default]
    Both,
}

/// ban2bgp's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban2Bgp {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How long a ban lasts that does not say.
    pub duration_seconds: u32,
    /// What a ban becomes.
    pub form: BanForm,
}

/// The HTTP listeners (decision 17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where `/api/v1`, the dashboard and `/metrics` are.
    pub listen: SocketAddr,
    /// Certificate chain and key, as PEM files: then all listeners speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether somebody on this host needs a token even to look.
    pub reads_need_login: bool,
    /// Where FastNetMon Advanced's paths are, if anywhere.
    pub fastnetmon_listen: Option<SocketAddr>,
    /// ban2bgp's paths, if anywhere.
    pub ban2bgp: Option<Ban2Bgp>,
}

/// What is kept of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Days.
    pub days: u32,
    /// Bytes on disk at most.
    pub bytes: u64,
}

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they mean")]
pub struct Draft {
    pub listen: Option<SocketAddr>,
    pub tls_certificate: String,
    pub tls_key: String,
    pub plain_beyond_loopback: bool,
    pub reads_need_login: bool,
    pub fastnetmon_listen: Option<SocketAddr>,
    pub ban2bgp_listen: Option<SocketAddr>,
    pub ban2bgp_duration: u64,
    pub ban2bgp_mode: BanForm,
    pub history_days: u64,
    pub history_size_mb: u64,
}

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
pub(crate) fn keys() -> Vec<Key> {
    vec![
        of(
            Section::Api,
            "listen",
            "\"127.0.0.1:10007\"",
            "address and port of the API, the dashboard and /metrics; from this host looking needs no token",
            endpoint("127.0.0.1:10007"),
            some!(listen),
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
pub(crate) fn ban2bgp_keys() -> Vec<Key> {
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
pub(crate) fn history_keys() -> Vec<Key> {
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

pub(crate) fn compose(draft: &Draft, report: &mut Report) -> Api {
    let tls = match (draft.tls_certificate.is_empty(), draft.tls_key.is_empty()) {
        (true, true) => None,
        (false, false) => Some((PathBuf::from(&draft.tls_certificate), PathBuf::from(&draft.tls_key))),
        (true, false) => {
            report.add("api.tls_key", "a key without a certificate: set api tls_certificate too");
            None
        }
        (false, true) => {
            report.add("api.tls_certificate", "a certificate without a key: set api tls_key too");
            None
        }
    };
    let listeners = [
        ("api.listen", draft.listen),
        ("api.fastnetmon_listen", draft.fastnetmon_listen),
        ("main.ban2bgp_listen", draft.ban2bgp_listen),
    ];
    for (i, (key, listen)) in listeners.iter().enumerate() {
        let Some(listen) = listen else { continue };
        if !listen.ip().is_loopback() && tls.is_none() && !draft.plain_beyond_loopback {
            report.add(
                *key,
                "tokens would cross the network in plain text: set api tls_certificate and tls_key, or write a loopback address such as \
                 127.0.0.1:10007 (api.plain_beyond_loopback = true where something else encrypts)",
            );
        }
        if listeners[..i].iter().any(|(_, other)| *other == Some(*listen) && listen.port() != 0) {
            report.add(*key, format!("{listen} is used twice: choose different ports"));
        }
    }
    let ban2bgp = draft.ban2bgp_listen.map(|listen| Ban2Bgp {
        listen,
        duration_seconds: u32::try_from(draft.ban2bgp_duration).unwrap_or(3600),
        form: draft.ban2bgp_mode,
    });
    Api {
        listen: draft.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        tls,
        reads_need_login: draft.reads_need_login,
        fastnetmon_listen: draft.fastnetmon_listen,
        ban2bgp,
    }
}

pub(crate) fn compose_history(draft: &Draft) -> History {
    History { days: u32::try_from(draft.history_days).unwrap_or(365), bytes: draft.history_size_mb << 20 }
}
