//! Starts, stops, and long quiet times.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tribes_core::{
    BoxError, ChannelInterceptor, Departure, Env, Inbound, Interest, IntoLayer as _, Lease, Link, MemberEvent, Receipt,
    Route, SendOptions, Services, Time,
};

use super::super::bench::Bench;
use super::super::pair::{End, Pair};
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
        with_traffic(bench).await?;
        if seed % 4 == 1 { while_it_stops(bench).await } else { Ok(()) }
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

/// Stands below, and keeps a stop up.
#[derive(Debug, Default)]
struct Lingers(OnceLock<Env>);

#[async_trait]
impl ChannelInterceptor for Lingers {
    fn name(&self) -> &'static str {
        "conformance.lingers"
    }
    fn interest(&self) -> Interest {
        Interest::empty()
    }
    async fn start(&self, link: Link) -> Result<(), BoxError> {
        let _ = self.0.set(link.env().clone());
        Ok(())
    }
    async fn stop(&self, _: Time) {
        if let Some(env) = self.0.get() {
            env.sleep(IDLE_STOP).await;
        }
    }
}

/// Layers stop before the receiver does. What comes in between leaves nothing behind, also after the next start.
async fn while_it_stops(bench: &Bench) -> Verdict {
    let one = End::start(bench, 4001, vec![bench.layer()]).await?;
    let other = End::start(bench, 4002, vec![bench.layer(), Lingers::default().into_layer()]).await?;
    let pair = Pair::introduce(bench, one, other).await?;
    let member = pair.other.channel.local();
    let mut late = Vec::new();
    for options in bench.variants() {
        let sent = pair.one.channel.send_with(&member, bench.body(200), options);
        drop(bench.within("`send_with`", sent).await?.map_err(|error| error.to_string())?);
        bench.world.sleep(Duration::from_millis(200)).await;
        late.extend(pair.one.below.take_sent().into_iter().filter(|sent| sent.to.contains(&member)));
    }
    let (channel, stopped) = (pair.other.channel.clone(), Arc::new(()));
    let stopping = Arc::clone(&stopped);
    bench.world.env().spawn(async move {
        channel.stop().await;
        drop(stopping);
    });
    bench.world.sleep(IDLE_STOP / 2).await;
    let leases = Arc::new(());
    for sent in late {
        let Some(link) = pair.other.below.link() else { return Ok(()) };
        let lease = Lease::new(Arc::clone(&leases));
        let message = Inbound::new(sent.message, Receipt::none(), lease, Route::Stream);
        let _ = bench.within("a message from below, while the channel stops,", link.receive(message)).await?;
    }
    bench.until(|| Arc::strong_count(&stopped) == 1, || "`stop` does not end".to_owned()).await?;
    bench.start(&pair.other.channel).await?;
    for _ in 0..10 {
        bench.world.sleep(bench.limit()).await;
        bench.within("the heartbeat", pair.other.channel.heartbeat()).await?;
    }
    pair.other.heard.forget();
    let held = Arc::strong_count(&leases) - 1;
    if held > 0 {
        return Err(format!(
            "{held} leases of messages are held that came while the channel stopped, before its last start"
        ));
    }
    for gauge in pair.other.channel.stats().layers.iter().flat_map(|layer| &layer.gauges) {
        if gauge.value > 0 && bench.subject.profile.levels.contains(&gauge.name) {
            let (name, value) = (gauge.name, gauge.value);
            return Err(format!(
                "of what came while the channel stopped, the gauge {name} is still {value} after a start"
            ));
        }
    }
    bench.stop(&pair.other.channel).await
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
