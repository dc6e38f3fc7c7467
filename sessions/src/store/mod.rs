//! The store: sessions of all nodes of a group, as one.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the handle, and what it offers besides the store's traits |
//! | `backing` | a store outside of the group in which sessions are, too |
//! | `builder` | how a store is to be |
//! | `table` | where the sessions are: all here, or each at a few members |
//! | `requests` | create, load, save and delete, as requests need them |
//! | `saved` | what requests have saved that may save again |
//! | `watch` | what happens in the table, for the keeper, the index and those who listen |
//! | `index` | sessions by the value of a field |
//! | `peers` | what stores say to each other besides: uses, ages, sessions |
//! | `task` | ends what is over, tells of uses, takes the state over |
//! | `tower_sessions` | the traits of tower-sessions |
//! | `actix_session` | the trait of actix-session |

#[cfg(feature = "actix-session")]
mod actix_session;
mod backing;
mod builder;
mod index;
mod peers;
mod requests;
mod saved;
mod table;
mod task;
#[cfg(any(feature = "tower-sessions", feature = "tower-sessions-0-14"))]
mod tower_sessions;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, Semaphore, watch as watching};
use tribes_core::rpc::RpcChannel;
use tribes_core::{Channel, Env, ListenerHandle, MemberId, Time};
use tribes_replication::{ChangeHandle, Durability, MapError};

use self::backing::Backing;
pub use self::backing::BackingStats;
pub use self::builder::{Expire, OnTimeout, Shortfall, StateTransfer, StoreBuilder, Unreachable};
use self::index::Index;
use self::requests::RecordEnd;
pub use self::requests::SessionRecord;
use self::saved::Saved;
pub(crate) use self::table::Commit;
pub use self::table::Mode;
use self::table::Table;
use self::task::Ending;
#[cfg(feature = "tower-sessions")]
pub(crate) use self::tower_sessions::{LastSave, RequestStore};
use crate::SessionId;
use crate::conflict::Policies;
use crate::document::{Document, EndReason, Hashes, Limits, Session};
use crate::error::SessionError;
use crate::event::{Events, SessionEvents};
use crate::keeper::{Keeper, Now};
use crate::stamp::Clock;
use crate::stats::{Counters, StateResult, StoreStats};

/// Sessions that all nodes of a group share, and that outlive each of them. A cheap handle; all clones are the same store.
///
/// It is a store for `tower-sessions`: put it where `MemoryStore` was.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// use tower_sessions::{Session, SessionManagerLayer};
/// use tribes_sessions::ReplicatedStore;
/// # use axum::{Router, routing::get};
/// # use tribes_core::Channel;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let net = SimNet::new(7);
/// # let channel = net.join(Channel::builder()).build()?;
/// # channel.start().await?;
/// // On each node, on a channel that is started:
/// let store = ReplicatedStore::builder("shop").join(&channel).await?;
///
/// let app: Router = Router::new()
///     .route("/", get(async |session: Session| {
///         let visits: usize = session.get("visits").await.unwrap_or_default().unwrap_or_default();
///         session.insert("visits", visits + 1).await.unwrap();
///         format!("visit {}", visits + 1)
///     }))
///     .layer(SessionManagerLayer::new(store));
/// # let _ = app;
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// - **Fields, not sessions, are replicated.** Requests that overlap, on one node or on several, and change different fields lose
///   nothing; those that change the same field are settled by its [`Conflict`](crate::Conflict) rule, alike on all nodes,
///   whatever happens to messages. What a request has not changed it does not write.
/// - **A session that has ended stays ended.** A slow request that saves after a logout, on whatever node, does not bring it back;
///   nor does a partition of less than [`longest_partition`](StoreBuilder::longest_partition).
/// - **How much is known when a save returns** is chosen: [`durability`](StoreBuilder::durability).
/// - **A session ends** after the time that it was given since it was used last: by its owner, the node that served it last,
///   exactly then; if that is gone, by another, a tenth of the time later at the most, and 30 s. The nodes' clocks need not agree.
/// - **Ids are never used again**, and never contain the name of a node.
///
/// # Not guaranteed
/// - Of two writes of one field that did not know of each other one is gone, where the rule is
///   [`LastWrite`](crate::Conflict::LastWrite); it is [told](crate::SessionEvent::Conflict).
/// - With [`Durability::Queued`], the default, a save may be lost if the node is, within moments of it.
/// - If all nodes stop, all sessions are gone.
///
/// # With tower-sessions
/// Its layer saves when the handler has returned, before the response is sent; not if that is a 5xx, and not what changes while
/// the body is streamed. A record carries, beside the session's data, what its request was given, under a reserved key that begins with a
/// zero byte: do not put another store between (no `CachingSessionStore`; reads are local anyway).
///
/// # With actix-session
/// With the feature `actix-session` it is a store for actix-session 0.11, too; what is to be known of that stands with its
/// `SessionStore`.
#[derive(Clone)]
pub struct ReplicatedStore(Arc<Inner>);

