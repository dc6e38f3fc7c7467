//! Asynchronous sending (Tribes: `MessageDispatchInterceptor`).
//!
//! A message with the option `async` is queued for each of its members, and the send returns. Where nothing below may
//! wait, the queue is that of the transport: the message goes straight down, without a change of task. Otherwise, and under the policy that drops the oldest, it is queued here, and one task for each member hands its
//! messages to the layer below, one after another; that returns when it has *accepted* a message, so acknowledgements
//! overlap.
//!
//! # Guarantees
//! - **Order**: what one task sends to one member goes down in that order, whatever the options: a synchronous message to
//!   a member that has asynchronous ones queued goes behind them, and its send still ends when the member has it. A
//!   member with nothing queued gets synchronous messages at once, without a change of task. Excepted are `udp` and
//!   `multicast` messages that are not `async`, and what is sent while the channel stops.
//! - **Independence**: a stalled or dead member delays no other (T30).
//! - **Bounds**: what is queued is admitted by the channel's [`Budget`](tribes_core::Budget), 256 bytes a message beside its
//!   body. A member without room is waited for once, or not at all, or its oldest messages make room, as the
//!   [policy](MessageDispatchConfig::policy) says; a send that must not wait (`try_send`) does not.
//! - **No silence** (T31): each message ends in an outcome. [`Channel::send_with`](tribes_core::Channel::send_with) gives it
//!   to whoever asks; all others are counted by kind in the gauges, and logged once in ten seconds. When a member leaves,
//!   what is queued for it fails with [`FaultKind::Left`](tribes_core::FaultKind::Left); at stop the queues drain until the deadline, and the
//!   rest fails with [`FaultKind::Stopped`](tribes_core::FaultKind::Stopped).
//!
//! # Cost
//! A synchronous message costs one atomic read while nothing is queued. An asynchronous one costs the reservation of its
//! room, two atomic operations for each member; queued here, two short locks and one small allocation besides. Its body is
//! shared.
//!
//! # Differences to Tribes
//! Tribes has one queue and ten threads: no order (T2), and a dead member slows all (T30). It gives a full queue's message
//! to the caller's thread (`alwaysSend`); here that is the policy's decision.

mod config;
mod core;
mod drain;
mod lanes;
mod passing;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tribes_core::registry::Configure;
use tribes_core::{
    BoxError, ChannelInterceptor, Cx, Gauge, Interest, Link, MemberEvent, Next, Outbound, Outcome, Readiness,
    SendError, SendOptions, Time,
};

pub use self::config::MessageDispatchConfig;
use self::lanes::Lanes;
use self::report::{Failures, LogGate};

const NAME: &str = "message-dispatch";

/// Queues asynchronous messages, one bounded queue for each member. See the [module](self) for what it guarantees. One
/// instance serves one channel.
#[derive(Debug, Default)]
pub struct MessageDispatch {
    lanes: Arc<Lanes>,
    failures: Failures,
    failure_log: LogGate,
    link: std::sync::OnceLock<Link>,
}

impl MessageDispatch {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: MessageDispatchConfig) -> Self {
        Self { lanes: Arc::new(Lanes::new(config.policy)), ..Self::default() }
    }
}

impl Configure for MessageDispatch {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "queues asynchronous messages, one bounded queue for each member";
    type Config = MessageDispatchConfig;
    fn configure(config: MessageDispatchConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(MessageDispatch);

#[async_trait]
impl ChannelInterceptor for MessageDispatch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::MEMBERS | Interest::HEARTBEAT | Interest::FAULTS | Interest::SEES_ALL
    }

    fn trigger(&self) -> SendOptions {
        SendOptions::ASYNCHRONOUS
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let _ = self.link.set(link.clone());
        self.lanes.open(link);
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        self.lanes.drain(deadline).await;
    }

    fn send_now(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Readiness {
        let lanes = &self.lanes;
        let ready = if !lanes.is_open() || out.to.is_empty() {
            true
        } else if cx.matches() {
            lanes.passes(cx.link(), cx.below_waits())
                && (lanes.leaves_room_to_transport() || lanes.admit_now(cx.link(), out))
        } else {
            !lanes.any_busy() || out.message.options.contains(SendOptions::UDP)
        };
        if ready { Readiness::Pass } else { Readiness::Wait }
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        let lanes = &self.lanes;
        if out.to.is_empty() && !out.message.options.contains(SendOptions::MULTICAST) {
            // All of them have failed. Whoever sends in a loop does so in a loop: others must have the thread now and then.
            tokio::task::coop::consume_budget().await;
            return Ok(());
        }
        // A multicast has no members to queue for.
        if !lanes.is_open() || out.to.is_empty() {
            return next.send(out).await;
        }
        if next.matches() {
            if let Some(link) = self.link.get().filter(|link| lanes.passes(link, next.below_waits())) {
                return lanes.pass(link, out, next).await;
            }
            lanes.queue(out).await;
            return Ok(());
        }
        if !lanes.any_busy() || out.message.options.contains(SendOptions::UDP) {
            return next.send(out).await;
        }
        match lanes.extract_busy(&mut out) {
            None => next.send(out).await,
            Some(behind) if out.to.is_empty() => {
                lanes.queue(behind).await;
                Ok(())
            }
            // Neither half waits for the other: they go to different members.
            Some(behind) => tokio::join!(biased; lanes.queue(behind), next.send(out)).1,
        }
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        if let MemberEvent::Removed(member, _) = &event {
            self.lanes.left(member);
        }
        next.member_event(event).await;
    }

    async fn heartbeat(&self, _: Time, _: Next<'_>) {
        self.lanes.give_up_unused();
    }

    fn outcome(&self, outcome: &Outcome) {
        let Some(first) = outcome.faults.first() else { return };
        if !outcome.options.contains(SendOptions::ASYNCHRONOUS) {
            return;
        }
        for fault in &outcome.faults {
            self.failures.count(&fault.kind);
        }
        if let Some(unlogged) = self.link.get().and_then(|link| self.failure_log.pass(link.env().now())) {
            let (failed, attempted) = (outcome.faults.len(), outcome.attempted);
            tracing::warn!(id = %outcome.id, failed, attempted, %first, unlogged, "an asynchronous message did not reach everyone");
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let lanes = &self.lanes;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (messages, bytes) = lanes.depth();
        let mut gauges = vec![
            Gauge::new("queued_messages", count(messages)),
            Gauge::new("queued_bytes", count(bytes)),
            Gauge::new("queues", count(lanes.members())),
            Gauge::new("sent", lanes.sent.load(Ordering::Relaxed)),
            Gauge::new("displaced", lanes.displaced.load(Ordering::Relaxed)),
            Gauge::new("refused", lanes.refused.load(Ordering::Relaxed)),
        ];
        gauges.extend(self.failures.gauges());
        gauges
    }
}
