//! How much a channel may hold for members that have not taken it yet.
//!
//! Whoever *keeps* a message (a queue, an unacknowledged window) admits it first and holds the [`Reservation`] for as
//! long as it keeps the bytes; dropping it gives the room back. One budget serves all layers and the transport of a
//! channel, so their queues together stay within it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use tokio::sync::Notify;

use crate::delivery::Destination;
use crate::member::MemberTable;
use crate::settings::{SettingFault, format_duration, parse_duration};
use crate::{Env, Member};

/// What a queue does with a message that finds it full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverloadPolicy {
    /// Wait this long for the member's queue to move, once per stalled member. A member that frees less than a sixteenth of
    /// its bound in that time has stalled: its messages fail at once until its queue has drained to half. One that keeps
    /// up at all, if more slowly than the sender, makes the sender wait and loses nothing.
    Wait(Duration),
    /// Fail at once.
    Fail,
    /// Make room by dropping the oldest queued message of that member; only queues of asynchronous messages can.
    DropOldest,
}

impl OverloadPolicy {
    /// What [`from_str`](FromStr::from_str) reads, as in "must be …".
    pub const EXPECTED: &'static str = "wait:DURATION (such as wait:200ms), fail or drop-oldest";
}

impl FromStr for OverloadPolicy {
    type Err = SettingFault;

    /// Reads `wait:200ms` (any duration above zero), `fail` or `drop-oldest`.
    fn from_str(text: &str) -> Result<Self, SettingFault> {
        match text.trim() {
            "fail" => Ok(Self::Fail),
            "drop-oldest" => Ok(Self::DropOldest),
            other => {
                let wait = other.strip_prefix("wait:").and_then(parse_duration).filter(|wait| !wait.is_zero());
                wait.map(Self::Wait).ok_or_else(|| SettingFault::invalid("policy", text, Self::EXPECTED))
            }
        }
    }
}

impl fmt::Display for OverloadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(wait) => write!(f, "wait:{}", format_duration(*wait)),
            Self::Fail => f.write_str("fail"),
            Self::DropOldest => f.write_str("drop-oldest"),
        }
    }
}

impl Default for OverloadPolicy {
    /// `Wait(200 ms)`.
    fn default() -> Self {
        Self::Wait(Duration::from_millis(200))
    }
}

/// A member that frees less than one part in this many of its bound during a wait has stalled.
const MOVED: usize = 16;

/// Bytes of one message that a member with nothing queued gets although the channel is full.
const RESERVE: usize = 64 << 10;

/// Accounts of members that have nothing queued are forgotten when there are more than this.
const MAX_ACCOUNTS: usize = 4096;

/// Bounds of a [`Budget`]. Beyond the total each member with nothing queued may still have one message of up to 64 KiB, so
/// that those who stalled do not silence the others; a message larger than the total is admitted alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Bytes for all members together. Default 32 MiB.
    pub total: usize,
    /// Bytes for one member. Default 8 MiB, a quarter of the total.
    pub per_member: usize,
    /// What to do when full. Default [`OverloadPolicy::Wait`] of 200 ms.
    pub policy: OverloadPolicy,
}

impl BudgetConfig {
    /// A budget of `total` bytes, a quarter of it for one member.
    #[must_use]
    pub fn with_total(total: usize) -> Self {
        Self { total, per_member: total / 4, policy: OverloadPolicy::default() }
    }

    /// With this policy.
    #[must_use]
    pub const fn with_policy(mut self, policy: OverloadPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// With this bound for one member.
    #[must_use]
    pub const fn with_per_member(mut self, bytes: usize) -> Self {
        self.per_member = bytes;
        self
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::with_total(32 << 20)
    }
}

/// A channel's budget of queued bytes; a cheap handle.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    totals: Arc<Totals>,
    env: Env,
    accounts: MemberTable<Arc<Account>>,
}

/// What all members share.
struct Totals {
    config: BudgetConfig,
    used: AtomicUsize,
    peak: AtomicUsize,
    freed: Notify,
    /// Who waits for `freed`.
    waiters: AtomicUsize,
}

/// What one member has.
struct Account {
    totals: Arc<Totals>,
    used: AtomicUsize,
    /// All bytes that were ever given back, wrapping: whether the member keeps up, whoever takes the room.
    moved: AtomicUsize,
    /// Set when a wait for room was in vain; cleared when the queue has drained to half.
    stalled: AtomicBool,
    freed: Notify,
    /// Who waits for `freed`.
    waiters: AtomicUsize,
}

/// Room for one queued message of one member; gives it back when dropped.
///
/// A queue of many messages of one member may hold its room in one piece: [`absorb`](Self::absorb) when a message comes,
/// [`give_back`](Self::give_back) when some have gone.
pub struct Reservation {
    account: Arc<Account>,
    bytes: usize,
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
        Reservation { account: self.account(member), bytes: 0 }
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
        self.0.accounts.get_or_insert_with(member, || {
            Arc::new(Account {
                totals: Arc::clone(&self.0.totals),
                used: AtomicUsize::new(0),
                moved: AtomicUsize::new(0),
                stalled: AtomicBool::new(false),
                freed: Notify::new(),
                waiters: AtomicUsize::new(0),
            })
        })
    }
}

