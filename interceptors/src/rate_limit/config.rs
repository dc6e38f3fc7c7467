//! Options of [`RateLimit`](super::RateLimit).

use std::time::Duration;

use super::NAME;
use super::core::{Limits, Rate};
use crate::ConfigError;
use crate::config::{duration, size};

/// What happens to a message for which there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// It waits for its tokens, in turn. One that would wait for longer than this fails at once.
    Wait(Duration),
    /// It fails.
    Fail,
}

/// Options of [`RateLimit`](super::RateLimit). All limits are for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Messages per second, 1 to 1,000,000,000. Default `None`: not limited. One of the two limits must be set.
    pub messages_per_s: Option<u64>,
    /// Bytes of bodies per second, 1 to 2^50. Default `None`: not limited.
    pub bytes_per_s: Option<u64>,
    /// How many messages a destination that was idle gets at once. Bounds as [`messages_per_s`](Self::messages_per_s).
    /// Default `None`: those of one second.
    pub burst_messages: Option<u64>,
    /// How many bytes a destination that was idle gets at once. Bounds as [`bytes_per_s`](Self::bytes_per_s). Default
    /// `None`: those of one second.
    pub burst_bytes: Option<u64>,
    /// What happens to a message for which there are no tokens. Default [`RateLimitConfig::POLICY`].
    pub policy: OnLimit,
}

const MAX_MESSAGES: u64 = 1_000_000_000;
const MAX_BYTES: u64 = 1 << 50;
const MESSAGES_TEXT: &str = "a number of messages from 1 to 1000000000";
const BYTES_TEXT: &str = "a size from 1 to 1024TiB such as 500, 64KiB or 10MiB";

impl RateLimitConfig {
    /// The default of [`policy`](Self::policy): wait, for at most 10 s.
    pub const POLICY: OnLimit = OnLimit::Wait(Duration::from_secs(10));

    const KEYS: &'static [&'static str] = &["messages_per_s", "bytes_per_s", "burst_messages", "burst_bytes", "policy"];

    /// With at most this many messages per second.
    #[must_use]
    pub fn with_messages_per_s(mut self, messages: impl Into<Option<u64>>) -> Self {
        self.messages_per_s = messages.into();
        self
    }

    /// With at most this many bytes per second.
    #[must_use]
    pub fn with_bytes_per_s(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.bytes_per_s = bytes.into();
        self
    }

    /// With this many messages at once.
    #[must_use]
    pub fn with_burst_messages(mut self, messages: impl Into<Option<u64>>) -> Self {
        self.burst_messages = messages.into();
        self
    }

    /// With this many bytes at once.
    #[must_use]
    pub fn with_burst_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.burst_bytes = bytes.into();
        self
    }

    /// With this policy.
    #[must_use]
    pub const fn with_policy(mut self, policy: OnLimit) -> Self {
        self.policy = policy;
        self
    }

    /// Sets an option from text: its name in snake_case; bytes as a number or as in `64KiB`; `policy` = `wait:10s` (any
    /// duration) or `fail`.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be; the configuration is then unchanged.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(key) = Self::KEYS.iter().copied().find(|known| *known == key) else {
            return Err(ConfigError::UnknownKey { interceptor: NAME, key: key.to_owned(), known: Self::KEYS });
        };
        let within = |number: Option<u64>, max, expected| {
            number.filter(|number| (1..=max).contains(number)).ok_or_else(|| invalid(key, value, expected))
        };
        let messages = || within(value.trim().parse().ok(), MAX_MESSAGES, MESSAGES_TEXT).map(Some);
        let bytes = || within(size(value), MAX_BYTES, BYTES_TEXT).map(Some);
        match key {
            "messages_per_s" => self.messages_per_s = messages()?,
            "burst_messages" => self.burst_messages = messages()?,
            "bytes_per_s" => self.bytes_per_s = bytes()?,
            "burst_bytes" => self.burst_bytes = bytes()?,
            _ => {
                self.policy = match value.trim() {
                    "fail" => OnLimit::Fail,
                    text => {
                        let wait = text.strip_prefix("wait:").and_then(duration);
                        let expected = "wait:DURATION (such as wait:10s) or fail";
                        OnLimit::Wait(wait.ok_or_else(|| invalid(key, value, expected))?)
                    }
                };
            }
        }
        Ok(())
    }

    /// Checks what the type system does not.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("messages_per_s", self.messages_per_s, MAX_MESSAGES, MESSAGES_TEXT),
            ("burst_messages", self.burst_messages, MAX_MESSAGES, MESSAGES_TEXT),
            ("bytes_per_s", self.bytes_per_s, MAX_BYTES, BYTES_TEXT),
            ("burst_bytes", self.burst_bytes, MAX_BYTES, BYTES_TEXT),
        ];
        for (key, number, max, expected) in numbers {
            if let Some(number) = number.filter(|number| !(1..=max).contains(number)) {
                return Err(invalid(key, &number.to_string(), expected));
            }
        }
        if self.messages_per_s.is_none() && self.bytes_per_s.is_none() {
            return Err(invalid("messages_per_s", "", "set, or bytes_per_s: there is nothing to limit"));
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> Limits {
        let rate =
            |per_s: Option<u64>, burst: Option<u64>| per_s.map(|per_s| Rate { per_s, burst: burst.unwrap_or(per_s) });
        Limits {
            messages: rate(self.messages_per_s, self.burst_messages),
            bytes: rate(self.bytes_per_s, self.burst_bytes),
        }
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError::InvalidValue { interceptor: NAME, key, value: value.to_owned(), expected }
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { messages_per_s: None, bytes_per_s: None, burst_messages: None, burst_bytes: None, policy: Self::POLICY }
    }
}
