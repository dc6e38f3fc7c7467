//! What one member sends to another is delivered in the order in which it was sent (Tribes: `OrderInterceptor`).
//!
//! Each message gets a number for each of its destinations, four bytes at the end of its body. The receiver delivers a
//! sender's messages by their numbers: what comes too early waits for what is missing.
//!
//! One connection keeps order by itself, so among members of this project the layer has little to do. It is for members
//! that send over several connections, as Java does (T2), for datagrams, and for layers that reorder.
//!
//! # Guarantees
//! - **Order**, per sender and destination, for messages with the [trigger](OrderConfig::trigger). Several tasks of one
//!   sender are put into the order in which they passed this layer.
//! - **No duplicates**: a message that comes twice is delivered once. Its copy is answered as it was: accepted, or refused
//!   if the listener failed (T3).
//! - **In time**: no message waits longer than [`expire`](OrderConfig::expire), by a timer of the layer's own (T25). Then those before it are
//!   given up. Should one of them come after all, it is refused, and counted as late: its sender hears of it if it
//!   asked for a synchronized acknowledgement.
//! - **Bounds**: what waits is limited in [messages](OrderConfig::max_queue) and [bytes](OrderConfig::max_bytes) for each
//!   sender, and senders [outside the group](OrderConfig::max_outsiders) are limited. With too many messages waiting the
//!   first missing one is given up early.
//! - **Acknowledgement**: a message that waits is acknowledged at once; it may yet be refused by a listener, of which its
//!   sender then does not hear.
//! - **Independence**: one sender's gap delays no other sender (T44).
//!
//! Nothing is sent again: a message that is lost stays lost, and the next ones wait for it until it expires. A message that
//! could not leave (a full queue, no connection) gives its number back if no other was drawn since, and so leaves no gap.
//!
//! # Disagreement about members
//! A sender counts from 1 again for a member that left and came back; a receiver remembers the numbers of one that left. If
//! only one of them saw it leave, the numbers do not fit (T24). A number that was used, with another message under it, tells
//! that the sender began anew: what waits is delivered, and counting begins at 1 with that message. A number that is far
//! ahead waits, once, until it expires. So no message is lost, and the worst is one delay. Only if the first 1,024
//! messages after such a new beginning were lost on their way, those of the next 3 s ([`expire`](OrderConfig::expire)) may
//! be refused as late. Java knows neither a timer nor a new beginning: a message that it holds back waits for the next one.
//!
//! # Place in the stack
//! Above layers that change bytes (`gzip`, `encrypt`, `fragmentation`), or below them, but in the same place on all members.
//! Bodies are immutable and each destination has a trailer of its own, so every destination gets what is meant for it (T4: in
//! Tribes, above such a layer, all but the first get garbage; from Java, send to one destination at a time there).
//! [Advice](tribes_core::Rule::advised): above `encrypt`, which then vouches for the numbers; above `fragmentation`, whose pieces
//! it would number one by one; below `message-dispatch`. Multicast messages have no destination to count for and are refused; give the layer a trigger that
//! they do not have.
//!
//! # Cost
//! A message to one member, or to several with equal numbers, costs a lock and four bytes. Members with different numbers
//! get a message each, side by side; so do not mix messages to all and to some where every microsecond counts. A received
//! message costs two short locks of its sender's, and a heap allocation as for every layer that may wait.
//!
//! # Differences to Tribes
//! Beside the above: Tribes delivers numbers below the expected one, and thus duplicates, at once; fails on a copy of a
//! message that waits; releases what has waited too long only when the next message comes; delivers under one lock for all
//! senders; and sends to several members one after another.

mod config;
mod core;
mod numbers;
mod receiving;
mod sender;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tribes_core::error::Unsupported;
use tribes_core::registry::Configure;
use tribes_core::settings::Settings as _;
use tribes_core::{
    Body, BoxError, ChannelInterceptor, Cx, Gauge, Inbound, Interest, Link, MemberEvent, Next, Outbound, Outcome,
    Readiness, ReceiveError, Route, Rule, SendError, SendOptions, Time, WireEffect,
};

pub use self::config::OrderConfig;
use self::numbers::{Numbers, never_left};
use self::receiving::Receiving;
use crate::join::{Sending, join_all};
use crate::seen::Fingerprint;

const NAME: &str = "order";

/// Bytes of the number at the end of a body.
const NUMBER: usize = 4;

/// Delivers what each sender sends in the order in which it was sent. See the [module](self). One instance serves one
/// channel.
#[derive(Debug)]
pub struct Order {
    config: OrderConfig,
    numbers: Mutex<Numbers>,
    receiving: Arc<Receiving>,
}

