//! The map of which each key is held by a few members.
//!
//! | file | idea |
//! |---|---|
//! | `placement` | which members are to hold which keys |
//! | `reads`, `writes` | what the application does with it |
//! | `shards` | without I/O: a replica of each shard that is held here, taking over, letting go |
//! | `node` | performs what the shards decide |
//! | `asking` | finding somebody who holds a key |
//! | `answering` | as one that holds it |
//! | `cache` | what others hold, kept for a while |
//! | `message` | what members say to each other |

mod answering;
mod asking;
mod builder;
mod cache;
mod message;
mod node;
mod placement;
mod reads;
mod shards;
mod stats;
#[cfg(test)]
mod tests;
mod writes;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::{Channel, EndpointHandle, Member};

use self::asking::Asker;
pub use self::builder::LazyMapBuilder;
use self::cache::Cache;
use self::placement::{SHARDS, shard_of};
pub use self::stats::{HeldStats, LazyStats};
use crate::conflict::Conflicts;
use crate::durability::Durability;
use crate::error::MapError;
use crate::map::change::{self, Change, ChangeHandle, Changes};
use crate::store::Sibling;

/// A map of which each key is held by a few members: a primary and backups, which all members agree on without talking
/// (Tribes: `LazyReplicatedMap`). For maps that are too large for every member. A cheap handle; all clones are the same, and
/// keep the channel alive.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// use tribes_replication::LazyReplicatedMap;
/// # use tribes_core::Channel;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let net = SimNet::new(7);
/// # let (one, two) = (net.join(Channel::builder()).build()?, net.join(Channel::builder()).build()?);
/// # one.start().await?;
/// # two.start_and_wait(1, std::time::Duration::from_secs(5)).await?;
/// // On each member, on a channel that is started:
/// let here: LazyReplicatedMap<String, u32> = LazyReplicatedMap::builder("stock").backups(1).open(&one)?;
/// let there: LazyReplicatedMap<String, u32> = LazyReplicatedMap::builder("stock").backups(1).open(&two)?;
/// here.put("nails", &12).await?;
/// assert_eq!(there.get("nails").await?, Some(12));
/// there.leave(std::time::Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
///
/// # Who holds what
/// Keys fall into 64 shards. Of each shard, the members with the highest scores for it (rendezvous hashing) are the
/// holders: one and so many [backups](LazyMapBuilder::backups), the first the primary. When a member comes or goes, only what
/// it holds moves: a backup is the primary at once, and a new backup fetches the shard in the background,
/// [a few shards at a time and not too fast](LazyMapBuilder::fetch_limits). Who held a shard before lets it go only when
/// those that hold it now have all of it. A member that [leaves](Self::leave) hands over what it holds first.
///
/// # Guarantees
/// - **Reads** are local where the key is held; otherwise a holder is asked, the primary first. What this member has put and
///   was told to be made, it reads, as long as holders are not cut off from each other.
/// - **Writes** are made by the primary; by another holder if that cannot be asked. [`Durability`] counts the holders: by
///   default a write waits until all have it. So what was acknowledged is lost only if all holders of the key are lost before one
///   of them has been replaced.
/// - **Convergence, conflicts and removals** are those of [`ReplicatedMap`](crate::ReplicatedMap) among the holders of a key;
///   after a partition, too. While the group is split each side goes on with what it holds of it: a key of which the holders are
///   all on the other side is not there.
/// - **Tries**: a put or removal that is not answered is tried with another holder, so it may be made twice: the second time over
///   what another wrote in between, or on both sides of a split group, in conflict with what is written later. It is never made
///   after it was given up, also if a holder's process was stopped meanwhile. An [`update`](Self::update) is not tried again.
/// - **Memory** is bounded by the share: for each shard held about 130 kB, and for each entry what `ReplicatedMap` takes.
///
/// # Differences to Tribes
/// The primary is not who wrote last, and a read moves nothing: where a key is follows from who is there. There are no
/// proxies: members that do not hold a key know nothing of it. Nothing is kept on disk.
pub struct LazyReplicatedMap<K, V> {
    inner: Arc<Inner<V>>,
    keys: PhantomData<fn(K) -> K>,
}

struct Inner<V> {
    asker: Asker,
    conflicts: Conflicts<V>,
    durability: Durability,
    cache: Option<Mutex<Cache>>,
    _endpoint: EndpointHandle,
    channel: Channel,
}

impl<V> Inner<V> {
    fn cache(&self) -> Option<MutexGuard<'_, Cache>> {
        Some(self.cache.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        self.asker.node.close();
    }
}

impl<K, V> Clone for LazyReplicatedMap<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), keys: PhantomData }
    }
}

impl<K, V> fmt::Debug for LazyReplicatedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyReplicatedMap").field("name", &self.inner.asker.node.name()).finish_non_exhaustive()
    }
}

