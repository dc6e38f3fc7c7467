//! The link to one member, without a socket: what is written when, and what becomes of it when connections break.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::budget::{Budget, BudgetConfig};
use tribes_core::message::Body;
use tribes_core::wire::{self, Frame, FrameDecoder, HandledCode, Limits};
use tribes_core::{
    ChannelMessage, Delivery, Env, FaultKind, Member, MemberId, MessageId, Outbound, Pending, SendOptions, Time,
};

use super::core::{LinkCore, Resolved};

const TIMEOUT: Duration = Duration::from_secs(3);

/// A link with a numbered message for each completion that it owes.
struct Bench {
    link: LinkCore,
    member: Arc<Member>,
    pending: Vec<Pending>,
    resolved: Vec<Resolved>,
    /// Outcomes of writes, until `flushed`.
    written: Vec<Resolved>,
    in_hand: usize,
    now: Time,
}

fn ours() -> MemberId {
    MemberId::generate(&Env::real()).unwrap()
}

impl Bench {
    fn new(id: MemberId) -> Self {
        let member = Arc::new(Member::new(id, ([127, 0, 0, 1], 4000).into()));
        let room = Budget::new(BudgetConfig::default(), Env::real()).reserve_none(&member);
        let mut link = LinkCore::new(&member, room, 1000, TIMEOUT, 7);
        link.connected(None, Time::ZERO, &mut Vec::new());
        Self {
            link,
            member,
            pending: Vec::new(),
            resolved: Vec::new(),
            written: Vec::new(),
            in_hand: 0,
            now: Time::ZERO,
        }
    }

    fn push(&mut self, options: SendOptions) {
        let message = ChannelMessage {
            options,
            timestamp_ms: 0,
            id: MessageId::from_array([0; 16]),
            sender: Arc::clone(&self.member),
            body: Body::new(vec![u8::try_from(self.pending.len()).unwrap()]),
        };
        let sender = super::encoded(&message.sender);
        let (out, pending) = Outbound::new(message, std::slice::from_ref(&self.member));
        self.pending.push(pending);
        let len = wire::frame_len(&out.message);
        for destination in out.to {
            self.link.push(&out.message, &sender, len, destination, 300, self.now).unwrap();
        }
    }

    /// The numbers of the messages that go out now.
    fn write(&mut self) -> Vec<u8> {
        let mut pieces = Vec::with_capacity(64);
        self.in_hand += self.link.next_write(1 << 20, self.now, &mut pieces);
        let mut decoder = FrameDecoder::new(Limits::default());
        pieces.iter().for_each(|piece| decoder.extend(piece));
        let frames = std::iter::from_fn(|| decoder.next().unwrap());
        let numbers = frames
            .map(|frame| match frame {
                Frame::Data(contents) => *contents.last().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        // What was written before and not flushed is not written again.
        self.link.wrote(std::mem::take(&mut self.in_hand), self.now, &mut self.written);
        numbers
    }

    /// The outcomes of the writes so far come only now: nobody has said yet that the system took the bytes.
    fn flushed(&mut self) {
        self.resolved.append(&mut self.written);
    }

    /// The outcome of each message whose outcome came since the last call.
    fn outcomes(&mut self) -> Vec<Result<Delivery, FaultKind>> {
        let mut results = Vec::new();
        for (completion, result) in self.resolved.drain(..) {
            results.push(result.clone());
            completion.resolve(result);
        }
        results
    }
}

#[test]
fn ours_pipelines_everything_and_matches_by_number() {
    let mut bench = Bench::new(ours());
    for options in [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::SYNC_ACK] {
        bench.push(options);
    }
    assert_eq!(bench.write(), [0, 1, 2, 3]);
    bench.flushed();
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent)]);
    // The second synchronized one is handled first, even before the count of those taken says so.
    bench.link.handled(3, HandledCode::NoTaker, bench.now, &mut bench.resolved);
    bench.link.taken(4, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::NoTaker), Ok(Delivery::Acknowledged)]);
    bench.link.handled(2, HandledCode::Failed("no".to_owned()), bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::RemoteFailure(Some("no".to_owned())))]);
    assert!(bench.link.is_idle());
}

