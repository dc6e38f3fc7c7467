use std::sync::Arc;
use std::time::Duration;

use tribes_core::settings::Settings as _;
use tribes_core::{Departure, FaultKind, MemberEvent, SendOptions, Time};

use super::core::{Dice, Fate, Line, Place, Step};
use super::{Chaos, ChaosConfig};
use crate::testing::{World, fault_of, member, settle};

const ACK_TIMEOUT: Duration = ChaosConfig::ACK_TIMEOUT;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let odds = ChaosConfig::default().with_loss(0.2).with_duplicate(0.3).with_reorder(0.4, millis(50));
    let throws = |seed, number| {
        let mut dice = Dice::new(seed, number);
        std::iter::repeat_with(move || dice.throw(&odds)).take(1000).collect::<Vec<_>>()
    };
    assert_eq!(throws(1, 1), throws(1, 1));
    assert_ne!(throws(1, 1), throws(2, 1));
    assert_ne!(throws(1, 1), throws(1, 2));
}

#[test]
fn each_kind_has_its_probability_and_leaves_the_others_alone() {
    let (min, max, within) = (millis(10), millis(20), millis(50));
    let odds = ChaosConfig::default().with_duplicate(0.1).with_reorder(0.2, within).with_delay(0.3, min, max);
    let (mut dice, mut with_loss) = (Dice::new(7, 1), Dice::new(7, 1));
    let (mut lost, mut twice, mut aside, mut delayed) = (0, 0, 0, 0);
    for _ in 0..100_000 {
        let fate = dice.throw(&odds);
        let other = with_loss.throw(&odds.with_loss(0.5));
        assert!(!fate.lost);
        assert!(other == fate || other == Fate { lost: true, ..Fate::default() });
        lost += u32::from(other.lost);
        twice += u32::from(fate.twice);
        aside += u32::from(fate.aside.is_some_and(|time| time <= within));
        delayed += u32::from(fate.delay.is_some_and(|time| (min..=max).contains(&time)));
    }
    for (count, expected) in [(lost, 50_000), (twice, 10_000), (aside, 20_000), (delayed, 30_000)] {
        assert!(u32::abs_diff(count, expected) < 1000, "{count} for {expected}");
    }
    let never = ChaosConfig::default();
    let always = never.with_loss(1.0);
    for _ in 0..10_000 {
        assert_eq!(dice.throw(&never), Fate::default());
        assert!(dice.throw(&always).lost);
    }
}

#[test]
fn a_line_keeps_its_order_and_what_is_aside_does_not() {
    let mut line = Line::default();
    assert!(line.push("a", ms(100), Place::Line));
    assert!(!line.push("b", ms(50), Place::Line));
    assert!(!line.push("aside", ms(70), Place::Aside));
    assert!(!line.push("c", ms(120), Place::Line));
    assert_eq!(line.next(ms(69)), Step::Wait(ms(70)));
    assert_eq!(line.next(ms(70)), Step::Do("aside"));
    assert_eq!(line.next(ms(99)), Step::Wait(ms(100)));
    assert_eq!(line.next(ms(100)), Step::Do("a"));
    assert_eq!(line.next(ms(100)), Step::Do("b"));
    assert_eq!(line.next(ms(100)), Step::Wait(ms(120)));
    assert_eq!(line.next(ms(200)), Step::Do("c"));
    // Still in hand: nothing may overtake it.
    assert!(line.is_busy() && line.is_served());
    assert_eq!(line.next(ms(200)), Step::Done);
    assert!(!line.is_busy() && !line.is_served());
    // The times of those who have gone are forgotten.
    assert!(line.push("d", ms(10), Place::Line));
    assert_eq!(line.next(ms(10)), Step::Do("d"));
}

#[test]
fn what_is_hurried_goes_in_the_same_order() {
    let mut line = Line::default();
    for (number, at) in [(1, 500), (2, 100), (3, 900)] {
        let _ = line.push(number, ms(at), Place::Line);
    }
    let _ = line.push(4, ms(50), Place::Aside);
    line.hurry();
    for expected in [4, 1, 2, 3] {
        assert_eq!(line.next(ms(0)), Step::Do(expected));
    }
    let _ = line.push(5, ms(999), Place::Line);
    assert_eq!((line.len(), line.drain()), (1, vec![5]));
    assert_eq!(line.next(ms(0)), Step::Done);
}

