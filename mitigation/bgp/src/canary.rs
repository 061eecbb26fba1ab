//! [`Canary`]: new routes go to canary peers first, and to the others when a canary has held them for a while.
//!
//! Without a canary session there is nothing to wait for: an attack is not left alone because a test router is down. The gate delays
//! what is new and takes nothing away: what the others hold stays, in the form they hold, until a new form is proven or it is wanted
//! no longer, whatever canaries come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use traffic::Time;

use crate::announcement::{Announcement, Route, Wanted};

/// Holds new routes back from the other peers until a canary has held them for `canary_time`.
#[derive(Debug, Default)]
pub struct Canary {
    /// Routes, in the form that the canaries hold, and since when.
    held: BTreeMap<Route, (Announcement, Time)>,
    /// What the others are to hold, as it was said last.
    said: Arc<Wanted>,
}

impl Canary {
    /// What the peers that are no canaries are to be sent now. `canaries` are the routes that each canary with a session has been
    /// sent.
    pub fn others(
        &mut self,
        now: Time,
        wanted: &Arc<Wanted>,
        canaries: &[BTreeSet<Route>],
        wait: Duration,
    ) -> Arc<Wanted> {
        if canaries.is_empty() || wait.is_zero() {
            self.held.clear();
            self.said = Arc::clone(wanted);
            return Arc::clone(wanted);
        }
        self.held.retain(|route, (announcement, _)| {
            wanted.get(route) == Some(announcement) && canaries.iter().all(|has| has.contains(route))
        });
        for (route, announcement) in wanted.iter() {
            if canaries.iter().all(|has| has.contains(route)) {
                self.held.entry(route.clone()).or_insert_with(|| (announcement.clone(), now));
            }
        }
        let proven = |route: &Route| self.held.get(route).is_some_and(|(_, since)| now.since(*since) >= wait);
        let form = |(route, announcement)| {
            let form = if proven(route) { Some(announcement) } else { self.said.get(route) };
            form.map(|form: &Announcement| (route.clone(), form.clone()))
        };
        self.said = Arc::new(wanted.iter().filter_map(form).collect());
        Arc::clone(&self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_get_a_route_when_the_canary_has_held_it_and_keep_it_whatever_canaries_come_and_go() {
        let route = Route::Unicast("192.0.2.1/32".parse().expect("prefix"));
        let wanted = Arc::new(Wanted::from([(route.clone(), Announcement::blackhole())]));
        let mut canary = Canary::default();
        let at = |s: u64| Time::from_seconds(1000 + s, 0);
        let wait = Duration::from_secs(2);
        let (no, yes) = (BTreeSet::new(), BTreeSet::from([route]));
        let one = |set: &BTreeSet<Route>| [set.clone()];
        assert_eq!(canary.others(at(0), &wanted, &one(&no), wait).len(), 0);
        assert_eq!(canary.others(at(1), &wanted, &one(&yes), wait).len(), 0);
        assert_eq!(canary.others(at(3), &wanted, &one(&yes), wait).len(), 1);
        assert_eq!(canary.others(at(4), &wanted, &[yes.clone(), no.clone()], wait).len(), 1, "a second canary");
        assert_eq!(canary.others(at(5), &wanted, &[], wait).len(), 1, "no canary has a session");
        assert_eq!(canary.others(at(6), &wanted, &one(&no), wait).len(), 1, "one comes up");
        // A new form is new, and the old one stays until it is proven.
        let changed: Arc<Wanted> =
            Arc::new(wanted.keys().map(|r| (r.clone(), Announcement::blackhole().manual())).collect());
        assert_eq!(canary.others(at(7), &changed, &one(&yes), wait), wanted);
        assert_eq!(canary.others(at(9), &changed, &one(&yes), wait), changed);
        assert_eq!(canary.others(at(10), &Arc::default(), &one(&yes), wait).len(), 0, "wanted no longer");
    }
}
