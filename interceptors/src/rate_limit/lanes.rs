//! The buckets of all destinations, and who waits at them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tribes_core::{Env, FaultKind, Member, Time};

use super::core::{Bucket, Limits};

/// Full buckets are forgotten when there are more than this: a new one would be the same.
const MAX_BUCKETS: usize = 4096;

/// A destination; `None` stands for the multicasts, which have none.
type Key = Option<Arc<Member>>;

/// The buckets of all destinations.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<Key, Lane>,
    /// Full buckets are looked for when there are this many.
    prune_at: usize,
    /// Set while the channel stops: nothing waits for longer than this.
    stopping: Option<Time>,
}

#[derive(Debug)]
struct Lane {
    bucket: Bucket,
    queue: Arc<Queue>,
    /// Who waits, or is about to be handed on.
    waiting: usize,
}

/// Those who wait at one bucket.
#[derive(Debug)]
struct Queue {
    /// They go one after another, in the order in which they came.
    turn: Arc<Semaphore>,
    end: watch::Sender<End>,
}

/// Why waiting ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    Left,
    /// For those who would wait for longer than this.
    Stopping(Time),
}

/// What a message meets.
#[derive(Debug)]
pub(super) enum Admission {
    /// There were tokens, and it has them.
    Now,
    /// It has them in a while.
    Later(Ticket),
    /// It would wait for too long.
    No,
}

/// A message's turn: whoever waits comes when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _ticket: Ticket,
}

/// Tokens that come in a while. Dropped before it was their turn, they are given back.
#[derive(Debug)]
pub(super) struct Ticket {
    lanes: Arc<Lanes>,
    key: Key,
    queue: Arc<Queue>,
    at: Time,
    len: u64,
    used: bool,
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the tokens of a message of `len` bytes for all of `keys`, or for none of them: whether there are all, and
    /// nobody waits for any.
    pub(super) fn take_now(&self, limits: &Limits, keys: &[&Key], now: Time, len: u64) -> bool {
        let mut state = self.lock();
        let ready = |lane: &Lane| lane.waiting == 0 && lane.bucket.ready_at(limits, now, len) <= now;
        if !keys.iter().all(|key| state.lanes.get(*key).is_none_or(ready)) {
            return false;
        }
        for key in keys {
            state.lane(limits, key, now).bucket.take(limits, now, len);
        }
        true
    }

    /// Takes the tokens of a message of `len` bytes for `key` now, or as of a time not after `latest`.
    pub(super) fn take(self: &Arc<Self>, limits: &Limits, key: &Key, now: Time, len: u64, latest: Time) -> Admission {
        let mut state = self.lock();
        let latest = state.stopping.map_or(latest, |stop| stop.min(latest));
        let lane = state.lane(limits, key, now);
        let at = lane.bucket.ready_at(limits, now, len);
        let now_or_never = latest <= now;
        if at > latest.max(now) || (now_or_never && lane.waiting > 0) {
            return Admission::No;
        }
        lane.bucket.take(limits, now, len);
        if at <= now && lane.waiting == 0 {
            return Admission::Now;
        }
        lane.waiting += 1;
        let queue = Arc::clone(&lane.queue);
        drop(state);
        Admission::Later(Ticket { lanes: Arc::clone(self), key: key.clone(), queue, at, len, used: false })
    }

    /// Nobody waits for `member` any more; it has left.
    pub(super) fn left(&self, member: &Arc<Member>) {
        let lane = self.lock().lanes.remove(&Some(Arc::clone(member)));
        if let Some(lane) = lane {
            lane.queue.end.send_replace(End::Left);
        }
    }

    /// Ends the waiting of all who would wait beyond `deadline`.
    pub(super) fn stop(&self, deadline: Time) {
        let mut state = self.lock();
        state.stopping = Some(deadline);
        let queues: Vec<_> = state.lanes.values().map(|lane| Arc::clone(&lane.queue)).collect();
        drop(state);
        for queue in queues {
            queue.end.send_replace(End::Stopping(deadline));
        }
    }

    /// Takes messages as if none had been before.
    pub(super) fn open(&self) {
        *self.lock() = State::default();
    }

    /// How many destinations there are, and how many messages wait for them.
    pub(super) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.lanes.len(), state.lanes.values().map(|lane| lane.waiting).sum())
    }
}

impl State {
    fn lane(&mut self, limits: &Limits, key: &Key, now: Time) -> &mut Lane {
        if self.lanes.len() >= self.prune_at.max(MAX_BUCKETS) && !self.lanes.contains_key(key) {
            self.lanes.retain(|_, lane| lane.waiting > 0 || !lane.bucket.is_full(limits, now));
            // Not at every message, if all are in use.
            self.prune_at = 2 * self.lanes.len();
        }
        let end = self.stopping.map_or(End::No, End::Stopping);
        self.lanes.entry(key.clone()).or_insert_with(|| Lane {
            bucket: Bucket::default(),
            queue: Arc::new(Queue { turn: Arc::new(Semaphore::new(1)), end: watch::Sender::new(end) }),
            waiting: 0,
        })
    }
}

impl Ticket {
    /// Waits until the tokens are there and all who came before have been handed on; or says why it does not.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the tokens are given back.
    pub(super) async fn wait(mut self, env: &Env) -> Result<Turn, FaultKind> {
        let mut ends = self.queue.end.subscribe();
        let at = self.at;
        let ended = async {
            let end = ends.wait_for(|end| match end {
                End::No => false,
                End::Left => true,
                End::Stopping(deadline) => at > *deadline,
            });
            match end.await.map(|end| *end) {
                Ok(End::Left) => FaultKind::Left,
                _ => FaultKind::Stopped,
            }
        };
        let turn = async {
            let permit = Arc::clone(&self.queue.turn).acquire_owned().await;
            env.sleep_until(at).await;
            // Never closed.
            permit.ok()
        };
        let permit = tokio::select! {
            biased;
            fault = ended => return Err(fault),
            permit = turn => permit,
        };
        self.used = true;
        Ok(Turn { _permit: permit, _ticket: self })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.lanes.lock();
        // It may be another one of the same member, who left and came back.
        if let Some(lane) = state.lanes.get_mut(&self.key).filter(|lane| Arc::ptr_eq(&lane.queue, &self.queue)) {
            lane.waiting -= 1;
            if !self.used {
                lane.bucket.give_back(self.len);
            }
        }
    }
}
