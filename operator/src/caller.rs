//! [`Caller`]: who asks.

use serde::Serialize;
use traffic::Prefix;

/// Who asks, as the kernel knows him.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Name of the user; of the one who logged in, if that is known, so that `sudo` does not hide him.
    pub user: String,
    /// His user id.
    pub uid: u32,
    /// Whether he may change anything.
    pub may_write: bool,
    /// Why he does it, if he said.
    pub reason: Option<String>,
    /// The state of his candidate that he has seen, if he keeps track.
    pub seen: Option<u64>,
    /// Whether he came over the network, with a token.
    pub is_token: bool,
    /// Prefixes that he may see and act on; empty for all.
    pub prefixes: Vec<Prefix>,
    /// Whether he may change what runs programs, leaves the host or lets others in ([`config::secrets::reaches_out`]).
    pub is_admin: bool,
}

impl Caller {
    /// Whether a prefix is one that he may see and act on.
    #[must_use]
    pub fn sees(&self, prefix: &Prefix) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|own| own.contains(prefix))
    }
}
