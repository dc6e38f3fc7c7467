//! Which node a client belongs to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::behind::Behind;
use super::cookie::{self, Suffixes};
use super::{BoxFuture, Incoming, LayerStore, Misplaced, Outgoing};
use crate::stamp::Stamp;
use crate::{SessionId, request};

/// Where a client is told which node it belongs to, for the balancer to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StickyMode {
    /// Behind a dot at the end of the session's cookie: `mod_jk`, `mod_proxy_balancer`, nginx with a `map`. The default.
    Suffix,
    /// In a cookie of this name: HAProxy, Envoy, Traefik, nginx with a `map`.
    Cookie(String),
    /// In a header of this name, in both directions: clients that are programs.
    Header(String),
}

/// A request came that belonged to another node (Tomcat: the request attribute with the session's original id): an extension of
/// the request, for handlers that want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failover {
    /// The node that it belonged to.
    pub from: String,
}

/// Keeps a client at one node (Tomcat: `JvmRouteBinderValve`). It tells clients which node they belong to; when one comes that
/// belongs to another and whose session is here, it stays here from now on. Just outside of the
/// [`ReplicationLayer`](crate::ReplicationLayer).
///
/// The session's id itself never contains the node and never changes: the layer takes off what hangs on the cookie before the
/// session layer sees it, and hangs it on again. So there is nothing to rename at a failover, and no race.
///
/// Of a signed or private cookie it hangs its part outside of the signature, and takes it off again; which session it is it cannot read
/// then, so there is no failover to tell of, nothing to remember, and no role.
///
/// With [`remember`](Self::remember) it also tells clients which write of their session they have seen last, so that they read
/// what they wrote whichever node they come to.
#[derive(Clone, Debug)]
pub struct StickyLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
pub(super) struct Shared {
    store: Behind,
    route: String,
    pub(super) cookie: String,
    mode: StickyMode,
    pub(super) attributes: String,
    pub(super) max_age: Option<Duration>,
    pub(super) remember: bool,
    rebind: Arc<AtomicBool>,
    misplaced: Arc<Misplaced>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("route", &self.route).field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

/// Switches rebinding on and off while the server runs; see [`StickyLayer::rebind`].
#[derive(Clone, Debug)]
pub struct Rebind(Arc<AtomicBool>);

impl Rebind {
    /// From now on clients of other nodes stay here, or do not.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

impl StickyLayer {
    /// For the sessions of `store`, on the node that balancers know as `route` (Tomcat: `jvmRoute`): 1 to 64 letters, digits,
    /// dashes and underscores.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[allow(clippy::panic, reason = "a name in the program, not input; it could never be read back")]
    pub fn new(store: &impl LayerStore, route: impl Into<String>) -> Self {
        let route = route.into();
        assert!(cookie::is_route(&route), "a route is 1 to 64 letters, digits, dashes and underscores, not {route:?}");
        Self {
            shared: Arc::new(Shared {
                store: store.behind(),
                route,
                cookie: "id".to_owned(),
                mode: StickyMode::Suffix,
                attributes: "HttpOnly; SameSite=Strict; Secure; Path=/".to_owned(),
                max_age: None,
                remember: false,
                rebind: Arc::new(AtomicBool::new(true)),
                misplaced: Arc::default(),
            }),
        }
    }

    /// The name of the session's cookie; as that of the session layer. Default `id`.
    #[must_use]
    pub fn cookie(self, name: impl Into<String>) -> Self {
        self.with(|shared| shared.cookie = name.into())
    }

    /// Where clients are told which node they belong to. Default: at the end of the session's cookie.
    #[must_use]
    pub fn mode(self, mode: StickyMode) -> Self {
        self.with(|shared| shared.mode = mode)
    }

    /// The attributes of the cookies that this layer sets by itself: where a client moves to this node and the session layer sets
    /// none. As the session layer has them. Default: its default, `HttpOnly; SameSite=Strict; Secure; Path=/`.
    #[must_use]
    pub fn attributes(self, attributes: impl Into<String>) -> Self {
        self.with(|shared| shared.attributes = attributes.into())
    }

    /// How long clients keep the cookies that this layer sets by itself. Default: as long as their browser runs.
    #[must_use]
    pub fn max_age(self, age: Option<Duration>) -> Self {
        self.with(|shared| shared.max_age = age)
    }

    /// Tells clients the last write of their session that they have seen, behind a tilde in the session's cookie, and waits
    /// for it where they come next ([`max_wait`](crate::StoreBuilder::max_wait)). It is told when the session layer sets the
    /// cookie, which it does with each save. Default: no.
    #[must_use]
    pub fn remember(self, remember: bool) -> Self {
        self.with(|shared| shared.remember = remember)
    }

