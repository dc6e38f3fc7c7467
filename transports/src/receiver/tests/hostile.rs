//! Peers that do not keep to the protocol, by mistake or on purpose. Another peer is served all the while.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tribes_core::SendOptions;
use tribes_core::wire::{ACK_FRAME, CONTROL_END, CONTROL_START, Control, FRAME_END, FRAME_START, LinkKind};

use crate::testing::{Node, Wire, config, frame, java, ours, soon};

fn framed(contents: &[u8]) -> Vec<u8> {
    raw(FRAME_START, i32::try_from(contents.len()).unwrap(), contents, FRAME_END)
}

fn raw(start: &[u8], length: i32, contents: &[u8], end: &[u8]) -> Vec<u8> {
    [start, &length.to_be_bytes(), contents, end].concat()
}

/// A valid frame with the four bytes at `at` replaced.
fn with_length(at: usize, length: i32) -> Vec<u8> {
    let mut bytes = frame(&java(1), SendOptions::ACK, "body").to_vec();
    bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn control(control: &Control) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    control.encode(&mut bytes);
    bytes.to_vec()
}

/// What is sent, and where it is counted. Offsets: frame header 11, options 4, timestamp 8, id 4 + 16, sender 4 + …
fn violations() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let sender_at = 11 + 4 + 8 + 4 + 16;
    let mut no_sender = BytesMut::new();
    no_sender.put_slice(&[0; 12]);
    no_sender.put_i32(16);
    no_sender.put_slice(&[1; 16]);
    no_sender.put_i32(0);
    no_sender.put_i32(0);
    let mut long_host = frame(&java(1), SendOptions::ACK, "body").to_vec();
    // Member: begin 10, length 4, alive 8, three ports 12, then the host's length.
    long_host[sender_at + 4 + 34] = 0xFF;
    let mut bad_footer = frame(&java(1), SendOptions::ACK, "body").to_vec();
    *bad_footer.last_mut().unwrap() = b'!';
    vec![
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed_bad_marker_total"),
        ("one wrong byte", b"FLX".to_vec(), "malformed_bad_marker_total"),
        ("a wrong footer", bad_footer, "malformed_bad_marker_total"),
        ("a negative length", raw(FRAME_START, -18, &[], &[]), "malformed_negative_length_total"),
        ("a length beyond all limits", raw(FRAME_START, i32::MAX, &[], &[]), "malformed_beyond_limit_total"),
        ("no contents", framed(&[]), "malformed_truncated_total"),
        ("a sender beyond its frame", with_length(sender_at, 5000), "malformed_beyond_enclosing_total"),
        ("a negative id length", with_length(11 + 12, -1), "malformed_negative_length_total"),
        ("an id beyond its limit", with_length(11 + 12, 2000), "malformed_beyond_limit_total"),
        ("a short sender", with_length(sender_at, 3), "malformed_"),
        ("no sender", framed(&no_sender), "malformed_missing_sender_total"),
        ("a host of 255 bytes", long_host, "malformed_host_too_long_total"),
        ("an acknowledgement", ACK_FRAME.to_vec(), "malformed_unexpected_frame_total"),
        ("a control frame before a hello", control(&Control::Ping { nonce: 1 }), "malformed_unexpected_frame_total"),
        ("a control frame that is too large", raw(CONTROL_START, 1 << 20, &[], &[]), "malformed_beyond_limit_total"),
        (
            "a control frame with an unknown code",
            raw(CONTROL_START, 2, &[3, 99], CONTROL_END),
            "malformed_unknown_code_total",
        ),
        (
            "a control frame with a tail",
            raw(CONTROL_START, 10, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0], CONTROL_END),
            "malformed_trailing_bytes_total",
        ),
    ]
}

