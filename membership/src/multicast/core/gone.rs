//! Those who said good-bye a moment ago: what they had sent before it, late or replayed, must not bring them back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Member, Time};

/// So many at most; the oldest make room.
const CAPACITY: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Gone {
    members: BTreeMap<Arc<Member>, (Time, i64)>,
}

impl Gone {
    /// Remembers that `member` left; everything up to `alive_ms` is from before that.
    pub(super) fn insert(&mut self, member: &Arc<Member>, alive_ms: i64, now: Time) {
        if self.members.len() >= CAPACITY && !self.members.contains_key(member) {
            let oldest = self.members.iter().min_by_key(|(_, (at, _))| *at).map(|(member, _)| Arc::clone(member));
            oldest.map(|oldest| self.members.remove(&oldest));
        }
        // Without its payload: only the identity is compared.
        let identity = Member::from_parts(member.id(), member.host().clone(), member.port());
        self.members.insert(Arc::new(identity), (now, alive_ms));
    }

    /// Whether `member` left within the last `grace`, and this heartbeat is from before it. After that time, whoever says
    /// the same is either a replay, which no probe will answer, or a process that was started again under its old id.
    pub(super) fn covers(&self, member: &Member, grace: Duration, now: Time) -> bool {
        let before = |(at, alive): &(Time, i64)| member.alive_ms() <= *alive && now.since(*at) < grace;
        self.members.get(member).is_some_and(before)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn expire(&mut self, limit: Duration, now: Time) {
        self.members.retain(|_, (at, _)| now.since(*at) < limit);
    }

    pub(super) fn clear(&mut self) {
        self.members.clear();
    }
}
