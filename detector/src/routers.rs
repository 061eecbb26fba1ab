//! [`Routers`]: who holds a rule, where it matters which router does (decision 8).

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of routers by number, 1 to [`Routers::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Routers(u64);

impl Routers {
    /// Routers that can be told apart.
    pub const MOST: u8 = 64;
    /// Every router: what one does that stands for all.
    pub const ALL: Self = Self(u64::MAX);
    /// No router.
    pub const NONE: Self = Self(0);

    /// One router; none if the number is 0 or too large.
    #[must_use]
    pub const fn one(number: u8) -> Self {
        if number == 0 || number > Self::MOST { Self::NONE } else { Self(1 << (number - 1)) }
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the router is one of them; telemetry of no router in particular (0) is of any.
    #[must_use]
    pub const fn include(self, number: u8) -> bool {
        number == 0 || self.0 & Self::one(number).0 != 0
    }
}

/// Routers that workers look at while they change.
#[derive(Debug)]
pub(crate) struct SharedRouters(AtomicU64);

impl SharedRouters {
    pub(crate) const fn new(routers: Routers) -> Self {
        Self(AtomicU64::new(routers.0))
    }

    pub(crate) fn get(&self) -> Routers {
        Routers(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, routers: Routers) {
        self.0.store(routers.0, Ordering::Relaxed);
    }
}
