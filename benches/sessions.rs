//! What a request pays for its session, beside tower-sessions' `MemoryStore`: loading one, and loading it, changing a field and
//! saving it, with 3 and with 20 fields of 100 bytes. Ours alone, and in a group of two over loopback TCP, where saves are on their way.
//! All nodes share one process and its two threads; `request` is a handler that reads its session,
//! as an axum service without a network, with the session layer alone and with all layers (for all of HTTP: `shop compare`).

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench says what is wrong by failing"
)]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use common::group;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::{Service as _, ServiceBuilder};
use tower_sessions::session::{Id, Record};
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tribes::Channel;
use tribes::sessions::{ReadyGateLayer, ReplicatedSessionLayer, ReplicatedStore, ReplicationLayer, StickyLayer};

const FIELDS: [usize; 2] = [3, 20];
/// Sessions, of which each request has another.
const SESSIONS: usize = 1000;

fn channels(runtime: &Runtime, count: usize) -> Vec<Channel> {
    let name = group::free();
    let channels: Vec<_> = (0..count).map(|_| group::member(&name).build().expect("a valid configuration")).collect();
    runtime.block_on(async {
        for channel in &channels {
            channel.start().await.expect("loopback and multicast work here");
        }
        for channel in &channels {
            channel.view_when(|view| view.len() == count - 1).await;
        }
    });
    channels
}

/// So many sessions with so many fields; their ids.
async fn fill(store: &impl SessionStore, fields: usize) -> Vec<Id> {
    let mut ids = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let data: HashMap<String, Value> =
            (0..fields).map(|number| (format!("field{number}"), Value::String("v".repeat(100)))).collect();
        let expiry_date = time::OffsetDateTime::now_utc() + Duration::from_secs(3600);
        let mut record = Record { id: Id::default(), data, expiry_date };
        store.create(&mut record).await.expect("there is room");
        ids.push(record.id);
    }
    ids
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &(impl SessionStore + Clone)) {
    for fields in FIELDS {
        let ids = runtime.block_on(fill(store, fields));
        let mut next = 0;
        criterion.benchmark_group("load").bench_with_input(BenchmarkId::new(name, fields), &fields, |bencher, _| {
            bencher.to_async(runtime).iter(|| {
                next = (next + 1) % ids.len();
                store.load(&ids[next])
            });
        });
        let mut count = 0_u64;
        criterion.benchmark_group("save").bench_with_input(BenchmarkId::new(name, fields), &fields, |bencher, _| {
            bencher.to_async(runtime).iter(|| {
                next = (next + 1) % ids.len();
                count += 1;
                let (store, id) = (store.clone(), ids[next]);
                async move {
                    let mut record = store.load(&id).await.expect("it answers").expect("it is there");
                    record.data.insert("field0".to_owned(), Value::from(count));
                    store.save(&record).await.expect("it can be written");
                }
            });
        });
    }
}

/// A handler that reads its session, without a network.
fn routes() -> Router {
    Router::new().route(
        "/",
        get(async |session: Session| session.get::<String>("field1").await.ok().flatten().unwrap_or_default()),
    )
}

fn application(store: impl SessionStore + Clone) -> Router {
    routes().layer(SessionManagerLayer::new(store))
}

fn requests(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &impl SessionStore, app: &Router) {
    let ids = runtime.block_on(fill(store, 3));
    let mut next = 0;
    let mut app = app.clone();
    criterion.benchmark_group("request").bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| {
            next = (next + 1) % ids.len();
            let request = Request::get("/").header("cookie", format!("id={}", ids[next])).body(Body::empty());
            app.call(request.expect("a request"))
        });
    });
}

fn sessions(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let memory = MemoryStore::default();
    measure(criterion, &runtime, "memory", &memory);
    requests(criterion, &runtime, "memory", &memory, &application(memory.clone()));
    for (name, count) in [("alone", 1), ("two", 2)] {
        let channels = channels(&runtime, count);
        let stores: Vec<ReplicatedStore> = runtime.block_on(async {
            let mut stores = Vec::new();
            for channel in &channels {
                stores.push(ReplicatedStore::builder("bench").join(channel).await.expect("its name is free"));
            }
            stores
        });
        let store = &stores[0];
        measure(criterion, &runtime, name, store);
        if count == 1 {
            let bare = application(store.clone());
            requests(criterion, &runtime, "ours", store, &bare);
            let layers = ServiceBuilder::new()
                .layer(ReadyGateLayer::new(store))
                .layer(StickyLayer::new(store, "a"))
                .layer(ReplicationLayer::new(store));
            requests(criterion, &runtime, "ours with layers", store, &bare.layer(layers));
            let one = ReplicatedSessionLayer::new(store).sticky(StickyLayer::new(store, "a"));
            requests(criterion, &runtime, "ours as one layer", store, &routes().layer(one));
        }
        runtime.block_on(async {
            drop(stores);
            for channel in channels {
                channel.stop().await;
            }
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = sessions
}
criterion_main!(benches);
