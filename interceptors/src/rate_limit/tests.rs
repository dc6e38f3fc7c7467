#![allow(clippy::disallowed_methods, reason = "a test's own tasks")]

use std::sync::Arc;
use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::{Departure, FaultKind, MemberEvent, SendError, SendOptions, Time};

use super::core::{Bucket, Limits, Rate};
use super::{OnLimit, RateLimit, RateLimitConfig};
use crate::testing::{World, fault_of, member, settle};

const ONE: Rate = Rate { per_s: 10, burst: 1 };

fn messages(rate: Rate) -> Limits {
    Limits { messages: Some(rate), bytes: None }
}

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
    let limits = messages(Rate { per_s: 10, burst: 3 });
    let mut bucket = Bucket::default();
    // An hour of idleness is worth no more than the burst.
    let start = ms(3_600_000);
    for _ in 0..3 {
        assert_eq!(bucket.ready_at(&limits, start, 1000), start);
        bucket.take(&limits, start, 1000);
    }
    assert_eq!(bucket.ready_at(&limits, start, 0), start + Duration::from_millis(100));
    assert!(!bucket.is_full(&limits, start + Duration::from_millis(299)));
    assert!(bucket.is_full(&limits, start + Duration::from_millis(300)));
    bucket.give_back(0);
    assert_eq!(bucket.ready_at(&limits, start, 0), start);
}

#[test]
fn a_burst_is_whole_at_any_rate() {
    for (per_s, burst) in [(3, 3), (7, 1000), (999_999_937, 1_000_000_000), (1, 1)] {
        let limits = Limits { messages: None, bytes: Some(Rate { per_s, burst }) };
        let mut bucket = Bucket::default();
        for _ in 0..burst.min(1000) {
            assert_eq!(bucket.ready_at(&limits, ms(5), burst / burst.min(1000)), ms(5));
            bucket.take(&limits, ms(5), burst / burst.min(1000));
        }
        assert!(bucket.ready_at(&limits, ms(5), 1) > ms(5));
    }
}

#[test]
fn a_message_larger_than_the_burst_goes_alone_and_leaves_a_debt() {
    let limits = Limits { messages: None, bytes: Some(Rate { per_s: 1000, burst: 100 }) };
    let mut bucket = Bucket::default();
    bucket.take(&limits, ms(1000), 1);
    // When the bucket is full.
    assert_eq!(bucket.ready_at(&limits, ms(1000), 5000), ms(1001));
    bucket.take(&limits, ms(1001), 5000);
    assert_eq!(bucket.ready_at(&limits, ms(1001), 100), ms(6001));
    assert_eq!(bucket.ready_at(&limits, ms(1001), 0), ms(5901));
    assert_eq!(bucket.ready_at(&limits, ms(9999), u64::MAX), ms(9999));
    // Nothing overflows.
    bucket.take(&limits, ms(9999), u64::MAX);
    bucket.take(&limits, ms(9999), u64::MAX);
    assert!(bucket.ready_at(&limits, ms(9999), 1) > ms(1 << 40));
}

#[test]
fn no_pattern_of_sends_exceeds_the_rate() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..200 {
        let rate = Rate { per_s: rng.u64(1..5_000_000), burst: rng.u64(1..100_000) };
        let limits = Limits { messages: None, bytes: Some(rate) };
        let (mut bucket, mut now) = (Bucket::default(), ms(1000));
        let mut sent: Vec<(Time, u64)> = Vec::new();
        for _ in 0..200 {
            now = now + Duration::from_nanos(rng.u64(0..2_000_000) * rng.u64(0..3));
            let len = rng.u64(0..=rate.burst);
            now = now.max(bucket.ready_at(&limits, now, len));
            bucket.take(&limits, now, len);
            sent.push((now, len));
        }
        for (first, (from, _)) in sent.iter().enumerate() {
            let mut sum = 0;
            for (at, len) in &sent[first..] {
                sum += u128::from(*len);
                let allowed =
                    u128::from(rate.burst) * 1_000_000_000 + (*at - *from).as_nanos() * u128::from(rate.per_s);
                assert!(
                    sum * 1_000_000_000 <= allowed,
                    "seed {seed}, round {round}: {sum} bytes within {:?}",
                    *at - *from
                );
            }
        }
    }
}

