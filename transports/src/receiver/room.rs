//! Memory for messages that are received and not handled yet.
//!
//! A connection takes room for a message before it goes up, and for a large one before it is even read; with none left the
//! connection is not read from. Room is held by the message's [`Lease`] until it has been handled.
//!
//! Two bounds apply to each message: that of its connection, and that of all of them. Beside the latter each identified
//! connection has a small reserve of its own, so that members whose listeners are stalled never silence the others; and
//! connections that are not identified share a quarter of the total, so that strangers never do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tribes_core::{Lease, LeasePool};

/// Bytes that a message costs beside its contents.
pub(super) const OVERHEAD: usize = 256;
/// Bytes that an identified connection may hold beyond the total.
const RESERVE: usize = 64 << 10;
/// Bytes that a connection which is reading keeps at hand.
const AT_HAND: usize = 256 << 10;

/// A number of bytes that may be held at a time.
#[derive(Debug)]
struct Pool {
    free: Semaphore,
    size: usize,
}

impl Pool {
    fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { free: Semaphore::new(size), size }
    }

    /// What is larger than the pool takes all of it: it is admitted alone.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.size)).unwrap_or(u32::MAX)
    }

    fn try_take(&self, bytes: usize) -> bool {
        self.free.try_acquire_many(self.share(bytes)).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Takes room as soon as there is some. Cancel safe; what is taken is given back when the result is dropped.
    async fn take(&self, bytes: usize) -> Taken<'_> {
        // The pool is never closed.
        if let Ok(permit) = self.free.acquire_many(self.share(bytes)).await {
            permit.forget();
        }
        Taken(Some((self, bytes)))
    }

    fn give_back(&self, bytes: usize) {
        self.free.add_permits(usize::try_from(self.share(bytes)).unwrap_or_default());
    }

    fn used(&self) -> usize {
        self.size - self.free.available_permits()
    }
}

/// Room that is given back unless it is kept.
struct Taken<'a>(Option<(&'a Pool, usize)>);

impl Taken<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some((pool, bytes)) = self.0 {
            pool.give_back(bytes);
        }
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
pub(super) struct Room(Arc<Pools>);

/// The pools that a connection takes room from.
#[derive(Debug)]
struct Pools {
    own: Pool,
    reserve: Pool,
    /// `None` for a connection that has a small room of its own and takes nothing from the total.
    total: Option<Arc<TotalRoom>>,
    /// Room in `own` and the total that was given back and is used again: while a connection reads and its messages are
    /// handled at once, the pools need not be asked for each.
    at_hand: AtomicUsize,
    /// Whether the connection is reading. If not, nothing is kept at hand.
    reading: AtomicBool,
}

/// What a lease takes beside room of the connection's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charge {
    /// Of the total, if there is one.
    Usual,
    Reserve,
    /// Of the total, and of what strangers share.
    Stranger,
}

impl Room {
    pub(super) fn new(bytes: usize, total: Option<Arc<TotalRoom>>) -> Self {
        Self(Arc::new(Pools {
            own: Pool::new(bytes),
            reserve: Pool::new(RESERVE),
            total,
            at_hand: AtomicUsize::new(0),
            reading: AtomicBool::new(true),
        }))
    }

    /// The connection does not read for now: what is at hand is for others.
    pub(super) fn rest(&self) {
        self.0.reading.store(false, Ordering::SeqCst);
        self.0.settle();
    }

    /// The connection reads again.
    pub(super) fn resume(&self) {
        self.0.reading.store(true, Ordering::SeqCst);
    }

    /// Room for a message of `bytes`, if there is any now.
    pub(super) fn try_take(&self, bytes: usize, identified: bool) -> Option<Lease> {
        let charge = if identified || self.0.total.is_none() { Charge::Usual } else { Charge::Stranger };
        if charge == Charge::Usual && self.0.take_at_hand(bytes) {
            return Some(self.lease(bytes, charge));
        }
        if !self.0.own.try_take(bytes) {
            return None;
        }
        let own = Taken(Some((&self.0.own, bytes)));
        let charge = match &self.0.total {
            None => charge,
            Some(total) if charge == Charge::Stranger => {
                if !total.strangers.try_take(bytes) {
                    return None;
                }
                let strangers = Taken(Some((&total.strangers, bytes)));
                if !total.all.try_take(bytes) {
                    return None;
                }
                strangers.keep();
                charge
            }
            Some(total) if total.all.try_take(bytes) => charge,
            Some(_) if bytes <= RESERVE && self.0.reserve.try_take(bytes) => Charge::Reserve,
            Some(_) => return None,
        };
        own.keep();
        Some(self.lease(bytes, charge))
    }

