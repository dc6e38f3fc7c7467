//! What a peer does wrong: counted by kind, and logged without letting it fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tribes_core::Time;
use tribes_core::wire::WireError;

use super::counters::{Count, Counters};

/// The first thing that a peer did wrong; the connection is closed over it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// Bytes that are not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A valid frame where it has no business.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl Violation {
    /// Where violations of this kind are counted.
    pub(crate) const fn count<'a>(&self, counters: &'a Counters) -> &'a Count {
        match self {
            Self::Unexpected(_) => &counters.malformed_unexpected_frame_total,
            Self::Wire(error) => match error {
                WireError::BadMarker { .. } => &counters.malformed_bad_marker_total,
                WireError::NegativeLength { .. } => &counters.malformed_negative_length_total,
                WireError::BeyondEnclosing { .. } => &counters.malformed_beyond_enclosing_total,
                WireError::BeyondLimit { .. } => &counters.malformed_beyond_limit_total,
                WireError::Slack { .. } => &counters.malformed_slack_total,
                WireError::TrailingBytes { .. } => &counters.malformed_trailing_bytes_total,
                WireError::Truncated { .. } => &counters.malformed_truncated_total,
                WireError::HostTooLong { .. } => &counters.malformed_host_too_long_total,
                WireError::MissingSender => &counters.malformed_missing_sender_total,
                WireError::UnknownCode { .. } => &counters.malformed_unknown_code_total,
                WireError::NotUtf8 { .. } => &counters.malformed_not_utf8_total,
                _ => &counters.malformed_other_total,
            },
        }
    }
}

/// Lets one log line through each second.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<Limited>);

#[derive(Debug, Default)]
struct Limited {
    last: Option<Time>,
    suppressed: u64,
}

impl LogLimit {
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether to log now; if so, how many lines were left out since the last one.
    pub(crate) fn pass(&self, now: Time) -> Option<u64> {
        let mut limited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if limited.last.is_some_and(|last| now - last < Self::EVERY) {
            limited.suppressed += 1;
            return None;
        }
        limited.last = Some(now);
        Some(std::mem::take(&mut limited.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_that_counts_the_others() {
        let limit = LogLimit::default();
        let at = Time::from_millis;
        assert_eq!(limit.pass(at(5)), Some(0));
        assert_eq!((limit.pass(at(6)), limit.pass(at(1004))), (None, None));
        assert_eq!(limit.pass(at(1005)), Some(2));
        assert_eq!(limit.pass(at(1006)), None);
        assert_eq!(limit.pass(at(9000)), Some(1));
    }
}
