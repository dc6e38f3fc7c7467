//! The numbers of one sender, put in order: no I/O, no clock, no locks.
//!
//! A position counts a sender's messages to this member from 1 on without ever wrapping; its low 32 bits are the number on
//! the wire. So two positions always compare, also around the point where Tribes' numbers become negative.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tribes_core::Time;

/// So many positions that were passed are remembered, to tell a duplicate from a message that is too late, and both from a
/// sender that counts anew.
pub(super) const MEMORY: usize = 2048;

/// A sender that counts anew is heard with one of its first numbers, up to this one, unless much of what it sent was lost.
const YOUNG: i32 = 1024;

/// In place of a fingerprint: nothing was delivered at this position.
const GIVEN_UP: u64 = 0;

/// How long a message waits, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) expire: Duration,
    pub(super) max_queue: usize,
    /// Whether what has waited for too long is delivered, rather than dropped.
    pub(super) forward_expired: bool,
}

/// One sender's messages.
#[derive(Debug)]
pub(super) struct Stream<M> {
    /// The position of the next message in order.
    due: i64,
    /// Fingerprints of the last positions before `due`, the latest at the end.
    past: VecDeque<u64>,
    /// What came too early, by position.
    waiting: BTreeMap<i64, Waiting<M>>,
    /// The same, by age.
    ages: BTreeSet<(Time, i64)>,
    /// When a message last was in order.
    last_in_order: Time,
    /// In order; to be taken by whoever delivers.
    pub(super) ready: VecDeque<M>,
    /// Expired and not to be delivered.
    pub(super) expired: Vec<M>,
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Waiting<M> {
    fingerprint: u64,
    since: Time,
    msg: M,
}

/// What happened since somebody took note of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Positions given up: their messages did not come in time.
    pub(super) given_up: u64,
    /// The sender began to count anew.
    pub(super) restarts: u64,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate<M> {
    /// It is in `ready`, and whatever waited for it behind it.
    Ready,
    /// It came too early and waits.
    Waits,
    /// It was delivered, or waits, already.
    Duplicate(M),
    /// Its place was given up.
    Late(M),
    /// No sender numbers its messages so.
    Impossible(M),
}

impl<M> Default for Stream<M> {
    fn default() -> Self {
        Self {
            due: 1,
            past: VecDeque::new(),
            waiting: BTreeMap::new(),
            ages: BTreeSet::new(),
            last_in_order: Time::ZERO,
            ready: VecDeque::new(),
            expired: Vec::new(),
            counts: Counts::default(),
        }
    }
}

impl<M> Stream<M> {
    /// Takes in the message `number`. `fingerprint` is the same for copies of one message only, and never zero. If the
    /// message has to wait it is first prepared for that by `park`.
    pub(super) fn arrive(
        &mut self,
        number: i32,
        fingerprint: u64,
        mut msg: M,
        now: Time,
        bounds: &Bounds,
        park: impl FnOnce(&mut M),
    ) -> Fate<M> {
        let position = self.position(number);
        if position < 1 {
            return Fate::Impossible(msg);
        }
        if position < self.due {
            match self.passed(position) {
                Some(GIVEN_UP) => return Fate::Late(msg),
                Some(known) if known == fingerprint => return Fate::Duplicate(msg),
                // Another message under a number that was used: the sender has lost its count, and we have not.
                Some(_) => self.restart(),
                // Nobody remembers what was there. It may be a copy that took very long, while the sender goes on.
                None if (1..=YOUNG).contains(&number) => self.restart(),
                None if self.last_in_order.after(bounds.expire) > now => return Fate::Late(msg),
                None => self.restart_at(number),
            }
            return self.arrive(number, fingerprint, msg, now, bounds, park);
        }
        if position > self.due {
            match self.waiting.get(&position) {
                Some(known) if known.fingerprint == fingerprint => return Fate::Duplicate(msg),
                Some(_) => {
                    self.restart();
                    return self.arrive(number, fingerprint, msg, now, bounds, park);
                }
                None => {}
            }
            park(&mut msg);
            self.ages.insert((now, position));
            self.waiting.insert(position, Waiting { fingerprint, since: now, msg });
            while self.waiting.len() >= bounds.max_queue.max(1) {
                self.release_first(!bounds.forward_expired);
                self.follow();
            }
            return if self.waiting.contains_key(&position) { Fate::Waits } else { Fate::Ready };
        }
        self.last_in_order = now;
        self.pass(fingerprint, Some(msg));
        self.follow();
        Fate::Ready
    }

