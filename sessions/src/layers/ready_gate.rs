//! No request before the state is in.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::behind::WeakBehind;
use super::{BoxFuture, LayerStore, unavailable};

/// Answers with 503 and `Retry-After` until the store has the sessions of the group, and after it was
/// [left](crate::ReplicatedStore::leave). So no user is logged out by a node that did not have his session yet. (Tomcat opens its ports
/// last instead.) The outermost layer.
///
/// It answers two paths itself, for balancers and orchestrators: `/readyz` with 200 or 503, and `/livez` with 200 always.
#[derive(Clone, Debug)]
pub struct ReadyGateLayer {
    gate: Arc<Gate>,
}

#[derive(Clone, Debug)]
pub(super) struct Gate {
    stores: Vec<WeakBehind>,
    retry_after: u64,
    ready_path: Option<String>,
    live_path: Option<String>,
}

impl ReadyGateLayer {
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// A gate before what uses `store`.
    #[must_use]
    pub fn new(store: &impl LayerStore) -> Self {
        let gate = Gate {
            stores: Vec::new(),
            retry_after: 1,
            ready_path: Some("/readyz".to_owned()),
            live_path: Some("/livez".to_owned()),
        };
        Self { gate: Arc::new(gate) }.and(store)
    }

    /// That is closed as long as `store`, too, is not ready.
    #[must_use]
    pub fn and(self, store: &impl LayerStore) -> Self {
        self.with(|gate| gate.stores.push(store.behind().weak()))
    }

    /// After how many seconds clients are asked to come again. Default 1.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with(|gate| gate.retry_after = seconds)
    }

    /// The path that says whether this node is ready; `None` for none. Default `/readyz`.
    #[must_use]
    pub fn ready_path(self, path: Option<&str>) -> Self {
        self.with(|gate| gate.ready_path = path.map(str::to_owned))
    }

    /// The path that says that this node is alive; `None` for none. Default `/livez`.
    #[must_use]
    pub fn live_path(self, path: Option<&str>) -> Self {
        self.with(|gate| gate.live_path = path.map(str::to_owned))
    }

    fn with(self, change: impl FnOnce(&mut Gate)) -> Self {
        let mut gate = self.gate.as_ref().clone();
        change(&mut gate);
        Self { gate: Arc::new(gate) }
    }
}

/// What a gate does with a request.
pub(super) enum Passage {
    Open,
    /// It is answered with 503.
    Closed,
    /// It asks whether this node is alive.
    AsksAlive,
    /// It asks whether this node is [ready](Gate::readiness).
    AsksReady,
}

impl Gate {
    pub(super) fn look(&self, path: &str) -> Passage {
        let asks = |wanted: &Option<String>| wanted.as_deref() == Some(path);
        if asks(&self.ready_path) {
            Passage::AsksReady
        } else if asks(&self.live_path) {
            Passage::AsksAlive
        } else if self.stores.iter().all(WeakBehind::is_open) {
            Passage::Open
        } else {
            Passage::Closed
        }
    }

    /// What a request is answered that is not let through, if it does not ask whether this node is ready.
    pub(super) fn answer<R: Default>(&self, is_well: bool) -> Response<R> {
        if is_well { Response::new(R::default()) } else { unavailable(self.retry_after) }
    }

    /// Whether requests would be served, as an answer.
    pub(super) async fn readiness<R: Default>(self: Arc<Self>) -> Response<R> {
        for store in &self.stores {
            if !store.is_ready().await {
                return self.answer(false);
            }
        }
        self.answer(true)
    }
}

impl<S> Layer<S> for ReadyGateLayer {
    type Service = ReadyGate<S>;

    fn layer(&self, inner: S) -> ReadyGate<S> {
        ReadyGate { inner, gate: Arc::clone(&self.gate) }
    }
}

/// The service of a [`ReadyGateLayer`].
#[derive(Clone, Debug)]
pub struct ReadyGate<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S, B, R> Service<Request<B>> for ReadyGate<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ReadyGateFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gate = &self.gate;
        let state = match gate.look(request.uri().path()) {
            Passage::Open => State::Handling { handled: self.inner.call(request) },
            Passage::Closed => State::Answered { answer: Some(gate.answer(false)) },
            Passage::AsksAlive => State::Answered { answer: Some(gate.answer(true)) },
            Passage::AsksReady => State::Asking { asking: Box::pin(Arc::clone(gate).readiness()) },
        };
        ReadyGateFuture { state }
    }
}

pin_project! {
    /// The future of a [`ReadyGate`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct ReadyGateFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R> {
        Handling { #[pin] handled: F },
        Asking { asking: BoxFuture<Response<R>> },
        Answered { answer: Option<Response<R>> },
    }
}

impl<F, R, E> Future for ReadyGateFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            StateProjection::Handling { handled } => handled.poll(cx),
            StateProjection::Asking { asking } => asking.as_mut().poll(cx).map(Ok),
            // Polled again after it was done: never.
            StateProjection::Answered { answer } => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
            }
        }
    }
}

impl<F, R> std::fmt::Debug for ReadyGateFuture<F, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyGateFuture").finish_non_exhaustive()
    }
}
