//! One lane for each member: how messages get into its queue. How they get out is `drain.rs`.
//!
//! Locks are held for a few instructions each, and never while a layer, the link or a completion is called. The order of
//! locks is: the table of lanes, then one lane's queue.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use tokio::sync::{Notify, Semaphore};
use tribes_core::{Destination, FaultKind, Link, Member, Outbound, OverloadPolicy, SendOptions, Time};

use super::NAME;
use super::core::Queue;
use super::drain::Drain;
use super::report::LogGate;

/// What a queued message is taken to cost beside its body.
pub(super) const OVERHEAD: usize = 256;
/// From this many lanes on, idle ones are given up whenever a new one is opened. Members outside the group can be sent to
/// as well, and nobody says when they are gone.
const MANY: usize = 1024;
/// A lane can be given up between its look-up and its use, hardly twice in a row; when it is, the runtime runs no more tasks.
const PUSHES: usize = 4;

/// All lanes of a channel.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    link: OnceLock<Link>,
    pub(super) policy: Option<OverloadPolicy>,
    stage: AtomicU8,
    table: Mutex<BTreeMap<Arc<Member>, Arc<Lane>>>,
    /// Lanes that are busy. Zero is the fast path of synchronous messages.
    busy: AtomicUsize,
    /// Senders that wait for room, for any member. Zero is the fast path of asynchronous messages.
    waiting: AtomicUsize,
    /// Told when `busy` falls to zero.
    idle: Notify,
    pub(super) sent: AtomicU64,
    pub(super) displaced: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) refusals: LogGate,
}

/// Not started, or stopped: nothing is queued any more.
const STOPPED: u8 = 0;
const RUNNING: u8 = 1;
/// Stopping: what is queued is sent, new messages go past the queues.
const DRAINING: u8 = 2;

/// One member's lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) member: Arc<Member>,
    queue: Mutex<Queue<Outbound>>,
    /// Wakes the task: the queue became busy, or was closed.
    pub(super) wake: Notify,
    /// Senders that wait for room do so one at a time, in the order in which they came.
    pub(super) turn: Semaphore,
    waiters: AtomicUsize,
    /// The member left; who waited for room need not wait on.
    pub(super) left: AtomicBool,
    /// Used since the last heartbeat.
    used: AtomicBool,
}

impl Lanes {
    pub(super) fn new(policy: Option<OverloadPolicy>) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Begins to queue.
    pub(super) fn open(&self, link: Link) {
        let _ = self.link.set(link);
        self.stage.store(RUNNING, Ordering::Release);
    }

    /// Whether messages are queued now.
    pub(super) fn is_open(&self) -> bool {
        self.stage.load(Ordering::Acquire) == RUNNING
    }

    /// What is done with a message that finds no room.
    pub(super) fn policy(&self, link: &Link) -> OverloadPolicy {
        self.policy.unwrap_or_else(|| link.budget().config().policy)
    }

