//! The channel: an application's way into the group.
//!
//! ```text
//!  listeners, streams          one FIFO per sender stands before them      dispatch.rs
//!  Channel (a cheap handle)    send · listen · start · stop                mod.rs, lifecycle.rs
//!  layer 1 … layer N           the pipeline                                ../pipeline
//!  sender · receiver · membership                                          ../transport.rs
//! ```

mod builder;
mod check;
mod dispatch;
mod lifecycle;
mod listener;
mod placement;
mod stream;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

pub use builder::ChannelBuilder;
pub use listener::{Batch, ChannelListener, ListenerHandle, MembershipListener};
pub use stream::{MemberEvents, Messages};
pub use target::To;

use crate::delivery::{Audience, Outbound, Pending};
use crate::error::{BoxError, FaultKind, SendError};
use crate::member::{Departure, MemberEvent};
use crate::message::{self, Body, ChannelMessage, MessageId};
use crate::pipeline::{Raised, Stack, Walk, catch};
use crate::stats::{ChannelStats, FlowCounters, LayerStats};
use crate::{AckMode, Member, Message, SendOptions, View};

/// A process's membership in a group: sends messages to members, receives theirs, knows who is there. A cheap handle; all
/// clones are the same channel. When the last one is dropped, the channel ends as by a crash: call
/// [`stop`](Self::stop) to leave in order.
///
/// # Guarantees
/// - **Order**: what one task sends to one member arrives in that order, across all options but `udp` and `multicast`.
///   Different members are served in parallel; a slow or dead one never delays another.
/// - **Delivery**: between our own nodes each accepted message arrives at most once, and exactly once unless its outcome
///   says otherwise, also over a broken connection. Towards Java one retry is made after a broken connection, so a
///   duplicate is possible.
/// - **Outcome**: every accepted message ends in one outcome that names each member that failed and why.
/// - **Memory**: what waits for members is bounded by the [`Budget`](crate::Budget), what waits for listeners by the
///   receiver.
///
/// Not guaranteed: order between different senders; that members agree on who is in the group; that several members get a
/// message or none.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

/// A [`Channel`] that does not keep it alive.
#[derive(Clone, Default)]
pub struct WeakChannel(Weak<Inner>);

/// The shared state of a channel.
pub(crate) struct Inner {
    stack: Arc<Stack>,
    name: Option<String>,
    options: SendOptions,
    settings: lifecycle::Settings,
    lifecycle: tokio::sync::Mutex<lifecycle::State>,
    /// Not while a start is at the layers: membership events wait until it has been at all of them.
    layers_started: watch::Sender<bool>,
    running: lifecycle::Running,
    view: ArcSwap<View>,
    /// The members of the view, as messages to all of them carry them.
    everyone: ArcSwap<Audience>,
    view_number: watch::Sender<u64>,
    application: Arc<dispatch::Application>,
    member_listeners: ArcSwap<Vec<(u64, Arc<dyn MembershipListener>)>>,
    streams: Mutex<Vec<Weak<stream::EventQueue>>>,
    member_calls: mpsc::UnboundedSender<MemberEvent>,
    next_key: AtomicU64,
    queues: dispatch::Queues,
    top_down: FlowCounters,
    event_ends: Mutex<Option<EventEnds>>,
}

/// The receiving ends of the event queues, until the first start gives them to their tasks (a channel may be built outside
/// a runtime).
type EventEnds = (mpsc::UnboundedReceiver<Raised>, mpsc::UnboundedReceiver<MemberEvent>);

