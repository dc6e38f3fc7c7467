//! Doubles for tests: a real channel around one receiver, and peers written by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tribes_core::wire::{self, Control, Frame, FrameDecoder, Limits, LinkKind};
use tribes_core::{
    BoxError, Channel, ChannelListener, ChannelMessage, ChannelSender, Env, Link, ListenerHandle, Member, MemberEvent,
    MemberId, MembershipContext, MembershipService, Message, MessageId, Outbound, ProbeResult, SendError, SendOptions,
    Services, Time,
};

use crate::receiver::{ReceiverConfig, TcpReceiver};

/// Longest time that a test waits for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Waits for `future`, not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
}

/// A task of a test's own.
#[allow(clippy::disallowed_methods, reason = "tests play the part of other processes")]
pub(crate) fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(task)
}

/// A sender that sends nothing.
#[derive(Debug)]
pub(crate) struct NoSender;

#[async_trait]
impl ChannelSender for NoSender {
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

/// A membership service that a test works by hand; it records what it is told.
#[derive(Debug, Default)]
pub(crate) struct ByHand {
    link: Mutex<Option<Link>>,
    told: Mutex<Vec<String>>,
}

impl ByHand {
    pub(crate) fn raise(&self, event: MemberEvent) {
        self.link.lock().unwrap().as_ref().unwrap().member_event(event);
    }
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

#[async_trait]
impl MembershipService for ByHand {
    fn name(&self) -> &'static str {
        "by hand"
    }
    async fn start(&self, _: Services, context: MembershipContext) -> Result<(), BoxError> {
        *self.link.lock().unwrap() = Some(context.link);
        Ok(())
    }
    async fn stop(&self, _: Services) {}
    fn departed(&self, member: &Arc<Member>) {
        self.told.lock().unwrap().push(format!("departed {member}"));
    }
    fn heard_of(&self, member: &Arc<Member>) {
        self.told.lock().unwrap().push(format!("heard of {member}"));
    }
}

/// A started channel with a receiver. Its listener does what a message's body says:
/// `fail…` fails, `untaken…` is not accepted, `wait…` waits for [`Node::release`]; all others are taken.
pub(crate) struct Node {
    pub(crate) channel: Channel,
    pub(crate) membership: Arc<ByHand>,
    pub(crate) received: mpsc::UnboundedReceiver<Bytes>,
    gate: Arc<Semaphore>,
    _listener: ListenerHandle,
}

struct Obedient {
    received: mpsc::UnboundedSender<Bytes>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl ChannelListener for Obedient {
    fn accepts(&self, message: &Message, _: &Member) -> bool {
        !message.bytes().starts_with(b"untaken")
    }
    async fn message_received(&self, message: Message, _: &Arc<Member>) -> Result<(), BoxError> {
        if message.bytes().starts_with(b"wait") {
            self.gate.acquire().await.unwrap().forget();
        }
        let _ = self.received.send(message.bytes().clone());
        if message.bytes().starts_with(b"fail") { Err("told to fail".into()) } else { Ok(()) }
    }
}

/// A configuration for tests: any port of loopback.
pub(crate) fn config() -> ReceiverConfig {
    ReceiverConfig::default().with_port(0)
}

impl Node {
    pub(crate) async fn start(config: ReceiverConfig) -> Self {
        let node = Self::build(config);
        node.channel.start().await.unwrap();
        node
    }

    pub(crate) fn build(config: ReceiverConfig) -> Self {
        let membership = Arc::new(ByHand::default());
        let channel = Channel::builder()
            .sender(NoSender)
            .receiver(TcpReceiver::new(config).unwrap())
            .membership_shared(Arc::clone(&membership) as Arc<dyn MembershipService>)
            .drain(Duration::from_secs(2))
            .build()
            .unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let listener = channel.listen(Obedient { received: sender, gate: Arc::clone(&gate) });
        Self { channel, membership, received, gate, _listener: listener }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.channel.local().addr().unwrap()
    }

    pub(crate) fn id(&self) -> MemberId {
        self.channel.local().id()
    }

    /// Lets `count` waiting messages go on.
    pub(crate) fn release(&self, count: usize) {
        self.gate.add_permits(count);
    }

    pub(crate) async fn next(&mut self) -> Bytes {
        soon("a message", self.received.recv()).await.unwrap()
    }

    pub(crate) fn gauges(&self) -> BTreeMap<&'static str, u64> {
        self.channel.stats().io["receiver"].iter().map(|gauge| (gauge.name, gauge.value)).collect()
    }

    pub(crate) fn gauge(&self, name: &str) -> u64 {
        *self.gauges().get(name).unwrap_or_else(|| panic!("no gauge {name}"))
    }

