//! How much a channel may hold for members that have not taken it yet.
//!
//! Whoever *keeps* a message (a queue, an unacknowledged window) admits it first and holds the [`Reservation`] for as
//! long as it keeps the bytes; dropping it gives the room back. One budget serves all layers and the transport of a
//! channel, so their queues together stay within it.

mod account;
mod config;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use tokio::sync::Notify;

pub use self::account::Reservation;
use self::account::{Account, Totals, Waiting};
use self::config::MOVED;
pub use self::config::{BudgetConfig, OverloadPolicy};
use crate::delivery::Destination;
use crate::member::MemberTable;
use crate::{Env, Member};

/// Accounts of members that have nothing queued are forgotten when there are more than this.
const MAX_ACCOUNTS: usize = 4096;

/// A channel's budget of queued bytes; a cheap handle.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    totals: Arc<Totals>,
    env: Env,
    accounts: MemberTable<Arc<Account>>,
}

impl Budget {
    /// A budget within these bounds.
    #[must_use]
    pub fn new(config: BudgetConfig, env: Env) -> Self {
        let totals = Totals {
            config,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            freed: Notify::new(),
            waiters: AtomicUsize::new(0),
        };
        Self(Arc::new(Inner { totals: Arc::new(totals), env, accounts: MemberTable::default() }))
    }

    /// Its bounds.
    #[must_use]
    pub fn config(&self) -> BudgetConfig {
        self.0.totals.config
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.totals.used.load(Ordering::Relaxed)
    }

    /// The most bytes ever held.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.0.totals.peak.load(Ordering::Relaxed)
    }

    /// Bytes held for `member` now.
    #[must_use]
    pub fn used_by(&self, member: &Arc<Member>) -> usize {
        self.0.accounts.load().get(member).map_or(0, |account| account.used.load(Ordering::Relaxed))
    }

    /// Whether a wait for `member` was in vain and its queue has not drained to half since: under
    /// [`OverloadPolicy::Wait`] its messages fail at once.
    #[must_use]
    pub fn is_stalled(&self, member: &Arc<Member>) -> bool {
        self.0.accounts.load().get(member).is_some_and(|account| account.stalled.load(Ordering::Acquire))
    }

    /// Room for `bytes` of `member`, if there is any now. A message larger than the bound is admitted alone.
    #[must_use]
    pub fn try_admit(&self, member: &Arc<Member>, bytes: usize) -> Option<Reservation> {
        Account::admit(&self.account(member), bytes)
    }

    /// Reserves `bytes` for each of `to` that has no room yet, as far as there is room now; whether all have it.
    pub fn try_admit_each(&self, to: &mut [Destination], bytes: usize) -> bool {
        let accounts = self.0.accounts.load();
        let mut all = true;
        for destination in to.iter_mut().filter(|destination| destination.reservation.is_none()) {
            destination.reservation = match accounts.get(destination.member()) {
                Some(account) => Account::admit(account, bytes),
                None => self.try_admit(destination.member(), bytes),
            };
            all &= destination.reservation.is_some();
        }
        all
    }

    /// A reservation of nothing for `member`, to be [grown](Reservation::try_grow): for a queue that holds the room of its
    /// messages in one piece.
    #[must_use]
    pub fn reserve_none(&self, member: &Arc<Member>) -> Reservation {
        Reservation::none(self.account(member))
    }

    /// Whether [`try_admit`](Self::try_admit) would find room now. Takes none, not even for a moment: another's message
    /// would be refused for it.
    pub(crate) fn has_room(&self, member: &Arc<Member>, bytes: usize) -> bool {
        let config = self.config();
        let held = self.used_by(member);
        let fits = |held: usize, bound: usize| held.checked_add(bytes.max(1)).is_some_and(|sum| sum <= bound);
        held == 0 || (fits(held, config.per_member) && fits(self.used(), config.total))
    }

    /// Room for `bytes` of `member`, waiting under [`OverloadPolicy::Wait`] if the member has not stalled already;
    /// `None` if there is none. Cancel safe.
    pub async fn admit(&self, member: &Arc<Member>, bytes: usize) -> Option<Reservation> {
        self.admit_with(member, bytes, self.config().policy).await
    }

    /// As [`Budget::admit`] under another policy than the channel's. [`OverloadPolicy::DropOldest`] acts as `Fail`: only
    /// the queue itself can drop its oldest. Cancel safe.
    pub async fn admit_with(&self, member: &Arc<Member>, bytes: usize, policy: OverloadPolicy) -> Option<Reservation> {
        let account = self.account(member);
        if let Some(room) = Account::admit(&account, bytes) {
            return Some(room);
        }
        let limit = match policy {
            OverloadPolicy::Wait(limit) if !account.stalled.load(Ordering::Acquire) => limit,
            _ => {
                // Whoever sends in a loop fails in a loop: others, who would make room, must have the thread now and then.
                tokio::task::coop::consume_budget().await;
                return None;
            }
        };
        let deadline = self.0.env.now() + limit;
        let held_before = account.used.load(Ordering::Acquire);
        let moved_before = account.moved.load(Ordering::Relaxed);
        let per_member = account.totals.config.per_member;
        let mark = account.totals.config.moved();
        let _own = Waiting::new(&account.waiters);
        // Whoever gives room back after this sees that somebody waits; what was given back before is seen here.
        fence(Ordering::SeqCst);
        loop {
            // Registered before the check, so that room freed in between is not missed.
            let member_freed = account.freed.notified();
            let total_freed = account.totals.freed.notified();
            tokio::pin!(member_freed, total_freed);
            member_freed.as_mut().enable();
            total_freed.as_mut().enable();
            let moves = account.used.load(Ordering::SeqCst) <= mark;
            // Who waits for the own queue alone is told by that; the others are counted before they look at the total.
            let _total = moves.then(|| Waiting::new(&account.totals.waiters));
            fence(Ordering::SeqCst);
            if moves && let Some(room) = Account::admit(&account, bytes) {
                return Some(room);
            }
            if account.stalled.load(Ordering::Acquire) {
                return None;
            }
            let freed = async {
                tokio::select! { biased; () = member_freed => {}, () = total_freed => {} }
            };
            if self.0.env.until(deadline, freed).await.is_none() {
                let held = account.used.load(Ordering::Acquire);
                // A large message may find no room well below that mark: then the queue must have become shorter at all.
                let no_room = held.saturating_add(bytes) > per_member;
                let moved = account.moved.load(Ordering::Relaxed).wrapping_sub(moved_before);
                let own_fault =
                    moved < (per_member / MOVED).max(1) && (held > mark || (no_room && held >= held_before));
                account.stalled.fetch_or(own_fault, Ordering::AcqRel);
                return Account::admit(&account, bytes);
            }
        }
    }

    /// Forgets a member that left, once nothing is reserved for it any more.
    pub fn forget(&self, member: &Member) {
        let idle = self.0.accounts.load().find(member).is_some_and(|account| Account::is_idle(account, 1));
        if idle {
            self.0.accounts.remove(member);
        }
    }

    fn account(&self, member: &Arc<Member>) -> Arc<Account> {
        if let Some(account) = self.0.accounts.get(member) {
            return account;
        }
        // Members outside the group can be sent to as well: do not let their accounts pile up.
        if self.0.accounts.load().len() > MAX_ACCOUNTS {
            self.0.accounts.retain(|_, account| !Account::is_idle(account, 2));
        }
        self.0.accounts.get_or_insert_with(member, || Arc::new(Account::new(&self.0.totals)))
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("config", &self.config()).field("used", &self.used()).finish_non_exhaustive()
    }
}
