//! The life of attacks: rates, hysteresis, ends and returns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use traffic::{Target, Time};

use crate::attack::{Attack, Phase, Rates};
use crate::config::{Config, Unit};
use crate::counters::Counts;
use crate::meter::Filter;

/// An attack fades below this share of its threshold.
const CLEAR_SHARE: f64 = 0.7;
/// A residual counts as unbroken while its threshold is crossed again within this time.
const UNBROKEN: Duration = Duration::from_secs(3);
/// Ended attacks that are remembered, so that one that comes back is held longer.
const REMEMBERED: usize = 1 << 16;
/// An attack that pauses is over only after this many times its longest pause.
const PAUSES: u32 = 3;

/// Targets whose attacks have ended lately: when, and how often they had come back.
#[derive(Debug, Default)]
pub(crate) struct Ended(BTreeMap<Target, (Time, u32)>);

impl Ended {
    /// How often a target has come back, and for how long its attack has to be low now before it is over.
    pub(crate) fn returns(&self, config: &Config, target: Target, now: Time) -> (u32, Duration) {
        let recent = |(ended, _): &&(Time, u32)| now.since(*ended) <= config.longest_hold;
        let returns = self.0.get(&target).filter(recent).map_or(0, |(_, returns)| returns + 1);
        let hold = config.clear_after.saturating_mul(1u32.checked_shl(returns).unwrap_or(u32::MAX));
        (returns, hold.clamp(config.clear_after, config.longest_hold.max(config.clear_after)))
    }

    pub(crate) fn add(&mut self, config: &Config, target: Target, now: Time, returns: u32) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (ended, _)| now.since(*ended) <= config.longest_hold);
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_first();
        }
        self.0.insert(target, (now, returns));
    }
}

/// What a tick adds to an attack's figures.
struct Tick {
    /// What was counted and what filters took out, together.
    packets: u64,
    bytes: u64,
    /// In the attack's measure: what was counted.
    measured: u64,
    /// In the attack's measure: what filters took out.
    filtered: u64,
    /// In the attack's measure: what matched filters where they are not in force.
    pending: u64,
    /// Over how many milliseconds the records tell.
    reach_ms: u64,
}

impl Tick {
    /// Takes what filters have counted since the tick before along.
    fn of(attack: &mut Attack, delta: Option<&Counts>) -> Self {
        let filtered = grown(&mut attack.rates.filter_hits, filters_sum(&attack.filters, Filter::hits));
        let passed = grown(&mut attack.rates.filter_passed, filters_sum(&attack.filters, Filter::passed));
        let direction = attack.target.direction;
        let of_measure = |(packets, bytes): (u64, u64)| match attack.measure.unit {
            Unit::Packets => packets,
            Unit::Bytes => bytes,
            Unit::Flows => 0,
        };
        Self {
            packets: delta.map_or(0, |d| d.packets(direction)).saturating_add(filtered.0),
            bytes: delta.map_or(0, |d| d.bytes(direction)).saturating_add(filtered.1),
            measured: delta.map_or(0, |d| d.units(direction, attack.measure.class, attack.measure.unit)),
            filtered: of_measure(filtered),
            pending: of_measure(passed),
            reach_ms: delta.map_or(0, |d| d.reach_ms(direction)),
        }
    }
}

/// Adds a tick to an attack's figures. `delta` is what was counted, filtered traffic excluded; `is_silent` when no exporter
/// that told of the attack says anything.
pub(crate) fn advance(
    attack: &mut Attack,
    config: &Config,
    now: Time,
    span: Duration,
    delta: Option<&Counts>,
    is_silent: bool,
) {
    let tick = Tick::of(attack, delta);
    if is_silent {
        // Time stands still: neither rates nor the wait for the end go on.
        attack.phase = Phase::Frozen;
        attack.last_active = attack.last_active.after(span);
        attack.last_crossing = attack.last_crossing.after(span);
        return;
    }
    add_to_rates(&mut attack.rates, &tick, span);
    add_to_sums(attack, &tick);
    settle_phase(attack, config, now);
    if now.since(attack.last_crossing) > UNBROKEN {
        attack.over_since = None;
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates for people and a hysteresis")]
fn add_to_rates(rates: &mut Rates, tick: &Tick, span: Duration) {
    let seconds = span.as_secs_f64();
    let keep = (-seconds).exp();
    // Records may arrive in bursts: their traffic is shown over the time they tell of.
    let reach = tick.reach_ms as f64 / 1e3;
    let time = seconds.max(reach);
    let ewma =
        |rate: &mut f64, units: u64| *rate = *rate * keep + units as f64 / time * (1.0 - (-time).exp().min(keep));
    let decay = |rate: &mut f64| *rate *= keep;
    if tick.packets > 0 || reach == 0.0 {
        ewma(&mut rates.packets, tick.packets);
        ewma(&mut rates.bytes, tick.bytes);
        ewma(&mut rates.units, tick.measured.saturating_add(tick.filtered));
        ewma(&mut rates.pending, tick.pending);
        ewma(&mut rates.unmatched, tick.measured.saturating_sub(tick.pending));
    } else {
        let all = [&mut rates.packets, &mut rates.bytes, &mut rates.units, &mut rates.pending, &mut rates.unmatched];
        all.into_iter().for_each(decay);
    }
}

/// What is shown of an attack: its sums, its rates and their peaks.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float to integer casts saturate")]
fn add_to_sums(attack: &mut Attack, tick: &Tick) {
    attack.packets = attack.packets.saturating_add(tick.packets);
    attack.bytes = attack.bytes.saturating_add(tick.bytes);
    attack.packets_per_second = attack.rates.packets as u64;
    attack.bytes_per_second = attack.rates.bytes as u64;
    attack.units_per_second = attack.rates.units as u64;
    attack.peak_packets_per_second = attack.peak_packets_per_second.max(attack.packets_per_second);
    attack.peak_bytes_per_second = attack.peak_bytes_per_second.max(attack.bytes_per_second);
}

/// Whether an attack is active or fades; one that pauses is held longer.
#[allow(clippy::cast_precision_loss, reason = "a hysteresis")]
fn settle_phase(attack: &mut Attack, config: &Config, now: Time) {
    if attack.rates.units >= attack.threshold as f64 * CLEAR_SHARE {
        let pause = now.since(attack.last_active);
        if attack.phase == Phase::Fading && pause > attack.longest_pause {
            attack.longest_pause = pause;
            let longest = config.longest_hold.max(config.clear_after);
            attack.hold = attack.hold.max(pause.saturating_mul(PAUSES)).min(longest);
        }
        attack.last_active = now;
        attack.phase = Phase::Active;
    } else {
        attack.phase = Phase::Fading;
    }
}

/// What filters have counted in all.
pub(crate) fn filters_sum(filters: &[Arc<Filter>], of: fn(&Filter) -> (u64, u64)) -> (u64, u64) {
    filters.iter().map(|f| of(f)).fold((0, 0), |sum, of| (sum.0.wrapping_add(of.0), sum.1.wrapping_add(of.1)))
}

/// By how much a sum has grown since the last time.
fn grown(last: &mut (u64, u64), sum: (u64, u64)) -> (u64, u64) {
    let last = std::mem::replace(last, sum);
    (sum.0.saturating_sub(last.0), sum.1.saturating_sub(last.1))
}

/// Whether an attack is over.
pub(crate) fn is_over(attack: &Attack, now: Time) -> bool {
    now.since(attack.last_active) >= attack.hold
}
