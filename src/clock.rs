//! The clock: the only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use collectors::Time;

/// Now, as nanoseconds since the Unix epoch.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A clock that never jumps when the system's time is set: now, and from then on as time passes. For protocol timers.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn steady() -> std::sync::Arc<dyn Fn() -> Time + Send + Sync> {
    let (start, began) = (now(), std::time::Instant::now());
    std::sync::Arc::new(move || start.after(began.elapsed()))
}

/// A seed that differs from start to start.
#[must_use]
pub fn seed() -> u64 {
    now().0.rotate_left(17) ^ u64::from(std::process::id())
}
