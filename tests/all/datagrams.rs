//! Messages as datagrams over real sockets, beside the connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use crate::common::{Roster, number, numbered, within};
use tribes_core::{Channel, Messages, SendOptions};
use tribes_transports::{PooledParallelSender, ReceiverConfig, TcpReceiver};

/// Two channels with a UDP port each; the first knows the second.
async fn pair() -> (Channel, Channel) {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let roster = Roster::default();
        let channel = Channel::builder()
            .sender(PooledParallelSender::default())
            .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0).with_udp_port(Some(0))).unwrap())
            .membership(roster.clone())
            .build()
            .unwrap();
        channel.start().await.unwrap();
        nodes.push((channel, roster));
    }
    nodes[0].1.add(&nodes[1].0.local());
    within("the member", nodes[0].0.view_when(|view| view.len() == 1)).await;
    let second = nodes.remove(1).0;
    (nodes.remove(0).0, second)
}

async fn hears(messages: &mut Messages, expected: u64) {
    let (message, _) = within("the message", messages.next()).await.unwrap();
    assert_eq!(number(message.bytes()), expected);
}

/// In Tribes a datagram to a member that the sender is connected to fails each time (T16).
#[tokio::test]
async fn a_datagram_and_a_connection_to_one_member_do_not_disturb_each_other() {
    let (first, second) = pair().await;
    let (to, mut messages) = (second.local(), second.messages());
    let (tcp, udp) = (SendOptions::ACK, SendOptions::UDP | SendOptions::ACK);
    for (at, options) in [tcp, udp, tcp, udp, udp, tcp].into_iter().enumerate() {
        let at = u64::try_from(at).unwrap();
        first.send(&to, numbered(at, 100), options).await.unwrap();
        hears(&mut messages, at).await;
    }
}

/// Tribes' `TestUdpPackages`, with acknowledgements: 500 of them, of 100 to 1,023 bytes.
#[tokio::test]
async fn each_acknowledged_datagram_has_arrived() {
    let (first, second) = pair().await;
    let (to, mut messages) = (second.local(), second.messages());
    for (options, range) in [(SendOptions::ACK, 0..250), (SendOptions::SYNC_ACK, 250..500)] {
        for at in range {
            let size = usize::try_from(100 + at * 37 % 924).unwrap();
            first.send(&to, numbered(at, size), SendOptions::UDP | options).await.unwrap();
            hears(&mut messages, at).await;
        }
    }
}
