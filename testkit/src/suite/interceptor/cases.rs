//! The cases.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::error::FaultKind;
use tribes_core::member::{Departure, Suspicion};
use tribes_core::{Channel, Member, MemberEvent, Outcome, ProbeResult, SendOptions};

use super::group::{Bench, Peer};
use super::{Case, Verdict};
use crate::checkers::ExactlyOnceInOrder;
use crate::{Layered, Reaction, Recorder, member};

macro_rules! cases {
    ($($name:literal, $run:ident, $demand:literal;)*) => {
        pub(super) const ALL: &[Case] =
            &[$(Case { name: $name, demand: $demand, run: |bench| Box::pin($run(bench)) }),*];
    };
}

cases! {
    "declaration", declaration, "a name in kebab-case, a trigger that a channel accepts, the same answers every time";
    "content", content, "every body arrives unchanged, once and in order";
    "empty-body", empty_body, "an empty body arrives as one";
    "outcomes", outcomes, "one outcome for each message, which blames the dead member only; no room stays taken";
    "receipts", receipts, "the answer of a remote listener comes back";
    "member-events", member_events, "membership events come through, all and in order";
    "stop-start", stop_start, "a stopped channel works again, and nothing accepted stays without an outcome";
    "concurrency", concurrency, "what many tasks send at once arrives once, and each task's in order";
    "heartbeat", heartbeat, "ten minutes of heartbeats change nothing";
    "garbage", garbage, "bodies from a broken or hostile peer are answered, and proper ones still come through";
}

async fn declaration(bench: &Bench) -> Verdict {
    let layer = bench.layer()?;
    let name = layer.name();
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(kebab) {
        return Err(format!("the name {name:?} is not in kebab-case"));
    }
    let answers = || (layer.name(), layer.trigger(), layer.interest(), layer.wire());
    if answers() != answers() {
        return Err("name, trigger, interest or wire effect change from one call to the next".to_owned());
    }
    let built = Recorder::new().install(Channel::builder().option_check(true)).interceptor(layer).build();
    built.map(drop).map_err(|error| error.to_string())
}

/// A body of `len` bytes that tells where it came from.
fn body(number: u64, len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(number);
    // Partly compressible, as real bodies are.
    (0..len).map(|at| if at % 3 == 0 { rng.u8(..) } else { b'a' }).collect::<Vec<u8>>().into()
}

async fn content(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let sizes = [1, 2, 7, 100, 1000, 8191, 70_000];
    let bodies: Vec<_> = (0u64..).zip(sizes).map(|(number, len)| body(number, len)).collect();
    all_arrive(bench, &peers, &bodies).await
}

async fn empty_body(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    all_arrive(bench, &peers, &[Bytes::new(), Bytes::from_static(b"x"), Bytes::new()]).await
}

/// Sends `bodies` from the first peer to all others at once, with all options, and expects just them to arrive.
async fn all_arrive(bench: &Bench, peers: &[Peer], bodies: &[Bytes]) -> Verdict {
    let Some((sender, receivers)) = peers.split_first() else { return Ok(()) };
    let to = addresses(receivers);
    for options in bench.variants() {
        let before: Vec<_> = receivers.iter().map(|peer| peer.heard.count()).collect();
        for (number, body) in bodies.iter().enumerate() {
            let sent = bench.within("`send_with`", sender.channel.send_with(&to, body.clone(), options)).await?;
            let pending = sent.map_err(|error| format!("message {number} with options {options}: {error}"))?;
            let outcome = bench.outcome(pending).await?;
            complete(&outcome).map_err(|error| format!("message {number} with options {options}: {error}"))?;
        }
        for (peer, before) in receivers.iter().zip(before) {
            let expected = before + bodies.len();
            let got = || peer.heard.count();
            let late = || format!("options {options}: {} of {} messages arrived", got() - before, bodies.len());
            bench.until(|| got() >= expected, late).await?;
            // Long enough for what should not come.
            bench.world.sleep(Duration::from_millis(100)).await;
            if got() > expected {
                return Err(format!(
                    "options {options}: {} messages arrived for {} sent",
                    got() - before,
                    bodies.len()
                ));
            }
            for (number, (received, body)) in peer.heard.received().iter().skip(before).zip(bodies).enumerate() {
                if received.message.bytes() != body {
                    let (got, sent) = (received.message.bytes().len(), body.len());
                    return Err(format!(
                        "options {options}: message {number} ({sent} bytes) arrived changed ({got} bytes), or out of order"
                    ));
                }
                let left = received.message.options() - options - SendOptions::BYTE_MESSAGE;
                if !left.is_empty() {
                    return Err(format!(
                        "options {options}: the message arrived with {left}: a layer clears the bits that it set"
                    ));
                }
            }
        }
    }
    Ok(())
}

