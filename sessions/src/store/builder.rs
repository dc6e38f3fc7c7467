//! How a store is to be.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch as watching};
use tribes_core::Channel;
use tribes_replication::Durability;

use super::backing::{self, Backing};
use super::index::Index;
use super::table::{Mode, Table, TableConfig};
use super::{Inner, ReplicatedStore, peers, task, watch};
use crate::SharedStore;
use crate::conflict::{Conflict, Policies};
use crate::document::{Hashes, Limits};
use crate::error::JoinError;
use crate::event::{Events, Listener, SessionEvent};
use crate::keeper::{Keeper, Rules};
use crate::stamp::Clock;
use crate::stats::Counters;

/// So many sessions are fetched at the same time because clients say that they have seen more: anybody can say so.
const PULLS: usize = 64;

/// What becomes of a request when its writes did not come as far in time as they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortfall {
    /// It is answered as if they had, and counted. The default.
    #[default]
    ServeAndReport,
    /// It is answered with 503. The writes are made all the same, and the client, who may try again, does not know. Only with a
    /// [`ReplicationLayer`](crate::ReplicationLayer).
    Fail,
}

/// What becomes of a request whose session no node has, when the [backing](StoreBuilder::backing) does not say whether it has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// It is served as one without a session, and its client keeps its cookie: once the backing is there again, so is the session,
    /// unless the request made a new one. The layers see to the cookie: [`ReplicatedSessionLayer`](crate::ReplicatedSessionLayer), or
    /// [`StickyLayer`](crate::StickyLayer) around [`ReplicationLayer`](crate::ReplicationLayer); without them tower-sessions'
    /// layer takes it away. A logout ends the session that there may be, on all nodes and, later, there. But with
    /// `SessionManagerLayer` not if its handler read the session before: then it is told that there is none to end, and the client
    /// keeps its cookie. The default.
    #[default]
    ServeWithout,
    /// It gets an error, [`SessionError::Unreachable`](crate::SessionError::Unreachable), which the layers make a 503 with
    /// `Retry-After`: nobody seems logged out who is not. So does everyone who comes with the cookie of a session that has long
    /// been over.
    Fail,
}

/// What the expiry date of a record means. tower-sessions gives stores a date, and does not say where it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expire {
    /// It is so long from now because the session may be unused for so long (`Expiry::OnInactivity`): each use puts it off. The
    /// default.
    #[default]
    OnInactivity,
    /// It is that date (`Expiry::AtDateTime`).
    AtDate,
}

/// What happens if the state does not come in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnTimeout {
    /// The node serves with what it has; the rest comes later. The default, and what Tomcat does.
    #[default]
    StartEmpty,
    /// [`join`](StoreBuilder::join) fails.
    Fail,
}

/// How the sessions of the group come to a node that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTransfer {
    /// How long it is waited for them at most. Default 60 s.
    pub timeout: Duration,
    /// And then.
    pub on_timeout: OnTimeout,
}

impl Default for StateTransfer {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), on_timeout: OnTimeout::default() }
    }
}

/// Sets up a [`ReplicatedStore`]. What is said to be the same on all nodes must be.
#[must_use = "call `join` or `open`"]
pub struct StoreBuilder {
    name: String,
    mode: Mode,
    durability: Durability,
    shortfall: Shortfall,
    unreachable: Unreachable,
    transfer: StateTransfer,
    policies: Policies,
    limits: Limits,
    max_bytes: usize,
    cache: usize,
    expire: Expire,
    inactivity: Option<Duration>,
    max_lag: Duration,
    longest_partition: Duration,
    compare_every: Duration,
    linger: Duration,
    max_wait: Duration,
    indexed: Vec<String>,
    listeners: Vec<Listener>,
    backing: Option<SharedStore>,
    write_behind: Duration,
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("durability", &self.durability)
            .field("shortfall", &self.shortfall)
            .field("state_transfer", &self.transfer)
            .field("conflicts", &self.policies)
            .finish_non_exhaustive()
    }
}

