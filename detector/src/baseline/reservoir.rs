//! `Reservoir`: samples of ordinary traffic of a host or of a host group, remembered by age (decision 36).
//!
//! Only samples older than `baseline_forget` are used, so it is by age that they have to be kept: what makes room by number alone
//! loses the old the faster, the more is learned. Time is cut into slots, and each slot keeps a few of its samples, drawn evenly.
//! Samples beyond [`OLD`] that are older than `baseline_forget` are thinned where there are most: their ages are divided into
//! octaves, from `baseline_forget` to [`OLDEST`], and the fullest slot of the fullest octave loses one. So minutes, hours and days
//! have about as many each, whatever the rate of learning. Until [`OLD`] are kept, a slot may keep what is still wanting: so there
//! always are that many, or all that there were, older than `baseline_forget` and a slot, which is a tenth of it.

use serde::{Deserialize, Serialize};
use traffic::{Direction, IpVersion, Time};

use super::{Ordinary, seconds_of};

/// Samples per direction that are kept beyond `baseline_forget`; 256 are promised, and an attack may begin some seconds before
/// it is noticed.
pub(super) const OLD: usize = 272;
/// Samples kept of a slot, unless more are wanting.
const PER_SLOT: usize = 8;
/// Slots that `baseline_forget` is divided into; with the one that is open and one that is cut by it, two more are fresh.
const SLOTS: u32 = 10;
/// Samples kept per direction at most.
pub(super) const MOST: usize = OLD + (SLOTS as usize + 2) * PER_SLOT;
/// Slots are no shorter than this, in seconds.
const SHORTEST_SLOT: u32 = 10;
/// Samples that are older than this, in seconds, are alike.
const OLDEST: u32 = 14 * 86_400;
/// From the shortest octave there is to [`OLDEST`].
const OCTAVES: usize = 18;
/// Time constant of the ordinary rate of a host.
const RATE_SECONDS: f64 = 600.0;

/// A xorshift generator: reproducible, and nothing that an attacker gains from.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Evenly below `sides`; 0 if there are none.
    pub(super) const fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if sides == 0 { 0 } else { (self.0 >> 11) % sides }
    }

    #[allow(clippy::cast_possible_truncation, reason = "below a length")]
    const fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }
}

/// What decides how long samples are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// `baseline_forget` in seconds.
    pub(super) forget: u32,
}

impl Ages {
    fn slot(self) -> u32 {
        (self.forget / SLOTS).max(SHORTEST_SLOT)
    }

    /// 0 is the youngest.
    fn octave(self, age: u32) -> usize {
        let times = age.min(OLDEST) / self.forget.max(SHORTEST_SLOT);
        (times.max(1).ilog2() as usize).min(OCTAVES - 1)
    }
}

/// Samples of one direction, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    kept: Vec<Ordinary>,
    /// Number of the slot that is open, how many are kept of those before it, and how many samples it has had.
    slot: u32,
    closed: usize,
    seen: u64,
}

impl Past {
    fn add(&mut self, ordinary: Ordinary, ages: Ages, dice: &mut Dice) {
        // A clock that went back does not disturb the order.
        let seconds = self.kept.last().map_or(ordinary.seconds, |last| last.seconds.max(ordinary.seconds));
        let slot = seconds / ages.slot();
        if slot != self.slot {
            self.thin(seconds, ages, dice);
            (self.slot, self.closed, self.seen) = (slot, self.kept.len(), 0);
        }
        self.seen += 1;
        let room = PER_SLOT.max(OLD.saturating_sub(self.closed));
        if self.kept.len() - self.closed >= room {
            // Any of the slot is as likely to stay as any other.
            if dice.below(self.seen) >= room as u64 {
                return;
            }
            self.kept.remove(self.closed + dice.place(room.min(self.kept.len() - self.closed)));
        }
        self.kept.push(Ordinary { seconds, ..ordinary });
    }

    /// Makes room among what is old, and whatever the age beyond [`MOST`].
    fn thin(&mut self, now: u32, ages: Ages, dice: &mut Dice) {
        let old = self.before(now.saturating_sub(ages.forget)).len();
        self.thin_to(OLD, old, now, ages, dice);
        self.thin_to(MOST, self.kept.len(), now, ages, dice);
        self.closed = self.closed.min(self.kept.len());
    }

    /// Of the first `among`, leaves `wanted`.
    fn thin_to(&mut self, wanted: usize, mut among: usize, now: u32, ages: Ages, dice: &mut Dice) {
        let mut counts = [0usize; OCTAVES];
        for ordinary in &self.kept[..among] {
            counts[ages.octave(now.saturating_sub(ordinary.seconds))] += 1;
        }
        while among > wanted {
            // Of equal octaves the youngest is cut: what is old does not come again.
            let (mut fullest, mut first) = (0, 0);
            for octave in 1..OCTAVES {
                if counts[octave] > counts[fullest] {
                    fullest = octave;
                }
            }
            first += counts[fullest + 1..].iter().sum::<usize>();
            let place = first + fullest_slot(&self.kept[first..first + counts[fullest]], ages.slot(), dice);
            self.kept.remove(place);
            counts[fullest] -= 1;
            among -= 1;
        }
    }

    /// Those from before a second.
    pub(super) fn before(&self, seconds: u32) -> &[Ordinary] {
        &self.kept[..self.kept.partition_point(|o| o.seconds < seconds)]
    }