#[test]
fn options_from_text() {
    let mut config = ChaosConfig::default();
    for (key, value) in [
        ("seed", "42"),
        ("loss", "5%"),
        ("duplicate", "0.25"),
        ("reorder", "1"),
        ("reorder_within", "7ms"),
        ("delay", "0"),
        ("delay_min", "1ms"),
        ("delay_max", "2s"),
        ("ack_timeout", "1s"),
    ] {
        config.set(key, value).unwrap();
    }
    let expected = ChaosConfig::default()
        .with_seed(42)
        .with_loss(0.05)
        .with_duplicate(0.25)
        .with_reorder(1.0, millis(7))
        .with_delay(0.0, millis(1), Duration::from_secs(2))
        .with_ack_timeout(Duration::from_secs(1));
    assert_eq!(config, expected);
    for (key, wrong) in [
        ("seed", "-1"),
        ("loss", "1.01"),
        ("loss", "101%"),
        ("loss", "-0.1"),
        ("loss", "NaN"),
        ("loss", "often"),
        ("reorder_within", "0s"),
        ("los", "0.1"),
    ] {
        assert!(config.set(key, wrong).is_err(), "{key}={wrong}");
    }
    assert_eq!(config, expected);
    assert!(config.validate().is_ok());
    assert!(config.with_loss(f64::NAN).validate().is_err());
    assert!(config.with_delay(0.1, millis(2), millis(1)).validate().is_err());
    assert!(config.with_ack_timeout(Duration::ZERO).validate().is_err());
}