impl StoreBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            mode: Mode::All,
            durability: Durability::Queued,
            shortfall: Shortfall::default(),
            unreachable: Unreachable::default(),
            transfer: StateTransfer::default(),
            policies: Policies::default(),
            limits: Limits { field: 64 << 10, session: 1 << 20 },
            max_bytes: 1 << 30,
            cache: 64 << 20,
            expire: Expire::default(),
            inactivity: None,
            max_lag: Duration::from_secs(30),
            longest_partition: Duration::from_secs(3600),
            compare_every: Duration::from_secs(10),
            linger: Duration::from_millis(1),
            max_wait: Duration::from_millis(20),
            indexed: Vec::new(),
            listeners: Vec::new(),
            backing: None,
            write_behind: Duration::from_secs(1),
        }
    }

    /// On which nodes each session is; the same on all. Default [`Mode::All`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How far a write has come when its request is answered:
    ///
    /// | durability | Tomcat | answered when |
    /// |---|---|---|
    /// | [`Local`](Durability::Local) | - | it is in this node's memory |
    /// | [`Queued`](Durability::Queued), the default | `channelSendOptions` 8 | it is on its way to the others |
    /// | [`copies(n, within)`](Durability::copies) | 6 | so many others have it |
    /// | [`all(within)`](Durability::all) | 6 | all others have it that are there |
    ///
    /// Waiting is done by [`ReplicationLayer`](crate::ReplicationLayer); without it, [`Mode::All`] waits for nobody. The next comparison
    /// and the next write bring everywhere what did not come in time.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What becomes of a request whose writes did not come so far. Default: it is served, and counted.
    pub const fn on_shortfall(mut self, shortfall: Shortfall) -> Self {
        self.shortfall = shortfall;
        self
    }

    /// How the group's sessions come to this node when it joins. Default: within 60 s, or it starts without.
    pub const fn state_transfer(mut self, transfer: StateTransfer) -> Self {
        self.transfer = transfer;
        self
    }

    /// The rule for writes of `field` that did not know of each other; the same on all nodes. Default
    /// [`Conflict::LastWrite`]. It is for sessions that are given the field from now on.
    pub fn conflict(mut self, field: &str, rule: Conflict) -> Self {
        self.policies.set(field, rule);
        self
    }

    /// The largest field that one save may write, in bytes of JSON; of a [`Conflict::Union`] what it adds. Default 64 KiB.
    pub const fn max_field(mut self, bytes: usize) -> Self {
        self.limits.field = bytes;
        self
    }

    /// The largest session, in bytes of its fields. Default 1 MiB. The same on all nodes.
    pub const fn max_session(mut self, bytes: usize) -> Self {
        self.limits.session = bytes;
        self
    }

    /// What all sessions together take, in bytes, in [`Mode::All`]; beyond, saves fail. Default 1 GiB. The same on all nodes.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps sessions that were used of late as requests are given them, besides as they are sent, in about so many bytes: loading and
    /// saving them takes less than half the time. In [`Mode::All`]. Default 64 MiB; 0 for none.
    pub const fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// What the expiry dates of records mean. Default [`Expire::OnInactivity`].
    pub const fn expire(mut self, expire: Expire) -> Self {
        self.expire = expire;
        self
    }

    /// Ends sessions that were not used for so long, whatever their records say (Tomcat: `session-timeout`). With
    /// `Expiry::OnSessionEnd` the browser then keeps the cookie for as long as it runs, and the server decides. Default: as records
    /// say, which is two weeks if they say nothing. The same on all nodes.
    pub const fn inactivity(mut self, limit: Duration) -> Self {
        self.inactivity = Some(limit);
        self
    }

    /// How much later than others a node may hear that a session was used, at most; less for those that end soon: a tenth of
    /// their time. So much later it ends if the node is gone that served it last. Default 30 s. The same on all nodes.
    pub const fn touch_every(mut self, lag: Duration) -> Self {
        self.max_lag = lag;
        self
    }

    /// For how long it is remembered that a session has ended: a node that was cut off for longer may bring back a session that it
    /// wrote to meanwhile. Costs some 250 bytes a session. Default one hour. The same on all nodes.
    pub const fn longest_partition(mut self, duration: Duration) -> Self {
        self.longest_partition = duration;
        self
    }

    /// How long a save that nobody waits for, as with [`Durability::Queued`], waits for others that travel along: a message takes
    /// more of a processor than a save does. It is as much longer until the other nodes have it, and by that much more is lost with a
    /// node that dies. Saves that are waited for do not wait so. In [`Mode::All`]. Zero: for as long as other requests are ready.
    /// Default: 1 ms, which is as fine as it gets; 100 ms at most.
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How often this node compares what it holds with another; as
    /// [`MapBuilder::compare_every`](tribes_replication::MapBuilder::compare_every). Default 10 s.
    pub const fn compare_every(mut self, every: Duration) -> Self {
        self.compare_every = every;
        self
    }

    /// How long a request waits for the state that its client has seen, before it is fetched from others. Only with a
    /// [`StickyLayer`](crate::StickyLayer) that tells what the client has seen. Default 20 ms.
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Keeps at hand which sessions have which value of `field`, for [`kill_all`](ReplicatedStore::kill_all).
    pub fn index(mut self, field: impl Into<String>) -> Self {
        self.indexed.push(field.into());
        self
    }

    /// Has `listener` called for everything that happens to sessions on this node. It is called where that happens: it must
    /// not block, and holds up others while it runs.
    pub fn on_event(mut self, listener: impl Fn(&SessionEvent) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Writes sessions behind to `store`, which outlives the group: a Redis, a database. A session that no node has is looked for
    /// there: after all nodes were down it is back when its user is. Default: none.
    ///
    /// Requests never wait for a write, and serve on when `store` is down: what waits is written when it is there again, up to
    /// 1,048,576 sessions a node. A request whose session no node has waits for it for a second at most, and while it fails mostly
    /// not at all: it is [served without a session](Self::on_unreachable) then.
    /// [`StoreStats::backing`](crate::StoreStats::backing) tells how things stand.
    ///
    /// Each session is written by the nodes that change it; records can be read by this crate only, and name this store: several stores
    /// may use one Redis. Those that an application left there that used `store` by itself are had back, too: so a deployment moves
    /// from Redis to here without a logout. They name nobody: for these each store needs a Redis, or a prefix of keys, of its own.
    ///
    /// That a session is over is remembered until it is gone from there, too, however long it is down.
    ///
    /// # Not guaranteed
    /// - If `store` loses records (to make room, `FLUSHALL`), those are written again when their sessions are changed more than ten
    ///   seconds after they were last written, or after a quarter of the time that they live.
    /// - A node that alone cannot reach `store` and dies: what it changed is written by the others if that was at most a minute ago,
    ///   or twice `write_behind` and 20 s.
    /// - If all nodes die at once, what was written within the last [`write_behind`](Self::write_behind) is gone; so is the end of a
    ///   session that had not come there, and the session is back.
    /// - [`kill_all`](ReplicatedStore::kill_all) knows the sessions of the nodes, not those that are only in `store`.
    /// - Sessions that come back count as used just then. They are [created](crate::SessionEvent::Created) as new ones are.
    pub fn backing(mut self, store: SharedStore) -> Self {
        self.backing = Some(store);
        self
    }

    /// What becomes of a request whose session no node has while the [`backing`](Self::backing) fails. Default: it is served without
    /// a session.
    pub const fn on_unreachable(mut self, unreachable: Unreachable) -> Self {
        self.unreachable = unreachable;
        self
    }

    /// How long a change waits before it is written to the [`backing`](Self::backing); what changes again meanwhile is written
    /// once. Ends are written at once. Default 1 s.
    pub const fn write_behind(mut self, delay: Duration) -> Self {
        self.write_behind = delay;
        self
    }

    /// [Opens](Self::open) the store and waits until the sessions of the group are here.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`JoinError::Timeout`] if they do not come in time and [`OnTimeout::Fail`] was asked for.
    ///
    /// # Cancel safety
    /// Dropped, it leaves again, within seconds.
    pub async fn join(self, channel: &Channel) -> Result<ReplicatedStore, JoinError> {
        let (name, transfer) = (self.name.clone(), self.transfer);
        let store = self.open(channel)?;
        let mut state = store.inner().state.subscribe();
        // The sender is in the store.
        let came = state.wait_for(Option::is_some).await.ok().and_then(|state| *state).map(|(result, _)| result);
        if came == Some(crate::StateResult::Timeout) && transfer.on_timeout == OnTimeout::Fail {
            return Err(JoinError::Timeout { name, timeout: transfer.timeout });
        }
        Ok(store)
    }

    /// Opens the store on `channel`, which should be started. It begins to fetch the sessions of the group; until it has them
    /// it should serve nobody ([`ReadyGateLayer`](crate::ReadyGateLayer)): a request whose session is still to come would begin
    /// a new one.
    ///
    /// # Errors
    /// If the channel has a store of this name, the name is empty or longer than 180 bytes, or a setting cannot be.
    ///
    /// # Panics
    /// Outside of a runtime, as everything that runs tasks.
    pub fn open(self, channel: &Channel) -> Result<ReplicatedStore, JoinError> {
        self.check()?;
        let env = channel.env();
        let me = channel.local().id();
        let table = Table::open(
            TableConfig {
                name: self.name.clone(),
                mode: self.mode,
                durability: self.durability,
                greeting: self.transfer.timeout,
                max_bytes: self.max_bytes,
                max_session: self.limits.session,
                cache: self.cache,
                compare_every: self.compare_every,
                linger: self.linger,
                longest_partition: self.longest_partition,
            },
            channel,
        )?;
        let rules = Rules { max_lag: self.max_lag, remember: self.longest_partition };
        let inner = Arc::new(Inner {
            name: self.name.clone(),
            table,
            backing: self.backing.map(|store| Arc::new(Backing::new(store, self.write_behind))),
            clock: Clock::new(env.random().max(1)),
            hashes: Hashes::new(env.random()),
            me,
            policies: self.policies,
            limits: self.limits,
            durability: self.durability,
            shortfall: self.shortfall,
            unreachable: self.unreachable,
            expire: self.expire,
            inactivity: self.inactivity,
            max_wait: self.max_wait,
            keeper: Mutex::new(Keeper::new(*me.as_bytes(), rules)),
            index: Mutex::new(Index::new(self.indexed)),
            ending: Mutex::default(),
            saved: Mutex::default(),
            pulls: Semaphore::new(PULLS),
            earlier: Arc::new(Notify::new()),
            closed: false.into(),
            events: Events::new(self.listeners),
            counters: Counters::default(),
            state: watching::Sender::new(None),
            changes: watching::Sender::new(0),
            ready: watching::Sender::new(false),
            open: Arc::default(),
            leaving: AtomicBool::new(false),
            tells_roles: AtomicBool::new(false),
            rpc: OnceLock::new(),
            handles: OnceLock::new(),
            channel: channel.clone(),
            env,
            #[cfg(feature = "actix-session")]
            home: tokio::runtime::Handle::current(),
        });
        let rpc = peers::open(&inner, channel).map_err(|source| JoinError::Rpc { name: self.name, source })?;
        // Nobody else has it yet.
        let _ = inner.rpc.set(rpc);
        let _ = inner.handles.set(watch::begin(&inner));
        task::begin(&inner, self.transfer.timeout);
        backing::begin(&inner);
        Ok(ReplicatedStore(inner))
    }

    fn check(&self) -> Result<(), JoinError> {
        let zero = |setting, value: Duration, why| {
            let fault = || JoinError::Setting { setting, value: format!("{value:?}"), why };
            if value.is_zero() { Err(fault()) } else { Ok(()) }
        };
        zero("touch_every", self.max_lag, "each use would be told by a message of its own")?;
        zero("longest_partition", self.longest_partition, "sessions that have ended would come back")?;
        zero("inactivity", self.inactivity.unwrap_or(Duration::MAX), "sessions would end at once")?;
        if self.limits.field > self.limits.session {
            let (setting, value) = ("max_field", self.limits.field.to_string());
            return Err(JoinError::Setting { setting, value, why: "a field cannot be larger than its session" });
        }
        Ok(())
    }
}
