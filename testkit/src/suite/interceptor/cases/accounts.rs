//! Each message is accounted for.

use std::sync::Arc;
use std::time::Duration;

use tribes_core::error::FaultKind;
use tribes_core::{Member, Outcome, SendOptions};

use super::super::bench::{Bench, Peer};
use super::super::pair::End;
use super::super::{Deliberate, Subject};
use super::traffic::complete;
use super::{Verdict, simulate};
use crate::{Answer, Reaction, member};

pub(super) fn outcomes(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let peers = bench.group().await?;
        let [sender, alive, dead] = peers.as_slice() else { return Ok(()) };
        let to = vec![alive.channel.local(), dead.channel.local()];
        dead.node.crash();
        let variants = bench.variants();
        let acked: Vec<_> = variants.iter().filter(|options| options.contains(SendOptions::USE_ACK)).collect();
        // The first messages go before anybody knows of the crash.
        for _ in 0..3 {
            for options in &acked {
                let sent = sender.channel.send_with(&to, bench.body(500), **options);
                let outcome = match bench.within("`send_with`", sent).await? {
                    Ok(pending) => bench.outcome(pending).await?,
                    Err(error) => return Err(format!("options {options}: the message is refused as a whole: {error}")),
                };
                let blamed: Vec<_> = outcome.faults.iter().map(|fault| &fault.member).collect();
                let agrees = bench.is(Deliberate::AGREES);
                let right = match bench.is(Deliberate::DROPS) || agrees {
                    true if agrees => blamed.len() == to.len(),
                    true => blamed.contains(&&dead.channel.local()),
                    false => blamed == [&dead.channel.local()],
                };
                if !right || outcome.attempted != 2 {
                    return Err(format!(
                        "options {options}: one of two members is dead, but the outcome is {outcome:?}"
                    ));
                }
                if let Some(FaultKind::Dropped { by, reason }) = outcome.faults.first().map(|fault| &fault.kind)
                    && !bench.is(Deliberate::DROPS)
                    && !agrees
                {
                    return Err(format!("options {options}: the fault says only: dropped by {by}: {reason}"));
                }
            }
            bench.world.sleep(Duration::from_millis(300)).await;
        }
        let room = || sender.channel.stats().budget_used;
        bench.until(|| room() == 0, || format!("{} bytes of the budget stay taken", room())).await
    })
}

/// What the transport says of the members, in this order.
fn answers(bench: &Bench) -> Vec<(Arc<Member>, Answer, Option<FaultKind>)> {
    let fault = |kind: FaultKind| (Answer::Fault(kind.clone()), Some(kind));
    let late = Duration::from_millis(1 + u64::try_from(bench.below(50)).unwrap_or_default());
    let mut all = vec![
        (Answer::Deliver, None),
        fault(FaultKind::QueueFull),
        fault(FaultKind::RemoteFailure(Some("its listener's own words".to_owned()))),
        (Answer::After(late, Box::new(Answer::Fault(FaultKind::AckTimeout(late)))), Some(FaultKind::AckTimeout(late))),
        (Answer::after(late), None),
        (Answer::Deliver, None),
    ];
    (1..=6)
        .map(|number| {
            let (answer, kind) = all.swap_remove(bench.below(all.len()));
            (member(number), answer, kind)
        })
        .collect()
}

pub(super) fn refusals(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let end = End::start(bench, 4000, vec![bench.layer()]).await?;
        let answers = answers(bench);
        for (member, answer, _) in &answers {
            end.below.answer_member(member, answer.clone());
            end.meet(bench, member).await;
        }
        let to: Vec<_> = answers.iter().map(|(member, ..)| Arc::clone(member)).collect();
        for options in bench.variants() {
            let body = bench.body(1 + bench.below(3000));
            let sent = bench.within("`send_with`", end.channel.send_with(&to, body, options)).await?;
            let pending = sent.map_err(|error| format!("options {options}: refused as a whole: {error}"))?;
            let outcome = bench.outcome(pending).await?;
            if bench.is(Deliberate::AGREES) {
                if outcome.faults.len() != to.len() {
                    return Err(format!("options {options}: some destinations fail and others do not: {outcome:?}"));
                }
                continue;
            }
            for (member, _, expected) in &answers {
                let found = outcome.fault_of(member);
                if found != expected.as_ref() && !bench.is(Deliberate::DROPS) {
                    return Err(format!(
                        "options {options}: those below say {expected:?} of {member}, but the sender hears {found:?}"
                    ));
                }
            }
        }
        whole(bench, &end, &to).await?;
        let room = || end.channel.stats().budget_used;
        bench.until(|| room() == 0, || format!("{} bytes of the budget stay taken", room())).await
    })
}

/// The transport refuses a message as a whole.
async fn whole(bench: &Bench, end: &End, to: &[Arc<Member>]) -> Verdict {
    for member in to {
        end.below.answer_member(member, Answer::Deliver);
    }
    for options in bench.variants() {
        end.below.answer(Answer::Refuse("no such thing"));
        let sent = bench.within("`send_with`", end.channel.send_with(to, bench.body(200), options)).await?;
        // Told at once, or to each member's account later.
        if let Ok(pending) = sent {
            let outcome = bench.outcome(pending).await?;
            let untold = to.iter().find(|member| outcome.fault_of(member).is_none());
            if let Some(member) = untold.filter(|_| !bench.is(Deliberate::DROPS)) {
                return Err(format!("options {options}: those below refuse the message, but for {member} all is well"));
            }
        }
        end.below.answer(Answer::Deliver);
        let sent = bench.within("`send_with`", end.channel.send_with(to, bench.body(200), options)).await?;
        let outcome = bench.outcome(sent.map_err(|error| error.to_string())?).await?;
        if !bench.is(Deliberate::DROPS) && !bench.is(Deliberate::AGREES) {
            complete(&outcome)
                .map_err(|error| format!("options {options}: the message after a refused one: {error}"))?;
        }
    }
    Ok(())
}

pub(super) fn receipts(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let peers = bench.group().await?;
        let [sender, receiver, ..] = peers.as_slice() else { return Ok(()) };
        let to = receiver.channel.local();
        // What never gets there cannot be answered there.
        let drops = bench.is(Deliberate::DROPS) || bench.is(Deliberate::DUPLICATES);
        for options in bench.variants().into_iter().filter(|options| options.contains(SendOptions::SYNC_ACK)) {
            receiver.heard.react(Reaction::Fail("the listener's own words"));
            let outcome = send(bench, sender, &to, options).await?;
            match outcome.fault_of(&to) {
                Some(FaultKind::RemoteFailure(_)) => {}
                _ if drops => {}
                other => {
                    return Err(format!(
                        "options {options}: the remote listener failed, but the sender hears {other:?}"
                    ));
                }
            }
            for (reaction, what) in
                [(Reaction::Decline, "nobody took it"), (Reaction::Take, "the one after a failed one")]
            {
                receiver.heard.react(reaction);
                let outcome = send(bench, sender, &to, options).await?;
                if !drops {
                    complete(&outcome).map_err(|error| format!("options {options}, {what}: {error}"))?;
                }
            }
        }
        Ok(())
    })
}

async fn send(bench: &Bench, from: &Peer, to: &Arc<Member>, options: SendOptions) -> Result<Outcome, String> {
    let body = bench.body(1 + bench.below(2000));
    let sent = bench.within("`send_with`", from.channel.send_with(to, body, options)).await?;
    bench.outcome(sent.map_err(|error| error.to_string())?).await
}
