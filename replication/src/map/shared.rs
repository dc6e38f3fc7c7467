//! The replica behind a map's handles: performs what its core decides.
//!
//! Whoever gives the core something to do takes what is to be done out of it and does it, without the lock; meanwhile others
//! leave theirs to him. So messages and changes keep their order, and nothing is called with the lock held. The messages that
//! come while he is busy keep the room that they take until he is done: a slow listener slows senders down.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tribes_core::{
    BoxError, ChannelEndpoint, Departure, EndpointSender, Env, Lease, Member, MemberEvent, Message, SendError,
    SendOptions, Time, To,
};

use super::Refusal;
use super::listeners::Listeners;
use crate::contain::contain;
use crate::core::{Action, Core, Now, OpReport, Refused, Wanted, Written};
use crate::durability::Durability;
use crate::error::MapError;
use crate::message::{Envelope, Message as Body};

/// The core's time does not run finer than that.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// How long the core is let alone that has panicked: what it does again and again is not to fill the log.
const AFTER_PANIC: Duration = Duration::from_secs(1);
const CHANNEL_PANICKED: &str = "the channel panicked over a message of the map";

/// See the [module](self).
pub(super) struct Shared {
    this: Weak<Self>,
    name: String,
    state: Mutex<State>,
    /// If writes wait for company: how long those do that nobody waits for, and what wakes the task that sends them.
    gathering: Option<(Duration, Arc<Notify>)>,
    sender: OnceLock<EndpointSender>,
    /// There is an earlier time to wake at.
    earlier: Arc<Notify>,
    ready: watch::Sender<bool>,
    pub(super) listeners: Arc<Listeners>,
    /// Where to say that there is something to save.
    #[cfg(feature = "persist")]
    saving: OnceLock<Arc<crate::disk::Signal>>,
}

struct State {
    core: Core,
    /// Somebody performs what the core decided.
    busy: bool,
    /// Writes wait for company, and the task is told.
    gathers: bool,
    /// Somebody waits for one of them, and the task is told.
    hurries: bool,
    /// Room taken by messages that came meanwhile: their senders wait when they have used up theirs.
    leases: Vec<Lease>,
    /// When the task wakes.
    wake: Time,
    /// There was a panic, and what is left to be done has to be done by the task.
    panicked: bool,
    waiting: BTreeMap<u64, oneshot::Sender<OpReport>>,
    closed: bool,
    /// The last change of which the saver was told.
    #[cfg(feature = "persist")]
    told: u64,
}

/// The outcome of a write.
pub(super) enum Outcome {
    Known(Option<OpReport>),
    Waited(Waited),
}

/// One to be waited for.
pub(super) struct Waited {
    shared: Weak<Shared>,
    op: u64,
    report: oneshot::Receiver<OpReport>,
}

impl Outcome {
    /// `None` if the map was closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<OpReport>> {
        match self {
            Self::Known(report) => Poll::Ready(report.take()),
            Self::Waited(waited) => Pin::new(&mut waited.report).poll(cx).map(Result::ok),
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.lock();
            if state.waiting.remove(&self.op).is_some() {
                state.core.forget_op(self.op);
            }
        }
    }
}

