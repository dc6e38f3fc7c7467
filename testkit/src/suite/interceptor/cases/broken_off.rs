//! Calls that end early: dropped, or by a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{
    Cx, EventVerdict, Handled, Inbound, IntoLayer as _, Lease, MemberEvent, Outbound, Outcome, Receipt, Route,
    SendOptions, SyncInterceptor, Verdict as LayerVerdict,
};

use super::super::arrivals::arrived;
use super::super::bench::{Bench, PANICKER};
use super::super::pair::{End, Pair};
use super::super::slow::SlowSender;
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::{Recorder, member};

/// How often a future is polled at most.
const POLLS: usize = 12;

pub(super) fn cancellation(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        for options in [SendOptions::NONE, SendOptions::SYNC_ACK, SendOptions::ASYNC] {
            sends(bench, bench.with(options)).await.map_err(|error| format!("options {options}: {error}"))?;
        }
        receives(bench).await?;
        starts_and_stops(bench).await
    })
}

/// A send is dropped after each number of polls; the one after it works.
async fn sends(bench: &Bench, options: SendOptions) -> Verdict {
    let below = Recorder::new();
    // Every message takes three milliseconds, so that there is something to drop.
    let builder = below.install(bench.builder()).sender(SlowSender::new(&below, 3));
    let one = End::start_with(bench, below, builder, vec![bench.layer()]).await?;
    let other = End::start(bench, 4002, vec![bench.layer()]).await?;
    let pair = Pair::introduce(bench, one, other).await?;
    let (mut sent, mut dropped) = (Vec::new(), Vec::new());
    for polls in 0..POLLS {
        let to = [pair.other.channel.local(), member(9)];
        let body = bench.body(20 + bench.below(2000));
        let whole = bench.polled(polls, pair.one.channel.send_with(&to[..], body.clone(), options)).await;
        let done = whole.is_some();
        dropped.push(sent.len());
        sent.push(body);
        if let Some(pending) = whole {
            bench.outcome(pending.map_err(|error| error.to_string())?).await?;
        }
        let body = bench.body(20);
        let next = pair.one.channel.send_with(&to[..], body.clone(), options);
        let next = bench.within(&format!("the send after one that was dropped after {polls} polls"), next).await?;
        bench.outcome(next.map_err(|error| error.to_string())?).await?;
        sent.push(body);
        if done && polls > 6 {
            break;
        }
    }
    let wanted = sent.len() - dropped.len();
    let there = |got: &[Bytes]| {
        got.iter()
            .filter(|body| sent.iter().position(|sent| sent == *body).is_some_and(|at| !dropped.contains(&at)))
            .count()
    };
    let missing =
        || format!("{} of {wanted} messages arrived that came after dropped ones", there(&pair.other.bodies()));
    if bench.is(Deliberate::AGREES) {
        // Nobody carries what the members say of it to each other, nor answers for the one that is not there.
        pair.pump(bench).await?;
        bench.world.sleep(bench.limit()).await;
    } else {
        let arrives = pair.pump_until(bench, || there(&pair.other.bodies()) >= wanted, missing).await;
        if !bench.is(Deliberate::DROPS) {
            arrives?;
        }
        arrived(&bench.subject.profile, &sent, &pair.other.bodies(), |at| dropped.contains(&at))?;
    }
    let room = || pair.one.channel.stats().budget_used;
    bench
        .until(|| room() == 0, || format!("{} bytes of the budget stay taken by sends that were dropped", room()))
        .await
}

/// A receive is dropped, as when a connection ends.
async fn receives(bench: &Bench) -> Verdict {
    let pair = Pair::alone(bench).await?;
    let member = pair.other.channel.local();
    let (open, unanswered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for polls in (0..6).chain([usize::MAX]) {
        let body = bench.body(100);
        let options = bench.with(SendOptions::SYNC_ACK);
        let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, body, options)).await?;
        drop(sent.map_err(|error| error.to_string())?);
        bench.world.sleep(Duration::from_millis(1)).await;
        for sent in pair.one.below.take_sent().into_iter().filter(|sent| sent.to.contains(&member)) {
            let Some(link) = pair.other.below.link() else { return Ok(()) };
            open.fetch_add(1, Ordering::AcqRel);
            unanswered.fetch_add(1, Ordering::AcqRel);
            let (open, answered) = (Counted(Arc::clone(&open)), Counted(Arc::clone(&unanswered)));
            let message =
                Inbound::new(sent.message, Receipt::new(move |_| drop(answered)), Lease::new(open), Route::Stream);
            let _ = bench.polled(polls.min(200), link.receive(message)).await;
        }
    }
    let left = || (open.load(Ordering::Acquire), unanswered.load(Ordering::Acquire));
    let otherwise = || format!("after receives that were dropped, (leases, receipts) {:?} are never let go", left());
    bench.until(|| left() == (0, 0), otherwise).await?;
    // The sender starts anew; its messages get through.
    let fresh = Pair { one: End::start(bench, 4009, vec![bench.layer()]).await?, other: pair.other };
    let fresh = Pair::introduce(bench, fresh.one, fresh.other).await?;
    fresh
        .carry(bench, &[bench.body(10), bench.body(1000)], bench.with(SendOptions::SYNC_ACK))
        .await
        .map_err(|error| format!("after receives that were dropped: {error}"))
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A start or stop is dropped; the next ones work.
async fn starts_and_stops(bench: &Bench) -> Verdict {
    let below = Recorder::new();
    let channel =
        below.install(bench.builder()).interceptor(bench.layer()).build().map_err(|error| error.to_string())?;
    bench.watch(&channel);
    for polls in 0..4 {
        let _ = bench.polled(polls, channel.start()).await;
        bench.stop(&channel).await?;
        bench.start(&channel).await.map_err(|error| format!("after a `start` dropped after {polls} polls: {error}"))?;
        below.raise(MemberEvent::Added(member(1)));
        let sent =
            bench.within("`send_with`", channel.send_with(member(1), bench.body(50), bench.with(SendOptions::ACK)));
        let pending = sent.await?.map_err(|error| error.to_string())?;
        let _ = bench.polled(polls, channel.stop()).await;
        let began = bench.world.env().now();
        bench.stop(&channel).await?;
        let took = bench.world.env().now() - began;
        if took > Duration::from_secs(6) {
            return Err(format!("a `stop` after one that was dropped after {polls} polls takes {took:?}"));
        }
        bench.outcome(pending).await?;
    }
    Ok(())
}

