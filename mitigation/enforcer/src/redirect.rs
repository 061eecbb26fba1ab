//! Routing rules for redirected traffic: packets with a mark are looked up in a routing table of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::config::Redirect;
use super::process;

/// Preference of our routing rules; `ip rule` shows them by it.
const PREFERENCE: &str = "10666";

fn ip(arguments: &[&str]) -> Result<(), String> {
    let outcome = process::run(OsStr::new("ip"), arguments, "")
        .map_err(|e| format!("cannot run ip: {e}; install the iproute2 package"))?;
    if outcome.success { Ok(()) } else { Err(format!("ip {}: {}", arguments.join(" "), outcome.stderr.trim())) }
}

fn rule(family: &str, verb: &str, redirect: Redirect) -> Result<(), String> {
    let (mark, table) = (redirect.mark.to_string(), redirect.table.to_string());
    ip(&[family, "rule", verb, "fwmark", &mark, "lookup", &table, "preference", PREFERENCE])
}

/// Makes the routing rules; those that a run left that did not end cleanly are taken over.
pub(super) fn set_up(redirects: &BTreeMap<String, Redirect>) -> Result<(), String> {
    tear_down(redirects);
    for redirect in redirects.values() {
        rule("-4", "add", *redirect)?;
        // A machine without IPv6 redirects none.
        let _ = rule("-6", "add", *redirect);
    }
    Ok(())
}

/// Removes them.
pub(super) fn tear_down(redirects: &BTreeMap<String, Redirect>) {
    for redirect in redirects.values() {
        for family in ["-4", "-6"] {
            let _ = rule(family, "del", *redirect);
        }
    }
}