#[test]
fn a_resumed_session_sends_only_what_was_not_taken() {
    let mut bench = Bench::new(ours());
    (0..5).for_each(|_| bench.push(SendOptions::NONE));
    assert_eq!(bench.write(), [0, 1, 2, 3, 4]);
    bench.flushed();
    assert_eq!(bench.outcomes().len(), 5);
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.push(SendOptions::ACK);
    bench.link.connected(Some(3), bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [3, 4, 5]);
    bench.link.taken(6, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    assert!(bench.link.is_idle());
}

#[test]
fn a_session_that_the_peer_forgot_fails_what_may_have_arrived_and_sends_the_rest() {
    let mut bench = Bench::new(ours());
    (0..2).for_each(|_| bench.push(SendOptions::ACK));
    bench.write();
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.push(SendOptions::ACK);
    bench.link.connected(None, bench.now, &mut bench.resolved);
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(FaultKind::Disconnected(_)))));
    assert_eq!(bench.write(), [2]);
    // The new sequence begins at zero.
    bench.link.taken(1, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
}

#[test]
fn java_gets_nothing_acknowledged_beside_a_synchronized_message() {
    let mut bench = Bench::new(MemberId::ZERO);
    for options in [SendOptions::ACK, SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::NONE, SendOptions::ACK] {
        bench.push(options);
    }
    assert_eq!(bench.write(), [0, 1]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [0; 0]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    // Order is kept: what asks for nothing still goes behind.
    assert_eq!(bench.write(), [2, 3]);
    bench.flushed();
    bench.link.acknowledged(false, bench.now, &mut bench.resolved);
    assert_eq!(
        bench.outcomes(),
        [
            Ok(Delivery::Acknowledged),
            Ok(Delivery::Acknowledged),
            Ok(Delivery::Sent),
            Err(FaultKind::RemoteFailure(None))
        ]
    );
    assert_eq!(bench.write(), [4]);
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
    assert!(bench.link.is_idle());
    // An acknowledgement that nobody waits for is ignored.
    bench.link.acknowledged(true, bench.now, &mut bench.resolved);
}

#[test]
fn towards_java_a_broken_connection_costs_one_retry_and_a_negative_answer_none() {
    let mut bench = Bench::new(MemberId::ZERO);
    bench.push(SendOptions::NONE);
    bench.push(SendOptions::ACK);
    bench.push(SendOptions::ACK);
    assert_eq!(bench.write(), [0, 1, 2]);
    bench.flushed();
    bench.link.acknowledged(false, bench.now, &mut bench.resolved);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent), Err(FaultKind::RemoteFailure(None))]);
    bench.link.connected(None, bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [2]);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Disconnected("cut".to_owned()))]);
    assert!(bench.link.is_idle());
}

#[test]
fn deadlines_are_exact_and_progress_extends_them() {
    let mut bench = Bench::new(ours());
    bench.now = Time::from_millis(100);
    bench.push(SendOptions::ACK);
    bench.write();
    assert_eq!(bench.link.deadline(), Some(Time::from_millis(3100)));
    // A second message, written a second later; the first is then taken.
    bench.now = Time::from_millis(1100);
    bench.push(SendOptions::ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.outcomes();
    assert!(!bench.link.expire(Time::from_millis(3100), &mut bench.resolved));
    assert!(bench.outcomes().is_empty());
    assert_eq!(bench.link.deadline(), Some(Time::from_millis(4100)));
    bench.link.expire(Time::from_millis(4099), &mut bench.resolved);
    assert!(bench.outcomes().is_empty());
    bench.link.expire(Time::from_millis(4100), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    assert_eq!(bench.link.deadline(), None);
}

#[test]
fn a_late_acknowledgement_from_java_closes_the_connection() {
    let mut bench = Bench::new(MemberId::ZERO);
    bench.push(SendOptions::ACK);
    bench.write();
    assert!(bench.link.expire(Time::from_millis(3000), &mut bench.resolved));
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    bench.link.disconnected("closed here", &mut bench.resolved);
    assert!(bench.outcomes().is_empty() && bench.link.is_idle());
}

#[test]
fn a_frame_that_failed_is_sent_again_only_if_the_peer_may_have_it() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.write();
    bench.push(SendOptions::ACK);
    bench.link.disconnected("cut", &mut bench.resolved);
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Timeout(TIMEOUT)), Err(FaultKind::Timeout(TIMEOUT))]);
    bench.push(SendOptions::ACK);
    // The peer says that message 0 did not arrive: it failed, and stays so. Message 1 never left.
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    assert_eq!(bench.write(), [2]);
    bench.link.taken(1, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    assert!(bench.link.is_idle());
}