    /// Whether anybody waits for room for any of these members.
    pub(super) fn anyone_waits(&self, to: &[Destination]) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 && to.iter().any(|destination| self.waits(destination.member()))
    }

    /// Whether anybody waits for room for `member`.
    pub(super) fn waits(&self, member: &Arc<Member>) -> bool {
        self.table().get(member).is_some_and(|lane| lane.waiters.load(Ordering::Acquire) > 0)
    }

    /// Whether any member has messages queued or in hand-over.
    pub(super) fn any_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Takes out of `out` the members who have messages queued or in hand-over.
    pub(super) fn extract_busy(&self, out: &mut Outbound) -> Option<Outbound> {
        let table = self.table();
        out.extract(|member| table.get(member).is_some_and(|lane| lane.queue().is_busy()))
    }

    /// Queues `out` for each of its destinations; first for all that have room, then it waits for the others, if the policy
    /// says so, or fails them.
    pub(super) async fn queue(self: &Arc<Self>, out: Outbound) {
        let Some(link) = self.link.get() else { return out.fail(&FaultKind::Stopped) };
        let bytes = out.len() + OVERHEAD;
        let may_wait = out.may_wait;
        // The usual single destination needs no list.
        let mut rest: Vec<Outbound> = if out.to.len() == 1 {
            self.offer(link, out, bytes).into_iter().collect()
        } else {
            out.into_singles().filter_map(|single| self.offer(link, single, bytes)).collect()
        };
        if rest.is_empty() {
            return;
        }
        match self.policy(link) {
            OverloadPolicy::Wait(limit) if may_wait => {
                let deadline = link.env().now() + limit;
                match (rest.pop(), rest.is_empty()) {
                    (Some(only), true) => self.queue_by(link, only, bytes, deadline).await,
                    (last, _) => {
                        rest.extend(last);
                        join_all(rest.into_iter().map(|single| self.queue_by(link, single, bytes, deadline))).await;
                    }
                }
            }
            OverloadPolicy::DropOldest => {
                for single in rest {
                    self.queue_displacing(link, single, bytes);
                }
            }
            _ => {
                for single in rest {
                    single.fail(&FaultKind::QueueFull);
                }
            }
        }
    }

    /// Queues a message for its one destination; gives it back if there is no room, or others wait for it already.
    fn offer(self: &Arc<Self>, link: &Link, mut single: Outbound, bytes: usize) -> Option<Outbound> {
        let destination = single.to.first_mut()?;
        let Some(lane) = self.lane(link, destination.member()) else {
            single.fail(&FaultKind::Stopped);
            return None;
        };
        if lane.waiters.load(Ordering::Acquire) > 0 {
            return Some(single);
        }
        if destination.reservation.is_none() {
            destination.reservation = link.budget().try_admit(&lane.member, bytes);
        }
        if destination.reservation.is_none() {
            return Some(single);
        }
        self.push(link, lane, single, bytes);
        None
    }

    /// Queues a message for its one destination as soon as there is room, or fails it when there is none by `deadline`.
    async fn queue_by(self: &Arc<Self>, link: &Link, mut single: Outbound, bytes: usize, deadline: Time) {
        let Some(destination) = single.to.first_mut() else { return };
        let Some(lane) = self.lane(link, destination.member()) else { return single.fail(&FaultKind::Stopped) };
        let _waiting = Waiting::new(self, &lane);
        let turn = link.env().until(deadline, lane.turn.acquire()).await;
        if let Some(Ok(_)) = &turn {
            let left = OverloadPolicy::Wait(deadline - link.env().now());
            destination.reservation = link.budget().admit_with(&lane.member, bytes, left).await;
        }
        if lane.left.load(Ordering::Acquire) {
            single.fail(&FaultKind::Left);
        } else if destination.reservation.is_some() {
            // Still in turn: whoever waits comes behind.
            self.push(link, Arc::clone(&lane), single, bytes);
        } else {
            single.fail(&FaultKind::QueueFull);
        }
        drop(turn);
    }

    /// Queues a message for its one destination, in the place of the oldest ones if need be.
    fn queue_displacing(self: &Arc<Self>, link: &Link, mut single: Outbound, bytes: usize) {
        loop {
            single = match self.offer(link, single, bytes) {
                Some(back) => back,
                None => return,
            };
            let lane = single.members().next().and_then(|member| self.lane(link, member));
            // Nothing is displaced that would not make room.
            let oldest = lane
                .filter(|lane| room_by_displacing(link, lane, bytes))
                .and_then(|lane| self.with(&lane, Queue::displace));
            let Some(oldest) = oldest else { return single.fail(&FaultKind::QueueFull) };
            self.displaced.fetch_add(1, Ordering::Relaxed);
            oldest.fail(&FaultKind::Dropped { by: NAME, reason: "displaced by a newer message" });
        }
    }

    /// Puts an admitted message at the end of its member's queue.
    fn push(self: &Arc<Self>, link: &Link, mut lane: Arc<Lane>, mut single: Outbound, bytes: usize) {
        // The hand-over has a task of its own, which may wait.
        single.may_wait = true;
        let displaceable = single.message.options.contains(SendOptions::ASYNCHRONOUS);
        for _ in 0..PUSHES {
            let back = self.with(&lane, |queue| queue.push(single, bytes, displaceable));
            let Some(back) = back else {
                // Only tested, mostly: a store would have every sender fight for the line.
                if !lane.used.load(Ordering::Relaxed) {
                    lane.used.store(true, Ordering::Relaxed);
                }
                return;
            };
            // Closed since it was looked up, and no longer in the table.
            single = back;
            lane = match self.lane(link, &lane.member) {
                Some(lane) => lane,
                None => break,
            };
        }
        single.fail(&FaultKind::Stopped);
    }

    /// The lane of `member`, opened if need be; `None` once stopped.
    pub(super) fn lane(self: &Arc<Self>, link: &Link, member: &Arc<Member>) -> Option<Arc<Lane>> {
        let mut table = self.table();
        if let Some(lane) = table.get(member) {
            return Some(Arc::clone(lane));
        }
        if self.stage.load(Ordering::Acquire) == STOPPED {
            return None;
        }
        if table.len() >= MANY {
            table.retain(|_, lane| !lane.give_up_if_idle());
        }
        let lane = Arc::new(Lane::new(Arc::clone(member)));
        table.insert(Arc::clone(member), Arc::clone(&lane));
        drop(table);
        link.spawn(Drain::new(Arc::clone(self), Arc::clone(&lane), link.clone()).run());
        Some(lane)
    }

    /// `member` left: fails what is queued for it.
    pub(super) fn left(&self, member: &Arc<Member>) {
        let lane = self.table().remove(member);
        if let Some(lane) = lane {
            lane.left.store(true, Ordering::Release);
            self.close(&lane, &FaultKind::Left);
        }
    }

    /// Gives up `lane`, whose task has ended; returns what is still queued there.
    pub(super) fn abandon(&self, lane: &Arc<Lane>) -> Vec<Outbound> {
        {
            let mut table = self.table();
            if table.get(&lane.member).is_some_and(|known| Arc::ptr_eq(known, lane)) {
                table.remove(&lane.member);
            }
        }
        self.with(lane, Queue::abandon)
    }

    /// Gives up the lanes that were not used since the last call.
    pub(super) fn give_up_unused(&self) {
        self.table().retain(|_, lane| lane.used.swap(false, Ordering::Relaxed) || !lane.give_up_if_idle());
    }

    /// Takes no more, sends what is queued until `deadline` and fails the rest.
    pub(super) async fn drain(&self, deadline: Time) {
        let Some(link) = self.link.get() else { return };
        self.stage.store(DRAINING, Ordering::Release);
        let _ = link.env().until(deadline, self.drained()).await;
        self.stage.store(STOPPED, Ordering::Release);
        let lanes = std::mem::take(&mut *self.table());
        for lane in lanes.values() {
            self.close(lane, &FaultKind::Stopped);
        }
    }

    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Registered before the check, so that nothing is missed in between.
            idle.as_mut().enable();
            if !self.any_busy() {
                return;
            }
            idle.await;
        }
    }

    fn close(&self, lane: &Lane, kind: &FaultKind) {
        let rest = self.with(lane, Queue::close);
        lane.wake.notify_one();
        for single in rest {
            single.fail(kind);
        }
    }

    /// Messages that are queued, and their bytes with what they cost beside.
    pub(super) fn depth(&self) -> (usize, usize) {
        let depths = self.table().values().map(|lane| lane.queue().depth()).collect::<Vec<_>>();
        depths.into_iter().fold((0, 0), |sum, depth| (sum.0 + depth.0, sum.1 + depth.1))
    }

    pub(super) fn members(&self) -> usize {
        self.table().len()
    }

    /// Changes a lane's queue, keeps count of the busy ones, and wakes the lane's task when it has become one.
    pub(super) fn with<R>(&self, lane: &Lane, change: impl FnOnce(&mut Queue<Outbound>) -> R) -> R {
        let mut queue = lane.queue();
        let before = queue.is_busy();
        let result = change(&mut queue);
        let after = queue.is_busy();
        // Counted under the lock, so that the count never runs ahead of, or behind, another change of this lane.
        let idle = match (before, after) {
            (false, true) => {
                self.busy.fetch_add(1, Ordering::AcqRel);
                false
            }
            (true, false) => self.busy.fetch_sub(1, Ordering::AcqRel) == 1,
            _ => false,
        };
        drop(queue);
        if !before && after {
            lane.wake.notify_one();
        }
        if idle {
            self.idle.notify_waiters();
        }
        result
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Arc<Member>, Arc<Lane>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn new(member: Arc<Member>) -> Self {
        Self {
            member,
            queue: Mutex::default(),
            wake: Notify::new(),
            turn: Semaphore::new(1),
            waiters: AtomicUsize::new(0),
            left: AtomicBool::new(false),
            used: AtomicBool::new(true),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Outbound>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the lane's task if the lane is idle.
    fn give_up_if_idle(&self) -> bool {
        let closed = self.waiters.load(Ordering::Acquire) == 0 && self.queue().close_if_idle();
        if closed {
            self.wake.notify_one();
        }
        closed
    }
}

/// Whether displacing messages of `lane` can make room for `bytes`.
fn room_by_displacing(link: &Link, lane: &Lane, bytes: usize) -> bool {
    let budget = link.budget();
    let config = budget.config();
    let held = budget.used_by(&lane.member);
    let missing = (held + bytes).saturating_sub(config.per_member);
    let missing = missing.max((budget.used() + bytes).saturating_sub(config.total));
    let displaceable = lane.queue().displaceable_bytes();
    // A member with nothing left is admitted any message.
    displaceable >= missing.min(held) && displaceable > 0
}

/// A sender that waits for room. Counts itself out when it is dropped, also when the send was given up.
pub(super) struct Waiting<'a>(&'a Lanes, Arc<Lane>);

impl<'a> Waiting<'a> {
    pub(super) fn new(lanes: &'a Lanes, lane: &Arc<Lane>) -> Self {
        lanes.waiting.fetch_add(1, Ordering::AcqRel);
        lane.waiters.fetch_add(1, Ordering::AcqRel);
        Self(lanes, Arc::clone(lane))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.1.waiters.fetch_sub(1, Ordering::AcqRel);
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs all futures together until the last is done.
pub(super) async fn join_all<F: Future<Output = ()> + Send>(futures: impl Iterator<Item = F>) {
    let mut open: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    poll_fn(|cx| {
        open.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