impl Shared {
    /// `gather`: writes wait for company, those that nobody waits for so long.
    pub(super) fn new(name: String, core: Core, gather: Option<Duration>) -> Arc<Self> {
        let state = State {
            core,
            busy: false,
            gathers: false,
            hurries: false,
            leases: Vec::new(),
            wake: Time::ZERO,
            panicked: false,
            waiting: BTreeMap::new(),
            closed: false,
            #[cfg(feature = "persist")]
            told: 0,
        };
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            listeners: Listeners::new(name.clone()),
            name,
            state: Mutex::new(state),
            gathering: gather.map(|linger| (linger, Arc::default())),
            sender: OnceLock::new(),
            earlier: Arc::default(),
            ready: watch::Sender::new(false),
            #[cfg(feature = "persist")]
            saving: OnceLock::new(),
        })
    }

    /// Begins: from now on there is a way to others.
    pub(super) fn start(self: &Arc<Self>, sender: EndpointSender, members: &[Arc<Member>]) {
        let env = sender.env().clone();
        // Nobody else has it yet.
        let _ = self.sender.set(sender);
        self.act(|core, now| members.iter().for_each(|member| core.member_added(member, now)));
        if let Some((linger, gathered)) = &self.gathering {
            env.spawn(send_gathered(Arc::downgrade(self), *linger, Arc::clone(gathered), env.clone()));
        }
        env.spawn(keep_time(Arc::downgrade(self), Arc::clone(&self.earlier), env.clone()));
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Looks at the replica.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.lock().core)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.lock().core.is_ready()
    }

    #[cfg(feature = "persist")]
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(super) async fn ready(&self) {
        // The sender is here.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Has the core do something, and performs what comes of it.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut Core, Now) -> T) -> Option<T> {
        let now = self.now()?;
        let result = {
            let mut state = self.lock();
            (state.gathers, state.hurries) = (false, false);
            let result = act(&mut state.core, now);
            // Not left to whoever performs: by then another write may gather again, and what is waited for would wait with it.
            state.core.flush();
            result
        };
        self.perform();
        Some(result)
    }

    /// Makes a write.
    pub(super) fn write(
        self: &Arc<Self>,
        durability: Durability,
        write: impl FnOnce(&mut Core, Wanted, Now) -> Result<Written, Refused>,
    ) -> Result<(Written, Option<Outcome>), Refusal> {
        let made = self.write_if(durability, |core, wanted, now| write(core, wanted, now).map(Some))?;
        made.ok_or(Refusal::Error(MapError::Closed))
    }

    /// As [`write`](Self::write), for what may find that there is nothing to write.
    pub(super) fn write_if(
        self: &Arc<Self>,
        durability: Durability,
        write: impl FnOnce(&mut Core, Wanted, Now) -> Result<Option<Written>, Refused>,
    ) -> Result<Option<(Written, Option<Outcome>)>, Refusal> {
        let Some(now) = self.now() else { return Err(Refusal::Error(MapError::Closed)) };
        let result = {
            let mut state = self.lock();
            if state.closed {
                return Err(Refusal::Error(MapError::Closed));
            }
            // Who gathers has taken it over from who writes.
            let is_taken = self.gathering.is_some() && durability == Durability::Queued;
            let wanted = durability.wanted(state.core.majority(now)).filter(|_| !is_taken);
            let Some(written) = write(&mut state.core, wanted, now)? else { return Ok(None) };
            let outcome = match written.op {
                Some(op) => {
                    let (sender, report) = oneshot::channel();
                    state.waiting.insert(op, sender);
                    Some(Outcome::Waited(Waited { shared: Arc::downgrade(self), op, report }))
                }
                None => is_taken.then(|| Outcome::Known(Some(state.core.under_way()))),
            };
            if let Some((_, gathered)) = &self.gathering {
                let is_first = !std::mem::replace(&mut state.gathers, true);
                let hurries = outcome.is_some() && !is_taken && !std::mem::replace(&mut state.hurries, true);
                if is_first || hurries {
                    gathered.notify_one();
                }
            }
            (written, outcome)
        };
        self.perform();
        Ok(Some(result))
    }

    /// The replica leaves; again does nothing.
    pub(super) fn close(&self) {
        if !std::mem::replace(&mut self.lock().closed, true) {
            self.act(Core::close);
            self.earlier.notify_one();
            self.end_gathering();
        }
    }

    /// The task looks whether there is anything left to be done.
    fn end_gathering(&self) {
        if let Some((_, gathered)) = &self.gathering {
            gathered.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn env(&self) -> Option<&Env> {
        self.sender.get().map(EndpointSender::env)
    }

    fn now(&self) -> Option<Now> {
        self.env().map(now)
    }

    /// Does what the core wants done until it wants nothing more. If somebody is at it, he does it: he looks again before he
    /// stops. Does not panic.
    fn perform(&self) {
        if std::mem::replace(&mut self.lock().busy, true) {
            return;
        }
        if contain(&self.name, "the map panicked", || self.perform_until_done()).is_some() {
            return;
        }
        // How far writes have come may be lost: those who wait are told that nothing is known.
        let (waiting, leases) = {
            let mut state = self.lock();
            state.busy = false;
            let waiting = std::mem::take(&mut state.waiting);
            for op in waiting.keys() {
                let _ = contain(&self.name, "the map panicked", || state.core.forget_op(*op));
            }
            (waiting, std::mem::take(&mut state.leases))
        };
        for waiting in waiting.into_values() {
            self.report(waiting, OpReport { met: false, members: Vec::new() });
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
    fn perform_until_done(&self) -> Vec<Lease> {
        let mut state = self.lock();
        loop {
            let gathers = state.gathers;
            let mut actions = state.core.actions(gathers);
            // Given back when all that came of their messages is done.
            let leases = std::mem::take(&mut state.leases);
            if actions.is_empty() {
                state.busy = false;
                #[cfg(feature = "persist")]
                self.tell_saver(&mut state);
                let wake = state.core.next_wake();
                // Sooner than that the task does not wake: told of it, it would look again without end.
                if wake < state.wake && self.now().is_some_and(|now| now.time + SHORTEST_SLEEP < state.wake) {
                    state.wake = wake;
                    self.earlier.notify_one();
                }
                return leases;
            }
            let mut reports = Vec::new();
            actions.retain_mut(|action| {
                let Action::Done { op, report } = action else { return true };
                let report = OpReport { met: report.met, members: std::mem::take(&mut report.members) };
                reports.extend(state.waiting.remove(op).map(|waiting| (waiting, report)));
                false
            });
            drop(state);
            let mut sent = Vec::new();
            for action in actions {
                // Whatever panics in it, others are to get their turn.
                let _ = contain(&self.name, CHANNEL_PANICKED, || self.perform_one(action, &mut sent));
            }
            for (waiting, report) in reports {
                self.report(waiting, report);
            }
            drop(leases);
            state = self.lock();
            for (member, counters, has_room) in sent {
                self.tell_sent(&mut state.core, &member, &counters, has_room);
            }
        }
    }

    /// Tells who waits how his write ended.
    fn report(&self, waiting: oneshot::Sender<OpReport>, report: OpReport) {
        // Whoever waited may be gone.
        let _ = contain(&self.name, "who waits for a write panicked when woken", || waiting.send(report).is_ok());
    }

    /// Has the saver save what changed.
    #[cfg(feature = "persist")]
    fn tell_saver(&self, state: &mut State) {
        let turn = state.core.store.seen.turn();
        if let Some(saving) = self.saving.get().filter(|_| std::mem::replace(&mut state.told, turn) != turn) {
            saving.changed();
        }
    }

    /// From now on, what changes is saved.
    #[cfg(feature = "persist")]
    pub(super) fn set_saving(&self, signal: Arc<crate::disk::Signal>) {
        // There is one saver.
        let _ = self.saving.set(signal);
    }

    fn tell_sent(&self, core: &mut Core, member: &Arc<Member>, counters: &[u64], has_room: bool) {
        core.queued(member, counters, has_room);
        if let Some(now) = self.now().filter(|_| !has_room) {
            core.unsent(member, now);
        }
    }

    /// Adds to `sent` what became of a message, where it matters.
    fn perform_one(&self, action: Action, sent: &mut Vec<(Arc<Member>, Vec<u64>, bool)>) {
        match action {
            Action::Send { to, envelope } => self.send(to, &envelope, sent),
            Action::Changed { key, change, by } => self.listeners.tell(&key, &change, by),
            Action::Ready => {
                self.ready.send_replace(true);
            }
            Action::Done { .. } => {}
        }
    }

    fn send(&self, to: Vec<Arc<Member>>, envelope: &Envelope, sent: &mut Vec<(Arc<Member>, Vec<u64>, bool)>) {
        let Some(sender) = self.sender.get() else { return };
        if matches!(envelope.message, Body::Hello(_)) {
            return self.greet(sender, to, envelope);
        }
        let own = envelope.own_writes();
        let body = bytes::Bytes::from(envelope.encode());
        let hand = |to: To| {
            let send = || sender.try_send(to, body.clone(), SendOptions::NONE).map(drop);
            contain(&self.name, CHANNEL_PANICKED, send).unwrap_or(Err(SendError::Full))
        };
        let all = hand(to.clone().into());
        let each_by_itself = matches!(all, Err(SendError::Full)) && to.len() > 1;
        for member in to {
            // Whatever it is that cannot be done now may be done when it is tried again.
            let has_room = if each_by_itself { hand((&member).into()).is_ok() } else { all.is_ok() };
            if !own.is_empty() || !has_room {
                sent.push((member, own.clone(), has_room));
            }
        }
    }
}

impl Shared {
    /// A greeting is to be answered by the channel, so that a member that has no such map is not waited for.
    fn greet(&self, sender: &EndpointSender, to: Vec<Arc<Member>>, envelope: &Envelope) {
        let body = bytes::Bytes::from(envelope.encode());
        for member in to {
            // Before it goes: what the other says in between is later.
            let (this, asked_at) = (Weak::clone(&self.this), sender.env().now());
            let Ok(pending) = sender.try_send(&member, body.clone(), SendOptions::SYNC_ACK) else { continue };
            pending.on_complete(move |outcome| {
                if let Some(this) = this.upgrade().filter(|_| !outcome.no_taker.is_empty()) {
                    this.act(|core, now| core.has_no_map(&member, asked_at, now));
                }
            });
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_gathering();
    }
}

impl ChannelEndpoint for Shared {
    fn receive(&self, message: Message, from: &Arc<Member>, lease: Lease) -> Result<(), BoxError> {
        if self.lock().closed {
            return Ok(());
        }
        let envelope = Envelope::decode(message.bytes())?;
        drop(message);
        let Some(now) = self.now() else { return Ok(()) };
        let mut state = self.lock();
        state.core.received(from, envelope, now);
        if state.busy {
            state.leases.push(lease);
        }
        drop(state);
        self.perform();
        Ok(())
    }

    fn member_event(&self, event: &MemberEvent) {
        if self.lock().closed {
            return;
        }
        self.act(|core, now| match event {
            MemberEvent::Added(member) | MemberEvent::Updated(member) => core.member_added(member, now),
            MemberEvent::Removed(member, why) => {
                let on_purpose = matches!(why, Departure::Shutdown | Departure::Stopped);
                core.member_removed(member, on_purpose, now);
            }
            _ => {}
        });
    }
}

#[cfg(feature = "persist")]
impl crate::disk::Source for Shared {
    fn take_batch(&self) -> crate::core::Batch {
        self.lock().core.take_batch()
    }

    fn saved(&self, batch: crate::core::Batch, result: Result<(), BoxError>) {
        match result {
            Ok(()) => {
                let Some(now) = self.now() else { return };
                self.lock().core.batch_saved(batch, now);
                // What comes of it is done by the map's task: this thread is in no runtime.
                self.earlier.notify_one();
            }
            Err(error) => {
                let times = {
                    let mut state = self.lock();
                    state.core.batch_failed(batch);
                    state.core.counts.saves_failed += 1;
                    state.core.counts.saves_failed
                };
                // A full disk would fill the log.
                if times.is_power_of_two() {
                    tracing::error!(map = self.name, error, times, "the map cannot be saved; it is tried again");
                }
            }
        }
    }
}

fn now(env: &Env) -> Now {
    let time = env.now();
    Now { time, wall_ms: u64::try_from(env.wall_ms_at(time)).unwrap_or_default() }
}

/// Sends the writes that wait for company: those that nobody waits for after `linger`, and as soon as somebody waits for one, all
/// that are made while the runtime has something else to do that is ready.
async fn send_gathered(shared: Weak<Shared>, linger: Duration, gathered: Arc<Notify>, env: Env) {
    let look = || {
        let shared = shared.upgrade()?;
        let state = shared.lock();
        (!state.closed).then(|| (state.core.has_unsent(), state.hurries))
    };
    loop {
        gathered.notified().await;
        let Some((has_unsent, hurries)) = look() else { return };
        if !has_unsent {
            continue;
        }
        // It is told again when somebody waits, or the map is closed.
        if linger.is_zero() || hurries || env.until(env.now() + linger, gathered.notified()).await.is_some() {
            // Whoever is ready now has its turn first, and what it writes goes along.
            tokio::task::yield_now().await;
        }
        let Some(shared) = shared.upgrade() else { return };
        if shared.lock().core.has_unsent() {
            shared.act(|_, _| {});
        }
    }
}

/// Wakes the core when it wants to be woken, as long as there is a replica. Holds nothing of it while it sleeps.
async fn keep_time(shared: Weak<Shared>, earlier: Arc<Notify>, env: Env) {
    loop {
        let wake = {
            let Some(shared) = shared.upgrade() else { return };
            if contain(&shared.name, "the map panicked as time passed", || shared.act(Core::tick)).is_none() {
                shared.panicked();
            }
            let mut state = shared.lock();
            // Not at once again, whatever it says: others are to get their turn.
            state.wake = state.core.next_wake().max(env.now() + SHORTEST_SLEEP);
            state.wake
        };
        env.until(wake, earlier.notified()).await;
        let panicked = shared.upgrade().is_some_and(|shared| std::mem::take(&mut shared.lock().panicked));
        if panicked {
            env.sleep(AFTER_PANIC).await;
        }
    }
}
