//! What stands behind the layers: sessions that this node has, or a store that all nodes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tribes_core::Time;
use tribes_replication::MapError;

use super::SessionRole;
use crate::store::{Commit, Inner, Shortfall};
use crate::{ReplicatedStore, SessionId, SharedStore};

/// A store that the layers can stand before: [`ReplicatedStore`], and `SharedStore`, of which all nodes use the same. Only these.
pub trait LayerStore: sealed::Sealed {}

impl LayerStore for ReplicatedStore {}
impl LayerStore for SharedStore {}

mod sealed {
    #[allow(unnameable_types, reason = "sealed: nobody else implements it")]
    pub trait Sealed {
        #[doc(hidden)]
        fn behind(&self) -> super::Behind;
    }
}

impl sealed::Sealed for ReplicatedStore {
    fn behind(&self) -> Behind {
        Behind(Kind::Replicated(Arc::clone(self.inner())))
    }
}

impl sealed::Sealed for SharedStore {
    fn behind(&self) -> Behind {
        Behind(Kind::Shared(self.clone()))
    }
}

/// One of them.
#[derive(Clone, Debug)]
#[allow(unnameable_types, reason = "sealed: nobody else implements it")]
pub struct Behind(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Replicated(Arc<Inner>),
    Shared(SharedStore),
}

/// The same, which does not keep it.
#[derive(Clone)]
pub(super) enum WeakBehind {
    /// Whether it is open; when it is gone it is not.
    Replicated(Arc<AtomicBool>),
    Shared(SharedStore),
}

impl std::fmt::Debug for WeakBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store")
    }
}

impl Behind {
    pub(super) fn weak(&self) -> WeakBehind {
        match &self.0 {
            Kind::Replicated(store) => WeakBehind::Replicated(store.open()),
            Kind::Shared(store) => WeakBehind::Shared(store.clone()),
        }
    }

    /// What tells it from others.
    pub(super) fn address(&self) -> usize {
        match &self.0 {
            Kind::Replicated(store) => store.address(),
            Kind::Shared(store) => store.address(),
        }
    }

    pub(super) fn now_time(&self) -> Time {
        match &self.0 {
            Kind::Replicated(store) => store.now_time(),
            Kind::Shared(store) => store.now_time(),
        }
    }

    /// This session was used. Whether this member [is to take it over](Self::take_over).
    pub(super) fn used(&self, id: SessionId) -> bool {
        match &self.0 {
            Kind::Replicated(store) => store.used(id),
            // Nobody reads a session through one of these that counts it.
            Kind::Shared(_) => false,
        }
    }

    pub(super) async fn take_over(&self, id: SessionId) {
        match &self.0 {
            Kind::Replicated(store) => store.take_over(id).await,
            Kind::Shared(_) => {}
        }
    }

    /// Waits for writes; what fell short.
    pub(super) async fn settle(&self, commits: Vec<Commit>) -> Vec<MapError> {
        match &self.0 {
            Kind::Replicated(store) => store.settle(commits).await,
            Kind::Shared(_) => Vec::new(),
        }
    }

    /// From now on some layer looks what part this node has in sessions.
    pub(super) fn tell_roles(&self) {
        match &self.0 {
            Kind::Replicated(store) => store.tell_roles(),
            Kind::Shared(_) => {}
        }
    }

    pub(super) fn tells_roles(&self) -> bool {
        match &self.0 {
            Kind::Replicated(store) => store.tells_roles(),
            Kind::Shared(_) => true,
        }
    }

    pub(super) fn shortfall(&self) -> Shortfall {
        match &self.0 {
            Kind::Replicated(store) => store.shortfall(),
            Kind::Shared(_) => Shortfall::default(),
        }
    }

    pub(super) async fn role(&self, id: SessionId) -> SessionRole {
        match &self.0 {
            Kind::Replicated(store) => match store.role(id).await {
                Some((true, _)) => SessionRole::Owner,
                Some((false, _)) => SessionRole::Backup,
                None => SessionRole::Absent,
            },
            Kind::Shared(_) => match self.has(id).await {
                true => SessionRole::Owner,
                false => SessionRole::Absent,
            },
        }
    }

    /// Whether there is such a session.
    pub(super) async fn has(&self, id: SessionId) -> bool {
        match &self.0 {
            Kind::Replicated(store) => store.has(id).await,
            Kind::Shared(store) => matches!(store.load(id).await, Ok(Some(_))),
        }
    }

    /// As [`is_known_over`](Self::is_known_over), if it can be said at once.
    pub(super) fn is_known_over_here(&self, id: SessionId, is_told: bool) -> Option<bool> {
        match &self.0 {
            Kind::Replicated(store) => store.is_known_over_here(id, is_told),
            Kind::Shared(_) => Some(false),
        }
    }

    /// Whether it is known that there is no such session; `is_told`: the client says that there was one just now.
    pub(super) async fn is_known_over(&self, id: SessionId, is_told: bool) -> bool {
        match &self.0 {
            Kind::Replicated(store) => store.is_known_over(id, is_told).await,
            Kind::Shared(_) => false,
        }
    }

    pub(super) fn note_failover(&self) {
        match &self.0 {
            Kind::Replicated(store) => store.counters().failovers.one(),
            Kind::Shared(store) => store.note_failover(),
        }
    }
}

impl WeakBehind {
    /// Whether requests may come.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Replicated(open) => open.load(Ordering::Acquire),
            // It is there or not, whatever node is asked.
            Self::Shared(_) => true,
        }
    }

    /// Whether they would be served.
    pub(super) async fn is_ready(&self) -> bool {
        match self {
            Self::Replicated(_) => self.is_open(),
            Self::Shared(store) => store.is_reachable().await,
        }
    }
}
