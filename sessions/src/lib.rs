//! Web sessions that survive the crash of a server: a store for tower-sessions and actix-session, replicated field by field
//! between the nodes of a group, and the layers that go with it. Nothing else has to run.
//!
//! [`ReplicatedStore`] is the way in. What is where:
//!
//! | folder | holds |
//! |---|---|
//! | `document` | a session without I/O: fields, their writes, merging |
//! | `keeper` | when sessions were used and when they end, without I/O |
//! | `store` | the store: the table of sessions, what requests do, what nodes tell each other |
//! | `shared` | stores that nodes share instead: Redis, a database |
//! | `layers` | what stands around the application: the gate, sticky routes, replication |
//! | `conflict` | the rules for writes that did not know of each other |
//! | `request` | what belongs to one request, beside it |
//! | `context` | what an application keeps for itself, on all nodes |
//! | `event`, `stats`, `error` | what is told, counted, and can go wrong |
//! | `id`, `stamp` | names of sessions, and of writes |

#![cfg_attr(
    not(feature = "tower-sessions"),
    allow(dead_code, unused_imports, reason = "parts that only the session layer needs, which is for tower-sessions")
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests use real time and tasks where they say so"))]

mod conflict;
mod context;
mod document;
mod error;
mod event;
mod id;
mod keeper;
mod layers;
mod request;
mod shared;
mod stamp;
mod stats;
mod store;

pub use conflict::{Conflict, MergeFn};
pub use context::{ContextError, ReplicatedContext};
pub use document::EndReason;
pub use error::{JoinError, SessionError};
pub use event::{SessionEvent, SessionEvents};
pub use id::{NoSessionId, SessionId};
pub use layers::{
    Failover, LayerStore, ReadyGate, ReadyGateFuture, ReadyGateLayer, Rebind, Replication, ReplicationFuture,
    ReplicationLayer, ReplicationStats, SessionRole, Skip, SkipError, Sticky, StickyFuture, StickyLayer, StickyMode,
};
#[cfg(feature = "tower-sessions")]
pub use layers::{ReplicatedSessionLayer, ReplicatedSessions, ReplicatedSessionsFuture};
pub use shared::{SharedStats, SharedStore};
pub use stats::{Counts, StateResult, StoreStats};
pub use store::{
    BackingStats, Expire, Mode, OnTimeout, ReplicatedStore, SessionRecord, Shortfall, StateTransfer, StoreBuilder,
    Unreachable,
};
pub use tribes_replication::Durability;