impl<K, V> LazyReplicatedMap<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Opens a map of this name; it tells the lazy maps of a channel apart, and is the same on all members.
    pub fn builder(name: impl Into<String>) -> LazyMapBuilder<K, V> {
        LazyMapBuilder::new(name.into())
    }

    /// Waits until this member holds its share. Operations do not need that: they find who holds a key, and wait for it.
    /// Cancel safe.
    pub async fn ready(&self) {
        self.inner.asker.node.ready().await;
    }

    /// Whether it holds its share.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.asker.node.is_ready()
    }

    /// The entries that this member holds, as primary or backup.
    #[must_use]
    pub fn held(&self) -> Vec<(K, V)> {
        let node = &self.inner.asker.node;
        let raw: Vec<(Vec<u8>, Vec<Sibling>)> = node.look(|shards| {
            let cores = (0..SHARDS).filter_map(|shard| shards.look(shard));
            let live = cores.flat_map(|core| core.store.iter()).filter(|(_, entry)| entry.is_live());
            live.map(|(key, entry)| (key.to_vec(), entry.clone().into_siblings())).collect()
        });
        raw.iter().filter_map(|(key, siblings)| Some((node.listeners.decode(key)?, self.resolve(siblings)?))).collect()
    }

    /// Who is to hold `key`, the primary first, as this member sees it.
    ///
    /// # Errors
    /// If the key cannot be encoded.
    pub fn holders<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Vec<Arc<Member>>, MapError> {
        let route = self.inner.asker.node.route(shard_of(&encode(key)?));
        let local = || self.inner.channel.local();
        Ok(route.holders.into_iter().map(|holder| holder.unwrap_or_else(local)).collect())
    }

    /// Has `listener` called for each change of a key that this member holds, until the handle is dropped: by whomever, and
    /// also when it comes because the member takes its shard over. As [`ReplicatedMap::on_change`](crate::ReplicatedMap::on_change).
    pub fn on_change(&self, listener: impl Fn(&Change<K, V>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        let listeners = &self.inner.asker.node.listeners;
        change::listen(listeners, self.inner.conflicts.clone(), move |change| listener(&change))
    }

    /// As [`on_change`](Self::on_change), told of all values, as
    /// [`ReplicatedMap::on_change_all`](crate::ReplicatedMap::on_change_all).
    pub fn on_change_all(&self, listener: impl Fn(&Change<K, Vec<V>>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        change::listen_all(&self.inner.asker.node.listeners, move |change| listener(&change))
    }

    /// As [`on_change_all`](Self::on_change_all), with values that listeners may keep.
    pub fn on_change_shared(&self, listener: impl Fn(&Change<K, Vec<Arc<V>>>) + Send + Sync + 'static) -> ChangeHandle
    where
        K: 'static,
        V: 'static,
    {
        let decode =
            |listeners: &crate::map::listeners::Listeners, bytes: &Arc<[u8]>| listeners.decode(bytes).map(Arc::new);
        change::listen_by(&self.inner.asker.node.listeners, (decode, |_: &Arc<[u8]>| {}), move |change| {
            listener(&change)
        })
    }

    /// These changes as a stream; as [`ReplicatedMap::changes`](crate::ReplicatedMap::changes).
    #[must_use]
    pub fn changes(&self) -> Changes<K, V>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        Changes::of(&self.inner.asker.node.listeners, self.inner.conflicts.clone())
    }

    /// What this member holds, and what has happened.
    #[must_use]
    pub fn stats(&self) -> LazyStats {
        let cache = self.inner.cache();
        self.inner.asker.node.look(|shards| LazyStats::of(shards, cache.as_deref()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.asker.node.name()
    }

    /// Hands what this member holds over to the others, then leaves. Meanwhile it answers as before; afterwards its
    /// operations fail with [`MapError::Closed`].
    ///
    /// # Errors
    /// [`MapError::NotHandedOver`] if that takes longer than `within`, or nobody is there to take it: it is still a member
    /// then, that takes nothing over any more; try again, or [`close`](Self::close).
    ///
    /// # Cancel safety
    /// Handing over goes on; the member does not leave.
    pub async fn leave(&self, within: Duration) -> Result<(), MapError> {
        let Asker { node, env, .. } = &self.inner.asker;
        let done = env.until(env.now() + within, node.leave()).await.is_some();
        if !done {
            let stats = self.stats();
            let entries = [stats.primary, stats.backup, stats.surplus].iter().map(|part| part.entries).sum();
            return Err(MapError::NotHandedOver { entries });
        }
        node.close();
        Ok(())
    }

    /// Leaves without handing anything over, as if the process had ended.
    pub fn close(&self) {
        self.inner.asker.node.close();
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(value)
}
