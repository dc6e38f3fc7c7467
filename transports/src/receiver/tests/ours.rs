//! The conversation with a node of ours.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::wire::{Control, HandledCode, LinkKind, RefuseReason};
use tribes_core::{MemberId, SendOptions};

use crate::testing::{Node, Wire, config, frame, java, ours, soon};

#[tokio::test]
async fn a_hello_is_welcome_and_heard_of() {
    let node = Node::start(config()).await;
    let me = ours(1);
    let mut peer = Wire::connect(node.addr()).await;
    let welcome = peer.hello(LinkKind::Data, &me, node.id(), 5).await;
    let Control::Welcome { revision, own, session, taken, .. } = welcome else { panic!("{welcome:?}") };
    assert_eq!((revision, own, session, taken), (1, node.id(), 5, None));
    assert_eq!(node.membership.told(), [format!("heard of {me}")]);
    assert_eq!((node.gauge("connections_identified"), node.gauge("sessions")), (1, 1));
    peer.control(&Control::Ping { nonce: 77 }).await;
    assert_eq!(peer.next_control().await, Some(Control::Pong { nonce: 77 }));
    // What a later revision may say is skipped.
    peer.control(&Control::Unknown(200)).await;
    // Nobody takes leave for another.
    peer.control(&Control::Goodbye { member: node.id() }).await;
    peer.control(&Control::Goodbye { member: me.id() }).await;
    peer.control(&Control::Ping { nonce: 78 }).await;
    assert_eq!(peer.next_control().await, Some(Control::Pong { nonce: 78 }));
    assert_eq!(node.membership.told(), [format!("heard of {me}"), format!("departed {me}")]);
}

#[tokio::test]
async fn a_hello_for_another_member_is_refused() {
    let node = Node::start(config()).await;
    for kind in [LinkKind::Data, LinkKind::Control, LinkKind::Probe] {
        let mut peer = Wire::connect(node.addr()).await;
        let answer = peer.hello(kind, &ours(1), MemberId::from_bytes([9; 16]), 5).await;
        assert_eq!(answer, Control::Refused { reason: RefuseReason::WrongMember { own: node.id() } });
        peer.closed_silently().await;
    }
    assert_eq!(node.gauge("refused_wrong_member_total"), 3);
    assert!(node.membership.told().is_empty());
    let mut peer = Wire::connect(node.addr()).await;
    let own = Box::new(ours(1).as_ref().clone());
    peer.control(&Control::Hello {
        revision: 0,
        capabilities: 0,
        kind: LinkKind::Data,
        own,
        expected: node.id(),
        session: 1,
    })
    .await;
    assert_eq!(peer.next_control().await, Some(Control::Refused { reason: RefuseReason::Revision }));
    peer.closed_silently().await;
}

