//! Options of [`Coordinator`](super::Coordinator).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::settings::{duration, number};

/// Options of [`Coordinator`](super::Coordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoordinatorConfig {
    /// How long an election's token may take round the group before it is sent again; 10 ms to 10 min. Default
    /// [`TIMEOUT`](Self::TIMEOUT) (Tribes: a lost token is never replaced).
    pub timeout: Duration,
    /// How long a member waits for the coordinator's view, after the group has changed or it has promised a term, before it asks for it;
    /// each time twice as long, up to [`MAX_WAIT`](Self::MAX_WAIT). If the coordinator is a Java member the first time is four
    /// times as long. 10 ms to 10 min. Default [`PATIENCE`](Self::PATIENCE) (Tribes: 15 s, with its event thread blocked).
    pub patience: Duration,
    /// How many members a view must have, the local one included, so that it has a coordinator; up to 4,096. More than half
    /// of the members that there should be, and a split group has at most one coordinator. Java members know nothing of this.
    /// Default 0: any view will do, as in Tribes.
    pub quorum: usize,
}

impl CoordinatorConfig {
    /// The default of [`timeout`](Self::timeout), 2 s.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// The default of [`patience`](Self::patience), 5 s.
    pub const PATIENCE: Duration = Duration::from_secs(5);
    /// The longest time between two questions for a view, 60 s (or [`patience`](Self::patience), if that is longer).
    pub const MAX_WAIT: Duration = Duration::from_secs(60);

    /// With this timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this patience.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With this quorum.
    #[must_use]
    pub const fn with_quorum(mut self, quorum: usize) -> Self {
        self.quorum = quorum;
        self
    }
}

const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self { timeout: Self::TIMEOUT, patience: Self::PATIENCE, quorum: 0 }
    }
}

tribes_core::settings! { CoordinatorConfig {
    timeout: duration(TIMES), "How long an election's token may take round the group before it is sent again.";
    patience: duration(TIMES), "How long a member waits for the coordinator's view of a changed group before it asks for it.";
    quorum: number(0..=super::election::MAX_MEMBERS as u64), "How many members a view must have, the local one included, so that it has a coordinator.";
} }
