//! When connections are made and closed, and messages and membership as streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::pin::Pin;
use std::time::Duration;

use crate::common::{Roster, node, node_with, numbered, within};
use futures_core::Stream;
use tribes_core::{Channel, MemberEvent, SendOptions, Suspicion};
use tribes_transports::sender::Connect;
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

/// A figure of the sender.
fn sender(channel: &Channel, name: &str) -> u64 {
    let stats = channel.stats();
    stats.io["sender"].iter().find(|gauge| gauge.name == name).unwrap().value
}

/// A sender with this configuration that knows one member.
async fn pair(config: SenderConfig) -> (Channel, Channel, Roster) {
    let (first, roster) = node_with(|builder| builder, config).await;
    let (second, _) = node().await;
    second.on_message(|_, _| async { Ok(()) }).forever();
    roster.add(&second.local());
    within("the member", first.view_when(|view| view.len() == 1)).await;
    (first, second, roster)
}

/// Waits until the sender has `count` connections.
async fn connections(channel: &Channel, count: u64) {
    within("the connection", async {
        while sender(channel, "connections") != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn eager_connects_to_a_new_member_at_once() {
    let (first, _second, _roster) = pair(SenderConfig::default()).await;
    connections(&first, 1).await;
    assert_eq!(sender(&first, "accepted_total"), 0);
}

/// It was there when it was announced, and died before it was connected to: no connection of it can close.
#[tokio::test]
async fn a_member_that_cannot_be_connected_to_is_suspected() {
    let (second, _) = node().await;
    let member = second.local();
    second.stop().await;
    // Without a failure detector the suspicion itself comes up.
    let roster = Roster::default();
    let first = Channel::builder()
        .sender(PooledParallelSender::default())
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(roster.clone())
        .build()
        .unwrap();
    first.start().await.unwrap();
    let mut events = first.member_events();
    roster.add(&member);
    assert_eq!(within("the member", events.next()).await, Some(MemberEvent::Added(member.clone())));
    let suspected = MemberEvent::Suspected(member, Suspicion::ConnectionClosed);
    assert_eq!(within("the suspicion", events.next()).await, Some(suspected));
}

#[tokio::test]
async fn lazy_connects_with_the_first_message() {
    let (first, second, _roster) = pair(SenderConfig::default().with_connect(Connect::Lazy)).await;
    assert_eq!(sender(&first, "connected_total"), 0);
    first.send(&second.local(), numbered(0, 8), SendOptions::SYNC_ACK).await.unwrap();
    assert_eq!(sender(&first, "connected_total"), 1);
    first.send(&second.local(), numbered(1, 8), SendOptions::SYNC_ACK).await.unwrap();
    assert_eq!(sender(&first, "connected_total"), 1);
}

#[tokio::test]
async fn a_group_beyond_the_eager_limit_is_connected_to_when_needed() {
    let (first, _second, roster) = pair(SenderConfig::default().with_connect(Connect::Eager(1))).await;
    let (third, _) = node().await;
    roster.add(&third.local());
    within("the third", first.view_when(|view| view.len() == 2)).await;
    connections(&first, 1).await;
    first.send(&third.local(), numbered(0, 8), SendOptions::ACK).await.unwrap();
    connections(&first, 2).await;
}

#[tokio::test]
async fn a_keep_alive_count_of_zero_closes_after_each_message() {
    let (first, second, _roster) = pair(SenderConfig::default().with_keep_alive_count(Some(0))).await;
    for number in 0..3 {
        first.send(&second.local(), numbered(number, 8), SendOptions::SYNC_ACK).await.unwrap();
        connections(&first, 0).await;
    }
    assert_eq!(sender(&first, "connected_total"), 3);
}

#[tokio::test]
async fn a_keep_alive_time_closes_at_the_next_heartbeat() {
    let config = SenderConfig::default().with_keep_alive_time(Some(Duration::from_millis(1)));
    let (first, second, _roster) = pair(config).await;
    first.send(&second.local(), numbered(0, 8), SendOptions::SYNC_ACK).await.unwrap();
    within("the connection to be closed", async {
        while sender(&first, "connections") != 0 {
            first.heartbeat().await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    first.send(&second.local(), numbered(1, 8), SendOptions::SYNC_ACK).await.unwrap();
    assert_eq!(sender(&first, "connected_total"), 2);
}

/// The next item of any stream.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    within("an item", std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx))).await
}

#[tokio::test]
async fn messages_and_membership_are_streams() {
    let (first, second, roster) = pair(SenderConfig::default()).await;
    let mut messages = second.messages();
    let mut events = first.member_events();
    first.send(&second.local(), "hello", SendOptions::SYNC_ACK).await.unwrap();
    let (message, from) = next(&mut messages).await.unwrap();
    assert_eq!((message.bytes().as_ref(), &from), (b"hello".as_slice(), &first.local()));
    assert_eq!(next(&mut events).await, Some(MemberEvent::Added(second.local())));
    roster.remove(&second.local());
    assert!(matches!(next(&mut events).await, Some(MemberEvent::Removed(member, _)) if member == second.local()));
    // They end with their channel.
    drop((first, second));
    assert!(next(&mut messages).await.is_none());
    assert!(next(&mut events).await.is_none());
}
