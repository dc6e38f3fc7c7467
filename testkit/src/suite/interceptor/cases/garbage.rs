//! What broken and hostile peers send. Memory is measured by what the system says of the process, where it does (Linux).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tribes_core::error::ReceiveError;
use tribes_core::{ChannelMessage, Inbound, Lease, Receipt, Route, SendOptions};

use super::super::bench::Bench;
use super::super::pair::{End, Pair};
use super::super::{Deliberate, Subject};
use super::{Verdict, simulate};
use crate::member;

/// How much more address space a process may have taken after garbage whose lengths claim two gigabytes.
const CLAIMED: u64 = 1 << 30;

/// How much of what a hostile peer sends may be kept: the 32 MiB of a channel, what the receiver lets in ([`LEASED`]), and as
/// much again that the process has not given back to the system.
const KEPT: u64 = 96 << 20;

/// How many messages of 64 KiB a receiver lets in whose leases it has not back.
const LEASED: usize = 256;

/// Every so many seeds send more than may be kept.
const HEAVY: u64 = 64;

pub(super) fn garbage(subject: &Subject, seed: u64) -> Verdict {
    simulate(subject, seed, async |bench| {
        let pair = Pair::alone(bench).await?;
        let space = memory(ADDRESS_SPACE);
        noise(bench, &pair.other).await?;
        mutilated(bench, &pair).await?;
        if let (Some(before), Some(after)) = (space, memory(ADDRESS_SPACE))
            && after.saturating_sub(before) > CLAIMED
        {
            return Err(format!(
                "garbage made the process take {} MiB of address space: a length that a peer claims is checked before it is \
                 used",
                (after - before) >> 20
            ));
        }
        if seed % HEAVY == 1 {
            flood(bench, &pair.other).await?;
        }
        // A layer may hold messages back for a while.
        bench.world.sleep(Duration::from_secs(30)).await;
        pair.pump(bench).await?;
        // A proper peer is not to suffer from that: what it sends still arrives.
        let fresh = Pair { one: End::start(bench, 4009, vec![bench.layer()]).await?, other: pair.other };
        fresh.one.meet(bench, &fresh.other.channel.local()).await;
        fresh.other.meet(bench, &fresh.one.channel.local()).await;
        fresh.pump(bench).await?;
        let bodies = [bench.body(100), bench.body(5000)];
        fresh
            .carry(bench, &bodies, bench.with(SendOptions::SYNC_ACK))
            .await
            .map_err(|error| format!("after the garbage, of a proper peer: {error}"))
    })
}

/// Has a message come from below; it must be answered, and panic in nobody.
async fn hit(bench: &Bench, end: &End, message: ChannelMessage) -> Verdict {
    let (bytes, options) = (message.body.to_bytes(), message.options);
    let what = || format!("{} bytes {:02x?}… with {options}", bytes.len(), bytes.get(..bytes.len().min(24)));
    let answer = bench.within("a message from below", end.below.inject(message)).await?;
    if let Err(ReceiveError::Panicked { layer, text }) = &answer.passed {
        return Err(format!("layer {layer} panics over {}: {text}", what()));
    }
    let handled = bench.within("the answer", answer.handled()).await;
    handled.map(drop).map_err(|error| format!("{error}, to {}", what()))
}

