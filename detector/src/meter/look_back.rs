//! [`LookBack`]: the samples that a worker remembers, at an even [`Pace`].

use sys::prefetch;
use traffic::{Sample, Time};

/// Recent samples kept per worker (6 MiB), so that a bucket can be filled at the moment of the alarm.
const LOOK_BACK: usize = 1 << 16;
/// Of more samples per second than this, every n-th is kept, so that the ring always reaches back a quarter of a second.
const LOOK_BACK_PER_SECOND: u32 = 4 << 16;
/// Places of the look-back ring that are fetched ahead.
const LOOK_AHEAD: usize = 6;

/// The ring of recent samples of own hosts.
#[derive(Debug)]
pub(super) struct LookBack {
    samples: Vec<Sample>,
    next: usize,
    pub(super) pace: Pace,
}

impl LookBack {
    pub(super) const fn new() -> Self {
        Self { samples: Vec::new(), next: 0, pace: Pace::new(LOOK_BACK_PER_SECOND) }
    }

    #[inline]
    pub(super) fn push(&mut self, sample: &Sample) {
        if self.pace.skips() {
            return;
        }
        if self.samples.len() < LOOK_BACK {
            self.samples.push(*sample);
        } else {
            self.samples[self.next] = *sample;
        }
        self.next = (self.next + 1) % LOOK_BACK;
        // The ring is larger than the nearer caches: the places of the next few samples are fetched ahead.
        if let Some(later) = self.samples.get(self.next + LOOK_AHEAD) {
            prefetch(&later.source);
            prefetch(&later.origin);
        }
    }

    /// Newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Sample> {
        let (new, old) = self.samples.split_at(self.next.min(self.samples.len()));
        new.iter().rev().chain(old.iter().rev())
    }
}

/// Takes about so many of a second's samples, evenly: every n-th, by the rate of the second before.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    /// Of how many samples one is taken.
    stride: u32,
    /// Samples to skip still.
    left: u32,
    /// Samples in this second up to the last that was taken.
    seen: u32,
    until: Time,
}

impl Pace {
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, stride: 1, left: 0, seen: 0, until: Time(0) }
    }

    /// Call now and then, and always after a pause: a stride that many samples made would skip few ones for long.
    #[inline]
    pub(super) fn update(&mut self, now: Time) {
        if now >= self.until {
            let seen = self.seen + (self.stride - 1).saturating_sub(self.left);
            self.stride = (seen / self.per_second).max(1);
            (self.left, self.seen, self.until) = (0, 0, now.after(std::time::Duration::from_secs(1)));
        }
    }

    /// Whether the next sample is to be skipped.
    #[inline]
    pub(super) fn skips(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        self.seen = self.seen.saturating_add(self.stride);
        // More than in the second before: none of the rest would be taken evenly.
        self.stride = self.stride.max(self.seen / self.per_second + 1);
        self.left = self.stride - 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `rate` samples in each of the next two seconds are taken.
    fn taken(pace: &mut Pace, second: u64, rate: u64) -> [usize; 2] {
        [second, second + 1].map(|second| {
            let of = |n| Time(second * 1_000_000_000 + n * 1_000_000_000 / rate);
            (0..rate)
                .filter(|n| {
                    pace.update(of(*n));
                    !pace.skips()
                })
                .count()
        })
    }

    #[test]
    fn a_pace_takes_all_of_few_samples_and_about_enough_of_many_from_the_second_second_on() {
        let mut pace = Pace::new(1000);
        assert_eq!(taken(&mut pace, 10, 900), [900, 900]);
        let [first, second] = taken(&mut pace, 12, 50_000);
        assert!((1000..=6000).contains(&first) && (900..=1000).contains(&second), "{first}, {second}");
        assert_eq!(taken(&mut pace, 14, 10)[1], 10, "a stride is not kept for longer than a second");
    }
}
