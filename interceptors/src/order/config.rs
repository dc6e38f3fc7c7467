//! Options of [`Order`](super::Order).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::SendOptions;

use super::NAME;
use super::core::Bounds;
use crate::ConfigError;
use crate::config::{duration, size};

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

    const KEYS: &'static [&'static str] =
        &["trigger", "expire", "max_queue", "max_bytes", "forward_expired", "max_outsiders"];

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

    /// Sets an option from text: its name in snake_case; `expire` as in `250ms`, `3s`; `max_bytes` as in `64KiB`;
    /// `forward_expired` as `true` or `false`; `trigger` as an integer or names of options.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let number = |expected| {
            let bytes = size(value).and_then(|bytes| usize::try_from(bytes).ok());
            bytes.ok_or_else(|| invalid(key, value, expected))
        };
        let mut changed = *self;
        match key {
            "expire" => changed.expire = duration(value).ok_or_else(|| invalid(key, value, EXPIRE_TEXT))?,
            "max_queue" => changed.max_queue = number(MAX_QUEUE_TEXT)?,
            "max_bytes" => changed.max_bytes = number(MAX_BYTES_TEXT)?,
            "max_outsiders" => changed.max_outsiders = number(MAX_OUTSIDERS_TEXT)?,
            "forward_expired" => {
                let flag = value.trim().parse().map_err(|_not_a_bool| invalid(key, value, "true or false"))?;
                changed.forward_expired = flag;
            }
            _ => {
                let expected = "an integer, or names of send options joined by commas";
                changed.trigger = value.parse().map_err(|_unknown_option| invalid(key, value, expected))?;
            }
        }
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !EXPIRE.contains(&self.expire) {
            return Err(invalid("expire", &format!("{:?}", self.expire), EXPIRE_TEXT));
        }
        let numbers = [
            ("max_queue", self.max_queue, MAX_QUEUE, MAX_QUEUE_TEXT),
            ("max_bytes", self.max_bytes, MAX_BYTES, MAX_BYTES_TEXT),
            ("max_outsiders", self.max_outsiders, MAX_OUTSIDERS, MAX_OUTSIDERS_TEXT),
        ];
        match numbers.iter().find(|(_, value, bounds, _)| !bounds.contains(value)) {
            Some((key, value, _, expected)) => Err(invalid(key, &value.to_string(), expected)),
            None => Ok(()),
        }
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { expire: self.expire, max_queue: self.max_queue, forward_expired: self.forward_expired }
    }
}

const EXPIRE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const EXPIRE_TEXT: &str = "a duration from 1ms to 1h";
const MAX_QUEUE: RangeInclusive<usize> = 1..=1 << 20;
const MAX_QUEUE_TEXT: &str = "a number from 1 to 1048576";
const MAX_BYTES: RangeInclusive<usize> = 64 << 10..=1 << 30;
const MAX_BYTES_TEXT: &str = "a number of bytes from 64KiB to 1GiB";
const MAX_OUTSIDERS: RangeInclusive<usize> = 16..=65_536;
const MAX_OUTSIDERS_TEXT: &str = "a number from 16 to 65536";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
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
