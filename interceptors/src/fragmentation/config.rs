//! Options of [`Fragmentation`](super::Fragmentation).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::SendOptions;

use super::NAME;
use super::core::Bounds;
use crate::ConfigError;
use crate::config::{DURATION, duration, size};

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

    const KEYS: &'static [&'static str] = &["trigger", "max_size", "expire", "max_message", "max_memory"];

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

    /// Sets an option from text: its name in snake_case; sizes as in `1024`, `64KiB`, `4MiB`; durations as in `250ms`, `1s`,
    /// `5m`; `trigger` as an integer or names of options.
    ///
    /// # Errors
    /// An unknown key, or a value out of its bounds; the configuration is then unchanged. Whether the bounds fit each other
    /// is seen when the channel is built.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let within = |bounds: &RangeInclusive<usize>, expected| {
            let bytes = size(value).and_then(|bytes| usize::try_from(bytes).ok());
            bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(|| invalid(key, value, expected))
        };
        match key {
            "max_size" => self.max_size = within(&SIZES, SIZES_TEXT)?,
            "max_message" => self.max_message = within(&SIZES, SIZES_TEXT)?,
            "max_memory" => self.max_memory = within(&MEMORY, MEMORY_TEXT)?,
            "expire" => {
                let time = duration(value).filter(|time| *time <= LONGEST);
                self.expire = time.ok_or_else(|| invalid(key, value, DURATION))?;
            }
            _ => {
                let expected = "an integer, or names of send options joined by commas";
                self.trigger = value.parse().map_err(|_unknown_option| invalid(key, value, expected))?;
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("max_size", self.max_size, SIZES, SIZES_TEXT),
            ("max_message", self.max_message, SIZES, SIZES_TEXT),
            ("max_memory", self.max_memory, MEMORY, MEMORY_TEXT),
        ];
        if let Some((key, bytes, _, expected)) = sizes.into_iter().find(|(_, bytes, bounds, _)| !bounds.contains(bytes))
        {
            return Err(invalid(key, &bytes.to_string(), expected));
        }
        if self.max_memory < self.max_message {
            return Err(invalid("max_memory", &self.max_memory.to_string(), "at least max_message"));
        }
        if self.expire.is_zero() || self.expire > LONGEST {
            return Err(invalid("expire", &format!("{:?}", self.expire), DURATION));
        }
        Ok(())
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { message: self.max_message, memory: self.max_memory, expire: self.expire }
    }
}

const SIZES: RangeInclusive<usize> = 1..=1 << 30;
const SIZES_TEXT: &str = "a size from 1 to 1GiB such as 1024 or 100KiB";
const MEMORY: RangeInclusive<usize> = 1..=16 << 30;
const MEMORY_TEXT: &str = "a size from 1 to 16GiB such as 128MiB";
const LONGEST: Duration = Duration::from_secs(86_400);

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
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
