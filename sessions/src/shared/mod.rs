//! Stores that nodes share instead of each having the sessions: Redis, a database.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the handle, and what it counts |
//! | `foreign` | a store of another crate, of whichever release of the trait, and ours as one |

#![cfg_attr(
    not(any(feature = "tower-sessions", feature = "tower-sessions-0-14")),
    allow(dead_code, reason = "there is none without these features")
)]

mod foreign;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tribes_core::{Env, Time};

use self::foreign::Foreign;
pub(crate) use self::foreign::{ForeignError, ForeignRecord};
use crate::stats::Counter;
use crate::{SessionId, request};

/// How long a store may take to say that it is there.
const PROBE: Duration = Duration::from_secs(1);

/// A session store of another crate that all nodes share, such as `tower-sessions-redis-store`: for the layers of this crate in
/// front of it, and for [`backing`](crate::StoreBuilder::backing) a [`ReplicatedStore`](crate::ReplicatedStore). A cheap handle.
///
/// It is a session store itself, for whichever release of the trait is wanted: so it also puts a store made for tower-sessions-core
/// 0.14 under an application that is at 0.15, or the other way round.
///
/// ```
/// # #[cfg(all(feature = "tower-sessions", feature = "tower-sessions-0-14"))] {
/// use tower_sessions::{MemoryStore, SessionManagerLayer};
/// use tribes_sessions::{ReadyGateLayer, ReplicationLayer, SharedStore, StickyLayer};
/// # use axum::Router;
///
/// let store = SharedStore::new(MemoryStore::default()); // or a RedisStore
/// let app: Router = Router::new()
///     .layer(SessionManagerLayer::new(store.clone()))
///     .layer(ReplicationLayer::new(&store))
///     .layer(StickyLayer::new(&store, "node-a"))
///     .layer(ReadyGateLayer::new(&store));
/// # let _ = app; }
/// ```
///
/// # What the layers do over it
/// - [`StickyLayer`](crate::StickyLayer) tells clients their node and tells of failovers. There are no versions to remember.
/// - [`ReplicationLayer`](crate::ReplicationLayer) passes requests by, counts and times. Where the store failed, the client gets a
///   503 with `Retry-After`, where tower-sessions says 500 with an empty body. That a request reads a session does not count as a use:
///   the trait has nothing for that but writing all of it again, over what others wrote meanwhile.
/// - [`ReadyGateLayer`](crate::ReadyGateLayer) answers `/readyz` by asking the store, within a second.
///
/// # Not guaranteed
/// What [`ReplicatedStore`](crate::ReplicatedStore) guarantees: of requests that overlap the last one wins with the whole session,
/// and whether a slow request brings a session back after its end is up to the store.
#[derive(Clone)]
pub struct SharedStore(Arc<Shared>);

pub(crate) struct Shared {
    store: Box<dyn Foreign>,
    env: Env,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    loaded: Counter,
    missed: Counter,
    saved: Counter,
    deleted: Counter,
    failed: Counter,
    failovers: Counter,
}

/// What went through a [`SharedStore`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStats {
    /// Loads of a session that was there.
    pub loaded: u64,
    /// Loads of one that was not.
    pub missed: u64,
    /// Sessions made, and saved.
    pub saved: u64,
    /// Sessions deleted.
    pub deleted: u64,
    /// Operations of these that failed.
    pub failed: u64,
    /// Requests of clients that belonged to another node.
    pub failovers: u64,
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedStore").field(&self.0.store).finish()
    }
}

impl SharedStore {
    fn of(store: impl Foreign) -> Self {
        Self(Arc::new(Shared { store: Box::new(store), env: Env::real(), counters: Counters::default() }))
    }

    /// What went through it so far, from this node.
    #[must_use]
    pub fn stats(&self) -> SharedStats {
        let counters = &self.0.counters;
        SharedStats {
            loaded: counters.loaded.get(),
            missed: counters.missed.get(),
            saved: counters.saved.get(),
            deleted: counters.deleted.get(),
            failed: counters.failed.get(),
            failovers: counters.failovers.get(),
        }
    }

    /// Whether the store answers, within a second.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn is_reachable(&self) -> bool {
        // An id that nobody has, and that no store may take for special.
        let nobody = SessionId::from_bits(1);
        let env = &self.0.env;
        matches!(env.until(env.now() + PROBE, self.0.store.load(nobody)).await, Some(Ok(_)))
    }

    pub(crate) async fn create(&self, record: ForeignRecord) -> Result<SessionId, ForeignError> {
        let created = self.0.store.create(record).await;
        self.note(&self.0.counters.saved, created)
    }

    pub(crate) async fn save(&self, record: ForeignRecord) -> Result<(), ForeignError> {
        let saved = self.0.store.save(record).await;
        self.note(&self.0.counters.saved, saved)
    }

    pub(crate) async fn load(&self, id: SessionId) -> Result<Option<ForeignRecord>, ForeignError> {
        let loaded = self.0.store.load(id).await;
        let is_there = matches!(loaded, Ok(Some(_)));
        self.note(if is_there { &self.0.counters.loaded } else { &self.0.counters.missed }, loaded)
    }

    pub(crate) async fn delete(&self, id: SessionId) -> Result<(), ForeignError> {
        let deleted = self.0.store.delete(id).await;
        self.note(&self.0.counters.deleted, deleted)
    }

    fn note<T>(&self, counter: &Counter, result: Result<T, ForeignError>) -> Result<T, ForeignError> {
        match &result {
            Ok(_) => counter.one(),
            Err(error) => {
                self.0.counters.failed.one();
                tracing::debug!(%error, "the shared session store failed");
                request::note_failure(self.address());
            }
        }
        result
    }

    pub(crate) fn now_time(&self) -> Time {
        self.0.env.now()
    }

    /// What tells this store from others, while it is there.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// A request came that belonged to another node.
    pub(crate) fn note_failover(&self) {
        self.0.counters.failovers.one();
    }
}