#[test]
fn options_from_text() {
    let mut config = RateLimitConfig::default();
    for (key, value) in [
        ("messages_per_s", "500"),
        ("bytes_per_s", "64KiB"),
        ("burst_messages", "7"),
        ("burst_bytes", "1MiB"),
        ("policy", "wait:250ms"),
    ] {
        config.set(key, value).unwrap();
    }
    let wait = OnLimit::Wait(Duration::from_millis(250));
    let expected = RateLimitConfig::default()
        .with_messages_per_s(500)
        .with_bytes_per_s(65_536)
        .with_burst_messages(7)
        .with_burst_bytes(1 << 20)
        .with_policy(wait);
    assert_eq!(config, expected);
    for (key, wrong) in [
        ("messages_per_s", "0"),
        ("messages_per_s", "1KiB"),
        ("messages_per_s", "1000000001"),
        ("bytes_per_s", "0"),
        ("bytes_per_s", "1025TiB"),
        ("burst_bytes", "-1"),
        ("policy", "wait"),
        ("policy", "drop"),
        ("rate", "1"),
    ] {
        assert!(config.set(key, wrong).is_err(), "{key}={wrong}");
    }
    assert_eq!(config, expected);
    config.set("policy", "fail").unwrap();
    assert_eq!(config.policy, OnLimit::Fail);
    let nothing = RateLimitConfig::default().validate().unwrap_err().to_string();
    assert!(nothing.contains("bytes_per_s"), "{nothing}");
    assert!(RateLimitConfig::default().with_messages_per_s(0).validate().is_err());
}

fn config(rate: Rate) -> RateLimitConfig {
    RateLimitConfig::default().with_messages_per_s(rate.per_s).with_burst_messages(rate.burst)
}

async fn world(config: RateLimitConfig) -> World {
    World::start(|builder| builder.interceptor(RateLimit::new(config))).await
}