fn malformed(node: &Node) -> u64 {
    node.gauges().iter().filter(|(name, _)| name.starts_with("malformed_")).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn every_violation_closes_its_connection_without_an_answer_and_is_counted() {
    let mut node = Node::start(config()).await;
    let mut witness = Wire::connect(node.addr()).await;
    for (number, (what, bytes, counter)) in violations().into_iter().enumerate() {
        eprintln!("{what}");
        let before = node.gauges();
        let mut hostile = Wire::connect(node.addr()).await;
        hostile.write(&bytes).await;
        hostile.closed_silently().await;
        assert_eq!(malformed(&node), number as u64 + 1, "{what}");
        let counted = node.gauges().iter().any(|(name, count)| name.starts_with(counter) && *count == before[name] + 1);
        assert!(counted, "{what} is not counted as {counter}: {:?}", node.gauges());
        witness.message(&java(1), SendOptions::SYNC_ACK, "still served").await;
        assert!(witness.ack().await);
        assert_eq!(node.next().await, "still served");
    }
    node.gauge_is("connections_open", 1).await;
}

#[tokio::test]
async fn what_is_whole_before_a_violation_is_handled() {
    let mut node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.write(&[frame(&java(1), SendOptions::ACK, "good").to_vec(), b"bad".to_vec()].concat()).await;
    assert_eq!(node.next().await, "good");
    assert!(peer.ack().await);
    peer.closed_silently().await;
}

#[tokio::test]
async fn our_own_protocol_has_its_order_too() {
    let node = Node::start(config()).await;
    let me = ours(1);
    let wrong = [
        Control::Taken { count: 1 },
        Control::Welcome { revision: 1, capabilities: 0, own: me.id(), session: 1, taken: None },
        Control::Hello {
            revision: 1,
            capabilities: 0,
            kind: LinkKind::Data,
            own: Box::new(me.as_ref().clone()),
            expected: node.id(),
            session: 1,
        },
    ];
    let mut count = 0;
    for (session, second) in wrong.into_iter().enumerate() {
        let (mut peer, _) = Wire::open(&node, &me, session as u64).await;
        peer.control(&second).await;
        peer.closed_silently().await;
        count += 1;
        assert_eq!(node.gauge("malformed_unexpected_frame_total"), count);
    }
    // A hello behind a message is none.
    let mut peer = Wire::connect(node.addr()).await;
    peer.message(&me, SendOptions::NONE, "x").await;
    peer.say_hello(LinkKind::Data, &me, node.id(), 1).await;
    peer.closed_silently().await;
    assert_eq!(node.gauge("malformed_unexpected_frame_total"), count + 1);
}

#[tokio::test]
async fn slow_peers_are_not_waited_for() {
    let config = config().with_first_frame(Duration::from_millis(300)).with_half_frame(Duration::from_millis(300));
    let node = Node::start(config).await;
    // Silent, and a byte at a time.
    let silent = Wire::connect(node.addr()).await;
    let mut trickling = Wire::connect(node.addr()).await;
    let mut half = Wire::connect(node.addr()).await;
    let member = java(1);
    node.add(&member).await;
    // Identified, and then half a frame.
    let whole = frame(&member, SendOptions::ACK, "body");
    half.write(&whole).await;
    assert!(half.ack().await);
    half.write(&whole[..20]).await;
    let started = tokio::time::Instant::now();
    for byte in whole.iter().take(60) {
        if trickling.try_write(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    trickling.closed_silently().await;
    silent.closed_silently().await;
    half.closed_silently().await;
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!((node.gauge("late_first_frame_total"), node.gauge("late_half_frame_total")), (2, 1));
    node.gauge_is("connections_open", 0).await;
}

#[tokio::test]
async fn a_frame_that_ends_early_is_counted() {
    let node = Node::start(config()).await;
    let mut peer = Wire::connect(node.addr()).await;
    peer.write(&frame(&java(1), SendOptions::ACK, "body")[..30]).await;
    peer.shutdown().await;
    peer.closed_silently().await;
    assert_eq!(node.gauge("closed_in_frame_total"), 1);
}

#[tokio::test]
async fn a_large_length_allocates_nothing_by_itself() {
    let node = Node::start(config().with_per_connection_bytes(64 << 20).with_total_bytes(8 << 30)).await;
    let mut peers = Vec::new();
    // Half a gibibyte of promises.
    for _ in 0..8 {
        let mut peer = Wire::connect(node.addr()).await;
        peer.write(&raw(FRAME_START, 64 << 20, &[0; 100], &[])).await;
        peers.push(peer);
    }
    // Frame and overhead of each.
    node.gauge_is("leased_bytes", 8 * ((64 << 20) + 18 + 256)).await;
    let resident = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = resident.and_then(|statm| statm.split(' ').nth(1)?.parse::<usize>().ok()).unwrap_or(0);
    assert!(pages * 4096 < 256 << 20, "{} MiB resident", (pages * 4096) >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_bounded_and_cost_no_member_its_connection() {
    let mut node = Node::start(config().with_max_unidentified(50)).await;
    let member = java(1);
    node.add(&member).await;
    let mut known = Wire::connect(node.addr()).await;
    known.message(&member, SendOptions::ACK, "hello").await;
    assert!(known.ack().await);
    assert_eq!(node.next().await, "hello");
    let mut strangers = Vec::new();
    for _ in 0..500 {
        strangers.push(Wire::connect(node.addr()).await);
    }
    node.gauge_is("accepted_total", 501).await;
    node.gauge_is("evicted_total", 450).await;
    node.gauge_is("connections_open", 51).await;
    known.message(&member, SendOptions::SYNC_ACK, "still here").await;
    assert!(known.ack().await);
    // The newest are the ones that stayed.
    let mut newest = strangers.pop().unwrap();
    newest.message(&member, SendOptions::ACK, "").await;
    assert!(newest.ack().await);
    strangers.remove(0).closed_silently().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_open_connections_of_a_flood_leave_the_others_served() {
    let node = Node::start(config()).await;
    let mut witness = Wire::connect(node.addr()).await;
    witness.message(&java(1), SendOptions::ACK, "").await;
    assert!(witness.ack().await);
    let mut open = std::collections::VecDeque::new();
    for number in 0..6000u64 {
        open.push_back(Wire::connect(node.addr()).await);
        if open.len() > 2000 {
            open.pop_front();
        }
        if number % 1000 == 0 {
            // The witness is a stranger, too, and the oldest: it may have been closed for the flood; a member's is not.
            let mut probe = Wire::connect(node.addr()).await;
            let answer = soon("an answer in the flood", probe.hello(LinkKind::Probe, &ours(1), node.id(), 0)).await;
            assert!(matches!(answer, Control::Welcome { .. }));
        }
    }
    assert!(node.gauge("connections_open") <= 1200, "{:?}", node.gauges());
    assert!(node.gauge("evicted_total") > 0);
    drop(open);
    node.gauge_is("connections_open", 0).await;
    let mut after = Wire::connect(node.addr()).await;
    after.message(&java(1), SendOptions::ACK, "").await;
    assert!(after.ack().await);
}

/// Answers gather only as long as they are read: who asks and never listens is not read from.
#[tokio::test]
async fn a_peer_that_pings_and_reads_nothing_is_not_read_from() {
    let node = Node::start(config()).await;
    let mut wire = Wire::connect(node.addr()).await;
    let welcome = wire.hello(LinkKind::Control, &ours(1), node.id(), 0).await;
    assert!(matches!(welcome, Control::Welcome { .. }), "{welcome:?}");
    let pings = control(&Control::Ping { nonce: 1 }).repeat(10_000);
    // More than the buffers of the operating system hold.
    for _ in 0..(64 << 20) / pings.len() {
        if tokio::time::timeout(Duration::from_secs(1), wire.write(&pings)).await.is_err() {
            return;
        }
    }
    panic!("64 MiB of pings were taken, and their answers kept");
}
