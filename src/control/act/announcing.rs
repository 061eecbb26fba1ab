//! `set announcing enable|disable`: the kill switch (`floodwall withdraw-all` is the same), and `set approve ROUTE`.

use super::{Action, Verb, done, order, parse_options};
use crate::pipeline::Request;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "announcing",
    arguments: "enable|disable [reason TEXT]",
    help: "disable withdraws everything everywhere, and nothing is announced until enable; a restart does not change it",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let order = order(now, caller, &options)?;
        let request = match words.first().map(String::as_str) {
            Some("enable" | "on" | "true") => Request::Resume(order),
            Some("disable" | "off" | "false") => Request::WithdrawAll(order),
            _ => return Err("write set announcing enable, or set announcing disable".into()),
        };
        done(pipeline.request(now, request))
    },
};

pub(super) const APPROVE: Action = Action {
    verb: Verb::Set,
    category: "approve",
    arguments: "ROUTE [reason TEXT]",
    help: "announce a rule or blackhole that waits for approval: its id or words as show flowspec prints them",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let text = words.join(" ");
        let route =
            pipeline.find(&text).ok_or_else(|| format!("nothing waits by the name {text:?}: see show flowspec"))?;
        let order = order(now, caller, &options)?;
        done(pipeline.request(now, Request::Approve { route, order }))
    },
};
