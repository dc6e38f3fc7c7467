//! Tribes' own protection against replays: the time inside, and a memory of IVs (wire section 11.4).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::EncryptError;

/// What was opened lately. Times are wall-clock milliseconds, as the senders' are.
#[derive(Debug)]
pub(super) struct ReplayWindow {
    /// How far a sender's time may be from ours, both ways.
    width_ms: i64,
    /// How many IVs are remembered at most.
    limit: usize,
    seen: HashSet<[u8; 16]>,
    oldest: BinaryHeap<Reverse<(i64, [u8; 16])>>,
    /// Times up to this one are refused: their IVs may have been forgotten.
    floor_ms: i64,
}

impl ReplayWindow {
    pub(super) fn new(width_ms: i64, limit: usize, now_ms: i64) -> Self {
        Self {
            width_ms,
            limit,
            seen: HashSet::new(),
            oldest: BinaryHeap::new(),
            floor_ms: now_ms.saturating_sub(width_ms),
        }
    }

    /// Whether a sender can have had this time.
    pub(super) fn is_plausible(&self, time_ms: i64, now_ms: i64) -> bool {
        time_ms >= now_ms.saturating_sub(self.width_ms) && time_ms <= now_ms.saturating_add(self.width_ms)
    }

    /// Takes note of a message that was opened, unless it is too old or too new, or was here before.
    pub(super) fn check(&mut self, time_ms: i64, iv: [u8; 16], now_ms: i64) -> Result<(), EncryptError> {
        if !self.is_plausible(time_ms, now_ms) || time_ms <= self.floor_ms {
            return Err(EncryptError::Stale { apart_ms: now_ms.abs_diff(time_ms) });
        }
        if !self.seen.insert(iv) {
            return Err(EncryptError::Replayed);
        }
        self.oldest.push(Reverse((time_ms, iv)));
        // Java forgets by count alone, and so remembers messages that are refused for their age anyway.
        while self.oldest.peek().is_some_and(|Reverse((oldest_ms, _))| {
            self.oldest.len() > self.limit || *oldest_ms < now_ms.saturating_sub(self.width_ms)
        }) {
            if let Some(Reverse((oldest_ms, iv))) = self.oldest.pop() {
                self.seen.remove(&iv);
                self.floor_ms = self.floor_ms.max(oldest_ms);
            }
        }
        Ok(())
    }

    /// How many IVs are remembered.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}
