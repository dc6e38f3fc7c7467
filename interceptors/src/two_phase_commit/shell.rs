//! The layer's state behind a lock, and what comes of its decisions.

use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tribes_core::wire::ExtensionKind;
use tribes_core::{
    Body, ChannelMessage, FaultKind, Inbound, Lease, Link, Member, MemberId, MessageId, Outbound, Outcome, SendError,
    SendOptions, Time,
};

use super::frame::{Decision, Frame, Key};
use super::open::{Ballot, Ended, Open};
use super::outbox::Outbox;
use super::parked::{Act, Shelf, Terms};
use super::records::{RECORDS, Records};
use super::room::Room;
use super::tribes::{First, confirmation};
use super::{NAME, TwoPhaseCommitConfig, Voter};

const ABORTED: &str = "another destination did not vote for the message, so that nobody gets it";

const SPLIT: &str =
    "a layer above sends the message to each destination by itself; put two-phase-commit above message-dispatch";

/// What the hooks, the timer and the callbacks share.
pub(super) struct Shell {
    pub(super) config: TwoPhaseCommitConfig,
    pub(super) voter: Option<Voter>,
    state: Mutex<State>,
    outbox: Arc<Outbox>,
    /// Tells the timer that there is something earlier to wait for.
    wake: Notify,
    /// Told when a message of ours has been decided.
    idle: Notify,
    /// While the channel does not run, no message begins, and none is parked: nobody would release it.
    running: AtomicBool,
    pub(super) votes_against: AtomicU64,
    pub(super) sent_commits: AtomicU64,
    pub(super) sent_aborts: AtomicU64,
}

pub(super) struct State {
    pub(super) open: Open<Outbound>,
    pub(super) shelf: Shelf<Inbound>,
    pub(super) first: First<Inbound>,
    pub(super) room: Room,
}

impl State {
    fn next_tick(&self) -> Time {
        self.open.next_tick().min(self.shelf.next_tick()).min(self.first.next_tick())
    }
}

