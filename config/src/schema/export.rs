//! Keys of the databases that rates are written to, with FastNetMon's names.

use super::{Key, Section, key};
use crate::export::Draft;
use crate::kind::{Of, number, secret, switch, text};

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
pub(super) fn main_keys() -> Vec<Key> {
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
