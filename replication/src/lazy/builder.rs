//! How a lazy map is to be.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::rpc::{Reply as RpcReply, Request as RpcRequest, RpcChannel};
use tribes_core::{BoxError, Channel, Env};

use super::asking::{Asker, bounded};
use super::cache::Cache;
use super::message::{self, Reply, Request};
use super::node::{Node, RawDiffer};
use super::shards::{Rules, Shards};
use super::{Inner, LazyReplicatedMap};
use crate::conflict::Conflicts;
use crate::core::{Diffs, NoDiffs, Now, Tuning};
use crate::diff::{Diffable, DiffsOf};
use crate::durability::Durability;
use crate::error::OpenError;

/// How long a write may wait here that another asked for.
const LONGEST: Duration = Duration::from_secs(60);

/// Sets up a [`LazyReplicatedMap`]. What is said to be the same on all members must be.
pub struct LazyMapBuilder<K, V> {
    name: String,
    conflicts: Conflicts<V>,
    durability: Durability,
    tuning: Tuning,
    backups: usize,
    fetches: usize,
    fetch_rate: u64,
    patience: Duration,
    cache: Option<(Duration, usize)>,
    differ: Option<RawDiffer>,
    diffs: Arc<dyn Diffs>,
    keys: PhantomData<fn(K)>,
}

impl<K, V> fmt::Debug for LazyMapBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyMapBuilder")
            .field("name", &self.name)
            .field("conflicts", &self.conflicts)
            .field("durability", &self.durability)
            .field("backups", &self.backups)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl<K, V> LazyMapBuilder<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            conflicts: Conflicts::latest_wins(),
            durability: Durability::all(Duration::from_secs(5)),
            tuning: Tuning::default(),
            backups: 1,
            fetches: 4,
            fetch_rate: 64 << 20,
            patience: Duration::from_secs(10),
            cache: None,
            differ: None,
            diffs: Arc::new(NoDiffs),
            keys: PhantomData,
        }
    }

    /// How many members hold a key besides its primary: so many can be lost at once, and nothing with them. Default 1. The same
    /// on all members.
    #[must_use]
    pub const fn backups(mut self, backups: usize) -> Self {
        self.backups = backups;
        self
    }

    /// The rule for writes that did not know of each other; the same on all members. Default: the latest wins.
    #[must_use]
    pub fn conflicts(mut self, conflicts: Conflicts<V>) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// What writes wait for that do not say it themselves, among the holders of the key. Default: that
    /// [all](Durability::all) have it, for 5 s at most.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sends diffs of values between holders, where both have the version that they are made from. The same on all members.
    #[must_use]
    pub fn diffs(mut self) -> Self
    where
        V: Diffable + 'static,
    {
        self.differ = Some(Arc::new(|earlier, later| {
            let read = |bytes| rmp_serde::from_slice::<V>(bytes).ok();
            read(later)?.diff(&read(earlier)?)
        }));
        self.diffs = Arc::new(DiffsOf::<V>(PhantomData));
        self
    }

    /// Keeps values that were fetched from others, for `max_age` and up to `max_bytes` of keys and values: a [`get`] may
    /// then be so much older than what the holders have, except for writes made through this map's own handles. Default: no.
    ///
    /// [`get`]: LazyReplicatedMap::get
    #[must_use]
    pub const fn cache(mut self, max_age: Duration, max_bytes: usize) -> Self {
        self.cache = Some((max_age, max_bytes));
        self
    }

    /// How long an operation looks for a member that holds the key and answers. Default 10 s.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many shards, of 64, this member fetches at the same time when it is to hold more, and how many bytes a second at
    /// most, on average. Default 4 and 64 MiB.
    #[must_use]
    pub fn fetch_limits(mut self, shards: usize, bytes_per_second: u64) -> Self {
        self.fetches = shards.max(1);
        self.fetch_rate = bytes_per_second.max(1);
        self
    }

    /// How often the replica of each shard compares with another holder. Default 10 s, at least 100 ms.
    #[must_use]
    pub fn compare_every(mut self, every: Duration) -> Self {
        self.tuning.compare_every = every.max(Duration::from_millis(100));
        self
    }

    /// For how long removals are remembered; as [`MapBuilder::removals`](crate::MapBuilder::removals).
    #[must_use]
    pub fn removals(mut self, at_least: Duration, at_most: Duration) -> Self {
        self.tuning.removals = (at_least, at_most.max(at_least));
        self
    }

    /// The longest value, in bytes as encoded. Default 4 MiB. The same on all members.
    #[must_use]
    pub const fn max_value(mut self, bytes: usize) -> Self {
        self.tuning.max_value = bytes;
        self
    }

    /// Bytes of keys and values that one shard, of 64, takes; those of others up to twice that, since holders that
    /// write at the same time do not know of each other. Default 1 GiB. The same on all members.
    #[must_use]
    pub const fn max_shard_bytes(mut self, bytes: usize) -> Self {
        self.tuning.max_bytes = bytes;
        self
    }

    /// How long it is waited for members of the group that do not say whether they have the map, because they are frozen or
    /// under load, before it is decided who holds what. Default 10 s.
    #[must_use]
    pub const fn greeting(mut self, patience: Duration) -> Self {
        self.tuning.greeting = patience;
        self
    }

    /// Opens the map on `channel`, which should be started. The member begins to take over its share; see
    /// [`LazyReplicatedMap::ready`].
    ///
    /// # Errors
    /// If the channel has a lazy map of this name, or the name is empty or longer than 195 bytes.
    ///
    /// # Panics
    /// Outside of a runtime, as everything that runs tasks.
    pub fn open(self, channel: &Channel) -> Result<LazyReplicatedMap<K, V>, OpenError> {
        let Self { name, conflicts, durability, mut tuning, backups, differ, diffs, .. } = self;
        let env = channel.env();
        let time = env.now();
        let now = Now { time, wall_ms: u64::try_from(env.wall_ms_at(time)).unwrap_or_default() };
        let copies = backups.saturating_add(1);
        // A majority is one of those that are to hold a key.
        tuning.group_size = Some(copies);
        let rules = Rules {
            keeping: conflicts.keeping,
            tuning,
            diffs,
            copies,
            fetches: self.fetches,
            fetch_rate: self.fetch_rate,
            settle: Duration::from_millis(100),
        };
        let shards = Shards::new(channel.local().id(), env.random(), rules, now);
        let node = Node::new(name.clone(), shards, differ);
        let port = format!("lazy:{name}");
        let rpc = open_rpc(&port, &node, channel).map_err(|source| OpenError::Rpc { name: name.clone(), source })?;
        let endpoint = Arc::clone(&node);
        let handle = channel.endpoint(port, endpoint).map_err(|source| OpenError::Name { name, source })?;
        // Registered first: who comes in between is heard of twice, and nobody is missed.
        node.start(handle.sender().clone(), channel.view().members());
        let asker = Asker::new(node, rpc, env, self.patience);
        let cache = self.cache.map(|(age, bytes)| Mutex::new(Cache::new(age, bytes)));
        let inner = Inner { asker, conflicts, durability, cache, _endpoint: handle, channel: channel.clone() };
        Ok(LazyReplicatedMap { inner: Arc::new(inner), keys: PhantomData })
    }
}

