//! Endpoints: named ports on a channel, for what is built on top of it.
//!
//! RPC, replicated maps and sessions share a channel with the application, and with each other. Each registers an
//! *endpoint* under a name with [`Channel::endpoint`]; what it sends through its [`EndpointHandle`] comes to the endpoint of
//! the same name at each destination, and to nobody else.
//!
//! ```text
//!  from the stack ──┬── message for an endpoint ──▶ ChannelEndpoint::receive, there and then
//!                   └── any other ──▶ the sender's FIFO ──▶ listeners, one after another
//! ```
//!
//! # Guarantees
//! - **Never behind a listener.** A message for an endpoint does not enter the FIFO before the listeners: it is handled where
//!   it arrives, also while a listener of the same sender waits for ever. Two things can still hold it up: a listener that
//!   *blocks its thread*, which no listener may, and backpressure. If an application leaves so much unhandled that the
//!   receiver's memory for that sender is used up, nothing more is read from that sender.
//! - **Order** of one endpoint's messages from one sender is that of [sending](crate::Channel#guarantees). Between an endpoint
//!   and the listeners there is none.
//! - **Delivery and outcome** are those of the channel: `ack` = the member has it; `sync` = its endpoint's
//!   [`receive`](ChannelEndpoint::receive) has returned. A member without an endpoint of this name answers
//!   [`Delivery::NoTaker`](crate::Delivery::NoTaker).
//! - **Layers** treat it as any other message, so one that holds messages back, as `order` does at a gap, holds it back, too.
//!   They see the options that it was sent with and the bit [`EXTENSION`](SendOptions::EXTENSION), for the name is an entry of
//!   the [extension trailer](crate::wire::Trailer), which nobody but nodes of ours can read. So nothing is sent to others.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Channel, Inner, To};
use crate::delivery::{Handled, Inbound, Outbound, Pending};
use crate::error::{BoxError, FaultKind, ReceiveError, SendError, Unsupported};
use crate::message::Body;
use crate::pipeline::catch_now;
use crate::stats::{EndpointStats, FlowCounters};
use crate::transport::is_multicast;
use crate::wire::{ExtensionKind, Trailer};
use crate::{Env, Lease, Member, MemberEvent, Message, SendOptions};

/// A longer name is not one.
const MAX_NAME: usize = 255;

/// What is built on a channel, as it is called by it; see the [module](self).
///
/// Both methods are called where messages and events arrive, so they must not block, and take no longer than it takes to
/// note what came: whatever takes time goes to a task ([`EndpointSender::spawn`]). They may send with
/// [`try_send`](EndpointSender::try_send). Messages of one sender come one after another; those of different senders, and
/// events, come at the same time.
pub trait ChannelEndpoint: Send + Sync + 'static {
    /// A message for this endpoint. `from` is what the sender says of itself.
    ///
    /// `lease` is the room that the message has in the receiver's memory. Drop it with the message if that is done with here;
    /// keep it beside the message if that is kept, and no longer than that: the receiver stops reading from a sender whose
    /// room is used up. What is kept is to be [detached](Message::detach) first.
    ///
    /// # Errors
    /// An error, like a panic, makes the answer to a synchronized acknowledgement negative. It is not delivered again.
    fn receive(&self, message: Message, from: &Arc<Member>, lease: Lease) -> Result<(), BoxError>;

    /// Something happened to a member. The channel's view has changed already. Events come one after another, in their order;
    /// the endpoint hears of what happens after its registration. When the channel stops, each member is removed with
    /// [`Departure::Stopped`](crate::Departure::Stopped).
    fn member_event(&self, event: &MemberEvent) {
        let _ = event;
    }
}

/// Why an endpoint was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The channel has one of this name.
    #[error("the channel has an endpoint {name:?} already; take another name, or drop the handle of that one first")]
    Taken {
        /// The name.
        name: String,
    },
    /// The name is empty or too long.
    #[error("an endpoint's name has 1 to {MAX_NAME} bytes; {len} were given")]
    Name {
        /// Its length.
        len: usize,
    },
}

/// The endpoints of one channel.
#[derive(Default)]
pub(super) struct Endpoints {
    ports: ArcSwap<BTreeMap<String, Arc<Port>>>,
    /// Whether the channel runs: a message that comes after the stop reaches nobody.
    open: AtomicBool,
}

/// One endpoint.
struct Port {
    name: String,
    endpoint: Arc<dyn ChannelEndpoint>,
    /// What its messages end with.
    trailer: Bytes,
    down: FlowCounters,
    up: FlowCounters,
}

