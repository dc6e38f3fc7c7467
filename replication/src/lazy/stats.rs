//! Figures of a lazy map.

use super::cache::Cache;
use super::shards::Shards;

/// What a member holds of a lazy map and as what, and what has happened since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LazyStats {
    /// What this member holds as the primary.
    pub primary: HeldStats,
    /// What it holds as a backup.
    pub backup: HeldStats,
    /// What it holds until others have taken it over.
    pub surplus: HeldStats,
    /// Shards that it is to hold and does not have whole yet.
    pub fetching: usize,
    /// The most writes made here that some other holder has not said to have.
    pub lag: u64,
    /// Entries of others that are kept, and their bytes.
    pub cached: usize,
    /// See [`cached`](Self::cached).
    pub cached_bytes: usize,
    /// Shards fetched from others, and their bytes.
    pub shards_taken: u64,
    /// See [`shards_taken`](Self::shards_taken).
    pub bytes_taken: u64,
    /// Shards let go after others had them.
    pub shards_released: u64,
    /// Writes made by this member as a holder.
    pub written: u64,
    /// Writes that came from other holders as such.
    pub received: u64,
    /// Writes that met one of which their author did not know.
    pub conflicts: u64,
    /// Keys that a comparison with another holder put right.
    pub repairs: u64,
    /// Comparisons with other holders, and those that were not answered to the end.
    pub comparisons: u64,
    /// See [`comparisons`](Self::comparisons).
    pub comparisons_failed: u64,
    /// Buckets that differed in them.
    pub divergent_buckets: u64,
    /// Writes refused: beyond the bounds, or more than an hour in the future.
    pub refused: u64,
}

/// A part of what a member holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldStats {
    /// Shards, of 64.
    pub shards: usize,
    /// Keys with a value.
    pub entries: usize,
    /// Removals that are remembered.
    pub removals: usize,
    /// Keys with several values.
    pub in_conflict: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl LazyStats {
    pub(super) fn of(shards: &Shards, cache: Option<&Cache>) -> Self {
        let mut stats = Self {
            cached: cache.map_or(0, Cache::len),
            cached_bytes: cache.map_or(0, Cache::bytes),
            shards_taken: shards.counts.taken,
            bytes_taken: shards.counts.taken_bytes,
            shards_released: shards.counts.released,
            ..Self::default()
        };
        for shard in shards.all() {
            let Some(core) = &shard.core else {
                stats.fetching += usize::from(shard.rank.is_some());
                continue;
            };
            stats.fetching += usize::from(!core.is_ready());
            let part = match shard.rank {
                Some(0) => &mut stats.primary,
                Some(_) => &mut stats.backup,
                None => &mut stats.surplus,
            };
            let census = core.store.census();
            part.shards += 1;
            part.entries += census.live;
            part.removals += census.removed;
            part.in_conflict += census.in_conflict;
            part.bytes += census.bytes;
            let lag = core.peer_states().into_iter().map(|(_, _, lag)| lag).max().unwrap_or_default();
            stats.lag = stats.lag.max(lag);
            let counts = core.counts;
            stats.written += counts.written;
            stats.received += counts.received;
            stats.conflicts += counts.conflicts;
            stats.repairs += counts.repaired;
            stats.comparisons += counts.rounds;
            stats.comparisons_failed += counts.rounds_failed;
            stats.divergent_buckets += counts.divergent_buckets;
            stats.refused += counts.refused;
        }
        stats
    }
}
