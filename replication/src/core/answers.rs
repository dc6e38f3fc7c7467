//! Comparing with a peer, as the one that is asked. Nothing is kept for it: every answer stands for itself.

use std::sync::Arc;

use tribes_core::Member;

use super::{Core, Now};
use crate::context::Context;
use crate::message::{Level, Message};
use crate::store::{GROUPS, Have};

impl Core {
    pub(super) fn asked(&mut self, from: &Arc<Member>, round: u64, level: Level) {
        let (seen, digests) = match level {
            None => (self.store.seen.clone(), self.store.groups().to_vec()),
            Some(group) if usize::from(group) < GROUPS => (Context::default(), self.store.group(group)),
            Some(_) => {
                self.counts.ignored += 1;
                return;
            }
        };
        self.send(from, Message::Digests { round, level, seen, digests });
    }

    pub(super) fn pulled(
        &mut self,
        from: &Arc<Member>,
        round: u64,
        bucket: u16,
        after: Option<Box<[u8]>>,
        have: &[Have],
        now: Now,
    ) {
        let chunk = self.store.compare(bucket, after.as_deref(), have, self.tuning.chunk);
        if chunk.behind {
            // It may be under way.
            self.wish(from, now.time + self.tuning.patience / 4, true);
        }
        let seen = self.store.seen.clone();
        self.send(from, Message::Chunk { round, bucket, after, seen, chunk });
    }
}
