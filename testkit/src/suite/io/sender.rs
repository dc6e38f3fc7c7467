//! What a sender has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::error::FaultKind;
use tribes_core::{SendError, SendOptions};

use super::super::run::{Case, Verdict};
use super::Subject;
use super::bench::{Bench, run, same};
use crate::Reaction;

#[doc(hidden)]
#[macro_export]
macro_rules! __sender_cases {
    ([$($then:tt)*] $args:tt) => {
        $($then)* { $args
            lifecycle "it starts and stops, also twice, in time, and works after each start";
            delivery "bodies of any size arrive unchanged, once and in order, under each acknowledgement";
            concurrency "what many tasks send at once arrives once, and each task's in order";
            outcomes "one outcome for each message, which blames the member that is not there and nobody else";
            receipts "a synchronized acknowledgement is what the remote listener said";
            independence "a member that does not get on delays no other";
            backpressure "no more is accepted than there is room for, and all of it gets its outcome";
            cancellation "a send or a start that is dropped at any of its awaits spoils nothing";
            stopping "what is accepted when the sender stops has its outcome soon";
            probes "a member that is there is found alive, one that is not is found so in time";
            memory "when traffic has ended, no body and no room is kept";
        }
    };
}

macro_rules! table {
    (() $($name:ident $demand:literal;)*) => {
        pub(super) const ALL: &[Case<Subject>] =
            &[$(Case { name: stringify!($name), demand: $demand, run: |subject, seed| run(subject, seed, $name) }),*];
    };
}

__sender_cases! { [table!] () }

const ACKS: [SendOptions; 3] = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK];

/// How long a stop may take with nothing to drain.
const IDLE_STOP: Duration = Duration::from_secs(1);
/// How long a stop may take at all: what a channel lets its parts have, by default, and a second.
const STOP: Duration = Duration::from_secs(6);

pub(super) async fn lifecycle(bench: &Bench) -> Verdict {
    let sites = bench.sites(2)?;
    let stations: Result<Vec<_>, _> = sites.into_iter().map(|site| bench.station(site, |builder| builder)).collect();
    let stations = stations?;
    let [one, other] = stations.as_slice() else { return Ok(()) };
    bench.stop(one, IDLE_STOP).await?;
    for round in 0..3 {
        for _ in 0..=bench.below(2) {
            bench.start(one).await?;
            bench.start(other).await?;
        }
        let addr = (one.channel.local().port(), other.channel.local().port());
        if addr.0 <= 0 || addr.1 <= 0 {
            return Err(format!("round {round}: started at ports {addr:?}"));
        }
        for (from, to) in [(one, other), (other, one)] {
            let to = [to.channel.local()];
            bench
                .carry(from, &to, bench.body(100), SendOptions::SYNC_ACK)
                .await
                .map_err(|e| format!("round {round}: {e}"))?;
        }
        for _ in 0..=bench.below(2) {
            bench.stop(one, IDLE_STOP).await?;
            bench.stop(other, IDLE_STOP).await?;
        }
    }
    Ok(())
}

pub(super) async fn delivery(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [one, others @ ..] = group.as_slice() else { return Ok(()) };
    let to: Vec<_> = others.iter().map(|other| other.channel.local()).collect();
    let mut sent = Vec::new();
    for options in ACKS {
        // One at a time, then many at once.
        let mut open = Vec::new();
        for (number, longest) in [1, 10, 1000, 10_000, 300_000, 50, 50, 50].into_iter().enumerate() {
            let body = bench.body(1 + bench.below(longest));
            sent.push(body.clone());
            let pending = bench.within("`send_with`", one.channel.send_with(&to, body, options)).await?;
            let pending = pending.map_err(|error| format!("options {options}: {error}"))?;
            if number < 4 { complete(bench.outcome(pending).await?, options)? } else { open.push(pending) }
        }
        for pending in open {
            complete(bench.outcome(pending).await?, options)?;
        }
    }
    // The empty one is like any other.
    bench.carry(one, &to, Bytes::new(), SendOptions::SYNC_ACK).await?;
    sent.push(Bytes::new());
    for other in others {
        let missing = || format!("{} of {} messages arrived", other.heard.count(), sent.len());
        bench.until(|| other.heard.count() >= sent.len(), missing).await?;
        bench.stays(|| other.heard.count() == sent.len(), || "more messages arrived than were sent".to_owned()).await?;
        same(&sent, &other.bodies())?;
        for received in other.heard.received() {
            if received.from.id() != one.channel.local().id() {
                return Err(format!("a message of {} arrived as one of {}", one.channel.local(), received.from));
            }
        }
    }
    Ok(())
}

/// Whether everybody has it, in the way that was asked for.
fn complete(outcome: tribes_core::Outcome, options: SendOptions) -> Verdict {
    if let Some(fault) = outcome.faults.first() {
        return Err(format!("options {options}: {fault}"));
    }
    Ok(())
}

