//! Options of [`SimpleCoordinator`](super::SimpleCoordinator).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::settings::duration;

/// Options of [`SimpleCoordinator`](super::SimpleCoordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimpleCoordinatorConfig {
    /// For how long no member must have come or gone before the view is taken over; 1 ms to 10 min. Default
    /// [`SETTLE`](Self::SETTLE), as in Tribes, where it is fixed.
    pub settle: Duration,
}

impl SimpleCoordinatorConfig {
    /// The default of [`settle`](Self::settle), 2.5 s.
    pub const SETTLE: Duration = Duration::from_millis(2500);

    /// With this time.
    #[must_use]
    pub const fn with_settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

impl Default for SimpleCoordinatorConfig {
    fn default() -> Self {
        Self { settle: Self::SETTLE }
    }
}

tribes_core::settings! { SimpleCoordinatorConfig {
    settle: duration(TIMES), "For how long no member must have come or gone before the view is taken over.";
} }