    /// Room for a message of `bytes`, as soon as there is some. Waits until an eighth of the connection's own is free, lest
    /// each message that is handled lets just one be read. Cancel safe: nothing is held when it is dropped.
    pub(super) async fn take(&self, bytes: usize, identified: bool) -> Lease {
        drop(self.0.own.take(bytes.max(self.0.own.size / 8)).await);
        let own = self.0.own.take(bytes).await;
        let charge = match &self.0.total {
            None => Charge::Usual,
            Some(total) if identified && bytes <= RESERVE => {
                tokio::select! {
                    biased;
                    all = total.all.take(bytes) => {
                        all.keep();
                        Charge::Usual
                    }
                    reserve = self.0.reserve.take(bytes) => {
                        reserve.keep();
                        Charge::Reserve
                    }
                }
            }
            Some(total) if identified => {
                total.all.take(bytes).await.keep();
                Charge::Usual
            }
            Some(total) => {
                let strangers = total.strangers.take(bytes).await;
                total.all.take(bytes).await.keep();
                strangers.keep();
                Charge::Stranger
            }
        };
        own.keep();
        self.lease(bytes, charge)
    }

    fn lease(&self, bytes: usize, charge: Charge) -> Lease {
        let amount = (bytes as u64) << 2 | charge as u64;
        Lease::of(Arc::clone(&self.0) as Arc<dyn LeasePool>, amount)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Pools {
    fn take_at_hand(&self, bytes: usize) -> bool {
        self.at_hand.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at_hand| at_hand.checked_sub(bytes)).is_ok()
    }

    /// Gives to the pools what is at hand.
    fn settle(&self) {
        let bytes = self.at_hand.swap(0, Ordering::SeqCst);
        if bytes > 0 {
            self.give(bytes);
        }
    }

    fn give(&self, bytes: usize) {
        self.own.give_back(bytes);
        if let Some(total) = &self.total {
            total.all.give_back(bytes);
        }
    }

    /// Whether room for so many bytes is taken as such, not as all that a pool has.
    fn is_exact(&self, bytes: usize) -> bool {
        bytes <= self.own.size && self.total.as_ref().is_none_or(|total| bytes <= total.all.size)
    }
}

impl LeasePool for Pools {
    fn give_back(&self, amount: u64) {
        let bytes = usize::try_from(amount >> 2).unwrap_or(usize::MAX);
        match amount & 3 {
            0 if self.is_exact(bytes) => {
                // First there, then looked whether it may stay: a connection that comes to rest in between gives it on.
                let at_hand = self.at_hand.fetch_add(bytes, Ordering::SeqCst) + bytes;
                if at_hand > AT_HAND || !self.reading.load(Ordering::SeqCst) {
                    self.settle();
                }
            }
            0 => self.give(bytes),
            1 => {
                self.own.give_back(bytes);
                self.reserve.give_back(bytes);
            }
            _ => {
                self.give(bytes);
                if let Some(total) = &self.total {
                    total.strangers.give_back(bytes);
                }
            }
        }
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
        room.rest();
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
        room.rest();
        let waiter = crate::testing::spawn({
            let room = Arc::clone(&room);
            async move { drop(room.take(60, true).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(held);
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn room_at_hand_is_used_again_and_not_kept_at_rest() {
        let total = total(1000);
        let room = Room::new(100, Some(Arc::clone(&total)));
        drop(room.try_take(60, true).unwrap());
        assert_eq!(total.used(), 60);
        let again = room.try_take(60, true).unwrap();
        assert_eq!(total.used(), 60);
        drop(again);
        room.rest();
        assert_eq!(total.used(), 0);
        drop(room.try_take(100, true).unwrap());
        assert_eq!(total.used(), 0);
    }
}
