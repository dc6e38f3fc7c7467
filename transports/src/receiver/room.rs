//! Memory for messages that are received and not handled yet.
//!
//! A connection takes room for a message before it goes up, and for a large one before it is even read; with none left the
//! connection is not read from. Room is held by the message's [`Lease`] until it has been handled.
//!
//! Two bounds apply to each message: that of its connection, and that of all of them. Beside the latter each identified
//! connection has a small reserve of its own, so that members whose listeners are stalled never silence the others; and
//! connections that are not identified share a quarter of the total, so that strangers never do.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tribes_core::Lease;

/// Bytes that a message costs beside its contents.
pub(super) const OVERHEAD: usize = 256;
/// Bytes that an identified connection may hold beyond the total.
const RESERVE: usize = 64 << 10;

/// A number of bytes that may be held at a time.
#[derive(Clone, Debug)]
struct Pool {
    free: Arc<Semaphore>,
    size: usize,
}

impl Pool {
    fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(size)), size }
    }

    /// What is larger than the pool takes all of it: it is admitted alone.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.size)).unwrap_or(u32::MAX)
    }

    fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_many_owned(self.share(bytes)).ok()
    }

    /// The pool is never closed.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.share(bytes)).await.ok()
    }

    fn used(&self) -> usize {
        self.size - self.free.available_permits()
    }
}

/// The room of all connections.
#[derive(Debug)]
pub(super) struct TotalRoom {
    all: Pool,
    strangers: Pool,
}

impl TotalRoom {
    pub(super) fn new(bytes: usize) -> Self {
        Self { all: Pool::new(bytes), strangers: Pool::new((bytes / 4).max(1)) }
    }

    /// Bytes held now, reserves not counted.
    pub(super) fn used(&self) -> usize {
        self.all.used()
    }
}

/// The room of one connection.
#[derive(Debug)]
pub(super) struct Room {
    own: Pool,
    reserve: Pool,
    /// `None` for a connection that has a small room of its own and takes nothing from the total.
    total: Option<Arc<TotalRoom>>,
}

impl Room {
    pub(super) fn new(bytes: usize, total: Option<Arc<TotalRoom>>) -> Self {
        Self { own: Pool::new(bytes), reserve: Pool::new(RESERVE), total }
    }

    /// Room for a message of `bytes`, if there is any now.
    pub(super) fn try_take(&self, bytes: usize, identified: bool) -> Option<Lease> {
        let own = self.own.try_take(bytes)?;
        let Some(total) = &self.total else { return Some(Lease::new(vec![own])) };
        if identified {
            let all = total.all.try_take(bytes).or_else(|| self.take_reserve(bytes))?;
            return Some(Lease::new(vec![own, all]));
        }
        let strangers = total.strangers.try_take(bytes)?;
        Some(Lease::new(vec![own, strangers, total.all.try_take(bytes)?]))
    }

    /// Room for a message of `bytes`, as soon as there is some. Cancel safe: nothing is held when it is dropped.
    pub(super) async fn take(&self, bytes: usize, identified: bool) -> Lease {
        let mut held = Vec::with_capacity(3);
        held.extend(self.own.take(bytes).await);
        match &self.total {
            None => {}
            Some(total) if identified && bytes <= RESERVE => {
                held.extend(tokio::select! {
                    biased;
                    all = total.all.take(bytes) => all,
                    reserve = self.reserve.take(bytes) => reserve,
                });
            }
            Some(total) => {
                if !identified {
                    held.extend(total.strangers.take(bytes).await);
                }
                held.extend(total.all.take(bytes).await);
            }
        }
        Lease::new(held)
    }

    fn take_reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        (bytes <= RESERVE).then(|| self.reserve.try_take(bytes)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(bytes: usize) -> Arc<TotalRoom> {
        Arc::new(TotalRoom::new(bytes))
    }

    #[tokio::test]
    async fn a_message_larger_than_its_bounds_is_admitted_alone() {
        let total = total(1000);
        let room = Room::new(100, Some(Arc::clone(&total)));
        let large = room.try_take(5000, true).unwrap();
        assert!(room.try_take(1, true).is_none());
        assert_eq!(total.used(), 1000);
        drop(large);
        assert!(room.try_take(100, true).is_some());
        assert_eq!(total.used(), 0);
    }

    #[tokio::test]
    async fn stalled_connections_do_not_silence_the_others() {
        let total = total(1 << 20);
        let stalled = Room::new(1 << 20, Some(Arc::clone(&total)));
        let _held = stalled.try_take(1 << 20, true).unwrap();
        let other = Room::new(1 << 20, Some(Arc::clone(&total)));
        let small = other.try_take(1000, true).unwrap();
        let next = other.take(1000, true).await;
        drop((small, next));
        // Large ones wait for the total, and strangers have no reserve.
        assert!(other.try_take(RESERVE + 1, true).is_none());
        assert!(other.try_take(1000, false).is_none());
    }

    #[tokio::test]
    async fn strangers_share_a_quarter() {
        let total = total(1000);
        let stranger = Room::new(1000, Some(Arc::clone(&total)));
        let _held = stranger.try_take(250, false).unwrap();
        assert!(stranger.try_take(1, false).is_none());
        assert_eq!(total.used(), 250);
        assert!(Room::new(1000, Some(total)).try_take(750, true).is_some());
    }

    #[tokio::test]
    async fn room_that_is_given_back_wakes_the_one_that_waits() {
        let room = Arc::new(Room::new(100, Some(total(1000))));
        let held = room.try_take(60, true).unwrap();
        let waiter = crate::testing::spawn({
            let room = Arc::clone(&room);
            async move { drop(room.take(60, true).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(held);
        waiter.await.unwrap();
    }
}
