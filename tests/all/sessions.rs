//! Sessions over real sockets, among strangers.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tribes::sessions::{Durability, ReplicatedStore};

use super::common::{group, malformed, within};

/// What says that it is two gigabytes long, or is not of the protocol, is refused and counted, and changes no session. (What was sent
/// before and comes again: the nine steps on a network that doubles and reorders.)
#[tokio::test(flavor = "multi_thread")]
async fn garbage_changes_no_session() {
    let nodes = group(2).await;
    let mut stores = Vec::new();
    for node in &nodes {
        let durability = Durability::copies(1, Duration::from_secs(10));
        stores.push(ReplicatedStore::builder("shop").durability(durability).join(node).await.unwrap());
    }
    let idle = Duration::from_secs(600);
    let data = |seen: u32| HashMap::from([("seen".to_owned(), json!(seen))]);
    let id = stores[0].create_session(&data(1), idle).await.unwrap();
    within("both have it", async {
        while stores[1].get(id).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let refused = || -> u64 {
        let stats = nodes[1].stats();
        let gauges = stats.io["receiver"].iter().filter(|gauge| gauge.name.starts_with("malformed_"));
        gauges.map(|gauge| gauge.value).sum()
    };
    let before = refused();

    let target = nodes[1].local().addr().unwrap();
    // Frames that say that they have two gigabytes are among them.
    let mut sent: Vec<Vec<u8>> = malformed("stream").into_iter().map(|(_, pieces)| pieces.concat()).collect();
    let seed = tribes_core::Env::real().random();
    eprintln!("seed {seed}");
    let mut state = seed | 1;
    sent.extend((1..50).map(|length| {
        let random = (0..length * 8).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        });
        random.collect()
    }));
    for bytes in sent {
        let mut stream = TcpStream::connect(target).await.unwrap();
        // It may be closed before all of it is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        within("the receiver to close", async {
            let mut rest = [0; 256];
            while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
        })
        .await;
    }
    assert!(refused() > before, "it is counted");

    let mut session = stores[0].load_session(id).await.unwrap().unwrap();
    session.data.insert("seen".to_owned(), json!(2));
    stores[0].save_session(id, &session.data, idle).await.unwrap();
    within("both have the change", async {
        while stores[1].get(id).await.unwrap() != Some(data(2)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for store in &stores {
        assert_eq!(store.get(id).await.unwrap(), Some(data(2)));
        assert_eq!(store.stats().sessions, 1);
    }
    assert!(stores[1].invalidate(id).await.unwrap());
    within("it is over at both", async {
        while stores[0].get(id).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
