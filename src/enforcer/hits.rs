//! Traffic that rules took at an enforcer of this installation, told to the detecting side: `show flowspec` shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use operator::status::Volume;
use operator::{Envelope, Request};

use super::Status;
use crate::control::client::Client;

/// An enforcer is asked this often.
const PERIOD: Duration = Duration::from_secs(2);

type Map = BTreeMap<String, Volume>;

/// Hits by rule text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hits(Arc<Mutex<Map>>);

impl Hits {
    /// Asks the enforcer on this machine, while there is one; ends with the last holder.
    pub(crate) fn watch() -> Self {
        let hits = Self::default();
        let weak = Arc::downgrade(&hits.0);
        let path =
            std::env::var_os("FLOODWALL_ENFORCER_SOCKET").map_or_else(|| super::DEFAULT_SOCKET.into(), PathBuf::from);
        let asking = move || {
            while let Some(map) = weak.upgrade() {
                let found = if path.exists() { ask(&path) } else { Map::new() };
                *map.lock().unwrap_or_else(PoisonError::into_inner) = found;
                drop(map);
                std::thread::sleep(PERIOD);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("enforcer-hits".to_owned()).spawn(asking) {
            tracing::warn!("hits of an enforcer are not shown: {error}");
        }
        hits
    }

    /// What a rule took; `None` if no enforcer has installed it.
    pub(crate) fn of(&self, rule: &str) -> Option<Volume> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(rule).copied()
    }
}

fn ask(path: &std::path::Path) -> Map {
    let request = Request::Show { category: "enforcer".to_owned(), arguments: vec!["installed".to_owned()] };
    let answer = Client::connect(path).and_then(|mut c| c.ask(&Envelope::new(request, None, None)));
    let Ok(Ok(answer)) = answer else { return Map::new() };
    let status: Status = serde_json::from_value(answer.json).unwrap_or_default();
    volumes(&status)
}

/// Hits of installed rules.
pub(crate) fn volumes(status: &Status) -> Map {
    let installed = status.enforcer.rules.iter().filter(|r| r.state == "installed");
    installed.map(|r| (r.rule.clone(), Volume { packets: r.packets, bytes: r.bytes })).collect()
}