#[tokio::test]
async fn many_messages_are_told_by_few_counts_and_results_by_number() {
    let mut node = Node::start(config()).await;
    let me = ours(1);
    let (mut peer, _) = Wire::open(&node, &me, 5).await;
    let mut burst = Vec::new();
    for _ in 0..1000 {
        burst.extend_from_slice(&frame(&me, SendOptions::ACK, "x"));
    }
    peer.write(&burst).await;
    let mut counts = 0;
    loop {
        counts += 1;
        match peer.next_control().await {
            Some(Control::Taken { count: 1000 }) => break,
            Some(Control::Taken { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(counts < 100, "{counts} counts for 1000 messages");
    for _ in 0..1000 {
        node.next().await;
    }
    for body in ["fine", "fail", "untaken"] {
        peer.message(&me, SendOptions::SYNC_ACK, body).await;
    }
    let expected =
        [(1000, HandledCode::Ok), (1001, HandledCode::Failed("told to fail".to_owned())), (1002, HandledCode::NoTaker)];
    for (seq, result) in expected {
        assert_eq!(peer.next_but_taken().await, Control::Handled { seq, result });
    }
}

#[tokio::test]
async fn results_need_not_come_in_order() {
    let mut node = Node::start(config()).await;
    let (me, other) = (ours(1), ours(2));
    let (mut peer, _) = Wire::open(&node, &me, 5).await;
    peer.message(&me, SendOptions::SYNC_ACK, "wait").await;
    // A message that is passed on has another sender, hence another queue.
    peer.message(&other, SendOptions::SYNC_ACK, "quick").await;
    assert_eq!(peer.next_but_taken().await, Control::Handled { seq: 1, result: HandledCode::Ok });
    node.release(1);
    assert_eq!(peer.next_but_taken().await, Control::Handled { seq: 0, result: HandledCode::Ok });
    assert_eq!(node.next().await, "quick");
}

/// Cuts connections at odd places and resumes; every message must come exactly once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_loses_nothing_and_repeats_nothing() {
    let seed = tribes_core::Env::real().random();
    eprintln!("seed {seed}");
    let mut chance = seed;
    let mut next_chance = move || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(chance >> 33).unwrap()
    };
    let mut node = Node::start(config()).await;
    let me = ours(1);
    let total = 3000usize;
    let frames: Vec<_> =
        (0..total).map(|number| frame(&me, SendOptions::ACK, number.to_be_bytes().repeat(1 + number % 200))).collect();
    let (mut done, mut cuts) = (0usize, 0);
    while done < total {
        let (mut peer, taken) = Wire::open(&node, &me, 9).await;
        if cuts > 0 {
            done = usize::try_from(taken.expect("the session was forgotten")).unwrap();
        }
        cuts += 1;
        let rest: Vec<u8> = frames[done..].concat();
        let cut = (1 + next_chance() % 400_000).min(rest.len());
        for part in rest[..cut].chunks(1 + next_chance() % 30_000) {
            if peer.try_write(part).await.is_err() {
                break;
            }
        }
        if cut == rest.len() {
            peer.taken(total as u64).await;
            done = total;
        }
        // Sometimes the old connection is still there when the next one comes.
        if next_chance() % 2 == 0 {
            std::mem::forget(peer);
        }
    }
    for number in 0..total {
        let body = node.next().await;
        assert_eq!(body[..8], number.to_be_bytes(), "after {cuts} connections");
    }
    assert!(node.received.try_recv().is_err());
    assert!(cuts > 1);
    assert_eq!(node.gauge("resumed_total"), cuts - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_find_the_connection_that_continues() {
    let mut node = Node::start(config()).await;
    let me = ours(1);
    let (mut first, taken) = Wire::open(&node, &me, 5).await;
    assert_eq!(taken, None);
    first.message(&me, SendOptions::SYNC_ACK, "fine").await;
    assert_eq!(first.next_but_taken().await, Control::Handled { seq: 0, result: HandledCode::Ok });
    for _ in 0..3 {
        first.message(&me, SendOptions::SYNC_ACK, "wait").await;
    }
    first.taken(4).await;
    drop(first);
    node.gauge_is("connections_open", 0).await;
    // Handled while nobody is connected.
    node.release(1);
    assert_eq!(node.next().await, "fine");
    assert_eq!(node.next().await, "wait");
    let (mut second, taken) = Wire::open(&node, &me, 5).await;
    assert_eq!(taken, Some(4));
    for seq in 0..2 {
        assert_eq!(second.next_but_taken().await, Control::Handled { seq, result: HandledCode::Ok });
    }
    // Handled while the next one is.
    node.release(1);
    assert_eq!(second.next_but_taken().await, Control::Handled { seq: 2, result: HandledCode::Ok });
    // And a third takes over while the second is open.
    let (mut third, taken) = Wire::open(&node, &me, 5).await;
    assert_eq!(taken, Some(4));
    second.closed_silently().await;
    node.release(1);
    for seq in 0..4 {
        assert_eq!(third.next_but_taken().await, Control::Handled { seq, result: HandledCode::Ok });
    }
    assert_eq!(node.gauge("superseded_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_waits_for_the_older_reader() {
    // So little room that the older reader waits for it with a whole frame in its hands.
    let mut node = Node::start(config().with_per_connection_bytes(4096)).await;
    let me = ours(1);
    let (mut first, _) = Wire::open(&node, &me, 5).await;
    for number in 0..4u8 {
        let mut body = b"wait".to_vec();
        body.resize(3000, number);
        first.message(&me, SendOptions::ACK, body).await;
    }
    first.taken(1).await;
    let (mut second, taken) = Wire::open(&node, &me, 5).await;
    // The second frame was read and never taken: it has to be sent again.
    assert_eq!(taken, Some(1));
    first.closed_silently().await;
    for number in 1..4u8 {
        let mut body = b"wait".to_vec();
        body.resize(3000, number);
        second.message(&me, SendOptions::ACK, body).await;
    }
    node.release(4);
    for number in 0..4u8 {
        assert_eq!(node.next().await[2999], number);
    }
    second.taken(4).await;
}

#[tokio::test]
async fn sessions_are_forgotten() {
    let node = Node::start(config().with_session_keep(Duration::from_millis(50)).with_max_sessions(3)).await;
    let me = ours(1);
    let (mut peer, _) = Wire::open(&node, &me, 5).await;
    peer.message(&me, SendOptions::ACK, "x").await;
    peer.taken(1).await;
    drop(peer);
    node.gauge_is("connections_open", 0).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (peer, taken) = Wire::open(&node, &me, 5).await;
    assert_eq!(taken, None);
    for session in 100..110 {
        drop(Wire::open(&node, &me, session).await);
    }
    node.gauge_is("connections_open", 1).await;
    assert!(node.gauge("sessions") <= 4);
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_pass_by_blocked_data() {
    let config = config().with_per_connection_bytes(16 << 10).with_total_bytes(16 << 10);
    let mut node = Node::start(config).await;
    let (me, other) = (ours(1), ours(2));
    let (mut data, _) = Wire::open(&node, &me, 5).await;
    let flooding = crate::testing::spawn({
        let me = Arc::clone(&me);
        async move {
            for _ in 0..5000 {
                if data.try_write(&frame(&me, SendOptions::ACK, b"wait".repeat(500))).await.is_err() {
                    break;
                }
            }
        }
    });
    let mut before = 0;
    while node.gauge("leased_bytes") < 10_000 || node.gauge("frames_total") != before {
        before = node.gauge("frames_total");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!flooding.is_finished());
    // A probe, a hello, a control connection with its messages, and another member's data.
    let mut probe = Wire::connect(node.addr()).await;
    assert!(matches!(probe.hello(LinkKind::Probe, &me, node.id(), 0).await, Control::Welcome { .. }));
    let mut control = Wire::connect(node.addr()).await;
    assert!(matches!(control.hello(LinkKind::Control, &me, node.id(), 0).await, Control::Welcome { .. }));
    control.message(&other, SendOptions::SYNC_ACK, "urgent").await;
    assert_eq!(control.next_but_taken().await, Control::Handled { seq: 0, result: HandledCode::Ok });
    assert_eq!(node.next().await, "urgent");
    control.control(&Control::Ping { nonce: 1 }).await;
    assert_eq!(control.next_but_taken().await, Control::Pong { nonce: 1 });
    control.control(&Control::Goodbye { member: me.id() }).await;
    let (mut second, _) = Wire::open(&node, &other, 5).await;
    second.message(&other, SendOptions::SYNC_ACK, "served").await;
    assert_eq!(second.next_but_taken().await, Control::Handled { seq: 0, result: HandledCode::Ok });
    assert_eq!(node.next().await, "served");
    assert!(node.membership.told().contains(&format!("departed {me}")));
    node.release(5000);
    soon("the flood", flooding).await.unwrap();
}

#[tokio::test]
async fn a_probe_is_answered_and_then_over() {
    let node = Node::start(config()).await;
    let mut probe = Wire::connect(node.addr()).await;
    assert!(matches!(probe.hello(LinkKind::Probe, &ours(1), node.id(), 0).await, Control::Welcome { taken: None, .. }));
    assert_eq!((node.gauge("connections_identified"), node.gauge("probes_total")), (0, 1));
    // A prober is not news: were it, two members that verify each other would never end.
    assert!(node.membership.told().is_empty());
    probe.shutdown().await;
    probe.closed_silently().await;
    let mut probe = Wire::connect(node.addr()).await;
    probe.hello(LinkKind::Probe, &ours(1), node.id(), 0).await;
    probe.message(&ours(1), SendOptions::ACK, "x").await;
    probe.closed_silently().await;
    assert_eq!(node.gauge("malformed_unexpected_frame_total"), 1);
}

#[tokio::test]
async fn too_many_members_are_refused_and_probes_are_still_answered() {
    let node = Node::start(config().with_max_connections(2)).await;
    let first = Wire::open(&node, &ours(1), 1).await;
    let second = Wire::open(&node, &ours(2), 1).await;
    let mut third = Wire::connect(node.addr()).await;
    let answer = third.hello(LinkKind::Data, &ours(3), node.id(), 1).await;
    assert_eq!(answer, Control::Refused { reason: RefuseReason::Busy });
    let mut probe = Wire::connect(node.addr()).await;
    assert!(matches!(probe.hello(LinkKind::Probe, &ours(3), node.id(), 0).await, Control::Welcome { .. }));
    let java = java(4);
    node.add(&java).await;
    let mut fourth = Wire::connect(node.addr()).await;
    fourth.message(&java, SendOptions::ACK, "x").await;
    fourth.closed_silently().await;
    assert_eq!((node.gauge("refused_busy_total"), node.gauge("closed_no_room_total")), (1, 1));
    drop((first, second));
}

/// After a large frame another of its size is expected; whatever comes instead is read as well, and no room is left behind.
#[tokio::test]
async fn frames_of_all_sizes_follow_a_large_one() {
    let mut node = Node::start(config()).await;
    let me = ours(1);
    node.add(&me).await;
    let (mut peer, _) = Wire::open(&node, &me, 5).await;
    let sizes = [100_000, 100_000, 10, 300_000, 70_000, 66_000, 1_000_000, 5, 5, 65_536, 100_000];
    let bodies: Vec<_> = sizes.iter().zip(1..).map(|(size, fill)| vec![fill; *size]).collect();
    let burst: Vec<_> = bodies.iter().flat_map(|body| frame(&me, SendOptions::NONE, body.clone())).collect();
    let (_, ()) = tokio::join!(peer.write(&burst), async {
        for body in &bodies {
            assert!(node.next().await == *body);
        }
    });
    for body in &bodies {
        peer.message(&me, SendOptions::NONE, body.clone()).await;
        assert!(node.next().await == *body);
    }
    node.gauge_is("leased_bytes", 0).await;
}
