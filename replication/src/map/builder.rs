//! How a map is to be.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tribes_core::Channel;

use super::decoded::Decoded;
use super::shared::Shared;
use super::{Differ, Inner, ReplicatedMap};
use crate::conflict::Conflicts;
use crate::core::{Core, Diffs, NoDiffs, Now, Tuning};
use crate::diff::{Diffable, KeptDiffsOf};
use crate::durability::Durability;
use crate::error::OpenError;
use crate::version::Incarnation;

/// Longer than this writes do not wait for company: by then others would begin to miss them.
const LONGEST_LINGER: Duration = Duration::from_millis(100);

/// Sets up a [`ReplicatedMap`]. What is said to be the same on all members must be: nobody checks it but for the way of
/// resolving conflicts.
pub struct MapBuilder<K, V> {
    name: String,
    conflicts: Conflicts<V>,
    durability: Durability,
    tuning: Tuning,
    differ: Option<Differ<V>>,
    cache: usize,
    gather: Option<Duration>,
    diffs: fn(&Arc<Decoded>) -> Arc<dyn Diffs>,
    #[cfg(feature = "persist")]
    disk: crate::disk::DiskConfig,
    keys: PhantomData<fn(K)>,
}

impl<K, V> fmt::Debug for MapBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapBuilder")
            .field("name", &self.name)
            .field("conflicts", &self.conflicts)
            .field("durability", &self.durability)
            .field("diffs", &self.differ.is_some())
            .field("tuning", &self.tuning)
            .finish()
    }
}

