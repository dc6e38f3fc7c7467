//! The stack of layers and the walk through it.
//!
//! | file | idea |
//! |---|---|
//! | `pipeline` | the stack: its layers, what they count, membership events, the heartbeat |
//! | `pipeline/down` | the walk down: `Channel::send` enters at `Stack::send_now` with layer 0 |
//! | `pipeline/up` | the walk up: a receiver enters at `Stack::receive_batch_from` below the last layer |
//! | `pipeline/next`, `pipeline/link` | how a layer continues a walk: at once, and later |
//! | `pipeline/guard` | panics of a layer become errors |
//!
//! Neighbours of the synchronous form are run in a loop; an asynchronous layer gets a [`Next`] and continues the walk by
//! it.

mod down;
mod guard;
mod link;
mod next;
#[cfg(test)]
mod tests;
mod up;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

pub(crate) use down::Walk;
pub(crate) use guard::{catch, catch_now};
pub use link::Link;
pub use next::Next;

use crate::budget::Budget;
use crate::delivery::{Inbound, Observer, Outcome, OutcomeObserver};
use crate::env::TaskHandle;
use crate::interceptor::{Cx, EventVerdict, Interest, Layer, WireEffect};
use crate::member::MemberEvent;
use crate::stats::{FlowCounters, LayerStats};
use crate::transport::{ChannelReceiver, ChannelSender, MembershipService};
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
    /// Membership was stopped: nobody whom its service raised before this is in the group any more; nobody at all, if the
    /// layers were stopped, too.
    Stopped {
        /// Whether they were.
        layers_too: bool,
        /// Told when all of that has been seen.
        seen: oneshot::Sender<()>,
    },
    /// What was raised before this has been seen.
    Seen(oneshot::Sender<()>),
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

/// What a synchronous layer decided, without the message's type.
enum Step<M> {
    Go(M),
    Many(Vec<M>),
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

    /// Queues `event` to go up from `place`. Events are few: services bound how many members they know.
    pub(crate) fn raise(&self, place: usize, event: MemberEvent) {
        // The queue is gone only when the channel is.
        let _ = self.events.send(Raised::Event { place, event });
    }

    /// Queues the end of the group behind all events so far, also those that a layer is still looking into; the receiver
    /// ends when it has been seen.
    pub(crate) fn raise_stopped(&self, layers_too: bool) -> oneshot::Receiver<()> {
        let (seen, wait) = oneshot::channel();
        let _ = self.events.send(Raised::Stopped { layers_too, seen });
        wait
    }

    /// Has `seen` told when all events so far have been seen.
    pub(crate) fn raise_seen(&self, seen: oneshot::Sender<()>) {
        let _ = self.events.send(Raised::Seen(seen));
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
