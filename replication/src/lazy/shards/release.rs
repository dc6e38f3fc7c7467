//! Letting a shard go that this member is not to hold any more.
//!
//! It asks each member that is to hold the shard whether that has all that its own replica has seen. Only a member grants
//! that which takes itself for a holder, so of two that take each other for the holder neither lets go; and whoever
//! has granted lets go only when others have granted it.

use std::sync::Arc;

use tribes_core::{Member, Time};

use super::Shards;
use crate::context::Context;
use crate::core::Now;
use crate::lazy::message::Notice;
use crate::version::Incarnation;

impl Shards {
    pub(super) fn is_to_go(&self, number: usize) -> bool {
        self.shards.get(number).is_some_and(|shard| {
            shard.rank.is_none() && !shard.holders.is_empty() && shard.core.as_ref().is_some_and(|core| core.is_ready())
        })
    }

    pub(super) fn release_due(&self) -> Time {
        let any = (0..self.shards.len()).any(|number| self.is_to_go(number));
        if self.placed && any { self.release_at } else { Time::NEVER }
    }

    /// Asks for what may be let go, and lets go what was granted.
    pub(super) fn release(&mut self, now: Now) {
        let ask = self.release_at <= now.time;
        if ask {
            self.release_at = now.time + self.rules.tuning.patience;
        }
        for number in 0..self.shards.len() {
            if !self.is_to_go(number) {
                continue;
            }
            let Some(shard) = self.shards.get(number) else { continue };
            let Some(core) = &shard.core else { continue };
            let (me, turn, is_waited_for) = (core.me(), core.store.seen.turn(), core.has_open_ops());
            let missing: Vec<_> =
                shard.holders.iter().filter(|holder| shard.granted.get(*holder) != Some(&turn)).cloned().collect();
            if missing.is_empty() {
                // Whoever waits for a write made here hears how it ends.
                if !is_waited_for {
                    self.let_go(number, now);
                }
            } else if ask {
                let seen = core.store.seen.clone();
                for holder in missing {
                    let seen = seen.clone();
                    self.notice(&holder, Notice::Release { shard: number, asker: me, number: turn, seen });
                }
            }
        }
    }

    fn let_go(&mut self, number: usize, now: Now) {
        if let Some(core) = self.core(number) {
            core.close(now);
        }
        self.collect(now);
        self.counts.released += 1;
        if let Some(shard) = self.shards.get_mut(number) {
            shard.core = None;
            shard.wake = None;
            shard.was_ready = false;
            shard.granted.clear();
        }
    }

    /// `from` wants to let its replica go, which has seen this at a turn of its.
    pub(super) fn asked_for(
        &mut self,
        from: &Arc<Member>,
        number: usize,
        (asker, turn): (Incarnation, u64),
        seen: &Context,
        now: Now,
    ) {
        let holds = !self.leaving && self.shards.get(number).is_some_and(|shard| shard.rank.is_some());
        let Some(core) = self.core(number).filter(|_| holds) else { return };
        if core.is_ready() && core.store.seen.includes(seen) {
            self.notice(from, Notice::Granted { shard: number, asker, number: turn });
        } else {
            core.compare_with(from, now);
        }
    }

    /// Whether nothing is here that anybody could miss.
    pub(super) fn has_nothing(&self) -> bool {
        self.shards.iter().all(|shard| shard.core.as_ref().is_none_or(|core| core.store.census().live == 0))
            && (self.others.values().all(|other| !other.has()) || self.shards.iter().all(|shard| shard.core.is_none()))
    }
}
