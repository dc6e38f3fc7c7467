//! Faults of the past, each with the smallest case that shows it: outcomes, deadlines, stops.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Roster, group, node, node_with, within};
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tribes_core::budget::{BudgetConfig, OverloadPolicy};
use tribes_core::{Channel, ChannelBuilder, Env, FaultKind, Member, MemberId, SendError, SendOptions};
use tribes_transports::stream::{ByteStream, Connector};
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

const NONE: SendOptions = SendOptions::empty();

/// A network that answers nobody, and counts who asked.
#[derive(Clone, Debug, Default)]
struct BlackHole(Arc<AtomicUsize>);

#[async_trait]
impl Connector for BlackHole {
    async fn connect(&self, _: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// A channel without layers, its roster, and how often it tried to connect.
async fn alone(
    config: SenderConfig,
    change: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Roster, Arc<AtomicUsize>) {
    let hole = BlackHole::default();
    let roster = Roster::default();
    let builder = Channel::builder()
        .sender(PooledParallelSender::with_connector(config, Arc::new(hole.clone())))
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(roster.clone());
    let channel = change(builder).build().unwrap();
    channel.start().await.unwrap();
    (channel, roster, hole.0)
}

fn stranger(id: MemberId) -> Arc<Member> {
    Arc::new(Member::new(id, ([127, 0, 0, 1], 9).into()))
}

fn fault(error: &SendError) -> &FaultKind {
    match error {
        SendError::Faulty { faults, .. } => &faults[0].kind,
        other => panic!("{other}"),
    }
}

/// The callback runs on the task that carries messages to the member, which must outlive it.
#[tokio::test]
async fn a_callback_that_panics_costs_nobody_a_member() {
    let nodes = group(2).await;
    let to = nodes[1].local();
    for _ in 0..3 {
        let pending = nodes[0].send_with(&to, "first", SendOptions::ACK).await.unwrap();
        pending.on_complete(|_| panic!("a fault of the application"));
    }
    within("a message behind them", nodes[0].send(&to, "second", SendOptions::ACK)).await.unwrap();
}

/// T29: also while a connection is being made.
#[tokio::test(start_paused = true)]
async fn a_message_fails_at_its_deadline_while_connecting() {
    let config =
        SenderConfig::default().with_timeout(Duration::from_millis(200)).with_connect_timeout(Duration::from_secs(10));
    let (channel, _, _) = alone(config, |builder| builder).await;
    let start = Instant::now();
    let error = channel.send(stranger(MemberId::generate(&Env::real()).unwrap()), "x", NONE).await.unwrap_err();
    assert_eq!(start.elapsed().as_millis(), 200);
    assert!(matches!(fault(&error), FaultKind::Timeout(_)), "{error}");
    channel.stop().await;
}

/// A message that waited for room until the end goes nowhere: nothing leaves a channel that was stopped.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_stop() {
    let slow =
        SenderConfig::default().with_timeout(Duration::from_secs(60)).with_connect_timeout(Duration::from_secs(60));
    let policy = OverloadPolicy::Wait(Duration::from_secs(30));
    let (channel, _, connects) = alone(slow, |builder| {
        builder
            .budget(BudgetConfig::with_total(4096).with_per_member(1024).with_policy(policy))
            .drain(Duration::from_millis(100))
    })
    .await;
    let to = stranger(MemberId::generate(&Env::real()).unwrap());
    let send = |channel: &Channel| {
        let (channel, to) = (channel.clone(), Arc::clone(&to));
        tokio::spawn(async move { channel.send(&to, vec![0; 1000], NONE).await })
    };
    let first = send(&channel);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let waiting = send(&channel);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(connects.load(Ordering::SeqCst), 1);
    let start = Instant::now();
    channel.stop().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for (what, task) in [("the first", first), ("the one that waited", waiting)] {
        let error = within(what, task).await.unwrap().unwrap_err();
        assert_eq!(*fault(&error), FaultKind::Stopped, "{what}: {error}");
    }
    assert_eq!(connects.load(Ordering::SeqCst), 1, "it connected after the stop");
}

/// Whoever accepts and closes at once is not asked again and again without a pause.
#[tokio::test]
async fn a_member_that_closes_at_once_is_not_hammered() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let roster = Roster::default();
    let channel = Channel::builder()
        .sender(PooledParallelSender::default())
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(roster.clone())
        .build()
        .unwrap();
    channel.start().await.unwrap();
    roster.add(&Arc::new(Member::new(MemberId::from_bytes([7; 16]), addr)));
    // Also not when there is always something to send.
    for _ in 0..300 {
        let to = channel.view_when(|view| !view.is_empty()).await;
        channel.send_with(&*to, "x", SendOptions::ACK).await.unwrap().on_complete(drop);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let count = accepted.load(Ordering::SeqCst);
    assert!((1..30).contains(&count), "{count} connections");
    channel.stop().await;
}

/// A listener that blocks its thread cannot be cancelled; the stop does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_listener_that_blocks_does_not_hold_up_the_stop() {
    let (to, _roster) = node_with(|builder| builder.drain(Duration::from_millis(100)), SenderConfig::default()).await;
    let (from, _) = node().await;
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (entered, mut enters) = tokio::sync::mpsc::unbounded_channel();
    let blocked = std::sync::Mutex::new(blocked);
    to.on_message(move |_, _| {
        entered.send(()).unwrap();
        let _ = blocked.lock().unwrap().recv();
        async { Ok(()) }
    })
    .forever();
    // Unacknowledged, and awaited without a timer: the thread that is blocked may be the one that watches all sockets and
    // timers of the runtime. The stop must get over that, too.
    from.send(to.local(), "x", SendOptions::NONE).await.unwrap();
    enters.recv().await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(20), to.stop()).await;
    drop(release);
    assert!(stopped.is_ok(), "the stop waits for the listener");
}

/// "Call it again after dropping it": the second call ends what the first began.
#[tokio::test]
async fn a_stop_that_was_dropped_is_taken_up() {
    struct Told(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let (to, _roster) = node_with(|builder| builder.drain(Duration::from_millis(500)), SenderConfig::default()).await;
    let (from, _) = node().await;
    let (entered, mut enters) = tokio::sync::mpsc::unbounded_channel();
    to.on_message(move |_, _| {
        let (told, end) = tokio::sync::oneshot::channel();
        entered.send(end).unwrap();
        let told = Told(Some(told));
        async move {
            std::future::pending::<()>().await;
            drop(told);
            Ok(())
        }
    })
    .forever();
    from.send(to.local(), "x", SendOptions::ACK).await.unwrap();
    let ended = within("the listener", enters.recv()).await.unwrap();
    // Everything is stopped but the queue, on which the listener sits.
    assert!(tokio::time::timeout(Duration::from_millis(250), to.stop()).await.is_err());
    to.stop().await;
    within("the end of the listener", ended).await.unwrap();
    to.start().await.unwrap();
    to.stop().await;
}

/// Nobody of the old group is there when `stop` returns, so that `start_and_wait` counts the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_is_empty_when_the_channel_has_stopped() {
    for _ in 0..10 {
        let nodes = group(2).await;
        nodes[0].stop().await;
        assert!(nodes[0].view().is_empty());
        nodes[1].stop().await;
    }
}
