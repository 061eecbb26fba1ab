//! [`Tables`]: what all sources announce now, shared between those who learn and the one who enforces.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bgp::adj_rib_in::AdjRibIn;

/// A source for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// State of its session.
    pub state: String,
    /// Rules it announces.
    pub rules: usize,
    /// Rules of this session that were not understood.
    pub malformed: u64,
    /// Why the first of them was not.
    pub malformed_reason: Option<String>,
    /// Rules beyond the source's limit that were left out.
    pub over_limit: u64,
    /// Sessions that ended.
    pub resets: u64,
    /// Why there is no session, or why the last one ended.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: BTreeMap<String, Arc<AdjRibIn>>,
    status: BTreeMap<String, SourceStatus>,
    changed: bool,
    stopping: bool,
}

/// The tables of all sources, shared between those who receive and the one who enforces.
#[derive(Debug, Clone, Default)]
pub struct Tables(Arc<(Mutex<Inner>, Condvar)>);

/// Why [`Tables::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A table changed.
    Changed,
    /// Nothing did for as long as was said.
    Timeout,
    /// [`Tables::stop`] was called.
    Stop,
}

impl Tables {
    /// Tells a source's state, and its table if that changed.
    pub fn publish(&self, status: SourceStatus, table: Option<Arc<AdjRibIn>>) {
        let (inner, condition) = &*self.0;
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = table {
            inner.tables.insert(status.name.clone(), table);
            inner.changed = true;
            condition.notify_all();
        }
        inner.status.insert(status.name.clone(), status);
    }

    /// Waits for a change, at most this long.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> Wake {
        let (inner, condition) = &*self.0;
        let inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |i: &mut Inner| !i.changed && !i.stopping;
        let (mut inner, _) =
            condition.wait_timeout_while(inner, at_most, quiet).unwrap_or_else(PoisonError::into_inner);
        if inner.stopping {
            Wake::Stop
        } else if std::mem::take(&mut inner.changed) {
            Wake::Changed
        } else {
            Wake::Timeout
        }
    }

    /// What each source announces.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<String, Arc<AdjRibIn>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).tables.clone()
    }

    /// The sources' states.
    #[must_use]
    pub fn status(&self) -> Vec<SourceStatus> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).status.values().cloned().collect()
    }

    /// Wakes the one who enforces for the last time.
    pub fn stop(&self) {
        let (inner, condition) = &*self.0;
        inner.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        condition.notify_all();
    }
}
