//! The hybrid logical clock.

/// How far ahead of the local wall clock a peer's time may be, in milliseconds: an hour. What is later comes from a broken
/// clock, and would drag along the clocks of all.
pub(crate) const MAX_AHEAD_MS: u64 = 3_600_000;

/// Gives times that are later than all it has given or seen (Kulkarni et al., 2014), in one word: 48 bits of
/// milliseconds, 16 bits that count. If more than 65,536 times fall into a millisecond, it runs ahead.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: u64,
}

impl Clock {
    /// The time of a write made now.
    pub(crate) fn tick(&mut self, wall_ms: u64) -> u64 {
        self.last = wall(wall_ms).max(self.last.saturating_add(1));
        self.last
    }

    /// The latest time that was given or seen.
    pub(crate) const fn latest(&self) -> u64 {
        self.last
    }

    /// A time that was given or seen by a predecessor: believed, whatever it is.
    #[cfg(feature = "persist")]
    pub(crate) fn resume(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    /// A write of this time was seen; false if that is beyond belief.
    pub(crate) fn observe(&mut self, time: u64, wall_ms: u64) -> bool {
        if time > wall(wall_ms.saturating_add(MAX_AHEAD_MS)).max(self.last) {
            return false;
        }
        self.last = self.last.max(time);
        true
    }
}

const fn wall(ms: u64) -> u64 {
    // 48 bits of milliseconds last until the year 10889.
    (if ms < 1 << 48 { ms } else { (1 << 48) - 1 }) << 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_whatever_the_wall_clock_does() {
        let mut clock = Clock::default();
        let mut last = 0;
        for wall in [5, 5, 5, 9, 3, 0, 9, 10, u64::MAX, 1] {
            let time = clock.tick(wall);
            assert!(time > last, "{time} after {last}");
            last = time;
        }
    }

    #[test]
    fn a_write_is_later_than_what_was_seen() {
        let mut clock = Clock::default();
        assert!(clock.observe(500 << 16 | 7, 400));
        assert_eq!(clock.tick(400), 500 << 16 | 8);
        assert_eq!(clock.tick(501), 501 << 16);
    }

    #[test]
    fn a_time_from_the_far_future_is_not_believed() {
        let mut clock = Clock::default();
        assert!(!clock.observe((MAX_AHEAD_MS + 2) << 16, 1));
        assert_eq!(clock.tick(1), 1 << 16);
        assert!(clock.observe((MAX_AHEAD_MS + 1) << 16, 1));
        // What was once believed stays believed, also when the wall clock is set back.
        assert!(clock.observe((MAX_AHEAD_MS + 1) << 16, 0));
    }
}
