//! What is to be saved, and what was.

use super::{Core, Now};
use crate::context::Context;
use crate::store::{Sibling, Unsaved};

/// What changed since the last one: with it, a copy of the replica is as the replica was at one moment.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Keys with what is there; `None`: nothing.
    pub(crate) entries: Vec<Unsaved>,
    pub(crate) seen: Context,
    pub(crate) time: u64,
}

/// What a predecessor held.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) entries: Vec<(Box<[u8]>, Vec<Sibling>)>,
    pub(crate) seen: Context,
    pub(crate) time: u64,
}

impl Core {
    /// Takes over what was saved, before anything else happens, and remembers what changes. With `acknowledge_saved`, others
    /// hear of a write that it is here only when it is saved.
    pub(crate) fn resume(&mut self, saved: Saved, acknowledge_saved: bool, now: Now) {
        for (key, siblings) in saved.entries {
            self.store.load(&key, siblings, now.time);
        }
        self.saved = acknowledge_saved.then(|| saved.seen.clone());
        self.store.seen = saved.seen;
        self.clock.resume(saved.time);
        self.store.remember_changes();
    }

    /// What changed.
    pub(crate) fn take_batch(&mut self) -> Batch {
        Batch { entries: self.store.take_unsaved(), seen: self.store.seen.clone(), time: self.clock.latest() }
    }

    /// It is saved.
    pub(crate) fn batch_saved(&mut self, batch: Batch, now: Now) {
        if let Some(saved) = &mut self.saved {
            *saved = batch.seen;
            self.peers.values_mut().for_each(|peer| peer.ack_at = now.time);
            self.acknowledge(now);
        }
    }

    /// It could not be saved.
    pub(crate) fn batch_failed(&mut self, batch: Batch) {
        self.store.put_back_unsaved(batch.entries.into_iter().map(|(key, _)| key));
    }
}