#[tokio::test(start_paused = true)]
async fn the_sender_waits_for_its_tokens() {
    let world = world(config(Rate { per_s: 10, burst: 2 })).await;
    let start = tokio::time::Instant::now();
    for number in 0..7 {
        world.channel.send(&member(1), format!("{number}"), SendOptions::ACK).await.unwrap();
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_millis(520)).contains(&took), "{took:?}");
    assert_eq!(world.wire.bodies(1), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!((world.gauge("delayed"), world.gauge("waiting"), world.gauge("refused")), (5, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited_too() {
    let layer = RateLimitConfig::default().with_bytes_per_s(1000).with_burst_bytes(500);
    let world = world(layer).await;
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        world.channel.send(&member(1), vec![0; 500], SendOptions::NONE).await.unwrap();
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(1000)..Duration::from_millis(1020)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_without_tokens_delays_no_other() {
    let world = world(config(ONE)).await;
    world.channel.send(&member(1), "a", SendOptions::NONE).await.unwrap();
    let (both, channel) = ([member(1), member(2), member(3)], world.channel.clone());
    let sending = tokio::spawn(async move { channel.send(&both[..], "b", SendOptions::ACK).await });
    settle().await;
    assert_eq!((world.wire.bodies(2), world.wire.bodies(3)), (vec!["b".into()], vec!["b".into()]));
    assert_eq!(world.wire.bodies(1), ["a"]);
    assert_eq!(world.gauge("waiting"), 1);
    sending.await.unwrap().unwrap();
    assert_eq!(world.wire.bodies(1), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_in_order_and_nobody_overtakes() {
    let world = world(config(ONE)).await;
    let mut sends = Vec::new();
    for number in 0..20 {
        let (channel, member) = (world.channel.clone(), member(1));
        sends.push(tokio::spawn(async move { channel.send(&member, format!("{number}"), SendOptions::NONE).await }));
        settle().await;
    }
    for send in sends {
        send.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(world.wire.bodies(1), expected);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_wait_fails_for_that_destination_alone() {
    for policy in [OnLimit::Fail, OnLimit::Wait(Duration::from_millis(99))] {
        let world = world(config(ONE).with_policy(policy)).await;
        world.channel.send(&member(1), "a", SendOptions::NONE).await.unwrap();
        let error = world.channel.send(&[member(1), member(2)][..], "b", SendOptions::ACK).await.unwrap_err();
        assert_eq!(error.faults().len(), 1);
        assert_eq!(fault_of(error.faults(), 1), Some(FaultKind::QueueFull));
        assert_eq!(world.wire.bodies(2), ["b"]);
        assert_eq!((world.gauge("refused"), world.gauge("delayed")), (1, 0));
        // Its tokens were not taken.
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.channel.send(&member(1), "c", SendOptions::NONE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn try_send_never_waits() {
    let world = world(config(ONE)).await;
    let first = world.channel.try_send(member(1), "a", SendOptions::ACK).unwrap().await;
    assert!(first.is_complete());
    let second = world.channel.try_send(member(1), "b", SendOptions::ACK).unwrap().await;
    assert_eq!(second.fault_of(&member(1)), Some(&FaultKind::QueueFull));
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_gives_its_tokens_back() {
    let world = world(config(ONE)).await;
    world.channel.send(&member(1), "a", SendOptions::NONE).await.unwrap();
    let mut dropped = Vec::new();
    for _ in 0..5 {
        let (channel, member) = (world.channel.clone(), member(1));
        let task = tokio::spawn(async move { channel.send(&member, "never", SendOptions::NONE).await });
        settle().await;
        dropped.push(task);
    }
    assert_eq!(world.gauge("waiting"), 5);
    for task in dropped {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(world.gauge("waiting"), 0);
    let start = tokio::time::Instant::now();
    world.channel.send(&member(1), "b", SendOptions::NONE).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(110), "{:?}", start.elapsed());
    assert_eq!(world.wire.bodies(1), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_member_that_left() {
    let world = world(config(ONE)).await;
    world.below.raise(MemberEvent::Added(member(1)));
    world.channel.send(&member(1), "a", SendOptions::NONE).await.unwrap();
    let channel = world.channel.clone();
    let waiting = tokio::spawn(async move { channel.send(&member(1), "b", SendOptions::NONE).await });
    settle().await;
    world.below.raise(MemberEvent::Removed(member(1), Departure::Failed));
    settle().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(fault_of(error.faults(), 1), Some(FaultKind::Left));
    // A member that comes back starts with a full bucket.
    world.channel.send(&member(1), "c", SendOptions::NONE).await.unwrap();
    assert_eq!(world.wire.bodies(1), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn at_stop_what_cannot_go_by_the_deadline_fails_at_once() {
    let slow = Rate { per_s: 1, burst: 1 };
    let world = world(config(slow).with_policy(OnLimit::Wait(Duration::from_secs(60)))).await;
    world.channel.send(&member(1), "0", SendOptions::NONE).await.unwrap();
    let mut waiting = Vec::new();
    for number in 1..=10 {
        let channel = world.channel.clone();
        let text = number.to_string();
        waiting.push(tokio::spawn(async move { channel.send(&member(1), text, SendOptions::NONE).await }));
        settle().await;
    }
    world.channel.stop().await;
    let results: Vec<_> = {
        let mut results = Vec::new();
        for send in waiting {
            results.push(send.await.unwrap().map(drop));
        }
        results
    };
    // The drain time is 5 s.
    assert!(results[..5].iter().all(Result::is_ok), "{results:?}");
    for result in &results[5..] {
        assert_eq!(fault_of(result.as_ref().unwrap_err().faults(), 1), Some(FaultKind::Stopped));
    }
    assert_eq!(world.wire.bodies(1), ["0", "1", "2", "3", "4", "5"]);
    world.channel.start().await.unwrap();
    world.channel.send(&member(1), "again", SendOptions::NONE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_threads_each_task_keeps_its_order_and_nothing_is_lost() {
    const TASKS: usize = 4;
    const EACH: usize = 200;
    let world = world(config(Rate { per_s: 4000, burst: 5 })).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let channel = world.channel.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    let text = format!("{task} {number:04}");
                    channel.send(&[member(1), member(2)][..], text, SendOptions::ACK).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for port in [1, 2] {
        let bodies = world.wire.bodies(port);
        for task in 0..TASKS {
            let prefix = format!("{task} ");
            let own: Vec<_> = bodies.iter().filter(|body| body.starts_with(prefix.as_bytes())).cloned().collect();
            let expected: Vec<_> = (0..EACH).map(|number| format!("{task} {number:04}")).collect();
            assert_eq!(own, expected);
        }
    }
    assert_eq!(world.gauge("waiting"), 0);
}

#[test]
fn without_a_limit_no_channel_is_built() {
    let builder = tribes_testkit::Recorder::new().install(tribes_core::Channel::builder());
    let error = builder.interceptor(RateLimit::new(RateLimitConfig::default())).build().unwrap_err().to_string();
    assert!(error.contains("the rate-limit refuses its configuration") && error.contains("messages_per_s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn idle_destinations_are_forgotten() {
    let layer = Arc::new(RateLimit::new(config(ONE)));
    let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
    for number in 0..10_000 {
        let result = world.channel.send(&member(number), "x", SendOptions::NONE).await;
        assert!(!matches!(result, Err(SendError::Layer { .. })), "{result:?}");
        if number % 1000 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(world.gauge("destinations") <= 6000, "{}", world.gauge("destinations"));
}
