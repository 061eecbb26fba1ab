//! Keys of the databases that rates are written to, with FastNetMon's names.

use super::{Key, Section, Value, key};
use crate::export::Draft;

fn main(
    name: &str,
    default: &str,
    meaning: &str,
    set: impl Fn(&mut Draft, &Value) -> Result<(), String> + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, Box::new(move |draft, _, value| set(&mut draft.export, value)))
}

fn port(value: &Value) -> Result<u16, String> {
    value.number(1, 65_535).map(|n| u16::try_from(n).unwrap_or_default())
}

/// A key that is a text.
macro_rules! text {
    ($field:ident) => {
        |draft, value| {
            value.text()?.clone_into(&mut draft.$field);
            Ok(())
        }
    };
}

/// Of `[main]`.
pub(super) fn main_keys() -> Vec<Key> {
    vec![
        main(
            "influxdb",
            "false",
            "write rates of totals, networks, host groups and the largest hosts to InfluxDB every 10 seconds (HTTP, version 1 write API)",
            |d, v| {
                d.influxdb = v.switch()?;
                Ok(())
            },
        ),
        main("influxdb_host", "\"127.0.0.1\"", "its name or address", text!(influxdb_host)),
        main("influxdb_port", "8086", "its port", |d, v| {
            d.influxdb_port = port(v)?;
            Ok(())
        }),
        main("influxdb_database", "\"fastnetmon\"", "the database, which has to exist", text!(influxdb_database)),
        main("influxdb_auth", "false", "log in with influxdb_user and influxdb_password", |d, v| {
            d.influxdb_auth = v.switch()?;
            Ok(())
        }),
        main("influxdb_user", "\"fastnetmon\"", "user", text!(influxdb_user)),
        main("influxdb_password", "\"fastnetmon\"", "password", text!(influxdb_password)),
        main("graphite", "false", "write the same rates to Graphite every 10 seconds (plain text over TCP)", |d, v| {
            d.graphite = v.switch()?;
            Ok(())
        }),
        main("graphite_host", "\"127.0.0.1\"", "its name or address", text!(graphite_host)),
        main("graphite_port", "2003", "its port", |d, v| {
            d.graphite_port = port(v)?;
            Ok(())
        }),
        main("graphite_prefix", "\"fastnetmon\"", "what every path begins with", text!(graphite_prefix)),
    ]
}
