//! How long a connection may take for what, without I/O.

use std::time::Duration;

use tribes_core::Time;

use super::ReceiverConfig;

/// The slowest peer that is waited for, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// Which patience ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// No whole frame came at all.
    FirstFrame,
    /// A frame was begun and not finished.
    HalfFrame,
    /// Not of a member, and quiet.
    Idle,
    /// A probe that was answered was not closed.
    Probe,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    first_frame: Duration,
    idle: Duration,
    half_frame: Duration,
    opened: Time,
    /// When the last whole frame was done with.
    last: Option<Time>,
    /// When the present frame began.
    begun: Option<Time>,
    /// The time that its size allows beside.
    size: Duration,
    /// For how long the receiver itself did not read since then.
    held_up: Duration,
    /// The end of all of it, for a probe.
    limit: Option<Time>,
}

impl Patience {
    pub(super) const fn new(config: &ReceiverConfig, now: Time) -> Self {
        Self {
            first_frame: config.first_frame,
            idle: config.unidentified_idle,
            half_frame: config.half_frame,
            opened: now,
            last: None,
            begun: None,
            size: Duration::ZERO,
            held_up: Duration::ZERO,
            limit: None,
        }
    }

    /// A whole frame has been done with.
    pub(super) const fn frame_done(&mut self, now: Time) {
        self.last = Some(now);
        self.begun = None;
        self.size = Duration::ZERO;
        self.held_up = Duration::ZERO;
    }

    /// About to read, with `pending` bytes of a frame there, whose whole size is `needed` if that is known.
    pub(super) fn reading(&mut self, pending: usize, needed: Option<usize>, now: Time) {
        if pending == 0 {
            self.begun = None;
            return;
        }
        self.begun.get_or_insert(now);
        let needed = needed.map_or(0, |needed| u64::try_from(needed).unwrap_or(u64::MAX));
        self.size = Duration::from_secs(needed / SLOWEST);
    }

    /// The receiver did not read for so long, for want of room.
    pub(super) const fn held_up(&mut self, time: Duration) {
        self.held_up = self.held_up.saturating_add(time);
    }

    /// Everything ends then.
    pub(super) const fn limit(&mut self, limit: Time) {
        self.limit = Some(limit);
    }

    /// Until when to wait for more, and what it means if nothing comes; `None` for as long as it takes.
    pub(super) fn deadline(&self, identified: bool) -> Option<(Time, Late)> {
        let allowed = self.size.saturating_add(self.held_up);
        let half = self.begun.map(|begun| (begun + self.half_frame.saturating_add(allowed), Late::HalfFrame));
        let limit = self.limit.map(|limit| (limit, Late::Probe));
        let quiet = match self.last {
            _ if identified => None,
            None => Some((self.opened + self.first_frame.saturating_add(allowed), Late::FirstFrame)),
            Some(last) => Some((last + self.idle.saturating_add(allowed), Late::Idle)),
        };
        [half, limit, quiet].into_iter().flatten().min_by_key(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    fn patience() -> Patience {
        Patience::new(&ReceiverConfig::default(), at(100))
    }

    #[test]
    fn the_first_frame_must_come_soon_however_its_bytes_trickle() {
        let mut patience = patience();
        assert_eq!(patience.deadline(false), Some((at(105), Late::FirstFrame)));
        patience.reading(1, None, at(104));
        patience.reading(2, None, at(104));
        assert_eq!(patience.deadline(false), Some((at(105), Late::FirstFrame)));
        // A large one may take the time that its size needs on a slow network.
        patience.reading(12, Some(640 << 10), at(104));
        assert_eq!(patience.deadline(false), Some((at(115), Late::FirstFrame)));
    }

    #[test]
    fn a_member_may_rest_between_frames_but_not_within_one() {
        let mut patience = patience();
        patience.frame_done(at(101));
        patience.reading(0, None, at(101));
        assert_eq!(patience.deadline(true), None);
        assert_eq!(patience.deadline(false), Some((at(161), Late::Idle)));
        patience.reading(5, None, at(200));
        patience.reading(6, None, at(205));
        assert_eq!(patience.deadline(true), Some((at(210), Late::HalfFrame)));
        patience.reading(20, Some(128 << 10), at(206));
        patience.held_up(Duration::from_secs(7));
        assert_eq!(patience.deadline(true), Some((at(219), Late::HalfFrame)));
        patience.frame_done(at(207));
        assert_eq!(patience.deadline(true), None);
    }

    #[test]
    fn a_probe_ends() {
        let mut patience = patience();
        patience.frame_done(at(100));
        patience.limit(at(105));
        assert_eq!(patience.deadline(false), Some((at(105), Late::Probe)));
    }
}
