//! What a Java sender sees.

use std::time::Duration;

use tribes_core::wire::ACK_FRAME;
use tribes_core::{MemberEvent, SendOptions};

use crate::testing::{Node, Wire, config, frame, java, soon};

#[tokio::test]
async fn each_mode_has_its_acknowledgement() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    let me = java(1);
    peer.message(&me, SendOptions::NONE, "no ack").await;
    peer.message(&me, SendOptions::SYNCHRONIZED_ACK, "no ack either").await;
    peer.message(&me, SendOptions::ACK, "fail, which nobody hears").await;
    assert!(peer.ack().await);
    peer.message(&me, SendOptions::SYNC_ACK, "fine").await;
    assert!(peer.ack().await);
    peer.message(&me, SendOptions::SYNC_ACK, "fail").await;
    assert!(!peer.ack().await);
    // Nobody takes it: positive towards Java.
    peer.message(&me, SendOptions::SYNC_ACK, "untaken").await;
    assert!(peer.ack().await);
    for expected in ["no ack", "no ack either", "fail, which nobody hears", "fine", "fail"] {
        assert_eq!(node.next().await, expected);
    }
    assert_eq!(node.gauge("frames_total"), 6);
    node.gauge_is("leased_bytes", 0).await;
}

#[tokio::test]
async fn an_ack_on_receipt_does_not_wait_for_the_listener() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&java(1), SendOptions::ACK, "wait").await;
    assert!(peer.ack().await);
    assert!(node.received.try_recv().is_err());
    node.release(1);
    assert_eq!(node.next().await, "wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_leave_in_the_order_of_the_frames() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    // Two senders on one connection, so that the second's message is handled while the first's waits.
    let (slow, quick) = (java(1), java(2));
    peer.message(&slow, SendOptions::SYNC_ACK, "wait, then fine").await;
    peer.message(&quick, SendOptions::SYNC_ACK, "fail").await;
    peer.message(&quick, SendOptions::ACK, "acknowledged on receipt").await;
    peer.message(&quick, SendOptions::SYNC_ACK, "fine").await;
    for expected in ["fail", "acknowledged on receipt", "fine"] {
        assert_eq!(node.next().await, expected);
    }
    assert!(tokio::time::timeout(Duration::from_millis(50), peer.next()).await.is_err());
    node.release(1);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(peer.ack().await);
    }
    assert_eq!(answers, [true, false, true, true]);
}

#[tokio::test]
async fn two_frames_in_one_write_and_one_frame_in_many() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    let two = [frame(&java(1), SendOptions::ACK, "one"), frame(&java(1), SendOptions::ACK, "two")].concat();
    peer.write(&two).await;
    for byte in two.chunks(1) {
        peer.write(byte).await;
    }
    for _ in 0..4 {
        assert!(peer.ack().await);
    }
    for expected in ["one", "two", "one", "two"] {
        assert_eq!(node.next().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_for_thousands_of_messages_of_all_sizes() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    let me = java(1);
    let body = |number: usize| {
        let mut body = number.to_be_bytes().to_vec();
        // Some beyond the size of a read, which then begin in the middle of one.
        body.resize(8 + if number.is_multiple_of(100) { 300_000 } else { number * 37 % 5000 }, 1);
        body
    };
    let sending = crate::testing::spawn(async move {
        for number in 0..2000 {
            let options = if number % 2 == 0 { SendOptions::ACK } else { SendOptions::NONE };
            peer.message(&me, options, body(number)).await;
        }
        peer
    });
    for number in 0..2000 {
        assert!(node.next().await == body(number), "message {number}");
    }
    let mut peer = soon("the sender", sending).await.unwrap();
    for _ in 0..1000 {
        assert!(peer.ack().await);
    }
    node.gauge_is("leased_bytes", 0).await;
}

#[tokio::test]
async fn what_was_sent_before_the_end_is_handled_and_answered() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&java(1), SendOptions::SYNC_ACK, "wait").await;
    peer.message(&java(1), SendOptions::SYNC_ACK, "fail").await;
    peer.shutdown().await;
    node.release(1);
    assert!(peer.ack().await);
    assert!(!peer.ack().await);
    assert_eq!(peer.next().await, None);
    assert_eq!(node.next().await, "wait");
    node.gauge_is("connections_open", 0).await;
}

