//! A message on its way up.

use std::sync::Arc;

use super::{Lease, Receipt};
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
    inline: bool,
    as_tribes: bool,
}

impl Inbound {
    /// A received message.
    #[must_use]
    pub const fn new(message: ChannelMessage, receipt: Receipt, lease: Lease, route: Route) -> Self {
        Self { message, receipt, lease, route, inline: false, as_tribes: false }
    }

    /// Says that the sender spoke to this member as to one of Tribes' own, with nothing in the message that only our nodes read.
    /// Also a node of ours does so as long as it knows no more of a member than its address. For receivers that can tell, from
    /// the greeting of a connection.
    #[must_use]
    pub const fn as_tribes(mut self) -> Self {
        self.as_tribes = true;
        self
    }

    /// Whether the sender is one of our nodes and spoke to this member as to one: what layers of
    /// [`WireEffect::Ours`](crate::WireEffect::Ours) add is in the message. It says who sent it no better than
    /// [`from`](Self::from) does.
    #[must_use]
    pub fn is_from_ours(&self) -> bool {
        !self.as_tribes && self.from().id().is_ours()
    }

    /// Lets whoever hands the message up run its listener, up to the first point where that waits. It spares the message a
    /// queue, a copy and another task. For a receiver whose task serves this one sender, and nothing urgent beside: a listener
    /// that blocks its thread blocks that task, too. If the sender's earlier messages are not done with, nothing changes.
    #[must_use]
    pub const fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    pub(crate) const fn is_inline(&self) -> bool {
        self.inline
    }

    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> &Arc<Member> {
        &self.message.sender
    }

    /// Makes the body independent of the receiver's buffer. Whoever keeps a message beyond the hook does this first.
    pub fn detach(&mut self) {
        self.message.body.detach();
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
