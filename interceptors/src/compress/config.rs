//! Options of [`Compress`](super::Compress).

use std::fmt;
use std::str::FromStr;

use tribes_core::settings::{SettingFault, custom, number, size};

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// LZ4, in blocks of 64 KiB: the fastest. Feature `compress-lz4`.
    Lz4,
    /// Zstandard: smaller, at a choice of levels. Feature `compress-zstd`.
    Zstd,
}

impl Algorithm {
    /// Those of this build.
    pub const AVAILABLE: &'static [Self] = &[
        #[cfg(feature = "compress-lz4")]
        Self::Lz4,
        #[cfg(feature = "compress-zstd")]
        Self::Zstd,
    ];

    /// Whether this build has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        Self::AVAILABLE.contains(&self)
    }

    /// The feature that brings it.
    pub(super) const fn feature(self) -> &'static str {
        match self {
            Self::Lz4 => "compress-lz4",
            Self::Zstd => "compress-zstd",
        }
    }

    /// Its number on the wire.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Default for Algorithm {
    /// LZ4 if this build has it, or else Zstandard.
    fn default() -> Self {
        Self::AVAILABLE.first().copied().unwrap_or(Self::Lz4)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// A text that names no algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not lz4 or zstd")]
pub struct ParseAlgorithmError;

impl FromStr for Algorithm {
    type Err = ParseAlgorithmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(ParseAlgorithmError),
        }
    }
}

/// Options of [`Compress`](super::Compress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompressConfig {
    /// How bodies are compressed. What is received is unpacked by whichever its sender used, if this build has it. Default
    /// LZ4, or Zstandard in a build that has only that.
    pub algorithm: Algorithm,
    /// How hard Zstandard tries: 1 is fastest, 19 smallest. LZ4 has one level only. Default [`LEVEL`](Self::LEVEL).
    pub level: u32,
    /// Bodies of up to so many bytes go out as they are, unless the application marked them. 0 to 1 GiB. Default
    /// [`MIN_SIZE`](Self::MIN_SIZE).
    pub min_size: usize,
    /// The most bytes that a received body may unpack to; a message that is longer is refused. A longer one is also not
    /// compressed. 1 byte to 1 GiB. Default [`MAX_SIZE`](Self::MAX_SIZE).
    pub max_size: usize,
    /// The most bytes of unpacked bodies that wait for listeners, a quarter of them of one sender; a message that is larger
    /// than that quarter is admitted when it is the sender's only one. At least [`max_size`](Self::max_size), at most 16
    /// GiB. Default [`MAX_MEMORY`](Self::MAX_MEMORY).
    pub max_memory: usize,
}

impl CompressConfig {
    /// The default of [`level`](Self::level): 3, as Zstandard itself has it.
    pub const LEVEL: u32 = 3;
    /// The default of [`min_size`](Self::min_size), 128 bytes: shorter bodies rarely become shorter.
    pub const MIN_SIZE: usize = 128;
    /// The default of [`max_size`](Self::max_size), 64 MiB: as much as one frame holds by default.
    pub const MAX_SIZE: usize = 64 << 20;
    /// The default of [`max_memory`](Self::max_memory), 128 MiB.
    pub const MAX_MEMORY: usize = 128 << 20;

    /// With this algorithm.
    #[must_use]
    pub const fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// With this level.
    #[must_use]
    pub const fn with_level(mut self, level: u32) -> Self {
        self.level = level;
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
}

const ALGORITHMS_TEXT: &str = match (cfg!(feature = "compress-lz4"), cfg!(feature = "compress-zstd")) {
    (true, true) => "lz4 or zstd",
    (true, false) => "lz4; zstd needs the feature compress-zstd",
    (false, true) => "zstd; lz4 needs the feature compress-lz4",
    (false, false) => "of an algorithm that this build has: enable one of the features compress-lz4 and compress-zstd",
};

impl Default for CompressConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            level: Self::LEVEL,
            min_size: Self::MIN_SIZE,
            max_size: Self::MAX_SIZE,
            max_memory: Self::MAX_MEMORY,
        }
    }
}

tribes_core::settings! { CompressConfig {
    algorithm: custom(ALGORITHMS_TEXT, available, ToString::to_string), "How bodies are compressed; any that this build has is unpacked.";
    // Higher levels take hundreds of megabytes for each body.
    level: number(1..=19), "How hard Zstandard tries: 1 is fastest, 19 smallest; LZ4 has one level only.";
    min_size: size(0..=1 << 30), "Bodies of up to so many bytes go out as they are.";
    max_size: size(1..=1 << 30), "The most bytes that a received body may unpack to; longer messages are refused.";
    max_memory: size(1..=16 << 30), "The most bytes of unpacked bodies that wait for listeners; at least max_size.";
} check(|config| {
    if config.max_memory < config.max_size {
        return Err(SettingFault::together("max_memory", "must be at least max_size"));
    }
    Ok(())
}) }

fn available(text: &str) -> Option<Algorithm> {
    text.parse().ok().filter(|algorithm: &Algorithm| algorithm.is_available())
}