/// Bytes without sense, with lengths where lengths are often found.
async fn noise(bench: &Bench, end: &End) -> Verdict {
    let huge: [&[u8]; 5] = [
        &[0x7F, 0xFF, 0xFF, 0xFF],
        &[0xFF, 0xFF, 0xFF, 0xFF],
        &[0x80, 0, 0, 0],
        &[0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF],
        &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for round in 0..128_u64 {
        let len = if round % 10 == 0 { bench.below(20_000) } else { bench.below(40) };
        let mut bytes = Vec::from(bench.noise(len));
        // Between them, two seeds that follow each other begin and end with every byte.
        let edge = u8::try_from((2 * round + bench.seed) % 256).unwrap_or_default();
        for end in [bytes.len().checked_sub(1), Some(0)] {
            if let Some(byte) = end.and_then(|end| bytes.get_mut(end)) {
                *byte = edge;
            }
        }
        let number = huge.get(bench.below(huge.len())).copied().unwrap_or_default();
        match round % 5 {
            0 => bytes.extend(number),
            1 => drop(bytes.splice(0..0, number.iter().copied())),
            2 => {
                // In the middle, before a sensible end.
                bytes.extend(number);
                bytes.extend([0, 0, 0, 1, 0]);
            }
            _ => {}
        }
        let any = u32::try_from(bench.below(1 << 32)).unwrap_or(u32::MAX);
        let bits = match round % 3 {
            0 => bench.trigger,
            1 => SendOptions::from_bits_retain(any),
            _ => SendOptions::EXTENSION | SendOptions::GZIP,
        };
        let numbers = if round % 2 == 0 { 3 } else { 5000 };
        let from = member(1 + u16::try_from(bench.below(numbers)).unwrap_or_default());
        let message = end.below.message(&from, bytes, bits | SendOptions::SYNC_ACK);
        hit(bench, end, message).await?;
    }
    Ok(())
}

/// What a peer really sends, with a few of its bytes changed, added, taken away or said twice.
async fn mutilated(bench: &Bench, pair: &Pair) -> Verdict {
    let member = pair.other.channel.local();
    for _ in 0..30 {
        let _ = pair.one.below.take_sent();
        let body = bench.body(bench.below(if bench.below(6) == 0 { 120_000 } else { 600 }));
        let options = bench.with(SendOptions::SYNC_ACK);
        let sent = bench.within("`send_with`", pair.one.channel.send_with(&member, body, options)).await?;
        drop(sent.map_err(|error| error.to_string())?);
        bench.yield_now().await;
        for sent in pair.one.below.take_sent() {
            let mut message = sent.message;
            let times = 1 + bench.below(2);
            message.body = mutilate(bench, &message.body.to_bytes()).into();
            if bench.below(8) == 0 {
                message.options ^= SendOptions::from_bits_retain(1 << bench.below(32));
            }
            message.options |= SendOptions::SYNC_ACK;
            for _ in 0..times {
                hit(bench, &pair.other, message.clone()).await?;
            }
        }
    }
    if bench.is(Deliberate::DELAYS) {
        bench.world.sleep(bench.limit()).await;
        let _ = pair.one.below.take_sent();
    }
    Ok(())
}

fn mutilate(bench: &Bench, bytes: &Bytes) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // Where layers keep what is theirs: at the ends.
    let place = |len: usize| match bench.below(3) {
        0 => bench.below(len.min(40)),
        1 => len.saturating_sub(1 + bench.below(40)),
        _ => bench.below(len),
    };
    for _ in 0..=bench.below(3) {
        let at = place(bytes.len());
        match bench.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(..at.min(bytes.len()))),
            2 => bytes.extend([0x7F, 0xFF, 0xFF, 0xFF]),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bench.below(8);
                }
            }
        }
    }
    bytes
}

/// One at a time: the memory of the process is measured. Tests that run beside in the same process leave it to the first.
static FLOODING: AtomicBool = AtomicBool::new(false);

/// More than may be kept, from members that nobody knows.
async fn flood(bench: &Bench, end: &End) -> Verdict {
    let Some(before) = memory(RESIDENT).filter(|_| !FLOODING.swap(true, Ordering::AcqRel)) else { return Ok(()) };
    let kept = keep(bench, end, before).await;
    FLOODING.store(false, Ordering::Release);
    kept
}

async fn keep(bench: &Bench, end: &End, before: u64) -> Verdict {
    let Some(link) = end.below.link() else { return Ok(()) };
    let leases = Arc::new(());
    for number in 0..3000_u16 {
        // No zeros, whose pages cost nothing.
        let mut bytes = vec![0x55; 64 * 1024];
        for byte in bytes.iter_mut().rev().take(32) {
            *byte = u8::try_from(bench.below(256)).unwrap_or_default();
        }
        let message = end.below.message(&member(1 + number % 500), bytes, bench.trigger | SendOptions::GZIP);
        let lease = Lease::new(Arc::clone(&leases));
        let _ = bench
            .within("a message from below", link.receive(Inbound::new(message, Receipt::none(), lease, Route::Other)))
            .await?;
        if number % 50 == 0 {
            // What the listener of the test heard is its own affair.
            bench.world.sleep(Duration::from_millis(1)).await;
            end.heard.forget();
            // A receiver reads no more than so many bytes whose leases are still held.
            let held = || Arc::strong_count(&leases) - 1;
            bench.until(|| held() <= LEASED, || format!("{} leases of garbage are held", held())).await?;
            let kept = memory(RESIDENT).unwrap_or_default().saturating_sub(before);
            if kept > KEPT {
                return Err(format!("of {} MiB of garbage {} MiB were kept at once", number / 16, kept >> 20));
            }
        }
    }
    Ok(())
}

/// The most address space that this process ever had.
const ADDRESS_SPACE: &str = "VmPeak:";
/// What it really uses now.
const RESIDENT: &str = "VmRSS:";

/// A figure of this process in bytes; `None` where the system does not say.
fn memory(figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(figure))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
