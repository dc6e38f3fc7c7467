//! Questions over real TCP on loopback: 1 KiB each way to one member or more, the first reply, beside a bare acknowledged send of
//! the same size. All channels share one process and its two threads, so those who answer are in the times, too.
//!
//! After each, the rate and the percentiles of single calls are printed; criterion has neither.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a bench says what is wrong by failing")]

mod common;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::group::{free, lazy, member, stop_all};
use common::payload::{KIB, body};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tribes::rpc::{Payload, Request, RpcChannel, Wait};
use tribes::{Channel, SendOptions, To};

/// Who asks at the same time.
const CALLERS: u64 = 100;

/// One who asks, and those who answer with the question; of `silent` members nothing comes.
struct Asking {
    channel: Channel,
    rpc: RpcChannel,
    others: Vec<(Channel, RpcChannel)>,
}

impl Asking {
    fn new(runtime: &Runtime, answering: usize, silent: usize) -> Self {
        let group = free();
        let channel = member(&group).build().expect("a valid configuration");
        let rpc = RpcChannel::builder("bench").open(&channel).expect("a free id");
        let others: Vec<_> = (0..answering + silent).map(|at| other(&group, at < answering)).collect();
        runtime.block_on(async {
            for channel in others.iter().map(|(channel, _)| channel).chain([&channel]) {
                channel.start().await.expect("loopback and multicast work here");
            }
            for channel in others.iter().map(|(channel, _)| channel).chain([&channel]) {
                channel.view_when(|view| view.len() == others.len()).await;
            }
        });
        Self { channel, rpc, others }
    }

    async fn ask(&self, body: &Bytes, wait: Wait) {
        // Not long: a silent member keeps for that time what it was asked.
        let call = self.rpc.call(To::All, body.clone()).wait(wait).within(Duration::from_secs(1));
        let replies = call.await.expect("it runs");
        assert!(replies.is_satisfied(), "{replies:?}");
    }

    fn stop(self, runtime: &Runtime) {
        let channels: Vec<_> = self.others.into_iter().map(|(channel, _)| channel).chain([self.channel]).collect();
        runtime.block_on(stop_all(channels));
    }
}

fn other(group: &str, answers: bool) -> (Channel, RpcChannel) {
    let channel = lazy(group);
    channel.on_message(|_, _| std::future::ready(Ok(()))).forever();
    let handler = move |request: Request| async move {
        if !answers {
            std::future::pending::<()>().await;
        }
        Ok(request.into_payload().into())
    };
    // One that is silent for the life of many calls turns none away.
    let rpc = RpcChannel::builder("bench").handler(handler).concurrency(1 << 20).memory(1 << 30);
    let rpc = rpc.open(&channel).expect("a free id");
    (channel, rpc)
}

/// How long each call took, of all that were made for one figure.
#[derive(Default)]
struct Times(RefCell<(Vec<Duration>, Duration)>);

impl Times {
    /// Notes the single times of calls that took so long together.
    fn add(&self, mut single: Vec<Duration>, all: Duration) -> Duration {
        let mut times = self.0.borrow_mut();
        times.0.append(&mut single);
        times.1 += all;
        all
    }

    fn report(&self, title: &str) {
        let (mut single, all) = self.0.take();
        single.sort_unstable();
        let share = |percent: usize| single.get((single.len().saturating_sub(1)) * percent / 100).copied();
        let (Some(half), Some(nearly_all)) = (share(50), share(99)) else { return };
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = single.len() as f64 / all.as_secs_f64();
        println!("{title}: {rate:.0} a second, p50 {half:.1?}, p99 {nearly_all:.1?}");
    }
}

fn one_after_another<F: Future<Output = ()>>(
    runtime: &Runtime,
    count: u64,
    call: impl Fn() -> F,
) -> (Vec<Duration>, Duration) {
    runtime.block_on(async {
        let (start, mut single) = (Instant::now(), Vec::new());
        for _ in 0..count {
            let begin = Instant::now();
            call().await;
            single.push(begin.elapsed());
        }
        (single, start.elapsed())
    })
}

/// By many at the same time, each one after another.
fn side_by_side(runtime: &Runtime, asking: &Asking, body: &Bytes, count: u64) -> (Vec<Duration>, Duration) {
    runtime.block_on(async {
        let start = Instant::now();
        let callers = (0..CALLERS).map(|caller| {
            let (rpc, body) = (asking.rpc.clone(), Payload::from(body.clone()));
            let calls = count / CALLERS + u64::from(caller < count % CALLERS);
            async move {
                let mut single = Vec::new();
                for _ in 0..calls {
                    let begin = Instant::now();
                    let replies = rpc.call(To::All, body.clone()).wait(Wait::First).await.expect("it runs");
                    assert!(replies.is_satisfied(), "{replies:?}");
                    single.push(begin.elapsed());
                }
                single
            }
        });
        let callers: tokio::task::JoinSet<_> = callers.collect();
        let single = callers.join_all().await.concat();
        (single, start.elapsed())
    })
}

fn rpc(criterion: &mut Criterion) {
    let runtime = common::two_threads();
    let body = body(KIB);
    let mut calls = criterion.benchmark_group("rpc/1 KiB");
    calls.throughput(Throughput::Elements(1));
    let silent =
        [(2, 1, Wait::First, "first, one of three silent"), (2, 1, Wait::Majority, "majority, one of three silent")];
    let answering = [(1, "first of one"), (2, "first of two"), (3, "first of three")];
    let cases = answering.map(|(members, title)| (members, 0, Wait::First, title)).into_iter().chain(silent);
    for (answering, silent, wait, title) in cases {
        let (asking, times) = (Asking::new(&runtime, answering, silent), Times::default());
        calls.bench_function(BenchmarkId::from_parameter(title), |bencher| {
            bencher.iter_custom(|count| {
                let (single, all) = one_after_another(&runtime, count, || asking.ask(&body, wait));
                times.add(single, all)
            });
        });
        times.report(title);
        if silent == 0 {
            let title = format!("bare send with ack to {answering}");
            calls.bench_function(BenchmarkId::from_parameter(&title), |bencher| {
                bencher.iter_custom(|count| {
                    let send = || async {
                        asking.channel.send(To::All, body.clone(), SendOptions::ACK).await.expect("all are there");
                    };
                    let (single, all) = one_after_another(&runtime, count, send);
                    times.add(single, all)
                });
            });
            times.report(&title);
            let title = format!("first of {answering}, {CALLERS} callers");
            calls.bench_function(BenchmarkId::from_parameter(&title), |bencher| {
                bencher.iter_custom(|count| {
                    let (single, all) = side_by_side(&runtime, &asking, &body, count);
                    times.add(single, all)
                });
            });
            times.report(&title);
        }
        asking.stop(&runtime);
    }
    calls.finish();
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = rpc
}
criterion_main!(benches);
