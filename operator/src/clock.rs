//! The clock: the only place that reads it.
//!
//! What happens is timed by a clock that never jumps ([`now`], decision 32): the time of the system at the start of the process, and
//! from then on as time passes. The system's time is for people and for what outlasts the process: [`wall`] says what it is at, or
//! was, now that it has perhaps been set ([`look`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use traffic::Time;

/// The system's time is taken to have been set when it is off by this much or more.
const STEP: Duration = Duration::from_millis(100);

/// The system's time less ours, in nanoseconds, as [`look`] found it last.
static OFFSET: AtomicI64 = AtomicI64::new(0);

/// Now, on a clock that never jumps; nanoseconds since the Unix epoch if the system's time was right at the start.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Time {
    static START: OnceLock<(Time, Instant)> = OnceLock::new();
    let (time, instant) = START.get_or_init(|| (system(), Instant::now()));
    time.after(instant.elapsed())
}

/// The time of the system, as nanoseconds since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "the one place")]
fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Looks whether the system's time was set; by how many seconds, if so. Called often by whoever lives long.
#[must_use]
pub fn look() -> Option<f64> {
    let seen = difference(system(), now());
    let step = seen.saturating_sub(offset());
    if step.unsigned_abs() < u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX) {
        return None;
    }
    OFFSET.store(seen, Ordering::Relaxed);
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    Some(step as f64 / 1e9)
}

fn difference(a: Time, b: Time) -> i64 {
    let span = i64::try_from(a.0.abs_diff(b.0)).unwrap_or(i64::MAX);
    if a < b { -span } else { span }
}

/// The system's time less ours, in nanoseconds, as [`look`] found it last.
#[must_use]
pub fn offset() -> i64 {
    OFFSET.load(Ordering::Relaxed)
}

/// A time of [`now`] by the system's clock as it goes at present.
#[must_use]
pub fn wall(time: Time) -> Time {
    shifted(time, offset())
}

/// Now, by the system's clock: for people, and for what outlasts the process.
#[must_use]
pub fn wall_now() -> Time {
    wall(now())
}

/// A time moved by so many nanoseconds.
#[must_use]
pub const fn shifted(time: Time, by: i64) -> Time {
    Time(time.0.saturating_add_signed(by))
}

/// A seed that differs from start to start.
#[must_use]
pub fn seed() -> u64 {
    now().0.rotate_left(17) ^ u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_moved_both_ways_and_a_clock_that_nobody_set_tells_of_no_step() {
        let at = Time::from_seconds(1000, 0);
        assert_eq!(shifted(at, -600_000_000_000), Time::from_seconds(400, 0));
        assert_eq!(shifted(at, 600_000_000_000), Time::from_seconds(1600, 0));
        assert_eq!((difference(at, Time(0)), difference(Time(0), at)), (1_000_000_000_000, -1_000_000_000_000));
        let before = now();
        assert_eq!(look(), None);
        assert!(now() >= before && wall_now().since(before) < Duration::from_secs(60));
    }
}
