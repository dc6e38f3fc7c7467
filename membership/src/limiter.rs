//! One log line in a while, instead of one for each datagram of a flood.

use std::time::Duration;

use tribes_core::Time;

/// Lets one event through per period and counts the others.
#[derive(Debug)]
pub(crate) struct Limiter {
    period: Duration,
    next: Time,
    held_back: u64,
}

impl Limiter {
    pub(crate) const fn new(period: Duration) -> Self {
        Self { period, next: Time::ZERO, held_back: 0 }
    }

    /// `Some` if the event may be logged now, with the number of events held back since the last one.
    pub(crate) fn pass(&mut self, now: Time) -> Option<u64> {
        if now < self.next {
            self.held_back += 1;
            return None;
        }
        self.next = now + self.period;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_period_and_the_rest_counted() {
        let mut limiter = Limiter::new(Duration::from_secs(10));
        assert_eq!(limiter.pass(Time::ZERO), Some(0));
        assert_eq!(limiter.pass(Time::from_millis(1)), None);
        assert_eq!(limiter.pass(Time::from_millis(9_999)), None);
        assert_eq!(limiter.pass(Time::from_millis(10_000)), Some(2));
    }
}
