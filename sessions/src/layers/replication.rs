//! What happens to sessions around a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tribes_core::Time;
use tribes_core::stats::Histogram;

use super::behind::Behind;
use super::{BoxFuture, Incoming, LayerStore, Misplaced, Outgoing, Skip, unavailable};
use crate::SessionId;
use crate::request::{self, Done, RequestContext, Scope};
use crate::stats::Counter;
use crate::store::{Commit, Shortfall};

/// That a session is used counts when it is read, and once more when the response goes out, if that was so long after.
const LONG: Duration = Duration::from_millis(10);

/// What a request has to do with its session's place in the group (Tomcat: `primaryIndicator`): an extension of the request, if
/// the layer [tells](ReplicationLayer::tell_role) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionRole {
    /// This node served the session last.
    Owner,
    /// Another did.
    Backup,
    /// There is no such session, or the request named none.
    Absent,
}

/// Has requests take part in replication (Tomcat: `ReplicationValve`): counts as a use of their session that they read it, and
/// waits, after the session layer has saved and before the response goes out, until what they wrote is as
/// [durable](crate::StoreBuilder::durability) as it is to be. Just outside of the session layer.
///
/// Several session layers may stand within, with cookies of their own: all that a request writes is waited for together.
///
/// Where the store itself failed and the answer is a 500, which is what session layers make of it, it is a 503 with `Retry-After` instead.
#[derive(Clone, Debug)]
pub struct ReplicationLayer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Behind,
    skip: Skip,
    pub(super) tell_role: bool,
    retry_after: u64,
    counters: Counters,
    misplaced: Misplaced,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("skip", &self.skip).field("tell_role", &self.tell_role).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Counters {
    requests: Counter,
    skipped: Counter,
    wrote: Counter,
    short: Counter,
    failed: Counter,
    whole: Times,
    waited: Times,
}

#[derive(Default)]
struct Times {
    histogram: std::sync::Mutex<Histogram>,
}

impl Times {
    fn took(&self, time: Duration) {
        self.histogram.lock().unwrap_or_else(std::sync::PoisonError::into_inner).record(time);
    }

    fn snapshot(&self) -> Histogram {
        self.histogram.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// What a layer has seen; see [`ReplicationLayer::stats`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicationStats {
    /// Requests.
    pub requests: u64,
    /// Requests of these that were passed by.
    pub skipped: u64,
    /// Requests that wrote to a session.
    pub wrote: u64,
    /// Requests whose writes did not come as far in time as they should.
    pub short: u64,
    /// Requests that were answered with 503 because the store failed.
    pub failed: u64,
    /// How long requests took, from here, until their response.
    pub request_time: Histogram,
    /// How long those that wrote waited for others.
    pub wait_time: Histogram,
}

impl ReplicationLayer {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// For the sessions of `store`.
    #[must_use]
    pub fn new(store: &impl LayerStore) -> Self {
        let shared = Shared {
            store: store.behind(),
            skip: Skip::none(),
            tell_role: false,
            retry_after: 1,
            counters: Counters::default(),
            misplaced: Misplaced::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Passes these requests by. Default: none. What was counted so far is gone.
    #[must_use]
    pub fn skip(self, skip: Skip) -> Self {
        self.with(|shared| shared.skip = skip)
    }

    /// Puts a [`SessionRole`] on each request. Costs a look at the session; needs a
    /// [`StickyLayer`](crate::StickyLayer), which knows the cookie. Default: no.
    #[must_use]
    pub fn tell_role(self, tell: bool) -> Self {
        self.with(|shared| {
            shared.tell_role = tell;
            if tell {
                shared.store.tell_roles();
            }
        })
    }

    /// What it has seen so far. All services of a layer count together.
    #[must_use]
    pub fn stats(&self) -> ReplicationStats {
        let counters = &self.shared.counters;
        ReplicationStats {
            requests: counters.requests.get(),
            skipped: counters.skipped.get(),
            wrote: counters.wrote.get(),
            short: counters.short.get(),
            failed: counters.failed.get(),
            request_time: counters.whole.snapshot(),
            wait_time: counters.waited.snapshot(),
        }
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let old = &self.shared;
        let mut shared = Shared {
            store: old.store.clone(),
            skip: old.skip.clone(),
            tell_role: old.tell_role,
            retry_after: old.retry_after,
            counters: Counters::default(),
            misplaced: Misplaced::default(),
        };
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }
}

/// A request that is handled.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) context: Arc<RequestContext>,
    pub(super) at: Time,
    passes_by: bool,
}

/// What is still to be done for a request that was handled, before its response goes out.
#[derive(Debug)]
pub(super) struct Rest {
    take_over: Vec<SessionId>,
    commits: Vec<Commit>,
}

impl Shared {
    pub(super) async fn role(&self, id: Option<SessionId>) -> SessionRole {
        let Some(id) = id else { return SessionRole::Absent };
        self.store.role(id).await
    }

