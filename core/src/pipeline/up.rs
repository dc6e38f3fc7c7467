//! The walk up: from a receiver, or a layer that delivers, to the listeners.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Next, Slot, Stack, Step, catch, catch_now};
use crate::delivery::Inbound;
use crate::error::ReceiveError;
use crate::interceptor::{Cx, Interest, Layer, SyncInterceptor, Verdict, WireEffect};

/// What a synchronous layer made of a message on its way up; its text if it panicked.
type SyncResult = Result<Verdict<Inbound>, String>;

/// Whether a layer is called for a message on its way up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    No,
    /// It would be, but the sender does not know its bytes.
    NotOurs,
    Yes {
        matches: bool,
    },
}

impl Stack {
    fn called_up(&self, slot: &Slot, msg: &Inbound) -> Called {
        match slot.called(Interest::RECEIVE, msg.message.options) {
            None => Called::No,
            Some(_) if slot.wire == WireEffect::Ours && !self.is_between_ours(msg) => Called::NotOurs,
            Some(matches) => Called::Yes { matches },
        }
    }

    /// Whether sender and receiver take each other for nodes of ours.
    fn is_between_ours(&self, msg: &Inbound) -> bool {
        msg.is_from_ours() && self.local.load().id().is_ours()
    }

    /// Takes `msg` up through the layers above `place` and delivers it.
    pub(crate) async fn receive_from(&self, place: usize, mut msg: Inbound) -> Result<(), ReceiveError> {
        for (at, slot) in self.slots.iter().enumerate().take(place).rev() {
            let Some(matches) = slot.called(Interest::RECEIVE, msg.message.options) else { continue };
            if slot.wire == WireEffect::Ours && !self.is_between_ours(&msg) {
                slot.up.passed_by();
                continue;
            }
            match &slot.layer {
                Layer::Sync(layer) => match self.call_up(slot, &**layer, &mut msg, matches) {
                    // The usual case: the message is not even moved.
                    Ok(Verdict::Pass) => {}
                    verdict => return self.receive_from_step(at, verdict, msg).await,
                },
                Layer::Async(layer) => {
                    let timed = self.telemetry && slot.up.enter(msg.message.body.len());
                    let beyond = AtomicU64::new(0);
                    let started = timed.then(|| self.env.now());
                    let next = Next::new(self, at, matches, timed.then_some(&beyond));
                    let result = catch(layer.receive(msg, next)).await;
                    if let Some(started) = started {
                        let own = (self.env.now() - started)
                            .saturating_sub(Duration::from_nanos(beyond.load(Ordering::Relaxed)));
                        slot.up.took(own);
                    }
                    return match result {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(error)) => {
                            slot.up.failed("refused");
                            Err(error)
                        }
                        Err(text) => {
                            slot.up.failed("panicked");
                            Err(ReceiveError::Panicked { layer: slot.name, text })
                        }
                    };
                }
            }
        }
        match self.deliver(&mut vec![msg], 1) {
            0 => Ok(()),
            _ => Err(ReceiveError::Stopped),
        }
    }

    /// Takes the messages of `batch` up, as [`receive_from`](Self::receive_from) does one after another. How many were
    /// refused.
    pub(crate) async fn receive_batch_from(&self, place: usize, batch: &mut Vec<Inbound>) -> usize {
        let mut refused = 0;
        let waits = |slot: &Slot| slot.interest.contains(Interest::RECEIVE) && matches!(slot.layer, Layer::Async(_));
        if self.slots.iter().take(place).any(waits) {
            for msg in batch.drain(..) {
                refused += usize::from(self.receive_from(place, msg).await.is_err());
            }
            return refused;
        }
        let mut place = place;
        // Layer by layer: each counts the batch at once, and its code is at hand.
        while let Some(at) = place.checked_sub(1) {
            let Some((index, verdict)) = self.slots.get(at).and_then(|slot| self.pass_up(slot, batch)) else {
                place = at;
                continue;
            };
            // What came before it goes first; what comes after it has not seen this layer.
            let mut before: Vec<_> = batch.drain(..index).collect();
            if !before.is_empty() {
                refused += Box::pin(self.receive_batch_from(at, &mut before)).await;
            }
            if !batch.is_empty() {
                let msg = batch.remove(0);
                refused += usize::from(self.receive_from_step(at, verdict, msg).await.is_err());
            }
        }
        let count = batch.len();
        refused + self.deliver(batch, count)
    }

    fn deliver(&self, batch: &mut Vec<Inbound>, count: usize) -> usize {
        match self.top.get() {
            Some(top) => top.deliver(batch, count),
            None => batch.drain(..count).len(),
        }
    }

    /// Takes messages in place through a synchronous layer, up to the first that it does not just pass on; that is returned.
    fn pass_up(&self, slot: &Slot, batch: &mut [Inbound]) -> Option<(usize, SyncResult)> {
        let Layer::Sync(layer) = &slot.layer else { return None };
        if !slot.interest.contains(Interest::RECEIVE) {
            return None;
        }
        let Some(link) = slot.link.get() else {
            let refused = || Verdict::Refuse("the channel is gone".into());
            return (!batch.is_empty()).then(|| (0, Ok(refused())));
        };
        let mut start = 0;
        while let Some(first) = batch.get(start) {
            let called = self.called_up(slot, first);
            let same = |msg: &&Inbound| self.called_up(slot, msg) == called;
            let len = batch.iter().skip(start).take_while(same).count();
            let run = batch.get_mut(start..start + len)?;
            match called {
                Called::No => {}
                Called::NotOurs => (0..len).for_each(|_| slot.up.passed_by()),
                Called::Yes { matches } => {
                    let mut cx = Cx::new(matches, link, slot.below_waits);
                    let (passed, verdict) = self.call_up_batch(slot, &**layer, run, &mut cx);
                    if passed < len {
                        return Some((start + passed, verdict));
                    }
                }
            }
            start += len;
        }
        None
    }

    /// Calls a synchronous layer with messages on their way up, counted and timed.
    fn call_up_batch(
        &self,
        slot: &Slot,
        layer: &dyn SyncInterceptor,
        run: &mut [Inbound],
        cx: &mut Cx<'_>,
    ) -> (usize, SyncResult) {
        let started = (self.telemetry && slot.up.is_due(run.len())).then(|| self.env.now());
        // Counted as they come, as the layer may shorten them.
        let bytes = |run: &[Inbound]| run.iter().map(|msg| msg.message.body.len()).sum::<usize>();
        let all = if self.telemetry { bytes(run) } else { 0 };
        let called = catch_now(|| layer.receive_batch(run, cx));
        let (passed, verdict) = match called {
            Ok((passed, verdict)) => (passed.min(run.len()), Ok(verdict)),
            Err(panic) => (cx.index().min(run.len().saturating_sub(1)), Err(panic)),
        };
        if self.telemetry {
            // Those behind one that does not pass come again, untouched.
            let again = run.get(passed + 1..).unwrap_or_default();
            let entered = u32::try_from(run.len() - again.len()).unwrap_or(u32::MAX);
            slot.up.entered(entered, all.saturating_sub(bytes(again)));
            if let Some(started) = started {
                slot.up.took((self.env.now() - started) / entered.max(1));
            }
        }
        (passed, verdict)
    }

    /// Calls a synchronous layer with a message on its way up, counted and timed.
    fn call_up(&self, slot: &Slot, layer: &dyn SyncInterceptor, msg: &mut Inbound, matches: bool) -> SyncResult {
        let timed = self.telemetry && slot.up.enter(msg.message.body.len());
        let started = timed.then(|| self.env.now());
        let Some(link) = slot.link.get() else { return Ok(Verdict::Refuse("the channel is gone".into())) };
        let verdict = catch_now(|| layer.receive(msg, &mut Cx::new(matches, link, slot.below_waits)));
        if let Some(started) = started {
            slot.up.took(self.env.now() - started);
        }
        verdict
    }

    /// What follows when the layer at `at` did not just pass the message on.
    async fn receive_from_step(&self, at: usize, verdict: SyncResult, msg: Inbound) -> Result<(), ReceiveError> {
        let Some(slot) = self.slots.get(at) else { return Ok(()) };
        match self.up_step(slot, verdict, msg)? {
            None => Ok(()),
            Some(Step::Go(next)) => Box::pin(self.receive_from(at, next)).await,
            Some(Step::Many(parts)) => {
                for part in parts {
                    Box::pin(self.receive_from(at, part)).await?;
                }
                Ok(())
            }
        }
    }

    fn up_step(&self, slot: &Slot, verdict: SyncResult, msg: Inbound) -> Result<Option<Step<Inbound>>, ReceiveError> {
        match verdict {
            Ok(Verdict::Pass) => Ok(Some(Step::Go(msg))),
            Ok(Verdict::Replace(other)) => Ok(Some(Step::Go(other))),
            Ok(Verdict::Many(parts)) => Ok(Some(Step::Many(parts))),
            Ok(Verdict::Drop(reason)) => {
                slot.up.dropped(reason);
                msg.receipt.accept();
                Ok(None)
            }
            Ok(Verdict::Refuse(source)) => {
                slot.up.failed("refused");
                let error = ReceiveError::Refused { layer: slot.name, reason: source.to_string() };
                msg.receipt.resolve(crate::delivery::Handled::Failed(error.to_string()));
                Err(error)
            }
            Err(text) => {
                slot.up.failed("panicked");
                let error = ReceiveError::Panicked { layer: slot.name, text };
                msg.receipt.resolve(crate::delivery::Handled::Failed(error.to_string()));
                Err(error)
            }
        }
    }
}
