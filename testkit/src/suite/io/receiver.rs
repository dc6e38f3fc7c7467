//! What a receiver has to do.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tribes_core::SendOptions;
use tribes_core::error::FaultKind;

use super::super::run::{Case, Verdict};
use super::Subject;
use super::bench::{Bench, run, same};
use super::sender::{let_go, lifecycle};
use crate::Reaction;

#[doc(hidden)]
#[macro_export]
macro_rules! __receiver_cases {
    ([$($then:tt)*] $args:tt) => {
        $($then)* { $args
            lifecycle "it says where it listens, starts and stops, also twice, in time, and works after each start";
            delivery "what several members send arrives unchanged, once, and each one's in order";
            receipts "each acknowledgement says what became of the message: taken, failed, or nobody's";
            backpressure "it takes no more than it has memory for while its listeners do not get on, and loses nothing";
            stopping "it stops in time while listeners do not get on, and its senders hear of it";
            hostile "bytes without sense harm nobody else";
        }
    };
}

macro_rules! table {
    (() $($name:ident $demand:literal;)*) => {
        pub(super) const ALL: &[Case<Subject>] =
            &[$(Case { name: stringify!($name), demand: $demand, run: |subject, seed| run(subject, seed, $name) }),*];
    };
}

__receiver_cases! { [table!] () }

async fn delivery(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [target, senders @ ..] = group.as_slice() else { return Ok(()) };
    let to = [target.channel.local()];
    let mut sent = vec![Vec::new(); senders.len()];
    let mut open = Vec::new();
    for (number, longest) in [1, 100, 5000, 200_000].into_iter().cycle().take(24).enumerate() {
        for (sender, sent) in senders.iter().zip(&mut sent) {
            let body = bench.body(1 + bench.below(longest));
            sent.push(body.clone());
            let acks = [SendOptions::NONE, SendOptions::ACK, SendOptions::SYNC_ACK];
            let options = acks.iter().cycle().nth(number).copied().unwrap_or_default();
            let accepted = bench.within("`send_with`", sender.channel.send_with(&to[..], body, options)).await?;
            open.push(accepted.map_err(|error| error.to_string())?);
        }
    }
    for pending in open {
        if let Some(fault) = bench.outcome(pending).await?.faults.first() {
            return Err(fault.to_string());
        }
    }
    let all = 24 * senders.len();
    bench
        .until(|| target.heard.count() >= all, || format!("{} of {all} messages arrived", target.heard.count()))
        .await?;
    bench.stays(|| target.heard.count() == all, || "more messages arrived than were sent".to_owned()).await?;
    for (sender, sent) in senders.iter().zip(&sent) {
        let local = sender.channel.local();
        let own = target.heard.received().into_iter().filter(|received| received.from.id() == local.id());
        same(sent, &own.map(|received| received.message.bytes().clone()).collect::<Vec<_>>())?;
    }
    Ok(())
}

async fn receipts(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [target, sender] = group.as_slice() else { return Ok(()) };
    let to = [target.channel.local()];
    for (reaction, fails) in [
        (Reaction::Take, false),
        (Reaction::Fail("the listener's own words"), true),
        (Reaction::Panic("on purpose, by the conformance suite"), true),
        (Reaction::Decline, false),
        (Reaction::Take, false),
    ] {
        target.heard.react(reaction);
        // Only a synchronized acknowledgement is about the listener.
        bench.carry(sender, &to, bench.body(10), SendOptions::ACK).await?;
        let outcome = bench.send(sender, &to, bench.body(10), SendOptions::SYNC_ACK).await?;
        match outcome.faults.first().map(|fault| &fault.kind) {
            Some(FaultKind::RemoteFailure(_)) if fails => {}
            None if !fails => {}
            found => return Err(format!("the listener was to {reaction:?}, and the sender hears {found:?}")),
        }
    }
    Ok(())
}