    /// Releases what has waited until its time, and whatever stands before it in order. Messages that have waited too long
    /// go to `expired` unless they are to be forwarded.
    pub(super) fn tick(&mut self, now: Time, bounds: &Bounds) {
        let due = |since: Time| since.after(bounds.expire) <= now;
        let Some(last) = self.ages.iter().take_while(|(since, _)| due(*since)).map(|(_, position)| *position).max()
        else {
            return;
        };
        while let Some((position, first)) = self.waiting.first_key_value()
            && *position <= last
        {
            let drop = !bounds.forward_expired && due(first.since);
            self.release_first(drop);
        }
        self.follow();
    }

    /// Releases everything that waits, in order: nothing more is expected.
    pub(super) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            self.release_first(false);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self, bounds: &Bounds) -> Time {
        self.ages.first().map_or(Time::NEVER, |(since, _)| since.after(bounds.expire))
    }

    /// How many messages wait for earlier ones.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The position that `number` means: the nearest to the one that is due. Of a sender that nothing is known of, numbers
    /// only grow from 1 on.
    fn position(&self, number: i32) -> i64 {
        let distance = number.wrapping_sub(wire(self.due));
        let fresh = self.past.is_empty();
        self.due + if fresh && distance != -1 { i64::from(distance.cast_unsigned()) } else { i64::from(distance) }
    }

    /// What was at a position that was passed; `None` if it is too long ago.
    fn passed(&self, position: i64) -> Option<u64> {
        let back = usize::try_from(self.due - position).ok()?;
        self.past.get(self.past.len().checked_sub(back)?).copied()
    }

    /// Delivers what waits, and begins at 1 again.
    fn restart(&mut self) {
        self.flush();
        self.past.clear();
        self.due = 1;
        self.counts.restarts += 1;
    }

    /// Delivers what waits, and goes on at `number`.
    fn restart_at(&mut self, number: i32) {
        self.restart();
        let counts = self.counts;
        self.give_up_to(self.position(number));
        self.counts = counts;
    }

    /// Gives up what is missing before the first that waits, and delivers that, or drops it.
    fn release_first(&mut self, drop: bool) {
        let Some((position, first)) = self.waiting.pop_first() else { return };
        self.ages.remove(&(first.since, position));
        self.give_up_to(position);
        if drop {
            self.expired.push(first.msg);
            self.pass(GIVEN_UP, None);
        } else {
            self.pass(first.fingerprint, Some(first.msg));
        }
    }

    /// Delivers what waited for the message before it and for nothing else.
    fn follow(&mut self) {
        while let Some(next) = self.waiting.remove(&self.due) {
            self.ages.remove(&(next.since, self.due));
            self.pass(next.fingerprint, Some(next.msg));
        }
    }

    /// The position that is due is done with.
    fn pass(&mut self, fingerprint: u64, msg: Option<M>) {
        self.ready.extend(msg);
        if self.past.len() >= MEMORY {
            self.past.pop_front();
        }
        self.past.push_back(fingerprint);
        self.due += 1;
    }

    fn give_up_to(&mut self, position: i64) {
        let missing = u64::try_from(position - self.due).unwrap_or(0);
        self.counts.given_up += missing;
        let noted = usize::try_from(missing).unwrap_or(usize::MAX).min(MEMORY);
        let room = MEMORY - noted;
        let excess = self.past.len().saturating_sub(room);
        self.past.drain(..excess);
        self.past.extend(std::iter::repeat_n(GIVEN_UP, noted));
        self.due = position;
    }
}

/// The number that stands for `position` on the wire.
pub(super) const fn wire(position: i64) -> i32 {
    let [_, _, _, _, low @ ..] = position.to_be_bytes();
    i32::from_be_bytes(low)
}
