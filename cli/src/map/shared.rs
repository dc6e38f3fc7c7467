//! The map, whole at every member or spread over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes::replication::{Changes, LazyReplicatedMap, MapError, OpenError, ReplicatedMap, Written};
use tribes::{Channel, Member};

use super::args::MapArgs;

/// How long a member that quits waits for others to take over what it holds.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A map of texts.
pub(super) enum Shared {
    /// Everybody holds all.
    Whole(ReplicatedMap<String, String>),
    /// A primary and backups hold each key.
    Spread(LazyReplicatedMap<String, String>),
}

impl Shared {
    pub(super) fn open(channel: &Channel, args: &MapArgs) -> Result<Self, OpenError> {
        let durability = args.durability.within(args.within);
        if let Some(backups) = args.backups {
            let builder = LazyReplicatedMap::builder(&args.name).backups(backups).durability(durability);
            return builder.compare_every(args.compare_every).open(channel).map(Self::Spread);
        }
        let mut builder = ReplicatedMap::builder(&args.name).durability(durability).compare_every(args.compare_every);
        if let Some(size) = args.group_size {
            builder = builder.group_size(size);
        }
        if let Some(directory) = &args.directory {
            builder = builder.directory(directory);
        }
        builder.open(channel).map(Self::Whole)
    }

    pub(super) async fn ready(&self) {
        match self {
            Self::Whole(map) => map.ready().await,
            Self::Spread(map) => map.ready().await,
        }
    }

    /// Entries that are here.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(map) => map.len(),
            Self::Spread(map) => {
                let stats = map.stats();
                stats.primary.entries + stats.backup.entries + stats.surplus.entries
            }
        }
    }

    /// Changes of what is here.
    pub(super) fn changes(&self) -> Changes<String, String> {
        match self {
            Self::Whole(map) => map.changes(),
            Self::Spread(map) => map.changes(),
        }
    }

    pub(super) async fn put(&self, key: &str, value: &String) -> Result<Written, MapError> {
        match self {
            Self::Whole(map) => map.put(key, value).await,
            Self::Spread(map) => map.put(key, value).await,
        }
    }

    pub(super) async fn remove(&self, key: &str) -> Result<Option<Written>, MapError> {
        match self {
            Self::Whole(map) => map.remove(key).await,
            Self::Spread(map) => map.remove(key).await,
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<String>, MapError> {
        match self {
            Self::Whole(map) => Ok(map.get(key)),
            Self::Spread(map) => map.get(key).await,
        }
    }

    /// The entries of the whole map with keys that begin so.
    pub(super) async fn list(&self, prefix: &str) -> Result<BTreeMap<String, String>, MapError> {
        let all = match self {
            Self::Whole(map) => map.snapshot(),
            Self::Spread(map) => map.snapshot().await?,
        };
        Ok(all.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect())
    }

    /// Who is to hold a key, the primary first; `None`: everybody.
    pub(super) fn holders(&self, key: &str) -> Result<Option<Vec<Arc<Member>>>, MapError> {
        match self {
            Self::Whole(_) => Ok(None),
            Self::Spread(map) => map.holders(key).map(Some),
        }
    }

    /// Hands over what only this member holds, if there is any, and leaves.
    pub(super) async fn leave(&self, channel: &Channel) -> Result<(), MapError> {
        match self {
            Self::Whole(map) => map.close(),
            // The last one has nobody to hand over to.
            Self::Spread(map) if channel.view().members().is_empty() => map.close(),
            Self::Spread(map) => {
                let left = map.leave(HAND_OVER).await;
                map.close();
                left?;
            }
        }
        Ok(())
    }
}
