//! A layer's own place in the stack, owned: for its tasks and timers.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Stack;
use crate::budget::Budget;
use crate::delivery::{Inbound, Outbound, Pending};
use crate::error::{ReceiveError, SendError};
use crate::member::{MemberEvent, Suspicion};
use crate::message::{Body, ChannelMessage, MessageId};
use crate::transport::ProbeResult;
use crate::{Env, Member, SendOptions, Time};

/// A place in the stack: sends down, delivers up and raises events from there. Cheap to clone; keeps nothing alive.
///
/// A layer gets one at `start`; sender, receiver and membership service get that of the place below the last layer.
#[derive(Clone)]
pub struct Link {
    stack: Weak<Stack>,
    place: usize,
    env: Env,
    budget: Budget,
}

impl Link {
    pub(super) fn new(stack: &Arc<Stack>, place: usize) -> Self {
        Self { stack: Arc::downgrade(stack), place, env: stack.env.clone(), budget: stack.budget.clone() }
    }

    fn stack(&self) -> Option<Arc<Stack>> {
        self.stack.upgrade()
    }

    /// Clocks, chance and tasks.
    #[must_use]
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// The channel's budget of queued bytes. Whoever keeps a message admits it there first.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The local member as it is announced now; `None` once the channel is gone.
    #[must_use]
    pub fn local(&self) -> Option<Arc<Member>> {
        self.stack().map(|stack| stack.local.load_full())
    }

    /// Sends through the layers below this place.
    ///
    /// # Errors
    /// A layer below refused the message, or the channel is gone.
    ///
    /// # Cancel safety
    /// As [`Next::send`](super::Next::send).
    pub async fn send(&self, mut out: Outbound) -> Result<(), SendError> {
        out.at = Time::ZERO;
        match self.stack() {
            // From below the last layer there is only the transport.
            Some(stack) => stack.send_from((self.place + 1).min(stack.bottom()), out).await,
            None => Err(SendError::Stopped),
        }
    }

    /// A new message of the layer's own with this body, to `to`, sent through the layers below. Returns when accepted.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub async fn post(
        &self,
        to: &[Arc<Member>],
        body: impl Into<Body>,
        options: SendOptions,
    ) -> Result<Pending, SendError> {
        let message = self.message(body, options).ok_or(SendError::Stopped)?;
        let (out, pending) = Outbound::new(message, to);
        self.send(out).await?;
        Ok(pending)
    }

    /// A new message from the local member, not yet sent; `None` once the channel is gone.
    #[must_use]
    pub fn message(&self, body: impl Into<Body>, options: SendOptions) -> Option<ChannelMessage> {
        Some(ChannelMessage {
            options,
            timestamp_ms: self.env.wall_ms(),
            id: MessageId::generate(&self.env),
            sender: self.local()?,
            body: body.into(),
        })
    }

    /// Delivers to the layers above this place.
    ///
    /// # Errors
    /// A layer above refused the message, or the channel is gone.
    ///
    /// # Cancel safety
    /// As [`Next::receive`](super::Next::receive).
    pub async fn receive(&self, msg: Inbound) -> Result<(), ReceiveError> {
        match self.stack() {
            Some(stack) => stack.receive_from(self.place, msg).await,
            None => Err(ReceiveError::Stopped),
        }
    }

    /// Delivers several messages to the layers above this place, in their order, and leaves `batch` empty: what a receiver
    /// has read at once. How many were refused; their senders have been answered.
    ///
    /// # Cancel safety
    /// As [`Next::receive`](super::Next::receive), for those that are still in `batch`.
    pub async fn receive_batch(&self, batch: &mut Vec<Inbound>) -> usize {
        match self.stack() {
            Some(stack) => stack.receive_batch_from(self.place, batch).await,
            None => batch.drain(..).len(),
        }
    }

    /// Queues an event for the layers above this place. All events of a channel go up one after another.
    pub fn member_event(&self, event: MemberEvent) {
        if let Some(stack) = self.stack() {
            stack.raise(self.place, event);
        }
    }

    /// The word of the transport, or of a layer, that something speaks against `member`: tells the membership service, and
    /// raises [`MemberEvent::Suspected`] at the bottom of the stack, wherever this place is, so that a failure detector below
    /// hears of it.
    pub fn suspect(&self, member: &Arc<Member>, why: Suspicion) {
        if let Some(stack) = self.stack() {
            stack.membership.suspected(member, why);
            stack.raise(stack.bottom(), MemberEvent::Suspected(Arc::clone(member), why));
        }
    }

    /// The transport's word that `member` said it leaves, over its own connection: tells the membership service.
    pub fn departed(&self, member: &Arc<Member>) {
        if let Some(stack) = self.stack() {
            stack.membership.departed(member);
        }
    }

    /// The transport's word that `member` connected and named itself: a hint for the membership service.
    pub fn heard_of(&self, member: &Arc<Member>) {
        if let Some(stack) = self.stack() {
            stack.membership.heard_of(member);
        }
    }

    /// Asks whether `member` is alive, over a connection of its own, for at most `limit`. Members of ours answer by
    /// themselves; to others `frame` is written and any answer awaited, or with no frame merely connected. Cancel safe.
    pub async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, limit: Duration) -> ProbeResult {
        let Some(stack) = self.stack() else { return ProbeResult::Unreachable };
        let sender = Arc::clone(&stack.sender);
        drop(stack);
        sender.probe(member, frame, self.env.now() + limit).await
    }

    /// The option bits that switch the layers below this place. Those layers may set and clear them on the way; what this
    /// layer saw of all others is what its like sees at the receiver, if the stacks are the same.
    #[must_use]
    pub fn triggers_below(&self) -> SendOptions {
        let Some(stack) = self.stack() else { return SendOptions::empty() };
        stack.slots.iter().skip(self.place + 1).fold(SendOptions::empty(), |bits, slot| bits | slot.trigger)
    }

    /// Whether the transport has a connection to `member` open now.
    #[must_use]
    pub fn is_connected(&self, member: &Member) -> bool {
        self.stack().is_some_and(|stack| stack.sender.is_connected(member))
    }

    /// Runs `task` until it ends or the channel stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(stack) = self.stack() {
            stack.spawn(task);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}
