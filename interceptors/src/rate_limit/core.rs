//! The token bucket, without clock or lock.
//!
//! A bucket is counted from its full state: what it lacks, as of some time. Messages take their tokens when they come, also
//! those that must wait for them, so one that has to wait knows at once for how long, and giving tokens back is a
//! subtraction. All in whole numbers: tokens times 10^9, which a rate of so many tokens per second gives back by the
//! nanosecond.

use tribes_core::Time;

const SCALE: u128 = 1_000_000_000;

/// How fast a bucket fills, and how much fits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Tokens per second, above zero.
    pub(super) per_s: u64,
    /// Tokens that fit in, above zero.
    pub(super) burst: u64,
}

/// What is limited; either may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) messages: Option<Rate>,
    pub(super) bytes: Option<Rate>,
}

/// What one bucket lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level {
    /// Tokens times [`SCALE`].
    lacks: u128,
    at: Time,
}

impl Level {
    fn lacks(self, rate: Rate, now: Time) -> u128 {
        self.lacks.saturating_sub((now - self.at).as_nanos().saturating_mul(u128::from(rate.per_s)))
    }

    /// When a message that takes `tokens` may go.
    fn ready_at(self, rate: Rate, now: Time, tokens: u64) -> Time {
        let spare = u128::from(rate.burst.saturating_sub(tokens)) * SCALE;
        let nanos = self.lacks(rate, now).saturating_sub(spare).div_ceil(u128::from(rate.per_s.max(1)));
        Time::from_nanos(now.as_nanos().saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn take(&mut self, rate: Rate, now: Time, tokens: u64) {
        // Another thread may have looked at the clock a little later.
        let now = now.max(self.at);
        *self = Self { lacks: self.lacks(rate, now).saturating_add(u128::from(tokens) * SCALE), at: now };
    }

    const fn give_back(&mut self, tokens: u64) {
        self.lacks = self.lacks.saturating_sub(tokens as u128 * SCALE);
    }
}

/// The tokens of one destination: a bucket of messages, and one of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    messages: Level,
    bytes: Level,
}

impl Bucket {
    /// Whether it holds all that fits in, so that a new one would be the same.
    pub(super) fn is_full(&self, limits: &Limits, now: Time) -> bool {
        let full = |level: Level, rate: Option<Rate>| rate.is_none_or(|rate| level.lacks(rate, now) == 0);
        full(self.messages, limits.messages) && full(self.bytes, limits.bytes)
    }

    /// When a message of `len` bytes that comes now may go. One larger than the burst goes when the bucket is full, and
    /// leaves it in debt.
    pub(super) fn ready_at(&self, limits: &Limits, now: Time, len: u64) -> Time {
        let ready =
            |level: Level, rate: Option<Rate>, tokens| rate.map_or(now, |rate| level.ready_at(rate, now, tokens));
        ready(self.messages, limits.messages, 1).max(ready(self.bytes, limits.bytes, len))
    }

    /// Takes the tokens of such a message.
    pub(super) fn take(&mut self, limits: &Limits, now: Time, len: u64) {
        if let Some(rate) = limits.messages {
            self.messages.take(rate, now, 1);
        }
        if let Some(rate) = limits.bytes {
            self.bytes.take(rate, now, len);
        }
    }

    /// Gives the tokens of a message back that was not sent after all.
    pub(super) const fn give_back(&mut self, len: u64) {
        self.messages.give_back(1);
        self.bytes.give_back(len);
    }
}
