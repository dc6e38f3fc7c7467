//! What happens to sessions, told to whoever wants to know.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::broadcast;
use tribes_core::MemberId;

use crate::{EndReason, SessionId};

/// So many events wait for a stream.
const WAITING: usize = 1024;

/// Something happened to a session. Each node tells of what happens to the sessions that it has, once, in the order in which
/// it learns of it (Tomcat: `HttpSessionListener`, `HttpSessionIdListener`, the cluster's container events).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// There is a new session. Not told of those that a node finds when it joins.
    Created {
        /// Its id.
        id: SessionId,
        /// The member that made it.
        by: MemberId,
    },
    /// A session is over. Exactly once on each node that had it.
    Destroyed {
        /// Its id.
        id: SessionId,
        /// Why.
        reason: EndReason,
        /// The member that ended it.
        by: MemberId,
    },
    /// A session got a new id, as at a login; that the old one was [destroyed](Self::Destroyed) was told before.
    Renamed {
        /// The id that it had.
        from: SessionId,
        /// The id that it has.
        to: SessionId,
    },
    /// A session of a member that is gone has a new owner, which served it.
    FailedOver {
        /// Its id.
        id: SessionId,
        /// The member that is gone.
        from: MemberId,
        /// The member that serves it now.
        to: MemberId,
    },
    /// A session that this node served is nowhere any more: all nodes that held it died before others had a copy. Only in
    /// [`Mode::Backup`](crate::Mode::Backup); told when it is asked for, or its time is over.
    Lost {
        /// Its id.
        id: SessionId,
    },
    /// Two requests wrote a field without knowing of each other, and one of the writes is gone, or waits to be settled.
    Conflict {
        /// The session's id.
        id: SessionId,
        /// The field.
        field: String,
    },
}

pub(crate) type Listener = Arc<dyn Fn(&SessionEvent) + Send + Sync>;

/// Tells of events.
pub(crate) struct Events {
    listeners: Vec<Listener>,
    stream: broadcast::Sender<SessionEvent>,
}

impl Events {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self { listeners, stream: broadcast::Sender::new(WAITING) }
    }

    /// Called where changes are made or arrive.
    pub(crate) fn tell(&self, event: SessionEvent) {
        tracing::debug!(?event, "session");
        for listener in &self.listeners {
            if catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                tracing::error!(?event, "a listener of sessions panicked");
            }
        }
        // Nobody may be listening.
        let _ = self.stream.send(event);
    }

    pub(crate) fn stream(&self) -> SessionEvents {
        SessionEvents(self.stream.subscribe())
    }
}

/// Events as a stream, at most 1,024 of which wait; see [`ReplicatedStore::events`](crate::ReplicatedStore::events).
pub struct SessionEvents(broadcast::Receiver<SessionEvent>);

impl SessionEvents {
    /// The next event; `None` when the store is gone.
    ///
    /// # Errors
    /// How many were missed because too many waited. The next call goes on with the oldest that is there.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<SessionEvent, u64>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for SessionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEvents").field("waiting", &self.0.len()).finish()
    }
}
