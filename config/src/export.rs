//! Databases that rates are written to: FastNetMon's `influxdb*` and `graphite*` of `[main]`.

use crate::kind::{Of, number, secret, switch, text};
use crate::notify::Url;
use crate::report::Report;
use crate::schema::{Key, Section, key, set};

/// `InfluxDB`'s write API, version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Influx {
    /// With the database in its query.
    pub url: Url,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// Graphite's plain text port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graphite {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What every path begins with.
    pub prefix: String,
}

/// Where rates go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Export {
    /// `InfluxDB`.
    pub influx: Option<Influx>,
    /// Graphite.
    pub graphite: Option<Graphite>,
}

impl Export {
    /// Whether there is anywhere.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.influx.is_some() || self.graphite.is_some()
    }
}

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they mean")]
pub struct Draft {
    pub influxdb: bool,
    pub influxdb_host: String,
    pub influxdb_port: u16,
    pub influxdb_database: String,
    pub influxdb_auth: bool,
    pub influxdb_user: String,
    pub influxdb_password: String,
    pub graphite: bool,
    pub graphite_host: String,
    pub graphite_port: u16,
    pub graphite_prefix: String,
}

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Draft, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.export, value)).admin()
}

/// Of `[main]`.
pub(crate) fn main_keys() -> Vec<Key> {
    vec![
        main(
            "influxdb",
            "false",
            "write rates of totals, networks, host groups and the largest hosts to InfluxDB every 10 seconds (HTTP, version 1 write API)",
            switch(),
            set!(influxdb),
        ),
        main("influxdb_host", "\"127.0.0.1\"", "its name or address", text(), set!(influxdb_host)),
        main("influxdb_port", "8086", "its port", number(1, 65_535), set!(influxdb_port)),
        main(
            "influxdb_database",
            "\"fastnetmon\"",
            "the database, which has to exist",
            text(),
            set!(influxdb_database),
        ),
        main(
            "influxdb_auth",
            "false",
            "log in with influxdb_user and influxdb_password",
            switch(),
            set!(influxdb_auth),
        ),
        main("influxdb_user", "\"fastnetmon\"", "user", text(), set!(influxdb_user)),
        main("influxdb_password", "\"fastnetmon\"", "password", secret(), set!(influxdb_password)),
        main(
            "graphite",
            "false",
            "write the same rates to Graphite every 10 seconds (plain text over TCP)",
            switch(),
            set!(graphite),
        ),
        main("graphite_host", "\"127.0.0.1\"", "its name or address", text(), set!(graphite_host)),
        main("graphite_port", "2003", "its port", number(1, 65_535), set!(graphite_port)),
        main("graphite_prefix", "\"fastnetmon\"", "what every path begins with", text(), set!(graphite_prefix)),
    ]
}

pub(crate) fn compose(draft: &Draft, report: &mut Report) -> Export {
    let is_plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
    };
    let mut export = Export::default();
    if draft.influxdb {
        let names = [("influxdb_host", &draft.influxdb_host), ("influxdb_database", &draft.influxdb_database)];
        for (key, text) in names.into_iter().filter(|(_, text)| !is_plain(text)) {
            report.add(format!("main.{key}"), format!("{text:?} is no name: write letters, digits, dots and dashes"));
        }
        let host = draft.influxdb_host.clone();
        let url = Url {
            is_tls: false,
            host,
            port: draft.influxdb_port,
            path: format!("/write?db={}&precision=s", draft.influxdb_database),
        };
        let login = draft.influxdb_auth.then(|| (draft.influxdb_user.clone(), draft.influxdb_password.clone()));
        export.influx = Some(Influx { url, login });
    }
    if draft.graphite {
        let names = [("graphite_host", &draft.graphite_host), ("graphite_prefix", &draft.graphite_prefix)];
        for (key, text) in names.into_iter().filter(|(_, text)| !is_plain(text)) {
            report.add(format!("main.{key}"), format!("{text:?} is no name: write letters, digits, dots and dashes"));
        }
        export.graphite = Some(Graphite {
            host: draft.graphite_host.clone(),
            port: draft.graphite_port,
            prefix: draft.graphite_prefix.clone(),
        });
    }
    export
}