pub(super) fn register(
    channel: &Channel,
    name: String,
    endpoint: Arc<dyn ChannelEndpoint>,
) -> Result<EndpointHandle, EndpointError> {
    let len = name.len();
    let mut trailer = Trailer::new(false);
    let added = trailer.add(ExtensionKind::ENDPOINT, Bytes::copy_from_slice(name.as_bytes()));
    if !(1..=MAX_NAME).contains(&len) || added.is_err() {
        return Err(EndpointError::Name { len });
    }
    let port = Arc::new(Port {
        name: name.clone(),
        endpoint,
        trailer: trailer.encode(),
        down: FlowCounters::default(),
        up: FlowCounters::default(),
    });
    let mut taken = false;
    channel.0.endpoints.ports.rcu(|ports| {
        let mut ports = ports.as_ref().clone();
        taken = ports.contains_key(&name);
        if !taken {
            ports.insert(name.clone(), Arc::clone(&port));
        }
        ports
    });
    if taken {
        return Err(EndpointError::Taken { name });
    }
    let env = channel.0.stack.env.clone();
    Ok(EndpointHandle {
        sender: EndpointSender { channel: Arc::downgrade(&channel.0), port: Arc::downgrade(&port), env },
    })
}

impl Port {
    fn refused(&self) {
        self.down.failed("refused");
    }

    fn handle(&self, env: &Env, msg: Inbound) {
        let Inbound { message, receipt, lease, .. } = msg;
        let started = self.up.enter(message.body.len()).then(|| env.now());
        let (from, id) = (Arc::clone(&message.sender), message.id.clone());
        let result = catch_now(|| self.endpoint.receive(Message::new(message), &from, lease));
        if let Some(started) = started {
            self.up.took(env.now() - started);
        }
        let (reason, error) = match result {
            Ok(Ok(())) => return receipt.accept(),
            Ok(Err(error)) => ("refused", error.to_string()),
            Err(panic) => ("panicked", format!("panicked: {panic}")),
        };
        let times = self.up.failed(reason);
        if times.is_power_of_two() {
            tracing::warn!(endpoint = self.name, %from, %id, error, times, "an endpoint failed over a message");
        }
        receipt.resolve(Handled::Failed(error));
    }
}

impl Endpoints {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Takes those of the first `count` messages out of `batch` that are for endpoints, and has them handled. How many those
    /// were, and how many of them were refused, because the channel has stopped; all have answered.
    pub(super) fn deliver(&self, channel: &Inner, batch: &mut Vec<Inbound>, count: usize) -> (usize, usize) {
        let mut marked = batch.iter().take(count).filter(|msg| msg.message.options.contains(SendOptions::EXTENSION));
        if marked.next().is_none() || !channel.stack.local.load().id().is_ours() {
            return (0, 0);
        }
        let mut names = Vec::new();
        let is_ours = |msg: &mut Inbound| {
            let name = msg.is_from_ours().then(|| msg.message.take_extension(ExtensionKind::ENDPOINT)).flatten();
            let found = name.is_some();
            names.extend(name);
            found
        };
        let found: Vec<_> = batch.extract_if(..count, is_ours).collect();
        let taken = found.len();
        if !self.is_open() {
            for msg in found {
                msg.receipt.resolve(Handled::Failed(ReceiveError::Stopped.to_string()));
            }
            return (taken, taken);
        }
        let ports = self.ports.load_full();
        for (name, msg) in names.iter().zip(found) {
            match std::str::from_utf8(name).ok().and_then(|name| ports.get(name)) {
                Some(port) => port.handle(&channel.stack.env, msg),
                None => {
                    channel.application.up.dropped("no endpoint");
                    msg.receipt.resolve(Handled::NoTaker);
                }
            }
        }
        (taken, 0)
    }

    pub(super) fn member_event(&self, event: &MemberEvent) {
        for port in self.ports.load_full().values() {
            if let Err(panic) = catch_now(|| port.endpoint.member_event(event)) {
                port.up.failed("panicked");
                tracing::error!(endpoint = port.name, panic, "an endpoint panicked over a membership event");
            }
        }
    }

    pub(super) fn stats(&self) -> Vec<EndpointStats> {
        let stats = |port: &Arc<Port>| EndpointStats {
            name: port.name.clone(),
            down: port.down.snapshot(),
            up: port.up.snapshot(),
        };
        self.ports.load().values().map(stats).collect()
    }

