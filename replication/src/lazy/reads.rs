//! Reading: here, or from who holds it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Reply, Request};
use super::placement::{SHARDS, shard_of};
use super::{LazyReplicatedMap, encode};
use crate::error::MapError;
use crate::store::Sibling;
use crate::version::Version;

impl<K, V> LazyReplicatedMap<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// The value at `key`: from here if it is held or [cached](crate::LazyMapBuilder::cache) here, else from a holder. `None` also if
    /// it cannot be read as a `V`: then some member writes values of another type, and the log says so.
    ///
    /// # Errors
    /// [`MapError::NoHolder`] if nobody that holds it answers in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<V>, MapError> {
        let siblings = self.fetch(&encode(key)?).await?;
        Ok(self.resolve(&siblings))
    }

    /// All values at `key`, oldest first: several if writes that did not know of each other are
    /// [kept](crate::Conflicts::keep_all).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get_all<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Vec<V>, MapError> {
        let siblings = self.fetch(&encode(key)?).await?;
        Ok(self.values(&siblings).collect())
    }

    /// Whether there is a value at `key`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn contains_key<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<bool, MapError> {
        Ok(self.fetch(&encode(key)?).await?.iter().any(Sibling::is_live))
    }

    /// The version of the latest write of `key`, if it has a value.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn version<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Option<Version>, MapError> {
        let siblings = self.fetch(&encode(key)?).await?;
        Ok(siblings.iter().filter(|sibling| sibling.is_live()).map(|sibling| sibling.version).max())
    }

    /// All entries of the map, fetched from their holders a part at a time. What is written meanwhile may be among them or
    /// not; each key comes once.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn snapshot(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let mut after = None;
            loop {
                let request = Request::List { shard, after: after.take() };
                let Reply::Entries { entries, more } = self.inner.asker.ask(shard, &request).await? else {
                    return Err(MapError::NoHolder { why: "a holder answered something else".to_owned() });
                };
                after = entries.last().filter(|_| more).map(|(key, _)| key.clone());
                let listeners = &self.inner.asker.node.listeners;
                found.extend(
                    entries
                        .iter()
                        .filter_map(|(key, siblings)| Some((listeners.decode(key)?, self.resolve(siblings)?))),
                );
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn fetch(&self, key: &[u8]) -> Result<Vec<Sibling>, MapError> {
        let shard = shard_of(key);
        let now = self.inner.asker.env.now();
        let here = self.inner.asker.node.route(shard).here;
        let (kept, epoch) = match self.inner.cache().filter(|_| !here) {
            Some(mut cache) => (cache.get(key, now).map(<[Sibling]>::to_vec), Some(cache.epoch())),
            None => (None, None),
        };
        if let Some(siblings) = kept {
            return Ok(siblings);
        }
        let siblings = self.fetch_with(key, Request::Get { key: key.to_vec(), first: false }).await?;
        if let Some((mut cache, epoch)) = self.inner.cache().zip(epoch) {
            cache.keep(key, &siblings, epoch, self.inner.asker.env.now());
        }
        Ok(siblings)
    }

    /// From the holder that writes go to.
    pub(super) async fn fetch_anew(&self, key: &[u8]) -> Result<Vec<Sibling>, MapError> {
        self.fetch_with(key, Request::Get { key: key.to_vec(), first: true }).await
    }

    async fn fetch_with(&self, key: &[u8], request: Request) -> Result<Vec<Sibling>, MapError> {
        match self.inner.asker.ask(shard_of(key), &request).await? {
            Reply::Found(siblings) => Ok(siblings),
            other => Err(MapError::NoHolder { why: format!("a holder answered something else: {other:?}") }),
        }
    }

    fn values<'a>(&'a self, siblings: &'a [Sibling]) -> impl Iterator<Item = V> + 'a {
        let listeners = &self.inner.asker.node.listeners;
        siblings.iter().filter_map(|sibling| sibling.value.as_ref()).filter_map(|bytes| listeners.decode(bytes))
    }

    pub(super) fn resolve(&self, siblings: &[Sibling]) -> Option<V> {
        self.inner.conflicts.resolve(self.values(siblings))
    }
}
