//! The walk down: from `Channel::send`, or a layer that sends, to the transport.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Next, Slot, Stack, Step, catch, catch_now};
use crate::Time;
use crate::delivery::Outbound;
use crate::error::{FaultKind, SendError};
use crate::interceptor::{Cx, Interest, Layer, Readiness, Verdict, WireEffect};
use crate::transport::is_multicast;

/// How far a message came without waiting.
pub(crate) enum Walk {
    /// All the way, or to its end.
    Done(Result<(), SendError>),
    /// To the layer at `at`, which may wait.
    Layer { at: usize, out: Outbound, matches: bool, started: Option<Time> },
    /// To the transport, which has no room for these.
    Transport(Outbound),
    /// It is several now, which go on at `at`.
    Parts { at: usize, parts: Vec<Outbound> },
    /// Members that cannot read what the layer at `at` does are passed by it.
    Divided { at: usize, ours: Option<Outbound>, java: Outbound },
}

impl Stack {
    /// Sends `out` through the layers from `place` on and hands it to the transport.
    pub(crate) async fn send_from(&self, place: usize, out: Outbound) -> Result<(), SendError> {
        self.send_rest(self.send_now(place, out)).await
    }

    /// Goes on where something has to wait.
    pub(crate) async fn send_rest(&self, walk: Walk) -> Result<(), SendError> {
        match walk {
            Walk::Done(result) => result,
            Walk::Layer { at, out, matches, started } => self.send_async(at, out, matches, started).await,
            Walk::Transport(out) if is_multicast(out.message.options) => self.membership.broadcast(out).await,
            Walk::Transport(out) => self.sender.send(out).await,
            Walk::Parts { at, parts } => {
                for part in parts {
                    Box::pin(self.send_from(at, part)).await?;
                }
                Ok(())
            }
            Walk::Divided { at, ours, java } => {
                Box::pin(self.send_from(at + 1, java)).await?;
                match ours {
                    Some(ours) => Box::pin(self.send_from(at, ours)).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Takes `out` as far down as it gets without waiting, which is nearly always all the way: no future is made for that.
    pub(crate) fn send_now(&self, place: usize, mut out: Outbound) -> Walk {
        for (at, slot) in self.slots.iter().enumerate().skip(place) {
            let Some(matches) = slot.called(Interest::SEND, out.message.options) else { continue };
            if slot.wire == WireEffect::Ours
                && let Some(java) = self.extract_unable(&mut out)
            {
                slot.down.passed_by();
                let ours = (!out.to.is_empty()).then_some(out);
                return Walk::Divided { at, ours, java };
            }
            let timed = self.telemetry && slot.down.enter(out.len());
            let started = timed.then(|| self.env.now());
            let Some(link) = slot.link.get() else { return Walk::Done(Err(SendError::Stopped)) };
            let mut cx = Cx::new(matches, link, slot.below_waits);
            let verdict = match &slot.layer {
                Layer::Sync(layer) => catch_now(|| layer.send(&mut out, &mut cx)),
                Layer::Async(layer) => match catch_now(|| layer.send_now(&mut out, &mut cx)) {
                    Ok(Readiness::Pass) => Ok(Verdict::Pass),
                    Ok(Readiness::Wait) => return Walk::Layer { at, out, matches, started },
                    Err(text) => Err(text),
                },
            };
            if let Some(started) = started {
                slot.down.took(self.env.now() - started);
            }
            if matches!(verdict, Ok(Verdict::Pass)) {
                // The usual case: the message is not even moved.
                continue;
            }
            match self.down_step(slot, verdict, out) {
                Err(error) => return Walk::Done(Err(error)),
                Ok(None) => return Walk::Done(Ok(())),
                Ok(Some(Step::Go(next))) => out = next,
                Ok(Some(Step::Many(parts))) => return Walk::Parts { at: at + 1, parts },
            }
        }
        if is_multicast(out.message.options) {
            return Walk::Transport(out);
        }
        match self.sender.send_now(out) {
            Ok(None) => Walk::Done(Ok(())),
            Ok(Some(rest)) => Walk::Transport(rest),
            Err(error) => Walk::Done(Err(error)),
        }
    }

    /// The part of `out` for members that cannot read what a layer of our own makes of it: Java members, and all of them if
    /// this member's configured id lacks our mark, for then they take it for a Java member.
    fn extract_unable(&self, out: &mut Outbound) -> Option<Outbound> {
        let is_marked = self.local.load().id().is_ours();
        out.extract(|member| !(is_marked && member.id().is_ours()))
    }

    /// Has the asynchronous layer at `at` send `out`.
    async fn send_async(
        &self,
        at: usize,
        mut out: Outbound,
        matches: bool,
        started: Option<Time>,
    ) -> Result<(), SendError> {
        // The layer may keep it: then nobody has looked at the clock.
        out.at = Time::ZERO;
        let Some(Slot { layer: Layer::Async(layer), name, down, .. }) = self.slots.get(at) else {
            return Err(SendError::Stopped);
        };
        let beyond = AtomicU64::new(0);
        let next = Next::new(self, at, matches, started.map(|_| &beyond));
        let result = catch(layer.send(out, next)).await;
        if let Some(started) = started {
            let beyond = Duration::from_nanos(beyond.load(Ordering::Relaxed));
            down.took((self.env.now() - started).saturating_sub(beyond));
        }
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                down.failed("refused");
                Err(error)
            }
            Err(text) => {
                down.failed("panicked");
                Err(SendError::Panicked { layer: name, text })
            }
        }
    }

    fn down_step(
        &self,
        slot: &Slot,
        verdict: Result<Verdict<Outbound>, String>,
        out: Outbound,
    ) -> Result<Option<Step<Outbound>>, SendError> {
        match verdict {
            Ok(Verdict::Pass) => Ok(Some(Step::Go(out))),
            Ok(Verdict::Replace(other)) => Ok(Some(Step::Go(other))),
            Ok(Verdict::Many(parts)) => Ok(Some(Step::Many(parts))),
            Ok(Verdict::Drop(reason)) => {
                slot.down.dropped(reason);
                out.fail(&FaultKind::Dropped { by: slot.name, reason });
                Ok(None)
            }
            Ok(Verdict::Refuse(source)) => {
                slot.down.failed("refused");
                Err(SendError::Layer { layer: slot.name, source })
            }
            Err(text) => {
                slot.down.failed("panicked");
                Err(SendError::Panicked { layer: slot.name, text })
            }
        }
    }
}
