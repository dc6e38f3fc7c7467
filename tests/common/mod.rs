//! What the tests over real sockets share: a membership that says who is there, and a proxy that cuts connections.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "real time and tasks; the figures are part of what they show"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tribes_core::{
    BoxError, Channel, ChannelBuilder, Departure, Member, MemberEvent, MembershipContext, MembershipService, Services,
};
use tribes_interceptors::{MessageDispatch, TcpFailureDetector};
use tribes_transports::{PooledParallelSender, ReceiverConfig, SenderConfig, TcpReceiver};

/// Generous: a machine at full load must not fail a test that waits for an event.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, or fails the test saying what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// A membership that is told by the test who is there.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Option<MembershipContext>>>);

impl Roster {
    pub fn add(&self, member: &Arc<Member>) {
        self.raise(MemberEvent::Added(Arc::clone(member)));
    }

    pub fn remove(&self, member: &Arc<Member>) {
        self.raise(MemberEvent::Removed(Arc::clone(member), Departure::Shutdown));
    }

    fn raise(&self, event: MemberEvent) {
        let link = self.0.lock().unwrap().as_ref().expect("the channel is started").link.clone();
        link.member_event(event);
    }
}

#[async_trait]
impl MembershipService for Roster {
    fn name(&self) -> &'static str {
        "roster"
    }

    async fn start(&self, _: Services, context: MembershipContext) -> Result<(), BoxError> {
        *self.0.lock().unwrap() = Some(context);
        Ok(())
    }

    async fn stop(&self, _: Services) {}
}

/// A channel on free ports of loopback, with Tomcat's layers, and its roster.
pub async fn node() -> (Channel, Roster) {
    node_with(|builder| builder, SenderConfig::default()).await
}

/// As [`node`], changed by `change`.
pub async fn node_with(
    change: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    sender: SenderConfig,
) -> (Channel, Roster) {
    let roster = Roster::default();
    let builder = Channel::builder()
        .interceptor(MessageDispatch::default())
        .interceptor(TcpFailureDetector::default())
        .sender(PooledParallelSender::new(sender))
        .receiver(TcpReceiver::new(ReceiverConfig::default().with_port(0)).unwrap())
        .membership(roster.clone());
    let channel = change(builder).build().unwrap();
    channel.start().await.unwrap();
    (channel, roster)
}

/// `count` channels that know each other.
pub async fn group(count: usize) -> Vec<Channel> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node().await);
    }
    for (channel, roster) in &nodes {
        for (other, _) in &nodes {
            if other.local() != channel.local() {
                roster.add(&other.local());
            }
        }
    }
    for (channel, _) in &nodes {
        within("everybody to see everybody", channel.view_when(|view| view.len() == count - 1)).await;
    }
    nodes.into_iter().map(|(channel, _)| channel).collect()
}

/// `member` as it is reached through `addr`.
pub fn via(member: &Member, addr: SocketAddr) -> Arc<Member> {
    Arc::new(Member::new(member.id(), addr).with_domain(member.domain().clone()))
}

/// Forwards connections to `target`, and cuts all that are open when told to.
#[derive(Debug)]
pub struct Proxy {
    pub addr: SocketAddr,
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cut = watch::Sender::new(0);
        let cuts = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut inbound, _)) = listener.accept().await {
                let mut cuts = cuts.subscribe();
                tokio::spawn(async move {
                    let Ok(mut outbound) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound) => {}
                        _ = cuts.changed() => {
                            // As a cable that is pulled: what is in the buffers is lost.
                            inbound.set_zero_linger().unwrap();
                            outbound.set_zero_linger().unwrap();
                        }
                    }
                });
            }
        });
        Self { addr, cut }
    }

    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

/// A numbered body of `len` bytes (at least 8).
pub fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(len.max(8), 0xA5);
    body
}

/// The number of a body made by [`numbered`].
pub fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

/// The golden cases of damaged input for `entry` (`stream`, `member`): the name of each and its pieces.
pub fn malformed(entry: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/core/tests/vectors/malformed.json");
    let vectors: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let cases = vectors["cases"].as_array().unwrap().iter().filter(|case| case["entry"] == entry);
    cases
        .map(|case| {
            let pieces = match case["reads"].as_array() {
                Some(reads) => reads.iter().map(|read| hex(read.as_str().unwrap())).collect(),
                None => vec![hex(case["input"].as_str().unwrap())],
            };
            (case["case"].as_str().unwrap().to_owned(), pieces)
        })
        .collect()
}
