//! Options of [`Order`](super::Order).

use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::{duration, flag, number, options, size};

use super::core::Bounds;

/// Options of [`Order`](super::Order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderConfig {
    /// Option bits that a message must have to be ordered (Tribes: `optionFlag`); the others pass as they are. Must be the
    /// same on all members. Default none: every message.
    pub trigger: SendOptions,
    /// How long a message waits at most for those before it; then they are given up. From 1 ms to 1 h. Default
    /// [`EXPIRE`](Self::EXPIRE).
    pub expire: Duration,
    /// With this many messages of one sender waiting, the first of them waits no longer (Tribes: `maxQueue`, without limit).
    /// From 1, where nothing ever waits, to 1,048,576. Default [`MAX_QUEUE`](Self::MAX_QUEUE).
    pub max_queue: usize,
    /// How many bytes of one sender may wait, 256 for each message beside its body, until they have been handled; all
    /// senders together have four times that. What exceeds it waits in the receiver's memory, which then reads no more from
    /// that connection until it was handled. From 64 KiB to 1 GiB. Default [`MAX_BYTES`](Self::MAX_BYTES).
    pub max_bytes: usize,
    /// Whether what has waited for too long is delivered; otherwise it is dropped, and counted. Default on.
    pub forward_expired: bool,
    /// How many members outside the group are remembered, in each direction: such as have left, or never were in it. The
    /// ones not heard of for longest are forgotten. From 16 to 65,536. Default [`MAX_OUTSIDERS`](Self::MAX_OUTSIDERS).
    pub max_outsiders: usize,
}

impl OrderConfig {
    /// The default of [`expire`](Self::expire), 3 s as in Tribes.
    pub const EXPIRE: Duration = Duration::from_secs(3);
    /// The default of [`max_queue`](Self::max_queue), 8,192.
    pub const MAX_QUEUE: usize = 8192;
    /// The default of [`max_bytes`](Self::max_bytes), 8 MiB.
    pub const MAX_BYTES: usize = 8 << 20;
    /// The default of [`max_outsiders`](Self::max_outsiders), 1,024.
    pub const MAX_OUTSIDERS: usize = 1024;

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// With messages that wait so long at most.
    #[must_use]
    pub const fn with_expire(mut self, expire: Duration) -> Self {
        self.expire = expire;
        self
    }

    /// With so many messages of one sender waiting at most.
    #[must_use]
    pub const fn with_max_queue(mut self, messages: usize) -> Self {
        self.max_queue = messages;
        self
    }

    /// With so many bytes of one sender waiting at most.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// With expired messages delivered or dropped.
    #[must_use]
    pub const fn with_forward_expired(mut self, forward: bool) -> Self {
        self.forward_expired = forward;
        self
    }

    /// With so many members outside the group remembered.
    #[must_use]
    pub const fn with_max_outsiders(mut self, members: usize) -> Self {
        self.max_outsiders = members;
        self
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { expire: self.expire, max_queue: self.max_queue, forward_expired: self.forward_expired }
    }
}

impl Default for OrderConfig {
    fn default() -> Self {
        Self {
            trigger: SendOptions::empty(),
            expire: Self::EXPIRE,
            max_queue: Self::MAX_QUEUE,
            max_bytes: Self::MAX_BYTES,
            forward_expired: true,
            max_outsiders: Self::MAX_OUTSIDERS,
        }
    }
}

tribes_core::settings! { OrderConfig {
    trigger: options(), "Only messages with all these option bits are ordered; none means all messages.";
    expire: duration(Duration::from_millis(1)..=Duration::from_secs(3600)),
        "How long a message waits at most for those before it.";
    max_queue: number(1..=1 << 20), "With so many messages of one sender waiting, the first of them waits no longer.";
    max_bytes: size(64 << 10..=1 << 30),
        "How many bytes of one sender may wait; beyond it no more is read from that connection.";
    forward_expired: flag(), "Whether what has waited for too long is delivered; otherwise it is dropped, and counted.";
    max_outsiders: number(16..=65_536), "How many members outside the group are remembered, in each direction.";
} }
