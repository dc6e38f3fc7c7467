//! Sessions written behind to a store that outlives the group, and had back from it.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | what a store has to do with its backing, and what of that is told |
//! | `queue` | what is to be written and when, without I/O |
//! | `record` | a session as a record of the backing, and back |
//! | `write` | the task that writes |
//! | `restore` | a session that no node has |

mod queue;
mod record;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tribes_core::Time;

pub(super) use self::queue::Queue;
pub(super) use self::restore::Had;
pub(super) use self::write::begin;
use crate::{SessionId, SharedStore};

/// So many sessions are written, and so many are looked for, at the same time.
const AT_ONCE: usize = 64;

/// The backing of a store.
#[derive(Debug)]
pub(super) struct Backing {
    store: SharedStore,
    queue: Mutex<Queue>,
    /// There is something to be written earlier, or something was written.
    woken: Notify,
    /// The queue is empty, perhaps.
    written: Notify,
    reads: Semaphore,
}

/// How things stand with the [backing](crate::StoreBuilder::backing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackingStats {
    /// Sessions, or ends of sessions, that are still to be written.
    pub pending: usize,
    /// Whether it did not do what it was told last, or did not say what it was asked last; it is tried again, after ten seconds at
    /// the latest.
    pub is_failing: bool,
    /// Writes that it did not do; they are tried again, unless a session is such that it cannot be written there.
    pub failed: u64,
    /// Sessions written.
    pub written: u64,
    /// Sessions removed.
    pub removed: u64,
    /// Sessions that came back from it.
    pub restored: u64,
    /// Requests whose session no node had and that were served without, as the backing did not answer.
    pub missed: u64,
    /// Changes that were let go of, since too many waited: 1,048,576. And ends of sessions that nobody could look up, and that were
    /// refused, since 65,536 of these waited.
    pub dropped: u64,
}

impl Backing {
    pub(super) fn new(store: SharedStore, delay: Duration) -> Self {
        Self {
            store,
            queue: Mutex::new(Queue::new(delay)),
            woken: Notify::new(),
            written: Notify::new(),
            reads: Semaphore::new(AT_ONCE),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and has the task look at it.
    pub(super) fn note(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.woken.notify_one();
    }

    /// Notes the end of a session of which nobody can say whether it is there; whether there is room for that.
    pub(super) fn note_unseen_end(&self, id: SessionId, now: Time) -> bool {
        let is_noted = self.queue().ended_unseen(id, now);
        self.woken.notify_one();
        is_noted
    }

    pub(super) fn stats(&self) -> BackingStats {
        self.queue().stats()
    }

    /// Has the task end.
    pub(super) fn close(&self) {
        self.woken.notify_one();
    }
}
