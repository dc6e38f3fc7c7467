//! What is left when traffic has ended: nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::member::Departure;
use tribes_core::{Inbound, Lease, Member, MemberEvent, ProbeResult, Receipt, Route, SendOptions};

use super::super::bench::Bench;
use super::super::pair::{End, Pair};
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::member;

pub(super) fn memory(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let pair = Pair::alone(bench).await?;
        let kept = Kept::default();
        traffic(bench, &pair, &kept).await?;
        // What waits for something that never comes is given up in the end.
        for end in [&pair.one, &pair.other] {
            end.heard.forget();
        }
        for _ in 0..10 {
            bench.world.sleep(bench.limit()).await;
            for end in [&pair.one, &pair.other] {
                bench.within("the heartbeat", end.channel.heartbeat()).await?;
                end.heard.forget();
                let _ = end.below.take_sent();
            }
        }
        threads_catch_up(bench, || nothing_left(bench, &pair, &kept).is_ok()).await;
        nothing_left(bench, &pair, &kept)?;
        strangers(bench, &pair.other).await
    })
}

/// What may be kept, counted.
#[derive(Default)]
struct Kept {
    sent: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
    leases: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>, Bytes);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, bytes: Bytes) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count), bytes)
    }

    /// Bytes that say so when nobody has them any more.
    fn bytes(count: &Arc<AtomicUsize>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Self::new(count, bytes))
    }
}

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

/// Messages down and up, some of which get lost on the way.
async fn traffic(bench: &Bench, pair: &Pair, kept: &Kept) -> Verdict {
    let member = pair.other.channel.local();
    for (number, options) in (0..40).zip(bench.variants().iter().cycle()) {
        let len = if bench.below(8) == 0 { 150_000 } else { bench.below(800) };
        let body = Counted::bytes(&kept.sent, bench.body(1 + len));
        let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, body, *options)).await?;
        drop(sent.map_err(|error| format!("message {number}: {error}"))?);
        if bench.is(Deliberate::DELAYS) {
            bench.world.sleep(Duration::from_millis(200)).await;
        }
        bench.yield_now().await;
        for sent in pair.one.below.take_sent().into_iter().filter(|sent| sent.to.contains(&member)) {
            if bench.below(10) == 0 {
                continue;
            }
            let mut message = sent.message;
            message.body = Counted::bytes(&kept.received, message.body.to_bytes()).into();
            let lease = Lease::new(Counted::new(&kept.leases, Bytes::new()));
            let Some(link) = pair.other.below.link() else { return Ok(()) };
            let inbound = Inbound::new(message, Receipt::none(), lease, Route::Stream);
            let _ = bench.within("a message from below", link.receive(inbound)).await?;
        }
    }
    Ok(())
}

fn nothing_left(bench: &Bench, pair: &Pair, kept: &Kept) -> Verdict {
    let what = [
        (&kept.sent, "bodies of sent messages"),
        (&kept.received, "bodies of received messages"),
        (&kept.leases, "leases of received messages"),
    ];
    for (count, what) in what {
        let left = count.load(Ordering::Acquire);
        if left > 0 {
            return Err(format!("long after the last of 40 messages {left} {what} are still kept"));
        }
    }
    for end in [&pair.one, &pair.other] {
        let stats = end.channel.stats();
        if stats.budget_used > 0 {
            return Err(format!("{} bytes of the budget stay taken", stats.budget_used));
        }
        for gauge in stats.layers.iter().flat_map(|layer| &layer.gauges) {
            if gauge.value > 0 && bench.subject.profile.levels.contains(&gauge.name) {
                return Err(format!("long after the last message the gauge {} is still {}", gauge.name, gauge.value));
            }
        }
    }
    Ok(())
}

/// Gives threads of a layer's own, such as one that writes a file, real time to do what they have to, until `done`: virtual
/// time does not wait for them.
async fn threads_catch_up(bench: &Bench, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        bench.yield_now().await;
    }
}

/// How many of the members of the past may be remembered, unless the profile says otherwise.
const REMEMBERED: u16 = 100;

/// Every fourth seed lets members come and go, and where a layer remembers many, every so many seeds.
const HEAVY: u64 = 16;

/// Members that came, said something, and left.
async fn strangers(bench: &Bench, end: &End) -> Verdict {
    let remembered = bench.subject.profile.remembers.unwrap_or(REMEMBERED);
    let every = if remembered > REMEMBERED { HEAVY } else { 4 };
    if bench.seed % every != 1 {
        return Ok(());
    }
    let all = remembered + 100;
    let mut past: Vec<Weak<Member>> = Vec::new();
    for number in 0..all {
        let stranger = member(1000 + number);
        past.push(Arc::downgrade(&stranger));
        end.below.answer_probe(&stranger, ProbeResult::Answered);
        end.below.raise(MemberEvent::Added(Arc::clone(&stranger)));
        // Some are heard before they are known, the others after that.
        if number > all / 2 {
            bench.yield_now().await;
        }
        let message = end.below.message(&stranger, bench.body(bench.below(60)), bench.with(SendOptions::NONE));
        let _ = bench.within("a message from below", end.below.inject(message)).await?.passed;
        end.below.answer_probe(&stranger, ProbeResult::Refused);
        end.below.raise(MemberEvent::Removed(stranger, Departure::Shutdown));
        bench.world.sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..20 {
        bench.world.sleep(Duration::from_secs(30)).await;
        bench.within("the heartbeat", end.channel.heartbeat()).await?;
    }
    end.heard.forget();
    end.below.forget();
    let alive = || past.iter().filter(|member| member.strong_count() > 0).count();
    threads_catch_up(bench, || alive() <= usize::from(remembered)).await;
    let alive = alive();
    if alive > usize::from(remembered) {
        return Err(format!(
            "of {all} members that left long ago {alive} are still remembered, and {remembered} may be"
        ));
    }
    Ok(())
}