pub(super) async fn concurrency(bench: &Bench) -> Verdict {
    const TASKS: usize = 6;
    const EACH: usize = 30;
    let group = bench.group(3).await?;
    let [one, others @ ..] = group.as_slice() else { return Ok(()) };
    let to: Vec<_> = others.iter().map(|other| other.channel.local()).collect();
    let (mut running, mut sent) = (Vec::new(), Vec::new());
    for task in 0..TASKS {
        let bodies: Vec<Bytes> =
            (0..EACH).map(|number| format!("{task} {number} {}", "x".repeat(number * 7)).into()).collect();
        sent.push(bodies.clone());
        let (channel, to) = (one.channel.clone(), to.clone());
        let (report, done) = tokio::sync::oneshot::channel();
        bench.env.spawn(async move {
            let mut failed = Vec::new();
            for (body, options) in bodies.into_iter().zip(ACKS.iter().cycle()) {
                if let Err(error) = channel.send(&to, body, *options).await {
                    failed.push(error.to_string());
                }
            }
            let _ = report.send(failed);
        });
        running.push(done);
    }
    for task in running {
        let failed = bench.within("a sending task", task).await?.map_err(|_gone| "a task panicked".to_owned())?;
        if let Some(error) = failed.first() {
            return Err(error.clone());
        }
    }
    for other in others {
        let missing = || format!("{} of {} messages arrived", other.heard.count(), TASKS * EACH);
        bench.until(|| other.heard.count() >= TASKS * EACH, missing).await?;
        for (task, sent) in sent.iter().enumerate() {
            let prefix = format!("{task} ");
            let own: Vec<_> = other.bodies().into_iter().filter(|body| body.starts_with(prefix.as_bytes())).collect();
            same(sent, &own).map_err(|error| format!("of task {task}: {error}"))?;
        }
    }
    Ok(())
}

pub(super) async fn outcomes(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [one, alive, dead] = group.as_slice() else { return Ok(()) };
    let to = [alive.channel.local(), dead.channel.local()];
    bench.stop(dead, STOP).await?;
    for options in [SendOptions::ACK, SendOptions::SYNC_ACK, SendOptions::ACK] {
        let outcome = bench.send(one, &to, bench.body(100), options).await?;
        let blamed: Vec<_> = outcome.faults.iter().map(|fault| fault.member.id()).collect();
        if blamed != [to[1].id()] {
            return Err(format!("options {options}: one of two members is gone, but the outcome is {outcome:?}"));
        }
        if let Some(FaultKind::Dropped { by, reason }) = outcome.faults.first().map(|fault| &fault.kind) {
            return Err(format!("options {options}: the fault says only: dropped by {by}: {reason}"));
        }
    }
    if alive.heard.count() != 3 {
        return Err(format!("the member that is there got {} of 3 messages", alive.heard.count()));
    }
    Ok(())
}

pub(super) async fn receipts(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    let to = [other.channel.local()];
    for (reaction, fails) in
        [(Reaction::Fail("the listener's own words"), true), (Reaction::Take, false), (Reaction::Decline, false)]
    {
        other.heard.react(reaction);
        let outcome = bench.send(one, &to, bench.body(10), SendOptions::SYNC_ACK).await?;
        match outcome.faults.first().map(|fault| &fault.kind) {
            Some(FaultKind::RemoteFailure(_)) if fails => {}
            None if !fails => {}
            found => return Err(format!("the remote listener was to {reaction:?}, and the sender hears {found:?}")),
        }
    }
    Ok(())
}

pub(super) async fn independence(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [one, slow, quick] = group.as_slice() else { return Ok(()) };
    slow.heard.react(Reaction::Hold);
    let both = [slow.channel.local(), quick.channel.local()];
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let sent = one.channel.send_with(&both[..], bench.body(1000), SendOptions::SYNC_ACK);
        waiting.push(bench.within("`send_with`", sent).await?.map_err(|error| error.to_string())?);
    }
    let late = || format!("{} of 10 messages arrived where nobody is slow", quick.heard.count());
    bench.until(|| quick.heard.count() == 10, late).await?;
    let began = bench.env.now();
    bench.carry(one, &[quick.channel.local()], bench.body(10), SendOptions::SYNC_ACK).await?;
    let took = bench.env.now() - began;
    if took > Duration::from_secs(1) {
        return Err(format!("a message to one member takes {took:?} while another does not get on"));
    }
    let_go(bench, slow, 10).await?;
    for pending in waiting {
        complete(bench.outcome(pending).await?, SendOptions::SYNC_ACK)?;
    }
    Ok(())
}

/// Lets the listener go on until `count` messages came.
pub(super) async fn let_go(bench: &Bench, station: &super::bench::Station, count: usize) -> Verdict {
    station.heard.react(Reaction::Take);
    let there = || {
        station.heard.release();
        station.heard.count() >= count
    };
    bench
        .until(there, || format!("{} of {count} messages arrived after the listener went on", station.heard.count()))
        .await
}

