//! What belongs to one request: carried beside it by the task that handles it, seen by the store.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use crate::SessionId;
use crate::stamp::Stamp;
use crate::store::Commit;

tokio::task_local! {
    static REQUEST: Arc<RequestContext>;
}

/// What a request wants of a store, and what it did there. A request may have to do with several stores: each has its own.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// The [address](crate::store::Inner::address) of the store.
    store: usize,
    /// That of another store.
    outer: Option<Arc<Self>>,
    /// Whether reading a session counts as using it.
    passes_by: bool,
    /// The write that the client has seen last of this session.
    wanted: Option<(SessionId, Stamp)>,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What was written, and how far it came.
    pub(crate) commits: Vec<Commit>,
    /// Sessions that were read, or written.
    pub(crate) used: Vec<SessionId>,
    /// The last write that this request saw or made.
    pub(crate) seen: Option<(SessionId, Stamp)>,
    /// The store could not do what it was to do.
    pub(crate) has_failed: bool,
    /// Sessions that lived until this request ended them.
    ended: Vec<SessionId>,
}

/// Who counts the use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It does not count.
    PassesBy,
    /// It is counted when the response goes out.
    Noted,
    /// No layer of this store has the request.
    NoRequest,
}

impl RequestContext {
    pub(crate) fn new(store: usize, passes_by: bool, wanted: Option<(SessionId, Stamp)>) -> Self {
        let outer = REQUEST.try_with(Arc::clone).ok();
        Self { store, outer, passes_by, wanted, done: Mutex::default() }
    }

    /// One that has ended this session before.
    #[cfg(feature = "actix-session")]
    pub(crate) fn that_ended(self, id: Option<SessionId>) -> Self {
        self.with(|done| done.ended.extend(id));
        self
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

/// Whether the present task handles a request of some store.
pub(crate) fn is_handled() -> bool {
    REQUEST.try_with(|_| ()).is_ok()
}

/// The request of this store that the present task handles, if a layer said so. A task that a handler spawns has none.
fn current(store: usize) -> Option<Arc<RequestContext>> {
    let mut found = REQUEST.try_with(Arc::clone).ok();
    while let Some(request) = &found {
        if request.store == store {
            break;
        }
        found = request.outer.clone();
    }
    found
}

/// The write of this session that the client has seen last.
pub(crate) fn wanted(store: usize, id: SessionId) -> Option<Stamp> {
    current(store)?.wanted.filter(|(wanted, _)| *wanted == id).map(|(_, stamp)| stamp)
}

/// Notes a write; gives it back if there is no request to wait for it.
pub(crate) fn note_commit(store: usize, commit: Commit) -> Option<Commit> {
    let Some(request) = current(store) else { return Some(commit) };
    request.with(|done| done.commits.push(commit));
    None
}

/// Notes that a session was used.
pub(crate) fn note_use(store: usize, id: SessionId) -> Use {
    let Some(request) = current(store) else { return Use::NoRequest };
    if request.passes_by {
        return Use::PassesBy;
    }
    request.with(|done| {
        if !done.used.contains(&id) {
            done.used.push(id);
        }
    });
    Use::Noted
}

pub(crate) fn note_seen(store: usize, id: SessionId, write: Stamp) {
    if let Some(request) = current(store) {
        request.with(|done| done.seen = Some((id, write)));
    }
}

/// Notes that the store could not do what it was to do.
pub(crate) fn note_failure(store: usize) {
    if let Some(request) = current(store) {
        request.with(|done| done.has_failed = true);
    }
}

/// Notes that this request ended a session that lived.
pub(crate) fn note_ended(store: usize, id: SessionId) {
    if let Some(request) = current(store) {
        request.with(|done| done.ended.push(id));
    }
}

/// Whether it was this request that ended the session; `None` if that is not known.
pub(crate) fn has_ended(store: usize, id: SessionId) -> Option<bool> {
    let request = current(store)?;
    let mut ended = false;
    request.with(|done| ended = done.ended.contains(&id));
    Some(ended)
}
