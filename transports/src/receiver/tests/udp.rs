//! Messages in datagrams.

use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tribes_core::wire::{ACK_FRAME, FAIL_ACK_FRAME};
use tribes_core::{Member, SendOptions};

use crate::receiver::ReceiverConfig;
use crate::testing::{Node, config, frame, java, soon};

fn with_udp() -> ReceiverConfig {
    config().with_udp_port(Some(0))
}

struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Datagrams {
    async fn new(node: &Node) -> Self {
        let to = Member::udp_addr(&node.channel.local()).expect("a UDP port is announced");
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), to }
    }

    async fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.to).await.unwrap();
    }

    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 100];
        let (count, from) = soon("a datagram", self.socket.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from, self.to);
        buffer.truncate(count);
        buffer
    }
}

#[tokio::test]
async fn garbage_is_ignored_and_the_next_good_datagram_taken() {
    let mut node = Node::start(with_udp()).await;
    let peer = Datagrams::new(&node).await;
    let good = frame(&java(1), SendOptions::ACK, "good");
    let bad = [
        Vec::new(),
        b"garbage of 18 byte".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], b"F"].concat(),
        ACK_FRAME.to_vec(),
        b"FLT2002\x7f\xff\xff\xff".to_vec(),
    ];
    for datagram in &bad {
        peer.send(datagram).await;
    }
    peer.send(&good).await;
    assert_eq!(node.next().await, "good");
    assert_eq!(peer.answer().await, ACK_FRAME);
    assert_eq!(node.gauge("udp_malformed_total"), bad.len() as u64);
    assert_eq!(node.gauge("udp_messages_total"), 1);
}

#[tokio::test]
async fn each_frame_of_a_datagram_has_its_answer() {
    let mut node = Node::start(with_udp()).await;
    let peer = Datagrams::new(&node).await;
    let me = java(1);
    let several = [
        frame(&me, SendOptions::NONE, "one"),
        frame(&me, SendOptions::SYNC_ACK, "fine"),
        frame(&me, SendOptions::SYNC_ACK, "fail"),
    ];
    peer.send(&several.concat()).await;
    assert_eq!(peer.answer().await, ACK_FRAME);
    assert_eq!(peer.answer().await, FAIL_ACK_FRAME);
    for expected in ["one", "fine", "fail"] {
        assert_eq!(node.next().await, expected);
    }
}

#[tokio::test]
async fn what_is_too_much_is_dropped() {
    let node = Node::start(with_udp().with_per_connection_bytes(4096)).await;
    let peer = Datagrams::new(&node).await;
    for _ in 0..20 {
        peer.send(&frame(&java(1), SendOptions::NONE, b"wait".repeat(200))).await;
    }
    node.gauge_is("udp_datagrams_total", 20).await;
    node.gauge_is("udp_dropped_full_total", 17).await;
    node.release(3);
}
