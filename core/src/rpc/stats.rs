//! What one RPC channel counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one [`RpcChannel`](super::RpcChannel) counts, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcStats {
    /// Calls that were begun.
    pub calls: u64,
    /// Calls whose future was dropped before they were done.
    pub abandoned: u64,
    /// Replies that came after their call had ended.
    pub late: u64,
    /// Requests that came.
    pub requests: u64,
    /// Requests that came a second time, and were not handled again.
    pub repeated: u64,
    /// Requests that were turned away: there were too many.
    pub overloaded: u64,
    /// Requests whose deadline passed before their turn came, or while they were handled.
    pub expired: u64,
    /// Requests that their caller gave up, in time.
    pub cancelled: u64,
    /// Requests that were handled to their end.
    pub handled: u64,
    /// Of these, those that ended in an error or a panic, or exceeded their time limit.
    pub failed: u64,
    /// Replies that did not reach their caller.
    pub lost_replies: u64,
    /// Requests that are being handled now.
    pub running: usize,
    /// Requests that wait for their turn now.
    pub waiting: usize,
    /// Bytes of requests that are handled or wait.
    pub held: usize,
}

/// A count.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts behind [`RpcStats`].
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: Count,
    pub(super) abandoned: Count,
    pub(super) late: Count,
    pub(super) requests: Count,
    pub(super) repeated: Count,
    pub(super) overloaded: Count,
    pub(super) expired: Count,
    pub(super) cancelled: Count,
    pub(super) handled: Count,
    pub(super) failed: Count,
    pub(super) lost_replies: Count,
}

impl Counts {
    pub(super) fn stats(&self) -> RpcStats {
        RpcStats {
            calls: self.calls.get(),
            abandoned: self.abandoned.get(),
            late: self.late.get(),
            requests: self.requests.get(),
            repeated: self.repeated.get(),
            overloaded: self.overloaded.get(),
            expired: self.expired.get(),
            cancelled: self.cancelled.get(),
            handled: self.handled.get(),
            failed: self.failed.get(),
            lost_replies: self.lost_replies.get(),
            running: 0,
            waiting: 0,
            held: 0,
        }
    }
}