/// Room of a message that was handed on, until it has been handled.
struct Held {
    shell: Arc<Shell>,
    from: Arc<Member>,
    cost: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shell.lock().room.give_back(&self.from, self.cost);
    }
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shell {
    pub(super) fn new(config: TwoPhaseCommitConfig, voter: Option<Voter>) -> Self {
        Self {
            state: Mutex::new(State {
                open: Open::default(),
                shelf: shelf(&config, MemberId::ZERO, Time::ZERO),
                first: First::new(config.expire),
                room: Room::new(config.max_memory),
            }),
            config,
            voter,
            outbox: Arc::default(),
            wake: Notify::new(),
            idle: Notify::new(),
            running: AtomicBool::new(false),
            votes_against: AtomicU64::new(0),
            sent_commits: AtomicU64::new(0),
            sent_aborts: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells the timer if it has to wake earlier than it thought.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let before = state.next_tick();
        let result = change(&mut state);
        let earlier = state.next_tick() < before;
        drop(state);
        if earlier {
            self.wake.notify_one();
        }
        result
    }

    pub(super) fn start(self: &Arc<Self>, link: &Link) {
        let own = link.local().map_or(MemberId::ZERO, |local| local.id());
        let now = link.env().now();
        self.lock().shelf = shelf(&self.config, own, now);
        self.running.store(true, Ordering::Release);
        let (shell, task_link) = (Arc::clone(self), link.clone());
        link.spawn(async move {
            loop {
                let next = shell.lock().next_tick();
                tokio::select! {
                    biased;
                    () = shell.wake.notified() => {}
                    () = task_link.env().sleep_until(next) => shell.tick(&task_link).await,
                }
            }
        });
    }

    /// Asked under the lock: what is parked before the stop takes everything out is among that.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Lets what is on its way be decided, until `deadline`; the rest is given up.
    pub(super) async fn stop(self: &Arc<Self>, link: &Link, deadline: Time) {
        self.running.store(false, Ordering::Release);
        let env = link.env();
        let half = env.now() + deadline.since(env.now()) / 2;
        let decided = async {
            loop {
                let idle = self.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if self.lock().open.len() == 0 {
                    return;
                }
                idle.await;
            }
        };
        env.until(half, decided).await;
        self.end(link, |state| state.open.clear(), Some(&FaultKind::Stopped));
        self.outbox.drain(env, deadline).await;
        let (acts, parked) = self.change(|state| (state.shelf.clear(), state.first.clear()));
        let _nothing_to_hand_on = self.perform(link, acts);
        self.forget(parked);
    }

    async fn tick(self: &Arc<Self>, link: &Link) {
        let now = link.env().now();
        let late = FaultKind::AckTimeout(self.config.timeout);
        self.end(link, |state| state.open.tick(now, &late), None);
        let (acts, expired) = self.change(|state| (state.shelf.tick(now), state.first.tick(now)));
        self.forget(expired);
        for message in self.perform(link, acts) {
            if let Err(error) = link.receive(message).await {
                tracing::debug!(%error, "a message that was committed is refused");
            }
        }
    }

    fn forget(&self, messages: Vec<(Inbound, Arc<Member>, usize)>) {
        for (message, from, cost) in messages {
            tracing::debug!(%from, id = %message.message.id, "a message was never confirmed");
            self.lock().room.give_back(&from, cost);
        }
    }

    /// Begins `out`; its first phase, to be sent, and what names it.
    pub(super) fn begin(self: &Arc<Self>, link: &Link, mut out: Outbound) -> Result<(Key, Vec<Outbound>), SendError> {
        if !self.running.load(Ordering::Acquire) {
            return Err(SendError::Stopped);
        }
        let refuse = |source| SendError::Layer { layer: NAME, source };
        if out.to.is_empty() {
            return Err(refuse("nobody can vote for a multicast; send it to the members".into()));
        }
        let sender = out.message.sender.id();
        let key = Key::new(sender, &out.message.id).ok_or_else(|| refuse("its id has not 16 bytes".into()))?;
        let votes = |member: &Member| sender.is_ours() && member.id().is_ours();
        let body = std::mem::take(&mut out.message.body);
        let mut message = ChannelMessage { body, ..out.message.clone() };
        let mut prepare = message.clone();
        // So that it is parked when it is acknowledged, and no confirmation can overtake it.
        message.options |= SendOptions::SYNC_ACK;
        let parties: Vec<_> = out.members().filter(|member| votes(member)).map(|member| member.id()).collect();
        if !parties.is_empty() {
            let added_ack = !prepare.options.contains(SendOptions::USE_ACK);
            prepare.options |= SendOptions::USE_ACK;
            let frame = Frame::Prepare { added_ack, vote: self.config.timeout, parties };
            let added = prepare.add_extension(ExtensionKind::TWO_PHASE_COMMIT, frame.encode());
            added.map_err(|too_many| refuse(too_many.into()))?;
        }
        let (mut phases, mut pending): ([Option<Outbound>; 2], Vec<_>) = ([None, None], Vec::new());
        for destination in &mut out.to {
            let member = Arc::clone(destination.member());
            let ours = votes(&member);
            let message = if ours { &prepare } else { &message };
            // One message to all, so that it is encoded once; but each outcome is known as soon as it can be.
            let (mut single, outcome) = Outbound::new(message.clone(), slice::from_ref(&member));
            for first in &mut single.to {
                first.reservation = destination.reservation.take();
            }
            pending.push((member, ours, outcome));
            let [of_ours, of_java] = &mut phases;
            match if ours { of_ours } else { of_java } {
                Some(phase) => phase.to.append(&mut single.to),
                phase => {
                    single.may_wait = out.may_wait;
                    *phase = Some(single);
                }
            }
        }
        let members: Vec<_> = out.members().cloned().collect();
        let deadline = link.env().now() + self.config.timeout;
        if self.lock().open.contains(&key) {
            out.fail(&FaultKind::Dropped { by: NAME, reason: SPLIT });
            return Err(refuse(SPLIT.into()));
        }
        let back = self.change(|state| state.open.begin(key, out, members, deadline));
        if let Some(out) = back {
            out.fail(&FaultKind::QueueFull);
            return Err(refuse("too many messages wait for votes".into()));
        }
        for (member, ours, outcome) in pending {
            let (shell, link) = (Arc::clone(self), link.clone());
            outcome.on_complete(move |outcome| shell.first_phase(&link, key, &member, ours, &outcome));
        }
        Ok((key, phases.into_iter().flatten().collect()))
    }

    /// A destination has got the first phase, or not. Those of ours vote by a message of their own.
    fn first_phase(self: &Arc<Self>, link: &Link, key: Key, member: &Member, ours: bool, outcome: &Outcome) {
        let fault = outcome.faults.first().map(|fault| fault.kind.clone());
        let vote = match fault {
            Some(fault) => Err(fault),
            None if ours => return,
            None => Ok(()),
        };
        self.vote(link, key, member, vote);
    }

    pub(super) fn vote(self: &Arc<Self>, link: &Link, key: Key, by: &Member, vote: Result<(), FaultKind>) {
        self.end(link, |state| state.open.vote(&key, by, vote), None);
    }

    /// Gives up a message whose first phase could not be sent.
    pub(super) fn abandon(self: &Arc<Self>, link: &Link, key: Key) {
        self.end(link, |state| state.open.abandon(&key), None);
    }

    /// Does what follows for those that `decide` ends. Those that nobody voted against failed because of `why`.
    pub(super) fn end(
        self: &Arc<Self>,
        link: &Link,
        decide: impl FnOnce(&mut State) -> Vec<Ended<Outbound>>,
        why: Option<&FaultKind>,
    ) {
        let now = link.env().now();
        let mut failed = Vec::new();
        self.change(|state| {
            for ended in decide(state) {
                let decision = if ended.commit { Decision::Commit } else { Decision::Abort };
                state.shelf.records.note(ended.key, decision, now);
                // With the lock held, so that the second phases go in the order of the decisions. It calls nobody.
                if ended.commit {
                    self.sent_commits.fetch_add(1, Ordering::Relaxed);
                    failed.extend(self.commit(link, ended).into_iter().map(|out| (out, FaultKind::QueueFull)));
                } else {
                    self.sent_aborts.fetch_add(1, Ordering::Relaxed);
                    self.abort(link, ended, why, &mut failed);
                }
            }
        });
        for (out, kind) in failed {
            out.fail(&kind);
        }
        self.idle.notify_waiters();
    }

    /// Tells all destinations of `ended` to commit; those that cannot be told.
    fn commit(&self, link: &Link, ended: Ended<Outbound>) -> Vec<Outbound> {
        let Ended { key, message: out, .. } = ended;
        let ours = out.message.sender.id().is_ours();
        let new = |out: &Outbound| ChannelMessage { id: MessageId::generate(link.env()), ..out.message.clone() };
        let mut confirm = new(&out);
        confirm.body = confirmation(&out.message.id);
        let mut decide = new(&out);
        decide.options |= SendOptions::USE_ACK;
        let frame = Frame::Decide(Decision::Commit, key).encode();
        // It fits: there is nothing else.
        let _ = decide.add_extension(ExtensionKind::TWO_PHASE_COMMIT, frame);
        let tell = |mut single: Outbound| {
            let to = single.members().next().cloned()?;
            single.message = if ours && to.id().is_ours() { decide.clone() } else { confirm.clone() };
            single.may_wait = true;
            self.outbox.push(link, &to, single)
        };
        out.into_singles().filter_map(tell).collect()
    }

    fn abort(
        &self,
        link: &Link,
        ended: Ended<Outbound>,
        why: Option<&FaultKind>,
        failed: &mut Vec<(Outbound, FaultKind)>,
    ) {
        let Ended { key, message: out, votes, .. } = ended;
        for (single, (member, ballot)) in out.into_singles().zip(votes) {
            let left = ballot == Ballot::No(FaultKind::Left);
            if key.coordinator.is_ours() && member.id().is_ours() && !left {
                self.tell(link, &member, &Frame::Decide(Decision::Abort, key));
            }
            let kind = match (ballot, why) {
                (Ballot::No(kind), _) => kind,
                (_, Some(why)) => why.clone(),
                _ => FaultKind::Dropped { by: NAME, reason: ABORTED },
            };
            failed.push((single, kind));
        }
    }

    /// Sends a frame of this layer's own. One that cannot be sent now is asked for again, or missed until it is late.
    pub(super) fn tell(&self, link: &Link, to: &Arc<Member>, frame: &Frame) {
        let options = SendOptions::BYTE_MESSAGE | self.config.trigger;
        let Some(mut message) = link.message(Body::default(), options) else { return };
        // It fits: there is nothing else.
        let _ = message.add_extension(ExtensionKind::TWO_PHASE_COMMIT, frame.encode());
        let (out, _outcome) = Outbound::new(message, slice::from_ref(to));
        drop(self.outbox.push(link, to, out));
    }

    /// Performs what was decided here, up to the messages that are to be handed on, in their order.
    pub(super) fn perform(self: &Arc<Self>, link: &Link, acts: Vec<Act<Inbound>>) -> Vec<Inbound> {
        let mut released = Vec::new();
        for act in acts {
            match act {
                Act::Tell { to, frame } => self.tell(link, &to, &frame),
                Act::Answer { carrier, done: true } => carrier.receipt.accept(),
                Act::Answer { carrier, done: false } => super::refuse(carrier, super::NOT_HERE),
                Act::Discard { message, from, cost } => {
                    tracing::debug!(%from, id = %message.message.id, "a message was given up by its group");
                    self.lock().room.give_back(&from, cost);
                }
                Act::Release { message, from, cost, carrier } => {
                    released.push(self.release(message, from, cost, carrier));
                }
            }
        }
        released
    }

    /// A message that was parked, with the answer that the frame carries which releases it.
    pub(super) fn release(
        self: &Arc<Self>,
        mut message: Inbound,
        from: Arc<Member>,
        cost: usize,
        carrier: Option<Inbound>,
    ) -> Inbound {
        if let Some(carrier) = carrier {
            message.receipt = carrier.receipt;
            message.lease = carrier.lease;
        }
        self.hold(message, from, cost)
    }

    /// The same message with the room that was taken for it.
    pub(super) fn hold(self: &Arc<Self>, mut message: Inbound, from: Arc<Member>, cost: usize) -> Inbound {
        message.lease.join(Lease::new(Held { shell: Arc::clone(self), from, cost }));
        message
    }
}

fn shelf(config: &TwoPhaseCommitConfig, own: MemberId, now: Time) -> Shelf<Inbound> {
    let terms = Terms { ask_every: config.ask_every(), expire: config.expire };
    Shelf::new(own, terms, Records::new(config.remember(), config.timeout, RECORDS, now))
}