/// Panics over everything while it is told to.
#[derive(Clone, Debug, Default)]
struct Panicker(Arc<AtomicBool>);

impl Panicker {
    fn look(&self) {
        if self.0.load(Ordering::Acquire) {
            panic!("on purpose, by the conformance suite");
        }
    }

    fn set(&self, panics: bool) {
        self.0.store(panics, Ordering::Release);
    }
}

impl SyncInterceptor for Panicker {
    fn name(&self) -> &'static str {
        PANICKER
    }
    fn send(&self, _: &mut Outbound, _: &mut Cx<'_>) -> LayerVerdict<Outbound> {
        self.look();
        LayerVerdict::Pass
    }
    fn receive(&self, _: &mut Inbound, _: &mut Cx<'_>) -> LayerVerdict<Inbound> {
        self.look();
        LayerVerdict::Pass
    }
    fn member_event(&self, _: &MemberEvent, _: &mut Cx<'_>) -> EventVerdict {
        self.look();
        EventVerdict::Pass
    }
    fn outcome(&self, _: &Outcome) {
        self.look();
    }
}

pub(super) fn panics(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let (above, below) = (Panicker::default(), Panicker::default());
        let layers = || vec![above.clone().into_layer(), bench.layer()];
        let one = End::start(bench, 4001, vec![bench.layer(), Named(below.clone()).into_layer()]).await?;
        let other = End::start(bench, 4002, layers()).await?;
        let pair = Pair::introduce(bench, one, other).await?;
        let options = bench.with(SendOptions::SYNC_ACK);
        for round in 0..3 {
            let len = bench.below(3000);
            let what = |error| format!("round {round}, after a panic: {error}");
            // Above, on the way up; where the members first have to agree, it would go up with a later one.
            if !bench.is(Deliberate::AGREES) {
                above.set(true);
                panics_above(bench, &pair, options, len).await?;
                above.set(false);
            }
            pair.carry(bench, &[bench.body(len)], options).await.map_err(what)?;
            // Below, on the way down.
            below.set(true);
            let member = pair.other.channel.local();
            let sent = pair.one.channel.send_with(&member, bench.body(len), options);
            // Told at once, or to the members' account.
            let failed = match bench.within("`send_with` over a layer that panics", sent).await? {
                Ok(pending) => !bench.outcome(pending).await?.faults.is_empty(),
                Err(_) => true,
            };
            if !failed && !bench.is(Deliberate::DROPS) {
                return Err("the layer below panicked over a message, but its sender hears that all is well".to_owned());
            }
            below.set(false);
            pair.carry(bench, &[bench.body(len)], options).await.map_err(what)?;
        }
        // Over an event: membership goes on.
        above.set(true);
        let member = member(9);
        pair.other.below.raise(MemberEvent::Added(member.clone()));
        bench.world.sleep(Duration::from_millis(100)).await;
        above.set(false);
        pair.carry(bench, &[bench.body(10)], options)
            .await
            .map_err(|error| format!("after a panic over an event: {error}"))?;
        let room = || pair.one.channel.stats().budget_used + pair.other.channel.stats().budget_used;
        bench.until(|| room() == 0, || format!("{} bytes of the budget stay taken after panics", room())).await
    })
}

/// One message, over which the layer above panics; its sender does not hear that it was handled.
async fn panics_above(bench: &Bench, pair: &Pair, options: SendOptions, len: usize) -> Verdict {
    let member = pair.other.channel.local();
    let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, bench.body(len), options)).await?;
    drop(sent.map_err(|error| error.to_string())?);
    if bench.is(Deliberate::DELAYS) {
        bench.world.sleep(bench.limit()).await;
    }
    bench.yield_now().await;
    let mut answers = Vec::new();
    for sent in pair.one.below.take_sent().into_iter().filter(|sent| sent.to.contains(&member)) {
        let own = sent.message.options.contains(SendOptions::SYNC_ACK);
        let answer = bench.within("a message from below", pair.other.below.inject(sent.message)).await?;
        let handled = bench.within("the answer to a message from below", answer.handled()).await?;
        answers.push((own, handled));
    }
    let one_failed = answers.iter().any(|(_, handled)| matches!(handled, Handled::Failed(_)));
    let lost = bench.is(Deliberate::DROPS) || bench.is(Deliberate::DELAYS) || bench.is(Deliberate::REORDERS);
    if !one_failed && !lost {
        return Err(format!("the layer above panicked over a message, but its sender is answered {answers:?}"));
    }
    Ok(())
}

/// The same below, with a name of its own.
#[derive(Debug)]
struct Named(Panicker);

impl SyncInterceptor for Named {
    fn name(&self) -> &'static str {
        PANICKER
    }
    fn send(&self, out: &mut Outbound, cx: &mut Cx<'_>) -> LayerVerdict<Outbound> {
        self.0.send(out, cx)
    }
}
