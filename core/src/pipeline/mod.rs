//! The stack of layers and the walk through it.
//!
//! `Channel::send` enters at `Stack::send_from` with layer 0; a receiver enters at `Stack::receive_from` below the last
//! layer. Neighbours of the synchronous form are run in the loop of these two functions; an asynchronous layer gets a
//! [`Next`] and continues the walk by it.

mod guard;
mod link;
mod next;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

pub(crate) use guard::{catch, catch_now};
pub use link::Link;
pub use next::Next;

use crate::budget::Budget;
use crate::delivery::{Inbound, Observer, Outbound, Outcome, OutcomeObserver};
use crate::env::TaskHandle;
use crate::error::{FaultKind, ReceiveError, SendError};
use crate::interceptor::{Cx, EventVerdict, Interest, Layer, Readiness, SyncInterceptor, Verdict, WireEffect};
use crate::member::MemberEvent;
use crate::stats::{FlowCounters, LayerStats};
use crate::transport::{ChannelReceiver, ChannelSender, MembershipService, is_multicast};
use crate::{Env, Member, SendOptions, Time};

/// What stands above layer 0.
pub(crate) trait Top: Send + Sync {
    /// The first `count` messages of `batch` came all the way up: takes them out of it. Never waits. How many were refused;
    /// they have answered.
    fn deliver(&self, batch: &mut Vec<Inbound>, count: usize) -> usize;
    /// A membership event came all the way up.
    fn member_event(&self, event: MemberEvent);
}

/// The layers of one channel with what stands below them.
pub(crate) struct Stack {
    slots: Box<[Slot]>,
    pub(crate) sender: Arc<dyn ChannelSender>,
    pub(crate) receiver: Arc<dyn ChannelReceiver>,
    pub(crate) membership: Arc<dyn MembershipService>,
    pub(crate) env: Env,
    pub(crate) budget: Budget,
    pub(crate) local: ArcSwap<Member>,
    top: OnceLock<Box<dyn Top>>,
    events: mpsc::UnboundedSender<Raised>,
    tasks: Mutex<Vec<TaskHandle>>,
    /// Whether any layer wants outcomes, and whether one wants each of them.
    observed: Option<bool>,
    /// Whether messages are counted and timed.
    telemetry: bool,
}

/// What waits for the channel's one event task.
pub(crate) enum Raised {
    /// A membership event and the place from which it goes up.
    Event {
        /// The place.
        place: usize,
        /// The event.
        event: MemberEvent,
    },
    /// Membership was stopped: nobody who was raised before this is in the group any more. Told when that is seen.
    Stopped(oneshot::Sender<()>),
}

/// One layer in its place.
struct Slot {
    layer: Layer,
    name: &'static str,
    interest: Interest,
    trigger: SendOptions,
    wire: WireEffect,
    /// Whether any layer below may wait on the way down.
    below_waits: bool,
    link: OnceLock<Link>,
    down: FlowCounters,
    up: FlowCounters,
    member_events: AtomicU64,
}

impl Slot {
    fn new(layer: Layer) -> Self {
        Self {
            name: layer.name(),
            interest: layer.interest(),
            trigger: layer.trigger(),
            wire: layer.wire(),
            below_waits: false,
            layer,
            link: OnceLock::new(),
            down: FlowCounters::default(),
            up: FlowCounters::default(),
            member_events: AtomicU64::new(0),
        }
    }

    /// Whether the layer is called for a message with these options on this hook; and if so, whether its trigger matches.
    fn called(&self, hook: Interest, options: SendOptions) -> Option<bool> {
        let matches = options.contains(self.trigger);
        (self.interest.contains(hook) && (matches || self.interest.contains(Interest::SEES_ALL))).then_some(matches)
    }

    fn stats(&self) -> LayerStats {
        LayerStats {
            name: self.name,
            down: self.down.snapshot(),
            up: self.up.snapshot(),
            member_events: self.member_events.load(Ordering::Relaxed),
            gauges: self.layer.gauges(),
        }
    }
}

/// What a synchronous layer made of a message on its way up; its text if it panicked.
type SyncResult = Result<Verdict<Inbound>, String>;

/// What a synchronous layer decided, without the message's type.
enum Step<M> {
    Go(M),
    Many(Vec<M>),
}