impl Channel {
    /// A builder with nothing in it.
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::new()
    }

    /// Sends `body` to `to` and waits for what `options` ask: nothing = the operating system took it for each member;
    /// `ack` = each member acknowledged it; `sync` = each listener returned; `async` = it is queued for each member.
    ///
    /// # Errors
    /// [`SendError::Faulty`] names each member that failed; the others were served. With `async` faults come to those who
    /// use [`send_with`](Self::send_with), and to the counters. [`SendError::NoDestination`] if there is nobody,
    /// [`SendError::NotStarted`] and [`SendError::Stopped`] if the sender does not run, [`SendError::Unsupported`] for what
    /// the transport cannot do, and [`SendError::Layer`] if a layer refuses the message.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, the message is not sent to the members that have not accepted it; dropped after that,
    /// it is sent all the same and its outcome is lost.
    pub async fn send(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let (out, pending) = self.prepare(to.into(), body.into(), options)?;
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Self::finish(pending, options).await
    }

    /// Sends `value` as MessagePack by field name; read it with [`Message::decode`]. Otherwise as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::Encode`].
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_message<T: Serialize + ?Sized + Sync>(
        &self,
        to: impl Into<To>,
        value: &T,
        options: SendOptions,
    ) -> Result<MessageId, SendError> {
        let body = message::encode(value)?;
        self.send(to, body, options).await
    }

    /// Sends `body` and returns as soon as it is accepted, in order, for each member. The [`Pending`] is a future of the
    /// outcome for each member, or takes a callback; `async` sends, too, resolve with what really happened.
    ///
    /// # Errors
    /// If the message is refused as a whole. Faults of members are in the outcome.
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (out, pending) = self.prepare(to.into(), body.into(), options)?;
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Ok(pending)
    }

    /// Sends `body` as a serialized Java object: as [`send_with`](Self::send_with), but with
    /// [`BYTE_MESSAGE`](SendOptions::BYTE_MESSAGE) clear, which makes a Java peer deserialize it. For membership services
    /// and layers that speak to Java's own; applications have no use for it.
    ///
    /// # Errors
    /// As [`send_with`](Self::send_with).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_opaque(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (mut out, pending) = self.prepare(to.into(), body.into(), options)?;
        out.message.options.remove(SendOptions::BYTE_MESSAGE);
        self.accept(out, pending).await
    }

    /// Sends `body` without waiting for room: refuses with [`SendError::Full`] when that would be needed, and then nothing is
    /// sent to anyone that had no room.
    ///
    /// # Errors
    /// As [`send_with`](Self::send_with), and [`SendError::Full`].
    pub fn try_send(
        &self,
        to: impl Into<To>,
        body: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (mut out, pending) = self.prepare(to.into(), body.into(), options)?;
        if !out.members().all(|member| self.0.has_room(member, out.len())) {
            pending.on_complete(drop);
            return Err(SendError::Full);
        }
        out.may_wait = false;
        // Nothing on this way waits when it must not; a layer that does all the same is a layer that is full.
        let accept = std::pin::pin!(self.accept(out, pending));
        match accept.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => Err(SendError::Full),
        }
    }

    fn prepare(&self, to: To, body: Bytes, options: SendOptions) -> Result<(Outbound, Pending), SendError> {
        let inner = &self.0;
        inner.running.check()?;
        let multicast = crate::transport::is_multicast(options);
        let audience = match to {
            // A multicast goes to whoever hears it; its outcome is that of the datagram.
            _ if multicast => Audience::new(Arc::new([]), inner.stack.observer()),
            To::All => inner.everyone.load_full(),
            To::Members(members) => Audience::new(target::once_each(members), inner.stack.observer()),
        };
        if audience.is_empty() && !multicast {
            return Err(SendError::NoDestination);
        }
        inner.top_down.enter(body.len());
        let env = &inner.stack.env;
        let at = env.now();
        let message = ChannelMessage {
            options: options | SendOptions::BYTE_MESSAGE,
            timestamp_ms: env.wall_ms_at(at),
            id: MessageId::generate(env),
            sender: inner.stack.local.load_full(),
            body: Body::new(body),
        };
        let (mut out, pending) = Outbound::to_audience(message, audience, at);
        if options.ack_mode() == AckMode::Handled
            && !options.contains(SendOptions::ASYNCHRONOUS)
            && let Some(stuck) = out.extract(|member| inner.application.is_handling(member))
        {
            stuck.fail(&FaultKind::WouldDeadlock);
        }
        Ok((out, pending))
    }

    /// Takes the message as far as it gets without waiting, which is nearly always to its end; `None`: it is accepted.
    fn accept_now(&self, out: Outbound) -> Option<Walk> {
        if out.to.is_empty() && !crate::transport::is_multicast(out.message.options) {
            return None;
        }
        match self.0.stack.send_now(0, out) {
            Walk::Done(Ok(())) => None,
            walk => Some(walk),
        }
    }

    /// The rest of the way, for what has to wait. Boxed: the future of a send stays small where nothing waits.
    async fn accept_later(&self, walk: Walk) -> Result<(), SendError> {
        let result = Box::pin(self.0.stack.send_rest(walk)).await;
        if result.is_err() {
            self.0.top_down.failed("refused");
        }
        result
    }

    async fn accept(&self, out: Outbound, pending: Pending) -> Result<Pending, SendError> {
        if let Some(walk) = self.accept_now(out) {
            self.accept_later(walk).await?;
        }
        Ok(pending)
    }

    async fn finish(pending: Pending, options: SendOptions) -> Result<MessageId, SendError> {
        let id = pending.id().clone();
        if options.contains(SendOptions::ASYNCHRONOUS) {
            // Queued is all that was asked for; what happens later is counted and logged.
            pending.log_faults();
            return Ok(id);
        }
        pending.await.into_result().map(|_| id)
    }

    /// Has `listener` called with messages until the handle is dropped.
    pub fn listen(&self, listener: impl ChannelListener) -> ListenerHandle {
        self.listen_shared(Arc::new(listener))
    }

    /// As [`listen`](Self::listen) for a listener that is shared.
    pub fn listen_shared(&self, listener: Arc<dyn ChannelListener>) -> ListenerHandle {
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        self.0.application.listeners.rcu(|list| {
            let mut list = list.as_ref().clone();
            list.push((key, Arc::clone(&listener)));
            list
        });
        ListenerHandle::new(Arc::downgrade(&self.0), key)
    }

    /// Has a closure called with messages until the handle is dropped; see [`ChannelListener`].
    pub fn on_message<F, R>(&self, listener: F) -> ListenerHandle
    where
        F: Fn(Message, Arc<Member>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.listen(listener::FnListener(listener))
    }

    /// The messages as a stream.
    pub fn messages(&self) -> Messages {
        let (sender, receiver) = mpsc::channel(Messages::CAPACITY);
        let handle = self.listen(stream::StreamListener(sender));
        Messages::new(receiver, handle)
    }

    /// Has `listener` told of members until the handle is dropped. It hears of what happens from now on.
    pub fn listen_members(&self, listener: impl MembershipListener) -> ListenerHandle {
        let listener: Arc<dyn MembershipListener> = Arc::new(listener);
        let key = self.0.next_key.fetch_add(1, Ordering::Relaxed);
        self.0.member_listeners.rcu(|list| {
            let mut list = list.as_ref().clone();
            list.push((key, Arc::clone(&listener)));
            list
        });
        ListenerHandle::new(Arc::downgrade(&self.0), key)
    }

    /// What happens to members as a stream; begins with those who are there, as added.
    pub fn member_events(&self) -> MemberEvents {
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = stream::EventQueue::new(self.0.view.load_full());
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&queue));
        MemberEvents::new(queue)
    }

    /// The other members as they are now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.0.view.load_full()
    }

    /// Waits until `condition` holds for the view and returns it. Cancel safe.
    pub async fn view_when(&self, mut condition: impl FnMut(&View) -> bool) -> Arc<View> {
        let mut changes = self.0.view_number.subscribe();
        loop {
            let view = self.view();
            if condition(&view) {
                return view;
            }
            // The sender lives in the channel that we hold.
            let _ = changes.changed().await;
        }
    }

    /// The local member as it is announced. Before the first start its address is a placeholder.
    #[must_use]
    pub fn local(&self) -> Arc<Member> {
        self.0.stack.local.load_full()
    }

    /// The channel's name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The options that [`ChannelBuilder::send_options`] set; [`SendOptions::ACK`] by default. For applications that want
    /// them configured: `channel.send(to, body, channel.send_options())`.
    #[must_use]
    pub fn send_options(&self) -> SendOptions {
        self.0.options
    }

    /// Everything that the channel counts.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        let inner = &self.0;
        let top = LayerStats {
            name: "application",
            down: inner.top_down.snapshot(),
            up: inner.application.up.snapshot(),
            ..LayerStats::default()
        };
        ChannelStats {
            layers: inner.stack.layer_stats(),
            top,
            budget_used: inner.stack.budget.used(),
            budget_peak: inner.stack.budget.peak(),
            listener_queue: inner.queues.waiting(),
            io: [
                ("sender", inner.stack.sender.gauges()),
                ("receiver", inner.stack.receiver.gauges()),
                ("membership", inner.stack.membership.gauges()),
            ]
            .into(),
        }
    }

    /// A handle that does not keep the channel alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakChannel {
        WeakChannel(Arc::downgrade(&self.0))
    }
}

