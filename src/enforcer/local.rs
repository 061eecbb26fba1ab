//! `enforce_here`: `floodwall run` carries its own rules out on this host, without any router.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use collectors::Time;
use detector::{Condition, Pattern};
use mitigation::bgp::adj_rib_in::{Accept, AdjRibIn, Allowed};
use mitigation::bgp::attribute::{Attributes, Update};
use mitigation::bgp::nlri::{self, FlowNlri};
use mitigation::enforce::{self, SourceStatus, Tables};
use mitigation::{Action, Announcement, Route, Wanted};

use super::{Running, View};

/// Its name among the peers that hold rules.
pub(crate) const NAME: &str = "this-host";

/// See the module.
#[derive(Debug)]
pub(crate) struct Local {
    running: Running,
    tables: Tables,
    rib: AdjRibIn,
    wanted: Arc<Wanted>,
    /// The status that was looked at last.
    seen: Option<Arc<enforce::EnforcerStatus>>,
}

impl Local {
    /// Starts if the configuration says so.
    pub(crate) fn start(config: &config::Config) -> Result<Option<Self>> {
        let Some(enforcement) = config.enforcement.as_ref().filter(|e| e.enforce_here) else { return Ok(None) };
        let networks = &config.mitigation.networks;
        let own: Vec<Allowed> =
            networks.iter().map(|prefix| Allowed { prefix: *prefix, minimum_length: prefix.length() }).collect();
        let max_rules = config.mitigation.max_rules + config.mitigation.max_blackholes;
        let mut settings = enforcement.config.clone();
        settings.sources = vec![enforce::Source {
            name: NAME.to_owned(),
            // There is no session to protect: BGP peers of the daemon are, by its own rails.
            remote_address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            remote_asn: 0,
            remote_port: 0,
            connect: false,
            local_address: None,
            md5_password: None,
            ttl_security_hops: None,
            accept: Accept { destinations: own.clone(), sources: own, max_rules },
        }];
        let tables = Tables::default();
        let running =
            Running::start(settings, tables.clone()).map_err(|e| anyhow!("enforce_here in [enforcer]: {e:#}"))?;
        tracing::info!("rules are carried out on this host");
        Ok(Some(Self { running, tables, rib: AdjRibIn::new(max_rules), wanted: Arc::default(), seen: None }))
    }

    /// Makes the packet filter equal to what is wanted. A blackhole is a rule that drops all traffic to its prefix.
    pub(crate) fn carry_out(&mut self, now: Time, wanted: &Arc<Wanted>) {
        if Arc::ptr_eq(&self.wanted, wanted) || *self.wanted == **wanted {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, Arc::clone(wanted));
        self.seen = None;
        let gone = before.iter().filter(|(route, _)| !wanted.contains_key(*route));
        let withdrawn = gone.filter_map(|(route, _)| flow(route)).collect();
        let mut changed = self.rib.apply(now, &Update { flow_withdrawn: withdrawn, ..Update::default() });
        for (route, announcement) in wanted.iter().filter(|(route, a)| before.get(*route) != Some(a)) {
            let Some(flow) = flow(route) else { continue };
            let attributes = attributes(route, announcement);
            changed |= self.rib.apply(now, &Update { flow_announced: vec![flow], attributes, ..Update::default() });
        }
        let status = SourceStatus {
            name: NAME.to_owned(),
            state: "established".to_owned(),
            rules: self.rib.rules().len(),
            over_limit: self.rib.over_limit,
            ..SourceStatus::default()
        };
        self.tables.publish(status, changed.then(|| Arc::new(self.rib.clone())));
    }

    /// The wanted routes that are installed, if anything changed since the last call.
    pub(crate) fn held(&mut self) -> Option<BTreeSet<Route>> {
        let status = self.running.view().enforcer();
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &status)) {
            return None;
        }
        let installed: BTreeSet<&str> =
            status.rules.iter().filter(|r| r.state == "installed").map(|r| r.rule.as_str()).collect();
        let held = self.wanted.keys().filter(|route| installed.contains(text(route).as_str())).cloned().collect();
        self.seen = Some(status);
        Some(held)
    }

    pub(crate) fn view(&self) -> View {
        self.running.view()
    }

    /// Removes all rules. Blocking.
    pub(crate) fn stop(self) {
        self.running.stop();
    }
}

/// A route as the enforcer writes it.
pub(crate) fn text(route: &Route) -> String {
    match route {
        Route::FlowSpec(_) => route.to_string(),
        Route::Unicast(prefix) => format!("flow destination {prefix}"),
    }
}

fn flow(route: &Route) -> Option<FlowNlri> {
    let pattern = match route {
        Route::FlowSpec(pattern) => pattern.clone(),
        Route::Unicast(prefix) => Pattern::new(vec![Condition::Destination(*prefix, 0)]).ok()?,
    };
    let octets = nlri::encode(&pattern).ok()?;
    Some(FlowNlri { version: pattern.version()?, octets, pattern })
}

fn attributes(route: &Route, announcement: &Announcement) -> Attributes {
    let actions = match route {
        Route::FlowSpec(_) => announcement.actions.clone(),
        Route::Unicast(_) => vec![Action::Discard],
    };
    Attributes::of_actions(actions)
}
