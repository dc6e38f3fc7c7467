//! Writing: putting, updating, removing.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ReplicatedMap, Writing, encode, encode_key};
use crate::core::Refused;
use crate::durability::{Durability, Written};
use crate::error::MapError;

/// By so many bytes a value grows, mostly.
const SPARE: usize = 64;
/// How often [`ReplicatedMap::update`] tries.
const TRIES: u32 = 64;

impl<K, V> ReplicatedMap<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Puts `value` at `key`, with the map's [durability](crate::MapBuilder::durability).
    ///
    /// # Errors
    /// [`MapError::NotAcknowledged`] if that was not reached: the write is made all the same. Otherwise nothing was written.
    ///
    /// # Cancel safety
    /// The write is made at the first poll. Dropped after that, it is made, and its outcome is lost.
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
        self.begin_put(key, value, durability)?.await
    }

    /// Puts `value` at `key` at once, and gives what its outcome comes from: for whoever has many writes on their way.
    ///
    /// # Errors
    /// If nothing was written.
    pub fn begin_put<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        value: &V,
        durability: Durability,
    ) -> Result<Writing, MapError> {
        let key = encode_key(key)?;
        let diff_from = self.inner.differ.map(|differ| (differ, self.read(&key)));
        let diff = diff_from.and_then(|(differ, (earlier, dots))| Some((differ(&earlier?, value)?, dots)));
        let bytes: Arc<[u8]> = encode(value)?.into();
        let (made, outcome) = self.inner.shared.write(durability, |core, wanted, now| {
            if let Some((diff, dots)) = diff
                && let Ok(made) = core.put_over(&key, &dots, Arc::clone(&bytes), Some(diff.into()), wanted, now)
            {
                return Ok(made);
            }
            core.put(&key, bytes, None, wanted, now)
        })?;
        Ok(Writing::new(made.version, outcome, durability))
    }

    /// Puts what `change` makes of the value at `key` (`None`: there is none), if nobody writes in between here; otherwise it
    /// is made anew. `change` returns `None` to leave it as it is. Writes of others at the same time are a conflict as always.
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
        change: impl FnMut(Option<V>) -> Option<V>,
        durability: Durability,
    ) -> Result<Option<Written>, MapError> {
        match self.begin_update(key, change, durability)? {
            Some(writing) => writing.await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`begin_put`](Self::begin_put) for an [`update`](Self::update); `None` if it is left as it is.
    ///
    /// # Errors
    /// If nothing was written.
    pub fn begin_update<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        mut change: impl FnMut(Option<V>) -> Option<V>,
        durability: Durability,
    ) -> Result<Option<Writing>, MapError> {
        let key = encode_key(key)?;
        for _ in 0..TRIES {
            let (earlier, dots) = self.read(&key);
            let base = self.inner.differ.and_then(|differ| Some((differ, self.read(&key).0?)));
            let Some(later) = change(earlier) else { return Ok(None) };
            let diff = base.and_then(|(differ, earlier)| differ(&earlier, &later)).map(Arc::from);
            let bytes: Arc<[u8]> = encode(&later)?.into();
            let put = self
                .inner
                .shared
                .write(durability, |core, wanted, now| core.put_over(&key, &dots, bytes, diff, wanted, now));
            match put {
                Ok((made, outcome)) => return Ok(Some(Writing::new(made.version, outcome, durability))),
                Err(Refusal::Changed) => {}
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
        Err(MapError::Contended { tries: TRIES })
    }

    /// As [`begin_update`](Self::begin_update), without copies: `change` sees the value where it lies. Also what is there
    /// afterwards, be it changed or not.
    ///
    /// # Errors
    /// As [`begin_update`](Self::begin_update).
    pub fn begin_update_shared<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        mut change: impl FnMut(Option<&V>) -> Option<V>,
        durability: Durability,
    ) -> Result<(Option<Writing>, Option<Arc<V>>), MapError>
    where
        V: Send + Sync + 'static,
    {
        let key = encode_key(key)?;
        for _ in 0..TRIES {
            let (raw, dots) = self.inner.shared.look(|core| super::values_and_writes(core.store.get(&key)));
            let earlier = self.shared_value(&raw);
            let Some(later) = change(earlier.as_deref()) else { return Ok((None, earlier)) };
            let diff = self.inner.differ.zip(earlier).and_then(|(differ, earlier)| differ(&earlier, &later));
            let about = raw.iter().map(|bytes| bytes.len()).max().unwrap_or_default() + SPARE;
            let bytes: Arc<[u8]> = crate::diff::encode(&later, about)?.into();
            let later = Arc::new(later);
            // Before it is there: those who listen to changes are told of it while it is written.
            self.inner.decoded.put(&bytes, &later);
            let put = self.inner.shared.write(durability, |core, wanted, now| {
                core.put_over(&key, &dots, bytes, diff.map(Arc::from), wanted, now)
            });
            match put {
                Ok((made, outcome)) => {
                    raw.iter().for_each(|bytes| self.inner.decoded.forget(bytes));
                    return Ok((Some(Writing::new(made.version, outcome, durability)), Some(later)));
                }
                Err(Refusal::Changed) => {}
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
        Err(MapError::Contended { tries: TRIES })
    }

    /// Removes `key`, with the map's [durability](crate::MapBuilder::durability). `None` if there is no such key here.
    ///
    /// # Errors
    /// As [`put`](Self::put).
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
        match self.begin_remove(key, durability)? {
            Some(writing) => writing.await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`begin_put`](Self::begin_put) for a removal; `None` if there is no such key here.
    ///
    /// # Errors
    /// If nothing was written.
    pub fn begin_remove<Q: Serialize + ?Sized>(
        &self,
        key: &Q,
        durability: Durability,
    ) -> Result<Option<Writing>, MapError> {
        let key = encode_key(key)?;
        let made = self.inner.shared.write_if(durability, |core, wanted, now| Ok(core.remove(&key, wanted, now)))?;
        Ok(made.map(|(made, outcome)| Writing::new(made.version, outcome, durability)))
    }
}

/// Why a write was not made.
pub(super) enum Refusal {
    Changed,
    Error(MapError),
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ValueTooLarge { bytes, limit } => Self::Error(MapError::ValueTooLarge { bytes, limit }),
            Refused::MapFull { bytes, limit } => Self::Error(MapError::Full { bytes, limit }),
            Refused::Changed => Self::Changed,
        }
    }
}

impl From<Refusal> for MapError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Changed => Self::Contended { tries: 1 },
            Refusal::Error(error) => error,
        }
    }
}