    /// Waits until `name` is `value`.
    pub(crate) async fn gauge_is(&self, name: &str, value: u64) {
        let end = tokio::time::Instant::now() + LIMIT;
        while self.gauge(name) != value {
            assert!(
                tokio::time::Instant::now() < end,
                "{name} is {}, not {value}: {:?}",
                self.gauge(name),
                self.gauges()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes `member` one of the group.
    pub(crate) async fn add(&self, member: &Arc<Member>) {
        self.membership.raise(MemberEvent::Added(Arc::clone(member)));
        soon("the member in the view", self.channel.view_when(|view| view.contains(member))).await;
    }
}

/// A member as a Java node describes itself.
pub(crate) fn java(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::from_bytes([7; 16]), ([127, 0, 0, 1], port).into()))
}

/// A member of ours.
pub(crate) fn ours(port: u16) -> Arc<Member> {
    Arc::new(Member::new(MemberId::generate(&Env::real()).unwrap(), ([127, 0, 0, 1], port).into()))
}

/// A message's frame.
pub(crate) fn frame(sender: &Arc<Member>, options: SendOptions, body: impl Into<Bytes>) -> Bytes {
    let message = ChannelMessage {
        options: options | SendOptions::BYTE_MESSAGE,
        timestamp_ms: 0,
        id: MessageId::generate(&Env::real()),
        sender: Arc::clone(sender),
        body: body.into().into(),
    };
    let mut frame = BytesMut::new();
    wire::encode_frame(&message, &mut frame);
    frame.freeze()
}

/// A peer by hand, over TCP.
pub(crate) struct Wire {
    stream: TcpStream,
    decoder: FrameDecoder,
}

impl Wire {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(addr)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, decoder: FrameDecoder::new(Limits::default()) }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon("room to write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// As [`write`](Self::write), to one that may have closed.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("room to write", self.stream.write_all(bytes)).await
    }

    pub(crate) async fn message(&mut self, sender: &Arc<Member>, options: SendOptions, body: impl Into<Bytes>) {
        self.write(&frame(sender, options, body)).await;
    }

    pub(crate) async fn control(&mut self, control: &Control) {
        let mut bytes = BytesMut::new();
        control.encode(&mut bytes);
        self.write(&bytes).await;
    }

    /// The next frame; `None` if the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame);
            }
            match soon("a frame", self.stream.read_buf(self.decoder.buffer_mut())).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    /// Whether the next frame is a positive acknowledgement.
    pub(crate) async fn ack(&mut self) -> bool {
        match self.next().await {
            Some(Frame::Ack) => true,
            Some(Frame::FailAck) => false,
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    pub(crate) async fn next_control(&mut self) -> Option<Control> {
        match self.next().await? {
            Frame::Control(contents) => Some(Control::decode(&contents, &Limits::default()).unwrap()),
            other => panic!("{other:?} instead of a control frame"),
        }
    }

    /// The next control frame that is not a count of taken ones.
    pub(crate) async fn next_but_taken(&mut self) -> Control {
        loop {
            match self.next_control().await.expect("the connection was closed") {
                Control::Taken { .. } => {}
                other => return other,
            }
        }
    }

    /// Waits until `count` frames of the session are said to be taken.
    pub(crate) async fn taken(&mut self, count: u64) {
        loop {
            match self.next_control().await.expect("the connection was closed") {
                Control::Taken { count: now } if now == count => return,
                Control::Taken { count: now } => assert!(now < count, "{now} taken instead of {count}"),
                other => panic!("{other:?} instead of a count"),
            }
        }
    }

    /// Says hello and returns the answer.
    pub(crate) async fn hello(&mut self, kind: LinkKind, own: &Member, expected: MemberId, session: u64) -> Control {
        self.say_hello(kind, own, expected, session).await;
        self.next_control().await.expect("closed instead of an answer to the hello")
    }

    pub(crate) async fn say_hello(&mut self, kind: LinkKind, own: &Member, expected: MemberId, session: u64) {
        let own = Box::new(own.clone());
        self.control(&Control::Hello { revision: 1, capabilities: 0, kind, own, expected, session }).await;
    }

    /// A welcome data connection, and how much of its session was taken.
    pub(crate) async fn open(node: &Node, own: &Member, session: u64) -> (Self, Option<u64>) {
        let mut wire = Self::connect(node.addr()).await;
        match wire.hello(LinkKind::Data, own, node.id(), session).await {
            Control::Welcome { own, session: named, taken, .. } => {
                assert_eq!((own, named), (node.id(), session));
                (wire, taken)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it is closed, without a byte before.
    pub(crate) async fn closed_silently(mut self) {
        assert_eq!(self.next().await, None);
        assert_eq!(self.decoder.pending(), 0);
    }

    /// Ends this side.
    pub(crate) async fn shutdown(&mut self) {
        self.stream.shutdown().await.unwrap();
    }
}
