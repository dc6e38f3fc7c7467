//! A channel whose network is nothing, so that only the pipeline is measured: what is sent is delivered at once, to nobody
//! or straight into another such channel; what comes up ends at the top, before any queue.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::runtime::Runtime;
use tribes::{
    BoxError, Channel, ChannelMessage, ChannelReceiver, ChannelSender, Delivery, Endpoint, Inbound, Layer, Lease, Link,
    Member, MemberId, MembershipContext, MembershipService, Outbound, ProbeResult, Receipt, Route, SendError, Services,
    Time, To,
};

/// Ours, and the same in each run.
pub(crate) const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 0x81, 8, 0x80, 0x54, 0x52, 0x53, 13, 14, 15, 16];

/// A started channel with these layers that sends to nobody.
pub(crate) fn channel(runtime: &Runtime, layers: impl IntoIterator<Item = Layer>, telemetry: bool) -> Channel {
    start(runtime, layers, telemetry, Wire::default(), Wire::default())
}

/// A started channel with the first layers that sends straight into one with the second ones; keep both.
pub(crate) fn pair(
    runtime: &Runtime,
    down: impl IntoIterator<Item = Layer>,
    up: impl IntoIterator<Item = Layer>,
) -> (Channel, Channel) {
    let wire = Wire::default();
    let receiver = start(runtime, up, true, Wire::default(), wire.clone());
    let sender = start(runtime, down, true, wire, Wire::default());
    (sender, receiver)
}

/// Somebody to send to: of our own kind, and never asked.
pub(crate) fn target() -> To {
    To::from(Arc::new(Member::new(MemberId::from_bytes(ID), (Ipv4Addr::LOCALHOST, 4000).into())))
}

fn start(runtime: &Runtime, layers: impl IntoIterator<Item = Layer>, telemetry: bool, to: Wire, from: Wire) -> Channel {
    let builder = Channel::builder()
        .id(MemberId::from_bytes(ID))
        .heartbeat(None)
        .telemetry(telemetry)
        .sender(NullSender(to))
        .receiver(NullReceiver(from))
        .membership(NullMembership);
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
        Ok(Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1))
    }

    async fn stop(&self, _: Time) {}
}

#[derive(Debug)]
struct NullMembership;

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
        true
    }
}
