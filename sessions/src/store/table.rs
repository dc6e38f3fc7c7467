//! Where the sessions are: all on every node, or each on a few.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::Channel;
use tribes_replication::{
    By, Change, ChangeHandle, Conflicts, Durability, LazyReplicatedMap, MapError, OpenError, ReplicatedMap, Writing,
    Written,
};

use crate::SessionId;
use crate::document::Session;

/// On which nodes a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// On every node (Tomcat: `DeltaManager`). Every request finds its session in memory, and sessions outlive any number of
    /// nodes but the last. For as many sessions as one node has memory for.
    All,
    /// On so many nodes besides the first (Tomcat: `BackupManager`). A request on another node fetches its session from one of
    /// those, and writes go through one of them. For more sessions than one node has memory for, and many nodes.
    Backup {
        /// How many nodes can be lost at once, and no session with them.
        copies: usize,
    },
}

/// The table of sessions.
pub(crate) enum Table {
    All(ReplicatedMap<SessionId, Session>),
    Backup(LazyReplicatedMap<SessionId, Session>),
}

/// A write that was made, and how far it came.
#[derive(Debug)]
pub(crate) enum Commit {
    Pending(Writing),
    Done(Result<Written, MapError>),
}

impl Commit {
    pub(crate) async fn outcome(self) -> Result<Written, MapError> {
        match self {
            Self::Pending(writing) => writing.await,
            Self::Done(outcome) => outcome,
        }
    }
}

/// What came of changing a session.
pub(crate) struct Update {
    /// How far the change came; none if there was none.
    pub(crate) commit: Option<Commit>,
    /// The session as it is now, changed or not.
    pub(crate) after: Option<Arc<Session>>,
}

/// How the table is to be.
pub(crate) struct TableConfig {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) durability: Durability,
    pub(crate) greeting: Duration,
    pub(crate) max_bytes: usize,
    pub(crate) max_session: usize,
    pub(crate) cache: usize,
    pub(crate) compare_every: Duration,
    pub(crate) linger: Duration,
    pub(crate) longest_partition: Duration,
}

/// How often a write is tried whose holder does not answer.
const TRIES: u32 = 3;
/// How long it is looked for a member that holds a session and answers.
const PATIENCE: Duration = Duration::from_secs(3);
/// A session takes more in the table than its values do: names of its parts, stamps, what is gone.
const OVERHEAD: usize = 4;

impl Table {
    pub(crate) fn open(config: TableConfig, channel: &Channel) -> Result<Self, OpenError> {
        let TableConfig { name, greeting, durability, .. } = config;
        let name = format!("sessions:{name}");
        let conflicts = Conflicts::merge(Session::merge);
        // After that a session's end is removed; the removal is remembered for as long, and longer while somebody is away.
        let removals = (config.longest_partition, config.longest_partition.saturating_mul(24));
        let max_value = config.max_session.saturating_mul(OVERHEAD).saturating_add(64 << 10);
        Ok(match config.mode {
            Mode::All => Self::All(
                ReplicatedMap::builder(name)
                    .conflicts(conflicts)
                    .durability(durability)
                    .greeting(greeting)
                    .max_bytes(config.max_bytes)
                    .max_value(max_value)
                    .cache(config.cache)
                    .gather(config.linger)
                    .compare_every(config.compare_every)
                    .removals(removals.0, removals.1)
                    .diffs()
                    .open(channel)?,
            ),
            Mode::Backup { copies } => Self::Backup(
                LazyReplicatedMap::builder(name)
                    .backups(copies)
                    .patience(PATIENCE)
                    .conflicts(conflicts)
                    .durability(durability)
                    .greeting(greeting)
                    .max_value(max_value)
                    .compare_every(config.compare_every)
                    .removals(removals.0, removals.1)
                    .diffs()
                    .open(channel)?,
            ),
        })
    }

    pub(crate) async fn ready(&self) {
        match self {
            Self::All(map) => map.ready().await,
            Self::Backup(map) => map.ready().await,
        }
    }

    /// The session here, or at whoever holds it.
    pub(crate) async fn get(&self, id: SessionId) -> Result<Option<Arc<Session>>, MapError> {
        match self {
            Self::All(map) => Ok(map.get_shared(&id)),
            // Boxed, as it is larger than all the rest of a request's future.
            Self::Backup(map) => Ok(Box::pin(map.get(&id)).await?.map(Arc::new)),
        }
    }

    /// Changes a session. `change` may be called again, since somebody else wrote in between; or, and then it is told `true`, since a
    /// holder has not answered and may have made its change. With all sessions here the write is made at once, and how far it
    /// comes is still open; otherwise it is known already.
    pub(crate) async fn update(
        &self,
        id: SessionId,
        durability: Durability,
        mut change: impl FnMut(Option<&Session>, bool) -> Option<Session>,
    ) -> Result<Update, MapError> {
        let map = match self {
            Self::All(map) => {
                let (writing, after) = map.begin_update_shared(&id, |found| change(found, false), durability)?;
                return Ok(Update { commit: writing.map(Commit::Pending), after });
            }
            Self::Backup(map) => map,
        };
        let (mut tries, mut after) = (1, None);
        loop {
            let step = |found: Option<Session>| {
                let later = change(found.as_ref(), tries > 1);
                after = later.clone().or(found).map(Arc::new);
                later
            };
            match Box::pin(map.update_with(&id, step, durability)).await {
                Ok(written) => {
                    let commit = written.map(|written| Commit::Done(Ok(written)));
                    return Ok(Update { commit, after });
                }
                // It is made all the same.
                Err(error @ MapError::NotAcknowledged { .. }) => {
                    return Ok(Update { commit: Some(Commit::Done(Err(error))), after });
                }
                // Its holder is gone, and another is asked: should it be made already, it is found.
                Err(MapError::Unanswered { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets a session for good.
    pub(crate) async fn forget(&self, id: SessionId) -> Result<(), MapError> {
        match self {
            Self::All(map) => drop(map.remove_with(&id, Durability::Queued).await?),
            Self::Backup(map) => drop(map.remove_with(&id, Durability::Queued).await?),
        }
        Ok(())
    }

    /// Those that this node holds.
    pub(crate) fn held(&self) -> Vec<(SessionId, Session)> {
        match self {
            Self::All(map) => map.snapshot(),
            Self::Backup(map) => map.held(),
        }
    }

    pub(crate) fn watch(
        &self,
        listener: impl Fn(&Change<SessionId, Vec<Arc<Session>>>, By) + Send + Sync + 'static,
    ) -> ChangeHandle {
        match self {
            Self::All(map) => map.on_change_shared(move |change| listener(change, change.by)),
            Self::Backup(map) => map.on_change_shared(move |change| listener(change, change.by)),
        }
    }

    /// Leaves; hands over first what would be lost.
    pub(crate) async fn leave(&self, within: Duration) -> Result<(), MapError> {
        match self {
            Self::All(map) => {
                map.close();
                Ok(())
            }
            Self::Backup(map) => map.leave(within).await,
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::All(map) => map.close(),
            Self::Backup(map) => map.close(),
        }
    }
}
