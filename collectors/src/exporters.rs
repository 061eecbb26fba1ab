//! [`Exporters`]: who sends, and what an operator settled about them; shared by all workers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use traffic::Time;

use crate::error::Reason;
use crate::exporter::{Exporter, Health};
use crate::roster::Roster;
use crate::template::Templates;

/// Exporters that are told apart at most; see `crate::roster` for who makes room.
pub const MAX_EXPORTERS: usize = 4096;

/// All exporters with their templates, and what an operator settled about them.
#[derive(Debug)]
pub struct Exporters {
    config: RwLock<crate::config::Exporters>,
    roster: Roster<IpAddr, Exporter>,
    /// Numbers that are free again, and the highest that was ever given.
    numbers: Mutex<(Vec<u16>, u16)>,
    pub(crate) templates: Templates,
}

impl Default for Exporters {
    fn default() -> Self {
        Self::new(crate::config::Exporters::default())
    }
}

impl Exporters {
    /// Nobody yet.
    #[must_use]
    pub fn new(config: crate::config::Exporters) -> Self {
        Self {
            config: RwLock::new(config),
            roster: Roster::new(MAX_EXPORTERS),
            numbers: Mutex::default(),
            templates: Templates::default(),
        }
    }

    /// Whether datagrams of this address are looked at.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.config().allows(address)
    }

    fn config(&self) -> RwLockReadGuard<'_, crate::config::Exporters> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new configuration. Exporters for whom something changed are known anew, with new counts; all others, and all
    /// templates, stay.
    pub fn reconfigure(&self, config: &crate::config::Exporters) {
        if *self.config() == *config {
            return;
        }
        config.clone_into(&mut self.config.write().unwrap_or_else(PoisonError::into_inner));
        for (address, exporter) in self.roster.members() {
            if !config.allows(address) || config.of(address) != exporter.settings {
                self.roster.remove(address, &|_, exporter| self.free(exporter));
            }
        }
    }

    fn numbers(&self) -> MutexGuard<'_, (Vec<u16>, u16)> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, exporter: &Exporter) {
        self.numbers().0.push(exporter.index);
    }

    /// The exporter of that address; what to count when it is not on the allow-list, or when there is no room.
    pub(crate) fn find(&self, now: Time, address: IpAddr) -> Result<Arc<Exporter>, Reason> {
        let settings = {
            let config = self.config();
            if !config.allows(address) {
                return Err(Reason::NotAllowed);
            }
            config.of(address)
        };
        let make = || {
            let index = {
                let mut numbers = self.numbers();
                numbers.0.pop().unwrap_or_else(|| {
                    numbers.1 = numbers.1.saturating_add(1);
                    numbers.1
                })
            };
            Exporter::new(address, index, now, settings)
        };
        self.roster.join(now, address, make, |_, exporter| self.free(exporter)).ok_or(Reason::Limit)
    }

    /// How every exporter fares, by address.
    #[must_use]
    pub fn health(&self, now: Time) -> Vec<Health> {
        let by_address: BTreeMap<IpAddr, Health> =
            self.roster.members().iter().map(|(a, e)| (*a, e.health(now))).collect();
        by_address.into_values().collect()
    }

    /// The announced sampling rates that exporters' own counters contradict, by exporter (its number in samples) and N of 1:N, with
    /// N as these show it. A contradiction counts for a minute.
    #[must_use]
    pub fn contradictions(&self, now: Time) -> BTreeMap<(u16, u32), u32> {
        let members = self.roster.members();
        let found = members.iter().filter_map(|(_, exporter)| Some((exporter.index, exporter.contradiction(now)?)));
        found.map(|(index, c)| ((index, c.announced), c.measured)).collect()
    }

    /// The exporter with that number in samples.
    #[must_use]
    pub fn address(&self, index: u16) -> Option<IpAddr> {
        self.roster.members().iter().find(|(_, e)| e.index == index).map(|(address, _)| *address)
    }

    /// How many exporters are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.roster.len()
    }

    /// Templates of all exporters.
    #[must_use]
    pub const fn templates(&self) -> &Templates {
        &self.templates
    }
}
