//! `Exporters`: who tells of traffic: when last, and with which sampling rate.

use std::collections::BTreeMap;
use std::time::Duration;

use collectors::{Sample, Time};

use crate::attack::Event;

/// Exporters that are watched at most, as many as a decoder tells apart, times workers.
const MAX_EXPORTERS: usize = 1 << 16;
/// A sampling rate that grows by this factor makes every count of the exporter grow with it.
const JUMP: u32 = 4;
/// A rate has to have held for this many samples and this long before a change of it says anything.
const STEADY_SAMPLES: u32 = 50;
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Exporter {
    last: Time,
    rate: u32,
    since: Time,
    samples: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Exporters(BTreeMap<u32, Exporter>);

impl Exporters {
    /// Workers count their exporters apart.
    #[allow(clippy::cast_possible_truncation, reason = "workers are few")]
    pub(crate) fn number(worker: usize, sample: &Sample) -> u32 {
        (worker as u32) << 16 | u32::from(sample.exporter)
    }

    /// An exporter said something. Tells when its sampling rate has jumped: decision 5.
    pub(crate) fn saw(&mut self, worker: usize, sample: &Sample, now: Time) -> Option<Event> {
        let number = Self::number(worker, sample);
        let rate = sample.sampling_rate.max(1);
        let fresh = Exporter { last: now, rate, since: now, samples: 0 };
        let Some(exporter) = self.0.get_mut(&number) else {
            if self.0.len() < MAX_EXPORTERS {
                self.0.insert(number, fresh);
            }
            return None;
        };
        exporter.last = now;
        if exporter.rate == rate {
            exporter.samples = exporter.samples.saturating_add(1);
            return None;
        }
        let was_steady = exporter.samples >= STEADY_SAMPLES && now.since(exporter.since) >= STEADY;
        let before = std::mem::replace(exporter, fresh).rate;
        let jumped = was_steady && rate >= before.saturating_mul(JUMP);
        jumped.then_some(Event::SuspectExporter { exporter: number & 0xffff, before, now: rate })
    }

    /// Whether all of these have said nothing for a while.
    pub(crate) fn are_silent(&self, mut numbers: impl Iterator<Item = u32>, now: Time, span: Duration) -> bool {
        let mut any = false;
        let silent = numbers.all(|n| {
            any = true;
            self.0.get(&n).is_some_and(|e| now.since(e.last) > span)
        });
        any && silent
    }
}
