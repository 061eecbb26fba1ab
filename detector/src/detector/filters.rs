//! Filters of targets: put into force at every worker, and what is left is judged anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use traffic::{Direction, Target, Time};

use super::{Detector, LONGEST_SETTLING, Settling};
use crate::counters::WATCH_FILTERS;
use crate::hosts::HostId;
use crate::life::filters_sum;
use crate::meter::{Command, Filter, Remote};

impl Detector {
    /// Puts filters into force for a target in place of its earlier ones: what they match is no longer counted for it.
    pub fn set_filters(&mut self, target: Target, filters: Vec<Arc<Filter>>) {
        let Some(attack) = self.attacks.get_mut(&target) else { return };
        attack.rates.filter_hits = filters_sum(&filters, Filter::hits);
        attack.rates.filter_passed = filters_sum(&filters, Filter::passed);
        attack.filters = filters;
        attack.aside = None;
        attack.take_aside(self.layout);
        // What is left has to cross the threshold anew.
        attack.over_since = None;
        let now = self.last.unwrap_or_default();
        match self.host_of(target) {
            Some(host) => self.filter_host(host, target, now),
            None => self.filter_prefix(target, now),
        }
        let sent = self.remotes.iter().map(Remote::sent).collect();
        self.settling.insert(target, Settling { sent, since: now });
    }

    /// Targets whose filters not every worker had taken over when the tick began: what was counted in it says nothing about what
    /// the filters leave over.
    pub(super) fn settle(&mut self, now: Time) -> Vec<Target> {
        let unsettled = self.settling.keys().copied().collect();
        let remotes = &self.remotes;
        self.settling.retain(|_, s| {
            let served = remotes.iter().zip(&s.sent).all(|(r, n)| r.has_served(*n));
            !served && now.since(s.since) < LONGEST_SETTLING
        });
        unsettled
    }

    pub(super) fn filter_host(&mut self, host: HostId, target: Target, now: Time) {
        // Both directions of a host share its line.
        let all: Arc<[Arc<Filter>]> = Direction::ALL
            .iter()
            .filter_map(|&direction| self.attacks.get(&Target { direction, ..target }))
            .flat_map(|a| a.filters.iter().cloned())
            .collect();
        for remote in &mut self.remotes {
            let empty = all.is_empty();
            // A full ring cannot happen with one command per filter change and a worker that serves every 20 ms; if it does,
            // the worker goes on counting what it should not, which errs towards detecting.
            let sent = remote.send(Command::Filters(host, Arc::clone(&all)));
            let watch = &remote.shard.line(host).watch;
            if sent && !empty {
                watch.fetch_or(WATCH_FILTERS, Ordering::Release);
            } else if empty {
                watch.fetch_and(!WATCH_FILTERS, Ordering::Release);
            }
        }
        self.restart(target, now);
    }

    /// What is left of a host has to cross the threshold anew.
    pub(super) fn restart(&mut self, target: Target, now: Time) {
        if let Some(host) = self.host_of(target)
            && let Some(track) = self.tracks.get_mut(host)
        {
            track.levels.restart(&self.checks[track.group], target.direction, now);
        }
    }

    pub(super) fn filter_prefix(&mut self, target: Target, now: Time) {
        let wide = self.attacks.iter().filter(|(t, a)| !t.prefix.is_host() && !a.filters.is_empty());
        let all: crate::meter::PrefixFilters = wide.map(|(t, a)| (*t, a.filters.iter().cloned().collect())).collect();
        for remote in &mut self.remotes {
            remote.send(Command::PrefixFilters(Arc::clone(&all)));
        }
        self.watch_prefix(target.prefix);
        self.prefixes.restart(target, now);
    }
}