/// Answers what others ask.
fn open_rpc(id: &str, node: &Arc<Node>, channel: &Channel) -> Result<RpcChannel, tribes_core::rpc::RpcError> {
    let (node, env) = (Arc::downgrade(node), channel.env());
    let answer = move |request: RpcRequest| {
        let (node, env): (Weak<Node>, Env) = (Weak::clone(&node), env.clone());
        async move {
            let most = request.remaining().unwrap_or(LONGEST).min(LONGEST);
            let (until, asked) = message::read_question(request.bytes())?;
            let reply = match asked {
                // This process may have been frozen, and whoever asked has gone to another since.
                Request::Write { .. } if until.is_none_or(|until| env.now() > until) => Reply::Late,
                Request::Write { key, value, over, durability } => {
                    let durability = bounded(durability, most);
                    open(&node)?.answer(Request::Write { key, value, over, durability }).await
                }
                other => open(&node)?.answer(other).await,
            };
            Ok::<_, BoxError>(RpcReply::from(message::answer(env.now(), &reply)))
        }
    };
    RpcChannel::builder(id.to_owned()).concurrency(1024).handler(answer).open(channel)
}

fn open(node: &Weak<Node>) -> Result<Arc<Node>, BoxError> {
    node.upgrade().ok_or_else(|| "the map is closed".into())
}
