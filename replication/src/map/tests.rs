#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tribes_core::Channel;
use tribes_testkit::{Simulation, World};

use super::*;
use crate::core::Core;
use crate::{CopyState, Counter, Diffable, MapError};

const SECOND: Duration = Duration::from_secs(1);

async fn group(world: &World, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        let channel = world.join(Channel::builder()).build().unwrap();
        channel.start().await.unwrap();
        channels.push(channel);
    }
    for channel in &channels {
        channel.view_when(|view| view.len() == count - 1).await;
    }
    channels
}

async fn maps<V: Serialize + DeserializeOwned + 'static>(
    channels: &[Channel],
    set_up: impl Fn(MapBuilder<String, V>) -> MapBuilder<String, V>,
) -> Vec<ReplicatedMap<String, V>> {
    let maps: Vec<_> =
        channels.iter().map(|channel| set_up(ReplicatedMap::builder("test")).open(channel).unwrap()).collect();
    for map in &maps {
        map.ready().await;
    }
    maps
}

fn simulate(scenario: impl AsyncFnOnce(World)) {
    Simulation::new(1).run(scenario);
}

#[test]
fn what_one_writes_all_read() {
    simulate(async |world| {
        let channels = group(&world, 3).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        let written = maps[0].put_with("a", &1, Durability::all(SECOND)).await.unwrap();
        assert_eq!(written.members.iter().filter(|(_, state)| *state == CopyState::Has).count(), 2);
        assert!(maps.iter().all(|map| map.get("a") == Some(1) && map.len() == 1));
        maps[1].put_with("a", &2, Durability::majority(SECOND)).await.unwrap();
        maps[2].changed(|map| map.get("a") == Some(2)).await;
        maps[2].remove_with("a", Durability::all(SECOND)).await.unwrap().unwrap();
        assert!(maps.iter().all(|map| map.get("a").is_none() && map.is_empty() && !map.contains_key("a")));
        assert_eq!(maps[0].remove("a").await.unwrap(), None);
    });
}

#[test]
fn writes_wait_for_company_until_somebody_waits_for_one() {
    simulate(async |world| {
        let linger = Duration::from_millis(100);
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder.gather(linger)).await;
        for number in 0..10 {
            let written = maps[0].put(&format!("{number}"), &number).await.unwrap();
            let states: Vec<_> = written.members.iter().map(|(_, state)| *state).collect();
            assert_eq!(states, [CopyState::Sent], "it is on its way, as far as anybody is concerned");
        }
        tokio::time::sleep(linger / 2).await;
        assert!(maps[1].is_empty());
        tokio::time::sleep(linger).await;
        assert_eq!(maps[1].len(), 10);
        let began = tokio::time::Instant::now();
        maps[0].put("along", &1).await.unwrap();
        maps[0].put_with("waited for", &1, Durability::copies(1, SECOND)).await.unwrap();
        assert!(began.elapsed() < linger / 2, "{:?}", began.elapsed());
        assert_eq!(maps[1].get("along"), Some(1));
        maps[0].put("last", &1).await.unwrap();
        maps[0].close();
        tokio::time::sleep(linger / 2).await;
        assert_eq!(maps[1].get("last"), Some(1));
    });
}

/// While one thread performs, in a listener, another's gathering may end and a third's begin.
#[test]
fn what_is_waited_for_goes_though_others_gather_again_meanwhile() {
    simulate(async |world| {
        let linger = Duration::from_millis(100);
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder.gather(linger)).await;
        // What panics in a listener is contained: so it is judged outside.
        let (map, (seen, saw)) = (maps[0].clone(), std::sync::mpsc::channel());
        let listening = maps[0].on_change(move |change| {
            if change.key == "first" {
                let mut cx = Context::from_waker(Waker::noop());
                let mut waited = Box::pin(map.put_with("waited for", &1, Durability::copies(1, SECOND)));
                let is_waiting = waited.as_mut().poll(&mut cx).is_pending();
                map.inner.shared.act(|_, _| {});
                let is_unsent = map.inner.shared.look(Core::has_unsent);
                let is_queued = Box::pin(map.put("along", &1)).as_mut().poll(&mut cx).is_ready();
                seen.send((is_waiting, is_unsent, is_queued)).unwrap();
            }
        });
        let began = tokio::time::Instant::now();
        maps[0].put("first", &1).await.unwrap();
        assert_eq!(saw.try_recv(), Ok((true, false, true)), "it is in a message, whoever sends it");
        maps[1].changed(|map| map.get("waited for") == Some(1)).await;
        assert!(began.elapsed() < linger / 2, "{:?}", began.elapsed());
        drop(listening);
    });
}

