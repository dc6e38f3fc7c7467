//! Who is told of messages and members.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use crate::error::BoxError;
use crate::member::{Departure, Suspicion};
use crate::{Member, Message};

/// Receives messages (Tribes: `ChannelListener`).
///
/// Messages of one sender come one after another, in the order in which it sent them; those of different senders come at
/// the same time. A listener may take its time: it holds up only the sender whose message it handles, first by a bounded
/// queue, then by backpressure. All listeners that accept a message get it, in the order of their registration.
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
