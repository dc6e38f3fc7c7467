//! What a hostile network can send: the receiver refuses it, counts it, and goes on serving its peers.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{group, malformed, numbered, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tribes_core::{Channel, SendOptions};

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn gauge(channel: &Channel, part: &str, name: &str) -> u64 {
    let stats = channel.stats();
    stats.io[part]
        .iter()
        .find(|gauge| gauge.name == name)
        .unwrap_or_else(|| panic!("no {name} in {:?}", stats.io[part]))
        .value
}

/// Sends a message with a synchronized acknowledgement: the receiver serves its peers.
async fn still_serves(nodes: &[Channel]) {
    within("an acknowledged message", nodes[0].send(&nodes[1].local(), numbered(0, 100), SendOptions::SYNC_ACK))
        .await
        .unwrap();
}

/// Writes `bytes` to a fresh connection and waits until the receiver closes it.
async fn refused(target: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(target).await.unwrap();
    // It may close, or reset, before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    within("the receiver to close the connection", async {
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    assert!(answer.is_empty(), "garbage is not answered: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_and_damaged_frames_close_their_connection_only() {
    let nodes = group(2).await;
    nodes[1].on_message(|_, _| async { Ok(()) }).forever();
    let target = nodes[1].local().addr().unwrap();
    let seed = tribes_core::Env::real().random();
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    for len in [1, 3, 8, 100, 5_000] {
        // The first byte is never that of a frame, so that the first look finds the fault.
        let mut bytes = vec![0xFF];
        bytes.extend(std::iter::repeat_with(&mut random).flatten().take(len));
        refused(target, &bytes).await;
        still_serves(&nodes).await;
    }
    // Lengths that are negative, beyond the limit, or end in a wrong place.
    for length in [-1_i32, -18, i32::MIN, i32::MAX, 0x7000_0000, 3] {
        let mut bytes = b"FLT2002".to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 64]);
        refused(target, &bytes).await;
        still_serves(&nodes).await;
    }
}

/// Each damaged stream that is known to trouble Java, on a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_malformed_stream_of_the_golden_vectors_is_borne() {
    let nodes = group(2).await;
    nodes[1].on_message(|_, _| async { Ok(()) }).forever();
    let target = nodes[1].local().addr().unwrap();
    let cases = malformed("stream");
    assert!(cases.len() > 30);
    for (name, pieces) in &cases {
        let mut stream = TcpStream::connect(target).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            // It may be closed before all of it is written.
            let _ = stream.write_all(piece).await;
        }
        let _ = stream.shutdown().await;
        within(&format!("{name}: the receiver to close"), async {
            let mut rest = [0; 256];
            while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
        })
        .await;
        still_serves(&nodes).await;
    }
    println!("{:?}", nodes[1].stats().io["receiver"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_and_half_frames_is_borne() {
    let nodes = group(2).await;
    nodes[1].on_message(|_, _| async { Ok(()) }).forever();
    let target = nodes[1].local().addr().unwrap();
    let before = resident();
    // Slowloris: half a header each, kept open.
    let mut half_open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(target).await.unwrap();
        stream.write_all(b"FLT2").await.unwrap();
        half_open.push(stream);
    }
    // 50,000 connections, 2,000 of them open at a time.
    let mut open = std::collections::VecDeque::new();
    for number in 0..50_000_u32 {
        match TcpStream::connect(target).await {
            Ok(stream) => open.push_back(stream),
            // Out of descriptors or ports in this process: as hostile as it gets.
            Err(_) => drop(open.pop_front()),
        }
        if open.len() > 1_800 {
            let stream: TcpStream = open.pop_front().unwrap();
            // No TIME_WAIT: the ports of this machine are not what is tested.
            let _ = stream.set_zero_linger();
        }
        if number % 10_000 == 0 {
            still_serves(&nodes).await;
        }
    }
    still_serves(&nodes).await;
    let grown = resident().saturating_sub(before);
    println!("memory grew by {} KiB with {} open", grown >> 10, open.len());
    assert!(grown < 128 << 20, "memory grew by {grown} bytes");
    for stream in &open {
        let _ = stream.set_zero_linger();
    }
    drop(open);
    // The half frames meet their deadline and are closed, though nobody else is harmed.
    for mut stream in half_open {
        within("a half frame to be given up", async {
            let mut rest = [0; 16];
            while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
        })
        .await;
    }
    still_serves(&nodes).await;
    assert!(gauge(&nodes[1], "receiver", "accepted_total") >= 40_000);
    tokio::time::timeout(Duration::from_secs(1), nodes[1].stop()).await.expect("it stops");
}