#[test]
fn who_opens_late_gets_everything() {
    simulate(async |world| {
        let channels = group(&world, 3).await;
        let early = maps::<u32>(&channels[..2], |builder| builder).await;
        for number in 0..2000 {
            early[number % 2].put(&format!("key {number}"), &u32::try_from(number).unwrap()).await.unwrap();
        }
        let late = maps::<u32>(&channels[2..], |builder| builder).await;
        assert_eq!(late[0].len(), 2000);
        let mut all: Vec<_> = late[0].iter().collect();
        let mut snapshot = early[0].snapshot();
        all.sort();
        snapshot.sort();
        assert_eq!(all, snapshot);
    });
}

#[test]
fn not_enough_members_is_an_error_that_names_them() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder.group_size(3)).await;
        maps[0].put_with("a", &1, Durability::majority(SECOND)).await.unwrap();
        let error = maps[0].put_with("a", &2, Durability::copies(2, SECOND)).await.unwrap_err();
        assert!(matches!(&error, MapError::NotAcknowledged { members, .. } if members.len() == 1), "{error}");
        // Made all the same.
        assert_eq!(maps[0].get("a"), Some(2));
        maps[1].changed(|map| map.get("a") == Some(2)).await;
    });
}

#[test]
fn changes_are_told_in_order() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let handle = maps[1].on_change(move |change| sink.lock().unwrap().push(change.clone()));
        let mut stream = maps[1].changes();
        maps[0].put("a", &1).await.unwrap();
        maps[0].put("a", &2).await.unwrap();
        maps[0].remove("a").await.unwrap();
        maps[1].changed(|_| told.lock().unwrap().len() == 3).await;
        maps[1].put("b", &3).await.unwrap();
        drop(handle);
        maps[1].put("b", &4).await.unwrap();
        let seen: Vec<_> =
            told.lock().unwrap().iter().map(|change| (change.key.clone(), change.old, change.new, change.by)).collect();
        let key = |key: &str| key.to_owned();
        let expected = [
            (key("a"), None, Some(1), By::Peer),
            (key("a"), Some(1), Some(2), By::Peer),
            (key("a"), Some(2), None, By::Peer),
            (key("b"), None, Some(3), By::Local),
        ];
        assert_eq!(seen, expected);
        for (number, (.., by)) in expected.iter().enumerate() {
            assert_eq!(stream.next().await.unwrap().unwrap().by, *by, "{number}");
        }
    });
}

/// A listener may write; what it writes is told after it has returned.
#[test]
fn a_listener_may_use_the_map() {
    simulate(async |world| {
        let channels = group(&world, 1).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        let map = maps[0].clone();
        maps[0]
            .on_change(move |change| {
                if let Some(number) = change.new.filter(|number| *number < 5) {
                    let next = number + 1;
                    let write = std::pin::pin!(map.put("a", &next));
                    let mut context = Context::from_waker(Waker::noop());
                    let _ = write.poll(&mut context);
                }
            })
            .forever();
        maps[0].put("a", &1).await.unwrap();
        maps[0].changed(|map| map.get("a") == Some(5)).await;
    });
}

/// Messages that come while a listener is at work keep their room until it is done, so that their senders wait.
#[test]
fn a_slow_listener_holds_up_senders() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels[..1], |builder| builder).await;
        let other = Arc::clone(&channels[0].view().members()[0]);
        let room = Arc::new(());
        let taken = Arc::new(Mutex::new(0));
        let (shared, guard, count) = (Arc::downgrade(&maps[0].inner.shared), Arc::clone(&room), Arc::clone(&taken));
        maps[0]
            .on_change(move |_| {
                let shared = shared.upgrade().unwrap();
                for _ in 0..3 {
                    let from = Incarnation::new(77);
                    let bye = crate::message::Envelope { from, to: None, message: crate::message::Message::Bye };
                    let message = tribes_core::Message::new(tribes_core::ChannelMessage {
                        options: tribes_core::SendOptions::NONE,
                        timestamp_ms: 0,
                        id: tribes_core::MessageId::from_array([0; 16]),
                        sender: Arc::clone(&other),
                        body: tribes_core::Body::new(bye.encode()),
                    });
                    let lease = tribes_core::Lease::new(Arc::clone(&guard));
                    tribes_core::ChannelEndpoint::receive(&*shared, message, &other, lease).unwrap();
                }
                *count.lock().unwrap() = Arc::strong_count(&guard);
            })
            .forever();
        maps[0].put("a", &1).await.unwrap();
        assert_eq!(*taken.lock().unwrap(), 2 + 3, "the room was given back at once");
        assert_eq!(Arc::strong_count(&room), 2);
    });
}