impl BudgetConfig {
    /// So much a member may hold for a waiting sender to go on: just one message's worth of room is no sign that the member
    /// keeps up, and each further message would wait as long.
    const fn moved(&self) -> usize {
        self.per_member - self.per_member / MOVED
    }
}

impl Account {
    /// Whether nobody but tables, of which there are two while one is being changed, holds the account.
    fn is_idle(account: &Arc<Self>, tables: usize) -> bool {
        Arc::strong_count(account) <= tables && account.used.load(Ordering::Acquire) == 0
    }

    fn admit(account: &Arc<Self>, bytes: usize) -> Option<Reservation> {
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
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiters: &'a AtomicUsize) -> Self {
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

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("config", &self.config()).field("used", &self.used()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::MemberId;

    fn member(port: u16) -> Arc<Member> {
        Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into()))
    }

    fn budget(total: usize, per_member: usize) -> Budget {
        Budget::new(BudgetConfig::with_total(total).with_per_member(per_member), Env::real())
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_is_bounded_and_the_bound_frees_itself() {
        let budget = budget(100, 40);
        let room = budget.try_admit(&member(1), 30).unwrap();
        assert!(budget.try_admit(&member(1), 11).is_none());
        assert!(budget.try_admit(&member(2), 40).is_some());
        drop(room);
        assert!(budget.try_admit(&member(1), 40).is_some());
        assert_eq!((budget.used(), budget.peak()), (0, 70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_is_admitted_alone() {
        let budget = budget(100, 40);
        let large = budget.try_admit(&member(1), 1000).unwrap();
        assert!(budget.try_admit(&member(1), 1).is_none());
        // The channel is over its total, yet a member with an empty queue gets through.
        assert!(budget.try_admit(&member(2), 10).is_some());
        drop(large);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_members_do_not_add_up_beyond_the_total() {
        let budget = Budget::new(BudgetConfig::with_total(4 << 20), Env::real());
        let held: Vec<_> = (1..=40).filter_map(|port| budget.try_admit(&member(port), 1 << 20)).collect();
        assert_eq!((held.len(), budget.used()), (4, 4 << 20));
        // Each of the others still gets a small one, and just one.
        let reserve: Vec<_> = (5..=40).filter_map(|port| budget.try_admit(&member(port), 1024)).collect();
        assert_eq!(reserve.len(), 36);
        assert!(budget.try_admit(&member(5), 1024).is_none());
        drop((held, reserve));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_once_per_stalled_member() {
        let budget = budget(100, 40);
        let first = budget.try_admit(&member(1), 20).unwrap();
        let second = budget.try_admit(&member(1), 20).unwrap();
        let start = tokio::time::Instant::now();
        assert!(budget.admit(&member(1), 10).await.is_none());
        assert_eq!(start.elapsed().as_millis(), 200);
        assert!(budget.admit(&member(1), 10).await.is_none());
        assert_eq!(start.elapsed().as_millis(), 200);
        drop(first); // Drained to half: it may be waited for again, and there is room.
        assert!(budget.admit(&member(1), 20).await.is_some());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_waits_once_too() {
        let budget = budget(1000, 100);
        let held = budget.try_admit(&member(1), 60).unwrap();
        let start = tokio::time::Instant::now();
        for _ in 0..3 {
            assert!(budget.admit(&member(1), 60).await.is_none());
        }
        assert_eq!(start.elapsed().as_millis(), 200);
        drop(held);
        assert!(budget.admit(&member(1), 60).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_counts_as_stalled() {
        let budget = budget(4096, 1024);
        let mut held: std::collections::VecDeque<_> =
            std::iter::repeat_with(|| budget.try_admit(&member(1), 8).unwrap()).take(128).collect();
        let trickle = async {
            for _ in 0..7 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                held.pop_front();
            }
        };
        let start = tokio::time::Instant::now();
        let waiting = async {
            // There is room after 50 ms, yet the queue does not move: it is taken when the wait is over.
            assert!(budget.admit(&member(1), 8).await.is_some());
            assert_eq!(start.elapsed().as_millis(), 200);
            // From now on nobody waits for this member.
            while budget.try_admit(&member(1), 8).map(std::mem::forget).is_some() {}
            assert!(budget.admit(&member(1), 8).await.is_none());
            assert_eq!(start.elapsed().as_millis(), 200);
        };
        tokio::join!(trickle, waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_freed_wakes_the_waiter() {
        let budget = budget(100, 40);
        let held = budget.try_admit(&member(1), 40).unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test's own task")]
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.admit(&member(1), 40).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiter.await.unwrap());
    }
}
