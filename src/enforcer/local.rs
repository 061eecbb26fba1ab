//! `enforce_here`: `floodwall run` carries its own rules out on this host, without any router.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bgp::adj_rib_in::{Accept, AdjRibIn, Allowed};
use bgp::attribute::{Attributes, Update};
use bgp::{Announcement, Route, Wanted};
use enforcer::{SourceStatus, Tables};
use flowspec::nlri::{self, FlowNlri};
use traffic::Time;

use super::{Running, View};

/// Its name among the peers that hold rules.
pub(crate) const NAME: &str = "this-host";

/// Carries rules out on this host's own packet filter (`enforce_here`).
#[derive(Debug)]
pub(crate) struct Local {
    running: Running,
    tables: Tables,
    rib: AdjRibIn,
    wanted: Arc<Wanted>,
    /// The status that was looked at last.
    seen: Option<Arc<enforcer::EnforcerStatus>>,
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
        settings.sources = vec![enforcer::Source {
            name: NAME.to_owned(),
            // There is no session to protect: BGP peers of the daemon are, by its own rails.
            remote_address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            remote_asn: 0,
            remote_port: 0,
            connect: false,
            local_address: None,
            md5_password: None,
            ttl_security_hops: None,
            blackholes: true,
            accept: Accept { destinations: own.clone(), sources: own, max_rules },
        }];
        let tables = Tables::default();
        let running =
            Running::start(settings, tables.clone()).map_err(|e| anyhow!("enforce_here in [enforcer]: {e:#}"))?;
        tracing::info!("rules are carried out on this host");
        Ok(Some(Self {
            running,
            tables,
            rib: AdjRibIn::new(max_rules).with_blackholes(true),
            wanted: Arc::default(),
            seen: None,
        }))
    }

    /// Makes the packet filter equal to what is wanted. A blackhole drops all traffic to its prefix; a diversion is for routers.
    pub(crate) fn carry_out(&mut self, now: Time, wanted: &Arc<Wanted>) {
        if Arc::ptr_eq(&self.wanted, wanted) || *self.wanted == **wanted {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, Arc::clone(wanted));
        self.seen = None;
        let mut changed = false;
        for route in before.keys().filter(|route| !wanted.contains_key(*route)) {
            changed |= self.rib.apply(now, &withdraw(route));
        }
        for (route, announcement) in wanted.iter().filter(|(route, a)| before.get(*route) != Some(a)) {
            changed |= self.rib.apply(now, &announce(route, announcement));
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

/// A route as it would arrive from a peer.
fn announce(route: &Route, announcement: &Announcement) -> Update {
    let mut attributes = Attributes::of_actions(announcement.actions.clone());
    attributes.communities.clone_from(&announcement.communities);
    Update {
        announced: vec![route.clone()],
        flow_announced: flow(route).into_iter().collect(),
        attributes,
        ..Update::default()
    }
}

fn withdraw(route: &Route) -> Update {
    Update { withdrawn: vec![route.clone()], flow_withdrawn: flow(route).into_iter().collect(), ..Update::default() }
}

fn flow(route: &Route) -> Option<FlowNlri> {
    let Route::FlowSpec(pattern) = route else { return None };
    Some(FlowNlri { version: pattern.version()?, octets: nlri::encode(pattern).ok()?, pattern: pattern.clone() })
}
