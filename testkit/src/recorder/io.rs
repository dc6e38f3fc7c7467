//! The three parts that a recorder plays.

use std::sync::Arc;

use async_trait::async_trait;
use tribes_core::error::{FaultKind, SendError};
use tribes_core::member::Suspicion;
use tribes_core::{
    BoxError, ChannelMessage, ChannelReceiver, ChannelSender, Destination, Endpoint, Link, Member, MemberEvent,
    MembershipContext, MembershipService, Outbound, ProbeResult, SendOptions, Services, Time,
};

use super::{Answer, Call, Held, Recorder, Sent, State, asked};

/// A [`Recorder`] as the channel's sender.
#[derive(Clone, Debug)]
pub struct RecorderSender(pub(super) Recorder);

/// A [`Recorder`] as the channel's receiver.
#[derive(Clone, Debug)]
pub struct RecorderReceiver(pub(super) Recorder);

/// A [`Recorder`] as the channel's membership service.
#[derive(Clone, Debug)]
pub struct RecorderMembership(pub(super) Recorder);

impl State {
    fn start(&mut self, part: &'static str, link: Link, call: Call) -> Result<(), BoxError> {
        if self.failing.contains(part) {
            return Err(format!("the test makes the {part} fail").into());
        }
        self.link = Some(link);
        self.calls.push(call);
        Ok(())
    }

    fn record(&mut self, out: &Outbound, multicast: bool) {
        self.sent.push(Sent {
            message: out.message.clone(),
            to: out.members().cloned().collect(),
            may_wait: out.may_wait,
            multicast,
        });
    }
}

#[async_trait]
impl ChannelSender for RecorderSender {
    async fn start(&self, local: Arc<Member>, up: Link) -> Result<(), BoxError> {
        self.0.change(|state| {
            state.start("sender", up, Call::SenderStarted)?;
            state.local = Some(local);
            Ok(())
        })
    }

    async fn stop(&self, _: Time) {
        let held = self.0.change(|state| {
            state.calls.push(Call::SenderStopped);
            std::mem::take(&mut state.held)
        });
        for held in held {
            held.resolve(Some(FaultKind::Stopped));
        }
    }

    async fn send(&self, out: Outbound) -> Result<(), SendError> {
        let next = self.0.change(|state| {
            state.record(&out, false);
            state.next.pop_front()
        });
        let whole = next.clone().unwrap_or_else(|| self.0.lock().otherwise.clone());
        if let Answer::Refuse(text) = whole {
            return Err(SendError::Layer { layer: "recorder", source: text.into() });
        }
        let (options, len, may_wait) = (out.message.options, out.len(), out.may_wait);
        for destination in out.to {
            let own = || self.0.lock().by_member.get(destination.member()).cloned();
            let answer = next.clone().or_else(own).unwrap_or_else(|| whole.clone());
            self.0.perform(answer, destination, options, len, may_wait).await;
        }
        Ok(())
    }

    async fn probe(&self, member: &Arc<Member>, _: Option<ChannelMessage>, _: Time) -> ProbeResult {
        self.0.change(|state| {
            state.calls.push(Call::Probed(Arc::clone(member)));
            state.probes.get(member).copied().unwrap_or(ProbeResult::Answered)
        })
    }

    fn is_connected(&self, member: &Member) -> bool {
        self.0.lock().connected.contains(member)
    }

    fn member_event(&self, event: &MemberEvent) {
        self.0.change(|state| state.calls.push(Call::MemberEvent(event.clone())));
    }

    fn update_local(&self, local: Arc<Member>) {
        self.0.lock().local = Some(local);
    }

    async fn heartbeat(&self, _: Time) {
        self.0.change(|state| state.calls.push(Call::Heartbeat));
    }
}

impl Recorder {
    /// Does to `destination` as `answer` says.
    async fn perform(
        &self,
        answer: Answer,
        destination: Destination,
        options: SendOptions,
        len: usize,
        may_wait: bool,
    ) {
        let Destination { completion, mut reservation, .. } = destination;
        let link = self.lock().link.clone();
        let keeps = matches!(answer, Answer::Hold | Answer::After(..));
        if keeps
            && reservation.is_none()
            && let Some(link) = &link
        {
            let (budget, member) = (link.budget(), completion.member());
            reservation = if may_wait { budget.admit(member, len).await } else { budget.try_admit(member, len) };
            if reservation.is_none() {
                return completion.fail(FaultKind::QueueFull);
            }
        }
        self.settle(answer, Held { completion, options, reservation }, link);
    }

    fn settle(&self, answer: Answer, held: Held, link: Option<Link>) {
        match answer {
            Answer::Hold => self.change(|state| state.held.push(held)),
            Answer::After(delay, then) => {
                let Some(up) = link.clone() else { return };
                let (recorder, env) = (self.clone(), up.env().clone());
                up.spawn(async move {
                    env.sleep(delay).await;
                    recorder.settle(*then, held, link);
                });
            }
            Answer::Deliver => held.resolve(None),
            Answer::As(delivery) => held.completion.deliver(delivery),
            Answer::Fault(kind) => held.resolve(Some(kind)),
            Answer::Forget | Answer::Refuse(_) => drop(held),
        }
    }
}

impl Held {
    /// Gives its room back, then tells the one who waits.
    pub(super) fn resolve(self, fault: Option<FaultKind>) {
        drop(self.reservation);
        self.completion.resolve(fault.map_or_else(|| Ok(asked(self.options)), Err));
    }
}

#[async_trait]
impl ChannelReceiver for RecorderReceiver {
    async fn start(&self, up: Link) -> Result<Endpoint, BoxError> {
        self.0.change(|state| state.start("receiver", up, Call::ReceiverStarted))?;
        Ok(Endpoint::new(self.0.0.addr.ip(), self.0.0.addr.port()))
    }

    async fn stop(&self, _: Time) {
        self.0.change(|state| state.calls.push(Call::ReceiverStopped));
    }
}

#[async_trait]
impl MembershipService for RecorderMembership {
    fn name(&self) -> &'static str {
        "recorder"
    }

    async fn start(&self, services: Services, context: MembershipContext) -> Result<(), BoxError> {
        self.0.change(|state| {
            state.start("membership", context.link, Call::MembershipStarted(services))?;
            state.channel = context.channel;
            Ok(())
        })
    }

    async fn stop(&self, services: Services) {
        self.0.change(|state| state.calls.push(Call::MembershipStopped(services)));
    }

    fn update_local(&self, local: Arc<Member>) {
        self.0.change(|state| state.calls.push(Call::LocalUpdated(local)));
    }

    async fn broadcast(&self, out: Outbound) -> Result<(), SendError> {
        self.0.change(|state| state.record(&out, true));
        for destination in out.to {
            destination.completion.deliver(tribes_core::Delivery::Sent);
        }
        Ok(())
    }

    fn suspected(&self, member: &Arc<Member>, why: Suspicion) {
        self.0.change(|state| state.calls.push(Call::Suspected(Arc::clone(member), why)));
    }
}
