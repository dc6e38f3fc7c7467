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
use common::null;
use common::payload::{SIZES, body};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::registry::{PartKind, Registry};
use tribes::{Channel, Layer, SendOptions, To};

/// Each interceptor: its name, its options where the defaults are not what is used, and the options of the messages.
///
/// A new interceptor is a line here.
const LAYERS: &[(&str, Options, SendOptions)] = &[
    ("fragmentation", &[], SendOptions::NONE),
    ("gzip", &[], SendOptions::NONE),
    ("message-dispatch", &[], SendOptions::NONE),
    ("message-dispatch", &[], SendOptions::ASYNC),
    ("tcp-failure-detector", &[], SendOptions::NONE),
    ("throughput", &[], SendOptions::NONE),
];

/// Keys and values, as in a configuration.
type Options = &'static [(&'static str, &'static str)];

/// Messages whose outcomes are awaited together: queues get to work on several.
const TOGETHER: u64 = 64;

/// No layer, or the one of that name.
fn layer(name: Option<&str>, options: Options) -> Option<Layer> {
    name.map(|name| Registry::interceptor(name, options.iter().copied()).unwrap())
}

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
    let names: Vec<_> = Registry::list(PartKind::Interceptor).iter().map(|part| part.name).collect();
    for name in &names {
        assert!(LAYERS.iter().any(|(known, ..)| known == name), "the interceptor {name} has no line in LAYERS");
    }
    let rows = || {
        let built = LAYERS.iter().filter(|(name, ..)| names.contains(name));
        let named = built.map(|(name, options, send)| (Some(*name), *options, *send));
        [(None, Options::default(), SendOptions::NONE)].into_iter().chain(named)
    };
    for way in ["down", "down and up"] {
        let mut group = criterion.benchmark_group(format!("interceptors/{way}"));
        for (name, options, send) in rows() {
            let runtime = common::one_thread();
            let (sender, receiver) = if way == "down" {
                (null::channel(&runtime, layer(name, options), true), None)
            } else {
                let (sender, receiver) = null::pair(&runtime, layer(name, options), layer(name, options));
                (sender, Some(receiver))
            };
            let to = null::target();
            let asynchronous = if send.contains(SendOptions::ASYNC) { ", async" } else { "" };
            let title = format!("{}{asynchronous}", name.unwrap_or("no layer"));
            for size in SIZES {
                let body = body(size);
                group.throughput(Throughput::Bytes(size.0 as u64));
                group.bench_function(BenchmarkId::new(&title, size.1), |bencher| {
                    bencher.iter_custom(|count| runtime.block_on(send_many(&sender, &to, &body, send, count)));
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
