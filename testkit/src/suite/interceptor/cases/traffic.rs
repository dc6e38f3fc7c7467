//! Messages through groups: none is lost, doubled, changed or overtaken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tribes_core::{Member, Outcome, SendOptions};

use super::super::arrivals::arrived;
use super::super::bench::{Bench, Peer, traced};
use super::super::pair::{Pair, same_options};
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};

pub(super) fn content(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let peers = bench.group().await?;
        let variants = bench.variants();
        // All of them with the first seed, then one after another.
        let first = usize::try_from(seed).unwrap_or_default();
        let some = if seed == 1 { variants.len() } else { 2 };
        for options in variants.iter().cycle().skip(first).take(some) {
            let mut bodies = vec![bench.body(0)];
            for longest in [2, 8, 100, 2000, 9000, 70_000] {
                bodies.insert(bench.below(bodies.len() + 1), bench.body(1 + bench.below(longest)));
            }
            all_arrive(bench, &peers, &bodies, *options).await?;
        }
        Ok(())
    })
}

/// Sends `bodies` from the first peer to all others at once, and expects just them to arrive.
pub(super) async fn all_arrive(bench: &Bench, peers: &[Peer], bodies: &[Bytes], options: SendOptions) -> Verdict {
    let Some((sender, receivers)) = peers.split_first() else { return Ok(()) };
    let to = addresses(receivers);
    let before: Vec<_> = receivers.iter().map(|peer| peer.heard.count()).collect();
    let mut reported = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        let sent = bench.within("`send_with`", sender.channel.send_with(&to, body.clone(), options)).await?;
        let pending = sent.map_err(|error| format!("message {number} with options {options}: {error}"))?;
        let outcome = bench.outcome(pending).await?;
        if !bench.is(Deliberate::DROPS) {
            complete(&outcome).map_err(|error| format!("message {number} with options {options}: {error}"))?;
        }
        reported.push(outcome);
    }
    for (peer, before) in receivers.iter().zip(before) {
        let got = || peer.heard.count() - before;
        let late = || format!("options {options}: {} of {} messages arrived", got(), bodies.len());
        let there = bench.until(|| got() >= bodies.len(), late).await;
        if !bench.is(Deliberate::DROPS) {
            there?;
        }
        // Long enough for what should not come.
        bench.world.sleep(Duration::from_millis(100)).await;
        let received = peer.heard.received();
        let received = received.get(before..).unwrap_or_default();
        let came: Vec<_> = received.iter().map(|received| received.message.bytes().clone()).collect();
        let in_options = |error| format!("options {options}: {error}");
        arrived(&bench.subject.profile, bodies, &came, |_| false).map_err(in_options)?;
        for received in received {
            same_options(bench, options, received.message.options())?;
        }
        // Also of a layer that drops: what was acknowledged is there.
        let acknowledged = options.contains(SendOptions::USE_ACK) && !bench.is(Deliberate::DROPS_RECEIVED);
        for (number, (outcome, body)) in reported.iter().zip(bodies).enumerate() {
            if acknowledged && outcome.fault_of(&peer.channel.local()).is_none() && !came.contains(body) {
                let hint = match bench.is(Deliberate::DROPS) {
                    true => "; a layer that drops what it received declares `drops_received`",
                    false => "",
                };
                return Err(format!(
                    "options {options}: message {number} is told to be acknowledged, but never arrived{hint}"
                ));
            }
        }
    }
    Ok(())
}

fn addresses(peers: &[Peer]) -> Vec<Arc<Member>> {
    peers.iter().map(|peer| peer.channel.local()).collect()
}

pub(super) fn complete(outcome: &Outcome) -> Verdict {
    outcome.faults.first().map_or(Ok(()), |fault| Err(fault.to_string()))
}

/// Every so many seeds send much.
const HEAVY: u64 = 16;

pub(super) fn volume(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let pair = Pair::alone(bench).await?;
        let (batches, each) = if seed % HEAVY == 1 { (25, 100) } else { (4, 50) };
        let variants = bench.variants();
        let member = pair.other.channel.local();
        let mut sent = Vec::new();
        for (_, options) in (0..batches).zip(variants.iter().cycle()) {
            let mut pending = Vec::new();
            for _ in 0..each {
                let body = bench.body(8 + bench.below(16));
                let accepted = pair.one.channel.send_with(&member, body.clone(), *options);
                let accepted = bench.within("`send_with`", accepted).await?;
                pending.push(accepted.map_err(|error| format!("message {}: {error}", sent.len()))?);
                sent.push(body);
            }
            let enough = || pair.other.heard.count() >= sent.len();
            let _ = match bench.is(Deliberate::DROPS) {
                true => pair.pump(bench).await,
                false => pair.pump_until(bench, enough, String::new).await,
            };
            for pending in pending {
                bench.outcome(pending).await?;
            }
        }
        if bench.is(Deliberate::DROPS) {
            bench.world.sleep(bench.limit()).await;
            pair.pump(bench).await?;
        }
        arrived(&bench.subject.profile, &sent, &pair.other.bodies(), |_| false)
    })
}

