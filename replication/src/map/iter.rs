//! Going through a map while it changes.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{RawEntry, ReplicatedMap, values};
use crate::store::BUCKETS;

/// The entries of a map; see [`ReplicatedMap::iter`]. Takes them a part at a time: a long iteration holds nobody up.
pub struct Iter<K, V> {
    map: ReplicatedMap<K, V>,
    bucket: u16,
    taken: std::vec::IntoIter<RawEntry>,
}

impl<K, V> Iter<K, V> {
    pub(super) fn new(map: ReplicatedMap<K, V>) -> Self {
        Self { map, bucket: 0, taken: Vec::new().into_iter() }
    }
}

impl<K, V> Iterator for Iter<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            for (key, values) in self.taken.by_ref() {
                if let Some(entry) = self.map.decode_entry(&key, &values) {
                    return Some(entry);
                }
            }
            if usize::from(self.bucket) >= BUCKETS {
                return None;
            }
            let bucket = self.bucket;
            self.bucket += 1;
            let taken: Vec<_> = self.map.inner.shared.look(|core| {
                let live = core.store.range(bucket, None).filter(|(_, entry)| entry.is_live());
                live.map(|(key, entry)| (key.into(), values(Some(entry)))).collect()
            });
            self.taken = taken.into_iter();
        }
    }
}

impl<K, V> fmt::Debug for Iter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("map", &self.map).finish_non_exhaustive()
    }
}
