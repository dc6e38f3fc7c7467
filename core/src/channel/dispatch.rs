//! From the top of the stack to the listeners: one FIFO per sender.
//!
//! | file | idea |
//! |---|---|
//! | `dispatch` | all senders: which FIFO a message goes to, when they open and close |
//! | `dispatch/lane` | one sender: its FIFO, and who handles what is in it |
//! | `dispatch/application` | one message: the listeners, its receipt, its figures |
//!
//! The FIFOs are bounded by the receiver's leases, which each message holds until it has been handled: when a listener is
//! slow, the receiver stops reading from that sender. Only here messages wait for listeners; layers and membership see a
//! frame before it comes here.

mod application;
mod lane;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(super) use self::application::Application;
use self::lane::Lane;
use super::Inner;
use crate::delivery::{Handled, Inbound};
use crate::error::ReceiveError;
use crate::{Member, Time};

/// So many lanes may be idle.
const MAX_IDLE: usize = 1024;

/// The lanes of one channel.
#[derive(Default)]
pub(super) struct Queues {
    senders: Mutex<Senders>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Senders {
    /// Whether the channel runs: a message that comes after the stop reaches no listener.
    open: bool,
    lanes: BTreeMap<Arc<Member>, Arc<Lane>>,
    /// Idle lanes are closed early when there are this many: whoever makes up senders makes no lanes without end.
    prune_at: usize,
}

impl Queues {
    /// Messages that wait for a listener, or are with one.
    pub(super) fn waiting(&self) -> usize {
        self.tally.waiting.load(Ordering::Acquire)
    }

    /// Waits until all messages have been handled. Cancel safe.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.tally.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.waiting() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Takes the first `count` messages of `batch` to their senders' lanes. How many were refused, because the channel has
    /// stopped; they have answered.
    pub(super) fn deliver(&self, channel: &Arc<Inner>, batch: &mut Vec<Inbound>, mut count: usize) -> usize {
        let now = channel.stack.env.now();
        while let Some(first) = batch.first().filter(|_| count > 0) {
            let from = Arc::clone(first.from());
            let inline = first.is_inline();
            let same =
                |msg: &&Inbound| (Arc::ptr_eq(msg.from(), &from) || *msg.from() == from) && msg.is_inline() == inline;
            let run = batch.iter().take(count).take_while(same).count();
            let Some(lane) = self.lane(channel, &from, now) else {
                for msg in batch.drain(..count) {
                    msg.receipt.resolve(Handled::Failed(ReceiveError::Stopped.to_string()));
                }
                return count;
            };
            // A lane that was closed in this moment takes nothing, and is not found again.
            if lane.push(channel, batch, run, inline, now) {
                count -= run;
            } else {
                self.lock().lanes.retain(|_, lane| !lane.is_closed());
            }
        }
        0
    }

    /// The lane of `from`; `None` if the channel does not run.
    fn lane(&self, channel: &Arc<Inner>, from: &Arc<Member>, now: Time) -> Option<Arc<Lane>> {
        let mut senders = self.lock();
        if !senders.open {
            return None;
        }
        if let Some(lane) = senders.lanes.get(from) {
            return Some(Arc::clone(lane));
        }
        let lane = Lane::open(Arc::clone(from), &channel.application, &self.tally, now);
        senders.lanes.insert(Arc::clone(from), Arc::clone(&lane));
        if senders.lanes.len() > senders.prune_at.max(MAX_IDLE) {
            // The new one is not in use yet, and is to stay.
            senders.lanes.retain(|other, lane| other == from || !lane.close_if_idle(Time::NEVER));
            senders.prune_at = 2 * senders.lanes.len();
        }
        Some(lane)
    }

    /// Closes lanes that have been empty since before `since`; their tasks end.
    pub(super) fn close_idle(&self, since: Time) {
        self.lock().lanes.retain(|_, lane| !lane.close_if_idle(since));
    }

    /// Takes messages from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Takes no more messages and closes all lanes; what is in them is still handled.
    pub(super) fn close(&self) {
        let lanes = {
            let mut senders = self.lock();
            senders.open = false;
            std::mem::take(&mut senders.lanes)
        };
        lanes.values().for_each(|lane| lane.close());
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queues {
    /// A lane and the future that handles it hold each other until the lane is closed.
    fn drop(&mut self) {
        self.close();
    }
}

/// How many messages of a channel wait for a listener, or are with one.
#[derive(Default)]
struct Tally {
    waiting: AtomicUsize,
    /// Told when `waiting` falls to zero.
    idle: Notify,
}

impl Tally {
    fn add(&self, count: usize) {
        self.waiting.fetch_add(count, Ordering::AcqRel);
    }

    /// So many messages wait no more, handled or not.
    fn remove(&self, count: usize) {
        if count > 0 && self.waiting.fetch_sub(count, Ordering::AcqRel) == count {
            self.idle.notify_waiters();
        }
    }
}
