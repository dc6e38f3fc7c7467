//! The map that every member holds whole.

mod builder;
mod change;
#[cfg(all(test, feature = "persist"))]
mod disk_tests;
mod iter;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod writing;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::{Channel, EndpointHandle};

pub use self::builder::MapBuilder;
pub use self::change::{By, Change, ChangeHandle, Changes};
pub use self::iter::Iter;
use self::shared::Shared;
pub use self::stats::{MapStats, PeerStats};
pub use self::writing::Writing;
use crate::conflict::{Conflicts, Counter};
use crate::core::Refused;
use crate::durability::{Durability, Written};
use crate::error::MapError;
use crate::version::{Dot, Incarnation, Version};

/// How often [`ReplicatedMap::update`] tries.
const TRIES: u32 = 64;

/// A map of which every member of the group that opens it holds a whole replica (Tribes: `ReplicatedMap`). A cheap handle; all
/// clones are the same replica, and keep the channel alive. When the last is dropped the replica leaves.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// use tribes_replication::ReplicatedMap;
/// # use tribes_core::Channel;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let net = SimNet::new(7);
/// # let (one, two) = (net.join(Channel::builder()).build()?, net.join(Channel::builder()).build()?);
/// # one.start().await?;
/// # two.start_and_wait(1, std::time::Duration::from_secs(5)).await?;
/// // On each member, on a channel that is started:
/// let here: ReplicatedMap<String, u32> = ReplicatedMap::builder("stock").open(&one)?;
/// let there: ReplicatedMap<String, u32> = ReplicatedMap::builder("stock").open(&two)?;
/// here.ready().await;
/// there.ready().await;
/// here.put("nails", &12).await?;
/// there.changed(|map| map.get("nails") == Some(12)).await;
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// - **Convergence**: members that can reach each other come to hold the same, without anybody doing anything: after lost
///   messages, crashes, restarts, and partitions of any length. How soon: at once for what arrives; within a second for what
///   was lost on the way and noticed; at the latest with the next comparison
///   ([`compare_every`](MapBuilder::compare_every), 10 s).
/// - **One write is one change** (Tribes sends a removal and then a value, and loses keys by it: T1). No order, repetition or
///   loss of messages makes an earlier write win over a later one that knew of it, or brings a removed key back.
/// - **Reads** are local and never wait. A write is visible here at once, elsewhere when it arrives: two members may see
///   writes of different authors in different order for a while. There is no transaction over several keys.
/// - **Conflicts** between writes that did not know of each other are settled by [`Conflicts`], alike on all members.
/// - **Durability** is chosen per write: see [`Durability`]. A write that fails with
///   [`NotAcknowledged`](MapError::NotAcknowledged) is made all the same.
/// - **Memory** is bounded by [`max_bytes`](MapBuilder::max_bytes) of keys and values, some 150 bytes an entry besides, and a
///   few messages for each member: one that cannot keep up gets no more single writes, and the difference when it can.
///
/// Removals are remembered for [a time](MapBuilder::removals), so that a member that was away does not bring back what was
/// removed meanwhile.
///
/// # Differences to Tribes
/// There is no primary copy: a read never moves anything, and no member's death makes an entry change hands. Operations
/// report (T55), joining takes the state from several members in small parts while writes go on (T54), and members compare what
/// they hold (T56). The messages are our own: nothing is exchanged with Tribes' maps.
pub struct ReplicatedMap<K, V> {
    inner: Arc<Inner<V>>,
    keys: PhantomData<fn(K) -> K>,
}

struct Inner<V> {
    shared: Arc<Shared>,
    conflicts: Conflicts<V>,
    differ: Option<Differ<V>>,
    durability: Durability,
    /// Before the endpoint: what is unsaved is saved when the last handle goes.
    #[cfg(feature = "persist")]
    saver: Option<crate::disk::Saver>,
    _endpoint: EndpointHandle,
    _channel: Channel,
}

/// A key with its values, oldest first.
type RawEntry = (Box<[u8]>, Vec<Arc<[u8]>>);

/// Makes a diff of an earlier value and a later one.
type Differ<V> = fn(&V, &V) -> Option<Vec<u8>>;

impl<K, V> Clone for ReplicatedMap<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), keys: PhantomData }
    }
}

impl<K, V> fmt::Debug for ReplicatedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedMap").field("name", &self.inner.shared.name()).finish_non_exhaustive()
    }
}

impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<K, V> ReplicatedMap<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Opens a map of this name; it tells the maps of a channel apart, and is the same on all members.
    pub fn builder(name: impl Into<String>) -> MapBuilder<K, V> {
        MapBuilder::new(name.into())
    }

    /// As [`builder`](Self::builder) and [`open`](MapBuilder::open) with all defaults.
    ///
    /// # Errors
    /// As [`MapBuilder::open`].
    pub fn open(channel: &Channel, name: impl Into<String>) -> Result<Self, crate::OpenError> {
        Self::builder(name).open(channel)
    }

    /// Waits until this replica has what the group had when it was opened. Before that it misses entries, and what is written
    /// is merged with what comes. Cancel safe.
    pub async fn ready(&self) {
        self.inner.shared.ready().await;
    }

    /// Whether it has what the group had.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.shared.is_ready()
    }

    /// The value at `key`. `None` also if it cannot be read as a `V`: then some member writes values of another type, and
    /// the log says so.
    pub fn get<Q: Serialize + ?Sized>(&self, key: &Q) -> Option<V> {
        self.read(&encode(key).ok()?).0
    }

    /// All values at `key`, oldest first: several if writes that did not know of each other are
    /// [kept](Conflicts::keep_all).
    pub fn get_all<Q: Serialize + ?Sized>(&self, key: &Q) -> Vec<V> {
        let Ok(key) = encode(key) else { return Vec::new() };
        let raw = self.inner.shared.look(|core| values(core.store.get(&key)));
        raw.iter().filter_map(|bytes| self.inner.shared.decode(bytes)).collect()
    }

    /// The version of the latest value at `key`.
    pub fn version<Q: Serialize + ?Sized>(&self, key: &Q) -> Option<Version> {
        let key = encode(key).ok()?;
        self.inner
            .shared
            .look(|core| core.store.get(&key).and_then(crate::store::Entry::latest_value).map(|latest| latest.version))
    }

    /// Whether there is a value at `key`.
    pub fn contains_key<Q: Serialize + ?Sized>(&self, key: &Q) -> bool {
        let Ok(key) = encode(key) else { return false };
        self.inner.shared.look(|core| core.store.get(&key).is_some_and(crate::store::Entry::is_live))
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.shared.look(|core| core.store.census().live)
    }

    /// Whether no key has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `value` at `key`, with the map's [durability](MapBuilder::durability).
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
        let key = encode(key)?;
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
        mut change: impl FnMut(Option<V>) -> Option<V>,
        durability: Durability,
    ) -> Result<Option<Written>, MapError> {
        let key = encode(key)?;
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
                Ok((made, outcome)) => return Writing::new(made.version, outcome, durability).await.map(Some),
                Err(Refusal::Changed) => {}
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
        Err(MapError::Contended { tries: TRIES })
    }

    /// Removes `key`, with the map's [durability](MapBuilder::durability). `None` if there is no such key here.
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
        let key = encode(key)?;
        let made = self.inner.shared.write_if(durability, |core, wanted, now| Ok(core.remove(&key, wanted, now)))?;
        Ok(made.map(|(made, outcome)| Writing::new(made.version, outcome, durability)))
    }

    /// The entries, in no particular order. Entries written while it runs may be in it or not; each key comes once.
    #[must_use]
    pub fn iter(&self) -> Iter<K, V> {
        Iter::new(self.clone())
    }

    /// The entries as they are at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(K, V)> {
        let raw: Vec<RawEntry> = self.inner.shared.look(|core| {
            let live = core.store.iter().filter(|(_, entry)| entry.is_live());
            live.map(|(key, entry)| (key.into(), values(Some(entry)))).collect()
        });
        raw.into_iter().filter_map(|(key, values)| self.decode_entry(&key, &values)).collect()
    }

    /// Has `listener` called for each change of a key, in the order in which they happen here, until the handle is dropped. It
    /// is called where the change is made or arrives: it should be quick, and may use the map but not wait. What it
    /// writes is told after it has returned.
    pub fn on_change(&self, listener: impl Fn(&Change<K, V>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        change::listen(&self.inner.shared, self.inner.conflicts.clone(), move |change| listener(&change))
    }

    /// The changes from now on as a stream of at most 1,024 that wait; who is slower misses the oldest, and is told.
    #[must_use]
    pub fn changes(&self) -> Changes<K, V>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        Changes::of(self)
    }

    /// Waits until `condition` holds, looking after each change. Cancel safe.
    pub async fn changed(&self, condition: impl FnMut(&Self) -> bool) {
        let (mut condition, mut changes) = (condition, self.inner.shared.change_count());
        while !condition(self) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What the map holds, whom it shares it with, and what has happened.
    #[must_use]
    pub fn stats(&self) -> MapStats {
        self.inner.shared.look(MapStats::of)
    }

    /// This opening of the map, which is in the versions of what is written here.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.shared.look(|core| core.me())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.shared.name()
    }

    /// Tells the others that this replica leaves. It stays readable here; writes fail with [`MapError::Closed`].
    pub fn close(&self) {
        self.inner.shared.close();
    }

    /// Waits until what has happened so far is on disk. Completes at once for a map without a
    /// [directory](MapBuilder::directory). Cancel safe.
    #[cfg(feature = "persist")]
    pub async fn saved(&self) {
        if let Some(saver) = &self.inner.saver {
            let change = saver.signal().changed();
            // The thread ends with this handle.
            let _ = saver.progress().wait_for(|done| *done >= change).await;
        }
    }

    /// The value of a key and the writes that it consists of.
    fn read(&self, key: &[u8]) -> (Option<V>, Vec<Dot>) {
        let (raw, dots) = self.inner.shared.look(|core| (values(core.store.get(key)), core.writes_at(key)));
        let values = raw.iter().filter_map(|bytes| self.inner.shared.decode(bytes));
        (self.inner.conflicts.resolve(values), dots)
    }

    fn decode_entry(&self, key: &[u8], values: &[Arc<[u8]>]) -> Option<(K, V)> {
        let values = values.iter().filter_map(|bytes| self.inner.shared.decode(bytes));
        Some((self.inner.shared.decode(key)?, self.inner.conflicts.resolve(values)?))
    }
}

impl<K: Serialize + DeserializeOwned> ReplicatedMap<K, Counter> {
    /// Adds `change` to the counter at `key`, which begins with 0. None is lost, whoever else adds or removes it at the same
    /// time: a removal takes away what it has seen, and no more.
    ///
    /// # Errors
    /// As [`update`](Self::update), and [`MapError::NoCounters`] if the map was not opened with [`Conflicts::counter`].
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

/// Why a write was not made.
enum Refusal {
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

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(value)
}

fn values(entry: Option<&crate::store::Entry>) -> Vec<Arc<[u8]>> {
    entry.into_iter().flat_map(crate::store::Entry::values).cloned().collect()
}
