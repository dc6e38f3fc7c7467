//! Sends over real TCP on loopback under each guarantee, with the default layers.
//!
//! `call` is one send after another, each awaited; `rate` keeps outcomes open and ends when all messages have arrived. To one
//! member with all sizes, to three with 1 KiB. All channels share one process and its two threads, so the receivers' work is
//! in the times, too.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use common::group::Group;
use common::payload::{KIB, SIZES, Size, body};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::SendOptions;

const GUARANTEES: [(SendOptions, &str); 4] = [
    (SendOptions::NONE, "none"),
    (SendOptions::ASYNC, "async"),
    (SendOptions::ACK, "ack"),
    (SendOptions::SYNC_ACK, "sync-ack"),
];

fn loopback(criterion: &mut Criterion) {
    let runtime = common::two_threads();
    let all: &[Size] = &SIZES;
    for (receivers, sizes) in [(1, all), (3, &[KIB])] {
        let group = Group::new(&runtime, receivers);
        let mut calls = criterion.benchmark_group(format!("call/{receivers} to reach"));
        for &size in sizes {
            let body = body(size);
            calls.throughput(Throughput::Bytes(size.0 as u64));
            // An asynchronous one returns before anything is sent.
            for (options, guarantee) in GUARANTEES.into_iter().filter(|(options, _)| *options != SendOptions::ASYNC) {
                calls.bench_function(BenchmarkId::new(guarantee, size.1), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(group.one_by_one(&body, options, count)));
                });
            }
        }
        calls.finish();
        let mut rates = criterion.benchmark_group(format!("rate/{receivers} to reach"));
        for &size in sizes {
            let body = body(size);
            rates.throughput(Throughput::Elements(1));
            for (options, guarantee) in GUARANTEES {
                rates.bench_function(BenchmarkId::new(guarantee, size.1), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(group.pipelined(&body, options, count)));
                });
            }
        }
        rates.finish();
        group.stop(&runtime);
    }
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = loopback
}
criterion_main!(benches);
