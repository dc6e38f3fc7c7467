//! Layers around an application whose sessions are replicated. From the outside in:
//!
//! ```text
//! ReadyGateLayer > StickyLayer > ReplicationLayer > SessionManagerLayer > AuthManagerLayer > router
//! ```
//!
//! [`ReplicatedSessionLayer`] is the first four in one. In axum the last that is added is the outermost. A layer that finds itself at the wrong place says so in the log, once.

mod behind;
mod cookie;
mod ready_gate;
mod replication;
#[cfg(feature = "tower-sessions")]
mod session;
mod skip;
mod sticky;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Response, StatusCode, header};

pub use self::behind::LayerStore;
pub use self::ready_gate::{ReadyGate, ReadyGateFuture, ReadyGateLayer};
pub use self::replication::{Replication, ReplicationFuture, ReplicationLayer, ReplicationStats, SessionRole};
#[cfg(feature = "tower-sessions")]
pub use self::session::{ReplicatedSessionLayer, ReplicatedSessions, ReplicatedSessionsFuture};
pub use self::skip::{Skip, SkipError};
pub use self::sticky::{Failover, Rebind, Sticky, StickyFuture, StickyLayer, StickyMode};
use crate::SessionId;
use crate::stamp::Stamp;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a client said that it is, beside its session's id; put on a request by the sticky layer.
#[derive(Clone, Debug, Default)]
struct Incoming {
    id: Option<SessionId>,
    /// The last write that it has seen.
    version: Option<Stamp>,
    /// It is to learn of the next.
    remembers: bool,
}

/// What a request has to do with its session's cookie; put on a response by the replication layer.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    /// The last write of its session that it saw or made.
    seen: Option<Stamp>,
    /// Nobody could say whether there is such a session: the client is to keep the cookie.
    unknown: bool,
}

/// 503, with when to come again.
fn unavailable<B: Default>(after_seconds: u64) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, after_seconds.into());
    response
}

/// Says once that a layer stands at the wrong place.
#[derive(Debug, Default)]
struct Misplaced(AtomicBool);

impl Misplaced {
    fn check(&self, is_wrong: bool, layer: &str, rule: &str) {
        if is_wrong && !self.0.swap(true, Ordering::Relaxed) {
            tracing::error!("{layer} stands at the wrong place, and does not do its work: {rule}");
        }
    }
}
