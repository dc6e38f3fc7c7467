//! Options of [`RateLimit`](super::RateLimit).

use std::time::Duration;

use tribes_core::settings::{SettingFault, custom, format_duration, number, optional, parse_duration, size};

use super::core::{Limits, Rate};

/// What happens to a message for which there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// It waits for its tokens, in turn. One that would wait for longer than this fails at once.
    Wait(Duration),
    /// It fails.
    Fail,
}

impl OnLimit {
    fn parse(text: &str) -> Option<Self> {
        if text == "fail" {
            return Some(Self::Fail);
        }
        text.strip_prefix("wait:").and_then(parse_duration).filter(|wait| !wait.is_zero()).map(Self::Wait)
    }

    fn show(&self) -> String {
        match self {
            Self::Wait(wait) => format!("wait:{}", format_duration(*wait)),
            Self::Fail => "fail".to_owned(),
        }
    }
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

impl RateLimitConfig {
    /// The default of [`policy`](Self::policy): wait, for at most 10 s.
    pub const POLICY: OnLimit = OnLimit::Wait(Duration::from_secs(10));

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

    pub(super) fn limits(&self) -> Limits {
        let rate =
            |per_s: Option<u64>, burst: Option<u64>| per_s.map(|per_s| Rate { per_s, burst: burst.unwrap_or(per_s) });
        Limits {
            messages: rate(self.messages_per_s, self.burst_messages),
            bytes: rate(self.bytes_per_s, self.burst_bytes),
        }
    }
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { messages_per_s: None, bytes_per_s: None, burst_messages: None, burst_bytes: None, policy: Self::POLICY }
    }
}

tribes_core::settings! { RateLimitConfig {
    messages_per_s: optional("off", number(1..=MAX_MESSAGES)), "The most messages per second to each destination.";
    bytes_per_s: optional("off", size(1..=MAX_BYTES)), "The most bytes of bodies per second to each destination.";
    burst_messages: optional("rate", number(1..=MAX_MESSAGES)),
        "How many messages a destination that was idle gets at once; rate is as many as in one second.";
    burst_bytes: optional("rate", size(1..=MAX_BYTES)),
        "How many bytes a destination that was idle gets at once; rate is as many as in one second.";
    policy: custom("wait:DURATION (such as wait:10s) or fail", OnLimit::parse, OnLimit::show),
        "What happens to a message above the limit: it waits for its turn, at most so long, or fails.";
} check(|config| {
    if config.messages_per_s.is_none() && config.bytes_per_s.is_none() {
        return Err(SettingFault::together("messages_per_s", "set it, or bytes_per_s: there is nothing to limit"));
    }
    Ok(())
}) }
