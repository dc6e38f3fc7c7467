//! What a layer costs: a message through 0 to 10 layers that do nothing, in both forms, and of layers that the message
//! passes by; with and without telemetry. At the end, measured in turns: what one layer adds, and what telemetry costs a send of
//! 100 bytes over loopback TCP. `-- turns` runs this end only.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::layers::{FORMS, Make, NAMES, stack};
use common::payload::{SMALL, body};
use common::{group, null};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use tribes::{Channel, SendOptions, To};

async fn send_many(channel: &Channel, to: &To, body: &Bytes, count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        channel.send(to.clone(), body.clone(), SendOptions::NONE).await.unwrap();
    }
    start.elapsed()
}

fn hops(criterion: &mut Criterion) {
    for (telemetry, title) in [(true, "hop"), (false, "hop without telemetry")] {
        let mut group = criterion.benchmark_group(title);
        group.throughput(Throughput::Elements(1));
        let mut through = |count: usize, make: Make, id: BenchmarkId| {
            let runtime = common::one_thread();
            let channel = null::channel(&runtime, stack(count, make), telemetry);
            let (to, body) = (null::target(), body(SMALL));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| runtime.block_on(send_many(&channel, &to, &body, iterations)));
            });
            runtime.block_on(channel.stop());
        };
        for (form, make) in FORMS {
            for count in [1, 3, 5, 10] {
                through(count, make, BenchmarkId::new(form, count));
            }
        }
        let [(_, any), ..] = FORMS;
        through(0, any, BenchmarkId::from_parameter("no layer"));
        group.finish();
    }
}

/// Rounds of a comparison.
const ROUNDS: usize = 200;
const MESSAGES: u64 = 1_000;

/// Two sides measured in turns, so that whatever else the machine does hits them alike.
struct Comparison {
    /// Nanoseconds a message, the median of all rounds.
    left: f64,
    /// How much the right side takes less than the left, in percent of the right: the median of the rounds' own.
    difference: f64,
}

fn in_turns(mut left: impl FnMut() -> Duration, mut right: impl FnMut() -> Duration) -> Comparison {
    let rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            // In this order a drift within the round hits both sides alike, too.
            let (first, second, third, fourth) = (left(), right(), right(), left());
            let nanos = |time: Duration| time.as_secs_f64() * 1e9 / (2 * MESSAGES) as f64;
            (nanos(first + fourth), nanos(second + third))
        })
        .collect();
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(of).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    Comparison { left: median(|round| round.0), difference: median(|round| (round.0 / round.1 - 1.0) * 100.0) }
}

/// What one layer of ten adds to a message.
fn one_hop() {
    let runtime = common::one_thread();
    let (to, body) = (null::target(), body(SMALL));
    for (form, make) in FORMS {
        for (telemetry, with) in [(true, "with"), (false, "without")] {
            let [none, ten] = [0, NAMES.len()].map(|count| null::channel(&runtime, stack(count, make), telemetry));
            let run = |channel: &Channel| runtime.block_on(send_many(channel, &to, &body, MESSAGES));
            let all = in_turns(|| run(&ten), || run(&none));
            let layers = all.left * (1.0 - 1.0 / (1.0 + all.difference / 100.0));
            tell(format_args!("one {form} layer, {with} telemetry: {:.1} ns", layers / NAMES.len() as f64));
        }
    }
}

fn tell(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// What telemetry costs a send of 100 bytes over loopback TCP between two channels with the default layers.
fn telemetry_on_loopback() {
    let runtime = common::one_thread();
    let pair = |telemetry| {
        let group = group::free();
        let make = || group::member(&group).telemetry(telemetry).build().unwrap();
        let (a, b) = (make(), make());
        b.on_message(|_, _| async { Ok(()) }).forever();
        runtime.block_on(async {
            a.start().await.unwrap();
            b.start_and_wait(1, Duration::from_secs(10)).await.unwrap();
            a.view_when(|view| view.len() == 1).await;
        });
        (a, b)
    };
    let (counted, plain) = (pair(true), pair(false));
    let body = body(SMALL);
    let run = |channel: &Channel| runtime.block_on(acked(channel, &body));
    let all = in_turns(|| run(&counted.0), || run(&plain.0));
    tell(format_args!(
        "100 bytes under ack over loopback TCP: {:.2} µs a message with telemetry, {:+.1} % of that without",
        all.left / 1e3,
        all.difference
    ));
}

/// Messages whose acknowledgements are pipelined: the way in which the pipeline's own share is largest.
async fn acked(channel: &Channel, body: &Bytes) -> Duration {
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..MESSAGES {
        open.push(channel.send_with(To::All, body.clone(), SendOptions::ACK).await.unwrap());
    }
    for pending in open {
        assert!(pending.await.is_complete());
    }
    start.elapsed()
}

criterion_group! {
    name = benches;
    config = common::quick();
    targets = hops
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Not when the program is only to be tried out (`cargo test --benches`), or filtered by something else than `turns`.
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--bench") && args.iter().all(|arg| arg == "--bench" || arg == "turns") {
        one_hop();
        telemetry_on_loopback();
    }
}
