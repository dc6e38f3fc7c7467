//! Starting, stopping, and ports.

use std::time::Duration;

use tokio::net::TcpStream;
use tribes_core::wire::{Control, HandledCode};
use tribes_core::{SendOptions, Services};

use crate::testing::{Node, Wire, config, java, ours, soon};

#[tokio::test]
async fn a_taken_port_is_passed_over() {
    let first = Node::start(config()).await;
    let port = first.addr().port();
    let second = Node::start(config().with_port(port)).await;
    assert!(second.addr().port() > port);
    let third = Node::build(config().with_port(port).with_auto_bind(1));
    let error = third.channel.start().await.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains(&format!("ports {port} to {port}")), "{why}");
}

#[tokio::test]
async fn it_stops_and_starts_again_at_the_same_port() {
    let mut node = Node::start(config()).await;
    let addr = node.addr();
    let mut peer = Wire::connect(addr).await;
    peer.message(&java(1), SendOptions::ACK, "before").await;
    assert!(peer.ack().await);
    let started = tokio::time::Instant::now();
    node.channel.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    peer.closed_silently().await;
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(node.gauge("connections_open"), 0);
    node.channel.start().await.unwrap();
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&java(1), SendOptions::ACK, "after").await;
    assert!(peer.ack().await);
    assert_eq!(node.next().await, "before");
    assert_eq!(node.next().await, "after");
}

#[tokio::test]
async fn a_stop_lets_answers_out() {
    let node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&java(1), SendOptions::SYNC_ACK, "wait").await;
    let me = ours(2);
    let (mut link, _) = Wire::open(&node, &me, 1).await;
    link.message(&me, SendOptions::SYNC_ACK, "wait").await;
    link.taken(1).await;
    node.gauge_is("frames_total", 2).await;
    let channel = node.channel.clone();
    let addr = node.addr();
    let stopping = crate::testing::spawn(async move { channel.stop().await });
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    node.release(2);
    assert!(peer.ack().await);
    assert_eq!(link.next_control().await, Some(Control::Handled { seq: 0, result: HandledCode::Ok }));
    soon("the stop", stopping).await.unwrap();
    peer.closed_silently().await;
    link.closed_silently().await;
}

#[tokio::test]
async fn a_stop_ends_when_it_is_due() {
    let node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&java(1), SendOptions::SYNC_ACK, "wait").await;
    node.gauge_is("frames_total", 1).await;
    let started = tokio::time::Instant::now();
    node.channel.stop().await;
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn connections_wait_for_the_local_member() {
    use tribes_core::{ChannelReceiver, Env};
    // The receiver alone, started as a channel starts it, before the channel knows its member.
    let node = Node::start(config()).await;
    let slot = std::sync::Arc::new(std::sync::Mutex::new(None));
    let probe = LinkProbe(std::sync::Arc::clone(&slot));
    let channel = tribes_core::Channel::builder()
        .sender(crate::testing::NoSender)
        .receiver(probe)
        .membership(crate::testing::ByHand::default())
        .build()
        .unwrap();
    channel.start().await.unwrap();
    let link = slot.lock().unwrap().clone().unwrap();
    let receiver = crate::TcpReceiver::new(config()).unwrap();
    let endpoint = receiver.start(link).await.unwrap();
    let mut peer = Wire::connect((endpoint.host, endpoint.port).into()).await;
    peer.message(&java(1), SendOptions::ACK, "early").await;
    assert!(tokio::time::timeout(Duration::from_millis(50), peer.next()).await.is_err());
    receiver.update_local(node.channel.local());
    assert!(peer.ack().await);
    receiver.stop(Env::real().now() + Duration::from_secs(1)).await;
}

/// A receiver that keeps its link for a test.
#[derive(Debug)]
struct LinkProbe(std::sync::Arc<std::sync::Mutex<Option<tribes_core::Link>>>);

#[async_trait::async_trait]
impl tribes_core::ChannelReceiver for LinkProbe {
    async fn start(&self, up: tribes_core::Link) -> Result<tribes_core::Endpoint, tribes_core::BoxError> {
        *self.0.lock().unwrap() = Some(up);
        Ok(tribes_core::Endpoint::new([127, 0, 0, 1].into(), 1))
    }
    async fn stop(&self, _: tribes_core::Time) {}
}

#[tokio::test]
async fn a_session_outlasts_a_restart_of_the_receiver_alone() {
    let node = Node::start(config()).await;
    let me = ours(1);
    let (mut peer, _) = Wire::open(&node, &me, 1).await;
    peer.message(&me, SendOptions::ACK, "x").await;
    peer.taken(1).await;
    node.channel.stop_services(Services::RECEIVER).await;
    peer.closed_silently().await;
    node.channel.start_services(Services::RECEIVER).await.unwrap();
    assert_eq!(Wire::open(&node, &me, 1).await.1, Some(1));
    // A new incarnation of the whole channel has none of them.
    node.channel.stop().await;
    node.channel.start().await.unwrap();
    assert_eq!(node.gauge("sessions"), 0);
}
