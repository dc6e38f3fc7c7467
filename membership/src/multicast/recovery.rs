//! When to give a socket up (Tribes: `McastServiceImpl`'s `RecoveryThread`).
//!
//! Unlike there, only errors of the socket count, not malformed datagrams; a recovery announces no departure; and it
//! concerns this channel alone (T45).

use std::time::Duration;

/// Pause after a socket error, so that a lasting one does not spin.
const PAUSE: Duration = Duration::from_millis(500);

/// Counts errors in a row.
#[derive(Debug)]
pub(super) struct Recovery {
    /// `None` if recovery is off.
    limit: Option<u32>,
    errors: u32,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Leave the socket alone for so long, then go on.
    Pause(Duration),
    /// Make new sockets.
    Remake,
}

impl Recovery {
    pub(super) const fn new(limit: Option<u32>) -> Self {
        Self { limit, errors: 0 }
    }

    /// It works.
    pub(super) const fn good(&mut self) {
        self.errors = 0;
    }

    /// It failed.
    pub(super) fn bad(&mut self) -> Step {
        self.errors = self.errors.saturating_add(1);
        if self.limit.is_some_and(|limit| self.errors >= limit) {
            self.errors = 0;
            return Step::Remake;
        }
        Step::Pause(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_in_a_row_count() {
        let mut recovery = Recovery::new(Some(3));
        assert_eq!(recovery.bad(), Step::Pause(PAUSE));
        assert_eq!(recovery.bad(), Step::Pause(PAUSE));
        recovery.good();
        assert_eq!(recovery.bad(), Step::Pause(PAUSE));
        assert_eq!(recovery.bad(), Step::Pause(PAUSE));
        assert_eq!(recovery.bad(), Step::Remake);
        assert_eq!(recovery.bad(), Step::Pause(PAUSE));
        let mut off = Recovery::new(None);
        assert!((0..100).all(|_| off.bad() == Step::Pause(PAUSE)));
    }
}
