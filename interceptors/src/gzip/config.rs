//! Options of [`Gzip`](super::Gzip).

use std::ops::RangeInclusive;

use tribes_core::SendOptions;

use super::NAME;
use crate::ConfigError;
use crate::config::size;

/// Options of [`Gzip`](super::Gzip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GzipConfig {
    /// The bits that mark a compressed message (Tribes: `optionFlag`): one or more of those from `0x80` to `0x8000`. Must be
    /// the same on all members. Default [`SendOptions::GZIP`], `0x100`.
    pub trigger: SendOptions,
    /// Bodies of up to so many bytes go out as they are (Tribes: `compressionMinSize`). 0 to 1 GiB. Default
    /// [`MIN_SIZE`](Self::MIN_SIZE).
    pub min_size: usize,
    /// The most bytes that a received body may unpack to; a message that is longer is refused. 1 byte to 1 GiB. Default
    /// [`MAX_SIZE`](Self::MAX_SIZE). (Tribes has no bound: T9.)
    pub max_size: usize,
    /// The most bytes of unpacked bodies that wait for listeners, a quarter of them of one sender; a message that is larger
    /// than that quarter is admitted when it is the sender's only one. At least [`max_size`](Self::max_size), at most 16
    /// GiB. Default [`MAX_MEMORY`](Self::MAX_MEMORY).
    pub max_memory: usize,
    /// How hard to try: 1 is fastest, 9 smallest. Default [`LEVEL`](Self::LEVEL).
    pub level: u32,
}

impl GzipConfig {
    /// The default of [`min_size`](Self::min_size): 0, all but empty bodies, as in Tribes.
    pub const MIN_SIZE: usize = 0;
    /// The default of [`max_size`](Self::max_size), 64 MiB: as much as one frame holds by default.
    pub const MAX_SIZE: usize = 64 << 20;
    /// The default of [`max_memory`](Self::max_memory), 128 MiB.
    pub const MAX_MEMORY: usize = 128 << 20;
    /// The default of [`level`](Self::level): 6, as Java has it.
    pub const LEVEL: u32 = 6;

    const KEYS: &'static [&'static str] = &["trigger", "min_size", "max_size", "max_memory", "level"];

    /// With this mark.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// With bodies of up to so many bytes left as they are.
    #[must_use]
    pub const fn with_min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// With this bound for a received body.
    #[must_use]
    pub const fn with_max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// With this bound for all unpacked bodies that wait for listeners.
    #[must_use]
    pub const fn with_max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    /// With this level.
    #[must_use]
    pub const fn with_level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Sets an option from text: its name in snake_case; sizes as in `1024`, `64KiB`, `4MiB`; `trigger` as an integer.
    ///
    /// # Errors
    /// An unknown key, or a value out of its bounds; the configuration is then unchanged. Whether the bounds fit each other
    /// is seen when the channel is built.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let bytes = || size(value).and_then(|bytes| usize::try_from(bytes).ok());
        let within = |bounds: &RangeInclusive<usize>, expected| {
            bytes().filter(|bytes| bounds.contains(bytes)).ok_or_else(|| invalid(key, value, expected))
        };
        match key {
            "min_size" => self.min_size = within(&MIN_SIZES, MIN_SIZES_TEXT)?,
            "max_size" => self.max_size = within(&MAX_SIZES, MAX_SIZES_TEXT)?,
            "max_memory" => self.max_memory = within(&MEMORY, MEMORY_TEXT)?,
            "level" => {
                let level = value.trim().parse().ok().filter(|level| LEVELS.contains(level));
                self.level = level.ok_or_else(|| invalid(key, value, LEVELS_TEXT))?;
            }
            _ => {
                let trigger = value.parse().ok().filter(|trigger| is_mark(*trigger));
                self.trigger = trigger.ok_or_else(|| invalid(key, value, MARK_TEXT))?;
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("min_size", self.min_size, MIN_SIZES, MIN_SIZES_TEXT),
            ("max_size", self.max_size, MAX_SIZES, MAX_SIZES_TEXT),
            ("max_memory", self.max_memory, MEMORY, MEMORY_TEXT),
        ];
        if let Some((key, bytes, _, expected)) = sizes.into_iter().find(|(_, bytes, bounds, _)| !bounds.contains(bytes))
        {
            return Err(invalid(key, &bytes.to_string(), expected));
        }
        if self.max_memory < self.max_size {
            return Err(invalid("max_memory", &self.max_memory.to_string(), "at least max_size"));
        }
        if !LEVELS.contains(&self.level) {
            return Err(invalid("level", &self.level.to_string(), LEVELS_TEXT));
        }
        if !is_mark(self.trigger) {
            return Err(invalid("trigger", &self.trigger.to_string(), MARK_TEXT));
        }
        Ok(())
    }
}

const MIN_SIZES: RangeInclusive<usize> = 0..=1 << 30;
const MIN_SIZES_TEXT: &str = "a size from 0 to 1GiB such as 1024 or 64KiB";
const MAX_SIZES: RangeInclusive<usize> = 1..=1 << 30;
const MAX_SIZES_TEXT: &str = "a size from 1 to 1GiB such as 1024 or 64MiB";
const MEMORY: RangeInclusive<usize> = 1..=16 << 30;
const MEMORY_TEXT: &str = "a size from 1 to 16GiB such as 128MiB";
const LEVELS: RangeInclusive<u32> = 1..=9;
const LEVELS_TEXT: &str = "a number from 1 (fastest) to 9 (smallest)";
const MARK_TEXT: &str = "one or more of the option bits from 0x80 (128) to 0x8000 (32768), as an integer";

/// Whether a layer above Tribes' own bits may use these to mark messages. (Java never recognises bit 31, and none at all
/// would have nothing unpacked.)
fn is_mark(bits: SendOptions) -> bool {
    !bits.is_empty() && SendOptions::from_bits_retain(0xFF80).contains(bits)
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for GzipConfig {
    fn default() -> Self {
        Self {
            trigger: SendOptions::GZIP,
            min_size: Self::MIN_SIZE,
            max_size: Self::MAX_SIZE,
            max_memory: Self::MAX_MEMORY,
            level: Self::LEVEL,
        }
    }
}
