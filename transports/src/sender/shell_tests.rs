//! The sender over streams of the test's own.

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
