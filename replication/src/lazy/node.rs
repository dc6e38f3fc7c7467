//! The shards of one member, behind the handles of its map: performs what they decide, and answers what others ask.
//!
//! As with a map that everybody holds, whoever gives them something to do takes what is to be done out of them and does it
//! without the lock, and meanwhile others leave theirs to him.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tribes_core::{
    BoxError, ChannelEndpoint, Departure, EndpointSender, Env, Lease, Member, MemberEvent, MemberId, Message,
    SendError, SendOptions, Time,
};

use super::message::{Notice, Reply, Request};
use super::placement::shard_of;
use super::shards::{Out, Route, Shards};
use crate::contain::contain;
use crate::core::{Action, Core, Now, OpReport, Refused, Written};
use crate::durability::{Durability, states};
use crate::map::listeners::Listeners;
use crate::store::{Entry, Sibling};
use crate::version::Dot;

/// The shards' time does not run finer than that.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// How long shards are let alone that have panicked: what they do again and again is not to fill the log.
const AFTER_PANIC: Duration = Duration::from_secs(1);

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
    differ: Option<RawDiffer>,
    pub(super) listeners: Arc<Listeners>,
}

struct State {
    shards: Shards,
    /// Somebody performs what was decided.
    busy: bool,
    /// When the task wakes.
    wake: Time,
    waiting: BTreeMap<(usize, u64), oneshot::Sender<OpReport>>,
    closed: bool,
    /// Room of messages that came while somebody was busy: senders do not run ahead of him.
    leases: Vec<Lease>,
}

/// How far a write has come of which nobody can say it.
const NOTHING_KNOWN: OpReport = OpReport { met: false, members: Vec::new() };

/// Something was to be sent by the replica of a shard.
struct Sent {
    shard: usize,
    member: Arc<Member>,
    own: Vec<u64>,
    has_room: bool,
}

/// What came of a write.
enum Attempt<'a> {
    Made(Written, Option<Outcome<'a>>),
    Not(Reply),
}

/// The outcome of a write, to be waited for.
struct Outcome<'a> {
    node: &'a Node,
    shard: usize,
    op: u64,
    report: oneshot::Receiver<OpReport>,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.report.close();
        let mut state = self.node.lock();
        // A later replica of the shard counts from one, too: a write of its that has this number is still waited for.
        if state.waiting.get(&(self.shard, self.op)).is_some_and(oneshot::Sender::is_closed) {
            state.waiting.remove(&(self.shard, self.op));
            if let Some(core) = state.shards.core(self.shard) {
                core.forget_op(self.op);
            }
        }
    }
}

impl Node {
    pub(super) fn new(name: String, shards: Shards, differ: Option<RawDiffer>) -> Arc<Self> {
        let state = State {
            shards,
            busy: false,
            wake: Time::ZERO,
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

    /// Answers as far as it can be answered here.
    pub(super) async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Get { key, .. } => self.at(shard_of(&key), |core| Reply::Found(siblings(core.store.get(&key)))),
            Request::List { shard, after } => self.at(shard, |core| list(core, after.as_deref())),
            Request::Write { key, value, over, durability } => {
                match self.write(&key, value, over.as_deref(), durability) {
                    Attempt::Not(reply) => reply,
                    Attempt::Made(made, None) => {
                        Reply::Written { version: made.version, met: true, members: Vec::new() }
                    }
                    Attempt::Made(made, Some(mut outcome)) => {
                        // If the replica is gone, the others may have the write all the same.
                        let report = (&mut outcome.report).await.unwrap_or(NOTHING_KNOWN);
                        let met = report.met;
                        let members = states(report).into_iter().map(|(member, state)| (member.id(), state)).collect();
                        Reply::Written { version: made.version, met, members }
                    }
                }
            }
        }
    }

    /// What is to be seen in the replica of a shard, if one is here that has all.
    fn at(&self, shard: usize, look: impl FnOnce(&Core) -> Reply) -> Reply {
        self.look(|shards| shards.look(shard).map(look).unwrap_or_else(|| elsewhere(shards, shard)))
    }

