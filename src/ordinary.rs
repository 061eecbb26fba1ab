//! [`PreparedBaselines`]: the ordinary traffic of targets under attack, prepared for the miner when the alarm is raised, while the
//! bucket still fills. What is ordinary does not change during an attack (decision 27), so all its buckets are mined against the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use detector::{Attack, Detector};
use miner::Baseline;
use traffic::{Target, Time};

/// Targets that are kept at most, some 200 KiB each; beyond that each bucket's is prepared when it is mined.
const MAX_PREPARED: usize = 256;

/// Ordinary traffic of one target.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    started: Time,
    /// Samples, sorted; none if nothing is known.
    pub(crate) baseline: Arc<Baseline>,
    /// Packets per second, if known.
    pub(crate) packets_per_second: Option<f64>,
}

/// Baselines made ready for the miner while a bucket fills.
#[derive(Debug, Default)]
pub(crate) struct PreparedBaselines(BTreeMap<Target, Prepared>);

impl PreparedBaselines {
    /// What was ordinary before an attack.
    pub(crate) fn of(&mut self, detector: &Detector, attack: &Attack) -> Prepared {
        if let Some(prepared) = self.0.get(&attack.target).filter(|p| p.started == attack.started) {
            return prepared.clone();
        }
        let ordinary = detector.baselines().ordinary(attack.target, &attack.group, attack.started);
        let prepared = Prepared {
            started: attack.started,
            baseline: Arc::new(Baseline::new(attack.target, ordinary.samples)),
            packets_per_second: ordinary.packets_per_second,
        };
        if self.0.len() < MAX_PREPARED || self.0.contains_key(&attack.target) {
            self.0.insert(attack.target, prepared.clone());
        }
        prepared
    }

    /// At an alarm: prepares while there is time, unless there are too many.
    pub(crate) fn prepare(&mut self, detector: &Detector, attack: &Attack) {
        if self.0.len() < MAX_PREPARED {
            let _ = self.of(detector, attack);
        }
    }

    /// The attack on a target is over.
    pub(crate) fn forget(&mut self, target: Target) {
        self.0.remove(&target);
    }
}
