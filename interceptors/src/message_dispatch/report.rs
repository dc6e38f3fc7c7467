//! What became of asynchronous messages, counted by kind: nobody waits for them, so somebody must look (T31).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tribes_core::{FaultKind, Gauge, Time};

/// How long one kind of log line is held back after it was written.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The kinds of faults by which failures are counted, as gauges are named.
const KINDS: [&str; 12] = [
    "failed_connect",
    "failed_disconnected",
    "failed_timeout",
    "failed_ack_timeout",
    "failed_remote",
    "failed_queue_full",
    "failed_replaced",
    "failed_left",
    "failed_unsupported",
    "failed_dropped",
    "failed_stopped",
    "failed_other",
];

/// Where `kind` is counted.
const fn place(kind: &FaultKind) -> usize {
    match kind {
        FaultKind::Connect(_) => 0,
        FaultKind::Disconnected(_) => 1,
        FaultKind::Timeout(_) => 2,
        FaultKind::AckTimeout(_) => 3,
        FaultKind::RemoteFailure(_) => 4,
        FaultKind::QueueFull => 5,
        FaultKind::Replaced(_) => 6,
        FaultKind::Left => 7,
        FaultKind::Unsupported(_) => 8,
        FaultKind::Dropped { .. } => 9,
        FaultKind::Stopped => 10,
        _ => 11,
    }
}

/// Failures by kind.
#[derive(Debug, Default)]
pub(super) struct Failures([AtomicU64; KINDS.len()]);

impl Failures {
    pub(super) fn count(&self, kind: &FaultKind) {
        if let Some(counter) = self.0.get(place(kind)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn gauges(&self) -> impl Iterator<Item = Gauge> {
        KINDS.iter().zip(&self.0).map(|(name, counter)| Gauge::new(name, counter.load(Ordering::Relaxed)))
    }
}

/// Lets one log line in [`LOG_EVERY`] through and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogGate {
    /// When the next one may pass.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl LogGate {
    /// Whether to write a line now; if so, how many were held back since the last one.
    pub(super) fn pass(&self, now: Time) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let passes = now.as_nanos() >= next
            && self
                .next
                .compare_exchange(next, (now + LOG_EVERY).as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds() {
        let gate = LogGate::default();
        let start = Time::from_millis(7);
        assert_eq!(gate.pass(start), Some(0));
        for millis in [0, 1, 9_999] {
            assert_eq!(gate.pass(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(gate.pass(start + LOG_EVERY), Some(3));
    }

    #[test]
    fn each_kind_has_its_gauge() {
        let failures = Failures::default();
        failures.count(&FaultKind::QueueFull);
        failures.count(&FaultKind::Stopped);
        failures.count(&FaultKind::WouldDeadlock);
        let counted: Vec<_> = failures.gauges().filter(|gauge| gauge.value > 0).map(|gauge| gauge.name).collect();
        assert_eq!(counted, ["failed_queue_full", "failed_stopped", "failed_other"]);
    }
}
