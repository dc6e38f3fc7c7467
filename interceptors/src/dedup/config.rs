//! Options of [`Dedup`](super::Dedup).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::NAME;
use crate::ConfigError;
use crate::config::{duration, size};

/// Options of [`Dedup`](super::Dedup).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DedupConfig {
    /// For how long a message is remembered. From 1 s to 24 h. Default [`WINDOW`](Self::WINDOW).
    pub window: Duration,
    /// How many messages of one sender are remembered. From 16 to 1,048,576. Default [`MAX_ENTRIES`](Self::MAX_ENTRIES).
    pub max_entries: usize,
    /// How many messages are remembered in all, about 80 bytes each. When there are more, each sender has an equal share.
    /// From 1,024 to 16,777,216. Default [`MAX_TOTAL`](Self::MAX_TOTAL).
    pub max_total: usize,
    /// How many senders outside the group are remembered: such as have left, or never were in it. From 16 to 65,536. Default
    /// [`MAX_OUTSIDERS`](Self::MAX_OUTSIDERS).
    pub max_outsiders: usize,
}

impl DedupConfig {
    /// The default of [`window`](Self::window), 60 s.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// The default of [`max_entries`](Self::max_entries), 16,384.
    pub const MAX_ENTRIES: usize = 16_384;
    /// The default of [`max_total`](Self::max_total), 262,144.
    pub const MAX_TOTAL: usize = 262_144;
    /// The default of [`max_outsiders`](Self::max_outsiders), 1,024.
    pub const MAX_OUTSIDERS: usize = 1024;

    const KEYS: &'static [&'static str] = &["window", "max_entries", "max_total", "max_outsiders"];

    /// With messages remembered for so long.
    #[must_use]
    pub const fn with_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// With so many messages of one sender remembered.
    #[must_use]
    pub const fn with_max_entries(mut self, messages: usize) -> Self {
        self.max_entries = messages;
        self
    }

    /// With so many messages remembered in all.
    #[must_use]
    pub const fn with_max_total(mut self, messages: usize) -> Self {
        self.max_total = messages;
        self
    }

    /// With so many senders outside the group remembered.
    #[must_use]
    pub const fn with_max_outsiders(mut self, members: usize) -> Self {
        self.max_outsiders = members;
        self
    }

    /// Sets an option from text: its name in snake_case; `window` as in `30s`, `5m`; the others are numbers.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let number = |expected| {
            let number = size(value).and_then(|number| usize::try_from(number).ok());
            number.ok_or_else(|| invalid(key, value, expected))
        };
        let mut changed = *self;
        match key {
            "window" => changed.window = duration(value).ok_or_else(|| invalid(key, value, WINDOW_TEXT))?,
            "max_entries" => changed.max_entries = number(MAX_ENTRIES_TEXT)?,
            "max_total" => changed.max_total = number(MAX_TOTAL_TEXT)?,
            _ => changed.max_outsiders = number(MAX_OUTSIDERS_TEXT)?,
        }
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !WINDOW.contains(&self.window) {
            return Err(invalid("window", &format!("{:?}", self.window), WINDOW_TEXT));
        }
        let numbers = [
            ("max_entries", self.max_entries, MAX_ENTRIES, MAX_ENTRIES_TEXT),
            ("max_total", self.max_total, MAX_TOTAL, MAX_TOTAL_TEXT),
            ("max_outsiders", self.max_outsiders, MAX_OUTSIDERS, MAX_OUTSIDERS_TEXT),
        ];
        match numbers.iter().find(|(_, value, bounds, _)| !bounds.contains(value)) {
            Some((key, value, _, expected)) => Err(invalid(key, &value.to_string(), expected)),
            None => Ok(()),
        }
    }
}

const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const WINDOW_TEXT: &str = "a duration from 1s to 24h";
const MAX_ENTRIES: RangeInclusive<usize> = 16..=1 << 20;
const MAX_ENTRIES_TEXT: &str = "a number from 16 to 1048576";
const MAX_TOTAL: RangeInclusive<usize> = 1024..=1 << 24;
const MAX_TOTAL_TEXT: &str = "a number from 1024 to 16777216";
const MAX_OUTSIDERS: RangeInclusive<usize> = 16..=65_536;
const MAX_OUTSIDERS_TEXT: &str = "a number from 16 to 65536";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self {
            window: Self::WINDOW,
            max_entries: Self::MAX_ENTRIES,
            max_total: Self::MAX_TOTAL,
            max_outsiders: Self::MAX_OUTSIDERS,
        }
    }
}