    fn remove(&self, gone: &Arc<Port>) {
        self.ports.rcu(|ports| {
            let mut ports = ports.as_ref().clone();
            ports.retain(|_, port| !Arc::ptr_eq(port, gone));
            ports
        });
    }
}

/// Keeps an endpoint registered, and sends for it (it is an [`EndpointSender`]). Dropping it takes the endpoint off the
/// channel: it is not called for what arrives from then on; a call under way may end later.
#[must_use = "the endpoint is taken off the channel when this is dropped"]
#[derive(Debug)]
pub struct EndpointHandle {
    sender: EndpointSender,
}

impl EndpointHandle {
    /// What sends for the endpoint, apart: it keeps neither channel nor endpoint, so the endpoint itself may hold it.
    #[must_use]
    pub const fn sender(&self) -> &EndpointSender {
        &self.sender
    }
}

impl Deref for EndpointHandle {
    type Target = EndpointSender;
    fn deref(&self) -> &EndpointSender {
        &self.sender
    }
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        if let (Some(channel), Some(port)) = (self.sender.channel.upgrade(), self.sender.port.upgrade()) {
            channel.endpoints.remove(&port);
        }
    }
}

/// Sends for an endpoint. Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct EndpointSender {
    channel: Weak<Inner>,
    port: Weak<Port>,
    env: Env,
}

impl EndpointSender {
    /// Sends `body` to the endpoints of this name at `to` and returns as soon as it is accepted, in order, for each member. The
    /// [`Pending`] is a future of the outcome for each of them. Members that are not known to be nodes of ours fail with
    /// [`Unsupported::NotOurs`]; the others are served.
    ///
    /// # Errors
    /// As [`Channel::send_with`]; also [`SendError::Stopped`] when the endpoint or its channel is gone, and
    /// [`SendError::Unsupported`] for a multicast, which everybody hears.
    ///
    /// # Cancel safety
    /// As [`Channel::send`].
    pub async fn send(
        &self,
        to: impl Into<To>,
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (channel, port, out, pending) = self.prepare(to.into(), body.into(), options)?;
        let result = channel.accept(out, pending).await;
        result.inspect_err(|_| port.refused())
    }

    /// As [`send`](Self::send), without waiting for room: for [`ChannelEndpoint::receive`] and other places that must not wait.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`SendError::Full`] when a member has no room, and then nothing is sent to those without.
    pub fn try_send(
        &self,
        to: impl Into<To>,
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let (channel, port, out, pending) = self.prepare(to.into(), body.into(), options)?;
        channel.accept_at_once(out, pending).inspect_err(|_| port.refused())
    }

    fn prepare(
        &self,
        to: To,
        mut body: Body,
        options: SendOptions,
    ) -> Result<(Channel, Arc<Port>, Outbound, Pending), SendError> {
        let (Some(channel), Some(port)) = (self.channel(), self.port.upgrade()) else { return Err(SendError::Stopped) };
        if is_multicast(options) {
            return Err(SendError::Unsupported(Unsupported::Other(
                "an endpoint's message goes to nodes of ours, a multicast to whoever hears it; send it to members",
            )));
        }
        body.push_trailer(port.trailer.clone());
        let (mut out, pending) = channel.make(to, body, options | SendOptions::EXTENSION, &port.down)?;
        let is_marked = out.message.sender.id().is_ours();
        if let Some(others) = out.extract(|member| !(is_marked && member.id().is_ours())) {
            others.fail(&FaultKind::Unsupported(Unsupported::NotOurs));
        }
        Ok((channel, port, out, pending))
    }

    /// Whether messages for this endpoint can be sent to `member` now: both are known to be nodes of ours.
    #[must_use]
    pub fn reaches(&self, member: &Member) -> bool {
        member.id().is_ours() && self.channel.upgrade().is_some_and(|channel| channel.stack.local.load().id().is_ours())
    }

    /// The channel, unless it is gone.
    #[must_use]
    pub fn channel(&self) -> Option<Channel> {
        self.channel.upgrade().map(Channel)
    }

    /// The channel's clocks, chance and tasks.
    #[must_use]
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// Runs `task` until it ends or the channel stops. Does nothing if the channel is gone.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(channel) = self.channel.upgrade() {
            channel.stack.spawn(task);
        }
    }
}

impl fmt::Debug for EndpointSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.port.upgrade().map(|port| port.name.clone());
        f.debug_struct("EndpointSender").field("name", &name).finish_non_exhaustive()
    }
}
