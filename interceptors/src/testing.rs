//! Doubles below the stack, for the tests of all layers: a wire that records, a membership service and a receiver that say
//! what the test says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tribes_core::message::ChannelMessage;
use tribes_core::{
    BoxError, Channel, ChannelBuilder, ChannelReceiver, ChannelSender, Delivery, Endpoint, Fault, FaultKind, Link,
    Member, MemberEvent, MemberId, MembershipContext, MembershipService, Outbound, ProbeResult, SendError, SendOptions,
    Services, Time,
};

/// Collects what a subscriber writes.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The `number`th member; its port is its number.
pub(crate) fn member(number: u16) -> Arc<Member> {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    Arc::new(Member::new(MemberId::from_bytes(id), ([127, 0, 0, 1], number).into()))
}

/// The same, of our own kind.
pub(crate) fn member_of_ours(number: u16) -> Arc<Member> {
    let mut id = *b"......\x81.\x80TRS....";
    id[..2].copy_from_slice(&number.to_be_bytes());
    Arc::new(Member::new(MemberId::from_bytes(id), ([127, 0, 0, 1], number).into()))
}

/// What the wire took for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) port: i32,
    pub(crate) body: Bytes,
    pub(crate) options: SendOptions,
    /// The task that handed it over.
    pub(crate) by: Option<tokio::task::Id>,
}

/// A scripted sender.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) taken: Mutex<Vec<Taken>>,
    /// Members (by port) for which nothing is accepted at present.
    blocked: watch::Sender<BTreeSet<i32>>,
    /// Members (by port) that fail, and how.
    pub(crate) faults: Mutex<BTreeMap<i32, FaultKind>>,
    /// What probes find, and after how long; answered at once if nothing is said.
    pub(crate) answers: Mutex<BTreeMap<i32, (ProbeResult, Duration)>>,
    pub(crate) probed: Mutex<Vec<(i32, Option<ChannelMessage>, Time)>>,
    /// With it each acceptance takes a random while.
    pub(crate) jitter: Mutex<Option<fastrand::Rng>>,
    link: OnceLock<Link>,
}

impl Wire {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            blocked: watch::Sender::default(),
            faults: Mutex::default(),
            answers: Mutex::default(),
            probed: Mutex::default(),
            jitter: Mutex::default(),
            link: OnceLock::new(),
        })
    }

    pub(crate) fn block(&self, port: i32) {
        self.blocked.send_if_modified(|blocked| blocked.insert(port));
    }

    pub(crate) fn unblock(&self, port: i32) {
        self.blocked.send_if_modified(|blocked| blocked.remove(&port));
    }

    pub(crate) fn answer(&self, port: i32, result: ProbeResult, after: Duration) {
        self.answers.lock().unwrap().insert(port, (result, after));
    }

    /// Bodies taken for the member, in order.
    pub(crate) fn bodies(&self, port: i32) -> Vec<Bytes> {
        self.taken.lock().unwrap().iter().filter(|taken| taken.port == port).map(|taken| taken.body.clone()).collect()
    }

    async fn dawdle(&self) {
        let chance = self.jitter.lock().unwrap().as_mut().map(|rng| rng.u32(..4096));
        match chance {
            Some(0) => tokio::time::sleep(Duration::from_millis(3)).await,
            Some(1..64) => tokio::task::yield_now().await,
            _ => {}
        }
    }
}

#[derive(Debug)]
struct WireSender(Arc<Wire>);

#[async_trait]
impl ChannelSender for WireSender {
    async fn start(&self, _: Arc<Member>, up: Link) -> Result<(), BoxError> {
        let _ = self.0.link.set(up);
        Ok(())
    }

    async fn stop(&self, _: Time) {}

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let wire = &self.0;
        let (body, options) = (out.message.body.to_bytes(), out.message.options);
        for destination in out.to {
            let port = destination.member().port();
            let mut blocked = wire.blocked.subscribe();
            blocked.wait_for(|blocked| !blocked.contains(&port)).await.unwrap();
            wire.dawdle().await;
            wire.taken.lock().unwrap().push(Taken { port, body: body.clone(), options, by: tokio::task::try_id() });
            let fault = wire.faults.lock().unwrap().get(&port).cloned();
            destination.completion.resolve(fault.map_or(Ok(Delivery::Acknowledged), Err));
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, frame: Option<ChannelMessage>, deadline: Time) -> ProbeResult {
        let wire = &self.0;
        let env = wire.link.get().unwrap().env().clone();
        wire.probed.lock().unwrap().push((member.port(), frame, env.now()));
        let answer = wire.answers.lock().unwrap().get(&member.port()).copied();
        let (result, after) = answer.unwrap_or((ProbeResult::Answered, Duration::ZERO));
        if result == ProbeResult::TimedOut {
            env.sleep_until(deadline).await;
        } else if !after.is_zero() {
            env.sleep(after).await;
        }
        result
    }
}

/// A membership service and receiver that say what the test says.
#[derive(Debug, Default)]
pub(crate) struct Below(OnceLock<Link>);

impl Below {
    /// The place below the last layer.
    pub(crate) fn link(&self) -> &Link {
        self.0.get().unwrap()
    }

    pub(crate) fn raise(&self, event: MemberEvent) {
        self.link().member_event(event);
    }
}

#[async_trait]
impl MembershipService for Below {
    fn name(&self) -> &'static str {
        "double"
    }

    async fn start(&self, _: Services, context: MembershipContext) -> Result<(), BoxError> {
        let _ = self.0.set(context.link);
        Ok(())
    }

    async fn stop(&self, _: Services) {}
}

#[derive(Debug)]
struct NoReceiver;

#[async_trait]
impl ChannelReceiver for NoReceiver {
    async fn start(&self, _: Link) -> Result<Endpoint, BoxError> {
        Ok(Endpoint::new([127, 0, 0, 1].into(), 65_535))
    }

    async fn stop(&self, _: Time) {}
}

/// A started channel between doubles.
pub(crate) struct World {
    pub(crate) channel: Channel,
    pub(crate) wire: Arc<Wire>,
    pub(crate) below: Arc<Below>,
}

impl World {
    /// A channel that `build` adds its layers to. There is no heartbeat unless a test calls for it.
    pub(crate) async fn start(build: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> Self {
        let (wire, below) = (Wire::new(), Arc::new(Below::default()));
        let builder = Channel::builder()
            .sender(WireSender(Arc::clone(&wire)))
            .receiver(NoReceiver)
            .membership_shared(Arc::clone(&below) as Arc<dyn MembershipService>)
            .heartbeat(None);
        let channel = build(builder).build().unwrap();
        channel.start().await.unwrap();
        Self { channel, wire, below }
    }

    /// A gauge of the first layer.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        let stats = self.channel.stats();
        stats.layers[0]
            .gauges
            .iter()
            .find(|gauge| gauge.name == name)
            .unwrap_or_else(|| panic!("no gauge {name}"))
            .value
    }
}

/// Lets everything happen that can happen without the clock.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The fault of the member with this port.
pub(crate) fn fault_of(faults: &[Fault], port: i32) -> Option<FaultKind> {
    faults.iter().find(|fault| fault.member.port() == port).map(|fault| fault.kind.clone())
}
