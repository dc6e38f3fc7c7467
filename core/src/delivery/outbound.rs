//! A message on its way down.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::outcome::{Audience, Tracker};
use super::{Delivery, Pending};
use crate::budget::Reservation;
use crate::error::FaultKind;
use crate::message::ChannelMessage;
use crate::{AckMode, Member, Time};

/// A message on its way down the stack, with its destinations.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outbound {
    /// The message.
    pub message: ChannelMessage,
    /// Where it goes; each destination answers for itself.
    pub to: Vec<Destination>,
    /// Whether a queue may make the sender wait for room ([`Channel::try_send`](crate::Channel::try_send) sets this to
    /// `false`).
    pub may_wait: bool,
    /// When it was made, by the channel's clock; [`Time::ZERO`] if nobody looked. Spares others a look at the clock.
    pub at: Time,
}

impl Outbound {
    /// A message with `targets` as destinations, and the future of its outcome.
    pub fn new(message: ChannelMessage, targets: &[Arc<Member>]) -> (Self, Pending) {
        Self::to_audience(message, Audience::new(Arc::from(targets), None), Time::ZERO)
    }

    pub(crate) fn to_audience(message: ChannelMessage, audience: Arc<Audience>, at: Time) -> (Self, Pending) {
        let tracker = Tracker::new(message.id.clone(), message.options, audience);
        let to = (0..tracker.len())
            .map(|index| Destination {
                completion: Completion::new(Parent::Message(Arc::clone(&tracker), index)),
                reservation: None,
            })
            .collect();
        (Self { message, to, may_wait: true, at }, Pending::new(tracker))
    }

    /// One message for each destination, in their order; the body is shared. For layers that serve each member by itself.
    pub fn into_singles(self) -> impl Iterator<Item = Self> {
        let Self { message, to, may_wait, at } = self;
        to.into_iter().map(move |destination| Self { message: message.clone(), to: vec![destination], may_wait, at })
    }

    /// Bytes of the body, and as such a lower bound of what a queue holds for each destination.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message.body.len()
    }

    /// Whether the body is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message.body.is_empty()
    }

    /// Which acknowledgement it asks for.
    #[must_use]
    pub fn ack_mode(&self) -> AckMode {
        self.message.options.ack_mode()
    }

    /// Takes the destinations that `choose` picks into a message of their own, or `None` if it picks none.
    pub fn extract(&mut self, mut choose: impl FnMut(&Arc<Member>) -> bool) -> Option<Self> {
        if !self.to.iter().any(|destination| choose(destination.member())) {
            return None;
        }
        let (chosen, rest): (Vec<_>, Vec<_>) = self.to.drain(..).partition(|destination| choose(destination.member()));
        self.to = rest;
        (!chosen.is_empty()).then(|| self.with_destinations(chosen))
    }

    /// The same message for these destinations of it.
    #[must_use]
    pub fn with_destinations(&self, to: Vec<Destination>) -> Self {
        Self { message: self.message.clone(), to, may_wait: self.may_wait, at: self.at }
    }

    /// Splits this message into one message for each of `bodies`, to the same destinations. A destination completes when
    /// all its parts have, with the first fault if there is one; so the application hears once per message. Empty
    /// `bodies` drops the message.
    #[must_use]
    pub fn split(self, bodies: impl IntoIterator<Item = crate::message::Body>) -> Vec<Self> {
        let bodies: Vec<_> = bodies.into_iter().collect();
        let mut parts: Vec<Self> = bodies
            .into_iter()
            .map(|body| Self {
                message: ChannelMessage { body, ..self.message.clone() },
                to: Vec::with_capacity(self.to.len()),
                may_wait: self.may_wait,
                at: self.at,
            })
            .collect();
        for mut destination in self.to {
            let mut room = destination.reservation.take();
            let member = Arc::clone(destination.member());
            let join = Arc::new(Join {
                member,
                open: AtomicUsize::new(parts.len()),
                state: Mutex::new(JoinState { parent: Some(destination.completion), fault: None, delivery: None }),
            });
            let last = parts.len().saturating_sub(1);
            for (at, part) in parts.iter_mut().enumerate() {
                // The room of the whole is that of its parts.
                let bytes = part.message.body.len();
                let reservation =
                    if at == last { room.take() } else { room.as_mut().map(|room| room.split_off(bytes)) };
                part.to.push(Destination { completion: Completion::new(Parent::Join(Arc::clone(&join))), reservation });
            }
        }
        parts
    }

    /// Resolves every destination with the same fault.
    pub fn fail(self, kind: &FaultKind) {
        for destination in self.to {
            destination.completion.fail(kind.clone());
        }
    }

    /// The members of [`Outbound::to`].
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.to.iter().map(Destination::member)
    }
}

/// One destination of a message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Destination {
    /// Resolves this destination's share of the outcome.
    pub completion: Completion,
    /// Room in the channel's [`Budget`](crate::Budget), once somebody who keeps the message has admitted it.
    pub reservation: Option<Reservation>,
}

impl Destination {
    /// The member.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        self.completion.member()
    }
}

/// The duty to say what became of a message for one destination. Resolve it exactly once; dropped unresolved, it counts
/// as [`FaultKind::Dropped`].
pub struct Completion {
    parent: Parent,
    settled: bool,
}