/// Both sides of a split group write the same keys.
async fn split<V>(world: &World, conflicts: fn() -> Conflicts<V>, values: [V; 2]) -> Vec<ReplicatedMap<String, V>>
where
    V: Serialize + DeserializeOwned + 'static,
{
    let nodes = [world.node(), world.node()];
    let mut channels = Vec::new();
    for node in &nodes {
        let channel = node.join(Channel::builder()).build().unwrap();
        channel.start().await.unwrap();
        channels.push(channel);
    }
    channels[0].view_when(|view| view.len() == 1).await;
    channels[1].view_when(|view| view.len() == 1).await;
    let maps = maps(&channels, |builder| builder.conflicts(conflicts())).await;
    world.net().cut(&nodes[0], &nodes[1]);
    channels[0].view_when(|view| view.is_empty()).await;
    channels[1].view_when(|view| view.is_empty()).await;
    for (map, value) in maps.iter().zip(values) {
        map.put_with("a", &value, Durability::Local).await.unwrap();
    }
    world.net().mend(&nodes[0], &nodes[1]);
    for map in &maps {
        map.changed(|map| map.stats().repairs > 0 || map.stats().in_conflict > 0).await;
    }
    assert!(world.until(SECOND * 30, || maps[0].version("a") == maps[1].version("a")).await);
    maps
}

#[test]
fn after_a_partition_the_latest_wins() {
    simulate(async |world| {
        let nodes = [world.node(), world.node()];
        let mut channels = Vec::new();
        for node in &nodes {
            let channel = node.join(Channel::builder()).build().unwrap();
            channel.start().await.unwrap();
            channels.push(channel);
        }
        let maps = maps::<u32>(&channels, |builder| builder).await;
        world.net().cut(&nodes[0], &nodes[1]);
        channels[0].view_when(|view| view.is_empty()).await;
        channels[1].view_when(|view| view.is_empty()).await;
        maps[0].put("a", &1).await.unwrap();
        world.sleep(SECOND).await;
        maps[1].put("a", &2).await.unwrap();
        maps[0].put("only here", &3).await.unwrap();
        world.net().mend(&nodes[0], &nodes[1]);
        maps[0].changed(|map| map.get("a") == Some(2)).await;
        maps[1].changed(|map| map.get("only here") == Some(3)).await;
        assert_eq!(maps[1].get("a"), Some(2));
    });
}

#[test]
fn after_a_partition_sets_are_united() {
    simulate(async |world| {
        let set = |items: &[u8]| items.iter().copied().collect::<BTreeSet<_>>();
        let maps = split(&world, Conflicts::union, [set(&[1, 2]), set(&[2, 3])]).await;
        for map in &maps {
            assert!(world.until(SECOND * 30, || map.get("a") == Some(set(&[1, 2, 3]))).await);
        }
    });
}

#[test]
fn after_a_partition_the_greatest_and_the_least_win() {
    simulate(async |world| {
        for map in split(&world, Conflicts::max, [7, 5]).await {
            assert!(world.until(SECOND * 30, || map.get("a") == Some(7)).await);
        }
    });
    simulate(async |world| {
        for map in split(&world, Conflicts::min, [7, 5]).await {
            assert!(world.until(SECOND * 30, || map.get("a") == Some(5)).await);
        }
    });
}

#[test]
fn after_a_partition_all_are_kept_until_somebody_decides() {
    simulate(async |world| {
        let maps = split(&world, Conflicts::keep_all, ["x".to_owned(), "y".to_owned()]).await;
        for map in &maps {
            let both = || map.get_all("a").into_iter().collect::<BTreeSet<_>>() == ["x".into(), "y".into()].into();
            assert!(world.until(SECOND * 30, both).await);
            assert_eq!(map.stats().in_conflict, 1);
        }
        maps[1].put("a", &"z".to_owned()).await.unwrap();
        maps[0].changed(|map| map.get_all("a") == ["z"]).await;
        assert_eq!(maps[0].stats().in_conflict, 0);
    });
}

