//! What a node says of itself, for the tour and for those who watch. It shows whole sessions: not for the world.

pub(crate) mod live;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tribes::Channel;
use tribes::sessions::{EndReason, ReplicatedStore, SessionEvent};

/// What a node says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The id of this process's member.
    pub(crate) member: String,
    /// Those of the others.
    pub(crate) others: Vec<String>,
    /// How the state came.
    pub(crate) state: Option<String>,
    /// By id.
    pub(crate) sessions: BTreeMap<String, Entry>,
    /// Sessions that ended here: their ids, why, and how often.
    pub(crate) ended: Vec<(String, String)>,
    pub(crate) failovers: u64,
    pub(crate) resurrections_prevented: u64,
}

/// A session, as a node has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) fields: BTreeMap<String, Value>,
    pub(crate) owner: Option<String>,
    pub(crate) idle_ms: Option<u128>,
}

/// Sessions that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<Mutex<Vec<(String, String)>>>);

impl Ended {
    pub(crate) fn note(&self, event: &SessionEvent) {
        if let SessionEvent::Destroyed { id, reason, .. } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((id.to_string(), why(*reason).to_owned()));
        }
    }
}

fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Invalidated => "invalidated",
        EndReason::Timeout => "timeout",
        EndReason::Killed => "killed",
        _ => "for another reason",
    }
}

#[derive(Clone)]
struct Node {
    name: String,
    channel: Channel,
    store: ReplicatedStore,
    ended: Ended,
    /// Whether this process is to end: streams would keep it.
    stops: watch::Receiver<bool>,
}

/// `stops` says when this process is to end.
pub(crate) fn routes(
    name: &str,
    channel: &Channel,
    store: &ReplicatedStore,
    ended: Ended,
    stops: watch::Receiver<bool>,
) -> Router {
    let node = Node { name: name.to_owned(), channel: channel.clone(), store: store.clone(), ended, stops };
    Router::new().route("/admin", get(report)).route("/admin/events", get(live::events)).with_state(node)
}

async fn report(State(node): State<Node>) -> Json<Report> {
    let stats = node.store.stats();
    let mut sessions = BTreeMap::new();
    for id in node.store.ids() {
        let (Ok(Some(fields)), Ok(owner)) = (node.store.get(id).await, node.store.owner(id).await) else { continue };
        let entry = Entry {
            fields: fields.into_iter().collect(),
            owner: owner.map(|owner| owner.to_string()),
            idle_ms: node.store.idle(id).map(|idle| idle.as_millis()),
        };
        sessions.insert(id.to_string(), entry);
    }
    Json(Report {
        member: node.channel.local().id().to_string(),
        others: node.channel.view().members().iter().map(|member| member.id().to_string()).collect(),
        state: stats.state.map(|(result, _)| format!("{result:?}").to_lowercase()),
        sessions,
        ended: node.ended.0.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        failovers: stats.counts.failovers,
        resurrections_prevented: stats.counts.resurrections_prevented,
    })
}
