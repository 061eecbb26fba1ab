//! `set flowspec '{...}'` and `delete flowspec RULE`: a rule that is announced, or withdrawn, at once.

use operator::{Answer, Outcome};

use super::{Action, Verb, carry_out, named, order, parse_options};
use crate::control::access;
use crate::pipeline::Request;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "flowspec",
    arguments: "'{JSON}' [expires TIME] [reason TEXT]",
    help: "announce a FlowSpec rule now, for TIME (such as 30m, 2h, 1d) or until it is deleted",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let [text] = &words[..] else {
            return Err(r#"write the rule as one word of JSON: set flowspec '{"destination_prefix": "203.0.113.9/32", "protocols": ["udp"], "source_ports": [53], "action_type": "discard"}'"#.into());
        };
        let rule = flowspec::json::parse(text).map_err(|e| e.to_string())?;
        let order = order(now, caller, &options)?;
        carry_out(pipeline, now, caller, Request::AddFlowSpec { rule, order })
    },
};

pub(super) const DELETE: Action = Action {
    verb: Verb::Delete,
    category: "flowspec",
    arguments: "RULE|all [reason TEXT]",
    help: "withdraw a rule now: its id or words as show flowspec prints them, or its JSON",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let order = order(now, caller, &options.without_end()?)?;
        let text = words.join(" ");
        if text == "all" {
            return delete_all(pipeline, now, caller, &order);
        }
        let route = named(pipeline, caller, &text)?;
        carry_out(pipeline, now, caller, Request::Remove { route, order })
    },
};

fn delete_all(
    pipeline: &mut crate::pipeline::Pipeline,
    now: traffic::Time,
    caller: &operator::Caller,
    order: &policy::Order,
) -> Outcome {
    let rules: Vec<bgp::Route> =
        pipeline.policy().all().map(|m| m.route.clone()).filter(|r| matches!(r, bgp::Route::FlowSpec(_))).collect();
    let count = rules.len();
    let orders: Vec<Request> = rules.into_iter().map(|route| Request::Remove { route, order: order.clone() }).collect();
    // All or none.
    orders.iter().try_for_each(|order| access::permit(caller, pipeline.policy().space(), order))?;
    for order in orders {
        // The same rule may have stood for several targets; the first removal took all of them.
        let _ = pipeline.request(now, order);
    }
    Ok(Answer::new(format!("{count} rules withdrawn"), &count))
}
