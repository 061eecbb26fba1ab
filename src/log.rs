//! The log: to standard error, at a level that a commit can change.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

type Set = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SET: OnceLock<Set> = OnceLock::new();

/// Starts logging; `FLOODWALL_LOG` wins over the level. A second start, as in tests, keeps the first.
pub fn start(level: &str) {
    let filter = EnvFilter::try_from_env("FLOODWALL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_filter_reloading();
    let handle = builder.reload_handle();
    if builder.try_init().is_ok() {
        let _ = SET.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    }
}

/// Changes the level; false if `FLOODWALL_LOG` wins.
pub fn set_level(level: &str) -> bool {
    if std::env::var_os("FLOODWALL_LOG").is_some() {
        return false;
    }
    SET.get().is_none_or(|set| set(EnvFilter::new(level)))
}
