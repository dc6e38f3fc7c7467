//! Taking shards over: those that this member is to hold and does not, a few at a time and not too fast.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::{Other, Shards};
use crate::core::{Core, Now, Tuning};

impl Shards {
    fn is_wanted(&self, number: usize) -> bool {
        self.shards.get(number).is_some_and(|shard| shard.rank.is_some() && shard.core.is_none())
    }

    fn fetching(&self) -> usize {
        self.shards.iter().filter(|shard| shard.core.as_ref().is_some_and(|core| !core.is_ready())).count()
    }

    pub(super) fn taking_due(&self) -> Time {
        let wanted = (0..self.shards.len()).any(|number| self.is_wanted(number));
        if wanted && self.fetching() < self.rules.fetches { self.fetch_at } else { Time::NEVER }
    }

    /// Opens replicas of what this member is to hold.
    pub(super) fn take_over(&mut self, now: Now) {
        for number in 0..self.shards.len() {
            if self.fetch_at > now.time || self.fetching() >= self.rules.fetches {
                return;
            }
            if self.is_wanted(number) {
                self.open(number, now);
                self.collect(now);
            }
        }
    }

    fn open(&mut self, number: usize, now: Now) {
        let me = self.incarnation();
        // Who has the map is known: there is no waiting for somebody to appear.
        let tuning = Tuning { company: Duration::ZERO, ..self.rules.tuning.clone() };
        let mut core = Core::new(me, self.rules.keeping, tuning, Arc::clone(&self.rules.diffs), now);
        // Not only those that are to hold it: others may not have let it go yet.
        let may_hold = |other: &Other| matches!(other, Other::Has { .. });
        let others: Vec<Arc<Member>> =
            self.others.iter().filter(|(_, other)| may_hold(other)).map(|(member, _)| Arc::clone(member)).collect();
        others.iter().for_each(|member| core.member_added(member, now));
        core.tick(now);
        if let Some(shard) = self.shards.get_mut(number) {
            shard.core = Some(core);
            shard.was_ready = false;
            shard.granted.clear();
        }
        self.touched |= 1 << number;
    }

    /// A replica has come to have all that there was, so many bytes.
    pub(super) fn fetched(&mut self, bytes: u64, now: Now) {
        if bytes > 0 {
            self.counts.taken += 1;
            self.counts.taken_bytes += bytes;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rules.fetch_rate.max(1));
        let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.fetch_at = self.fetch_at.max(now.time).after(pause);
    }
}