/// What each of several tasks of each member sends to each other member.
pub(super) fn concurrency(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let (tasks, each) = if seed % HEAVY == 1 { (8, 20) } else { (3, 6) };
        let peers = bench.group().await?;
        let sent = from_many_tasks(bench, &peers, tasks, each).await?;
        for (to, peer) in peers.iter().enumerate() {
            let mut by_task: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            for received in peer.heard.received() {
                let text = received.text();
                let Some((task, _)) = text.split_once(' ') else {
                    return Err(format!("a message arrived changed: {text:?}"));
                };
                by_task.entry(task.to_owned()).or_default().push(received.message.bytes().clone());
            }
            for ((from, task), bodies) in sent.iter().filter(|((from, _), _)| *from != to) {
                let came = by_task.remove(&format!("{from}.{task}")).unwrap_or_default();
                arrived(&bench.subject.profile, bodies, &came, |_| false)
                    .map_err(|error| format!("of task {task} of member {from} at member {to}: {error}"))?;
            }
            if let Some((task, _)) = by_task.first_key_value() {
                return Err(format!("a message arrived that nobody sent: of {task}"));
            }
        }
        Ok(())
    })
}

type Sent = BTreeMap<(usize, usize), Vec<Bytes>>;

async fn from_many_tasks(bench: &Bench, peers: &[Peer], tasks: usize, each: usize) -> Result<Sent, String> {
    let (mut sent, mut running) = (Sent::new(), Vec::new());
    for (from, peer) in peers.iter().enumerate() {
        let others: Vec<_> = addresses(peers).into_iter().filter(|to| *to != peer.channel.local()).collect();
        for task in 0..tasks {
            let text = |number| format!("{from}.{task} {number} {}", "x".repeat(number * 50)).into();
            let bodies: Vec<Bytes> = (0..each).map(text).collect();
            sent.insert((from, task), bodies.clone());
            let (channel, others, env) = (peer.channel.clone(), others.clone(), bench.world.env());
            let variants = bench.variants();
            let (report, done) = tokio::sync::oneshot::channel();
            bench.world.env().spawn(async move {
                let mut outcomes = Vec::new();
                for (number, (body, options)) in bodies.into_iter().zip(variants.iter().cycle()).enumerate() {
                    outcomes.push(channel.send_with(&others, body, *options).await);
                    if number % 5 == 0 {
                        env.sleep(Duration::from_millis(1)).await;
                    }
                }
                let _ = report.send(outcomes);
            });
            running.push(done);
        }
    }
    for task in running {
        let outcomes =
            bench.within("a sending task", task).await?.map_err(|_gone| "a sending task panicked".to_owned())?;
        for pending in outcomes {
            let outcome = bench.outcome(pending.map_err(|error| error.to_string())?).await?;
            if !bench.is(Deliberate::DROPS) {
                complete(&outcome)?;
            }
        }
    }
    let expected = tasks * each * (peers.len() - 1);
    for peer in peers {
        let got = || peer.heard.count();
        let there = bench.until(|| got() >= expected, || format!("{} of {expected} messages arrived", got())).await;
        if !bench.is(Deliberate::DROPS) {
            there?;
        }
    }
    bench.world.sleep(Duration::from_millis(100)).await;
    Ok(sent)
}

pub(super) fn determinism(subject: &Subject, seed: u64) -> Verdict {
    let run = || {
        traced(subject, seed, async |bench| {
            let peers = bench.group().await?;
            let sent = from_many_tasks(bench, &peers, 2, 4).await?;
            bench.world.note(format_args!("{} tasks sent", sent.len()));
            for (at, peer) in peers.iter().enumerate() {
                for received in peer.heard.received() {
                    let text = received.text();
                    let start: String = text.chars().take(8).collect();
                    bench.world.note(format_args!("member {at} heard {start:?}, {} bytes", text.len()));
                }
                for event in peer.heard.events() {
                    bench.world.note(format_args!("member {at} heard of {event:?}"));
                }
            }
            bench.world.sleep(Duration::from_secs(20)).await;
            if let Some(peer) = peers.first() {
                bench.stop(&peer.channel).await?;
            }
            Ok(())
        })
    };
    let ((verdict, first), (_, second)) = (run(), run());
    verdict?;
    match first.iter().zip(&second).position(|(one, other)| one != other) {
        Some(at) => Err(format!(
            "the same seed gave another run: line {at} is {:?}, then {:?}; take time and chance from `Link::env`, and keep \
             what can be seen in ordered maps",
            first.get(at),
            second.get(at)
        )),
        None if first.len() != second.len() => {
            Err(format!("the same seed gave a run of {} lines, then of {}", first.len(), second.len()))
        }
        None => Ok(()),
    }
}
