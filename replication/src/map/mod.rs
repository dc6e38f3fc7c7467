//! The map that every member holds whole.

mod builder;
pub(crate) mod change;
mod counters;
mod decoded;
#[cfg(all(test, feature = "persist"))]
mod disk_tests;
mod iter;
pub(crate) mod listeners;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod writes;
mod writing;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use tribes_core::{Channel, EndpointHandle};

pub use self::builder::MapBuilder;
pub use self::change::{By, Change, ChangeHandle, Changes};
pub(crate) use self::decoded::Decoded;
pub use self::iter::Iter;
use self::shared::Shared;
pub use self::stats::{MapStats, PeerStats};
use self::writes::Refusal;
pub use self::writing::Writing;
use crate::conflict::Conflicts;
use crate::durability::Durability;
#[cfg(feature = "persist")]
use crate::error::MapError;
use crate::version::{Dot, Incarnation, Version};

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
///   was lost on the way and noticed; at the latest when those who differ compare
///   ([`compare_every`](MapBuilder::compare_every), by default each with one other every 10 s, in turn).
/// - **One write is one change** (Tribes sends a removal and then a value, and loses keys by it: T1). No order, repetition or
///   loss of messages makes an earlier write win over a later one that knew of it, or brings a removed key back.
/// - **Reads** are local and never wait. A write is visible here at once, elsewhere when it arrives: two members may see
///   writes of different authors in different order for a while. There is no transaction over several keys.
/// - **Conflicts** between writes that did not know of each other are settled by [`Conflicts`], alike on all members.
/// - **Durability** is chosen per write: see [`Durability`]. A write that fails with
///   [`NotAcknowledged`](crate::MapError::NotAcknowledged) is made all the same.
/// - **Memory** is bounded by [`max_bytes`](MapBuilder::max_bytes) of keys and values, some 180 bytes an entry besides, and a
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
    decoded: Arc<Decoded>,
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
    ///
    /// Exactly: each part of the keys (of 64) was fetched whole from one member that was ready itself. What that member lacked
    /// at that moment, a write on its way to it for instance, comes as everything does that was missed: by the comparisons
    /// that begin now, and later ones. And it does not wait for ever: if members do not answer within the
    /// [`greeting`](MapBuilder::greeting), or nobody brings a part, the rest comes by comparisons, too.
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
        self.read(&encode_key(key).ok()?).0
    }

    /// As [`get`](Self::get), without a copy: with a [cache](crate::MapBuilder::cache) the value that was made from its bytes before, which
    /// stays the same one until it changes.
    pub fn get_shared<Q: Serialize + ?Sized>(&self, key: &Q) -> Option<Arc<V>>
    where
        V: Send + Sync + 'static,
    {
        let key = encode_key(key).ok()?;
        let (first, several) = self.inner.shared.look(|core| {
            let mut values = core.store.get(&key).into_iter().flat_map(crate::store::Entry::values);
            (values.next().cloned(), values.next().is_some())
        });
        if several {
            let raw = self.inner.shared.look(|core| values(core.store.get(&key)));
            return self.shared_value(&raw);
        }
        self.shared_value(first.as_slice())
    }

    /// All values at `key`, oldest first: several if writes that did not know of each other are
    /// [kept](Conflicts::keep_all).
    pub fn get_all<Q: Serialize + ?Sized>(&self, key: &Q) -> Vec<V> {
        let Ok(key) = encode(key) else { return Vec::new() };
        let raw = self.inner.shared.look(|core| values(core.store.get(&key)));
        raw.iter().filter_map(|bytes| self.inner.shared.listeners.decode(bytes)).collect()
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
    /// writes is told after it has returned. While it is at work no other change is told, and messages that come hold up their
    /// senders.
    ///
    /// Take care with listeners that write: one that answers each change with a change goes on for ever, also round about, when
    /// two keys or the listeners of two members answer each other. Write only what is not there yet, or only what
    /// [`By::Local`] changes call for.
    pub fn on_change(&self, listener: impl Fn(&Change<K, V>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        change::listen(&self.inner.shared.listeners, self.inner.conflicts.clone(), move |change| listener(&change))
    }

    /// As [`on_change`](Self::on_change), told of all values that the key had and has, oldest first: several if writes that
    /// did not know of each other are [kept](Conflicts::keep_all) or [merged](Conflicts::merge). So a listener sees also
    /// writes that lose.
    pub fn on_change_all(&self, listener: impl Fn(&Change<K, Vec<V>>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        change::listen_all(&self.inner.shared.listeners, move |change| listener(&change))
    }

    /// As [`on_change_all`](Self::on_change_all), without copies: see [`get_shared`](Self::get_shared).
    pub fn on_change_shared(&self, listener: impl Fn(&Change<K, Vec<Arc<V>>>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: Send + Sync + 'static,
    {
        let decoded = Arc::clone(&self.inner.decoded);
        let forgotten = Arc::clone(&decoded);
        let decode = move |listeners: &listeners::Listeners, bytes: &Arc<[u8]>| {
            decoded.get(bytes, |bytes| listeners.decode(bytes))
        };
        let forget = move |bytes: &Arc<[u8]>| forgotten.forget(bytes);
        change::listen_by(&self.inner.shared.listeners, (decode, forget), move |change| listener(&change))
    }

    /// The changes from now on as a stream of at most 1,024 that wait; who is slower misses the oldest, and is told.
    #[must_use]
    pub fn changes(&self) -> Changes<K, V>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        Changes::of(&self.inner.shared.listeners, self.inner.conflicts.clone())
    }

    /// Waits until `condition` holds, looking after each change. Cancel safe.
    pub async fn changed(&self, condition: impl FnMut(&Self) -> bool) {
        let (mut condition, mut changes) = (condition, self.inner.shared.listeners.count());
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

    /// Tells the others that this replica leaves. It stays readable here; writes fail with [`MapError::Closed`](crate::MapError::Closed).
    pub fn close(&self) {
        self.inner.shared.close();
    }

    /// Waits until what has happened so far is on disk; while the disk fails it is tried again and again. Completes at once for a
    /// map without a [directory](MapBuilder::directory). Cancel safe.
    ///
    /// # Errors
    /// [`MapError::NotSaved`] if that is not to be waited for: the map is closed and the disk fails, or the thread that saves
    /// has died.
    #[cfg(feature = "persist")]
    pub async fn saved(&self) -> Result<(), MapError> {
        let Some(saver) = &self.inner.saver else { return Ok(()) };
        let change = saver.signal().changed();
        let mut progress = saver.progress();
        let given_up = |failed: Option<u64>| failed >= Some(change) && self.inner.shared.is_closed();
        let came = progress.wait_for(|now| now.saved >= change || given_up(now.failed)).await;
        came.ok().filter(|now| now.saved >= change).map(|_| ()).ok_or(MapError::NotSaved)
    }

    /// The value of a key and the writes that it consists of.
    fn read(&self, key: &[u8]) -> (Option<V>, Vec<Dot>) {
        let (raw, dots) = self.inner.shared.look(|core| values_and_writes(core.store.get(key)));
        let values = raw.iter().filter_map(|bytes| self.inner.shared.listeners.decode(bytes));
        (self.inner.conflicts.resolve(values), dots)
    }

    /// What some bytes were made from.
    fn shared_value(&self, raw: &[Arc<[u8]>]) -> Option<Arc<V>>
    where
        V: Send + Sync + 'static,
    {
        match raw {
            [] => None,
            [only] => self.inner.decoded.get(only, |bytes| self.inner.shared.listeners.decode(bytes)),
            _ => {
                let values = raw.iter().filter_map(|bytes| self.inner.shared.listeners.decode(bytes));
                self.inner.conflicts.resolve(values).map(Arc::new)
            }
        }
    }

    fn decode_entry(&self, key: &[u8], values: &[Arc<[u8]>]) -> Option<(K, V)> {
        let values = values.iter().filter_map(|bytes| self.inner.shared.listeners.decode(bytes));
        Some((self.inner.shared.listeners.decode(key)?, self.inner.conflicts.resolve(values)?))
    }
}

/// Most keys are short: they are made in place.
fn encode_key<T: Serialize + ?Sized>(key: &T) -> Result<SmallVec<[u8; 32]>, rmp_serde::encode::Error> {
    let mut bytes = SmallVec::new();
    rmp_serde::encode::write_named(&mut bytes, key)?;
    Ok(bytes)
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(value)
}

fn values(entry: Option<&crate::store::Entry>) -> Vec<Arc<[u8]>> {
    entry.into_iter().flat_map(crate::store::Entry::values).cloned().collect()
}

/// The values of a key, and the writes that made it what it is.
fn values_and_writes(entry: Option<&crate::store::Entry>) -> (Vec<Arc<[u8]>>, Vec<Dot>) {
    (values(entry), entry.into_iter().flat_map(crate::store::Entry::writes).collect())
}
