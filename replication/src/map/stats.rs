//! Figures of a map.

use std::sync::Arc;

use tribes_core::Member;

use crate::core::Core;

/// What a map holds, whom it shares it with, and what has happened since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapStats {
    /// Keys with a value.
    pub entries: usize,
    /// Removals that are remembered.
    pub removals: usize,
    /// Keys with several values.
    pub in_conflict: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
    /// The other replicas.
    pub peers: Vec<PeerStats>,
    /// Writes made here.
    pub written: u64,
    /// Writes of others that arrived as such.
    pub received: u64,
    /// Those of them that were here already.
    pub duplicates: u64,
    /// Those that met one of which their author did not know.
    pub conflicts: u64,
    /// Keys that a comparison put right: writes that had not come, removals too.
    pub repairs: u64,
    /// Comparisons with a peer.
    pub comparisons: u64,
    /// Those that the peer did not answer to the end.
    pub comparisons_failed: u64,
    /// Buckets (of 4,096) that differed in them.
    pub divergent_buckets: u64,
    /// Writes of others that were refused: beyond the bounds, or more than an hour in the future.
    pub refused: u64,
    /// Values of which a diff was sent.
    pub diffs: u64,
    /// Diffs that came for a version that was not here: the value is fetched whole.
    pub diffs_without_base: u64,
    /// Messages that were not for this replica.
    pub ignored: u64,
    /// How often it could not be saved; what was to be saved is kept, and tried again.
    pub saves_failed: u64,
}

/// Another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Who has it.
    pub member: Arc<Member>,
    /// Whether it has what the group had when it was opened.
    pub ready: bool,
    /// How many of the writes made here it has not said to have.
    pub lag: u64,
}

impl MapStats {
    pub(super) fn of(core: &Core) -> Self {
        let (census, counts) = (core.store.census(), core.counts);
        let peer = |(member, ready, lag)| PeerStats { member, ready, lag };
        Self {
            entries: census.live,
            removals: census.removed,
            in_conflict: census.in_conflict,
            bytes: census.bytes,
            peers: core.peer_states().into_iter().map(peer).collect(),
            written: counts.written,
            received: counts.received,
            duplicates: counts.duplicates,
            conflicts: counts.conflicts,
            repairs: counts.repaired,
            comparisons: counts.rounds,
            comparisons_failed: counts.rounds_failed,
            divergent_buckets: counts.divergent_buckets,
            refused: counts.refused,
            diffs: counts.diffs_sent,
            diffs_without_base: counts.diffs_without_base,
            ignored: counts.ignored,
            saves_failed: counts.saves_failed,
        }
    }
}
