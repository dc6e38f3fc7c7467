//! Both halves together: two channels on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tribes_core::{Channel, Env, Member, MemberEvent, MembershipService, SendOptions};

use crate::PooledParallelSender;
use crate::receiver::TcpReceiver;
use crate::testing::{ByHand, Node, config, soon, spawn};

/// A channel that sends, alone so far.
async fn sender() -> (Channel, Arc<ByHand>) {
    let membership = Arc::new(ByHand::default());
    let channel = Channel::builder()
        .sender(PooledParallelSender::default())
        .receiver(TcpReceiver::new(config()).unwrap())
        .membership_shared(Arc::clone(&membership) as Arc<dyn MembershipService>)
        .build()
        .unwrap();
    channel.start().await.unwrap();
    (channel, membership)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_modes_between_our_own() {
    let mut node = Node::start(config().with_udp_port(Some(0))).await;
    let (channel, membership) = sender().await;
    let to = node.channel.local();
    membership.raise(MemberEvent::Added(Arc::clone(&to)));
    soon("the member", channel.view_when(|view| view.len() == 1)).await;
    for (options, body) in [
        (SendOptions::NONE, "none"),
        (SendOptions::ACK, "ack"),
        (SendOptions::SYNC_ACK, "sync"),
        (SendOptions::UDP | SendOptions::ACK, "udp"),
    ] {
        channel.send(&to, body, options).await.unwrap();
        assert_eq!(node.next().await, body);
    }
    let error = channel.send(&to, "fail", SendOptions::SYNC_ACK).await.unwrap_err();
    assert!(error.to_string().contains("told to fail"), "{error}");
    let outcome = channel.send_with(&to, "untaken", SendOptions::SYNC_ACK).await.unwrap().await;
    assert_eq!(outcome.no_taker, [to]);
    channel.stop().await;
    node.gauge_is("connections_open", 0).await;
    assert!(node.membership.told().iter().any(|told| told.starts_with("departed")));
}

/// A way to `to` that breaks every connection after some bytes, `cuts` times; returns its address.
async fn breaking_way(to: SocketAddr, cuts: usize, seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    spawn(async move {
        let mut chance = seed;
        for number in 0.. {
            let Ok((mut near, _)) = listener.accept().await else { return };
            let Ok(mut far) = TcpStream::connect(to).await else { return };
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = if number < cuts { 1000 + (chance >> 33) % 40_000 } else { u64::MAX };
            spawn(async move {
                let (near_read, mut near_write) = near.split();
                let (mut far_read, mut far_write) = far.split();
                let mut some = near_read.take(bytes);
                tokio::select! {
                    _ = tokio::io::copy(&mut some, &mut far_write) => {}
                    _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_way_that_breaks_each_message_comes_once_and_in_order() {
    let seed = Env::real().random();
    eprintln!("seed {seed}");
    let mut node = Node::start(config()).await;
    let way = breaking_way(node.addr(), 20, seed).await;
    let (channel, membership) = sender().await;
    let to = Arc::new(Member::new(node.id(), way));
    membership.raise(MemberEvent::Added(Arc::clone(&to)));
    soon("the member", channel.view_when(|view| view.len() == 1)).await;
    let sending = spawn(async move {
        let mut pending = Vec::new();
        for number in 0..10_000u32 {
            let options = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK][number as usize % 3];
            pending.push(channel.send_with(&to, number.to_be_bytes().to_vec(), options).await.unwrap());
        }
        let mut faults = Vec::new();
        for pending in pending {
            faults.extend(pending.await.faults);
        }
        (channel, faults)
    });
    for number in 0..10_000u32 {
        assert_eq!(node.next().await, number.to_be_bytes().to_vec());
    }
    let (_channel, faults) = soon("the outcomes", sending).await.unwrap();
    assert_eq!(faults, []);
    assert!(node.received.try_recv().is_err());
    assert!(node.gauge("resumed_total") >= 10, "{:?}", node.gauges());
}
