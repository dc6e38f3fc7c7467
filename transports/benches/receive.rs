//! What receiving costs: another process floods one channel over loopback, and this one's processor time is divided by the
//! messages that its listener got.
//!
//! `cargo bench -p tribes-transports --bench receive -- [simple|batch|pend|sync] [BYTES] [MESSAGES]`; without arguments
//! everything once. `pend` is a listener that waits once for each message, `sync` asks for synchronized acknowledgements.
//! The last line is the time from a message with `ack` to its answer, one at a time.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures real time and tells it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench fails so"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tribes_core::wire::{self, Control, Frame, FrameDecoder, Limits, LinkKind};
use tribes_core::{
    Batch, BoxError, Channel, ChannelListener, ChannelMessage, ChannelSender, Env, Link, Member, MemberId,
    MembershipContext, MembershipService, Message, MessageId, Outbound, ProbeResult, SendError, SendOptions, Services,
    Time, async_trait,
};
use tribes_transports::{ReceiverConfig, TcpReceiver};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "feed") {
        return feed(&args[1..]);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match &args[..] {
        [] => {
            for how in ["simple", "batch", "pend", "sync"] {
                for size in [100, 1024] {
                    runtime.block_on(flood(how, size, 2_000_000));
                }
            }
            runtime.block_on(flood("simple", 1 << 20, 5_000));
            runtime.block_on(answers());
        }
        [how] if how == "answers" => runtime.block_on(answers()),
        [how, size, count] => runtime.block_on(flood(how, size.parse().unwrap(), count.parse().unwrap())),
        _ => panic!("see the head of this file"),
    }
}

/// Counts, and takes part in nothing else.
struct Counter {
    how: &'static str,
    count: AtomicU64,
    expected: u64,
    all: Notify,
}

impl Counter {
    fn add(&self, count: usize) {
        if self.count.fetch_add(count as u64, Ordering::Relaxed) + count as u64 == self.expected {
            self.all.notify_one();
        }
    }
}

struct Shared(Arc<Counter>);

#[async_trait]
impl ChannelListener for Shared {
    async fn message_received(&self, _: Message, _: &Arc<Member>) -> Result<(), BoxError> {
        if self.0.how == "pend" {
            tokio::task::yield_now().await;
        }
        self.0.add(1);
        Ok(())
    }
    fn takes_batches(&self) -> bool {
        self.0.how == "batch"
    }
    async fn batch_received(&self, batch: &mut Batch<'_>, _: &Arc<Member>) {
        self.0.add(batch.messages().len());
    }
}

async fn receiver() -> Channel {
    let channel = Channel::builder()
        .sender(Nothing)
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(Nothing)
        .build()
        .unwrap();
    channel.start().await.unwrap();
    channel
}

async fn flood(how: &str, size: usize, expected: u64) {
    let how = ["simple", "batch", "pend", "sync"].into_iter().find(|known| *known == how).expect("an unknown listener");
    let channel = receiver().await;
    let counter = Arc::new(Counter { how, count: AtomicU64::new(0), expected, all: Notify::new() });
    let _listener = channel.listen(Shared(Arc::clone(&counter)));
    let (cpu, start) = (cpu(), Instant::now());
    let mut feeder = feeder(&channel, if how == "sync" { "sync" } else { "none" }, size, expected);
    counter.all.notified().await;
    let (cpu, took) = (self::cpu().saturating_sub(cpu), start.elapsed());
    let per = |time: Duration| time.as_secs_f64() / expected as f64 * 1e6;
    println!(
        "{how:>6} {size:>8} B: {:>9.0} messages/s, {:.3} µs of this process each, at most {} KiB resident",
        expected as f64 / took.as_secs_f64(),
        per(cpu),
        status("VmHWM"),
    );
    feeder.wait().unwrap();
    channel.stop().await;
}

async fn answers() {
    let channel = receiver().await;
    let _listener = channel.on_message(|_, _| async { Ok(()) });
    for mode in ["ping-ack", "ping-sync"] {
        let mut feeder = feeder(&channel, mode, 1024, 20_000);
        tokio::task::spawn_blocking(move || feeder.wait()).await.unwrap().unwrap();
    }
    channel.stop().await;
}

