//! Options of [`Fragmentation`](super::Fragmentation).

use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::{SettingFault, duration, options, size};

use super::core::Bounds;

/// Options of [`Fragmentation`](super::Fragmentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FragmentationConfig {
    /// Only messages with all these option bits are cut (Tribes: `optionFlag`); the others are carried whole, whatever their
    /// size. Default none: all messages.
    pub trigger: SendOptions,
    /// The most bytes of a body in one piece (Tribes: `maxSize`). 1 byte to 1 GiB. Default [`MAX_SIZE`](Self::MAX_SIZE).
    pub max_size: usize,
    /// How long a message may lack pieces, from the last that came. Above zero, at most a day. Default
    /// [`EXPIRE`](Self::EXPIRE). (Tribes: from the first, looked at every 5 s, by the wall clock, T39.)
    pub expire: Duration,
    /// The longest body that is cut, or put together; longer ones are refused, at the sender already. Must be the same on all
    /// members. 1 byte to 1 GiB. Default [`MAX_MESSAGE`](Self::MAX_MESSAGE).
    pub max_message: usize,
    /// The most bytes that pieces of incomplete messages take, 64 for each piece and 1 KiB for each message included, a quarter
    /// of them of one sender; a message that is larger than that quarter is taken when it is the sender's only one. As much
    /// again is for messages that are complete and wait for listeners. At least [`max_message`](Self::max_message), at most
    /// 16 GiB. Default [`MAX_MEMORY`](Self::MAX_MEMORY).
    pub max_memory: usize,
}

impl FragmentationConfig {
    /// The default of [`max_size`](Self::max_size), 100 KiB, as in Tribes.
    pub const MAX_SIZE: usize = 100 << 10;
    /// The default of [`expire`](Self::expire), 60 s.
    pub const EXPIRE: Duration = Duration::from_secs(60);
    /// The default of [`max_message`](Self::max_message), 64 MiB.
    pub const MAX_MESSAGE: usize = 64 << 20;
    /// The default of [`max_memory`](Self::max_memory), 128 MiB.
    pub const MAX_MEMORY: usize = 128 << 20;

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// With pieces of this size.
    #[must_use]
    pub const fn with_max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// With so much time for missing pieces.
    #[must_use]
    pub const fn with_expire(mut self, time: Duration) -> Self {
        self.expire = time;
        self
    }

    /// With this bound for one message.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// With this bound for all pieces.
    #[must_use]
    pub const fn with_max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { message: self.max_message, memory: self.max_memory, expire: self.expire }
    }
}

impl Default for FragmentationConfig {
    fn default() -> Self {
        Self {
            trigger: SendOptions::empty(),
            max_size: Self::MAX_SIZE,
            expire: Self::EXPIRE,
            max_message: Self::MAX_MESSAGE,
            max_memory: Self::MAX_MEMORY,
        }
    }
}

/// A duration above zero.
const SHORTEST: Duration = Duration::from_micros(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

tribes_core::settings! { FragmentationConfig {
    trigger: options(), "Only messages with all these option bits are cut; none means all messages.";
    max_size: size(1..=1 << 30), "The most bytes of a body in one piece.";
    expire: duration(SHORTEST..=DAY), "How long a message may lack pieces, from the last that came, before it is given up.";
    max_message: size(1..=1 << 30), "The longest body that is cut or put together, in bytes; the same on all members.";
    max_memory: size(1..=16 << 30), "The most bytes that pieces of incomplete messages take; at least max_message.";
} check(|config| {
    if config.max_memory < config.max_message {
        return Err(SettingFault::together("max_memory", "it must be at least max_message"));
    }
    Ok(())
}) }