#[tokio::test]
async fn a_known_member_is_identified_by_its_frame() {
    let node = Node::start(config().with_unidentified_idle(Duration::from_millis(300))).await;
    let (member, stranger) = (java(1), java(2));
    node.add(&member).await;
    let mut known = Wire::connect(node.addr()).await;
    let mut unknown = Wire::connect(node.addr()).await;
    known.message(&member, SendOptions::ACK, "").await;
    unknown.message(&stranger, SendOptions::ACK, "").await;
    assert!(known.ack().await);
    assert!(unknown.ack().await);
    assert_eq!(node.gauge("connections_identified"), 1);
    unknown.closed_silently().await;
    assert_eq!(node.gauge("late_idle_total"), 1);
    // The member may rest; until it is one no more.
    known.message(&member, SendOptions::ACK, "").await;
    assert!(known.ack().await);
    node.membership.raise(MemberEvent::Removed(member, tribes_core::Departure::Failed));
    known.closed_silently().await;
    assert_eq!(node.gauge("late_idle_total"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_listener_stops_its_sender_and_nobody_else() {
    let config = config().with_per_connection_bytes(64 << 10).with_total_bytes(1 << 20);
    let mut node = Node::start(config).await;
    let (stalled, other) = (java(1), java(2));
    node.add(&other).await;
    node.add(&stalled).await;
    let mut first = Wire::connect(node.addr()).await;
    let me = stalled.clone();
    let sending = crate::testing::spawn(async move {
        for _ in 0..2000 {
            first.message(&me, SendOptions::NONE, vec![b'w'; 10]).await;
            first.message(&me, SendOptions::NONE, b"wait".repeat(2500)).await;
        }
        first
    });
    assert_eq!(node.next().await, vec![b'w'; 10]);
    // It is read from until its room is full, and then no more.
    let mut before = 0;
    while node.gauge("leased_bytes") < 50_000 || node.gauge("frames_total") != before {
        before = node.gauge("frames_total");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!sending.is_finished());
    let mut second = Wire::connect(node.addr()).await;
    second.message(&other, SendOptions::SYNC_ACK, "served").await;
    assert!(second.ack().await);
    assert_eq!(node.next().await, "served");
    assert!(node.gauge("leased_bytes") <= 64 << 10);
    node.release(usize::MAX >> 8);
    let mut rest = 0;
    while rest < 3999 {
        node.next().await;
        rest += 1;
    }
    soon("the sender", sending).await.unwrap();
}

#[tokio::test]
async fn a_message_larger_than_every_bound_is_admitted_alone() {
    let config = config().with_per_connection_bytes(64 << 10).with_total_bytes(128 << 10);
    let mut node = Node::start(config).await;
    let mut peer = Wire::connect(node.addr()).await;
    let large = vec![5; 3 << 20];
    for _ in 0..3 {
        peer.message(&java(1), SendOptions::SYNC_ACK, large.clone()).await;
        assert!(peer.ack().await);
        assert!(node.next().await == large);
    }
    node.gauge_is("leased_bytes", 0).await;
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_is_closed() {
    let config = config().with_write_timeout(Duration::from_millis(300));
    let mut node = Node::start(config).await;
    let member = java(1);
    node.add(&member).await;
    let mut deaf = Wire::connect(node.addr()).await;
    let burst = frame(&member, SendOptions::ACK, "").repeat(1000);
    let mut sent = 0u64;
    while deaf.try_write(&burst).await.is_ok() {
        sent += 1000;
        assert!(sent * (ACK_FRAME.len() as u64) < 1 << 30, "it is still read from");
        while node.received.try_recv().is_ok() {}
    }
    node.gauge_is("write_failed_total", 1).await;
    let mut other = Wire::connect(node.addr()).await;
    other.message(&member, SendOptions::SYNC_ACK, "served").await;
    assert!(other.ack().await);
}
