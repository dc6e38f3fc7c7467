//! How long a group takes to form: 50 members of one process start at the same time, with multicast membership on loopback
//! and the default layers, until each sees all others. So 2,450 times a member is heard of, probed and announced.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use std::time::{Duration, Instant};

use common::group;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tribes::Channel;

const MEMBERS: usize = 50;

async fn form() -> Duration {
    let name = group::free();
    let channels: Vec<Channel> = (0..MEMBERS).map(|_| group::lazy(&name)).collect();
    let start = Instant::now();
    for channel in &channels {
        channel.start().await.expect("loopback and multicast work here");
    }
    for channel in &channels {
        channel.view_when(|view| view.len() == MEMBERS - 1).await;
    }
    let took = start.elapsed();
    group::stop_all(channels).await;
    took
}

/// Connections by which members probe each other, both ends of each in this process, and as many again in reserve.
const FILES: u64 = 8192;

/// Too few would make members suspect each other for a reason that has nothing to do with them.
fn check_open_files() {
    // Elsewhere than on Linux there is no such file, and one has to see for oneself.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let allowed = soft.and_then(|soft| soft.parse::<u64>().ok()).unwrap_or(u64::MAX);
    assert!(
        allowed >= FILES,
        "{MEMBERS} members open up to {FILES} files, and {allowed} are allowed: `ulimit -n {FILES}` first"
    );
}

fn join(criterion: &mut Criterion) {
    check_open_files();
    let runtime = common::two_threads();
    let mut group = criterion.benchmark_group("join");
    group.sample_size(10).measurement_time(Duration::from_secs(15)).throughput(Throughput::Elements(MEMBERS as u64));
    group.bench_function(BenchmarkId::from_parameter(MEMBERS), |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    took += form().await;
                }
                took
            })
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = join
}
criterion_main!(benches);