async fn world(config: ChaosConfig) -> World {
    World::start(|builder| builder.interceptor(Chaos::new(config.with_seed(1)))).await
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_ends_as_a_real_loss_would() {
    let world = world(ChaosConfig::default().with_loss(1.0)).await;
    let start = tokio::time::Instant::now();
    let to = [member(1), member(2)];
    // The operating system would have taken it.
    world.channel.send(&to[..], "x", SendOptions::NONE).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    for options in [SendOptions::ACK, SendOptions::SYNC_ACK] {
        let start = tokio::time::Instant::now();
        let error = world.channel.send(&to[..], "x", options).await.unwrap_err();
        assert!((ACK_TIMEOUT..ACK_TIMEOUT + millis(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
        for port in [1, 2] {
            assert_eq!(fault_of(error.faults(), port), Some(FaultKind::AckTimeout(ACK_TIMEOUT)));
        }
    }
    assert_eq!((world.gauge("lost"), world.gauge("held"), world.channel.stats().budget_used), (6, 0, 0));
    assert!(world.wire.taken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_doubled_message_has_one_outcome() {
    let world = world(ChaosConfig::default().with_duplicate(1.0)).await;
    world.wire.faults.lock().unwrap().insert(2, FaultKind::Left);
    let to = [member(1), member(2)];
    for number in 0..3 {
        let pending = world.channel.send_with(&to[..], format!("{number}"), SendOptions::ACK).await.unwrap();
        let outcome = pending.await;
        assert_eq!((outcome.attempted, outcome.faults.len()), (2, 1));
    }
    for port in [1, 2] {
        assert_eq!(world.wire.bodies(port), ["0", "0", "1", "1", "2", "2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_keeps_the_order() {
    for duplicate in [0.0, 0.3] {
        let config = ChaosConfig::default().with_delay(0.3, millis(1), millis(50)).with_duplicate(duplicate);
        let world = world(config).await;
        let mut pending = Vec::new();
        for number in 0..500 {
            let sent = world.channel.send_with(&member(1), format!("{number}"), SendOptions::ACK).await;
            pending.push(sent.unwrap());
            if number % 7 == 0 {
                tokio::time::sleep(millis(number % 40)).await;
            }
        }
        for pending in pending {
            assert!(pending.await.is_complete());
        }
        settle().await;
        let mut bodies = world.wire.bodies(1);
        bodies.dedup();
        let expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        assert_eq!(bodies, expected);
        assert!(world.gauge("delayed") > 100);
    }
}

#[tokio::test(start_paused = true)]
async fn reordered_messages_are_overtaken_and_none_is_lost() {
    let world = world(ChaosConfig::default().with_reorder(0.3, millis(20))).await;
    let mut pending = Vec::new();
    for number in 0..200 {
        let sent = world.channel.send_with(&member(1), format!("{number:03}"), SendOptions::ACK).await;
        pending.push(sent.unwrap());
        tokio::time::sleep(millis(1)).await;
    }
    for pending in pending {
        assert!(pending.await.is_complete());
    }
    let mut bodies = world.wire.bodies(1);
    assert!(!bodies.is_sorted());
    bodies.sort();
    let expected: Vec<_> = (0..200).map(|number| format!("{number:03}")).collect();
    assert_eq!(bodies, expected);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_destination_holds_up_no_other_and_its_room_is_bounded() {
    let config = ChaosConfig::default().with_delay(1.0, Duration::from_secs(60), Duration::from_secs(60));
    let world = World::start(|builder| {
        let budget = tribes_core::BudgetConfig::with_total(100_000).with_per_member(10_000);
        builder.interceptor(Chaos::new(config.with_seed(1))).budget(budget)
    })
    .await;
    let mut faults = 0;
    for _ in 0..20 {
        let pending = world.channel.send_with(&member(1), vec![0; 1000], SendOptions::NONE).await.unwrap();
        pending.on_complete(|_| {});
        faults = world.gauge("held");
    }
    assert!((6..10).contains(&faults), "{faults} of 1,256 bytes each are held");
    let held = world.channel.stats().budget_used;
    assert!(held <= 10_000, "{held}");
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_member_that_left() {
    let world = world(ChaosConfig::default().with_delay(1.0, millis(500), millis(500))).await;
    world.below.raise(MemberEvent::Added(member(1)));
    let pending = world.channel.send_with(&member(1), "x", SendOptions::ACK).await.unwrap();
    world.below.raise(MemberEvent::Removed(member(1), Departure::Failed));
    let outcome = pending.await;
    assert_eq!(outcome.fault_of(&member(1)), Some(&FaultKind::Left));
    assert!(world.wire.bodies(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_stop_everything_goes_and_nothing_is_without_an_outcome() {
    let world = world(ChaosConfig::default().with_delay(1.0, Duration::from_secs(100), Duration::from_secs(100))).await;
    let mut pending = Vec::new();
    for number in 0..10 {
        let sent = world.channel.send_with(&member(1), format!("{number}"), SendOptions::ACK).await;
        pending.push(sent.unwrap());
    }
    assert_eq!(world.gauge("held"), 10);
    let start = tokio::time::Instant::now();
    world.channel.stop().await;
    assert!(start.elapsed() < millis(100));
    for pending in pending {
        assert!(pending.await.is_complete());
    }
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(world.wire.bodies(1), expected);

    let lossy = self::world(ChaosConfig::default().with_loss(1.0)).await;
    let lost = lossy.channel.send_with(&member(1), "x", SendOptions::ACK).await.unwrap();
    lossy.channel.stop().await;
    assert_eq!(lost.await.fault_of(&member(1)), Some(&FaultKind::Stopped));
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_and_is_told() {
    let run = async |seed: Option<u64>| {
        let layer = Arc::new(Chaos::new(ChaosConfig::default().with_seed(seed).with_loss(0.5)));
        let world = World::start(|builder| builder.interceptor(Arc::clone(&layer))).await;
        for number in 0..64 {
            world.channel.send(&member(1), format!("{number}"), SendOptions::NONE).await.unwrap();
        }
        assert_eq!(Some(world.gauge("seed")), layer.seed());
        (layer.seed().unwrap(), world.wire.bodies(1))
    };
    let (seed, bodies) = run(None).await;
    assert_eq!(run(Some(seed)).await, (seed, bodies));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[allow(clippy::disallowed_methods, reason = "the test is about several threads")]
async fn between_threads_each_task_keeps_its_order_and_nothing_is_lost() {
    const TASKS: usize = 4;
    const EACH: usize = 500;
    let config = ChaosConfig::default().with_delay(0.3, Duration::ZERO, millis(2)).with_duplicate(0.2);
    let world = world(config).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let channel = world.channel.clone();
            tokio::spawn(async move {
                let mut pending = Vec::new();
                for number in 0..EACH {
                    let to = [member(1), member(2)];
                    let text = format!("{task} {number:04}");
                    pending.push(channel.send_with(&to[..], text, SendOptions::ACK).await.unwrap());
                }
                for pending in pending {
                    assert!(pending.await.is_complete());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    world.channel.stop().await;
    for port in [1, 2] {
        let bodies = world.wire.bodies(port);
        for task in 0..TASKS {
            let prefix = format!("{task} ");
            let mut own: Vec<_> = bodies.iter().filter(|body| body.starts_with(prefix.as_bytes())).cloned().collect();
            own.dedup();
            let expected: Vec<_> = (0..EACH).map(|number| format!("{task} {number:04}")).collect();
            assert_eq!(own, expected);
        }
    }
    assert_eq!(world.channel.stats().budget_used, 0);
}
