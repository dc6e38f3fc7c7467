//! Two channels wired to each other by hand: what leaves the one comes to the other when the case says so, and no time
//! passes on the way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Channel, ChannelBuilder, Layer, Member, MemberEvent, SendOptions};

use super::super::run::Verdict;
use super::bench::Bench;
use super::{Deliberate, arrivals};
use crate::{Recorder, RecordingListener, Sent};

/// A channel between a recorder and a listener.
pub(super) struct End {
    pub(super) channel: Channel,
    pub(super) below: Recorder,
    pub(super) heard: RecordingListener,
}

/// Both of them.
pub(super) struct Pair {
    pub(super) one: End,
    pub(super) other: End,
}

impl End {
    pub(super) async fn start(bench: &Bench, port: u16, layers: Vec<Layer>) -> Result<Self, String> {
        let below = Recorder::at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let builder = below.install(bench.builder());
        Self::start_with(bench, below, builder, layers).await
    }

    /// With a builder that has parts below already.
    pub(super) async fn start_with(
        bench: &Bench,
        below: Recorder,
        builder: ChannelBuilder,
        layers: Vec<Layer>,
    ) -> Result<Self, String> {
        let builder = layers.into_iter().fold(builder, ChannelBuilder::interceptor);
        let channel = builder.build().map_err(|error| error.to_string())?;
        let heard = RecordingListener::new();
        channel.listen(heard.clone()).forever();
        channel.listen_members(heard.clone()).forever();
        bench.start(&channel).await?;
        bench.watch(&channel);
        Ok(Self { channel, below, heard })
    }

    /// The bodies that were heard so far.
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.heard.received().iter().map(|received| received.message.bytes().clone()).collect()
    }

    /// Tells this one of `member`.
    pub(super) async fn meet(&self, bench: &Bench, member: &Arc<Member>) {
        self.below.raise(MemberEvent::Added(Arc::clone(member)));
        bench.yield_now().await;
    }
}

impl Pair {
    /// Two that know each other, each with what `layers` makes.
    pub(super) async fn start(bench: &Bench, mut layers: impl FnMut() -> Vec<Layer>) -> Result<Self, String> {
        let one = End::start(bench, 4001, layers()).await?;
        let other = End::start(bench, 4002, layers()).await?;
        Self::introduce(bench, one, other).await
    }

    /// Two that are to know each other.
    pub(super) async fn introduce(bench: &Bench, one: End, other: End) -> Result<Self, String> {
        one.meet(bench, &other.channel.local()).await;
        other.meet(bench, &one.channel.local()).await;
        let pair = Self { one, other };
        pair.pump(bench).await?;
        Ok(pair)
    }

    /// Two with the subject alone.
    pub(super) async fn alone(bench: &Bench) -> Result<Self, String> {
        Self::start(bench, || vec![bench.layer()]).await
    }

    /// Takes what left either to the other until nothing more leaves them, without time passing.
    pub(super) async fn pump(&self, bench: &Bench) -> Verdict {
        let mut quiet = 0;
        while quiet < 2 {
            let mut moved = false;
            for (from, to) in [(&self.one, &self.other), (&self.other, &self.one)] {
                let local = to.channel.local();
                for Sent { message, to: members, multicast, .. } in from.below.take_sent() {
                    moved = true;
                    if multicast || members.contains(&local) {
                        let _ = bench.within("a message from below", to.below.inject(message)).await?;
                    }
                }
            }
            bench.yield_now().await;
            quiet = if moved { 0 } else { quiet + 1 };
        }
        Ok(())
    }

    /// As [`pump`](Self::pump), with time passing, until `done`.
    pub(super) async fn pump_until(
        &self,
        bench: &Bench,
        mut done: impl FnMut() -> bool,
        otherwise: impl FnOnce() -> String,
    ) -> Verdict {
        let deadline = bench.world.env().now() + bench.limit();
        loop {
            self.pump(bench).await?;
            if done() {
                return Ok(());
            }
            if bench.world.env().now() >= deadline {
                return Err(otherwise());
            }
            let step = if bench.is(Deliberate::DROPS) { bench.limit() / 40 } else { Duration::from_millis(10) };
            bench.world.sleep(step).await;
        }
    }

    /// Sends `bodies` from the first to the second, and expects them as they were. No time is to pass if the layer declares no
    /// delay.
    pub(super) async fn carry(&self, bench: &Bench, bodies: &[Bytes], options: SendOptions) -> Verdict {
        let (from, to) = (&self.one, &self.other);
        let (before, began) = (to.heard.count(), bench.world.env().now());
        let member = to.channel.local();
        let mut accepted = Vec::new();
        for body in bodies {
            let sent = bench.within("`send_with`", from.channel.send_with(&member, body.clone(), options)).await?;
            accepted.push(sent.map_err(|error| format!("a message of {} bytes is refused: {error}", body.len()))?);
        }
        let got = || to.heard.count().saturating_sub(before);
        self.pump(bench).await?;
        let passed = bench.world.env().now() - began;
        let strict = !bench.is(Deliberate::DROPS);
        if strict && !bench.is(Deliberate::DELAYS) && (got() < bodies.len() || passed > Duration::ZERO) {
            return Err(format!(
                "{} of {} messages went through at once, and {passed:?} passed: the layer declares no delay",
                got(),
                bodies.len()
            ));
        }
        let missing = || format!("{} of {} messages arrived", got(), bodies.len());
        let arrived = self.pump_until(bench, || got() >= bodies.len(), missing).await;
        if strict {
            arrived?;
        }
        let ids: Vec<_> = accepted.iter().map(|pending| pending.id().clone()).collect();
        for pending in accepted {
            let outcome = bench.outcome(pending).await?;
            if let Some(fault) = outcome.faults.first().filter(|_| strict) {
                return Err(format!("a message that was delivered is told to have failed: {fault}"));
            }
        }
        let heard = to.heard.received();
        let heard = heard.get(before..).unwrap_or_default();
        let bodies_heard: Vec<_> = heard.iter().map(|received| received.message.bytes().clone()).collect();
        arrivals::arrived(&bench.subject.profile, bodies, &bodies_heard, |_| false)?;
        for received in heard {
            let (message, sender) = (&received.message, from.channel.local());
            if !ids.contains(message.id()) {
                return Err(format!("a message arrived with another id: {}", message.id()));
            }
            if received.from != sender || !message.sender().same_content(&sender) {
                return Err(format!("a message of {sender} arrived as one of {}", message.sender()));
            }
            same_options(bench, options, message.options())?;
        }
        Ok(())
    }
}

/// Whether a message that was sent with `sent` may arrive with `got`.
pub(super) fn same_options(bench: &Bench, sent: SendOptions, got: SendOptions) -> Verdict {
    let (sent, got) = (sent | SendOptions::BYTE_MESSAGE, got | SendOptions::BYTE_MESSAGE);
    if sent - bench.may_change() == got - bench.may_change() {
        return Ok(());
    }
    Err(format!("sent with options {sent}, it arrived with {got}: a layer clears the bits that it set, and no others"))
}
