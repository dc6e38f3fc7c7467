//! What a layer costs: a message through 0 to 10 layers that do nothing, in both forms, and of layers that the message
//! passes by; with and without telemetry. At the end, measured in turns: what one layer adds, and what telemetry costs a send of
//! 100 bytes over loopback TCP.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench says what is wrong by failing")]

#[path = "common/group.rs"]
mod group;
#[path = "common/null.rs"]
mod null;

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group};
use null::{NullMembership, NullReceiver, NullSender};
use tokio::runtime::{Builder, Runtime};
use tribes::{
    Channel, ChannelInterceptor, Cx, Interest, IntoLayer, Layer, Member, MemberId, Next, Outbound, SendError,
    SendOptions, SyncInterceptor, To, Verdict,
};

const NAMES: [&str; 10] = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];

#[derive(Debug)]
struct SyncNothing(&'static str);

impl SyncInterceptor for SyncNothing {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    fn send(&self, _: &mut Outbound, _: &mut Cx<'_>) -> Verdict<Outbound> {
        Verdict::Pass
    }
}

#[derive(Debug)]
struct AsyncNothing(&'static str);

#[async_trait]
impl ChannelInterceptor for AsyncNothing {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::SEND
    }
    async fn send(&self, out: Outbound, next: Next<'_>) -> Result<(), SendError> {
        next.send(out).await
    }
}

/// Wants what comes up only.
#[derive(Debug)]
struct Skipped(&'static str);

impl SyncInterceptor for Skipped {
    fn name(&self) -> &'static str {
        self.0
    }
    fn interest(&self) -> Interest {
        Interest::RECEIVE
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn channel(runtime: &Runtime, layers: impl Iterator<Item = Layer>, telemetry: bool) -> Channel {
    let builder = Channel::builder().sender(NullSender).receiver(NullReceiver).membership(NullMembership);
    let channel =
        layers.fold(builder.telemetry(telemetry), |builder, layer| builder.interceptor(layer)).build().unwrap();
    runtime.block_on(channel.start()).unwrap();
    channel
}

async fn send_many(channel: &Channel, to: &To, body: &Bytes, count: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        channel.send(to.clone(), body.clone(), SendOptions::NONE).await.unwrap();
    }
    start.elapsed()
}

/// A layer of some form.
type Make = fn(&'static str) -> Layer;

const FORMS: [(&str, Make); 3] = [
    ("sync", |name| SyncNothing(name).into_layer()),
    ("async", |name| AsyncNothing(name).into_layer()),
    ("skipped", |name| Skipped(name).into_layer()),
];

fn target() -> To {
    To::from(Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 4000).into())))
}

fn hops(criterion: &mut Criterion) {
    let runtime = runtime();
    let to = target();
    let body = Bytes::from(vec![7; 100]);
    for (telemetry, title) in [(true, "hop"), (false, "hop without telemetry")] {
        let mut group = criterion.benchmark_group(title);
        for (form, make) in FORMS {
            for count in [0, 1, 3, 5, 10] {
                let channel = channel(&runtime, NAMES.into_iter().take(count).map(make), telemetry);
                group.bench_function(BenchmarkId::new(form, count), |bencher| {
                    bencher.iter_custom(|iterations| runtime.block_on(send_many(&channel, &to, &body, iterations)));
                });
                runtime.block_on(channel.stop());
            }
        }
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
    let runtime = runtime();
    let (to, body) = (target(), Bytes::from(vec![7; 100]));
    for (form, make) in FORMS {
        for (telemetry, with) in [(true, "with"), (false, "without")] {
            let [none, ten] =
                [0, 10].map(|count| channel(&runtime, NAMES.into_iter().take(count).map(make), telemetry));
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
    let runtime = runtime();
    let pair = |telemetry| {
        let group = group::free();
        let make = || tribes::channel().bind("127.0.0.1:0").multicast(&group).telemetry(telemetry).build().unwrap();
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
    let body = Bytes::from(vec![7; 100]);
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
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(30);
    targets = hops
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Not when the program is only to be tried out (`cargo test --benches`), or filtered by something else than `turns`.
    if std::env::args().skip(1).all(|arg| arg == "--bench" || arg == "turns") {
        one_hop();
        telemetry_on_loopback();
    }
}
