//! `set blackhole IP` and `delete blackhole IP`: announced, or withdrawn, at once (decision 3).

use flowspec::json::prefix_as_written;

use super::{Action, Verb, carry_out, named, order, parse_options};
use crate::pipeline::Request;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "blackhole",
    arguments: "IP [expires TIME] [reason TEXT]",
    help: "blackhole a host now; its FlowSpec rules are withdrawn and mining stops",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let [text] = &words[..] else { return Err("write one address: set blackhole 203.0.113.9".into()) };
        let prefix = prefix_as_written(text)?;
        let order = order(now, caller, &options)?;
        carry_out(pipeline, now, caller, Request::AddBlackhole { prefix, order })
    },
};

pub(super) const DELETE: Action = Action {
    verb: Verb::Delete,
    category: "blackhole",
    arguments: "IP [reason TEXT]",
    help: "end a host's blackhole now, by its address or id; mining resumes",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let order = order(now, caller, &options.without_end()?)?;
        let route = named(pipeline, caller, &words.join(" "))?;
        carry_out(pipeline, now, caller, Request::Remove { route, order })
    },
};
