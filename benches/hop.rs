//! What a layer costs: a message through 0 to 10 layers that do nothing, in both forms, and of layers that the message
//! passes by; with and without telemetry. At the end, what telemetry costs a send of 100 bytes over loopback TCP.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench says what is wrong by failing")]

#[path = "common/group.rs"]
mod group;
#[path = "common/null.rs"]
mod null;

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
    let channel = layers.fold(builder.telemetry(telemetry), |builder, layer| builder.interceptor(layer)).build().unwrap();
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

fn hops(criterion: &mut Criterion) {
    let runtime = runtime();
    let to = To::from(Arc::new(Member::new(MemberId::ZERO, ([127, 0, 0, 1], 4000).into())));
    let body = Bytes::from(vec![7; 100]);
    type Make = fn(&'static str) -> Layer;
    let forms: [(&str, Make); 3] = [
        ("sync", |name| SyncNothing(name).into_layer()),
        ("async", |name| AsyncNothing(name).into_layer()),
        ("skipped", |name| Skipped(name).into_layer()),
    ];
    for (telemetry, title) in [(true, "hop"), (false, "hop without telemetry")] {
        let mut group = criterion.benchmark_group(title);
        for (form, make) in forms {
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

/// Rounds of the comparison; the two kinds take turns, so that whatever else the machine does hits both alike.
const ROUNDS: usize = 60;
const MESSAGES: u64 = 1_000;

/// What telemetry costs a send of 100 bytes over loopback TCP between two channels with the default layers.
fn telemetry_on_loopback() {
    let runtime = runtime();
    let (mut with, mut without) = (Vec::new(), Vec::new());
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
    for _ in 0..ROUNDS {
        with.push(runtime.block_on(acked(&counted.0, &body)));
        without.push(runtime.block_on(acked(&plain.0, &body)));
    }
    with.sort_unstable();
    without.sort_unstable();
    let median = |times: &[Duration]| times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) / MESSAGES as f64 * 1e6;
    let (with, without) = (median(&with), median(&without));
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "telemetry on loopback, 100 bytes under ack: {with:.2} µs a message with, {without:.2} µs without: {:+.1} %",
        (with / without - 1.0) * 100.0
    );
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

criterion_group!(benches, hops);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Not when the program is only to be tried out (`cargo test --benches`) or filtered.
    if std::env::args().skip(1).all(|arg| arg == "--bench") {
        telemetry_on_loopback();
    }
}
