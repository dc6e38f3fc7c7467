//! Memory for messages that wait, by their senders.

use std::collections::BTreeMap;
use std::sync::Arc;

use tribes_core::Member;

/// What a message costs beside its body: no less than the memory for its place here.
pub(super) const MESSAGE_COST: usize = 1024;

/// Bytes that are taken.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    held: usize,
    senders: BTreeMap<Arc<Member>, usize>,
}

/// There is no memory left for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no memory left for messages that wait for their second phase; raise `max_memory` of two-phase-commit"
)]
pub struct NoMemory;

impl Room {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, held: 0, senders: BTreeMap::new() }
    }

    /// Takes room for a message of `from`: of a quarter of it all, or of all for its only message.
    pub(super) fn take(&mut self, from: &Arc<Member>, cost: usize) -> Result<(), NoMemory> {
        let own = self.senders.get(from).copied().unwrap_or(0);
        let fits = own == 0 || own.saturating_add(cost) <= self.max / 4;
        if !fits || self.held.saturating_add(cost) > self.max {
            return Err(NoMemory);
        }
        self.held += cost;
        *self.senders.entry(Arc::clone(from)).or_default() += cost;
        Ok(())
    }

    pub(super) fn give_back(&mut self, from: &Arc<Member>, cost: usize) {
        self.held = self.held.saturating_sub(cost);
        if let Some(own) = self.senders.get_mut(from) {
            *own = own.saturating_sub(cost);
            if *own == 0 {
                self.senders.remove(from);
            }
        }
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }
}