fn addresses(peers: &[Peer]) -> Vec<Arc<Member>> {
    peers.iter().map(|peer| peer.channel.local()).collect()
}

fn complete(outcome: &Outcome) -> Verdict {
    outcome.faults.first().map_or(Ok(()), |fault| Err(fault.to_string()))
}

async fn outcomes(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let [sender, alive, dead] = peers.as_slice() else { return Ok(()) };
    let to = vec![alive.channel.local(), dead.channel.local()];
    dead.node.crash();
    // The first messages go before anybody knows of the crash.
    for number in 0..20 {
        for options in bench.variants().into_iter().filter(|options| options.contains(SendOptions::USE_ACK)) {
            let sent = bench.within("`send_with`", sender.channel.send_with(&to, body(number, 500), options)).await?;
            let outcome = match sent {
                Ok(pending) => bench.outcome(pending).await?,
                Err(error) => return Err(format!("options {options}: the message is refused as a whole: {error}")),
            };
            let blamed: Vec<_> = outcome.faults.iter().map(|fault| &fault.member).collect();
            if blamed != [&dead.channel.local()] || outcome.attempted != 2 {
                return Err(format!("options {options}: one of two members is dead, but the outcome is {outcome:?}"));
            }
            if let Some(FaultKind::Dropped { by, reason }) = outcome.faults.first().map(|fault| &fault.kind) {
                return Err(format!("options {options}: the fault says only: dropped by {by}: {reason}"));
            }
        }
        bench.world.sleep(Duration::from_millis(300)).await;
    }
    let room = || sender.channel.stats().budget_used;
    bench.until(|| room() == 0, || format!("{} bytes of the budget stay taken", room())).await
}

async fn receipts(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let [sender, receiver, ..] = peers.as_slice() else { return Ok(()) };
    let to = receiver.channel.local();
    for options in bench.variants().into_iter().filter(|options| options.contains(SendOptions::SYNC_ACK)) {
        receiver.heard.react_next(Reaction::Fail("the listener's own words"));
        let outcome = send(bench, sender, &to, options).await?;
        match outcome.fault_of(&to) {
            Some(FaultKind::RemoteFailure(_)) => {}
            other => {
                return Err(format!("options {options}: the remote listener failed, but the sender hears {other:?}"));
            }
        }
        receiver.heard.react_next(Reaction::Decline);
        let outcome = send(bench, sender, &to, options).await?;
        complete(&outcome)
            .map_err(|error| format!("options {options}: nobody took it, but the sender hears of {error}"))?;
        let outcome = send(bench, sender, &to, options).await?;
        complete(&outcome).map_err(|error| format!("options {options}: the message after a failed one: {error}"))?;
    }
    Ok(())
}

async fn send(bench: &Bench, from: &Peer, to: &Arc<Member>, options: SendOptions) -> Result<Outcome, String> {
    let sent = bench.within("`send_with`", from.channel.send_with(to, "a message", options)).await?;
    bench.outcome(sent.map_err(|error| error.to_string())?).await
}

