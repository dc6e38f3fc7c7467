//! What one member holds, and what all hold together: atomic counters, and who waits for them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::BudgetConfig;

/// Bytes of one message that a member with nothing queued gets although the channel is full.
const RESERVE: usize = 64 << 10;

/// What all members share.
pub(super) struct Totals {
    pub(super) config: BudgetConfig,
    pub(super) used: AtomicUsize,
    pub(super) peak: AtomicUsize,
    pub(super) freed: Notify,
    /// Who waits for `freed`.
    pub(super) waiters: AtomicUsize,
}

/// What one member has.
pub(super) struct Account {
    pub(super) totals: Arc<Totals>,
    pub(super) used: AtomicUsize,
    /// All bytes that were ever given back, wrapping: whether the member keeps up, whoever takes the room.
    pub(super) moved: AtomicUsize,
    /// Set when a wait for room was in vain; cleared when the queue has drained to half.
    pub(super) stalled: AtomicBool,
    pub(super) freed: Notify,
    /// Who waits for `freed`.
    pub(super) waiters: AtomicUsize,
}

/// Room for one queued message of one member; gives it back when dropped.
///
/// A queue of many messages of one member may hold its room in one piece: [`absorb`](Self::absorb) when a message comes,
/// [`give_back`](Self::give_back) when some have gone.
pub struct Reservation {
    account: Arc<Account>,
    bytes: usize,
}

impl Account {
    pub(super) fn new(totals: &Arc<Totals>) -> Self {
        Self {
            totals: Arc::clone(totals),
            used: AtomicUsize::new(0),
            moved: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
            freed: Notify::new(),
            waiters: AtomicUsize::new(0),
        }
    }

    /// Whether nobody but tables, of which there are two while one is being changed, holds the account.
    pub(super) fn is_idle(account: &Arc<Self>, tables: usize) -> bool {
        Arc::strong_count(account) <= tables && account.used.load(Ordering::Acquire) == 0
    }

    pub(super) fn admit(account: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = account.take(bytes)?;
        Some(Reservation { account: Arc::clone(account), bytes })
    }

    /// Takes `bytes`, at least one, if there is room; how many were taken.
    fn take(&self, bytes: usize) -> Option<usize> {
        let Totals { config, used, peak, .. } = &*self.totals;
        let bytes = bytes.max(1);
        let fits = |held: usize, bound: usize| held.checked_add(bytes).filter(|sum| *sum <= bound);
        // Looked at first: taking and giving back would keep others from what they wait for.
        let held = self.used.load(Ordering::Acquire);
        let total = used.load(Ordering::Acquire);
        if fits(total, config.total).is_none() && total > 0 && (held > 0 || bytes > RESERVE) {
            return None;
        }
        // A member with nothing queued has a small reserve beyond the total: others that stalled cannot starve it. What is
        // larger than a bound is admitted alone.
        let before = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
                if held == 0 { Some(bytes) } else { fits(held, config.per_member) }
            })
            .ok()?;
        let admitted = used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
            let beyond = held == 0 || (before == 0 && bytes <= RESERVE);
            fits(held, config.total).or_else(|| beyond.then(|| held.saturating_add(bytes)))
        });
        let Ok(held) = admitted else {
            self.used.fetch_sub(bytes, Ordering::AcqRel);
            return None;
        };
        // Only tested, mostly: a store would have every sender fight for the line.
        if peak.load(Ordering::Relaxed) < held + bytes {
            peak.fetch_max(held + bytes, Ordering::Relaxed);
        }
        Some(bytes)
    }

    fn release(&self, bytes: usize) {
        let totals = &*self.totals;
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        // Sequentially consistent with those who count themselves in as waiting and then look: one of the two sees the other.
        let left = self.used.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        totals.used.fetch_sub(bytes, Ordering::SeqCst);
        if left <= totals.config.per_member / 2 && self.stalled.load(Ordering::Relaxed) {
            self.stalled.store(false, Ordering::Release);
        }
        if left <= totals.config.moved() && self.waiters.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
        if totals.waiters.load(Ordering::SeqCst) > 0 {
            totals.freed.notify_waiters();
        }
    }
}

/// One more who waits, until dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reservation {
    pub(super) const fn none(account: Arc<Account>) -> Self {
        Self { account, bytes: 0 }
    }

    /// The bytes reserved.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` more, at least one, if there is room; how many it took.
    pub fn try_grow(&mut self, bytes: usize) -> Option<usize> {
        let taken = self.account.take(bytes)?;
        self.bytes += taken;
        Some(taken)
    }

    /// Holds the room of `other`, too.
    ///
    /// # Errors
    /// `other` comes back if it is not of the same member of the same budget.
    pub fn absorb(&mut self, mut other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.account, &other.account) {
            return Err(other);
        }
        self.bytes += std::mem::take(&mut other.bytes);
        Ok(())
    }

    /// Divides it: `bytes` of the room, or what there is, are those of another.
    #[must_use]
    pub fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { account: Arc::clone(&self.account), bytes }
    }

    /// Gives `bytes` of the room back, or what there is.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if bytes > 0 {
            self.account.release(bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
