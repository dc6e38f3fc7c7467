//! What a slow member takes from the others: a group of four over loopback TCP, 1 KiB, asynchronous. The rate is that at which
//! the receivers that keep up get the messages: with three of them, then with two and one whose listener takes 10 ms for each
//! message and whose queue is full.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use std::time::Duration;

use common::group::Group;
use common::payload::{KIB, body};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tribes::SendOptions;

/// What the slow listener takes. It drains in minutes what the others get in a second, so that its queue stays full.
const PAUSE: Duration = Duration::from_millis(10);
/// More messages than what is queued for one member on both sides of its connection.
const FILL: u64 = 40_000;

fn slow_member(criterion: &mut Criterion) {
    let runtime = common::two_threads();
    let body = body(KIB);
    let mut rates = criterion.benchmark_group("slow member");
    rates.throughput(Throughput::Elements(1));
    for (slow, title) in [(false, "none of three"), (true, "one of three")] {
        let group = if slow { Group::with_slow(&runtime, 2, PAUSE) } else { Group::new(&runtime, 3) };
        let run = |count| runtime.block_on(group.regardless(&body, SendOptions::ASYNC, count));
        if slow {
            // The one wait that the sender grants a member that stalls is over, too.
            run(FILL);
        }
        rates.bench_function(title, |bencher| bencher.iter_custom(run));
        group.stop(&runtime);
    }
    rates.finish();
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = slow_member
}
criterion_main!(benches);