/// How far a message came without waiting.
pub(crate) enum Walk {
    /// All the way, or to its end.
    Done(Result<(), SendError>),
    /// To the layer at `at`, which may wait.
    Layer { at: usize, out: Outbound, matches: bool, started: Option<Time> },
    /// To the transport, which has no room for these.
    Transport(Outbound),
    /// It is several now, which go on at `at`.
    Parts { at: usize, parts: Vec<Outbound> },
    /// Members that cannot read what the layer at `at` does are passed by it.
    Divided { at: usize, ours: Option<Outbound>, java: Outbound },
}

impl Stack {
    #[allow(clippy::too_many_arguments, reason = "the parts of a channel, given once")]
    pub(crate) fn new(
        layers: Vec<Layer>,
        sender: Arc<dyn ChannelSender>,
        receiver: Arc<dyn ChannelReceiver>,
        membership: Arc<dyn MembershipService>,
        env: Env,
        budget: Budget,
        local: Arc<Member>,
        events: mpsc::UnboundedSender<Raised>,
        telemetry: bool,
    ) -> Arc<Self> {
        let mut slots: Box<[Slot]> = layers.into_iter().map(Slot::new).collect();
        let mut below_waits = !sender.is_prompt();
        for slot in slots.iter_mut().rev() {
            slot.below_waits = below_waits;
            below_waits |= matches!(slot.layer, Layer::Async(_)) && slot.interest.contains(Interest::SEND);
        }
        let wanted = |hook| slots.iter().any(|slot| slot.interest.contains(hook));
        let every = wanted(Interest::OUTCOME);
        let observed = (every || wanted(Interest::FAULTS)).then_some(every);
        let stack = Arc::new(Self {
            slots,
            sender,
            receiver,
            membership,
            env,
            budget,
            local: ArcSwap::new(local),
            top: OnceLock::new(),
            events,
            tasks: Mutex::default(),
            observed,
            telemetry,
        });
        for (place, slot) in stack.slots.iter().enumerate() {
            let _ = slot.link.set(Link::new(&stack, place));
        }
        stack
    }

    pub(crate) fn set_top(&self, top: Box<dyn Top>) {
        let _ = self.top.set(top);
    }

    /// The place below the last layer: that of transports and membership.
    pub(crate) fn bottom(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, &Layer)> {
        self.slots.iter().map(|slot| &slot.layer).enumerate()
    }

    pub(crate) fn link(self: &Arc<Self>, place: usize) -> Link {
        Link::new(self, place)
    }

    pub(crate) fn observer(self: &Arc<Self>) -> Option<Observer> {
        self.observed.map(|every| Observer { to: Arc::downgrade(self) as Weak<dyn OutcomeObserver>, every })
    }

    pub(crate) fn layer_stats(&self) -> Vec<LayerStats> {
        self.slots.iter().map(Slot::stats).collect()
    }

    /// Sends `out` through the layers from `place` on and hands it to the transport.
    pub(crate) async fn send_from(&self, place: usize, out: Outbound) -> Result<(), SendError> {
        self.send_rest(self.send_now(place, out)).await
    }