#[test]
fn counters_count_every_increment() {
    simulate(async |world| {
        let channels = group(&world, 3).await;
        let maps = maps::<Counter>(&channels, |builder| builder.conflicts(Conflicts::counter())).await;
        for round in 0..50 {
            for map in &maps {
                map.add("hits", 2).await.unwrap();
                map.add("hits", -1).await.unwrap();
            }
            if round % 10 == 0 {
                world.sleep(Duration::from_millis(3)).await;
            }
        }
        for map in &maps {
            assert!(world.until(SECOND * 30, || map.count("hits") == 150).await, "{}", map.count("hits"));
        }
    });
}

/// One counts on in what another has removed, and begins anew himself where he has heard of it.
#[test]
fn a_counter_that_is_removed_meanwhile_loses_no_increment() {
    simulate(async |world| {
        let nodes = [world.node(), world.node(), world.node()];
        let mut channels = Vec::new();
        for node in &nodes {
            let channel = node.join(Channel::builder()).build().unwrap();
            channel.start().await.unwrap();
            channels.push(channel);
        }
        for channel in &channels {
            channel.view_when(|view| view.len() == 2).await;
        }
        let maps = maps::<Counter>(&channels, |builder| builder.conflicts(Conflicts::counter())).await;
        maps[0].add("hits", 5).await.unwrap();
        for map in &maps {
            map.changed(|map| map.count("hits") == 5).await;
        }
        world.net().partition(&[&[&nodes[0], &nodes[1]], &[&nodes[2]]]);
        channels[2].view_when(|view| view.is_empty()).await;
        maps[1].remove("hits").await.unwrap();
        maps[0].changed(|map| !map.contains_key("hits")).await;
        maps[0].add("hits", 1).await.unwrap();
        maps[2].add("hits", 10).await.unwrap();
        world.net().heal();
        // What was added since the removal, and what was added without having heard of it, with what that knew.
        for map in &maps {
            assert!(world.until(SECOND * 30, || map.count("hits") == 16).await, "{}", map.count("hits"));
        }
        maps[0].add("hits", 1).await.unwrap();
        maps[2].changed(|map| map.count("hits") == 17).await;
    });
}

/// A removal that comes beside what it had not seen.
#[test]
fn what_changes_no_value_is_not_told() {
    simulate(async |world| {
        let nodes = [world.node(), world.node()];
        let mut channels = Vec::new();
        for node in &nodes {
            let channel = node.join(Channel::builder()).build().unwrap();
            channel.start().await.unwrap();
            channels.push(channel);
        }
        let maps = maps::<u32>(&channels, |builder| builder.conflicts(Conflicts::keep_all())).await;
        maps[0].put("a", &1).await.unwrap();
        maps[1].changed(|map| map.get("a") == Some(1)).await;
        world.net().cut(&nodes[0], &nodes[1]);
        channels[0].view_when(|view| view.is_empty()).await;
        channels[1].view_when(|view| view.is_empty()).await;
        maps[0].remove("a").await.unwrap();
        maps[1].put("a", &2).await.unwrap();
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        maps[1].on_change(move |_| *count.lock().unwrap() += 1).forever();
        world.net().mend(&nodes[0], &nodes[1]);
        for map in &maps {
            let writes = || map.inner.shared.look(|core| core.writes_at(&encode("a").unwrap()).len());
            assert!(world.until(SECOND * 30, || writes() == 2 && map.get("a") == Some(2)).await);
        }
        assert_eq!(*told.lock().unwrap(), 0);
    });
}

#[test]
fn counters_need_a_map_that_merges() {
    simulate(async |world| {
        let channels = group(&world, 1).await;
        let maps = maps::<Counter>(&channels, |builder| builder.conflicts(Conflicts::keep_all())).await;
        let error = maps[0].add("hits", 1).await.unwrap_err();
        assert!(matches!(error, MapError::NoCounters) && error.to_string().contains("Conflicts::counter()"), "{error}");
        assert!(maps[0].is_empty());
    });
}

#[test]
fn an_update_sees_what_it_changes() {
    simulate(async |world| {
        let channels = group(&world, 1).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        for _ in 0..10 {
            maps[0].update("a", |number| Some(number.unwrap_or(0) + 1)).await.unwrap();
        }
        assert_eq!(maps[0].get("a"), Some(10));
        assert_eq!(maps[0].update("a", |_| None).await.unwrap(), None);
        // Somebody else writes each time in between.
        let (map, mut other) = (&maps[0], 100);
        let result = map
            .update("a", |number| {
                other += 1;
                let write = std::pin::pin!(map.put_with("a", &other, Durability::Local));
                let _ = write.poll(&mut Context::from_waker(Waker::noop()));
                number.map(|number| number + 1)
            })
            .await;
        assert!(matches!(result, Err(MapError::Contended { tries: 64 })), "{result:?}");
    });
}

