//! Groups over loopback TCP in this process: one sender, and receivers that count what they get.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tribes::transports::SenderConfig;
use tribes::transports::sender::Connect;
use tribes::{Channel, GroupBuilder, Pending, SendOptions, To};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Outcomes that a pipelining sender leaves open, and bytes of messages: half of what a channel queues for a member, so that
/// it is never refused.
const OPEN: usize = 512;
const OPEN_BYTES: usize = 4 << 20;

/// A multicast group of one's own, on a port that is free now.
pub(crate) fn free() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    format!("228.0.0.4:{}", socket.local_addr().expect("it is bound").port())
}

/// A channel with the default layers, not yet started, in a group that [`free`] made.
pub(crate) fn member(group: &str) -> GroupBuilder {
    tribes::channel().bind("127.0.0.1:0").multicast(group).drain(Duration::from_millis(200))
}

/// Stops them side by side.
pub(crate) async fn stop_all(channels: impl IntoIterator<Item = Channel>) {
    let mut stops: tokio::task::JoinSet<()> =
        channels.into_iter().map(|channel| async move { channel.stop().await }).collect();
    while let Some(stopped) = stops.join_next().await {
        stopped.expect("a stop does not panic");
    }
}

/// A sender and its receivers, all started and known to each other.
pub(crate) struct Group {
    pub(crate) sender: Channel,
    receivers: Vec<Channel>,
    /// How many of the receivers count what they get.
    counting: u64,
    arrived: Arc<Arrived>,
}

impl Group {
    /// A group with so many receivers.
    pub(crate) fn new(runtime: &Runtime, receivers: usize) -> Self {
        let (group, arrived) = (free(), Arc::default());
        let channels = (0..receivers).map(|_| receiver(&group, &arrived)).collect();
        Self::start(runtime, &group, channels, receivers, arrived)
    }

    /// A group with so many receivers, and one whose listener takes `pause` for each message. What that one gets does not
    /// count.
    pub(crate) fn with_slow(runtime: &Runtime, receivers: usize, pause: Duration) -> Self {
        let (group, arrived) = (free(), Arc::default());
        let slow = lazy(&group);
        slow.on_message(move |_, _| async move {
            tokio::time::sleep(pause).await;
            Ok(())
        })
        .forever();
        let channels = (0..receivers).map(|_| receiver(&group, &arrived)).chain([slow]).collect();
        Self::start(runtime, &group, channels, receivers, arrived)
    }

    fn start(runtime: &Runtime, group: &str, receivers: Vec<Channel>, counting: usize, arrived: Arc<Arrived>) -> Self {
        let sender = member(group).build().expect("a valid configuration");
        runtime.block_on(async {
            for channel in receivers.iter().chain([&sender]) {
                channel.start().await.expect("loopback and multicast work here");
            }
            // The receivers, too: a message of somebody unknown is not what is to be measured.
            for channel in receivers.iter().chain([&sender]) {
                channel.view_when(|view| view.len() == receivers.len()).await;
            }
        });
        Self { sender, receivers, counting: counting as u64, arrived }
    }

    /// The time for `count` sends to all, one after the other.
    pub(crate) async fn one_by_one(&self, body: &Bytes, options: SendOptions, count: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..count {
            self.sender.send(To::All, body.clone(), options).await.expect("all are there");
        }
        start.elapsed()
    }

    /// The time for `count` messages to all, sent with some hundred outcomes open, until all receivers have them.
    pub(crate) async fn pipelined(&self, body: &Bytes, options: SendOptions, count: u64) -> Duration {
        let window = window(body);
        self.arrived.expect_more(count * self.counting);
        let start = Instant::now();
        let mut open: VecDeque<Pending> = VecDeque::with_capacity(window);
        for _ in 0..count {
            if open.len() == window
                && let Some(oldest) = open.pop_front()
            {
                assert!(oldest.await.is_complete(), "a message did not reach everyone");
            }
            open.push_back(self.sender.send_with(To::All, body.clone(), options).await.expect("it runs"));
        }
        for pending in open {
            assert!(pending.await.is_complete(), "a message did not reach everyone");
        }
        self.arrived.all_but(0).await;
        start.elapsed()
    }

    /// The time for `count` messages to all, sent as fast as the receivers that count get them, whatever becomes of those
    /// to the slow one.
    pub(crate) async fn regardless(&self, body: &Bytes, options: SendOptions, count: u64) -> Duration {
        let window = window(body) as u64;
        let start = Instant::now();
        for _ in 0..count {
            self.arrived.all_but(window * self.counting).await;
            self.arrived.expect_more(self.counting);
            self.sender.send(To::All, body.clone(), options).await.expect("it is queued");
        }
        self.arrived.all_but(0).await;
        start.elapsed()
    }

    /// Ends it.
    pub(crate) fn stop(self, runtime: &Runtime) {
        runtime.block_on(stop_all(self.receivers.into_iter().chain([self.sender])));
    }
}

/// Messages of this size that a pipelining sender has open.
fn window(body: &Bytes) -> usize {
    OPEN.min(OPEN_BYTES / body.len()).max(1)
}

/// A receiver that counts what arrives.
fn receiver(group: &str, arrived: &Arc<Arrived>) -> Channel {
    let channel = lazy(group);
    let arrived = Arc::clone(arrived);
    channel
        .on_message(move |_, _| {
            arrived.one();
            std::future::ready(Ok(()))
        })
        .forever();
    channel
}

/// A member that connects to nobody by itself: the receivers of a large group need no connections among each other.
pub(crate) fn lazy(group: &str) -> Channel {
    let sender = SenderConfig::default().with_connect(Connect::Lazy);
    member(group).sender(sender).build().expect("a valid configuration")
}

/// Messages that have arrived, all receivers together, of those that are to.
#[derive(Default)]
struct Arrived {
    count: AtomicU64,
    expected: AtomicU64,
    /// Somebody waits for the count to get here.
    wanted: AtomicU64,
    reached: Notify,
}

impl Arrived {
    fn one(&self) {
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.wanted.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    fn expect_more(&self, messages: u64) {
        self.expected.fetch_add(messages, Ordering::SeqCst);
    }

    /// Waits until all that are expected have arrived, or so few are missing.
    async fn all_but(&self, missing: u64) {
        let wanted = self.expected.load(Ordering::SeqCst).saturating_sub(missing);
        // Told before it looks: what arrives in between is not missed.
        self.wanted.store(wanted, Ordering::SeqCst);
        let reached = async {
            while self.count.load(Ordering::SeqCst) < wanted {
                self.reached.notified().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            let count = self.count.load(Ordering::SeqCst);
            panic!("{wanted} messages were to arrive, and only {count} did in {PATIENCE:?}");
        }
    }
}
