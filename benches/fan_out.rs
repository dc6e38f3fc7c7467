//! One sender to 1 to 31 receivers over loopback TCP: 1 KiB, asynchronous, until all have it. Counted are messages sent, so a
//! sender that encodes once and a machine without end would show the same rate for all.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use common::group::Group;
use common::payload::{KIB, body};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::SendOptions;

fn fan_out(criterion: &mut Criterion) {
    let runtime = common::two_threads();
    let body = body(KIB);
    let mut fan = criterion.benchmark_group("fan-out");
    fan.throughput(Throughput::Elements(1));
    for receivers in [1, 3, 7, 15, 31] {
        let group = Group::new(&runtime, receivers);
        fan.bench_function(BenchmarkId::from_parameter(receivers), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(group.pipelined(&body, SendOptions::ASYNC, count)));
        });
        group.stop(&runtime);
    }
    fan.finish();
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = fan_out
}
criterion_main!(benches);
