//! Counting: atomics that are only ever added to, and what follows from two readings of them.
//!
//! A message costs two or three additions. The clock is read for the first message of a direction and when a report is
//! due, never in between, so there is no clock that could stick and no sum that two senders could spoil (T49).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tribes_core::Time;

/// Stands for "no message yet" among the times.
const NOT_YET: u64 = u64::MAX;

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: Flow,
    /// Bytes × destinations.
    sent_total: AtomicU64,
    received: Flow,
    failed: AtomicU64,
    faults: AtomicU64,
    /// The figures at the last report. Touched once a report.
    last: Mutex<Option<(Time, Figures)>>,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// When the first message came.
    began: AtomicU64,
}

impl Default for Flow {
    fn default() -> Self {
        Self { messages: AtomicU64::new(0), bytes: AtomicU64::new(0), began: AtomicU64::new(NOT_YET) }
    }
}

impl Flow {
    /// Counts a message and returns its number, from 1.
    fn count(&self, bytes: usize, now: impl FnOnce() -> Time) -> u64 {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            self.began.store(now().as_nanos(), Ordering::Relaxed);
        }
        number + 1
    }

    fn since_first(&self, now: Time) -> Duration {
        match self.began.load(Ordering::Relaxed) {
            NOT_YET => Duration::ZERO,
            began => now - Time::from_nanos(began),
        }
    }
}

/// The counters at one moment. Read one after another while others count on: a message may be in one and not yet in
/// another, but none is ever lost or counted twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) sent_total: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) failed: u64,
    pub(super) faults: u64,
}

impl Figures {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            sent_total: self.sent_total.saturating_sub(earlier.sent_total),
            received: self.received.saturating_sub(earlier.received),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            failed: self.failed.saturating_sub(earlier.failed),
            faults: self.faults.saturating_sub(earlier.faults),
        }
    }
}

/// What happened since the report before, and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) span: Duration,
    pub(super) interval: Figures,
    pub(super) total: Figures,
}

impl Meter {
    /// Counts a sent message and returns its number, from 1. `now` is asked for the first one only.
    pub(super) fn sent(&self, bytes: usize, destinations: usize, now: impl FnOnce() -> Time) -> u64 {
        let total = (bytes as u64).saturating_mul(destinations as u64);
        self.sent_total.fetch_add(total, Ordering::Relaxed);
        self.sent.count(bytes, now)
    }

    /// Counts a received message and returns its number, from 1.
    pub(super) fn received(&self, bytes: usize, now: impl FnOnce() -> Time) -> u64 {
        self.received.count(bytes, now)
    }

    /// Counts a message that failed for `faults` of its destinations.
    pub(super) fn failed(&self, faults: usize) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.faults.fetch_add(faults as u64, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub(super) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            sent: read(&self.sent.messages),
            sent_bytes: read(&self.sent.bytes),
            sent_total: read(&self.sent_total),
            received: read(&self.received.messages),
            received_bytes: read(&self.received.bytes),
            failed: read(&self.failed),
            faults: read(&self.faults),
        }
    }

    /// How long ago the first message was sent, and the first received; zero if there was none.
    pub(super) fn since_first(&self, now: Time) -> (Duration, Duration) {
        (self.sent.since_first(now), self.received.since_first(now))
    }

    /// Closes the present interval; `None` if there was no message in it.
    pub(super) fn report(&self, now: Time) -> Option<Report> {
        let (sending, receiving) = self.since_first(now);
        let total = self.figures();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The first interval began with the first message.
        let (span, interval) = match &*last {
            Some((at, before)) => (now - *at, total.since(before)),
            None => (sending.max(receiving), total),
        };
        if interval.sent == 0 && interval.received == 0 {
            return None;
        }
        *last = Some((now, total));
        drop(last);
        Some(Report { span, interval, total })
    }
}

/// `count` per second over `span`; zero if no time has passed.
pub(super) fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}

/// `bytes` in MiB.
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
