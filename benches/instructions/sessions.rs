//! Requests to an application with sessions, without HTTP and without another node: with tower-sessions' own layer and store, with
//! that layer over ours, and with our layer.

use std::hint::black_box;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Request;
use axum::routing::{get, post};
use serde_json::json;
use tower::Service as _;
use tower_sessions::session::{Id, Record};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tribes::sessions::{ReplicatedSessionLayer, ReplicatedStore, StickyLayer};

use crate::common::{null, one_thread};

/// What is between the application and its sessions.
#[derive(Clone, Copy)]
pub(crate) enum Stack {
    Memory,
    /// The same layer over our store.
    OneLine,
    Whole,
}

/// So many sessions take turns.
const SESSIONS: usize = 64;

fn routes() -> Router {
    let read = async |session: Session| session.get::<String>("user").await.unwrap().unwrap();
    let write = async |session: Session, Path(article): Path<String>| session.insert("viewed", article).await.unwrap();
    Router::new().route("/account", get(read)).route("/viewed/{article}", post(write))
}

async fn fill(store: &impl SessionStore) -> Vec<Id> {
    let mut ids = Vec::new();
    for number in 0..SESSIONS {
        let cart = json!([{ "article": "tea", "number": number }, { "article": "bread", "number": 2 * number }]);
        let data = [("user", json!("ann")), ("cart", cart), ("viewed", json!("0"))];
        let data = data.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let expiry_date = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        let mut record = Record { id: Id::default(), data, expiry_date };
        store.create(&mut record).await.unwrap();
        ids.push(record.id);
    }
    ids
}

pub(crate) fn request(stack: Stack, writes: bool, count: u64) {
    let runtime = one_thread();
    let channel = null::channel(&runtime, [], false);
    runtime.block_on(async {
        let memory = MemoryStore::default();
        let ours = ReplicatedStore::builder("bench").join(&channel).await.unwrap();
        let (ids, mut app) = match stack {
            Stack::Memory => (fill(&memory).await, routes().layer(SessionManagerLayer::new(memory))),
            Stack::OneLine => (fill(&ours).await, routes().layer(SessionManagerLayer::new(ours))),
            Stack::Whole => {
                let sticky = StickyLayer::new(&ours, "a").remember(true);
                (fill(&ours).await, routes().layer(ReplicatedSessionLayer::new(&ours).sticky(sticky)))
            }
        };
        for (number, id) in (0..count).zip(ids.iter().cycle()) {
            let request = if writes { Request::post(format!("/viewed/{number}")) } else { Request::get("/account") };
            let hung = if matches!(stack, Stack::Whole) { ".a" } else { "" };
            let request = request.header("cookie", format!("id={id}{hung}")).body(Body::empty()).unwrap();
            assert!(black_box(app.call(request).await.unwrap()).status().is_success());
        }
    });
}
