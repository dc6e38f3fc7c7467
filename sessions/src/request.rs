//! What belongs to one request: carried beside it by the task that handles it, seen by the store.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use crate::SessionId;
use crate::stamp::Stamp;
use crate::store::Commit;

tokio::task_local! {
    static REQUEST: Arc<RequestContext>;
}

/// What a request wants of the store, and what it did there.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Whether reading a session counts as using it.
    pub(crate) passes_by: bool,
    /// The write that the client has seen last.
    pub(crate) wanted: Option<Stamp>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What was written, and how far it came.
    pub(crate) commits: Vec<Commit>,
    /// Sessions that were read, or written.
    pub(crate) used: Vec<SessionId>,
    /// The last write of each session that this request saw or made.
    pub(crate) seen: Option<(SessionId, Stamp)>,
    pub(crate) stale: bool,
}

impl RequestContext {
    pub(crate) fn new(passes_by: bool, wanted: Option<Stamp>) -> Self {
        Self { passes_by, wanted, done: Mutex::default() }
    }

    pub(crate) fn done(&self) -> Done {
        std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with(&self, note: impl FnOnce(&mut Done)) {
        note(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs `handle` as what is done for this request.
pub(crate) async fn scope<T>(context: Arc<RequestContext>, handle: impl Future<Output = T>) -> T {
    REQUEST.scope(context, handle).await
}

/// The request that the present task handles, if a layer said so. A task that a handler spawns has none.
pub(crate) fn current() -> Option<Arc<RequestContext>> {
    REQUEST.try_with(Arc::clone).ok()
}

/// Notes a write; gives it back if there is no request to wait for it.
pub(crate) fn note_commit(commit: Commit) -> Option<Commit> {
    let Some(request) = current() else { return Some(commit) };
    request.with(|done| done.commits.push(commit));
    None
}

/// Notes that a session was used; whether a request is there that tells so at its end, or does not want to.
pub(crate) fn note_use(id: SessionId) -> bool {
    let Some(request) = current() else { return false };
    if !request.passes_by {
        request.with(|done| {
            if !done.used.contains(&id) {
                done.used.push(id);
            }
        });
    }
    true
}

pub(crate) fn note_seen(id: SessionId, write: Stamp) {
    if let Some(request) = current() {
        request.with(|done| done.seen = Some((id, write)));
    }
}

pub(crate) fn note_stale() {
    if let Some(request) = current() {
        request.with(|done| done.stale = true);
    }
}
