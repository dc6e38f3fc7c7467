//! Which write of a field is which, and which is later.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A write of a part of a session: when, and by whom. Unique, and totally ordered: a write whose author had seen another is
/// later than that one, however wrong the clocks are (a hybrid logical clock; Kulkarni et al., 2014).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Stamp(
    /// Milliseconds since 1970 times 65,536, and a count.
    pub(crate) u64,
    /// The opening of a store that wrote.
    pub(crate) u64,
);

impl Stamp {
    pub(crate) const fn time(self) -> u64 {
        self.0
    }

    pub(crate) const fn node(self) -> u64 {
        self.1
    }
}

/// How far ahead of the wall clock a stamp may be that this store's clock follows: an hour.
const MAX_AHEAD: u64 = 3_600_000 << 16;

/// Gives the stamps of one store.
#[derive(Debug)]
pub(crate) struct Clock {
    node: u64,
    last: AtomicU64,
}

impl Clock {
    /// `node` is a number that no other opening of a store has.
    pub(crate) const fn new(node: u64) -> Self {
        Self { node, last: AtomicU64::new(0) }
    }

    /// A stamp later than all given so far, and than `seen`.
    pub(crate) fn stamp(&self, wall_ms: i64, seen: u64) -> Stamp {
        let wall = u64::try_from(wall_ms).unwrap_or_default().min((1 << 48) - 1) << 16;
        // Of a broken clock: this session goes by it, the others do not.
        if seen > wall.saturating_add(MAX_AHEAD) {
            return Stamp(seen.saturating_add(1), self.node);
        }
        let next = |last: u64| wall.max(last.saturating_add(1)).max(seen.saturating_add(1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        Stamp(next(last.unwrap_or_else(|last| last)), self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_later_than_all_that_was_seen() {
        let clock = Clock::new(3);
        let first = clock.stamp(1000, 0);
        assert_eq!(first, Stamp(1000 << 16, 3));
        assert!(clock.stamp(1000, 0) > first);
        assert!(clock.stamp(-5, 0) > first, "a clock set back");
        let far = 5000 << 16;
        assert_eq!(clock.stamp(1000, far).time(), far + 1);
        assert!(clock.stamp(1000, 0).time() > far + 1);
        assert_eq!(clock.stamp(1000, u64::MAX).time(), u64::MAX);
        assert!(clock.stamp(1000, 0).time() < far + 100, "one broken clock does not lead this one astray");
    }
}
