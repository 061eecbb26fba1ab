//! `set extend ROUTE expires TIME`: what is in force becomes an order that lasts until then.

use bgp::Route;
use flowspec::FlowSpec;

use super::{Action, Verb, carry_out, named, order, parse_options};
use crate::pipeline::Request;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "extend",
    arguments: "ROUTE expires TIME [reason TEXT]",
    help: "keep a rule or blackhole for TIME from now, whatever becomes of the attack: its id or words as show prints them",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        if options.lasts.is_none() {
            return Err("until when? set extend ROUTE expires 30m".into());
        }
        let route = named(pipeline, caller, &words.join(" "))?;
        let order = order(now, caller, &options)?;
        let in_force = pipeline.policy().all().find(|m| m.route == route);
        let actions = in_force.map(|m| m.announcement.actions.clone()).unwrap_or_default();
        let request = match route {
            Route::FlowSpec(pattern) => Request::AddFlowSpec { rule: FlowSpec { pattern, actions }, order },
            Route::Unicast(prefix) => Request::AddBlackhole { prefix, order },
        };
        carry_out(pipeline, now, caller, request)
    },
};
