//! What belongs to one request: carried beside it by the task that handles it, seen by the store.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::futures::TaskLocalFuture;

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
    /// The client is to learn which write it saw last.
    remembers: bool,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What was written, and how far it came.
    pub(crate) commits: Vec<Commit>,
    /// Sessions that were read, or written.
    pub(crate) used: Few<SessionId>,
    /// Those of them whose owner is gone.
    pub(crate) take_over: Vec<SessionId>,
    /// The last write that this request saw or made.
    pub(crate) seen: Option<(SessionId, Stamp)>,
    /// The store could not do what it was to do.
    pub(crate) has_failed: bool,
    /// Nobody could say whether there is a session that it named.
    pub(crate) unknown: bool,
    /// Sessions that lived until this request ended them.
    ended: Vec<SessionId>,
}

/// Mostly one.
#[derive(Debug)]
pub(crate) struct Few<T> {
    first: Option<T>,
    others: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: None, others: Vec::new() }
    }
}

impl<T: PartialEq> Few<T> {
    fn add(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else if self.iter().all(|held| *held != item) {
            self.others.push(item);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }
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
        Self { store, outer, passes_by, wanted, remembers: false, done: Mutex::default() }
    }

    /// One whose client is to learn which write it saw last.
    pub(crate) const fn that_remembers(mut self, remembers: bool) -> Self {
        self.remembers = remembers;
        self
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

/// What is done for a request, as a future.
pub(crate) type Scope<F> = TaskLocalFuture<Arc<RequestContext>, F>;

/// Makes with `call` what is done for this request, as part of it.
pub(crate) fn handle<F: Future>(context: &Arc<RequestContext>, call: impl FnOnce() -> F) -> Scope<F> {
    scope(Arc::clone(context), REQUEST.sync_scope(Arc::clone(context), call))
}

/// Runs `handle` as what is done for this request.
pub(crate) fn scope<F: Future>(context: Arc<RequestContext>, handle: F) -> Scope<F> {
    REQUEST.scope(context, handle)
}

/// Whether the present task handles a request of this store.
pub(crate) fn is_handled(store: usize) -> bool {
    with_current(store, |_| ()).is_some()
}

/// Has the request of this store that the present task handles say something, if a layer said that there is one. A task that a
/// handler spawns has none.
fn with_current<T>(store: usize, say: impl FnOnce(&RequestContext) -> T) -> Option<T> {
    let find = |request: &Arc<RequestContext>| {
        let mut found = request;
        while found.store != store {
            found = found.outer.as_ref()?;
        }
        Some(say(found))
    };
    REQUEST.try_with(find).ok().flatten()
}

/// The write of this session that the client has seen last.
pub(crate) fn wanted(store: usize, id: SessionId) -> Option<Stamp> {
    with_current(store, |request| request.wanted)?.filter(|(wanted, _)| *wanted == id).map(|(_, stamp)| stamp)
}

/// Notes a write; gives it back if there is no request to wait for it.
pub(crate) fn note_commit(store: usize, commit: Commit) -> Option<Commit> {
    let mut commit = Some(commit);
    with_current(store, |request| request.with(|done| done.commits.extend(commit.take())));
    commit
}

/// Notes that a session was used.
pub(crate) fn note_use(store: usize, id: SessionId) -> Use {
    let noted = with_current(store, |request| {
        if request.passes_by {
            return Use::PassesBy;
        }
        request.with(|done| done.used.add(id));
        Use::Noted
    });
    noted.unwrap_or(Use::NoRequest)
}

/// Notes that this member is to take over a session that was used; whether there is a request to do it.
pub(crate) fn note_take_over(store: usize, id: SessionId) -> bool {
    with_current(store, |request| request.with(|done| done.take_over.push(id))).is_some()
}

/// Notes that the client saw or made a write, if it is to learn of it.
pub(crate) fn note_seen(store: usize, id: SessionId, write: impl FnOnce() -> Option<Stamp>) {
    with_current(store, |request| {
        if let Some(write) = Some(request).filter(|request| request.remembers).and_then(|_| write()) {
            request.with(|done| done.seen = Some((id, write)));
        }
    });
}

/// Notes that the store could not do what it was to do.
pub(crate) fn note_failure(store: usize) {
    with_current(store, |request| request.with(|done| done.has_failed = true));
}

/// Notes that nobody could say whether there is a session that the request named: it is not to be taken for over.
pub(crate) fn note_unknown(store: usize) {
    with_current(store, |request| request.with(|done| done.unknown = true));
}

/// Notes that this request ended a session that lived.
pub(crate) fn note_ended(store: usize, id: SessionId) {
    with_current(store, |request| request.with(|done| done.ended.push(id)));
}

/// Whether it was this request that ended the session; `None` if that is not known.
pub(crate) fn has_ended(store: usize, id: SessionId) -> Option<bool> {
    with_current(store, |request| {
        let mut ended = false;
        request.with(|done| ended = done.ended.contains(&id));
        ended
    })
}
