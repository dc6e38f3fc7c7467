//! What a hostile network can send: the receiver refuses it, counts it, and goes on serving its peers.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
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

/// All that the receiver refused as not of the protocol.
fn refusals(channel: &Channel) -> usize {
    let stats = channel.stats();
    stats.io["receiver"]
        .iter()
        .filter(|gauge| gauge.name.starts_with("malformed_"))
        .map(|gauge| usize::try_from(gauge.value).unwrap())
        .sum()
}

/// What this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn install() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing_subscriber::util::SubscriberInitExt::init(subscriber);
        log
    }

    /// The lines about connections from `peers`.
    fn lines_about(&self, peers: &[SocketAddr]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let about = |line: &&str| peers.iter().any(|peer| line.contains(&format!("peer={peer} ")));
        text.lines().filter(about).map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends a message with a synchronized acknowledgement: the receiver serves its peers.
async fn still_serves(nodes: &[Channel]) {
    within("an acknowledged message", nodes[0].send(&nodes[1].local(), numbered(0, 100), SendOptions::SYNC_ACK))
        .await
        .unwrap();
}

/// Writes `bytes` to a fresh connection and waits until the receiver closes it.
/// The address it was refused at.
async fn refused(target: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let mut stream = TcpStream::connect(target).await.unwrap();
    let local = stream.local_addr().unwrap();
    // It may close, or reset, before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    within("the receiver to close the connection", async {
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    assert!(answer.is_empty(), "garbage is not answered: {answer:?}");
    local
}

/// A hundred peers that break the protocol within a second fill counters by kind, and one line of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_counted_by_kind_and_logged_once_a_second() {
    let log = Log::install();
    let nodes = group(2).await;
    nodes[1].on_message(|_, _| async { Ok(()) }).forever();
    let target = nodes[1].local().addr().unwrap();
    let negative = [b"FLT2002".to_vec(), (-1_i32).to_be_bytes().to_vec()].concat();
    let huge = [b"FLT2002".to_vec(), i32::MAX.to_be_bytes().to_vec()].concat();
    let start = std::time::Instant::now();
    let mut peers = Vec::new();
    for number in 0..99 {
        peers.push(refused(target, [&b"GET / HTTP/1.1"[..], &negative, &huge][number % 3]).await);
    }
    let seconds = start.elapsed().as_secs();
    for kind in ["malformed_bad_marker_total", "malformed_negative_length_total", "malformed_beyond_limit_total"] {
        assert_eq!(gauge(&nodes[1], "receiver", kind), 33, "{kind}");
    }
    assert_eq!(refusals(&nodes[1]), 99);
    let lines = log.lines_about(&peers);
    println!("{lines:#?}");
    assert!(!lines.is_empty() && lines.len() as u64 <= 1 + seconds, "{lines:#?}");
    assert!(lines[0].contains("its peer broke the protocol") && lines[0].contains("WARN"), "{}", lines[0]);
    // The next line, in another second, tells how many were left out.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let late = refused(target, &huge).await;
    let lines = log.lines_about(&[late]);
    assert!(lines.len() == 1 && !lines[0].contains("suppressed=0"), "{lines:#?}");
    still_serves(&nodes).await;
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
    // The others are valid, or end in the midst of a frame, which is no fault.
    println!("{} of {} refused: {:?}", refusals(&nodes[1]), cases.len(), nodes[1].stats().io["receiver"]);
    assert!(refusals(&nodes[1]) > cases.len() / 2, "{}", refusals(&nodes[1]));
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
    within("its stop", nodes[1].stop()).await;
}
