//! The process itself: its log, its state and who may ask it through the control socket.

use crate::kind::{Of, choice, switch, text};
use crate::schema::{Key, Section, key, set};

/// As written.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "each field is a key; the meanings stand once, below")]
pub struct Process {
    pub logging_level: String,
    pub state_directory: String,
    pub control_socket_others_may_read: bool,
}

fn main<T: 'static>(
    name: &str,
    default: &str,
    meaning: &str,
    of: Of<T>,
    set: impl Fn(&mut Process, T) + Send + Sync + 'static,
) -> Key {
    key(Section::Main, name, default, meaning, of, move |draft, _, value| set(&mut draft.process, value))
}

/// Of `[main]`.
pub(crate) fn log_key() -> Key {
    main(
        "logging_level",
        "\"info\"",
        "error, warn, info or debug; debug shows ranked candidates",
        choice(["error", "warn", "info", "debug"].map(|level| (level, level.to_owned()))),
        set!(logging_level),
    )
}

/// Of `[main]` and `[state]`.
pub(crate) fn keys() -> Vec<Key> {
    vec![
        main(
        "control_socket_others_may_read",
        "false",
        "let every local user ask (show) through the control socket; changing anything takes root or group floodwall",
        switch(),
        set!(control_socket_others_may_read),
    ).admin(),
        key(
            Section::State,
            "directory",
            "\"/var/lib/floodwall\"",
            "where state is kept; FLOODWALL_STATE_DIR and --state-dir win over it",
            text(),
            |draft, _, value| draft.process.state_directory = value,
        )
        .admin(),
    ]
}
