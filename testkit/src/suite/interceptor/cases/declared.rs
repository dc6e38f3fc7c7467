//! What a layer says of itself, and whether it keeps to it.

use tribes_core::{Channel, Interest, SendOptions};

use super::super::bench::Bench;
use super::super::pair::{Pair, same_options};
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::Recorder;

pub(super) fn declaration(subject: &Subject, _: u64) -> Verdict {
    let layer = subject.layer();
    let name = layer.name();
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(kebab) {
        return Err(format!("the name {name:?} is not in kebab-case"));
    }
    let answers = || (layer.name(), layer.trigger(), layer.interest(), layer.wire());
    let other = subject.layer();
    if answers() != answers() || (other.name(), other.interest()) != (layer.name(), layer.interest()) {
        return Err("name, trigger, interest or wire effect change from one call to the next".to_owned());
    }
    let gauges: Vec<_> = layer.gauges().iter().map(|gauge| gauge.name).collect();
    if let Some(unknown) = subject.profile.levels.iter().find(|level| !gauges.contains(level)) {
        return Err(format!("the profile names the gauge {unknown}, but the layer has {gauges:?}"));
    }
    let built = Recorder::new().install(Channel::builder().option_check(true)).interceptor(layer).build();
    built.map(drop).map_err(|error| error.to_string())
}

/// Bits that no part of ours uses.
const FREE: [u32; 5] = [0x80, 0x0400, 0x1000, 0x8000, 0x4000_0000];

pub(super) fn flags(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        other_bits(bench).await?;
        if bench.trigger.is_empty() || bench.is(Deliberate::MARKS_ALL) {
            return Ok(());
        }
        not_meant(bench).await
    })
}

/// Bits that are none of the layer's business stay as they are, on the way down and up.
async fn other_bits(bench: &Bench) -> Verdict {
    let pair = Pair::alone(bench).await?;
    for round in 0..4 {
        let mut free = SendOptions::empty();
        for bit in FREE {
            if round == 0 || bench.below(2) == 0 {
                free |= SendOptions::from_bits_retain(bit);
            }
        }
        for options in bench.variants() {
            let body = bench.body(bench.below(300));
            pair.carry(bench, &[body], options | (free - bench.trigger)).await?;
        }
    }
    Ok(())
}

/// What a message without the trigger meets: nothing.
async fn not_meant(bench: &Bench) -> Verdict {
    let pair = Pair::alone(bench).await?;
    let member = pair.other.channel.local();
    let bits: Vec<u32> = (0..32).map(|bit| 1 << bit).filter(|bit| bench.trigger.bits() & bit != 0).collect();
    for (round, len) in [0, 1, 40, 3000, 200_000].into_iter().enumerate() {
        let body = bench.body(len);
        // With no bit of the trigger, and, if it has several, with all but one.
        let mut options = vec![SendOptions::ACK];
        if bits.len() > 1 {
            options.extend(
                bits.iter().map(|bit| SendOptions::ACK | (bench.trigger - SendOptions::from_bits_retain(*bit))),
            );
        }
        for options in options {
            let _ = pair.one.below.take_sent();
            let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, body.clone(), options)).await?;
            let pending = sent.map_err(|error| error.to_string())?;
            bench.outcome(pending).await?;
            let sent = pair.one.below.take_sent();
            let same = sent.iter().any(|sent| {
                sent.message.body.to_bytes() == body && same_options(bench, options, sent.message.options).is_ok()
            });
            if !same {
                let found: Vec<_> = sent.iter().map(|sent| (sent.message.options, sent.message.body.len())).collect();
                return Err(format!(
                    "a message with {options}, {len} bytes, which its trigger {} does not match, leaves the stack as {found:?}",
                    bench.trigger
                ));
            }
            // And on its way up.
            let before = pair.one.heard.count();
            let message = pair.one.below.message(&member, body.clone(), options);
            let _ = bench.within("a message from below", pair.one.below.inject(message)).await?;
            bench.yield_now().await;
            let got = pair.one.heard.received();
            let came = got.get(before).map(|received| received.message.bytes());
            if came != Some(&body) {
                return Err(format!(
                    "a message with {options}, {len} bytes, which its trigger does not match, comes in as {:?} (round {round})",
                    came.map(bytes::Bytes::len)
                ));
            }
        }
    }
    if !bench.layer().interest().contains(Interest::SEES_ALL) {
        return Ok(());
    }
    // One that sees all may look, but what it has seen leaves no trace either.
    bench.until(|| pair.one.channel.stats().budget_used == 0, || "room in the budget stays taken".to_owned()).await
}
