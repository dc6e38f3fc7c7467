//! Which node a client belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::behind::Behind;
use super::cookie::{self, Suffixes};
use super::{BoxFuture, Incoming, LayerStore, Misplaced, Outgoing};
use crate::request;

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
struct Shared {
    store: Behind,
    route: String,
    cookie: String,
    mode: StickyMode,
    attributes: String,
    max_age: Option<Duration>,
    remember: bool,
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
}

/// What a request brought.
struct Brought {
    /// The cookie's value without what hung on it.
    value: Option<String>,
    suffixes: Suffixes,
    /// It belongs to another node, and its session is here.
    moves: bool,
    /// Its session is over, and its cookie was taken off.
    is_over: bool,
}

impl Shared {
    /// Takes off what hangs on the session's cookie.
    async fn receive<B>(&self, request: &mut Request<B>) -> Brought {
        let found = cookie::find(request.headers(), &self.cookie);
        let mut suffixes = Suffixes::default();
        let (mut value, mut is_ambiguous) = (None, false);
        if let Some((found, others)) = found {
            is_ambiguous = others;
            let (rest, hanging) = cookie::split(&found);
            (value, suffixes) = (Some(rest.to_owned()), hanging);
            if rest.len() != found.len() || others {
                cookie::rewrite(request.headers_mut(), &self.cookie, |value| Some(cookie::split(value).0.to_owned()));
            }
        }
        match &self.mode {
            StickyMode::Suffix => {}
            StickyMode::Cookie(name) => suffixes.route = cookie::find(request.headers(), name).map(|found| found.0),
            StickyMode::Header(name) => {
                let header = request.headers().get(name.as_str());
                suffixes.route = header.and_then(|route| route.to_str().ok()).map(str::to_owned);
            }
        }
        suffixes.route = suffixes.route.filter(|route| cookie::is_route(route));
        let mut is_over = false;
        let mut id = value.as_deref().and_then(|value| value.parse().ok());
        if let Some(over) = id
            && self.store.is_known_over(over, suffixes.version.is_some()).await
        {
            // A session layer that never looks, because the application clears the session first, would write under this id again.
            cookie::rewrite(request.headers_mut(), &self.cookie, |_| None);
            (id, value, is_over) = (None, None, true);
        }
        request.extensions_mut().insert(Incoming { id, version: suffixes.version.filter(|_| self.remember) });
        let foreign = suffixes.route.clone().filter(|route| *route != self.route);
        let mut moves = false;
        if let Some((from, id)) = foreign.zip(id)
            && self.store.has(id).await
        {
            self.store.note_failover();
            request.extensions_mut().insert(Failover { from });
            moves = self.rebind.load(Ordering::Relaxed) && !is_ambiguous;
        }
        Brought { value, suffixes, moves, is_over }
    }

    /// Hangs on it what the client is to bring next time.
    fn answer<B>(&self, response: &mut Response<B>, brought: Brought) {
        let version = response.extensions_mut().remove::<Outgoing>().filter(|_| self.remember).map(|seen| seen.0);
        // A client that does not move keeps the node that it has, unless it has none.
        let stays = brought.suffixes.route.clone().filter(|_| !brought.moves && self.is_known(&brought));
        let route = stays.unwrap_or_else(|| self.route.clone());
        let in_cookie = Suffixes { version, route: Some(route.clone()).filter(|_| self.mode == StickyMode::Suffix) };
        let headers = response.headers_mut();
        let is_set = cookie::rewrite_set(headers, &self.cookie, |value| cookie::join(value, &in_cookie));
        if brought.is_over && !is_set {
            cookie::set(headers, &self.cookie, "", &self.attributes, Some(Duration::ZERO));
        }
        match &self.mode {
            StickyMode::Suffix => {
                if let Some(value) = brought.value.filter(|_| brought.moves && !is_set) {
                    let version = version.or(brought.suffixes.version).filter(|_| self.remember);
                    let value = cookie::join(&value, &Suffixes { version, ..in_cookie });
                    cookie::set(headers, &self.cookie, &value, &self.attributes, self.max_age);
                }
            }
            StickyMode::Cookie(name) => {
                if is_set || brought.moves {
                    cookie::set(headers, name, &route, &self.attributes, self.max_age);
                }
            }
            StickyMode::Header(name) => set_header(headers, name, &route),
        }
    }

    /// Whether a client's own node is to be left to it: it has one, and rebinding is off.
    fn is_known(&self, brought: &Brought) -> bool {
        let foreign = brought.suffixes.route.as_ref().is_some_and(|route| *route != self.route);
        foreign && !self.rebind.load(Ordering::Relaxed)
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
    type Future = BoxFuture<Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready; the clone may not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        let is_within = request::is_handled();
        shared.misplaced.check(is_within, "StickyLayer", "it belongs outside of ReplicationLayer: add it after that");
        Box::pin(async move {
            let brought = shared.receive(&mut request).await;
            let mut response = inner.call(request).await?;
            shared.answer(&mut response, brought);
            Ok(response)
        })
    }
}
