//! Options of [`TwoPhaseCommit`](super::TwoPhaseCommit).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::SendOptions;

use super::NAME;
use crate::ConfigError;
use crate::config::{DURATION, duration, size};

/// Options of [`TwoPhaseCommit`](super::TwoPhaseCommit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TwoPhaseCommitConfig {
    /// Only messages with all these option bits go in two phases (Tribes: `optionFlag`). Must be the same on all members.
    /// Default none: all messages.
    pub trigger: SendOptions,
    /// How long a sender waits for the votes of all destinations, from when it accepted the message; it gives the message up
    /// for all of them when one is missing then. 10 ms to 1 h. Default [`TIMEOUT`](Self::TIMEOUT). (Tribes has none: it waits
    /// for the first phase to be sent.)
    pub timeout: Duration,
    /// How long a received message waits at most for its second phase; how long one of ours asks around before it gives up
    /// (Tribes: `expire`). What was decided is remembered for twice that time. More than [`timeout`](Self::timeout), at most
    /// a day; should be the same on all members. Default [`EXPIRE`](Self::EXPIRE).
    pub expire: Duration,
    /// The most bytes of received messages that wait for their second phase, or for listeners after it, 1 KiB for each
    /// message included; a quarter of them of one sender, or more if it is that sender's only message. A message for which
    /// there is no room is voted against. 1 byte to 16 GiB. Default [`MAX_MEMORY`](Self::MAX_MEMORY). (Tribes has no bound.)
    pub max_memory: usize,
}

impl TwoPhaseCommitConfig {
    /// The default of [`timeout`](Self::timeout), 5 s.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`expire`](Self::expire), 60 s, as in Tribes.
    pub const EXPIRE: Duration = Duration::from_secs(60);
    /// The default of [`max_memory`](Self::max_memory), 128 MiB.
    pub const MAX_MEMORY: usize = 128 << 20;

    const KEYS: &'static [&'static str] = &["trigger", "timeout", "expire", "max_memory"];

    /// With these option bits.
    #[must_use]
    pub const fn with_trigger(mut self, trigger: SendOptions) -> Self {
        self.trigger = trigger;
        self
    }

    /// With so much time for all votes.
    #[must_use]
    pub const fn with_timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// With so much time for the second phase.
    #[must_use]
    pub const fn with_expire(mut self, time: Duration) -> Self {
        self.expire = time;
        self
    }

    /// With this bound for all messages that wait.
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
    /// is seen when the channel starts.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        match key {
            "timeout" => {
                let time = duration(value).filter(|time| TIMEOUTS.contains(time));
                self.timeout = time.ok_or_else(|| invalid(key, value, TIMEOUTS_TEXT))?;
            }
            "expire" => {
                let time = duration(value).filter(|time| *time <= LONGEST);
                self.expire = time.ok_or_else(|| invalid(key, value, DURATION))?;
            }
            "max_memory" => {
                let bytes = size(value).and_then(|bytes| usize::try_from(bytes).ok());
                let bytes = bytes.filter(|bytes| MEMORY.contains(bytes));
                self.max_memory = bytes.ok_or_else(|| invalid(key, value, MEMORY_TEXT))?;
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
        if !TIMEOUTS.contains(&self.timeout) {
            return Err(invalid("timeout", &format!("{:?}", self.timeout), TIMEOUTS_TEXT));
        }
        if self.expire <= self.timeout || self.expire > LONGEST {
            return Err(invalid("expire", &format!("{:?}", self.expire), "more than timeout, and at most a day"));
        }
        if !MEMORY.contains(&self.max_memory) {
            return Err(invalid("max_memory", &self.max_memory.to_string(), MEMORY_TEXT));
        }
        Ok(())
    }

    /// How often one that is in doubt asks again.
    pub(super) fn ask_every(&self) -> Duration {
        (self.timeout / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }

    /// How long what was decided is remembered: nobody asks for longer.
    pub(super) const fn remember(&self) -> Duration {
        self.expire.saturating_mul(2)
    }
}

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const TIMEOUTS_TEXT: &str = "a duration from 10ms to 1h such as 250ms, 1s or 5m";
const LONGEST: Duration = Duration::from_secs(86_400);
const MEMORY: RangeInclusive<usize> = 1..=16 << 30;
const MEMORY_TEXT: &str = "a size from 1 to 16GiB such as 128MiB";

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for TwoPhaseCommitConfig {
    fn default() -> Self {
        Self {
            trigger: SendOptions::empty(),
            timeout: Self::TIMEOUT,
            expire: Self::EXPIRE,
            max_memory: Self::MAX_MEMORY,
        }
    }
}
