//! The shards of one member, behind the handles of its map: performs what they decide.
//!
//! As with a map that everybody holds, whoever gives them something to do takes what is to be done out of them and does it
//! without the lock, and meanwhile others leave theirs to him.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tribes_core::{
    BoxError, ChannelEndpoint, Departure, EndpointSender, Env, Lease, Member, MemberEvent, MemberId, Message,
    SendError, SendOptions, Time, To,
};

use super::message::Notice;
use super::shards::{Out, Route, Shards};
use crate::contain::contain;
use crate::core::{Action, Now, OpReport};
use crate::map::listeners::Listeners;

/// The shards' time does not run finer than that.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// How long shards are let alone that have panicked: what they do again and again is not to fill the log.
const AFTER_PANIC: Duration = Duration::from_secs(1);
const CHANNEL_PANICKED: &str = "the channel panicked over a message of the map";

/// Makes a diff of an earlier value and a later one, as bytes.
pub(super) type RawDiffer = Arc<dyn Fn(&[u8], &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// See the [module](self).
pub(super) struct Node {
    this: Weak<Self>,
    state: Mutex<State>,
    sender: OnceLock<EndpointSender>,
    /// There is an earlier time to wake at.
    earlier: Arc<Notify>,
    ready: watch::Sender<bool>,
    released: watch::Sender<bool>,
    pub(super) differ: Option<RawDiffer>,
    pub(super) listeners: Arc<Listeners>,
}

pub(super) struct State {
    pub(super) shards: Shards,
    /// Somebody performs what was decided.
    busy: bool,
    /// When the task wakes.
    wake: Time,
    /// There was a panic, and what is left to be done has to be done by the task.
    panicked: bool,
    /// Who waits for the writes made by replicas here.
    pub(super) waiting: BTreeMap<(usize, u64), oneshot::Sender<OpReport>>,
    pub(super) closed: bool,
    /// Room of messages that came while somebody was busy: senders do not run ahead of him.
    leases: Vec<Lease>,
}

/// How far a write has come of which nobody can say it.
pub(super) const NOTHING_KNOWN: OpReport = OpReport { met: false, members: Vec::new() };

/// Something was to be sent by the replica of a shard.
struct Sent {
    shard: usize,
    member: Arc<Member>,
    own: Vec<u64>,
    has_room: bool,
}

impl Node {
    pub(super) fn new(name: String, shards: Shards, differ: Option<RawDiffer>) -> Arc<Self> {
        let state = State {
            shards,
            busy: false,
            wake: Time::ZERO,
            panicked: false,
            waiting: BTreeMap::new(),
            closed: false,
            leases: Vec::new(),
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            state: Mutex::new(state),
            sender: OnceLock::new(),
            earlier: Arc::default(),
            ready: watch::Sender::new(false),
            released: watch::Sender::new(false),
            differ,
            listeners: Listeners::new(name),
        })
    }

    /// Begins: from now on there is a way to others.
    pub(super) fn start(self: &Arc<Self>, sender: EndpointSender, members: &[Arc<Member>]) {
        let env = sender.env().clone();
        // Nobody else has it yet.
        let _ = self.sender.set(sender);
        self.act(|shards, now| members.iter().for_each(|member| shards.member_added(member, now)));
        env.spawn(keep_time(Arc::downgrade(self), env.clone()));
    }

    pub(super) fn name(&self) -> &str {
        self.listeners.map()
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(super) async fn ready(&self) {
        // The sender is here.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Shards) -> T) -> T {
        look(&self.lock().shards)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) fn route(&self, shard: usize) -> Route {
        self.look(|shards| shards.route(shard))
    }

    pub(super) fn member(&self, id: MemberId) -> Option<Arc<Member>> {
        self.look(|shards| shards.member(id).cloned())
    }

    /// Hands everything over; when it is done.
    pub(super) async fn leave(&self) {
        self.act(Shards::leave);
        // The sender is here.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }

    /// This member has the map no more; again does nothing.
    pub(super) fn close(&self) {
        if !std::mem::replace(&mut self.lock().closed, true) {
            self.act(Shards::close);
            self.earlier.notify_one();
        }
    }

    /// Has the shards do something, and performs what comes of it.
    fn act<T>(&self, act: impl FnOnce(&mut Shards, Now) -> T) -> Option<T> {
        let now = self.now()?;
        let result = act(&mut self.lock().shards, now);
        self.perform();
        Some(result)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Option<Now> {
        self.sender.get().map(|sender| now(sender.env()))
    }

    /// Does what is to be done until there is nothing more. If somebody is at it, he does it: he looks again before he
    /// stops. Does not panic.
    pub(super) fn perform(&self) {
        let Some(now) = self.now() else { return };
        if std::mem::replace(&mut self.lock().busy, true) {
            return;
        }
        if contain(self.name(), "the map panicked", || self.perform_until_done(now)).is_some() {
            return;
        }
        // How far writes have come may be lost: those who wait are told that nothing is known.
        let (waiting, leases) = {
            let mut state = self.lock();
            let state = &mut *state;
            state.busy = false;
            let waiting = std::mem::take(&mut state.waiting);
            for (shard, op) in waiting.keys() {
                let forget = || state.shards.core(*shard).map(|core| core.forget_op(*op));
                let _ = contain(self.name(), "the map panicked", forget);
            }
            (waiting, std::mem::take(&mut state.leases))
        };
        for waiting in waiting.into_values() {
            self.report(waiting, NOTHING_KNOWN);
        }
        self.panicked();
        drop(leases);
    }

    /// What others left to be done meanwhile is done by the task, after a while.
    fn panicked(&self) {
        self.lock().panicked = true;
        self.earlier.notify_one();
    }

    /// The room of the last messages, to be given back without the lock.
    fn perform_until_done(&self, mut time: Now) -> Vec<Lease> {
        let mut state = self.lock();
        loop {
            let mut todo = state.shards.actions(time);
            let leases = std::mem::take(&mut state.leases);
            if todo.is_empty() {
                state.busy = false;
                let wake = state.shards.next_wake();
                // Sooner than that the task does not wake: told of it, it would look again without end.
                if wake < state.wake && self.now().is_some_and(|now| now.time + SHORTEST_SLEEP < state.wake) {
                    state.wake = wake;
                    self.earlier.notify_one();
                }
                return leases;
            }
            let mut reports = Vec::new();
            todo.retain_mut(|out| {
                let Out::Of { shard, action: Action::Done { op, report } } = out else { return true };
                let report = OpReport { met: report.met, members: std::mem::take(&mut report.members) };
                reports.extend(state.waiting.remove(&(*shard, *op)).map(|waiting| (waiting, report)));
                false
            });
            drop(state);
            let mut sent = Vec::new();
            for out in todo {
                // Whatever panics in it, others are to get their turn.
                let _ = contain(self.name(), CHANNEL_PANICKED, || self.perform_one(out, &mut sent));
            }
            for (waiting, report) in reports {
                self.report(waiting, report);
            }
            drop(leases);
            if let Some(now) = self.now() {
                time = now;
            }
            state = self.lock();
            for Sent { shard, member, own, has_room } in sent {
                if let Some(core) = state.shards.core(shard) {
                    core.queued(&member, &own, has_room);
                    if !has_room {
                        core.unsent(&member, time);
                    }
                }
            }
        }
    }

    /// Tells who waits how his write ended.
    fn report(&self, waiting: oneshot::Sender<OpReport>, report: OpReport) {
        // Whoever waited may be gone.
        let _ = contain(self.name(), "who waits for a write panicked when woken", || waiting.send(report).is_ok());
    }

    fn perform_one(&self, out: Out, sent: &mut Vec<Sent>) {
        match out {
            Out::Replica { shard, to, envelope } => {
                let own = envelope.own_writes();
                let body = Bytes::from(Notice::Replica { shard, envelope }.encode());
                self.send(shard, to, &body, &own, sent);
            }
            Out::Notice { to, notice } => {
                if let Some(sender) = self.sender.get() {
                    // It is said again as long as it matters.
                    let _ = sender.try_send(&to, Bytes::from(notice.encode()), SendOptions::NONE);
                }
            }
            Out::Greet { to, notice } => self.greet(to, &notice),
            Out::Of { action: Action::Changed { key, change, by }, .. } => self.listeners.tell(&key, &change, by),
            Out::Of { .. } => {}
            Out::Ready => {
                self.ready.send_replace(true);
            }
            Out::Released => {
                self.released.send_replace(true);
            }
        }
    }

    fn send(&self, shard: usize, to: Vec<Arc<Member>>, body: &Bytes, own: &[u64], sent: &mut Vec<Sent>) {
        let Some(sender) = self.sender.get() else { return };
        let hand = |to: To| {
            let send = || sender.try_send(to, body.clone(), SendOptions::NONE).map(drop);
            contain(self.name(), CHANNEL_PANICKED, send).unwrap_or(Err(SendError::Full))
        };
        let all = hand(to.clone().into());
        let each_by_itself = matches!(all, Err(SendError::Full)) && to.len() > 1;
        for member in to {
            let has_room = if each_by_itself { hand((&member).into()).is_ok() } else { all.is_ok() };
            if !own.is_empty() || !has_room {
                sent.push(Sent { shard, member, own: own.to_vec(), has_room });
            }
        }
    }

    /// To be answered by the channel, so that a member that has no such map is not waited for.
    fn greet(&self, member: Arc<Member>, notice: &Notice) {
        let Some(sender) = self.sender.get() else { return };
        let Ok(pending) = sender.try_send(&member, Bytes::from(notice.encode()), SendOptions::SYNC_ACK) else { return };
        let (this, asked) = (Weak::clone(&self.this), sender.env().now());
        pending.on_complete(move |outcome| {
            if let Some(this) = this.upgrade().filter(|_| !outcome.no_taker.is_empty()) {
                this.act(|shards, now| shards.has_not(&member, asked, now));
            }
        });
    }
}

impl ChannelEndpoint for Node {
    fn receive(&self, message: Message, from: &Arc<Member>, lease: Lease) -> Result<(), BoxError> {
        let notice = Notice::decode(message.bytes())?;
        drop(message);
        {
            let mut state = self.lock();
            if state.closed {
                return Ok(());
            }
            if state.busy {
                state.leases.push(lease);
            }
        }
        self.act(|shards, now| shards.received(from, notice, now));
        Ok(())
    }

    fn member_event(&self, event: &MemberEvent) {
        if self.is_closed() {
            return;
        }
        self.act(|shards, now| match event {
            MemberEvent::Added(member) | MemberEvent::Updated(member) => shards.member_added(member, now),
            MemberEvent::Removed(member, why) => {
                let on_purpose = matches!(why, Departure::Shutdown | Departure::Stopped);
                shards.member_removed(member, on_purpose, now);
            }
            _ => {}
        });
    }
}

fn now(env: &Env) -> Now {
    let time = env.now();
    Now { time, wall_ms: u64::try_from(env.wall_ms_at(time)).unwrap_or_default() }
}

/// Wakes the shards when they want to be woken, as long as there are some. Holds nothing of them while it sleeps.
async fn keep_time(node: Weak<Node>, env: Env) {
    loop {
        let (wake, earlier) = {
            let Some(node) = node.upgrade() else { return };
            if contain(node.name(), "the map panicked as time passed", || node.act(Shards::tick)).is_none() {
                node.panicked();
            }
            let mut state = node.lock();
            if state.closed {
                return;
            }
            // Not at once again, whatever they say: others are to get their turn.
            state.wake = state.shards.next_wake().max(env.now() + SHORTEST_SLEEP);
            (state.wake, Arc::clone(&node.earlier))
        };
        env.until(wake, earlier.notified()).await;
        let panicked = node.upgrade().is_some_and(|node| std::mem::take(&mut node.lock().panicked));
        if panicked {
            env.sleep(AFTER_PANIC).await;
        }
    }
}
