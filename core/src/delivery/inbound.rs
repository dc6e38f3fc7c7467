//! A message on its way up.

use std::fmt;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::Member;
use crate::message::ChannelMessage;

/// A received message on its way up the stack.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// The message; its `sender` is what the sender claims about itself.
    pub message: ChannelMessage,
    /// Answers the sender.
    pub receipt: Receipt,
    /// Room in the receiver's memory, given back when the message has been handled.
    pub lease: Lease,
    /// How it came.
    pub route: Route,
}

impl Inbound {
    /// A received message.
    #[must_use]
    pub const fn new(message: ChannelMessage, receipt: Receipt, lease: Lease, route: Route) -> Self {
        Self { message, receipt, lease, route }
    }

    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> &Arc<Member> {
        &self.message.sender
    }
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Over a TCP connection, in order.
    Stream,
    /// In a UDP datagram.
    Datagram,
    /// In a multicast datagram to the whole group.
    Multicast,
    /// Over something else, such as a simulated network.
    Other,
}

/// What became of a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handled {
    /// It was accepted.
    Accepted,
    /// It was delivered, and no listener wanted it. An ACK towards Java; told apart between our own nodes.
    NoTaker,
    /// The listener or a layer failed; the text goes to the sender if it is one of ours.
    Failed(String),
}

/// Takes the answer to one received message; implemented by receivers.
pub trait ReceiptSink: Send + 'static {
    /// Called exactly once.
    fn handled(self: Box<Self>, handled: Handled);
}

impl<F: FnOnce(Handled) + Send + 'static> ReceiptSink for F {
    fn handled(self: Box<Self>, handled: Handled) {
        self(handled);
    }
}

/// The duty to answer the sender of a message. Dropped unresolved it answers negatively: the message was lost in a layer.
///
/// A layer that keeps a message for later (a fragment, a gap, a first phase) accepts at once with [`Receipt::park`]; the
/// frame that releases a message carries that message's outcome.
#[derive(Default)]
pub struct Receipt(Option<Box<dyn ReceiptSink>>);

impl Receipt {
    /// A receipt that reports to `sink`.
    pub fn new(sink: impl ReceiptSink) -> Self {
        Self(Some(Box::new(sink)))
    }

    /// A receipt for which nobody waits.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether somebody waits for the answer.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// Answers.
    pub fn resolve(mut self, handled: Handled) {
        if let Some(sink) = self.0.take() {
            sink.handled(handled);
        }
    }

    /// Answers positively.
    pub fn accept(self) {
        self.resolve(Handled::Accepted);
    }

    /// Answers positively now and leaves a receipt for which nobody waits.
    pub fn park(&mut self) {
        std::mem::take(self).accept();
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(sink) = self.0.take() {
            sink.handled(Handled::Failed("a layer gave the message up".to_owned()));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("awaited", &self.is_awaited()).finish()
    }
}

/// Room in a receiver's memory for as long as a received message is kept. Dropping it gives the room back.
///
/// The receiver stops reading from a connection whose room is used up. A layer that keeps a message until *another one of
/// the same connection* comes must therefore not keep its lease: it drops it and bounds what it keeps by itself.
#[derive(Debug, Default)]
pub struct Lease(Vec<OwnedSemaphorePermit>);

impl Lease {
    /// Room that costs nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Room held by `permits`.
    #[must_use]
    pub const fn new(permits: Vec<OwnedSemaphorePermit>) -> Self {
        Self(permits)
    }

    /// Adds the room of `other`, as when pieces are joined.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}
