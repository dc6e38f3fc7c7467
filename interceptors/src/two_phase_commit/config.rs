//! Options of [`TwoPhaseCommit`](super::TwoPhaseCommit).

use std::ops::RangeInclusive;
use std::time::Duration;

use tribes_core::SendOptions;
use tribes_core::settings::{SettingFault, duration, options, size};

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
const LONGEST: Duration = Duration::from_secs(86_400);

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

tribes_core::settings! { TwoPhaseCommitConfig {
    trigger: options(), "The option bits that a message must have to go in two phases; the same on all members.";
    timeout: duration(TIMEOUTS), "How long a sender waits for the votes of all destinations.";
    expire: duration(Duration::from_millis(11)..=LONGEST), "How long a received message waits at most for its second phase; more than timeout.";
    max_memory: size(1..=16 << 30), "The most bytes of received messages that wait for their second phase.";
} check(|config| {
    if config.expire <= config.timeout {
        return Err(SettingFault::together("expire", "must be more than timeout"));
    }
    Ok(())
}) }