    /// A request comes.
    pub(super) fn begin<B>(&self, request: Request<B>, incoming: &Incoming) -> (Request<B>, Begun) {
        self.counters.requests.one();
        let (request, passes_by) = self.skip.matches(request);
        self.counters.skipped.add(usize::from(passes_by));
        let wanted = incoming.id.zip(incoming.version).filter(|_| !passes_by);
        let context = RequestContext::new(self.store.address(), passes_by, wanted);
        let context = Arc::new(context.that_remembers(incoming.remembers && !passes_by));
        (request, Begun { context, at: self.store.now_time(), passes_by })
    }

    /// It was handled, and its session saved: what it did, and what is left to be done, if anything is.
    pub(super) fn handled(&self, begun: &Begun) -> (Done, Option<Rest>) {
        let mut done = begun.context.done();
        let took = self.store.now_time() - begun.at;
        let mut take_over = std::mem::take(&mut done.take_over);
        let mut commits = std::mem::take(&mut done.commits);
        if begun.passes_by {
            take_over.clear();
            commits.clear();
        } else if took >= LONG {
            take_over.extend(done.used.iter().filter(|id| self.store.used(**id)));
        }
        if take_over.is_empty() && commits.is_empty() {
            self.counters.whole.took(took);
            return (done, None);
        }
        (done, Some(Rest { take_over, commits }))
    }

    /// Does it: whether the response may go out.
    pub(super) async fn settle(&self, begun_at: Time, rest: Rest) -> bool {
        let may_go = self.settle_all(rest).await;
        self.counters.whole.took(self.store.now_time() - begun_at);
        may_go
    }

    async fn settle_all(&self, Rest { take_over, commits }: Rest) -> bool {
        for id in take_over {
            self.store.take_over(id).await;
        }
        let mut is_short = false;
        if !commits.is_empty() {
            self.counters.wrote.one();
            let began = self.store.now_time();
            let short = self.store.settle(commits).await;
            self.counters.waited.took(self.store.now_time() - began);
            is_short = !short.is_empty();
            for error in short {
                tracing::debug!(%error, "a session is not as durable as it should be");
            }
        }
        self.counters.short.add(usize::from(is_short));
        !is_short || self.store.shortfall() == Shortfall::ServeAndReport
    }

    /// What goes out: the response, unless the store failed, or it may not go.
    pub(super) fn answer<R: Default>(&self, response: Response<R>, has_failed: bool, may_go: bool) -> Response<R> {
        // The session layer's own answer, which is empty: that it may be tried again is more than it says.
        if has_failed && response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            self.counters.failed.one();
            return unavailable(self.retry_after);
        }
        if may_go {
            return response;
        }
        // Its writes are made; a client whose session has another id has to learn it.
        let mut answer = unavailable(self.retry_after);
        for cookie in response.headers().get_all(SET_COOKIE) {
            answer.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        answer
    }
}

pub(super) fn is_within_session_layer(extensions: &http::Extensions) -> bool {
    let is_within = false;
    #[cfg(feature = "tower-sessions")]
    let is_within = is_within || extensions.get::<tower_sessions_core::Session>().is_some();
    #[cfg(feature = "tower-sessions-0-14")]
    let is_within = is_within || extensions.get::<tower_sessions_core_0_14::Session>().is_some();
    // Of other session layers nothing is known.
    #[cfg(not(any(feature = "tower-sessions", feature = "tower-sessions-0-14")))]
    let _ = extensions;
    is_within
}

impl<S> Layer<S> for ReplicationLayer {
    type Service = Replication<S>;

