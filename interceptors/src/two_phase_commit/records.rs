//! What was decided, for as long as anybody may ask.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tribes_core::Time;

use super::frame::{Decision, Key};

/// The most decisions that are remembered.
pub(super) const RECORDS: usize = 65_536;

/// Decisions, the oldest of which are forgotten first.
#[derive(Debug)]
pub(super) struct Records {
    decisions: BTreeMap<Key, Decision>,
    order: VecDeque<(Time, Key)>,
    remember: Duration,
    limit: usize,
    /// How much earlier than to others a message may have come here.
    slack: Duration,
    /// Messages that came before may have been forgotten: this member did not run, or has had too much to remember.
    base: Time,
}

impl Records {
    /// Of a member that starts now.
    pub(super) fn new(remember: Duration, slack: Duration, limit: usize, now: Time) -> Self {
        Self { decisions: BTreeMap::new(), order: VecDeque::new(), remember, limit, slack, base: now }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Decision> {
        self.decisions.get(key).copied()
    }

    /// Whether it is certain that a message which came to another member so long ago, and is not here, was never decided
    /// here.
    pub(super) fn is_sure(&self, age: Duration, now: Time) -> bool {
        now.since(self.base) >= age.saturating_add(self.slack)
    }

    /// Remembers a decision; the first one stays.
    pub(super) fn note(&mut self, key: Key, decision: Decision, now: Time) {
        if self.decisions.contains_key(&key) {
            return;
        }
        self.decisions.insert(key, decision);
        self.order.push_back((now + self.remember, key));
        if self.order.len() > self.limit
            && let Some((until, oldest)) = self.order.pop_front()
        {
            self.decisions.remove(&oldest);
            // When it was decided: what came later is all here.
            let decided = Time::ZERO + until.since(Time::ZERO + self.remember);
            self.base = self.base.max(decided);
        }
    }

    /// Forgets what is old enough.
    pub(super) fn tick(&mut self, now: Time) {
        while let Some((_, key)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            self.decisions.remove(&key);
        }
    }

    pub(super) fn next_tick(&self) -> Time {
        self.order.front().map_or(Time::NEVER, |(until, _)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
