//! `show enforcer`: the packet filter of this host, where `enforce_here` is set. A `floodwall enforce` has a socket of its own.

use super::Category;

pub(super) const CATEGORY: Category = Category {
    name: "enforcer",
    arguments: "[installed|refused]",
    help: "rules in this host's packet filter: hits, and why one is not installed",
    run: |view, arguments| match view.enforcer {
        Some(status) => crate::enforcer::show(status, arguments),
        None => {
            Err("rules are not carried out on this host: set enforce_here in [enforcer], or run floodwall enforce"
                .into())
        }
    },
};