impl<K, V> MapBuilder<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            conflicts: Conflicts::latest_wins(),
            durability: Durability::Queued,
            tuning: Tuning::default(),
            differ: None,
            cache: 0,
            gather: None,
            diffs: |_| Arc::new(NoDiffs),
            #[cfg(feature = "persist")]
            disk: crate::disk::DiskConfig::default(),
            keys: PhantomData,
        }
    }

    /// The rule for writes that did not know of each other; the same on all members. Default: the latest wins.
    #[must_use]
    pub fn conflicts(mut self, conflicts: Conflicts<V>) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// What writes wait for that do not say it themselves. Default: [`Durability::Queued`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sends diffs of values where both sides have the version that they are made from. The same on all members.
    #[must_use]
    pub fn diffs(mut self) -> Self
    where
        V: Diffable + Clone + Send + Sync + 'static,
    {
        self.differ = Some(|earlier, later| later.diff(earlier));
        self.diffs = |decoded| Arc::new(KeptDiffsOf::<V>::new(Arc::clone(decoded)));
        self
    }

    /// Keeps values that were read or written of late as they are, besides their bytes, in about so many bytes: for
    /// [`get_shared`](ReplicatedMap::get_shared), [`begin_update_shared`](ReplicatedMap::begin_update_shared) and
    /// [`on_change_shared`](ReplicatedMap::on_change_shared), which then mostly need not decode. A value must be read back as what was
    /// written: it is taken for that. Default 0: none are kept.
    #[must_use]
    pub const fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// Has writes wait for company, so that many travel in one message: of what a write takes, here and at its receivers, the message
    /// is the most. Those that nobody waits for ([`Durability::Local`] and [`Durability::Queued`], which is met when they wait) do so
    /// for `linger`, which is counted in milliseconds and 100 at most: others ask for what they miss for longer. As soon as somebody waits
    /// for a write, all go that are made while the runtime has tasks that are ready, so one that comes alone takes some microseconds
    /// longer. With a linger of zero that is so for all. (Kafka's producers have the like: `linger.ms`.) Default: each goes at once, by
    /// itself.
    #[must_use]
    pub fn gather(mut self, linger: Duration) -> Self {
        self.gather = Some(linger.min(LONGEST_LINGER));
        self
    }

    /// How many members the group has when nobody is missing. With it [`Durability::Majority`] means more than half of these, so
    /// that of a split group one side at most has it; without, of those that are there. The same on all members.
    #[must_use]
    pub const fn group_size(mut self, members: usize) -> Self {
        self.tuning.group_size = Some(members);
        self
    }

    /// How often this replica compares what it holds with that of one other, all in turn: a difference between two of n
    /// members that nothing else gave away lasts for n - 1 intervals at the longest, about, and for half of that mostly, since
    /// either of the two may be the first to ask. It costs a message of 500 bytes each way when nothing differs. Default 10 s, at
    /// least 100 ms.
    #[must_use]
    pub fn compare_every(mut self, every: Duration) -> Self {
        self.tuning.compare_every = every.max(Duration::from_millis(100));
        self
    }

    /// For how long removals are remembered: at least the first time; until the second as long as a member is away that may
    /// not have heard of them. A member that was away for longer than that may bring back a key that it wrote without having
    /// heard of its removal; what it had only kept stays removed, however long it was away. Default: ten minutes, a day.
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

    /// Bytes of keys and values that the map takes from this member's application. Writes of others are taken up to twice
    /// that, since members that write at the same time do not know of each other. Default 1 GiB. The same on all members.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.tuning.max_bytes = bytes;
        self
    }

    /// How long an opening replica waits for members of the group that do not say whether they have the map, because they are
    /// frozen or under load; who has none says so at once. Where there is no other member, it waits a second at most for
    /// one to appear. Default 10 s.
    #[must_use]
    pub const fn greeting(mut self, patience: Duration) -> Self {
        self.tuning.greeting = patience;
        self
    }

    /// Keeps the map in a file of its name in this directory, which is made if there is none: what it held is there again
    /// when it is opened, and merged with what the group has. So a group can be stopped whole. Not set by default.
    ///
    /// What changes is saved [every so often](Self::save_every), in one transaction, so the file is always as the replica was
    /// at some moment. What a process had not saved when it was killed comes from the others, if there are any. When the
    /// last handle goes, the rest is saved; that blocks for as long as the disk takes. One process at a time opens the file.
    #[cfg(feature = "persist")]
    #[must_use]
    pub fn directory(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.disk.directory = Some(directory.into());
        self
    }

    /// How long what changes waits for company before it is saved. Default 100 ms. Says nothing without
    /// [`directory`](Self::directory).
    #[cfg(feature = "persist")]
    #[must_use]
    pub const fn save_every(mut self, every: Duration) -> Self {
        self.disk.every = every;
        self
    }

    /// Tells the authors of writes that they are here only when they are saved: then what was acknowledged by others
    /// ([`Durability::copies`] and so on) is there again after all machines lost their power at once. Acknowledgements take as
    /// long as saving does. Default: no. Says nothing without [`directory`](Self::directory).
    #[cfg(feature = "persist")]
    #[must_use]
    pub const fn acknowledge_saved(mut self, only_saved: bool) -> Self {
        self.disk.acknowledge_saved = only_saved;
        self
    }

    /// Opens the map on `channel`, which should be started. It begins to fetch what the group has; see
    /// [`ReplicatedMap::ready`].
    ///
    /// # Errors
    /// If the channel has a map of this name, or the name is empty or longer than 200 bytes; if its file cannot be opened.
    ///
    /// # Panics
    /// Outside of a runtime, as everything that runs tasks.
    pub fn open(self, channel: &Channel) -> Result<ReplicatedMap<K, V>, OpenError> {
        let Self { name, conflicts, durability, tuning, differ, diffs, cache, gather, .. } = self;
        let port = format!("map:{name}");
        let env = channel.env();
        let now = Now { time: env.now(), wall_ms: u64::try_from(env.wall_ms()).unwrap_or_default() };
        // Zero means nobody in messages.
        let me = Incarnation::new(env.random().max(1));
        let decoded = Arc::new(Decoded::new(cache));
        #[cfg_attr(not(feature = "persist"), expect(unused_mut, reason = "it resumes what was saved"))]
        let mut core = Core::new(me, conflicts.keeping, tuning, diffs(&decoded), now);
        #[cfg(feature = "persist")]
        let file = match self.disk.path(&name) {
            Some(path) => {
                let disk = &self.disk;
                let (file, saved) = crate::disk::File::open(&path, conflicts.keeping)
                    .map_err(|source| OpenError::File { name: name.clone(), path, source })?;
                core.resume(saved, disk.acknowledge_saved, now);
                Some((file, disk.every))
            }
            None => None,
        };
        let shared = Shared::new(name.clone(), core, gather);
        let endpoint = Arc::clone(&shared);
        let handle =
            channel.endpoint(port, endpoint).map_err(|source| OpenError::Name { name: name.clone(), source })?;
        #[cfg(feature = "persist")]
        let saver = match file {
            Some((mut file, every)) => {
                let save = move |batch: &crate::core::Batch| file.save(batch);
                let source = Arc::clone(&shared);
                let saver = crate::disk::Saver::start(save, every, source)
                    .map_err(|source| OpenError::Thread { name, source })?;
                shared.set_saving(Arc::clone(saver.signal()));
                Some(saver)
            }
            None => None,
        };
        // Registered first: who comes in between is heard of twice, and nobody is missed.
        shared.start(handle.sender().clone(), channel.view().members());
        let inner = Inner {
            shared,
            conflicts,
            differ,
            decoded,
            durability,
            #[cfg(feature = "persist")]
            saver,
            _endpoint: handle,
            _channel: channel.clone(),
        };
        Ok(ReplicatedMap { inner: Arc::new(inner), keys: PhantomData })
    }
}