    pub(super) fn all(&self) -> &[Ordinary] {
        &self.kept
    }

    /// Forgets what came from a second on.
    fn cut(&mut self, seconds: u32) {
        self.kept.truncate(self.before(seconds).len());
        self.closed = self.closed.min(self.kept.len());
        self.seen = (self.kept.len() - self.closed) as u64;
    }
}

/// A sample, by its place, of a slot that has the most of these, which are in order.
fn fullest_slot(samples: &[Ordinary], slot: u32, dice: &mut Dice) -> usize {
    let slots = || samples.chunk_by(|a, b| a.seconds / slot == b.seconds / slot);
    let most = slots().map(<[Ordinary]>::len).max().unwrap_or(0);
    let fullest = slots().filter(|s| s.len() == most).count();
    let chosen = dice.place(fullest * most);
    let (mut place, mut passed) = (0, 0);
    for samples in slots() {
        if samples.len() == most {
            if chosen < passed + most {
                return place + chosen - passed;
            }
            passed += most;
        }
        place += samples.len();
    }
    0
}

/// Samples of one host or group, kept by age so that busy minutes do not push out quiet days (decision 36).
#[derive(Debug, Clone, Default)]
pub(super) struct Reservoir {
    /// By direction.
    past: [Past; 2],
    pub(super) last: Time,
    /// Ordinary packets per second, both directions, and for how long that has been learned.
    pub(super) rate: [f64; 2],
    pub(super) rate_seconds: f64,
}

impl Reservoir {
    pub(super) fn add(&mut self, ordinary: Ordinary, now: Time, ages: Ages, dice: &mut Dice) {
        self.last = now;
        self.past[ordinary.direction as usize].add(ordinary, ages, dice);
    }

    pub(super) fn of(&self, direction: Direction) -> &Past {
        &self.past[direction as usize]
    }

    /// Samples of both directions, and how many of them are from before a second.
    pub(super) fn count(&self, seconds: u32) -> (usize, usize) {
        let sum = |of: fn(&Past, u32) -> usize| self.past.iter().map(|p| of(p, seconds)).sum();
        (sum(|past, _| past.kept.len()), sum(|past, seconds| past.before(seconds).len()))
    }

    /// Forgets what came at or after a time, to the second.
    pub(super) fn cut(&mut self, since: Time) {
        self.past.iter_mut().for_each(|past| past.cut(seconds_of(since)));
    }

    /// Whether there is anything for [`Reservoir::cut`] to forget.
    pub(super) fn reaches(&self, since: Time) -> bool {
        let since = seconds_of(since);
        self.past.iter().any(|past| past.kept.last().is_some_and(|o| o.seconds >= since))
    }

    #[allow(clippy::cast_precision_loss, reason = "a mean")]
    pub(super) fn rate(&mut self, packets: [u64; 2], seconds: f64) {
        self.rate_seconds += seconds;
        // A plain mean until the time constant has passed.
        let weight = (seconds / self.rate_seconds.min(RATE_SECONDS)).min(1.0);
        for (rate, packets) in self.rate.iter_mut().zip(packets) {
            *rate += (packets as f64 / seconds - *rate) * weight;
        }
    }

    /// Puts what was read from a file in order: as much as there is room for, nothing from after `now`, numbers that can be
    /// calculated with.
    pub(super) fn mend(&mut self, now: Time, ages: Ages, dice: &mut Dice) {
        self.last = self.last.min(now);
        if !self.rate.iter().chain([&self.rate_seconds]).all(|rate| rate.is_finite() && *rate >= 0.0) {
            (self.rate, self.rate_seconds) = ([0.0; 2], 0.0);
        }
        let now = seconds_of(now);
        for past in &mut self.past {
            past.kept.retain(|o| o.seconds <= now);
            past.kept.sort_by_key(|o| o.seconds);
            // Nothing that we have written is longer.
            past.kept.truncate(2 * MOST);
            past.thin_to(MOST, past.kept.len(), now, ages, dice);
            past.closed = past.kept.len();
        }
    }
}

/// A [`Reservoir`], or that of both IP versions of a group, as it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) kept: Vec<Ordinary>,
    /// For versions of floodwall that kept samples by number; how many those were, at least.
    seen: u64,
    pub(super) last: Time,
    pub(super) rate: [f64; 2],
    pub(super) rate_seconds: f64,
}

impl Stored {
    pub(super) fn of<'a>(reservoirs: impl IntoIterator<Item = &'a Reservoir>) -> Self {
        let mut stored = Self::default();
        for reservoir in reservoirs {
            stored.kept.extend(reservoir.past.iter().flat_map(|past| &past.kept));
            stored.last = stored.last.max(reservoir.last);
            (stored.rate, stored.rate_seconds) = (reservoir.rate, reservoir.rate_seconds);
        }
        // The oldest first: a version that has less room keeps those.
        stored.kept.sort_by_key(|o| o.seconds);
        stored.seen = stored.kept.len() as u64;
        stored
    }

    /// What is stored of an IP version; unbounded and unchecked until [`Reservoir::mend`] has seen it.
    pub(super) fn read(&self, version: IpVersion) -> Reservoir {
        let mut reservoir =
            Reservoir { last: self.last, rate: self.rate, rate_seconds: self.rate_seconds, ..Reservoir::default() };
        for ordinary in self.kept.iter().filter(|o| o.version == version) {
            reservoir.past[ordinary.direction as usize].kept.push(*ordinary);
        }
        reservoir
    }
}