    fn layer(&self, inner: S) -> Replication<S> {
        Replication { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service of a [`ReplicationLayer`].
#[derive(Clone, Debug)]
pub struct Replication<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Replication<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ReplicationFuture<S, B, S::Future, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let incoming = request.extensions().get::<Incoming>().cloned().unwrap_or_default();
        let is_within = is_within_session_layer(request.extensions());
        shared.misplaced.check(
            is_within,
            "ReplicationLayer",
            "it belongs outside of the session layer: add it after that",
        );
        let begun;
        (request, begun) = shared.begin(request, &incoming);
        let state = if shared.tell_role {
            // The one that is ready; the clone may not be.
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            let asker = Arc::clone(&shared);
            State::Asking {
                asking: Box::pin(async move {
                    let role = asker.role(incoming.id).await;
                    request.extensions_mut().insert(role);
                    (inner, request)
                }),
            }
        } else {
            State::Handling { handled: request::handle(&begun.context, || self.inner.call(request)) }
        };
        ReplicationFuture { shared, begun, state }
    }
}

pin_project! {
    /// The future of a [`Replication`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct ReplicationFuture<S, B, F, T> {
        shared: Arc<Shared>,
        begun: Begun,
        #[pin]
        state: State<S, B, F, T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F, T> {
        /// It is looked what part this node has in the session.
        Asking { asking: BoxFuture<(S, Request<B>)> },
        Handling { #[pin] handled: Scope<F> },
        /// The writes of the request are on their way.
        Settling { settling: BoxFuture<(T, Done, bool)> },
    }
}

impl<S, B, R> Future for ReplicationFuture<S, B, S::Future, Result<Response<R>, S::Error>>
where
    S: Service<Request<B>, Response = Response<R>> + 'static,
    S::Error: Send,
    B: 'static,
    R: Default + Send + 'static,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (shared, begun) = (&*this.shared, &*this.begun);
        loop {
            let (handled, done, may_go) = match this.state.as_mut().project() {
                StateProjection::Asking { asking } => {
                    let (mut inner, request) = ready!(asking.as_mut().poll(cx));
                    let handled = request::handle(&begun.context, || inner.call(request));
                    this.state.set(State::Handling { handled });
                    continue;
                }
                StateProjection::Handling { handled } => {
                    let handled = ready!(handled.poll(cx));
                    match shared.handled(begun) {
                        (done, None) => (handled, done, true),
                        (done, Some(rest)) => {
                            let (shared, begun_at) = (Arc::clone(shared), begun.at);
                            let settling = Box::pin(async move {
                                let may_go = shared.settle(begun_at, rest).await;
                                (handled, done, may_go)
                            });
                            this.state.set(State::Settling { settling });
                            continue;
                        }
                    }
                }
                StateProjection::Settling { settling } => ready!(settling.as_mut().poll(cx)),
            };
            return Poll::Ready(handled.map(|response| {
                let mut response = shared.answer(response, done.has_failed, may_go);
                let seen = done.seen.map(|(_, stamp)| stamp);
                if seen.is_some() || done.unknown {
                    response.extensions_mut().insert(Outgoing { seen, unknown: done.unknown });
                }
                response
            }));
        }
    }
}

impl<S, B, F, T> std::fmt::Debug for ReplicationFuture<S, B, F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicationFuture").finish_non_exhaustive()
    }
}
