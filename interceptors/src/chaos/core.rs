//! Chance, and the line of what is delayed to one destination. No clock, no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use tribes_core::Time;

use super::ChaosConfig;

/// The chances of one destination, drawn one after another.
#[derive(Debug)]
pub(super) struct Dice(fastrand::Rng);

/// What becomes of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) twice: bool,
    /// It is put aside for so long.
    pub(super) aside: Option<Duration>,
    /// It is delayed by so much, and those behind it wait.
    pub(super) delay: Option<Duration>,
}

impl Dice {
    /// The chances of the `number`th destination under `seed`.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        // An odd constant spreads the numbers over all bits: neighbours are to have nothing in common.
        Self(fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// Draws the fate of the next message. Draws as many numbers whatever the odds: with the same seed, another probability
    /// of one kind leaves the others as they are.
    pub(super) fn throw(&mut self, odds: &ChaosConfig) -> Fate {
        let Self(rng) = self;
        // Below 1, so a probability of 1 is certain and one of 0 is not.
        let [lost, twice, aside, delay, aside_for, delay_by] = std::array::from_fn(|_| rng.f64());
        let lost = lost < odds.loss;
        let delay_range = odds.delay_max.saturating_sub(odds.delay_min);
        Fate {
            lost,
            twice: !lost && twice < odds.duplicate,
            aside: (!lost && aside < odds.reorder).then(|| odds.reorder_within.mul_f64(aside_for)),
            delay: (!lost && delay < odds.delay).then(|| odds.delay_min + delay_range.mul_f64(delay_by)),
        }
    }
}

/// What waits for its time at one destination: a line, of which each goes after the one before it, and others aside.
///
/// Whoever serves it calls [`next`](Self::next) again and again; between two calls what the first gave is in hand.
#[derive(Debug)]
pub(super) struct Line<T> {
    waiting: BTreeMap<(Time, u64), Entry<T>>,
    pushed: u64,
    /// When the last one of the line goes.
    last: Time,
    /// How many of the line wait.
    in_line: usize,
    in_hand: Option<Place>,
    served: bool,
    hurried: bool,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    place: Place,
}

/// Where something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Line,
    Aside,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// This, now.
    Do(T),
    /// Nothing before this time.
    Wait(Time),
    /// Nothing at all: it is not served any more.
    Done,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            pushed: 0,
            last: Time::ZERO,
            in_line: 0,
            in_hand: None,
            served: false,
            hurried: false,
        }
    }
}

impl<T> Line<T> {
    /// Whether a message must get in line, lest it overtakes one.
    pub(super) fn is_busy(&self) -> bool {
        self.in_line > 0 || self.in_hand == Some(Place::Line)
    }

    /// Whether it is served: something waits or is in hand.
    pub(super) const fn is_served(&self) -> bool {
        self.served
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds `item`, to go at `at`, or in line after the one before it. Whether somebody must now begin to serve.
    #[must_use]
    pub(super) fn push(&mut self, item: T, at: Time, place: Place) -> bool {
        let at = match place {
            Place::Aside => at,
            Place::Line => {
                self.in_line += 1;
                // What has gone already delays nobody.
                self.last = if self.in_line > 1 || self.in_hand == Some(Place::Line) { self.last.max(at) } else { at };
                self.last
            }
        };
        self.pushed += 1;
        self.waiting.insert((at, self.pushed), Entry { item, place });
        !std::mem::replace(&mut self.served, true)
    }

    /// What was in hand is done; what is next.
    pub(super) fn next(&mut self, now: Time) -> Step<T> {
        self.in_hand = None;
        match self.waiting.first_entry() {
            None => {
                self.served = false;
                Step::Done
            }
            Some(first) if first.key().0 > now && !self.hurried => Step::Wait(first.key().0),
            Some(first) => {
                let Entry { item, place } = first.remove();
                self.in_hand = Some(place);
                self.in_line -= usize::from(place == Place::Line);
                Step::Do(item)
            }
        }
    }

    /// From now on nothing waits for its time.
    pub(super) const fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Gives up all that wait.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.in_line = 0;
        std::mem::take(&mut self.waiting).into_values().map(|entry| entry.item).collect()
    }

    /// As [`drain`](Self::drain), when nobody serves any more.
    pub(super) fn abandon(&mut self) -> Vec<T> {
        (self.served, self.in_hand) = (false, None);
        self.drain()
    }
}
