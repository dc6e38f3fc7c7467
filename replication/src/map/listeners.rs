//! Who is told of changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::contain::contain;
use crate::core::Author;
use crate::store::Changed;

/// Told of each change.
pub(crate) type Listener = Arc<dyn Fn(&[u8], &Changed, Author) + Send + Sync>;

/// The listeners of one map.
pub(crate) struct Listeners {
    map: String,
    list: ArcSwap<Vec<(u64, Listener)>>,
    count: watch::Sender<u64>,
}

impl Listeners {
    pub(crate) fn new(map: String) -> Arc<Self> {
        Arc::new(Self { map, list: ArcSwap::default(), count: watch::Sender::new(0) })
    }

    /// The map's name.
    pub(crate) fn map(&self) -> &str {
        &self.map
    }

    /// Tells all of a change.
    pub(crate) fn tell(&self, key: &[u8], change: &Changed, by: Author) {
        for (_, listener) in self.list.load().iter() {
            let _ = contain(&self.map, "a listener panicked over a change", || listener(key, change, by));
        }
        // Who begins to wait now looks at the map after that, and finds the change there.
        if self.count.receiver_count() > 0 {
            self.count.send_modify(|count| *count += 1);
        }
    }

    /// Counts changes.
    pub(crate) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// The number under which it is [removed](Self::remove).
    pub(super) fn add(&self, listener: &Listener) -> u64 {
        let key = Arc::as_ptr(listener).addr() as u64;
        self.list.rcu(|list| {
            let mut list = list.as_ref().clone();
            list.push((key, Arc::clone(listener)));
            list
        });
        key
    }

    pub(super) fn remove(&self, number: u64) {
        self.list.rcu(|list| list.iter().filter(|(key, _)| *key != number).cloned().collect::<Vec<_>>());
    }

    /// Reads a key or value; says so if it is none.
    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Option<T> {
        rmp_serde::from_slice(bytes)
            .inspect_err(|error| {
                let wanted = std::any::type_name::<T>();
                tracing::warn!(map = self.map, %error, "an entry is no {wanted}: do all members use the same types?");
            })
            .ok()
    }
}
