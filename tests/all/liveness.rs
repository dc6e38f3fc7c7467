//! Births and deaths over real multicast: how fast they are seen, and what is not taken for one.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{malformed, numbered, within};
use tribes::prelude::*;
use tribes_core::{Departure, MemberEvent, Services};

/// A multicast group that nobody else uses: its port is one that is free now.
fn multicast() -> String {
    let free = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    format!("228.0.0.4:{}", free.local_addr().unwrap().port())
}

fn node(group: &str) -> Channel {
    tribes::channel().bind("127.0.0.1:0").multicast(group).build().unwrap()
}

async fn group(count: usize) -> Vec<Channel> {
    let address = multicast();
    let mut nodes = Vec::new();
    for _ in 0..count {
        let node = node(&address);
        node.start().await.unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        within("the group", node.view_when(|view| view.len() == count - 1)).await;
    }
    nodes
}

/// A machine that is shared may be slow at any moment, so one try of these that is quick enough will do. What waits for a timeout
/// is slow in each.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_seen_within_milliseconds() {
    let mut slow = Vec::new();
    while slow.len() < TRIES {
        let seen = join().await;
        if seen < Duration::from_millis(600) {
            return;
        }
        slow.push(seen);
    }
    panic!("{slow:?}");
}

/// How long it takes until a member that starts and one that is there have seen each other.
async fn join() -> Duration {
    let address = multicast();
    let first = node(&address);
    first.start().await.unwrap();
    let second = node(&address);
    let start = Instant::now();
    second.start().await.unwrap();
    let started = start.elapsed();
    let (by_first, by_second) =
        tokio::join!(first.view_when(|view| view.len() == 1), second.view_when(|view| view.len() == 1));
    let seen = start.elapsed();
    println!("start took {started:?}; both had seen each other after {seen:?}");
    assert!(by_first.contains(&second.local()) && by_second.contains(&first.local()));
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_is_told_once_as_a_shutdown() {
    let nodes = group(3).await;
    let mut events = nodes[0].member_events();
    let leaver = nodes[2].local();
    let start = Instant::now();
    nodes[2].stop().await;
    let departure = within("the departure", async {
        loop {
            if let Some(MemberEvent::Removed(member, why)) = events.next().await {
                return (member, why);
            }
        }
    })
    .await;
    println!("seen after {:?}", start.elapsed());
    assert_eq!(departure, (leaver, Departure::Shutdown));
    // Nothing more comes, though several datagrams said so.
    let more = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_seen_by_the_connection() {
    let mut slow = Vec::new();
    while slow.len() < TRIES {
        let seen = crash().await;
        if seen < Duration::from_millis(100) {
            return;
        }
        slow.push(seen);
    }
    panic!("{slow:?}");
}

/// How long it takes until two have seen the death of a third.
async fn crash() -> Duration {
    let mut nodes = group(3).await;
    let dead = nodes.pop().unwrap();
    let member = dead.local();
    let start = Instant::now();
    drop(dead);
    for node in &nodes {
        within("the death", node.view_when(|view| !view.contains(&member))).await;
        println!("seen after {:?}", start.elapsed());
    }
    start.elapsed()
}

/// Tribes' `testTcpSendFailureMemberDrop`: it announces itself on and on, but nothing can be sent to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_receiver_has_stopped_is_removed_and_only_there() {
    let nodes = group(2).await;
    let deaf = nodes[1].local();
    nodes[1].stop_services(Services::RECEIVER).await;
    within("a send that fails", async { while nodes[0].send(&deaf, "m", SendOptions::ACK).await.is_ok() {} }).await;
    within("its removal", nodes[0].view_when(|view| view.is_empty())).await;
    assert_eq!(nodes[1].view().len(), 1, "it still hears the other one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_takes_ten_seconds_is_no_death() {
    let nodes = group(2).await;
    nodes[1]
        .on_message(|_, _| async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        })
        .forever();
    let mut events = nodes[0].member_events();
    let present = within("the member", events.next()).await;
    assert!(matches!(present, Some(MemberEvent::Added(_))));
    // The acknowledgement does not come in time, which makes the member suspect, and a probe clears it.
    let error = nodes[0].send(To::All, numbered(0, 100), SendOptions::SYNC_ACK).await.unwrap_err();
    assert_eq!(error.faults().len(), 1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        match tokio::time::timeout(Duration::from_millis(500), events.next()).await {
            Ok(Some(MemberEvent::Removed(member, why))) => panic!("{member} was removed: {why}"),
            _ => assert_eq!(nodes[0].view().len(), 1),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_at_full_load_is_no_death() {
    let nodes = group(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..8)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut events = nodes[0].member_events();
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(8) {
        let _ = nodes[0].send(To::All, numbered(sent, 1000), SendOptions::ACK).await;
        sent += 1;
    }
    stop.store(true, Ordering::Relaxed);
    burners.into_iter().for_each(|burner| burner.join().unwrap());
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(100), events.next()).await {
        assert!(!matches!(event, MemberEvent::Removed(..)), "{event:?} after {sent} messages");
    }
    println!("{sent} messages under full load");
    assert!(nodes.iter().all(|node| node.view().len() == 2));
}

/// Who says it is there, and does not answer, is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoofed_heartbeat_adds_nobody() {
    let address = multicast();
    let victim = node(&address);
    victim.start().await.unwrap();
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for number in 0..500_u16 {
        let ghost = Member::new(
            tribes_core::MemberId::generate(&tribes_core::Env::real()).unwrap(),
            ([127, 0, 0, 1], 1 + number % 20).into(),
        );
        let mut datagram = bytes::BytesMut::new();
        tribes_core::wire::encode_member(&ghost, &mut datagram);
        socket.send_to(&datagram, ("228.0.0.4", port)).unwrap();
        socket.send_to(&datagram[..40], ("228.0.0.4", port)).unwrap();
    }
    for (_, pieces) in malformed("member") {
        socket.send_to(&pieces[0], ("228.0.0.4", port)).unwrap();
    }
    // A real one is seen all the same.
    let real = node(&address);
    real.start().await.unwrap();
    within("the real member", victim.view_when(|view| view.contains(&real.local()))).await;
    assert_eq!(victim.view().len(), 1);
}