#[test]
fn a_message_that_the_peer_never_takes_is_given_up() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.push(SendOptions::ACK);
    for _ in 0..4 {
        assert_eq!(bench.write(), [0, 1]);
        bench.link.disconnected("closed", &mut bench.resolved);
        bench.link.connected(Some(0), bench.now, &mut bench.resolved);
        assert!(bench.outcomes().is_empty());
    }
    bench.write();
    bench.link.disconnected("closed", &mut bench.resolved);
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    assert!(matches!(bench.outcomes()[..], [Err(FaultKind::Disconnected(_))]));
    assert_eq!(bench.write(), [1]);
}

#[test]
fn a_replaced_member_gets_nothing() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::SYNC_ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.push(SendOptions::NONE);
    let other = ours();
    bench.link.replaced(other, 8, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Replaced(other)), Err(FaultKind::Replaced(other))]);
    assert_eq!((bench.link.session(), bench.link.queued_bytes()), (8, 0));
    assert!(bench.write().is_empty());
}

#[test]
fn what_has_failed_holds_up_no_stop() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    bench.write();
    assert!(!bench.link.is_drained());
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::AckTimeout(TIMEOUT))]);
    // Its place in the sequence is kept, for the peer may have taken it.
    assert!(!bench.link.is_idle() && bench.link.is_drained() && !bench.link.is_awaited());
    // One without acknowledgement may still arrive.
    bench.push(SendOptions::NONE);
    bench.write();
    bench.flushed();
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent)]);
    assert!(!bench.link.is_drained() && !bench.link.is_awaited());
}

#[test]
fn a_message_that_is_being_handled_waits_for_the_next_connection() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::SYNC_ACK);
    bench.write();
    bench.link.taken(1, bench.now, &mut bench.resolved);
    bench.link.disconnected("cut", &mut bench.resolved);
    assert!(bench.link.may_resume());
    bench.link.connected(Some(1), bench.now, &mut bench.resolved);
    bench.link.handled(0, HandledCode::Ok, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Handled)]);
    assert!(!bench.link.may_resume());
}

#[test]
fn a_connection_that_brought_something_was_not_in_vain() {
    let mut bench = Bench::new(ours());
    for _ in 0..20 {
        bench.push(SendOptions::ACK);
    }
    for taken in 1..=10 {
        bench.write();
        // The peer told of each before the connection broke, and has nothing to add when asked.
        bench.link.taken(taken, bench.now, &mut bench.resolved);
        bench.link.disconnected("cut", &mut bench.resolved);
        bench.link.connected(Some(taken), bench.now, &mut bench.resolved);
        assert_eq!(bench.outcomes(), [Ok(Delivery::Acknowledged)]);
    }
}

#[test]
fn what_waits_to_be_sent_again_outlasts_a_deadline() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::NONE);
    bench.push(SendOptions::ACK);
    bench.write();
    bench.flushed();
    bench.link.disconnected("cut", &mut bench.resolved);
    // What was said to be sent did not arrive; before it is written again, a deadline passes.
    bench.link.connected(Some(0), bench.now, &mut bench.resolved);
    bench.link.expire(Time::from_millis(5000), &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Ok(Delivery::Sent), Err(FaultKind::Timeout(TIMEOUT))]);
    assert_eq!(bench.write(), [0]);
}

