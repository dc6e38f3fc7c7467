//! Sends over real TCP on loopback, to one member and to three, under each guarantee, with the default layers.
//!
//! `call` is one send after another, each awaited; `rate` keeps up to 512 outcomes open. All channels share one process and
//! its two threads, so the receivers' work is in the times, too.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench says what is wrong by failing")]

#[path = "common/group.rs"]
mod group;

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use tribes::{Channel, SendOptions, To};

const GUARANTEES: [(SendOptions, &str); 5] = [
    (SendOptions::NONE, "none"),
    (SendOptions::ACK, "ack"),
    (SendOptions::SYNC_ACK, "ack,sync"),
    (SendOptions::ASYNC, "async"),
    (SendOptions::ASYNC.union(SendOptions::ACK), "async,ack"),
];
const SIZES: [(usize, &str); 2] = [(100, "100 B"), (1 << 10, "1 KiB")];
const OPEN: u64 = 512;

/// A group of one sender, the first, and `receivers`.
fn group(runtime: &Runtime, receivers: usize) -> Vec<Channel> {
    let group = group::free();
    let make = || tribes::channel().bind("127.0.0.1:0").multicast(&group).build().unwrap();
    let channels: Vec<_> = std::iter::repeat_with(make).take(receivers + 1).collect();
    runtime.block_on(async {
        for channel in &channels {
            channel.on_message(|_, _| async { Ok(()) }).forever();
            channel.start().await.unwrap();
        }
        for channel in &channels {
            channel.view_when(|view| view.len() == receivers).await;
        }
    });
    channels
}

async fn one_by_one(channel: &Channel, body: &Bytes, options: SendOptions, count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        channel.send(To::All, body.clone(), options).await.unwrap();
    }
    start.elapsed()
}

async fn many(channel: &Channel, body: &Bytes, options: SendOptions, count: u64) -> Duration {
    let start = Instant::now();
    let mut open = Vec::new();
    let mut left = count;
    while left > 0 {
        let batch = left.min(OPEN);
        for _ in 0..batch {
            open.push(channel.send_with(To::All, body.clone(), options).await.unwrap());
        }
        for pending in open.drain(..) {
            assert!(pending.await.is_complete());
        }
        left -= batch;
    }
    start.elapsed()
}

fn loopback(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for receivers in [1, 3] {
        let channels = group(&runtime, receivers);
        let Some(sender) = channels.first() else { return };
        for (size, name) in SIZES {
            let body = Bytes::from(vec![7; size]);
            let mut calls = criterion.benchmark_group(format!("call, {receivers} to reach, {name}"));
            // The others return before anything is sent.
            for (options, guarantee) in
                GUARANTEES.into_iter().filter(|(options, _)| !options.contains(SendOptions::ASYNC))
            {
                calls.bench_function(BenchmarkId::from_parameter(guarantee), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(one_by_one(sender, &body, options, count)));
                });
            }
            calls.finish();
            let mut rates = criterion.benchmark_group(format!("rate, {receivers} to reach, {name}"));
            rates.throughput(Throughput::Elements(1));
            for (options, guarantee) in GUARANTEES {
                rates.bench_function(BenchmarkId::from_parameter(guarantee), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(many(sender, &body, options, count)));
                });
            }
            rates.finish();
        }
        for channel in &channels {
            runtime.block_on(channel.stop());
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = loopback
}
criterion_main!(benches);
