//! No more than so many messages or bytes per second to each destination.
//!
//! Each destination has a token bucket, or two: one of messages, one of bytes of bodies *as they are at this place of the
//! stack*, so below a compressing layer the compressed ones count. A bucket fills at its rate up to its burst; a message
//! goes when its tokens are there. One larger than the burst goes when the bucket is full, and leaves it in debt: over time
//! the rate holds.
//!
//! # Guarantees
//! - **Rate**: in any span of time a destination gets at most the burst and what the rate allows in that span, or a single
//!   larger message in place of the burst.
//! - **Order**: messages to one destination are handed on in the order in which they came here, waiting or not.
//! - **Independence**: a message to several goes at once to those that have tokens, and to each of the others as soon as it
//!   may; the send ends when the last of them has accepted it.
//! - **Waiting** is the sender's, which is held up: nothing is queued here beside the senders themselves, so memory is
//!   bounded by them. How long a message must wait is known when it comes. If that is longer than the
//!   [policy](RateLimitConfig::policy) says, or the send must not wait (`try_send`), it fails at once for that destination
//!   with [`FaultKind::QueueFull`]: a local overload, which speaks against no member. While a member's messages wait, a
//!   later one that may not wait fails, too.
//! - When a member leaves, what waits for it fails with [`FaultKind::Left`]. When the channel stops, what could go by the
//!   deadline still waits for its turn, and the rest fails at once with [`FaultKind::Stopped`].
//! - A multicast has no destination; all multicasts share a bucket of their own. One that may not wait is refused with
//!   [`SendError::Full`].
//!
//! Received messages are not limited: backpressure does that.
//!
//! # Place
//! Anywhere. Below `message-dispatch`, asynchronous messages wait in its queues, and no sender is held up before those are full. Above
//! it, the sender itself waits. Above `fragmentation`, messages count; below it, pieces.
//!
//! Tribes has nothing like it.

mod config;
mod core;
mod lanes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    BoxError, ChannelInterceptor, Cx, Destination, Env, FaultKind, Gauge, Interest, Link, MemberEvent, Next, Outbound,
    Readiness, SendError, Time,
};

pub use self::config::{OnLimit, RateLimitConfig};
use self::core::Limits;
use self::lanes::{Admission, Lanes, Ticket};
use crate::join::{Sending, join_all};

const NAME: &str = "rate-limit";

/// Limits messages and bytes per second for each destination. See the [module](self) for what it guarantees. One instance
/// serves one channel.
///
/// ```
/// use tribes_interceptors::{RateLimit, RateLimitConfig};
///
/// let layer = RateLimit::new(RateLimitConfig::default().with_messages_per_s(1000).with_burst_messages(10));
/// ```
#[derive(Debug)]
pub struct RateLimit {
    config: RateLimitConfig,
    limits: Limits,
    lanes: Arc<Lanes>,
    delayed: AtomicU64,
    refused: AtomicU64,
}

impl RateLimit {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: RateLimitConfig) -> Self {
        let limits = config.limits();
        Self { config, limits, lanes: Arc::default(), delayed: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// When a message that comes now must have gone.
    fn latest(&self, out: &Outbound, now: Time) -> Time {
        match self.config.policy {
            OnLimit::Wait(limit) if out.may_wait => now + limit,
            _ => now,
        }
    }

    fn take(&self, out: &Outbound, destination: Option<&Destination>, now: Time) -> Admission {
        let key = destination.map(|destination| Arc::clone(destination.member()));
        let admission = self.lanes.take(&self.limits, &key, now, out.len() as u64, self.latest(out, now));
        match admission {
            Admission::Now => {}
            Admission::Later(_) => drop(self.delayed.fetch_add(1, Ordering::Relaxed)),
            Admission::No => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
        }
        admission
    }

    /// Sends a message without destinations.
    async fn send_multicast(&self, out: Outbound, env: &Env, next: Next<'_>) -> Result<(), SendError> {
        match self.take(&out, None, env.now()) {
            Admission::Now => next.send(out).await,
            Admission::No => Err(SendError::Full),
            Admission::Later(ticket) => match ticket.wait(env).await {
                Ok(_turn) => next.send(out).await,
                Err(_stopped) => Err(SendError::Stopped),
            },
        }
    }
}

/// Hands the one destination of `single` on when its tokens are there.
async fn send_later(single: Outbound, ticket: Ticket, env: &Env, next: Next<'_>) -> Result<(), SendError> {
    match ticket.wait(env).await {
        Ok(_turn) => next.send(single).await,
        Err(fault) => {
            single.fail(&fault);
            Ok(())
        }
    }
}

impl Configure for RateLimit {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "lets no more than so many messages or bytes per second go to each destination";
    type Config = RateLimitConfig;
    fn configure(config: RateLimitConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(RateLimit);

#[async_trait]
impl ChannelInterceptor for RateLimit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::MEMBERS
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, _: Link) -> Result<(), BoxError> {
        self.lanes.open();
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        self.lanes.stop(deadline);
    }

    fn send_now(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> Readiness {
        let keys: Vec<_> = match out.to.as_slice() {
            [] => vec![None],
            to => to.iter().map(|destination| Some(Arc::clone(destination.member()))).collect(),
        };
        let keys: Vec<_> = keys.iter().collect();
        let taken = self.lanes.take_now(&self.limits, &keys, cx.now(), out.len() as u64);
        if taken { Readiness::Pass } else { Readiness::Wait }
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        let Some(link) = next.link() else { return Err(SendError::Stopped) };
        let env = link.env();
        if out.to.is_empty() {
            return self.send_multicast(out, env, next).await;
        }
        let now = env.now();
        let (mut ready, mut later) = (Vec::new(), Vec::new());
        for destination in std::mem::take(&mut out.to) {
            match self.take(&out, Some(&destination), now) {
                Admission::Now => ready.push(destination),
                Admission::Later(ticket) => later.push((out.with_destinations(vec![destination]), ticket)),
                Admission::No => destination.completion.fail(FaultKind::QueueFull),
            }
        }
        if ready.is_empty() && later.is_empty() {
            // Whoever sends in a loop fails in a loop: others must have the thread now and then.
            tokio::task::coop::consume_budget().await;
            return Ok(());
        }
        out.to = ready;
        if later.is_empty() {
            return next.send(out).await;
        }
        let mut open: Vec<Sending<'_>> = Vec::with_capacity(later.len() + 1);
        if !out.to.is_empty() {
            open.push(Box::pin(next.send(out)));
        }
        open.extend(later.into_iter().map(|(one, ticket)| Box::pin(send_later(one, ticket, env, next)) as Sending<'_>));
        join_all(open).await
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        if let MemberEvent::Removed(member, _) = &event {
            self.lanes.left(member);
        }
        next.member_event(event).await;
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (buckets, waiting) = self.lanes.depth();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        vec![
            Gauge::new("destinations", count(buckets)),
            Gauge::new("waiting", count(waiting)),
            Gauge::new("delayed", self.delayed.load(Ordering::Relaxed)),
            Gauge::new("refused", self.refused.load(Ordering::Relaxed)),
        ]
    }
}
