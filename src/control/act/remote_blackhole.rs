//! `set remote_blackhole IP` and `delete remote_blackhole IP`: a ban of a foreign host (decision 1, class remote ban), announced as
//! a blackhole route, as a FlowSpec rule that discards what comes from it, or as both. ban2bgp's API and fail2ban come here too.

use std::net::IpAddr;

use bgp::{Class, Route};
use flowspec::json::prefix_as_written;
use flowspec::{Action as Traffic, Condition, FlowSpec, Pattern};
use operator::{Answer, Failure};
use serde_json::json;
use traffic::Prefix;

use super::{Action, Verb, carry_out, order, parse_options};
use crate::control::access;
use crate::pipeline::{Pipeline, Request};

/// Remote bans at most, each of one or two routes.
pub(super) const MAX_BANS: usize = 10_000;

pub(super) const SET: Action = Action {
    verb: Verb::Set,
    category: "remote_blackhole",
    arguments: "[src|dst|both] IP [expires TIME] [reason TEXT]",
    help: "ban a foreign host now: src discards what comes from it (FlowSpec), dst blackholes it, both is the default",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let routes = routes(&words)?;
        let space = policy::rails::Space::new(pipeline.policy().config());
        let mut new = 0;
        for route in &routes {
            let (class, _) = space.classify(route).map_err(|e| format!("refused: {e}"))?;
            if class != Class::RemoteBan {
                return Err("refused: it lies inside networks_list: a remote ban is for a foreign host (set blackhole is for own ones)".into());
            }
            new += usize::from(!pipeline.policy().all().any(|m| m.route == *route));
        }
        if new > 0 && bans(pipeline).count() + new > 2 * MAX_BANS {
            return Err(format!("refused: there are {MAX_BANS} remote bans already").into());
        }
        let order = order(now, caller, &options)?;
        let mut put = Vec::new();
        for route in routes {
            let is_new = !pipeline.policy().all().any(|m| m.route == route);
            let request = match route.clone() {
                Route::FlowSpec(pattern) => Request::AddFlowSpec {
                    rule: FlowSpec { pattern, actions: vec![Traffic::Discard] },
                    order: order.clone(),
                },
                Route::Unicast(prefix) => Request::AddBlackhole { prefix, order: order.clone() },
            };
            match carry_out(pipeline, now, caller, request) {
                Ok(answer) => put.push((route, is_new, answer)),
                Err(failure) => {
                    // Both or none.
                    for (route, is_new, _) in put {
                        if is_new {
                            let _ = pipeline.request(now, Request::Remove { route, order: order.clone() });
                        }
                    }
                    return Err(failure);
                }
            }
        }
        let texts: Vec<&str> = put.iter().map(|(.., answer)| answer.text.as_str()).collect();
        let values: Vec<_> = put.iter().map(|(.., answer)| &answer.json).collect();
        Ok(Answer::new(texts.join("\n"), &json!({ "routes": values })))
    },
};

pub(super) const DELETE: Action = Action {
    verb: Verb::Delete,
    category: "remote_blackhole",
    arguments: "[src|dst|both] NET|all [reason TEXT]",
    help: "end the bans of a foreign host, or of every banned host in a network",
    run: |pipeline, now, caller, arguments| {
        let (words, options) = parse_options(arguments)?;
        let (direction, text) = direction(&words)?;
        let order = order(now, caller, &options.without_end()?)?;
        let prefix: Option<Prefix> = match text {
            "all" => None,
            text => Some(text.parse().map_err(|e: traffic::target::PrefixError| e.to_string())?),
        };
        let wanted = |route: &Route| match route {
            Route::FlowSpec(_) => direction != Some("dst"),
            Route::Unicast(_) => direction != Some("src"),
        };
        let routes: Vec<Route> = bans(pipeline)
            .filter(|(route, host)| wanted(route) && prefix.is_none_or(|p| p.contains(host)))
            .map(|(route, _)| route)
            .collect();
        if routes.is_empty() {
            return Err(format!("{text} is not banned: see show remote_blackhole").into());
        }
        let count = routes.len();
        let orders: Vec<Request> =
            routes.into_iter().map(|route| Request::Remove { route, order: order.clone() }).collect();
        // All or none.
        orders.iter().try_for_each(|order| access::permit(caller, pipeline.policy().space(), order))?;
        for order in orders {
            carry_out(pipeline, now, caller, order)?;
        }
        Ok(Answer::new(format!("{count} routes withdrawn"), &json!({ "withdrawn": count })))
    },
};

/// Every remote ban in force: its route and the banned host.
pub(in crate::control) fn bans(pipeline: &Pipeline) -> impl Iterator<Item = (Route, Prefix)> + '_ {
    let space = policy::rails::Space::new(pipeline.policy().config());
    pipeline.policy().all().filter_map(move |m| match space.classify(&m.route) {
        Ok((Class::RemoteBan, host)) => Some((m.route.clone(), host)),
        _ => None,
    })
}

/// `src`, `dst` or `both` before the rest.
fn direction(words: &[String]) -> Result<(Option<&str>, &str), Failure> {
    match words {
        [text] => Ok((None, text)),
        [which, text] if which == "both" => Ok((None, text)),
        [which, text] if which == "src" || which == "dst" => Ok((Some(which), text)),
        _ => Err("write one address: set remote_blackhole [src|dst|both] 198.51.100.7".into()),
    }
}

fn routes(words: &[String]) -> Result<Vec<Route>, Failure> {
    let (direction, text) = direction(words)?;
    let prefix: Prefix = match text.parse::<IpAddr>() {
        // An IPv4 host written as IPv6 (RFC 4291 section 2.5.5.2) is that IPv4 host.
        Ok(address) => Prefix::host(address.to_canonical()),
        Err(_) => prefix_as_written(text)?,
    };
    let mut routes = Vec::new();
    if direction != Some("dst") {
        let pattern = Pattern::new(vec![Condition::Source(prefix, 0)]).map_err(|e| e.to_string())?;
        routes.push(Route::FlowSpec(pattern));
    }
    if direction != Some("src") {
        routes.push(Route::Unicast(prefix));
    }
    Ok(routes)
}