pub(crate) struct Inner {
    name: String,
    table: Table,
    backing: Option<Arc<Backing>>,
    env: Env,
    me: MemberId,
    clock: Clock,
    hashes: Hashes,
    policies: Policies,
    limits: Limits,
    durability: Durability,
    shortfall: Shortfall,
    unreachable: Unreachable,
    expire: Expire,
    inactivity: Option<Duration>,
    max_wait: Duration,
    keeper: Mutex<Keeper>,
    index: Mutex<Index>,
    /// What is to be ended or forgotten by the task that does so, if one is at it.
    ending: Mutex<Option<BTreeSet<Ending>>>,
    saved: Mutex<Saved>,
    /// Sessions that are being fetched since a client has seen a later state.
    pulls: Semaphore,
    /// There is an earlier time to wake at, or the store is closed.
    earlier: Arc<Notify>,
    closed: AtomicBool,
    events: Events,
    counters: Counters,
    state: watching::Sender<Option<(StateResult, Duration)>>,
    /// Changes with each session that changes.
    changes: watching::Sender<u64>,
    ready: watching::Sender<bool>,
    /// Whether requests may come: it is ready, and not closed. For who looks at it with each request, after the store is gone, too.
    open: Arc<AtomicBool>,
    /// It is on its way out of the group: no requests.
    leaving: AtomicBool,
    /// Some layer tells requests what part this node has in their session.
    tells_roles: AtomicBool,
    rpc: OnceLock<RpcChannel>,
    handles: OnceLock<(ChangeHandle, ListenerHandle)>,
    channel: Channel,
    /// The runtime in which the store was opened.
    #[cfg(feature = "actix-session")]
    home: tokio::runtime::Handle,
}

impl fmt::Debug for ReplicatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedStore").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.open.store(false, Ordering::Release);
        self.earlier.notify_one();
        if let Some(backing) = &self.backing {
            backing.close();
        }
        self.table.close();
    }
}

/// A store that leaves; it stays if nothing comes of that.
struct Leaving<'a>(&'a Inner);

impl<'a> Leaving<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.set_leaving(true);
        Self(inner)
    }

    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.set_leaving(false);
    }
}

impl ReplicatedStore {
    /// A store of this name; it tells the stores of a group apart (Tomcat: the context's name), and is the same on all nodes.
    pub fn builder(name: impl Into<String>) -> StoreBuilder {
        StoreBuilder::new(name.into())
    }

    /// Waits until this node has the sessions that the group had, or the wait for them is over. Cancel safe.
    pub async fn ready(&self) {
        // The sender is here.
        let _ = self.0.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether it has them.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_open()
    }

