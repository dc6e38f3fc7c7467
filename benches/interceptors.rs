//! What each interceptor costs a message, by its size: alone in a stack without a network.
//!
//! `down` is a send, until its outcome is known; `down and up` goes on through the same interceptor of a second channel. The
//! stack without a layer is measured, too: what an interceptor costs is the difference.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::interceptors::{EMPTY, mixed, rows};
use common::null;
use common::payload::SIZES;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::{Channel, SendOptions, To};

/// Messages whose outcomes are awaited together: queues get to work on several.
const TOGETHER: u64 = 64;

async fn send_many(channel: &Channel, to: &To, body: &Bytes, options: SendOptions, count: u64) -> Duration {
    let mut open = Vec::new();
    let start = Instant::now();
    for sent in 1..=count {
        open.push(channel.send_with(to.clone(), body.clone(), options).await.unwrap());
        if sent % TOGETHER == 0 || sent == count {
            for pending in open.drain(..) {
                assert!(pending.await.is_complete());
            }
        }
    }
    start.elapsed()
}

fn interceptors(criterion: &mut Criterion) {
    for way in ["down", "down and up"] {
        let mut group = criterion.benchmark_group(format!("interceptors/{way}"));
        for row in std::iter::once(EMPTY).chain(rows()) {
            let runtime = common::one_thread();
            let (sender, receiver) = if way == "down" {
                // What waits for answers would wait for ever.
                if row.name == Some("two-phase-commit") {
                    continue;
                }
                (null::channel(&runtime, row.layer(), true), None)
            } else {
                let (sender, receiver) = null::pair(&runtime, row.layer(), row.layer());
                (sender, Some(receiver))
            };
            let to = null::target();
            let title = row.title();
            for size in SIZES {
                let body = mixed(size.0);
                group.throughput(Throughput::Bytes(size.0 as u64));
                group.bench_function(BenchmarkId::new(&title, size.1), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(send_many(&sender, &to, &body, row.send, count)));
                });
            }
            runtime.block_on(async {
                sender.stop().await;
                if let Some(receiver) = receiver {
                    receiver.stop().await;
                }
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = common::quick();
    targets = interceptors
}
criterion_main!(benches);