pub(super) async fn backpressure(bench: &Bench) -> Verdict {
    const TOTAL: usize = 256 * 1024;
    const BODY: usize = 16 * 1024;
    let group = bench.group_with(2, |builder| builder.budget(Bench::small(TOTAL))).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    other.heard.react(Reaction::Hold);
    let (to, open) = ([other.channel.local()], Arc::new(AtomicUsize::new(0)));
    let (mut accepted, mut most) = (0, 0);
    for _ in 0..4 * TOTAL / BODY {
        let sent = one.channel.send_with(&to[..], bench.body(BODY), SendOptions::SYNC_ACK);
        match bench.within("`send_with`", sent).await? {
            Ok(pending) => {
                accepted += 1;
                open.fetch_add(1, Ordering::AcqRel);
                let open = Arc::clone(&open);
                pending.on_complete(move |_| {
                    open.fetch_sub(1, Ordering::AcqRel);
                });
            }
            Err(SendError::Full | SendError::Faulty { .. }) => {}
            Err(error) => return Err(format!("a full queue is told as: {error}")),
        }
        most = most.max(one.channel.stats().budget_used);
    }
    if most > TOTAL + BODY {
        return Err(format!("{most} bytes of the budget were taken, of {TOTAL}"));
    }
    let finished = || {
        other.heard.react(Reaction::Take);
        other.heard.release();
        open.load(Ordering::Acquire) == 0 && one.channel.stats().budget_used == 0
    };
    let late = || {
        let (open, used) = (open.load(Ordering::Acquire), one.channel.stats().budget_used);
        format!("of {accepted} messages {open} have no outcome, and {used} bytes stay taken")
    };
    bench.until(finished, late).await
}

pub(super) async fn cancellation(bench: &Bench) -> Verdict {
    let group = bench.group_with(2, |builder| builder.budget(Bench::small(64 * 1024))).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    let to = [other.channel.local()];
    let mut kept = Vec::new();
    for polls in 0..12 {
        // Larger than the room: accepting one has to wait for those before it.
        let body = bench.body(30_000);
        let _ = bench.polled(polls, one.channel.send_with(&to[..], body, SendOptions::ACK)).await;
        let body = Bytes::from(format!("kept {polls}"));
        bench.carry(one, &to, body.clone(), SendOptions::SYNC_ACK).await?;
        kept.push(body);
    }
    let got: Vec<_> = other.bodies().into_iter().filter(|body| body.starts_with(b"kept ")).collect();
    same(&kept, &got)?;
    for polls in 0..4 {
        bench.stop(one, STOP).await?;
        let _ = bench.polled(polls, one.channel.start()).await;
        bench.stop(one, STOP).await?;
        bench.start(one).await?;
        bench.carry(one, &to, bench.body(10), SendOptions::SYNC_ACK).await?;
        let _ = bench.polled(polls, one.channel.stop()).await;
    }
    Ok(())
}

pub(super) async fn stopping(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [one, slow, quick] = group.as_slice() else { return Ok(()) };
    slow.heard.react(Reaction::Hold);
    let both = [slow.channel.local(), quick.channel.local()];
    let mut open = Vec::new();
    for options in ACKS.iter().cycle().take(12) {
        let sent = bench.within("`send_with`", one.channel.send_with(&both[..], bench.body(500), *options)).await?;
        open.push(sent.map_err(|error| error.to_string())?);
    }
    bench.stop(one, STOP).await?;
    for pending in open {
        let soon = bench.env.until(bench.env.now() + Duration::from_secs(1), pending).await;
        soon.ok_or("a message has no outcome after `stop`")?;
    }
    match one.channel.stats().budget_used {
        0 => Ok(()),
        used => Err(format!("{used} bytes of the budget stay taken after `stop`")),
    }
}

pub(super) async fn probes(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    let member = other.channel.local();
    let limit = Duration::from_secs(2);
    for alive in [true, false] {
        if !alive {
            bench.stop(other, STOP).await?;
        }
        let Some(link) = one.below.link() else { return Ok(()) };
        let began = bench.env.now();
        let found = bench.within("a probe", link.probe(&member, None, limit)).await?;
        let took = bench.env.now() - began;
        if found.is_alive() != alive || took > limit + Duration::from_millis(500) {
            let what = if alive { "is there" } else { "is gone" };
            return Err(format!("a member that {what} is found {found:?} after {took:?}, with {limit:?} given"));
        }
    }
    Ok(())
}

pub(super) async fn memory(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    let to = [other.channel.local()];
    let kept = Arc::new(AtomicUsize::new(0));
    for options in ACKS.iter().cycle().take(30) {
        kept.fetch_add(1, Ordering::AcqRel);
        let body = Bytes::from_owner(Counted(Arc::clone(&kept), bench.body(1 + bench.below(20_000))));
        bench.carry(one, &to, body, *options).await?;
    }
    let nothing = || {
        one.heard.forget();
        other.heard.forget();
        kept.load(Ordering::Acquire) == 0 && one.channel.stats().budget_used == 0
    };
    bench.until(nothing, || format!("{} bodies of 30 are still kept", kept.load(Ordering::Acquire))).await
}

struct Counted(Arc<AtomicUsize>, Bytes);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
