//! The session layer with all that belongs around it, as one.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use time::OffsetDateTime;
use tower_layer::Layer;
use tower_service::Service;
use tower_sessions_core::{Expiry, Session};

use super::cookie::{self, Suffixes};
use super::ready_gate::{Gate, Passage};
use super::replication::{self, Begun, Rest};
use super::sticky::{self, Brought};
use super::{BoxFuture, Incoming, Misplaced, ReadyGateLayer, ReplicationLayer, StickyLayer};
use crate::request::{self, Done, Scope};
use crate::store::{LastSave, RequestStore};
use crate::{ReplicatedStore, SessionId};

/// Sessions for an application, in place of tower-sessions' `SessionManagerLayer` and the three layers around it: handlers have the same
/// `tower_sessions::Session`. It is [`ReadyGateLayer`], [`StickyLayer`], [`ReplicationLayer`] and the session layer in one, and does
/// for a request what these do together, with a part of their work: the cookie is read and written once, nothing is put into boxes
/// that need not be, and what a request was given of its session is kept beside the session's data, not in it.
///
/// ```
/// # use tribes_testkit::net::SimNet;
/// use tower_sessions::Session;
/// use tribes_sessions::{ReplicatedSessionLayer, ReplicatedStore, StickyLayer};
/// # use axum::{Router, routing::get};
/// # use tribes_core::Channel;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// # let net = SimNet::new(7);
/// # let channel = net.join(Channel::builder()).build()?;
/// # channel.start().await?;
/// let store = ReplicatedStore::builder("shop").open(&channel)?;
/// let sessions = ReplicatedSessionLayer::new(&store).sticky(StickyLayer::new(&store, "n1").remember(true));
///
/// let app: Router = Router::new()
///     .route("/", get(async |session: Session| session.insert("seen", true).await.unwrap()))
///     .layer(sessions);
/// # let _ = app;
/// # Ok(()) }
/// ```
///
/// # What it does
/// - The gate answers `/readyz`, `/livez`, and everything with 503 as long as the store is not ready.
/// - A session is read when a handler first asks for it, and saved when the handler has returned, before the response goes out, if it
///   was changed, or [always](Self::always_save); not if the response is a 5xx, unless [that is wanted](Self::save_on_server_error).
/// - If it was saved, the client is told its cookie; if the client has one and there is no such session, the cookie is removed.
/// - The response waits until what was written is as [durable](crate::StoreBuilder::durability) as it is to be.
/// - Where the store fails the answer is 503 with `Retry-After`; where a session cannot be written because it is too large, 500.
///
/// # Differences from `SessionManagerLayer`
/// - It is for [`ReplicatedStore`] only, and for tower-sessions 0.15. Cookies are neither signed nor encrypted: they hold an id
///   of 128 bits from a cryptographic source of randomness, and nothing else. axum-login builds its layer around a
///   `SessionManagerLayer`: with it, use that and the layers one by one.
/// - It brings no `tower_cookies::Cookies` along: who uses them adds their layer.
/// - The request's `Cookie` header stays as it came, with what the sticky layer hung on it.
///
/// # Cancel safety
/// If the client goes away while its request is handled, what was not saved by then is not saved.
#[derive(Clone, Debug)]
pub struct ReplicatedSessionLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    store: ReplicatedStore,
    gate: Arc<Gate>,
    sticky: Option<Arc<sticky::Shared>>,
    replication: Arc<replication::Shared>,
    cookie: String,
    attributes: String,
    expiry: Option<Expiry>,
    always_save: bool,
    save_on_server_error: bool,
    misplaced: Arc<Misplaced>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Shared");
        debug.field("store", &self.store).field("cookie", &self.cookie).field("sticky", &self.sticky);
        debug.finish_non_exhaustive()
    }
}

impl ReplicatedSessionLayer {
    /// For the sessions of `store`, behind a gate, with replication, and without sticky routes.
    #[must_use]
    pub fn new(store: &ReplicatedStore) -> Self {
        Self {
            shared: Arc::new(Shared {
                store: store.clone(),
                gate: ReadyGateLayer::new(store).gate(),
                sticky: None,
                replication: Arc::clone(ReplicationLayer::new(store).shared()),
                cookie: "id".to_owned(),
                attributes: "HttpOnly; SameSite=Strict; Secure; Path=/".to_owned(),
                expiry: None,
                always_save: false,
                save_on_server_error: false,
                misplaced: Arc::default(),
            }),
        }
    }

    /// Behind this gate. Default: as [`ReadyGateLayer::new`] makes it.
    #[must_use]
    pub fn gate(self, gate: ReadyGateLayer) -> Self {
        self.with(|shared| shared.gate = gate.gate())
    }

