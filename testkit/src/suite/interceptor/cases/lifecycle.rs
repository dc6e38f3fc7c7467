//! Starts, stops, and long quiet times.

use std::time::Duration;

use tribes_core::{Departure, MemberEvent, SendOptions, Services};

use super::super::bench::Bench;
use super::super::pair::Pair;
use super::super::{Deliberate, Subject};
use super::traffic::all_arrive;
use super::{Verdict, simulate};
use crate::Recorder;

/// How long a stop may take when there is nothing to drain.
const IDLE_STOP: Duration = Duration::from_secs(1);

/// How long a stop may take: what the channel lets its layers have, by default.
const DRAIN: Duration = Duration::from_secs(5);

pub(super) fn lifecycle(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        idle(bench).await?;
        partial(bench).await?;
        failed_start(bench).await?;
        with_traffic(bench).await
    })
}

/// Stops `channel`, which has nothing to do, within `limit`.
async fn stop_within(bench: &Bench, channel: &tribes_core::Channel, limit: Duration, when: &str) -> Verdict {
    let began = bench.world.env().now();
    bench.stop(channel).await?;
    let took = bench.world.env().now() - began;
    if took > limit {
        return Err(format!("`stop` {when} takes {took:?}: a layer does not stop, and was given up"));
    }
    Ok(())
}

/// Without traffic: in any state, twice, and again.
async fn idle(bench: &Bench) -> Verdict {
    let below = Recorder::new();
    let channel =
        below.install(bench.builder()).interceptor(bench.layer()).build().map_err(|error| error.to_string())?;
    bench.watch(&channel);
    stop_within(bench, &channel, IDLE_STOP, "before the first start").await?;
    for round in 0..3 {
        for _ in 0..=bench.below(2) {
            bench.start(&channel).await?;
        }
        let member = crate::member(7);
        below.raise(MemberEvent::Added(member.clone()));
        bench.world.sleep(Duration::from_millis(100)).await;
        if round == 1 {
            below.raise(MemberEvent::Removed(member, Departure::Shutdown));
        }
        for _ in 0..=bench.below(2) {
            stop_within(bench, &channel, IDLE_STOP, &format!("of an idle channel (round {round})")).await?;
        }
    }
    Ok(())
}

/// Services one by one.
async fn partial(bench: &Bench) -> Verdict {
    let pair = Pair::alone(bench).await?;
    let channel = &pair.one.channel;
    bench.within("`stop_services`", channel.stop_services(Services::MEMBERSHIP)).await?;
    pair.carry(bench, &[bench.body(100)], bench.with(SendOptions::ACK))
        .await
        .map_err(|error| format!("with membership stopped: {error}"))?;
    let part = bench.pick(&[Services::SENDER, Services::MEMBERSHIP_TX, Services::MEMBERSHIP_RX]);
    bench.within("`stop_services`", channel.stop_services(part)).await?;
    for _ in 0..2 {
        let started = bench.within("`start_services`", channel.start_services(Services::all())).await?;
        started.map_err(|error| format!("services that were stopped do not start: {error}"))?;
    }
    pair.one.meet(bench, &pair.other.channel.local()).await;
    pair.pump(bench).await?;
    pair.carry(bench, &[bench.body(100)], bench.with(SendOptions::ACK))
        .await
        .map_err(|error| format!("after {part:?} was stopped and started: {error}"))?;
    stop_within(bench, channel, IDLE_STOP, "after services were stopped").await
}

/// A start that fails because of another part leaves nothing behind.
async fn failed_start(bench: &Bench) -> Verdict {
    for part in ["receiver", "sender", "membership"] {
        let below = Recorder::new();
        let builder = below.install(bench.builder());
        let channel = builder.interceptor(bench.layer()).build().map_err(|error| error.to_string())?;
        bench.watch(&channel);
        below.fail_start(part, true);
        if bench.within("a `start` that fails", channel.start()).await?.is_ok() {
            return Err(format!("the {part} fails to start, but the channel starts"));
        }
        below.fail_start(part, false);
        bench.start(&channel).await?;
        stop_within(bench, &channel, IDLE_STOP, &format!("after a start that failed for the {part}")).await?;
    }
    Ok(())
}

/// With messages on their way.
async fn with_traffic(bench: &Bench) -> Verdict {
    let peers = bench.group().await?;
    let [sender, receiver, ..] = peers.as_slice() else { return Ok(()) };
    let strict = !bench.is(Deliberate::DROPS);
    for round in 0..2 {
        let to = receiver.channel.local();
        let mut accepted = Vec::new();
        for _ in 0..10 {
            let options = bench.with(SendOptions::ACK);
            let body = bench.body(300);
            let sent = bench.within("`send_with`", sender.channel.send_with(&to, body, options)).await?;
            accepted.push(sent.map_err(|error| format!("round {round}: {error}"))?);
        }
        stop_within(bench, &sender.channel, DRAIN + IDLE_STOP / 2, "with messages under way").await?;
        for pending in accepted {
            bench.outcome(pending).await.map_err(|error| format!("round {round}, after `stop`: {error}"))?;
        }
        bench.stop(&sender.channel).await?;
        bench.start(&sender.channel).await?;
        bench.settle(&peers).await;
        for peer in [sender, receiver] {
            if round == 1 {
                bench.stop(&peer.channel).await?;
                bench.start(&peer.channel).await?;
                bench.settle(&peers).await;
            }
            let to = receiver.channel.local();
            let sent = sender.channel.send_with(&to, "a message", bench.with(SendOptions::SYNC_ACK));
            let pending = bench.within("`send_with`", sent).await?.map_err(|error| error.to_string())?;
            let outcome = bench.outcome(pending).await?;
            if let Some(fault) = outcome.faults.first().filter(|_| strict) {
                return Err(format!("round {round}, after stop and start: {fault}"));
            }
        }
    }
    Ok(())
}

/// Every so many seeds last long.
const HEAVY: u64 = 16;

pub(super) fn heartbeat(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let peers = bench.group().await?;
        let views = || peers.iter().map(|peer| peer.channel.view().len()).collect::<Vec<_>>();
        let before = views();
        let minutes = if seed % HEAVY == 1 { 10 } else { 1 };
        for _ in 0..3 * minutes {
            bench.world.sleep(Duration::from_secs(20)).await;
            for peer in &peers {
                bench.within("the heartbeat", peer.channel.heartbeat()).await?;
            }
        }
        if views() != before {
            return Err(format!("members saw {before:?} others, and after {minutes} minutes {:?}", views()));
        }
        all_arrive(bench, &peers, &[bench.body(100), bench.body(1000)], bench.with(SendOptions::ACK)).await
    })
}
