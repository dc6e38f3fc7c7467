//! Who is told of messages and members.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use crate::delivery::Handled;
use crate::error::BoxError;
use crate::member::{Departure, Suspicion};
use crate::{Member, Message};

/// Receives messages (Tribes: `ChannelListener`).
///
/// Messages of one sender come one after another, in the order in which it sent them; those of different senders come at
/// the same time. A listener may take its time: it holds up only the sender whose message it handles, first by a bounded
/// queue, then by backpressure. It must not block its thread, as no async code may: a message is usually handled on the
/// thread that read it, which tokio may also have chosen to watch timers and sockets; use `spawn_blocking`.
/// All listeners that accept a message get it, in the order of their registration.
#[async_trait]
pub trait ChannelListener: Send + Sync + 'static {
    /// Whether this listener wants the message. Do not accept what you will not handle: a message that nobody accepts is
    /// reported to a sender of ours as [`Delivery::NoTaker`](crate::Delivery::NoTaker).
    fn accepts(&self, message: &Message, from: &Member) -> bool {
        let _ = (message, from);
        true
    }

    /// Handles the message.
    ///
    /// # Errors
    /// An error, like a panic, makes the answer to a synchronized acknowledgement negative; further listeners do not get
    /// the message. It is not delivered again.
    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError>;

    /// Whether [`batch_received`](Self::batch_received) is called instead of
    /// [`message_received`](Self::message_received). Default: no.
    fn takes_batches(&self) -> bool {
        false
    }

    /// Handles messages of one sender that are there at the same time, oldest first: one future for all of them. What a
    /// listener saves is the future; nobody waits for a batch to fill. Only called if
    /// [`takes_batches`](Self::takes_batches) says so, with one to 64 messages that this listener
    /// [`accepts`](Self::accepts).
    ///
    /// Each message has a result of its own: it is handled unless [`Batch::fail`] was called for it; after a panic those
    /// without a result have failed. The senders are answered when the whole batch has been handled. With several
    /// listeners of which one takes batches, all messages go to the first listener, then to the next.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use tribes_core::{Batch, BoxError, ChannelListener, Member, Message, async_trait};
    /// struct Log;
    ///
    /// #[async_trait]
    /// impl ChannelListener for Log {
    ///     async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
    ///         unreachable!("batches are taken")
    ///     }
    ///     fn takes_batches(&self) -> bool {
    ///         true
    ///     }
    ///     async fn batch_received(&self, batch: &mut Batch<'_>, from: &Arc<Member>) {
    ///         for (at, message) in batch.messages().iter().enumerate() {
    ///             if message.bytes().is_empty() {
    ///                 batch.fail(at, "an empty line");
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    async fn batch_received(&self, batch: &mut Batch<'_>, from: &Arc<Member>) {
        for (at, message) in batch.messages().iter().enumerate() {
            if let Err(error) = self.message_received(message.clone(), from).await {
                batch.fail(at, error);
            }
        }
    }
}

/// Messages of one sender that are handled together; see [`ChannelListener::batch_received`].
#[derive(Debug)]
pub struct Batch<'a> {
    messages: &'a [Message],
    handled: &'a mut [Handled],
}

impl<'a> Batch<'a> {
    pub(super) const fn new(messages: &'a [Message], handled: &'a mut [Handled]) -> Self {
        Self { messages, handled }
    }

    /// The messages, oldest first; at least one.
    #[must_use]
    pub const fn messages(&self) -> &'a [Message] {
        self.messages
    }

    /// The message at `index` has failed: as if [`ChannelListener::message_received`] had returned this error. Does nothing
    /// if there is no such message.
    pub fn fail(&mut self, index: usize, error: impl Into<BoxError>) {
        if let Some(handled) = self.handled.get_mut(index) {
            *handled = Handled::Failed(error.into().to_string());
        }
    }
}

/// Told of members (Tribes: `MembershipListener`). Called one event after another, in order. A call should not block: it
/// delays the events of all membership listeners of the channel, though nothing else.
pub trait MembershipListener: Send + Sync + 'static {
    /// A member is there.
    fn member_added(&self, member: &Arc<Member>);

    /// A member is gone.
    fn member_removed(&self, member: &Arc<Member>, why: Departure);

    /// A member's payload, domain or ports changed.
    fn member_updated(&self, member: &Arc<Member>) {
        let _ = member;
    }

    /// Something speaks against a member; it is being checked and still in the group.
    fn member_suspected(&self, member: &Arc<Member>, why: Suspicion) {
        let _ = (member, why);
    }
}

/// Keeps a listener registered. Dropping it unsubscribes: the listener is not called for messages that have not begun to be
/// handled.
#[must_use = "the listener is unsubscribed when this is dropped; call `forever` to keep it for the life of the channel"]
pub struct ListenerHandle {
    channel: std::sync::Weak<Inner>,
    key: u64,
}

impl ListenerHandle {
    pub(super) const fn new(channel: std::sync::Weak<Inner>, key: u64) -> Self {
        Self { channel, key }
    }

    /// Keeps the listener for the life of the channel.
    pub fn forever(mut self) {
        // Nothing left to unsubscribe from; and the channel's memory is not held for ever.
        self.channel = std::sync::Weak::new();
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.upgrade() {
            channel.unlisten(self.key);
        }
    }
}

impl fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A closure as a listener; see [`Channel::on_message`](super::Channel::on_message).
pub(super) struct FnListener<F>(pub(super) F);

#[async_trait]
impl<F, R> ChannelListener for FnListener<F>
where
    F: Fn(Message, Arc<Member>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    async fn message_received(&self, message: Message, from: &Arc<Member>) -> Result<(), BoxError> {
        (self.0)(message, Arc::clone(from)).await
    }
}
