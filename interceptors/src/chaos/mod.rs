//! A bad network on demand: delays, loses, doubles and reorders messages by chance, so that an application can be tested
//! against it. Not for production.
//!
//! It acts on what is *sent*, for each destination by itself, and on nothing by default: each kind has a probability. All
//! chances come from one [seed](ChaosConfig::seed), which is logged as a warning at the start and is a gauge; each
//! destination has its own sequence, in the order in which destinations are first sent to. The same messages in the same
//! order under the same seed meet the same fate.
//!
//! | kind | what happens |
//! |---|---|
//! | loss | the message goes nowhere. Its outcome is that of a real loss: without an acknowledgement it counts as [sent](Delivery::Sent), as the operating system would have taken it; with one it fails with [`FaultKind::AckTimeout`] after [`ack_timeout`](ChaosConfig::ack_timeout). A failure detector looks at the member then, as it would |
//! | duplicate | it goes twice, the copy right behind it, both with the same id. Its outcome is that of the first |
//! | reorder | it is put aside for a while; what is sent meanwhile overtakes it |
//! | delay | it waits for a while, and what is sent meanwhile waits behind it: the order stays |
//!
//! What is lost meets nothing else; what is put aside is not delayed besides; both may be doubled only if they go.
//!
//! # Guarantees
//! - Without `reorder`, messages to one destination stay in order. A destination that has something delayed holds up no
//!   other.
//! - A send is accepted when its messages wait here or have been accepted below. What waits is admitted by the channel's
//!   [`Budget`](tribes_core::Budget); without room it waits or fails with [`FaultKind::QueueFull`] as the budget's policy
//!   says.
//! - Each message gets its outcome. When a member leaves, what waits for it fails with [`FaultKind::Left`]; at stop
//!   everything goes at once, and what is left at the deadline fails with [`FaultKind::Stopped`], as does what waits for the
//!   acknowledgement of a lost message.
//! - A multicast may be lost or doubled, but is not delayed.
//!
//! # Place
//! At the bottom it acts on what the network would act on: pieces, retries, control messages of layers. At the top, on the
//! application's messages: `order` or `dedup` below it then cannot mend what it does.
//!
//! Tribes has nothing like it.

mod config;
mod core;
mod lanes;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    AckMode, BoxError, ChannelInterceptor, Delivery, Destination, FaultKind, Gauge, Interest, Link, MemberEvent, Next,
    Outbound, OverloadPolicy, SendError, Time,
};

pub use self::config::ChaosConfig;
use self::core::Place;
use self::lanes::{Item, Lane, Lanes, Way, copy_of};
use crate::join::{Sending, join_all};

const NAME: &str = "chaos";

/// What a message that waits takes of the budget beside its body.
const OVERHEAD: usize = 256;

/// Delays, loses, doubles and reorders what is sent, by chance. See the [module](self) for what it guarantees. One instance
/// serves one channel.
///
/// ```
/// use tribes_interceptors::{Chaos, ChaosConfig};
///
/// let layer = Chaos::new(ChaosConfig::default().with_seed(7).with_loss(0.05).with_duplicate(0.01));
/// ```
#[derive(Debug, Default)]
pub struct Chaos {
    config: ChaosConfig,
    lanes: Arc<Lanes>,
    link: OnceLock<Link>,
    seed: OnceLock<u64>,
    lost: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
    delayed: AtomicU64,
}

/// A message for one destination that is to wait.
struct Held {
    lane: Arc<Lane>,
    single: Outbound,
    at: Time,
    place: Place,
    twice: bool,
}

impl Chaos {
    /// A layer with these options.
    #[must_use]
    pub fn new(config: ChaosConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The seed; before the first start only if it was given.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed.get().copied().or(self.config.seed)
    }

    fn lose(&self, link: &Link, lane: &Arc<Lane>, mut destination: Destination, ack: AckMode, now: Time) {
        if ack == AckMode::None {
            return destination.completion.deliver(Delivery::Sent);
        }
        let (timeout, budget) = (self.config.ack_timeout, link.budget());
        let fault = FaultKind::AckTimeout(timeout);
        // Its body is gone.
        destination.reservation = None;
        destination.reservation = budget.try_admit(destination.member(), OVERHEAD);
        if destination.reservation.is_none() {
            // Nobody can wait for it: that is told early, and still true.
            return destination.completion.fail(fault);
        }
        let due = now + timeout;
        self.lanes.push(link, lane, Item::Lost { destination, due, fault }, due, Place::Aside);
    }

    /// Has a message wait, if there is room for it; or gives it back.
    fn hold(&self, link: &Link, mut held: Held) -> Option<Held> {
        let bytes = held.single.len() + OVERHEAD;
        if !link.budget().try_admit_each(&mut held.single.to, bytes) {
            return Some(held);
        }
        let Held { lane, mut single, at, place, twice } = held;
        single.message.body.detach();
        self.lanes.push(link, &lane, Item::Send { single, twice }, at, place);
        None
    }