    /// Goes on where something has to wait.
    pub(crate) async fn send_rest(&self, walk: Walk) -> Result<(), SendError> {
        match walk {
            Walk::Done(result) => result,
            Walk::Layer { at, out, matches, started } => self.send_async(at, out, matches, started).await,
            Walk::Transport(out) if is_multicast(out.message.options) => self.membership.broadcast(out).await,
            Walk::Transport(out) => self.sender.send(out).await,
            Walk::Parts { at, parts } => {
                for part in parts {
                    Box::pin(self.send_from(at, part)).await?;
                }
                Ok(())
            }
            Walk::Divided { at, ours, java } => {
                Box::pin(self.send_from(at + 1, java)).await?;
                match ours {
                    Some(ours) => Box::pin(self.send_from(at, ours)).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Takes `out` as far down as it gets without waiting, which is nearly always all the way: no future is made for that.
    pub(crate) fn send_now(&self, place: usize, mut out: Outbound) -> Walk {
        for (at, slot) in self.slots.iter().enumerate().skip(place) {
            let Some(matches) = slot.called(Interest::SEND, out.message.options) else { continue };
            if slot.wire == WireEffect::Ours
                && let Some(java) = out.extract(|member| !member.id().is_ours())
            {
                slot.down.passed_by();
                let ours = (!out.to.is_empty()).then_some(out);
                return Walk::Divided { at, ours, java };
            }
            let timed = self.telemetry && slot.down.enter(out.len());
            let started = timed.then(|| self.env.now());
            let Some(link) = slot.link.get() else { return Walk::Done(Err(SendError::Stopped)) };
            let mut cx = Cx::new(matches, link, slot.below_waits);
            let verdict = match &slot.layer {
                Layer::Sync(layer) => catch_now(|| layer.send(&mut out, &mut cx)),
                Layer::Async(layer) => match catch_now(|| layer.send_now(&mut out, &mut cx)) {
                    Ok(Readiness::Pass) => Ok(Verdict::Pass),
                    Ok(Readiness::Wait) => return Walk::Layer { at, out, matches, started },
                    Err(text) => Err(text),
                },
            };
            if let Some(started) = started {
                slot.down.took(self.env.now() - started);
            }
            if matches!(verdict, Ok(Verdict::Pass)) {
                // The usual case: the message is not even moved.
                continue;
            }
            match self.down_step(slot, verdict, out) {
                Err(error) => return Walk::Done(Err(error)),
                Ok(None) => return Walk::Done(Ok(())),
                Ok(Some(Step::Go(next))) => out = next,
                Ok(Some(Step::Many(parts))) => return Walk::Parts { at: at + 1, parts },
            }
        }
        if is_multicast(out.message.options) {
            return Walk::Transport(out);
        }
        match self.sender.send_now(out) {
            Ok(None) => Walk::Done(Ok(())),
            Ok(Some(rest)) => Walk::Transport(rest),
            Err(error) => Walk::Done(Err(error)),
        }
    }

    /// Has the asynchronous layer at `at` send `out`.
    async fn send_async(
        &self,
        at: usize,
        mut out: Outbound,
        matches: bool,
        started: Option<Time>,
    ) -> Result<(), SendError> {
        // The layer may keep it: then nobody has looked at the clock.
        out.at = Time::ZERO;
        let Some(Slot { layer: Layer::Async(layer), name, down, .. }) = self.slots.get(at) else {
            return Err(SendError::Stopped);
        };
        let beyond = AtomicU64::new(0);
        let next = Next::new(self, at, matches, started.map(|_| &beyond));
        let result = catch(layer.send(out, next)).await;
        if let Some(started) = started {
            let beyond = Duration::from_nanos(beyond.load(Ordering::Relaxed));
            down.took((self.env.now() - started).saturating_sub(beyond));
        }
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                down.failed("refused");
                Err(error)
            }
            Err(text) => {
                down.failed("panicked");
                Err(SendError::Panicked { layer: name, text })
            }
        }
    }

    fn down_step(
        &self,
        slot: &Slot,
        verdict: Result<Verdict<Outbound>, String>,
        out: Outbound,
    ) -> Result<Option<Step<Outbound>>, SendError> {
        match verdict {
            Ok(Verdict::Pass) => Ok(Some(Step::Go(out))),
            Ok(Verdict::Replace(other)) => Ok(Some(Step::Go(other))),
            Ok(Verdict::Many(parts)) => Ok(Some(Step::Many(parts))),
            Ok(Verdict::Drop(reason)) => {
                slot.down.dropped(reason);
                out.fail(&FaultKind::Dropped { by: slot.name, reason });
                Ok(None)
            }
            Ok(Verdict::Refuse(source)) => {
                slot.down.failed("refused");
                Err(SendError::Layer { layer: slot.name, source })
            }
            Err(text) => {
                slot.down.failed("panicked");
                Err(SendError::Panicked { layer: slot.name, text })
            }
        }
    }

    /// Takes `msg` up through the layers above `place` and delivers it.
    pub(crate) async fn receive_from(&self, place: usize, mut msg: Inbound) -> Result<(), ReceiveError> {
        for (at, slot) in self.slots.iter().enumerate().take(place).rev() {
            let Some(matches) = slot.called(Interest::RECEIVE, msg.message.options) else { continue };
            if slot.wire == WireEffect::Ours && !msg.from().id().is_ours() {
                slot.up.passed_by();
                continue;
            }
            match &slot.layer {
                Layer::Sync(layer) => match self.call_up(slot, &**layer, &mut msg, matches) {
                    // The usual case: the message is not even moved.
                    Ok(Verdict::Pass) => {}
                    verdict => return self.receive_from_step(at, verdict, msg).await,
                },
                Layer::Async(layer) => {
                    let timed = self.telemetry && slot.up.enter(msg.message.body.len());
                    let beyond = AtomicU64::new(0);
                    let started = timed.then(|| self.env.now());
                    let next = Next::new(self, at, matches, timed.then_some(&beyond));
                    let result = catch(layer.receive(msg, next)).await;
                    if let Some(started) = started {
                        let own = (self.env.now() - started)
                            .saturating_sub(Duration::from_nanos(beyond.load(Ordering::Relaxed)));
                        slot.up.took(own);
                    }
                    return match result {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(error)) => {
                            slot.up.failed("refused");
                            Err(error)
                        }
                        Err(text) => {
                            slot.up.failed("panicked");
                            Err(ReceiveError::Panicked { layer: slot.name, text })
                        }
                    };
                }
            }
        }
        match self.deliver(&mut vec![msg], 1) {
            0 => Ok(()),
            _ => Err(ReceiveError::Stopped),
        }
    }

    /// Takes the messages of `batch` up, as [`receive_from`](Self::receive_from) does one after another. How many were
    /// refused.
    pub(crate) async fn receive_batch_from(&self, place: usize, batch: &mut Vec<Inbound>) -> usize {
        let mut refused = 0;
        let waits = |slot: &Slot| slot.interest.contains(Interest::RECEIVE) && matches!(slot.layer, Layer::Async(_));
        if self.slots.iter().take(place).any(waits) {
            for msg in batch.drain(..) {
                refused += usize::from(self.receive_from(place, msg).await.is_err());
            }
            return refused;
        }
        let mut passed = 0;
        while let Some(msg) = batch.get_mut(passed) {
            let Some((at, verdict)) = self.pass_up(place, msg) else {
                passed += 1;
                continue;
            };
            // What came before it goes first.
            refused += self.deliver(batch, passed);
            passed = 0;
            let Some(msg) = batch.drain(..1).next() else { break };
            refused += usize::from(self.receive_from_step(at, verdict, msg).await.is_err());
        }
        refused + self.deliver(batch, passed)
    }

    fn deliver(&self, batch: &mut Vec<Inbound>, count: usize) -> usize {
        match self.top.get() {
            Some(top) => top.deliver(batch, count),
            None => batch.drain(..count).len(),
        }
    }

    /// Takes `msg` in place through synchronous layers, up to the first that does not just pass it on; that is returned.
    fn pass_up(&self, place: usize, msg: &mut Inbound) -> Option<(usize, SyncResult)> {
        for (at, slot) in self.slots.iter().enumerate().take(place).rev() {
            let Some(matches) = slot.called(Interest::RECEIVE, msg.message.options) else { continue };
            if slot.wire == WireEffect::Ours && !msg.from().id().is_ours() {
                slot.up.passed_by();
                continue;
            }
            let Layer::Sync(layer) = &slot.layer else { continue };
            let verdict = self.call_up(slot, &**layer, msg, matches);
            if !matches!(verdict, Ok(Verdict::Pass)) {
                return Some((at, verdict));
            }
        }
        None
    }

    /// Calls a synchronous layer with a message on its way up, counted and timed.
    fn call_up(&self, slot: &Slot, layer: &dyn SyncInterceptor, msg: &mut Inbound, matches: bool) -> SyncResult {
        let timed = self.telemetry && slot.up.enter(msg.message.body.len());
        let started = timed.then(|| self.env.now());
        let Some(link) = slot.link.get() else { return Ok(Verdict::Refuse("the channel is gone".into())) };
        let verdict = catch_now(|| layer.receive(msg, &mut Cx::new(matches, link, slot.below_waits)));
        if let Some(started) = started {
            slot.up.took(self.env.now() - started);
        }
        verdict
    }

    /// What follows when the layer at `at` did not just pass the message on.
    async fn receive_from_step(&self, at: usize, verdict: SyncResult, msg: Inbound) -> Result<(), ReceiveError> {
        let Some(slot) = self.slots.get(at) else { return Ok(()) };
        match self.up_step(slot, verdict, msg)? {
            None => Ok(()),
            Some(Step::Go(next)) => Box::pin(self.receive_from(at, next)).await,
            Some(Step::Many(parts)) => {
                for part in parts {
                    Box::pin(self.receive_from(at, part)).await?;
                }
                Ok(())
            }
        }
    }

    fn up_step(&self, slot: &Slot, verdict: SyncResult, msg: Inbound) -> Result<Option<Step<Inbound>>, ReceiveError> {
        match verdict {
            Ok(Verdict::Pass) => Ok(Some(Step::Go(msg))),
            Ok(Verdict::Replace(other)) => Ok(Some(Step::Go(other))),
            Ok(Verdict::Many(parts)) => Ok(Some(Step::Many(parts))),
            Ok(Verdict::Drop(reason)) => {
                slot.up.dropped(reason);
                msg.receipt.accept();
                Ok(None)
            }
            Ok(Verdict::Refuse(source)) => {
                slot.up.failed("refused");
                let error = ReceiveError::Refused { layer: slot.name, reason: source.to_string() };
                msg.receipt.resolve(crate::delivery::Handled::Failed(error.to_string()));
                Err(error)
            }
            Err(text) => {
                slot.up.failed("panicked");
                let error = ReceiveError::Panicked { layer: slot.name, text };
                msg.receipt.resolve(crate::delivery::Handled::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    /// Queues `event` to go up from `place`. Events are few: services bound how many members they know.
    pub(crate) fn raise(&self, place: usize, event: MemberEvent) {
        // The queue is gone only when the channel is.
        let _ = self.events.send(Raised::Event { place, event });
    }

    /// Queues the end of the group behind all events so far, also those that a layer is still looking into; the receiver
    /// ends when it has been seen.
    pub(crate) fn raise_stopped(&self) -> oneshot::Receiver<()> {
        let (seen, wait) = oneshot::channel();
        let _ = self.events.send(Raised::Stopped(seen));
        wait
    }

    pub(crate) async fn event_from(&self, place: usize, event: MemberEvent) {
        for (at, slot) in self.slots.iter().enumerate().take(place).rev() {
            if !slot.interest.contains(Interest::MEMBERS) {
                continue;
            }
            slot.member_events.fetch_add(1, Ordering::Relaxed);
            match &slot.layer {
                Layer::Sync(layer) => {
                    let Some(link) = slot.link.get() else { return };
                    match catch_now(|| layer.member_event(&event, &mut Cx::new(true, link, slot.below_waits))) {
                        Ok(EventVerdict::Pass) => {}
                        Ok(EventVerdict::Swallow) => return,
                        // A layer that panics over an event has no say in it: membership goes on.
                        Err(text) => self.event_panicked(slot, &text),
                    }
                }
                Layer::Async(layer) => {
                    let next = Next::new(self, at, true, None);
                    match catch(layer.member_event(event.clone(), next)).await {
                        Ok(()) => return,
                        Err(text) => self.event_panicked(slot, &text),
                    }
                }
            }
        }
        if let Some(top) = self.top.get() {
            top.member_event(event);
        }
    }

    fn event_panicked(&self, slot: &Slot, text: &str) {
        slot.up.failed("panicked");
        tracing::error!(layer = slot.name, panic = text, "layer panicked over a membership event");
    }

    /// Visits every layer, top first; a layer that panics does not keep the others from their turn.
    pub(crate) async fn heartbeat(&self, now: Time) {
        for (at, slot) in self.slots.iter().enumerate() {
            if !slot.interest.contains(Interest::HEARTBEAT) {
                continue;
            }
            let result = match &slot.layer {
                Layer::Sync(layer) => catch_now(|| layer.heartbeat(now)),
                Layer::Async(layer) => catch(layer.heartbeat(now, Next::new(self, at, true, None))).await,
            };
            if let Err(panic) = result {
                slot.down.failed("heartbeat panicked");
                tracing::error!(layer = slot.name, panic, "layer panicked in its heartbeat");
            }
        }
        self.sender.heartbeat(now).await;
        self.membership.heartbeat(now).await;
    }

    /// Runs `task` until it ends or the channel stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.env.spawn(task);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= 64 && tasks.len().is_power_of_two() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(handle);
    }

    /// Ends all tasks and waits until they are gone, until `limit`: one that blocks its thread cannot be ended.
    pub(crate) async fn end_tasks(&self, limit: Time) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in &tasks {
            task.abort();
        }
        let gone = async {
            for mut task in tasks {
                task.ended().await;
            }
        };
        if self.env.until(limit, gone).await.is_none() {
            tracing::warn!("a task does not end: a listener or layer blocks its thread");
        }
    }
}

impl OutcomeObserver for Stack {
    fn outcome(&self, outcome: &Outcome) {
        let failed = !outcome.faults.is_empty();
        let wants = |slot: &&Slot| {
            slot.interest.contains(Interest::OUTCOME) || (failed && slot.interest.contains(Interest::FAULTS))
        };
        for slot in self.slots.iter().filter(wants) {
            if let Err(panic) = catch_now(|| slot.layer.outcome(outcome)) {
                slot.down.failed("outcome panicked");
                tracing::error!(layer = slot.name, panic, "layer panicked over an outcome");
            }
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slots.iter().map(|slot| slot.name)).finish()
    }
}
