//! What a farm counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::manifest::Refused;
use crate::name::ArtefactName;

/// What a farm has counted since it was started, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FarmStats {
    /// Of each artefact that something happened to (`farm_{bytes,chunks,verify_failures,activations}_total{artefact,result}`).
    pub artefacts: BTreeMap<ArtefactName, ArtefactStats>,
    /// Chunks that were sent to others.
    pub chunks_served: u64,
    /// Their bytes.
    pub bytes_served: u64,
    /// What others said of artefacts and was not believed, by the reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Versions published here that lost against a later one that had not known of them.
    pub superseded: u64,
}

/// What was counted of one artefact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtefactStats {
    /// Bytes that were fetched and kept.
    pub bytes: u64,
    /// Chunks that were fetched and kept.
    pub chunks: u64,
    /// Chunks, lists of chunks and whole files that were not what they should be, and thrown away.
    pub verify_failures: u64,
    /// Activations that succeeded.
    pub activated: u64,
    /// Activations that failed.
    pub failed: u64,
    /// Times that this member went back to an earlier version.
    pub rolled_back: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<FarmStats>);

impl Counters {
    pub(super) fn of(&self, name: &ArtefactName, change: impl FnOnce(&mut ArtefactStats)) {
        let mut stats = self.lock();
        match stats.artefacts.get_mut(name) {
            Some(found) => change(found),
            None => change(stats.artefacts.entry(name.clone()).or_default()),
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut FarmStats)) {
        change(&mut self.lock());
    }

    /// Counts a refusal; how often that was.
    pub(super) fn refused(&self, why: Refused) -> u64 {
        let mut stats = self.lock();
        let count = stats.refused.entry(why).or_default();
        *count += 1;
        *count
    }

    pub(super) fn forget(&self, name: &ArtefactName) {
        self.lock().artefacts.remove(name);
    }

    pub(super) fn snapshot(&self) -> FarmStats {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, FarmStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
