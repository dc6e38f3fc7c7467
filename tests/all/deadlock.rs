//! Listeners that send to each other, and processes that are replaced.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{PATIENCE, Roster, group, node, number, numbered, via, within};
use tokio::sync::mpsc;
use tribes_core::{Channel, FaultKind, ListenerHandle, Member, MemberId, SendError, SendOptions};
use tribes_transports::{ReceiverConfig, TcpReceiver};

const ROUNDS: u64 = 500;

/// Has `channel` answer each message below [`ROUNDS`] with the next number, and report what the send said.
fn answer(
    channel: &Channel,
    options: SendOptions,
    results: mpsc::UnboundedSender<(u64, Result<(), SendError>)>,
) -> ListenerHandle {
    let replies = channel.downgrade();
    channel.on_message(move |message, from: Arc<Member>| {
        let (replies, results) = (replies.clone(), results.clone());
        async move {
            let number = number(message.bytes());
            if number < ROUNDS {
                let channel = replies.upgrade().unwrap();
                let result = channel.send(&from, numbered(number + 1, 8), options).await;
                results.send((number, result.map(drop))).unwrap();
            }
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_answer_with_ack_go_through() {
    let nodes = group(2).await;
    let (results, mut seen) = mpsc::unbounded_channel();
    let _handles = [answer(&nodes[0], SendOptions::ACK, results.clone()), answer(&nodes[1], SendOptions::ACK, results)];
    nodes[0].send(&nodes[1].local(), numbered(0, 8), SendOptions::ACK).await.unwrap();
    nodes[1].send(&nodes[0].local(), numbered(0, 8), SendOptions::ACK).await.unwrap();
    for _ in 0..2 * ROUNDS {
        within("an answer", seen.recv()).await.unwrap().1.unwrap();
    }
    assert!(nodes.iter().all(|node| node.view().len() == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_answer_with_sync_are_told_at_once_that_it_would_deadlock() {
    let nodes = group(2).await;
    let (results, mut seen) = mpsc::unbounded_channel();
    let _handles =
        [answer(&nodes[0], SendOptions::SYNC_ACK, results.clone()), answer(&nodes[1], SendOptions::SYNC_ACK, results)];
    let start = tokio::time::Instant::now();
    let (first, second) = (nodes[0].local(), nodes[1].local());
    for round in 0..100 {
        let (there, back) = tokio::join!(
            nodes[0].send(&second, numbered(round, 8), SendOptions::SYNC_ACK),
            nodes[1].send(&first, numbered(round, 8), SendOptions::SYNC_ACK),
        );
        // Sent from outside of a handler, both go through.
        there.unwrap();
        back.unwrap();
    }
    for _ in 0..200 {
        let (_, result) = within("an answer", seen.recv()).await.unwrap();
        let error = result.unwrap_err();
        assert_eq!(error.faults()[0].kind, FaultKind::WouldDeadlock);
    }
    // Each round would take one of the sender's timeouts: minutes in all. A busy machine takes seconds.
    assert!(start.elapsed() < PATIENCE, "told at once, not by a timeout: {:?}", start.elapsed());
    assert!(nodes.iter().all(|node| node.view().len() == 1));
}

/// A process is gone, another one listens at its port, and messages for the first are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_at_the_same_port_gets_nothing_that_was_meant_for_its_predecessor() {
    let (sender, roster) = node().await;
    let (successor, _) = node().await;
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    successor
        .on_message(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .forever();
    // The predecessor as the sender knows it: the same address, another id.
    let env = tribes_core::Env::real();
    let predecessor = via(
        &successor.local().as_ref().clone().with_id(MemberId::generate(&env).unwrap()),
        successor.local().addr().unwrap(),
    );
    let pending = sender.send_with(&predecessor, numbered(1, 100), SendOptions::ACK).await.unwrap();
    let asynchronous = sender.send_with(&predecessor, numbered(2, 100), SendOptions::ASYNC).await.unwrap();
    for pending in [pending, asynchronous] {
        let outcome = within("the outcome", pending).await;
        assert_eq!(outcome.faults[0].member, predecessor);
        assert_eq!(outcome.faults[0].kind, FaultKind::Replaced(successor.local().id()));
    }
    // The successor itself is reached.
    roster.add(&successor.local());
    within("the successor", sender.view_when(|view| view.len() == 1)).await;
    sender.send(&successor.local(), numbered(3, 8), SendOptions::SYNC_ACK).await.unwrap();
    assert_eq!(received.load(Ordering::Relaxed), 1);
}

/// The same with a real restart: the first channel's sockets vanish, the second binds the same port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_at_the_same_port_under_queued_messages() {
    let (sender, roster) = node().await;
    let (first, _) = node().await;
    let old = first.local();
    roster.add(&old);
    within("the first", sender.view_when(|view| view.len() == 1)).await;
    // A listener that never returns: messages pile up at the sender and on the way.
    let hold = first.on_message(|_, _| std::future::pending());
    let mut pending = Vec::new();
    for number in 0..2_000 {
        pending.push(
            sender.send_with(&old, numbered(number, 2_000), SendOptions::SYNC_ACK | SendOptions::ASYNC).await.unwrap(),
        );
    }
    drop(hold);
    let port = old.addr().unwrap().port();
    drop(first); // As by a crash.
    let receiver = |port| TcpReceiver::new(ReceiverConfig::default().with_port(port).with_auto_bind(1)).unwrap();
    let second = within("the port", async {
        loop {
            let (sender, _roster) = (tribes_transports::PooledParallelSender::default(), ());
            let channel = Channel::builder()
                .sender(sender)
                .receiver(receiver(port))
                .membership(Roster::default())
                .build()
                .unwrap();
            if channel.start().await.is_ok() {
                return channel;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    second
        .on_message(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .forever();
    for pending in pending {
        let outcome = within("an outcome", pending).await;
        assert!(!outcome.is_complete(), "nothing was handled, so nothing may count as handled");
        assert_eq!(outcome.faults[0].member, old);
    }
    assert_eq!(second.local().addr(), old.addr());
    assert_eq!(received.load(Ordering::Relaxed), 0);
}