    /// Whether clients of other nodes stay here once they came (Tomcat: `enabled`), to be switched while the server runs.
    /// Switched off, they go back to theirs as soon as it is there again. At first it is on.
    #[must_use]
    pub fn rebind(&self) -> Rebind {
        Rebind(Arc::clone(&self.shared.rebind))
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = self.shared.as_ref().clone();
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// What a request brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) id: Option<SessionId>,
    pub(super) version: Option<Stamp>,
    /// The node that it belongs to, if it is another.
    foreign: Option<String>,
    /// It belongs to another node, and its session is here: the cookie's value without what hung on it.
    moves: Option<String>,
    /// There are several cookies, of which only the session layer knows which is right.
    is_ambiguous: bool,
    /// Its session is over.
    pub(super) is_over: bool,
    /// It has the session's cookie, of whatever value.
    pub(super) has_cookie: bool,
    /// Something hangs on a cookie that is not for the session layer.
    hangs: bool,
}

impl Brought {
    /// It names a session, and belongs to another node.
    pub(super) const fn is_foreign(&self) -> bool {
        self.id.is_some() && self.foreign.is_some()
    }

    /// What is in the session's cookie; and the node to which the request belongs, if that hangs there.
    pub(super) fn read<'a>(headers: &'a HeaderMap, cookie: &str) -> (Self, Option<&'a str>) {
        let Some((found, is_ambiguous)) = cookie::find(headers, cookie) else { return (Self::default(), None) };
        let (value, suffixes) = cookie::split(found);
        let brought = Self {
            id: value.parse().ok(),
            version: suffixes.version,
            is_ambiguous,
            has_cookie: true,
            hangs: value.len() != found.len() || is_ambiguous,
            ..Self::default()
        };
        (brought, suffixes.route)
    }
}

impl Shared {
    pub(super) fn read(&self, headers: &HeaderMap) -> Brought {
        let (mut brought, hung) = Brought::read(headers, &self.cookie);
        let route = match &self.mode {
            StickyMode::Suffix => hung,
            StickyMode::Cookie(name) => cookie::find(headers, name).map(|found| found.0),
            StickyMode::Header(name) => headers.get(name.as_str()).and_then(|route| route.to_str().ok()),
        };
        brought.foreign = route.filter(|route| *route != self.route && cookie::is_route(route)).map(str::to_owned);
        brought
    }

    /// Whether others have to be [asked](Self::look_up) about the session. If not, it is known here whether it is over.
    pub(super) fn has_to_ask(&self, brought: &mut Brought) -> bool {
        let Some(id) = brought.id else { return false };
        if brought.is_foreign() {
            return true;
        }
        let is_over = self.store.is_known_over_here(id, brought.version.is_some());
        self.found(brought, is_over == Some(true));
        is_over.is_none()
    }

    fn found(&self, brought: &mut Brought, is_over: bool) {
        if is_over {
            (brought.id, brought.is_over) = (None, true);
        }
    }

    /// Looks at a session that may be elsewhere, or come from there.
    pub(super) async fn look_up<B>(&self, request: &mut Request<B>, brought: &mut Brought) {
        let Some(id) = brought.id else { return };
        let is_over = self.store.is_known_over(id, brought.version.is_some()).await;
        self.found(brought, is_over);
        if let Some(from) = brought.foreign.clone().filter(|_| !is_over)
            && self.store.has(id).await
        {
            self.store.note_failover();
            request.extensions_mut().insert(Failover { from });
            if self.rebind.load(Ordering::Relaxed) && !brought.is_ambiguous {
                let found = cookie::find(request.headers(), &self.cookie);
                brought.moves = found.map(|(value, _)| cookie::split(value).0.to_owned());
            }
        }
    }

    /// Takes off what hangs on the session's cookie, and tells the layers within.
    fn pass_on<B>(&self, request: &mut Request<B>, brought: &Brought) {
        if brought.is_over {
            // A session layer that never looks, because the application clears the session first, would write under this id again.
            cookie::rewrite(request.headers_mut(), &self.cookie, |_| None);
        } else if brought.hangs {
            cookie::rewrite(request.headers_mut(), &self.cookie, |value| Some(cookie::split(value).0));
        }
        if self.remember || self.store.tells_roles() {
            let version = brought.version.filter(|_| self.remember);
            request.extensions_mut().insert(Incoming { id: brought.id, version, remembers: self.remember });
        } else {
            // That of another store's layer further out is not for those within this one.
            request.extensions_mut().remove::<Incoming>();
        }
    }