    /// The fields of a session; `None` if there is none on the nodes: the [backing](StoreBuilder::backing) is not asked. Does not count
    /// as a use.
    ///
    /// # Errors
    /// In [`Mode::Backup`], if nobody that holds it answers.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get(&self, id: SessionId) -> Result<Option<HashMap<String, Value>>, SessionError> {
        let session = self.0.table.get(id).await?;
        let values = |session: &Session| {
            let values = session.live()?.values(&self.0.policies);
            Some(values.map(|(name, value)| (name.to_owned(), value)).collect())
        };
        Ok(session.as_deref().and_then(values))
    }

    /// Makes a session with these fields, which ends when it was not used for `idle`; its id. For servers without tower-sessions.
    ///
    /// # Errors
    /// If it could not be written, or something is too large.
    ///
    /// # Cancel safety
    /// It may have been made.
    pub async fn create_session(
        &self,
        data: &HashMap<String, Value>,
        idle: Duration,
    ) -> Result<SessionId, SessionError> {
        let mut data = data.clone();
        self.0.create(&mut data, RecordEnd::after(idle, self.0.now().wall_ms)).await
    }

    /// The session for a request: change its data, and [save](Self::save_session) it with all that it has. Counts as a use.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn load_session(&self, id: SessionId) -> Result<Option<SessionRecord>, SessionError> {
        self.0.load(id).await
    }

    /// Writes what a request changed of the data that it [loaded](Self::load_session). Of a session that is over nothing is
    /// written, and that is no error.
    ///
    /// # Errors
    /// If it could not be written, or something is too large; then nothing was written.
    ///
    /// # Cancel safety
    /// It may have been written.
    pub async fn save_session(
        &self,
        id: SessionId,
        data: &HashMap<String, Value>,
        idle: Duration,
    ) -> Result<(), SessionError> {
        self.0.save(id, data, RecordEnd::after(idle, self.0.now().wall_ms)).await
    }

    /// Ends a session: a logout. Whether there was one. It stays ended.
    ///
    /// # Errors
    /// If it could not be written.
    ///
    /// # Cancel safety
    /// With all sessions here it is ended at the first poll; otherwise it may be ended or not.
    pub async fn invalidate(&self, id: SessionId) -> Result<bool, SessionError> {
        self.0.end(id, EndReason::Invalidated).await
    }

    /// Ends all sessions whose `field` has this value, on all nodes, and says how many: log out everywhere. Fast for fields that are
    /// [indexed](StoreBuilder::index); others are looked for. A session that is made or given the value at the same time on
    /// another node may be missed.
    ///
    /// # Errors
    /// If some could not be ended; the others are.
    ///
    /// # Cancel safety
    /// What was ended by then is ended.
    pub async fn kill_all(&self, field: &str, value: &Value) -> Result<usize, SessionError> {
        self.0.kill_all(field, value).await
    }

    /// What happens to sessions from now on, as a stream. For callbacks see [`StoreBuilder::on_event`].
    #[must_use]
    pub fn events(&self) -> SessionEvents {
        self.0.events.stream()
    }

    /// The ids of the sessions that live and that this node holds, in no particular order.
    #[must_use]
    pub fn ids(&self) -> Vec<SessionId> {
        let live = self.0.table.held().into_iter().filter(|(_, session)| session.live().is_some());
        live.map(|(id, _)| id).collect()
    }

    /// Who decides when this session ends: the member that served it last, as far as this node knows. Nobody, of one that is in the
    /// [backing](StoreBuilder::backing) only.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn owner(&self, id: SessionId) -> Result<Option<MemberId>, SessionError> {
        let session = self.0.table.get(id).await?;
        Ok(session.and_then(|session| session.live().map(|live| MemberId::from_bytes(live.owner.1))))
    }

    /// How long this session has not been used, as far as this node knows.
    #[must_use]
    pub fn idle(&self, id: SessionId) -> Option<Duration> {
        self.0.keeper().idle(id, self.0.now())
    }

    /// What it holds, and what has happened.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let (sessions, owned) = {
            let keeper = self.0.keeper();
            (keeper.live(), keeper.owned())
        };
        let backing = self.0.backing.as_ref().map(|backing| backing.stats());
        StoreStats { sessions, owned, state: *self.0.state.borrow(), backing, counts: self.0.counters.snapshot() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Leaves the group in order, for a rolling deployment: tells the others when each session was used last, writes what waits to the
    /// [backing](StoreBuilder::backing), hands over what would be lost, and closes: all of it `within` that time. Call it when no more
    /// requests come; the gate says 503 meanwhile and afterwards.
    ///
    /// # Errors
    /// If what only this node holds was not handed over in time. The store is open still, and
    /// requests may come: try again.
    ///
    /// # Cancel safety
    /// Handing over goes on; the store does not close, and requests may come.
    pub async fn leave(&self, within: Duration) -> Result<(), SessionError> {
        let leaving = Leaving::begin(&self.0);
        self.0.leave(within).await?;
        leaving.done();
        self.0.closed.store(true, Ordering::Release);
        self.0.earlier.notify_one();
        if let Some(backing) = &self.0.backing {
            backing.close();
        }
        Ok(())
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Inner {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) const fn shortfall(&self) -> Shortfall {
        self.shortfall
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether requests may come.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The same, to look at when the store may be gone.
    pub(crate) fn open(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.open)
    }

    pub(crate) fn tell_roles(&self) {
        self.tells_roles.store(true, Ordering::Relaxed);
    }

    pub(crate) fn tells_roles(&self) -> bool {
        self.tells_roles.load(Ordering::Relaxed)
    }

    /// It has its state.
    fn set_ready(&self) {
        self.ready.send_modify(|ready| {
            *ready = true;
            self.set_open(*ready);
        });
    }

    /// It leaves, or stays after all.
    fn set_leaving(&self, leaving: bool) {
        // Under the lock of the other.
        self.ready.send_modify(|ready| {
            self.leaving.store(leaving, Ordering::Release);
            self.set_open(*ready);
        });
    }

    fn set_open(&self, is_ready: bool) {
        self.open.store(is_ready && !self.leaving.load(Ordering::Acquire) && !self.is_closed(), Ordering::Release);
    }

    pub(crate) fn now_time(&self) -> Time {
        self.env.now()
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let time = self.env.now();
        Now { time, wall_ms: u64::try_from(self.env.wall_ms_at(time)).unwrap_or_default() }
    }

    fn me(&self) -> [u8; 16] {
        *self.me.as_bytes()
    }

    /// Has the keeper do something; and the task look at it again, if it has to.
    fn keep<T>(&self, act: impl FnOnce(&mut Keeper) -> T) -> T {
        let (result, wakes) = {
            let mut keeper = self.keeper();
            (act(&mut keeper), keeper.wakes())
        };
        if wakes {
            self.earlier.notify_one();
        }
        result
    }

    async fn kill_all(&self, field: &str, value: &Value) -> Result<usize, SessionError> {
        let here = self.kill_here(field, value).await;
        let elsewhere = match self.table {
            // All are here.
            Table::All(_) => 0,
            Table::Backup(_) => self.kill_elsewhere(field, value).await?,
        };
        Ok(here? + elsewhere)
    }

    /// Ends those that this node holds.
    async fn kill_here(&self, field: &str, value: &Value) -> Result<usize, SessionError> {
        let has = |document: &Document| {
            document.fields.get(field).and_then(|held| held.value(self.policies.of(field))).as_ref() == Some(value)
        };
        let indexed = self.index().find(field, value);
        let found = indexed.unwrap_or_else(|| {
            let held = self.table.held().into_iter();
            held.filter(|(_, session)| session.live().is_some_and(has)).map(|(id, _)| id).collect()
        });
        let (mut ended, mut failed) = (0, None);
        for id in found {
            // It may be another's by now.
            match self.end_if(id, EndReason::Killed, has).await {
                Ok(was_there) => ended += usize::from(was_there),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    async fn leave(&self, within: Duration) -> Result<(), MapError> {
        let until = self.env.now() + within;
        self.tell_all_uses(within / 4).await;
        if let Some(backing) = &self.backing {
            // The others have them, but for those that only this node holds: half of the time is theirs.
            let left = backing.flush(&self.env, (until - self.env.now()) / 2).await;
            if left > 0 {
                tracing::warn!(store = self.name, sessions = left, "the backing did not take all that waited for it");
            }
        }
        self.table.leave(until - self.env.now()).await
    }
}
