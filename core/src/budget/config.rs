//! How much may wait, and what happens beyond that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::settings::{SettingFault, format_duration, parse_duration};

/// What a queue does with a message that finds it full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverloadPolicy {
    /// Wait this long for the member's queue to move, once per stalled member. A member that frees less than a sixteenth of
    /// its bound in that time has stalled: its messages fail at once until its queue has drained to half. One that keeps
    /// up at all, if more slowly than the sender, makes the sender wait and loses nothing.
    Wait(Duration),
    /// Fail at once.
    Fail,
    /// Make room by dropping the oldest queued message of that member; only queues of asynchronous messages can.
    DropOldest,
}

impl OverloadPolicy {
    /// What [`from_str`](FromStr::from_str) reads, as in "must be …".
    pub const EXPECTED: &'static str = "wait:DURATION (such as wait:200ms), fail or drop-oldest";
}

impl FromStr for OverloadPolicy {
    type Err = SettingFault;

    /// Reads `wait:200ms` (any duration above zero), `fail` or `drop-oldest`.
    fn from_str(text: &str) -> Result<Self, SettingFault> {
        match text.trim() {
            "fail" => Ok(Self::Fail),
            "drop-oldest" => Ok(Self::DropOldest),
            other => {
                let wait = other.strip_prefix("wait:").and_then(parse_duration).filter(|wait| !wait.is_zero());
                wait.map(Self::Wait).ok_or_else(|| SettingFault::invalid("policy", text, Self::EXPECTED))
            }
        }
    }
}

impl fmt::Display for OverloadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(wait) => write!(f, "wait:{}", format_duration(*wait)),
            Self::Fail => f.write_str("fail"),
            Self::DropOldest => f.write_str("drop-oldest"),
        }
    }
}

impl Default for OverloadPolicy {
    /// `Wait(200 ms)`.
    fn default() -> Self {
        Self::Wait(Duration::from_millis(200))
    }
}

/// A member that frees less than one part in this many of its bound during a wait has stalled.
pub(super) const MOVED: usize = 16;

/// Bounds of a [`Budget`](super::Budget). Beyond the total each member with nothing queued may still have one message of up to 64 KiB, so
/// that those who stalled do not silence the others; a message larger than the total is admitted alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Bytes for all members together. Default 32 MiB.
    pub total: usize,
    /// Bytes for one member. Default 8 MiB, a quarter of the total.
    pub per_member: usize,
    /// What to do when full. Default [`OverloadPolicy::Wait`] of 200 ms.
    pub policy: OverloadPolicy,
}

impl BudgetConfig {
    /// A budget of `total` bytes, a quarter of it for one member.
    #[must_use]
    pub fn with_total(total: usize) -> Self {
        Self { total, per_member: total / 4, policy: OverloadPolicy::default() }
    }

    /// With this policy.
    #[must_use]
    pub const fn with_policy(mut self, policy: OverloadPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// With this bound for one member.
    #[must_use]
    pub const fn with_per_member(mut self, bytes: usize) -> Self {
        self.per_member = bytes;
        self
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::with_total(32 << 20)
    }
}

impl BudgetConfig {
    /// So much a member may hold for a waiting sender to go on: just one message's worth of room is no sign that the member
    /// keeps up, and each further message would wait as long.
    pub(super) const fn moved(&self) -> usize {
        self.per_member - self.per_member / MOVED
    }
}