async fn member_events(bench: &Bench) -> Verdict {
    let below = Recorder::new();
    let builder = Layered::builder().layer(bench.layer()?).members(0).below(below.clone()).env(bench.world.env());
    let stack = builder.start().await;
    bench.watch(&stack.channel);
    let changed = Arc::new(member(1).as_ref().clone().with_payload("changed"));
    let mut events = vec![
        MemberEvent::Added(member(1)),
        MemberEvent::Added(member(2)),
        MemberEvent::Updated(Arc::clone(&changed)),
        MemberEvent::Suspected(member(2), Suspicion::Silent),
        MemberEvent::Added(member(3)),
    ];
    for event in &events {
        below.raise(event.clone());
        bench.world.sleep(Duration::from_millis(10)).await;
    }
    let leaving = [(member(2), Departure::Failed), (member(3), Departure::Shutdown), (changed, Departure::Expired)];
    for (member, why) in leaving {
        // Whoever asks finds that it is gone.
        below.answer_probe(&member, ProbeResult::Refused);
        below.set_connected(&member, false);
        let event = MemberEvent::Removed(member, why);
        below.raise(event.clone());
        events.push(event);
    }
    let seen = || stack.above.events();
    let same = || seen().iter().map(kind).eq(events.iter().map(kind));
    bench.until(same, || format!("raised below: {events:?}; seen above: {:?}", seen())).await
}

/// An event without what a layer may know better, such as why a member left.
fn kind(event: &MemberEvent) -> (u8, &Arc<Member>) {
    let kind = match event {
        MemberEvent::Added(_) => 0,
        MemberEvent::Updated(_) => 1,
        MemberEvent::Suspected(..) => 2,
        MemberEvent::Removed(..) => 3,
        _ => 4,
    };
    (kind, event.member())
}

async fn stop_start(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let [sender, receiver, ..] = peers.as_slice() else { return Ok(()) };
    for round in 0..3 {
        let to = receiver.channel.local();
        let mut accepted = Vec::new();
        for number in 0..20 {
            let options = bench.with(SendOptions::ACK);
            let sent = bench.within("`send_with`", sender.channel.send_with(&to, body(number, 300), options)).await?;
            accepted.push(sent.map_err(|error| format!("round {round}: {error}"))?);
        }
        bench.stop(&sender.channel).await?;
        for pending in accepted {
            bench.outcome(pending).await.map_err(|error| format!("round {round}, after `stop`: {error}"))?;
        }
        bench.stop(&sender.channel).await?;
        bench.start(&sender.channel).await?;
        bench.settle(&peers).await;
        let outcome = send(bench, sender, &to, bench.with(SendOptions::SYNC_ACK)).await?;
        complete(&outcome).map_err(|error| format!("round {round}, after stop and start: {error}"))?;
        bench.stop(&receiver.channel).await?;
        bench.start(&receiver.channel).await?;
        bench.settle(&peers).await;
        let outcome = send(bench, sender, &receiver.channel.local(), bench.with(SendOptions::SYNC_ACK)).await?;
        complete(&outcome).map_err(|error| format!("round {round}, after stop and start of the receiver: {error}"))?;
    }
    Ok(())
}

