//! A channel whose network is nothing, so that only the pipeline is measured: what is sent is delivered at once, to nobody
//! or straight into another such channel; what comes up ends at the top, before any queue.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::runtime::Runtime;
use tribes::{
    BoxError, Channel, ChannelMessage, ChannelReceiver, ChannelSender, Delivery, Endpoint, Gauge, Inbound, Layer,
    Lease, Link, Member, MemberId, MembershipContext, MembershipService, Outbound, ProbeResult, Receipt, Route,
    SendError, Services, Time, To,
};

/// Ours, and the same in each run.
pub(crate) const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 0x81, 8, 0x80, 0x54, 0x52, 0x53, 13, 14, 15, 16];

/// A started channel with these layers that sends to nobody.
pub(crate) fn channel(runtime: &Runtime, layers: impl IntoIterator<Item = Layer>, telemetry: bool) -> Channel {
    start(runtime, ID, layers, telemetry, Wire::default(), Wire::default())
}

/// Where all of them are: none listens there.
const PORT: u16 = 4000;
/// The id of whoever is sent to.
const OTHER: [u8; 16] = [16, 15, 14, 13, 5, 6, 0x81, 8, 0x80, 0x54, 0x52, 0x53, 4, 3, 2, 1];

/// A started channel with the first layers that sends straight into one with the second ones, and back; keep both.
pub(crate) fn pair(
    runtime: &Runtime,
    down: impl IntoIterator<Item = Layer>,
    up: impl IntoIterator<Item = Layer>,
) -> (Channel, Channel) {
    let (there, back) = (Wire::default(), Wire::default());
    let receiver = start(runtime, OTHER, up, true, back.clone(), there.clone());
    let sender = start(runtime, ID, down, true, there, back);
    (sender, receiver)
}

/// Somebody to send to: of our own kind, and never asked.
pub(crate) fn target() -> To {
    To::from(Arc::new(Member::new(MemberId::from_bytes(OTHER), (Ipv4Addr::LOCALHOST, PORT).into())))
}

fn start(
    runtime: &Runtime,
    id: [u8; 16],
    layers: impl IntoIterator<Item = Layer>,
    telemetry: bool,
    to: Wire,
    from: Wire,
) -> Channel {
    let builder = Channel::builder()
        .id(MemberId::from_bytes(id))
        .heartbeat(None)
        .telemetry(telemetry)
        .sender(NullSender(to))
        .receiver(NullReceiver(from))
        .membership(NullMembership::default());
    let channel = layers.into_iter().fold(builder, |builder, layer| builder.interceptor(layer)).build();
    let channel = channel.expect("all parts are there");
    runtime.block_on(channel.start()).expect("nothing here can fail to start");
    channel
}

/// The place below the layers of the channel that takes in what is sent; empty until it has started, or for ever.
type Wire = Arc<OnceLock<Link>>;

#[derive(Debug)]
struct NullSender(Wire);

#[async_trait]
impl ChannelSender for NullSender {
    async fn start(&self, _: Arc<Member>, _: Link) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&self, _: Time) {}

    fn is_prompt(&self) -> bool {
        self.0.get().is_none()
    }

    /// As a real sender: what goes nowhere needs no waiting.
    fn send_now(&self, out: Outbound) -> Result<Option<Outbound>, SendError> {
        if self.0.get().is_some() {
            return Ok(Some(out));
        }
        out.to.into_iter().for_each(|destination| destination.completion.deliver(Delivery::Sent));
        Ok(None)
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        if let Some(link) = self.0.get() {
            let msg = Inbound::new(out.message, Receipt::none(), Lease::none(), Route::Other);
            link.receive(msg).await.expect("the other side takes it");
        }
        for destination in out.to {
            destination.completion.deliver(Delivery::Sent);
        }
        Ok(())
    }

    async fn probe(&self, _: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        ProbeResult::Answered
    }
}

#[derive(Debug)]
struct NullReceiver(Wire);

#[async_trait]
impl ChannelReceiver for NullReceiver {
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError> {
        let _ = self.0.set(up);
        Ok(Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT))
    }

    async fn stop(&self, _: Time) {}
}

/// How many messages came up to the top of `channel`.
pub(crate) fn arrived(channel: &Channel) -> u64 {
    let stats = channel.stats();
    let gauges = stats.io.values().flatten();
    gauges.filter(|gauge| gauge.name == ARRIVED).map(|gauge| gauge.value).sum()
}

const ARRIVED: &str = "arrived";

#[derive(Debug, Default)]
struct NullMembership(AtomicU64);

#[async_trait]
impl MembershipService for NullMembership {
    fn name(&self) -> &'static str {
        "null"
    }

    async fn start(&self, _: Services, _: MembershipContext) -> Result<(), BoxError> {
        Ok(())
    }

    async fn stop(&self, _: Services) {}

    fn intercept(&self, _: &ChannelMessage) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn gauges(&self) -> Vec<Gauge> {
        vec![Gauge::new(ARRIVED, self.0.load(Ordering::Relaxed))]
    }
}