#[test]
fn bytes_that_are_said_to_be_written_after_all_has_failed_count_for_nothing() {
    let mut bench = Bench::new(ours());
    bench.push(SendOptions::ACK);
    let mut pieces = Vec::with_capacity(64);
    let in_hand = bench.link.next_write(1 << 20, bench.now, &mut pieces);
    bench.link.fail_all(&FaultKind::Left, 8, &mut bench.resolved);
    bench.link.wrote(in_hand, bench.now, &mut bench.resolved);
    assert_eq!(bench.outcomes(), [Err(FaultKind::Left)]);
    assert!(bench.write().is_empty());
}

/// The sender over streams of the test's own.
mod shell {
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tribes_core::{Channel, Interest, MembershipService, Outbound, SendError, SendOptions};
    use tribes_core::{ChannelInterceptor, Next};

    use crate::receiver::TcpReceiver;
    use crate::sender::{Connect, PooledParallelSender, SenderConfig};
    use crate::stream::{ByteStream, Connector};
    use crate::testing::{ByHand, config, java, soon};

    /// All streams that were made, and what was written to each.
    #[derive(Debug, Default)]
    struct Streams {
        written: Mutex<Vec<Vec<u8>>>,
        reader: Mutex<Option<Waker>>,
        /// The next read of this stream blocks until `release`, and finds the end.
        hold: AtomicUsize,
        inside: AtomicBool,
        release: AtomicBool,
        /// Takes only ten bytes in this time, if it is not zero.
        takes: Mutex<Duration>,
        /// Connecting takes so long.
        slow: Mutex<Duration>,
    }

    #[derive(Debug)]
    struct Streamer(Arc<Streams>);

    struct Stream(Arc<Streams>, usize, Option<Pin<Box<tokio::time::Sleep>>>);

    #[async_trait]
    impl Connector for Streamer {
        async fn connect(&self, _: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
            let slow = *self.0.slow.lock().unwrap();
            if !slow.is_zero() {
                tokio::time::sleep(slow).await;
            }
            let mut written = self.0.written.lock().unwrap();
            written.push(Vec::new());
            Ok(Box::new(Stream(Arc::clone(&self.0), written.len(), None)))
        }
    }

    impl AsyncRead for Stream {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let streams = &self.0;
            if streams.hold.load(Ordering::SeqCst) == self.1 {
                streams.inside.store(true, Ordering::SeqCst);
                while !streams.release.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                return Poll::Ready(Ok(()));
            }
            *streams.reader.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let takes = *self.0.takes.lock().unwrap();
            if !takes.is_zero() {
                let pause = self.2.get_or_insert_with(|| Box::pin(tokio::time::sleep(takes)));
                std::task::ready!(pause.as_mut().poll(cx));
                self.2 = None;
                let count = bytes.len().min(10);
                self.0.written.lock().unwrap()[self.1 - 1].extend_from_slice(&bytes[..count]);
                return Poll::Ready(Ok(count));
            }
            self.0.written.lock().unwrap()[self.1 - 1].extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn channel(streams: &Arc<Streams>, layer: Option<Dawdles>) -> Channel {
        let membership = Arc::new(ByHand::default());
        let sender = SenderConfig { connect: Connect::Lazy, ..SenderConfig::default() };
        let mut builder = Channel::builder()
            .sender(PooledParallelSender::with_connector(sender, Arc::new(Streamer(Arc::clone(streams)))))
            .receiver(TcpReceiver::new(config()).unwrap())
            .membership_shared(membership as Arc<dyn MembershipService>)
            .heartbeat(None)
            .drain(Duration::from_millis(100));
        if let Some(layer) = layer {
            builder = builder.interceptor(layer);
        }
        let channel = builder.build().unwrap();
        channel.start().await.unwrap();
        channel
    }

    fn times(text: &str, bytes: &[u8]) -> usize {
        bytes.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
    }

