//! `Spread`: a long flow's record is counted over as much time as its counters cover, not in the instant its record arrives.
//!
//! A router that exports a ten-minute download in one record would otherwise raise an alarm. Where a flow is reported every minute
//! its record covers that minute, however old the flow is: `collectors` says so in the sample's duration. Only records that are large
//! against the thresholds are spread (decision 28), so short records cost no delay, and a flood's records show its true rate
//! from their arrival on.

use std::collections::VecDeque;

use traffic::{Direction, Sample, Time};

use crate::hosts::{CellId, HostId};

/// Records being spread at once, per worker. When all places are taken, only the first slice of a record is counted and the
/// rest is dropped from the rates: too low a rate for a while is the safe side of a false alarm.
pub const MAX_SPREAD: usize = 1 << 16;
/// Traffic is released in slices of this many milliseconds.
const SLICE_MS: u32 = 100;
/// Longest time a record is spread over.
const LONGEST_MS: u32 = 3_600_000;

#[derive(Debug)]
struct Pending {
    host: Option<HostId>,
    cell: CellId,
    direction: Direction,
    sample: Sample,
    next: Time,
    slices_left: u32,
}

/// Records whose traffic is still being released.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    pending: VecDeque<Pending>,
    /// When to look through them again: not with every datagram.
    due: Time,
}

impl Spread {
    /// Takes a record over; returns the slice to count now, or `None` if the record is too short to spread.
    pub(crate) fn take(
        &mut self,
        host: Option<HostId>,
        cell: CellId,
        direction: Direction,
        sample: &Sample,
    ) -> Option<Sample> {
        let slices = sample.duration_ms.min(LONGEST_MS).div_ceil(SLICE_MS);
        if slices < 2 {
            return None;
        }
        let slice = Sample {
            packets: (sample.packets / u64::from(slices)).max(1),
            bytes: (sample.bytes / u64::from(slices)).max(1),
            // A slice is about now: it reaches back no further.
            duration_ms: 0,
            age_ms: 0,
            ..*sample
        };
        if self.pending.len() < MAX_SPREAD {
            let next = sample.time.after(std::time::Duration::from_millis(SLICE_MS.into()));
            self.pending.push_back(Pending { host, cell, direction, sample: slice, next, slices_left: slices - 1 });
        }
        Some(slice)
    }

    /// The same records under new indices of their hosts; those of addresses that are no longer ours are dropped.
    pub(crate) fn rehosted(mut self, find: impl Fn(Direction, &Sample) -> Option<(Option<HostId>, CellId)>) -> Self {
        self.pending.retain_mut(|pending| {
            let found = find(pending.direction, &pending.sample);
            found.is_some_and(|(host, cell)| {
                (pending.host, pending.cell) = (host, cell);
                true
            })
        });
        self
    }

    /// Counts every slice that is due by `now`.
    pub(crate) fn release(&mut self, now: Time, mut count: impl FnMut(Option<HostId>, CellId, Direction, &Sample)) {
        if self.pending.is_empty() || now < self.due {
            return;
        }
        self.due = now.after(std::time::Duration::from_millis(u64::from(SLICE_MS) / 2));
        for pending in &mut self.pending {
            if pending.next > now {
                continue;
            }
            let late = now.since(pending.next).as_millis() / u128::from(SLICE_MS) + 1;
            let due = u32::try_from(late).unwrap_or(u32::MAX).min(pending.slices_left);
            let factor = u64::from(due);
            let sample = Sample {
                packets: pending.sample.packets.saturating_mul(factor),
                bytes: pending.sample.bytes.saturating_mul(factor),
                ..pending.sample
            };
            count(pending.host, pending.cell, pending.direction, &sample);
            pending.slices_left -= due;
            pending.next = pending.next.after(std::time::Duration::from_millis(u64::from(SLICE_MS) * factor));
        }
        self.pending.retain(|p| p.slices_left > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::{IpVersion, Origin};

    #[test]
    fn a_ten_second_record_is_counted_over_ten_seconds_and_loses_little() {
        let mut spread = Spread::default();
        let mut sample = Sample::empty(Time::from_seconds(100, 0), IpVersion::V4, Origin::FlowRecord);
        (sample.packets, sample.bytes, sample.duration_ms) = (100_000, 150_000_000, 10_000);
        let first =
            spread.take(Some(HostId(1)), CellId(0), Direction::Incoming, &sample).expect("long enough to spread");
        assert_eq!((first.packets, first.bytes), (1000, 1_500_000));
        let mut total = first.packets;
        for second in 1..=10 {
            spread.release(Time::from_seconds(100 + second, 0), |_, _, _, s| {
                assert!(s.packets <= 10_000, "a second holds a tenth of the record");
                total += s.packets;
            });
        }
        assert_eq!(total, 100_000);
        assert!(spread.pending.is_empty());
    }
}