fn feeder(channel: &Channel, mode: &str, size: usize, count: u64) -> Child {
    let local = channel.local();
    let id: String = local.id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["feed", mode, &local.addr().unwrap().to_string(), &id, &size.to_string(), &count.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Processor time of this process. The kernel counts in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The other process: one of ours, by hand, with frames made beforehand.
fn feed(args: &[String]) {
    let [mode, addr, id, size, count] = args else { panic!("feed MODE ADDR ID BYTES MESSAGES") };
    let byte = |at: usize| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap();
    let expected = MemberId::from_bytes(std::array::from_fn(byte));
    let (size, count): (usize, u64) = (size.parse().unwrap(), count.parse().unwrap());
    let env = Env::real();
    let own = Arc::new(Member::new(MemberId::generate(&env).unwrap(), SocketAddr::from(([127, 0, 0, 1], 9))));
    let options = match mode.as_str() {
        "none" => SendOptions::NONE,
        "ping-ack" => SendOptions::ACK,
        _ => SendOptions::SYNC_ACK,
    };
    let mut stream = TcpStream::connect(addr.parse::<SocketAddr>().unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = BytesMut::new();
    let hello = Control::Hello {
        revision: 1,
        capabilities: 0,
        kind: LinkKind::Data,
        own: Box::new(own.as_ref().clone()),
        expected,
        session: env.random(),
    };
    hello.encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    let mut answers = Answers { stream: stream.try_clone().unwrap(), decoder: FrameDecoder::new(Limits::default()) };
    assert!(matches!(answers.next(), Some(Control::Welcome { .. })));
    bytes.clear();
    let message = ChannelMessage {
        options: options | SendOptions::BYTE_MESSAGE,
        timestamp_ms: env.wall_ms(),
        id: MessageId::generate(&env),
        sender: own,
        body: Bytes::from(vec![7; size]).into(),
    };
    wire::encode_frame(&message, &mut bytes);
    if mode.starts_with("ping") {
        return ping(mode, stream, answers, &bytes, count);
    }
    let at_once = (64 << 10) / bytes.len() + 1;
    let chunk = bytes.repeat(at_once);
    let reading = std::thread::spawn(move || while answers.next().is_some() {});
    let mut left = count;
    while left > 0 {
        let now = left.min(at_once as u64);
        stream.write_all(&chunk[..usize::try_from(now).unwrap() * bytes.len()]).unwrap();
        left -= now;
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    reading.join().unwrap();
}

fn ping(mode: &str, mut stream: TcpStream, mut answers: Answers, frame: &[u8], count: u64) {
    let mut times = Vec::new();
    for number in 0..count {
        let start = Instant::now();
        stream.write_all(frame).unwrap();
        loop {
            match answers.next().unwrap() {
                Control::Taken { count } if mode == "ping-ack" && count == number + 1 => break,
                Control::Handled { seq, .. } if mode == "ping-sync" && seq == number => break,
                _ => {}
            }
        }
        times.push(start.elapsed());
    }
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{mode}: p50 {:?}, p99 {:?}", at(50), at(99));
}

struct Answers {
    stream: TcpStream,
    decoder: FrameDecoder,
}

impl Answers {
    fn next(&mut self) -> Option<Control> {
        loop {
            match self.decoder.next().unwrap() {
                Some(Frame::Control(contents)) => return Some(Control::decode(&contents, &Limits::default()).unwrap()),
                Some(other) => panic!("{other:?}"),
                None => {}
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.decoder.extend(&buffer[..count]),
                _ => return None,
            }
        }
    }
}

/// Sender and membership of a channel that only receives.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl ChannelSender for Nothing {
    async fn start(&self, _: Arc<Member>, _: Link) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Time) {}
    async fn send(&self, _: Outbound) -> Result<(), SendError> {
        Err(SendError::Stopped)
    }
    async fn probe(&self, _: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Unreachable
    }
}

#[async_trait]
impl MembershipService for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
        Ok(())
    }
    async fn stop(&self, _: Services) {}
}