impl Order {
    /// A layer with these options. Those out of bounds are refused when the channel is built.
    #[must_use]
    pub fn new(config: OrderConfig) -> Self {
        Self { config, numbers: Mutex::default(), receiving: Arc::new(Receiving::new(config)) }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Order {
    fn default() -> Self {
        Self::new(OrderConfig::default())
    }
}

impl Configure for Order {
    const NAME: &'static str = NAME;
    const HELP: &'static str = "delivers what each member sends in the order in which it was sent";
    type Config = OrderConfig;
    fn configure(config: OrderConfig) -> Result<Self, BoxError> {
        Ok(Self::new(config))
    }
}

tribes_core::register_interceptor!(Order);

#[async_trait]
impl ChannelInterceptor for Order {
    fn name(&self) -> &'static str {
        NAME
    }

    fn interest(&self) -> Interest {
        Interest::SEND | Interest::RECEIVE | Interest::MEMBERS | Interest::FAULTS
    }

    fn trigger(&self) -> SendOptions {
        self.config.trigger
    }

    fn wire(&self) -> WireEffect {
        WireEffect::Tribes
    }

    fn placement(&self) -> &'static [Rule] {
        const RULES: &[Rule] = &[Rule::below(
            "message-dispatch",
            "a message that fails in the queue of message-dispatch would leave a gap, for which order at the \
                receiver waits",
        )
        .advised()];
        RULES
    }

    fn check_config(&self) -> Result<(), BoxError> {
        Ok(self.config.validate()?)
    }

    async fn start(&self, link: Link) -> Result<(), BoxError> {
        self.numbers().clear();
        self.receiving.start(link);
        Ok(())
    }

    async fn stop(&self, deadline: Time) {
        self.receiving.stop(deadline).await;
    }

    fn send_now(&self, out: &mut Outbound, _: &mut Cx<'_>) -> Readiness {
        if out.to.is_empty() {
            let refused = out.message.options.contains(SendOptions::MULTICAST);
            return if refused { Readiness::Wait } else { Readiness::Pass };
        }
        let message = Fingerprint::of(&out.message.id).short();
        match self.numbers().draw_common(&out.to, message, self.config.max_outsiders) {
            Some(number) => {
                put_number(&mut out.message.body, number);
                Readiness::Pass
            }
            None => Readiness::Wait,
        }
    }

    async fn send(&self, mut out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        if out.to.is_empty() {
            return Err(SendError::Unsupported(Unsupported::Other(
                "a multicast has no destination that its order could be of; give `order` a trigger that multicasts do not have",
            )));
        }
        let message = Fingerprint::of(&out.message.id).short();
        let to = std::mem::take(&mut out.to);
        let groups = self.numbers().draw_each(to, message, self.config.max_outsiders);
        // No member waits for another.
        let sends = groups.into_iter().map(|(number, to)| -> Sending<'_> {
            let mut part = out.with_destinations(to);
            put_number(&mut part.message.body, number);
            Box::pin(next.send(part))
        });
        join_all(sends.collect()).await
    }

    async fn receive(&self, mut msg: Inbound, next: Next<'_>) -> Result<(), ReceiveError> {
        if msg.route == Route::Multicast {
            return self.receiving.malformed(msg, "a multicast has no order");
        }
        match take_number(&mut msg.message.body) {
            Some(number) => self.receiving.receive(number, msg, next).await,
            None => self.receiving.malformed(msg, "it is too short to have a number"),
        }
    }

    async fn member_event(&self, event: MemberEvent, next: Next<'_>) {
        match &event {
            MemberEvent::Added(member) => {
                self.numbers().joined(member);
                self.receiving.joined(member);
            }
            MemberEvent::Removed(member, _) => {
                self.numbers().left(member);
                self.receiving.left(member, next).await;
            }
            _ => {}
        }
        next.member_event(event).await;
    }

    fn outcome(&self, outcome: &Outcome) {
        let message = Fingerprint::of(&outcome.id).short();
        for fault in outcome.faults.iter().filter(|fault| never_left(&fault.kind)) {
            self.numbers().give_back(&fault.member, message);
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let (waiting, held, senders) = self.receiving.depth();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let figures = &self.receiving.figures;
        let mut gauges = vec![
            Gauge::new("waiting_messages", count(waiting)),
            Gauge::new("held_bytes", count(held)),
            Gauge::new("senders", count(senders)),
        ];
        let counted = [
            ("waited", &figures.waited),
            ("given_up", &figures.given_up),
            ("duplicates", &figures.duplicates),
            ("late", &figures.late),
            ("expired", &figures.expired),
            ("restarts", &figures.restarts),
            ("malformed", &figures.malformed),
        ];
        gauges.extend(counted.map(|(name, counter)| Gauge::new(name, counter.load(Ordering::Relaxed))));
        gauges
    }
}

fn put_number(body: &mut Body, number: i32) {
    body.push_trailer(number.to_be_bytes().to_vec());
}

fn take_number(body: &mut Body) -> Option<i32> {
    let trailer = body.split_trailer(NUMBER)?;
    Some(i32::from_be_bytes(trailer.as_ref().try_into().ok()?))
}
