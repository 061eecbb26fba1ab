//! What acts at once, without `commit` (decision 3): one file per category.
//!
//! An action runs on the control thread, between two ticks, with the pipeline in its hands. Whether the caller may write was
//! checked, and what comes of it goes to the audit log.

use collectors::Time;

use super::{Caller, Outcome, Request};
use crate::pipeline::Pipeline;

/// `set` or `delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `set`
    Set,
    /// `delete`
    Delete,
}

/// Something that acts at once.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// `set` or `delete`.
    pub verb: Verb,
    /// The word behind it.
    pub category: &'static str,
    /// The words behind that, for the help: `IP`.
    pub arguments: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Does it.
    pub run: fn(&mut Pipeline, Time, &Caller, &[String]) -> Outcome,
}

/// Every action: a new one is a file of this folder and a line here.
pub const ACTIONS: &[Action] = &[];

/// The action that a request means, if it means one.
#[must_use]
pub fn find(request: &Request) -> Option<(&'static Action, &[String])> {
    let (verb, category, arguments) = match request {
        Request::Set { category, arguments } => (Verb::Set, category, arguments),
        Request::Delete { category, arguments } => (Verb::Delete, category, arguments),
        Request::Show { .. }
        | Request::Commit { .. }
        | Request::Confirm
        | Request::Rollback { .. }
        | Request::Rebase
        | Request::Reload
        | Request::Complete { .. } => return None,
    };
    ACTIONS.iter().find(|a| a.verb == verb && a.category == category).map(|action| (action, arguments.as_slice()))
}