    /// A caller that has bytes in hand while the connection is replaced must not write them to the new one.
    #[test]
    fn a_batch_goes_into_its_own_connection_only() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let streams = Arc::new(Streams::default());
        let channel = runtime.block_on(channel(&streams, None));
        for round in 0..2_000_u16 {
            let to = java(10_000 + round);
            let first = runtime.block_on(channel.send_with(&to, "first", SendOptions::NONE)).unwrap();
            assert!(runtime.block_on(soon("the first", first)).is_complete());
            let id = streams.written.lock().unwrap().len();
            streams.release.store(false, Ordering::SeqCst);
            streams.inside.store(false, Ordering::SeqCst);
            streams.hold.store(id, Ordering::SeqCst);
            while !streams.inside.load(Ordering::SeqCst) {
                // The task reads, holding the stream.
                if let Some(waker) = streams.reader.lock().unwrap().take() {
                    waker.wake();
                }
                std::thread::yield_now();
            }
            let text = format!("second-{round};");
            let caller = std::thread::spawn({
                let (channel, to, text, handle) = (channel.clone(), to.clone(), text.clone(), runtime.handle().clone());
                move || {
                    let _in = handle.enter();
                    channel.try_send(&to, text, SendOptions::NONE).unwrap()
                }
            });
            std::thread::sleep(Duration::from_micros(300));
            streams.release.store(true, Ordering::SeqCst);
            let second = caller.join().unwrap();
            assert!(runtime.block_on(soon("the second", second)).is_complete());
            for (id, bytes) in streams.written.lock().unwrap().iter().enumerate() {
                assert!(times(&text, bytes) < 2, "round {round}: twice on stream {id}");
            }
            if round % 100 == 0 {
                streams.written.lock().unwrap().iter_mut().for_each(Vec::clear);
            }
        }
        runtime.block_on(channel.stop());
    }

    /// Holds each message for a while.
    #[derive(Debug)]
    struct Dawdles(Duration);

    #[async_trait]
    impl ChannelInterceptor for Dawdles {
        fn name(&self) -> &'static str {
            "dawdles"
        }
        fn interest(&self) -> Interest {
            Interest::SEND
        }
        async fn send(&self, out: Outbound, next: Next<'_>) -> Result<(), SendError> {
            tokio::time::sleep(self.0).await;
            next.send(out).await
        }
    }

    /// The timeout counts from when the sender accepted a message, however long a layer above has kept it.
    #[tokio::test(start_paused = true)]
    async fn what_a_layer_kept_for_long_has_its_whole_time() {
        let streams = Arc::new(Streams::default());
        *streams.slow.lock().unwrap() = Duration::from_millis(10);
        let channel = channel(&streams, Some(Dawdles(Duration::from_secs(4)))).await;
        // Zero is no time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let pending = channel.send_with(&java(10_000), "late", SendOptions::NONE).await.unwrap();
        let outcome = pending.await;
        assert!(outcome.is_complete(), "{outcome:?}");
    }

    /// A member outside the group that is sent to all the time keeps its connection.
    #[tokio::test(start_paused = true)]
    async fn an_outsider_in_use_is_not_idle() {
        let streams = Arc::new(Streams::default());
        let channel = channel(&streams, None).await;
        for _ in 0..100 {
            assert!(channel.send_with(&java(10_000), "x", SendOptions::NONE).await.unwrap().await.is_complete());
            tokio::time::sleep(Duration::from_secs(1)).await;
            channel.heartbeat().await;
        }
        assert_eq!(streams.written.lock().unwrap().len(), 1);
    }

    /// Bytes that a member takes are progress at the time at which it takes them.
    #[tokio::test(start_paused = true)]
    async fn a_slow_member_that_takes_bytes_in_time_gets_them_all() {
        let streams = Arc::new(Streams::default());
        let channel = channel(&streams, None).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        *streams.takes.lock().unwrap() = Duration::from_secs(2);
        let outcome = channel.send_with(&java(10_000), "x", SendOptions::NONE).await.unwrap().await;
        assert!(outcome.is_complete(), "{outcome:?}");
    }
}
