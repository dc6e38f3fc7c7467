//! Counting.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ReplicatedMap, encode};
use crate::conflict::Counter;
use crate::durability::Written;
use crate::error::MapError;

impl<K: Serialize + DeserializeOwned> ReplicatedMap<K, Counter> {
    /// Adds `change` to the counter at `key`, which begins with 0. None is lost, whoever else adds or removes it at the same
    /// time: a removal takes away what it has seen, and no more.
    ///
    /// # Errors
    /// As [`update`](Self::update), and [`MapError::NoCounters`] if the map was not opened with [`Conflicts::counter`](crate::Conflicts::counter).
    ///
    /// # Cancel safety
    /// As [`put`](Self::put).
    pub async fn add<Q: Serialize + ?Sized>(&self, key: &Q, change: i64) -> Result<Written, MapError> {
        if !self.inner.conflicts.merges() {
            return Err(MapError::NoCounters);
        }
        let (me, raw) = (self.incarnation(), encode(key)?);
        let written = self
            .update(key, |counter| {
                // If others write here in between, the update does not come through either.
                let (new, next) = self.inner.shared.look(|core| core.generation(&raw));
                let mut counter = counter.unwrap_or_default();
                counter.add(me, new, next, change);
                Some(counter)
            })
            .await?;
        // The closure always gives a value.
        written.ok_or(MapError::Closed)
    }

    /// The value of the counter at `key`; 0 if there is none.
    pub fn count<Q: Serialize + ?Sized>(&self, key: &Q) -> i64 {
        self.get(key).map_or(0, |counter| counter.value())
    }
}