async fn concurrency(bench: &Bench) -> Verdict {
    const TASKS: usize = 8;
    const EACH: u64 = 25;
    let peers = bench.group().await?;
    let mut tasks = Vec::new();
    let mut checker = ExactlyOnceInOrder::new();
    for (from, peer) in peers.iter().enumerate() {
        let others: Vec<_> =
            peers.iter().map(|peer| peer.channel.local()).filter(|to| *to != peer.channel.local()).collect();
        for task in 0..TASKS {
            for (to, _) in peers.iter().enumerate().filter(|(to, _)| *to != from) {
                (0..EACH).for_each(|number| checker.sent(format!("{from}.{task}"), to.to_string(), number));
            }
            let (channel, others, env) = (peer.channel.clone(), others.clone(), bench.world.env());
            let variants = bench.variants();
            let (report, done) = tokio::sync::oneshot::channel();
            bench.world.env().spawn(async move {
                let mut outcomes = Vec::new();
                for (number, options) in (0..EACH).zip(variants.iter().cycle()) {
                    let text =
                        format!("{from}.{task} {number} {}", "x".repeat(usize::try_from(number).unwrap_or(0) * 50));
                    outcomes.push(channel.send_with(&others, text, *options).await);
                    if number % 5 == 0 {
                        env.sleep(Duration::from_millis(1)).await;
                    }
                }
                let _ = report.send(outcomes);
            });
            tasks.push(done);
        }
    }
    for task in tasks {
        let outcomes =
            bench.within("a sending task", task).await?.map_err(|_gone| "a sending task panicked".to_owned())?;
        for pending in outcomes {
            complete(&bench.outcome(pending.map_err(|error| error.to_string())?).await?)?;
        }
    }
    let expected = TASKS * usize::try_from(EACH).unwrap_or(0) * (peers.len() - 1);
    for (to, peer) in peers.iter().enumerate() {
        let got = || peer.heard.count();
        bench.until(|| got() >= expected, || format!("{} of {expected} messages arrived", got())).await?;
        for text in peer.heard.texts() {
            let mut words = text.split(' ');
            let (Some(from), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else {
                return Err(format!("a message arrived changed: {text:?}"));
            };
            checker.received(from.to_owned(), to.to_string(), number);
        }
    }
    checker.finish().map(drop).map_err(|report| report.to_string())
}

async fn heartbeat(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let views = || peers.iter().map(|peer| peer.channel.view().len()).collect::<Vec<_>>();
    let before = views();
    for _ in 0..60 {
        bench.world.sleep(Duration::from_secs(10)).await;
        for peer in &peers {
            bench.within("the heartbeat", peer.channel.heartbeat()).await?;
        }
    }
    if views() != before {
        return Err(format!("members saw {before:?} others, and after ten minutes {:?}", views()));
    }
    all_arrive(bench, &peers, &[body(1, 100), body(2, 1000)]).await
}

async fn garbage(bench: &Bench) -> Verdict {
    let below = Recorder::new();
    let builder =
        Layered::builder().layer(bench.layer()?).below(below.clone()).env(bench.world.env()).expect_members(0);
    let stack = builder.start().await;
    bench.watch(&stack.channel);
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..400 {
        let len = if round % 10 == 0 { rng.usize(..20_000) } else { rng.usize(..40) };
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        if round % 4 == 0 {
            // Counts and lengths are often four bytes at one end.
            bytes.extend([0x7F, 0xFF, 0xFF, 0xFF]);
        }
        let bits = match round % 3 {
            0 => bench.trigger,
            1 => SendOptions::from_bits_retain(rng.u32(..)),
            _ => SendOptions::EXTENSION | SendOptions::GZIP,
        };
        let from = if round % 2 == 0 { member(rng.u16(1..=3)) } else { member(rng.u16(..)) };
        let message = below.message(&from, bytes, bits | SendOptions::SYNC_ACK);
        let answer = bench.within("a message from below", below.inject(message)).await?;
        bench.within("the answer to a message from below", answer.handled()).await?;
    }
    bench.no_panics()?;
    // A proper peer is not to suffer from that: what it sends still arrives.
    let wire = Recorder::new();
    let peer = Layered::builder()
        .layer(bench.layer()?)
        .below(wire.clone())
        .env(bench.world.env())
        .expect_members(0)
        .start()
        .await;
    bench.watch(&peer.channel);
    // A layer may hold messages back for a while.
    bench.world.sleep(Duration::from_secs(10)).await;
    let before = stack.above.count();
    let bodies = [body(1, 100), body(2, 5000)];
    for (number, body) in bodies.iter().enumerate() {
        let to = stack.channel.local();
        let sent =
            bench.within("`send`", peer.channel.send(&to, body.clone(), bench.with(SendOptions::SYNC_ACK))).await?;
        sent.map_err(|error| error.to_string())?;
        for frame in wire.take_sent() {
            let answer = bench.within("a message from a proper peer", below.inject(frame.message)).await?;
            bench.within("the answer to a proper peer", answer.handled()).await?;
        }
        let got = || stack.above.received().get(before + number).map(|received| received.message.bytes().clone());
        let missing = || {
            format!("after the garbage, message {number} of a proper peer arrives as {:?}", got().map(|got| got.len()))
        };
        bench.until(|| got().as_ref() == Some(body), missing).await?;
    }
    Ok(())
}