    /// As [`hold`](Self::hold), when there is room.
    async fn hold_later(&self, link: &Link, mut held: Held) -> Result<(), SendError> {
        let bytes = held.single.len() + OVERHEAD;
        let policy = if held.single.may_wait { link.budget().config().policy } else { OverloadPolicy::Fail };
        for destination in &mut held.single.to {
            destination.reservation = link.budget().admit_with(destination.member(), bytes, policy).await;
        }
        if let Some(without_room) = self.hold(link, held) {
            without_room.single.fail(&FaultKind::QueueFull);
        }
        Ok(())
    }

    async fn send_multicast(&self, out: Outbound, lane: &Lane, now: Time, next: Next<'_>) -> Result<(), SendError> {
        let twice = match lane.meet(&self.config, now) {
            Way::Lost => {
                count(&self.lost);
                return Ok(());
            }
            Way::Direct { twice } | Way::Held { twice, .. } => twice,
        };
        let copy = twice.then(|| {
            count(&self.duplicated);
            out.with_destinations(Vec::new())
        });
        next.send(out).await?;
        match copy {
            Some(copy) => next.send(copy).await,
            None => Ok(()),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Hands on a message and copies of it.
async fn send_direct(out: Outbound, copies: Vec<Outbound>, next: Next<'_>) -> Result<(), SendError> {
    if !out.to.is_empty() {
        next.send(out).await?;
    }
    for copy in copies {
        // Nobody waits for it, and nobody asked for it.
        let _ = next.send(copy).await;
    }
    Ok(())
}

impl Configure for Chaos {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "delays, loses, doubles and reorders messages by chance, to test applications";
    type Config = ChaosConfig;
    fn configure(config: ChaosConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Chaos);

#[async_trait]
impl ChannelInterceptor for Chaos {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::MEMBERS
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let seed = *self.seed.get_or_init(|| self.config.seed.unwrap_or_else(|| link.env().random()));
        let ChaosConfig { loss, duplicate, reorder, delay, .. } = self.config;
        tracing::warn!(seed, loss, duplicate, reorder, delay, "chaos: messages are spoilt on purpose");
        self.lanes.open(seed);
        let _ = self.link.set(link);
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        if let Some(link) = self.link.get() {
            self.lanes.drain(link.env(), deadline).await;
        }
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        let Some(link) = self.link.get() else { return next.send(out).await };
        let now = link.env().now();
        if out.to.is_empty() {
            // All multicasts have one sequence of chances, under the name of their sender.
            let lane = self.lanes.lane(&out.message.sender);
            return match lane {
                Some(lane) => self.send_multicast(out, &lane, now, next).await,
                None => next.send(out).await,
            };
        }
        let (mut direct, mut copies, mut full) = (Vec::new(), Vec::new(), Vec::new());
        for destination in std::mem::take(&mut out.to) {
            let Some(lane) = self.lanes.lane(destination.member()) else {
                direct.push(destination);
                continue;
            };
            match lane.meet(&self.config, now) {
                Way::Lost => {
                    count(&self.lost);
                    self.lose(link, &lane, destination, out.ack_mode(), now);
                }
                Way::Direct { twice } => {
                    let single = out.with_destinations(vec![destination]);
                    if twice {
                        count(&self.duplicated);
                        copies.extend(copy_of(&single));
                    }
                    direct.extend(single.to);
                }
                Way::Held { at, place, twice } => {
                    count(if place == Place::Aside { &self.reordered } else { &self.delayed });
                    if twice {
                        count(&self.duplicated);
                    }
                    let single = out.with_destinations(vec![destination]);
                    full.extend(self.hold(link, Held { lane, single, at, place, twice }));
                }
            }
        }
        out.to = direct;
        if full.is_empty() && copies.is_empty() {
            return if out.to.is_empty() { Ok(()) } else { next.send(out).await };
        }
        let mut open: Vec<Sending<'_>> = vec![Box::pin(send_direct(out, copies, next))];
        open.extend(full.into_iter().map(|held| Box::pin(self.hold_later(link, held)) as Sending<'_>));
        join_all(open).await
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        if let MemberEvent::Removed(member, _) = &event {
            self.lanes.left(member);
        }
        next.member_event(event).await;
    }

    fn gauges(&self) -> Vec<Gauge> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Gauge::new("seed", self.seed().unwrap_or_default()),
            Gauge::new("held", u64::try_from(self.lanes.held()).unwrap_or(u64::MAX)),
            Gauge::new("lost", read(&self.lost)),
            Gauge::new("duplicated", read(&self.duplicated)),
            Gauge::new("reordered", read(&self.reordered)),
            Gauge::new("delayed", read(&self.delayed)),
        ]
    }
}
