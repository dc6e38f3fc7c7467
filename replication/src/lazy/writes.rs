//! Writing: putting, updating, removing, wherever the key is held.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::Member;

use super::message::{Reply, Request};
use super::placement::shard_of;
use super::{Inner, LazyReplicatedMap, encode};
use crate::durability::{CopyState, Durability, Written};
use crate::error::MapError;
use crate::version::Dot;

/// How often [`LazyReplicatedMap::update`] tries.
const TRIES: u32 = 64;

impl<K, V> LazyReplicatedMap<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Puts `value` at `key`, with the map's [durability](crate::LazyMapBuilder::durability).
    ///
    /// # Errors
    /// [`MapError::NotAcknowledged`] if that was not reached: the write is made all the same. [`MapError::Unanswered`] if it is
    /// not known whether it was made. Otherwise nothing was written; with [`MapError::NoHolder`] because nobody who could make it
    /// answers.
    ///
    /// # Cancel safety
    /// Dropped, the write may be made or not.
    pub async fn put<Q: Serialize + ?Sized>(&self, key: &Q, value: &V) -> Result<Written, MapError> {
        self.put_with(key, value, self.inner.durability).await
    }

    /// As [`put`](Self::put), with a durability of its own.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn put_with<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        durability: Durability,
    ) -> Result<Written, MapError> {
        let (key, value) = (encode(key)?, encode(value)?);
        match self.write(key, Some(value), None, durability).await? {
            Outcome::Written(written) => Ok(written),
            // Not without a condition, and not for a value.
            Outcome::Nothing | Outcome::Changed => Err(MapError::Contended { tries: 1 }),
        }
    }

    /// Puts what `change` makes of the value at `key` (`None`: there is none), if the holder that makes the write has the same
    /// by then; otherwise it is made anew. `change` returns `None` to leave it as it is.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`MapError::Contended`].
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn update<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        change: impl FnMut(Option<V>) -> Option<V>,
    ) -> Result<Option<Written>, MapError> {
        self.update_with(key, change, self.inner.durability).await
    }

    /// As [`update`](Self::update), with a durability of its own.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn update_with<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        mut change: impl FnMut(Option<V>) -> Option<V>,
        durability: Durability,
    ) -> Result<Option<Written>, MapError> {
        let key = encode(key)?;
        for _ in 0..TRIES {
            // From the primary, which is to find it unchanged.
            let siblings = self.fetch_anew(&key).await?;
            let dots: Vec<Dot> = siblings.iter().map(|sibling| sibling.version.dot).collect();
            let Some(later) = change(self.resolve(&siblings)) else { return Ok(None) };
            let value = Some(encode(&later)?);
            if let Outcome::Written(written) = self.write(key.clone(), value, Some(dots), durability).await? {
                return Ok(Some(written));
            }
        }
        Err(MapError::Contended { tries: TRIES })
    }

    /// Removes `key`, with the map's [durability](crate::LazyMapBuilder::durability). `None` if there is no such key.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`MapError::Unanswered`] if there is no such key and a member that was asked before may have
    /// removed it.
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn remove<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<Written>, MapError> {
        self.remove_with(key, self.inner.durability).await
    }

    /// As [`remove`](Self::remove), with a durability of its own.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn remove_with<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        durability: Durability,
    ) -> Result<Option<Written>, MapError> {
        match self.write(encode(key)?, None, None, durability).await? {
            Outcome::Written(written) => Ok(Some(written)),
            Outcome::Nothing | Outcome::Changed => Ok(None),
        }
    }

    async fn write(
        &self,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        over: Option<Vec<Dot>>,
        durability: Durability,
    ) -> Result<Outcome, MapError> {
        let shard = shard_of(&key);
        let request = Request::Write { key: key.clone(), value, over, durability };
        let forgets = Forgets { inner: &self.inner, key: &key };
        forgets.forget();
        let reply = self.inner.asker.ask(shard, &request).await;
        // Also what was fetched meanwhile.
        drop(forgets);
        let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        match reply? {
            Reply::Written { version, met, members } => {
                let node = &self.inner.asker.node;
                let members: Vec<(Arc<Member>, CopyState)> =
                    members.into_iter().filter_map(|(id, state)| Some((node.member(id)?, state))).collect();
                if met {
                    Ok(Outcome::Written(Written { version, members }))
                } else {
                    Err(MapError::NotAcknowledged { version, wanted: durability.to_string(), members })
                }
            }
            Reply::Nothing => Ok(Outcome::Nothing),
            Reply::Changed => Ok(Outcome::Changed),
            Reply::ValueTooLarge { bytes, limit } => {
                Err(MapError::ValueTooLarge { bytes: size(bytes), limit: size(limit) })
            }
            Reply::Full { bytes, limit } => Err(MapError::Full { bytes: size(bytes), limit: size(limit) }),
            other @ (Reply::Elsewhere { .. } | Reply::Late | Reply::Found(_) | Reply::Entries { .. }) => {
                Err(MapError::NoHolder { why: format!("a holder answered something else: {other:?}") })
            }
        }
    }
}

/// Forgets what is cached of a key that is written, also if nobody waits for the write any more.
struct Forgets<'a, V> {
    inner: &'a Inner<V>,
    key: &'a [u8],
}

impl<V> Forgets<'_, V> {
    fn forget(&self) {
        if let Some(mut cache) = self.inner.cache() {
            cache.written(self.key);
        }
    }
}

impl<V> Drop for Forgets<'_, V> {
    fn drop(&mut self) {
        self.forget();
    }
}

enum Outcome {
    Written(Written),
    Nothing,
    Changed,
}