    /// Hangs on it what the client is to bring next time.
    fn answer<B>(&self, response: &mut Response<B>, brought: Brought) {
        // Not for another store's layer further out, either.
        let outgoing = response.extensions_mut().remove::<Outgoing>();
        let seen = outgoing.and_then(|outgoing| outgoing.seen);
        let headers = response.headers_mut();
        if outgoing.is_some_and(|outgoing| outgoing.unknown) {
            cookie::keep(headers, &self.cookie);
        }
        let in_cookie = self.in_cookie(&brought, seen);
        let is_set = cookie::rewrite_set(headers, &self.cookie, |value| cookie::join(value, in_cookie));
        if brought.is_over && !is_set {
            cookie::set(headers, &self.cookie, "", &self.attributes, Some(Duration::ZERO));
        }
        self.tell(headers, &brought, seen, (is_set, self.max_age));
    }

    /// What is to hang on the session's cookie.
    pub(super) fn in_cookie<'a>(&'a self, brought: &'a Brought, seen: Option<Stamp>) -> Suffixes<'a> {
        let route = Some(self.route_of(brought)).filter(|_| self.mode == StickyMode::Suffix);
        Suffixes { version: seen.filter(|_| self.remember), route }
    }

    /// A client that does not move keeps the node that it has, unless it has none.
    fn route_of<'a>(&'a self, brought: &'a Brought) -> &'a str {
        let stays = brought.foreign.as_deref().filter(|_| brought.moves.is_none() && !self.rebinds());
        stays.unwrap_or(&self.route)
    }

    /// Tells the client which node it belongs to where that is not told [in the cookie](Self::in_cookie), which `is_set`, or removed.
    /// The session's cookie is kept for `max_age`.
    pub(super) fn tell(
        &self,
        headers: &mut HeaderMap,
        brought: &Brought,
        seen: Option<Stamp>,
        (is_set, max_age): (bool, Option<Duration>),
    ) {
        match &self.mode {
            StickyMode::Suffix => {
                if let Some(value) = brought.moves.as_deref().filter(|_| !is_set) {
                    let value = (value, self.in_cookie(brought, seen.or(brought.version)));
                    cookie::set_joined(headers, &self.cookie, value, &self.attributes, max_age);
                }
            }
            StickyMode::Cookie(name) => {
                if is_set || brought.moves.is_some() {
                    cookie::set(headers, name, self.route_of(brought), &self.attributes, self.max_age);
                }
            }
            StickyMode::Header(name) => set_header(headers, name, self.route_of(brought)),
        }
    }

    fn rebinds(&self) -> bool {
        self.rebind.load(Ordering::Relaxed)
    }
}

fn set_header(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

impl<S> Layer<S> for StickyLayer {
    type Service = Sticky<S>;

    fn layer(&self, inner: S) -> Sticky<S> {
        Sticky { inner, shared: Arc::clone(&self.shared) }
    }
}

/// The service of a [`StickyLayer`].
#[derive(Clone, Debug)]
pub struct Sticky<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for Sticky<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = StickyFuture<S, B, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let is_within = request::is_handled(shared.store.address());
        shared.misplaced.check(is_within, "StickyLayer", "it belongs outside of ReplicationLayer: add it after that");
        let mut brought = shared.read(request.headers());
        let state = if !shared.has_to_ask(&mut brought) {
            shared.pass_on(&mut request, &brought);
            State::Handling { handled: self.inner.call(request), brought }
        } else {
            // The one that is ready; the clone may not be.
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            let asker = Arc::clone(&shared);
            State::Receiving {
                receiving: Box::pin(async move {
                    asker.look_up(&mut request, &mut brought).await;
                    asker.pass_on(&mut request, &brought);
                    (inner, request, brought)
                }),
            }
        };
        StickyFuture { shared, state }
    }
}

pin_project! {
    /// The future of a [`Sticky`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct StickyFuture<S, B, F> {
        shared: Arc<Shared>,
        #[pin]
        state: State<S, B, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        /// Others are asked about its session.
        Receiving { receiving: BoxFuture<(S, Request<B>, Brought)> },
        Handling { #[pin] handled: F, brought: Brought },
    }
}

impl<S, B, R> Future for StickyFuture<S, B, S::Future>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Receiving { receiving } => {
                    let (mut inner, request, brought) = ready!(receiving.as_mut().poll(cx));
                    let handled = inner.call(request);
                    this.state.set(State::Handling { handled, brought });
                }
                StateProjection::Handling { handled, brought } => {
                    let mut response = ready!(handled.poll(cx))?;
                    this.shared.answer(&mut response, std::mem::take(brought));
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}

impl<S, B, F> std::fmt::Debug for StickyFuture<S, B, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StickyFuture").finish_non_exhaustive()
    }
}
