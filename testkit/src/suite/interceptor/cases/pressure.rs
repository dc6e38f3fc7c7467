//! Back-pressure passes through, down and up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tribes_core::{BudgetConfig, Inbound, Lease, OverloadPolicy, Pending, Receipt, Route, SendError, SendOptions};

use super::super::bench::Bench;
use super::super::pair::{End, Pair};
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::{Answer, Reaction, Recorder, member};

pub(super) fn backpressure(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let variants: Vec<_> =
            bench.variants().into_iter().filter(|options| options.contains(SendOptions::USE_ACK)).collect();
        // All of them with the first seed, then one after another.
        let some = if seed == 1 { variants.len() } else { 1 };
        for options in variants.iter().copied().cycle().skip(usize::try_from(seed).unwrap_or_default()).take(some) {
            // For those who wait, and those who do not; there are four variants at most.
            for by in [SendOptions::empty(), SendOptions::ASYNC] {
                let is_asynchronous = by == SendOptions::ASYNC;
                if seed == 1 || is_asynchronous == (seed / 4).is_multiple_of(2) {
                    let options = options | by;
                    down(bench, options).await.map_err(|error| format!("options {options}: {error}"))?;
                }
            }
        }
        if bench.is(Deliberate::DROPS) || bench.is(Deliberate::DUPLICATES) {
            return Ok(());
        }
        up(bench).await
    })
}

const TOTAL: usize = 64 * 1024;
const BODY: usize = 1000;

/// The transport keeps what it is given and takes no more.
async fn down(bench: &Bench, options: SendOptions) -> Verdict {
    let below = Recorder::new();
    let budget = BudgetConfig::with_total(TOTAL)
        .with_per_member(TOTAL)
        .with_policy(OverloadPolicy::Wait(Duration::from_millis(50)));
    let builder = below.install(bench.builder().budget(budget));
    let end = End::start_with(bench, below, builder, vec![bench.layer()]).await?;
    let (to, none) = (member(1), member(2));
    for member in [&to, &none] {
        end.meet(bench, member).await;
    }
    end.below.answer(Answer::Hold);
    let open = Arc::new(AtomicUsize::new(0));
    let (mut refused, mut most) = (0, 0);
    for _ in 0..3 * TOTAL / BODY {
        let sent = bench.within("`send_with`", end.channel.send_with(&to, bench.noise(BODY), options)).await?;
        match sent {
            Ok(pending) => count_while_open(&open, pending),
            Err(SendError::Full | SendError::Faulty { .. }) => refused += 1,
            Err(error) => return Err(format!("a full queue is told as: {error}")),
        }
        most = most.max(open.load(Ordering::Acquire));
    }
    // The bodies of those that are lost on purpose need no room.
    let lost = if bench.is(Deliberate::DROPS) { TOTAL / 2 } else { 0 };
    if most * BODY > TOTAL + 2 * BODY + lost {
        return Err(format!(
            "{most} messages of {BODY} bytes wait for a transport that takes none ({refused} were refused), but there is \
             room for {TOTAL} bytes: what a layer keeps it admits to the budget"
        ));
    }
    // What goes on again gets rid of all.
    end.below.answer(Answer::Deliver);
    let all_out = || {
        end.below.release();
        open.load(Ordering::Acquire) == 0
    };
    let late = || format!("{} messages have no outcome after the transport goes on", open.load(Ordering::Acquire));
    bench.until(all_out, late).await?;
    let room = || end.channel.stats().budget_used;
    bench.until(|| room() == 0, || format!("{} bytes of the budget stay taken", room())).await
}

fn count_while_open(open: &Arc<AtomicUsize>, pending: Pending) {
    open.fetch_add(1, Ordering::AcqRel);
    let open = Arc::clone(open);
    pending.on_complete(move |_| {
        open.fetch_sub(1, Ordering::AcqRel);
    });
}

/// A listener does not get on: who keeps a message keeps its lease, or has answered its sender.
async fn up(bench: &Bench) -> Verdict {
    let pair = Pair::alone(bench).await?;
    pair.other.heard.react(Reaction::Hold);
    let member = pair.other.channel.local();
    let options = bench.with(SendOptions::SYNC_ACK);
    let (leases, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut taken = 0;
    for _ in 0..30 {
        let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, bench.body(500), options)).await?;
        drop(sent.map_err(|error| error.to_string())?);
        bench.world.sleep(Duration::from_millis(1)).await;
        for sent in pair.one.below.take_sent().into_iter().filter(|sent| sent.to.contains(&member)) {
            taken += 1;
            let told = Arc::clone(&answered);
            let receipt = Receipt::new(move |_| {
                told.fetch_add(1, Ordering::AcqRel);
            });
            leases.fetch_add(1, Ordering::AcqRel);
            let lease = Lease::new(Held(Arc::clone(&leases)));
            let Some(link) = pair.other.below.link() else { return Ok(()) };
            let message = Inbound::new(sent.message, receipt, lease, Route::Stream);
            let received = link.receive(message);
            let _ = bench.within("a message from below", received).await?;
        }
    }
    bench.world.sleep(Duration::from_millis(100)).await;
    let (kept, answered_by_then) = (leases.load(Ordering::Acquire), answered.load(Ordering::Acquire));
    if kept + answered_by_then < taken {
        return Err(format!(
            "{taken} messages came from below; {answered_by_then} are answered, but only {kept} hold room in the receiver's \
             memory: a layer that keeps a message keeps its lease, or parks its receipt and bounds what it keeps"
        ));
    }
    // The listener goes on.
    let done = || {
        pair.other.heard.react(Reaction::Take);
        pair.other.heard.release();
        leases.load(Ordering::Acquire) == 0 && answered.load(Ordering::Acquire) == taken
    };
    let late = || {
        let (leases, answered) = (leases.load(Ordering::Acquire), answered.load(Ordering::Acquire));
        format!("the listener went on, but {answered} of {taken} messages are answered, and {leases} hold room")
    };
    bench.until(done, late).await
}

/// Room in the receiver's memory, counted.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