    fn write(&self, key: &[u8], value: Option<Vec<u8>>, over: Option<&[Dot]>, durability: Durability) -> Attempt<'_> {
        let shard = shard_of(key);
        // Made without the lock: it is the application's code.
        let diff = self.differ.as_ref().zip(value.as_deref()).and_then(|(differ, value)| {
            let (earlier, dots) = self.look(|shards| {
                let core = shards.look(shard)?;
                Some((core.store.get(key)?.latest_value()?.value.cloned()?, core.writes_at(key)))
            })?;
            let diff = catch_unwind(AssertUnwindSafe(|| differ(&earlier, value))).ok().flatten()?;
            Some((Arc::<[u8]>::from(diff), dots))
        });
        let Some(now) = self.now() else { return Attempt::Not(Reply::Elsewhere { at: None }) };
        let attempt = {
            let mut state = self.lock();
            let state = &mut *state;
            if state.closed {
                return Attempt::Not(Reply::Elsewhere { at: None });
            }
            let Some(core) = state.shards.ready_core(shard) else {
                return Attempt::Not(elsewhere(&state.shards, shard));
            };
            if over.is_some_and(|over| core.writes_at(key) != over) {
                return Attempt::Not(Reply::Changed);
            }
            let wanted = durability.wanted(core.majority(now));
            let made = match value {
                None => match core.remove(key, wanted, now) {
                    Some(made) => Ok(made),
                    None => return Attempt::Not(Reply::Nothing),
                },
                Some(value) => {
                    let value = Arc::<[u8]>::from(value);
                    let diff = diff.filter(|(_, dots)| core.writes_at(key) == *dots).map(|(diff, _)| diff);
                    core.put(key, value, diff, wanted, now)
                }
            };
            match made {
                Ok(made) => {
                    let report = made.op.map(|op| {
                        let (sender, report) = oneshot::channel();
                        state.waiting.insert((shard, op), sender);
                        Outcome { node: self, shard, op, report }
                    });
                    Attempt::Made(made, report)
                }
                Err(refused) => Attempt::Not(match refused {
                    Refused::ValueTooLarge { bytes, limit } => {
                        Reply::ValueTooLarge { bytes: bytes as u64, limit: limit as u64 }
                    }
                    Refused::MapFull { bytes, limit } => Reply::Full { bytes: bytes as u64, limit: limit as u64 },
                    Refused::Changed => Reply::Changed,
                }),
            }
        };
        self.perform();
        attempt
    }

    /// Has the shards do something, and performs what comes of it.
    fn act<T>(&self, act: impl FnOnce(&mut Shards, Now) -> T) -> Option<T> {
        let now = self.now()?;
        let result = act(&mut self.lock().shards, now);
        self.perform();
        Some(result)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Option<Now> {
        self.sender.get().map(|sender| now(sender.env()))
    }

    /// Does what is to be done until there is nothing more. If somebody is at it, he does it: he looks again before he
    /// stops. Does not panic.
    fn perform(&self) {
        let Some(now) = self.now() else { return };
        if std::mem::replace(&mut self.lock().busy, true) {
            return;
        }
        if contain(self.name(), "the map panicked", || self.perform_until_done(now)).is_some() {
            return;
        }
        // The next one does what is left. How far writes have come may be lost: those who wait are told that nothing is known.
        let (waiting, leases) = {
            let mut state = self.lock();
            state.busy = false;
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.leases))
        };
        for waiting in waiting.into_values() {
            self.report(waiting, NOTHING_KNOWN);
        }
        drop(leases);
    }

    fn perform_until_done(&self, mut time: Now) {
        let mut state = self.lock();
        loop {
            let mut todo = state.shards.actions(time);
            let leases = std::mem::take(&mut state.leases);
            if todo.is_empty() {
                state.busy = false;
                let wake = state.shards.next_wake();
                if wake < state.wake {
                    state.wake = wake;
                    self.earlier.notify_one();
                }
                drop(state);
                drop(leases);
                return;
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
                let text = "the channel panicked over a message of the map";
                let _ = contain(self.name(), text, || self.perform_one(out, &mut sent));
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
        let all = sender.try_send(to.clone(), body.clone(), SendOptions::NONE);
        let each_by_itself = matches!(all, Err(SendError::Full)) && to.len() > 1;
        for member in to {
            let has_room = if each_by_itself {
                sender.try_send(&member, body.clone(), SendOptions::NONE).is_ok()
            } else {
                all.is_ok()
            };
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

fn elsewhere(shards: &Shards, shard: usize) -> Reply {
    Reply::Elsewhere { at: shards.route(shard).elsewhere.map(|member| member.id()) }
}

/// What is at a key, without what only replicas need.
fn siblings(entry: Option<&Entry>) -> Vec<Sibling> {
    let siblings = entry.into_iter().flat_map(Entry::siblings);
    siblings.map(|held| Sibling { version: held.version, past: Box::default(), value: held.value.cloned() }).collect()
}

/// Entries that have a value, in the order of the store, from the one after `after` on.
fn list(core: &Core, after: Option<&[u8]>) -> Reply {
    let (mut entries, mut size, mut more) = (Vec::new(), 0, false);
    for (key, entry) in core.store.iter_after(after).filter(|(_, entry)| entry.is_live()) {
        size += key.len() + entry.bytes() + 64 * entry.len();
        if size > core.chunk_size() && !entries.is_empty() {
            more = true;
            break;
        }
        entries.push((key.to_vec(), siblings(Some(entry))));
    }
    Reply::Entries { entries, more }
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
            let ticked = contain(node.name(), "the map panicked as time passed", || node.act(Shards::tick));
            let mut state = node.lock();
            if state.closed {
                return;
            }
            // Not at once again, whatever they say: others are to get their turn.
            let pause = if ticked.is_some() { SHORTEST_SLEEP } else { AFTER_PANIC };
            state.wake = state.shards.next_wake().max(env.now() + pause);
            (state.wake, Arc::clone(&node.earlier))
        };
        env.until(wake, earlier.notified()).await;
    }
}
