//! `set announcing enable|disable`: the kill switch (`floodwall withdraw-all` is the same), and `set approve ROUTE`.

use super::{Action, Verb, carry_out, named, order, parse_options};
use crate::pipeline::Request;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "announcing",
    arguments: "enable|disable [reason TEXT]",
    help: "disable withdraws everything everywhere, and nothing is announced until enable; a restart does not change it",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let order = order(now, caller, &options.without_end()?)?;
        let request = match words.first().map(String::as_str) {
            Some("enable" | "on" | "true") => Request::Resume(order),
            Some("disable" | "off" | "false") => Request::WithdrawAll(order),
            _ => return Err("write set announcing enable, or set announcing disable".into()),
        };
        carry_out(pipeline, now, caller, request)
    },
};

pub(super) const APPROVE: Action = Action {
    verb: Verb::Set,
    category: "approve",
    arguments: "ROUTE [reason TEXT]",
    help: "announce a rule or blackhole that waits for approval: its id or words as show flowspec prints them",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let order = order(now, caller, &options.without_end()?)?;
        let route = named(pipeline, caller, &words.join(" "))?;
        carry_out(pipeline, now, caller, Request::Approve { route, order })
    },
};
