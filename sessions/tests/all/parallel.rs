//! Requests on several threads.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tribes_core::Channel;
use tribes_sessions::{Conflict, ReplicatedStore};
use tribes_testkit::net::SimNet;

const TASKS: usize = 8;
const SAVES: i64 = 200;

/// Whoever finds that another has written in between writes anew, and not less.
#[allow(clippy::disallowed_methods, reason = "tasks of the test, on real threads")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_between_threads() {
    let channel = SimNet::new(1).join(Channel::builder()).build().unwrap();
    channel.start().await.unwrap();
    let store = ReplicatedStore::builder("shop").conflict("hits", Conflict::Counter).join(&channel).await.unwrap();
    let idle = Duration::from_secs(600);
    let id = store.create_session(&HashMap::from([("hits".to_owned(), json!(0))]), idle).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for save in 1..=SAVES {
                    let mut session = store.load_session(id).await.unwrap().unwrap();
                    session.data.insert(format!("field {task}"), json!(save));
                    let hits = session.data["hits"].as_i64().unwrap();
                    session.data.insert("hits".into(), json!(hits + 1));
                    store.save_session(id, &session.data, idle).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let fields = store.get(id).await.unwrap().unwrap();
    let wanted = (0..TASKS).map(|task| (format!("field {task}"), json!(SAVES)));
    let hits = ("hits".to_owned(), json!(SAVES * TASKS as i64));
    assert_eq!(fields, wanted.chain([hits]).collect::<HashMap<String, Value>>());
}
