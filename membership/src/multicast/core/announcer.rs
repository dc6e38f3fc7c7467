//! When to send a heartbeat of our own, and with which alive time.

use std::time::Duration;

use tribes_core::{MemberId, Time};

/// Heartbeats soon after the first, so that the loss of one costs no whole interval: pauses after the first and second.
const BURST: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(100)];
/// At most one heartbeat out of turn in so long: an answer to newcomers.
const EXTRA: Duration = Duration::from_millis(50);

/// The schedule of the announcing half.
#[derive(Debug)]
pub(super) struct Announcer {
    frequency: Duration,
    running: bool,
    /// Alive time counts from here; kept over a stop of the half, so that it rises for as long as the id lives.
    since: Option<(MemberId, Time)>,
    last_alive: i64,
    next: Time,
    burst: usize,
    /// An answer that is owed.
    extra: Option<Time>,
    last_extra: Option<Time>,
}

impl Announcer {
    pub(super) const fn new(frequency: Duration) -> Self {
        Self {
            frequency,
            running: false,
            since: None,
            last_alive: -1,
            next: Time::NEVER,
            burst: 0,
            extra: None,
            last_extra: None,
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running
    }

    /// Begins; the first heartbeat is due now.
    pub(super) fn start(&mut self, id: MemberId, now: Time) {
        if self.since.is_none_or(|(known, _)| known != id) {
            self.since = Some((id, now));
            self.last_alive = -1;
        }
        self.running = true;
        self.burst = 0;
        self.next = now;
        self.extra = None;
    }

    pub(super) const fn stop(&mut self) {
        self.running = false;
        self.next = Time::NEVER;
        self.extra = None;
    }

    /// The local record changed: a heartbeat is due now.
    pub(super) const fn soon(&mut self, now: Time) {
        if self.running {
            self.next = now;
        }
    }

    /// A newcomer is there: let it know of us at once, or as soon as the last such answer is long enough ago.
    pub(super) fn answer(&mut self, now: Time) {
        if self.running && self.extra.is_none() {
            self.extra = Some(self.last_extra.map_or(now, |last| now.max(last + EXTRA)));
        }
    }

    /// Takes what is due; the alive time for the heartbeat to send, if one is.
    pub(super) fn due(&mut self, now: Time) -> Option<i64> {
        let extra = self.extra.is_some_and(|at| at <= now);
        if !self.running || !(extra || self.next <= now) {
            return None;
        }
        if extra {
            self.last_extra = Some(now);
        }
        // Whichever it is, it answers those who were owed one.
        self.extra = None;
        if self.next <= now {
            let pause = BURST.get(self.burst).copied().unwrap_or(self.frequency).min(self.frequency);
            self.burst = self.burst.saturating_add(1);
            self.next = now + pause;
        }
        Some(self.alive(now))
    }

    /// The alive time in milliseconds; always higher than the last one, so that receivers can tell new from old.
    pub(super) fn alive(&mut self, now: Time) -> i64 {
        let since = self.since.map_or(now, |(_, since)| since);
        let elapsed = i64::try_from(now.since(since).as_millis()).unwrap_or(i64::MAX);
        self.last_alive = elapsed.max(self.last_alive.saturating_add(1));
        self.last_alive
    }

    pub(super) fn deadline(&self) -> Time {
        if self.running { self.extra.map_or(self.next, |extra| extra.min(self.next)) } else { Time::NEVER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCY: Duration = Duration::from_millis(500);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn started() -> Announcer {
        let mut announcer = Announcer::new(FREQUENCY);
        announcer.start(MemberId::ZERO, at(1000));
        announcer
    }

    #[test]
    fn a_burst_then_the_interval() {
        let mut announcer = started();
        let mut sent = Vec::new();
        for millis in 1000..2700 {
            if announcer.deadline() <= at(millis) {
                sent.push((millis, announcer.due(at(millis)).unwrap()));
            }
        }
        assert_eq!(sent, [(1000, 0), (1050, 50), (1150, 150), (1650, 650), (2150, 1150), (2650, 1650)]);
    }

    #[test]
    fn answers_are_rate_limited_but_owed() {
        let mut announcer = started();
        announcer.due(at(1000));
        announcer.answer(at(1010));
        assert_eq!(announcer.due(at(1010)), Some(10));
        for millis in 1011..1050 {
            announcer.answer(at(millis));
            assert_eq!(announcer.due(at(millis)), None);
        }
        assert_eq!(announcer.deadline(), at(1050)); // The burst's.
        announcer.due(at(1050));
        assert_eq!(announcer.due(at(1060)), None); // The burst's heartbeat was the answer that was owed.
        announcer.answer(at(1061));
        assert_eq!(announcer.due(at(1061)), Some(61));
        announcer.answer(at(1062));
        assert_eq!(announcer.deadline(), at(1111));
    }

    #[test]
    fn alive_time_rises_strictly_and_over_a_restart_of_the_half() {
        let mut announcer = started();
        assert_eq!(announcer.due(at(1000)), Some(0));
        announcer.soon(at(1000));
        assert_eq!(announcer.due(at(1000)), Some(1));
        announcer.stop();
        assert_eq!(announcer.due(at(9000)), None);
        announcer.start(MemberId::ZERO, at(9000));
        assert_eq!(announcer.due(at(9000)), Some(8000));
        // Another incarnation begins anew.
        announcer.start(MemberId::from_bytes([1; 16]), at(9500));
        assert_eq!(announcer.due(at(9500)), Some(0));
    }
}
