//! The channel: an application's way into the group.
//!
//! ```text
//!  listeners, streams          one FIFO per sender stands before them      dispatch.rs
//!  endpoints                   what is built on a channel; past the FIFOs  endpoint.rs
//!  Channel (a cheap handle)    send · listen · start · stop                send.rs, mod.rs, lifecycle.rs
//!  the view                    who is there, and who is told               members.rs
//!  layer 1 … layer N           the pipeline                                ../pipeline
//!  sender · receiver · membership                                          ../transport.rs
//! ```

mod builder;
mod check;
mod dispatch;
pub mod endpoint;
mod lifecycle;
mod listener;
mod members;
mod placement;
mod send;
mod stream;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

pub use builder::ChannelBuilder;
pub use endpoint::{ChannelEndpoint, EndpointError, EndpointHandle, EndpointSender};
pub use listener::{Batch, ChannelListener, ListenerHandle, MembershipListener};
pub use stream::{MemberEvents, Messages};
pub use target::To;
pub(crate) use target::once_each;

use crate::delivery::Audience;
use crate::error::BoxError;
use crate::member::MemberEvent;
use crate::pipeline::{Raised, Stack};
use crate::rpc::Hub;
use crate::stats::{ChannelStats, FlowCounters, LayerStats};
use crate::{Member, Message, SendOptions, View};

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
    endpoints: endpoint::Endpoints,
    /// Set when the channel is built.
    rpc: OnceLock<Arc<Hub>>,
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

    /// Registers `endpoint` under `name` until the handle is dropped: a port of its own on this channel, past the listeners;
    /// see [`endpoint`](mod@endpoint). It survives stop and start.
    ///
    /// # Errors
    /// If the name is in use on this channel, is empty, or has more than 255 bytes.
    pub fn endpoint(
        &self,
        name: impl Into<String>,
        endpoint: Arc<dyn ChannelEndpoint>,
    ) -> Result<EndpointHandle, EndpointError> {
        endpoint::register(self, name.into(), endpoint)
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
            endpoints: inner.endpoints.stats(),
            io: [
                ("sender", inner.stack.sender.gauges()),
                ("receiver", inner.stack.receiver.gauges()),
                ("membership", inner.stack.membership.gauges()),
                ("rpc", inner.rpc().map(|hub| hub.gauges()).unwrap_or_default()),
            ]
            .into(),
        }
    }

    /// The channel's clocks, chance and tasks.
    #[must_use]
    pub fn env(&self) -> crate::Env {
        self.0.stack.env.clone()
    }

    /// What its RPC channels share.
    pub(crate) fn rpc_hub(&self) -> &Arc<Hub> {
        self.0.rpc.get_or_init(|| Hub::attach(self))
    }

    /// Whether messages can be sent now.
    pub(crate) fn check_running(&self) -> Result<(), crate::SendError> {
        self.0.running.check()
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
    fn rpc(&self) -> Option<&Arc<Hub>> {
        self.rpc.get()
    }

    fn has_room(&self, member: &Arc<Member>, bytes: usize) -> bool {
        self.stack.budget.has_room(member, bytes)
    }

    fn unlisten(&self, key: u64) {
        self.application
            .listeners
            .rcu(|list| list.iter().filter(|(known, _)| *known != key).cloned().collect::<Vec<_>>());
        self.member_listeners.rcu(|list| list.iter().filter(|(known, _)| *known != key).cloned().collect::<Vec<_>>());
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