async fn backpressure(bench: &Bench) -> Verdict {
    // More than any receiver should hold for one sender.
    const BODY: usize = 512 * 1024;
    const COUNT: usize = 256;
    let group = bench.group_with(2, |builder| builder.budget(Bench::small(2 * 1024 * 1024))).await?;
    let [target, sender] = group.as_slice() else { return Ok(()) };
    target.heard.react(Reaction::Hold);
    let to = [target.channel.local()];
    let (body, mut open, mut taken) = (bench.body(BODY), Vec::new(), 0);
    for number in 0..COUNT {
        let mut body = body.to_vec();
        body.extend(format!(" {number}").bytes());
        match sender.channel.try_send(&to[..], Bytes::from(body), SendOptions::NONE) {
            Ok(pending) => open.push(pending),
            Err(_) => bench.env.sleep(Duration::from_millis(2)).await,
        }
        taken = open.len();
    }
    if taken == COUNT {
        return Err(format!("{} MiB were taken while no listener got on", (COUNT * BODY) >> 20));
    }
    let_go(bench, target, taken).await?;
    for pending in open {
        if let Some(fault) = bench.outcome(pending).await?.faults.first() {
            return Err(format!("a message that was taken failed: {fault}"));
        }
    }
    bench.carry(sender, &to, bench.body(10), SendOptions::SYNC_ACK).await
}

async fn stopping(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [target, sender] = group.as_slice() else { return Ok(()) };
    target.heard.react(Reaction::Hold);
    let to = [target.channel.local()];
    let mut open = Vec::new();
    for _ in 0..8 {
        let sent = sender.channel.send_with(&to[..], bench.body(1000), SendOptions::SYNC_ACK);
        open.push(bench.within("`send_with`", sent).await?.map_err(|error| error.to_string())?);
    }
    bench.until(|| target.heard.count() > 0, || "nothing arrived".to_owned()).await?;
    bench.stop(target, Duration::from_secs(13)).await?;
    for pending in open {
        // Whatever it is.
        bench.outcome(pending).await?;
    }
    target.heard.react(Reaction::Take);
    bench.start(target).await?;
    bench
        .carry(sender, &[target.channel.local()], bench.body(10), SendOptions::SYNC_ACK)
        .await
        .map_err(|error| format!("after it started again: {error}"))
}

async fn hostile(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [target, sender] = group.as_slice() else { return Ok(()) };
    let to = [target.channel.local()];
    bench.carry(sender, &to, bench.body(10), SendOptions::SYNC_ACK).await?;
    if bench.subject.profile.virtual_time {
        // Nothing listens where a stranger could connect.
        return Ok(());
    }
    let port = u16::try_from(target.channel.local().port()).unwrap_or_default();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let before = target.heard.count();
    let mut strangers = Vec::new();
    for round in 0..20 {
        let Ok(mut stream) = TcpStream::connect(addr).await else { return Err(format!("nothing listens at {addr}")) };
        let mut bytes: Vec<u8> =
            (0..bench.below(300)).map(|_| u8::try_from(bench.below(256)).unwrap_or_default()).collect();
        match round % 4 {
            // The marker of a frame, and a length that cannot be.
            0 => drop(bytes.splice(0..0, b"FLT2002\x7F\xFF\xFF\xFF".iter().copied())),
            1 => drop(bytes.splice(0..0, b"FLT2002\xFF\xFF\xFF\xFF".iter().copied())),
            2 => bytes.clear(),
            _ => {}
        }
        // It may have been thrown out by then.
        let _ = stream.write_all(&bytes).await;
        strangers.push(stream);
        if round % 3 == 0 {
            strangers.clear();
        }
        let all_well = bench.carry(sender, &to, bench.body(10), SendOptions::SYNC_ACK).await;
        all_well.map_err(|error| format!("after a stranger sent {} bytes: {error}", bytes.len()))?;
    }
    match target.heard.count() - before {
        20 => Ok(()),
        heard => Err(format!("20 proper messages were sent among the garbage, and {heard} came up")),
    }
}
