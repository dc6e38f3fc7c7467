//! Options of [`Gzip`](super::Gzip).

use tribes_core::SendOptions;
use tribes_core::settings::{SettingFault, number, options, size};

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
}

const MARK_TEXT: &str = "one or more of the option bits from 0x80 (128) to 0x8000 (32768), as an integer";

/// Whether a layer above Tribes' own bits may use these to mark messages. (Java never recognises bit 31, and none at all
/// would have nothing unpacked.)
fn is_mark(bits: SendOptions) -> bool {
    !bits.is_empty() && SendOptions::from_bits_retain(0xFF80).contains(bits)
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

tribes_core::settings! { GzipConfig {
    trigger: options(), "The option bits that mark a compressed message, from 0x80 to 0x8000; the same on all members.";
    min_size: size(0..=1 << 30), "Bodies of up to so many bytes go out as they are.";
    max_size: size(1..=1 << 30), "The most bytes that a received body may unpack to; longer messages are refused.";
    max_memory: size(1..=16 << 30), "The most bytes of unpacked bodies that wait for listeners; at least max_size.";
    level: number(1..=9), "How hard to try: 1 is fastest, 9 smallest.";
} check(|config| {
    if !is_mark(config.trigger) {
        return Err(SettingFault::invalid("trigger", config.trigger.to_string(), MARK_TEXT));
    }
    if config.max_memory < config.max_size {
        return Err(SettingFault::together("max_memory", "it must be at least max_size"));
    }
    Ok(())
}) }
