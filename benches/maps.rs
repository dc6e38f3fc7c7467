//! Replicated maps over loopback TCP, values of 100 bytes: what a write costs under each durability, alone and among three,
//! how many go through in a second until everybody has them, what a read costs; how long a member takes to get a map
//! of `TRIBES_MAP_ENTRIES` entries (10,000 if unset), what memory an entry takes, and what the two then do with a map of that
//! size. All replicas share one process and its two threads.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench says what is wrong by failing")]

mod common;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use common::group;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tribes::Channel;
use tribes_replication::{Durability, ReplicatedMap, Writing};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Keys that are written again and again.
const KEYS: u64 = 10_000;

/// From one key to the next, so that neighbours in time are none in memory: a prime, which reaches all keys but of maps whose size is a
/// multiple of it.
const STRIDE: u64 = 7_919;

/// Writes whose outcomes a pipelining writer leaves open.
const OPEN: usize = 256;

type Map = ReplicatedMap<u64, String>;

fn value() -> String {
    "v".repeat(100)
}

/// So many channels that see each other.
fn channels(runtime: &Runtime, count: usize) -> Vec<Channel> {
    let name = group::free();
    let channels: Vec<_> = (0..count).map(|_| group::member(&name).build().expect("a valid configuration")).collect();
    runtime.block_on(async {
        for channel in &channels {
            channel.start().await.expect("loopback and multicast work here");
        }
        for channel in &channels {
            channel.view_when(|view| view.len() == count - 1).await;
        }
    });
    channels
}

async fn open(channel: &Channel) -> Map {
    let map = Map::open(channel, "bench").expect("its name is free");
    map.ready().await;
    map
}

fn maps(runtime: &Runtime, channels: &[Channel]) -> Vec<Map> {
    let opened: Vec<_> = channels.iter().map(|channel| runtime.spawn(open_owned(channel.clone()))).collect();
    opened.into_iter().map(|map| runtime.block_on(map).expect("no panic")).collect()
}

async fn open_owned(channel: Channel) -> Map {
    open(&channel).await
}

/// The key of a write, in a map of so many.
const fn key(number: u64, keys: u64) -> u64 {
    number.wrapping_mul(STRIDE) % keys
}

/// The time for so many writes, one after the other.
async fn put(map: &Map, keys: u64, durability: Durability, count: u64) -> Duration {
    let value = value();
    let start = Instant::now();
    for number in 0..count {
        map.put_with(&key(number, keys), &value, durability).await.expect("all are there");
    }
    start.elapsed()
}

/// The time for so many acknowledged writes, of which some hundred are under way at a time.
async fn put_pipelined(map: &Map, keys: u64, durability: Durability, count: u64) -> Duration {
    let value = value();
    let mut open = VecDeque::with_capacity(OPEN);
    let start = Instant::now();
    for number in 0..count {
        if open.len() == OPEN
            && let Some(oldest) = open.pop_front()
        {
            acknowledged(oldest).await;
        }
        open.push_back(map.begin_put(&key(number, keys), &value, durability).expect("there is room"));
    }
    for writing in open {
        acknowledged(writing).await;
    }
    start.elapsed()
}

async fn acknowledged(writing: Writing) {
    writing.await.expect("all are there");
}

/// The time for so many writes, until everybody has all of them.
async fn put_until_all_have_it(maps: &[Map], keys: u64, count: u64) -> Duration {
    let [first, others @ ..] = maps else { return Duration::ZERO };
    let start = Instant::now();
    put(first, keys, Durability::Queued, count).await;
    // The last first: as long as it is missing there is no need to look at the rest.
    let last = (0..count).rev().take(usize::try_from(KEYS).unwrap_or(usize::MAX)).map(|number| key(number, keys));
    let last: Vec<_> = last.map(|key| (key, first.version(&key))).collect();
    for other in others {
        let has_all = |map: &Map| last.iter().all(|(key, version)| map.version(key) == *version);
        tokio::time::timeout(PATIENCE, other.changed(has_all)).await.expect("everybody gets everything");
    }
    start.elapsed()
}