    /// Keeps clients at their node in this way. Its cookie's name and attributes are those of this layer, whatever it says; unless it
    /// says how long clients keep the cookie, that follows from this layer's [`expiry`](Self::expiry).
    /// Default: clients come to any node.
    #[must_use]
    pub fn sticky(self, sticky: StickyLayer) -> Self {
        self.with(|shared| shared.sticky = Some(Arc::clone(sticky.shared())))
    }

    /// Replicates in this way. Default: as [`ReplicationLayer::new`] makes it. Keep a clone of the layer for its
    /// [statistics](ReplicationLayer::stats).
    #[must_use]
    pub fn replication(self, replication: ReplicationLayer) -> Self {
        self.with(|shared| shared.replication = Arc::clone(replication.shared()))
    }

    /// The name of the session's cookie. Default `id`.
    #[must_use]
    pub fn cookie(self, name: impl Into<String>) -> Self {
        self.with(|shared| shared.cookie = name.into())
    }

    /// The attributes of the session's cookie but for `Max-Age`, which follows from the session's expiry. Default: as
    /// `SessionManagerLayer` has them, `HttpOnly; SameSite=Strict; Secure; Path=/`.
    #[must_use]
    pub fn attributes(self, attributes: impl Into<String>) -> Self {
        self.with(|shared| shared.attributes = attributes.into())
    }

    /// When sessions end for which a handler does not say it: how long they live, unless the store has its own
    /// [`inactivity`](crate::StoreBuilder::inactivity), and how long clients keep the cookie. Default: two weeks after
    /// their last use, the cookie as long as the browser runs.
    #[must_use]
    pub fn expiry(self, expiry: Expiry) -> Self {
        self.with(|shared| shared.expiry = Some(expiry))
    }

    /// Saves sessions that no handler changed, too, and so tells clients their cookie, with its `Max-Age`, with every response. It
    /// is not needed to keep sessions alive: that they are read is enough. Default: no.
    #[must_use]
    pub fn always_save(self, always: bool) -> Self {
        self.with(|shared| shared.always_save = always)
    }

    /// Saves sessions also where the response is a 5xx. Default: no, as `SessionManagerLayer`.
    #[must_use]
    pub fn save_on_server_error(self, save: bool) -> Self {
        self.with(|shared| shared.save_on_server_error = save)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = self.shared.as_ref().clone();
        change(&mut shared);
        if let Some(sticky) = &mut shared.sticky {
            let sticky = Arc::make_mut(sticky);
            sticky.cookie.clone_from(&shared.cookie);
            sticky.attributes.clone_from(&shared.attributes);
        }
        Self { shared: Arc::new(shared) }
    }
}

impl<S> Layer<S> for ReplicatedSessionLayer {
    type Service = ReplicatedSessions<S>;