enum Parent {
    /// The message, and which of its members this is.
    Message(Arc<Tracker>, usize),
    Join(Arc<Join>),
}

/// The parts that a layer made of one message for one destination.
struct Join {
    member: Arc<Member>,
    open: AtomicUsize,
    state: Mutex<JoinState>,
}

struct JoinState {
    parent: Option<Completion>,
    fault: Option<FaultKind>,
    delivery: Option<Delivery>,
}

impl Completion {
    const fn new(parent: Parent) -> Self {
        Self { parent, settled: false }
    }

    /// The member that this is about.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        match &self.parent {
            Parent::Message(tracker, index) => tracker.member(*index),
            Parent::Join(join) => &join.member,
        }
    }

    /// It got there.
    pub fn deliver(self, delivery: Delivery) {
        self.resolve(Ok(delivery));
    }

    /// It did not.
    pub fn fail(self, kind: FaultKind) {
        self.resolve(Err(kind));
    }

    /// Resolves with `result`.
    pub fn resolve(mut self, result: Result<Delivery, FaultKind>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<Delivery, FaultKind>) {
        self.settled = true;
        match &self.parent {
            Parent::Message(tracker, index) => tracker.resolve(*index, result),
            Parent::Join(join) => join.resolve(result),
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Err(FaultKind::Dropped { by: "a layer", reason: "it gave the message up without an outcome" }));
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("member", self.member()).finish_non_exhaustive()
    }
}

impl Join {
    fn resolve(&self, result: Result<Delivery, FaultKind>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(delivery) => state.delivery = Some(state.delivery.map_or(delivery, |known| joined(known, delivery))),
            Err(kind) => drop(state.fault.get_or_insert(kind)),
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let (parent, fault, delivery) = (state.parent.take(), state.fault.take(), state.delivery);
        drop(state);
        if let Some(parent) = parent {
            parent.resolve(fault.map_or_else(|| Ok(delivery.unwrap_or(Delivery::Sent)), Err));
        }
    }
}

/// The weakest guarantee that all parts have is that of the whole. The part that releases the message speaks for it, the
/// others are accepted as they come: if nobody took that one, nobody took the message.
fn joined(one: Delivery, other: Delivery) -> Delivery {
    if one == Delivery::NoTaker || other == Delivery::NoTaker { Delivery::NoTaker } else { one.min(other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::MemberId;
    use crate::message::{Body, MessageId};
    use crate::{Env, SendOptions};

    fn message() -> (Outbound, Pending) {
        let members: Vec<_> =
            (1..=3).map(|port| Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], port).into()))).collect();
        let message = ChannelMessage {
            options: SendOptions::ACK,
            timestamp_ms: 0,
            id: MessageId::generate(&Env::real()),
            sender: Arc::clone(&members[0]),
            body: Body::new("hello"),
        };
        Outbound::new(message, &members)
    }

    #[tokio::test]
    async fn the_outcome_names_each_fault_and_comes_once() {
        let (out, pending) = message();
        let mut to = out.to.into_iter();
        to.next().unwrap().completion.deliver(Delivery::Acknowledged);
        to.next().unwrap().completion.fail(FaultKind::QueueFull);
        drop(to); // The third is forgotten.
        let outcome = pending.await;
        assert_eq!((outcome.attempted, outcome.delivered()), (3, 1));
        assert_eq!(outcome.faults[0].member.port(), 2);
        assert!(matches!(outcome.faults[1].kind, FaultKind::Dropped { .. }));
    }

    #[tokio::test]
    async fn parts_join() {
        let (out, pending) = message();
        let parts = out.split([Body::new("hel"), Body::new("lo")]);
        assert_eq!(parts.len(), 2);
        for (number, part) in parts.into_iter().enumerate() {
            for destination in part.to {
                let fails = number == 1 && destination.member().port() == 2;
                destination.completion.resolve(if fails { Err(FaultKind::Left) } else { Ok(Delivery::Acknowledged) });
            }
        }
        let outcome = pending.await;
        assert_eq!(outcome.faults.len(), 1);
        assert_eq!(outcome.faults[0].kind, FaultKind::Left);
    }

    #[tokio::test]
    async fn a_message_in_parts_that_nobody_took_has_no_taker() {
        let (out, pending) = message();
        for (number, part) in out.split([Body::new("hel"), Body::new("lo")]).into_iter().enumerate() {
            for destination in part.to {
                destination.completion.deliver(if number == 1 { Delivery::NoTaker } else { Delivery::Handled });
            }
        }
        assert_eq!(pending.await.no_taker.len(), 3);
    }

    #[tokio::test]
    async fn a_callback_hears_of_an_outcome_before_and_after() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (out, pending) = message();
        pending.on_complete(move |outcome| sender.send(outcome.faults.len()).unwrap());
        out.fail(&FaultKind::Stopped);
        assert_eq!(receiver.await.unwrap(), 3);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (out, pending) = message();
        drop(out);
        pending.on_complete(move |outcome| sender.send(outcome.faults.len()).unwrap());
        assert_eq!(receiver.await.unwrap(), 3);
    }

    #[test]
    fn extraction_keeps_each_destination_once() {
        let (mut out, _pending) = message();
        let odd = out.extract(|member| member.port() % 2 == 1).unwrap();
        assert_eq!((odd.to.len(), out.to.len()), (2, 1));
        assert!(out.extract(|_| false).is_none());
    }
}