/// What is done with a map of so many keys, by the first of these.
fn operations(criterion: &mut Criterion, runtime: &Runtime, name: &str, maps: &[Map], keys: u64) {
    let first = maps.first().expect("one at least");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    let copies = Durability::copies(1, PATIENCE);
    let majority = Durability::majority(PATIENCE);
    for (durability, name) in [
        (Durability::Local, "put local"),
        (Durability::Queued, "put queued"),
        (copies, "put copies=1"),
        (majority, "put majority"),
    ] {
        if maps.len() == 1 && !matches!(durability, Durability::Local | Durability::Queued) {
            continue;
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| runtime.block_on(put(first, keys, durability, count)));
        });
    }
    if maps.len() > 1 {
        group.bench_function("put majority, 256 under way", |bencher| {
            bencher.iter_custom(|count| runtime.block_on(put_pipelined(first, keys, majority, count)));
        });
        group.bench_function("put until all have it", |bencher| {
            bencher.iter_custom(|count| runtime.block_on(put_until_all_have_it(maps, keys, count)));
        });
    }
    group.bench_function("get", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number += 1;
            first.get(&key(number, keys)).expect("it is there")
        });
    });
    group.finish();
}

fn writes(criterion: &mut Criterion) {
    let runtime = common::two_threads();
    for members in [1, 3] {
        let channels = channels(&runtime, members);
        let maps = maps(&runtime, &channels);
        let first = maps.first().expect("one at least");
        runtime.block_on(put(first, KEYS, Durability::Local, KEYS));
        operations(criterion, &runtime, &format!("map of {members}"), &maps, KEYS);
        drop(maps);
        runtime.block_on(group::stop_all(channels));
    }
}

/// A figure of this process in bytes, where the operating system says it.
fn memory(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// From now on the peak counts anew.
fn forget_peak() {
    // Where that cannot be, the peak is the one since the process began.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn join(criterion: &mut Criterion) {
    let entries: u64 = std::env::var("TRIBES_MAP_ENTRIES").map_or(10_000, |entries| entries.parse().expect("a number"));
    assert!(!entries.is_multiple_of(STRIDE), "TRIBES_MAP_ENTRIES is to be above 0 and no multiple of {STRIDE}");
    let runtime = common::two_threads();
    let channels = channels(&runtime, 2);
    let [donor_channel, joiner_channel] = channels.as_slice() else { panic!("there are two") };
    let before = memory("VmRSS");
    let donor = runtime.block_on(async {
        let map = open(donor_channel).await;
        let value = value();
        for key in 0..entries {
            map.put_with(&key, &value, Durability::Local).await.expect("there is room");
        }
        map
    });
    let filled = memory("VmRSS");
    let join = async || {
        let start = Instant::now();
        // However long a busy donor takes to answer: otherwise it would begin with nothing.
        let map = Map::builder("bench").open(joiner_channel).expect("its name is free");
        map.ready().await;
        let took = start.elapsed();
        assert_eq!(map.len() as u64, entries, "it is ready and has not everything");
        (map, took)
    };
    forget_peak();
    let (map, took) = runtime.block_on(join());
    if let (Some(before), Some(filled), Some(joined), Some(peak)) = (before, filled, memory("VmRSS"), memory("VmHWM")) {
        let data = donor.stats().bytes as u64 / entries.max(1);
        let each = |bytes: u64| bytes / entries.max(1);
        eprintln!(
            "{entries} entries of {data} bytes: {} bytes an entry where they were written, {} where they were fetched in \
             {took:?}, and at most {} an entry more meanwhile, both members together",
            each(filled.saturating_sub(before)),
            each(joined.saturating_sub(filled)),
            each(peak.saturating_sub(joined)),
        );
    }
    let both = [donor, map];
    operations(criterion, &runtime, &format!("map of {entries} entries"), &both, entries);
    let [donor, map] = both;
    drop(map);
    let mut group = criterion.benchmark_group("map join");
    group.sample_size(10).throughput(Throughput::Elements(entries));
    group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    took += join().await.1;
                }
                took
            })
        });
    });
    group.finish();
    drop(donor);
    runtime.block_on(group::stop_all(channels));
}

criterion_group! {
    name = benches;
    config = common::thorough();
    targets = writes, join
}
criterion_main!(benches);