impl WeakChannel {
    /// The channel, unless it is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Channel> {
        self.0.upgrade().map(Channel)
    }
}

impl Inner {
    fn has_room(&self, member: &Arc<Member>, bytes: usize) -> bool {
        self.stack.budget.has_room(member, bytes)
    }

    fn unlisten(&self, key: u64) {
        self.application
            .listeners
            .rcu(|list| list.iter().filter(|(known, _)| *known != key).cloned().collect::<Vec<_>>());
        self.member_listeners.rcu(|list| list.iter().filter(|(known, _)| *known != key).cloned().collect::<Vec<_>>());
    }

    /// A membership event has come all the way up: the view changes first, then everyone is told.
    fn member_event(&self, event: MemberEvent) {
        let changed = self.view.load().apply(&event).map(Arc::new);
        match (&changed, &event) {
            (Some(view), _) => {
                self.view.store(Arc::clone(view));
                self.everyone.store(Audience::new(Arc::clone(view.members()), self.stack.observer()));
            }
            (None, MemberEvent::Suspected(member, _)) if self.view.load().contains(member) => {}
            // Nothing that anybody above could see.
            (None, _) => return,
        }
        self.stack.sender.member_event(&event);
        self.stack.receiver.member_event(&event);
        if let MemberEvent::Removed(member, _) = &event {
            self.stack.budget.forget(member);
        }
        let view = self.view.load_full();
        self.view_number.send_replace(view.number());
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).retain(|stream| {
            let alive = stream.upgrade();
            alive.inspect(|stream| stream.push(event.clone(), Arc::clone(&view))).is_some()
        });
        // Gone only when the channel is.
        let _ = self.member_calls.send(event);
    }

    /// Empties the view: this channel does not listen for members any more.
    fn forget_members(&self) {
        for member in self.view.load_full().members().iter() {
            self.member_event(MemberEvent::Removed(Arc::clone(member), Departure::Stopped));
        }
    }

    /// Starts the two tasks that carry membership events, once in the life of the channel: they outlast stop and start.
    fn carry_events(self: &Arc<Self>) {
        let Some((mut raised, calls)) = self.event_ends.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let channel = Arc::downgrade(self);
        let mut layers_started = self.layers_started.subscribe();
        self.stack.env.spawn(async move {
            while let Some(raised) = raised.recv().await {
                // A layer may raise events in its start, when those above have not been started. An error: the channel is gone.
                let started = layers_started.wait_for(|started| *started).await.is_ok();
                let Some(channel) = channel.upgrade().filter(|_| started) else { return };
                match raised {
                    Raised::Event { place, event } => channel.stack.event_from(place, event).await,
                    Raised::Stopped(seen) => {
                        channel.forget_members();
                        // The stop may have gone on without it.
                        let _ = seen.send(());
                    }
                }
            }
        });
        self.stack.env.spawn(Self::call_member_listeners(Arc::downgrade(self), calls));
    }

    /// Tells the membership listeners; on a task of its own, so that a slow one delays no membership.
    async fn call_member_listeners(channel: Weak<Self>, mut events: mpsc::UnboundedReceiver<MemberEvent>) {
        while let Some(event) = events.recv().await {
            let Some(channel) = channel.upgrade() else { return };
            for (_, listener) in channel.member_listeners.load_full().iter() {
                let call = Box::pin(async {
                    match &event {
                        MemberEvent::Added(member) => listener.member_added(member),
                        MemberEvent::Updated(member) => listener.member_updated(member),
                        MemberEvent::Suspected(member, why) => listener.member_suspected(member, *why),
                        MemberEvent::Removed(member, why) => listener.member_removed(member, *why),
                    }
                });
                if let Err(panic) = catch(call).await {
                    channel.application.up.failed("membership listener panicked");
                    tracing::error!(panic, "a membership listener panicked");
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for stream in self.streams.get_mut().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            stream.close();
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.0.name)
            .field("local", &self.local())
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WeakChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakChannel").field("alive", &(self.0.strong_count() > 0)).finish()
    }
}

/// How long [`Channel::stop`] lets queues drain by default.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