/// A text that grows at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Log(String);

impl Diffable for Log {
    fn diff(&self, earlier: &Self) -> Option<Vec<u8>> {
        self.0.strip_prefix(&earlier.0).map(|new| new.as_bytes().to_vec())
    }

    fn apply(mut self, diff: &[u8]) -> Option<Self> {
        self.0.push_str(std::str::from_utf8(diff).ok()?);
        Some(self)
    }
}

#[test]
fn of_a_value_that_grows_only_the_new_part_travels() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<Log>(&channels, MapBuilder::diffs).await;
        let mut text = "x".repeat(10_000);
        maps[0].put_with("log", &Log(text.clone()), Durability::all(SECOND)).await.unwrap();
        let sent = |channel: &Channel| channel.stats().endpoints[0].down.bytes;
        let before = sent(&channels[0]);
        for line in 0..20 {
            text.push_str(&format!("line {line}\n"));
            maps[0].put_with("log", &Log(text.clone()), Durability::all(SECOND)).await.unwrap();
        }
        assert_eq!(maps[1].get("log").unwrap().0, text);
        assert_eq!(maps[0].stats().diffs, 20);
        let bytes = sent(&channels[0]) - before;
        assert!(bytes < 10_000, "20 short lines took {bytes} bytes");
    });
}

#[test]
fn bounds_are_kept_and_named() {
    simulate(async |world| {
        let channels = group(&world, 1).await;
        let maps = maps::<String>(&channels, |builder| builder.max_value(100).max_bytes(250)).await;
        let error = maps[0].put("a", &"x".repeat(200)).await.unwrap_err();
        assert!(matches!(error, MapError::ValueTooLarge { limit: 100, .. }), "{error}");
        maps[0].put("a", &"x".repeat(90)).await.unwrap();
        maps[0].put("b", &"x".repeat(90)).await.unwrap();
        let error = maps[0].put("c", &"x".repeat(90)).await.unwrap_err();
        assert!(matches!(error, MapError::Full { limit: 250, .. }), "{error}");
        // What is replaced does not count.
        maps[0].put("b", &"y".repeat(90)).await.unwrap();
        maps[0].remove("a").await.unwrap();
        maps[0].put("c", &"x".repeat(90)).await.unwrap();
    });
}

#[test]
fn a_name_is_taken_once_and_free_again() {
    simulate(async |world| {
        let channels = group(&world, 1).await;
        let map: ReplicatedMap<u8, u8> = ReplicatedMap::open(&channels[0], "x").unwrap();
        assert!(ReplicatedMap::<u8, u8>::open(&channels[0], "x").is_err());
        map.close();
        assert!(matches!(map.put(&1, &1).await, Err(MapError::Closed)));
        drop(map);
        ReplicatedMap::<u8, u8>::open(&channels[0], "x").unwrap();
    });
}

/// It goes on where the channel was started again, and nothing that was written meanwhile is missing.
#[test]
fn a_map_outlives_a_stop_of_its_channel() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        maps[0].put_with("a", &1, Durability::all(SECOND)).await.unwrap();
        channels[1].stop().await;
        maps[0].put_with("b", &2, Durability::Local).await.unwrap();
        maps[1].put_with("c", &3, Durability::Local).await.unwrap();
        channels[1].start().await.unwrap();
        maps[1].changed(|map| map.get("b") == Some(2)).await;
        maps[0].changed(|map| map.get("c") == Some(3)).await;
    });
}

#[test]
fn a_waker_that_panics_holds_nobody_up() {
    simulate(async |world| {
        let channels = group(&world, 2).await;
        let maps = maps::<u32>(&channels, |builder| builder).await;
        let mut put = Box::pin(maps[0].put_with("a", &1, Durability::all(3600 * SECOND)));
        let waker = crate::contain::panicking_waker();
        assert!(put.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        world.sleep(SECOND).await;
        let env = world.env();
        let others = async {
            assert_eq!(put.await.unwrap().members.len(), 1);
            for map in &maps {
                map.put_with("a", &2, Durability::all(SECOND)).await.unwrap();
            }
        };
        env.until(env.now() + 60 * SECOND, others).await.expect("they do not wait for ever");
    });
}
