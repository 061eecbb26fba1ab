//! The whitelist: whose alarms are silenced, what meters leave out, and that entries expire.

use std::sync::Arc;

use traffic::{Direction, Networks, Time};

use super::Detector;
use crate::config::Config;
use crate::meter::{Command, Whitelist};

impl Detector {
    /// Puts the whitelist into force as it is at `now`.
    pub(super) fn silence(&mut self, now: Time) {
        let silent = |direction: Direction| {
            let about_hosts = self.config.whitelist.iter().filter(|w| w.is_active(now) && !w.is_about_traffic());
            let of = about_hosts.filter(|w| w.direction.is_none_or(|d| d == direction));
            Networks::new(&of.flat_map(|w| w.networks.iter().copied()).collect::<Vec<_>>())
        };
        self.silenced = [silent(Direction::Incoming), silent(Direction::Outgoing)];
        let ends = self.config.whitelist.iter().filter_map(|w| w.expires).filter(|end| *end > now);
        self.whitelist_until = ends.min();
    }

    pub(super) fn expire_whitelist(&mut self, now: Time) {
        if self.whitelist_until.is_none_or(|end| now < end) {
            return;
        }
        self.silence(now);
        let whitelist = Arc::new(whitelist(&self.config, now));
        for remote in &mut self.remotes {
            remote.send(Command::Whitelist(Arc::clone(&whitelist)));
        }
    }
}

/// Whitelisted traffic at a time.
pub(super) fn whitelist(config: &Config, now: Time) -> Whitelist {
    let about_traffic = || config.whitelist.iter().filter(|w| w.is_active(now) && w.is_about_traffic());
    let is_plain = |w: &&crate::Whitelisted| w.networks.is_empty() && w.pattern.is_none();
    let remote = |direction: Direction| {
        let of = about_traffic().filter(is_plain).filter(|w| w.direction.is_none_or(|d| d == direction));
        Networks::new(&of.flat_map(|w| w.remote.iter().copied()).collect::<Vec<_>>())
    };
    Whitelist::new(
        [remote(Direction::Incoming), remote(Direction::Outgoing)],
        about_traffic().filter(|w| !is_plain(w)).cloned().collect(),
    )
}