    fn layer(&self, inner: S) -> ReplicatedSessions<S> {
        ReplicatedSessions { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service of a [`ReplicatedSessionLayer`].
#[derive(Clone, Debug)]
pub struct ReplicatedSessions<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// A request that is handled.
struct Handled {
    brought: Brought,
    begun: Begun,
    session: Session,
    store: Arc<RequestStore>,
}

/// What a client is to do with its session's cookie.
#[derive(Clone, Copy, Debug)]
enum Cookie {
    Keep,
    Remove,
    Set(SessionId, Option<Duration>),
}

/// What a handled request has done, and what is left to be done for it, if anything is.
type Outcome = (Done, Option<Rest>);

impl Shared {
    fn read(&self, headers: &HeaderMap) -> Brought {
        self.sticky.as_ref().map_or_else(|| Brought::read(headers, &self.cookie).0, |sticky| sticky.read(headers))
    }

    /// Asks others what has to be known of a request's session before it is handled.
    async fn ask<B>(&self, request: &mut Request<B>, brought: &mut Brought) {
        if let Some(sticky) = self.sticky.as_ref().filter(|_| brought.is_foreign()) {
            sticky.look_up(request, brought).await;
        }
        if self.replication.tell_role {
            let role = self.replication.role(brought.id).await;
            request.extensions_mut().insert(role);
        }
    }

    /// A request comes, of which is known what it brought.
    fn begin<B>(&self, request: Request<B>, brought: Brought) -> (Request<B>, Handled) {
        let remembers = self.sticky.as_ref().is_some_and(|sticky| sticky.remember);
        let version = brought.version.filter(|_| remembers);
        let (mut request, begun) = self.replication.begin(request, &Incoming { id: brought.id, version, remembers });
        let store = Arc::new(RequestStore::new(self.store.clone()));
        let session = Session::new(brought.id.map(Into::into), Arc::clone(&store), self.expiry);
        request.extensions_mut().insert(session.clone());
        (request, Handled { brought, begun, session, store })
    }

    /// What is to become of the client's cookie, if the session is not to be saved.
    fn unsaved(&self, handled: &Handled, is_empty: bool, status: StatusCode) -> Option<Cookie> {
        if is_empty {
            return Some(if handled.brought.has_cookie { Cookie::Remove } else { Cookie::Keep });
        }
        let is_wanted = handled.session.is_modified() || self.always_save;
        let is_kept = !is_wanted || status.is_server_error() && !self.save_on_server_error;
        is_kept.then_some(Cookie::Keep)
    }

    /// The same at once; none if it is to be saved, or somebody still has it.
    fn unsaved_now(&self, handled: &Handled, status: StatusCode, cx: &mut Context<'_>) -> Option<Cookie> {
        // One that has an id is not empty, whatever is in it.
        let is_empty = match handled.session.id() {
            Some(_) => Poll::Ready(false),
            None => pin!(handled.session.is_empty()).poll(cx),
        };
        let Poll::Ready(is_empty) = is_empty else { return None };
        let cookie = self.unsaved(handled, is_empty, status)?;
        // No handler has looked at it: what is over is taken away from the client all the same.
        let (store, is_told) = (self.store.inner(), handled.brought.version.is_some());
        let is_over = || handled.brought.id.is_some_and(|id| store.is_known_over_here(id, is_told) == Some(true));
        let is_unseen = matches!(cookie, Cookie::Keep) && handled.session.id().is_some() && !handled.store.was_read();
        Some(if is_unseen && is_over() { Cookie::Remove } else { cookie })
    }

    /// Saves the session.
    async fn save(&self, handled: &Handled, status: StatusCode) -> Result<Cookie, tower_sessions_core::session::Error> {
        let session = &handled.session;
        let is_empty = session.is_empty().await;
        if let Some(cookie) = self.unsaved(handled, is_empty, status) {
            return Ok(cookie);
        }
        session.save().await?;
        match handled.store.saved().await {
            LastSave::Made => {}
            // There may be one, and its client keeps it.
            LastSave::Nothing => return Ok(Cookie::Keep),
            // It replaced, without a look at it, a session that was over, or was told nothing of one that there may be: what it has
            // is another's.
            saved @ (LastSave::Over | LastSave::Unknown) => {
                if saved == LastSave::Unknown {
                    handled.store.spare().await;
                }
                session.cycle_id().await?;
                session.save().await?;
            }
        }
        let max_age = session.expiry().and_then(max_age_of);
        // What was saved has an id.
        Ok(session.id().map_or(Cookie::Keep, |id| Cookie::Set(id.into(), max_age)))
    }

    /// Does what has to be waited for, all of it, or the rest if it is `settled` what becomes of the session.
    async fn finish<R: Default, E>(
        self: Arc<Self>,
        handled: Handled,
        mut result: Result<Response<R>, E>,
        settled: Option<(Cookie, Outcome)>,
    ) -> Result<Response<R>, E> {
        let (cookie, (done, rest)) = match settled {
            Some(settled) => settled,
            None => {
                let mut cookie = Cookie::Keep;
                if let Ok(response) = &mut result {
                    let save = self.save(&handled, response.status());
                    match request::scope(Arc::clone(&handled.begun.context), save).await {
                        Ok(then) => cookie = then,
                        Err(error) => {
                            tracing::error!(%error, "a session could not be saved");
                            *response = Response::default();
                            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                        }
                    }
                }
                (cookie, self.replication.handled(&handled.begun))
            }
        };
        let may_go = match rest {
            Some(rest) => self.replication.settle(handled.begun.at, rest).await,
            None => true,
        };
        result.map(|response| self.answer(response, (&handled.brought, cookie), &done, may_go))
    }

    /// What goes out.
    fn answer<R: Default>(
        &self,
        response: Response<R>,
        (brought, cookie): (&Brought, Cookie),
        done: &Done,
        may_go: bool,
    ) -> Response<R> {
        let mut response = self.replication.answer(response, done.has_failed, may_go);
        let (headers, seen) = (response.headers_mut(), done.seen.map(|(_, stamp)| stamp));
        match cookie {
            Cookie::Keep => {}
            Cookie::Remove => cookie::set(headers, &self.cookie, "", &self.attributes, Some(Duration::ZERO)),
            Cookie::Set(id, max_age) => {
                let hung =
                    self.sticky.as_ref().map_or_else(Suffixes::default, |sticky| sticky.in_cookie(brought, seen));
                let value = (&*id.to_string(), hung);
                cookie::set_joined(headers, &self.cookie, value, &self.attributes, max_age);
            }
        }
        if let Some(sticky) = &self.sticky {
            let max_age = sticky.max_age.or_else(|| self.expiry.and_then(max_age_of));
            sticky.tell(headers, brought, seen, (!matches!(cookie, Cookie::Keep), max_age));
        }
        response
    }
}

/// How long a client is to keep the cookie of a session that ends then; `None`: as long as it runs.
fn max_age_of(expiry: Expiry) -> Option<Duration> {
    let age = match expiry {
        Expiry::OnSessionEnd => return None,
        Expiry::OnInactivity(idle) => idle,
        Expiry::AtDateTime(date) => date - OffsetDateTime::now_utc(),
    };
    // What is over already ends at once.
    Some(Duration::try_from(age).unwrap_or_default())
}

impl<S, B, R> Service<Request<B>> for ReplicatedSessions<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ReplicatedSessionsFuture<S, B, S::Future, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let gate = &shared.gate;
        let passed = match gate.look(request.uri().path()) {
            Passage::Open => None,
            Passage::Closed => Some(gate.answer(false)),
            Passage::AsksAlive => Some(gate.answer(true)),
            Passage::AsksReady => {
                let readiness = Arc::clone(gate).readiness();
                let finishing: BoxFuture<_> = Box::pin(async move { Ok(readiness.await) });
                return ReplicatedSessionsFuture { shared, handled: None, state: State::Finishing { finishing } };
            }
        };
        if let Some(answer) = passed {
            let state = State::Answered { answer: Some(Ok(answer)) };
            return ReplicatedSessionsFuture { shared, handled: None, state };
        }
        let is_within = replication::is_within_session_layer(request.extensions());
        shared.misplaced.check(is_within, "ReplicatedSessionLayer", "it stands within another session layer");

        let mut brought = shared.read(request.headers());
        if brought.is_foreign() || shared.replication.tell_role {
            // The one that is ready; the clone may not be.
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            let asker = Arc::clone(&shared);
            let asking: BoxFuture<_> = Box::pin(async move {
                asker.ask(&mut request, &mut brought).await;
                (inner, request, brought)
            });
            return ReplicatedSessionsFuture { shared, handled: None, state: State::Asking { asking } };
        }
        let (request, handled) = shared.begin(request, brought);
        let state = State::Handling { handling: request::handle(&handled.begun.context, || self.inner.call(request)) };
        ReplicatedSessionsFuture { shared, handled: Some(handled), state }
    }
}

pin_project! {
    /// The future of [`ReplicatedSessions`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct ReplicatedSessionsFuture<S, B, F, T> {
        shared: Arc<Shared>,
        // The request, as long as it is handled.
        handled: Option<Handled>,
        #[pin]
        state: State<S, B, F, T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F, T> {
        /// Others are asked about its session.
        Asking { asking: BoxFuture<(S, Request<B>, Brought)> },
        Handling { #[pin] handling: Scope<F> },
        /// Its session is saved, or its writes are on their way.
        Finishing { finishing: BoxFuture<T> },
        Answered { answer: Option<T> },
    }
}

impl<S, B, R> Future for ReplicatedSessionsFuture<S, B, S::Future, Result<Response<R>, S::Error>>
where
    S: Service<Request<B>, Response = Response<R>> + 'static,
    S::Error: Send + 'static,
    B: 'static,
    R: Default + Send + 'static,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let shared = &*this.shared;
        loop {
            let (handled, result) = match this.state.as_mut().project() {
                StateProjection::Asking { asking } => {
                    let (mut inner, request, brought) = ready!(asking.as_mut().poll(cx));
                    let (request, handled) = shared.begin(request, brought);
                    let handling = request::handle(&handled.begun.context, || inner.call(request));
                    *this.handled = Some(handled);
                    this.state.set(State::Handling { handling });
                    continue;
                }
                StateProjection::Handling { handling } => {
                    let result = ready!(handling.poll(cx));
                    // It is there as long as it is handled.
                    let Some(handled) = this.handled.take() else { return Poll::Ready(result) };
                    (handled, result)
                }
                StateProjection::Finishing { finishing } => return finishing.as_mut().poll(cx),
                // Polled again after it was done: never.
                StateProjection::Answered { answer } => return answer.take().map_or(Poll::Pending, Poll::Ready),
            };
            let shared = Arc::clone(shared);
            let unsaved = match &result {
                Ok(response) => shared.unsaved_now(&handled, response.status(), cx),
                Err(_) => Some(Cookie::Keep),
            };
            let settled = match unsaved {
                None => None,
                Some(cookie) => match shared.replication.handled(&handled.begun) {
                    (done, None) => {
                        let answer = |response| shared.answer(response, (&handled.brought, cookie), &done, true);
                        return Poll::Ready(result.map(answer));
                    }
                    outcome => Some((cookie, outcome)),
                },
            };
            let finishing = Box::pin(shared.finish(handled, result, settled));
            this.state.set(State::Finishing { finishing });
        }
    }
}

impl<S, B, F, T> std::fmt::Debug for ReplicatedSessionsFuture<S, B, F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicatedSessionsFuture").finish_non_exhaustive()
    }
}
