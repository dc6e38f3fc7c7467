//! Who else has the map, and who is to hold what because of it.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

use super::{Out, Shards};
use crate::core::Now;
use crate::lazy::message::Notice;
use crate::lazy::placement::{SHARDS, holders};

/// The first pause before a member that does not answer is greeted again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How often it is said that this member is leaving.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// How often every member is told that this one has the map: whatever they missed, in the end all know of the same members.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Another member of the channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Other {
    /// It was asked whether it has the map.
    Asked {
        again_at: Time,
        pause: Duration,
        until: Time,
    },
    /// It has said so, and when last.
    Has {
        leaving: bool,
        heard: Time,
    },
    HasNot,
}

impl Other {
    /// It has the map, and stays.
    pub(super) const fn has(&self) -> bool {
        matches!(self, Self::Has { leaving: false, .. })
    }

    pub(super) const fn may_have(&self) -> bool {
        !matches!(self, Self::HasNot)
    }

    pub(super) const fn due(&self) -> Time {
        match self {
            Self::Asked { again_at, .. } => *again_at,
            Self::Has { .. } | Self::HasNot => Time::NEVER,
        }
    }
}

impl Shards {
    /// The channel says that a member is there.
    pub(crate) fn member_added(&mut self, member: &Arc<Member>, now: Now) {
        if member.id().is_ours() && member.id() != self.me && !self.others.contains_key(member) {
            let until = now.time + self.rules.tuning.greeting;
            let asked = Other::Asked { again_at: now.time + PAUSE.0, pause: PAUSE.0, until };
            self.others.insert(Arc::clone(member), asked);
            self.greet(member, true);
        }
    }

    /// The channel says that a member is gone, on purpose or not.
    pub(crate) fn member_removed(&mut self, member: &Arc<Member>, on_purpose: bool, now: Now) {
        if self.others.remove(member).is_none() {
            return;
        }
        for number in 0..SHARDS {
            if let Some(core) = self.core(number) {
                core.member_removed(member, on_purpose, now);
            }
            if let Some(shard) = self.shards.get_mut(number) {
                shard.granted.remove(member);
            }
        }
        self.place_soon(now);
    }

    /// The member has no map of this name, or no more; it was asked at `asked`.
    pub(crate) fn has_not(&mut self, member: &Arc<Member>, asked: Time, now: Now) {
        let Some(other) = self.others.get_mut(member) else { return };
        // It may have opened it since: then it has said so, on another way that may be shorter.
        let has_said = matches!(other, Other::Has { heard, .. } if *heard >= asked);
        if !other.may_have() || has_said {
            return;
        }
        *other = Other::HasNot;
        for number in 0..SHARDS {
            if let Some(core) = self.core(number) {
                core.has_no_map(member, Time::NEVER, now);
                core.member_removed(member, true, now);
            }
            if let Some(shard) = self.shards.get_mut(number) {
                shard.granted.remove(member);
            }
        }
        self.place_soon(now);
    }

    /// `from` says that it has the map.
    pub(super) fn here(&mut self, from: &Arc<Member>, reply: bool, leaving: bool, now: Now) {
        let before = self.others.insert(Arc::clone(from), Other::Has { leaving, heard: now.time });
        if !matches!(before, Some(Other::Has { leaving: was, .. }) if was == leaving) {
            for number in 0..SHARDS {
                if let Some(core) = self.core(number) {
                    core.member_added(from, now);
                }
            }
            self.place_soon(now);
        }
        if reply {
            self.greet(from, false);
        }
    }

    fn greet(&mut self, member: &Arc<Member>, reply: bool) {
        let notice = Notice::Here { reply, leaving: self.leaving };
        self.out.push_back(Out::Greet { to: Arc::clone(member), notice });
    }

    pub(super) fn greet_others(&mut self, now: Now) {
        let mut due = Vec::new();
        for (member, other) in &mut self.others {
            if let Other::Asked { again_at, pause, .. } = other
                && *again_at <= now.time
            {
                *pause = (*pause * 2).min(PAUSE.1);
                *again_at = now.time + *pause;
                due.push(Arc::clone(member));
            }
        }
        due.iter().for_each(|member| self.greet(member, true));
        if self.say_at <= now.time {
            self.say_at = now.time + if self.leaving { SAY_EVERY } else { TELL_EVERY };
            let others: Vec<_> = self.others.keys().cloned().collect();
            others.iter().for_each(|member| self.greet(member, false));
        }
    }

    /// Others may come or go at the same moment: it is looked a little later who is to hold what.
    fn place_soon(&mut self, now: Now) {
        let soon = now.time + self.rules.settle;
        self.place_at = if self.place_at == Time::NEVER { soon } else { self.place_at.min(soon) };
    }

    pub(super) fn placement_due(&self) -> Time {
        if self.placed {
            return self.place_at;
        }
        let asked = self.others.values().filter_map(|other| match other {
            Other::Asked { until, .. } => Some(*until),
            _ => None,
        });
        let alone = if self.others.values().any(Other::may_have) { Time::ZERO } else { self.alone_until };
        asked.max().unwrap_or(Time::ZERO).max(alone).min(self.until).max(self.place_at)
    }

    /// Who is to hold what, if that may have changed.
    pub(super) fn place(&mut self, now: Now) {
        if self.placement_due() > now.time {
            return;
        }
        self.placed = true;
        self.place_at = Time::NEVER;
        let others = self.others.iter().filter(|(_, other)| other.has());
        let mut members: Vec<_> = others.map(|(member, _)| (member.id(), Some(Arc::clone(member)))).collect();
        if !self.leaving {
            members.push((self.me, None));
        }
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let holders = holders(number, members.iter().cloned(), self.rules.copies);
            let rank = holders.iter().position(Option::is_none);
            let holders: Vec<_> = holders.into_iter().flatten().collect();
            if rank != shard.rank || holders != shard.holders {
                // What was granted was granted to a member that was to hold something else, by others.
                shard.granted.clear();
                (shard.rank, shard.holders) = (rank, holders);
            }
        }
        self.release_at = now.time;
    }
}
