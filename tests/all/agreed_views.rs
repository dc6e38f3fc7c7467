//! Views that members agree on, over real sockets.

#![cfg(feature = "agreed-views")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::sync::Arc;
use std::time::Duration;

use tribes::interceptors::agreed_views::{AgreedViews, AgreedViewsConfig, Quorum, ViewEvent, ViewEvents};
use tribes::prelude::*;

const LIMIT: Duration = Duration::from_secs(20);

struct Peer {
    channel: Channel,
    views: Arc<AgreedViews>,
    events: ViewEvents,
}

async fn join(port: u16) -> Peer {
    let millis = Duration::from_millis;
    let config = AgreedViewsConfig::default().with_heartbeat(millis(100), millis(1000)).with_timeout(millis(500));
    let views = Arc::new(AgreedViews::new(config.with_quorum(Quorum::Static, 3)));
    let events = views.events();
    let channel = tribes::channel()
        .bind("127.0.0.1:0")
        .multicast(format!("228.0.0.4:{port}"))
        .interceptor(Arc::clone(&views))
        .default_interceptors()
        .build()
        .unwrap();
    channel.start().await.unwrap();
    Peer { channel, views, events }
}

/// Waits until all of these are in one view, and whether they may write there.
async fn together(peers: &[Peer], may_write: bool) -> u64 {
    let mut members: Vec<_> = peers.iter().map(|peer| peer.channel.local()).collect();
    members.sort();
    let mut token = None;
    let mut view = None;
    for peer in peers {
        let mut changes = peer.views.standing_changes();
        let there = changes.wait_for(|standing| {
            standing.may_write == may_write && standing.view.as_ref().is_some_and(|view| *view.members == *members)
        });
        let standing = tokio::time::timeout(LIMIT, there).await.unwrap().unwrap();
        assert_eq!(standing.is_leader, may_write && peer.channel.local() == members[0]);
        assert_eq!(*view.get_or_insert_with(|| standing.view.clone()), standing.view);
        assert_eq!(*token.get_or_insert(standing.token), standing.token);
    }
    token.flatten().unwrap_or_default()
}

#[tokio::test]
async fn three_agree_and_those_that_are_left_know_whether_they_are_enough() {
    let port = std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(join(port).await);
    }
    peers.sort_by_key(|peer| peer.channel.local());
    let first = together(&peers, true).await;
    // The leader dies: dropped, it says nothing.
    let dead = peers.remove(0).channel.local();
    let second = together(&peers, true).await;
    assert!(second > first, "{second} after {first}");
    let told = std::iter::from_fn(|| peers[0].events.try_next()).find_map(|event| match event {
        ViewEvent::ViewInstalled { missing, .. } if !missing.is_empty() => Some(missing),
        _ => None,
    });
    assert_eq!(told, Some(vec![dead]));
    // The next one leaves: one of three is not enough.
    let gone = peers.remove(0);
    gone.channel.stop().await;
    assert_eq!((gone.views.may_write(), gone.views.view()), (None, None));
    together(&peers, false).await;
    // Two are, and one of them is new.
    peers.push(join(port).await);
    peers.push(join(port).await);
    let third = together(&peers, true).await;
    assert!(third > second, "{third} after {second}");
    for peer in peers {
        peer.channel.stop().await;
    }
}
