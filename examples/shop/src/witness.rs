//! What a node tells those that watch it: who answered a request, and what the node's store had when it did.
//!
//! It says so from within, behind all layers, and not by what the gate asks: so a gate that lets requests through too early is
//! seen.

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tribes::sessions::ReplicatedStore;

/// The header in which an answer says who gave it: the node's name, its process, and how its sessions came (`none`: they had
/// not).
pub(crate) const ANSWERED_BY: &str = "x-answered-by";

#[derive(Clone)]
struct Witness {
    name: Arc<str>,
    store: ReplicatedStore,
    /// Once the sessions are in.
    ready: Arc<OnceLock<Option<HeaderValue>>>,
}

impl Witness {
    fn answered_by(&self) -> Option<HeaderValue> {
        if let Some(ready) = self.ready.get() {
            return ready.clone();
        }
        let state = self.store.stats().state;
        let says = state.map_or_else(|| "none".to_owned(), |(result, _)| format!("{result:?}").to_lowercase());
        let value = HeaderValue::try_from(format!("{} {} {says}", self.name, std::process::id())).ok();
        if state.is_some() { self.ready.get_or_init(|| value).clone() } else { value }
    }
}

/// Has the answers of `routes` say who gave them. Innermost.
pub(crate) fn watch(routes: Router, name: &str, store: &ReplicatedStore) -> Router {
    let witness = Witness { name: name.into(), store: store.clone(), ready: Arc::default() };
    routes.layer(middleware::from_fn_with_state(witness, stamp))
}

async fn stamp(State(witness): State<Witness>, request: Request, next: Next) -> Response {
    // As it is when the request is handled, not afterwards.
    let by = witness.answered_by();
    let mut response = next.run(request).await;
    if let Some(by) = by {
        response.headers_mut().insert(ANSWERED_BY, by);
    }
    response
}

/// What a node has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) failovers: u64,
    pub(crate) shortfalls: u64,
    pub(crate) stale_reads: u64,
    pub(crate) resurrections_prevented: u64,
    pub(crate) conflicts: u64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.failovers += other.failovers;
        self.shortfalls += other.shortfalls;
        self.stale_reads += other.stale_reads;
        self.resurrections_prevented += other.resurrections_prevented;
        self.conflicts += other.conflicts;
    }
}

/// `/counted`, without layers.
pub(crate) fn counted(store: &ReplicatedStore) -> Router {
    Router::new().route("/counted", get(count)).with_state(store.clone())
}

async fn count(State(store): State<ReplicatedStore>) -> Json<Counted> {
    let counts = store.stats().counts;
    Json(Counted {
        failovers: counts.failovers,
        shortfalls: counts.shortfalls,
        stale_reads: counts.stale_reads,
        resurrections_prevented: counts.resurrections_prevented,
        conflicts: counts.conflicts,
    })
}
